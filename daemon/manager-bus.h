/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "manager.h"

/* The daemon's place on the bus: how it joins, how it takes in what comes, and whether the bus takes what it sends. */

/* Joins the bus, with all objects; then takes the service's name. Errors are logged. Returns 0 or an ExitCode. */
int manager_join_bus(Manager *manager);
int manager_take_name(Manager *manager);

/* Takes in what the bus has and does calls, for some milliseconds at most. Whenever the loop turns. */
void manager_take_and_do(Manager *manager);

/* Where several users are answered our socket holds little, or what it holds would keep others waiting. */
void manager_set_socket(Manager *manager, bool is_short);

/* Whether messages wait here, or bytes in the socket, for the bus to take them. */
bool manager_has_unsent(const Manager *manager);

/*
 * Looks, once a second, whether the bus takes what is sent: calls are refused while it does not, and at last the bus is
 * left and joined again, as soon as it lets us in. Negative where that ends the daemon.
 */
int manager_watch_bus(Manager *manager);
