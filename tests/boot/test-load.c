/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A user that asks for much and reads nothing, on the system's own bus, with its limits. */
#include "system.h"

#define GREEDY 24U
#define REQUESTS 400U

/* How long it takes until a user's calls are answered. */
static unsigned wait_for_service(sd_bus *bus) {
        int64_t begin = g_get_monotonic_time(), now = begin;

        while (now - begin < PATIENCE_SEC * G_USEC_PER_SEC) {
                sd_bus_message *message = new_call(bus, ROOT, "Manager.ListJobs");
                int r = sd_bus_call(bus, message, 1 * UINT64_C(1000000), NULL, NULL);

                sd_bus_message_unref(message);
                now = g_get_monotonic_time();
                if (r >= 0)
                        return (unsigned)((now - begin) / 1000);
                sleep_msec(50);
        }
        fail_msg("The service does not answer any more");
        return 0;
}

/*
 * Every answer is 60 KiB, and nobody takes it. Whatever the bus does about that (dbus-daemon keeps it, at the
 * daemon's expense; dbus-broker ends the connections), others are served, and soon.
 */
static void test_user_who_reads_nothing_does_not_keep_others_waiting(void **state) {
        Harness *h = *state;
        g_autofree uint8_t *document = make_document(60 * 1024, 1);
        sd_bus *greedy[GREEDY], *victim = harness_connect(h, 1);
        unsigned waited;
        pid_t daemon = unit_pid();
        for (unsigned i = 0; i < GREEDY; i++)
                greedy[i] = harness_connect(h, 0);
        g_free(store_license(greedy[0], document, 60 * 1024, "a{sv}", 1, "LicenseId", "s", "large"));
        store_simple(victim, "before");

        for (unsigned n = 0; n < REQUESTS; n++)
                for (unsigned i = 0; i < GREEDY; i++) {
                        sd_bus_message *message = new_call(greedy[i], ROOT, "LicenseStore.GetLicense");

                        assert_true(sd_bus_message_append(message, "s", "large") >= 0);
                        /* The bus may have ended the connection: so much the better. */
                        (void)sd_bus_send(greedy[i], message, &(uint64_t) { 0 });
                        sd_bus_message_unref(message);
                }

        waited = wait_for_service(victim);
        print_message("another user waited %u ms\n", waited);
        assert_true(waited <= 20000);
        store_simple(victim, "after");
        g_hash_table_unref(assert_license(victim, "before", "the document of before\n", 23));
        assert_int_equal(unit_pid(), daemon);

        /* And once they are gone, all is as before. */
        for (unsigned i = 0; i < GREEDY; i++)
                harness_disconnect(h, greedy[i]);
        sd_bus *again = harness_connect(h, 0);
        g_hash_table_unref(assert_license(again, "large", document, 60 * 1024));
        expect_unit_property("NRestarts", "0");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, system_setup_running, system_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_user_who_reads_nothing_does_not_keep_others_waiting),
        };

        return cmocka_run_group_tests_name("load", tests, NULL, NULL);
}
