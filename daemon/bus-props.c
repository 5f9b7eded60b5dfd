/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "backup.h"
#include "folder.h"
#include "method.h"
#include "request.h"

const sd_bus_vtable props_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("GetPropCount", SD_BUS_NO_ARGS, SD_BUS_RESULT("q", count), method_dispatch,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetPropByIndex", SD_BUS_ARGS("q", index), SD_BUS_RESULT("s", name, "v", value),
                method_dispatch, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetPropByName", SD_BUS_ARGS("s", name), SD_BUS_RESULT("v", value), method_dispatch,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("SetProp", SD_BUS_ARGS("s", name, "v", value), SD_BUS_NO_RESULT, method_dispatch,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("RemoveProp", SD_BUS_ARGS("s", name), SD_BUS_NO_RESULT, method_dispatch,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("RemoveAllProps", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_dispatch,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

typedef struct PropRequest {
        Request request;
        const char *name, *value; /* in the message; name NULL: all, or by index */
        uint16_t index;
        GPtrArray *list;          /* the answer: name, value … */
        char *answer;
} PropRequest;

static int check_name(const char *name, Error *error) {
        if (strcmp(name, BACKUP_PATH) == 0 || strcmp(name, RESTORE_PATH) == 0)
                return 0;
        return error_set(error, ERROR_UNSUPPORTED_PROPERTY,
                "There is no property '%.64s'. The properties are BackupPath and RestorePath.", name);
}

static int list_run(Request *request, StoreConnection *connection, Error *error) {
        PropRequest *prop = (PropRequest *)request;

        prop->list = g_ptr_array_new();
        return store_property_list(connection, &request->owner, prop->list, error);
}

static int count_reply(Request *request, sd_bus_message *reply) {
        return sd_bus_message_append(reply, "q", (uint16_t)(((PropRequest *)request)->list->len / 2));
}

static int index_run(Request *request, StoreConnection *connection, Error *error) {
        PropRequest *prop = (PropRequest *)request;
        int r;

        r = list_run(request, connection, error);
        if (r == 0 && prop->index >= prop->list->len / 2)
                return error_set(error, ERROR_INVALID_ARGUMENTS,
                        "There is no property at index %u. GetPropCount tells how many are set.", prop->index);
        return r;
}

static int index_reply(Request *request, sd_bus_message *reply) {
        PropRequest *prop = (PropRequest *)request;

        return sd_bus_message_append(reply, "sv", prop->list->pdata[2 * prop->index], "s",
                prop->list->pdata[2 * prop->index + 1]);
}

static int get_run(Request *request, StoreConnection *connection, Error *error) {
        PropRequest *prop = (PropRequest *)request;

        return store_property_get(connection, &request->owner, prop->name, &prop->answer, error);
}

static int get_reply(Request *request, sd_bus_message *reply) {
        PropRequest *prop = (PropRequest *)request;

        if (!prop->answer)
                prop->answer = g_strdup_printf("%s/backups/%" PRIu32, request->manager->state_folder,
                        (uint32_t)request->user->uid);
        return sd_bus_message_append(reply, "v", "s", prop->answer);
}

static int set_run(Request *request, StoreConnection *connection, Error *error) {
        PropRequest *prop = (PropRequest *)request;

        return store_property_set(connection, &request->owner, prop->name, prop->value, error);
}

static int remove_run(Request *request, StoreConnection *connection, Error *error) {
        return store_property_remove(connection, &request->owner, ((PropRequest *)request)->name, error);
}

static void prop_clear(Request *request) {
        PropRequest *prop = (PropRequest *)request;

        if (prop->list)
                g_ptr_array_unref(prop->list);
        g_free(prop->answer);
}

static const RequestClass count_class = { sizeof(PropRequest), list_run, count_reply, prop_clear };
static const RequestClass index_class = { sizeof(PropRequest), index_run, index_reply, prop_clear };
static const RequestClass get_class = { sizeof(PropRequest), get_run, get_reply, prop_clear };
static const RequestClass set_class = { sizeof(PropRequest), set_run, NULL, prop_clear };
static const RequestClass remove_class = { sizeof(PropRequest), remove_run, NULL, prop_clear };

int method_get_prop_count(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        g_autoptr(Request) request = NULL;
        int r;

        if ((r = request_new(&count_class, caller, message, &request, error)) != 0 ||
            (r = request_submit_read(request, error)) != 0)
                return r;
        g_steal_pointer(&request);
        return 0;
}

int method_get_prop_by_index(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        g_autoptr(Request) request = NULL;
        int r;

        r = request_new(&index_class, caller, message, &request, error);
        if (r != 0)
                return r;
        r = sd_bus_message_read(message, "q", &((PropRequest *)request)->index);
        if (r < 0)
                return r;
        r = request_submit_read(request, error);
        if (r == 0)
                g_steal_pointer(&request);
        return r;
}

/* Makes a request whose first argument is the name of a property. */
static int named_request(const RequestClass *class, Caller *caller, sd_bus_message *message, Request **ret,
                Error *error) {
        PropRequest *prop;
        int r;

        r = request_new(class, caller, message, ret, error);
        if (r != 0)
                return r;
        prop = (PropRequest *)*ret;
        r = sd_bus_message_read(message, "s", &prop->name);
        return r < 0 ? r : check_name(prop->name, error);
}

int method_get_prop_by_name(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        g_autoptr(Request) request = NULL;
        int r;

        if ((r = named_request(&get_class, caller, message, &request, error)) != 0 ||
            (r = request_submit_read(request, error)) != 0)
                return r;
        g_steal_pointer(&request);
        return 0;
}

static int read_path(sd_bus_message *message, const char *name, const char **ret, Error *error) {
        const char *contents;
        char type;
        int r;

        r = sd_bus_message_peek_type(message, &type, &contents);
        if (r < 0)
                return r;
        if (strcmp(contents, "s") != 0)
                return error_set(error, ERROR_INVALID_ARGUMENTS, "%s must be of type s.", name);
        r = sd_bus_message_read(message, "v", "s", ret);
        if (r < 0)
                return r;
        if (!folder_path_is_plain(*ret))
                return error_set(error, ERROR_INVALID_ARGUMENTS,
                        "%s must be the full path of a folder, such as /srv/backup/1000, of at most %u bytes and "
                        "without '//', '.' and '..'.", name, LICENSE_STRING_MAX);
        return 0;
}

int method_set_prop(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        g_autoptr(Request) request = NULL;
        g_autofree char *root = NULL, *path = NULL;
        const char *below;
        PropRequest *prop;
        int r;

        r = named_request(&set_class, caller, message, &request, error);
        if (r != 0)
                return r;
        prop = (PropRequest *)request;

        if ((r = read_path(message, prop->name, &prop->value, error)) != 0 ||
            (r = backup_place(manager->state_folder, manager->config.roots, caller->user->uid, prop->value, &root,
                 &path, &below, error)) != 0 ||
            (r = request_submit_write(request, 0, 0, error)) != 0)
                return r;
        g_steal_pointer(&request);
        return 0;
}

int method_remove_prop(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        g_autoptr(Request) request = NULL;
        int r;

        if ((r = named_request(&remove_class, caller, message, &request, error)) != 0 ||
            (r = request_submit_write(request, 0, 0, error)) != 0)
                return r;
        g_steal_pointer(&request);
        return 0;
}

int method_remove_all_props(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        g_autoptr(Request) request = NULL;
        int r;

        if ((r = request_new(&remove_class, caller, message, &request, error)) != 0 ||
            (r = request_submit_write(request, 0, 0, error)) != 0)
                return r;
        g_steal_pointer(&request);
        return 0;
}
