/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>

#include "bus.h"
#include "fields.h"
#include "job.h"
#include "json.h"
#include "pager.h"
#include "table.h"
#include "text.h"

#define FOR_EVER UINT64_MAX

/* A call to a job without arguments. An error is said. */
static Status call_job(Ctl *ctl, const char *path, const char *member, uint64_t timeout_usec,
        sd_bus_message **ret_reply) {
        __attribute__((cleanup(sd_bus_error_free))) sd_bus_error error = SD_BUS_ERROR_NULL;
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *call = NULL;
        Status status;
        int r;

        status = bus_connect(ctl);
        if (status != STATUS_OK)
                return status;
        r = sd_bus_message_new_method_call(ctl->bus, &call, BUS_NAME, path, JOB_INTERFACE, member);
        if (r < 0)
                return bus_fail_build(ctl, r);
        if (sd_bus_call(ctl->bus, call, timeout_usec, &error, ret_reply) >= 0)
                return STATUS_OK;
        if (timeout_usec == FOR_EVER && sd_bus_error_has_name(&error, SD_BUS_ERROR_NO_REPLY))
                return ctl_fail_named(ctl, STATUS_UNREACHABLE, error.name,
                        "The licensevault service stopped, and the job with it. The licenses and an earlier backup "
                        "are as they were before the job.");
        return bus_fail(ctl, &error, job_id(path));
}

/* The properties of a job, under the names that they have on the bus. */
static Status read_properties(Ctl *ctl, const char *path, json_t **ret) {
        __attribute__((cleanup(sd_bus_error_free))) sd_bus_error error = SD_BUS_ERROR_NULL;
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *reply = NULL;
        Status status;

        status = bus_connect(ctl);
        if (status != STATUS_OK)
                return status;
        if (sd_bus_call_method(ctl->bus, BUS_NAME, path, "org.freedesktop.DBus.Properties", "GetAll", &error, &reply,
                    "s", JOB_INTERFACE) < 0)
                return bus_fail(ctl, &error, job_id(path));
        return json_read_dictionary(reply, ret) < 0 ? bus_fail_parse(ctl) : STATUS_OK;
}

/* jobs */

static const Column job_columns[] = {
        { "JOB", 16, 0 },
        { "KIND", 7, 0 },
        { "USER", 8, 0 },
        { "STATE", 8, 0 },
};

Status command_jobs(Ctl *ctl, char **arguments) {
        g_autoptr(Table) table = table_new(job_columns, G_N_ELEMENTS(job_columns));
        g_autoptr(GPtrArray) jobs = NULL;
        json_t *list = json_array();
        Status status;

        ctl_result(ctl, "jobs", list);
        status = job_list(ctl, &jobs);
        if (status != STATUS_OK)
                return status;

        for (unsigned i = 0; i < jobs->len; i++) {
                const JobRow *job = jobs->pdata[i];
                g_autofree char *name = job_user(job->owner);

                (void)json_array_append_new(list, json_pack("{ss ss sI ss}", "job", job->path, "kind", job->kind,
                        "owner", (json_int_t)job->owner, "state", job->state));
                table_add(table, job_id(job->path));
                table_add(table, job->kind);
                table_add(table, name);
                table_add_tone(table, job_tone(job->state), job->state);
        }

        if (ctl->json)
                return STATUS_OK;
        if (jobs->len == 0)
                ctl_note(ctl, "There are no jobs.");
        else
                pager_open(ctl);
        table_print(table);
        return ctl_flush(ctl);
}

/* job */

static const Column license_columns[] = {
        { "ID", 36, 10 },
        { "KEY", 8, 0 },
        { "TITLE", 8, 0 },
};

/* All that the job names, page by page: what a backup left out, what a restore found in conflict. */
static Status list_named(Ctl *ctl, const char *path, json_t *licenses) {
        for (;;) {
                __attribute__((cleanup(sd_bus_error_free))) sd_bus_error error = SD_BUS_ERROR_NULL;
                __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *reply = NULL;
                json_auto_t *page = NULL;

                if (sd_bus_call_method(ctl->bus, BUS_NAME, path, JOB_INTERFACE, "ListRestricted", &error, &reply, "uu",
                            (uint32_t)json_array_size(licenses), 0) < 0)
                        return bus_fail(ctl, &error, job_id(path));
                if (json_read_licenses(reply, &page) < 0)
                        return bus_fail_parse(ctl);
                if (json_array_size(page) == 0)
                        return STATUS_OK;
                (void)json_array_extend(licenses, page);
        }
}

static void print_job(const char *path, const json_t *job, const json_t *licenses) {
        g_autofree char *user = job_user((uint32_t)json_get_u64(job, "Owner")),
                        *outcome = job_outcome(json_object_get(job, "Result"));
        g_autoptr(Table) table = table_new(license_columns, G_N_ELEMENTS(license_columns));
        const char *state = json_get_string(job, "State"), *error = json_get_string(job, "Error");
        g_autofree char *message = *error ? bus_words(error, json_get_string(job, "Message")) : g_strdup("");
        bool restore = strcmp(json_get_string(job, "Kind"), "restore") == 0;
        const json_t *license;
        size_t i;

        field_print("Job", job_id(path));
        field_print("Kind", json_get_string(job, "Kind"));
        field_print("User", user);
        field_print_tone("State", job_tone(state), state);
        if (json_get_u64(job, "Total") > 0)
                field_printf("Progress", "%" PRIu64 " of %" PRIu64 " licenses", json_get_u64(job, "Completed"),
                        json_get_u64(job, "Total"));
        field_print("Result", outcome);
        field_print("Message", message);
        field_print("Error", error);
        if (json_is_true(json_object_get(job, "Cancelable")))
                field_printf("To cancel it", "licensevaultctl cancel %s", job_id(path));

        if (json_array_size(licenses) == 0)
                return;
        printf("\n%s\n", restore ? "In conflict; what was here stayed:" : "Not backed up, for they may not be:");
        json_array_foreach(licenses, i, license) {
                table_add(table, json_get_string(license, "LicenseId"));
                table_add(table, json_get_string(license, "KeyId"));
                table_add(table, json_get_string(license, "Title"));
        }
        table_print(table);
}

Status command_job(Ctl *ctl, char **arguments) {
        g_autofree char *path = NULL;
        json_t *licenses = json_array();
        json_t *job = NULL;
        Status status;

        if ((status = job_path_from_text(ctl, arguments[0], &path)) != STATUS_OK ||
            (status = read_properties(ctl, path, &job)) != STATUS_OK) {
                json_decref(licenses);
                return status;
        }
        ctl->result = job;
        ctl_result(ctl, "Job", json_string(path));
        ctl_result(ctl, "Licenses", licenses);
        status = list_named(ctl, path, licenses);
        if (status != STATUS_OK || ctl->json)
                return status;
        pager_open(ctl);
        print_job(path, job, licenses);
        return ctl_flush(ctl);
}

/* wait */

/* Says how a job ended, and keeps it for --json. Its failure is ours. */
static Status report_end(Ctl *ctl, const char *path, const char *kind, sd_bus_message *reply) {
        const char *error, *message, *state;
        json_auto_t *result = NULL;
        int32_t hresult;

        if (sd_bus_message_read(reply, "iss", &hresult, &error, &message) < 0 ||
            json_read_dictionary(reply, &result) < 0)
                return bus_fail_parse(ctl);

        state = hresult >= 0 ? "done" : error_from_name(error) == ERROR_CANCELED ? "canceled" : "failed";
        (void)json_array_append_new(json_object_get(ctl->result, "jobs"),
                json_pack("{ss ss ss si ss ss sO}", "job", path, "kind", kind, "state", state, "hresult", (int)hresult,
                        "error", error, "message", message, "result", result));
        if (hresult < 0)
                return bus_fail_named(ctl, error, message, job_id(path));

        g_autofree char *outcome = job_outcome(result);
        ctl_note(ctl, "The %s %s is done: %s.", kind, job_id(path), outcome);
        if (!job_is_partial(result))
                return STATUS_OK;
        ctl_note(ctl, "Something is missing. See what: licensevaultctl job %s", job_id(path));
        return STATUS_PARTIAL;
}

static Status wait_for(Ctl *ctl, const char *path) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *reply = NULL;
        json_auto_t *job = NULL;
        Status status;

        status = read_properties(ctl, path, &job);
        if (status != STATUS_OK)
                return status;
        if (!*json_get_string(job, "Error") && json_object_size(json_object_get(job, "Result")) == 0)
                ctl_note(ctl, "Waiting for the %s %s. Ctrl-C ends the waiting, and no job.",
                        json_get_string(job, "Kind"), job_id(path));
        status = call_job(ctl, path, "Wait", FOR_EVER, &reply);
        if (status != STATUS_OK)
                return status;
        return report_end(ctl, path, json_get_string(job, "Kind"), reply);
}

Status command_wait(Ctl *ctl, char **arguments) {
        g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
        Status first = STATUS_OK, status = STATUS_OK;

        ctl_result(ctl, "jobs", json_array());
        for (char **job = arguments; *job; job++) {
                char *path = NULL;

                status = job_path_from_text(ctl, *job, &path);
                if (status != STATUS_OK)
                        return status;
                g_ptr_array_add(paths, path);
        }
        if (paths->len == 0) {
                g_autoptr(GPtrArray) jobs = NULL;

                status = job_list(ctl, &jobs);
                if (status != STATUS_OK)
                        return status;
                for (unsigned i = 0; i < jobs->len; i++) {
                        const JobRow *job = jobs->pdata[i];
                        if (job_is_active(job))
                                g_ptr_array_add(paths, g_strdup(job->path));
                }
                if (paths->len == 0)
                        ctl_note(ctl, "No job is running.");
        }

        for (unsigned i = 0; i < paths->len; i++) {
                status = wait_for(ctl, paths->pdata[i]);
                if (first == STATUS_OK)
                        first = status;
                if (status == STATUS_UNREACHABLE)
                        break;
        }
        return first;
}

/* release */

Status command_release(Ctl *ctl, char **arguments) {
        Status first = STATUS_OK;

        ctl->result = json_object();
        for (char **job = arguments; *job; job++) {
                __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *reply = NULL;
                g_autofree char *path = NULL;
                Status status;

                status = job_path_from_text(ctl, *job, &path);
                if (status == STATUS_OK)
                        status = call_job(ctl, path, "Release", 0, &reply);
                if (status == STATUS_OK)
                        ctl_note(ctl, "The service keeps no result of job %s.", job_id(path));
                if (first == STATUS_OK)
                        first = status;
                if (status != STATUS_OK && status != STATUS_NOT_FOUND)
                        break;
        }
        return first;
}

/* cancel */

static Status cancel_kind(Ctl *ctl, const char *interface, const char *member) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *call = NULL, *reply = NULL;
        Status status;

        status = bus_call_new(ctl, interface, member, &call, NULL);
        return status == STATUS_OK ? bus_call(ctl, call, NULL, &reply) : status;
}

static Status cancel_job(Ctl *ctl, const char *job) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *reply = NULL;
        g_autofree char *path = NULL;
        Status status;

        if ((status = job_path_from_text(ctl, job, &path)) != STATUS_OK ||
            (status = call_job(ctl, path, "Cancel", 0, &reply)) != STATUS_OK)
                return status;
        ctl_note(ctl, "Asked the job to end. To see how it did: licensevaultctl wait %s", job_id(path));
        return STATUS_OK;
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
