/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <glib/gstdio.h>

/* A name with what stands before and behind it must not be longer than file systems allow. */
#define NAME_PART_MAX 200

typedef struct Wish {
        GFile *file;
        bool may_replace;
} Wish;

static void wish_free(Wish *wish) {
        g_object_unref(wish->file);
        g_free(wish);
}

void backup_file_free(BackupFile *file) {
        if (file->fd >= 0)
                close(file->fd);
        g_free(file->name);
        g_free(file->path);
        g_free(file->draft);
        g_free(file);
}

static BackupFile *backup_file_new(GFile *file) {
        g_autofree char *name = g_file_get_basename(file);
        BackupFile *new = g_new0(BackupFile, 1);

        new->name = g_filename_display_name(name ?: "");
        new->fd = -1;
        return new;
}

G_GNUC_PRINTF(3, 4)
static bool fail(GError **error, int number, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        g_autofree char *text = g_strdup_vprintf(format, ap);
        va_end(ap);
        g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(number), "%s: %s.", text, g_strerror(number));
        return false;
}

/* The path of a file, or NULL and an error: descriptors are for what the system itself can open. */
static char *local_path(GFile *file, const char *name, GError **error) {
        char *path = g_file_get_path(file);

        if (!path)
                g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED, "“%s” is not on a disk of this computer. "
                        "Choose a folder of it, and copy the file from there.", name);
        return path;
}

static bool open_to_read(BackupFile *file, GFile *where, GError **error) {
        g_autofree char *path = local_path(where, file->name, error);
        struct stat st;

        if (!path)
                return false;

        /* O_NONBLOCK: a pipe by that name would wait for someone to fill it. It means nothing to a file. */
        file->fd = open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        if (file->fd < 0 || fstat(file->fd, &st) < 0)
                return fail(error, errno, "“%s” cannot be opened", file->name);
        if (!S_ISREG(st.st_mode)) {
                g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_REGULAR_FILE,
                        "“%s” is no file. Choose a backup that was made before.", file->name);
                return false;
        }
        return true;
}

/* The path of a new file, or NULL and an error: where a link leads, should the name be one. */
static char *target_path(BackupFile *file, const Wish *wish, GError **error) {
        g_autofree char *path = local_path(wish->file, file->name, error);
        struct stat st;

        if (!path)
                return NULL;

        if (stat(path, &st) < 0) {
                if (errno == ENOENT)
                        return g_steal_pointer(&path);
                fail(error, errno, "“%s” cannot be written there", file->name);
        } else if (!S_ISREG(st.st_mode))
                fail(error, S_ISDIR(st.st_mode) ? EISDIR : EINVAL, "“%s” cannot be replaced", file->name);
        else if (!wish->may_replace)
                fail(error, EEXIST, "“%s” was not written. Choose another name", file->name);
        else {
                char *real = realpath(path, NULL);
                file->replace = true;
                if (!real)
                        fail(error, errno, "“%s” cannot be written there", file->name);
                return real;
        }
        return NULL;
}

static bool create(BackupFile *file, const Wish *wish, GError **error) {
        int number;

        file->path = target_path(file, wish, error);
        if (!file->path)
                return false;

        g_autofree char *folder = g_path_get_dirname(file->path), *name = g_path_get_basename(file->path);
        file->draft = g_strdup_printf("%s/.%.*s.XXXXXX", folder, NAME_PART_MAX, name);
        file->fd = g_mkstemp_full(file->draft, O_RDWR | O_CLOEXEC, 0600);
        if (file->fd >= 0)
                return true;

        number = errno;
        g_clear_pointer(&file->draft, g_free);
        file->fd = open(file->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (file->fd >= 0)
                return true;

        if (errno == EEXIST)
                return fail(error, number, "“%s” cannot be replaced: no new file can be made beside it, and the old "
                        "one must stay until the new one is whole. Choose another name or folder", file->name);
        return fail(error, number, "“%s” cannot be written there. Choose another folder", file->name);
}

static void open_in_thread(GTask *task, gpointer source, gpointer data, GCancellable *cancellable) {
        g_autoptr(BackupFile) file = backup_file_new(data);
        GError *error = NULL;

        if (open_to_read(file, data, &error))
                g_task_return_pointer(task, g_steal_pointer(&file), (GDestroyNotify)backup_file_free);
        else
                g_task_return_error(task, error);
}

static void create_in_thread(GTask *task, gpointer source, gpointer data, GCancellable *cancellable) {
        const Wish *wish = data;
        g_autoptr(BackupFile) file = backup_file_new(wish->file);
        GError *error = NULL;

        if (create(file, wish, &error))
                g_task_return_pointer(task, g_steal_pointer(&file), (GDestroyNotify)backup_file_free);
        else
                g_task_return_error(task, error);
}

void backup_file_open(GFile *file, GAsyncReadyCallback callback, gpointer data) {
        g_autoptr(GTask) task = g_task_new(NULL, NULL, callback, data);

        g_task_set_task_data(task, g_object_ref(file), g_object_unref);
        g_task_run_in_thread(task, open_in_thread);
}

void backup_file_create(GFile *file, bool may_replace, GAsyncReadyCallback callback, gpointer data) {
        g_autoptr(GTask) task = g_task_new(NULL, NULL, callback, data);
        Wish *wish = g_new(Wish, 1);

        *wish = (Wish) { g_object_ref(file), may_replace };
        g_task_set_task_data(task, wish, (GDestroyNotify)wish_free);
        g_task_run_in_thread(task, create_in_thread);
}

BackupFile *backup_file_finish(GAsyncResult *result, GError **error) {
        return g_task_propagate_pointer(G_TASK(result), error);
}

/* The service has synced the file; its name is ours to sync. */
static bool sync_folder(const char *path) {
        g_autofree char *folder = g_path_get_dirname(path);
        int fd, r;

        fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return false;
        r = fsync(fd);
        close(fd);
        /* Some file systems have nothing to sync in a folder. */
        return r == 0 || errno == EINVAL;
}

static bool rename_draft(const BackupFile *file) {
        if (file->replace)
                return rename(file->draft, file->path) == 0;
        if (renameat2(AT_FDCWD, file->draft, AT_FDCWD, file->path, RENAME_NOREPLACE) == 0)
                return true;
        if (errno != EINVAL && errno != ENOSYS)
                return false;

        /* A file system that cannot do that at once. */
        if (access(file->path, F_OK) == 0) {
                errno = EEXIST;
                return false;
        }
        return rename(file->draft, file->path) == 0;
}

static void end_in_thread(GTask *task, gpointer source, gpointer data, GCancellable *cancellable) {
        const BackupFile *file = data;
        GError *error = NULL;

        if (!file->keep) {
                (void)unlink(file->draft ?: file->path);
                g_task_return_boolean(task, TRUE);
        } else if (file->draft && !rename_draft(file)) {
                fail(&error, errno, "The backup was made, but cannot be called “%s”", file->name);
                (void)unlink(file->draft);
                g_task_return_error(task, error);
        } else if (!sync_folder(file->path)) {
                fail(&error, errno, "“%s” was written, but the disk does not say that it keeps it", file->name);
                g_task_return_error(task, error);
        } else
                g_task_return_boolean(task, TRUE);
}

void backup_file_end(BackupFile *file, bool good, GAsyncReadyCallback callback, gpointer data) {
        g_autoptr(GTask) task = g_task_new(NULL, NULL, callback, data);

        file->keep = good;
        g_task_set_task_data(task, file, NULL);
        g_task_run_in_thread(task, end_in_thread);
}

bool backup_file_end_finish(GAsyncResult *result, GError **error) {
        return g_task_propagate_boolean(G_TASK(result), error);
}
