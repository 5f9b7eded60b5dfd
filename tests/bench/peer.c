/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bench.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <unistd.h>

/*
 * What `sqlite3 store '.backup copy'` and the like do, without the start of a program, and in the way that is
 * fastest for them: all pages in one step. What they promise about the disk is made equal to ours.
 */

static sqlite3 *open_database(const char *path) {
        sqlite3 *db;

        if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) != SQLITE_OK)
                fail_msg("%s: %s", path, sqlite3_errmsg(db));
        return db;
}

/*
 * The store of the daemon, which nobody else can open. All of it is in the one file, for the daemon was started anew,
 * and nothing is written to it here: so it may be read without a lock.
 */
static sqlite3 *open_store(const char *path) {
        g_autofree char *uri = g_filename_to_uri(path, NULL, NULL), *immutable = g_strconcat(uri, "?immutable=1", NULL);
        sqlite3 *db;

        if (sqlite3_open_v2(immutable, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, NULL) != SQLITE_OK)
                fail_msg("%s: %s", path, sqlite3_errmsg(db));
        return db;
}

static void close_database(sqlite3 *db) {
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void execute(sqlite3 *db, const char *sql) {
        char *message = NULL;

        if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
                fail_msg("%s: %s", sql, message);
}

static void sync_path(const char *path, int flags) {
        int fd = open(path, flags | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(fsync(fd), 0);
        close(fd);
}

static void check_integrity(sqlite3 *db) {
        sqlite3_stmt *statement;

        assert_int_equal(sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &statement, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
        assert_string_equal((const char *)sqlite3_column_text(statement, 0), "ok");
        sqlite3_finalize(statement);
}

static void copy_database(const char *from, const char *to) {
        sqlite3 *source = open_store(from), *target = open_database(to);
        sqlite3_backup *backup = sqlite3_backup_init(target, "main", source, "main");

        assert_non_null(backup);
        assert_int_equal(sqlite3_backup_step(backup, -1), SQLITE_DONE);
        assert_int_equal(sqlite3_backup_finish(backup), SQLITE_OK);
        close_database(target);
        close_database(source);
}

double peer_backup(const char *store, const char *copy, bool check) {
        g_autofree char *draft = g_strconcat(copy, ".new", NULL), *folder = g_path_get_dirname(copy);
        double begin = now();

        copy_database(store, draft);
        if (check) {
                sqlite3 *db = open_database(draft);

                check_integrity(db);
                close_database(db);
        }
        sync_path(draft, O_RDWR);
        assert_int_equal(rename(draft, copy), 0);
        sync_path(folder, O_RDONLY | O_DIRECTORY);
        return now() - begin;
}

/* The owners are few, and the one that restores may be there already. */
double peer_restore(const char *from, const char *into, bool wal) {
        g_autofree char *attach = g_strdup_printf("ATTACH '%s' AS source", from);
        double begin = now();
        sqlite3 *db = open_database(into);

        execute(db, wal ? "PRAGMA journal_mode = WAL" : "PRAGMA journal_mode = DELETE");
        execute(db, "PRAGMA synchronous = FULL");
        execute(db, attach);
        execute(db, "BEGIN IMMEDIATE;"
                    "INSERT OR REPLACE INTO main.owners SELECT * FROM source.owners;"
                    "INSERT INTO main.licenses SELECT * FROM source.licenses;"
                    "INSERT INTO main.documents SELECT * FROM source.documents;"
                    "INSERT INTO main.counters SELECT * FROM source.counters;"
                    "COMMIT");
        begin = now() - begin;
        close_database(db);
        return begin;
}
