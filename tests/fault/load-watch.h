/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "harness.h"

/* What a process holds, and how long a well-behaved user waits. */

typedef struct Holding {
        unsigned fds, threads, memory_kib;
        unsigned jobs;    /* objects that root sees */
        unsigned matches; /* on the bus; 0 where it does not tell */
} Holding;

/* Of the daemon pid, whose unique name is owner. */
void holding_read(Harness *h, pid_t pid, const char *owner, Holding *ret);
/* The same without what must be asked for over the bus, for looks in between: the larger of each goes into most. */
void holding_raise(pid_t pid, Holding *most);
void holding_print(const char *what, const Holding *holding);

/* Times of calls, in microseconds. */
typedef struct Times {
        GArray *usec;
} Times;

void times_init(Times *times);
void times_clear(Times *times);
void times_add(Times *times, int64_t usec);
/* How long at most that share of the calls took, from 0 to 1. Sorts them. */
int64_t times_at(Times *times, double share);
void times_print(const char *what, Times *times);
