/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-license.h"

#include <string.h>

int bus_check_string(const char *name, const char *value, Error *error) {
        if (license_string_is_valid(value))
                return 0;
        return error_set(error, ERROR_INVALID_ARGUMENTS, "%s must be text of 1 to %u bytes.", name,
                LICENSE_STRING_MAX);
}

int bus_check_right(const char *right, Error *error) {
        if (license_right_is_valid(right))
                return 0;
        return error_set(error, ERROR_INVALID_ARGUMENTS, "A right has a name of 1 to %u of a-z, 0-9, '.', '_' and '-'.",
                LICENSE_RIGHT_MAX);
}

static int read_counter(sd_bus_message *message, License *license, Error *error) {
        const char *right;
        uint64_t remaining;
        int r;

        r = sd_bus_message_read(message, "{st}", &right, &remaining);
        if (r <= 0)
                return r < 0 ? r : -ENXIO;

        r = bus_check_right(right, error);
        if (r != 0)
                return r;
        if (remaining > INT64_MAX)
                return error_set(error, ERROR_INVALID_ARGUMENTS,
                        "Counter '%s' is too large. Leave it out where the right is unlimited.", right);
        /* Each once: 64 of them end the loop over what may be millions. */
        if (license_find_counter(license, right))
                return error_set(error, ERROR_INVALID_ARGUMENTS, "Counter '%s' is given twice.", right);
        if (license_limit_counter(license, right, remaining) == LICENSE_COUNTERS_FULL)
                return error_set(error, ERROR_INVALID_ARGUMENTS, "A license can have at most %u counters.",
                        LICENSE_COUNTERS_MAX);
        return 0;
}

static int read_counters(sd_bus_message *message, License *license, Error *error) {
        int r;

        r = sd_bus_message_enter_container(message, 'a', "{st}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_at_end(message, false)) == 0) {
                r = read_counter(message, license, error);
                if (r != 0)
                        return r;
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(message);
        return r < 0 ? r : 0;
}

static const char *signature_of(char type) {
        switch (type) {
        case 's':
                return "s";
        case 't':
                return "t";
        case 'u':
                return "u";
        case 'b':
                return "b";
        default:
                return "a{st}";
        }
}

static int read_value(sd_bus_message *message, const BusOption *option, Error *error) {
        int r;

        switch (option->type) {
        case 'a':
                return read_counters(message, option->value, error);
        case 's':
                r = sd_bus_message_read_basic(message, 's', option->value);
                return r < 0 ? r : bus_check_string(option->name, *(const char **)option->value, error);
        case 't': {
                uint64_t value;

                r = sd_bus_message_read_basic(message, 't', &value);
                if (r >= 0 && value > INT64_MAX)
                        return error_set(error, ERROR_INVALID_ARGUMENTS,
                                "%s is too large: it counts seconds since 1970.", option->name);
                if (r >= 0)
                        *(int64_t *)option->value = (int64_t)value;
                return r < 0 ? r : 0;
        }
        default:
                r = sd_bus_message_read_basic(message, option->type, option->value);
                return r < 0 ? r : 0;
        }
}

static int read_option(sd_bus_message *message, const BusOption *options, size_t n_options, uint64_t *seen,
                Error *error) {
        const char *name, *contents;
        char type;
        size_t i;
        int r;

        r = sd_bus_message_read_basic(message, 's', &name);
        if (r < 0)
                return r;
        for (i = 0; i < n_options && strcmp(options[i].name, name) != 0; i++)
                ;
        if (i == n_options)
                return error_set(error, ERROR_INVALID_ARGUMENTS, "There is no option '%.64s' here.", name);
        if (*seen & UINT64_C(1) << i)
                return error_set(error, ERROR_INVALID_ARGUMENTS, "%s is given twice.", name);
        *seen |= UINT64_C(1) << i;

        r = sd_bus_message_peek_type(message, &type, &contents);
        if (r < 0)
                return r;
        if (type != 'v' || strcmp(contents, signature_of(options[i].type)) != 0)
                return error_set(error, ERROR_INVALID_ARGUMENTS, "%s must be of type %s.", name,
                        signature_of(options[i].type));

        r = sd_bus_message_enter_container(message, 'v', contents);
        if (r < 0)
                return r;
        r = read_value(message, &options[i], error);
        if (r == 0)
                r = MIN(sd_bus_message_exit_container(message), 0);
        return r;
}

int bus_read_options(sd_bus_message *message, const BusOption *options, size_t n_options, Error *error) {
        uint64_t seen = 0;
        int r;

        r = sd_bus_message_enter_container(message, 'a', "{sv}");
        if (r < 0)
                return r;

        while ((r = sd_bus_message_enter_container(message, 'e', "sv")) > 0) {
                r = read_option(message, options, n_options, &seen, error);
                if (r == 0)
                        r = MIN(sd_bus_message_exit_container(message), 0);
                if (r != 0)
                        return r;
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(message);
        return r < 0 ? r : 0;
}

int bus_read_license(sd_bus_message *message, License *claimed, Error *error) {
        const char *id = NULL, *key_id = NULL, *title = NULL, *issuer = NULL, *media_type = NULL;
        int allow_backup = true;
        const BusOption options[] = {
                { "LicenseId", 's', &id },
                { "KeyId", 's', &key_id },
                { "Title", 's', &title },
                { "Issuer", 's', &issuer },
                { "MediaType", 's', &media_type },
                { "NotBefore", 't', &claimed->not_before },
                { "NotAfter", 't', &claimed->not_after },
                { "AllowBackup", 'b', &allow_backup },
                { "Counters", 'a', claimed },
        };
        int r;

        r = bus_read_options(message, options, G_N_ELEMENTS(options), error);
        if (r != 0)
                return r;

        claimed->allow_backup = allow_backup;
        if ((id && license_set_string(&claimed->id, id) < 0) ||
            (key_id && license_set_string(&claimed->key_id, key_id) < 0) ||
            (title && license_set_string(&claimed->title, title) < 0) ||
            (issuer && license_set_string(&claimed->issuer, issuer) < 0) ||
            (media_type && license_set_string(&claimed->media_type, media_type) < 0))
                return error_set_no_memory(error);
        return 0;
}

static int append_string(sd_bus_message *message, const char *name, const char *value) {
        return value ? sd_bus_message_append(message, "{sv}", name, "s", value) : 0;
}

static int append_time(sd_bus_message *message, const char *name, int64_t time) {
        return time == LICENSE_NO_TIME ? 0 : sd_bus_message_append(message, "{sv}", name, "t", (uint64_t)time);
}

static int append_counters(sd_bus_message *message, const GArray *counters) {
        int r;

        if (counters->len == 0)
                return 0;

        if ((r = sd_bus_message_open_container(message, 'e', "sv")) < 0 ||
            (r = sd_bus_message_append(message, "s", "Counters")) < 0 ||
            (r = sd_bus_message_open_container(message, 'v', "a{st}")) < 0 ||
            (r = sd_bus_message_open_container(message, 'a', "{st}")) < 0)
                return r;
        for (unsigned i = 0; i < counters->len; i++) {
                const Counter *counter = &g_array_index(counters, Counter, i);

                r = sd_bus_message_append(message, "{st}", counter->right, counter->remaining);
                if (r < 0)
                        return r;
        }
        for (unsigned open = 3; r >= 0 && open > 0; open--)
                r = sd_bus_message_close_container(message);
        return r;
}

int bus_append_license(sd_bus_message *message, const License *license) {
        int r;

        if ((r = sd_bus_message_open_container(message, 'a', "{sv}")) < 0 ||
            (r = append_string(message, "LicenseId", license->id)) < 0 ||
            (r = append_string(message, "KeyId", license->key_id)) < 0 ||
            (r = append_string(message, "Title", license->title)) < 0 ||
            (r = append_string(message, "Issuer", license->issuer)) < 0 ||
            (r = append_string(message, "MediaType", license->media_type)) < 0 ||
            (r = append_time(message, "NotBefore", license->not_before)) < 0 ||
            (r = append_time(message, "NotAfter", license->not_after)) < 0 ||
            (r = sd_bus_message_append(message, "{sv}", "AllowBackup", "b", (int)license->allow_backup)) < 0 ||
            (r = append_counters(message, license->counters)) < 0)
                return r;
        return sd_bus_message_close_container(message);
}
