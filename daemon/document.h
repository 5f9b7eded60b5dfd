/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "license.h"

/*
 * Recognisers: what a license document says of itself. A new format is one more entry in the table
 * of document.c.
 */

#define DOCUMENT_MEDIA_TYPE_LCP "application/vnd.readium.lcp.license.v1.0+json"

/*
 * Reads a document and fills license, which is freshly initialised, with what it says: for a Readium
 * LCP license (of 2015 or of today) id, issuer (its provider), title (of its publication), media
 * type, not_before and not_after (its rights start and end, to the narrower second; 1970 for what is
 * before), the counters "print" and "copy" (true is unlimited, false is 0), its own date (updated, else
 * issued) and the extension. A title that is too long is cut. A document that no recogniser claims
 * leaves all that alone but the extension: "lic" for text, "bin" for the rest.
 *
 * media_type is what the caller says the document is, or NULL. A document that calls itself LCP (by
 * that type, or by the profile in its text) and is broken, or lacks what LCP asks for (id, provider,
 * issued, encryption, links, signature), is ERROR_INVALID_LICENSE with the reason, which quotes nothing
 * of the document. The signature's value is not checked: that needs the provider's certificate, and is
 * the reader's task. Digest and size are set in every case. The document need not end in NUL and may
 * hold anything. Returns 0 or a code, which may be ERROR_NO_MEMORY.
 */
int document_recognise(const void *document, size_t size, const char *media_type, License *license,
        Error *error);

/* The same, for a document whose digest and size are known: they are not set. */
int document_read(const void *document, size_t size, const char *media_type, License *license, Error *error);

/*
 * Whether a recogniser takes the document for its own, at the first look. Of one that none does, nothing is known but
 * the extension.
 */
bool document_is_claimed(const void *document, size_t size, const char *media_type);
