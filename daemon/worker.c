/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "thread.h"

/* Threads that wait for the next work, so that a job need not wait for a new one: so many, for so long. */
#define IDLE_MAX 2U
#define IDLE_SEC 2

static struct {
        pthread_mutex_t mutex;
        pthread_cond_t given;
        unsigned n_idle;
        GQueue workers; /* that idle threads are to take: no more than there are */
} pool = { .mutex = PTHREAD_MUTEX_INITIALIZER, .given = PTHREAD_COND_INITIALIZER, .workers = G_QUEUE_INIT };

struct Worker {
        atomic_uint n_ref;
        Mailbox *mailbox;
        const WorkerEvents *events;
        void *userdata, *slot;
        bool abandoned; /* bus thread only */

        Cancel *cancel;
        const WorkClass *class;
        void *work; /* the thread's */
        bool is_sure;

        pthread_mutex_t mutex;
        pthread_cond_t told;
        bool go;

        _Atomic uint64_t completed;
        atomic_uint percent, moves;
        atomic_bool in_store, settles;
};

typedef enum ReportKind {
        REPORT_CHECKED,
        REPORT_BEGAN,
        REPORT_ORIGIN,
        REPORT_RESTRICTED,
        REPORT_WATCHED,
        REPORT_OUTSIDE,
        REPORT_FINISHED,
        REPORT_ENDED,
} ReportKind;

/* What the thread tells the bus thread. */
typedef struct Report {
        Mail mail;
        ReportKind kind;
        Worker *worker;
        Error error;
        WorkResult result;
        uint64_t total;
        WorkOrigin origin;
        char *from;
        GPtrArray *licenses;
        bool on;
} Report;

Worker *worker_unref(Worker *worker) {
        if (worker && atomic_fetch_sub(&worker->n_ref, 1U) == 1U) {
                if (worker->work)
                        worker->class->free(worker->work);
                cancel_unref(worker->cancel);
                pthread_cond_destroy(&worker->told);
                pthread_mutex_destroy(&worker->mutex);
                g_free(worker);
        }
        return NULL;
}

static void on_report(Mail *mail) {
        Report *report = (Report *)mail;
        Worker *worker = report->worker;
        const WorkerEvents *events = worker->events;

        switch (report->kind) {
        case REPORT_CHECKED:
                if (!worker->abandoned)
                        events->checked(&report->error, worker->userdata);
                break;
        case REPORT_BEGAN:
                if (!worker->abandoned)
                        events->began(report->total, worker->userdata);
                break;
        case REPORT_ORIGIN:
                if (!worker->abandoned)
                        events->origin(report->origin, report->from, worker->userdata);
                break;
        case REPORT_RESTRICTED:
                if (!worker->abandoned)
                        events->restricted(g_steal_pointer(&report->licenses), worker->userdata);
                break;
        case REPORT_WATCHED:
                if (!worker->abandoned)
                        events->watched(report->on, worker->userdata);
                break;
        case REPORT_OUTSIDE:
                if (!worker->abandoned)
                        events->outside(report->on, worker->userdata);
                break;
        case REPORT_FINISHED:
                if (!worker->abandoned)
                        events->finished(&report->error, &report->result, worker->userdata);
                break;
        case REPORT_ENDED:
                events->ended(worker->slot);
                break;
        }

        if (report->licenses)
                g_ptr_array_unref(report->licenses);
        g_free(report->from);
        work_result_clear(&report->result);
        error_clear(&report->error);
        g_free(report);
        worker_unref(worker);
}

static Report *report_new(Worker *worker, ReportKind kind) {
        Report *report = g_new0(Report, 1);

        atomic_fetch_add(&worker->n_ref, 1U);
        report->mail.deliver = on_report;
        report->worker = worker;
        report->kind = kind;
        return report;
}

static void on_begin(uint64_t total, void *userdata) {
        Worker *worker = userdata;
        Report *report = report_new(worker, REPORT_BEGAN);

        report->total = total;
        mailbox_post(worker->mailbox, &report->mail);
}

static void on_origin(WorkOrigin origin, char *from, void *userdata) {
        Worker *worker = userdata;
        Report *report = report_new(worker, REPORT_ORIGIN);

        report->origin = origin;
        report->from = from;
        mailbox_post(worker->mailbox, &report->mail);
}

static void on_restricted(GPtrArray *licenses, void *userdata) {
        Worker *worker = userdata;
        Report *report = report_new(worker, REPORT_RESTRICTED);

        report->licenses = licenses;
        mailbox_post(worker->mailbox, &report->mail);
}

static void on_outside(bool outside, void *userdata) {
        Worker *worker = userdata;
        Report *report = report_new(worker, REPORT_OUTSIDE);

        report->on = outside;
        mailbox_post(worker->mailbox, &report->mail);
}

static void on_watched(bool watched, void *userdata) {
        Worker *worker = userdata;
        Report *report = report_new(worker, REPORT_WATCHED);

        report->on = watched;
        mailbox_post(worker->mailbox, &report->mail);
}

static void on_in_store(bool in_store, void *userdata) {
        atomic_store(&((Worker *)userdata)->in_store, in_store);
}

static void on_settling(void *userdata) {
        atomic_store(&((Worker *)userdata)->settles, true);
}

static void on_moved(void *userdata) {
        Worker *worker = userdata;

        atomic_fetch_add_explicit(&worker->moves, 1U, memory_order_relaxed);
}

static void on_progress(uint64_t completed, unsigned percent, void *userdata) {
        Worker *worker = userdata;

        atomic_store_explicit(&worker->completed, completed, memory_order_relaxed);
        atomic_store_explicit(&worker->percent, percent, memory_order_relaxed);
        on_moved(worker);
}

static void do_work(Worker *worker) {
        const WorkEvents events = {
                .begin = on_begin,
                .origin = on_origin,
                .restricted = on_restricted,
                .watched = on_watched,
                .outside = on_outside,
                .moved = on_moved,
                .progress = on_progress,
                .in_store = on_in_store,
                .settling = on_settling,
                .userdata = worker,
        };
        const WorkClass *class = worker->class;
        Report *report;
        int r = 0;

        if (!worker->is_sure) {
                report = report_new(worker, REPORT_CHECKED);
                r = class->check(worker->work, &report->error);
                mailbox_post(worker->mailbox, &report->mail);
        }

        pthread_mutex_lock(&worker->mutex);
        while (!worker->go)
                pthread_cond_wait(&worker->told, &worker->mutex);
        pthread_mutex_unlock(&worker->mutex);

        report = report_new(worker, REPORT_FINISHED);
        if (cancel_requested(worker->cancel))
                cancel_set_error(worker->cancel, &report->error);
        else if (r != 0)
                /* It took so long to check that the client had its answer: look again, for the job's end. */
                (void)class->check(worker->work, &report->error);
        if (report->error.code == ERROR_NONE)
                (void)class->run(worker->work, &events, &report->result, &report->error);
        mailbox_post(worker->mailbox, &report->mail);

        /* Closing a client's descriptor may hang, too. */
        class->free(worker->work);
        worker->work = NULL;
        report = report_new(worker, REPORT_ENDED);
        mailbox_post(worker->mailbox, &report->mail);
        worker_unref(worker);
}

/* The next worker, or NULL where there is none for a while. */
static Worker *wait_for_worker(void) {
        struct timespec end;
        Worker *worker;
        int r = 0;

        (void)clock_gettime(CLOCK_MONOTONIC, &end);
        end.tv_sec += IDLE_SEC;

        pthread_mutex_lock(&pool.mutex);
        if (pool.n_idle >= IDLE_MAX) {
                pthread_mutex_unlock(&pool.mutex);
                return NULL;
        }
        pool.n_idle++;
        while (g_queue_is_empty(&pool.workers) && r == 0)
                r = pthread_cond_clockwait(&pool.given, &pool.mutex, CLOCK_MONOTONIC, &end);
        pool.n_idle--;
        worker = g_queue_pop_head(&pool.workers);
        pthread_mutex_unlock(&pool.mutex);
        return worker;
}

static void *worker_thread(void *userdata) {
        Worker *worker = userdata;

        do
                do_work(worker);
        while ((worker = wait_for_worker()));
        return NULL;
}

/* Gives it to a thread that waits for one, or to a new one. Returns 0 or a negative errno. */
static int start(Worker *worker) {
        bool taken = false;

        pthread_mutex_lock(&pool.mutex);
        if (pool.workers.length < pool.n_idle) {
                g_queue_push_tail(&pool.workers, worker);
                pthread_cond_signal(&pool.given);
                taken = true;
        }
        pthread_mutex_unlock(&pool.mutex);
        return taken ? 0 : thread_start(worker_thread, worker);
}

int worker_start(Mailbox *mailbox, const WorkClass *class, void *work, bool is_sure, Cancel *cancel,
        const WorkerEvents *events, void *userdata, void *slot, Worker **ret) {
        Worker *worker;
        int r;

        worker = g_new0(Worker, 1);
        atomic_init(&worker->n_ref, 2U);
        worker->mailbox = mailbox;
        worker->events = events;
        worker->userdata = userdata;
        worker->slot = slot;
        worker->cancel = cancel_ref(cancel);
        worker->class = class;
        worker->work = work;
        worker->is_sure = is_sure;
        pthread_mutex_init(&worker->mutex, NULL);
        pthread_cond_init(&worker->told, NULL);

        r = start(worker);
        if (r < 0) {
                worker_unref(worker);
                worker_unref(worker);
                return r;
        }

        *ret = worker;
        return 0;
}

void worker_go(Worker *worker) {
        pthread_mutex_lock(&worker->mutex);
        worker->go = true;
        pthread_cond_signal(&worker->told);
        pthread_mutex_unlock(&worker->mutex);
}

void worker_abandon(Worker *worker) {
        worker->abandoned = true;
}

uint64_t worker_completed(const Worker *worker) {
        return atomic_load_explicit(&worker->completed, memory_order_relaxed);
}

unsigned worker_moves(const Worker *worker) {
        return atomic_load_explicit(&worker->moves, memory_order_relaxed);
}

unsigned worker_percent(const Worker *worker) {
        return atomic_load_explicit(&worker->percent, memory_order_relaxed);
}

bool worker_in_store(const Worker *worker) {
        return atomic_load(&worker->in_store);
}

bool worker_settles(const Worker *worker) {
        return atomic_load(&worker->settles);
}
