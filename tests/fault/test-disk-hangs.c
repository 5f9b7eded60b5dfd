/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Disks that answer nothing any more, as a network's do: a file system of bindfs that is stopped by a signal. A thread
 * that works on it cannot be ended by anyone; whoever waits for it must be.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "disk.h"

#define BACKUP "LicenseBackup.BackupLicenses"
#define RESTORE "LicenseRestore.RestoreLicenses"
#define TO_FILE "LicenseBackup.BackupLicensesToFile"
#define MEDIUM "NS_E_BACKUP_RESTORE_FAILURE"
#define BUSY "NS_E_DRM_BACKUPRESTORE_BUSY"
#define UNAVAILABLE "NS_E_DRM_LICENSE_UNAVAILABLE"
#define CANCELED "NS_E_DRM_OPERATION_CANCELED"
#define SECOND G_USEC_PER_SEC

/* Of the file system that hangs; 0 for none. */
static pid_t server;

static bool is_mounted(const char *path, const char *parent) {
        struct stat st, above;

        return stat(path, &st) == 0 && stat(parent, &above) == 0 && st.st_dev != above.st_dev;
}

/* Mounts a folder over media, as slow as the option says; skips the test where there is no FUSE. */
static void mount_media(Harness *h, const char *option) {
        g_autofree char *below = harness_path(h, "below");
        g_autofree char *folder = g_strdup_printf("%s/%u", below, (unsigned)h->users[0]);
        int status;

        if (access("/dev/fuse", R_OK | W_OK) < 0) {
                print_message("skipped: there is no FUSE here\n");
                skip();
        }
        assert_int_equal(mkdir(below, 0755), 0);
        assert_int_equal(mkdir(folder, 0700), 0);
        server = fork();
        assert_true(server >= 0);
        if (server == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                execlp("bindfs", "bindfs", "-f", option, below, h->media, NULL);
                _exit(127);
        }
        for (unsigned i = 0; !is_mounted(h->media, h->folder); i++) {
                if (waitpid(server, &status, WNOHANG) != 0 || i > PATIENCE_SEC * 100) {
                        server = 0;
                        print_message("skipped: bindfs cannot mount here\n");
                        skip();
                }
                sleep_msec(10);
        }
}

static void hang(void) {
        int status;

        assert_int_equal(kill(server, SIGSTOP), 0);
        assert_int_equal(waitpid(server, &status, WUNTRACED), server);
        assert_true(WIFSTOPPED(status));
}

static void go_on(void) {
        assert_int_equal(kill(server, SIGCONT), 0);
}

static int setup(void **state) {
        server = 0;
        if (disk_setup(state) == 0 && *state)
                harness_set(*state, "Jobs", "StallSeconds", "1");
        return 0;
}

static int teardown(void **state) {
        int r;

        if (server > 0)
                go_on();
        r = disk_teardown(state);
        if (server > 0) {
                kill(server, SIGKILL);
                waitpid(server, NULL, 0);
        }
        return r;
}

static Harness *world(void **state) {
        if (!*state)
                skip();
        harness_need_users(*state, 2);
        return *state;
}

/* A user whose backups go to the medium, and who has one there. */
static sd_bus *prepare(Harness *h, const char *option) {
        g_autofree char *media = disk_media(h);
        sd_bus *bus;

        mount_media(h, option);
        harness_start(h);
        bus = harness_connect(h, 0);
        store_simple(bus, "one");
        call_void(bus, ROOT, "BackupRestoreProps.SetProp", "sv", "BackupPath", "s", media);
        disk_back_up(bus, 0);
        return bus;
}

/* Others do not notice. */
static void assert_others_are_served(Harness *h) {
        sd_bus *other = harness_connect(h, 1);
        int64_t begin = g_get_monotonic_time();

        store_simple(other, "of another user");
        disk_back_up(other, 1);
        assert_true(g_get_monotonic_time() - begin < 20 * SECOND);
}

/* Once the medium answers, its user can go on; the thread that hung ends soon after. */
static void assert_usable_again(sd_bus *bus) {
        for (unsigned i = 0; i < PATIENCE_SEC * 20; i++) {
                sd_bus_message *message = new_call(bus, ROOT, BACKUP);
                sd_bus_error error = SD_BUS_ERROR_NULL;
                g_autofree char *job = NULL;
                sd_bus_message *reply = NULL;
                bool busy;

                assert_true(sd_bus_message_append(message, "u", 1) >= 0);
                busy = sd_bus_call(bus, message, 0, &error, &reply) < 0 && error.name &&
                       g_str_has_suffix(error.name, BUSY);
                sd_bus_message_unref(message);
                sd_bus_error_free(&error);
                if (!busy) {
                        assert_non_null(reply);
                        job = read_string(reply);
                        g_hash_table_unref(assert_job_succeeds(bus, job));
                        return;
                }
                sleep_msec(50);
        }
        fail_msg("The user is refused for ever");
}

static void test_backup_to_a_medium_that_hangs_fails_and_says_so(void **state) {
        Harness *h = world(state);
        sd_bus *bus = prepare(h, "--write-rate=100M");

        hang();
        int64_t begin = g_get_monotonic_time();
        g_autofree char *job = call_string(bus, ROOT, BACKUP, "u", 1);
        assert_others_are_served(h);
        assert_job_fails(bus, job, MEDIUM, "*has not answered for 1 s*");
        assert_true(g_get_monotonic_time() - begin < 60 * SECOND);
        call_error(bus, ROOT, BACKUP, BUSY, "*still hangs*", "u", 1);
        store_simple(bus, "licenses are stored as ever");

        go_on();
        assert_usable_again(bus);
}

static void test_medium_that_answers_late_takes_the_backup(void **state) {
        Harness *h = world(state);
        sd_bus *bus = prepare(h, "--write-rate=100M");

        hang();
        g_autofree char *job = call_string(bus, ROOT, BACKUP, "u", 1);
        g_autofree char *running = job_property(bus, job, "State");
        assert_string_equal(running, "queued");
        go_on();
        g_hash_table_unref(assert_job_succeeds(bus, job));
}

static void test_job_on_a_medium_that_hangs_can_be_canceled(void **state) {
        Harness *h = world(state);
        sd_bus *bus = prepare(h, "--write-rate=100M");
        hang();

        /* Before its call was answered, and after. */
        sd_bus_message *message = new_call(bus, ROOT, BACKUP);
        assert_true(sd_bus_message_append(message, "u", 1) >= 0);
        send_only(bus, message);
        send_only(bus, new_call(bus, ROOT, "LicenseBackup.CancelLicenseBackup"));
        for (unsigned n = 0; n < 2; n++) {
                _cleanup_message_ sd_bus_message *reply = receive_reply(bus, PATIENCE_SEC * 1000);
                const char *job;

                assert_non_null(reply);
                assert_true(sd_bus_message_is_method_error(reply, NULL) == 0);
                if (sd_bus_message_read(reply, "o", &job) > 0)
                        assert_job_fails(bus, job, CANCELED, NULL);
        }
        go_on();
        assert_usable_again(bus);

        hang();
        g_autofree char *job = call_string(bus, ROOT, BACKUP, "u", 1);
        call_void(bus, job, "Job.Cancel", "");
        assert_job_fails(bus, job, CANCELED, NULL);
        go_on();
        assert_usable_again(bus);
}

/* Starts a backup to a descriptor on the medium, and stops that when it has some of it. */
static char *start_and_hang(Harness *h, sd_bus *bus) {
        g_autofree char *path = g_strdup_printf("%s/%u/saved.tar", h->media, (unsigned)h->users[0]);
        g_autofree char *below = g_strdup_printf("%s/below/%u/saved.tar", h->folder, (unsigned)h->users[0]);
        struct stat st = {};
        char *job;
        int fd;

        mount_media(h, "--write-rate=500k");
        harness_start(h);
        store_many(bus, "a", 100, 40000);
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        job = call_string(bus, ROOT, TO_FILE, "hua{sv}", fd, 0, 0);
        close(fd);
        for (unsigned i = 0; stat(below, &st) < 0 || st.st_size == 0; i++) {
                assert_true(i < PATIENCE_SEC * 1000);
                sleep_msec(1);
        }
        hang();
        return job;
}

static void test_file_that_stands_still_ends_its_job(void **state) {
        Harness *h = world(state);
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *job = start_and_hang(h, bus);

        assert_job_fails(bus, job, MEDIUM, "*took nothing for 1 s*");
        assert_others_are_served(h);
        call_error(bus, ROOT, BACKUP, BUSY, "*still hangs*", "u", 1);
        go_on();
        assert_usable_again(bus);
}

static void test_job_that_hangs_is_abandoned_when_it_is_canceled(void **state) {
        Harness *h = world(state);
        harness_set(h, "Jobs", "StallSeconds", "60");
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *job = start_and_hang(h, bus);

        call_void(bus, job, "Job.Cancel", "");
        assert_job_fails(bus, job, CANCELED, NULL);
        harness_expect_log(h, "hangs in the system and was abandoned");
        go_on();
        assert_usable_again(bus);
}

/* It waits for a while and leaves; what is stored is on the disk. */
static void test_stop_does_not_wait_for_a_medium_that_hangs(void **state) {
        Harness *h = world(state);
        sd_bus *bus = prepare(h, "--write-rate=100M");

        /* Asked twice it leaves at once. */
        for (unsigned times = 2; times >= 1; times--) {
                hang();
                g_free(call_string(bus, ROOT, BACKUP, "u", 1));
                int64_t begin = g_get_monotonic_time();
                assert_int_equal(kill(h->daemon, SIGTERM), 0);
                harness_expect_log(h, "Stopping.");
                if (times == 2) {
                        sleep_msec(100);
                        assert_int_equal(kill(h->daemon, SIGTERM), 0);
                }
                assert_int_equal(harness_wait(h, h->daemon), 0);
                g_autofree char *log = harness_log(h);
                assert_true(!strstr(log, "Not all that was under way could be ended") == (times == 2));
                assert_true(g_get_monotonic_time() - begin < 60 * SECOND);
                go_on();
                harness_start(h);
                assert_usable_again(bus);
        }
}

/* Of what the medium has of the first user, past the medium. */
static char *path_below(Harness *h, const char *name) {
        return g_strdup_printf("%s/below/%u/%s", h->folder, (unsigned)h->users[0], name);
}

static void wait_for_progress(sd_bus *bus, const char *job) {
        for (unsigned i = 0; i < PATIENCE_SEC * 100; i++) {
                g_autofree char *completed = job_property(bus, job, "Completed");

                if (strcmp(completed, "0") != 0)
                        return;
                sleep_msec(10);
        }
        fail_msg("The job does not get on");
}

static off_t wal_size(Harness *h) {
        g_autofree char *path = g_build_filename(h->state, "licenses.db-wal", NULL);
        struct stat st;

        return stat(path, &st) == 0 ? st.st_size : 0;
}

/* What is written goes to the WAL, and that begins anew only where nobody has a snapshot of what was there before. */
static void assert_no_snapshot_is_held(Harness *h) {
        sd_bus *other = harness_connect(h, 1);
        off_t before;

        /* Whoever has just ended may take a moment. */
        for (unsigned round = 0; round < 4; round++) {
                before = wal_size(h);
                for (unsigned i = 0; i < 4; i++)
                        store_many(other, "a", 32, 60000);
                if (wal_size(h) - before < 4 * 1024 * 1024)
                        return;
        }
        fail_msg("The WAL has grown to %lld bytes", (long long)wal_size(h));
}

static void test_medium_that_hangs_in_the_middle_of_a_backup_ends_it(void **state) {
        Harness *h = world(state);
        sd_bus *bus = prepare(h, "--write-rate=2M");
        g_autofree char *path = path_below(h, "licenses.tar"), *before = NULL;
        size_t size;

        /* Much more than lies in memory on its way to the disk: the snapshot is still needed when it hangs. */
        store_many(bus, "a", 500, 60000);
        before = read_file(path, &size);
        g_autofree char *job = call_string(bus, ROOT, BACKUP, "u", 1);
        wait_for_progress(bus, job);
        hang();
        assert_others_are_served(h);
        assert_job_fails(bus, job, MEDIUM, "*The disk took nothing for 1 s*unchanged*");
        assert_no_snapshot_is_held(h);
        call_error(bus, ROOT, BACKUP, BUSY, "*still hangs*", "u", 1);

        go_on();
        assert_file_equal(path, before, size);
        /* The next one is soon done. */
        store_many(bus, "a", 500, 100);
        assert_usable_again(bus);
}

static void test_medium_that_hangs_in_the_middle_of_a_restore_ends_it(void **state) {
        Harness *h = world(state);
        g_autofree char *media = disk_media(h), *from = g_build_filename(media, "from", NULL);
        g_autofree char *below = path_below(h, "from"), *path = path_below(h, "from/licenses.tar");
        sd_bus *bus = prepare(h, "--read-rate=2M");
        int fd;

        /* Not by the medium, which would read it back as slowly; where the kernel has nothing of it cached. */
        store_many(bus, "a", 500, 60000);
        assert_int_equal(mkdir(below, 0700), 0);
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        g_autofree char *backup = call_string(bus, ROOT, TO_FILE, "hua{sv}", fd, 0, 0);
        close(fd);
        g_hash_table_unref(assert_job_succeeds(bus, backup));
        call_void(bus, ROOT, "BackupRestoreProps.SetProp", "sv", "RestorePath", "s", from);
        call_void(bus, ROOT, "LicenseStore.DeleteLicense", "s", "a00000");
        g_autofree char *job = call_string(bus, ROOT, RESTORE, "u", 0);
        wait_for_progress(bus, job);
        hang();
        assert_others_are_served(h);
        assert_job_fails(bus, job, MEDIUM, "*The disk gave nothing for 1 s*No license was changed*");
        call_error(bus, ROOT, "LicenseStore.GetLicense", UNAVAILABLE, NULL, "s", "a00000");
        call_error(bus, ROOT, BACKUP, BUSY, "*still hangs*", "u", 1);

        go_on();
        store_many(bus, "a", 500, 100);
        assert_usable_again(bus);
}

/* A backup takes the place of another, and hangs in that. Returns its job; *ret_before is the other. */
static char *start_and_hang_in_rename(Harness *h, sd_bus *bus, const char *path, char **ret_before, size_t *ret_size) {
        char *job;

        store_simple(bus, "one");
        disk_back_up(bus, 0);
        *ret_before = read_file(path, ret_size);
        store_many(bus, "a", 10, 1000);
        disk_meddling->renames_wait = 1;
        job = call_string(bus, ROOT, BACKUP, "u", 1);
        for (unsigned i = 0; disk_meddling->renames_waited == 0; i++) {
                assert_true(i < PATIENCE_SEC * 100);
                sleep_msec(10);
        }
        return job;
}

/* Nobody can say then what the disk will do. */
static void test_backup_that_is_canceled_while_its_rename_hangs_does_not_say_that_nothing_changed(void **state) {
        Harness *h = world(state);
        g_autofree char *folder = disk_backups(h), *path = g_build_filename(folder, "licenses.tar", NULL);
        g_autofree char *before = NULL;
        struct stat st = {};
        sd_bus *bus;
        size_t size;

        disk_start(h);
        bus = harness_connect(h, 0);
        g_autofree char *job = start_and_hang_in_rename(h, bus, path, &before, &size);
        call_void(bus, job, "Job.Cancel", "");
        assert_job_fails(bus, job, MEDIUM, "*cannot be told*");
        assert_file_equal(path, before, size);

        disk_meddling->renames_wait = 0;
        for (unsigned i = 0; stat(path, &st) < 0 || (size_t)st.st_size <= size; i++) {
                assert_true(i < PATIENCE_SEC * 100);
                sleep_msec(10);
        }
        assert_usable_again(bus);
}

/* The same for a stop, which does not wait for ever: the old backup is there, and the next start finds all in order. */
static void test_stop_while_a_rename_hangs_says_as_little(void **state) {
        Harness *h = world(state);
        g_autofree char *folder = disk_backups(h), *path = g_build_filename(folder, "licenses.tar", NULL);
        g_autofree char *before = NULL, *owner = NULL;
        g_auto(JobEnd) end = {};
        sd_bus *bus;
        size_t size;

        disk_start(h);
        bus = harness_connect(h, 0);
        owner = harness_owner(h);
        g_autofree char *job = start_and_hang_in_rename(h, bus, path, &before, &size);
        assert_int_equal(kill(h->daemon, SIGTERM), 0);
        assert_true(receive_done(bus, owner, job, PATIENCE_SEC * 1000, &end, NULL));
        assert_string_equal(end.error, "org.licensevault1.Error." MEDIUM);
        assert_sentence(end.message, "*cannot be told*");
        assert_int_equal(harness_wait(h, h->daemon), 0);
        harness_expect_log(h, "Not all that was under way could be ended");
        assert_file_equal(path, before, size);

        disk_meddling->renames_wait = 0;
        harness_start(h);
        assert_usable_again(bus);
        assert_int_equal(count_names(folder), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_backup_to_a_medium_that_hangs_fails_and_says_so),
                TEST(test_medium_that_answers_late_takes_the_backup),
                TEST(test_job_on_a_medium_that_hangs_can_be_canceled),
                TEST(test_file_that_stands_still_ends_its_job),
                TEST(test_job_that_hangs_is_abandoned_when_it_is_canceled),
                TEST(test_stop_does_not_wait_for_a_medium_that_hangs),
                TEST(test_medium_that_hangs_in_the_middle_of_a_backup_ends_it),
                TEST(test_medium_that_hangs_in_the_middle_of_a_restore_ends_it),
                TEST(test_backup_that_is_canceled_while_its_rename_hangs_does_not_say_that_nothing_changed),
                TEST(test_stop_while_a_rename_hangs_says_as_little),
        };

        return cmocka_run_group_tests_name("disk-hangs", tests, NULL, NULL);
}
