/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "backup-attributes.h"

#include <stdio.h>

#define PREFIX ARCHIVE_ATTRIBUTE_PREFIX

static void add_text(BackupAttributes *attributes, const char *name, const char *value) {
        if (value)
                attributes->list[attributes->n++] = (PaxAttribute) { name, value };
}

static void add_number(BackupAttributes *attributes, const char *name, int64_t value) {
        add_text(attributes, name, number_to_text(value, attributes->numbers[attributes->n_numbers++]));
}

void backup_attributes(const License *license, const char *owner, BackupAttributes *ret) {
        ret->n = ret->n_numbers = 0;
        license_digest_to_hex(license->digest, ret->hex);

        add_text(ret, PREFIX "id", license->id);
        add_text(ret, PREFIX "key-id", license->key_id);
        add_text(ret, PREFIX "title", license->title);
        add_text(ret, PREFIX "issuer", license->issuer);
        add_text(ret, PREFIX "media-type", license->media_type);
        add_text(ret, PREFIX "blake2b", ret->hex);
        add_text(ret, PREFIX "owner", owner);
        add_number(ret, PREFIX "generation", (int64_t)license->generation);
        if (license->not_before != LICENSE_NO_TIME)
                add_number(ret, PREFIX "not-before", license->not_before);
        if (license->not_after != LICENSE_NO_TIME)
                add_number(ret, PREFIX "not-after", license->not_after);
        if (license->document_date != LICENSE_NO_DATE)
                add_number(ret, PREFIX "date", license->document_date);
        for (unsigned i = 0; i < license->counters->len; i++) {
                const Counter *counter = &g_array_index(license->counters, Counter, i);

                snprintf(ret->names[i], sizeof ret->names[i], PREFIX "counter.%s", counter->right);
                add_number(ret, ret->names[i], (int64_t)counter->remaining);
        }
}
