/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <pwd.h>
#include <string.h>

#include "bus.h"
#include "json.h"
#include "table.h"

/* jobs */

static const Column columns[] = {
        { "JOB", 16, 0 },
        { "KIND", 7, 0 },
        { "USER", 8, 0 },
        { "STATE", 8, 0 },
};

static char *user_name(uint32_t uid) {
        const struct passwd *user = getpwuid(uid);

        return user ? g_strdup(user->pw_name) : g_strdup_printf("%" PRIu32, uid);
}

static int read_jobs(sd_bus_message *reply, Table *table, json_t *jobs) {
        const char *path, *kind, *state;
        uint32_t owner;
        int r;

        r = sd_bus_message_enter_container(reply, 'a', "(osus)");
        if (r < 0)
                return r;

        while ((r = sd_bus_message_read(reply, "(osus)", &path, &kind, &owner, &state)) > 0) {
                g_autofree char *name = user_name(owner);

                (void)json_array_append_new(jobs, json_pack("{ss ss sI ss}", "job", path, "kind", kind,
                        "owner", (json_int_t)owner, "state", state));
                table_add(table, strrchr(path, '/') + 1);
                table_add(table, kind);
                table_add(table, name);
                table_add(table, state);
        }
        return r;
}

Status command_jobs(Ctl *ctl, char **arguments) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *call = NULL, *reply = NULL;
        g_autoptr(Table) table = table_new(columns, G_N_ELEMENTS(columns));
        json_t *jobs = json_array();
        Status status;

        ctl_result(ctl, "jobs", jobs);
        status = bus_call_new(ctl, BUS_MANAGER, "ListJobs", &call);
        if (status == STATUS_OK)
                status = bus_call(ctl, call, NULL, &reply);
        if (status != STATUS_OK)
                return status;
        if (read_jobs(reply, table, jobs) < 0)
                return bus_fail_parse(ctl);

        if (ctl->json)
                return STATUS_OK;
        if (json_array_size(jobs) == 0)
                ctl_note(ctl, "There are no jobs.");
        table_print(table);
        return ctl_flush(ctl);
}

/* cancel */

static Status cancel_job(Ctl *ctl, const char *job) {
        __attribute__((cleanup(sd_bus_error_free))) sd_bus_error error = SD_BUS_ERROR_NULL;
        g_autofree char *path = job[0] == '/' ? g_strdup(job) : g_strdup_printf(JOB_PATH "/%s", job);
        Status status;

        if (!sd_bus_object_path_is_valid(path) || !g_str_has_prefix(path, JOB_PATH "/"))
                return ctl_fail(ctl, STATUS_USAGE,
                        "'%s' is not the name of a job. List them with: licensevaultctl jobs", job);

        status = bus_connect(ctl);
        if (status != STATUS_OK)
                return status;

        if (sd_bus_call_method(ctl->bus, BUS_NAME, path, JOB_INTERFACE, "Cancel", &error, NULL, NULL) < 0)
                return bus_fail(ctl, &error, NULL);
        ctl_note(ctl, "Asked the job to end.");
        return STATUS_OK;
}

static Status cancel_kind(Ctl *ctl, const char *interface, const char *member) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *call = NULL, *reply = NULL;
        Status status;

        status = bus_call_new(ctl, interface, member, &call);
        return status == STATUS_OK ? bus_call(ctl, call, NULL, &reply) : status;
}

Status command_cancel(Ctl *ctl, char **arguments) {
        Status status;

        ctl->result = json_object();
        if (arguments[0])
                return cancel_job(ctl, arguments[0]);

        /* A user has one job at most, and it need not be told of which kind. */
        status = cancel_kind(ctl, BUS_BACKUP, "CancelLicenseBackup");
        if (status == STATUS_OK)
                status = cancel_kind(ctl, BUS_RESTORE, "CancelLicenseRestore");
        if (status == STATUS_OK)
                ctl_note(ctl, "Asked your job to end, if one is running.");
        return status;
}
