/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is too much is LimitsExceeded, and the message names the setting; nothing is stored then. */
#include <string.h>
#include <unistd.h>

#include "client.h"

/* Of 1 MiB. */
#define DOCUMENTS_OPEN_MAX 64U
#define BACKUPS_OPEN_MAX 16U

static Harness *start_with(void **state, const char *key, const char *value) {
        Harness *h = *state;

        harness_set(h, "Limits", key, value);
        harness_start(h);
        return h;
}

static void test_document_of_a_mebibyte_and_one_byte_is_refused(void **state) {
        Harness *h = *state;
        g_autofree uint8_t *document = make_document((1 << 20) + 1, 1);
        harness_start(h);
        sd_bus *bus = harness_connect(h, 0);

        store_license_error(bus, "LimitsExceeded", "*DocumentBytes*", document, (1 << 20) + 1, "a{sv}", 1,
                "LicenseId", "s", "large");
        g_free(store_license(bus, document, 1 << 20, "a{sv}", 1, "LicenseId", "s", "large"));
        g_hash_table_unref(assert_license(bus, "large", document, 1 << 20));
}

static void test_document_limit_is_a_setting(void **state) {
        sd_bus *bus = harness_connect(start_with(state, "DocumentBytes", "100"), 0);
        g_autofree uint8_t *document = make_document(101, 1);

        g_free(store_license(bus, document, 100, "a{sv}", 1, "LicenseId", "s", "id"));
        store_license_error(
                bus, "LimitsExceeded", "*DocumentBytes*", document, 101, "a{sv}", 1, "LicenseId", "s", "id");
        g_hash_table_unref(assert_license(bus, "id", document, 100));
}

static void test_licenses_of_a_user_are_limited(void **state) {
        Harness *h = start_with(state, "LicensesPerUser", "3");
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "a");
        store_simple(bus, "b");

        call_error(bus, ROOT, "LicenseStore.StoreLicenses", "LimitsExceeded", "*LicensesPerUser*",
                "a(aya{sv})", 2, 1, 'x', 1, "LicenseId", "s", "c", 1, 'x', 1, "LicenseId", "s", "d");
        store_simple(bus, "c");
        store_license_error(
                bus, "LimitsExceeded", "*LicensesPerUser*", "x", 1, "a{sv}", 1, "LicenseId", "s", "d");
        store_simple(bus, "a"); /* is there already */
        call_void(bus, ROOT, "LicenseStore.DeleteLicense", "s", "b");
        store_simple(bus, "d");
        if (h->n_users > 1)
                store_simple(harness_connect(h, 1), "another user has room");
}

static void test_bytes_of_a_user_are_limited(void **state) {
        sd_bus *bus = harness_connect(start_with(state, "BytesPerUser", "100000"), 0);
        g_autofree uint8_t *document = make_document(60000, 1);

        g_free(store_license(bus, document, 60000, "a{sv}", 1, "LicenseId", "s", "a"));
        store_license_error(
                bus, "LimitsExceeded", "*BytesPerUser*", document, 60000, "a{sv}", 1, "LicenseId", "s", "b");
        g_free(store_license(bus, document, 60000, "a{sv}", 1, "LicenseId", "s", "a"));
        call_void(bus, ROOT, "LicenseStore.DeleteLicense", "s", "a");
        g_free(store_license(bus, document, 60000, "a{sv}", 1, "LicenseId", "s", "b"));
}

/* The size of the file is looked at before each commit: what is stored at once may go over by that much. */
static void test_bytes_of_the_store_are_limited(void **state) {
        sd_bus *bus = harness_connect(start_with(state, "StoreBytes", "1000000"), 0);
        g_autofree uint8_t *document = make_document(600000, 1);

        g_free(store_license(bus, document, 600000, "a{sv}", 1, "LicenseId", "s", "a"));
        g_free(store_license(bus, document, 600000, "a{sv}", 1, "LicenseId", "s", "b"));
        store_license_error(
                bus, "LimitsExceeded", "*StoreBytes*", document, 600000, "a{sv}", 1, "LicenseId", "s", "c");
        call_error(bus, ROOT, "LicenseStore.GetLicense", "NS_E_DRM_LICENSE_UNAVAILABLE", NULL, "s", "c");
        g_hash_table_unref(assert_license(bus, "a", document, 600000));
        call_void(bus, ROOT, "LicenseStore.DeleteLicense", "s", "a");
}

static void test_remembered_ids_are_limited(void **state) {
        sd_bus *bus = harness_connect(start_with(state, "RememberedPerUser", "3"), 0);
        for (unsigned i = 0; i < 3; i++) {
                g_autofree char *id = g_strdup_printf("id%u", i);
                store_simple(bus, id);
                call_void(bus, ROOT, "LicenseStore.DeleteLicense", "s", id);
        }

        store_license_error(
                bus, "LimitsExceeded", "*RememberedPerUser*", "x", 1, "a{sv}", 1, "LicenseId", "s", "more");
        store_simple(bus, "id0");
}

static void test_full_disk_is_told_by_its_setting(void **state) {
        Harness *h = start_with(state, "MinimumFreePercent", "100");
        sd_bus *bus = harness_connect(h, 0);

        store_license_error(
                bus, "LimitsExceeded", "*MinimumFreePercent*", "x", 1, "a{sv}", 1, "LicenseId", "s", "id");
        call_error(bus, ROOT, "LicenseStore.GetLicense", "NS_E_DRM_LICENSE_UNAVAILABLE", NULL, "s", "id");
        harness_stop(h);
        harness_set(h, "Limits", "MinimumFreePercent", "0");
        harness_start(h);
        store_simple(bus, "id");
}

static sd_bus_message *new_store_many(sd_bus *bus, unsigned count, size_t size) {
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.StoreLicenses");
        g_autofree uint8_t *document = make_document(size, 1);

        assert_true(sd_bus_message_open_container(message, 'a', "(aya{sv})") >= 0);
        for (unsigned i = 0; i < count; i++) {
                g_autofree char *id = g_strdup_printf("m%05u", i);
                assert_true(sd_bus_message_open_container(message, 'r', "aya{sv}") >= 0);
                assert_true(sd_bus_message_append_array(message, 'y', document, size) >= 0);
                assert_true(sd_bus_message_append(message, "a{sv}", 1, "LicenseId", "s", id) >= 0);
                assert_true(sd_bus_message_close_container(message) >= 0);
        }
        assert_true(sd_bus_message_close_container(message) >= 0);
        return message;
}

static void test_store_licenses_takes_a_thousand_and_16_mib(void **state) {
        Harness *h = *state;
        harness_start(h);
        sd_bus *bus = harness_connect(h, 0);

        send_call_error(bus, new_store_many(bus, 1001, 1), "LimitsExceeded", "*1000 documents*");
        call_error(
                bus, ROOT, "LicenseStore.GetLicense", "NS_E_DRM_LICENSE_UNAVAILABLE", NULL, "s", "m00000");
        sd_bus_message_unref(send_call(bus, new_store_many(bus, 1000, 1)));
        send_call_error(bus, new_store_many(bus, 17, 1 << 20), "LimitsExceeded", "*16777216 bytes*");
        g_autofree char *small = (char *)make_document(1, 1);
        g_hash_table_unref(assert_license(bus, "m00000", small, 1));
        sd_bus_message_unref(send_call(bus, new_store_many(bus, 15, 1 << 20)));
}

static void test_get_license_points_to_open_license_for_large_ones(void **state) {
        Harness *h = *state;
        g_autofree uint8_t *document = make_document(65537, 1);
        harness_start(h);
        sd_bus *bus = harness_connect(h, 0);
        g_free(store_license(bus, document, 65537, "a{sv}", 1, "LicenseId", "s", "large"));

        call_error(bus, ROOT, "LicenseStore.GetLicense", "LimitsExceeded", "*OpenLicense*", "s", "large");
        g_hash_table_unref(assert_license(bus, "large", document, 65537));
}

/* Answers of a number of calls sent at once: how many succeeded, how many were refused. */
static void send_at_once(sd_bus *bus, unsigned count, size_t size, const char *limit, unsigned *ret_good,
        unsigned *ret_refused) {
        g_autofree uint8_t *document = make_document(size, 1);
        g_autofree char *pattern = g_strdup_printf("*%s*", limit);

        *ret_good = *ret_refused = 0;
        for (unsigned i = 0; i < count; i++) {
                sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.StoreLicense");
                g_autofree char *id = g_strdup_printf("q%u", i);
                assert_true(sd_bus_message_append_array(message, 'y', document, size) >= 0);
                assert_true(sd_bus_message_append(message, "a{sv}", 1, "LicenseId", "s", id) >= 0);
                send_only(bus, message);
        }
        while (*ret_good + *ret_refused < count) {
                _cleanup_message_ sd_bus_message *reply = receive_reply(bus, PATIENCE_SEC * 1000);

                assert_non_null(reply);
                if (sd_bus_message_is_method_error(reply, NULL) <= 0) {
                        ++*ret_good;
                        continue;
                }
                assert_true(sd_bus_message_is_method_error(reply, SD_BUS_ERROR_LIMITS_EXCEEDED) > 0);
                assert_sentence(sd_bus_message_get_error(reply)->message, pattern);
                ++*ret_refused;
        }
}

static void test_queued_writes_are_limited(void **state) {
        sd_bus *bus = harness_connect(start_with(state, "QueuedWritesPerUser", "2"), 0);
        unsigned good, refused;

        send_at_once(bus, 100, 1, "QueuedWritesPerUser", &good, &refused);
        assert_true(good >= 2);
        assert_true(refused > 0);
        /* Not for long. */
        send_at_once(bus, 1, 1, "QueuedWritesPerUser", &good, &refused);
        assert_int_equal(good, 1);
}

static void test_queued_bytes_are_limited(void **state) {
        sd_bus *bus = harness_connect(start_with(state, "QueuedWriteBytesPerUser", "4096"), 0);
        unsigned good, refused;

        send_at_once(bus, 100, 3000, "QueuedWriteBytesPerUser", &good, &refused);
        assert_true(good >= 1);
        assert_true(refused > 0);
        send_at_once(bus, 1, 3000, "QueuedWriteBytesPerUser", &good, &refused);
        assert_int_equal(good, 1);
        send_at_once(bus, 1, 5000, "QueuedWriteBytesPerUser", &good, &refused);
        assert_int_equal(refused, 1);
}

static void test_subscriptions_are_limited(void **state) {
        Harness *h = start_with(state, "SubscriptionsPerUser", "3");
        sd_bus *buses[3], *more;
        for (unsigned i = 0; i < 3; i++) {
                buses[i] = harness_connect(h, 0);
                call_void(buses[i], ROOT, "Manager.Subscribe", "");
        }
        more = harness_connect(h, 0);

        call_error(more, ROOT, "Manager.Subscribe", "LimitsExceeded", "*SubscriptionsPerUser*", "");
        call_void(buses[0], ROOT, "Manager.Subscribe", "");
        call_void(buses[0], ROOT, "Manager.Unsubscribe", "");
        call_void(more, ROOT, "Manager.Subscribe", "");
        call_error(buses[0], ROOT, "Manager.Subscribe", "LimitsExceeded", NULL, "");
        harness_disconnect(h, buses[1]);
        call_void(buses[0], ROOT, "Manager.Subscribe", "");
        if (h->n_users > 1)
                call_void(harness_connect(h, 1), ROOT, "Manager.Subscribe", "");
}

/* Some time passes between a close and that it is known. */
static void call_until_allowed(sd_bus *bus, const char *member, const char *argument) {
        for (unsigned i = 0; i < PATIENCE_SEC * 100; i++) {
                _cleanup_message_ sd_bus_message *message = new_call(bus, ROOT, member);
                _cleanup_message_ sd_bus_message *reply = NULL;

                if (argument)
                        assert_true(sd_bus_message_append(message, "s", argument) >= 0);
                if (sd_bus_call(bus, message, 0, NULL, &reply) >= 0)
                        return;
                sleep_msec(10);
        }
        fail_msg("%s is still refused", member);
}

static void test_documents_that_a_user_keeps_open_are_limited(void **state) {
        Harness *h = *state;
        g_autofree uint8_t *document = make_document(1 << 20, 1);
        sd_bus_message *kept[DOCUMENTS_OPEN_MAX];
        harness_start(h);
        sd_bus *bus = harness_connect(h, 0);
        g_free(store_license(bus, document, 1 << 20, "a{sv}", 1, "LicenseId", "s", "large"));

        for (unsigned i = 0; i < DOCUMENTS_OPEN_MAX; i++)
                kept[i] = call(bus, ROOT, "LicenseStore.OpenLicense", "s", "large");
        call_error(bus, ROOT, "LicenseStore.OpenLicense", "LimitsExceeded", "*Close some*", "s", "large");
        /* Also over another connection, and another user not. */
        call_error(harness_connect(h, 0), ROOT, "LicenseStore.OpenLicense", "LimitsExceeded", NULL, "s", "large");
        if (h->n_users > 1) {
                sd_bus *other = harness_connect(h, 1);

                store_simple(other, "theirs");
                call_void(other, ROOT, "LicenseStore.OpenLicense", "s", "theirs");
        }
        sd_bus_message_unref(kept[0]);
        call_until_allowed(bus, "LicenseStore.OpenLicense", "large");
        for (unsigned i = 1; i < DOCUMENTS_OPEN_MAX; i++)
                sd_bus_message_unref(kept[i]);
}

static void replace_backup(sd_bus *bus) {
        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 1);

        g_hash_table_unref(assert_job_succeeds(bus, job));
}

static void test_backups_that_a_user_keeps_open_are_limited(void **state) {
        Harness *h = *state;
        sd_bus_message *kept[BACKUPS_OPEN_MAX];
        harness_start(h);
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "one");

        for (unsigned i = 0; i < BACKUPS_OPEN_MAX; i++) {
                replace_backup(bus);
                kept[i] = call(bus, ROOT, "LicenseBackup.OpenBackup", "");
                /* The same one again is no other. */
                call_void(bus, ROOT, "LicenseBackup.OpenBackup", "");
        }
        replace_backup(bus);
        call_error(bus, ROOT, "LicenseBackup.OpenBackup", "LimitsExceeded", "*Close some*", "");
        sd_bus_message_unref(kept[0]);
        call_until_allowed(bus, "LicenseBackup.OpenBackup", NULL);
        for (unsigned i = 1; i < BACKUPS_OPEN_MAX; i++)
                sd_bus_message_unref(kept[i]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup_bus, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_document_of_a_mebibyte_and_one_byte_is_refused),
                TEST(test_document_limit_is_a_setting),
                TEST(test_licenses_of_a_user_are_limited),
                TEST(test_bytes_of_a_user_are_limited),
                TEST(test_bytes_of_the_store_are_limited),
                TEST(test_remembered_ids_are_limited),
                TEST(test_full_disk_is_told_by_its_setting),
                TEST(test_store_licenses_takes_a_thousand_and_16_mib),
                TEST(test_get_license_points_to_open_license_for_large_ones),
                TEST(test_queued_writes_are_limited),
                TEST(test_queued_bytes_are_limited),
                TEST(test_subscriptions_are_limited),
                TEST(test_documents_that_a_user_keeps_open_are_limited),
                TEST(test_backups_that_a_user_keeps_open_are_limited),
        };

        return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
