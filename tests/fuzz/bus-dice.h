/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "harness.h"

/* What chance sends over the bus. One seed gives the same values each time. */

typedef struct Dice {
        uint64_t state;
        GPtrArray *words;  /* of char *: what strings are drawn from, beside noise; the owner's to fill */
        GArray *given;     /* of DiceGiven; closed by dice_close() */
        uid_t sender;      /* of what is appended next */
} Dice;

/* An end that we hold of a descriptor that this user sent, or one that the service answered the user with. */
typedef struct DiceGiven {
        int fd;
        uid_t uid; /* who alone sends it, for a backup may come out of it */
} DiceGiven;

unsigned dice_below(Dice *dice, unsigned n);
const char *dice_word(Dice *dice);
/* Keeps a descriptor, which is the dice's from then on. */
void dice_give(Dice *dice, int fd, uid_t uid);
/* Closes all that was kept open for those who have the other end. */
void dice_close(Dice *dice);

/* Any signature of at most some types (g_free). */
char *dice_signature(Dice *dice);
/* Values of a signature. Returns as sd_bus_message_append(); a value that sd-bus refuses is an error. */
int dice_append(Dice *dice, sd_bus_message *message, const char *signature);

/*
 * A connection of a user that speaks D-Bus by hand: says who it is, and then sends a call of that member, whole or in
 * half, right or with some bits turned. It stays open until dice_close().
 */
void dice_send_raw(Dice *dice, const char *address, uid_t uid, const char *interface, const char *member,
        const char *signature);
