/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Backups of all users that nobody has to think of: the timer, its service, and what is seen when they fail. */
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "system.h"

#define TIMER "licensevault-backup.timer"
#define SERVICE "licensevault-backup.service"
#define FOLDER "/var/backups/licensevault"
#define SERVICE_DROP_INS "/run/systemd/system/" SERVICE ".d"

static int setup(void **state) {
        system_setup(state);
        run_quietly(ARGUMENTS("sh", "-c", "rm -rf " SERVICE_DROP_INS " " FOLDER "/*"));
        systemctl("daemon-reload");
        run_program(ARGUMENTS("systemctl", "reset-failed", SERVICE), NULL, NULL);
        return 0;
}

static void drop_in(const char *lines) {
        run_quietly(ARGUMENTS("mkdir", "-p", SERVICE_DROP_INS));
        write_file(SERVICE_DROP_INS "/50-test.conf", lines, strlen(lines));
        systemctl("daemon-reload");
}

static void store_for_two(Harness *h) {
        store_simple(harness_connect(h, 0), "of-anna");
        store_simple(harness_connect(h, 1), "of-bert");
}

static char *service_property(const char *name) {
        return run_good(ARGUMENTS("systemctl", "show", "--value", "--property", name, SERVICE));
}

/* Names in the folder, oldest first, with a space between. */
static char *list_folder(void) {
        return run_good(ARGUMENTS("sh", "-c", "ls -A " FOLDER " | tr '\\n' ' '"));
}

/* The backup that was made last. */
static char *newest(void) {
        return run_good(ARGUMENTS("sh", "-c", "ls " FOLDER "/licenses-2*.tar | tail -n 1"));
}

/* The service fails, as systemctl and the journal show. */
static void assert_run_fails(const char *code, const char *said) {
        g_autofree char *result = NULL, *status = NULL, *journal = NULL, *err = NULL, *shown = NULL;

        assert_int_not_equal(run_program(ARGUMENTS("systemctl", "start", SERVICE), NULL, &err), 0);
        result = service_property("Result");
        status = service_property("ExecMainStatus");
        assert_string_equal(result, "exit-code");
        assert_string_equal(status, code);
        run_quietly(ARGUMENTS("journalctl", "--sync"));
        journal = run_good(ARGUMENTS("journalctl", "--no-pager", "--output=cat", "--lines=20", "--unit", SERVICE));
        if (!strstr(journal, said))
                fail_msg("The journal has no '%s', but: %s", said, journal);
        run_program(ARGUMENTS("systemctl", "status", "--no-pager", SERVICE), &shown, NULL);
        assert_non_null(strstr(shown, "failed"));
}

static void test_timer_is_off_until_it_is_enabled(void **state) {
        g_autofree char *before = NULL, *next = NULL, *settings = NULL;

        assert_int_not_equal(run_program(ARGUMENTS("systemctl", "is-enabled", TIMER), &before, NULL), 0);
        assert_string_equal(g_strchomp(before), "disabled");
        systemctl("enable", "--now", TIMER);
        systemctl("is-active", TIMER);
        next = run_good(ARGUMENTS("systemctl", "show", "--value", "--property", "NextElapseUSecRealtime", TIMER));
        assert_true(*next != '\0');
        settings = run_good(ARGUMENTS("systemctl", "show", "--property", "Persistent,RandomizedDelayUSec", TIMER));
        assert_non_null(strstr(settings, "Persistent=yes"));
        assert_null(strstr(settings, "RandomizedDelayUSec=0"));
        systemctl("disable", "--now", TIMER);
}

static void test_service_backs_up_all_users(void **state) {
        Harness *h = *state;
        g_autofree char *path = NULL, *entries = NULL, *result = NULL;
        struct stat st;
        store_for_two(h);

        systemctl("start", SERVICE);
        result = service_property("Result");
        assert_string_equal(result, "success");
        path = newest();
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode, S_IFREG | 0600);
        assert_int_equal(st.st_uid, 0);
        run_quietly(ARGUMENTS("licensevaultctl", "verify", path));
        entries = run_good(ARGUMENTS("tar", "tf", path));
        assert_non_null(strstr(entries, "lv-anna/"));
        assert_non_null(strstr(entries, "of-bert"));

        /* None but root gets near it. */
        assert_int_not_equal(run_as(system_users[0], ARGUMENTS("cat", path), NULL, NULL), 0);
}

/* As of nine nights on which there was what there is now. */
static void make_old_backups(void) {
        run_quietly(ARGUMENTS("sh", "-ec", "cd " FOLDER "; licensevaultctl --quiet backup --all-users --output made; "
                                           "for i in 1 2 3 4 5 6 7 8 9; do cp made licenses-2001010${i}T000000Z.tar; "
                                           "done; rm made"));
}

static void test_newest_seven_are_kept(void **state) {
        Harness *h = *state;
        g_autofree char *listed = NULL;
        store_for_two(h);
        make_old_backups();
        run_quietly(ARGUMENTS("sh", "-c", "echo mine >" FOLDER "/notes"));

        systemctl("start", SERVICE);
        listed = list_folder();
        for (char i = '1'; i <= '9'; i++) {
                g_autofree char *name = g_strdup_printf("licenses-2001010%cT000000Z.tar", i);
                assert_int_equal(strstr(listed, name) != NULL, i >= '4');
        }
        assert_non_null(strstr(listed, "notes"));

        drop_in("[Service]\nEnvironment=KEEP=2\n");
        systemctl("start", SERVICE);
        g_autofree char *left = run_good(ARGUMENTS("sh", "-c", "ls " FOLDER "/licenses-* | wc -l"));
        assert_string_equal(left, "2");
        g_autofree char *path = newest();
        run_quietly(ARGUMENTS("licensevaultctl", "verify", path));
}

static void test_full_disk_fails_visibly_and_removes_nothing(void **state) {
        Harness *h = *state;
        g_autofree char *before = NULL, *after = NULL;
        assert_int_equal(mount("tmpfs", FOLDER, "tmpfs", 0, "size=300k,mode=0700"), 0);
        make_old_backups();
        store_many(harness_connect(h, 0), "a", 300, 4000);
        before = list_folder();

        assert_run_fails("10", "No space left on device");
        after = list_folder();
        assert_string_equal(after, before);
        assert_int_equal(umount(FOLDER), 0);
}

static void test_service_that_cannot_run_fails_visibly(void **state) {
        Harness *h = *state;
        g_autofree char *before = NULL, *after = NULL;
        store_for_two(h);
        systemctl("start", SERVICE);
        before = list_folder();
        systemctl("mask", "--runtime", "--now", UNIT);

        assert_run_fails("13", "is not running");
        systemctl("unmask", "--runtime", UNIT);
        after = list_folder();
        assert_string_equal(after, before);
        /* And it recovers by itself with the next run. */
        systemctl("start", SERVICE);
}

static void test_service_may_write_into_its_folder_alone(void **state) {
        Harness *h = *state;
        store_for_two(h);
        run_quietly(ARGUMENTS("mkdir", "-p", "/srv/elsewhere"));
        drop_in("[Service]\nEnvironment=FOLDER=/srv/elsewhere\n");
        assert_run_fails("10", "Read-only file system");

        drop_in("[Service]\nEnvironment=FOLDER=/srv/elsewhere\nReadWritePaths=/srv/elsewhere\n");
        systemctl("start", SERVICE);
        g_autofree char *made = run_good(ARGUMENTS("sh", "-c", "ls /srv/elsewhere/licenses-*.tar | wc -l"));
        assert_string_equal(made, "1");
        run_quietly(ARGUMENTS("rm", "-r", "/srv/elsewhere"));
}

/* An account that went, or was renamed: its licenses are in the backup, and root decides what becomes of them. */
static void test_licenses_of_gone_users_are_reassigned_or_purged(void **state) {
        Harness *h = *state;
        uid_t uid = add_user("lv-gone", 0);
        store_simple(harness_connect_uid(h, uid), "of-gone");
        store_simple(harness_connect(h, 0), "of-anna");
        g_autofree char *anna = g_strdup_printf("%u\t%s\t1\t", (unsigned)h->users[0], system_users[0]);
        delete_user("lv-gone");
        systemctl("restart", UNIT);

        g_autofree char *owners = run_good(ARGUMENTS("licensevaultctl", "owners"));
        assert_non_null(strstr(owners, "lv-gone\t1\t"));
        assert_non_null(strstr(owners, "\tgone"));
        assert_non_null(strstr(owners, anna));
        systemctl("start", SERVICE);
        g_autofree char *path = newest(), *entries = run_good(ARGUMENTS("tar", "tf", path));
        assert_non_null(strstr(entries, "of-gone"));

        run_quietly(ARGUMENTS("licensevaultctl", "reassign", "lv-gone", system_users[1]));
        g_autofree char *listed = NULL;
        assert_int_equal(run_as(system_users[1], ARGUMENTS("licensevaultctl", "list"), &listed, NULL), 0);
        assert_non_null(strstr(listed, "of-gone\t"));

        uid = add_user("lv-gone", 0);
        store_simple(harness_connect_uid(h, uid), "again");
        assert_int_not_equal(run_program(ARGUMENTS("licensevaultctl", "purge", "--yes", "lv-gone"), NULL, NULL), 0);
        delete_user("lv-gone");
        run_quietly(ARGUMENTS("licensevaultctl", "purge", "--yes", "lv-gone"));
        g_autofree char *left = run_good(ARGUMENTS("licensevaultctl", "owners"));
        assert_null(strstr(left, "lv-gone"));
        assert_int_not_equal(run_as(system_users[0], ARGUMENTS("licensevaultctl", "owners"), NULL, NULL), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, system_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_timer_is_off_until_it_is_enabled),
                TEST(test_service_backs_up_all_users),
                TEST(test_newest_seven_are_kept),
                TEST(test_full_disk_fails_visibly_and_removes_nothing),
                TEST(test_service_that_cannot_run_fails_visibly),
                TEST(test_service_may_write_into_its_folder_alone),
                TEST(test_licenses_of_gone_users_are_reassigned_or_purged),
        };

        return cmocka_run_group_tests_name("timer", tests, NULL, NULL);
}
