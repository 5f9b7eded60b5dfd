/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "backup-world.h"
#include "user-name.h"

/* What a backup holds, and that one that fails leaves the old one whole. */

static void assert_paths(int fd, const char *expected) {
        g_autofree char *content = NULL;
        g_autofree char *paths = backup_list(fd, "", &content);

        assert_string_equal(paths, expected);
}

static void assert_content(int fd, const char *path, const char *expected) {
        g_autofree char *content = NULL;
        g_autofree char *paths = backup_list(fd, path, &content);

        assert_non_null(strstr(paths, path));
        assert_string_equal(content, expected);
}

static void test_backup_to_the_own_folder_is_whole(void **state) {
        World *world = *state;
        WorkResult result;

        put_some(world, 30, 5000);
        run_good(world, new_plan(world), &result);
        assert_int_equal(result.licenses, 30);
        assert_int_equal(result.restricted, 0);
        assert_path_proved(world->target, &result);
        assert_nothing_left(world);
        assert_int_equal(world->completed, 30);
        assert_in_range(world->percent, 98, 99);
        assert_in_range(world->n_progress, 30, 100);
}

static void test_backup_of_nothing_is_a_whole_backup(void **state) {
        World *world = *state;
        WorkResult result;

        run_good(world, new_plan(world), &result);
        assert_int_equal(result.licenses, 0);
        assert_path_proved(world->target, &result);
}

static void test_own_folder_is_made_where_it_is_missing(void **state) {
        World *world = *state;
        WorkResult result;

        assert_int_equal(rmdir(world->own), 0);
        run_good(world, new_plan(world), &result);
        assert_path_proved(world->target, &result);
}

static void test_backup_holds_what_it_should(void **state) {
        World *world = *state;
        g_auto(Deed) gone = { .work = deed_delete, .owner = alice, .id = "gone" };
        g_auto(Deed) dead = { .work = deed_revoke, .owner = alice, .id = "dead" };
        _cleanup_fd_ int fd = -1;
        WorkResult result;

        put(world->store, &alice, "a", "first");
        put(world->store, &alice, "a", "the document");
        put(world->store, &alice, "gone", "d");
        put(world->store, &alice, "dead", "d");
        put(world->store, &alice, "../e vil\n", "d");
        put(world->store, &bob, "bobs", "d");
        put_restricted(world, "secret-1");
        assert_good(deed_do(&gone, world->store), &gone.task.error);
        assert_good(deed_do(&dead, world->store), &dead.task.error);
        run_good(world, new_plan(world), &result);
        assert_int_equal(result.licenses, 2);
        assert_int_equal(result.restricted, 1);

        fd = open(world->target, O_RDONLY | O_CLOEXEC);
        assert_paths(fd, "README.txt\nmanifest.json\nstate.jsonl\nlicenses/0000001-a.bin\n"
                         "licenses/0000002-_._e_vil_.bin\nNOT-BACKED-UP.txt\nEND.json\n");
        assert_content(fd, "state.jsonl",
                "{\"id\":\"a\",\"generation\":2,\"counters\":{}}\n"
                "{\"id\":\"gone\",\"generation\":1,\"counters\":{}}\n"
                "{\"id\":\"dead\",\"generation\":1,\"counters\":{},\"revoked\":1700000000}\n"
                "{\"id\":\"../e vil\\n\",\"generation\":1,\"counters\":{}}\n"
                "{\"id\":\"secret-1\",\"generation\":1,\"counters\":{},\"restricted\":true}\n");
        /* printf 'the document' | b2sum -l 256 */
        assert_content(fd, "licenses/0000001-a.bin",
                "the document"
                "[user.licensevault.blake2b="
                "5d81f096b42becba800b06abb5cfb29eee502fe884a4b71e7832a43dea845409]"
                "[user.licensevault.generation=2][user.licensevault.id=a]");
}

static void test_restricted_licenses_are_left_out_and_told(void **state) {
        World *world = *state;
        g_autoptr(GPtrArray) read = g_ptr_array_new();
        g_autofree char *text = NULL, *paths = NULL;
        _cleanup_fd_ int fd = -1;
        g_autoptr(Backup) backup = NULL;
        g_auto(Error) error = {};
        WorkResult result;

        for (unsigned i = 0; i < 1250; i++) {
                g_autofree char *id = g_strdup_printf("secret-%u", i);
                put_restricted(world, id);
        }
        put(world->store, &alice, "open", "d");

        backup = new_backup(world, new_plan(world));
        assert_good(backup_check(backup, &error), &error);
        assert_good(run_backup(world, backup, &result, &error), &error);
        assert_int_equal(result.licenses, 1);
        assert_int_equal(result.restricted, 1250);
        assert_path_proved(world->target, &result);

        /* Ten signals of a hundred; the list has all. */
        assert_int_equal(world->n_signals, 10);
        assert_int_equal(world->n_signalled, 1000);
        assert_int_equal(restricted_count(backup_restricted(backup)), 1250);
        assert_int_equal(restricted_read(backup_restricted(backup), 1249, 10, read), 0);
        assert_string_equal(read->pdata[0], "secret-1249");

        fd = open(world->target, O_RDONLY | O_CLOEXEC);
        paths = backup_list(fd, "NOT-BACKED-UP.txt", &text);
        assert_null(strstr(paths, "secret"));
        assert_non_null(strstr(text, "\nsecret-0\n"));
        assert_non_null(strstr(text, "\nsecret-1249\n"));
}

static void test_few_restricted_licenses_are_told_in_one_signal(void **state) {
        World *world = *state;
        WorkResult result;

        put_restricted(world, "secret-1");
        put_restricted(world, "secret-2");
        run_good(world, new_plan(world), &result);
        assert_int_equal(world->n_signals, 1);
        assert_int_equal(world->n_signalled, 2);
}

static void test_backup_of_all_users_has_a_folder_for_each(void **state) {
        const StoreOwner nameless = { 1002, "" }, odd = { 1003, "a/../b" };
        World *world = *state;
        _cleanup_fd_ int fd = new_target();
        BackupPlan plan = plan_to(world, fd);
        WorkResult result;

        put(world->store, &bob, "b", "bob's");
        put(world->store, &alice, "a", "alice's");
        put(world->store, &alice, "a2", "alice's");
        put(world->store, &nameless, "n", "n");
        put(world->store, &odd, "o", "o");
        plan.all_users = true;
        run_good(world, plan, &result);
        assert_int_equal(result.licenses, 5);
        assert_proved(fd, &result);
        assert_paths(fd, "README.txt\nmanifest.json\nstate.jsonl\nlicenses/_1002_/0000001-n.bin\n"
                         "licenses/a_.._b/0000002-o.bin\nlicenses/alice/0000003-a.bin\n"
                         "licenses/alice/0000004-a2.bin\nlicenses/bob/0000005-b.bin\nEND.json\n");
        assert_content(fd, "state.jsonl",
                "{\"owner\":\"(1002)\",\"id\":\"n\",\"generation\":1,\"counters\":{}}\n"
                "{\"owner\":\"a/../b\",\"id\":\"o\",\"generation\":1,\"counters\":{}}\n"
                "{\"owner\":\"alice\",\"id\":\"a\",\"generation\":1,\"counters\":{}}\n"
                "{\"owner\":\"alice\",\"id\":\"a2\",\"generation\":1,\"counters\":{}}\n"
                "{\"owner\":\"bob\",\"id\":\"b\",\"generation\":1,\"counters\":{}}\n");
}

/* A name that was given to another number, and two numbers of which neither has the name any more. */
static void test_backup_of_all_users_tells_namesakes_apart(void **state) {
        const StoreOwner root = { 0, "root" }, other_root = { 4000, "root" }, gone = { 4001, "no-such-user" },
                         gone_too = { 4002, "no-such-user" };
        World *world = *state;
        _cleanup_fd_ int fd = new_target();
        BackupPlan plan = plan_to(world, fd);
        WorkResult result;

        put(world->store, &other_root, "id", "the other's");
        put(world->store, &root, "id", "root's");
        put(world->store, &gone, "id", "g");
        put(world->store, &gone_too, "id", "h");
        plan.all_users = true;
        run_good(world, plan, &result);
        assert_content(fd, "state.jsonl",
                "{\"owner\":\"no-such-user (4001)\",\"id\":\"id\",\"generation\":1,\"counters\":{}}\n"
                "{\"owner\":\"no-such-user (4002)\",\"id\":\"id\",\"generation\":1,\"counters\":{}}\n"
                "{\"owner\":\"root\",\"id\":\"id\",\"generation\":1,\"counters\":{}}\n"
                "{\"owner\":\"root (4000)\",\"id\":\"id\",\"generation\":1,\"counters\":{}}\n");
}

/* A restore takes no more users: a backup of more would be none. */
static void test_backup_of_more_users_than_a_restore_takes_is_refused(void **state) {
        World *world = *state;
        g_autofree char *sql = g_strdup_printf(
                "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i <= %u) "
                "INSERT INTO owners (owner, uid, name, remembered) SELECT i, 10000 + i, 'u' || i, i < %u FROM n;"
                "INSERT INTO licenses (key, owner, id, generation, present, allow_backup, charge) "
                "SELECT owner << 31, owner, 'id', 1, 0, 1, 100 FROM owners WHERE remembered",
                BACKUP_USERS_MAX, BACKUP_USERS_MAX + 1);
        _cleanup_fd_ int fd = new_target();
        BackupPlan plan = plan_to(world, fd), again = new_plan(world);
        g_auto(Error) error = {};
        WorkResult result;

        /* One has nothing in the store, and does not count. */
        edit_store(world, sql);
        plan.all_users = again.all_users = true;
        run_good(world, plan, &result);
        assert_int_equal(result.licenses, 0);
        assert_proved(fd, &result);

        put(world->store, &alice, "a", "alice's");
        assert_int_equal(run(world, again, NULL, &error), ERROR_LIMIT_EXCEEDED);
        assert_error(&error, ERROR_LIMIT_EXCEEDED, "Back up each user alone");
        assert_nothing_left(world);
}

static void test_backup_of_another_owner_holds_that_owners_only(void **state) {
        const StoreOwner former = { 0, "former" };
        World *world = *state;
        _cleanup_fd_ int fd = new_target();
        BackupPlan plan = plan_to(world, fd);
        g_autofree char *name = NULL;
        WorkResult result;

        /* The number's present user, as this machine knows it (each has root), and not whoever had it before. */
        assert_int_equal(user_name_of(former.uid, &name), 0);
        const StoreOwner present = { former.uid, name };
        put(world->store, &alice, "a", "d");
        put(world->store, &present, "b", "d");
        put(world->store, &former, "theirs", "d");
        plan.owner = former.uid;
        run_good(world, plan, &result);
        assert_paths(fd, "README.txt\nmanifest.json\nstate.jsonl\nlicenses/0000001-b.bin\nEND.json\n");
}

/* Who has the number of a deleted user gets none of that user's licenses. */
static void test_own_backup_goes_by_number_and_name(void **state) {
        const StoreOwner former = { 1000, "former" };
        World *world = *state;
        WorkResult result;

        put(world->store, &former, "theirs", "d");
        put(world->store, &alice, "mine", "d");
        run_good(world, new_plan(world), &result);
        assert_int_equal(result.licenses, 1);
}

static void test_backup_that_is_there_stays_without_overwrite(void **state) {
        World *world = *state;
        g_auto(Error) error = {};

        write_path(world->target, OLD_BACKUP, strlen(OLD_BACKUP));
        put_some(world, 3, 10);
        assert_int_equal(run(world, new_plan(world), NULL, &error), ERROR_BACKUP_EXISTS);
        assert_error(&error, ERROR_BACKUP_EXISTS, "WM_BACKUP_OVERWRITE");
        assert_int_equal(world->n_begins, 0);
        assert_old_backup(world);
}

static void test_backup_that_appears_meanwhile_stays_without_overwrite(void **state) {
        World *world = *state;
        g_auto(Error) error = {};

        put_some(world, 3, 10);
        world->at_begin = make_old_backup;
        assert_int_equal(run(world, new_plan(world), NULL, &error), ERROR_BACKUP_EXISTS);
        assert_old_backup(world);
}

static void test_overwrite_replaces_the_backup(void **state) {
        World *world = *state;
        BackupPlan plan = new_plan(world);
        WorkResult result;

        put_some(world, 3, 10);
        run_good(world, new_plan(world), &result);
        put_some(world, 5, 10);
        forget(world);
        plan.overwrite = true;
        run_good(world, plan, &result);
        assert_int_equal(result.licenses, 5);
        assert_path_proved(world->target, &result);
        assert_nothing_left(world);
}

static void test_cancel_at_the_beginning_leaves_the_old_backup(void **state) {
        World *world = *state;

        put_some(world, 10, 1000);
        world->cancel_at_begin = true;
        assert_fails(world, ERROR_CANCELED, "Enough.");
        assert_int_equal(world->completed, 0);
}

static void test_cancel_between_licenses_leaves_the_old_backup(void **state) {
        World *world = *state;

        put_some(world, 10, 1000);
        world->cancel_at = 5;
        assert_fails(world, ERROR_CANCELED, "Enough.");
        assert_int_equal(world->completed, 5);
}

static void test_cancel_while_verifying_leaves_the_old_backup(void **state) {
        World *world = *state;

        put_some(world, 10, 1000);
        world->cancel_at_percent = 95;
        assert_fails(world, ERROR_CANCELED, "Enough.");
        assert_int_equal(world->completed, 10);
}

static void test_cancel_before_a_backup_of_nothing_leaves_the_old_backup(void **state) {
        World *world = *state;

        world->cancel_at_begin = true;
        assert_fails(world, ERROR_CANCELED, "Enough.");
}

static void test_large_backup_is_whole(void **state) {
        World *world = *state;
        BackupPlan plan = new_plan(world);
        WorkResult result;

        put_some(world, LARGE_N, LARGE_SIZE);
        run_good(world, plan, &result);
        assert_int_equal(result.licenses, LARGE_N);
        assert_path_proved(world->target, &result);
        assert_nothing_left(world);
}

static void test_large_backup_is_canceled_at_every_point(void **state) {
        World *world = *state;

        put_some(world, LARGE_N, LARGE_SIZE);
        for (unsigned at = 1; at <= LARGE_N + 1; at++) {
                cancel_unref(world->cancel);
                assert_int_equal(cancel_new(&world->cancel), 0);
                forget(world);
                world->cancel_at = at <= LARGE_N ? at : 0;
                world->cancel_at_percent = at <= LARGE_N ? 1000 : 95;
                assert_fails(world, ERROR_CANCELED, "Enough.");
                assert_int_equal(world->completed, MIN(at, LARGE_N));
        }
}

static void put_one_more(World *world) {
        put(world->store, &alice, "late", "d");
        edit_store(world, "UPDATE licenses SET generation = 9");
}

static void test_backup_is_of_one_moment(void **state) {
        World *world = *state;
        g_autofree char *state_lines = NULL, *paths = NULL;
        _cleanup_fd_ int fd = -1;
        WorkResult result;

        put_some(world, 3, 10);
        world->at_begin = put_one_more;
        run_good(world, new_plan(world), &result);
        assert_int_equal(result.licenses, 3);
        fd = open(world->target, O_RDONLY | O_CLOEXEC);
        paths = backup_list(fd, "state.jsonl", &state_lines);
        assert_null(strstr(state_lines, "late"));
        assert_null(strstr(state_lines, ":9,"));
}

static void test_backup_too_large_for_the_file_system_leaves_the_old_one(void **state) {
        World *world = *state;
        struct rlimit before, limit;

        put_some(world, LARGE_N, LARGE_SIZE);
        signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
        for (rlim_t size = 100; size < (rlim_t)LARGE_N * LARGE_SIZE; size += 1000000) {
                limit = before;
                limit.rlim_cur = size;
                forget(world);
                make_old_backup(world);
                assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
                assert_backup_fails(world, ERROR_MEDIUM, "A backup that was there before is unchanged.");
                assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        }
}

/* Mounts a small disk on alice's folder; only this thread and its descendants see it. */
static void mount_disk(World *world) {
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("tmpfs", world->own, "tmpfs", 0, "size=256k,mode=700") < 0) {
                print_message("Skipped: mounting a file system needs root.\n");
                skip();
        }
}

static void test_full_disk_leaves_the_old_backup(void **state) {
        World *world = *state;

        put_some(world, 40, 10000);
        mount_disk(world);
        assert_fails(world, ERROR_MEDIUM, g_strerror(ENOSPC));
        assert_int_equal(umount(world->own), 0);
}

static void test_disk_that_is_full_to_the_last_keeps_the_reserve(void **state) {
        StoreLimits limits = no_limits;
        World *world = *state;

        put(world->store, &alice, "a", "d");
        limits.minimum_free_percent = 100;
        store_set_limits(world->store, &limits);
        assert_fails(world, ERROR_STORE_FULL, "MinimumFreePercent=");
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_backup_to_the_own_folder_is_whole),
                IN_WORLD(test_backup_of_nothing_is_a_whole_backup),
                IN_WORLD(test_own_folder_is_made_where_it_is_missing),
                IN_WORLD(test_backup_holds_what_it_should),
                IN_WORLD(test_restricted_licenses_are_left_out_and_told),
                IN_WORLD(test_few_restricted_licenses_are_told_in_one_signal),
                IN_WORLD(test_backup_of_all_users_has_a_folder_for_each),
                IN_WORLD(test_backup_of_all_users_tells_namesakes_apart),
                IN_WORLD(test_backup_of_more_users_than_a_restore_takes_is_refused),
                IN_WORLD(test_backup_of_another_owner_holds_that_owners_only),
                IN_WORLD(test_own_backup_goes_by_number_and_name),
                IN_WORLD(test_backup_that_is_there_stays_without_overwrite),
                IN_WORLD(test_backup_that_appears_meanwhile_stays_without_overwrite),
                IN_WORLD(test_overwrite_replaces_the_backup),
                IN_WORLD(test_cancel_at_the_beginning_leaves_the_old_backup),
                IN_WORLD(test_cancel_between_licenses_leaves_the_old_backup),
                IN_WORLD(test_cancel_while_verifying_leaves_the_old_backup),
                IN_WORLD(test_cancel_before_a_backup_of_nothing_leaves_the_old_backup),
                IN_WORLD(test_large_backup_is_whole),
                IN_WORLD(test_large_backup_is_canceled_at_every_point),
                IN_WORLD(test_backup_is_of_one_moment),
                IN_WORLD(test_backup_too_large_for_the_file_system_leaves_the_old_one),
                IN_WORLD(test_full_disk_leaves_the_old_backup),
                IN_WORLD(test_disk_that_is_full_to_the_last_keeps_the_reserve),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
