/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "store-connection.h"

/* A folder for a store, for the tests of the store as a file. */

/* For cmocka's setup and teardown: *state is the path of a new folder. */
int store_folder_setup(void **state);
int store_folder_teardown(void **state);

/* The path of its licenses.db; the caller frees it. */
char *store_path(const char *folder);
/* Opens the store, or makes one; fails the test where it cannot. */
Store *open_store(const char *folder);
/* SQL on the file, behind the service's back. */
void edit_store(const char *folder, const char *sql);
