/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "call.h"

#include <string.h>

#include <gio/gunixfdlist.h>

static void on_answer(GObject *bus, GAsyncResult *result, gpointer data) {
        g_autoptr(GTask) task = data;
        g_autoptr(GDBusMessage) answer = NULL;
        GError *error = NULL;

        answer = g_dbus_connection_send_message_with_reply_finish(G_DBUS_CONNECTION(bus), result, &error);
        if (!answer || g_dbus_message_to_gerror(answer, &error))
                g_task_return_error(task, error);
        else
                g_task_return_pointer(task, g_steal_pointer(&answer), g_object_unref);
}

/* g_dbus_connection_call() would not tell who answered. */
void call_service(GDBusConnection *bus, const char *destination, const char *path, const char *member,
        GVariant *arguments, int fd, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer data) {
        g_autoptr(GVariant) owned = arguments ? g_variant_ref_sink(arguments) : NULL;
        g_autoptr(GTask) task = g_task_new(bus, cancellable, callback, data);
        g_autoptr(GUnixFDList) descriptors = NULL;
        g_autoptr(GDBusMessage) message = NULL;
        g_auto(GStrv) names = g_strsplit(member, ".", 2);
        g_autofree char *interface = g_strconcat(SERVICE_NAME ".", names[0], NULL);
        GError *error = NULL;

        message = g_dbus_message_new_method_call(destination, path, interface, names[1]);
        if (owned)
                g_dbus_message_set_body(message, owned);
        if (fd >= 0) {
                descriptors = g_unix_fd_list_new();
                if (g_unix_fd_list_append(descriptors, fd, &error) < 0) {
                        g_task_return_error(task, error);
                        return;
                }
                g_dbus_message_set_unix_fd_list(message, descriptors);
        }

        g_dbus_connection_send_message_with_reply(bus, message, G_DBUS_SEND_MESSAGE_FLAGS_NONE, -1, NULL, cancellable,
                on_answer, g_steal_pointer(&task));
}

GVariant *call_service_finish(GAsyncResult *result, char **ret_sender, GError **error) {
        g_autoptr(GDBusMessage) answer = g_task_propagate_pointer(G_TASK(result), error);
        GVariant *body;

        if (!answer)
                return NULL;

        body = g_dbus_message_get_body(answer);
        if (ret_sender)
                *ret_sender = g_strdup(g_dbus_message_get_sender(answer));
        return body ? g_variant_ref(body) : g_variant_ref_sink(g_variant_new("()"));
}

bool call_is_unanswered(const GError *error) {
        return g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_SERVICE_UNKNOWN) ||
                g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_NAME_HAS_NO_OWNER) ||
                g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_NO_REPLY) ||
                g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_TIMED_OUT) ||
                (error->domain == G_DBUS_ERROR && error->code >= G_DBUS_ERROR_SPAWN_EXEC_FAILED &&
                        error->code <= G_DBUS_ERROR_SPAWN_NO_MEMORY) ||
                error->domain == G_IO_ERROR;
}

char *call_split_error(GError *error) {
        char *name = g_dbus_error_get_remote_error(error);

        g_dbus_error_strip_remote_error(error);
        return name;
}
