/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "common.h"
#include "proved-file.h"
#include "watched-disk.h"

#define BLOCK PROVED_BLOCK_SIZE
#define LARGE (22 * BLOCK + 1536) /* more blocks than there is memory for */
#define DOCUMENT 10000U
#define DISTANCE 12288U

typedef struct World {
        char *folder;
        int fd;
        Cancel *cancel;
        uint8_t *content;
        ProvedFile *file;
        uint64_t start;      /* where in fd the file begins */
        uint64_t rotten_at;  /* the document at this offset is not what its digest says; UINT64_MAX: none */
        uint64_t cancel_at;  /* bytes that are given before a cancel */
        uint64_t told;       /* by progress */
} World;

static int setup(void **state) {
        World *world = g_new0(World, 1);

        disk_reset();
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
        assert_false(disk_is_direct(world->fd));
        close(world->fd);
        cancel_unref(world->cancel);
        temp_folder_remove(world->folder);
        g_free(world->content);
        g_free(world);
        return 0;
}

/* Begins anew, with a file that is empty from there on. */
static void begin(World *world) {
        world->file = proved_file_free(world->file);
        assert_false(disk_is_direct(world->fd));
        assert_int_equal(ftruncate(world->fd, 0), 0);
        assert_int_equal(ftruncate(world->fd, (off_t)world->start), 0);
        assert_int_equal(lseek(world->fd, (off_t)world->start, SEEK_SET), world->start);
        disk_begin(world->fd);
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

                assert_false(disk_is_direct(world->fd));
                /* Where two blocks share a page, one of them is read while the kernel has the other's part. */
                if (world->start % 4096 == 0) {
                        assert_int_equal(disk_cached_reads(), 0);
                        assert_int_equal(disk_unproved(), 0);
                }
                disk_begin(-1);
                for (unsigned i = 0; i < n_patches; i++)
                        memcpy(world->content + places[i], "patched", 7);
                assert_int_equal(io_pread_all(world->fd, found, size + 1, world->start), size);
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
        /* Its threads may still be at what the test changes next. */
        world->file = proved_file_free(world->file);
}

static void assert_rotten(World *world, int r) {
        g_auto(Error) error = {};
        bool rotten = false;

        assert_true(r < 0);
        proved_file_failed(world->file, r, &rotten, &error);
        assert_true(rotten);
        world->file = proved_file_free(world->file);
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
        give_all_sizes(*state);
}

static void test_file_may_begin_anywhere(void **state) {
        World *world = *state;

        world->start = 4096;
        give_all_sizes(world);
        world->start = 512;
        atomic_store(&disk.flags, 0U);
        give_all_sizes(world);
        assert_int_equal(atomic_load(&disk.flags), 0);
}

/* Each block, where the file system can. */
static void test_cache_is_left_out(void **state) {
        World *world = *state;
        _cleanup_fd_ int direct = open(world->folder, O_TMPFILE | O_RDWR | O_CLOEXEC | O_DIRECT, 0600);

        begin(world);
        assert_int_equal(give(world, 22 * BLOCK, 2), 0);
        assert_int_equal(atomic_load(&disk.flags), direct >= 0 ? 1 : 0);
        assert_int_equal(atomic_load(&disk.direct_writes), direct >= 0 ? 22 : 0);
        assert_int_equal(atomic_load(&disk.direct_reads), direct >= 0 ? 22 : 0);
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

/* The end goes through the cache, while blocks before it are on their way: in whatever order the threads come to it. */
static void test_disk_of_large_sectors_has_the_end_through_the_cache(void **state) {
        World *world = *state;

        disk.refuses = REFUSES_UNALIGNED;
        disk.jitters = true;
        give_all_sizes(world);
        for (unsigned i = 0; i < 40; i++) {
                begin(world);
                assert_int_equal(give(world, 3 * BLOCK + 512, 0), 0);
        }
        disk.no_threads = 4;
        for (unsigned i = 0; i < 40; i++) {
                begin(world);
                assert_int_equal(give(world, 3 * BLOCK + 512, 0), 0);
        }
}

/* The rest is not whole pages then, and the block is written once more. */
static void test_block_of_which_a_part_was_taken_is_written(void **state) {
        World *world = *state;

        disk.refuses = REFUSES_UNALIGNED;
        for (world->start = 0; world->start <= 4096; world->start += 4096)
                for (disk.short_at = 1; disk.short_at <= 4; disk.short_at++) {
                        begin(world);
                        assert_int_equal(give(world, 4 * BLOCK, 0), 0);
                }
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

/* All of them, or only some: who gives does the work of those that are missing. */
static void test_machine_without_threads_does_the_same(void **state) {
        World *world = *state;

        disk.no_threads = 7;
        give_all_sizes(world);
        for (disk.no_threads = 1; disk.no_threads < 8; disk.no_threads++) {
                begin(world);
                assert_int_equal(give(world, 9 * BLOCK + 512, 2), 0);
                world->rotten_at = 40 * DISTANCE;
                begin(world);
                assert_rotten(world, give(world, 9 * BLOCK, 0));
                world->rotten_at = UINT64_MAX;
                disk.lie_at = 8;
                begin(world);
                assert_fails(world, give(world, 9 * BLOCK, 0), ERROR_MEDIUM, "not what was written");
                disk.lie_at = 0;
        }
        disk.no_threads = 7;
        world->cancel_at = 15 * BLOCK;
        begin(world);
        assert_fails(world, give(world, LARGE, 0), ERROR_CANCELED, "Enough.");
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

/* Each call of a kind fails, one after the other, of so many at least. */
static void fail_each(World *world, DiskCall call, unsigned n) {
        disk.error = EIO;
        for (disk.fail_at[call] = 1;; disk.fail_at[call]++) {
                int r;

                begin(world);
                r = give(world, 9 * BLOCK, 2);
                if (r == 0)
                        break;
                assert_fails(world, r, ERROR_MEDIUM, g_strerror(EIO));
        }
        assert_in_range(disk.fail_at[call], n + 1, 2 * n + 1);
        disk.fail_at[call] = 0;
}

static void test_disk_that_fails_ends_it(void **state) {
        World *world = *state;

        fail_each(world, DISK_WRITE, 9);
        fail_each(world, DISK_PATCH, 2);
        fail_each(world, DISK_READ, 11);
        fail_each(world, DISK_SYNC, 9);
        fail_each(world, DISK_WHOLE, 1);
        /* Those that only begin to bring a block to the disk are for the cache. */
        disk.refuses = REFUSES_FLAG;
        fail_each(world, DISK_BEGIN, 9);
        fail_each(world, DISK_SYNC, 9);
        /* And where who gives does it all. */
        disk.no_threads = 7;
        fail_each(world, DISK_WRITE, 9);
        fail_each(world, DISK_READ, 11);
        fail_each(world, DISK_SYNC, 9);
}

static void test_system_without_sync_file_range_syncs_the_file(void **state) {
        World *world = *state;

        disk.error = ENOSYS;
        disk.fail_all[DISK_BEGIN] = disk.fail_all[DISK_SYNC] = true;
        begin(world);
        assert_int_equal(give(world, 12 * BLOCK, 2), 0);
        disk.refuses = REFUSES_FLAG;
        begin(world);
        assert_int_equal(give(world, 12 * BLOCK, 2), 0);
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

static void *cancel_while_it_hangs(void *userdata) {
        World *world = userdata;

        while (atomic_load(&disk.hangs) && !atomic_load(&disk.hung))
                usleep(1000);
        /* Until all wait for each other: none of them comes by and sees it. */
        usleep(500 * 1000);
        cancel_trigger(world->cancel, "Enough.");
        /* Or a test that fails would not end. */
        for (unsigned i = 0; i < 20000 && atomic_load(&disk.hangs); i++)
                usleep(1000);
        atomic_store(&disk.hangs, false);
        return NULL;
}

/* Who gives holds a snapshot of the store, and must not wait for the disk then. */
static void test_cancel_ends_who_gives_while_the_disk_hangs(void **state) {
        World *world = *state;
        pthread_t thread;
        bool hangs;
        int r;

        begin(world);
        atomic_store(&disk.hangs, true);
        assert_int_equal(pthread_create(&thread, NULL, cancel_while_it_hangs, world), 0);
        r = give(world, LARGE, 0);
        hangs = atomic_exchange(&disk.hangs, false);
        pthread_join(thread, NULL);
        assert_int_equal(r, -ECANCELED);
        assert_true(hangs);
        assert_fails(world, r, ERROR_CANCELED, "Enough.");
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
                IN_WORLD(test_file_may_begin_anywhere),
                IN_WORLD(test_cache_is_left_out),
                IN_WORLD(test_file_system_that_needs_the_cache_has_it),
                IN_WORLD(test_disk_of_large_sectors_has_the_end_through_the_cache),
                IN_WORLD(test_block_of_which_a_part_was_taken_is_written),
                IN_WORLD(test_slow_disk_is_waited_for),
                IN_WORLD(test_machine_without_threads_does_the_same),
                IN_WORLD(test_byte_that_changed_on_the_disk_is_found_wherever_it_is),
                IN_WORLD(test_file_of_another_size_is_found),
                IN_WORLD(test_rotten_document_is_found_wherever_it_is),
                IN_WORLD(test_disk_that_fails_ends_it),
                IN_WORLD(test_system_without_sync_file_range_syncs_the_file),
                IN_WORLD(test_full_disk_ends_it),
                IN_WORLD(test_cancel_ends_it),
                IN_WORLD(test_cancel_ends_who_gives_while_the_disk_hangs),
                IN_WORLD(test_file_that_is_left_ends_its_threads),
                IN_WORLD(test_pipe_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
