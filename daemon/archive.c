/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "archive.h"

#include <inttypes.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include <archive.h>
#include <archive_entry.h>

#include "archive-manifest.h"
#include "archive-source.h"

/* Where an entry stands in a backup. */
typedef enum Place {
        PLACE_NONE,
        PLACE_README,
        PLACE_MANIFEST,
        PLACE_STATE,
        PLACE_LICENSES,
        PLACE_NOT_BACKED_UP,
        PLACE_END,
        _PLACE_MAX,
} Place;

static const struct {
        const char *path; /* PLACE_LICENSES: a prefix */
        bool required;
        bool streamed;
} places[_PLACE_MAX] = {
        [PLACE_NONE] = { "" },
        [PLACE_README] = { ARCHIVE_README, .required = true },
        [PLACE_MANIFEST] = { ARCHIVE_MANIFEST, .required = true },
        [PLACE_STATE] = { ARCHIVE_STATE, .required = true, .streamed = true },
        [PLACE_LICENSES] = { ARCHIVE_LICENSES },
        [PLACE_NOT_BACKED_UP] = { ARCHIVE_NOT_BACKED_UP, .streamed = true },
        [PLACE_END] = { ARCHIVE_END, .required = true },
};

struct ArchiveReader {
        PaxDigest digest;                 /* over all entries that are complete */
        crypto_generichash_state content; /* of this entry */

        struct archive *archive;
        struct archive_entry *header;
        locale_t locale;
        uint64_t document_max;
        ArchiveCounts counts;
        ArchiveClaim manifest;

        Place place;     /* of this entry */
        uint64_t number; /* of the last document */
        bool by_user;    /* documents are in folders by user */

        ArchiveEntry entry;
        bool streaming; /* its content is, in part, still to be read */
        uint8_t *content_buffer;
        size_t content_buffer_size;
        size_t line_start, line_end; /* what is in line and not given out */
        char path[PAX_PATH_MAX + 1]; /* of this entry, or of the one before; "" before the first */

        /* Large, and not zeroed. */
        char values[PAX_RECORDS_MAX]; /* of the attributes, as strings */
        char line[ARCHIVE_LINE_MAX + 2];
        ArchiveSource source;
};

static la_ssize_t read_callback(struct archive *archive, void *userdata, const void **ret) {
        return archive_source_read(userdata, ret);
}

/* Why libarchive did not say OK. */
static int failed(ArchiveReader *reader, Error *error) {
        if (reader->source.error.code != ERROR_NONE)
                return error_move(error, &reader->source.error);
        if (archive_errno(reader->archive) == ENOMEM)
                return error_set_no_memory(error);

        const char *reason = archive_error_string(reader->archive);
        return archive_damaged(error, "after", reader->path, "%s", reason ?: "libarchive refuses it");
}

int archive_reader_new(int fd, uint64_t document_max, int stall_msec, const Cancel *cancel,
        ArchiveReader **ret, Error *error) {
        g_autoptr(ArchiveReader) reader = NULL;

        /* The digest's state wants an alignment that malloc() does not promise. */
        reader = aligned_alloc(__alignof__(ArchiveReader), sizeof *reader);
        if (!reader)
                return error_set_no_memory(error);

        memset(reader, 0, offsetof(ArchiveReader, values));
        archive_source_init(&reader->source, fd, stall_msec, cancel);
        reader->document_max = document_max;
        reader->entry.attributes = g_ptr_array_sized_new(2 * PAX_ATTRIBUTES_MAX);
        pax_digest_init(&reader->digest);

        reader->archive = archive_read_new();
        reader->header = archive_entry_new();
        reader->locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
        if (!reader->locale)
                return error_set_errno(error, ERROR_MEDIUM, -errno,
                        "Reading a backup needs the locale C.UTF-8");
        if (!reader->archive || !reader->header)
                return error_set_no_memory(error);

        if (archive_read_support_format_tar(reader->archive) != ARCHIVE_OK ||
            archive_read_open(reader->archive, &reader->source, NULL, read_callback, NULL) != ARCHIVE_OK)
                return failed(reader, error);

        *ret = g_steal_pointer(&reader);
        return 0;
}

void archive_reader_watch(ArchiveReader *reader, const ArchiveWatch *watch) {
        reader->source.watch = *watch;
}

ArchiveReader *archive_reader_free(ArchiveReader *reader) {
        if (!reader)
                return NULL;

        if (reader->archive)
                archive_read_free(reader->archive);
        if (reader->header)
                archive_entry_free(reader->header);
        if (reader->locale)
                freelocale(reader->locale);
        error_clear(&reader->source.error);
        g_ptr_array_unref(reader->entry.attributes);
        g_free(reader->content_buffer);
        free(reader);
        return NULL;
}

static bool component_is_valid(const char *component, size_t size) {
        if (size == 0 || size > 255 || component[0] == '.')
                return false;

        for (size_t i = 0; i < size; i++)
                if ((unsigned char)component[i] < ' ' || component[i] == 0x7f || component[i] == '/')
                        return false;

        return true;
}

/* licenses/<number>-<name>.<extension>, or the same behind licenses/<user>/ */
static bool parse_document_path(const char *path, uint64_t *ret_number, bool *ret_by_user) {
        const char *user = path + strlen(ARCHIVE_LICENSES), *slash = strchr(user, '/');
        const char *name = slash ? slash + 1 : user, *dot = strrchr(name, '.');
        uint64_t number = 0;
        size_t i;

        if (slash && !component_is_valid(user, (size_t)(slash - user)))
                return false;

        for (i = 0; i < 18 && g_ascii_isdigit(name[i]); i++)
                number = number * 10 + (uint64_t)(name[i] - '0');

        if (i == 0 || name[i] != '-' || !component_is_valid(name, strlen(name)) || !dot ||
            dot <= name + i + 1 ||
            !(strcmp(dot, ".lcpl") == 0 || strcmp(dot, ".lic") == 0 || strcmp(dot, ".bin") == 0))
                return false;

        *ret_number = number;
        *ret_by_user = slash != NULL;
        return true;
}

static int check_document_place(ArchiveReader *reader, Error *error) {
        const char *path = reader->entry.path;
        uint64_t number;
        bool by_user;

        if (!parse_document_path(path, &number, &by_user))
                return archive_damaged(error, "at", path, "no document of a backup has such a path");
        if (number <= reader->number)
                return archive_damaged(error, "at", path, "it is there twice, or in the wrong place");
        if (reader->number > 0 && by_user != reader->by_user)
                return archive_damaged(error, "at", path,
                        "it is in another kind of folder than those before it");
        if (reader->counts.licenses >= ARCHIVE_DOCUMENTS_MAX)
                return archive_damaged(error, "at", path, "no backup has more than %u licenses",
                        ARCHIVE_DOCUMENTS_MAX);

        reader->number = number;
        reader->by_user = by_user;
        return 0;
}

static Place find_place(const char *path) {
        for (Place p = PLACE_README; p < _PLACE_MAX; p++)
                if (p == PLACE_LICENSES ? g_str_has_prefix(path, places[p].path) :
                                          strcmp(path, places[p].path) == 0)
                        return p;

        return PLACE_NONE;
}

/* Whether the entry may stand here, after those before it. */
static int check_place(ArchiveReader *reader, Error *error) {
        const char *path = reader->entry.path;
        Place place = find_place(path);

        if (place == PLACE_NONE)
                return archive_damaged(error, "at", path, "no backup has an entry of that name");
        if (place < reader->place || (place == reader->place && place != PLACE_LICENSES))
                return archive_damaged(error, "at", path, "it is there twice, or in the wrong place");

        for (Place p = reader->place + 1; p < place; p++)
                if (places[p].required)
                        return archive_damaged(error, "at", path, "'%s' must come before it and is missing",
                                places[p].path);

        reader->place = place;
        return place == PLACE_LICENSES ? check_document_place(reader, error) : 0;
}

static bool attribute_name_is_valid(const char *name) {
        const char *rest = name + strlen(ARCHIVE_ATTRIBUTE_PREFIX);

        return g_str_has_prefix(name, ARCHIVE_ATTRIBUTE_PREFIX) && *rest &&
                !rest[strspn(rest, "abcdefghijklmnopqrstuvwxyz0123456789._-")];
}

static int compare_attributes(const void *a, const void *b) {
        return strcmp(((const PaxAttribute *)a)->name, ((const PaxAttribute *)b)->name);
}

/* The guard has seen to it that no name comes twice. */
static int read_attributes(ArchiveReader *reader, Error *error) {
        PaxAttribute sorted[PAX_ATTRIBUTES_MAX];
        const char *name, *path = reader->entry.path;
        char *values = reader->values;
        size_t n = 0, total = 0, size;
        const void *value;

        archive_entry_xattr_reset(reader->header);
        while (archive_entry_xattr_next(reader->header, &name, &value, &size) == ARCHIVE_OK) {
                total += strlen(name) + size;
                if (n == PAX_ATTRIBUTES_MAX || total > PAX_ATTRIBUTES_SIZE_MAX)
                        return archive_damaged(error, "at", path, "it has too many attributes");
                if (!attribute_name_is_valid(name))
                        return archive_damaged(error, "at", path, "it has an attribute that no backup has");
                if (!g_utf8_validate_len(value, size, NULL))
                        return archive_damaged(error, "at", path, "its attribute '%s' is not text", name);

                sorted[n++] = (PaxAttribute) { name, values };
                values = mempcpy(values, value, size);
                *values++ = '\0';
        }

        qsort(sorted, n, sizeof *sorted, compare_attributes);

        g_ptr_array_set_size(reader->entry.attributes, 0);
        for (size_t i = 0; i < n; i++) {
                g_ptr_array_add(reader->entry.attributes, (char *)sorted[i].name);
                g_ptr_array_add(reader->entry.attributes, (char *)sorted[i].value);
        }

        return 0;
}

const char *archive_entry_attribute(const ArchiveEntry *entry, const char *name) {
        for (unsigned i = 0; i < entry->attributes->len; i += 2)
                if (strcmp(entry->attributes->pdata[i], name) == 0)
                        return entry->attributes->pdata[i + 1];

        return NULL;
}

/* Takes over what the entry's header says. */
static int read_header(ArchiveReader *reader, Error *error) {
        ArchiveEntry *entry = &reader->entry;
        const char *path = archive_entry_pathname(reader->header);
        int r;

        if (!path || strlen(path) > PAX_PATH_MAX || !g_utf8_validate(path, -1, NULL))
                return archive_damaged(error, "after", reader->path, "the next path is not UTF-8");

        if (!*path)
                return archive_damaged(error, "after", reader->path, "the next entry has no name");

        strcpy(reader->path, path);
        entry->path = reader->path;
        entry->size = (uint64_t)archive_entry_size(reader->header);
        entry->content = NULL;

        if ((r = check_place(reader, error)) != 0 || (r = read_attributes(reader, error)) != 0)
                return r;

        /* The rest say nothing by attributes but, if at all, their digest: those of END.json would be under none. */
        if (reader->place != PLACE_LICENSES && entry->attributes->len > 2U * !!archive_entry_attribute(entry,
                    ARCHIVE_ATTRIBUTE_DIGEST))
                return archive_damaged(error, "at", path, "it has an attribute that no backup has");
        if (reader->place == PLACE_LICENSES && !archive_entry_attribute(entry, ARCHIVE_ATTRIBUTE_ID))
                return archive_damaged(error, "at", path, "its id is missing");
        if (reader->place == PLACE_LICENSES && !archive_entry_attribute(entry, ARCHIVE_ATTRIBUTE_DIGEST))
                return archive_damaged(error, "at", path, "its digest is missing");

        if (reader->place == PLACE_LICENSES && entry->size > reader->document_max)
                return error_set(error, ERROR_LIMIT_EXCEEDED,
                        "'%.300s' is larger than a license may be here, %" PRIu64 " bytes (DocumentBytes=). "
                        "Raise that limit in licensevaultd.conf first.", path, reader->document_max);
        if (reader->place != PLACE_LICENSES && !places[reader->place].streamed &&
            entry->size > ARCHIVE_CONTENT_MAX)
                return archive_damaged(error, "at", path, "it is too large");

        return 0;
}

/* Reads and digests some of the entry's content. *ret_n is 0 at its end. */
static int read_content(ArchiveReader *reader, void *buffer, size_t size, size_t *ret_n, Error *error) {
        la_ssize_t n = archive_read_data(reader->archive, buffer, size);

        if (n < 0)
                return failed(reader, error);

        crypto_generichash_update(&reader->content, buffer, (size_t)n);
        *ret_n = (size_t)n;
        return 0;
}

/* All of the content is read: it must be what its own digest says, and END.json's will go over it. */
static int finish_entry(ArchiveReader *reader, Error *error) {
        const ArchiveEntry *entry = &reader->entry;
        const char *claimed = archive_entry_attribute(entry, ARCHIVE_ATTRIBUTE_DIGEST);
        uint8_t digest[LICENSE_DIGEST_SIZE];
        char hex[LICENSE_DIGEST_SIZE * 2 + 1];

        crypto_generichash_final(&reader->content, digest, sizeof digest);
        license_digest_to_hex(digest, hex);
        if (claimed && strcmp(claimed, hex) != 0)
                return archive_damaged(error, "at", entry->path, "it is not what its digest says");

        if (reader->place == PLACE_END)
                return 0;

        pax_digest_entry(&reader->digest, entry->path, entry->size, digest);
        for (unsigned i = 0; i < entry->attributes->len; i += 2)
                pax_digest_attribute(&reader->digest, entry->attributes->pdata[i],
                        entry->attributes->pdata[i + 1]);
        return 0;
}

static int read_into_memory(ArchiveReader *reader, Error *error) {
        ArchiveEntry *entry = &reader->entry;
        size_t done = 0, n = 0;
        int r;

        /* One byte more than there are, so that the end of the content is seen, and a buffer is there. */
        if (entry->size >= reader->content_buffer_size) {
                void *p = g_try_realloc(reader->content_buffer, entry->size + 1);
                if (!p)
                        return error_set_no_memory(error);
                reader->content_buffer = p;
                reader->content_buffer_size = entry->size + 1;
        }

        do {
                r = read_content(reader, reader->content_buffer + done, entry->size + 1 - done, &n, error);
                if (r != 0)
                        return r;
                done += n;
        } while (n > 0);

        if (done != entry->size)
                return archive_damaged(error, "at", entry->path, "it is cut off here");

        entry->content = reader->content_buffer;
        return finish_entry(reader, error);
}

static int skip_streamed(ArchiveReader *reader, Error *error) {
        size_t n = 0;
        int r;

        do {
                r = read_content(reader, reader->line, sizeof reader->line, &n, error);
                if (r != 0)
                        return r;
        } while (n > 0);

        reader->streaming = false;
        return finish_entry(reader, error);
}

static int check_end(ArchiveReader *reader, Error *error) {
        uint8_t digest[LICENSE_DIGEST_SIZE];
        char hex[LICENSE_DIGEST_SIZE * 2 + 1];
        ArchiveClaim end;
        int r;

        r = archive_end_parse(reader->entry.content, reader->entry.size, &end, error);
        if (r != 0)
                return r;

        pax_digest_get(&reader->digest, digest);
        license_digest_to_hex(digest, hex);
        if (strcmp(end.digest, hex) != 0)
                return archive_damaged(error, "at", ARCHIVE_END,
                        "its digest is not that of the entries before it");
        if (end.licenses != reader->counts.licenses || end.licenses != reader->manifest.licenses ||
            end.restricted != reader->manifest.restricted)
                return archive_damaged(error, "at", ARCHIVE_END, "its counts are not those of the backup");

        reader->counts.restricted = end.restricted;
        return 0;
}

/* libarchive has seen the end of the tar. END.json must have been there; the guard looks at the rest. */
static int read_end(ArchiveReader *reader, Error *error) {
        const void *data;
        ssize_t n;

        if (reader->place != PLACE_END)
                return archive_damaged(error, "after", reader->path,
                        "it is cut off here, " ARCHIVE_END " is missing");

        do
                n = archive_source_read(&reader->source, &data);
        while (n > 0);

        return n < 0 ? failed(reader, error) : 0;
}

static int next(ArchiveReader *reader, const ArchiveEntry **ret, Error *error) {
        int r;

        if (reader->streaming) {
                r = skip_streamed(reader, error);
                if (r != 0)
                        return r;
        }

        r = archive_read_next_header2(reader->archive, reader->header);
        if (r == ARCHIVE_EOF) {
                r = read_end(reader, error);
                if (r == 0)
                        *ret = NULL;
                return r;
        }
        if (r != ARCHIVE_OK)
                return failed(reader, error);

        r = read_header(reader, error);
        if (r != 0)
                return r;

        crypto_generichash_init(&reader->content, NULL, 0, crypto_generichash_BYTES);
        if (places[reader->place].streamed) {
                reader->streaming = true;
                reader->line_start = reader->line_end = 0;
        } else {
                r = read_into_memory(reader, error);
                if (r != 0)
                        return r;
        }

        if (reader->place == PLACE_MANIFEST)
                r = archive_manifest_parse(reader->entry.content, reader->entry.size, &reader->manifest,
                        error);
        else if (reader->place == PLACE_END)
                r = check_end(reader, error);
        else if (reader->place == PLACE_LICENSES)
                reader->counts.licenses++;
        if (r != 0)
                return r;

        *ret = &reader->entry;
        return 0;
}

int archive_reader_next(ArchiveReader *reader, const ArchiveEntry **ret, Error *error) {
        locale_t before;
        int r;

        /*
         * libarchive turns paths into the locale's characters, and a daemon has none. Ours are UTF-8:
         * each that is not ASCII would be a warning, and so damage.
         */
        before = uselocale(reader->locale);
        r = next(reader, ret, error);
        uselocale(before);
        return r;
}

/* Gives out size bytes, which an LF follows, or the end of the entry. */
static int give_line(ArchiveReader *reader, char *line, size_t size, const char **ret, Error *error) {
        if (size > ARCHIVE_LINE_MAX)
                return archive_damaged(error, "at", reader->path, "it has a line of more than %u bytes",
                        ARCHIVE_LINE_MAX);
        if (memchr(line, '\0', size))
                return archive_damaged(error, "at", reader->path, "it is not text");

        line[size] = '\0';
        reader->line_start = MIN((size_t)(line - reader->line) + size + 1, reader->line_end);
        *ret = line;
        return 0;
}

int archive_reader_line(ArchiveReader *reader, const char **ret, Error *error) {
        int r;

        if (!reader->streaming) {
                *ret = NULL;
                return 0;
        }

        for (size_t searched = 0;;) {
                char *start = reader->line + reader->line_start;
                size_t size = reader->line_end - reader->line_start, n = 0;
                char *end = memchr(start + searched, '\n', size - searched);

                if (end || size > ARCHIVE_LINE_MAX)
                        return give_line(reader, start, end ? (size_t)(end - start) : size, ret, error);

                searched = size;
                memmove(reader->line, start, size);
                reader->line_start = 0;
                reader->line_end = size;

                r = read_content(reader, reader->line + size, ARCHIVE_LINE_MAX + 1 - size, &n, error);
                if (r != 0)
                        return r;
                reader->line_end += n;

                if (n == 0 && size > 0)
                        return give_line(reader, reader->line, size, ret, error);
                if (n == 0) {
                        *ret = NULL;
                        return 0;
                }
        }
}

void archive_reader_counts(const ArchiveReader *reader, ArchiveCounts *ret) {
        *ret = reader->counts;
        ret->bytes = reader->source.bytes;
}
