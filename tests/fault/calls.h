/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The system calls that are made to fail, and what each may fail with. One row is what does one thing: unlink() and
 * unlinkat() are counted together.
 */

/* Instead of an errno: half of the bytes are moved, and so many are returned. */
#define FAULT_SHORT (-1)

/* What is looked at to tell whether a call is about the service's files, and so counts. */
typedef enum CallSubject {
        SUBJECT_NONE,     /* it counts as it is */
        SUBJECT_FILE,     /* a descriptor of a regular file or a folder: not the bus, the log, an eventfd */
        SUBJECT_STREAM,   /* of a client's pipe or socket */
        SUBJECT_EITHER,   /* a file or a client's pipe */
        SUBJECT_PATH,     /* a path, below the folder of an open descriptor or of the process */
        SUBJECT_LOCK,     /* fcntl() that locks, and does not unlock: that never fails, but on a network */
        SUBJECT_DUPLICATE, /* fcntl() that duplicates */
        SUBJECT_FLAGS      /* fcntl() that sets flags of an open file */
} CallSubject;

typedef struct FaultCall {
        const char *name;
        int numbers[4];       /* ended by -1 */
        CallSubject subject;
        unsigned argument;    /* which one that is */
        bool writes;          /* a kill before it may leave something half done; openat: where it makes something */
        int errors[8];        /* ended by 0 */
} FaultCall;

#define N_FAULT_CALLS 25U
extern const FaultCall fault_calls[N_FAULT_CALLS];

/* The row of a system call, -1 for one of which there is none. fcntl() is told apart by its command. */
int fault_call_find(int number, const uint64_t arguments[6]);
/* "ENOSPC", "short" … */
const char *fault_error_name(int error);
