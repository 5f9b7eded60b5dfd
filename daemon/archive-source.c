/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "archive-source.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

/* A wait that is not worth telling. */
#define MOMENT_MSEC 100

void archive_source_init(ArchiveSource *source, int fd, int stall_msec, const Cancel *cancel) {
        struct stat st;

        source->fd = fd;
        source->stall_msec = stall_msec;
        source->cancel = cancel;
        source->bytes = 0;
        source->watch = (ArchiveWatch) {};
        source->error = (Error) {};
        archive_frame_init(&source->frame);

        /* FUSE may refuse fstat(), and has no pipes or sockets. */
        bool known = fstat(fd, &st) == 0;
        source->is_socket = known && S_ISSOCK(st.st_mode);
        source->is_pipe = known && S_ISFIFO(st.st_mode);
}

/*
 * One read that does not wait. Someone else may read from the same pipe or socket, so that the byte
 * that poll() saw is gone; O_NONBLOCK is not ours to set. Pipes learned RWF_NOWAIT in Linux 6.4;
 * on an older kernel such a reader makes us wait.
 */
static ssize_t read_some(ArchiveSource *source) {
        struct iovec iov = { source->buffer, sizeof source->buffer };
        ssize_t n;

        if (source->is_socket)
                return recv(source->fd, source->buffer, sizeof source->buffer, MSG_DONTWAIT);

        if (source->is_pipe) {
                n = preadv2(source->fd, &iov, 1, -1, RWF_NOWAIT);
                if (n >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS))
                        return n;
        }

        return read(source->fd, source->buffer, sizeof source->buffer);
}

static int fail_to_wait(ArchiveSource *source, int r) {
        switch (r) {
        case IO_CANCELED:
                return cancel_set_error(source->cancel, &source->error);
        case IO_STALLED:
                return error_set(&source->error, ERROR_MEDIUM,
                        "Reading the backup failed: nothing came for %i s. Try again.", source->stall_msec / 1000);
        default:
                return error_set_errno(&source->error, ERROR_MEDIUM, r, "Reading the backup failed");
        }
}

/* Waits, telling so when it is not for a moment only. Returns as io_wait(). */
static int wait_for_bytes(ArchiveSource *source, int64_t silent_since) {
        int64_t left = source->stall_msec - (g_get_monotonic_time() - silent_since) / 1000;
        int r;

        if (source->stall_msec >= 0 && left <= 0)
                return IO_STALLED;
        if (!source->watch.waits)
                return io_wait(source->fd, POLLIN, source->cancel, source->stall_msec < 0 ? -1 : (int)left);

        r = io_wait(source->fd, POLLIN, source->cancel,
                source->stall_msec < 0 ? MOMENT_MSEC : (int)MIN(left, MOMENT_MSEC));
        if (r != IO_STALLED)
                return r;
        source->watch.waits(true, source->watch.userdata);
        r = io_wait(source->fd, POLLIN, source->cancel, source->stall_msec < 0 ? -1 : (int)left);
        source->watch.waits(false, source->watch.userdata);
        return r;
}

/* Waits, reads, and returns how many bytes came; 0 at the end; -1 with the error set. */
static ssize_t read_raw(ArchiveSource *source) {
        int64_t silent_since = g_get_monotonic_time();

        for (;;) {
                ssize_t n;
                int r;

                r = wait_for_bytes(source, silent_since);
                if (r != 0) {
                        fail_to_wait(source, r);
                        return -1;
                }

                n = read_some(source);
                if (n >= 0)
                        return n;
                if (errno != EINTR && errno != EAGAIN) {
                        error_set_errno(&source->error, ERROR_MEDIUM, -errno, "Reading the backup failed");
                        return -1;
                }
                /* Another reader was quicker, or a socket calls errors ready that no read takes away. */
                g_usleep(1000);
        }
}

ssize_t archive_source_read(ArchiveSource *source, const void **ret) {
        ssize_t n;
        size_t good;

        if (source->error.code != ERROR_NONE)
                return -1;

        n = read_raw(source);
        if (n < 0)
                return -1;
        if (n == 0)
                return archive_frame_finish(&source->frame, &source->error) == 0 ? 0 : -1;

        source->bytes += (uint64_t)n;
        if (source->watch.moved)
                source->watch.moved(source->watch.userdata);
        good = archive_frame_feed(&source->frame, source->buffer, (size_t)n, &source->error);
        if (good == 0)
                return -1;

        *ret = source->buffer;
        return (ssize_t)good;
}
