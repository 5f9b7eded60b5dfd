/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The process: its start, its end, what it tells systemd, and a store that it cannot read. */
#include <fcntl.h>
#include <signal.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>

#include "client.h"

static void test_version_and_help_need_no_bus(void **state) {
        Harness *h = *state;
        harness_stop_bus(h);

        assert_int_equal(harness_run(h, ARGUMENTS("--version")), 0);
        g_autofree char *version = harness_log(h);
        assert_non_null(strstr(version, PROJECT_VERSION));
        assert_int_equal(harness_run(h, ARGUMENTS("--help")), 0);
        g_autofree char *help = harness_log(h);
        assert_non_null(strstr(help, "--check"));
        assert_int_not_equal(harness_run(h, ARGUMENTS("--colour")), 0);
        assert_int_not_equal(harness_run(h, ARGUMENTS("argument")), 0);
}

/* It waits for some seconds, and ends in a way in which it is started again. */
static void test_store_that_another_program_has_open_is_not_opened(void **state) {
        Harness *h = *state;
        g_autofree char *path = g_build_filename(h->state, "licenses.db", NULL);
        sqlite3 *db = NULL;
        harness_start(h);
        store_simple(harness_connect(h, 0), "kept");
        assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, "SELECT id FROM licenses", NULL, NULL, NULL), SQLITE_BUSY);
        harness_stop(h);

        assert_int_equal(sqlite3_exec(db, "BEGIN; SELECT id FROM licenses", NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(harness_run(h, NULL), 1);
        harness_expect_log(h, "Another program has the license store open.");

        /* A stop ends the wait before it is over by itself. */
        for (unsigned i = 0; i < 2; i++) {
                int64_t begin = g_get_monotonic_time();
                pid_t daemon = harness_spawn(h, NULL);
                sleep_msec(500);
                assert_int_equal(kill(daemon, i == 0 ? SIGTERM : SIGINT), 0);
                assert_int_equal(harness_wait(h, daemon), 128 + (i == 0 ? SIGTERM : SIGINT));
                assert_true(g_get_monotonic_time() - begin < 10 * G_USEC_PER_SEC);
        }
        assert_int_equal(sqlite3_close(db), SQLITE_OK);

        /* One that ends in time is waited for. */
        int ready[2];
        char byte = 0;
        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        pid_t pid = fork();
        int status;
        assert_true(pid >= 0);
        if (pid == 0) {
                if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK ||
                    sqlite3_exec(db, "BEGIN; SELECT id FROM licenses", NULL, NULL, NULL) != SQLITE_OK ||
                    write(ready[1], &byte, 1) != 1)
                        _exit(EXIT_FAILURE);
                sleep_msec(1000);
                _exit(EXIT_SUCCESS);
        }
        assert_int_equal(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        close(ready[1]);
        harness_start(h);
        call_void(harness_connect(h, 0), ROOT, "LicenseStore.GetLicense", "s", "kept");
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

static void test_state_directory_that_cannot_be_used_is_told(void **state) {
        Harness *h = *state;
        harness_stop_bus(h);
        g_free(h->state);

        h->state = harness_path(h, "nowhere");
        assert_int_equal(harness_run(h, ARGUMENTS("--check")), 3);
        harness_expect_log(h, "No such file or directory");
        assert_int_equal(harness_run(h, NULL), 3);
        g_free(h->state);
        h->state = g_strdup("relative");
        assert_int_equal(harness_run(h, ARGUMENTS("--check")), 3);
        assert_int_equal(harness_run(h, NULL), 3);
        harness_expect_log(h, "STATE_DIRECTORY='relative' is not the full path of one folder.");
}

static void test_bus_without_our_policy_is_told(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        assert_int_equal(chown(h->state, h->users[1], (gid_t)-1), 0);
        write_file(h->log, "", 0);
        assert_int_equal(chown(h->log, h->users[1], (gid_t)-1), 0);

        /* The policy of a test lets nobody but who runs it own the name. */
        harness_write_settings(h);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                if (setuid(h->users[1]) < 0)
                        _exit(99);
                _exit(harness_wait(h, harness_spawn(h, NULL)));
        }
        assert_int_equal(harness_wait(h, pid), 1);
        harness_expect_log(h, "cannot be had on the bus");
        harness_expect_log(h, "to the user licensevault alone");
        harness_expect_log(h, "policy file org.licensevault1.conf");
}

static void test_second_daemon_on_the_state_is_refused(void **state) {
        Harness *h = *state;
        harness_start(h);

        assert_int_not_equal(harness_run(h, NULL), 0);
        g_autofree char *log = harness_log(h);
        assert_true(strstr(log, h->state) || strstr(log, "licensevaultd"));
        store_simple(harness_connect(h, 0), "the first one goes on");
}

static void test_second_daemon_on_the_name_is_refused(void **state) {
        Harness *h = *state;
        harness_start(h);
        g_free(h->state);
        h->state = harness_path(h, "other-state");
        assert_int_equal(mkdir(h->state, 0700), 0);

        assert_int_not_equal(harness_run(h, NULL), 0);
        harness_expect_log(h, "org.licensevault1");
        store_simple(harness_connect(h, 0), "the first one goes on");
}

static void test_reload_reads_the_configuration_again(void **state) {
        Harness *h = *state;
        harness_listen_notify(h);
        harness_start(h);
        harness_expect_notify(h, "READY=1");
        sd_bus *bus = harness_connect(h, 0);
        g_free(store_license(bus, "12345678901", 11, "a{sv}", 1, "LicenseId", "s", "before"));

        harness_set(h, "Limits", "DocumentBytes", "10");
        harness_write_settings(h);
        kill(h->daemon, SIGHUP);
        harness_expect_notify(h, "RELOADING=1");
        harness_expect_notify(h, "READY=1");
        store_license_error(bus, "LimitsExceeded", "*DocumentBytes*", "12345678901", 11, "a{sv}", 1,
                "LicenseId", "s", "after");
        g_hash_table_unref(assert_license(bus, "before", "12345678901", 11));
}

static void test_bad_setting_is_named_and_taken_as_not_there(void **state) {
        Harness *h = *state;
        harness_listen_notify(h);
        harness_set(h, "Limits", "DocumentBytes", "10");
        harness_start(h);
        harness_expect_notify(h, "READY=1");

        harness_set(h, "Limits", "DocumentBytes", "many");
        harness_set(h, "Limits", "Colour", "blue");
        harness_set(h, "Jobs", "ResultsPerUser", "-1");
        harness_write_settings(h);
        kill(h->daemon, SIGHUP);
        harness_expect_notify(h, "READY=1");
        harness_expect_log(h, "DocumentBytes");
        harness_expect_log(h, "Colour");
        harness_expect_log(h, "ResultsPerUser");
        g_free(store_license(harness_connect(h, 0), "12345678901", 11, "a{sv}", 1, "LicenseId", "s", "id"));
}

static void test_drop_ins_count_after_the_file(void **state) {
        Harness *h = *state;
        g_autofree char *folder = g_build_filename(h->configuration, "licensevaultd.conf.d", NULL);
        g_autofree char *file = g_build_filename(folder, "10-test.conf", NULL);
        assert_int_equal(mkdir(folder, 0755), 0);
        write_file(file, "[Limits]\nDocumentBytes=10\n", 26);
        harness_set(h, "Limits", "DocumentBytes", "1000");
        harness_start(h);

        store_license_error(harness_connect(h, 0), "LimitsExceeded", NULL, "12345678901", 11, "a{sv}", 1,
                "LicenseId", "s", "id");
}

static void test_systemd_is_told(void **state) {
        Harness *h = *state;
        harness_listen_notify(h);
        h->watchdog_usec = "400000";
        harness_start(h);
        harness_expect_notify(h, "READY=1");
        harness_expect_notify(h, "WATCHDOG=1");
        harness_expect_notify(h, "WATCHDOG=1");
        store_many(harness_connect(h, 0), "a", 7, 10);
        harness_expect_notify(h, "STATUS=*7 licenses*");
        harness_stop(h);
        harness_expect_notify(h, "STOPPING=1");
}

static void test_interrupt_ends_as_well_as_term(void **state) {
        Harness *h = *state;
        harness_start(h);
        assert_int_equal(kill(h->daemon, SIGINT), 0);
        assert_int_equal(harness_wait(h, h->daemon), 0);
}

static char *store_file(Harness *h, const char *suffix) {
        return g_strdup_printf("%s/licenses.db%s", h->state, suffix);
}

static void test_clean_stop_leaves_no_wal(void **state) {
        Harness *h = *state;
        g_autofree char *wal = store_file(h, "-wal");
        struct stat st;
        harness_start(h);
        store_many(harness_connect(h, 0), "a", 100, 1000);
        g_free(call_string(harness_connect(h, 0), ROOT, "LicenseBackup.BackupLicenses", "u", 0));

        harness_stop(h);
        assert_true(stat(wal, &st) < 0 || st.st_size == 0);
}

static void test_unreadable_store_is_told_and_kept(void **state) {
        Harness *h = *state;
        g_autofree char *path = store_file(h, "");
        g_autofree uint8_t *garbage = make_document(50000, 1);
        write_file(path, garbage, 50000);
        harness_start(h);
        sd_bus *bus = harness_connect(h, 0);

        store_license_error(bus, "NS_E_DRM_DATASTORE_CORRUPT", "*licenses.db*", "x", 1, "a{sv}", 1,
                "LicenseId", "s", "id");
        call_error(bus, ROOT, "LicenseStore.GetLicense", "NS_E_DRM_DATASTORE_CORRUPT", NULL, "s", "id");
        call_error(bus, ROOT, "LicenseStore.OpenLicense", "NS_E_DRM_DATASTORE_CORRUPT", NULL, "s", "id");
        call_error(bus, ROOT, "LicenseStore.EnumerateLicenses", "NS_E_DRM_DATASTORE_CORRUPT", NULL,
                "a{sv}su", 0, "", 0);
        call_error(bus, ROOT, "LicenseStore.ConsumeRight", "NS_E_DRM_DATASTORE_CORRUPT", NULL, "sst", "id",
                "print", UINT64_C(1));
        call_error(bus, ROOT, "LicenseStore.DeleteLicense", "NS_E_DRM_DATASTORE_CORRUPT", NULL, "s", "id");
        call_error(bus, ROOT, "LicenseStore.RevokeLicense", "NS_E_DRM_DATASTORE_CORRUPT", NULL, "s", "id");
        call_error(bus, ROOT, "BackupRestoreProps.GetPropCount", "NS_E_DRM_DATASTORE_CORRUPT", NULL, "");
        call_error(bus, ROOT, "BackupRestoreProps.RemoveAllProps", "NS_E_DRM_DATASTORE_CORRUPT", NULL, "");
        call_error(bus, ROOT, "LicenseBackup.BackupLicenses", "NS_E_DRM_DATASTORE_CORRUPT", NULL, "u", 0);
        call_error(bus, ROOT, "LicenseRestore.RestoreLicenses", "NS_E_DRM_DATASTORE_CORRUPT", NULL, "u", 0);
        call_void(bus, ROOT, "Manager.ListJobs", "");
        harness_stop(h);
        assert_file_equal(path, garbage, 50000);
}

static void run_sql(const char *path, const char *sql) {
        sqlite3 *db = NULL;

        assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void test_store_of_a_newer_version_is_told_and_kept(void **state) {
        Harness *h = *state;
        g_autofree char *path = store_file(h, "");
        size_t size;
        harness_start(h);
        store_simple(harness_connect(h, 0), "kept");
        harness_stop(h);
        run_sql(path, "PRAGMA user_version = 1000000");
        g_autofree char *before = read_file(path, &size);

        harness_start(h);
        sd_bus *bus = harness_connect(h, 0);
        store_license_error(
                bus, "NS_E_DRM_LICENSE_STORE_ERROR", "*newer*", "x", 1, "a{sv}", 1, "LicenseId", "s", "id");
        call_error(bus, ROOT, "LicenseStore.GetLicense", "NS_E_DRM_LICENSE_STORE_ERROR", "*newer*", "s",
                "kept");
        harness_stop(h);
        assert_file_equal(path, before, size);
}

static void test_store_of_another_program_is_told_and_kept(void **state) {
        Harness *h = *state;
        g_autofree char *path = store_file(h, "");
        size_t size;
        write_file(path, "", 0);
        run_sql(path,
                "PRAGMA application_id = 7; CREATE TABLE precious (x); INSERT INTO precious VALUES (1);");
        g_autofree char *before = read_file(path, &size);

        harness_start(h);
        store_license_error(harness_connect(h, 0), "NS_E_DRM_DATASTORE_CORRUPT", NULL, "x", 1, "a{sv}", 1,
                "LicenseId", "s", "id");
        harness_stop(h);
        assert_file_equal(path, before, size);
}

static void test_damaged_document_is_named_by_the_backup(void **state) {
        Harness *h = *state;
        g_autofree char *path = store_file(h, "");
        char *content, *place;
        size_t size;
        harness_start(h);
        store_simple(harness_connect(h, 0), "sound");
        store_simple(harness_connect(h, 0), "rotten");
        harness_stop(h);
        content = read_file(path, &size);
        place = memmem(content, size, "the document of rotten", 22);
        assert_non_null(place);
        place[0] = 'T';
        write_file(path, content, size);
        g_free(content);

        harness_start(h);
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        assert_job_fails(bus, job, "NS_E_DRM_DATASTORE_CORRUPT", "*rotten*");
        g_autofree char *file =
                g_strdup_printf("%s/backups/%u/licenses.tar", h->state, (unsigned)h->users[0]);
        assert_int_not_equal(access(file, F_OK), 0);
}

static void spoil(const char *path, const char *text) {
        size_t size;
        char *content = read_file(path, &size), *place = memmem(content, size, text, strlen(text));

        assert_non_null(place);
        *place ^= 1;
        write_file(path, content, size);
        g_free(content);
}

static char *read_member(const char *archive, const char *member) {
        const char *argv[] = { "tar", "-xOf", archive, member, NULL };
        char *text = NULL;

        assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL,
                &text, NULL, NULL, NULL));
        return text;
}

/* One user's damage is no other user's: but who lets something be left out says so, and is told what. */
static void test_damaged_document_of_one_user_keeps_nobody_from_a_backup(void **state) {
        Harness *h = *state;
        g_autofree char *store = store_file(h, ""), *path = harness_path(h, "all.tar");
        harness_need_users(h, 3);
        harness_start(h);
        store_simple(harness_connect(h, 0), "others");
        store_simple(harness_connect(h, 1), "sound");
        store_simple(harness_connect(h, 1), "rotten");
        g_free(store_license(harness_connect(h, 1), "the document of secret", 22, "a{sv}", 2, "LicenseId", "s", "secret",
                "AllowBackup", "b", 0));
        harness_stop(h);
        spoil(store, "the document of rotten");
        spoil(store, "the document of secret");

        harness_start(h);
        sd_bus *root = harness_connect_uid(h, 0);
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        g_autofree char *name = g_strdup(getpwuid(h->users[1])->pw_name),
                        *told = g_strdup_printf("*'%s' (%u)*rotten*All others*SkipDamaged*", name,
                                (unsigned)h->users[1]),
                        *listed = g_strdup_printf("rotten  %s (%u)\nsecret  %s (%u)\n", name, (unsigned)h->users[1], name,
                                (unsigned)h->users[1]),
                        *named = g_strdup_printf("%s (%u): rotten", name, (unsigned)h->users[1]);
        g_autofree char *failing = call_string(root, ROOT, "LicenseBackup.BackupLicensesToFile", "hua{sv}", fd, 0, 1,
                "AllUsers", "b", 1);
        assert_job_fails(root, failing, "NS_E_DRM_DATASTORE_CORRUPT", told);
        assert_int_equal(lseek(fd, 0, SEEK_END), 0);

        g_autofree char *job = call_string(root, ROOT, "LicenseBackup.BackupLicensesToFile", "hua{sv}", fd, 0, 2,
                "AllUsers", "b", 1, "SkipDamaged", "b", 1);
        g_autoptr(GHashTable) result = assert_job_succeeds(root, job);
        close(fd);
        assert_property(result, "licenses", "2");
        assert_property(result, "restricted", "0");
        assert_property(result, "damaged", "2");
        assert_non_null(strstr(g_hash_table_lookup(result, "damaged_licenses"), named));
        g_autofree char *list = read_member(path, "NOT-BACKED-UP.txt"), *state_lines = read_member(path, "state.jsonl"),
                        *manifest = read_member(path, "manifest.json"), *log = harness_log(h);
        assert_non_null(strstr(list, listed));
        assert_null(strstr(list, "may not be backed up"));
        assert_non_null(strstr(state_lines, "\"rotten\""));
        assert_non_null(strstr(manifest, "\"damaged\": 2"));
        assert_non_null(strstr(log, "The license store, or a license in it, is damaged."));

        fd = open(path, O_RDONLY | O_CLOEXEC);
        g_autofree char *verify = call_string(root, ROOT, "LicenseRestore.VerifyBackup", "h", fd);
        g_hash_table_unref(assert_job_succeeds(root, verify));
        call_error(root, ROOT, "LicenseRestore.RestoreLicensesFromFile", "InvalidArgs", NULL, "hua{sv}", fd, 0, 1,
                "SkipDamaged", "b", 1);
        close(fd);
}

static void test_stored_license_survives_a_kill(void **state) {
        Harness *h = *state;
        harness_start(h);
        sd_bus *bus = harness_connect(h, 0);

        for (unsigned i = 0; i < 5; i++) {
                g_autofree char *id = g_strdup_printf("id%u", i);
                g_autofree uint8_t *document = make_document(100000, i);
                g_free(store_license(bus, document, 100000, "a{sv}", 1, "LicenseId", "s", id));
                harness_kill(h);
                harness_start(h);
                g_hash_table_unref(assert_license(bus, id, document, 100000));
        }
        call_void(bus, ROOT, "LicenseStore.RevokeLicense", "s", "id0");
        call_void(bus, ROOT, "LicenseStore.DeleteLicense", "s", "id1");
        harness_kill(h);
        harness_start(h);
        store_license_error(
                bus, "NS_E_DRM_LICENSE_CONTENT_REVOKED", NULL, "x", 1, "a{sv}", 1, "LicenseId", "s", "id0");
        call_error(bus, ROOT, "LicenseStore.GetLicense", "NS_E_DRM_LICENSE_UNAVAILABLE", NULL, "s", "id1");
}

static void test_lost_bus_ends_the_daemon_with_an_error(void **state) {
        Harness *h = *state;
        harness_start(h);
        harness_stop_bus(h);

        int status = harness_wait(h, h->daemon);
        if (status == 0 || status > 128)
                fail_msg("The daemon ended with status %d", status);
        g_autofree char *log = harness_log(h);
        assert_non_null(strstr(log, "bus"));
}

/* The bus takes nothing any more, and answers are due to be sent. */
static void leave_answers_unsent(Harness *h) {
        sd_bus *bus = harness_connect(h, 0);
        g_autofree uint8_t *document = make_document(60 * 1024, 1);

        g_free(store_license(bus, document, 60 * 1024, "a{sv}", 1, "LicenseId", "s", "large"));
        assert_int_equal(kill(h->daemon, SIGSTOP), 0);
        for (unsigned i = 0; i < 20; i++)
                send_get_license(bus, "large");
        wait_for_bus(bus);
        hang_bus(h);
}

static void test_stop_waits_for_no_bus_that_hangs(void **state) {
        Harness *h = *state;
        int64_t begin;
        harness_start(h);
        leave_answers_unsent(h);

        begin = g_get_monotonic_time();
        harness_stop(h);
        assert_in_range(g_get_monotonic_time() - begin, 0, 10 * G_USEC_PER_SEC);
        assert_int_equal(kill(h->bus, SIGCONT), 0);
}

static void test_second_stop_waits_for_no_bus_that_hangs(void **state) {
        Harness *h = *state;
        harness_start(h);
        leave_answers_unsent(h);

        assert_int_equal(kill(h->daemon, SIGTERM), 0);
        harness_expect_log(h, "Stopping.");
        harness_stop(h);
        assert_int_equal(kill(h->bus, SIGCONT), 0);
}

static void test_no_bus_is_an_error(void **state) {
        Harness *h = *state;
        harness_stop_bus(h);

        int status = harness_run(h, NULL);
        assert_in_range(status, 1, 127);
}

static void test_log_holds_no_license(void **state) {
        Harness *h = *state;
        g_autofree char *lcp = make_lcp("SECRET-ID", "not a time", NULL);
        harness_start(h);
        sd_bus *bus = harness_connect(h, 0);
        g_free(store_license(bus, "TOP-SECRET", 10, "a{sv}", 1, "LicenseId", "s", "id"));
        store_license_error(bus, "NS_E_DRM_INVALID_LICENSE", NULL, lcp, strlen(lcp), "a{sv}", 0);
        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_hash_table_unref(assert_job_succeeds(bus, job));
        harness_stop(h);

        g_autofree char *log = harness_log(h);
        assert_null(strstr(log, "TOP-SECRET"));
        assert_null(strstr(log, "lcp.example.org"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup_bus, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_version_and_help_need_no_bus),
                TEST(test_store_that_another_program_has_open_is_not_opened),
                TEST(test_state_directory_that_cannot_be_used_is_told),
                TEST(test_bus_without_our_policy_is_told),
                TEST(test_second_daemon_on_the_state_is_refused),
                TEST(test_second_daemon_on_the_name_is_refused),
                TEST(test_reload_reads_the_configuration_again),
                TEST(test_bad_setting_is_named_and_taken_as_not_there),
                TEST(test_drop_ins_count_after_the_file),
                TEST(test_systemd_is_told),
                TEST(test_interrupt_ends_as_well_as_term),
                TEST(test_clean_stop_leaves_no_wal),
                TEST(test_unreadable_store_is_told_and_kept),
                TEST(test_store_of_a_newer_version_is_told_and_kept),
                TEST(test_store_of_another_program_is_told_and_kept),
                TEST(test_damaged_document_is_named_by_the_backup),
                TEST(test_damaged_document_of_one_user_keeps_nobody_from_a_backup),
                TEST(test_stored_license_survives_a_kill),
                TEST(test_lost_bus_ends_the_daemon_with_an_error),
                TEST(test_stop_waits_for_no_bus_that_hangs),
                TEST(test_second_stop_waits_for_no_bus_that_hangs),
                TEST(test_no_bus_is_an_error),
                TEST(test_log_holds_no_license),
        };

        return cmocka_run_group_tests_name("daemon", tests, NULL, NULL);
}
