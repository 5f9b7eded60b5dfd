/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Root sees whose licenses there are, and gives away or removes those of accounts that are gone. */
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include <sqlite3.h>

#include "client.h"

#define LIST "Manager.ListOwners"
#define REASSIGN "Manager.ReassignLicenses"
#define PURGE "Manager.PurgeLicenses"

/* Behind the back of the service, which is started anew. Returns how many rows were changed. */
static int run_sql(Harness *h, const char *sql) {
        g_autofree char *path = g_build_filename(h->state, "licenses.db", NULL);
        sqlite3 *db = NULL;
        int changes;

        harness_stop(h);
        assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
        changes = sqlite3_changes(db);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
        harness_start(h);
        return changes;
}

/* The account of a user goes: its licenses are kept under a name that nobody has. */
static void make_gone(Harness *h, uid_t uid) {
        g_autofree char *sql = g_strdup_printf("UPDATE owners SET name = 'gone' WHERE uid = %u", (unsigned)uid);

        assert_int_equal(run_sql(h, sql), 1);
}

static char *name_of(uid_t uid) {
        const struct passwd *entry = getpwuid(uid);

        assert_non_null(entry);
        return g_strdup(entry->pw_name);
}

/* A line an owner: "name uid licenses account". */
static char *list_owners(sd_bus *root, uint32_t offset, uint32_t max) {
        _cleanup_message_ sd_bus_message *reply = call(root, ROOT, LIST, "uu", offset, max);
        GString *text = g_string_new(NULL);
        uint64_t licenses, bytes;
        const char *name, *account;
        uint32_t uid;

        assert_true(sd_bus_message_enter_container(reply, 'a', "(ustts)") > 0);
        while (sd_bus_message_read(reply, "(ustts)", &uid, &name, &licenses, &bytes, &account) > 0) {
                assert_true(bytes > 0);
                g_string_append_printf(text, "%s %u %" PRIu64 " %s\n", name, uid, licenses, account);
        }
        return g_string_free(text, FALSE);
}

static void test_root_lists_owners_and_sees_who_is_gone(void **state) {
        Harness *h = *state;
        harness_need_users(h, 3);
        sd_bus *root = harness_connect_uid(h, 0);
        store_simple(harness_connect(h, 0), "one");
        store_simple(harness_connect(h, 1), "one");
        store_simple(harness_connect(h, 1), "two");
        g_autofree char *first = name_of(h->users[0]), *second = name_of(h->users[1]);
        g_autofree char *first_line = g_strdup_printf("%s %u 1 here\n", first, (unsigned)h->users[0]),
                        *second_line = g_strdup_printf("%s %u 2 here\n", second, (unsigned)h->users[1]);
        const char *const lines[] = { first_line, second_line };
        bool in_order = strcmp(first, second) < 0;
        g_autofree char *expected = g_strconcat(lines[!in_order], lines[in_order], NULL);

        g_autofree char *all = list_owners(root, 0, 0), *page = list_owners(root, 1, 5), *none = list_owners(root, 2, 0);
        assert_string_equal(all, expected);
        assert_string_equal(page, lines[in_order]);
        assert_string_equal(none, "");

        make_gone(h, h->users[0]);
        root = harness_connect_uid(h, 0);
        g_autofree char *after = list_owners(root, 0, 0),
                        *line = g_strdup_printf("gone %u 1 replaced\n", (unsigned)h->users[0]);
        assert_non_null(strstr(after, line));
        assert_non_null(strstr(after, lines[1]));
}

#define N_LONG 300U

/* Names of 250 bytes fill an answer before the 500 owners of a page do. */
static void test_pages_of_long_names_leave_nobody_out(void **state) {
        Harness *h = *state;
        sd_bus *root;
        unsigned n = 0, n_pages = 0;

        run_sql(h, "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 299) "
                "INSERT INTO owners (uid, name, licenses, remembered, bytes) "
                "SELECT 700000 + i, printf('%0250d', i), 0, 1, 1 FROM n");
        root = harness_connect_uid(h, 0);
        for (;; n_pages++) {
                g_autofree char *page = list_owners(root, n, 0);
                g_auto(GStrv) lines = g_strsplit(page, "\n", 0);

                if (!*page)
                        break;
                for (char **line = lines; **line; line++) {
                        g_autofree char *expected = g_strdup_printf("%0250u %u 0 gone", n, 700000 + n);

                        assert_string_equal(*line, expected);
                        n++;
                }
        }
        assert_int_equal(n, N_LONG);
        assert_in_range(n_pages, 2, 10);
}

static void test_reassigned_licenses_are_the_new_owners(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        sd_bus *old = harness_connect(h, 0);
        g_free(store_license(old, "document", 8, "a{sv}", 2, "LicenseId", "s", "id", "Title", "s", "A Title"));
        store_simple(old, "another");
        make_gone(h, h->users[0]);
        sd_bus *root = harness_connect_uid(h, 0), *new = harness_connect(h, 1);
        call_error(new, ROOT, "LicenseStore.GetLicense", "NS_E_DRM_LICENSE_UNAVAILABLE", NULL, "s", "id");

        assert_int_equal(call_uint64(root, ROOT, REASSIGN, "usu", (uint32_t)h->users[0], "gone",
                                 (uint32_t)h->users[1]), 2);
        g_autoptr(GHashTable) properties = assert_license(new, "id", "document", 8);
        assert_property(properties, "Title", "A Title");
        call_error(root, ROOT, REASSIGN, "NS_E_DRM_LICENSE_UNAVAILABLE", "*'gone'*ListOwners*", "usu",
                (uint32_t)h->users[0], "gone", (uint32_t)h->users[1]);
}

static void test_purged_licenses_are_nobodys(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        store_many(harness_connect(h, 0), "id", 2500, 64);
        g_free(store_license(harness_connect(h, 1), "document", 8, "a{sv}", 1, "LicenseId", "s", "others"));
        make_gone(h, h->users[0]);
        sd_bus *root = harness_connect_uid(h, 0), *other = harness_connect(h, 1);

        assert_int_equal(call_uint64(root, ROOT, PURGE, "us", (uint32_t)h->users[0], "gone"), 2500);
        g_autofree char *owners = list_owners(root, 0, 0);
        assert_null(strstr(owners, "gone"));
        g_hash_table_unref(assert_license(other, "others", "document", 8));
}

static void test_users_who_are_here_keep_their_licenses(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        sd_bus *root = harness_connect_uid(h, 0), *owner = harness_connect(h, 0);
        uint32_t uid = h->users[0];
        g_autofree char *name = name_of(uid);
        g_free(store_license(owner, "document", 8, "a{sv}", 1, "LicenseId", "s", "id"));

        call_error(root, ROOT, PURGE, "InvalidArgs", "*has an account*Nothing was changed.", "us", uid, name);
        call_error(root, ROOT, REASSIGN, "InvalidArgs", "*has an account*", "usu", uid, name, (uint32_t)h->users[1]);
        g_hash_table_unref(assert_license(owner, "id", "document", 8));
}

static void test_licenses_go_to_users_who_are_here_alone(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        store_simple(harness_connect(h, 0), "id");
        make_gone(h, h->users[0]);
        sd_bus *root = harness_connect_uid(h, 0);
        g_autofree char *long_name = g_strnfill(1025, 'x');

        call_error(root, ROOT, REASSIGN, "InvalidArgs", "*no user 4242*", "usu", (uint32_t)h->users[0], "gone", 4242);
        call_error(root, ROOT, REASSIGN, "InvalidArgs", "*65534*", "usu", (uint32_t)h->users[0], "gone", 65534);
        call_error(root, ROOT, PURGE, "InvalidArgs", "*not the name*", "us", (uint32_t)h->users[0], long_name);
        g_autofree char *owners = list_owners(root, 0, 0);
        assert_non_null(strstr(owners, "gone"));
}

static void test_others_than_root_are_denied_and_learn_nothing(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        sd_bus *bus = harness_connect(h, 0);
        store_simple(harness_connect(h, 1), "id");

        call_error(bus, ROOT, LIST, "AccessDenied", "Only root may do this.", "uu", 0, 0);
        call_error(bus, ROOT, REASSIGN, "AccessDenied", "*Only root*", "usu", (uint32_t)h->users[1], "gone",
                (uint32_t)h->users[0]);
        call_error(bus, ROOT, PURGE, "AccessDenied", "*Only root*", "us", (uint32_t)h->users[1], "gone");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_root_lists_owners_and_sees_who_is_gone),
                TEST(test_pages_of_long_names_leave_nobody_out),
                TEST(test_reassigned_licenses_are_the_new_owners),
                TEST(test_purged_licenses_are_nobodys),
                TEST(test_users_who_are_here_keep_their_licenses),
                TEST(test_licenses_go_to_users_who_are_here_alone),
                TEST(test_others_than_root_are_denied_and_learn_nothing),
        };

        return cmocka_run_group_tests_name("owners", tests, NULL, NULL);
}
