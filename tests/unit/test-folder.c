/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "common.h"
#include "folder.h"

static int setup(void **state) {
        *state = temp_folder_new();
        return 0;
}

static int teardown(void **state) {
        umask(022);
        temp_folder_remove(*state);
        return 0;
}

static void test_plain_paths_are_full_and_without_detours(void **state) {
        static const char *const plain[] = { "/a", "/a/b", "/...", "/..a", "/.a", "/a.", "/my disk", "/ü" };
        static const char *const others[] = { "", "a", "a/b", "./a", "../a", "/", "//", "//a", "/a/",
                "/a//b", "/a/./b", "/./a", "/a/.", "/a/../b", "/..", "/a/..", "~", "file:///a" };

        for (size_t i = 0; i < G_N_ELEMENTS(plain); i++)
                assert_true(folder_path_is_plain(plain[i]));
        for (size_t i = 0; i < G_N_ELEMENTS(others); i++)
                assert_false(folder_path_is_plain(others[i]));
}

static void test_plain_paths_have_at_most_1024_bytes(void **state) {
        char path[1026];

        for (size_t i = 0; i < sizeof path; i++)
                path[i] = i % 100 == 0 ? '/' : 'a';
        path[1025] = 0;
        assert_false(folder_path_is_plain(path));
        path[1024] = 0;
        assert_true(folder_path_is_plain(path));
}

static void test_plain_paths_have_parts_that_a_file_system_knows(void **state) {
        char path[1 + NAME_MAX + 2];

        memset(path, 'a', sizeof path);
        path[0] = '/';
        path[1 + NAME_MAX + 1] = 0;
        assert_false(folder_path_is_plain(path));
        path[1 + NAME_MAX] = 0;
        assert_true(folder_path_is_plain(path));
}

static void test_below_is_in_the_users_own_folder_of_the_root(void **state) {
        assert_string_equal(folder_below("/root/1000", "/root", 1000), "");
        assert_string_equal(folder_below("/root/1000/a", "/root", 1000), "a");
        assert_string_equal(folder_below("/root/1000/a/b", "/root", 1000), "a/b");
        assert_string_equal(folder_below("/r/s/0/a", "/r/s", 0), "a");
        assert_string_equal(folder_below("/r/4294967294", "/r", 4294967294U), "");

        assert_null(folder_below("/root/10001", "/root", 1000));
        assert_null(folder_below("/root/10001/a", "/root", 1000));
        assert_null(folder_below("/root/100", "/root", 1000));
        assert_null(folder_below("/root/1000a", "/root", 1000));
        assert_null(folder_below("/root/01000", "/root", 1000));
        assert_null(folder_below("/root/1001", "/root", 1000));
        assert_null(folder_below("/root/-1", "/root", 4294967295U));
        assert_null(folder_below("/root", "/root", 1000));
        assert_null(folder_below("/root/", "/root", 1000));
        assert_null(folder_below("/root2/1000", "/root", 1000));
        assert_null(folder_below("/rootx1000", "/root", 1000));
        assert_null(folder_below("/roo/1000", "/root", 1000));
        assert_null(folder_below("/root/x/1000", "/root", 1000));
        assert_null(folder_below("", "/root", 1000));
}

static char *make(const char *root, const char *below) {
        char *path = g_build_filename(root, below, NULL);

        assert_int_equal(g_mkdir_with_parents(path, 0700), 0);
        return path;
}

static void assert_opens(const char *root, const char *below, const char *path) {
        _cleanup_fd_ int fd = folder_open(root, 1000, below, false);
        struct stat opened, named;

        assert_true(fd >= 0);
        assert_int_equal(fstat(fd, &opened), 0);
        assert_int_equal(stat(path, &named), 0);
        assert_int_equal(opened.st_ino, named.st_ino);
        assert_int_equal(fsync(fd), 0);
}

static void test_folder_is_opened_below_the_root(void **state) {
        g_autofree char *own = make(*state, "1000");
        g_autofree char *deep = make(*state, "1000/a/b");

        assert_opens(*state, "", own);
        assert_opens(*state, "a/b", deep);
        assert_int_equal(folder_open(*state, 1000, "a/c", true), -ENOENT);
        assert_int_equal(folder_open(*state, 1001, "", false), -ENOENT);
}

static void test_only_the_users_folder_is_made(void **state) {
        g_autofree char *own = g_build_filename(*state, "1000", NULL);
        g_autofree char *below = g_build_filename(own, "a", NULL);
        struct stat st;

        umask(0);
        assert_int_equal(folder_open(*state, 1000, "a", true), -ENOENT);
        assert_int_equal(stat(own, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0700);
        assert_int_equal(access(below, F_OK), -1);

        assert_int_equal(rmdir(own), 0);
        assert_int_equal(folder_open(*state, 1000, "", false), -ENOENT);
        assert_int_equal(access(own, F_OK), -1);
        close(folder_open(*state, 1000, "", true));
        assert_opens(*state, "", own);

        /* It is there already. */
        close(folder_open(*state, 1000, "", true));
        assert_int_equal(folder_open(below, 1000, "", true), -ENOENT);
}

static void assert_in_the_way(int fd) {
        if (fd >= 0)
                close(fd);
        assert_true(fd == -ELOOP || fd == -ENOTDIR);
}

static void test_link_in_the_way_is_not_followed(void **state) {
        g_autofree char *target = make(*state, "elsewhere/sub");
        g_autofree char *own = make(*state, "1000/real");
        g_autofree char *link_below = g_build_filename(*state, "1000/link", NULL);
        g_autofree char *link_deep = g_build_filename(*state, "1000/real/link", NULL);
        g_autofree char *link_user = g_build_filename(*state, "1001", NULL);

        assert_int_equal(symlink(target, link_below), 0);
        assert_int_equal(symlink("../../elsewhere", link_deep), 0);
        assert_int_equal(symlink("1000", link_user), 0);

        assert_in_the_way(folder_open(*state, 1000, "link", false));
        assert_in_the_way(folder_open(*state, 1000, "real/link", false));
        assert_in_the_way(folder_open(*state, 1000, "real/link/sub", false));
        assert_in_the_way(folder_open(*state, 1001, "", true));
        assert_in_the_way(folder_open(*state, 1001, "real", false));
        assert_opens(*state, "real", own);
}

static void test_dangling_link_is_not_made_good(void **state) {
        g_autofree char *link_user = g_build_filename(*state, "1000", NULL);
        g_autofree char *target = g_build_filename(*state, "made", NULL);

        assert_int_equal(symlink("made", link_user), 0);
        assert_in_the_way(folder_open(*state, 1000, "", true));
        assert_int_equal(access(target, F_OK), -1);
}

static void test_file_in_the_way_is_no_folder(void **state) {
        g_autofree char *own = make(*state, "1000");
        g_autofree char *file = g_build_filename(own, "file", NULL);

        write_path(file, "x", 1);
        assert_int_equal(folder_open(*state, 1000, "file", false), -ENOTDIR);
        assert_int_equal(folder_open(*state, 1000, "file/a", false), -ENOTDIR);
}

static void test_roots_own_path_may_hold_links(void **state) {
        g_autofree char *own = make(*state, "real/1000");
        g_autofree char *root = g_build_filename(*state, "root", NULL);

        assert_int_equal(symlink("real", root), 0);
        assert_opens(root, "", own);
}

static void test_tidy_removes_what_killed_backups_left(void **state) {
        static const char *const names[] = { "1000/.licenses.tar.1.partial", "1001/.licenses.tar.2.partial",
                "1000/licenses.tar", "home/.licenses.tar.3.partial", "1000/a/.licenses.tar.4.partial" };
        static const char *const folders[] = { "1000/a", "1001", "home" };
        g_autofree char *link = g_build_filename(*state, "1002", NULL);

        for (size_t i = 0; i < G_N_ELEMENTS(folders); i++)
                g_free(make(*state, folders[i]));
        for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
                g_autofree char *path = g_build_filename(*state, names[i], NULL);
                write_path(path, "x", 1);
        }
        assert_int_equal(symlink("home", link), 0);
        folder_tidy_root(*state);
        for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
                g_autofree char *path = g_build_filename(*state, names[i], NULL);
                assert_int_equal(access(path, F_OK), i < 2 ? -1 : 0);
        }
        folder_tidy_root("/nowhere");
}

/* A tmpfs remembers of nothing that it is not there: it would have to be asked. */
static void assert_not_there(int r, const char *folder) {
        assert_int_equal(r, is_tmpfs(folder) ? -EAGAIN : -ENOENT);
}

static int look(const char *root, uid_t uid) {
        _cleanup_fd_ int fd = folder_open(root, uid, "", false);

        /* The kernel remembers what somebody has just asked for. */
        if (fd >= 0)
                (void)faccessat(fd, FOLDER_BACKUP_NAME, F_OK, AT_SYMLINK_NOFOLLOW);
        return folder_look_at_once(root, uid, FOLDER_BACKUP_NAME);
}

static void test_series_is_found_by_the_names_of_its_backups(void **state) {
        static const char *const others[] = {
                "licenses.tar", "licenses-of-former-store-0123abcd.tar", ".licenses-20261124T020000Z.tar.0.partial",
                "licenses-20261124T020000Z.tar.age", "licenses-2026.tar",
        };
        static const char *const names[] = {
                "licenses-20261124T020000Z.tar", "licenses-20261124T020000Z-incomplete.tar",
        };

        assert_false(folder_has_series("/nowhere/at/all"));
        for (unsigned i = 0; i < G_N_ELEMENTS(others); i++) {
                g_autofree char *file = g_build_filename(*state, others[i], NULL);
                write_path(file, "x", 1);
        }
        assert_false(folder_has_series(*state));
        for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
                g_autofree char *file = g_build_filename(*state, names[i], NULL);
                write_path(file, "x", 1);
                assert_true(folder_has_series(*state));
                assert_int_equal(unlink(file), 0);
        }
}

static void test_look_at_once_says_what_is_there(void **state) {
        g_autofree char *own = make(*state, "1000"), *file = g_build_filename(own, FOLDER_BACKUP_NAME, NULL);
        g_autofree char *link_user = g_build_filename(*state, "1001", NULL);
        g_autofree char *link_root = g_build_filename(*state, "root", NULL);

        assert_not_there(look(*state, 1000), *state);
        assert_not_there(look(*state, 1002), *state);
        write_path(file, "x", 1);
        assert_int_equal(look(*state, 1000), 0);

        assert_true(look("/nowhere/at/all", 1000) < 0);

        /* Of links only that of the administrator is followed. */
        assert_int_equal(symlink("1000", link_user), 0);
        assert_in_the_way(look(*state, 1001));
        assert_int_equal(symlink(".", link_root), 0);
        assert_int_equal(look(link_root, 1000), 0);

        assert_int_equal(unlink(file), 0);
        assert_not_there(look(*state, 1000), *state);
        assert_int_equal(symlink("/nowhere", file), 0);
        assert_int_equal(look(*state, 1000), 0);
}

static void test_look_at_once_asks_no_file_system(void **state) {
        char *folder = is_tmpfs("/dev/shm") ? g_mkdtemp(g_strdup("/dev/shm/licensevault-XXXXXX")) : NULL;

        if (!folder) {
                print_message("skipped: /dev/shm is no tmpfs\n");
                skip();
        }
        g_free(make(folder, "1000"));
        assert_int_equal(look(folder, 1000), -EAGAIN);
        temp_folder_remove(folder);
}

int main(void) {
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_plain_paths_are_full_and_without_detours),
                cmocka_unit_test(test_plain_paths_have_at_most_1024_bytes),
                cmocka_unit_test(test_plain_paths_have_parts_that_a_file_system_knows),
                cmocka_unit_test(test_below_is_in_the_users_own_folder_of_the_root),
                IN_FOLDER(test_folder_is_opened_below_the_root),
                IN_FOLDER(test_only_the_users_folder_is_made),
                IN_FOLDER(test_link_in_the_way_is_not_followed),
                IN_FOLDER(test_dangling_link_is_not_made_good),
                IN_FOLDER(test_file_in_the_way_is_no_folder),
                IN_FOLDER(test_roots_own_path_may_hold_links),
                IN_FOLDER(test_series_is_found_by_the_names_of_its_backups),
                IN_FOLDER(test_look_at_once_says_what_is_there),
                cmocka_unit_test(test_look_at_once_asks_no_file_system),
                IN_FOLDER(test_tidy_removes_what_killed_backups_left),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
