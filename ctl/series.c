/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "series.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "draft.h"

/* As long as any of them, "0" for a digit. */
#define PATTERN "licenses-00000000T000000Z.tar"
#define PATTERN_LENGTH (sizeof(PATTERN) - 1)
#define FORMAT "licenses-%Y%m%dT%H%M%SZ.tar"

/* Whether the string begins with the name of a backup. */
static bool begins_like_backup(const char *string) {
        for (const char *at = PATTERN; *at; at++, string++)
                if (*at == '0' ? !g_ascii_isdigit(*string) : *at != *string)
                        return false;
        return true;
}

static bool is_backup(const char *name) {
        return begins_like_backup(name) && name[PATTERN_LENGTH] == '\0';
}

static Status open_folder(Ctl *ctl, const char *folder, int *ret_fd, DIR **ret_dir) {
        _cleanup_fd_ int fd = -1;
        int copy;

        fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return ctl_fail_errno(ctl, -errno, "The folder '%s' cannot be opened", folder);

        copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        *ret_dir = copy >= 0 ? fdopendir(copy) : NULL;
        if (!*ret_dir) {
                int r = -errno;

                fd_closep(&copy);
                return ctl_fail_errno(ctl, r, "The folder '%s' cannot be read", folder);
        }
        *ret_fd = fd_steal(&fd);
        return STATUS_OK;
}

static void tidy(int fd, DIR *dir) {
        const struct dirent *entry;

        while ((entry = readdir(dir)))
                if (entry->d_name[0] == '.' && begins_like_backup(entry->d_name + 1)) {
                        g_autofree char *name = g_strndup(entry->d_name + 1, PATTERN_LENGTH);

                        (void)draft_tidy(fd, name);
                }
}

static void name_now(char ret[sizeof PATTERN]) {
        time_t now = time(NULL);
        struct tm utc;

        gmtime_r(&now, &utc);
        strftime(ret, sizeof PATTERN, FORMAT, &utc);
}

Status series_next(Ctl *ctl, const char *folder, char **ret_path) {
        _cleanup_fd_ int fd = -1;
        char name[sizeof PATTERN];
        struct stat st;
        Status status;
        DIR *dir;

        status = open_folder(ctl, folder, &fd, &dir);
        if (status != STATUS_OK)
                return status;
        tidy(fd, dir);
        closedir(dir);

        /* One was made this very second: the next one has its own. */
        for (name_now(name); fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) >= 0; name_now(name))
                g_usleep(G_USEC_PER_SEC / 10);
        *ret_path = g_build_filename(folder, name, NULL);
        return STATUS_OK;
}

static int compare_names(const void *a, const void *b) {
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The older backups, oldest first. */
static GPtrArray *list_older(int fd, DIR *dir, const char *newest) {
        GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
        const struct dirent *entry;
        struct stat st;

        while ((entry = readdir(dir)))
                if (is_backup(entry->d_name) && strcmp(entry->d_name, newest) != 0 &&
                    fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) >= 0 && S_ISREG(st.st_mode))
                        g_ptr_array_add(names, g_strdup(entry->d_name));
        g_ptr_array_sort(names, compare_names);
        return names;
}

Status series_prune(Ctl *ctl, const char *folder, const char *newest, unsigned keep) {
        g_autofree char *newest_name = g_path_get_basename(newest);
        g_autoptr(GPtrArray) older = NULL;
        json_t *removed = json_array();
        _cleanup_fd_ int fd = -1;
        Status status;
        DIR *dir;

        ctl_result(ctl, "removed", removed);
        status = open_folder(ctl, folder, &fd, &dir);
        if (status != STATUS_OK)
                return status;
        older = list_older(fd, dir, newest_name);
        closedir(dir);

        for (unsigned i = 0; i + keep <= older->len; i++) {
                if (unlinkat(fd, older->pdata[i], 0) < 0)
                        return ctl_fail_errno(ctl, -errno, "The old backup '%s' in '%s' cannot be removed",
                                (char *)older->pdata[i], folder);
                ctl_note(ctl, "Removed the old backup '%s'.", (char *)older->pdata[i]);
                (void)json_array_append_new(removed, json_string(older->pdata[i]));
        }
        if (fsync(fd) < 0 && errno != EINVAL)
                return ctl_fail_errno(ctl, -errno, "The folder '%s' cannot be synced", folder);
        return STATUS_OK;
}
