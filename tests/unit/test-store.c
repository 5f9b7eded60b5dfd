/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "common.h"
#include "store-folder.h"

/* The store as a file: made, opened, locked, refused and left alone. */

static const StoreOwner alice = { 1000, "alice" };

/* Makes a store with one license in it. */
static void make_store(const char *folder) {
        g_autoptr(Store) store = open_store(folder);

        put(store, &alice, "a", "the document");
}

/* Opening, and checking, answer the code; the file stays byte for byte. */
static void assert_left_alone(const char *folder, ErrorCode code, const char *words) {
        g_autofree char *path = store_path(folder);
        g_autoptr(GBytes) before = read_path(path);
        g_autoptr(GBytes) after = NULL;
        g_auto(Error) error = {}, check_error = {};
        uint64_t licenses = 77;
        Store *store = NULL;

        assert_int_equal(store_open(folder, &no_limits, &store, &error), code);
        assert_null(store);
        assert_error(&error, code, words);
        assert_int_equal(store_check(folder, &licenses, &check_error), code);
        assert_error(&check_error, code, words);
        assert_int_equal(licenses, 0);

        after = read_path(path);
        assert_true(g_bytes_equal(before, after));
}

static void assert_has_license(Store *store, const char *id, const char *document) {
        g_autoptr(StoreConnection) connection = NULL;
        g_autofree void *found = NULL;
        g_auto(License) license = {};
        g_auto(Error) error = {};

        license_init(&license);
        assert_good(store_connect(store, &connection, &error), &error);
        assert_good(store_license_get(connection, &alice, id, UINT64_MAX, &license, &found, &error), &error);
        assert_int_equal(license.size, strlen(document));
        assert_memory_equal(found, document, license.size);
}

static void test_store_is_made_in_an_empty_folder_and_opened_again(void **state) {
        g_autofree char *path = store_path(*state);
        g_autofree char *new = g_strconcat(path, ".new", NULL);
        Store *store;

        make_store(*state);
        assert_int_equal(access(path, F_OK), 0);
        assert_int_equal(access(new, F_OK), -1);

        store = open_store(*state);
        assert_int_equal(store_count(store), 1);
        assert_string_equal(store_folder(store), *state);
        assert_has_license(store, "a", "the document");
        store_free(store);
}

static void test_closing_leaves_one_file_alone(void **state) {
        g_autofree char *path = store_path(*state);
        g_autofree char *wal = g_strconcat(path, "-wal", NULL);

        make_store(*state);
        assert_int_equal(access(wal, F_OK), -1);
}

static void test_unfinished_new_store_is_begun_again(void **state) {
        g_autofree char *new = g_build_filename(*state, "licenses.db.new", NULL);
        g_autofree char *journal = g_strconcat(new, "-journal", NULL);

        write_path(new, "half", 4);
        write_path(journal, "half", 4);
        make_store(*state);
        assert_int_equal(access(new, F_OK), -1);
        assert_int_equal(access(journal, F_OK), -1);
}

/* What a daemon of another kind of VFS left, where it was killed. */
static void test_index_of_a_killed_daemon_is_removed(void **state) {
        g_autofree char *path = store_path(*state);
        g_autofree char *index = g_strconcat(path, "-shm", NULL);

        make_store(*state);
        write_path(index, "index", 5);
        g_autoptr(Store) store = open_store(*state);
        assert_int_equal(access(index, F_OK), -1);
        assert_has_license(store, "a", "the document");
}

static void test_second_lock_is_refused_until_the_first_goes(void **state) {
        _cleanup_fd_ int first = -1, second = -1;
        g_auto(Error) error = {};

        assert_good(store_lock(*state, &first, &error), &error);
        assert_int_equal(store_lock(*state, &second, &error), ERROR_STORE_LOCKED);
        assert_error(&error, ERROR_STORE_LOCKED, *state);
        assert_int_equal(second, -1);

        error_clear(&error);
        fd_closep(&first);
        assert_good(store_lock(*state, &second, &error), &error);
}

static const char *locking_without_locks(void *userdata) {
        g_auto(Error) error = {};
        int fd = -1;

        SCENE_CHECK(store_lock(userdata, &fd, &error) == ERROR_STORE_WRITE);
        SCENE_CHECK(strstr(error_message(&error), "cannot be locked: No locks available"));
        SCENE_CHECK(fd == -1);
        return NULL;
}

/* Nobody is to look for another daemon that is not there. */
static void test_file_system_without_locks_is_no_other_daemon(void **state) {
        const Refusal refusal = { SYS_flock, 1, LOCK_EX, ENOLCK };

        play_without(&refusal, 1, locking_without_locks, *state);
}

static void test_lock_of_a_missing_folder_says_which(void **state) {
        g_autofree char *folder = g_build_filename(*state, "nowhere", NULL);
        g_auto(Error) error = {};
        int fd = -1;

        assert_int_equal(store_lock(folder, &fd, &error), ERROR_STORE_READ);
        assert_error(&error, ERROR_STORE_READ, folder);
}

static void test_lock_does_not_follow_a_link(void **state) {
        g_autofree char *lock = g_build_filename(*state, "lock", NULL);
        g_auto(Error) error = {};
        int fd = -1;

        assert_int_equal(symlink("elsewhere", lock), 0);
        assert_int_equal(store_lock(*state, &fd, &error), ERROR_STORE_WRITE);
        assert_int_equal(fd, -1);
}

static void test_file_that_is_no_database_is_left_alone(void **state) {
        g_autofree char *path = store_path(*state);
        static const char zeros[8192];
        static const char *const texts[] = { "x", "SQLite format 3",
                "These are my notes, not a license store.\n" };

        for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
                write_path(path, texts[i], strlen(texts[i]));
                assert_left_alone(*state, ERROR_STORE_CORRUPT, "left as it is");
        }
        write_path(path, zeros, sizeof zeros);
        assert_left_alone(*state, ERROR_STORE_CORRUPT, "damaged");
}

static void test_emptied_file_is_not_taken_for_a_new_start(void **state) {
        g_autofree char *path = store_path(*state);

        make_store(*state);
        write_path(path, "", 0);
        assert_left_alone(*state, ERROR_STORE_CORRUPT, "licenses.db is empty");
}

static void test_wal_without_its_store_is_not_taken_for_a_new_start(void **state) {
        g_autofree char *path = store_path(*state);
        g_autofree char *wal = g_strconcat(path, "-wal", NULL);
        g_auto(Error) error = {};
        Store *store;

        write_path(wal, "frames", 6);
        assert_int_equal(store_open(*state, &no_limits, &store, &error), ERROR_STORE_CORRUPT);
        assert_error(&error, ERROR_STORE_CORRUPT, "licenses.db is gone");
        assert_int_equal(access(path, F_OK), -1);
        assert_int_equal(access(wal, F_OK), 0);
}

/* The administrator moved the store to a disk that is not there today. */
/* A store was lost, an empty one made, and killed; then the old one is put back in its place. */
static void test_wal_of_another_store_spoils_none(void **state) {
        g_autofree char *path = store_path(*state), *wal = g_strconcat(path, "-wal", NULL);
        g_autofree char *document = g_strnfill(5000, 'd');
        g_autoptr(GBytes) old = NULL, left = NULL;
        Store *store = open_store(*state);

        for (unsigned i = 0; i < 40; i++) {
                char id[16];

                snprintf(id, sizeof id, "old-%u", i);
                put(store, &alice, id, document);
        }
        store_free(store);
        old = read_path(path);
        assert_int_equal(unlink(path), 0);
        store = open_store(*state);
        put(store, &alice, "new", "the document");
        left = read_path(wal);
        store_free(store);

        write_path(path, g_bytes_get_data(old, NULL), g_bytes_get_size(old));
        write_path(wal, g_bytes_get_data(left, NULL), g_bytes_get_size(left));
        assert_left_alone(*state, ERROR_STORE_CORRUPT, "licenses.db");
        assert_int_equal(unlink(wal), 0);
        store = open_store(*state);
        assert_int_equal(store_count(store), 40);
        store_free(store);
}

static void test_link_to_nothing_is_not_replaced_by_an_empty_store(void **state) {
        g_autofree char *path = store_path(*state);
        g_auto(Error) error = {};
        struct stat st;
        Store *store;

        assert_int_equal(symlink("/nowhere/licenses.db", path), 0);
        assert_int_equal(store_open(*state, &no_limits, &store, &error), ERROR_STORE_READ);
        assert_error(&error, ERROR_STORE_READ, "link");
        assert_int_equal(lstat(path, &st), 0);
        assert_true(S_ISLNK(st.st_mode));
}

static void test_store_in_a_file_cannot_be_looked_at(void **state) {
        g_auto(Error) error = {};
        Store *store;

        assert_int_equal(store_open("/dev/null", &no_limits, &store, &error), ERROR_STORE_READ);
        assert_error(&error, ERROR_STORE_READ, "Not a directory");
}

static void test_folder_in_the_place_of_the_store_is_refused(void **state) {
        g_autofree char *path = store_path(*state);
        g_auto(Error) error = {};
        Store *store;

        assert_int_equal(mkdir(path, 0700), 0);
        assert_true(store_open(*state, &no_limits, &store, &error) > 0);
        assert_int_equal(rmdir(path), 0);
}

static void test_other_database_is_left_alone(void **state) {
        edit_store(*state, "CREATE TABLE notes (text); INSERT INTO notes VALUES ('mine')");
        assert_left_alone(*state, ERROR_STORE_CORRUPT, "not a license store");
}

static void test_newer_store_is_left_alone(void **state) {
        make_store(*state);
        edit_store(*state, "PRAGMA user_version = 6");
        assert_left_alone(*state, ERROR_STORE_READ, "newer licensevaultd");

        edit_store(*state, "PRAGMA user_version = 0");
        assert_left_alone(*state, ERROR_STORE_CORRUPT, "format 0");

        /* With its version back it is what it was. */
        edit_store(*state, "PRAGMA user_version = 5");
        g_autoptr(Store) store = open_store(*state);
        assert_has_license(store, "a", "the document");
}

static void test_cut_off_store_is_left_alone(void **state) {
        g_autofree char *path = store_path(*state);
        struct stat st;

        make_store(*state);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(truncate(path, 8192 + 100), 0);
        assert_left_alone(*state, ERROR_STORE_CORRUPT, "damaged");
}

/* A limit refuses a license with its own name, and lets go what makes room. */
static void assert_limited(const char *folder, const StoreLimits *limits, const char *setting) {
        g_autoptr(Store) store = open_store(folder);
        g_auto(Deed) refused = { .work = deed_put, .owner = alice, .id = "one-more",
                .document = "0123456789" };
        g_auto(Deed) removed = { .work = deed_delete, .owner = alice, .id = "a" };

        put(store, &alice, "a", "0123456789");
        store_set_limits(store, limits);
        assert_int_equal(deed_do(&refused, store), code_of_limit(setting));
        assert_error(&refused.task.error, code_of_limit(setting), setting);
        assert_int_equal(store_count(store), 1);

        assert_good(deed_do(&removed, store), &removed.task.error);
        assert_int_equal(store_count(store), 0);
        store_set_limits(store, &no_limits);
        assert_good(deed_do(&refused, store), &refused.task.error);
}

static void test_each_limit_is_named_with_its_setting(void **state) {
        static const struct {
                size_t field;
                uint64_t value;
                const char *setting;
        } cases[] = {
                { offsetof(StoreLimits, document_bytes), 9, "DocumentBytes=" },
                { offsetof(StoreLimits, licenses_per_user), 1, "LicensesPerUser=" },
                { offsetof(StoreLimits, remembered_per_user), 1, "RememberedPerUser=" },
                { offsetof(StoreLimits, bytes_per_user), 150, "BytesPerUser=" },
                { offsetof(StoreLimits, store_bytes), 8192, "StoreBytes=" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                char *folder = temp_folder_new();
                StoreLimits limits = no_limits;

                memcpy((uint8_t *)&limits + cases[i].field, &cases[i].value, sizeof cases[i].value);
                assert_limited(folder, &limits, cases[i].setting);
                temp_folder_remove(folder);
        }
}

static void test_disk_with_too_little_free_takes_no_license(void **state) {
        StoreLimits limits = no_limits;

        limits.minimum_free_percent = 100;
        assert_limited(*state, &limits, "MinimumFreePercent=");
}

static void test_license_at_the_limit_may_be_stored_again(void **state) {
        g_autoptr(Store) store = open_store(*state);
        g_auto(Deed) larger = { .work = deed_put, .owner = alice, .id = "a", .document = "0123456789x" };
        StoreLimits limits = no_limits;

        limits.licenses_per_user = limits.remembered_per_user = 1;
        limits.bytes_per_user = 64 + strlen("a") + strlen("0123456789");
        store_set_limits(store, &limits);
        put(store, &alice, "a", "0123456789");
        put(store, &alice, "a", "9876543210");
        assert_int_equal(deed_do(&larger, store), ERROR_LIMIT_EXCEEDED);
        assert_error(&larger.task.error, ERROR_LIMIT_EXCEEDED, "BytesPerUser=");
        assert_has_license(store, "a", "9876543210");
}

static void test_limits_are_of_each_user(void **state) {
        const StoreOwner bob = { 1001, "bob" };
        g_autoptr(Store) store = open_store(*state);
        StoreLimits limits = no_limits;

        limits.licenses_per_user = 1;
        store_set_limits(store, &limits);
        assert_int_equal(store_limits(store).licenses_per_user, 1);
        put(store, &alice, "a", "1");
        put(store, &bob, "a", "2");
        assert_int_equal(store_count(store), 2);
}

int main(void) {
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, store_folder_setup, store_folder_teardown)
        const struct CMUnitTest tests[] = {
                IN_FOLDER(test_store_is_made_in_an_empty_folder_and_opened_again),
                IN_FOLDER(test_closing_leaves_one_file_alone),
                IN_FOLDER(test_unfinished_new_store_is_begun_again),
                IN_FOLDER(test_index_of_a_killed_daemon_is_removed),
                IN_FOLDER(test_second_lock_is_refused_until_the_first_goes),
                IN_FOLDER(test_file_system_without_locks_is_no_other_daemon),
                IN_FOLDER(test_lock_of_a_missing_folder_says_which),
                IN_FOLDER(test_lock_does_not_follow_a_link),
                IN_FOLDER(test_file_that_is_no_database_is_left_alone),
                IN_FOLDER(test_emptied_file_is_not_taken_for_a_new_start),
                IN_FOLDER(test_wal_without_its_store_is_not_taken_for_a_new_start),
                IN_FOLDER(test_wal_of_another_store_spoils_none),
                IN_FOLDER(test_link_to_nothing_is_not_replaced_by_an_empty_store),
                cmocka_unit_test(test_store_in_a_file_cannot_be_looked_at),
                IN_FOLDER(test_folder_in_the_place_of_the_store_is_refused),
                IN_FOLDER(test_other_database_is_left_alone),
                IN_FOLDER(test_newer_store_is_left_alone),
                IN_FOLDER(test_cut_off_store_is_left_alone),
                cmocka_unit_test(test_each_limit_is_named_with_its_setting),
                IN_FOLDER(test_disk_with_too_little_free_takes_no_license),
                IN_FOLDER(test_license_at_the_limit_may_be_stored_again),
                IN_FOLDER(test_limits_are_of_each_user),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
