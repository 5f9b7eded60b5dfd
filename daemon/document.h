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
 * type, not_before and not_after (its rights start and end), the counters "print" and "copy", its own
 * date (updated, else issued) and the extension. A document that no recogniser claims leaves all
 * that alone but the extension: "lic" for text, "bin" for the rest.
 *
 * media_type is what the caller says the document is, or NULL. A document that calls itself LCP (by
 * that type, or by its text) and is broken is ERROR_INVALID_LICENSE with the reason. The signature is
 * not checked: that needs the provider's certificate, and is the reader's task. Digest and size are
 * set in every case. The document need not end in NUL and may hold anything. Returns 0 or a code,
 * which may be ERROR_NO_MEMORY.
 */
int document_recognise(const void *document, size_t size, const char *media_type, License *license,
        Error *error);
