/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a client's size decides and does not fit into memory is ERROR_NO_MEMORY, and nothing else happens: the N-th
 * large allocation of the process fails, the first, the second, and so on, until the work is through untouched.
 */
#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "restore-world.h"
#include "store-connection.h"

/* Documents are larger, and what GLib allocates for what no client's size decides is smaller. */
#define LARGE 65537U
#define DOCUMENT_SIZE 100000U
#define N_DOCUMENTS 3U

static struct {
        atomic_bool armed;
        unsigned at;
        bool onward;
        atomic_uint count, hits;
} plan;

static bool fails(size_t size) {
        unsigned n;

        if (size < LARGE || !atomic_load(&plan.armed))
                return false;
        n = atomic_fetch_add(&plan.count, 1U) + 1;
        if (n < plan.at || (n > plan.at && !plan.onward))
                return false;
        atomic_fetch_add(&plan.hits, 1U);
        errno = ENOMEM;
        return true;
}

/* In place of the C library's, which go by these names, too. */
#define EXPORT __attribute__((visibility("default")))
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *block, size_t size);

EXPORT void *malloc(size_t size) {
        return fails(size) ? NULL : __libc_malloc(size);
}

EXPORT void *calloc(size_t n, size_t size) {
        return fails(n * size) ? NULL : __libc_calloc(n, size);
}

EXPORT void *realloc(void *block, size_t size) {
        return fails(size) ? NULL : __libc_realloc(block, size);
}

static void arm(unsigned at, bool onward) {
        atomic_store(&plan.count, 0U);
        atomic_store(&plan.hits, 0U);
        plan.at = at;
        plan.onward = onward;
        atomic_store(&plan.armed, true);
}

static unsigned disarm(void) {
        atomic_store(&plan.armed, false);
        return atomic_load(&plan.hits);
}

static unsigned passed;

/* Does the work once for each N. check() sees whether it failed, and fails the test where that did more. */
static void at_every_point(const char *name, RestoreWorld *world, int (*work)(RestoreWorld *world, Error *error),
        void (*check)(RestoreWorld *world, bool failed)) {
        unsigned points = 0, failures = 0;

        for (unsigned onward = 0; onward < 2; onward++)
                for (unsigned at = 1, hits = 1; hits > 0; at++) {
                        g_auto(Error) error = {};
                        int r;

                        arm(at, onward);
                        r = work(world, &error);
                        hits = disarm();
                        /* SQLite can do without some that it asks for. */
                        if (hits > 0 && r != 0)
                                assert_error(&error, ERROR_NO_MEMORY, "Not enough memory");
                        else
                                assert_good(r, &error);
                        check(world, r != 0);
                        failures += r != 0;
                        points++;
                        passed++;
                }
        assert_true(failures > 2);
        printf("%-12s %-26s %5u points, 0 failures\n", name, "malloc of a client's size", points);
}

typedef struct Get {
        StoreCall call;
        void *document;
} Get;

static int get_run(StoreTask *task, StoreConnection *connection, Error *error) {
        Get *get = (Get *)task;
        g_auto(License) license = {};

        license_init(&license);
        return store_license_get(connection, &alice, "large", UINT64_MAX, &license, &get->document, error);
}

static int work_get(RestoreWorld *world, Error *error) {
        Get get = { .call.task.run = get_run };
        int r;

        store_call_read(world->store, &get.call);
        r = store_call_wait(&get.call, error);
        assert_true((r == 0) == (get.document != NULL));
        g_free(get.document);
        return r;
}

static char *large_document(void) {
        return g_strnfill(DOCUMENT_SIZE, 'x');
}

static void check_store(RestoreWorld *world, bool is_bad) {
        g_autofree char *now = render(world->connection);

        assert_string_equal(now, world->before);
}

static void test_license_that_does_not_fit_is_not_read(void **state) {
        RestoreWorld *world = *state;
        g_autofree char *document = large_document();

        put(world->store, &alice, "large", document);
        g_free(world->before);
        world->before = render(world->connection);
        at_every_point("get", world, work_get, check_store);
}

static int new_backup_fd = -1;
static WorkResult new_backup_result;

static int work_backup(RestoreWorld *world, Error *error) {
        new_backup_fd = new_target();
        /* Another job, whose progress begins anew. */
        world->from->n_begins = world->from->n_progress = world->from->n_signals = world->from->percent = 0;
        world->from->completed = 0;
        return run(world->from, plan_to(world->from, new_backup_fd), &new_backup_result, error);
}

static void check_backup(RestoreWorld *world, bool is_bad) {
        if (!is_bad)
                assert_proved(new_backup_fd, &new_backup_result);
        fd_closep(&new_backup_fd);
}

static void test_backup_that_does_not_fit_is_not_made(void **state) {
        RestoreWorld *world = *state;

        put_many(world->from->store, &alice, N_DOCUMENTS, DOCUMENT_SIZE);
        at_every_point("backup", world, work_backup, check_backup);
}

static int large_backup = -1;

static int work_restore(RestoreWorld *world, Error *error) {
        assert_int_equal(lseek(large_backup, 0, SEEK_SET), 0);
        return restore(world, restore_plan(world, large_backup), NULL, error);
}

static void check_restore(RestoreWorld *world, bool is_bad) {
        if (is_bad)
                assert_unchanged(world);
        else
                restore_world_renew(world);
}

static void test_restore_that_does_not_fit_never_was(void **state) {
        RestoreWorld *world = *state;

        put_many(world->from->store, &alice, N_DOCUMENTS, DOCUMENT_SIZE);
        large_backup = back_up(world->from, false);
        at_every_point("restore", world, work_restore, check_restore);
        close(large_backup);
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, restore_world_setup, restore_world_teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_license_that_does_not_fit_is_not_read),
                IN_WORLD(test_backup_that_does_not_fit_is_not_made),
                IN_WORLD(test_restore_that_does_not_fit_never_was),
        };
        int r;

        restore_world_prepare();
        r = cmocka_run_group_tests(tests, NULL, NULL);
        printf("%u passed, %d failed\n", passed, r);
        return r;
}
