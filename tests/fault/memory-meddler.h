/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/* The variable with the path of a file that holds a MemoryMeddling, which both sides map. */
#define MEMORY_MEDDLING "LICENSEVAULT_MEMORY_MEDDLING"

typedef struct MemoryMeddling {
        _Atomic uint64_t malloc_max;     /* what asks for more bytes at once gets nothing; 0: no limit */
        _Atomic int64_t sqlite_heap;     /* SQLite's hard heap limit, once it is not 0; -1: none */
        _Atomic int64_t sqlite_heap_set; /* what it was last set to */
        _Atomic uint64_t refused;        /* how often something was refused by malloc_max */
        _Atomic uint64_t largest;        /* the largest request so far */
        _Atomic uint64_t names_wait;     /* not 0: looking up a user's name takes until it is 0 again */
        _Atomic uint64_t names_wait_uid; /* not 0: only this user's */
        _Atomic uint64_t names_waited;   /* how many look-ups did */
        _Atomic uint64_t names_lack;     /* not 0: nobody but root has a name */
        _Atomic uint64_t names_fail;     /* not 0: the user database cannot be read */
} MemoryMeddling;
