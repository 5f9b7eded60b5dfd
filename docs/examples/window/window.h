/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

#include <adwaita.h>

/*
 * The window. Its actions: win.backup and win.restore (ask for a file first), win.cancel, win.refresh. One backup or
 * restore at a time.
 */

#define LICENSE_WINDOW_TYPE license_window_get_type()
G_DECLARE_FINAL_TYPE(LicenseWindow, license_window, LICENSE, WINDOW, AdwApplicationWindow)

LicenseWindow *license_window_new(GtkApplication *application);

/*
 * Backs up to a file, or restores from one, as soon as the service can be asked. may_replace: the user agreed to lose a
 * file of that name, once the new one is whole; without it such a file is an error.
 */
void license_window_back_up(LicenseWindow *window, GFile *file, bool may_replace);
void license_window_restore(LicenseWindow *window, GFile *file);

/* The connection to the system bus, which is the window's own; NULL while there is none. */
GDBusConnection *license_window_bus(LicenseWindow *window);
