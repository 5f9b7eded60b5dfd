/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "folder.h"
#include "log.h"

static const Config defaults = {
        .limits = {
                .document_bytes = 1024 * 1024,
                .licenses_per_user = 1000 * 1000,
                .remembered_per_user = 2 * 1000 * 1000,
                .bytes_per_user = UINT64_C(1024) * 1024 * 1024,
                .store_bytes = UINT64_C(16) * 1024 * 1024 * 1024,
                .minimum_free_percent = 5,
        },
        .queued_writes_per_user = 64,
        .queued_write_bytes_per_user = 16 * 1024 * 1024,
        .queued_reads_per_user = 128,
        .cached_callers = 4096,
        .subscriptions_per_user = 16,
        .running_jobs = 4,
        .jobs_on_machine = 32,
        .result_seconds = 60,
        .results_per_user = 16,
        .stall_seconds = 60,
};

/*
 * All that can be set: what is not in here is not a setting. The installed file and licensevaultd.conf(5) tell the
 * same.
 */
static const struct Setting {
        const char *group, *key;
        size_t offset, size;
        uint64_t min, max; /* of a number; both 0: a list of folders */
} settings[] = {
#define SETTING(group, key, field, min, max) \
        { group, key, offsetof(Config, field), sizeof(((Config *)0)->field), min, max }
        SETTING("Limits", "DocumentBytes", limits.document_bytes, 1, LICENSE_DOCUMENT_MAX),
        SETTING("Limits", "LicensesPerUser", limits.licenses_per_user, 1, 1000 * 1000 * 1000),
        SETTING("Limits", "RememberedPerUser", limits.remembered_per_user, 1, 1000 * 1000 * 1000),
        SETTING("Limits", "BytesPerUser", limits.bytes_per_user, 1, INT64_MAX),
        SETTING("Limits", "StoreBytes", limits.store_bytes, 1, INT64_MAX),
        SETTING("Limits", "MinimumFreePercent", limits.minimum_free_percent, 0, 100),
        SETTING("Limits", "QueuedWritesPerUser", queued_writes_per_user, 1, 4096),
        SETTING("Limits", "QueuedWriteBytesPerUser", queued_write_bytes_per_user, 4096, 1024 * 1024 * 1024),
        SETTING("Limits", "QueuedReadsPerUser", queued_reads_per_user, 1, 4096),
        SETTING("Limits", "CachedCallers", cached_callers, 16, 1000 * 1000),
        SETTING("Limits", "SubscriptionsPerUser", subscriptions_per_user, 1, 1000),
        SETTING("Jobs", "RunningJobs", running_jobs, 1, 32),
        SETTING("Jobs", "JobsOnMachine", jobs_on_machine, 1, 1000),
        SETTING("Jobs", "ResultSeconds", result_seconds, 1, 24 * 60 * 60),
        SETTING("Jobs", "ResultsPerUser", results_per_user, 1, 1000),
        SETTING("Jobs", "StallSeconds", stall_seconds, 1, 24 * 60 * 60),
        SETTING("Backup", "Roots", roots, 0, 0),
#undef SETTING
};

static void set_number(Config *config, const struct Setting *setting, uint64_t value) {
        uint8_t *field = (uint8_t *)config + setting->offset;

        if (setting->size == sizeof(uint64_t))
                memcpy(field, &value, sizeof value);
        else {
                unsigned small = (unsigned)value;
                memcpy(field, &small, sizeof small);
        }
}

static void take_number(Config *config, const char *path, GKeyFile *file, const struct Setting *setting,
                unsigned *problems) {
        /* As it stands in the file: what is not even text is a bad number, too. */
        g_autofree char *text = g_key_file_get_value(file, setting->group, setting->key, NULL);
        uint64_t value;

        if (!text)
                return;
        if (!g_ascii_string_to_unsigned(g_strchomp(text), 10, setting->min, setting->max, &value, NULL)) {
                log_warning("%s: [%s] %s= must be a number from %" PRIu64 " to %" PRIu64 ". It is ignored.", path,
                        setting->group, setting->key, setting->min, setting->max);
                (*problems)++;
                return;
        }
        set_number(config, setting, value);
}

static void take_folders(Config *config, const char *path, GKeyFile *file, const struct Setting *setting,
                unsigned *problems) {
        g_autoptr(GError) error = NULL;
        g_auto(GStrv) folders = g_key_file_get_string_list(file, setting->group, setting->key, NULL, &error);
        char ***field = (char ***)(void *)((uint8_t *)config + setting->offset);
        GPtrArray *good;

        if (!folders) {
                if (g_error_matches(error, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_INVALID_VALUE) ||
                    g_error_matches(error, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_UNKNOWN_ENCODING)) {
                        log_warning("%s: [%s] %s= must be full paths with ';' between. It is ignored.", path,
                                setting->group, setting->key);
                        (*problems)++;
                }
                return;
        }

        good = g_ptr_array_new();
        for (char **folder = folders; *folder; folder++) {
                size_t length = strlen(*folder);

                /* As a shell completes it. */
                if (length > 1 && (*folder)[length - 1] == '/')
                        (*folder)[length - 1] = '\0';
                if (folder_path_is_plain(*folder))
                        g_ptr_array_add(good, g_strdup(*folder));
                else {
                        log_warning("%s: [%s] %s=: '%s' is not a full path without '..' and '//'. It is ignored.", path,
                                setting->group, setting->key, *folder);
                        (*problems)++;
                }
        }
        g_ptr_array_add(good, NULL);
        g_strfreev(*field);
        *field = (char **)g_ptr_array_free(good, false);
}

static bool is_known(const char *group, const char *key) {
        for (size_t i = 0; i < G_N_ELEMENTS(settings); i++)
                if (g_str_equal(group, settings[i].group) && g_str_equal(key, settings[i].key))
                        return true;
        return false;
}

static void warn_unknown(const char *path, GKeyFile *file, unsigned *problems) {
        g_auto(GStrv) groups = g_key_file_get_groups(file, NULL);

        for (char **group = groups; *group; group++) {
                g_auto(GStrv) keys = g_key_file_get_keys(file, *group, NULL, NULL);

                for (char **key = keys; keys && *key; key++)
                        if (!is_known(*group, *key)) {
                                log_warning("%s: [%s] %s= is not a setting. It is ignored.", path, *group, *key);
                                (*problems)++;
                        }
        }
}

/* What is not there is no problem; but who has made a link wants what is behind it. */
static bool is_absent(const char *path, const GError *error) {
        return g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT) && !g_file_test(path, G_FILE_TEST_IS_SYMLINK);
}

static void take_file(Config *config, const char *path, unsigned *problems) {
        g_autoptr(GKeyFile) file = g_key_file_new();
        g_autoptr(GError) error = NULL;

        if (!g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, &error)) {
                if (!is_absent(path, error)) {
                        log_warning("%s cannot be read: %s. It is ignored.", path, error->message);
                        (*problems)++;
                }
                return;
        }

        warn_unknown(path, file, problems);
        for (size_t i = 0; i < G_N_ELEMENTS(settings); i++)
                if (settings[i].max > 0)
                        take_number(config, path, file, &settings[i], problems);
                else
                        take_folders(config, path, file, &settings[i], problems);
}

static int compare_names(const void *a, const void *b) {
        return strcmp(*(char *const *)a, *(char *const *)b);
}

bool config_find_folders(const char **ret_state, const char **ret_config) {
        const char *state = getenv("STATE_DIRECTORY") ?: CONFIG_STATE_FOLDER;

        if (!folder_path_is_plain(state)) {
                log_error("STATE_DIRECTORY='%s' is not the full path of one folder.", state);
                return false;
        }

        *ret_state = state;
        *ret_config = getenv("CONFIGURATION_DIRECTORY") ?: "/etc/licensevault";
        return true;
}

void config_load(const char *folder, Config *ret, unsigned *ret_problems) {
        unsigned problems = 0;

        *ret = defaults;
        ret->roots = g_new0(char *, 1);

        if (folder) {
                g_autofree char *main_file = g_build_filename(folder, "licensevaultd.conf", NULL);
                g_autofree char *drop_ins = g_build_filename(folder, "licensevaultd.conf.d", NULL);
                g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
                g_autoptr(GError) failure = NULL;
                GDir *dir = g_dir_open(drop_ins, 0, &failure);

                if (!dir && !is_absent(drop_ins, failure)) {
                        log_warning("%s: %s. Nothing in it is read.", drop_ins, failure->message);
                        problems++;
                }
                take_file(ret, main_file, &problems);
                for (const char *name; dir && (name = g_dir_read_name(dir));)
                        if (g_str_has_suffix(name, ".conf"))
                                g_ptr_array_add(names, g_build_filename(drop_ins, name, NULL));
                if (dir)
                        g_dir_close(dir);
                g_ptr_array_sort(names, compare_names);
                for (unsigned i = 0; i < names->len; i++)
                        take_file(ret, names->pdata[i], &problems);
        }

        if (ret_problems)
                *ret_problems = problems;
}

void config_clear(Config *config) {
        g_strfreev(config->roots);
        *config = (Config) {};
}
