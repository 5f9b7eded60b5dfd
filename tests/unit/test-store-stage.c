/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "stage-world.h"

/* What a restore stages: seen by nobody, held to the limits, gone without a merge. */

#define NOW INT64_C(1700000000)

static const StoreOwner carol = { 1002, "carol" };

/* The result of staging one sketch of alice's, in a transaction of its own. */
static StageResult stage_part(StageWorld *world, unsigned what, const Sketch *sketch) {
        g_auto(Error) error = {};
        StageResult result;

        assert_good(sketch_stage(world->store, &world->stage, &alice, what, sketch, 1, &result, &error), &error);
        return result;
}

static int get_code(StoreConnection *connection, const StoreOwner *owner, const char *id) {
        g_autofree void *document = NULL;
        g_auto(License) license = {};
        g_auto(Error) error = {};

        license_init(&license);
        return store_license_get(connection, owner, id, UINT64_MAX, &license, &document, &error);
}

/* All that apps and jobs can see of alice's is 'one' in its first form, and what is remembered of 'old'. */
static void assert_only_the_old_is_seen(StageWorld *world) {
        const StoreFilter any = { .valid_at = LICENSE_NO_TIME, .allow_backup = -1 };
        g_autoptr(GPtrArray) licenses = g_ptr_array_new(), owners = g_ptr_array_new();
        g_autofree char *next = NULL;
        g_auto(Error) error = {};
        const StoreOwnerRow *row;

        assert_int_equal(get_code(world->reader, &alice, "one"), 0);
        assert_int_equal(get_code(world->reader, &alice, "old"), ERROR_LICENSE_UNAVAILABLE);
        assert_int_equal(get_code(world->reader, &alice, "new"), ERROR_LICENSE_UNAVAILABLE);
        assert_int_equal(store_count(world->store), 1);

        assert_good(store_license_enumerate(world->reader, &alice, &any, "", 100, UINT64_MAX, licenses, &next,
                            &error), &error);
        assert_int_equal(licenses->len, 1);
        assert_string_equal(((License *)licenses->pdata[0])->id, "one");
        assert_string_equal(next, "");

        assert_good(store_snapshot_begin(world->reader, &error), &error);
        assert_good(store_snapshot_owners(world->reader, alice.uid, alice.name, owners, &error), &error);
        assert_int_equal(owners->len, 1);
        row = owners->pdata[0];
        assert_int_equal(row->licenses, 1);
        assert_int_equal(row->restricted, 0);
        assert_owner(world->reader, &alice, "old - g1 print=4\none 'first' g1 print=9\n");
        store_snapshot_end(world->reader);
        assert_books(world->reader);
}

static const Sketch here[] = {
        { .id = "one", .document = "first", .counters = "print=9" },
        { .id = "old", .counters = "print=4" },
};

static const Sketch coming[] = {
        { .id = "one", .document = "second", .date = 5, .generation = 7, .counters = "print=1" },
        { .id = "old", .revoked = NOW },
        { .id = "new", .document = "new" },
        { .id = "secret", .restricted = true },
};

static void test_what_is_staged_is_seen_by_nobody(void **state) {
        StageWorld *world = *state;
        int64_t pages;

        put_here(world, here, G_N_ELEMENTS(here));
        assert_only_the_old_is_seen(world);
        pages = ask(world->reader, "SELECT count(*) FROM documents");
        stage_there(world, coming, G_N_ELEMENTS(coming));
        /* It is there all the same: the merge is to move nothing. */
        assert_int_equal(ask(world->reader, "SELECT count(*) FROM documents"), pages + 2);
        assert_int_equal(ask(world->reader, "SELECT count(*) FROM staged_ids"), 4);
        assert_only_the_old_is_seen(world);
}

static void test_what_was_not_merged_never_was(void **state) {
        StageWorld *world = *state;

        put_here(world, here, G_N_ELEMENTS(here));
        stage_there(world, coming, G_N_ELEMENTS(coming));
        store_restore_end(world->store, world->stage.restore);
        assert_only_the_old_is_seen(world);
        wait_swept(world->reader);
        assert_only_the_old_is_seen(world);
}

static void test_merge_of_another_restore_takes_nothing_of_this_one(void **state) {
        StageWorld *world = *state;
        int64_t other = store_restore_begin(world->store);
        const StoreMerge nothing = {};
        StoreMerge result;

        assert_true(other != world->stage.restore);
        put_here(world, here, G_N_ELEMENTS(here));
        stage_there(world, coming, G_N_ELEMENTS(coming));
        result = merge_good(world->store, other);
        assert_merge(&result, &nothing);
        assert_only_the_old_is_seen(world);
}

static int use_staged(StoreConnection *connection, void *userdata, Error *error) {
        uint64_t left;

        if (get_code(connection, &alice, "new") != ERROR_LICENSE_UNAVAILABLE ||
            store_license_consume(connection, &alice, "new", "print", 1, NOW, &left, error) !=
                    ERROR_LICENSE_UNAVAILABLE ||
            store_license_delete(connection, &alice, "new", error) != ERROR_LICENSE_UNAVAILABLE ||
            store_license_revoke(connection, &alice, "new", NOW, error) != ERROR_LICENSE_UNAVAILABLE)
                return error_set(error, ERROR_INVALID_ARGUMENTS, "A staged license was found.");
        error_clear(error);
        return 0;
}

static void test_staged_license_cannot_be_used(void **state) {
        StageWorld *world = *state;
        g_auto(Error) error = {};

        stage_there(world, coming, G_N_ELEMENTS(coming));
        assert_good(do_write(world->store, use_staged, NULL, &error), &error);
}

static void test_id_is_staged_once(void **state) {
        const Sketch a = { .id = "a", .document = "d" }, b = { .id = "b" };
        StageWorld *world = *state;

        assert_int_equal(stage_part(world, SKETCH_STATES, &a), STAGE_GOOD);
        assert_int_equal(stage_part(world, SKETCH_STATES, &a), STAGE_TWICE);
        assert_int_equal(stage_part(world, SKETCH_DOCUMENTS, &a), STAGE_GOOD);
        assert_int_equal(stage_part(world, SKETCH_DOCUMENTS, &a), STAGE_TWICE);
        assert_int_equal(stage_part(world, SKETCH_STATES, &a), STAGE_TWICE);
        assert_int_equal(stage_part(world, SKETCH_STATES, &b), STAGE_GOOD);
        assert_int_equal(world->stage.remembered, 2);
        assert_int_equal(world->stage.licenses, 1);
}

static void test_id_is_staged_once_in_one_transaction_too(void **state) {
        const Sketch both[] = { { .id = "a", .document = "1" }, { .id = "a", .document = "2" } };
        StageWorld *world = *state;
        g_auto(Error) error = {};
        StageResult result;

        assert_good(sketch_stage(world->store, &world->stage, &alice, SKETCH_ALL, both, 2, &result, &error), &error);
        assert_int_equal(result, STAGE_TWICE);
}

static void test_each_owner_and_each_restore_has_its_own_ids(void **state) {
        const Sketch a = { .id = "a", .document = "d" };
        StageWorld *world = *state;
        StoreStage bobs = { .restore = world->stage.restore };
        StoreStage other = { .restore = store_restore_begin(world->store) };

        stage_there(world, &a, 1);
        sketch_stage_good(world->store, &bobs, &bob, &a, 1);
        sketch_stage_good(world->store, &other, &alice, &a, 1);
}

static void test_document_needs_a_state_of_its_own_restore_and_owner(void **state) {
        const Sketch a = { .id = "a", .document = "d" };
        StageWorld *world = *state;
        StoreStage bobs = { .restore = world->stage.restore };
        StoreStage other = { .restore = store_restore_begin(world->store) };
        g_auto(Error) error = {};
        StageResult result;

        sketch_put(world->store, &alice, &a);
        assert_int_equal(stage_part(world, SKETCH_DOCUMENTS, &a), STAGE_UNKNOWN);
        assert_int_equal(stage_part(world, SKETCH_STATES, &a), STAGE_GOOD);
        assert_good(sketch_stage(world->store, &bobs, &bob, SKETCH_DOCUMENTS, &a, 1, &result, &error), &error);
        assert_int_equal(result, STAGE_UNKNOWN);
        assert_good(sketch_stage(world->store, &other, &alice, SKETCH_DOCUMENTS, &a, 1, &result, &error), &error);
        assert_int_equal(result, STAGE_UNKNOWN);
        assert_int_equal(stage_part(world, SKETCH_DOCUMENTS, &a), STAGE_GOOD);
}

static void test_document_that_contradicts_its_state_is_told(void **state) {
        static const struct {
                Sketch state, document;
                StageResult result;
        } cases[] = {
                { { .revoked = NOW }, {}, STAGE_CONTRADICTS },
                { { .restricted = true }, {}, STAGE_CONTRADICTS },
                { { .generation = 3 }, { .generation = 2 }, STAGE_CONTRADICTS },
                { { .generation = 3 }, { .generation = 4 }, STAGE_CONTRADICTS },
                { { .counters = "a=1" }, { .counters = "a=2" }, STAGE_CONTRADICTS },
                { { .counters = "a=1" }, { .counters = "a=0" }, STAGE_CONTRADICTS },
                { { .counters = "a=1" }, { .counters = "b=1" }, STAGE_CONTRADICTS },
                { { .counters = "a=1" }, {}, STAGE_CONTRADICTS },
                { {}, { .counters = "a=1" }, STAGE_CONTRADICTS },
                { { .counters = "a=1 b=2" }, { .counters = "a=1" }, STAGE_CONTRADICTS },
                { { .counters = "a=1" }, { .counters = "a=1 b=2" }, STAGE_CONTRADICTS },
                { { .counters = "a=1 b=0", .generation = 3 }, { .counters = "b=0 a=1", .generation = 3 }, STAGE_GOOD },
                { {}, {}, STAGE_GOOD },
        };
        StageWorld *world = *state;

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autofree char *id = g_strdup_printf("id-%zu", i);
                Sketch first = cases[i].state, second = cases[i].document;

                first.id = second.id = id;
                second.document = "d";
                assert_int_equal(stage_part(world, SKETCH_STATES, &first), STAGE_GOOD);
                assert_int_equal(stage_part(world, SKETCH_DOCUMENTS, &second), cases[i].result);
        }
        /* What contradicts is not staged. */
        assert_int_equal(ask(world->reader, "SELECT count(*) FROM staged_licenses"), 2);
        assert_int_equal(ask(world->reader, "SELECT count(*) FROM documents"), 2);
}

static void set_limits(StageWorld *world, StoreLimits limits) {
        store_set_limits(world->store, &limits);
}

static void assert_refused(StageWorld *world, unsigned what, const Sketch *sketches, size_t n, const char *setting) {
        int64_t staged = count_staged(world->reader);
        StoreStage before = world->stage;
        g_auto(Error) error = {};
        StageResult result;

        assert_int_equal(sketch_stage(world->store, &world->stage, &alice, what, sketches, n, &result, &error),
                code_of_limit(setting));
        assert_error(&error, code_of_limit(setting), setting);
        assert_int_equal(count_staged(world->reader), staged);
        assert_memory_equal(&world->stage, &before, sizeof before);
}

static const Sketch three[] = {
        { .id = "a", .document = "123456", .counters = "print=1", .title = "Title", .key_id = "key" },
        { .id = "b", .document = "1234567", .issuer = "issuer", .media_type = "type" },
        { .id = "c", .document = "12345678" },
};

static void test_document_may_not_be_larger_than_allowed(void **state) {
        StageWorld *world = *state;
        StoreLimits limits = no_limits;

        limits.document_bytes = 7;
        set_limits(world, limits);
        stage_there(world, three, 2);
        assert_refused(world, SKETCH_ALL, &three[2], 1, "DocumentBytes=");
}

static void test_licenses_may_not_be_more_than_allowed(void **state) {
        const Sketch gone = { .id = "gone" }, again = { .id = "gone", .document = "d" };
        StageWorld *world = *state;
        StoreLimits limits = no_limits;

        sketch_put(world->store, &bob, &three[0]);
        sketch_put(world->store, &bob, &three[1]);
        sketch_put(world->store, &alice, &three[2]);
        sketch_put(world->store, &alice, &gone);
        limits.licenses_per_user = 2;
        set_limits(world, limits);

        /* A state is no license, and one that is here is none more; nor does one count twice. */
        stage_there(world, &three[0], 1);
        stage_there(world, &three[2], 1);
        assert_int_equal(stage_part(world, SKETCH_STATES, &three[1]), STAGE_GOOD);
        assert_refused(world, SKETCH_DOCUMENTS, &three[1], 1, "LicensesPerUser=");
        assert_int_equal(stage_part(world, SKETCH_STATES, &again), STAGE_GOOD);
        assert_refused(world, SKETCH_DOCUMENTS, &again, 1, "LicensesPerUser=");
}

static void test_licenses_of_one_transaction_count_together(void **state) {
        StageWorld *world = *state;
        StoreLimits limits = no_limits;

        limits.licenses_per_user = 2;
        set_limits(world, limits);
        assert_refused(world, SKETCH_ALL, three, 3, "LicensesPerUser=");
        stage_there(world, three, 2);
}

static void test_ids_may_not_be_more_than_are_remembered(void **state) {
        const Sketch gone = { .id = "gone" };
        StageWorld *world = *state;
        StoreLimits limits = no_limits;

        sketch_put(world->store, &alice, &gone);
        limits.remembered_per_user = 3;
        set_limits(world, limits);
        stage_there(world, &gone, 1);
        stage_there(world, three, 2);
        assert_refused(world, SKETCH_STATES, &three[2], 1, "RememberedPerUser=");
}

/* What owners with those licenses, and no more, are charged with. */
static uint64_t charge_of(StageWorld *world, const Sketch *sketches, size_t n) {
        static const StoreOwner twin = { 2000, "twin" };
        static const char sql[] = "SELECT bytes FROM owners WHERE uid = 2000";
        uint64_t before = 0;

        if (ask(world->reader, "SELECT count(*) FROM owners WHERE uid = 2000") > 0)
                before = (uint64_t)ask(world->reader, sql);
        for (size_t i = 0; i < n; i++)
                sketch_put(world->store, &twin, &sketches[i]);
        return (uint64_t)ask(world->reader, sql) - before;
}

static void test_bytes_may_not_be_more_than_allowed(void **state) {
        StageWorld *world = *state;
        uint64_t first = charge_of(world, three, 1), rest = charge_of(world, &three[1], 2);
        StoreLimits limits = no_limits;

        sketch_put(world->store, &alice, &three[0]);
        limits.bytes_per_user = first + rest - 1;
        set_limits(world, limits);
        stage_there(world, three, 2);
        assert_refused(world, SKETCH_ALL, &three[2], 1, "BytesPerUser=");

        limits.bytes_per_user++;
        set_limits(world, limits);
        stage_there(world, &three[2], 1);
        assert_int_equal(world->stage.bytes, rest);
        assert_int_equal(world->stage.licenses, 2);
        assert_int_equal(world->stage.remembered, 2);
}

static void test_document_that_is_larger_here_counts_by_what_it_grows(void **state) {
        const Sketch small = { .id = "a", .document = "123", .title = "T" };
        const Sketch large = { .id = "a", .document = "1234567", .title = "Title", .date = 5 };
        StageWorld *world = *state;
        StoreLimits limits = no_limits;

        sketch_put(world->store, &alice, &small);
        limits.bytes_per_user = (uint64_t)ask(world->reader, "SELECT bytes FROM owners") + 7;
        set_limits(world, limits);
        assert_refused(world, SKETCH_ALL, &large, 1, "BytesPerUser=");
        limits.bytes_per_user++;
        set_limits(world, limits);
        stage_there(world, &large, 1);
}

/* Low marks of what is known are not written for nothing, or a user would fill the disk with them. */
static void test_state_that_is_larger_than_what_is_here_counts(void **state) {
        const Sketch bare = { .id = "a" }, marked = { .id = "a", .counters = "one=1 two=2" };
        StageWorld *world = *state;
        StoreLimits limits = no_limits;

        sketch_put(world->store, &alice, &bare);
        limits.bytes_per_user = (uint64_t)ask(world->reader, "SELECT bytes FROM owners") + 2 * (64 + 3) - 1;
        set_limits(world, limits);
        assert_refused(world, SKETCH_STATES, &marked, 1, "BytesPerUser=");
        limits.bytes_per_user++;
        set_limits(world, limits);
        stage_there(world, &marked, 1);
        assert_int_equal(world->stage.bytes, 2 * (64 + 3));
        assert_int_equal(world->stage.remembered, 0);
}

static void test_nothing_is_staged_on_a_disk_that_is_nearly_full(void **state) {
        StageWorld *world = *state;
        StoreLimits limits = no_limits;

        assert_int_equal(stage_part(world, SKETCH_STATES, &three[0]), STAGE_GOOD);
        limits.minimum_free_percent = 1000;
        set_limits(world, limits);
        assert_refused(world, SKETCH_STATES, &three[1], 1, "MinimumFreePercent=");
        assert_refused(world, SKETCH_DOCUMENTS, &three[0], 1, "MinimumFreePercent=");
}

static void test_nothing_is_staged_in_a_store_that_is_full(void **state) {
        StageWorld *world = *state;
        StoreLimits limits = no_limits;

        assert_int_equal(stage_part(world, SKETCH_STATES, &three[0]), STAGE_GOOD);
        limits.store_bytes = 1;
        set_limits(world, limits);
        assert_refused(world, SKETCH_STATES, &three[1], 1, "StoreBytes=");
        assert_refused(world, SKETCH_DOCUMENTS, &three[0], 1, "StoreBytes=");
}

static void test_restore_of_what_is_here_fits_into_limits_that_are_reached(void **state) {
        const StoreMerge expected = { .unchanged = 3 };
        StageWorld *world = *state;
        StoreLimits limits = no_limits;
        g_autofree char *before = NULL;
        StoreMerge result;

        for (size_t i = 0; i < 3; i++)
                sketch_put(world->store, &alice, &three[i]);
        before = describe_owner(world->reader, &alice);
        for (unsigned i = 0; i < 2; i++) {
                StoreStage stage = { .restore = store_restore_begin(world->store) };

                /* First exactly at them, then far over them: they were lowered since. */
                limits.licenses_per_user = limits.remembered_per_user = i ? 1 : 3;
                limits.bytes_per_user = i ? 1 : (uint64_t)ask(world->reader, "SELECT bytes FROM owners");
                set_limits(world, limits);
                sketch_stage_good(world->store, &stage, &alice, three, 3);
                assert_int_equal(stage.licenses + stage.remembered + stage.bytes, 0);
                result = merge_good(world->store, stage.restore);
                assert_merge(&result, &expected);
                assert_owner(world->reader, &alice, before);
                store_restore_end(world->store, stage.restore);
        }
        assert_books(world->reader);
}

static void test_license_stored_meanwhile_is_one_of_the_merge(void **state) {
        const Sketch staged[] = {
                { .id = "fresh", .document = "theirs", .date = 5, .generation = 4, .counters = "print=5" },
                { .id = "stale", .document = "theirs", .date = 5 },
                { .id = "gone", .document = "d", .counters = "print=8" },
                { .id = "dead", .document = "d" },
        };
        const Sketch newer = { .id = "fresh", .document = "ours", .date = 6, .counters = "copy=2 print=7" };
        const Sketch older = { .id = "stale", .document = "ours", .date = 4, .generation = 2 };
        const Sketch deleted = { .id = "gone", .counters = "print=2" };
        const Sketch revoked = { .id = "dead", .revoked = NOW };
        const StoreMerge expected = { .restored = 2, .newer_kept = 1, .revoked = 1 };
        StageWorld *world = *state;
        StoreMerge result;

        stage_there(world, staged, 4);
        sketch_put(world->store, &alice, &newer);
        sketch_put(world->store, &alice, &older);
        sketch_put(world->store, &alice, &deleted);
        sketch_put(world->store, &alice, &revoked);

        result = merge_good(world->store, world->stage.restore);
        assert_merge(&result, &expected);
        assert_owner(world->reader, &alice,
                "dead !1700000000 g1\n"
                "fresh 'ours' g4 copy=2 print=5 date=6\n"
                "gone 'd' g1 print=2\n"
                "stale 'theirs' g2 date=5\n");
        assert_books(world->reader);
        store_restore_end(world->store, world->stage.restore);
        wait_swept(world->reader);
        assert_books(world->reader);
}

/* Stored while a restore holds the rest of the limit: whoever comes second is refused, and the limit holds. */
static void test_limit_holds_for_a_license_stored_before_the_merge(void **state) {
        StageWorld *world = *state;
        StoreLimits limits = no_limits;
        g_auto(Deed) deed = { .work = deed_put, .owner = alice, .id = "c", .document = "d" };
        g_autofree char *before = NULL;
        g_auto(Error) error = {};
        StoreMerge result;
        int put_code, code;

        limits.licenses_per_user = 2;
        set_limits(world, limits);
        stage_there(world, three, 2);
        put_code = deed_do(&deed, world->store);
        before = describe_owner(world->reader, &alice);

        code = merge(world->store, world->stage.restore, &result, NULL, &error);
        assert_true(store_count(world->store) <= 2);
        if (put_code == 0) {
                assert_int_equal(code, ERROR_LIMIT_EXCEEDED);
                assert_error(&error, ERROR_LIMIT_EXCEEDED, "LicensesPerUser=");
                assert_owner(world->reader, &alice, before);
        } else {
                assert_int_equal(put_code, ERROR_LIMIT_EXCEEDED);
                assert_good(code, &error);
        }
        assert_books(world->reader);
}

static void test_restores_side_by_side_are_merged_each_for_itself(void **state) {
        const Sketch ours = { .id = "a", .document = "0", .date = 1, .counters = "x=9" };
        const Sketch first[] = { { .id = "a", .document = "1", .date = 2 }, { .id = "b", .document = "b" } };
        const Sketch second[] = { { .id = "a", .document = "2", .date = 3, .counters = "x=1" },
                { .id = "c", .document = "c" } };
        const Sketch bobs[] = { { .id = "a", .document = "bob's" } };
        StageWorld *world = *state;
        StoreStage stages[3] = {
                { .restore = store_restore_begin(world->store) },
                { .restore = store_restore_begin(world->store) },
                { .restore = store_restore_begin(world->store) },
        };
        StoreMerge result;

        sketch_put(world->store, &alice, &ours);
        for (unsigned i = 0; i < 2; i++) {
                sketch_stage_good(world->store, &world->stage, &alice, &second[i], 1);
                sketch_stage_good(world->store, &stages[0], &alice, &first[i], 1);
                sketch_stage_good(world->store, &stages[1], &alice, &second[i], 1);
        }
        sketch_stage_good(world->store, &stages[2], &bob, bobs, 1);

        /* In the midst of others that began before and after it. */
        result = merge_good(world->store, stages[0].restore);
        assert_merge(&result, &(StoreMerge){ .restored = 2 });
        assert_owner(world->reader, &alice, "a '1' g1 x=9 date=2\nb 'b' g1\n");
        assert_owner(world->reader, &bob, "");
        assert_books(world->reader);
        store_restore_end(world->store, world->stage.restore);

        result = merge_good(world->store, stages[2].restore);
        assert_merge(&result, &(StoreMerge){ .restored = 1 });
        result = merge_good(world->store, stages[1].restore);
        assert_merge(&result, &(StoreMerge){ .restored = 2 });

        for (unsigned i = 0; i < 3; i++)
                store_restore_end(world->store, stages[i].restore);
        wait_swept(world->reader);
        assert_owner(world->reader, &alice, "a '2' g1 x=1 date=3\nb 'b' g1\nc 'c' g1\n");
        assert_owner(world->reader, &bob, "a 'bob\'s' g1\n");
        assert_books(world->reader);
        assert_int_equal(store_count(world->store), 4);
}

static void test_ending_one_restore_leaves_the_others_staged(void **state) {
        StageWorld *world = *state;
        StoreStage other = { .restore = store_restore_begin(world->store) };
        StoreStage bobs = { .restore = store_restore_begin(world->store) };
        int64_t end;

        stage_there(world, three, 3);
        sketch_stage_good(world->store, &other, &alice, three, 3);
        sketch_stage_good(world->store, &bobs, &bob, three, 3);
        store_restore_end(world->store, other.restore);
        for (end = g_get_monotonic_time() + 30 * G_USEC_PER_SEC; g_get_monotonic_time() < end; g_usleep(1000))
                if (ask(world->reader, "SELECT count(DISTINCT restore) FROM staged_ids") == 2)
                        break;

        /* Other writes give the writer time to take too much. */
        for (unsigned i = 0; i < 5; i++)
                put(world->store, &carol, "id", "document");
        assert_int_equal(merge_good(world->store, bobs.restore).restored, 3);
        assert_int_equal(merge_good(world->store, world->stage.restore).restored, 3);
        assert_books(world->reader);
}

static void test_staging_that_has_to_run_again_starts_afresh(void **state) {
        StageWorld *world = *state;
        g_auto(Error) error = {};
        StageResult result;
        StoreMerge merged;

        assert_good(sketch_stage_twice(world->store, &world->stage, &alice, three, 3, &result, &error), &error);
        assert_int_equal(result, STAGE_GOOD);
        assert_int_equal(world->stage.licenses, 3);
        assert_int_equal(world->stage.remembered, 3);
        assert_int_equal(world->stage.bytes, charge_of(world, three, 3));
        assert_int_equal(ask(world->reader, "SELECT count(*) FROM staged_ids"), 3);

        merged = merge_good(world->store, world->stage.restore);
        assert_merge(&merged, &(StoreMerge){ .restored = 3 });
        assert_books(world->reader);
}

static int spoil_books(StoreConnection *connection, void *userdata, Error *error) {
        return store_run_for_key(connection, "UPDATE owners SET bytes = bytes | ?", INT64_C(1) << 62, error);
}

/* Of what an owner is charged with a bit has flipped: the restore is not refused for that. */
static void test_wrong_books_are_set_right_before_a_limit_refuses_a_restore(void **state) {
        StageWorld *world = *state;
        StoreLimits limits = no_limits;
        g_auto(Error) error = {};

        put(world->store, &alice, "one", "d");
        limits.bytes_per_user = 1000 * 1000;
        set_limits(world, limits);
        assert_good(do_write(world->store, spoil_books, NULL, &error), &error);
        stage_there(world, three, 2);
        (void)merge_good(world->store, world->stage.restore);
        assert_books(world->reader);
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, stage_world_setup, stage_world_teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_what_is_staged_is_seen_by_nobody),
                IN_WORLD(test_what_was_not_merged_never_was),
                IN_WORLD(test_merge_of_another_restore_takes_nothing_of_this_one),
                IN_WORLD(test_staged_license_cannot_be_used),
                IN_WORLD(test_id_is_staged_once),
                IN_WORLD(test_id_is_staged_once_in_one_transaction_too),
                IN_WORLD(test_each_owner_and_each_restore_has_its_own_ids),
                IN_WORLD(test_document_needs_a_state_of_its_own_restore_and_owner),
                IN_WORLD(test_document_that_contradicts_its_state_is_told),
                IN_WORLD(test_document_may_not_be_larger_than_allowed),
                IN_WORLD(test_licenses_may_not_be_more_than_allowed),
                IN_WORLD(test_licenses_of_one_transaction_count_together),
                IN_WORLD(test_ids_may_not_be_more_than_are_remembered),
                IN_WORLD(test_bytes_may_not_be_more_than_allowed),
                IN_WORLD(test_document_that_is_larger_here_counts_by_what_it_grows),
                IN_WORLD(test_state_that_is_larger_than_what_is_here_counts),
                IN_WORLD(test_nothing_is_staged_on_a_disk_that_is_nearly_full),
                IN_WORLD(test_nothing_is_staged_in_a_store_that_is_full),
                IN_WORLD(test_restore_of_what_is_here_fits_into_limits_that_are_reached),
                IN_WORLD(test_license_stored_meanwhile_is_one_of_the_merge),
                IN_WORLD(test_limit_holds_for_a_license_stored_before_the_merge),
                IN_WORLD(test_wrong_books_are_set_right_before_a_limit_refuses_a_restore),
                IN_WORLD(test_restores_side_by_side_are_merged_each_for_itself),
                IN_WORLD(test_ending_one_restore_leaves_the_others_staged),
                IN_WORLD(test_staging_that_has_to_run_again_starts_afresh),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
