/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Disks that are full, over quota, or read-only: the error says so, nothing is lost, and room is all it takes. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/quota.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <linux/btrfs.h>
#include <linux/capability.h>
#include <linux/fs.h>

#include "disk.h"
#include "restores.h"

#define SAVE_ERROR "NS_E_DRM_LICENSE_STORE_SAVE_ERROR"
#define MEDIUM "NS_E_BACKUP_RESTORE_FAILURE"
#define BIG 900000U

static Harness *world(void **state) {
        if (!*state)
                skip();
        return *state;
}

static sd_bus_message *try_store(sd_bus *bus, const char *id, size_t size, sd_bus_error *error) {
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.StoreLicense"), *reply = NULL;
        g_autofree uint8_t *document = make_document(size, 9);

        assert_true(sd_bus_message_append_array(message, 'y', document, size) >= 0);
        assert_true(sd_bus_message_append(message, "a{sv}", 1, "LicenseId", "s", id) >= 0);
        (void)sd_bus_call(bus, message, (uint64_t)PATIENCE_SEC * G_USEC_PER_SEC, error, &reply);
        sd_bus_message_unref(message);
        return reply;
}

/* Stores until nothing more fits; the error must be this one. Returns how many did. */
static unsigned store_until(sd_bus *bus, const char *prefix, const char *name, const char *text) {
        g_autofree char *full = full_error_name(name);

        for (unsigned i = 0; i < 400; i++) {
                g_autofree char *id = g_strdup_printf("%s%u", prefix, i);
                sd_bus_error error = SD_BUS_ERROR_NULL;
                sd_bus_message *reply = try_store(bus, id, BIG, &error);

                if (!reply) {
                        assert_string_equal(error.name, full);
                        assert_sentence(error.message, text);
                        call_error(bus, ROOT, "LicenseStore.GetLicense", "NS_E_DRM_LICENSE_UNAVAILABLE", NULL, "s",
                                id);
                        sd_bus_error_free(&error);
                        return i;
                }
                sd_bus_message_unref(reply);
        }
        fail_msg("All of it fitted");
        return 0;
}

/* A full store: what is there is served, what fails changes nothing, and with room all works. */
static void fill_store(Harness *h, const char *error_text, void (*make_room)(Harness *h)) {
        sd_bus *bus = harness_connect(h, 0);
        pid_t pid = h->daemon;
        g_autofree char *backups = disk_backups(h), *snapshot = NULL, *path = NULL;
        unsigned n;
        int fds[2];

        n = store_until(bus, "more", SAVE_ERROR, error_text);
        snapshot = snapshot_licenses(bus);
        /* Again and again, and beside one another. */
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(store_until(bus, "again", SAVE_ERROR, error_text), 0);
        assert_snapshot(bus, snapshot);
        disk_back_up_fails(bus, backups, 1, MEDIUM, error_text);

        /* What goes to a descriptor is built on the same disk. */
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        path = call_string(bus, ROOT, "LicenseBackup.BackupLicensesToFile", "hua{sv}", fds[1], 0, 0);
        close(fds[1]);
        assert_job_fails(bus, path, MEDIUM, error_text);
        char letter;
        assert_int_equal(read(fds[0], &letter, 1), 0);
        close(fds[0]);

        /* A restore needs room beside the licenses. */
        g_autofree char *restore = start_restore(h, bus, "outside.tar", AGREE);
        assert_job_fails(bus, restore, SAVE_ERROR, error_text);
        assert_snapshot(bus, snapshot);
        disk_assert_alive(h, bus, pid);

        harness_kill(h);
        disk_start(h);
        pid = h->daemon;
        assert_snapshot(bus, snapshot);
        assert_true(n > 0);

        make_room(h);
        store_simple(bus, "with room");
        g_autofree char *again = start_restore(h, bus, "outside.tar", AGREE);
        g_hash_table_unref(assert_job_succeeds(bus, again));
        disk_back_up(bus, 1);
        disk_assert_alive(h, bus, pid);
        /* The folder itself holds no draft. */
        g_autofree char *partial = NULL;
        assert_int_equal(run_program((const char *[]) { "find", h->state, "-name", "*.partial", NULL }, &partial,
                                 NULL), 0);
        assert_string_equal(partial, "");
}

static void filler_gone(Harness *h) {
        disk_make_room(h->state);
}

/* Some licenses, an old backup by path, and one that lies elsewhere and holds a little more than now is there. */
static void prepare_store(Harness *h) {
        sd_bus *bus = harness_connect(h, 0);

        store_many(bus, "kept", 5, 3000);
        store_many(bus, "big", 4, BIG);
        save_backup(h, bus, "outside.tar");
        for (unsigned i = 0; i < 4; i++) {
                g_autofree char *id = g_strdup_printf("big%05u", i);
                delete_license(bus, id);
        }
        disk_back_up(bus, 0);
}

static void test_store_in_full_memory(void **state) {
        Harness *h = world(state);
        disk_mount_memory(h->state, 40 * 1024);
        disk_start(h);

        prepare_store(h);
        disk_fill(h->state, 3000);
        fill_store(h, "*No space left on device*", filler_gone);
}

static void test_store_on_a_full_disk(void **state) {
        Harness *h = world(state);
        g_autofree char *image = harness_path(h, "image");
        disk_make_ext4(image, 64, "none,has_journal,extent,sparse_super,filetype,64bit");
        disk_mount_image(image, h->state, "noatime");
        disk_start(h);

        prepare_store(h);
        disk_fill(h->state, 3000);
        fill_store(h, "*No space left on device*", filler_gone);
}

/* Quotas: of a project on ext4, and of all of a btrfs; which of them there are is the kernel's. */

static void limit_project(const char *path, uint64_t mib) {
        struct dqblk quota = { .dqb_bhardlimit = mib * 1024, .dqb_valid = QIF_BLIMITS };
        struct stat st;
        g_autofree char *device = NULL;

        assert_int_equal(stat(path, &st), 0);
        device = g_strdup_printf("/dev/loop%u", minor(st.st_dev));
        if (quotactl(QCMD(Q_SETQUOTA, PRJQUOTA), device, 7, (void *)&quota) < 0)
                fail_msg("No quota can be set: %s", strerror(errno));
}

static void more_for_project(Harness *h) {
        limit_project(h->state, 1000);
}

static void test_store_over_quota_of_ext4(void **state) {
        Harness *h = world(state);
        g_autofree char *image = harness_path(h, "image");
        struct fsxattr attributes = {};
        int fd;

        disk_make_ext4(image, 64, "quota,project");
        /* A kernel without CONFIG_QFMT_V2 does not mount it. */
        if (!disk_try_image(image, "ext4", h->state, "prjquota")) {
                print_message("skipped: this kernel knows no quotas of ext4\n");
                skip();
        }
        fd = open(h->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(ioctl(fd, FS_IOC_FSGETXATTR, &attributes), 0);
        attributes.fsx_projid = 7;
        attributes.fsx_xflags |= FS_XFLAG_PROJINHERIT;
        assert_int_equal(ioctl(fd, FS_IOC_FSSETXATTR, &attributes), 0);
        close(fd);
        /* Quotas bind root only without this; and what is dropped here is not there for the next tests either. */
        assert_int_equal(prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE), 0);
        disk_start(h);

        prepare_store(h);
        limit_project(h->state, 30);
        fill_store(h, "*Disk quota exceeded*", more_for_project);
}

static void limit_btrfs(const char *path, uint64_t mib) {
        /* Group 0: that of the subvolume path is in. */
        struct btrfs_ioctl_qgroup_limit_args limit = {
                .lim = { .flags = BTRFS_QGROUP_LIMIT_MAX_RFER, .max_rfer = mib << 20 }
        };
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        assert_true(fd >= 0);
        if (ioctl(fd, BTRFS_IOC_QGROUP_LIMIT, &limit) < 0)
                fail_msg("No limit can be set: %s", strerror(errno));
        close(fd);
}

static void mount_btrfs(Harness *h, const char *path) {
        struct btrfs_ioctl_quota_ctl_args enable = { .cmd = BTRFS_QUOTA_CTL_ENABLE };
        g_autofree char *image = harness_path(h, "image");
        int fd;

        disk_make_btrfs(image);
        if (!disk_try_image(image, "btrfs", path, "noatime")) {
                print_message("skipped: this kernel has no btrfs\n");
                skip();
        }
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(fd >= 0);
        if (ioctl(fd, BTRFS_IOC_QUOTA_CTL, &enable) < 0)
                fail_msg("Quotas cannot be enabled: %s", strerror(errno));
        close(fd);
}

/* A file system that copies on write: what is mapped of a file has no place on it either when it is full. */
static void test_store_on_a_full_btrfs(void **state) {
        Harness *h = world(state);
        mount_btrfs(h, h->state);
        disk_start(h);

        prepare_store(h);
        disk_fill(h->state, 20000);
        fill_store(h, "*No space left on device*", filler_gone);
}

static void more_for_btrfs(Harness *h) {
        limit_btrfs(h->state, 200);
}

static void test_store_over_quota_of_btrfs(void **state) {
        Harness *h = world(state);
        mount_btrfs(h, h->state);
        disk_start(h);

        prepare_store(h);
        limit_btrfs(h->state, 30);
        fill_store(h, "*Disk quota exceeded*", more_for_btrfs);
}

/* The service's own disk must never fill up to the last block. */
static void test_reserve_is_kept_free(void **state) {
        Harness *h = world(state);
        g_autofree char *backups = disk_backups(h);
        disk_mount_memory(h->state, 40 * 1024);
        harness_set(h, "Limits", "MinimumFreePercent", "30");
        disk_start(h);
        sd_bus *bus = harness_connect(h, 0);
        pid_t pid = h->daemon;

        store_many(bus, "kept", 5, 3000);
        disk_back_up(bus, 0);
        disk_fill(h->state, 13 * 1024);
        (void)store_until(bus, "more", "LimitsExceeded", "*MinimumFreePercent=*");
        disk_back_up_fails(bus, backups, 1, "LimitsExceeded", "*MinimumFreePercent=*");
        delete_license(bus, "kept00001");
        disk_make_room(h->state);
        store_simple(bus, "with room");
        disk_back_up(bus, 1);
        disk_assert_alive(h, bus, pid);
}

/* What was removed leaves its place in the file, which does not shrink: that is room, too. */
static void test_removing_makes_room(void **state) {
        Harness *h = world(state);
        disk_mount_memory(h->state, 40 * 1024);
        harness_set(h, "Limits", "MinimumFreePercent", "30");
        disk_start(h);
        sd_bus *bus = harness_connect(h, 0);
        unsigned n;

        n = store_until(bus, "more", "LimitsExceeded", "*MinimumFreePercent=*");
        assert_true(n > 5);
        for (unsigned i = 0; i < n; i++) {
                g_autofree char *id = g_strdup_printf("more%u", i);
                delete_license(bus, id);
        }
        store_simple(bus, "with room");
        assert_in_range(store_until(bus, "again", "LimitsExceeded", "*MinimumFreePercent=*"), n / 2, n);
}

/*
 * To remove it takes as much of the disk for a moment: what a restore has staged goes in pieces that fit, also into the
 * little that is left. A backup without its end is refused once all of it was staged.
 */
static void test_what_a_restore_has_staged_goes_from_a_full_disk(void **state) {
        Harness *h = world(state);
        g_autofree char *file = harness_path(h, "cut.tar");
        disk_mount_memory(h->state, 100 * 1024);
        harness_set(h, "Limits", "MinimumFreePercent", "5");
        disk_start(h);
        sd_bus *bus = harness_connect(h, 0);
        pid_t pid = h->daemon;
        struct stat st;

        store_many(bus, "big", 40, BIG);
        save_backup(h, bus, "cut.tar");
        assert_int_equal(stat(file, &st), 0);
        assert_int_equal(truncate(file, st.st_size - 100 * 1024), 0);
        for (unsigned i = 0; i < 40; i++) {
                g_autofree char *id = g_strdup_printf("big%05u", i);
                delete_license(bus, id);
        }
        disk_fill(h->state, 6 * 1024);

        g_autofree char *job = start_restore(h, bus, "cut.tar", AGREE);
        assert_job_fails(bus, job, "NS_E_DRM_BACKUP_CORRUPT", NULL);
        /* That is tried at once, and every 5 seconds. */
        sleep_msec(7000);
        store_simple(bus, "with room");
        assert_int_equal(store_until(bus, "big", "LimitsExceeded", "*MinimumFreePercent=*") / 35, 1);
        disk_assert_alive(h, bus, pid);
}

/* Backups elsewhere */

static sd_bus *prepare_media(Harness *h) {
        sd_bus *bus;
        g_autofree char *media = disk_media(h);

        assert_int_equal(mkdir(media, 0700), 0);
        disk_start(h);
        bus = harness_connect(h, 0);
        store_many(bus, "a", 3, BIG);
        call_void(bus, ROOT, "BackupRestoreProps.SetProp", "sv", "BackupPath", "s", media);
        disk_back_up(bus, 0);
        return bus;
}

static void fill_media(Harness *h) {
        g_autofree char *media = disk_media(h);
        sd_bus *bus = prepare_media(h);
        pid_t pid = h->daemon;

        for (unsigned leave = 0; leave < 2600; leave += 800) {
                disk_fill(h->media, leave);
                disk_back_up_fails(bus, media, 1, MEDIUM, "Backup to '*' failed: *No space left on device*unchanged.");
                disk_make_room(h->media);
        }
        disk_back_up(bus, 1);

        /* A file of the client's on the full disk. */
        disk_fill(h->media, 900);
        g_autofree char *file = g_build_filename(h->media, "mine.tar", NULL);
        int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicensesToFile", "hua{sv}", fd, 0, 0);
        close(fd);
        assert_job_fails(bus, job, MEDIUM, "*No space left on device*");
        disk_make_room(h->media);
        disk_assert_alive(h, bus, pid);
}

static void test_backup_to_full_memory(void **state) {
        Harness *h = world(state);
        disk_mount_memory(h->media, 8 * 1024);
        fill_media(h);
}

static void test_backup_to_a_full_disk(void **state) {
        Harness *h = world(state);
        g_autofree char *image = harness_path(h, "image");
        disk_make_ext4(image, 16, "none,has_journal,extent,filetype");
        disk_mount_image(image, h->media, "noatime");
        fill_media(h);
}

static void test_backup_over_quota_of_btrfs(void **state) {
        Harness *h = world(state);
        g_autofree char *media = disk_media(h);
        mount_btrfs(h, h->media);
        sd_bus *bus = prepare_media(h);
        pid_t pid = h->daemon;

        /* Room for the backup that is there, and for half of another. */
        limit_btrfs(h->media, 4);
        disk_back_up_fails(bus, media, 1, MEDIUM, "Backup to '*' failed: *Disk quota exceeded*unchanged.");
        limit_btrfs(h->media, 200);
        disk_back_up(bus, 1);
        disk_assert_alive(h, bus, pid);
}

static void test_backup_to_a_read_only_disk(void **state) {
        Harness *h = world(state);
        g_autofree char *media = disk_media(h);
        disk_mount_memory(h->media, 16 * 1024);
        sd_bus *bus = prepare_media(h);
        pid_t pid = h->daemon;

        disk_remount(h->media, "remount,ro");
        disk_back_up_fails(bus, media, 1, MEDIUM, "Backup to '*' failed: *Read-only file system*unchanged.");
        /* It can be read, so it can be restored from. */
        call_void(bus, ROOT, "BackupRestoreProps.SetProp", "sv", "RestorePath", "s", media);
        g_autofree char *job = call_string(bus, ROOT, RESTORE_PATH, "u", AGREE);
        g_hash_table_unref(assert_job_succeeds(bus, job));
        disk_remount(h->media, "remount,rw");
        disk_back_up(bus, 1);
        disk_assert_alive(h, bus, pid);
}

/* What ext4 does when its own data is damaged: from then on nothing can be written, also not to open files. */
static void test_store_on_a_disk_that_turns_read_only(void **state) {
        Harness *h = world(state);
        g_autofree char *image = harness_path(h, "image"), *backups = disk_backups(h);
        disk_make_ext4(image, 64, "none,has_journal,extent,filetype");
        disk_mount_image(image, h->state, "errors=remount-ro");
        disk_start(h);
        sd_bus *bus = harness_connect(h, 0);
        pid_t pid = h->daemon;

        store_many(bus, "kept", 5, 3000);
        disk_back_up(bus, 0);
        g_autofree char *snapshot = snapshot_licenses(bus);
        disk_remount(h->state, "remount,abort");
        for (unsigned i = 0; i < 3; i++)
                store_license_error(bus, SAVE_ERROR, "*Read-only file system*", "x", 1, "a{sv}", 1, "LicenseId",
                        "s", "x");
        call_error(bus, ROOT, "LicenseStore.DeleteLicense", SAVE_ERROR, "*Read-only file system*", "s", "kept00001");
        assert_snapshot(bus, snapshot);
        disk_back_up_fails(bus, backups, 1, MEDIUM, "*Read-only file system*");
        disk_assert_alive(h, bus, pid);

        harness_stop(h);
        disk_unmount_patiently(h->state);
        disk_mount_image(image, h->state, "errors=remount-ro");
        disk_start(h);
        assert_snapshot(bus, snapshot);
        store_simple(bus, "mended");
        disk_back_up(bus, 1);
}

static void set_immutable(const char *path, bool on) {
        int fd = open(path, O_RDONLY | O_CLOEXEC), flags;

        assert_true(fd >= 0);
        assert_int_equal(ioctl(fd, FS_IOC_GETFLAGS, &flags), 0);
        flags = on ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
        assert_int_equal(ioctl(fd, FS_IOC_SETFLAGS, &flags), 0);
        close(fd);
}

/*
 * The file alone cannot be written to. SQLite locks nobody out of it then, and shares the index of the WAL with them,
 * in a file that must stay.
 */
static void test_store_that_cannot_be_written_is_read(void **state) {
        Harness *h = world(state);
        g_autofree char *image = harness_path(h, "image"), *store = g_build_filename(h->state, "licenses.db", NULL);
        g_autofree char *index = g_strconcat(store, "-shm", NULL);
        disk_make_ext4(image, 64, "none,has_journal,extent,filetype");
        disk_mount_image(image, h->state, "noatime");
        disk_start(h);
        sd_bus *bus = harness_connect(h, 0);
        store_many(bus, "kept", 5, 3000);
        g_autofree char *snapshot = snapshot_licenses(bus);
        harness_kill(h);

        set_immutable(store, true);
        disk_start(h);
        pid_t pid = h->daemon;
        assert_snapshot(bus, snapshot);
        assert_int_equal(access(index, F_OK), 0);
        store_license_error(bus, SAVE_ERROR, "*", "x", 1, "a{sv}", 1, "LicenseId", "s", "x");
        disk_assert_alive(h, bus, pid);
        harness_stop(h);

        set_immutable(store, false);
        disk_start(h);
        assert_snapshot(bus, snapshot);
        assert_int_equal(access(index, F_OK), -1);
        store_simple(bus, "mended");
}

/* A start on a disk that cannot be written to. */
static void test_start_on_a_read_only_disk(void **state) {
        Harness *h = world(state);
        disk_mount_memory(h->state, 16 * 1024);
        disk_start(h);
        sd_bus *bus = harness_connect(h, 0);
        store_many(bus, "kept", 5, 3000);
        harness_stop(h);

        disk_remount(h->state, "remount,ro");
        int status = harness_wait(h, harness_spawn(h, NULL));
        assert_int_equal(status, 3);
        harness_expect_log(h, "Read-only file system");
        disk_remount(h->state, "remount,rw");
        disk_start(h);
        call_void(bus, ROOT, "LicenseStore.GetLicense", "s", "kept00001");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, disk_setup, disk_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_store_in_full_memory),
                TEST(test_store_on_a_full_disk),
                TEST(test_reserve_is_kept_free),
                TEST(test_removing_makes_room),
                TEST(test_what_a_restore_has_staged_goes_from_a_full_disk),
                TEST(test_backup_to_full_memory),
                TEST(test_backup_to_a_full_disk),
                TEST(test_backup_to_a_read_only_disk),
                TEST(test_store_on_a_disk_that_turns_read_only),
                TEST(test_store_that_cannot_be_written_is_read),
                TEST(test_start_on_a_read_only_disk),
                TEST(test_store_on_a_full_btrfs),
                TEST(test_store_over_quota_of_btrfs),
                TEST(test_backup_over_quota_of_btrfs),
                TEST(test_store_over_quota_of_ext4),
        };

        int failed = cmocka_run_group_tests_name("disk-full", tests, NULL, NULL);

        printf("%d passed or skipped, %d failed\n", (int)G_N_ELEMENTS(tests) - failed, failed);
        return failed > 0;
}
