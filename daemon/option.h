/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

#include <glib.h>

/*
 * Sees that no option which takes no value was given one: GLib takes '--yes=no' for '--yes'. words, which end in NULL,
 * are those behind the name of the program or of the command; tables, which end in NULL, are of the options that can
 * stand there. With strict, options end at the first word that is none. What else is wrong is for GLib to find.
 */
bool option_check(const GOptionEntry *const *tables, bool strict, char *const *words, GError **error);
