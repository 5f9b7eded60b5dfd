/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include <glib.h>

/*
 * D-Bus by hand, little-endian: for what no library would send, and for more calls than one would bear. Nothing here
 * ends a test.
 */

/* Values, aligned as a message's body has them. */
void raw_add_number(GByteArray *to, uint32_t number);
void raw_add_string(GByteArray *to, const char *text);

/* A whole method call; serial must not be 0. flags: 1 wants no reply. Each 'h' is a descriptor that must go with it. */
void raw_add_call(GByteArray *to, uint32_t serial, uint8_t flags, const char *destination, const char *path,
        const char *interface, const char *member, const char *signature, const GByteArray *body);
/* Another serial for a call that raw_add_call() put at the start of these bytes. */
void raw_set_serial(uint8_t *call, uint32_t serial);
/* What a connection of a user says first: who it is, that it takes descriptors, and Hello as call 1. */
void raw_add_hello(GByteArray *to, uid_t uid);

/* Connects a socket as a user, which only root can for others. It does not block. -1 where it cannot. */
int raw_connect(const char *address, uid_t uid);
