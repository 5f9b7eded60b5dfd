/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "store.h"

/*
 * Inside the store: properties of owners that were read once and did not change since, for who may not wait for the
 * database. Any thread, never waits for a disk.
 */
typedef struct KnownProperties KnownProperties;

KnownProperties *known_properties_new(void);
KnownProperties *known_properties_free(KnownProperties *known);

/* A number that changes with every known_properties_forget(). */
uint64_t known_properties_age(KnownProperties *known);

/*
 * Keeps what was read (NULL: it is not set), unless something was forgotten since age, which was asked for before that
 * was read: then it may have been old already.
 */
void known_properties_learn(KnownProperties *known, const StoreOwner *owner, const char *name, const char *value,
        uint64_t age);

/* Forgets all: after a change, and before anybody is told of it. */
void known_properties_forget(KnownProperties *known);

/* Whether it is known; *ret_value as in known_properties_learn() (g_free). */
bool known_properties_get(KnownProperties *known, const StoreOwner *owner, const char *name, char **ret_value);
