/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"

#define STORE_FILE "licenses.db"

int store_lock(const char *folder, int *ret_fd, Error *error) {
        _cleanup_fd_ int fd = -1;
        _cleanup_fd_ int dir = -1;

        dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0)
                return error_set_errno(error, ERROR_STORE_READ, -errno,
                        "The state directory '%s' cannot be opened", folder);
        fd = openat(dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return error_set_errno(error, ERROR_STORE_WRITE, -errno,
                        "The lock of the state directory '%s' cannot be made", folder);
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                return errno == EWOULDBLOCK ?
                        error_set(error, ERROR_STORE_LOCKED,
                                "Another licensevaultd works on the state directory '%s'. Stop it first.", folder) :
                        error_set_errno(error, ERROR_STORE_WRITE, -errno,
                                "The state directory '%s' cannot be locked", folder);

        *ret_fd = fd_steal(&fd);
        return 0;
}

char *store_file_path(const char *folder, const char *suffix) {
        return g_strconcat(folder, "/" STORE_FILE, suffix, NULL);
}

static int sync_folder(const char *folder) {
        _cleanup_fd_ int fd = -1;

        fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* Under another name, and named when it is whole: there is none, or a good one. */
int store_file_create(const char *folder, Error *error) {
        g_autoptr(StoreConnection) connection = NULL;
        g_autofree char *path = store_file_path(folder, "");
        g_autofree char *new = store_file_path(folder, ".new"), *journal = store_file_path(folder, ".new-journal");
        int r;

        if ((unlink(journal) < 0 && errno != ENOENT) || (unlink(new) < 0 && errno != ENOENT))
                return error_set_errno(error, ERROR_STORE_WRITE, -errno,
                        "What is left of an unfinished license store cannot be removed");

        r = store_connection_open(new, STORE_WRITE, &connection, error);
        if (r == 0)
                r = store_schema_create(connection, error);
        connection = store_connection_free(connection);

        if (r == 0 && rename(new, path) < 0)
                r = error_set_errno(error, ERROR_STORE_WRITE, -errno, "The license store cannot be made");
        else if (r == 0)
                return (r = sync_folder(folder)) < 0 ?
                        error_set_errno(error, ERROR_STORE_WRITE, r, "The license store cannot be made") : 0;

        /* Nothing is lost with it, and the next start would remove it. */
        (void)unlink(journal);
        (void)unlink(new);
        return r;
}

int store_file_find(const char *folder, bool *ret_exists, Error *error) {
        g_autofree char *path = store_file_path(folder, "");
        g_autofree char *wal = store_file_path(folder, "-wal");
        struct stat st;

        if (stat(path, &st) >= 0) {
                if (st.st_size == 0)
                        return error_set(error, ERROR_STORE_CORRUPT,
                                "The license store is damaged: licenses.db is empty. It was left as it is. It is for "
                                "root to move it away, restart licensevaultd, and put the licenses back from a "
                                "backup; see licensevaultd(8).");
                *ret_exists = true;
                return 0;
        }
        if (errno != ENOENT)
                return error_set_errno(error, ERROR_STORE_READ, -errno, "The license store cannot be read");

        /* The store was moved to a disk that is not there: an empty one in its place would hide it. */
        if (lstat(path, &st) >= 0)
                return error_set(error, ERROR_STORE_READ,
                        "The license store cannot be read: licenses.db is a link to a file that is not there. "
                        "Mount its disk, or put the file back, then restart licensevaultd.");

        if (stat(wal, &st) >= 0 && st.st_size > 0)
                return error_set(error, ERROR_STORE_CORRUPT,
                        "The license store is damaged: licenses.db is gone and licenses.db-wal is there. It is for "
                        "root to put it back, or to move the rest away and put the licenses back from a backup; see "
                        "licensevaultd(8).");
        *ret_exists = false;
        return 0;
}

int store_file_open(const char *folder, StoreAccess access, StoreConnection **ret, Error *error) {
        g_autoptr(StoreConnection) connection = NULL;
        g_autofree char *path = store_file_path(folder, ""), *index = NULL;
        int r, rc;

        if ((r = store_connection_open(path, access, &connection, error)) != 0 ||
            (r = store_schema_check(connection, error)) != 0)
                return r;
        if (access == STORE_WRITE) {
                rc = store_connection_exec(connection, "PRAGMA journal_mode = WAL");
                if (rc != SQLITE_OK)
                        return store_connection_failed(connection, rc, true, error);
                r = store_schema_upgrade(connection, error);
                if (r != 0)
                        return r;
                /*
                 * Of an earlier daemon, which had it in a file and was killed. Nobody else has the store open now; but
                 * of a file that cannot be written SQLite does not lock others out, and shares that index with them.
                 */
                index = g_strconcat(sqlite3_db_filename(connection->db, "main"), "-shm", NULL);
                if (sqlite3_db_readonly(connection->db, "main") == 0)
                        (void)unlink(index);
        }

        *ret = g_steal_pointer(&connection);
        return 0;
}
