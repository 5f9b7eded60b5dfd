/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

/*
 * SQLite on a disk, and with a memory, that fail when a test says: all that the process opens goes through it. So do
 * the small allocations that the core checks. The N-th call of a kind fails, once or from then on.
 */

typedef enum FaultKind {
        FAULT_OPEN,
        FAULT_READ,
        FAULT_WRITE,
        FAULT_SYNC,
        FAULT_TRUNCATE,
        FAULT_SIZE,
        FAULT_DELETE,
        FAULT_SHARED_MAP,
        FAULT_SHARED_LOCK, /* not an unlock: that never fails on a disk of one's own */
        FAULT_LOCK,
        FAULT_MEMORY,
        FAULT_PREPARE, /* SQLite has no memory at all while it prepares a statement */
        FAULT_TRY,     /* GLib's g_try_…(), jansson's among them; those that would abort are left alone */
        FAULT_OBJECT,  /* what the archive's writer and reader keep, libarchive's part included */
        _FAULT_KIND_MAX,
} FaultKind;

/* Before anything else of SQLite. Fails the test where it cannot. */
void fault_sqlite_install(void);

/* rc: what the call returns; nothing of it for memory. kind _FAULT_KIND_MAX: only counts. */
void fault_sqlite_arm(FaultKind kind, int rc, unsigned at, bool onward);
/* Returns how many calls failed. */
unsigned fault_sqlite_disarm(void);
/* How many calls of a kind there were since it was armed. */
unsigned fault_sqlite_count(FaultKind kind);
/* Counts a call, and says whether it is to fail. */
bool fault_fails(FaultKind kind);
/* Leaves what this thread calls alone, for what a test itself needs meanwhile. */
void fault_pause(bool pause);
