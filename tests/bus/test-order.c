/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The order on the wire. "return 21 16 27" is the method return, BEGIN, percents, END. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "monitor.h"

/* Percents come as time allows; a fast job may have none. */
#define SUCCESS "return 21( 16)? 27"
#define OBSERVED "21( 16)? 27"
#define CANCELED " 27:NS_E_DRM_OPERATION_CANCELED"

static int setup(void **state) {
        harness_setup(state);
        monitor_new(*state);
        return 0;
}

static int setup_one_at_once(void **state) {
        harness_setup_bus(state);
        harness_set(*state, "Jobs", "RunningJobs", "1");
        harness_start(*state);
        monitor_new(*state);
        return 0;
}

static void test_backup_sends_return_begin_done_and_no_more(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        store_many(bus, "a", 50, 100);

        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_autoptr(GHashTable) result = assert_job_succeeds(bus, job);
        assert_property(result, "licenses", "50");
        assert_property(result, "restricted", "0");
        assert_property(result, "verified", "true");
        sleep_msec(200);
        assert_trace(h, job, bus, SUCCESS);
}

static void test_backup_of_nothing_sends_the_same(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);

        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_autoptr(GHashTable) result = assert_job_succeeds(bus, job);
        assert_property(result, "licenses", "0");
        assert_trace(h, job, bus, SUCCESS);
}

static void test_backup_of_many_shows_percents(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        store_many(bus, "a", 10000, 1000);

        int64_t begin = g_get_monotonic_time();
        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_autoptr(GHashTable) result = assert_job_succeeds(bus, job);
        int64_t seconds = (g_get_monotonic_time() - begin) / 1000000 + 1;
        assert_property(result, "licenses", "10000");
        assert_trace(h, job, bus, SUCCESS);
        /* Ten a second, and BEGIN. */
        assert_in_range(monitor_count_progress(h, job, bus), 1, 10 * (unsigned)seconds + 1);
}

static void test_restricted_licenses_are_reported_before_done(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        store_many(bus, "a", 3, 100);
        g_free(store_license(bus, "x", 1, "a{sv}", 3, "LicenseId", "s", "kept here", "KeyId", "s", "k",
                "AllowBackup", "b", 0));

        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_autoptr(GHashTable) result = assert_job_succeeds(bus, job);
        assert_property(result, "licenses", "3");
        assert_property(result, "restricted", "1");
        assert_trace(h, job, bus, "return 21( 16)? 31( 16)? 27");
}

static void test_restricted_signals_are_at_most_ten_of_a_hundred(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);

        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.StoreLicenses");
        assert_true(sd_bus_message_open_container(message, 'a', "(aya{sv})") >= 0);
        for (unsigned i = 0; i < 1000; i++) {
                g_autofree char *id = g_strdup_printf("r%04u", i);
                assert_true(sd_bus_message_append(message, "(aya{sv})", 1, 'x', 2, "LicenseId", "s", id,
                                    "AllowBackup", "b", 0) >= 0);
        }
        assert_true(sd_bus_message_close_container(message) >= 0);
        sd_bus_message_unref(send_call(bus, message));
        g_free(store_license(bus, "x", 1, "a{sv}", 2, "LicenseId", "s", "z", "AllowBackup", "b", 0));

        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_autoptr(GHashTable) result = assert_job_succeeds(bus, job);
        assert_property(result, "restricted", "1001");
        assert_trace(h, job, bus, "return 21(( 16)? 31){1,10}( 16)? 27");
}

static void test_existing_backup_is_refused_without_a_signal(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "one");
        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_hash_table_unref(assert_job_succeeds(bus, job));
        unsigned before = monitor_signals_to(h, NULL);

        call_error(bus, ROOT, "LicenseBackup.BackupLicenses", "NS_E_DRM_BACKUP_EXISTS", NULL, "u", 0);
        sleep_msec(100);
        assert_int_equal(monitor_signals_to(h, NULL), before);
}

static void test_overwrite_sends_the_same_as_the_first(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "one");

        for (unsigned i = 0; i < 2; i++) {
                g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 1);
                g_hash_table_unref(assert_job_succeeds(bus, job));
                assert_trace(h, job, bus, SUCCESS);
        }
}

static void test_busy_is_refused_and_the_running_job_goes_on(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0), *other = harness_connect(h, 0);
        g_auto(StuckJob) stuck = {};
        store_simple(bus, "one");
        stuck_job_start(bus, &stuck);
        unsigned before = monitor_signals_to(h, NULL);

        call_error(bus, ROOT, "LicenseBackup.BackupLicenses", "NS_E_DRM_BACKUPRESTORE_BUSY", NULL, "u", 0);
        call_error(other, ROOT, "LicenseBackup.BackupLicenses", "NS_E_DRM_BACKUPRESTORE_BUSY", NULL, "u", 1);
        assert_int_equal(monitor_signals_to(h, NULL), before);
        stuck_job_drain(bus, &stuck);
        g_hash_table_unref(assert_job_succeeds(bus, stuck.path));
        assert_trace(h, stuck.path, bus, SUCCESS);
}

static void test_canceled_while_running_ends_in_done(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_auto(StuckJob) stuck = {};
        store_simple(bus, "one");
        stuck_job_start(bus, &stuck);

        call_void(bus, ROOT, "LicenseBackup.CancelLicenseBackup", "");
        assert_job_fails(bus, stuck.path, "NS_E_DRM_OPERATION_CANCELED", NULL);
        assert_trace(h, stuck.path, bus, "return 21( 16)?" CANCELED);
        g_autofree char *job_state = job_property(bus, stuck.path, "State");
        assert_string_equal(job_state, "canceled");
}

/* A job that builds for a while, and so keeps the one place that RunningJobs=1 leaves. */
static char *start_long_job(sd_bus *bus) {
        store_many(bus, "long", 20000, 10);
        return call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
}

/* From the second job of a user on, no thread has to look whether it may be: there is none before its turn comes. */
static void make_known(sd_bus *bus) {
        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 1);

        g_hash_table_unref(assert_job_succeeds(bus, job));
}

static void canceled_in_the_queue(Harness *h, bool is_known) {
        sd_bus *first = harness_connect(h, 0), *second = harness_connect(h, 1);
        if (is_known)
                make_known(second);
        g_autofree char *running = start_long_job(first);

        g_autofree char *job = call_string(second, ROOT, "LicenseBackup.BackupLicenses", "u", 1);
        g_autofree char *queued = job_property(second, job, "State");
        assert_string_equal(queued, "queued");
        call_void(second, job, "Job.Cancel", "");
        assert_job_fails(second, job, "NS_E_DRM_OPERATION_CANCELED", NULL);
        assert_trace(h, job, second, "return 21" CANCELED);

        g_hash_table_unref(assert_job_succeeds(first, running));
        assert_trace(h, running, first, SUCCESS);
}

static void test_canceled_in_the_queue_sends_begin_and_done(void **state) {
        canceled_in_the_queue(*state, false);
}

static void test_known_one_canceled_in_the_queue_sends_the_same(void **state) {
        canceled_in_the_queue(*state, true);
}

static void queued_until_its_turn(Harness *h, bool is_known) {
        sd_bus *first = harness_connect(h, 0), *second = harness_connect(h, 1);
        if (is_known)
                make_known(second);
        g_autofree char *running = start_long_job(first);

        g_autofree char *job = call_string(second, ROOT, "LicenseBackup.BackupLicenses", "u", 1);
        assert_trace(h, job, second, "return");
        g_hash_table_unref(assert_job_succeeds(second, job));
        assert_trace(h, job, second, SUCCESS);
        g_autofree char *first_state = job_property(first, running, "State");
        assert_string_equal(first_state, "done");
}

static void test_queued_job_runs_when_its_turn_comes(void **state) {
        queued_until_its_turn(*state, false);
}

static void test_known_one_runs_when_its_turn_comes(void **state) {
        queued_until_its_turn(*state, true);
}

/* The cancel comes right behind the call, before or after the job has a thread. */
static void test_canceled_at_once_ends_in_done(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        store_many(bus, "a", 2000, 1000);
        make_known(bus);
        unsigned canceled = 0;

        for (unsigned i = 0; i < 20; i++) {
                sd_bus_message *message = new_call(bus, ROOT, "LicenseBackup.BackupLicenses");
                g_auto(JobEnd) end = {};
                const char *job;

                assert_true(sd_bus_message_append(message, "u", 1) >= 0);
                send_only(bus, message);
                call_void(bus, ROOT, "LicenseBackup.CancelLicenseBackup", "");
                _cleanup_message_ sd_bus_message *reply = receive_reply(bus, PATIENCE_SEC * 1000);
                assert_true(sd_bus_message_read(reply, "o", &job) > 0);
                job_wait(bus, job, &end);
                assert_trace(h, job, bus, end.hresult == 0 ? SUCCESS : "return 21( 16)?" CANCELED);
                canceled += end.hresult != 0;
        }
        assert_true(canceled > 0);
        make_known(bus);
}

/* Who waits for the reader of a pipe has no place in the queue, or four slow readers would stop all backups. */
static void test_job_that_waits_for_its_reader_holds_up_nobody(void **state) {
        Harness *h = *state;
        sd_bus *first = harness_connect(h, 0), *second = harness_connect(h, 1);
        g_auto(StuckJob) stuck = {};
        stuck_job_start(first, &stuck);

        g_autofree char *job = call_string(second, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_hash_table_unref(assert_job_succeeds(second, job));
        assert_trace(h, job, second, SUCCESS);

        stuck_job_drain(first, &stuck);
        g_hash_table_unref(assert_job_succeeds(first, stuck.path));
        assert_trace(h, stuck.path, first, SUCCESS);
}

static void test_cancel_after_the_end_changes_nothing(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_hash_table_unref(assert_job_succeeds(bus, job));

        call_void(bus, job, "Job.Cancel", "");
        call_void(bus, ROOT, "LicenseBackup.CancelLicenseBackup", "");
        g_hash_table_unref(assert_job_succeeds(bus, job));
        assert_trace(h, job, bus, SUCCESS);
        g_autofree char *job_state = job_property(bus, job, "State");
        assert_string_equal(job_state, "done");
}

static void test_subscriber_gets_the_same_after_the_return(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0), *subscriber = harness_connect(h, 0),
               *bystander = harness_connect(h, 0);
        call_void(subscriber, ROOT, "Manager.Subscribe", "");
        call_void(subscriber, ROOT, "Manager.Subscribe", "");
        store_simple(bus, "one");

        /* monitor_trace() refuses any signal before the return, whoever it goes to. */
        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_hash_table_unref(assert_job_succeeds(bystander, job));
        assert_trace(h, job, bus, SUCCESS);
        assert_trace(h, job, subscriber, OBSERVED);
        assert_trace(h, job, bystander, "");

        call_void(subscriber, ROOT, "Manager.Unsubscribe", "");
        g_autofree char *second = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 1);
        g_hash_table_unref(assert_job_succeeds(bus, second));
        assert_trace(h, second, bus, SUCCESS);
        assert_trace(h, second, subscriber, "");
}

static void test_requester_that_subscribed_gets_each_signal_once(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        call_void(bus, ROOT, "Manager.Subscribe", "");

        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_hash_table_unref(assert_job_succeeds(bus, job));
        assert_trace(h, job, bus, SUCCESS);
}

static void test_many_jobs_one_after_another_keep_the_order(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0), *subscriber = harness_connect(h, 0);
        call_void(subscriber, ROOT, "Manager.Subscribe", "");
        store_simple(bus, "one");

        for (unsigned i = 0; i < 30; i++) {
                g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 1);
                g_hash_table_unref(assert_job_succeeds(bus, job));
                assert_trace(h, job, bus, SUCCESS);
                assert_trace(h, job, subscriber, OBSERVED);
        }
}

/* The uid's slot is free again, sooner or later, and a backup works. */
static void assert_backup_works(Harness *h) {
        sd_bus *bus = harness_connect(h, 0);

        for (unsigned i = 0; i < PATIENCE_SEC * 20; i++) {
                sd_bus_message *message = new_call(bus, ROOT, "LicenseBackup.BackupLicenses"), *reply = NULL;
                const char *job;

                assert_true(sd_bus_message_append(message, "u", 1) >= 0);
                int r = sd_bus_call(bus, message, 0, NULL, &reply);
                sd_bus_message_unref(message);
                if (r >= 0) {
                        assert_true(sd_bus_message_read(reply, "o", &job) > 0);
                        g_hash_table_unref(assert_job_succeeds(bus, job));
                        sd_bus_message_unref(reply);
                        return;
                }
                sleep_msec(50);
        }
        fail_msg("No backup is possible any more");
}

static void test_caller_leaves_without_reading_the_return(void **state) {
        Harness *h = *state;

        for (unsigned i = 0; i < 10; i++) {
                sd_bus *bus = harness_connect(h, 0);
                sd_bus_message *message = new_call(bus, ROOT, "LicenseBackup.BackupLicenses");

                assert_true(sd_bus_message_append(message, "u", 1) >= 0);
                send_only(bus, message);
                harness_disconnect(h, bus);
        }
        assert_backup_works(h);
}

static void test_caller_leaves_after_the_return_and_the_job_ends_well(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0), *other = harness_connect(h, 0);
        store_many(other, "a", 500, 1000);

        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        harness_disconnect(h, bus);
        g_autoptr(GHashTable) result = assert_job_succeeds(other, job);
        assert_property(result, "licenses", "500");
        assert_backup_works(h);
}

static void test_caller_leaves_in_the_middle_and_the_job_ends_well(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0), *other = harness_connect(h, 0);
        g_auto(StuckJob) stuck = {};
        store_simple(other, "one");
        stuck_job_start(bus, &stuck);
        harness_disconnect(h, bus);

        size_t size = stuck_job_drain(other, &stuck);
        g_autoptr(GHashTable) result = assert_job_succeeds(other, stuck.path);
        g_autofree char *text = g_strdup_printf("%zu", size);
        assert_property(result, "bytes", text);
        assert_backup_works(h);
}

static void test_caller_leaves_the_queue_and_the_job_ends_well(void **state) {
        Harness *h = *state;
        sd_bus *first = harness_connect(h, 0), *second = harness_connect(h, 1),
               *other = harness_connect(h, 1);
        g_auto(StuckJob) stuck = {};
        stuck_job_start(first, &stuck);

        g_autofree char *job = call_string(second, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        harness_disconnect(h, second);
        stuck_job_drain(first, &stuck);
        g_hash_table_unref(assert_job_succeeds(other, job));
}

static void test_caller_that_waits_and_leaves_does_no_harm(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_auto(StuckJob) stuck = {};
        stuck_job_start(bus, &stuck);

        for (unsigned i = 0; i < 5; i++) {
                sd_bus *waiter = harness_connect(h, 0);
                send_only(waiter, new_call(waiter, stuck.path, "Job.Wait"));
                harness_disconnect(h, waiter);
        }
        stuck_job_drain(bus, &stuck);
        g_hash_table_unref(assert_job_succeeds(bus, stuck.path));
        assert_trace(h, stuck.path, bus, SUCCESS);
}

static void test_stopped_daemon_sends_done_before_its_name_goes(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_auto(StuckJob) stuck = {};
        g_autofree char *owner = harness_owner(h);
        store_simple(bus, "one");
        stuck_job_start(bus, &stuck);

        harness_stop(h);
        g_auto(JobEnd) end = {};
        assert_true(receive_done(bus, owner, stuck.path, PATIENCE_SEC * 1000, &end, NULL));
        assert_true(end.hresult < 0);
        assert_sentence(end.message, NULL);
        assert_trace(h, stuck.path, bus, "return 21( 16)? 27:NS_E_[A-Z_]+");
        assert_true(monitor_find_name_gone(h) > monitor_find_done(h, stuck.path));
}

static void test_stopped_daemon_ends_queued_jobs_and_waits(void **state) {
        Harness *h = *state;
        sd_bus *first = harness_connect(h, 0), *second = harness_connect(h, 1);
        g_autofree char *running = start_long_job(first);
        g_autofree char *job = call_string(second, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        send_only(second, new_call(second, job, "Job.Wait"));

        harness_stop(h);
        assert_trace(h, running, first, "return 21( 16)* 27:NS_E_[A-Z_]+");
        assert_trace(h, job, second, "return 21 27:NS_E_[A-Z_]+");
        assert_true(monitor_find_name_gone(h) > monitor_find_done(h, job));
}

#define ORDER_TEST(name) cmocka_unit_test_setup_teardown(name, setup, harness_teardown)
#define QUEUE_TEST(name) cmocka_unit_test_setup_teardown(name, setup_one_at_once, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                ORDER_TEST(test_backup_sends_return_begin_done_and_no_more),
                ORDER_TEST(test_backup_of_nothing_sends_the_same),
                ORDER_TEST(test_backup_of_many_shows_percents),
                ORDER_TEST(test_restricted_licenses_are_reported_before_done),
                ORDER_TEST(test_restricted_signals_are_at_most_ten_of_a_hundred),
                ORDER_TEST(test_existing_backup_is_refused_without_a_signal),
                ORDER_TEST(test_overwrite_sends_the_same_as_the_first),
                ORDER_TEST(test_busy_is_refused_and_the_running_job_goes_on),
                ORDER_TEST(test_canceled_while_running_ends_in_done),
                QUEUE_TEST(test_canceled_in_the_queue_sends_begin_and_done),
                QUEUE_TEST(test_known_one_canceled_in_the_queue_sends_the_same),
                QUEUE_TEST(test_queued_job_runs_when_its_turn_comes),
                QUEUE_TEST(test_known_one_runs_when_its_turn_comes),
                ORDER_TEST(test_canceled_at_once_ends_in_done),
                QUEUE_TEST(test_job_that_waits_for_its_reader_holds_up_nobody),
                ORDER_TEST(test_cancel_after_the_end_changes_nothing),
                ORDER_TEST(test_subscriber_gets_the_same_after_the_return),
                ORDER_TEST(test_requester_that_subscribed_gets_each_signal_once),
                ORDER_TEST(test_many_jobs_one_after_another_keep_the_order),
                ORDER_TEST(test_caller_leaves_without_reading_the_return),
                ORDER_TEST(test_caller_leaves_after_the_return_and_the_job_ends_well),
                ORDER_TEST(test_caller_leaves_in_the_middle_and_the_job_ends_well),
                QUEUE_TEST(test_caller_leaves_the_queue_and_the_job_ends_well),
                ORDER_TEST(test_caller_that_waits_and_leaves_does_no_harm),
                ORDER_TEST(test_stopped_daemon_sends_done_before_its_name_goes),
                QUEUE_TEST(test_stopped_daemon_ends_queued_jobs_and_waits),
        };

        return cmocka_run_group_tests_name("order", tests, NULL, NULL);
}
