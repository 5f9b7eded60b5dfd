/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every call of SQLite's to its disk and for its memory fails, and every other small allocation of the core's that
 * may, the first, the second, and so on, until an operation of the store is through untouched. After each: the store
 * answers, and has the operation or has it not, both now and when it is opened again; it can be written to; and what
 * was read is all that there is. FAULT_LONG=1 tries all points, also of those kinds that have hundreds.
 */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fault-operations.h"
#include "fault-sqlite.h"
#include "stage-world.h"

/* As long as can be: with four of them a row takes more than a page, and SQLite allocates where it reads on. */
static char long_text[LICENSE_STRING_MAX + 1];

static const Sketch alices[] = {
        { .id = "book", .document = "moby dick", .date = 7, .counters = "copy=5 print=7", .generation = 2 },
        { .id = "deleted", .counters = "print=1" },
        { .id = "film", .document = "nosferatu", .key_id = long_text, .title = long_text,
          .issuer = long_text, .media_type = long_text },
        { .id = "revoked", .revoked = 99 },
        { .id = "same", .document = "constant" },
};
static const Sketch bobs[] = {
        { .id = "book", .document = "moby dick, older", .date = 6, .counters = "copy=9" },
        { .id = "song", .document = "his own" },
};
/* A path that has no place beside a key, either. */
static char long_path[PATH_MAX];

static void G_GNUC_PRINTF(2, 3) complain(FaultWorld *world, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        g_autofree char *text = g_strdup_vprintf(format, ap);
        va_end(ap);
        print_message("WRONG: %s: %s\n", world->point, text);
        world->wrong = true;
}

/* The world */

static void copy_file(const char *from_folder, const char *to_folder, const char *name) {
        g_autofree char *from = g_build_filename(from_folder, name, NULL);
        g_autofree char *to = g_build_filename(to_folder, name, NULL);
        g_autoptr(GBytes) bytes = read_path(from);

        write_path(to, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
}

static void empty_folder(const char *path) {
        GDir *folder = g_dir_open(path, 0, NULL);
        const char *name;

        while ((name = g_dir_read_name(folder))) {
                g_autofree char *file = g_build_filename(path, name, NULL);
                (void)unlink(file);
        }
        g_dir_close(folder);
}

static int set_long_property(StoreConnection *connection, void *userdata, Error *error) {
        return store_property_set(connection, &alice, "RestorePath", long_path, error);
}

static void make_pristine(FaultWorld *world) {
        g_autofree char *path = g_build_filename(world->pristine, "licenses.db", NULL);
        g_auto(Error) error = {};
        Store *store;

        empty_folder(world->pristine);
        if (world->operation->empty)
                return;
        assert_good(store_open(world->pristine, &no_limits, &store, &error), &error);
        for (size_t i = 0; i < G_N_ELEMENTS(alices); i++)
                sketch_put(store, &alice, &alices[i]);
        for (size_t i = 0; i < G_N_ELEMENTS(bobs); i++)
                sketch_put(store, &bob, &bobs[i]);
        assert_good(do_write(store, set_long_property, NULL, &error), &error);
        store_free(store);
        if (world->operation->sql) {
                sqlite3 *db;

                assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
                assert_int_equal(sqlite3_exec(db, world->operation->sql, NULL, NULL, NULL), SQLITE_OK);
                assert_int_equal(sqlite3_close(db), SQLITE_OK);
        }
}

static void open_world(FaultWorld *world) {
        g_auto(Error) error = {};

        assert_good(store_open(world->folder, &no_limits, &world->store, &error), &error);
        assert_good(store_connect(world->store, &world->reader, &error), &error);
}

static void close_world(FaultWorld *world) {
        world->reader = store_connection_free(world->reader);
        world->store = store_free(world->store);
}

/* So that an operation has to prepare its own. */
static int forget_statements(StoreConnection *connection, FaultWorld *world, Error *error) {
        g_hash_table_remove_all(connection->statements);
        return 0;
}

static void begin(FaultWorld *world) {
        g_auto(Error) error = {};

        empty_folder(world->folder);
        if (!world->operation->empty)
                copy_file(world->pristine, world->folder, "licenses.db");
        g_string_truncate(world->told, 0);
        if (world->operation->opens)
                return;
        open_world(world);
        world->stage.restore = store_restore_begin(world->store);
        /* Acknowledged, and in the WAL alone. */
        sketch_put(world->store, &alice, &(Sketch){ .id = "acknowledged", .document = "yes" });
        if (world->operation->prepare)
                world->operation->prepare(world);
        assert_good(fault_write_to(world, true, forget_statements, &error), &error);
}

/* All that anyone has, as text. Fails the test where it cannot be read. */
static char *describe(StoreConnection *reader) {
        g_autofree char *of_alice = describe_owner(reader, &alice), *of_bob = describe_owner(reader, &bob);
        g_autofree char *of_carol = describe_owner(reader, &carol);
        int64_t owners = ask(reader, "SELECT count(*) FROM owners");
        int64_t properties = ask(reader, "SELECT count(*) FROM properties");

        return g_strdup_printf("%" PRIi64 " owners, %" PRIi64 " properties\nalice:\n%sbob:\n%scarol:\n%s", owners,
                properties, of_alice, of_bob, of_carol);
}

/* The expected text, or one of two. */
static void check(FaultWorld *world, const char *when, bool before, bool after) {
        g_autofree char *found = describe(world->reader);

        if ((before && strcmp(found, world->before) == 0) || (after && strcmp(found, world->after) == 0))
                return;
        complain(world, "%s it is neither what it was nor what it was to be:\n%s", when, found);
}

static int do_nothing(StoreConnection *connection, FaultWorld *world, Error *error) {
        return 0;
}

/* That it answers is not enough: a transaction that was left open would keep all later ones from beginning. */
static void check_writes(FaultWorld *world) {
        g_auto(Error) error = {};

        if (fault_write_to(world, false, do_nothing, &error) != 0)
                complain(world, "Nothing can be written any more: %s", error_message(&error));
}

/* Once nothing fails any more: the file is whole, and the store as it was told. */
static void check_again(FaultWorld *world, bool before, bool after) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;

        open_world(world);
        assert_int_equal(sqlite3_prepare_v2(world->reader->db, "PRAGMA integrity_check", -1, &statement, NULL),
                SQLITE_OK);
        assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
        if (strcmp((const char *)sqlite3_column_text(statement, 0), "ok") != 0)
                complain(world, "integrity_check: %s", sqlite3_column_text(statement, 0));
        sqlite3_finalize(g_steal_pointer(&statement));
        check(world, "Opened again", before, after);
        if (world->operation->unsound)
                assert_sums(world->reader);
        else
                assert_books(world->reader);
        wait_swept(world->reader);
        close_world(world);
}

static void check_error(FaultWorld *world, const Error *error) {
        const char *text = error_message(error);

        if (error->code != ERROR_STORE_READ && error->code != ERROR_STORE_WRITE && error->code != ERROR_NO_MEMORY)
                complain(world, "The error is %s: %s", error_name(error->code), text);
        if (!g_str_has_suffix(text, ".") || strstr(text, "SQL"))
                complain(world, "This is no sentence: '%s'", text);
}

/* Points */

typedef struct Fault {
        const char *name;
        FaultKind kind;
        int rc;
        bool once; /* only: what stays so makes SQLite wait, or cannot be */
} Fault;

static const Fault faults[] = {
        { "xOpen CANTOPEN", FAULT_OPEN, SQLITE_CANTOPEN },
        { "xRead IOERR_READ", FAULT_READ, SQLITE_IOERR_READ },
        { "xRead IOERR_CORRUPTFS", FAULT_READ, SQLITE_IOERR_CORRUPTFS },
        { "xRead IOERR_NOMEM", FAULT_READ, SQLITE_IOERR_NOMEM },
        { "xWrite FULL", FAULT_WRITE, SQLITE_FULL },
        { "xWrite IOERR_WRITE", FAULT_WRITE, SQLITE_IOERR_WRITE },
        { "xSync IOERR_FSYNC", FAULT_SYNC, SQLITE_IOERR_FSYNC },
        { "xTruncate IOERR_TRUNCATE", FAULT_TRUNCATE, SQLITE_IOERR_TRUNCATE },
        { "xFileSize IOERR_FSTAT", FAULT_SIZE, SQLITE_IOERR_FSTAT },
        { "xDelete IOERR_DELETE", FAULT_DELETE, SQLITE_IOERR_DELETE },
        { "xShmMap IOERR_SHMMAP", FAULT_SHARED_MAP, SQLITE_IOERR_SHMMAP },
        { "xShmMap IOERR_NOMEM", FAULT_SHARED_MAP, SQLITE_IOERR_NOMEM },
        { "xShmLock IOERR_SHMLOCK", FAULT_SHARED_LOCK, SQLITE_IOERR_SHMLOCK, .once = true },
        { "xLock IOERR_LOCK", FAULT_LOCK, SQLITE_IOERR_LOCK, .once = true },
        { "malloc", FAULT_MEMORY, SQLITE_NOMEM },
        { "prepare", FAULT_PREPARE },
        { "g_try_malloc", FAULT_TRY },
};

/* What the operation makes of the store, and how many calls of each kind it takes. */
static void calibrate(FaultWorld *world, unsigned counts[_FAULT_KIND_MAX]) {
        g_auto(Error) error = {};

        g_clear_pointer(&world->before, g_free);
        g_clear_pointer(&world->after, g_free);
        make_pristine(world);
        begin(world);
        if (world->reader)
                world->before = describe(world->reader);
        fault_sqlite_arm(_FAULT_KIND_MAX, 0, 0, false);
        assert_good(world->operation->run(world, &error), &error);
        (void)fault_sqlite_disarm();
        g_free(world->all);
        world->all = g_strdup(world->told->str);
        for (unsigned i = 0; i < _FAULT_KIND_MAX; i++)
                counts[i] = fault_sqlite_count(i);
        if (!world->store)
                open_world(world);
        else if (!world->reader)
                assert_good(store_connect(world->store, &world->reader, &error), &error);
        world->after = describe(world->reader);
        if (!world->before)
                world->before = g_strdup(world->after);
        close_world(world);
}

/* Tries a fault. Returns whether it was reached. */
static bool try_fault(FaultWorld *world, const Fault *fault, unsigned at, bool onward) {
        g_auto(Error) error = {};
        bool reached;
        int r;

        snprintf(world->point, sizeof world->point, "%s, %s %u%s", world->operation->name, fault->name, at,
                onward ? "+" : "");
        world->wrong = false;
        begin(world);
        fault_sqlite_arm(fault->kind, fault->rc, at, onward);
        r = world->operation->run(world, &error);
        reached = fault_sqlite_disarm() > 0;
        if (r == 0 && strcmp(world->told->str, world->all) != 0)
                complain(world, "It says that all is well, and tells:\n%s", world->told->str);
        if (!reached && r != 0)
                complain(world, "Untouched, it fails: %s", error_message(&error));
        if (r != 0)
                check_error(world, &error);
        if (world->reader) {
                check(world, "At once", r != 0, r == 0);
                check_writes(world);
        }
        close_world(world);
        /* A commit that could not be synced may be on the disk all the same: then it is there as a whole. */
        check_again(world, r != 0, r == 0 || fault->kind == FAULT_SYNC);
        world->wrong ? world->failed++ : world->passed++;
        return reached;
}

/* The next N: where there are hundreds, all only when asked to. */
static unsigned next_point(unsigned at, unsigned n) {
        unsigned most = sanitized() ? 5 : 30;

        if (g_getenv("FAULT_LONG") || n <= most || at < 4 || at + 4 >= n)
                return at + 1;
        return MIN(at + n / most, n - 3);
}

static void run_fault(FaultWorld *world, const Fault *fault, unsigned n) {
        unsigned failed = world->failed, points = 0;

        for (unsigned onward = 0; onward < (fault->once ? 1 : 2); onward++)
                for (unsigned at = 1;; at = next_point(at, n)) {
                        points++;
                        if (!try_fault(world, fault, at, onward))
                                break;
                }
        printf("%-12s %-26s %5u points, %u failures\n", world->operation->name, fault->name, points,
                world->failed - failed);
        fflush(stdout);
}

static unsigned passed, failed;

static void test_every_point_of_every_operation(void **state) {
        FaultWorld world = { .folder = temp_folder_new(), .pristine = temp_folder_new(), .told = g_string_new("") };
        const char *only = g_getenv("FAULT_OPERATION");
        unsigned counts[_FAULT_KIND_MAX];
        bool tried[_FAULT_KIND_MAX] = {};

        memset(long_text, 'y', sizeof long_text - 1);
        memset(long_path, '/', sizeof long_path - 1);
        for (size_t i = 0; i < fault_n_operations; i++) {
                if (only && strcmp(only, fault_operations[i].name) != 0)
                        continue;
                world.operation = &fault_operations[i];
                calibrate(&world, counts);
                for (size_t j = 0; j < G_N_ELEMENTS(faults); j++)
                        if (counts[faults[j].kind] > 0) {
                                run_fault(&world, &faults[j], counts[faults[j].kind]);
                                tried[faults[j].kind] = true;
                        }
        }
        /* What fails nowhere went past us. */
        for (size_t j = 0; j < G_N_ELEMENTS(faults) && !only; j++)
                if (!tried[faults[j].kind])
                        fail_msg("No operation has a call of '%s'", faults[j].name);
        temp_folder_remove(world.folder);
        temp_folder_remove(world.pristine);
        g_free(world.before);
        g_free(world.after);
        g_free(world.all);
        g_string_free(world.told, true);
        passed = world.passed;
        failed = world.failed;
        assert_int_equal(failed, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_point_of_every_operation) };
        int r;

        /* All this syncs a lot. */
        if (!g_getenv("TMPDIR") && access("/dev/shm", W_OK) == 0)
                g_setenv("TMPDIR", "/dev/shm", true);
        fault_sqlite_install();
        r = cmocka_run_group_tests(tests, NULL, NULL);
        printf("%u passed, %u failed\n", passed, failed);
        return r;
}
