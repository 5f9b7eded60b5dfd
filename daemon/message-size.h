/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

/*
 * How much memory a call takes while it is held, roughly; counted until max is reached. sd-bus does not tell, so its
 * arguments are looked at, and it stands at its beginning afterwards. What cannot be read counts as max, and so does
 * what has more values than that, for to look at them takes as long as much else.
 */
uint64_t message_size(sd_bus_message *message, uint64_t max, unsigned values);
