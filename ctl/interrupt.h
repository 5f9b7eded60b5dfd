/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <signal.h>
#include <stdbool.h>

#include "io.h"

/*
 * Ctrl-C and its like, while there is something to tidy up first: they are blocked from then on, and
 * whoever works looks whether one has come.
 */

typedef struct Interrupts {
        sigset_t signals; /* those that are looked for */
        sigset_t before;  /* what was blocked before */
} Interrupts;

/*
 * Blocks those of SIGINT, SIGTERM and SIGHUP that would end the program. Under nohup, SIGHUP is
 * ignored; blocking it would make it visible again.
 */
void interrupt_block(Interrupts *ret);

/* Takes one of them that is waiting; false where none is. */
bool interrupt_take(const Interrupts *interrupts);

/* Back to what was before: there is nothing left to tidy up. */
void interrupt_restore(const Interrupts *interrupts);

/*
 * The other way, for work that itself listens to a Cancel, also where it waits: the first of these signals
 * triggers cancel, a second one ends the program. NULL ends that; until then cancel must be there.
 */
void interrupt_trigger(Cancel *cancel);
