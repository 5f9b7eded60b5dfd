/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fault-operations.h"

#include <string.h>

#include "fault-reads.h"
#include "fault-sqlite.h"

const StoreOwner carol = { 1002, "carol" };

static const Sketch staged[] = {
        { .id = "book", .document = "moby dick, newer", .date = 9, .counters = "print=3" },
        { .id = "film", .revoked = 5 },
        { .id = "game", .document = "go", .counters = "play=2" },
        { .id = "same", .document = "constant" },
};

/* More than a page, so that a write is several. */
static char large[30000];

typedef struct Act {
        StoreCall call;
        int (*work)(StoreConnection *connection, FaultWorld *world, Error *error);
        FaultWorld *world;
} Act;

static int act_run(StoreTask *task, StoreConnection *connection, Error *error) {
        Act *act = (Act *)task;

        return act->work(connection, act->world, error);
}

int fault_write_to(FaultWorld *world, bool alone,
        int (*work)(StoreConnection *connection, FaultWorld *world, Error *error), Error *error) {
        Act act = { .call.task = { .run = act_run, .alone = alone }, .work = work, .world = world };

        store_call_write(world->store, &act.call);
        return store_call_wait(&act.call, error);
}

static void make_license(License *license, const char *id) {
        memset(large, 'x', sizeof large - 1);
        fault_pause(true);
        license_make(license, id, large);
        (void)license_limit_counter(license, "print", 4);
        fault_pause(false);
}

static int put_one(StoreConnection *connection, FaultWorld *world, Error *error) {
        g_auto(License) license = {};

        make_license(&license, "new");
        return store_license_put(connection, &alice, &license, large, error);
}

static int put_again(StoreConnection *connection, FaultWorld *world, Error *error) {
        g_auto(License) license = {};

        make_license(&license, "book");
        return store_license_put(connection, &alice, &license, large, error);
}

static int consume(StoreConnection *connection, FaultWorld *world, Error *error) {
        uint64_t left;

        return store_license_consume(connection, &alice, "book", "copy", 2, 0, &left, error);
}

static int delete_one(StoreConnection *connection, FaultWorld *world, Error *error) {
        return store_license_delete(connection, &alice, "book", error);
}

static int revoke_one(StoreConnection *connection, FaultWorld *world, Error *error) {
        return store_license_revoke(connection, &alice, "book", 1700000000, error);
}

static int set_property(StoreConnection *connection, FaultWorld *world, Error *error) {
        return store_property_set(connection, &alice, "BackupPath", "/media/x/1000", error);
}

static int set_first_property(StoreConnection *connection, FaultWorld *world, Error *error) {
        return store_property_set(connection, &carol, "BackupPath", "/media/x/1002", error);
}

static int remove_property(StoreConnection *connection, FaultWorld *world, Error *error) {
        return store_property_remove(connection, &alice, "RestorePath", error);
}

static int reassign(StoreConnection *connection, FaultWorld *world, Error *error) {
        uint64_t licenses;

        return store_owner_reassign(connection, &bob, &alice, world->stage.restore, &licenses, error);
}

static int reassign_new(StoreConnection *connection, FaultWorld *world, Error *error) {
        uint64_t licenses;

        return store_owner_reassign(connection, &bob, &carol, world->stage.restore, &licenses, error);
}

static int purge(StoreConnection *connection, FaultWorld *world, Error *error) {
        uint64_t licenses;
        bool more;

        return store_owner_purge(connection, &bob, &licenses, &more, error);
}

static int note_conflict(const char *id, const char *key_id, const char *title, void *userdata, Error *error) {
        return 0;
}

static int merge_staged(StoreConnection *connection, FaultWorld *world, Error *error) {
        const StoreMergeEvents events = { note_conflict, never_unwanted, NULL, NULL };
        StoreMerge result;

        return store_merge(connection, world->stage.restore, &events, &result, error);
}

static bool look_at_all(int64_t key, void *userdata) {
        return true;
}

static int repair_staged(StoreConnection *connection, FaultWorld *world, Error *error) {
        const StoreMergeEvents events = { note_conflict, never_unwanted, look_at_all, NULL };
        StoreMerge result;

        return store_merge(connection, world->stage.restore, &events, &result, error);
}

static int stage_some(StoreConnection *connection, FaultWorld *world, Error *error) {
        StoreStage stage = { .restore = world->stage.restore };
        StageResult result = STAGE_GOOD;
        int r;

        r = store_stage_owner(connection, &alice, &stage, error);
        for (size_t i = 0; r == 0 && i < G_N_ELEMENTS(staged); i++) {
                g_auto(License) license = {};

                fault_pause(true);
                sketch_license(&staged[i], &license);
                fault_pause(false);
                r = store_stage_state(connection, &stage, &license, staged[i].revoked ?: LICENSE_NO_TIME, &result,
                        error);
                if (r == 0 && staged[i].document)
                        r = store_stage_license(connection, &stage, &license, staged[i].document, &result, error);
        }
        return r;
}

#define OPERATION(name, alone, work) \
        static int run_##name(FaultWorld *world, Error *error) { \
                return fault_write_to(world, alone, work, error); \
        }
OPERATION(put, false, put_one)
OPERATION(put_again, false, put_again)
OPERATION(consume, false, consume)
OPERATION(delete, false, delete_one)
OPERATION(revoke, false, revoke_one)
OPERATION(property, false, set_property)
OPERATION(first_property, false, set_first_property)
OPERATION(unset, false, remove_property)
OPERATION(stage, true, stage_some)
OPERATION(merge, true, merge_staged)
OPERATION(repair, true, repair_staged)
OPERATION(reassign, true, reassign)
OPERATION(reassign_new, true, reassign_new)
OPERATION(purge, true, purge)

static void prepare_stage(FaultWorld *world) {
        g_auto(Error) error = {};

        assert_good(run_stage(world, &error), &error);
}

/* A slice of the sweep, as the writer does it, but on a connection of ours: the writer would wait and try again. */
static int run_sweep(FaultWorld *world, Error *error) {
        g_autofree char *path = g_build_filename(world->folder, "licenses.db", NULL);
        g_autoptr(StoreConnection) connection = NULL;
        bool more;
        int r;

        r = store_connection_open(path, STORE_WRITE, &connection, error);
        return r != 0 ? r : store_sweep(connection, world->stage.restore, &more, error);
}

static int run_open(FaultWorld *world, Error *error) {
        return store_open(world->folder, &no_limits, &world->store, error);
}

/* Closing moves what is in the WAL into the database. It tells nobody whether it could. */
static int run_close(FaultWorld *world, Error *error) {
        world->reader = store_connection_free(world->reader);
        world->store = store_free(world->store);
        return 0;
}

/* What reads does so on a connection of its own, as a job does, whose statements are to be prepared. */

static int run_read_licenses(FaultWorld *world, Error *error) {
        g_autoptr(StoreConnection) connection = NULL;
        int r = store_connect(world->store, &connection, error);

        return r == 0 ? read_licenses(connection, &alice, world->told, error) : r;
}

static int run_read_owners(FaultWorld *world, Error *error) {
        g_autoptr(StoreConnection) connection = NULL;
        int r = store_connect(world->store, &connection, error);

        return r == 0 ? read_owners(connection, world->told, error) : r;
}

static int run_read_snapshot(FaultWorld *world, Error *error) {
        g_autoptr(StoreConnection) connection = NULL;
        int r = store_connect(world->store, &connection, error);

        return r == 0 ? read_snapshot(connection, world->told, error) : r;
}

static int run_check(FaultWorld *world, Error *error) {
        uint64_t licenses;
        int r = store_check(world->folder, &licenses, error);

        if (r == 0)
                g_string_append_printf(world->told, "%" PRIu64, licenses);
        return r;
}

#define VERSION_2 "UPDATE licenses SET digest = substr(digest, 1, 32); DROP TABLE identity; DROP TABLE epochs; " \
        "PRAGMA user_version = 2"
#define VERSION_1 VERSION_2 "; DROP TABLE staged_licenses; DROP TABLE staged_ids; PRAGMA user_version = 1"

/* Of a restore that a daemon before was killed in. */
#define STAGED "INSERT INTO staged_ids VALUES (((SELECT owner FROM owners WHERE name = 'alice') << 31) + 99, 1, " \
        "(SELECT owner FROM owners WHERE name = 'alice'), 'left', 1, NULL, 1, 100)"

#define DAMAGED "UPDATE documents SET document = x'00' WHERE key = (SELECT key FROM licenses WHERE id = 'same')"
#define ROW_DAMAGED "UPDATE licenses SET not_after = 5 WHERE id = 'same'"

const Operation fault_operations[] = {
        { "put", run_put },
        { "put-again", run_put_again },
        { "consume", run_consume },
        { "delete", run_delete },
        { "revoke", run_revoke },
        { "property", run_property },
        { "property-new", run_first_property },
        { "unset", run_unset },
        { "stage", run_stage },
        { "merge", run_merge, .prepare = prepare_stage },
        { "repair", run_repair, .prepare = prepare_stage, .sql = DAMAGED },
        { "repair-row", run_repair, .prepare = prepare_stage, .sql = ROW_DAMAGED, .unsound = true },
        { "sweep", run_sweep, .prepare = prepare_stage },
        { "reassign", run_reassign },
        { "reassign-new", run_reassign_new },
        { "purge", run_purge },
        { "licenses", run_read_licenses },
        { "owners", run_read_owners },
        { "snapshot", run_read_snapshot },
        { "check", run_check },
        { "open", run_open, .opens = true },
        { "open-staged", run_open, .opens = true, .sql = STAGED },
        { "upgrade", run_open, .opens = true, .sql = VERSION_2, .unsound = true },
        { "upgrade-1", run_open, .opens = true, .sql = VERSION_1, .unsound = true },
        { "create", run_open, .opens = true, .empty = true },
        { "close", run_close },
};

const size_t fault_n_operations = G_N_ELEMENTS(fault_operations);
