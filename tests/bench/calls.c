/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bench.h"

#include <string.h>

/* Calls, many at a time or one by one, and those of them that are answered at once. */

#define WINDOW 64
#define DOCUMENT_SIZE 4096
#define READ_LICENSES 1000 /* that are there to be read */

typedef struct Flight {
        const Calls *calls;
        uint64_t sent, answered;
} Flight;

static int on_answer(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Flight *flight = userdata;

        if (sd_bus_message_is_method_error(message, NULL))
                fail_msg("A call failed: %s", sd_bus_message_get_error(message)->message);
        flight->answered++;
        return 0;
}

static void send_more(Flight *flight) {
        const Calls *calls = flight->calls;

        while (flight->sent < calls->count && flight->sent - flight->answered < calls->window) {
                sd_bus_message *message = calls->make(calls->bus, flight->sent++, calls->userdata);

                assert_true(sd_bus_call_async(calls->bus, NULL, message, on_answer, flight, 0) >= 0);
                sd_bus_message_unref(message);
        }
}

double calls_rate(const Calls *calls) {
        Flight flight = { .calls = calls };
        double begin = now();

        while (flight.answered < calls->count) {
                int r;

                send_more(&flight);
                r = sd_bus_process(calls->bus, NULL);
                assert_true(r >= 0);
                if (r == 0)
                        assert_true(sd_bus_wait(calls->bus, PATIENCE_SEC * UINT64_C(1000000)) > 0);
        }
        return (double)calls->count / (now() - begin);
}

typedef struct Clients {
        sd_bus *bus;
        uint64_t stored; /* so far: each call stores another license */
        uint8_t *document;
} Clients;

static sd_bus_message *echo_call(sd_bus *bus, const char *member) {
        sd_bus_message *message = NULL;

        assert_true(sd_bus_message_new_method_call(bus, &message, ECHO_NAME, "/", ECHO_NAME, member) >= 0);
        return message;
}

static sd_bus_message *make_empty(sd_bus *bus, uint64_t number, void *userdata) {
        return echo_call(bus, "Nothing");
}

static sd_bus_message *make_get(sd_bus *bus, uint64_t number, void *userdata) {
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.GetLicense");
        g_autofree char *id = world_id(number * 7919 % READ_LICENSES);

        assert_true(sd_bus_message_append(message, "s", id) >= 0);
        return message;
}

static sd_bus_message *make_enumerate(sd_bus *bus, uint64_t number, void *userdata) {
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.EnumerateLicenses");
        g_autofree char *id = world_id(number * 7919 % READ_LICENSES);

        assert_true(sd_bus_message_append(message, "a{sv}su", 0, id, 1) >= 0);
        return message;
}

static void append_license(sd_bus_message *message, Clients *clients) {
        g_autofree char *id = world_id(1000000 + clients->stored);

        /* All differ, and none is made in the time that is measured. */
        memcpy(clients->document + 8, &clients->stored, sizeof clients->stored);
        clients->stored++;
        assert_true(sd_bus_message_append_array(message, 'y', clients->document, DOCUMENT_SIZE) >= 0);
        assert_true(sd_bus_message_append(message, "a{sv}", 2, "LicenseId", "s", id, "Title", "s", "Moby-Dick") >= 0);
}

static sd_bus_message *make_store(sd_bus *bus, uint64_t number, void *userdata) {
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.StoreLicense");

        append_license(message, userdata);
        return message;
}

static sd_bus_message *make_echo_store(sd_bus *bus, uint64_t number, void *userdata) {
        sd_bus_message *message = echo_call(bus, "Store");

        append_license(message, userdata);
        return message;
}

static double rate(Clients *clients, uint64_t count, unsigned window,
        sd_bus_message *(*make)(sd_bus *bus, uint64_t number, void *userdata)) {
        return calls_rate(&(Calls) { clients->bus, count, window, make, clients });
}

static double measure_empty(Bench *bench, void *userdata) {
        return rate(userdata, bench->calls, WINDOW, make_empty);
}

static double measure_get(Bench *bench, void *userdata) {
        return rate(userdata, bench->calls, WINDOW, make_get);
}

static double measure_enumerate(Bench *bench, void *userdata) {
        return rate(userdata, bench->calls, WINDOW, make_enumerate);
}

static double measure_store(Bench *bench, void *userdata) {
        return rate(userdata, bench->calls / 2, WINDOW, make_store);
}

/* Fewer: each waits for the disk. */
static double measure_store_one(Bench *bench, void *userdata) {
        return rate(userdata, MAX(bench->calls / 20, 50), 1, make_store);
}

static double measure_echo_store(Bench *bench, void *userdata) {
        return rate(userdata, bench->calls / 2, WINDOW, make_echo_store);
}

static double measure_echo_one(Bench *bench, void *userdata) {
        return rate(userdata, MAX(bench->calls / 20, 50), 1, make_echo_store);
}

/* All licenses of the user, page after page. Returns licenses a second. */
static double measure_pages(Bench *bench, void *userdata) {
        Clients *clients = userdata;
        g_autofree char *after = g_strdup("");
        uint64_t licenses = 0;
        double begin = now();

        do {
                sd_bus_message *reply = call(clients->bus, ROOT, "LicenseStore.EnumerateLicenses", "a{sv}su", 0, after,
                        1000);
                const char *next;

                assert_true(sd_bus_message_enter_container(reply, 'a', "(sa{sv})") > 0);
                while (sd_bus_message_skip(reply, "(sa{sv})") > 0)
                        licenses++;
                assert_true(sd_bus_message_exit_container(reply) > 0 && sd_bus_message_read(reply, "s", &next) > 0);
                g_free(after);
                after = g_strdup(next);
                sd_bus_message_unref(reply);
        } while (*after);
        return (double)licenses / (now() - begin);
}

static void add_reads(Bench *bench, Clients *clients) {
        enum { GET, ENUMERATE, EMPTY, N };
        Contestant all[] = {
                [GET] = { "GetLicense", measure_get, clients },
                [ENUMERATE] = { "EnumerateLicenses", measure_enumerate, clients },
                [EMPTY] = { "an empty method", measure_empty, clients },
        };

        contest_run(bench, all, N);
        bench_add_row(bench, &(Row) { "get", "GetLicense of 4 kB, 64 outstanding", "calls/s", &all[GET], &all[EMPTY],
                0.35, true });
        bench_add_row(bench, &(Row) { "enumerate", "EnumerateLicenses of one, 64 outstanding", "calls/s",
                &all[ENUMERATE], &all[EMPTY], 0.35, true });
        contestants_clear(all, N);
}

static void add_stores(Bench *bench, Clients *clients) {
        enum { MANY, ONE, ECHO, ECHO_ONE, N };
        Contestant all[] = {
                [MANY] = { "StoreLicense", measure_store, clients },
                [ONE] = { "StoreLicense, one at a time: a commit each", measure_store_one, clients },
                [ECHO] = { "the same call without a store", measure_echo_store, clients },
                [ECHO_ONE] = { "the same call without a store, one at a time", measure_echo_one, clients },
        };

        contest_run(bench, all, N);
        bench_add_row(bench, &(Row) { "store-grouped", "StoreLicense of 4 kB, durable, 64 outstanding", "calls/s",
                &all[MANY], &all[ONE], 4, true });
        bench_add_row(bench, &(Row) { "store-echo", "StoreLicense of 4 kB, durable, 64 outstanding", "calls/s",
                &all[MANY], &all[ECHO], 0.6, true });
        bench_add_row(bench, &(Row) { "store-one", "StoreLicense of 4 kB, durable, one at a time", "calls/s",
                &all[ONE], &all[ECHO_ONE], 0, true });
        contestants_clear(all, N);
}

void bench_calls(Bench *bench) {
        Clients clients = { .document = make_document(DOCUMENT_SIZE, 1) };
        Contestant pages[] = { { "EnumerateLicenses", measure_pages, &clients } };

        echo_start(bench);
        world_new_store(bench);
        clients.bus = harness_connect(bench->h, 0);
        world_fill(clients.bus, DOCUMENT_RANDOM, 0, READ_LICENSES, DOCUMENT_SIZE);
        add_reads(bench, &clients);
        add_stores(bench, &clients);

        world_new_store(bench);
        world_fill(clients.bus, DOCUMENT_RANDOM, 0, bench->small, DOCUMENT_SIZE);
        contest_run(bench, pages, 1);
        bench_add_row(bench, &(Row) { "pages", "EnumerateLicenses of all, in pages of 64 KiB", "licenses/s", pages,
                NULL, 70000, true });
        contestants_clear(pages, 1);
        harness_disconnect(bench->h, clients.bus);
        g_free(clients.document);
}
