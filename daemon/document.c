/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "document.h"

#include <errno.h>
#include <string.h>

#include "json-memory.h"

typedef struct Recogniser {
        /* By the caller's media type (may be NULL), or by a look at the text, which may be broken. */
        bool (*claims)(const void *document, size_t size, const char *media_type);
        /* Fills license. Returns 0, NOT_MINE where a closer look says so, or an error's code. */
        int (*read)(const void *document, size_t size, const char *media_type, License *license,
                Error *error);
} Recogniser;

enum { NOT_MINE = -1 };

/* What is wrong never quotes the document: it would end up in logs. */
static int broken(Error *error, const char *what) {
        return error_set(error, ERROR_INVALID_LICENSE,
                "The document is a broken LCP license: %s. Get it from its provider again.", what);
}

static int broken_member(Error *error, const char *member, const char *problem) {
        g_autofree char *what = g_strdup_printf("'%s' %s", member, problem);

        return broken(error, what);
}

/* A member that is not null; NULL where there is none, also where object is no object. */
static const json_t *member(const json_t *object, const char *name) {
        const json_t *value = json_object_get(object, name);

        return json_is_null(value) ? NULL : value;
}

static int read_string(const json_t *object, const char *name, char **field, Error *error) {
        const json_t *value = member(object, name);

        if (!value)
                return broken_member(error, name, "is missing");
        if (!json_is_string(value))
                return broken_member(error, name, "is not a string");
        if (!license_string_is_valid(json_string_value(value)))
                return broken_member(error, name, "is empty or longer than 1,024 bytes");
        if (license_set_string(field, json_string_value(value)) < 0)
                return error_set_no_memory(error);
        return 0;
}

/*
 * A time as Unix microseconds; *ret_microseconds stays untouched where the member is absent. A time
 * without a zone could mean 26 hours, so it is none.
 */
static int read_time(const json_t *object, const char *name, int64_t *ret_microseconds, Error *error) {
        const json_t *value = member(object, name);
        g_autoptr(GDateTime) time = NULL;

        if (!value)
                return 0;

        if (json_is_string(value))
                time = g_date_time_new_from_iso8601(json_string_value(value), NULL);
        if (!time)
                return broken_member(error, name, "is not a time with a zone, such as 2024-05-31T12:00:00Z");

        *ret_microseconds = g_date_time_to_unix(time) * G_USEC_PER_SEC + g_date_time_get_microsecond(time);
        return 0;
}

/* Seconds for a bound of the license's time. What lies before 1970 has begun, or ended, long ago. */
static int64_t bound_from_microseconds(int64_t microseconds, bool round_up) {
        if (microseconds == LICENSE_NO_DATE)
                return LICENSE_NO_TIME;
        if (microseconds < 0)
                return 0;
        return microseconds / G_USEC_PER_SEC + (round_up && microseconds % G_USEC_PER_SEC != 0);
}

static int lcp_read_dates(const json_t *root, License *license, Error *error) {
        int64_t date = LICENSE_NO_DATE;
        int r;

        r = read_time(root, "issued", &date, error);
        if (r != 0)
                return r;
        if (date == LICENSE_NO_DATE)
                return broken_member(error, "issued", "is missing");

        r = read_time(root, "updated", &date, error);
        if (r != 0)
                return r;

        license->document_date = date;
        return 0;
}

/* Documents of 2015 have booleans among their rights: true is unlimited, and false is not at all. */
static int lcp_read_counter(const json_t *rights, const char *right, License *license, Error *error) {
        const json_t *value = member(rights, right);
        uint64_t remaining;

        if (!value || json_is_true(value))
                return 0;

        if (json_is_false(value))
                remaining = 0;
        else if (json_is_integer(value) && json_integer_value(value) >= 0)
                remaining = (uint64_t)json_integer_value(value);
        else
                return broken_member(error, right, "is not a count");

        /* Two counters never fill an empty license. */
        (void)license_limit_counter(license, right, remaining);
        return 0;
}

static int lcp_read_rights(const json_t *root, License *license, Error *error) {
        const json_t *rights = member(root, "rights");
        int64_t start = LICENSE_NO_DATE, end = LICENSE_NO_DATE;
        int r;

        if (!rights)
                return 0;
        if (!json_is_object(rights))
                return broken_member(error, "rights", "is not an object");

        if ((r = read_time(rights, "start", &start, error)) != 0 ||
            (r = read_time(rights, "end", &end, error)) != 0 ||
            (r = lcp_read_counter(rights, "print", license, error)) != 0 ||
            (r = lcp_read_counter(rights, "copy", license, error)) != 0)
                return r;

        /* Parts of a second go to the narrow side. */
        license->not_before = bound_from_microseconds(start, true);
        license->not_after = bound_from_microseconds(end, false);
        return 0;
}

/*
 * The link to the publication: links is an object by relation in 2015, an array of links today. *ret
 * stays untouched where there is none.
 */
static int lcp_find_publication(const json_t *root, const json_t **ret, Error *error) {
        const json_t *links = member(root, "links");

        if (!links)
                return broken_member(error, "links", "is missing");

        if (json_is_object(links)) {
                *ret = json_object_get(links, "publication");
                return 0;
        }

        if (!json_is_array(links))
                return broken_member(error, "links", "is neither an array nor an object");

        for (size_t i = 0; i < json_array_size(links); i++) {
                const json_t *link = json_array_get(links, i);
                const char *rel = json_string_value(member(link, "rel"));

                if (rel && strcmp(rel, "publication") == 0) {
                        *ret = link;
                        return 0;
                }
        }

        return 0;
}

/* The title only helps people. One that is too long for us is cut, not held against the license. */
static int lcp_read_title(const json_t *root, License *license, Error *error) {
        const json_t *publication = NULL, *value;
        char title[LICENSE_STRING_MAX + 1];
        int r;

        r = lcp_find_publication(root, &publication, error);
        if (r != 0)
                return r;

        value = member(publication, "title");
        if (!value)
                return 0;
        if (!json_is_string(value))
                return broken_member(error, "title", "is not a string");

        const char *end;
        g_strlcpy(title, json_string_value(value), sizeof title);
        if (!g_utf8_validate(title, -1, &end))
                title[end - title] = '\0';

        /* One that the bus would not take is as good as none. */
        if (license_string_is_valid(title) && license_set_string(&license->title, title) < 0)
                return error_set_no_memory(error);
        return 0;
}

static bool lcp_has_type(const char *media_type) {
        return media_type && g_ascii_strcasecmp(media_type, DOCUMENT_MEDIA_TYPE_LCP) == 0;
}

/* What begins like an object and has the address of an encryption profile in it, whole or not. */
static bool lcp_claims(const void *document, size_t size, const char *media_type) {
        static const char profile[] = "readium.org/lcp/", escaped[] = "readium.org\\/lcp\\/";
        const char *text = document, *end;

        if (lcp_has_type(media_type))
                return true;
        if (!text)
                return false;

        end = text + size;
        while (text < end && g_ascii_isspace(*text))
                text++;

        if (text == end || *text != '{')
                return false;

        size = (size_t)(end - text);
        return memmem(text, size, profile, strlen(profile)) || memmem(text, size, escaped, strlen(escaped));
}

static bool lcp_has_profile(const json_t *root) {
        const char *profile = json_string_value(member(member(root, "encryption"), "profile"));

        return profile &&
                (g_str_has_prefix(profile, "http://readium.org/lcp/") ||
                 g_str_has_prefix(profile, "https://readium.org/lcp/"));
}

static int lcp_read_root(const json_t *root, License *license, Error *error) {
        int r;

        if ((r = read_string(root, "id", &license->id, error)) != 0 ||
            (r = read_string(root, "provider", &license->issuer, error)) != 0 ||
            (r = lcp_read_dates(root, license, error)) != 0 ||
            (r = lcp_read_title(root, license, error)) != 0 ||
            (r = lcp_read_rights(root, license, error)) != 0)
                return r;

        if (!json_is_object(member(root, "encryption")))
                return broken_member(error, "encryption", "is missing or no object");
        if (!json_is_object(member(root, "signature")))
                return broken_member(error, "signature", "is missing or no object");

        if (license_set_string(&license->media_type, DOCUMENT_MEDIA_TYPE_LCP) < 0)
                return error_set_no_memory(error);
        license->extension = "lcpl";
        return 0;
}

static int lcp_read(const void *document, size_t size, const char *media_type, License *license,
        Error *error) {
        json_error_t json_error = {};
        json_t *root;
        int r;

        r = json_parse(document, size, &root, &json_error);
        if (r == -ENOMEM)
                return error_set_no_memory(error);
        if (r < 0) {
                /* jansson's words quote the document; the place is enough to find it. */
                g_autofree char *what = g_strdup_printf("it is not valid JSON (line %i, column %i)",
                        json_error.line, json_error.column);
                return broken(error, what);
        }

        if (!json_is_object(root))
                r = lcp_has_type(media_type) ? broken(error, "it is not a JSON object") : NOT_MINE;
        else if (!lcp_has_type(media_type) && !lcp_has_profile(root))
                r = NOT_MINE; /* another's JSON, which only mentions LCP */
        else
                r = lcp_read_root(root, license, error);

        json_decref(root);
        return r;
}

static const Recogniser recognisers[] = {
        { lcp_claims, lcp_read },
};

static bool is_text(const char *document, size_t size) {
        if (size == 0)
                return true;

        for (size_t i = 0; i < size; i++)
                if ((unsigned char)document[i] < ' ' && !g_ascii_isspace(document[i]))
                        return false;

        return g_utf8_validate_len(document, size, NULL);
}

int document_read(const void *document, size_t size, const char *media_type, License *license, Error *error) {
        int r;

        for (unsigned i = 0; i < G_N_ELEMENTS(recognisers); i++) {
                if (!recognisers[i].claims(document, size, media_type))
                        continue;

                r = recognisers[i].read(document, size, media_type, license, error);
                if (r != NOT_MINE)
                        return r;
        }

        license->extension = is_text(document, size) ? "lic" : "bin";
        return 0;
}

int document_recognise(const void *document, size_t size, const char *media_type, License *license,
        Error *error) {
        license_digest_document(license, document, size);
        return document_read(document, size, media_type, license, error);
}

bool document_is_claimed(const void *document, size_t size, const char *media_type) {
        for (unsigned i = 0; i < G_N_ELEMENTS(recognisers); i++)
                if (recognisers[i].claims(document, size, media_type))
                        return true;
        return false;
}
