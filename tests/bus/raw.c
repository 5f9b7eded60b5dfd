/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "raw.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SERIAL_OFFSET 8U

static void pad(GByteArray *to, guint alignment) {
        static const uint8_t zeros[8];

        g_byte_array_append(to, zeros, -to->len % alignment);
}

static void put_number(uint8_t *to, uint32_t number) {
        for (unsigned i = 0; i < sizeof number; i++)
                to[i] = (uint8_t)(number >> (8 * i));
}

void raw_add_number(GByteArray *to, uint32_t number) {
        uint8_t bytes[sizeof number];

        pad(to, 4);
        put_number(bytes, number);
        g_byte_array_append(to, bytes, sizeof bytes);
}

void raw_add_string(GByteArray *to, const char *text) {
        raw_add_number(to, (uint32_t)strlen(text));
        g_byte_array_append(to, (const uint8_t *)text, (guint)strlen(text) + 1);
}

static void add_field(GByteArray *to, uint8_t code, const char *type, const char *value) {
        uint8_t length = (uint8_t)strlen(value);

        pad(to, 8);
        g_byte_array_append(to, &code, 1);
        g_byte_array_append(to, (const uint8_t[]) { 1, (uint8_t)*type, 0 }, 3);
        if (*type == 'g') {
                g_byte_array_append(to, &length, 1);
                g_byte_array_append(to, (const uint8_t *)value, (guint)length + 1);
        } else
                raw_add_string(to, value);
}

void raw_add_call(GByteArray *to, uint32_t serial, uint8_t flags, const char *destination, const char *path,
        const char *interface, const char *member, const char *signature, const GByteArray *body) {
        g_autoptr(GByteArray) head = g_byte_array_new(), fields = g_byte_array_new();
        uint32_t n_fds = 0;

        /* Fields are aligned from the start of the message, 16 bytes before them. */
        add_field(fields, 1, "o", path);
        add_field(fields, 2, "s", interface);
        add_field(fields, 3, "s", member);
        add_field(fields, 6, "s", destination);
        if (*signature)
                add_field(fields, 8, "g", signature);
        for (const char *type = signature; (type = strchr(type, 'h')); type++)
                n_fds++;
        if (n_fds > 0) {
                pad(fields, 8);
                g_byte_array_append(fields, (const uint8_t[]) { 9, 1, 'u', 0 }, 4);
                raw_add_number(fields, n_fds);
        }
        g_byte_array_append(head, (const uint8_t[]) { 'l', 1, flags, 1 }, 4);
        raw_add_number(head, body ? body->len : 0);
        raw_add_number(head, serial);
        raw_add_number(head, fields->len);
        g_byte_array_append(head, fields->data, fields->len);
        pad(head, 8);
        if (body)
                g_byte_array_append(head, body->data, body->len);
        g_byte_array_append(to, head->data, head->len);
}

void raw_set_serial(uint8_t *call, uint32_t serial) {
        put_number(call + SERIAL_OFFSET, serial);
}

void raw_add_hello(GByteArray *to, uid_t uid) {
        g_autofree char *name = g_strdup_printf("%u", (unsigned)uid);
        g_autoptr(GString) text = g_string_new("AUTH EXTERNAL ");

        for (const char *p = name; *p; p++)
                g_string_append_printf(text, "%02x", (unsigned)*p);
        g_string_append(text, "\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n");
        g_byte_array_append(to, (const uint8_t *)"", 1);
        g_byte_array_append(to, (const uint8_t *)text->str, (guint)text->len);
        raw_add_call(to, 1, 0, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello", "",
                NULL);
}

int raw_connect(const char *address, uid_t uid) {
        struct sockaddr_un to = { .sun_family = AF_UNIX };
        const char *path = strchr(address, '=') + 1;
        bool other = uid != geteuid();
        int fd, r;

        if (strlen(path) >= sizeof to.sun_path)
                return -1;
        strcpy(to.sun_path, path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -1;
        /* The bus learns who we are from the socket, which remembers who connected it. */
        r = other ? seteuid(uid) : 0;
        if (r == 0)
                r = connect(fd, (struct sockaddr *)&to, sizeof to);
        if (geteuid() != getuid() && seteuid(getuid()) < 0)
                r = -1;
        if (r < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
                close(fd);
                return -1;
        }
        return fd;
}
