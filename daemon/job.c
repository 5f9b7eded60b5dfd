/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job-run.h"

#include <string.h>

#include "job-signal.h"
#include "job-start.h"
#include "log.h"
#include "notice.h"

#define PATIENCE_USEC (5 * G_USEC_PER_SEC) /* with a worker that was told to end */
#define WAITERS_MAX 64U
#define LISTS_BYTES_MAX (16U * 1024 * 1024) /* of all results of a user that are kept */

static const char *const state_names[] = {
        [JOB_CHECKING] = "queued",
        [JOB_QUEUED] = "queued",
        [JOB_RUNNING] = "running",
        [JOB_DONE] = "done",
        [JOB_FAILED] = "failed",
        [JOB_CANCELED] = "canceled",
};

static const struct {
        const char *name;
        const char *noun;     /* in a sentence */
        const char *canceled; /* what its user is told who wanted it so */
        const char *stopped;  /* and when the service stops */
        const char *stalled;  /* what is said after "The file … nothing for 60 s." */
        const char *hung;     /* the same of a folder's disk */
} kinds[] = {
        [JOB_BACKUP] = {
                "backup",
                "backup",
                "The backup was canceled. What was backed up before is unchanged.",
                "The service is being stopped. Start the backup again when it is back; what was backed up before is "
                "unchanged.",
                "What was written so far is not a backup. Try another place.",
                "See to it, or use another one; what was backed up before is unchanged.",
        },
        [JOB_RESTORE] = {
                "restore",
                "restore",
                "The restore was canceled. No license was changed.",
                "The service is being stopped. Start the restore again when it is back; no license was changed.",
                "No license was changed. Copy the backup to another place, and try again.",
                "No license was changed. See to it, and try again.",
        },
        [JOB_VERIFY] = {
                "verify",
                "check",
                "The check was canceled.",
                "The service is being stopped. Start the check again when it is back.",
                "Copy the backup to another place, and try again.",
                NULL, /* it has a descriptor */
        },
};

const char *job_kind_name(const Job *job) {
        return kinds[job->kind].name;
}

const char *job_noun(JobKind kind) {
        return kinds[kind].noun;
}

const char *job_state_name(const Job *job) {
        return state_names[job->state];
}

static bool has_ended(const Job *job) {
        return job->state >= JOB_DONE;
}

bool job_is_cancelable(const Job *job) {
        return !has_ended(job) && !cancel_requested(job->cancel) && !(job->worker && worker_settles(job->worker));
}

bool job_is_visible(const Job *job, const Caller *caller) {
        return job->state != JOB_CHECKING && (caller->user == job->user || caller->user->uid == 0);
}

bool job_path_is_valid(const char *path) {
        const char *id = path + strlen(JOB_PATH "/");

        return g_str_has_prefix(path, JOB_PATH "/") && strlen(id) == 16 &&
               strspn(id, "0123456789abcdef") == 16;
}

int job_find(Manager *manager, const Caller *caller, const char *path, Job **ret, Error *error) {
        Job *job = NULL;
        uint64_t id;

        if (job_path_is_valid(path)) {
                id = g_ascii_strtoull(path + strlen(JOB_PATH "/"), NULL, 16);
                job = g_hash_table_lookup(manager->jobs, &id);
        }
        if (!job || !job_is_visible(job, caller))
                return error_set(error, ERROR_UNKNOWN_OBJECT,
                        "There is no such job. It may have ended too long ago; ListJobs tells which there are.");
        *ret = job;
        return 0;
}

void job_begin(Job *job, uint64_t total) {
        if (job->begun)
                return;
        job->begun = true;
        job->total = total;
        job_tell_progress(job, WMT_BACKUPRESTORE_BEGIN, NULL);
}

/* Fills the empty answer to a Wait() and sends it; takes the reference. */
static void answer_waiter(Job *job, sd_bus_message *reply) {
        if (job_append_result(job, reply) >= 0)
                manager_send_large(job->manager, reply, job_result_bytes(job));
        else
                sd_bus_message_unref(reply);
}

Job *job_free(Job *job) {
        Manager *manager = job->manager;
        GPtrArray *restricted;

        job_leave_worker(job, false);
        g_hash_table_remove(manager->jobs, &job->id);
        g_queue_remove(&manager->queued, job);
        g_queue_remove(&job->user->ended, job);
        if (job->user->job == job)
                job->user->job = NULL;
        while ((restricted = g_queue_pop_head(&job->restricted_signals)))
                g_ptr_array_unref(restricted);
        sd_event_source_disable_unref(job->tick);
        sd_event_source_disable_unref(job->patience);
        sd_event_source_disable_unref(job->expiry);
        sd_bus_message_unref(job->call);
        cancel_unref(job->cancel);
        restricted_unref(job->restricted);
        g_ptr_array_unref(job->waiters);
        error_clear(&job->error);
        work_result_clear(&job->result);
        user_unref(job->user);
        g_free(job->requester);
        g_free(job);
        return NULL;
}

static int on_expiry(sd_event_source *source, uint64_t usec, void *userdata) {
        job_free(userdata);
        return 0;
}

/*
 * Their lists lie on the store's disk, and no limit of the user's counts them: one backup after the other would lay
 * there what the user may have, as often as there are results. The last is kept, however long.
 */
static bool are_lists_too_long(const GQueue *ended) {
        uint64_t bytes = 0;

        for (const GList *link = ended->head; link; link = link->next)
                bytes += restricted_bytes(((const Job *)link->data)->restricted);
        return ended->length > 1 && bytes > LISTS_BYTES_MAX;
}

static void keep_result(Job *job) {
        Manager *manager = job->manager;
        GQueue *ended = &job->user->ended;

        g_queue_push_tail(ended, job);
        while (ended->length > manager->config.results_per_user || are_lists_too_long(ended))
                job_free(g_queue_peek_head(ended));

        if (sd_event_add_time_relative(manager->event, &job->expiry, CLOCK_MONOTONIC,
                    manager->config.result_seconds * UINT64_C(1000000), 0, on_expiry, job) < 0)
                job_free(job);
}

void job_finish(Job *job, Error *error) {
        Manager *manager = job->manager;

        if (job->state == JOB_RUNNING) {
                manager->n_running--;
                manager->n_outside -= job->outside;
        }
        manager->n_unfinished--;
        g_queue_remove(&manager->queued, job);
        if (job->user->job == job)
                job->user->job = NULL;
        job->tick = sd_event_source_disable_unref(job->tick);
        job->patience = sd_event_source_disable_unref(job->patience);

        job_begin(job, 0);
        error_move(&job->error, error);
        if (job->error.code == ERROR_NONE) {
                job->completed = job->total;
                job->percent = 100;
        }
        job_tell_what_is_new(job, true);
        /* Before Done: who was told of a failure finds it in the log. */
        notice_error(&job->error);
        notice_job(job, &job->error);

        job->state = job->error.code == ERROR_NONE     ? JOB_DONE :
                     job->error.code == ERROR_CANCELED ? JOB_CANCELED :
                                                         JOB_FAILED;
        job_tell(job, WMT_BACKUPRESTORE_END, NULL);
        for (unsigned i = 0; i < job->waiters->len; i++)
                answer_waiter(job, sd_bus_message_ref(job->waiters->pdata[i]));
        g_ptr_array_set_size(job->waiters, 0);

        if (job->release)
                job_free(job);
        else
                keep_result(job);
        manager_tick_soon(manager);
        job_schedule(manager);
        manager_maybe_exit(manager);
}

/* Ends the job, for this reason, and leaves the thread to itself, which hangs. */
static void abandon(Job *job, ErrorCode code, const char *why) {
        g_auto(Error) error = {};

        log_warning("A %s of user %" PRIu32 " hangs in the system and was abandoned.", kinds[job->kind].noun,
                (uint32_t)job->user->uid);
        if (worker_settles(job->worker))
                error_set(&error, ERROR_MEDIUM,
                        "The disk does not answer any more, and whether the new backup is in its place cannot be told. "
                        "See to it, and make another backup.");
        else
                error_set(&error, code, "%s", why);
        job_leave_worker(job, true);
        job_finish(job, &error);
}

/* Whether it is in the store, or comes from there with the last word: that is no hang, and who asks has to hear it. */
static bool is_waited_for(const Job *job) {
        return worker_in_store(job->worker) || (job->kind == JOB_RESTORE && worker_settles(job->worker));
}

/* A worker that does not end when it is told to. */
static int on_patience_over(sd_event_source *source, uint64_t usec, void *userdata) {
        Job *job = userdata;

        if (is_waited_for(job)) {
                (void)sd_event_source_set_time_relative(source, PATIENCE_USEC);
                return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        }
        abandon(job, ERROR_CANCELED, cancel_reason(job->cancel));
        return 0;
}

static void be_patient(Job *job) {
        if (!job->patience &&
            sd_event_add_time_relative(job->manager->event, &job->patience, CLOCK_MONOTONIC, PATIENCE_USEC, 0,
                    on_patience_over, job) < 0)
                log_warning("No timer for the end of a job: it is waited for without one.");
}

bool job_give_up(Job *job) {
        g_autofree char *why = NULL;

        /* The worker says that it goes into the store, and looks for a cancel before it leaves it. */
        cancel_trigger(job->cancel, "It stood still for too long.");
        if (is_waited_for(job)) {
                be_patient(job);
                return false;
        }
        why = g_strdup_printf("The %s %s nothing for %u s. %s", job->in_folder ? "disk" : "file",
                job->kind == JOB_BACKUP ? "took" : "gave", job->manager->config.stall_seconds,
                job->in_folder ? kinds[job->kind].hung : kinds[job->kind].stalled);
        abandon(job, ERROR_MEDIUM, why);
        return true;
}

void job_cancel(Job *job, const char *reason) {
        g_auto(Error) error = {};

        /* A restore that settles ends by itself. A backup that does may still hang: that is found out. */
        if (has_ended(job) || cancel_requested(job->cancel) ||
            (job->kind == JOB_RESTORE && job->worker && worker_settles(job->worker)))
                return;
        reason = reason ?: kinds[job->kind].canceled;
        cancel_trigger(job->cancel, reason);
        if (job->state == JOB_CHECKING)
                return; /* it is answered first, and ends then */

        if (job->state == JOB_QUEUED) {
                job_leave_worker(job, !job->checked);
                error_set(&error, ERROR_CANCELED, "%s", reason);
                job_finish(job, &error);
                return;
        }

        be_patient(job);
}

void job_cancel_all(Manager *manager) {
        g_autoptr(GPtrArray) jobs = g_ptr_array_new();
        GHashTableIter iterator;
        Job *job;

        /* Each may end here and now, which may free ended ones, and never one that has not ended. */
        g_hash_table_iter_init(&iterator, manager->jobs);
        while (g_hash_table_iter_next(&iterator, NULL, (void **)&job))
                if (!has_ended(job))
                        g_ptr_array_add(jobs, job);
        for (unsigned i = 0; i < jobs->len; i++)
                job_cancel(jobs->pdata[i], kinds[((Job *)jobs->pdata[i])->kind].stopped);
}

void job_release(Job *job) {
        if (has_ended(job))
                job_free(job);
        else
                job->release = true;
}

int job_wait(Job *job, sd_bus_message *message, Error *error) {
        sd_bus_message *reply = NULL;
        int r;

        if (job->waiters->len >= WAITERS_MAX)
                return error_set(error, ERROR_LIMIT_EXCEEDED,
                        "%u calls wait for this job already. Subscribe to its signals instead.", WAITERS_MAX);

        /* The answer is kept, and not the call: that may be large, and hold descriptors. */
        r = sd_bus_message_new_method_return(message, &reply);
        if (r < 0)
                return r;
        if (has_ended(job))
                answer_waiter(job, reply);
        else
                g_ptr_array_add(job->waiters, reply);
        return 0;
}

void job_forget_connection(Manager *manager, const char *name) {
        GHashTableIter iterator;
        Job *job;

        g_hash_table_iter_init(&iterator, manager->jobs);
        while (g_hash_table_iter_next(&iterator, NULL, (void **)&job)) {
                if (!name || g_strcmp0(job->requester, name) == 0)
                        g_clear_pointer(&job->requester, g_free);
                for (unsigned i = job->waiters->len; i > 0; i--)
                        if (!name || g_strcmp0(sd_bus_message_get_destination(job->waiters->pdata[i - 1]), name) == 0)
                                g_ptr_array_remove_index(job->waiters, i - 1);
        }
}

int job_not_started(JobKind kind, int r, Error *error) {
        return error_set_errno(error, ERROR_LIMIT_EXCEEDED, r, "The %s cannot be started now, try again later",
                kinds[kind].noun);
}
