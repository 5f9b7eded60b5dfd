/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Backups to the BackupPath: replaced as a whole or not at all, and nothing left beside them. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client.h"

#define BACKUP "LicenseBackup.BackupLicenses"
/* Of a folder of the service. */
#define BACKUPS_OPEN_MAX 16U

static char *default_folder(Harness *h) {
        return g_strdup_printf("%s/backups/%u", h->state, (unsigned)h->users[0]);
}

static char *default_file(Harness *h) {
        return g_strdup_printf("%s/backups/%u/licenses.tar", h->state, (unsigned)h->users[0]);
}

/* All but licenses.tar: what a backup must not leave. */
static void assert_no_leftovers(Harness *h, unsigned expected) {
        g_autofree char *folder = default_folder(h);

        assert_int_equal(count_names(folder), expected);
}

static GHashTable *back_up(sd_bus *bus, unsigned flags) {
        g_autofree char *job = call_string(bus, ROOT, BACKUP, "u", flags);

        return assert_job_succeeds(bus, job);
}

static void test_backup_is_there_when_done_says_so(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *file = default_file(h);
        struct stat st;
        store_many(bus, "a", 20, 1000);

        g_autoptr(GHashTable) result = back_up(bus, 0);
        assert_int_equal(lstat(file, &st), 0);
        assert_int_equal(st.st_mode, S_IFREG | 0600);
        assert_int_equal(st.st_nlink, 1);
        g_autofree char *size = g_strdup_printf("%" PRIu64, (uint64_t)st.st_size);
        assert_property(result, "bytes", size);
        assert_property(result, "licenses", "20");
        assert_property(result, "verified", "true");
        assert_no_leftovers(h, 1);
}

static void test_existing_backup_stays_without_the_flag(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *file = default_file(h);
        size_t size;
        store_simple(bus, "one");
        g_hash_table_unref(back_up(bus, 0));
        g_autofree char *before = read_file(file, &size);
        store_simple(bus, "two");

        call_error(bus, ROOT, BACKUP, "NS_E_DRM_BACKUP_EXISTS", NULL, "u", 0);
        assert_file_equal(file, before, size);
        assert_no_leftovers(h, 1);
        g_autoptr(GHashTable) result = back_up(bus, 1);
        assert_property(result, "licenses", "2");
        assert_no_leftovers(h, 1);
}

static void test_unknown_flags_are_refused(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *file = default_file(h);

        call_error(bus, ROOT, BACKUP, "InvalidArgs", NULL, "u", 2);
        call_error(bus, ROOT, BACKUP, "InvalidArgs", NULL, "u", 3);
        call_error(bus, ROOT, BACKUP, "InvalidArgs", NULL, "u", UINT32_MAX);
        assert_int_not_equal(access(file, F_OK), 0);
}

static void test_open_backup_gives_the_file_for_reading(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *file = default_file(h);
        size_t size;
        int fd;
        store_simple(bus, "one");

        call_error(bus, ROOT, "LicenseBackup.OpenBackup", "NS_E_DRM_BACKUP_CORRUPT", NULL, "");
        g_hash_table_unref(back_up(bus, 0));
        g_autofree char *content = read_file(file, &size);
        _cleanup_message_ sd_bus_message *reply = call(bus, ROOT, "LicenseBackup.OpenBackup", "");
        assert_true(sd_bus_message_read(reply, "h", &fd) > 0);
        assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
        assert_int_equal(lseek(fd, 0, SEEK_CUR), 0);

        /* A later backup leaves this descriptor as it is. */
        store_simple(bus, "two");
        g_hash_table_unref(back_up(bus, 1));
        g_autofree char *found = g_malloc(size + 1);
        assert_int_equal(read(fd, found, size + 1), size);
        assert_memory_equal(found, content, size);
        assert_int_equal(write(fd, "x", 1), -1);
}

static void test_canceled_backup_leaves_the_old_one(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *file = default_file(h);
        size_t size;
        store_many(bus, "a", 5000, 2000);
        g_hash_table_unref(back_up(bus, 0));
        g_autofree char *before = read_file(file, &size);
        store_simple(bus, "another");
        unsigned canceled = 0;

        for (unsigned i = 0; i < 20; i++) {
                g_auto(JobEnd) end = {};
                g_autofree char *job = call_string(bus, ROOT, BACKUP, "u", 1);
                sleep_msec(i);
                call_void(bus, job, "Job.Cancel", "");
                job_wait(bus, job, &end);
                if (end.hresult == 0)
                        break; /* it was too quick, and later ones would be, too */
                assert_string_equal(end.error, "org.licensevault1.Error.NS_E_DRM_OPERATION_CANCELED");
                assert_file_equal(file, before, size);
                assert_no_leftovers(h, 1);
                canceled++;
        }
        assert_true(canceled > 0);
}

static void test_killed_daemon_leaves_the_old_backup_and_no_more(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *file = default_file(h);
        size_t size;
        store_many(bus, "a", 5000, 2000);
        g_hash_table_unref(back_up(bus, 0));
        g_free(read_file(file, &size));

        for (unsigned i = 0; i < 5; i++) {
                g_free(call_string(bus, ROOT, BACKUP, "u", 1));
                sleep_msec(i * 10);
                harness_kill(h);
                harness_start(h);
                /* The old one or a whole new one: they differ in times, not in size. */
                size_t now;
                g_free(read_file(file, &now));
                assert_int_equal(now, size);
                assert_no_leftovers(h, 1);
        }
        g_hash_table_unref(back_up(bus, 1));
}

static void use_media(Harness *h, sd_bus *bus, const char *name, char **ret_folder) {
        *ret_folder = g_strdup_printf("%s/%u%s%s", h->media, (unsigned)h->users[0], *name ? "/" : "", name);
        call_void(bus, ROOT, "BackupRestoreProps.SetProp", "sv", "BackupPath", "s", *ret_folder);
}

static int setup_media(void **state) {
        harness_setup_bus(state);
        Harness *h = *state;
        harness_set(h, "Backup", "Roots", h->media);
        harness_start(h);
        return 0;
}

/* A backup must fail, at once or in its job, and the error must be one of these two. */
static void assert_backup_fails(sd_bus *bus, const char *error, const char *other) {
        g_autofree char *name = full_error_name(error), *other_name = full_error_name(other);
        sd_bus_message *message = new_call(bus, ROOT, BACKUP);
        _cleanup_message_ sd_bus_message *reply = NULL;
        sd_bus_error found = SD_BUS_ERROR_NULL;
        g_auto(JobEnd) end = {};

        assert_true(sd_bus_message_append(message, "u", 1) >= 0);
        if (sd_bus_call(bus, message, 0, &found, &reply) >= 0) {
                const char *job;
                assert_true(sd_bus_message_read(reply, "o", &job) > 0);
                job_wait(bus, job, &end);
        } else {
                end.error = g_strdup(found.name);
                end.message = g_strdup(found.message);
        }
        if (strcmp(end.error, name) != 0 && strcmp(end.error, other_name) != 0)
                fail_msg("Expected %s, got %s, '%s'", name, end.error, end.message);
        assert_sentence(end.message, NULL);
        sd_bus_error_free(&found);
        sd_bus_message_unref(message);
}

static void test_link_in_the_path_is_refused(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *folder = NULL, *elsewhere = harness_path(h, "elsewhere");
        use_media(h, bus, "link", &folder);
        assert_int_equal(mkdir(elsewhere, 0777), 0);
        assert_int_equal(symlink(elsewhere, folder), 0);

        assert_backup_fails(bus, "AccessDenied", "NS_E_BACKUP_RESTORE_FAILURE");
        assert_int_equal(count_names(elsewhere), 0);
}

static void test_link_as_the_backup_is_not_followed(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *folder = NULL, *victim = harness_path(h, "victim");
        use_media(h, bus, "", &folder);
        g_autofree char *file = g_strconcat(folder, "/licenses.tar", NULL);
        sd_bus_error error = SD_BUS_ERROR_NULL;
        struct stat st;
        write_file(victim, "precious", 8);
        assert_int_equal(symlink(victim, file), 0);

        call_error(bus, ROOT, BACKUP, "NS_E_DRM_BACKUP_EXISTS", NULL, "u", 0);
        sd_bus_message *message = new_call(bus, ROOT, "LicenseBackup.OpenBackup");
        assert_true(sd_bus_call(bus, message, 0, &error, NULL) < 0);
        assert_sentence(error.message, NULL);
        sd_bus_error_free(&error);
        sd_bus_message_unref(message);

        g_hash_table_unref(back_up(bus, 1));
        assert_int_equal(lstat(file, &st), 0);
        assert_true(S_ISREG(st.st_mode));
        assert_file_equal(victim, "precious", 8);
}

static void test_open_backup_of_no_file_does_not_hang(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *folder = NULL;
        use_media(h, bus, "", &folder);
        g_autofree char *file = g_strconcat(folder, "/licenses.tar", NULL);
        assert_int_equal(mkfifo(file, 0600), 0);

        sd_bus_message *message = new_call(bus, ROOT, "LicenseBackup.OpenBackup");
        assert_int_not_equal(sd_bus_call(bus, message, 10 * UINT64_C(1000000), NULL, NULL), -ETIMEDOUT);
        sd_bus_message_unref(message);
        store_simple(bus, "one");
}

/* Whoever makes files there itself has no need of the service to fill a disk, and may keep more than a user opens. */
static void test_open_backup_counts_nothing_in_a_folder_that_others_write_to(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *folder = NULL;
        use_media(h, bus, "", &folder);
        g_autofree char *file = g_build_filename(folder, "licenses.tar", NULL);
        assert_int_equal(chmod(folder, 0770), 0);

        for (unsigned i = 0; i < 2 * BACKUPS_OPEN_MAX; i++) {
                g_autofree char *kept = g_strdup_printf("%s/%u.tar", folder, i);

                g_hash_table_unref(back_up(bus, 0));
                call_void(bus, ROOT, "LicenseBackup.OpenBackup", "");
                assert_int_equal(rename(file, kept), 0);
        }
}

/* In a configured root even the user's own folder: what is not mounted must not be filled beneath. */
static void test_folder_that_is_gone_fails_with_the_medium(void **state) {
        static const char *const names[] = { "", "stick" };
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);

        for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
                g_autofree char *folder = NULL;
                use_media(h, bus, names[i], &folder);
                if (i == 0)
                        assert_int_equal(rmdir(folder), 0);

                assert_backup_fails(bus, "NS_E_BACKUP_RESTORE_FAILURE", "NS_E_BACKUP_RESTORE_FAILURE");
                assert_int_not_equal(access(folder, F_OK), 0);
                assert_int_equal(mkdir(folder, 0700), 0);
                g_hash_table_unref(back_up(bus, 0));
                assert_int_equal(count_names(folder), 1);
        }
}

static void test_backup_that_appears_meanwhile_is_not_replaced(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *folder = NULL;
        use_media(h, bus, "", &folder);
        g_autofree char *file = g_strconcat(folder, "/licenses.tar", NULL);
        store_many(bus, "a", 5000, 2000);

        g_autofree char *job = call_string(bus, ROOT, BACKUP, "u", 0);
        /* Never empty, not for a moment: that is what a kill leaves on FAT, and is tidied away. */
        int fd = open(folder, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, "x", 1), 1);
        g_autofree char *draft = g_strdup_printf("/proc/self/fd/%d", fd);
        int r = linkat(AT_FDCWD, draft, AT_FDCWD, file, AT_SYMLINK_FOLLOW);
        close(fd);
        if (r < 0) {
                print_message("skipped: the backup was quicker than the test\n");
                skip();
        }
        assert_job_fails(bus, job, "NS_E_DRM_BACKUP_EXISTS", NULL);
        assert_file_equal(file, "x", 1);
        assert_int_equal(count_names(folder), 1);
}

static void test_change_of_the_path_counts_from_the_next_job_on(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *folder = NULL, *file = default_file(h);
        store_many(bus, "a", 5000, 2000);

        g_autofree char *job = call_string(bus, ROOT, BACKUP, "u", 0);
        use_media(h, bus, "", &folder);
        g_hash_table_unref(assert_job_succeeds(bus, job));
        assert_int_equal(access(file, F_OK), 0);
        assert_int_equal(count_names(folder), 0);
        g_hash_table_unref(back_up(bus, 0));
        assert_int_equal(count_names(folder), 1);
}

static void test_licenses_stored_during_a_backup_do_not_show_in_it(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_auto(StuckJob) stuck = {};
        store_simple(bus, "one");
        stuck_job_start(bus, &stuck);

        store_simple(bus, "two");
        stuck_job_drain(bus, &stuck);
        g_autoptr(GHashTable) result = assert_job_succeeds(bus, stuck.path);
        assert_property(result, "licenses", "1");
}

/* From the second call on the answer waits for no thread, and is the same. */
static void test_answer_at_once_is_a_true_one(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *file = default_file(h), *folder = NULL;
        store_simple(bus, "one");

        for (unsigned i = 0; i < 3; i++) {
                g_hash_table_unref(back_up(bus, 0));
                call_error(bus, ROOT, BACKUP, "NS_E_DRM_BACKUP_EXISTS", NULL, "u", 0);
                g_hash_table_unref(back_up(bus, 1));
                assert_int_equal(unlink(file), 0);
        }

        /* Set and removed paths count from the next call on. */
        use_media(h, bus, "", &folder);
        g_autofree char *other = g_build_filename(folder, "licenses.tar", NULL);
        g_hash_table_unref(back_up(bus, 1));
        assert_int_equal(access(other, F_OK), 0);
        assert_int_not_equal(access(file, F_OK), 0);
        call_void(bus, ROOT, "BackupRestoreProps.RemoveProp", "s", "BackupPath");
        g_hash_table_unref(back_up(bus, 1));
        assert_int_equal(access(file, F_OK), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)
#define MEDIA_TEST(name) cmocka_unit_test_setup_teardown(name, setup_media, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_backup_is_there_when_done_says_so),
                TEST(test_existing_backup_stays_without_the_flag),
                TEST(test_unknown_flags_are_refused),
                TEST(test_open_backup_gives_the_file_for_reading),
                TEST(test_canceled_backup_leaves_the_old_one),
                TEST(test_killed_daemon_leaves_the_old_backup_and_no_more),
                MEDIA_TEST(test_answer_at_once_is_a_true_one),
                MEDIA_TEST(test_link_in_the_path_is_refused),
                MEDIA_TEST(test_link_as_the_backup_is_not_followed),
                MEDIA_TEST(test_open_backup_of_no_file_does_not_hang),
                MEDIA_TEST(test_open_backup_counts_nothing_in_a_folder_that_others_write_to),
                MEDIA_TEST(test_folder_that_is_gone_fails_with_the_medium),
                MEDIA_TEST(test_backup_that_appears_meanwhile_is_not_replaced),
                MEDIA_TEST(test_change_of_the_path_counts_from_the_next_job_on),
                TEST(test_licenses_stored_during_a_backup_do_not_show_in_it),
        };

        return cmocka_run_group_tests_name("backup-path", tests, NULL, NULL);
}
