/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Many callers, silent callers, callers that go: nobody's behaviour hurts others. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client.h"

static void assert_same_daemon(Harness *h, const char *owner) {
        g_autofree char *now = harness_owner(h);

        assert_string_equal(now, owner);
        assert_int_equal(kill(h->daemon, 0), 0);
}

static void test_600_connections_call_once_and_stay(void **state) {
        Harness *h = *state;
        g_autofree char *owner = harness_owner(h);
        store_simple(harness_connect(h, 0), "one");

        for (unsigned i = 0; i < 600; i++) {
                sd_bus *bus = harness_connect(h, 0);
                /* Every way in that could keep something for the caller. */
                if (i % 3 == 0)
                        call_void(bus, ROOT, "LicenseStore.GetLicense", "s", "one");
                else if (i % 3 == 1)
                        call_void(bus, ROOT, "Manager.ListJobs", "");
                else
                        call_void(bus, ROOT, "BackupRestoreProps.GetPropCount", "");
        }
        assert_same_daemon(h, owner);
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_hash_table_unref(assert_job_succeeds(bus, job));
}

static void test_2000_connections_come_and_go(void **state) {
        Harness *h = *state;
        g_autofree char *owner = harness_owner(h);

        for (unsigned i = 0; i < 2000; i++) {
                sd_bus *bus = harness_connect(h, i % h->n_users);
                call_void(bus, ROOT, "Manager.Subscribe", "");
                harness_disconnect(h, bus);
        }
        assert_same_daemon(h, owner);
}

/* Resident memory of the daemon, in KiB. */
static unsigned long daemon_memory(Harness *h) {
        g_autofree char *path = g_strdup_printf("/proc/%d/status", (int)h->daemon),
                        *text = read_file(path, NULL);
        const char *line = strstr(text, "VmRSS:");
        unsigned long kib = 0;

        assert_non_null(line);
        assert_int_equal(sscanf(line, "VmRSS: %lu", &kib), 1);
        return kib;
}

/* 60 MB of answers that nobody reads, while another client stores, reads and backs up. */
static void test_client_that_reads_nothing_hurts_nobody(void **state) {
        Harness *h = *state;
        g_autofree uint8_t *document = make_document(60 * 1024, 1);
        g_autofree char *owner = harness_owner(h);
        sd_bus *greedy = harness_connect(h, 0), *other = harness_connect(h, 0);
        g_free(store_license(greedy, document, 60 * 1024, "a{sv}", 1, "LicenseId", "s", "large"));
        unsigned long before = daemon_memory(h);

        for (unsigned i = 0; i < 50; i++) {
                for (unsigned n = 0; n < 20; n++)
                        send_get_license(greedy, "large");
                int64_t begin = g_get_monotonic_time();
                g_autofree char *id = g_strdup_printf("id%u", i);
                store_simple(other, id);
                int64_t usec = g_get_monotonic_time() - begin;
                if (usec > (sanitized() ? 20 : 3) * G_USEC_PER_SEC)
                        fail_msg(
                                "StoreLicense took %" PRId64 " us beside a client that reads nothing", usec);
        }
        g_autofree char *job = call_string(other, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_autoptr(GHashTable) result = assert_job_succeeds(other, job);
        assert_property(result, "licenses", "51");
        unsigned long after = daemon_memory(h);
        if (!sanitized() && after > before + 40 * 1024)
                fail_msg("The daemon grew from %lu to %lu KiB", before, after);
        assert_same_daemon(h, owner);
}

/* 40 MB of signals for a subscriber that reads none: each job says which licenses may not be backed up. */
static void test_signals_that_a_subscriber_does_not_read_are_not_kept(void **state) {
        Harness *h = *state;
        sd_bus *deaf = harness_connect(h, 0), *bus = harness_connect(h, 0);
        g_autofree char *owner = harness_owner(h), *title = g_strnfill(1000, 't');

        for (unsigned i = 0; i < 100; i++) {
                g_autofree char *id = g_strdup_printf("id%u", i);
                g_free(store_license(bus, "d", 1, "a{sv}", 3, "LicenseId", "s", id, "Title", "s", title, "AllowBackup",
                        "b", 0));
        }
        call_void(deaf, ROOT, "Manager.Subscribe", "");
        unsigned long before = daemon_memory(h);

        for (unsigned i = 0; i < 400; i++) {
                g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 1);
                g_autoptr(GHashTable) result = assert_job_succeeds(bus, job);
                assert_property(result, "restricted", "100");
        }
        unsigned long after = daemon_memory(h);
        if (!sanitized() && after > before + 16 * 1024)
                fail_msg("The daemon grew from %lu to %lu KiB", before, after);
        assert_same_daemon(h, owner);
}

static void test_silent_clients_of_another_user_hurt_nobody(void **state) {
        Harness *h = *state;
        g_autofree uint8_t *document = make_document(60 * 1024, 1);
        g_autofree char *owner = harness_owner(h);
        sd_bus *victim = harness_connect(h, 1), *greedy[8];
        for (unsigned i = 0; i < 8; i++)
                greedy[i] = harness_connect(h, 0);
        g_free(store_license(greedy[0], document, 60 * 1024, "a{sv}", 1, "LicenseId", "s", "large"));

        /* 85 MB; from 127 MiB on the bus takes nothing any more, and test-congestion.c is about that. */
        for (unsigned n = 0; n < 60; n++) {
                for (unsigned i = 0; i < 8; i++)
                        for (unsigned k = 0; k < 3; k++)
                                send_get_license(greedy[i], "large");
                int64_t begin = g_get_monotonic_time();
                g_autofree char *id = g_strdup_printf("id%u", n);
                store_simple(victim, id);
                int64_t usec = g_get_monotonic_time() - begin;
                if (usec > (sanitized() ? 20 : 3) * G_USEC_PER_SEC)
                        fail_msg("StoreLicense took %" PRId64 " us in round %u", usec, n);
        }
        assert_same_daemon(h, owner);
}

static int setup_small_cache(void **state) {
        harness_setup_bus(state);
        harness_set(*state, "Limits", "CachedCallers", "16");
        harness_start(*state);
        return 0;
}

static void test_callers_beyond_the_cache_stay_who_they_are(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        sd_bus *buses[40];
        for (unsigned i = 0; i < 40; i++)
                buses[i] = harness_connect(h, i % 2);
        g_free(store_license(buses[0], "first", 5, "a{sv}", 1, "LicenseId", "s", "id"));
        g_free(store_license(buses[1], "second", 6, "a{sv}", 1, "LicenseId", "s", "id"));

        for (unsigned round = 0; round < 3; round++)
                for (unsigned i = 0; i < 40; i++)
                        g_hash_table_unref(i % 2 == 0 ? assert_license(buses[i], "id", "first", 5)
                                                      : assert_license(buses[i], "id", "second", 6));
}

static void send_to_bus(sd_bus *bus, const char *member, const char *id) {
        sd_bus_message *message = new_call(bus, ROOT, member);

        if (id)
                assert_true(sd_bus_message_append(message, "s", id) >= 0);
        send_only(bus, message);
        wait_for_bus(bus);
}

/*
 * The descriptor goes to a connection of which it is not known any more, and not yet again, whose it is. It counts for
 * its user when that is known, or the count would fall below zero, and the user get no descriptor ever again.
 */
static void test_descriptor_of_who_was_forgotten_is_counted_once(void **state) {
        Harness *h = *state;
        sd_bus *kept[15], *forgotten, *other;

        for (unsigned i = 0; i < G_N_ELEMENTS(kept); i++) {
                kept[i] = harness_connect(h, 0);
                call_void(kept[i], ROOT, "Manager.Subscribe", "");
        }
        store_simple(kept[0], "one");

        for (unsigned round = 0; round < 5; round++) {
                forgotten = harness_connect(h, 0);
                other = harness_connect(h, 0);
                call_void(forgotten, ROOT, "Manager.ListJobs", "");
                assert_int_equal(kill(h->daemon, SIGSTOP), 0);
                send_to_bus(forgotten, "LicenseStore.OpenLicense", "one");
                send_to_bus(other, "Manager.ListJobs", NULL);
                send_to_bus(forgotten, "Manager.ListJobs", NULL);
                /* The store answers, but not the bus, which is asked whose connection this is. */
                hang_bus(h);
                assert_int_equal(kill(h->bus, SIGCONT), 0);
                for (unsigned i = 0; i < 2; i++) {
                        _cleanup_message_ sd_bus_message *reply = receive_reply(forgotten, PATIENCE_SEC * 1000);
                        assert_non_null(reply);
                        assert_false(sd_bus_message_is_method_error(reply, NULL) > 0);
                }
                for (unsigned i = 0; i < 8; i++)
                        call_void(kept[i], ROOT, "LicenseStore.OpenLicense", "s", "one");
                harness_disconnect(h, forgotten);
                harness_disconnect(h, other);
        }
}

/* The calls of one connection are answered in order, also where the daemon has to ask who it is. */
static void test_first_calls_of_a_connection_keep_their_order(void **state) {
        Harness *h = *state;

        for (unsigned round = 0; round < 20; round++) {
                sd_bus *bus = harness_connect(h, 0);
                for (unsigned i = 0; i < 10; i++) {
                        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.StoreLicense");
                        uint8_t byte = (uint8_t)i;
                        assert_true(sd_bus_message_append_array(message, 'y', &byte, 1) >= 0);
                        assert_true(sd_bus_message_append(message, "a{sv}", 1, "LicenseId", "s", "id") >= 0);
                        send_only(bus, message);
                }
                for (unsigned i = 0; i < 10; i++) {
                        _cleanup_message_ sd_bus_message *reply = receive_reply(bus, PATIENCE_SEC * 1000);
                        assert_non_null(reply);
                        assert_false(sd_bus_message_is_method_error(reply, NULL) > 0);
                }
                uint8_t last = 9;
                g_hash_table_unref(assert_license(bus, "id", &last, 1));
        }
}

static void test_who_wants_no_answer_gets_no_error_either(void **state) {
        sd_bus *bus = harness_connect(*state, 0);
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.GetLicense");

        assert_true(sd_bus_message_append(message, "s", "") >= 0);
        assert_true(sd_bus_message_set_expect_reply(message, false) >= 0);
        send_only(bus, message);
        /* Answered in their order: that of the first would be here now. */
        send_only(bus, new_call(bus, ROOT, "Manager.ListJobs"));
        _cleanup_message_ sd_bus_message *reply = receive_reply(bus, PATIENCE_SEC * 1000);
        assert_non_null(reply);
        assert_false(sd_bus_message_is_method_error(reply, NULL));
        assert_null(receive_reply(bus, 100));
}

/* The bus hangs, and has not said yet whose the connection is. What is sent to it then it still reads. */
static void test_stop_answers_who_is_not_known_yet(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);

        assert_int_equal(kill(h->daemon, SIGSTOP), 0);
        send_only(bus, new_call(bus, ROOT, "Manager.ListJobs"));
        wait_for_bus(bus);
        hang_bus(h);
        harness_stop(h);
        assert_int_equal(kill(h->bus, SIGCONT), 0);
        _cleanup_message_ sd_bus_message *reply = receive_reply(bus, PATIENCE_SEC * 1000);
        assert_non_null(reply);
        assert_true(sd_bus_message_is_method_error(reply, "org.licensevault1.Error.NS_E_DRM_OPERATION_CANCELED") > 0);
}

static void test_users_without_licenses_of_their_own_are_denied(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        sd_bus *nobody = harness_connect_uid(h, 65534);

        store_license_error(nobody, "AccessDenied", NULL, "x", 1, "a{sv}", 1, "LicenseId", "s", "id");
        call_error(nobody, ROOT, "LicenseBackup.BackupLicenses", "AccessDenied", NULL, "u", 0);
        call_error(
                nobody, ROOT, "LicenseStore.EnumerateLicenses", "AccessDenied", NULL, "a{sv}su", 0, "", 0);
        call_error(nobody, ROOT, "Manager.Subscribe", "AccessDenied", NULL, "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_600_connections_call_once_and_stay),
                TEST(test_2000_connections_come_and_go),
                TEST(test_client_that_reads_nothing_hurts_nobody),
                TEST(test_signals_that_a_subscriber_does_not_read_are_not_kept),
                TEST(test_silent_clients_of_another_user_hurt_nobody),
                cmocka_unit_test_setup_teardown(test_callers_beyond_the_cache_stay_who_they_are,
                        setup_small_cache, harness_teardown),
                cmocka_unit_test_setup_teardown(test_descriptor_of_who_was_forgotten_is_counted_once,
                        setup_small_cache, harness_teardown),
                TEST(test_first_calls_of_a_connection_keep_their_order),
                TEST(test_who_wants_no_answer_gets_no_error_either),
                TEST(test_stop_answers_who_is_not_known_yet),
                TEST(test_users_without_licenses_of_their_own_are_denied),
        };

        return cmocka_run_group_tests_name("callers", tests, NULL, NULL);
}
