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

typedef struct RestoreCase {
        Item items[N_IDS];
        Verdict verdict;
        bool foreign;     /* another machine's or owner's: needs consent */
        GByteArray *tar;
        GString *story;   /* what was done, for messages */
} RestoreCase;

/* An item that an app may store, or a backup say. */
Item decode_item(Input *input);

/* Makes a backup of the owner's licenses, and mutates it. */
void restore_case_decode(Input *input, uid_t uid, const char *name, RestoreCase *ret);
void restore_case_clear(RestoreCase *restore);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(RestoreCase, restore_case_clear)
