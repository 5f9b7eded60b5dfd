/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "user-name.h"

#include <errno.h>
#include <pwd.h>

#include "license.h"

int user_name_of(uid_t uid, char **ret) {
        struct passwd entry, *found;
        char buffer[16 * 1024];
        int r;

        do
                r = getpwuid_r(uid, &entry, buffer, sizeof buffer, &found);
        while (r == EINTR);

        /* These say that there is no such user; other codes, that nobody knows at the moment. */
        if (!found && r != 0 && r != ENOENT && r != ESRCH)
                return -r;
        if (found && !license_string_is_valid(found->pw_name))
                return -EILSEQ;

        *ret = NULL;
        return license_set_string(ret, found ? found->pw_name : "");
}
