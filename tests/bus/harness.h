/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>
#include <glib.h>
#include <systemd/sd-bus.h>

/*
 * A world for one test: a folder that goes away, a private dbus-daemon with the limits of a system
 * bus, and a licensevaultd on it. Test processes stay single-threaded: they fork.
 *
 * Whatever does not happen as it must ends the test with cmocka's fail(), so that nothing here needs
 * to be checked by a test. Connections belong to the harness and are closed with it.
 */

/* No wait of a test ends before that. Sanitizers are slow, and machines are busy. */
#define PATIENCE_SEC 120

#define TEST_USERS 3

typedef struct Monitor Monitor;

typedef struct Harness {
        char *folder;        /* holds all that follows; others may pass through it */
        char *state;
        char *configuration;
        char *media;         /* <media>/<uid>/ is there for each user; no root unless a test sets it */
        char *log;           /* what all daemons of this test wrote to stderr */
        char *address;       /* of the bus */
        GKeyFile *settings;  /* licensevaultd.conf, written when the daemon starts */
        const char *watchdog_usec; /* WATCHDOG_USEC for the next start; NULL for none */
        int notify_fd;       /* a socket that NOTIFY_SOCKET names; -1 until harness_listen_notify() */

        const char *cgroup;  /* the path of a control group that the daemon is started in; NULL: ours */
        pid_t bus;           /* 0 where it does not run */
        pid_t daemon;
        sd_bus *observer;    /* our own connection, of the user that runs the test */
        GPtrArray *connections;
        Monitor *monitor;    /* NULL until monitor_new() */

        uid_t users[TEST_USERS]; /* the first one is ours where we are not root */
        unsigned n_users;
} Harness;

/* A folder, a bus, no daemon yet. For cmocka's setup: harness_setup() starts the daemon, too. */
int harness_setup_bus(void **state);
int harness_setup(void **state);
/* As harness_setup(), with a bus that does not tell the daemon which clients read what they are sent. */
int harness_setup_silent_bus(void **state);
/*
 * The system bus and the service on it: nothing is started, and nothing stopped. There are no users and no
 * media until the caller makes them. For tests/boot, where the system is the test's own.
 */
int harness_setup_system(void **state);
/* Stops the daemon, which must exit with 0, and removes everything. Fails with what the log says. */
int harness_teardown(void **state);

/* A setting of licensevaultd.conf, for the next start or reload. */
void harness_set(Harness *h, const char *group, const char *key, const char *value);
void harness_write_settings(Harness *h);

/* Starts the daemon and waits until it has the name. */
void harness_start(Harness *h);
/* The same with a library preloaded, whose path a variable has. */
void harness_start_preloaded(Harness *h, const char *variable);
/*
 * Memory that such a library shares with the test: a file in the test's folder, whose path it finds in a variable. To
 * be unmapped by who asks.
 */
void *harness_share(Harness *h, const char *variable, size_t size);
/* Starts the daemon and does not wait. Arguments may be NULL. */
pid_t harness_spawn(Harness *h, const char *const *arguments);
/* SIGTERM; the daemon must end with status 0, which a sanitizer's report prevents. */
void harness_stop(Harness *h);
/* kill -9. */
void harness_kill(Harness *h);
/* Waits for a child. Returns its exit status, or 128 and its signal. */
int harness_wait(Harness *h, pid_t pid);
/* Starts one that ends by itself, and waits for that. Arguments may be NULL. */
int harness_run(Harness *h, const char *const *arguments);
#define ARGUMENTS(...) ((const char *const[]) { __VA_ARGS__, NULL })
/* Stops the bus. */
void harness_stop_bus(Harness *h);

/* Binds a socket for NOTIFY_SOCKET. */
void harness_listen_notify(Harness *h);
/* Waits for a notification that has this line; other ones are passed over. */
void harness_expect_notify(Harness *h, const char *line);

/* The log so far. */
char *harness_log(Harness *h);
/* Waits until the log has this text. */
void harness_expect_log(Harness *h, const char *text);

/* A new connection of users[user]. Skips the test where there are not so many users. */
sd_bus *harness_connect(Harness *h, unsigned user);
/* A new connection of a uid; only root can be another. */
sd_bus *harness_connect_uid(Harness *h, uid_t uid);
/* Closes a connection before the harness does. */
void harness_disconnect(Harness *h, sd_bus *bus);
/* The unique name that owns org.licensevault1 now, or NULL. */
char *harness_owner(Harness *h);
/* Skips the test where fewer users are at hand. */
void harness_need_users(Harness *h, unsigned n);

/* The full path of a name in the folder of the test. */
char *harness_path(Harness *h, const char *name);
/* A file must hold these bytes; one that cannot be read fails the test. */
void assert_file_equal(const char *path, const void *content, size_t size);
/* All of a file. */
char *read_file(const char *path, size_t *ret_size);
void write_file(const char *path, const void *content, size_t size);
/*
 * Copies the store, which nobody can open beside a daemon, as a kill would leave it now. Returns the path of the copy,
 * which the next one replaces.
 */
char *harness_copy_store(Harness *h);
/* How many names a folder has, but for "." and "..". */
unsigned count_names(const char *path);

/* Runs a program and waits for it; stdout and stderr (may be NULL) are what it wrote. */
int run_program(const char *const *arguments, char **ret_stdout, char **ret_stderr);
/* A test document from the fixtures; NULL, with a message, where they are not. */
char *read_fixture(const char *name, size_t *ret_size);

void sleep_msec(unsigned msec);
/* Whether sanitizers are in this build: memory use and time then say little. */
bool sanitized(void);
