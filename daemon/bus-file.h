/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "caller.h"

/* What the calls that take a descriptor of the client share. Returned are 0, a code, or a negative errno as usual. */

/* Whose licenses a call is about. */
typedef struct BusWhose {
        bool all_users;
        uint32_t owner;    /* a uid; the caller's own unless it says another */
        bool others;       /* it is not about the caller's own alone, and needs to be authorized */
        bool skip_damaged; /* of a backup: what is damaged in the store may be left out */
        const char *from;  /* of a restore: the one user of a backup of all; NULL if none; the message's */
} BusWhose;

/* Reads the options Owner and AllUsers, and for a backup SkipDamaged, for a restore From. */
int bus_read_whose(sd_bus_message *message, const Caller *caller, bool backup, BusWhose *ret, Error *error);

/* Duplicates a descriptor of the message, which outlives it then. ERROR_LIMIT_EXCEEDED. */
int bus_keep_descriptor(int fd, int *ret, Error *error);
