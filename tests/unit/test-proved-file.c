/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "common.h"
#include "proved-file.h"

/*
 * A disk that gives back other bytes, that fails when it is synced, that cannot go without the cache, and a machine
 * without another thread.
 */

#define BLOCK PROVED_BLOCK_SIZE
#define LARGE (22 * BLOCK + 1536) /* more blocks than there is memory for */
#define DOCUMENT 10000U
#define DISTANCE 12288U

static struct {
        atomic_uint reads, syncs;
        unsigned lie_at;      /* the number of a pread() that has a wrong byte; 0: none */
        unsigned fail_at;     /* and of a sync_file_range() that fails, */
        int error;            /* with this */
        useconds_t usec;      /* that each sync_file_range() takes longer */
        /* Who refuses to leave out the cache: a file system that cannot, or one that wants other alignments. */
        enum { REFUSES_NOTHING, REFUSES_FLAG, REFUSES_TO_WRITE, REFUSES_TO_READ } refuses;
        atomic_uint flags, direct_writes, direct_reads; /* how often that was possible, and done */
} disk;

#define EXPORT __attribute__((visibility("default")))
#define REAL(function) ((__typeof__(&function))dlsym(RTLD_NEXT, #function))

static ssize_t lie(void *data, ssize_t n) {
        if (n > 0 && atomic_fetch_add(&disk.reads, 1U) + 1 == disk.lie_at)
                ((uint8_t *)data)[n - 1] ^= 1;
        return n;
}

EXPORT int fcntl64(int fd, int command, ...) {
        va_list arguments;
        void *argument; /* as large as each of its types */
        int r;

        va_start(arguments, command);
        argument = va_arg(arguments, void *);
        va_end(arguments);
        if (command != F_SETFL || !((intptr_t)argument & O_DIRECT))
                return REAL(fcntl64)(fd, command, argument);
        if (disk.refuses == REFUSES_FLAG) {
                errno = EINVAL;
                return -1;
        }
        r = REAL(fcntl64)(fd, command, argument);
        if (r == 0)
                atomic_fetch_add(&disk.flags, 1U);
        return r;
}

static bool is_direct(int fd) {
        return REAL(fcntl64)(fd, F_GETFL) & O_DIRECT;
}

EXPORT ssize_t write(int fd, const void *data, size_t size) {
        if (is_direct(fd)) {
                if (disk.refuses == REFUSES_TO_WRITE) {
                        errno = EINVAL;
                        return -1;
                }
                atomic_fetch_add(&disk.direct_writes, 1U);
        }
        return REAL(write)(fd, data, size);
}

EXPORT ssize_t pread64(int fd, void *data, size_t size, off64_t offset) {
        if (is_direct(fd)) {
                if (disk.refuses == REFUSES_TO_READ) {
                        errno = EINVAL;
                        return -1;
                }
                atomic_fetch_add(&disk.direct_reads, 1U);
        }
        return lie(data, REAL(pread64)(fd, data, size, offset));
}

EXPORT int sync_file_range(int fd, off64_t offset, off64_t size, unsigned flags) {
        unsigned n = atomic_fetch_add(&disk.syncs, 1U) + 1;

        if (disk.usec > 0)
                usleep(disk.usec);
        if (disk.error != 0 && (disk.fail_at == 0 || n == disk.fail_at)) {
                errno = disk.error;
                return -1;
        }
        return REAL(sync_file_range)(fd, offset, size, flags);
}

typedef struct World {
        char *folder;
        int fd;
        Cancel *cancel;
        uint8_t *content;
        ProvedFile *file;
        uint64_t rotten_at;  /* the document at this offset is not what its digest says; UINT64_MAX: none */
        uint64_t cancel_at;  /* bytes that are given before a cancel */
        uint64_t told;       /* by progress */
} World;

static int setup(void **state) {
        World *world = g_new0(World, 1);

        memset(&disk, 0, sizeof disk);
        world->folder = temp_folder_new();
        world->fd = open(world->folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        assert_true(world->fd >= 0);
        assert_int_equal(cancel_new(&world->cancel), 0);
        world->content = g_malloc(LARGE);
        for (size_t i = 0; i < LARGE; i++)
                world->content[i] = (uint8_t)(i * 7 + i / 251 + i / 65521);
        world->rotten_at = world->cancel_at = UINT64_MAX;
        *state = world;
        return 0;
}

static int teardown(void **state) {
        World *world = *state;

        proved_file_free(world->file);
        close(world->fd);
        cancel_unref(world->cancel);
        temp_folder_remove(world->folder);
        g_free(world->content);
        g_free(world);
        return 0;
}

/* Begins anew with an empty file. */
static void begin(World *world) {
        world->file = proved_file_free(world->file);
        assert_int_equal(ftruncate(world->fd, 0), 0);
        assert_int_equal(lseek(world->fd, 0, SEEK_SET), 0);
        atomic_store(&disk.reads, 0U);
        atomic_store(&disk.syncs, 0U);
        world->told = 0;
        assert_int_equal(proved_file_new(world->fd, world->cancel, &world->file), 0);
}

static void expect_documents(World *world, uint64_t from, uint64_t to, uint64_t size) {
        uint64_t first = (from + DISTANCE - 1) / DISTANCE * DISTANCE;

        for (uint64_t at = first; at < to && at + DOCUMENT <= size; at += DISTANCE) {
                License license = {};

                license_digest_document(&license, world->content + at, DOCUMENT);
                license.digest[5] ^= at == world->rotten_at;
                proved_file_expect(world->file, at - from, DOCUMENT, license.digest);
        }
}

static void on_progress(uint64_t done, uint64_t size, void *userdata) {
        World *world = userdata;

        assert_true(done >= world->told && done <= size);
        world->told = done;
}

/* Gives size bytes and waits for the end. Patches, if at all, come at the end. */
static int give(World *world, uint64_t size, unsigned n_patches) {
        static const uint64_t places[PROVED_PATCHES_MAX] = { 512, 5 * BLOCK - 512 };
        int r;

        for (uint64_t at = 0; at < size; at += BLOCK) {
                size_t n = MIN(BLOCK, size - at);

                if (at >= world->cancel_at)
                        cancel_trigger(world->cancel, "Enough.");
                memcpy(proved_file_buffer(world->file), world->content + at, n);
                expect_documents(world, at, at + n, size);
                r = proved_file_give(world->file, n);
                if (r < 0)
                        return r;
        }
        for (unsigned i = 0; i < n_patches; i++)
                proved_file_patch(world->file, places[i], "patched", 7);

        r = proved_file_end(world->file);
        if (r == 0)
                r = proved_file_finish(world->file, on_progress, world);
        if (r == 0) {
                g_autofree uint8_t *found = g_malloc(size + 1);

                assert_false(is_direct(world->fd));
                atomic_store(&disk.reads, UINT32_MAX / 2);
                for (unsigned i = 0; i < n_patches; i++)
                        memcpy(world->content + places[i], "patched", 7);
                assert_int_equal(io_pread_all(world->fd, found, size + 1, 0), size);
                assert_memory_equal(found, world->content, size);
                assert_int_equal(world->told, size);
        }
        return r;
}

static void assert_fails(World *world, int r, ErrorCode code, const char *words) {
        g_auto(Error) error = {};
        bool rotten = true;

        assert_true(r < 0);
        assert_int_equal(proved_file_failed(world->file, r, &rotten, &error), code);
        assert_error(&error, code, words);
        assert_false(rotten);
}

static void assert_rotten(World *world, int r) {
        g_auto(Error) error = {};
        bool rotten = false;

        assert_true(r < 0);
        proved_file_failed(world->file, r, &rotten, &error);
        assert_true(rotten);
}

static const uint64_t sizes[] = { 512, BLOCK - 512, BLOCK, BLOCK + 512, BLOCK + 4096, 2 * BLOCK, 4 * BLOCK, 8 * BLOCK,
        9 * BLOCK + 512, LARGE };

static void give_all_sizes(World *world) {
        for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
                begin(world);
                assert_int_equal(give(world, sizes[i], sizes[i] > 5 * BLOCK ? 2 : 0), 0);
        }
        begin(world);
        assert_int_equal(proved_file_end(world->file), 0);
        assert_int_equal(proved_file_finish(world->file, NULL, NULL), 0);
}

static void test_file_holds_what_was_given(void **state) {
        World *world = *state;
        _cleanup_fd_ int direct = open(world->folder, O_TMPFILE | O_RDWR | O_CLOEXEC | O_DIRECT, 0600);

        give_all_sizes(world);
        /* Without the cache, where the file system can. */
        assert_true((atomic_load(&disk.flags) > 0) == (direct >= 0));
        assert_true((atomic_load(&disk.direct_writes) > 0) == (direct >= 0));
        assert_true((atomic_load(&disk.direct_reads) > 0) == (direct >= 0));

        /* A file that begins between pages. */
        begin(world);
        assert_int_equal(lseek(world->fd, 512, SEEK_SET), 512);
        world->file = proved_file_free(world->file);
        assert_int_equal(proved_file_new(world->fd, world->cancel, &world->file), 0);
        atomic_store(&disk.flags, 0U);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(proved_file_give(world->file, BLOCK), 0);
        assert_int_equal(proved_file_end(world->file), 0);
        assert_int_equal(proved_file_finish(world->file, NULL, NULL), 0);
        assert_int_equal(atomic_load(&disk.flags), 0);
        assert_int_equal(lseek(world->fd, 0, SEEK_END), 512 + 3 * BLOCK);
}

static void test_file_system_that_needs_the_cache_has_it(void **state) {
        World *world = *state;

        disk.refuses = REFUSES_FLAG;
        give_all_sizes(world);
        assert_int_equal(atomic_load(&disk.direct_writes), 0);
        assert_int_equal(atomic_load(&disk.direct_reads), 0);
        disk.refuses = REFUSES_TO_WRITE;
        give_all_sizes(world);
        assert_int_equal(atomic_load(&disk.direct_writes), 0);
        disk.refuses = REFUSES_TO_READ;
        give_all_sizes(world);
        assert_int_equal(atomic_load(&disk.direct_reads), 0);
}

/* All blocks are full then. */
static void test_slow_disk_is_waited_for(void **state) {
        World *world = *state;

        disk.usec = 2000;
        begin(world);
        assert_int_equal(give(world, LARGE, 2), 0);
        world->rotten_at = 40 * DISTANCE;
        begin(world);
        assert_rotten(world, give(world, LARGE, 0));
        world->rotten_at = UINT64_MAX;
        disk.lie_at = 3;
        begin(world);
        assert_fails(world, give(world, LARGE, 0), ERROR_MEDIUM, "What was read back is not what was written");
        disk.lie_at = 0;
        world->cancel_at = 15 * BLOCK;
        begin(world);
        assert_fails(world, give(world, LARGE, 0), ERROR_CANCELED, "Enough.");
}

/* So large a stack that no thread can have it. */
static void limit_threads(pthread_attr_t *before) {
        pthread_attr_t attributes;

        assert_int_equal(pthread_getattr_default_np(before), 0);
        assert_int_equal(pthread_attr_init(&attributes), 0);
        assert_int_equal(pthread_attr_setstacksize(&attributes, (size_t)1 << 47), 0);
        assert_int_equal(pthread_setattr_default_np(&attributes), 0);
        pthread_attr_destroy(&attributes);
}

static void unlimit_threads(pthread_attr_t *before) {
        assert_int_equal(pthread_setattr_default_np(before), 0);
        pthread_attr_destroy(before);
}

static void test_machine_without_threads_does_the_same(void **state) {
        World *world = *state;
        pthread_attr_t before;

        limit_threads(&before);
        give_all_sizes(world);
        world->rotten_at = 40 * DISTANCE;
        begin(world);
        assert_rotten(world, give(world, LARGE, 0));
        world->rotten_at = UINT64_MAX;
        begin(world);
        disk.lie_at = 12;
        assert_fails(world, give(world, LARGE, 0), ERROR_MEDIUM, "not what was written");
        unlimit_threads(&before);
}

static void test_byte_that_changed_on_the_disk_is_found_wherever_it_is(void **state) {
        World *world = *state;
        unsigned n = 0;

        /* All blocks, and two patches. */
        for (disk.lie_at = 1;; disk.lie_at++) {
                int r;

                begin(world);
                r = give(world, 6 * BLOCK + 512, 2);
                if (r == 0)
                        break;
                assert_fails(world, r, ERROR_MEDIUM, "What was read back is not what was written");
                n++;
        }
        assert_int_equal(n, 9);

        begin(world);
        disk.lie_at = 1;
        assert_fails(world, give(world, 512, 0), ERROR_MEDIUM, "What was read back is not what was written");
}

static void test_file_of_another_size_is_found(void **state) {
        World *world = *state;

        begin(world);
        assert_int_equal(ftruncate(world->fd, 4096), 0);
        assert_fails(world, give(world, 512, 0), ERROR_MEDIUM, "What was read back is not what was written");
}

static void test_rotten_document_is_found_wherever_it_is(void **state) {
        /* At the beginning, over the end of a block, in one of many, at the end. */
        static const uint64_t places[] = { 0, 85 * DISTANCE, 300 * DISTANCE, LARGE / DISTANCE * DISTANCE - DISTANCE };
        World *world = *state;

        assert_true(places[1] < BLOCK && places[1] + DOCUMENT > BLOCK);
        for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
                world->rotten_at = places[i];
                begin(world);
                assert_rotten(world, give(world, LARGE, 0));
        }
        world->rotten_at = 0;
        begin(world);
        assert_rotten(world, give(world, DISTANCE, 0));
}

static void test_disk_that_fails_ends_it(void **state) {
        World *world = *state;

        disk.error = EIO;
        for (disk.fail_at = 1; disk.fail_at <= 9; disk.fail_at++) {
                begin(world);
                assert_fails(world, give(world, 9 * BLOCK, 0), ERROR_MEDIUM, g_strerror(EIO));
        }
        /* Of those that only begin to bring a block to the disk, too. */
        disk.refuses = REFUSES_FLAG;
        for (disk.fail_at = 1; disk.fail_at <= 18; disk.fail_at++) {
                begin(world);
                assert_fails(world, give(world, 9 * BLOCK, 0), ERROR_MEDIUM, g_strerror(EIO));
        }
}

static void test_system_without_sync_file_range_syncs_the_file(void **state) {
        World *world = *state;

        disk.error = ENOSYS;
        begin(world);
        assert_int_equal(give(world, 12 * BLOCK, 2), 0);
        assert_true(atomic_load(&disk.syncs) >= 12);
        disk.refuses = REFUSES_FLAG;
        begin(world);
        assert_int_equal(give(world, 12 * BLOCK, 2), 0);
        assert_true(atomic_load(&disk.syncs) >= 24);
}

static void test_full_disk_ends_it(void **state) {
        static const uint64_t limits[] = { 100, 10 * BLOCK + 1, 10 * BLOCK + 8192, LARGE - 1 };
        World *world = *state;
        struct rlimit before, limit;

        signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
        for (size_t i = 0; i < G_N_ELEMENTS(limits); i++) {
                begin(world);
                limit = before;
                limit.rlim_cur = limits[i];
                assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
                assert_fails(world, give(world, LARGE, 0), ERROR_MEDIUM, g_strerror(EFBIG));
                assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        }
}

static void test_cancel_ends_it(void **state) {
        World *world = *state;

        begin(world);
        world->cancel_at = 12 * BLOCK;
        assert_fails(world, give(world, LARGE, 0), ERROR_CANCELED, "Enough.");
        /* Also what is small. */
        begin(world);
        assert_fails(world, give(world, 512, 0), ERROR_CANCELED, "Enough.");
}

static void test_file_that_is_left_ends_its_threads(void **state) {
        World *world = *state;

        begin(world);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(proved_file_give(world->file, BLOCK), 0);
        world->file = proved_file_free(world->file);
}

static void test_pipe_is_refused(void **state) {
        ProvedFile *file;
        int fds[2];

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_int_equal(proved_file_new(fds[1], NULL, &file), -ESPIPE);
        close(fds[0]);
        close(fds[1]);
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_file_holds_what_was_given),
                IN_WORLD(test_file_system_that_needs_the_cache_has_it),
                IN_WORLD(test_slow_disk_is_waited_for),
                IN_WORLD(test_machine_without_threads_does_the_same),
                IN_WORLD(test_byte_that_changed_on_the_disk_is_found_wherever_it_is),
                IN_WORLD(test_file_of_another_size_is_found),
                IN_WORLD(test_rotten_document_is_found_wherever_it_is),
                IN_WORLD(test_disk_that_fails_ends_it),
                IN_WORLD(test_system_without_sync_file_range_syncs_the_file),
                IN_WORLD(test_full_disk_ends_it),
                IN_WORLD(test_cancel_ends_it),
                IN_WORLD(test_file_that_is_left_ends_its_threads),
                IN_WORLD(test_pipe_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
