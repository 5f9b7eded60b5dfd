/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common.h"
#include "config.h"

static int setup(void **state) {
        *state = temp_folder_new();
        return 0;
}

static int teardown(void **state) {
        temp_folder_remove(*state);
        return 0;
}

/* Writes a file of the configuration; name "" is the main one. */
static void write_config(const char *folder, const char *name, const char *text) {
        g_autofree char *drop_ins = g_build_filename(folder, "licensevaultd.conf.d", NULL);
        g_autofree char *path = name[0] ? g_build_filename(drop_ins, name, NULL) :
                                          g_build_filename(folder, "licensevaultd.conf", NULL);

        assert_int_equal(g_mkdir_with_parents(drop_ins, 0700), 0);
        write_path(path, text, strlen(text));
}

/* Loads a configuration that has so many problems. */
static Config load(const char *folder, unsigned expected) {
        Config config;
        unsigned problems = 77;

        config_load(folder, &config, &problems);
        assert_int_equal(problems, expected);
        return config;
}

/* All numbers, one after the other. */
static char *numbers(const Config *config) {
        const StoreLimits *limits = &config->limits;

        return g_strdup_printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %u; "
                               "%u %" PRIu64 " %u %u %u; %u %u %u %u %u",
                limits->document_bytes, limits->licenses_per_user, limits->remembered_per_user,
                limits->bytes_per_user, limits->store_bytes, limits->minimum_free_percent,
                config->queued_writes_per_user, config->queued_write_bytes_per_user,
                config->queued_reads_per_user, config->cached_callers, config->subscriptions_per_user,
                config->running_jobs, config->jobs_on_machine, config->result_seconds,
                config->results_per_user, config->stall_seconds);
}

static void assert_same_numbers(const Config *a, const Config *b) {
        g_autofree char *one = numbers(a), *other = numbers(b);

        assert_string_equal(one, other);
}

static void test_defaults_are_those_of_the_design(void **state) {
        Config config = load(NULL, 0);

        assert_int_equal(config.limits.document_bytes, 1024 * 1024);
        assert_int_equal(config.limits.licenses_per_user, 1000000);
        assert_int_equal(config.limits.bytes_per_user, 1024 * 1024 * 1024);
        assert_int_equal(config.limits.minimum_free_percent, 5);
        assert_int_equal(config.queued_writes_per_user, 64);
        assert_int_equal(config.queued_write_bytes_per_user, 16 * 1024 * 1024);
        assert_int_equal(config.cached_callers, 4096);
        assert_int_equal(config.subscriptions_per_user, 16);
        assert_int_equal(config.jobs_on_machine, 32);
        assert_int_equal(config.result_seconds, 60);
        assert_int_equal(config.results_per_user, 16);
        assert_int_equal(config.stall_seconds, 60);
        assert_non_null(config.roots);
        assert_null(config.roots[0]);
        config_clear(&config);
}

static void test_missing_files_are_no_problem(void **state) {
        Config defaults = load(NULL, 0), empty = load(*state, 0), nowhere = load("/nowhere", 0);

        assert_same_numbers(&empty, &defaults);
        assert_same_numbers(&nowhere, &defaults);
        config_clear(&defaults);
        config_clear(&empty);
        config_clear(&nowhere);
}

/* Every number that can be set, each to a value of its own. */
static void test_each_setting_sets_its_own_number(void **state) {
        g_autofree char *text = NULL;
        Config config;

        write_config(*state, "", "[Limits]\nDocumentBytes=101\nLicensesPerUser=102\nRememberedPerUser=103\n"
                                 "BytesPerUser=104\nStoreBytes=105\nMinimumFreePercent=6\n"
                                 "QueuedWritesPerUser=107\nQueuedWriteBytesPerUser=10800\n"
                                 "QueuedReadsPerUser=109\nCachedCallers=110\n"
                                 "SubscriptionsPerUser=111\n[Jobs]\nRunningJobs=12\nJobsOnMachine=113\n"
                                 "ResultSeconds=114\nResultsPerUser=115\nStallSeconds=116\n");
        config = load(*state, 0);
        text = numbers(&config);
        assert_string_equal(text, "101 102 103 104 105 6; 107 10800 109 110 111; 12 113 114 115 116");
        config_clear(&config);
}

static void test_later_drop_ins_hold_over_earlier_ones(void **state) {
        Config config;

        /* Made in another order than that of their names. */
        write_config(*state, "90-last.conf", "[Jobs]\nResultSeconds=90\n");
        write_config(*state, "10-first.conf", "[Jobs]\nResultSeconds=10\nStallSeconds=10\n");
        write_config(*state, "50-middle.conf", "[Jobs]\nResultSeconds=50\nStallSeconds=50\n");
        write_config(*state, "", "[Jobs]\nResultSeconds=1\nStallSeconds=1\nRunningJobs=1\n");
        write_config(*state, "99-other.txt", "[Jobs]\nResultSeconds=99\n");
        write_config(*state, "99-backup.conf~", "[Jobs]\nResultSeconds=99\n");

        config = load(*state, 0);
        assert_int_equal(config.result_seconds, 90);
        assert_int_equal(config.stall_seconds, 50);
        assert_int_equal(config.running_jobs, 1);
        config_clear(&config);
}

static void test_bad_values_are_ignored_and_counted(void **state) {
        static const char *const values[] = { "", "0", "-1", "+5", "5x", "5 5", "0x10", "five", "16777217",
                "1e3", "5.0", "99999999999999999999999999", "\\q", "\xff" };
        Config defaults = load(NULL, 0);

        for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
                g_autofree char *text = g_strdup_printf("[Limits]\nDocumentBytes=%s\n", values[i]);
                Config config;

                write_config(*state, "", text);
                config = load(*state, 1);
                assert_same_numbers(&config, &defaults);
                config_clear(&config);
        }
        config_clear(&defaults);
}

static void test_bounds_themselves_are_good(void **state) {
        Config config;

        write_config(*state, "", "[Limits]\nDocumentBytes=16777216\nMinimumFreePercent=0\n"
                                 "StoreBytes=9223372036854775807\nBytesPerUser= 1 \n");
        config = load(*state, 0);
        assert_int_equal(config.limits.document_bytes, 16777216);
        assert_int_equal(config.limits.minimum_free_percent, 0);
        assert_true(config.limits.store_bytes == INT64_MAX);
        assert_int_equal(config.limits.bytes_per_user, 1);
        config_clear(&config);
}

static void test_bad_value_leaves_the_one_from_before(void **state) {
        Config config;

        write_config(*state, "", "[Jobs]\nResultSeconds=7\n");
        write_config(*state, "a.conf", "[Jobs]\nResultSeconds=much\nStallSeconds=8\n");
        config = load(*state, 1);
        assert_int_equal(config.result_seconds, 7);
        assert_int_equal(config.stall_seconds, 8);
        config_clear(&config);
}

static void test_unknown_keys_are_counted_and_harm_nothing(void **state) {
        Config config;

        write_config(*state, "", "[Limits]\nDocumentBites=5\nDocumentBytes=6\ndocumentbytes=7\n"
                                 "[Jobs]\nDocumentBytes=8\n[Elsewhere]\nResultSeconds=9\n");
        config = load(*state, 4);
        assert_int_equal(config.limits.document_bytes, 6);
        assert_int_equal(config.result_seconds, 60);
        config_clear(&config);
}

static void test_file_that_is_no_key_file_is_ignored_alone(void **state) {
        Config config;

        write_config(*state, "a.conf", "These are my notes.\n[Jobs]\nResultSeconds=5\n");
        write_config(*state, "b.conf", "[Jobs]\nStallSeconds=6\n");
        config = load(*state, 1);
        assert_int_equal(config.result_seconds, 60);
        assert_int_equal(config.stall_seconds, 6);
        config_clear(&config);
}

static void test_folder_in_the_place_of_a_file_is_a_problem(void **state) {
        g_autofree char *path = g_build_filename(*state, "licensevaultd.conf", NULL);
        Config config;

        assert_int_equal(g_mkdir_with_parents(path, 0700), 0);
        config = load(*state, 1);
        assert_int_equal(config.result_seconds, 60);
        config_clear(&config);
}

static void test_file_in_the_place_of_the_drop_ins_is_a_problem(void **state) {
        g_autofree char *path = g_build_filename(*state, "licensevaultd.conf.d", NULL);
        Config config;

        write_path(path, "x", 1);
        config = load(*state, 1);
        assert_int_equal(config.result_seconds, 60);
        config_clear(&config);
}

static void test_link_to_nothing_is_a_problem(void **state) {
        static const char *const names[] = { "licensevaultd.conf", "licensevaultd.conf.d/a.conf", "licensevaultd.conf.d" };

        for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
                g_autofree char *path = g_build_filename(*state, names[i], NULL), *folder = g_path_get_dirname(path);
                Config config;

                assert_int_equal(g_mkdir_with_parents(folder, 0700), 0);
                if (i == 2)
                        assert_int_equal(rmdir(path), 0);
                assert_int_equal(symlink("/nowhere/at/all", path), 0);
                config = load(*state, 1);
                config_clear(&config);
                assert_int_equal(unlink(path), 0);
        }
}

static void assert_roots(const char *folder, unsigned problems, const char *expected) {
        Config config = load(folder, problems);
        g_autofree char *roots = g_strjoinv("|", config.roots);

        assert_string_equal(roots, expected);
        config_clear(&config);
}

static void test_roots_are_full_paths(void **state) {
        write_config(*state, "", "[Backup]\nRoots=/media;/srv/my backups;\n");
        assert_roots(*state, 0, "/media|/srv/my backups");
        write_config(*state, "", "[Backup]\nRoots=/media/;media;/a/../b;/good;/;/a//;\n");
        assert_roots(*state, 4, "/media|/good");
        write_config(*state, "", "[Backup]\nRoots=/media;\\q\n");
        assert_roots(*state, 1, "");
}

static void test_later_roots_replace_earlier_ones(void **state) {
        write_config(*state, "", "[Backup]\nRoots=/a;/b\n");
        write_config(*state, "a.conf", "[Backup]\nRoots=/c\n");
        assert_roots(*state, 0, "/c");
        write_config(*state, "b.conf", "[Jobs]\nStallSeconds=5\n");
        assert_roots(*state, 0, "/c");
        write_config(*state, "c.conf", "[Backup]\nRoots=\n");
        assert_roots(*state, 0, "");
}

int main(void) {
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_defaults_are_those_of_the_design),
                IN_FOLDER(test_missing_files_are_no_problem),
                IN_FOLDER(test_each_setting_sets_its_own_number),
                IN_FOLDER(test_later_drop_ins_hold_over_earlier_ones),
                IN_FOLDER(test_bad_values_are_ignored_and_counted),
                IN_FOLDER(test_bounds_themselves_are_good),
                IN_FOLDER(test_bad_value_leaves_the_one_from_before),
                IN_FOLDER(test_unknown_keys_are_counted_and_harm_nothing),
                IN_FOLDER(test_file_that_is_no_key_file_is_ignored_alone),
                IN_FOLDER(test_folder_in_the_place_of_a_file_is_a_problem),
                IN_FOLDER(test_file_in_the_place_of_the_drop_ins_is_a_problem),
                IN_FOLDER(test_link_to_nothing_is_a_problem),
                IN_FOLDER(test_roots_are_full_paths),
                IN_FOLDER(test_later_roots_replace_earlier_ones),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
