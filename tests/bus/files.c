/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

char *read_file(const char *path, size_t *ret_size) {
        char *content = NULL;
        gsize size;

        if (!g_file_get_contents(path, &content, &size, NULL))
                fail_msg("Cannot read %s", path);
        if (ret_size)
                *ret_size = size;
        return content;
}

void write_file(const char *path, const void *content, size_t size) {
        if (!g_file_set_contents(path, content, (gssize)size, NULL))
                fail_msg("Cannot write %s", path);
}

void assert_file_equal(const char *path, const void *content, size_t size) {
        size_t n;
        g_autofree char *found = read_file(path, &n);

        if (n != size || memcmp(found, content, size) != 0)
                fail_msg("%s has other bytes than expected (%zu of them, not %zu)", path, n, size);
}

unsigned count_names(const char *path) {
        DIR *folder = opendir(path);
        unsigned n = 0;

        if (!folder)
                return 0;
        for (struct dirent *entry; (entry = readdir(folder));)
                n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
        closedir(folder);
        return n;
}

int run_program(const char *const *arguments, char **ret_stdout, char **ret_stderr) {
        int status = -1;

        if (!g_spawn_sync(NULL, (char **)arguments, NULL,
                    G_SPAWN_SEARCH_PATH | (ret_stdout ? 0 : G_SPAWN_STDOUT_TO_DEV_NULL) |
                            (ret_stderr ? 0 : G_SPAWN_STDERR_TO_DEV_NULL),
                    NULL, NULL, ret_stdout, ret_stderr, &status, NULL))
                fail_msg("Cannot run %s", arguments[0]);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

char *read_fixture(const char *name, size_t *ret_size) {
        const char *folder = g_getenv("LICENSEVAULT_FIXTURES");
        g_autofree char *path = g_build_filename(folder ?: "../shared/fixtures", name, NULL);
        char *content = NULL;
        gsize size;

        if (!g_file_get_contents(path, &content, &size, NULL)) {
                print_message("%s is not there; set LICENSEVAULT_FIXTURES\n", path);
                return NULL;
        }
        *ret_size = size;
        return content;
}

static void copy_if_there(const char *from, const char *to) {
        g_autofree char *content = NULL;
        size_t size;

        (void)unlink(to);
        if (access(from, F_OK) < 0)
                return;
        content = read_file(from, &size);
        write_file(to, content, size);
}

char *harness_copy_store(Harness *h) {
        g_autofree char *path = g_build_filename(h->state, "licenses.db", NULL), *wal = g_strconcat(path, "-wal", NULL);
        char *copy = harness_path(h, "copy.db");
        g_autofree char *copied_wal = g_strconcat(copy, "-wal", NULL);
        int status;

        if (h->daemon > 0) {
                assert_int_equal(kill(h->daemon, SIGSTOP), 0);
                assert_int_equal(waitpid(h->daemon, &status, WUNTRACED), h->daemon);
        }
        copy_if_there(path, copy);
        copy_if_there(wal, copied_wal);
        if (h->daemon > 0)
                assert_int_equal(kill(h->daemon, SIGCONT), 0);
        return copy;
}
