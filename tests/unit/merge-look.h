/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "merge-model.h"

/* What a store has, as items of the model. */

/*
 * All that an owner has. A document that is none of the model's is number N_DOCUMENTS. Returns how many other ids
 * there are.
 */
unsigned model_look(StoreConnection *reader, const StoreOwner *owner, Item ret[N_IDS]);

/*
 * What holds on every machine whatever happens, by what was seen before and is seen now; no model is asked. NULL, or
 * which promise was broken (g_free).
 */
char *model_broken_promise(const Item before[N_IDS], const Item now[N_IDS]);
/* The first item that is not as the model has it, in words (g_free); NULL where all are. */
char *model_difference(const Item found[N_IDS], const Item expected[N_IDS]);
