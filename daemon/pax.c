/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pax.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io.h"
#include "license.h"
#include "number.h"
#include "pax-format.h"

/* Whole blocks, so that a header is never half in the buffer and half in the file. */
#define BUFFER_SIZE PROVED_BLOCK_SIZE
G_STATIC_ASSERT(BUFFER_SIZE % PAX_BLOCK_SIZE == 0);
G_STATIC_ASSERT(PAX_CONTENT_MAX == PAX_OCTAL_MAX);
G_STATIC_ASSERT(PROVED_PATCH_SIZE == PAX_BLOCK_SIZE);
/* What comes before a document: its extended header, the records in it, its header. */
G_STATIC_ASSERT(PROVED_DOCUMENT_DISTANCE <= 3 * PAX_BLOCK_SIZE);

struct PaxWriter {
        PaxDigest digest; /* over all entries that are complete */

        ProvedFile *file; /* or NULL, and */
        int fd;
        uint64_t start;   /* where in fd the archive begins */
        uint64_t flushed; /* bytes of the archive that are in the file */
        size_t fill;      /* bytes in buffer */
        PaxHeader template;

        /* The streamed entry; path is NULL while there is none. */
        const char *path;
        uint64_t header_at; /* from the archive's start */
        PaxHeader header;
        uint64_t content_size;
        crypto_generichash_state content;

        char *buffer; /* the file's, or own */

        char records[PAX_RECORDS_MAX]; /* of one entry */
        char own[];                    /* BUFFER_SIZE bytes, for fd alone */
};

static void put_octal(char *field, size_t size, uint64_t value) {
        field[size - 1] = '\0';
        for (size_t i = size - 1; i-- > 0; value >>= 3)
                field[i] = (char)('0' + (value & 7));
}

static void template_init(PaxHeader *template, int64_t mtime) {
        *template = (PaxHeader) { .uname = "root", .gname = "root" };
        put_octal(template->mode, sizeof template->mode, 0600);
        put_octal(template->uid, sizeof template->uid, 0);
        put_octal(template->gid, sizeof template->gid, 0);
        put_octal(template->mtime, sizeof template->mtime,
                (uint64_t)CLAMP(mtime, 0, (int64_t)PAX_OCTAL_MAX));
        put_octal(template->devmajor, sizeof template->devmajor, 0);
        put_octal(template->devminor, sizeof template->devminor, 0);
        memcpy(template->magic, PAX_MAGIC, sizeof template->magic + sizeof template->version);
}

static PaxWriter *writer_new(int64_t mtime, size_t buffer_size) {
        /* The digest's state wants an alignment that malloc() does not promise. */
        PaxWriter *writer = aligned_alloc(__alignof__(PaxWriter), sizeof *writer + buffer_size);

        if (!writer)
                return NULL;
        /* The large arrays need no zeros. */
        memset(writer, 0, offsetof(PaxWriter, records));
        template_init(&writer->template, mtime);
        pax_digest_init(&writer->digest);
        return writer;
}

int pax_writer_new(int fd, int64_t mtime, PaxWriter **ret) {
        PaxWriter *writer;
        off_t start;

        start = lseek(fd, 0, SEEK_CUR);
        if (start < 0)
                return -errno;

        writer = writer_new(mtime, BUFFER_SIZE);
        if (!writer)
                return -ENOMEM;
        writer->fd = fd;
        writer->start = (uint64_t)start;
        writer->buffer = writer->own;
        *ret = writer;
        return 0;
}

int pax_writer_new_proved(ProvedFile *file, int64_t mtime, PaxWriter **ret) {
        PaxWriter *writer = writer_new(mtime, 0);

        if (!writer)
                return -ENOMEM;
        writer->file = file;
        writer->buffer = proved_file_buffer(file);
        *ret = writer;
        return 0;
}

PaxWriter *pax_writer_free(PaxWriter *writer) {
        free(writer);
        return NULL;
}

static int flush(PaxWriter *writer) {
        int r;

        r = writer->file ? proved_file_give(writer->file, writer->fill) :
                           io_write_all(writer->fd, writer->buffer, writer->fill);
        if (r < 0)
                return r;

        if (writer->file)
                writer->buffer = proved_file_buffer(writer->file);
        writer->flushed += writer->fill;
        writer->fill = 0;
        return 0;
}

/* Appends bytes, or zeros where data is NULL. */
static int put(PaxWriter *writer, const void *data, size_t size) {
        const char *p = data;
        int r;

        while (size > 0) {
                size_t n = MIN(size, BUFFER_SIZE - writer->fill);

                if (p) {
                        memcpy(writer->buffer + writer->fill, p, n);
                        p += n;
                } else
                        memset(writer->buffer + writer->fill, 0, n);

                writer->fill += n;
                size -= n;

                if (writer->fill == BUFFER_SIZE) {
                        r = flush(writer);
                        if (r < 0)
                                return r;
                }
        }

        return 0;
}

static int put_padding(PaxWriter *writer, uint64_t size) {
        return put(writer, NULL, (size_t)pax_padding(size));
}

static bool is_plain(char c) {
        return c >= ' ' && c < 0x7f;
}

/* Paths that a header cannot hold are in the records; in it is what a tar of old makes of them. */
static void header_set_name(PaxHeader *header, const char *prefix, const char *path) {
        char *to = stpcpy(header->name, prefix), *end = header->name + sizeof header->name;

        for (; *path && to < end; path++)
                *to++ = is_plain(*path) ? *path : '_';
}

static void header_set_size(PaxHeader *header, uint64_t size) {
        put_octal(header->size, sizeof header->size, size);
        pax_header_checksum(header, header->checksum);
}

static bool path_needs_record(const char *path) {
        size_t size = 0;

        while (is_plain(path[size]))
                size++;
        return path[size] || size > sizeof ((PaxHeader *)NULL)->name;
}

static size_t count_digits(size_t n) {
        size_t digits = 1;

        for (; n >= 10; n /= 10)
                digits++;
        return digits;
}

/* Appends "length key=value LF" to the records. The length counts its own digits. */
static int append_record(PaxWriter *writer, size_t *size, const char *prefix, const char *key,
        const char *value) {
        size_t rest = strlen(prefix) + strlen(key) + strlen(value) + strlen(" =\n"), length = rest, digits;
        char *to = writer->records + *size;

        while (length != rest + count_digits(length))
                length = rest + count_digits(length);

        if (length > sizeof writer->records - *size)
                return -E2BIG;

        *size += length;
        digits = count_digits(length);
        for (size_t i = digits; i-- > 0; length /= 10)
                to[i] = (char)('0' + length % 10);

        to[digits] = ' ';
        to = stpcpy(stpcpy(to + digits + 1, prefix), key);
        *to++ = '=';
        *stpcpy(to, value) = '\n';
        return 0;
}

/*
 * Puts the extended header of an entry, where it needs one. Keys ascend, which the reader relies on to
 * see that none comes twice: attributes by name, then path.
 */
static int put_records(PaxWriter *writer, const char *path, const PaxAttribute *const *attributes,
        size_t n_attributes) {
        PaxHeader header = writer->template;
        size_t size = 0;
        int r;

        for (size_t i = 0; i < n_attributes; i++) {
                r = append_record(writer, &size, PAX_XATTR_PREFIX, attributes[i]->name,
                        attributes[i]->value);
                if (r < 0)
                        return r;
        }

        if (path_needs_record(path)) {
                r = append_record(writer, &size, "", "path", path);
                if (r < 0)
                        return r;
        }

        if (size == 0)
                return 0;

        header.type = PAX_TYPE_EXTENDED;
        header_set_name(&header, "PaxHeaders/", path);
        header_set_size(&header, size);

        if ((r = put(writer, &header, sizeof header)) < 0 ||
            (r = put(writer, writer->records, size)) < 0 ||
            (r = put_padding(writer, size)) < 0)
                return r;
        return 0;
}

/* Puts the headers of an entry; ret is the main one. */
static int put_headers(PaxWriter *writer, const char *path, uint64_t size,
        const PaxAttribute *const *attributes, size_t n_attributes, PaxHeader *ret) {
        int r;

        if (!*path)
                return -EINVAL;
        if (strlen(path) > PAX_PATH_MAX)
                return -ENAMETOOLONG;

        r = put_records(writer, path, attributes, n_attributes);
        if (r < 0)
                return r;

        *ret = writer->template;
        ret->type = PAX_TYPE_FILE;
        header_set_name(ret, "", path);
        header_set_size(ret, size);
        return put(writer, ret, sizeof *ret);
}

static int compare_attributes(const void *a, const void *b) {
        const PaxAttribute *const *left = a, *const *right = b;

        return strcmp((*left)->name, (*right)->name);
}

static int sort_attributes(const PaxAttribute *attributes, size_t n_attributes,
        const PaxAttribute *ret[static PAX_ATTRIBUTES_MAX]) {
        size_t size = 0;

        if (n_attributes > PAX_ATTRIBUTES_MAX)
                return -E2BIG;

        for (size_t i = 0; i < n_attributes; i++) {
                ret[i] = &attributes[i];
                size += strlen(attributes[i].name) + strlen(attributes[i].value);
        }
        if (size > PAX_ATTRIBUTES_SIZE_MAX)
                return -E2BIG;

        qsort(ret, n_attributes, sizeof *ret, compare_attributes);
        for (size_t i = 1; i < n_attributes; i++)
                if (strcmp(ret[i - 1]->name, ret[i]->name) == 0)
                        return -EINVAL;

        return 0;
}

/* digest is that of the content, or NULL where it is to be taken. */
static int add(PaxWriter *writer, const char *path, const void *content, size_t size, const uint8_t *digest,
        const PaxAttribute *attributes, size_t n_attributes) {
        const PaxAttribute *sorted[PAX_ATTRIBUTES_MAX];
        uint8_t content_digest[crypto_generichash_BYTES];
        PaxHeader header;
        int r;

        g_assert(!writer->path);

        if (size > PAX_CONTENT_MAX)
                return -EFBIG;

        if ((r = sort_attributes(attributes, n_attributes, sorted)) < 0 ||
            (r = put_headers(writer, path, size, sorted, n_attributes, &header)) < 0)
                return r;
        if (digest)
                proved_file_expect(writer->file, writer->fill, size, digest);
        else {
                crypto_generichash(content_digest, sizeof content_digest, content, size, NULL, 0);
                digest = content_digest;
        }
        if ((r = put(writer, content, size)) < 0 || (r = put_padding(writer, size)) < 0)
                return r;

        pax_digest_entry(&writer->digest, path, size, digest);
        for (size_t i = 0; i < n_attributes; i++)
                pax_digest_attribute(&writer->digest, sorted[i]->name, sorted[i]->value);
        return 0;
}

int pax_writer_add(PaxWriter *writer, const char *path, const void *content, size_t size,
        const PaxAttribute *attributes, size_t n_attributes) {
        return add(writer, path, content, size, NULL, attributes, n_attributes);
}

int pax_writer_add_known(PaxWriter *writer, const char *path, const void *content, size_t size,
        const uint8_t content_digest[crypto_generichash_BYTES], const PaxAttribute *attributes, size_t n_attributes) {
        g_assert(writer->file && n_attributes > 0);
        return add(writer, path, content, size, content_digest, attributes, n_attributes);
}

int pax_writer_begin(PaxWriter *writer, const char *path) {
        int r;

        g_assert(!writer->path);

        r = put_headers(writer, path, 0, NULL, 0, &writer->header);
        if (r < 0)
                return r;

        writer->path = path;
        writer->header_at = pax_writer_size(writer) - PAX_BLOCK_SIZE;
        writer->content_size = 0;
        crypto_generichash_init(&writer->content, NULL, 0, crypto_generichash_BYTES);
        return 0;
}

int pax_writer_append(PaxWriter *writer, const void *content, size_t size) {
        g_assert(writer->path);

        if (size > PAX_CONTENT_MAX - writer->content_size)
                return -EFBIG;

        writer->content_size += size;
        crypto_generichash_update(&writer->content, content, size);
        return put(writer, content, size);
}

int pax_writer_end(PaxWriter *writer) {
        uint8_t content_digest[crypto_generichash_BYTES];
        int r;

        g_assert(writer->path);

        r = put_padding(writer, writer->content_size);
        if (r < 0)
                return r;

        /* The size goes where the header has gone: it may be in the file already. */
        header_set_size(&writer->header, writer->content_size);
        if (writer->header_at >= writer->flushed)
                memcpy(writer->buffer + (writer->header_at - writer->flushed), &writer->header,
                        sizeof writer->header);
        else if (writer->file)
                proved_file_patch(writer->file, writer->header_at, &writer->header, sizeof writer->header);
        else {
                r = io_pwrite_all(writer->fd, &writer->header, sizeof writer->header,
                        writer->start + writer->header_at);
                if (r < 0)
                        return r;
        }

        crypto_generichash_final(&writer->content, content_digest, sizeof content_digest);
        pax_digest_entry(&writer->digest, writer->path, writer->content_size, content_digest);
        writer->path = NULL;
        return 0;
}

void pax_writer_digest(const PaxWriter *writer, uint8_t ret[crypto_generichash_BYTES]) {
        pax_digest_get(&writer->digest, ret);
}

uint64_t pax_writer_size(const PaxWriter *writer) {
        return writer->flushed + writer->fill;
}

int pax_writer_finish(PaxWriter *writer) {
        size_t rest;
        int r;

        g_assert(!writer->path);

        r = put(writer, NULL, 2 * PAX_BLOCK_SIZE);
        if (r < 0)
                return r;

        rest = pax_writer_size(writer) % PAX_RECORD_SIZE;
        if (rest > 0) {
                r = put(writer, NULL, PAX_RECORD_SIZE - rest);
                if (r < 0)
                        return r;
        }

        return writer->fill > 0 ? flush(writer) : 0;
}

static void digest_gathered(PaxDigest *digest) {
        crypto_generichash_update(&digest->state, (const uint8_t *)digest->lines, digest->fill);
        digest->fill = 0;
}

static void digest_bytes(PaxDigest *digest, const char *bytes, size_t size) {
        if (size > sizeof digest->lines - digest->fill)
                digest_gathered(digest);
        if (size > sizeof digest->lines) {
                crypto_generichash_update(&digest->state, (const uint8_t *)bytes, size);
                return;
        }
        memcpy(digest->lines + digest->fill, bytes, size);
        digest->fill += size;
}

static void digest_line(PaxDigest *digest, const char *line, char end) {
        digest_bytes(digest, line, strlen(line));
        digest_bytes(digest, &end, 1);
}

void pax_digest_init(PaxDigest *digest) {
        crypto_generichash_init(&digest->state, NULL, 0, crypto_generichash_BYTES);
        digest->fill = 0;
}

void pax_digest_entry(PaxDigest *digest, const char *path, uint64_t size,
        const uint8_t content_digest[crypto_generichash_BYTES]) {
        char number[NUMBER_SIZE], hex[LICENSE_DIGEST_SIZE * 2 + 1];

        license_digest_to_hex(content_digest, hex);
        digest_line(digest, path, '\n');
        digest_line(digest, number_to_text((int64_t)size, number), '\n');
        digest_line(digest, hex, '\n');
}

void pax_digest_attribute(PaxDigest *digest, const char *name, const char *value) {
        digest_line(digest, name, '=');
        digest_line(digest, value, '\n');
}

void pax_digest_get(const PaxDigest *digest, uint8_t ret[crypto_generichash_BYTES]) {
        PaxDigest copy = *digest;

        digest_gathered(&copy);
        crypto_generichash_final(&copy.state, ret, crypto_generichash_BYTES);
}
