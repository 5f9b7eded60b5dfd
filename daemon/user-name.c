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

/*
 * What a look-up that found nobody says: 0, there is no such user; or a negative errno, nobody knows at the moment.
 * glibc calls it "no such user", too, when a database could not be read, such as /etc/passwd without a descriptor
 * left, and a later one has no such user: then errno alone tells. (nss-systemd keeps it.)
 */
static int nobody_found(int r, int saved) {
        if (r != 0 && r != ENOENT && r != ESRCH)
                return -r;
        switch (saved) {
        case EIO:
        case EINTR:
        case EAGAIN:
        case EMFILE:
        case ENFILE:
        case ENOMEM:
        case EACCES:
        case ENOSPC:
        case EROFS:
        case ESTALE:
        case ETIMEDOUT:
                return -saved;
        default:
                return 0;
        }
}

int user_name_of(uid_t uid, char **ret) {
        struct passwd entry, *found;
        char buffer[16 * 1024];
        int r;

        do {
                errno = 0;
                r = getpwuid_r(uid, &entry, buffer, sizeof buffer, &found);
        } while (r == EINTR);

        if (!found && (r = nobody_found(r, errno)) < 0)
                return r;
        if (found && !license_string_is_valid(found->pw_name))
                return -EILSEQ;

        *ret = NULL;
        return license_set_string(ret, found ? found->pw_name : "");
}

int user_uid_of(const char *name, uid_t *ret) {
        struct passwd entry, *found;
        char buffer[16 * 1024];
        int r;

        do {
                errno = 0;
                r = getpwnam_r(name, &entry, buffer, sizeof buffer, &found);
        } while (r == EINTR);

        if (!found && (r = nobody_found(r, errno)) < 0)
                return r;

        /* Some databases find a name by another spelling: that is somebody else to us. */
        *ret = found && strcmp(found->pw_name, name) == 0 ? found->pw_uid : (uid_t)-1;
        return 0;
}

bool user_may_own(uid_t uid) {
        return uid != UID_NOBODY && uid != (uid_t)-1 && !(uid >= UID_DYNAMIC_FIRST && uid <= UID_DYNAMIC_LAST);
}
