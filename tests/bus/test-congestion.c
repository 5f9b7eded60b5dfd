/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Clients that read nothing. What they do to a bus takes half a minute to find out, and so has a binary of its own. */
#include <string.h>
#include <sys/wait.h>

#include "client.h"
#include "monitor.h"

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

static bool has_left(Harness *h) {
        g_autofree char *log = harness_log(h);

        return strstr(log, "leaving it, and coming back") != NULL;
}

/*
 * Asks for up to 190 MiB of answers a time and reads none: the bus keeps 127 MiB of what one connection has sent. Not
 * faster, or the daemon refuses most of it, with small answers.
 */
static void ask_and_read_nothing(Harness *h, unsigned times) {
        g_autofree uint8_t *document = make_document(60 * 1024, 1);
        sd_bus *greedy[8];

        for (unsigned i = 0; i < 8; i++)
                greedy[i] = harness_connect(h, 0);
        g_free(store_license(greedy[0], document, 60 * 1024, "a{sv}", 1, "LicenseId", "s", "large"));
        for (unsigned n = 0; n < times * 400 && !has_left(h); n++) {
                for (unsigned i = 0; i < 8; i++)
                        send_get_license(greedy[i], "large");
                sleep_msec(10);
        }
}

static void test_what_a_client_does_not_read_is_not_sent(void **state) {
        Harness *h = *state;
        sd_bus *victim = harness_connect(h, 1);
        ask_and_read_nothing(h, 1);

        store_simple(victim, "one");
        /* Longer than it takes to find the bus congested, and to leave it. */
        sleep_msec(20 * 1000);
        store_simple(victim, "two");
        assert_false(has_left(h));
}

/*
 * Where the bus does not tell who reads, it takes no byte of the daemon's any more at last. The daemon must
 * find out, leave the bus so that its messages there go, and come back.
 */
static void test_daemon_comes_back_when_the_bus_takes_nothing(void **state) {
        Harness *h = *state;
        sd_bus *victim = harness_connect(h, 1);
        ask_and_read_nothing(h, 10);

        wait_for_service(h, victim);
        harness_expect_log(h, "leaving it, and coming back");
        store_simple(victim, "one");
        store_simple(victim, "two");
}

/* dbus-broker does not, and has enough to do. */
static void test_bus_that_does_not_tell_who_reads_is_asked_once(void **state) {
        Harness *h = *state;
        g_autofree uint8_t *document = make_document(60 * 1024, 1);
        sd_bus *bus = harness_connect(h, 0);
        unsigned n_questions = 0;

        monitor_new(h);
        g_free(store_license(bus, document, 60 * 1024, "a{sv}", 1, "LicenseId", "s", "large"));
        for (unsigned i = 0; i < 10; i++)
                g_hash_table_unref(assert_license(bus, "large", document, 60 * 1024));
        monitor_sync(h);
        for (unsigned i = 0; i < monitor_count(h); i++)
                n_questions += g_strcmp0(monitor_record(h, i)->member, "GetConnectionStats") == 0;
        assert_int_equal(n_questions, 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_bus_that_does_not_tell_who_reads_is_asked_once,
                        harness_setup_silent_bus, harness_teardown),
                cmocka_unit_test_setup_teardown(test_what_a_client_does_not_read_is_not_sent, harness_setup,
                        harness_teardown),
                cmocka_unit_test_setup_teardown(test_daemon_comes_back_when_the_bus_takes_nothing,
                        harness_setup_silent_bus, harness_teardown),
        };

        return cmocka_run_group_tests_name("congestion", tests, NULL, NULL);
}
