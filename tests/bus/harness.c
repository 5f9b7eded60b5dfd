/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "harness.h"

#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "monitor.h"

/* As /usr/share/dbus-1/system.conf has it, but for max_connections_per_user: one test needs 600. */
static const char bus_configuration[] =
        "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\"\n"
        " \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n"
        "<busconfig>\n"
        "  <type>system</type>\n"
        "  <listen>unix:path=%s/bus</listen>\n"
        "  <auth>EXTERNAL</auth>\n"
        "  <policy context=\"default\">\n"
        "    <allow user=\"*\"/>\n"
        "    <deny own=\"*\"/>\n"
        "    <deny send_type=\"method_call\"/>\n"
        "    <allow send_type=\"signal\"/>\n"
        "    <allow send_requested_reply=\"true\" send_type=\"method_return\"/>\n"
        "    <allow send_requested_reply=\"true\" send_type=\"error\"/>\n"
        "    <allow receive_type=\"method_call\"/>\n"
        "    <allow receive_type=\"method_return\"/>\n"
        "    <allow receive_type=\"error\"/>\n"
        "    <allow receive_type=\"signal\"/>\n"
        "    <allow send_destination=\"org.freedesktop.DBus\" send_interface=\"org.freedesktop.DBus\"/>\n"
        "    <allow send_destination=\"org.freedesktop.DBus\"\n"
        "           send_interface=\"org.freedesktop.DBus.Introspectable\"/>\n"
        "    <allow send_destination=\"org.freedesktop.DBus\"\n"
        "           send_interface=\"org.freedesktop.DBus.Properties\"/>\n"
        "    <allow send_destination=\"org.freedesktop.PolicyKit1\"/>\n" /* as polkit's own file has it */
        "  </policy>\n"
        "  <policy user=\"%u\">\n"
        "    <allow own=\"org.licensevault1\"/>\n"
        "    <allow own=\"org.freedesktop.PolicyKit1\"/>\n"
        "    <allow send_destination=\"org.freedesktop.DBus\"\n"
        "           send_interface=\"org.freedesktop.DBus.Monitoring\"/>\n"
        "%s"
        "  </policy>\n"
        "%s"
        "  <limit name=\"max_incoming_bytes\">133169152</limit>\n"
        "  <limit name=\"max_outgoing_bytes\">133169152</limit>\n"
        "  <limit name=\"max_message_size\">33554432</limit>\n"
        "  <limit name=\"max_completed_connections\">2048</limit>\n"
        "  <limit name=\"max_incomplete_connections\">64</limit>\n"
        "  <limit name=\"max_connections_per_user\">800</limit>\n"
        "  <limit name=\"max_match_rules_per_connection\">512</limit>\n"
        "  <limit name=\"max_replies_per_connection\">128</limit>\n"
        "</busconfig>\n";

/* Root's in system.conf, and the service's in our own policy. */
static const char stats_rule[] =
        "    <allow send_destination=\"org.freedesktop.DBus\"\n"
        "           send_interface=\"org.freedesktop.DBus.Debug.Stats\"/>\n";

/* The project's own policy comes from the source, so that what is installed is what is tested. */
static char *policy_include(void) {
        const char *policy = g_getenv("LICENSEVAULT_POLICY");

        if (policy && g_file_test(policy, G_FILE_TEST_EXISTS))
                return g_strdup_printf("  <include>%s</include>\n", policy);

        return g_strdup("  <policy context=\"default\">\n"
                        "    <allow send_destination=\"org.licensevault1\"/>\n"
                        "  </policy>\n");
}

void sleep_msec(unsigned msec) {
        struct timespec t = { .tv_sec = msec / 1000, .tv_nsec = (long)(msec % 1000) * 1000000L };

        while (nanosleep(&t, &t) < 0 && errno == EINTR)
                ;
}

bool sanitized(void) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
        return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
        return true;
#endif
#endif
        return false;
}

static int compare_uids(const void *a, const void *b) {
        uid_t x = *(const uid_t *)a, y = *(const uid_t *)b;

        return x < y ? -1 : x > y;
}

/*
 * Users that the system knows: dbus-daemon turns away a uid without an entry. Root takes three that are
 * there everywhere and own no process that a test could meet.
 */
static void find_users(Harness *h) {
        GArray *uids = g_array_new(false, false, sizeof(uid_t));
        struct passwd *entry;

        if (geteuid() != 0) {
                h->users[h->n_users++] = geteuid();
                g_array_unref(uids);
                return;
        }

        setpwent();
        while ((entry = getpwent()))
                if (entry->pw_uid > 0 && entry->pw_uid < 61184)
                        g_array_append_val(uids, entry->pw_uid);
        endpwent();
        qsort(uids->data, uids->len, sizeof(uid_t), compare_uids);
        for (unsigned i = 0; i < uids->len && h->n_users < TEST_USERS; i++) {
                uid_t uid = g_array_index(uids, uid_t, i);
                if (h->n_users == 0 || h->users[h->n_users - 1] != uid)
                        h->users[h->n_users++] = uid;
        }
        g_array_unref(uids);
}

void harness_need_users(Harness *h, unsigned n) {
        if (h->n_users < n) {
                print_message("skipped: this needs %u users, and so root\n", n);
                skip();
        }
}

char *harness_path(Harness *h, const char *name) {
        return g_build_filename(h->folder, name, NULL);
}

/* In the child. Signals are as a service manager leaves them, and no child outlives a killed test. */
static void child_begin(pid_t parent) {
        struct sigaction action = { .sa_handler = SIG_DFL };

        for (int i = 1; i < NSIG; i++)
                sigaction(i, &action, NULL);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
                _exit(127);
}

static void start_bus(Harness *h, bool stats) {
        g_autofree char *configuration = harness_path(h, "bus.conf");
        g_autofree char *socket_path = harness_path(h, "bus");
        g_autofree char *include = policy_include();
        g_autofree char *text = g_strdup_printf(bus_configuration, h->folder, (unsigned)geteuid(),
                stats ? stats_rule : "", include);
        g_autofree char *option = g_strdup_printf("--config-file=%s", configuration);
        pid_t parent = getpid();
        int ready[2];
        char letter;

        write_file(configuration, text, strlen(text));
        h->address = g_strdup_printf("unix:path=%s", socket_path);
        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);

        h->bus = fork();
        assert_true(h->bus >= 0);
        if (h->bus == 0) {
                child_begin(parent);
                int fd = open(h->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
                dup2(ready[1], STDOUT_FILENO);
                dup2(fd, STDERR_FILENO);
                execlp("dbus-daemon", "dbus-daemon", "--nofork", "--nopidfile", "--print-address=1", option,
                        NULL);
                _exit(127);
        }

        /* It tells its address once it listens. */
        close(ready[1]);
        if (read(ready[0], &letter, 1) != 1)
                fail_msg("dbus-daemon did not start; is it installed?");
        close(ready[0]);
}

static char *new_folder(Harness *h, const char *name, mode_t mode) {
        char *path = harness_path(h, name);

        assert_int_equal(mkdir(path, 0700), 0);
        assert_int_equal(chmod(path, mode), 0);
        return path;
}

/* Folders of tests that have not come to their teardown. */
static GPtrArray *folders;

static void remove_folder(gpointer path) {
        if (g_getenv("LICENSEVAULT_TEST_KEEP"))
                print_message("kept: %s\n", (char *)path);
        else
                run_program((const char *[]) { "rm", "-rf", path, NULL }, NULL, NULL);
        g_free(path);
}

/* cmocka calls no teardown where a setup failed. */
static void remove_folders(void) {
        g_clear_pointer(&folders, g_ptr_array_unref);
}

static void register_folder(const char *path) {
        if (!folders) {
                folders = g_ptr_array_new_with_free_func(remove_folder);
                atexit(remove_folders);
        }
        g_ptr_array_add(folders, g_strdup(path));
}

static void unregister_folder(const char *path) {
        for (unsigned i = 0; i < folders->len; i++)
                if (strcmp(folders->pdata[i], path) == 0) {
                        g_ptr_array_remove_index(folders, i);
                        return;
                }
}

static void close_connection(gpointer bus) {
        sd_bus_close_unref(bus);
}

/* What every world has: a folder, and connections to whichever bus. */
static Harness *new_harness(void) {
        Harness *h = g_new0(Harness, 1);
        struct rlimit files;

        h->notify_fd = -1;
        signal(SIGPIPE, SIG_IGN);
        /* The test of 600 connections holds them all. */
        if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
                files.rlim_cur = files.rlim_max;
                setrlimit(RLIMIT_NOFILE, &files);
        }

        h->folder = g_build_filename(g_get_tmp_dir(), "licensevault-test-XXXXXX", NULL);
        if (!mkdtemp(h->folder) || chmod(h->folder, 0711) < 0)
                fail_msg("Cannot make %s: %s", h->folder, strerror(errno));
        register_folder(h->folder);
        h->log = harness_path(h, "log");
        h->settings = g_key_file_new();
        h->connections = g_ptr_array_new_with_free_func(close_connection);
        return h;
}

int harness_setup_system(void **state) {
        Harness *h = new_harness();

        *state = h;
        h->address = g_strdup("unix:path=/run/dbus/system_bus_socket");
        h->state = g_strdup("/var/lib/licensevault");
        h->configuration = g_strdup("/etc/licensevault");
        h->observer = harness_connect_uid(h, geteuid());
        return 0;
}

static int set_up_bus(void **state, bool stats) {
        Harness *h = new_harness();

        *state = h;
        find_users(h);
        h->state = new_folder(h, "state", 0700);
        h->configuration = new_folder(h, "configuration", 0755);
        g_free(new_folder(h, "runtime", 0755));
        h->media = new_folder(h, "media", 0755);
        for (unsigned i = 0; i < h->n_users; i++) {
                g_autofree char *path = g_strdup_printf("%s/%u", h->media, (unsigned)h->users[i]);
                assert_int_equal(mkdir(path, 0700), 0);
                assert_int_equal(chown(path, h->users[i], (gid_t)-1), 0);
        }

        /* A full disk on the machine of a tester is not what is tested. */
        harness_set(h, "Limits", "MinimumFreePercent", "0");
        start_bus(h, stats);
        h->observer = harness_connect_uid(h, geteuid());
        return 0;
}

int harness_setup_bus(void **state) {
        return set_up_bus(state, true);
}

int harness_setup_silent_bus(void **state) {
        set_up_bus(state, false);
        harness_start(*state);
        return 0;
}

int harness_setup(void **state) {
        harness_setup_bus(state);
        harness_start(*state);
        return 0;
}

void harness_set(Harness *h, const char *group, const char *key, const char *value) {
        g_key_file_set_string(h->settings, group, key, value);
}

void harness_write_settings(Harness *h) {
        g_autofree char *path = g_build_filename(h->configuration, "licensevaultd.conf", NULL);

        assert_true(g_key_file_save_to_file(h->settings, path, NULL));
}

static void join_group(const char *cgroup) {
        g_autofree char *path = g_build_filename(cgroup, "cgroup.procs", NULL);
        int fd = open(path, O_WRONLY | O_CLOEXEC);

        if (fd < 0 || write(fd, "0", 1) != 1)
                _exit(126);
        close(fd);
}

pid_t harness_spawn(Harness *h, const char *const *arguments) {
        const char *program = g_getenv("LICENSEVAULTD");
        g_autofree char *runtime = harness_path(h, "runtime"), *notify = harness_path(h, "notify");
        g_autoptr(GPtrArray) line = g_ptr_array_new();
        pid_t pid, parent = getpid();

        if (!program)
                fail_msg("Set LICENSEVAULTD to the daemon's path; meson test does so.");
        g_ptr_array_add(line, (void *)program);
        for (; arguments && *arguments; arguments++)
                g_ptr_array_add(line, (void *)*arguments);
        g_ptr_array_add(line, NULL);

        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                child_begin(parent);
                if (h->cgroup)
                        join_group(h->cgroup);
                int fd = open(h->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
                dup2(fd, STDOUT_FILENO);
                dup2(fd, STDERR_FILENO);
                setenv("STATE_DIRECTORY", h->state, 1);
                setenv("RUNTIME_DIRECTORY", runtime, 1);
                setenv("CONFIGURATION_DIRECTORY", h->configuration, 1);
                setenv("DBUS_SYSTEM_BUS_ADDRESS", h->address, 1);
                unsetenv("NOTIFY_SOCKET");
                unsetenv("WATCHDOG_PID");
                unsetenv("WATCHDOG_USEC");
                unsetenv("JOURNAL_STREAM");
                if (h->notify_fd >= 0)
                        setenv("NOTIFY_SOCKET", notify, 1);
                if (h->watchdog_usec)
                        setenv("WATCHDOG_USEC", h->watchdog_usec, 1);
                execv(program, (char *const *)line->pdata);
                _exit(127);
        }

        return pid;
}

char *harness_owner(Harness *h) {
        sd_bus_message *reply = NULL;
        const char *owner;
        char *copy = NULL;

        if (sd_bus_call_method(h->observer, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                    "org.freedesktop.DBus", "GetNameOwner", NULL, &reply, "s", "org.licensevault1") >= 0 &&
                sd_bus_message_read(reply, "s", &owner) >= 0)
                copy = g_strdup(owner);
        sd_bus_message_unref(reply);
        return copy;
}

static void wait_for_daemon(Harness *h) {
        for (unsigned i = 0;; i++) {
                g_autofree char *owner = harness_owner(h);
                int status;

                if (owner)
                        return;
                if (waitpid(h->daemon, &status, WNOHANG) != 0) {
                        g_autofree char *log = harness_log(h);
                        h->daemon = 0;
                        fail_msg("licensevaultd ended at its start, wait status %#x; its log:\n%s",
                                (unsigned)status, log);
                }
                if (i > PATIENCE_SEC * 100)
                        fail_msg("licensevaultd did not take the name org.licensevault1");
                sleep_msec(10);
        }
}

void harness_start(Harness *h) {
        harness_write_settings(h);
        h->daemon = harness_spawn(h, NULL);
        wait_for_daemon(h);
}

void *harness_share(Harness *h, const char *variable, size_t size) {
        g_autofree char *path = harness_path(h, "meddling");
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        void *map;

        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, (off_t)size), 0);
        map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        assert_true(map != MAP_FAILED);
        close(fd);
        g_setenv(variable, path, true);
        return map;
}

void harness_start_preloaded(Harness *h, const char *variable) {
        harness_write_settings(h);
        g_setenv("LD_PRELOAD", g_getenv(variable), true);
        h->daemon = harness_spawn(h, NULL);
        g_unsetenv("LD_PRELOAD");
        wait_for_daemon(h);
}

int harness_wait(Harness *h, pid_t pid) {
        int status;

        for (unsigned i = 0; waitpid(pid, &status, WNOHANG) == 0; i++) {
                if (i > PATIENCE_SEC * 200) {
                        kill(pid, SIGABRT);
                        waitpid(pid, &status, 0);
                        fail_msg("Process %d did not end", (int)pid);
                }
                sleep_msec(5);
        }

        if (pid == h->daemon)
                h->daemon = 0;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int harness_run(Harness *h, const char *const *arguments) {
        harness_write_settings(h);
        return harness_wait(h, harness_spawn(h, arguments));
}

void harness_stop(Harness *h) {
        assert_true(h->daemon > 0);
        assert_int_equal(kill(h->daemon, SIGTERM), 0);
        int status = harness_wait(h, h->daemon);
        if (status != 0)
                fail_msg("licensevaultd ended with status %d after SIGTERM", status);
}

void harness_kill(Harness *h) {
        kill(h->daemon, SIGKILL);
        assert_int_equal(harness_wait(h, h->daemon), 128 + SIGKILL);
}

void harness_stop_bus(Harness *h) {
        kill(h->bus, SIGTERM);
        kill(h->bus, SIGCONT); /* a test that failed may have left it stopped */
        waitpid(h->bus, NULL, 0);
        h->bus = 0;
}

/* Ends the daemon whatever the test left. Returns whether it ended as it must. */
static bool end_daemon(Harness *h) {
        int status;

        if (h->daemon <= 0)
                return true;

        kill(h->daemon, SIGTERM);
        for (unsigned i = 0; i < PATIENCE_SEC * 200; i++) {
                if (waitpid(h->daemon, &status, WNOHANG) != 0) {
                        if (status != 0)
                                print_error("licensevaultd ended with wait status %#x\n", (unsigned)status);
                        return status == 0;
                }
                sleep_msec(5);
        }
        print_error("licensevaultd did not end after SIGTERM\n");
        kill(h->daemon, SIGKILL);
        waitpid(h->daemon, &status, 0);
        return false;
}

int harness_teardown(void **state) {
        Harness *h = *state;
        bool good = end_daemon(h);
        g_autofree char *log = harness_log(h);

        h->monitor = monitor_free(h->monitor);
        g_ptr_array_unref(h->connections);
        if (h->bus > 0)
                harness_stop_bus(h);
        if (strstr(log, "Sanitizer") || strstr(log, "runtime error:"))
                good = false;
        if (!good)
                print_error("The log:\n%s", log);
        unregister_folder(h->folder);
        if (h->notify_fd >= 0)
                close(h->notify_fd);
        g_key_file_unref(h->settings);
        g_free(h->folder);
        g_free(h->state);
        g_free(h->configuration);
        g_free(h->media);
        g_free(h->log);
        g_free(h->address);
        g_free(h);
        return good ? 0 : -1;
}

void harness_listen_notify(Harness *h) {
        g_autofree char *path = harness_path(h, "notify");
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        assert_true(strlen(path) < sizeof address.sun_path);
        strcpy(address.sun_path, path);
        h->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_true(h->notify_fd >= 0);
        assert_int_equal(bind(h->notify_fd, (struct sockaddr *)&address, sizeof address), 0);
}

void harness_expect_notify(Harness *h, const char *line) {
        for (;;) {
                struct pollfd wait = { .fd = h->notify_fd, .events = POLLIN };
                char buffer[4096];
                ssize_t n;

                if (poll(&wait, 1, PATIENCE_SEC * 1000) <= 0)
                        fail_msg("No notification had the line '%s'", line);
                n = recv(h->notify_fd, buffer, sizeof buffer - 1, 0);
                assert_true(n > 0);
                buffer[n] = 0;
                g_auto(GStrv) lines = g_strsplit(buffer, "\n", -1);
                for (char **l = lines; *l; l++)
                        if (g_pattern_match_simple(line, *l))
                                return;
        }
}

char *harness_log(Harness *h) {
        char *text = NULL;

        g_file_get_contents(h->log, &text, NULL, NULL);
        return text ?: g_strdup("");
}

void harness_expect_log(Harness *h, const char *text) {
        for (unsigned i = 0; i < PATIENCE_SEC * 50; i++) {
                g_autofree char *log = harness_log(h);
                if (strstr(log, text))
                        return;
                sleep_msec(20);
        }
        fail_msg("The log has no '%s'", text);
}

sd_bus *harness_connect_uid(Harness *h, uid_t uid) {
        sd_bus *bus = NULL;
        const char *name;
        int r;

        assert_true(sd_bus_new(&bus) >= 0);
        g_ptr_array_add(h->connections, bus);
        assert_true(sd_bus_set_address(bus, h->address) >= 0);
        assert_true(sd_bus_set_bus_client(bus, true) >= 0);
        assert_true(sd_bus_negotiate_fds(bus, true) >= 0);
        assert_true(sd_bus_set_method_call_timeout(bus, PATIENCE_SEC * UINT64_C(1000000)) >= 0);
        /* The bus learns who we are from the socket, which remembers who connected it. */
        if (uid != geteuid())
                assert_int_equal(seteuid(uid), 0);
        r = sd_bus_start(bus);
        if (geteuid() != getuid())
                assert_int_equal(seteuid(getuid()), 0);
        if (r < 0 || (r = sd_bus_get_unique_name(bus, &name)) < 0)
                fail_msg("No connection to the bus as uid %u: %s", (unsigned)uid, strerror(-r));
        return bus;
}

sd_bus *harness_connect(Harness *h, unsigned user) {
        harness_need_users(h, user + 1);
        return harness_connect_uid(h, h->users[user]);
}

/* Returns once the bus knows, and so has told the daemon, before any call that comes later. */
void harness_disconnect(Harness *h, sd_bus *bus) {
        g_autofree char *name = NULL;
        const char *unique_name;
        int there = true;

        assert_true(sd_bus_get_unique_name(bus, &unique_name) >= 0);
        name = g_strdup(unique_name);
        assert_true(g_ptr_array_remove_fast(h->connections, bus));
        while (there) {
                sd_bus_message *reply = NULL;

                assert_true(sd_bus_call_method(h->observer, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                    "org.freedesktop.DBus", "NameHasOwner", NULL, &reply, "s", name) >= 0);
                assert_true(sd_bus_message_read(reply, "b", &there) > 0);
                sd_bus_message_unref(reply);
        }
}
