/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A container as most are: no systemd, and a dbus-daemon that somebody has started. It starts the service. */
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "restores.h"
#include "system.h"

static int setup(void **state) {
        if (!g_getenv("LICENSEVAULT_BOOT_BUS"))
                fail_msg("This changes the machine it runs on; tests/boot/run gives it one of its own.");
        harness_setup_system(state);
        system_add_users(*state);
        return 0;
}

/* What the bus knows of the service's connection: GetConnectionUnixUser and the like. */
static uint32_t ask_bus(Harness *h, const char *member) {
        _cleanup_message_ sd_bus_message *reply = NULL;
        uint32_t value;

        assert_true(sd_bus_call_method(h->observer, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                            "org.freedesktop.DBus", member, NULL, &reply, "s", "org.licensevault1") >= 0);
        assert_true(sd_bus_message_read(reply, "u", &value) > 0);
        return value;
}

static void stop_service(Harness *h, int signal_number) {
        assert_int_equal(kill((pid_t)ask_bus(h, "GetConnectionUnixProcessID"), signal_number), 0);
        for (unsigned i = 0; i < PATIENCE_SEC * 100; i++) {
                g_autofree char *owner = harness_owner(h);
                if (!owner)
                        return;
                sleep_msec(10);
        }
        fail_msg("The service has not left the bus");
}

static int teardown(void **state) {
        Harness *h = *state;
        g_autofree char *owner = harness_owner(h);

        if (owner)
                stop_service(h, SIGTERM);
        return harness_teardown(state);
}

static void test_first_call_starts_the_service_as_its_own_user(void **state) {
        Harness *h = *state;
        struct passwd *entry = getpwnam("licensevault");
        g_autofree char *first = read_file("/proc/1/comm", NULL);
        struct stat st;
        assert_string_not_equal(first, "systemd\n");
        assert_null(harness_owner(h));
        assert_non_null(entry);

        g_autofree char *jobs = run_good(ARGUMENTS("busctl", "call", "org.licensevault1", "/org/licensevault1",
                "org.licensevault1.Manager", "ListJobs"));
        assert_string_equal(jobs, "a(osus) 0");
        assert_int_equal(ask_bus(h, "GetConnectionUnixUser"), entry->pw_uid);
        assert_int_equal(stat(STATE "/licenses.db", &st), 0);
        assert_int_equal(st.st_mode, S_IFREG | 0600);
        assert_int_equal(stat(STATE, &st), 0);
        assert_int_equal(st.st_mode, S_IFDIR | 0700);
        assert_int_equal(st.st_uid, entry->pw_uid);
}

static void test_user_backs_up_and_restores(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *err = NULL, *restore_err = NULL;
        store_many(bus, "a", 20, 1000);
        g_autofree char *before = snapshot_licenses(bus);

        if (run_as(system_users[0], ARGUMENTS("licensevaultctl", "backup", "--output", "x.tar"), NULL, &err) != 0)
                fail_msg("licensevaultctl backup: %s", err);
        delete_license(bus, "a00007");
        if (run_as(system_users[0], ARGUMENTS("licensevaultctl", "restore", "--yes", "x.tar"), NULL,
                    &restore_err) != 0)
                fail_msg("licensevaultctl restore: %s", restore_err);
        assert_snapshot(bus, before);
}

static void test_next_call_after_its_end_starts_it_again(void **state) {
        static const int signals[] = { SIGTERM, SIGKILL };
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 1);
        store_simple(bus, "one");

        for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++) {
                stop_service(h, signals[i]);
                g_hash_table_unref(assert_license(bus, "one", "the document of one\n", 20));
        }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_first_call_starts_the_service_as_its_own_user),
                TEST(test_user_backs_up_and_restores),
                TEST(test_next_call_after_its_end_starts_it_again),
        };

        return cmocka_run_group_tests_name("no-systemd", tests, NULL, NULL);
}
