/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "client.h"
#include "injector.h"

/*
 * A machine for the tests of faults: a private bus, the real daemon behind the injector, and a state that it can be put
 * back into. What a fault makes of it is never fatal to the test: it is a complaint, and the next point goes on.
 */

#define MAX_STEPS 4U

/* What came of an operation, as its client sees it. */
typedef struct Outcome {
        char *error;           /* the D-Bus name; NULL: it went well */
        char *message;
        int32_t hresult;       /* of a job */
        bool is_job;
        bool silent;           /* no answer came: the service is gone, or hangs */
        unsigned acknowledged; /* steps that went well */
        int status;            /* of a daemon that ended at its start; -1 */
} Outcome;

void outcome_clear(Outcome *outcome);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Outcome, outcome_clear)

typedef struct World World;

/* Of a user, below the test's. */
#define OWN_FOLDER "state/backups/%u"

typedef struct Operation {
        const char *name;
        FileSystem file_system;
        bool is_start;         /* it is the start of the daemon */
        bool is_cold;          /* it is the user's first call */
        bool sweeps;           /* once it has answered the daemon goes on with removing what was staged */
        bool is_roots;         /* root does it, to two users */
        const char *target;    /* the folder of the backup that it makes, below the test's; %u: the uid. Or NULL */
        bool has_old;          /* a backup is there before */
        const char *aside;     /* how the name begins that it gets where the new one may not replace it; NULL */
        bool is_renamed;       /* it gets it by a rename, after which a kill leaves none under the usual name */
        unsigned licenses;     /* of the new backup */
        const char *new_file;  /* where the client has the backup afterwards, below the test's folder; NULL */
        void (*prepare)(World *world); /* the daemon runs */
        void (*warm)(World *world);    /* what a daemon has done before, without a fault; NULL */
        void (*run)(World *world, Outcome *ret);
        void (*check)(World *world, const Outcome *outcome); /* after a fault, what is its alone; NULL */
} Operation;

struct World {
        Harness *h;
        FaultPlan *plan;
        int socket;
        sd_bus *user, *visitor;         /* users[0] of the harness, twice */
        sd_bus *other, *root;           /* users[1], and root; NULL where the test is not root's */
        sd_bus *caller;                 /* whose calls attempt() makes now: user, if not told otherwise */
        const Operation *operation;
        char *pristine;                 /* what state and media were before the operation */
        char *states[MAX_STEPS + 1];    /* what the store shows after so many steps */
        unsigned n_steps;
        unsigned step_limit;            /* the operation ends after so many; 0: none */
        char *old_backup;               /* its bytes; NULL */
        size_t old_size;
        char *instance;                 /* of the daemon that runs, or ran last */

        char point[128];                /* what is tried now */
        unsigned passed, failed;        /* points */
        unsigned complaints;            /* of this point */
        pid_t copier;                   /* a client's other end */
};

/* Starts the injector and the bus. */
World *world_new(void);
/* Returns how the harness went down. */
int world_free(World *world);

/* Something is wrong at this point. */
G_GNUC_PRINTF(2, 3)
void complain(World *world, const char *format, ...);

/* Makes the operation's beginning, and keeps it. */
void world_prepare(World *world, const Operation *operation);
/* Puts all files back to it. No daemon runs. */
void world_reset(World *world);

/*
 * Whether the daemon came up; *ret_status (may be NULL) is its exit status where it ended, 128 and more for a signal.
 */
bool world_start(World *world, int *ret_status);
/* Whether it ended as it must. */
bool world_stop(World *world);
/* Waits for a daemon that was killed; false where it lives on. */
bool world_reap(World *world, int *ret_status);

/* A call that may fail. Returns whether it went well; *ret may be NULL. */
bool attempt(World *world, Outcome *outcome, sd_bus_message **ret, const char *path, const char *member,
        const char *types, ...);
/* The same for a message, which is unref'd. */
bool attempt_message(World *world, Outcome *outcome, sd_bus_message **ret, sd_bus_message *message);
/* The same for one that starts a job, which is waited for. */
bool attempt_job(World *world, Outcome *outcome, const char *member, const char *types, ...);

/* All that the store shows to the user, as text (g_free); NULL after a complaint. */
char *world_describe(World *world);
/* A line an owner: whose licenses there are, as root sees it (g_free); NULL after a complaint. */
char *world_describe_owners(World *world);
/* Asks for the InstanceId (g_free); NULL after a complaint. */
char *world_instance(World *world);

/* The path of a name in the test's folder, in which %u is the user's number (g_free). */
char *world_path(World *world, const char *name);
/*
 * Copies what is read to a file, or a file to what is written, in a process of its own that has not the other end;
 * closes fd here. world_end_copy() waits until all is copied, or nobody reads any more.
 */
void world_copy_from(World *world, int fd, int other, const char *path);
void world_copy_to(World *world, const char *path, int fd, int other);
void world_end_copy(World *world);
