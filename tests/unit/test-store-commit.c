/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common.h"
#include "store-connection.h"

/* Group commit: what many ask for at once is one transaction, and nobody's failure is another's. */

#define N_DEEDS 200U

static const StoreOwner alice = { 1000, "alice" };

typedef struct World {
        char *folder;
        Store *store;
        Tally *done, *gate, *at_gate;
        Deed deeds[N_DEEDS];
        char ids[N_DEEDS][16];
} World;

/* What the hooks of the writing connection do; of its thread. */
static struct {
        unsigned n_commits;
        unsigned n_refused;                /* commits yet to refuse */
        sqlite3 *rival;                    /* takes the write lock after each commit, for a while */
        pthread_t releaser;
        bool releasing;
} hooks;

static int setup(void **state) {
        World *world = g_new0(World, 1);
        g_auto(Error) error = {};

        memset(&hooks, 0, sizeof hooks);
        world->folder = temp_folder_new();
        world->done = tally_new();
        world->gate = tally_new();
        world->at_gate = tally_new();
        assert_good(store_open(world->folder, &no_limits, &world->store, &error), &error);
        for (unsigned i = 0; i < N_DEEDS; i++) {
                snprintf(world->ids[i], sizeof world->ids[i], "id-%03u", i);
                world->deeds[i] = (Deed) { .work = deed_put, .owner = alice, .id = world->ids[i],
                        .document = "document", .done = world->done };
        }
        *state = world;
        return 0;
}

static int teardown(void **state) {
        World *world = *state;

        store_free(world->store);
        for (unsigned i = 0; i < N_DEEDS; i++)
                deed_clear(&world->deeds[i]);
        temp_folder_remove(world->folder);
        tally_free(world->done);
        tally_free(world->gate);
        tally_free(world->at_gate);
        g_free(world);
        return 0;
}

static int on_commit(void *userdata) {
        hooks.n_commits++;
        if (hooks.n_refused > 0) {
                hooks.n_refused--;
                return 1;
        }
        return 0;
}

typedef struct GateDeed {
        Deed deed;
        World *world;
} GateDeed;

/* Holds the writer up until the others are in the queue, and watches it from then on. */
static int wait_at_gate(Deed *deed, StoreConnection *connection, Error *error) {
        World *world = ((GateDeed *)deed)->world;

        tally_add(world->at_gate);
        (void)tally_wait(world->gate, 1);
        sqlite3_commit_hook(connection->db, on_commit, NULL);
        return error_set(error, ERROR_CANCELED, "Nothing to write.");
}

/* Puts deeds into the queue so that one transaction takes them all, and waits for them. */
static void do_at_once(World *world, unsigned n) {
        GateDeed gate = { .deed = { .work = wait_at_gate, .done = world->done }, .world = world };

        deed_submit(&gate.deed, world->store);
        assert_true(tally_wait(world->at_gate, 1));
        for (unsigned i = 0; i < n; i++)
                deed_submit(&world->deeds[i], world->store);
        tally_add(world->gate);
        assert_true(tally_wait(world->done, n + 1));
        error_clear(&gate.deed.task.error);
}

static bool is_stored(const char *folder, const char *id) {
        g_autofree char *path = g_build_filename(folder, "licenses.db", NULL);
        g_autoptr(StoreConnection) connection = NULL;
        g_autofree void *document = NULL;
        g_auto(License) license = {};
        g_auto(Error) error = {};
        int r;

        license_init(&license);
        assert_good(store_connection_open(path, STORE_READ, &connection, &error), &error);
        r = store_license_get(connection, &alice, id, UINT64_MAX, &license, &document, &error);
        if (r != 0)
                assert_int_equal(r, ERROR_LICENSE_UNAVAILABLE);
        return r == 0;
}

static void assert_all_stored_but(World *world, unsigned n, int but) {
        for (unsigned i = 0; i < n; i++) {
                assert_int_equal(world->deeds[i].n_done, 1);
                assert_int_equal(is_stored(world->folder, world->ids[i]), (int)i != but);
                if ((int)i != but)
                        assert_good((int)world->deeds[i].task.error.code, &world->deeds[i].task.error);
        }
        assert_int_equal(store_count(world->store), but < 0 ? n : n - 1);
}

static void test_many_writes_at_once_are_few_commits(void **state) {
        World *world = *state;

        do_at_once(world, N_DEEDS);
        assert_all_stored_but(world, N_DEEDS, -1);
        /* A slow machine may need several, for a transaction takes no more after 50 ms. */
        assert_in_range(hooks.n_commits, 1, N_DEEDS / 2);
}

static void copy_file(const char *from_folder, const char *to_folder, const char *name) {
        g_autofree char *from = g_build_filename(from_folder, name, NULL);
        g_autofree char *to = g_build_filename(to_folder, name, NULL);
        g_autoptr(GBytes) bytes = read_path(from);

        write_path(to, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
}

/* What the files hold at that moment, without the service's orderly end, is all that was answered. */
static void test_what_is_done_is_in_the_files(void **state) {
        World *world = *state;
        char *copy = temp_folder_new();

        do_at_once(world, 50);
        copy_file(world->folder, copy, "licenses.db");
        copy_file(world->folder, copy, "licenses.db-wal");
        for (unsigned i = 0; i < 50; i++)
                assert_true(is_stored(copy, world->ids[i]));
        assert_false(is_stored(copy, "id-050"));
        temp_folder_remove(copy);
}

static int put_and_fail(Deed *deed, StoreConnection *connection, Error *error) {
        int r = deed_put(deed, connection, error);

        return r != 0 ? r : error_set(error, ERROR_INVALID_LICENSE, "Changed my mind.");
}

static void test_failing_write_takes_back_its_own_only(void **state) {
        World *world = *state;

        world->deeds[4].work = put_and_fail;
        do_at_once(world, 10);
        assert_all_stored_but(world, 10, 4);
        assert_error(&world->deeds[4].task.error, ERROR_INVALID_LICENSE, "Changed my mind.");
        assert_int_equal(world->deeds[4].n_runs, 1);
        assert_int_equal(world->deeds[5].n_runs, 1);
}

/* As SQLite does it on its own when the disk is full in the middle of a statement. */
static int lose_all(Deed *deed, StoreConnection *connection, Error *error) {
        (void)store_connection_exec(connection, "ROLLBACK");
        return error_set(error, ERROR_STORE_WRITE, "No space left on device.");
}

static void test_write_that_loses_the_transaction_leaves_the_others(void **state) {
        World *world = *state;

        world->deeds[4].work = lose_all;
        do_at_once(world, 10);
        assert_all_stored_but(world, 10, 4);
        assert_error(&world->deeds[4].task.error, ERROR_STORE_WRITE, "No space left on device.");
        /* Those before it were taken back, and had to run again. */
        assert_int_equal(world->deeds[3].n_runs, 2);
        assert_int_equal(world->deeds[5].n_runs, 1);
}

static void test_failing_commit_is_tried_again_one_by_one(void **state) {
        World *world = *state;

        hooks.n_refused = 1;
        do_at_once(world, 10);
        assert_all_stored_but(world, 10, -1);
        assert_int_equal(world->deeds[0].n_runs, 2);
        assert_in_range(hooks.n_commits, 11, 11);
}

static void test_write_that_cannot_be_committed_alone_fails_alone(void **state) {
        World *world = *state;

        hooks.n_refused = 2;
        do_at_once(world, 10);
        assert_all_stored_but(world, 10, 0);
        assert_int_equal(world->deeds[0].task.error.code, ERROR_STORE_WRITE);
}

static void *release_rival(void *userdata) {
        g_usleep(80 * 1000);
        (void)sqlite3_exec(userdata, "ROLLBACK", NULL, NULL, NULL);
        return NULL;
}

/* After a commit another program has the write lock, for longer than a transaction takes new tasks. */
static int on_wal(void *userdata, sqlite3 *db, const char *name, int pages) {
        if (hooks.releasing)
                pthread_join(hooks.releaser, NULL);
        hooks.releasing = sqlite3_exec(hooks.rival, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK &&
                pthread_create(&hooks.releaser, NULL, release_rival, hooks.rival) == 0;
        return SQLITE_OK;
}

static int put_and_invite_rival(Deed *deed, StoreConnection *connection, Error *error) {
        sqlite3_wal_hook(connection->db, on_wal, NULL);
        return deed_put(deed, connection, error);
}

static void test_writes_tried_again_behind_a_slow_lock_all_come_back(void **state) {
        g_autofree char *path = g_build_filename(((World *)*state)->folder, "licenses.db", NULL);
        World *world = *state;

        assert_int_equal(sqlite3_open(path, &hooks.rival), SQLITE_OK);
        hooks.n_refused = 1;
        world->deeds[0].work = put_and_invite_rival;
        do_at_once(world, 4);
        if (hooks.releasing)
                pthread_join(hooks.releaser, NULL);
        assert_true(hooks.releasing);
        assert_int_equal(sqlite3_close(hooks.rival), SQLITE_OK);
        assert_all_stored_but(world, 4, -1);
}

static int put_slowly(Deed *deed, StoreConnection *connection, Error *error) {
        g_usleep(20 * 1000);
        return deed_put(deed, connection, error);
}

/* A crowd does not keep the first one waiting: after 50 ms a transaction is committed. */
static void test_slow_writes_are_committed_in_turns_and_in_order(void **state) {
        World *world = *state;

        for (unsigned i = 0; i < 12; i++)
                world->deeds[i].work = put_slowly;
        do_at_once(world, 12);
        assert_all_stored_but(world, 12, -1);
        assert_in_range(hooks.n_commits, 2, 12);
}

/* Who comes later sees what was there before: a delete right behind its put. */
static void test_writes_run_in_the_order_of_their_submission(void **state) {
        World *world = *state;

        for (unsigned i = 0; i < 20; i++)
                world->deeds[i].id = "same";
        for (unsigned i = 1; i < 20; i += 2)
                world->deeds[i].work = deed_delete;
        do_at_once(world, 20);
        for (unsigned i = 0; i < 20; i++)
                assert_good((int)world->deeds[i].task.error.code, &world->deeds[i].task.error);
        assert_false(is_stored(world->folder, "same"));
}

static void test_closing_finishes_what_is_queued(void **state) {
        World *world = *state;

        for (unsigned i = 0; i < N_DEEDS; i++)
                deed_submit(&world->deeds[i], world->store);
        world->store = store_free(world->store);

        assert_int_equal(tally_count(world->done), N_DEEDS);
        for (unsigned i = 0; i < N_DEEDS; i++) {
                assert_good((int)world->deeds[i].task.error.code, &world->deeds[i].task.error);
                assert_true(is_stored(world->folder, world->ids[i]));
        }
}

/* Concurrency: two counters are always taken from together, so whoever reads must find them equal. */

#define N_TURNS 60U
#define N_WATCHERS 3U

static int put_pair(Deed *deed, StoreConnection *connection, Error *error) {
        g_auto(License) license = {};

        license_make(&license, deed->id, deed->document);
        (void)license_limit_counter(&license, "left", 1000);
        (void)license_limit_counter(&license, "right", 1000);
        return store_license_put(connection, &deed->owner, &license, deed->document, error);
}

static int take_pair(Deed *deed, StoreConnection *connection, Error *error) {
        uint64_t remaining;
        int r;

        r = store_license_consume(connection, &deed->owner, deed->id, "left", 1, 0, &remaining, error);
        if (r == 0)
                r = store_license_consume(connection, &deed->owner, deed->id, "right", 1, 0, &remaining,
                        error);
        return r;
}

typedef struct ReadTask {
        StoreTask task;
        const char *id;
        Tally *done;
        uint64_t left, right;
} ReadTask;

static int read_run(StoreTask *task, StoreConnection *connection, Error *error) {
        ReadTask *read = (ReadTask *)task;
        g_autofree void *document = NULL;
        g_auto(License) license = {};
        int r;

        license_init(&license);
        r = store_snapshot_begin(connection, error);
        if (r != 0)
                return r;
        r = store_license_get(connection, &alice, read->id, UINT64_MAX, &license, &document, error);
        store_snapshot_end(connection);
        if (r == 0) {
                read->left = license_find_counter(&license, "left")->remaining;
                read->right = license_find_counter(&license, "right")->remaining;
        }
        return r;
}

static void read_done(StoreTask *task) {
        tally_add(((ReadTask *)task)->done);
}

typedef struct Watcher {
        World *world;
        pthread_t thread;
        unsigned n_reads, n_uneven, n_failed;
        uint64_t last;
        bool rose;
} Watcher;

static void *watch(void *userdata) {
        Watcher *watcher = userdata;
        World *world = watcher->world;
        g_autoptr(Tally) done = tally_new();

        while (tally_count(world->done) < N_TURNS + 1) {
                ReadTask read = { .task = { .run = read_run, .done = read_done }, .id = world->ids[0],
                        .done = done };

                store_submit_read(world->store, &read.task);
                store_wake_readers(world->store);
                if (!tally_wait(done, ++watcher->n_reads))
                        break;
                watcher->n_failed += read.task.error.code != 0;
                watcher->n_uneven += read.left != read.right;
                watcher->rose = watcher->rose || read.left > watcher->last;
                watcher->last = read.left;
                error_clear(&read.task.error);
        }
        return NULL;
}

static void test_readers_beside_the_writer_see_whole_transactions(void **state) {
        World *world = *state;
        Watcher watchers[N_WATCHERS];

        world->deeds[0].work = put_pair;
        deed_submit(&world->deeds[0], world->store);
        assert_true(tally_wait(world->done, 1));

        for (unsigned i = 0; i < N_WATCHERS; i++) {
                watchers[i] = (Watcher) { .world = world, .last = UINT64_MAX };
                assert_int_equal(pthread_create(&watchers[i].thread, NULL, watch, &watchers[i]), 0);
        }
        for (unsigned i = 1; i <= N_TURNS; i++) {
                world->deeds[i].id = world->ids[0];
                world->deeds[i].work = take_pair;
                deed_submit(&world->deeds[i], world->store);
                g_usleep(500);
        }
        assert_true(tally_wait(world->done, N_TURNS + 1));

        for (unsigned i = 0; i < N_WATCHERS; i++) {
                pthread_join(watchers[i].thread, NULL);
                assert_true(watchers[i].n_reads > 0);
                assert_int_equal(watchers[i].n_failed, 0);
                assert_int_equal(watchers[i].n_uneven, 0);
                assert_false(watchers[i].rose);
        }
}

typedef struct GatedRead {
        StoreTask task;
        World *world;
} GatedRead;

static int read_at_gate(StoreTask *task, StoreConnection *connection, Error *error) {
        World *world = ((GatedRead *)task)->world;

        tally_add(world->at_gate);
        return tally_wait(world->gate, 1) ? 0 : error_set_no_memory(error);
}

static void gated_done(StoreTask *task) {
        tally_add(((GatedRead *)task)->world->done);
}

typedef struct ReadCall {
        StoreCall call;
        pthread_t by;
} ReadCall;

static int note_thread(StoreTask *task, StoreConnection *connection, Error *error) {
        ((ReadCall *)task)->by = pthread_self();
        return 0;
}

static void test_reading_call_is_done_by_who_calls_where_a_connection_is_free(void **state) {
        World *world = *state;
        GatedRead gated[2];
        ReadCall call = { .call.task.run = note_thread };
        g_auto(Error) error = {};

        store_call_read(world->store, &call.call);
        assert_good(store_call_wait(&call.call, &error), &error);
        assert_true(pthread_equal(call.by, pthread_self()));

        /* Both connections are in use. */
        for (unsigned i = 0; i < G_N_ELEMENTS(gated); i++) {
                gated[i] = (GatedRead) { .task = { .run = read_at_gate, .done = gated_done }, .world = world };
                (i > 0 ? store_submit_search : store_submit_read)(world->store, &gated[i].task);
                store_wake_readers(world->store);
        }
        assert_true(tally_wait(world->at_gate, G_N_ELEMENTS(gated)));
        store_call_read(world->store, &call.call);
        tally_add(world->gate);
        assert_good(store_call_wait(&call.call, &error), &error);
        assert_false(pthread_equal(call.by, pthread_self()));
        assert_true(tally_wait(world->done, G_N_ELEMENTS(gated)));
}

/* More than wait for the first thread alone. */
#define MANY_READS 9U

static int read_nothing(StoreTask *task, StoreConnection *connection, Error *error) {
        return 0;
}

static void test_reads_do_not_wait_behind_searches(void **state) {
        World *world = *state;
        GatedRead searches[2], read = { .task = { .run = read_nothing, .done = gated_done }, .world = world };

        for (unsigned i = 0; i < G_N_ELEMENTS(searches); i++) {
                searches[i] = (GatedRead) { .task = { .run = read_at_gate, .done = gated_done }, .world = world };
                store_submit_search(world->store, &searches[i].task);
        }
        store_wake_readers(world->store);
        assert_true(tally_wait(world->at_gate, 1));
        store_submit_read(world->store, &read.task);
        store_wake_readers(world->store);
        assert_true(tally_wait(world->done, 1));

        tally_add(world->gate);
        assert_true(tally_wait(world->done, 1 + G_N_ELEMENTS(searches)));
        /* Nobody has waited for the gate in vain, which would have let the read go first, too. */
        for (unsigned i = 0; i < G_N_ELEMENTS(searches); i++)
                assert_int_equal(searches[i].task.error.code, 0);
}

static void test_many_reads_are_done_beside_one_that_takes_long(void **state) {
        World *world = *state;
        GatedRead first = { .task = { .run = read_at_gate, .done = gated_done }, .world = world };
        GatedRead many[MANY_READS];

        store_submit_read(world->store, &first.task);
        store_wake_readers(world->store);
        assert_true(tally_wait(world->at_gate, 1));
        for (unsigned i = 0; i < MANY_READS; i++) {
                many[i] = (GatedRead) { .task = { .run = read_nothing, .done = gated_done }, .world = world };
                store_submit_read(world->store, &many[i].task);
        }
        store_wake_readers(world->store);
        assert_true(tally_wait(world->done, MANY_READS));

        tally_add(world->gate);
        assert_true(tally_wait(world->done, MANY_READS + 1));
        assert_int_equal(first.task.error.code, 0);
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_many_writes_at_once_are_few_commits),
                IN_WORLD(test_what_is_done_is_in_the_files),
                IN_WORLD(test_failing_write_takes_back_its_own_only),
                IN_WORLD(test_write_that_loses_the_transaction_leaves_the_others),
                IN_WORLD(test_failing_commit_is_tried_again_one_by_one),
                IN_WORLD(test_write_that_cannot_be_committed_alone_fails_alone),
                IN_WORLD(test_writes_tried_again_behind_a_slow_lock_all_come_back),
                IN_WORLD(test_slow_writes_are_committed_in_turns_and_in_order),
                IN_WORLD(test_writes_run_in_the_order_of_their_submission),
                IN_WORLD(test_closing_finishes_what_is_queued),
                IN_WORLD(test_readers_beside_the_writer_see_whole_transactions),
                IN_WORLD(test_reading_call_is_done_by_who_calls_where_a_connection_is_free),
                IN_WORLD(test_reads_do_not_wait_behind_searches),
                IN_WORLD(test_many_reads_are_done_beside_one_that_takes_long),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
