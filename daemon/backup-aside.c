/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "backup-aside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include "backup-read.h"
#include "backup.h"
#include "draft.h"
#include "folder.h"

/* So many of one store are kept under names that stay. */
#define PLACES 8

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

static void name_by_number(const char *former, uint32_t number, char ret[ASIDE_SIZE]) {
        snprintf(ret, ASIDE_SIZE, "licenses-of-former-%s-%08" PRIx32 ".tar", former, number);
}

/* The same for all backups of a user, a store and a machine: a disk that was copied has the store's id on both. */
static void name_by_store(const char *user, const ArchiveStore *store, unsigned place, char ret[ASIDE_SIZE]) {
        unsigned char digest[crypto_generichash_BYTES_MIN];
        crypto_generichash_state state;
        uint32_t number;

        crypto_generichash_init(&state, NULL, 0, sizeof digest);
        crypto_generichash_update(&state, (const unsigned char *)store->store, sizeof store->store);
        crypto_generichash_update(&state, (const unsigned char *)store->machine, sizeof store->machine);
        crypto_generichash_update(&state, (const unsigned char *)&place, sizeof place);
        crypto_generichash_update(&state, (const unsigned char *)user, strlen(user));
        crypto_generichash_final(&state, digest, sizeof digest);
        memcpy(&number, digest, sizeof number);
        name_by_number("store", number, ret);
}

/* What has rotted since it was made is not what another, which is whole, may go for. */
static bool is_whole(int fd, const NewBackup *backup) {
        const WorkEvents *events = backup->events;
        const BackupVisitor visitor = { .watch = { .moved = events->moved, .userdata = events->userdata } };
        g_auto(Error) ignored = {};
        ArchiveCounts counts;

        return lseek(fd, 0, SEEK_SET) == 0 &&
                backup_read(fd, LICENSE_DOCUMENT_MAX, -1, backup->cancel, &visitor, &counts, &ignored) == 0;
}

/*
 * Whether a backup has what its store did not know with this memory and these epochs: it was made later than an old
 * copy that was put back.
 */
static bool is_of_later_time(const ArchiveStore *store, const StoreMemory *memory, const char *epochs) {
        return store_memory_exceeds(&store->memory, memory) || !store_epochs_include(epochs, store->epochs);
}

/*
 * The first place of such a store that is free, or has one that this one would have replaced where it was made. The
 * other machine may have put an old copy of its store back, or purged somebody: its newest backup then is not the
 * last, but has a place of its own, or each would stay for ever.
 */
static void choose_place(int folder, int fd, const ArchiveStore *store, const NewBackup *backup, Aside *ret) {
        bool may_take = true;

        for (unsigned i = 0; i < PLACES; i++) {
                g_auto(ArchiveStore) former = {};
                int found;

                name_by_store(backup->user, store, i, ret->name);
                found = backup_find(folder, ret->name, backup->user, NULL, &former);
                if (may_take && found == BACKUP_FILE_OWN && !is_of_later_time(&former, &store->memory, store->epochs))
                        ret->takes_place = may_take = is_whole(fd, backup);
                if (found == BACKUP_FILE_NONE || ret->takes_place)
                        return;
        }
        name_by_number("store", randombytes_random(), ret->name);
}

static bool differ(const char *ours, const char *theirs) {
        return *ours && *theirs && strcmp(ours, theirs) != 0;
}

/* What becomes of a backup that is the user's own, and is to be replaced: the rules are below. */
static int choose_name_of_own(int folder, int fd, const ArchiveStore *store, const NewBackup *backup, Aside *ret) {
        /* Where it lies beside the store itself, another machine is this one: some have a new id at each start. */
        bool is_here = backup->beside_store && *store->store && strcmp(store->store, backup->store) == 0;
        bool of_another = !is_here && (differ(store->store, backup->store) || differ(store->machine, backup->machine));
        int r = 0;

        if (of_another || backup->memory.ids == 0) {
                r = backup_is_empty(fd);
                if (r != 0)
                        return MIN(r, 0);
        }
        /* Two machines of which one is a copy of the other set aside each other's, and would without end. */
        if (of_another || !store_epochs_include(backup->epochs, store->epochs))
                choose_place(folder, fd, store, backup, ret);
        else if (backup->memory.ids == 0 || store_memory_exceeds(&store->memory, &backup->memory))
                name_by_number("store", randombytes_random(), ret->name);
        return 0;
}

/*
 * Gives the name that what lies there gets, "" where it may be replaced, and whether it is the user's. Returns 0 or a
 * negative errno.
 *
 * A number may have belonged to someone else: that user's backup is neither shown to this one nor replaced, for the
 * administrator may want it; and what does not say whose it is may be such a one. What is this user's, and of another
 * store, may be all that there is of one that was lost, however little there is in the new one by now; or two machines
 * share a disk. Of each store the newest is kept. Where more was stored than this store knows of, it is of a later time
 * of it, for it forgets none: an old copy of it was put back. A backup of nothing replaces none of something in any
 * case.
 */
static int choose_name(int folder, const NewBackup *backup, Aside *ret) {
        _cleanup_fd_ int fd = -1;
        g_auto(ArchiveStore) store = {};
        int found;

        found = backup_find(folder, FOLDER_BACKUP_NAME, backup->user, &fd, &store);
        if (found < 0)
                return found;

        ret->was_there = found != BACKUP_FILE_NONE;
        ret->is_own = found == BACKUP_FILE_OWN;
        if (found == BACKUP_FILE_FOREIGN || (backup->overwrite && found != BACKUP_FILE_NONE &&
            found != BACKUP_FILE_OWN))
                name_by_number("user", randombytes_random(), ret->name);
        else if (found == BACKUP_FILE_OWN && backup->overwrite) {
                ret->former = fd_steal(&fd);
                return choose_name_of_own(folder, ret->former, &store, backup, ret);
        }
        return 0;
}

/*
 * Where the new one replaces it, the old one gets a second name, so that a kill leaves one in its place. Not in a
 * folder where others may make links: there a file with two names is not taken for a backup.
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

        r = choose_name(folder, backup, ret);
        if (r < 0 || !ret->name[0])
                return r;
        r = give_name(folder, backup->overwrite, ret);
        /* Not what else has the name, as one at random may be taken, too. */
        if (r == -EEXIST && ret->takes_place) {
                /* Another machine was quicker: what has the name may be what it has just set aside. */
                r = draft_is_named(folder, FOLDER_BACKUP_NAME, ret->former);
                if (r <= 0) {
                        ret->name[0] = 0;
                        return r < 0 ? r : -ESTALE;
                }
                r = -EEXIST;
                if (unlinkat(folder, ret->name, 0) >= 0)
                        r = give_name(folder, backup->overwrite, ret);
        }
        if (r < 0) {
                ret->name[0] = 0;
                return r;
        }
        /* Not with the new one's name: a power cut might leave that alone. */
        return fsync(folder) < 0 && errno != EINVAL ? -errno : 0;
}

void aside_clear(Aside *aside) {
        fd_closep(&aside->former);
        *aside = ASIDE_NONE;
}

/* What draft_publish() has seen just now a disk of the network has told anew. */
static bool has_both_names(int folder, const Aside *aside) {
        struct stat former, second;

        return fstatat(folder, FOLDER_BACKUP_NAME, &former, AT_SYMLINK_NOFOLLOW) >= 0 &&
                fstatat(folder, aside->name, &second, AT_SYMLINK_NOFOLLOW) >= 0 &&
                former.st_dev == second.st_dev && former.st_ino == second.st_ino;
}

int aside_undo(int folder, const Aside *aside) {
        /* Else another machine has replaced it, and may have set it aside under this same name. */
        if (aside->linked && !has_both_names(folder, aside))
                return -EEXIST;
        if (aside->linked)
                (void)unlinkat(folder, aside->name, 0);
        else if (aside->name[0])
                return rename_to_free(folder, aside->name, FOLDER_BACKUP_NAME);
        return 0;
}
