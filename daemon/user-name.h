/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

/*
 * The name of a user, "" for a number without one (g_free). Asks the system's user database, which may
 * be on a network and make one wait: not for the bus thread. Returns 0 or a negative errno.
 */
int user_name_of(uid_t uid, char **ret);
