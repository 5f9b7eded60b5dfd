/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "memory.h"

#include <sys/mman.h>

MemoryMeddling *meddling;

int memory_setup(void **state) {
        harness_setup_bus(state);
        meddling = harness_share(*state, MEMORY_MEDDLING, sizeof *meddling);
        harness_start_preloaded(*state, "LICENSEVAULT_MEMORY_MEDDLER");
        return 0;
}

int memory_teardown(void **state) {
        /* Also of a test that failed: a daemon that looks up a name would not end. */
        meddling->names_wait = 0;
        munmap(meddling, sizeof *meddling);
        return harness_teardown(state);
}
