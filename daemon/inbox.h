/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "caller.h"

/*
 * What clients call, in turn by user. The bus hands calls over in the order in which they came, and keeps those that we
 * have not taken in one line, where everyone waits for everyone. So they are taken as fast as the bus has any, and wait
 * here: until it is known who calls, and then for that user's turn.
 */

/*
 * Takes a call in. If it is known whose it is, it is done at once where no other waits, or where it is too large to be
 * kept, or has so many values that measuring it is work. ERROR_LIMIT_EXCEEDED where too many of that connection or user
 * wait already.
 */
int inbox_add(Caller *caller, sd_bus_message *message, Error *error);

/*
 * Does all calls of a known caller that wait. gone: only those that want no answer. Who wanted one and left has
 * nothing that was promised, and whoever comes and goes again and again would have the service work for nobody.
 */
void inbox_finish(Caller *caller, bool gone);

/*
 * The bus has said whose the connection is; then the user's name, which is taken over: from now on the calls are done
 * when its turn comes. NULL: it is to be found out again, and they wait. What waits counts for the user, or is refused
 * where that is too much.
 */
void inbox_set_user(Caller *caller, User *user);
void inbox_set_name(Caller *caller, char *name);

/* Answers all calls that wait with an error. */
void inbox_refuse(Caller *caller, const Error *error);

/* Does so many calls, at most. */
void inbox_work(Manager *manager, unsigned max);

/* Whether no call waits that could be done. */
bool inbox_is_idle(const Manager *manager);

/* The connection has gone, and what it called. */
void inbox_forget(Caller *caller);
