/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

#include <gio/gio.h>

/* Calls of the service, without a wait. */

#define SERVICE_NAME "org.licensevault1"
#define SERVICE_ROOT "/org/licensevault1"

/*
 * Calls "Interface.Member" (without "org.licensevault1.") of an object. destination is SERVICE_NAME, which starts the
 * service where it does not run, or the unique name of one. A descriptor that is not -1 goes with the call, as handle
 * 0 of the arguments; it stays the caller's. arguments may be NULL, and are taken over where they are floating.
 */
void call_service(GDBusConnection *bus, const char *destination, const char *path, const char *member,
        GVariant *arguments, int fd, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer data);

/*
 * The answer, or NULL and an error. ret_sender (may be NULL) is the unique name of who answered: what comes later
 * about this call is believed from there alone.
 */
GVariant *call_service_finish(GAsyncResult *result, char **ret_sender, GError **error);

/* Whether a call failed because there is no service that could answer it. */
bool call_is_unanswered(const GError *error);

/* Takes the D-Bus name of an error (NULL where it has none) off its message, so that a sentence is left. */
char *call_split_error(GError *error);
