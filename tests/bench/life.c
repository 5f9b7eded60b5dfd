/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bench.h"

/* Memory and start, with a large store. */

#define DOCUMENT_SIZE 500

typedef struct Peak {
        Bench *bench;
        sd_bus *bus;
        double mib;
} Peak;

/* A look takes the daemon's lock of its memory for a moment; the peak of a backup is no needle. */
static void look(void *userdata) {
        Peak *peak = userdata;

        peak->mib = MAX(peak->mib, world_pss(peak->bench));
        assert_true(sd_bus_wait(peak->bus, 10000) >= 0);
}

static double measure_start(Bench *bench, void *userdata) {
        return 1e3 * world_start_seconds(bench);
}

static double measure_idle(Bench *bench, void *userdata) {
        world_restart(bench);
        call_void(userdata, ROOT, "org.freedesktop.DBus.Peer.Ping", "");
        return world_pss(bench);
}

static double measure_peak(Bench *bench, void *userdata) {
        Peak peak = { .bench = bench, .bus = userdata };

        world_restart(bench);
        (void)job_seconds_meanwhile(peak.bus, backup_call(peak.bus), look, &peak);
        return MAX(peak.mib, world_pss(bench));
}

static void add(Bench *bench, const char *id, const char *what, const char *unit, Contestant *contestant,
        double target) {
        if (!contestant->values)
                contest_run(bench, contestant, 1);
        bench_add_row(bench, &(Row) { id, what, unit, contestant, NULL, target, false });
        contestants_clear(contestant, 1);
}

static void look_at_store(Bench *bench, sd_bus *bus, uint64_t licenses) {
        Contestant start = { "licensevaultd", measure_start, bus }, idle = { "licensevaultd", measure_idle, bus },
                peak = { "licensevaultd" };
        g_autofree char *id = g_strdup_printf("start-%" G_GUINT64_FORMAT, licenses);
        g_autofree char *what = g_strdup_printf("start to name owned, store of %" G_GUINT64_FORMAT, licenses);
        g_autofree char *id_idle = g_strdup_printf("memory-idle-%" G_GUINT64_FORMAT, licenses);
        g_autofree char *what_idle = g_strdup_printf("idle memory (PSS), store of %" G_GUINT64_FORMAT, licenses);
        g_autofree char *id_peak = g_strdup_printf("memory-peak-%" G_GUINT64_FORMAT, licenses);
        g_autofree char *what_peak =
                g_strdup_printf("largest memory (PSS) of a backup of %" G_GUINT64_FORMAT, licenses);

        add(bench, id, what, "ms", &start, 20);
        add(bench, id_idle, what_idle, "MiB", &idle, 8);
        /* Once: it takes long, and others on the machine do not change it. */
        contestant_add(&peak, measure_peak(bench, bus));
        add(bench, id_peak, what_peak, "MiB", &peak, 64);
}

void bench_life(Bench *bench) {
        sd_bus *bus = harness_connect(bench->h, 0);

        world_new_store(bench);
        world_fill(bus, DOCUMENT_RANDOM, 0, bench->largest / 10, DOCUMENT_SIZE);
        look_at_store(bench, bus, bench->largest / 10);
        world_fill(bus, DOCUMENT_RANDOM, bench->largest / 10, bench->largest - bench->largest / 10, DOCUMENT_SIZE);
        look_at_store(bench, bus, bench->largest);
        harness_disconnect(bench->h, bus);
}
