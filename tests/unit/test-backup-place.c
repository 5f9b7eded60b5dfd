/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "backup-world.h"
#include "store-connection.h"

/* Where backups may go: folders and descriptors. */

static void test_cancel_while_delivering_ends_the_copy(void **state) {
        World *world = *state;
        _cleanup_fd_ int fd = new_target();
        g_auto(Error) error = {};

        put_some(world, 10, 100000);
        world->cancel_at_percent = 61;
        assert_int_equal(run(world, plan_to(world, fd), NULL, &error), ERROR_CANCELED);
        assert_in_range(lseek(fd, 0, SEEK_END), 1, 999999);
        assert_nothing_left(world);
}

static void test_descriptor_of_a_file_gets_the_backup(void **state) {
        World *world = *state;
        _cleanup_fd_ int fd = new_target();
        g_auto(WorkResult) result = {};

        put_some(world, 20, 50000);
        run_good(world, plan_to(world, fd), &result);
        assert_proved(fd, &result);
        assert_int_equal(count_entries(world->own), 0);
        assert_nothing_left(world);
}

static void test_descriptor_that_is_no_target_is_refused_before_it_begins(void **state) {
        World *world = *state;
        _cleanup_fd_ int fd = new_target();
        g_auto(Error) error = {};

        assert_int_equal(write(fd, "x", 1), 1);
        assert_int_equal(run(world, plan_to(world, fd), NULL, &error), ERROR_BACKUP_EXISTS);
        assert_int_equal(world->n_begins, 0);
        assert_int_equal(lseek(fd, 0, SEEK_END), 1);
}

static void *drain(void *userdata) {
        const int *fds = userdata;
        char buffer[4096];
        ssize_t n;

        while ((n = read(fds[0], buffer, sizeof buffer)) > 0)
                if (write(fds[1], buffer, (size_t)n) != n)
                        break;
        return NULL;
}

static void test_pipe_gets_the_backup(void **state) {
        World *world = *state;
        _cleanup_fd_ int file = new_target();
        g_auto(WorkResult) result = {};
        pthread_t thread;
        int fds[2];

        put_some(world, 20, 50000);
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_int_equal(pthread_create(&thread, NULL, drain, (int[]) { fds[0], file }), 0);
        run_good(world, plan_to(world, fds[1]), &result);
        close(fds[1]);
        pthread_join(thread, NULL);
        close(fds[0]);
        assert_proved(file, &result);
}

static void set_path(World *world, const char *path) {
        g_autofree char *file = g_build_filename(world->folder, "licenses.db", NULL);
        g_autoptr(StoreConnection) connection = NULL;
        g_auto(Error) error = {};

        assert_good(store_connection_open(file, STORE_WRITE, &connection, &error), &error);
        assert_good(store_property_set(connection, &alice, "BackupPath", path, &error), &error);
}

static void test_backup_path_in_a_configured_root_is_used(void **state) {
        World *world = *state;
        g_autofree char *folder = make_folder(world->root, "1000/usb");
        g_autofree char *target = g_build_filename(folder, FOLDER_BACKUP_NAME, NULL);
        g_auto(WorkResult) result = {};

        put_some(world, 3, 10);
        set_path(world, folder);
        run_good(world, new_plan(world), &result);
        assert_path_proved(target, &result);
        assert_int_equal(count_entries(world->own), 0);
}

/* A disk that is not mounted: nothing may be made below its mount point. */
static void test_missing_folder_in_a_configured_root_is_not_made(void **state) {
        World *world = *state;
        g_autofree char *folder = g_build_filename(world->root, "1000", NULL);
        g_auto(Error) error = {};

        set_path(world, folder);
        assert_int_equal(run(world, new_plan(world), NULL, &error), ERROR_MEDIUM);
        assert_error(&error, ERROR_MEDIUM, folder);
        assert_int_equal(access(folder, F_OK), -1);
}

static void test_backup_path_elsewhere_is_denied(void **state) {
        World *world = *state;
        const char *const paths[] = { "/tmp", "/", "/etc", world->root, world->folder };
        g_autofree char *bobs = make_folder(world->root, "1001");
        g_autofree char *longer = make_folder(world->root, "10001");
        g_autofree char *detour = g_strconcat(world->root, "/1000/../1001", NULL);

        for (size_t i = 0; i < G_N_ELEMENTS(paths) + 3; i++) {
                const char *const more[] = { bobs, longer, detour };
                g_auto(Error) error = {};

                set_path(world, i < G_N_ELEMENTS(paths) ? paths[i] : more[i - G_N_ELEMENTS(paths)]);
                assert_int_equal(run(world, new_plan(world), NULL, &error), ERROR_ACCESS_DENIED);
                assert_error(&error, ERROR_ACCESS_DENIED, "BackupLicensesToFile");
        }
}

static void test_link_in_the_backup_path_is_denied(void **state) {
        World *world = *state;
        g_autofree char *bobs = make_folder(world->root, "1001");
        g_autofree char *own = make_folder(world->root, "1000");
        g_autofree char *link = g_build_filename(own, "link", NULL);
        g_auto(Error) error = {};

        assert_int_equal(symlink(bobs, link), 0);
        set_path(world, link);
        assert_int_equal(run(world, new_plan(world), NULL, &error), ERROR_ACCESS_DENIED);
        assert_error(&error, ERROR_ACCESS_DENIED, "link");
        assert_int_equal(count_entries(bobs), 0);
}

static int open_backup(World *world, int *ret_fd, Error *error) {
        char *roots[] = { world->root, NULL };

        return backup_open(world->store, roots, &alice, BACKUP_PATH, ret_fd, NULL, error);
}

static void test_backup_is_opened_for_reading(void **state) {
        World *world = *state;
        _cleanup_fd_ int fd = -1;
        g_auto(Error) error = {};
        g_auto(WorkResult) result = {};

        assert_int_equal(open_backup(world, &fd, &error), ERROR_BACKUP_MISSING);
        assert_error(&error, ERROR_BACKUP_MISSING, "no backup");
        error_clear(&error);
        assert_int_equal(rmdir(world->own), 0);
        assert_int_equal(open_backup(world, &fd, &error), ERROR_BACKUP_MISSING);
        error_clear(&error);

        put_some(world, 3, 10);
        run_good(world, new_plan(world), &result);
        assert_good(open_backup(world, &fd, &error), &error);
        assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
        assert_proved(fd, &result);
}

static void assert_not_opened(World *world) {
        g_auto(Error) error = {};
        int fd = -1;

        assert_int_equal(open_backup(world, &fd, &error), ERROR_ACCESS_DENIED);
        assert_error(&error, ERROR_ACCESS_DENIED, "not a backup that the service made");
        assert_int_equal(fd, -1);
        assert_int_equal(remove(world->target), 0);
}

static void test_what_only_has_the_name_of_a_backup_is_not_opened(void **state) {
        World *world = *state;
        g_autofree char *secret = g_build_filename(world->folder, "licenses.db", NULL);

        assert_int_equal(symlink(secret, world->target), 0);
        assert_not_opened(world);
        /* Others may have made this link. */
        assert_int_equal(chmod(world->own, 0777), 0);
        assert_int_equal(link(secret, world->target), 0);
        assert_not_opened(world);
        assert_int_equal(chmod(world->own, 0700), 0);
        assert_int_equal(mkfifo(world->target, 0600), 0);
        assert_not_opened(world);
        assert_int_equal(mkdir(world->target, 0700), 0);
        assert_not_opened(world);
}

/* Where nobody else may make links: a tool that takes snapshots does so. */
static void test_backup_with_a_second_name_is_one(void **state) {
        World *world = *state;
        BackupPlan plan = new_plan(world);
        g_autofree char *second = g_build_filename(world->folder, "second", NULL);
        _cleanup_fd_ int fd = -1;
        g_auto(Error) error = {};
        WorkResult result;

        put_some(world, 3, 10);
        run_good(world, new_plan(world), &result);
        assert_int_equal(link(world->target, second), 0);
        assert_good(open_backup(world, &fd, &error), &error);
        forget(world);
        plan.overwrite = true;
        run_good(world, plan, &result);
        assert_null(result.set_aside);
        assert_int_equal(count_entries(world->own), 1);
}

/* A deleted user's number went to someone else, whose folder for backups is the same. */
static void test_backup_of_the_numbers_former_user_is_neither_shown_nor_replaced(void **state) {
        const StoreOwner newcomer = { alice.uid, "newcomer" };
        char *const no_roots[] = { NULL };
        World *world = *state;
        _cleanup_fd_ int fd = -1;
        g_auto(Error) error = {};
        g_auto(WorkResult) result = {};
        BackupPlan plan;

        put_some(world, 3, 10);
        run_good(world, new_plan(world), &result);
        assert_int_equal(backup_open(world->store, no_roots, &newcomer, BACKUP_PATH, &fd, NULL, &error),
                ERROR_BACKUP_MISSING);
        assert_non_null(strstr(error.message, "There is no backup"));

        world->n_begins = world->n_progress = world->percent = 0;
        world->completed = 0;
        plan = new_plan(world);
        g_free(plan.name);
        plan.name = g_strdup(newcomer.name);
        plan.overwrite = false;
        run_good(world, plan, &result);
        assert_int_equal(result.licenses, 0);
        assert_int_equal(count_entries(world->own), 2);
        assert_int_equal(backup_open(world->store, no_roots, &newcomer, BACKUP_PATH, &fd, NULL, &error), 0);
        assert_true(fd >= 0);
}

static int work_set_path(Deed *deed, StoreConnection *connection, Error *error) {
        return store_property_set(connection, &deed->owner, "BackupPath", deed->document, error);
}

static bool is_sure(World *world, BackupPlan plan) {
        g_autoptr(Backup) backup = new_backup(world, plan);

        return backup_check_at_once(backup);
}

static bool is_sure_to_replace(World *world) {
        BackupPlan plan = new_plan(world);

        plan.overwrite = true;
        return is_sure(world, plan);
}

static void test_own_folder_needs_no_check_once_it_is_known(void **state) {
        World *world = *state;
        g_autoptr(Backup) backup = NULL;
        BackupPlan plan = new_plan(world);
        g_auto(Error) error = {};
        g_auto(WorkResult) result = {};

        put_some(world, 3, 10);
        assert_false(is_sure_to_replace(world));
        run_good(world, new_plan(world), &result);
        assert_true(is_sure_to_replace(world));
        assert_false(is_sure(world, new_plan(world))); /* one is there */
        assert_int_equal(unlink(world->target), 0);
        assert_int_equal(access(world->target, F_OK), -1);
        /* Which the kernel remembers but there. */
        if (!is_tmpfs(world->folder))
                assert_true(is_sure(world, new_plan(world)));

        /* And it goes there. */
        forget(world);
        plan.overwrite = true;
        backup = new_backup(world, plan);
        assert_true(backup_check_at_once(backup));
        put_some(world, 5, 10);
        assert_good(run_backup(world, backup, &result, &error), &error);
        assert_int_equal(result.licenses, 5);
        assert_path_proved(world->target, &result);
        assert_nothing_left(world);
}

static void test_other_places_are_checked(void **state) {
        World *world = *state;
        g_autofree char *folder = make_folder(world->root, "1000");
        g_auto(Deed) deed = { .work = work_set_path, .owner = alice, .document = folder };
        _cleanup_fd_ int file = new_target();
        g_auto(WorkResult) result = {};

        run_good(world, new_plan(world), &result);
        forget(world);
        assert_true(is_sure_to_replace(world));
        assert_false(is_sure(world, plan_to(world, file)));

        assert_int_equal(deed_do(&deed, world->store), 0);
        assert_false(is_sure_to_replace(world));
        run_good(world, new_plan(world), &result);
        assert_false(is_sure_to_replace(world)); /* it is known, and a disk has to be asked */
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_cancel_while_delivering_ends_the_copy),
                IN_WORLD(test_descriptor_of_a_file_gets_the_backup),
                IN_WORLD(test_descriptor_that_is_no_target_is_refused_before_it_begins),
                IN_WORLD(test_pipe_gets_the_backup),
                IN_WORLD(test_backup_path_in_a_configured_root_is_used),
                IN_WORLD(test_missing_folder_in_a_configured_root_is_not_made),
                IN_WORLD(test_backup_path_elsewhere_is_denied),
                IN_WORLD(test_link_in_the_backup_path_is_denied),
                IN_WORLD(test_backup_is_opened_for_reading),
                IN_WORLD(test_backup_of_the_numbers_former_user_is_neither_shown_nor_replaced),
                IN_WORLD(test_what_only_has_the_name_of_a_backup_is_not_opened),
                IN_WORLD(test_backup_with_a_second_name_is_one),
                IN_WORLD(test_own_folder_needs_no_check_once_it_is_known),
                IN_WORLD(test_other_places_are_checked),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
