/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "manager.h"

/*
 * How fast users are answered, where several are; in equal parts. Who is alone is not kept back, and who calls little
 * does not notice.
 *
 * dbus-broker hands us 16 messages in each turn of its own, and serves every connection that is ready between. Users
 * who call without end call as fast as they are answered: then its line to us grows, and everyone stands in it, also
 * who calls now and then. So they are answered at a fixed pace that it keeps up with.
 *
 * dbus-daemon looks at all calls that are open for each message, and reads so few bytes of us in each of its turns
 * that a flood leaves thousands open: it is slow then, and those who flood call again at each answer. So while many
 * connections wait for one, it is called now and then: where its answer takes long the pace falls, where it does not
 * the pace rises, until there is none. A dbus-broker before version 33, or without our policy, cannot be told apart
 * from it, and is measured in the same way. Our socket is shorter there, too, where several users are answered.
 *
 * Times are monotonic, in microseconds.
 */

/*
 * Whether a user may be answered now; where not, pace_wait() has the loop turn when it may, or a little earlier or
 * later.
 */
bool pace_allows(const User *user, int64_t now);
void pace_wait(Manager *manager);

/* In a flood on dbus-daemon, asks it now and then, to see how long it takes. When something was sent, or waits. */
void pace_measure(Manager *manager);
/* What comes of that: it took so long. */
void pace_learn(Manager *manager, int64_t took, int64_t now);
/* The bus is left: what was learned was about it. */
void pace_forget_bus(Manager *manager);

/* It was answered, with so many bytes. */
void pace_count(User *user, uint64_t bytes, int64_t now);
