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
#include "user-name.h"

/*
 * Whole restores into a real store. An input decides on the life of some licenses, on a backup and what was done to
 * it, and on how it is restored; the store is held against the model of the merge rules (tests/unit/merge-model.h),
 * which knows no store. Whatever the backup is: no counter rises, no tombstone goes, a failure changes nothing,
 * others' licenses stay, the books balance.
 *
 * Each run is an owner of its own; a store serves some of them, and is looked at as a whole before it goes. A backup of
 * all users is restored by name: its users are accounts that every system has, and are purged when the run is over.
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

/* A run's users, and what the model says that they have. */
typedef struct Household {
        StoreOwner users[CASE_USERS];
        unsigned n_users;
        bool all_users;
        unsigned from; /* of all users, which one is restored alone; not below CASE_USERS: all are */
        Item items[CASE_USERS][N_IDS];
} Household;

/* All but the last have an account. */
static const char *const account_names[CASE_USERS] = { "root", "daemon", "licensevault-nobody-has-this-name" };

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

static void check_user(const StoreOwner *owner, const Item seen[N_IDS], const Item *expected, const char *story) {
        g_autofree char *promise = NULL, *difference = NULL;
        Item now[N_IDS];

        (void)model_look(machine.reader, owner, now);
        promise = model_broken_promise(seen, now);
        if (promise)
                FUZZ_FAIL("%s: %s: %s", story, owner->name, promise);
        difference = expected ? model_difference(now, expected) : NULL;
        if (difference)
                FUZZ_FAIL("%s: %s: %s", story, owner->name, difference);
}

/* known: the household's items are what there must be, and not only what there may not be less than. */
static void check_store(const Household *household, const Item seen[CASE_USERS][N_IDS], bool known,
        const char *story) {
        g_autofree char *others = describe_owner(machine.reader, &bob);

        for (unsigned i = 0; i < household->n_users; i++)
                check_user(&household->users[i], seen[i], known ? household->items[i] : NULL, story);
        if (!g_str_equal(others, machine.others))
                FUZZ_FAIL("%s: what another user has changed:\n%s", story, others);
        assert_books(machine.reader);
}

static void live_some(Household *household, Input *input) {
        Item before[CASE_USERS][N_IDS];

        for (unsigned i = 0; i < household->n_users; i++)
                (void)model_look(machine.reader, &household->users[i], before[i]);
        for (unsigned i = 0; i < household->n_users; i++) {
                Life life = { &household->users[i], input, input_below(input, STEPS_MAX), household->items[i] };
                g_auto(Error) error = {};

                /* Who has no account cannot call. */
                if (household->users[i].uid != (uid_t)-1 && life.n_steps > 0)
                        assert_good(do_write(machine.store, live, &life, &error), &error);
        }
        check_store(household, before, true, "the life of the licenses");
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

static void add_merge(StoreMerge *sum, const StoreMerge *merge) {
        sum->restored += merge->restored;
        sum->unchanged += merge->unchanged;
        sum->newer_kept += merge->newer_kept;
        sum->conflicts += merge->conflicts;
        sum->revoked += merge->revoked;
}

/* Of whom nobody here is: what was passed over, and whether that was told. */
static void check_skipped(const CaseUser *user, const WorkResult *result) {
        uint64_t n_documents = 0, n_known = 0;

        for (unsigned id = 0; user && id < N_IDS; id++) {
                n_documents += user->items[id].present;
                n_known += user->items[id].known;
        }
        FUZZ_CHECK(result->skipped == n_documents && result->skipped_users);
        if (n_known == 0)
                FUZZ_CHECK(!result->skipped_users[0]);
        else
                FUZZ_CHECK(g_strcmp0(result->skipped_users[0], user->name) == 0 && !result->skipped_users[1]);
}

/* Which restore is asked for. */
typedef struct Question {
        bool all_users;
        const CaseUser *from; /* of all, this one alone, to the household's first; NULL: no */
        bool consent, canceled, limited;
} Question;

static bool is_known(const CaseUser *user) {
        for (unsigned id = 0; id < N_IDS; id++)
                if (user->items[id].known)
                        return true;
        return false;
}

/* Whether it fits the backup, as it was before anything was done to that. */
static bool is_right(const RestoreCase *restore, const Question *question) {
        return question->from ? is_known(question->from) : question->all_users == restore->all_users;
}

static bool needs_consent(const RestoreCase *restore, const Question *question) {
        return restore->foreign || (question->from && question->from != &restore->users[0]);
}

static void check_merge(const RestoreCase *restore, const Question *question, const WorkResult *result,
        RestrictedList *list, Household *household) {
        const StoreMerge found = { result->restored, result->unchanged, result->newer_kept, result->conflicts,
                result->revoked };
        g_autoptr(GString) conflicts = g_string_new(NULL), expected_conflicts = g_string_new(NULL);
        g_autofree char *one = NULL, *other = NULL;
        const CaseUser *nobody = NULL;
        StoreMerge expected = {};

        for (unsigned i = 0; i < restore->n_users; i++) {
                const CaseUser *user = &restore->users[i];
                StoreMerge merge;

                if (question->from ? user != question->from : !user->is_here) {
                        nobody = question->from ? NULL : user;
                        continue;
                }
                model_merge(household->items[question->from ? 0 : i], user->items, &merge, expected_conflicts);
                add_merge(&expected, &merge);
        }
        sort_words(expected_conflicts);
        append_conflicts(list, conflicts);
        one = describe_merge(&found);
        other = describe_merge(&expected);
        if (!g_str_equal(one, other) || !g_str_equal(conflicts->str, expected_conflicts->str))
                FUZZ_FAIL("%s: %s (%s) and not %s (%s)", restore->story->str, one, conflicts->str, other,
                        expected_conflicts->str);
        check_skipped(nobody, result);
}

static void check_refusal(const RestoreCase *restore, const Question *question, const Error *error) {
        check_message(error);
        switch (error->code) {
        case ERROR_NEEDS_INDIVIDUALIZATION:
                FUZZ_CHECK(!question->consent &&
                        (needs_consent(restore, question) || restore->verdict == MAY_PASS));
                return;
        case ERROR_CANCELED:
                FUZZ_CHECK(question->canceled);
                return;
        case ERROR_LIMIT_EXCEEDED:
                FUZZ_CHECK(question->limited || restore->verdict == MAY_PASS);
                break;
        case ERROR_ACCESS_DENIED: /* it says that it is of all users */
                FUZZ_CHECK(!question->all_users && !question->from &&
                        (restore->all_users || restore->verdict == MAY_PASS));
                break;
        case ERROR_INVALID_ARGUMENTS: /* it says that it is of one, or of all and not of whom is asked for */
                FUZZ_CHECK((question->all_users || question->from) &&
                        (!is_right(restore, question) || restore->verdict == MAY_PASS));
                break;
        default:
                if (error->code != ERROR_BACKUP_CORRUPT ||
                    (restore->verdict == MUST_PASS && is_right(restore, question)))
                        FUZZ_FAIL("%s: refused: %s", restore->story->str, error_message(error));
        }
        FUZZ_CHECK(g_str_has_suffix(error_message(error), "No license was changed."));
}

/*
 * Whom the household chose; itself where that one revoked what is present here: a tombstone takes no license of
 * another's, and the model has no owners.
 */
static const CaseUser *choose_from(const Household *household, const RestoreCase *restore) {
        const CaseUser *from = &restore->users[household->from];

        for (unsigned id = 0; id < N_IDS; id++)
                if (household->items[0][id].present && from->items[id].revoked != LICENSE_NO_TIME)
                        return &restore->users[0];
        return from;
}

/* Returns whether what the store has is known still. */
static bool restore_backup(Household *household, Input *input, const RestoreCase *made) {
        RestoreCase asked = *made, *restore = &asked; /* what is there to be restored */
        const StoreOwner *owner = &household->users[0];
        unsigned decisions = input_byte(input), cancel_at = input_below(input, 4) == 1 ? input_byte(input) % 32 : 0;
        Question question = { .consent = decisions & 1, .canceled = cancel_at > 0, .limited = (decisions & 24) == 24 };
        StoreLimits limits = no_limits;
        RestorePlan plan = {
                .store = machine.store,
                .uid = owner->uid,
                .name = g_strdup(owner->name),
                .owner = owner->uid,
                .fd = open_backup(restore->tar, decisions & 2),
                .individualize = question.consent,
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
        Item before[CASE_USERS][N_IDS];
        int r;

        /* Now and then it is asked for the wrong kind. */
        question.all_users = restore->all_users != (input_below(input, 32) == 1);
        if (household->from < CASE_USERS && question.all_users) {
                question.from = choose_from(household, restore);
                question.all_users = false;
                plan.from = g_strdup(question.from->name);
                /* Of whom is passed over, only the archive's own form is looked at. */
                if (asked.verdict == MUST_FAIL && asked.wronged && !g_str_equal(asked.wronged, plan.from))
                        asked.verdict = MAY_PASS;
        }
        plan.all_users = question.all_users;
        if (question.limited) {
                limits.licenses_per_user = decisions >> 5;
                limits.bytes_per_user = (decisions & 4) ? 2000 : INT64_MAX;
                store_set_limits(machine.store, &limits);
        }
        memcpy(before, household->items, sizeof before);
        FUZZ_CHECK(cancel_new(&run.cancel) == 0 && restore_new(&plan, run.cancel, &work) == 0);
        r = restore_check(work, &error);
        if (r == 0)
                r = restore_run(work, &events, &result, &error);
        FUZZ_CHECK(r == (int)error.code);
        if (r == 0) {
                if (restore->verdict == MUST_FAIL ||
                    (restore->verdict == MUST_PASS && !is_right(restore, &question)))
                        FUZZ_FAIL("%s: it was restored", restore->story->str);
                FUZZ_CHECK(run.settled && (question.consent || !needs_consent(restore, &question) ||
                        restore->verdict == MAY_PASS));
                if (restore->verdict == MUST_PASS)
                        check_merge(restore, &question, &result, restore_conflicts(work), household);
        } else
                check_refusal(restore, &question, &error);
        store_set_limits(machine.store, &no_limits);
        cancel_unref(run.cancel);
        check_store(household, before, r != 0 || restore->verdict == MUST_PASS, restore->story->str);
        return r != 0 || restore->verdict == MUST_PASS;
}

typedef struct Purge {
        const StoreOwner *owner;
        bool more;
} Purge;

static int purge(StoreConnection *connection, void *userdata, Error *error) {
        Purge *work = userdata;
        uint64_t licenses;

        return store_owner_purge(connection, work->owner, &licenses, &work->more, error);
}

/* Accounts are there for the next run, too: nothing of this one's may be left to them. */
static void end_household(const Household *household) {
        if (household->all_users)
                wait_swept(machine.reader);
        for (unsigned i = 0; household->all_users && i < household->n_users; i++) {
                Purge work = { &household->users[i], true };
                g_auto(Error) error = {};
                Item left[N_IDS];
                int r = 0;

                while (r == 0 && work.more)
                        r = do_write(machine.store, purge, &work, &error);
                FUZZ_CHECK(r == 0 || r == ERROR_LICENSE_UNAVAILABLE);
                FUZZ_CHECK(model_look(machine.reader, work.owner, left) == 0);
                for (unsigned id = 0; id < N_IDS; id++)
                        FUZZ_CHECK(!left[id].known);
        }
}

static void make_household(Input *input, const char *name, Household *ret) {
        *ret = (Household) { .all_users = input_below(input, 4) == 1, .n_users = 1, .from = CASE_USERS };
        if (ret->all_users) {
                ret->n_users = CASE_USERS;
                ret->from = input_below(input, 2 * CASE_USERS);
                for (unsigned i = 0; i < CASE_USERS; i++) {
                        ret->users[i] = (StoreOwner) { (uid_t)-1, account_names[i] };
                        FUZZ_CHECK(user_uid_of(account_names[i], &ret->users[i].uid) == 0);
                        FUZZ_CHECK((ret->users[i].uid == (uid_t)-1) == (i == CASE_USERS - 1));
                }
        } else
                ret->users[0] = (StoreOwner) { 2000 + machine.n_runs, name };
        for (unsigned i = 0; i < CASE_USERS; i++)
                for (unsigned id = 0; id < N_IDS; id++)
                        ret->items[i][id] = NO_ITEM;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        g_autofree char *name = g_strdup_printf("user-%u", machine.n_runs);
        g_auto(RestoreCase) restore = {};
        Input input = { data, size };
        Household household;
        bool known;

        if (!machine.store)
                open_machine();
        make_household(&input, name, &household);
        live_some(&household, &input);

        restore.all_users = household.all_users;
        restore.n_users = household.n_users;
        for (unsigned i = 0; i < household.n_users; i++)
                restore.users[i] = (CaseUser) { household.users[i].uid, household.users[i].name,
                        household.users[i].uid != (uid_t)-1, {} };
        restore_case_decode(&input, &restore);
        known = restore_backup(&household, &input, &restore);
        if (known)
                live_some(&household, &input);
        if (known && input_below(&input, 2))
                (void)restore_backup(&household, &input, &restore);

        end_household(&household);
        if (++machine.n_runs == RUNS_PER_STORE)
                close_machine();
        return 0;
}
