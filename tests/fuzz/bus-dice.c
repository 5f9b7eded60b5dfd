/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-dice.h"

#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define DEPTH_MAX 5U

unsigned dice_below(Dice *dice, unsigned n) {
        dice->state ^= dice->state << 13;
        dice->state ^= dice->state >> 7;
        dice->state ^= dice->state << 17;
        return (unsigned)((dice->state >> 20) % n);
}

const char *dice_word(Dice *dice) {
        return dice->words->pdata[dice_below(dice, dice->words->len)];
}

void dice_give(Dice *dice, int fd, uid_t uid) {
        DiceGiven given = { fd, uid };

        g_array_append_val(dice->given, given);
}

void dice_close(Dice *dice) {
        for (unsigned i = 0; i < dice->given->len; i++)
                close(g_array_index(dice->given, DiceGiven, i).fd);
        g_array_set_size(dice->given, 0);
}

static void add_signature(Dice *dice, GString *signature, unsigned depth) {
        static const char basic[] = "ybnqiuxtdsogh";
        unsigned kind = dice_below(dice, 20);

        if (kind < 13 || depth >= DEPTH_MAX)
                g_string_append_c(signature, basic[kind % 13]);
        else if (kind == 13)
                g_string_append_c(signature, 'v');
        else if (kind < 16)
                g_string_append(signature, "a{sv}");
        else if (kind < 18) {
                g_string_append_c(signature, 'a');
                add_signature(dice, signature, depth + 1);
        } else {
                g_string_append_c(signature, '(');
                for (unsigned n = 1 + dice_below(dice, 3); n > 0; n--)
                        add_signature(dice, signature, depth + 1);
                g_string_append_c(signature, ')');
        }
}

char *dice_signature(Dice *dice) {
        GString *signature = g_string_new(NULL);

        for (unsigned n = dice_below(dice, 4); n > 0; n--)
                add_signature(dice, signature, 0);
        return g_string_free(signature, false);
}

/* A descriptor of any kind; -1 where there is none. The caller closes it; the other end is kept. */
static int any_descriptor(Dice *dice) {
        static const char *const paths[] = { "/dev/null", "/dev/zero", "/dev/full", "/", "/etc/passwd",
                "/proc/self/mem" };
        static const int flags[] = { O_RDONLY, O_RDWR, O_WRONLY, O_PATH, O_RDONLY | O_DIRECTORY };
        unsigned kind = dice_below(dice, 12);
        int fds[2] = { -1, -1 };

        if (kind < 3) {
                fds[0] = memfd_create("any", MFD_CLOEXEC | MFD_ALLOW_SEALING);
                if (kind == 1 && write(fds[0], "README.txt", 10) == 10)
                        (void)lseek(fds[0], 0, SEEK_SET);
                if (kind == 2)
                        (void)fcntl(fds[0], F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW);
        } else if (kind < 6) {
                if (pipe2(fds, O_CLOEXEC | (kind == 5 ? O_NONBLOCK : 0)) == 0 && dice_below(dice, 2)) {
                        int swap = fds[0];

                        fds[0] = fds[1];
                        fds[1] = swap;
                }
        } else if (kind < 8)
                (void)socketpair(AF_UNIX, (kind == 6 ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0, fds);
        else if (kind == 8)
                fds[0] = eventfd(0, EFD_CLOEXEC);
        else if (kind == 9)
                fds[0] = dice_below(dice, 2) ? epoll_create1(EPOLL_CLOEXEC) :
                        timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
        else
                fds[0] = open(paths[dice_below(dice, G_N_ELEMENTS(paths))],
                        flags[dice_below(dice, G_N_ELEMENTS(flags))] | O_CLOEXEC | O_NONBLOCK);
        /* Kept open, which stalls, or closed at once. */
        if (fds[1] >= 0 && dice_below(dice, 2))
                close(fds[1]);
        else if (fds[1] >= 0)
                dice_give(dice, fds[1], dice->sender);
        return fds[0];
}

static int append_descriptor(Dice *dice, sd_bus_message *message) {
        int fd = -1, r;

        /* One that was answered, or one of ours. */
        if (dice->given->len > 0 && dice_below(dice, 3) == 0) {
                const DiceGiven *given =
                        &g_array_index(dice->given, DiceGiven, dice_below(dice, dice->given->len));

                if (given->uid == dice->sender)
                        fd = fcntl(given->fd, F_DUPFD_CLOEXEC, 3);
        }
        if (fd < 0)
                fd = any_descriptor(dice);
        if (fd < 0)
                return -EBADF;
        r = sd_bus_message_append(message, "h", fd);
        close(fd);
        return r;
}

static uint64_t any_number(Dice *dice) {
        static const uint64_t edges[] = { 0, 1, 2, 3, 4, 100, UINT32_MAX, INT64_MAX,
                (uint64_t)INT64_MAX + 1, UINT64_MAX };

        if (dice_below(dice, 4) > 0)
                return edges[dice_below(dice, G_N_ELEMENTS(edges))];
        return (uint64_t)dice_below(dice, UINT32_MAX) << dice_below(dice, 33);
}

static int append_text(Dice *dice, sd_bus_message *message) {
        g_autofree char *noise = NULL;
        unsigned kind = dice_below(dice, 16);

        if (kind > 2)
                return sd_bus_message_append(message, "s", dice_word(dice));
        if (kind == 2) {
                noise = g_strnfill(1020 + dice_below(dice, 8), 'l');
                return sd_bus_message_append(message, "s", noise);
        }
        noise = g_strnfill(dice_below(dice, 100), 'n');
        for (char *p = noise; *p; p++)
                *p = (char)(1 + dice_below(dice, 127));
        return sd_bus_message_append(message, "s", noise);
}

static int append_bytes(Dice *dice, sd_bus_message *message) {
        static const size_t sizes[] = { 0, 1, 10, 100, 1000, 1000, 100, 65536, 65537, 1024 * 1024 + 1 };
        size_t size = sizes[dice_below(dice, dice_below(dice, 8) ? 7 : G_N_ELEMENTS(sizes))];
        g_autofree char *bytes = g_strnfill(size + 1, dice_below(dice, 2) ? '{' : (char)dice_below(dice, 256));

        if (size >= 100 && dice_below(dice, 2))
                size = (size_t)snprintf(bytes, size, "{\"encryption\":{\"profile\":\"http://readium.org/lcp/1.0\"},"
                        "\"id\":\"%u\"", dice_below(dice, 10));
        return sd_bus_message_append_array(message, 'y', bytes, size);
}

static size_t type_length(const char *signature) {
        const char close_with = *signature == '(' ? ')' : '}';
        size_t n = 1;

        if (*signature == 'a')
                return 1 + type_length(signature + 1);
        if (*signature != '(' && *signature != '{')
                return 1;
        while (signature[n] != close_with)
                n += type_length(signature + n);
        return n + 1;
}

static int append_in(Dice *dice, sd_bus_message *message, char type, const char *contents, unsigned n) {
        int r = sd_bus_message_open_container(message, type, contents);

        for (unsigned i = 0; r >= 0 && i < n; i++)
                r = dice_append(dice, message, contents);
        return r < 0 ? r : sd_bus_message_close_container(message);
}

/* An option that somebody may know, of its type. */
static int append_option(Dice *dice, sd_bus_message *message) {
        static const struct {
                const char *name, *type;
        } options[] = {
                { "LicenseId", "s" }, { "LicenseId", "s" }, { "KeyId", "s" }, { "Title", "s" }, { "Issuer", "s" },
                { "MediaType", "s" }, { "NotBefore", "t" }, { "NotAfter", "t" }, { "AllowBackup", "b" },
                { "Counters", "a{st}" }, { "ValidAt", "t" }, { "Owner", "u" }, { "AllUsers", "b" },
        };
        unsigned i = dice_below(dice, G_N_ELEMENTS(options));
        int r;

        if ((r = sd_bus_message_open_container(message, 'e', "sv")) < 0 ||
            (r = sd_bus_message_append(message, "s", options[i].name)) < 0 ||
            (r = append_in(dice, message, 'v', options[i].type, 1)) < 0)
                return r;
        return sd_bus_message_close_container(message);
}

static int append_options(Dice *dice, sd_bus_message *message) {
        unsigned n = dice_below(dice, 20) == 0 ? dice_below(dice, 5000) : dice_below(dice, 4);
        int r = sd_bus_message_open_container(message, 'a', "{sv}");

        for (unsigned i = 0; r >= 0 && i < n; i++)
                r = dice_below(dice, 8) ? append_option(dice, message) : dice_append(dice, message, "{sv}");
        return r < 0 ? r : sd_bus_message_close_container(message);
}

static int append_value(Dice *dice, sd_bus_message *message, const char *type) {
        g_autofree char *inside = g_strndup(type + 1, strlen(type) >= 2 ? strlen(type) - 2 : 0);
        uint64_t number = any_number(dice);
        int flag = (int)dice_below(dice, 2);
        g_autoptr(GString) signature = NULL;

        if (strcmp(type, "ay") == 0)
                return append_bytes(dice, message);
        if (strcmp(type, "a{sv}") == 0)
                return append_options(dice, message);
        switch (*type) {
        case 'a':
                return append_in(dice, message, 'a', type + 1, dice_below(dice, 4));
        case '(':
                return append_in(dice, message, 'r', inside, 1);
        case '{':
                return append_in(dice, message, 'e', inside, 1);
        case 'v':
                signature = g_string_new(NULL);
                add_signature(dice, signature, DEPTH_MAX - 1);
                return append_in(dice, message, 'v', dice_below(dice, 2) ? "s" : signature->str, 1);
        case 's':
                return append_text(dice, message);
        case 'h':
                return append_descriptor(dice, message);
        case 'o':
                return sd_bus_message_append(message, "o", "/org/licensevault1");
        case 'g':
                return sd_bus_message_append(message, "g", "a{sv}");
        case 'b':
                return sd_bus_message_append(message, "b", flag);
        default:
                return sd_bus_message_append_basic(message, *type, &number);
        }
}

int dice_append(Dice *dice, sd_bus_message *message, const char *signature) {
        int r = 0;

        while (*signature && r >= 0) {
                size_t n = type_length(signature);
                g_autofree char *type = g_strndup(signature, n);

                r = append_value(dice, message, type);
                signature += n;
        }
        return r;
}
