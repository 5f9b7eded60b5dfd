/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "restore-world.h"

/*
 * Backups that are whole, with right digests, and say what no backup of ours says: each is refused, the
 * message names the entry, and the store stays as it was.
 */

#define LCP_START_AT(issued) "{\"id\":\"l\",\"provider\":\"p\",\"issued\":\"" issued "\","
#define LCP_START LCP_START_AT("2024-01-01T00:00:00Z")
#define LCP_REST "\"encryption\":{\"profile\":\"http://readium.org/lcp/1\"},\"links\":[],\"signature\":{}}"
#define LCP_GOOD LCP_START "\"rights\":{\"print\":10,\"start\":\"2024-01-01T00:00:00Z\"," \
        "\"end\":\"2025-01-01T00:00:00Z\"}," LCP_REST
/* What our writer says of it. */
#define LCP_ATTRIBUTES "issuer=p\nmedia-type=application/vnd.readium.lcp.license.v1.0+json\ngeneration=1\n" \
        "date=1704067200000000\nnot-before=1704067200\nnot-after=1735689600\n"
#define LCP_PATH "licenses/0000001-l.lcpl"

static void test_parts_of_these_tests_are_a_whole_backup(void **state) {
        RestoreWorld *world = *state;
        _cleanup_fd_ int fd = make_archive(whole_parts, N_PARTS, 0);
        g_auto(WorkResult) result = {};
        g_autofree char *now = NULL;

        restore_good(world, restore_plan(world, fd), &result);
        assert_int_equal(result.restored, 2);
        now = render(world->connection);
        assert_non_null(strstr(now, "license a play=5 generation 1 title 'A'"));
        assert_non_null(strstr(now, "license b generation 2"));
}

/* Documents in place of the first, with the state to it. */
static int make_lcp(const char *document, const char *counters, const char *attributes) {
        g_autofree char *state = g_strdup_printf("{\"id\":\"l\",\"generation\":1,\"counters\":{%s}}\n", counters);
        const Part parts[] = {
                whole_parts[PART_README],
                { ARCHIVE_MANIFEST, MANIFEST_JSON(1, "machine", MANIFEST_OWNER, 1, 0) },
                { ARCHIVE_STATE, state },
                { LCP_PATH, document, attributes },
        };

        return make_archive(parts, G_N_ELEMENTS(parts), 0);
}

static void test_lcp_document_that_fits_its_attributes_is_restored(void **state) {
        RestoreWorld *world = *state;
        _cleanup_fd_ int fd = make_lcp(LCP_GOOD, "\"print\":4,\"copy\":2",
                LCP_ATTRIBUTES "id=l\ncounter.print=4\ncounter.copy=2");

        restore_good(world, restore_plan(world, fd), NULL);
}

static void test_broken_lcp_document_is_refused(void **state) {
        static const char *const documents[] = {
                "{\"encryption\":{\"profile\":\"http://readium.org/lcp/1\"", /* cut off */
                LCP_START "\"links\":[],\"encryption\":{\"profile\":\"http://readium.org/lcp/1\"}}",
                LCP_START "\"rights\":{\"print\":-1}," LCP_REST,
                LCP_START_AT("yesterday") LCP_REST,
        };
        RestoreWorld *world = *state;

        for (size_t i = 0; i < G_N_ELEMENTS(documents); i++)
                assert_refused(world, make_lcp(documents[i], "\"print\":4", LCP_ATTRIBUTES
                                       "id=l\ncounter.print=4"), ERROR_BACKUP_CORRUPT, LCP_PATH, "");
}

static void test_attributes_that_widen_or_contradict_their_document_are_refused(void **state) {
        static const struct {
                const char *counters, *attributes;
        } wrong[] = {
                { "\"print\":11", LCP_ATTRIBUTES "id=l\ncounter.print=11" },
                { "", LCP_ATTRIBUTES "id=l" },
                { "\"print\":10", LCP_ATTRIBUTES "id=l" },
                /* All counters as they should be, and something else. */
                { "\"print\":10", LCP_ATTRIBUTES "id=other\ncounter.print=10" },
                { "\"print\":10", "issuer=p\ngeneration=1\nid=l\ncounter.print=10\ndate=1704067200000000\n"
                        "not-before=1704067200\nnot-after=1735689601" },
                { "\"print\":10", "issuer=p\ngeneration=1\nid=l\ncounter.print=10\ndate=1704067200000000\n"
                        "not-before=1704067199\nnot-after=1735689600" },
                { "\"print\":10", "issuer=other\ngeneration=1\nid=l\ncounter.print=10\ndate=1704067200000000\n"
                        "not-before=1704067200\nnot-after=1735689600" },
                { "\"print\":10", "issuer=p\ngeneration=1\nid=l\ncounter.print=10\ndate=1704067200000001\n"
                        "not-before=1704067200\nnot-after=1735689600" },
                { "\"print\":10", "issuer=p\ngeneration=1\nid=l\ncounter.print=10\n"
                        "not-before=1704067200\nnot-after=1735689600" },
        };
        RestoreWorld *world = *state;

        for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++)
                assert_refused(world, make_lcp(LCP_GOOD, wrong[i].counters, wrong[i].attributes),
                        ERROR_BACKUP_CORRUPT, LCP_PATH, "");
}

/* As attributes of the first document, whose state says generation 1 and five uses of play. */
static void assert_attributes_refused(RestoreWorld *world, const char *attributes) {
        int fd = make_archive_with(PART_A, (Part) { whole_parts[PART_A].path, "document a", attributes });

        assert_refused(world, fd, ERROR_BACKUP_CORRUPT, whole_parts[PART_A].path, "");
}

static void test_attributes_of_wrong_types_are_refused(void **state) {
        static const char *const wrong[] = {
                "generation=1\ncounter.play=5", "id=\ngeneration=1\ncounter.play=5",
                "id=a\ncounter.play=5", "id=a\ngeneration=\ncounter.play=5", "id=a\ngeneration=0\ncounter.play=5",
                "id=a\ngeneration=-1\ncounter.play=5", "id=a\ngeneration=1.5\ncounter.play=5",
                "id=a\ngeneration= 1\ncounter.play=5", "id=a\ngeneration=1 \ncounter.play=5",
                "id=a\ngeneration=01\ncounter.play=5", "id=a\ngeneration=+1\ncounter.play=5",
                "id=a\ngeneration=0x1\ncounter.play=5", "id=a\ngeneration=one\ncounter.play=5",
                "id=a\ngeneration=9223372036854775808\ncounter.play=5",
                "id=a\ngeneration=18446744073709551617\ncounter.play=5",
                "id=a\ngeneration=1\ncounter.play=", "id=a\ngeneration=1\ncounter.play=-5",
                "id=a\ngeneration=1\ncounter.play=5x", "id=a\ngeneration=1\ncounter.play=9223372036854775808",
                "id=a\ngeneration=1\ncounter.play=5\ncounter.=5", "id=a\ngeneration=1\ncounter.play=true",
                "id=a\ngeneration=1\ncounter.play=5\nnot-before=-1",
                "id=a\ngeneration=1\ncounter.play=5\nnot-before=x",
                "id=a\ngeneration=1\ncounter.play=5\nnot-after=9223372036854775808",
                "id=a\ngeneration=1\ncounter.play=5\nnot-after=", "id=a\ngeneration=1\ncounter.play=5\ndate=x",
                "id=a\ngeneration=1\ncounter.play=5\ndate=9223372036854775808",
                "id=a\ngeneration=1\ncounter.play=5\ndate=5",
                "id=a\ngeneration=1\ncounter.play=5\ntitle=", "id=a\ngeneration=1\ncounter.play=5\ncolor=red",
                "id=a\ngeneration=1\ncounter.play=5\nowner=alice",
                "id=a\ngeneration=1\ncounter.play=5\ntitle=\xef\xbf\xbe",
                "id=a\xef\xb7\x90\ngeneration=1\ncounter.play=5",
                "id=a\ngeneration=1\ncounter.play=5\nmedia-type=application/vnd.readium.lcp.license.v1.0+json",
                "id=a\ngeneration=1\ncounter.play=5\nallow-backup=1",
                "id=a\ngeneration=1\ncounter.play=5\nblake2b=0123",
        };
        static const char *const texts[] = { "id", "title", "key-id", "issuer", "media-type" };
        g_autofree char *longer = g_strnfill(LICENSE_STRING_MAX + 1, 'x');
        RestoreWorld *world = *state;

        for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++)
                assert_attributes_refused(world, wrong[i]);
        for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
                g_autofree char *attributes = g_strdup_printf("%s=%s\ngeneration=1\ncounter.play=5%s", texts[i],
                        longer, i == 0 ? "" : "\nid=a");

                assert_attributes_refused(world, attributes);
        }
}

static void test_counters_over_the_limits_are_refused(void **state) {
        g_autofree char *longer = g_strnfill(LICENSE_RIGHT_MAX + 1, 'r');
        g_autofree char *one = g_strdup_printf("id=a\ngeneration=1\ncounter.play=5\ncounter.%s=5", longer);
        g_autoptr(GString) many = g_string_new("id=a\ngeneration=1\ncounter.play=5");
        RestoreWorld *world = *state;

        assert_attributes_refused(world, one);
        for (unsigned i = 0; i < LICENSE_COUNTERS_MAX; i++)
                g_string_append_printf(many, "\ncounter.c%u=1", i);
        assert_attributes_refused(world, many->str);
}

/* The document and its line in state.jsonl must say the same. */
static void test_document_that_contradicts_its_state_is_refused(void **state) {
        static const char *const attributes[] = {
                "id=a\ngeneration=2\ncounter.play=5", "id=a\ngeneration=1\ncounter.play=6",
                "id=a\ngeneration=1\ncounter.play=4", "id=a\ngeneration=1",
                "id=a\ngeneration=1\ncounter.play=5\ncounter.copy=1", "id=c\ngeneration=1\ncounter.play=5",
                "id=A\ngeneration=1\ncounter.play=5",
        };
        static const char *const states[] = {
                "{\"id\":\"b\",\"generation\":2,\"counters\":{}}\n",
                "{\"id\":\"a\",\"generation\":1,\"counters\":{\"play\":5},\"revoked\":1700000000}\n"
                "{\"id\":\"b\",\"generation\":2,\"counters\":{}}\n",
                "{\"id\":\"a\",\"generation\":1,\"counters\":{\"play\":5},\"restricted\":true}\n"
                "{\"id\":\"b\",\"generation\":2,\"counters\":{}}\n",
                "{\"id\":\"a\",\"generation\":1,\"counters\":{}}\n{\"id\":\"b\",\"generation\":2,\"counters\":{}}\n",
                "",
        };
        RestoreWorld *world = *state;

        for (size_t i = 0; i < G_N_ELEMENTS(attributes); i++)
                assert_attributes_refused(world, attributes[i]);
        for (size_t i = 0; i < G_N_ELEMENTS(states); i++)
                assert_refused(world, make_archive_with(PART_STATE, (Part) { ARCHIVE_STATE, states[i] }),
                        ERROR_BACKUP_CORRUPT, whole_parts[PART_A].path, "");
}

static void test_same_id_in_two_documents_is_refused(void **state) {
        RestoreWorld *world = *state;
        Part part = whole_parts[PART_B];

        part.attributes = whole_parts[PART_A].attributes;
        assert_refused(world, make_archive_with(PART_B, part), ERROR_BACKUP_CORRUPT, part.path, "");
}

/* So a license looks that was deleted before the backup: its low marks count, and it stays gone. */
static void test_state_without_a_document_is_no_damage(void **state) {
        static const Part state_of_c = { ARCHIVE_STATE,
                "{\"id\":\"a\",\"generation\":1,\"counters\":{\"play\":5}}\n"
                "{\"id\":\"b\",\"generation\":2,\"counters\":{}}\n"
                "{\"id\":\"c\",\"generation\":3,\"counters\":{\"play\":1}}\n" };
        RestoreWorld *world = *state;
        _cleanup_fd_ int fd = make_archive_with(PART_STATE, state_of_c);
        g_autofree char *now = NULL;

        restore_good(world, restore_plan(world, fd), NULL);
        now = render(world->connection);
        assert_non_null(strstr(now, "mark c absent -1 3 play=1"));
        assert_null(strstr(now, "license c"));
}

/* As the third line. */
static void assert_line_refused(RestoreWorld *world, const char *line) {
        g_autofree char *text = g_strconcat(whole_parts[PART_STATE].content, line, "\n", NULL);
        int fd = make_archive_with(PART_STATE, (Part) { ARCHIVE_STATE, text });

        assert_refused(world, fd, ERROR_BACKUP_CORRUPT, "'" ARCHIVE_STATE "'", "line 3");
}

static void test_state_lines_that_are_none_are_refused(void **state) {
        static const char *const lines[] = {
                "", "x", "{", "{}", "[]", "null", "{\"id\":\"c\"}",
                "{\"generation\":1,\"counters\":{}}", "{\"id\":7,\"generation\":1,\"counters\":{}}",
                "{\"id\":\"\",\"generation\":1,\"counters\":{}}",
                "{\"id\":\"c\\u0000d\",\"generation\":1,\"counters\":{}}",
                "{\"id\":\"\xff\",\"generation\":1,\"counters\":{}}",
                "{\"id\":\"\\ufffe\",\"generation\":1,\"counters\":{}}",
                "{\"id\":\"c\",\"id\":\"c\",\"generation\":1,\"counters\":{}}",
                "{\"id\":\"c\",\"counters\":{}}", "{\"id\":\"c\",\"generation\":0,\"counters\":{}}",
                "{\"id\":\"c\",\"generation\":-1,\"counters\":{}}",
                "{\"id\":\"c\",\"generation\":\"1\",\"counters\":{}}",
                "{\"id\":\"c\",\"generation\":1.0,\"counters\":{}}",
                "{\"id\":\"c\",\"generation\":9223372036854775808,\"counters\":{}}",
                "{\"id\":\"c\",\"generation\":1}", "{\"id\":\"c\",\"generation\":1,\"counters\":[]}",
                "{\"id\":\"c\",\"generation\":1,\"counters\":null}",
                "{\"id\":\"c\",\"generation\":1,\"counters\":{\"play\":-1}}",
                "{\"id\":\"c\",\"generation\":1,\"counters\":{\"play\":\"5\"}}",
                "{\"id\":\"c\",\"generation\":1,\"counters\":{\"play\":1.5}}",
                "{\"id\":\"c\",\"generation\":1,\"counters\":{\"play\":9223372036854775808}}",
                "{\"id\":\"c\",\"generation\":1,\"counters\":{\"Play\":1}}",
                "{\"id\":\"c\",\"generation\":1,\"counters\":{\"\":1}}",
                "{\"id\":\"c\",\"generation\":1,\"counters\":{\"play\":1,\"play\":2}}",
                "{\"id\":\"c\",\"generation\":1,\"counters\":{},\"revoked\":\"now\"}",
                "{\"id\":\"c\",\"generation\":1,\"counters\":{},\"revoked\":-1}",
                "{\"id\":\"c\",\"generation\":1,\"counters\":{},\"revoked\":true}",
                "{\"id\":\"c\",\"generation\":1,\"counters\":{},\"restricted\":1}",
                "{\"id\":\"c\",\"generation\":1,\"counters\":{},\"restricted\":\"true\"}",
                "{\"id\":\"c\",\"generation\":1,\"counters\":{},\"color\":\"red\"}",
                "{\"owner\":\"alice\",\"id\":\"c\",\"generation\":1,\"counters\":{}}",
                "{\"id\":\"c\",\"generation\":1,\"counters\":{}} {}",
                /* That id was there. */
                "{\"id\":\"a\",\"generation\":1,\"counters\":{\"play\":5}}",
        };
        g_autofree char *longer = g_strnfill(LICENSE_STRING_MAX + 1, 'x');
        g_autofree char *long_id = g_strdup_printf("{\"id\":\"%s\",\"generation\":1,\"counters\":{}}", longer);
        g_autoptr(GString) counters = g_string_new("{\"id\":\"c\",\"generation\":1,\"counters\":{\"c\":1");
        RestoreWorld *world = *state;

        for (size_t i = 0; i < G_N_ELEMENTS(lines); i++)
                assert_line_refused(world, lines[i]);
        assert_line_refused(world, long_id);
        for (unsigned i = 0; i < LICENSE_COUNTERS_MAX; i++)
                g_string_append_printf(counters, ",\"c%u\":1", i);
        g_string_append(counters, "}}");
        assert_line_refused(world, counters->str);
}

static void test_very_long_state_line_is_refused(void **state) {
        g_autofree char *spaces = g_strnfill(ARCHIVE_LINE_MAX + 1, ' ');
        g_autofree char *text = g_strconcat(whole_parts[PART_STATE].content, spaces, "\n", NULL);
        g_autofree char *open = g_strnfill(3 * ARCHIVE_LINE_MAX, '{');
        RestoreWorld *world = *state;

        assert_refused(world, make_archive_with(PART_STATE, (Part) { ARCHIVE_STATE, text }), ERROR_BACKUP_CORRUPT,
                "'" ARCHIVE_STATE "'", "line");
        assert_refused(world, make_archive_with(PART_STATE, (Part) { ARCHIVE_STATE, open }), ERROR_BACKUP_CORRUPT,
                "'" ARCHIVE_STATE "'", "line");
        /* Deeper than anyone writes. */
        spaces[0] = 0;
        memset(open, '[', ARCHIVE_LINE_MAX - 1);
        open[ARCHIVE_LINE_MAX - 1] = '\0';
        assert_refused(world, make_archive_with(PART_STATE, (Part) { ARCHIVE_STATE, open }), ERROR_BACKUP_CORRUPT,
                "'" ARCHIVE_STATE "'", "line 1");
}

static void test_newer_format_is_told_as_such(void **state) {
        RestoreWorld *world = *state;
        Part part = { ARCHIVE_MANIFEST, MANIFEST_JSON(2, "machine", MANIFEST_OWNER, 2, 0) };

        assert_refused(world, make_archive_with(PART_MANIFEST, part), ERROR_BACKUP_CORRUPT, "newer version",
                "Update Licensevault");
}

static void test_manifest_of_wrong_types_is_refused(void **state) {
#define REST "\"software\":\"s\",\"created\":\"2026-01-01T00:00:00Z\",\"licenses\":2,\"restricted\":0"
        static const char *const manifests[] = {
                "", "{}", "[]", "{\"format\":\"1\"}", "{\"format\":1}",
                /* Each has one thing wrong. */
                "{\"format\":1,\"host\":7,\"machine\":\"machine\"," MANIFEST_OWNER "," REST "}",
                "{\"format\":1,\"host\":\"host\",\"machine\":null," MANIFEST_OWNER "," REST "}",
                "{\"format\":1,\"host\":\"host\"," MANIFEST_OWNER "," REST "}",
                "{\"format\":1,\"host\":\"host\",\"machine\":[\"machine\"]," MANIFEST_OWNER "," REST "}",
                "{\"format\":1,\"host\":\"host\",\"machine\":\"machine\"," REST "}",
                "{\"format\":1,\"host\":\"host\",\"machine\":\"machine\",\"all_users\":0,"
                        "\"owner\":{\"uid\":1000,\"name\":\"alice\"}," REST "}",
                "{\"format\":1,\"host\":\"host\",\"machine\":\"machine\",\"all_users\":false," REST "}",
                "{\"format\":1,\"host\":\"host\",\"machine\":\"machine\",\"all_users\":false,"
                        "\"owner\":\"alice\"," REST "}",
                "{\"format\":1,\"host\":\"host\",\"machine\":\"machine\",\"all_users\":false,"
                        "\"owner\":{\"uid\":1000}," REST "}",
                "{\"format\":1,\"host\":\"host\",\"machine\":\"machine\",\"all_users\":false,"
                        "\"owner\":{\"name\":\"alice\"}," REST "}",
                "{\"format\":1,\"host\":\"host\",\"machine\":\"machine\",\"all_users\":false,"
                        "\"owner\":{\"uid\":-1,\"name\":\"alice\"}," REST "}",
                "{\"format\":1,\"host\":\"host\",\"machine\":\"machine\",\"all_users\":false,"
                        "\"owner\":{\"uid\":4294967296,\"name\":\"alice\"}," REST "}",
                "{\"format\":1,\"host\":\"host\",\"machine\":\"machine\",\"all_users\":false,"
                        "\"owner\":{\"uid\":\"1000\",\"name\":\"alice\"}," REST "}",
                "{\"format\":1,\"host\":\"host\",\"machine\":\"machine\",\"all_users\":false,"
                        "\"owner\":{\"uid\":1000,\"name\":[]}," REST "}",
                "{\"format\":1,\"host\":\"host\",\"machine\":\"machine\",\"all_users\":true,"
                        "\"owner\":{\"uid\":1000,\"name\":\"alice\"}," REST "}",
                "{\"format\":1,\"host\":\"h\\ufffe\",\"machine\":\"machine\"," MANIFEST_OWNER "," REST "}",
                "{\"format\":1,\"format\":1,\"host\":\"host\",\"machine\":\"machine\"," MANIFEST_OWNER "," REST "}",
        };
        RestoreWorld *world = *state;

        for (size_t i = 0; i < G_N_ELEMENTS(manifests); i++)
                assert_refused(world, make_archive_with(PART_MANIFEST, (Part) { ARCHIVE_MANIFEST, manifests[i] }),
                        ERROR_BACKUP_CORRUPT, "'" ARCHIVE_MANIFEST "'", "");
        assert_refused(world, make_archive_with(PART_MANIFEST, (Part) { ARCHIVE_MANIFEST,
                               MANIFEST_JSON(1, "machine", MANIFEST_OWNER, 3, 0) }), ERROR_BACKUP_CORRUPT,
                "'" ARCHIVE_END "'", "counts");
        /* Fewer than there are: what is done never counts more than what there is to do. */
        assert_refused(world, make_archive_with(PART_MANIFEST, (Part) { ARCHIVE_MANIFEST,
                               MANIFEST_JSON(1, "machine", MANIFEST_OWNER, 1, 0) }), ERROR_BACKUP_CORRUPT, "'", "");
}

/* In a backup of one user nothing is in folders, and in one of all users everything is. */
static void test_documents_in_folders_of_users_must_fit_the_manifest(void **state) {
        RestoreWorld *world = *state;
        Part parts[N_PARTS];

        memcpy(parts, whole_parts, sizeof parts);
        parts[PART_A].path = "licenses/alice/0000001-a.lic";
        parts[PART_B].path = "licenses/alice/0000002-b.lic";
        assert_refused(world, make_archive(parts, N_PARTS, 0), ERROR_BACKUP_CORRUPT, parts[PART_A].path, "");

        parts[PART_A].attributes = "id=a\ngeneration=1\ncounter.play=5\nowner=alice";
        parts[PART_B].attributes = "id=b\ngeneration=2\nowner=alice";
        assert_refused(world, make_archive(parts, N_PARTS, 0), ERROR_BACKUP_CORRUPT, parts[PART_A].path, "");
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, restore_world_setup, restore_world_teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_parts_of_these_tests_are_a_whole_backup),
                IN_WORLD(test_lcp_document_that_fits_its_attributes_is_restored),
                IN_WORLD(test_broken_lcp_document_is_refused),
                IN_WORLD(test_attributes_that_widen_or_contradict_their_document_are_refused),
                IN_WORLD(test_attributes_of_wrong_types_are_refused),
                IN_WORLD(test_counters_over_the_limits_are_refused),
                IN_WORLD(test_document_that_contradicts_its_state_is_refused),
                IN_WORLD(test_same_id_in_two_documents_is_refused),
                IN_WORLD(test_state_without_a_document_is_no_damage),
                IN_WORLD(test_state_lines_that_are_none_are_refused),
                IN_WORLD(test_very_long_state_line_is_refused),
                IN_WORLD(test_newer_format_is_told_as_such),
                IN_WORLD(test_manifest_of_wrong_types_is_refused),
                IN_WORLD(test_documents_in_folders_of_users_must_fit_the_manifest),
        };

        restore_world_prepare();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
