/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <unistd.h>

#include <glib.h>

#include "error.h"

/*
 * Descriptors: our own, and those of strangers. A stranger's descriptor may stall, lie and go away;
 * whoever waits for one does it here, with a Cancel and a limit on silence.
 */

/* Closes what is open and sets -1, for cleanup attributes; keeps errno. */
static inline void fd_closep(int *fd) {
        if (*fd >= 0) {
                int saved = errno;
                close(*fd);
                errno = saved;
        }
        *fd = -1;
}
#define _cleanup_fd_ __attribute__((cleanup(fd_closep)))

static inline int fd_steal(int *fd) {
        int f = *fd;
        *fd = -1;
        return f;
}

/*
 * A wish that something end, shared by the thread that wishes and the one that works. It is there
 * for good once made; the worker sees it in loops (cancel_requested) and in waits (cancel_fd).
 */
typedef struct Cancel Cancel;

int cancel_new(Cancel **ret);
Cancel *cancel_ref(Cancel *cancel);
Cancel *cancel_unref(Cancel *cancel);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Cancel, cancel_unref)

/* Makes the wish. reason is a sentence for the client, static; the first one counts. Any thread. */
void cancel_trigger(Cancel *cancel, const char *reason);
bool cancel_requested(const Cancel *cancel);
/* The reason of the wish; NULL before it. */
const char *cancel_reason(const Cancel *cancel);
/* Sets ERROR_CANCELED with the reason, after the wish. Returns the code. */
int cancel_set_error(const Cancel *cancel, Error *error);
/* Becomes readable with the wish and stays so; owned by the Cancel. */
int cancel_fd(const Cancel *cancel);

typedef enum IoResult {
        IO_CANCELED = 1,
        IO_STALLED,
} IoResult;

/*
 * Waits until fd is ready for events (poll's), a Cancel (may be NULL) is triggered, or timeout_msec
 * have passed (-1: never). Returns 0, an IoResult, or a negative errno. A hangup counts as ready:
 * the next read or write tells what it was.
 */
int io_wait(int fd, short events, const Cancel *cancel, int timeout_msec);

/* Writes all of it, to what may be waited for without end: a file of ours. Returns 0 or a negative errno. */
int io_write_all(int fd, const void *data, size_t size);
int io_pwrite_all(int fd, const void *data, size_t size, uint64_t offset);
/* Reads size bytes, or fewer where the file ends. Returns how many, or a negative errno. */
ssize_t io_pread_all(int fd, void *data, size_t size, uint64_t offset);

/*
 * What a client's descriptor is. Decided by what the descriptor can do, not by who owns it: inside a
 * sandbox every file looks like nobody's.
 */
typedef enum DescriptorKind {
        DESCRIPTOR_FILE,   /* a regular file, or one on FUSE that lets itself be measured by lseek */
        DESCRIPTOR_PIPE,
        DESCRIPTOR_SOCKET, /* a stream socket */
} DescriptorKind;

/*
 * Whether a backup can go to fd, and its kind: a regular file that is empty and open for reading and
 * writing, a pipe or a stream socket open for writing. May wait for a file system. Returns 0 or a
 * code: ERROR_INVALID_ARGUMENTS, ERROR_BACKUP_EXISTS, ERROR_MEDIUM.
 */
int descriptor_check_target(int fd, DescriptorKind *ret_kind, Error *error);

/*
 * Whether a backup can be read from fd: a regular file, a pipe or a stream socket, open for reading. May wait for
 * a file system. Returns 0 or a code: ERROR_INVALID_ARGUMENTS, ERROR_MEDIUM.
 */
int descriptor_check_source(int fd, Error *error);

typedef void (*DescriptorProgress)(uint64_t done, uint64_t size, void *userdata);

/*
 * Copies size bytes from the start of source, a regular file of ours, to a stranger's descriptor.
 * A file is synced as far as it lets itself, read back and compared. The descriptor's flags are not
 * changed. Returns 0 or a code: ERROR_CANCELED, ERROR_MEDIUM (also for a stall, and for a copy that
 * does not compare). stall_msec is how long the descriptor may take no byte. progress may be NULL.
 */
int descriptor_copy(int source, uint64_t size, int fd, DescriptorKind kind, int stall_msec,
        const Cancel *cancel, DescriptorProgress progress, void *userdata, Error *error);
