/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

/*
 * What a ProvedFile asks of the kernel, on its way there: a disk that gives back other bytes, that fails, that is slow,
 * that cannot go without the cache; a machine without threads; and a note of each page, whether it came from the disk.
 * A program that links this has these instead of its own calls. Set what is needed before the file is made.
 */

/* Who refuses to leave out the cache: a file system that cannot, or one that wants other alignments. */
typedef enum DirectRefusal {
        REFUSES_NOTHING,
        REFUSES_FLAG,
        REFUSES_TO_WRITE,
        REFUSES_TO_READ,
        REFUSES_UNALIGNED, /* what is not whole pages in size and place */
} DirectRefusal;

typedef enum DiskCall {
        DISK_WRITE, /* write() */
        DISK_PATCH, /* pwrite() */
        DISK_READ,  /* pread() */
        DISK_BEGIN, /* sync_file_range() that does not wait */
        DISK_SYNC,  /* one that does */
        DISK_WHOLE, /* fdatasync() */
        N_DISK_CALLS,
} DiskCall;

typedef struct WatchedDisk {
        unsigned fail_at[N_DISK_CALLS]; /* this call fails, counted from 1; 0: none */
        bool fail_all[N_DISK_CALLS];
        int error;             /* with this */
        unsigned lie_at;       /* the number of a pread() that has a wrong byte; 0: none */
        unsigned short_at;     /* and of a write() that takes a part of a page less than it was given */
        useconds_t usec;       /* that each sync_file_range() takes longer */
        atomic_bool hangs;     /* those that wait take until it is false again */
        bool jitters;          /* each step of a stage begins some time after it was chosen */
        DirectRefusal refuses;
        unsigned no_threads;   /* bits: the first, second … thread that is asked for cannot be had, ever */

        atomic_uint counts[N_DISK_CALLS];
        atomic_bool hung;      /* one of them does, or did */
        atomic_uint flags, direct_writes, direct_reads; /* whole ones, past the cache */
} WatchedDisk;

extern WatchedDisk disk;

/* As new; nothing is watched. */
void disk_reset(void);
/* What comes now is of a file anew: counts from 1, threads, pages. Watches fd where it is not negative. */
void disk_begin(int fd);
bool disk_is_direct(int fd);
/* Pages that were read where the kernel had them in its memory. */
unsigned disk_cached_reads(void);
/* Pages that were written, and then not read from the disk, or not synced. */
unsigned disk_unproved(void);
