/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "document.h"
#include "lcp.h"

#define SECRET "cSecretContentKey"

/* A document of today, in parts that tests replace. */
#define ENCRYPTION "\"encryption\":{\"profile\":\"http://readium.org/lcp/basic-profile\"," \
        "\"content_key\":{\"encrypted_value\":\"" SECRET "\"}}"
#define LINKS "\"links\":[{\"rel\":\"hint\",\"href\":\"https://example.com/hint\"}," \
        "{\"rel\":\"publication\",\"href\":\"https://example.com/book.epub\",\"title\":\"Moby-Dick\"}]"
#define SIGNATURE "\"signature\":{\"value\":\"AAAA\"}"
#define ID "\"id\":\"urn:1\""
#define PROVIDER "\"provider\":\"https://example.com\""
#define ISSUED "\"issued\":\"2024-05-31T12:00:00Z\""
#define WITHOUT_LINKS "{" ID "," PROVIDER "," ISSUED "," ENCRYPTION "," SIGNATURE
#define REST ENCRYPTION "," SIGNATURE "," LINKS
/* members begin with a comma */
#define DOCUMENT(members) "{" ID "," PROVIDER "," ISSUED "," REST members "}"
#define RIGHTS(members) DOCUMENT(",\"rights\":{" members "}")

/* 2024-05-31T12:00:00Z */
#define NOON INT64_C(1717156800)

static int recognise(const char *document, size_t size, const char *media_type, License *license,
        Error *error) {
        license_clear(license);
        license_init(license);
        return document_recognise(document, size, media_type, license, error);
}

static void assert_lcp(const char *document, License *license) {
        g_auto(Error) error = {};

        if (recognise(document, strlen(document), NULL, license, &error) != 0)
                fail_msg("refused: %s", error_message(&error));
        assert_string_equal(license->extension, "lcpl");
        assert_string_equal(license->media_type, DOCUMENT_MEDIA_TYPE_LCP);
}

/* Refused, for a reason that names the place and has nothing of the document in it. */
static void assert_broken_of(const char *document, size_t size, const char *media_type, const char *word) {
        g_auto(License) license = {};
        g_auto(Error) error = {};
        License digest = {};

        assert_int_equal(recognise(document, size, media_type, &license, &error), ERROR_INVALID_LICENSE);
        assert_int_equal(error.code, ERROR_INVALID_LICENSE);
        if (!strstr(error_message(&error), word))
                fail_msg("'%s' is not in: %s", word, error_message(&error));
        assert_null(strstr(error_message(&error), SECRET));

        license_digest_document(&digest, document, size);
        assert_memory_equal(license.digest, digest.digest, sizeof digest.digest);
        assert_int_equal(license.size, size);
}

static void assert_broken(const char *document, const char *word) {
        assert_broken_of(document, strlen(document), NULL, word);
}

static void assert_not_recognised(const void *document, size_t size, const char *extension) {
        g_auto(License) license = {};
        g_auto(Error) error = {};

        assert_int_equal(recognise(document, size, NULL, &license, &error), 0);
        assert_string_equal(license.extension, extension);
        assert_null(license.id);
        assert_null(license.issuer);
        assert_null(license.title);
        assert_null(license.media_type);
        assert_int_equal(license.counters->len, 0);
        assert_true(license.document_date == LICENSE_NO_DATE);
        assert_int_equal(license.size, size);
}

static void test_document_of_today_fills_the_license(void **state) {
        g_auto(License) license = {};

        assert_lcp(RIGHTS("\"print\":10,\"copy\":2000,\"start\":\"2024-06-01T00:00:00Z\","
                           "\"end\":\"2024-07-01T00:00:00+02:00\""), &license);
        assert_string_equal(license.id, "urn:1");
        assert_string_equal(license.issuer, "https://example.com");
        assert_string_equal(license.title, "Moby-Dick");
        assert_null(license.key_id);
        assert_int_equal(license.not_before, 1717200000);
        assert_int_equal(license.not_after, 1719784800);
        assert_int_equal(license.counters->len, 2);
        assert_int_equal(license_find_counter(&license, "print")->remaining, 10);
        assert_int_equal(license_find_counter(&license, "copy")->remaining, 2000);
        assert_true(license.document_date == NOON * 1000000);
        assert_true(license.allow_backup);
}

static void test_document_of_2015_has_its_links_in_an_object(void **state) {
        g_auto(License) license = {};

        assert_lcp(WITHOUT_LINKS
                   ",\"links\":{\"hint\":{},\"publication\":{\"href\":\"y\",\"title\":\"Old\"}}"
                   ",\"rights\":{\"tts\":true,\"edit\":false}}", &license);
        assert_string_equal(license.title, "Old");
        assert_int_equal(license.counters->len, 0);
}

static void test_made_documents_are_recognised_as_they_were_made(void **state) {
        for (uint64_t seed = 0; seed < 200; seed++) {
                g_auto(License) license = {};
                char id[LCP_ID_SIZE];
                size_t size;
                char *document = lcp_make(seed, 0, &size, id);

                assert_int_equal(strlen(document), size);
                assert_lcp(document, &license);
                assert_string_equal(license.id, id);
                assert_non_null(license.title);
                free(document);
        }
}

static void test_made_documents_have_the_size_that_was_asked_for(void **state) {
        static const size_t sizes[] = { 4000, 4001, 4002, 4003, 65536, 1024 * 1024 };

        for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
                g_auto(License) license = {};
                size_t size;
                char *document = lcp_make(i, sizes[i], &size, NULL);

                assert_int_equal(size, sizes[i]);
                assert_lcp(document, &license);
                free(document);
        }
}

static void test_absent_and_null_rights_are_unlimited(void **state) {
        static const char *const documents[] = {
                DOCUMENT(""), DOCUMENT(",\"rights\":null"), RIGHTS(""),
                RIGHTS("\"print\":null,\"copy\":null,\"start\":null,\"end\":null"),
        };

        for (size_t i = 0; i < G_N_ELEMENTS(documents); i++) {
                g_auto(License) license = {};

                assert_lcp(documents[i], &license);
                assert_int_equal(license.counters->len, 0);
                assert_int_equal(license.not_before, LICENSE_NO_TIME);
                assert_int_equal(license.not_after, LICENSE_NO_TIME);
        }
}

static void test_right_that_is_true_is_unlimited_and_false_is_none(void **state) {
        g_auto(License) license = {};

        assert_lcp(RIGHTS("\"print\":true,\"copy\":false"), &license);
        assert_null(license_find_counter(&license, "print"));
        assert_int_equal(license_find_counter(&license, "copy")->remaining, 0);
}

static void test_counter_may_be_as_large_as_int64(void **state) {
        g_auto(License) license = {};

        assert_lcp(RIGHTS("\"print\":9223372036854775807"), &license);
        assert_true(license_find_counter(&license, "print")->remaining == INT64_MAX);
        assert_broken(RIGHTS("\"print\":9223372036854775808"), "JSON");
        assert_broken(RIGHTS("\"print\":1e400"), "JSON");
}

static void test_counter_that_is_no_count_is_refused(void **state) {
        assert_broken(RIGHTS("\"print\":-1"), "'print'");
        assert_broken(RIGHTS("\"copy\":1.5"), "'copy'");
        assert_broken(RIGHTS("\"copy\":\"10\""), "'copy'");
        assert_broken(RIGHTS("\"copy\":[]"), "'copy'");
}

static void test_date_is_updated_else_issued_to_the_microsecond(void **state) {
        g_auto(License) license = {};

        assert_lcp(DOCUMENT(",\"updated\":\"2024-05-31T12:00:01.25Z\""), &license);
        assert_true(license.document_date == NOON * 1000000 + 1250000);
        assert_lcp(DOCUMENT(",\"updated\":null"), &license);
        assert_true(license.document_date == NOON * 1000000);
}

static void test_times_in_any_zone_and_fraction_are_the_same_time(void **state) {
        static const char *const times[] = { "2024-05-31T12:00:00Z", "2024-05-31T12:00:00.000000000Z",
                "2024-05-31T14:00:00+02:00", "2024-05-31T06:30:00-05:30", "2024-05-31T12:00:00+00:00",
                "2024-06-01T02:00:00+14:00" };

        for (size_t i = 0; i < G_N_ELEMENTS(times); i++) {
                g_auto(License) license = {};
                g_autofree char *document = g_strdup_printf(DOCUMENT(",\"updated\":\"%s\""), times[i]);

                assert_lcp(document, &license);
                if (license.document_date != NOON * 1000000)
                        fail_msg("%s is another time", times[i]);
        }
}

static void test_date_before_1970_is_negative(void **state) {
        g_auto(License) license = {};

        assert_lcp(DOCUMENT(",\"updated\":\"1969-12-31T23:59:58Z\""), &license);
        assert_true(license.document_date == -2000000);
}

static void test_bounds_before_1970_are_1970(void **state) {
        g_auto(License) license = {};

        assert_lcp(RIGHTS("\"start\":\"1950-01-01T00:00:00Z\",\"end\":\"1969-12-31T23:59:59.5Z\""),
                &license);
        assert_int_equal(license.not_before, 0);
        assert_int_equal(license.not_after, 0);
}

static void test_fractions_of_bounds_go_to_the_narrow_side(void **state) {
        g_auto(License) license = {};

        assert_lcp(RIGHTS("\"start\":\"2024-05-31T12:00:00.5Z\",\"end\":\"2024-05-31T12:00:00.5Z\""),
                &license);
        assert_int_equal(license.not_before, NOON + 1);
        assert_int_equal(license.not_after, NOON);
}

static void test_bad_times_are_refused(void **state) {
        static const char *const times[] = { "\"2024-05-31T12:00:00\"", "\"2024-05-31\"", "\"yesterday\"",
                "\"\"",
                "\"2024-02-30T12:00:00Z\"", "\"2024-05-31T25:00:00Z\"", "1717156800", "true", "[]", "{}" };

        for (size_t i = 0; i < G_N_ELEMENTS(times); i++) {
                g_autofree char *updated = g_strdup_printf(DOCUMENT(",\"updated\":%s"), times[i]);
                g_autofree char *start = g_strdup_printf(RIGHTS("\"start\":%s"), times[i]);
                g_autofree char *end = g_strdup_printf(RIGHTS("\"end\":%s"), times[i]);

                assert_broken(updated, "'updated'");
                assert_broken(start, "'start'");
                assert_broken(end, "'end'");
        }
}

static void test_overlong_time_is_refused(void **state) {
        g_autofree char *digits = g_strnfill(100000, '5');
        g_autofree char *document = g_strdup_printf(DOCUMENT(",\"updated\":\"2024-05-31T12:00:00.%sZ\""),
                digits);

        assert_broken(document, "'updated'");
}

static void test_missing_members_are_named(void **state) {
        assert_broken("{" PROVIDER "," ISSUED "," REST "}", "'id'");
        assert_broken("{" ID "," ISSUED "," REST "}", "'provider'");
        assert_broken("{" ID "," PROVIDER "," REST "}", "'issued'");
        assert_broken(WITHOUT_LINKS "}", "'links'");
        assert_broken("{" ID "," PROVIDER "," ISSUED "," ENCRYPTION "," LINKS "}", "'signature'");
        assert_broken_of("{" ID "," PROVIDER "," ISSUED "," SIGNATURE "," LINKS "}",
                strlen("{" ID "," PROVIDER "," ISSUED "," SIGNATURE "," LINKS "}"), DOCUMENT_MEDIA_TYPE_LCP,
                "'encryption'");
}

static void test_members_of_wrong_types_are_named(void **state) {
        static const struct {
                const char *document, *word;
        } cases[] = {
                { "{\"id\":7," PROVIDER "," ISSUED "," REST "}", "'id'" },
                { "{\"id\":null," PROVIDER "," ISSUED "," REST "}", "'id'" },
                { "{\"id\":\"\"," PROVIDER "," ISSUED "," REST "}", "'id'" },
                { "{" ID ",\"provider\":[\"a\"]," ISSUED "," REST "}", "'provider'" },
                { "{" ID "," PROVIDER ",\"issued\":7," REST "}", "'issued'" },
                { DOCUMENT(",\"rights\":[]"), "'rights'" },
                { DOCUMENT(",\"rights\":\"all\""), "'rights'" },
                { WITHOUT_LINKS ",\"links\":7}", "'links'" },
                { "{" ID "," PROVIDER "," ISSUED "," ENCRYPTION "," LINKS ",\"signature\":\"s\"}",
                  "'signature'" },
                { WITHOUT_LINKS
                  ",\"links\":[{\"rel\":\"publication\",\"title\":7}]}", "'title'" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
                assert_broken(cases[i].document, cases[i].word);
}

static void test_links_of_odd_shapes_only_cost_the_title(void **state) {
        static const char *const links[] = { "[]", "{}", "[7,null,\"x\",[]]", "[{\"rel\":7}]",
                "[{\"rel\":\"publication\"}]", "{\"publication\":7}", "{\"publication\":{\"title\":null}}",
                "{\"publication\":{\"title\":\"\"}}" };

        for (size_t i = 0; i < G_N_ELEMENTS(links); i++) {
                g_auto(License) license = {};
                g_autofree char *document = g_strdup_printf(WITHOUT_LINKS ",\"links\":%s}", links[i]);

                assert_lcp(document, &license);
                assert_null(license.title);
        }
}

static void test_id_of_1024_bytes_is_taken_and_of_1025_refused(void **state) {
        g_auto(License) license = {};
        g_autofree char *id = g_strnfill(LICENSE_STRING_MAX + 1, 'i');
        g_autofree char *long_one = g_strdup_printf("{\"id\":\"%s\"," PROVIDER "," ISSUED "," REST "}", id);

        assert_broken(long_one, "'id'");

        id[LICENSE_STRING_MAX] = '\0';
        g_autofree char *document = g_strdup_printf("{\"id\":\"%s\"," PROVIDER "," ISSUED "," REST "}", id);
        assert_lcp(document, &license);
        assert_string_equal(license.id, id);
}

static void test_title_too_long_is_cut_between_characters(void **state) {
        g_auto(License) license = {};
        g_autoptr(GString) title = g_string_new("a");

        while (title->len < 3000)
                g_string_append(title, "é");
        g_autofree char *document = g_strdup_printf(WITHOUT_LINKS
                ",\"links\":[{\"rel\":\"publication\",\"title\":\"%s\"}]}", title->str);

        assert_lcp(document, &license);
        assert_int_equal(strlen(license.title), 1023);
        assert_true(license_string_is_valid(license.title));
}

static void test_document_cut_off_anywhere_is_refused_or_not_recognised(void **state) {
        static const char document[] = RIGHTS("\"print\":1");
        const char *profile = strstr(document, "readium.org/lcp/");
        size_t claimed = (size_t)(profile - document) + strlen("readium.org/lcp/");

        for (size_t size = 0; size < strlen(document); size++) {
                /* A copy of just that size, so that a read beyond it is found. */
                g_autofree char *copy = g_memdup2(document, size);

                if (size >= claimed)
                        assert_broken_of(copy, size, NULL, "JSON");
                else
                        assert_not_recognised(copy, size, "lic");
                assert_broken_of(copy, size, DOCUMENT_MEDIA_TYPE_LCP, "JSON");
        }
}

static void test_member_given_twice_is_refused(void **state) {
        assert_broken(DOCUMENT("," ID), "JSON");
        assert_broken(RIGHTS("\"print\":1,\"print\":100"), "JSON");
}

static void test_garbage_after_the_document_is_refused(void **state) {
        assert_broken(DOCUMENT("") "x", "JSON");
        assert_broken_of(DOCUMENT(""), sizeof DOCUMENT(""), NULL, "JSON"); /* its NUL */
}

static void test_nul_inside_is_refused(void **state) {
        char document[] = RIGHTS("\"print\":1");

        assert_broken("{\"id\":\"a\\u0000b\"," PROVIDER "," ISSUED "," REST "}", "JSON");
        *strstr(document, "Moby") = '\0';
        assert_broken_of(document, sizeof document - 1, NULL, "JSON");
}

static void test_text_that_is_not_utf8_is_refused(void **state) {
        char document[] = RIGHTS("\"print\":1");

        *strstr(document, "Moby") = '\xff';
        assert_broken(document, "JSON");
}

static void test_deep_nesting_is_refused(void **state) {
        g_autofree char *open = g_strnfill(100000, '[');
        g_autofree char *document = g_strdup_printf(DOCUMENT(",\"x\":%s"), open);

        assert_broken(document, "JSON");
        assert_broken_of(open, 100000, DOCUMENT_MEDIA_TYPE_LCP, "JSON");
        assert_not_recognised(open, 100000, "lic");
}

static void test_other_json_with_the_lcp_media_type_is_refused(void **state) {
        assert_broken_of("[]", 2, DOCUMENT_MEDIA_TYPE_LCP, "object");
        assert_broken_of("7", 1, DOCUMENT_MEDIA_TYPE_LCP, "JSON");
        assert_broken_of("{}", 2, DOCUMENT_MEDIA_TYPE_LCP, "'id'");
        assert_broken_of("", 0, "Application/vnd.Readium.LCP.license.v1.0+JSON", "JSON");
}

static void test_other_media_type_does_not_hide_an_lcp_document(void **state) {
        g_auto(License) license = {};
        g_auto(Error) error = {};

        assert_int_equal(recognise(DOCUMENT(""), strlen(DOCUMENT("")), "application/json", &license, &error),
                0);
        assert_string_equal(license.id, "urn:1");
}

static void test_profile_with_escaped_slashes_is_recognised(void **state) {
        g_auto(License) license = {};

        assert_lcp("{" ID "," PROVIDER "," ISSUED "," SIGNATURE "," LINKS
                   ",\"encryption\":{\"profile\":\"http:\\/\\/readium.org\\/lcp\\/profile-1.0\"}}",
                &license);
        assert_string_equal(license.id, "urn:1");
}

static void test_other_json_that_mentions_lcp_is_not_claimed(void **state) {
        static const char document[] = "{\"see\":\"http://readium.org/lcp/\",\"id\":7}";

        assert_not_recognised(document, strlen(document), "lic");
}

static void test_documents_of_others_are_text_or_binary(void **state) {
        static const char armoured[] = "-----BEGIN LICENSE-----\r\n\tabc\n";

        assert_not_recognised(armoured, strlen(armoured), "lic");
        assert_not_recognised("größe", strlen("größe"), "lic");
        assert_not_recognised("", 0, "lic");
        assert_not_recognised(NULL, 0, "lic");
        assert_not_recognised("a\0b", 3, "bin");
        assert_not_recognised("a\x1b[0m", 5, "bin");
        assert_not_recognised("\xff\xfe", 2, "bin");
        assert_not_recognised("PK\3\4 readium.org/lcp/ {", 23, "bin");
}

static void test_random_bytes_do_no_harm(void **state) {
        g_autoptr(GRand) rand = g_rand_new_with_seed(1);

        for (unsigned i = 0; i < 3000; i++) {
                char document[] = RIGHTS("\"print\":1,\"start\":\"2024-06-01T00:00:00Z\"");
                g_auto(License) license = {};
                g_auto(Error) error = {};
                int r;

                /* Near a document, where random bytes alone never get. */
                for (unsigned k = 0; k <= i % 4; k++)
                        document[g_rand_int_range(rand, 0, sizeof document - 1)] = (char)g_rand_int(rand);
                r = recognise(document, sizeof document - 1, i % 2 ? DOCUMENT_MEDIA_TYPE_LCP : NULL,
                        &license, &error);
                assert_true(r == 0 || r == ERROR_INVALID_LICENSE);
                assert_true(g_utf8_validate(error_message(&error), -1, NULL));
                assert_true(r != 0 || !license.id || license_string_is_valid(license.id));
                assert_true(r != 0 || !license.title || license_string_is_valid(license.title));

                for (size_t k = 0; k < sizeof document; k++)
                        document[k] = (char)g_rand_int(rand);
                r = recognise(document, sizeof document, DOCUMENT_MEDIA_TYPE_LCP, &license, &error);
                assert_int_equal(r, ERROR_INVALID_LICENSE);
        }
}

/* NULL where the fixtures are not on this machine. */
static char *read_fixture(const char *name, size_t *ret_size) {
        const char *folder = g_getenv("LICENSEVAULT_FIXTURES"), *root = g_getenv("SOURCE_ROOT");
        g_autofree char *path = folder ? g_build_filename(folder, name, NULL) :
                g_build_filename(root ?: ".", "..", "shared", "fixtures", name, NULL);
        char *content;

        if (g_file_get_contents(path, &content, ret_size, NULL))
                return content;

        fprintf(stderr,
                "'%s' is not there: this test is SKIPPED. Name the folder in LICENSEVAULT_FIXTURES.\n",
                path);
        return NULL;
}

static void test_lcp_licenses_of_others_are_recognised(void **state) {
        static const struct {
                const char *name, *id, *updated;
        } cases[] = {
                { "lcp-2015-moby-dick.lcpl", "df09ac25-a386-4c5c-b167-33ce4c36ca65",
                  "2015-11-24T12:32:39Z" },
                { "lcp-2015-acquisition.lcpl", "c3a13ddb-d50e-45ef-ad1e-7fc9bfb88e07",
                  "2015-11-27T13:05:18Z" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_auto(License) license = {};
                g_autoptr(GDateTime) updated = g_date_time_new_from_iso8601(cases[i].updated, NULL);
                size_t size;
                g_autofree char *document = read_fixture(cases[i].name, &size);

                if (!document)
                        skip();

                assert_lcp(document, &license);
                assert_string_equal(license.id, cases[i].id);
                assert_string_equal(license.issuer, "http://example.com");
                assert_null(license.title);
                assert_int_equal(license.counters->len, 0);
                assert_int_equal(license.document_date / 1000000, g_date_time_to_unix(updated));
                assert_int_not_equal(license.document_date % 1000000, 0);
        }
}

static void test_encrypted_license_of_others_is_text(void **state) {
        size_t size;
        g_autofree char *document = read_fixture("keygen-license.lic", &size);

        if (!document)
                skip();
        assert_not_recognised(document, size, "lic");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_document_of_today_fills_the_license),
                cmocka_unit_test(test_document_of_2015_has_its_links_in_an_object),
                cmocka_unit_test(test_made_documents_are_recognised_as_they_were_made),
                cmocka_unit_test(test_made_documents_have_the_size_that_was_asked_for),
                cmocka_unit_test(test_absent_and_null_rights_are_unlimited),
                cmocka_unit_test(test_right_that_is_true_is_unlimited_and_false_is_none),
                cmocka_unit_test(test_counter_may_be_as_large_as_int64),
                cmocka_unit_test(test_counter_that_is_no_count_is_refused),
                cmocka_unit_test(test_date_is_updated_else_issued_to_the_microsecond),
                cmocka_unit_test(test_times_in_any_zone_and_fraction_are_the_same_time),
                cmocka_unit_test(test_date_before_1970_is_negative),
                cmocka_unit_test(test_bounds_before_1970_are_1970),
                cmocka_unit_test(test_fractions_of_bounds_go_to_the_narrow_side),
                cmocka_unit_test(test_bad_times_are_refused),
                cmocka_unit_test(test_overlong_time_is_refused),
                cmocka_unit_test(test_missing_members_are_named),
                cmocka_unit_test(test_members_of_wrong_types_are_named),
                cmocka_unit_test(test_links_of_odd_shapes_only_cost_the_title),
                cmocka_unit_test(test_id_of_1024_bytes_is_taken_and_of_1025_refused),
                cmocka_unit_test(test_title_too_long_is_cut_between_characters),
                cmocka_unit_test(test_document_cut_off_anywhere_is_refused_or_not_recognised),
                cmocka_unit_test(test_member_given_twice_is_refused),
                cmocka_unit_test(test_garbage_after_the_document_is_refused),
                cmocka_unit_test(test_nul_inside_is_refused),
                cmocka_unit_test(test_text_that_is_not_utf8_is_refused),
                cmocka_unit_test(test_deep_nesting_is_refused),
                cmocka_unit_test(test_other_json_with_the_lcp_media_type_is_refused),
                cmocka_unit_test(test_other_media_type_does_not_hide_an_lcp_document),
                cmocka_unit_test(test_profile_with_escaped_slashes_is_recognised),
                cmocka_unit_test(test_other_json_that_mentions_lcp_is_not_claimed),
                cmocka_unit_test(test_documents_of_others_are_text_or_binary),
                cmocka_unit_test(test_random_bytes_do_no_harm),
                cmocka_unit_test(test_lcp_licenses_of_others_are_recognised),
                cmocka_unit_test(test_encrypted_license_of_others_is_text),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
