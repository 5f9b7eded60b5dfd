/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "stage-world.h"

/* The merge as a whole: it is all or nothing, and costs the owner what storing would. */

static const StoreOwner carol = { 1002, "carol" };

typedef struct Refusing {
        int64_t restore;
        unsigned n_conflicts, refuse_at;
} Refusing;

static int refuse_conflict(const char *id, const char *key_id, const char *title, void *userdata, Error *error) {
        Refusing *refusing = userdata;

        if (++refusing->n_conflicts == refusing->refuse_at)
                return error_set(error, ERROR_CANCELED, "Not with '%s'.", id);
        return 0;
}

static int merge_refusing(StoreConnection *connection, void *userdata, Error *error) {
        const StoreMergeEvents events = { refuse_conflict, never_unwanted, NULL, userdata };
        Refusing *refusing = userdata;
        StoreMerge result;

        return store_merge(connection, refusing->restore, &events, &result, error);
}

static const Sketch mixed_here[] = {
        { .id = "a", .document = "older", .date = 1, .counters = "x=9" },
        { .id = "b", .document = "ours", .counters = "x=9" },
        { .id = "c", .document = "soon revoked" },
        { .id = "d", .document = "ours" },
        { .id = "e", .counters = "x=9" },
};

static const Sketch mixed_there[] = {
        { .id = "a", .document = "newer", .date = 2, .counters = "x=1", .generation = 3 },
        { .id = "b", .document = "theirs", .counters = "x=1" },
        { .id = "c", .revoked = 50 },
        { .id = "d", .document = "theirs" },
        { .id = "e", .document = "back" },
        { .id = "f", .document = "fresh" },
        { .id = "g", .restricted = true },
};

static const char mixed_after[] =
        "a 'newer' g3 x=1 date=2\nb 'ours' g1 x=1\nc !50 g1\nd 'ours' g1\ne 'back' g1 x=9\nf 'fresh' g1\n"
        "g - g1 restricted\n";

static void test_merge_that_fails_changes_nothing(void **state) {
        StageWorld *world = *state;
        g_autofree char *before = NULL;
        g_auto(Error) error = {};
        StoreMerge result;
        int64_t staged;

        put_here(world, mixed_here, G_N_ELEMENTS(mixed_here));
        stage_there(world, mixed_there, G_N_ELEMENTS(mixed_there));
        before = describe_owner(world->reader, &alice);
        staged = count_staged(world->reader);

        for (unsigned at = 1; at <= 2; at++) {
                Refusing refusing = { .restore = world->stage.restore, .refuse_at = at };

                assert_int_equal(do_write(world->store, merge_refusing, &refusing, &error), ERROR_CANCELED);
                assert_error(&error, ERROR_CANCELED, at == 1 ? "'b'" : "'d'");
                assert_int_equal(refusing.n_conflicts, at);
                error_clear(&error);
                assert_owner(world->reader, &alice, before);
                assert_int_equal(count_staged(world->reader), staged);
                assert_books(world->reader);
        }

        /* The same where the disk says no at the last moment. */
        assert_int_equal(merge_refused(world->store, world->stage.restore, &result, &error), ERROR_STORE_WRITE);
        error_clear(&error);
        assert_owner(world->reader, &alice, before);
        assert_int_equal(count_staged(world->reader), staged);

        result = merge_good(world->store, world->stage.restore);
        assert_merge(&result, &(StoreMerge){ .restored = 3, .conflicts = 2, .revoked = 1 });
        assert_owner(world->reader, &alice, mixed_after);
        assert_books(world->reader);
}

typedef struct Doubting {
        int64_t restore;
        unsigned n_questions, unwanted_at;
} Doubting;

static bool is_unwanted(void *userdata) {
        Doubting *doubting = userdata;

        return ++doubting->n_questions == doubting->unwanted_at;
}

static int merge_doubting(StoreConnection *connection, void *userdata, Error *error) {
        const StoreMergeEvents events = { NULL, is_unwanted, NULL, userdata };
        Doubting *doubting = userdata;
        StoreMerge result;

        return store_merge(connection, doubting->restore, &events, &result, error);
}

/* Of new ids, and of known ones. */
static void test_merge_that_nobody_wants_any_more_changes_nothing(void **state) {
        StageWorld *world = *state;
        Sketch *many = g_new0(Sketch, 5000);

        for (unsigned i = 0; i < 5000; i++)
                many[i] = (Sketch) { .id = g_strdup_printf("id-%04u", i), .document = "doc", .counters = "x=9 y=8" };

        for (unsigned round = 0; round < 2; round++) {
                Doubting doubting = {};
                g_autofree char *before = NULL;
                StoreMerge result;

                for (unsigned i = 0; round == 1 && i < 5000; i++)
                        many[i].counters = "x=1 y=8";
                world->stage = (StoreStage) { .restore = store_restore_begin(world->store) };
                stage_there(world, many, 5000);
                before = describe_owner(world->reader, &alice);
                for (unsigned at = 1; at <= 2; at++) {
                        g_auto(Error) error = {};

                        doubting = (Doubting) { .restore = world->stage.restore, .unwanted_at = at };
                        assert_true(do_write(world->store, merge_doubting, &doubting, &error) != 0);
                        assert_int_equal(doubting.n_questions, at);
                        assert_owner(world->reader, &alice, before);
                }
                result = merge_good(world->store, world->stage.restore);
                assert_int_equal(round == 0 ? result.restored : result.unchanged, 5000);
                store_restore_end(world->store, world->stage.restore);
        }
        assert_books(world->reader);
        for (unsigned i = 0; i < 5000; i++)
                g_free((char *)many[i].id);
        g_free(many);
}

typedef struct Gate {
        Deed deed;
        Tally *open;
} Gate;

/* Holds the writer up until the others are in the queue. */
static int wait_at_gate(Deed *deed, StoreConnection *connection, Error *error) {
        (void)tally_wait(((Gate *)deed)->open, 1);
        return 0;
}

typedef struct MergeDeed {
        Deed deed;
        Refusing refusing;
} MergeDeed;

static int merge_in_the_crowd(Deed *deed, StoreConnection *connection, Error *error) {
        return merge_refusing(connection, &((MergeDeed *)deed)->refusing, error);
}

static void test_merge_that_fails_takes_no_other_write_along(void **state) {
        StageWorld *world = *state;
        g_autoptr(Tally) done = tally_new(), open = tally_new();
        Gate gate = { .deed = { .work = wait_at_gate, .done = done }, .open = open };
        Deed puts[2] = {
                { .work = deed_put, .owner = carol, .id = "x", .document = "d", .done = done },
                { .work = deed_put, .owner = carol, .id = "y", .document = "d", .done = done },
        };
        MergeDeed merging = {
                .deed = { .work = merge_in_the_crowd, .done = done, .task.alone = true },
                .refusing = { .restore = world->stage.restore, .refuse_at = 2 },
        };

        put_here(world, mixed_here, G_N_ELEMENTS(mixed_here));
        stage_there(world, mixed_there, G_N_ELEMENTS(mixed_there));
        deed_submit(&gate.deed, world->store);
        deed_submit(&puts[0], world->store);
        deed_submit(&merging.deed, world->store);
        deed_submit(&puts[1], world->store);
        tally_add(open);
        assert_true(tally_wait(done, 4));

        assert_error(&merging.deed.task.error, ERROR_CANCELED, "'d'");
        assert_int_equal(merging.deed.n_runs, 1);
        for (unsigned i = 0; i < 2; i++) {
                assert_good((int)puts[i].task.error.code, &puts[i].task.error);
                assert_int_equal(puts[i].n_runs, 1);
        }
        assert_owner(world->reader, &carol, "x 'd' g1\ny 'd' g1\n");
        assert_books(world->reader);
        deed_clear(&merging.deed);
}

static void test_failed_merge_leaves_nothing_behind(void **state) {
        StageWorld *world = *state;
        Refusing refusing = { .restore = world->stage.restore, .refuse_at = 2 };
        g_autofree char *before = NULL;
        g_auto(Error) error = {};

        put_here(world, mixed_here, G_N_ELEMENTS(mixed_here));
        before = describe_owner(world->reader, &alice);
        stage_there(world, mixed_there, G_N_ELEMENTS(mixed_there));
        assert_int_equal(do_write(world->store, merge_refusing, &refusing, &error), ERROR_CANCELED);
        store_restore_end(world->store, world->stage.restore);
        wait_swept(world->reader);
        assert_owner(world->reader, &alice, before);
        assert_books(world->reader);
}

static void test_merge_counts_in_the_store_and_for_its_owner(void **state) {
        StageWorld *world = *state;
        g_autoptr(GPtrArray) owners = g_ptr_array_new();
        g_auto(Error) error = {};
        const StoreOwnerRow *row;

        put_here(world, mixed_here, G_N_ELEMENTS(mixed_here));
        assert_int_equal(store_count(world->store), 4);
        stage_there(world, mixed_there, G_N_ELEMENTS(mixed_there));
        stage_there(world, &(Sketch){ .id = "h", .document = "h" }, 1);
        put_here(world, &(Sketch){ .id = "h", .document = "h", .restricted = true }, 1);
        merge_good(world->store, world->stage.restore);
        assert_int_equal(store_count(world->store), 6);

        assert_good(store_snapshot_begin(world->reader, &error), &error);
        assert_good(store_snapshot_owners(world->reader, alice.uid, alice.name, owners, &error), &error);
        store_snapshot_end(world->reader);
        assert_int_equal(owners->len, 1);
        row = owners->pdata[0];
        assert_int_equal(row->licenses, 6);
        assert_int_equal(row->restricted, 1);
}

static int put_code(StageWorld *world, const char *id, const char *words) {
        g_auto(Deed) deed = { .work = deed_put, .owner = alice, .id = id, .document = "document" };
        int r = deed_do(&deed, world->store);

        if (r != 0)
                assert_error(&deed.task.error, ERROR_LIMIT_EXCEEDED, words);
        return r;
}

/* Whoever got licenses by a restore is charged for them as one who stored them. */
static void test_limits_after_a_merge_are_those_of_storing(void **state) {
        static const Sketch licenses[] = {
                { .id = "a", .document = "newer", .date = 2, .counters = "x=1 y=2", .title = "Title" },
                { .id = "b", .document = "fresh", .counters = "xyz=2", .key_id = "key", .issuer = "issuer" },
                { .id = "c", .document = "ours", .media_type = "type" },
                { .id = "d", .revoked = 5, .counters = "x=1" },
        };
        static const Sketch here[] = {
                { .id = "a", .document = "what is older, and longer", .date = 1, .counters = "y=2" },
                { .id = "c", .document = "ours" },
                { .id = "d", .document = "soon revoked", .title = "Title" },
        };
        StageWorld *world = *state;
        StoreLimits limits = no_limits;
        uint64_t *const counted[] = { &limits.licenses_per_user, &limits.remembered_per_user,
                &limits.bytes_per_user };
        static const char *const columns[] = { "licenses", "remembered", "bytes" };
        static const char *const settings[] = { "LicensesPerUser=", "RememberedPerUser=", "BytesPerUser=" };

        put_here(world, here, G_N_ELEMENTS(here));
        stage_there(world, licenses, G_N_ELEMENTS(licenses));
        merge_good(world->store, world->stage.restore);
        store_restore_end(world->store, world->stage.restore);
        for (size_t i = 0; i < G_N_ELEMENTS(licenses); i++)
                sketch_put(world->store, &carol, &licenses[i]);
        put(world->store, &alice, "a", "document");

        /* carol stored the same, in a store that never saw a restore of hers. */
        put(world->store, &carol, "a", "document");
        for (size_t i = 0; i < 3; i++) {
                g_autofree char *alices = g_strdup_printf("SELECT %s FROM owners WHERE uid = 1000", columns[i]);
                g_autofree char *carols = g_strdup_printf("SELECT %s FROM owners WHERE uid = 1002", columns[i]);

                *counted[i] = (uint64_t)ask(world->reader, alices);
                assert_int_equal(*counted[i], ask(world->reader, carols));
        }

        for (size_t i = 0; i < 3; i++) {
                store_set_limits(world->store, &limits);
                assert_int_equal(put_code(world, "a", ""), 0);
                assert_int_equal(put_code(world, "one more", settings[i]), ERROR_LIMIT_EXCEEDED);
                *counted[i] += i == 2 ? 64 + strlen("one more") + strlen("document") - 1 : 1;
        }
        store_set_limits(world->store, &limits);
        assert_int_equal(put_code(world, "one more", "BytesPerUser="), ERROR_LIMIT_EXCEEDED);
        limits.bytes_per_user++;
        store_set_limits(world->store, &limits);
        assert_int_equal(put_code(world, "one more", ""), 0);
        assert_books(world->reader);
}

/* Each limit again when all is read: it may have been lowered since, and the store went on. */
static void test_merge_over_a_limit_changes_nothing(void **state) {
        StageWorld *world = *state;
        g_autofree char *before = NULL;
        StoreLimits exact = {};

        put_here(world, mixed_here, G_N_ELEMENTS(mixed_here));
        before = describe_owner(world->reader, &alice);
        stage_there(world, mixed_there, G_N_ELEMENTS(mixed_there));

        for (unsigned i = 0; i < 5; i++) {
                StoreLimits limits = no_limits;
                static const char *const settings[] = { "LicensesPerUser=", "RememberedPerUser=", "BytesPerUser=",
                        "MinimumFreePercent=", "StoreBytes=" };
                g_auto(Error) error = {};
                StoreMerge result;

                if (i == 0)
                        limits.licenses_per_user = 4;
                else if (i == 1)
                        limits.remembered_per_user = 6;
                else if (i == 2)
                        limits.bytes_per_user = (uint64_t)ask(world->reader, "SELECT bytes FROM owners");
                else if (i == 3)
                        limits.minimum_free_percent = 1000;
                else
                        limits.store_bytes = 1;
                store_set_limits(world->store, &limits);
                assert_int_equal(merge(world->store, world->stage.restore, &result, NULL, &error),
                        code_of_limit(settings[i]));
                assert_error(&error, code_of_limit(settings[i]), settings[i]);
                assert_owner(world->reader, &alice, before);
                assert_books(world->reader);
        }

        exact = no_limits;
        exact.licenses_per_user = 5;
        exact.remembered_per_user = 7;
        store_set_limits(world->store, &exact);
        merge_good(world->store, world->stage.restore);
        assert_owner(world->reader, &alice, mixed_after);
}

/* A backup of all users: one merge, of all or of none. */
static void test_owners_of_one_restore_are_merged_together_each_for_itself(void **state) {
        static const Sketch there[] = {
                { .id = "a", .document = "theirs", .date = 2, .counters = "x=3" },
                { .id = "b", .document = "fresh", .counters = "x=3" },
        };
        StageWorld *world = *state;
        StoreStage bobs = { .restore = world->stage.restore }, carols = bobs;
        StoreLimits limits = no_limits;
        g_auto(Error) error = {};
        StoreMerge result;

        sketch_put(world->store, &alice, &(Sketch){ .id = "a", .document = "ours", .date = 1, .counters = "x=1" });
        sketch_put(world->store, &carol, &(Sketch){ .id = "a", .revoked = 50, .counters = "x=9" });
        sketch_put(world->store, &carol, &(Sketch){ .id = "c", .document = "carol's" });
        stage_there(world, there, 2);
        sketch_stage_good(world->store, &bobs, &bob, there, 2);
        sketch_stage_good(world->store, &carols, &carol, there, 2);

        /* Too much for the last of them: nothing for all. */
        limits.licenses_per_user = 1;
        store_set_limits(world->store, &limits);
        assert_int_equal(merge(world->store, world->stage.restore, &result, NULL, &error), ERROR_LIMIT_EXCEEDED);
        assert_owner(world->reader, &alice, "a 'ours' g1 x=1 date=1\n");
        assert_owner(world->reader, &bob, "");
        assert_owner(world->reader, &carol, "a !50 g1 x=9\nc 'carol\'s' g1\n");

        limits.licenses_per_user = 2;
        store_set_limits(world->store, &limits);
        result = merge_good(world->store, world->stage.restore);
        assert_merge(&result, &(StoreMerge){ .restored = 5, .revoked = 1 });
        store_restore_end(world->store, world->stage.restore);
        wait_swept(world->reader);
        assert_owner(world->reader, &alice, "a 'theirs' g1 x=1 date=2\nb 'fresh' g1 x=3\n");
        assert_owner(world->reader, &bob, "a 'theirs' g1 x=3 date=2\nb 'fresh' g1 x=3\n");
        assert_owner(world->reader, &carol, "a !50 g1 x=3\nb 'fresh' g1 x=3\nc 'carol\'s' g1\n");
        assert_books(world->reader);
        assert_int_equal(store_count(world->store), 6);
}

static void test_snapshot_from_before_still_reads_the_old_licenses(void **state) {
        StageWorld *world = *state;
        g_autofree char *before = NULL;
        g_autoptr(StoreConnection) other = NULL;
        g_auto(Error) error = {};

        assert_good(store_connect(world->store, &other, &error), &error);
        put_here(world, mixed_here, G_N_ELEMENTS(mixed_here));
        assert_good(store_snapshot_begin(world->reader, &error), &error);
        before = describe_owner(world->reader, &alice);

        stage_there(world, mixed_there, G_N_ELEMENTS(mixed_there));
        assert_owner(world->reader, &alice, before);
        merge_good(world->store, world->stage.restore);
        assert_owner(world->reader, &alice, before);
        store_restore_end(world->store, world->stage.restore);
        wait_swept(other);
        assert_owner(world->reader, &alice, before);
        assert_owner(other, &alice, mixed_after);

        store_snapshot_end(world->reader);
        assert_owner(world->reader, &alice, mixed_after);
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, stage_world_setup, stage_world_teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_merge_that_fails_changes_nothing),
                IN_WORLD(test_merge_that_nobody_wants_any_more_changes_nothing),
                IN_WORLD(test_merge_that_fails_takes_no_other_write_along),
                IN_WORLD(test_failed_merge_leaves_nothing_behind),
                IN_WORLD(test_merge_counts_in_the_store_and_for_its_owner),
                IN_WORLD(test_limits_after_a_merge_are_those_of_storing),
                IN_WORLD(test_merge_over_a_limit_changes_nothing),
                IN_WORLD(test_owners_of_one_restore_are_merged_together_each_for_itself),
                IN_WORLD(test_snapshot_from_before_still_reads_the_old_licenses),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
