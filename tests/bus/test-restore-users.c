/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Backups of all users, and restores of one user's licenses by root. */
#include <fcntl.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "monitor.h"
#include "restores.h"

static int setup(void **state) {
        harness_setup(state);
        monitor_new(*state);
        return 0;
}

static sd_bus *become_root(Harness *h) {
        harness_need_users(h, 3); /* so we are root */
        return harness_connect_uid(h, 0);
}

static void save_all(Harness *h, sd_bus *root, const char *name) {
        int fd = open_in(h, name, O_RDWR | O_CREAT | O_TRUNC);
        g_autofree char *job = call_string(
                root, ROOT, "LicenseBackup.BackupLicensesToFile", "hua{sv}", fd, 0, 1, "AllUsers", "b", 1);

        g_hash_table_unref(assert_job_succeeds(root, job));
        close(fd);
}

/* A restore by root with one option. */
static char *start_for(Harness *h, sd_bus *root, const char *name, uint32_t flags, const char *option,
                const char *type, uint32_t value) {
        int fd = open_in(h, name, O_RDONLY);
        char *job = call_string(root, ROOT, RESTORE_FILE, "hua{sv}", fd, flags, 1, option, type, value);

        close(fd);
        return job;
}

static char *start_all(Harness *h, sd_bus *root, const char *name, uint32_t flags) {
        return start_for(h, root, name, flags, "AllUsers", "b", 1);
}

static char *user_name(Harness *h, unsigned user) {
        const struct passwd *entry = getpwuid(h->users[user]);

        assert_non_null(entry);
        return g_strdup(entry->pw_name);
}

/* Each user has licenses of its own, and one by an id that all have. */
static void store_for_all(Harness *h, sd_bus *users[TEST_USERS]) {
        for (unsigned i = 0; i < TEST_USERS; i++) {
                g_autofree char *id = g_strdup_printf("of user %u", i), *document = g_strdup_printf("common %u", i);
                users[i] = harness_connect(h, i);
                store_simple(users[i], id);
                g_free(store_license(users[i], document, strlen(document), "a{sv}", 1, "LicenseId", "s", "common"));
        }
        store_simple(users[1], "revoked");
        call_void(users[1], ROOT, "LicenseStore.RevokeLicense", "s", "revoked");
}

static void test_all_users_get_back_what_is_theirs(void **state) {
        Harness *h = *state;
        sd_bus *root = become_root(h), *users[TEST_USERS];
        char *before[TEST_USERS];
        store_for_all(h, users);
        for (unsigned i = 0; i < TEST_USERS; i++)
                before[i] = snapshot_licenses(users[i]);
        save_all(h, root, "all.tar");
        harness_new_machine(h);
        store_simple(users[2], "revoked"); /* is revoked for another */

        g_autofree char *job = start_all(h, root, "all.tar", own_flags());
        assert_restored(root, job, "6 0 0 0 1", "");
        assert_trace(h, job, root, "return 21 28 29( 16)? 27");
        assert_true(g_str_has_prefix(monitor_find_text(h, job, 28), "all users"));
        g_hash_table_unref(assert_license(users[2], "revoked", "the document of revoked\n", 24));
        delete_license(users[2], "revoked");
        for (unsigned i = 0; i < TEST_USERS; i++) {
                assert_snapshot(users[i], before[i]);
                g_free(before[i]);
        }
        store_license_error(
                users[1], "NS_E_DRM_LICENSE_CONTENT_REVOKED", NULL, "x", 1, "a{sv}", 1, "LicenseId", "s", "revoked");
        g_autofree char *again = start_all(h, root, "all.tar", own_flags());
        assert_restored(root, again, "0 6 0 0 1", "");
}

/* Users are found by name, never by number; one who is not here is skipped, and named. */
static void test_users_are_found_by_name(void **state) {
        Harness *h = *state;
        sd_bus *root = become_root(h), *users[TEST_USERS];
        g_autofree char *first = user_name(h, 0);
        store_for_all(h, users);
        save_all(h, root, "all.tar");

        /* The first user has no account here, and the licenses that were the second one's are the first one's. */
        g_autofree char *second = user_name(h, 1);
        rewrite(h, "all.tar", "some.tar", "rename-user", first, "no such user", "rename-user", second, first);
        harness_new_machine(h);
        g_autofree char *job = start_all(h, root, "some.tar", own_flags());
        assert_restored(root, job, "4 0 0 0 1, skipped 2", "no such user");
        assert_no_license(users[0], "of user 0");
        assert_no_license(root, "of user 0");
        g_hash_table_unref(assert_license(users[0], "of user 1", "the document of of user 1\n", 26));
        g_hash_table_unref(assert_license(users[0], "common", "common 1", 8));
        assert_no_license(users[1], "common");
        assert_trace(h, job, root, "return 21 28 29( 16)? 27");
}

/* Several are restored: it is told whose licenses are too many, and nobody's are changed. */
static void test_limit_of_one_of_all_users_is_named(void **state) {
        Harness *h = *state;
        sd_bus *root = become_root(h), *users[TEST_USERS];
        g_autofree char *name = user_name(h, 1), *before = NULL, *message = NULL;
        store_for_all(h, users);
        save_all(h, root, "all.tar");
        harness_set(h, "Limits", "LicensesPerUser", "2");
        harness_new_machine(h);
        store_simple(users[1], "one more");
        before = snapshot_licenses(users[1]);

        g_autofree char *job = start_all(h, root, "all.tar", own_flags());
        message = g_strdup_printf("User %s (%u): *LicensesPerUser=*No license was changed.", name, h->users[1]);
        assert_job_fails(root, job, "LimitsExceeded", message);
        assert_snapshot(users[1], before);
        assert_no_license(users[0], "common");
}

static void test_conflicts_of_all_users_are_named(void **state) {
        Harness *h = *state;
        sd_bus *root = become_root(h), *users[TEST_USERS];
        store_for_all(h, users);
        save_all(h, root, "all.tar");
        harness_new_machine(h);
        g_free(store_license(users[0], "other", 5, "a{sv}", 1, "LicenseId", "s", "common"));
        g_free(store_license(users[2], "other", 5, "a{sv}", 1, "LicenseId", "s", "common"));

        g_autofree char *job = start_all(h, root, "all.tar", own_flags());
        assert_restored(root, job, "4 0 0 2 1", "");
        _cleanup_message_ sd_bus_message *page = call(root, job, "Job.ListRestricted", "uu", 0, 0);
        const char *id;
        unsigned n = 0;
        assert_true(sd_bus_message_enter_container(page, 'a', "(sss)") > 0);
        for (; sd_bus_message_read(page, "(sss)", &id, NULL, NULL) > 0; n++)
                assert_string_equal(id, "common");
        assert_int_equal(n, 2);
        call_error(users[0], job, "Job.ListRestricted", "UnknownObject", NULL, "uu", 0, 0);
}

static void test_backup_of_all_users_and_of_one_are_not_mixed_up(void **state) {
        Harness *h = *state;
        sd_bus *root = become_root(h), *users[TEST_USERS];
        store_for_all(h, users);
        save_all(h, root, "all.tar");
        save_backup(h, users[0], "one.tar");
        harness_new_machine(h);

        g_autofree char *of_user = start_restore(h, users[0], "all.tar", AGREE);
        assert_job_fails(users[0], of_user, "AccessDenied", "*all users*No license was changed.");
        g_autofree char *of_root = start_restore(h, root, "all.tar", AGREE);
        assert_job_fails(root, of_root, "AccessDenied",
                "*one of them (From, --from NAME)*all of them (AllUsers, --all-users)*");
        g_autofree char *one = start_all(h, root, "one.tar", AGREE);
        assert_job_fails(root, one, "InvalidArgs", "*backup of one user*Owner, --owner*");
        assert_trace(h, of_user, users[0], "return 21 28 27:AccessDenied");
        assert_trace(h, one, root, "return 21 28 27:InvalidArgs");
        for (unsigned i = 0; i < TEST_USERS; i++) {
                g_autofree char *licenses = snapshot_licenses(users[i]);
                assert_string_equal(licenses, "");
        }
}

static void test_backup_of_all_users_of_another_machine_needs_consent(void **state) {
        Harness *h = *state;
        sd_bus *root = become_root(h), *users[TEST_USERS];
        store_for_all(h, users);
        save_all(h, root, "all.tar");
        rewrite(h, "all.tar", "other.tar", "json", "manifest.json", "machine", "\"\"");
        harness_new_machine(h);

        g_autofree char *refused = start_all(h, root, "other.tar", 0);
        assert_job_fails(root, refused, "NS_E_DRM_NEEDS_INDIVIDUALIZATION", NULL);
        assert_trace(h, refused, root, "return 21 28 25 27:NS_E_DRM_NEEDS_INDIVIDUALIZATION");
        assert_no_license(users[0], "common");
        g_autofree char *job = start_all(h, root, "other.tar", AGREE);
        assert_restored(root, job, "6 0 0 0 1", "");
}

static void test_root_restores_for_one_user(void **state) {
        Harness *h = *state;
        sd_bus *root = become_root(h), *users[TEST_USERS];
        store_for_all(h, users);
        save_backup(h, users[0], "one.tar");
        g_autofree char *before = snapshot_licenses(users[0]);
        harness_new_machine(h);

        g_autofree char *job = start_for(h, root, "one.tar", own_flags(), "Owner", "u", h->users[0]);
        assert_restored(root, job, "2 0 0 0 0", "");
        assert_snapshot(users[0], before);
        assert_no_license(root, "common");
        /* To another than who made it only with consent. */
        g_autofree char *refused = start_for(h, root, "one.tar", 0, "Owner", "u", h->users[1]);
        assert_job_fails(root, refused, "NS_E_DRM_NEEDS_INDIVIDUALIZATION", NULL);
        assert_no_license(users[1], "common");
        g_autofree char *agreed = start_for(h, root, "one.tar", AGREE, "Owner", "u", h->users[1]);
        assert_restored(root, agreed, "2 0 0 0 0", "");
        g_hash_table_unref(assert_license(users[1], "common", "common 0", 8));
        /* The job is root's: the user who gets the licenses does not see it. */
        call_error(users[1], agreed, "Job.Wait", "UnknownObject", NULL, "");
}

/* One of a backup of all users, by its name there; to the uid, or with -1 to who asks. */
static char *start_from(Harness *h, sd_bus *bus, const char *name, uint32_t flags, const char *from, uid_t owner) {
        int fd = open_in(h, name, O_RDONLY);
        char *job;

        if (owner == (uid_t)-1)
                job = call_string(bus, ROOT, RESTORE_FILE, "hua{sv}", fd, flags, 1, "From", "s", from);
        else
                job = call_string(
                        bus, ROOT, RESTORE_FILE, "hua{sv}", fd, flags, 2, "From", "s", from, "Owner", "u", owner);
        close(fd);
        return job;
}

/* All of the backup is read, and of it comes what one user had. */
static void assert_counts(sd_bus *bus, const char *job, const char *licenses) {
        g_autofree char *completed = job_property(bus, job, "Completed"), *total = job_property(bus, job, "Total");

        assert_string_equal(completed, licenses);
        assert_string_equal(total, licenses);
}

static void test_one_of_all_users_comes_back_alone(void **state) {
        Harness *h = *state;
        sd_bus *root = become_root(h), *users[TEST_USERS];
        g_autofree char *name = user_name(h, 1), *before = NULL, *others = NULL, *told = g_strdup_printf("%s*", name);
        store_for_all(h, users);
        save_all(h, root, "all.tar");
        before = snapshot_licenses(users[1]);
        for (unsigned i = 0; i < TEST_USERS; i++)
                delete_license(users[i], "common");
        others = snapshot_licenses(users[0]);

        /* The user has the file: that is all it takes. */
        g_autofree char *job = start_from(h, users[1], "all.tar", own_flags(), name, (uid_t)-1);
        assert_restored(users[1], job, "1 1 0 0 1", "");
        assert_counts(users[1], job, "6");
        assert_trace(h, job, users[1], "return 21 28 29( 16)? 27");
        assert_true(g_pattern_match_simple(told, monitor_find_text(h, job, 28)));
        assert_snapshot(users[1], before);
        /* What the others have removed since stays so. */
        assert_snapshot(users[0], others);
        assert_no_license(users[2], "common");
}

/* As a name that another number has now is called in a backup: no account can be called so. */
static void test_user_of_another_name_in_a_backup_comes_back_with_consent(void **state) {
        Harness *h = *state;
        sd_bus *root = become_root(h), *users[TEST_USERS];
        g_autofree char *name = user_name(h, 0), *former = g_strdup_printf("%s (7001)", name),
                        *told = g_strdup_printf("%s*", former);
        store_for_all(h, users);
        g_free(store_license(users[0], "counted", 7, "a{sv}", 2, "LicenseId", "s", "counted", "Counters", "a{st}", 1,
                "play", UINT64_C(9)));
        assert_int_equal(consume(users[0], "counted", "play", 8), 1);
        delete_license(users[0], "counted");
        call_void(users[0], ROOT, "LicenseStore.RevokeLicense", "s", "of user 0");
        save_all(h, root, "same.tar");
        rewrite(h, "same.tar", "all.tar", "rename-user", name, former);
        harness_new_machine(h);

        /* By name it is nobody's here, and its low marks and tombstones are neither. */
        g_autofree char *all = start_all(h, root, "all.tar", own_flags());
        assert_restored(root, all, "4 0 0 0 1, skipped 1", former);
        g_autofree char *refused = start_from(h, root, "all.tar", 0, former, h->users[0]);
        assert_job_fails(root, refused, "NS_E_DRM_NEEDS_INDIVIDUALIZATION", NULL);
        assert_true(g_pattern_match_simple(told, monitor_find_text(h, refused, 25)));
        assert_no_license(users[0], "common");

        g_autofree char *job = start_from(h, root, "all.tar", AGREE, former, h->users[0]);
        assert_restored(root, job, "1 0 0 0 1", "");
        assert_counts(root, job, "5");
        g_hash_table_unref(assert_license(users[0], "common", "common 0", 8));
        assert_no_license(root, "common");
        store_license_error(users[0], "NS_E_DRM_LICENSE_CONTENT_REVOKED", NULL, "x", 1, "a{sv}", 1, "LicenseId", "s",
                "of user 0");
        g_free(store_license(users[0], "counted", 7, "a{sv}", 1, "LicenseId", "s", "counted"));
        assert_int_equal(consume(users[0], "counted", "play", 1), 0);
        /* Another's, without being root: it is the file of who asks. */
        g_autofree char *others = start_from(h, users[2], "all.tar", AGREE, former, (uid_t)-1);
        assert_restored(users[2], others, "0 0 0 1 1", "");
}

static void test_one_of_all_users_of_another_machine_needs_consent(void **state) {
        Harness *h = *state;
        sd_bus *root = become_root(h), *users[TEST_USERS];
        g_autofree char *name = user_name(h, 1);
        store_for_all(h, users);
        save_all(h, root, "all.tar");
        rewrite(h, "all.tar", "other.tar", "json", "manifest.json", "machine", "\"another\"");
        harness_new_machine(h);

        g_autofree char *refused = start_from(h, users[1], "other.tar", 0, name, (uid_t)-1);
        assert_job_fails(users[1], refused, "NS_E_DRM_NEEDS_INDIVIDUALIZATION", NULL);
        assert_trace(h, refused, users[1], "return 21 28 25 27:NS_E_DRM_NEEDS_INDIVIDUALIZATION");
        assert_no_license(users[1], "common");
        g_autofree char *job = start_from(h, users[1], "other.tar", AGREE, name, (uid_t)-1);
        assert_restored(users[1], job, "2 0 0 0 1", "");
        assert_no_license(users[0], "common");
}

static void test_who_is_not_in_a_backup_of_all_users_is_named(void **state) {
        Harness *h = *state;
        sd_bus *root = become_root(h), *users[TEST_USERS];
        g_autofree char *before = NULL;
        store_for_all(h, users);
        save_all(h, root, "all.tar");
        delete_license(users[0], "common");
        before = snapshot_licenses(users[0]);

        g_autofree char *job = start_from(h, users[0], "all.tar", AGREE, "no such user", (uid_t)-1);
        assert_job_fails(users[0], job, "InvalidArgs",
                "There is no user 'no such user' in the backup. licensevaultctl inspect*No license was changed.");
        assert_snapshot(users[0], before);
}

static void test_one_of_all_users_is_asked_for_rightly(void **state) {
        Harness *h = *state;
        sd_bus *root = become_root(h), *users[TEST_USERS];
        g_autofree char *name = user_name(h, 0), *long_name = g_strnfill(1025, 'x');
        store_for_all(h, users);
        save_all(h, root, "all.tar");
        save_backup(h, users[0], "one.tar");
        int fd = open_in(h, "all.tar", O_RDWR);

        call_error(root, ROOT, RESTORE_FILE, "InvalidArgs", "From and AllUsers exclude each other.", "hua{sv}", fd,
                AGREE, 2, "From", "s", name, "AllUsers", "b", 1);
        call_error(root, ROOT, RESTORE_FILE, "InvalidArgs", "*From*", "hua{sv}", fd, AGREE, 1, "From", "u", 1000);
        call_error(root, ROOT, RESTORE_FILE, "InvalidArgs", "*From*", "hua{sv}", fd, AGREE, 1, "From", "s", "");
        call_error(root, ROOT, RESTORE_FILE, "InvalidArgs", "*From*", "hua{sv}", fd, AGREE, 1, "From", "s", long_name);
        call_error(root, ROOT, "LicenseBackup.BackupLicensesToFile", "InvalidArgs", "*'From'*", "hua{sv}", fd, 0, 1,
                "From", "s", name);
        /* To others it is for whom Owner is. */
        call_error(users[1], ROOT, RESTORE_FILE, "AccessDenied", NULL, "hua{sv}", fd, AGREE, 2, "From", "s", name,
                "Owner", "u", (uint32_t)h->users[0]);
        close(fd);

        g_autofree char *one = start_from(h, users[0], "one.tar", AGREE, name, (uid_t)-1);
        assert_job_fails(users[0], one, "InvalidArgs", "*backup of one user*without naming one (From*No license was changed.");
        assert_trace(h, one, users[0], "return 21 28 27:InvalidArgs");
}

/* By the account's rules: nobody's licenses would be the next one's. */
static void test_owners_that_are_nobody_are_refused(void **state) {
        static const uint32_t nobodies[] = { UINT32_MAX, 65534, 61184, 65519 };
        Harness *h = *state;
        sd_bus *root = become_root(h);
        store_simple(harness_connect(h, 0), "one");
        save_backup(h, harness_connect(h, 0), "one.tar");
        int fd = open_in(h, "one.tar", O_RDONLY);

        for (unsigned i = 0; i < G_N_ELEMENTS(nobodies); i++) {
                sd_bus_message *message = new_call(root, ROOT, RESTORE_FILE);
                sd_bus_error error = SD_BUS_ERROR_NULL;
                _cleanup_message_ sd_bus_message *reply = NULL;
                g_auto(JobEnd) end = {};
                const char *job;

                /* At once, or in the job, and nothing is restored to them. */
                assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
                assert_true(sd_bus_message_append(message, "hua{sv}", fd, AGREE, 1, "Owner", "u", nobodies[i]) >= 0);
                if (sd_bus_call(root, message, 0, &error, &reply) >= 0) {
                        assert_true(sd_bus_message_read(reply, "o", &job) > 0);
                        job_wait(root, job, &end);
                        if (end.hresult == 0)
                                fail_msg("User %" PRIu32 " got licenses", nobodies[i]);
                }
                sd_bus_error_free(&error);
                sd_bus_message_unref(message);
        }
        close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_all_users_get_back_what_is_theirs),
                TEST(test_users_are_found_by_name),
                TEST(test_conflicts_of_all_users_are_named),
                TEST(test_limit_of_one_of_all_users_is_named),
                TEST(test_backup_of_all_users_and_of_one_are_not_mixed_up),
                TEST(test_backup_of_all_users_of_another_machine_needs_consent),
                TEST(test_root_restores_for_one_user),
                TEST(test_one_of_all_users_comes_back_alone),
                TEST(test_user_of_another_name_in_a_backup_comes_back_with_consent),
                TEST(test_one_of_all_users_of_another_machine_needs_consent),
                TEST(test_who_is_not_in_a_backup_of_all_users_is_named),
                TEST(test_one_of_all_users_is_asked_for_rightly),
                TEST(test_owners_that_are_nobody_are_refused),
        };

        return cmocka_run_group_tests_name("restore-users", tests, NULL, NULL);
}
