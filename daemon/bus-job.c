/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "bus-license.h"
#include "job.h"
#include "method.h"
#include "request.h"

#define PAGE_ENTRIES_MAX 1000U

/*
 * The getters take the Job as userdata. They are called from method_properties_get() and _get_all()
 * and never by sd-bus itself, which would ask before it is known who the caller is.
 */

static int get_kind(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", job_kind_name(userdata));
}

static int get_owner(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "u", (uint32_t)((Job *)userdata)->user->uid);
}

static int get_state(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", job_state_name(userdata));
}

static int get_completed(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "t", ((Job *)userdata)->completed);
}

static int get_total(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "t", ((Job *)userdata)->total);
}

static int get_cancelable(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "b", (int)job_is_cancelable(userdata));
}

static int get_hresult(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "i", error_hresult(((Job *)userdata)->error.code));
}

static int get_error(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", error_name(((Job *)userdata)->error.code));
}

static int get_message(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", error_message(&((Job *)userdata)->error));
}

static int get_result(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return job_append_result_details(userdata, reply);
}

const sd_bus_vtable job_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Cancel", NULL, NULL, method_dispatch, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Wait", SD_BUS_NO_ARGS,
                SD_BUS_RESULT("i", hresult, "s", error, "s", message, "a{sv}", result), method_dispatch,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Release", NULL, NULL, method_dispatch, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListRestricted", SD_BUS_ARGS("u", offset, "u", max),
                SD_BUS_RESULT("a(sss)", licenses), method_dispatch, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_SIGNAL_WITH_ARGS("Progress",
                SD_BUS_ARGS("u", status, "i", hresult, "t", completed, "t", total, "v", value), 0),
        SD_BUS_SIGNAL_WITH_ARGS("Done",
                SD_BUS_ARGS("u", status, "i", hresult, "s", error, "s", message, "a{sv}", result), 0),
        SD_BUS_PROPERTY("Kind", "s", get_kind, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Owner", "u", get_owner, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("State", "s", get_state, 0, 0),
        SD_BUS_PROPERTY("Completed", "t", get_completed, 0, 0),
        SD_BUS_PROPERTY("Total", "t", get_total, 0, 0),
        SD_BUS_PROPERTY("Cancelable", "b", get_cancelable, 0, 0),
        SD_BUS_PROPERTY("HResult", "i", get_hresult, 0, 0),
        SD_BUS_PROPERTY("Error", "s", get_error, 0, 0),
        SD_BUS_PROPERTY("Message", "s", get_message, 0, 0),
        SD_BUS_PROPERTY("Result", "a{sv}", get_result, 0, 0),
        SD_BUS_VTABLE_END,
};

static int find(Manager *manager, Caller *caller, sd_bus_message *message, Job **ret, Error *error) {
        return job_find(manager, caller, sd_bus_message_get_path(message), ret, error);
}

int method_job_cancel(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        Job *job;
        int r;

        r = find(manager, caller, message, &job, error);
        if (r != 0)
                return r;

        manager_send_empty(manager, message);
        job_cancel(job, NULL);
        return 0;
}

int method_job_wait(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        Job *job;
        int r;

        r = find(manager, caller, message, &job, error);
        return r != 0 ? r : job_wait(job, message, error);
}

int method_job_release(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        Job *job;
        int r;

        r = find(manager, caller, message, &job, error);
        if (r != 0)
                return r;

        job_release(job);
        manager_send_empty(manager, message);
        return 0;
}

typedef struct RestrictedRequest {
        Request request;
        RestrictedList *list;
        bool nothing;
        uint32_t offset, max;
        GPtrArray *page;
} RestrictedRequest;

static int restricted_run(Request *request, StoreConnection *connection, Error *error) {
        RestrictedRequest *restricted = (RestrictedRequest *)request;
        int r;

        restricted->page = g_ptr_array_new();
        if (restricted->nothing)
                return 0;
        r = restricted_read(restricted->list, restricted->offset, restricted->max, restricted->page);
        return r < 0 ? error_set_errno(error, ERROR_STORE_READ, r, "The list cannot be read") : 0;
}

static int restricted_reply(Request *request, sd_bus_message *reply) {
        RestrictedRequest *restricted = (RestrictedRequest *)request;
        int r;

        r = sd_bus_message_open_container(reply, 'a', "(sss)");
        for (unsigned i = 0; r >= 0 && i < restricted->page->len; i += 3) {
                for (unsigned k = 0; k < 3; k++)
                        request->reply_bytes += 8 + strlen(restricted->page->pdata[i + k]);
                r = sd_bus_message_append(reply, "(sss)", restricted->page->pdata[i], restricted->page->pdata[i + 1],
                        restricted->page->pdata[i + 2]);
        }
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static void restricted_clear(Request *request) {
        RestrictedRequest *restricted = (RestrictedRequest *)request;

        restricted_unref(restricted->list);
        if (restricted->page)
                g_ptr_array_unref(restricted->page);
}

static const RequestClass restricted_class = { sizeof(RestrictedRequest), restricted_run, restricted_reply,
        restricted_clear };

int method_job_list_restricted(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        g_autoptr(Request) request = NULL;
        RestrictedRequest *restricted;
        Job *job;
        int r;

        if ((r = find(manager, caller, message, &job, error)) != 0 ||
            (r = request_new(&restricted_class, caller, message, &request, error)) != 0)
                return r;
        restricted = (RestrictedRequest *)request;
        restricted->list = restricted_ref(job->restricted);
        /* What a restore has found in conflict before it failed came to nothing. */
        restricted->nothing = job->kind == JOB_RESTORE && job->state != JOB_DONE;

        r = sd_bus_message_read(message, "uu", &restricted->offset, &restricted->max);
        if (r < 0)
                return r;
        if (restricted->max == 0 || restricted->max > PAGE_ENTRIES_MAX)
                restricted->max = PAGE_ENTRIES_MAX;

        r = request_submit_read(request, error);
        if (r == 0)
                g_steal_pointer(&request);
        return r;
}

/* org.freedesktop.DBus.Properties on a job */

static int check_interface(const char *interface, Error *error) {
        if (!*interface || strcmp(interface, JOB_INTERFACE) == 0)
                return 0;
        return error_set(error, ERROR_INVALID_ARGUMENTS, "A job has no interface '%.64s'.", interface);
}

static int append_property(const sd_bus_vtable *row, Job *job, sd_bus_message *reply) {
        int r;

        if ((r = sd_bus_message_open_container(reply, 'v', row->x.property.signature)) < 0 ||
            (r = row->x.property.get(job->manager->bus, job->path, JOB_INTERFACE, row->x.property.member, reply, job,
                 NULL)) < 0)
                return r;
        return sd_bus_message_close_container(reply);
}

static int send_or_fail(const Job *job, sd_bus_message *reply, int r) {
        if (r < 0)
                sd_bus_message_unref(reply);
        else
                manager_send_large(job->manager, reply, job_result_bytes(job));
        return MIN(r, 0);
}

int method_properties_get(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        const char *interface, *name;
        sd_bus_message *reply = NULL;
        Job *job;
        int r;

        r = find(manager, caller, message, &job, error);
        if (r != 0)
                return r;
        r = sd_bus_message_read(message, "ss", &interface, &name);
        if (r < 0)
                return r;
        r = check_interface(interface, error);
        if (r != 0)
                return r;

        for (const sd_bus_vtable *row = job_vtable + 1; row->type != _SD_BUS_VTABLE_END; row++)
                if (row->type == _SD_BUS_VTABLE_PROPERTY && strcmp(row->x.property.member, name) == 0) {
                        r = sd_bus_message_new_method_return(message, &reply);
                        return send_or_fail(job, reply, r < 0 ? r : append_property(row, job, reply));
                }
        return error_set(error, ERROR_INVALID_ARGUMENTS, "A job has no property '%.64s'.", name);
}

int method_properties_get_all(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        const char *interface;
        sd_bus_message *reply = NULL;
        Job *job;
        int r;

        r = find(manager, caller, message, &job, error);
        if (r != 0)
                return r;
        r = sd_bus_message_read(message, "s", &interface);
        if (r < 0)
                return r;
        r = check_interface(interface, error);
        if (r != 0)
                return r;

        if ((r = sd_bus_message_new_method_return(message, &reply)) >= 0)
                r = sd_bus_message_open_container(reply, 'a', "{sv}");
        for (const sd_bus_vtable *row = job_vtable + 1; r >= 0 && row->type != _SD_BUS_VTABLE_END; row++)
                if (row->type == _SD_BUS_VTABLE_PROPERTY) {
                        if ((r = sd_bus_message_open_container(reply, 'e', "sv")) >= 0 &&
                            (r = sd_bus_message_append(reply, "s", row->x.property.member)) >= 0 &&
                            (r = append_property(row, job, reply)) >= 0)
                                r = sd_bus_message_close_container(reply);
                }
        return send_or_fail(job, reply, r < 0 ? r : sd_bus_message_close_container(reply));
}

int method_properties_set(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        Job *job;
        int r;

        r = find(manager, caller, message, &job, error);
        return r != 0 ? r : error_set(error, ERROR_ACCESS_DENIED, "The properties of a job are read-only.");
}
