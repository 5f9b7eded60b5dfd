/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "user-name.h"

#include <errno.h>
#include <pwd.h>
#include <string.h>

#include "license.h"

#define UID_NOBODY 65534U
/* From systemd's UIDS-GIDS document: numbers given to dynamic users and taken back. */
#define UID_DYNAMIC_FIRST 61184U
#define UID_DYNAMIC_LAST 65519U

/* These say that there is no such user; other codes, that nobody knows at the moment. */
static bool is_unknown(int r) {
        return r == 0 || r == ENOENT || r == ESRCH;
}

int user_name_of(uid_t uid, char **ret) {
        struct passwd entry, *found;
        char buffer[16 * 1024];
        int r;

        do
                r = getpwuid_r(uid, &entry, buffer, sizeof buffer, &found);
        while (r == EINTR);

        if (!found && !is_unknown(r))
                return -r;
        if (found && !license_string_is_valid(found->pw_name))
                return -EILSEQ;

        *ret = NULL;
        return license_set_string(ret, found ? found->pw_name : "");
}

int user_uid_of(const char *name, uid_t *ret) {
        struct passwd entry, *found;
        char buffer[16 * 1024];
        int r;

        do
                r = getpwnam_r(name, &entry, buffer, sizeof buffer, &found);
        while (r == EINTR);

        if (!found && !is_unknown(r))
                return -r;

        /* Some databases find a name by another spelling: that is somebody else to us. */
        *ret = found && strcmp(found->pw_name, name) == 0 ? found->pw_uid : (uid_t)-1;
        return 0;
}

bool user_may_own(uid_t uid) {
        return uid != UID_NOBODY && uid != (uid_t)-1 && !(uid >= UID_DYNAMIC_FIRST && uid <= UID_DYNAMIC_LAST);
}
