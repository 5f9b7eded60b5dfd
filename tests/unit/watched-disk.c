/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "watched-disk.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>

#include <glib.h>

#include "io.h"

#define PAGE 4096U
#define PAGES 16384U
#define JITTER_USEC 200U
#define EXPORT __attribute__((visibility("default")))
#define REAL(function) ((__typeof__(&function))dlsym(RTLD_NEXT, #function))

WatchedDisk disk;

/* What the kernel may have of a page in its memory. */
typedef enum Cached {
        CACHED_NOT,
        CACHED_CLEAN,
        CACHED_DIRTY,
} Cached;

static struct {
        pthread_mutex_t mutex;
        int fd;
        Cached pages[PAGES];
        bool written[PAGES], proved[PAGES];
        unsigned cached_reads;
        const void *askers[8]; /* of threads */
        unsigned n_askers;
} watched = { .mutex = PTHREAD_MUTEX_INITIALIZER, .fd = -1 };

void disk_reset(void) {
        memset(&disk, 0, sizeof disk);
        disk_begin(-1);
}

void disk_begin(int fd) {
        pthread_mutex_lock(&watched.mutex);
        watched.fd = fd;
        memset(watched.pages, 0, sizeof watched.pages);
        memset(watched.written, 0, sizeof watched.written);
        memset(watched.proved, 0, sizeof watched.proved);
        watched.cached_reads = watched.n_askers = 0;
        pthread_mutex_unlock(&watched.mutex);
        for (unsigned i = 0; i < N_DISK_CALLS; i++)
                atomic_store(&disk.counts[i], 0U);
}

bool disk_is_direct(int fd) {
        return REAL(fcntl64)(fd, F_GETFL) & O_DIRECT;
}

unsigned disk_cached_reads(void) {
        unsigned n;

        pthread_mutex_lock(&watched.mutex);
        n = watched.cached_reads;
        pthread_mutex_unlock(&watched.mutex);
        return n;
}

unsigned disk_unproved(void) {
        unsigned n = 0;

        pthread_mutex_lock(&watched.mutex);
        for (unsigned i = 0; i < PAGES; i++)
                n += watched.written[i] && (!watched.proved[i] || watched.pages[i] == CACHED_DIRTY);
        pthread_mutex_unlock(&watched.mutex);
        return n;
}

/* Pages */

/* What was written directly counts as dirty, too: some file systems only say that they do so. */
static void note_write(unsigned page) {
        watched.pages[page] = CACHED_DIRTY;
        watched.written[page] = true;
        watched.proved[page] = false;
}

static void note_sync(unsigned page) {
        if (watched.pages[page] == CACHED_DIRTY)
                watched.pages[page] = CACHED_CLEAN;
}

static void note_drop(unsigned page) {
        if (watched.pages[page] == CACHED_CLEAN)
                watched.pages[page] = CACHED_NOT;
}

static void note_read(unsigned page) {
        if (watched.pages[page] != CACHED_NOT)
                watched.cached_reads++;
        else
                watched.proved[page] = true;
}

/* size 0: all that is there. */
static void note(int fd, off64_t offset, uint64_t size, void (*what)(unsigned page)) {
        uint64_t begin = (uint64_t)offset, end = size > 0 ? begin + size : PAGES * PAGE;

        pthread_mutex_lock(&watched.mutex);
        if (fd == watched.fd) {
                g_assert(end <= PAGES * PAGE);
                /* Only whole pages are dropped. */
                for (uint64_t at = what == note_drop ? begin + PAGE - 1 : begin;
                     what == note_drop ? at / PAGE < end / PAGE : at < end; at = (at / PAGE + 1) * PAGE)
                        what((unsigned)(at / PAGE));
        }
        pthread_mutex_unlock(&watched.mutex);
}

/* Calls */

/* Whether this call is one that fails, with errno set. */
static bool fails(DiskCall call) {
        unsigned n = atomic_fetch_add(&disk.counts[call], 1U) + 1;

        if (n != disk.fail_at[call] && !disk.fail_all[call])
                return false;
        errno = disk.error;
        return true;
}

static bool is_refused(int fd, DirectRefusal by, off64_t offset, size_t size) {
        if (!disk_is_direct(fd) ||
            (disk.refuses != by && !(disk.refuses == REFUSES_UNALIGNED && (offset % PAGE != 0 || size % PAGE != 0))))
                return false;
        errno = EINVAL;
        return true;
}

EXPORT int fcntl64(int fd, int command, ...) {
        va_list arguments;
        void *argument; /* as large as each of its types */
        int r;

        va_start(arguments, command);
        argument = va_arg(arguments, void *);
        va_end(arguments);
        if (command != F_SETFL || !((intptr_t)argument & O_DIRECT))
                return REAL(fcntl64)(fd, command, argument);
        if (disk.refuses == REFUSES_FLAG) {
                errno = EINVAL;
                return -1;
        }
        r = REAL(fcntl64)(fd, command, argument);
        if (r == 0)
                atomic_fetch_add(&disk.flags, 1U);
        return r;
}

/* As a disk of small sectors may do it, on any disk. */
static ssize_t write_some(int fd, const void *data, size_t size) {
        int flags = REAL(fcntl64)(fd, F_GETFL);
        ssize_t n;

        g_assert(REAL(fcntl64)(fd, F_SETFL, flags & ~O_DIRECT) == 0);
        n = REAL(write)(fd, data, size);
        g_assert(REAL(fcntl64)(fd, F_SETFL, flags) == 0);
        return n;
}

EXPORT ssize_t write(int fd, const void *data, size_t size) {
        off64_t offset;
        bool direct;
        ssize_t n;

        if (fd != watched.fd)
                return REAL(write)(fd, data, size);
        offset = lseek64(fd, 0, SEEK_CUR);
        if (fails(DISK_WRITE) || is_refused(fd, REFUSES_TO_WRITE, offset, size))
                return -1;
        direct = disk_is_direct(fd);
        if (atomic_load(&disk.counts[DISK_WRITE]) == disk.short_at)
                n = write_some(fd, data, size - PAGE / 2);
        else
                n = REAL(write)(fd, data, size);
        if (n > 0)
                note(fd, offset, (uint64_t)n, note_write);
        if (direct && n == (ssize_t)size)
                atomic_fetch_add(&disk.direct_writes, 1U);
        return n;
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
        ssize_t n;

        if (fd == watched.fd && fails(DISK_PATCH))
                return -1;
        n = REAL(pwrite64)(fd, data, size, offset);
        if (n > 0)
                note(fd, offset, (uint64_t)n, note_write);
        return n;
}

EXPORT ssize_t pread64(int fd, void *data, size_t size, off64_t offset) {
        bool direct;
        ssize_t n;

        if (fd != watched.fd)
                return REAL(pread64)(fd, data, size, offset);
        if (fails(DISK_READ) || is_refused(fd, REFUSES_TO_READ, offset, size))
                return -1;
        direct = disk_is_direct(fd);
        n = REAL(pread64)(fd, data, size, offset);
        if (n > 0) {
                note(fd, offset, (uint64_t)n, note_read);
                if (atomic_load(&disk.counts[DISK_READ]) == disk.lie_at)
                        ((uint8_t *)data)[n - 1] ^= 1;
        }
        if (direct && n == (ssize_t)size)
                atomic_fetch_add(&disk.direct_reads, 1U);
        return n;
}

EXPORT int sync_file_range(int fd, off64_t offset, off64_t size, unsigned flags) {
        bool waits = flags & SYNC_FILE_RANGE_WAIT_AFTER;
        int r;

        if (disk.usec > 0)
                usleep(disk.usec);
        while (waits && atomic_load(&disk.hangs)) {
                atomic_store(&disk.hung, true);
                usleep(1000);
        }
        if (fails(waits ? DISK_SYNC : DISK_BEGIN))
                return -1;
        r = REAL(sync_file_range)(fd, offset, size, flags);
        if (r == 0 && waits)
                note(fd, offset, (uint64_t)size, note_sync);
        return r;
}

EXPORT int fdatasync(int fd) {
        int r;

        if (fails(DISK_WHOLE))
                return -1;
        r = REAL(fdatasync)(fd);
        if (r == 0)
                note(fd, 0, 0, note_sync);
        return r;
}

EXPORT int posix_fadvise64(int fd, off64_t offset, off64_t size, int advice) {
        if (advice == POSIX_FADV_DONTNEED)
                note(fd, offset, (uint64_t)size, note_drop);
        return REAL(posix_fadvise64)(fd, offset, size, advice);
}

/* Threads. These two are wrapped by the linker: sanitizers have the first themselves, and the second is ours. */

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument);
bool __real_cancel_requested(const Cancel *cancel);
bool __wrap_cancel_requested(const Cancel *cancel);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
        unsigned i = 0;

        while (i < watched.n_askers && watched.askers[i] != argument)
                i++;
        if (i == watched.n_askers && i < G_N_ELEMENTS(watched.askers))
                watched.askers[watched.n_askers++] = argument;
        if (disk.no_threads & 1U << i)
                return EAGAIN;
        return __real_pthread_create(thread, attributes, start, argument);
}

/* It is asked between what is chosen and what is done. */
bool __wrap_cancel_requested(const Cancel *cancel) {
        if (disk.jitters)
                usleep((useconds_t)g_random_int_range(0, JITTER_USEC));
        return __real_cancel_requested(cancel);
}
