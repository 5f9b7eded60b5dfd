/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "memory-group.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"

/* Our own group in the hierarchy of this name; "" is that of version 2. NULL where there is none. */
static char *own_group(const char *controller) {
        g_autofree char *text = NULL;
        g_auto(GStrv) lines = NULL;

        if (!g_file_get_contents("/proc/self/cgroup", &text, NULL, NULL))
                return NULL;
        lines = g_strsplit(text, "\n", -1);
        for (char **line = lines; *line; line++) {
                g_auto(GStrv) parts = g_strsplit(*line, ":", 3);

                if (g_strv_length(parts) == 3 && strcmp(parts[1], controller) == 0)
                        return g_strdup(parts[2]);
        }
        return NULL;
}

static bool write_value(const MemoryGroup *group, const char *name, uint64_t value) {
        g_autofree char *path = g_build_filename(group->path, name, NULL);
        FILE *file = fopen(path, "we");
        bool written;

        if (!file)
                return false;
        written = fprintf(file, "%" PRIu64, value) > 0;
        return fclose(file) == 0 && written;
}

/* The number in a file, or, with a key, in its line of that key. */
static uint64_t read_value(const MemoryGroup *group, const char *name, const char *key) {
        g_autofree char *path = g_build_filename(group->path, name, NULL), *text = NULL;
        const char *at;

        if (!g_file_get_contents(path, &text, NULL, NULL))
                fail_msg("%s cannot be read", path);
        at = key ? strstr(text, key) : text;
        assert_non_null(at);
        return strtoull(at + (key ? strlen(key) : 0), NULL, 10);
}

bool memory_group_new(MemoryGroup *group, uint64_t limit) {
        static const char *const roots[] = { "/sys/fs/cgroup/memory", "/sys/fs/cgroup" };

        for (unsigned i = 0; i < 2; i++) {
                g_autofree char *own = own_group(i == 0 ? "memory" : ""),
                                *name = g_strdup_printf("licensevault-test-%d", (int)getpid());

                if (!own)
                        continue;
                *group = (MemoryGroup) { g_build_filename(roots[i], own, name, NULL), i == 0 };
                if (mkdir(group->path, 0755) == 0 &&
                    write_value(group, group->is_v1 ? "memory.limit_in_bytes" : "memory.max", limit))
                        return true;
                memory_group_free(group);
        }
        return false;
}

uint64_t memory_group_peak(const MemoryGroup *group) {
        const char *name = group->is_v1 ? "memory.max_usage_in_bytes" : "memory.peak";
        g_autofree char *path = g_build_filename(group->path, name, NULL);

        return g_file_test(path, G_FILE_TEST_EXISTS) ? read_value(group, name, NULL) : 0;
}

uint64_t memory_group_kills(const MemoryGroup *group) {
        return read_value(group, group->is_v1 ? "memory.oom_control" : "memory.events", "oom_kill ");
}

void memory_group_free(MemoryGroup *group) {
        (void)rmdir(group->path);
        g_clear_pointer(&group->path, g_free);
}
