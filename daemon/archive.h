/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "io.h"
#include "license.h"
#include "pax.h"

/*
 * Reading a backup, strictly and in one pass. The reader takes what our writer can have made and
 * nothing else: regular files with relative paths, no links, no sparse files, no global headers, no
 * path twice, END.json last and right, nothing after it but zeros. Whatever is not so is
 * ERROR_BACKUP_CORRUPT, and the message names the entry. Any answer of libarchive but OK is damage.
 *
 * A backup holds, in this order: README.txt, manifest.json, state.jsonl, the documents
 * licenses/<number>-<name>.<lcpl|lic|bin> (in a backup of all users: licenses/<user>/<number>-…), with
 * numbers from 1 that rise through the whole backup, NOT-BACKED-UP.txt where there is need, END.json.
 * So the reader sees, without remembering paths, that none comes twice. Whether a license id does,
 * only who keeps the ids can tell: the restore. manifest.json and END.json have the same counts.
 */

#define ARCHIVE_README "README.txt"
#define ARCHIVE_MANIFEST "manifest.json"
#define ARCHIVE_STATE "state.jsonl"
#define ARCHIVE_LICENSES "licenses/"
#define ARCHIVE_NOT_BACKED_UP "NOT-BACKED-UP.txt"
#define ARCHIVE_END "END.json"

/* Attributes are named user.licensevault.[a-z0-9._-]+. A document has these two at least. */
#define ARCHIVE_ATTRIBUTE_PREFIX "user.licensevault."
#define ARCHIVE_ATTRIBUTE_ID ARCHIVE_ATTRIBUTE_PREFIX "id"
#define ARCHIVE_ATTRIBUTE_DIGEST ARCHIVE_ATTRIBUTE_PREFIX "blake2b"

/* The most that README.txt, manifest.json and END.json may have, and a line of a streamed entry. */
#define ARCHIVE_CONTENT_MAX (1024U * 1024U)
#define ARCHIVE_LINE_MAX (64U * 1024U)
/* The most documents, so that an endless stream ends: ten users with all that a user may have. */
#define ARCHIVE_DOCUMENTS_MAX 10000000U

typedef struct ArchiveReader ArchiveReader;

/* Who wants to know that a descriptor is alive. On the reader's thread. */
typedef struct ArchiveWatch {
        void (*moved)(void *userdata);               /* something came; may be NULL */
        void (*waits)(bool waiting, void *userdata); /* nothing comes for more than a moment; it came; may be NULL */
        void *userdata;
} ArchiveWatch;

typedef struct ArchiveEntry {
        const char *path;       /* these live until the next call of archive_reader_next() */
        const uint8_t *content; /* NULL for an entry that is streamed; see archive_reader_next() */
        uint64_t size;
        GPtrArray *attributes;  /* of char *: name, value, name, value …, sorted by name */
} ArchiveEntry;

typedef struct ArchiveCounts {
        uint64_t licenses;   /* documents under licenses/ */
        uint64_t restricted; /* as END.json says */
        uint64_t bytes;      /* read from the descriptor */
} ArchiveCounts;

/*
 * document_max bounds one document, in bytes. state.jsonl and NOT-BACKED-UP.txt are streamed, of any
 * size. fd stays the caller's and is read from where it stands. It may be a stranger's: cancel (may be
 * NULL; outlives the reader) ends waits, and so does stall_msec without a byte (-1: never). Waits for
 * the first bytes. Returns 0 or a code, as archive_reader_next().
 */
int archive_reader_new(int fd, uint64_t document_max, int stall_msec, const Cancel *cancel,
        ArchiveReader **ret, Error *error);
ArchiveReader *archive_reader_free(ArchiveReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ArchiveReader, archive_reader_free)

/* From now on the watch is told of what the descriptor does. */
void archive_reader_watch(ArchiveReader *reader, const ArchiveWatch *watch);

/*
 * The next entry, END.json included, checked against its own digest attribute where it has one; its
 * content is in memory (never NULL, also where it is empty), or, for state.jsonl and
 * NOT-BACKED-UP.txt, still to be read with archive_reader_line() (what is left unread is skipped, and
 * digested all the same). Sets *ret to NULL at the end, and only when END.json was there and right:
 * what was read is proved then, and not before. Returns 0 or a code: ERROR_BACKUP_CORRUPT,
 * ERROR_LIMIT_EXCEEDED (a document is larger than document_max), ERROR_MEDIUM, ERROR_CANCELED,
 * ERROR_NO_MEMORY. After a code only archive_reader_free() and archive_reader_counts() are allowed.
 */
int archive_reader_next(ArchiveReader *reader, const ArchiveEntry **ret, Error *error);

/*
 * The next line of a streamed entry, without its LF, as a string that lives until the next call; NULL
 * at its end. A line is at most ARCHIVE_LINE_MAX bytes, none of them NUL.
 */
int archive_reader_line(ArchiveReader *reader, const char **ret, Error *error);

/* What was counted so far; complete after the end. */
void archive_reader_counts(const ArchiveReader *reader, ArchiveCounts *ret);

/* The value of an attribute by name, NULL where there is none. */
const char *archive_entry_attribute(const ArchiveEntry *entry, const char *name);
