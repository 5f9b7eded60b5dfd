/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "list.h"

#include "call.h"
#include "license.h"

struct _LicenseList {
        AdwBin parent;

        GtkStack *pages;
        AdwStatusPage *trouble;
        GtkAdjustment *scroll;
        GListStore *licenses;

        GDBusConnection *bus;
        GCancellable *call;   /* NULL where none is under way */
        char *next;           /* where the next page begins; empty: there is none */
        char *summary;
};

G_DEFINE_FINAL_TYPE(LicenseList, license_list, ADW_TYPE_BIN)

enum { PROPERTY_SUMMARY = 1, N_PROPERTIES };
static GParamSpec *properties[N_PROPERTIES];

static void summarize(LicenseList *list, gboolean known) {
        g_autofree char *count = text_licenses(g_list_model_get_n_items(G_LIST_MODEL(list->licenses)));

        g_free(list->summary);
        list->summary = !known || license_list_is_empty(list) ? g_strdup("") :
                *list->next ? g_strdup_printf("The first %s", count) : g_steal_pointer(&count);
        g_object_notify_by_pspec(G_OBJECT(list), properties[PROPERTY_SUMMARY]);
}

static void show_page(LicenseList *list, const char *page) {
        gtk_stack_set_visible_child_name(list->pages, page);
        summarize(list, license_list_is_good(list));
}

void license_list_show_trouble(LicenseList *list, const char *title, const char *description) {
        /* The page reads markup, and what the service says may hold the name of a license. */
        g_autofree char *text = g_markup_escape_text(description, -1);

        adw_status_page_set_title(list->trouble, title);
        adw_status_page_set_description(list->trouble, text);
        show_page(list, "trouble");
}

void license_list_show_missing(LicenseList *list) {
        /* An answer that is still to come would be of the service that went. */
        g_cancellable_cancel(list->call);
        g_clear_object(&list->call);
        license_list_show_trouble(list, "The License Service Is Not Running",
                "It keeps your licenses on disk, and they are shown here again once it runs. If it does not start, "
                "ask who looks after this computer, or see “systemctl status licensevaultd” in a terminal.");
}

gboolean license_list_is_good(LicenseList *list) {
        const char *page = gtk_stack_get_visible_child_name(list->pages);

        return g_strcmp0(page, "licenses") == 0 || g_strcmp0(page, "empty") == 0;
}

gboolean license_list_is_empty(LicenseList *list) {
        return g_strcmp0(gtk_stack_get_visible_child_name(list->pages), "empty") == 0;
}

static void on_page(GObject *bus, GAsyncResult *result, gpointer data);

static void load_page(LicenseList *list, const char *after) {
        list->call = g_cancellable_new();
        call_service(list->bus, SERVICE_NAME, SERVICE_ROOT, "LicenseStore.EnumerateLicenses",
                g_variant_new("(@a{sv}su)", g_variant_new_array(G_VARIANT_TYPE("{sv}"), NULL, 0), after, 0), -1,
                list->call, on_page, g_object_ref(list));
}

/* A screen ahead of what is seen. */
static void load_more(LicenseList *list) {
        double end = gtk_adjustment_get_upper(list->scroll) - 2 * gtk_adjustment_get_page_size(list->scroll);

        if (!list->call && *list->next && gtk_adjustment_get_value(list->scroll) >= end) {
                g_autofree char *next = g_strdup(list->next);
                load_page(list, next);
        }
}

static void on_scrolled(LicenseList *list) {
        /* Also while the template is being made. */
        if (list->bus && license_list_is_good(list))
                load_more(list);
}

static void fail(LicenseList *list, GError *error) {
        if (call_is_unanswered(error)) {
                license_list_show_missing(list);
                return;
        }

        g_free(call_split_error(error));
        license_list_show_trouble(list, "The Licenses Cannot Be Shown", error->message);
}

static void on_page(GObject *bus, GAsyncResult *result, gpointer data) {
        g_autoptr(LicenseList) list = data;
        g_autoptr(GError) error = NULL;
        g_autoptr(GVariant) answer = call_service_finish(result, NULL, &error);
        g_autoptr(GPtrArray) page = g_ptr_array_new_with_free_func(g_object_unref);
        g_autoptr(GVariantIter) iter = NULL;
        GVariant *of_license;
        const char *id;

        /* Another one has begun. */
        if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
                return;
        g_clear_object(&list->call);

        if (answer && !g_variant_is_of_type(answer, G_VARIANT_TYPE("(a(sa{sv})s)")))
                g_set_error_literal(&error, G_DBUS_ERROR, G_DBUS_ERROR_INVALID_SIGNATURE,
                        "The license service said something that is not understood here.");
        if (error) {
                fail(list, error);
                return;
        }

        gboolean first = !*list->next;
        guint n = first ? g_list_model_get_n_items(G_LIST_MODEL(list->licenses)) : 0;
        gint64 now = g_get_real_time() / G_USEC_PER_SEC;

        g_free(list->next);
        g_variant_get(answer, "(a(sa{sv})s)", &iter, &list->next);
        while (g_variant_iter_next(iter, "(&s@a{sv})", &id, &of_license)) {
                g_ptr_array_add(page, license_new(id, of_license, now));
                g_variant_unref(of_license);
        }
        g_list_store_splice(list->licenses, first ? 0 : g_list_model_get_n_items(G_LIST_MODEL(list->licenses)), n,
                page->pdata, page->len);
        if (first)
                gtk_adjustment_set_value(list->scroll, 0);

        /* A page may be empty, and not the last. */
        if (g_list_model_get_n_items(G_LIST_MODEL(list->licenses)) == 0 && *list->next) {
                g_autofree char *next = g_strdup(list->next);
                load_page(list, next);
        } else
                show_page(list, g_list_model_get_n_items(G_LIST_MODEL(list->licenses)) > 0 ? "licenses" : "empty");
}

void license_list_load(LicenseList *list, GDBusConnection *bus) {
        g_set_object(&list->bus, bus);
        g_cancellable_cancel(list->call);
        g_clear_object(&list->call);
        g_free(list->next);
        list->next = g_strdup("");
        load_page(list, "");
}

static void on_row_setup(GtkSignalListItemFactory *factory, GtkListItem *item) {
        GtkWidget *row = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 12);
        GtkWidget *texts = gtk_box_new(GTK_ORIENTATION_VERTICAL, 3);
        GtkWidget *title = gtk_label_new(NULL), *subtitle = gtk_label_new(NULL);
        GtkWidget *note = gtk_label_new("Not in backups");

        gtk_label_set_xalign(GTK_LABEL(title), 0);
        gtk_label_set_ellipsize(GTK_LABEL(title), PANGO_ELLIPSIZE_END);
        gtk_label_set_xalign(GTK_LABEL(subtitle), 0);
        gtk_label_set_wrap(GTK_LABEL(subtitle), TRUE);
        gtk_label_set_wrap_mode(GTK_LABEL(subtitle), PANGO_WRAP_WORD_CHAR);
        gtk_widget_add_css_class(subtitle, "caption");
        gtk_widget_add_css_class(subtitle, "dim-label");
        gtk_widget_add_css_class(note, "caption");
        gtk_widget_add_css_class(note, "note");
        gtk_widget_set_valign(note, GTK_ALIGN_CENTER);
        gtk_widget_set_tooltip_text(note, "This license may not be backed up: its issuer, or the app that stored it, "
                "says so. Ask the issuer for a new one when you move to another computer.");

        gtk_widget_set_hexpand(texts, TRUE);
        gtk_widget_set_valign(texts, GTK_ALIGN_CENTER);
        gtk_box_append(GTK_BOX(texts), title);
        gtk_box_append(GTK_BOX(texts), subtitle);
        gtk_box_append(GTK_BOX(row), texts);
        gtk_box_append(GTK_BOX(row), note);
        gtk_list_item_set_child(item, row);
        gtk_list_item_set_activatable(item, FALSE);
}

static void on_row_bind(GtkSignalListItemFactory *factory, GtkListItem *item) {
        License *license = gtk_list_item_get_item(item);
        GtkWidget *texts = gtk_widget_get_first_child(gtk_list_item_get_child(item));
        GtkWidget *title = gtk_widget_get_first_child(texts);

        gtk_label_set_text(GTK_LABEL(title), license->title);
        gtk_widget_set_tooltip_text(title, license->title);
        gtk_label_set_text(GTK_LABEL(gtk_widget_get_next_sibling(title)), license->subtitle);
        gtk_widget_set_visible(gtk_widget_get_next_sibling(texts), !license->may_be_backed_up);
}

static void license_list_get_property(GObject *object, guint id, GValue *value, GParamSpec *spec) {
        if (id == PROPERTY_SUMMARY)
                g_value_set_string(value, LICENSE_LIST(object)->summary);
        else
                G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, spec);
}

static void license_list_dispose(GObject *object) {
        LicenseList *list = LICENSE_LIST(object);

        g_cancellable_cancel(list->call);
        g_clear_object(&list->call);
        g_clear_object(&list->bus);
        G_OBJECT_CLASS(license_list_parent_class)->dispose(object);
}

static void license_list_finalize(GObject *object) {
        LicenseList *list = LICENSE_LIST(object);

        g_free(list->next);
        g_free(list->summary);
        G_OBJECT_CLASS(license_list_parent_class)->finalize(object);
}

static void license_list_class_init(LicenseListClass *class) {
        GtkWidgetClass *widget = GTK_WIDGET_CLASS(class);

        g_type_ensure(LICENSE_TYPE);
        G_OBJECT_CLASS(class)->get_property = license_list_get_property;
        G_OBJECT_CLASS(class)->dispose = license_list_dispose;
        G_OBJECT_CLASS(class)->finalize = license_list_finalize;
        properties[PROPERTY_SUMMARY] = g_param_spec_string("summary", NULL, NULL, "",
                G_PARAM_READABLE | G_PARAM_STATIC_STRINGS | G_PARAM_EXPLICIT_NOTIFY);
        g_object_class_install_properties(G_OBJECT_CLASS(class), N_PROPERTIES, properties);

        gtk_widget_class_set_template_from_resource(widget, "/org/licensevault1/Window/list.ui");
        gtk_widget_class_bind_template_child(widget, LicenseList, pages);
        gtk_widget_class_bind_template_child(widget, LicenseList, trouble);
        gtk_widget_class_bind_template_child(widget, LicenseList, scroll);
        gtk_widget_class_bind_template_child(widget, LicenseList, licenses);
        gtk_widget_class_bind_template_callback(widget, on_scrolled);
        gtk_widget_class_bind_template_callback(widget, on_row_setup);
        gtk_widget_class_bind_template_callback(widget, on_row_bind);
}

static void license_list_init(LicenseList *list) {
        list->next = g_strdup("");
        list->summary = g_strdup("");
        gtk_widget_init_template(GTK_WIDGET(list));
}
