/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

#include <systemd/sd-event.h>

#include "error.h"

/*
 * What clients were given a descriptor of, and keep for as long as they like: a document is memory of the service's,
 * and a backup that was replaced since takes its place on the service's disk. Who has it, and has copied, mapped or
 * passed it on, tells nobody; but inotify tells when the file itself has gone, which is when nobody has it any more.
 * Until then it counts for the user who asked for it. (Pages that were spliced into a pipe outlive it: see
 * SECURITY.md.)
 */

typedef struct User User;
typedef struct Lent Lent;

typedef enum LentKind {
        LENT_NOTHING,
        LENT_DOCUMENT, /* counted by bytes, and no fewer than 64 KiB each: what a file is besides takes memory, too */
        LENT_BACKUP,   /* counted by files, in the service's folders: those that still have their name included */
        _LENT_KINDS,
} LentKind;

/* Where there is no inotify nothing is counted, and the log says so. Returns 0 or a negative errno. */
int lent_new(sd_event *event, Lent **ret);
/* Before the users are freed. */
Lent *lent_free(Lent *lent);

/*
 * Has the kernel tell when the file goes: from any thread, for a backup may lie on a disk that makes one wait. Returns
 * a number for lent_add(), or a negative errno; then it is not to be given to anybody. 0 stands for a file that does
 * not count.
 */
int lent_watch(const Lent *lent, int fd);

/*
 * It is to be given to a user, and counts from now on; its descriptor is still open here. A backup that counts already
 * is given again and counts once. ERROR_LIMIT_EXCEEDED where what the user has comes to 64 MiB, or to 16 backups.
 */
int lent_add(User *user, LentKind kind, int watch, uint64_t bytes, Error *error);
