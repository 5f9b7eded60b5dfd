/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <adwaita.h>

/*
 * The program: one window, and what the command line and the session bus can ask for. Its actions app.backup-to and
 * app.restore-from take the URI of a file.
 */
AdwApplication *license_application_new(GApplicationFlags flags);
