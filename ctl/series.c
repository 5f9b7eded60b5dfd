/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "series.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "draft.h"
#include "origin.h"
#include "series-name.h"

/* After all names there can be. */
#define END_OF_TIME "licenses-~"
#define DAY_SECONDS (24 * 60 * 60)
/* So often a name is tried, ten times a second: whose the folder is may have taken those of all days to come. */
#define NAMES_TRIED_MAX 50U
/* For so long older backups are looked at: each of as many as whose the folder is has laid there may take a while. */
#define LOOK_USEC (10 * G_USEC_PER_SEC)

/* NULL, with *ret_status set, where that cannot be. */
static DIR *open_folder(Ctl *ctl, const char *folder, Status *ret_status) {
        _cleanup_fd_ int fd = -1;
        DIR *dir;

        fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        dir = fd >= 0 ? fdopendir(fd) : NULL;
        if (!dir) {
                *ret_status = ctl_fail_errno(ctl, -errno, "The folder '%s' cannot be opened", folder);
                return NULL;
        }
        (void)fd_steal(&fd);
        return dir;
}

static void close_folder(DIR **dir) {
        if (*dir)
                closedir(*dir);
}
#define _cleanup_folder_ __attribute__((cleanup(close_folder)))

/* One look at each: in the folder of another user there may be as many as that one likes. */
static void tidy(DIR *dir) {
        const struct dirent *entry;

        while ((entry = readdir(dir)))
                if (entry->d_name[0] == '.' && series_name_begins(entry->d_name + 1)) {
                        g_autofree char *name = g_strndup(entry->d_name + 1, SERIES_NAME_LENGTH);

                        if (draft_tidy_entry(dirfd(dir), entry->d_name, name))
                                (void)draft_tidy_entry(dirfd(dir), name, name);
                }
}

static bool is_taken(int folder, const char *name) {
        g_autofree char *incomplete = series_name_incomplete(name);
        struct stat st;

        return fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) >= 0 ||
                fstatat(folder, incomplete, &st, AT_SYMLINK_NOFOLLOW) >= 0;
}

Status series_next(Ctl *ctl, const char *folder, char **ret_path) {
        _cleanup_folder_ DIR *dir = NULL;
        Status status = STATUS_OK;
        char name[SERIES_NAME_LENGTH + 1];

        dir = open_folder(ctl, folder, &status);
        if (!dir)
                return status;
        tidy(dir);

        /* One was made this very second: the next one has its own. */
        series_name_at(time(NULL), name);
        for (unsigned i = 0; is_taken(dirfd(dir), name); i++) {
                if (i == NAMES_TRIED_MAX)
                        return ctl_fail(ctl, STATUS_EXISTS, "The folder '%s' has files already that are named by "
                                "the seconds of now, up to '%s'. See who makes them, or name another.", folder, name);
                g_usleep(G_USEC_PER_SEC / 10);
                series_name_at(time(NULL), name);
        }
        *ret_path = g_build_filename(folder, name, NULL);
        return STATUS_OK;
}

static int compare_names(const void *a, const void *b) {
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The backups from before a name, oldest first. */
static GPtrArray *list_before(DIR *dir, const char *end) {
        GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
        const struct dirent *entry;
        struct stat st;

        while ((entry = readdir(dir)))
                if (series_name_is_any(entry->d_name) && strcmp(entry->d_name, end) < 0 &&
                    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) >= 0 && S_ISREG(st.st_mode))
                        g_ptr_array_add(names, g_strdup(entry->d_name));
        g_ptr_array_sort(names, compare_names);
        return names;
}

char *series_newest(const char *folder) {
        g_autoptr(GPtrArray) names = NULL;
        _cleanup_folder_ DIR *dir = opendir(folder);
        const char *newest = NULL;
        char tomorrow[SERIES_NAME_LENGTH + 1];

        if (!dir)
                return NULL;
        names = list_before(dir, END_OF_TIME);
        series_name_at(time(NULL) + DAY_SECONDS, tomorrow);
        for (unsigned i = names->len; i > 0; i--) {
                const char *name = names->pdata[i - 1];
                bool is_of_the_future = strcmp(name, tomorrow) > 0;

                /* Where there is no other, it may be today's clock that is wrong. */
                if (series_name_is_whole(name) && (!newest || !is_of_the_future))
                        newest = name;
                if (newest && !is_of_the_future)
                        break;
        }
        return newest ? g_build_filename(folder, newest, NULL) : NULL;
}

char *series_newest_incomplete(const char *folder, const char *whole) {
        g_autofree char *before = whole ? g_path_get_basename(whole) : g_strdup("");
        g_autoptr(GPtrArray) names = NULL;
        _cleanup_folder_ DIR *dir = opendir(folder);
        char tomorrow[SERIES_NAME_LENGTH + 1];

        if (!dir)
                return NULL;
        series_name_at(time(NULL) + DAY_SECONDS, tomorrow);
        names = list_before(dir, tomorrow);
        for (unsigned i = names->len; i > 0 && strcmp(names->pdata[i - 1], before) > 0; i--)
                if (!series_name_is_whole(names->pdata[i - 1]))
                        return g_build_filename(folder, names->pdata[i - 1], NULL);
        return NULL;
}

/*
 * How many of the older ones go. An incomplete one takes no whole one's place, which may be the last to have what is
 * damaged now; it goes with those of its time.
 */
static unsigned count_surplus(const GPtrArray *older, unsigned keep) {
        unsigned n_whole = 1, n = older->len;

        for (; n > 0 && n_whole < keep; n--)
                n_whole += series_name_is_whole(older->pdata[n - 1]);
        return n;
}

static bool read_origin(int folder, const char *name, BackupOrigin *ret) {
        _cleanup_fd_ int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

        return fd >= 0 && origin_read(fd, ret);
}

/* Older backups that no newer one pushes out. */
typedef struct Left {
        unsigned n_others, n_richer;
        unsigned n_unseen; /* the oldest, where the newer ones took too long to look at */
        char *richest;     /* the newest of those that know more */
} Left;

static void left_clear(Left *left) {
        g_free(left->richest);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Left, left_clear)

/* Takes out what is not of the series that one of a name goes on with, or knows what that one does not. */
static void leave_others(int folder, const char *newest, GPtrArray *older, Left *ret) {
        g_auto(BackupOrigin) origin = {};
        bool known = read_origin(folder, newest, &origin);
        int64_t until = g_get_monotonic_time() + LOOK_USEC;

        for (unsigned i = older->len; i > 0; i--) {
                const char *name = older->pdata[i - 1];
                g_auto(BackupOrigin) other = {};

                if (g_get_monotonic_time() >= until) {
                        ret->n_unseen = i;
                        g_ptr_array_remove_range(older, 0, i);
                        break;
                }
                if (!known || !read_origin(folder, name, &other) || !origin_is_same(&origin, &other))
                        ret->n_others++;
                else if (origin_knows_more(&other, &origin)) {
                        if (ret->n_richer++ == 0)
                                ret->richest = g_strdup(name);
                } else
                        continue;
                g_ptr_array_remove_index(older, i - 1);
        }
}

static void tell_left(Ctl *ctl, const Left *left) {
        ctl_result(ctl, "others", json_integer(left->n_others + left->n_richer + left->n_unseen));
        if (left->n_others > 0)
                ctl_note(ctl, "%u older %s other users or of another store or machine, or cannot be read, and %s: see "
                        "'licensevaultctl inspect', and remove what is of no use any more.", left->n_others,
                        left->n_others == 1 ? "backup there is of" : "backups there are of",
                        left->n_others == 1 ? "stays" : "stay");
        if (left->n_unseen > 0)
                ctl_note(ctl, "%u older backups were not looked at, and stay: those that are newer took too long. See who "
                        "makes them, and remove what is of no use any more.", left->n_unseen);
        /* The newest of them has what they have, but for what was removed on purpose. */
        if (left->n_richer > 0)
                ctl_note(ctl, "%u older %s a time when the service knew of more, newer or other licenses, and %s: "
                        "'%s'%s. If an old copy of its store was put back, restore that. Remove what is of no use any "
                        "more.",
                        left->n_richer, left->n_richer == 1 ? "backup there is of" : "backups there are of",
                        left->n_richer == 1 ? "stays" : "stay", left->richest,
                        left->n_richer == 1 ? "" : " is the newest");
}

Status series_prune(Ctl *ctl, const char *folder, const char *newest, unsigned keep) {
        g_autofree char *newest_name = g_path_get_basename(newest);
        g_autoptr(GPtrArray) older = NULL;
        _cleanup_folder_ DIR *dir = NULL;
        json_t *removed = json_array();
        Status status = STATUS_OK;
        g_auto(Left) left = {};
        unsigned n;

        ctl_result(ctl, "removed", removed);
        dir = open_folder(ctl, folder, &status);
        if (!dir)
                return status;
        /* What a clock that ran ahead has named takes no place, or each new one would go until that time has come. */
        older = list_before(dir, newest_name);
        leave_others(dirfd(dir), newest_name, older, &left);
        tell_left(ctl, &left);

        n = count_surplus(older, keep);
        for (unsigned i = 0; i < n; i++) {
                if (unlinkat(dirfd(dir), older->pdata[i], 0) < 0)
                        return ctl_fail_errno(ctl, -errno, "The old backup '%s' in '%s' cannot be removed",
                                (char *)older->pdata[i], folder);
                ctl_note(ctl, "Removed the old backup '%s'.", (char *)older->pdata[i]);
                (void)json_array_append_new(removed, json_string(older->pdata[i]));
        }
        if (fsync(dirfd(dir)) < 0 && errno != EINVAL)
                return ctl_fail_errno(ctl, -errno, "The folder '%s' cannot be synced", folder);
        return STATUS_OK;
}
