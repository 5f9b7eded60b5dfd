/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl.h"

/*
 * A folder of backups that are made again and again, by their names (series-name.h). Other files are nobody's
 * business.
 */

/*
 * The path of the next backup in a folder (g_free), a name that is free. Removes what killed backups left
 * half-written there.
 */
Status series_next(Ctl *ctl, const char *folder, char **ret_path);

/*
 * The newest whole backup of a folder (g_free), NULL where there is none or the folder cannot be read. One that a clock
 * has named which ran more than a day ahead is not, while there is another.
 */
char *series_newest(const char *folder);

/*
 * The newest backup of a folder that is incomplete, if it is newer than a whole one, of series_newest(), or whole is
 * NULL (g_free); else NULL. What a clock has named that ran more than a day ahead tells nothing.
 */
char *series_newest_incomplete(const char *folder, const char *whole);

/*
 * Removes the oldest backups of a folder, so that keep whole ones are left, at least 1, and what is newer than those.
 * newest, the path of series_next(), is one of them; what has a later name, from a clock that ran ahead, is not, and
 * stays. So does what is of other users or of another store than newest, which may be the last to have what a store
 * that was lost had, or another machine's that uses the same folder, and what cannot be read. Adds the names of the
 * removed ones as "removed" to the result, and how many stay that are not of the series as "others".
 */
Status series_prune(Ctl *ctl, const char *folder, const char *newest, unsigned keep);
