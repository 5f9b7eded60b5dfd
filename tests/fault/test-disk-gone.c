/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Disks that are pulled, fail or lie, and clocks that go back. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk.h"
#include "restores.h"

#define SAVE_ERROR "NS_E_DRM_LICENSE_STORE_SAVE_ERROR"
#define READ_ERROR "NS_E_DRM_LICENSE_STORE_ERROR"
#define MEDIUM "NS_E_BACKUP_RESTORE_FAILURE"
#define PLAIN "none,has_journal,extent,filetype"

static Harness *world(void **state) {
        if (!*state)
                skip();
        return *state;
}

static sd_bus *prepare_media(Harness *h, unsigned licenses, size_t size) {
        g_autofree char *media = disk_media(h);
        sd_bus *bus;

        assert_int_equal(mkdir(media, 0700), 0);
        disk_start(h);
        bus = harness_connect(h, 0);
        store_many(bus, "a", licenses, size);
        call_void(bus, ROOT, "BackupRestoreProps.SetProp", "sv", "BackupPath", "s", media);
        call_void(bus, ROOT, "BackupRestoreProps.SetProp", "sv", "RestorePath", "s", media);
        disk_back_up(bus, 0);
        return bus;
}

/* Starts a backup that takes a while, and waits until it has written some. */
static char *start_slowly(sd_bus *bus, uint32_t flags) {
        uint64_t before = disk_meddling->written;
        char *job;

        disk_meddling->slow_write_usec = 20000;
        job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", flags);
        while (disk_meddling->written < before + 200000)
                sleep_msec(1);
        return job;
}

static void assert_backup_is_whole(const char *path) {
        g_autofree char *said = NULL;

        if (run_program((const char *[]) { g_getenv("LICENSEVAULTCTL"), "verify", path, NULL }, NULL, &said) != 0)
                fail_msg("%s: %s", path, said);
}

/* What the service says of a backup is true: it is not where it was asked for. */
static void test_disk_pulled_during_a_backup(void **state) {
        Harness *h = world(state);
        g_autofree char *image = harness_path(h, "image"), *media = disk_media(h);
        g_autofree char *file = g_build_filename(media, "licenses.tar", NULL);
        g_setenv("DBUS_SYSTEM_BUS_ADDRESS", h->address, true);
        disk_make_ext4(image, 32, PLAIN);
        disk_mount_image(image, h->media, "noatime");
        sd_bus *bus = prepare_media(h, 8, 300000);
        pid_t pid = h->daemon;
        store_simple(bus, "new");

        g_autofree char *job = start_slowly(bus, 1);
        disk_pull(h->media);
        disk_meddling->slow_write_usec = 0;
        assert_job_fails(bus, job, MEDIUM, "*is not there any more*");
        disk_assert_alive(h, bus, pid);
        call_error(bus, ROOT, "LicenseBackup.BackupLicenses", MEDIUM, "*No such file or directory*", "u", 1);

        /* It comes back: with what was there, or with what was finished when it was pulled. */
        disk_mount_image(image, h->media, "noatime");
        assert_backup_is_whole(file);
        assert_int_equal(count_names(media), 1);
        disk_back_up(bus, 1);
        disk_unmount_patiently(h->media);
}

static void test_memory_disk_pulled_during_a_backup(void **state) {
        Harness *h = world(state);
        g_autofree char *media = disk_media(h);
        disk_mount_memory(h->media, 32 * 1024);
        sd_bus *bus = prepare_media(h, 8, 300000);
        pid_t pid = h->daemon;

        g_autofree char *job = start_slowly(bus, 1);
        disk_pull(h->media);
        disk_meddling->slow_write_usec = 0;
        assert_job_fails(bus, job, MEDIUM, "*is not there any more*");
        call_error(bus, ROOT, "LicenseBackup.BackupLicenses", MEDIUM, "*No such file or directory*", "u", 1);
        disk_mount_memory(h->media, 32 * 1024);
        assert_int_equal(mkdir(media, 0700), 0);
        disk_back_up(bus, 0);
        disk_assert_alive(h, bus, pid);
}

/* Another disk came in its place while the backup ran: that one has no new backup. */
static void test_disk_exchanged_during_a_backup(void **state) {
        Harness *h = world(state);
        g_autofree char *media = disk_media(h);
        disk_mount_memory(h->media, 32 * 1024);
        sd_bus *bus = prepare_media(h, 8, 300000);

        g_autofree char *job = start_slowly(bus, 1);
        disk_pull(h->media);
        disk_mount_memory(h->media, 32 * 1024);
        assert_int_equal(mkdir(media, 0700), 0);
        disk_meddling->slow_write_usec = 0;
        assert_job_fails(bus, job, MEDIUM, "*is not there any more*");
        assert_int_equal(count_names(media), 0);
        disk_back_up(bus, 0);
}

/* What is open stays readable; the next one finds nothing. */
static void test_disk_pulled_during_a_restore(void **state) {
        Harness *h = world(state);
        g_autofree char *image = harness_path(h, "image");
        disk_make_ext4(image, 64, PLAIN);
        disk_mount_image(image, h->media, "noatime");
        sd_bus *bus = prepare_media(h, 30, 900000);
        pid_t pid = h->daemon;
        JobEnd end = {};

        for (unsigned i = 0; i < 30; i += 3) {
                g_autofree char *id = g_strdup_printf("a%05u", i);
                delete_license(bus, id);
        }
        g_autofree char *before = snapshot_licenses(bus);
        g_autofree char *job = call_string(bus, ROOT, RESTORE_PATH, "u", AGREE);
        disk_pull(h->media);
        job_wait(bus, job, &end);
        if (end.hresult < 0) {
                g_autofree char *medium = full_error_name(MEDIUM);
                assert_string_equal(end.error, medium);
                assert_snapshot(bus, before);
        }
        job_end_clear(&end);
        call_error(bus, ROOT, RESTORE_PATH, MEDIUM, "*No such file or directory*", "u", AGREE);
        disk_mount_image(image, h->media, "noatime");
        g_autofree char *again = call_string(bus, ROOT, RESTORE_PATH, "u", AGREE);
        g_hash_table_unref(assert_job_succeeds(bus, again));
        call_void(bus, ROOT, "LicenseStore.ConsumeRight", "sst", "a00000", "any", UINT64_C(1));
        disk_assert_alive(h, bus, pid);
}

/*
 * The errors that a device has that ends too soon: the kernel takes what is written, and fails when it brings it to
 * the device; after that, ext4 turns read-only.
 */
static void assert_device_failed(const char *message) {
        if (!strstr(message, "Input/output error") && !strstr(message, "Read-only file system"))
                fail_msg("It is not said why: %s", message);
}

static void mend(const char *image, const char *path) {
        disk_cut_device(path, 0);
        disk_unmount_patiently(path);
        (void)run_program((const char *[]) { "e2fsck", "-fy", image, NULL }, NULL, NULL);
        disk_mount_image(image, path, "noatime,errors=remount-ro");
}

static void test_device_that_fails_when_a_backup_is_written(void **state) {
        Harness *h = world(state);
        g_autofree char *image = harness_path(h, "image");
        g_autofree char *media = disk_media(h), *file = g_build_filename(media, "licenses.tar", NULL);
        disk_make_ext4(image, 64, PLAIN);
        disk_mount_image(image, h->media, "noatime,errors=remount-ro");
        sd_bus *bus = prepare_media(h, 2, 300000);
        pid_t pid = h->daemon;
        store_many(bus, "b", 4, 900000);

        JobEnd end = {};

        /* The kernel tells its console of each block, which takes its time. */
        disk_cut_device(h->media, 6);
        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 1);
        job_wait(bus, job, &end);
        assert_true(end.hresult < 0);
        assert_device_failed(end.message);
        job_end_clear(&end);
        disk_assert_alive(h, bus, pid);
        mend(image, h->media);
        assert_backup_is_whole(file);
        assert_int_equal(count_names(media), 1);
        disk_back_up(bus, 1);
        assert_backup_is_whole(file);
        harness_stop(h);
        disk_unmount_patiently(h->media);
}

static void test_device_that_fails_below_the_store(void **state) {
        Harness *h = world(state);
        g_autofree char *image = harness_path(h, "image");
        disk_make_ext4(image, 64, PLAIN);
        disk_mount_image(image, h->state, "noatime,errors=remount-ro");
        disk_start(h);
        sd_bus *bus = harness_connect(h, 0);
        pid_t pid = h->daemon;
        unsigned n = 0;

        store_many(bus, "kept", 5, 3000);
        disk_cut_device(h->state, 12);
        for (bool failed = false; !failed; n++) {
                g_autofree char *id = g_strdup_printf("b%05u", n);
                g_autofree uint8_t *document = make_document(900000, n);
                sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.StoreLicense"), *reply = NULL;
                sd_bus_error error = SD_BUS_ERROR_NULL;

                assert_true(n < 100);
                assert_true(sd_bus_message_append_array(message, 'y', document, 900000) >= 0);
                assert_true(sd_bus_message_append(message, "a{sv}", 1, "LicenseId", "s", id) >= 0);
                failed = sd_bus_call(bus, message, 0, &error, &reply) < 0;
                if (failed) {
                        g_autofree char *name = full_error_name(SAVE_ERROR);
                        assert_string_equal(error.name, name);
                        assert_device_failed(error.message);
                }
                sd_bus_error_free(&error);
                sd_bus_message_unref(message);
                sd_bus_message_unref(reply);
        }
        n--; /* as many were acknowledged */
        print_message("%u licenses were stored before the device failed\n", n);
        disk_assert_alive(h, bus, pid);
        call_void(bus, ROOT, "LicenseStore.GetLicense", "s", "kept00001");

        harness_kill(h);
        mend(image, h->state);
        disk_start(h);
        for (unsigned i = 0; i < n; i++) {
                g_autofree char *id = g_strdup_printf("b%05u", i);
                g_autofree uint8_t *document = make_document(900000, i);

                g_hash_table_unref(assert_license(bus, id, document, 900000));
        }
        store_simple(bus, "mended");
        disk_back_up(bus, 0);
        harness_stop(h);
        disk_unmount_patiently(h->state);
}

static void test_device_that_fails_when_a_backup_is_read(void **state) {
        Harness *h = world(state);
        g_autofree char *image = harness_path(h, "image"), *media = disk_media(h);
        g_autofree char *file = g_build_filename(media, "licenses.tar", NULL);
        disk_make_ext4(image, 32, PLAIN);
        disk_mount_image(image, h->media, "noatime");
        sd_bus *bus = prepare_media(h, 20, 900000);
        pid_t pid = h->daemon;
        delete_license(bus, "a00019");
        g_autofree char *before = snapshot_licenses(bus);
        unsigned failures = 0;

        for (unsigned mib = 6; mib < 30; mib += 8) {
                JobEnd end = {};
                struct stat st;

                disk_unmount_patiently(h->media);
                disk_mount_image(image, h->media, "ro");
                /* The kernel knows the folder and where the file lies, and has not read it. */
                assert_int_equal(stat(file, &st), 0);
                assert_int_equal(count_names(media), 1);
                disk_cut_device(h->media, mib);
                int fd = open(file, O_RDONLY | O_CLOEXEC);
                assert_true(fd >= 0);
                g_autofree char *job = call_string(bus, ROOT, VERIFY, "h", fd);
                job_wait(bus, job, &end);
                if (end.hresult < 0) {
                        g_autofree char *medium = full_error_name(MEDIUM);

                        failures++;
                        assert_string_equal(end.error, medium);
                        assert_device_failed(end.message);
                        g_autofree char *restore = call_string(bus, ROOT, RESTORE_FILE, "hua{sv}", fd, AGREE, 0);
                        assert_job_fails(bus, restore, MEDIUM, "*Input/output error*");
                        assert_snapshot(bus, before);
                }
                job_end_clear(&end);
                close(fd);
                disk_assert_alive(h, bus, pid);
                disk_cut_device(h->media, 0);
        }
        assert_true(failures > 0);
        disk_unmount_patiently(h->media);
        disk_mount_image(image, h->media, "noatime");
        g_autofree char *job = call_string(bus, ROOT, RESTORE_PATH, "u", AGREE);
        g_hash_table_unref(assert_job_succeeds(bus, job));
        disk_unmount_patiently(h->media);
}

/* What is read back is held against what was written. */
static void test_disk_that_lies(void **state) {
        Harness *h = world(state);
        g_autofree char *media = disk_media(h);
        disk_mount_memory(h->media, 32 * 1024);
        sd_bus *bus = prepare_media(h, 8, 300000);
        pid_t pid = h->daemon;

        for (unsigned every = 1; every <= 10; every++) { /* it is read back in ten pieces */
                disk_meddling->lies = every;
                disk_back_up_fails(bus, media, 1, MEDIUM, "*What was read back is not what was written*");
        }
        disk_meddling->lies = 0;
        disk_back_up(bus, 1);
        disk_assert_alive(h, bus, pid);
}

/* Clocks */

#define DAY (24 * 3600)

static void test_clock_set_back(void **state) {
        Harness *h = world(state);
        g_autofree char *media = disk_media(h), *file = g_build_filename(media, "licenses.tar", NULL);
        disk_mount_memory(h->media, 32 * 1024);
        sd_bus *bus = prepare_media(h, 8, 300000);
        pid_t pid = h->daemon;
        /* Between backups: to the past, before there were computers, and to the far future. */
        const int64_t moments[] = { -400 * DAY, INT64_C(-60) * 365 * DAY, INT64_C(400) * 365 * DAY, 0 };

        for (unsigned i = 0; i < G_N_ELEMENTS(moments); i++) {
                disk_meddling->clock_sec = moments[i];
                store_simple(bus, "at another time");
                disk_back_up(bus, 1);
                assert_backup_is_whole(file);
                delete_license(bus, "a00003");
                g_autofree char *restore = call_string(bus, ROOT, RESTORE_PATH, "u", AGREE);
                g_hash_table_unref(assert_job_succeeds(bus, restore));
                call_void(bus, ROOT, "LicenseStore.ConsumeRight", "sst", "a00003", "any", UINT64_C(1));
        }

        /* While one runs: it ends in its time, is kept for its time, and can be waited for. */
        g_autofree char *job = start_slowly(bus, 1);
        disk_meddling->clock_sec = -400 * DAY;
        disk_meddling->slow_write_usec = 0;
        g_hash_table_unref(assert_job_succeeds(bus, job));
        g_autofree char *job2 = start_slowly(bus, 1);
        disk_meddling->clock_sec = 400 * DAY;
        disk_meddling->slow_write_usec = 0;
        g_hash_table_unref(assert_job_succeeds(bus, job2));
        g_autofree char *done = job_property(bus, job, "State");
        assert_string_equal(done, "done");

        /* What was revoked in the future stays revoked. */
        call_void(bus, ROOT, "LicenseStore.RevokeLicense", "s", "a00005");
        disk_meddling->clock_sec = 0;
        g_autofree char *restore = call_string(bus, ROOT, RESTORE_PATH, "u", AGREE);
        g_hash_table_unref(assert_job_succeeds(bus, restore));
        assert_no_license(bus, "a00005");
        disk_assert_alive(h, bus, pid);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, disk_setup, disk_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_disk_pulled_during_a_backup),
                TEST(test_memory_disk_pulled_during_a_backup),
                TEST(test_disk_exchanged_during_a_backup),
                TEST(test_disk_pulled_during_a_restore),
                TEST(test_device_that_fails_when_a_backup_is_written),
                TEST(test_device_that_fails_below_the_store),
                TEST(test_device_that_fails_when_a_backup_is_read),
                TEST(test_disk_that_lies),
                TEST(test_clock_set_back),
        };

        int failed = cmocka_run_group_tests_name("disk-gone", tests, NULL, NULL);

        printf("%d passed or skipped, %d failed\n", (int)G_N_ELEMENTS(tests) - failed, failed);
        return failed > 0;
}
