/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bench.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * How cost grows with the number of licenses: one store that grows, and at each size what a call costs and how long
 * whole backups and restores take.
 */

#define DOCUMENT_SIZE 500
#define SMALLEST 1000
#define WINDOW 64

typedef struct Growth {
        sd_bus *bus;
        uint64_t licenses;
        uint8_t document[DOCUMENT_SIZE];
} Growth;

/* Numbers from all over the store, the same in each run. */
static uint64_t scattered(const Growth *growth, uint64_t number) {
        return (number * 2654435761U) % growth->licenses;
}

static sd_bus_message *make_get(sd_bus *bus, uint64_t number, void *userdata) {
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.GetLicense");
        g_autofree char *id = world_id(scattered(userdata, number));

        assert_true(sd_bus_message_append(message, "s", id) >= 0);
        return message;
}

static sd_bus_message *make_page(sd_bus *bus, uint64_t number, void *userdata) {
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.EnumerateLicenses");
        g_autofree char *id = world_id(scattered(userdata, number));

        assert_true(sd_bus_message_append(message, "a{sv}su", 0, id, 100) >= 0);
        return message;
}

/* Of licenses that are there, so that their number stays. */
static sd_bus_message *make_store(sd_bus *bus, uint64_t number, void *userdata) {
        Growth *growth = userdata;
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.StoreLicense");
        g_autofree char *id = world_id(scattered(growth, number));

        assert_true(sd_bus_message_append_array(message, 'y', growth->document, DOCUMENT_SIZE) >= 0);
        assert_true(sd_bus_message_append(message, "a{sv}", 1, "LicenseId", "s", id) >= 0);
        return message;
}

static void add_calls(Bench *bench, Growth *growth, const char *operation, uint64_t count,
        sd_bus_message *(*make)(sd_bus *bus, uint64_t number, void *userdata)) {
        Contestant rounds = {};

        for (unsigned round = 0; round < bench->rounds; round++)
                contestant_add(&rounds,
                        1e6 / calls_rate(&(Calls) { growth->bus, count, WINDOW, make, growth }));
        bench_add_point(bench, operation, "µs a call", growth->licenses, contestant_median(&rounds));
        contestants_clear(&rounds, 1);
}

/* On a second store, beside the one that grows. */
static double restore_seconds(Bench *bench, Growth *growth) {
        Harness *h = bench->h;
        g_autofree char *uid = g_strdup_printf("%u", (unsigned)h->users[0]);
        g_autofree char *backup = g_build_filename(h->state, "backups", uid, "licenses.tar", NULL);
        char *state = h->state;
        double seconds;

        harness_stop(h);
        h->state = harness_path(h, "restored");
        world_new_store(bench);
        seconds = job_seconds(growth->bus, restore_call(growth->bus, backup));
        harness_stop(h);
        run_program((const char *[]) { "rm", "-rf", h->state, NULL }, NULL, NULL);
        g_free(h->state);
        h->state = state;
        harness_start(h);
        return seconds;
}

static double backup_seconds(Bench *bench, Growth *growth) {
        return job_seconds(growth->bus, backup_call(growth->bus));
}

/* The largest takes a minute, and what disturbs it for a moment does not show. */
static void add_whole(Bench *bench, Growth *growth, const char *operation,
        double (*measure)(Bench *bench, Growth *growth)) {
        unsigned n = growth->licenses * 10 > bench->largest ? 1 : bench->rounds;
        Contestant rounds = {};

        for (unsigned round = 0; round < n; round++)
                contestant_add(&rounds, measure(bench, growth));
        bench_add_point(bench, operation, "s", growth->licenses, contestant_median(&rounds));
        contestants_clear(&rounds, 1);
}

static void measure_size(Bench *bench, Growth *growth) {
        add_calls(bench, growth, "GetLicense", bench->calls, make_get);
        add_calls(bench, growth, "EnumerateLicenses, a page of 100", MAX(bench->calls / 10, 100), make_page);
        add_calls(bench, growth, "StoreLicense again", bench->calls / 2, make_store);
        add_whole(bench, growth, "backup", backup_seconds);
        add_whole(bench, growth, "restore", restore_seconds);
}

void bench_growth(Bench *bench) {
        Growth growth = { .bus = harness_connect(bench->h, 0) };
        double seconds = 0;

        fill_document(growth.document, sizeof growth.document, 1);
        world_new_store(bench);
        for (uint64_t size = SMALLEST; size <= bench->largest; size *= 10) {
                double begin = now();

                world_fill(growth.bus, DOCUMENT_RANDOM, growth.licenses, size - growth.licenses, DOCUMENT_SIZE);
                seconds += now() - begin;
                growth.licenses = size;
                bench_add_point(bench, "StoreLicenses of all, 1,000 a call", "s", size, seconds);
                measure_size(bench, &growth);
        }
        harness_disconnect(bench->h, growth.bus);
}
