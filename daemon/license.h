/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <glib.h>

#include "error.h"

/*
 * A license as the service knows it, its document apart. Limits here are those that D-Bus and a
 * restored backup share (design, section 2).
 */

#define LICENSE_STRING_MAX 1024U
#define LICENSE_COUNTERS_MAX 64U
#define LICENSE_RIGHT_MAX 64U
#define LICENSE_DIGEST_SIZE 32U
/* The most bytes that any service can be set to take for a document (DocumentBytes=): it bounds a reader's memory. */
#define LICENSE_DOCUMENT_MAX (16U * 1024U * 1024U)
/* A time that is not set. Times are Unix seconds, UTC, 0 to INT64_MAX. */
#define LICENSE_NO_TIME INT64_C(-1)
/* The document's own date is not known. Dates are Unix microseconds, and may lie before 1970. */
#define LICENSE_NO_DATE INT64_MIN

typedef struct Counter {
        char right[LICENSE_RIGHT_MAX + 1];
        uint64_t remaining; /* uses left, at most INT64_MAX */
} Counter;

/*
 * A seal is over all that is known of a license beside its document, which a digest covers: what a bit that flips in
 * the store would change unseen. It finds damage, not forgery. Its first byte is the version of what documents are
 * recognised by: what an older version knew of a license has to be looked at again.
 */
#define LICENSE_SEAL_SIZE 17U
/* Raise it with each change of what document_read() finds in a document, or of what the seal is over. */
#define LICENSE_SEAL_VERSION 1U
/* What the store keeps: the digest and, but for a license that is not sealed, the seal behind it. */
#define LICENSE_PROOF_SIZE (LICENSE_DIGEST_SIZE + LICENSE_SEAL_SIZE)

typedef enum LicenseSoundness {
        LICENSE_UNSEALED, /* not judged, or from a store that had no seals, or others */
        LICENSE_SOUND,    /* made of its document, or read from the store under a seal that is whole */
        LICENSE_ROTTEN,   /* the seal is of something else */
} LicenseSoundness;

typedef struct License {
        char *id;         /* NULL until known */
        char *key_id;     /* this and the next three: NULL where not set */
        char *title;
        char *issuer;
        char *media_type;
        int64_t not_before; /* LICENSE_NO_TIME where not set */
        int64_t not_after;
        bool allow_backup;
        GArray *counters; /* of Counter, sorted by right, each right once; never NULL */

        /* What the service adds. */
        const char *extension;               /* of the document in a backup: "lcpl", "lic", "bin"; static */
        int64_t document_date;               /* of the document itself; LICENSE_NO_DATE where not known */
        uint8_t digest[LICENSE_DIGEST_SIZE]; /* BLAKE2b-256 of the document */
        uint64_t size;                       /* of the document */
        uint64_t generation;                 /* counts the times the id was stored, from 1 */
        uint8_t seal[LICENSE_SEAL_SIZE];     /* that the store had for it */
        LicenseSoundness soundness;
} License;

/* Makes an empty license: nothing set, backup allowed. */
void license_init(License *license);
void license_clear(License *license);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(License, license_clear)

/*
 * Whether the bus takes a text of size bytes: valid UTF-8 without NUL and, beyond what GLib asks for,
 * without the code points that Unicode sets apart for no use (sd-bus refuses those).
 */
bool license_text_is_valid(const char *text, size_t size);
/* Whether a string is such a text, of 1 to LICENSE_STRING_MAX bytes. */
bool license_string_is_valid(const char *string);
/* Whether a string is the name of a right: [a-z0-9._-]{1,64} */
bool license_right_is_valid(const char *right);
/*
 * Turns what steers a terminal, or turns the order of the letters round, into '?', in place. For valid text that
 * people read, and that somebody else wrote.
 */
void license_clean_text(char *text);

/* The constant for an extension that is known, "bin" for any other text and for NULL. */
const char *license_extension(const char *extension);

/* Replaces a string of a license by a copy. Returns 0 or -ENOMEM. */
int license_set_string(char **field, const char *value);

/*
 * Sets a counter, or lowers one that is there to the smaller value. Returns 0 or
 * LICENSE_COUNTERS_FULL. The right is valid and the value at most INT64_MAX: callers check.
 */
enum { LICENSE_COUNTERS_FULL = 1 };
int license_limit_counter(License *license, const char *right, uint64_t remaining);
bool license_counters_equal(const License *a, const License *b);
const Counter *license_find_counter(const License *license, const char *right);
/* Whether a counter that was read from the store can be one: it may be damaged. */
bool license_counter_is_valid(const Counter *counter);

/*
 * Lays what the caller says over what the document says of itself: narrower wins, wider is
 * ERROR_INVALID_ARGUMENTS, as is text that contradicts the document's. On success license holds the
 * result. claimed is not changed. Returns 0 or a code, which may be ERROR_NO_MEMORY.
 */
int license_narrow(License *license, const License *claimed, Error *error);

/* What a license takes in memory beside its document, roughly; for limits on what waits. */
size_t license_memory_size(const License *license);

/* Computes the digest and notes the size of a document. */
void license_digest_document(License *license, const void *document, size_t size);
/* Whether two licenses are of the same document, by what they say of it. */
bool license_has_document(const License *license, const License *other);
/* Whether a document is the one that a license's digest and size are of. */
bool license_document_is_whole(const License *license, const void *document, size_t size);
/*
 * What the store is to keep as proof of a license, its counters included; returns its size. What is not sound has no
 * seal, for nobody has looked whether it is what it was; what is rotten has one that is not whole, and stays known to
 * be.
 */
size_t license_proof(const License *license, uint8_t ret[LICENSE_PROOF_SIZE]);
/* Takes over what the store has kept. The license is not judged yet. */
void license_take_proof(License *license, const void *proof, size_t size);
/* Holds a license, its counters included, against its seal, and sets soundness. */
void license_judge(License *license);
/* A BLAKE2b-256 in lower-case hex, with its NUL. */
void license_digest_to_hex(const uint8_t digest[LICENSE_DIGEST_SIZE], char ret[LICENSE_DIGEST_SIZE * 2 + 1]);
