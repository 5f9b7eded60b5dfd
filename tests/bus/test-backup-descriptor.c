/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Backups to descriptors of clients, which may be anything, stall, lie and go away. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client.h"

#define TO_FILE "LicenseBackup.BackupLicensesToFile"
#define START(bus, fd) call_string(bus, ROOT, TO_FILE, "hua{sv}", fd, 0, 0)
#define REFUSED(bus, error, fd) call_error(bus, ROOT, TO_FILE, error, NULL, "hua{sv}", fd, 0, 0)

static int open_in(Harness *h, const char *name, int flags) {
        g_autofree char *path = harness_path(h, name);
        int fd = open(path, flags | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        return fd;
}

static void assert_size(GHashTable *result, uint64_t size) {
        g_autofree char *text = g_strdup_printf("%" PRIu64, size);

        assert_property(result, "bytes", text);
}

/* No unnamed or temporary file lives on: the folders of the daemon hold what they held. */
static void assert_no_leftovers(Harness *h) {
        g_autofree char *runtime = harness_path(h, "runtime");

        assert_int_equal(count_names(runtime), 0);
        g_autoptr(GDir) folder = g_dir_open(h->state, 0, NULL);
        for (const char *name; (name = g_dir_read_name(folder));)
                if (!g_str_has_prefix(name, "licenses.db") && strcmp(name, "backups") != 0 &&
                        !strstr(name, "lock"))
                        fail_msg("%s stays in the state directory", name);
}

static void test_file_is_written_and_its_flags_stay(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        int fd = open_in(h, "backup.tar", O_RDWR | O_CREAT);
        int flags = fcntl(fd, F_GETFL);
        struct stat st;
        store_many(bus, "a", 30, 5000);

        g_autofree char *job = START(bus, fd);
        g_autoptr(GHashTable) result = assert_job_succeeds(bus, job);
        assert_int_equal(fstat(fd, &st), 0);
        assert_true(st.st_size > 150000);
        assert_size(result, (uint64_t)st.st_size);
        assert_property(result, "licenses", "30");
        assert_property(result, "verified", "true");
        assert_int_equal(fcntl(fd, F_GETFL), flags);
        assert_no_leftovers(h);
        close(fd);
}

static void test_file_that_is_not_empty_is_refused_and_stays(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *path = harness_path(h, "precious");
        write_file(path, "precious", 8);
        int fd = open_in(h, "precious", O_RDWR);

        REFUSED(bus, "NS_E_DRM_BACKUP_EXISTS", fd);
        assert_file_equal(path, "precious", 8);
        close(fd);
}

/* Refused at once or in the job: either way as InvalidArgs. */
static void assert_invalid(sd_bus *bus, int fd, const char *what) {
        sd_bus_message *message = new_call(bus, ROOT, TO_FILE);
        _cleanup_message_ sd_bus_message *reply = NULL;
        sd_bus_error error = SD_BUS_ERROR_NULL;
        const char *job;

        assert_true(fd >= 0);
        assert_true(sd_bus_message_append(message, "hua{sv}", fd, 0, 0) >= 0);
        if (sd_bus_call(bus, message, 0, &error, &reply) < 0) {
                if (!sd_bus_error_has_name(&error, SD_BUS_ERROR_INVALID_ARGS))
                        fail_msg("%s: expected InvalidArgs, got %s, '%s'", what, error.name, error.message);
                assert_sentence(error.message, NULL);
        } else {
                assert_true(sd_bus_message_read(reply, "o", &job) > 0);
                assert_job_fails(bus, job, "InvalidArgs", NULL);
        }
        sd_bus_error_free(&error);
        sd_bus_message_unref(message);
        close(fd);
}

static void test_descriptors_that_cannot_take_a_backup_are_refused(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        int datagram[2], packet[2], fds[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, datagram), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, packet), 0);
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);

        assert_invalid(bus, open_in(h, "new", O_WRONLY | O_CREAT), "write-only file");
        assert_invalid(bus, open_in(h, "new", O_RDONLY), "read-only file");
        assert_invalid(bus, open_in(h, "", O_RDONLY | O_DIRECTORY), "directory");
        assert_invalid(bus, open_in(h, "", O_PATH), "O_PATH");
        assert_invalid(bus, open("/dev/null", O_RDWR | O_CLOEXEC), "/dev/null");
        assert_invalid(bus, datagram[0], "datagram socket");
        assert_invalid(bus, packet[0], "packet socket");
        assert_invalid(bus, fds[0], "the reading end of a pipe");
        close(datagram[1]);
        close(packet[1]);
        close(fds[1]);
        assert_no_leftovers(h);
}

static void test_file_opened_for_appending_gets_all(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        int fd = open_in(h, "append.tar", O_RDWR | O_CREAT | O_APPEND);
        struct stat st;
        store_many(bus, "a", 30, 5000);

        g_autofree char *job = START(bus, fd);
        g_autoptr(GHashTable) result = assert_job_succeeds(bus, job);
        assert_int_equal(fstat(fd, &st), 0);
        assert_size(result, (uint64_t)st.st_size);
        assert_property(result, "verified", "true");
        close(fd);
}

/* Reads until the end, at most some bytes a millisecond. Returns how many came. */
static uint64_t read_slowly(int fd, size_t at_once) {
        g_autofree char *buffer = g_malloc(at_once);
        uint64_t size = 0;
        ssize_t n;

        while ((n = read(fd, buffer, at_once)) > 0) {
                size += (uint64_t)n;
                sleep_msec(1);
        }
        assert_int_equal(n, 0);
        return size;
}

static void test_pipe_with_a_slow_reader_gets_all(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        int fds[2];
        store_many(bus, "a", 500, 2000);
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        int flags = fcntl(fds[1], F_GETFL);
        int kept = dup(fds[1]);

        g_autofree char *job = START(bus, fds[1]);
        close(fds[1]);
        /* Flags belong to the open pipe, and so to us as well. */
        sleep_msec(50);
        assert_int_equal(fcntl(kept, F_GETFL), flags);
        close(kept);
        uint64_t size = read_slowly(fds[0], 4096);
        g_autoptr(GHashTable) result = assert_job_succeeds(bus, job);
        assert_true(size > 1000000);
        assert_size(result, size);
        assert_no_leftovers(h);
        close(fds[0]);
}

static void test_stream_socket_gets_all_and_its_flags_stay(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        int fds[2];
        store_many(bus, "a", 500, 2000);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        int flags = fcntl(fds[1], F_GETFL);

        g_autofree char *job = START(bus, fds[1]);
        sleep_msec(50);
        assert_int_equal(fcntl(fds[1], F_GETFL), flags);
        close(fds[1]);
        uint64_t size = read_slowly(fds[0], 65536);
        g_autoptr(GHashTable) result = assert_job_succeeds(bus, job);
        assert_size(result, size);
        close(fds[0]);
}

static void test_nonblocking_pipe_gets_all_and_stays_nonblocking(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        int fds[2];
        store_many(bus, "a", 200, 2000);
        assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
        assert_int_equal(fcntl(fds[0], F_SETFL, 0), 0);
        int kept = dup(fds[1]);

        g_autofree char *job = START(bus, fds[1]);
        sleep_msec(50);
        assert_true(fcntl(kept, F_GETFL) & O_NONBLOCK);
        close(kept);
        close(fds[1]);
        uint64_t size = read_slowly(fds[0], 65536);
        g_autoptr(GHashTable) result = assert_job_succeeds(bus, job);
        assert_size(result, size);
        close(fds[0]);
}

static void test_cancel_works_while_the_reader_sleeps(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        store_many(bus, "a", 500, 2000);

        for (unsigned i = 0; i < 2; i++) {
                g_auto(StuckJob) stuck = {};
                char buffer[65536];
                size_t size = 0;
                stuck_job_start(bus, &stuck);
                int64_t begin = g_get_monotonic_time();
                if (i == 0)
                        call_void(bus, stuck.path, "Job.Cancel", "");
                else
                        call_void(bus, ROOT, "LicenseBackup.CancelLicenseBackup", "");
                assert_job_fails(bus, stuck.path, "NS_E_DRM_OPERATION_CANCELED", NULL);
                assert_true(g_get_monotonic_time() - begin < (sanitized() ? 20 : 2) * G_USEC_PER_SEC);
                /* The daemon has closed its end. */
                for (ssize_t n; (n = read(stuck.fds[0], buffer, sizeof buffer)) > 0;)
                        size += (size_t)n;
                assert_true(size < 500 * 2000);
        }
        assert_no_leftovers(h);
        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_hash_table_unref(assert_job_succeeds(bus, job));
}

static void test_cancel_works_while_a_socket_is_full(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        struct pollfd wait = { .events = POLLIN };
        int fds[2];
        store_many(bus, "a", 1000, 5000);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        g_autofree char *job = START(bus, fds[1]);
        wait.fd = fds[0];
        assert_int_equal(poll(&wait, 1, PATIENCE_SEC * 1000), 1);

        call_void(bus, job, "Job.Cancel", "");
        assert_job_fails(bus, job, "NS_E_DRM_OPERATION_CANCELED", NULL);
        close(fds[0]);
        close(fds[1]);
}

static void test_pipe_closed_by_its_reader_fails_with_the_medium(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        pid_t daemon = h->daemon;
        store_simple(bus, "one");

        for (unsigned i = 0; i < 2; i++) {
                g_auto(StuckJob) stuck = {};
                stuck_job_start(bus, &stuck);
                close(stuck.fds[0]);
                stuck.fds[0] = -1;
                assert_job_fails(bus, stuck.path, "NS_E_BACKUP_RESTORE_FAILURE", "*closed*");
        }
        /* It lives: SIGPIPE did not end it. */
        store_simple(bus, "two");
        assert_int_equal(kill(daemon, 0), 0);
}

static void test_socket_closed_by_its_reader_fails_with_the_medium(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        int fds[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        close(fds[0]);

        g_autofree char *job = START(bus, fds[1]);
        assert_job_fails(bus, job, "NS_E_BACKUP_RESTORE_FAILURE", NULL);
        store_simple(bus, "it lives");
        close(fds[1]);
}

static int setup_impatient(void **state) {
        harness_setup_bus(state);
        harness_set(*state, "Jobs", "StallSeconds", "1");
        harness_start(*state);
        return 0;
}

static void test_descriptor_that_takes_nothing_ends_its_job(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_auto(StuckJob) stuck = {};
        store_simple(bus, "one");

        int64_t begin = g_get_monotonic_time();
        stuck_job_start(bus, &stuck);
        assert_job_fails(bus, stuck.path, "NS_E_BACKUP_RESTORE_FAILURE", NULL);
        assert_true(g_get_monotonic_time() - begin >= G_USEC_PER_SEC);
        assert_no_leftovers(h);
}

static void test_reader_that_goes_on_in_time_gets_all(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_auto(StuckJob) stuck = {};
        char buffer[4096];
        size_t size = 0;
        store_many(bus, "a", 10, 1000);
        stuck_job_start(bus, &stuck);

        /* Longer than StallSeconds in all, never so long at a time. */
        for (unsigned i = 0; i < 4; i++) {
                sleep_msec(400);
                ssize_t n = read(stuck.fds[0], buffer, sizeof buffer);
                assert_true(n > 0);
                size += (size_t)n;
        }
        size += stuck_job_drain(bus, &stuck);
        g_autoptr(GHashTable) result = assert_job_succeeds(bus, stuck.path);
        assert_size(result, size);
}

static void test_flags_and_options_are_checked(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        int fd = open_in(h, "backup.tar", O_RDWR | O_CREAT);
        struct stat st;

        call_error(bus, ROOT, TO_FILE, "InvalidArgs", NULL, "hua{sv}", fd, 1, 0);
        call_error(bus, ROOT, TO_FILE, "InvalidArgs", NULL, "hua{sv}", fd, 2, 0);
        call_error(
                bus, ROOT, TO_FILE, "InvalidArgs", "*Colour*", "hua{sv}", fd, 0, 1, "Colour", "s", "blue");
        call_error(bus, ROOT, TO_FILE, "InvalidArgs", "*Owner*", "hua{sv}", fd, 0, 1, "Owner", "s", "root");
        call_error(bus, ROOT, TO_FILE, "InvalidArgs", "*AllUsers*", "hua{sv}", fd, 0, 1, "AllUsers", "u", 1);
        call_error(bus, ROOT, TO_FILE, "InvalidArgs", "*exclude each other.", "hua{sv}", fd, 0, 2, "Owner", "u", 4711,
                "AllUsers", "b", 1);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_size, 0);
        close(fd);
}

static void test_licenses_of_others_need_authorisation(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        sd_bus *bus = harness_connect(h, 0);
        int fd = open_in(h, "backup.tar", O_RDWR | O_CREAT);
        struct stat st;
        store_simple(harness_connect(h, 1), "theirs");

        call_error(bus, ROOT, TO_FILE, "AccessDenied", NULL, "hua{sv}", fd, 0, 1, "Owner", "u",
                (uint32_t)h->users[1]);
        call_error(bus, ROOT, TO_FILE, "AccessDenied", NULL, "hua{sv}", fd, 0, 1, "AllUsers", "b", 1);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_size, 0);
        close(fd);
}

/* As options says, to a new file; a backup of one license, or of as many as there are users. */
static void assert_root_gets(Harness *h, sd_bus *root, const char *name, const char *licenses, const char *option,
                const char *type, uint32_t value) {
        int fd = open_in(h, name, O_RDWR | O_CREAT);
        g_autofree char *job = call_string(root, ROOT, TO_FILE, "hua{sv}", fd, 0, 1, option, type, value);
        g_autoptr(GHashTable) result = assert_job_succeeds(root, job);

        assert_property(result, "licenses", licenses);
        close(fd);
}

static void test_root_backs_up_one_user_and_all_users(void **state) {
        Harness *h = *state;
        harness_need_users(h, 3);
        sd_bus *root = harness_connect_uid(h, 0);

        for (unsigned i = 0; i < 3; i++)
                store_simple(harness_connect(h, i), "theirs");
        store_simple(harness_connect(h, 1), "theirs too");
        assert_root_gets(h, root, "one.tar", "2", "Owner", "u", (uint32_t)h->users[1]);
        assert_root_gets(h, root, "all.tar", "4", "AllUsers", "b", 1);
        int fd = open_in(h, "none.tar", O_RDWR | O_CREAT);
        call_error(root, ROOT, TO_FILE, "InvalidArgs", NULL, "hua{sv}", fd, 0, 1, "Owner", "u", UINT32_MAX);
        close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)
#define STALL_TEST(name) cmocka_unit_test_setup_teardown(name, setup_impatient, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_file_is_written_and_its_flags_stay),
                TEST(test_file_that_is_not_empty_is_refused_and_stays),
                TEST(test_descriptors_that_cannot_take_a_backup_are_refused),
                TEST(test_file_opened_for_appending_gets_all),
                TEST(test_pipe_with_a_slow_reader_gets_all),
                TEST(test_stream_socket_gets_all_and_its_flags_stay),
                TEST(test_nonblocking_pipe_gets_all_and_stays_nonblocking),
                TEST(test_cancel_works_while_the_reader_sleeps),
                TEST(test_cancel_works_while_a_socket_is_full),
                TEST(test_pipe_closed_by_its_reader_fails_with_the_medium),
                TEST(test_socket_closed_by_its_reader_fails_with_the_medium),
                STALL_TEST(test_descriptor_that_takes_nothing_ends_its_job),
                STALL_TEST(test_reader_that_goes_on_in_time_gets_all),
                TEST(test_flags_and_options_are_checked),
                TEST(test_licenses_of_others_need_authorisation),
                TEST(test_root_backs_up_one_user_and_all_users),
        };

        return cmocka_run_group_tests_name("backup-descriptor", tests, NULL, NULL);
}
