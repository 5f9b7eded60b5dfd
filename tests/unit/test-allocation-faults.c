/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the core asks for little memory for, and may be refused: the N-th such allocation fails, the first, the second,
 * and so on, until the work is through untouched. What fails is ERROR_NO_MEMORY, and nothing else happened; what is
 * good is whole. FAULT_LONG=1 tries all points, also where hundreds fail from one on, and with sanitizers.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "document.h"
#include "fault-sqlite.h"
#include "restore-world.h"
#include "told.h"
#include "verify.h"

/* Points of a kind, where not all are tried. */
#define POINTS_MAX 40U

typedef struct Work {
        const char *name;
        /* Tells what it found out, or what came of it. */
        int (*run)(RestoreWorld *world, GString *told, Error *error);
        /* After each time, untouched: adds to what was told; of a failure, it holds that nothing happened. */
        void (*look)(RestoreWorld *world, GString *told, bool failed);
} Work;

static int output = -1; /* a backup that was made */
static int input = -1;  /* one that is read */

static void tell_license(GString *told, const License *license, const void *document) {
        fault_pause(true);
        told_license(told, NULL, license, document);
        fault_pause(false);
}

/* Documents */

static const char lcp[] =
        "{\"id\":\"lcp\",\"provider\":\"https://example.com\",\"issued\":\"2024-01-01T00:00:00Z\","
        "\"updated\":\"2024-02-01T00:00:00Z\",\"encryption\":{\"profile\":\"http://readium.org/lcp/basic-profile\"},"
        "\"links\":[{\"rel\":\"publication\",\"title\":\"Moby-Dick\"}],"
        "\"rights\":{\"print\":7,\"copy\":100,\"start\":\"2024-01-01T00:00:00Z\"},\"signature\":{}}";

static int run_recognise(RestoreWorld *world, GString *told, Error *error) {
        g_auto(License) license = {};
        int r;

        license_init(&license);
        r = document_recognise(lcp, strlen(lcp), NULL, &license, error);
        if (r == 0)
                tell_license(told, &license, lcp);
        return r;
}

static int run_narrow(RestoreWorld *world, GString *told, Error *error) {
        License claimed = { .id = (char *)"id", .key_id = (char *)"key", .title = (char *)"title",
                .issuer = (char *)"issuer", .media_type = (char *)"text/plain", .not_before = LICENSE_NO_TIME,
                .not_after = 99, .allow_backup = true, .counters = g_array_new(false, false, sizeof(Counter)) };
        g_auto(License) license = {};
        int r;

        license_init(&license);
        r = document_recognise("document", 8, NULL, &license, error);
        if (r == 0)
                r = license_narrow(&license, &claimed, error);
        if (r == 0)
                tell_license(told, &license, "document");
        g_array_unref(claimed.counters);
        return r;
}

/* Backups */

static int make_backup(RestoreWorld *world, BackupPlan plan, GString *told, Error *error) {
        g_autoptr(Backup) backup = NULL;
        g_auto(WorkResult) result = {};
        int r;

        /* Another job, whose progress begins anew. */
        world->from->n_begins = world->from->n_progress = world->from->n_signals = world->from->percent = 0;
        world->from->completed = 0;
        r = backup_new(&plan, world->from->cancel, &backup);
        assert_int_equal(plan.fd, -1);
        if (r < 0)
                return error_set_errno(error, ERROR_MEDIUM, r, "The job cannot be made");
        r = backup_check(backup, error);
        if (r == 0)
                r = run_backup(world->from, backup, &result, error);
        assert_false(world->from->wrong);
        if (r == 0)
                g_string_append_printf(told, "%i: %" PRIu64 " licenses, %" PRIu64 " restricted, %" PRIu64 " damaged\n",
                        result.verified, result.licenses, result.restricted, result.damaged);
        return r;
}

static int run_backup_of_one(RestoreWorld *world, GString *told, Error *error) {
        output = new_target();
        return make_backup(world, plan_to(world->from, output), told, error);
}

static int run_backup_to_socket(RestoreWorld *world, GString *told, Error *error) {
        char buffer[64 * 1024];
        int ends[2], r;
        ssize_t n;

        output = new_target();
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        r = make_backup(world, plan_to(world->from, ends[0]), told, error);
        close(ends[0]);
        while ((n = read(ends[1], buffer, sizeof buffer)) > 0)
                assert_int_equal(write(output, buffer, (size_t)n), n);
        close(ends[1]);
        return r;
}

static int run_backup_of_all(RestoreWorld *world, GString *told, Error *error) {
        BackupPlan plan;

        output = new_target();
        plan = plan_to(world->from, output);
        plan.all_users = plan.skip_damaged = true;
        return make_backup(world, plan, told, error);
}

static int run_backup_to_folder(RestoreWorld *world, GString *told, Error *error) {
        BackupPlan plan = new_plan(world->from);

        plan.overwrite = true;
        return make_backup(world, plan, told, error);
}

/* All but the first line of what it is told: that has the time. */
static void tell_backup(int fd, GString *told) {
        g_auto(Error) error = {};
        g_auto(Told) backup = {};

        assert_good(told_read(&backup, fd, &error), &error);
        g_string_append(told, strchr(backup.text->str, '\n'));
}

static void look_at_output(RestoreWorld *world, GString *told, bool failed) {
        if (!failed)
                tell_backup(output, told);
        fd_closep(&output);
}

static void look_at_folder(RestoreWorld *world, GString *told, bool failed) {
        assert_nothing_left(world->from);
        assert_int_equal(access(world->from->target, F_OK), failed ? -1 : 0);
        if (!failed) {
                output = open(world->from->target, O_RDONLY | O_CLOEXEC);
                look_at_output(world, told, failed);
                assert_int_equal(unlink(world->from->target), 0);
        }
}

/* The one that is there is looked at first: whose is it? It stays as it is until there is another. */
static void look_at_overwritten(RestoreWorld *world, GString *told, bool failed) {
        assert_nothing_left(world->from);
        output = open(world->from->target, O_RDONLY | O_CLOEXEC);
        assert_true(output >= 0);
        if (failed) {
                g_autoptr(GString) before = g_string_new("");

                tell_backup(output, before);
        }
        look_at_output(world, told, failed);
}

/* Reading them */

static int run_read(RestoreWorld *world, GString *told, Error *error) {
        g_auto(Told) found = {};
        int r = told_read(&found, input, error);

        if (r == 0)
                g_string_append(told, found.text->str);
        return r;
}

static int run_verify(RestoreWorld *world, GString *told, Error *error) {
        const WorkEvents events = restore_events(world);
        g_auto(WorkResult) result = {};
        g_autoptr(Verify) verify = NULL;
        int r, fd = fcntl(input, F_DUPFD_CLOEXEC, 0);

        assert_int_equal(lseek(input, 0, SEEK_SET), 0);
        assert_int_equal(verify_new(fd, UINT64_MAX, 5000, world->cancel, &verify), 0);
        r = verify_class.run(verify, &events, &result, error);
        world->wrong = false; /* a check has none of the events that come before the progress of a restore */
        if (r == 0)
                g_string_append_printf(told, "%" PRIu64 " licenses, %" PRIu64 " restricted", result.licenses,
                        result.restricted);
        return r;
}

static int run_restore(RestoreWorld *world, RestorePlan plan, GString *told, Error *error) {
        const WorkEvents events = restore_events(world);
        g_autoptr(Restore) restore = NULL;
        g_auto(WorkResult) result = {};
        int r;

        assert_int_equal(lseek(input, 0, SEEK_SET), 0);
        r = restore_new(&plan, world->cancel, &restore);
        assert_int_equal(plan.fd, -1);
        if (r < 0)
                return error_set_errno(error, ERROR_MEDIUM, r, "The job cannot be made");
        if ((r = restore_check(restore, error)) == 0)
                r = restore_run(restore, &events, &result, error);
        assert_false(world->wrong);
        if (r == 0)
                g_string_append_printf(told, "%" PRIu64 " restored, %" PRIu64 " unchanged, %" PRIu64 " revoked\n",
                        result.restored, result.unchanged, result.revoked);
        return r;
}

static int run_restore_of_one(RestoreWorld *world, GString *told, Error *error) {
        return run_restore(world, restore_plan(world, input), told, error);
}

static int run_restore_of_all(RestoreWorld *world, GString *told, Error *error) {
        RestorePlan plan = restore_plan(world, input);

        plan.all_users = plan.individualize = true;
        return run_restore(world, plan, told, error);
}

static void look_at_store(RestoreWorld *world, GString *told, bool failed) {
        if (failed)
                assert_unchanged(world);
        else {
                g_autofree char *now = render(world->connection);

                g_string_append(told, now);
                restore_world_renew(world);
        }
}

/* Every point */

static const struct {
        const char *name;
        FaultKind kind;
} kinds[] = {
        { "g_try_malloc", FAULT_TRY },
        { "objects", FAULT_OBJECT },
};

static unsigned passed;

static void check_told(const Work *work, const char *kind, unsigned at, const GString *told, const char *all) {
        if (strcmp(told->str, all) != 0)
                fail_msg("%s, %s %u: it says that all is well, and tells:\n%s\nwhere it is:\n%s", work->name, kind, at,
                        told->str, all);
}

/* Does the work where one allocation fails, or all from it on. Returns whether one did. */
static bool try_point(RestoreWorld *world, const Work *work, size_t kind, unsigned at, bool onward, const char *all,
        unsigned *failures) {
        g_autoptr(GString) told = g_string_new("");
        g_auto(Error) error = {};
        bool reached;
        int r;

        fault_sqlite_arm(kinds[kind].kind, 0, at, onward);
        r = work->run(world, told, &error);
        reached = fault_sqlite_disarm() > 0;
        if (r != 0 && (!reached || error.code != ERROR_NO_MEMORY))
                fail_msg("%s, %s %u%s: %s: %s", work->name, kinds[kind].name, at, onward ? "+" : "",
                        error_name(error.code), error_message(&error));
        if (work->look)
                work->look(world, told, r != 0);
        if (r == 0)
                check_told(work, kinds[kind].name, at, told, all);
        *failures += r != 0;
        passed++;
        return reached;
}

static void at_every_point(RestoreWorld *world, const Work *work) {
        g_autoptr(GString) all = g_string_new("");
        unsigned counts[G_N_ELEMENTS(kinds)];
        g_auto(Error) error = {};

        fault_sqlite_arm(_FAULT_KIND_MAX, 0, 0, false);
        assert_good(work->run(world, all, &error), &error);
        (void)fault_sqlite_disarm();
        for (size_t kind = 0; kind < G_N_ELEMENTS(kinds); kind++)
                counts[kind] = fault_sqlite_count(kinds[kind].kind);
        if (work->look)
                work->look(world, all, false);

        for (size_t kind = 0; kind < G_N_ELEMENTS(kinds); kind++) {
                unsigned sample = g_getenv("FAULT_LONG") ? 1 : 1 + counts[kind] / POINTS_MAX, failures = 0, points = 0;

                for (unsigned onward = 0; counts[kind] > 0 && onward < 2; onward++)
                        for (unsigned at = 1; try_point(world, work, kind, at, onward, all->str, &failures);
                             at += onward || sanitized() ? sample : 1)
                                points++;
                assert_true(counts[kind] == 0 || failures > 0);
                printf("%-18s %-14s %5u points, %u refused\n", work->name, kinds[kind].name, points, failures);
        }
}

static void test_document_is_recognised_or_there_was_no_memory(void **state) {
        at_every_point(*state, &(Work){ "recognise", run_recognise });
        at_every_point(*state, &(Work){ "narrow", run_narrow });
}

static void test_backup_is_whole_or_is_not(void **state) {
        RestoreWorld *world = *state;

        at_every_point(world, &(Work){ "backup", run_backup_of_one, look_at_output });
        at_every_point(world, &(Work){ "backup to socket", run_backup_to_socket, look_at_output });
        at_every_point(world, &(Work){ "backup to folder", run_backup_to_folder, look_at_folder });
        at_every_point(world, &(Work){ "overwrite", run_backup_to_folder, look_at_overwritten });
        /* As from a store that had no seals: the documents are recognised again. */
        edit_store(world->from, "UPDATE licenses SET digest = substr(digest, 1, 32)");
        at_every_point(world, &(Work){ "backup of an older store", run_backup_of_one, look_at_output });

        put(world->from->store, &alice, "rotten", "rotten");
        put(world->from->store, &bob, "bobs", "bob's document");
        edit_store(world->from, "UPDATE documents SET document = x'00' WHERE key = "
                "(SELECT key FROM licenses WHERE id = 'rotten')");
        at_every_point(world, &(Work){ "backup of all", run_backup_of_all, look_at_output });
}

static void test_backup_is_read_as_it_is_or_not(void **state) {
        RestoreWorld *world = *state;

        put(world->from->store, &bob, "bobs", "bob's document");
        for (unsigned i = 0; i < 2; i++) {
                input = back_up(world->from, i > 0);
                at_every_point(world, &(Work){ "read", run_read });
                at_every_point(world, &(Work){ "verify", run_verify });
                at_every_point(world, &(Work){ "restore", i > 0 ? run_restore_of_all : run_restore_of_one,
                        look_at_store });
                fd_closep(&input);
        }
}

static void test_without_memory_nothing_can_be_canceled(void **state) {
        Cancel *cancel = NULL;

        fault_sqlite_arm(FAULT_TRY, 0, 1, false);
        assert_int_equal(cancel_new(&cancel), -ENOMEM);
        assert_int_equal(fault_sqlite_disarm(), 1);
        assert_null(cancel);
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, restore_world_setup, restore_world_teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_document_is_recognised_or_there_was_no_memory),
                IN_WORLD(test_backup_is_whole_or_is_not),
                IN_WORLD(test_backup_is_read_as_it_is_or_not),
                cmocka_unit_test(test_without_memory_nothing_can_be_canceled),
        };
        int r;

        restore_world_prepare();
        r = cmocka_run_group_tests(tests, NULL, NULL);
        printf("%u points passed, %d tests failed\n", passed, r);
        return r;
}
