/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "io.h"

/*
 * Folders where backups may go: <root>/<uid>/ and what lies below, for the roots that the
 * administrator configured and for the service's own, backups/ in its state directory. A user's part
 * of a path is walked without following links, whoever may have put one there.
 */

#define FOLDER_BACKUP_NAME "licenses.tar"

/* Whether path is full and plain: "/a/b", of at most 1,024 bytes, without "//", "/./", "/../". */
bool folder_path_is_plain(const char *path);

/*
 * What of a plain path lies below <root>/<uid>: "" for that folder itself, "a/b" for one inside, NULL
 * when it is not in there. Points into path.
 */
const char *folder_below(const char *path, const char *root, uid_t uid);

/* Makes a folder (0700) where it is missing, and sees that its name is on the disk. Returns 0 or a negative errno. */
int folder_make(const char *parent, const char *name);

/*
 * Opens <root>/<uid>/<below>. With create, <uid> is made (0700) where it is missing; what lies below
 * must be there. The root's own path may hold links, for it is the administrator's. Returns a
 * descriptor that can be synced, or a negative errno: -ELOOP or -ENOTDIR where a link was in the way.
 */
int folder_open(const char *root, uid_t uid, const char *below, bool create);

/*
 * Whether <root>/<uid>/<name> is there: 0, -ENOENT, or another negative errno, -EAGAIN where a disk would have to be
 * asked. Only what the kernel remembers is looked at: never waits.
 */
int folder_look_at_once(const char *root, uid_t uid, const char *name);

/* Whether a user folder of a root has something that is called as a backup; false where that cannot be found out. */
bool folder_root_has_backup(const char *root);

/* Whether a folder has something that is called as a backup of a series (series-name.h); false as above. */
bool folder_has_series(const char *folder);

/* Removes what killed backups left in all user folders of a root. Errors are ignored: it is tried again. */
void folder_tidy_root(const char *root);
