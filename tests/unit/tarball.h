/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "archive.h"

/*
 * Backups for tests: whole ones through the pax writer, so that nothing is wrong with them but what the
 * test says, and tars of any kind, byte by byte.
 */

typedef struct TarballPart {
        const char *path;
        const char *content;            /* a string; NULL is empty */
        const PaxAttribute *attributes; /* up to one without a name; NULL: what a document must have */
        bool streamed;
} TarballPart;

#define TARBALL_README { ARCHIVE_README, "Read me.\n" }
#define TARBALL_MANIFEST(licenses, restricted) \
        { ARCHIVE_MANIFEST, "{\"format\":1,\"licenses\":" #licenses ",\"restricted\":" #restricted "}" }
#define TARBALL_STATE { ARCHIVE_STATE, "{\"id\":\"a\"}\n{\"id\":\"b\"}\n", .streamed = true }
#define TARBALL_DOCUMENT_1 { "licenses/0000001-a.lcpl", "{}" }
#define TARBALL_DOCUMENT_2 { "licenses/0000002-b.bin", "b" }
#define TARBALL_LEFT_OUT { ARCHIVE_NOT_BACKED_UP, "x  Title\n", .streamed = true }

/* The END.json for so many documents; %s is for the digest. */
#define TARBALL_JSON_END(licenses, restricted) \
        "{\"format\":1,\"licenses\":" #licenses ",\"restricted\":" #restricted ",\"blake2b\":\"%s\"}"

/* All of the parts above: a whole backup but for its END.json. */
#define TARBALL_N_WHOLE 6U
extern const TarballPart tarball_whole[TARBALL_N_WHOLE];
#define TARBALL_WHOLE_END TARBALL_JSON_END(2, 1)

/* An anonymous file. */
int tarball_new_file(void);

/* A file with the parts and, where end is not NULL, an END.json of that text, with %s replaced. */
int tarball_make_file(const TarballPart *parts, size_t n_parts, const char *end);
int tarball_make_whole(void);

/* All of a file; it then stands at its start. */
GByteArray *tarball_read_file(int fd);
/* Makes the file hold these bytes, and stand at its start. */
void tarball_write_file(int fd, const void *data, size_t size);

/* Appends a header, a content and its padding. */
void tarball_add(GByteArray *tar, char type, const char *name, const char *linkname, const void *content,
        size_t size);
/* Appends an extended header with one record, whose length, of two digits, is put before it. */
void tarball_add_record(GByteArray *tar, const char *record);
void tarball_add_zeros(GByteArray *tar, size_t size);
/* Makes the checksum of the header at that place right again. */
void tarball_seal(GByteArray *tar, size_t at);

/*
 * Reads all of a backup, and proves its bytes. progress, which may be NULL, counts documents. The rest, and
 * what is returned, are as of archive_reader_new() and archive_reader_next().
 */
int tarball_prove(int fd, uint64_t document_max, int stall_msec, const Cancel *cancel,
        void (*progress)(uint64_t licenses, void *userdata), void *userdata, ArchiveCounts *ret, Error *error);

/* tarball_prove() with a limit of so many bytes a document. */
#define TARBALL_DOCUMENT_MAX 4096U
int tarball_verify(int fd, ArchiveCounts *ret, Error *error);

/* Reads fd as a backup, and closes it. A refusal's message has both where and what in it. */
void tarball_assert_good(int fd, uint64_t licenses, uint64_t restricted);
void tarball_assert_refused(int fd, ErrorCode code, const char *where, const char *what);
