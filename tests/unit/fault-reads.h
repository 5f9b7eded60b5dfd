/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "store-connection.h"

/*
 * All ways to read the store, each adding to told what it says: what an owner's app sees, what root sees of owners, and
 * what a backup sees. They end at the first error.
 */
int read_licenses(StoreConnection *connection, const StoreOwner *owner, GString *told, Error *error);
int read_owners(StoreConnection *connection, GString *told, Error *error);
int read_snapshot(StoreConnection *connection, GString *told, Error *error);
