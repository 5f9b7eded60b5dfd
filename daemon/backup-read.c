/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "backup-read.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>


#include "archive-frame.h"
#include "archive-manifest.h"
#include "document.h"
#include "json-memory.h"

#define COUNTER "counter."

typedef struct Reading {
        ArchiveReader *reader;
        const BackupVisitor *visitor;
        bool all_users;
} Reading;

void backup_origin_clear(BackupOrigin *origin) {
        g_free(origin->software);
        g_free(origin->created);
        g_free(origin->host);
        g_free(origin->machine);
        g_free(origin->name);
        g_free(origin->epochs);
        *origin = (BackupOrigin) {};
}

char *backup_origin_describe(const BackupOrigin *origin) {
        g_autofree char *who = NULL;

        if (origin->all_users)
                who = g_strdup("all users");
        else if (*origin->name)
                who = g_strdup(origin->name);
        else
                who = g_strdup_printf("user %" PRIu32, (uint32_t)origin->uid);
        license_clean_text(who);
        return *origin->host ? g_strdup_printf("%s on %s", who, origin->host) : g_steal_pointer(&who);
}

int backup_read_origin(int fd, BackupOrigin *ret, Error *error) {
        g_autoptr(ArchiveReader) reader = NULL;
        const ArchiveEntry *entry = NULL;
        int r;

        r = archive_manifest_find(fd, &reader, &entry, error);
        if (r != 0)
                return r;
        if (!entry)
                return archive_damaged(error, "at", ARCHIVE_MANIFEST, "it is missing");
        return archive_manifest_origin(entry->content, entry->size, ret, error);
}

static int read_origin(Reading *reading, const ArchiveEntry *entry, Error *error) {
        const BackupVisitor *visitor = reading->visitor;
        g_auto(BackupOrigin) origin = {};
        int r;

        r = archive_manifest_origin(entry->content, entry->size, &origin, error);
        if (r != 0)
                return r;

        reading->all_users = origin.all_users;
        return visitor->origin ? visitor->origin(&origin, visitor->userdata, error) : 0;
}

/* A user without an account has no name. */
static bool owner_is_valid(const char *owner) {
        return !*owner || license_string_is_valid(owner);
}

/* state.jsonl */

/* A number as we write them, 0 to INT64_MAX. Neither jansson nor this takes a larger one. */
static bool is_count(const json_t *value) {
        return json_is_integer(value) && json_integer_value(value) >= 0;
}

static bool read_counters(json_t *value, License *license) {
        const char *right;
        json_t *remaining;

        if (!json_is_object(value))
                return false;

        json_object_foreach(value, right, remaining)
                if (!license_right_is_valid(right) || !is_count(remaining) ||
                    license_limit_counter(license, right, (uint64_t)json_integer_value(remaining)) != 0)
                        return false;
        return true;
}

/* Takes over one member of a line; false where no backup of this kind has it, or not with such a value. */
static bool read_member(const char *key, json_t *value, bool all_users, BackupState *state, const char **id) {
        if (strcmp(key, "id") == 0)
                return (*id = json_string_value(value)) && license_string_is_valid(*id);
        if (strcmp(key, "generation") == 0) {
                state->license.generation = (uint64_t)json_integer_value(value);
                return is_count(value) && state->license.generation > 0;
        }
        if (strcmp(key, "counters") == 0)
                return read_counters(value, &state->license);
        if (strcmp(key, "restricted") == 0) {
                state->license.allow_backup = false;
                return json_is_true(value);
        }
        if (strcmp(key, "revoked") == 0) {
                state->revoked = json_integer_value(value);
                return is_count(value);
        }
        if (strcmp(key, "owner") == 0)
                return all_users && (state->owner = json_string_value(value)) && owner_is_valid(state->owner);
        return false;
}

static int read_line(json_t *root, bool all_users, BackupState *state, Error *error) {
        const char *key, *id = NULL;
        json_t *value;

        json_object_foreach(root, key, value)
                if (!read_member(key, value, all_users, state, &id))
                        return archive_damaged(error, "at", ARCHIVE_STATE, "line %" PRIu64 " has a wrong '%.64s'",
                                state->line, key);

        if (!id || state->license.generation == 0 || !json_object_get(root, "counters") ||
            (all_users && !state->owner))
                return archive_damaged(error, "at", ARCHIVE_STATE, "line %" PRIu64 " does not say what it must",
                        state->line);
        return license_set_string(&state->license.id, id) < 0 ? error_set_no_memory(error) : 0;
}

static int read_state(Reading *reading, const char *line, uint64_t number, Error *error) {
        const BackupVisitor *visitor = reading->visitor;
        BackupState state = { .line = number, .revoked = LICENSE_NO_TIME };
        json_error_t ignored;
        json_t *root;
        int r;

        r = json_parse(line, strlen(line), &root, &ignored);
        if (r == -ENOMEM)
                return error_set_no_memory(error);
        if (!json_is_object(root)) {
                json_decref(root);
                return archive_damaged(error, "at", ARCHIVE_STATE, "line %" PRIu64 " is not a JSON object", number);
        }

        license_init(&state.license);
        r = read_line(root, reading->all_users, &state, error);
        if (r == 0 && visitor->state)
                r = visitor->state(&state, visitor->userdata, error);
        license_clear(&state.license);
        json_decref(root);
        return r;
}

static int read_states(Reading *reading, Error *error) {
        const char *line;
        int r;

        for (uint64_t number = 1;; number++) {
                r = archive_reader_line(reading->reader, &line, error);
                if (r != 0 || !line)
                        return r;
                r = read_state(reading, line, number, error);
                if (r != 0)
                        return r;
        }
}

/* Documents */

/* Digits alone, as we write them: no sign, no blank, no zero before another digit. At most INT64_MAX. */
static bool parse_count(const char *text, int64_t *ret) {
        int64_t count = 0;
        const char *p;

        for (p = text; g_ascii_isdigit(*p); p++)
                if (__builtin_mul_overflow(count, 10, &count) || __builtin_add_overflow(count, *p - '0', &count))
                        return false;
        if (p == text || *p || (text[0] == '0' && text[1]))
                return false;
        *ret = count;
        return true;
}

/* The same, and below 0. No date is INT64_MIN, which is LICENSE_NO_DATE. */
static bool parse_date(const char *text, int64_t *ret) {
        int64_t count = 0;
        bool before = text[0] == '-';

        if (!parse_count(text + before, &count) || (before && count == 0))
                return false;
        *ret = before ? -count : count;
        return true;
}

static bool parse_counter(const char *right, const char *value, License *claimed) {
        int64_t remaining = 0;

        return license_right_is_valid(right) && parse_count(value, &remaining) &&
                license_limit_counter(claimed, right, (uint64_t)remaining) == 0;
}

/* Takes over one attribute; false where no backup of this kind has it, or not with such a value. */
static int read_attribute(const char *name, const char *value, License *claimed, bool *ret_good, Error *error) {
        const struct {
                const char *name;
                char **text;
        } texts[] = {
                { "id", &claimed->id },
                { "key-id", &claimed->key_id },
                { "title", &claimed->title },
                { "issuer", &claimed->issuer },
                { "media-type", &claimed->media_type },
        };
        int64_t generation = 0;

        for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
                if (strcmp(name, texts[i].name) == 0) {
                        *ret_good = license_string_is_valid(value);
                        if (*ret_good && license_set_string(texts[i].text, value) < 0)
                                return error_set_no_memory(error);
                        return 0;
                }

        if (strcmp(name, "generation") == 0) {
                *ret_good = parse_count(value, &generation) && generation > 0;
                claimed->generation = (uint64_t)generation;
        } else if (strcmp(name, "not-before") == 0)
                *ret_good = parse_count(value, &claimed->not_before);
        else if (strcmp(name, "not-after") == 0)
                *ret_good = parse_count(value, &claimed->not_after);
        else if (strcmp(name, "date") == 0)
                *ret_good = parse_date(value, &claimed->document_date);
        else if (g_str_has_prefix(name, COUNTER))
                *ret_good = parse_counter(name + strlen(COUNTER), value, claimed);
        else
                *ret_good = strcmp(name, "blake2b") == 0; /* the archive's reader has checked it */
        return 0;
}

/* What the attributes say: claimed gets all but what only the document can tell. */
static int read_attributes(const Reading *reading, const ArchiveEntry *entry, License *claimed, const char **owner,
                Error *error) {
        for (unsigned i = 0; i < entry->attributes->len; i += 2) {
                const char *name = entry->attributes->pdata[i], *value = entry->attributes->pdata[i + 1];
                bool good = false;
                int r;

                name += strlen(ARCHIVE_ATTRIBUTE_PREFIX);
                if (strcmp(name, "owner") == 0) {
                        good = reading->all_users && owner_is_valid(value);
                        *owner = value;
                } else {
                        r = read_attribute(name, value, claimed, &good, error);
                        if (r != 0)
                                return r;
                }
                if (!good)
                        return archive_damaged(error, "at", entry->path, "its attribute '%.64s' is wrong", name);
        }

        if (claimed->generation == 0)
                return archive_damaged(error, "at", entry->path, "its generation is missing");
        if (reading->all_users && !*owner)
                return archive_damaged(error, "at", entry->path, "it does not say whose it is");
        if (reading->all_users != (strchr(entry->path + strlen(ARCHIVE_LICENSES), '/') != NULL))
                return archive_damaged(error, "at", entry->path, "a backup of %s has it in another folder",
                        reading->all_users ? "all users" : "one user");
        return 0;
}

/* A document that cannot be, or not with these attributes. The reason stays; advice to who stores a license goes. */
static int refuse_document(const char *path, Error *error) {
        char *end = error->message ? g_strrstr(error->message, ". ") : NULL;

        if (error->code != ERROR_INVALID_LICENSE && error->code != ERROR_INVALID_ARGUMENTS)
                return (int)error->code;
        if (end)
                *end = '\0';
        return archive_damaged(error, "at", path, "%s", error_message(error));
}

/* What the document says of itself, narrowed by the attributes: all but digest and size. */
static int recognise(const char *path, const void *document, size_t size, const License *claimed, License *license,
        Error *error) {
        int r;

        r = document_read(document, size, claimed->media_type, license, error);
        if (r == 0)
                r = license_narrow(license, claimed, error);
        if (r != 0)
                return refuse_document(path, error);

        if (license->document_date != claimed->document_date)
                return archive_damaged(error, "at", path, "its date is not that of its document");
        /* What the document bounds was stored bounded, and its state says so, too. */
        if (!license_counters_equal(license, claimed))
                return archive_damaged(error, "at", path, "it does not have all counters of its document");
        license->generation = claimed->generation;
        return 0;
}

static bool is_text_of_license(const char *text) {
        return !text || license_string_is_valid(text);
}

static bool is_time_of_license(int64_t time) {
        return time == LICENSE_NO_TIME || time >= 0;
}

bool backup_state_is_valid(const License *license, int64_t revoked) {
        if (!license->id || !license_string_is_valid(license->id) || license->generation == 0 ||
            license->generation > INT64_MAX || !is_time_of_license(revoked))
                return false;
        for (unsigned i = 0; i < license->counters->len; i++)
                if (!license_counter_is_valid(&g_array_index(license->counters, Counter, i)))
                        return false;
        return true;
}

/* What read_attributes() asks for, of a license that was not read from attributes. */
static bool attributes_are_valid(const License *license) {
        return backup_state_is_valid(license, LICENSE_NO_TIME) && is_text_of_license(license->key_id) &&
                is_text_of_license(license->title) && is_text_of_license(license->issuer) &&
                is_text_of_license(license->media_type) && is_time_of_license(license->not_before) &&
                is_time_of_license(license->not_after);
}

int backup_license_check(const License *license, const void *document, Error *error) {
        g_auto(License) read = {};

        if (!attributes_are_valid(license))
                return archive_damaged(error, "at", license->id ?: "", "an attribute is wrong");
        /* Under its seal it is what was made of its document. */
        if (license->soundness == LICENSE_SOUND)
                return 0;
        /* That is all where nothing is known of the document but that it has no date. */
        if (license->document_date == LICENSE_NO_DATE &&
            !document_is_claimed(document, license->size, license->media_type))
                return 0;
        license_init(&read);
        return recognise(license->id, document, license->size, license, &read, error);
}

/* The digest attribute, which the archive's reader has held against the document. */
static void read_digest(const ArchiveEntry *entry, License *license) {
        const char *hex = archive_entry_attribute(entry, ARCHIVE_ATTRIBUTE_DIGEST);

        (void)sodium_hex2bin(license->digest, sizeof license->digest, hex, strlen(hex), NULL, NULL, NULL);
        license->size = entry->size;
}

static int read_license(Reading *reading, const ArchiveEntry *entry, Error *error) {
        BackupLicense backup = { .path = entry->path, .document = entry->content };
        const BackupVisitor *visitor = reading->visitor;
        g_auto(License) claimed = {};
        int r;

        license_init(&claimed);
        r = read_attributes(reading, entry, &claimed, &backup.owner, error);
        if (r != 0)
                return r;

        license_init(&backup.license);
        read_digest(entry, &backup.license);
        r = recognise(entry->path, entry->content, entry->size, &claimed, &backup.license, error);
        if (r == 0 && visitor->license)
                r = visitor->license(&backup, visitor->userdata, error);
        license_clear(&backup.license);
        return r;
}

static int read_entry(Reading *reading, const ArchiveEntry *entry, Error *error) {
        if (strcmp(entry->path, ARCHIVE_MANIFEST) == 0)
                return read_origin(reading, entry, error);
        if (strcmp(entry->path, ARCHIVE_STATE) == 0)
                return read_states(reading, error);
        if (g_str_has_prefix(entry->path, ARCHIVE_LICENSES))
                return read_license(reading, entry, error);
        return 0; /* for people, or proved by the archive's reader */
}

int backup_read(int fd, uint64_t document_max, int stall_msec, const Cancel *cancel, const BackupVisitor *visitor,
        ArchiveCounts *ret, Error *error) {
        g_autoptr(ArchiveReader) reader = NULL;
        Reading reading = { .visitor = visitor };
        const ArchiveEntry *entry;
        int r;

        r = archive_reader_new(fd, document_max, stall_msec, cancel, &reader, error);
        if (r != 0)
                return r;
        reading.reader = reader;
        archive_reader_watch(reader, &visitor->watch);

        for (;;) {
                r = archive_reader_next(reader, &entry, error);
                if (r != 0)
                        return r;
                if (!entry)
                        break;
                r = read_entry(&reading, entry, error);
                if (r != 0)
                        return r;
        }

        archive_reader_counts(reader, ret);
        return 0;
}
