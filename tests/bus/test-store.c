/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Every method of LicenseStore: what it keeps, what it gives back, what it refuses and how it says so. */
#include <string.h>
#include <unistd.h>

#include "client.h"

#define UNAVAILABLE "NS_E_DRM_LICENSE_UNAVAILABLE"

static void test_document_comes_back_byte_for_byte(void **state) {
        static const size_t sizes[] = { 0, 1, 255, 4096, 60 * 1024, 64 * 1024, 65537, 1 << 20 };
        sd_bus *bus = harness_connect(*state, 0);

        for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
                g_autofree uint8_t *document = make_document(sizes[i], i);
                g_autofree char *id = g_strdup_printf("size %zu", sizes[i]);
                g_free(store_license(bus, document, sizes[i], "a{sv}", 1, "LicenseId", "s", id));
                g_hash_table_unref(assert_license(bus, id, document, sizes[i]));
        }
}

static void test_fixtures_come_back_byte_for_byte(void **state) {
        static const char *const names[] = { "lcp-2015-moby-dick.lcpl", "lcp-2015-acquisition.lcpl" };
        sd_bus *bus = harness_connect(*state, 0);
        size_t size;

        for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
                g_autofree char *document = read_fixture(names[i], &size);
                if (!document)
                        skip();
                g_autofree char *id = store_license(bus, document, size, "a{sv}", 0);
                g_autoptr(GHashTable) properties = assert_license(bus, id, document, size);
                assert_property(properties, "LicenseId", id);
                assert_property(properties, "Issuer", "http://example.com");
                assert_property(properties, "MediaType", "application/vnd.readium.lcp.license.v1.0+json");
                assert_non_null(strstr(document, id));
        }

        g_autofree char *document = read_fixture("keygen-license.lic", &size);
        store_license_error(bus, "InvalidArgs", "*LicenseId*", document, size, "a{sv}", 0);
        g_free(store_license(bus, document, size, "a{sv}", 1, "LicenseId", "s", "keygen"));
        g_hash_table_unref(assert_license(bus, "keygen", document, size));
}

static void test_lcp_document_fills_the_properties(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        g_autofree char *document = make_lcp("urn:uuid:1", "2024-05-01T10:00:00.5+02:00",
                "{\"print\":10,\"copy\":2048,\"start\":\"2020-01-01T00:00:00Z\","
                "\"end\":\"2040-01-01T00:00:00+01:00\"}");

        g_autofree char *id = store_license(bus, document, strlen(document), "a{sv}", 0);
        g_autoptr(GHashTable) properties = assert_license(bus, id, document, strlen(document));
        assert_string_equal(id, "urn:uuid:1");
        assert_property(properties, "Issuer", "https://lcp.example.org");
        assert_property(properties, "Title", "A Book");
        assert_property(properties, "NotBefore", "1577836800");
        assert_property(properties, "NotAfter", "2208985200");
        assert_property(properties, "Counters/print", "10");
        assert_property(properties, "Counters/copy", "2048");
        assert_property(properties, "AllowBackup", "true");
}

static void test_lcp_without_rights_is_unlimited(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        g_autofree char *document = make_lcp("no-rights", NULL, NULL);

        g_free(store_license(bus, document, strlen(document), "a{sv}", 0));
        g_autoptr(GHashTable) properties = assert_license(bus, "no-rights", document, strlen(document));
        assert_no_property(properties, "NotBefore");
        assert_no_property(properties, "NotAfter");
        assert_no_property(properties, "Counters/print");
        assert_int_equal(call_uint64(bus, ROOT, "LicenseStore.ConsumeRight", "sst", "no-rights", "print",
                                 UINT64_C(5)),
                UINT64_MAX);
}

static void test_broken_lcp_is_refused_with_the_reason(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        g_autofree char *no_id = make_lcp("X", NULL, NULL),
                        *bad_time = make_lcp("bad-time", "yesterday", NULL);
        g_autofree char *good = make_lcp("good", NULL, NULL);
        char *id = strstr(no_id, "\"id\":\"X\"");
        memcpy(id, "\"Id\":\"X\"", 8);

        store_license_error(bus, "NS_E_DRM_INVALID_LICENSE", "*id*", no_id, strlen(no_id), "a{sv}", 0);
        store_license_error(
                bus, "NS_E_DRM_INVALID_LICENSE", "*updated*", bad_time, strlen(bad_time), "a{sv}", 0);
        store_license_error(bus, "NS_E_DRM_INVALID_LICENSE", "*JSON*", good, strlen(good) - 1, "a{sv}", 1,
                "MediaType", "s", "application/vnd.readium.lcp.license.v1.0+json");
        call_error(bus, ROOT, "LicenseStore.GetLicense", UNAVAILABLE, NULL, "s", "bad-time");
        call_error(bus, ROOT, "LicenseStore.GetLicense", UNAVAILABLE, NULL, "s", "good");
}

static void test_caller_narrows_and_never_widens(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        g_autofree char *document = make_lcp("narrow", NULL,
                "{\"print\":10,\"start\":\"2020-01-01T00:00:00Z\",\"end\":\"2040-01-01T00:00:00Z\"}");
        size_t size = strlen(document);

        store_license_error(bus, "InvalidArgs", NULL, document, size, "a{sv}", 1, "Counters", "a{st}", 1,
                "print", UINT64_C(11));
        store_license_error(
                bus, "InvalidArgs", NULL, document, size, "a{sv}", 1, "NotAfter", "t", UINT64_C(2208988801));
        store_license_error(bus, "InvalidArgs", NULL, document, size, "a{sv}", 1, "NotBefore", "t",
                UINT64_C(1577836799));
        store_license_error(
                bus, "InvalidArgs", NULL, document, size, "a{sv}", 1, "LicenseId", "s", "another");
        store_license_error(bus, "InvalidArgs", NULL, document, size, "a{sv}", 1, "Issuer", "s", "another");
        call_error(bus, ROOT, "LicenseStore.GetLicense", UNAVAILABLE, NULL, "s", "narrow");

        g_free(store_license(bus, document, size, "a{sv}", 4, "Counters", "a{st}", 2, "print", UINT64_C(3),
                "copy", UINT64_C(7), "NotAfter", "t", UINT64_C(2208988799), "NotBefore", "t",
                UINT64_C(1577836801), "AllowBackup", "b", 0));
        g_autoptr(GHashTable) properties = assert_license(bus, "narrow", document, size);
        assert_property(properties, "Counters/print", "3");
        assert_property(properties, "Counters/copy", "7");
        assert_property(properties, "NotAfter", "2208988799");
        assert_property(properties, "NotBefore", "1577836801");
        assert_property(properties, "AllowBackup", "false");
}

static void test_properties_of_an_opaque_license_come_back(void **state) {
        sd_bus *bus = harness_connect(*state, 0);

        g_free(store_license(bus, "x", 1, "a{sv}", 9, "LicenseId", "s", "all ünïcode ✓", "KeyId", "s", "key",
                "Title", "s", "A “Title”\nof two lines", "Issuer", "s", "issuer", "MediaType", "s",
                "text/plain", "NotBefore", "t", UINT64_C(0), "NotAfter", "t", (uint64_t)INT64_MAX,
                "AllowBackup", "b", 0, "Counters", "a{st}", 2, "print", (uint64_t)INT64_MAX, "a.b-c_0",
                UINT64_C(0)));
        g_autoptr(GHashTable) properties = assert_license(bus, "all ünïcode ✓", "x", 1);
        assert_property(properties, "LicenseId", "all ünïcode ✓");
        assert_property(properties, "KeyId", "key");
        assert_property(properties, "Title", "A “Title”\nof two lines");
        assert_property(properties, "Issuer", "issuer");
        assert_property(properties, "MediaType", "text/plain");
        assert_property(properties, "NotBefore", "0");
        assert_property(properties, "NotAfter", "9223372036854775807");
        assert_property(properties, "AllowBackup", "false");
        assert_property(properties, "Counters/print", "9223372036854775807");
        assert_property(properties, "Counters/a.b-c_0", "0");
}

static void test_what_is_not_set_does_not_come_back(void **state) {
        sd_bus *bus = harness_connect(*state, 0);

        store_simple(bus, "bare");
        g_autoptr(GHashTable) properties = assert_license(bus, "bare", "the document of bare\n", 21);
        assert_property(properties, "LicenseId", "bare");
        assert_no_property(properties, "Title");
        assert_no_property(properties, "KeyId");
        assert_no_property(properties, "NotAfter");
}

static void test_bad_options_are_refused_and_nothing_is_stored(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        g_autofree char *long_string = g_strnfill(1025, 'x');

#define REFUSED(message, ...) \
        store_license_error(  \
                bus, "InvalidArgs", message, "x", 1, "a{sv}", 2, "LicenseId", "s", "id", __VA_ARGS__)
        REFUSED("*Colour*", "Colour", "s", "blue");
        REFUSED("*Title*", "Title", "u", 1);
        REFUSED("*AllowBackup*", "AllowBackup", "s", "no");
        REFUSED("*NotAfter*", "NotAfter", "x", INT64_C(1));
        REFUSED("*NotAfter*", "NotAfter", "t", (uint64_t)INT64_MAX + 1);
        REFUSED("*NotBefore*", "NotBefore", "t", UINT64_MAX);
        REFUSED("*Title*", "Title", "s", long_string);
        REFUSED("*Counters*", "Counters", "a{su}", 1, "print", 1);
        REFUSED(NULL, "Counters", "a{st}", 1, "Print", UINT64_C(1));
        REFUSED(NULL, "Counters", "a{st}", 1, "", UINT64_C(1));
        REFUSED(NULL, "Counters", "a{st}", 1, "print", UINT64_MAX);
        REFUSED("*LicenseId*", "LicenseId", "s", "twice");
#undef REFUSED
        store_license_error(bus, "InvalidArgs", "*LicenseId*", "x", 1, "a{sv}", 0);
        store_license_error(bus, "InvalidArgs", "*LicenseId*", "x", 1, "a{sv}", 1, "LicenseId", "s", "");
        store_license_error(
                bus, "InvalidArgs", "*LicenseId*", "x", 1, "a{sv}", 1, "LicenseId", "s", long_string);
        call_error(bus, ROOT, "LicenseStore.GetLicense", UNAVAILABLE, NULL, "s", "id");
}

static void test_counters_are_at_most_64(void **state) {
        sd_bus *bus = harness_connect(*state, 0);

        for (unsigned n = 64; n <= 65; n++) {
                sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.StoreLicense");
                assert_true(sd_bus_message_append(message, "ay", 1, 'x') >= 0);
                assert_true(sd_bus_message_open_container(message, 'a', "{sv}") >= 0);
                assert_true(sd_bus_message_append(message, "{sv}", "LicenseId", "s", "counters") >= 0);
                assert_true(sd_bus_message_open_container(message, 'e', "sv") >= 0);
                assert_true(sd_bus_message_append(message, "s", "Counters") >= 0);
                assert_true(sd_bus_message_open_container(message, 'v', "a{st}") >= 0);
                assert_true(sd_bus_message_open_container(message, 'a', "{st}") >= 0);
                for (unsigned i = 0; i < n; i++) {
                        g_autofree char *right = g_strdup_printf("right%u", i);
                        assert_true(sd_bus_message_append(message, "{st}", right, UINT64_C(1)) >= 0);
                }
                for (unsigned i = 0; i < 4; i++)
                        assert_true(sd_bus_message_close_container(message) >= 0);
                if (n <= 64)
                        sd_bus_message_unref(send_call(bus, message));
                else
                        send_call_error(bus, message, "InvalidArgs", "*64*");
        }
}

static void test_many_are_stored_in_order_or_not_at_all(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        _cleanup_message_ sd_bus_message *reply = call(bus, ROOT, "LicenseStore.StoreLicenses", "a(aya{sv})",
                2, 1, 'b', 1, "LicenseId", "s", "b", 1, 'a', 1, "LicenseId", "s", "a");
        const char *first, *second;
        assert_true(sd_bus_message_read(reply, "as", 2, &first, &second) > 0);
        assert_string_equal(first, "b");
        assert_string_equal(second, "a");

        call_error(bus, ROOT, "LicenseStore.StoreLicenses", "InvalidArgs", "*2*", "a(aya{sv})", 3, 1, 'x', 1,
                "LicenseId", "s", "c", 1, 'x', 0, 1, 'x', 1, "LicenseId", "s", "d");
        call_error(bus, ROOT, "LicenseStore.StoreLicenses", "InvalidArgs", "License 2: *Colour*", "a(aya{sv})", 2, 1,
                'x', 1, "LicenseId", "s", "c", 1, 'x', 1, "Colour", "s", "blue");
        call_void(bus, ROOT, "LicenseStore.RevokeLicense", "s", "a");
        call_error(bus, ROOT, "LicenseStore.StoreLicenses", "NS_E_DRM_LICENSE_CONTENT_REVOKED", "*2*",
                "a(aya{sv})", 3, 1, 'x', 1, "LicenseId", "s", "c", 1, 'x', 1, "LicenseId", "s", "a", 1, 'x',
                1, "LicenseId", "s", "b");
        call_error(bus, ROOT, "LicenseStore.GetLicense", UNAVAILABLE, NULL, "s", "c");
        call_error(bus, ROOT, "LicenseStore.GetLicense", UNAVAILABLE, NULL, "s", "d");
        g_hash_table_unref(assert_license(bus, "b", "b", 1));
        call_void(bus, ROOT, "LicenseStore.StoreLicenses", "a(aya{sv})", 0);
}

static void test_deleted_and_missing_licenses_are_unavailable(void **state) {
        static const char *const members[] = { "GetLicense", "OpenLicense", "DeleteLicense" };
        sd_bus *bus = harness_connect(*state, 0);
        store_simple(bus, "gone");
        call_void(bus, ROOT, "LicenseStore.DeleteLicense", "s", "gone");

        for (unsigned i = 0; i < G_N_ELEMENTS(members); i++) {
                g_autofree char *member = g_strconcat("LicenseStore.", members[i], NULL);
                call_error(bus, ROOT, member, UNAVAILABLE, "*gone*", "s", "gone");
                call_error(bus, ROOT, member, UNAVAILABLE, "*never*", "s", "never");
        }
        call_error(bus, ROOT, "LicenseStore.ConsumeRight", UNAVAILABLE, "*gone*", "sst", "gone", "print",
                UINT64_C(1));
        call_error(bus, ROOT, "LicenseStore.RevokeLicense", UNAVAILABLE, "*never*", "s", "never");
        call_void(bus, ROOT, "LicenseStore.RevokeLicense", "s", "gone");
        call_void(bus, ROOT, "LicenseStore.RevokeLicense", "s", "gone");
}

static void test_revoked_id_is_never_stored_again(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "bad");
        call_void(bus, ROOT, "LicenseStore.RevokeLicense", "s", "bad");

        call_error(bus, ROOT, "LicenseStore.GetLicense", UNAVAILABLE, NULL, "s", "bad");
        store_license_error(bus, "NS_E_DRM_LICENSE_CONTENT_REVOKED", "*bad*", "x", 1, "a{sv}", 1,
                "LicenseId", "s", "bad");
        harness_stop(h);
        harness_start(h);
        store_license_error(bus, "NS_E_DRM_LICENSE_CONTENT_REVOKED", "*bad*", "x", 1, "a{sv}", 1,
                "LicenseId", "s", "bad");
}

/* Reads a page; returns its ids as one text, "a b c", and the next. */
static char *read_page(sd_bus_message *page, char **ret_next) {
        g_autoptr(GString) ids = g_string_new(NULL);
        const char *id, *next;

        assert_true(sd_bus_message_enter_container(page, 'a', "(sa{sv})") >= 0);
        while (sd_bus_message_enter_container(page, 'r', "sa{sv}") > 0) {
                assert_true(sd_bus_message_read(page, "s", &id) > 0);
                g_autoptr(GHashTable) properties = read_properties(page);
                assert_property(properties, "LicenseId", id);
                assert_true(sd_bus_message_exit_container(page) > 0);
                g_string_append_printf(ids, "%s%s", ids->len > 0 ? " " : "", id);
        }
        assert_true(sd_bus_message_exit_container(page) > 0);
        assert_true(sd_bus_message_read(page, "s", &next) > 0);
        *ret_next = g_strdup(next);
        return g_string_free(g_steal_pointer(&ids), false);
}

static void test_enumeration_goes_by_id_in_pages(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        const char *const expected[] = { "B a", "b é" };
        g_autofree char *after = g_strdup("");
        store_simple(bus, "é");
        store_simple(bus, "b");
        store_simple(bus, "B");
        store_simple(bus, "a");

        for (unsigned i = 0; i < G_N_ELEMENTS(expected); i++) {
                _cleanup_message_ sd_bus_message *page =
                        call(bus, ROOT, "LicenseStore.EnumerateLicenses", "a{sv}su", 0, after, 2);
                g_free(after);
                g_autofree char *ids = read_page(page, &after);
                assert_string_equal(ids, expected[i]);
        }
        if (*after) {
                _cleanup_message_ sd_bus_message *page =
                        call(bus, ROOT, "LicenseStore.EnumerateLicenses", "a{sv}su", 0, after, 2);
                g_free(after);
                g_autofree char *ids = read_page(page, &after);
                assert_string_equal(ids, "");
        }
        assert_string_equal(after, "");
}

/* Reads all pages. Returns the ids as one text, and the most bytes of a page. */
static char *enumerate_all(sd_bus *bus, unsigned *ret_most, const char *types, ...) {
        g_autoptr(GString) all = g_string_new(NULL);
        g_autofree char *after = g_strdup("");
        unsigned most = 0;

        do {
                sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.EnumerateLicenses");
                va_list ap;

                va_start(ap, types);
                assert_true(sd_bus_message_appendv(message, types, ap) >= 0);
                va_end(ap);
                assert_true(sd_bus_message_append(message, "su", after, 0) >= 0);
                _cleanup_message_ sd_bus_message *page = send_call(bus, message);
                g_free(after);
                g_autofree char *ids = read_page(page, &after);
                g_auto(GStrv) names = g_strsplit(ids, " ", -1);
                most = MAX(most, g_strv_length(names));
                if (*ids)
                        g_string_append_printf(all, "%s%s", all->len > 0 ? " " : "", ids);
        } while (*after);

        if (ret_most)
                *ret_most = most;
        return g_string_free(g_steal_pointer(&all), false);
}

static void test_enumeration_of_many_misses_none(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        unsigned most;
        store_many(bus, "n", 2500, 10);

        g_autofree char *all = enumerate_all(bus, &most, "a{sv}", 0);
        g_auto(GStrv) ids = g_strsplit(all, " ", -1);
        assert_int_equal(g_strv_length(ids), 2500);
        assert_in_range(most, 1, 1000);
        for (unsigned i = 0; i < 2500; i++) {
                g_autofree char *id = g_strdup_printf("n%05u", i);
                assert_string_equal(ids[i], id);
        }
}

static void test_enumeration_of_long_properties_stays_under_64_kib(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        g_autofree char *title = g_strnfill(1024, 't');
        unsigned most;
        for (unsigned i = 0; i < 100; i++) {
                g_autofree char *id = g_strdup_printf("n%03u", i);
                g_free(store_license(bus, "x", 1, "a{sv}", 4, "LicenseId", "s", id, "Title", "s", title,
                        "Issuer", "s", title, "KeyId", "s", title));
        }

        g_autofree char *all = enumerate_all(bus, &most, "a{sv}", 0);
        g_auto(GStrv) ids = g_strsplit(all, " ", -1);
        assert_int_equal(g_strv_length(ids), 100);
        /* Each entry is more than 3 KiB. */
        assert_in_range(most, 2, 21);
}

static void test_enumeration_filters(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        g_free(store_license(
                bus, "x", 1, "a{sv}", 3, "LicenseId", "s", "a", "KeyId", "s", "k1", "Issuer", "s", "i"));
        g_free(store_license(
                bus, "x", 1, "a{sv}", 3, "LicenseId", "s", "b", "KeyId", "s", "k2", "MediaType", "s", "m"));
        g_free(store_license(bus, "x", 1, "a{sv}", 4, "LicenseId", "s", "c", "KeyId", "s", "k1", "NotBefore",
                "t", UINT64_C(1000), "NotAfter", "t", UINT64_C(2000)));
        g_free(store_license(bus, "x", 1, "a{sv}", 2, "LicenseId", "s", "d", "AllowBackup", "b", 0));

#define ENUMERATED(ids, ...)                                                             \
        do {                                                                             \
                g_autofree char *found = enumerate_all(bus, NULL, "a{sv}", __VA_ARGS__); \
                assert_string_equal(found, ids);                                         \
        } while (0)
        ENUMERATED("a c", 1, "KeyId", "s", "k1");
        ENUMERATED("a", 2, "KeyId", "s", "k1", "Issuer", "s", "i");
        ENUMERATED("b", 1, "MediaType", "s", "m");
        ENUMERATED("a b d", 1, "ValidAt", "t", UINT64_C(999));
        ENUMERATED("a b c d", 1, "ValidAt", "t", UINT64_C(1000));
        ENUMERATED("a b c d", 1, "ValidAt", "t", UINT64_C(2000));
        ENUMERATED("a b d", 1, "ValidAt", "t", UINT64_C(2001));
        ENUMERATED("d", 1, "AllowBackup", "b", 0);
        ENUMERATED("a b c", 1, "AllowBackup", "b", 1);
        ENUMERATED("", 1, "KeyId", "s", "K1");
#undef ENUMERATED
        call_error(bus, ROOT, "LicenseStore.EnumerateLicenses", "InvalidArgs", "*Title*", "a{sv}su", 1,
                "Title", "s", "x", "", 0);
        call_error(bus, ROOT, "LicenseStore.EnumerateLicenses", "InvalidArgs", "*KeyId*", "a{sv}su", 1,
                "KeyId", "u", 1, "", 0);
        call_error(bus, ROOT, "LicenseStore.EnumerateLicenses", "InvalidArgs", "*ValidAt*", "a{sv}su", 1,
                "ValidAt", "t", UINT64_MAX, "", 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_document_comes_back_byte_for_byte),
                TEST(test_fixtures_come_back_byte_for_byte),
                TEST(test_lcp_document_fills_the_properties),
                TEST(test_lcp_without_rights_is_unlimited),
                TEST(test_broken_lcp_is_refused_with_the_reason),
                TEST(test_caller_narrows_and_never_widens),
                TEST(test_properties_of_an_opaque_license_come_back),
                TEST(test_what_is_not_set_does_not_come_back),
                TEST(test_bad_options_are_refused_and_nothing_is_stored),
                TEST(test_counters_are_at_most_64),
                TEST(test_many_are_stored_in_order_or_not_at_all),
                TEST(test_deleted_and_missing_licenses_are_unavailable),
                TEST(test_revoked_id_is_never_stored_again),
                TEST(test_enumeration_goes_by_id_in_pages),
                TEST(test_enumeration_of_many_misses_none),
                TEST(test_enumeration_of_long_properties_stays_under_64_kib),
                TEST(test_enumeration_filters),
        };

        return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
