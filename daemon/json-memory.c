/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-memory.h"

#include <errno.h>

#include <glib.h>

static _Thread_local bool lacked;

static void *allocate(size_t size) {
        void *block = g_try_malloc(size);

        lacked = lacked || !block;
        return block;
}

/* Before there are threads: jansson keeps the pointers without a lock. */
__attribute__((constructor)) static void set_up(void) {
        json_set_alloc_funcs(allocate, g_free);
}

void json_watch_memory(void) {
        lacked = false;
}

bool json_lacked_memory(void) {
        return lacked;
}

int json_parse(const void *content, size_t size, json_t **ret, json_error_t *ret_error) {
        json_watch_memory();
        *ret = json_loadb(content, size, JSON_REJECT_DUPLICATES, ret_error);
        if (!lacked)
                return *ret ? 0 : -EINVAL;
        json_decref(*ret);
        *ret = NULL;
        return -ENOMEM;
}
