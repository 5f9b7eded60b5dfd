/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "store.h"

/*
 * A small model of what a machine knows of its owner's licenses, and of what each step makes of it (design,
 * sections 2 and 4). It knows no store; test-merge-model.c holds the store against it.
 */

#define N_IDS 10U
#define N_DOCUMENTS 6U
#define N_RIGHTS 3U
#define UNLIMITED UINT64_MAX

/* What a license can be about: for each id some dated documents, two of them of one date, and some without. */
typedef struct Text {
        char *document;
        License license; /* what the recogniser says */
} Text;

extern const char *const model_rights[N_RIGHTS];
extern char model_ids[N_IDS][16];
extern Text model_texts[N_IDS][N_DOCUMENTS];

void model_texts_make(void);
void model_texts_free(void);

/* What a machine knows of an id; texts are interned. */
typedef struct Item {
        bool known, present, restricted;
        uint64_t generation;
        uint64_t counters[N_RIGHTS];
        int64_t revoked;
        /* Where present. */
        unsigned document;
        const char *title, *key_id;
        int64_t not_before, not_after;
} Item;

#define NO_ITEM ((Item){ .counters = { UNLIMITED, UNLIMITED, UNLIMITED }, .revoked = LICENSE_NO_TIME, \
        .not_before = LICENSE_NO_TIME, .not_after = LICENSE_NO_TIME })

/* As text (g_free). */
char *item_describe(const Item *item);
/* An item as a license: what an app stores, and what a backup says. */
void item_license(unsigned id, const Item *item, License *ret);
/* Whether two machines may keep different documents, as those that restored each other's. */
bool item_may_differ(unsigned id, const Item *one, const Item *other);

/* Steps of one machine: what becomes of the item, and the code that the step returns. */
int model_store(Item *item, const Item *stored);
int model_consume(Item *item, unsigned right, uint64_t amount, uint64_t *ret_left);
int model_delete(Item *item);
int model_revoke(Item *item, int64_t now);

/* Restores a backup; conflicts gets "id/key/title " of each. */
void model_merge(Item items[N_IDS], const Item backup[N_IDS], StoreMerge *ret, GString *conflicts);

/* Every document and every tombstone of a backup; each is counted once by a merge. */
uint64_t model_count(const Item backup[N_IDS]);
