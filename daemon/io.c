/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "io.h"

#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define COPY_SIZE (256U * 1024U)
#define SYNC_SIZE (64U * COPY_SIZE)

struct Cancel {
        atomic_uint n_ref;
        _Atomic(const char *) reason;
        int fd;
};

int cancel_new(Cancel **ret) {
        Cancel *cancel;

        cancel = g_try_new0(Cancel, 1);
        if (!cancel)
                return -ENOMEM;

        cancel->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (cancel->fd < 0) {
                int r = -errno;
                g_free(cancel);
                return r;
        }

        atomic_init(&cancel->n_ref, 1U);
        *ret = cancel;
        return 0;
}

Cancel *cancel_ref(Cancel *cancel) {
        atomic_fetch_add(&cancel->n_ref, 1U);
        return cancel;
}

Cancel *cancel_unref(Cancel *cancel) {
        if (cancel && atomic_fetch_sub(&cancel->n_ref, 1U) == 1U) {
                close(cancel->fd);
                g_free(cancel);
        }
        return NULL;
}

void cancel_trigger(Cancel *cancel, const char *reason) {
        const char *none = NULL;
        uint64_t one = 1;

        if (!atomic_compare_exchange_strong(&cancel->reason, &none, reason))
                return;

        /* Cannot fail: the counter is written once. */
        if (write(cancel->fd, &one, sizeof one) < 0)
                g_warn_if_reached();
}

bool cancel_requested(const Cancel *cancel) {
        return atomic_load(&cancel->reason) != NULL;
}

const char *cancel_reason(const Cancel *cancel) {
        return atomic_load(&cancel->reason);
}

int cancel_set_error(const Cancel *cancel, Error *error) {
        return error_set(error, ERROR_CANCELED, "%s", cancel_reason(cancel));
}

int cancel_fd(const Cancel *cancel) {
        return cancel->fd;
}

int io_wait(int fd, short events, const Cancel *cancel, int timeout_msec) {
        struct pollfd fds[] = {
                { .fd = fd, .events = events },
                { .fd = cancel ? cancel_fd(cancel) : -1, .events = POLLIN },
        };
        int64_t end = g_get_monotonic_time() / 1000 + timeout_msec;

        for (;;) {
                int64_t left = timeout_msec < 0 ? -1 : MAX(end - g_get_monotonic_time() / 1000, 0);
                int r = poll(fds, G_N_ELEMENTS(fds), (int)left);

                if (r < 0 && errno == EINTR)
                        continue;
                if (r < 0)
                        return -errno;
                if (fds[1].revents)
                        return IO_CANCELED;
                if (r == 0)
                        return IO_STALLED;
                return 0;
        }
}

int io_write_all(int fd, const void *data, size_t size) {
        const uint8_t *p = data;

        while (size > 0) {
                ssize_t n = write(fd, p, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return -EIO;
                p += n;
                size -= (size_t)n;
        }
        return 0;
}

int io_pwrite_all(int fd, const void *data, size_t size, uint64_t offset) {
        const uint8_t *p = data;

        while (size > 0) {
                ssize_t n = pwrite(fd, p, size, (off_t)offset);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return -EIO;
                p += n;
                size -= (size_t)n;
                offset += (size_t)n;
        }
        return 0;
}

ssize_t io_pread_all(int fd, void *data, size_t size, uint64_t offset) {
        uint8_t *p = data;
        size_t done = 0;

        while (done < size) {
                ssize_t n = pread(fd, p + done, size - done, (off_t)(offset + done));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                done += (size_t)n;
        }
        return (ssize_t)done;
}

/* The size by seeking, for file systems that refuse fstat (FUSE of another user); the offset is kept. */
static int64_t size_by_seeking(int fd) {
        off_t here, end;

        here = lseek(fd, 0, SEEK_CUR);
        if (here < 0)
                return -errno;
        end = lseek(fd, 0, SEEK_END);
        if (end < 0)
                return -errno;
        if (lseek(fd, here, SEEK_SET) < 0)
                return -errno;
        return end;
}

static int refuse_kind(Error *error) {
        return error_set(error, ERROR_INVALID_ARGUMENTS,
                "The descriptor is not a regular file, a pipe or a stream socket.");
}

/* Negative where it cannot be had. */
static int socket_option(int fd, int name) {
        socklen_t length = sizeof(int);
        int value;

        return getsockopt(fd, SOL_SOCKET, name, &value, &length) < 0 ? -errno : value;
}

/* What a descriptor is, how it is open (O_ACCMODE), and, of a file, its size. */
static int examine(int fd, DescriptorKind *ret_kind, int *ret_mode, int64_t *ret_size, Error *error) {
        struct stat st;
        int flags;

        flags = fcntl(fd, F_GETFL);
        if (flags < 0)
                return error_set_errno(error, ERROR_INVALID_ARGUMENTS, -errno, "The descriptor is not usable");
        if (flags & O_PATH)
                return refuse_kind(error);
        *ret_mode = flags & O_ACCMODE;
        *ret_kind = DESCRIPTOR_FILE;

        if (fstat(fd, &st) < 0) {
                int r = -errno;

                *ret_size = size_by_seeking(fd);
                if (*ret_size < 0)
                        return error_set_errno(error, ERROR_MEDIUM, r, "The descriptor cannot be examined");
        } else if (S_ISREG(st.st_mode))
                *ret_size = st.st_size;
        else if (S_ISFIFO(st.st_mode))
                *ret_kind = DESCRIPTOR_PIPE;
        else if (S_ISSOCK(st.st_mode)) {
                if (socket_option(fd, SO_TYPE) != SOCK_STREAM || socket_option(fd, SO_ACCEPTCONN) != 0)
                        return refuse_kind(error);
                *ret_kind = DESCRIPTOR_SOCKET;
        } else
                return refuse_kind(error);
        return 0;
}

int descriptor_check_source(int fd, Error *error) {
        DescriptorKind kind = DESCRIPTOR_FILE;
        int64_t size = 0;
        int mode = 0, r;

        r = examine(fd, &kind, &mode, &size, error);
        if (r == 0 && mode == O_WRONLY)
                return error_set(error, ERROR_INVALID_ARGUMENTS,
                        "The descriptor is not open for reading. Open the backup for reading, or pass the other end.");
        return r;
}

int descriptor_check_target(int fd, DescriptorKind *ret_kind, Error *error) {
        DescriptorKind kind = DESCRIPTOR_FILE;
        int64_t size = 0;
        int mode = 0, r;

        r = examine(fd, &kind, &mode, &size, error);
        if (r != 0)
                return r;
        if (kind != DESCRIPTOR_FILE && mode == O_RDONLY)
                return error_set(error, ERROR_INVALID_ARGUMENTS,
                        "The descriptor is not open for writing. Pass the other end.");
        if (kind == DESCRIPTOR_FILE && mode != O_RDWR)
                return error_set(error, ERROR_INVALID_ARGUMENTS,
                        "The file must be open for reading and writing, so that the backup can be read back.");
        if (size > 0)
                return error_set(error, ERROR_BACKUP_EXISTS,
                        "The file is not empty. Back up to a new one, which can take its place when the backup is "
                        "complete.");

        *ret_kind = kind;
        return 0;
}

static int copy_failed(int r, Error *error) {
        if (r == -ENOMEM)
                return error_set_no_memory(error);
        if (r == -EPIPE || r == -ECONNRESET)
                return error_set(error, ERROR_MEDIUM,
                        "The reader closed the backup before its end: %s. Start the backup again.", g_strerror(-r));
        return error_set(error, ERROR_MEDIUM,
                "Writing the backup failed: %s. What was written so far is not a backup. Try another place.",
                g_strerror(-r));
}

/* Some file systems know no fsync; an error of one that does is data that did not arrive. */
static int sync_file(int fd) {
        if (fsync(fd) < 0 && !(errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP))
                return -errno;
        return 0;
}

/* A file can block us but not be waited for, so the cancel is looked at between pieces. */
static int copy_to_file(int source, uint64_t size, int fd, const Cancel *cancel, DescriptorProgress progress,
                void *userdata, Error *error) {
        g_autofree uint8_t *buffer = g_try_malloc(2 * COPY_SIZE);
        int r;

        if (!buffer)
                return error_set_no_memory(error);

        for (uint64_t done = 0; done < size;) {
                ssize_t n = io_pread_all(source, buffer, MIN(COPY_SIZE, size - done), done);

                if (cancel && cancel_requested(cancel))
                        return cancel_set_error(cancel, error);
                if (n <= 0)
                        return copy_failed(n < 0 ? (int)n : -EIO, error);
                r = io_pwrite_all(fd, buffer, (size_t)n, done);
                if (r < 0)
                        return copy_failed(r, error);

                done += (size_t)n;
                /* Now and then, so that the last sync is short, and whoever watches sees that bytes move. */
                if ((done % SYNC_SIZE == 0 || done == size) && (r = sync_file(fd)) < 0)
                        return copy_failed(r, error);
                if (progress)
                        progress(done, size, userdata);
        }

        /* Drop what is clean from the cache, so that what is read now comes from the medium where it can. */
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);

        for (uint64_t done = 0; done <= size;) {
                size_t want = MIN(COPY_SIZE, size - done);
                ssize_t n = io_pread_all(source, buffer, want, done);
                /* One byte more than was written, to see that the file ends where the backup does. */
                ssize_t k = io_pread_all(fd, buffer + COPY_SIZE, want < COPY_SIZE ? want + 1 : want, done);

                if (cancel && cancel_requested(cancel))
                        return cancel_set_error(cancel, error);
                if (n < 0 || k < 0)
                        return copy_failed(n < 0 ? (int)n : (int)k, error);
                if (n != k || (size_t)n != want || memcmp(buffer, buffer + COPY_SIZE, want) != 0)
                        return error_set(error, ERROR_MEDIUM,
                                "What was read back is not what was written. Try another place; this one is broken, "
                                "or another program writes to the same file.");
                if (want < COPY_SIZE)
                        break;
                done += want;
                if (progress)
                        progress(size, size, userdata);
        }
        return 0;
}

static int copy_to_stream(int source, uint64_t size, int fd, DescriptorKind kind, int stall_msec,
                const Cancel *cancel, DescriptorProgress progress, void *userdata, Error *error) {
        g_autofree uint8_t *buffer = NULL;
        int64_t moved = g_get_monotonic_time();
        uint64_t done = 0;

        if (kind == DESCRIPTOR_SOCKET) {
                buffer = g_try_malloc(COPY_SIZE);
                if (!buffer)
                        return error_set_no_memory(error);
        }

        while (done < size) {
                int64_t quiet = (g_get_monotonic_time() - moved) / 1000;
                ssize_t n;
                int r;

                r = quiet < stall_msec ? io_wait(fd, POLLOUT, cancel, stall_msec - (int)quiet) : IO_STALLED;
                if (r == IO_CANCELED)
                        return cancel_set_error(cancel, error);
                if (r == IO_STALLED)
                        return error_set(error, ERROR_MEDIUM,
                                "The reader of the backup took nothing for %d s. Start the backup again.",
                                stall_msec / 1000);
                if (r < 0)
                        return copy_failed(r, error);

                if (kind == DESCRIPTOR_PIPE) {
                        loff_t offset = (loff_t)done;

                        n = splice(source, &offset, fd, NULL, MIN(COPY_SIZE, size - done), SPLICE_F_NONBLOCK);
                } else {
                        n = io_pread_all(source, buffer, MIN(COPY_SIZE, size - done), done);
                        if (n > 0)
                                n = send(fd, buffer, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
                        else if (n < 0)
                                return copy_failed((int)n, error);
                }
                if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
                        /* It was said to be ready and is not: another writer. Don't spin. */
                        g_usleep(1000);
                        continue;
                }
                if (n <= 0)
                        return copy_failed(n < 0 ? -errno : -EIO, error);

                done += (size_t)n;
                moved = g_get_monotonic_time();
                if (progress)
                        progress(done, size, userdata);
        }
        return 0;
}

int descriptor_copy(int source, uint64_t size, int fd, DescriptorKind kind, int stall_msec,
        const Cancel *cancel, DescriptorProgress progress, void *userdata, Error *error) {
        if (kind == DESCRIPTOR_FILE)
                return copy_to_file(source, size, fd, cancel, progress, userdata, error);
        return copy_to_stream(source, size, fd, kind, stall_msec, cancel, progress, userdata, error);
}
