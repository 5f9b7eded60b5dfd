/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who asks for much waits for much, and nobody else does. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "client.h"
#include "monitor.h"

/* Below the 128 that dbus-daemon lets a connection wait for. */
#define MANY 100U
/* Few enough that the daemon's socket holds all these calls. */
#define FEWER 40U
/* Below QueuedWritesPerUser=. */
#define WRITES 60U
#define CONNECTIONS 10U
#define LARGE_EACH 4U
#define LARGE (60 * 1024)
#define MEBIBYTE (1024 * 1024)
#define DESCRIPTORS_EACH 6U
/* So many licenses that to look at all of them takes longer than a call's way. */
#define SEARCHED 20000U

static int setup(void **state) {
        harness_setup(state);
        monitor_new(*state);
        return 0;
}

/*
 * All that this connection has sent lies in the socket of who it is for. dbus-daemon answers the first question in the
 * same turn in which it passes that on, perhaps before; the second one in a later turn.
 */
static void reach_receiver(sd_bus *bus) {
        for (unsigned i = 0; i < 2; i++) {
                sd_bus_message *message = NULL;

                assert_true(sd_bus_message_new_method_call(bus, &message, "org.freedesktop.DBus",
                                    "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetId") >= 0);
                assert_true(sd_bus_call(bus, message, 0, NULL, NULL) >= 0);
                sd_bus_message_unref(message);
        }
}

/* What is sent between these two, the daemon finds there all at once. */
static void hold_daemon(Harness *h) {
        assert_int_equal(kill(h->daemon, SIGSTOP), 0);
}

static void let_daemon_go(Harness *h) {
        assert_int_equal(kill(h->daemon, SIGCONT), 0);
}

/* The same, and the daemon has all its answers ready before the bus takes any. */
static void let_daemon_answer_first(Harness *h) {
        hang_bus(h);
        assert_int_equal(kill(h->bus, SIGCONT), 0);
}

static void send_get(sd_bus *bus, const char *id) {
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.GetLicense");

        assert_true(sd_bus_message_append(message, "s", id) >= 0);
        send_only(bus, message);
}

static void receive(sd_bus *bus, unsigned n) {
        for (unsigned i = 0; i < n; i++) {
                _cleanup_message_ sd_bus_message *reply = receive_reply(bus, PATIENCE_SEC * 1000);

                assert_non_null(reply);
                assert_false(sd_bus_message_is_method_error(reply, NULL));
        }
}

/* How many answers the bus has passed on to others before the last one to this connection. */
static unsigned answers_before(Harness *h, sd_bus *bus) {
        g_autofree char *daemon = harness_owner(h);
        const char *name;
        unsigned n = 0, before = 0;

        assert_true(sd_bus_get_unique_name(bus, &name) >= 0);
        monitor_sync(h);
        for (unsigned i = 0; i < monitor_count(h); i++) {
                const Record *record = monitor_record(h, i);

                if (record->type != SD_BUS_MESSAGE_METHOD_RETURN || g_strcmp0(record->sender, daemon) != 0)
                        continue;
                if (strcmp(record->destination, name) == 0)
                        before = n;
                else
                        n++;
        }
        return before;
}

/* How many of many answers to one user come before that to another, who called last. */
static unsigned many_before_one(Harness *h, sd_bus *busy, sd_bus *other) {
        unsigned before;

        /* So that both are known, and what is counted already ends here. */
        g_hash_table_unref(assert_license(other, "two", "the document of two\n", 20));
        before = answers_before(h, other);

        hold_daemon(h);
        for (unsigned i = 0; i < MANY; i++)
                send_get(busy, "one");
        reach_receiver(busy);
        send_get(other, "two");
        reach_receiver(other);
        let_daemon_go(h);
        receive(other, 1);
        receive(busy, MANY);
        return answers_before(h, other) - before;
}

static void test_a_user_with_many_calls_keeps_no_other_waiting(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        sd_bus *busy = harness_connect(h, 0), *other = harness_connect(h, 1);
        unsigned least = UINT_MAX;
        store_simple(busy, "one");
        store_simple(other, "two");

        /* A thread that has taken the other's call may not be let on a processor for a while: that is nobody's turn. */
        for (unsigned i = 0; i < 5 && least > MANY / 2; i++)
                least = MIN(least, many_before_one(h, busy, other));
        /* In the order in which they came, it would be all of them, each time. */
        assert_in_range(least, 0, MANY / 2);
}

/* What is answered on the bus thread itself: in the order in which they came, all of them would be before. */
static void test_calls_that_take_nothing_keep_no_other_waiting(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        sd_bus *busy = harness_connect(h, 0), *other = harness_connect(h, 1);
        unsigned before;
        call_void(busy, ROOT, "Manager.ListJobs", "");
        call_void(other, ROOT, "Manager.ListJobs", "");
        before = answers_before(h, other);

        hold_daemon(h);
        for (unsigned i = 0; i < MANY; i++)
                send_only(busy, new_call(busy, ROOT, "Manager.ListJobs"));
        reach_receiver(busy);
        send_only(other, new_call(other, ROOT, "Manager.ListJobs"));
        reach_receiver(other);
        let_daemon_go(h);
        receive(other, 1);
        receive(busy, MANY);
        assert_in_range(answers_before(h, other) - before, 0, MANY / 4);
}

static void send_consume(sd_bus *bus) {
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.ConsumeRight");

        assert_true(sd_bus_message_append(message, "sst", "it", "play", UINT64_C(1)) >= 0);
        send_only(bus, message);
}

/* More wait than are done in one turn of the loop, while others still come. */
static void test_calls_of_a_connection_are_done_in_their_order(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        uint64_t left = 10000, last = 0, cookie;
        g_free(store_license(bus, "x", 1, "a{sv}", 2, "LicenseId", "s", "it", "Counters", "a{st}", 1, "play", left));

        for (unsigned round = 0; round < 20; round++) {
                hold_daemon(h);
                for (unsigned i = 0; i < MANY; i++)
                        send_consume(bus);
                reach_receiver(bus);
                let_daemon_go(h);
                for (unsigned i = 0; i < MANY / 4; i++) {
                        g_usleep(20);
                        send_consume(bus);
                }
                for (unsigned i = 0; i < MANY + MANY / 4; i++) {
                        sd_bus_message *reply = receive_reply(bus, PATIENCE_SEC * 1000);

                        assert_non_null(reply);
                        assert_true(sd_bus_message_get_reply_cookie(reply, &cookie) >= 0);
                        assert_true(cookie > last);
                        last = cookie;
                        assert_int_equal(read_uint64(reply), --left);
                }
        }
}

static void test_a_user_with_large_answers_keeps_no_other_waiting(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        g_autofree uint8_t *document = make_document(LARGE, 1);
        sd_bus *busy[CONNECTIONS], *other = harness_connect(h, 1);
        unsigned before;
        for (unsigned i = 0; i < CONNECTIONS; i++) {
                busy[i] = harness_connect(h, 0);
                g_free(store_license(busy[i], document, LARGE, "a{sv}", 1, "LicenseId", "s", "large"));
        }
        store_simple(other, "small");
        before = answers_before(h, other);

        hold_daemon(h);
        for (unsigned i = 0; i < CONNECTIONS * LARGE_EACH; i++)
                send_get(busy[i % CONNECTIONS], "large");
        for (unsigned i = 0; i < CONNECTIONS; i++)
                reach_receiver(busy[i]);
        for (unsigned i = 0; i < FEWER; i++)
                send_get(other, "small");
        reach_receiver(other);
        let_daemon_answer_first(h);
        receive(other, FEWER);
        for (unsigned i = 0; i < CONNECTIONS; i++)
                receive(busy[i], LARGE_EACH);
        /* All small ones together have less bytes than one large one; in turn by number, all of these came between. */
        assert_in_range(answers_before(h, other) - before, 0, CONNECTIONS * LARGE_EACH / 2);
}

static void send_search(sd_bus *bus) {
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.EnumerateLicenses");

        assert_true(sd_bus_message_append(message, "a{sv}su", 1, "KeyId", "s", "none has it", "", 1) >= 0);
        send_only(bus, message);
}

static void test_a_user_who_searches_much_keeps_no_other_search_waiting(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        sd_bus *busy = harness_connect(h, 0), *other = harness_connect(h, 1);
        unsigned before;
        store_many(busy, "many", SEARCHED, 10);
        store_simple(other, "one");
        before = answers_before(h, other);

        for (unsigned i = 0; i < FEWER; i++)
                send_search(busy);
        /* One has come back: all others are behind it, in the daemon. */
        receive(busy, 1);
        send_search(other);
        receive(other, 1);
        receive(busy, FEWER - 1);
        assert_in_range(answers_before(h, other) - before, 1, FEWER / 2);
}

/* Who asks twice for a stop waits for nothing. */
static void test_second_stop_leaves_searches_that_wait(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        store_many(bus, "many", SEARCHED, 10);

        for (unsigned i = 0; i < FEWER; i++)
                send_search(bus);
        receive(bus, 1);
        assert_int_equal(kill(h->daemon, SIGTERM), 0);
        harness_expect_log(h, "Stopping.");
        harness_stop(h);
}

/* More values than the daemon measures. */
static sd_bus_message *many_licenses(sd_bus *bus, const char *id) {
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.StoreLicenses");

        assert_true(sd_bus_message_open_container(message, 'a', "(aya{sv})") >= 0);
        for (unsigned i = 0; i < 50; i++) {
                g_autofree char *other = g_strdup_printf("other-%u", i);

                assert_true(sd_bus_message_append(message, "(aya{sv})", 5, 'l', 'a', 't', 'e', 'r', 1, "LicenseId", "s",
                                    i == 49 ? id : other) >= 0);
        }
        assert_true(sd_bus_message_close_container(message) >= 0);
        return message;
}

static void test_what_is_not_kept_overtakes_nothing_of_its_connection(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "one");

        hold_daemon(h);
        for (unsigned i = 0; i < 20; i++) {
                sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.StoreLicense");

                assert_true(sd_bus_message_append(message, "aya{sv}", 7, 'e', 'a', 'r', 'l', 'i', 'e', 'r', 1,
                                    "LicenseId", "s", "it") >= 0);
                send_only(bus, message);
        }
        send_only(bus, many_licenses(bus, "it"));
        reach_receiver(bus);
        let_daemon_go(h);
        receive(bus, 21);
        g_hash_table_unref(assert_license(bus, "it", "later", 5));
}

static void test_who_leaves_without_an_answer_has_its_calls_done(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0), *later = harness_connect(h, 0);
        store_simple(bus, "one");

        hold_daemon(h);
        for (unsigned i = 0; i < WRITES; i++) {
                g_autofree char *id = g_strdup_printf("left-%u", i);
                sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.StoreLicense");

                assert_true(sd_bus_message_append(message, "aya{sv}", 1, 'x', 1, "LicenseId", "s", id) >= 0);
                assert_true(sd_bus_message_set_expect_reply(message, false) >= 0);
                send_only(bus, message);
        }
        reach_receiver(bus);
        harness_disconnect(h, bus);
        let_daemon_go(h);
        for (unsigned i = 0; i < 100; i++) {
                sd_bus_message *message = new_call(later, ROOT, "LicenseStore.GetLicense");
                sd_bus_message *reply = NULL;
                int r;

                assert_true(sd_bus_message_append(message, "s", "left-59") >= 0);
                r = sd_bus_call(later, message, 0, NULL, &reply);
                sd_bus_message_unref(message);
                sd_bus_message_unref(reply);
                if (r >= 0)
                        return;
                sleep_msec(20);
        }
        fail_msg("the last call of a connection that left was not done");
}

/* JSON of 1 MiB that takes a quarter of a second to read, and is no license of a kind that is known (g_free). */
static char *make_slow_document(void) {
        GString *document = g_string_new("{\"readium.org/lcp/\": [");

        while (document->len < MEBIBYTE - 10)
                g_string_append(document, "{},");
        g_string_append(document, "{}]}");
        return g_string_free(document, FALSE);
}

static void send_store(sd_bus *bus, const char *id, const char *document, unsigned n) {
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.StoreLicenses");

        assert_true(sd_bus_message_open_container(message, 'a', "(aya{sv})") >= 0);
        for (unsigned i = 0; i < n; i++) {
                assert_true(sd_bus_message_open_container(message, 'r', "aya{sv}") >= 0);
                assert_true(sd_bus_message_append_array(message, 'y', document, strlen(document)) >= 0);
                assert_true(sd_bus_message_append(message, "a{sv}", 1, "LicenseId", "s", id) >= 0);
                assert_true(sd_bus_message_close_container(message) >= 0);
        }
        assert_true(sd_bus_message_close_container(message) >= 0);
        send_only(bus, message);
}

static void test_documents_that_take_long_keep_no_others_change_waiting(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        sd_bus *busy = harness_connect(h, 0), *other = harness_connect(h, 1);
        g_autofree char *slow = make_slow_document();
        store_simple(busy, "one");
        store_simple(other, "two");

        send_store(busy, "slow", slow, 8);
        reach_receiver(busy);
        send_store(other, "small", "small", 1);
        receive(other, 1);
        /* What came before that is here by now. */
        reach_receiver(other);
        assert_null(receive_reply(busy, 50));
        receive(busy, 1);
        assert_int_equal(call_uint64(busy, ROOT, "LicenseStore.ConsumeRight", "sst", "slow", "play", UINT64_C(1)),
                UINT64_MAX);
}

static void test_changes_of_a_user_are_made_in_their_order_behind_a_document_that_takes_long(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *slow = make_slow_document();
        store_simple(bus, "one");

        for (unsigned i = 0; i < 2; i++) {
                send_store(bus, "it", "earlier", 1);
                send_store(bus, "it", slow, 2);
        }
        send_store(bus, "it", "later", 1);
        receive(bus, 5);
        g_hash_table_unref(assert_license(bus, "it", "later", 5));
}

/* What is wrong with one of them is said as of a small one, and no other is stored. */
static void test_document_that_takes_long_is_refused_as_any(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *slow = make_slow_document();
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.StoreLicenses");

        assert_true(sd_bus_message_open_container(message, 'a', "(aya{sv})") >= 0);
        for (unsigned i = 0; i < 2; i++) {
                assert_true(sd_bus_message_open_container(message, 'r', "aya{sv}") >= 0);
                assert_true(sd_bus_message_append_array(message, 'y', slow, strlen(slow)) >= 0);
                assert_true(sd_bus_message_append(message, "a{sv}", 2, "LicenseId", "s", "it", "MediaType", "s",
                                    i == 0 ? "text/plain" : "application/vnd.readium.lcp.license.v1.0+json") >= 0);
                assert_true(sd_bus_message_close_container(message) >= 0);
        }
        assert_true(sd_bus_message_close_container(message) >= 0);
        send_call_error(bus, message, "NS_E_DRM_INVALID_LICENSE", "License 2 of 2: *is missing*");
        call_error(bus, ROOT, "LicenseStore.GetLicense", "NS_E_DRM_LICENSE_UNAVAILABLE", NULL, "s", "it");
}

/* Of few bytes, and each is one statement for each counter that the license has. */
static void send_many_small(sd_bus *bus, const char *id) {
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.StoreLicenses");

        assert_true(sd_bus_message_open_container(message, 'a', "(aya{sv})") >= 0);
        for (unsigned i = 0; i < 1000; i++)
                assert_true(sd_bus_message_append(message, "(aya{sv})", 1, 'x', 1, "LicenseId", "s", id) >= 0);
        assert_true(sd_bus_message_close_container(message) >= 0);
        send_only(bus, message);
}

static void test_many_small_licenses_keep_no_others_change_waiting(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        sd_bus *busy = harness_connect(h, 0), *other = harness_connect(h, 1);
        sd_bus_message *reply;
        unsigned n = 0;
        store_simple(other, "two");
        g_free(store_license(busy, "x", 1, "a{sv}", 2, "LicenseId", "s", "it", "Counters", "a{st}", 8, "a", UINT64_C(1),
                "b", UINT64_C(1), "c", UINT64_C(1), "d", UINT64_C(1), "e", UINT64_C(1), "f", UINT64_C(1),
                "g", UINT64_C(1), "h", UINT64_C(1)));

        for (unsigned i = 0; i < CONNECTIONS; i++)
                send_many_small(busy, "it");
        /* All are taken in when this is answered. */
        g_hash_table_unref(assert_license(busy, "it", "x", 1));
        store_simple(other, "small");
        for (; (reply = receive_reply(busy, 0)); n++)
                sd_bus_message_unref(reply);
        assert_in_range(n, 0, CONNECTIONS / 2);
        receive(busy, CONNECTIONS - n);
}

/* A license with as many counters as may be: so many values take the daemon long to read. */
static void append_with_counters(sd_bus_message *message) {
        assert_true(sd_bus_message_open_container(message, 'r', "aya{sv}") >= 0);
        assert_true(sd_bus_message_append_array(message, 'y', "x", 1) >= 0);
        assert_true(sd_bus_message_open_container(message, 'a', "{sv}") >= 0);
        assert_true(sd_bus_message_append(message, "{sv}", "LicenseId", "s", "it") >= 0);
        assert_true(sd_bus_message_open_container(message, 'e', "sv") >= 0);
        assert_true(sd_bus_message_append(message, "s", "Counters") >= 0);
        assert_true(sd_bus_message_open_container(message, 'v', "a{st}") >= 0);
        assert_true(sd_bus_message_open_container(message, 'a', "{st}") >= 0);
        for (unsigned i = 0; i < 64; i++) {
                char right[16];

                snprintf(right, sizeof right, "right-%u", i);
                assert_true(sd_bus_message_append(message, "{st}", right, UINT64_C(1)) >= 0);
        }
        for (unsigned i = 0; i < 5; i++)
                assert_true(sd_bus_message_close_container(message) >= 0);
}

/* is_wrong: it is read no further than its first license. */
static void send_with_counters(sd_bus *bus, bool is_wrong) {
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.StoreLicenses");

        assert_true(sd_bus_message_open_container(message, 'a', "(aya{sv})") >= 0);
        if (is_wrong)
                assert_true(sd_bus_message_append(message, "(aya{sv})", 1, 'x', 1, "Nothing", "s", "known") >= 0);
        for (unsigned i = 0; i < 1000; i++)
                append_with_counters(message);
        assert_true(sd_bus_message_close_container(message) >= 0);
        send_only(bus, message);
}

/* They take no turn. */
static void test_calls_that_take_long_to_read_are_refused_where_there_are_many(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        sd_bus *busy = harness_connect(h, 0), *other = harness_connect(h, 1);
        unsigned n_refused = 0;
        store_simple(busy, "one");
        store_simple(other, "two");

        hold_daemon(h);
        for (unsigned i = 0; i < FEWER; i++)
                send_with_counters(busy, false);
        reach_receiver(busy);
        let_daemon_go(h);
        store_simple(other, "small");
        for (unsigned i = 0; i < FEWER; i++) {
                _cleanup_message_ sd_bus_message *reply = receive_reply(busy, PATIENCE_SEC * 1000);

                assert_non_null(reply);
                n_refused += sd_bus_message_is_method_error(reply, NULL) &&
                        g_str_has_prefix(sd_bus_message_get_error(reply)->message, "Calls of yours with many values");
        }
        assert_in_range(n_refused, 1, FEWER - 1);
        /* Not what takes a moment. */
        store_simple(busy, "three");
}

/* They are kept until the daemon knows whose they are, and measured for that: then there is no room beside them. */
static void test_calls_of_strangers_that_take_long_to_measure_are_not_where_there_are_many(void **state) {
        Harness *h = *state;
        sd_bus *strangers[WRITES];
        unsigned n_refused = 0;

        for (unsigned i = 0; i < WRITES; i++)
                strangers[i] = harness_connect(h, 0);
        hold_daemon(h);
        for (unsigned i = 0; i < WRITES; i++) {
                send_with_counters(strangers[i], true);
                send_only(strangers[i], new_call(strangers[i], ROOT, "Manager.ListJobs"));
                reach_receiver(strangers[i]);
        }
        let_daemon_go(h);
        for (unsigned i = 0; i < 2 * WRITES; i++) {
                _cleanup_message_ sd_bus_message *reply = receive_reply(strangers[i / 2], PATIENCE_SEC * 1000);

                assert_non_null(reply);
                n_refused += sd_bus_message_is_method_error(reply, NULL) &&
                        g_str_has_prefix(sd_bus_message_get_error(reply)->message, "Calls of yours with 16777216 bytes");
        }
        assert_in_range(n_refused, 1, 2 * WRITES - 1);
}

static void test_second_stop_leaves_changes_that_wait(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "it");

        for (unsigned i = 0; i < FEWER; i++)
                send_many_small(bus, "it");
        /* On a busy machine some are refused, for the time that they take. */
        _cleanup_message_ sd_bus_message *reply = receive_reply(bus, PATIENCE_SEC * 1000);
        assert_non_null(reply);
        assert_int_equal(kill(h->daemon, SIGTERM), 0);
        harness_expect_log(h, "Stopping.");
        harness_stop(h);
}

static int setup_few_reads(void **state) {
        harness_setup_bus(state);
        harness_set(*state, "Limits", "QueuedReadsPerUser", "2");
        harness_start(*state);
        return 0;
}

static int setup_many_writes(void **state) {
        harness_setup_bus(state);
        harness_set(*state, "Limits", "QueuedWritesPerUser", "200");
        harness_start(*state);
        return 0;
}

static void test_more_reads_than_may_wait_are_refused(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        unsigned n_refused;
        store_simple(bus, "one");

        hold_daemon(h);
        for (unsigned i = 0; i < FEWER; i++)
                send_get(bus, "one");
        reach_receiver(bus);
        let_daemon_go(h);
        n_refused = count_refused(bus, FEWER, "2 calls of yours are waiting already*");
        assert_in_range(n_refused, 1, FEWER - 2);

        hold_daemon(h);
        for (unsigned i = 0; i < FEWER; i++)
                send_search(bus);
        reach_receiver(bus);
        let_daemon_go(h);
        n_refused = count_refused(bus, FEWER, "2 calls of yours are waiting already*");
        assert_in_range(n_refused, 1, FEWER - 2);
        g_hash_table_unref(assert_license(bus, "one", "the document of one\n", 20));
}

/* What is not known to be read counts for the user: who got little is asked about, too, though not at once. */
static void test_who_got_little_is_asked_about_later(void **state) {
        Harness *h = *state;
        g_autofree uint8_t *document = make_document(LARGE, 1);
        sd_bus *bus = harness_connect(h, 0);
        unsigned n = 0;
        g_free(store_license(bus, document, LARGE, "a{sv}", 1, "LicenseId", "s", "large"));

        send_get(bus, "large");
        receive(bus, 1);
        assert_int_equal(monitor_count_member(h, "GetConnectionStats"), 0);
        for (unsigned i = 0; i < PATIENCE_SEC * 10 && n == 0; i++) {
                sleep_msec(100);
                n = monitor_count_member(h, "GetConnectionStats");
        }
        assert_int_equal(n, 1);
        /* And once is enough. */
        sleep_msec(2500);
        assert_int_equal(monitor_count_member(h, "GetConnectionStats"), 1);
}

static void send_open(sd_bus *bus, const char *id) {
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.OpenLicense");

        assert_true(sd_bus_message_append(message, "s", id) >= 0);
        send_only(bus, message);
}

/* The bus is told one at a time, and whoever waits for them has all of them at last. */
static void test_descriptors_all_come(void **state) {
        Harness *h = *state;
        sd_bus *busy[CONNECTIONS];
        for (unsigned i = 0; i < CONNECTIONS; i++)
                busy[i] = harness_connect(h, 0);
        store_simple(busy[0], "one");

        for (unsigned n = 0; n < DESCRIPTORS_EACH; n++)
                for (unsigned i = 0; i < CONNECTIONS; i++) {
                        send_open(busy[i], "one");
                        send_get(busy[i], "one");
                }
        for (unsigned i = 0; i < CONNECTIONS; i++)
                receive(busy[i], 2 * DESCRIPTORS_EACH);
}

/* dbus-broker, or dbus-daemon without our policy: nothing tells that a descriptor has gone. */
static void test_descriptors_all_come_from_a_bus_that_does_not_tell(void **state) {
        Harness *h = *state;
        g_autofree uint8_t *document = make_document(LARGE, 1);
        sd_bus *busy[CONNECTIONS], *other = harness_connect(h, 0);
        for (unsigned i = 0; i < CONNECTIONS; i++)
                busy[i] = harness_connect(h, 0);
        store_simple(other, "one");
        g_free(store_license(other, document, LARGE, "a{sv}", 1, "LicenseId", "s", "large"));

        send_get(other, "large");
        for (unsigned n = 0; n < DESCRIPTORS_EACH; n++)
                for (unsigned i = 0; i < CONNECTIONS; i++)
                        send_open(busy[i], "one");
        receive(other, 1);
        for (unsigned i = 0; i < CONNECTIONS; i++)
                receive(busy[i], DESCRIPTORS_EACH);
}

/* Each holds a document in memory. */
static void test_descriptors_that_wait_are_bounded(void **state) {
        Harness *h = *state;
        g_autofree uint8_t *document = make_document(MEBIBYTE, 1);
        sd_bus *bus = harness_connect(h, 0);
        unsigned n_refused;
        g_free(store_license(bus, document, MEBIBYTE, "a{sv}", 1, "LicenseId", "s", "large"));

        hold_daemon(h);
        for (unsigned i = 0; i < FEWER; i++)
                send_open(bus, "large");
        reach_receiver(bus);
        let_daemon_answer_first(h);
        n_refused = count_refused(bus, FEWER, "Take your answers first.");
        assert_in_range(n_refused, FEWER / 2, FEWER - 2);
        send_open(bus, "large");
        receive(bus, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_a_user_with_many_calls_keeps_no_other_waiting),
                TEST(test_calls_that_take_nothing_keep_no_other_waiting),
                cmocka_unit_test_setup_teardown(test_calls_of_a_connection_are_done_in_their_order, setup_many_writes,
                        harness_teardown),
                TEST(test_a_user_with_large_answers_keeps_no_other_waiting),
                TEST(test_a_user_who_searches_much_keeps_no_other_search_waiting),
                TEST(test_second_stop_leaves_searches_that_wait),
                TEST(test_documents_that_take_long_keep_no_others_change_waiting),
                TEST(test_changes_of_a_user_are_made_in_their_order_behind_a_document_that_takes_long),
                TEST(test_document_that_takes_long_is_refused_as_any),
                TEST(test_many_small_licenses_keep_no_others_change_waiting),
                TEST(test_second_stop_leaves_changes_that_wait),
                TEST(test_calls_that_take_long_to_read_are_refused_where_there_are_many),
                TEST(test_calls_of_strangers_that_take_long_to_measure_are_not_where_there_are_many),
                cmocka_unit_test_setup_teardown(test_more_reads_than_may_wait_are_refused, setup_few_reads,
                        harness_teardown),
                TEST(test_descriptors_all_come),
                cmocka_unit_test_setup_teardown(test_descriptors_all_come_from_a_bus_that_does_not_tell,
                        harness_setup_silent_bus, harness_teardown),
                TEST(test_descriptors_that_wait_are_bounded),
                TEST(test_who_got_little_is_asked_about_later),
                TEST(test_who_leaves_without_an_answer_has_its_calls_done),
                TEST(test_what_is_not_kept_overtakes_nothing_of_its_connection),
        };

        return cmocka_run_group_tests_name("turns", tests, NULL, NULL);
}
