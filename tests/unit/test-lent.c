/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What clients may still have; tests/bus/test-limits.c has it on a bus. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common.h"
#include "io.h"
#include "manager.h"

#define MIB (1024U * 1024U)
#define MIBS_MAX 64U
/* What a document counts at least. */
#define SMALL (64U * 1024U)
#define BACKUPS_MAX 16U
/* The kernel keeps 16,384 events by itself, and there are two for each file. A user has no more than 1,024 of them. */
#define CROWD 9U
#define CROWD_EACH 1000U

typedef struct World {
        Manager manager;
        User *anna, *ben;
} World;

static int setup(void **state) {
        World *world = g_new0(World, 1);

        world->manager.users = g_hash_table_new(NULL, NULL);
        assert_true(sd_event_new(&world->manager.event) >= 0);
        assert_int_equal(lent_new(world->manager.event, &world->manager.lent), 0);
        world->anna = user_get(&world->manager, 1000);
        world->ben = user_get(&world->manager, 1001);
        *state = world;
        return 0;
}

static int teardown(void **state) {
        World *world = *state;

        lent_free(world->manager.lent);
        user_unref(world->anna);
        user_unref(world->ben);
        assert_int_equal(g_hash_table_size(world->manager.users), 0);
        g_hash_table_unref(world->manager.users);
        sd_event_unref(world->manager.event);
        g_free(world);
        return 0;
}

/* The loop turns until there is nothing to do. */
static void settle(World *world) {
        while (sd_event_run(world->manager.event, 0) > 0)
                ;
}

static int add(World *world, User *user, LentKind kind, int fd, uint64_t bytes, Error *error) {
        int watch = lent_watch(world->manager.lent, fd);

        assert_true(watch >= 0);
        return lent_add(user, kind, watch, bytes, error);
}

static int lend(World *world, User *user, LentKind kind, int fd, uint64_t bytes) {
        g_auto(Error) error = {};

        assert_int_equal(add(world, user, kind, fd, bytes, &error), 0);
        return fd;
}

static int new_document(void) {
        int fd = memfd_create("license", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        assert_true(fd >= 0);
        assert_int_equal(io_pwrite_all(fd, "{}", 2, 0), 0);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL), 0);
        return fd;
}

static int lend_document(World *world, User *user, uint64_t bytes) {
        return lend(world, user, LENT_DOCUMENT, new_document(), bytes);
}

static void assert_lent(World *world, const User *user, LentKind kind, uint64_t amount) {
        settle(world);
        assert_int_equal(user->lent[kind], amount);
}

static void test_what_is_closed_counts_no_more(void **state) {
        World *world = *state;
        int large = lend_document(world, world->anna, MIB), small = lend_document(world, world->anna, 2);

        assert_lent(world, world->anna, LENT_DOCUMENT, MIB + SMALL);
        assert_lent(world, world->ben, LENT_DOCUMENT, 0);
        close(large);
        assert_lent(world, world->anna, LENT_DOCUMENT, SMALL);
        close(small);
        assert_lent(world, world->anna, LENT_DOCUMENT, 0);
}

/* Copies, mappings, and descriptors that are good for nothing else. */
static void test_what_somebody_has_in_any_way_counts(void **state) {
        World *world = *state;
        g_autofree char *path = NULL;
        int fd = lend_document(world, world->anna, MIB), copy = dup(fd), handle;
        void *mapped;

        close(fd);
        assert_lent(world, world->anna, LENT_DOCUMENT, MIB);
        mapped = mmap(NULL, 2, PROT_READ, MAP_SHARED, copy, 0);
        assert_ptr_not_equal(mapped, MAP_FAILED);
        path = g_strdup_printf("/proc/self/fd/%d", copy);
        handle = open(path, O_PATH | O_CLOEXEC);
        assert_true(handle >= 0);
        close(copy);
        assert_lent(world, world->anna, LENT_DOCUMENT, MIB);
        assert_int_equal(munmap(mapped, 2), 0);
        assert_lent(world, world->anna, LENT_DOCUMENT, MIB);
        close(handle);
        assert_lent(world, world->anna, LENT_DOCUMENT, 0);
}

/* It is closed then, as the service does. */
static void assert_refused(World *world, User *user, LentKind kind, int fd, const char *words) {
        g_auto(Error) error = {};

        assert_int_equal(add(world, user, kind, fd, 2, &error), ERROR_LIMIT_EXCEEDED);
        assert_error(&error, ERROR_LIMIT_EXCEEDED, words);
        close(fd);
}

static void test_a_user_has_64_mib_of_documents(void **state) {
        World *world = *state;
        int fds[MIBS_MAX];

        for (unsigned i = 0; i < MIBS_MAX; i++)
                fds[i] = lend_document(world, world->anna, MIB);
        assert_refused(world, world->anna, LENT_DOCUMENT, new_document(), "64 MiB");
        assert_lent(world, world->anna, LENT_DOCUMENT, MIBS_MAX * MIB);
        close(lend_document(world, world->ben, MIB));
        close(fds[7]);
        settle(world);
        fds[7] = lend_document(world, world->anna, MIB);
        for (unsigned i = 0; i < MIBS_MAX; i++)
                close(fds[i]);
        assert_lent(world, world->anna, LENT_DOCUMENT, 0);
}

/* The user may have gone from the bus, and is looked for again when the next one comes. */
static void test_who_has_gone_has_it_still(void **state) {
        World *world = *state;
        int fd = lend_document(world, world->anna, MIB);

        user_unref(world->anna);
        settle(world);
        world->anna = user_get(&world->manager, 1000);
        assert_lent(world, world->anna, LENT_DOCUMENT, MIB);
        close(fd);
        assert_lent(world, world->anna, LENT_DOCUMENT, 0);
}

static void test_events_that_the_kernel_has_lost(void **state) {
        World *world = *state;
        int kept = lend_document(world, world->anna, MIB);

        for (unsigned i = 0; i < CROWD; i++) {
                User *user = user_get(&world->manager, 2000 + i);

                for (unsigned n = 0; n < CROWD_EACH; n++)
                        close(lend_document(world, user, 2));
                user_unref(user);
        }
        settle(world);
        /* They are there as long as something counts for them. */
        assert_int_equal(g_hash_table_size(world->manager.users), 2);
        assert_lent(world, world->anna, LENT_DOCUMENT, MIB);
        close(kept);
        assert_lent(world, world->anna, LENT_DOCUMENT, 0);
}

static int new_backup(const char *path) {
        int fd;

        (void)unlink(path);
        fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        return fd;
}

static void test_replaced_backups_count_until_nobody_has_them(void **state) {
        World *world = *state;
        g_autofree char *folder = temp_folder_new(), *path = g_build_filename(folder, "licenses.tar", NULL);
        int fds[BACKUPS_MAX];

        /* What has its name may be opened again. */
        close(lend(world, world->anna, LENT_BACKUP, new_backup(path), MIB));
        assert_lent(world, world->anna, LENT_BACKUP, 1);

        for (unsigned i = 0; i < BACKUPS_MAX; i++) {
                fds[i] = lend(world, world->anna, LENT_BACKUP, new_backup(path), MIB);
                (void)lend(world, world->anna, LENT_BACKUP, fds[i], MIB);
                assert_lent(world, world->anna, LENT_BACKUP, i + 1);
        }
        (void)lend(world, world->anna, LENT_BACKUP, fds[0], MIB);
        assert_refused(world, world->anna, LENT_BACKUP, new_backup(path), "16 backups");
        for (unsigned i = 0; i < BACKUPS_MAX; i++)
                close(fds[i]);
        assert_lent(world, world->anna, LENT_BACKUP, 0);
        temp_folder_remove(g_steal_pointer(&folder));
}

/* Better than to lend nothing. */
static void test_without_inotify_nothing_is_counted(void **state) {
        World *world = *state;
        struct rlimit limit, none;

        assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
        none = (struct rlimit) { 0, limit.rlim_max };
        lent_free(world->manager.lent);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        assert_int_equal(lent_new(world->manager.event, &world->manager.lent), 0);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);

        for (unsigned i = 0; i < 2 * MIBS_MAX; i++)
                close(lend_document(world, world->anna, MIB));
        assert_lent(world, world->anna, LENT_DOCUMENT, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_what_is_closed_counts_no_more, setup, teardown),
                cmocka_unit_test_setup_teardown(test_what_somebody_has_in_any_way_counts, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_user_has_64_mib_of_documents, setup, teardown),
                cmocka_unit_test_setup_teardown(test_who_has_gone_has_it_still, setup, teardown),
                cmocka_unit_test_setup_teardown(test_events_that_the_kernel_has_lost, setup, teardown),
                cmocka_unit_test_setup_teardown(test_replaced_backups_count_until_nobody_has_them, setup, teardown),
                cmocka_unit_test_setup_teardown(test_without_inotify_nothing_is_counted, setup, teardown),
        };

        return cmocka_run_group_tests_name("lent", tests, NULL, NULL);
}
