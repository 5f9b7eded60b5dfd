/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "sketch.h"
#include "store-connection.h"

/* A store, someone who reads it, and a restore of alice's that is under way; for tests of staging and merging. */

typedef struct StageWorld {
        char *folder;
        Store *store;
        StoreConnection *reader;
        StoreStage stage; /* alice's */
} StageWorld;

static const StoreOwner alice = { 1000, "alice" };
static const StoreOwner bob = { 1001, "bob" };

int stage_world_setup(void **state);
int stage_world_teardown(void **state);

/* What a service does when it starts, and when it stops. */
void stage_world_open(StageWorld *world);
void stage_world_close(StageWorld *world);

/* Licenses of alice's, and what her restore has of them. */
void put_here(StageWorld *world, const Sketch *sketches, size_t n);
void stage_there(StageWorld *world, const Sketch *sketches, size_t n);
