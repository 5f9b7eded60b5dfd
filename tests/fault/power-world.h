/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "client.h"
#include "power-disk.h"

/*
 * A world whose files are recorded, step by step: a step begins, the service works, and when it has answered
 * the step ends, and what is there then is remembered. After a power cut within a step there must be what was
 * before it or what was after it, and between steps nothing else than what was.
 */

/* What is on the disk as a user sees it: "license 1000 id" and "file a/b" to what is known of them. */
typedef GHashTable PowerView;

typedef struct PowerWorld {
        Harness *h;
        char *disk;   /* holds state, media, out: all that is recorded */
        char *out;    /* a folder of the client's */
        char *log;
        GPtrArray *views; /* of PowerView: before all steps, and after each */
} PowerWorld;

/* What licensevaultctl writes in world->out. */
#define POWER_OUTPUT "mine.tar"

/* Whether all points are to be tried. */
extern bool power_long;

int power_setup(void **state);
int power_teardown(void **state);

/* The daemon, recorded. What was done so far by the test's setup counts as safe at power_begin_all(). */
void power_start(PowerWorld *world);
/* Programs that run between the two are recorded. */
void power_record(PowerWorld *world, bool on);
/* A variable for what is recorded from now on; NULL for none. */
void power_set(const char *variable, const char *value);

/* From here on points are tried; what was before is safe. */
void power_begin_all(PowerWorld *world);
void power_begin(PowerWorld *world);
/* A step of many calls, each of which is done or not. */
void power_begin_parts(PowerWorld *world);
void power_end(PowerWorld *world);
/* Within such a step: what this key stands for was acknowledged. */
void power_acknowledge(PowerWorld *world, const char *key);

/*
 * Stops the daemon, holds the log against the disk, and tries the points: max of them (all with power_long), always
 * all around what orders writes. Fails the test with what was found.
 */
void power_try(PowerWorld *world, unsigned max);
