/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

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
