/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job.h"
#include "method.h"

#define REPLY_JOBS_MAX 600U
/* One of them in a reply: its path and some words. */
#define JOB_BYTES 128U

static int get_version(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", PROJECT_VERSION);
}

static int get_instance_id(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", ((Manager *)userdata)->instance_id);
}

const sd_bus_vtable manager_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Subscribe", NULL, NULL, method_dispatch, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Unsubscribe", NULL, NULL, method_dispatch, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListJobs", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(osus)", jobs), method_dispatch,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListOwners", SD_BUS_ARGS("u", offset, "u", max), SD_BUS_RESULT("a(ustts)", owners),
                method_dispatch, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ReassignLicenses", SD_BUS_ARGS("u", uid, "s", name, "u", new_owner),
                SD_BUS_RESULT("t", licenses), method_dispatch, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("PurgeLicenses", SD_BUS_ARGS("u", uid, "s", name), SD_BUS_RESULT("t", licenses),
                method_dispatch, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_PROPERTY("Version", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("InstanceId", "s", get_instance_id, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_VTABLE_END,
};

int method_subscribe(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        unsigned max = manager->config.subscriptions_per_user;

        if (!caller->subscribed) {
                if (caller->user->n_subscriptions >= max)
                        return error_set(error, ERROR_LIMIT_EXCEEDED,
                                "%u connections of yours are subscribed already (SubscriptionsPerUser=). End "
                                "one.", max);
                caller->user->n_subscriptions++;
                caller->subscribed = true;
        }
        manager_send_empty(manager, message);
        return 0;
}

int method_unsubscribe(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        if (caller->subscribed) {
                caller->user->n_subscriptions--;
                caller->subscribed = false;
        }
        manager_send_empty(manager, message);
        return 0;
}

static int compare_age(const void *a, const void *b) {
        const Job *first = *(Job *const *)a, *second = *(Job *const *)b;

        return (first->number > second->number) - (first->number < second->number);
}

int method_list_jobs(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        g_autoptr(GPtrArray) jobs = g_ptr_array_new();
        sd_bus_message *reply = NULL;
        GHashTableIter iterator;
        Job *job;
        int r;

        g_hash_table_iter_init(&iterator, manager->jobs);
        while (g_hash_table_iter_next(&iterator, NULL, (void **)&job))
                if (job_is_visible(job, caller))
                        g_ptr_array_add(jobs, job);
        g_ptr_array_sort(jobs, compare_age);

        if ((r = sd_bus_message_new_method_return(message, &reply)) >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(osus)");
        /* The newest, where root asks and more were kept than a reply may hold. */
        for (unsigned i = jobs->len > REPLY_JOBS_MAX ? jobs->len - REPLY_JOBS_MAX : 0; r >= 0 && i < jobs->len; i++) {
                job = jobs->pdata[i];
                r = sd_bus_message_append(reply, "(osus)", job->path, job_kind_name(job), (uint32_t)job->user->uid,
                        job_state_name(job));
        }
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        if (r < 0) {
                sd_bus_message_unref(reply);
                return r;
        }
        manager_send_large(manager, reply, MIN(jobs->len, REPLY_JOBS_MAX) * JOB_BYTES);
        return 0;
}
