/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job-run.h"

#include <stdio.h>

#include <sodium.h>

#include "job-signal.h"
#include "job-start.h"
#include "notice.h"

#define ANSWER_USEC (1 * G_USEC_PER_SEC) /* a check that takes longer is told by Done */
#define TICK_USEC (100 * 1000)
/* A thread begins so long after the answer: it would compete with those who carry that for a processor. */
#define BEGIN_USEC 200
/* Pipes and sockets are waited for by the worker, which says more about it; then it is our turn. */
#define STALL_GRACE_USEC (5 * G_USEC_PER_SEC)

/* The thread */

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
                job_schedule(manager);
        }
        user_unref(slot->user);
        g_free(slot);
        manager_maybe_exit(manager);
}

void job_leave_worker(Job *job, bool may_hang) {
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

/* Before its turn */

static int on_begin_due(sd_event_source *source, uint64_t usec, void *userdata) {
        job_schedule(userdata);
        return 0;
}

/* Has job_schedule() called from the loop: what it starts comes on the wire after what is sent now. */
static void schedule_in(Manager *manager, uint64_t usec) {
        if (!manager->begin_timer) {
                if (sd_event_add_time_relative(manager->event, &manager->begin_timer, CLOCK_MONOTONIC, usec, 1,
                            on_begin_due, manager) < 0)
                        job_schedule(manager);
        } else if (usec == 0 || sd_event_source_get_enabled(manager->begin_timer, NULL) == 0) {
                (void)sd_event_source_set_time_relative(manager->begin_timer, usec);
                (void)sd_event_source_set_enabled(manager->begin_timer, SD_EVENT_ONESHOT);
        }
}

/* A medium that does not even let itself be looked at. */
static int on_check_overdue(sd_event_source *source, uint64_t usec, void *userdata) {
        Job *job = userdata;
        g_auto(Error) error = {};

        error_set(&error, ERROR_MEDIUM, "The medium has not answered for %u s. See to it, or use another one.",
                job->manager->config.stall_seconds);
        job_leave_worker(job, true);
        job_finish(job, &error);
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

                job_leave_worker(job, !job->checked);
                cancel_set_error(job->cancel, &error);
                job_finish(job, &error);
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
                job_schedule(manager);
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

/* What its worker tells */

static void on_began(uint64_t total, void *userdata) {
        job_begin(userdata, total);
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
        job_schedule(job->manager);
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
        job_finish(job, error);
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

/* Its turn */

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
        if (stalls(job) && job_give_up(job))
                return 0;

        (void)sd_event_source_set_time_relative(source, TICK_USEC);
        return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* A job whose check still waits for its medium has nothing to do in a place. */
static int compare_checked(const void *job, const void *ignored) {
        return ((const Job *)job)->checked ? 0 : 1;
}

void job_schedule(Manager *manager) {
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

                        job_leave_worker(job, false);
                        job_not_started(job->kind, r, &error);
                        job_finish(job, &error);
                        continue;
                }
                job->state = JOB_RUNNING;
                manager->n_running++;
                worker_go(job->worker);
                manager_tick_soon(manager);
        }
}

/* Its begin */

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
