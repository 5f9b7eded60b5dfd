/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "backup-world.h"

/* Backups over what lies there, and what became of that. */

#define FORMER_USER "licenses-of-former-user-"
#define FORMER_STORE "licenses-of-former-store-"
#define ONE_STORE "0123456789abcdef0123456789abcdef"
#define OTHER_STORE "fedcba9876543210fedcba9876543210"

/* Beside what is called as the backup there is one file alone, of such a name, and with these bytes. */
void assert_aside(World *world, const char *prefix, GBytes *bytes);

/* One that replaces what lies there. */
BackupPlan plan_over(World *world, const char *name);

/* Backs up so many licenses, for who has the number and that name. */
void back_up_over(World *world, const char *name, uint64_t licenses);

/* As if it had never been stored. */
void forget_newest_license(World *world);

/* The id of a store, as backups of it say it. */
void set_store(World *world, const char *id);

/* Over what is of a store on a machine; returns the name under which that was set aside, NULL where it was replaced. */
char *back_up_on(World *world, const char *machine);

/* The same, always on one machine. */
void back_up_over_other(World *world, bool is_set_aside);

/* A file of alice's folder. */
void assert_has(World *world, const char *name, GBytes *bytes);

/* How many there have these bytes. */
unsigned count_files(World *world, GBytes *bytes);

/* One license more. */
void put_named(World *world, const char *name);
