/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/*
 * The log of what was done to files, as power-recorder.c writes it into the program under test and
 * power-disk.c reads it: a record, then its names (each with its NUL), then its data. Files and folders
 * are inodes; what has made one says so, because a number may be used again.
 */

/* The variables that the recorder reads: the log, and the folder outside which nothing is recorded. */
#define POWER_LOG "LICENSEVAULT_POWER_LOG"
#define POWER_ROOT "LICENSEVAULT_POWER_ROOT"
/* Set: file systems know no O_TMPFILE, as FAT, so that drafts have names. */
#define POWER_NAMED "LICENSEVAULT_POWER_NAMED"
/* Set: each sync takes so many more microseconds, so that writes queue up behind it as on a real disk. */
#define POWER_SLOW "LICENSEVAULT_POWER_SLOW"

enum PowerOp {
        POWER_CREATE = 1, /* inode, folder, name ("": unnamed) */
        POWER_MKDIR,      /* inode, folder, name */
        POWER_WRITE,      /* inode, offset, data */
        POWER_TRUNCATE,   /* inode, offset */
        POWER_SYNC,       /* inode */
        POWER_RENAME,     /* folder, name, to_folder, to_name */
        POWER_LINK,       /* inode, folder, name */
        POWER_UNLINK,     /* folder, name */
        POWER_MARK,       /* name: what the client knows now */
};

typedef struct PowerRecord {
        uint32_t op;
        uint32_t name_size;    /* with its NUL; 0 for none */
        uint32_t to_name_size;
        uint32_t data_size;
        uint64_t inode;
        uint64_t folder;
        uint64_t to_folder;
        uint64_t offset;
} PowerRecord;
