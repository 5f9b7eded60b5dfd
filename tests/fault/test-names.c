/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A directory of users that is slow, or down: who is in it waits, or is refused, and nobody else notices. */
#include <signal.h>

#include "memory.h"
#include "monitor.h"

static void send_list(sd_bus *bus) {
        send_only(bus, new_call(bus, ROOT, "Manager.ListJobs"));
}

static void assert_answered(sd_bus *bus) {
        _cleanup_message_ sd_bus_message *reply = receive_reply(bus, PATIENCE_SEC * 1000);

        assert_non_null(reply);
        assert_false(sd_bus_message_is_method_error(reply, NULL) > 0);
}

/* More connections than there ever were threads for look-ups, had each one of its own. */
static void test_user_whose_look_up_hangs_keeps_no_other_from_being_looked_up(void **state) {
        Harness *h = *state;
        sd_bus *slow[48];

        harness_need_users(h, 2);
        meddling->names_wait_uid = h->users[1];
        meddling->names_wait = 1;
        for (unsigned i = 0; i < G_N_ELEMENTS(slow); i++) {
                slow[i] = harness_connect(h, 1);
                send_list(slow[i]);
                wait_for_bus(slow[i]);
        }
        call_void(harness_connect(h, 0), ROOT, "Manager.ListJobs", "");
        assert_int_equal(meddling->names_waited, 1);

        meddling->names_wait = 0;
        for (unsigned i = 0; i < G_N_ELEMENTS(slow); i++)
                assert_answered(slow[i]);
        assert_int_equal(meddling->names_waited, 1);
}

/* After 25 s. The next call waits for the look-up that still goes on. */
static void test_call_that_waits_long_for_a_look_up_is_refused(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);

        meddling->names_wait = 1;
        call_error(bus, ROOT, "Manager.ListJobs", "AccessDenied", "Who is calling cannot be found out. Try again.",
                "");
        send_list(bus);
        wait_for_bus(bus);
        assert_int_equal(meddling->names_waited, 1);

        meddling->names_wait = 0;
        assert_answered(bus);
}

/*
 * Who has no name is looked up again after five seconds. Where the directory is down then, nothing that it calls is
 * done under no name, and it still hears of its user's jobs.
 */
static void test_directory_that_goes_down_takes_no_subscription(void **state) {
        Harness *h = *state;
        g_autofree char *job = NULL;
        sd_bus *listener, *starter;
        g_auto(JobEnd) end = {};

        if (h->users[0] == 0) {
                print_message("skipped: root always has a name\n");
                skip();
        }
        monitor_new(h);
        meddling->names_lack = 1;
        listener = harness_connect(h, 0);
        call_void(listener, ROOT, "Manager.Subscribe", "");
        g_usleep(5100 * 1000);

        meddling->names_fail = 1;
        for (unsigned i = 0; i < 2; i++)
                call_error(listener, ROOT, "Manager.ListJobs", "AccessDenied", "Who is calling cannot be found out.*",
                        "");
        meddling->names_fail = 0;
        starter = harness_connect(h, 0);
        store_simple(starter, "a");
        job = call_string(starter, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        job_wait(starter, job, &end);
        assert_trace(h, job, listener, "21( 16)? 27");
        call_void(listener, ROOT, "Manager.ListJobs", "");
}

/* More than the bus takes at once. */
static void test_each_of_many_calls_that_are_refused_has_its_answer(void **state) {
        Harness *h = *state;
        sd_bus *busy[5];

        meddling->names_wait = 1;
        for (unsigned i = 0; i < G_N_ELEMENTS(busy); i++) {
                busy[i] = harness_connect(h, 0);
                for (unsigned n = 0; n < 100; n++)
                        send_list(busy[i]);
                wait_for_bus(busy[i]);
        }
        meddling->names_fail = 1;
        meddling->names_wait = 0;
        for (unsigned i = 0; i < G_N_ELEMENTS(busy); i++)
                for (unsigned n = 0; n < 100; n++) {
                        _cleanup_message_ sd_bus_message *reply = receive_reply(busy[i], PATIENCE_SEC * 1000);

                        assert_non_null(reply);
                        assert_true(sd_bus_message_is_method_error(reply, SD_BUS_ERROR_ACCESS_DENIED) > 0);
                }
        meddling->names_fail = 0;
        for (unsigned i = 0; i < G_N_ELEMENTS(busy); i++)
                call_void(busy[i], ROOT, "Manager.ListJobs", "");
}

/* What hangs is left behind, and who waits for it is told. */
static void test_stop_waits_for_no_directory(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        int64_t begin;

        meddling->names_wait = 1;
        send_list(bus);
        for (unsigned i = 0; i < PATIENCE_SEC * 100 && meddling->names_waited == 0; i++)
                sleep_msec(10);
        begin = g_get_monotonic_time();
        assert_int_equal(kill(h->daemon, SIGTERM), 0);
        _cleanup_message_ sd_bus_message *reply = receive_reply(bus, PATIENCE_SEC * 1000);
        assert_non_null(reply);
        assert_true(sd_bus_message_is_method_error(reply, "org.licensevault1.Error.NS_E_DRM_OPERATION_CANCELED") > 0);
        assert_int_equal(harness_wait(h, h->daemon), 0);
        /* Not the 10 s of who has to be left while it works. */
        assert_in_range(g_get_monotonic_time() - begin, 0, 8 * G_USEC_PER_SEC);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, memory_setup, memory_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_user_whose_look_up_hangs_keeps_no_other_from_being_looked_up),
                TEST(test_call_that_waits_long_for_a_look_up_is_refused),
                TEST(test_each_of_many_calls_that_are_refused_has_its_answer),
                TEST(test_stop_waits_for_no_directory),
                TEST(test_directory_that_goes_down_takes_no_subscription),
        };

        return cmocka_run_group_tests_name("names", tests, NULL, NULL);
}
