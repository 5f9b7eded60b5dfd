/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who does not read what was asked for: refused soon, for each call that stays open slows dbus-daemon down. */
#include <signal.h>
#include <string.h>

#include "client.h"
#include "monitor.h"

/* Below the 128 that dbus-daemon lets a connection wait for. */
#define MANY 110U
#define LARGE (60 * 1024)
/* More than a socket and the daemon's window for it take. */
#define LARGE_EACH 11U
#define CONNECTIONS 6U
/* Of these connections together: more answers may not wait for who does not read. */
#define WAITING_MAX 512U
/* So many large ones may wait for one user. */
#define WAITING_LARGE 70U
#define EARLY 60U
#define LATE 50U
#define MANY_REFUSED 180U
/* So many go past a window, and one after the other where something else waits. */
#define REFUSED_UNREAD 120U
#define REFUSALS_IN_A_ROW 16U
#define REFUSED "Take your answers first."

static int setup(void **state) {
        harness_setup(state);
        monitor_new(*state);
        return 0;
}

static void store_both(sd_bus *bus) {
        g_autofree uint8_t *document = make_document(LARGE, 1);

        store_simple(bus, "small");
        g_free(store_license(bus, document, LARGE, "a{sv}", 1, "LicenseId", "s", "large"));
}

/* Answers of a type that the bus has got for one connection, read or not; NULL: for all. */
static unsigned count_answers(Harness *h, uint8_t type, sd_bus *bus) {
        g_autofree char *daemon = harness_owner(h);
        const char *name = NULL;
        unsigned n = 0;

        if (bus)
                assert_true(sd_bus_get_unique_name(bus, &name) >= 0);
        monitor_sync(h);
        for (unsigned i = 0; i < monitor_count(h); i++) {
                const Record *record = monitor_record(h, i);

                n += record->type == type && g_strcmp0(record->sender, daemon) == 0 &&
                        (!name || g_strcmp0(record->destination, name) == 0);
        }
        return n;
}

/* However slow the daemon is: each other connection of this user has had the answer to one more call made. */
static void wait_for_turn(sd_bus *idle) {
        call_void(idle, ROOT, "LicenseStore.GetLicense", "s", "small");
}

/* Waits until it is so many, at least. */
static void await_refusals(Harness *h, sd_bus *bus, unsigned least) {
        unsigned n = 0;

        for (unsigned i = 0; i < PATIENCE_SEC * 10 && (n = count_answers(h, SD_BUS_MESSAGE_METHOD_ERROR, bus)) < least;
             i++)
                sleep_msec(100);
        assert_in_range(n, least, UINT_MAX);
}

/* Some 70 of these answers may wait; the calls beyond them end although none of that is read. */
static void test_refusals_go_before_what_is_not_read(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0), *idle = harness_connect(h, 0);
        unsigned n_refused;
        store_both(bus);

        for (unsigned i = 0; i < EARLY; i++)
                send_get_license(bus, "large");
        for (unsigned i = 0; i < EARLY; i++)
                wait_for_turn(idle);
        for (unsigned i = 0; i < LATE; i++) {
                send_get_license(bus, "large");
                wait_for_turn(idle);
        }
        await_refusals(h, bus, LATE / 2);
        assert_in_range(count_answers(h, SD_BUS_MESSAGE_METHOD_RETURN, bus), 1, LATE);
        /* And who reads at last gets all that was not refused. */
        n_refused = count_refused(bus, EARLY + LATE, REFUSED);
        assert_in_range(n_refused, LATE / 2, LATE);
        store_simple(bus, "one");
}

/* Some 130 refusals go past what is not read; then what is read lets both go on. */
static void test_answers_go_on_among_refusals(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0), *idle = harness_connect(h, 0);
        unsigned n_sent, n_late = 0, in_a_row = 0;
        store_both(bus);

        for (unsigned i = 0; i < EARLY; i++)
                send_get_license(bus, "large");
        for (unsigned i = 0; i < EARLY; i++)
                wait_for_turn(idle);
        for (unsigned i = 0; i < MANY_REFUSED; i++) {
                send_get_license(bus, "large");
                wait_for_turn(idle);
        }
        await_refusals(h, bus, REFUSED_UNREAD);
        n_sent = count_answers(h, SD_BUS_MESSAGE_METHOD_ERROR, bus) +
                count_answers(h, SD_BUS_MESSAGE_METHOD_RETURN, bus);
        for (unsigned i = 0; i < EARLY + MANY_REFUSED; i++) {
                bool is_late = i >= n_sent, is_refused = count_refused(bus, 1, REFUSED) == 1;

                in_a_row = is_late && is_refused ? in_a_row + 1 : 0;
                n_late += is_late && is_refused;
                assert_in_range(in_a_row, 0, REFUSALS_IN_A_ROW);
        }
        assert_in_range(n_late, REFUSALS_IN_A_ROW + 1, MANY_REFUSED);
}

/* Each asks when nothing waits for it yet: what is refused then is known when the answers are there. */
static void test_bursts_of_many_connections_are_bounded_together(void **state) {
        Harness *h = *state;
        sd_bus *idle = harness_connect(h, 0), *busy[CONNECTIONS];
        unsigned n_good = 0;
        for (unsigned i = 0; i < CONNECTIONS; i++)
                busy[i] = harness_connect(h, 0);
        store_both(busy[0]);

        for (unsigned i = 0; i < CONNECTIONS; i++) {
                for (unsigned n = 0; n < EARLY; n++)
                        send_get_license(busy[i], "large");
                for (unsigned n = 0; n < EARLY; n++)
                        wait_for_turn(idle);
        }
        for (unsigned i = 0; i < CONNECTIONS; i++)
                n_good += EARLY - count_refused(busy[i], EARLY, REFUSED);
        assert_in_range(n_good, WAITING_LARGE, WAITING_LARGE + CONNECTIONS * LARGE_EACH);
}

/* Small ones, of which thousands would fit into what may wait for a user by bytes. */
static void test_many_answers_that_nobody_reads_are_refused(void **state) {
        Harness *h = *state;
        sd_bus *idle = harness_connect(h, 0), *busy[CONNECTIONS];
        unsigned n_refused = 0;
        for (unsigned i = 0; i < CONNECTIONS; i++)
                busy[i] = harness_connect(h, 0);
        store_both(busy[0]);

        for (unsigned i = 0; i < CONNECTIONS; i++)
                for (unsigned n = 0; n < LARGE_EACH; n++)
                        send_get_license(busy[i], "large");
        sleep_msec(1000);
        assert_int_equal(count_answers(h, SD_BUS_MESSAGE_METHOD_ERROR, NULL), 0);
        for (unsigned n = LARGE_EACH; n < MANY; n++) {
                for (unsigned i = 0; i < CONNECTIONS; i++)
                        send_only(busy[i], new_call(busy[i], ROOT, "Manager.ListJobs"));
                wait_for_turn(idle);
        }
        await_refusals(h, NULL, 1);
        for (unsigned i = 0; i < CONNECTIONS; i++)
                n_refused += count_refused(busy[i], MANY, REFUSED);
        assert_in_range(n_refused, 1, CONNECTIONS * MANY - WAITING_MAX);
}

/* Who reads, but is behind for a moment, gets all that was answered, or that it was too late for. */
static void test_stop_waits_for_who_reads(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        unsigned n_good = 0;
        store_both(bus);

        for (unsigned i = 0; i < MANY; i++)
                send_get_license(bus, "large");
        for (unsigned i = 0; i < MANY; i++) {
                _cleanup_message_ sd_bus_message *reply = receive_reply(bus, PATIENCE_SEC * 1000);

                assert_non_null(reply);
                if (i == LARGE_EACH)
                        assert_int_equal(kill(h->daemon, SIGTERM), 0);
                n_good += !sd_bus_message_is_method_error(reply, NULL);
                /* NoReply is what the bus says of who has left. */
                assert_false(sd_bus_message_is_method_error(reply, SD_BUS_ERROR_NO_REPLY) > 0);
        }
        assert_in_range(n_good, LARGE_EACH, MANY);
        assert_int_equal(harness_wait(h, h->daemon), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_refusals_go_before_what_is_not_read),
                TEST(test_answers_go_on_among_refusals),
                TEST(test_bursts_of_many_connections_are_bounded_together),
                TEST(test_many_answers_that_nobody_reads_are_refused),
                TEST(test_stop_waits_for_who_reads),
        };

        return cmocka_run_group_tests_name("unread", tests, NULL, NULL);
}
