/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Preloaded into the daemon and licensevaultctl: writes down in order what they do to files. A lock over
 * each operation and its record makes the order of the log the order in which things happened, over all
 * threads and processes. What goes past the functions below would be missing, and test-power sees that:
 * the log, replayed in full, must give the files that are there.
 */
#undef _FILE_OFFSET_BITS /* both names of each function are ours */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "power-log.h"

#define PIECES_MAX 8
#define EXPORT __attribute__((visibility("default")))
#define REAL(function) ((__typeof__(&function))real(#function))

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static const char *root;
static unsigned slow_usec;

static void *real(const char *name) {
        void *function = dlsym(RTLD_NEXT, name);

        if (!function)
                abort();
        return function;
}

/* What other libraries do before that is not the program's. */
__attribute__((constructor)) static void start(void) {
        const char *path = getenv(POWER_LOG), *slow = getenv(POWER_SLOW);

        root = getenv(POWER_ROOT);
        slow_usec = slow ? (unsigned)strtoul(slow, NULL, 10) : 0;
        if (path && root && (log_fd = REAL(open64)(path, O_WRONLY | O_APPEND | O_CLOEXEC)) < 0)
                abort();
}

static void take_log(void) {
        pthread_mutex_lock(&mutex);
        while (flock(log_fd, LOCK_EX) < 0)
                if (errno != EINTR)
                        abort();
}

static void give_log(void) {
        int saved = errno;

        flock(log_fd, LOCK_UN);
        pthread_mutex_unlock(&mutex);
        errno = saved;
}

/* The data may come in pieces, whose sizes add up to the record's. */
static void append(PowerRecord record, const char *name, const char *to_name, const struct iovec *data, int n_data) {
        struct iovec parts[3 + PIECES_MAX];
        size_t size = sizeof record;
        int saved = errno;

        if (n_data > PIECES_MAX)
                abort();
        record.name_size = name ? (uint32_t)strlen(name) + 1 : 0;
        record.to_name_size = to_name ? (uint32_t)strlen(to_name) + 1 : 0;
        for (int i = 0; i < n_data; i++)
                record.data_size += (uint32_t)data[i].iov_len;
        parts[0] = (struct iovec) { &record, sizeof record };
        parts[1] = (struct iovec) { (void *)name, record.name_size };
        parts[2] = (struct iovec) { (void *)to_name, record.to_name_size };
        for (int i = 0; i < n_data; i++)
                parts[3 + i] = data[i];
        size += record.name_size + record.to_name_size + record.data_size;
        if (REAL(writev)(log_fd, parts, 3 + n_data) != (ssize_t)size)
                abort();
        errno = saved;
}

static bool is_below_root(const char *path) {
        size_t n = strlen(root);

        return strncmp(path, root, n) == 0 && (path[n] == '/' || !path[n]);
}

/* The inode of a file or folder that is recorded; 0 for others. */
static uint64_t inode_of(int fd) {
        char link[64], path[PATH_MAX];
        int saved = errno;
        struct stat st;
        ssize_t n;

        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        n = readlink(link, path, sizeof path - 1);
        path[n < 0 ? 0 : n] = 0;
        if (log_fd < 0 || !is_below_root(path) || fstat(fd, &st) < 0 || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
                st.st_ino = 0;
        errno = saved;
        return st.st_ino;
}

/* The folder that a name is in, and the name itself. */
static uint64_t folder_of(int folder, const char *path, const char **ret_name) {
        const char *slash = strrchr(path, '/');
        char parent[PATH_MAX] = ".";
        uint64_t inode;
        int fd;

        *ret_name = slash ? slash + 1 : path;
        if (slash)
                snprintf(parent, sizeof parent, "%.*s", slash == path ? 1 : (int)(slash - path), path);
        fd = REAL(openat64)(folder, parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return 0;
        inode = inode_of(fd);
        close(fd);
        return inode;
}

static int record_open(int folder, const char *path, int flags, mode_t mode) {
        bool unnamed = (flags & O_TMPFILE) == O_TMPFILE, existed = false;
        const char *name = NULL;
        uint64_t parent = 0;
        struct stat st;
        int fd;

        if (unnamed && getenv(POWER_NAMED)) {
                errno = EOPNOTSUPP;
                return -1;
        }
        if (log_fd < 0 || (!(flags & (O_CREAT | O_TRUNC)) && !unnamed))
                return REAL(openat64)(folder, path, flags, mode);

        take_log();
        if (flags & O_CREAT) {
                parent = folder_of(folder, path, &name);
                existed = fstatat(folder, path, &st, AT_SYMLINK_NOFOLLOW) >= 0;
        }
        fd = REAL(openat64)(folder, path, flags, mode);
        if (fd >= 0 && inode_of(fd) > 0) {
                if (unnamed || !existed)
                        append((PowerRecord) { .op = POWER_CREATE, .inode = inode_of(fd), .folder = parent },
                                unnamed ? "" : name, NULL, NULL, 0);
                else if (flags & O_TRUNC)
                        append((PowerRecord) { .op = POWER_TRUNCATE, .inode = inode_of(fd) }, NULL, NULL, NULL, 0);
        }
        give_log();
        return fd;
}

#define MODE_OF(flags) ({ \
        mode_t mode_ = 0; \
        if ((flags) & O_CREAT || ((flags) & O_TMPFILE) == O_TMPFILE) { \
                va_list arguments_; \
                va_start(arguments_, flags); \
                mode_ = va_arg(arguments_, mode_t); \
                va_end(arguments_); \
        } \
        mode_; })

EXPORT int open(const char *path, int flags, ...) {
        return record_open(AT_FDCWD, path, flags, MODE_OF(flags));
}

EXPORT int open64(const char *path, int flags, ...) {
        return record_open(AT_FDCWD, path, flags, MODE_OF(flags));
}

EXPORT int openat(int folder, const char *path, int flags, ...) {
        return record_open(folder, path, flags, MODE_OF(flags));
}

EXPORT int openat64(int folder, const char *path, int flags, ...) {
        return record_open(folder, path, flags, MODE_OF(flags));
}

/* What was written, as it arrived: a short write is a short record. */
static void wrote(uint64_t inode, const struct iovec *data, int n_data, ssize_t n, off_t offset) {
        struct iovec parts[PIECES_MAX];
        size_t left = n > 0 ? (size_t)n : 0;

        for (int i = 0; i < n_data; i++) {
                parts[i] = (struct iovec) { data[i].iov_base, left < data[i].iov_len ? left : data[i].iov_len };
                left -= parts[i].iov_len;
        }
        if (n > 0)
                append((PowerRecord) { .op = POWER_WRITE, .inode = inode, .offset = (uint64_t)offset }, NULL, NULL,
                        parts, n_data);
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
        const struct iovec part = { (void *)data, size };
        uint64_t inode = inode_of(fd);
        ssize_t n;

        if (inode == 0)
                return REAL(pwrite64)(fd, data, size, offset);
        take_log();
        n = REAL(pwrite64)(fd, data, size, offset);
        wrote(inode, &part, 1, n, offset);
        give_log();
        return n;
}

EXPORT ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
        return pwrite64(fd, data, size, offset);
}

EXPORT ssize_t writev(int fd, const struct iovec *data, int n_data) {
        uint64_t inode = inode_of(fd);
        ssize_t n;

        if (inode == 0)
                return REAL(writev)(fd, data, n_data);
        take_log();
        n = REAL(writev)(fd, data, n_data);
        /* Also right for O_APPEND: the offset is behind what was written. */
        wrote(inode, data, n_data, n, lseek(fd, 0, SEEK_CUR) - (n > 0 ? n : 0));
        give_log();
        return n;
}

EXPORT ssize_t write(int fd, const void *data, size_t size) {
        uint64_t inode = inode_of(fd);
        const struct iovec part = { (void *)data, size };
        ssize_t n;

        /* A pipe or a socket may wait, which must not be with the lock. */
        if (inode == 0)
                return REAL(write)(fd, data, size);
        take_log();
        n = REAL(write)(fd, data, size);
        wrote(inode, &part, 1, n, lseek(fd, 0, SEEK_CUR) - (n > 0 ? n : 0));
        give_log();
        return n;
}

static int record_truncate(int fd, off64_t size) {
        uint64_t inode = inode_of(fd);
        int r;

        if (inode == 0)
                return REAL(ftruncate64)(fd, size);
        take_log();
        r = REAL(ftruncate64)(fd, size);
        if (r >= 0)
                append((PowerRecord) { .op = POWER_TRUNCATE, .inode = inode, .offset = (uint64_t)size }, NULL, NULL,
                        NULL, 0);
        give_log();
        return r;
}

EXPORT int ftruncate(int fd, off_t size) {
        return record_truncate(fd, size);
}

EXPORT int ftruncate64(int fd, off64_t size) {
        return record_truncate(fd, size);
}

/* Space that is set aside reads as zeros: what a longer file holds when it is cut longer. */
EXPORT int fallocate64(int fd, int mode, off64_t offset, off64_t size) {
        struct stat st;

        if (inode_of(fd) > 0 && (mode != 0 || fstat(fd, &st) < 0))
                abort();
        if (inode_of(fd) > 0)
                return offset + size > st.st_size ? record_truncate(fd, offset + size) : 0;
        return REAL(fallocate64)(fd, mode, offset, size);
}

EXPORT int fallocate(int fd, int mode, off_t offset, off_t size) {
        return fallocate64(fd, mode, offset, size);
}

/*
 * Takes effect where it begins: what is written while it goes on is not promised to be in it. The time it takes
 * is spent first, and others write in it.
 */
static int record_sync(int fd, int (*sync)(int fd)) {
        uint64_t inode = inode_of(fd);
        int r;

        if (inode == 0)
                return sync(fd);
        if (slow_usec > 0)
                usleep(slow_usec);
        take_log();
        r = sync(fd);
        if (r >= 0)
                append((PowerRecord) { .op = POWER_SYNC, .inode = inode }, NULL, NULL, NULL, 0);
        give_log();
        return r;
}

EXPORT int fsync(int fd) {
        return record_sync(fd, REAL(fsync));
}

EXPORT int fdatasync(int fd) {
        return record_sync(fd, REAL(fdatasync));
}

EXPORT int renameat2(int folder, const char *path, int to_folder, const char *to_path, unsigned flags) {
        const char *name, *to_name;
        PowerRecord record = { .op = POWER_RENAME };
        int r;

        if (log_fd < 0)
                return REAL(renameat2)(folder, path, to_folder, to_path, flags);
        take_log();
        record.folder = folder_of(folder, path, &name);
        record.to_folder = folder_of(to_folder, to_path, &to_name);
        r = REAL(renameat2)(folder, path, to_folder, to_path, flags);
        if (r >= 0 && record.folder > 0)
                append(record, name, to_name, NULL, 0);
        give_log();
        return r;
}

EXPORT int renameat(int folder, const char *path, int to_folder, const char *to_path) {
        return renameat2(folder, path, to_folder, to_path, 0);
}

EXPORT int rename(const char *path, const char *to_path) {
        return renameat2(AT_FDCWD, path, AT_FDCWD, to_path, 0);
}

EXPORT int linkat(int folder, const char *path, int to_folder, const char *to_path, int flags) {
        PowerRecord record = { .op = POWER_LINK };
        const char *name;
        struct stat st;
        int r;

        if (log_fd < 0)
                return REAL(linkat)(folder, path, to_folder, to_path, flags);
        take_log();
        record.folder = folder_of(to_folder, to_path, &name);
        r = REAL(linkat)(folder, path, to_folder, to_path, flags);
        if (r >= 0 && record.folder > 0 && fstatat(to_folder, to_path, &st, AT_SYMLINK_NOFOLLOW) >= 0) {
                record.inode = st.st_ino;
                append(record, name, NULL, NULL, 0);
        }
        give_log();
        return r;
}

EXPORT int unlinkat(int folder, const char *path, int flags) {
        PowerRecord record = { .op = POWER_UNLINK };
        const char *name;
        int r;

        if (log_fd < 0)
                return REAL(unlinkat)(folder, path, flags);
        take_log();
        record.folder = folder_of(folder, path, &name);
        r = REAL(unlinkat)(folder, path, flags);
        if (r >= 0 && record.folder > 0)
                append(record, name, NULL, NULL, 0);
        give_log();
        return r;
}

EXPORT int unlink(const char *path) {
        return unlinkat(AT_FDCWD, path, 0);
}

EXPORT int rmdir(const char *path) {
        return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

EXPORT int mkdirat(int folder, const char *path, mode_t mode) {
        PowerRecord record = { .op = POWER_MKDIR };
        const char *name;
        struct stat st;
        int r;

        if (log_fd < 0)
                return REAL(mkdirat)(folder, path, mode);
        take_log();
        record.folder = folder_of(folder, path, &name);
        r = REAL(mkdirat)(folder, path, mode);
        if (r >= 0 && record.folder > 0 && fstatat(folder, path, &st, AT_SYMLINK_NOFOLLOW) >= 0) {
                record.inode = st.st_ino;
                append(record, name, NULL, NULL, 0);
        }
        give_log();
        return r;
}

EXPORT int mkdir(const char *path, mode_t mode) {
        return mkdirat(AT_FDCWD, path, mode);
}
