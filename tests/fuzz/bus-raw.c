/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-dice.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* D-Bus by hand, little-endian. */

static void pad(GByteArray *to, guint alignment) {
        static const uint8_t zeros[8];

        g_byte_array_append(to, zeros, -to->len % alignment);
}

static void add_number(GByteArray *to, uint32_t number) {
        const uint8_t bytes[] = { (uint8_t)number, (uint8_t)(number >> 8), (uint8_t)(number >> 16),
                (uint8_t)(number >> 24) };

        pad(to, 4);
        g_byte_array_append(to, bytes, sizeof bytes);
}

static void add_string(GByteArray *to, const char *text) {
        add_number(to, (uint32_t)strlen(text));
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
                add_string(to, value);
}

static void add_call(GByteArray *to, uint32_t serial, const char *destination, const char *path, const char *interface,
        const char *member, const char *signature, const GByteArray *body) {
        g_autoptr(GByteArray) head = g_byte_array_new(), fields = g_byte_array_new();

        /* Fields are aligned from the start of the message, 16 bytes before them. */
        add_field(fields, 1, "o", path);
        add_field(fields, 2, "s", interface);
        add_field(fields, 3, "s", member);
        add_field(fields, 6, "s", destination);
        if (*signature)
                add_field(fields, 8, "g", signature);
        g_byte_array_append(head, (const uint8_t[]) { 'l', 1, 0, 1 }, 4);
        add_number(head, body->len);
        add_number(head, serial);
        add_number(head, fields->len);
        g_byte_array_append(head, fields->data, fields->len);
        pad(head, 8);
        g_byte_array_append(head, body->data, body->len);
        g_byte_array_append(to, head->data, head->len);
}

static int connect_raw(const char *address, uid_t uid) {
        struct sockaddr_un to = { .sun_family = AF_UNIX };
        const char *path = strchr(address, '=') + 1;
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool other = uid != geteuid();
        int r;

        assert_true(fd >= 0 && strlen(path) < sizeof to.sun_path);
        strcpy(to.sun_path, path);
        assert_true(!other || seteuid(uid) == 0);
        r = connect(fd, (struct sockaddr *)&to, sizeof to);
        assert_true(!other || seteuid(getuid()) == 0);
        if (r < 0) {
                close(fd);
                return -1;
        }
        return fd;
}

/* Random bytes now and then make what is valid. */
static void add_body(Dice *dice, GByteArray *body, const char *signature) {
        static const uint8_t likely[] = { 0, 0, 0, 1, 2, 4, 's', 'a', 255 };

        if (strcmp(signature, "s") == 0 && dice_below(dice, 2)) {
                add_string(body, dice_word(dice));
                return;
        }
        for (unsigned n = dice_below(dice, 64); n > 0; n--)
                g_byte_array_append(body, &likely[dice_below(dice, sizeof likely)], 1);
}

void dice_send_raw(Dice *dice, const char *address, uid_t uid, const char *interface, const char *member,
        const char *signature) {
        g_autoptr(GByteArray) bytes = g_byte_array_new(), body = g_byte_array_new(), empty = g_byte_array_new();
        g_autofree char *name = g_strdup_printf("%u", (unsigned)uid);
        g_autoptr(GString) hello = g_string_new("AUTH EXTERNAL ");
        int fd = connect_raw(address, uid);
        size_t size;

        if (fd < 0)
                return;
        for (const char *p = name; *p; p++)
                g_string_append_printf(hello, "%02x", (unsigned)*p);
        g_string_append(hello, "\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n");
        g_byte_array_append(bytes, (const uint8_t *)"", 1);
        g_byte_array_append(bytes, (const uint8_t *)hello->str, (guint)hello->len);
        add_call(bytes, 1, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello", "",
                empty);
        size = bytes->len;
        for (unsigned n = 1 + dice_below(dice, 3); n > 0; n--) {
                g_byte_array_set_size(body, 0);
                add_body(dice, body, signature);
                add_call(bytes, 1 + n, "org.licensevault1", "/org/licensevault1", interface, member, signature, body);
        }
        if (dice_below(dice, 2))
                bytes->data[size + dice_below(dice, bytes->len - (guint)size)] ^= (uint8_t)(1U << dice_below(dice, 8));
        size = dice_below(dice, 2) ? bytes->len : dice_below(dice, bytes->len);
        (void)!send(fd, bytes->data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        g_array_append_val(dice->given, fd);
}
