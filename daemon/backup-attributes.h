/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "archive.h"
#include "license.h"
#include "number.h"
#include "pax.h"

/* What a backup says of a license beside its document: extended attributes user.licensevault.*. */

/* Five strings, the counters, and what the service adds. */
#define BACKUP_ATTRIBUTES_MAX (12 + LICENSE_COUNTERS_MAX)

typedef struct BackupAttributes {
        PaxAttribute list[BACKUP_ATTRIBUTES_MAX]; /* n of them */
        size_t n;
        /* What their texts are in, but for those that are the license's. */
        char numbers[8 + LICENSE_COUNTERS_MAX][NUMBER_SIZE];
        size_t n_numbers;
        char names[LICENSE_COUNTERS_MAX][sizeof(ARCHIVE_ATTRIBUTE_PREFIX "counter.") + LICENSE_RIGHT_MAX];
        char hex[LICENSE_DIGEST_SIZE * 2 + 1];
} BackupAttributes;

/* owner, which may be NULL, and the license's texts are borrowed. */
void backup_attributes(const License *license, const char *owner, BackupAttributes *ret);
