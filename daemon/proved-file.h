/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "io.h"
#include "license.h"

/*
 * A file of ours that is written once, from where it stands to its end, and proved meanwhile: what is given is
 * written, brought to the disk, dropped from the cache, read back, and compared with what was given, byte by byte.
 * Documents in it are held against digests that were taken of them before.
 *
 * What fits into one block is done by who calls, in proved_file_finish(). For more there are three threads, for the
 * digests, for writing, and for reading back, and all are some blocks behind who gives; without threads it goes on as
 * well, and slower. Memory is constant. While there are more blocks the file is read and written with O_DIRECT, where
 * its file system can, and when it is finished or freed that flag is gone.
 *
 * All functions but free return 0 or a negative errno; after one, proved_file_failed() has the words, and only
 * it and proved_file_free() may be called.
 */
#define PROVED_BLOCK_SIZE (1024U * 1024U)
#define PROVED_PATCHES_MAX 2U
#define PROVED_PATCH_SIZE 512U
/* So many bytes, at least, lie between the beginnings of two documents. */
#define PROVED_DOCUMENT_DISTANCE 1024U

typedef struct ProvedFile ProvedFile;

/* fd stays the caller's, can seek, and nobody else writes to it; cancel (may be NULL) outlives the file. */
int proved_file_new(int fd, const Cancel *cancel, ProvedFile **ret);
/* Waits for the threads, which end at the next block. */
ProvedFile *proved_file_free(ProvedFile *file);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ProvedFile, proved_file_free)

/* Where the next PROVED_BLOCK_SIZE bytes are to be put; another place after each proved_file_give(). */
char *proved_file_buffer(ProvedFile *file);

/* Gives what was put there: all of the block, but for the last one. May wait until the next one is free. */
int proved_file_give(ProvedFile *file, size_t size);

/* From this offset in the next block on, size bytes are a document, which must have this digest. */
void proved_file_expect(ProvedFile *file, size_t offset, uint64_t size, const uint8_t digest[LICENSE_DIGEST_SIZE]);

/* Bytes at an offset of the file that were given already are to be others; PROVED_PATCHES_MAX times at most. */
void proved_file_patch(ProvedFile *file, uint64_t offset, const void *data, size_t size);

/* After the last block: waits until all documents were held against their digests. */
int proved_file_end(ProvedFile *file);

/*
 * After that: waits until all is proved, and is safe on the disk. progress, where it is not NULL, is told
 * now and then how many bytes were, of how many.
 */
int proved_file_finish(ProvedFile *file, void (*progress)(uint64_t done, uint64_t size, void *userdata),
        void *userdata);

/*
 * Puts into words why a function returned r: ERROR_MEDIUM, ERROR_CANCELED, ERROR_NO_MEMORY. *ret_rotten says that it
 * was a document that has another digest; which, who gave it has to find out. Returns the code.
 */
int proved_file_failed(ProvedFile *file, int r, bool *ret_rotten, Error *error);
