/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <glib.h>

/*
 * Whose turn it is: users one after the other, and of a user its connections one after the other, so that who asks for
 * much waits for much. A connection stands in line while it has something of a kind that can be done now. What has a
 * price is saved up for: with each turn that passes, a connection has TURN_CREDIT more.
 */

/*
 * In bytes: about a small answer. With four times that, large ones had most of the line, and with dbus-daemon each
 * call that waits behind them makes all others slower.
 */
#define TURN_CREDIT 512U
#define TURN_CREDIT_MAX (64U * 1024U)

typedef struct Caller Caller;
typedef struct Manager Manager;

typedef enum TurnKind {
        TURN_CALL,   /* it has calls, and it is known whose they are; see inbox.h */
        TURN_LETTER, /* something is to be sent to it, and it reads; see outbox.h */
        _TURN_KINDS,
} TurnKind;

/* A connection's place in a line. */
typedef struct Turn {
        bool is_ready; /* it stands there */
        uint64_t price, credit;
} Turn;

/* Goes to the end of the line of caller->line, where it is not in it. price: of what is to be done, in bytes. */
void turn_join(Caller *caller, TurnKind kind, uint64_t price);
void turn_leave(Caller *caller, TurnKind kind);

/*
 * Takes out of the line whose turn it is and who can pay, or is alone. NULL: nobody, or only who has to wait (pace.h).
 */
Caller *turn_next(Manager *manager, TurnKind kind);
