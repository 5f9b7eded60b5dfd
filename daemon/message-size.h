/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

/*
 * How much memory a call takes while it is held, at least; counted until max is reached. sd-bus does not tell, so its
 * arguments are looked at, and it stands at its beginning afterwards. Each value counts 64 bytes besides its own, so
 * that looking at many small ones ends soon. What cannot be read counts as max.
 */
uint64_t message_size(sd_bus_message *message, uint64_t max);
