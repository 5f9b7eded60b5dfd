/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <systemd/sd-event.h>

#include "bus.h"
#include "job.h"
#include "json.h"
#include "text.h"

/*
 * monitor subscribes to the signals of all jobs of the user, and prints each event on a line of its own. When the
 * service goes away it says so, waits until somebody starts it again (it does not do that itself), and subscribes anew.
 */

typedef struct Job {
        char *kind;
        uint32_t owner;
} Job;

static void job_free(void *pointer) {
        Job *job = pointer;

        g_free(job->kind);
        g_free(job);
}

typedef struct Monitor {
        Ctl *ctl;
        sd_event *event;
        char *service;    /* the unique name that answered Subscribe(); NULL while there is none */
        GHashTable *seen; /* what each job is, a Job, by path */
        Status status;
} Monitor;

static int leave(Monitor *monitor, Status status) {
        monitor->status = status;
        return sd_event_exit(monitor->event, 0);
}

static char *time_now(void) {
        g_autoptr(GDateTime) now = g_date_time_new_now_local();

        return g_date_time_format(now, terminal_is_stdout() ? "%H:%M:%S" : "%Y-%m-%d %H:%M:%S");
}

/* Each line is there when it is true, also in a pipe. */
static void flush(Monitor *monitor) {
        Status status = ctl_flush(monitor->ctl);

        if (status != STATUS_OK)
                leave(monitor, status);
}

static void print_json(Monitor *monitor, const char *event, json_t *members) {
        json_auto_t *object = json_pack("{ss sI}", "event", event, "time",
                (json_int_t)(g_get_real_time() / G_USEC_PER_SEC));

        (void)json_object_update(object, members);
        ctl_print_json(object);
        flush(monitor);
}

static void print_line(Monitor *monitor, const char *id, const char *what, Tone tone, const char *text) {
        bool terminal = terminal_is_stdout();
        g_autofree char *time = time_now(), *safe = text_safe_for(terminal, text),
                        *safe_what = text_safe_for(terminal, what);

        if (terminal)
                printf("%s  %-16s  %-20s  %s%s%s\n", time, id, safe_what, terminal_begin(STDOUT_FILENO, tone), safe,
                        terminal_end(STDOUT_FILENO, tone));
        else
                printf("%s\t%s\t%s\t%s\n", time, id, safe_what, safe);
        flush(monitor);
}

/* What a job is, asked for once; NULL where the service has forgotten it. */
static const Job *find_job(Monitor *monitor, const char *path) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *reply = NULL;
        Job *job = g_hash_table_lookup(monitor->seen, path);
        json_auto_t *properties = NULL;

        if (job)
                return job;
        if (sd_bus_call_method(monitor->ctl->bus, monitor->service, path, "org.freedesktop.DBus.Properties", "GetAll",
                    NULL, &reply, "s", JOB_INTERFACE) < 0 || json_read_dictionary(reply, &properties) < 0)
                return NULL;
        job = g_new(Job, 1);
        *job = (Job) { g_strdup(json_get_string(properties, "Kind")), (uint32_t)json_get_u64(properties, "Owner") };
        g_hash_table_insert(monitor->seen, g_strdup(path), job);
        return job;
}

/* An event of a job. members, what --json prints besides, is taken. */
static void print_job_event(Monitor *monitor, const char *event, const char *path, Tone tone, const char *text,
        json_t *members) {
        const Job *job = find_job(monitor, path);

        (void)json_object_set_new(members, "job", json_string(path));
        if (job) {
                (void)json_object_set_new(members, "kind", json_string(job->kind));
                (void)json_object_set_new(members, "owner", json_integer(job->owner));
        }
        if (monitor->ctl->json)
                print_json(monitor, event, members);
        else {
                g_autofree char *user = job ? job_user(job->owner) : NULL,
                                *what = job ? g_strdup_printf("%s of %s", job->kind, user) : g_strdup("job");
                print_line(monitor, job_id(path), what, tone, text);
        }
        json_decref(members);
}

/* An event of the service itself. */
static void print_service_event(Monitor *monitor, const char *event, Tone tone, const char *text) {
        json_auto_t *nothing = json_object();

        if (monitor->ctl->json)
                print_json(monitor, event, nothing);
        else
                print_line(monitor, "-", "service", tone, text);
}

/* Those that are there already, once after each Subscribe(); what comes later says its signals. */
static Status print_present(Monitor *monitor) {
        g_autoptr(GPtrArray) jobs = NULL;
        Status status;

        status = job_list(monitor->ctl, &jobs);
        if (status != STATUS_OK)
                return status;
        for (unsigned i = 0; i < jobs->len; i++) {
                const JobRow *job = jobs->pdata[i];

                if (job_is_active(job))
                        print_job_event(monitor, "present", job->path, TONE_PLAIN, job->state,
                                json_pack("{ss}", "state", job->state));
        }
        return STATUS_OK;
}

/* Progress */

static void on_progress(Monitor *monitor, const char *path, sd_bus_message *signal) {
        const char *event = NULL, *string = "";
        g_autofree char *text = NULL;
        json_auto_t *licenses = NULL;
        uint64_t completed, total;
        uint32_t status, percent;
        int32_t hresult;
        json_t *object;

        /* What a later service may send besides is passed over. */
        if (sd_bus_message_read(signal, "uitt", &status, &hresult, &completed, &total) < 0)
                return;

        object = json_pack("{so so}", "completed", json_from_u64(completed), "total", json_from_u64(total));
        switch (status) {
        case WMT_BACKUPRESTORE_BEGIN:
                event = "begin";
                text = total > 0 ? g_strdup_printf("begins, %" PRIu64 " licenses", total) : g_strdup("begins");
                break;
        case WMT_INDEX_PROGRESS:
                if (sd_bus_message_read(signal, "v", "u", &percent) < 0)
                        break;
                event = "progress";
                text = g_strdup_printf("%" PRIu32 " %%, %" PRIu64 " of %" PRIu64, percent, completed, total);
                (void)json_object_set_new(object, "percent", json_integer(percent));
                break;
        case WMT_RESTRICTED_LICENSE:
                if (sd_bus_message_enter_container(signal, 'v', "a(sss)") < 0 ||
                    json_read_licenses(signal, &licenses) < 0)
                        break;
                event = "restricted";
                text = g_strdup_printf("%zu may not be backed up", json_array_size(licenses));
                (void)json_object_set(object, "licenses", licenses);
                break;
        case WMT_BACKUPRESTORE_CONNECTING:
        case WMT_BACKUPRESTORE_DISCONNECTING:
        case WMT_NEEDS_INDIVIDUALIZATION:
                if (sd_bus_message_read(signal, "v", "s", &string) < 0)
                        break;
                event = status == WMT_BACKUPRESTORE_CONNECTING ? "origin" :
                        status == WMT_BACKUPRESTORE_DISCONNECTING ? "accepted" : "consent";
                text = g_strdup_printf(status == WMT_BACKUPRESTORE_CONNECTING ? "the backup is of %s" :
                        status == WMT_BACKUPRESTORE_DISCONNECTING ? "the backup of %s is accepted" :
                        "the backup of %s needs consent", string);
                (void)json_object_set_new(object, "origin", json_string(string));
                break;
        default:
                break;
        }

        if (!event) {
                json_decref(object);
                return;
        }
        print_job_event(monitor, event, path, TONE_PLAIN, text, object);
}

static void on_done(Monitor *monitor, const char *path, sd_bus_message *signal) {
        const char *error, *message;
        g_autofree char *text = NULL;
        json_auto_t *result = NULL;
        uint32_t status;
        int32_t hresult;
        Tone tone;

        if (sd_bus_message_read(signal, "uiss", &status, &hresult, &error, &message) < 0 ||
            json_read_dictionary(signal, &result) < 0)
                return;

        if (hresult >= 0) {
                g_autofree char *outcome = job_outcome(result);
                text = g_strdup_printf("done: %s", outcome);
                tone = job_is_partial(result) ? TONE_WARNING : TONE_GOOD;
        } else {
                bool canceled = error_from_name(error) == ERROR_CANCELED;
                g_autofree char *words = bus_words(error, message);
                text = g_strdup_printf("%s: %s", canceled ? "canceled" : "failed", words);
                tone = canceled ? TONE_WARNING : TONE_BAD;
        }
        print_job_event(monitor, "done", path, tone, text,
                json_pack("{si ss ss sO}", "hresult", (int)hresult, "error", error, "message", message, "result",
                        result));
        g_hash_table_remove(monitor->seen, path);
}

/* Only what the service sent counts: anybody can send a signal that looks like one of a job. */
static int on_message(sd_bus_message *message, void *userdata, sd_bus_error *ret_error) {
        g_autofree char *path = g_strdup(sd_bus_message_get_path(message));
        Monitor *monitor = userdata;

        if (sd_bus_message_is_signal(message, "org.freedesktop.DBus.Local", "Disconnected"))
                return leave(monitor, bus_fail_lost(monitor->ctl));
        if (!path || !monitor->service || g_strcmp0(sd_bus_message_get_sender(message), monitor->service) != 0)
                return 0;
        if (sd_bus_message_is_signal(message, JOB_INTERFACE, "Progress"))
                on_progress(monitor, path, message);
        else if (sd_bus_message_is_signal(message, JOB_INTERFACE, "Done"))
                on_done(monitor, path, message);
        return 0;
}

/* The service comes and goes */

/* Only the first call may have the service started: later, whoever stopped it meant that. */
static Status subscribe(Monitor *monitor, bool first) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *call = NULL, *reply = NULL;
        Status status;

        status = bus_call_new(monitor->ctl, BUS_MANAGER, "Subscribe", &call, NULL);
        if (status != STATUS_OK)
                return status;
        if (!first)
                (void)sd_bus_message_set_auto_start(call, false);
        status = bus_call(monitor->ctl, call, NULL, &reply);
        if (status != STATUS_OK)
                return status;
        g_free(monitor->service);
        monitor->service = g_strdup(sd_bus_message_get_sender(reply));
        g_hash_table_remove_all(monitor->seen);
        return STATUS_OK;
}

static int on_owner_changed(sd_bus_message *signal, void *userdata, sd_bus_error *ret_error) {
        const char *name, *old_owner, *new_owner;
        Monitor *monitor = userdata;
        Status status;

        /* A match whose sender is no unique name is, to sd-bus, met by any sender. */
        if (g_strcmp0(sd_bus_message_get_sender(signal), "org.freedesktop.DBus") != 0 ||
            sd_bus_message_read(signal, "sss", &name, &old_owner, &new_owner) < 0)
                return 0;
        /* That of our own first call, which had it started: Subscribe() has answered already. */
        if (g_strcmp0(new_owner, monitor->service) == 0)
                return 0;
        if (*old_owner && monitor->service) {
                g_clear_pointer(&monitor->service, g_free);
                print_service_event(monitor, "stopped", TONE_WARNING,
                        "stopped, and its jobs with it; waiting for its return");
        }
        if (!*new_owner)
                return 0;
        status = subscribe(monitor, false);
        if (status == STATUS_OK) {
                /* Who acts on this line misses nothing that comes of it. */
                print_service_event(monitor, "started", TONE_GOOD, "is back");
                status = print_present(monitor);
        }
        /* Gone already? It may come back. */
        return status == STATUS_OK || status == STATUS_UNREACHABLE ? 0 : leave(monitor, status);
}

/* Who runs it in the background ends it so, and that is its good end. (Ctrl-C needs no more than to end it.) */
static int on_terminate(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
        return leave(userdata, STATUS_OK);
}

static int add_terminate(Monitor *monitor) {
        sigset_t terminate;

        sigemptyset(&terminate);
        sigaddset(&terminate, SIGTERM);
        sigprocmask(SIG_BLOCK, &terminate, NULL);
        return sd_event_add_signal(monitor->event, NULL, SIGTERM, on_terminate, monitor);
}

static Status follow(Monitor *monitor) {
        __attribute__((cleanup(sd_bus_slot_unrefp))) sd_bus_slot *filter = NULL, *match = NULL;
        Ctl *ctl = monitor->ctl;
        Status status;
        int r;

        status = bus_connect(ctl);
        if (status != STATUS_OK)
                return status;
        if ((r = sd_event_new(&monitor->event)) < 0 ||
            (r = add_terminate(monitor)) < 0 ||
            (r = sd_bus_attach_event(ctl->bus, monitor->event, SD_EVENT_PRIORITY_NORMAL)) < 0 ||
            (r = sd_bus_add_filter(ctl->bus, &filter, on_message, monitor)) < 0 ||
            (r = sd_bus_add_match(ctl->bus, &match,
                    "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                    "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" BUS_NAME "'",
                    on_owner_changed, monitor)) < 0)
                return bus_fail_build(ctl, r);

        status = subscribe(monitor, true);
        if (status != STATUS_OK)
                return status;
        ctl_note(ctl, "Waiting for jobs. Ctrl-C ends this, and no job.");
        status = print_present(monitor);
        if (status != STATUS_OK)
                return status;
        r = sd_event_loop(monitor->event);
        return r < 0 ? bus_fail_build(ctl, r) : monitor->status;
}

Status command_monitor(Ctl *ctl, char **arguments) {
        Monitor monitor = { .ctl = ctl, .seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, job_free) };
        Status status;

        status = follow(&monitor);
        if (ctl->bus)
                sd_bus_detach_event(ctl->bus);
        sd_event_unref(monitor.event);
        g_hash_table_unref(monitor.seen);
        g_free(monitor.service);
        return status;
}
