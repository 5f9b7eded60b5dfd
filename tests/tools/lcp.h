/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define LCP_ID_SIZE 37 /* a UUID and its NUL */

/*
 * Makes a Readium LCP license document of today's shape: all that its format asks for, with keys and a
 * signature of the right lengths that prove nothing. The same seed and size give the same document,
 * other seeds other ids. It has size bytes, filled up in its certificate, or the 2.5 kB that it needs at
 * least; 0 is 3 to 4 kB. Returns a string for free(); ret_size and ret_id may be NULL.
 */
char *lcp_make(uint64_t seed, size_t size, size_t *ret_size, char ret_id[LCP_ID_SIZE]);
