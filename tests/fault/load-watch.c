/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "load-watch.h"

#include <stdlib.h>
#include <string.h>

#include "client.h"

static unsigned read_status(pid_t pid, const char *name) {
        g_autofree char *path = g_strdup_printf("/proc/%d/status", (int)pid);
        g_autofree char *text = read_file(path, NULL);
        const char *line = strstr(text, name);

        assert_non_null(line);
        return (unsigned)strtoul(line + strlen(name), NULL, 10);
}

static unsigned count_fds(pid_t pid) {
        g_autofree char *path = g_strdup_printf("/proc/%d/fd", (int)pid);

        return count_names(path);
}

static unsigned count_jobs(Harness *h) {
        sd_bus_message *reply = NULL;
        unsigned n = 0;
        int r = -EAGAIN;

        /* Several in a row are refused until the bus, which may have much to do still, says that we read. */
        for (unsigned i = 0; r < 0 && i < PATIENCE_SEC * 20; i++) {
                r = sd_bus_call_method(h->observer, "org.licensevault1", "/org/licensevault1/job",
                        "org.freedesktop.DBus.Introspectable", "Introspect", NULL, &reply, NULL);
                if (r < 0)
                        sleep_msec(50);
        }
        assert_true(r >= 0);
        g_autofree char *xml = read_string(reply);
        for (const char *p = xml; (p = strstr(p, "<node name=")); p++)
                n++;
        return n;
}

/* dbus-daemon tells root; dbus-broker has no such method. */
static unsigned count_matches(Harness *h, const char *owner) {
        sd_bus_message *reply = NULL;
        uint32_t n = 0;

        if (sd_bus_call_method(h->observer, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                    "org.freedesktop.DBus.Debug.Stats", "GetConnectionStats", NULL, &reply, "s", owner) >= 0) {
                g_autoptr(GHashTable) stats = read_properties(reply);
                const char *text = g_hash_table_lookup(stats, "MatchRules");

                n = text ? (uint32_t)strtoul(text, NULL, 10) : 0;
        }
        sd_bus_message_unref(reply);
        return n;
}

void holding_raise(pid_t pid, Holding *most) {
        most->fds = MAX(most->fds, count_fds(pid));
        most->threads = MAX(most->threads, read_status(pid, "Threads:"));
        most->memory_kib = MAX(most->memory_kib, read_status(pid, "VmRSS:"));
}

void holding_read(Harness *h, pid_t pid, const char *owner, Holding *ret) {
        *ret = (Holding) {};
        /* A caller sees its jobs once it is known. */
        call_void(h->observer, ROOT, "Manager.ListJobs", "");
        ret->jobs = count_jobs(h);
        ret->matches = count_matches(h, owner);
        holding_raise(pid, ret);
}

void holding_print(const char *what, const Holding *holding) {
        print_message("%s: %u KiB, %u descriptors, %u threads, %u jobs, %u matches\n", what, holding->memory_kib,
                holding->fds, holding->threads, holding->jobs, holding->matches);
}

void times_init(Times *times) {
        times->usec = g_array_new(false, false, sizeof(int64_t));
}

void times_clear(Times *times) {
        g_array_unref(times->usec);
        times->usec = NULL;
}

void times_add(Times *times, int64_t usec) {
        g_array_append_val(times->usec, usec);
}

static int compare_times(const void *a, const void *b) {
        int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

        return x < y ? -1 : x > y;
}

int64_t times_at(Times *times, double share) {
        unsigned n = times->usec->len;

        assert_true(n > 0);
        qsort(times->usec->data, n, sizeof(int64_t), compare_times);
        return g_array_index(times->usec, int64_t, MIN((unsigned)(share * n), n - 1));
}

void times_print(const char *what, Times *times) {
        print_message("%s: %u calls, median %.1f ms, p99 %.1f ms, longest %.1f ms\n", what, times->usec->len,
                (double)times_at(times, 0.5) / 1000, (double)times_at(times, 0.99) / 1000,
                (double)times_at(times, 1) / 1000);
}
