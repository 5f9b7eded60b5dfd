/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "harness.h"

/*
 * A connection that sees every message on the bus, in the order in which the bus passes them on. What
 * a client can rely on is tested on that record.
 */

typedef struct Record {
        uint8_t type; /* SD_BUS_MESSAGE_METHOD_RETURN and so on */
        char *sender, *destination, *path, *interface, *member, *signature, *error;
        uint64_t reply_cookie;

        char *object; /* the path that a return of a method with signature "o" has */
        char *name, *old_owner, *new_owner; /* of NameOwnerChanged */

        /* Of Progress and Done. */
        uint32_t status;
        int32_t hresult;
        uint64_t completed, total;
        char *value_signature;
        uint64_t value;     /* a t or u, or how many entries */
        char *text;         /* an s */
        char *done_error;   /* name of the error */
        char *done_message;
} Record;

/* Begins to record; one for each harness. */
void monitor_new(Harness *h);
Monitor *monitor_free(Monitor *monitor);

/* Reads all that was sent until now, also what the daemon still had to send. */
void monitor_sync(Harness *h);
unsigned monitor_count(Harness *h);
const Record *monitor_record(Harness *h, unsigned i);

/*
 * What one connection got of a job, in order, as text: "return 21 16 27". Runs of 16 are one; an error of
 * Done follows it as "27:NS_E_…". Checks on the way what holds for every job and every connection:
 * unicast from the daemon's unique name, no signal before the return, types, completed never falls, not
 * too many.
 */
char *monitor_trace(Harness *h, const char *job, const char *connection);
/* The same for an open connection; must match a regular expression, from its start to its end. */
#define assert_trace(h, job, bus, expected) assert_trace_at(__FILE__, __LINE__, h, job, bus, expected)
void assert_trace_at(const char *file, int line, Harness *h, const char *job, sd_bus *bus,
        const char *expected);

/* How many messages about the service, not answers to calls, went to this connection, or to all. */
unsigned monitor_signals_to(Harness *h, const char *connection);
/* The place of the Done of a job, and of the last time that the service's name went; -1: none. */
int monitor_find_done(Harness *h, const char *job);
int monitor_find_name_gone(Harness *h);
/* The s that came with a status of a job; NULL where there was none. */
const char *monitor_find_text(Harness *h, const char *job, uint32_t status);
/* How many calls, or signals, of that name there were until now, whoever sent them. */
unsigned monitor_count_member(Harness *h, const char *member);
/* How many Progress a connection got of a job. */
unsigned monitor_count_progress(Harness *h, const char *job, sd_bus *bus);
