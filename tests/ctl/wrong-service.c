/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <glib.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

/*
 * A service that speaks another contract than licensevaultctl, as a much older or newer one could, or one that is
 * broken. fake-service keeps to the contract; this one has no interfaces, and answers whatever it is asked. The
 * argument says how:
 *
 *   types      every answer has another type
 *   nameless   every answer is an error without a message
 *   nontext    strings are no text: D-Bus lets U+FFFE pass, and libsystemd does not read it
 *   nonrights  the same for what counters count
 *   count      a gone owner, and no number of what was removed
 *   signals    a job with signals of other types before Done, which says more than it should
 *   done       a job whose Done has another type
 *   list       a job whose Done has a list where the result should be
 *   strings    a job whose Done has a list of what is no text
 *   names      a job that skipped licenses, whose list has another type
 *   nonnames   the same, with names that are no text
 *   late       a job that says Done before it writes
 *   miscount   a job that writes the backup that the second argument names, and counts otherwise
 *   one        the answers of the contract, but for the member that the second argument names: that has another type.
 *              The third one is the backup that OpenBackup() answers with; without it there is none
 *   refused    the same, and that member is an error
 *   events     the answers of the contract, and signals of other types before a good one to whoever subscribes
 */

#define NAME "org.licensevault1"
#define JOB "/org/licensevault1/job/00000000000000aa"
#define NO_TEXT "\xEF\xBF\xBE"
#define SIGNALS_USEC 20000
#define LATE_USEC 300000

typedef struct Wrong {
        const char *mode, *file, *backup;
        sd_bus *bus;
        sd_event *event;
        char *client;
        int fd; /* where a backup goes; -1 without one */
} Wrong;

static void must(int r, const char *what) {
        if (r < 0) {
                fprintf(stderr, "wrong-service: %s: %s\n", what, strerror(-r));
                exit(EXIT_FAILURE);
        }
}

static bool is_mode(const Wrong *wrong, const char *mode) {
        return strcmp(wrong->mode, mode) == 0;
}

/* Unlike the other functions, this one does not look at what is written. */
static void append_no_text(sd_bus_message *m) {
        char *space;

        must(sd_bus_message_append_string_space(m, strlen(NO_TEXT), &space), "no text");
        memcpy(space, NO_TEXT, strlen(NO_TEXT));
}

static sd_bus_message *new_signal(Wrong *wrong, const char *member) {
        sd_bus_message *m;

        must(sd_bus_message_new_signal(wrong->bus, &m, JOB, NAME ".Job", member), member);
        must(sd_bus_message_set_destination(m, wrong->client), member);
        return m;
}

static void send(Wrong *wrong, sd_bus_message *m) {
        must(sd_bus_send(wrong->bus, m, NULL), "signal");
        must(sd_bus_flush(wrong->bus), "signal");
        sd_bus_message_unref(m);
}

static void send_strange_progress(Wrong *wrong) {
        sd_bus_message *m = new_signal(wrong, "Progress");

        must(sd_bus_message_append(m, "s", "half"), "Progress");
        send(wrong, m);
        /* Where it is from, as a number; how far it is, and what is left out, as a text; what nobody knows. */
        static const uint32_t statuses[] = { 28, 16, 31, 99 };
        for (unsigned i = 0; i < G_N_ELEMENTS(statuses); i++) {
                m = new_signal(wrong, "Progress");
                must(sd_bus_message_append(m, "uitt", statuses[i], 0, (uint64_t)1, (uint64_t)2), "Progress");
                must(i == 0 ? sd_bus_message_append(m, "v", "u", 7) : sd_bus_message_append(m, "v", "s", "half"),
                        "Progress");
                send(wrong, m);
        }
}

static void send_strange_done(Wrong *wrong) {
        sd_bus_message *m = new_signal(wrong, "Done");

        must(sd_bus_message_append(m, "s", "well"), "Done");
        send(wrong, m);
}

static void send_done(Wrong *wrong) {
        sd_bus_message *m;

        if (is_mode(wrong, "done") || is_mode(wrong, "events"))
                send_strange_done(wrong);
        if (is_mode(wrong, "done"))
                return;

        m = new_signal(wrong, "Done");
        must(sd_bus_message_append(m, "uiss", 27, 0, "", ""), "Done");
        if (is_mode(wrong, "list"))
                must(sd_bus_message_append(m, "as", 1, "well"), "Done");
        else if (is_mode(wrong, "strings")) {
                must(sd_bus_message_open_container(m, 'a', "{sv}"), "Done");
                must(sd_bus_message_open_container(m, 'e', "sv"), "Done");
                must(sd_bus_message_append(m, "s", "names"), "Done");
                must(sd_bus_message_open_container(m, 'v', "as"), "Done");
                must(sd_bus_message_open_container(m, 'a', "s"), "Done");
                append_no_text(m);
                for (unsigned i = 0; i < 4; i++)
                        must(sd_bus_message_close_container(m), "Done");
        } else
                must(sd_bus_message_append(m, "a{sv}", 5, "licenses", "t", (uint64_t)100, "bytes", "t", (uint64_t)12,
                        "restricted", "t", (uint64_t)(is_mode(wrong, "names") || is_mode(wrong, "nonnames") ? 12 : 0),
                        "pages", "u", 7U, "change", "i", -7), "Done");
        send(wrong, m);
}

static void write_backup(Wrong *wrong) {
        g_autofree char *content = g_strdup("not a backup");
        size_t size = strlen(content);

        if (wrong->file) {
                g_free(content);
                if (!g_file_get_contents(wrong->file, &content, &size, NULL))
                        must(-EIO, wrong->file);
        }
        /* Whoever reads may be gone by now. */
        if (write(wrong->fd, content, size) < 0)
                fprintf(stderr, "wrong-service: nobody reads\n");
        close(wrong->fd);
        wrong->fd = -1;
}

/* What happens after the return of the method that started the job. */
static int on_started(sd_event_source *source, uint64_t usec, void *userdata) {
        Wrong *wrong = userdata;

        if (is_mode(wrong, "signals") || is_mode(wrong, "events"))
                send_strange_progress(wrong);
        if (is_mode(wrong, "late")) {
                send_done(wrong);
                g_usleep(LATE_USEC);
        }
        if (wrong->fd >= 0)
                write_backup(wrong);
        if (!is_mode(wrong, "late"))
                send_done(wrong);
        return 0;
}

/* Soon, to whoever called. */
static void send_signals(Wrong *wrong, sd_bus_message *m) {
        g_free(wrong->client);
        wrong->client = g_strdup(sd_bus_message_get_sender(m));
        must(sd_event_add_time_relative(wrong->event, NULL, CLOCK_MONOTONIC, SIGNALS_USEC, 1, on_started, wrong),
                "timer");
}

static int start_job(Wrong *wrong, sd_bus_message *m) {
        int fd;

        if (sd_bus_message_has_signature(m, "hua{sv}")) {
                must(sd_bus_message_read(m, "h", &fd), "fd");
                wrong->fd = dup(fd);
        }
        send_signals(wrong, m);
        return sd_bus_reply_method_return(m, "o", JOB);
}

static int reply(sd_bus_message *m) {
        must(sd_bus_send(NULL, m, NULL), "reply");
        sd_bus_message_unref(m);
        return 1;
}

static int list_owner(sd_bus_message *m) {
        uint32_t offset;

        must(sd_bus_message_read(m, "u", &offset), "ListOwners");
        if (offset > 0)
                return sd_bus_reply_method_return(m, "a(ustts)", 0);
        return sd_bus_reply_method_return(m, "a(ustts)", 1, 4711U, "anna", (uint64_t)3, (uint64_t)100, "gone");
}

/* A license whose one property is no text, or has no text in it. */
static int list_license(Wrong *wrong, sd_bus_message *call) {
        bool right = is_mode(wrong, "nonrights");
        sd_bus_message *m;

        must(sd_bus_message_new_method_return(call, &m), "EnumerateLicenses");
        must(sd_bus_message_open_container(m, 'a', "(sa{sv})"), "EnumerateLicenses");
        must(sd_bus_message_open_container(m, 'r', "sa{sv}"), "EnumerateLicenses");
        must(sd_bus_message_append(m, "s", "id"), "EnumerateLicenses");
        must(sd_bus_message_open_container(m, 'a', "{sv}"), "EnumerateLicenses");
        must(sd_bus_message_open_container(m, 'e', "sv"), "EnumerateLicenses");
        must(sd_bus_message_append(m, "s", right ? "Counters" : "Title"), "EnumerateLicenses");
        must(sd_bus_message_open_container(m, 'v', right ? "a{st}" : "s"), "EnumerateLicenses");
        if (right) {
                must(sd_bus_message_open_container(m, 'a', "{st}"), "EnumerateLicenses");
                must(sd_bus_message_open_container(m, 'e', "st"), "EnumerateLicenses");
        }
        append_no_text(m);
        if (right) {
                must(sd_bus_message_append(m, "t", (uint64_t)7), "EnumerateLicenses");
                must(sd_bus_message_close_container(m), "EnumerateLicenses");
                must(sd_bus_message_close_container(m), "EnumerateLicenses");
        }
        for (unsigned i = 0; i < 5; i++)
                must(sd_bus_message_close_container(m), "EnumerateLicenses");
        must(sd_bus_message_append(m, "s", ""), "EnumerateLicenses");
        return reply(m);
}

static int list_names(Wrong *wrong, sd_bus_message *call) {
        sd_bus_message *m;

        if (is_mode(wrong, "names"))
                return sd_bus_reply_method_return(call, "y", 7);
        must(sd_bus_message_new_method_return(call, &m), "ListRestricted");
        must(sd_bus_message_open_container(m, 'a', "(sss)"), "ListRestricted");
        must(sd_bus_message_open_container(m, 'r', "sss"), "ListRestricted");
        must(sd_bus_message_append(m, "ss", "id", ""), "ListRestricted");
        append_no_text(m);
        must(sd_bus_message_close_container(m), "ListRestricted");
        must(sd_bus_message_close_container(m), "ListRestricted");
        return reply(m);
}

static int open_backup(Wrong *wrong, sd_bus_message *call) {
        int fd, r;

        if (!wrong->backup)
                return sd_bus_reply_method_errorf(call, NAME ".Error.NS_E_DRM_BACKUP_CORRUPT",
                        "There is no backup of yours in '/nowhere'.");
        fd = open(wrong->backup, O_RDONLY | O_CLOEXEC);
        must(fd < 0 ? -errno : 0, wrong->backup);
        r = sd_bus_reply_method_return(call, "h", fd);
        close(fd);
        return r;
}

/* What the contract has, of a service with one job, no license, and a path that the user has set. */
static int answer(Wrong *wrong, sd_bus_message *m, const char *member) {
        if (strcmp(member, "GetAll") == 0)
                return sd_bus_reply_method_return(m, "a{sv}", 4, "Version", "s", "1", "Kind", "s", "backup", "State", "s",
                        "running", "Owner", "u", (uint32_t)getuid());
        if (strcmp(member, "ListJobs") == 0)
                return sd_bus_reply_method_return(m, "a(osus)", 1, JOB, "backup", (uint32_t)getuid(), "running");
        if (strcmp(member, "ListRestricted") == 0)
                return sd_bus_reply_method_return(m, "a(sss)", 0);
        if (strcmp(member, "ListOwners") == 0)
                return sd_bus_reply_method_return(m, "a(ustts)", 0);
        if (strcmp(member, "EnumerateLicenses") == 0)
                return sd_bus_reply_method_return(m, "a(sa{sv})s", 0, "");
        if (strcmp(member, "GetPropCount") == 0)
                return sd_bus_reply_method_return(m, "q", 1);
        if (strcmp(member, "GetPropByIndex") == 0)
                return sd_bus_reply_method_return(m, "sv", "BackupPath", "s", "/nowhere");
        if (strcmp(member, "GetPropByName") == 0)
                return sd_bus_reply_method_return(m, "v", "s", "/nowhere");
        if (strcmp(member, "OpenBackup") == 0)
                return open_backup(wrong, m);
        if (strcmp(member, "Subscribe") == 0 && is_mode(wrong, "events"))
                send_signals(wrong, m);
        return sd_bus_reply_method_return(m, NULL);
}

static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *member = sd_bus_message_get_member(m);
        Wrong *wrong = userdata;

        if (!sd_bus_message_is_method_call(m, NULL, NULL))
                return 0;
        if (is_mode(wrong, "events") ||
            ((is_mode(wrong, "one") || is_mode(wrong, "refused")) && g_strcmp0(member, wrong->file) != 0))
                return answer(wrong, m, member);
        if (is_mode(wrong, "refused"))
                return sd_bus_reply_method_errorf(m, NAME ".Error.NS_E_DRM_LICENSE_STORE_ERROR", "Not now.");
        if (is_mode(wrong, "nameless"))
                return sd_bus_reply_method_errorf(m, "org.example.Error.Novel", "%s", "");
        if (is_mode(wrong, "count") && strcmp(member, "ListOwners") == 0)
                return list_owner(m);
        if (is_mode(wrong, "types") || is_mode(wrong, "one") || is_mode(wrong, "count"))
                return sd_bus_reply_method_return(m, "y", 7);

        if (strcmp(member, "EnumerateLicenses") == 0)
                return list_license(wrong, m);
        if (strcmp(member, "ListRestricted") == 0)
                return list_names(wrong, m);
        if (strncmp(member, "Backup", strlen("Backup")) == 0)
                return start_job(wrong, m);
        return sd_bus_reply_method_return(m, NULL);
}

int main(int argc, char **argv) {
        Wrong wrong = {
                .mode = argc > 1 ? argv[1] : "types",
                .file = argc > 2 ? argv[2] : NULL,
                .backup = argc > 3 ? argv[3] : NULL,
                .fd = -1,
        };

        must(sd_event_new(&wrong.event), "event loop");
        must(sd_bus_open_system(&wrong.bus), "bus");
        must(sd_bus_attach_event(wrong.bus, wrong.event, 0), "event loop");
        must(sd_bus_add_filter(wrong.bus, NULL, on_message, &wrong), "filter");
        must(sd_bus_request_name(wrong.bus, NAME, 0), "name");
        must(sd_event_loop(wrong.event), "event loop");
        return 0;
}
