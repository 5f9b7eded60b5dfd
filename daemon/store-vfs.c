/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-vfs.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>

/*
 * The index of the WAL lies in the heap (SQLite's "unix-excl"). Beside the store it would be a file that is mapped: on
 * file systems that copy on write, a page of it has no place on a disk that is full or over its quota, and who reads
 * the store has an error then, or SIGBUS. For that no other process may have the store open, which is meant anyway.
 *
 * SQLite takes EIO of a read for a file system that is damaged, and makes a damaged database of it. To its owner that
 * says "move the store away, and take a backup" where a cable is loose. Here it stays the I/O error that it is.
 */

#define NAME "licensevault"
#define LOOK_NAME "licensevault-look"

/* The main file, and what is not locked, have each a table of their own, with the same function to read. */
#define N_METHODS 4U

static sqlite3_vfs ours, ours_to_look;
static sqlite3_vfs *original, *original_to_look;
static int (*original_read)(sqlite3_file *file, void *data, int size, sqlite3_int64 offset);
static struct {
        const sqlite3_io_methods *original;
        sqlite3_io_methods ours;
} methods[N_METHODS];
static pthread_mutex_t methods_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static const char *name, *look_name;

static _Thread_local struct {
        int rc, reason;
} failed_read;

static int read_file(sqlite3_file *file, void *data, int size, sqlite3_int64 offset) {
        int rc = original_read(file, data, size, offset);

        if (rc == SQLITE_IOERR_CORRUPTFS)
                rc = SQLITE_IOERR_READ;
        if (rc != SQLITE_OK && rc != SQLITE_IOERR_SHORT_READ && failed_read.rc == SQLITE_OK) {
                failed_read.rc = rc;
                failed_read.reason = errno;
        }
        return rc;
}

int store_vfs_failed_read(void) {
        int rc = failed_read.rc;

        failed_read.rc = SQLITE_OK;
        if (rc != SQLITE_OK)
                errno = failed_read.reason;
        return rc;
}

/* Our table for one of the original's; itself where that is of an unknown kind. */
static const sqlite3_io_methods *methods_for(const sqlite3_io_methods *found) {
        if (!original_read)
                original_read = found->xRead;
        if (found->xRead != original_read)
                return found;
        for (unsigned i = 0; i < N_METHODS; i++) {
                if (!methods[i].original) {
                        methods[i].original = found;
                        methods[i].ours = *found;
                        methods[i].ours.xRead = read_file;
                }
                if (methods[i].original == found)
                        return &methods[i].ours;
        }
        return found;
}

static void take_methods(sqlite3_file *file) {
        pthread_mutex_lock(&methods_mutex);
        file->pMethods = methods_for(file->pMethods);
        pthread_mutex_unlock(&methods_mutex);
}

static int open_file(sqlite3_vfs *vfs, const char *path, sqlite3_file *file, int flags, int *ret_flags) {
        int rc = original->xOpen(original, path, file, flags, ret_flags);

        if (rc == SQLITE_OK)
                take_methods(file);
        return rc;
}

/* Whatever SQLite wants to do with the WAL of a store that it takes for its own: the kernel does not let it. */
static int open_file_to_look(sqlite3_vfs *vfs, const char *path, sqlite3_file *file, int flags, int *ret_flags) {
        int rc = original_to_look->xOpen(original_to_look, path, file,
                (flags & ~(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)) | SQLITE_OPEN_READONLY, ret_flags);

        if (rc == SQLITE_OK)
                take_methods(file);
        return rc;
}

/* It would delete the WAL of a database that it finds empty. */
static int refuse_to_delete(sqlite3_vfs *vfs, const char *path, int sync_folder) {
        return SQLITE_IOERR_DELETE;
}

/*
 * SQLite opens for reading what it could not open for writing. Of a WAL that is not there yet that says "No such file",
 * whatever was wrong at first; and a store would be read-only for as long as the daemon runs, because there was no
 * memory or no descriptor for a moment.
 */
static int open_path(const char *path, int flags, int mode) {
        static _Thread_local const char *refused; /* by its address: SQLite tries again at once, or not at all */
        static _Thread_local int reason;
        bool is_again = refused && path == refused && (flags & O_ACCMODE) == O_RDONLY;
        int fd;

        refused = NULL;
        if (is_again && reason != EACCES && reason != EPERM) {
                errno = reason;
                return -1;
        }
        fd = open(path, flags, (mode_t)mode);
        if (fd < 0 && is_again)
                errno = reason;
        else if (fd < 0 && (flags & O_ACCMODE) == O_RDWR) {
                refused = path;
                reason = errno;
        }
        return fd;
}

static void set_up(void) {
        original = sqlite3_vfs_find("unix-excl");
        if (!original)
                return;
        if (original->iVersion >= 3)
                (void)original->xSetSystemCall(original, "open", (sqlite3_syscall_ptr)open_path);
        ours = *original;
        ours.pNext = NULL;
        ours.zName = NAME;
        ours.xOpen = open_file;
        if (sqlite3_vfs_register(&ours, 0) == SQLITE_OK)
                name = NAME;

        original_to_look = sqlite3_vfs_find("unix-none");
        if (!original_to_look)
                return;
        ours_to_look = *original_to_look;
        ours_to_look.pNext = NULL;
        ours_to_look.zName = LOOK_NAME;
        ours_to_look.xOpen = open_file_to_look;
        ours_to_look.xDelete = refuse_to_delete;
        if (sqlite3_vfs_register(&ours_to_look, 0) == SQLITE_OK)
                look_name = LOOK_NAME;
}

const char *store_vfs_name(void) {
        pthread_once(&once, set_up);
        return name;
}

const char *store_vfs_look_name(void) {
        pthread_once(&once, set_up);
        return look_name;
}
