/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bench.h"

#include <string.h>
#include <unistd.h>

/* Whole backups and restores, beside what SQLite's own tools make of the same store on the same disk. */

#define DOCUMENT_SIZE 3900

typedef struct World {
        sd_bus *bus, *other; /* of another user; NULL where there is none */
        char *store, *copy, *empty, *backup;
        GArray *waits;       /* of the other user's StoreLicense, in seconds */
        uint64_t stored;     /* by him */
} World;

static double job_and_cpu(Bench *bench, World *world, sd_bus_message *call) {
        double before = cpu_of(bench->h->daemon), seconds = job_seconds(world->bus, call);

        bench->cpu = cpu_of(bench->h->daemon) - before;
        return seconds;
}

static double copy_and_cpu(Bench *bench, World *world, bool check) {
        double before = cpu_of(0), seconds = peer_backup(world->store, world->copy, check);

        bench->cpu = cpu_of(0) - before;
        return seconds;
}

static double measure_backup(Bench *bench, void *userdata) {
        World *world = userdata;

        return job_and_cpu(bench, world, backup_call(world->bus));
}

static double measure_checked(Bench *bench, void *userdata) {
        return copy_and_cpu(bench, userdata, true);
}

static double measure_unchecked(Bench *bench, void *userdata) {
        return copy_and_cpu(bench, userdata, false);
}

static const char *const kind_ids[] = { [DOCUMENT_RANDOM] = "", [DOCUMENT_LCP] = "-lcp" };
static const char *const kind_names[] = { [DOCUMENT_RANDOM] = "licenses", [DOCUMENT_LCP] = "e-book licenses (LCP)" };

static void world_open(Bench *bench, unsigned licenses, DocumentKind kind, World *ret) {
        Harness *h = bench->h;
        g_autofree char *uid = g_strdup_printf("%u", (unsigned)h->users[0]);

        *ret = (World) {
                .bus = harness_connect(h, 0),
                .other = h->n_users > 1 ? harness_connect(h, 1) : NULL,
                .store = g_build_filename(h->state, "licenses.db", NULL),
                .copy = harness_path(h, "copy.db"),
                .empty = harness_path(h, "empty.db"),
                .backup = g_build_filename(h->state, "backups", uid, "licenses.tar", NULL),
                .waits = g_array_new(false, false, sizeof(double)),
        };
        bench_say("Storing %u %s of %u bytes …", licenses, kind_names[kind], DOCUMENT_SIZE);
        world_new_store(bench);
        world_fill(ret->bus, kind, 0, licenses, DOCUMENT_SIZE);
        /* Nothing is left in the WAL: both read one file. */
        world_restart(bench);
}

static void world_close(Bench *bench, World *world) {
        (void)unlink(world->copy);
        (void)unlink(world->empty);
        harness_disconnect(bench->h, world->bus);
        if (world->other)
                harness_disconnect(bench->h, world->other);
        g_array_unref(world->waits);
        g_free(world->store);
        g_free(world->copy);
        g_free(world->empty);
        g_free(world->backup);
}

void bench_backup(Bench *bench, unsigned licenses, DocumentKind kind) {
        enum { OURS, CHECKED, UNCHECKED, N };
        g_autofree char *id = g_strdup_printf("backup-%u%s", licenses, kind_ids[kind]);
        g_autofree char *id_unchecked = g_strdup_printf("backup-%u%s-unchecked", licenses, kind_ids[kind]);
        g_autofree char *what =
                g_strdup_printf("verified, synced backup of %u %s of 3.9 kB", licenses, kind_names[kind]);
        World world;
        Contestant all[] = {
                [OURS] = { "BackupLicenses to Done", measure_backup, &world },
                [CHECKED] = { "SQLite's backup + integrity_check + sync", measure_checked, &world },
                [UNCHECKED] = { "SQLite's backup + sync, not verified", measure_unchecked, &world },
        };

        world_open(bench, licenses, kind, &world);
        /* Each has an old backup to replace, from the first round on. */
        (void)measure_backup(bench, &world);
        (void)measure_unchecked(bench, &world);

        contest_run(bench, all, N);
        bench_add_row(bench, &(Row) { id, what, "s", &all[OURS], &all[CHECKED], licenses < 10000 ? 1.0 : 0.85,
                false });
        bench_add_row(bench, &(Row) { id_unchecked, what, "s", &all[OURS], &all[UNCHECKED],
                licenses < 100000 ? 0 : 1.15, false });
        contestants_clear(all, N);
        world_close(bench, &world);
}

static void run_good(const char *const *arguments) {
        assert_int_equal(run_program(arguments, NULL, NULL), 0);
}

static void copy_file(const char *from, const char *to) {
        run_good((const char *[]) { "cp", from, to, NULL });
}

/* An app of another user stores one license after the other while the restore runs: ten a second, no flood. */
static void store_meanwhile(void *userdata) {
        World *world = userdata;
        g_autofree char *id = world_id(world->stored++);
        double begin = now();

        g_free(store_license(world->other, id, strlen(id), "a{sv}", 1, "LicenseId", "s", id));
        begin = now() - begin;
        g_array_append_val(world->waits, begin);
        assert_true(sd_bus_wait(world->bus, 100000) >= 0);
}

static double measure_restore(Bench *bench, void *userdata) {
        World *world = userdata;

        world_new_store(bench);
        return job_and_cpu(bench, world, restore_call(world->bus, world->backup));
}

static double insert(Bench *bench, World *world, bool wal) {
        double before, seconds;

        copy_file(world->empty, world->store);
        before = cpu_of(0);
        seconds = peer_restore(world->copy, world->store, wal);
        bench->cpu = cpu_of(0) - before;
        run_good((const char *[]) { "rm", "-f", world->store, NULL });
        return seconds;
}

static double measure_insert(Bench *bench, void *userdata) {
        return insert(bench, userdata, true);
}

static double measure_insert_rollback(Bench *bench, void *userdata) {
        return insert(bench, userdata, false);
}

/* The backup, a copy of the full store, and an empty store, in the folder of the world: warm, all of them. */
static void prepare_restore(Bench *bench, World *world) {
        g_autofree char *backup = harness_path(bench->h, "backup.tar");

        (void)measure_backup(bench, world);
        copy_file(world->backup, backup);
        g_free(world->backup);
        world->backup = g_steal_pointer(&backup);
        (void)peer_backup(world->store, world->copy, false);
        world_new_store(bench);
        harness_stop(bench->h);
        copy_file(world->store, world->empty);
        harness_start(bench->h);
        g_free(world->store);
        world->store = harness_path(bench->h, "inserted.db");
}

static int compare(gconstpointer a, gconstpointer b) {
        double x = *(const double *)a, y = *(const double *)b;

        return x < y ? 1 : x > y ? -1 : 0;
}

/* Apart from the race, for it costs the restore something, too. */
static void add_waits(Bench *bench, World *world) {
        Contestant worst[] = { { "StoreLicense", NULL, NULL }, { "StoreLicense", NULL, NULL } };

        if (!world->other) {
                bench_say("What another user waits for is not measured: that needs two users, and so root.");
                return;
        }
        for (unsigned round = 0; round < bench->rounds; round++) {
                world_new_store(bench);
                g_array_set_size(world->waits, 0);
                (void)job_seconds_meanwhile(world->bus, restore_call(world->bus, world->backup), store_meanwhile,
                        world);
                g_array_sort(world->waits, compare);
                for (unsigned i = 0; i < 2; i++)
                        contestant_add(&worst[i], g_array_index(world->waits, double, MIN(i, world->waits->len - 1)));
        }
        bench_add_row(bench, &(Row) { "restore-wait", "longest wait of another user's StoreLicense during the restore",
                "s", &worst[0], NULL, 0.6, false });
        bench_add_row(bench, &(Row) { "restore-wait-next",
                "longest but one: outside of the last step", "s", &worst[1], NULL, 0.05, false });
        contestants_clear(worst, G_N_ELEMENTS(worst));
}

void bench_restore(Bench *bench, unsigned licenses, DocumentKind kind) {
        enum { OURS, INSERT, ROLLBACK, N };
        g_autofree char *id = g_strdup_printf("restore-%u%s", licenses, kind_ids[kind]);
        g_autofree char *id_rollback = g_strdup_printf("restore-%u%s-rollback", licenses, kind_ids[kind]);
        g_autofree char *what =
                g_strdup_printf("restore of %u %s of 3.9 kB into an empty store", licenses, kind_names[kind]);
        World world;
        Contestant all[] = {
                [OURS] = { "RestoreLicensesFromFile to Done", measure_restore, &world },
                [INSERT] = { "ATTACH + INSERT … SELECT, WAL", measure_insert, &world },
                [ROLLBACK] = { "ATTACH + INSERT … SELECT, rollback journal", measure_insert_rollback, &world },
        };

        world_open(bench, licenses, kind, &world);
        prepare_restore(bench, &world);
        contest_run(bench, all, N);
        bench_add_row(bench, &(Row) { id, what, "s", &all[OURS], &all[INSERT], 1.0, false });
        bench_add_row(bench, &(Row) { id_rollback, what, "s", &all[OURS], &all[ROLLBACK], 0, false });
        contestants_clear(all, N);
        if (kind == DOCUMENT_RANDOM)
                add_waits(bench, &world);
        (void)unlink(world.backup);
        world_close(bench, &world);
}
