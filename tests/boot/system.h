/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "client.h"

/*
 * A machine that is the test's own: the container that tests/boot/run makes, with systemd as its first
 * process, the service installed, and the test running as root. The users of the Harness are real ones here, with
 * homes that only they can read.
 */

#define UNIT "licensevaultd.service"
#define STATE "/var/lib/licensevault"

extern const char *const system_users[TEST_USERS];

/* The service as it is after its installation: it does not run, has no store, no settings, no drop-in. */
int system_setup(void **state);
/* The same, and it is started. */
int system_setup_running(void **state);
/*
 * Stops the service. The test fails if a process of the unit was ended by a signal that it did not expect: where
 * forbidden system calls kill, so do they.
 */
int system_teardown(void **state);
/* For a harness_setup_system() of another kind: the users alone. */
void system_add_users(Harness *h);
/* The test may end the unit's main process with this signal ("KILL"). Holds until its teardown. */
void system_expect_signal(const char *name);

/* Programs: those that must succeed return what they wrote to stdout, without the last newline. */
char *run_good(const char *const *arguments);
void run_quietly(const char *const *arguments);
/* As run_program(), as a user, in its home. */
int run_as(const char *user, const char *const *arguments, char **ret_stdout, char **ret_stderr);
/* Starts a program and does not wait. */
pid_t run_behind(const char *const *arguments);
/* Opens a file with the rights of a user; the test fails where that cannot be. */
int open_as(uid_t uid, const char *path, int flags, mode_t mode);

#define systemctl(...) run_quietly(ARGUMENTS("systemctl", __VA_ARGS__))
/* A property of the unit, as `systemctl show` has it. */
char *unit_property(const char *name);
void expect_unit_property(const char *name, const char *value);
/* The main process of the unit. */
pid_t unit_pid(void);
/* The lines go into a drop-in of the unit, which counts from its next start on. */
void unit_drop_in(const char *lines);

/* What the unit, and systemd about it, wrote to the journal since the test began. */
char *unit_journal(void);
void expect_journal(const char *text);

/* A new account, with a home of its own. Returns its uid; uid 0 takes the next that is free. */
uid_t add_user(const char *name, uid_t uid);
void delete_user(const char *name);
/* The full path of a name in a user's home. */
char *home_path(const char *user, const char *name);
