/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "follow.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <systemd/sd-event.h>

#include "agent.h"
#include "bar.h"
#include "bus.h"
#include "interrupt.h"
#include "job.h"
#include "json.h"

#define COPY_SIZE (64U * 1024)
#define PERSON_USEC (6 * 60 * G_USEC_PER_SEC)

typedef struct Follow {
        Ctl *ctl;
        const char *about;
        sd_event *event;
        Bar bar;
        JobEnd end;
        Status status;     /* how it ended; valid once the event loop has */
        bool ended;        /* Done has come, and was good */
        Interrupts interrupts;
        bool interrupted;
        sd_event_source *copy; /* NULL when there is nothing to copy, or no more */
        Status copy_status;
} Follow;

static void leave(Follow *follow, Status status) {
        bar_erase(&follow->bar);
        follow->status = status;
        sd_event_exit(follow->event, 0);
}

/* Done may overtake what is still in the pipe. */
static void leave_when_complete(Follow *follow) {
        if (follow->ended &&
            (!follow->copy || follow->end.copied >= json_get_u64(follow->end.result, "bytes")))
                leave(follow, STATUS_OK);
}

static void send_cancel(Follow *follow) {
        /* Whether the job took notice shows in Done; an answer would tell nothing more. */
        (void)sd_bus_call_method_async(follow->ctl->bus, NULL, follow->end.service, follow->end.job, JOB_INTERFACE,
                "Cancel", NULL, NULL, NULL);
}

static int on_interrupt(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
        Follow *follow = userdata;

        bar_erase(&follow->bar);
        if (follow->interrupted) {
                leave(follow, ctl_fail(follow->ctl, STATUS_CANCELED,
                        "Left before the job ended. See what becomes of it with: licensevaultctl jobs"));
                return 0;
        }

        follow->interrupted = true;
        ctl_note(follow->ctl, info->ssi_signo == SIGINT ? "Canceling. Press Ctrl-C again to leave at once." :
                "Canceling.");
        if (follow->end.job)
                send_cancel(follow);
        return 0;
}

static int on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        Follow *follow = userdata;
        const char *job;

        agent_close();
        if (sd_bus_message_is_method_error(reply, NULL)) {
                leave(follow, bus_fail(follow->ctl, sd_bus_message_get_error(reply), follow->about));
                return 0;
        }

        if (sd_bus_message_read(reply, "o", &job) < 0 || !sd_bus_message_get_sender(reply)) {
                leave(follow, bus_fail_parse(follow->ctl));
                return 0;
        }

        follow->end.job = g_strdup(job);
        follow->end.service = g_strdup(sd_bus_message_get_sender(reply));
        if (follow->interrupted)
                send_cancel(follow);
        return 0;
}

static void note_origin(Follow *follow, sd_bus_message *signal) {
        const char *origin;

        if (sd_bus_message_read(signal, "v", "s", &origin) < 0)
                return;
        g_free(follow->end.origin);
        follow->end.origin = g_strdup(origin);
}

static void on_progress(Follow *follow, sd_bus_message *signal) {
        uint32_t status, percent = 0;
        uint64_t completed, total;
        int32_t hresult;

        /* What a later service may send besides is passed over. */
        if (sd_bus_message_read(signal, "uitt", &status, &hresult, &completed, &total) < 0)
                return;

        switch (status) {
        case WMT_BACKUPRESTORE_BEGIN:
                break;
        case WMT_INDEX_PROGRESS:
                if (sd_bus_message_read(signal, "v", "u", &percent) < 0)
                        return;
                break;
        case WMT_BACKUPRESTORE_CONNECTING:
        case WMT_BACKUPRESTORE_DISCONNECTING:
        case WMT_NEEDS_INDIVIDUALIZATION:
                note_origin(follow, signal);
                return;
        default:
                return;
        }

        g_autofree char *detail =
                total > 0 ? g_strdup_printf("%" PRIu64 " of %" PRIu64, completed, total) : NULL;
        bar_update(&follow->bar, percent, detail);
}

static void on_done(Follow *follow, sd_bus_message *signal) {
        const char *error, *message;
        uint32_t status;
        int32_t hresult;

        bar_erase(&follow->bar);
        if (sd_bus_message_read(signal, "uiss", &status, &hresult, &error, &message) < 0 ||
            status != WMT_BACKUPRESTORE_END || json_read_dictionary(signal, &follow->end.result) < 0) {
                leave(follow, bus_fail_parse(follow->ctl));
                return;
        }

        if (follow->copy_status != STATUS_OK)
                /* The job ended because we closed the pipe, and why has been said. */
                leave(follow, follow->copy_status);
        else if (hresult < 0 && follow->end.origin && error_from_name(error) == ERROR_NEEDS_INDIVIDUALIZATION)
                leave(follow, STATUS_CONSENT);
        else if (hresult < 0)
                leave(follow, bus_fail_named(follow->ctl, error, message, follow->about));
        else {
                follow->ended = true;
                leave_when_complete(follow);
        }
}

/*
 * Sees every message that is no reply. The service sends to us alone, so no match rule is needed; and
 * anyone can send us a signal that looks like one of the job, so the sender decides.
 */
static int on_message(sd_bus_message *message, void *userdata, sd_bus_error *ret_error) {
        Follow *follow = userdata;

        if (sd_bus_message_is_signal(message, "org.freedesktop.DBus.Local", "Disconnected")) {
                bar_erase(&follow->bar);
                leave(follow, bus_fail_lost(follow->ctl));
                return 0;
        }

        if (!follow->end.job || follow->ended ||
            g_strcmp0(sd_bus_message_get_sender(message), follow->end.service) != 0 ||
            g_strcmp0(sd_bus_message_get_path(message), follow->end.job) != 0)
                return 0;

        if (sd_bus_message_is_signal(message, JOB_INTERFACE, "Progress"))
                on_progress(follow, message);
        else if (sd_bus_message_is_signal(message, JOB_INTERFACE, "Done"))
                on_done(follow, message);
        return 0;
}

static int on_owner_changed(sd_bus_message *signal, void *userdata, sd_bus_error *ret_error) {
        const char *name, *old_owner, *new_owner;
        Follow *follow = userdata;

        /* A match whose sender is no unique name is, to sd-bus, met by any sender. */
        if (g_strcmp0(sd_bus_message_get_sender(signal), "org.freedesktop.DBus") != 0 ||
            sd_bus_message_read(signal, "sss", &name, &old_owner, &new_owner) < 0)
                return 0;

        /* Before the answer, the bus answers for a service that went away. */
        if (follow->end.service && !follow->ended && strcmp(old_owner, follow->end.service) == 0) {
                bar_erase(&follow->bar);
                leave(follow, bus_fail_vanished(follow->ctl));
        }
        return 0;
}

static int on_copy(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        static uint8_t buffer[COPY_SIZE];
        Follow *follow = userdata;
        ssize_t n;

        n = read(fd, buffer, sizeof buffer);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return 0;

        if (n > 0) {
                follow->copy_status = ctl_write(follow->ctl, buffer, (size_t)n);
                if (follow->copy_status == STATUS_OK) {
                        follow->end.copied += (uint64_t)n;
                        leave_when_complete(follow);
                        return 0;
                }
                if (follow->ended) {
                        leave(follow, follow->copy_status);
                        return 0;
                }
                if (follow->end.job)
                        send_cancel(follow);
        }

        /* Freeing the source closes the pipe, so that a service that still writes notices. */
        follow->copy = sd_event_source_unref(follow->copy);
        leave_when_complete(follow);
        return 0;
}

static int add_signals(Follow *follow) {
        static const int numbers[] = { SIGINT, SIGTERM, SIGHUP };
        int r;

        for (unsigned i = 0; i < G_N_ELEMENTS(numbers); i++)
                if (sigismember(&follow->interrupts.signals, numbers[i]) == 1) {
                        r = sd_event_add_signal(follow->event, NULL, numbers[i], on_interrupt, follow);
                        if (r < 0)
                                return r;
                }
        return 0;
}

static int add_copy(Follow *follow, int fd) {
        int r;

        r = sd_event_add_io(follow->event, &follow->copy, fd, EPOLLIN, on_copy, follow);
        if (r < 0) {
                close(fd);
                return r;
        }
        return sd_event_source_set_io_fd_own(follow->copy, true);
}

/* Whether a person may be asked for a password, and it is the service that loses patience. */
static bool may_ask(sd_bus_message *call) {
        return sd_bus_message_get_allow_interactive_authorization(call) > 0;
}

/* Everything that listens is in place before the call goes out. */
static int begin(Follow *follow, sd_bus_slot **filter, sd_bus_slot **match, sd_bus_message *call) {
        sd_bus *bus = follow->ctl->bus;
        int r;

        if ((r = sd_bus_attach_event(bus, follow->event, SD_EVENT_PRIORITY_NORMAL)) < 0 ||
            (r = add_signals(follow)) < 0 ||
            (r = sd_bus_add_filter(bus, filter, on_message, follow)) < 0 ||
            (r = sd_bus_add_match(bus, match,
                    "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                    "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" BUS_NAME "'",
                    on_owner_changed, follow)) < 0)
                return r;
        return sd_bus_call_async(bus, NULL, call, on_reply, follow, may_ask(call) ? PERSON_USEC : 0);
}

/* Makes the call, and answers with the path of the job's object; call is freed. */
static Status start(Ctl *ctl, sd_bus_message *call, const char *about, char **ret_job) {
        __attribute__((cleanup(sd_bus_error_free))) sd_bus_error error = SD_BUS_ERROR_NULL;
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *reply = NULL;
        const char *job;
        int r;

        if (may_ask(call))
                agent_open(ctl);
        r = sd_bus_call(ctl->bus, call, may_ask(call) ? PERSON_USEC : 0, &error, &reply);
        agent_close();
        sd_bus_message_unref(call);
        if (r < 0)
                return bus_fail(ctl, &error, about);
        if (sd_bus_message_read(reply, "o", &job) < 0)
                return bus_fail_parse(ctl);
        *ret_job = g_strdup(job);
        return STATUS_OK;
}

Status follow_not(Ctl *ctl, sd_bus_message *call, const char *about) {
        g_autofree char *job = NULL;
        Status status;

        status = start(ctl, call, about, &job);
        if (status != STATUS_OK || !job)
                return status;

        ctl_result(ctl, "job", json_string(job));
        if (!ctl->json)
                puts(job_id(job));
        ctl_note(ctl, "To learn how it ends, within a minute of that: licensevaultctl wait %s", job_id(job));
        return ctl_flush(ctl);
}

Status follow_job(Ctl *ctl, sd_bus_message *call, const char *label, const char *about, int copy_from,
        JobEnd *ret) {
        sd_bus_slot *filter = NULL, *match = NULL;
        Follow follow = { .ctl = ctl, .about = about, .status = STATUS_FAILED };
        int r;

        interrupt_block(&follow.interrupts);
        bar_init(&follow.bar, label, ctl->quiet);
        if (may_ask(call))
                agent_open(ctl);
        r = sd_event_new(&follow.event);
        if (r >= 0)
                r = copy_from >= 0 ? add_copy(&follow, copy_from) : 0;
        if (r >= 0)
                r = begin(&follow, &filter, &match, call);
        sd_bus_message_unref(call);
        if (r >= 0)
                r = sd_event_loop(follow.event);
        if (r < 0)
                follow.status = bus_fail_build(ctl, r);

        sd_bus_slot_unref(match);
        sd_bus_slot_unref(filter);
        sd_event_source_unref(follow.copy);
        sd_bus_detach_event(ctl->bus);
        sd_event_unref(follow.event);
        agent_close();
        interrupt_restore(&follow.interrupts);

        if (follow.status == STATUS_OK || (follow.status == STATUS_CONSENT && follow.end.origin))
                *ret = follow.end;
        else
                job_end_clear(&follow.end);
        return follow.status;
}

void job_end_clear(JobEnd *end) {
        g_free(end->job);
        g_free(end->service);
        g_free(end->origin);
        json_decref(end->result);
        *end = (JobEnd) {};
}
