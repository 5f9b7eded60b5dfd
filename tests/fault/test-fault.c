/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every fault and every kill: each system call of each operation fails in each fitting way, once and from then on; and
 * the daemon is killed before each one that writes. N = 1, 2, 3 … until the operation is through untouched. What is
 * checked after each is in check.h. Without --long a sample of the points, the same each time.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "operations.h"

/* Of the short form: always those at both ends, and so many between. */
#define SAMPLE_ENDS 2U
#define SAMPLE_BETWEEN 4U
#define SAMPLE_KILLS 8U

static struct {
        bool all;                  /* --long */
        bool kills, faults;
        const char *operation, *call; /* NULL: all */
        unsigned at;               /* 0: all */
} choice = { .kills = true, .faults = true };

/* A point */

static void begin_point(World *world) {
        world->complaints = 0;
        world_reset(world);
}

static void end_point(World *world) {
        if (world->complaints > 0)
                world->failed++;
        else
                world->passed++;
}

/* Who asks what is no part of the operation. */
static sd_bus *asker(const World *world) {
        return world->operation->is_cold ? world->visitor : world->user;
}

/*
 * Who calls is looked up with the first call, by a thread that some answers do not wait for: without this, it may meet
 * the fault, and who calls next is told so.
 */
static void get_known(World *world, sd_bus *bus) {
        g_auto(Outcome) outcome = {};

        world->caller = bus;
        (void)attempt(world, &outcome, NULL, ROOT, "LicenseStore.GetLicense", "s", "nothing");
}

/* Whether the daemon runs and has been called, so that what is counted is the operation alone. */
static bool warm_up(World *world) {
        if (world->operation->is_start)
                return true;
        if (!world_start(world, NULL)) {
                complain(world, "The daemon does not start.");
                return false;
        }
        if (world->operation->is_roots)
                get_known(world, world->root);
        get_known(world, asker(world));
        g_free(world->instance);
        world->instance = world_instance(world);
        if (world->operation->warm)
                world->operation->warm(world);
        world->caller = world->user;
        return world->instance != NULL;
}

/* What must be true once no fault is there any more: the daemon starts anew, and all is as it was left. */
static void check_restart(World *world, unsigned steps, unsigned more) {
        if (!world_stop(world))
                return;
        if (!world_start(world, NULL)) {
                complain(world, "The daemon does not start again.");
                return;
        }
        check_answers(world, steps, more);
}

static void check_start_that_failed(World *world, const Outcome *outcome) {
        g_autofree char *log = harness_log(world->h);

        if (outcome->status == 0 || outcome->status > 7)
                complain(world, "The daemon ended at its start with status %d.", outcome->status);
        if (!*log)
                complain(world, "The daemon ended at its start, and says nothing.");
}

static bool is_call(unsigned row, const char *name) {
        return strcmp(fault_calls[row].name, name) == 0;
}

static bool moves_bytes(unsigned row) {
        return is_call(row, "read") || is_call(row, "write") || is_call(row, "pwrite") || is_call(row, "splice") ||
                is_call(row, "sendto") || is_call(row, "recvfrom");
}

static bool is_backup(const World *world) {
        return strstr(world->operation->name, "backup") != NULL;
}

/*
 * A backup is a step of the store's epoch first, by three writes to the WAL and two syncs of it, or three where the WAL
 * is made for that, and goes on where that cannot be: a backup that can be made is better than none. Before, only the
 * service's own folder is synced.
 */
static bool is_of_step(const World *world, unsigned row) {
        unsigned first = g_strcmp0(world->operation->target, OWN_FOLDER) == 0 ? 2 : 1, at = world->plan->at;

        return is_backup(world) &&
                ((is_call(row, "pwrite") && at <= 3) || (is_call(row, "fsync") && at >= first && at <= 3));
}

/* What was said to be written was written: an operation does not go well where the disk did not take something. */
static void check_told(World *world, unsigned row, int error, unsigned n, const Outcome *outcome) {
        bool writes = is_call(row, "write") || is_call(row, "pwrite") || is_call(row, "fsync");
        bool is_lasting = error != EINTR && error != FAULT_SHORT;
        /* A transaction that fails once is written again, all of it. */
        bool may_repeat = !is_backup(world) && world->plan->deed != DEED_FAIL_ON;
        /*
         * What a merge leaves is swept once it was answered: that is tried again, and nobody waits for it. How many of
         * the calls that is depends on how soon the daemon was stopped: a third and one more were seen (24 of 69).
         */
        bool is_sweep = world->operation->sweeps && world->plan->at >= n - n * 2 / 5;

        if (writes && is_lasting && !may_repeat && !is_sweep && atomic_load(&world->plan->hits) > 0 &&
            !outcome->error && !world->operation->is_start && !is_of_step(world, row))
                complain(world, "The disk failed, and nobody was told.");
        if (outcome->error && (error == FAULT_SHORT || (error == EINTR && moves_bytes(row))))
                complain(world, "That is no error, but only to be gone on with: %s", outcome->message);
}

/* Tries a fault, of about n calls. Returns whether it was reached. */
static bool try_fault(World *world, FaultDeed deed, unsigned row, int error, unsigned at, unsigned n) {
        g_auto(Outcome) outcome = { .status = -1 };
        unsigned more;
        bool reached;

        snprintf(world->point, sizeof world->point, "%s, %s %s %u%s", world->operation->name, fault_calls[row].name,
                fault_error_name(error), at, deed == DEED_FAIL_ON ? "+" : "");
        begin_point(world);
        if (warm_up(world)) {
                injector_arm(world->plan, deed, row, error, at);
                world->operation->run(world, &outcome);
                injector_disarm(world->plan);

                if (outcome.status >= 0)
                        check_start_that_failed(world, &outcome);
                else {
                        check_error(world, &outcome, error);
                        check_told(world, row, error, n, &outcome);
                        /* A store that could not be opened answers nothing until a restart. */
                        if (!(world->operation->is_start && outcome.error))
                                check_answers(world, outcome.acknowledged, 0);
                        if (world->operation->check)
                                world->operation->check(world, &outcome);
                }
                if (outcome.error)
                        check_backup(world, &outcome);
                more = outcome.error && outcome.acknowledged < world->n_steps ? 1 : 0;
                /* What cannot be removed goes at the next start. */
                if (!is_call(row, "unlink"))
                        check_folders(world, false);
                /* A call that only reads leaves nothing else on the disk: what was just looked at is enough. */
                if (fault_calls[row].writes || world->operation->is_start)
                        check_restart(world, outcome.acknowledged, more);
                if (!outcome.error)
                        check_backup(world, &outcome);
                (void)world_stop(world);
                check_folders(world, true);
                check_database(world);
        }
        if (world->complaints > 0 && g_getenv("FAULT_LOG")) {
                g_autofree char *log = harness_log(world->h);
                print_message("%s", log);
        }
        reached = atomic_load(&world->plan->hits) > 0;
        if (!reached && (outcome.error || outcome.silent))
                complain(world, "Untouched, it fails: %s: %s", outcome.error, outcome.message);
        end_point(world);
        return reached;
}

/* Tries a kill. Returns whether it was reached. */
static bool try_kill(World *world, unsigned at) {
        g_auto(Outcome) outcome = { .status = -1 };
        g_autofree char *instance = NULL;
        bool reached = false;
        int status = -1;

        snprintf(world->point, sizeof world->point, "%s, kill %u", world->operation->name, at);
        begin_point(world);
        if (warm_up(world)) {
                injector_arm(world->plan, DEED_KILL, 0, 0, at);
                world->operation->run(world, &outcome);
                injector_disarm(world->plan);
                reached = atomic_load(&world->plan->hits) > 0;

                if (!reached && outcome.error)
                        complain(world, "Untouched, it fails: %s: %s", outcome.error, outcome.message);
                if (!reached)
                        (void)world_stop(world);
                else if (outcome.status < 0 && (!world_reap(world, &status) || status != 128 + SIGKILL))
                        complain(world, "The daemon was to be killed, and ended with status %d.", status);

                if (world_start(world, NULL)) {
                        check_answers(world, outcome.acknowledged, reached ? 1 : 0);
                        instance = world_instance(world);
                        if (world->instance && g_strcmp0(instance, world->instance) == 0)
                                complain(world, "The InstanceId is the same after a restart.");
                        check_folders(world, false);
                        check_backup(world, reached ? NULL : &outcome);
                } else
                        complain(world, "The daemon does not start again.");
                (void)world_stop(world);
                check_database(world);
        }
        end_point(world);
        return reached;
}

/* Rows of points */

/* How many calls there are of each kind, and what the store shows after each step. */
static void calibrate(World *world, unsigned counts[N_FAULT_CALLS], unsigned *ret_writes) {
        g_auto(Outcome) outcome = { .status = -1 };

        snprintf(world->point, sizeof world->point, "%s, untouched", world->operation->name);
        world->complaints = 0;
        world_reset(world);
        if (!world->operation->is_start && !world_start(world, NULL))
                fail_msg("The daemon does not start");
        if (!world->operation->is_start) {
                world->caller = asker(world);
                world->states[0] = world_describe(world);
                world->caller = world->user;
        }
        injector_arm(world->plan, DEED_COUNT, 0, 0, 0);
        world->operation->run(world, &outcome);
        injector_disarm(world->plan);
        if (outcome.error)
                fail_msg("%s fails untouched: %s: %s", world->operation->name, outcome.error, outcome.message);
        for (unsigned i = 0; i < N_FAULT_CALLS; i++)
                counts[i] = atomic_load(&world->plan->counts[i]);
        *ret_writes = atomic_load(&world->plan->writes);
        world->n_steps = outcome.acknowledged;
        world->states[world->n_steps] = world_describe(world);
        (void)world_stop(world);
        if (world->operation->is_start)
                world->states[0] = g_strdup(world->states[world->n_steps]);

        /* The steps between. */
        for (unsigned step = 1; step < world->n_steps; step++) {
                g_auto(Outcome) cut = { .status = -1 };

                world_reset(world);
                (void)world_start(world, NULL);
                world->step_limit = step;
                world->operation->run(world, &cut);
                world->step_limit = 0;
                world->states[step] = world_describe(world);
                (void)world_stop(world);
        }
        if (world->complaints > 0)
                fail_msg("%s is not fit for this", world->operation->name);
}

/* The next N after one, of about n: all of them, or those at both ends and some between. */
static unsigned next_point(unsigned at, unsigned n, unsigned between) {
        unsigned step = choice.all ? 1 : MAX((n - MIN(n, 2 * SAMPLE_ENDS)) / (between + 1), 1);

        if (at < SAMPLE_ENDS || at + SAMPLE_ENDS >= n)
                return at + 1;
        return MIN(at + step, n - SAMPLE_ENDS + 1);
}

static void report(const World *world, const char *what, const char *how, unsigned points, unsigned failed_before) {
        printf("%-18s %-10s %-12s %5u points, %u failures\n", world->operation->name, what, how, points,
                world->failed - failed_before);
        fflush(stdout);
}

static void run_row(World *world, unsigned row, int error, FaultDeed deed, unsigned n) {
        unsigned points = 0, failed_before = world->failed;
        g_autofree char *how = g_strdup_printf("%s%s", fault_error_name(error), deed == DEED_FAIL_ON ? "+" : "");

        for (unsigned at = 1;; at = next_point(at, n, SAMPLE_BETWEEN)) {
                points++;
                /* A thread may be quicker this time, and leave fewer calls: that is not the end. */
                if (!try_fault(world, deed, row, error, at, n) && at >= n)
                        break;
        }
        report(world, fault_calls[row].name, how, points, failed_before);
}

/* A lock that can never be had is no disk's fault, and SQLite tries again for longer than we want to wait. */
static bool stays(const FaultCall *call, int error) {
        return call->subject != SUBJECT_LOCK &&
                (error == ENOSPC || error == EIO || error == EMFILE || error == EROFS);
}

/* In the short form errors take turns: each N has one of them, and each of them some N. */
static void run_row_in_turns(World *world, unsigned row, unsigned n) {
        const FaultCall *call = &fault_calls[row];
        unsigned points = 0, n_errors = 0, failed_before = world->failed;

        while (call->errors[n_errors] != 0)
                n_errors++;
        /* Each file that a start opens is another one. */
        bool each = world->operation->is_start && is_call(row, "openat");
        unsigned between = each ? n : SAMPLE_BETWEEN;

        for (unsigned at = 1;; at = at > n && points < n_errors ? 1 : next_point(at, n, between)) {
                int error = call->errors[points % n_errors];
                FaultDeed deed = stays(call, error) && (points / n_errors) % 2 == 1 ? DEED_FAIL_ON : DEED_FAIL;

                points++;
                if (!try_fault(world, deed, row, error, at, n) && at >= n && points >= n_errors)
                        break;
        }
        report(world, call->name, "in turns", points, failed_before);
}

static void run_faults(World *world, const unsigned counts[N_FAULT_CALLS]) {
        for (unsigned row = 0; row < N_FAULT_CALLS; row++) {
                if ((choice.call && strcmp(choice.call, fault_calls[row].name) != 0) || counts[row] == 0)
                        continue;
                if (!choice.all) {
                        run_row_in_turns(world, row, counts[row]);
                        continue;
                }
                for (const int *error = fault_calls[row].errors; *error != 0; error++) {
                        run_row(world, row, *error, DEED_FAIL, counts[row]);
                        if (stays(&fault_calls[row], *error))
                                run_row(world, row, *error, DEED_FAIL_ON, counts[row]);
                }
        }
}

static void run_kills(World *world, unsigned n) {
        unsigned points = 0, failed_before = world->failed;

        for (unsigned at = 1;; at = next_point(at, n, SAMPLE_KILLS)) {
                points++;
                if (!try_kill(world, at) && at >= n)
                        break;
        }
        report(world, "kill", "SIGKILL", points, failed_before);
}

static void run_operation(World *world, const Operation *operation) {
        unsigned counts[N_FAULT_CALLS], writes;

        if (operation->is_roots && !world->root) {
                print_message("skipped: %s needs root and two users\n", operation->name);
                return;
        }
        world_prepare(world, operation);
        calibrate(world, counts, &writes);
        if (choice.faults)
                run_faults(world, counts);
        if (choice.kills)
                run_kills(world, writes);
}

/* The whole, as one test of cmocka's: what is no complaint, but no ground to go on, ends it. */
static unsigned passed, failed;

static void test_every_point(void **state) {
        World *world = world_new();

        for (unsigned i = 0; i < n_operations; i++)
                if (!choice.operation || g_pattern_match_simple(choice.operation, operations[i].name))
                        run_operation(world, &operations[i]);
        passed = world->passed;
        failed = world->failed;
        assert_int_equal(world_free(world), 0);
        if (passed + failed == 0)
                skip();
        assert_int_equal(failed, 0);
}

static const char usage[] =
        "Usage: test-fault [--long] [--operation GLOB] [--call NAME] [--only faults|kills]\n"
        "\n"
        "Makes each system call of the daemon's fail, and kills it before each that writes; see docs/hacking.md.\n"
        "tests/fault/run sets what it needs. Operations and calls are listed in operations.c and calls.c.\n";

int main(int argc, char **argv) {
        static const struct option options[] = {
                { "long", no_argument, NULL, 'l' },
                { "operation", required_argument, NULL, 'o' },
                { "call", required_argument, NULL, 'c' },
                { "only", required_argument, NULL, 'y' },
                { "help", no_argument, NULL, 'h' },
                {},
        };
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_point) };
        int option, r;

        while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0)
                switch (option) {
                case 'l':
                        choice.all = true;
                        break;
                case 'o':
                        choice.operation = optarg;
                        break;
                case 'c':
                        choice.call = optarg;
                        break;
                case 'y':
                        choice.faults = strcmp(optarg, "faults") == 0;
                        choice.kills = strcmp(optarg, "kills") == 0;
                        break;
                case 'h':
                        fputs(usage, stdout);
                        return 0;
                default:
                        fputs(usage, stderr);
                        return 2;
                }

        r = cmocka_run_group_tests(tests, NULL, NULL);
        printf("%u passed, %u failed\n", passed, failed);
        return r;
}
