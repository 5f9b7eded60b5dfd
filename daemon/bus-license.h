/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

#include "store.h"

/* Licenses in messages. Returned are 0, a code that is set in error, or a negative errno of a broken message. */

typedef struct BusOption {
        const char *name;
        char type;   /* s, t, u, b, or a for a{st}, counters */
        void *value; /* const char * (of the message), int64_t (a time), uint32_t, int, License */
} BusOption;

/*
 * Reads options: an a{sv} whose keys are all in the table, each at most once and of its type. What is
 * not there keeps its value.
 */
int bus_read_options(sd_bus_message *message, const BusOption *options, size_t n_options, Error *error);

/* Reads the properties that a caller gives with a document into claimed, which is initialised. */
int bus_read_license(sd_bus_message *message, License *claimed, Error *error);

/* Appends an a{sv} with all that is set. */
int bus_append_license(sd_bus_message *message, const License *license);

/* Checks a license id, and a text for a filter. */
int bus_check_string(const char *name, const char *value, Error *error);

/* Checks what a right is called. */
int bus_check_right(const char *right, Error *error);
