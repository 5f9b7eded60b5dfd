/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "archive-frame.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Zeros after the end, as large blocks of a medium make them; a stream of nothing else must end. */
#define ZEROS_MIN (2U * PAX_BLOCK_SIZE)
#define ZEROS_MAX (UINT64_C(16) << 20)

int archive_damaged(Error *error, const char *preposition, const char *path, const char *format, ...) {
        char what[256];
        va_list ap;

        va_start(ap, format);
        vsnprintf(what, sizeof what, format, ap);
        va_end(ap);

        if (!*path)
                return error_set(error, ERROR_BACKUP_CORRUPT,
                        "This is not a backup (is it still compressed, or encrypted?), or it is damaged at its start: "
                        "%s. Use another copy.", what);

        /* A path may be long, and what comes after it matters more than its end. */
        return error_set(error, ERROR_BACKUP_CORRUPT,
                "The backup is damaged %s '%.300s': %s. Use another copy.",
                preposition, path, what);
}

void archive_frame_init(ArchiveFrame *frame) {
        frame->state = FRAME_HEADER;
        frame->extended = false;
        frame->path_known = false;
        frame->fill = 0;
        frame->path[0] = '\0';
}

static bool is_zero(const void *data, size_t size) {
        const uint8_t *p = data;

        return size == 0 || (p[0] == 0 && memcmp(p, p + 1, size - 1) == 0);
}

static bool parse_octal(const char field[12], uint64_t *ret) {
        uint64_t value = 0;

        for (unsigned i = 0; i < 11; i++) {
                if (field[i] < '0' || field[i] > '7')
                        return false;
                value = value << 3 | (uint64_t)(field[i] - '0');
        }

        *ret = value;
        return field[11] == '\0';
}

static int check_header(const ArchiveFrame *frame, uint64_t *ret_size, Error *error) {
        const PaxHeader *header = &frame->header;
        char checksum[8];

        pax_header_checksum(header, checksum);
        if (memcmp(header->checksum, checksum, sizeof checksum) != 0)
                return archive_damaged(error, "after", frame->path, "the next header has a wrong checksum");

        if (memcmp(header->magic, PAX_MAGIC, sizeof header->magic + sizeof header->version) != 0)
                return archive_damaged(error, "after", frame->path, "what follows is another kind of tar");

        if (header->type != PAX_TYPE_FILE && (header->type != PAX_TYPE_EXTENDED || frame->extended))
                return archive_damaged(error, "after", frame->path,
                        "the next entry is of a kind that no backup has (type 0x%02x)",
                        (unsigned char)header->type);

        if (header->linkname[0] || header->prefix[0] || !parse_octal(header->size, ret_size))
                return archive_damaged(error, "after", frame->path,
                        "the next header is not one of a backup");

        if (header->type == PAX_TYPE_EXTENDED && (*ret_size == 0 || *ret_size > PAX_RECORDS_MAX))
                return archive_damaged(error, "after", frame->path, "the next extended header is too large");

        return 0;
}

static int frame_header(ArchiveFrame *frame, Error *error) {
        uint64_t size = 0;
        int r;

        if (is_zero(&frame->header, sizeof frame->header) && !frame->extended) {
                frame->state = FRAME_ZEROS;
                frame->left = sizeof frame->header;
                return 0;
        }

        r = check_header(frame, &size, error);
        if (r != 0)
                return r;

        frame->fill = 0;
        frame->left = size;
        frame->padding = pax_padding(size);
        frame->extended = frame->header.type == PAX_TYPE_EXTENDED;

        if (frame->extended)
                frame->state = FRAME_RECORDS;
        else {
                if (!frame->path_known)
                        g_strlcpy(frame->path, frame->header.name, sizeof frame->header.name + 1);
                frame->path_known = false;
                frame->state = FRAME_CONTENT;
        }
        return 0;
}

/*
 * The key and value of the first record of size bytes: "length key=value LF". Returns its length, or 0
 * for what is no record.
 */
static size_t parse_record(const char *record, size_t size, const char **ret_key, size_t *ret_key_size,
        const char **ret_value, size_t *ret_value_size) {
        const char *key, *equals;
        size_t length = 0, i;

        for (i = 0; i < MIN(size, 6U) && g_ascii_isdigit(record[i]); i++)
                length = length * 10 + (size_t)(record[i] - '0');

        if (i == 0 || record[0] == '0' || length > size || i >= length || record[i] != ' ' ||
            record[length - 1] != '\n')
                return 0;

        key = record + i + 1;
        if (i + 1 >= length - 1)
                return 0;
        equals = memchr(key, '=', (size_t)(record + length - 1 - key));
        if (!equals)
                return 0;

        *ret_key = key;
        *ret_key_size = (size_t)(equals - key);
        *ret_value = equals + 1;
        *ret_value_size = (size_t)(record + length - 1 - (equals + 1));
        return length;
}

/* Keys are path, or attributes', and ascend: so none comes twice. */
static int frame_records(ArchiveFrame *frame, Error *error) {
        static const char path_key[] = "path";
        const char *last = "", *path = NULL;
        size_t last_size = 0, path_size = 0;

        for (size_t at = 0, length; at < frame->fill; at += length) {
                const char *key, *value;
                size_t key_size, value_size;

                length = parse_record(frame->records + at, frame->fill - at, &key, &key_size, &value,
                        &value_size);
                if (length == 0)
                        return archive_damaged(error, "after", frame->path,
                                "the next extended header is not well-formed");

                int c = memcmp(last, key, MIN(last_size, key_size));
                if (c > 0 || (c == 0 && last_size >= key_size))
                        return archive_damaged(error, "after", frame->path,
                                "the next extended header has a record twice, or out of order");
                last = key;
                last_size = key_size;

                if (key_size == strlen(path_key) && memcmp(key, path_key, key_size) == 0) {
                        if (value_size == 0 || value_size > PAX_PATH_MAX || memchr(value, '\0', value_size))
                                return archive_damaged(error, "after", frame->path,
                                        "the next path is not valid");
                        path = value;
                        path_size = value_size;
                } else if (key_size <= strlen(PAX_XATTR_PREFIX) ||
                           memcmp(key, PAX_XATTR_PREFIX, strlen(PAX_XATTR_PREFIX)) != 0)
                        return archive_damaged(error, "after", frame->path,
                                "the next extended header has a record that no backup has");
        }

        if (path) {
                memcpy(frame->path, path, path_size);
                frame->path[path_size] = '\0';
                frame->path_known = true;
        }
        return 0;
}

/* Takes bytes until size are together. Returns how many it took. */
static size_t collect(ArchiveFrame *frame, void *to, size_t size, const uint8_t *data, size_t data_size) {
        size_t n = MIN(size - frame->fill, data_size);

        memcpy((char *)to + frame->fill, data, n);
        frame->fill += n;
        return n;
}

static int feed_some(ArchiveFrame *frame, const uint8_t *data, size_t size, size_t *ret_n, Error *error) {
        size_t n = (size_t)MIN(frame->left, size);
        int r;

        switch (frame->state) {
        case FRAME_HEADER:
                n = collect(frame, &frame->header, sizeof frame->header, data, size);
                r = frame->fill == sizeof frame->header ? frame_header(frame, error) : 0;
                break;

        case FRAME_RECORDS:
                n = collect(frame, frame->records, (size_t)frame->left, data, size);
                r = 0;
                if (frame->fill == frame->left) {
                        r = frame_records(frame, error);
                        frame->left = frame->padding;
                        frame->state = FRAME_PADDING;
                }
                break;

        case FRAME_CONTENT:
                frame->left -= n;
                r = 0;
                if (frame->left == 0) {
                        frame->left = frame->padding;
                        frame->state = FRAME_PADDING;
                }
                break;

        case FRAME_PADDING:
                r = is_zero(data, n) ? 0 :
                        archive_damaged(error, "after", frame->path,
                                "there is something between two entries");
                frame->left -= n;
                if (frame->left == 0) {
                        frame->fill = 0;
                        frame->state = FRAME_HEADER;
                }
                break;

        case FRAME_ZEROS:
                n = size;
                frame->left += n;
                if (!is_zero(data, n) || frame->left > ZEROS_MAX)
                        r = archive_damaged(error, "after", frame->path, "there is something after its end");
                else
                        r = 0;
                break;

        default:
                g_assert_not_reached();
        }

        *ret_n = n;
        return r;
}

size_t archive_frame_feed(ArchiveFrame *frame, const uint8_t *data, size_t size, Error *error) {
        size_t done = 0, n;

        while (done < size) {
                if (feed_some(frame, data + done, size - done, &n, error) != 0)
                        break;
                done += n;
        }

        return done;
}

int archive_frame_finish(const ArchiveFrame *frame, Error *error) {
        if (frame->state == FRAME_ZEROS && frame->left >= ZEROS_MIN)
                return 0;
        if (frame->state == FRAME_CONTENT)
                return archive_damaged(error, "at", frame->path, "it is cut off here");
        return archive_damaged(error, "after", frame->path, "it is cut off here");
}
