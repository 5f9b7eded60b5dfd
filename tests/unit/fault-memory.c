/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>

#include <dlfcn.h>
#include <glib.h>

#include "fault-sqlite.h"

/*
 * Small allocations of the core, of which fault-sqlite.h says when they fail; jansson's are g_try_malloc(), too. They
 * are in place of what the core calls by these names. What they return is of malloc(), as GLib's own is.
 */
#define EXPORT __attribute__((visibility("default")))
#define ORIGINAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

static void *try_to_allocate(gsize n, gsize size) {
        return n == 0 || size == 0 || fault_fails(FAULT_TRY) ? NULL : calloc(n, size);
}

EXPORT gpointer(g_try_malloc)(gsize size) {
        return try_to_allocate(1, size);
}

EXPORT gpointer(g_try_malloc0)(gsize size) {
        return try_to_allocate(1, size);
}

EXPORT gpointer(g_try_malloc_n)(gsize n, gsize size) {
        return try_to_allocate(n, size);
}

EXPORT gpointer(g_try_malloc0_n)(gsize n, gsize size) {
        return try_to_allocate(n, size);
}

EXPORT gpointer(g_try_realloc)(gpointer block, gsize size) {
        return fault_fails(FAULT_TRY) ? NULL : realloc(block, size);
}

/* This C library takes any size, and so do sanitizers of posix_memalign(). */
EXPORT void *aligned_alloc(size_t alignment, size_t size) {
        void *block = NULL;

        if (fault_fails(FAULT_OBJECT) || posix_memalign(&block, MAX(alignment, sizeof(void *)), size) != 0)
                return NULL;
        return block;
}

/* Of libarchive, whose header's name is that of one of ours. */
struct archive *archive_read_new(void);
struct archive_entry *archive_entry_new(void);

EXPORT struct archive *archive_read_new(void) {
        return fault_fails(FAULT_OBJECT) ? NULL : ORIGINAL(archive_read_new)();
}

EXPORT struct archive_entry *archive_entry_new(void) {
        return fault_fails(FAULT_OBJECT) ? NULL : ORIGINAL(archive_entry_new)();
}
