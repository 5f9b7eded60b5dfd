/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "api.h"
#include "config.h"
#include "lent.h"
#include "mailbox.h"
#include "store.h"
#include "turn.h"

/*
 * The daemon: its loop, its place on the bus, and all that hangs on it. Everything here belongs to the
 * bus thread, which never waits: what has to wait is done by the store's threads and by workers, and
 * comes back through the mailbox.
 */

/* Exit codes of licensevaultd; licensevaultd --help lists them. */
typedef enum ExitCode {
        EXIT_GOOD = 0,
        EXIT_FAILED = 1,
        EXIT_USAGE = 2,
        EXIT_ENVIRONMENT = 3, /* no state directory, or it cannot be used */
        EXIT_LOCKED = 4,      /* another daemon works on the state directory */
        EXIT_NAME_TAKEN = 5,  /* another daemon has the name on the bus */
        EXIT_BUS_LOST = 6,
        EXIT_PROBLEMS = 7,    /* --check found some */
} ExitCode;

typedef struct Job Job;

/* Calls that wait for their turn, and what they take by message_size(). */
typedef struct Waiting {
        unsigned calls;
        uint64_t bytes;
} Waiting;

/* Nobody's: those wait there for their answers whose user is not known yet. */
#define STRANGERS ((uid_t)-1)

/* What a uid uses, so that it can be bounded; there as long as something refers to it. */
struct User {
        struct Manager *manager;
        unsigned n_ref;
        uid_t uid;
        GQueue held;     /* of Request *: writes, in order; the first is to be prepared, or the store is busy */
        GQueue searches; /* of Request *: the first is with the store, the others wait for its end */
        unsigned n_writes, n_reads, n_threads, n_subscriptions, n_questions;
        uint64_t write_bytes;
        uint64_t store_weight;  /* of the writes that are with the store */
        int64_t paid_until;     /* monotonic: for so long it has had its part of the loop's time; see inbox.c */
        Waiting known, unknown; /* of callers whose name is known, and not yet: see inbox.h */
        GQueue ready[_TURN_KINDS]; /* of Caller *: those that wait for their turn */
        uint64_t waiting_bytes; /* that are to be sent, to all of its callers */
        uint64_t held_bytes;    /* by descriptors among these */
        unsigned n_answers;     /* to calls, among these, but refusals */
        int64_t next_answer_at; /* monotonic: not before then; see pace.h */
        uint64_t unread;        /* bytes sent to them of which it is not known whether they have read them */
        unsigned n_descriptors; /* on their way to them */
        Job *job;         /* waits or runs */
        unsigned n_stuck; /* abandoned workers: each keeps the slot */
        unsigned n_workers; /* threads of jobs, those that only have to close a descriptor included */
        bool looked_up;   /* a thread asks for its name just now */
        GQueue ended;     /* of Job *, whose results are kept; oldest first */
        uint64_t lent[_LENT_KINDS]; /* that its clients may still have; see lent.h */
};

struct Manager {
        sd_event *event;
        sd_bus *bus;         /* NULL: left, and not joined again yet. There are no callers then */
        Mailbox *mailbox;
        Lent *lent;
        ExitCode exit_code;
        bool stopping;

        char *state_folder;
        char *config_folder; /* NULL: none */
        Config config;
        int lock_fd;
        Store *store;        /* NULL where it cannot be used: store_error says why */
        Error store_error;

        char instance_id[33];
        char machine[33];    /* application-specific; "" where the machine has no id */

        GHashTable *users;    /* uid -> User *, borrowed */
        GHashTable *callers;  /* unique name -> Caller * */
        GQueue callers_by_use; /* the same, least recently used first */
        unsigned n_lookups;   /* threads that look up a user's name */
        GQueue lookups;       /* callers that wait for one, of their user */
        GHashTable *jobs;     /* id -> Job * */
        GQueue queued;        /* jobs that wait to run */
        unsigned n_running;   /* jobs whose worker works */
        unsigned n_outside;   /* of them, those that wait for a client's descriptor */
        unsigned n_unfinished; /* jobs that wait or run */
        unsigned n_workers;   /* threads of jobs, abandoned ones included */
        unsigned n_abandoned;
        unsigned n_requests;  /* calls that wait for the store, or for a disk */
        unsigned n_request_threads;
        GQueue preparing;     /* of User *, in turn: whose first write is to be prepared */
        bool prepares;        /* a thread does, the first one's */

        GQueue ready_users[_TURN_KINDS]; /* of User *: those with callers that wait for their turn */
        unsigned n_ready[_TURN_KINDS];   /* of those callers */
        bool taken;           /* a message came in that was not looked whether more have */
        bool taking;          /* more are being taken in, which wait for their turns */
        int64_t strangers_paid_until; /* as a user's, of all callers who are not known yet */
        int64_t silent_until; /* monotonic: the bus does not tell who reads; see outbox.c */
        unsigned n_descriptors; /* on their way to clients */
        GQueue descriptor_line; /* of Caller *: those that wait until there are less */
        bool is_broker;       /* the bus is dbus-broker; see pace.h */
        uid_t last_answered;  /* whose answer was the last one; STRANGERS: there was none */
        int64_t shared_until; /* monotonic: so long, several users are answered; see pace.h */
        int64_t answers_per_sec; /* of all users together; 0: as many as dbus-daemon takes */
        sd_bus_slot *measure_slot; /* how long it takes to answer is being measured */
        int64_t asked_at;        /* monotonic: since when */
        int64_t late_at;         /* and when its answer was last found to be late */
        int64_t n_measured;      /* answers sent since the last measurement */
        int64_t measured_at;     /* monotonic: when that ended */
        bool has_short_socket; /* see manager_set_socket() */
        sd_bus_message *passing; /* a call on its way back to sd-bus; see outbox_let_pass() */

        /* Whether the bus still takes what we send. */
        uint64_t n_sent, n_written;
        int socket_bytes;    /* that lay in the socket when last looked at */
        int64_t taken_at;    /* monotonic: when it last took something, or there was nothing to take */
        bool congested;
        bool unsent;         /* something waited when last looked; taken_at is about that */

        sd_event_source *slow_tick, *stop_timer, *flush_timer, *begin_timer, *pace_timer, *lookup_timer, *turn;
};

/* Sets up everything from the environment, but the bus. Errors are logged. Returns 0 or an ExitCode. */
int manager_new(Manager **ret);
Manager *manager_free(Manager *manager);

/* Connects, takes the name, and runs until a signal or the loss of the bus. Returns an ExitCode. */
int manager_run(Manager *manager);

/*
 * Something changed. Within a second systemd is told the state (STATUS=), memory is given back, and it is looked
 * whether the bus takes what was sent.
 */
void manager_tick_soon(Manager *manager);

/* Called when a request, a worker or a lookup ends: a stopping daemon may be done. */
void manager_maybe_exit(Manager *manager);

/*
 * Sends a message, when its receiver's turn comes (see outbox.h). Failing is logged and not told: there is nobody to
 * tell. message is unref'd. Where it may be large, bytes says how large, roughly.
 */
void manager_send_large(Manager *manager, sd_bus_message *message, uint64_t bytes);
void manager_send(Manager *manager, sd_bus_message *message);

/* Replies with an error. message stays the caller's. */
void manager_send_error(Manager *manager, sd_bus_message *message, const Error *error);
/* Replies without values. */
void manager_send_empty(Manager *manager, sd_bus_message *message);

/* user.c: the accounting of a uid, made where there is none. Each is to be unref'd. */
User *user_get(Manager *manager, uid_t uid);
User *user_unref(User *user);
