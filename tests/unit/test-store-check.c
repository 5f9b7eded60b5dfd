/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common.h"
#include "store-folder.h"

/* A store that is looked at, beside whoever has it open: what is wrong is found, and nothing is changed. */

static const StoreOwner alice = { 1000, "alice" };

static void assert_count(const char *folder, uint64_t n) {
        g_auto(Error) error = {};
        uint64_t licenses = 77;

        assert_good(store_check(folder, &licenses, &error), &error);
        assert_int_equal(licenses, n);
}

static int copy_file(const char *from, const char *to, const char *suffix) {
        g_autofree char *source = g_strconcat(from, suffix, NULL), *target = g_strconcat(to, suffix, NULL);

        if (access(source, F_OK) < 0)
                return 0;
        g_autoptr(GBytes) bytes = read_path(source);
        write_path(target, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
        return 1;
}

/* What a kill would leave of a store that is open, in a folder of its own. Returns how many files that are. */
static int copy_store(const char *folder, const char *to) {
        g_autofree char *from = store_path(folder), *path = store_path(to);

        return copy_file(from, path, "") + copy_file(from, path, "-wal");
}

static void test_check_counts_licenses_beside_a_running_store(void **state) {
        g_autoptr(Store) store = open_store(*state);
        g_auto(Error) error = {};
        uint64_t licenses;

        assert_good(store_check(*state, &licenses, &error), &error);
        assert_int_equal(licenses, 0);
        put(store, &alice, "a", "1");
        put(store, &alice, "b", "2");
        assert_good(store_check(*state, &licenses, &error), &error);
        assert_int_equal(licenses, 2);
}

static void test_check_of_no_store_makes_none(void **state) {
        g_autofree char *path = store_path(*state);
        g_auto(Error) error = {};
        uint64_t licenses = 77;

        assert_good(store_check(*state, &licenses, &error), &error);
        assert_int_equal(licenses, 0);
        assert_int_equal(access(path, F_OK), -1);
}

/* Damage in a page that opening does not look at. */
static void test_check_finds_a_broken_page(void **state) {
        g_autofree char *path = store_path(*state);
        _cleanup_fd_ int fd = -1;
        g_auto(Error) error = {};
        uint64_t licenses;
        struct stat st;
        char noise[512];

        {
                g_autoptr(Store) store = open_store(*state);
                g_autofree char *document = g_strnfill(100000, 'd');

                put(store, &alice, "a", document);
        }

        /* The first pages are the roots of the tables; that of the owners stays whole, so that it opens. */
        assert_int_equal(stat(path, &st), 0);
        fd = open(path, O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0);
        memset(noise, 0xee, sizeof noise);
        for (off_t at = 8192 * 2; at < 8192 * 6; at += 8192)
                assert_int_equal(pwrite(fd, noise, sizeof noise, at), sizeof noise);

        assert_int_equal(store_check(*state, &licenses, &error), ERROR_STORE_CORRUPT);
        assert_error(&error, ERROR_STORE_CORRUPT, "damaged");
}

/* Who has it is told to root alone, who has to find them: the file is whole, and one license of one user is not. */
static void test_check_names_a_damaged_document_and_its_owner(void **state) {
        const StoreOwner bob = { 1001, "bob" };
        g_auto(Error) error = {};
        uint64_t licenses;

        {
                g_autoptr(Store) store = open_store(*state);

                put(store, &alice, "a", "sound");
                put(store, &bob, "b", "rotten");
        }
        edit_store(*state, "UPDATE documents SET document = x'00' WHERE key = (SELECT key FROM licenses WHERE id = 'b')");
        assert_int_equal(store_check(*state, &licenses, &error), ERROR_STORE_CORRUPT);
        assert_error(&error, ERROR_STORE_CORRUPT, "Of user 'bob' (1001): The document of license 'b' is damaged");
        assert_int_equal(licenses, 0);
}

/* One flipped bit in what an owner is charged with refuses what there is room for. */
static void test_check_names_an_owner_who_is_charged_wrongly(void **state) {
        static const char *const rots[] = {
                "licenses = licenses | 1024", "remembered = remembered | 1024", "bytes = bytes | (1 << 40)", "licenses = 0",
                "bytes = bytes | (1 << 63)",
        };
        const StoreOwner bob = { 1001, "bob" }, carol = { 1002, "carol" };
        uint64_t licenses;

        {
                g_auto(Deed) gone = { .work = deed_delete, .owner = bob, .id = "gone" };
                g_auto(Deed) all_gone = { .work = deed_delete, .owner = carol, .id = "all" };
                g_autoptr(Store) store = open_store(*state);

                put(store, &alice, "a", "1");
                put(store, &bob, "b", "22");
                put(store, &bob, "gone", "333");
                put(store, &carol, "all", "4444");
                assert_int_equal(deed_do(&gone, store), 0);
                assert_int_equal(deed_do(&all_gone, store), 0);
        }
        assert_count(*state, 2);
        edit_store(*state, "CREATE TABLE sound AS SELECT * FROM owners");
        for (size_t i = 0; i < G_N_ELEMENTS(rots); i++) {
                g_autofree char *sql = g_strdup_printf("DELETE FROM owners; INSERT INTO owners SELECT * FROM sound; "
                                                       "UPDATE owners SET %s WHERE name = 'bob'", rots[i]);
                g_auto(Error) error = {};

                edit_store(*state, sql);
                assert_int_equal(store_check(*state, &licenses, &error), ERROR_STORE_CORRUPT);
                assert_error(&error, ERROR_STORE_CORRUPT, "Of user 'bob' (1001): How many licenses, ids and bytes");
        }
}

/* A store as a kill leaves it: all is in the WAL, and there it stays. */
static void test_check_changes_nothing(void **state) {
        g_autofree char *path = store_path(*state), *copy = g_build_filename(*state, "copy", NULL);
        g_autofree char *wal = g_strconcat(path, "-wal", NULL), *left = store_path(copy);
        g_autofree char *left_wal = g_strconcat(left, "-wal", NULL);
        g_autoptr(Store) store = open_store(*state);

        put(store, &alice, "a", "1");
        assert_int_equal(mkdir(copy, 0700), 0);
        assert_int_equal(copy_store(*state, copy), 2);
        assert_count(copy, 1);

        g_autoptr(GBytes) before = read_path(path), after = read_path(left);
        g_autoptr(GBytes) wal_before = read_path(wal), wal_after = read_path(left_wal);
        assert_true(g_bytes_equal(before, after));
        assert_true(g_bytes_equal(wal_before, wal_after));
        assert_true(g_bytes_get_size(wal_after) > 0);
        g_autoptr(GDir) names = g_dir_open(copy, 0, NULL);
        for (unsigned i = 0; i < 2; i++)
                assert_non_null(g_dir_read_name(names));
        assert_null(g_dir_read_name(names));

        /* And closed, it is one file, which may lie where nobody can write. */
        g_clear_pointer(&store, store_free);
        assert_int_equal(chmod(*state, 0500), 0);
        assert_count(*state, 1);
        assert_int_equal(chmod(*state, 0700), 0);
        assert_int_equal(access(wal, F_OK), -1);
}

static void test_check_follows_a_link_to_the_store(void **state) {
        g_autofree char *elsewhere = g_build_filename(*state, "a disk #1", NULL), *path = store_path(elsewhere);
        g_autofree char *link = store_path(*state);

        assert_int_equal(mkdir(elsewhere, 0700), 0);
        g_autoptr(Store) store = open_store(elsewhere);
        put(store, &alice, "a", "1");
        assert_int_equal(symlink(path, link), 0);
        assert_count(*state, 1);
        g_clear_pointer(&store, store_free);
        assert_count(*state, 1);
}

static void test_check_says_why_the_files_cannot_be_read(void **state) {
        g_autofree char *path = store_path(*state), *wal = g_strconcat(path, "-wal", NULL);
        g_auto(Error) error = {};
        uint64_t licenses = 77;

        store_free(open_store(*state));
        assert_int_equal(mkdir(wal, 0700), 0);
        assert_int_equal(store_check(*state, &licenses, &error), ERROR_STORE_READ);
        assert_error(&error, ERROR_STORE_READ, "Is a directory");
        assert_int_equal(licenses, 0);
}

/* What its journal has taken back is not read as damage, nor is the journal passed over. */
static void test_check_leaves_an_unfinished_write_to_the_service(void **state) {
        g_autofree char *path = store_path(*state), *journal = g_strconcat(path, "-journal", NULL);
        g_auto(Error) error = {};
        uint64_t licenses = 77;

        store_free(open_store(*state));
        write_path(journal, "journal", 7);
        assert_int_equal(store_check(*state, &licenses, &error), ERROR_STORE_READ);
        assert_error(&error, ERROR_STORE_READ, "Start licensevaultd");
        assert_int_equal(licenses, 0);
        assert_int_equal(access(journal, F_OK), 0);
}

#define WRITTEN 10U

/* Stores without end, in a process of its own that ends with this one; returns when it has begun. */
static pid_t spawn_writer(const char *folder) {
        int pipe_fds[2];
        char byte = 0;
        pid_t pid;

        assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                g_autoptr(Store) store = open_store(folder);
                g_autofree char *document = g_strnfill(1000 * 1000, 'd');

                (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                for (unsigned i = 0;; i++) {
                        char id[] = { (char)('a' + i % WRITTEN), '\0' };

                        put(store, &alice, id, document);
                        if (i == WRITTEN && write(pipe_fds[1], &byte, 1) != 1)
                                abort();
                }
        }
        close(pipe_fds[1]);
        assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
        close(pipe_fds[0]);
        return pid;
}

/* What moved below who read it is called neither damaged nor sound. */
static void test_check_beside_a_writer_finds_no_damage(void **state) {
        int64_t end = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;
        unsigned n_moved = 0;
        pid_t pid;

        pid = spawn_writer(*state);
        for (unsigned i = 0; i < 10 || n_moved == 0; i++) {
                g_auto(Error) error = {};
                uint64_t licenses = 77;

                assert_true(g_get_monotonic_time() < end);
                if (store_check(*state, &licenses, &error) == 0) {
                        assert_int_equal(licenses, WRITTEN);
                        continue;
                }
                n_moved++;
                assert_error(&error, ERROR_STORE_LOCKED, "Stop licensevaultd");
                assert_int_equal(licenses, 0);
        }
        assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);

        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_count(*state, WRITTEN);
}

int main(void) {
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, store_folder_setup, store_folder_teardown)
        const struct CMUnitTest tests[] = {
                IN_FOLDER(test_check_counts_licenses_beside_a_running_store),
                IN_FOLDER(test_check_of_no_store_makes_none),
                IN_FOLDER(test_check_finds_a_broken_page),
                IN_FOLDER(test_check_names_a_damaged_document_and_its_owner),
                IN_FOLDER(test_check_names_an_owner_who_is_charged_wrongly),
                IN_FOLDER(test_check_changes_nothing),
                IN_FOLDER(test_check_follows_a_link_to_the_store),
                IN_FOLDER(test_check_says_why_the_files_cannot_be_read),
                IN_FOLDER(test_check_leaves_an_unfinished_write_to_the_service),
                IN_FOLDER(test_check_beside_a_writer_finds_no_damage),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
