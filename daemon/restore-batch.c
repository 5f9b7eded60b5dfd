/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "restore-batch.h"

#include <string.h>

#include "archive-frame.h"

/* What a batch holds at most; a single document may be larger. */
#define BATCH_ITEMS 1024U
#define BATCH_BYTES (1024U * 1024U)
/* A transaction ends after 50 ms: this, and what its commit takes. */
#define BATCH_USEC (40 * 1000)

/* A state, or a document. */
typedef struct Item {
        License license;
        int64_t revoked;
        uint64_t line;  /* of the state */
        void *document; /* NULL for a state */
        char *path;     /* of the document */
} Item;

typedef struct Batch {
        StoreCall call;
        RestoreTarget *target;
        StoreStage stage; /* what the target's becomes, should this be written */
        GHashTable *repairs;
        Item *items;      /* BATCH_ITEMS of them */
        unsigned n_items;
        size_t bytes;
        unsigned from, upto; /* of the items: those that this transaction was to write, and did */
} Batch;

struct RestoreBatches {
        Store *store;
        int64_t number;
        const WorkEvents *events;
        Batch batches[2];
        Batch *filling;
        Batch *flying; /* NULL: none */
};

RestoreTarget *restore_target_new(const char *name, uid_t uid) {
        RestoreTarget *target = g_try_new0(RestoreTarget, 1);

        if (target && license_set_string(&target->name, name) < 0)
                g_clear_pointer(&target, g_free);
        if (target)
                target->uid = uid;
        return target;
}

void restore_target_free(void *data) {
        RestoreTarget *target = data;

        g_free(target->name);
        g_free(target);
}

static void item_clear(Item *item) {
        license_clear(&item->license);
        g_free(item->document);
        g_free(item->path);
}

static void batch_empty(Batch *batch) {
        for (unsigned i = 0; i < batch->n_items; i++)
                item_clear(&batch->items[i]);
        batch->n_items = 0;
}

int restore_batches_new(Store *store, int64_t number, const WorkEvents *events, GHashTable *repairs,
                RestoreBatches **ret, Error *error) {
        RestoreBatches *batches = g_try_new0(RestoreBatches, 1);

        if (!batches)
                return error_set_no_memory(error);
        batches->store = store;
        batches->number = number;
        batches->events = events;
        batches->filling = &batches->batches[0];
        for (unsigned i = 0; i < G_N_ELEMENTS(batches->batches); i++) {
                /* Users decide how many restores there are at once. */
                batches->batches[i].items = g_try_new(Item, BATCH_ITEMS);
                batches->batches[i].repairs = repairs;
                if (!batches->batches[i].items) {
                        restore_batches_free(batches);
                        return error_set_no_memory(error);
                }
        }
        *ret = batches;
        return 0;
}

static int contradiction(const Item *item, StageResult result, Error *error) {
        const char *id = item->license.id;

        if (!item->document)
                return archive_damaged(error, "at", ARCHIVE_STATE, "line %" PRIu64 ": '%.100s' is there twice",
                        item->line, id);
        switch (result) {
        case STAGE_TWICE:
                return archive_damaged(error, "at", item->path, "license '%.100s' is there twice", id);
        case STAGE_UNKNOWN:
                return archive_damaged(error, "at", item->path, ARCHIVE_STATE " does not know '%.100s'", id);
        default:
                return archive_damaged(error, "at", item->path, "it is not what " ARCHIVE_STATE " says of '%.100s'",
                        id);
        }
}

static int stage_item(StoreConnection *connection, Batch *batch, const Item *item, Error *error) {
        StageResult result = STAGE_GOOD;
        StoreStage *stage = &batch->stage;
        int r;

        if (item->document)
                r = store_stage_license(connection, stage, &item->license, item->document, &result, error);
        else
                r = store_stage_state(connection, stage, &item->license, item->revoked, &result, error);
        if (r == 0 && result == STAGE_REPAIRS)
                /* If this is run again the key may be another's: then that one is looked at for nothing. */
                g_hash_table_add(batch->repairs, g_memdup2(&stage->last_document, sizeof stage->last_document));
        else if (r == 0 && result != STAGE_GOOD)
                r = contradiction(item, result, error);
        return r;
}

static int batch_run(StoreTask *task, StoreConnection *connection, Error *error) {
        Batch *batch = (Batch *)task;
        const RestoreTarget *target = batch->target;
        const StoreOwner owner = { target->uid, target->name };
        int64_t start = g_get_monotonic_time();
        int r;

        /* May be the second time: all begins with what the last batch left. */
        batch->stage = target->stage;
        batch->upto = batch->from;
        r = store_stage_owner(connection, &owner, &batch->stage, error);
        while (r == 0 && batch->upto < batch->n_items) {
                r = stage_item(connection, batch, &batch->items[batch->upto], error);
                batch->upto++;
                if (g_get_monotonic_time() - start > BATCH_USEC)
                        break;
        }
        if (r == ERROR_LIMIT_EXCEEDED && target->is_one_of_all)
                store_owner_name_error(connection, batch->stage.owner, error);
        return r;
}

/* Waits for the batch that is on its way, until all of it is written. */
static int land(RestoreBatches *batches, Error *error) {
        const WorkEvents *events = batches->events;
        Batch *batch = batches->flying;
        int r = 0;

        if (!batch)
                return 0;
        events->in_store(true, events->userdata);
        for (;;) {
                r = store_call_wait(&batch->call, error);
                if (r != 0)
                        break;
                batch->target->stage = batch->stage;
                batch->from = batch->upto;
                if (batch->from == batch->n_items)
                        break;
                store_call_write(batches->store, &batch->call);
        }

        events->in_store(false, events->userdata);
        batches->flying = NULL;
        batch_empty(batch);
        batch->bytes = 0;
        batch->target = NULL;
        return r;
}

/* Sends off what was gathered, once what was sent before has landed. */
static int send_off(RestoreBatches *batches, Error *error) {
        Batch *batch = batches->filling;
        int r;

        r = land(batches, error);
        if (r != 0 || batch->n_items == 0)
                return r;

        batch->target->stage.restore = batches->number;
        batch->call.task = (StoreTask) { .run = batch_run };
        batch->from = 0;
        batches->flying = batch;
        batches->filling = batch == &batches->batches[0] ? &batches->batches[1] : &batches->batches[0];
        store_call_write(batches->store, &batch->call);
        return 0;
}

int restore_batches_flush(RestoreBatches *batches, Error *error) {
        int r;

        r = send_off(batches, error);
        return r != 0 ? r : land(batches, error);
}

RestoreBatches *restore_batches_free(RestoreBatches *batches) {
        g_auto(Error) ignored = {};

        (void)land(batches, &ignored);
        for (unsigned i = 0; i < G_N_ELEMENTS(batches->batches); i++) {
                batch_empty(&batches->batches[i]);
                g_free(batches->batches[i].items);
        }
        g_free(batches);
        return NULL;
}

/* Takes an item over. One batch is of one target. */
static int add(RestoreBatches *batches, RestoreTarget *target, Item *item, Error *error) {
        Batch *batch = batches->filling;
        size_t bytes = license_memory_size(&item->license) + (item->document ? item->license.size : 0);
        int r = 0;

        if (batch->n_items > 0 &&
            (batch->target != target || batch->n_items >= BATCH_ITEMS || batch->bytes + bytes > BATCH_BYTES)) {
                r = send_off(batches, error);
                batch = batches->filling;
        }
        if (r != 0) {
                item_clear(item);
                return r;
        }

        batch->target = target;
        batch->bytes += bytes;
        batch->items[batch->n_items++] = *item;
        return 0;
}

int restore_batches_add_state(RestoreBatches *batches, RestoreTarget *target, BackupState *state, Error *error) {
        Item item = { .license = state->license, .revoked = state->revoked, .line = state->line };

        state->license = (License) {};
        return add(batches, target, &item, error);
}

int restore_batches_add_license(RestoreBatches *batches, RestoreTarget *target, BackupLicense *license,
        Error *error) {
        Item item = { .license = license->license };

        license->license = (License) {};
        item.document = g_try_malloc(item.license.size + 1);
        if (!item.document || license_set_string(&item.path, license->path) < 0) {
                item_clear(&item);
                return error_set_no_memory(error);
        }
        memcpy(item.document, license->document, item.license.size);
        return add(batches, target, &item, error);
}
