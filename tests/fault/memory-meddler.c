/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Preloaded into the daemon: refuses what is larger than a limit, always, so that each allocation whose size a client
 * can choose is met, and each that GLib would abort for ends the daemon. And sets SQLite's hard heap limit.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory-meddler.h"

#define EXPORT __attribute__((visibility("default")))

/* glibc's own, under the names that it keeps for such as us: dlsym() itself allocates. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static MemoryMeddling *meddling;

static void *heap_thread(void *userdata) {
        int64_t (*set_limit)(int64_t limit) = (int64_t (*)(int64_t))dlsym(RTLD_DEFAULT, "sqlite3_hard_heap_limit64");

        for (;;) {
                int64_t wanted = meddling->sqlite_heap;

                if (wanted != meddling->sqlite_heap_set && set_limit) {
                        set_limit(wanted < 0 ? 0 : wanted);
                        meddling->sqlite_heap_set = wanted;
                }
                usleep(2000);
        }
        return userdata;
}

__attribute__((constructor)) static void start(void) {
        const char *path = getenv(MEMORY_MEDDLING);
        int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
        sigset_t all, before;
        pthread_t thread;
        void *map;

        if (fd < 0)
                abort();
        map = mmap(NULL, sizeof *meddling, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
        if (map == MAP_FAILED)
                abort();
        meddling = map;
        /* Signals are the daemon's. */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        if (pthread_create(&thread, NULL, heap_thread, NULL) != 0)
                abort();
        pthread_detach(thread);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static int refuse(size_t size) {
        if (!meddling)
                return 0;
        if (size > meddling->largest)
                meddling->largest = size;
        if (meddling->malloc_max == 0 || size <= meddling->malloc_max)
                return 0;
        meddling->refused++;
        errno = ENOMEM;
        return 1;
}

EXPORT void *malloc(size_t size) {
        return refuse(size) ? NULL : __libc_malloc(size);
}

EXPORT void *calloc(size_t n, size_t size) {
        size_t all;

        return __builtin_mul_overflow(n, size, &all) || refuse(all) ? NULL : __libc_calloc(n, size);
}

EXPORT void *realloc(void *memory, size_t size) {
        return refuse(size) ? NULL : __libc_realloc(memory, size);
}

EXPORT int posix_memalign(void **ret, size_t alignment, size_t size) {
        void *memory = refuse(size) ? NULL : __libc_memalign(alignment, size);

        if (!memory)
                return ENOMEM;
        *ret = memory;
        return 0;
}

static void wait_for_directory(uid_t uid) {
        if (!meddling || !meddling->names_wait || (meddling->names_wait_uid != 0 && meddling->names_wait_uid != uid))
                return;
        meddling->names_waited++;
        while (meddling->names_wait)
                usleep(2000);
}

/* A directory that is slow, or down. */
EXPORT int getpwuid_r(uid_t uid, struct passwd *entry, char *buffer, size_t size, struct passwd **ret) {
        static int (*original)(uid_t uid, struct passwd *entry, char *buffer, size_t size, struct passwd **ret);

        if (!original)
                original = (__typeof__(original))dlsym(RTLD_NEXT, "getpwuid_r");
        wait_for_directory(uid);
        if (meddling && (meddling->names_fail || (meddling->names_lack && uid != 0))) {
                *ret = NULL;
                return meddling->names_fail ? EIO : 0;
        }
        return original(uid, entry, buffer, size, ret);
}
