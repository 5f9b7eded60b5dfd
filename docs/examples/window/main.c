/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "application.h"

int main(int argc, char *argv[]) {
        g_autoptr(AdwApplication) application = license_application_new(G_APPLICATION_DEFAULT_FLAGS);

        return g_application_run(G_APPLICATION(application), argc, argv);
}
