/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "load-watch.h"

/* A user who does nothing wrong while others do: one call at a time, and how long each takes. */

/*
 * What tells a wait from a hang. dbus-daemon reads 2 KiB of each connection in turn, and a turn takes it 100 ms
 * when 200 connections send what it refuses: then one answer of 64 KiB, which goes before others, takes 3 s.
 */
#define GOOD_PATIENCE_MSEC 30000U

typedef struct GoodUser {
        sd_bus *bus;
        Times service, itself; /* of the service's answers, and of the bus's own */
        unsigned n_calls, n_bus_full;
} GoodUser;

/* The harness's user of that number, with a license. */
void good_init(GoodUser *good, Harness *h, unsigned user);
void good_clear(GoodUser *good);

/*
 * Stores, lists or gets, and then calls the bus itself. A call that is refused, or answered too late, ends the
 * test; but not one that the bus did not let through, which dbus-daemon does where too much waits for a service.
 */
void good_behave(GoodUser *good);
void good_print(GoodUser *good);
