/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "stage-world.h"

/* All that is done to a store, each with what it is tried on, for tests in which everything fails once. */

typedef struct FaultWorld FaultWorld;

typedef struct Operation {
        const char *name;
        int (*run)(FaultWorld *world, Error *error);
        void (*prepare)(FaultWorld *world); /* untouched, with the store open */
        const char *sql;                    /* what is done to the database before, behind the store's back */
        bool opens;                         /* run() opens the store */
        bool empty;                         /* there is no store before */
        bool unsound;                       /* some licenses are damaged, or without a seal, unless it is through */
} Operation;

struct FaultWorld {
        char *folder, *pristine;
        Store *store;
        StoreConnection *reader;
        StoreStage stage;
        const Operation *operation;
        char *before, *after;
        GString *told; /* by an operation that reads */
        char *all;     /* what it tells when it is untouched */
        char point[128];
        bool wrong;
        unsigned passed, failed;
};

extern const Operation fault_operations[];
extern const size_t fault_n_operations;

/* Who has nothing, and gets what an operation gives away. */
extern const StoreOwner carol;

/* Has work() done on the store's thread, and waits for it; alone: in a transaction of its own. Returns 0 or a code. */
int fault_write_to(FaultWorld *world, bool alone,
        int (*work)(StoreConnection *connection, FaultWorld *world, Error *error), Error *error);
