/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "stage-world.h"

void stage_world_open(StageWorld *world) {
        g_auto(Error) error = {};

        assert_good(store_open(world->folder, &no_limits, &world->store, &error), &error);
        assert_good(store_connect(world->store, &world->reader, &error), &error);
        world->stage = (StoreStage) { .restore = store_restore_begin(world->store) };
}

void stage_world_close(StageWorld *world) {
        world->reader = store_connection_free(world->reader);
        world->store = store_free(world->store);
}

int stage_world_setup(void **state) {
        StageWorld *world = g_new0(StageWorld, 1);

        world->folder = temp_folder_new();
        stage_world_open(world);
        *state = world;
        return 0;
}

int stage_world_teardown(void **state) {
        StageWorld *world = *state;

        stage_world_close(world);
        temp_folder_remove(world->folder);
        g_free(world);
        return 0;
}

void put_here(StageWorld *world, const Sketch *sketches, size_t n) {
        for (size_t i = 0; i < n; i++)
                sketch_put(world->store, &alice, &sketches[i]);
}

void stage_there(StageWorld *world, const Sketch *sketches, size_t n) {
        sketch_stage_good(world->store, &world->stage, &alice, sketches, n);
}
