/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "common.h"

/* Which descriptors of a client can be written to and read from: the part of io.c that looks at them. */

/* Which descriptors are a target. The descriptor is closed. */
static void assert_target(int fd, DescriptorKind kind) {
        g_auto(Error) error = {};
        int flags = fcntl(fd, F_GETFL);
        off_t at = lseek(fd, 0, SEEK_CUR);
        DescriptorKind found = 99;

        assert_good(descriptor_check_target(fd, &found, &error), &error);
        assert_int_equal(found, kind);
        assert_int_equal(fcntl(fd, F_GETFL), flags);
        assert_int_equal(lseek(fd, 0, SEEK_CUR), at);
        close(fd);
}

static void assert_no_target(int fd, ErrorCode code, const char *words) {
        g_auto(Error) error = {};
        DescriptorKind kind = 99;

        assert_int_equal(descriptor_check_target(fd, &kind, &error), code);
        assert_error(&error, code, words);
        assert_int_equal(kind, 99);
        close(fd);
}

static void test_files_pipes_and_stream_sockets_are_targets(void **state) {
        int pipes[2], sockets[2];

        assert_target(noise_file(0), DESCRIPTOR_FILE);
        make_pipe(pipes);
        assert_target(pipes[1], DESCRIPTOR_PIPE);
        close(pipes[0]);
        make_sockets(sockets, SOCK_STREAM | SOCK_NONBLOCK);
        assert_target(sockets[0], DESCRIPTOR_SOCKET);
        close(sockets[1]);
}

static void test_other_kinds_are_no_targets(void **state) {
        static const char words[] = "not a regular file, a pipe or a stream socket";
        int sockets[2];

        make_sockets(sockets, SOCK_DGRAM);
        assert_no_target(sockets[0], ERROR_INVALID_ARGUMENTS, words);
        close(sockets[1]);
        make_sockets(sockets, SOCK_SEQPACKET);
        assert_no_target(sockets[0], ERROR_INVALID_ARGUMENTS, words);
        close(sockets[1]);
        assert_no_target(open("/", O_RDONLY | O_DIRECTORY), ERROR_INVALID_ARGUMENTS, words);
        assert_no_target(open("/dev/null", O_RDWR), ERROR_INVALID_ARGUMENTS, words);
        assert_no_target(open("/", O_PATH), ERROR_INVALID_ARGUMENTS, words);
        assert_no_target(eventfd(0, EFD_CLOEXEC), ERROR_INVALID_ARGUMENTS, words);
}

static void test_path_only_descriptor_of_a_file_is_no_target(void **state) {
        _cleanup_fd_ int fd = noise_file(0);
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);

        assert_no_target(open(path, O_PATH), ERROR_INVALID_ARGUMENTS, "not a regular file");
}

static void test_targets_must_be_open_for_what_is_done_with_them(void **state) {
        _cleanup_fd_ int fd = noise_file(0);
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
        int pipes[2];

        assert_no_target(open(path, O_WRONLY), ERROR_INVALID_ARGUMENTS, "reading and writing");
        assert_no_target(open(path, O_RDONLY), ERROR_INVALID_ARGUMENTS, "reading and writing");
        assert_target(open(path, O_RDWR), DESCRIPTOR_FILE);
        make_pipe(pipes);
        assert_no_target(pipes[0], ERROR_INVALID_ARGUMENTS, "not open for writing");
        close(pipes[1]);
        assert_no_target(-1, ERROR_INVALID_ARGUMENTS, "not usable");
}

static void test_file_that_is_not_empty_is_no_target(void **state) {
        int fd = noise_file(0);

        assert_int_equal(write(fd, "x", 1), 1);
        assert_no_target(fd, ERROR_BACKUP_EXISTS, "not empty");
}

/* FUSE of another user refuses fstat, and nothing else. */
static const char *unexaminable(void *userdata) {
        _cleanup_fd_ int empty = memfd_create("empty", MFD_CLOEXEC);
        _cleanup_fd_ int full = memfd_create("full", MFD_CLOEXEC);
        g_auto(Error) error = {};
        DescriptorKind kind = 99;
        int pipes[2];

        SCENE_CHECK(descriptor_check_target(empty, &kind, &error) == 0);
        SCENE_CHECK(kind == DESCRIPTOR_FILE);
        SCENE_CHECK(pwrite(full, "xyz", 3, 0) == 3 && lseek(full, 1, SEEK_SET) == 1);
        SCENE_CHECK(descriptor_check_target(full, &kind, &error) == ERROR_BACKUP_EXISTS);
        SCENE_CHECK(lseek(full, 0, SEEK_CUR) == 1);
        SCENE_CHECK(pipe2(pipes, O_CLOEXEC) == 0);
        SCENE_CHECK(descriptor_check_target(pipes[1], &kind, &error) == ERROR_MEDIUM);
        SCENE_CHECK(descriptor_check_source(full, &error) == 0);
        SCENE_CHECK(lseek(full, 0, SEEK_CUR) == 1);
        SCENE_CHECK(descriptor_check_source(pipes[0], &error) == ERROR_MEDIUM);
        close(pipes[0]);
        close(pipes[1]);
        return NULL;
}

static void test_file_that_cannot_be_examined_is_measured_by_seeking(void **state) {
        const Refusal refusals[] = {
#ifdef SYS_newfstatat
                { SYS_newfstatat, 0, 0, EACCES },
#endif
                { SYS_fstat, 0, 0, EACCES },
        };

        play_without(refusals, G_N_ELEMENTS(refusals), unexaminable, NULL);
}

/* Which descriptors a backup can be read from: without a byte read, and without a flag changed. Closed. */
static void assert_source(int fd) {
        g_auto(Error) error = {};
        int flags = fcntl(fd, F_GETFL);
        off_t at = lseek(fd, 0, SEEK_CUR);

        assert_good(descriptor_check_source(fd, &error), &error);
        assert_int_equal(fcntl(fd, F_GETFL), flags);
        assert_int_equal(lseek(fd, 0, SEEK_CUR), at);
        close(fd);
}

static void assert_no_source(int fd, const char *words) {
        g_auto(Error) error = {};

        assert_int_equal(descriptor_check_source(fd, &error), ERROR_INVALID_ARGUMENTS);
        assert_error(&error, ERROR_INVALID_ARGUMENTS, words);
        close(fd);
}

static void test_files_pipes_and_stream_sockets_are_sources(void **state) {
        _cleanup_fd_ int fd = noise_file(1000);
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
        int pipes[2], sockets[2];
        char byte;

        assert_source(open(path, O_RDONLY | O_CLOEXEC));
        assert_source(open(path, O_RDWR | O_CLOEXEC));
        assert_source(noise_file(0));
        assert_int_equal(lseek(fd, 500, SEEK_SET), 500);
        assert_source(fcntl(fd, F_DUPFD_CLOEXEC, 0));

        make_pipe(pipes);
        assert_source(fcntl(pipes[0], F_DUPFD_CLOEXEC, 0));
        assert_int_equal(write(pipes[1], "x", 1), 1);
        assert_source(fcntl(pipes[0], F_DUPFD_CLOEXEC, 0));
        assert_int_equal(read(pipes[0], &byte, 1), 1);
        close(pipes[1]);
        assert_source(pipes[0]);

        make_sockets(sockets, SOCK_STREAM | SOCK_NONBLOCK);
        assert_source(sockets[0]);
        close(sockets[1]);
}

static void test_other_kinds_are_no_sources(void **state) {
        static const char words[] = "not a regular file, a pipe or a stream socket";
        _cleanup_fd_ int fd = noise_file(0);
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
        int sockets[2];

        make_sockets(sockets, SOCK_DGRAM);
        assert_no_source(sockets[0], words);
        close(sockets[1]);
        make_sockets(sockets, SOCK_SEQPACKET);
        assert_no_source(sockets[0], words);
        close(sockets[1]);
        assert_no_source(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), words);
        assert_no_source(open("/dev/zero", O_RDONLY | O_CLOEXEC), words);
        assert_no_source(open(path, O_PATH | O_CLOEXEC), words);
        assert_no_source(eventfd(0, EFD_CLOEXEC), words);
        assert_no_source(-1, "not usable");
}

static void test_sources_must_be_open_for_reading(void **state) {
        _cleanup_fd_ int fd = noise_file(0);
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
        int pipes[2];

        assert_no_source(open(path, O_WRONLY | O_CLOEXEC), "not open for reading");
        make_pipe(pipes);
        assert_no_source(pipes[1], "not open for reading");
        close(pipes[0]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_files_pipes_and_stream_sockets_are_targets),
                cmocka_unit_test(test_other_kinds_are_no_targets),
                cmocka_unit_test(test_path_only_descriptor_of_a_file_is_no_target),
                cmocka_unit_test(test_targets_must_be_open_for_what_is_done_with_them),
                cmocka_unit_test(test_file_that_is_not_empty_is_no_target),
                cmocka_unit_test(test_file_that_cannot_be_examined_is_measured_by_seeking),
                cmocka_unit_test(test_files_pipes_and_stream_sockets_are_sources),
                cmocka_unit_test(test_other_kinds_are_no_sources),
                cmocka_unit_test(test_sources_must_be_open_for_reading),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
