/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json.h"

#include <errno.h>
#include <string.h>

#include <glib.h>

json_t *json_from_u64(uint64_t value) {
        return json_integer((json_int_t)MIN(value, (uint64_t)INT64_MAX));
}

const char *json_get_string(const json_t *object, const char *name) {
        return json_string_value(json_object_get(object, name)) ?: "";
}

uint64_t json_get_u64(const json_t *object, const char *name) {
        json_int_t value = json_integer_value(json_object_get(object, name));

        return value > 0 ? (uint64_t)value : 0;
}

static int set_new(json_t *object, const char *name, json_t *value) {
        return json_object_set_new(object, name, value) < 0 ? -ENOMEM : 0;
}

static int read_counters(sd_bus_message *message, json_t **ret) {
        json_auto_t *counters = json_object();
        const char *right;
        uint64_t remaining;
        int r;

        r = sd_bus_message_enter_container(message, 'a', "{st}");
        if (r < 0)
                return r;

        while ((r = sd_bus_message_read(message, "{st}", &right, &remaining)) > 0)
                if (set_new(counters, right, json_from_u64(remaining)) < 0)
                        return -ENOMEM;
        if (r < 0)
                return r;

        *ret = json_incref(counters);
        return sd_bus_message_exit_container(message);
}

static int read_strings(sd_bus_message *message, json_t **ret) {
        json_auto_t *strings = json_array();
        const char *string;
        int r;

        r = sd_bus_message_enter_container(message, 'a', "s");
        if (r < 0)
                return r;

        while ((r = sd_bus_message_read_basic(message, 's', &string)) > 0)
                if (json_array_append_new(strings, json_string(string)) < 0)
                        return -ENOMEM;
        if (r < 0)
                return r;

        *ret = json_incref(strings);
        return sd_bus_message_exit_container(message);
}

/* Sets *ret to NULL for a type that is not known here. */
static int read_value(sd_bus_message *message, const char *type, json_t **ret) {
        union {
                const char *s;
                uint64_t t;
                uint32_t u;
                int32_t i;
                int b;
        } value;
        int r;

        *ret = NULL;
        if (strcmp(type, "a{st}") == 0)
                return read_counters(message, ret);
        if (strcmp(type, "a{sv}") == 0)
                return json_read_dictionary(message, ret);
        if (strcmp(type, "as") == 0)
                return read_strings(message, ret);
        if (!type[0] || type[1] || !strchr("stuib", type[0]))
                return sd_bus_message_skip(message, type);

        r = sd_bus_message_read_basic(message, type[0], &value);
        if (r < 0)
                return r;

        switch (type[0]) {
        case 's':
                *ret = json_string(value.s);
                break;
        case 't':
                *ret = json_from_u64(value.t);
                break;
        case 'u':
                *ret = json_integer(value.u);
                break;
        case 'i':
                *ret = json_integer(value.i);
                break;
        default:
                *ret = json_boolean(value.b);
                break;
        }
        return *ret ? 0 : -ENOMEM;
}

static int read_member(sd_bus_message *message, json_t *object) {
        const char *name, *type;
        json_t *value;
        int r;

        if ((r = sd_bus_message_read_basic(message, 's', &name)) < 0 ||
            (r = sd_bus_message_peek_type(message, NULL, &type)) < 0 ||
            (r = sd_bus_message_enter_container(message, 'v', type)) < 0 ||
            (r = read_value(message, type, &value)) < 0)
                return r;

        if (value && (r = set_new(object, name, value)) < 0)
                return r;
        return sd_bus_message_exit_container(message);
}

int json_read_dictionary(sd_bus_message *message, json_t **ret) {
        json_auto_t *object = json_object();
        int r;

        r = sd_bus_message_enter_container(message, 'a', "{sv}");
        if (r < 0)
                return r;

        while ((r = sd_bus_message_enter_container(message, 'e', "sv")) > 0)
                if ((r = read_member(message, object)) < 0 ||
                    (r = sd_bus_message_exit_container(message)) < 0)
                        return r;
        if (r < 0 || (r = sd_bus_message_exit_container(message)) < 0)
                return r;

        *ret = json_incref(object);
        return 0;
}

int json_read_licenses(sd_bus_message *message, json_t **ret) {
        json_auto_t *licenses = json_array();
        const char *id, *key_id, *title;
        int r;

        r = sd_bus_message_enter_container(message, 'a', "(sss)");
        if (r < 0)
                return r;

        while ((r = sd_bus_message_read(message, "(sss)", &id, &key_id, &title)) > 0) {
                json_t *license = json_pack("{ss ss ss}", "LicenseId", id, "KeyId", key_id, "Title", title);
                if (json_array_append_new(licenses, license) < 0)
                        return -ENOMEM;
        }
        if (r < 0 || (r = sd_bus_message_exit_container(message)) < 0)
                return r;

        *ret = json_incref(licenses);
        return 0;
}
