/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "merge-look.h"
#include "restore-case.h"
#include "restore.h"
#include "sketch.h"

/*
 * Whole restores into a real store. An input decides on the life of some licenses, on a backup and what was done to
 * it, and on how it is restored; the store is held against the model of the merge rules (tests/unit/merge-model.h),
 * which knows no store. Whatever the backup is: no counter rises, no tombstone goes, a failure changes nothing,
 * others' licenses stay, the books balance.
 *
 * Each run is an owner of its own; a store serves some of them, and is looked at as a whole before it goes.
 */

#define NOW INT64_C(1000)
#define RUNS_PER_STORE 64U
#define STEPS_MAX 24U

typedef struct Machine {
        char *folder;
        Store *store;
        StoreConnection *reader;
        unsigned n_runs;
        char *others; /* what bob has */
} Machine;

static Machine machine;
static const StoreOwner bob = { 1001, "bob" };

static void close_machine(void) {
        g_auto(Error) error = {};
        uint64_t licenses = 0;

        wait_swept(machine.reader);
        assert_books(machine.reader);
        machine.reader = store_connection_free(machine.reader);
        machine.store = store_free(machine.store);
        assert_good(store_check(machine.folder, &licenses, &error), &error);
        temp_folder_remove(machine.folder);
        g_free(machine.others);
        machine = (Machine) {};
}

static void at_end(void) {
        if (machine.store)
                close_machine();
        model_texts_free();
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
        fuzz_prepare();
        model_texts_make();
        atexit(at_end);
        return 0;
}

static void open_machine(void) {
        static const Sketch theirs[] = {
                { "urn:license:1", "bob's", .counters = "play=3" },
                { "urn:license:2", "bob's", .revoked = 5 },
        };
        g_auto(Error) error = {};

        machine.folder = temp_folder_new();
        assert_good(store_open(machine.folder, &no_limits, &machine.store, &error), &error);
        assert_good(store_connect(machine.store, &machine.reader, &error), &error);
        for (size_t i = 0; i < G_N_ELEMENTS(theirs); i++)
                sketch_put(machine.store, &bob, &theirs[i]);
        machine.others = describe_owner(machine.reader, &bob);
}

/* The life of licenses */

typedef struct Life {
        const StoreOwner *owner;
        Input *input;
        unsigned n_steps;
        Item *items; /* the model's */
} Life;

static int step_store(StoreConnection *connection, const Life *life, unsigned id, Error *error) {
        Item item = decode_item(life->input);
        g_auto(License) license = {};

        item_license(id, &item, &license);
        FUZZ_CHECK(store_license_put(connection, life->owner, &license, model_texts[id][item.document].document,
                           error) == model_store(&life->items[id], &item));
        return 0;
}

static int step_consume(StoreConnection *connection, const Life *life, unsigned id, Error *error) {
        unsigned right = input_below(life->input, N_RIGHTS);
        uint64_t amount = 1 + input_below(life->input, 4), left = 0, expected_left = 0;
        Item *item = &life->items[id];
        int expected;

        if (item->present && (NOW < item->not_before || (item->not_after != LICENSE_NO_TIME && NOW > item->not_after)))
                expected = ERROR_NO_RIGHTS;
        else
                expected = model_consume(item, right, amount, &expected_left);
        FUZZ_CHECK(store_license_consume(connection, life->owner, model_ids[id], model_rights[right], amount, NOW,
                           &left, error) == expected);
        FUZZ_CHECK(left == expected_left);
        return 0;
}

static int live(StoreConnection *connection, void *userdata, Error *error) {
        const Life *life = userdata;

        for (unsigned i = 0; i < life->n_steps; i++) {
                unsigned kind = input_below(life->input, 16), id = input_below(life->input, N_IDS);
                g_auto(Error) answer = {};
                int64_t now;

                if (kind < 8)
                        (void)step_store(connection, life, id, &answer);
                else if (kind < 12)
                        (void)step_consume(connection, life, id, &answer);
                else if (kind < 14)
                        FUZZ_CHECK(store_license_delete(connection, life->owner, model_ids[id], &answer) ==
                                model_delete(&life->items[id]));
                else {
                        now = 1 + (int64_t)input_below(life->input, 200);
                        FUZZ_CHECK(store_license_revoke(connection, life->owner, model_ids[id], now, &answer) ==
                                model_revoke(&life->items[id], now));
                }
        }
        return 0;
}

static void check_store(const StoreOwner *owner, const Item seen[N_IDS], const Item *expected, const char *story) {
        g_autofree char *promise = NULL, *difference = NULL, *others = describe_owner(machine.reader, &bob);
        Item now[N_IDS];

        (void)model_look(machine.reader, owner, now);
        promise = model_broken_promise(seen, now);
        if (promise)
                FUZZ_FAIL("%s: %s", story, promise);
        difference = expected ? model_difference(now, expected) : NULL;
        if (difference)
                FUZZ_FAIL("%s: %s", story, difference);
        if (!g_str_equal(others, machine.others))
                FUZZ_FAIL("%s: what another user has changed:\n%s", story, others);
        assert_books(machine.reader);
}

static void live_some(const StoreOwner *owner, Input *input, Item items[N_IDS]) {
        Life life = { owner, input, input_below(input, STEPS_MAX), items };
        g_auto(Error) error = {};
        Item before[N_IDS];

        (void)model_look(machine.reader, owner, before);
        if (life.n_steps > 0)
                assert_good(do_write(machine.store, live, &life, &error), &error);
        check_store(owner, before, items, "the life of the licenses");
}

/* The restore */

typedef struct Run {
        Cancel *cancel;
        unsigned cancel_at, n_events; /* the event that cancels; 0: none */
        uint64_t total, completed;
        unsigned percent;
        bool settled;
} Run;

static void note_event(Run *run) {
        if (++run->n_events == run->cancel_at)
                cancel_trigger(run->cancel, "Enough.");
}

static void on_begin(uint64_t total, void *userdata) {
        Run *run = userdata;

        FUZZ_CHECK(run->n_events == 0);
        run->total = total;
        note_event(run);
}

static void on_origin(WorkOrigin origin, char *from, void *userdata) {
        FUZZ_CHECK(license_text_is_valid(from, strlen(from)));
        g_free(from);
        note_event(userdata);
}

static void on_restricted(GPtrArray *licenses, void *userdata) {
        FUZZ_CHECK(!licenses); /* a restore leaves none out in this way */
}

static void on_outside(bool outside, void *userdata) {
}

static void on_moved(void *userdata) {
}

static void on_progress(uint64_t completed, unsigned percent, void *userdata) {
        Run *run = userdata;

        FUZZ_CHECK(completed >= run->completed && completed <= run->total && percent >= run->percent && percent < 100);
        run->completed = completed;
        run->percent = percent;
        note_event(run);
}

static void on_settling(void *userdata) {
        Run *run = userdata;

        FUZZ_CHECK(!run->settled);
        run->settled = true;
        note_event(run);
}

/* The backup as a file, or as a pipe that holds all of it. */
static int open_backup(const GByteArray *tar, bool piped) {
        int fds[2] = { -1, -1 };

        if (piped && tar->len <= 1024 * 1024) {
                FUZZ_CHECK(pipe2(fds, O_CLOEXEC) == 0 && fcntl(fds[1], F_SETPIPE_SZ, 1024 * 1024) >= 0);
                FUZZ_CHECK(write(fds[1], tar->data, tar->len) == (ssize_t)tar->len);
                close(fds[1]);
                return fds[0];
        }
        fds[0] = memfd_create("backup", MFD_CLOEXEC);
        FUZZ_CHECK(fds[0] >= 0 && write(fds[0], tar->data, tar->len) == (ssize_t)tar->len);
        FUZZ_CHECK(lseek(fds[0], 0, SEEK_SET) == 0);
        return fds[0];
}

static void append_conflicts(RestrictedList *list, GString *text) {
        g_autoptr(GPtrArray) entries = g_ptr_array_new();

        FUZZ_CHECK(restricted_read(list, 0, 1000, entries) == 0);
        for (unsigned i = 0; i < entries->len; i += 3)
                g_string_append_printf(text, "%s/%s/%s ", (char *)entries->pdata[i], (char *)entries->pdata[i + 1],
                        (char *)entries->pdata[i + 2]);
        sort_words(text);
}

static void check_merge(const RestoreCase *restore, const WorkResult *result, RestrictedList *list,
        Item items[N_IDS]) {
        const StoreMerge found = { result->restored, result->unchanged, result->newer_kept, result->conflicts,
                result->revoked };
        g_autoptr(GString) conflicts = g_string_new(NULL), expected_conflicts = g_string_new(NULL);
        g_autofree char *one = NULL, *other = NULL;
        StoreMerge expected;

        model_merge(items, restore->items, &expected, expected_conflicts);
        append_conflicts(list, conflicts);
        one = describe_merge(&found);
        other = describe_merge(&expected);
        if (!g_str_equal(one, other) || !g_str_equal(conflicts->str, expected_conflicts->str))
                FUZZ_FAIL("%s: %s (%s) and not %s (%s)", restore->story->str, one, conflicts->str, other,
                        expected_conflicts->str);
        FUZZ_CHECK(result->skipped == 0 && result->skipped_users && !result->skipped_users[0]);
}

static void check_refusal(const RestoreCase *restore, const Error *error, bool consent, bool canceled, bool limited) {
        check_message(error);
        switch (error->code) {
        case ERROR_NEEDS_INDIVIDUALIZATION:
                FUZZ_CHECK(!consent && (restore->foreign || restore->verdict == MAY_PASS));
                return;
        case ERROR_CANCELED:
                FUZZ_CHECK(canceled);
                return;
        case ERROR_LIMIT_EXCEEDED:
                FUZZ_CHECK(limited || restore->verdict == MAY_PASS);
                break;
        case ERROR_ACCESS_DENIED: /* it says that it is of all users */
                FUZZ_CHECK(restore->verdict == MAY_PASS);
                break;
        default:
                if (error->code != ERROR_BACKUP_CORRUPT || restore->verdict == MUST_PASS)
                        FUZZ_FAIL("%s: refused: %s", restore->story->str, error_message(error));
        }
        FUZZ_CHECK(g_str_has_suffix(error_message(error), "No license was changed."));
}

/* Returns whether what the store has is known still. */
static bool restore_backup(const StoreOwner *owner, Input *input, const RestoreCase *restore, Item items[N_IDS]) {
        unsigned decisions = input_byte(input), cancel_at = input_below(input, 4) == 1 ? input_byte(input) % 32 : 0;
        bool consent = decisions & 1, limited = (decisions & 24) == 24;
        StoreLimits limits = no_limits;
        RestorePlan plan = {
                .store = machine.store,
                .uid = owner->uid,
                .name = g_strdup(owner->name),
                .owner = owner->uid,
                .fd = open_backup(restore->tar, decisions & 2),
                .individualize = consent,
                .roots = g_new0(char *, 1),
                .machine = g_strdup("machine"),
                .stall_msec = 20000,
        };
        Run run = { .cancel_at = cancel_at };
        const WorkEvents events = { .begin = on_begin, .origin = on_origin, .restricted = on_restricted,
                .watched = on_outside, .outside = on_outside, .in_store = on_outside, .moved = on_moved,
                .progress = on_progress, .settling = on_settling, .userdata = &run };
        g_autoptr(Restore) work = NULL;
        g_auto(WorkResult) result = {};
        g_auto(Error) error = {};
        Item before[N_IDS];
        int r;

        if (limited) {
                limits.licenses_per_user = decisions >> 5;
                limits.bytes_per_user = (decisions & 4) ? 2000 : INT64_MAX;
                store_set_limits(machine.store, &limits);
        }
        memcpy(before, items, sizeof before);
        FUZZ_CHECK(cancel_new(&run.cancel) == 0 && restore_new(&plan, run.cancel, &work) == 0);
        r = restore_check(work, &error);
        if (r == 0)
                r = restore_run(work, &events, &result, &error);
        FUZZ_CHECK(r == (int)error.code);
        if (r == 0) {
                if (restore->verdict == MUST_FAIL)
                        FUZZ_FAIL("%s: it was restored", restore->story->str);
                FUZZ_CHECK(run.settled && (consent || !restore->foreign || restore->verdict == MAY_PASS));
                if (restore->verdict == MUST_PASS)
                        check_merge(restore, &result, restore_conflicts(work), items);
        } else
                check_refusal(restore, &error, consent, cancel_at > 0, limited);
        store_set_limits(machine.store, &no_limits);
        cancel_unref(run.cancel);
        check_store(owner, before, r == 0 && restore->verdict == MAY_PASS ? NULL : items, restore->story->str);
        return r != 0 || restore->verdict == MUST_PASS;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        g_autofree char *name = g_strdup_printf("user-%u", machine.n_runs);
        const StoreOwner owner = { 2000 + machine.n_runs, name };
        g_auto(RestoreCase) restore = {};
        Input input = { data, size };
        Item items[N_IDS];
        bool known;

        if (!machine.store)
                open_machine();
        for (unsigned i = 0; i < N_IDS; i++)
                items[i] = NO_ITEM;
        live_some(&owner, &input, items);
        restore_case_decode(&input, owner.uid, owner.name, &restore);
        known = restore_backup(&owner, &input, &restore, items);
        if (known)
                live_some(&owner, &input, items);
        if (known && input_below(&input, 2))
                (void)restore_backup(&owner, &input, &restore, items);

        if (++machine.n_runs == RUNS_PER_STORE)
                close_machine();
        return 0;
}
