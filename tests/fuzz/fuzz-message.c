/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bus-file.h"
#include "bus-license.h"
#include "fuzz.h"
#include "user-name.h"

/*
 * Options and properties in messages. An input decides on a message: a dictionary of options, right, wrong, twice or
 * by the thousand, of which is known what must come of it; or values of any valid signature, which only must do no
 * harm.
 */

#define DEPTH_MAX 6U
#define UID 1000U

static sd_bus *bus; /* the other end never answers: messages need one that has begun */

int LLVMFuzzerInitialize(int *argc, char ***argv) {
        int fds[2];

        fuzz_prepare();
        FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
        FUZZ_CHECK(sd_bus_new(&bus) >= 0 && sd_bus_set_fd(bus, fds[0], fds[0]) >= 0 && sd_bus_start(bus) >= 0);
        return 0;
}

static sd_bus_message *new_message(void) {
        sd_bus_message *message;

        FUZZ_CHECK(sd_bus_message_new_method_call(bus, &message, "org.licensevault1", "/org/licensevault1",
                           "org.licensevault1.LicenseStore", "StoreLicense") >= 0);
        return message;
}

/* To be read from its start. */
static void seal(sd_bus_message *message) {
        FUZZ_CHECK(sd_bus_message_seal(message, 1, 0) >= 0 && sd_bus_message_rewind(message, true) >= 0);
}

/* Text that the bus takes. */
static char *decode_text(Input *input) {
        static const char *const texts[] = { "", "a", "LicenseId", "text/plain", "ä", "\xEF\xBF\xBF" };
        unsigned kind = input_below(input, 16);
        g_autofree char *text = NULL;
        const uint8_t *bytes;
        size_t size;

        if (kind < G_N_ELEMENTS(texts))
                return g_strdup(texts[kind]);
        if (kind < 9)
                return g_strnfill(1020 + input_below(input, 10), 'x');
        bytes = input_bytes(input, 64, &size);
        text = g_utf8_make_valid((const char *)bytes, (gssize)size);
        return g_steal_pointer(&text);
}

/* Dictionaries of which is known what they must give */

typedef struct Expected {
        bool good;
        License license;
        uint32_t owner;
        int all_users;
        char *from;
        uint64_t seen;
} Expected;

static const struct {
        const char *name;
        char type;
} known[] = {
        { "LicenseId", 's' }, { "KeyId", 's' }, { "Title", 's' }, { "Issuer", 's' }, { "MediaType", 's' },
        { "NotBefore", 't' }, { "NotAfter", 't' }, { "AllowBackup", 'b' }, { "Counters", 'a' },
        { "Owner", 'u' }, { "AllUsers", 'b' }, { "From", 's' },
};
#define N_LICENSE_OPTIONS 9U

static bool text_is_good(const char *text) {
        return *text && strlen(text) <= 1024;
}

static int append_counters(sd_bus_message *message, Input *input, Expected *expected) {
        unsigned kind = input_below(input, 8), distinct, n;
        int r;

        /* By the thousand, about as many as may be, or a few. */
        if (kind == 1)
                n = (unsigned)input_number(input, 2) % 3000;
        else
                n = kind < 4 ? LICENSE_COUNTERS_MAX - 2 + input_below(input, 5) : input_below(input, 6);
        distinct = input_below(input, 4) == 1 ? 1 + input_below(input, 90) : n + 1;
        if ((r = sd_bus_message_open_container(message, 'v', "a{st}")) < 0 ||
            (r = sd_bus_message_open_container(message, 'a', "{st}")) < 0)
                return r;
        for (unsigned i = 0; r >= 0 && i < n; i++) {
                g_autofree char *right = input_below(input, 64) == 1 ? decode_text(input) :
                        g_strdup_printf("right-%u", i % distinct);
                uint64_t remaining = input_below(input, 64) == 1 ? input_edge(input) : i;

                expected->good = expected->good && license_right_is_valid(right) && remaining <= INT64_MAX &&
                        !license_find_counter(&expected->license, right) &&
                        license_limit_counter(&expected->license, right, remaining) == 0;
                r = sd_bus_message_append(message, "{st}", right, remaining);
        }
        if (r < 0 || (r = sd_bus_message_close_container(message)) < 0)
                return r;
        return sd_bus_message_close_container(message);
}

static int append_string(sd_bus_message *message, Input *input, size_t option, Expected *expected) {
        char **const fields[] = { &expected->license.id, &expected->license.key_id, &expected->license.title,
                &expected->license.issuer, &expected->license.media_type };
        char **const field = option < N_LICENSE_OPTIONS ? fields[option] : &expected->from;
        g_autofree char *text = decode_text(input);

        expected->good = expected->good && text_is_good(text);
        FUZZ_CHECK(license_set_string(field, text) == 0);
        return sd_bus_message_append(message, "v", "s", text);
}

static int append_right_value(sd_bus_message *message, Input *input, size_t option, Expected *expected) {
        uint64_t number;

        switch (known[option].type) {
        case 's':
                return append_string(message, input, option, expected);
        case 'a':
                return append_counters(message, input, expected);
        case 't':
                number = input_edge(input);
                expected->good = expected->good && number <= INT64_MAX;
                *(option == 5 ? &expected->license.not_before : &expected->license.not_after) = (int64_t)number;
                return sd_bus_message_append(message, "v", "t", number);
        case 'u':
                expected->owner = input_below(input, 2) ? UID : (uint32_t)input_edge(input);
                return sd_bus_message_append(message, "v", "u", expected->owner);
        default: {
                int value = (int)input_below(input, 2);

                if (option == 7)
                        expected->license.allow_backup = value;
                else
                        expected->all_users = value;
                return sd_bus_message_append(message, "v", "b", value);
        }
        }
}

static int append_wrong_value(sd_bus_message *message, Input *input, char type) {
        static const char types[] = "sutbyx";
        char other = types[input_below(input, 6)];

        if (other == type)
                other = 'q';
        if (other == 's')
                return sd_bus_message_append(message, "v", "s", "text");
        if (other == 't' || other == 'x')
                return sd_bus_message_append(message, "v", other == 't' ? "t" : "x", UINT64_C(1));
        return sd_bus_message_append(message, "v", other == 'u' ? "u" : other == 'b' ? "b" :
                other == 'y' ? "y" : "q", 1);
}

static int append_option(sd_bus_message *message, Input *input, size_t first, size_t n, Expected *expected) {
        unsigned kind = input_below(input, 32);
        size_t option = first + input_below(input, (unsigned)n);
        int r;

        if ((r = sd_bus_message_open_container(message, 'e', "sv")) < 0)
                return r;
        if (kind == 1) {
                g_autofree char *name = decode_text(input);

                /* A known name would be a known option; the table is small. */
                for (size_t i = 0; i < G_N_ELEMENTS(known); i++)
                        if (strcmp(name, known[i].name) == 0)
                                name[0] = 'x';
                expected->good = false;
                if ((r = sd_bus_message_append(message, "s", name)) < 0)
                        return r;
                r = append_wrong_value(message, input, 0);
        } else {
                expected->good = expected->good && !(expected->seen & UINT64_C(1) << option) && kind != 2;
                expected->seen |= UINT64_C(1) << option;
                if ((r = sd_bus_message_append(message, "s", known[option].name)) < 0)
                        return r;
                if (kind == 2)
                        r = append_wrong_value(message, input, known[option].type);
                else
                        r = append_right_value(message, input, option, expected);
        }
        return r < 0 ? r : sd_bus_message_close_container(message);
}

static int append_options(sd_bus_message *message, Input *input, size_t first, size_t n, Expected *expected) {
        unsigned count = input_below(input, 12);
        int r = sd_bus_message_open_container(message, 'a', "{sv}");

        if (count == 11)
                count = (unsigned)input_number(input, 2) % 2000;
        for (unsigned i = 0; r >= 0 && i < count; i++)
                r = append_option(message, input, first, n, expected);
        return r < 0 ? r : sd_bus_message_close_container(message);
}

static void check_answer(int r, const Error *error) {
        if (r > 0) {
                FUZZ_CHECK(r == ERROR_INVALID_ARGUMENTS && (int)error->code == r);
                check_message(error);
        } else {
                FUZZ_CHECK(error->code == ERROR_NONE);
                FUZZ_CHECK(r == 0 || r == -ENXIO || r == -EINVAL || r == -EBADMSG);
        }
}

/* A license that was read is written, and read again as the same. */
static void write_again(const License *license) {
        sd_bus_message *message = new_message();
        g_autofree char *text = describe_license(license), *again = NULL;
        g_auto(License) read = {};
        g_auto(Error) error = {};

        license_init(&read);
        FUZZ_CHECK(bus_append_license(message, license) >= 0);
        seal(message);
        FUZZ_CHECK(bus_read_license(message, &read, &error) == 0);
        again = describe_license(&read);
        FUZZ_CHECK(strcmp(text, again) == 0);
        sd_bus_message_unref(message);
}

static int read_license(sd_bus_message *message, const Expected *expected) {
        g_auto(License) claimed = {};
        g_auto(Error) error = {};
        int r;

        license_init(&claimed);
        r = bus_read_license(message, &claimed, &error);
        check_answer(r, &error);
        if (r == 0) {
                check_license(&claimed);
                write_again(&claimed);
        }
        if (expected) {
                g_autofree char *text = describe_license(&claimed), *must = describe_license(&expected->license);

                if (expected->good != (r == 0) || r < 0)
                        FUZZ_FAIL("%s, and %d: %s", expected->good ? "good" : "bad", r, error_message(&error));
                FUZZ_CHECK(r != 0 || strcmp(text, must) == 0);
                FUZZ_CHECK(r != 0 || sd_bus_message_at_end(message, true) > 0);
        }
        return r;
}

static int read_whose(sd_bus_message *message, const Expected *expected) {
        User user = { .uid = UID };
        const Caller caller = { .user = &user };
        g_auto(Error) error = {};
        BusWhose whose = {};
        int r;

        r = bus_read_whose(message, &caller, false, &whose, &error);
        check_answer(r, &error);
        if (r == 0)
                FUZZ_CHECK(user_may_own(whose.owner) && (whose.others || whose.owner == UID) &&
                        (!whose.all_users || (whose.others && whose.owner == UID)));
        if (expected) {
                bool good = expected->good && user_may_own(expected->owner) &&
                        !(expected->all_users && (expected->owner != UID || expected->from));

                FUZZ_CHECK(r >= 0 && good == (r == 0));
                FUZZ_CHECK(r != 0 || (whose.owner == expected->owner && whose.all_users == !!expected->all_users &&
                                whose.others == (expected->all_users || expected->owner != UID) &&
                                g_strcmp0(whose.from, expected->from) == 0));
        }
        return r;
}

static void dictionary(Input *input) {
        Expected expected = { .good = true, .owner = UID };
        sd_bus_message *message = new_message();
        bool of_license = input_below(input, 4) > 0;
        int r;

        license_init(&expected.license);
        if (of_license)
                r = append_options(message, input, 0, N_LICENSE_OPTIONS, &expected);
        else
                r = append_options(message, input, N_LICENSE_OPTIONS, G_N_ELEMENTS(known) - N_LICENSE_OPTIONS,
                        &expected);
        /* sd-bus writes no text that it would not read. */
        if (r >= 0) {
                seal(message);
                if (of_license)
                        (void)read_license(message, &expected);
                else
                        (void)read_whose(message, &expected);
        }
        license_clear(&expected.license);
        g_free(expected.from);
        sd_bus_message_unref(message);
}

/* Values of any signature */

static void decode_signature(Input *input, GString *signature, unsigned depth) {
        static const char basic[] = "sutbynqixdog";
        unsigned kind = input_below(input, 20);

        if (kind < 12 || depth >= DEPTH_MAX)
                g_string_append_c(signature, basic[kind % 12]);
        else if (kind < 14)
                g_string_append_c(signature, 'v');
        else if (kind == 14)
                g_string_append(signature, "a{sv}");
        else if (kind == 15)
                g_string_append(signature, "a{st}");
        else if (kind < 18) {
                g_string_append_c(signature, 'a');
                decode_signature(input, signature, depth + 1);
        } else {
                g_string_append_c(signature, '(');
                for (unsigned n = 1 + input_below(input, 3); n > 0; n--)
                        decode_signature(input, signature, depth + 1);
                g_string_append_c(signature, ')');
        }
}

/* The length of the first complete type. */
static size_t type_length(const char *signature) {
        const char close = *signature == '(' ? ')' : '}';
        size_t n = 1;

        if (*signature == 'a')
                return 1 + type_length(signature + 1);
        if (*signature != '(' && *signature != '{')
                return 1;
        while (signature[n] != close)
                n += type_length(signature + n);
        return n + 1;
}

static int append_values(sd_bus_message *message, Input *input, const char *signature, unsigned depth);

static int append_in(sd_bus_message *message, Input *input, char type, const char *contents, unsigned n,
        unsigned depth) {
        int r = sd_bus_message_open_container(message, type, contents);

        for (unsigned i = 0; r >= 0 && i < n; i++)
                r = append_values(message, input, contents, depth + 1);
        return r < 0 ? r : sd_bus_message_close_container(message);
}

static int append_basic(sd_bus_message *message, Input *input, char type) {
        static const char *const names[] = { "LicenseId", "KeyId", "Title", "NotBefore", "NotAfter", "AllowBackup",
                "Counters", "Owner", "AllUsers", "/", "as", "x" };
        uint64_t number;
        int flag;

        if (type == 's' && input_below(input, 4) == 3) {
                g_autofree char *text = decode_text(input);

                return sd_bus_message_append_basic(message, 's', text);
        }
        if (type == 's')
                return sd_bus_message_append_basic(message, 's', names[input_below(input, G_N_ELEMENTS(names))]);
        if (type == 'o' || type == 'g')
                return sd_bus_message_append_basic(message, type, type == 'o' ? "/a" : "a{sv}");
        if (type == 'b') {
                flag = (int)input_below(input, 2);
                return sd_bus_message_append_basic(message, 'b', &flag);
        }
        number = input_edge(input);
        return sd_bus_message_append_basic(message, type, &number);
}

static int append_value(sd_bus_message *message, Input *input, const char *type, unsigned depth) {
        g_autofree char *inside = g_strndup(type + 1, strlen(type) >= 2 ? strlen(type) - 2 : 0);
        g_autoptr(GString) signature = g_string_new(NULL);

        switch (*type) {
        case 'a':
                return append_in(message, input, 'a', type + 1, input_below(input, 5), depth);
        case '(':
                return append_in(message, input, 'r', inside, 1, depth);
        case '{':
                return append_in(message, input, 'e', inside, 1, depth);
        case 'v':
                decode_signature(input, signature, depth + 1);
                return append_in(message, input, 'v', signature->str, 1, depth);
        default:
                return append_basic(message, input, *type);
        }
}

static int append_values(sd_bus_message *message, Input *input, const char *signature, unsigned depth) {
        int r = 0;

        while (*signature && r >= 0) {
                size_t n = type_length(signature);
                g_autofree char *type = g_strndup(signature, n);

                r = append_value(message, input, type, depth);
                signature += n;
        }
        return r;
}

static void anything(Input *input) {
        g_autoptr(GString) signature = g_string_new(input_below(input, 2) ? "a{sv}" : NULL);
        unsigned which = input_below(input, 3);
        sd_bus_message *message = new_message();

        for (unsigned n = input_below(input, 4); n > 0; n--)
                decode_signature(input, signature, 0);
        /* Too long a signature is refused when it is sealed. */
        if (append_values(message, input, signature->str, 0) >= 0 && sd_bus_message_seal(message, 1, 0) >= 0) {
                FUZZ_CHECK(sd_bus_message_rewind(message, true) >= 0);
                /* A broken answer leaves the message anywhere; it must bear to be read on. */
                for (unsigned n = which == 2 ? 2 : 1; n > 0; n--)
                        if (which == 0)
                                (void)read_whose(message, NULL);
                        else
                                (void)read_license(message, NULL);
        }
        sd_bus_message_unref(message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        Input input = { data, size };

        if (input_below(&input, 2))
                anything(&input);
        else
                dictionary(&input);
        return 0;
}
