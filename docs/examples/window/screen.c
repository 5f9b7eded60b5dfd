/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "screen.h"

#include <string.h>

#define TICK_MSEC 50

/* Returns whether the search is over. */
typedef bool (*Look)(GtkWidget *widget, gpointer data);

static gboolean on_tick(gpointer data) {
        return G_SOURCE_CONTINUE;
}

void screen_iterate(void) {
        static guint tick;

        /* What is waited for may happen elsewhere, and wake no source. */
        if (tick == 0)
                tick = g_timeout_add(TICK_MSEC, on_tick, NULL);
        g_main_context_iteration(NULL, TRUE);
}

static bool look_below(GtkWidget *widget, Look look, gpointer data) {
        if (!gtk_widget_get_mapped(widget))
                return false;
        if (look(widget, data))
                return true;
        for (GtkWidget *child = gtk_widget_get_first_child(widget); child; child = gtk_widget_get_next_sibling(child))
                if (look_below(child, look, data))
                        return true;
        return false;
}

static bool look_everywhere(Look look, gpointer data) {
        GListModel *windows = gtk_window_get_toplevels();

        for (guint i = 0; i < g_list_model_get_n_items(windows); i++) {
                g_autoptr(GtkWidget) window = g_list_model_get_item(windows, i);

                if (look_below(window, look, data))
                        return true;
        }
        return false;
}

static bool has_text(GtkWidget *widget, gpointer text) {
        return GTK_IS_LABEL(widget) && strstr(gtk_label_get_text(GTK_LABEL(widget)), text);
}

bool screen_shows(const char *text) {
        return look_everywhere(has_text, (gpointer)text);
}

typedef struct Wanted {
        const char *label;
        GType type;
        GtkWidget *found;
} Wanted;

static bool is_button(GtkWidget *widget, gpointer data) {
        Wanted *wanted = data;

        if (!GTK_IS_BUTTON(widget) || !gtk_widget_is_sensitive(widget))
                return false;
        for (GtkWidget *child = gtk_widget_get_first_child(widget); child; child = gtk_widget_get_first_child(child))
                if (GTK_IS_LABEL(child) && strcmp(gtk_label_get_text(GTK_LABEL(child)), wanted->label) == 0)
                        wanted->found = widget;
        return wanted->found != NULL;
}

bool screen_offers(const char *label) {
        return look_everywhere(is_button, &(Wanted) { .label = label });
}

void screen_press(const char *label) {
        Wanted wanted = { .label = label };

        wait_until(look_everywhere(is_button, &wanted));
        g_signal_emit_by_name(wanted.found, "clicked");
}

static bool is_type(GtkWidget *widget, gpointer data) {
        Wanted *wanted = data;

        if (g_type_is_a(G_OBJECT_TYPE(widget), wanted->type))
                wanted->found = widget;
        return wanted->found != NULL;
}

GtkWidget *screen_find(GType type) {
        Wanted wanted = { .type = type };

        look_everywhere(is_type, &wanted);
        return wanted.found;
}

GtkWindow *screen_window(GType type) {
        GtkWidget *found = screen_find(type);

        return found ? GTK_WINDOW(found) : NULL;
}

static bool print_label(GtkWidget *widget, gpointer data) {
        if (GTK_IS_LABEL(widget))
                print_error("on the screen: %s\n", gtk_label_get_text(GTK_LABEL(widget)));
        return false;
}

void screen_print(void) {
        look_everywhere(print_label, NULL);
}
