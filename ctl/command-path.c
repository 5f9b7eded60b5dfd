/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "bus.h"
#include "table.h"

/* Where the service keeps the caller's backup, and where it restores from: BackupRestoreProps. */

static const struct {
        const char *word; /* of the command line */
        const char *name; /* on the bus */
} places[] = {
        { "backup", BACKUP_PATH },
        { "restore", RESTORE_PATH },
};

static Status find_place(Ctl *ctl, const char *word, const char **ret_name) {
        for (unsigned i = 0; i < G_N_ELEMENTS(places); i++)
                if (strcmp(word, places[i].word) == 0) {
                        *ret_name = places[i].name;
                        return STATUS_OK;
                }
        return ctl_fail(ctl, STATUS_USAGE, "'%s' is neither 'backup' nor 'restore'.", word);
}

/* paths */

static const Column columns[] = {
        { "FOR", 7, 0 },
        { "FOLDER", 20, 0 },
        { "SET BY", 7, 0 },
};

/* The names of the properties that are set. */
static Status list_set(Ctl *ctl, GPtrArray *names) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *call = NULL, *reply = NULL;
        uint16_t count = 0;
        Status status;

        if ((status = bus_call_new(ctl, BUS_PROPS, "GetPropCount", &call, NULL)) != STATUS_OK ||
            (status = bus_call(ctl, call, NULL, &reply)) != STATUS_OK)
                return status;
        if (sd_bus_message_read(reply, "q", &count) < 0)
                return bus_fail_parse(ctl);

        for (uint16_t i = 0; i < count; i++) {
                __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *property = NULL;
                const char *name;

                if (sd_bus_call_method(ctl->bus, BUS_NAME, ROOT_PATH, BUS_PROPS, "GetPropByIndex", NULL, &property, "q",
                            i) < 0)
                        break; /* another program has just removed one */
                if (sd_bus_message_read(property, "s", &name) < 0)
                        return bus_fail_parse(ctl);
                g_ptr_array_add(names, g_strdup(name));
        }
        return STATUS_OK;
}

Status path_read(Ctl *ctl, const char *name, char **ret) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *call = NULL, *reply = NULL;
        const char *folder;
        Status status;

        if ((status = bus_call_new(ctl, BUS_PROPS, "GetPropByName", &call, "s", name)) != STATUS_OK ||
            (status = bus_call(ctl, call, NULL, &reply)) != STATUS_OK)
                return status;
        if (sd_bus_message_read(reply, "v", "s", &folder) < 0)
                return bus_fail_parse(ctl);
        *ret = g_strdup(folder);
        return STATUS_OK;
}

Status command_paths(Ctl *ctl, char **arguments) {
        g_autoptr(GPtrArray) set = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(Table) table = table_new(columns, G_N_ELEMENTS(columns));
        Status status;

        status = list_set(ctl, set);
        for (unsigned i = 0; status == STATUS_OK && i < G_N_ELEMENTS(places); i++) {
                bool is_set = g_ptr_array_find_with_equal_func(set, places[i].name, g_str_equal, NULL);
                g_autofree char *folder = NULL;

                status = path_read(ctl, places[i].name, &folder);
                if (status != STATUS_OK)
                        break;
                ctl_result(ctl, places[i].word, json_pack("{ss sb}", "folder", folder, "set", is_set));
                table_add(table, places[i].word);
                table_add(table, folder);
                table_add(table, is_set ? "you" : "default");
        }
        if (status != STATUS_OK || ctl->json)
                return status;
        table_print(table);
        return ctl_flush(ctl);
}

/* set-path, unset-path */

/* Who has moved the backups may think that restores follow. */
static Status note_restores(Ctl *ctl) {
        g_autofree char *backups = NULL, *restores = NULL;
        Status status;

        if (ctl->quiet)
                return STATUS_OK;
        if ((status = path_read(ctl, BACKUP_PATH, &backups)) != STATUS_OK ||
            (status = path_read(ctl, RESTORE_PATH, &restores)) != STATUS_OK)
                return status;
        if (g_strcmp0(backups, restores) != 0)
                ctl_note(ctl, "Restores without FILE still read from '%s'; to change that, too: licensevaultctl "
                        "set-path restore '%s'", restores, backups);
        return STATUS_OK;
}

/* The service itself looks when it makes a backup. Of a folder that we may not look into we say nothing. */
static void warn_of_absence(const Ctl *ctl, const char *folder) {
        struct stat st;

        if (stat(folder, &st) < 0 && errno == ENOENT)
                ctl_warn(ctl, "'%s' is not there yet. The service makes no folder but its own.", folder);
}

Status command_set_path(Ctl *ctl, char **arguments) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *call = NULL, *reply = NULL;
        g_autofree char *folder = g_canonicalize_filename(arguments[1], NULL);
        const char *name = NULL;
        Status status;

        if (!*arguments[1])
                return ctl_fail(ctl, STATUS_USAGE, "The name of the folder is empty. For the default: unset-path.");
        if ((status = find_place(ctl, arguments[0], &name)) != STATUS_OK ||
            (status = bus_check_string(ctl, "The folder", folder)) != STATUS_OK ||
            (status = bus_call_new(ctl, BUS_PROPS, "SetProp", &call, "sv", name, "s", folder)) != STATUS_OK)
                return status;

        status = bus_call(ctl, call, NULL, &reply);
        if (status != STATUS_OK)
                return status;
        ctl_result(ctl, arguments[0], json_string(folder));
        ctl_note(ctl, strcmp(arguments[0], "backup") == 0 ?
                "Backups in the folder of the service go to '%s' from now on." :
                "Restores without FILE read from '%s' from now on.", folder);
        warn_of_absence(ctl, folder);
        return strcmp(arguments[0], "backup") == 0 ? note_restores(ctl) : STATUS_OK;
}

Status command_unset_path(Ctl *ctl, char **arguments) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *call = NULL, *reply = NULL;
        const char *name = NULL;
        Status status;

        if (arguments[0] && (status = find_place(ctl, arguments[0], &name)) != STATUS_OK)
                return status;
        status = bus_call_new(ctl, BUS_PROPS, name ? "RemoveProp" : "RemoveAllProps", &call, name ? "s" : NULL, name);
        if (status != STATUS_OK)
                return status;
        ctl->result = json_object();
        status = bus_call(ctl, call, NULL, &reply);
        if (status != STATUS_OK)
                return status;
        ctl_note(ctl, name ? "The folder is the default one again." : "Both folders are the default ones again.");
        return g_strcmp0(arguments[0], "backup") == 0 ? note_restores(ctl) : STATUS_OK;
}
