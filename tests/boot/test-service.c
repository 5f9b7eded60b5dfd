/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The unit under a real systemd: its start, its end, and what happens to licenses and backups in between. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "system.h"

#define BACKUP "LicenseBackup.BackupLicenses"

static char *back_up(sd_bus *bus, unsigned flags) {
        return call_string(bus, ROOT, BACKUP, "u", flags);
}

static void assert_log_in_status(const char *text) {
        g_autofree char *status = run_good(ARGUMENTS("systemctl", "status", "--no-pager", "--full", UNIT));

        if (!strstr(status, text))
                fail_msg("`systemctl status` has no '%s':\n%s", text, status);
}

/* All of the service's files but those of the database, which come and go as it runs. */
static char *list_state(void) {
        return run_good(ARGUMENTS("find", STATE, "-mindepth", "1", "!", "-name", "licenses.db-*", "-printf",
                "%P %M %u\n"));
}

static void test_first_call_starts_the_service(void **state) {
        expect_unit_property("ActiveState", "inactive");

        g_autofree char *jobs = run_good(ARGUMENTS("busctl", "call", "org.licensevault1", "/org/licensevault1",
                "org.licensevault1.Manager", "ListJobs"));
        assert_string_equal(jobs, "a(osus) 0");
        expect_unit_property("ActiveState", "active");
        expect_unit_property("SubState", "running");
        assert_log_in_status("licenses, 0 jobs running");
}

static void test_first_call_of_a_user_starts_the_service(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);

        store_simple(bus, "one");
        expect_unit_property("ActiveState", "active");
}

static void test_unit_runs_as_written(void **state) {
        struct stat st;
        pid_t pid = unit_pid();
        g_autofree char *path = g_strdup_printf("/proc/%d/status", (int)pid), *status = read_file(path, NULL);
        g_autofree char *out = NULL, *err = NULL;

        /* What the kernel says, not what the unit asks for: a line that systemd passes over has no effect. */
        assert_non_null(strstr(status, "\nCapEff:\t0000000000000000\n"));
        assert_non_null(strstr(status, "\nCapBnd:\t0000000000000000\n"));
        assert_non_null(strstr(status, "\nNoNewPrivs:\t1\n"));
        assert_non_null(strstr(status, "\nSeccomp:\t2\n"));
        assert_null(strstr(status, "\nUid:\t0\t"));
        assert_int_equal(stat(STATE, &st), 0);
        assert_int_equal(st.st_mode, S_IFDIR | 0700);
        /* The administrator's, not the service's to write. */
        assert_int_equal(stat("/etc/licensevault", &st), 0);
        assert_int_equal(st.st_uid, 0);

        if (run_program(ARGUMENTS("systemd-analyze", "verify", UNIT), &out, &err) != 0 || *err)
                fail_msg("systemd-analyze verify: %s%s", out, err);
        run_quietly(ARGUMENTS("systemd-analyze", "security", "--threshold=4", "--no-pager", UNIT));
}

/* In the service's namespaces, which is how it sees the machine. */
static int in_sandbox(const char *program, const char *argument) {
        g_autofree char *pid = g_strdup_printf("%d", (int)unit_pid());

        return run_program(ARGUMENTS("nsenter", "--target", pid, "--mount", program, argument), NULL, NULL);
}

static void test_sandbox_hides_the_machine(void **state) {
        static const char *const namespaces[] = { "ipc", "mnt", "net", "user", "uts" };
        static const char *const hidden[] = { "/home/lv-anna", "/dev/console", "/proc/meminfo", "/tmp/.test" };
        g_free(run_good(ARGUMENTS("touch", "/tmp/.test")));
        pid_t pid = unit_pid();

        for (unsigned i = 0; i < G_N_ELEMENTS(namespaces); i++) {
                g_autofree char *path = g_strdup_printf("/proc/%d/ns/%s", (int)pid, namespaces[i]);
                g_autofree char *ours_path = g_strdup_printf("/proc/self/ns/%s", namespaces[i]);
                g_autofree char *theirs = g_file_read_link(path, NULL), *ours = g_file_read_link(ours_path, NULL);
                assert_string_not_equal(theirs, ours);
        }
        for (unsigned i = 0; i < G_N_ELEMENTS(hidden); i++) {
                assert_int_equal(access(hidden[i], F_OK), 0);
                if (in_sandbox("ls", hidden[i]) == 0)
                        fail_msg("The service can see %s", hidden[i]);
        }

        assert_int_equal(in_sandbox("touch", STATE "/backups"), 0);
        assert_int_not_equal(in_sandbox("touch", "/var/cache"), 0);
        assert_int_not_equal(in_sandbox("touch", "/etc/licensevault"), 0);
}

static void test_licenses_and_instance_after_a_restart(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "one");
        g_autofree char *owner = harness_owner(h);

        systemctl("restart", UNIT);
        g_autofree char *other_owner = harness_owner(h);
        assert_string_not_equal(owner, other_owner);
        g_hash_table_unref(assert_license(bus, "one", "the document of one\n", 20));
        expect_unit_property("Result", "success");
}

static void test_stop_closes_the_store_and_takes_the_name(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "one");

        systemctl("stop", UNIT);
        assert_null(harness_owner(h));
        expect_unit_property("ActiveState", "inactive");
        expect_unit_property("Result", "success");
        /* Checkpointed: all of it is in the one file. */
        g_autofree char *files = run_good(ARGUMENTS("find", STATE, "-name", "licenses.db-*", "-size", "+0"));
        assert_string_equal(files, "");
}

static void test_reload_returns_when_the_new_configuration_holds(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_free(store_license(bus, "12345678901", 11, "a{sv}", 1, "LicenseId", "s", "before"));
        harness_set(h, "Limits", "DocumentBytes", "10");
        harness_write_settings(h);
        pid_t daemon = unit_pid();

        /* A daemon that has not come round to it: the reload must wait for it. */
        assert_int_equal(kill(daemon, SIGSTOP), 0);
        pid_t reload = run_behind(ARGUMENTS("systemctl", "reload", UNIT));
        sleep_msec(500);
        assert_int_equal(waitpid(reload, NULL, WNOHANG), 0);
        assert_int_equal(kill(daemon, SIGCONT), 0);
        assert_int_equal(harness_wait(h, reload), 0);

        store_license_error(bus, "LimitsExceeded", "*DocumentBytes*", "12345678901", 11, "a{sv}", 1, "LicenseId", "s",
                "after");
        assert_int_equal(unit_pid(), daemon);
        expect_unit_property("ActiveState", "active");
}

static void test_hanging_daemon_is_restarted_by_the_watchdog(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        system_expect_signal("ABRT");
        unit_drop_in("[Service]\nWatchdogSec=1s\nTimeoutAbortSec=2s\nLimitCORE=0\n");
        systemctl("restart", UNIT);
        store_simple(bus, "one");
        pid_t daemon = unit_pid();
        /* As long as it lives, the watchdog leaves it alone. */
        sleep_msec(2500);
        assert_int_equal(unit_pid(), daemon);

        assert_int_equal(kill(daemon, SIGSTOP), 0);
        expect_journal("Watchdog timeout");
        expect_unit_property("NRestarts", "1");
        expect_unit_property("ActiveState", "active");
        assert_int_not_equal(unit_pid(), daemon);
        g_hash_table_unref(assert_license(bus, "one", "the document of one\n", 20));
}

/* A backup that has more to do than the machine can in a moment, and nothing of it is seen from outside. */
static void fill(sd_bus *bus) {
        store_many(bus, "large", 300, 200 * 1024);
}

static void test_killed_backup_leaves_the_old_one_and_no_trace(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        system_expect_signal("KILL");
        store_simple(bus, "one");
        g_autofree char *old_job = back_up(bus, 0);
        g_hash_table_unref(assert_job_succeeds(bus, old_job));
        g_autofree char *file = g_strdup_printf(STATE "/backups/%u/licenses.tar", (unsigned)h->users[0]);
        g_autofree char *before = list_state();
        size_t size;
        g_autofree char *old = read_file(file, &size);
        pid_t pid = unit_pid();
        fill(bus);

        g_autofree char *job = back_up(bus, 1);
        job_wait_property(bus, job, "State", "running");
        /* At once: it must not have ended. */
        assert_int_equal(kill(pid, SIGKILL), 0);
        expect_unit_property("NRestarts", "1");
        expect_unit_property("ActiveState", "active");

        assert_file_equal(file, old, size);
        g_autofree char *after = list_state();
        assert_string_equal(after, before);
        g_hash_table_unref(assert_license(bus, "one", "the document of one\n", 20));
        g_autofree char *new_job = back_up(bus, 1);
        g_autoptr(GHashTable) result = assert_job_succeeds(bus, new_job);
        assert_property(result, "licenses", "301");
}

static void test_stop_ends_jobs_in_done(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *owner = harness_owner(h);
        g_auto(StuckJob) stuck = {};
        g_auto(JobEnd) end = {};
        store_simple(bus, "one");
        stuck_job_start(bus, &stuck);

        systemctl("stop", UNIT);
        assert_true(receive_done(bus, owner, stuck.path, PATIENCE_SEC * 1000, &end, NULL));
        assert_string_equal(end.error, "org.licensevault1.Error.NS_E_DRM_OPERATION_CANCELED");
        assert_sentence(end.message, NULL);
        expect_unit_property("Result", "success");
}

static void test_bus_that_restarts_is_found_again(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "one");

        systemctl("restart", "dbus.service");
        expect_unit_property("NRestarts", "1");
        expect_unit_property("ActiveState", "active");
        g_hash_table_unref(assert_license(harness_connect(h, 0), "one", "the document of one\n", 20));
        /* The harness's own connection is the old bus's. */
        h->observer = harness_connect_uid(h, 0);
}

static void test_start_that_cannot_succeed_is_not_tried_again(void **state) {
        Harness *h = *state;
        unit_drop_in("[Service]\nStateDirectory=\nEnvironment=STATE_DIRECTORY=/nowhere\n");

        assert_int_not_equal(run_program(ARGUMENTS("systemctl", "start", UNIT), NULL, NULL), 0);
        expect_unit_property("ActiveState", "failed");
        expect_unit_property("ExecMainStatus", "3");
        expect_unit_property("NRestarts", "0");
        assert_null(harness_owner(h));
}

static int setup_small_disk(void **state) {
        system_setup(state);
        run_quietly(ARGUMENTS("install", "-d", "-m", "0700", "-o", "licensevault", "-g", "licensevault", STATE));
        run_quietly(ARGUMENTS("mount", "-t", "tmpfs", "-o", "size=8m,mode=0700,uid=licensevault,gid=licensevault",
                "tmpfs", STATE));
        return 0;
}

static int teardown_small_disk(void **state) {
        systemctl("stop", UNIT);
        run_quietly(ARGUMENTS("umount", STATE));
        return system_teardown(state);
}

/* Fills the disk by a file beside the store but for some KiB. */
static void fill_disk(void) {
        run_program(ARGUMENTS("dd", "if=/dev/zero", "of=" STATE "/ballast", "bs=4k"), NULL, NULL);
}

static void test_full_disk_is_said_and_gone_when_there_is_room(void **state) {
        Harness *h = *state;
        g_autofree uint8_t *document = make_document(100 * 1024, 7);
        harness_set(h, "Limits", "MinimumFreePercent", "0");
        harness_write_settings(h);
        systemctl("start", UNIT);
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "one");
        g_autofree char *job = back_up(bus, 0);
        g_hash_table_unref(assert_job_succeeds(bus, job));
        pid_t daemon = unit_pid();

        fill_disk();
        store_license_error(bus, "NS_E_DRM_LICENSE_STORE_SAVE_ERROR", NULL, document, 100 * 1024, "a{sv}", 1,
                "LicenseId", "s", "large");
        g_hash_table_unref(assert_license(bus, "one", "the document of one\n", 20));
        g_autofree char *failing = back_up(bus, 1);
        assert_job_fails(bus, failing, "NS_E_BACKUP_RESTORE_FAILURE", "*No space left on device*");

        assert_int_equal(unlink(STATE "/ballast"), 0);
        g_free(store_license(bus, document, 100 * 1024, "a{sv}", 1, "LicenseId", "s", "large"));
        g_autofree char *good = back_up(bus, 1);
        g_autoptr(GHashTable) result = assert_job_succeeds(bus, good);
        assert_property(result, "licenses", "2");
        assert_int_equal(unit_pid(), daemon);
}

static void test_disk_that_fills_up_is_left_some_room(void **state) {
        Harness *h = *state;
        systemctl("start", UNIT);
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "one");

        fill_disk();
        store_license_error(bus, "LimitsExceeded", "*MinimumFreePercent*", "x", 1, "a{sv}", 1, "LicenseId", "s",
                "two");
        assert_int_equal(unlink(STATE "/ballast"), 0);
        store_simple(bus, "two");
}

#define RUNNING(name) cmocka_unit_test_setup_teardown(name, system_setup_running, system_teardown)
#define STOPPED(name) cmocka_unit_test_setup_teardown(name, system_setup, system_teardown)
#define SMALL_DISK(name) cmocka_unit_test_setup_teardown(name, setup_small_disk, teardown_small_disk)

int main(void) {
        const struct CMUnitTest tests[] = {
                STOPPED(test_first_call_starts_the_service),
                STOPPED(test_first_call_of_a_user_starts_the_service),
                RUNNING(test_unit_runs_as_written),
                RUNNING(test_sandbox_hides_the_machine),
                RUNNING(test_licenses_and_instance_after_a_restart),
                RUNNING(test_stop_closes_the_store_and_takes_the_name),
                RUNNING(test_reload_returns_when_the_new_configuration_holds),
                RUNNING(test_hanging_daemon_is_restarted_by_the_watchdog),
                RUNNING(test_killed_backup_leaves_the_old_one_and_no_trace),
                RUNNING(test_stop_ends_jobs_in_done),
                RUNNING(test_bus_that_restarts_is_found_again),
                STOPPED(test_start_that_cannot_succeed_is_not_tried_again),
                SMALL_DISK(test_full_disk_is_said_and_gone_when_there_is_room),
                SMALL_DISK(test_disk_that_fills_up_is_left_some_room),
        };

        return cmocka_run_group_tests_name("service", tests, NULL, NULL);
}
