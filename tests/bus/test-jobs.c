/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Job objects: what they say, how long they stay, and who can wait for them. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "client.h"

static char *back_up(sd_bus *bus) {
        char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 1);

        g_hash_table_unref(assert_job_succeeds(bus, job));
        return job;
}

static unsigned count_jobs(sd_bus *bus) {
        _cleanup_message_ sd_bus_message *jobs = call(bus, ROOT, "Manager.ListJobs", "");
        unsigned n = 0;

        assert_true(sd_bus_message_enter_container(jobs, 'a', "(osus)") >= 0);
        while (sd_bus_message_skip(jobs, "(osus)") > 0)
                n++;
        return n;
}

static void assert_gone(sd_bus *bus, const char *job) {
        call_error(bus, job, "Job.Cancel", "UnknownObject", NULL, "");
}

static void assert_job_property(sd_bus *bus, const char *job, const char *name, const char *value) {
        g_autofree char *found = job_property(bus, job, name);

        assert_string_equal(found, value);
}

static void test_properties_say_how_a_job_stands(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *owner = g_strdup_printf("%u", (unsigned)h->users[0]);
        g_auto(StuckJob) stuck = {};
        store_many(bus, "a", 3, 100);
        stuck_job_start(bus, &stuck);

        assert_true(g_regex_match_simple("^/org/licensevault1/job/[0-9a-f]{16}$", stuck.path, 0, 0));
        assert_job_property(bus, stuck.path, "Kind", "backup");
        assert_job_property(bus, stuck.path, "Owner", owner);
        assert_job_property(bus, stuck.path, "State", "running");
        assert_job_property(bus, stuck.path, "Total", "3");
        assert_job_property(bus, stuck.path, "Cancelable", "true");
        assert_job_property(bus, stuck.path, "HResult", "0");
        assert_job_property(bus, stuck.path, "Error", "");
        assert_job_property(bus, stuck.path, "Message", "");
        stuck_job_drain(bus, &stuck);
        assert_job_property(bus, stuck.path, "State", "done");
        assert_job_property(bus, stuck.path, "Completed", "3");
        assert_job_property(bus, stuck.path, "Total", "3");
        assert_job_property(bus, stuck.path, "Cancelable", "false");
        assert_job_property(bus, stuck.path, "HResult", "0");
}

#define PROPERTIES "org.freedesktop.DBus.Properties"

/* A call of the standard's own interface, which has no name of ours before it. */
static sd_bus_message *new_properties_call(sd_bus *bus, const char *job, const char *member) {
        sd_bus_message *message = NULL;

        assert_true(sd_bus_message_new_method_call(bus, &message, "org.licensevault1", job, PROPERTIES, member) >= 0);
        return message;
}

static void test_all_properties_at_once_are_those_one_by_one(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        static const char *const names[] = { "Kind", "Owner", "State", "Completed", "Total", "Cancelable", "HResult",
                "Error", "Message" };
        g_autofree char *job = back_up(bus);
        const char *const interfaces[] = { "org.licensevault1.Job", "" };

        for (unsigned i = 0; i < G_N_ELEMENTS(interfaces); i++) {
                sd_bus_message *message = new_properties_call(bus, job, "GetAll");
                assert_true(sd_bus_message_append(message, "s", interfaces[i]) >= 0);
                _cleanup_message_ sd_bus_message *reply = send_call(bus, message);
                g_autoptr(GHashTable) all = read_properties(reply);
                for (unsigned k = 0; k < G_N_ELEMENTS(names); k++)
                        assert_job_property(bus, job, names[k], g_hash_table_lookup(all, names[k]));
                assert_int_equal(g_hash_table_size(all), G_N_ELEMENTS(names));
                assert_property(all, "State", "done");
        }
}

static void test_properties_that_are_not_there_are_refused(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *job = back_up(bus);
        sd_bus_message *message;

        message = new_properties_call(bus, job, "Get");
        assert_true(sd_bus_message_append(message, "ss", "org.licensevault1.Job", "Colour") >= 0);
        send_call_error(bus, message, "InvalidArgs", "*no property 'Colour'*");
        message = new_properties_call(bus, job, "Get");
        assert_true(sd_bus_message_append(message, "ss", "org.licensevault1.Manager", "Version") >= 0);
        send_call_error(bus, message, "InvalidArgs", "*no interface*");
        message = new_properties_call(bus, job, "GetAll");
        assert_true(sd_bus_message_append(message, "s", "org.licensevault1.Manager") >= 0);
        send_call_error(bus, message, "InvalidArgs", "*no interface*");
        message = new_properties_call(bus, job, "Set");
        assert_true(sd_bus_message_append(message, "ssv", "org.licensevault1.Job", "State", "s", "queued") >= 0);
        send_call_error(bus, message, "AccessDenied", "*read-only*");
        assert_job_property(bus, job, "State", "done");
}

static void test_properties_of_a_canceled_job(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        g_auto(StuckJob) stuck = {};
        stuck_job_start(bus, &stuck);
        call_void(bus, stuck.path, "Job.Cancel", "");
        assert_job_fails(bus, stuck.path, "NS_E_DRM_OPERATION_CANCELED", NULL);

        assert_job_property(bus, stuck.path, "State", "canceled");
        assert_job_property(bus, stuck.path, "HResult", "-1072879768");
        assert_job_property(bus, stuck.path, "Error", "org.licensevault1.Error.NS_E_DRM_OPERATION_CANCELED");
        g_autofree char *message = job_property(bus, stuck.path, "Message");
        assert_sentence(message, NULL);
}

static void test_failed_job_says_failed(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        g_auto(StuckJob) stuck = {};
        stuck_job_start(bus, &stuck);
        close(stuck.fds[0]);
        stuck.fds[0] = -1;
        assert_job_fails(bus, stuck.path, "NS_E_BACKUP_RESTORE_FAILURE", NULL);

        assert_job_property(bus, stuck.path, "State", "failed");
        assert_job_property(bus, stuck.path, "HResult", "-1072879827");
}

static void test_wait_answers_before_and_after_the_end(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0), *early = harness_connect(h, 0), *late = harness_connect(h, 0);
        g_auto(StuckJob) stuck = {};
        g_auto(JobEnd) end = {}, later = {};
        store_simple(bus, "one");
        stuck_job_start(bus, &stuck);

        send_only(early, new_call(early, stuck.path, "Job.Wait"));
        assert_null(receive_reply(early, 100));
        stuck_job_drain(bus, &stuck);
        _cleanup_message_ sd_bus_message *reply = receive_reply(early, PATIENCE_SEC * 1000);
        assert_non_null(reply);
        read_job_end(reply, &end);
        job_wait(late, stuck.path, &later);
        assert_int_equal(end.hresult, 0);
        assert_property(end.result, "licenses", "1");
        assert_property(later.result, "licenses", "1");
        assert_string_equal(
                g_hash_table_lookup(end.result, "bytes"), g_hash_table_lookup(later.result, "bytes"));
}

static void test_waiters_of_a_job_are_at_most_64(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        g_auto(StuckJob) stuck = {};
        stuck_job_start(bus, &stuck);

        for (unsigned i = 0; i < 64; i++) {
                sd_bus *waiter = harness_connect(*state, 0);
                send_only(waiter, new_call(waiter, stuck.path, "Job.Wait"));
                /* The call has been taken once a later one is answered. */
                call_void(waiter, ROOT, "Manager.ListJobs", "");
        }
        call_error(bus, stuck.path, "Job.Wait", "LimitsExceeded", NULL, "");
        stuck_job_drain(bus, &stuck);
        g_hash_table_unref(assert_job_succeeds(bus, stuck.path));
}

/* Who is gone keeps no place. */
static void test_waiter_that_leaves_makes_room_for_another(void **state) {
        sd_bus *bus = harness_connect(*state, 0), *waiter = harness_connect(*state, 0);
        g_auto(StuckJob) stuck = {};
        stuck_job_start(bus, &stuck);

        for (unsigned i = 0; i < 64; i++)
                send_only(waiter, new_call(waiter, stuck.path, "Job.Wait"));
        call_void(waiter, ROOT, "Manager.ListJobs", "");
        call_error(bus, stuck.path, "Job.Wait", "LimitsExceeded", NULL, "");
        harness_disconnect(*state, waiter);

        /* The bus tells the service that it is gone, in its own time. */
        for (unsigned i = 0;; i++) {
                sd_bus *next = harness_connect(*state, 0);
                send_only(next, new_call(next, stuck.path, "Job.Wait"));
                _cleanup_message_ sd_bus_message *reply = receive_reply(next, 100);
                if (!reply)
                        break;
                assert_true(sd_bus_message_is_method_error(reply, NULL) && i < 100);
        }
        stuck_job_drain(bus, &stuck);
        g_hash_table_unref(assert_job_succeeds(bus, stuck.path));
}

static int setup_short_memory(void **state) {
        harness_setup_bus(state);
        harness_set(*state, "Jobs", "ResultSeconds", "1");
        harness_set(*state, "Jobs", "ResultsPerUser", "3");
        harness_start(*state);
        return 0;
}

static void test_results_are_kept_for_their_time(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        g_autofree char *job = back_up(bus);

        assert_int_equal(count_jobs(bus), 1);
        sleep_msec(2500);
        assert_gone(bus, job);
        assert_int_equal(count_jobs(bus), 0);
}

static void test_oldest_result_goes_where_there_are_too_many(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        g_autoptr(GPtrArray) jobs = g_ptr_array_new_with_free_func(g_free);
        int64_t begin = g_get_monotonic_time();

        for (unsigned i = 0; i < 5; i++)
                g_ptr_array_add(jobs, back_up(bus));
        /* On a slow machine they go for their age. */
        if (g_get_monotonic_time() - begin < 500000) {
                assert_int_equal(count_jobs(bus), 3);
                assert_job_property(bus, jobs->pdata[4], "State", "done");
                assert_job_property(bus, jobs->pdata[2], "State", "done");
        }
        assert_gone(bus, jobs->pdata[1]);
        assert_gone(bus, jobs->pdata[0]);
}

static void test_another_connection_finds_the_result(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *job = back_up(bus);
        harness_disconnect(h, bus);

        sd_bus *other = harness_connect(h, 0);
        g_hash_table_unref(assert_job_succeeds(other, job));
        assert_job_property(other, job, "State", "done");
        _cleanup_message_ sd_bus_message *jobs = call(other, ROOT, "Manager.ListJobs", "");
        const char *path, *kind, *job_state;
        uint32_t owner;
        assert_true(sd_bus_message_enter_container(jobs, 'a', "(osus)") > 0);
        assert_true(sd_bus_message_read(jobs, "(osus)", &path, &kind, &owner, &job_state) > 0);
        assert_string_equal(path, job);
        assert_string_equal(kind, "backup");
        assert_int_equal(owner, h->users[0]);
        assert_string_equal(job_state, "done");
        assert_true(sd_bus_message_at_end(jobs, false) > 0);
}

static void test_released_job_is_gone(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        g_autofree char *job = back_up(bus);
        g_auto(StuckJob) stuck = {};

        call_void(bus, job, "Job.Release", "");
        assert_gone(bus, job);
        assert_int_equal(count_jobs(bus), 0);

        stuck_job_start(bus, &stuck);
        call_void(bus, stuck.path, "Job.Release", "");
        assert_job_property(bus, stuck.path, "State", "running");
        assert_int_equal(count_jobs(bus), 1);
        char buffer[65536];
        while (read(stuck.fds[0], buffer, sizeof buffer) > 0)
                ;
        for (unsigned i = 0; count_jobs(bus) > 0; i++) {
                assert_true(i < PATIENCE_SEC * 100);
                sleep_msec(10);
        }
        assert_gone(bus, stuck.path);
}

static void test_jobs_that_never_were_are_unknown(void **state) {
        static const char *const paths[] = { "/org/licensevault1/job/0123456789abcdef",
                "/org/licensevault1/job/0", "/org/licensevault1/job/not_hex_at_all__",
                "/org/licensevault1/job/0123456789abcdef/x", "/org/licensevault1/job/0123456789abcdef00" };
        sd_bus *bus = harness_connect(*state, 0);

        for (unsigned i = 0; i < G_N_ELEMENTS(paths); i++)
                assert_gone(bus, paths[i]);
}

/* Reads a page of ListRestricted, checks that it holds "r%04u" from first on, and returns how many. */
static unsigned read_restricted(
        sd_bus *bus, const char *job, unsigned offset, unsigned max, const char *title) {
        _cleanup_message_ sd_bus_message *page = call(bus, job, "Job.ListRestricted", "uu", offset, max);
        const char *id, *key_id, *found;
        unsigned n = 0;

        assert_true(sd_bus_message_enter_container(page, 'a', "(sss)") >= 0);
        while (sd_bus_message_read(page, "(sss)", &id, &key_id, &found) > 0) {
                g_autofree char *expected = g_strdup_printf("r%04u", offset + n);
                assert_string_equal(id, expected);
                assert_string_equal(key_id, "key");
                assert_string_equal(found, title);
                n++;
        }
        return n;
}

static void store_restricted(sd_bus *bus, unsigned count, const char *title) {
        for (unsigned begin = 0; begin < count; begin += 1000) {
                sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.StoreLicenses");
                assert_true(sd_bus_message_open_container(message, 'a', "(aya{sv})") >= 0);
                for (unsigned i = begin; i < MIN(begin + 1000, count); i++) {
                        g_autofree char *id = g_strdup_printf("r%04u", i);
                        assert_true(sd_bus_message_append(message, "(aya{sv})", 1, 'x', 4, "LicenseId", "s",
                                            id, "KeyId", "s", "key", "Title", "s", title, "AllowBackup", "b",
                                            0) >= 0);
                }
                assert_true(sd_bus_message_close_container(message) >= 0);
                sd_bus_message_unref(send_call(bus, message));
        }
}

/* They lie on the disk of the store, beyond what the user may have there. */
static void test_of_results_with_long_lists_the_oldest_goes(void **state) {
        g_autofree char *title = g_strnfill(1024, 't');
        sd_bus *bus = harness_connect(*state, 0);
        store_restricted(bus, 7000, title);
        g_autofree char *first = back_up(bus), *second = back_up(bus);

        assert_int_equal(read_restricted(bus, first, 6999, 1, title), 1);
        g_autofree char *third = back_up(bus);
        assert_gone(bus, first);
        assert_int_equal(read_restricted(bus, second, 6999, 1, title), 1);
        assert_int_equal(read_restricted(bus, third, 6999, 1, title), 1);
        assert_int_equal(count_jobs(bus), 2);
}

static void test_restricted_licenses_are_listed_in_pages(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        store_restricted(bus, 1050, "T");
        store_simple(bus, "may be backed up");
        g_autofree char *job = back_up(bus);
        unsigned total = 0;

        assert_int_equal(read_restricted(bus, job, 0, 10, "T"), 10);
        assert_int_equal(read_restricted(bus, job, 10, 1, "T"), 1);
        assert_int_equal(read_restricted(bus, job, 1050, 0, "T"), 0);
        assert_int_equal(read_restricted(bus, job, UINT32_MAX, UINT32_MAX, "T"), 0);
        for (unsigned n; (n = read_restricted(bus, job, total, 0, "T")) > 0; total += n)
                assert_in_range(n, 1, 1000);
        assert_int_equal(total, 1050);
}

static void test_pages_of_long_titles_stay_under_64_kib(void **state) {
        g_autofree char *title = g_strnfill(1024, 't');
        sd_bus *bus = harness_connect(*state, 0);
        store_restricted(bus, 200, title);
        g_autofree char *job = back_up(bus);
        unsigned total = 0;

        for (unsigned n; (n = read_restricted(bus, job, total, 0, title)) > 0; total += n)
                assert_in_range(n, 1, 63);
        assert_int_equal(total, 200);
}

static void test_machine_takes_a_limited_number_of_jobs(void **state) {
        Harness *h = *state;
        harness_need_users(h, 3);
        g_auto(StuckJob) first = {}, second = {};
        harness_set(h, "Jobs", "JobsOnMachine", "2");
        harness_start(h);
        stuck_job_start(harness_connect(h, 0), &first);
        stuck_job_start(harness_connect(h, 1), &second);
        sd_bus *third = harness_connect(h, 2);

        call_error(third, ROOT, "LicenseBackup.BackupLicenses", "LimitsExceeded", "*JobsOnMachine*", "u", 0);
        stuck_job_drain(harness_connect(h, 0), &first);
        g_free(back_up(third));
        call_void(harness_connect(h, 1), second.path, "Job.Cancel", "");
        assert_job_fails(harness_connect(h, 1), second.path, "NS_E_DRM_OPERATION_CANCELED", NULL);
}

/* "It replies as fast as an empty method does, also while other jobs run." */
static void test_start_of_a_job_does_not_wait_for_a_running_one(void **state) {
        Harness *h = *state;
        sd_bus *first = harness_connect(h, 0), *second = harness_connect(h, 1);
        g_auto(StuckJob) stuck = {};
        store_many(second, "a", 5000, 4000);
        stuck_job_start(first, &stuck);

        int64_t begin = g_get_monotonic_time();
        g_autofree char *job = call_string(second, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        int64_t usec = g_get_monotonic_time() - begin;
        if (!sanitized() && usec > 100000)
                fail_msg("BackupLicenses took %" PRId64 " us to return", usec);
        assert_job_property(second, job, "Kind", "backup");
        g_hash_table_unref(assert_job_succeeds(second, job));
        stuck_job_drain(first, &stuck);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)
#define MEMORY_TEST(name) cmocka_unit_test_setup_teardown(name, setup_short_memory, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_properties_say_how_a_job_stands),
                TEST(test_all_properties_at_once_are_those_one_by_one),
                TEST(test_properties_that_are_not_there_are_refused),
                TEST(test_properties_of_a_canceled_job),
                TEST(test_failed_job_says_failed),
                TEST(test_wait_answers_before_and_after_the_end),
                TEST(test_waiters_of_a_job_are_at_most_64),
                TEST(test_waiter_that_leaves_makes_room_for_another),
                MEMORY_TEST(test_results_are_kept_for_their_time),
                MEMORY_TEST(test_oldest_result_goes_where_there_are_too_many),
                TEST(test_another_connection_finds_the_result),
                TEST(test_released_job_is_gone),
                TEST(test_jobs_that_never_were_are_unknown),
                TEST(test_of_results_with_long_lists_the_oldest_goes),
                TEST(test_restricted_licenses_are_listed_in_pages),
                TEST(test_pages_of_long_titles_stay_under_64_kib),
                cmocka_unit_test_setup_teardown(
                        test_machine_takes_a_limited_number_of_jobs, harness_setup_bus, harness_teardown),
                TEST(test_start_of_a_job_does_not_wait_for_a_running_one),
        };

        return cmocka_run_group_tests_name("jobs", tests, NULL, NULL);
}
