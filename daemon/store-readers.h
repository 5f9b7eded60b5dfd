/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "store.h"

/*
 * The threads that read the store for the calls of clients, each with a connection of its own. One does what is soon
 * done. The other does what may take long, so that nobody's page waits behind another's search, and helps the first
 * where much waits.
 */
typedef struct StoreReaders StoreReaders;

#define STORE_READERS 2U

/* What of the tasks that wait is for which thread. */
typedef enum StoreReading {
        STORE_READING_SHORT,
        STORE_READING_LONG, /* looks at all licenses of an owner */
} StoreReading;

StoreReaders *store_readers_new(void);

/* Starts them. The connections are theirs from now on, also where that fails: 0 or an errno. */
int store_readers_start(StoreReaders *readers, StoreConnection *connections[STORE_READERS]);

/* Finishes what was submitted and closes the connections; what comes later is never done. */
void store_readers_stop(StoreReaders *readers);
/* Stopped before. */
StoreReaders *store_readers_free(StoreReaders *readers);

/* Any thread, never waits. store_readers_wake() has to follow; once for several, for each costs as much as a read. */
void store_readers_submit(StoreReaders *readers, StoreTask *task, StoreReading reading);
void store_readers_wake(StoreReaders *readers);

/* Does it on the calling thread, on a connection that nobody reads with just now. Returns whether there was one. */
bool store_readers_do_here(StoreReaders *readers, StoreTask *task);
