/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "manager.h"

/*
 * A connection that called us: who it is is asked once, of the bus and of the system's user database,
 * neither of which the bus thread waits for.
 */
struct Caller {
        Manager *manager;
        char *name;         /* unique, and never given again by the bus */
        User *user;         /* NULL until known */
        char *user_name;    /* "" where the system knows none; NULL until known */
        bool is_unknown;    /* that could not be found out; the next call asks again */
        int64_t nameless_until; /* monotonic; then one who has no name is looked up again */
        bool is_stale;      /* that name may be a former one */
        bool subscribed;
        sd_bus_slot *question;
        int64_t lookup_since;   /* monotonic: since when it waits for the user database */
        GQueue questions;   /* of Question *, to polkit: calls of it that wait for an answer */
        GList *use;         /* its place in callers_by_use */

        /* turn.c */
        User *line;         /* in whose turn it is: its user's, once that is known */
        Turn turns[_TURN_KINDS];

        /* inbox.c: what it has called. */
        GQueue calls;
        Waiting waiting; /* these; also counted in the user's, once that is known */

        /* outbox.c: what is to be sent to it, and whether it reads. */
        GQueue letters;
        GQueue refusals;    /* errors, which go before them */
        uint64_t waiting_bytes, held_bytes; /* of both; also counted in the line's */
        unsigned n_answers; /* of them, answers to calls, but refusals; also counted in the line's */
        unsigned n_refused; /* refusals that were sent in a row */
        bool asking;        /* whether it reads is being found out */
        uint64_t unread;    /* bytes sent of which that is not known yet; also counted in the line's */
        uint64_t refused;   /* of these, refusals, or more */
        uint64_t since_question; /* of these, those that the question does not ask about */
        bool has_descriptor; /* one was sent, and may not have been read; also counted in the line's */
        bool asked_with_descriptor; /* the question is about that, too */
        uint64_t pause_usec;
        sd_bus_slot *ask_slot;
        sd_event_source *ask_timer;
};

/* Who sent a call. Where that is not known, or not any more, it is being found out: see caller_is_known(). */
int caller_of(Manager *manager, sd_bus_message *call, Caller **ret, Error *error);

/* Whether its user and that user's name are known; what it calls waits until they are. */
static inline bool caller_is_known(const Caller *caller) {
        return caller->user_name != NULL;
}

/*
 * The same by name, for who has not called: makes it, and has it found out who it is. NULL where that cannot be asked.
 */
Caller *caller_get(Manager *manager, const char *name);

/* A caller by its unique name, NULL where it is not known (yet). */
Caller *caller_find(Manager *manager, const char *name);

/* The connection has gone: forgets it and what it asked to be told. */
void caller_gone(Manager *manager, const char *name);

/* Has it found out anew what the user of a number is called: what was stored under the former name is another's now. */
void caller_forget_names(Manager *manager, uid_t uid);

/* At a stop: answers the calls that wait until it is known who calls. */
void caller_cancel_unknown(Manager *manager);

/* Forgets all callers, as when the bus was left: who went meanwhile was not told to us. */
void caller_forget_all(Manager *manager);
