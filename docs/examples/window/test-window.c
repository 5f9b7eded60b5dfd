/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The program in this process, on an X server of the test's own, with the real service on a private bus. What is
 * asserted is what a person sees; what is done is done by its buttons, or by the actions that its command line uses.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "application.h"
#include "client.h"
#include "restores.h"
#include "screen.h"
#include "window.h"

static AdwApplication *application; /* one for all; each test has a window of its own */
static sd_bus *bus;                 /* of the user who runs the program */

/* A portal may pass one file alone, and let no other be made: this is called in place of GLib's. */
static bool nothing_beside;

gint g_mkstemp_full(gchar *template, gint flags, gint mode) {
        if (nothing_beside) {
                errno = EACCES;
                return -1;
        }

        int fd = mkostemp(template, flags & ~O_ACCMODE);
        if (fd >= 0)
                assert_int_equal(fchmod(fd, (mode_t)mode), 0);
        return fd;
}

static int teardown(void **state) {
        GListModel *windows = gtk_window_get_toplevels();
        Harness *h = *state;

        nothing_beside = false;
        assert_int_equal(chdir("/"), 0);
        if (h->daemon > 0)
                kill(h->daemon, SIGCONT);
        while (g_list_model_get_n_items(windows) > 0) {
                g_autoptr(GtkWindow) window = g_list_model_get_item(windows, 0);
                gtk_window_destroy(window);
        }
        return harness_teardown(state);
}

static int setup_folders(void **state) {
        Harness *h;

        harness_setup_bus(state);
        h = *state;
        bus = h->observer;
        g_setenv("DBUS_SYSTEM_BUS_ADDRESS", h->address, TRUE);
        g_autofree char *folder = harness_path(h, "saved");
        assert_int_equal(mkdir(folder, 0700), 0);
        return 0;
}

static int setup(void **state) {
        setup_folders(state);
        harness_start(*state);
        return 0;
}

static void open_window(void) {
        g_application_activate(G_APPLICATION(application));
        wait_until(screen_window(LICENSE_WINDOW_TYPE));
}

static LicenseWindow *the_window(void) {
        return LICENSE_WINDOW(screen_window(LICENSE_WINDOW_TYPE));
}

static char *path_of_saved(Harness *h, const char *name) {
        g_autofree char *below = g_strconcat("saved/", name, NULL);

        return harness_path(h, below);
}

/* As the command line does. */
static void act_on(Harness *h, const char *action, const char *name) {
        g_autofree char *path = path_of_saved(h, name), *uri = g_filename_to_uri(path, NULL, NULL);

        g_action_group_activate_action(G_ACTION_GROUP(application), action, g_variant_new_string(uri));
}

/* As the dialog does once it has asked whether a file may be replaced. */
static void back_up_and_replace(Harness *h, const char *name) {
        g_autofree char *path = path_of_saved(h, name);
        g_autoptr(GFile) file = g_file_new_for_path(path);

        license_window_back_up(the_window(), file, true);
}

static void write_saved(Harness *h, const char *name, const char *text) {
        g_autofree char *path = path_of_saved(h, name);

        write_file(path, text, strlen(text));
}

static void assert_saved(Harness *h, const char *name, const char *text) {
        g_autofree char *path = path_of_saved(h, name);

        assert_file_equal(path, text, strlen(text));
}

static void assert_files(Harness *h, unsigned n) {
        g_autofree char *folder = harness_path(h, "saved");

        assert_int_equal(count_names(folder), n);
}

/* The command line says that the backup is whole, and has so many licenses. */
static void assert_verifies(Harness *h, const char *name, const char *licenses) {
        g_autofree char *path = path_of_saved(h, name), *said = NULL, *problem = NULL;
        struct stat st;

        if (run_program((const char *[]) { g_getenv("LICENSEVAULTCTL"), "verify", path, NULL }, &said, &problem) != 0)
                fail_msg("'%s' is no good backup: %s", name, problem);
        g_autofree char *both = g_strconcat(said, problem, NULL);
        if (!strstr(both, licenses))
                fail_msg("Not '%s': %s", licenses, both);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
}

/* A backup of what is there now, from another machine. */
static void save_foreign(Harness *h, const char *name) {
        g_autofree char *below = g_strconcat("saved/", name, NULL);

        save_backup(h, bus, "own.tar");
        rewrite(h, "own.tar", below, "json", "manifest.json", "machine", "\"0123456789abcdef0123456789abcdef\"",
                "json", "manifest.json", "host", "\"laptop\"", "json", "manifest.json", "owner.name", "\"anna\"");
}

/* The list. */

static void test_licenses_are_listed_with_what_is_known_of_them(void **state) {
        g_free(store_license(bus, "x", 1, "a{sv}", 5, "LicenseId", "s", "a", "Title", "s", "Moby <b>Dick</b>\n",
                "Issuer", "s", "https://books.example.com", "NotAfter", "t", UINT64_C(4102488000),
                "Counters", "a{st}", 1, "print", UINT64_C(10)));
        g_free(store_license(bus, "x", 1, "a{sv}", 3, "LicenseId", "s", "b", "Title", "s", "Middlemarch",
                "AllowBackup", "b", 0));
        g_free(store_license(bus, "x", 1, "a{sv}", 3, "LicenseId", "s", "no-title", "NotBefore", "t",
                UINT64_C(978350400), "NotAfter", "t", UINT64_C(978436800)));

        open_window();
        wait_until(screen_shows("3 licenses"));
        wait_until(screen_shows("Moby <b>Dick</b> "));
        assert_true(screen_shows("books.example.com"));
        assert_false(screen_shows("https://"));
        assert_true(screen_shows("Valid until 1 January 2100"));
        assert_true(screen_shows("print:\u00a010\u00a0left"));
        assert_true(screen_shows("Middlemarch"));
        assert_true(screen_shows("Not in backups"));
        assert_true(screen_shows("no-title"));
        assert_true(screen_shows("Expired on 2 January 2001"));
}

static void test_many_licenses_come_as_they_are_scrolled_to(void **state) {
        store_many(bus, "license", 2500, 10);

        open_window();
        wait_until(screen_shows("The first "));
        assert_false(screen_shows("2500 licenses"));
        for (unsigned i = 0; i < PATIENCE_SEC * 20 && !screen_shows("2500 licenses"); i++) {
                GtkWidget *list = screen_find(GTK_TYPE_LIST_VIEW);
                GtkAdjustment *scroll = gtk_scrollable_get_vadjustment(GTK_SCROLLABLE(list));

                gtk_adjustment_set_value(scroll, gtk_adjustment_get_upper(scroll));
                screen_iterate();
        }
        assert_true(screen_shows("2500 licenses"));
        assert_false(screen_shows("The first "));
}

static void test_an_empty_list_says_what_to_do_and_is_read_again(void **state) {
        open_window();
        wait_until(screen_shows("No Licenses Yet"));
        assert_true(screen_offers("Restore a Backup…"));
        assert_true(screen_offers("Restore…"));
        assert_false(screen_offers("Back Up…"));

        store_simple(bus, "a");
        gtk_widget_activate_action(GTK_WIDGET(the_window()), "win.refresh", NULL);
        wait_until(screen_shows("1 license"));
        assert_true(screen_offers("Back Up…"));
}

/* Backups. */

static void test_backup_is_whole_and_its_folder_clean(void **state) {
        store_many(bus, "license", 20, 1000);

        open_window();
        act_on(*state, "backup-to", "new.tar");
        wait_until(screen_shows("20 licenses are in “new.tar”"));
        assert_true(screen_shows("read back and verified"));
        assert_verifies(*state, "new.tar", "20 licenses");
        assert_files(*state, 1);
}

static void test_what_may_not_be_backed_up_is_named(void **state) {
        store_simple(bus, "a");
        g_free(store_license(bus, "x", 1, "a{sv}", 3, "LicenseId", "s", "b", "Title", "s", "Middlemarch & more",
                "AllowBackup", "b", 0));
        /* More than the names that are shown, and these more than the service tells at once. */
        for (unsigned i = 0; i < 600; i++) {
                g_autofree char *id = g_strdup_printf("c%03u", i), *title = g_strdup_printf("%s %0200u", id, 0);
                g_free(store_license(bus, "x", 1, "a{sv}", 3, "LicenseId", "s", id, "Title", "s", title,
                        "AllowBackup", "b", 0));
        }

        open_window();
        act_on(*state, "backup-to", "new.tar");
        wait_until(screen_shows("Backed Up All but 601 Licenses"));
        assert_true(screen_shows("1 license is in “new.tar”"));
        wait_until(screen_find(ADW_TYPE_ACTION_ROW));
        assert_true(screen_shows("Middlemarch & more"));
        assert_true(screen_shows("c498"));
        assert_false(screen_shows("c499"));
        assert_true(screen_shows("and 101 more"));
        screen_press("Close");
        assert_verifies(*state, "new.tar", "1 license");
}

static void test_command_line_replaces_no_file(void **state) {
        store_simple(bus, "a");
        write_saved(*state, "old.tar", "precious");

        open_window();
        act_on(*state, "backup-to", "old.tar");
        wait_until(screen_shows("The Backup Failed"));
        assert_true(screen_shows("Choose another name"));
        assert_saved(*state, "old.tar", "precious");
        assert_files(*state, 1);
}

static void test_replaced_is_the_file_behind_a_link(void **state) {
        Harness *h = *state;
        g_autofree char *link = path_of_saved(h, "link.tar"), *found = NULL;

        store_simple(bus, "a");
        write_saved(h, "old.tar", "old");
        assert_int_equal(symlink("old.tar", link), 0);

        open_window();
        back_up_and_replace(h, "link.tar");
        wait_until(screen_shows("1 license is in “link.tar”"));
        assert_verifies(h, "old.tar", "1 license");
        found = g_file_read_link(link, NULL);
        assert_string_equal(found, "old.tar");
        assert_files(h, 2);
}

static void test_folder_that_is_not_there_is_told(void **state) {
        store_simple(bus, "a");

        open_window();
        act_on(*state, "backup-to", "nowhere/new.tar");
        wait_until(screen_shows("The Backup Failed"));
        assert_true(screen_shows("“new.tar” cannot be written there. Choose another folder: No such file"));
}

static void test_where_nothing_can_be_put_beside_a_new_file_is_written_in_place(void **state) {
        store_many(bus, "license", 20, 1000);

        nothing_beside = true;
        open_window();
        back_up_and_replace(*state, "new.tar");
        wait_until(screen_shows("20 licenses are in “new.tar”"));
        assert_verifies(*state, "new.tar", "20 licenses");
        assert_files(*state, 1);

        /* There is nobody to write a second one: nothing of it must stay. */
        harness_stop(*state);
        wait_until(screen_shows("The License Service Is Not Running"));
        back_up_and_replace(*state, "second.tar");
        wait_until(screen_shows("“second.tar” was not written."));
        assert_true(screen_shows("The license service is not running. Try again once it runs."));
        assert_files(*state, 1);
}

static void test_where_nothing_can_be_put_beside_an_old_file_stays(void **state) {
        store_simple(bus, "a");
        write_saved(*state, "old.tar", "old");

        nothing_beside = true;
        open_window();
        back_up_and_replace(*state, "old.tar");
        wait_until(screen_shows("“old.tar” cannot be replaced: no new file can be made beside it"));
        assert_saved(*state, "old.tar", "old");
        assert_files(*state, 1);
}

/* The dialog. */

static void test_dialog_asks_before_a_file_is_replaced(void **state) {
        g_autofree char *folder = harness_path(*state, "saved");
        GtkFileChooser *dialog;

        store_simple(bus, "a");
        write_saved(*state, "old.tar", "old");
        /* That is where it begins. */
        assert_int_equal(chdir(folder), 0);

        open_window();
        screen_press("Back Up…");
        wait_until(screen_window(GTK_TYPE_FILE_CHOOSER_DIALOG));
        dialog = GTK_FILE_CHOOSER(screen_window(GTK_TYPE_FILE_CHOOSER_DIALOG));
        g_autofree char *proposed = gtk_file_chooser_get_current_name(dialog);
        assert_true(g_pattern_match_simple("licenses-20*.tar", proposed));
        gtk_file_chooser_set_current_name(dialog, "old.tar");
        /* It passes over who presses before it has read the folder. */
        for (unsigned i = 0; !screen_offers("Replace"); i++) {
                if (i % 20 == 0)
                        screen_press("Back Up");
                screen_iterate();
                assert_true(i < PATIENCE_SEC * 20);
        }
        screen_press("Replace");
        wait_until(screen_shows("1 license is in “old.tar”"));
        assert_verifies(*state, "old.tar", "1 license");
        assert_files(*state, 1);
}

/* The end of a job. */

/* A backup in the window that has begun, and goes no further: the service is stopped, as by Ctrl-Z. Returns its job. */
static char *begin_stopped_backup(Harness *h) {
        const char *job;

        store_many(bus, "license", 20000, 1000);
        open_window();
        wait_until(screen_shows("The first "));
        /* On a busy machine this process may sleep through a whole backup. */
        do {
                write_saved(h, "old.tar", "old");
                wait_until(screen_offers("Back Up…"));
                back_up_and_replace(h, "old.tar");
                wait_until(!screen_offers("Back Up…"));
                wait_until(screen_shows("Backing up") || screen_offers("Back Up…"));
        } while (screen_offers("Back Up…"));
        _cleanup_message_ sd_bus_message *jobs = call(bus, ROOT, "Manager.ListJobs", "");
        assert_int_equal(kill(h->daemon, SIGSTOP), 0);
        assert_true(sd_bus_message_enter_container(jobs, 'a', "(osus)") > 0);
        assert_true(sd_bus_message_read(jobs, "(osus)", &job, NULL, NULL, NULL) > 0);
        return g_strdup(job);
}

static void go_on(Harness *h) {
        assert_int_equal(kill(h->daemon, SIGCONT), 0);
}

static void test_canceled_backup_leaves_the_old_one(void **state) {
        g_free(begin_stopped_backup(*state));
        assert_false(screen_offers("Back Up…"));
        assert_non_null(screen_find(GTK_TYPE_PROGRESS_BAR));
        screen_press("Cancel");
        wait_until(screen_shows("Canceling…"));
        assert_false(screen_offers("Cancel"));
        go_on(*state);
        wait_until(screen_shows("Backup canceled. “old.tar” is as it was."));
        assert_saved(*state, "old.tar", "old");
        assert_files(*state, 1);
        wait_until(!screen_find(GTK_TYPE_PROGRESS_BAR));
        assert_true(screen_offers("Back Up…"));
}

static void test_closing_asks_and_stops_the_backup(void **state) {
        g_free(begin_stopped_backup(*state));
        gtk_window_close(GTK_WINDOW(the_window()));
        wait_until(screen_shows("Stop the Backup?"));
        screen_press("Continue");
        wait_until(!screen_shows("Stop the Backup?"));
        assert_non_null(the_window());

        gtk_window_close(GTK_WINDOW(the_window()));
        screen_press("Stop");
        go_on(*state);
        wait_until(!the_window());
        assert_saved(*state, "old.tar", "old");
        assert_files(*state, 1);
}

static void test_service_that_is_killed_and_comes_back(void **state) {
        Harness *h = *state;

        g_free(begin_stopped_backup(h));
        harness_kill(h);
        wait_until(screen_shows("The Backup Failed"));
        assert_true(screen_shows("The license service stopped while it worked."));
        assert_true(screen_shows("“old.tar” is as it was."));
        screen_press("Close");
        wait_until(screen_shows("The License Service Is Not Running"));
        assert_saved(h, "old.tar", "old");
        assert_files(h, 1);
        assert_false(screen_offers("Back Up…"));
        assert_false(screen_offers("Restore…"));
        screen_press("Try Again");
        wait_until(screen_shows("The License Service Is Not Running"));

        harness_start(h);
        wait_until(screen_shows("The first "));
        back_up_and_replace(h, "old.tar");
        wait_until(screen_shows("20000 licenses are in “old.tar”"));
        assert_verifies(h, "old.tar", "20000 licenses");
}

static void test_lost_bus_is_told(void **state) {
        Harness *h = *state;

        g_free(begin_stopped_backup(h));
        harness_stop_bus(h);
        wait_until(screen_shows("The Backup Failed"));
        assert_true(screen_shows("“old.tar” is as it was."));
        screen_press("Close");
        wait_until(screen_shows("The System Bus Cannot Be Reached"));
        assert_false(screen_offers("Back Up…"));
        screen_press("Try Again");
        wait_until(screen_shows("The System Bus Cannot Be Reached"));
        assert_saved(h, "old.tar", "old");
        assert_files(h, 1);

        /* The service ends itself, too. */
        go_on(h);
        assert_int_not_equal(harness_wait(h, h->daemon), 0);
}

static void test_window_without_a_service_shows_it_once_it_is_there(void **state) {
        open_window();
        wait_until(screen_shows("The License Service Is Not Running"));
        harness_start(*state);
        wait_until(screen_shows("No Licenses Yet"));
}

/* Another program says that the backup is done: whoever is on the bus can send that. */
static void test_forged_end_is_passed_over(void **state) {
        Harness *h = *state;
        sd_bus *forger = harness_connect_uid(h, geteuid());
        _cleanup_message_ sd_bus_message *done = NULL;

        g_autofree char *job = begin_stopped_backup(h);
        assert_true(sd_bus_message_new_signal(forger, &done, job, "org.licensevault1.Job", "Done") >= 0);
        assert_true(sd_bus_message_set_destination(done,
                            g_dbus_connection_get_unique_name(license_window_bus(the_window()))) >= 0);
        assert_true(sd_bus_message_append(done, "uissa{sv}", 27, 0, "", "", 1, "licenses", "t", UINT64_C(7)) >= 0);
        assert_true(sd_bus_send(forger, done, NULL) >= 0);
        assert_true(sd_bus_flush(forger) >= 0);

        /* What the window hears of the real end, it hears after that. */
        screen_press("Cancel");
        go_on(h);
        wait_until(screen_shows("Backup canceled.") || screen_shows(" are in “old.tar”"));
        assert_true(screen_shows("Backup canceled. “old.tar” is as it was."));
        assert_saved(h, "old.tar", "old");
}

/* Restores. */

static void test_restore_brings_back_what_was_missing(void **state) {
        need_machine_id();
        store_many(bus, "license", 3, 100);
        save_backup(*state, bus, "saved/backup.tar");
        delete_license(bus, "license00001");

        open_window();
        wait_until(screen_shows("2 licenses"));
        act_on(*state, "restore-from", "backup.tar");
        wait_until(screen_shows("Restored 1 License"));
        assert_true(screen_shows("2 licenses are here already."));
        screen_press("Close");
        wait_until(screen_shows("3 licenses"));
}

static void test_restore_from_another_machine_asks(void **state) {
        store_many(bus, "license", 3, 100);
        save_foreign(*state, "foreign.tar");
        delete_license(bus, "license00001");

        open_window();
        wait_until(screen_shows("2 licenses"));
        act_on(*state, "restore-from", "foreign.tar");
        wait_until(screen_shows("Bring Over Licenses?"));
        assert_true(screen_shows("anna on laptop"));
        screen_press("Cancel");
        wait_until(screen_shows("Nothing was restored."));
        assert_no_license(bus, "license00001");

        act_on(*state, "restore-from", "foreign.tar");
        screen_press("Bring Over");
        wait_until(screen_shows("Restored 1 License"));
        assert_true(screen_shows("anna on laptop"));
        screen_press("Close");
        wait_until(screen_shows("3 licenses"));
}

static void test_conflicts_are_named(void **state) {
        need_machine_id();
        g_free(store_license(bus, "x", 1, "a{sv}", 2, "LicenseId", "s", "a", "Title", "s", "Middlemarch"));
        save_backup(*state, bus, "saved/backup.tar");
        g_free(store_license(bus, "y", 1, "a{sv}", 2, "LicenseId", "s", "a", "Title", "s", "Middlemarch"));

        open_window();
        act_on(*state, "restore-from", "backup.tar");
        wait_until(screen_shows("Nothing Was Missing"));
        assert_true(screen_shows("1 license is another one here, and nothing says which is newer"));
        wait_until(screen_find(ADW_TYPE_ACTION_ROW));
}

static void test_damaged_backup_is_told_and_changes_nothing(void **state) {
        store_simple(bus, "a");
        save_backup(*state, bus, "whole.tar");
        g_autofree char *from = harness_path(*state, "whole.tar"), *to = path_of_saved(*state, "cut.tar");
        size_t size;
        g_autofree char *content = read_file(from, &size);
        write_file(to, content, size / 2);

        open_window();
        act_on(*state, "restore-from", "cut.tar");
        wait_until(screen_shows("The Restore Failed"));
        assert_true(screen_shows("Your licenses are as they were."));
        screen_press("Close");
        act_on(*state, "restore-from", "nowhere.tar");
        wait_until(screen_shows("“nowhere.tar” cannot be opened: No such file or directory."));
}

/* The program as it is started. */

static GPid start_program(const char *option, const char *path) {
        char *line[] = { (char *)g_getenv("LICENSEVAULT_WINDOW"), (char *)option, (char *)path, NULL };
        g_autoptr(GError) error = NULL;
        GPid pid = 0;

        if (!g_spawn_async(NULL, line, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &pid, &error))
                fail_msg("%s", error->message);
        return pid;
}

static void test_program_backs_up_from_its_command_line(void **state) {
        Harness *h = *state;
        g_autofree char *first = path_of_saved(h, "first.tar"), *second = path_of_saved(h, "second.tar");
        g_autoptr(GDBusConnection) session = NULL;
        g_autoptr(GVariant) answer = NULL;
        g_autoptr(GError) error = NULL;

        store_simple(bus, "a");
        GPid pid = start_program("--backup", first);
        wait_until(access(first, F_OK) == 0);
        assert_verifies(h, "first.tar", "1 license");

        /* The second one hands it over, and leaves. */
        assert_int_equal(harness_wait(h, start_program("--backup", second)), 0);
        wait_until(access(second, F_OK) == 0);
        assert_verifies(h, "second.tar", "1 license");

        session = g_bus_get_sync(G_BUS_TYPE_SESSION, NULL, &error);
        assert_non_null(session);
        answer = g_dbus_connection_call_sync(session, "org.licensevault1.Window", "/org/licensevault1/Window",
                "org.gtk.Actions", "Activate", g_variant_new_parsed("('quit', @av [], @a{sv} {})"), NULL,
                G_DBUS_CALL_FLAGS_NONE, -1, NULL, &error);
        if (!answer)
                fail_msg("%s", error->message);
        assert_int_equal(harness_wait(h, pid), 0);
        assert_files(h, 2);
}

/* With an argument: only the tests whose names match it. */
int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
                TEST(test_licenses_are_listed_with_what_is_known_of_them),
                TEST(test_many_licenses_come_as_they_are_scrolled_to),
                TEST(test_an_empty_list_says_what_to_do_and_is_read_again),
                TEST(test_backup_is_whole_and_its_folder_clean),
                TEST(test_what_may_not_be_backed_up_is_named),
                TEST(test_command_line_replaces_no_file),
                TEST(test_replaced_is_the_file_behind_a_link),
                TEST(test_folder_that_is_not_there_is_told),
                TEST(test_where_nothing_can_be_put_beside_a_new_file_is_written_in_place),
                TEST(test_where_nothing_can_be_put_beside_an_old_file_stays),
                TEST(test_dialog_asks_before_a_file_is_replaced),
                TEST(test_canceled_backup_leaves_the_old_one),
                TEST(test_closing_asks_and_stops_the_backup),
                TEST(test_service_that_is_killed_and_comes_back),
                TEST(test_forged_end_is_passed_over),
                TEST(test_lost_bus_is_told),
                cmocka_unit_test_setup_teardown(test_window_without_a_service_shows_it_once_it_is_there,
                        setup_folders, teardown),
                TEST(test_restore_brings_back_what_was_missing),
                TEST(test_restore_from_another_machine_asks),
                TEST(test_conflicts_are_named),
                TEST(test_damaged_backup_is_told_and_changes_nothing),
                TEST(test_program_backs_up_from_its_command_line),
        };

        cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
        g_set_prgname("test-window");
        /* Not unique: one of these tests starts the program, which must not hand over to this process. */
        application = license_application_new(G_APPLICATION_NON_UNIQUE);
        g_application_register(G_APPLICATION(application), NULL, NULL);
        return cmocka_run_group_tests_name("window", tests, NULL, NULL);
}
