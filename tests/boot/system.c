/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "system.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define DROP_INS "/etc/systemd/system/" UNIT ".d"
#define DROP_IN DROP_INS "/50-test.conf"

const char *const system_users[TEST_USERS] = { "lv-anna", "lv-bert", "lv-carl" };

static char *journal_cursor;
static const char *expected_signal;

char *run_good(const char *const *arguments) {
        g_autofree char *out = NULL, *err = NULL;
        int status = run_program(arguments, &out, &err);

        if (status != 0) {
                g_autofree char *line = g_strjoinv(" ", (char **)arguments);
                fail_msg("'%s' ended with %d: %s", line, status, err);
        }
        return g_strchomp(g_steal_pointer(&out));
}

void run_quietly(const char *const *arguments) {
        g_free(run_good(arguments));
}

int run_as(const char *user, const char *const *arguments, char **ret_stdout, char **ret_stderr) {
        g_autofree char *home = home_path(user, NULL), *home_variable = g_strconcat("HOME=", home, NULL);
        g_autoptr(GPtrArray) line = g_ptr_array_new();

        for (const char *const *a = ARGUMENTS("runuser", "-u", user, "--", "env", "-C", home, home_variable); *a; a++)
                g_ptr_array_add(line, (void *)*a);
        for (; *arguments; arguments++)
                g_ptr_array_add(line, (void *)*arguments);
        g_ptr_array_add(line, NULL);
        return run_program((const char *const *)line->pdata, ret_stdout, ret_stderr);
}

pid_t run_behind(const char *const *arguments) {
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                execvp(arguments[0], (char *const *)arguments);
                _exit(127);
        }
        return pid;
}

/* In the child that opens the file: it becomes the user in all that FUSE looks at, which is every uid and gid. */
static int open_and_send(int socket_fd, uid_t uid, const char *path, int flags, mode_t mode) {
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int))];
        } control = {};
        char letter = 'x';
        struct iovec content = { .iov_base = &letter, .iov_len = 1 };
        struct msghdr message = {
                .msg_iov = &content,
                .msg_iovlen = 1,
                .msg_control = &control,
                .msg_controllen = sizeof control,
        };
        struct passwd *entry = getpwuid(uid);
        int fd;

        if (!entry || setgroups(0, NULL) < 0 || setgid(entry->pw_gid) < 0 || setuid(uid) < 0)
                return errno ?: ENOENT;
        fd = open(path, flags | O_CLOEXEC, mode);
        if (fd < 0)
                return errno;
        control.header = (struct cmsghdr) {
                .cmsg_level = SOL_SOCKET,
                .cmsg_type = SCM_RIGHTS,
                .cmsg_len = CMSG_LEN(sizeof(int)),
        };
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
        return sendmsg(socket_fd, &message, MSG_NOSIGNAL) == 1 ? 0 : errno;
}

static int receive_descriptor(int socket_fd) {
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int))];
        } control = {};
        char letter;
        struct iovec content = { .iov_base = &letter, .iov_len = 1 };
        struct msghdr message = {
                .msg_iov = &content,
                .msg_iovlen = 1,
                .msg_control = &control,
                .msg_controllen = sizeof control,
        };
        int fd;

        assert_int_equal(recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC), 1);
        assert_true(message.msg_controllen >= sizeof control.header);
        memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
        return fd;
}

int open_as(uid_t uid, const char *path, int flags, mode_t mode) {
        int fds[2], fd, status;
        pid_t pid;

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
                _exit(open_and_send(fds[1], uid, path, flags, mode));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (status != 0)
                fail_msg("uid %u cannot open %s: %s", (unsigned)uid, path, strerror(WEXITSTATUS(status)));
        fd = receive_descriptor(fds[0]);
        close(fds[0]);
        close(fds[1]);
        return fd;
}

char *unit_property(const char *name) {
        return run_good(ARGUMENTS("systemctl", "show", "--value", "--property", name, UNIT));
}

void expect_unit_property(const char *name, const char *value) {
        g_autofree char *found = NULL;

        for (unsigned i = 0; i < PATIENCE_SEC * 20; i++) {
                g_free(found);
                found = unit_property(name);
                if (strcmp(found, value) == 0)
                        return;
                sleep_msec(50);
        }
        fail_msg("%s= of the unit stays '%s'; expected '%s'", name, found, value);
}

pid_t unit_pid(void) {
        g_autofree char *text = unit_property("MainPID");
        pid_t pid = (pid_t)strtol(text, NULL, 10);

        if (pid <= 1)
                fail_msg("The unit has no main process (MainPID=%s)", text);
        return pid;
}

void unit_drop_in(const char *lines) {
        run_quietly(ARGUMENTS("mkdir", "-p", DROP_INS));
        write_file(DROP_IN, lines, strlen(lines));
        systemctl("daemon-reload");
}

char *unit_journal(void) {
        g_autofree char *after = g_strconcat("--after-cursor=", journal_cursor, NULL);

        run_quietly(ARGUMENTS("journalctl", "--sync"));
        return run_good(ARGUMENTS("journalctl", "--no-pager", "--output=cat", "--unit", UNIT, after));
}

void expect_journal(const char *text) {
        for (unsigned i = 0; i < PATIENCE_SEC * 10; i++) {
                g_autofree char *journal = unit_journal();
                if (strstr(journal, text))
                        return;
                sleep_msec(100);
        }
        fail_msg("The journal of the unit has no '%s'", text);
}

/* Where the journal stands. */
static char *find_cursor(void) {
        static const char prefix[] = "-- cursor: ";
        g_autofree char *shown = NULL;
        char *cursor;

        run_quietly(ARGUMENTS("journalctl", "--sync"));
        shown = run_good(ARGUMENTS("journalctl", "--no-pager", "--output=cat", "--lines=1", "--show-cursor"));
        cursor = strstr(shown, prefix);
        assert_non_null(cursor);
        return g_strdup(cursor + strlen(prefix));
}

uid_t add_user(const char *name, uid_t uid) {
        g_autofree char *number = g_strdup_printf("%u", (unsigned)uid);
        struct passwd *entry;

        if (uid == 0)
                run_quietly(ARGUMENTS("useradd", "--create-home", "--key", "HOME_MODE=0700", name));
        else
                run_quietly(ARGUMENTS("useradd", "--create-home", "--key", "HOME_MODE=0700", "--uid", number, name));
        entry = getpwnam(name);
        assert_non_null(entry);
        return entry->pw_uid;
}

void delete_user(const char *name) {
        run_quietly(ARGUMENTS("userdel", "--remove", name));
}

char *home_path(const char *user, const char *name) {
        return g_build_filename("/home", user, name, NULL);
}

void system_add_users(Harness *h) {
        for (; h->n_users < TEST_USERS; h->n_users++) {
                struct passwd *entry = getpwnam(system_users[h->n_users]);

                h->users[h->n_users] = entry ? entry->pw_uid : add_user(system_users[h->n_users], 0);
        }
}

int system_setup(void **state) {
        if (!g_getenv("LICENSEVAULT_BOOT_BUS"))
                fail_msg("This changes the machine it runs on; tests/boot/run gives it one of its own.");

        systemctl("stop", UNIT);
        run_quietly(ARGUMENTS("rm", "-rf", STATE, "/etc/licensevault"));
        run_quietly(ARGUMENTS("systemd-tmpfiles", "--create", "licensevault.conf"));
        if (g_file_test(DROP_IN, G_FILE_TEST_EXISTS)) {
                assert_int_equal(unlink(DROP_IN), 0);
                systemctl("daemon-reload");
        }
        /* The unit's limit of starts in a minute is for daemons that fail, not for tests. */
        run_program(ARGUMENTS("systemctl", "reset-failed", UNIT), NULL, NULL);

        harness_setup_system(state);
        system_add_users(*state);
        g_free(journal_cursor);
        journal_cursor = find_cursor();
        expected_signal = NULL;
        return 0;
}

int system_setup_running(void **state) {
        system_setup(state);
        systemctl("start", UNIT);
        return 0;
}

void system_expect_signal(const char *name) {
        expected_signal = name;
}

/* Returns whether no process of the unit was killed, but by what the test expects. */
static bool check_signals(void) {
        g_autofree char *journal = unit_journal();
        g_autoptr(GRegex) regex = g_regex_new("process exited, code=(?:killed|dumped), status=[0-9]+/([A-Z0-9]+)", 0,
                0, NULL);
        g_autoptr(GMatchInfo) match = NULL;
        bool good = true;

        for (g_regex_match(regex, journal, 0, &match); g_match_info_matches(match); g_match_info_next(match, NULL)) {
                g_autofree char *name = g_match_info_fetch(match, 1);

                if (g_strcmp0(name, expected_signal) != 0) {
                        print_error("A process of %s was ended by SIG%s. The journal:\n%s\n", UNIT, name, journal);
                        good = false;
                }
        }
        return good;
}

int system_teardown(void **state) {
        bool good;

        systemctl("stop", UNIT);
        good = check_signals();
        return harness_teardown(state) == 0 && good ? 0 : -1;
}
