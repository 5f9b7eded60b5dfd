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
 * Whether the store of one backup knew of what that of the other did not, both being of the same users of the same
 * store: by how much it knew, for a store forgets none, or by the epochs. Then the one is of a later time, and the
 * other of an old copy of it that was put back. (Of all users it may also be that some were purged since.)
 */
bool origin_knows_more(const BackupOrigin *one, const BackupOrigin *other);

/*
 * Refuses (STATUS_EXISTS) to replace a file with the new backup in output, where that would take away what the new one
 * cannot have: the file is a backup of other users or of another store, or of this one when it knew more, or the new
 * one has no license. So it does where what the file is cannot be read, or is of a newer version. is_copy: the new one
 * is not of now, but a copy of that in the folder of the service.
 */
Status origin_check_replaced(Ctl *ctl, Output *output, bool is_copy);
