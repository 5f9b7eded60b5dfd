/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where backups may go, with the unit's sandbox around the daemon and files that are real users'. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "restores.h"
#include "system.h"

#define PROPS "BackupRestoreProps."
#define TO_FILE "LicenseBackup.BackupLicensesToFile"
#define ROOT_FOLDER "/srv/backup"

/* Backs up to a file that a user makes where only it can, and closes it. */
static void save_as(Harness *h, sd_bus *bus, unsigned user, const char *path) {
        int fd = open_as(h->users[user], path, O_RDWR | O_CREAT | O_EXCL, 0600);
        g_autofree char *job = call_string(bus, ROOT, TO_FILE, "hua{sv}", fd, 0, 0);

        close(fd);
        g_hash_table_unref(assert_job_succeeds(bus, job));
}

/* Restores from a file that a user opens. */
static void assert_restores_as(Harness *h, sd_bus *bus, unsigned user, const char *path, const char *counts) {
        int fd = open_as(h->users[user], path, O_RDONLY, 0);
        g_autofree char *job = call_string(bus, ROOT, RESTORE_FILE, "hua{sv}", fd, own_flags(), 0);

        close(fd);
        assert_restored(bus, job, counts, "");
}

static void test_descriptor_into_a_closed_home_reaches_the_service(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *path = home_path(system_users[0], "in-home.tar"), *home = home_path(system_users[0], NULL);
        struct stat st;
        store_many(bus, "a", 50, 3000);
        g_autofree char *before = snapshot_licenses(bus);

        save_as(h, bus, 0, path);
        assert_int_equal(stat(home, &st), 0);
        assert_int_equal(st.st_mode, S_IFDIR | 0700);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_uid, h->users[0]);
        delete_license(bus, "a00007");
        assert_restores_as(h, bus, 0, path, "1 49 0 0 0");
        assert_snapshot(bus, before);
        assert_int_equal(unlink(path), 0);
}

static void test_command_line_backs_up_into_a_home_and_restores_from_it(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *path = home_path(system_users[0], "x.tar");
        g_autofree char *err = NULL, *restore_err = NULL, *again_err = NULL;
        struct stat st;
        store_many(bus, "a", 5, 100);
        g_autofree char *before = snapshot_licenses(bus);

        if (run_as(system_users[0], ARGUMENTS("licensevaultctl", "backup", "--output", "x.tar"), NULL, &err) != 0)
                fail_msg("licensevaultctl backup: %s", err);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_uid, h->users[0]);
        assert_int_equal(st.st_mode, S_IFREG | 0600);
        run_quietly(ARGUMENTS("tar", "tf", path));
        assert_int_not_equal(run_as(system_users[0], ARGUMENTS("licensevaultctl", "backup", "--output", "x.tar"),
                                     NULL, &again_err), 0);
        assert_non_null(strstr(again_err, "x.tar"));
        /* Nobody else may so much as see it. */
        assert_int_not_equal(run_as(system_users[1], ARGUMENTS("licensevaultctl", "verify", path), NULL, NULL), 0);

        delete_license(bus, "a00003");
        if (run_as(system_users[0], ARGUMENTS("licensevaultctl", "restore", "--yes", "x.tar"), NULL,
                    &restore_err) != 0)
                fail_msg("licensevaultctl restore: %s", restore_err);
        assert_snapshot(bus, before);
        assert_int_equal(unlink(path), 0);
}

/* <root>/<uid>, made as the manual says. */
static char *make_root_folder(uid_t uid) {
        char *folder = g_strdup_printf(ROOT_FOLDER "/%u", (unsigned)uid);

        run_quietly(ARGUMENTS("install", "-d", "-m", "0755", ROOT_FOLDER));
        run_quietly(ARGUMENTS("install", "-d", "-m", "0700", "-o", "licensevault", "-g", "licensevault", folder));
        return folder;
}

static void start_with_root(Harness *h, const char *drop_in) {
        harness_set(h, "Backup", "Roots", ROOT_FOLDER);
        harness_write_settings(h);
        if (drop_in)
                unit_drop_in(drop_in);
        systemctl("restart", UNIT);
}

static int teardown_root(void **state) {
        run_quietly(ARGUMENTS("rm", "-rf", ROOT_FOLDER));
        return system_teardown(state);
}

static void test_root_needs_to_be_writable_for_the_unit(void **state) {
        Harness *h = *state;
        g_autofree char *folder = make_root_folder(h->users[0]);
        start_with_root(h, NULL);
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "one");
        call_void(bus, ROOT, PROPS "SetProp", "sv", "BackupPath", "s", folder);

        /* As the unit is installed: the log says what to do, and a backup what is wrong. */
        expect_journal("Backups cannot go to the root '" ROOT_FOLDER "': Read-only file system.");
        expect_journal("ReadWritePaths=");
        g_autofree char *refused = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        assert_job_fails(bus, refused, "NS_E_BACKUP_RESTORE_FAILURE", "*Read-only file system*");
        assert_int_equal(count_names(folder), 0);
}

static void test_root_in_read_write_paths_takes_backups(void **state) {
        Harness *h = *state;
        g_autofree char *folder = make_root_folder(h->users[0]);
        g_autofree char *file = g_build_filename(folder, "licenses.tar", NULL);
        struct stat st;
        start_with_root(h, "[Service]\nReadWritePaths=" ROOT_FOLDER "\n");
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "one");
        call_void(bus, ROOT, PROPS "SetProp", "sv", "BackupPath", "s", folder);
        call_void(bus, ROOT, PROPS "SetProp", "sv", "RestorePath", "s", folder);

        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_hash_table_unref(assert_job_succeeds(bus, job));
        assert_int_equal(stat(file, &st), 0);
        assert_int_equal(st.st_mode, S_IFREG | 0600);
        assert_int_equal(count_names(folder), 1);
        delete_license(bus, "one");
        g_autofree char *restore = call_string(bus, ROOT, RESTORE_PATH, "u", own_flags());
        assert_restored(bus, restore, "1 0 0 0 0", "");
        /* The root itself is the administrator's, as the manual has it: that is not a thing to complain of. */
        systemctl("stop", UNIT);
        g_autofree char *journal = unit_journal();
        assert_null(strstr(journal, "cannot go to the root"));
        assert_int_equal(count_names(ROOT_FOLDER), 1);
}

static void test_paths_that_are_not_the_users_are_refused(void **state) {
        Harness *h = *state;
        g_autofree char *own = make_root_folder(h->users[0]), *foreign = make_root_folder(h->users[1]);
        g_autofree char *home = home_path(system_users[0], NULL);
        g_autofree char *foreign_default = g_strdup_printf(STATE "/backups/%u", (unsigned)h->users[1]);
        g_autofree char *around = g_strconcat(own, "/../", NULL), *sibling = g_strconcat(own, "0", NULL);
        const char *const refused[] = { home, "/srv", ROOT_FOLDER, foreign, sibling, foreign_default, STATE,
                "/etc/licensevault", "/tmp" };
        start_with_root(h, "[Service]\nReadWritePaths=" ROOT_FOLDER "\n");
        sd_bus *bus = harness_connect(h, 0);

        for (unsigned i = 0; i < G_N_ELEMENTS(refused); i++)
                call_error(bus, ROOT, PROPS "SetProp", "AccessDenied", "*BackupLicensesToFile*", "sv", "BackupPath",
                        "s", refused[i]);
        call_error(bus, ROOT, PROPS "SetProp", "InvalidArgs", NULL, "sv", "BackupPath", "s", around);
        call_void(bus, ROOT, PROPS "SetProp", "sv", "BackupPath", "s", own);
}

static void test_link_in_the_way_is_not_followed(void **state) {
        Harness *h = *state;
        g_autofree char *own = make_root_folder(h->users[0]), *foreign = make_root_folder(h->users[1]);
        g_autofree char *link_path = g_build_filename(own, "link", NULL);
        start_with_root(h, "[Service]\nReadWritePaths=" ROOT_FOLDER "\n");
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "one");
        assert_int_equal(mkdir(link_path, 0700), 0);
        run_quietly(ARGUMENTS("chown", "licensevault:", link_path));
        call_void(bus, ROOT, PROPS "SetProp", "sv", "BackupPath", "s", link_path);
        g_autofree char *good = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_hash_table_unref(assert_job_succeeds(bus, good));

        run_quietly(ARGUMENTS("rm", "-rf", link_path));
        assert_int_equal(symlink(foreign, link_path), 0);
        call_error(bus, ROOT, "LicenseBackup.BackupLicenses", "AccessDenied", "*link*", "u", 0);
        assert_int_equal(count_names(foreign), 0);
}

static void test_own_backup_can_be_opened_and_only_read(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *file = g_strdup_printf(STATE "/backups/%u/licenses.tar", (unsigned)h->users[0]);
        size_t size;
        int fd;
        store_many(bus, "a", 5, 100);
        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_hash_table_unref(assert_job_succeeds(bus, job));
        call_error(harness_connect(h, 1), ROOT, "LicenseBackup.OpenBackup", "NS_E_DRM_BACKUP_CORRUPT", NULL, "");

        _cleanup_message_ sd_bus_message *reply = call(bus, ROOT, "LicenseBackup.OpenBackup", "");
        assert_true(sd_bus_message_read(reply, "h", &fd) > 0);
        assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
        g_autofree char *content = read_file(file, &size);
        g_autofree char *found = g_malloc(size + 1);
        assert_int_equal(read(fd, found, size + 1), size);
        assert_memory_equal(found, content, size);
}

/* A folder on FUSE, mounted by a user for itself alone: not even root may look into it by its path. */
static int setup_fuse(void **state) {
        g_autofree char *below = home_path(system_users[0], "below"), *fuse = home_path(system_users[0], "fuse");
        g_autofree char *err = NULL;

        system_setup_running(state);
        if (access("/dev/fuse", F_OK) < 0)
                return 0;
        assert_int_equal(run_as(system_users[0], ARGUMENTS("mkdir", "-p", below, fuse), NULL, NULL), 0);
        if (run_as(system_users[0], ARGUMENTS("bindfs", "--no-allow-other", below, fuse), NULL, &err) != 0)
                fail_msg("bindfs: %s", err);
        return 0;
}

static int teardown_fuse(void **state) {
        g_autofree char *fuse = home_path(system_users[0], "fuse");

        if (access("/dev/fuse", F_OK) == 0)
                run_as(system_users[0], ARGUMENTS("fusermount3", "-u", fuse), NULL, NULL);
        return system_teardown(state);
}

static void test_descriptor_on_fuse_takes_a_backup_and_gives_it_back(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *path = home_path(system_users[0], "fuse/x.tar");
        g_autofree char *below = home_path(system_users[0], "below/x.tar");
        struct stat st;

        if (access("/dev/fuse", F_OK) < 0) {
                print_message("skipped: this kernel has no FUSE; `modprobe fuse` may help\n");
                skip();
        }
        store_many(bus, "a", 200, 5000);
        g_autofree char *before = snapshot_licenses(bus);
        save_as(h, bus, 0, path);
        assert_int_equal(stat(below, &st), 0);
        assert_int_equal(st.st_uid, h->users[0]);
        run_quietly(ARGUMENTS("licensevaultctl", "verify", below));
        /* This is what the daemon meets there, too: the file system is its user's alone. */
        assert_int_equal(stat(path, &st), -1);
        assert_int_equal(errno, EACCES);

        delete_license(bus, "a00000");
        delete_license(bus, "a00199");
        assert_restores_as(h, bus, 0, path, "2 198 0 0 0");
        assert_snapshot(bus, before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, system_setup_running, system_teardown)
#define ROOT_TEST(name) cmocka_unit_test_setup_teardown(name, system_setup, teardown_root)
#define FUSE_TEST(name) cmocka_unit_test_setup_teardown(name, setup_fuse, teardown_fuse)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_descriptor_into_a_closed_home_reaches_the_service),
                TEST(test_command_line_backs_up_into_a_home_and_restores_from_it),
                ROOT_TEST(test_root_needs_to_be_writable_for_the_unit),
                ROOT_TEST(test_root_in_read_write_paths_takes_backups),
                ROOT_TEST(test_paths_that_are_not_the_users_are_refused),
                ROOT_TEST(test_link_in_the_way_is_not_followed),
                TEST(test_own_backup_can_be_opened_and_only_read),
                FUSE_TEST(test_descriptor_on_fuse_takes_a_backup_and_gives_it_back),
        };

        return cmocka_run_group_tests_name("files", tests, NULL, NULL);
}
