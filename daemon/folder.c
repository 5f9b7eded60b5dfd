/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <linux/openat2.h>

#include "draft.h"
#include "license.h"
#include "series-name.h"

bool folder_path_is_plain(const char *path) {
        if (path[0] != '/' || strlen(path) > LICENSE_STRING_MAX)
                return false;

        for (const char *part = path + 1;;) {
                size_t n = strcspn(part, "/");

                if (n == 0 || n > NAME_MAX || (n == 1 && part[0] == '.') ||
                    (n == 2 && part[0] == '.' && part[1] == '.'))
                        return false;
                if (!part[n])
                        return true;
                part += n + 1;
        }
}

const char *folder_below(const char *path, const char *root, uid_t uid) {
        char number[16];
        size_t n = strlen(root);

        if (strncmp(path, root, n) != 0 || path[n] != '/')
                return NULL;
        path += n + 1;

        n = (size_t)snprintf(number, sizeof number, "%" PRIu32, (uint32_t)uid);
        if (strncmp(path, number, n) != 0)
                return NULL;
        if (!path[n])
                return path + n;
        return path[n] == '/' ? path + n + 1 : NULL;
}

/* Steps down one folder; parent is closed. */
static int step(int *parent, const char *name) {
        int fd;

        fd = openat(*parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        fd_closep(parent);
        *parent = fd;
        return 0;
}

/*
 * A backup is as safe as the name of the folder that it is in. That is synced also where it is there, for who made
 * it may have been killed before that.
 */
static int make(int parent, const char *name) {
        _cleanup_fd_ int fd = -1;

        if (mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
                return -errno;
        fd = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

int folder_make(const char *parent, const char *name) {
        _cleanup_fd_ int fd = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);

        return fd < 0 ? -errno : make(fd, name);
}

int folder_open(const char *root, uid_t uid, const char *below, bool create) {
        _cleanup_fd_ int fd = -1;
        char name[NAME_MAX + 1];
        int r;

        fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;

        snprintf(name, sizeof name, "%" PRIu32, (uint32_t)uid);
        r = create ? make(fd, name) : 0;
        if (r >= 0)
                r = step(&fd, name);

        while (r >= 0 && *below) {
                size_t n = strcspn(below, "/");

                g_strlcpy(name, below, MIN(n + 1, sizeof name));
                r = step(&fd, name);
                below += n + (below[n] == '/');
        }
        if (r < 0)
                return r;

        r = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return r < 0 ? -errno : r;
}

/* Opens to look only, which asks no file system for leave. RESOLVE_CACHED needs Linux 5.12. */
static int open_at_once(int folder, const char *path, uint64_t flags, uint64_t resolve) {
        struct open_how how = {
                .flags = O_PATH | O_CLOEXEC | flags,
                .resolve = RESOLVE_CACHED | resolve,
        };
        long fd = syscall(SYS_openat2, folder, path, &how, sizeof how);

        return fd < 0 ? -errno : (int)fd;
}

int folder_look_at_once(const char *root, uid_t uid, const char *name) {
        _cleanup_fd_ int folder = -1, fd = -1;
        char path[16 + NAME_MAX + 1];

        folder = open_at_once(AT_FDCWD, root, O_DIRECTORY, 0);
        if (folder < 0)
                return folder;
        snprintf(path, sizeof path, "%" PRIu32 "/%s", (uint32_t)uid, name);
        fd = open_at_once(folder, path, O_NOFOLLOW, RESOLVE_NO_SYMLINKS);
        return MIN(fd, 0);
}

static bool has_entry(const char *folder, bool (*suits)(int folder, const char *name)) {
        bool found = false;
        DIR *entries;

        entries = opendir(folder);
        if (!entries)
                return false;
        for (struct dirent *entry; !found && (entry = readdir(entries));)
                found = suits(dirfd(entries), entry->d_name);
        closedir(entries);
        return found;
}

static bool is_user_with_backup(int folder, const char *name) {
        g_autofree char *path = g_strconcat(name, "/" FOLDER_BACKUP_NAME, NULL);
        struct stat st;

        return g_ascii_isdigit(name[0]) && fstatat(folder, path, &st, AT_SYMLINK_NOFOLLOW) >= 0;
}

bool folder_root_has_backup(const char *root) {
        return has_entry(root, is_user_with_backup);
}

static bool is_of_series(int folder, const char *name) {
        return series_name_is_any(name);
}

bool folder_has_series(const char *folder) {
        return has_entry(folder, is_of_series);
}

void folder_tidy_root(const char *root) {
        DIR *entries;

        entries = opendir(root);
        if (!entries)
                return;

        for (struct dirent *entry; (entry = readdir(entries));) {
                _cleanup_fd_ int fd = -1;

                if (!g_ascii_isdigit(entry->d_name[0]))
                        continue;
                fd = openat(dirfd(entries), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (fd >= 0)
                        (void)draft_tidy(fd, FOLDER_BACKUP_NAME);
        }

        closedir(entries);
}
