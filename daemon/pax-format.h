/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "pax.h"

/*
 * What a backup's tar looks like byte by byte (POSIX.1-2001, pax interchange format), for those that
 * make it (pax.c) and those that guard it (archive-frame.c).
 */

#define PAX_BLOCK_SIZE 512U
/* Archives are filled up to this, as every tar does it. */
#define PAX_RECORD_SIZE (20U * PAX_BLOCK_SIZE)

#define PAX_TYPE_FILE '0'
#define PAX_TYPE_EXTENDED 'x'
#define PAX_MAGIC "ustar\00000" /* with the version behind it */
#define PAX_XATTR_PREFIX "SCHILY.xattr."

typedef struct PaxHeader {
        char name[100];
        char mode[8];
        char uid[8];
        char gid[8];
        char size[12];
        char mtime[12];
        char checksum[8];
        char type;
        char linkname[100];
        char magic[6];
        char version[2];
        char uname[32];
        char gname[32];
        char devmajor[8];
        char devminor[8];
        char prefix[155];
        char unused[12];
} PaxHeader;

G_STATIC_ASSERT(sizeof(PaxHeader) == PAX_BLOCK_SIZE);

/* What the eleven octal digits of a size or a time can hold. */
#define PAX_OCTAL_MAX UINT64_C(077777777777)

/* All records of one entry: attributes, what each costs beyond its text, and the path. */
#define PAX_RECORDS_MAX (PAX_ATTRIBUTES_SIZE_MAX + PAX_ATTRIBUTES_MAX * 32U + PAX_PATH_MAX + 32U)

/* How many zeros come after size bytes. */
static inline uint64_t pax_padding(uint64_t size) {
        return -size % PAX_BLOCK_SIZE;
}

/* The checksum field's value as "%06o NUL space": the sum of all bytes, with that field as spaces. */
static inline void pax_header_checksum(const PaxHeader *header, char ret[8]) {
        const unsigned char *p = (const unsigned char *)header;
        unsigned sum = 8 * ' ';

        for (unsigned i = 0; i < PAX_BLOCK_SIZE; i++)
                sum += p[i];
        for (unsigned i = 0; i < sizeof header->checksum; i++)
                sum -= (unsigned char)header->checksum[i];

        ret[7] = ' ';
        ret[6] = '\0';
        for (int i = 5; i >= 0; i--, sum >>= 3)
                ret[i] = (char)('0' + (sum & 7));
}

/*
 * END.json's digest, over two kinds of lines; see pax_writer_digest(). They are gathered first: to digest a license's
 * in pieces takes half as long again as their bytes do.
 */
typedef struct PaxDigest {
        crypto_generichash_state state;
        size_t fill;
        char lines[1024]; /* that are not in state yet */
} PaxDigest;

void pax_digest_init(PaxDigest *digest);
void pax_digest_entry(PaxDigest *digest, const char *path, uint64_t size,
        const uint8_t content_digest[crypto_generichash_BYTES]);
void pax_digest_attribute(PaxDigest *digest, const char *name, const char *value);
/* Of the lines so far; more may follow. */
void pax_digest_get(const PaxDigest *digest, uint8_t ret[crypto_generichash_BYTES]);
