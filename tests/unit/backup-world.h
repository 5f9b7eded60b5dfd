/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "backup.h"
#include "common.h"
#include "folder.h"

/* A store, the folders that its backups go to, and somebody who listens and may cancel. */

typedef struct World {
        char *folder; /* the state directory */
        char *own;    /* alice's folder in it */
        char *root;   /* one that the administrator configured */
        char *target; /* the backup in the first of them */
        Store *store;
        Cancel *cancel;

        /* What the events told. */
        unsigned n_begins, n_progress, n_signals, n_signalled, percent;
        uint64_t total, completed;
        bool wrong; /* something fell, came too early or was too large */

        /* When to cancel: at the beginning, at a number of licenses, or at a percentage. */
        bool cancel_at_begin;
        uint64_t cancel_at;
        unsigned cancel_at_percent;
        void (*at_begin)(struct World *world);
        void (*at_moved)(struct World *world); /* while what lies there is read */
} World;

extern const StoreOwner alice, bob;

int world_setup(void **state);
int world_teardown(void **state);

char *make_folder(const char *path, const char *name);
int new_target(void);

/* A plan for a backup of alice's licenses: to her folder, and to a copy of fd, for a plan closes its own. */
BackupPlan new_plan(World *world);
BackupPlan plan_to(World *world, int fd);
Backup *new_backup(World *world, BackupPlan plan);
int run_backup(World *world, Backup *backup, WorkResult *ret, Error *error);
/* Checks and runs a backup; ret may be NULL. */
int run(World *world, BackupPlan plan, WorkResult *ret, Error *error);
void run_good(World *world, BackupPlan plan, WorkResult *ret);

void put_restricted(World *world, const char *id);
void put_some(World *world, unsigned n, size_t size);
/* SQL on the store, behind the service's back. */
void edit_store(World *world, const char *sql);

/* As where the service is started anew. */
void reopen_store(World *world);
/* A copy of the store as it is now, as a snapshot of its disk has it; and that it is put back, to the one start. */
void copy_store(World *world);
void put_store_back(World *world);

unsigned count_entries(const char *path);
/* There is no file but the backup in alice's folder, and nothing of a backup's in the state directory. */
void assert_nothing_left(World *world);
/* Is a whole backup, of what the result says; by name, it is alice's alone, too. */
void assert_proved(int fd, const WorkResult *result);
void assert_path_proved(const char *path, const WorkResult *result);

/* What is in a backup: the paths by line, and the content of one of them (both g_free). */
char *backup_list(int fd, const char *wanted, char **ret_content);

#define OLD_BACKUP "the old backup"
/* Puts something in the place of alice's backup; it is still that, and nothing else is there. */
void make_old_backup(World *world);
void assert_old_backup(World *world);
/* Runs an overwriting backup that fails, over an old one: that which is there, or one that it makes. */
void assert_backup_fails(World *world, ErrorCode code, const char *words);
void assert_fails(World *world, ErrorCode code, const char *words);
/* What the backup before told. */
void forget(World *world);

/* So large that most of it is proved while the rest is still read: there, documents show late as rotten. */
#define LARGE_N 24U
#define LARGE_SIZE 200000U
