/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

/*
 * jansson, and whether it had the memory that it asked for. Without, it leaves out a byte of a string that it reads,
 * or a part of what it writes, and calls good text broken, for which somebody would throw away a backup; or it writes
 * where it must not. So what it reads ends at the first allocation that fails. All are GLib's g_try_malloc().
 */

/*
 * Parses JSON without members that are there twice. Returns 0, -ENOMEM, or -EINVAL with *ret_error; *ret is NULL then.
 */
int json_parse(const void *content, size_t size, json_t **ret, json_error_t *ret_error);

/* Frees what json_dumps() gave. */
void json_text_free(char *text);

/* Whether jansson was refused memory on this thread since json_watch_memory(), or the json_parse() before. */
void json_watch_memory(void);
bool json_lacked_memory(void);
