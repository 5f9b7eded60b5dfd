/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tar-model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "archive.h"
#include "json-memory.h"

/* Of nothing, too, there is an address: memcmp() wants one. */
static GByteArray *bytes_new(const void *data, size_t size) {
        return g_byte_array_append(g_byte_array_sized_new((guint)size + 1), data, (guint)size);
}

static TarRecord *record_new(const void *key, size_t key_size, const void *value, size_t value_size) {
        TarRecord *record = g_new0(TarRecord, 1);

        record->key = bytes_new(key, key_size);
        record->value = bytes_new(value, value_size);
        return record;
}

static void record_free(void *data) {
        TarRecord *record = data;

        g_byte_array_unref(record->key);
        g_byte_array_unref(record->value);
        g_free(record);
}

static TarEntry *entry_new(const PaxHeader *header) {
        TarEntry *entry = g_new0(TarEntry, 1);

        entry->header = *header;
        entry->records = g_ptr_array_new_with_free_func(record_free);
        entry->content = g_byte_array_new();
        return entry;
}

static void entry_free(void *data) {
        TarEntry *entry = data;

        g_ptr_array_unref(entry->records);
        g_byte_array_unref(entry->content);
        g_free(entry);
}

TarEntry *tar_entry_copy(const TarEntry *entry) {
        TarEntry *copy = entry_new(&entry->header);

        for (unsigned i = 0; i < entry->records->len; i++) {
                const TarRecord *record = entry->records->pdata[i];

                g_ptr_array_add(copy->records, record_new(record->key->data, record->key->len, record->value->data,
                                                       record->value->len));
        }
        tar_entry_set_content(copy, entry->content->data, entry->content->len);
        return copy;
}

void tar_entry_set_content(TarEntry *entry, const void *data, size_t size) {
        GByteArray *content = bytes_new(data, size);

        g_byte_array_unref(entry->content);
        entry->content = content;
}

static void parse_records(GPtrArray *records, const uint8_t *data, size_t size) {
        while (size > 0) {
                const uint8_t *space, *equals;
                size_t length = 0, digits = 0;

                while (digits < MIN(size, 6U) && g_ascii_isdigit((char)data[digits]))
                        length = length * 10 + (size_t)(data[digits++] - '0');
                space = data + digits;
                if (digits == 0 || digits >= size || length > size || length < digits + 2)
                        return;
                equals = memchr(space + 1, '=', length - digits - 1);
                if (!equals || equals == data + length - 1)
                        return;
                g_ptr_array_add(records, record_new(space + 1, (size_t)(equals - space - 1), equals + 1,
                                                 (size_t)(data + length - 1 - (equals + 1))));
                data += length;
                size -= length;
        }
}

GPtrArray *tar_parse(const uint8_t *data, size_t size) {
        GPtrArray *entries = g_ptr_array_new_with_free_func(entry_free), *records = NULL;

        for (size_t at = 0; size - at >= PAX_BLOCK_SIZE;) {
                const PaxHeader *header = (const PaxHeader *)(data + at);
                char octal[sizeof header->size + 1] = "";
                size_t content;

                if (header->type == 0)
                        break;
                memcpy(octal, header->size, sizeof header->size);
                at += PAX_BLOCK_SIZE;
                content = MIN((size_t)strtoull(octal, NULL, 8), size - at);
                if (header->type == PAX_TYPE_EXTENDED) {
                        g_clear_pointer(&records, g_ptr_array_unref);
                        records = g_ptr_array_new_with_free_func(record_free);
                        parse_records(records, data + at, content);
                } else {
                        TarEntry *entry = entry_new(header);

                        if (records) {
                                g_ptr_array_unref(entry->records);
                                entry->records = g_steal_pointer(&records);
                        }
                        g_byte_array_append(entry->content, data + at, (guint)content);
                        g_ptr_array_add(entries, entry);
                }
                at += MIN(content + (size_t)pax_padding(content), size - at);
        }
        g_clear_pointer(&records, g_ptr_array_unref);
        return entries;
}

static void write_block(GByteArray *to, PaxHeader header, char type, const void *content, size_t size) {
        static const uint8_t zeros[PAX_BLOCK_SIZE];
        char number[sizeof header.size];

        snprintf(number, sizeof number, "%011zo", size);
        memcpy(header.size, number, sizeof number);
        header.type = type;
        pax_header_checksum(&header, header.checksum);
        g_byte_array_append(to, (const uint8_t *)&header, sizeof header);
        g_byte_array_append(to, content, (guint)size);
        g_byte_array_append(to, zeros, (guint)pax_padding(size));
}

static void write_record(GByteArray *to, const TarRecord *record) {
        size_t rest = record->key->len + record->value->len + 3, length = rest, before;
        char number[24];

        do {
                before = length;
                length = rest + (size_t)snprintf(number, sizeof number, "%zu", length);
        } while (length != before);
        g_byte_array_append(to, (const uint8_t *)number, (guint)strlen(number));
        g_byte_array_append(to, (const uint8_t *)" ", 1);
        g_byte_array_append(to, record->key->data, record->key->len);
        g_byte_array_append(to, (const uint8_t *)"=", 1);
        g_byte_array_append(to, record->value->data, record->value->len);
        g_byte_array_append(to, (const uint8_t *)"\n", 1);
}

GByteArray *tar_write(const GPtrArray *entries) {
        static const uint8_t end[2 * PAX_BLOCK_SIZE];
        GByteArray *tar = g_byte_array_new();

        for (unsigned i = 0; i < entries->len; i++) {
                const TarEntry *entry = entries->pdata[i];
                g_autoptr(GByteArray) records = g_byte_array_new();

                for (unsigned k = 0; k < entry->records->len; k++)
                        write_record(records, entry->records->pdata[k]);
                if (records->len > 0)
                        write_block(tar, entry->header, PAX_TYPE_EXTENDED, records->data, records->len);
                write_block(tar, entry->header, entry->header.type, entry->content->data, entry->content->len);
        }
        g_byte_array_append(tar, end, sizeof end);
        return tar;
}

static TarRecord *find_record(const TarEntry *entry, const char *key) {
        for (unsigned i = 0; i < entry->records->len; i++) {
                TarRecord *record = entry->records->pdata[i];

                if (record->key->len == strlen(key) && memcmp(record->key->data, key, record->key->len) == 0)
                        return record;
        }
        return NULL;
}

char *tar_entry_path(const TarEntry *entry) {
        const TarRecord *record = find_record(entry, "path");

        if (record)
                return g_strndup((const char *)record->value->data, record->value->len);
        return g_strndup(entry->header.name, sizeof entry->header.name);
}

void tar_entry_set_path(TarEntry *entry, const char *path) {
        TarRecord *record = find_record(entry, "path");

        if (record)
                g_ptr_array_remove(entry->records, record);
        memset(entry->header.name, 0, sizeof entry->header.name);
        memcpy(entry->header.name, path, MIN(strlen(path), sizeof entry->header.name));
        if (strlen(path) > sizeof entry->header.name)
                g_ptr_array_add(entry->records, record_new("path", 4, path, strlen(path)));
}

#define OURS PAX_XATTR_PREFIX ARCHIVE_ATTRIBUTE_PREFIX

GByteArray *tar_entry_attribute(const TarEntry *entry, const char *name) {
        g_autofree char *key = g_strconcat(OURS, name, NULL);
        const TarRecord *record = find_record(entry, key);

        return record ? record->value : NULL;
}

static int compare_keys(gconstpointer a, gconstpointer b) {
        const TarRecord *one = *(TarRecord *const *)a, *other = *(TarRecord *const *)b;
        int c = memcmp(one->key->data, other->key->data, MIN(one->key->len, other->key->len));

        return c != 0 ? c : one->key->len < other->key->len ? -1 : one->key->len > other->key->len;
}

void tar_entry_set_attribute(TarEntry *entry, const char *name, const char *value) {
        g_autofree char *key = g_strconcat(OURS, name, NULL);
        TarRecord *record = find_record(entry, key);

        if (record)
                g_ptr_array_remove(entry->records, record);
        if (value)
                g_ptr_array_add(entry->records, record_new(key, strlen(key), value, strlen(value)));
        g_ptr_array_sort(entry->records, compare_keys);
}

static void digest_hex(const GByteArray *content, char ret[LICENSE_DIGEST_SIZE * 2 + 1]) {
        uint8_t digest[LICENSE_DIGEST_SIZE];

        crypto_generichash(digest, sizeof digest, content->data, content->len, NULL, 0);
        license_digest_to_hex(digest, ret);
}

/* As END.json has it: written again here, and not taken from pax.c. */
static void digest_entry(crypto_generichash_state *state, const TarEntry *entry, const char *path) {
        g_autoptr(GPtrArray) sorted = g_ptr_array_new();
        g_autoptr(GString) text = g_string_new(NULL);
        char hex[LICENSE_DIGEST_SIZE * 2 + 1];

        digest_hex(entry->content, hex);
        g_string_printf(text, "%s\n%u\n%s\n", path, entry->content->len, hex);
        for (unsigned i = 0; i < entry->records->len; i++)
                g_ptr_array_add(sorted, entry->records->pdata[i]);
        g_ptr_array_sort(sorted, compare_keys);
        for (unsigned i = 0; i < sorted->len; i++) {
                const TarRecord *record = sorted->pdata[i];

                if (record->key->len <= strlen(PAX_XATTR_PREFIX) ||
                    memcmp(record->key->data, PAX_XATTR_PREFIX, strlen(PAX_XATTR_PREFIX)) != 0)
                        continue;
                g_string_append_len(text, (const char *)record->key->data + strlen(PAX_XATTR_PREFIX),
                        record->key->len - strlen(PAX_XATTR_PREFIX));
                g_string_append_c(text, '=');
                g_string_append_len(text, (const char *)record->value->data, record->value->len);
                g_string_append_c(text, '\n');
        }
        crypto_generichash_update(state, (const uint8_t *)text->str, text->len);
}

/* Gives manifest.json the count, where it is JSON at all; *ret_restricted is what it says. */
static void repair_manifest(TarEntry *entry, unsigned licenses, json_int_t *ret_restricted) {
        json_t *root = json_loadb((const char *)entry->content->data, entry->content->len, 0, NULL);

        *ret_restricted = json_integer_value(json_object_get(root, "restricted"));
        if (json_is_object(root) && json_integer_value(json_object_get(root, "licenses")) != licenses) {
                char *text;

                json_object_set_new(root, "licenses", json_integer(licenses));
                text = json_dumps(root, JSON_COMPACT);
                tar_entry_set_content(entry, text, strlen(text));
                json_text_free(text);
        }
        json_decref(root);
}

void tar_repair(GPtrArray *entries) {
        crypto_generichash_state state;
        json_int_t restricted = 0;
        unsigned licenses = 0;
        bool ended = false;

        for (unsigned i = 0; i < entries->len; i++) {
                g_autofree char *path = tar_entry_path(entries->pdata[i]);

                licenses += g_str_has_prefix(path, ARCHIVE_LICENSES);
        }
        crypto_generichash_init(&state, NULL, 0, LICENSE_DIGEST_SIZE);
        for (unsigned i = 0; i < entries->len && !ended; i++) {
                TarEntry *entry = entries->pdata[i];
                g_autofree char *path = tar_entry_path(entry);
                char hex[LICENSE_DIGEST_SIZE * 2 + 1];

                if (g_str_has_prefix(path, ARCHIVE_LICENSES)) {
                        digest_hex(entry->content, hex);
                        tar_entry_set_attribute(entry, "blake2b", hex);
                } else if (strcmp(path, ARCHIVE_MANIFEST) == 0)
                        repair_manifest(entry, licenses, &restricted);
                else if (strcmp(path, ARCHIVE_END) == 0) {
                        uint8_t digest[LICENSE_DIGEST_SIZE];
                        g_autofree char *text = NULL;

                        crypto_generichash_final(&state, digest, sizeof digest);
                        license_digest_to_hex(digest, hex);
                        text = g_strdup_printf("{\"format\":1,\"licenses\":%u,\"restricted\":%" JSON_INTEGER_FORMAT
                                               ",\"blake2b\":\"%s\"}\n", licenses, restricted, hex);
                        tar_entry_set_content(entry, text, strlen(text));
                        ended = true;
                }
                if (!ended)
                        digest_entry(&state, entry, path);
        }
}
