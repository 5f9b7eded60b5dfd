/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "fuzz.h"
#include "merge-model.h"
#include "tar-model.h"

/* A backup that an input decides on: what it says, and what was done to it afterwards. */

typedef enum Verdict {
        MUST_PASS,  /* whole: a restore of it must do what the model does with items */
        MUST_FAIL,  /* damaged, or no backup that we can have made: nothing may change */
        MAY_PASS,   /* nobody knows: all promises hold, and nothing is half done */
} Verdict;

#define CASE_USERS 3U

/* Whose licenses a backup is of, and what it says of them. */
typedef struct CaseUser {
        uid_t uid;
        const char *name;
        bool is_here; /* else the backup alone knows the name */
        Item items[N_IDS];
} CaseUser;

typedef struct RestoreCase {
        /* Whoever wants one decides on these: one user, or all of them. */
        CaseUser users[CASE_USERS];
        unsigned n_users;
        bool all_users;

        Verdict verdict;
        const char *wronged; /* whose part it is that must fail; NULL: nobody's alone */
        bool foreign;     /* another machine's or owner's: needs consent */
        GByteArray *tar;
        GString *story;   /* what was done, for messages */
} RestoreCase;

/* An item that an app may store, or a backup say. */
Item decode_item(Input *input);

/* Makes a backup of the users' licenses, and mutates it. */
void restore_case_decode(Input *input, RestoreCase *restore);
void restore_case_clear(RestoreCase *restore);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(RestoreCase, restore_case_clear)
