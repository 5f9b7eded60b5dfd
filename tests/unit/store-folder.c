/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common.h"

int store_folder_setup(void **state) {
        *state = temp_folder_new();
        return 0;
}

int store_folder_teardown(void **state) {
        temp_folder_remove(*state);
        return 0;
}

char *store_path(const char *folder) {
        return g_build_filename(folder, "licenses.db", NULL);
}

Store *open_store(const char *folder) {
        g_auto(Error) error = {};
        Store *store;

        assert_good(store_open(folder, &no_limits, &store, &error), &error);
        return store;
}

void edit_store(const char *folder, const char *sql) {
        g_autofree char *path = store_path(folder);
        sqlite3 *db;

        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
}
