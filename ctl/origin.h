/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "backup-read.h"
#include "output.h"

/* Where backups are from: so that one takes the place of its like alone. */

/* Reads it from the beginning of a file. Returns whether it is a backup. */
bool origin_read(int fd, BackupOrigin *ret);

/* Whether both are of the same users of the same store. */
bool origin_is_same(const BackupOrigin *a, const BackupOrigin *b);

/*
 * Refuses (STATUS_EXISTS) to replace a file with the new backup in output, where that would take away what the new one
 * cannot have: the file is a backup of other users or of another store, or the new one has no license.
 */
Status origin_check_replaced(Ctl *ctl, const Output *output);
