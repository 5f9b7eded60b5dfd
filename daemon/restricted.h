/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

#include <glib.h>

/*
 * Licenses that a job names one by one, by id, key id and title: those that a backup skipped because they may not be
 * backed up, or are damaged, and those that a restore found in conflict. There may be a million of them and they are
 * kept as long as the job, so they lie in an unnamed file. Written by the job's worker, read from any thread. Functions
 * return 0 or a negative errno.
 */

typedef struct RestrictedList RestrictedList;

/* What the file is called for a moment, where there are no unnamed ones; draft_tidy() knows it by this. */
#define RESTRICTED_DRAFT_NAME "restricted"

/* folder is where the file goes, once there is something to write. */
int restricted_new(const char *folder, RestrictedList **ret);
RestrictedList *restricted_ref(RestrictedList *list);
RestrictedList *restricted_unref(RestrictedList *list);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RestrictedList, restricted_unref)

/* key_id and title may be NULL, which is read back as "". */
int restricted_append(RestrictedList *list, const char *id, const char *key_id, const char *title);

uint64_t restricted_count(RestrictedList *list);
/* What it takes, on disk as a rule. Never waits. */
uint64_t restricted_bytes(const RestrictedList *list);

/*
 * Entries from offset on, at most max of them and 60 KiB, in ret: id, key id, title, id … (of char *,
 * freed by it).
 */
int restricted_read(RestrictedList *list, uint64_t offset, unsigned max, GPtrArray *ret);
