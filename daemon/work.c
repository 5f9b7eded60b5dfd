/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "work.h"

void work_result_clear(WorkResult *result) {
        g_strfreev(result->skipped_users);
        g_strfreev(result->damaged_licenses);
        g_free(result->set_aside);
        *result = (WorkResult) {};
}
