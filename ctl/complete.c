/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "command.h"

#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include "bus.h"
#include "job.h"
#include "json.h"
#include "text.h"

/* As many as anybody would look through; a store may have a million. */
#define LICENSES_MAX 200U
#define CALL_USEC (2 * G_USEC_PER_SEC)

/* A shell may show words as they are: one that would steer a terminal, or has a line break, is not for Tab. */
static void offer(const char *prefix, const char *word, const char *description) {
        g_autofree char *safe = text_safe(description ?: ""), *safe_word = text_safe(word);

        if (g_str_has_prefix(word, prefix) && strcmp(word, safe_word) == 0)
                printf("%s\t%s\n", word, safe);
}

/* What the service has */

static void offer_license(const char *prefix, const char *id, sd_bus_message *reply) {
        json_auto_t *license = NULL;

        if (json_read_dictionary(reply, &license) >= 0)
                offer(prefix, id, json_get_string(license, "Title"));
}

/* They come in the order of their ids: those with the prefix follow upon the prefix. */
static void offer_licenses(Ctl *ctl, const char *prefix) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *reply = NULL, *exact = NULL;
        const char *id;

        if (*prefix && sd_bus_call_method(ctl->bus, BUS_NAME, ROOT_PATH, BUS_STORE, "GetLicense", NULL, &exact, "s",
                    prefix) >= 0 && sd_bus_message_skip(exact, "ay") >= 0)
                offer_license(prefix, prefix, exact);
        if (sd_bus_call_method(ctl->bus, BUS_NAME, ROOT_PATH, BUS_STORE, "EnumerateLicenses", NULL, &reply, "a{sv}su",
                    0, prefix, LICENSES_MAX) < 0 ||
            sd_bus_message_enter_container(reply, 'a', "(sa{sv})") < 0)
                return;
        while (sd_bus_message_enter_container(reply, 'r', "sa{sv}") > 0 && sd_bus_message_read(reply, "s", &id) > 0) {
                offer_license(prefix, id, reply);
                if (sd_bus_message_exit_container(reply) < 0)
                        return;
        }
}

static void offer_rights(Ctl *ctl, const char *prefix, const char *license) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *reply = NULL;
        json_auto_t *properties = NULL;
        json_t *remaining;
        const char *right;

        if (sd_bus_call_method(ctl->bus, BUS_NAME, ROOT_PATH, BUS_STORE, "OpenLicense", NULL, &reply, "s",
                    license) < 0 ||
            sd_bus_message_skip(reply, "h") < 0 || json_read_dictionary(reply, &properties) < 0)
                return;
        json_object_foreach(json_object_get(properties, "Counters"), right, remaining) {
                g_autofree char *left = g_strdup_printf("%" JSON_INTEGER_FORMAT " left", json_integer_value(remaining));
                offer(prefix, right, left);
        }
}

static void offer_jobs(Ctl *ctl, const char *prefix) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *reply = NULL;
        const char *path, *kind, *state;
        uint32_t owner;

        if (sd_bus_call_method(ctl->bus, BUS_NAME, ROOT_PATH, BUS_MANAGER, "ListJobs", NULL, &reply, "") < 0 ||
            sd_bus_message_enter_container(reply, 'a', "(osus)") < 0)
                return;
        while (sd_bus_message_read(reply, "(osus)", &path, &kind, &owner, &state) > 0) {
                g_autofree char *description = g_strdup_printf("%s, %s", kind, state);
                offer(prefix, job_id(path), description);
        }
}

static void offer_owners(Ctl *ctl, const char *prefix) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *reply = NULL;
        const char *name, *account;
        uint64_t licenses, bytes;
        uint32_t uid;

        if (sd_bus_call_method(ctl->bus, BUS_NAME, ROOT_PATH, BUS_MANAGER, "ListOwners", NULL, &reply, "uu", 0,
                    0) < 0 ||
            sd_bus_message_enter_container(reply, 'a', "(ustts)") < 0)
                return;
        while (sd_bus_message_read(reply, "(ustts)", &uid, &name, &licenses, &bytes, &account) > 0) {
                g_autofree char *number = g_strdup_printf("%" PRIu32, uid);
                offer(prefix, *name ? name : number, account);
        }
}

static void offer_of_service(Ctl *ctl, Argument kind, const char *prefix, const char *before) {
        if (sd_bus_open_system(&ctl->bus) < 0)
                return;
        /* Who presses Tab waits for nobody. */
        sd_bus_set_method_call_timeout(ctl->bus, CALL_USEC);
        if (kind == ARGUMENT_LICENSE)
                offer_licenses(ctl, prefix);
        else if (kind == ARGUMENT_RIGHT)
                offer_rights(ctl, prefix, before);
        else if (kind == ARGUMENT_JOB)
                offer_jobs(ctl, prefix);
        else
                offer_owners(ctl, prefix);
}

/* What this machine has */

static void offer_users(const char *prefix) {
        const struct passwd *user;

        setpwent();
        while ((user = getpwent()))
                offer(prefix, user->pw_name, user->pw_gecos);
        endpwent();
}

static void offer_options(const GOptionEntry *options, const char *prefix) {
        for (; options && options->long_name; options++)
                if (*options->long_name) {
                        g_autofree char *word = g_strdup_printf("--%s", options->long_name);
                        offer(prefix, word, options->description);
                }
}

/* Answers for one kind. before is the argument in front of it. */
static void offer_kind(Ctl *ctl, Argument kind, const char *prefix, const char *before, const Command *commands,
        unsigned n) {
        if (kind == ARGUMENT_FILE || kind == ARGUMENT_FOLDER) {
                puts(kind == ARGUMENT_FILE ? "files" : "folders");
                return;
        }

        puts("words");
        switch (kind) {
        case ARGUMENT_COMMAND:
                for (unsigned i = 0; i < n; i++)
                        offer(prefix, commands[i].name, commands[i].summary);
                break;
        case ARGUMENT_PLACE:
                offer(prefix, "backup", "Where backups go");
                offer(prefix, "restore", "Where restores read from");
                break;
        case ARGUMENT_BOOLEAN:
                offer(prefix, "yes", NULL);
                offer(prefix, "no", NULL);
                break;
        case ARGUMENT_USER:
                offer_users(prefix);
                break;
        case ARGUMENT_LICENSE:
        case ARGUMENT_RIGHT:
        case ARGUMENT_JOB:
        case ARGUMENT_OWNER:
                offer_of_service(ctl, kind, prefix, before);
                break;
        default:
                break;
        }
}

/* What the value of an option is: its name in --help says so. */
static Argument value_kind(const GOptionEntry *option) {
        static const struct {
                const char *name;
                Argument kind;
        } kinds[] = {
                { "FILE", ARGUMENT_FILE },
                { "FOLDER", ARGUMENT_FOLDER },
                { "USER", ARGUMENT_USER },
                { "NAME", ARGUMENT_USER }, /* in a backup: most of them are here, too */
                { "yes|no", ARGUMENT_BOOLEAN },
        };

        for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++)
                if (g_strcmp0(option->arg_description, kinds[i].name) == 0)
                        return kinds[i].kind;
        return ARGUMENT_OTHER;
}

/* The option that a word names, where it wants a value in the word that follows. */
static const GOptionEntry *find_option(const GOptionEntry *options, const char *word) {
        for (; options && options->long_name; options++)
                if (options->arg != G_OPTION_ARG_NONE && *options->long_name &&
                    ((g_str_has_prefix(word, "--") && strcmp(word + 2, options->long_name) == 0) ||
                            (word[0] == '-' && options->short_name && word[1] == options->short_name && !word[2])))
                        return options;
        return NULL;
}

static const Command *find_command(const Command *commands, unsigned n, const char *name) {
        for (unsigned i = 0; i < n; i++)
                if (strcmp(commands[i].name, name) == 0)
                        return &commands[i];
        return NULL;
}

Status complete(Ctl *ctl, const Command *commands, unsigned n_commands, const GOptionEntry *global, char **words) {
        const char *before = "", *last = "";
        const GOptionEntry *option = NULL;
        const Command *command = NULL;
        bool only_arguments = false;
        unsigned n_arguments = 0;

        for (; *words; words++) {
                last = *words;
                if (!words[1])
                        break;
                if (option)
                        option = NULL; /* this is its value */
                else if (!only_arguments && strcmp(last, "--") == 0)
                        only_arguments = true;
                else if (!only_arguments && last[0] == '-' && last[1])
                        option = command ? find_option(command->options, last) : NULL;
                else if (command) {
                        before = last;
                        n_arguments++;
                } else {
                        command = find_command(commands, n_commands, last);
                        if (!command)
                                return STATUS_OK;
                }
        }

        if (option)
                offer_kind(ctl, value_kind(option), last, before, commands, n_commands);
        else if (!only_arguments && last[0] == '-') {
                puts("words");
                offer_options(command ? command->options : NULL, last);
                offer_options(global, last);
        } else if (!command)
                offer_kind(ctl, ARGUMENT_COMMAND, last, before, commands, n_commands);
        else if (n_arguments < command->maximum)
                offer_kind(ctl, command->kinds[MIN(n_arguments, G_N_ELEMENTS(command->kinds) - 1)], last, before,
                        commands, n_commands);
        else
                puts("words");
        return ctl_flush(ctl);
}
