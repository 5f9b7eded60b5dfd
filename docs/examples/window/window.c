/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "window.h"

#include <unistd.h>

#include "call.h"
#include "file.h"
#include "job.h"
#include "license.h"
#include "list.h"
#include "words.h"

struct _LicenseWindow {
        AdwApplicationWindow parent;

        LicenseList *list;
        AdwToastOverlay *toasts;
        GtkRevealer *job_bar;
        GtkLabel *job_words;
        GtkProgressBar *job_progress;

        GDBusConnection *bus;         /* NULL while there is none */
        gulong bus_closed;
        guint watch;
        GtkFileChooserNative *chooser; /* while it is open */

        /* From the moment a file is chosen until there is nothing more to say or ask about it. */
        bool busy;
        bool backup, may_replace;
        GFile *chosen;
        BackupFile *file;             /* once it is open */
        GDBusConnection *job_bus;     /* that it began on; it may be lost meanwhile, and then each call says so */
        Job *job;                     /* while it runs */
        bool close_after;
};

G_DEFINE_FINAL_TYPE(LicenseWindow, license_window, ADW_TYPE_APPLICATION_WINDOW)

static void enable(LicenseWindow *window, const char *name, bool enabled) {
        gtk_widget_action_set_enabled(GTK_WIDGET(window), name, enabled);
}

static void update_actions(LicenseWindow *window) {
        bool ready = window->bus && !window->busy && !window->chooser && license_list_is_good(window->list);

        enable(window, "win.backup", ready && !license_list_is_empty(window->list));
        enable(window, "win.restore", ready);
        enable(window, "win.cancel", window->job && !window->job->cancel_wanted);
}

static void on_summary(LicenseWindow *window) {
        /* Also while the template is being made. */
        if (window->list)
                update_actions(window);
}

/* What is said once something has ended. */

static void show_toast(LicenseWindow *window, const char *words) {
        /* A toast reads markup, and file names may look like it. */
        g_autofree char *text = g_markup_escape_text(words, -1);

        adw_toast_overlay_add_toast(window->toasts, adw_toast_new(text));
}

static GtkWidget *new_names(const GPtrArray *names, guint64 n) {
        GtkWidget *box = gtk_list_box_new(), *scrolled = gtk_scrolled_window_new();

        gtk_list_box_set_selection_mode(GTK_LIST_BOX(box), GTK_SELECTION_NONE);
        gtk_widget_add_css_class(box, "boxed-list");
        gtk_widget_set_margin_start(box, 3);
        gtk_widget_set_margin_end(box, 3);
        gtk_widget_set_margin_top(box, 3);
        gtk_widget_set_margin_bottom(box, 3);
        for (guint i = 0; i <= names->len; i++) {
                g_autofree char *rest = i == names->len ? text_number(n - MIN(n, names->len)) : NULL;
                g_autofree char *more = rest ? g_strdup_printf("and %s more", rest) : NULL;

                if (i == names->len && n <= names->len)
                        break;
                GtkWidget *row = adw_action_row_new();
                adw_preferences_row_set_use_markup(ADW_PREFERENCES_ROW(row), FALSE);
                adw_preferences_row_set_title(ADW_PREFERENCES_ROW(row), more ?: names->pdata[i]);
                adw_action_row_set_title_lines(ADW_ACTION_ROW(row), 2);
                gtk_list_box_append(GTK_LIST_BOX(box), row);
        }

        gtk_scrolled_window_set_policy(GTK_SCROLLED_WINDOW(scrolled), GTK_POLICY_NEVER, GTK_POLICY_AUTOMATIC);
        gtk_scrolled_window_set_max_content_height(GTK_SCROLLED_WINDOW(scrolled), 240);
        gtk_scrolled_window_set_propagate_natural_height(GTK_SCROLLED_WINDOW(scrolled), TRUE);
        gtk_scrolled_window_set_child(GTK_SCROLLED_WINDOW(scrolled), box);
        return scrolled;
}

/* names (may be NULL): a list below the words, of n in all. */
static void show_words(LicenseWindow *window, const char *heading, const char *words, const GPtrArray *names,
        guint64 n) {
        GtkWidget *dialog = adw_message_dialog_new(GTK_WINDOW(window), heading, words);

        adw_message_dialog_add_response(ADW_MESSAGE_DIALOG(dialog), "close", "_Close");
        adw_message_dialog_set_default_response(ADW_MESSAGE_DIALOG(dialog), "close");
        adw_message_dialog_set_close_response(ADW_MESSAGE_DIALOG(dialog), "close");
        if (names && n > 0)
                adw_message_dialog_set_extra_child(ADW_MESSAGE_DIALOG(dialog), new_names(names, n));
        gtk_window_present(GTK_WINDOW(dialog));
}

static void set_idle(LicenseWindow *window) {
        gtk_revealer_set_reveal_child(window->job_bar, FALSE);
        g_clear_object(&window->job);
        g_clear_object(&window->job_bus);
        g_clear_object(&window->chosen);
        g_clear_pointer(&window->file, backup_file_free);
        window->busy = false;
        update_actions(window);
        if (window->close_after)
                gtk_window_destroy(GTK_WINDOW(window));
}

static void report_failure(LicenseWindow *window, const char *error, const char *message) {
        const char *what = window->backup ? "Backup" : "Restore";
        const char *name = window->file ? window->file->name : NULL;
        g_autofree char *rest = !window->backup ? g_strdup("Your licenses are as they were.") :
                !name ? NULL :
                g_strdup_printf(window->file->replace ? "“%s” is as it was." : "“%s” was not written.", name);

        if (g_strcmp0(error, ERROR_CANCELED) == 0) {
                g_autofree char *words = g_strdup_printf("%s canceled. %s", what, rest ?: "");
                show_toast(window, words);
        } else {
                g_autofree char *heading = g_strdup_printf("The %s Failed", what);
                g_autofree char *words = g_strdup_printf("%s%s%s", message, rest ? "\n\n" : "", rest ?: "");
                show_words(window, heading, words, NULL, 0);
        }
}

static void report_backup(LicenseWindow *window) {
        guint64 restricted = job_count(window->job, "restricted");
        g_autofree char *heading = words_backup_heading(window->job);
        g_autofree char *words = words_backup(window->job, window->file->name);

        if (restricted > 0)
                show_words(window, heading, words, window->job->named, restricted);
        else
                show_toast(window, words);
}

static void report_restore(LicenseWindow *window) {
        g_autofree char *heading = words_restore_heading(window->job), *words = words_restore(window->job);

        show_words(window, heading, words, window->job->named, job_count(window->job, "conflicts"));
        license_list_load(window->list, window->job_bus);
}

/* A backup or a restore, from its file to its report. Each callback has a reference of the window. */

static void on_progress(LicenseWindow *window) {
        const Job *job = window->job;
        g_autofree char *words = words_progress(job, window->backup, window->file->name);

        gtk_label_set_text(window->job_words, words);
        if (job->total > 0)
                gtk_progress_bar_set_fraction(window->job_progress, (double)job->completed / (double)job->total);
        update_actions(window);
}

static void on_job_ended(LicenseWindow *window);

static void follow(LicenseWindow *window, Job *job) {
        g_clear_object(&window->job);
        window->job = job;
        g_signal_connect_object(job, "progress", G_CALLBACK(on_progress), window, G_CONNECT_SWAPPED);
        g_signal_connect_object(job, "ended", G_CALLBACK(on_job_ended), window, G_CONNECT_SWAPPED);
        gtk_progress_bar_set_fraction(window->job_progress, 0);
        if (window->close_after)
                job_cancel(job);
        on_progress(window);
        gtk_revealer_set_reveal_child(window->job_bar, TRUE);
}

static void on_consent(AdwMessageDialog *dialog, const char *response, gpointer data) {
        LicenseWindow *window = data;

        if (!g_str_equal(response, "agree")) {
                show_toast(window, "Nothing was restored.");
                set_idle(window);
                return;
        }

        /* The service read from our descriptor, and moved its offset. */
        if (lseek(window->file->fd, 0, SEEK_SET) < 0) {
                report_failure(window, NULL, "The backup cannot be read a second time.");
                set_idle(window);
                return;
        }
        follow(window, job_new_restore(window->job_bus, window->file->fd, RESTORE_AGREED));
}

static void ask_consent(LicenseWindow *window) {
        g_autofree char *words = g_strdup_printf("This backup was made by %s. Bring its licenses over to this computer "
                "if they are yours. What was spent there stays spent, and what was revoked stays revoked.",
                window->job->origin ?: "someone on another computer");
        GtkWidget *dialog = adw_message_dialog_new(GTK_WINDOW(window), "Bring Over Licenses?", words);

        adw_message_dialog_add_responses(ADW_MESSAGE_DIALOG(dialog), "cancel", "_Cancel", "agree", "_Bring Over", NULL);
        adw_message_dialog_set_response_appearance(ADW_MESSAGE_DIALOG(dialog), "agree", ADW_RESPONSE_SUGGESTED);
        adw_message_dialog_set_close_response(ADW_MESSAGE_DIALOG(dialog), "cancel");
        g_signal_connect_object(dialog, "response", G_CALLBACK(on_consent), window, 0);
        gtk_revealer_set_reveal_child(window->job_bar, FALSE);
        gtk_window_present(GTK_WINDOW(dialog));
}

static void on_file_ended(GObject *source, GAsyncResult *result, gpointer data) {
        g_autoptr(LicenseWindow) window = data;
        g_autoptr(GError) error = NULL;

        if (window->job->error)
                report_failure(window, window->job->error, window->job->message);
        else if (!backup_file_end_finish(result, &error))
                report_failure(window, NULL, error->message);
        else
                report_backup(window);
        set_idle(window);
}

static void on_job_ended(LicenseWindow *window) {
        const Job *job = window->job;

        if (window->backup) {
                backup_file_end(window->file, !job->error, on_file_ended, g_object_ref(window));
                return;
        }

        if (g_strcmp0(job->error, ERROR_NEEDS_CONSENT) == 0 && !window->close_after) {
                ask_consent(window);
                return;
        }
        if (job->error)
                report_failure(window, job->error, job->message);
        else
                report_restore(window);
        set_idle(window);
}

static void on_file_ready(GObject *source, GAsyncResult *result, gpointer data) {
        g_autoptr(LicenseWindow) window = data;
        g_autoptr(GError) error = NULL;

        window->file = backup_file_finish(result, &error);
        if (!window->file) {
                report_failure(window, NULL, error->message);
                set_idle(window);
        } else if (window->backup)
                follow(window, job_new_backup(window->job_bus, window->file->fd));
        else
                follow(window, job_new_restore(window->job_bus, window->file->fd, 0));
}

static void begin(LicenseWindow *window) {
        window->job_bus = g_object_ref(window->bus);
        if (window->backup)
                backup_file_create(window->chosen, window->may_replace, on_file_ready, g_object_ref(window));
        else
                backup_file_open(window->chosen, on_file_ready, g_object_ref(window));
}

static void choose(LicenseWindow *window, GFile *file, bool backup, bool may_replace) {
        if (window->busy) {
                show_toast(window, "Another backup or restore is under way. Try again when it has ended.");
                return;
        }

        window->busy = true;
        window->backup = backup;
        window->may_replace = may_replace;
        window->chosen = g_object_ref(file);
        update_actions(window);
        /* Without a bus it begins once there is one. */
        if (window->bus)
                begin(window);
}

void license_window_back_up(LicenseWindow *window, GFile *file, bool may_replace) {
        choose(window, file, true, may_replace);
}

void license_window_restore(LicenseWindow *window, GFile *file) {
        choose(window, file, false, false);
}

/* The dialog for a file asks by itself before one is replaced. */

static void on_chosen(GtkNativeDialog *dialog, int response, gpointer data) {
        LicenseWindow *window = data;
        g_autoptr(GFile) file = gtk_file_chooser_get_file(GTK_FILE_CHOOSER(dialog));
        bool backup = gtk_file_chooser_get_action(GTK_FILE_CHOOSER(dialog)) == GTK_FILE_CHOOSER_ACTION_SAVE;

        gtk_native_dialog_destroy(dialog);
        g_clear_object(&window->chooser);
        update_actions(window);
        if (response == GTK_RESPONSE_ACCEPT && file)
                choose(window, file, backup, backup);
}

static void ask_file(LicenseWindow *window, const char *title, GtkFileChooserAction action, const char *accept) {
        g_autoptr(GtkFileFilter) filter = gtk_file_filter_new(), all = gtk_file_filter_new();
        GtkFileChooser *chooser;

        window->chooser = gtk_file_chooser_native_new(title, GTK_WINDOW(window), action, accept, "_Cancel");
        chooser = GTK_FILE_CHOOSER(window->chooser);
        gtk_file_filter_set_name(filter, "Backups");
        gtk_file_filter_add_pattern(filter, "*.tar");
        gtk_file_chooser_add_filter(chooser, filter);
        gtk_file_filter_set_name(all, "All Files");
        gtk_file_filter_add_pattern(all, "*");
        gtk_file_chooser_add_filter(chooser, all);
        if (action == GTK_FILE_CHOOSER_ACTION_SAVE) {
                g_autoptr(GDateTime) now = g_date_time_new_now_local();
                g_autofree char *name = g_date_time_format(now, "licenses-%Y-%m-%d.tar");
                gtk_file_chooser_set_current_name(chooser, name);
        }

        g_signal_connect_object(chooser, "response", G_CALLBACK(on_chosen), window, 0);
        gtk_native_dialog_set_modal(GTK_NATIVE_DIALOG(chooser), TRUE);
        gtk_native_dialog_show(GTK_NATIVE_DIALOG(chooser));
        update_actions(window);
}

static void action_backup(GtkWidget *widget, const char *name, GVariant *parameter) {
        ask_file(LICENSE_WINDOW(widget), "Back Up Licenses", GTK_FILE_CHOOSER_ACTION_SAVE, "_Back Up");
}

static void action_restore(GtkWidget *widget, const char *name, GVariant *parameter) {
        ask_file(LICENSE_WINDOW(widget), "Restore Licenses", GTK_FILE_CHOOSER_ACTION_OPEN, "_Restore");
}

static void action_cancel(GtkWidget *widget, const char *name, GVariant *parameter) {
        LicenseWindow *window = LICENSE_WINDOW(widget);

        if (window->job) {
                job_cancel(window->job);
                on_progress(window);
        }
}

/* The service, and the bus to it. */

static void on_owner(GDBusConnection *bus, const char *name, const char *owner, gpointer data) {
        LicenseWindow *window = data;

        license_list_load(window->list, bus);
}

static void on_no_owner(GDBusConnection *bus, const char *name, gpointer data) {
        LicenseWindow *window = data;

        license_list_show_missing(window->list);
}

static void disconnect_bus(LicenseWindow *window) {
        if (window->watch > 0)
                g_bus_unwatch_name(window->watch);
        window->watch = 0;
        if (window->bus)
                g_clear_signal_handler(&window->bus_closed, window->bus);
        g_clear_object(&window->bus);
}

static void show_no_bus(LicenseWindow *window, const char *why) {
        license_list_show_trouble(window->list, "The System Bus Cannot Be Reached", why);
}

static void on_bus_closed(GDBusConnection *bus, gboolean by_peer, GError *error, gpointer data) {
        LicenseWindow *window = data;

        disconnect_bus(window);
        show_no_bus(window, error ? error->message : "The connection was closed.");
}

static void on_bus(GObject *source, GAsyncResult *result, gpointer data) {
        g_autoptr(LicenseWindow) window = data;
        g_autoptr(GError) error = NULL;

        window->bus = g_dbus_connection_new_for_address_finish(result, &error);
        if (!window->bus) {
                show_no_bus(window, error->message);
                if (window->busy) {
                        report_failure(window, NULL, error->message);
                        set_idle(window);
                }
                return;
        }

        window->bus_closed = g_signal_connect_object(window->bus, "closed", G_CALLBACK(on_bus_closed), window, 0);
        /* Starts the service, where it does not run and the system can start it. */
        window->watch = g_bus_watch_name_on_connection(window->bus, SERVICE_NAME, G_BUS_NAME_WATCHER_FLAGS_AUTO_START,
                on_owner, on_no_owner, window, NULL);
        if (window->busy)
                begin(window);
}

/* g_bus_get() shares its connection with who knows whom, and ends the program with it. */
static void connect_bus(LicenseWindow *window) {
        g_autoptr(GError) error = NULL;
        g_autofree char *address = g_dbus_address_get_for_bus_sync(G_BUS_TYPE_SYSTEM, NULL, &error);

        if (!address) {
                show_no_bus(window, error->message);
                return;
        }
        g_dbus_connection_new_for_address(address, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT |
                G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION, NULL, NULL, on_bus, g_object_ref(window));
}

static void action_refresh(GtkWidget *widget, const char *name, GVariant *parameter) {
        LicenseWindow *window = LICENSE_WINDOW(widget);

        if (window->bus)
                license_list_load(window->list, window->bus);
        else
                connect_bus(window);
}

/* Who was sent to an app to get a license, and comes back, wants to see it. */
static void on_active(GtkWindow *widget) {
        LicenseWindow *window = LICENSE_WINDOW(widget);

        if (gtk_window_is_active(widget) && window->bus && license_list_is_empty(window->list))
                license_list_load(window->list, window->bus);
}

GDBusConnection *license_window_bus(LicenseWindow *window) {
        return window->bus;
}

/* The window itself. */

static void on_stop(AdwMessageDialog *dialog, const char *response, gpointer data) {
        LicenseWindow *window = data;

        if (!g_str_equal(response, "stop"))
                return;
        window->close_after = true;
        if (window->job && !window->job->ended)
                job_cancel(window->job);
        else if (!window->busy)
                gtk_window_destroy(GTK_WINDOW(window));
}

/* What was written half would stay there. */
static gboolean license_window_close_request(GtkWindow *widget) {
        LicenseWindow *window = LICENSE_WINDOW(widget);
        GtkWidget *dialog;

        if (!window->busy)
                return GTK_WINDOW_CLASS(license_window_parent_class)->close_request(widget);

        dialog = adw_message_dialog_new(widget, window->backup ? "Stop the Backup?" : "Stop the Restore?",
                window->backup ? "The backup is not complete yet. If you stop it, nothing is written." :
                        "If you stop now, your licenses stay as they are.");
        adw_message_dialog_add_responses(ADW_MESSAGE_DIALOG(dialog), "continue", "_Continue", "stop", "_Stop", NULL);
        adw_message_dialog_set_response_appearance(ADW_MESSAGE_DIALOG(dialog), "stop", ADW_RESPONSE_DESTRUCTIVE);
        adw_message_dialog_set_default_response(ADW_MESSAGE_DIALOG(dialog), "continue");
        adw_message_dialog_set_close_response(ADW_MESSAGE_DIALOG(dialog), "continue");
        g_signal_connect_object(dialog, "response", G_CALLBACK(on_stop), window, 0);
        gtk_window_present(GTK_WINDOW(dialog));
        return TRUE;
}

static void license_window_dispose(GObject *object) {
        LicenseWindow *window = LICENSE_WINDOW(object);

        disconnect_bus(window);
        g_clear_object(&window->job);
        g_clear_object(&window->job_bus);
        g_clear_object(&window->chosen);
        g_clear_object(&window->chooser);
        g_clear_pointer(&window->file, backup_file_free);
        G_OBJECT_CLASS(license_window_parent_class)->dispose(object);
}

static void license_window_class_init(LicenseWindowClass *class) {
        GtkWidgetClass *widget = GTK_WIDGET_CLASS(class);

        g_type_ensure(LICENSE_LIST_TYPE);
        G_OBJECT_CLASS(class)->dispose = license_window_dispose;
        GTK_WINDOW_CLASS(class)->close_request = license_window_close_request;

        gtk_widget_class_set_template_from_resource(widget, "/org/licensevault1/Window/window.ui");
        gtk_widget_class_bind_template_child(widget, LicenseWindow, list);
        gtk_widget_class_bind_template_child(widget, LicenseWindow, toasts);
        gtk_widget_class_bind_template_child(widget, LicenseWindow, job_bar);
        gtk_widget_class_bind_template_child(widget, LicenseWindow, job_words);
        gtk_widget_class_bind_template_child(widget, LicenseWindow, job_progress);
        gtk_widget_class_bind_template_callback(widget, on_active);
        gtk_widget_class_bind_template_callback(widget, on_summary);

        gtk_widget_class_install_action(widget, "win.backup", NULL, action_backup);
        gtk_widget_class_install_action(widget, "win.restore", NULL, action_restore);
        gtk_widget_class_install_action(widget, "win.cancel", NULL, action_cancel);
        gtk_widget_class_install_action(widget, "win.refresh", NULL, action_refresh);
        gtk_widget_class_add_binding_action(widget, GDK_KEY_F5, 0, "win.refresh", NULL);
        gtk_widget_class_add_binding_action(widget, GDK_KEY_r, GDK_CONTROL_MASK, "win.refresh", NULL);
        gtk_widget_class_add_binding_action(widget, GDK_KEY_w, GDK_CONTROL_MASK, "window.close", NULL);
}

static void license_window_init(LicenseWindow *window) {
        gtk_widget_init_template(GTK_WIDGET(window));
        update_actions(window);
        connect_bus(window);
}

LicenseWindow *license_window_new(GtkApplication *application) {
        return g_object_new(LICENSE_WINDOW_TYPE, "application", application, NULL);
}
