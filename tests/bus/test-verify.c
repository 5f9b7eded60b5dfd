/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* VerifyBackup: reads all, changes nothing, and says whether it is whole. (test-restore-hostile.c has what is not.) */
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "monitor.h"
#include "restores.h"

#define SUCCESS "return 21( 16)? 27"

static int setup(void **state) {
        harness_setup(state);
        monitor_new(*state);
        return 0;
}

static void assert_size(GHashTable *result, Harness *h, const char *name) {
        g_autofree char *path = harness_path(h, name), *text = NULL;
        struct stat st;

        assert_int_equal(stat(path, &st), 0);
        text = g_strdup_printf("%" PRIu64, (uint64_t)st.st_size);
        assert_property(result, "bytes", text);
}

static void test_good_backup_is_verified_and_nothing_changes(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        store_many(bus, "a", 40, 100);
        g_free(store_license(bus, "x", 1, "a{sv}", 2, "LicenseId", "s", "restricted", "AllowBackup", "b", 0));
        save_backup(h, bus, "backup.tar");
        delete_license(bus, "a00007");
        store_simple(bus, "new");
        g_autofree char *before = snapshot_licenses(bus);

        g_autofree char *job = start_verify(h, bus, "backup.tar");
        g_autoptr(GHashTable) result = assert_job_succeeds(bus, job);
        assert_int_equal(g_hash_table_size(result), 4);
        assert_property(result, "licenses", "40");
        assert_property(result, "restricted", "1");
        assert_property(result, "verified", "true");
        assert_size(result, h, "backup.tar");
        assert_snapshot(bus, before);
        sleep_msec(200);
        assert_trace(h, job, bus, SUCCESS);
        g_autofree char *kind = job_property(bus, job, "Kind"), *total = job_property(bus, job, "Total"),
                        *completed = job_property(bus, job, "Completed");
        assert_string_equal(kind, "verify");
        assert_string_equal(total, "40");
        assert_string_equal(completed, "40");
}

static void test_empty_backup_is_verified(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        save_backup(h, bus, "backup.tar");

        g_autofree char *job = start_verify(h, bus, "backup.tar");
        g_autoptr(GHashTable) result = assert_job_succeeds(bus, job);
        assert_property(result, "licenses", "0");
        assert_property(result, "verified", "true");
        assert_trace(h, job, bus, SUCCESS);
}

/* Nobody's licenses come over, and so nobody has to agree. */
static void test_backups_of_others_are_verified(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        sd_bus *bus = harness_connect(h, 0), *other = harness_connect(h, 1);
        store_simple(bus, "one");
        save_backup(h, bus, "backup.tar");
        rewrite(h, "backup.tar", "machine.tar", "json", "manifest.json", "machine", "\"\"");

        g_autofree char *job = start_verify(h, other, "machine.tar");
        g_autoptr(GHashTable) result = assert_job_succeeds(other, job);
        assert_property(result, "licenses", "1");
        assert_trace(h, job, other, SUCCESS);
        assert_no_license(other, "one");

        sd_bus *root = harness_connect_uid(h, 0);
        int fd = open_in(h, "all.tar", O_RDWR | O_CREAT);
        g_autofree char *backup = call_string(
                root, ROOT, "LicenseBackup.BackupLicensesToFile", "hua{sv}", fd, 0, 1, "AllUsers", "b", 1);
        g_hash_table_unref(assert_job_succeeds(root, backup));
        close(fd);
        g_autofree char *all = start_verify(h, other, "all.tar");
        g_autoptr(GHashTable) all_result = assert_job_succeeds(other, all);
        assert_property(all_result, "licenses", "1");
}

static void test_pipe_and_socket_are_verified_with_percents(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *path = harness_path(h, "backup.tar");
        g_auto(FedJob) fed = {};
        size_t size;
        int fds[2];
        store_many(bus, "a", 100, 300);
        save_backup(h, bus, "backup.tar");
        g_autofree char *content = read_file(path, &size);

        fed_verify_start(bus, &fed);
        for (unsigned i = 0; i < 4; i++) {
                feed(&fed, content + size / 4 * i, i < 3 ? size / 4 : size - size / 4 * 3);
                sleep_msec(150);
        }
        feed_end(&fed);
        g_autoptr(GHashTable) result = assert_job_succeeds(bus, fed.path);
        assert_property(result, "licenses", "100");
        assert_size(result, h, "backup.tar");
        assert_trace(h, fed.path, bus, "return 21 16 27");
        assert_true(monitor_count_progress(h, fed.path, bus) >= 4);

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        g_autofree char *job = call_string(bus, ROOT, VERIFY, "h", fds[0]);
        close(fds[0]);
        FedJob socket_fed = { .fd = fds[1] };
        feed(&socket_fed, content, size);
        feed_end(&socket_fed);
        g_autoptr(GHashTable) socket_result = assert_job_succeeds(bus, job);
        assert_property(socket_result, "licenses", "100");
}

static void test_damaged_backup_says_where(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        store_many(bus, "a", 10, 100);
        save_backup(h, bus, "backup.tar");
        rewrite(h, "backup.tar", "bad.tar", "content", "id:a00004", "other", "stale-digests");

        g_autofree char *job = start_verify(h, bus, "bad.tar");
        assert_job_fails(bus, job, "NS_E_DRM_BACKUP_CORRUPT", "*licenses/0000005-a00004.*");
        assert_trace(h, job, bus, SUCCESS ":NS_E_DRM_BACKUP_CORRUPT");
}

static void test_descriptors_that_cannot_give_a_backup_are_refused(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        const int fds[] = { open_in(h, "new", O_WRONLY | O_CREAT), open_in(h, "", O_RDONLY | O_DIRECTORY),
                open_in(h, "new", O_PATH), open("/dev/null", O_RDWR | O_CLOEXEC) };
        unsigned before = monitor_signals_to(h, NULL);

        for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++) {
                call_error(bus, ROOT, VERIFY, "InvalidArgs", NULL, "h", fds[i]);
                close(fds[i]);
        }
        assert_int_equal(monitor_signals_to(h, NULL), before);
}

static void test_canceled_check_ends_in_done(void **state) {
        static const char *const members[] = { "Job.Cancel", CANCEL_RESTORE };
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *path = harness_path(h, "backup.tar");
        size_t size;
        store_many(bus, "a", 20, 100);
        save_backup(h, bus, "backup.tar");
        g_autofree char *content = read_file(path, &size);

        for (unsigned i = 0; i < G_N_ELEMENTS(members); i++) {
                g_auto(FedJob) fed = {};
                fed_verify_start(bus, &fed);
                feed(&fed, content, size / 2);
                /* A backup it is not. */
                call_void(bus, ROOT, "LicenseBackup.CancelLicenseBackup", "");
                job_wait_property(bus, fed.path, "State", "running");
                call_void(bus, i == 0 ? fed.path : ROOT, members[i], "");
                assert_job_fails(bus, fed.path, "NS_E_DRM_OPERATION_CANCELED", NULL);
                assert_trace(h, fed.path, bus, SUCCESS ":NS_E_DRM_OPERATION_CANCELED");
        }
}

static void test_stopped_daemon_ends_a_check_in_done(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_auto(FedJob) fed = {};
        g_auto(JobEnd) end = {};
        g_autofree char *owner = harness_owner(h);
        fed_verify_start(bus, &fed);

        harness_stop(h);
        assert_true(receive_done(bus, owner, fed.path, PATIENCE_SEC * 1000, &end, NULL));
        assert_true(end.hresult < 0);
        assert_sentence(end.message, NULL);
        assert_trace(h, fed.path, bus, "return 21 27:NS_E_[A-Z_]+");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_good_backup_is_verified_and_nothing_changes),
                TEST(test_empty_backup_is_verified),
                TEST(test_backups_of_others_are_verified),
                TEST(test_pipe_and_socket_are_verified_with_percents),
                TEST(test_damaged_backup_says_where),
                TEST(test_descriptors_that_cannot_give_a_backup_are_refused),
                TEST(test_canceled_check_ends_in_done),
                TEST(test_stopped_daemon_ends_a_check_in_done),
        };

        return cmocka_run_group_tests_name("verify", tests, NULL, NULL);
}
