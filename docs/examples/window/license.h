/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <gio/gio.h>

/* A license as the list shows it. */

#define LICENSE_TYPE license_get_type()
G_DECLARE_FINAL_TYPE(License, license, LICENSE, ITEM, GObject)

struct _License {
        GObject parent;
        char *title;    /* or, without one, its id */
        char *subtitle; /* issuer, validity, uses left: what is known of them */
        gboolean may_be_backed_up;
};

/* From an id and the properties (a{sv}) that EnumerateLicenses gave with it. now: Unix seconds. */
License *license_new(const char *id, GVariant *properties, gint64 now);

/*
 * Titles and ids come from documents, and those from anywhere: one line of text that does not reach out into what
 * stands beside it.
 */
char *text_of_others(const char *text);
/* "1 license", "10,003 licenses" */
char *text_licenses(guint64 n);
/* A number as people write it. */
char *text_number(guint64 n);
