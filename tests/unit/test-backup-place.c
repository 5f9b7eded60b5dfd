/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

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

        return backup_open(world->store, roots, &alice, BACKUP_PATH, ret_fd, error);
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
        assert_int_equal(backup_open(world->store, no_roots, &newcomer, BACKUP_PATH, &fd, &error),
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
        assert_int_equal(backup_open(world->store, no_roots, &newcomer, BACKUP_PATH, &fd, &error), 0);
        assert_true(fd >= 0);
}

#define FORMER_USER "licenses-of-former-user-"
#define FORMER_STORE "licenses-of-former-store-"

/* Beside what is called as the backup there is one file alone, of such a name, and with these bytes. */
static void assert_aside(World *world, const char *prefix, GBytes *bytes) {
        g_autoptr(GDir) entries = g_dir_open(world->own, 0, NULL);
        unsigned n = 0;

        for (const char *name; (name = g_dir_read_name(entries));) {
                g_autofree char *path = g_build_filename(world->own, name, NULL);

                if (g_str_equal(name, FOLDER_BACKUP_NAME))
                        continue;
                n++;
                assert_true(g_str_has_prefix(name, prefix) && g_str_has_suffix(name, ".tar"));
                if (bytes) {
                        g_autoptr(GBytes) found = read_path(path);

                        assert_true(g_bytes_equal(found, bytes));
                }
        }
        assert_int_equal(n, 1);
}

static BackupPlan plan_over(World *world, const char *name) {
        BackupPlan plan = new_plan(world);

        g_free(plan.name);
        plan.name = g_strdup(name);
        plan.overwrite = true;
        return plan;
}

static void back_up_over(World *world, const char *name, uint64_t licenses) {
        g_auto(WorkResult) result = {};

        forget(world);
        run_good(world, plan_over(world, name), &result);
        assert_int_equal(result.licenses, licenses);
        assert_path_proved(world->target, &result);
}

/* As if licenses.db had been lost, and an empty one been made. */
static void lose_store(World *world) {
        edit_store(world, "DELETE FROM counters; DELETE FROM documents; DELETE FROM licenses; DELETE FROM owners");
}

static void test_empty_backup_sets_that_of_a_former_store_aside_once(void **state) {
        World *world = *state;

        put_some(world, 3, 10);
        back_up_over(world, alice.name, 3);
        g_autoptr(GBytes) former = read_path(world->target);
        lose_store(world);
        for (unsigned i = 0; i < 3; i++) {
                back_up_over(world, alice.name, 0);
                assert_aside(world, FORMER_STORE, former);
        }
        /* What is not empty takes the place of what is, and of its like. */
        put_some(world, 2, 10);
        for (unsigned i = 0; i < 2; i++) {
                back_up_over(world, alice.name, 2);
                assert_aside(world, FORMER_STORE, former);
        }
}

/* The id of a store, as backups of it say it. */
static void set_store(World *world, const char *id) {
        g_autofree char *sql = g_strdup_printf("UPDATE identity SET id = '%s'", id);

        edit_store(world, sql);
}

#define ONE_STORE "0123456789abcdef0123456789abcdef"
#define OTHER_STORE "fedcba9876543210fedcba9876543210"

static void back_up_over_other(World *world, const char *aside) {
        g_auto(WorkResult) result = {};

        forget(world);
        run_good(world, plan_over(world, alice.name), &result);
        if (aside)
                assert_string_equal(result.set_aside, aside);
        else
                assert_null(result.set_aside);
        assert_path_proved(world->target, &result);
}

/* The store was lost, and an app has stored something since: nothing says that the rest is to go. */
static void test_backup_of_another_store_is_set_aside_however_little_is_new(void **state) {
        World *world = *state;

        set_store(world, ONE_STORE);
        put_some(world, 3, 10);
        back_up_over_other(world, NULL);
        g_autoptr(GBytes) former = read_path(world->target);
        lose_store(world);
        set_store(world, OTHER_STORE);
        put_some(world, 1, 10);

        back_up_over_other(world, FORMER_STORE "01234567.tar");
        for (unsigned i = 0; i < 2; i++) {
                assert_aside(world, FORMER_STORE "01234567", former);
                back_up_over_other(world, NULL);
        }
}

/* Two machines with one disk: of each the newest is kept, and no more. */
static void test_one_backup_of_each_other_store_is_kept(void **state) {
        World *world = *state;

        put_some(world, 1, 10);
        set_store(world, ONE_STORE);
        back_up_over_other(world, NULL);
        for (unsigned i = 0; i < 3; i++) {
                set_store(world, OTHER_STORE);
                back_up_over_other(world, FORMER_STORE "01234567.tar");
                set_store(world, ONE_STORE);
                back_up_over_other(world, FORMER_STORE "fedcba98.tar");
        }
        assert_int_equal(count_entries(world->own), 3);
}

static void test_backup_without_the_id_of_a_store_is_replaced(void **state) {
        World *world = *state;

        put_some(world, 1, 10);
        set_store(world, "damaged");
        back_up_over_other(world, NULL);
        set_store(world, ONE_STORE);
        back_up_over_other(world, NULL);
        set_store(world, "");
        back_up_over_other(world, NULL);
        assert_nothing_left(world);
}

/* Where nobody else may make links: a tool that takes snapshots does so. */
static void test_backup_with_a_second_name_is_one(void **state) {
        World *world = *state;
        g_autofree char *second = g_build_filename(world->folder, "second", NULL);
        _cleanup_fd_ int fd = -1;
        g_auto(Error) error = {};

        put_some(world, 3, 10);
        back_up_over_other(world, NULL);
        assert_int_equal(link(world->target, second), 0);
        assert_good(open_backup(world, &fd, &error), &error);
        back_up_over_other(world, NULL);
        assert_int_equal(count_entries(world->own), 1);
}

/* Low marks and tombstones are as much as licenses, here and there. */
static void test_what_is_remembered_is_not_nothing(void **state) {
        World *world = *state;
        g_auto(Deed) gone = { .work = deed_delete, .owner = alice, .id = "some-0" };

        put_some(world, 1, 10);
        back_up_over(world, alice.name, 1);
        assert_good(deed_do(&gone, world->store), &gone.task.error);
        back_up_over(world, alice.name, 0);
        assert_nothing_left(world);

        g_autoptr(GBytes) former = read_path(world->target);
        lose_store(world);
        back_up_over(world, alice.name, 0);
        assert_aside(world, FORMER_STORE, former);
}

/* A former store's, of which the end is damaged: whether anything is in it cannot be told. */
static void test_damaged_backup_is_not_replaced_by_an_empty_one(void **state) {
        World *world = *state;
        _cleanup_fd_ int fd = -1;

        back_up_over(world, alice.name, 0);
        fd = open(world->target, O_WRONLY | O_CLOEXEC);
        assert_int_equal(pwrite(fd, "x", 1, lseek(fd, 0, SEEK_END) - 1), 1);
        g_autoptr(GBytes) former = read_path(world->target);
        back_up_over(world, alice.name, 0);
        assert_aside(world, FORMER_STORE, former);
}

static void test_what_does_not_say_whose_it_is_is_set_aside(void **state) {
        World *world = *state;
        _cleanup_fd_ int fd = -1;

        put_some(world, 3, 10);
        back_up_over(world, "former", 0);
        fd = open(world->target, O_WRONLY | O_CLOEXEC);
        assert_int_equal(pwrite(fd, "x", 1, 150), 1);
        g_autoptr(GBytes) former = read_path(world->target);
        back_up_over(world, alice.name, 3);
        assert_aside(world, FORMER_USER, former);
}

static void test_what_is_no_file_is_set_aside(void **state) {
        World *world = *state;

        assert_int_equal(mkdir(world->target, 0700), 0);
        put_some(world, 3, 10);
        back_up_over(world, alice.name, 3);
        assert_aside(world, FORMER_USER, NULL);
}

/* A backup, of which the system refuses something. */
typedef struct Refused {
        World *world;
        Backup *backup;
        int r;
        Error error;
} Refused;

static const char *backing_up(void *userdata) {
        Refused *refused = userdata;
        g_auto(WorkResult) result = {};

        refused->r = run_backup(refused->world, refused->backup, &result, &refused->error);
        return NULL;
}

static void back_up_refused(World *world, const char *name, const Refusal *refusal, Error *error) {
        g_autoptr(Backup) backup = new_backup(world, plan_over(world, name));
        Refused refused = { .world = world, .backup = backup };

        forget(world);
        assert_good(backup_check(backup, error), error);
        play_without(refusal, 1, backing_up, &refused);
        error_move(error, &refused.error);
        assert_int_equal(refused.r, error->code);
}

static void test_backup_that_cannot_be_looked_at_is_not_replaced(void **state) {
        const Refusal refusals[] = {
                { SYS_openat, 2, O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, EMFILE },
                { SYS_openat, 2, O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, EIO },
        };
        World *world = *state;

        put_some(world, 3, 10);
        back_up_over(world, alice.name, 3);
        g_autoptr(GBytes) former = read_path(world->target);
        for (size_t i = 0; i < G_N_ELEMENTS(refusals); i++) {
                g_auto(Error) error = {};

                back_up_refused(world, "newcomer", &refusals[i], &error);
                assert_error(&error, ERROR_MEDIUM, g_strerror(refusals[i].error));
                assert_error(&error, ERROR_MEDIUM, "is unchanged");
                g_autoptr(GBytes) found = read_path(world->target);
                assert_true(g_bytes_equal(found, former));
                assert_nothing_left(world);
        }
}

/* NFS, 9p and FUSE. */
static void test_backup_is_set_aside_where_renames_take_no_flags(void **state) {
        const int errors[] = { EINVAL, ENOSYS, EOPNOTSUPP };
        World *world = *state;

        put_some(world, 3, 10);
        for (size_t i = 0; i < G_N_ELEMENTS(errors); i++) {
                const Refusal refusal = { SYS_renameat2, 4, RENAME_NOREPLACE, errors[i] };
                g_autofree char *remove = g_strdup_printf("rm %s/*", world->own);
                g_auto(Error) error = {};

                back_up_over(world, alice.name, 3);
                g_autoptr(GBytes) former = read_path(world->target);
                back_up_refused(world, "newcomer", &refusal, &error);
                assert_good((int)error.code, &error);
                assert_aside(world, FORMER_USER, former);
                assert_int_equal(system(remove), 0);
        }
}

static void test_backup_that_was_set_aside_is_back_where_the_new_one_fails(void **state) {
        const Refusal refusal = { SYS_linkat, 4, AT_SYMLINK_FOLLOW, EIO };
        World *world = *state;
        g_auto(Error) error = {};

        put_some(world, 3, 10);
        back_up_over(world, alice.name, 3);
        g_autoptr(GBytes) former = read_path(world->target);
        lose_store(world);
        back_up_refused(world, alice.name, &refusal, &error);
        assert_error(&error, ERROR_MEDIUM, "is unchanged");
        g_autoptr(GBytes) found = read_path(world->target);
        assert_true(g_bytes_equal(found, former));
        assert_nothing_left(world);
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
                IN_WORLD(test_empty_backup_sets_that_of_a_former_store_aside_once),
                IN_WORLD(test_backup_of_another_store_is_set_aside_however_little_is_new),
                IN_WORLD(test_one_backup_of_each_other_store_is_kept),
                IN_WORLD(test_backup_without_the_id_of_a_store_is_replaced),
                IN_WORLD(test_backup_with_a_second_name_is_one),
                IN_WORLD(test_what_is_remembered_is_not_nothing),
                IN_WORLD(test_damaged_backup_is_not_replaced_by_an_empty_one),
                IN_WORLD(test_what_does_not_say_whose_it_is_is_set_aside),
                IN_WORLD(test_what_is_no_file_is_set_aside),
                IN_WORLD(test_backup_that_cannot_be_looked_at_is_not_replaced),
                IN_WORLD(test_backup_is_set_aside_where_renames_take_no_flags),
                IN_WORLD(test_backup_that_was_set_aside_is_back_where_the_new_one_fails),
                IN_WORLD(test_own_folder_needs_no_check_once_it_is_known),
                IN_WORLD(test_other_places_are_checked),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
