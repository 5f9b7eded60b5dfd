/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <glib.h>
#include <sodium.h>

#include "proved-file.h"

/*
 * A small writer of pax archives (POSIX.1-2001) for the one fixed shape of a backup: regular files of
 * mode 0600 that belong to root (which is to say, to whoever extracts them), some with extended
 * attributes. It writes to a file of ours from where that stands to its end, buffered, and keeps the
 * digest that END.json carries.
 *
 * It writes nothing that the reader (archive.h) refuses for its form; what an entry says is the
 * caller's. After a failed call only pax_writer_free() is allowed. All functions return 0 or a
 * negative errno.
 */

/* Limits of one entry. No content comes near 8 GiB: documents are bounded, state.jsonl is counted. */
#define PAX_PATH_MAX 1024U
#define PAX_ATTRIBUTES_MAX 128U
#define PAX_ATTRIBUTES_SIZE_MAX (32U * 1024U) /* names and values together */
#define PAX_CONTENT_MAX ((UINT64_C(8) << 30) - 1)

typedef struct PaxWriter PaxWriter;

typedef struct PaxAttribute {
        const char *name;  /* without "SCHILY.xattr."; as user.licensevault.id */
        const char *value; /* UTF-8 text */
} PaxAttribute;

/* mtime, in Unix seconds, is that of all entries. fd stays the caller's, and is seekable. */
int pax_writer_new(int fd, int64_t mtime, PaxWriter **ret);
/* The same to a file that is proved; pax_writer_finish() leaves proved_file_finish() to who calls. */
int pax_writer_new_proved(ProvedFile *file, int64_t mtime, PaxWriter **ret);
PaxWriter *pax_writer_free(PaxWriter *writer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PaxWriter, pax_writer_free)

/*
 * A whole entry at once. Attributes are written, and digested, sorted by name. -EFBIG, -E2BIG or
 * -ENAMETOOLONG over a limit, -EINVAL for an attribute given twice.
 */
int pax_writer_add(PaxWriter *writer, const char *path, const void *content, size_t size,
        const PaxAttribute *attributes, size_t n_attributes);

/*
 * The same for a document whose BLAKE2b-256 is known already: what is written is held against it by the file, which
 * has to be one that is proved.
 */
int pax_writer_add_known(PaxWriter *writer, const char *path, const void *content, size_t size,
        const uint8_t content_digest[crypto_generichash_BYTES], const PaxAttribute *attributes, size_t n_attributes);

/*
 * An entry whose size shows only at its end, in pieces: its header is completed last. No attributes.
 * path stays the caller's, until pax_writer_end().
 */
int pax_writer_begin(PaxWriter *writer, const char *path);
int pax_writer_append(PaxWriter *writer, const void *content, size_t size);
int pax_writer_end(PaxWriter *writer);

/*
 * The digest over all entries so far, in order (design, section 4): for each "path LF size LF
 * hex(BLAKE2b-256 of its content) LF", then its attributes sorted by name as "name=value LF".
 */
void pax_writer_digest(const PaxWriter *writer, uint8_t ret[crypto_generichash_BYTES]);

/* Bytes of the archive so far, flushed or not. */
uint64_t pax_writer_size(const PaxWriter *writer);

/* Writes the end of the archive and all that was buffered. Does not sync. */
int pax_writer_finish(PaxWriter *writer);
