/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define COUNT_MANY UINT_MAX

static const struct Command {
        const char *name;
        const char *arguments;
        unsigned minimum, maximum; /* how many arguments */
        const GOptionEntry *options;
        CommandRun run;
        const char *summary;
        const char *help;
} commands[] = {
        { "add", "FILE…", 1, COUNT_MANY, add_options, command_add,
                "Store license documents",
                "Stores license documents and prints their ids, one on each line. FILE can be '-' for\n"
                "standard input. A Readium LCP license (.lcpl) says itself what it is; any other document\n"
                "needs --id.\n"
                "\n"
                "Several files go to the service in batches of at most 1,000 documents and 16 MiB. Of a\n"
                "batch, all are stored or none. At the first failure nothing more is sent.\n"
                "\n"
                "With --json: {\"licenses\": [id, …]}, the ids in the order of the files." },
        { "list", NULL, 0, 0, NULL, command_list,
                "List the licenses",
                "On a terminal the list is a table. Elsewhere each license is one line of id, title,\n"
                "issuer, valid until and counters, with a tab between them.\n"
                "\n"
                "With --json: one object on each line, with the properties of the license under the\n"
                "names that they have on D-Bus: LicenseId, KeyId, Title, Issuer, MediaType, NotBefore\n"
                "and NotAfter (Unix seconds), AllowBackup, Counters {right: uses left, …}. What is not\n"
                "set is absent." },
        { "get", "ID", 1, 1, get_options, command_get,
                "Print or save a license document",
                "Writes the document, byte for byte, to standard output or to a file.\n"
                "\n"
                "With --json: the properties, as in list --json; the document goes to --output alone." },
        { "remove", "ID…", 1, COUNT_MANY, NULL, command_remove,
                "Delete licenses",
                "Deletes licenses. What was spent of their counters stays known: storing such a license\n"
                "again does not refill it.\n"
                "\n"
                "With --json: {\"licenses\": [id, …]}, the ids that were deleted." },
        { "revoke", "ID…", 1, COUNT_MANY, NULL, command_revoke,
                "Delete licenses for good",
                "Deletes licenses for good: they cannot be stored or restored again.\n"
                "\n"
                "With --json: {\"licenses\": [id, …]}, the ids that were revoked." },
        { "backup", NULL, 0, 0, backup_options, command_backup,
                "Back up all licenses",
                "Backs up all licenses: to the folder of the service, or to a file of yours. The backup\n"
                "is a tar archive that any archive manager opens. A file is read back and verified\n"
                "before it takes its name; where that fails, nothing is left behind. Ctrl-C cancels.\n"
                "\n"
                "--folder is for backups that are made again and again: each gets a name of its own,\n"
                "licenses-20240131T235959Z.tar by the time in UTC, and is read once more\n"
                "before it gets that name and --keep removes an older one.\n"
                "\n"
                "--all-users and --owner are for root, and for whom polkit lets.\n"
                "\n"
                "With --json: {\"job\": path, \"licenses\": n, \"restricted\": n, \"bytes\": n,\n"
                "\"verified\": bool}, with \"output\" where it went to a file, \"removed\": [name, …] where\n"
                "--keep was given, and, where licenses may not be backed up, the first 1,000 of them\n"
                "as \"not_backed_up\":\n"
                "[{LicenseId, KeyId, Title}, …]." },
        { "export", "FILE", 1, 1, export_options, command_export,
                "Copy the service's backup to a file",
                "Copies the backup that 'licensevaultctl backup' made in the folder of the service to a\n"
                "file. FILE can be '-' for standard output.\n"
                "\n"
                "With --json: {\"output\": file, \"bytes\": n}." },
        { "restore", "[FILE|-]", 0, 1, restore_options, command_restore,
                "Restore licenses from a backup",
                "Merges a backup into your licenses: FILE, '-' for standard input, or without either the\n"
                "backup in the folder of the service. All of it is read and proved first; where anything\n"
                "is wrong, nothing is changed. No counter rises, what was revoked stays so, and the newer\n"
                "of two documents stays. Ctrl-C cancels.\n"
                "\n"
                "A backup that another machine or user made needs your consent: on a terminal you are\n"
                "asked (not where the backup comes from standard input), elsewhere give it with --yes.\n"
                "\n"
                "With --json: {\"job\": path, \"origin\": text, \"restored\": n, \"unchanged\": n,\n"
                "\"newer_kept\": n, \"conflicts\": n, \"revoked\": n, \"skipped\": n,\n"
                "\"skipped_users\": [name, …]}, and,\n"
                "where there are conflicts, the first 1,000 as \"in_conflict\":\n"
                "[{LicenseId, KeyId, Title}, …]." },
        { "verify", "FILE|-", 1, 1, NULL, command_verify,
                "Tell whether a backup is whole",
                "Reads all of a backup, from FILE or with '-' from standard input, and tells whether it is\n"
                "whole and undamaged. Needs no service, and changes nothing. A document in it may\n"
                "have 16 MiB; a service takes 1 MiB unless it is set to take more.\n"
                "\n"
                "With --json: {\"whole\": true, \"licenses\": n, \"restricted\": n, \"damaged\": n, \"bytes\": n,\n"
                "\"origin\": {software, created, host, machine, all_users, owner: {name, uid}}}." },
        { "inspect", "FILE|-", 1, 1, NULL, command_inspect,
                "Show what is in a backup",
                "Shows where a backup comes from, which ids it knows as revoked or as not to be backed\n"
                "up, and its licenses. Needs no service, and changes nothing. It shows them while it\n"
                "reads; whether they are the truth, the last line and the exit code tell. On a terminal\n"
                "there are two tables. Elsewhere each row is one line of id, title, issuer, valid until,\n"
                "counters, state ('license', 'revoked DATE' or 'may not be backed up') and, in a backup\n"
                "of all users, user, with a tab between them. A document may have 16 MiB.\n"
                "\n"
                "With --json: one object on each line, whose first member tells what it is: {\"origin\":\n"
                "{as of verify, licenses, restricted, damaged}}, then {\"revoked\": {LicenseId, Generation,\n"
                "Revoked, User}} and {\"restricted\": {LicenseId, Generation, User}}, then {\"license\": {as\n"
                "of list, Entry, Size, Generation, User}}, and at the end {\"whole\": true, \"licenses\": n,\n"
                "\"restricted\": n, \"damaged\": n, \"bytes\": n}. Without that last line the others prove\n"
                "nothing." },
        { "owners", NULL, 0, 0, NULL, command_owners,
                "List whose licenses there are",
                "For root. Lists the users that the service has licenses of, and whether their account is\n"
                "'here' or 'gone': then the number that they were stored under is unused, or somebody\n"
                "else's. Nobody gets to see such licenses but by 'reassign'. On a terminal the list is a\n"
                "table. Elsewhere each row is one line of uid, name, licenses, bytes and account, with a\n"
                "tab between them.\n"
                "\n"
                "With --json: {\"owners\": [{\"uid\": n, \"name\": text, \"licenses\": n, \"bytes\": n,\n"
                "\"gone\": bool}, …]}." },
        { "reassign", "OWNER USER", 2, 2, NULL, command_reassign,
                "Give the licenses of a gone user to another",
                "For root. Gives all licenses of an owner whose account is gone to a user who is here, as\n"
                "when a user was renamed, or got another number. OWNER is a name, a number, or UID:NAME, of\n"
                "'licensevaultctl owners'; USER is a name or number. Where the user has some of these\n"
                "licenses, too, the rules of a restore hold.\n"
                "\n"
                "With --json: {\"licenses\": n}." },
        { "purge", "OWNER", 1, 1, purge_options, command_purge,
                "Remove the licenses of a gone user",
                "For root. Removes all that the service knows of an owner whose account is gone, for good.\n"
                "OWNER as for reassign. On a terminal you are asked first, elsewhere --yes is needed. Backups\n"
                "of that user stay where they are.\n"
                "\n"
                "With --json: {\"licenses\": n}." },
        { "jobs", NULL, 0, 0, NULL, command_jobs,
                "List the jobs",
                "Lists the jobs that wait, run, or ended within the last minute.\n"
                "\n"
                "With --json: {\"jobs\": [{\"job\": path, \"kind\": …, \"owner\": uid,\n"
                "\"state\": …}, …]}." },
        { "cancel", "[JOB]", 0, 1, NULL, command_cancel,
                "Cancel a job",
                "Cancels your running job, or the one that 'licensevaultctl jobs' names.\n"
                "\n"
                "With --json: {}." },
};

/* The command line as GOption fills it; the commands have their own in their files. */
static char **arguments;
static gboolean show_help, show_version;

/* Global options stand before the command and behind it. */
static void add_global_options(GOptionContext *context, Ctl *ctl, bool with_arguments) {
        const GOptionEntry entries[] = {
                { "json", 0, 0, G_OPTION_ARG_NONE, &ctl->json, "Print the result as JSON", NULL },
                { "quiet", 'q', 0, G_OPTION_ARG_NONE, &ctl->quiet,
                        "Say nothing but errors, without their names", NULL },
                { "help", 'h', 0, G_OPTION_ARG_NONE, &show_help, "Show this help", NULL },
                { "version", 0, 0, G_OPTION_ARG_NONE, &show_version, "Show the version", NULL },
                { with_arguments ? G_OPTION_REMAINING : NULL, 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &arguments,
                        NULL, NULL },
                {},
        };

        g_option_context_add_main_entries(context, entries, NULL);
        /* GOption's own help ends the process without a look at whether it could be written. */
        g_option_context_set_help_enabled(context, FALSE);
}

static char *list_commands(void) {
        GString *text = g_string_new(
                "Keeps the licenses of desktop apps safe, backs them up, and restores them.\n\nCommands:");

        for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
                g_autofree char *usage = commands[i].arguments ?
                        g_strdup_printf("%s %s", commands[i].name, commands[i].arguments) :
                        g_strdup(commands[i].name);
                int padding = 22 - (int)g_utf8_strlen(usage, -1);

                g_string_append_printf(text, "\n  %s%*s%s", usage, padding, "", commands[i].summary);
        }

        g_string_append(text, "\n\nSee also: licensevaultctl COMMAND --help");
        return g_string_free(text, FALSE);
}

static char *list_statuses(void) {
        GString *text = g_string_new("Exit codes:");

#define STATUS_LINE(name, number, sentence) g_string_append_printf(text, "\n  %-4d%s", number, sentence);
        STATUS_TABLE(STATUS_LINE)
#undef STATUS_LINE
        g_string_append(text,
                "\n\nWith --json, a failure adds \"error\": {\"exit\": code, \"name\": D-Bus error,\n"
                "\"message\": text} to what is printed; for list and inspect, as an object of its own at\n"
                "the end.");
        return g_string_free(text, FALSE);
}

static GOptionContext *new_main_context(Ctl *ctl) {
        GOptionContext *context = g_option_context_new("COMMAND [ARGUMENT…]");
        g_autofree char *summary = list_commands(), *description = list_statuses();

        add_global_options(context, ctl, false);
        g_option_context_set_strict_posix(context, TRUE);
        g_option_context_set_summary(context, summary);
        g_option_context_set_description(context, description);
        return context;
}

static GOptionContext *new_command_context(const struct Command *command, Ctl *ctl) {
        GOptionContext *context = g_option_context_new(command->arguments);

        if (command->options)
                g_option_context_add_main_entries(context, command->options, NULL);
        add_global_options(context, ctl, true);
        g_option_context_set_summary(context, command->help);
        return context;
}

static Status print_help(Ctl *ctl, GOptionContext *context) {
        g_autofree char *help = g_option_context_get_help(context, TRUE, NULL);
        g_autoptr(GString) text = g_string_new(g_strchomp(help));

        if (!g_get_charset(NULL))
                g_string_replace(text, "…", "...", 0);
        puts(text->str);
        return ctl_flush(ctl);
}

static Status print_version(Ctl *ctl) {
        puts("licensevaultctl " PROJECT_VERSION);
        return ctl_flush(ctl);
}

static Status fail_usage(Ctl *ctl, const char *message) {
        return ctl_fail(ctl, STATUS_USAGE, "%s. See: %s --help", message, g_get_prgname());
}

static Status run_command(Ctl *ctl, const struct Command *command, int argc, char **argv) {
        g_autofree char *program = g_strdup_printf("licensevaultctl %s", command->name);
        g_autoptr(GOptionContext) context = new_command_context(command, ctl);
        g_autoptr(GError) error = NULL;
        char *none[] = { NULL };
        unsigned n;

        g_set_prgname(program);
        if (!g_option_context_parse(context, &argc, &argv, &error))
                return fail_usage(ctl, error->message);
        if (show_help)
                return print_help(ctl, context);
        if (show_version)
                return print_version(ctl);

        n = arguments ? g_strv_length(arguments) : 0;
        if (n < command->minimum) {
                g_autofree char *message = g_strdup_printf("%s is missing", command->arguments);
                return fail_usage(ctl, message);
        }
        if (n > command->maximum) {
                g_autofree char *message = g_strdup_printf("'%s' is too much", arguments[command->maximum]);
                return fail_usage(ctl, message);
        }

        return command->run(ctl, arguments ?: none);
}

static Status run(Ctl *ctl, int argc, char **argv) {
        g_autoptr(GOptionContext) context = new_main_context(ctl);
        g_autoptr(GError) error = NULL;

        g_set_prgname("licensevaultctl");
        if (!g_option_context_parse(context, &argc, &argv, &error))
                return fail_usage(ctl, error->message);
        if (show_help)
                return print_help(ctl, context);
        if (show_version)
                return print_version(ctl);
        if (argc < 2)
                return fail_usage(ctl, "A command is missing");

        for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++)
                if (strcmp(argv[1], commands[i].name) == 0)
                        return run_command(ctl, &commands[i], argc - 1, argv + 1);

        g_autofree char *message = g_strdup_printf("There is no command '%s'", argv[1]);
        return fail_usage(ctl, message);
}

static Status print_result(Ctl *ctl, Status status) {
        if (ctl->failure) {
                json_t *failure = ctl->failure;

                ctl->failure = NULL;
                ctl_result(ctl, "error", failure);
        }
        if (!ctl->json || !ctl->result)
                return status;

        ctl_print_json(ctl->result);
        Status flushed = ctl_flush(ctl);
        return status != STATUS_OK ? status : flushed;
}

/*
 * Someone may start us with a standard descriptor closed; the first file that we open would take its
 * number, and what is meant for the terminal would go there. So something stands there that fails.
 */
static void occupy_standard_descriptors(void) {
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
                if (fcntl(fd, F_GETFD) < 0)
                        (void)open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

int main(int argc, char **argv) {
        Ctl ctl = {};
        Status status;

        occupy_standard_descriptors();
        setlocale(LC_CTYPE, "");
        signal(SIGPIPE, SIG_IGN);

        status = print_result(&ctl, run(&ctl, argc, argv));

        sd_bus_flush_close_unref(ctl.bus);
        json_decref(ctl.result);
        json_decref(ctl.failure);
        g_strfreev(arguments);
        return (int)status;
}
