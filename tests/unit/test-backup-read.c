/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "document.h"
#include "restore-world.h"
#include "told.h"

/* Backups that the service made are read as what its store had. */

#define LCP_START "{\"id\":\"l\",\"provider\":\"p\",\"issued\":\"2024-01-01T00:00:00Z\","
#define LCP_RIGHTS "\"rights\":{\"print\":10,\"copy\":100,\"start\":\"2024-01-01T00:00:00Z\"," \
        "\"end\":\"2025-01-01T00:00:00Z\"},"
#define LCP_LINK(title) "\"links\":[{\"rel\":\"publication\",\"href\":\"x\",\"title\":\"" title "\"}],"
#define LCP_END(profile) "\"encryption\":{" profile "},\"signature\":{}}"
#define LCP_PROFILE "\"profile\":\"http://readium.org/lcp/1\""
#define LCP_GOOD LCP_START LCP_RIGHTS LCP_LINK("Moby") LCP_END(LCP_PROFILE)
#define LCP_DATE "1704067200000000"

/* What a store has, told as a backup of it would be */

/* A license as an app stores it. */
typedef struct Stored {
        const char *document;
        const char *id, *key_id, *title, *issuer, *media_type;
        int64_t not_before, not_after; /* 0: not set */
        const char *right;             /* one counter, of five uses; NULL: none */
        bool restricted;
} Stored;

typedef struct StoredDeed {
        Deed deed;
        const Stored *stored;
} StoredDeed;

static int store_stored(Deed *deed, StoreConnection *connection, Error *error) {
        const Stored *stored = ((StoredDeed *)deed)->stored;
        g_auto(License) license = {}, claimed = {};
        const struct {
                const char *value;
                char **field;
        } texts[] = {
                { stored->id, &claimed.id }, { stored->key_id, &claimed.key_id }, { stored->title, &claimed.title },
                { stored->issuer, &claimed.issuer }, { stored->media_type, &claimed.media_type },
        };
        int r;

        license_init(&license);
        license_init(&claimed);
        for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
                if (texts[i].value)
                        assert_int_equal(license_set_string(texts[i].field, texts[i].value), 0);
        claimed.not_before = stored->not_before > 0 ? stored->not_before : LICENSE_NO_TIME;
        claimed.not_after = stored->not_after > 0 ? stored->not_after : LICENSE_NO_TIME;
        claimed.allow_backup = !stored->restricted;
        if (stored->right)
                assert_int_equal(license_limit_counter(&claimed, stored->right, 5), 0);

        r = document_recognise(stored->document, strlen(stored->document), stored->media_type, &license, error);
        if (r == 0)
                r = license_narrow(&license, &claimed, error);
        return r == 0 ? store_license_put(connection, &deed->owner, &license, stored->document, error) : r;
}

static void store_it(World *world, const StoreOwner *owner, Stored stored) {
        StoredDeed work = { .deed = { .work = store_stored, .owner = *owner }, .stored = &stored };

        assert_good(deed_do(&work.deed, world->store), &work.deed.task.error);
}

static int consume_some(Deed *deed, StoreConnection *connection, Error *error) {
        uint64_t remaining;

        return store_license_consume(connection, &deed->owner, deed->id, deed->document, 3, 1720000000, &remaining,
                error);
}

static void consume_three(World *world, const StoreOwner *owner, const char *id, const char *right) {
        g_auto(Deed) deed = { .work = consume_some, .owner = *owner, .id = id, .document = right };

        assert_good(deed_do(&deed, world->store), &deed.task.error);
}

/* In the order of a backup: by owner, all ids, then the documents that may be backed up. */
static void render_rows(StoreConnection *connection, const GPtrArray *owners, bool documents, bool names,
                GString *text) {
        g_auto(Error) error = {};

        for (unsigned i = 0; i < owners->len; i++) {
                const StoreOwnerRow *owner = owners->pdata[i];
                g_autoptr(StoreCursor) cursor = NULL;
                const StoreCursorRow *row;
                const char *name = names ? owner->name : NULL;

                assert_good(store_cursor_new(connection, owner->owner, true, &cursor, &error), &error);
                while (store_cursor_next(cursor, &row, &error) == 0 && row) {
                        if (!documents)
                                told_state(text, name, &row->license, row->revoked);
                        else if (row->present && row->license.allow_backup)
                                told_license(text, name, &row->license, row->document);
                }
                assert_good((int)error.code, &error);
        }
}

static char *render_store(World *world, const StoreOwner *owner) {
        g_autoptr(GPtrArray) owners = g_ptr_array_new();
        g_autoptr(StoreConnection) connection = NULL;
        uid_t uid = owner ? owner->uid : (uid_t)-1;
        GString *text = g_string_new("");
        g_auto(Error) error = {};

        assert_good(store_connect(world->store, &connection, &error), &error);
        assert_good(store_snapshot_begin(connection, &error), &error);
        assert_good(store_snapshot_owners(connection, uid, owner ? owner->name : NULL, owners, &error), &error);
        render_rows(connection, owners, false, !owner, text);
        render_rows(connection, owners, true, !owner, text);
        store_snapshot_end(connection);
        return g_string_free(text, false);
}

/* A backup is read as what the store has, all fields of it; *told stays for more. */
static void assert_read_as_stored(World *world, bool all_users, Told *told) {
        g_autofree char *expected = render_store(world, all_users ? NULL : &alice);
        _cleanup_fd_ int fd = back_up(world, all_users);
        g_auto(Error) error = {};

        assert_good(told_read(told, fd, &error), &error);
        assert_int_equal(told->n_origins, 1);
        assert_true(told->n_states > 0);
        assert_string_equal(strchr(told->text->str, '\n') + 1, expected);
}

static void store_all_kinds(World *world) {
        store_it(world, &alice, (Stored) { LCP_GOOD, .key_id = "k", .not_before = 1710000000,
                         .not_after = 1720000001, .right = "play" });
        consume_three(world, &alice, "l", "print");
        store_it(world, &alice, (Stored) { "text", "opaque", "key", "Title\nof two lines", "Issuer \xe2\x82\xac",
                         "text/plain", 1, INT64_MAX, "play" });
        store_it(world, &alice, (Stored) { "\x01", .id = "bin/ary id" });
        store_it(world, &alice, (Stored) { "", .id = "empty" });
        store_it(world, &alice, (Stored) { "secret", .id = "restricted", .right = "play", .restricted = true });
        store_it(world, &alice, (Stored) { "x", .id = "deleted", .right = "play" });
        delete_license(world->store, &alice, "deleted");
        store_it(world, &alice, (Stored) { "x", .id = "revoked" });
        revoke_license(world->store, &alice, "revoked");
}

static void test_backup_of_one_user_is_read_as_it_was_stored(void **state) {
        static const char *const lines[] = {
                "|host|machine|one|1000|alice|4|1\n",
                "state -/l g1 free revoked -1 copy=100 play=5 print=7\n",
                "state -/restricted g1 restricted revoked -1 play=5\n",
                "state -/deleted g1 free revoked -1 play=5\n",
                "state -/revoked g1 free revoked 1",
                "license -/l g1 free key 'k' title 'Moby' issuer 'p' type '" DOCUMENT_MEDIA_TYPE_LCP "' "
                "1710000000 to 1720000001 date " LCP_DATE " lcpl ",
                "license -/opaque g1 free key 'key' title 'Title\nof two lines' issuer 'Issuer \xe2\x82\xac' "
                "type 'text/plain' 1 to 9223372036854775807 date -9223372036854775808 lic 4 ",
                "license -/bin/ary id g1 free key '-' title '-' issuer '-' type '-' -1 to -1 "
                "date -9223372036854775808 bin 1 ",
        };
        World *world = *state;
        g_auto(Told) told = {};

        store_all_kinds(world);
        assert_read_as_stored(world, false, &told);
        assert_int_equal(told.n_states, 7);
        assert_int_equal(told.n_licenses, 4);
        for (size_t i = 0; i < G_N_ELEMENTS(lines); i++)
                if (!strstr(told.text->str, lines[i]))
                        fail_msg("'%s' is not in:\n%s", lines[i], told.text->str);
        assert_true(g_str_has_prefix(told.text->str, "origin licensevault " PROJECT_VERSION "|20"));
}

static void test_backup_of_all_users_is_read_as_it_was_stored(void **state) {
        World *world = *state;
        g_auto(Told) told = {};

        store_all_kinds(world);
        store_it(world, &bob, (Stored) { LCP_GOOD });
        store_it(world, &(StoreOwner) { 1002, "J\xc3\xb6rg O'Neil/.." }, (Stored) { "x", .id = "l" });
        assert_read_as_stored(world, true, &told);
        assert_int_equal(told.n_licenses, 6);
        assert_non_null(strstr(told.text->str, "|all|0|-|6|1\n"));
        assert_non_null(strstr(told.text->str, "license alice/l g1 "));
        assert_non_null(strstr(told.text->str, "license bob/l g1 "));
        assert_non_null(strstr(told.text->str, "license J\xc3\xb6rg O'Neil/../l g1 "));
}

/* The backup gives him a name that no account has, so that he is told apart. */
static void test_user_without_a_name_is_read_in_a_backup_of_all(void **state) {
        World *world = *state;
        g_auto(Error) error = {};
        g_auto(Told) told = {};

        store_it(world, &(StoreOwner) { 1003, "" }, (Stored) { "x", .id = "nameless" });
        _cleanup_fd_ int fd = back_up(world, true);
        assert_good(told_read(&told, fd, &error), &error);
        assert_non_null(strstr(told.text->str, "license (1003)/nameless g1 "));
}

/* Where a store's license is not what its document alone would give. */
static void test_licenses_that_went_their_own_way_are_read_as_they_were_stored(void **state) {
        g_autofree char *long_title = g_strnfill(LICENSE_STRING_MAX - 1, 't');
        g_autofree char *titled = g_strconcat(LCP_START, "\"links\":{\"publication\":{\"title\":\"", long_title,
                "\xe2\x82\xac\"}},", LCP_END(LCP_PROFILE), NULL);
        World *world = *state;
        g_auto(Told) told = {};

        /* By the caller's word alone, and told by its title; then stored anew, with fewer rights in it. */
        store_it(world, &alice, (Stored) { LCP_START LCP_RIGHTS LCP_LINK("T") LCP_END(""),
                         .media_type = DOCUMENT_MEDIA_TYPE_LCP });
        consume_three(world, &alice, "l", "copy");
        store_it(world, &alice, (Stored) { titled });
        assert_read_as_stored(world, false, &told);
        assert_non_null(strstr(told.text->str, "state -/l g2 free revoked -1 copy=97 print=10\n"));
        assert_non_null(strstr(told.text->str, "tt' issuer 'p'"));

        /* A title that the bus would not take is none, and the caller gives another. Nothing bounds it any more. */
        store_it(world, &alice, (Stored) { LCP_START LCP_LINK("\\ufffe") LCP_END(LCP_PROFILE), .title = "Mine" });
        assert_read_as_stored(world, false, &told);
        assert_non_null(strstr(told.text->str, "license -/l g3 free key '-' title 'Mine'"));

        /* What mentions LCP and is another's; and the old id with a document that no longer names itself. */
        store_it(world, &alice, (Stored) { "{\"see\":\"readium.org/lcp/\"}", "see" });
        store_it(world, &alice, (Stored) { "opaque", "l", .media_type = "text/plain", .not_after = 5 });
        delete_license(world->store, &alice, "see");
        store_it(world, &alice, (Stored) { "again", "see", .right = "play", .restricted = true });
        store_it(world, &alice, (Stored) { "again", "see", .right = "copy" });
        assert_read_as_stored(world, false, &told);
        assert_non_null(strstr(told.text->str, "license -/l g4 free"));
        assert_non_null(strstr(told.text->str, "license -/see g3 free"));

        /* From before 1970. */
        store_it(world, &alice, (Stored) { "{\"id\":\"old\",\"provider\":\"p\",\"issued\":\"1969-12-31T23:59:59.5Z\","
                         "\"rights\":{\"end\":\"1969-01-01T00:00:00Z\"},\"links\":[]," LCP_END(LCP_PROFILE) });
        assert_read_as_stored(world, false, &told);
        assert_non_null(strstr(told.text->str, "-1 to 0 date -500000 lcpl"));
}

static void test_many_counters_and_long_texts_are_read_as_they_were_stored(void **state) {
        g_autofree char *text = g_strnfill(LICENSE_STRING_MAX, 's');
        World *world = *state;
        g_auto(Told) told = {};

        for (unsigned i = 0; i < LICENSE_COUNTERS_MAX; i++) {
                char right[LICENSE_RIGHT_MAX + 1];

                snprintf(right, sizeof right, "%0*u", (int)LICENSE_RIGHT_MAX, i);
                store_it(world, &alice, (Stored) { "x", text, text, text, text, text, .right = right });
        }
        assert_read_as_stored(world, false, &told);
        assert_int_equal(told.n_licenses, 1);
}

/* The manifest */

static void test_origin_is_described_for_people(void **state) {
        const struct {
                BackupOrigin origin;
                const char *expected;
        } origins[] = {
                { { .host = (char *)"laptop", .name = (char *)"anna", .uid = 7 }, "anna on laptop" },
                { { .host = (char *)"", .name = (char *)"anna" }, "anna" },
                { { .host = (char *)"laptop", .all_users = true }, "all users on laptop" },
                { { .host = (char *)"", .all_users = true }, "all users" },
                { { .host = (char *)"laptop", .name = (char *)"", .uid = 4294967294U }, "user 4294967294 on laptop" },
                { { .host = (char *)"h", .name = (char *)"a\x1b[2Jb\xc2\x9b\xc3\xa9\n" }, "a?[2Jb?\xc3\xa9? on h" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(origins); i++) {
                g_autofree char *found = backup_origin_describe(&origins[i].origin);
                assert_string_equal(found, origins[i].expected);
        }
}

/* What a visitor may do */

static int make_whole(void) {
        return make_archive(whole_parts, N_PARTS, 0);
}

static void test_error_of_the_visitor_ends_the_reading(void **state) {
        static const struct {
                Told told;
                unsigned n_states, n_licenses;
        } cases[] = {
                { { .refuse_origin = ERROR_NEEDS_INDIVIDUALIZATION }, 0, 0 },
                { { .refuse_state = ERROR_LIMIT_EXCEEDED }, 1, 0 },
                { { .refuse_license = ERROR_STORE_WRITE }, 2, 1 },
                /* Not ours to translate. */
                { { .refuse_license = ERROR_INVALID_LICENSE }, 2, 1 },
                { { .refuse_state = ERROR_LIMIT_EXCEEDED, .steal = true }, 1, 0 },
                { { .refuse_license = ERROR_STORE_WRITE, .steal = true }, 2, 1 },
        };
        _cleanup_fd_ int fd = make_whole();

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_auto(Told) told = cases[i].told;
                g_auto(Error) error = {};

                assert_int_equal(told_read(&told, fd, &error),
                        told.refuse_origin + told.refuse_state + told.refuse_license);
                assert_string_equal(error.message, "The visitor says so.");
                assert_int_equal(told.n_origins, 1);
                assert_int_equal(told.n_states, cases[i].n_states);
                assert_int_equal(told.n_licenses, cases[i].n_licenses);
        }
}

static void test_visitor_may_take_each_license(void **state) {
        _cleanup_fd_ int fd = make_whole();
        g_auto(Told) told = { .steal = true };
        g_auto(Error) error = {};

        assert_good(told_read(&told, fd, &error), &error);
        assert_int_equal(told.n_states, 2);
        assert_int_equal(told.n_licenses, 2);
}

static int read_silently(int fd, ArchiveCounts *ret, Error *error) {
        const BackupVisitor visitor = {};

        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        return backup_read(fd, TOLD_DOCUMENT_MAX, 5000, NULL, &visitor, ret, error);
}

static void test_visitor_without_functions_proves_all_the_same(void **state) {
        static const Part wrong[N_PARTS] = {
                [PART_MANIFEST] = { ARCHIVE_MANIFEST, "{\"format\":1,\"licenses\":2,\"restricted\":0}" },
                [PART_STATE] = { ARCHIVE_STATE, "{}\n" },
                [PART_B] = { "licenses/0000002-b.lic", "document b", "id=b" },
        };
        ArchiveCounts counts = {};
        g_auto(Error) error = {};
        _cleanup_fd_ int fd = make_whole();

        assert_good(read_silently(fd, &counts, &error), &error);
        assert_int_equal(counts.licenses, 2);
        assert_int_equal(counts.restricted, 0);
        assert_int_equal(counts.bytes, lseek(fd, 0, SEEK_END));

        for (unsigned i = PART_MANIFEST; i < N_PARTS; i++) {
                _cleanup_fd_ int damaged = -1;

                if (!wrong[i].path)
                        continue;
                damaged = make_archive_with(i, wrong[i]);
                assert_int_equal(read_silently(damaged, &counts, &error), ERROR_BACKUP_CORRUPT);
                assert_error(&error, ERROR_BACKUP_CORRUPT, wrong[i].path);
        }
}

/* All of it was told, and none of it is proved. */
static void test_backup_without_its_end_is_corrupt_after_all_was_told(void **state) {
        _cleanup_fd_ int fd = make_archive(whole_parts, N_PARTS, -1);
        g_auto(Error) error = {};
        g_auto(Told) told = {};

        assert_int_equal(told_read(&told, fd, &error), ERROR_BACKUP_CORRUPT);
        assert_error(&error, ERROR_BACKUP_CORRUPT, ARCHIVE_END " is missing");
        assert_int_equal(told.n_licenses, 2);
}

static void test_document_over_the_limit_is_told_as_such(void **state) {
        g_autofree char *document = g_strnfill(TOLD_DOCUMENT_MAX + 1, 'd');
        Part part = { "licenses/0000001-a.lic", document, "id=a\ngeneration=1" };
        _cleanup_fd_ int larger = make_archive_with(PART_A, part);
        g_auto(Error) error = {};
        g_auto(Told) told = {};

        assert_int_equal(told_read(&told, larger, &error), ERROR_LIMIT_EXCEEDED);
        assert_error(&error, ERROR_LIMIT_EXCEEDED, part.path);

        document[TOLD_DOCUMENT_MAX] = '\0';
        assert_taken(make_archive_with(PART_A, part), "license -/a g1");
}

static int cancel_here(BackupState *told, void *userdata, Error *error) {
        cancel_trigger(userdata, "Enough.");
        return 0;
}

/* More than is read at once comes after it. */
static void test_cancel_ends_the_reading(void **state) {
        g_autoptr(GString) states = g_string_new(NULL);
        g_autoptr(Cancel) cancel = NULL;
        g_auto(Error) error = {};
        ArchiveCounts counts;

        for (unsigned i = 0; i < 100000; i++)
                g_string_append_printf(states, "{\"id\":\"%u\",\"generation\":1,\"counters\":{}}\n", i);
        assert_int_equal(cancel_new(&cancel), 0);
        _cleanup_fd_ int fd = make_archive_with(PART_STATE, (Part) { ARCHIVE_STATE, states->str });
        const BackupVisitor visitor = { .state = cancel_here, .userdata = cancel };
        assert_int_equal(backup_read(fd, TOLD_DOCUMENT_MAX, 5000, cancel, &visitor, &counts, &error), ERROR_CANCELED);
        assert_string_equal(error.message, "Enough.");
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_backup_of_one_user_is_read_as_it_was_stored),
                IN_WORLD(test_backup_of_all_users_is_read_as_it_was_stored),
                IN_WORLD(test_user_without_a_name_is_read_in_a_backup_of_all),
                IN_WORLD(test_licenses_that_went_their_own_way_are_read_as_they_were_stored),
                IN_WORLD(test_many_counters_and_long_texts_are_read_as_they_were_stored),
                cmocka_unit_test(test_origin_is_described_for_people),
                cmocka_unit_test(test_error_of_the_visitor_ends_the_reading),
                cmocka_unit_test(test_visitor_may_take_each_license),
                cmocka_unit_test(test_visitor_without_functions_proves_all_the_same),
                cmocka_unit_test(test_backup_without_its_end_is_corrupt_after_all_was_told),
                cmocka_unit_test(test_document_over_the_limit_is_told_as_such),
                cmocka_unit_test(test_cancel_ends_the_reading),
        };

        restore_world_prepare();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
