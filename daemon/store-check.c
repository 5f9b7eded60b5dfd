/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"
#include "store-file.h"
#include "store-vfs.h"

/*
 * A store is looked at without a lock, which the daemon beside may hold, and without a word of it: what was read counts
 * where the files say that nothing moved below it. Frames that a writer appends to the WAL move nothing; a checkpoint
 * does, and so does the WAL when it begins anew. (What a commit that failed left in the WAL may be read, and
 * overwritten meanwhile, without a sign of it: that takes a disk that fails.)
 */

/* A store that is written to without end would be read without end. */
#define TRIES 3
/*
 * Longer than two changes can have the same time: a tick of the kernel's clock; or two seconds, where those are kept.
 */
#define TICK_USEC (20 * 1000)
#define LONG_TICK_USEC (2100 * 1000)

typedef struct StoreFiles {
        struct stat store;
        uint8_t wal[32]; /* its header, another each time that it begins anew; zeros where there is none */
} StoreFiles;

static int look_at_files(const char *path, const char *wal, StoreFiles *files, Error *error) {
        _cleanup_fd_ int fd = -1;

        *files = (StoreFiles) {};
        fd = open(wal, O_RDONLY | O_CLOEXEC);
        if ((fd < 0 && errno != ENOENT) || (fd >= 0 && pread(fd, files->wal, sizeof files->wal, 0) < 0) ||
            stat(path, &files->store) < 0)
                return error_set_errno(error, ERROR_STORE_READ, -errno, "The license store cannot be read");
        return 0;
}

/* After this, no change has the time of one before. */
static void wait_for_tick(const struct stat *store) {
        int64_t age = g_get_real_time() / G_USEC_PER_SEC - store->st_mtim.tv_sec;
        bool keeps_seconds = store->st_mtim.tv_nsec == 0;

        g_usleep(keeps_seconds && ABS(age) <= 3 ? LONG_TICK_USEC : TICK_USEC);
}

static bool have_moved(const StoreFiles *before, const StoreFiles *after) {
        return before->store.st_dev != after->store.st_dev || before->store.st_ino != after->store.st_ino ||
                before->store.st_size != after->store.st_size ||
                before->store.st_mtim.tv_sec != after->store.st_mtim.tv_sec ||
                before->store.st_mtim.tv_nsec != after->store.st_mtim.tv_nsec ||
                memcmp(before->wal, after->wal, sizeof before->wal) != 0;
}

/* What an owner is charged with has no digest: a bit of it that has rotted refuses what there is room for. */
static int check_books(StoreConnection *connection, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        const char *name;
        int r;

        statement = store_statement(connection,
                "SELECT o.name, o.uid FROM owners AS o "
                "LEFT JOIN licenses AS l ON l.key BETWEEN o.owner << 31 AND ((o.owner + 1) << 31) - 1 GROUP BY o.owner "
                "HAVING o.licenses <> count(iif(l.present, 1, NULL)) OR o.remembered <> count(l.key) "
                "OR o.bytes <> ifnull(sum(l.charge), 0) LIMIT 1", error);
        if (!statement)
                return (int)error->code;
        r = statement_row(connection, statement, error);
        if (r <= 0)
                return r < 0 ? (int)error->code : 0;
        name = (const char *)sqlite3_column_text(statement, 0);
        return error_set(error, ERROR_STORE_CORRUPT,
                "Of user '%s' (%" PRIu32 "): How many licenses, ids and bytes there are is not what the store has "
                "counted. No license is damaged by that, and backups are whole. Before a limit refuses that user "
                "something, licensevaultd counts anew, and sets it right. See to the disk, and to the machine's "
                "memory.",
                name ?: "", (uint32_t)sqlite3_column_int64(statement, 1));
}

/* Reads every license, and holds it against digest and seal, which were taken when it was stored. */
static int check_documents(StoreConnection *connection, Error *error) {
        g_autoptr(GPtrArray) owners = g_ptr_array_new();
        int r;

        r = store_snapshot_begin(connection, error);
        if (r != 0)
                return r;

        r = store_snapshot_owners(connection, (uid_t)-1, NULL, owners, error);
        for (unsigned i = 0; r == 0 && i < owners->len; i++) {
                const StoreOwnerRow *owner = owners->pdata[i];
                g_autoptr(StoreCursor) cursor = NULL;
                const StoreCursorRow *row = NULL;

                r = store_cursor_new(connection, owner->owner, true, &cursor, error);
                do {
                        r = r == 0 ? store_cursor_next(cursor, &row, error) : r;
                        if (r == 0 && row && row->damage != STORE_DAMAGE_NONE) {
                                store_license_rotten(row->license.id, row->damage, error);
                                r = error_prefix(error, "Of user '%s' (%" PRIu32 ")", owner->name,
                                        (uint32_t)owner->uid);
                        }
                } while (r == 0 && row);
        }
        if (r == 0)
                r = check_books(connection, error);

        store_snapshot_end(connection);
        return r;
}

static int check_all(const char *path, uint64_t *ret_licenses, Error *error) {
        g_autoptr(StoreConnection) connection = NULL;
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int64_t count;
        int r;

        if ((r = store_connection_open(path, STORE_LOOK, &connection, error)) != 0 ||
            (r = store_schema_check(connection, error)) != 0 ||
            (r = store_connection_integer(connection, "SELECT sum(licenses) FROM owners", &count, error)) != 0)
                return r;

        (void)store_vfs_failed_read();
        statement = store_statement(connection, "PRAGMA integrity_check(1)", error);
        if (!statement || statement_row(connection, statement, error) < 0)
                return (int)error->code;
        if (g_strcmp0((const char *)sqlite3_column_text(statement, 0), "ok") != 0)
                return store_connection_failed(connection, store_vfs_failed_read() ?: SQLITE_CORRUPT, false, error);

        r = check_documents(connection, error);
        if (r == 0)
                *ret_licenses = (uint64_t)count;
        return r;
}

/* Of a daemon that ended while it made the store one with a WAL. Without its journal a store is read as damaged. */
static int check_journal(const char *path, Error *error) {
        g_autofree char *journal = g_strconcat(path, "-journal", NULL);
        struct stat st;

        if (stat(journal, &st) >= 0 && st.st_size > 0)
                return error_set(error, ERROR_STORE_READ,
                        "A write to the license store was not finished. Start licensevaultd, which takes it back.");
        return 0;
}

bool store_exists(const char *folder) {
        g_autofree char *path = store_file_path(folder, "");

        return access(path, F_OK) >= 0;
}

int store_check(const char *folder, uint64_t *ret_licenses, Error *error) {
        g_autofree char *name = store_file_path(folder, ""), *path = NULL, *wal = NULL;
        bool exists = false, was_damaged = false;
        int r;

        *ret_licenses = 0;
        r = store_file_find(folder, &exists, error);
        if (r != 0) {
                /* It may have been made just then. */
                error_clear(error);
                g_usleep(TICK_USEC);
                r = store_file_find(folder, &exists, error);
        }
        if (r != 0 || !exists)
                return r;

        path = realpath(name, NULL);
        if (!path)
                return error_set_errno(error, ERROR_STORE_READ, -errno, "The license store cannot be read");
        wal = g_strconcat(path, "-wal", NULL);
        for (unsigned i = 0; i < TRIES; i++) {
                StoreFiles before, after;
                uint64_t licenses = 0;
                int found;

                r = look_at_files(path, wal, &before, error);
                if (r != 0)
                        return r;
                wait_for_tick(&before.store);
                found = check_journal(path, error);
                if (found == 0)
                        found = check_all(path, &licenses, error);

                g_auto(Error) failure = {};
                r = look_at_files(path, wal, &after, &failure);
                if (r != 0)
                        return error_move(error, &failure);
                if (!have_moved(&before, &after)) {
                        /* Damage is what is found twice: SQLite calls a page so, too, that it had no memory for. */
                        if (found != ERROR_STORE_CORRUPT || was_damaged) {
                                *ret_licenses = licenses;
                                return found;
                        }
                        was_damaged = true;
                }
                error_clear(error);
        }
        return error_set(error, ERROR_STORE_LOCKED,
                "It was written to each time that it was read. Stop licensevaultd, or try again when less is stored.");
}
