/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl.h"

/* Whose licenses a backup or restore is about, if not one's own: --all-users, --owner and --from. */

typedef struct Whose {
        gboolean all_users;
        char *owner;       /* a name or number */
        char *from;        /* of a restore: who in a backup of all users, by the name that it has there */
        bool skip_damaged; /* of a backup: the rest is worth having */
} Whose;

#define WHOSE_OPTIONS(whose, all_help, owner_help) \
        { "all-users", 0, 0, G_OPTION_ARG_NONE, &(whose).all_users, all_help, NULL }, \
        { "owner", 0, 0, G_OPTION_ARG_STRING, &(whose).owner, owner_help, "USER" }

/* Whether any of them was given. */
bool whose_is_given(const Whose *whose);

/*
 * Appends the a{sv} with which the service is told, and lets it ask an administrator for authorization if need
 * be (not with --quiet). A USER that is not here, nor gone with licenses left behind, is STATUS_USAGE, and so is what
 * excludes each other.
 */
Status whose_append(Ctl *ctl, const Whose *whose, sd_bus_message *call);

/* The number of a user by name or number; says so where there is no such user. */
Status user_from_text(Ctl *ctl, const char *text, uint32_t *ret);
