/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Users that abuse the service, on the system's own bus, with its limits. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "load-abuse.h"
#include "load-good.h"
#include "system.h"

#define GREEDY 16U
/* dbus-daemon keeps 127 MiB of what a service has sent: so many answers that nobody reads are more than that. */
#define REQUESTS 200U
#define LARGE (64 * 1024)
/* Longer than it takes to call a bus congested, and to leave it. */
#define LOAD_SEC 25
#define PROMISED_MSEC 5000
#define ABUSE_SEC 6
/*
 * Answers that users have together where the bus is dbus-broker (daemon/pace.c). Others than the abusers have few of
 * them.
 */
#define PACE_PER_SEC 6000.0

/*
 * A process that asks for a large license over 16 connections, and then sits there. Whether its requests are
 * taken, answered or refused, or its connections ended, is the bus's affair.
 */
static pid_t start_greedy(Harness *h) {
        pid_t pid = fork();
        sd_bus *greedy[GREEDY];

        assert_true(pid >= 0);
        if (pid > 0)
                return pid;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (unsigned i = 0; i < GREEDY; i++)
                greedy[i] = harness_connect(h, 0);
        for (unsigned n = 0; n < REQUESTS; n++) {
                /* Faster, and the daemon refuses most of them (QueuedReadsPerUser=), with small answers. */
                sleep_msec(5);
                for (unsigned i = 0; i < GREEDY; i++) {
                        sd_bus_message *message = new_call(greedy[i], ROOT, "LicenseStore.GetLicense");
                        uint64_t cookie;

                        if (sd_bus_message_append(message, "s", "large") < 0)
                                _exit(EXIT_FAILURE);
                        if (sd_bus_send(greedy[i], message, &cookie) >= 0)
                                (void)sd_bus_flush(greedy[i]);
                        sd_bus_message_unref(message);
                }
        }
        for (;;)
                pause();
}

/* Calls again and again; returns the longest that it took until one was answered. */
static unsigned longest_wait(sd_bus *bus, unsigned *ret_calls) {
        int64_t begin = g_get_monotonic_time(), answered = begin, now = begin;
        unsigned longest = 0;

        for (*ret_calls = 0; now - begin < LOAD_SEC * G_USEC_PER_SEC;) {
                sd_bus_message *message = new_call(bus, ROOT, "Manager.ListJobs");
                int r = sd_bus_call(bus, message, 1 * UINT64_C(1000000), NULL, NULL);

                sd_bus_message_unref(message);
                now = g_get_monotonic_time();
                longest = MAX(longest, (unsigned)((now - answered) / 1000));
                if (r >= 0) {
                        answered = now;
                        (*ret_calls)++;
                }
                sleep_msec(20);
        }
        return longest;
}

static void test_user_who_reads_nothing_does_not_keep_others_waiting(void **state) {
        Harness *h = *state;
        g_autofree uint8_t *document = make_document(LARGE, 1);
        sd_bus *victim = harness_connect(h, 1);
        unsigned waited, calls;
        int status;
        pid_t daemon = unit_pid();
        g_free(store_license(harness_connect(h, 0), document, LARGE, "a{sv}", 1, "LicenseId", "s", "large"));
        store_simple(victim, "before");

        pid_t greedy = start_greedy(h);
        waited = longest_wait(victim, &calls);
        print_message("another user waited at most %u ms, and got %u answers\n", waited, calls);
        assert_true(waited <= PROMISED_MSEC);
        assert_int_equal(waitpid(greedy, &status, WNOHANG), 0);
        /* dbus-daemon tells the service who does not read, as our policy lets it; dbus-broker sees to that itself. */
        g_autofree char *journal = unit_journal();
        assert_null(strstr(journal, "The bus has taken nothing"));

        /* Once they are gone, all is as before. */
        assert_int_equal(kill(greedy, SIGKILL), 0);
        assert_int_equal(waitpid(greedy, &status, 0), greedy);
        store_simple(victim, "after");
        g_hash_table_unref(assert_license(victim, "before", "the document of before\n", 23));
        g_hash_table_unref(assert_license(harness_connect(h, 0), "large", document, LARGE));
        assert_int_equal(unit_pid(), daemon);
        expect_unit_property("NRestarts", "0");
}

static unsigned count_connections(sd_bus *bus) {
        g_auto(GStrv) names = NULL;

        assert_true(sd_bus_list_names(bus, &names, NULL) >= 0);
        return g_strv_length(names);
}

/* What the bus still has of connections that have ended would start the service anew while it is stopped. */
static void wait_for_departures(sd_bus *bus, unsigned n_names) {
        for (unsigned i = 0; i < PATIENCE_SEC * 20 && count_connections(bus) > n_names; i++)
                sleep_msec(50);
        assert_in_range(count_connections(bus), 1, n_names);
}

static bool bus_is_broker(void) {
        g_autofree char *id =
                run_good(ARGUMENTS("systemctl", "show", "--value", "--property", "Id", "dbus.service"));

        return g_str_has_prefix(id, "dbus-broker");
}

/* All that tests/fault/load-abuse.c does, as often as issue 5 of the project has it. Times are printed. */
static void test_abuse_of_every_limit_leaves_the_others_served(void **state) {
        Harness *h = *state;
        const AbusePlan plan = { h->users, 2, 200, 20000, 0, ABUSE_KINDS - 1 };
        sd_bus *first = harness_connect(h, 0), *second = harness_connect(h, 1);
        pid_t daemon = unit_pid(), abuser;
        AbuseCounts *counts, ended;
        GoodUser good;
        unsigned n_names;
        double seconds;
        int64_t begin;

        abuse_prepare(h, first);
        abuse_prepare(h, second);
        good_init(&good, h, 2);
        n_names = count_connections(first);
        abuser = abuse_start(h, &plan, &counts);
        begin = g_get_monotonic_time();
        while (g_get_monotonic_time() - begin < ABUSE_SEC * G_USEC_PER_SEC) {
                good_behave(&good);
                sleep_msec(5);
        }
        abuse_stop(abuser, counts, &ended);
        seconds = (double)(g_get_monotonic_time() - begin) / G_USEC_PER_SEC;
        abuse_print(&ended, seconds);
        good_print(&good);
        if (bus_is_broker()) {
                double answers = (double)(ended.answered + ended.refused);

                /* What was in the pipes when it began, or never read, makes up for a part. */
                assert_true(answers <= PACE_PER_SEC * (seconds + 1));
                assert_true(answers >= PACE_PER_SEC * seconds / 4);
        }
        wait_for_departures(first, n_names);
        assert_int_equal(unit_pid(), daemon);
        expect_unit_property("NRestarts", "0");
        good_clear(&good);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, system_setup_running, system_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_user_who_reads_nothing_does_not_keep_others_waiting),
                TEST(test_abuse_of_every_limit_leaves_the_others_served),
        };

        return cmocka_run_group_tests_name("load", tests, NULL, NULL);
}
