/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "caller.h"

/*
 * Asks polkit whether a caller may manage the licenses of other users. The bus thread does not wait for it:
 * what the caller wants was read and checked, is frozen with the question, and goes on with that very
 * question's answer. polkit may ask a person, if the caller's message allows it.
 */

#define POLKIT_ACTION "org.licensevault1.manage-others"

/* A call that waits to be allowed. */
typedef struct FrozenClass {
        /* Goes on as the handler of a method does, and returns so. Takes frozen over, whatever happens. */
        int (*go_on)(Caller *caller, sd_bus_message *message, void *frozen, Error *error);
        void (*free)(void *frozen);
} FrozenClass;

/*
 * Asks. frozen is taken over, also on failure; a yes hands it to method_resume(), a no answers message:
 * ERROR_AUTHORIZATION_REQUIRED where a person could have been asked and the message did not allow it, else
 * ERROR_ACCESS_DENIED. Returns 0 or a code: ERROR_LIMIT_EXCEEDED where too many questions of the user are open.
 */
int polkit_ask(Caller *caller, sd_bus_message *message, const FrozenClass *class, void *frozen, Error *error);

/* Withdraws all questions of a caller that has gone. */
void polkit_withdraw(Caller *caller);

/* Withdraws all questions, as the service stops, and says so to who asked. */
void polkit_withdraw_all(Manager *manager);
