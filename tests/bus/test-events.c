/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the administrator is told: what is wrong with the store and with the service's folders, once and not with each
 * call; and what is between a client and the service is told to that client alone.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "restores.h"

#define BACKUP "LicenseBackup.BackupLicenses"
#define BACKUP_FILE "LicenseBackup.BackupLicensesToFile"
/* It may be one license that is damaged, and its name goes into no log. */
#define DAMAGE_TOLD \
        "The license store, or a license in it, is damaged. See which with licensevaultd --check. " \
        "(NS_E_DRM_DATASTORE_CORRUPT)\n"
/* So often does each test what must be told once. */
#define OFTEN 10U

static unsigned count_in_log(Harness *h, const char *text) {
        g_autofree char *log = harness_log(h);
        unsigned n = 0;

        for (const char *place = log; (place = strstr(place, text)); place += strlen(text))
                n++;
        return n;
}

#define assert_log(h, text, n) do { \
                unsigned n_ = count_in_log(h, text); \
                g_autofree char *log_ = harness_log(h); \
                if (n_ != (n)) \
                        fail_msg("%u times '%s' in the log:\n%s", n_, text, log_); \
        } while (0)

/* The job of this kind of users[user] failed so. */
static void assert_log_job(Harness *h, const char *kind, unsigned user, const char *error, unsigned n) {
        g_autofree char *line = g_strdup_printf(
                "A %s of user %u failed: %s\n", kind, (unsigned)h->users[user], error);

        assert_log(h, line, n);
}

/* A backup or a restore that must fail, as the method's error or as the job's. */
static void must_fail(sd_bus *bus, const char *member, const char *error) {
        g_autofree char *name = full_error_name(error);
        sd_bus_message *message = new_call(bus, ROOT, member);
        _cleanup_message_ sd_bus_message *reply = NULL;
        sd_bus_error found = SD_BUS_ERROR_NULL;
        const char *job;

        assert_true(sd_bus_message_append(message, "u", 0) >= 0);
        if (sd_bus_call(bus, message, 0, &found, &reply) >= 0) {
                assert_true(sd_bus_message_read(reply, "o", &job) > 0);
                assert_job_fails(bus, job, error, NULL);
        } else
                assert_string_equal(found.name, name);
        sd_bus_error_free(&found);
        sd_bus_message_unref(message);
}

/* To a pipe that nobody reads any more; how the job ends, the caller looks at. */
static char *back_up_to_nobody(sd_bus *bus) {
        int fds[2];
        char *job;

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        close(fds[0]);
        job = call_string(bus, ROOT, BACKUP_FILE, "hua{sv}", fds[1], 0, 0);
        close(fds[1]);
        return job;
}

static char *default_file(Harness *h) {
        return g_strdup_printf("%s/backups/%u/licenses.tar", h->state, (unsigned)h->users[0]);
}

/* The store */

static void test_store_that_is_no_store_is_told_at_the_start_and_once(void **state) {
        Harness *h = *state;
        g_autofree char *path = g_build_filename(h->state, "licenses.db", NULL);
        g_autofree uint8_t *garbage = make_document(50000, 1);
        write_file(path, garbage, 50000);
        harness_start(h);
        assert_log(h, "(NS_E_DRM_DATASTORE_CORRUPT)\n", 1);

        sd_bus *bus = harness_connect(h, 0);
        for (unsigned i = 0; i < OFTEN; i++) {
                call_error(bus, ROOT, "LicenseStore.GetLicense", "NS_E_DRM_DATASTORE_CORRUPT", NULL, "s", "id");
                call_error(bus, ROOT, BACKUP, "NS_E_DRM_DATASTORE_CORRUPT", NULL, "u", 0);
        }
        assert_log(h, "NS_E_DRM_DATASTORE_CORRUPT", 1);
}

/* Moved away, or on a disk that is not mounted: an empty store is what a new machine has, and says nothing. */
static void test_empty_store_beside_backups_is_told_at_the_start(void **state) {
        static const char told[] = "There was no license store, and an empty one was made; but there are backups in '";
        Harness *h = *state;
        g_autofree char *path = g_build_filename(h->state, "licenses.db", NULL);
        harness_start(h);
        store_simple(harness_connect(h, 0), "id");
        harness_stop(h);
        assert_int_equal(unlink(path), 0);
        harness_start(h);
        assert_log(h, told, 0);

        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "id");
        g_autofree char *job = call_string(bus, ROOT, BACKUP, "u", 0);
        g_hash_table_unref(assert_job_succeeds(bus, job));
        harness_stop(h);
        harness_start(h);
        assert_log(h, told, 0);
        harness_stop(h);
        assert_int_equal(unlink(path), 0);
        harness_start(h);
        assert_log(h, told, 1);
}

/* Spoils a text in a file of the daemon's, which must not run. */
static void spoil(const char *path, const char *text) {
        char *content, *place;
        size_t size;

        content = read_file(path, &size);
        place = memmem(content, size, text, strlen(text));
        assert_non_null(place);
        *place ^= 1;
        write_file(path, content, size);
        g_free(content);
}

/* A daemon whose store has one license, damaged. */
static sd_bus *start_with_damage(Harness *h) {
        g_autofree char *path = g_build_filename(h->state, "licenses.db", NULL);

        harness_start(h);
        store_simple(harness_connect(h, 0), "rotten");
        harness_stop(h);
        spoil(path, "the document of rotten");
        harness_start(h);
        assert_log(h, "NS_E_DRM_DATASTORE_CORRUPT", 0);
        return harness_connect(h, 0);
}

static void test_damage_that_a_call_meets_is_told_once_and_without_the_license(void **state) {
        Harness *h = *state;
        sd_bus *bus = start_with_damage(h);

        for (unsigned i = 0; i < OFTEN; i++)
                call_error(bus, ROOT, "LicenseStore.GetLicense", "NS_E_DRM_DATASTORE_CORRUPT", "*rotten*", "s",
                        "rotten");
        assert_log(h, DAMAGE_TOLD, 1);
        assert_log(h, "NS_E_DRM_DATASTORE_CORRUPT", 1);
        assert_log(h, "rotten", 0);
}

static void test_damage_that_a_backup_meets_is_told_once_and_without_the_license(void **state) {
        Harness *h = *state;
        sd_bus *bus = start_with_damage(h);

        for (unsigned i = 0; i < OFTEN; i++)
                must_fail(bus, BACKUP, "NS_E_DRM_DATASTORE_CORRUPT");
        assert_log(h, DAMAGE_TOLD, 1);
        assert_log_job(h, "backup", 0, "NS_E_DRM_DATASTORE_CORRUPT", 1);
        assert_log(h, "NS_E_DRM_DATASTORE_CORRUPT", 2);
        assert_log(h, "rotten", 0);
}

static void refuse_to_store(Harness *h, const char *setting, const char *value, unsigned n_told) {
        g_autofree char *words = g_strdup_printf("*%s=*", setting), *line = g_strdup_printf("(%s=)", setting);
        g_autofree uint8_t *document = make_document(20000, 1);
        harness_set(h, "Limits", setting, value);
        harness_start(h);
        sd_bus *bus = harness_connect(h, 0);

        for (unsigned i = 0; i < OFTEN; i++)
                store_license_error(bus, "LimitsExceeded", words, document, 20000, "a{sv}", 1, "LicenseId", "s", "id");
        assert_log(h, line, n_told);
}

static void test_disk_without_room_is_told_once(void **state) {
        Harness *h = *state;
        refuse_to_store(h, "MinimumFreePercent", "100", 1);
        sd_bus *bus = harness_connect(h, 0);

        /* The same disk, so that there is no more to say of it; but of the backup. */
        for (unsigned i = 0; i < OFTEN; i++)
                must_fail(bus, BACKUP, "LimitsExceeded");
        assert_log_job(h, "backup", 0, "LimitsExceeded", 1);
        assert_log(h, "MinimumFreePercent=", 1);
}

static void test_store_at_its_limit_is_told_once(void **state) {
        refuse_to_store(*state, "StoreBytes", "1", 1);
}

static void test_limit_of_a_user_is_not_told(void **state) {
        refuse_to_store(*state, "BytesPerUser", "100", 0);
}

/* As the client got it: its HRESULT has the name of a disk that cannot be written. */
static void test_limit_that_a_restore_meets_is_logged_by_the_name_of_the_client(void **state) {
        Harness *h = *state;
        harness_start(h);
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "one");
        g_autofree char *job = call_string(bus, ROOT, BACKUP, "u", 0);
        g_hash_table_unref(assert_job_succeeds(bus, job));
        harness_stop(h);

        harness_set(h, "Limits", "DocumentBytes", "5");
        harness_start(h);
        bus = harness_connect(h, 0);
        g_autofree char *restore = call_string(bus, ROOT, RESTORE_PATH, "u", own_flags());
        assert_job_fails(bus, restore, "LimitsExceeded", NULL);
        assert_log_job(h, "restore", 0, "LimitsExceeded", 1);
        assert_log(h, "NS_E_", 0);
}

/* Mounts a small disk where the state will be. Only this process, and what it starts, sees it. */
static void mount_small_disk(Harness *h) {
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("tmpfs", h->state, "tmpfs", 0, "size=4m,mode=0700") < 0) {
                print_message("skipped: no mounts of our own here\n");
                skip();
        }
}

static void test_full_disk_is_told_once(void **state) {
        Harness *h = *state;
        g_autofree uint8_t *document = make_document(200000, 1);
        unsigned n_failed = 0;
        mount_small_disk(h);
        harness_start(h);
        sd_bus *bus = harness_connect(h, 0);

        for (unsigned i = 0; i < 100 && n_failed < OFTEN; i++) {
                g_autofree char *id = g_strdup_printf("id%u", i);
                sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.StoreLicense");
                sd_bus_error error = SD_BUS_ERROR_NULL;

                assert_true(sd_bus_message_append_array(message, 'y', document, 200000) >= 0);
                assert_true(sd_bus_message_append(message, "a{sv}", 1, "LicenseId", "s", id) >= 0);
                if (sd_bus_call(bus, message, 0, &error, NULL) < 0) {
                        assert_string_equal(error.name, "org.licensevault1.Error.NS_E_DRM_LICENSE_STORE_SAVE_ERROR");
                        n_failed++;
                }
                sd_bus_error_free(&error);
                sd_bus_message_unref(message);
        }
        assert_int_equal(n_failed, OFTEN);
        assert_log(h, "The license store cannot be written: No space left on device.", 1);

        /* A client's pipe, but the service's disk on which the backup is built: it is not the client's doing. */
        for (unsigned i = 0; i < OFTEN; i++) {
                g_autofree char *job = back_up_to_nobody(bus);
                assert_job_fails(bus, job, "NS_E_BACKUP_RESTORE_FAILURE", NULL);
        }
        assert_log_job(h, "backup", 0, "NS_E_BACKUP_RESTORE_FAILURE", 1);
        harness_stop(h);
        assert_int_equal(umount2(h->state, MNT_DETACH), 0);
}

/* Folders */

static int setup_media(void **state) {
        harness_setup_bus(state);
        Harness *h = *state;
        harness_set(h, "Backup", "Roots", h->media);
        harness_start(h);
        return 0;
}

/* Sets a user's BackupPath to a folder that is not there. */
static sd_bus *connect_without_folder(Harness *h, unsigned user) {
        g_autofree char *folder = g_strdup_printf("%s/%u/gone", h->media, (unsigned)h->users[user]);
        sd_bus *bus = harness_connect(h, user);

        call_void(bus, ROOT, "BackupRestoreProps.SetProp", "sv", "BackupPath", "s", folder);
        return bus;
}

static void test_backup_without_its_folder_is_told_once(void **state) {
        Harness *h = *state;
        sd_bus *bus = connect_without_folder(h, 0);

        for (unsigned i = 0; i < OFTEN; i++)
                must_fail(bus, BACKUP, "NS_E_BACKUP_RESTORE_FAILURE");
        assert_log_job(h, "backup", 0, "NS_E_BACKUP_RESTORE_FAILURE", 1);
        /* A folder that a user chose is nobody else's affair. */
        assert_log(h, "gone", 0);
}

static void test_failure_of_one_user_does_not_hide_anothers(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        sd_bus *first = connect_without_folder(h, 0), *second = connect_without_folder(h, 1);

        for (unsigned i = 0; i < OFTEN; i++) {
                must_fail(first, BACKUP, "NS_E_BACKUP_RESTORE_FAILURE");
                must_fail(second, BACKUP, "NS_E_BACKUP_RESTORE_FAILURE");
        }
        assert_log_job(h, "backup", 0, "NS_E_BACKUP_RESTORE_FAILURE", 1);
        assert_log_job(h, "backup", 1, "NS_E_BACKUP_RESTORE_FAILURE", 1);
}

static void test_damaged_backup_in_the_folder_is_told_once(void **state) {
        Harness *h = *state;
        g_autofree char *file = default_file(h);
        harness_start(h);
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "one");
        g_autofree char *job = call_string(bus, ROOT, BACKUP, "u", 0);
        g_hash_table_unref(assert_job_succeeds(bus, job));
        spoil(file, "the document of one");

        for (unsigned i = 0; i < OFTEN; i++)
                must_fail(bus, RESTORE_PATH, "NS_E_DRM_BACKUP_CORRUPT");
        assert_log_job(h, "restore", 0, "NS_E_DRM_BACKUP_CORRUPT", 1);
        assert_log(h, "licenses.tar", 0);
}

/* From its very start, so that it does not even say whose it is: the call is refused, and no job begins. */
static void test_backup_that_cannot_be_recognised_is_told_once(void **state) {
        Harness *h = *state;
        g_autofree char *file = default_file(h), *folder = g_path_get_dirname(file);
        g_autofree uint8_t *garbage = make_document(5000, 1);
        harness_start(h);
        assert_int_equal(g_mkdir_with_parents(folder, 0700), 0);
        write_file(file, garbage, 5000);
        sd_bus *bus = harness_connect(h, 0);

        for (unsigned i = 0; i < OFTEN; i++) {
                /*
                 * The thread of a call that was refused counts until it has closed its files: at most 4 of a user do.
                 */
                g_usleep(100 * 1000);
                call_error(bus, ROOT, RESTORE_PATH, "NS_E_DRM_BACKUP_CORRUPT", "*damaged*", "u", 0);
        }
        assert_log_job(h, "restore", 0, "NS_E_DRM_BACKUP_CORRUPT", 1);
}

/* With each start and each reload, for that is how one finds out whether it is mended. */
static void test_root_that_cannot_be_written_is_told_each_time(void **state) {
        Harness *h = *state;
        g_autofree char *root = harness_path(h, "missing");
        harness_listen_notify(h);
        harness_set(h, "Backup", "Roots", root);
        harness_start(h);
        harness_expect_notify(h, "READY=1");
        harness_expect_log(h, "Backups cannot go to the root");

        harness_write_settings(h);
        kill(h->daemon, SIGHUP);
        harness_expect_notify(h, "RELOADING=1");
        harness_expect_notify(h, "READY=1");
        for (unsigned i = 0; i < PATIENCE_SEC * 50 && count_in_log(h, "Backups cannot go to the root") < 2; i++)
                sleep_msec(20);
        assert_log(h, "Backups cannot go to the root", 2);
}

/* What is the client's own */

static void test_failing_descriptors_of_a_client_are_a_line_of_each_kind(void **state) {
        Harness *h = *state;
        harness_start(h);
        sd_bus *bus = harness_connect(h, 0);
        g_autofree uint8_t *garbage = make_document(5000, 1);
        g_autofree char *file = harness_path(h, "garbage");
        write_file(file, garbage, 5000);

        /* A client could fill the log with them. */
        for (unsigned i = 0; i < 3; i++) {
                g_autofree char *backup = back_up_to_nobody(bus);
                assert_job_fails(bus, backup, "NS_E_BACKUP_RESTORE_FAILURE", NULL);
                g_autofree char *restore = start_restore(h, bus, "garbage", 0);
                assert_job_fails(bus, restore, "NS_E_DRM_BACKUP_CORRUPT", NULL);
                g_autofree char *verify = start_verify(h, bus, "garbage");
                assert_job_fails(bus, verify, "NS_E_DRM_BACKUP_CORRUPT", NULL);
        }
        assert_log_job(h, "backup", 0, "NS_E_BACKUP_RESTORE_FAILURE", 1);
        assert_log_job(h, "restore", 0, "NS_E_DRM_BACKUP_CORRUPT", 1);
        assert_log_job(h, "check", 0, "NS_E_DRM_BACKUP_CORRUPT", 1);
}

static void test_what_is_set_aside_again_and_again_is_a_line(void **state) {
        Harness *h = *state;
        g_autofree char *file = default_file(h);
        harness_start(h);
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "id");

        /* In a root a user's folder may be his: he puts there what he likes, as often as he likes. */
        for (unsigned i = 0; i <= OFTEN; i++) {
                g_autofree char *job = call_string(bus, ROOT, BACKUP, "u", 1);

                g_hash_table_unref(assert_job_succeeds(bus, job));
                write_file(file, "no backup", 9);
        }
        assert_log(h, ", is kept as 'licenses-of-former-user-", 1);
}

static void test_refusals_and_cancels_are_not_told(void **state) {
        Harness *h = *state;
        harness_start(h);
        sd_bus *bus = harness_connect(h, 0);
        g_auto(StuckJob) stuck = {};
        store_simple(bus, "one");

        must_fail(bus, RESTORE_PATH, "NS_E_DRM_BACKUP_CORRUPT"); /* there is none */
        g_autofree char *job = call_string(bus, ROOT, BACKUP, "u", 0);
        g_hash_table_unref(assert_job_succeeds(bus, job));
        must_fail(bus, BACKUP, "NS_E_DRM_BACKUP_EXISTS");
        stuck_job_start(bus, &stuck);
        must_fail(bus, BACKUP, "NS_E_DRM_BACKUPRESTORE_BUSY");
        call_void(bus, ROOT, "LicenseBackup.CancelLicenseBackup", "");
        assert_job_fails(bus, stuck.path, "NS_E_DRM_OPERATION_CANCELED", NULL);
        assert_log(h, "failed", 0);
        assert_log(h, "NS_E", 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup_bus, harness_teardown)
#define MEDIA_TEST(name) cmocka_unit_test_setup_teardown(name, setup_media, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_store_that_is_no_store_is_told_at_the_start_and_once),
                TEST(test_empty_store_beside_backups_is_told_at_the_start),
                TEST(test_damage_that_a_call_meets_is_told_once_and_without_the_license),
                TEST(test_damage_that_a_backup_meets_is_told_once_and_without_the_license),
                TEST(test_disk_without_room_is_told_once),
                TEST(test_store_at_its_limit_is_told_once),
                TEST(test_limit_of_a_user_is_not_told),
                TEST(test_limit_that_a_restore_meets_is_logged_by_the_name_of_the_client),
                TEST(test_full_disk_is_told_once),
                MEDIA_TEST(test_backup_without_its_folder_is_told_once),
                MEDIA_TEST(test_failure_of_one_user_does_not_hide_anothers),
                TEST(test_damaged_backup_in_the_folder_is_told_once),
                TEST(test_backup_that_cannot_be_recognised_is_told_once),
                TEST(test_root_that_cannot_be_written_is_told_each_time),
                TEST(test_failing_descriptors_of_a_client_are_a_line_of_each_kind),
                TEST(test_what_is_set_aside_again_and_again_is_a_line),
                TEST(test_refusals_and_cancels_are_not_told),
        };

        return cmocka_run_group_tests_name("events", tests, NULL, NULL);
}
