/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

/*
 * The names of backups that licensevaultctl backup --folder makes again and again: licenses-20240131T235959Z.tar, by
 * the time in UTC at which each was begun, so that their order is that of their names;
 * licenses-20240131T235959Z-incomplete.tar where licenses are missing from it.
 */

/* Where licensevault-backup.timer puts those of all users, unless it was told otherwise. */
#define SERIES_TIMER_FOLDER "/var/backups/licensevault"

#define SERIES_NAME_LENGTH (sizeof "licenses-20240131T235959Z.tar" - 1)

/* The name of one that has all licenses. */
void series_name_at(time_t when, char ret[SERIES_NAME_LENGTH + 1]);

/* What such a name, or a path that ends in one, becomes where the backup is not of all (g_free). */
char *series_name_incomplete(const char *path);

/* Whether a string begins with the name of one that has all licenses; is that; is that of any backup of a series. */
bool series_name_begins(const char *string);
bool series_name_is_whole(const char *name);
bool series_name_is_any(const char *name);
