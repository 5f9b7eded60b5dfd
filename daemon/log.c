/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define PAUSE_USEC (10 * 60 * G_USEC_PER_SEC)
/* Values that are remembered to have been logged: a bound, not a number of users that anyone has. */
#define TOLD_MAX 1000U

static const struct {
        const char *id;        /* the same as in the catalog; `systemd-id128 new` makes one */
        const char *name;
        const char *priority;
        const char *fields[3];
        bool always;           /* however often it comes */
} events[_LOG_EVENT_MAX] = {
        [LOG_EVENT_STORE_UNREADABLE] = {
                "d2a8dad002474ee98145c0481a1c5be9", "store-unreadable", SD_ERR, { "LICENSEVAULT_ERROR" } },
        [LOG_EVENT_STORE_LOST] = {
                "f802e3fe44a145b3aa10887ba4a7b075", "store-lost", SD_WARNING, {} },
        [LOG_EVENT_STORE_UNWRITABLE] = {
                "6e60fe8d86bf4307b2172e566d54670c", "store-unwritable", SD_ERR, { "LICENSEVAULT_ERROR" } },
        [LOG_EVENT_STORE_FULL] = {
                "b795b4510e1e4edd97a4aa03331751f1", "store-full", SD_ERR, { "LICENSEVAULT_ERROR" } },
        [LOG_EVENT_USERS_UNREADABLE] = {
                "293b70ed88f940d9b2013858a59f66d1", "users-unreadable", SD_WARNING, { "LICENSEVAULT_ERROR" } },
        [LOG_EVENT_BACKUP_FAILED] = {
                "b39d92909d3a42129b18ac2982e936de", "backup-failed", SD_WARNING,
                { "LICENSEVAULT_USER", "LICENSEVAULT_ERROR" } },
        [LOG_EVENT_RESTORE_FAILED] = {
                "ce191d4d4e634d2683a0b6d2c3359875", "restore-failed", SD_WARNING,
                { "LICENSEVAULT_USER", "LICENSEVAULT_ERROR" } },
        /* Comes of a start or a reload alone, and who has mended something and reloads wants to hear if it helped. */
        [LOG_EVENT_ROOT_UNWRITABLE] = {
                "094382651a4e444aa83691bdf10ed34c", "root-unwritable", SD_WARNING, { "LICENSEVAULT_ROOT" }, true },
        [LOG_EVENT_BUS_LEFT] = {
                "fa223fca381d418aa41021dfba327a0e", "bus-left", SD_WARNING, {} },
};

/* Whether standard error goes to the journal, and not to where someone has pointed it since. */
static bool journal_reads_stderr(void) {
        const char *stream = getenv("JOURNAL_STREAM");
        char ours[64];
        struct stat st;

        if (!stream || fstat(STDERR_FILENO, &st) < 0)
                return false;
        snprintf(ours, sizeof ours, "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
        return strcmp(stream, ours) == 0;
}

void log_line(const char *priority, const char *format, ...) {
        va_list ap;

        flockfile(stderr);
        if (journal_reads_stderr())
                fputs(priority, stderr);
        va_start(ap, format);
        vfprintf(stderr, format, ap);
        va_end(ap);
        fputc('\n', stderr);
        funlockfile(stderr);
}

/* Events */

typedef struct Told {
        int64_t at; /* monotonic */
        unsigned left_out;
} Told;

static pthread_mutex_t told_mutex = PTHREAD_MUTEX_INITIALIZER;
static GHashTable *told; /* what -> Told * */

static gboolean is_old(void *key, void *value, void *now) {
        return *(int64_t *)now - ((Told *)value)->at >= PAUSE_USEC;
}

/*
 * A full disk fails every call, and a client may fail in a loop: the log gets one in ten minutes. That is so by time
 * and not by whether the state has changed, for nobody tells us that it has: that one write fits on a disk does not
 * say that there is room on it.
 */
static bool is_due(const char *what, unsigned *ret_left_out) {
        int64_t now = g_get_monotonic_time();
        bool due = true;
        Told *last;

        *ret_left_out = 0;
        pthread_mutex_lock(&told_mutex);
        if (!told)
                told = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        last = g_hash_table_lookup(told, what);
        if (last && !is_old(NULL, last, &now)) {
                last->left_out++;
                due = false;
        } else {
                if (last)
                        *ret_left_out = last->left_out;
                else if (g_hash_table_size(told) >= TOLD_MAX &&
                         g_hash_table_foreach_remove(told, is_old, &now) == 0)
                        g_hash_table_remove_all(told);
                last = g_new0(Told, 1);
                last->at = now;
                g_hash_table_replace(told, g_strdup(what), last);
        }
        pthread_mutex_unlock(&told_mutex);
        return due;
}

/* A line is a line, whatever an administrator calls a folder. */
static char *clean(char *text) {
        for (char *p = text; *p; p++)
                if (g_ascii_iscntrl(*p))
                        *p = '?';
        return text;
}

/* Takes the message over. */
static char *add_left_out(char *message, unsigned n) {
        char *longer;

        if (n == 0)
                return message;
        longer = g_strdup_printf("%s (%u more like this were left out.)", message, n);
        g_free(message);
        return longer;
}

void log_rarely(const char *priority, const char *what, const char *format, ...) {
        g_autofree char *message = NULL;
        unsigned left_out;
        va_list ap;

        if (!is_due(what, &left_out))
                return;
        va_start(ap, format);
        message = add_left_out(clean(g_strdup_vprintf(format, ap)), left_out);
        va_end(ap);
        log_line(priority, "%s", message);
}

static void append_field(GString *entry, const char *name, const char *value) {
        g_autofree char *copy = clean(g_strdup(value));

        g_string_append_printf(entry, "%s=%s\n", name, copy);
}

/*
 * In the journal's own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL), and not with sd_journal_sendv(): that waits
 * where the socket is full, and the socket is all services'. When the journal hangs, it is full at once; the stream
 * behind standard error is ours alone, and takes a few hundred lines more.
 */
static bool send_to_journal(LogEvent event, const char *const *values, const char *message) {
        static const struct sockaddr_un journal = { AF_UNIX, JOURNAL_SOCKET };
        GString *entry = g_string_new(NULL);
        const char *const *field = events[event].fields;
        const char priority[] = { events[event].priority[1], 0 }; /* of "<3>" */
        ssize_t n = -1;
        int fd;

        append_field(entry, "MESSAGE_ID", events[event].id);
        append_field(entry, "PRIORITY", priority);
        append_field(entry, "SYSLOG_IDENTIFIER", "licensevaultd");
        append_field(entry, "MESSAGE", message);
        append_field(entry, "LICENSEVAULT_EVENT", events[event].name);
        for (; values && *field && *values; field++, values++)
                append_field(entry, *field, *values);

        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd >= 0) {
                n = sendto(fd, entry->str, entry->len, MSG_DONTWAIT | MSG_NOSIGNAL,
                        (const struct sockaddr *)&journal, sizeof journal);
                close(fd);
        }
        g_string_free(entry, true);
        return n >= 0;
}

void log_event(LogEvent event, const char *const *values, const char *format, ...) {
        g_autofree char *what = g_strdup_printf("%s %s", events[event].name, values ? values[0] : "");
        g_autofree char *message = NULL;
        unsigned left_out = 0;
        va_list ap;

        if (!events[event].always && !is_due(what, &left_out))
                return;

        va_start(ap, format);
        message = add_left_out(clean(g_strdup_vprintf(format, ap)), left_out);
        va_end(ap);
        if (!journal_reads_stderr() || !send_to_journal(event, values, message))
                log_line(events[event].priority, "%s", message);
}
