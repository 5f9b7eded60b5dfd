/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Restores that end before their time: canceled, stalled, left, stopped, killed. All or nothing, and others go on. */
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <sqlite3.h>

#include "monitor.h"
#include "restores.h"

#define CANCELED "NS_E_DRM_OPERATION_CANCELED"
/* So many that a restore stages in several transactions. */
#define MANY 3000

static int setup(void **state) {
        harness_setup(state);
        monitor_new(*state);
        return 0;
}

static int setup_impatient(void **state) {
        harness_setup_bus(state);
        harness_set(*state, "Jobs", "StallSeconds", "1");
        harness_start(*state);
        return 0;
}

static int setup_one_at_once(void **state) {
        harness_setup_bus(state);
        harness_set(*state, "Jobs", "RunningJobs", "1");
        harness_start(*state);
        monitor_new(*state);
        return 0;
}

/* A backup of many licenses, in memory and as backup.tar, and a store that has none of them. */
static char *make_backup(Harness *h, sd_bus *bus, size_t *ret_size) {
        g_autofree char *path = harness_path(h, "backup.tar");

        store_many(bus, "a", MANY, 100);
        save_backup(h, bus, "backup.tar");
        harness_new_machine(h);
        store_simple(bus, "mine");
        return read_file(path, ret_size);
}

static int64_t count_rows(Harness *h, const char *sql) {
        g_autofree char *path = harness_copy_store(h);
        sqlite3_stmt *statement = NULL;
        sqlite3 *db = NULL;
        int64_t n;

        assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
        n = sqlite3_column_int64(statement, 0);
        sqlite3_finalize(statement);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
        return n;
}

#define STAGED "SELECT (SELECT count(*) FROM staged_ids) + (SELECT count(*) FROM staged_licenses)"

/* Waits until something is staged, or all of it is gone again. */
static void wait_staged(Harness *h, bool there) {
        for (unsigned i = 0; (count_rows(h, STAGED) > 0) != there; i++) {
                if (i > PATIENCE_SEC * 50)
                        fail_msg("%s", there ? "Nothing is staged" : "What was staged does not go");
                sleep_msec(20);
        }
}

/* Nothing stays of a restore that came to nothing: also no document that nobody has. */
static void assert_swept(Harness *h, int64_t licenses) {
        wait_staged(h, false);
        assert_int_equal(count_rows(h, "SELECT count(*) FROM documents"), licenses);
        assert_int_equal(count_rows(h, "SELECT count(*) FROM licenses"), licenses);
}

/* A restore of which more than half is read and staged, and which waits for the rest. */
static void start_half(Harness *h, sd_bus *bus, const char *backup, size_t size, FedJob *ret) {
        fed_job_start(bus, ret);
        feed(ret, backup, size / 3 * 2);
        wait_staged(h, true);
}

/* What it had found before it ended came to nothing. */
static void assert_no_conflicts(sd_bus *bus, const char *job) {
        _cleanup_message_ sd_bus_message *page = call(bus, job, "Job.ListRestricted", "uu", 0, 0);

        assert_true(sd_bus_message_enter_container(page, 'a', "(sss)") >= 0);
        assert_int_equal(sd_bus_message_at_end(page, false), 1);
}

static void test_canceled_restore_changes_nothing(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        size_t size;
        g_autofree char *backup = make_backup(h, bus, &size), *before = snapshot_licenses(bus);

        for (unsigned i = 0; i < 2; i++) {
                g_auto(FedJob) fed = {};
                start_half(h, bus, backup, size, &fed);
                /* What is staged is nobody's yet. */
                assert_snapshot(bus, before);
                /* A restore is no backup. */
                call_void(bus, ROOT, "LicenseBackup.CancelLicenseBackup", "");
                g_autofree char *running = job_property(bus, fed.path, "State");
                assert_string_equal(running, "running");
                if (i == 0)
                        call_void(bus, fed.path, "Job.Cancel", "");
                else
                        call_void(bus, ROOT, CANCEL_RESTORE, "");
                assert_job_fails(bus, fed.path, CANCELED, "*No license was changed.");
                assert_no_conflicts(bus, fed.path);
                assert_trace(h, fed.path, bus, "return 21 28 29( 16)? 27:" CANCELED);
                g_autofree char *job_state = job_property(bus, fed.path, "State");
                assert_string_equal(job_state, "canceled");
                assert_snapshot(bus, before);
        }
        assert_swept(h, 1);
        assert_restores(h, bus, "backup.tar", "3000 0 0 0 0");
        assert_swept(h, MANY + 1);
}

/* Sooner or later; whatever it says, it is so. */
static void test_cancel_at_any_time_is_all_or_nothing(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        unsigned canceled = 0, done = 0;
        size_t size;
        g_free(make_backup(h, bus, &size));
        g_autofree char *before = snapshot_licenses(bus), *after = NULL;

        for (unsigned i = 0; i < 60 && done == 0; i++) {
                g_auto(JobEnd) end = {};
                g_autofree char *job = start_restore(h, bus, "backup.tar", own_flags());
                sleep_msec(i * i / 8);
                call_void(bus, i % 2 ? ROOT : job, i % 2 ? CANCEL_RESTORE : "Job.Cancel", "");
                job_wait(bus, job, &end);
                if (end.hresult == 0) {
                        assert_property(end.result, "restored", "3000");
                        done++;
                        break;
                }
                assert_string_equal(end.error, "org.licensevault1.Error." CANCELED);
                assert_snapshot(bus, before);
                assert_trace(h, job, bus, "return 21( 28 29( 16)?)? 27:" CANCELED);
                canceled++;
        }
        assert_true(canceled > 0);
        if (done == 0)
                assert_restores(h, bus, "backup.tar", "3000 0 0 0 0");
        after = snapshot_licenses(bus);
        assert_true(g_str_has_prefix(after, "a00000") && strstr(after, "a02999") && strstr(after, "mine"));
}

static void test_cancel_after_the_end_changes_nothing(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "one");
        save_backup(h, bus, "backup.tar");
        delete_license(bus, "one");
        g_autofree char *job = start_restore(h, bus, "backup.tar", own_flags());
        assert_restored(bus, job, "1 0 0 0 0", "");

        call_void(bus, job, "Job.Cancel", "");
        call_void(bus, ROOT, CANCEL_RESTORE, "");
        assert_restored(bus, job, "1 0 0 0 0", "");
        assert_trace(h, job, bus, "return 21 28 29( 16)? 27");
        g_hash_table_unref(assert_license(bus, "one", "the document of one\n", 20));
}

static void test_cancel_of_a_restore_leaves_backups_and_others_alone(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_auto(StuckJob) stuck = {};
        store_simple(bus, "one");
        stuck_job_start(bus, &stuck);

        call_void(bus, ROOT, CANCEL_RESTORE, "");
        if (h->n_users > 1) {
                sd_bus *other = harness_connect(h, 1);
                call_void(other, ROOT, CANCEL_RESTORE, "");
                call_void(other, ROOT, "LicenseBackup.CancelLicenseBackup", "");
        }
        g_autofree char *job_state = job_property(bus, stuck.path, "State");
        assert_string_equal(job_state, "running");
        stuck_job_drain(bus, &stuck);
        g_hash_table_unref(assert_job_succeeds(bus, stuck.path));
}

static void test_canceled_in_the_queue_sends_begin_and_done(void **state) {
        Harness *h = *state;
        sd_bus *first = harness_connect(h, 0), *second = harness_connect(h, 1);
        store_simple(second, "one");
        save_backup(h, second, "backup.tar");
        store_many(first, "long", 20000, 10);
        g_autofree char *running = call_string(first, ROOT, "LicenseBackup.BackupLicenses", "u", 0);

        g_autofree char *job = start_restore(h, second, "backup.tar", own_flags());
        g_autofree char *queued = job_property(second, job, "State");
        assert_string_equal(queued, "queued");
        call_void(second, ROOT, CANCEL_RESTORE, "");
        assert_job_fails(second, job, CANCELED, NULL);
        assert_trace(h, job, second, "return 21 27:" CANCELED);
        g_hash_table_unref(assert_job_succeeds(first, running));
}

/* Who waits for a descriptor has no place in the queue, or four slow writers would stop all jobs. */
static void test_restore_that_waits_for_its_writer_holds_up_nobody(void **state) {
        Harness *h = *state;
        sd_bus *first = harness_connect(h, 0), *second = harness_connect(h, 1);
        g_autofree char *path = harness_path(h, "backup.tar");
        g_auto(FedJob) fed = {};
        size_t size;
        store_simple(first, "one");
        save_backup(h, first, "backup.tar");
        g_autofree char *backup = read_file(path, &size);
        fed_job_start(first, &fed);
        feed(&fed, backup, size / 2);

        g_autofree char *job = call_string(second, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_hash_table_unref(assert_job_succeeds(second, job));
        g_autofree char *restore = start_restore(h, second, "backup.tar", AGREE);
        assert_restored(second, restore, "1 0 0 0 0", "");
        feed(&fed, backup + size / 2, size - size / 2);
        feed_end(&fed);
        assert_restored(first, fed.path, "0 1 0 0 0", "");
}

static void test_pipe_that_stops_ends_its_restore(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_auto(FedJob) fed = {};
        size_t size;
        g_autofree char *backup = make_backup(h, bus, &size), *before = snapshot_licenses(bus);

        int64_t begin = g_get_monotonic_time();
        fed_job_start(bus, &fed);
        feed(&fed, backup, size / 3 * 2);
        assert_job_fails(
                bus, fed.path, "NS_E_BACKUP_RESTORE_FAILURE", "*nothing came for 1 s*No license was changed.");
        assert_true(g_get_monotonic_time() - begin >= G_USEC_PER_SEC);
        assert_snapshot(bus, before);
        assert_swept(h, 1);
        /* The other end goes in time, too. */
        assert_restores(h, bus, "backup.tar", "3000 0 0 0 0");
}

static void test_pipe_that_never_begins_ends_its_restore(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);

        for (unsigned i = 0; i < 2; i++) {
                g_auto(FedJob) fed = {};
                int64_t begin = g_get_monotonic_time();
                if (i == 0)
                        fed_job_start(bus, &fed);
                else
                        fed_verify_start(bus, &fed);
                assert_job_fails(bus, fed.path, "NS_E_BACKUP_RESTORE_FAILURE", "*nothing came for 1 s*");
                assert_true(g_get_monotonic_time() - begin >= G_USEC_PER_SEC);
        }
}

/* Such as one behind a program that asks for a passphrase first. */
static void test_writer_that_begins_late_is_waited_for(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *path = harness_path(h, "backup.tar");
        size_t size;
        store_simple(bus, "one");
        save_backup(h, bus, "backup.tar");
        g_autofree char *backup = read_file(path, &size);

        for (unsigned i = 0; i < 2; i++) {
                g_auto(FedJob) fed = {};
                if (i == 0)
                        fed_job_start(bus, &fed);
                else
                        fed_verify_start(bus, &fed);
                sleep_msec(600);
                g_autofree char *running = job_property(bus, fed.path, "State");
                assert_string_equal(running, "running");
                feed(&fed, backup, size);
                feed_end(&fed);
                g_hash_table_unref(assert_job_succeeds(bus, fed.path));
        }
}

static void test_writer_that_goes_on_in_time_is_read_to_its_end(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_auto(FedJob) fed = {};
        size_t size;
        g_autofree char *backup = make_backup(h, bus, &size);
        fed_job_start(bus, &fed);

        /* Longer than StallSeconds in all, never so long at a time. */
        for (unsigned i = 0; i < 4; i++) {
                feed(&fed, backup + i * 1000, 1000);
                sleep_msec(400);
        }
        feed(&fed, backup + 4000, size - 4000);
        feed_end(&fed);
        assert_restored(bus, fed.path, "3000 0 0 0 0", "");
}

/* A large document over a slow line is no silence: what counts is that bytes come. */
static void test_slow_document_is_read_to_its_end(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree uint8_t *document = make_document(64 * 1024, 7);
        g_autofree char *path = harness_path(h, "backup.tar");
        g_auto(FedJob) fed = {};
        size_t size, half;

        g_free(store_license(bus, document, 64 * 1024, "a{sv}", 1, "LicenseId", "s", "large"));
        save_backup(h, bus, "backup.tar");
        g_autofree char *backup = read_file(path, &size);
        half = size / 2;
        fed_job_start(bus, &fed);
        feed(&fed, backup, half);

        /* StallSeconds, and the grace that a job has beyond it, several times over, and no license is done. */
        for (unsigned i = 0; i < 16; i++) {
                sleep_msec(500);
                feed(&fed, backup + half + i * 100, 100);
        }
        feed(&fed, backup + half + 1600, size - half - 1600);
        feed_end(&fed);
        assert_restored(bus, fed.path, "0 1 0 0 0", "");
}

static void test_writer_that_goes_away_leaves_a_corrupt_backup(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        int fds[2];
        size_t size;
        g_autofree char *backup = make_backup(h, bus, &size), *before = snapshot_licenses(bus);

        for (unsigned i = 0; i < 3; i++) {
                g_auto(FedJob) fed = {};
                fed_job_start(bus, &fed);
                feed(&fed, backup, i * (size / 3));
                feed_end(&fed);
                assert_job_fails(bus, fed.path, "NS_E_DRM_BACKUP_CORRUPT", "*No license was changed.");
                assert_snapshot(bus, before);
        }

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        g_autofree char *job = call_string(bus, ROOT, RESTORE_FILE, "hua{sv}", fds[0], own_flags(), 0);
        close(fds[0]);
        FedJob socket_fed = { .fd = fds[1] };
        feed(&socket_fed, backup, size / 2);
        feed_end(&socket_fed);
        assert_job_fails(bus, job, "NS_E_DRM_BACKUP_CORRUPT", "*cut off*");
        assert_snapshot(bus, before);
        assert_swept(h, 1);
}

static void test_caller_leaves_and_the_restore_ends_well(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0), *other = harness_connect(h, 0);
        g_auto(FedJob) fed = {};
        size_t size;
        g_autofree char *backup = make_backup(h, other, &size);
        start_half(h, bus, backup, size, &fed);

        harness_disconnect(h, bus);
        feed(&fed, backup + size / 3 * 2, size - size / 3 * 2);
        feed_end(&fed);
        assert_restored(other, fed.path, "3000 0 0 0 0", "");
}

static void test_caller_leaves_without_reading_the_return(void **state) {
        Harness *h = *state;
        sd_bus *other = harness_connect(h, 0);
        store_simple(other, "one");
        save_backup(h, other, "backup.tar");
        delete_license(other, "one");

        for (unsigned i = 0; i < 5; i++) {
                sd_bus *bus = harness_connect(h, 0);
                sd_bus_message *message = new_call(bus, ROOT, RESTORE_FILE);
                int fd = open_in(h, "backup.tar", O_RDONLY);
                assert_true(sd_bus_message_append(message, "hua{sv}", fd, own_flags(), 0) >= 0);
                close(fd);
                send_only(bus, message);
                harness_disconnect(h, bus);
        }
        /* The user's place is free again, sooner or later. */
        for (unsigned i = 0;; i++) {
                sd_bus_message *message = new_call(other, ROOT, RESTORE_FILE);
                _cleanup_message_ sd_bus_message *reply = NULL;
                int fd = open_in(h, "backup.tar", O_RDONLY);
                const char *job;
                assert_true(sd_bus_message_append(message, "hua{sv}", fd, own_flags(), 0) >= 0);
                close(fd);
                int r = sd_bus_call(other, message, 0, NULL, &reply);
                sd_bus_message_unref(message);
                if (r >= 0) {
                        assert_true(sd_bus_message_read(reply, "o", &job) > 0);
                        g_hash_table_unref(assert_job_succeeds(other, job));
                        break;
                }
                assert_true(i < PATIENCE_SEC * 20);
                sleep_msec(50);
        }
        g_hash_table_unref(assert_license(other, "one", "the document of one\n", 20));
}

static void test_others_are_served_while_a_restore_stands_still(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0), *other = harness_connect(h, 1), *same = harness_connect(h, 0);
        g_auto(FedJob) fed = {};
        size_t size;
        g_autofree char *backup = make_backup(h, bus, &size);
        start_half(h, bus, backup, size, &fed);

        /* All that anyone may do with licenses, also the user who restores. */
        for (unsigned i = 0; i < 20; i++) {
                g_autofree char *id = g_strdup_printf("id%u", i);
                store_simple(other, id);
                store_simple(same, id);
                g_autofree char *document = g_strdup_printf("the document of %s\n", id);
                g_hash_table_unref(assert_license(other, id, document, strlen(document)));
                g_hash_table_unref(assert_license(same, id, document, strlen(document)));
        }
        delete_license(other, "id3");
        assert_no_license(same, "a00001");
        g_autofree char *running = job_property(same, fed.path, "State");
        assert_string_equal(running, "running");

        /* What is stored meanwhile under an id of the backup takes part in the merge. */
        g_free(store_license(same, "mine", 4, "a{sv}", 1, "LicenseId", "s", "a00001"));
        g_free(store_license(same, "x", 1, "a{sv}", 1, "LicenseId", "s", "a00002"));
        call_void(same, ROOT, "LicenseStore.RevokeLicense", "s", "a00002");
        g_free(store_license(same, "x", 1, "a{sv}", 1, "LicenseId", "s", "a00003"));
        delete_license(same, "a00003");
        feed(&fed, backup + size / 3 * 2, size - size / 3 * 2);
        feed_end(&fed);
        assert_restored(bus, fed.path, "2998 0 0 1 1", "");
        g_hash_table_unref(assert_license(same, "a00001", "mine", 4));
        assert_no_license(same, "a00002");
        g_autofree uint8_t *third = make_document(100, 3);
        g_hash_table_unref(assert_license(same, "a00003", third, 100));
}

static void test_stopped_daemon_ends_a_restore_in_done(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_auto(FedJob) fed = {};
        g_auto(JobEnd) end = {};
        size_t size;
        g_autofree char *backup = make_backup(h, bus, &size), *before = snapshot_licenses(bus);
        g_autofree char *owner = harness_owner(h);
        start_half(h, bus, backup, size, &fed);

        harness_stop(h);
        assert_true(receive_done(bus, owner, fed.path, PATIENCE_SEC * 1000, &end, NULL));
        assert_true(end.hresult < 0);
        assert_sentence(end.message, "*Start the restore again*no license was changed.");
        assert_trace(h, fed.path, bus, "return 21 28 29( 16)? 27:NS_E_[A-Z_]+");
        assert_true(monitor_find_name_gone(h) > monitor_find_done(h, fed.path));

        harness_start(h);
        assert_snapshot(bus, before);
        assert_swept(h, 1);
        assert_restores(h, bus, "backup.tar", "3000 0 0 0 0");
}

static void test_killed_daemon_leaves_the_licenses_as_they_were(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_auto(FedJob) fed = {};
        size_t size;
        g_autofree char *backup = make_backup(h, bus, &size), *before = snapshot_licenses(bus);
        start_half(h, bus, backup, size, &fed);

        harness_kill(h);
        assert_true(count_rows(h, STAGED) > 0);
        harness_start(h);
        assert_snapshot(bus, before);
        /* It goes by itself. */
        assert_swept(h, 1);
        assert_snapshot(bus, before);
        assert_restores(h, bus, "backup.tar", "3000 0 0 0 0");
}

/* With a file, at whatever point that hits. */
static void test_daemon_killed_at_any_time_restores_all_or_nothing(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        unsigned whole = 0;
        size_t size;
        g_free(make_backup(h, bus, &size));
        g_autofree char *before = snapshot_licenses(bus), *after = NULL;

        for (unsigned i = 0; i < 8 && whole == 0; i++) {
                g_free(start_restore(h, bus, "backup.tar", own_flags()));
                sleep_msec(i * 12);
                harness_kill(h);
                harness_start(h);
                after = snapshot_licenses(bus);
                if (strcmp(after, before) != 0) {
                        whole++;
                        break;
                }
                g_clear_pointer(&after, g_free);
        }
        if (whole == 0)
                assert_restores(h, bus, "backup.tar", "3000 0 0 0 0");
        else
                assert_restores(h, bus, "backup.tar", "0 3000 0 0 0");
        assert_swept(h, MANY + 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, harness_teardown)
#define STALL_TEST(name) cmocka_unit_test_setup_teardown(name, setup_impatient, harness_teardown)
#define QUEUE_TEST(name) cmocka_unit_test_setup_teardown(name, setup_one_at_once, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_canceled_restore_changes_nothing),
                TEST(test_cancel_at_any_time_is_all_or_nothing),
                TEST(test_cancel_after_the_end_changes_nothing),
                TEST(test_cancel_of_a_restore_leaves_backups_and_others_alone),
                QUEUE_TEST(test_canceled_in_the_queue_sends_begin_and_done),
                QUEUE_TEST(test_restore_that_waits_for_its_writer_holds_up_nobody),
                STALL_TEST(test_pipe_that_stops_ends_its_restore),
                STALL_TEST(test_pipe_that_never_begins_ends_its_restore),
                TEST(test_writer_that_begins_late_is_waited_for),
                STALL_TEST(test_writer_that_goes_on_in_time_is_read_to_its_end),
                STALL_TEST(test_slow_document_is_read_to_its_end),
                TEST(test_writer_that_goes_away_leaves_a_corrupt_backup),
                TEST(test_caller_leaves_and_the_restore_ends_well),
                TEST(test_caller_leaves_without_reading_the_return),
                TEST(test_others_are_served_while_a_restore_stands_still),
                TEST(test_stopped_daemon_ends_a_restore_in_done),
                TEST(test_killed_daemon_leaves_the_licenses_as_they_were),
                TEST(test_daemon_killed_at_any_time_restores_all_or_nothing),
        };

        return cmocka_run_group_tests_name("restore-ends", tests, NULL, NULL);
}
