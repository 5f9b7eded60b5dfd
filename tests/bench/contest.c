/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

double now(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

double cpu_of(pid_t pid) {
        struct timespec t;
        clockid_t clock;

        assert_int_equal(clock_getcpuclockid(pid, &clock), 0);
        assert_int_equal(clock_gettime(clock, &t), 0);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void bench_say(const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        vfprintf(stderr, format, ap);
        va_end(ap);
        fputc('\n', stderr);
}

static void add_value(GArray **values, double value) {
        if (!*values)
                *values = g_array_new(false, false, sizeof(double));
        g_array_append_val(*values, value);
}

void contestant_add(Contestant *contestant, double value) {
        add_value(&contestant->values, value);
}

void contest_run(Bench *bench, Contestant *contestants, size_t n) {
        for (unsigned round = 0; round < bench->rounds; round++)
                for (size_t i = 0; i < n; i++) {
                        Contestant *contestant = &contestants[round % 2 == 0 ? i : n - 1 - i];

                        bench->cpu = 0;
                        contestant_add(contestant, contestant->measure(bench, contestant->userdata));
                        if (bench->cpu > 0)
                                add_value(&contestant->cpu, bench->cpu);
                }
}

void contestants_clear(Contestant *contestants, size_t n) {
        for (size_t i = 0; i < n; i++) {
                g_clear_pointer(&contestants[i].values, g_array_unref);
                g_clear_pointer(&contestants[i].cpu, g_array_unref);
        }
}

static int compare(gconstpointer a, gconstpointer b) {
        double x = *(const double *)a, y = *(const double *)b;

        return x < y ? -1 : x > y;
}

static double median(const GArray *values) {
        g_autoptr(GArray) sorted = g_array_copy((GArray *)values);
        unsigned n = sorted->len;

        g_array_sort(sorted, compare);
        return (g_array_index(sorted, double, (n - 1) / 2) + g_array_index(sorted, double, n / 2)) / 2;
}

double contestant_median(const Contestant *contestant) {
        return median(contestant->values);
}

/* Of each round by itself: what slowed the machine down for a while did so to both. */
static double median_ratio(const GArray *ours, const GArray *peer) {
        g_autoptr(GArray) ratios = g_array_new(false, false, sizeof(double));

        assert_int_equal(ours->len, peer->len);
        for (unsigned i = 0; i < ours->len; i++) {
                double ratio = g_array_index(ours, double, i) / g_array_index(peer, double, i);
                g_array_append_val(ratios, ratio);
        }
        return median(ratios);
}

static json_t *contestant_json(const Contestant *contestant) {
        json_t *values = json_array(), *json;

        for (unsigned i = 0; i < contestant->values->len; i++)
                json_array_append_new(values, json_real(g_array_index(contestant->values, double, i)));
        json = json_pack("{s:s, s:f, s:o}", "name", contestant->name, "median", contestant_median(contestant),
                "values", values);
        if (contestant->cpu)
                json_object_set_new(json, "cpu_median", json_real(median(contestant->cpu)));
        return json;
}

static json_t *load(void) {
        double average[1];

        return json_real(getloadavg(average, 1) == 1 ? average[0] : 0);
}

void bench_add_row(Bench *bench, const Row *row) {
        json_t *json = json_pack("{s:s, s:s, s:s, s:b, s:o, s:o}", "id", row->id, "what", row->what, "unit", row->unit,
                "more_is_better", row->more, "ours", contestant_json(row->ours), "load", load());

        if (row->peer) {
                json_object_set_new(json, "peer", contestant_json(row->peer));
                json_object_set_new(json, "ratio", json_real(median_ratio(row->ours->values, row->peer->values)));
                if (row->ours->cpu && row->peer->cpu)
                        json_object_set_new(json, "cpu_ratio",
                                json_real(median_ratio(row->ours->cpu, row->peer->cpu)));
        }
        if (row->target > 0)
                json_object_set_new(json, "target", json_real(row->target));
        json_array_append_new(bench->rows, json);
        bench_say("%s: %.6g %s%s%s", row->id, contestant_median(row->ours), row->unit, row->peer ? ", beside " : "",
                row->peer ? row->peer->name : "");
        if (row->peer)
                bench_say("    %.6g, ratio %.3f", contestant_median(row->peer),
                        median_ratio(row->ours->values, row->peer->values));
}

void bench_add_point(Bench *bench, const char *operation, const char *unit, uint64_t licenses, double value) {
        json_array_append_new(bench->growth, json_pack("{s:s, s:s, s:I, s:f}", "operation", operation, "unit", unit,
                "licenses", (json_int_t)licenses, "value", value));
        bench_say("growth, %" G_GUINT64_FORMAT " licenses: %s %.6g %s", licenses, operation, value, unit);
}
