/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "api.h"
#include "ctl.h"

/*
 * The service on the bus: calls to it, and what its errors mean for the exit code.
 */

#define BUS_MANAGER BUS_NAME ".Manager"
#define BUS_STORE BUS_NAME ".LicenseStore"
#define BUS_BACKUP BUS_NAME ".LicenseBackup"
#define BUS_RESTORE BUS_NAME ".LicenseRestore"
#define BUS_PROPS BUS_NAME ".BackupRestoreProps"

Status bus_connect(Ctl *ctl);

/*
 * A call to the root object. types and what follows are its arguments, as for sd_bus_message_append(3); NULL where
 * there are none, or where the caller appends them. Connects first where that is still to do.
 */
Status bus_call_new(Ctl *ctl, const char *interface, const char *member, sd_bus_message **ret, const char *types, ...);

/*
 * Sends a call and waits for its answer. about, where not NULL, is put before the message of an
 * error, unless that names it: the file or license that it is about.
 */
Status bus_call(Ctl *ctl, sd_bus_message *call, const char *about, sd_bus_message **ret_reply);

/*
 * The same for who has more to say of an error: says nothing, and leaves it in ret_error. Returns
 * whether it went well.
 */
bool bus_try_call(Ctl *ctl, sd_bus_message *call, sd_bus_error *ret_error, sd_bus_message **ret_reply);

/* What an error of the service says, in the words of the command line; never empty (g_free). */
char *bus_words(const char *name, const char *message);

/* Says what an error of the service means. */
Status bus_fail(Ctl *ctl, const sd_bus_error *error, const char *about);
/* The same for the name and message that a job ended with. */
Status bus_fail_named(Ctl *ctl, const char *name, const char *message, const char *about);
/* Says that a call could not be made, or that an answer is not as agreed. r is a negative errno. */
Status bus_fail_build(Ctl *ctl, int r);
Status bus_fail_parse(Ctl *ctl);
/* Says that the service, or the connection to the bus, went away while something ran. */
Status bus_fail_vanished(Ctl *ctl);
Status bus_fail_lost(Ctl *ctl);

/* Whether the service takes a string of the user, which may be NULL; says what is wrong where it does not. */
Status bus_check_string(Ctl *ctl, const char *what, const char *string);
