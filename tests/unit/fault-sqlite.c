/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fault-sqlite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <pthread.h>
#include <sqlite3.h>

static struct {
        atomic_bool armed;
        FaultKind kind;
        int rc;
        unsigned at;
        bool onward;
        atomic_uint counts[_FAULT_KIND_MAX];
        atomic_uint hits;
} plan;

static _Thread_local bool paused;

void fault_pause(bool pause) {
        paused = pause;
}

bool fault_fails(FaultKind kind) {
        unsigned n;

        if (paused || !atomic_load(&plan.armed))
                return false;
        n = atomic_fetch_add(&plan.counts[kind], 1U) + 1;
        if (kind != plan.kind || n < plan.at || (n > plan.at && !plan.onward))
                return false;
        atomic_fetch_add(&plan.hits, 1U);
        return true;
}

/* The disk: SQLite's own files, whose tables of functions are replaced. Those but for locks are the same in all. */

#define N_METHODS 4U

/* Those that the store is opened with, and looked at with; ours go by their names, and are found before them. */
static struct {
        const char *name;
        sqlite3_vfs ours, *original;
} disks[] = { { .name = "unix-excl" }, { .name = "unix-none" } };
#define N_DISKS (sizeof disks / sizeof *disks)
static sqlite3_io_methods first; /* the original's, of the first file opened: a database */
static struct {
        const sqlite3_io_methods *original;
        sqlite3_io_methods ours;
} methods[N_METHODS];
static pthread_mutex_t methods_mutex = PTHREAD_MUTEX_INITIALIZER;

static int read_file(sqlite3_file *file, void *data, int size, sqlite3_int64 offset) {
        return fault_fails(FAULT_READ) ? plan.rc : first.xRead(file, data, size, offset);
}

static int write_file(sqlite3_file *file, const void *data, int size, sqlite3_int64 offset) {
        return fault_fails(FAULT_WRITE) ? plan.rc : first.xWrite(file, data, size, offset);
}

static int sync_file(sqlite3_file *file, int flags) {
        return fault_fails(FAULT_SYNC) ? plan.rc : first.xSync(file, flags);
}

static int truncate_file(sqlite3_file *file, sqlite3_int64 size) {
        return fault_fails(FAULT_TRUNCATE) ? plan.rc : first.xTruncate(file, size);
}

static int size_of_file(sqlite3_file *file, sqlite3_int64 *ret) {
        return fault_fails(FAULT_SIZE) ? plan.rc : first.xFileSize(file, ret);
}

static int map_shared(sqlite3_file *file, int page, int size, int extend, void volatile **ret) {
        return fault_fails(FAULT_SHARED_MAP) ? plan.rc : first.xShmMap(file, page, size, extend, ret);
}

static int lock_shared(sqlite3_file *file, int offset, int n, int flags) {
        if ((flags & SQLITE_SHM_LOCK) && fault_fails(FAULT_SHARED_LOCK))
                return plan.rc;
        return first.xShmLock(file, offset, n, flags);
}

static int lock_file(sqlite3_file *file, int level) {
        return fault_fails(FAULT_LOCK) ? plan.rc : first.xLock(file, level);
}

static const sqlite3_io_methods *methods_for(const sqlite3_io_methods *found) {
        if (!first.xRead)
                first = *found;
        for (unsigned i = 0; i < N_METHODS; i++) {
                sqlite3_io_methods *replaced = &methods[i].ours;

                if (methods[i].original == found)
                        return replaced;
                if (methods[i].original)
                        continue;
                assert_ptr_equal(found->xRead, first.xRead);
                methods[i].original = found;
                *replaced = *found;
                replaced->xRead = read_file;
                replaced->xWrite = write_file;
                replaced->xSync = sync_file;
                replaced->xTruncate = truncate_file;
                replaced->xFileSize = size_of_file;
                replaced->xShmMap = map_shared;
                replaced->xShmLock = lock_shared;
                if (found->xLock == first.xLock)
                        replaced->xLock = lock_file;
                return replaced;
        }
        return found;
}

static sqlite3_vfs *original_of(const sqlite3_vfs *vfs) {
        for (size_t i = 0; i < N_DISKS; i++)
                if (vfs == &disks[i].ours)
                        return disks[i].original;
        fail_msg("A VFS of another name");
        return NULL;
}

static int open_file(sqlite3_vfs *vfs, const char *path, sqlite3_file *file, int flags, int *ret_flags) {
        sqlite3_vfs *original = original_of(vfs);
        int rc;

        if (fault_fails(FAULT_OPEN)) {
                file->pMethods = NULL;
                return plan.rc;
        }
        rc = original->xOpen(original, path, file, flags, ret_flags);
        if (rc == SQLITE_OK) {
                pthread_mutex_lock(&methods_mutex);
                file->pMethods = methods_for(file->pMethods);
                pthread_mutex_unlock(&methods_mutex);
        }
        return rc;
}

/* Called for a copy of ours, too; of all that SQLite has for Unix it is one function. */
static int delete_file(sqlite3_vfs *vfs, const char *path, int sync) {
        sqlite3_vfs *original = disks[0].original;

        return fault_fails(FAULT_DELETE) ? plan.rc : original->xDelete(original, path, sync);
}

/* The memory. */

static sqlite3_mem_methods memory;

static _Thread_local bool starved;

static void *allocate(int size) {
        return starved || fault_fails(FAULT_MEMORY) ? NULL : memory.xMalloc(size);
}

static void *reallocate(void *block, int size) {
        return starved || fault_fails(FAULT_MEMORY) ? NULL : memory.xRealloc(block, size);
}

/* In place of SQLite's, which go by these names, too: a statement takes many allocations, and any of them will do. */
#define EXPORT __attribute__((visibility("default")))
#define ORIGINAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

EXPORT int sqlite3_prepare_v2(sqlite3 *db, const char *sql, int size, sqlite3_stmt **ret, const char **ret_tail) {
        int rc;

        starved = fault_fails(FAULT_PREPARE);
        rc = ORIGINAL(sqlite3_prepare_v2)(db, sql, size, ret, ret_tail);
        starved = false;
        return rc;
}

EXPORT int sqlite3_prepare_v3(sqlite3 *db, const char *sql, int size, unsigned flags, sqlite3_stmt **ret,
        const char **ret_tail) {
        int rc;

        starved = fault_fails(FAULT_PREPARE);
        rc = ORIGINAL(sqlite3_prepare_v3)(db, sql, size, flags, ret, ret_tail);
        starved = false;
        return rc;
}

void fault_sqlite_install(void) {
        sqlite3_mem_methods failing;

        assert_int_equal(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &memory), SQLITE_OK);
        failing = memory;
        failing.xMalloc = allocate;
        failing.xRealloc = reallocate;
        assert_int_equal(sqlite3_config(SQLITE_CONFIG_MALLOC, &failing), SQLITE_OK);
        /* Small blocks kept by a connection would hide most allocations. */
        assert_int_equal(sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0), SQLITE_OK);

        for (size_t i = 0; i < N_DISKS; i++) {
                sqlite3_vfs *ours = &disks[i].ours, *original = sqlite3_vfs_find(disks[i].name);

                assert_non_null(original);
                disks[i].original = original;
                *ours = *original;
                ours->pNext = NULL;
                ours->xOpen = open_file;
                ours->xDelete = delete_file;
                assert_int_equal(sqlite3_vfs_register(ours, 0), SQLITE_OK);
                assert_ptr_equal(sqlite3_vfs_find(disks[i].name), ours);
        }
}

void fault_sqlite_arm(FaultKind kind, int rc, unsigned at, bool onward) {
        for (unsigned i = 0; i < _FAULT_KIND_MAX; i++)
                atomic_store(&plan.counts[i], 0U);
        atomic_store(&plan.hits, 0U);
        plan.kind = kind;
        plan.rc = rc;
        plan.at = at;
        plan.onward = onward;
        atomic_store(&plan.armed, true);
}

unsigned fault_sqlite_disarm(void) {
        atomic_store(&plan.armed, false);
        return atomic_load(&plan.hits);
}

unsigned fault_sqlite_count(FaultKind kind) {
        return atomic_load(&plan.counts[kind]);
}
