/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl.h"

/*
 * What may be longer than the terminal goes through a pager: that of LICENSEVAULT_PAGER, else of PAGER, else less,
 * else more. It is run without a shell and with LESSSECURE=1. By sudo and its like it is less or none, so that who may
 * run licensevaultctl gets no editor and no shell out of it. "" and "cat" are none.
 */

/* To be called before the first thing is printed. Nothing without a terminal, with --no-pager or --json, and twice. */
void pager_open(Ctl *ctl);

/*
 * Waits until the reader has left the pager. Returns status, but for output that nobody wanted to see to its end,
 * which is no failure.
 */
Status pager_close(const Ctl *ctl, Status status);
