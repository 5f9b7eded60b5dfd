/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdatomic.h>

#include "calls.h"

/*
 * Faults from outside: a process of its own sees the daemon's system calls before the kernel acts on them (seccomp's
 * user notification), and fails one, cuts it short, or kills the daemon before it. The daemon is the one
 * that is installed, and knows nothing of it.
 *
 * strace -e inject does the like, but counts in each thread by itself; here N is the N-th of the whole
 * daemon, and costs some microseconds, not the attaching to ten threads.
 */

typedef enum FaultDeed {
        DEED_COUNT,   /* nothing: only counts */
        DEED_FAIL,    /* the N-th call of a row of the table */
        DEED_FAIL_ON, /* that and all later ones: a disk that stays full */
        DEED_KILL,    /* before the N-th call that writes, of all rows */
} FaultDeed;

/* What a file system cannot do, in all calls, and not counted. */
typedef enum FileSystem {
        FILE_SYSTEM_PLAIN,
        FILE_SYSTEM_NO_UNNAMED, /* no O_TMPFILE, as on NFS */
        FILE_SYSTEM_FAT,        /* nor renameat2() with flags, nor links */
} FileSystem;

/* Shared with the injector's process. */
typedef struct FaultPlan {
        atomic_bool armed;
        FaultDeed deed;
        unsigned row;      /* of fault_calls */
        int error;
        unsigned at;       /* N, from 1 */
        FileSystem file_system;
        bool from_start;   /* counting begins with the first call that names something of folder */
        char folder[256];  /* that all of the service's files of this test are in */

        atomic_uint counts[N_FAULT_CALLS]; /* since it was armed */
        atomic_uint writes;
        atomic_uint hits;  /* calls that were failed, or kills */
        atomic_bool begun;
        atomic_bool busy;  /* a call is being decided, and what was decided is being done */
} FaultPlan;

/*
 * Starts the process; *ret_socket is for FAULT_SOCKET. It ends with its parent. Fails with a negative errno.
 */
int injector_start(FaultPlan **ret, int *ret_socket);

/* Sets a plan in motion, counting from nothing; and ends it: after that nothing is counted, failed or killed. */
void injector_arm(FaultPlan *plan, FaultDeed deed, unsigned row, int error, unsigned at);
void injector_disarm(FaultPlan *plan);
