/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "manager.h"

/*
 * A connection that called us: who it is is asked once, of the bus and of the system's user database,
 * neither of which the bus thread waits for. Calls that come before the answer are held, in order.
 */
typedef struct Caller {
        Manager *manager;
        char *name;         /* unique, and never given again by the bus */
        User *user;         /* NULL until known */
        char *user_name;    /* "" where the system knows none; NULL until known */
        int64_t nameless_until; /* monotonic; then one who has no name is looked up again */
        bool subscribed;
        GQueue held;        /* of sd_bus_message *: calls that came before we knew */
        uint64_t held_bytes; /* that these take, by message_size(); also counted in the user's, once that is known */
        sd_bus_slot *question;
        struct Lookup *lookup;
        GQueue questions;   /* of Question *, to polkit: calls of it that wait for an answer */
        GList *use;         /* its place in callers_by_use */

        /* outbox.c: what is to be sent to it, and whether it reads. */
        User *line;         /* in whose turn it is: its user's, once that is known */
        GQueue letters;
        uint64_t waiting_bytes; /* of them; also counted in the line's */
        bool ready;         /* waits for its turn */
        bool asking;        /* gets nothing until the bus says that it reads */
        uint64_t unread;    /* bytes sent since that was known */
        uint64_t pause_usec;
        sd_bus_slot *ask_slot;
        sd_event_source *ask_timer;
} Caller;

typedef enum CallerState {
        CALLER_KNOWN,
        CALLER_HELD,    /* the message is kept, and comes again through method_call() */
        CALLER_REFUSED, /* too many calls held; error is set */
} CallerState;

/* Who sent a message. *ret is set in state CALLER_KNOWN. */
CallerState caller_of(Manager *manager, sd_bus_message *message, Caller **ret, Error *error);

/* The same for who need not be known yet: makes it, and has it found out who it is. NULL where that cannot be asked. */
Caller *caller_get(Manager *manager, const char *name);

/* A caller by its unique name, NULL where it is not known (yet). */
Caller *caller_find(Manager *manager, const char *name);

/* The connection has gone: forgets it and what it asked to be told. */
void caller_gone(Manager *manager, const char *name);

/* Forgets all callers, as when the bus was left: who went meanwhile was not told to us. */
void caller_forget_all(Manager *manager);
