/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "backup.h"
#include "merge-look.h"
#include "restore.h"
#include "sketch.h"

/*
 * Machines of one owner that store, use, delete, revoke and restrict licenses, back up and restore each
 * other's backups, old ones and new ones, in any order; held against a small model of the rules (design, section
 * 4) after each step. At the end they restore each other's until nothing changes, and are equal but for
 * conflicts.
 *
 * MERGE_MODEL_SEED repeats a world, MERGE_MODEL_WORLDS asks for more of them.
 */

#define N_MACHINES 3U
#define N_BACKUPS 6U
#define N_STEPS 120U
#define N_WORLDS 12U
#define ROUNDS_MAX 10U
#define NOW INT64_C(1000)

static const StoreOwner alice = { 1000, "alice" };
/* A backup, as the model knows it and as a file. */
typedef struct Saved {
        int fd; /* -1: none was made */
        Item items[N_IDS];
} Saved;

typedef struct Machine {
        char *folder;
        Store *store;
        StoreConnection *reader;
        Item items[N_IDS]; /* the model's */
        Item seen[N_IDS];  /* what the store had when it was last looked at */
} Machine;

typedef struct World {
        uint64_t seed, random;
        unsigned step;
        char what[128]; /* the step, for messages */
        unsigned n_machines;
        Machine machines[N_MACHINES];
        Saved backups[N_BACKUPS];
        Cancel *cancel;
        GString *conflicts; /* that the model expects: model_ids */
        uint64_t n_restored;
} World;

static unsigned below(World *world, unsigned n) {
        world->random ^= world->random << 13;
        world->random ^= world->random >> 7;
        world->random ^= world->random << 17;
        return (unsigned)((world->random >> 20) % n);
}

#define FAIL(world, format, ...) fail_msg("seed %" PRIu64 ", step %u, %s: " format, (world)->seed, \
        (world)->step, (world)->what, __VA_ARGS__)

/* What an app would store of it. */
static Item random_item(World *world) {
        static const char *const titles[] = { NULL, "A", "B" }, *const keys[] = { NULL, NULL, NULL, "k", "K" };
        Item item = NO_ITEM;

        item.known = item.present = true;
        item.restricted = below(world, 10) == 0;
        item.document = below(world, N_DOCUMENTS);
        item.title = titles[below(world, 3)];
        item.key_id = keys[below(world, 5)];
        item.not_before = below(world, 2) ? LICENSE_NO_TIME : (int64_t)below(world, 4);
        item.not_after = below(world, 2) ? LICENSE_NO_TIME : NOW + (int64_t)below(world, 4);
        for (unsigned i = 0; i < N_RIGHTS; i++)
                item.counters[i] = below(world, 3) == 0 ? UNLIMITED : below(world, 12);
        return item;
}

/* Looking at a store, and holding it against the model. */

static void check(World *world, Machine *machine) {
        g_autofree char *promise = NULL, *difference = NULL;
        Item now[N_IDS];

        if (model_look(machine->reader, &alice, now) > 0)
                FAIL(world, "%s", "there are ids that nobody stored");
        promise = model_broken_promise(machine->seen, now);
        if (promise)
                FAIL(world, "%s", promise);
        difference = model_difference(now, machine->items);
        if (difference)
                FAIL(world, "%s", difference);
        memcpy(machine->seen, now, sizeof now);
        assert_books(machine->reader);
}

/* Steps of one machine. */

typedef struct Step {
        enum { STORE, CONSUME, DELETE, REVOKE } kind;
        unsigned id, right;
        uint64_t amount;
        int64_t now;
        Item item;
        uint64_t left;
} Step;

static int take_step(StoreConnection *connection, void *userdata, Error *error) {
        Step *step = userdata;
        g_auto(License) license = {};

        switch (step->kind) {
        case STORE:
                item_license(step->id, &step->item, &license);
                return store_license_put(connection, &alice, &license,
                        model_texts[step->id][step->item.document].document, error);
        case CONSUME:
                return store_license_consume(connection, &alice, model_ids[step->id], model_rights[step->right],
                        step->amount, NOW, &step->left, error);
        case DELETE:
                return store_license_delete(connection, &alice, model_ids[step->id], error);
        case REVOKE:
                return store_license_revoke(connection, &alice, model_ids[step->id], step->now, error);
        }
        return 0;
}

static int model_step(const Step *step, Item *item, uint64_t *ret_left) {
        switch (step->kind) {
        case STORE:
                return model_store(item, &step->item);
        case CONSUME:
                return model_consume(item, step->right, step->amount, ret_left);
        case DELETE:
                return model_delete(item);
        case REVOKE:
                return model_revoke(item, step->now);
        }
        return 0;
}

static void use(World *world, Machine *machine) {
        static const char *const names[] = { "store", "consume", "delete", "revoke" };
        static const unsigned char kinds[] = { STORE, STORE, STORE, STORE, CONSUME, CONSUME, CONSUME, DELETE };
        Step step = { .id = below(world, N_IDS), .right = below(world, N_RIGHTS), .amount = 1 + below(world, 3),
                /* Clocks of machines differ: a later revocation may say an earlier time. */
                .now = 1 + below(world, 1000), .item = random_item(world) };
        uint64_t left = 0;
        g_auto(Error) error = {};
        int r, expected;

        step.kind = below(world, 30) == 0 ? REVOKE : kinds[below(world, G_N_ELEMENTS(kinds))];
        snprintf(world->what, sizeof world->what, "%s %s on %u", names[step.kind], model_ids[step.id],
                (unsigned)(machine - world->machines));
        expected = model_step(&step, &machine->items[step.id], &left);
        r = do_write(machine->store, take_step, &step, &error);
        if (r != expected)
                FAIL(world, "'%s' and not '%s': %s", error_name((ErrorCode)r), error_name((ErrorCode)expected),
                        error_message(&error));
        if (r == 0 && step.left != left)
                FAIL(world, "%" PRIu64 " uses are left and not %" PRIu64, step.left, left);
}

/* Backups. */

typedef struct Staging {
        StoreStage stage;
        const Item *items;
} Staging;

static int stage_items(StoreConnection *connection, void *userdata, Error *error) {
        Staging *staging = userdata;
        StoreStage stage = staging->stage;
        StageResult result = STAGE_GOOD;
        int r = store_stage_owner(connection, &alice, &stage, error);

        for (unsigned part = 0; part < 2; part++)
                for (unsigned i = 0; r == 0 && i < N_IDS; i++) {
                        const Item *item = &staging->items[i];
                        g_auto(License) license = {};

                        if (!item->known || (part == 1 && (!item->present || item->restricted)))
                                continue;
                        item_license(i, item, &license);
                        r = part == 0 ?
                                store_stage_state(connection, &stage, &license, item->revoked, &result, error) :
                                store_stage_license(connection, &stage, &license,
                                        model_texts[i][item->document].document, &result, error);
                        if (r == 0 && result != STAGE_GOOD)
                                r = error_set(error, ERROR_BACKUP_CORRUPT, "Staging '%s' gave %d.", model_ids[i],
                                        result);
                }
        return r;
}

static void check_counts(World *world, const StoreMerge *found, const char *conflicts, const StoreMerge *expected,
                const Item items[N_IDS]) {
        g_autofree char *one = describe_merge(found), *other = describe_merge(expected);

        if (!g_str_equal(one, other))
                FAIL(world, "%s and not %s", one, other);
        if (!g_str_equal(conflicts, world->conflicts->str))
                FAIL(world, "conflicts are '%s' and not '%s'", conflicts, world->conflicts->str);
        assert_int_equal(found->restored + found->unchanged + found->newer_kept + found->conflicts + found->revoked,
                model_count(items));
}

static void expect_merge(World *world, Machine *machine, const Item items[N_IDS], StoreMerge *ret) {
        g_string_truncate(world->conflicts, 0);
        model_merge(machine->items, items, ret, world->conflicts);
}

/* A restore in its parts: staged, with something else before the end, and then merged or dropped. */
static void restore_in_parts(World *world, Machine *machine, const Saved *saved) {
        Staging staging = { .stage.restore = store_restore_begin(machine->store), .items = saved->items };
        g_autoptr(GString) conflicts = g_string_new(NULL);
        StoreMerge result, expected;
        g_auto(Error) error = {};

        assert_good(do_write(machine->store, stage_items, &staging, &error), &error);
        check(world, machine);
        use(world, machine);
        check(world, machine);

        snprintf(world->what, sizeof world->what, "restore in parts on %u", (unsigned)(machine - world->machines));
        if (below(world, 4) > 0) {
                expect_merge(world, machine, saved->items, &expected);
                assert_good(merge(machine->store, staging.stage.restore, &result, conflicts, &error), &error);
                check_counts(world, &result, conflicts->str, &expected, saved->items);
        }
        store_restore_end(machine->store, staging.stage.restore);
}

/* Nobody listens. */

static void on_begin(uint64_t total, void *userdata) {
}

static void on_origin(WorkOrigin origin, char *from, void *userdata) {
        g_free(from);
}

static void on_restricted(GPtrArray *licenses, void *userdata) {
        g_ptr_array_unref(licenses);
}

static void on_outside(bool outside, void *userdata) {
}

static void on_moved(void *userdata) {
}

static void on_progress(uint64_t completed, unsigned percent, void *userdata) {
}

static void on_settling(void *userdata) {
}

static const WorkEvents deaf = { .begin = on_begin, .origin = on_origin, .restricted = on_restricted,
        .watched = on_outside, .outside = on_outside, .in_store = on_outside, .moved = on_moved,
        .progress = on_progress, .settling = on_settling };

static int copy_fd(int fd) {
        int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

        assert_true(copy >= 0);
        return copy;
}

static void back_up_to(World *world, Machine *machine, Saved *saved) {
        BackupPlan plan = {
                .store = machine->store,
                .uid = alice.uid,
                .name = g_strdup(alice.name),
                .owner = alice.uid,
                .roots = g_new0(char *, 1),
                .host = g_strdup("host"),
                .machine = g_path_get_basename(machine->folder),
                .stall_msec = 20000,
        };
        g_autoptr(Backup) backup = NULL;
        g_auto(WorkResult) result = {};
        g_auto(Error) error = {};

        fd_closep(&saved->fd);
        saved->fd = memfd_create("backup", MFD_CLOEXEC);
        assert_true(saved->fd >= 0);
        memcpy(saved->items, machine->items, sizeof saved->items);
        plan.fd = copy_fd(saved->fd);
        assert_int_equal(backup_new(&plan, world->cancel, &backup), 0);
        assert_good(backup_check(backup, &error), &error);
        assert_good(backup_run(backup, &deaf, &result, &error), &error);
}

static void append_conflicts(RestrictedList *list, GString *text) {
        g_autoptr(GPtrArray) entries = g_ptr_array_new();

        assert_int_equal(restricted_read(list, 0, N_IDS, entries), 0);
        for (unsigned i = 0; i < entries->len; i += 3)
                g_string_append_printf(text, "%s/%s/%s ", (char *)entries->pdata[i], (char *)entries->pdata[i + 1],
                        (char *)entries->pdata[i + 2]);
}

/* The whole way: from the file, through everything that a user's restore goes through. */
static void restore_from_file(World *world, Machine *machine, const Saved *saved) {
        RestorePlan plan = {
                .store = machine->store,
                .uid = alice.uid,
                .name = g_strdup(alice.name),
                .owner = alice.uid,
                .fd = copy_fd(saved->fd),
                .individualize = true,
                .roots = g_new0(char *, 1),
                .machine = g_path_get_basename(machine->folder),
                .stall_msec = 20000,
        };
        g_autoptr(GString) conflicts = g_string_new(NULL);
        g_autoptr(Restore) job = NULL;
        g_auto(WorkResult) result = {};
        g_auto(Error) error = {};
        StoreMerge expected, found;

        assert_int_equal(lseek(saved->fd, 0, SEEK_SET), 0);
        assert_int_equal(restore_new(&plan, world->cancel, &job), 0);
        assert_good(restore_check(job, &error), &error);
        if (restore_run(job, &deaf, &result, &error) != 0)
                FAIL(world, "%s", error_message(&error));

        expect_merge(world, machine, saved->items, &expected);
        append_conflicts(restore_conflicts(job), conflicts);
        sort_words(conflicts);
        found = (StoreMerge) { result.restored, result.unchanged, result.newer_kept, result.conflicts,
                result.revoked };
        check_counts(world, &found, conflicts->str, &expected, saved->items);
        world->n_restored += found.restored;
}

static void restore_some(World *world, Machine *machine, bool in_parts) {
        unsigned n = below(world, N_BACKUPS);

        if (world->backups[n].fd < 0)
                return;
        snprintf(world->what, sizeof world->what, "restore %u on %u", n, (unsigned)(machine - world->machines));
        if (in_parts)
                restore_in_parts(world, machine, &world->backups[n]);
        else
                restore_from_file(world, machine, &world->backups[n]);
}

static void take_any_step(World *world) {
        Machine *machine = &world->machines[below(world, world->n_machines)];
        unsigned kind = below(world, 12);

        if (kind < 8)
                use(world, machine);
        else if (kind < 10)
                back_up_to(world, machine, &world->backups[below(world, N_BACKUPS)]);
        else
                restore_some(world, machine, kind == 11);
        check(world, machine);
}

/* Each restores a fresh backup of each other, in some order, until nothing changes. */
static void exchange_until_still(World *world) {
        for (unsigned round = 0; round < ROUNDS_MAX; round++) {
                unsigned first = below(world, world->n_machines);
                bool changed = false;

                for (unsigned i = 0; i < world->n_machines * world->n_machines; i++) {
                        Machine *to = &world->machines[(first + i) % world->n_machines];
                        Machine *from = &world->machines[i / world->n_machines];
                        Item before[N_IDS];
                        Saved saved = { .fd = -1 };

                        if (from == to)
                                continue;
                        memcpy(before, to->seen, sizeof before);
                        back_up_to(world, from, &saved);
                        snprintf(world->what, sizeof world->what, "round %u, %u restores %u", round,
                                (unsigned)(to - world->machines), (unsigned)(from - world->machines));
                        restore_from_file(world, to, &saved);
                        fd_closep(&saved.fd);
                        check(world, to);
                        for (unsigned k = 0; k < N_IDS; k++) {
                                g_autofree char *was = item_describe(&before[k]), *is = item_describe(&to->seen[k]);

                                changed = changed || !g_str_equal(was, is);
                        }
                }
                if (!changed)
                        return;
        }
        FAIL(world, "machines that restore each other's backups go on changing after %u rounds", ROUNDS_MAX);
}

static bool texts_fit(const char *one, const char *other, bool conflict) {
        return one == other || (conflict && one && other);
}

static void compare(World *world, unsigned id, const Item *one, const Item *other) {
        g_autofree char *text = item_describe(one), *other_text = item_describe(other);
        bool good = one->known == other->known && one->generation == other->generation &&
                one->revoked == other->revoked && one->restricted == other->restricted &&
                memcmp(one->counters, other->counters, sizeof one->counters) == 0;

        /* A license that may not be backed up goes nowhere. */
        if (good && !one->restricted) {
                good = one->present == other->present;
                if (good && one->present && one->document == other->document) {
                        bool conflict = one->title != other->title || one->key_id != other->key_id;

                        good = one->not_before == other->not_before && one->not_after == other->not_after &&
                                texts_fit(one->title, other->title, conflict) &&
                                texts_fit(one->key_id, other->key_id, conflict);
                } else if (good && one->present)
                        good = item_may_differ(id, one, other);
        }
        if (!good)
                FAIL(world, "%s is '%s' here and '%s' there", model_ids[id], text, other_text);
}

static void open_machine(Machine *machine) {
        g_auto(Error) error = {};

        machine->folder = temp_folder_new();
        assert_good(store_open(machine->folder, &no_limits, &machine->store, &error), &error);
        assert_good(store_connect(machine->store, &machine->reader, &error), &error);
        for (unsigned i = 0; i < N_IDS; i++)
                machine->items[i] = machine->seen[i] = NO_ITEM;
}

static void close_machine(Machine *machine) {
        store_connection_free(machine->reader);
        store_free(machine->store);
        temp_folder_remove(machine->folder);
}

static void world_begin(World *world, uint64_t seed) {
        *world = (World) { .seed = seed, .random = seed * UINT64_C(0x9E3779B97F4A7C15) | 1 };
        world->conflicts = g_string_new(NULL);
        assert_int_equal(cancel_new(&world->cancel), 0);
        for (unsigned i = 0; i < N_BACKUPS; i++)
                world->backups[i].fd = -1;
        world->n_machines = 2 + below(world, N_MACHINES - 1);
        for (unsigned i = 0; i < world->n_machines; i++)
                open_machine(&world->machines[i]);
}

static void world_end(World *world) {
        for (unsigned i = 0; i < world->n_machines; i++)
                close_machine(&world->machines[i]);
        world->n_machines = 0;
        for (unsigned i = 0; i < N_BACKUPS; i++)
                fd_closep(&world->backups[i].fd);
        cancel_unref(world->cancel);
        g_string_free(world->conflicts, true);
}

static int setup(void **state) {
        *state = g_new0(World, 1);
        return 0;
}

/* A test that failed has left its machines. */
static int teardown(void **state) {
        World *world = *state;

        if (world->n_machines > 0)
                world_end(world);
        g_free(world);
        return 0;
}

static void live(World *world) {
        for (world->step = 1; world->step <= N_STEPS; world->step++)
                take_any_step(world);
        exchange_until_still(world);
        for (unsigned i = 0; i < world->n_machines; i++) {
                for (unsigned k = 0; k < N_IDS; k++)
                        for (unsigned j = 0; j < i; j++)
                                compare(world, k, &world->machines[i].seen[k], &world->machines[j].seen[k]);
                wait_swept(world->machines[i].reader);
                check(world, &world->machines[i]);
        }
}

static void test_machines_that_restore_each_other_end_equal_and_lose_no_mark(void **state) {
        const char *seed = getenv("MERGE_MODEL_SEED"), *worlds = getenv("MERGE_MODEL_WORLDS");
        uint64_t first = seed ? strtoull(seed, NULL, 10) : (uint64_t)g_get_real_time();
        unsigned n = worlds ? (unsigned)strtoul(worlds, NULL, 10) : seed ? 1 : N_WORLDS;
        World *world = *state;
        uint64_t n_restored = 0;

        print_message("MERGE_MODEL_SEED=%" PRIu64 ", and the next %u\n", first, n - 1);
        for (unsigned i = 0; i < n; i++) {
                world_begin(world, first + i);
                live(world);
                n_restored += world->n_restored;
                world_end(world);
        }
        assert_true(n < N_WORLDS || n_restored > N_WORLDS);
}

static int group_setup(void **state) {
        model_texts_make();
        return 0;
}

static int group_teardown(void **state) {
        model_texts_free();
        return 0;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_machines_that_restore_each_other_end_equal_and_lose_no_mark,
                        setup, teardown),
        };

        return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
