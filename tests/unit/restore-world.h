/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "backup-world.h"
#include "restore-source.h"
#include "restore.h"

/*
 * Two machines: one that a backup was made on, and one that it is restored to, with licenses that a merge
 * would change. Alice is the same on both, and so is the machine's id, so that no consent is needed.
 */

typedef struct RestoreWorld {
        World *from;
        int backup;       /* of alice's licenses there; two documents, one id restricted, one revoked, one deleted */
        uint64_t size;    /* of it */

        char *folder;     /* the new machine's */
        char *own;        /* alice's backup folder there */
        char *root;       /* one that the administrator configured */
        Store *store;
        StoreConnection *connection; /* that looks at the store */
        char *before;     /* all that the store showed before the test */
        Cancel *cancel;

        /* What the events told. */
        GString *events;  /* without progress */
        unsigned n_events, n_progress, percent;
        uint64_t total, completed;
        bool wrong;       /* something fell, came in a wrong order or was too large */
        bool settled;

        unsigned cancel_at; /* the number of the event that cancels; 0: none */
        void (*at_event)(struct RestoreWorld *world);
} RestoreWorld;

#define RESTORE_LICENSES 2U
#define RESTORE_RESTRICTED 1U

/* Puts the folders of tests into memory where it can, for these sync a lot; ignores SIGPIPE, as the service does. */
void restore_world_prepare(void);

int restore_world_setup(void **state);
int restore_world_teardown(void **state);
/* The new machine as it was at first. */
void restore_world_renew(RestoreWorld *world);
/* A store in folder, with what the new machine has. */
Store *restore_world_open(const char *folder);

/* A license with what a test says of it; the rest is what its document says. */
typedef struct Spec {
        const char *id;       /* NULL: the document's */
        const char *document;
        const char *title, *key_id;
        const char *counters; /* "play=5 copy=3" */
        bool restricted;
} Spec;

void put_spec(Store *store, const StoreOwner *owner, const Spec *spec);
void put_many(Store *store, const StoreOwner *owner, unsigned n, size_t size);
void delete_license(Store *store, const StoreOwner *owner, const char *id);
void revoke_license(Store *store, const StoreOwner *owner, const char *id);
void set_property(Store *store, const StoreOwner *owner, const char *name, const char *value);

/* Backs up alice's licenses, or those of all users, to a file without a name, which stands at its start. */
int back_up(World *from, bool all_users);

/* All that a client can see of the store, as text, and what is left of licenses that are gone. */
char *render(StoreConnection *connection);
void assert_unchanged(RestoreWorld *world);

/* A plan for alice, from a copy of fd, or from her RestorePath where fd is negative. */
RestorePlan restore_plan(RestoreWorld *world, int fd);
/* What listens, with nothing heard yet. */
WorkEvents restore_events(RestoreWorld *world);
/* Checks and runs it; ret may be NULL. After a failure, nothing was put into ret. */
int restore(RestoreWorld *world, RestorePlan plan, WorkResult *ret, Error *error);
void restore_good(RestoreWorld *world, RestorePlan plan, WorkResult *ret);
/* The whole backup, with consent: good, and what came of it is right. */
void assert_restores(RestoreWorld *world);
/* Is refused with consent, the words are in the message, and the store is as it was. */
void assert_plan_refused(RestoreWorld *world, RestorePlan plan, ErrorCode code, const char *words);
/* The same for a file, which is closed; the message has both where and what in it. */
void assert_refused(RestoreWorld *world, int fd, ErrorCode code, const char *where, const char *what);
