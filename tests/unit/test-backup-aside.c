/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cmocka.h>
#include <sodium.h>

#include "archive-frame.h"
#include "aside-world.h"
#include "backup-aside.h"
#include "tarball.h"

/* What a new backup must not replace gets another name. */

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

/* The store was lost, and an app has stored something since: nothing says that the rest is to go. */
static void test_backup_of_another_store_is_set_aside_however_little_is_new(void **state) {
        World *world = *state;

        set_store(world, ONE_STORE);
        put_some(world, 3, 10);
        back_up_over_other(world, false);
        g_autoptr(GBytes) former = read_path(world->target);
        lose_store(world);
        set_store(world, OTHER_STORE);
        put_some(world, 1, 10);

        back_up_over_other(world, true);
        for (unsigned i = 0; i < 2; i++) {
                assert_aside(world, FORMER_STORE, former);
                back_up_over_other(world, false);
        }
}

/* Two machines with one disk: of each the newest is kept, and no more. */
static void test_one_backup_of_each_other_store_is_kept(void **state) {
        World *world = *state;

        put_some(world, 1, 10);
        set_store(world, ONE_STORE);
        back_up_over_other(world, false);
        for (unsigned i = 0; i < 3; i++) {
                set_store(world, OTHER_STORE);
                back_up_over_other(world, true);
                set_store(world, ONE_STORE);
                back_up_over_other(world, true);
        }
        assert_int_equal(count_entries(world->own), 3);
}

/* All was lost, and the store is the same: what that has nothing in is not kept, and takes no other's place. */
static void test_empty_backup_of_another_store_takes_the_place_of_none(void **state) {
        World *world = *state;

        set_store(world, ONE_STORE);
        put_some(world, 3, 10);
        back_up_over_other(world, false);
        g_autoptr(GBytes) former = read_path(world->target);

        lose_store(world);
        set_store(world, OTHER_STORE);
        put_some(world, 1, 10);
        g_autofree char *aside = back_up_on(world, "machine");
        assert_has(world, aside, former);

        lose_store(world);
        set_store(world, ONE_STORE);
        back_up_over_other(world, true);
        set_store(world, OTHER_STORE);
        put_some(world, 1, 10);
        g_autofree char *none = back_up_on(world, "machine");
        assert_has(world, aside, former);
        assert_null(none);
        assert_int_equal(count_entries(world->own), 3);
}

/* Backs up on three machines, on the first more than on the others. */
static void assert_set_aside_by_machine(World *world) {
        g_autofree char *none = NULL, *first = NULL, *second = NULL;

        none = back_up_on(world, "first");
        assert_null(none);
        g_autoptr(GBytes) of_first = read_path(world->target);
        edit_store(world, "DELETE FROM documents WHERE key > (SELECT min(key) FROM licenses);"
                "DELETE FROM licenses WHERE key > (SELECT min(key) FROM licenses)");
        first = back_up_on(world, "second");
        assert_has(world, first, of_first);
        g_autoptr(GBytes) of_second = read_path(world->target);
        second = back_up_on(world, "third");
        assert_has(world, first, of_first);
        assert_has(world, second, of_second);
        assert_int_equal(count_entries(world->own), 3);
}

/* Their disks are copies of one, the store's id included, or the service was too old to have given it one. */
static void test_backup_of_another_machine_is_set_aside(void **state) {
        World *world = *state;
        g_autofree char *sql = NULL;

        set_store(world, "");
        put_some(world, 3, 10);
        assert_set_aside_by_machine(world);

        /* A disk that was copied has the store's id on both machines, and both use this folder. */
        g_free(world->own);
        g_free(world->target);
        world->own = make_folder(world->root, "1000");
        world->target = g_build_filename(world->own, FOLDER_BACKUP_NAME, NULL);
        sql = g_strdup_printf("INSERT INTO properties SELECT owner, 'BackupPath', '%s' FROM owners", world->own);
        edit_store(world, sql);
        set_store(world, ONE_STORE);
        put_some(world, 3, 10);
        assert_set_aside_by_machine(world);
}

/* As where each start makes one. Beside the store it is this machine all the same, and no file is left for each. */
static void test_new_id_of_the_machine_sets_nothing_aside_beside_the_store(void **state) {
        World *world = *state;

        set_store(world, ONE_STORE);
        put_some(world, 3, 10);
        for (unsigned i = 0; i < 3; i++) {
                g_autofree char *machine = g_strdup_printf("start-%u", i), *aside = back_up_on(world, machine);

                assert_null(aside);
        }
        assert_int_equal(count_entries(world->own), 1);
}

/* The newest of the other machine has rotted where it lay: its last one that is whole stays beside it. */
static void test_damaged_backup_takes_the_place_of_none(void **state) {
        World *world = *state;

        put_some(world, 3, 10000);
        set_store(world, ONE_STORE);
        back_up_over_other(world, false);
        g_autoptr(GBytes) whole = read_path(world->target);
        set_store(world, OTHER_STORE);
        back_up_over_other(world, true);
        for (unsigned i = 0; i < 3; i++) {
                _cleanup_fd_ int fd = -1;

                set_store(world, ONE_STORE);
                back_up_over_other(world, true);
                fd = open(world->target, O_WRONLY | O_CLOEXEC);
                assert_int_equal(pwrite(fd, "x", 1, 20000), 1);
                set_store(world, OTHER_STORE);
                back_up_over_other(world, true);
                assert_int_equal(count_files(world, whole), 1);
        }
        put_some(world, 3, 11);
        set_store(world, ONE_STORE);
        back_up_over_other(world, true);
        set_store(world, OTHER_STORE);
        back_up_over_other(world, true);
        assert_int_equal(count_files(world, whole), 0);
}

/* Week for week, after somebody was purged there: its last backup from before that is kept, and the newest, and no more. */
static void test_other_store_that_knows_less_adds_one_file_alone(void **state) {
        World *world = *state;

        put_some(world, 3, 10);
        set_store(world, ONE_STORE);
        back_up_over_other(world, false);
        g_autoptr(GBytes) later = read_path(world->target);
        set_store(world, OTHER_STORE);
        back_up_over_other(world, true);
        forget_newest_license(world);
        for (unsigned i = 0; i < 3; i++) {
                set_store(world, ONE_STORE);
                back_up_over_other(world, true);
                set_store(world, OTHER_STORE);
                back_up_over_other(world, true);
        }
        /* Of the other store, the same: it is the one that knows less, too. */
        assert_int_equal(count_entries(world->own), 5);
        assert_int_equal(count_files(world, later), 1);
}

/* Its backup comes while ours reads what is there to be set aside. */
static void other_machine_backs_up(World *world) {
        g_autofree char *new = g_build_filename(world->own, "new", NULL);

        world->at_moved = NULL;
        assert_true(g_file_set_contents(new, "theirs", -1, NULL));
        assert_int_equal(rename(new, world->target), 0);
}

static void test_backup_that_came_meanwhile_is_not_replaced(void **state) {
        World *world = *state;
        g_auto(Error) error = {};
        g_autofree char *found = NULL;

        /* More than one read. */
        put_some(world, 3, 200000);
        for (unsigned i = 0; i < 2; i++) {
                set_store(world, OTHER_STORE);
                back_up_over_other(world, i > 0);
                set_store(world, ONE_STORE);
                back_up_over_other(world, true);
        }
        set_store(world, OTHER_STORE);
        forget(world);
        world->at_moved = other_machine_backs_up;
        assert_int_equal(run(world, plan_over(world, alice.name), NULL, &error), ERROR_MEDIUM);
        assert_error(&error, ERROR_MEDIUM, "Meanwhile another backup was put in its place");
        assert_true(g_file_get_contents(world->target, &found, NULL, NULL));
        assert_string_equal(found, "theirs");
        assert_null(world->at_moved);
}

static char *aside_path;

/* A third one sets aside what we are to set aside: under the same name, and in the place of the same older one. */
static void third_machine_backs_up(World *world) {
        assert_int_equal(rename(world->target, aside_path), 0);
        other_machine_backs_up(world);
}

static void test_what_another_machine_has_set_aside_stays(void **state) {
        g_autofree char *none = NULL, *aside = NULL;
        World *world = *state;
        g_auto(Error) error = {};

        put_some(world, 3, 200000);
        set_store(world, ONE_STORE);
        none = back_up_on(world, "machine");
        set_store(world, OTHER_STORE);
        aside = back_up_on(world, "machine");
        assert_non_null(aside);
        set_store(world, ONE_STORE);
        put_named(world, "last");
        back_up_over_other(world, true);
        g_autoptr(GBytes) last = read_path(world->target);

        set_store(world, OTHER_STORE);
        aside_path = g_build_filename(world->own, aside, NULL);
        forget(world);
        world->at_moved = third_machine_backs_up;
        assert_int_equal(run(world, plan_over(world, alice.name), NULL, &error), ERROR_MEDIUM);
        assert_error(&error, ERROR_MEDIUM, "Meanwhile another backup was put in its place");
        assert_null(world->at_moved);
        g_clear_pointer(&aside_path, g_free);
        assert_int_equal(count_files(world, last), 1);
}

/* It may be what the other has set aside under that name, too. */
static void test_what_was_set_aside_keeps_that_name_where_its_own_is_anothers(void **state) {
        WorkEvents events = {};
        NewBackup new = { .user = alice.name, .store = OTHER_STORE, .machine = "machine", .memory = { 1, 1 },
                .epochs = "", .overwrite = true, .events = &events };
        _cleanup_fd_ int folder = -1;
        World *world = *state;

        put_some(world, 3, 10);
        set_store(world, ONE_STORE);
        back_up_over_other(world, false);
        g_autoptr(GBytes) former = read_path(world->target);
        folder = open(world->own, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        for (unsigned i = 0; i < 2; i++) {
                g_auto(Aside) aside = ASIDE_NONE;

                assert_int_equal(aside_set(folder, &new, &aside), 0);
                assert_true(aside.linked);
                if (i > 0)
                        other_machine_backs_up(world);
                assert_int_equal(aside_undo(folder, &aside), i > 0 ? -EEXIST : 0);
                assert_int_equal(count_files(world, former), 1);
                assert_int_equal(count_entries(world->own), 1 + i);
        }
}

/* Who had the number has some of the same store there, more than there are names that stay. */
static void test_what_is_set_aside_takes_the_place_of_no_former_users(void **state) {
        World *world = *state;
        const unsigned n = 10;

        put_some(world, 3, 10);
        set_store(world, ONE_STORE);
        back_up_over(world, "former", 0);
        g_autoptr(GBytes) former = read_path(world->target);
        assert_int_equal(unlink(world->target), 0);

        for (unsigned i = 0; i < n; i++) {
                set_store(world, ONE_STORE);
                back_up_over_other(world, i > 0);
                set_store(world, OTHER_STORE);
                g_autofree char *aside = back_up_on(world, "machine");
                g_autofree char *path = g_build_filename(world->own, aside, NULL);
                assert_true(g_file_set_contents(path, g_bytes_get_data(former, NULL), (gssize)g_bytes_get_size(former),
                        NULL));
        }
        assert_int_equal(count_files(world, former), n);
        /* With the last one, and what it set aside. */
        assert_int_equal(count_entries(world->own), n + 2);
}

static void test_backup_without_the_id_of_a_store_is_replaced(void **state) {
        World *world = *state;

        put_some(world, 1, 10);
        set_store(world, "damaged");
        back_up_over_other(world, false);
        set_store(world, ONE_STORE);
        back_up_over_other(world, false);
        set_store(world, "");
        back_up_over_other(world, false);
        assert_nothing_left(world);
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

/* The user learns nothing of who had the number before; the log has it. */
static void test_backup_of_a_former_user_is_not_told(void **state) {
        World *world = *state;
        g_auto(WorkResult) result = {};

        back_up_over(world, "former", 0);
        forget(world);
        run_good(world, plan_over(world, alice.name), &result);
        assert_true(g_str_has_prefix(result.set_aside, FORMER_USER));
        assert_false(result.aside_is_own);
}

static const char *name_of_ones(void) {
        return "ones";
}

static uint32_t one(void) {
        return 1;
}

static void fill_with_ones(void *buffer, size_t size) {
        memset(buffer, 1, size);
}

/* The name at random is taken, by what may be all that is left of another. */
static void test_name_at_random_that_is_taken_removes_nothing(void **state) {
        randombytes_implementation ones = { .implementation_name = name_of_ones, .random = one, .buf = fill_with_ones };
        World *world = *state;
        g_autofree char *taken = g_build_filename(world->own, FORMER_USER "00000001.tar", NULL);
        g_auto(WorkResult) result = {};
        g_auto(Error) error = {};

        back_up_over(world, "former", 0);
        g_autoptr(GBytes) former = read_path(world->target);
        write_path(taken, "another's", 9);
        forget(world);
        randombytes_set_implementation(&ones);
        assert_int_equal(run(world, plan_over(world, alice.name), &result, &error), ERROR_MEDIUM);
        randombytes_set_implementation(&randombytes_sysrandom_implementation);

        assert_error(&error, ERROR_MEDIUM, "is unchanged");
        g_autoptr(GBytes) found = read_path(world->target), kept = read_path(taken);
        assert_true(g_bytes_equal(found, former));
        assert_int_equal(g_bytes_get_size(kept), 9);
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

/* Nobody can cancel when a backup has the name of another as good as given to it. */
static void test_whether_a_backup_is_empty_is_not_read_for_long(void **state) {
        const TarballPart parts[] = { TARBALL_README, TARBALL_MANIFEST(0, 0), { ARCHIVE_STATE, NULL, .streamed = true } };
        const size_t most = (UINT64_C(8) << 30) - 1;
        _cleanup_fd_ int empty = tarball_make_file(parts, G_N_ELEMENTS(parts), TARBALL_JSON_END(0, 0)), fd = -1;
        const char *streamed[] = { ARCHIVE_STATE, ARCHIVE_NOT_BACKED_UP };

        assert_int_equal(backup_is_empty(empty), 1);
        for (unsigned i = 0; i < G_N_ELEMENTS(streamed); i++) {
                g_autoptr(GByteArray) tar = NULL;
                PaxHeader *header;
                char size[12];
                off_t at;

                fd_closep(&fd);
                fd = tarball_make_file(parts, 2 + i, NULL);
                tar = tarball_read_file(fd);
                /* In place of the end: the header of what is as long as can be, and has holes alone behind it. */
                at = (off_t)(tar->len - tar->len % PAX_BLOCK_SIZE);
                while (at >= PAX_BLOCK_SIZE && tar->data[at - PAX_BLOCK_SIZE] == 0)
                        at -= PAX_BLOCK_SIZE;
                g_byte_array_set_size(tar, (unsigned)at);
                tarball_add(tar, PAX_TYPE_FILE, streamed[i], "", "", 0);
                header = (PaxHeader *)(tar->data + at);
                snprintf(size, sizeof size, "%011zo", most);
                memcpy(header->size, size, sizeof size);
                tarball_seal(tar, (size_t)at);
                tarball_write_file(fd, tar->data, tar->len);
                assert_int_equal(ftruncate(fd, (off_t)most), 0);

                assert_int_equal(backup_is_empty(fd), 0);
                assert_in_range(lseek(fd, 0, SEEK_CUR), 1, 1024 * 1024);
        }
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_empty_backup_sets_that_of_a_former_store_aside_once),
                IN_WORLD(test_backup_of_another_store_is_set_aside_however_little_is_new),
                IN_WORLD(test_one_backup_of_each_other_store_is_kept),
                IN_WORLD(test_empty_backup_of_another_store_takes_the_place_of_none),
                IN_WORLD(test_backup_of_another_machine_is_set_aside),
                IN_WORLD(test_new_id_of_the_machine_sets_nothing_aside_beside_the_store),
                IN_WORLD(test_damaged_backup_takes_the_place_of_none),
                IN_WORLD(test_other_store_that_knows_less_adds_one_file_alone),
                IN_WORLD(test_backup_that_came_meanwhile_is_not_replaced),
                IN_WORLD(test_what_another_machine_has_set_aside_stays),
                IN_WORLD(test_what_was_set_aside_keeps_that_name_where_its_own_is_anothers),
                IN_WORLD(test_what_is_set_aside_takes_the_place_of_no_former_users),
                IN_WORLD(test_backup_without_the_id_of_a_store_is_replaced),
                IN_WORLD(test_what_is_remembered_is_not_nothing),
                IN_WORLD(test_damaged_backup_is_not_replaced_by_an_empty_one),
                IN_WORLD(test_what_does_not_say_whose_it_is_is_set_aside),
                IN_WORLD(test_backup_of_a_former_user_is_not_told),
                IN_WORLD(test_name_at_random_that_is_taken_removes_nothing),
                IN_WORLD(test_what_is_no_file_is_set_aside),
                IN_WORLD(test_backup_that_cannot_be_looked_at_is_not_replaced),
                cmocka_unit_test(test_whether_a_backup_is_empty_is_not_read_for_long),
                IN_WORLD(test_backup_is_set_aside_where_renames_take_no_flags),
                IN_WORLD(test_backup_that_was_set_aside_is_back_where_the_new_one_fails),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
