/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include <jansson.h>

#include "document.h"
#include "fuzz.h"

/*
 * The recognisers, and what a caller lays over what they say. An input is HEAD bytes of decisions, then the
 * document. Held against a second, simpler reading of the same JSON: what a document bounds must be bounded.
 */

#define HEAD 32U

int LLVMFuzzerInitialize(int *argc, char ***argv) {
        fuzz_prepare();
        return 0;
}

static const char *media_type_of(Input *head) {
        static const char *const types[] = { NULL, DOCUMENT_MEDIA_TYPE_LCP,
                "APPLICATION/vnd.readium.lcp.license.v1.0+json",
                "text/plain" };

        return types[input_below(head, G_N_ELEMENTS(types))];
}

/* A number about as large as one that the document has: 0 to INT64_MAX. */
static int64_t near(Input *head, int64_t value) {
        unsigned kind = input_below(head, 8), distance = input_byte(head);

        if (value < 0 || kind > 5)
                return (int64_t)(input_edge(head) & INT64_MAX);
        if (kind < 3)
                return value - MIN(value, kind < 2 ? (int64_t)kind : (int64_t)distance);
        return value + MIN(INT64_MAX - value, kind < 5 ? (int64_t)kind - 3 : (int64_t)distance);
}

/* What somebody may claim: some of what the document says, some of what it does not. */
static void make_claim(Input *head, const License *said, License *claimed) {
        static const char *const rights[] = { "print", "copy", "play" };
        unsigned which = input_byte(head), same = input_byte(head);
        const struct {
                const char *said;
                char **field;
        } texts[] = {
                { said->id, &claimed->id },
                { said->title, &claimed->title },
                { said->issuer, &claimed->issuer },
                { said->media_type, &claimed->media_type },
                { said->key_id, &claimed->key_id },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
                if (which & 1U << i)
                        FUZZ_CHECK(license_set_string(texts[i].field, same & 1U << i && texts[i].said ? texts[i].said :
                                                      "another") == 0);
        claimed->allow_backup = !(which & 32);
        if (which & 64)
                claimed->not_before = near(head, said->not_before);
        if (which & 128)
                claimed->not_after = near(head, said->not_after);
        for (unsigned n = input_below(head, 4); n > 0; n--) {
                const char *right = rights[input_below(head, G_N_ELEMENTS(rights))];
                const Counter *bound = license_find_counter(said, right);

                FUZZ_CHECK(license_limit_counter(claimed, right,
                                   (uint64_t)near(head, bound ? (int64_t)bound->remaining : -1)) == 0);
        }
}

static bool text_is_kept(const char *result, const char *said, const char *claimed) {
        if (said && claimed && strcmp(said, claimed) != 0)
                return false; /* that is a contradiction, and no license */
        return g_strcmp0(result, said ?: claimed) == 0;
}

static void check_counters(const License *result, const License *bound) {
        for (unsigned i = 0; i < bound->counters->len; i++) {
                const Counter *counter = &g_array_index(bound->counters, Counter, i);
                const Counter *ours = license_find_counter(result, counter->right);

                FUZZ_CHECK(ours && ours->remaining <= counter->remaining);
        }
}

/* result is said, narrowed by claimed: nothing may be wider than either. */
static void check_narrowed(const License *result, const License *said, const License *claimed) {
        check_license(result);
        FUZZ_CHECK(text_is_kept(result->id, said->id, claimed->id));
        FUZZ_CHECK(text_is_kept(result->key_id, said->key_id, claimed->key_id));
        FUZZ_CHECK(text_is_kept(result->title, said->title, claimed->title));
        FUZZ_CHECK(text_is_kept(result->issuer, said->issuer, claimed->issuer));
        FUZZ_CHECK(text_is_kept(result->media_type, said->media_type, claimed->media_type));
        FUZZ_CHECK(result->not_before >= said->not_before && result->not_before >= claimed->not_before);
        FUZZ_CHECK(said->not_after == LICENSE_NO_TIME ||
                (result->not_after != LICENSE_NO_TIME && result->not_after <= said->not_after));
        FUZZ_CHECK(claimed->not_after == LICENSE_NO_TIME || result->not_after == claimed->not_after);
        FUZZ_CHECK(!result->allow_backup || (said->allow_backup && claimed->allow_backup));
        check_counters(result, said);
        check_counters(result, claimed);
        /* A wider one is not made narrow in silence. */
        for (unsigned i = 0; i < said->counters->len; i++) {
                const Counter *counter = &g_array_index(said->counters, Counter, i);
                const Counter *theirs = license_find_counter(claimed, counter->right);

                FUZZ_CHECK(!theirs || theirs->remaining <= counter->remaining);
        }
        FUZZ_CHECK(result->document_date == said->document_date && result->size == said->size);
        FUZZ_CHECK(memcmp(result->digest, said->digest, sizeof said->digest) == 0);
}

static void narrow(Input *head, License *license, const License *said) {
        g_autofree char *after = NULL, *again = NULL;
        g_auto(License) claimed = {};
        g_auto(Error) error = {};
        int r;

        license_init(&claimed);
        make_claim(head, said, &claimed);
        r = license_narrow(license, &claimed, &error);
        if (r != 0) {
                FUZZ_CHECK(r == ERROR_INVALID_ARGUMENTS && (int)error.code == r);
                check_message(&error);
                return;
        }
        check_narrowed(license, said, &claimed);
        after = describe_license(license);
        FUZZ_CHECK(license_narrow(license, &claimed, &error) == 0);
        again = describe_license(license);
        FUZZ_CHECK(strcmp(after, again) == 0);
}

/* Unix microseconds of a member that is a time; false where it is none. */
static bool time_of(const json_t *object, const char *name, double *ret) {
        const char *text = json_string_value(json_object_get(object, name));
        g_autoptr(GDateTime) time = text ? g_date_time_new_from_iso8601(text, NULL) : NULL;

        if (time)
                *ret = (double)g_date_time_to_unix(time) + g_date_time_get_seconds(time) -
                        g_date_time_get_second(time);
        return time != NULL;
}

static void check_count(const json_t *rights, const char *right, const License *license) {
        const json_t *value = json_object_get(rights, right);
        const Counter *counter = license_find_counter(license, right);

        if (json_is_integer(value))
                FUZZ_CHECK(counter && counter->remaining == (uint64_t)json_integer_value(value));
        else if (json_is_false(value))
                FUZZ_CHECK(counter && counter->remaining == 0);
        else
                FUZZ_CHECK(!counter);
}

/* An LCP license that was taken says in JSON what we hold it to. */
static void check_lcp(const License *license, const uint8_t *document, size_t size) {
        json_t *root = json_loadb((const char *)document, size, 0, NULL);
        const json_t *rights = json_object_get(root, "rights");
        double time = 0;

        FUZZ_CHECK(json_is_object(root));
        FUZZ_CHECK(license->id && strcmp(license->id, json_string_value(json_object_get(root, "id"))) == 0);
        FUZZ_CHECK(g_strcmp0(license->issuer, json_string_value(json_object_get(root, "provider"))) == 0 &&
                license->issuer);
        FUZZ_CHECK(g_strcmp0(license->media_type, DOCUMENT_MEDIA_TYPE_LCP) == 0);
        FUZZ_CHECK(license->document_date != LICENSE_NO_DATE);
        check_count(rights, "print", license);
        check_count(rights, "copy", license);

        /* Never wider than the document: what is before 1970 is 0, which for an end is as past as can be. */
        FUZZ_CHECK(time_of(rights, "start", &time) == (license->not_before != LICENSE_NO_TIME));
        if (license->not_before != LICENSE_NO_TIME)
                FUZZ_CHECK((double)license->not_before >= time && (double)license->not_before < MAX(time, 0) + 1);
        FUZZ_CHECK(time_of(rights, "end", &time) == (license->not_after != LICENSE_NO_TIME));
        if (license->not_after != LICENSE_NO_TIME)
                FUZZ_CHECK((double)license->not_after <= MAX(time, 0) && (double)license->not_after > time - 1);
        FUZZ_CHECK(time_of(root, json_is_string(json_object_get(root, "updated")) ? "updated" : "issued", &time));
        FUZZ_CHECK((double)license->document_date / 1e6 - time < 1e-3 &&
                time - (double)license->document_date / 1e6 < 1e-3);
        json_decref(root);
}

static void check_plain(const License *license) {
        FUZZ_CHECK(!license->id && !license->key_id && !license->title && !license->issuer && !license->media_type);
        FUZZ_CHECK(license->not_before == LICENSE_NO_TIME && license->not_after == LICENSE_NO_TIME);
        FUZZ_CHECK(license->document_date == LICENSE_NO_DATE && license->counters->len == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        Input head = { data, MIN(size, HEAD) };
        const uint8_t *document = data + MIN(size, HEAD);
        const char *media_type = media_type_of(&head);
        g_auto(License) license = {}, again = {};
        g_auto(Error) error = {}, error_again = {};
        uint8_t digest[LICENSE_DIGEST_SIZE];
        int r;

        size -= MIN(size, HEAD);
        license_init(&license);
        license_init(&again);
        r = document_recognise(document, size, media_type, &license, &error);
        FUZZ_CHECK(r == document_recognise(document, size, media_type, &again, &error_again));
        FUZZ_CHECK(strcmp(error_message(&error), error_message(&error_again)) == 0);
        crypto_generichash(digest, sizeof digest, document, size, NULL, 0);
        FUZZ_CHECK(license.size == size && memcmp(license.digest, digest, sizeof digest) == 0);
        FUZZ_CHECK((int)error.code == r);
        if (r != 0) {
                FUZZ_CHECK(r == ERROR_INVALID_LICENSE);
                check_message(&error);
                return 0;
        }

        check_license(&license);
        FUZZ_CHECK(license.allow_backup && license.generation == 0 && !license.key_id);
        if (strcmp(license.extension, "lcpl") == 0)
                check_lcp(&license, document, size);
        else
                check_plain(&license);
        narrow(&head, &license, &again);
        return 0;
}
