/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "io.h"
#include "mailbox.h"
#include "work.h"

/*
 * The thread of a job: it checks whether the job may be, waits until it is told to go on, and does the
 * work. It may hang in a system call for ever; the job can leave it behind then, and it goes on alone
 * and ends when it can. Owned by the job and by its thread, each with a reference.
 */

typedef struct Worker Worker;

typedef struct WorkerEvents {
        /* On the bus thread, all of them, and not after worker_abandon(). */
        void (*checked)(Error *error, void *userdata); /* error is the callee's to move; empty: it may be */
        void (*began)(uint64_t total, void *userdata);
        void (*origin)(WorkOrigin origin, const char *from, void *userdata);
        void (*restricted)(GPtrArray *licenses, void *userdata); /* the callee's */
        void (*watched)(bool watched, void *userdata);
        void (*outside)(bool outside, void *userdata);
        void (*finished)(Error *error, WorkResult *result, void *userdata); /* both are the callee's to move */
        /* The thread has ended, whether abandoned or not; the last one. */
        void (*ended)(void *slot);
} WorkerEvents;

/*
 * Starts a thread for some work, which is taken over, also on failure. is_sure: it needs no check, and says nothing of
 * one. userdata is for all events but ended(), which gets slot and may come after the job is gone. class and events are
 * static. Returns 0 or a negative errno.
 */
int worker_start(Mailbox *mailbox, const WorkClass *class, void *work, bool is_sure, Cancel *cancel,
        const WorkerEvents *events, void *userdata, void *slot, Worker **ret);
Worker *worker_unref(Worker *worker);

/* Lets the work begin that was checked, or needs none. */
void worker_go(Worker *worker);

/* From now on its events go nowhere, but for ended. */
void worker_abandon(Worker *worker);

/* What the thread last said. Any thread, never waits. */
uint64_t worker_completed(const Worker *worker);
unsigned worker_percent(const Worker *worker);
/* Another number than before, if anything moved since. */
unsigned worker_moves(const Worker *worker);
/* Whether it waits for the store, which has to be waited for. */
bool worker_in_store(const Worker *worker);
/* Whether it writes the last word: to cancel it now comes too late. */
bool worker_settles(const Worker *worker);
