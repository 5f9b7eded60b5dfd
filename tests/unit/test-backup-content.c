/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "restore-world.h"
#include "told.h"

/* Backups with right digests: what each part of them may say, and what no backup of ours says. */

/* The manifest */

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

/* Before there was such a number, there were the licenses. */
static void test_manifest_says_how_much_is_remembered(void **state) {
        static const struct {
                const char *owner, *said;
                StoreMemory memory;
        } cases[] = {
                { OWNED("1", "\"a\""), "", { 2, 0 } },
                { OWNED("1", "\"a\""), ",\"remembered\":1", { 2, 0 } },
                { OWNED("1", "\"a\""), ",\"remembered\":7", { 7, 0 } },
                { OWNED("1", "\"a\""), ",\"remembered\":-7,\"stored\":-9", { 2, 0 } },
                { OWNED("1", "\"a\""), ",\"remembered\":\"7\",\"stored\":\"9\"", { 2, 0 } },
                { "\"all_users\":true", ",\"remembered\":7,\"stored\":9", { 7, 9 } },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autofree char *manifest = g_strdup_printf("{" COUNTED "," SAID ",%s%s}", cases[i].owner, cases[i].said);
                g_auto(BackupOrigin) origin = {};
                g_auto(Error) error = {};
                _cleanup_fd_ int fd = make_manifest(manifest);

                assert_good(backup_read_origin(fd, &origin, &error), &error);
                assert_int_equal(origin.memory.ids, cases[i].memory.ids);
                assert_int_equal(origin.memory.stored, cases[i].memory.stored);
        }
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
                { WITH("\"restricted\":false"), "wrong 'restricted'" },
                { WITH("\"restricted\":1"), "wrong 'restricted'" },
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

/* Documents */

#define PATH_A "licenses/0000001-a.lic"
#define PATH_L "licenses/0000001-l.lcpl"

static int make_attributes(const char *attributes) {
        return make_archive_with(PART_A, (Part) { PATH_A, "document a", attributes });
}

static void test_attributes_within_their_limits_are_taken(void **state) {
        g_autofree char *text = g_strnfill(LICENSE_STRING_MAX, 's'), *right = g_strnfill(LICENSE_RIGHT_MAX, 'r');
        g_autofree char *longest = g_strdup_printf("id=%s\nkey-id=%s\ntitle=%s\nissuer=%s\nmedia-type=%s\n"
                "generation=9223372036854775807\nnot-before=9223372036854775807\nnot-after=9223372036854775807\n"
                "counter.%s=9223372036854775807", text, text, text, text, text, right);
        g_autofree char *expected = g_strdup_printf("license -/%s g9223372036854775807 free key '%s' title '%s' "
                "issuer '%s' type '%s' 9223372036854775807 to 9223372036854775807 date -9223372036854775808 lic 10 ",
                text, text, text, text, text);
        g_autoptr(GString) counters = g_string_new("id=a\ngeneration=1");

        assert_taken(make_attributes(longest), expected);
        assert_taken(make_attributes("id=a\ngeneration=10\nnot-before=0\nnot-after=0\ncounter.0=0"),
                "license -/a g10 free key '-' title '-' issuer '-' type '-' 0 to 0 date -9223372036854775808 lic 10 ");
        /* The name of its file says nothing: a later version may know the document, or no longer. */
        assert_taken(make_archive_with(PART_A, (Part) { "licenses/0000001-a.lcpl", "document a",
                             "id=a\ngeneration=1" }), " lic 10 ");

        for (unsigned i = 0; i < LICENSE_COUNTERS_MAX; i++)
                g_string_append_printf(counters, "\ncounter.c%u=1", i);
        assert_taken(make_attributes(counters->str), " c0=1 c1=1 c10=1 ");
        g_string_append(counters, "\ncounter.d=1");
        assert_corrupt(make_attributes(counters->str), PATH_A, "wrong");
}

/* "name=value" among good ones, of which it may replace one. */
static void assert_attribute_wrong(const char *name, const char *value, const char *what) {
        static const char *const good[] = { "id=a", "generation=1" };
        g_autofree char *attribute = g_strdup_printf("%s=%s", name, value);
        g_autoptr(GString) attributes = g_string_new(attribute);

        for (size_t i = 0; i < G_N_ELEMENTS(good); i++)
                if (strncmp(good[i], attribute, strlen(name) + 1) != 0)
                        g_string_append_printf(attributes, "\n%s", good[i]);
        assert_corrupt(make_attributes(attributes->str), PATH_A, what);
}

static void test_attributes_that_are_none_are_refused(void **state) {
        static const char *const numbers[] = { "generation", "not-before", "not-after", "date", "counter.play" };
        static const char *const no_numbers[] = { "", " ", "x", "-", "+1", " 1", "1 ", "01", "00", "-0", "-01", "1.0",
                "1e3", "0x1", "1\t", "\xd9\xa1", "9223372036854775808", "-9223372036854775808",
                "-9223372036854775809", "18446744073709551617", "99999999999999999999999999" };
        static const char *const texts[] = { "id", "key-id", "title", "issuer", "media-type" };
        static const char *const no_texts[] = { "", "\xef\xbf\xbe", "a\xef\xb7\x90" };
        static const char *const unknown[] = { "color", "counter", "counters.play", "counter.", "ID", "id2",
                "allow-backup", "restricted", "revoked", "owner", "size", "extension" };
        g_autofree char *longer = g_strnfill(LICENSE_STRING_MAX + 1, 's');
        g_autofree char *right = g_strnfill(LICENSE_RIGHT_MAX + 1, 'r');
        g_autofree char *long_right = g_strconcat("counter.", right, NULL);

        for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++) {
                g_autofree char *what = g_strdup_printf("'%s'", numbers[i]);

                for (size_t k = 0; k < G_N_ELEMENTS(no_numbers); k++)
                        assert_attribute_wrong(numbers[i], no_numbers[k], what);
                if (i != 3)
                        assert_attribute_wrong(numbers[i], "-1", what);
        }
        for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
                g_autofree char *what = g_strdup_printf("'%s'", texts[i]);

                for (size_t k = 0; k < G_N_ELEMENTS(no_texts); k++)
                        assert_attribute_wrong(texts[i], no_texts[k], what);
                assert_attribute_wrong(texts[i], longer, what);
        }
        for (size_t i = 0; i < G_N_ELEMENTS(unknown); i++)
                assert_attribute_wrong(unknown[i], "1", "attribute");
        assert_attribute_wrong(long_right, "1", "attribute");
        assert_attribute_wrong("generation", "0", "'generation'");
        assert_attribute_wrong("date", "5", "date");
        assert_corrupt(make_attributes("id=a"), PATH_A, "generation is missing");
        assert_corrupt(make_attributes("generation=1"), PATH_A, "id is missing");
}

#define LCP_START "{\"id\":\"l\",\"provider\":\"p\",\"issued\":\"2024-01-01T00:00:00Z\","
#define LCP_REST "\"encryption\":{\"profile\":\"http://readium.org/lcp/1\"},\"signature\":{}}"
#define LCP_GOOD LCP_START "\"rights\":{\"print\":10,\"start\":\"2024-01-01T00:00:00Z\"," \
        "\"end\":\"2025-01-01T00:00:00Z\"},\"links\":{\"publication\":{\"title\":\"Moby\"}}," LCP_REST
#define LCP_TYPE "media-type=application/vnd.readium.lcp.license.v1.0+json"
/* What our writer says of it; the rest a test may change. */
#define LCP_GIVEN "generation=1\n" LCP_TYPE "\n"
#define LCP_ID "id=l\nissuer=p\ntitle=Moby\n"
#define LCP_DATE "date=1704067200000000\n"
#define LCP_TIMES "not-before=1704067200\nnot-after=1735689600\n"

static int make_lcp(const char *document, const char *attributes) {
        const Part parts[] = {
                whole_parts[PART_README],
                { ARCHIVE_MANIFEST, MANIFEST_JSON(1, "machine", MANIFEST_OWNER, 1, 0) },
                { ARCHIVE_STATE, "" },
                { PATH_L, document, attributes },
        };

        return make_archive(parts, G_N_ELEMENTS(parts), 0);
}

static void test_attributes_may_narrow_their_document(void **state) {
        static const struct {
                const char *attributes, *expected;
        } good[] = {
                { LCP_GIVEN LCP_ID LCP_DATE LCP_TIMES "counter.print=10", "1704067200 to 1735689600 " },
                { LCP_GIVEN LCP_ID LCP_DATE "not-before=1704067201\nnot-after=1735689599\ncounter.print=0",
                        "1704067201 to 1735689599 " },
                { LCP_GIVEN LCP_ID LCP_DATE LCP_TIMES "counter.print=9\ncounter.play=7\nkey-id=k",
                        " play=7 print=9\n" },
                /* What is not said is as the document says. */
                { "generation=1\nid=l\n" LCP_DATE "counter.print=9",
                        "title 'Moby' issuer 'p' type 'application/vnd.readium.lcp.license.v1.0+json' "
                        "1704067200 to 1735689600 date 1704067200000000 lcpl " },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(good); i++)
                assert_taken(make_lcp(LCP_GOOD, good[i].attributes), good[i].expected);
}

static void test_attributes_that_widen_or_contradict_their_document_are_refused(void **state) {
        static const struct {
                const char *attributes, *what;
        } wrong[] = {
                { LCP_GIVEN LCP_ID LCP_DATE LCP_TIMES "counter.print=11", "Counter 'print' is larger than the" },
                { LCP_GIVEN LCP_ID LCP_DATE "not-before=1704067199\nnot-after=1735689600\ncounter.print=1",
                        "NotBefore is earlier than the document allows." },
                { LCP_GIVEN LCP_ID LCP_DATE "not-before=1704067200\nnot-after=1735689601\ncounter.print=1",
                        "NotAfter is later than the document allows." },
                { LCP_GIVEN "id=m\n" LCP_DATE LCP_TIMES "counter.print=1", "'m' is not what the document says, 'l'." },
                { LCP_GIVEN "id=l\nissuer=q\n" LCP_DATE LCP_TIMES "counter.print=1", "'q' is not what the document" },
                { LCP_GIVEN "id=l\ntitle=Dick\n" LCP_DATE LCP_TIMES "counter.print=1", "'Dick' is not what the" },
                { "generation=1\nmedia-type=text/plain\nid=l\n" LCP_DATE LCP_TIMES "counter.print=1",
                        "'text/plain' is not what the" },
                { LCP_GIVEN LCP_ID LCP_TIMES "counter.print=1", "date" },
                { LCP_GIVEN LCP_ID LCP_TIMES "counter.print=1\ndate=1704067200000001", "date" },
                { LCP_GIVEN LCP_ID LCP_DATE LCP_TIMES "counter.copy=1", "counters" },
                { LCP_GIVEN LCP_ID LCP_DATE LCP_TIMES, "counters" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
                g_autofree char *attributes = g_strchomp(g_strdup(wrong[i].attributes));
                assert_corrupt(make_lcp(LCP_GOOD, attributes), PATH_L, wrong[i].what);
        }
}

static void test_broken_document_is_refused_with_the_reason(void **state) {
        static const struct {
                const char *document, *what;
        } broken[] = {
                { "document l", "broken LCP license: it is not valid JSON (line 1, column " },
                { "[]", "broken LCP license: it is not a JSON object." },
                { "{\"encryption\":{\"profile\":\"http://readium.org/lcp/1\"", "broken LCP license: it is not valid" },
                { LCP_START LCP_REST, "broken LCP license: 'links' is missing." },
                { LCP_START "\"links\":[],\"rights\":{\"print\":-1}," LCP_REST,
                        "broken LCP license: 'print' is not a count." },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(broken); i++)
                assert_corrupt(make_lcp(broken[i].document, LCP_GIVEN LCP_ID LCP_DATE LCP_TIMES "counter.print=1"),
                        PATH_L, broken[i].what);
}

/* Backups of all users */

#define ALL_USERS "\"all_users\":true"
#define BOBS_STATE "{\"owner\":\"bob\",\"id\":\"b\",\"generation\":1,\"counters\":{}}\n"
#define BOBS "licenses/bob/0000001-b.lic"

static int make_all_users(const char *states, const char *path, const char *attributes) {
        const Part parts[] = {
                whole_parts[PART_README],
                { ARCHIVE_MANIFEST, MANIFEST_JSON(1, "machine", ALL_USERS, 1, 0) },
                { ARCHIVE_STATE, states },
                { path, "b", attributes },
        };

        return make_archive(parts, G_N_ELEMENTS(parts), 0);
}

static void test_owners_are_told_in_backups_of_all_users_alone(void **state) {
#define OWNER(owner) "{\"owner\":" owner ",\"id\":\"b\",\"generation\":1,\"counters\":{}}\n"
        g_autofree char *name = g_strnfill(LICENSE_STRING_MAX, 'n'), *longer = g_strnfill(LICENSE_STRING_MAX + 1, 'n');
        g_autofree char *named = g_strdup_printf(OWNER("\"%s\""), name);
        g_autofree char *far = g_strdup_printf(OWNER("\"%s\""), longer);
        g_autofree char *by_name = g_strdup_printf("id=b\ngeneration=1\nowner=%s", name);
        g_autofree char *by_longer = g_strdup_printf("id=b\ngeneration=1\nowner=%s", longer);
        static const char *const lines[] = { "{\"id\":\"b\",\"generation\":1,\"counters\":{}}\n", OWNER("7"),
                OWNER("null"), OWNER("\"\\ufffe\""), OWNER("[]") };

        assert_taken(make_all_users(BOBS_STATE, BOBS, "id=b\ngeneration=1\nowner=bob"), "license bob/b g1 ");
        assert_taken(make_all_users(named, BOBS, "id=b\ngeneration=1\nowner=bob"), "nnn/b g1 ");
        /* Whom the machine knew by number alone. */
        assert_taken(make_all_users(OWNER("\"\""), BOBS, "id=b\ngeneration=1\nowner="), "license /b g1 ");
        assert_taken(make_all_users(BOBS_STATE, BOBS, by_name), "nnn/b g1 ");

        for (size_t i = 0; i < G_N_ELEMENTS(lines); i++)
                assert_corrupt(make_all_users(lines[i], BOBS, "id=b\ngeneration=1\nowner=bob"), ARCHIVE_STATE,
                        "line 1");
        assert_corrupt(make_all_users(far, BOBS, "id=b\ngeneration=1\nowner=bob"), ARCHIVE_STATE, "wrong 'owner'");
        assert_corrupt(make_all_users(BOBS_STATE, BOBS, "id=b\ngeneration=1"), BOBS, "whose");
        assert_corrupt(make_all_users(BOBS_STATE, BOBS, by_longer), BOBS, "'owner'");
        assert_corrupt(make_all_users(BOBS_STATE, BOBS, "id=b\ngeneration=1\nowner=\xef\xbf\xbf"), BOBS, "'owner'");
        assert_corrupt(make_all_users(BOBS_STATE, "licenses/0000001-b.lic", "id=b\ngeneration=1\nowner=bob"),
                "licenses/0000001-b.lic", "another folder");
        assert_corrupt(make_archive_with(PART_B, (Part) { BOBS, "b", "id=b\ngeneration=2\nowner=bob" }), BOBS, "");
}

static void test_document_in_a_folder_is_refused_in_a_backup_of_one_user(void **state) {
        Part parts[N_PARTS];

        memcpy(parts, whole_parts, sizeof parts);
        parts[PART_A].path = "licenses/alice/0000001-a.lic";
        parts[PART_B].path = "licenses/alice/0000002-b.lic";
        assert_corrupt(make_archive(parts, N_PARTS, 0), parts[PART_A].path, "another folder");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_manifest_within_its_limits_is_taken),
                cmocka_unit_test(test_manifest_says_how_much_is_remembered),
                cmocka_unit_test(test_manifest_that_is_none_is_refused),
                cmocka_unit_test(test_state_lines_within_their_limits_are_taken),
                cmocka_unit_test(test_state_lines_that_are_none_are_refused),
                cmocka_unit_test(test_attributes_within_their_limits_are_taken),
                cmocka_unit_test(test_attributes_that_are_none_are_refused),
                cmocka_unit_test(test_attributes_may_narrow_their_document),
                cmocka_unit_test(test_attributes_that_widen_or_contradict_their_document_are_refused),
                cmocka_unit_test(test_broken_document_is_refused_with_the_reason),
                cmocka_unit_test(test_owners_are_told_in_backups_of_all_users_alone),
                cmocka_unit_test(test_document_in_a_folder_is_refused_in_a_backup_of_one_user),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
