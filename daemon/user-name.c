/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "user-name.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <string.h>

#include "io.h"
#include "license.h"

#define UID_NOBODY 65534U
/* From systemd's UIDS-GIDS document: numbers given to dynamic users and taken back. */
#define UID_DYNAMIC_FIRST 61184U
#define UID_DYNAMIC_LAST 65519U
/* From the same: from here on, who has no account is of a user namespace. Distributions lend numbers from 100000 on. */
#define UID_LENT_FIRST 65536U

/* One look-up, by number or, where name is set, by name. Returns 1, 0 for nobody, or a negative errno. */
static int look_up(uid_t uid, const char *name, struct passwd *entry, char *buffer, size_t size) {
        struct passwd *found = NULL;
        int r;

        do
                r = name ? getpwnam_r(name, entry, buffer, size, &found) : getpwuid_r(uid, entry, buffer, size, &found);
        while (r == EINTR);

        if (found)
                return 1;
        return r == 0 || r == ENOENT || r == ESRCH ? 0 : -r;
}

/* Whether the users of this machine can be read now. Where there is no such file, they are elsewhere. */
static int check_users(void) {
        _cleanup_fd_ int fd = -1;
        char first;

        fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT ? 0 : -errno;
        return read(fd, &first, sizeof first) < 0 ? -errno : 0;
}

/*
 * glibc also says that there is no such user where a database could not be read, for want of a descriptor or by an I/O
 * error, and another one has no such user. Who is nobody for a moment would store licenses under no name, and never see
 * them again. So nobody is who is not there twice, while root, who always is, can be found. nss-systemd makes up a root
 * without looking anywhere, so the file is looked at, too.
 */
static int look_up_surely(uid_t uid, const char *name, struct passwd *entry, char *buffer, size_t size) {
        int r;

        r = look_up(uid, name, entry, buffer, size);
        if (r != 0)
                return r;
        r = check_users();
        if (r < 0)
                return r;
        r = look_up(0, NULL, entry, buffer, size);
        if (r <= 0)
                return r < 0 ? r : -EIO;
        return look_up(uid, name, entry, buffer, size);
}

int user_name_of(uid_t uid, char **ret) {
        char buffer[16 * 1024];
        struct passwd entry;
        int r;

        r = look_up_surely(uid, NULL, &entry, buffer, sizeof buffer);
        if (r < 0)
                return r;
        if (r > 0 && !license_string_is_valid(entry.pw_name))
                return -EILSEQ;

        *ret = NULL;
        return license_set_string(ret, r > 0 ? entry.pw_name : "");
}

int user_uid_of(const char *name, uid_t *ret) {
        char buffer[16 * 1024];
        struct passwd entry;
        int r;

        r = look_up_surely(0, name, &entry, buffer, sizeof buffer);
        if (r < 0)
                return r;

        /* Some databases find a name by another spelling: that is somebody else to us. */
        *ret = r > 0 && strcmp(entry.pw_name, name) == 0 ? entry.pw_uid : (uid_t)-1;
        return 0;
}

bool user_may_own(uid_t uid) {
        return uid != UID_NOBODY && uid != (uid_t)-1 && !(uid >= UID_DYNAMIC_FIRST && uid <= UID_DYNAMIC_LAST);
}

bool user_may_call(uid_t uid, const char *name) {
        return user_may_own(uid) && (*name != '\0' || uid < UID_LENT_FIRST);
}
