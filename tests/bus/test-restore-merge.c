/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The rules of a merge, as a client sees them: nothing that was spent or revoked comes back, everything else does. */
#include <string.h>

#include "restores.h"

#define OLD "2021-01-01T00:00:00Z"
#define NEW "2022-02-02T00:00:00Z"

static Harness *begin(void **state, sd_bus **ret_bus) {
        *ret_bus = harness_connect(*state, 0);
        return *state;
}

static void store_counted(sd_bus *bus, const char *id, uint64_t uses) {
        g_free(store_license(
                bus, "counted", 7, "a{sv}", 2, "LicenseId", "s", id, "Counters", "a{st}", 1, "play", uses));
}

static void revoke_license(sd_bus *bus, const char *id) {
        call_void(bus, ROOT, "LicenseStore.RevokeLicense", "s", id);
}

static void assert_revoked(sd_bus *bus, const char *id) {
        assert_no_license(bus, id);
        store_license_error(
                bus, "NS_E_DRM_LICENSE_CONTENT_REVOKED", NULL, "x", 1, "a{sv}", 1, "LicenseId", "s", id);
}

static void test_restore_does_not_refill_what_was_spent(void **state) {
        sd_bus *bus;
        Harness *h = begin(state, &bus);
        store_counted(bus, "ten", 10);
        save_backup(h, bus, "before.tar");
        assert_int_equal(consume(bus, "ten", "play", 9), 1);

        assert_restores(h, bus, "before.tar", "0 1 0 0 0");
        g_autoptr(GHashTable) properties = assert_license(bus, "ten", "counted", 7);
        assert_property(properties, "Counters/play", "1");
        assert_int_equal(consume(bus, "ten", "play", 1), 0);
        call_error(bus, ROOT, "LicenseStore.ConsumeRight", "NS_E_DRM_NO_RIGHTS", NULL, "sst", "ten", "play",
                UINT64_C(1));
}

static void test_empty_machine_gets_the_counters_of_the_backup(void **state) {
        sd_bus *bus;
        Harness *h = begin(state, &bus);
        store_counted(bus, "ten", 10);
        assert_int_equal(consume(bus, "ten", "play", 3), 7);
        save_backup(h, bus, "seven.tar");
        assert_int_equal(consume(bus, "ten", "play", 6), 1);
        harness_new_machine(h);

        assert_restores(h, bus, "seven.tar", "1 0 0 0 0");
        assert_int_equal(consume(bus, "ten", "play", 1), 6);
}

static void test_spent_deleted_and_restored_stays_spent(void **state) {
        sd_bus *bus;
        Harness *h = begin(state, &bus);
        store_counted(bus, "ten", 10);
        save_backup(h, bus, "before.tar");
        assert_int_equal(consume(bus, "ten", "play", 9), 1);
        delete_license(bus, "ten");

        assert_restores(h, bus, "before.tar", "1 0 0 0 0");
        assert_int_equal(consume(bus, "ten", "play", 1), 0);
}

static void test_deleted_and_stored_anew_stays_spent(void **state) {
        sd_bus *bus;
        Harness *h = begin(state, &bus);
        store_counted(bus, "ten", 10);
        save_backup(h, bus, "before.tar");
        assert_int_equal(consume(bus, "ten", "play", 9), 1);
        delete_license(bus, "ten");
        store_counted(bus, "ten", 10);

        assert_restores(h, bus, "before.tar", "0 1 0 0 0");
        assert_int_equal(consume(bus, "ten", "play", 1), 0);
}

/* What the backup says was spent on the other machine is spent here, too. */
static void test_lower_counter_of_the_backup_counts(void **state) {
        sd_bus *bus;
        Harness *h = begin(state, &bus);
        store_counted(bus, "ten", 10);
        store_counted(bus, "deleted there", 10);
        assert_int_equal(consume(bus, "ten", "play", 8), 2);
        assert_int_equal(consume(bus, "deleted there", "play", 8), 2);
        delete_license(bus, "deleted there");
        save_backup(h, bus, "two.tar");
        harness_new_machine(h);
        store_counted(bus, "ten", 10);
        store_counted(bus, "deleted there", 10);

        assert_restores(h, bus, "two.tar", "0 1 0 0 0");
        assert_int_equal(consume(bus, "ten", "play", 1), 1);
        /* The low mark of what has no document in the backup. */
        assert_int_equal(consume(bus, "deleted there", "play", 1), 1);
}

static void test_unlimited_stays_so_only_where_both_say_so(void **state) {
        sd_bus *bus;
        Harness *h = begin(state, &bus);
        g_free(store_license(bus, "counted", 7, "a{sv}", 1, "LicenseId", "s", "here"));
        store_counted(bus, "there", 5);
        g_free(store_license(bus, "counted", 7, "a{sv}", 1, "LicenseId", "s", "neither"));
        save_backup(h, bus, "backup.tar");
        harness_new_machine(h);
        store_counted(bus, "here", 5);
        g_free(store_license(bus, "counted", 7, "a{sv}", 1, "LicenseId", "s", "there"));
        g_free(store_license(bus, "counted", 7, "a{sv}", 1, "LicenseId", "s", "neither"));

        assert_restores(h, bus, "backup.tar", "0 3 0 0 0");
        assert_int_equal(consume(bus, "here", "play", 1), 4);
        assert_int_equal(consume(bus, "there", "play", 1), 4);
        assert_true(consume(bus, "neither", "play", 1) == UINT64_MAX);
}

static void test_revoked_stays_revoked(void **state) {
        sd_bus *bus;
        Harness *h = begin(state, &bus);
        store_simple(bus, "bad");
        store_simple(bus, "good");
        save_backup(h, bus, "before.tar");
        revoke_license(bus, "bad");

        assert_restores(h, bus, "before.tar", "0 1 0 0 1");
        assert_revoked(bus, "bad");
}

static void test_another_machine_learns_of_a_revocation(void **state) {
        sd_bus *bus;
        Harness *h = begin(state, &bus);
        store_simple(bus, "bad");
        store_simple(bus, "bad, too");
        store_simple(bus, "good");
        revoke_license(bus, "bad");
        revoke_license(bus, "bad, too");
        save_backup(h, bus, "after.tar");
        harness_new_machine(h);
        store_simple(bus, "bad");

        assert_restores(h, bus, "after.tar", "1 0 0 0 2");
        assert_revoked(bus, "bad");
        assert_revoked(bus, "bad, too");
        g_hash_table_unref(assert_license(bus, "good", "the document of good\n", 21));
}

static void test_deleted_license_comes_back(void **state) {
        sd_bus *bus;
        Harness *h = begin(state, &bus);
        store_many(bus, "a", 30, 500);
        save_backup(h, bus, "before.tar");
        g_autofree char *before = snapshot_licenses(bus);
        for (unsigned i = 0; i < 30; i += 3) {
                g_autofree char *id = g_strdup_printf("a%05u", i);
                delete_license(bus, id);
        }

        assert_restores(h, bus, "before.tar", "10 20 0 0 0");
        assert_snapshot(bus, before);
}

static void test_newer_document_wins_in_both_directions(void **state) {
        sd_bus *bus;
        Harness *h = begin(state, &bus);
        g_autofree char *a_old = make_lcp("a", OLD, NULL), *a_new = make_lcp("a", NEW, NULL);
        g_autofree char *b_old = make_lcp("b", OLD, NULL), *b_new = make_lcp("b", NEW, NULL);
        g_free(store_license(bus, a_new, strlen(a_new), "a{sv}", 0));
        g_free(store_license(bus, b_old, strlen(b_old), "a{sv}", 0));
        save_backup(h, bus, "there.tar");
        harness_new_machine(h);
        g_free(store_license(bus, a_old, strlen(a_old), "a{sv}", 0));
        g_free(store_license(bus, b_new, strlen(b_new), "a{sv}", 0));

        assert_restores(h, bus, "there.tar", "1 0 1 0 0");
        g_hash_table_unref(assert_license(bus, "a", a_new, strlen(a_new)));
        g_hash_table_unref(assert_license(bus, "b", b_new, strlen(b_new)));
}

/* A newer document with more rights is no way around the low marks either. */
static void test_newer_document_raises_no_counter(void **state) {
        sd_bus *bus;
        Harness *h = begin(state, &bus);
        g_autofree char *old = make_lcp("a", OLD, "{\"print\":10}"), *new = make_lcp("a", NEW, "{\"print\":50}");
        g_free(store_license(bus, new, strlen(new), "a{sv}", 0));
        save_backup(h, bus, "there.tar");
        harness_new_machine(h);
        g_free(store_license(bus, old, strlen(old), "a{sv}", 0));
        assert_int_equal(consume(bus, "a", "print", 4), 6);

        assert_restores(h, bus, "there.tar", "1 0 0 0 0");
        g_autoptr(GHashTable) properties = assert_license(bus, "a", new, strlen(new));
        assert_property(properties, "Counters/print", "6");
}

/* Reads ListRestricted: "id|key id|title" lines. */
static char *list_conflicts(sd_bus *bus, const char *job) {
        _cleanup_message_ sd_bus_message *page = call(bus, job, "Job.ListRestricted", "uu", 0, 0);
        GString *text = g_string_new(NULL);
        const char *id, *key_id, *title;

        assert_true(sd_bus_message_enter_container(page, 'a', "(sss)") >= 0);
        while (sd_bus_message_read(page, "(sss)", &id, &key_id, &title) > 0)
                g_string_append_printf(text, "%s|%s|%s\n", id, key_id, title);
        return g_string_free(text, false);
}

static void test_conflicts_leave_what_is_here_and_are_named(void **state) {
        sd_bus *bus;
        Harness *h = begin(state, &bus);
        g_autofree char *one = make_lcp("dated", OLD, NULL), *other = make_lcp("dated", OLD, "{\"print\":5}");
        g_free(store_license(bus, "there", 5, "a{sv}", 1, "LicenseId", "s", "undated"));
        g_free(store_license(bus, "same", 4, "a{sv}", 1, "LicenseId", "s", "same"));
        g_free(store_license(bus, one, strlen(one), "a{sv}", 0));
        save_backup(h, bus, "there.tar");
        harness_new_machine(h);
        g_free(store_license(
                bus, "here", 4, "a{sv}", 3, "LicenseId", "s", "undated", "KeyId", "s", "key", "Title", "s", "A Song"));
        g_free(store_license(bus, "same", 4, "a{sv}", 1, "LicenseId", "s", "same"));
        g_free(store_license(bus, other, strlen(other), "a{sv}", 0));
        g_autofree char *before = snapshot_licenses(bus);

        g_autofree char *job = start_restore(h, bus, "there.tar", own_flags());
        assert_restored(bus, job, "0 1 0 2 0", "");
        assert_snapshot(bus, before);
        g_autofree char *conflicts = list_conflicts(bus, job);
        assert_string_equal(conflicts, "undated|key|A Song\ndated||A Book\n");
        /* Another user's connection learns nothing of it. */
        if (h->n_users > 1)
                call_error(harness_connect(h, 1), job, "Job.ListRestricted", "UnknownObject", NULL, "uu", 0, 0);
}

static void test_restriction_stays(void **state) {
        sd_bus *bus;
        Harness *h = begin(state, &bus);
        store_simple(bus, "restricted here");
        g_free(store_license(
                bus, "x", 1, "a{sv}", 2, "LicenseId", "s", "restricted there", "AllowBackup", "b", 0));
        save_backup(h, bus, "there.tar");
        harness_new_machine(h);
        g_free(store_license(bus, "the document of restricted here\n", 32, "a{sv}", 2, "LicenseId", "s",
                "restricted here", "AllowBackup", "b", 0));
        g_free(store_license(bus, "x", 1, "a{sv}", 1, "LicenseId", "s", "restricted there"));

        assert_restores(h, bus, "there.tar", "0 1 0 0 0");
        g_autoptr(GHashTable) here = assert_license(bus, "restricted here", "the document of restricted here\n", 32);
        g_autoptr(GHashTable) there = assert_license(bus, "restricted there", "x", 1);
        assert_property(here, "AllowBackup", "false");
        assert_property(there, "AllowBackup", "false");
}

static void test_licenses_of_others_are_not_touched(void **state) {
        sd_bus *bus;
        Harness *h = begin(state, &bus);
        harness_need_users(h, 2);
        sd_bus *other = harness_connect(h, 1);
        store_counted(bus, "both", 10);
        store_simple(bus, "bad");
        revoke_license(bus, "bad");
        save_backup(h, bus, "before.tar");
        assert_int_equal(consume(bus, "both", "play", 9), 1);
        store_counted(other, "both", 10);
        store_simple(other, "bad");
        store_simple(other, "theirs");
        g_autofree char *theirs = snapshot_licenses(other);

        assert_restores(h, bus, "before.tar", "0 1 0 0 1");
        assert_snapshot(other, theirs);
        assert_no_license(bus, "theirs");
}

/* All kinds of licenses that there are, with all properties. */
static void store_all_kinds(sd_bus *bus) {
        static const char *const fixtures[] = {
                "keygen-license.lic", "lcp-2015-acquisition.lcpl", "lcp-2015-moby-dick.lcpl",
        };
        g_autofree char *lcp = make_lcp("urn:lcp", OLD,
                "{\"print\":10,\"copy\":2000,\"start\":\"2020-01-01T00:00:00Z\",\"end\":\"2090-01-01T00:00:00Z\"}");
        g_autofree uint8_t *large = make_document(300000, 1);
        g_autofree char *long_id = g_strnfill(1024, 'i'), *long_title = g_strnfill(1024, 't');

        g_free(store_license(bus, lcp, strlen(lcp), "a{sv}", 0));
        g_free(store_license(bus, large, 300000, "a{sv}", 2, "LicenseId", "s", long_id, "Title", "s", long_title));
        g_free(store_license(bus, "", 0, "a{sv}", 1, "LicenseId", "s", "empty"));
        g_free(store_license(bus, "\0\n\0", 3, "a{sv}", 9, "LicenseId", "s", "../\xc3\xa4/*", "KeyId", "s", "k=1",
                "Title", "s", "Two\nlines", "Issuer", "s", "\xe2\x82\xac", "MediaType", "s", "text/plain",
                "NotBefore", "t", UINT64_C(0), "NotAfter", "t", (uint64_t)INT64_MAX, "AllowBackup", "b", 1,
                "Counters", "a{st}", 2, "play", UINT64_C(0), "copy.all-2_x", (uint64_t)INT64_MAX));
        for (unsigned i = 0; i < G_N_ELEMENTS(fixtures); i++) {
                size_t size;
                g_autofree char *document = read_fixture(fixtures[i], &size);
                if (document && g_str_has_suffix(fixtures[i], ".lcpl"))
                        g_free(store_license(bus, document, size, "a{sv}", 0));
                else if (document)
                        g_free(store_license(bus, document, size, "a{sv}", 1, "LicenseId", "s", fixtures[i]));
        }
}

static void test_new_machine_gets_back_everything_as_it_was(void **state) {
        sd_bus *bus;
        Harness *h = begin(state, &bus);
        store_all_kinds(bus);
        store_all_kinds(bus); /* of a later generation */
        g_autofree char *before = snapshot_licenses(bus), *count = NULL;
        save_backup(h, bus, "backup.tar");
        harness_new_machine(h);

        g_autofree char *job = start_restore(h, bus, "backup.tar", own_flags());
        g_hash_table_unref(assert_job_succeeds(bus, job));
        assert_snapshot(bus, before);
        count = job_property(bus, job, "Completed");
        /* What it backs up now is the same, but for the time. */
        save_backup(h, bus, "again.tar");
        g_autofree char *unchanged = g_strdup_printf("0 %s 0 0 0", count);
        assert_restores(h, bus, "backup.tar", unchanged);
        assert_restores(h, bus, "again.tar", unchanged);
        assert_snapshot(bus, before);
}

static void test_same_store_gets_back_everything_as_it_was(void **state) {
        sd_bus *bus;
        Harness *h = begin(state, &bus);
        store_all_kinds(bus);
        g_autofree char *before = snapshot_licenses(bus);
        save_backup(h, bus, "backup.tar");
        delete_license(bus, "urn:lcp");
        delete_license(bus, "empty");
        delete_license(bus, "../\xc3\xa4/*");

        g_autofree char *job = start_restore(h, bus, "backup.tar", own_flags());
        g_autoptr(GHashTable) result = assert_job_succeeds(bus, job);
        assert_property(result, "restored", "3");
        assert_property(result, "skipped_users", "");
        assert_snapshot(bus, before);
}

static void test_second_restore_finds_all_unchanged(void **state) {
        sd_bus *bus;
        Harness *h = begin(state, &bus);
        store_many(bus, "a", 1500, 50);
        store_counted(bus, "ten", 10);
        store_simple(bus, "bad");
        revoke_license(bus, "bad");
        save_backup(h, bus, "backup.tar");
        harness_new_machine(h);

        assert_restores(h, bus, "backup.tar", "1501 0 0 0 1");
        assert_int_equal(consume(bus, "ten", "play", 4), 6);
        assert_restores(h, bus, "backup.tar", "0 1501 0 0 1");
        assert_int_equal(consume(bus, "ten", "play", 1), 5);
        /* All of it lives through a restart. */
        g_autofree char *before = snapshot_licenses(bus);
        harness_stop(h);
        harness_start(h);
        assert_snapshot(bus, before);
        assert_revoked(bus, "bad");
}

/* What the store knows is told by a backup of two machines' licenses together. */
static void test_two_machines_that_restore_each_other_end_the_same(void **state) {
        sd_bus *bus;
        Harness *h = begin(state, &bus);
        g_autofree char *a_old = make_lcp("doc", OLD, NULL), *a_new = make_lcp("doc", NEW, NULL);
        store_counted(bus, "spent", 10);
        store_simple(bus, "bad");
        store_simple(bus, "first");
        g_free(store_license(bus, a_new, strlen(a_new), "a{sv}", 0));
        assert_int_equal(consume(bus, "spent", "play", 4), 6);
        save_backup(h, bus, "first.tar");
        harness_new_machine(h);
        store_counted(bus, "spent", 10);
        store_simple(bus, "bad");
        store_simple(bus, "second");
        g_free(store_license(bus, a_old, strlen(a_old), "a{sv}", 0));
        assert_int_equal(consume(bus, "spent", "play", 7), 3);
        revoke_license(bus, "bad");
        save_backup(h, bus, "second.tar");

        assert_restores(h, bus, "first.tar", "2 1 0 0 1");
        g_autofree char *second = snapshot_licenses(bus);
        harness_new_machine(h);
        assert_restores(h, bus, "first.tar", "4 0 0 0 0");
        assert_restores(h, bus, "second.tar", "1 1 1 0 1");
        assert_snapshot(bus, second);
        assert_revoked(bus, "bad");
        assert_int_equal(consume(bus, "spent", "play", 1), 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_restore_does_not_refill_what_was_spent),
                TEST(test_empty_machine_gets_the_counters_of_the_backup),
                TEST(test_spent_deleted_and_restored_stays_spent),
                TEST(test_deleted_and_stored_anew_stays_spent),
                TEST(test_lower_counter_of_the_backup_counts),
                TEST(test_unlimited_stays_so_only_where_both_say_so),
                TEST(test_revoked_stays_revoked),
                TEST(test_another_machine_learns_of_a_revocation),
                TEST(test_deleted_license_comes_back),
                TEST(test_newer_document_wins_in_both_directions),
                TEST(test_newer_document_raises_no_counter),
                TEST(test_conflicts_leave_what_is_here_and_are_named),
                TEST(test_restriction_stays),
                TEST(test_licenses_of_others_are_not_touched),
                TEST(test_new_machine_gets_back_everything_as_it_was),
                TEST(test_same_store_gets_back_everything_as_it_was),
                TEST(test_second_restore_finds_all_unchanged),
                TEST(test_two_machines_that_restore_each_other_end_the_same),
        };

        return cmocka_run_group_tests_name("restore-merge", tests, NULL, NULL);
}
