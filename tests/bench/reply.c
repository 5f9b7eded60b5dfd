/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bench.h"

#include <stdio.h>

/* How long BackupLicenses takes to answer, when nothing else happens and during a large backup of another user. */

#define SAMPLES 400

typedef struct Samples {
        sd_bus *bus;
        GArray *backup, *ping; /* seconds */
} Samples;

static sd_bus_message *ping_call(sd_bus *bus) {
        return new_call(bus, ROOT, "org.freedesktop.DBus.Peer.Ping");
}

static double reply_seconds(sd_bus *bus, sd_bus_message *call, sd_bus_message **ret) {
        double begin = now();

        *ret = send_call(bus, call);
        return now() - begin;
}

/* The job has ended before the next call is timed: what is asked is how long the answer takes. */
static void sample_backup(Samples *samples) {
        sd_bus_message *reply;
        const char *job;
        JobEnd end;
        double seconds = reply_seconds(samples->bus, backup_call(samples->bus), &reply);

        g_array_append_val(samples->backup, seconds);
        assert_true(sd_bus_message_read(reply, "o", &job) > 0);
        job_wait(samples->bus, job, &end);
        assert_int_equal(end.hresult, 0);
        job_end_clear(&end);
        call_void(samples->bus, job, "Job.Release", "");
        sd_bus_message_unref(reply);
}

static void sample_ping(Samples *samples) {
        sd_bus_message *reply;
        double seconds = reply_seconds(samples->bus, ping_call(samples->bus), &reply);

        g_array_append_val(samples->ping, seconds);
        sd_bus_message_unref(reply);
}

static void sample(void *userdata) {
        Samples *samples = userdata;
        bool swap = samples->ping->len % 2 > 0;

        if (swap)
                sample_backup(samples);
        sample_ping(samples);
        if (!swap)
                sample_backup(samples);
        /* Signals of these jobs that nobody reads. */
        while (sd_bus_process(samples->bus, NULL) > 0)
                ;
}

static int compare(gconstpointer a, gconstpointer b) {
        double x = *(const double *)a, y = *(const double *)b;

        return x < y ? -1 : x > y;
}

static double percentile(GArray *values, unsigned percent) {
        g_array_sort(values, compare);
        return 1e6 * g_array_index(values, double, (values->len - 1) * percent / 100);
}

enum { P50, P99, N_PERCENTILES };
static const unsigned percents[] = { 50, 99 };

static void add_percentiles(Samples *samples, Contestant *ours, Contestant *peer) {
        assert_true(samples->ping->len >= 20);
        for (unsigned i = 0; i < N_PERCENTILES; i++) {
                contestant_add(&ours[i], percentile(samples->backup, percents[i]));
                contestant_add(&peer[i], percentile(samples->ping, percents[i]));
        }
        g_array_set_size(samples->backup, 0);
        g_array_set_size(samples->ping, 0);
}

static void add_rows(Bench *bench, const char *when, const char *what, double targets[], Contestant *ours,
        Contestant *peer) {
        for (unsigned i = 0; i < N_PERCENTILES; i++) {
                g_autofree char *id = g_strdup_printf("reply-%s-p%u", when, percents[i]);
                g_autofree char *text = g_strdup_printf("answer of BackupLicenses, %s, p%u", what, percents[i]);

                bench_add_row(bench, &(Row) { id, text, "µs", &ours[i], &peer[i], targets[i], false });
        }
        contestants_clear(ours, N_PERCENTILES);
        contestants_clear(peer, N_PERCENTILES);
}

static void idle(Bench *bench, Samples *samples) {
        Contestant ours[] = { { "BackupLicenses" }, { "BackupLicenses" } }, peer[] = { { "Ping" }, { "Ping" } };

        for (unsigned round = 0; round < bench->rounds; round++) {
                for (unsigned i = 0; i < SAMPLES; i++)
                        sample(samples);
                add_percentiles(samples, ours, peer);
        }
        add_rows(bench, "idle", "idle", (double[]) { 1.25, 1.5 }, ours, peer);
}

static void busy(Bench *bench, Samples *samples) {
        Contestant ours[] = { { "BackupLicenses" }, { "BackupLicenses" } }, peer[] = { { "Ping" }, { "Ping" } };
        sd_bus *large = harness_connect(bench->h, 1);

        world_fill(large, DOCUMENT_RANDOM, 0, bench->large, 3900);
        for (unsigned round = 0; round < bench->rounds; round++) {
                (void)job_seconds_meanwhile(large, backup_call(large), sample, samples);
                add_percentiles(samples, ours, peer);
        }
        add_rows(bench, "busy", "during a large backup of another user", (double[]) { 1.25, 1.5 }, ours, peer);
        harness_disconnect(bench->h, large);
}

void bench_reply(Bench *bench) {
        Samples samples = {
                .bus = harness_connect(bench->h, 0),
                .backup = g_array_new(false, false, sizeof(double)),
                .ping = g_array_new(false, false, sizeof(double)),
        };

        world_new_store(bench);
        store_simple(samples.bus, "one");
        idle(bench, &samples);
        if (bench->h->n_users > 1)
                busy(bench, &samples);
        else
                bench_say("Answers during another user's backup are not measured: that needs two users, and so root.");
        harness_disconnect(bench->h, samples.bus);
        g_array_unref(samples.backup);
        g_array_unref(samples.ping);
}
