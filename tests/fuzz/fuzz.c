/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fuzz.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define MESSAGE_MAX 2048U

void fuzz_prepare(void) {
        g_setenv("CMOCKA_TEST_ABORT", "1", true);
        if (access("/dev/shm", W_OK | X_OK) == 0)
                g_setenv("TMPDIR", "/dev/shm", true);
        signal(SIGPIPE, SIG_IGN);
        FUZZ_CHECK(sodium_init() >= 0);
}

uint8_t input_byte(Input *input) {
        if (input->size == 0)
                return 0;
        input->size--;
        return *input->data++;
}

unsigned input_below(Input *input, unsigned n) {
        return input_byte(input) % n;
}

uint64_t input_number(Input *input, unsigned bytes) {
        uint64_t value = 0;

        while (bytes-- > 0)
                value = value << 8 | input_byte(input);
        return value;
}

uint64_t input_edge(Input *input) {
        static const uint64_t edges[] = { 0, 1, 2, UINT32_MAX, INT64_MAX - 1, INT64_MAX, (uint64_t)INT64_MAX + 1,
                UINT64_MAX };
        unsigned kind = input_below(input, 16);

        if (kind < G_N_ELEMENTS(edges))
                return edges[kind];
        return input_number(input, kind < 14 ? 1 : 8);
}

const uint8_t *input_bytes(Input *input, size_t max, size_t *ret_size) {
        size_t size = (size_t)input_number(input, 2);
        const uint8_t *data = input->data;

        size = MIN(MIN(size, max), input->size);
        input->data += size;
        input->size -= size;
        *ret_size = size;
        return data;
}

/* Written again here, and not asked of the code that is tested. */
static void check_text(const char *text) {
        size_t size = strlen(text);

        FUZZ_CHECK(size > 0 && size <= 1024);
        FUZZ_CHECK(g_utf8_validate(text, (gssize)size, NULL));
        for (const char *p = text; *p; p = g_utf8_next_char(p)) {
                gunichar c = g_utf8_get_char(p);

                FUZZ_CHECK((c & 0xFFFE) != 0xFFFE && !(c >= 0xFDD0 && c <= 0xFDEF));
        }
}

void check_license(const License *license) {
        const char *const texts[] = { license->id, license->key_id, license->title, license->issuer,
                license->media_type };

        for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
                if (texts[i])
                        check_text(texts[i]);
        FUZZ_CHECK(license->not_before == LICENSE_NO_TIME || license->not_before >= 0);
        FUZZ_CHECK(license->not_after == LICENSE_NO_TIME || license->not_after >= 0);
        FUZZ_CHECK(license->counters && license->counters->len <= 64);
        for (unsigned i = 0; i < license->counters->len; i++) {
                const Counter *counter = &g_array_index(license->counters, Counter, i);
                size_t size = strlen(counter->right);

                FUZZ_CHECK(size > 0 && size <= 64);
                FUZZ_CHECK(strspn(counter->right, "abcdefghijklmnopqrstuvwxyz0123456789._-") == size);
                FUZZ_CHECK(counter->remaining <= INT64_MAX);
                FUZZ_CHECK(i == 0 || strcmp(counter[-1].right, counter->right) < 0);
        }
        FUZZ_CHECK(license->generation <= INT64_MAX);
        FUZZ_CHECK(strcmp(license->extension, "lcpl") == 0 || strcmp(license->extension, "lic") == 0 ||
                strcmp(license->extension, "bin") == 0);
}

char *describe_license(const License *license) {
        GString *text = g_string_new(NULL);
        char hex[LICENSE_DIGEST_SIZE * 2 + 1];

        license_digest_to_hex(license->digest, hex);
        g_string_append_printf(text, "%s|%s|%s|%s|%s|%" PRIi64 "|%" PRIi64
                "|%d|%s|%" PRIi64 "|%" PRIu64 "|%" PRIu64 "|%s",
                license->id ?: "(none)", license->key_id ?: "(none)", license->title ?: "(none)",
                license->issuer ?: "(none)", license->media_type ?: "(none)", license->not_before, license->not_after,
                license->allow_backup, license->extension, license->document_date, license->size,
                license->generation, hex);
        for (unsigned i = 0; i < license->counters->len; i++) {
                const Counter *counter = &g_array_index(license->counters, Counter, i);

                g_string_append_printf(text, " %s=%" PRIu64, counter->right, counter->remaining);
        }
        return g_string_free(text, false);
}

void check_message(const Error *error) {
        const char *message = error_message(error);

        FUZZ_CHECK(error->code > ERROR_NONE && error->code < _ERROR_MAX);
        FUZZ_CHECK(*message && strlen(message) <= MESSAGE_MAX);
        FUZZ_CHECK(license_text_is_valid(message, strlen(message)));
        for (const char *p = message; *p; p++)
                FUZZ_CHECK((unsigned char)*p >= ' ' && *p != 0x7f);
}
