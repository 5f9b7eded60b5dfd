/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "lcp.h"

#include <err.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What all but the certificate can take, with room. */
#define BODY_MAX 4096U

#define KEY_SIZE 64U
#define SIGNATURE_SIZE 256U
#define CERTIFICATE_MIN 600U

typedef struct Text {
        char *data;
        size_t size, room;
} Text;

/* splitmix64: small, and every seed is a good one. */
static uint64_t draw(uint64_t *state) {
        uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return z ^ (z >> 31);
}

static unsigned draw_below(uint64_t *state, unsigned bound) {
        return (unsigned)(draw(state) % bound);
}

__attribute__((format(printf, 2, 3))) static void add(Text *text, const char *format, ...) {
        va_list ap;
        int n;

        va_start(ap, format);
        n = vsnprintf(text->data + text->size, text->room - text->size, format, ap);
        va_end(ap);
        if (n < 0 || (size_t)n >= text->room - text->size)
                errx(1, "A license document came out longer than %zu bytes. Raise BODY_MAX.", text->room);
        text->size += (size_t)n;
}

/* The base64 of size random bytes; padded with '=' as it must be. */
static void add_base64(Text *text, uint64_t *state, size_t size) {
        static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        size_t groups = (size + 2) / 3;
        char *to = text->data + text->size;

        if (groups * 4 >= text->room - text->size)
                errx(1, "A license document came out longer than %zu bytes. Raise BODY_MAX.", text->room);

        for (size_t i = 0; i < groups; i++) {
                uint64_t bits = draw(state);

                for (unsigned k = 0; k < 4; k++, bits >>= 6)
                        *to++ = alphabet[bits & 63];
        }

        /* The bits that stand for no byte are zero. */
        if (size % 3 == 1)
                memcpy(to - 3, "A==", 3);
        else if (size % 3 == 2)
                memcpy(to - 2, "A=", 2);
        *to = '\0';
        text->size += groups * 4;
}

static void format_uuid(uint64_t *state, char ret[LCP_ID_SIZE]) {
        uint64_t a = draw(state), b = draw(state);

        snprintf(ret, LCP_ID_SIZE, "%08x-%04x-4%03x-%04x-%012llx", (unsigned)(a >> 32),
                (unsigned)(a >> 16) & 0xffff, (unsigned)a & 0xfff, ((unsigned)(b >> 48) & 0x3fff) | 0x8000,
                (unsigned long long)b & 0xffffffffffffULL);
}

static void add_time(Text *text, uint64_t *state, unsigned year) {
        /* Drawn one by one: compilers differ in which argument of a call they evaluate first. */
        unsigned month = 1 + draw_below(state, 12), day = 1 + draw_below(state, 28),
                hour = draw_below(state, 24);
        unsigned minute = draw_below(state, 60), second = draw_below(state, 60);

        add(text, "\"%u-%02u-%02uT%02u:%02u:%02uZ\"", year, month, day, hour, minute, second);
}

static void add_encryption(Text *text, uint64_t *state) {
        add(text, "\"encryption\":{\"profile\":\"http://readium.org/lcp/basic-profile\",\"content_key\":{"
                "\"algorithm\":\"http://www.w3.org/2001/04/xmlenc#aes256-cbc\",\"encrypted_value\":\"");
        add_base64(text, state, KEY_SIZE);
        add(text, "\"},\"user_key\":{\"algorithm\":\"http://www.w3.org/2001/04/xmlenc#sha256\","
                "\"text_hint\":\"The passphrase of your account\",\"key_check\":\"");
        add_base64(text, state, KEY_SIZE);
        add(text, "\"}},");
}

static void add_links(Text *text, uint64_t *state, const char *id) {
        static const char *const adjectives[] = { "Quiet", "Long", "Träge", "Last", "Hidden", "Petite",
                "Third", "雪" };
        static const char *const nouns[] = { "River", "Winter", "Garten", "Letter", "Étoile", "Harbour",
                "Index", "Train" };
        const char *adjective = adjectives[draw_below(state, 8)], *noun = nouns[draw_below(state, 8)];
        unsigned volume = draw_below(state, 1000), length = 100000 + draw_below(state, 5000000);

        add(text, "\"links\":["
                "{\"rel\":\"hint\",\"href\":\"https://www.example.com/hint\",\"type\":\"text/html\"},"
                "{\"rel\":\"publication\",\"href\":\"https://www.example.com/files/%s.epub\","
                "\"type\":\"application/epub+zip\",\"title\":\"%s %s %u\",\"length\":%u,\"hash\":\"",
                id, adjective, noun, volume, length);
        for (unsigned i = 0; i < 4; i++)
                add(text, "%016llx", (unsigned long long)draw(state));
        add(text, "\"},{\"rel\":\"status\",\"href\":\"https://www.example.com/licenses/%s/status\","
                "\"type\":\"application/vnd.readium.license.status.v1.0+json\"}],", id);
}

static void add_user(Text *text, uint64_t *state) {
        char id[LCP_ID_SIZE];

        format_uuid(state, id);
        add(text, "\"user\":{\"id\":\"%s\",\"email\":\"", id);
        add_base64(text, state, 48);
        add(text, "\",\"encrypted\":[\"email\"]},");
}

/* Each right may be absent, which is unlimited. */
static void add_rights(Text *text, uint64_t *state) {
        unsigned which = draw_below(state, 16);
        const char *comma = "";

        add(text, "\"rights\":{");
        if (which & 1) {
                add(text, "\"print\":%u", draw_below(state, 100));
                comma = ",";
        }
        if (which & 2) {
                add(text, "%s\"copy\":%u", comma, draw_below(state, 10000));
                comma = ",";
        }
        if (which & 4) {
                add(text, "%s\"start\":", comma);
                add_time(text, state, 2024);
                comma = ",";
        }
        if (which & 8) {
                add(text, "%s\"end\":", comma);
                add_time(text, state, 2090);
        }
        add(text, "},");
}

char *lcp_make(uint64_t seed, size_t size, size_t *ret_size, char ret_id[LCP_ID_SIZE]) {
        static const char end[] = "\"}}\n";
        uint64_t state = seed;
        char id[LCP_ID_SIZE];
        Text text = { .room = BODY_MAX + size };
        size_t certificate;

        text.data = malloc(text.room);
        if (!text.data)
                err(1, "A license document of %zu bytes", size);

        format_uuid(&state, id);
        if (size == 0)
                size = 3000 + draw_below(&state, 1000);

        add(&text, "{\"provider\":\"https://www.example.com\",\"id\":\"%s\",\"issued\":", id);
        add_time(&text, &state, 2023);
        add(&text, ",\"updated\":");
        add_time(&text, &state, 2024);
        add(&text, ",");
        add_encryption(&text, &state);
        add_links(&text, &state, id);
        add_user(&text, &state);
        add_rights(&text, &state);
        add(&text, "\"signature\":{\"algorithm\":\"http://www.w3.org/2001/04/xmldsig-more#rsa-sha256\","
                "\"value\":\"");
        add_base64(&text, &state, SIGNATURE_SIZE);
        add(&text, "\",\"certificate\":\"");

        certificate = text.size + strlen(end) < size ? (size - text.size - strlen(end)) / 4 * 3 : 0;
        add_base64(&text, &state, certificate > CERTIFICATE_MIN ? certificate : CERTIFICATE_MIN);
        add(&text, "%s", end);

        /* Base64 comes by four. */
        while (text.size < size)
                add(&text, "\n");

        if (ret_size)
                *ret_size = text.size;
        if (ret_id)
                memcpy(ret_id, id, sizeof id);
        return text.data;
}
