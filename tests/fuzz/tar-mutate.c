/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <string.h>

#include "archive.h"
#include "fuzz.h"
#include "tar-model.h"

#define PIECE_MAX 8192U
#define REMEMBERED 64U
/* The first ones, which are those of the corpus, stay. */
#define REMEMBERED_FIRST 16U

static GBytes *remembered[REMEMBERED];
static unsigned n_remembered;

void tar_remember(const uint8_t *data, size_t size) {
        GBytes **place = &remembered[n_remembered < REMEMBERED ? n_remembered :
                        REMEMBERED_FIRST + n_remembered % (REMEMBERED - REMEMBERED_FIRST)];

        n_remembered++;
        g_clear_pointer(place, g_bytes_unref);
        *place = g_bytes_new(data, size);
}

static unsigned below(unsigned *random, unsigned n) {
        *random = *random * 1664525U + 1013904223U;
        return (*random >> 8) % n;
}

static void mutate_bytes(GByteArray *bytes, size_t max) {
        guint size = bytes->len;

        g_byte_array_set_size(bytes, (guint)MAX(max, size));
        size = (guint)LLVMFuzzerMutate(bytes->data, size, MAX(max, size));
        g_byte_array_set_size(bytes, size);
}

static void mutate_records(TarEntry *entry, unsigned *random) {
        static const char *const values[] = { "", "0", "1", "00", "-1", "9223372036854775807", "9223372036854775808",
                "18446744073709551616", "a", "\xff" };
        static const char *const names[] = { "id", "generation", "key-id", "title", "issuer", "media-type",
                "not-before", "not-after", "date", "counter.play", "counter.", "owner", "blake2b", "other" };
        GPtrArray *records = entry->records;
        TarRecord *record;

        if (records->len == 0 || below(random, 4) == 0) {
                tar_entry_set_attribute(entry, names[below(random, G_N_ELEMENTS(names))],
                        values[below(random, G_N_ELEMENTS(values))]);
                return;
        }
        record = records->pdata[below(random, records->len)];
        if (record->value->len > 0 && record->value->len < 20 && g_ascii_isdigit((char)record->value->data[0])) {
                static const int64_t steps[] = { 1, -1, 1000, INT64_MAX };
                g_autofree char *text = g_strndup((const char *)record->value->data, record->value->len), *next = NULL;
                int64_t number = g_ascii_strtoll(text, NULL, 10), step = steps[below(random, 4)];

                next = g_strdup_printf("%" PRIi64, number > INT64_MAX - MAX(step, 0) ? INT64_MAX : number + step);
                g_byte_array_set_size(record->value, 0);
                g_byte_array_append(record->value, (const uint8_t *)next, (guint)strlen(next));
                return;
        }
        switch (below(random, 8)) {
        case 0:
                g_ptr_array_remove(records, record);
                break;
        case 1:
                mutate_bytes(record->key, 100);
                break;
        case 2: {
                TarRecord *other = records->pdata[below(random, records->len)], swap = *record;

                *record = *other;
                *other = swap;
                break;
        }
        default:
                mutate_bytes(record->value, 2000);
        }
}

/* A number in a text becomes another: at the places where something begins or ends. */
static void mutate_number(TarEntry *entry, unsigned *random) {
        static const char *const numbers[] = { "0", "1", "-1", "2", "00", "9223372036854775807", "9223372036854775808",
                "1e3", "0.5", "4294967295", "true", "null", "\"1\"", "{}" };
        const char *number = numbers[below(random, G_N_ELEMENTS(numbers))];
        GByteArray *content = entry->content;
        guint at, end;

        if (content->len == 0)
                return;
        for (at = below(random, content->len); at < content->len && !g_ascii_isdigit((char)content->data[at]); at++)
                ;
        for (end = at; end < content->len && g_ascii_isdigit((char)content->data[end]); end++)
                ;
        if (at < end) {
                g_autofree uint8_t *rest = g_memdup2(content->data + end, content->len - end);
                guint size = content->len - end;

                g_byte_array_set_size(content, at);
                g_byte_array_append(content, (const uint8_t *)number, (guint)strlen(number));
                g_byte_array_append(content, rest, size);
        }
}

static void mutate_path(TarEntry *entry, unsigned *random) {
        static const char *const paths[] = { ARCHIVE_README, ARCHIVE_MANIFEST, ARCHIVE_STATE, ARCHIVE_NOT_BACKED_UP,
                ARCHIVE_END, "licenses/0000009-a.lic", "licenses/anna/0000009-a.lcpl", "licenses/../9-a.bin",
                "licenses/1-.bin", "/etc/passwd", "licenses/000000000000000009-ä.bin" };
        g_autoptr(GByteArray) path = g_byte_array_new();
        g_autofree char *before = tar_entry_path(entry), *after = NULL;

        if (below(random, 4) == 0) {
                after = g_strnfill(PAX_PATH_MAX - 4 + below(random, 32), 'p');
                memcpy(after, "licenses/9999999-", 17);
                tar_entry_set_path(entry, after);
                return;
        }
        if (below(random, 2)) {
                tar_entry_set_path(entry, paths[below(random, G_N_ELEMENTS(paths))]);
                return;
        }
        g_byte_array_append(path, (const uint8_t *)before, (guint)strlen(before));
        mutate_bytes(path, 1100);
        after = g_strndup((const char *)path->data, path->len);
        tar_entry_set_path(entry, after);
}

static void mutate_entries(GPtrArray *entries, unsigned *random) {
        unsigned i = below(random, entries->len), k = below(random, entries->len);
        TarEntry *entry = entries->pdata[i];

        switch (below(random, 16)) {
        case 0:
                g_ptr_array_remove_index(entries, i);
                break;
        case 1:
                g_ptr_array_insert(entries, (int)k, tar_entry_copy(entry));
                break;
        case 2:
                entries->pdata[i] = entries->pdata[k];
                entries->pdata[k] = entry;
                break;
        case 3:
                mutate_path(entry, random);
                break;
        case 4:
                LLVMFuzzerMutate((uint8_t *)&entry->header, sizeof entry->header, sizeof entry->header);
                break;
        case 5:
        case 6:
        case 7:
        case 8:
                /* Those of documents, most of the time. */
                for (unsigned n = 0; n < 4 && entry->records->len == 0; n++)
                        entry = entries->pdata[below(random, entries->len)];
                mutate_records(entry, random);
                break;
        case 9:
        case 10:
        case 11:
                mutate_number(entry, random);
                break;
        default:
                mutate_bytes(entry->content, MIN(2 * (size_t)entry->content->len + 64, PIECE_MAX));
        }
}

/* An extended header with other records, or what are none; no checksum is over them. */
static void mutate_extended(GByteArray *tar, unsigned *random) {
        for (guint at = 0; at + 2 * PAX_BLOCK_SIZE < tar->len; at += PAX_BLOCK_SIZE) {
                const PaxHeader *header = (const PaxHeader *)(tar->data + at);

                if (header->type == PAX_TYPE_EXTENDED && memcmp(header->magic, PAX_MAGIC, sizeof header->magic) == 0 &&
                    below(random, 3) == 0) {
                        uint8_t *records = tar->data + at + PAX_BLOCK_SIZE;

                        if (below(random, 2))
                                (void)LLVMFuzzerMutate(records, PAX_BLOCK_SIZE, PAX_BLOCK_SIZE);
                        else /* as long as six digits can say, or so */
                                memcpy(records, below(random, 2) ? "999999 " : "038000 ", 7);
                        return;
                }
        }
}

size_t tar_mutate(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
        g_autoptr(GPtrArray) entries = NULL;
        g_autoptr(GByteArray) tar = NULL;
        unsigned random = seed | 1;

        if (below(&random, 10) == 0)
                return LLVMFuzzerMutate(data, size, max_size);
        if (n_remembered > 0 && below(&random, 2)) {
                gsize whole_size;
                const uint8_t *whole = g_bytes_get_data(remembered[below(&random, MIN(n_remembered, REMEMBERED))],
                        &whole_size);

                entries = tar_parse(whole, whole_size);
        } else
                entries = tar_parse(data, size);
        if (entries->len == 0)
                return LLVMFuzzerMutate(data, size, max_size);

        for (unsigned n = 1 + below(&random, 3); n > 0 && entries->len > 0; n--)
                mutate_entries(entries, &random);
        if (below(&random, 8) > 0)
                tar_repair(entries);
        tar = tar_write(entries);
        if (below(&random, 12) == 0)
                mutate_extended(tar, &random);
        /* One wrong byte, or a wrong end, in what is right. */
        if (below(&random, 16) == 0)
                tar->data[below(&random, tar->len)] ^= (uint8_t)(1U << below(&random, 8));
        if (below(&random, 16) == 0)
                g_byte_array_set_size(tar, below(&random, tar->len));
        if (tar->len > max_size)
                return LLVMFuzzerMutate(data, size, max_size);
        memcpy(data, tar->data, tar->len);
        return tar->len;
}
