/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/* The variable with the path of a file that holds a DiskMeddling, which both sides map. */
#define DISK_MEDDLING "LICENSEVAULT_DISK_MEDDLING"

typedef struct DiskMeddling {
        _Atomic int64_t clock_sec;       /* is added to what the clock says */
        _Atomic uint32_t slow_write_usec; /* each write() to a file takes so much longer */
        _Atomic uint32_t lies;           /* each so many-th reading of a backup has a wrong byte; 0: none has */
        _Atomic uint64_t written;        /* bytes that write() brought to files */
        _Atomic uint32_t renames_wait;   /* not 0: whoever gives a backup its name waits until it is 0 again */
        _Atomic uint32_t renames_waited; /* how many did */
} DiskMeddling;
