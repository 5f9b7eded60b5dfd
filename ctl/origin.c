/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "origin.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive.h"
#include "text.h"

bool origin_read(int fd, BackupOrigin *ret) {
        g_auto(Error) error = {};
        struct stat st;

        return fstat(fd, &st) >= 0 && S_ISREG(st.st_mode) && lseek(fd, 0, SEEK_SET) == 0 &&
                backup_read_origin(fd, ret, &error) == 0;
}

bool origin_is_same(const BackupOrigin *a, const BackupOrigin *b) {
        if (a->all_users != b->all_users || strcmp(a->machine, b->machine) != 0)
                return false;
        if (!a->all_users && (a->uid != b->uid || strcmp(a->name, b->name) != 0))
                return false;
        /* Those of an older service do not say of which store they are. */
        return !*a->store || !*b->store || strcmp(a->store, b->store) == 0;
}

/* Whether the store of the other did not know the epoch in which the one was made. */
static bool is_of_unknown_time(const BackupOrigin *one, const BackupOrigin *other) {
        return !store_epochs_include(other->epochs, one->epochs);
}

bool origin_knows_more(const BackupOrigin *one, const BackupOrigin *other) {
        return store_memory_exceeds(&one->memory, &other->memory) || is_of_unknown_time(one, other);
}

/* Whether what is damaged, or of a newer version, begins as a backup does. */
static bool begins_as_backup(int fd) {
        g_autoptr(ArchiveReader) reader = NULL;
        const ArchiveEntry *entry = NULL;
        g_auto(Error) ignored = {};
        int r;

        r = lseek(fd, 0, SEEK_SET) == 0 ? archive_reader_new(fd, 0, -1, NULL, &reader, &ignored) : -errno;
        if (r == 0)
                r = archive_reader_next(reader, &entry, &ignored);
        return r == 0 ? entry != NULL : r != ERROR_BACKUP_CORRUPT;
}

/* *ret_known is false where the file is no backup: it was named on purpose. That it cannot be read does not say so. */
static Status read_replaced(Ctl *ctl, const Output *output, int fd, BackupOrigin *ret, bool *ret_known) {
        g_auto(Error) error = {};
        struct stat st;
        int r;

        *ret_known = false;
        if (fstat(fd, &st) >= 0 && !S_ISREG(st.st_mode))
                return STATUS_OK;
        r = backup_read_origin(fd, ret, &error);
        *ret_known = r == 0;
        if (r == 0 || (r == ERROR_BACKUP_CORRUPT && !begins_as_backup(fd)))
                return STATUS_OK;
        return ctl_fail(ctl, STATUS_EXISTS,
                "Move '%s' away, or name another file: what it is a backup of cannot be told. %s", output->path,
                error_message(&error));
}

/* A newer backup of the service may be all that is wanting. */
static Status refuse_copy(Ctl *ctl, const Output *output, const BackupOrigin *old, const BackupOrigin *copy) {
        g_autofree char *count = text_licenses(old->licenses);

        return ctl_fail(ctl, STATUS_EXISTS,
                "The backup in the folder of the service %s, and '%s' has %s. If some were lost, restore that first. "
                "Then make the backup of the service anew, with: licensevaultctl backup --overwrite. Else name another "
                "file.",
                copy->licenses == 0 ? "has no licenses" :
                        "is of a time when it knew of fewer, older or other licenses of its user", output->path, count);
}

Status origin_check_replaced(Ctl *ctl, Output *output, bool is_copy) {
        g_auto(BackupOrigin) old = {}, new = {};
        g_autofree char *from = NULL, *count = NULL;
        bool known = false;
        Status status;
        int fd;

        if (!output->replace)
                return STATUS_OK;
        /*
         * Links were followed before: what is one now, another user may have laid meanwhile. The link goes, and no
         * more.
         */
        fd = openat(output->folder, output->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        output->was_free = fd < 0 && errno == ENOENT;
        if (fd < 0 && errno != ENOENT && errno != ELOOP)
                return ctl_fail_errno(ctl, -errno, "Move '%s' away, or name another file: whether it may be replaced "
                        "cannot be told, for it cannot be opened", output->path);
        output->old = fd;
        status = fd < 0 ? STATUS_OK : read_replaced(ctl, output, fd, &old, &known);
        if (status != STATUS_OK || !known)
                return status;
        if (!origin_read(output->draft.fd, &new))
                return ctl_fail(ctl, STATUS_MEDIUM, "What was written for '%s' cannot be read back.", output->path);

        from = backup_origin_describe(&old);
        count = text_licenses(old.licenses);
        if (!origin_is_same(&old, &new))
                return ctl_fail(ctl, STATUS_EXISTS,
                        "'%s' is a backup of %s, %s, of another store or machine or other users than the new one: what "
                        "it has may be nowhere else. Move it away, or name another file.", output->path, from, count);
        /* By numbers, there would be no new one of all users after a purge. */
        bool lost = new.all_users ? is_of_unknown_time(&old, &new) : origin_knows_more(&old, &new),
             is_empty = new.licenses == 0 && old.licenses > 0;

        if (is_copy && (lost || is_empty))
                return refuse_copy(ctl, output, &old, &new);
        if (lost)
                return ctl_fail(ctl, STATUS_EXISTS,
                        "'%s' has %s, and is of a time when the service knew of more, newer or other licenses of its "
                        "%s than it does now: an old copy of its store may have been put back. Restore it, then move "
                        "it away, or name another file.", output->path, count, new.all_users ? "users" : "user");
        if (is_empty)
                return ctl_fail(ctl, STATUS_EXISTS,
                        "There are no licenses now, and '%s' has %s. If they were lost, restore it. Else move it away, "
                        "or name another file.", output->path, count);
        return STATUS_OK;
}
