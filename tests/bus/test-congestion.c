/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Clients that read nothing. What they do to a bus takes half a minute to find out, and so has a binary of its own. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client.h"
#include "monitor.h"

/* Waits until the daemon is on the bus and answers; it must not have ended meanwhile. */
static void wait_for_service(Harness *h, sd_bus *bus) {
        for (unsigned i = 0; i < PATIENCE_SEC * 10; i++) {
                sd_bus_message *message = new_call(bus, ROOT, "Manager.ListJobs");
                int r = sd_bus_call(bus, message, 2 * UINT64_C(1000000), NULL, NULL);
                g_autofree char *log = NULL;

                sd_bus_message_unref(message);
                if (r >= 0)
                        return;
                if (waitpid(h->daemon, NULL, WNOHANG) != 0) {
                        h->daemon = 0;
                        log = harness_log(h);
                        fail_msg("The daemon ended instead; its log:\n%s", log);
                }
                sleep_msec(100);
        }
        fail_msg("The daemon does not answer any more");
}

static bool has_left(Harness *h) {
        g_autofree char *log = harness_log(h);

        return strstr(log, "leaving it, and coming back") != NULL;
}

/*
 * Asks for up to 190 MiB of answers a time and reads none: the bus keeps 127 MiB of what one connection has sent. Not
 * faster, or the daemon refuses most of it, with small answers.
 */
static void ask_and_read_nothing(Harness *h, unsigned times) {
        g_autofree uint8_t *document = make_document(60 * 1024, 1);
        sd_bus *greedy[8];

        for (unsigned i = 0; i < 8; i++)
                greedy[i] = harness_connect(h, 0);
        g_free(store_license(greedy[0], document, 60 * 1024, "a{sv}", 1, "LicenseId", "s", "large"));
        for (unsigned n = 0; n < times * 400 && !has_left(h); n++) {
                for (unsigned i = 0; i < 8; i++)
                        send_get_license(greedy[i], "large");
                sleep_msec(10);
        }
}

static void test_what_a_client_does_not_read_is_not_sent(void **state) {
        Harness *h = *state;
        sd_bus *victim = harness_connect(h, 1);
        ask_and_read_nothing(h, 1);

        store_simple(victim, "one");
        /* Longer than it takes to find the bus congested, and to leave it. */
        sleep_msec(20 * 1000);
        store_simple(victim, "two");
        assert_false(has_left(h));
}

/* The bus takes nothing any more, and an answer is due. */
static void stop_bus(Harness *h, sd_bus *bus) {
        assert_int_equal(kill(h->daemon, SIGSTOP), 0);
        send_get_license(bus, "one");
        wait_for_bus(bus);
        hang_bus(h);
}

/*
 * How long it has taken nothing counts from when something waits, not from when it was last looked at: what waits at
 * the first look after a rest must not count as if it had waited all that time. The write has that look come.
 */
static void test_bus_that_is_behind_after_a_rest_is_not_left(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);

        store_simple(bus, "one");
        /* Longer than it takes to leave a bus that takes nothing. */
        sleep_msec(19 * 1000);
        store_simple(bus, "one");
        stop_bus(h, bus);
        sleep_msec(3 * 1000);
        assert_int_equal(kill(h->bus, SIGCONT), 0);
        _cleanup_message_ sd_bus_message *reply = receive_reply(bus, PATIENCE_SEC * 1000);
        assert_non_null(reply);
        assert_false(sd_bus_message_is_method_error(reply, NULL) > 0);
        assert_false(has_left(h));
}

/* What the bus keeps of what the daemon has sent. */
static unsigned kept_by_bus(Harness *h, const char *what) {
        g_autofree char *owner = harness_owner(h);
        _cleanup_message_ sd_bus_message *reply = NULL;

        assert_true(sd_bus_call_method(h->observer, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                            "org.freedesktop.DBus.Debug.Stats", "GetConnectionStats", NULL, &reply, "s", owner) >= 0);
        g_autoptr(GHashTable) stats = read_properties(reply);
        return (unsigned)strtoul(g_hash_table_lookup(stats, what), NULL, 10);
}

/* A user who reads nothing gets little over each of its connections: a wide window is for who has few of them. */
static void test_many_connections_get_little_each(void **state) {
        Harness *h = *state;
        g_autofree uint8_t *document = make_document(60 * 1024, 1);
        sd_bus *greedy[64];

        for (unsigned i = 0; i < G_N_ELEMENTS(greedy); i++)
                greedy[i] = harness_connect(h, 0);
        g_free(store_license(greedy[0], document, 60 * 1024, "a{sv}", 1, "LicenseId", "s", "large"));
        for (unsigned n = 0; n < 12; n++)
                for (unsigned i = 0; i < G_N_ELEMENTS(greedy); i++) {
                        send_get_license(greedy[i], "large");
                        if (i % 8 == 7)
                                sleep_msec(10);
                }
        sleep_msec(1000);
        /* Some 7 MiB; with a wide window for each it would be 19. */
        assert_in_range(kept_by_bus(h, "IncomingBytes"), 1, 12 * 1024 * 1024);
}

static sd_bus_message *wrong_call(sd_bus *bus, const char *path, const char *member, const char *argument) {
        sd_bus_message *message = NULL;

        assert_true(sd_bus_message_new_method_call(bus, &message, "org.licensevault1", path,
                            strcmp(member, "GetAll") == 0 ? "org.freedesktop.DBus.Properties" :
                                                            "org.licensevault1.Manager", member) >= 0);
        if (argument)
                assert_true(sd_bus_message_append(message, "s", argument) >= 0);
        return message;
}

/* sd-bus answers them itself, with what it was sent. */
static void test_errors_that_repeat_the_call_are_not_kept_for_who_reads_nothing(void **state) {
        Harness *h = *state;
        sd_bus *deaf = harness_connect(h, 0), *victim = harness_connect(h, 1);
        g_autofree char *interface = g_strnfill(25 * 1000 * 1000, 'a'), *path = g_strnfill(60000, 'a');
        path[0] = '/';
        store_simple(victim, "one");
        store_simple(deaf, "one");

        for (unsigned i = 0; i < 8; i++)
                send_only(deaf, wrong_call(deaf, "/org/licensevault1", "GetAll", interface));
        for (unsigned i = 0; i < 100; i++) {
                send_only(deaf, wrong_call(deaf, path, "Nope", NULL));
                send_only(deaf, wrong_call(deaf, path, "ListJobs", NULL));
                for (unsigned n = 0; n < 20; n++) {
                        send_only(deaf, wrong_call(deaf, "/nope", "ListJobs", NULL));
                        send_only(deaf, wrong_call(deaf, "/org/licensevault1", "ListJobs", "superfluous"));
                }
        }
        sleep_msec(500);
        store_simple(victim, "two");
        assert_in_range(kept_by_bus(h, "IncomingBytes"), 0, 1024 * 1024);
        assert_false(has_left(h));
}

/* dbus-daemon keeps 64 of a service, beside what the client's socket takes. */
static void test_descriptors_that_nobody_reads_stop_nobody(void **state) {
        Harness *h = *state;
        sd_bus *deaf = harness_connect(h, 0), *victim = harness_connect(h, 1);
        g_autofree uint8_t *large = make_document(100 * 1024, 1);
        g_free(store_license(victim, large, 100 * 1024, "a{sv}", 1, "LicenseId", "s", "large"));
        store_simple(deaf, "one");

        for (unsigned i = 0; i < 400; i++) {
                sd_bus_message *message = new_call(deaf, ROOT, "LicenseStore.OpenLicense");

                assert_true(sd_bus_message_append(message, "s", "one") >= 0);
                send_only(deaf, message);
                sleep_msec(5);
        }
        sleep_msec(500);
        assert_in_range(kept_by_bus(h, "IncomingFDs"), 0, 8);
        store_simple(victim, "two");
        g_hash_table_unref(assert_license(victim, "large", large, 100 * 1024));
        assert_false(has_left(h));
}

/*
 * Where the bus does not tell who reads, it takes no byte of the daemon's any more at last. The daemon must
 * find out, leave the bus so that its messages there go, and come back.
 */
static void test_daemon_comes_back_when_the_bus_takes_nothing(void **state) {
        Harness *h = *state;
        sd_bus *victim = harness_connect(h, 1);
        ask_and_read_nothing(h, 10);

        wait_for_service(h, victim);
        harness_expect_log(h, "leaving it, and coming back");
        store_simple(victim, "one");
        store_simple(victim, "two");
}

/* Who comes and goes at once waits to be let in, too. Returns whether there was room for that. */
static bool come_and_go(const Harness *h) {
        struct sockaddr_un to = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), r;

        assert_true(fd >= 0);
        (void)g_strlcpy(to.sun_path, strchr(h->address, '=') + 1, sizeof to.sun_path);
        r = connect(fd, (struct sockaddr *)&to, sizeof to);
        if (r < 0)
                assert_int_equal(errno, EAGAIN);
        close(fd);
        return r >= 0;
}

static void wait_until_bus_is_left(Harness *h, sd_bus *bus) {
        store_simple(bus, "one");
        stop_bus(h, bus);
        while (come_and_go(h))
                ;
        harness_expect_log(h, "leaving it, and coming back");
        /* And at least one more attempt. */
        sleep_msec(1500);
}

static void test_daemon_comes_back_to_a_bus_that_lets_nobody_in(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        wait_until_bus_is_left(h, bus);

        assert_int_equal(kill(h->bus, SIGCONT), 0);
        wait_for_service(h, bus);
        store_simple(bus, "two");
}

static void test_bus_that_was_left_and_is_gone_is_lost(void **state) {
        Harness *h = *state;
        wait_until_bus_is_left(h, harness_connect(h, 0));

        harness_stop_bus(h);
        assert_int_equal(harness_wait(h, h->daemon), 6);
}

/* dbus-broker does not, and has enough to do. */
static void test_bus_that_does_not_tell_who_reads_is_asked_once(void **state) {
        Harness *h = *state;
        g_autofree uint8_t *document = make_document(60 * 1024, 1);
        sd_bus *bus = harness_connect(h, 0);

        monitor_new(h);
        g_free(store_license(bus, document, 60 * 1024, "a{sv}", 1, "LicenseId", "s", "large"));
        for (unsigned i = 0; i < 10; i++)
                g_hash_table_unref(assert_license(bus, "large", document, 60 * 1024));
        assert_int_equal(monitor_count_member(h, "GetConnectionStats"), 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_bus_that_does_not_tell_who_reads_is_asked_once,
                        harness_setup_silent_bus, harness_teardown),
                cmocka_unit_test_setup_teardown(test_errors_that_repeat_the_call_are_not_kept_for_who_reads_nothing,
                        harness_setup, harness_teardown),
                cmocka_unit_test_setup_teardown(test_descriptors_that_nobody_reads_stop_nobody, harness_setup,
                        harness_teardown),
                cmocka_unit_test_setup_teardown(test_what_a_client_does_not_read_is_not_sent, harness_setup,
                        harness_teardown),
                cmocka_unit_test_setup_teardown(test_bus_that_is_behind_after_a_rest_is_not_left, harness_setup,
                        harness_teardown),
                cmocka_unit_test_setup_teardown(test_many_connections_get_little_each, harness_setup,
                        harness_teardown),
                cmocka_unit_test_setup_teardown(test_daemon_comes_back_to_a_bus_that_lets_nobody_in, harness_setup,
                        harness_teardown),
                cmocka_unit_test_setup_teardown(test_bus_that_was_left_and_is_gone_is_lost, harness_setup,
                        harness_teardown),
                cmocka_unit_test_setup_teardown(test_daemon_comes_back_when_the_bus_takes_nothing,
                        harness_setup_silent_bus, harness_teardown),
        };

        return cmocka_run_group_tests_name("congestion", tests, NULL, NULL);
}
