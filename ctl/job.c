/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job.h"

#include <pwd.h>
#include <string.h>

#include "json.h"
#include "text.h"

static void row_free(void *pointer) {
        JobRow *row = pointer;

        g_free(row->path);
        g_free(row->kind);
        g_free(row->state);
        g_free(row);
}

static int read_rows(sd_bus_message *reply, GPtrArray *jobs) {
        const char *path, *kind, *state;
        uint32_t owner;
        int r;

        r = sd_bus_message_enter_container(reply, 'a', "(osus)");
        if (r < 0)
                return r;

        while ((r = sd_bus_message_read(reply, "(osus)", &path, &kind, &owner, &state)) > 0) {
                const JobRow row = { g_strdup(path), g_strdup(kind), owner, g_strdup(state) };

                g_ptr_array_add(jobs, g_memdup2(&row, sizeof row));
        }
        return r;
}

Status job_list(Ctl *ctl, GPtrArray **ret) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *call = NULL, *reply = NULL;
        g_autoptr(GPtrArray) jobs = g_ptr_array_new_with_free_func(row_free);
        Status status;

        if ((status = bus_call_new(ctl, BUS_MANAGER, "ListJobs", &call, NULL)) != STATUS_OK ||
            (status = bus_call(ctl, call, NULL, &reply)) != STATUS_OK)
                return status;
        if (read_rows(reply, jobs) < 0)
                return bus_fail_parse(ctl);
        *ret = g_steal_pointer(&jobs);
        return STATUS_OK;
}

bool job_is_active(const JobRow *job) {
        return strcmp(job->state, "queued") == 0 || strcmp(job->state, "running") == 0;
}

Status job_path_from_text(Ctl *ctl, const char *text, char **ret) {
        g_autofree char *path = strchr(text, '/') ? g_strdup(text) : g_strdup_printf(JOB_PATH "/%s", text);

        if (!sd_bus_object_path_is_valid(path) || !g_str_has_prefix(path, JOB_PATH "/"))
                return ctl_fail(ctl, STATUS_USAGE,
                        "'%s' is not the name of a job. List them with: licensevaultctl jobs", text);
        *ret = g_steal_pointer(&path);
        return STATUS_OK;
}

const char *job_id(const char *path) {
        const char *slash = strrchr(path, '/');

        return slash ? slash + 1 : path;
}

char *job_user(uint32_t uid) {
        const struct passwd *user = getpwuid(uid);

        return user ? g_strdup(user->pw_name) : g_strdup_printf("%" PRIu32, uid);
}

Tone job_tone(const char *state) {
        return strcmp(state, "done") == 0 ? TONE_GOOD : strcmp(state, "failed") == 0 ? TONE_BAD :
                strcmp(state, "canceled") == 0 ? TONE_WARNING : TONE_PLAIN;
}

/* The members of a result, in the order of the words. */
static const struct {
        const char *member;
        const char *words;
        bool also_zero;
} outcomes[] = {
        { "restored", "restored", true },
        { "unchanged", "unchanged", false },
        { "newer_kept", "newer here and kept", false },
        { "conflicts", "in conflict", false },
        { "revoked", "revoked", false },
        { "skipped", "skipped: their users have no account here", false },
        { "restricted", "may not be backed up", false },
        { "damaged", "damaged in the store and left out", false },
};

char *job_outcome(const json_t *result) {
        g_autoptr(GString) text = g_string_new(NULL);

        if (json_is_integer(json_object_get(result, "licenses"))) {
                g_autofree char *licenses = text_licenses(json_get_u64(result, "licenses")),
                                *size = text_size(json_get_u64(result, "bytes"));
                g_string_append_printf(text, "%s, %s%s", licenses, size,
                        json_is_true(json_object_get(result, "verified")) ? ", verified" : "");
        }
        for (unsigned i = 0; i < G_N_ELEMENTS(outcomes); i++) {
                const json_t *value = json_object_get(result, outcomes[i].member);

                if (json_is_integer(value) && (json_integer_value(value) > 0 || outcomes[i].also_zero))
                        g_string_append_printf(text, "%s%" JSON_INTEGER_FORMAT " %s", text->len > 0 ? ", " : "",
                                json_integer_value(value), outcomes[i].words);
        }
        return g_string_free(g_steal_pointer(&text), FALSE);
}

bool job_is_partial(const json_t *result) {
        return json_get_u64(result, "skipped") > 0 || json_get_u64(result, "damaged") > 0;
}
