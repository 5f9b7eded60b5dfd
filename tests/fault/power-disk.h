/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

#include <glib.h>

#include "power-log.h"

/*
 * A disk that files are on, and a power cut. It knows what programs see (now) and what is safe, and makes
 * folders of what may be there after a cut.
 *
 * What is safe: the bytes and the size of a file as of its last fsync or fdatasync, the names in a folder as
 * of the last fsync of that folder. This is what POSIX promises, and less than ext4, XFS and Btrfs do: there,
 * the fsync of a new file saves its name as well, and the order of changes to folders is kept. A program that
 * stands the stricter rule stands theirs.
 */

typedef enum PowerLoss {
        POWER_LOSS_STRICT,   /* all that was not synced is gone, names and bytes */
        POWER_LOSS_EMPTY,    /* names are as they were last; bytes and sizes that were not synced are gone */
        POWER_LOSS_STALE,    /* names and sizes are as they were last; the bytes are old ones, or zeros */
        POWER_LOSS_EVEN,     /* of the pages of 4 KiB that were not synced, every other arrived; names, sizes did */
        POWER_LOSS_ODD,      /* the others */
        POWER_LOSS_RANDOM,   /* each page, each size, each folder: arrived or not */
        POWER_LOSS_NAMELESS, /* bytes arrived, names that were not synced did not */
        POWER_LOSS_NOTHING,  /* all arrived: what a kill leaves */
        _POWER_LOSS_MAX,
} PowerLoss;

const char *power_loss_name(PowerLoss loss);

/* One record of a log, and what belongs to it. */
typedef struct PowerEntry {
        const PowerRecord *record;
        const char *name;
        const char *to_name;
        const uint8_t *data;
} PowerEntry;

/* Reads a log; its entries point into content. */
GArray *power_log_parse(const char *content, size_t size);
/* For a failure to say where it was. */
char *power_entry_describe(const PowerEntry *entry);

typedef struct PowerDisk PowerDisk;

/* A disk with one empty folder, which is safe. */
PowerDisk *power_disk_new(uint64_t root);
PowerDisk *power_disk_free(PowerDisk *disk);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PowerDisk, power_disk_free)

/* Does what an entry says. False for what cannot be: the log is not of this disk. */
bool power_disk_apply(PowerDisk *disk, const PowerEntry *entry);
/* All that is there is safe. */
void power_disk_sync_all(PowerDisk *disk);

/* Writes what a power cut now leaves into a new folder. Returns a digest of all. */
char *power_disk_cut(const PowerDisk *disk, PowerLoss loss, guint32 seed, const char *into);
