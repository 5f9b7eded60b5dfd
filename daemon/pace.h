/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "manager.h"

/*
 * How fast users are answered, where several are. dbus-broker hands us 16 messages in each turn of its own, and serves
 * every connection that is ready between. Users who call without end call as fast as they are answered: then its line to
 * us grows, and everyone stands in it, also who calls now and then. So they are answered at a pace that dbus-broker keeps
 * up with, in equal parts; who is alone is not kept back, and who calls little does not notice.
 *
 * It is the other way round with dbus-daemon, which the calls that are open make slow: there is no pace with it, nor with
 * a dbus-broker before version 33 or without our policy, which cannot be told apart. Only our socket is shorter there where
 * several users are answered.
 *
 * Times are monotonic, in microseconds.
 */

/* Whether a user may be answered now; where not, pace_wait() has the loop turn when it may, or a little earlier or later. */
bool pace_allows(const User *user, int64_t now);
void pace_wait(Manager *manager);

/* It was answered, with so many bytes. */
void pace_count(User *user, uint64_t bytes, int64_t now);
