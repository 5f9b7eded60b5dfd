/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

#include <jansson.h>
#include <systemd/sd-bus.h>

/*
 * Reads the a{sv} that comes next in a message as a JSON object with the same names. Values of a type
 * that the contract does not use are left out, so that a newer service can send them. Returns 0 or a
 * negative errno.
 */
int json_read_dictionary(sd_bus_message *message, json_t **ret);

/* Reads an a(sss) of license id, key id and title as an array of objects. Returns 0 or a negative errno. */
int json_read_licenses(sd_bus_message *message, json_t **ret);

/* A t as JSON, whose integers end at INT64_MAX. */
json_t *json_from_u64(uint64_t value);

/* A member of an object: "" or 0 where it is not there or of another type. */
const char *json_get_string(const json_t *object, const char *name);
uint64_t json_get_u64(const json_t *object, const char *name);
