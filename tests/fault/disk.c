/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/loop.h>
#include <linux/major.h>

#define FILLER "filler"

DiskMeddling *disk_meddling;
static struct {
        pid_t pid; /* 0: nothing is cut */
        int alive; /* a pipe that ends with us */
} guardian;

static bool own_mounts(void) {
        static int r = 1;

        if (r > 0) {
                r = geteuid() != 0 ? -EPERM : unshare(CLONE_NEWNS) < 0 ? -errno : 0;
                if (r == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                        r = -errno;
        }
        if (r < 0)
                print_message("skipped: file systems cannot be mounted here: %s\n", g_strerror(-r));
        return r == 0;
}

int disk_setup(void **state) {
        Harness *h;

        /* cmocka skips in a test alone: those that find no daemon do. */
        *state = NULL;
        if (!own_mounts())
                return 0;
        harness_setup_bus(state);
        h = *state;
        harness_set(h, "Backup", "Roots", h->media);
        /* What is below a mount point must not be taken for the disk. */
        for (unsigned i = 0; i < h->n_users; i++) {
                g_autofree char *below = g_strdup_printf("%s/%u", h->media, (unsigned)h->users[i]);
                assert_int_equal(rmdir(below), 0);
        }

        disk_meddling = harness_share(h, DISK_MEDDLING, sizeof *disk_meddling);
        return 0;
}

/* The loop device below; -1 where no image is mounted. */
static int open_device(const char *path) {
        g_autofree char *device = NULL;
        struct stat st;

        if (stat(path, &st) < 0 || major(st.st_dev) != LOOP_MAJOR)
                return -1;
        device = g_strdup_printf("/dev/loop%u", minor(st.st_dev));
        return open(device, O_RDWR | O_CLOEXEC);
}

static bool set_end(int device, unsigned mib) {
        struct loop_info64 info;

        if (ioctl(device, LOOP_GET_STATUS64, &info) < 0)
                return false;
        info.lo_sizelimit = (uint64_t)mib << 20;
        return ioctl(device, LOOP_SET_STATUS64, &info) >= 0;
}

/*
 * A process that makes a device whole again when this one has gone, in whatever way: what waits for a device that is
 * cut cannot be ended, and would keep it.
 */
static void guard(int device) {
        int alive[2];
        char byte;

        assert_int_equal(pipe2(alive, O_CLOEXEC), 0);
        guardian.pid = fork();
        assert_true(guardian.pid >= 0);
        if (guardian.pid > 0) {
                close(alive[0]);
                guardian.alive = alive[1];
                return;
        }
        setsid();
        close(alive[1]);
        while (read(alive[0], &byte, 1) < 0 && errno == EINTR)
                ;
        _exit(set_end(device, 0) ? EXIT_SUCCESS : EXIT_FAILURE);
}

/* Makes whole what was cut. */
static void end_guard(void) {
        if (guardian.pid == 0)
                return;
        close(guardian.alive);
        (void)waitpid(guardian.pid, NULL, 0);
        guardian.pid = 0;
}

void disk_cut_device(const char *path, unsigned mib) {
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), device = open_device(path);

        assert_true(device >= 0);
        if (mib > 0)
                (void)syncfs(fd);
        close(fd);
        end_guard();
        if (mib > 0)
                guard(device);
        if (!set_end(device, mib))
                fail_msg("The device below %s cannot be cut: %s", path, strerror(errno));
        close(device);
}

int disk_teardown(void **state) {
        Harness *h = *state;
        g_autofree char *media = NULL, *folder = NULL;
        int r;

        if (!h)
                return 0;
        munmap(disk_meddling, sizeof *disk_meddling);
        media = g_strdup(h->media);
        folder = g_strdup(h->state);
        /* First, for a process that waits for a device that is cut cannot be ended. */
        end_guard();
        if (h->daemon > 0)
                harness_stop(h);
        (void)umount2(media, MNT_DETACH);
        (void)umount2(folder, MNT_DETACH);
        r = harness_teardown(state);
        return r;
}

void disk_start(Harness *h) {
        harness_start_preloaded(h, "LICENSEVAULT_DISK_MEDDLER");
}

static void run(const char *const *arguments) {
        g_autofree char *said = NULL;

        if (run_program(arguments, NULL, &said) != 0)
                fail_msg("%s failed: %s", arguments[0], said);
}

void disk_mount_memory(const char *path, unsigned kib) {
        g_autofree char *options = g_strdup_printf("size=%uk,mode=0755", kib);

        if (mount("none", path, "tmpfs", 0, options) < 0)
                fail_msg("%s cannot be mounted: %s", path, strerror(errno));
}

void disk_make_ext4(const char *image, unsigned mib, const char *features) {
        g_autofree char *size = g_strdup_printf("%uM", mib);

        run((const char *[]) { "truncate", "-s", size, image, NULL });
        /* No blocks are kept for root, which the daemon is here, and all of it is written now. */
        run((const char *[]) { "mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-E",
                "lazy_itable_init=0,lazy_journal_init=0", "-O", features, image, NULL });
}

void disk_make_btrfs(const char *image) {
        run((const char *[]) { "truncate", "-s", "256M", image, NULL });
        run((const char *[]) { "mkfs.btrfs", "-q", image, NULL });
}

static bool try_mount(const char *image, const char *type, const char *path, const char *options, char **said) {
        g_autofree char *all = g_strconcat("loop,", options, NULL);

        return run_program((const char *[]) { "mount", "-t", type, "-o", all, image, path, NULL }, NULL, said) == 0;
}

bool disk_try_image(const char *image, const char *type, const char *path, const char *options) {
        return try_mount(image, type, path, options, NULL);
}

void disk_mount_image(const char *image, const char *path, const char *options) {
        g_autofree char *said = NULL;

        if (try_mount(image, "ext4", path, options, &said))
                return;
        if (access("/dev/loop-control", F_OK) < 0 || strstr(said, "failed to setup loop device")) {
                print_message("skipped: there are no loop devices: %s", said);
                skip();
        }
        fail_msg("mount failed: %s", said);
}

void disk_remount(const char *path, const char *options) {
        run((const char *[]) { "mount", "-o", options, path, NULL });
}

void disk_unmount(const char *path) {
        if (umount2(path, 0) < 0)
                fail_msg("%s cannot be unmounted: %s", path, strerror(errno));
}

void disk_unmount_patiently(const char *path) {
        for (unsigned i = 0; umount2(path, 0) < 0; i++) {
                if (errno != EBUSY || i > PATIENCE_SEC * 20)
                        fail_msg("%s cannot be unmounted: %s", path, strerror(errno));
                sleep_msec(50);
        }
}

void disk_pull(const char *path) {
        if (umount2(path, MNT_DETACH) < 0)
                fail_msg("%s cannot be unmounted: %s", path, strerror(errno));
}

void disk_fill(const char *path, unsigned leave_kib) {
        g_autofree char *filler = g_build_filename(path, FILLER, NULL);
        g_autofree uint8_t *block = make_document(4096, 1);
        int fd = open(filler, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        struct stat st;

        assert_true(fd >= 0);
        while (write(fd, block, 4096) > 0)
                ;
        assert_true(errno == ENOSPC);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(ftruncate(fd, st.st_size - (off_t)leave_kib * 1024), 0);
        (void)fsync(fd);
        close(fd);
}

void disk_make_room(const char *path) {
        g_autofree char *filler = g_build_filename(path, FILLER, NULL);

        assert_int_equal(unlink(filler), 0);
}

char *disk_backups(Harness *h) {
        return g_strdup_printf("%s/backups/%u", h->state, (unsigned)h->users[0]);
}

char *disk_media(Harness *h) {
        return g_strdup_printf("%s/%u", h->media, (unsigned)h->users[0]);
}

void disk_back_up(sd_bus *bus, uint32_t flags) {
        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", flags);

        g_hash_table_unref(assert_job_succeeds(bus, job));
}

void disk_back_up_fails(sd_bus *bus, const char *folder, uint32_t flags, const char *error, const char *message) {
        g_autofree char *file = g_build_filename(folder, "licenses.tar", NULL), *before = NULL;
        unsigned n = count_names(folder);
        size_t size = 0;

        if (g_file_test(file, G_FILE_TEST_EXISTS))
                before = read_file(file, &size);
        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", flags);
        assert_job_fails(bus, job, error, message);
        if (before)
                assert_file_equal(file, before, size);
        else
                assert_false(g_file_test(file, G_FILE_TEST_EXISTS));
        assert_int_equal(count_names(folder), n);
}

void disk_assert_alive(Harness *h, sd_bus *bus, pid_t pid) {
        assert_int_equal(h->daemon, pid);
        assert_int_equal(kill(pid, 0), 0);
        call_void(bus, ROOT, "Manager.ListJobs", "");
}
