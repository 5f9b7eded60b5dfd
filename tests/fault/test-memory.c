/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory that ends: the daemon answers NoMemory or LimitsExceeded for what does not fit, and lives. */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memory.h"
#include "restores.h"

#define MIB (1024U * 1024U)

static bool thorough;
static unsigned n_points, n_refused, n_served;

static void assert_lives(Harness *h, const char *when) {
        int status;

        if (waitpid(h->daemon, &status, WNOHANG) != 0) {
                g_autofree char *log = harness_log(h);

                h->daemon = 0;
                fail_msg("The daemon ended, wait status %#x, %s; its log:\n%s", (unsigned)status, when, log);
        }
}

/* The largest calls that a client can make. */

static sd_bus_message *large_documents(sd_bus *bus, unsigned n, size_t size, bool counters) {
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.StoreLicenses");
        g_autofree uint8_t *document = make_document(size, 5);

        assert_true(sd_bus_message_open_container(message, 'a', "(aya{sv})") >= 0);
        for (unsigned i = 0; i < n; i++) {
                g_autofree char *id = g_strdup_printf("large%05u", i);

                assert_true(sd_bus_message_open_container(message, 'r', "aya{sv}") >= 0);
                assert_true(sd_bus_message_append_array(message, 'y', document, size) >= 0);
                assert_true(sd_bus_message_open_container(message, 'a', "{sv}") >= 0);
                assert_true(sd_bus_message_append(message, "{sv}", "LicenseId", "s", id) >= 0);
                if (counters) {
                        assert_true(sd_bus_message_open_container(message, 'e', "sv") >= 0);
                        assert_true(sd_bus_message_append(message, "s", "Counters") >= 0);
                        assert_true(sd_bus_message_open_container(message, 'v', "a{st}") >= 0);
                        assert_true(sd_bus_message_open_container(message, 'a', "{st}") >= 0);
                        for (unsigned k = 0; k < 64; k++) {
                                g_autofree char *right =
                                        g_strdup_printf("a-right-with-a-name-as-long-as-can-be-%026u", k);
                                assert_true(sd_bus_message_append(message, "{st}", right, (uint64_t)7) >= 0);
                        }
                        for (unsigned k = 0; k < 3; k++)
                                assert_true(sd_bus_message_close_container(message) >= 0);
                }
                assert_true(sd_bus_message_close_container(message) >= 0);
                assert_true(sd_bus_message_close_container(message) >= 0);
        }
        assert_true(sd_bus_message_close_container(message) >= 0);
        return message;
}

/* Each makes a call of at most so many bytes: what sd-bus itself has no memory for is another test. */

static sd_bus_message *full_call(sd_bus *bus, size_t max) {
        size_t size = MIN(MIB, max / 2);

        return large_documents(bus, (unsigned)MIN(16, max * 3 / 4 / size), size, false);
}

static sd_bus_message *many_counters(sd_bus *bus, size_t max) {
        return large_documents(bus, (unsigned)MIN(thorough ? 1000 : 60, max / 8000), 10, true);
}

/* As many as one call may hold. */
static sd_bus_message *many_documents(sd_bus *bus, size_t max) {
        return large_documents(bus, (unsigned)MIN(1000, max / 100), 1, false);
}

static sd_bus_message *one_document(sd_bus *bus, size_t max) {
        return large_documents(bus, 1, MIN(MIB, max * 3 / 4), false);
}

static sd_bus_message *huge_filter(sd_bus *bus, size_t max) {
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.EnumerateLicenses");
        g_autofree char *text = g_strnfill(MIN(20 * MIB, max * 3 / 4), 'x');

        assert_true(sd_bus_message_append(message, "a{sv}su", 1, "KeyId", "s", text, "", 10) >= 0);
        return message;
}

/* As deep as D-Bus goes. */
static sd_bus_message *deep_option(sd_bus *bus, size_t max) {
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.EnumerateLicenses");
        unsigned depth = 28;

        assert_true(sd_bus_message_open_container(message, 'a', "{sv}") >= 0);
        assert_true(sd_bus_message_open_container(message, 'e', "sv") >= 0);
        assert_true(sd_bus_message_append(message, "s", "KeyId") >= 0);
        for (unsigned i = 0; i < depth; i++)
                assert_true(sd_bus_message_open_container(message, 'v', "v") >= 0);
        assert_true(sd_bus_message_append(message, "v", "s", "deep") >= 0);
        for (unsigned i = 0; i < depth + 2; i++)
                assert_true(sd_bus_message_close_container(message) >= 0);
        assert_true(sd_bus_message_append(message, "su", "", 10) >= 0);
        return message;
}

static sd_bus_message *long_id(sd_bus *bus, size_t max) {
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.DeleteLicense");
        g_autofree char *text = g_strnfill(MIN(30 * MIB, max * 3 / 4), 'x');

        assert_true(sd_bus_message_append(message, "s", text) >= 0);
        return message;
}

/* An option that is an array of a million strings. */
static sd_bus_message *many_parts(sd_bus *bus) {
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.EnumerateLicenses");

        assert_true(sd_bus_message_open_container(message, 'a', "{sv}") >= 0);
        assert_true(sd_bus_message_open_container(message, 'e', "sv") >= 0);
        assert_true(sd_bus_message_append(message, "s", "KeyId") >= 0);
        assert_true(sd_bus_message_open_container(message, 'v', "as") >= 0);
        assert_true(sd_bus_message_open_container(message, 'a', "s") >= 0);
        for (unsigned i = 0; i < 1000000; i++)
                assert_true(sd_bus_message_append_basic(message, 's', "") >= 0);
        for (unsigned i = 0; i < 4; i++)
                assert_true(sd_bus_message_close_container(message) >= 0);
        assert_true(sd_bus_message_append(message, "su", "", 10) >= 0);
        return message;
}

static const struct Call {
        const char *name;
        sd_bus_message *(*make)(sd_bus *bus, size_t max);
} calls[] = {
        { "many documents with 64 counters", many_counters },
        { "1,000 documents", many_documents },
        { "documents of 16 MiB", full_call },
        { "a document of 1 MiB", one_document },
        { "a filter of 20 MiB", huge_filter },
        { "an option 29 variants deep", deep_option },
        { "an id of 30 MiB", long_id },
};

static bool is_refusal(const char *name) {
        return strcmp(name, "org.freedesktop.DBus.Error.NoMemory") == 0 ||
                strcmp(name, "org.freedesktop.DBus.Error.LimitsExceeded") == 0 ||
                strcmp(name, "org.freedesktop.DBus.Error.InvalidArgs") == 0;
}

/* Makes each call; the daemon answers each with success or a refusal. */
static void call_all(Harness *h, sd_bus *bus, size_t max, const char *when) {
        for (unsigned i = 0; i < G_N_ELEMENTS(calls); i++) {
                g_autofree char *moment = g_strdup_printf("%s, at %s", when, calls[i].name);
                sd_bus_message *message = calls[i].make(bus, max), *reply = NULL;
                sd_bus_error error = SD_BUS_ERROR_NULL;
                int r = sd_bus_call(bus, message, (uint64_t)PATIENCE_SEC * G_USEC_PER_SEC, &error, &reply);

                n_points++;
                assert_lives(h, moment);
                if (r < 0 && !is_refusal(error.name))
                        fail_msg("%s: %s, '%s'", moment, error.name, error.message);
                if (r < 0)
                        n_refused++;
                else
                        n_served++;
                sd_bus_error_free(&error);
                sd_bus_message_unref(reply);
                sd_bus_message_unref(message);
        }
}

/* A job may fail for memory, and for nothing else. */
static void end_job(Harness *h, sd_bus *bus, const char *path, const char *when) {
        JobEnd end = {};

        job_wait(bus, path, &end);
        n_points++;
        assert_lives(h, when);
        if (end.hresult < 0 && !is_refusal(end.error))
                fail_msg("%s: %s, '%s'", when, end.error, end.message);
        if (end.hresult < 0)
                n_refused++;
        else
                n_served++;
        job_end_clear(&end);
}

static char *try_job(sd_bus *bus, const char *member, const char *types, int fd) {
        sd_bus_message *message = new_call(bus, ROOT, member), *reply = NULL;
        sd_bus_error error = SD_BUS_ERROR_NULL;
        char *path = NULL;
        int r;

        r = strcmp(types, "u") == 0 ? sd_bus_message_append(message, "u", 1) :
                strcmp(types, "h") == 0 ? sd_bus_message_append(message, "h", fd) :
                sd_bus_message_append(message, "hua{sv}", fd, AGREE, 0);
        assert_true(r >= 0);
        if (sd_bus_call(bus, message, (uint64_t)PATIENCE_SEC * G_USEC_PER_SEC, &error, &reply) >= 0)
                path = read_string(reply);
        else {
                if (!is_refusal(error.name))
                        fail_msg("%s: %s, '%s'", member, error.name, error.message);
                n_refused++;
        }
        sd_bus_error_free(&error);
        sd_bus_message_unref(message);
        return path;
}

static void run_jobs(Harness *h, sd_bus *bus, const char *when) {
        const char *const jobs[][2] = {
                { "LicenseBackup.BackupLicenses", "u" },
                { RESTORE_FILE, "hua{sv}" },
                { VERIFY, "h" },
        };

        for (unsigned i = 0; i < G_N_ELEMENTS(jobs); i++) {
                int fd = open_in(h, "large.tar", O_RDONLY);
                g_autofree char *path = try_job(bus, jobs[i][0], jobs[i][1], fd);
                g_autofree char *moment = g_strdup_printf("%s, at %s", when, jobs[i][0]);

                close(fd);
                assert_lives(h, moment);
                if (path)
                        end_job(h, bus, path, moment);
        }
}

static void serve_small(Harness *h, sd_bus *bus, pid_t pid) {
        assert_int_equal(h->daemon, pid);
        store_simple(bus, "small");
        call_void(bus, ROOT, "LicenseStore.GetLicense", "s", "small");
}

/* Documents of the largest size, and a license with all that it can have, in a backup. */
static void prepare(Harness *h, sd_bus *bus) {
        sd_bus_message *message = large_documents(bus, 3, MIB, true), *reply;

        reply = send_call(bus, message);
        sd_bus_message_unref(reply);
        save_backup(h, bus, "large.tar");
}

static void test_no_allocation_of_a_size_that_clients_choose_ends_the_daemon(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        pid_t pid = h->daemon;
        uint64_t step = thorough ? 120 : 200;

        prepare(h, bus);
        for (uint64_t max = 40 * MIB; max > 40 * 1024; max = max * 100 / step) {
                g_autofree char *when = g_strdup_printf("with at most %" PRIu64 " bytes at once", max);

                meddling->malloc_max = max;
                call_all(h, bus, max, when);
                run_jobs(h, bus, when);
                meddling->malloc_max = 0;
                serve_small(h, bus, pid);
        }
        print_message("%" PRIu64 " allocations were refused, the largest of %" PRIu64 " bytes\n", meddling->refused,
                meddling->largest);
        assert_true(meddling->refused > 3);
}

/* The connection is lost with a message that does not fit; what was acknowledged is there when the service is back. */
static void test_message_that_does_not_fit_ends_the_connection_alone(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);

        store_simple(bus, "acknowledged");
        meddling->malloc_max = MIB;
        sd_bus_message *message = long_id(bus, 40 * MIB);
        send_only(bus, message);
        assert_int_equal(harness_wait(h, h->daemon), 6);
        harness_start(h);
        call_void(bus, ROOT, "LicenseStore.GetLicense", "s", "acknowledged");
}

static void set_heap(int64_t limit) {
        meddling->sqlite_heap = limit;
        while (meddling->sqlite_heap_set != limit)
                sleep_msec(1);
}

static void test_sqlite_heap_that_ends(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        pid_t pid = h->daemon;
        int64_t step = thorough ? 115 : 250;

        prepare(h, bus);
        g_autofree char *before = snapshot_licenses(bus);
        for (int64_t limit = 24 * MIB; limit > 64 * 1024; limit = limit * 100 / step) {
                g_autofree char *when = g_strdup_printf("with %" PRIi64 " bytes for SQLite", limit);

                set_heap(limit);
                call_all(h, bus, 40 * MIB, when);
                run_jobs(h, bus, when);
                set_heap(-1);
                serve_small(h, bus, pid);
        }
        assert_non_null(before);
}

static uint64_t address_space(pid_t pid) {
        g_autofree char *path = g_strdup_printf("/proc/%d/statm", (int)pid), *content = read_file(path, NULL);

        return g_ascii_strtoull(content, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void test_address_space_that_ends(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        pid_t pid = h->daemon;

        prepare(h, bus);
        /* A message that sd-bus has no memory for ends the connection, and so the process: see docs/memory.md. */
        for (unsigned mib = 192; mib >= 96; mib -= thorough ? 16 : 96) {
                g_autofree char *when = g_strdup_printf("with %u MiB of address space more", mib);
                struct rlimit limit = { address_space(pid) + (uint64_t)mib * MIB, RLIM_INFINITY };

                assert_int_equal(prlimit(pid, RLIMIT_AS, &limit, NULL), 0);
                call_all(h, bus, 40 * MIB, when);
                run_jobs(h, bus, when);
                limit.rlim_cur = RLIM_INFINITY;
                assert_int_equal(prlimit(pid, RLIMIT_AS, &limit, NULL), 0);
                serve_small(h, bus, pid);
        }
}

static uint64_t peak(pid_t pid) {
        g_autofree char *path = g_strdup_printf("/proc/%d/status", (int)pid), *content = read_file(path, NULL);
        const char *line = strstr(content, "VmHWM:");

        assert_non_null(line);
        return g_ascii_strtoull(line + strlen("VmHWM:"), NULL, 10) / 1024;
}

/* As many as dbus-daemon lets wait, each as large as can be: what waits is limited, and is given back. */
static void test_many_large_calls_at_once(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        pid_t pid = h->daemon;
        unsigned n = thorough ? 128 : 24, answers = 0;

        store_simple(bus, "known");
        sd_bus_message *message = large_documents(bus, 15, MIB, false);
        for (unsigned i = 0; i < n; i++) {
                sd_bus_message *copy = NULL;

                copy = large_documents(bus, 15, MIB, false);
                send_only(bus, copy);
        }
        sd_bus_message_unref(message);
        while (answers < n) {
                sd_bus_message *reply = receive_reply(bus, PATIENCE_SEC * 1000);

                assert_non_null(reply);
                if (sd_bus_message_is_method_error(reply, NULL) > 0) {
                        assert_true(is_refusal(sd_bus_message_get_error(reply)->name));
                        n_refused++;
                } else
                        n_served++;
                sd_bus_message_unref(reply);
                answers++;
                n_points++;
        }
        assert_lives(h, "with large calls at once");
        print_message("%u calls of 15 MiB at once: %" PRIu64 " MiB of memory at most\n", n, peak(pid));
        assert_true(peak(pid) < 600);
        serve_small(h, bus, pid);
}

static void assert_refused(sd_bus *bus, const char *words) {
        _cleanup_message_ sd_bus_message *reply = receive_reply(bus, PATIENCE_SEC * 1000);

        assert_non_null(reply);
        assert_true(sd_bus_message_is_method_error(reply, "org.freedesktop.DBus.Error.LimitsExceeded") > 0);
        assert_non_null(strstr(sd_bus_message_get_error(reply)->message, words));
}

static void assert_too_much_is_held(sd_bus *bus) {
        assert_refused(bus, "bytes wait already");
        n_refused++;
        n_points++;
}

/* A user's calls wait for the name of their user: one large one, or many small ones, over all connections. */
static void test_calls_of_who_is_not_known_yet_are_bounded_in_bytes(void **state) {
        Harness *h = *state;
        sd_bus *known = harness_connect(h, 0), *first, *other;
        pid_t pid = h->daemon;
        unsigned n = thorough ? 32 : 8;

        store_simple(known, "known");
        meddling->names_wait = 1;
        first = harness_connect(h, 0);
        send_only(first, full_call(first, 40 * MIB));
        for (unsigned i = 0; i < 3; i++) {
                send_only(first, i == 0 ? long_id(first, 40 * MIB) : full_call(first, 40 * MIB));
                assert_too_much_is_held(first);
        }
        for (unsigned i = 0; i < n; i++) {
                other = harness_connect(h, 0);
                for (unsigned k = 0; k < 3; k++)
                        send_only(other, full_call(other, 40 * MIB));
                for (unsigned k = 0; k < 3; k++)
                        assert_too_much_is_held(other);
        }
        serve_small(h, known, pid);
        print_message("%u calls of 16 MiB before the user is known: %" PRIu64 " MiB of memory at most\n", 4 + 3 * n,
                peak(pid));
        assert_true(peak(pid) < 300);

        meddling->names_wait = 0;
        _cleanup_message_ sd_bus_message *reply = receive_reply(first, PATIENCE_SEC * 1000);
        assert_non_null(reply);
        assert_false(sd_bus_message_is_method_error(reply, NULL) > 0);

        /* Nothing of it is counted any more, not even what was refused: two small ones fit in at once. */
        meddling->names_wait = 1;
        other = harness_connect(h, 0);
        for (unsigned i = 0; i < 2; i++)
                send_only(other, large_documents(other, 7, MIB, false));
        serve_small(h, known, pid);
        meddling->names_wait = 0;
        for (unsigned i = 0; i < 2; i++) {
                _cleanup_message_ sd_bus_message *good = receive_reply(other, PATIENCE_SEC * 1000);
                assert_non_null(good);
                assert_false(sd_bus_message_is_method_error(good, NULL) > 0);
        }
}

/* What has very many small parts is not looked at for long, and is counted as large. */
static void test_measuring_a_call_ends_soon(void **state) {
        Harness *h = *state;
        sd_bus *known = harness_connect(h, 0), *bus;
        int64_t start, usec;

        store_simple(known, "known");
        meddling->names_wait = 1;
        bus = harness_connect(h, 0);
        send_only(bus, many_parts(bus));
        send_only(bus, many_parts(bus));
        start = g_get_monotonic_time();
        assert_too_much_is_held(bus);
        usec = g_get_monotonic_time() - start;
        meddling->names_wait = 0;
        print_message("Two calls with 1,000,000 parts were measured in %" PRIi64 " us\n", usec);
        assert_true(usec < 2 * G_USEC_PER_SEC);
        _cleanup_message_ sd_bus_message *reply = receive_reply(bus, PATIENCE_SEC * 1000);
        assert_non_null(reply);
        serve_small(h, known, h->daemon);
}

/* As many calls as a bus lets a connection wait for; those without an answer, it does not count. */
static void fill_connection(sd_bus *bus) {
        for (unsigned i = 0; i < 128; i++) {
                sd_bus_message *silent = new_call(bus, ROOT, "Manager.ListJobs");

                assert_true(sd_bus_message_set_expect_reply(silent, false) >= 0);
                send_only(bus, silent);
        }
}

static void test_calls_of_who_is_not_known_yet_are_bounded_in_number(void **state) {
        Harness *h = *state;
        sd_bus *known = harness_connect(h, 0), *bus, *leaver;

        store_simple(known, "known");
        meddling->names_wait = 1;
        bus = harness_connect(h, 0);
        leaver = harness_connect(h, 0);
        send_only(leaver, new_call(leaver, ROOT, "Manager.ListJobs"));
        fill_connection(bus);
        send_only(bus, new_call(bus, ROOT, "Manager.ListJobs"));
        assert_refused(bus, "128 calls of this connection");
        harness_disconnect(h, leaver);
        serve_small(h, known, h->daemon);

        meddling->names_wait = 0;
        for (unsigned i = 0;; i++) {
                send_only(bus, new_call(bus, ROOT, "Manager.ListJobs"));
                _cleanup_message_ sd_bus_message *reply = receive_reply(bus, PATIENCE_SEC * 1000);
                assert_non_null(reply);
                if (!sd_bus_message_is_method_error(reply, NULL))
                        break;
                assert_true(i < 100);
                g_usleep(20 * 1000);
        }
        serve_small(h, bus, h->daemon);
}

/* And of a user, over however many connections. */
static void test_calls_of_a_user_who_is_not_known_yet_are_bounded_in_number(void **state) {
        Harness *h = *state;
        sd_bus *known = harness_connect(h, 0), *full[4], *bus;

        store_simple(known, "known");
        meddling->names_wait = 1;
        for (unsigned i = 0; i < G_N_ELEMENTS(full); i++) {
                full[i] = harness_connect(h, 0);
                fill_connection(full[i]);
                /* The bus has said by then whose these are. */
                serve_small(h, known, h->daemon);
        }
        bus = harness_connect(h, 0);
        send_only(bus, new_call(bus, ROOT, "Manager.ListJobs"));
        assert_refused(bus, "512 calls of yours wait already");

        /* One of them goes, and what it had called. */
        harness_disconnect(h, full[0]);
        serve_small(h, known, h->daemon);
        send_only(bus, new_call(bus, ROOT, "Manager.ListJobs"));
        meddling->names_wait = 0;
        _cleanup_message_ sd_bus_message *reply = receive_reply(bus, PATIENCE_SEC * 1000);
        assert_non_null(reply);
        assert_false(sd_bus_message_is_method_error(reply, NULL) > 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, memory_setup, memory_teardown)

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                TEST(test_no_allocation_of_a_size_that_clients_choose_ends_the_daemon),
                TEST(test_message_that_does_not_fit_ends_the_connection_alone),
                TEST(test_sqlite_heap_that_ends),
                TEST(test_address_space_that_ends),
                TEST(test_many_large_calls_at_once),
                TEST(test_calls_of_who_is_not_known_yet_are_bounded_in_bytes),
                TEST(test_measuring_a_call_ends_soon),
                TEST(test_calls_of_who_is_not_known_yet_are_bounded_in_number),
                TEST(test_calls_of_a_user_who_is_not_known_yet_are_bounded_in_number),
        };
        int failed;

        thorough = argc > 1 && strcmp(argv[1], "--long") == 0;
        if (g_getenv("LICENSEVAULT_TEST_FILTER"))
                cmocka_set_test_filter(g_getenv("LICENSEVAULT_TEST_FILTER"));
        failed = cmocka_run_group_tests_name("memory", tests, NULL, NULL);
        printf("%u points, %u served, %u refused\n%d passed, %d failed\n", n_points, n_served, n_refused,
                (int)G_N_ELEMENTS(tests) - failed, failed);
        return failed > 0;
}
