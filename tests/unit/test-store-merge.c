/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "stage-world.h"

/* The rules of the merge, one by one, all together, and many times. */

/* One id: how it is here, how the backup has it, and what comes of it. */
typedef struct Case {
        const char *name;
        bool absent; /* not here; else here says how it is */
        Sketch here, there;
        const char *outcome;
        StoreMerge counts;
        const char *conflict; /* its key id and title */
} Case;

#define GONE .generation = 2, .counters = "print=3"
#define SAME .document = "doc", .generation = 2, .counters = "print=3"
#define OTHER .document = "other", .generation = 2, .counters = "print=3", .title = "Ours"
#define DEAD .revoked = 70, .generation = 2, .counters = "print=3"

#define STATE .generation = 4, .counters = "copy=9 print=8"
#define DOCUMENT .document = "doc", .generation = 4, .counters = "copy=9 print=8"
#define TOMBSTONE .revoked = 50, .generation = 4, .counters = "copy=9 print=8"
#define RESTRICTED .restricted = true, .generation = 4, .counters = "copy=9 print=8"

#define NEW "g4 copy=9 print=8"
#define MARKS "g4 copy=9 print=3"

#define RESTORED { .restored = 1 }
#define UNCHANGED { .unchanged = 1 }
#define NEWER_KEPT { .newer_kept = 1 }
#define CONFLICT { .conflicts = 1 }
#define REVOKED { .revoked = 1 }

static const Case cases[] = {
        { "absent, state", true, {}, { STATE }, "- " NEW, {} },
        { "absent, document", true, {}, { DOCUMENT }, "'doc' " NEW, RESTORED },
        { "absent, tombstone", true, {}, { TOMBSTONE }, "!50 " NEW, REVOKED },
        { "absent, restricted", true, {}, { RESTRICTED }, "- " NEW " restricted", {} },
        { "absent, document with all there is", true, {},
          { DOCUMENT, .date = 5, .key_id = "k", .title = "t", .issuer = "i", .media_type = "m", .not_before = 6,
            .not_after = 7 },
          "'doc' " NEW " date=5 key=k title=t issuer=i type=m from=6 to=7", RESTORED },
        { "absent, empty document", true, {}, { .document = "" }, "'' g1", RESTORED },

        { "deleted, state", false, { GONE }, { STATE }, "- " MARKS, {} },
        { "deleted, document", false, { GONE }, { DOCUMENT, .title = "T" }, "'doc' " MARKS " title=T", RESTORED },
        { "deleted, tombstone", false, { GONE }, { TOMBSTONE }, "!50 " MARKS, REVOKED },
        { "deleted, restricted", false, { GONE }, { RESTRICTED }, "- " MARKS " restricted", {} },
        { "deleted when restricted, state", false, { GONE, .restricted = true }, { STATE },
          "- " MARKS " restricted", {} },
        { "deleted when restricted, document", false, { GONE, .restricted = true }, { DOCUMENT },
          "'doc' " MARKS " restricted", RESTORED },

        { "same, state", false, { SAME, .title = "T" }, { STATE }, "'doc' " MARKS " title=T", {} },
        { "same, document", false, { SAME }, { DOCUMENT }, "'doc' " MARKS, UNCHANGED },
        { "same, tombstone", false, { SAME, .title = "T" }, { TOMBSTONE }, "!50 " MARKS, REVOKED },
        { "same, restricted", false, { SAME, .title = "T" }, { RESTRICTED },
          "'doc' " MARKS " title=T restricted", {} },
        { "same, dated", false, { SAME, .date = 5 }, { DOCUMENT, .date = 5 }, "'doc' " MARKS " date=5", UNCHANGED },

        { "recognised there", false, { SAME }, { DOCUMENT, .date = 5, .title = "T", .media_type = "m" },
          "'doc' " MARKS " date=5 title=T type=m", UNCHANGED },
        { "recognised there, otherwise called here", false, { SAME, .title = "Ours", .issuer = "i", .key_id = "k" },
          { DOCUMENT, .date = 5, .title = "T", .media_type = "m" },
          "'doc' " MARKS " date=5 key=k title=T issuer=i type=m", CONFLICT, "k/T" },
        { "recognised here", false, { SAME, .date = 5, .title = "T" }, { DOCUMENT },
          "'doc' " MARKS " date=5 title=T", UNCHANGED },

        { "older here", false, { OTHER, .date = 4, .not_before = 1, .key_id = "k" },
          { DOCUMENT, .date = 5, .title = "Theirs", .not_after = 9 },
          "'doc' " MARKS " date=5 title=Theirs to=9", RESTORED },
        { "newer here", false, { OTHER, .date = 6, .not_before = 1 },
          { DOCUMENT, .date = 5, .title = "Theirs", .key_id = "k", .not_after = 9 },
          "'other' " MARKS " date=6 title=Ours from=1", NEWER_KEPT },
        { "older here, before 1970", false, { OTHER, .date = -6 }, { DOCUMENT, .date = -5 },
          "'doc' " MARKS " date=-5", RESTORED },
        { "newer here, before 1970", false, { OTHER, .date = -4 }, { DOCUMENT, .date = -5 },
          "'other' " MARKS " date=-4 title=Ours", NEWER_KEPT },
        { "no date here", false, { OTHER, .key_id = "k" }, { DOCUMENT, .date = 5, .title = "Theirs", .not_after = 9 },
          "'other' " MARKS " key=k title=Ours", CONFLICT, "k/Ours" },
        { "no date there", false, { OTHER, .date = 5 }, { DOCUMENT, .title = "Theirs" },
          "'other' " MARKS " date=5 title=Ours", CONFLICT, "/Ours" },
        { "no dates", false, { OTHER }, { DOCUMENT, .title = "Theirs" },
          "'other' " MARKS " title=Ours", CONFLICT, "/Ours" },
        { "equal dates", false, { OTHER, .date = 5 }, { DOCUMENT, .date = 5, .title = "Theirs" },
          "'other' " MARKS " date=5 title=Ours", CONFLICT, "/Ours" },
        { "other here, tombstone", false, { OTHER, .date = 9 }, { TOMBSTONE }, "!50 " MARKS, REVOKED },
        { "other of the same size", false, { .document = "dob" }, { .document = "doc" }, "'dob' g1", CONFLICT, "/" },

        { "revoked, document", false, { DEAD }, { DOCUMENT, .date = 9 }, "!70 " MARKS, REVOKED },
        { "revoked, earlier tombstone", false, { DEAD }, { TOMBSTONE }, "!50 " MARKS, REVOKED },
        { "revoked, later tombstone", false, { DEAD }, { .revoked = 90 }, "!70 g2 print=3", REVOKED },
        /* Neither a document nor a tombstone of the backup's: nothing became of it. */
        { "revoked, state", false, { DEAD }, { STATE }, "!70 " MARKS, {} },
        { "revoked, restricted", false, { DEAD }, { RESTRICTED }, "!70 " MARKS " restricted", {} },

        { "restricted here, state", false, { SAME, .restricted = true }, { STATE }, "'doc' " MARKS " restricted", {} },
        { "restricted here, document", false, { SAME, .restricted = true }, { DOCUMENT },
          "'doc' " MARKS " restricted", UNCHANGED },
        { "restricted here, newer document", false, { OTHER, .date = 4, .restricted = true }, { DOCUMENT, .date = 5 },
          "'doc' " MARKS " date=5 restricted", RESTORED },
        { "restricted here, older document", false, { OTHER, .date = 6, .restricted = true }, { DOCUMENT, .date = 5 },
          "'other' " MARKS " date=6 title=Ours restricted", NEWER_KEPT },
        { "restricted here, tombstone", false, { SAME, .restricted = true }, { TOMBSTONE },
          "!50 " MARKS " restricted", REVOKED },
        { "restricted here, restricted", false, { SAME, .restricted = true }, { RESTRICTED },
          "'doc' " MARKS " restricted", {} },

        { "lower generation there", false, { .document = "doc", .generation = 6 }, { .document = "doc" },
          "'doc' g6", UNCHANGED },
        { "lower generation of a newer document", false, { .document = "other", .generation = 6, .date = 1 },
          { .document = "doc", .date = 2 }, "'doc' g6 date=2", RESTORED },
        { "counters here alone", false, { SAME }, { .document = "doc" }, "'doc' g2 print=3", UNCHANGED },
        { "counters there alone", false, { .document = "doc" }, { DOCUMENT }, "'doc' " NEW, UNCHANGED },
        { "counters smaller there", false, { SAME }, { .document = "doc", .counters = "print=2" },
          "'doc' g2 print=2", UNCHANGED },
        { "counters smaller in an older document", false, { OTHER, .date = 5 },
          { .document = "doc", .date = 4, .counters = "print=0" },
          "'other' g2 print=0 date=5 title=Ours", NEWER_KEPT },
        { "counters smaller here, mixed", false, { .document = "x", .date = 1, .counters = "a=1 b=5 c=0 e=7" },
          { .document = "doc", .date = 2, .counters = "a=2 b=4 c=9 d=3" },
          "'doc' g1 a=1 b=4 c=0 d=3 e=7 date=2", RESTORED },
        { "counters of a deleted one, mixed", false, { .counters = "a=1 b=5" }, { .counters = "b=4 c=9" },
          "- g1 a=1 b=4 c=9", {} },
        { "largest counters", false, { .document = "doc", .counters = "a=9223372036854775807" },
          { .document = "doc", .counters = "a=9223372036854775806 b=9223372036854775807" },
          "'doc' g1 a=9223372036854775806 b=9223372036854775807", UNCHANGED },

        { "times there alone", false, { .document = "doc" }, { .document = "doc", .not_before = 3, .not_after = 4 },
          "'doc' g1 from=3 to=4", UNCHANGED },
        { "times here alone", false, { .document = "doc", .not_before = 3, .not_after = 4 }, { .document = "doc" },
          "'doc' g1 from=3 to=4", UNCHANGED },
        { "narrower times there", false, { .document = "doc", .not_before = 3, .not_after = 9 },
          { .document = "doc", .not_before = 4, .not_after = 8 }, "'doc' g1 from=4 to=8", UNCHANGED },
        { "wider times there", false, { .document = "doc", .not_before = 4, .not_after = 8 },
          { .document = "doc", .not_before = 3, .not_after = 9 }, "'doc' g1 from=4 to=8", UNCHANGED },
        { "texts missing here", false, { .document = "doc" },
          { .document = "doc", .key_id = "k", .title = "t", .issuer = "i", .media_type = "m" },
          "'doc' g1 key=k title=t issuer=i type=m", UNCHANGED },
        { "texts missing there", false,
          { .document = "doc", .key_id = "k", .title = "t", .issuer = "i", .media_type = "m" }, { .document = "doc" },
          "'doc' g1 key=k title=t issuer=i type=m", UNCHANGED },
        { "the same texts", false, { .document = "doc", .key_id = "k", .title = "t" },
          { .document = "doc", .key_id = "k", .title = "t" }, "'doc' g1 key=k title=t", UNCHANGED },
        { "another key id", false, { .document = "doc", .key_id = "a" }, { .document = "doc", .key_id = "b" },
          "'doc' g1 key=a", CONFLICT, "a/" },
        { "another title, and a missing issuer", false, { .document = "doc", .title = "a", .not_before = 3 },
          { .document = "doc", .title = "b", .issuer = "i", .not_before = 4 },
          "'doc' g1 title=a issuer=i from=4", CONFLICT, "/a" },
        { "another issuer", false, { .document = "doc", .issuer = "a" }, { .document = "doc", .issuer = "b" },
          "'doc' g1 issuer=a", CONFLICT, "/" },
        { "another type", false, { .document = "doc", .media_type = "a" }, { .document = "doc", .media_type = "b" },
          "'doc' g1 type=a", CONFLICT, "/" },
};

static Case name_case(size_t i, const char *id) {
        Case named = cases[i];

        named.here.id = named.there.id = id;
        return named;
}

/* What the owner has of an id is the outcome of its case. */
static void assert_outcome(const char *found, const Case *expected, const char *id) {
        g_autofree char *line = g_strdup_printf("%s %s\n", id, expected->outcome);

        if (!g_str_equal(found, line))
                fail_msg("%s: %s is not %s", expected->name, found, line);
}

static void test_each_rule_for_itself(void **state) {
        StageWorld *world = *state;

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                Case one = name_case(i, "id");
                StoreOwner owner = { (uid_t)(3000 + i), "owner" };
                StoreStage stage = { .restore = store_restore_begin(world->store) };
                g_autofree char *conflict = one.conflict ? g_strdup_printf("id/%s ", one.conflict) : g_strdup("");
                g_autoptr(GString) conflicts = g_string_new(NULL);
                g_autofree char *found = NULL, *counts = NULL, *expected_counts = describe_merge(&one.counts);
                g_auto(Error) error = {};
                StoreMerge result;

                if (!one.absent)
                        sketch_put(world->store, &owner, &one.here);
                sketch_stage_good(world->store, &stage, &owner, &one.there, 1);
                assert_good(merge(world->store, stage.restore, &result, conflicts, &error), &error);

                found = describe_owner(world->reader, &owner);
                assert_outcome(found, &one, "id");
                counts = describe_merge(&result);
                if (!g_str_equal(counts, expected_counts))
                        fail_msg("%s: %s is not %s", one.name, counts, expected_counts);
                assert_string_equal(conflicts->str, conflict);
                assert_books(world->reader);
                store_restore_end(world->store, stage.restore);
        }
        wait_swept(world->reader);
        assert_books(world->reader);
}

static void test_all_rules_at_once(void **state) {
        StageWorld *world = *state;
        Case all[G_N_ELEMENTS(cases)];
        char ids[G_N_ELEMENTS(cases)][16];
        g_autoptr(GString) conflicts = g_string_new(NULL), expected_conflicts = g_string_new(NULL);
        g_autofree char *found = NULL;
        g_auto(GStrv) lines = NULL;
        g_auto(Error) error = {};
        StoreMerge result, expected = {};

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                const StoreMerge *counts = &cases[i].counts;

                snprintf(ids[i], sizeof ids[i], "id-%03zu", i);
                all[i] = name_case(i, ids[i]);
                if (!all[i].absent)
                        put_here(world, &all[i].here, 1);
                expected.restored += counts->restored;
                expected.unchanged += counts->unchanged;
                expected.newer_kept += counts->newer_kept;
                expected.conflicts += counts->conflicts;
                expected.revoked += counts->revoked;
                if (all[i].conflict)
                        g_string_append_printf(expected_conflicts, "%s/%s ", ids[i], all[i].conflict);
        }
        /* The backup has them the other way round. */
        for (size_t i = G_N_ELEMENTS(cases); i > 0; i--)
                stage_there(world, &all[i - 1].there, 1);
        assert_good(merge(world->store, world->stage.restore, &result, conflicts, &error), &error);

        for (unsigned i = 0; i < 2; i++) {
                g_clear_pointer(&found, g_free);
                g_clear_pointer(&lines, g_strfreev);
                found = describe_owner(world->reader, &alice);
                lines = g_strsplit(found, "\n", -1);
                for (size_t k = 0; k < G_N_ELEMENTS(cases); k++) {
                        g_autofree char *line = g_strconcat(lines[k] ?: "", "\n", NULL);

                        assert_outcome(line, &all[k], ids[k]);
                }
                assert_books(world->reader);

                /* The sweep takes the documents of losers, and no other. */
                store_restore_end(world->store, world->stage.restore);
                wait_swept(world->reader);
        }
        assert_merge(&result, &expected);
        assert_string_equal(conflicts->str, expected_conflicts->str);
}

static void test_merging_the_same_again_changes_nothing(void **state) {
        StageWorld *world = *state;
        g_autofree char *before = NULL;

        for (unsigned round = 0; round < 3; round++) {
                StoreStage stage = { .restore = store_restore_begin(world->store) };

                for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                        g_autofree char *id = g_strdup_printf("id-%03zu", i);
                        Case one = name_case(i, id);

                        if (round == 0 && !one.absent)
                                put_here(world, &one.here, 1);
                        sketch_stage_good(world->store, &stage, &alice, &one.there, 1);
                }
                assert_int_equal(merge_good(world->store, stage.restore).restored > 0, round == 0);
                store_restore_end(world->store, stage.restore);
                if (round > 0)
                        assert_owner(world->reader, &alice, before);
                else
                        before = describe_owner(world->reader, &alice);
        }
        assert_books(world->reader);
}

/* The sketch of a license with counters from first on, in text, which must be large enough. */
static Sketch with_counters(const char *document, unsigned first, unsigned n, char *text, size_t size) {
        size_t used = 0;

        text[0] = 0;
        for (unsigned i = first; i < first + n; i++)
                used += (size_t)snprintf(text + used, size - used, "right-%03u=%u ", i, i);
        return (Sketch) { .id = "many", .document = document, .counters = text };
}

static void test_more_than_64_counters_leave_the_license_as_it_is(void **state) {
        static const char *const documents[][2] = {
                { "doc", "doc" }, { NULL, "doc" }, { "doc", NULL }, { NULL, NULL }, { "doc", "other" },
        };
        StageWorld *world = *state;
        char ours[2048], theirs[2048];

        for (size_t i = 0; i < G_N_ELEMENTS(documents); i++) {
                for (unsigned n = 32; n <= 33; n++) {
                        StoreOwner owner = { (uid_t)(3000 + 2 * i + n), "owner" };
                        StoreStage stage = { .restore = store_restore_begin(world->store) };
                        const Sketch here = with_counters(documents[i][0], 0, 32, ours, sizeof ours);
                        const Sketch there[] = {
                                { .id = "a", .document = "fresh" },
                                with_counters(documents[i][1], 32, n, theirs, sizeof theirs),
                                { .id = "z", .document = "fresh" },
                        };
                        g_autofree char *before = NULL, *after = NULL;
                        g_auto(Error) error = {};
                        StoreMerge result;

                        sketch_put(world->store, &owner, &here);
                        before = describe_owner(world->reader, &owner);
                        sketch_stage_good(world->store, &stage, &owner, there, 3);
                        if (n == 32) {
                                assert_good(merge(world->store, stage.restore, &result, NULL, &error), &error);
                                assert_int_equal(ask(world->reader, "SELECT max(n) FROM (SELECT count(*) AS n FROM "
                                                     "counters GROUP BY key)"), 64);
                        } else {
                                g_autoptr(GString) conflicts = g_string_new(NULL);

                                assert_good(merge(world->store, stage.restore, &result, conflicts, &error), &error);
                                assert_merge(&result, &(StoreMerge) { .restored = 2, .conflicts = 1 });
                                assert_true(g_str_has_prefix(conflicts->str, "many/"));
                                after = describe_owner(world->reader, &owner);
                                assert_non_null(strstr(after, before));
                        }
                        assert_books(world->reader);
                        store_restore_end(world->store, stage.restore);
                }
        }
}

/* What is revoked here or there needs no counters, and stays revoked. */
static void test_more_than_64_counters_do_not_keep_what_is_revoked(void **state) {
        StageWorld *world = *state;
        char ours[2048], theirs[2048];

        for (unsigned i = 0; i < 2; i++) {
                StoreOwner owner = { 4000 + i, "owner" };
                StoreStage stage = { .restore = store_restore_begin(world->store) };
                Sketch here = with_counters(i == 0 ? NULL : "doc", 0, 40, ours, sizeof ours),
                       there = with_counters(i == 0 ? "doc" : NULL, 40, 40, theirs, sizeof theirs);
                g_autofree char *after = NULL;
                StoreMerge result;

                (i == 0 ? &here : &there)->revoked = 50;
                sketch_put(world->store, &owner, &here);
                sketch_stage_good(world->store, &stage, &owner, &there, 1);
                result = merge_good(world->store, stage.restore);
                assert_merge(&result, &(StoreMerge) { .revoked = 1 });
                after = describe_owner(world->reader, &owner);
                assert_non_null(strstr(after, "!50"));
                assert_books(world->reader);
                store_restore_end(world->store, stage.restore);
        }
}

static int rot_sum(StoreConnection *connection, void *userdata, Error *error) {
        return store_connection_exec(connection, "UPDATE owners SET bytes = 9223372036854775807 WHERE name = 'bob'");
}

/* What one owner is charged with says nothing of whether others may restore, while the store is not full. */
static void test_sum_of_one_owner_that_rotted_refuses_no_other(void **state) {
        static const Sketch there = { .id = "a", .document = "fresh" };
        StageWorld *world = *state;
        g_auto(Error) error = {};

        put(world->store, &bob, "b", "x");
        put(world->store, &alice, "mine", "x");
        assert_good(do_write(world->store, rot_sum, NULL, &error), &error);
        stage_there(world, &there, 1);
        assert_int_equal(merge_good(world->store, world->stage.restore).restored, 1);
}

#define N_MANY 20000U
#define N_KINDS 8U

/* What many-ids have, by their number, and what comes of it. */
static const Case kinds[N_KINDS] = {
        { "fresh", true, {}, { DOCUMENT, .title = "T" }, "'doc' " NEW " title=T", RESTORED },
        { "same", false, { SAME }, { DOCUMENT }, "'doc' " MARKS, UNCHANGED },
        { "older", false, { OTHER, .date = 1 }, { DOCUMENT, .date = 2 }, "'doc' " MARKS " date=2", RESTORED },
        { "newer", false, { OTHER, .date = 3 }, { DOCUMENT, .date = 2 }, "'other' " MARKS " date=3 title=Ours",
          NEWER_KEPT },
        { "killed", false, { SAME }, { TOMBSTONE }, "!50 " MARKS, REVOKED },
        { "gone", false, { GONE }, { DOCUMENT }, "'doc' " MARKS, RESTORED },
        { "fresh state", true, {}, { STATE }, "- " NEW, {} },
        { "conflict", false, { OTHER }, { DOCUMENT }, "'other' " MARKS " title=Ours", CONFLICT, "/Ours" },
};

typedef struct Many {
        StageWorld *world;
        Sketch *sketches;
        char (*ids)[16];
} Many;

static int put_many(StoreConnection *connection, void *userdata, Error *error) {
        Many *many = userdata;
        int r = 0;

        for (unsigned i = 0; r == 0 && i < N_MANY; i++) {
                const Sketch *sketch = &many->sketches[i];
                g_auto(License) license = {};

                if (kinds[i % N_KINDS].absent)
                        continue;
                sketch_license(sketch, &license);
                for (unsigned k = 0; r == 0 && k < sketch->generation; k++)
                        r = store_license_put(connection, &alice, &license, sketch->document ?: "", error);
                if (r == 0 && !sketch->document)
                        r = store_license_delete(connection, &alice, sketch->id, error);
        }
        return r;
}

static void sketch_many(Many *many, bool there) {
        for (unsigned i = 0; i < N_MANY; i++) {
                snprintf(many->ids[i], sizeof many->ids[i], "id-%05u", i);
                many->sketches[i] = there ? kinds[i % N_KINDS].there : kinds[i % N_KINDS].here;
                many->sketches[i].id = many->ids[i];
        }
}

static void assert_many(StageWorld *world) {
        g_autofree char *found = describe_owner(world->reader, &alice);
        g_auto(GStrv) lines = g_strsplit(found, "\n", -1);

        assert_int_equal(g_strv_length(lines), N_MANY + 1);
        for (unsigned i = 0; i < N_MANY; i++) {
                g_autofree char *line = g_strconcat(lines[i], "\n", NULL);
                char id[16];

                snprintf(id, sizeof id, "id-%05u", i);
                assert_outcome(line, &kinds[i % N_KINDS], id);
        }
        assert_books(world->reader);
}

/* Storing the id once more leaves it as large as it can be: it never turns round. */
static void test_largest_generation_is_the_last(void **state) {
        const Sketch largest = { .id = "id", .document = "doc", .generation = INT64_MAX };
        StageWorld *world = *state;

        stage_there(world, &largest, 1);
        (void)merge_good(world->store, world->stage.restore);
        put(world->store, &alice, "id", "new");
        assert_owner(world->reader, &alice, "id 'new' g9223372036854775807\n");
}

static void test_merge_of_20000_is_right(void **state) {
        const unsigned each = N_MANY / N_KINDS, portion = N_MANY / 8;
        StageWorld *world = *state;
        Many many = { world, g_new0(Sketch, N_MANY), g_malloc0(N_MANY * sizeof(*many.ids)) };
        g_auto(Error) error = {};
        StoreMerge result;

        sketch_many(&many, false);
        assert_good(do_write(world->store, put_many, &many, &error), &error);
        sketch_many(&many, true);
        for (unsigned i = 0; i < N_MANY; i += portion)
                stage_there(world, &many.sketches[i], portion);

        result = merge_good(world->store, world->stage.restore);
        assert_merge(&result, &(StoreMerge){ .restored = 3 * each, .unchanged = each, .newer_kept = each,
                .conflicts = each, .revoked = each });
        assert_int_equal(store_count(world->store), 6 * each);
        assert_many(world);
        store_restore_end(world->store, world->stage.restore);
        wait_swept(world->reader);
        assert_many(world);

        g_free(many.sketches);
        g_free(many.ids);
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, stage_world_setup, stage_world_teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_each_rule_for_itself),
                IN_WORLD(test_all_rules_at_once),
                IN_WORLD(test_merging_the_same_again_changes_nothing),
                IN_WORLD(test_more_than_64_counters_leave_the_license_as_it_is),
                IN_WORLD(test_more_than_64_counters_do_not_keep_what_is_revoked),
                IN_WORLD(test_sum_of_one_owner_that_rotted_refuses_no_other),
                IN_WORLD(test_largest_generation_is_the_last),
                IN_WORLD(test_merge_of_20000_is_right),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
