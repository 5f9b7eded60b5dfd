/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an administrator must act on is in the journal, with an explanation that `journalctl -x` finds. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "restores.h"
#include "system.h"

/* The catalog that was installed, as a package's installation would take it in. */
static int setup(void **state) {
        run_quietly(ARGUMENTS("journalctl", "--update-catalog"));
        return system_setup(state);
}

/* The explained entry that came last, as an administrator reads it; an empty string where there is none. */
static char *explained(const char *event) {
        g_autofree char *match = g_strconcat("LICENSEVAULT_EVENT=", event, NULL);

        run_quietly(ARGUMENTS("journalctl", "--sync"));
        return run_good(ARGUMENTS("journalctl", "--no-pager", "--boot", "--catalog", "--lines=1", "--unit", UNIT, match));
}

static void expect_explained(const char *event, const char *const *parts) {
        g_autofree char *shown = NULL;

        for (unsigned i = 0; i < PATIENCE_SEC * 10; i++) {
                g_free(shown);
                shown = explained(event);
                if (strstr(shown, parts[0]))
                        break;
                sleep_msec(100);
        }
        for (; *parts; parts++)
                if (!strstr(shown, *parts))
                        fail_msg("The journal does not explain '%s' by '%s', but:\n%s", event, *parts, shown);
        /* A field that the catalog names and the entry lacks shows as it stands in the catalog. */
        assert_null(strstr(shown, "@LICENSEVAULT"));
}

static void write_garbage(const char *path) {
        int fd = open(path, O_WRONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, "this is no database any more", 28, 0), 28);
        close(fd);
}

static void test_store_that_cannot_be_read_is_explained(void **state) {
        Harness *h = *state;
        systemctl("start", UNIT);
        store_simple(harness_connect(h, 0), "one");
        systemctl("stop", UNIT);
        write_garbage(STATE "/licenses.db");

        /* It starts all the same, to say so. */
        systemctl("start", UNIT);
        call_error(harness_connect(h, 0), ROOT, "LicenseStore.GetLicense", "NS_E_DRM_DATASTORE_CORRUPT", NULL, "s",
                "one");
        expect_explained("store-unreadable", ARGUMENTS("The license store cannot be read",
                "Users get NS_E_DRM_DATASTORE_CORRUPT", "licensevaultd --check", "licensevaultctl restore"));
}

static void test_store_that_may_be_lost_is_explained(void **state) {
        Harness *h = *state;
        systemctl("start", UNIT);
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "one");
        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_hash_table_unref(assert_job_succeeds(bus, job));
        systemctl("stop", UNIT);
        assert_int_equal(unlink(STATE "/licenses.db"), 0);

        systemctl("start", UNIT);
        expect_explained("store-lost", ARGUMENTS("The license store may have been lost",
                "systemctl stop licensevault-backup.timer", "licensevaultctl restore --all-users FILE"));
}

static void test_disk_without_room_is_explained(void **state) {
        Harness *h = *state;
        harness_set(h, "Limits", "MinimumFreePercent", "100");
        harness_write_settings(h);
        systemctl("start", UNIT);

        sd_bus *bus = harness_connect(h, 0);
        store_license_error(bus, "LimitsExceeded", "*MinimumFreePercent*", "x", 1, "a{sv}", 1, "LicenseId", "s", "id");
        expect_explained("store-full", ARGUMENTS("There is no room for more licenses",
                "MinimumFreePercent: too little of the disk is free", "df -h"));
        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        assert_job_fails(bus, job, "LimitsExceeded", NULL);
        expect_explained("backup-failed", ARGUMENTS("were not backed up: LimitsExceeded",
                "LimitsExceeded: a setting leaves no room"));
}

static void test_backup_that_failed_is_explained(void **state) {
        Harness *h = *state;
        g_autofree char *folder = g_strdup_printf("/srv/media/%u", (unsigned)h->users[0]),
                        *user = g_strdup_printf("A backup of user %u failed", (unsigned)h->users[0]);
        run_quietly(ARGUMENTS("install", "-d", "-m", "0755", "/srv/media"));
        run_quietly(ARGUMENTS("install", "-d", "-m", "0700", "-o", "licensevault", folder));
        harness_set(h, "Backup", "Roots", "/srv/media");
        harness_write_settings(h);
        systemctl("start", UNIT);
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "one");
        call_void(bus, ROOT, "BackupRestoreProps.SetProp", "sv", "BackupPath", "s", folder);

        /* The unit may not write there. */
        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        assert_job_fails(bus, job, "NS_E_BACKUP_RESTORE_FAILURE", "*Read-only file system*");
        expect_explained("root-unwritable", ARGUMENTS("Backups cannot go to /srv/media", "ReadWritePaths="));
        expect_explained("backup-failed", ARGUMENTS(user, "The user has been told why",
                "licensevaultctl backup --overwrite"));

        /* What is the user's is not in the log. */
        g_autofree char *journal = unit_journal();
        assert_null(strstr(journal, folder));
        run_quietly(ARGUMENTS("rm", "-rf", "/srv/media"));
}

static void test_restore_that_was_refused_is_explained(void **state) {
        Harness *h = *state;
        g_autofree char *file = g_strdup_printf(STATE "/backups/%u/licenses.tar", (unsigned)h->users[0]),
                        *user = g_strdup_printf("A restore of user %u failed", (unsigned)h->users[0]);
        systemctl("start", UNIT);
        sd_bus *bus = harness_connect(h, 0);
        store_many(bus, "a", 20, 2000);
        g_autofree char *backup = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_hash_table_unref(assert_job_succeeds(bus, backup));
        int fd = open(file, O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, "damage", 6, 30000), 6);
        close(fd);

        g_autofree char *job = call_string(bus, ROOT, RESTORE_PATH, "u", own_flags());
        assert_job_fails(bus, job, "NS_E_DRM_BACKUP_CORRUPT", "*No license was changed.");
        expect_explained("restore-failed", ARGUMENTS(user, "No license was changed", "NS_E_DRM_BACKUP_CORRUPT"));
}

/* A client's own file that fails is the client's: it is told, and nobody else need act. */
static void test_what_a_client_alone_must_mend_is_no_event(void **state) {
        Harness *h = *state;
        systemctl("start", UNIT);
        sd_bus *bus = harness_connect(h, 0);
        int fds[2];
        store_many(bus, "a", 40, 64 * 1024);
        g_autofree char *before = explained("backup-failed");

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicensesToFile", "hua{sv}", fds[1], 0, 0);
        close(fds[0]);
        close(fds[1]);
        assert_job_fails(bus, job, "NS_E_BACKUP_RESTORE_FAILURE", NULL);
        expect_journal("NS_E_BACKUP_RESTORE_FAILURE");
        g_autofree char *after = explained("backup-failed");
        assert_string_equal(after, before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, system_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_store_that_cannot_be_read_is_explained),
                TEST(test_store_that_may_be_lost_is_explained),
                TEST(test_disk_without_room_is_explained),
                TEST(test_backup_that_failed_is_explained),
                TEST(test_restore_that_was_refused_is_explained),
                TEST(test_what_a_client_alone_must_mend_is_no_event),
        };

        return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
