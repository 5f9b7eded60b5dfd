/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "license.h"

#include <errno.h>
#include <string.h>

#include <sodium.h>

G_STATIC_ASSERT(LICENSE_DIGEST_SIZE == crypto_generichash_BYTES);

void license_init(License *license) {
        *license = (License) {
                .not_before = LICENSE_NO_TIME,
                .not_after = LICENSE_NO_TIME,
                .allow_backup = true,
                .counters = g_array_new(false, false, sizeof(Counter)),
                .extension = "bin",
                .document_date = LICENSE_NO_DATE,
                .soundness = LICENSE_SOUND,
        };
}

void license_clear(License *license) {
        g_free(license->id);
        g_free(license->key_id);
        g_free(license->title);
        g_free(license->issuer);
        g_free(license->media_type);
        if (license->counters)
                g_array_unref(license->counters);
        *license = (License) {};
}

static bool is_ascii(const char *text, size_t size) {
        unsigned n_others = 0;

        for (size_t i = 0; i < size; i++)
                n_others += (signed char)text[i] <= 0;
        return n_others == 0;
}

bool license_text_is_valid(const char *text, size_t size) {
        /* As most are. */
        if (is_ascii(text, size))
                return true;
        if (!g_utf8_validate(text, (gssize)size, NULL))
                return false;

        for (const char *p = text; p < text + size; p = g_utf8_next_char(p)) {
                gunichar c = g_utf8_get_char(p);

                if ((c & 0xFFFE) == 0xFFFE || (c >= 0xFDD0 && c <= 0xFDEF))
                        return false;
        }
        return true;
}

static bool is_unfit(gunichar c) {
        switch (g_unichar_type(c)) {
        case G_UNICODE_CONTROL:
        case G_UNICODE_FORMAT:
        case G_UNICODE_LINE_SEPARATOR:
        case G_UNICODE_PARAGRAPH_SEPARATOR:
                return true;
        default:
                return false;
        }
}

void license_clean_text(char *text) {
        char *to = text;

        for (const char *from = text; *from;) {
                size_t size = (size_t)(g_utf8_next_char(from) - from);

                if (is_unfit(g_utf8_get_char(from)))
                        *to++ = '?';
                else
                        for (size_t i = 0; i < size; i++)
                                *to++ = from[i];
                from += size;
        }
        *to = '\0';
}

bool license_string_is_valid(const char *string) {
        size_t size = strnlen(string, LICENSE_STRING_MAX + 1);

        return size > 0 && size <= LICENSE_STRING_MAX && license_text_is_valid(string, size);
}

size_t license_memory_size(const License *license) {
        const char *const strings[] = { license->id, license->key_id, license->title, license->issuer,
                license->media_type };
        size_t size = 2 * sizeof *license + license->counters->len * sizeof(Counter);

        for (size_t i = 0; i < G_N_ELEMENTS(strings); i++)
                size += strings[i] ? strlen(strings[i]) : 0;
        return size;
}

bool license_right_is_valid(const char *right) {
        size_t size = strspn(right, "abcdefghijklmnopqrstuvwxyz0123456789._-");

        return size > 0 && size <= LICENSE_RIGHT_MAX && !right[size];
}

const char *license_extension(const char *extension) {
        static const char *const known[] = { "lcpl", "lic" };

        for (size_t i = 0; i < G_N_ELEMENTS(known); i++)
                if (g_strcmp0(extension, known[i]) == 0)
                        return known[i];
        return "bin";
}

int license_set_string(char **field, const char *value) {
        size_t size = strlen(value) + 1;
        char *copy;

        copy = g_try_malloc(size);
        if (!copy)
                return -ENOMEM;

        memcpy(copy, value, size);
        g_free(*field);
        *field = copy;
        return 0;
}

/* The counter of a right, or NULL and the place in the sorted counters where it would stand. */
static Counter *find_counter(const License *license, const char *right, unsigned *ret_index) {
        unsigned i;

        for (i = 0; i < license->counters->len; i++) {
                Counter *counter = &g_array_index(license->counters, Counter, i);
                int c = strcmp(counter->right, right);

                if (c == 0)
                        return counter;
                if (c > 0)
                        break;
        }

        *ret_index = i;
        return NULL;
}

const Counter *license_find_counter(const License *license, const char *right) {
        unsigned i;

        return find_counter(license, right, &i);
}

int license_limit_counter(License *license, const char *right, uint64_t remaining) {
        Counter *known;
        unsigned i;

        known = find_counter(license, right, &i);
        if (known) {
                known->remaining = MIN(known->remaining, remaining);
                return 0;
        }

        if (license->counters->len >= LICENSE_COUNTERS_MAX)
                return LICENSE_COUNTERS_FULL;

        Counter counter = { .remaining = remaining };
        g_strlcpy(counter.right, right, sizeof counter.right);
        g_array_insert_val(license->counters, i, counter);
        return 0;
}

bool license_counter_is_valid(const Counter *counter) {
        return license_right_is_valid(counter->right) && counter->remaining <= INT64_MAX;
}

bool license_counters_equal(const License *a, const License *b) {
        if (a->counters->len != b->counters->len)
                return false;
        for (unsigned i = 0; i < a->counters->len; i++) {
                const Counter *left = &g_array_index(a->counters, Counter, i);
                const Counter *right = &g_array_index(b->counters, Counter, i);

                if (strcmp(left->right, right->right) != 0 || left->remaining != right->remaining)
                        return false;
        }
        return true;
}

static int narrow_string(char **field, const char *claimed, const char *name, Error *error) {
        if (!claimed)
                return 0;

        if (*field && strcmp(*field, claimed) != 0)
                return error_set(error, ERROR_INVALID_ARGUMENTS,
                        "%s '%s' is not what the document says, '%s'. Leave it out.", name, claimed, *field);

        if (license_set_string(field, claimed) < 0)
                return error_set_no_memory(error);
        return 0;
}

int license_narrow(License *license, const License *claimed, Error *error) {
        int r;

        if ((r = narrow_string(&license->id, claimed->id, "LicenseId", error)) != 0 ||
            (r = narrow_string(&license->key_id, claimed->key_id, "KeyId", error)) != 0 ||
            (r = narrow_string(&license->title, claimed->title, "Title", error)) != 0 ||
            (r = narrow_string(&license->issuer, claimed->issuer, "Issuer", error)) != 0 ||
            (r = narrow_string(&license->media_type, claimed->media_type, "MediaType", error)) != 0)
                return r;

        if (claimed->not_before != LICENSE_NO_TIME) {
                if (license->not_before != LICENSE_NO_TIME && claimed->not_before < license->not_before)
                        return error_set(error, ERROR_INVALID_ARGUMENTS,
                                "NotBefore is earlier than the document allows. Leave it out, or name a later time.");
                license->not_before = claimed->not_before;
        }

        if (claimed->not_after != LICENSE_NO_TIME) {
                if (license->not_after != LICENSE_NO_TIME && claimed->not_after > license->not_after)
                        return error_set(error, ERROR_INVALID_ARGUMENTS,
                                "NotAfter is later than the document allows. Leave it out, or name an earlier time.");
                license->not_after = claimed->not_after;
        }

        license->allow_backup = license->allow_backup && claimed->allow_backup;

        for (unsigned i = 0; i < claimed->counters->len; i++) {
                const Counter *theirs = &g_array_index(claimed->counters, Counter, i);
                const Counter *ours = license_find_counter(license, theirs->right);

                if (ours && theirs->remaining > ours->remaining)
                        return error_set(error, ERROR_INVALID_ARGUMENTS,
                                "Counter '%s' is larger than the document allows. Leave it out, or name a "
                                "smaller one.",
                                theirs->right);

                if (license_limit_counter(license, theirs->right, theirs->remaining) == LICENSE_COUNTERS_FULL)
                        return error_set(error, ERROR_INVALID_ARGUMENTS,
                                "A license can have at most %u counters.", LICENSE_COUNTERS_MAX);
        }

        return 0;
}

void license_digest_document(License *license, const void *document, size_t size) {
        crypto_generichash(license->digest, sizeof license->digest, document, size, NULL, 0);
        license->size = size;
}

bool license_has_document(const License *license, const License *other) {
        return license->size == other->size && memcmp(license->digest, other->digest, sizeof license->digest) == 0;
}

bool license_document_is_whole(const License *license, const void *document, size_t size) {
        License found = {};

        license_digest_document(&found, document, size);
        return license_has_document(&found, license);
}

void license_digest_to_hex(const uint8_t digest[LICENSE_DIGEST_SIZE], char ret[LICENSE_DIGEST_SIZE * 2 + 1]) {
        sodium_bin2hex(ret, LICENSE_DIGEST_SIZE * 2 + 1, digest, LICENSE_DIGEST_SIZE);
}

static void seal_number(crypto_generichash_state *state, uint64_t number) {
        const uint64_t fixed = GUINT64_TO_LE(number);

        crypto_generichash_update(state, (const void *)&fixed, sizeof fixed);
}

/* Of a text that is not set the size is 0, which no text has. */
static void seal_text(crypto_generichash_state *state, const char *text) {
        size_t size = text ? strlen(text) : 0;

        seal_number(state, size);
        crypto_generichash_update(state, (const void *)text, size);
}

static void compute_seal(const License *license, uint8_t ret[LICENSE_SEAL_SIZE]) {
        crypto_generichash_state state;

        crypto_generichash_init(&state, NULL, 0, LICENSE_SEAL_SIZE - 1);
        seal_text(&state, license->id);
        seal_text(&state, license->key_id);
        seal_text(&state, license->title);
        seal_text(&state, license->issuer);
        seal_text(&state, license->media_type);
        seal_text(&state, license->extension);
        seal_number(&state, (uint64_t)license->not_before);
        seal_number(&state, (uint64_t)license->not_after);
        seal_number(&state, (uint64_t)license->document_date);
        seal_number(&state, license->allow_backup);
        seal_number(&state, license->size);
        seal_number(&state, license->generation);
        crypto_generichash_update(&state, license->digest, sizeof license->digest);
        for (unsigned i = 0; i < license->counters->len; i++) {
                const Counter *counter = &g_array_index(license->counters, Counter, i);

                seal_text(&state, counter->right);
                seal_number(&state, counter->remaining);
        }
        ret[0] = LICENSE_SEAL_VERSION;
        crypto_generichash_final(&state, ret + 1, LICENSE_SEAL_SIZE - 1);
}

size_t license_proof(const License *license, uint8_t ret[LICENSE_PROOF_SIZE]) {
        memcpy(ret, license->digest, LICENSE_DIGEST_SIZE);
        if (license->soundness == LICENSE_UNSEALED)
                return LICENSE_DIGEST_SIZE;
        compute_seal(license, ret + LICENSE_DIGEST_SIZE);
        if (license->soundness == LICENSE_ROTTEN)
                ret[LICENSE_PROOF_SIZE - 1] ^= 1;
        return LICENSE_PROOF_SIZE;
}

void license_take_proof(License *license, const void *proof, size_t size) {
        license->soundness = LICENSE_UNSEALED;
        if (!proof || (size != LICENSE_DIGEST_SIZE && size != LICENSE_PROOF_SIZE))
                return; /* a digest of zeros is of no document */
        memcpy(license->digest, proof, LICENSE_DIGEST_SIZE);
        if (size == LICENSE_PROOF_SIZE)
                memcpy(license->seal, (const uint8_t *)proof + LICENSE_DIGEST_SIZE, LICENSE_SEAL_SIZE);
}

void license_judge(License *license) {
        uint8_t whole[LICENSE_SEAL_SIZE];

        license->soundness = LICENSE_UNSEALED;
        if (license->seal[0] != LICENSE_SEAL_VERSION)
                return;
        compute_seal(license, whole);
        license->soundness = memcmp(license->seal, whole, sizeof whole) == 0 ? LICENSE_SOUND : LICENSE_ROTTEN;
}
