/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "caller.h"

/*
 * What is sent to clients, in turn by user and by bytes (turn.h), and only as fast as the bus takes it: the answers
 * that one user has asked for wait here and not in the socket, where those of all others would stand behind them.
 * dbus-daemon reads 2 KiB from each connection in turn; from us, while a user floods it over 16 connections, less than
 * a megabyte a second.
 *
 * dbus-daemon keeps what a client does not read, counts it against us, and reads nothing more of ours at 127 MiB, or
 * at 64 descriptors. So after some bytes for a connection, or a descriptor, the bus is asked how much of that the
 * connection has read (org.freedesktop.DBus.Debug.Stats), and little more, or no other descriptor, is sent to it
 * before it has. Errors go before other answers, and on for a while past that bound: each call that stays open makes
 * dbus-daemon slower. A bus that does not know, or does not tell, is not asked again, or not soon, and counts as one
 * that needs no such care. dbus-broker does not need it either: it counts against the one who does not read. It is
 * asked all the same, and answers with an error: that it has taken what was sent before, and so one descriptor at a
 * time is on its way to a connection.
 */

/* Room of a message that was not measured. */
#define OUTBOX_SMALL 512U

/*
 * Sends a message of so many bytes, roughly, when its receiver's turn comes. It is unref'd. Who does not read
 * misses signals: Progress from 256 KiB on that wait for the connection, Done where too much waits for its user.
 */
void outbox_send(Manager *manager, sd_bus_message *message, uint64_t bytes);
/* The same for one with a descriptor, which holds so many bytes: see outbox_check_descriptor(). */
void outbox_send_descriptor(Manager *manager, sd_bus_message *message, uint64_t bytes, uint64_t held);
/* Sends what the bus takes now. Called whenever it may take more. */
void outbox_pump(Manager *manager);

/*
 * A call that sd-bus answers past us, which has to be within the same bounds: whether it may go on to sd-bus. If not,
 * it is kept until its turn comes and then goes through here once more, or is refused.
 */
bool outbox_let_pass(Manager *manager, sd_bus_message *message);
/*
 * ERROR_LIMIT_EXCEEDED for a connection that has answers waiting, and whose user has too many in all. Asked when a call
 * begins; of a read once more when its answer is there, for many may begin before the first one is answered.
 */
int outbox_check(const Caller *caller, Error *error);
/* The same for what waiting descriptors of a user hold, over all of its connections. */
int outbox_check_descriptor(const Caller *caller, Error *error);

/* Whether nothing waits but for those who do not read. */
bool outbox_is_idle(const Manager *manager);

/* Where a connection's turn is: with all those whose user is not known yet, then with the user's others. */
void outbox_join_strangers(Caller *caller);
void outbox_join_user(Caller *caller);

/* The connection has gone, and what was for it. */
void outbox_forget(Caller *caller);
/* The bus was joined: finds out whether it is dbus-broker (see pace.h). Returns 0 or a negative errno. */
int outbox_meet_bus(Manager *manager);
/* The bus is left. All callers are forgotten before. */
void outbox_forget_bus(Manager *manager);
