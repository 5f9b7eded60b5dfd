/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "common.h"
#include "store-connection.h"

/* A store, and a connection of the test's own that does things with licenses, each call a transaction. */

#define NOW INT64_C(1700000000)

extern const StoreOwner alice, bob;

typedef struct World {
        char *folder;
        StoreConnection *connection;
        License license; /* the last that was read */
        void *document;
} World;

int license_world_setup(void **state);
int license_world_teardown(void **state);

/* Whether the sums that an owner is charged with are those of its rows. */
void assert_books_balance(World *world);

int put_license(World *world, const StoreOwner *owner, License *license, const char *document, Error *error);
/* Stores a license, with one counter where right is not NULL. Returns its generation. */
uint64_t put_one(World *world, const StoreOwner *owner, const char *id, const char *document, const char *right,
        uint64_t uses);
/* Reads one into world; get() fails the test where it cannot. */
int get_code(World *world, const StoreOwner *owner, const char *id, Error *error);
const License *get(World *world, const StoreOwner *owner, const char *id);
void assert_document(World *world, const char *document);
void assert_unavailable(World *world, const StoreOwner *owner, const char *id);
void assert_counter(const License *license, const char *right, uint64_t remaining);
/* Of alice's. */
void delete_one(World *world, const char *id);
int consume(World *world, const char *id, const char *right, uint64_t amount, int64_t now, uint64_t *ret, Error *error);
/* SQL on the file, behind the service's back. */
void edit(World *world, const char *sql);
