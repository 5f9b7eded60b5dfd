/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "application.h"

#include "window.h"

#define APPLICATION_ID "org.licensevault1.Window"

static LicenseWindow *present_window(gpointer application) {
        GtkWindow *window = gtk_application_get_active_window(application);

        while (window && !LICENSE_IS_WINDOW(window))
                window = gtk_window_get_transient_for(window);
        if (!window)
                window = GTK_WINDOW(license_window_new(application));
        gtk_window_present(window);
        return LICENSE_WINDOW(window);
}

static void action_backup_to(GSimpleAction *action, GVariant *parameter, gpointer application) {
        g_autoptr(GFile) file = g_file_new_for_uri(g_variant_get_string(parameter, NULL));

        /* No dialog has asked whether a file may be replaced, so none is. */
        license_window_back_up(present_window(application), file, false);
}

static void action_restore_from(GSimpleAction *action, GVariant *parameter, gpointer application) {
        g_autoptr(GFile) file = g_file_new_for_uri(g_variant_get_string(parameter, NULL));

        license_window_restore(present_window(application), file);
}

static void action_about(GSimpleAction *action, GVariant *parameter, gpointer application) {
        adw_show_about_window(GTK_WINDOW(present_window(application)),
                "application-name", "Licenses",
                "version", PROJECT_VERSION,
                "comments", "Shows what Licensevault keeps for you, backs it up, and brings it back.",
                "license-type", GTK_LICENSE_LGPL_2_1,
                NULL);
}

static void action_quit(GSimpleAction *action, GVariant *parameter, gpointer application) {
        GtkWindow *window = gtk_application_get_active_window(application);

        /* It asks first, where something is under way. */
        if (window)
                gtk_window_close(window);
        else
                g_application_quit(application);
}

static const GActionEntry actions[] = {
        { "backup-to", action_backup_to, "s", NULL, NULL, {} },
        { "restore-from", action_restore_from, "s", NULL, NULL, {} },
        { "about", action_about, NULL, NULL, NULL, {} },
        { "quit", action_quit, NULL, NULL, NULL, {} },
};

static const GOptionEntry options[] = {
        { "backup", 0, 0, G_OPTION_ARG_FILENAME, NULL, "Back up to a new file", "FILE" },
        { "restore", 0, 0, G_OPTION_ARG_FILENAME, NULL, "Restore from a file", "FILE" },
        {},
};

/* Asks the instance that runs, or the one that this becomes. */
static gboolean activate_for_file(GApplication *application, GVariantDict *given, const char *option,
        const char *action) {
        g_autofree char *name = NULL, *uri = NULL;
        g_autoptr(GFile) file = NULL;

        if (!g_variant_dict_lookup(given, option, "^ay", &name))
                return FALSE;

        file = g_file_new_for_commandline_arg(name);
        uri = g_file_get_uri(file);
        g_action_group_activate_action(G_ACTION_GROUP(application), action, g_variant_new_string(uri));
        return TRUE;
}

static int on_local_options(GApplication *application, GVariantDict *given, gpointer data) {
        g_autoptr(GError) error = NULL;

        if (!g_application_register(application, NULL, &error)) {
                g_printerr("%s\n", error->message);
                return 1;
        }
        activate_for_file(application, given, "backup", "backup-to");
        activate_for_file(application, given, "restore", "restore-from");
        return -1;
}

static void on_activate(GApplication *application) {
        present_window(application);
}

AdwApplication *license_application_new(GApplicationFlags flags) {
        AdwApplication *application = adw_application_new(APPLICATION_ID, flags);

        g_set_application_name("Licenses");
        g_application_add_main_option_entries(G_APPLICATION(application), options);
        g_application_set_option_context_summary(G_APPLICATION(application),
                "Shows the licenses that Licensevault keeps for you, backs them up, and brings them back.");
        g_action_map_add_action_entries(G_ACTION_MAP(application), actions, G_N_ELEMENTS(actions), application);
        gtk_application_set_accels_for_action(GTK_APPLICATION(application), "app.quit",
                (const char *[]) { "<Control>q", NULL });
        g_signal_connect(application, "activate", G_CALLBACK(on_activate), NULL);
        g_signal_connect(application, "handle-local-options", G_CALLBACK(on_local_options), NULL);
        return application;
}
