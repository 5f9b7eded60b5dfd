/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "client.h"
#include "memory-meddler.h"

/* For cmocka's setup and teardown: a world with a daemon that the meddler is in. */
int memory_setup(void **state);
int memory_teardown(void **state);
extern MemoryMeddling *meddling;
