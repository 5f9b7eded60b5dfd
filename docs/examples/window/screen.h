/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <adwaita.h>

#include "harness.h"

/* What a person sees of the program's windows, and does with them. For tests. */

/* Lets the program run until something is so, which it must be before long. */
#define wait_until(condition) \
        do { \
                gint64 end_ = g_get_monotonic_time() + PATIENCE_SEC * G_USEC_PER_SEC; \
                while (!(condition)) { \
                        if (g_get_monotonic_time() > end_) { \
                                screen_print(); \
                                fail_msg("It never came: %s", #condition); \
                        } \
                        screen_iterate(); \
                } \
        } while (0)

/* One turn of the main loop; returns after a moment where nothing happens. */
void screen_iterate(void);

/* Whether a label that can be seen has this text in it. */
bool screen_shows(const char *text);
/* Whether there is a button with this label, to be seen and pressed. */
bool screen_offers(const char *label);
/* Presses it; waits for it before. */
void screen_press(const char *label);
/* The first window of a type, and the first widget of a type in any; NULL where none is to be seen. */
GtkWindow *screen_window(GType type);
GtkWidget *screen_find(GType type);
/* All that can be read, for whoever wonders why a test failed. */
void screen_print(void);
