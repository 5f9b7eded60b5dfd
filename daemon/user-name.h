/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/*
 * The name of a user, "" for a number without one (g_free). Asks the system's user database, which may
 * be on a network and make one wait: not for the bus thread. Returns 0 or a negative errno.
 */
int user_name_of(uid_t uid, char **ret);

/* The reverse: the number of a user by name, -1 where there is none. Makes one wait, too. */
int user_uid_of(const char *name, uid_t *ret);

/*
 * Whether a uid may have licenses: not nobody, not the invalid one, and none of those that systemd
 * gives to whoever comes next.
 */
bool user_may_own(uid_t uid);

/*
 * The same of who calls, by the name, too ("": none): a user has tens of thousands of numbers besides its own, to run
 * containers with (subuid(5)), and with as many times what one user may have it would leave nothing to the others.
 */
bool user_may_call(uid_t uid, const char *name);
