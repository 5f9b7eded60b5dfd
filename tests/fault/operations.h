/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "world.h"

/* What is tried at every point. */
extern const Operation operations[];
extern const unsigned n_operations;
