/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job-signal.h"
#include "job-start.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "log.h"
#include "notice.h"

#define ANSWER_USEC (1 * G_USEC_PER_SEC)     /* a check that takes longer is told by Done */
#define TICK_USEC (100 * 1000)
/* A thread begins so long after the answer: it would compete with those who carry that for a processor. */
#define BEGIN_USEC 200
#define PATIENCE_USEC (5 * G_USEC_PER_SEC)   /* with a worker that was told to end */
/* Pipes and sockets are waited for by the worker, which says more about it; then it is our turn. */
#define STALL_GRACE_USEC (5 * G_USEC_PER_SEC)
#define WAITERS_MAX 64U

static void schedule(Manager *manager);
static bool give_up(Job *job);
static int start_worker(Job *job);

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

bool job_has_ended(const Job *job) {
        return job->state >= JOB_DONE;
}

bool job_is_cancelable(const Job *job) {
        return !job_has_ended(job) && !cancel_requested(job->cancel) && !(job->worker && worker_settles(job->worker));
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

static void begin(Job *job, uint64_t total) {
        if (job->begun)
                return;
        job->begun = true;
        job->total = total;
        job_tell_progress(job, WMT_BACKUPRESTORE_BEGIN, NULL);
}

/* Whether a client's descriptor, or a disk, has taken or given nothing for too long, and the worker hangs in it. */
static bool stalls(Job *job) {
        int64_t now = g_get_monotonic_time();

        if (!job->watched || worker_in_store(job->worker) || worker_moves(job->worker) != job->moves) {
                job->moves = worker_moves(job->worker);
                job->moved_at = now;
        }
        return now - job->moved_at > job->manager->config.stall_seconds * G_USEC_PER_SEC + STALL_GRACE_USEC;
}

static int on_tick(sd_event_source *source, uint64_t usec, void *userdata) {
        Job *job = userdata;

        job->completed = MAX(job->completed, MIN(worker_completed(job->worker), job->total));
        job->percent = MAX(job->percent, worker_percent(job->worker));
        job_tell_what_is_new(job, false);
        if (stalls(job) && give_up(job))
                return 0;

        (void)sd_event_source_set_time_relative(source, TICK_USEC);
        return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* The end */

/* Fills the empty answer to a Wait() and sends it; takes the reference. */
static void answer_waiter(Job *job, sd_bus_message *reply) {
        if (job_append_result(job, reply) >= 0)
                manager_send_large(job->manager, reply, job_result_bytes(job));
        else
                sd_bus_message_unref(reply);
}

/* What is left of a job while its thread is: one of the places of its user, and of the machine. */
typedef struct Slot {
        Manager *manager;
        User *user;
        bool stuck;
} Slot;

static void on_worker_ended(void *userdata) {
        Slot *slot = userdata;
        Manager *manager = slot->manager;

        manager->n_workers--;
        slot->user->n_workers--;
        if (slot->stuck) {
                slot->user->n_stuck--;
                manager->n_abandoned--;
                schedule(manager);
        }
        user_unref(slot->user);
        g_free(slot);
        manager_maybe_exit(manager);
}

/*
 * Leaves the worker to itself, if there is one. It ends at once where it only waits to be told to go on; where it may
 * hang in the system, it keeps its place until it ends.
 */
static void leave_worker(Job *job, bool may_hang) {
        if (job->work)
                job->class->free(g_steal_pointer(&job->work));
        if (!job->worker)
                return;
        if (may_hang) {
                job->slot->stuck = true;
                job->user->n_stuck++;
                job->manager->n_abandoned++;
        }
        cancel_trigger(job->cancel, "The job was not started.");
        worker_abandon(job->worker);
        worker_go(job->worker);
        job->worker = worker_unref(job->worker);
}

Job *job_free(Job *job) {
        Manager *manager = job->manager;
        GPtrArray *restricted;

        leave_worker(job, false);
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

static void keep_result(Job *job) {
        Manager *manager = job->manager;
        GQueue *ended = &job->user->ended;

        g_queue_push_tail(ended, job);
        while (ended->length > manager->config.results_per_user)
                job_free(g_queue_peek_head(ended));

        if (sd_event_add_time_relative(manager->event, &job->expiry, CLOCK_MONOTONIC,
                    manager->config.result_seconds * UINT64_C(1000000), 0, on_expiry, job) < 0)
                job_free(job);
}

/*
 * The one end of every job. error is moved; without one the job is done. The worker has finished or
 * was abandoned.
 */
static void finish(Job *job, Error *error) {
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

        begin(job, 0);
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
        schedule(manager);
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
        leave_worker(job, true);
        finish(job, &error);
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

/*
 * A file that blocks whoever works on it, such as one on FUSE, or a disk of the network: the job ends. Returns whether
 * it has.
 */
static bool give_up(Job *job) {
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
        if (job_has_ended(job) || cancel_requested(job->cancel) ||
            (job->kind == JOB_RESTORE && job->worker && worker_settles(job->worker)))
                return;
        reason = reason ?: kinds[job->kind].canceled;
        cancel_trigger(job->cancel, reason);
        if (job->state == JOB_CHECKING)
                return; /* it is answered first, and ends then */

        if (job->state == JOB_QUEUED) {
                leave_worker(job, !job->checked);
                error_set(&error, ERROR_CANCELED, "%s", reason);
                finish(job, &error);
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
                if (!job_has_ended(job))
                        g_ptr_array_add(jobs, job);
        for (unsigned i = 0; i < jobs->len; i++)
                job_cancel(jobs->pdata[i], kinds[((Job *)jobs->pdata[i])->kind].stopped);
}

void job_release(Job *job) {
        if (job_has_ended(job))
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
        if (job_has_ended(job))
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

/* The way to the end */

static int on_begin_due(sd_event_source *source, uint64_t usec, void *userdata) {
        schedule(userdata);
        return 0;
}

/* Has schedule() called from the loop: what it starts comes on the wire after what is sent now. */
static void schedule_in(Manager *manager, uint64_t usec) {
        if (!manager->begin_timer) {
                if (sd_event_add_time_relative(manager->event, &manager->begin_timer, CLOCK_MONOTONIC, usec, 1,
                            on_begin_due, manager) < 0)
                        schedule(manager);
        } else if (usec == 0 || sd_event_source_get_enabled(manager->begin_timer, NULL) == 0) {
                (void)sd_event_source_set_time_relative(manager->begin_timer, usec);
                (void)sd_event_source_set_enabled(manager->begin_timer, SD_EVENT_ONESHOT);
        }
}

/* A job whose check still waits for its medium has nothing to do in a place. */
static int compare_checked(const void *job, const void *ignored) {
        return ((const Job *)job)->checked ? 0 : 1;
}

static void schedule(Manager *manager) {
        /* Who only waits for a client's descriptor holds up nobody. */
        while (!manager->stopping && manager->n_running - manager->n_outside < manager->config.running_jobs &&
               manager->n_abandoned < JOB_ABANDONED_MAX) {
                GList *link = g_queue_find_custom(&manager->queued, NULL, compare_checked);
                Job *job;
                int r;

                if (!link)
                        break;
                job = link->data;
                g_queue_delete_link(&manager->queued, link);
                r = sd_event_add_time_relative(manager->event, &job->tick, CLOCK_MONOTONIC, TICK_USEC, TICK_USEC / 10,
                        on_tick, job);
                if (r >= 0 && !job->worker)
                        r = start_worker(job);
                if (r < 0) {
                        g_auto(Error) error = {};

                        leave_worker(job, false);
                        job_not_started(job->kind, r, &error);
                        finish(job, &error);
                        continue;
                }
                job->state = JOB_RUNNING;
                manager->n_running++;
                worker_go(job->worker);
                manager_tick_soon(manager);
        }
}

/* A medium that does not even let itself be looked at. */
static int on_check_overdue(sd_event_source *source, uint64_t usec, void *userdata) {
        Job *job = userdata;
        g_auto(Error) error = {};

        error_set(&error, ERROR_MEDIUM, "The medium has not answered for %u s. See to it, or use another one.",
                job->manager->config.stall_seconds);
        leave_worker(job, true);
        finish(job, &error);
        return 0;
}

/* Answers the call with the job's path; from now on it is there. */
static void announce(Job *job) {
        Manager *manager = job->manager;
        sd_bus_message *reply = NULL;

        if (sd_bus_message_new_method_return(job->call, &reply) >= 0 &&
            sd_bus_message_append(reply, "o", job->path) >= 0)
                manager_send(manager, reply);
        else
                sd_bus_message_unref(reply);

        job->call = sd_bus_message_unref(job->call);
        job->patience = sd_event_source_disable_unref(job->patience);
        job->state = JOB_QUEUED;
        g_queue_push_tail(&manager->queued, job);

        if (cancel_requested(job->cancel)) {
                g_auto(Error) error = {};

                leave_worker(job, !job->checked);
                error_set(&error, ERROR_CANCELED, "%s", cancel_reason(job->cancel));
                finish(job, &error);
                return;
        }

        if (!job->checked)
                (void)sd_event_add_time_relative(manager->event, &job->patience, CLOCK_MONOTONIC,
                        manager->config.stall_seconds * UINT64_C(1000000) + STALL_GRACE_USEC, 0, on_check_overdue,
                        job);
        schedule_in(manager, job->worker ? 0 : BEGIN_USEC);
}

static void on_checked(Error *error, void *userdata) {
        Job *job = userdata;
        Manager *manager = job->manager;

        job->checked = true;
        if (job->state != JOB_CHECKING) {
                /* Answered already; the worker checks again. */
                job->patience = sd_event_source_disable_unref(job->patience);
                schedule(manager);
                return;
        }
        if (error->code == ERROR_NONE) {
                announce(job);
                return;
        }

        notice_job(job, error);
        manager_send_error(manager, job->call, error);
        manager->n_unfinished--;
        job_free(job);
        manager_maybe_exit(manager);
}

static int on_answer_due(sd_event_source *source, uint64_t usec, void *userdata) {
        announce(userdata);
        return 0;
}

static void on_began(uint64_t total, void *userdata) {
        begin(userdata, total);
}

static void on_restricted(GPtrArray *licenses, void *userdata) {
        Job *job = userdata;

        g_queue_push_tail(&job->restricted_signals, licenses);
        job_tell_what_is_new(job, false);
}

static void on_origin(WorkOrigin origin, const char *from, void *userdata) {
        static const WmtStatus statuses[] = {
                [WORK_ORIGIN_CHECKING] = WMT_BACKUPRESTORE_CONNECTING,
                [WORK_ORIGIN_ACCEPTED] = WMT_BACKUPRESTORE_DISCONNECTING,
                [WORK_ORIGIN_REFUSED] = WMT_NEEDS_INDIVIDUALIZATION,
        };

        job_tell_progress(userdata, statuses[origin], &(ProgressValue){ .text = from });
}

static void on_outside(bool outside, void *userdata) {
        Job *job = userdata;

        if (outside == job->outside)
                return;
        job->outside = outside;
        job->manager->n_outside += outside ? 1U : -1U;
        schedule(job->manager);
}

static void on_watched(bool watched, void *userdata) {
        Job *job = userdata;

        job->watched = watched;
        job->moves = worker_moves(job->worker);
        job->moved_at = g_get_monotonic_time();
}

static void on_finished(Error *error, WorkResult *result, void *userdata) {
        Job *job = userdata;

        job->result = *result;
        *result = (WorkResult) {};
        job->worker = worker_unref(job->worker);
        finish(job, error);
}

static void unref_message(void *message) {
        sd_bus_message_unref(message);
}

static Job *job_new(Manager *manager, Caller *caller, sd_bus_message *message, const JobTask *task) {
        static uint64_t n_jobs;
        Job *job;

        job = g_new0(Job, 1);
        job->number = ++n_jobs;
        job->manager = manager;
        job->kind = task->kind;
        job->class = task->class;
        job->work = task->work;
        job->in_folder = task->in_folder;
        job->state = JOB_CHECKING;
        do
                randombytes_buf(&job->id, sizeof job->id);
        while (g_hash_table_contains(manager->jobs, &job->id));
        snprintf(job->path, sizeof job->path, JOB_PATH "/%016" PRIx64, job->id);
        job->user = user_get(manager, caller->user->uid);
        job->call = sd_bus_message_ref(message);
        job->requester = g_strdup(caller->name);
        job->cancel = cancel_ref(task->cancel);
        job->restricted = restricted_ref(task->restricted);
        job->waiters = g_ptr_array_new_with_free_func(unref_message);
        g_queue_init(&job->restricted_signals);

        g_hash_table_insert(manager->jobs, &job->id, job);
        job->user->job = job;
        manager->n_unfinished++;
        return job;
}

int job_not_started(JobKind kind, int r, Error *error) {
        return error_set_errno(error, ERROR_LIMIT_EXCEEDED, r, "The %s cannot be started now, try again later",
                kinds[kind].noun);
}

/* Gives the work to a thread, also where it fails. Returns 0 or a negative errno. */
static int start_worker(Job *job) {
        static const WorkerEvents events = {
                .checked = on_checked,
                .began = on_began,
                .origin = on_origin,
                .restricted = on_restricted,
                .watched = on_watched,
                .outside = on_outside,
                .finished = on_finished,
                .ended = on_worker_ended,
        };
        Slot *slot = g_new0(Slot, 1);
        int r;

        r = worker_start(job->manager->mailbox, job->class, g_steal_pointer(&job->work), job->checked, job->cancel,
                &events, job, slot, &job->worker);
        if (r < 0) {
                g_free(slot);
                return r;
        }
        slot->manager = job->manager;
        slot->user = user_get(job->manager, job->user->uid);
        job->slot = slot;
        job->manager->n_workers++;
        job->user->n_workers++;
        return 0;
}

int job_start(Manager *manager, Caller *caller, sd_bus_message *message, const JobTask *task, Error *error) {
        Job *job = job_new(manager, caller, message, task);
        int r;

        if (task->is_sure) {
                job->checked = true;
                announce(job);
                return 0;
        }

        r = sd_event_add_time_relative(manager->event, &job->patience, CLOCK_MONOTONIC, ANSWER_USEC, 0, on_answer_due,
                job);
        if (r >= 0)
                r = start_worker(job);
        if (r < 0) {
                manager->n_unfinished--;
                job_free(job);
                return job_not_started(task->kind, r, error);
        }
        return 0;
}
