/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "backup.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive-manifest.h"
#include "archive.h"
#include "folder.h"

int backup_place(const char *state_folder, char *const *roots, uid_t uid, const char *path, char **ret_root,
        char **ret_path, const char **ret_below, Error *error) {
        g_autofree char *own = g_strconcat(state_folder, "/backups", NULL);
        const char *root = own, *below;
        g_autofree char *full = NULL;

        full = path ? g_strdup(path) : g_strdup_printf("%s/%" PRIu32, own, (uint32_t)uid);
        below = folder_below(full, own, uid);
        for (char *const *r = roots; !below && r && *r; r++) {
                root = *r;
                below = folder_below(full, root, uid);
        }
        if (!below || (path && !folder_path_is_plain(path)))
                return error_set(error, ERROR_ACCESS_DENIED,
                        "The service may not use the folder '%s'. Use BackupLicensesToFile (to restore: "
                        "RestoreLicensesFromFile) with a file that you open there yourself, or ask the administrator "
                        "to add it to Roots=.", full);

        *ret_root = g_strdup(root);
        *ret_path = g_steal_pointer(&full);
        *ret_below = below;
        return 0;
}

int backup_folder_failed(const char *path, int r, const char *property, Error *error) {
        if (r == -ENOMEM)
                return error_set_no_memory(error);
        if (r == -ELOOP || r == -ENOTDIR)
                return error_set(error, ERROR_ACCESS_DENIED,
                        "The folder '%s' is a link, or behind one, or no folder. Name the folder itself.", path);
        return error_set(error, ERROR_MEDIUM,
                "The folder '%s' cannot be opened: %s. See that it is there and its medium mounted, or set another "
                "%s.", path, g_strerror(-r), property);
}

/* Reads as far as the manifest, which names the owner and the store. Returns a BackupFile or a negative errno. */
static int whose(int fd, const char *name, ArchiveStore *ret_store) {
        g_autoptr(ArchiveReader) reader = NULL;
        g_autofree char *owner = NULL;
        const ArchiveEntry *entry = NULL;
        g_auto(Error) error = {};
        int r;

        r = archive_manifest_find(fd, &reader, &entry, &error);
        if (r == 0 && entry)
                r = archive_manifest_owner(entry->content, entry->size, &owner, ret_store, &error);

        /* What could not be read is not damaged for that. */
        if (r == ERROR_NO_MEMORY)
                return -ENOMEM;
        if (r == ERROR_MEDIUM)
                return -EIO;
        if (r != 0 || !entry)
                return BACKUP_FILE_DAMAGED;
        return g_strcmp0(owner, name) == 0 ? BACKUP_FILE_OWN : BACKUP_FILE_FOREIGN;
}

bool backup_folder_is_ours(int folder) {
        struct stat st;

        return fstat(folder, &st) >= 0 && st.st_uid == geteuid() && (st.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

int backup_find(int folder, const char *file, const char *name, int *ret_fd, ArchiveStore *ret_store) {
        g_auto(ArchiveStore) store = {};
        _cleanup_fd_ int fd = -1;
        struct stat st;
        int found;

        /* The folder may be the user's: what has the name there may be a pipe, a link, or a hard link to
         * what is somebody else's. */
        fd = openat(folder, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0)
                switch (errno) {
                case ENOENT:
                        return BACKUP_FILE_NONE;
                case ELOOP:  /* a link */
                case ENXIO:  /* a socket */
                case EACCES: /* a file that the service did not make */
                case EPERM:
                        return BACKUP_FILE_STRANGE;
                default:
                        return -errno;
                }
        if (fstat(fd, &st) < 0)
                return -errno;
        /* Where the service alone makes links, a second one is its own, or that of a tool that takes snapshots. */
        if (!S_ISREG(st.st_mode) || (st.st_nlink != 1 && !backup_folder_is_ours(folder)))
                return BACKUP_FILE_STRANGE;

        found = whose(fd, name, &store);
        if (found >= 0 && lseek(fd, 0, SEEK_SET) < 0)
                return -errno;
        if (ret_fd && found == BACKUP_FILE_OWN)
                *ret_fd = fd_steal(&fd);
        if (ret_store) {
                *ret_store = store;
                store.epochs = NULL;
        }
        return found;
}

/* Whether an entry says anything of a license, or may. */
static bool is_of_license(ArchiveReader *reader, const ArchiveEntry *entry, Error *error) {
        const char *line = NULL;

        if (strcmp(entry->path, ARCHIVE_STATE) == 0)
                return archive_reader_line(reader, &line, error) != 0 || line;
        return g_str_has_prefix(entry->path, ARCHIVE_LICENSES) || strcmp(entry->path, ARCHIVE_NOT_BACKED_UP) == 0;
}

/*
 * Nothing that is streamed is read through: in a forged backup it may be as long as it likes, and nobody can cancel
 * this.
 */
int backup_is_empty(int fd) {
        g_autoptr(ArchiveReader) reader = NULL;
        const ArchiveEntry *entry = NULL;
        g_auto(Error) error = {};
        int r;

        r = archive_reader_new(fd, 0, -1, NULL, &reader, &error);
        do
                r = r == 0 ? archive_reader_next(reader, &entry, &error) : r;
        while (r == 0 && entry && !is_of_license(reader, entry, &error));
        return error.code == ERROR_NO_MEMORY ? -ENOMEM : r == 0 && !entry;
}

int backup_open(Store *store, char *const *roots, const StoreOwner *owner, const char *property, int *ret_fd,
        bool *ret_is_ours, Error *error) {
        bool restores = strcmp(property, RESTORE_PATH) == 0;
        g_autofree char *value = NULL, *root = NULL, *path = NULL, *own = NULL;
        _cleanup_fd_ int folder = -1, fd = -1;
        const char *below = NULL;
        int r, found;

        if ((r = store_find_property(store, owner, property, &value, error)) != 0 ||
            (r = backup_place(store_folder(store), roots, owner->uid, value, &root, &path, &below, error)) != 0)
                return r;

        /* The service's own folder comes with the first backup; one of a configured root is gone with its medium. */
        own = g_strconcat(store_folder(store), "/backups", NULL);
        folder = folder_open(root, owner->uid, below, false);
        if (folder < 0 && (folder != -ENOENT || g_strcmp0(root, own) != 0))
                return backup_folder_failed(path, folder, property, error);
        found = folder < 0 ? BACKUP_FILE_NONE : backup_find(folder, FOLDER_BACKUP_NAME, owner->name, &fd, NULL);
        if (found < 0)
                return error_set_errno(error, ERROR_MEDIUM, found, "The backup in '%s' cannot be read", path);
        switch (found) {
        case BACKUP_FILE_OWN:
                break;
        case BACKUP_FILE_NONE:
        case BACKUP_FILE_FOREIGN:
                return error_set(error, ERROR_BACKUP_MISSING, BACKUP_MISSING_WORDS "'%s'. %s", path,
                        restores ? "Restore from a file with RestoreLicensesFromFile, or set another RestorePath." :
                                   "Make one with BackupLicenses.");
        case BACKUP_FILE_STRANGE:
                return error_set(error, ERROR_ACCESS_DENIED,
                        "What is called " FOLDER_BACKUP_NAME " in '%s' is not a backup that the service made. Move it "
                        "away, or set another %s.", path, property);
        case BACKUP_FILE_DAMAGED:
                return error_set(error, ERROR_BACKUP_CORRUPT, "The backup in '%s' is damaged. %s", path,
                        restores ? "Use another copy, with RestoreLicensesFromFile." :
                                   "Make a new one with BackupLicenses and the flag 1.");
        }

        if (ret_is_ours)
                *ret_is_ours = backup_folder_is_ours(folder);
        *ret_fd = fd_steal(&fd);
        return 0;
}
