/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-dice.h"

#include <string.h>
#include <sys/socket.h>

#include "raw.h"

/* Random bytes now and then make what is valid. */
static void add_body(Dice *dice, GByteArray *body, const char *signature) {
        static const uint8_t likely[] = { 0, 0, 0, 1, 2, 4, 's', 'a', 255 };

        if (strcmp(signature, "s") == 0 && dice_below(dice, 2)) {
                raw_add_string(body, dice_word(dice));
                return;
        }
        for (unsigned n = dice_below(dice, 64); n > 0; n--)
                g_byte_array_append(body, &likely[dice_below(dice, sizeof likely)], 1);
}

void dice_send_raw(Dice *dice, const char *address, uid_t uid, const char *interface, const char *member,
        const char *signature) {
        g_autoptr(GByteArray) bytes = g_byte_array_new(), body = g_byte_array_new();
        int fd = raw_connect(address, uid);
        size_t size;

        if (fd < 0)
                return;
        raw_add_hello(bytes, uid);
        size = bytes->len;
        for (unsigned n = 1 + dice_below(dice, 3); n > 0; n--) {
                g_byte_array_set_size(body, 0);
                add_body(dice, body, signature);
                raw_add_call(bytes, 1 + n, 0, "org.licensevault1", "/org/licensevault1", interface, member, signature,
                        body);
        }
        if (dice_below(dice, 2))
                bytes->data[size + dice_below(dice, bytes->len - (guint)size)] ^= (uint8_t)(1U << dice_below(dice, 8));
        size = dice_below(dice, 2) ? bytes->len : dice_below(dice, bytes->len);
        (void)!send(fd, bytes->data, size, MSG_NOSIGNAL);
        dice_give(dice, fd, uid);
}
