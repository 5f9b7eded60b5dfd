/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-connection.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>

#include "store-vfs.h"

/*
 * How long a program that has the store open is waited for at a start. With RestartSec= it is more than a tenth of
 * StartLimitIntervalSec= (licensevaultd.service): who waits for longer than one wait is not given up.
 */
#define BUSY_MSEC 10000
#define BUSY_STEP_MSEC 10

static void finalize(void *statement) {
        sqlite3_finalize(statement);
}

static int open_to_look(const char *path, const char *vfs, StoreConnection *connection, Error *error) {
        g_autofree char *wal = g_strconcat(path, "-wal", NULL), *uri = g_filename_to_uri(path, NULL, NULL);
        g_autofree char *immutable = g_strconcat(uri, "?immutable=1", NULL);
        struct stat st;
        bool has_wal;
        int rc;

        rc = stat(wal, &st);
        if (rc < 0 && errno != ENOENT)
                return error_set_errno(error, ERROR_STORE_READ, -errno, "The license store cannot be read");
        has_wal = rc == 0 && st.st_size > 0;

        /* A WAL can be read without its index, and without a lock, by who seems to have the store for itself. */
        errno = 0;
        rc = sqlite3_open_v2(has_wal ? uri : immutable, &connection->db,
                SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, vfs);
        if (rc == SQLITE_OK && has_wal)
                rc = store_connection_exec(connection, "PRAGMA locking_mode = EXCLUSIVE");
        return rc == SQLITE_OK ? 0 : store_connection_failed(connection, rc, false, error);
}

/* The service has its signals blocked, and before its loop runs nothing takes them: then they end the wait here. */
static bool is_asked_to_stop(void) {
        sigset_t pending;

        return sigpending(&pending) == 0 &&
                (sigismember(&pending, SIGTERM) > 0 || sigismember(&pending, SIGINT) > 0);
}

/* How often it was waited for the same lock tells for how long. */
static int on_busy(void *userdata, int n_waits) {
        if (n_waits >= BUSY_MSEC / BUSY_STEP_MSEC || is_asked_to_stop())
                return 0;
        g_usleep(BUSY_STEP_MSEC * 1000);
        return 1;
}

int store_connection_open(const char *path, StoreAccess access, StoreConnection **ret, Error *error) {
        g_autoptr(StoreConnection) connection = NULL;
        const char *vfs = access == STORE_LOOK ? store_vfs_look_name() : store_vfs_name();
        int r, rc;

        /* Never with SQLite's own, which takes other locks. */
        if (!vfs)
                return error_set_no_memory(error);
        connection = g_try_new0(StoreConnection, 1);
        if (!connection)
                return error_set_no_memory(error);
        connection->statements = g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, finalize);

        if (access == STORE_LOOK) {
                r = open_to_look(path, vfs, connection, error);
                if (r != 0)
                        return r;
        } else {
                /* Each belongs to one thread. A reader opens for writing, too: it may have to recover the WAL. */
                errno = 0;
                rc = sqlite3_open_v2(path, &connection->db,
                        SQLITE_OPEN_READWRITE | (access == STORE_WRITE ? SQLITE_OPEN_CREATE : 0) | SQLITE_OPEN_NOMUTEX,
                        vfs);
                if (rc != SQLITE_OK)
                        return store_connection_failed(connection, rc, false, error);
        }

        sqlite3_extended_result_codes(connection->db, 1);
        sqlite3_busy_handler(connection->db, on_busy, NULL);
        sqlite3_db_config(connection->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        sqlite3_db_config(connection->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
        /* What lies in the WAL may be of another file: one that is refused stays as it is. */
        if (access == STORE_WRITE)
                sqlite3_db_config(connection->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);

        rc = store_connection_exec(connection,
                "PRAGMA synchronous = FULL;"
                "PRAGMA cell_size_check = ON;"
                "PRAGMA temp_store = MEMORY;"
                "PRAGMA journal_size_limit = 16777216");
        if (rc == SQLITE_OK && access != STORE_WRITE)
                rc = store_connection_exec(connection, "PRAGMA query_only = ON");
        if (rc != SQLITE_OK)
                return store_connection_failed(connection, rc, false, error);

        *ret = g_steal_pointer(&connection);
        return 0;
}

void store_connection_trust(StoreConnection *connection) {
        sqlite3_db_config(connection->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
}

StoreConnection *store_connection_free(StoreConnection *connection) {
        if (connection) {
                g_hash_table_unref(connection->statements);
                g_clear_pointer(&connection->counted, g_hash_table_unref);
                sqlite3_close(connection->db);
                g_free(connection);
        }
        return NULL;
}

/* Where the reason is that of a system call, and SQLite's own words would be about something else. */
static bool is_of_the_system(int rc, int code) {
        switch (rc & 0xff) {
        case SQLITE_IOERR:
        case SQLITE_CANTOPEN:
                return code > 0;
        case SQLITE_BUSY:
                return code == ENOLCK;
        case SQLITE_READONLY:
                /* Also what a file that cannot be looked at is taken for. */
                return rc == SQLITE_READONLY_DBMOVED && code > 0;
        default:
                return false;
        }
}

int store_connection_failed(StoreConnection *connection, int rc, bool write, Error *error) {
        /* SQLite keeps the reason as well, but not that of a COMMIT. Whoever called it had set it to 0. */
        int code = errno;

        /* SQLite's own message may quote a path or a statement: it goes nowhere. */
        switch (rc & 0xff) {
        case SQLITE_NOMEM:
                return error_set_no_memory(error);
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
        case SQLITE_FORMAT:
                return error_set(error, ERROR_STORE_CORRUPT,
                        "The license store is damaged: licenses.db is not what the service wrote. The file was "
                        "left as it is. It is for root to move it away, restart licensevaultd, and put the licenses "
                        "back from a backup; see licensevaultd(8).");
        }

        const char *reason = sqlite3_errstr(rc);
        if ((rc & 0xff) == SQLITE_FULL)
                reason = "No space left on device";
        else if (is_of_the_system(rc, code)) {
                if (code == ENOMEM)
                        return error_set_no_memory(error);
                reason = g_strerror(code);
        } else if ((rc & 0xff) == SQLITE_BUSY)
                return error_set(error, ERROR_STORE_LOCKED,
                        "Another program has the license store open. End that program, then try again.");

        if (write)
                return error_set(error, ERROR_STORE_WRITE,
                        "The license store cannot be written: %s. Nothing was changed; make room or mend the disk, "
                        "then try again.", reason);
        return error_set(error, ERROR_STORE_READ,
                "The license store cannot be read: %s. Mend that, then try again.", reason);
}

int store_connection_exec(StoreConnection *connection, const char *sql) {
        errno = 0;
        return sqlite3_exec(connection->db, sql, NULL, NULL, NULL);
}

sqlite3_stmt *store_statement(StoreConnection *connection, const char *sql, Error *error) {
        sqlite3_stmt *statement;
        int rc;

        statement = g_hash_table_lookup(connection->statements, sql);
        if (statement)
                return statement;

        errno = 0;
        rc = sqlite3_prepare_v3(connection->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL);
        if (rc != SQLITE_OK) {
                store_connection_failed(connection, rc, false, error);
                return NULL;
        }

        g_hash_table_insert(connection->statements, (gpointer)sql, statement);
        return statement;
}

void statement_donep(sqlite3_stmt **statement) {
        if (*statement) {
                sqlite3_reset(*statement);
                sqlite3_clear_bindings(*statement);
        }
}

/* Static text in the database's own encoding is not copied, so that binding has nothing that could fail. */

void statement_bind_text(sqlite3_stmt *statement, int i, const char *text) {
        if (text)
                (void)sqlite3_bind_text(statement, i, text, -1, SQLITE_STATIC);
        else
                (void)sqlite3_bind_null(statement, i);
}

void statement_bind_time(sqlite3_stmt *statement, int i, int64_t time) {
        if (time != LICENSE_NO_TIME)
                (void)sqlite3_bind_int64(statement, i, time);
        else
                (void)sqlite3_bind_null(statement, i);
}

int64_t statement_time(sqlite3_stmt *statement, int column) {
        return sqlite3_column_type(statement, column) == SQLITE_NULL ? LICENSE_NO_TIME :
                                                                       sqlite3_column_int64(statement, column);
}

int statement_row(StoreConnection *connection, sqlite3_stmt *statement, Error *error) {
        int rc;

        errno = 0;
        rc = sqlite3_step(statement);
        if (rc == SQLITE_ROW)
                return 1;
        if (rc == SQLITE_DONE)
                return 0;

        store_connection_failed(connection, rc, false, error);
        return -1;
}

int statement_write(StoreConnection *connection, sqlite3_stmt *statement, Error *error) {
        int rc;

        errno = 0;
        rc = sqlite3_step(statement);
        return rc == SQLITE_DONE ? 0 : store_connection_failed(connection, rc, true, error);
}

#define ROLLBACK "ROLLBACK"

int store_write_begin(StoreConnection *connection, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;

        if (!store_statement(connection, ROLLBACK, error))
                return (int)error->code;
        statement = store_statement(connection, "BEGIN IMMEDIATE", error);
        return statement ? statement_write(connection, statement, error) : (int)error->code;
}

void store_write_abandon(StoreConnection *connection) {
        g_auto(Error) ignored = {};
        _cleanup_statement_ sqlite3_stmt *statement = NULL;

        if (sqlite3_get_autocommit(connection->db))
                return;
        statement = store_statement(connection, ROLLBACK, &ignored);
        (void)statement_write(connection, statement, &ignored);
}

int store_run_for_key(StoreConnection *connection, const char *sql, int64_t key, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = store_statement(connection, sql, error);

        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, key);
        return statement_write(connection, statement, error);
}

int store_connection_integer(StoreConnection *connection, const char *sql, int64_t *ret, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r;

        statement = store_statement(connection, sql, error);
        if (!statement)
                return (int)error->code;

        r = statement_row(connection, statement, error);
        if (r < 0)
                return (int)error->code;

        *ret = r > 0 ? sqlite3_column_int64(statement, 0) : 0;
        return 0;
}
