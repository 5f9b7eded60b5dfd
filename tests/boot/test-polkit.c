/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who may do what with others' licenses, where the real polkit decides, for a service that is not root. */
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "system.h"

#define TO_FILE "LicenseBackup.BackupLicensesToFile"
#define FROM_FILE "LicenseRestore.RestoreLicensesFromFile"
#define ACTION "org.licensevault1.manage-others"
#define RULES "/etc/polkit-1/rules.d/10-licensevault-test.rules"
#define ADMINISTRATOR "lv-admin"
#define PASSWORD "not a secret 7"

static int setup(void **state) {
        system_setup_running(state);
        systemctl("start", "polkit.service");
        return 0;
}

static int teardown(void **state) {
        (void)unlink(RULES);
        systemctl("unmask", "--runtime", "polkit.service");
        systemctl("restart", "polkit.service");
        return system_teardown(state);
}

/* A restart is what makes sure that a rule holds; polkit itself looks for them now and then. */
static void set_rule(const char *result) {
        g_autofree char *rule = g_strdup_printf(
                "polkit.addRule(function (action, subject) {\n"
                "    if (action.id == \"" ACTION "\" && subject.user == \"%s\")\n"
                "        return polkit.Result.%s;\n"
                "});\n", system_users[0], result);

        write_file(RULES, rule, strlen(rule));
        assert_int_equal(chmod(RULES, 0644), 0);
        systemctl("restart", "polkit.service");
}

/* A new file of a user's, in its home. */
static int new_file(Harness *h, unsigned user, const char *name) {
        g_autofree char *path = home_path(system_users[user], name);

        (void)unlink(path);
        return open_as(h->users[user], path, O_RDWR | O_CREAT | O_EXCL, 0600);
}

static void store_for_all(Harness *h) {
        for (unsigned i = 0; i < TEST_USERS; i++)
                store_simple(harness_connect(h, i), "one");
}

static void assert_refused(sd_bus *bus, int fd, bool interactive, const char *error, const char *glob) {
        sd_bus_message *message = new_call(bus, ROOT, TO_FILE);

        assert_true(sd_bus_message_append(message, "hua{sv}", fd, 0, 1, "AllUsers", "b", 1) >= 0);
        assert_true(sd_bus_message_set_allow_interactive_authorization(message, interactive) >= 0);
        send_call_error(bus, message, error, glob);
        assert_int_equal(lseek(fd, 0, SEEK_END), 0);
}

static void test_action_is_the_services_own(void **state) {
        g_autofree char *shown = run_good(ARGUMENTS("pkaction", "--verbose", "--action-id", ACTION));

        assert_non_null(strstr(shown, "unix-user:licensevault"));
        assert_non_null(strstr(shown, "Authentication is required to back up or restore the licenses of other users"));
        assert_non_null(strstr(shown, "auth_admin_keep"));
}

static void test_others_need_an_administrator_who_can_be_asked(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        int fd = new_file(h, 0, "all.tar");
        store_for_all(h);

        assert_refused(bus, fd, false, "InteractiveAuthorizationRequired", "*run as root*");
        assert_refused(bus, fd, true, "AccessDenied", "*nobody to ask*");
        close(fd);
}

static void test_a_rule_lets_one_user_manage_others(void **state) {
        Harness *h = *state;
        sd_bus *allowed = harness_connect(h, 0), *other = harness_connect(h, 1);
        int fd = new_file(h, 0, "all.tar"), other_fd = new_file(h, 1, "all.tar");
        store_for_all(h);
        set_rule("YES");

        g_autofree char *job = call_string(allowed, ROOT, TO_FILE, "hua{sv}", fd, 0, 1, "AllUsers", "b", 1);
        g_autoptr(GHashTable) result = assert_job_succeeds(allowed, job);
        assert_property(result, "licenses", "3");
        assert_refused(other, other_fd, false, "InteractiveAuthorizationRequired", NULL);

        /* And to bring them back, each to its own. */
        sd_bus *third = harness_connect(h, 2);
        call_void(third, ROOT, "LicenseStore.DeleteLicense", "s", "one");
        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        g_autofree char *restore = call_string(allowed, ROOT, FROM_FILE, "hua{sv}", fd, 0, 1, "AllUsers", "b", 1);
        g_autoptr(GHashTable) restored = assert_job_succeeds(allowed, restore);
        assert_property(restored, "restored", "1");
        assert_property(restored, "unchanged", "2");
        call_void(third, ROOT, "LicenseStore.GetLicense", "s", "one");

        /* One other user's alone. */
        int one_fd = new_file(h, 0, "one.tar");
        g_autofree char *one = call_string(allowed, ROOT, TO_FILE, "hua{sv}", one_fd, 0, 1, "Owner", "u",
                (uint32_t)h->users[1]);
        g_autoptr(GHashTable) of_one = assert_job_succeeds(allowed, one);
        assert_property(of_one, "licenses", "1");
        close(fd);
        close(other_fd);
        close(one_fd);
}

static void test_a_rule_that_says_no_is_a_no(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        int fd = new_file(h, 0, "all.tar");
        set_rule("NO");

        assert_refused(bus, fd, true, "AccessDenied", "*not authorized*");
        close(fd);
}

static void test_root_needs_no_polkit_and_others_are_told_that_it_is_missing(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0), *root = harness_connect_uid(h, 0);
        int fd = new_file(h, 0, "all.tar"), root_fd = open("/root/all.tar", O_RDWR | O_CREAT | O_TRUNC, 0600);
        store_for_all(h);
        systemctl("mask", "--runtime", "--now", "polkit.service");

        assert_refused(bus, fd, true, "AccessDenied", "*polkit*does not run*root alone*");
        g_autofree char *job = call_string(root, ROOT, TO_FILE, "hua{sv}", root_fd, 0, 1, "AllUsers", "b", 1);
        g_autoptr(GHashTable) result = assert_job_succeeds(root, job);
        assert_property(result, "licenses", "3");

        /* What is one's own goes on as if nothing were. */
        g_autofree char *own = call_string(bus, ROOT, TO_FILE, "hua{sv}", fd, 0, 0);
        g_hash_table_unref(assert_job_succeeds(bus, own));
        close(fd);
        close(root_fd);
}

/* Asking a person */

typedef struct Terminal {
        int fd;
        pid_t pid;
        GString *shown;
} Terminal;

/* An agent that is there before the command: that of licensevaultctl goes with it. */
#define WITH_AGENT "mkfifo -m 600 ready; pkttyagent --process $$ --notify-fd 3 3>ready & read x <ready; rm ready; "

/* Runs a command of the first user on a terminal of its own. (runuser would take the terminal away.) */
static void start_on_terminal(Harness *h, Terminal *terminal, const char *before, const char *command) {
        g_autofree char *home = home_path(system_users[0], NULL);
        g_autofree char *script = g_strdup_printf("%sexec %s", before, command);

        terminal->shown = g_string_new(NULL);
        terminal->pid = forkpty(&terminal->fd, NULL, NULL, NULL);
        assert_true(terminal->pid >= 0);
        if (terminal->pid == 0) {
                /* The outer shell has the terminal, and keeps it where the inner one's command is killed. */
                if (setgroups(0, NULL) == 0 && setgid(h->users[0]) == 0 && setuid(h->users[0]) == 0 && chdir(home) == 0)
                        execlp("sh", "sh", "-c", "sh -c \"$1\"; s=$?; [ $s -lt 128 ] || read x; exit $s", "sh",
                                script, NULL);
                _exit(127);
        }
}

static void expect_on_terminal(Terminal *terminal, const char *text) {
        while (!strstr(terminal->shown->str, text)) {
                struct pollfd wait = { .fd = terminal->fd, .events = POLLIN };
                char buffer[1024];
                ssize_t n = 0;

                if (poll(&wait, 1, PATIENCE_SEC * 1000) != 1 ||
                        (n = read(terminal->fd, buffer, sizeof buffer)) <= 0)
                        fail_msg("The terminal has no '%s', but: %s", text, terminal->shown->str);
                g_string_append_len(terminal->shown, buffer, n);
        }
}

/* Types a password once the terminal does not show it: the agent asks first, and then throws away what was typed. */
static void type_unseen(Terminal *terminal, const char *keys) {
        struct termios settings;

        do {
                sleep_msec(10);
                assert_int_equal(tcgetattr(terminal->fd, &settings), 0);
        } while (settings.c_lflag & ECHO);
        assert_int_equal(write(terminal->fd, keys, strlen(keys)), strlen(keys));
}

/* Reads to the end. Returns the exit status. */
static int end_terminal(Terminal *terminal) {
        char buffer[1024];
        int status;
        ssize_t n;

        while ((n = read(terminal->fd, buffer, sizeof buffer)) > 0)
                g_string_append_len(terminal->shown, buffer, n);
        close(terminal->fd);
        assert_int_equal(waitpid(terminal->pid, &status, 0), terminal->pid);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void add_administrator(void) {
        const char line[] = ADMINISTRATOR ":" PASSWORD "\n";
        int fds[2], status;
        pid_t pid;

        if (run_program(ARGUMENTS("id", ADMINISTRATOR), NULL, NULL) == 0)
                return;
        run_quietly(ARGUMENTS("useradd", "--create-home", "--groups", "sudo", ADMINISTRATOR));
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0) {
                dup2(fds[0], STDIN_FILENO);
                execlp("chpasswd", "chpasswd", NULL);
                _exit(127);
        }
        close(fds[0]);
        assert_int_equal(write(fds[1], line, strlen(line)), strlen(line));
        close(fds[1]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

static void test_administrator_who_authenticates_lets_the_backup_through(void **state) {
        Harness *h = *state;
        g_autofree char *path = home_path(system_users[0], "asked.tar");
        Terminal terminal;
        struct stat st;
        store_for_all(h);
        add_administrator();
        (void)unlink(path);

        /* licensevaultctl has brought the agent. */
        start_on_terminal(h, &terminal, "", "licensevaultctl backup --all-users --output asked.tar");
        expect_on_terminal(&terminal, "Authentication is required to back up or restore the licenses of other users");
        expect_on_terminal(&terminal, "Password: ");
        type_unseen(&terminal, PASSWORD "\n");
        expect_on_terminal(&terminal, "Backed up 3 licenses to 'asked.tar'");
        assert_int_equal(end_terminal(&terminal), 0);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_uid, h->users[0]);

        /* It has taken it along, and left the terminal as it was. A wrong password is a no. */
        assert_int_not_equal(run_program(ARGUMENTS("pgrep", "-u", system_users[0], "pkttyagent"), NULL, NULL), 0);
        (void)unlink(path);
        systemctl("restart", "polkit.service");
        start_on_terminal(h, &terminal, "",
                "sh -c 'licensevaultctl backup --all-users --output asked.tar; s=$?; stty -a; exit $s'");
        expect_on_terminal(&terminal, "Password: ");
        type_unseen(&terminal, "wrong\n");
        assert_int_equal(end_terminal(&terminal), 7);
        assert_non_null(strstr(terminal.shown->str, " echo "));
        assert_int_equal(access(path, F_OK), -1);

        /* With --quiet nobody is asked, though somebody could be. */
        start_on_terminal(h, &terminal, WITH_AGENT, "licensevaultctl --quiet backup --owner root --output asked.tar");
        assert_int_equal(end_terminal(&terminal), 7);
        assert_null(strstr(terminal.shown->str, "Password: "));
        assert_int_equal(access(path, F_OK), -1);
}

#define SEEN "/run/seen-by-monitor"

static void expect_seen(const char *text) {
        for (unsigned i = 0; i < PATIENCE_SEC * 20; i++) {
                g_autofree char *seen = g_file_test(SEEN, G_FILE_TEST_EXISTS) ? read_file(SEEN, NULL) : NULL;

                if (seen && strstr(seen, text))
                        return;
                sleep_msec(50);
        }
        fail_msg("The monitor has not seen '%s'", text);
}

static void test_question_goes_away_with_who_asked(void **state) {
        Harness *h = *state;
        Terminal terminal;
        pid_t monitor;
        add_administrator();
        (void)unlink(SEEN);
        monitor = run_behind(ARGUMENTS("sh", "-c", "exec busctl monitor org.freedesktop.PolicyKit1 >" SEEN " 2>&1"));
        expect_seen("Monitoring bus message stream.");

        start_on_terminal(h, &terminal, WITH_AGENT, "licensevaultctl backup --all-users --output left.tar");
        expect_on_terminal(&terminal, "Password: ");
        g_autofree char *before = read_file(SEEN, NULL);
        assert_null(strstr(before, "CancelAuthentication"));
        run_quietly(ARGUMENTS("pkill", "-KILL", "-u", system_users[0], "-f", "^licensevaultctl"));
        /* What polkit says to the agent. */
        expect_seen("Member=CancelAuthentication");
        run_quietly(ARGUMENTS("pkill", "-KILL", "-u", system_users[0]));
        (void)end_terminal(&terminal);
        assert_int_equal(kill(monitor, SIGTERM), 0);
        assert_int_equal(waitpid(monitor, NULL, 0), monitor);

        /* The service forgot it, too. */
        sd_bus *bus = harness_connect(h, 0);
        int fd = new_file(h, 0, "all.tar");
        for (unsigned i = 0; i < 5; i++)
                assert_refused(bus, fd, false, "InteractiveAuthorizationRequired", NULL);
        close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_action_is_the_services_own),
                TEST(test_others_need_an_administrator_who_can_be_asked),
                TEST(test_a_rule_lets_one_user_manage_others),
                TEST(test_a_rule_that_says_no_is_a_no),
                TEST(test_root_needs_no_polkit_and_others_are_told_that_it_is_missing),
                TEST(test_administrator_who_authenticates_lets_the_backup_through),
                TEST(test_question_goes_away_with_who_asked),
        };

        return cmocka_run_group_tests_name("polkit", tests, NULL, NULL);
}
