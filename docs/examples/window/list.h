/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <adwaita.h>

/*
 * The user's licenses, page by page as they are scrolled to; or what there is to say where there are none. The
 * property "summary" tells how many there are, and the signal notify::summary that something has changed.
 */

#define LICENSE_LIST_TYPE license_list_get_type()
G_DECLARE_FINAL_TYPE(LicenseList, license_list, LICENSE, LIST, AdwBin)

/* Reads the licenses anew; what is shown stays until they come. */
void license_list_load(LicenseList *list, GDBusConnection *bus);

/* Shows that they cannot be had, and why. */
void license_list_show_trouble(LicenseList *list, const char *title, const char *description);
/* The same for a service that does not run. */
void license_list_show_missing(LicenseList *list);

/* Whether the service answered when it was last asked. */
gboolean license_list_is_good(LicenseList *list);
/* Whether it answered, and has no license. */
gboolean license_list_is_empty(LicenseList *list);
