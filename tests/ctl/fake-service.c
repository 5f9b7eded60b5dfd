/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <glib.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

/*
 * A service that behaves as the real one never should, or never does in a test's time, to see what
 * licensevaultctl makes of it. The one argument says how:
 *
 *   slow       a job that takes 4 s, and can be canceled
 *   stubborn   the same, but Cancel() has no effect
 *   mute       no answer at all
 *   vanish     gone in the middle of the job
 *   forge      someone else says Done first, then the service says it for another job, then for ours
 *   short      Done says more bytes than the pipe got
 *   restricted licenses were skipped, and their titles try to steer the terminal
 *   consent    a restore of another machine's backup; it must be agreed to, and reads what it is given
 *   nagging    the same, and agreeing does not help
 *   unsaid     the same, and does not say where the backup is from
 *   merged     a restore that had conflicts and skipped users, whose names try to steer the terminal
 *   poor       a restore that says all is well, and not what happened
 *   list       licenses whose titles are too long, too wide and hostile, on pages with an empty one
 */

#define NAME "org.licensevault1"
#define ROOT "/org/licensevault1"
#define JOB ROOT "/job/00000000000000aa"
#define OTHER_JOB ROOT "/job/00000000000000bb"
#define JOB_INTERFACE NAME ".Job"
#define HOSTILE "\033]0;owned\007\033[2J\xC2\x9B" "31m\n\xE2\x80\xAE" "evil"
#define TICK_USEC 100000
#define TICKS 40U
#define FIRST_TICK_USEC 20000

typedef struct Fake {
        const char *mode;
        sd_bus *bus, *stranger;
        sd_event *event;
        char *client;
        unsigned tick;
        int fd;
        bool restore;
        uint32_t flags;
} Fake;

static void must(int r, const char *what) {
        if (r < 0) {
                fprintf(stderr, "fake-service: %s: %s\n", what, strerror(-r));
                exit(EXIT_FAILURE);
        }
}

static bool is_mode(const Fake *fake, const char *mode) {
        return strcmp(fake->mode, mode) == 0;
}

static void send_progress(Fake *fake, unsigned percent) {
        sd_bus_message *m;

        must(sd_bus_message_new_signal(fake->bus, &m, JOB, JOB_INTERFACE, "Progress"), "Progress");
        must(sd_bus_message_append(m, "uittv", 16, 0, (uint64_t)percent, (uint64_t)100, "u", percent),
                "Progress");
        must(sd_bus_message_set_destination(m, fake->client), "Progress");
        must(sd_bus_send(fake->bus, m, NULL), "Progress");
        sd_bus_message_unref(m);
}

static void send_origin(Fake *fake, unsigned status) {
        sd_bus_message *m;

        must(sd_bus_message_new_signal(fake->bus, &m, JOB, JOB_INTERFACE, "Progress"), "Progress");
        must(sd_bus_message_append(m, "uittv", status, 0, (uint64_t)0, (uint64_t)100, "s", "anna " HOSTILE),
                "Progress");
        must(sd_bus_message_set_destination(m, fake->client), "Progress");
        must(sd_bus_send(fake->bus, m, NULL), "Progress");
        sd_bus_message_unref(m);
}

/* What Done says of a restore that went well. */
static int append_outcome(const Fake *fake, sd_bus_message *m) {
        if (is_mode(fake, "merged"))
                return sd_bus_message_append(m, "a{sv}", 7, "restored", "t", (uint64_t)0,
                        "unchanged", "t", (uint64_t)7, "newer_kept", "t", (uint64_t)0,
                        "conflicts", "t", (uint64_t)12, "revoked", "t", (uint64_t)3,
                        "skipped", "t", (uint64_t)5, "skipped_users", "as", 2, "bert", HOSTILE);
        if (is_mode(fake, "poor"))
                return sd_bus_message_append(m, "a{sv}", 1, "restored", "s", "all");
        return sd_bus_message_append(m, "a{sv}", 7, "restored", "t", (uint64_t)100, "unchanged", "t", (uint64_t)0,
                "newer_kept", "t", (uint64_t)0, "conflicts", "t", (uint64_t)0, "revoked", "t", (uint64_t)0,
                "skipped", "t", (uint64_t)0, "skipped_users", "as", 0);
}

static void send_done(Fake *fake, sd_bus *from, const char *job, int hresult, const char *error,
                const char *message) {
        sd_bus_message *m;

        must(sd_bus_message_new_signal(from, &m, job, JOB_INTERFACE, "Done"), "Done");
        must(sd_bus_message_append(m, "uiss", 27, hresult, error, message), "Done");
        if (hresult < 0)
                must(sd_bus_message_append(m, "a{sv}", 0), "Done");
        else if (fake->restore)
                must(append_outcome(fake, m), "Done");
        else
                must(sd_bus_message_append(m, "a{sv}", 4,
                        "licenses", "t", (uint64_t)100,
                        "restricted", "t", (uint64_t)(is_mode(fake, "restricted") ? 12 : 0),
                        "bytes", "t", (uint64_t)100,
                        "verified", "b", true), "Done");
        must(sd_bus_message_set_destination(m, fake->client), "Done");
        must(sd_bus_send(from, m, NULL), "Done");
        must(sd_bus_flush(from), "Done");
        sd_bus_message_unref(m);
}

/* A restore that asks for consent; what the descriptor gives is read to its end, each time. */
static void restore(Fake *fake) {
        bool agreed = (fake->flags & 2) && !is_mode(fake, "nagging");
        char buffer[64];
        ssize_t n = 0, size = 0;

        while (fake->fd >= 0 && (n = read(fake->fd, buffer, sizeof buffer)) > 0)
                size += n;
        if (fake->fd >= 0)
                close(fake->fd);
        if (n < 0 || (fake->fd >= 0 && size != 6)) {
                send_done(fake, fake->bus, JOB, -1, NAME ".Error.NS_E_DRM_BACKUP_CORRUPT", "It is not what it was.");
                return;
        }

        if (!is_mode(fake, "unsaid")) {
                send_origin(fake, 28);
                send_origin(fake, agreed ? 29 : 25);
        }
        if (agreed)
                send_done(fake, fake->bus, JOB, 0, "", "");
        else
                send_done(fake, fake->bus, JOB, -1, NAME ".Error.NS_E_DRM_NEEDS_INDIVIDUALIZATION", "Set flag 2.");
}

/* What happens after the return of the method that started the job. */
static int on_tick(sd_event_source *source, uint64_t usec, void *userdata) {
        Fake *fake = userdata;

        if (is_mode(fake, "consent") || is_mode(fake, "nagging") || is_mode(fake, "unsaid")) {
                restore(fake);
                return 0;
        }
        if (is_mode(fake, "merged") || is_mode(fake, "poor")) {
                send_done(fake, fake->bus, JOB, 0, "", "");
                return 0;
        }
        if (is_mode(fake, "forge")) {
                send_done(fake, fake->stranger, JOB, 0, "", "");
                send_done(fake, fake->bus, OTHER_JOB, 0, "", "");
                g_usleep(10 * FIRST_TICK_USEC);
                send_done(fake, fake->bus, JOB, -1, NAME ".Error.NS_E_BACKUP_RESTORE_FAILURE",
                        "The medium says: " HOSTILE);
                return 0;
        }
        if (is_mode(fake, "vanish") && fake->tick == 1)
                return sd_event_exit(fake->event, 0);
        if (is_mode(fake, "short")) {
                if (write(fake->fd, "not a backup", 12) != 12)
                        must(-errno, "write");
                close(fake->fd);
        }
        if (is_mode(fake, "short") || is_mode(fake, "restricted") || fake->tick == TICKS) {
                send_done(fake, fake->bus, JOB, 0, "", "");
                return 0;
        }

        if (fake->tick > TICKS)
                return 0; /* canceled */
        send_progress(fake, 100 * fake->tick++ / TICKS);
        must(sd_event_source_set_time_relative(source, TICK_USEC), "timer");
        return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int method_backup(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Fake *fake = userdata;
        int fd;

        if (is_mode(fake, "mute"))
                return 1;

        if (sd_bus_message_has_signature(m, "hua{sv}")) {
                must(sd_bus_message_read(m, "h", &fd), "fd");
                fake->fd = dup(fd);
        }
        g_free(fake->client);
        fake->client = g_strdup(sd_bus_message_get_sender(m));
        must(sd_event_add_time_relative(fake->event, NULL, CLOCK_MONOTONIC, FIRST_TICK_USEC, 1, on_tick,
                fake), "timer");
        return sd_bus_reply_method_return(m, "o", JOB);
}

static int method_restore(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Fake *fake = userdata;
        int fd;

        fake->restore = true;
        fake->fd = -1;
        if (sd_bus_message_has_signature(m, "hua{sv}")) {
                must(sd_bus_message_read(m, "h", &fd), "fd");
                fake->fd = dup(fd);
        }
        must(sd_bus_message_read(m, "u", &fake->flags), "flags");
        g_free(fake->client);
        fake->client = g_strdup(sd_bus_message_get_sender(m));
        must(sd_event_add_time_relative(fake->event, NULL, CLOCK_MONOTONIC, FIRST_TICK_USEC, 1, on_tick,
                fake), "timer");
        return sd_bus_reply_method_return(m, "o", JOB);
}

static int method_cancel(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Fake *fake = userdata;

        if (!is_mode(fake, "stubborn")) {
                send_done(fake, fake->bus, JOB, -1, NAME ".Error.NS_E_DRM_OPERATION_CANCELED",
                        "The backup was canceled.");
                fake->tick = TICKS + 1;
        }
        return sd_bus_reply_method_return(m, NULL);
}

static int method_list_restricted(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        sd_bus_message *reply;
        uint32_t offset, max;

        must(sd_bus_message_read(m, "uu", &offset, &max), "ListRestricted");
        must(sd_bus_message_new_method_return(m, &reply), "ListRestricted");
        must(sd_bus_message_open_container(reply, 'a', "(sss)"), "ListRestricted");
        for (unsigned i = offset; i < 12 && i - offset < max; i++)
                must(sd_bus_message_append(reply, "(sss)", "id-x", "", i == 0 ? HOSTILE : ""),
                        "ListRestricted");
        must(sd_bus_message_close_container(reply), "ListRestricted");
        must(sd_bus_send(NULL, reply, NULL), "ListRestricted");
        sd_bus_message_unref(reply);
        return 1;
}

/* Three pages: one license each, and an empty one between them. */
static int method_enumerate(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *after;

        must(sd_bus_message_skip(m, "a{sv}"), "EnumerateLicenses");
        must(sd_bus_message_read(m, "s", &after), "EnumerateLicenses");
        if (!*after)
                return sd_bus_reply_method_return(m, "a(sa{sv})s",
                        1, "11111111-2222-3333-4444-555555555555", 4,
                        "Title", "s", "A title that is far too long for any terminal of 80 columns to show",
                        "Issuer", "s", "https://provider.example.com/a/long/name",
                        "NotAfter", "t", (uint64_t)INT64_MAX,
                        "Counters", "a{st}", 2, "copy", (uint64_t)1000, "print", (uint64_t)10, "a");
        if (strcmp(after, "a") == 0)
                return sd_bus_reply_method_return(m, "a(sa{sv})s", 0, "b");
        return sd_bus_reply_method_return(m, "a(sa{sv})s", 1, "wide", 3,
                "Title", "s", "吾輩は猫である",
                "Issuer", "s", HOSTILE, "Novelty", "d", 1.5, "");
}

/* To who subscribes it sends what it sends to who starts a job. */
static int method_subscribe(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Fake *fake = userdata;

        g_free(fake->client);
        fake->client = g_strdup(sd_bus_message_get_sender(m));
        must(sd_event_add_time_relative(fake->event, NULL, CLOCK_MONOTONIC, FIRST_TICK_USEC, 1, on_tick,
                fake), "timer");
        return sd_bus_reply_method_return(m, NULL);
}

static int method_list_jobs(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return sd_bus_reply_method_return(m, "a(osus)", 0);
}

static const sd_bus_vtable manager_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Subscribe", NULL, NULL, method_subscribe, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("ListJobs", NULL, "a(osus)", method_list_jobs, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

static const sd_bus_vtable backup_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("BackupLicenses", "u", "o", method_backup, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("BackupLicensesToFile", "hua{sv}", "o", method_backup, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

static const sd_bus_vtable restore_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("RestoreLicenses", "u", "o", method_restore, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("RestoreLicensesFromFile", "hua{sv}", "o", method_restore, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

static const sd_bus_vtable store_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("EnumerateLicenses", "a{sv}su", "a(sa{sv})s", method_enumerate,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

static const sd_bus_vtable job_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Cancel", NULL, NULL, method_cancel, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("ListRestricted", "uu", "a(sss)", method_list_restricted, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

int main(int argc, char **argv) {
        Fake fake = { .mode = argc > 1 ? argv[1] : "slow", .fd = -1 };

        must(sd_event_new(&fake.event), "event loop");
        must(sd_bus_open_system(&fake.bus), "bus");
        must(sd_bus_open_system(&fake.stranger), "bus");
        must(sd_bus_attach_event(fake.bus, fake.event, 0), "event loop");
        must(sd_bus_add_object_vtable(fake.bus, NULL, ROOT, NAME ".Manager", manager_vtable, &fake), "Manager");
        must(sd_bus_add_object_vtable(fake.bus, NULL, ROOT, NAME ".LicenseBackup", backup_vtable, &fake),
                "LicenseBackup");
        must(sd_bus_add_object_vtable(fake.bus, NULL, ROOT, NAME ".LicenseRestore", restore_vtable, &fake),
                "LicenseRestore");
        must(sd_bus_add_object_vtable(fake.bus, NULL, ROOT, NAME ".LicenseStore", store_vtable, &fake),
                "LicenseStore");
        must(sd_bus_add_object_vtable(fake.bus, NULL, JOB, JOB_INTERFACE, job_vtable, &fake), "Job");
        must(sd_bus_request_name(fake.bus, NAME, 0), "name");
        must(sd_event_loop(fake.event), "event loop");
        return 0;
}
