/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "pax-format.h"

/*
 * A backup's tar, taken apart, changed, and put together again: a fuzzer that only turns bits would never get past
 * the first checksum. What is not said to be made right stays as wrong as it is.
 */

typedef struct TarRecord {
        GByteArray *key, *value;
} TarRecord;

typedef struct TarEntry {
        PaxHeader header;    /* size and checksum are set when it is written */
        GPtrArray *records;  /* of TarRecord *, in their order: of the extended header before it */
        GByteArray *content;
} TarEntry;

/* As many entries as can be made out (GPtrArray of TarEntry *, freed by it). */
GPtrArray *tar_parse(const uint8_t *data, size_t size);
/* Headers, lengths and checksums are right, and two blocks of zeros are the end. */
GByteArray *tar_write(const GPtrArray *entries);

/* Makes the digests of documents, the counts of manifest.json, and END.json right. */
void tar_repair(GPtrArray *entries);

/* "" where it has none; of a path record, or of the header (g_free). */
char *tar_entry_path(const TarEntry *entry);
void tar_entry_set_path(TarEntry *entry, const char *path);
TarEntry *tar_entry_copy(const TarEntry *entry);
void tar_entry_set_content(TarEntry *entry, const void *data, size_t size);
/* The value of user.licensevault.<name>, which stays the entry's; NULL where it has none. */
GByteArray *tar_entry_attribute(const TarEntry *entry, const char *name);
/* value NULL removes it. The order of records is that of our writer. */
void tar_entry_set_attribute(TarEntry *entry, const char *name, const char *value);

/* For LLVMFuzzerCustomMutator(): most of what it makes is a tar with right checksums and digests. */
/*
 * Most of what is new to libFuzzer is broken early, and what is made of it breaks there, too: a target tells which of
 * its inputs were whole, and some are made of those.
 */
void tar_remember(const uint8_t *data, size_t size);
size_t tar_mutate(uint8_t *data, size_t size, size_t max_size, unsigned seed);
