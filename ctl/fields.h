/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>

#include "terminal.h"

/*
 * One thing in detail, on stdout: a line for each of its properties, the label in front. Any text will do, and is made
 * safe; "" is left out.
 */

void field_print(const char *label, const char *value);
void field_print_tone(const char *label, Tone tone, const char *value);
void field_printf(const char *label, const char *format, ...) G_GNUC_PRINTF(2, 3);
