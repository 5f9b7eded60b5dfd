/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
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
#include "draft.h"

#define NAME "licenses.tar"

static int setup(void **state) {
        *state = temp_folder_new();
        return 0;
}

static int teardown(void **state) {
        umask(022);
        temp_folder_remove(*state);
        return 0;
}

static int open_folder(const char *path) {
        return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static unsigned count_entries(const char *path) {
        DIR *entries = opendir(path);
        unsigned n = 0;

        while (readdir(entries))
                n++;
        closedir(entries);
        return n - 2; /* without "." and ".." */
}

static bool has_text(const char *folder, const char *text) {
        g_autofree char *path = g_build_filename(folder, NAME, NULL);
        g_autofree char *found = NULL;

        return g_file_get_contents(path, &found, NULL, NULL) && g_str_equal(found, text);
}

/* Opens a draft, writes a text and publishes it. What was not published is discarded. */
static int publish(int folder, const char *text, bool replace) {
        g_auto(Draft) draft = DRAFT_NONE;
        int r;

        r = draft_open(folder, NAME, &draft);
        if (r >= 0)
                r = io_write_all(draft.fd, text, strlen(text));
        return r < 0 ? r : draft_publish(&draft, NAME, replace);
}

static const char *publishing(void *userdata) {
        _cleanup_fd_ int folder = open_folder(userdata), old = -1;
        g_autofree char *path = g_build_filename(userdata, NAME, NULL);
        struct stat st;
        char byte;

        SCENE_CHECK(publish(folder, "one", false) == 0);
        SCENE_CHECK(has_text(userdata, "one"));
        SCENE_CHECK(stat(path, &st) == 0 && (st.st_mode & 07777) == 0600);
        SCENE_CHECK(st.st_nlink == 1);

        SCENE_CHECK(publish(folder, "two", false) == -EEXIST);
        SCENE_CHECK(has_text(userdata, "one"));

        old = open(path, O_RDONLY | O_CLOEXEC);
        SCENE_CHECK(publish(folder, "three", true) == 0);
        SCENE_CHECK(has_text(userdata, "three"));
        SCENE_CHECK(read(old, &byte, 1) == 1 && byte == 'o');

        SCENE_CHECK(unlink(path) == 0);
        SCENE_CHECK(publish(folder, "four", true) == 0);
        SCENE_CHECK(has_text(userdata, "four"));
        SCENE_CHECK(count_entries(userdata) == 1);
        return NULL;
}

static const char *discarding(void *userdata) {
        _cleanup_fd_ int folder = open_folder(userdata);
        Draft draft;

        SCENE_CHECK(draft_open(folder, NAME, &draft) == 0);
        SCENE_CHECK(io_write_all(draft.fd, "text", 4) == 0);
        SCENE_CHECK(count_entries(userdata) == (draft.partial[0] ? 1U : 0U));
        draft_discard(&draft);
        SCENE_CHECK(draft.fd == -1);
        SCENE_CHECK(count_entries(userdata) == 0);
        draft_discard(&draft);
        return NULL;
}

/* What stands in the way cannot be replaced: the draft goes, it stays. */
static const char *failing(void *userdata) {
        _cleanup_fd_ int folder = open_folder(userdata);

        SCENE_CHECK(mkdirat(folder, NAME, 0700) == 0);
        SCENE_CHECK(publish(folder, "text", true) < 0);
        SCENE_CHECK(publish(folder, "text", false) == -EEXIST);
        SCENE_CHECK(count_entries(userdata) == 1);
        SCENE_CHECK(unlinkat(folder, NAME, AT_REMOVEDIR) == 0);

        /* A link is what is named so, not what it leads to. */
        SCENE_CHECK(symlinkat("elsewhere", folder, NAME) == 0);
        SCENE_CHECK(publish(folder, "text", false) == -EEXIST);
        SCENE_CHECK(publish(folder, "text", true) == 0);
        SCENE_CHECK(has_text(userdata, "text"));
        SCENE_CHECK(count_entries(userdata) == 1);
        return NULL;
}

static const char *odd_umasks(void *userdata) {
        static const mode_t masks[] = { 0, 0777, 0400, 0277 };

        for (size_t i = 0; i < G_N_ELEMENTS(masks); i++) {
                _cleanup_fd_ int folder = open_folder(userdata);
                struct stat st;

                umask(masks[i]);
                SCENE_CHECK(publish(folder, "text", true) == 0);
                SCENE_CHECK(fstatat(folder, NAME, &st, 0) == 0 && (st.st_mode & 07777) == 0600);
        }
        return NULL;
}

/* From a file system that has all, down to FAT, which has neither unnamed files nor links. */
static const Refusal all_refusals[] = {
        { SYS_openat, 2, O_TMPFILE, EOPNOTSUPP },
        { SYS_renameat2, 4, RENAME_NOREPLACE, EINVAL },
        { SYS_linkat, 0, 0, EPERM },
};

static void play_on_all_file_systems(Scene scene) {
        for (size_t n = 0; n <= G_N_ELEMENTS(all_refusals); n++) {
                char *folder = temp_folder_new();

                play_without(all_refusals, n, scene, folder);
                umask(022);
                temp_folder_remove(folder);
        }
}

static void test_draft_is_published_with_and_without_replacing(void **state) {
        play_on_all_file_systems(publishing);
}

static void test_discarded_draft_leaves_nothing(void **state) {
        play_on_all_file_systems(discarding);
}

static void test_draft_that_cannot_be_published_leaves_nothing(void **state) {
        play_on_all_file_systems(failing);
}

static void test_draft_is_for_its_owner_alone_under_any_umask(void **state) {
        play_on_all_file_systems(odd_umasks);
}

static const char *unnamed(void *userdata) {
        _cleanup_fd_ int folder = open_folder(userdata);
        g_auto(Draft) draft = DRAFT_NONE;

        SCENE_CHECK(draft_open(folder, NAME, &draft) == 0);
        SCENE_CHECK(g_str_has_prefix(draft.partial, "." NAME "."));
        SCENE_CHECK(g_str_has_suffix(draft.partial, ".partial"));
        SCENE_CHECK(faccessat(folder, draft.partial, F_OK, 0) == 0);
        SCENE_CHECK((fcntl(draft.fd, F_GETFL) & O_ACCMODE) == O_RDWR);
        return NULL;
}

static void test_file_system_without_unnamed_files_gets_a_partial_one(void **state) {
        const int answers[] = { EOPNOTSUPP, EISDIR, EINVAL, ENOENT };

        for (size_t i = 0; i < G_N_ELEMENTS(answers); i++) {
                const Refusal refusal = { SYS_openat, 2, O_TMPFILE, answers[i] };

                play_without(&refusal, 1, unnamed, *state);
        }
        assert_int_equal(count_entries(*state), 0);
}

static const char *full(void *userdata) {
        _cleanup_fd_ int folder = open_folder(userdata);
        Draft draft = DRAFT_NONE;

        SCENE_CHECK(draft_open(folder, NAME, &draft) == -ENOSPC);
        SCENE_CHECK(draft.fd == -1);
        SCENE_CHECK(count_entries(userdata) == 0);
        return NULL;
}

static void test_full_file_system_is_no_reason_for_a_partial_file(void **state) {
        const Refusal refusal = { SYS_openat, 2, O_TMPFILE, ENOSPC };

        play_without(&refusal, 1, full, *state);
}

static const char *long_name(void *userdata) {
        _cleanup_fd_ int folder = open_folder(userdata);
        g_autofree char *name = g_strnfill(NAME_MAX, 'n');
        Draft draft = DRAFT_NONE;

        SCENE_CHECK(draft_open(folder, name, &draft) == -ENAMETOOLONG);
        return NULL;
}

static void test_name_that_leaves_no_room_for_a_partial_one_is_an_error(void **state) {
        play_without(all_refusals, 1, long_name, *state);
}

static void write_at(int folder, const char *name) {
        _cleanup_fd_ int fd = openat(folder, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

        assert_int_equal(io_write_all(fd, "x", 1), 0);
}

static void test_tidy_removes_partial_files_of_that_name_only(void **state) {
        static const char *const partial[] = { "." NAME ".01234567.partial", "." NAME ".x.partial" };
        static const char *const others[] = { NAME, ".other.tar.01234567.partial",
                "." NAME "2.01234567.partial", "." NAME ".01234567", NAME ".01234567.partial",
                "x." NAME ".01234567.partial", ".partial" };
        _cleanup_fd_ int folder = open_folder(*state);

        for (size_t i = 0; i < G_N_ELEMENTS(partial); i++)
                close(openat(folder, partial[i], O_CREAT | O_WRONLY, 0600));
        for (size_t i = 0; i < G_N_ELEMENTS(others); i++)
                write_at(folder, others[i]);
        assert_int_equal(mkdirat(folder, "." NAME ".folder.partial", 0700), 0);

        assert_int_equal(draft_tidy(folder, NAME), G_N_ELEMENTS(partial));
        for (size_t i = 0; i < G_N_ELEMENTS(others); i++)
                assert_int_equal(faccessat(folder, others[i], F_OK, 0), 0);
        assert_int_equal(count_entries(*state), G_N_ELEMENTS(others) + 1);
        assert_int_equal(draft_tidy(folder, NAME), 0);
}

static void test_killed_drafts_partial_file_is_tidied(void **state) {
        _cleanup_fd_ int folder = open_folder(*state);
        Draft draft = { .folder = folder, .fd = -1, .partial = "." NAME ".89abcdef.partial" };

        draft.fd = openat(folder, draft.partial, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
        close(draft.fd);
        assert_int_equal(draft_tidy(folder, NAME), 1);
        assert_int_equal(count_entries(*state), 0);
}

static void test_partial_file_that_someone_works_on_stays(void **state) {
        _cleanup_fd_ int folder = open_folder(*state);
        Draft draft = { .folder = folder, .fd = -1, .partial = "." NAME ".89abcdef.partial" };

        draft.fd = openat(folder, draft.partial, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
        assert_int_equal(flock(draft.fd, LOCK_EX | LOCK_NB), 0); /* as draft_open() does */
        assert_int_equal(draft_tidy(folder, NAME), 0);
        assert_int_equal(count_entries(*state), 1);
        draft_discard(&draft);
        assert_int_equal(count_entries(*state), 0);
}

/* Others may have put another file there since that was looked at. */
static void test_draft_replaces_no_other_file_than_it_is_to(void **state) {
        _cleanup_fd_ int folder = open_folder(*state), old = -1;

        assert_int_equal(publish(folder, "old", false), 0);
        old = openat(folder, NAME, O_RDONLY | O_CLOEXEC);
        for (unsigned i = 0; i < 3; i++) {
                g_auto(Draft) draft = DRAFT_NONE;

                assert_int_equal(draft_open(folder, NAME, &draft), 0);
                assert_int_equal(draft.replaces, -1);
                draft.replaces = old;
                if (i == 1)
                        assert_int_equal(unlinkat(folder, NAME, 0), 0);
                if (i == 2)
                        assert_int_equal(publish(folder, "other", true), 0);
                assert_int_equal(draft_publish(&draft, NAME, true), i == 2 ? DRAFT_OTHER : 0);
                if (i == 0) {
                        close(old);
                        old = openat(folder, NAME, O_RDONLY | O_CLOEXEC);
                }
        }
        assert_true(has_text(*state, "other"));
        assert_int_equal(count_entries(*state), 1);
}

static const char *replacing_what_cannot_be_opened(void *userdata) {
        _cleanup_fd_ int folder = open_folder(userdata), old = openat(folder, NAME, O_RDONLY | O_CLOEXEC);
        g_auto(Draft) draft = DRAFT_NONE;

        SCENE_CHECK(draft_open(folder, NAME, &draft) == 0);
        draft.replaces = old;
        SCENE_CHECK(draft_publish(&draft, NAME, true) == -EMFILE);
        return NULL;
}

/* It may be another. */
static void test_draft_replaces_no_file_that_cannot_be_opened(void **state) {
        const Refusal refusal = { SYS_openat, 2, O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, EMFILE };
        _cleanup_fd_ int folder = open_folder(*state);

        assert_int_equal(publish(folder, "old", false), 0);
        play_without(&refusal, 1, replacing_what_cannot_be_opened, *state);
        assert_true(has_text(*state, "old"));
        assert_int_equal(count_entries(*state), 1);
}

static const char *tidying_without_locks(void *userdata) {
        _cleanup_fd_ int folder = open_folder(userdata);
        g_auto(Draft) draft = DRAFT_NONE;

        SCENE_CHECK(draft_open(folder, NAME, &draft) == 0);
        SCENE_CHECK(draft.partial[0]);
        SCENE_CHECK(draft_tidy(folder, NAME) == 0);
        SCENE_CHECK(draft_publish(&draft, NAME, true) == 0);
        SCENE_CHECK(count_entries(userdata) == 1);
        return NULL;
}

/* What the service tidies when it starts may take long, with the first backup under way. */
static void test_draft_of_this_process_stays_where_there_are_no_locks(void **state) {
        const Refusal refusals[] = {
                { SYS_openat, 2, O_TMPFILE, EOPNOTSUPP },
                { SYS_flock, 1, LOCK_EX, ENOLCK },
        };

        play_without(refusals, G_N_ELEMENTS(refusals), tidying_without_locks, *state);
}

static const char *tidying_what_cannot_be_opened(void *userdata) {
        _cleanup_fd_ int folder = open_folder(userdata);

        SCENE_CHECK(draft_tidy(folder, NAME) == 0);
        SCENE_CHECK(count_entries(userdata) == 1);
        return NULL;
}

/* Who works on it cannot be asked. */
static void test_partial_file_that_cannot_be_opened_stays(void **state) {
        const Refusal refusal = { SYS_openat, 2, O_NOCTTY, EMFILE };
        _cleanup_fd_ int folder = open_folder(*state);

        close(openat(folder, "." NAME ".89abcdef.partial", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        play_without(&refusal, 1, tidying_what_cannot_be_opened, *state);
        assert_int_equal(draft_tidy(folder, NAME), 1);
}

/* On file systems that can neither rename without replacing nor link. */
static void test_killed_publishers_empty_file_is_tidied(void **state) {
        _cleanup_fd_ int folder = open_folder(*state);

        close(openat(folder, NAME, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        assert_int_equal(draft_tidy(folder, NAME), 1);
        assert_int_equal(count_entries(*state), 0);
}

static void test_empty_file_of_a_publisher_at_work_stays(void **state) {
        _cleanup_fd_ int folder = open_folder(*state), placeholder = -1;

        placeholder = openat(folder, NAME, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        assert_int_equal(flock(placeholder, LOCK_EX | LOCK_NB), 0); /* as draft_publish() does */
        assert_int_equal(draft_tidy(folder, NAME), 0);
        assert_int_equal(count_entries(*state), 1);
}

int main(void) {
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
        const struct CMUnitTest tests[] = {
                IN_FOLDER(test_draft_is_published_with_and_without_replacing),
                IN_FOLDER(test_discarded_draft_leaves_nothing),
                IN_FOLDER(test_draft_that_cannot_be_published_leaves_nothing),
                IN_FOLDER(test_draft_is_for_its_owner_alone_under_any_umask),
                IN_FOLDER(test_file_system_without_unnamed_files_gets_a_partial_one),
                IN_FOLDER(test_full_file_system_is_no_reason_for_a_partial_file),
                IN_FOLDER(test_name_that_leaves_no_room_for_a_partial_one_is_an_error),
                IN_FOLDER(test_tidy_removes_partial_files_of_that_name_only),
                IN_FOLDER(test_killed_drafts_partial_file_is_tidied),
                IN_FOLDER(test_partial_file_that_someone_works_on_stays),
                IN_FOLDER(test_draft_replaces_no_other_file_than_it_is_to),
                IN_FOLDER(test_draft_replaces_no_file_that_cannot_be_opened),
                IN_FOLDER(test_draft_of_this_process_stays_where_there_are_no_locks),
                IN_FOLDER(test_partial_file_that_cannot_be_opened_stays),
                IN_FOLDER(test_killed_publishers_empty_file_is_tidied),
                IN_FOLDER(test_empty_file_of_a_publisher_at_work_stays),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
