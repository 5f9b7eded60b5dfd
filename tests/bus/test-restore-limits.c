/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A backup that is more than fits is LimitsExceeded, which names the setting; nothing is restored then. */
#include <string.h>

#include "restores.h"

/* A daemon with an empty store and one limit, and a backup of 20 licenses of 1,000 bytes to restore. */
static sd_bus *limit(Harness *h, const char *key, const char *value) {
        sd_bus *bus = harness_connect(h, 0);

        store_many(bus, "a", 20, 1000);
        store_simple(bus, "revoked");
        call_void(bus, ROOT, "LicenseStore.RevokeLicense", "s", "revoked");
        save_backup(h, bus, "backup.tar");
        harness_set(h, "Limits", key, value);
        harness_new_machine(h);
        return bus;
}

/* Is refused and changes nothing, also not a tombstone; with the limit lifted, it works. */
static void assert_limited(Harness *h, sd_bus *bus, const char *key, const char *lifted, const char *counts) {
        g_autofree char *message = g_strdup_printf("*%s=*No license was changed.", key);
        g_autofree char *before = snapshot_licenses(bus);

        for (unsigned i = 0; i < 2; i++) {
                assert_restore_fails(h, bus, "backup.tar", "LimitsExceeded", message);
                assert_snapshot(bus, before);
        }
        harness_stop(h);
        harness_set(h, "Limits", key, lifted);
        harness_start(h);
        assert_restores(h, bus, "backup.tar", counts);
}

static void test_document_that_is_too_large_is_named(void **state) {
        Harness *h = *state;
        sd_bus *bus = limit(h, "DocumentBytes", "999");
        store_simple(bus, "revoked");

        assert_restore_fails(h, bus, "backup.tar", "LimitsExceeded", "*licenses/0000001-a00000.*DocumentBytes=*");
        g_autofree char *verify = start_verify(h, bus, "backup.tar");
        assert_job_fails(bus, verify, "LimitsExceeded", "*licenses/0000001-a00000.*DocumentBytes=*");
        assert_limited(h, bus, "DocumentBytes", "1000", "20 0 0 0 1");
}

static void test_licenses_of_a_user_are_limited(void **state) {
        Harness *h = *state;
        sd_bus *bus = limit(h, "LicensesPerUser", "21");
        store_simple(bus, "mine");
        store_simple(bus, "mine, too");

        assert_limited(h, bus, "LicensesPerUser", "22", "20 0 0 0 1");
        g_autofree char *snapshot = snapshot_licenses(bus);
        assert_non_null(strstr(snapshot, "mine, too"));
        /* What is here already is not more. */
        assert_restores(h, bus, "backup.tar", "0 20 0 0 1");
}

static void test_remembered_ids_of_a_user_are_limited(void **state) {
        Harness *h = *state;
        sd_bus *bus = limit(h, "RememberedPerUser", "20");

        assert_limited(h, bus, "RememberedPerUser", "21", "20 0 0 0 1");
        store_license_error(
                bus, "LimitsExceeded", "*RememberedPerUser*", "x", 1, "a{sv}", 1, "LicenseId", "s", "more");
}

static void test_bytes_of_a_user_are_limited(void **state) {
        Harness *h = *state;
        sd_bus *bus = limit(h, "BytesPerUser", "20000");
        store_simple(bus, "mine");

        assert_limited(h, bus, "BytesPerUser", "100000", "20 0 0 0 1");
}

static void test_full_disk_is_told_by_its_setting(void **state) {
        Harness *h = *state;
        sd_bus *bus = limit(h, "MinimumFreePercent", "100");

        assert_limited(h, bus, "MinimumFreePercent", "0", "20 0 0 0 1");
}

/* The size of the file is looked at: what one batch stages may go over. */
static void test_bytes_of_the_store_are_limited(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        store_many(bus, "a", 300, 50000);
        save_backup(h, bus, "backup.tar");
        harness_set(h, "Limits", "StoreBytes", "3000000");
        harness_new_machine(h);
        store_simple(bus, "mine");

        assert_limited(h, bus, "StoreBytes", "1000000000", "300 0 0 0 0");
}

/* Stores until the store is full. Returns how many there are. */
static unsigned fill_store(sd_bus *bus, size_t size) {
        g_autofree uint8_t *document = make_document(size, 3);

        for (unsigned i = 0;; i++) {
                g_autofree char *id = g_strdup_printf("license-%u", i);
                sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.StoreLicense"), *reply = NULL;
                sd_bus_error error = SD_BUS_ERROR_NULL;
                int r;

                assert_true(sd_bus_message_append_array(message, 'y', document, size) >= 0);
                assert_true(sd_bus_message_append(message, "a{sv}", 1, "LicenseId", "s", id) >= 0);
                r = sd_bus_call(bus, message, 0, &error, &reply);
                sd_bus_message_unref(message);
                sd_bus_message_unref(reply);
                if (r < 0) {
                        assert_sentence(error.message, "*StoreBytes=*");
                        sd_bus_error_free(&error);
                        return i;
                }
        }
}

/* What a store holds at most goes back: into an empty one of the same limits, and onto itself, as after a damage. */
static void test_full_store_can_be_restored(void **state) {
        static const size_t document_sizes[] = { 10, 1000, 30000 };
        Harness *h = *state;

        harness_set(h, "Limits", "StoreBytes", "600000");
        for (size_t i = 0; i < G_N_ELEMENTS(document_sizes); i++) {
                harness_new_machine(h);
                sd_bus *bus = harness_connect(h, 0);
                unsigned n = fill_store(bus, document_sizes[i]);
                g_autofree char *restored = g_strdup_printf("%u 0 0 0 0", n),
                                *unchanged = g_strdup_printf("0 %u 0 0 0", n);

                save_backup(h, bus, "full.tar");
                assert_restores(h, bus, "full.tar", unchanged);
                harness_new_machine(h);
                assert_restores(h, bus, "full.tar", restored);
        }
}

/* What is staged by one goes on the account of nobody else, and is off it once it has failed. */
static void test_failed_restore_leaves_all_room(void **state) {
        Harness *h = *state;
        sd_bus *bus = limit(h, "LicensesPerUser", "20");
        store_simple(bus, "mine");

        assert_restore_fails(h, bus, "backup.tar", "LimitsExceeded", "*LicensesPerUser=*");
        store_many(bus, "b", 19, 10);
        store_license_error(
                bus, "LimitsExceeded", "*LicensesPerUser*", "x", 1, "a{sv}", 1, "LicenseId", "s", "more");
        if (h->n_users > 1) {
                sd_bus *other = harness_connect(h, 1);
                g_autofree char *job = start_restore(h, other, "backup.tar", AGREE);
                assert_restored(other, job, "20 0 0 0 1", "");
        }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_document_that_is_too_large_is_named),
                TEST(test_licenses_of_a_user_are_limited),
                TEST(test_remembered_ids_of_a_user_are_limited),
                TEST(test_bytes_of_a_user_are_limited),
                TEST(test_full_disk_is_told_by_its_setting),
                TEST(test_bytes_of_the_store_are_limited),
                TEST(test_full_store_can_be_restored),
                TEST(test_failed_restore_leaves_all_room),
        };

        return cmocka_run_group_tests_name("restore-limits", tests, NULL, NULL);
}
