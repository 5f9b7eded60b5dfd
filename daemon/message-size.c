/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "message-size.h"

#include <stdbool.h>
#include <string.h>

/* What sd-bus has for each message, and what a value counts besides its own bytes. */
#define MESSAGE_BYTES 1024U
#define VALUE_BYTES 64U

/* Bytes of a simple value, or of an array of numbers, which is in one piece. */
static int read_value(sd_bus_message *message, char type, const char *contents, uint64_t *ret) {
        uint64_t number;
        const void *bytes;
        const char *text;
        size_t n = 0;
        int r;

        if (type == 'a')
                r = sd_bus_message_read_array(message, *contents, &bytes, &n);
        else if (strchr("sog", type)) {
                r = sd_bus_message_read_basic(message, type, &text);
                n = r > 0 ? strlen(text) : 0;
        } else
                r = sd_bus_message_read_basic(message, type, &number);
        *ret = n;
        return r;
}

static bool is_value(char type, const char *contents) {
        return type == 'a' ? strchr("ynqiuxtd", *contents) != NULL : strchr("rev", type) == NULL;
}

uint64_t message_size(sd_bus_message *message, uint64_t max, unsigned values) {
        uint64_t size = MESSAGE_BYTES, n = 0;
        unsigned depth = 0;
        const char *contents;
        char type;
        int r;

        while ((r = sd_bus_message_peek_type(message, &type, &contents)) >= 0 && size < max) {
                if (r > 0 && values-- == 0)
                        size = max;
                else if (r > 0 && is_value(type, contents)) {
                        r = read_value(message, type, contents, &n);
                        size += VALUE_BYTES + n;
                } else if (r > 0) {
                        r = sd_bus_message_enter_container(message, type, contents);
                        size += VALUE_BYTES;
                        depth++;
                } else if (depth > 0) {
                        r = sd_bus_message_exit_container(message);
                        depth--;
                } else
                        break;
                if (r < 0)
                        break;
        }
        (void)sd_bus_message_rewind(message, true);
        return r < 0 || size > max ? max : size;
}
