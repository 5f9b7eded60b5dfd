/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "harness.h"

/* What clients may send that no honest one would: each case was a way to hurt others once. */

static void test_descriptors_that_no_method_asks_for_are_not_let_in(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        g_auto(StuckJob) stuck = {};
        sd_bus_error error = SD_BUS_ERROR_NULL;
        stuck_job_start(bus, &stuck);

        /* Refused by the bus's policy, before the daemon holds them: a call that waits would keep them open. */
        sd_bus_message *message = new_call(bus, stuck.path, "Job.Wait");
        assert_true(sd_bus_message_append(message, "h", stuck.fds[0]) >= 0);
        assert_true(sd_bus_call(bus, message, 0, &error, NULL) < 0);
        assert_string_equal(error.name, SD_BUS_ERROR_ACCESS_DENIED);
        sd_bus_error_free(&error);
        sd_bus_message_unref(message);

        message = new_call(bus, ROOT, "LicenseBackup.BackupLicensesToFile");
        assert_true(sd_bus_message_append(message, "hh", stuck.fds[0], stuck.fds[0]) >= 0);
        assert_true(sd_bus_call(bus, message, 0, &error, NULL) < 0);
        assert_string_equal(error.name, SD_BUS_ERROR_ACCESS_DENIED);
        sd_bus_error_free(&error);
        sd_bus_message_unref(message);
        stuck_job_drain(bus, &stuck);
}

static void test_counter_given_twice_is_refused(void **state) {
        sd_bus *bus = harness_connect(*state, 0);

        store_license_error(bus, "InvalidArgs", "*twice*", "x", 1, "a{sv}", 2, "LicenseId", "s", "id",
                "Counters", "a{st}", 2, "print", UINT64_C(1), "print", UINT64_C(2));
}

/* JSON may hold what D-Bus does not: an answer made of it would be one that cannot be sent. */
static void test_characters_that_the_bus_refuses_do_not_get_into_answers(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        g_autofree char *bad = make_lcp("bad\xEF\xBF\xBEid", NULL, NULL);
        g_autofree char *good = make_lcp("good-id", NULL, NULL);

        store_license_error(bus, "NS_E_DRM_INVALID_LICENSE", NULL, bad, strlen(bad), "a{sv}", 0);
        g_free(store_license(bus, good, strlen(good), "a{sv}", 0));
        sd_bus_message_unref(call(bus, ROOT, "LicenseStore.EnumerateLicenses", "a{sv}su", 0, "", 0));
}

static void test_answer_of_long_ids_is_limited(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.StoreLicenses");
        sd_bus_error error = SD_BUS_ERROR_NULL;
        char id[1001] = "";
        memset(id, 'x', sizeof id - 1);

        assert_true(sd_bus_message_open_container(message, 'a', "(aya{sv})") >= 0);
        for (unsigned i = 0; i < 100; i++) {
                char number[4];
                snprintf(number, sizeof number, "%03u", i);
                memcpy(id, number, 3);
                assert_true(sd_bus_message_append(message, "(aya{sv})", 1, 'd', 1, "LicenseId", "s", id) >= 0);
        }
        assert_true(sd_bus_message_close_container(message) >= 0);
        assert_true(sd_bus_call(bus, message, 0, &error, NULL) < 0);
        assert_string_equal(error.name, SD_BUS_ERROR_LIMITS_EXCEEDED);
        assert_non_null(strstr(error.message, "several calls"));
        call_error(bus, ROOT, "LicenseStore.GetLicense", "NS_E_DRM_LICENSE_UNAVAILABLE", NULL, "s", id);
        sd_bus_error_free(&error);
        sd_bus_message_unref(message);
}

static int setup_one_result(void **state) {
        harness_setup_bus(state);
        harness_set(*state, "Jobs", "RunningJobs", "1");
        harness_set(*state, "Jobs", "ResultsPerUser", "1");
        harness_start(*state);
        return 0;
}

/*
 * The queued job's end pushes out the user's older result, while all jobs are being canceled. Which of
 * the two comes first then is chance: several rounds.
 */
static void test_stop_with_a_queued_job_and_a_full_set_of_results(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        store_many(harness_connect(h, 0), "long", 20000, 10);

        for (unsigned round = 0; round < 6; round++) {
                sd_bus *first = harness_connect(h, 0), *second = harness_connect(h, 1);
                g_autofree char *job = call_string(second, ROOT, "LicenseBackup.BackupLicenses", "u", 1);
                g_hash_table_unref(assert_job_succeeds(second, job));

                g_free(call_string(first, ROOT, "LicenseBackup.BackupLicenses", "u", 1));
                g_free(call_string(second, ROOT, "LicenseBackup.BackupLicenses", "u", 1));
                harness_stop(h);
                harness_start(h);
        }
}

static void test_drafts_of_a_killed_daemon_are_gone_after_its_start(void **state) {
        Harness *h = *state;
        g_autofree char *draft = harness_path(h, "state/.licenses.tar.01234567.partial");
        g_autofree char *list = harness_path(h, "state/.restricted.01234567.partial");
        write_file(draft, "half a backup", 13);
        write_file(list, "half a list", 11);
        harness_start(h);

        assert_int_equal(access(draft, F_OK), -1);
        assert_int_equal(access(list, F_OK), -1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_descriptors_that_no_method_asks_for_are_not_let_in),
                TEST(test_counter_given_twice_is_refused),
                TEST(test_characters_that_the_bus_refuses_do_not_get_into_answers),
                TEST(test_answer_of_long_ids_is_limited),
                cmocka_unit_test_setup_teardown(test_stop_with_a_queued_job_and_a_full_set_of_results,
                        setup_one_result,
                        harness_teardown),
                cmocka_unit_test_setup_teardown(test_drafts_of_a_killed_daemon_are_gone_after_its_start,
                        harness_setup_bus, harness_teardown),
        };

        return cmocka_run_group_tests_name("hostile", tests, NULL, NULL);
}
