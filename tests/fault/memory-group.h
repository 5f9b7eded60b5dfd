/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * A control group with a limit of memory, as systemd makes one for MemoryMax=, of whichever version the machine has.
 * What goes over it is killed by the kernel.
 */
typedef struct MemoryGroup {
        char *path;
        bool is_v1;
} MemoryGroup;

/* Makes one below our own; false where this machine, or this container, lets us make none. */
bool memory_group_new(MemoryGroup *group, uint64_t limit);
/*
 * The most it had, in bytes, page cache included (0: this kernel does not tell); and how many processes the kernel
 * killed for it.
 */
uint64_t memory_group_peak(const MemoryGroup *group);
uint64_t memory_group_kills(const MemoryGroup *group);
/* Its processes have ended. */
void memory_group_free(MemoryGroup *group);
