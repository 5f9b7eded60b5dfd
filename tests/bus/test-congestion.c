/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A bus that takes nothing any more. It takes half a minute to find out, and so has a binary of its own. */
#include <sys/wait.h>

#include "client.h"

/* Waits until the daemon is on the bus and answers; it must not have ended meanwhile. */
static void wait_for_service(Harness *h, sd_bus *bus) {
        for (unsigned i = 0; i < PATIENCE_SEC * 10; i++) {
                sd_bus_message *message = new_call(bus, ROOT, "Manager.ListJobs");
                int r = sd_bus_call(bus, message, 2 * UINT64_C(1000000), NULL, NULL);
                g_autofree char *log = NULL;

                sd_bus_message_unref(message);
                if (r >= 0)
                        return;
                if (waitpid(h->daemon, NULL, WNOHANG) != 0) {
                        h->daemon = 0;
                        log = harness_log(h);
                        fail_msg("The daemon ended instead; its log:\n%s", log);
                }
                sleep_msec(100);
        }
        fail_msg("The daemon does not answer any more");
}

/*
 * Answers for 127 MiB that nobody reads, and the bus takes no byte of the daemon's any more. It must
 * find out, leave the bus so that its messages there go, and come back.
 */
static void test_daemon_comes_back_when_the_bus_takes_nothing(void **state) {
        Harness *h = *state;
        g_autofree uint8_t *document = make_document(60 * 1024, 1);
        sd_bus *greedy[8], *victim = harness_connect(h, 1);
        for (unsigned i = 0; i < 8; i++)
                greedy[i] = harness_connect(h, 0);
        g_free(store_license(greedy[0], document, 60 * 1024, "a{sv}", 1, "LicenseId", "s", "large"));

        for (unsigned n = 0; n < 400; n++) {
                for (unsigned i = 0; i < 8; i++)
                        send_get_license(greedy[i], "large");
                sleep_msec(5);
        }
        wait_for_service(h, victim);
        harness_expect_log(h, "leaving it, and coming back");
        store_simple(victim, "one");
        store_simple(victim, "two");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_daemon_comes_back_when_the_bus_takes_nothing),
        };

        return cmocka_run_group_tests_name("congestion", tests, NULL, NULL);
}
