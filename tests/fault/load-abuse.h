/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "harness.h"

/*
 * Users that abuse every limit, from a process of their own: connections that speak D-Bus by hand, so that one
 * processor can offer more calls than a bus takes.
 */

/* What a connection does all the time. Those that never read have a name for it. */
typedef enum Abuse {
        ABUSE_GET,             /* small licenses, as fast as they come; reads */
        ABUSE_GET_UNREAD,      /* large licenses; never reads */
        ABUSE_SUBSCRIBE_UNREAD, /* Subscribe and Unsubscribe, jobs that tell of themselves; never reads */
        ABUSE_JOBS,            /* backups to its folder, and cancels them; reads */
        ABUSE_PIPES,           /* backups into pipes that never move; reads */
        ABUSE_PROPERTIES,      /* long values, wrong names; reads */
        ABUSE_DICTIONARY,      /* StoreLicense with a dictionary of 1,000 entries; reads */
        ABUSE_STORE,           /* stores and deletes one license; reads */
        ABUSE_HALF,            /* half a message, and silence; then again on a new connection */
        ABUSE_INTROSPECT_UNREAD, /* what sd-bus answers by itself; never reads */
        ABUSE_NO_REPLY,        /* wants no answer */
        ABUSE_KINDS,
        ABUSE_PING,            /* to the service: how much the bus and it bear */
        ABUSE_BUS_ITSELF,      /* as little of the bus */
} Abuse;

/* Shared with the process that does it. */
typedef struct AbuseCounts {
        uint64_t offered;   /* calls that were due */
        uint64_t sent;      /* that the bus's socket took */
        uint64_t answered;  /* by a return, as far as it was read */
        uint64_t refused;   /* by an error, as far as it was read */
        uint64_t reconnected; /* ABUSE_HALF, and whom the bus threw out */
        bool ready;
} AbuseCounts;

typedef struct AbusePlan {
        const uid_t *users;      /* connections are theirs in turn */
        unsigned n_users, n_connections;
        unsigned rate;           /* calls a second, of all together; 0: as fast as answers come */
        Abuse first, last;       /* connections do these in turn */
} AbusePlan;

/* What every abuser needs to be there: licenses "small" and "large" of a user. */
void abuse_prepare(Harness *h, sd_bus *bus);
/* Starts it; returns once all are connected. *ret_counts lives until abuse_stop(). */
pid_t abuse_start(Harness *h, const AbusePlan *plan, AbuseCounts **ret_counts);
/* Kills it. The counts stay as they were, in *ret. */
void abuse_stop(pid_t pid, AbuseCounts *counts, AbuseCounts *ret);
void abuse_print(const AbuseCounts *counts, double seconds);
