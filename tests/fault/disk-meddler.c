/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Preloaded into the daemon: a clock that can be set, a disk that is slow, one that hangs in a rename, and one that
 * gives back other bytes than it was given. Only write() and read(), which backups are written and read with; and
 * pread() of a file without a name, which is a backup that is read back: the store has one.
 */
#undef _FILE_OFFSET_BITS
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "disk-meddler.h"

#define EXPORT __attribute__((visibility("default")))
#define REAL(function) ((__typeof__(&function))dlsym(RTLD_NEXT, #function))

static DiskMeddling *meddling;
static atomic_uint n_reads;

__attribute__((constructor)) static void start(void) {
        const char *path = getenv(DISK_MEDDLING);
        int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
        void *map;

        if (fd < 0)
                abort();
        map = mmap(NULL, sizeof *meddling, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED)
                abort();
        close(fd);
        meddling = map;
}

static int is_file(int fd) {
        struct stat st;

        return meddling && fstat(fd, &st) >= 0 && S_ISREG(st.st_mode) && st.st_nlink <= 1;
}

EXPORT ssize_t write(int fd, const void *data, size_t size) {
        if (is_file(fd)) {
                if (meddling->slow_write_usec > 0)
                        usleep(meddling->slow_write_usec);
                meddling->written += size;
        }
        return REAL(write)(fd, data, size);
}

static void lie(void *data, ssize_t n) {
        if (n > 0 && meddling && meddling->lies > 0 && ++n_reads % meddling->lies == 0)
                ((uint8_t *)data)[n / 2] ^= 1;
}

EXPORT ssize_t read(int fd, void *data, size_t size) {
        ssize_t n = REAL(read)(fd, data, size);

        if (is_file(fd))
                lie(data, n);
        return n;
}

EXPORT ssize_t pread64(int fd, void *data, size_t size, off64_t offset) {
        ssize_t n = REAL(pread64)(fd, data, size, offset);
        struct stat st;

        if (meddling && fstat(fd, &st) >= 0 && S_ISREG(st.st_mode) && st.st_nlink == 0)
                lie(data, n);
        return n;
}

/* Only for the last name of a backup: the store renames nothing. */
static void wait_for_name(const char *name) {
        if (!meddling || !meddling->renames_wait || strcmp(name, "licenses.tar") != 0)
                return;
        meddling->renames_waited++;
        while (meddling->renames_wait)
                usleep(2000);
}

EXPORT int renameat(int from, const char *name, int to, const char *new_name) {
        wait_for_name(new_name);
        return REAL(renameat)(from, name, to, new_name);
}

EXPORT int renameat2(int from, const char *name, int to, const char *new_name, unsigned flags) {
        wait_for_name(new_name);
        return REAL(renameat2)(from, name, to, new_name, flags);
}

EXPORT int linkat(int from, const char *name, int to, const char *new_name, int flags) {
        wait_for_name(new_name);
        return REAL(linkat)(from, name, to, new_name, flags);
}

EXPORT int clock_gettime(clockid_t clock, struct timespec *time) {
        int r = REAL(clock_gettime)(clock, time);

        if (r >= 0 && clock == CLOCK_REALTIME && meddling)
                time->tv_sec += meddling->clock_sec;
        return r;
}

EXPORT int gettimeofday(struct timeval *restrict time, void *restrict zone) {
        int r = REAL(gettimeofday)(time, zone);

        if (r >= 0 && meddling)
                time->tv_sec += meddling->clock_sec;
        return r;
}

EXPORT time_t time(time_t *ret) {
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        if (ret)
                *ret = now.tv_sec;
        return now.tv_sec;
}
