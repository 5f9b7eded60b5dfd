/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* System calls that fail where they never should: what is said of it, and that nothing is taken for done. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "common.h"
#include "tarball.h"
#include "user-name.h"

#define SIZE 600000U
#define LONG_MSEC 20000
/* A descriptor of this number is told from all others by one bit. */
#define APART 512U

static const Refusal no_poll[] = {
#ifdef SYS_poll
        { SYS_poll, 0, 0, EIO },
#endif
        { SYS_ppoll, 0, 0, EIO },
};

static const char *wait_without_poll(void *userdata) {
        int ends[2];
        g_auto(Error) error = {};
        ArchiveCounts counts;

        SCENE_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
        SCENE_CHECK(io_wait(ends[0], POLLIN, NULL, LONG_MSEC) == -EIO);
        SCENE_CHECK(descriptor_copy(*(int *)userdata, SIZE, ends[0], DESCRIPTOR_SOCKET, LONG_MSEC, NULL, NULL, NULL,
                            &error) == ERROR_MEDIUM);
        SCENE_CHECK(strstr(error_message(&error), "Input/output error"));
        SCENE_CHECK(tarball_prove(ends[1], TARBALL_DOCUMENT_MAX, LONG_MSEC, NULL, NULL, NULL, &counts, &error) ==
                ERROR_MEDIUM);
        SCENE_CHECK(strstr(error_message(&error), "Input/output error"));
        close(ends[0]);
        close(ends[1]);
        return NULL;
}

static void test_descriptor_that_cannot_be_waited_for_is_an_error(void **state) {
        _cleanup_fd_ int source = noise_file(SIZE);

        play_without(no_poll, G_N_ELEMENTS(no_poll), wait_without_poll, &source);
}

static const char *measure(void *userdata) {
        _cleanup_fd_ int fd = memfd_create("file", MFD_CLOEXEC);
        g_auto(Error) error = {};

        SCENE_CHECK(descriptor_check_source(fd, &error) == ERROR_MEDIUM);
        return NULL;
}

static void test_file_that_can_neither_be_examined_nor_sought_is_refused(void **state) {
        const Refusal refusals[] = {
#ifdef SYS_newfstatat
                { SYS_newfstatat, 0, 0, EACCES },
#endif
                { SYS_fstat, 0, 0, EACCES },
                { SYS_lseek, 2, SEEK_END, EIO },
        };

        play_without(refusals, G_N_ELEMENTS(refusals), measure, NULL);
}

static const char *copy_to_apart(void *userdata) {
        g_auto(Error) error = {};

        SCENE_CHECK(descriptor_copy(*(int *)userdata, SIZE, APART, DESCRIPTOR_FILE, LONG_MSEC, NULL, NULL, NULL,
                            &error) == ERROR_MEDIUM);
        SCENE_CHECK(strstr(error_message(&error), "Input/output error"));
        return NULL;
}

static void test_copy_that_cannot_be_read_back_is_not_taken_for_good(void **state) {
        const Refusal refusals[] = { { SYS_pread64, 0, APART, EIO } };
        _cleanup_fd_ int source = noise_file(SIZE), target = memfd_create("target", MFD_CLOEXEC);

        assert_int_equal(dup2(target, APART), APART);
        play_without(refusals, G_N_ELEMENTS(refusals), copy_to_apart, &source);
        close(APART);
}

static const char *copy_from_apart(void *userdata) {
        _cleanup_fd_ int target = memfd_create("target", MFD_CLOEXEC);
        g_auto(Error) error = {};
        int ends[2];

        SCENE_CHECK(descriptor_copy(APART, SIZE, target, DESCRIPTOR_FILE, LONG_MSEC, NULL, NULL, NULL, &error) ==
                ERROR_MEDIUM);
        SCENE_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
        SCENE_CHECK(descriptor_copy(APART, SIZE, ends[0], DESCRIPTOR_SOCKET, LONG_MSEC, NULL, NULL, NULL, &error) ==
                ERROR_MEDIUM);
        SCENE_CHECK(strstr(error_message(&error), "Input/output error"));
        close(ends[0]);
        close(ends[1]);
        return NULL;
}

static void test_copy_of_what_cannot_be_read_is_an_error(void **state) {
        const Refusal refusals[] = { { SYS_pread64, 0, APART, EIO } };
        _cleanup_fd_ int source = noise_file(SIZE);

        assert_int_equal(dup2(source, APART), APART);
        play_without(refusals, G_N_ELEMENTS(refusals), copy_from_apart, NULL);
        close(APART);
}

static void cancel_at_end(uint64_t done, uint64_t size, void *userdata) {
        if (done == size)
                cancel_trigger(userdata, "Enough.");
}

static void test_cancel_ends_the_reading_back(void **state) {
        _cleanup_fd_ int source = noise_file(SIZE), target = memfd_create("target", MFD_CLOEXEC);
        g_autoptr(Cancel) cancel = NULL;
        g_auto(Error) error = {};

        assert_int_equal(cancel_new(&cancel), 0);
        assert_int_equal(descriptor_copy(source, SIZE, target, DESCRIPTOR_FILE, LONG_MSEC, cancel, cancel_at_end,
                                 cancel, &error), ERROR_CANCELED);
        assert_error(&error, ERROR_CANCELED, "Enough.");
        assert_int_equal(lseek(target, 0, SEEK_END), SIZE);
}

/* glibc says that there is no such user; but then, there is no root either. */
static const char *look_up_without_files(void *userdata) {
        g_autofree char *name = NULL;
        uid_t uid = 4711;

        SCENE_CHECK(user_name_of(0, &name) < 0 && !name);
        SCENE_CHECK(user_name_of(4242, &name) < 0 && !name);
        SCENE_CHECK(user_uid_of("root", &uid) < 0 && uid == 4711);
        return NULL;
}

static void test_nobody_is_unknown_for_want_of_a_descriptor(void **state) {
        const Refusal refusals[] = {
#ifdef SYS_open
                { SYS_open, 0, 0, EMFILE },
#endif
                { SYS_openat, 0, 0, EMFILE }, { SYS_socket, 0, 0, EMFILE },
        };
        g_autofree char *name = NULL;

        assert_int_equal(user_name_of(0, &name), 0);
        assert_string_equal(name, "root");
        play_without(refusals, G_N_ELEMENTS(refusals), look_up_without_files, NULL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_descriptor_that_cannot_be_waited_for_is_an_error),
                cmocka_unit_test(test_file_that_can_neither_be_examined_nor_sought_is_refused),
                cmocka_unit_test(test_copy_that_cannot_be_read_back_is_not_taken_for_good),
                cmocka_unit_test(test_copy_of_what_cannot_be_read_is_an_error),
                cmocka_unit_test(test_cancel_ends_the_reading_back),
                cmocka_unit_test(test_nobody_is_unknown_for_want_of_a_descriptor),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
