/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-memory.h"

#include <errno.h>
#include <setjmp.h>
#include <stdalign.h>
#include <stdint.h>

#include <glib.h>

/* Before each block. Those of what is being read stand in a ring until all of it is read; any other stands alone. */
typedef struct Block {
        struct Block *previous, *next;
        alignas(max_align_t) char content[];
} Block;

static _Thread_local bool lacked, reading;
static _Thread_local Block ring;
static _Thread_local jmp_buf give_up;

static void enter(Block *block) {
        block->previous = &ring;
        block->next = ring.next;
        ring.next->previous = block;
        ring.next = block;
}

static void leave(Block *block) {
        block->previous->next = block->next;
        block->next->previous = block->previous;
        block->previous = block->next = block;
}

static void *allocate(size_t size) {
        Block *block = size <= SIZE_MAX - sizeof(Block) ? g_try_malloc(sizeof(Block) + size) : NULL;

        if (!block) {
                lacked = true;
                /* jansson 2.14 goes on without the end of a string, and copies what lies behind its memory. */
                if (reading)
                        longjmp(give_up, 1);
                return NULL;
        }
        block->previous = block->next = block;
        if (reading)
                enter(block);
        return block->content;
}

static void release(void *content) {
        Block *block;

        if (!content)
                return;
        block = (void *)((char *)content - offsetof(Block, content));
        leave(block);
        g_free(block);
}

/* Before there are threads: jansson keeps the pointers without a lock. */
__attribute__((constructor)) static void set_up(void) {
        json_set_alloc_funcs(allocate, release);
}

void json_watch_memory(void) {
        lacked = false;
}

bool json_lacked_memory(void) {
        return lacked;
}

void json_text_free(char *text) {
        release(text);
}

int json_parse(const void *content, size_t size, json_t **ret, json_error_t *ret_error) {
        json_watch_memory();
        *ret = NULL;
        ring.previous = ring.next = &ring;
        reading = true;
        if (setjmp(give_up) == 0)
                *ret = json_loadb(content, size, JSON_REJECT_DUPLICATES, ret_error);
        reading = false;

        while (ring.next != &ring) {
                Block *block = ring.next;

                leave(block);
                if (lacked)
                        g_free(block);
        }
        if (lacked)
                return -ENOMEM;
        return *ret ? 0 : -EINVAL;
}
