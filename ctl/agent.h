/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl.h"

/*
 * Who asks the administrator for a password: pkttyagent, polkit's own agent for a terminal, which also works where
 * no desktop has one. It runs beside a call for which polkit may ask, and only where there is a terminal to ask on and
 * --quiet was not given; root is never asked. Where polkit is not installed nothing happens, and the service says that
 * it may not.
 */

/* Starts the agent, and returns once polkit knows it. */
void agent_open(const Ctl *ctl);

/* Ends the agent, and gives the terminal back as it was: a question may have been open. */
void agent_close(void);
