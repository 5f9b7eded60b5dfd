/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "store-connection.h"

/* Inside the store: its files in the state directory. */

/* The path of licenses.db and this suffix. The caller frees it. */
char *store_file_path(const char *folder, const char *suffix);

/* Whether there is a store, without ever taking an emptied or half-removed one for a new start. */
int store_file_find(const char *folder, bool *ret_exists, Error *error);
/* Makes an empty store where there is none. */
int store_file_create(const char *folder, Error *error);
/* Opens a store that is there, and sees to it that it is one of ours. Who opens it to write upgrades it. */
int store_file_open(const char *folder, StoreAccess access, StoreConnection **ret, Error *error);
