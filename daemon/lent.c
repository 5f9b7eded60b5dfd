/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "lent.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "log.h"
#include "manager.h"

#define DOCUMENT_BYTES_MAX (UINT64_C(64) * 1024 * 1024)
#define DOCUMENT_BYTES_MIN (UINT64_C(64) * 1024)
/* Beside the one that is there, some may have been set aside: these are there, too, and nobody need have them. */
#define BACKUPS_MAX 16U
/* The kernel counts watches from 1 on. */
#define UNWATCHED 0
#define WATCH_LINE "inotify wd:"
/* For a batch of events, none of which has a name. */
#define EVENTS_BYTES (64 * sizeof(struct inotify_event))

struct Lent {
        int fd;
        sd_event_source *source;
        GHashTable *files; /* number of the watch -> File * */
};

typedef struct File {
        User *user;
        LentKind kind;
        uint64_t amount;
} File;

static void file_free(void *data) {
        File *file = data;

        file->user->lent[file->kind] -= file->amount;
        user_unref(file->user);
        g_free(file);
}

/* The watches that there are, as the kernel lists them; NULL if that cannot be read. */
static GHashTable *list_watches(const Lent *lent) {
        g_autofree char *path = g_strdup_printf("/proc/self/fdinfo/%d", lent->fd);
        g_autofree char *text = NULL;
        GHashTable *watches;

        if (!g_file_get_contents(path, &text, NULL, NULL))
                return NULL;
        watches = g_hash_table_new(NULL, NULL);
        /* sscanf() would look for the end of the text in each line. */
        for (const char *line = text; (line = strstr(line, WATCH_LINE)); line++)
                g_hash_table_add(watches, GUINT_TO_POINTER(strtoul(line + strlen(WATCH_LINE), NULL, 16)));
        return watches;
}

static gboolean has_gone(void *watch, void *file, void *watches) {
        return !g_hash_table_contains(watches, watch);
}

/* So many went at once that the kernel has not told of all. */
static void look_again(Lent *lent) {
        g_autoptr(GHashTable) watches = list_watches(lent);

        if (watches)
                g_hash_table_foreach_remove(lent->files, has_gone, watches);
        else
                log_warning("It cannot be found out which documents clients still have; some count that have gone.");
}

static int on_events(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        _Alignas(struct inotify_event) char events[EVENTS_BYTES];
        Lent *lent = userdata;
        ssize_t n;

        n = read(fd, events, sizeof events);
        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        for (const char *p = events; p < events + n;) {
                const struct inotify_event *event = (const struct inotify_event *)(const void *)p;

                if (event->mask & IN_Q_OVERFLOW)
                        look_again(lent);
                else if (event->mask & IN_IGNORED)
                        g_hash_table_remove(lent->files, GINT_TO_POINTER(event->wd));
                p += sizeof *event + event->len;
        }
        return 0;
}

int lent_new(sd_event *event, Lent **ret) {
        Lent *lent = g_new0(Lent, 1);
        int r;

        lent->files = g_hash_table_new_full(NULL, NULL, NULL, file_free);
        lent->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (lent->fd < 0) {
                /* In a container, others with its number may have all that a user gets. */
                log_warning("What clients have open is not counted, for inotify cannot be had: %s", g_strerror(errno));
                *ret = lent;
                return 0;
        }
        r = sd_event_add_io(event, &lent->source, lent->fd, EPOLLIN, on_events, lent);
        if (r < 0) {
                lent_free(lent);
                return r;
        }
        *ret = lent;
        return 0;
}

Lent *lent_free(Lent *lent) {
        if (lent) {
                sd_event_source_disable_unref(lent->source);
                if (lent->fd >= 0)
                        close(lent->fd);
                g_hash_table_unref(lent->files);
                g_free(lent);
        }
        return NULL;
}

int lent_watch(const Lent *lent, int fd) {
        char path[sizeof "/proc/self/fd/" + 3 * sizeof fd];
        int watch;

        if (lent->fd < 0)
                return UNWATCHED;
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        watch = inotify_add_watch(lent->fd, path, IN_DELETE_SELF);
        if (watch >= 0)
                return watch;
        /* The kernel's bound is one for memory, not for a disk. */
        return errno == ENOSPC ? -ENOMEM : -errno;
}

static int check(const User *user, LentKind kind, Error *error) {
        if (kind == LENT_DOCUMENT && user->lent[kind] >= DOCUMENT_BYTES_MAX)
                return error_set(error, ERROR_LIMIT_EXCEEDED,
                        "Documents that you have open take 64 MiB of memory. Close some, then try again.");
        if (kind == LENT_BACKUP && user->lent[kind] >= BACKUPS_MAX)
                return error_set(error, ERROR_LIMIT_EXCEEDED,
                        "%u backups that you have opened are still on the disk. Close some, then try again.",
                        BACKUPS_MAX);
        return 0;
}

int lent_add(User *user, LentKind kind, int watch, uint64_t bytes, Error *error) {
        GHashTable *files = user->manager->lent->files;
        File *file;
        int r;

        if (watch == UNWATCHED || g_hash_table_contains(files, GINT_TO_POINTER(watch)))
                return 0;
        r = check(user, kind, error);
        if (r != 0)
                return r;

        file = g_new(File, 1);
        *file = (File) {
                .user = user_get(user->manager, user->uid),
                .kind = kind,
                .amount = kind == LENT_DOCUMENT ? MAX(bytes, DOCUMENT_BYTES_MIN) : 1,
        };
        user->lent[kind] += file->amount;
        g_hash_table_insert(files, GINT_TO_POINTER(watch), file);
        return 0;
}
