/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "backup-aside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "backup.h"
#include "folder.h"

/* So much of a store's id is in a name. */
#define STORE_DIGITS 8

/* Gives a file a name that is free, on file systems down to those that refuse flags. */
static int rename_to_free(int folder, const char *from, const char *to) {
        if (renameat2(folder, from, folder, to, RENAME_NOREPLACE) >= 0)
                return 0;
        if (!(errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP))
                return -errno;
        if (faccessat(folder, to, F_OK, AT_SYMLINK_NOFOLLOW) >= 0)
                return -EEXIST;
        if (errno != ENOENT)
                return -errno;
        return renameat(folder, from, folder, to) < 0 ? -errno : 0;
}

static void name_at_random(const char *former, char ret[ASIDE_SIZE]) {
        snprintf(ret, ASIDE_SIZE, "licenses-of-former-%s-%08" PRIx32 ".tar", former, randombytes_random());
}

/*
 * Gives the name that what lies there gets, "" where it may be replaced, and whether it is the user's. Returns 0 or a
 * negative errno.
 *
 * A number may have belonged to someone else: that user's backup is neither shown to this one nor replaced, for the
 * administrator may want it; and what does not say whose it is may be such a one. What is this user's, and of another
 * store, may be all that there is of one that was lost, however little there is in the new one by now; or two machines
 * share a disk. Of each store the newest is kept. A backup of nothing replaces none of something in any case.
 */
static int choose_name(int folder, const NewBackup *backup, Aside *ret) {
        char store[STORE_ID_SIZE];
        _cleanup_fd_ int fd = -1;
        int found, r;

        found = backup_find(folder, backup->user, &fd, store);
        if (found < 0)
                return found;

        ret->is_own = found == BACKUP_FILE_OWN;
        if (found == BACKUP_FILE_FOREIGN || (backup->overwrite && found != BACKUP_FILE_NONE &&
            found != BACKUP_FILE_OWN))
                name_at_random("user", ret->name);
        else if (found == BACKUP_FILE_OWN && backup->overwrite) {
                if (*store && *backup->store && strcmp(store, backup->store) != 0)
                        snprintf(ret->name, ASIDE_SIZE, "licenses-of-former-store-%.*s.tar", STORE_DIGITS, store);
                else if (backup->is_empty) {
                        r = backup_is_empty(fd);
                        if (r < 0)
                                return r;
                        if (r == 0)
                                name_at_random("store", ret->name);
                }
        }
        return 0;
}

/*
 * Where the new one replaces it, the old one gets a second name, so that a kill leaves one in its place. Not in a folder
 * where others may make links: there a file with two names is not taken for a backup.
 */
static int give_name(int folder, bool overwrite, Aside *aside) {
        if (overwrite && backup_folder_is_ours(folder)) {
                aside->linked = linkat(folder, FOLDER_BACKUP_NAME, folder, aside->name, 0) >= 0;
                if (aside->linked)
                        return 0;
        }
        return rename_to_free(folder, FOLDER_BACKUP_NAME, aside->name);
}

int aside_set(int folder, const NewBackup *backup, Aside *ret) {
        int r;

        *ret = (Aside) {};
        r = choose_name(folder, backup, ret);
        if (r < 0 || !ret->name[0])
                return r;
        r = give_name(folder, backup->overwrite, ret);
        /* An older one of the same store, which the one that lies there would have replaced. */
        if (r == -EEXIST && unlinkat(folder, ret->name, 0) >= 0)
                r = give_name(folder, backup->overwrite, ret);
        if (r < 0) {
                *ret = (Aside) {};
                return r;
        }
        /* Not with the new one's name: a power cut might leave that alone. */
        if (fsync(folder) >= 0 || errno == EINVAL)
                return 0;
        r = -errno;
        aside_undo(folder, ret);
        *ret = (Aside) {};
        return r;
}

void aside_undo(int folder, const Aside *aside) {
        if (aside->linked)
                (void)unlinkat(folder, aside->name, 0);
        else if (aside->name[0])
                (void)rename_to_free(folder, aside->name, FOLDER_BACKUP_NAME);
}
