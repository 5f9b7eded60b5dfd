/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sqlite3.h>

/*
 * The name of the VFS that stores are opened with: SQLite's own for a store of one process, but that a disk which
 * cannot be read says so. Any thread. NULL: there is no memory for it.
 */
const char *store_vfs_name(void);

/*
 * The same, for who looks at a store that may be another process's: takes no lock, sees none, and cannot write. As
 * above.
 */
const char *store_vfs_look_name(void);

/*
 * SQLite's code for the first read of this thread's that failed since this was asked last, with errno as it was then;
 * SQLITE_OK for none. For what hides it: integrity_check calls a page that cannot be read damaged.
 */
int store_vfs_failed_read(void);
