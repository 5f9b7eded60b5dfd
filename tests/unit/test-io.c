/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "common.h"
#include "io.h"

#define LONG_MSEC 20000 /* longer than any test takes */

static Cancel *new_cancel(void) {
        Cancel *cancel;

        assert_int_equal(cancel_new(&cancel), 0);
        return cancel;
}

static int new_file(void) {
        int fd = memfd_create("target", MFD_CLOEXEC);

        assert_true(fd >= 0);
        return fd;
}

static void test_first_reason_of_a_cancel_counts(void **state) {
        g_autoptr(Cancel) cancel = new_cancel();
        struct pollfd fds = { .fd = cancel_fd(cancel), .events = POLLIN };

        assert_false(cancel_requested(cancel));
        assert_null(cancel_reason(cancel));
        assert_int_equal(poll(&fds, 1, 0), 0);

        cancel_trigger(cancel, "first");
        cancel_trigger(cancel, "second");
        assert_true(cancel_requested(cancel));
        assert_string_equal(cancel_reason(cancel), "first");
        assert_int_equal(poll(&fds, 1, 0), 1);
        assert_int_equal(poll(&fds, 1, 0), 1);
}

static void test_cancel_lives_until_its_last_reference(void **state) {
        Cancel *cancel = new_cancel();
        int fd = cancel_fd(cancel);

        assert_ptr_equal(cancel_ref(cancel), cancel);
        assert_null(cancel_unref(cancel));
        assert_int_not_equal(fcntl(fd, F_GETFD), -1);
        cancel_unref(cancel);
        assert_int_equal(fcntl(fd, F_GETFD), -1);
        assert_null(cancel_unref(NULL));
}

static void test_wait_tells_ready_from_stalled_from_canceled(void **state) {
        g_autoptr(Cancel) cancel = new_cancel();
        int fds[2];

        make_pipe(fds);
        assert_int_equal(io_wait(fds[1], POLLOUT, cancel, LONG_MSEC), 0);
        assert_int_equal(io_wait(fds[0], POLLIN, cancel, 0), IO_STALLED);
        assert_int_equal(io_wait(fds[0], POLLIN, NULL, 20), IO_STALLED);
        assert_int_equal(write(fds[1], "x", 1), 1);
        assert_int_equal(io_wait(fds[0], POLLIN, NULL, -1), 0);
        cancel_trigger(cancel, "reason");
        assert_int_equal(io_wait(fds[0], POLLIN, cancel, -1), IO_CANCELED);
        close(fds[1]);
        assert_int_equal(io_wait(fds[0], POLLIN, NULL, -1), 0);
        close(fds[0]);
}

static void test_wait_lasts_as_long_as_it_says(void **state) {
        int64_t start = g_get_monotonic_time();
        int fds[2];

        make_pipe(fds);
        assert_int_equal(io_wait(fds[0], POLLIN, NULL, 50), IO_STALLED);
        assert_true(g_get_monotonic_time() - start >= 49 * 1000);
        close(fds[0]);
        close(fds[1]);
}

static void ignore(int signal) {
}

typedef struct Interrupter {
        pthread_t thread;
        atomic_bool stop;
} Interrupter;

/* For three seconds, if need be. */
static void *interrupt(void *userdata) {
        Interrupter *interrupter = userdata;

        for (unsigned i = 0; i < 600 && !atomic_load(&interrupter->stop); i++) {
                g_usleep(5 * 1000);
                pthread_kill(interrupter->thread, SIGUSR1);
        }
        return NULL;
}

static void test_signals_do_not_shorten_or_prolong_a_wait(void **state) {
        struct sigaction action = { .sa_handler = ignore };
        Interrupter interrupter = { .thread = pthread_self() };
        pthread_t thread;
        int64_t start = g_get_monotonic_time(), took;
        int fds[2];

        sigaction(SIGUSR1, &action, NULL);
        make_pipe(fds);
        assert_int_equal(pthread_create(&thread, NULL, interrupt, &interrupter), 0);
        assert_int_equal(io_wait(fds[0], POLLIN, NULL, 100), IO_STALLED);
        took = g_get_monotonic_time() - start;
        atomic_store(&interrupter.stop, true);
        pthread_join(thread, NULL);
        assert_in_range(took, 99 * 1000, 2500 * 1000);
        close(fds[0]);
        close(fds[1]);
}

static void assert_same(int source, int target, size_t size) {
        g_autofree uint8_t *a = g_malloc(size + 1), *b = g_malloc(size + 1);

        assert_int_equal(io_pread_all(source, a, size + 1, 0), size);
        assert_int_equal(io_pread_all(target, b, size + 1, 0), size);
        assert_memory_equal(a, b, size);
}

typedef struct Rises {
        uint64_t last, size;
        bool fell;
} Rises;

static void note_rise(uint64_t done, uint64_t size, void *userdata) {
        Rises *rises = userdata;

        rises->fell = rises->fell || done < rises->last || size != rises->size;
        rises->last = done;
}

static int copy(int source, size_t size, int target, DescriptorKind kind, Error *error) {
        return descriptor_copy(source, size, target, kind, LONG_MSEC, NULL, NULL, NULL, error);
}

static void test_file_gets_all_bytes_whatever_the_size(void **state) {
        static const size_t sizes[] = { 0, 1, 4095, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 512 * 1024 };

        for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
                _cleanup_fd_ int source = noise_file(sizes[i]), target = new_file();
                Rises rises = { .size = sizes[i] };
                g_auto(Error) error = {};

                assert_good(descriptor_copy(source, sizes[i], target, DESCRIPTOR_FILE, LONG_MSEC, NULL,
                                    note_rise, &rises, &error), &error);
                assert_same(source, target, sizes[i]);
                assert_int_equal(rises.last, sizes[i]);
                assert_false(rises.fell);
        }
}

/* Those who change the file while it is written; called after each piece. */

static void overwrite(uint64_t done, uint64_t size, void *userdata) {
        assert_int_equal(pwrite(*(int *)userdata, "?", 1, 5), 1);
}

static void append(uint64_t done, uint64_t size, void *userdata) {
        if (done == size)
                assert_int_equal(pwrite(*(int *)userdata, "?", 1, (off_t)size), 1);
}

static void cut(uint64_t done, uint64_t size, void *userdata) {
        if (done == size)
                assert_int_equal(ftruncate(*(int *)userdata, (off_t)size - 1), 0);
}

static void test_file_that_another_changes_is_noticed(void **state) {
        static const DescriptorProgress changes[] = { overwrite, append, cut };
        static const size_t sizes[] = { 1000, 256 * 1024, 700000 };

        for (size_t i = 0; i < G_N_ELEMENTS(changes) * G_N_ELEMENTS(sizes); i++) {
                size_t size = sizes[i / G_N_ELEMENTS(changes)];
                _cleanup_fd_ int source = noise_file(size), target = new_file();
                g_auto(Error) error = {};

                assert_int_equal(descriptor_copy(source, size, target, DESCRIPTOR_FILE, LONG_MSEC, NULL,
                                         changes[i % G_N_ELEMENTS(changes)], &target, &error), ERROR_MEDIUM);
                assert_error(&error, ERROR_MEDIUM, "read back");
        }
}

/* Where every write goes to the end, another's byte moves all of ours. */
static void append_in_the_middle(uint64_t done, uint64_t size, void *userdata) {
        if (done < size)
                assert_int_equal(write(*(int *)userdata, "?", 1), 1);
}

static void test_appending_file_is_written_right_or_not_at_all(void **state) {
        _cleanup_fd_ int source = noise_file(600000);
        char *folder = temp_folder_new();
        g_autofree char *path = g_build_filename(folder, "file", NULL);

        for (int disturbed = 0; disturbed < 2; disturbed++) {
                _cleanup_fd_ int target = open(path, O_RDWR | O_CREAT | O_TRUNC | O_APPEND, 0600);
                g_auto(Error) error = {};
                int r;

                r = descriptor_copy(source, 600000, target, DESCRIPTOR_FILE, LONG_MSEC, NULL,
                        disturbed ? append_in_the_middle : NULL, &target, &error);
                assert_true(fcntl(target, F_GETFL) & O_APPEND);
                if (disturbed)
                        assert_error(&error, ERROR_MEDIUM, "read back");
                else {
                        assert_good(r, &error);
                        assert_same(source, target, 600000);
                }
        }
        temp_folder_remove(folder);
}

static void test_file_that_takes_nothing_says_why(void **state) {
        _cleanup_fd_ int target = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        _cleanup_fd_ int source = noise_file(100);
        g_auto(Error) error = {};

        assert_int_equal(fcntl(target, F_ADD_SEALS, F_SEAL_GROW), 0);
        assert_int_equal(copy(source, 100, target, DESCRIPTOR_FILE, &error), ERROR_MEDIUM);
        assert_error(&error, ERROR_MEDIUM, g_strerror(EPERM));
}

static void cancel_now(uint64_t done, uint64_t size, void *userdata) {
        cancel_trigger(userdata, "Enough.");
}

static void test_copy_to_a_file_ends_with_the_cancel(void **state) {
        _cleanup_fd_ int source = noise_file(1000000), target = new_file();
        g_autoptr(Cancel) cancel = new_cancel();
        g_auto(Error) error = {};

        assert_int_equal(descriptor_copy(source, 1000000, target, DESCRIPTOR_FILE, LONG_MSEC, cancel,
                                 cancel_now, cancel, &error), ERROR_CANCELED);
        assert_error(&error, ERROR_CANCELED, "Enough.");
        assert_in_range(lseek(target, 0, SEEK_END), 1, 999999);
}

/* The other end: reads with pauses, up to a number of bytes, and closes. */
typedef struct Reader {
        int fd;
        size_t piece, limit;
        unsigned pause_usec;
        GByteArray *bytes;
        pthread_t thread;
} Reader;

static void *read_on(void *userdata) {
        Reader *reader = userdata;
        g_autofree uint8_t *buffer = g_malloc(reader->piece);

        while (reader->bytes->len < reader->limit) {
                ssize_t n = read(reader->fd, buffer, MIN(reader->piece, reader->limit - reader->bytes->len));

                if (n <= 0)
                        break;
                g_byte_array_append(reader->bytes, buffer, (guint)n);
                if (reader->pause_usec > 0)
                        g_usleep(reader->pause_usec);
        }
        close(reader->fd);
        return NULL;
}

static void make_stream(DescriptorKind kind, int fds[2]) {
        if (kind == DESCRIPTOR_PIPE)
                make_pipe(fds);
        else
                make_sockets(fds, SOCK_STREAM);
}

/* Copies to a reader; gives what it got. */
static int copy_to_reader(DescriptorKind kind, bool nonblocking, size_t size, Reader *reader, int stall_msec,
                GByteArray *ret_bytes, Error *error) {
        _cleanup_fd_ int source = noise_file(size);
        Rises rises = { .size = size };
        int fds[2], flags, r;

        make_stream(kind, fds);
        if (nonblocking)
                assert_int_equal(fcntl(fds[1], F_SETFL, fcntl(fds[1], F_GETFL) | O_NONBLOCK), 0);
        flags = fcntl(fds[1], F_GETFL);
        reader->fd = fds[0];
        reader->bytes = ret_bytes;
        assert_int_equal(pthread_create(&reader->thread, NULL, read_on, reader), 0);
        r = descriptor_copy(source, size, fds[1], kind, stall_msec, NULL, note_rise, &rises, error);
        assert_int_equal(fcntl(fds[1], F_GETFL), flags);
        assert_int_equal(lseek(source, 0, SEEK_CUR), size);
        close(fds[1]);
        pthread_join(reader->thread, NULL);
        assert_false(rises.fell);
        if (r == 0) {
                g_autofree uint8_t *sent = g_malloc(size + 1);

                assert_int_equal(io_pread_all(source, sent, size, 0), size);
                assert_int_equal(ret_bytes->len, size);
                assert_memory_equal(ret_bytes->data, sent, size);
        }
        return r;
}

static void test_streams_get_all_bytes_and_keep_their_flags(void **state) {
        static const size_t sizes[] = { 0, 1, 65536, 65537, 2000003 };

        for (unsigned i = 0; i < 4 * G_N_ELEMENTS(sizes); i++) {
                DescriptorKind kind = i & 1 ? DESCRIPTOR_PIPE : DESCRIPTOR_SOCKET;
                g_autoptr(GByteArray) bytes = g_byte_array_new();
                Reader reader = { .piece = 10007, .limit = SIZE_MAX };
                g_auto(Error) error = {};

                assert_good(copy_to_reader(kind, i & 2, sizes[i / 4], &reader, LONG_MSEC, bytes, &error),
                        &error);
        }
}

/* As long as something moves, the copy may take longer than a stall. */
static void test_slow_reader_is_waited_for(void **state) {
        for (DescriptorKind kind = DESCRIPTOR_PIPE; kind <= DESCRIPTOR_SOCKET; kind++) {
                g_autoptr(GByteArray) bytes = g_byte_array_new();
                Reader reader = { .piece = 16384, .limit = SIZE_MAX, .pause_usec = 20 * 1000 };
                int64_t start = g_get_monotonic_time();
                g_auto(Error) error = {};

                assert_good(copy_to_reader(kind, false, 1600000, &reader, 1000, bytes, &error), &error);
                assert_true(g_get_monotonic_time() - start > 1200 * 1000);
        }
}

static void test_reader_that_closes_is_a_medium_that_failed(void **state) {
        for (unsigned i = 0; i < 4; i++) {
                DescriptorKind kind = i & 1 ? DESCRIPTOR_PIPE : DESCRIPTOR_SOCKET;
                g_autoptr(GByteArray) bytes = g_byte_array_new();
                Reader reader = { .piece = 4096, .limit = i & 2 ? 100000 : 0 };
                g_auto(Error) error = {};

                assert_int_equal(copy_to_reader(kind, false, 2000000, &reader, LONG_MSEC, bytes, &error),
                        ERROR_MEDIUM);
                assert_error(&error, ERROR_MEDIUM, "closed");
                assert_int_equal(bytes->len, reader.limit);
        }
}

static void test_reader_that_stands_still_ends_the_copy(void **state) {
        for (DescriptorKind kind = DESCRIPTOR_PIPE; kind <= DESCRIPTOR_SOCKET; kind++) {
                _cleanup_fd_ int source = noise_file(2000000);
                int64_t start = g_get_monotonic_time();
                g_auto(Error) error = {};
                int fds[2];

                make_stream(kind, fds);
                assert_int_equal(descriptor_copy(source, 2000000, fds[1], kind, 150, NULL, NULL, NULL,
                                         &error), ERROR_MEDIUM);
                assert_error(&error, ERROR_MEDIUM, "took nothing");
                assert_in_range(g_get_monotonic_time() - start, 149 * 1000, 10 * 1000 * 1000);
                close(fds[0]);
                close(fds[1]);
        }
}

static void *cancel_soon(void *userdata) {
        g_usleep(50 * 1000);
        cancel_trigger(userdata, "Enough.");
        return NULL;
}

static void test_cancel_ends_a_copy_that_is_blocked(void **state) {
        for (DescriptorKind kind = DESCRIPTOR_PIPE; kind <= DESCRIPTOR_SOCKET; kind++) {
                _cleanup_fd_ int source = noise_file(2000000);
                g_autoptr(Cancel) cancel = new_cancel();
                int64_t start = g_get_monotonic_time();
                g_auto(Error) error = {};
                pthread_t thread;
                int fds[2];

                make_stream(kind, fds);
                assert_int_equal(pthread_create(&thread, NULL, cancel_soon, cancel), 0);
                assert_int_equal(descriptor_copy(source, 2000000, fds[1], kind, LONG_MSEC, cancel, NULL,
                                         NULL, &error), ERROR_CANCELED);
                assert_error(&error, ERROR_CANCELED, "Enough.");
                assert_true(g_get_monotonic_time() - start < LONG_MSEC * 500);
                pthread_join(thread, NULL);
                close(fds[0]);
                close(fds[1]);
        }
}

static void test_source_that_is_too_short_is_an_error(void **state) {
        static const DescriptorKind kinds[] = { DESCRIPTOR_FILE, DESCRIPTOR_PIPE, DESCRIPTOR_SOCKET };

        for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
                _cleanup_fd_ int source = noise_file(1000), file = new_file();
                g_auto(Error) error = {};
                int fds[2];

                make_stream(kinds[i], fds);
                assert_int_equal(copy(source, 1001, kinds[i] == DESCRIPTOR_FILE ? file : fds[1], kinds[i],
                                         &error), ERROR_MEDIUM);
                close(fds[0]);
                close(fds[1]);
        }
}

static int setup(void **state) {
        /* As in the service. */
        signal(SIGPIPE, SIG_IGN);
        return 0;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_first_reason_of_a_cancel_counts),
                cmocka_unit_test(test_cancel_lives_until_its_last_reference),
                cmocka_unit_test(test_wait_tells_ready_from_stalled_from_canceled),
                cmocka_unit_test(test_wait_lasts_as_long_as_it_says),
                cmocka_unit_test(test_signals_do_not_shorten_or_prolong_a_wait),
                cmocka_unit_test(test_file_gets_all_bytes_whatever_the_size),
                cmocka_unit_test(test_file_that_another_changes_is_noticed),
                cmocka_unit_test(test_appending_file_is_written_right_or_not_at_all),
                cmocka_unit_test(test_file_that_takes_nothing_says_why),
                cmocka_unit_test(test_copy_to_a_file_ends_with_the_cancel),
                cmocka_unit_test(test_streams_get_all_bytes_and_keep_their_flags),
                cmocka_unit_test(test_slow_reader_is_waited_for),
                cmocka_unit_test(test_reader_that_closes_is_a_medium_that_failed),
                cmocka_unit_test(test_reader_that_stands_still_ends_the_copy),
                cmocka_unit_test(test_cancel_ends_a_copy_that_is_blocked),
                cmocka_unit_test(test_source_that_is_too_short_is_an_error),
        };

        return cmocka_run_group_tests(tests, setup, NULL);
}
