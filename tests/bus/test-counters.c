/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Uses are taken once and never come back: ConsumeRight, and what outlives a license. */
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client.h"

#define CONSUME "LicenseStore.ConsumeRight"

/* Stores an opaque license with one counter "print". */
static void store_counter(sd_bus *bus, const char *id, uint64_t uses) {
        g_free(store_license(
                bus, "x", 1, "a{sv}", 2, "LicenseId", "s", id, "Counters", "a{st}", 1, "print", uses));
}

static uint64_t consume(sd_bus *bus, const char *id, uint64_t amount) {
        return call_uint64(bus, ROOT, CONSUME, "sst", id, "print", amount);
}

static void assert_left(sd_bus *bus, const char *id, const char *left) {
        g_autoptr(GHashTable) properties = assert_license(bus, id, "x", 1);

        assert_property(properties, "Counters/print", left);
}

static void test_uses_are_taken_until_none_is_left(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        store_counter(bus, "ten", 10);

        assert_int_equal(consume(bus, "ten", 1), 9);
        assert_int_equal(consume(bus, "ten", 8), 1);
        call_error(bus, ROOT, CONSUME, "NS_E_DRM_NO_RIGHTS", "*print*", "sst", "ten", "print", UINT64_C(2));
        assert_left(bus, "ten", "1");
        assert_int_equal(consume(bus, "ten", 1), 0);
        call_error(bus, ROOT, CONSUME, "NS_E_DRM_NO_RIGHTS", NULL, "sst", "ten", "print", UINT64_C(1));
        assert_left(bus, "ten", "0");
}

static void test_bad_amounts_and_rights_are_refused(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        g_autofree char *long_right = g_strnfill(65, 'r');
        store_counter(bus, "ten", 10);

        call_error(bus, ROOT, CONSUME, "InvalidArgs", NULL, "sst", "ten", "print", UINT64_C(0));
        call_error(bus, ROOT, CONSUME, "InvalidArgs", NULL, "sst", "ten", "print", UINT64_MAX);
        call_error(bus, ROOT, CONSUME, "InvalidArgs", NULL, "sst", "ten", "Print", UINT64_C(1));
        call_error(bus, ROOT, CONSUME, "InvalidArgs", NULL, "sst", "ten", "", UINT64_C(1));
        call_error(bus, ROOT, CONSUME, "InvalidArgs", NULL, "sst", "ten", long_right, UINT64_C(1));
        call_error(
                bus, ROOT, CONSUME, "NS_E_DRM_NO_RIGHTS", NULL, "sst", "ten", "print", (uint64_t)INT64_MAX);
        assert_left(bus, "ten", "10");
}

static void test_right_without_a_counter_is_unlimited(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        store_counter(bus, "ten", 10);

        assert_int_equal(call_uint64(bus, ROOT, CONSUME, "sst", "ten", "copy", UINT64_C(1000)), UINT64_MAX);
        assert_left(bus, "ten", "10");
}

static void test_nothing_is_taken_outside_the_time(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        uint64_t now = (uint64_t)time(NULL);
        g_free(store_license(bus, "x", 1, "a{sv}", 3, "LicenseId", "s", "early", "NotBefore", "t",
                now + 3600, "Counters", "a{st}", 1, "print", UINT64_C(1)));
        g_free(store_license(bus, "x", 1, "a{sv}", 3, "LicenseId", "s", "late", "NotAfter", "t", now - 3600,
                "Counters", "a{st}", 1, "print", UINT64_C(1)));
        g_free(store_license(bus, "x", 1, "a{sv}", 4, "LicenseId", "s", "now", "NotBefore", "t", now - 3600,
                "NotAfter", "t", now + 3600, "Counters", "a{st}", 1, "print", UINT64_C(1)));

        call_error(bus, ROOT, CONSUME, "NS_E_DRM_NO_RIGHTS", NULL, "sst", "early", "print", UINT64_C(1));
        call_error(bus, ROOT, CONSUME, "NS_E_DRM_NO_RIGHTS", NULL, "sst", "late", "print", UINT64_C(1));
        call_error(bus, ROOT, CONSUME, "NS_E_DRM_NO_RIGHTS", NULL, "sst", "late", "unlimited", UINT64_C(1));
        assert_int_equal(consume(bus, "now", 1), 0);
        assert_left(bus, "early", "1");
        assert_left(bus, "late", "1");
}

/* Each of ten connections sends its call before any answer is read. */
static void test_ten_parallel_callers_take_ten(void **state) {
        Harness *h = *state;
        sd_bus *buses[10];
        bool seen[100] = {};
        store_counter(harness_connect(h, 0), "hundred", 100);

        for (unsigned i = 0; i < 10; i++) {
                sd_bus_message *message;
                buses[i] = harness_connect(h, 0);
                message = new_call(buses[i], ROOT, CONSUME);
                assert_true(sd_bus_message_append(message, "sst", "hundred", "print", UINT64_C(1)) >= 0);
                send_only(buses[i], message);
        }
        for (unsigned i = 0; i < 10; i++) {
                _cleanup_message_ sd_bus_message *reply = receive_reply(buses[i], PATIENCE_SEC * 1000);
                uint64_t left;

                assert_non_null(reply);
                assert_false(sd_bus_message_is_method_error(reply, NULL) > 0);
                assert_true(sd_bus_message_read(reply, "t", &left) > 0);
                assert_in_range(left, 90, 99);
                assert_false(seen[left]);
                seen[left] = true;
        }
        assert_left(buses[0], "hundred", "90");
}

static void test_storing_again_never_raises_a_counter(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        store_counter(bus, "id", 10);
        consume(bus, "id", 4);

        store_counter(bus, "id", 10);
        assert_left(bus, "id", "6");
        store_counter(bus, "id", 2);
        assert_left(bus, "id", "2");
        store_counter(bus, "id", 10);
        assert_left(bus, "id", "2");
        g_free(store_license(bus, "x", 1, "a{sv}", 1, "LicenseId", "s", "id"));
        assert_left(bus, "id", "2");
}

static void test_deleting_and_storing_anew_refills_nothing(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        store_counter(bus, "id", 10);
        consume(bus, "id", 7);
        call_void(bus, ROOT, "LicenseStore.DeleteLicense", "s", "id");

        harness_stop(h);
        harness_start(h);
        store_counter(bus, "id", 10);
        assert_left(bus, "id", "3");
        call_void(bus, ROOT, "LicenseStore.DeleteLicense", "s", "id");
        g_free(store_license(bus, "x", 1, "a{sv}", 1, "LicenseId", "s", "id"));
        assert_left(bus, "id", "3");
        assert_int_equal(consume(bus, "id", 3), 0);
}

static void test_lcp_stored_anew_keeps_what_was_spent(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        g_autofree char *first = make_lcp("lcp", "2021-01-01T00:00:00Z", "{\"print\":10}");
        g_autofree char *second = make_lcp("lcp", "2022-01-01T00:00:00Z", "{\"print\":20}");
        g_free(store_license(bus, first, strlen(first), "a{sv}", 0));
        assert_int_equal(consume(bus, "lcp", 5), 5);

        g_free(store_license(bus, second, strlen(second), "a{sv}", 0));
        g_autoptr(GHashTable) properties = assert_license(bus, "lcp", second, strlen(second));
        assert_property(properties, "Counters/print", "5");
}

static void test_consumed_uses_survive_a_kill(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        store_counter(bus, "id", 10);

        assert_int_equal(consume(bus, "id", 1), 9);
        harness_kill(h);
        harness_start(h);
        assert_left(bus, "id", "9");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_uses_are_taken_until_none_is_left),
                TEST(test_bad_amounts_and_rights_are_refused),
                TEST(test_right_without_a_counter_is_unlimited),
                TEST(test_nothing_is_taken_outside_the_time),
                TEST(test_ten_parallel_callers_take_ten),
                TEST(test_storing_again_never_raises_a_counter),
                TEST(test_deleting_and_storing_anew_refills_nothing),
                TEST(test_lcp_stored_anew_keeps_what_was_spent),
                TEST(test_consumed_uses_survive_a_kill),
        };

        return cmocka_run_group_tests_name("counters", tests, NULL, NULL);
}
