/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "backup-read.h"
#include "document.h"
#include "restore-world.h"

#define DOCUMENT_MAX 8192U
#define LCP_START "{\"id\":\"l\",\"provider\":\"p\",\"issued\":\"2024-01-01T00:00:00Z\","
#define LCP_RIGHTS "\"rights\":{\"print\":10,\"copy\":100,\"start\":\"2024-01-01T00:00:00Z\"," \
        "\"end\":\"2025-01-01T00:00:00Z\"},"
#define LCP_LINK(title) "\"links\":[{\"rel\":\"publication\",\"href\":\"x\",\"title\":\"" title "\"}],"
#define LCP_END(profile) "\"encryption\":{" profile "},\"signature\":{}}"
#define LCP_PROFILE "\"profile\":\"http://readium.org/lcp/1\""
#define LCP_GOOD LCP_START LCP_RIGHTS LCP_LINK("Moby") LCP_END(LCP_PROFILE)
#define LCP_DATE "1704067200000000"

/* What a visitor was told, a line for each call, and how it behaves. */
typedef struct Told {
        GString *text;
        unsigned n_origins, n_states, n_licenses;
        ErrorCode refuse_origin, refuse_state, refuse_license;
        bool steal;
} Told;

static void told_clear(Told *told) {
        if (told->text)
                g_string_free(told->text, true);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Told, told_clear)

static void render_counters(GString *text, const License *license) {
        for (unsigned i = 0; i < license->counters->len; i++) {
                const Counter *counter = &g_array_index(license->counters, Counter, i);

                g_string_append_printf(text, " %s=%" PRIu64, counter->right, counter->remaining);
        }
}

static void render_state(GString *text, const char *owner, const License *license, int64_t revoked) {
        g_string_append_printf(text, "state %s/%s g%" PRIu64 " %s revoked %" PRIi64, owner ?: "-", license->id,
                license->generation, license->allow_backup ? "free" : "restricted", revoked);
        render_counters(text, license);
        g_string_append_c(text, '\n');
}

static void render_license(GString *text, const char *owner, const License *license, const void *document) {
        char hex[LICENSE_DIGEST_SIZE * 2 + 1];
        g_auto(License) found = {};

        license_digest_document(&found, document, license->size);
        assert_memory_equal(found.digest, license->digest, sizeof found.digest);
        license_digest_to_hex(license->digest, hex);
        g_string_append_printf(text, "license %s/%s g%" PRIu64 " %s key '%s' title '%s' issuer '%s' type '%s' "
                "%" PRIi64 " to %" PRIi64 " date %" PRIi64 " %s %" PRIu64 " %s", owner ?: "-", license->id,
                license->generation, license->allow_backup ? "free" : "restricted", license->key_id ?: "-",
                license->title ?: "-", license->issuer ?: "-", license->media_type ?: "-", license->not_before,
                license->not_after, license->document_date, license->extension, license->size, hex);
        render_counters(text, license);
        g_string_append_c(text, '\n');
}

static int refuse(ErrorCode code, Error *error) {
        return code == ERROR_NONE ? 0 : error_set(error, code, "The visitor says so.");
}

static int on_origin(const BackupOrigin *origin, void *userdata, Error *error) {
        Told *told = userdata;

        assert_int_equal(told->n_states + told->n_licenses, 0);
        assert_non_null(origin->software);
        assert_non_null(origin->created);
        assert_non_null(origin->host);
        assert_non_null(origin->machine);
        assert_true(origin->all_users == (origin->name == NULL));
        g_string_append_printf(told->text, "origin %s|%s|%s|%s|%s|%" PRIu32 "|%s|%" PRIu64 "|%" PRIu64 "\n",
                origin->software, origin->created, origin->host, origin->machine,
                origin->all_users ? "all" : "one", (uint32_t)origin->uid, origin->name ?: "-", origin->licenses,
                origin->restricted);
        told->n_origins++;
        return refuse(told->refuse_origin, error);
}

static int on_state(BackupState *state, void *userdata, Error *error) {
        Told *told = userdata;

        assert_true(told->n_origins == 1 && told->n_licenses == 0);
        assert_int_equal(state->line, ++told->n_states);
        render_state(told->text, state->owner, &state->license, state->revoked);
        if (told->steal) {
                License taken = state->license;

                state->license = (License) {};
                license_clear(&taken);
        }
        return refuse(told->refuse_state, error);
}

static int on_license(BackupLicense *license, void *userdata, Error *error) {
        Told *told = userdata;

        assert_int_equal(told->n_origins, 1);
        told->n_licenses++;
        assert_true(g_str_has_prefix(license->path, ARCHIVE_LICENSES));
        render_license(told->text, license->owner, &license->license, license->document);
        if (told->steal) {
                License taken = license->license;

                license->license = (License) {};
                license_clear(&taken);
        }
        return refuse(told->refuse_license, error);
}

/* Reads fd from its start. */
static int read_backup(int fd, Told *told, Error *error) {
        const BackupVisitor visitor = { on_origin, on_state, on_license, told };
        ArchiveCounts counts = { .licenses = 77 };
        int r;

        if (told->text)
                g_string_free(told->text, true);
        told->text = g_string_new("");
        told->n_origins = told->n_states = told->n_licenses = 0;
        assert_true(lseek(fd, 0, SEEK_SET) == 0);
        r = backup_read(fd, DOCUMENT_MAX, 5000, NULL, &visitor, &counts, error);
        assert_int_equal(r, error->code);
        assert_int_equal(counts.licenses, r == 0 ? told->n_licenses : 77);
        return r;
}

/* Closes fd. */
static void assert_taken(int fd, const char *words) {
        g_auto(Error) error = {};
        g_auto(Told) told = {};

        assert_good(read_backup(fd, &told, &error), &error);
        if (!strstr(told.text->str, words))
                fail_msg("'%s' is not in:\n%s", words, told.text->str);
        close(fd);
}

static void assert_corrupt(int fd, const char *where, const char *what) {
        g_autofree char *quoted = g_strdup_printf("'%s'", where);
        g_auto(Error) error = {};
        g_auto(Told) told = {};

        assert_int_equal(read_backup(fd, &told, &error), ERROR_BACKUP_CORRUPT);
        assert_error(&error, ERROR_BACKUP_CORRUPT, quoted);
        assert_error(&error, ERROR_BACKUP_CORRUPT, what);
        if (!g_str_has_suffix(error_message(&error), "Use another copy."))
                fail_msg("It is not said what to do: %s", error_message(&error));
        close(fd);
}

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
                                render_state(text, name, &row->license, row->revoked);
                        else if (row->present && row->license.allow_backup)
                                render_license(text, name, &row->license, row->document);
                }
                assert_good((int)error.code, &error);
        }
}

static char *render_store(World *world, const StoreOwner *owner) {
        g_autoptr(GPtrArray) owners = g_ptr_array_new();
        g_autoptr(StoreConnection) connection = NULL;
        GString *text = g_string_new("");
        g_auto(Error) error = {};

        assert_good(store_connect(world->store, &connection, &error), &error);
        assert_good(store_snapshot_begin(connection, &error), &error);
        assert_good(store_snapshot_owners(connection, owner ? owner->uid : (uid_t)-1, owner ? owner->name : NULL, owners,
                            &error), &error);
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

        assert_good(read_backup(fd, told, &error), &error);
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
        assert_good(read_backup(fd, &told, &error), &error);
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

#define SAID "\"software\":\"s\",\"created\":\"c\",\"host\":\"h\",\"machine\":\"m\""
#define COUNTED "\"format\":1,\"licenses\":2,\"restricted\":0"
#define OWNED(uid, name) "\"all_users\":false,\"owner\":{\"uid\":" uid ",\"name\":" name "}"

static int make_manifest(const char *manifest) {
        return make_archive_with(PART_MANIFEST, (Part) { ARCHIVE_MANIFEST, manifest });
}

static void test_manifest_within_its_limits_is_taken(void **state) {
        g_autofree char *text = g_strnfill(LICENSE_STRING_MAX, 's');
        g_autofree char *full = g_strdup_printf("{" COUNTED ",\"software\":\"%s\",\"created\":\"%s\",\"host\":\"%s\","
                "\"machine\":\"%s\"," OWNED("0", "\"%s\"") "}", text, text, text, text, text);
        g_autofree char *expected = g_strdup_printf("origin %s|%s|%s|%s|one|0|%s|2|0\n", text, text, text, text, text);

        assert_taken(make_manifest(full), expected);
        assert_taken(make_manifest("{" COUNTED "," SAID "," OWNED("4294967294", "\"\"") "}"),
                "origin s|c|h|m|one|4294967294||2|0\n");
        /* What a later version adds without a new format. */
        assert_taken(make_manifest("{" COUNTED "," SAID "," OWNED("1", "\"a\"") ",\"color\":[{}]}"), "|one|1|a|2|0\n");
        /* For a terminal; the name is for comparing, too. */
        assert_taken(make_manifest("{" COUNTED ",\"software\":\"s\\u001b[2J\",\"created\":\"\\u009bc\\u007f\","
                "\"host\":\"h\\n\\u00e9\",\"machine\":\"\"," OWNED("1", "\"a\\u0001\"") "}"),
                "origin s?[2J|?c?|h?\xc3\xa9||one|1|a\x01|2|0\n");
}

static void test_manifest_that_is_none_is_refused(void **state) {
        static const char *const manifests[] = {
                "{" COUNTED "," SAID "}",
                "{" COUNTED "," SAID ",\"all_users\":0}",
                "{" COUNTED "," SAID ",\"all_users\":null,\"owner\":{\"uid\":1,\"name\":\"a\"}}",
                "{" COUNTED "," SAID ",\"owner\":{\"uid\":1,\"name\":\"a\"}}",
                "{" COUNTED "," SAID ",\"all_users\":false}",
                "{" COUNTED "," SAID ",\"all_users\":false,\"owner\":null}",
                "{" COUNTED "," SAID ",\"all_users\":false,\"owner\":[1,\"a\"]}",
                "{" COUNTED "," SAID ",\"all_users\":true,\"owner\":{\"uid\":1,\"name\":\"a\"}}",
                "{" COUNTED "," SAID ",\"all_users\":true,\"owner\":null}",
                "{" COUNTED "," SAID ",\"all_users\":false,\"owner\":{\"name\":\"a\"}}",
                "{" COUNTED "," SAID ",\"all_users\":false,\"owner\":{\"uid\":1}}",
                "{" COUNTED "," SAID "," OWNED("-1", "\"a\"") "}",
                "{" COUNTED "," SAID "," OWNED("1.0", "\"a\"") "}",
                "{" COUNTED "," SAID "," OWNED("\"1\"", "\"a\"") "}",
                "{" COUNTED "," SAID "," OWNED("4294967295", "\"a\"") "}",
                "{" COUNTED "," SAID "," OWNED("4294967296", "\"a\"") "}",
                "{" COUNTED "," SAID "," OWNED("1", "7") "}",
                "{" COUNTED "," SAID "," OWNED("1", "\"\\ufdd0\"") "}",
                "{" COUNTED "," SAID "," OWNED("1", "\"a\\u0000\"") "}",
                "{" COUNTED "," SAID "," OWNED("1", "\"\\ud800\"") "}",
                "{" COUNTED "," SAID "," OWNED("1,\"uid\":1", "\"a\"") "}",
        };
        static const char *const keys[] = { "software", "created", "host", "machine" };
        g_autofree char *longer = g_strnfill(LICENSE_STRING_MAX + 1, 's');
        g_autofree char *quoted = g_strdup_printf("\"%s\"", longer);
        const char *const values[] = { NULL, "7", "null", "[\"x\"]", "\"\\ufffe\"", quoted };

        for (size_t i = 0; i < G_N_ELEMENTS(manifests); i++)
                assert_corrupt(make_manifest(manifests[i]), ARCHIVE_MANIFEST, "");

        for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
                for (size_t k = 0; k < G_N_ELEMENTS(values); k++) {
                        g_autoptr(GString) manifest = g_string_new("{" COUNTED "," OWNED("1", "\"a\""));

                        for (size_t j = 0; j < G_N_ELEMENTS(keys); j++)
                                if (i != j || values[k])
                                        g_string_append_printf(manifest, ",\"%s\":%s", keys[j],
                                                i == j ? values[k] : "\"x\"");
                        g_string_append(manifest, "}");
                        assert_corrupt(make_manifest(manifest->str), ARCHIVE_MANIFEST, keys[i]);
                }
}

/* state.jsonl */

static int make_third_line(const char *line) {
        g_autofree char *text = g_strconcat(whole_parts[PART_STATE].content, line, "\n", NULL);

        return make_archive_with(PART_STATE, (Part) { ARCHIVE_STATE, text });
}

static void test_state_lines_within_their_limits_are_taken(void **state) {
        g_autofree char *id = g_strnfill(LICENSE_STRING_MAX, 'i'), *right = g_strnfill(LICENSE_RIGHT_MAX, 'r');
        g_autofree char *longest = g_strdup_printf("{\"id\":\"%s\",\"generation\":9223372036854775807,"
                "\"counters\":{\"%s\":9223372036854775807},\"restricted\":true,\"revoked\":9223372036854775807}", id,
                right);
        g_autofree char *expected = g_strdup_printf("state -/%s g9223372036854775807 restricted revoked "
                "9223372036854775807 %s=9223372036854775807\n", id, right);

        assert_taken(make_third_line(longest), expected);
        assert_taken(make_third_line("{\"generation\":1,\"revoked\":0,\"counters\":{\"0\":0},\"id\":\"\\u00e9\\n\"}"),
                "state -/\xc3\xa9\n g1 free revoked 0 0=0\n");
        /* Without an LF at the end of the last. */
        assert_taken(make_archive_with(PART_STATE, (Part) { ARCHIVE_STATE,
                             "{\"id\":\"a\",\"generation\":1,\"counters\":{\"play\":5}}\n"
                             "{\"id\":\"b\",\"generation\":2,\"counters\":{}}" }), "state -/b g2 ");
        assert_taken(make_archive_with(PART_STATE, (Part) { ARCHIVE_STATE, "" }), "license -/a");
}

static void test_state_lines_that_are_none_are_refused(void **state) {
#define GOOD_LINE(id, generation, counters) "{\"id\":" id ",\"generation\":" generation ",\"counters\":" counters "}"
#define WITH(member) "{" member ",\"id\":\"c\",\"generation\":1,\"counters\":{}}"
        static const struct {
                const char *line, *what;
        } wrong[] = {
                { "", "line 3 is not" }, { " ", "line 3 is not" }, { "x", "line 3 is not" }, { "[]", "line 3 is not" },
                { "null", "line 3 is not" }, { "7", "line 3 is not" }, { "{}", "line 3 does not say" },
                { GOOD_LINE("\"c\"", "1", "{}") "{}", "line 3 is not" },
                { GOOD_LINE("\"c", "1", "{}"), "line 3 is not" },
                { GOOD_LINE("\"\\u0000\"", "1", "{}"), "line 3 is not" },
                { GOOD_LINE("\"\\ud834\"", "1", "{}"), "line 3 is not" },
                { GOOD_LINE("\"\xff\"", "1", "{}"), "line 3 is not" },
                { GOOD_LINE("\"c\"", "9223372036854775808", "{}"), "line 3 is not" },
                { "{\"generation\":1,\"counters\":{}}", "line 3 does not say" },
                { "{\"id\":\"c\",\"counters\":{}}", "line 3 does not say" },
                { "{\"id\":\"c\",\"generation\":1}", "line 3 does not say" },
                { GOOD_LINE("\"\"", "1", "{}"), "wrong 'id'" }, { GOOD_LINE("7", "1", "{}"), "wrong 'id'" },
                { GOOD_LINE("\"\\uffff\"", "1", "{}"), "wrong 'id'" }, { GOOD_LINE("null", "1", "{}"), "wrong 'id'" },
                { GOOD_LINE("\"c\"", "0", "{}"), "wrong 'generation'" },
                { GOOD_LINE("\"c\"", "-1", "{}"), "wrong 'generation'" },
                { GOOD_LINE("\"c\"", "1.0", "{}"), "wrong 'generation'" },
                { GOOD_LINE("\"c\"", "\"1\"", "{}"), "wrong 'generation'" },
                { GOOD_LINE("\"c\"", "true", "{}"), "wrong 'generation'" },
                { GOOD_LINE("\"c\"", "1", "[]"), "wrong 'counters'" },
                { GOOD_LINE("\"c\"", "1", "null"), "wrong 'counters'" },
                { GOOD_LINE("\"c\"", "1", "{\"Play\":1}"), "wrong 'counters'" },
                { GOOD_LINE("\"c\"", "1", "{\"\":1}"), "wrong 'counters'" },
                { GOOD_LINE("\"c\"", "1", "{\"play\":-1}"), "wrong 'counters'" },
                { GOOD_LINE("\"c\"", "1", "{\"play\":1.0}"), "wrong 'counters'" },
                { GOOD_LINE("\"c\"", "1", "{\"play\":null}"), "wrong 'counters'" },
                { GOOD_LINE("\"c\"", "1", "{\"play\":{}}"), "wrong 'counters'" },
                { GOOD_LINE("\"c\"", "1", "{\"play\":1,\"play\":1}"), "line 3 is not" },
                { WITH("\"restricted\":false"), "wrong 'restricted'" }, { WITH("\"restricted\":1"), "wrong 'restricted'" },
                { WITH("\"revoked\":-1"), "wrong 'revoked'" }, { WITH("\"revoked\":true"), "wrong 'revoked'" },
                { WITH("\"revoked\":\"1\""), "wrong 'revoked'" }, { WITH("\"revoked\":null"), "wrong 'revoked'" },
                { WITH("\"color\":1"), "wrong 'color'" }, { WITH("\"owner\":\"alice\""), "wrong 'owner'" },
                { WITH("\"id\":\"c\""), "line 3 is not" },
        };
        g_autofree char *id = g_strnfill(LICENSE_STRING_MAX + 1, 'i'), *right = g_strnfill(LICENSE_RIGHT_MAX + 1, 'r');
        g_autofree char *long_id = g_strdup_printf(GOOD_LINE("\"%s\"", "1", "{}"), id);
        g_autofree char *long_right = g_strdup_printf(GOOD_LINE("\"c\"", "1", "{\"%s\":1}"), right);
        g_autofree char *deep = g_strnfill(ARCHIVE_LINE_MAX, '[');
        g_autofree char *objects = g_strdup(deep);
        g_autoptr(GString) counters = g_string_new("{\"c\":1");

        for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++)
                assert_corrupt(make_third_line(wrong[i].line), ARCHIVE_STATE, wrong[i].what);
        assert_corrupt(make_third_line(long_id), ARCHIVE_STATE, "wrong 'id'");
        assert_corrupt(make_third_line(long_right), ARCHIVE_STATE, "wrong 'counters'");

        for (unsigned i = 0; i < 5000; i++)
                g_string_append_printf(counters, ",\"c%u\":1", i);
        g_autofree char *many = g_strdup_printf(GOOD_LINE("\"c\"", "1", "%s}"), counters->str);
        assert_corrupt(make_third_line(many), ARCHIVE_STATE, "wrong 'counters'");

        for (size_t i = 0; i + 5 <= ARCHIVE_LINE_MAX; i += 5)
                memcpy(objects + i, "{\"a\":", 5);
        assert_corrupt(make_third_line(deep), ARCHIVE_STATE, "line 3 is not");
        assert_corrupt(make_third_line(objects), ARCHIVE_STATE, "line 3 is not");
}
