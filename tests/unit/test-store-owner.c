/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "stage-world.h"

/* What becomes of the licenses of an owner who is gone: given to another, or removed for good. */

static const StoreOwner carol = { 1002, "carol" };

typedef struct Change {
        StoreOwner from, to;
        int64_t restore;
        uint64_t licenses;
        bool more;
} Change;

static int reassign_work(StoreConnection *connection, void *userdata, Error *error) {
        Change *change = userdata;

        return store_owner_reassign(connection, &change->from, &change->to, change->restore, &change->licenses, error);
}

static int reassign(StageWorld *world, const StoreOwner *from, const StoreOwner *to, uint64_t *ret, Error *error) {
        Change change = { .from = *from, .to = *to, .restore = store_restore_begin(world->store) };
        int r;

        r = do_write(world->store, reassign_work, &change, error);
        store_restore_end(world->store, change.restore);
        *ret = change.licenses;
        return r;
}

static int purge_work(StoreConnection *connection, void *userdata, Error *error) {
        Change *change = userdata;

        return store_owner_purge(connection, &change->from, &change->licenses, &change->more, error);
}

static const Sketch all_kinds[] = {
        { .id = "book", .document = "moby dick", .date = 7, .counters = "copy=2 print=7", .generation = 3,
          .key_id = "k", .title = "Moby Dick", .issuer = "i", .media_type = "m", .not_before = 5, .not_after = 50 },
        { .id = "deleted", .counters = "print=1", .generation = 2 },
        { .id = "empty", .document = "" },
        { .id = "restricted", .document = "not to be backed up", .restricted = true },
        { .id = "revoked", .revoked = 99, .generation = 4 },
};

static void put_for(StageWorld *world, const StoreOwner *owner, const Sketch *sketches, size_t n) {
        for (size_t i = 0; i < n; i++)
                sketch_put(world->store, owner, &sketches[i]);
}

static int64_t count_owner(StageWorld *world, const StoreOwner *owner) {
        g_autofree char *sql = g_strdup_printf("SELECT count(*) FROM owners WHERE uid = %u AND name = '%s'",
                (unsigned)owner->uid, owner->name);

        return ask(world->reader, sql);
}

static int set_paths(StoreConnection *connection, void *userdata, Error *error) {
        const StoreOwner *owner = userdata;
        int r;

        r = store_property_set(connection, owner, "BackupPath", "/srv/1000", error);
        return r != 0 ? r : store_property_set(connection, owner, "RestorePath", "/srv/1000", error);
}

/* Paths hold the number of the user: they would be no use to another. */
static void test_paths_of_an_owner_go_with_it(void **state) {
        StageWorld *world = *state;
        Change change = { .from = carol, .more = true };
        g_auto(Error) error = {};
        uint64_t licenses;
        StoreOwner owner;

        owner = alice;
        assert_good(do_write(world->store, set_paths, &owner, &error), &error);
        assert_good(reassign(world, &alice, &bob, &licenses, &error), &error);
        assert_int_equal(ask(world->reader, "SELECT count(*) FROM properties"), 0);

        /* The same where the other has something already, and keeps what is its own. */
        assert_good(do_write(world->store, set_paths, &owner, &error), &error);
        owner = bob;
        assert_good(do_write(world->store, set_paths, &owner, &error), &error);
        assert_good(reassign(world, &alice, &bob, &licenses, &error), &error);
        assert_int_equal(ask(world->reader, "SELECT count(*) FROM properties"), 2);

        owner = carol;
        assert_good(do_write(world->store, set_paths, &owner, &error), &error);
        while (change.more)
                assert_good(do_write(world->store, purge_work, &change, &error), &error);
        assert_int_equal(ask(world->reader, "SELECT count(*) FROM properties"), 2);
}

static void test_reassigning_to_a_new_owner_gives_all_that_there_was(void **state) {
        StageWorld *world = *state;
        g_autofree char *before = NULL;
        g_auto(Error) error = {};
        uint64_t licenses;

        put_here(world, all_kinds, G_N_ELEMENTS(all_kinds));
        put(world->store, &carol, "carols", "own");
        before = describe_owner(world->reader, &alice);

        assert_good(reassign(world, &alice, &bob, &licenses, &error), &error);
        assert_int_equal(licenses, 3);
        assert_owner(world->reader, &bob, before);
        assert_owner(world->reader, &alice, "");
        assert_owner(world->reader, &carol, "carols 'own' g1\n");
        assert_int_equal(count_owner(world, &alice), 0);
        assert_books(world->reader);

        /* And they are as good as stored ones: a counter that was low stays low. */
        sketch_put(world->store, &bob, &(Sketch){ .id = "deleted", .document = "again", .counters = "print=9" });
        assert_int_equal(ask(world->reader, "SELECT remaining FROM counters AS c JOIN licenses AS l ON l.key = c.key "
                                            "WHERE l.id = 'deleted'"), 1);
}

static void test_reassigning_to_an_owner_who_has_some_merges(void **state) {
        static const Sketch bobs[] = {
                { .id = "book", .document = "moby dick, older", .date = 6, .counters = "copy=5 print=1" },
                { .id = "bobs", .document = "his own" },
                { .id = "revoked", .revoked = 100 },
                { .id = "deleted", .document = "his", .counters = "print=9" },
        };
        StageWorld *world = *state;
        g_auto(Error) error = {};
        uint64_t licenses;

        put_here(world, all_kinds, G_N_ELEMENTS(all_kinds));
        put_for(world, &bob, bobs, G_N_ELEMENTS(bobs));

        assert_good(reassign(world, &alice, &bob, &licenses, &error), &error);
        assert_int_equal(licenses, 3);
        assert_owner(world->reader, &bob,
                "bobs 'his own' g1\n"
                "book 'moby dick' g3 copy=2 print=1 date=7 key=k title=Moby Dick issuer=i type=m from=5 to=50\n"
                "deleted 'his' g2 print=1\n"
                "empty '' g1\n"
                "restricted 'not to be backed up' g1 restricted\n"
                "revoked !99 g4\n");
        assert_int_equal(count_owner(world, &alice), 0);
        assert_books(world->reader);
        wait_swept(world->reader);
        assert_int_equal(count_staged(world->reader), 0);
        /* Nothing is left under the old keys. */
        assert_int_equal(ask(world->reader, "SELECT count(*) FROM licenses"), 6);
        assert_int_equal(ask(world->reader, "SELECT count(*) FROM documents"), 5);
        assert_int_equal(ask(world->reader, "SELECT count(*) FROM counters"), 3);
}

static void damage(StoreConnection *connection, const StoreOwner *owner, const char *id) {
        g_autofree char *sql = g_strdup_printf(
                "UPDATE documents SET document = zeroblob(3) WHERE key = (SELECT l.key FROM licenses AS l "
                "JOIN owners AS o ON o.owner = l.owner WHERE o.name = '%s' AND l.id = '%s')", owner->name, id);

        assert_int_equal(store_connection_exec(connection, sql), SQLITE_OK);
}

static int damage_work(StoreConnection *connection, void *userdata, Error *error) {
        damage(connection, &alice, "hers-is-damaged");
        damage(connection, &bob, "his-is-damaged");
        return 0;
}

/* Both have the same, and one of the two documents is damaged: the other one stays. */
static void test_reassigning_keeps_the_document_that_is_whole(void **state) {
        static const Sketch both[] = {
                { .id = "hers-is-damaged", .document = "first" },
                { .id = "his-is-damaged", .document = "second" },
        };
        StageWorld *world = *state;
        g_auto(Error) error = {};
        uint64_t licenses;

        put_here(world, both, G_N_ELEMENTS(both));
        put_for(world, &bob, both, G_N_ELEMENTS(both));
        assert_good(do_write(world->store, damage_work, NULL, &error), &error);

        assert_good(reassign(world, &alice, &bob, &licenses, &error), &error);
        assert_owner(world->reader, &bob, "hers-is-damaged 'first' g1\nhis-is-damaged 'second' g1\n");
        assert_books(world->reader);
}

static int rot_work(StoreConnection *connection, void *userdata, Error *error) {
        static const char sql[] =
                "UPDATE licenses SET digest = CAST(x'55' || substr(digest, 2) AS BLOB) WHERE id = 'her-digest' AND "
                "owner = (SELECT owner FROM owners WHERE name = 'alice');"
                "UPDATE licenses SET key_id = 'rotten' WHERE id = 'alone' OR "
                "id = iif(owner = (SELECT owner FROM owners WHERE name = 'alice'), 'hers-is-rotten', 'his-is-rotten');"
                "UPDATE licenses SET key_id = 'rotten' WHERE id = 'both-are-rotten';"
                "UPDATE documents SET document = zeroblob(3) WHERE key = (SELECT l.key FROM licenses AS l JOIN owners "
                "AS o ON o.owner = l.owner WHERE o.name = 'alice' AND l.id = 'his-is-rotten') OR "
                "key = (SELECT l.key FROM licenses AS l JOIN owners AS o ON o.owner = l.owner WHERE o.name = 'bob' "
                "AND l.id = 'both-are-rotten')";

        assert_int_equal(store_connection_exec(connection, sql), SQLITE_OK);
        return 0;
}

/*
 * Of what is damaged, what is whole on the other side stays: of the second one both rows are, and his document, of the
 * last one her document and his row. What is left must not go, nor that it is known to be damaged.
 */
static void test_reassigning_keeps_what_is_whole_and_knows_what_is_not(void **state) {
        static const Sketch hers[] = {
                { .id = "alone", .document = "first" },
                { .id = "both-are-rotten", .document = "zero" },
                { .id = "her-digest", .document = "of both" },
                { .id = "hers-is-rotten", .document = "second" },
                { .id = "his-is-rotten", .document = "third" },
        };
        StageWorld *world = *state;
        g_auto(Error) error = {};
        uint64_t licenses;

        put_here(world, hers, G_N_ELEMENTS(hers));
        put_for(world, &bob, &hers[1], 4);
        assert_good(do_write(world->store, rot_work, NULL, &error), &error);
        assert_int_equal(count_judged(world->reader, LICENSE_ROTTEN), 6);

        assert_good(reassign(world, &alice, &bob, &licenses, &error), &error);
        assert_owner(world->reader, &bob, "alone 'first' g1 key=rotten\nboth-are-rotten 'zero' g1 key=rotten\nher-digest 'of both' g1\n"
                                          "hers-is-rotten 'second' g1\nhis-is-rotten 'third' g1 key=rotten\n");
        assert_int_equal(count_judged(world->reader, LICENSE_ROTTEN), 3);
        assert_int_equal(count_judged(world->reader, LICENSE_SOUND), 2);
}

static int rot_date_work(StoreConnection *connection, void *userdata, Error *error) {
        assert_int_equal(store_connection_exec(connection,
                "UPDATE licenses SET document_date = 99 WHERE owner = (SELECT owner FROM owners WHERE name = 'alice')"),
                SQLITE_OK);
        return 0;
}

/* Else his would be gone, for a date that is nobody's. */
static void test_reassigning_believes_no_date_that_is_damaged(void **state) {
        static const Sketch hers = { .id = "book", .document = "old", .date = 5 };
        static const Sketch his = { .id = "book", .document = "new", .date = 9 };
        StageWorld *world = *state;
        g_auto(Error) error = {};
        uint64_t licenses;

        put_here(world, &hers, 1);
        put_for(world, &bob, &his, 1);
        assert_good(do_write(world->store, rot_date_work, NULL, &error), &error);
        assert_int_equal(reassign(world, &alice, &bob, &licenses, &error), ERROR_INVALID_ARGUMENTS);
        assert_error(&error, ERROR_INVALID_ARGUMENTS, "'book'");
        assert_owner(world->reader, &bob, "book 'new' g1 date=9\n");
}

#define OLDER(name) { .id = name, .document = "older", .date = 5 }
#define NEWER(name) { .id = name, .document = "newer", .date = 9 }

static int reassign_damaged(StageWorld *world, const Sketch *hers, const Sketch *his, size_t n, Error *error) {
        uint64_t licenses;

        put_here(world, hers, n);
        put_for(world, &bob, his, n);
        assert_good(do_write(world->store, damage_work, NULL, error), error);
        return reassign(world, &alice, &bob, &licenses, error);
}

/* Else what is whole would be gone, and what stays would be of no use. */
static void test_reassigning_takes_no_damaged_document_for_being_newer(void **state) {
        static const Sketch hers = NEWER("hers-is-damaged"), his = OLDER("hers-is-damaged");
        StageWorld *world = *state;
        g_auto(Error) error = {};

        assert_int_equal(reassign_damaged(world, &hers, &his, 1, &error), ERROR_INVALID_ARGUMENTS);
        assert_error(&error, ERROR_INVALID_ARGUMENTS, "'hers-is-damaged'");
        assert_owner(world->reader, &bob, "hers-is-damaged 'older' g1 date=5\n");
}

static void test_reassigning_keeps_no_damaged_document_for_being_newer(void **state) {
        static const Sketch hers = OLDER("his-is-damaged"), his = NEWER("his-is-damaged");
        StageWorld *world = *state;
        g_auto(Error) error = {};

        assert_int_equal(reassign_damaged(world, &hers, &his, 1, &error), ERROR_INVALID_ARGUMENTS);
        assert_error(&error, ERROR_INVALID_ARGUMENTS, "'his-is-damaged'");
        assert_owner(world->reader, &alice, "his-is-damaged 'older' g1 date=5\n");
}

static void test_reassigning_leaves_an_older_document_that_is_damaged(void **state) {
        static const Sketch hers[] = { OLDER("hers-is-damaged"), NEWER("his-is-damaged") };
        static const Sketch his[] = { NEWER("hers-is-damaged"), OLDER("his-is-damaged") };
        StageWorld *world = *state;
        g_auto(Error) error = {};

        assert_good(reassign_damaged(world, hers, his, G_N_ELEMENTS(hers), &error), &error);
        assert_owner(world->reader, &bob, "hers-is-damaged 'newer' g1 date=9\nhis-is-damaged 'newer' g1 date=9\n");
        assert_books(world->reader);
}

static int unseal_work(StoreConnection *connection, void *userdata, Error *error) {
        assert_int_equal(store_connection_exec(connection,
                "UPDATE licenses SET digest = substr(digest, 1, 32) WHERE owner = (SELECT owner FROM owners WHERE name = 'alice')"), SQLITE_OK);
        return 0;
}

/* What an older store knew of hers is not vouched for when his takes it over; what he has anyway still is. */
static void test_reassigning_does_not_seal_what_was_not_sealed(void **state) {
        static const Sketch hers[] = {
                { .id = "gives-a-key", .document = "first", .key_id = "k" },
                { .id = "gives-nothing", .document = "second" },
                { .id = "is-new", .document = "third" },
        };
        static const Sketch his[] = {
                { .id = "gives-a-key", .document = "first" },
                { .id = "gives-nothing", .document = "second" },
        };
        StageWorld *world = *state;
        g_auto(Error) error = {};
        uint64_t licenses;

        put_here(world, hers, G_N_ELEMENTS(hers));
        put_for(world, &bob, his, G_N_ELEMENTS(his));
        assert_good(do_write(world->store, unseal_work, NULL, &error), &error);
        assert_good(reassign(world, &alice, &bob, &licenses, &error), &error);
        assert_owner(world->reader, &bob, "gives-a-key 'first' g1 key=k\ngives-nothing 'second' g1\nis-new 'third' g1\n");
        assert_int_equal(count_judged(world->reader, LICENSE_UNSEALED), 2);
        assert_int_equal(count_judged(world->reader, LICENSE_SOUND), 1);
        assert_sums(world->reader);
}

/* No backup has what would be lost: also where it is one's own act that is against it. */
static void assert_conflict(StageWorld *world, const Sketch *bobs, const char *name) {
        g_autofree char *alices = NULL, *his = NULL;
        g_auto(Error) error = {};
        uint64_t licenses;

        put_here(world, all_kinds, G_N_ELEMENTS(all_kinds));
        sketch_put(world->store, &bob, bobs);
        alices = describe_owner(world->reader, &alice);
        his = describe_owner(world->reader, &bob);

        assert_int_equal(reassign(world, &alice, &bob, &licenses, &error), ERROR_INVALID_ARGUMENTS);
        assert_error(&error, ERROR_INVALID_ARGUMENTS, name);
        assert_owner(world->reader, &alice, alices);
        assert_owner(world->reader, &bob, his);
        assert_int_equal(count_staged(world->reader), 0);
        assert_books(world->reader);
}

static void test_conflict_reassigns_nothing_and_names_the_license(void **state) {
        assert_conflict(*state, &(Sketch) { .id = "empty", .document = "not empty" }, "'empty'");
}

static void test_license_that_the_former_owner_revoked_stays(void **state) {
        assert_conflict(*state, &(Sketch) { .id = "revoked", .document = "still good" }, "'revoked'");
}

static void test_license_that_the_new_owner_revoked_is_not_lost(void **state) {
        assert_conflict(*state, &(Sketch) { .id = "book", .revoked = 5 }, "'book'");
}

static void test_reassigning_keeps_to_the_limits_of_the_new_owner(void **state) {
        StageWorld *world = *state;
        StoreLimits limits = no_limits;
        g_autofree char *alices = NULL;
        g_auto(Error) error = {};
        uint64_t licenses;

        put_here(world, all_kinds, G_N_ELEMENTS(all_kinds));
        put(world->store, &bob, "bobs", "one");
        alices = describe_owner(world->reader, &alice);
        limits.licenses_per_user = 3;
        store_set_limits(world->store, &limits);

        assert_int_equal(reassign(world, &alice, &bob, &licenses, &error), ERROR_LIMIT_EXCEEDED);
        assert_error(&error, ERROR_LIMIT_EXCEEDED, "LicensesPerUser");
        assert_owner(world->reader, &alice, alices);
        assert_owner(world->reader, &bob, "bobs 'one' g1\n");
        assert_books(world->reader);
}

static int move_last(StoreConnection *connection, void *userdata, Error *error) {
        const StoreOwner *owner = userdata;
        g_autofree char *sql = g_strdup_printf(
                "UPDATE documents SET key = ((key >> 31 << 31) | 2147483647) WHERE key = (SELECT key FROM licenses "
                "WHERE id = 'last' AND owner = (SELECT owner FROM owners WHERE name = '%1$s'));"
                "UPDATE licenses SET key = ((key >> 31 << 31) | 2147483647) "
                "WHERE id = 'last' AND owner = (SELECT owner FROM owners WHERE name = '%1$s')", owner->name);

        assert_int_equal(store_connection_exec(connection, sql), SQLITE_OK);
        return 0;
}

/* An owner has 2^31 keys, of all ids that were ever stored. */
static void test_who_has_used_up_all_keys_gets_no_more(void **state) {
        g_auto(Deed) refused = { .work = deed_put, .owner = bob, .id = "one-more", .document = "document" };
        StageWorld *world = *state;
        g_auto(Error) error = {};
        uint64_t licenses;

        put(world->store, &alice, "alices", "hers");
        put(world->store, &alice, "last", "hers");
        put(world->store, &bob, "last", "hers");
        assert_good(do_write(world->store, move_last, (void *)&bob, &error), &error);
        assert_int_equal(deed_do(&refused, world->store), ERROR_LIMIT_EXCEEDED);
        assert_error(&refused.task.error, ERROR_LIMIT_EXCEEDED, "as many ids as can be counted");
        assert_int_equal(reassign(world, &alice, &bob, &licenses, &error), ERROR_LIMIT_EXCEEDED);

        /* The other way around, where there is a key, but none for the last of those that would come. */
        error_clear(&error);
        assert_int_equal(reassign(world, &bob, &alice, &licenses, &error), ERROR_LIMIT_EXCEEDED);
        assert_error(&error, ERROR_LIMIT_EXCEEDED, "as many ids as can be counted");
        assert_int_equal(ask(world->reader, "SELECT count(*) FROM licenses"), 3);
        assert_books(world->reader);
}

/* A directory that is down for a moment takes somebody for gone, and then finds him: he would lose all. */
static void test_reassigning_to_oneself_changes_nothing(void **state) {
        StageWorld *world = *state;
        g_autofree char *before = NULL;
        g_auto(Error) error = {};
        uint64_t licenses;

        put_for(world, &alice, all_kinds, G_N_ELEMENTS(all_kinds));
        before = describe_owner(world->reader, &alice);
        assert_int_equal(reassign(world, &alice, &alice, &licenses, &error), ERROR_INVALID_ARGUMENTS);
        assert_error(&error, ERROR_INVALID_ARGUMENTS, "has these licenses already");
        assert_owner(world->reader, &alice, before);
        assert_books(world->reader);
}

/* What is overwritten goes through the WAL: no more at once than a disk that is full to its reserve has left. */
static void test_large_documents_are_purged_one_by_one(void **state) {
        g_autofree char *document = g_strnfill(STORE_SLICE_BYTES, 'd');
        StageWorld *world = *state;
        Change change = { .from = alice };
        g_auto(Error) error = {};

        for (unsigned i = 0; i < 3; i++) {
                g_autofree char *id = g_strdup_printf("large-%u", i);

                put(world->store, &alice, id, document);
        }
        put(world->store, &alice, "small", "x");
        for (unsigned i = 0; i < 4; i++) {
                assert_good(do_write(world->store, purge_work, &change, &error), &error);
                assert_int_equal(change.licenses, 1);
                assert_int_equal(change.more, i < 3);
        }
        assert_owner(world->reader, &alice, "");
}

static void test_whoever_the_store_does_not_know_cannot_be_reassigned_or_purged(void **state) {
        StageWorld *world = *state;
        Change change = { .from = carol };
        g_auto(Error) error = {};
        uint64_t licenses;

        assert_int_equal(reassign(world, &carol, &bob, &licenses, &error), ERROR_LICENSE_UNAVAILABLE);
        assert_error(&error, ERROR_LICENSE_UNAVAILABLE, "'carol' (1002)");
        error_clear(&error);
        assert_int_equal(do_write(world->store, purge_work, &change, &error), ERROR_LICENSE_UNAVAILABLE);
}

static void test_owner_with_a_restore_under_way_is_left_alone(void **state) {
        static const Sketch there[] = { { .id = "coming", .document = "soon" } };
        StageWorld *world = *state;
        Change change = { .from = alice };
        g_auto(Error) error = {};
        uint64_t licenses;

        put(world->store, &alice, "here", "already");
        stage_there(world, there, G_N_ELEMENTS(there));

        assert_int_equal(reassign(world, &alice, &bob, &licenses, &error), ERROR_BACKUP_BUSY);
        error_clear(&error);
        assert_int_equal(do_write(world->store, purge_work, &change, &error), ERROR_BACKUP_BUSY);
        error_clear(&error);
        (void)merge_good(world->store, world->stage.restore);
        assert_owner(world->reader, &alice, "coming 'soon' g1\nhere 'already' g1\n");
}

/* A restore to the new owner that is under way is not disturbed: keys are given out over both. */
static void test_reassigning_beside_a_restore_to_the_new_owner_loses_neither(void **state) {
        static const Sketch there[] = { { .id = "restored", .document = "from a backup" } };
        StageWorld *world = *state;
        g_auto(Error) error = {};
        uint64_t licenses;

        put(world->store, &alice, "alices", "here");
        put(world->store, &bob, "bobs", "old");
        stage_there(world, there, G_N_ELEMENTS(there));

        assert_good(reassign(world, &bob, &alice, &licenses, &error), &error);
        assert_owner(world->reader, &alice, "alices 'here' g1\nbobs 'old' g1\n");
        (void)merge_good(world->store, world->stage.restore);
        store_restore_end(world->store, world->stage.restore);
        assert_owner(world->reader, &alice, "alices 'here' g1\nbobs 'old' g1\nrestored 'from a backup' g1\n");
        wait_swept(world->reader);
        assert_owner(world->reader, &alice, "alices 'here' g1\nbobs 'old' g1\nrestored 'from a backup' g1\n");
        assert_books(world->reader);
}

static void test_purge_removes_all_of_one_owner_in_slices(void **state) {
        StageWorld *world = *state;
        Change change = { .from = alice, .more = true };
        g_auto(Error) error = {};
        uint64_t licenses = 0;
        unsigned slices = 0;

        put_here(world, all_kinds, G_N_ELEMENTS(all_kinds));
        for (unsigned i = 0; i < 1200; i++) {
                g_autofree char *id = g_strdup_printf("id%u", i);

                put(world->store, &alice, id, "document");
        }
        put_for(world, &bob, all_kinds, G_N_ELEMENTS(all_kinds));
        g_autofree char *his = describe_owner(world->reader, &bob);

        for (; change.more; slices++) {
                assert_good(do_write(world->store, purge_work, &change, &error), &error);
                licenses += change.licenses;
                assert_books(world->reader);
        }
        assert_int_equal(licenses, 1203);
        /* The owner goes with the last of them. */
        assert_int_equal(slices, 2);
        assert_owner(world->reader, &alice, "");
        assert_int_equal(count_owner(world, &alice), 0);
        assert_owner(world->reader, &bob, his);
        assert_int_equal(ask(world->reader, "SELECT count(*) FROM documents"), 3);
        assert_int_equal(ask(world->reader, "SELECT count(*) FROM counters"), 3);
}

static void test_list_gives_pages_by_name(void **state) {
        StageWorld *world = *state;
        g_autoptr(GPtrArray) page = g_ptr_array_new(), rest = g_ptr_array_new();
        g_auto(Error) error = {};

        put(world->store, &carol, "one", "document");
        put(world->store, &alice, "one", "document");
        put(world->store, &bob, "one", "document");
        put(world->store, &bob, "two", "document");

        assert_good(store_owner_list(world->reader, 0, 2, page, &error), &error);
        assert_int_equal(page->len, 2);
        assert_string_equal(((StoreOwnerRow *)page->pdata[0])->name, "alice");
        assert_string_equal(((StoreOwnerRow *)page->pdata[1])->name, "bob");
        assert_int_equal(((StoreOwnerRow *)page->pdata[1])->uid, 1001);
        assert_int_equal(((StoreOwnerRow *)page->pdata[1])->licenses, 2);
        assert_true(((StoreOwnerRow *)page->pdata[1])->bytes > 16);
        assert_good(store_owner_list(world->reader, 2, 2, rest, &error), &error);
        assert_int_equal(rest->len, 1);
        assert_string_equal(((StoreOwnerRow *)rest->pdata[0])->name, "carol");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_world_setup, stage_world_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_paths_of_an_owner_go_with_it),
                TEST(test_reassigning_to_a_new_owner_gives_all_that_there_was),
                TEST(test_reassigning_to_an_owner_who_has_some_merges),
                TEST(test_reassigning_keeps_the_document_that_is_whole),
                TEST(test_reassigning_keeps_what_is_whole_and_knows_what_is_not),
                TEST(test_reassigning_believes_no_date_that_is_damaged),
                TEST(test_reassigning_takes_no_damaged_document_for_being_newer),
                TEST(test_reassigning_keeps_no_damaged_document_for_being_newer),
                TEST(test_reassigning_leaves_an_older_document_that_is_damaged),
                TEST(test_reassigning_does_not_seal_what_was_not_sealed),
                TEST(test_conflict_reassigns_nothing_and_names_the_license),
                TEST(test_license_that_the_former_owner_revoked_stays),
                TEST(test_license_that_the_new_owner_revoked_is_not_lost),
                TEST(test_reassigning_keeps_to_the_limits_of_the_new_owner),
                TEST(test_who_has_used_up_all_keys_gets_no_more),
                TEST(test_reassigning_to_oneself_changes_nothing),
                TEST(test_large_documents_are_purged_one_by_one),
                TEST(test_whoever_the_store_does_not_know_cannot_be_reassigned_or_purged),
                TEST(test_owner_with_a_restore_under_way_is_left_alone),
                TEST(test_reassigning_beside_a_restore_to_the_new_owner_loses_neither),
                TEST(test_purge_removes_all_of_one_owner_in_slices),
                TEST(test_list_gives_pages_by_name),
        };

        return cmocka_run_group_tests_name("store-owner", tests, NULL, NULL);
}
