/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What licensevaultd --check tells of a configuration and a store. */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client.h"

static void test_check_says_what_it_finds(void **state) {
        Harness *h = *state;
        harness_start(h);
        store_many(harness_connect(h, 0), "a", 7, 10);
        harness_stop(h);
        harness_stop_bus(h);

        assert_int_equal(harness_run(h, ARGUMENTS("--check")), 0);
        g_autofree char *log = harness_log(h);
        assert_true(g_regex_match_simple("\\b7 licenses", log, 0, 0));

        harness_set(h, "Limits", "DocumentBytes", "many");
        assert_int_not_equal(harness_run(h, ARGUMENTS("--check")), 0);
        g_autofree char *bad = harness_log(h);
        assert_non_null(strstr(bad, "DocumentBytes"));
}

/* One that was lost must not look as healthy as one that has not been made yet. */
static void test_check_says_that_there_is_no_store(void **state) {
        Harness *h = *state;
        g_autofree char *folder = g_strdup_printf("%s/backups/1000", h->state);
        g_autofree char *backup = g_build_filename(folder, "licenses.tar", NULL);
        harness_stop_bus(h);

        assert_int_equal(harness_run(h, ARGUMENTS("--check")), 0);
        harness_expect_log(h, ": there is none yet.");
        g_autofree char *log = harness_log(h);
        assert_null(strstr(log, "lost"));

        assert_int_equal(g_mkdir_with_parents(folder, 0700), 0);
        write_file(backup, "x", 1);
        assert_int_equal(harness_run(h, ARGUMENTS("--check")), 7);
        harness_expect_log(h, ": there is none.\n");
        harness_expect_log(h, "/backups'. If the store was lost, see");
}

/* Who has removed the last license has lost none; but it is not said that all is there. */
static void test_check_of_an_empty_store_names_the_backups(void **state) {
        Harness *h = *state;
        harness_start(h);
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "one");
        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_hash_table_unref(assert_job_succeeds(bus, job));
        assert_int_equal(harness_run(h, ARGUMENTS("--check")), 0);
        g_autofree char *log = harness_log(h);
        assert_null(strstr(log, "There are backups"));

        call_void(bus, ROOT, "LicenseStore.DeleteLicense", "s", "one");
        assert_int_equal(harness_run(h, ARGUMENTS("--check")), 0);
        harness_expect_log(h, ": 0 licenses, no damage.\nThere are backups in '");
}

static void give(const char *folder, const char *name, uid_t uid) {
        g_autofree char *path = g_build_filename(folder, name, NULL);

        assert_int_equal(chown(path, uid, (gid_t)-1), 0);
}

static void test_check_by_root_sees_what_the_service_cannot_read(void **state) {
        static const char *const files[] = { ".", "backups", "lock", "licenses.db" };
        Harness *h = *state;
        g_autofree char *drop_ins = g_build_filename(h->configuration, "licensevaultd.conf.d", NULL);
        g_autofree char *drop_in = g_build_filename(drop_ins, "a.conf", NULL);
        harness_need_users(h, 2);
        harness_start(h);
        store_simple(harness_connect(h, 0), "one");
        harness_stop(h);
        for (unsigned i = 0; i < G_N_ELEMENTS(files); i++)
                give(h->state, files[i], h->users[1]);
        assert_int_equal(harness_run(h, ARGUMENTS("--check")), 0);

        for (unsigned i = 1; i < G_N_ELEMENTS(files); i++) {
                g_autofree char *told = g_strdup_printf("the service cannot read and write '%s': Permission denied.", files[i]);

                give(h->state, files[i], 0);
                assert_int_equal(harness_run(h, ARGUMENTS("--check")), 7);
                harness_expect_log(h, told);
                give(h->state, files[i], h->users[1]);
        }

        assert_int_equal(g_mkdir_with_parents(drop_ins, 0755), 0);
        write_file(drop_in, "", 0);
        assert_int_equal(chmod(drop_in, 0), 0);
        assert_int_equal(harness_run(h, ARGUMENTS("--check")), 7);
        harness_expect_log(h, ": 1 problem.");
}

static void test_check_works_beside_the_service(void **state) {
        Harness *h = *state;
        g_autofree char *wal = g_build_filename(h->state, "licenses.db-wal", NULL);
        struct stat st;
        harness_start(h);
        sd_bus *bus = harness_connect(h, 0);
        store_many(bus, "a", 7, 10);
        assert_int_equal(stat(wal, &st), 0);
        assert_true(st.st_size > 0);

        assert_int_equal(harness_run(h, ARGUMENTS("--check")), 0);
        harness_expect_log(h, " 7 licenses");
        store_many(bus, "b", 7, 10);
        assert_int_equal(harness_run(h, ARGUMENTS("--check")), 0);
        harness_expect_log(h, " 14 licenses");
}

static void test_check_tells_what_is_wrong_with_the_store(void **state) {
        Harness *h = *state;
        g_autofree char *path = g_build_filename(h->state, "licenses.db", NULL);
        g_autofree uint8_t *garbage = make_document(50000, 1);
        harness_stop_bus(h);

        write_file(path, garbage, 50000);
        assert_int_equal(harness_run(h, ARGUMENTS("--check")), 7);
        harness_expect_log(h, "(NS_E_DRM_DATASTORE_CORRUPT)");
        assert_file_equal(path, garbage, 50000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup_bus, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_check_says_what_it_finds),
                TEST(test_check_says_that_there_is_no_store),
                TEST(test_check_of_an_empty_store_names_the_backups),
                TEST(test_check_by_root_sees_what_the_service_cannot_read),
                TEST(test_check_works_beside_the_service),
                TEST(test_check_tells_what_is_wrong_with_the_store),
        };

        return cmocka_run_group_tests_name("check", tests, NULL, NULL);
}
