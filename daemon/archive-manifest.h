/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "archive.h"
#include "store.h"

/* What the two small JSON files of a backup say that its reader must understand. */

#define ARCHIVE_FORMAT 1

typedef struct ArchiveClaim {
        uint64_t licenses;
        uint64_t restricted;
        char digest[LICENSE_DIGEST_SIZE * 2 + 1]; /* only in END.json */
} ArchiveClaim;

/*
 * Reads manifest.json as far as it says whether we can read the rest, and what to expect; all else in
 * it is for those who restore. Returns 0 or a code.
 */
int archive_manifest_parse(const void *content, size_t size, ArchiveClaim *ret, Error *error);

/* Of which store a backup is, and how much that knew. */
typedef struct ArchiveStore {
        char store[STORE_ID_SIZE];   /* "" where it does not say */
        char machine[STORE_ID_SIZE]; /* the same; what is longer than an id is cut off */
        StoreMemory memory;          /* see BackupOrigin */
        char *epochs;                /* the same */
} ArchiveStore;

void archive_store_clear(ArchiveStore *store);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ArchiveStore, archive_store_clear)

/*
 * The name of the user whose licenses a backup holds, by its manifest; *ret is NULL where it holds those
 * of all users (g_free). *ret_store, which was empty, is to be cleared in both cases. Returns 0 or a code.
 */
int archive_manifest_owner(const void *content, size_t size, char **ret, ArchiveStore *ret_store, Error *error);

/*
 * Reads a backup as far as its manifest, which is *ret as long as the reader is not used; NULL where there is none.
 * Returns 0 or a code.
 */
int archive_manifest_find(int fd, ArchiveReader **ret_reader, const ArchiveEntry **ret, Error *error);

typedef struct BackupOrigin BackupOrigin;

/*
 * Reads all of manifest.json into *ret, which was empty; keys that we do not know are left to those who do.
 * Texts are clean (license_clean_text()) but for the user's name, which may have to be compared. Returns 0 or a
 * code; *ret is to be cleared in both cases.
 */
int archive_manifest_origin(const void *content, size_t size, BackupOrigin *ret, Error *error);

/* Reads END.json. Returns 0 or a code. */
int archive_end_parse(const void *content, size_t size, ArchiveClaim *ret, Error *error);
