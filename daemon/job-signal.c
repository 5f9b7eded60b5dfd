/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job-signal.h"

#include <string.h>

#include "log.h"

#define PROGRESS_WINDOW_USEC G_USEC_PER_SEC /* in which there are at most as many signals as told[] has places */
#define PROGRESS_MAX 128U

static int append_strings(sd_bus_message *message, const char *name, char **strings) {
        int r;

        if ((r = sd_bus_message_open_container(message, 'e', "sv")) < 0 ||
            (r = sd_bus_message_append(message, "s", name)) < 0 ||
            (r = sd_bus_message_open_container(message, 'v', "as")) < 0 ||
            (r = sd_bus_message_append_strv(message, strings)) < 0 ||
            (r = sd_bus_message_close_container(message)) < 0)
                return r;
        return sd_bus_message_close_container(message);
}

static int append_restored(const WorkResult *result, sd_bus_message *message) {
        int r;

        if ((r = sd_bus_message_open_container(message, 'a', "{sv}")) < 0 ||
            (r = sd_bus_message_append(message, "{sv}{sv}{sv}{sv}{sv}{sv}",
                 "restored", "t", result->restored,
                 "unchanged", "t", result->unchanged,
                 "newer_kept", "t", result->newer_kept,
                 "conflicts", "t", result->conflicts,
                 "revoked", "t", result->revoked,
                 "skipped", "t", result->skipped)) < 0 ||
            (r = append_strings(message, "skipped_users", result->skipped_users)) < 0)
                return r;
        return sd_bus_message_close_container(message);
}

static int append_made(const WorkResult *result, sd_bus_message *message) {
        int r;

        if ((r = sd_bus_message_open_container(message, 'a', "{sv}")) < 0 ||
            (r = sd_bus_message_append(message, "{sv}", "licenses", "t", result->licenses)) < 0 ||
            (r = sd_bus_message_append(message, "{sv}", "restricted", "t", result->restricted)) < 0 ||
            (r = sd_bus_message_append(message, "{sv}", "bytes", "t", result->bytes)) < 0 ||
            (r = sd_bus_message_append(message, "{sv}", "verified", "b", (int)result->verified)) < 0)
                return r;
        if (result->damaged > 0 &&
            ((r = sd_bus_message_append(message, "{sv}", "damaged", "t", result->damaged)) < 0 ||
             (r = append_strings(message, "damaged_licenses", result->damaged_licenses)) < 0))
                return r;
        if (result->set_aside && result->aside_is_own &&
            (r = sd_bus_message_append(message, "{sv}", "set_aside", "s", result->set_aside)) < 0)
                return r;
        return sd_bus_message_close_container(message);
}

int job_append_result_details(const Job *job, sd_bus_message *message) {
        if (job->state != JOB_DONE)
                return sd_bus_message_append(message, "a{sv}", 0);
        if (job->kind == JOB_RESTORE)
                return append_restored(&job->result, message);
        return append_made(&job->result, message);
}

int job_append_result(const Job *job, sd_bus_message *message) {
        int r;

        r = sd_bus_message_append(message, "iss", error_hresult(job->error.code), error_name(job->error.code),
                error_message(&job->error));
        return r < 0 ? r : job_append_result_details(job, message);
}

static uint64_t strings_bytes(char *const *strings) {
        uint64_t bytes = 0;

        for (; strings && *strings; strings++)
                bytes += 8 + strlen(*strings);
        return bytes;
}

uint64_t job_result_bytes(const Job *job) {
        return strlen(error_message(&job->error)) + strings_bytes(job->result.damaged_licenses) +
                strings_bytes(job->result.skipped_users);
}

static uint64_t progress_bytes(const ProgressValue *value) {
        uint64_t bytes = value && value->text ? strlen(value->text) : 0;

        for (unsigned i = 0; value && value->restricted && i < value->restricted->len; i++)
                bytes += 8 + strlen(value->restricted->pdata[i]);
        return bytes;
}

static int append_progress_value(const Job *job, WmtStatus status, const ProgressValue *value,
                sd_bus_message *message) {
        int r;

        switch (status) {
        case WMT_BACKUPRESTORE_BEGIN:
                return sd_bus_message_append(message, "v", "t", job->total);
        case WMT_INDEX_PROGRESS:
                return sd_bus_message_append(message, "v", "u", (uint32_t)job->percent);
        case WMT_BACKUPRESTORE_CONNECTING:
        case WMT_BACKUPRESTORE_DISCONNECTING:
        case WMT_NEEDS_INDIVIDUALIZATION:
                return sd_bus_message_append(message, "v", "s", value->text);
        default:
                if ((r = sd_bus_message_open_container(message, 'v', "a(sss)")) < 0 ||
                    (r = sd_bus_message_open_container(message, 'a', "(sss)")) < 0)
                        return r;
                for (unsigned i = 0; r >= 0 && i < value->restricted->len; i += 3)
                        r = sd_bus_message_append(message, "(sss)", value->restricted->pdata[i],
                                value->restricted->pdata[i + 1], value->restricted->pdata[i + 2]);
                if (r < 0 || (r = sd_bus_message_close_container(message)) < 0)
                        return r;
                return sd_bus_message_close_container(message);
        }
}

/* Sends one signal to one connection. */
static void send_signal(Job *job, const char *name, WmtStatus status, const ProgressValue *value) {
        Manager *manager = job->manager;
        sd_bus_message *message = NULL;
        int r;

        r = sd_bus_message_new_signal(manager->bus, &message, job->path, JOB_INTERFACE,
                status == WMT_BACKUPRESTORE_END ? "Done" : "Progress");
        if (r >= 0)
                r = sd_bus_message_set_destination(message, name);
        if (r >= 0)
                r = sd_bus_message_append(message, "u", (uint32_t)status);
        if (r >= 0 && status == WMT_BACKUPRESTORE_END)
                r = job_append_result(job, message);
        else if (r >= 0) {
                r = sd_bus_message_append(message, "itt", 0, job->completed, job->total);
                if (r >= 0)
                        r = append_progress_value(job, status, value, message);
        }
        if (r < 0) {
                log_warning("A signal of a job cannot be made: %s", g_strerror(-r));
                sd_bus_message_unref(message);
                return;
        }
        manager_send_large(manager, message,
                status == WMT_BACKUPRESTORE_END ? job_result_bytes(job) : progress_bytes(value));
}

/* Tells those who may know: the connection that asked, and those of its user, or of root, that subscribed. */
void job_tell(Job *job, WmtStatus status, const ProgressValue *value) {
        Manager *manager = job->manager;

        if (job->requester)
                send_signal(job, job->requester, status, value);
        for (GList *link = manager->callers_by_use.head; link; link = link->next) {
                const Caller *caller = link->data;

                if (caller->subscribed && job_is_visible(job, caller) &&
                    g_strcmp0(caller->name, job->requester) != 0)
                        send_signal(job, caller->name, status, value);
        }
}

/* Whether one more Progress may be sent now: ten in a second, and so many in all. spare places stay free. */
static bool may_tell(const Job *job, unsigned spare) {
        const unsigned n = G_N_ELEMENTS(job->told);
        int64_t now = g_get_monotonic_time();

        if (job->manager->congested || job->n_told + spare >= PROGRESS_MAX)
                return false;
        return job->n_told + spare < n || now - job->told[(job->n_told + spare) % n] >= PROGRESS_WINDOW_USEC;
}

void job_tell_progress(Job *job, WmtStatus status, const ProgressValue *value) {
        job->told[job->n_told++ % G_N_ELEMENTS(job->told)] = g_get_monotonic_time();
        job_tell(job, status, value);
}

/* Tells what can be told now. The last place in the window is for the last percentage. */
void job_tell_what_is_new(Job *job, bool last) {
        GPtrArray *restricted;

        while (may_tell(job, 1) && (restricted = g_queue_pop_head(&job->restricted_signals))) {
                job_tell_progress(job, WMT_RESTRICTED_LICENSE, &(ProgressValue){ .restricted = restricted });
                g_ptr_array_unref(restricted);
        }

        if (job->percent > job->percent_told && may_tell(job, last ? 0 : 1)) {
                job->percent_told = job->percent;
                job_tell_progress(job, WMT_INDEX_PROGRESS, NULL);
        }
}
