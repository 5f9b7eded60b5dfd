/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Users of one machine, on its real bus: each is alone with the service. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "spy.h"
#include "system.h"

#define ROUNDS 400U

/* Starts from the user's own account, with its groups and its home, as one would by hand. */
static char *list_as(const char *user) {
        g_autofree char *out = NULL, *err = NULL;

        if (run_as(user, ARGUMENTS("licensevaultctl", "list"), &out, &err) != 0)
                fail_msg("`licensevaultctl list` of %s: %s", user, err);
        return g_steal_pointer(&out);
}

static void test_users_list_their_own_licenses(void **state) {
        Harness *h = *state;
        store_simple(harness_connect(h, 0), "of-anna");
        store_simple(harness_connect(h, 1), "of-bert");

        g_autofree char *anna = list_as(system_users[0]), *bert = list_as(system_users[1]);
        assert_non_null(strstr(anna, "of-anna"));
        assert_null(strstr(anna, "of-bert"));
        assert_non_null(strstr(bert, "of-bert"));
        assert_null(strstr(bert, "of-anna"));
}

static void test_foreign_license_answers_as_a_missing_one(void **state) {
        static const char *const methods[] = { "GetLicense", "OpenLicense", "DeleteLicense", "RevokeLicense" };
        Harness *h = *state;
        sd_bus *anna = harness_connect(h, 0), *bert = harness_connect(h, 1);
        store_simple(anna, "of-anna");

        for (unsigned i = 0; i < G_N_ELEMENTS(methods); i++) {
                g_autofree char *member = g_strconcat("LicenseStore.", methods[i], NULL);
                g_autofree char *foreign = error_text(bert, ROOT, member, "of-anna", "s", "of-anna");
                g_autofree char *missing = error_text(bert, ROOT, member, "missing", "s", "missing");
                assert_string_equal(foreign, missing);
        }
        g_hash_table_unref(assert_license(anna, "of-anna", "the document of of-anna\n", 24));
}

static void test_foreign_job_is_neither_seen_nor_heard(void **state) {
        Harness *h = *state;
        sd_bus *anna = harness_connect(h, 0), *bert = harness_connect(h, 1), *root = harness_connect_uid(h, 0);
        g_auto(StuckJob) stuck = {};
        match_everything(bert);
        call_void(bert, ROOT, "Manager.Subscribe", "");
        call_void(root, ROOT, "Manager.Subscribe", "");
        store_simple(anna, "one");
        stuck_job_start(anna, &stuck);

        assert_job_is_hidden(bert, stuck.path);
        _cleanup_message_ sd_bus_message *jobs = call(bert, ROOT, "Manager.ListJobs", "");
        assert_true(sd_bus_message_enter_container(jobs, 'a', "(osus)") >= 0);
        assert_true(sd_bus_message_at_end(jobs, false) > 0);

        stuck_job_drain(anna, &stuck);
        assert_int_equal(count_received(bert), 0);
        /* Who may hear it does: it was said. */
        assert_true(count_received(root) > 0);
}

static int compare_times(const void *a, const void *b) {
        int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

        return x < y ? -1 : x > y;
}

static int64_t time_error(sd_bus *bus, const char *path, const char *member, const char *types, const char *id) {
        sd_bus_message *message = new_call(bus, path, member);
        int64_t begin;

        if (*types)
                assert_true(sd_bus_message_append(message, types, id) >= 0);
        begin = g_get_monotonic_time();
        assert_true(sd_bus_call(bus, message, 0, NULL, NULL) < 0);
        begin = g_get_monotonic_time() - begin;
        sd_bus_message_unref(message);
        return begin;
}

/*
 * Medians of what takes turns, for a machine that is busy is so for both. A look at the disk, or at all of a user's
 * licenses, would show; what is left is less than a bus can be measured by.
 */
static void assert_as_fast(sd_bus *bus, const char *member, const char *types, const char *const ids[2]) {
        g_autofree int64_t *times[2] = { g_new(int64_t, ROUNDS), g_new(int64_t, ROUNDS) };

        for (unsigned i = 0; i < ROUNDS; i++)
                for (unsigned which = 0; which < 2; which++) {
                        unsigned w = (which + i) % 2;
                        times[w][i] = time_error(bus, *types ? ROOT : ids[w], member, types, ids[w]);
                }
        for (unsigned w = 0; w < 2; w++)
                qsort(times[w], ROUNDS, sizeof(int64_t), compare_times);

        int64_t foreign = times[0][ROUNDS / 2], missing = times[1][ROUNDS / 2];
        int64_t bound = MAX(missing / 4, 40);
        print_message("%s: %" PRIi64 " us for a foreign one, %" PRIi64 " us for a missing one\n", member, foreign,
                missing);
        if (ABS(foreign - missing) > bound)
                fail_msg("%s tells by its time that something is there", member);
}

static void test_foreign_id_takes_as_long_as_a_missing_one(void **state) {
        Harness *h = *state;
        sd_bus *anna = harness_connect(h, 0), *bert = harness_connect(h, 1);
        g_auto(StuckJob) stuck = {};
        store_many(anna, "a", 2000, 1000);
        store_many(bert, "b", 10, 1000);
        stuck_job_start(anna, &stuck);

        assert_as_fast(bert, "LicenseStore.GetLicense", "s", (const char *[]) { "a00777", "a99777" });
        assert_as_fast(bert, "LicenseStore.DeleteLicense", "s", (const char *[]) { "a00777", "a99777" });
        assert_as_fast(bert, "Job.Cancel", "", (const char *[]) { stuck.path, NO_JOB });
        stuck_job_drain(anna, &stuck);
}

static void test_next_holder_of_a_uid_finds_nothing(void **state) {
        Harness *h = *state;
        uid_t uid = add_user("lv-former", 0);
        sd_bus *former = harness_connect_uid(h, uid);
        store_simple(former, "secret");
        g_autofree char *job = call_string(former, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_hash_table_unref(assert_job_succeeds(former, job));
        harness_disconnect(h, former);

        delete_user("lv-former");
        assert_int_equal(add_user("lv-next", uid), uid);
        sd_bus *next = harness_connect_uid(h, uid);
        g_autofree char *list = list_as("lv-next");
        assert_null(strstr(list, "secret"));
        call_error(next, ROOT, "LicenseStore.GetLicense", "NS_E_DRM_LICENSE_UNAVAILABLE", NULL, "s", "secret");
        call_error(next, ROOT, "LicenseBackup.OpenBackup", "NS_E_DRM_BACKUP_CORRUPT", "There is no backup of yours*",
                "");
        call_error(next, ROOT, "LicenseRestore.RestoreLicenses", "NS_E_DRM_BACKUP_CORRUPT",
                "There is no backup of yours*", "u", 2);
        store_simple(next, "own");
        g_autofree char *again = list_as("lv-next");
        assert_non_null(strstr(again, "own"));

        /* Where the number is the former one's again, so is all that was theirs. */
        delete_user("lv-next");
        assert_int_equal(add_user("lv-former", uid), uid);
        sd_bus *back = harness_connect_uid(h, uid);
        g_hash_table_unref(assert_license(back, "secret", "the document of secret\n", 23));
        call_void(back, ROOT, "LicenseBackup.OpenBackup", "");
        delete_user("lv-former");
}

/*
 * One of those that a user has besides its own (subuid(5)). dbus-daemon turns them away itself: of who has no account,
 * it finds no groups.
 */
#define LENT_UID 100001

static void test_number_of_a_user_namespace_can_have_no_licenses(void **state) {
        Harness *h = *state;
        g_autofree char *bus_unit =
                run_good(ARGUMENTS("systemctl", "show", "--value", "--property", "Id", "dbus.service"));
        sd_bus *lent;

        if (!g_str_has_prefix(bus_unit, "dbus-broker"))
                skip();
        lent = harness_connect_uid(h, LENT_UID);
        store_license_error(lent, "AccessDenied", "*has no account here*", "x", 1, "a{sv}", 1, "LicenseId", "s", "id");
        call_error(lent, ROOT, "LicenseBackup.BackupLicenses", "AccessDenied", "*has no account here*", "u", 0);
        call_error(lent, ROOT, "Manager.Subscribe", "AccessDenied", "*has no account here*", "");

        /* Who has an account may have so large a number. */
        assert_int_equal(add_user("lv-large", LENT_UID), LENT_UID);
        store_simple(harness_connect_uid(h, LENT_UID), "own");
        delete_user("lv-large");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, system_setup_running, system_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_users_list_their_own_licenses),
                TEST(test_foreign_license_answers_as_a_missing_one),
                TEST(test_foreign_job_is_neither_seen_nor_heard),
                TEST(test_foreign_id_takes_as_long_as_a_missing_one),
                TEST(test_next_holder_of_a_uid_finds_nothing),
                TEST(test_number_of_a_user_namespace_can_have_no_licenses),
        };

        return cmocka_run_group_tests_name("users", tests, NULL, NULL);
}
