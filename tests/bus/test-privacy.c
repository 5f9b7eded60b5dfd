/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What belongs to someone else answers exactly as what does not exist. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "monitor.h"
#include "spy.h"

static int setup(void **state) {
        harness_setup(state);
        monitor_new(*state);
        return 0;
}

static void test_match_rules_catch_nothing_of_a_foreign_job(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0), *spy = harness_connect(h, 1), *own = harness_connect(h, 0);
        const char *spy_name;
        match_everything(spy);
        match_everything(own);
        call_void(spy, ROOT, "Manager.Subscribe", "");

        g_free(store_license(bus, "x", 1, "a{sv}", 2, "LicenseId", "s", "secret", "AllowBackup", "b", 0));
        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_hash_table_unref(assert_job_succeeds(bus, job));
        g_auto(StuckJob) stuck = {};
        stuck_job_start(bus, &stuck);
        call_void(bus, stuck.path, "Job.Cancel", "");
        assert_job_fails(bus, stuck.path, "NS_E_DRM_OPERATION_CANCELED", NULL);
        call_void(bus, job, "Job.Release", "");

        assert_int_equal(count_received(spy), 0);
        assert_int_equal(count_received(own), 0);
        assert_true(sd_bus_get_unique_name(spy, &spy_name) >= 0);
        assert_int_equal(monitor_signals_to(h, spy_name), 0);
        /* No broadcast at all: no PropertiesChanged, no InterfacesAdded. */
        for (unsigned i = 0; i < monitor_count(h); i++) {
                const Record *record = monitor_record(h, i);
                if (record->type == SD_BUS_MESSAGE_SIGNAL && record->path &&
                        g_str_has_prefix(record->path, "/org/licensevault1"))
                        assert_non_null(record->destination);
        }
}

/* What Introspect says of an object, and NULL where it is an error. */
static char *introspect(sd_bus *bus, const char *path) {
        sd_bus_message *message = new_call(bus, path, "org.freedesktop.DBus.Introspectable.Introspect");
        sd_bus_message *reply = NULL;
        int r = sd_bus_call(bus, message, 0, NULL, &reply);

        sd_bus_message_unref(message);
        return r < 0 ? NULL : read_string(reply);
}

static void assert_no_jobs(sd_bus *bus, const char *job) {
        static const char *const parents[] = { "/", "/org/licensevault1", "/org/licensevault1/job" };
        _cleanup_message_ sd_bus_message *jobs = call(bus, ROOT, "Manager.ListJobs", "");
        g_autofree char *foreign = introspect(bus, job), *missing = introspect(bus, NO_JOB);

        assert_true(sd_bus_message_enter_container(jobs, 'a', "(osus)") == 0 ||
                sd_bus_message_at_end(jobs, false) > 0);
        assert_int_equal(!foreign, !missing);
        if (foreign)
                assert_string_equal(foreign, missing);
        for (unsigned i = 0; i < G_N_ELEMENTS(parents); i++) {
                g_autofree char *text = introspect(bus, parents[i]);
                if (text && strstr(text, strrchr(job, '/') + 1))
                        fail_msg("Introspect of %s shows a foreign job", parents[i]);
        }
}

static void test_foreign_job_does_not_exist(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0), *spy = harness_connect(h, 1);
        g_auto(StuckJob) stuck = {};
        stuck_job_start(bus, &stuck);

        assert_job_is_hidden(spy, stuck.path);
        assert_no_jobs(spy, stuck.path);
        call_void(spy, ROOT, "LicenseBackup.CancelLicenseBackup", "");
        sleep_msec(100);
        g_autofree char *running = job_property(bus, stuck.path, "State");
        assert_string_equal(running, "running");

        stuck_job_drain(bus, &stuck);
        g_hash_table_unref(assert_job_succeeds(bus, stuck.path));
        assert_job_is_hidden(spy, stuck.path);
        assert_no_jobs(spy, stuck.path);
}

static void test_foreign_busy_does_not_show(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0), *other = harness_connect(h, 1);
        g_auto(StuckJob) stuck = {};
        stuck_job_start(bus, &stuck);

        g_autofree char *job = call_string(other, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_hash_table_unref(assert_job_succeeds(other, job));
        stuck_job_drain(bus, &stuck);
}

static void test_root_sees_the_jobs_of_all(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        sd_bus *bus = harness_connect(h, 0), *root = harness_connect_uid(h, 0);
        call_void(root, ROOT, "Manager.Subscribe", "");

        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_hash_table_unref(assert_job_succeeds(root, job));
        assert_trace(h, job, root, "21( 16)? 27");
        _cleanup_message_ sd_bus_message *jobs = call(root, ROOT, "Manager.ListJobs", "");
        const char *path, *kind, *job_state;
        uint32_t owner;
        assert_true(sd_bus_message_enter_container(jobs, 'a', "(osus)") > 0);
        assert_true(sd_bus_message_read(jobs, "(osus)", &path, &kind, &owner, &job_state) > 0);
        assert_string_equal(path, job);
        assert_string_equal(kind, "backup");
        assert_int_equal(owner, h->users[0]);
        assert_string_equal(job_state, "done");
}

static void test_foreign_license_answers_as_a_missing_one(void **state) {
        static const char *const members[] = { "GetLicense", "OpenLicense", "DeleteLicense",
                "RevokeLicense" };
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0), *other = harness_connect(h, 1);
        store_simple(bus, "theirs");

        for (unsigned i = 0; i < G_N_ELEMENTS(members); i++) {
                g_autofree char *member = g_strconcat("LicenseStore.", members[i], NULL);
                g_autofree char *foreign = error_text(other, ROOT, member, "theirs", "s", "theirs");
                g_autofree char *missing = error_text(other, ROOT, member, "nobody", "s", "nobody");
                assert_string_equal(foreign, missing);
                assert_true(
                        g_str_has_prefix(foreign, "org.licensevault1.Error.NS_E_DRM_LICENSE_UNAVAILABLE: "));
        }
        g_autofree char *foreign = error_text(
                other, ROOT, "LicenseStore.ConsumeRight", "theirs", "sst", "theirs", "print", UINT64_C(1));
        g_autofree char *missing = error_text(
                other, ROOT, "LicenseStore.ConsumeRight", "nobody", "sst", "nobody", "print", UINT64_C(1));
        assert_string_equal(foreign, missing);
        g_hash_table_unref(assert_license(bus, "theirs", "the document of theirs\n", 23));
}

static void test_the_same_id_of_two_users_is_two_licenses(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0), *other = harness_connect(h, 1);
        g_free(store_license(bus, "mine", 4, "a{sv}", 1, "LicenseId", "s", "id"));
        g_free(store_license(other, "yours", 5, "a{sv}", 1, "LicenseId", "s", "id"));

        g_hash_table_unref(assert_license(bus, "id", "mine", 4));
        g_hash_table_unref(assert_license(other, "id", "yours", 5));
        call_void(other, ROOT, "LicenseStore.RevokeLicense", "s", "id");
        g_hash_table_unref(assert_license(bus, "id", "mine", 4));
}

static void test_enumeration_and_backup_hold_own_licenses_alone(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0), *other = harness_connect(h, 1);
        store_many(bus, "theirs", 20, 10);
        store_simple(other, "mine");

        _cleanup_message_ sd_bus_message *page =
                call(other, ROOT, "LicenseStore.EnumerateLicenses", "a{sv}su", 0, "", 0);
        const char *id;
        assert_true(sd_bus_message_enter_container(page, 'a', "(sa{sv})") > 0);
        assert_true(sd_bus_message_enter_container(page, 'r', "sa{sv}") > 0);
        assert_true(sd_bus_message_read(page, "s", &id) > 0);
        assert_string_equal(id, "mine");
        assert_true(sd_bus_message_skip(page, "a{sv}") > 0);
        assert_true(sd_bus_message_exit_container(page) > 0);
        assert_true(sd_bus_message_at_end(page, false) > 0);

        g_autofree char *job = call_string(other, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_autoptr(GHashTable) result = assert_job_succeeds(other, job);
        assert_property(result, "licenses", "1");
}

/* The worst one is another user, but any other connection may try. */
static sd_bus *connect_forger(Harness *h) {
        return harness_connect(h, h->n_users > 1 ? 1 : 0);
}

/* Sends a Done that looks like the service's but for its sender. */
static void forge_done(sd_bus *forger, const char *destination, const char *job) {
        sd_bus_message *message = NULL;

        assert_true(sd_bus_message_new_signal(forger, &message, job, "org.licensevault1.Job", "Done") >= 0);
        assert_true(sd_bus_message_append(message, "uissa{sv}", 27, 0, "", "", 1, "verified", "b", 1) >= 0);
        assert_true(sd_bus_message_set_destination(message, destination) >= 0);
        send_only(forger, message);
}

/* Tells somebody that another has left the bus, or lost a name, as the bus itself would. */
static void forge_departure(sd_bus *forger, const char *destination, const char *name, const char *old_owner) {
        sd_bus_message *message = NULL;

        assert_true(sd_bus_message_new_signal(forger, &message, "/org/freedesktop/DBus", "org.freedesktop.DBus",
                "NameOwnerChanged") >= 0);
        assert_true(sd_bus_message_append(message, "sss", name, old_owner, "") >= 0);
        assert_true(sd_bus_message_set_destination(message, destination) >= 0);
        send_only(forger, message);
}

/* Otherwise anyone could keep another user's app from hearing how its backup ended. */
static void test_forged_departure_takes_nobodys_signals(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0), *subscriber = harness_connect(h, 0), *forger = connect_forger(h);
        g_auto(StuckJob) stuck = {};
        g_auto(JobEnd) end = {}, seen = {};
        g_autofree char *owner = harness_owner(h);
        const char *name, *other_name;
        assert_true(sd_bus_get_unique_name(bus, &name) >= 0);
        assert_true(sd_bus_get_unique_name(subscriber, &other_name) >= 0);
        call_void(subscriber, ROOT, "Manager.Subscribe", "");
        stuck_job_start(bus, &stuck);

        forge_departure(forger, owner, name, name);
        forge_departure(forger, owner, other_name, other_name);
        /* Once this is answered, the service has had them. */
        call_void(forger, ROOT, "Manager.ListJobs", "");
        stuck_job_drain(bus, &stuck);
        assert_true(receive_done(bus, owner, stuck.path, PATIENCE_SEC * 1000, &end, NULL));
        assert_true(receive_done(subscriber, owner, stuck.path, PATIENCE_SEC * 1000, &seen, NULL));
}

static void test_forged_done_is_not_believed(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0), *forger = connect_forger(h);
        g_auto(StuckJob) stuck = {};
        g_auto(JobEnd) end = {};
        g_autofree char *owner = harness_owner(h);
        const char *name;
        unsigned forged;
        stuck_job_start(bus, &stuck);
        assert_true(sd_bus_get_unique_name(bus, &name) >= 0);

        forge_done(forger, name, stuck.path);
        assert_false(receive_done(bus, owner, stuck.path, 300, &end, &forged));
        assert_int_equal(forged, 1); /* it did arrive: the bus lets it through */
        stuck_job_drain(bus, &stuck);
        assert_true(receive_done(bus, owner, stuck.path, PATIENCE_SEC * 1000, &end, &forged));
        assert_int_equal(end.hresult, 0);
}

/* Starts licensevaultctl as a user, its stdout a pipe that is full at once. Returns its pid. */
static pid_t spawn_command_line(Harness *h, const char *program, uid_t uid, int *ret_fd) {
        int fds[2];
        pid_t pid;

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_true(fcntl(fds[1], F_SETPIPE_SZ, 4096) > 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                setenv("DBUS_SYSTEM_BUS_ADDRESS", h->address, 1);
                dup2(fds[1], STDOUT_FILENO);
                if (setuid(uid) < 0)
                        _exit(127);
                execl(program, program, "backup", "--output", "-", NULL);
                _exit(127);
        }
        close(fds[1]);
        *ret_fd = fds[0];
        return pid;
}

/* The job and the caller's unique name of the newest return that names a job. */
static const Record *wait_for_job(Harness *h) {
        for (unsigned n = 0; n < PATIENCE_SEC * 50; n++) {
                monitor_sync(h);
                for (unsigned i = monitor_count(h); i > 0; i--)
                        if (monitor_record(h, i - 1)->object)
                                return monitor_record(h, i - 1);
                sleep_msec(20);
        }
        fail_msg("The command line has started no job");
        return NULL;
}

static void test_forged_signals_do_not_end_the_command_line(void **state) {
        Harness *h = *state;
        const char *program = g_getenv("LICENSEVAULTCTL");
        char buffer[4096];
        int fd;

        if (!program || access(program, X_OK) < 0) {
                print_message("skipped: LICENSEVAULTCTL names no program\n");
                skip();
        }
        sd_bus *bus = harness_connect(h, 0), *forger = connect_forger(h);
        store_simple(bus, "one");
        pid_t pid = spawn_command_line(h, program, h->users[0], &fd);
        const Record *job = wait_for_job(h);
        job_wait_property(bus, job->object, "State", "running");

        forge_done(forger, job->destination, job->object);
        g_autofree char *owner = harness_owner(h);
        forge_departure(forger, job->destination, "org.licensevault1", owner);
        sleep_msec(300);
        assert_int_equal(kill(pid, 0), 0);
        assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
        while (read(fd, buffer, sizeof buffer) > 0)
                monitor_sync(h); /* it holds a copy of the pipe, and lets go */
        close(fd);
        assert_int_equal(harness_wait(h, pid), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_match_rules_catch_nothing_of_a_foreign_job),
                TEST(test_foreign_job_does_not_exist),
                TEST(test_foreign_busy_does_not_show),
                TEST(test_root_sees_the_jobs_of_all),
                TEST(test_foreign_license_answers_as_a_missing_one),
                TEST(test_the_same_id_of_two_users_is_two_licenses),
                TEST(test_enumeration_and_backup_hold_own_licenses_alone),
                TEST(test_forged_done_is_not_believed),
                TEST(test_forged_signals_do_not_end_the_command_line),
                TEST(test_forged_departure_takes_nobodys_signals),
        };

        return cmocka_run_group_tests_name("privacy", tests, NULL, NULL);
}
