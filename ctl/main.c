/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "option.h"
#include "pager.h"

static const Command commands[] = {
        { "add", "FILE…", 1, COUNT_MANY, { ARGUMENT_FILE, ARGUMENT_FILE, ARGUMENT_FILE }, add_options, command_add,
                "Store license documents",
                "Stores license documents and prints their ids, one on each line. FILE can be '-' for\n"
                "standard input. A Readium LCP license (.lcpl) says itself what it is; any other document\n"
                "needs --id. What a document says of itself the options can narrow, and not widen.\n"
                "\n"
                "Several files go to the service in batches of at most 1,000 documents and 16 MiB. Of a\n"
                "batch, all are stored or none. At the first failure nothing more is sent.\n"
                "\n"
                "An LCP license has a date of its own. Of several files of one license, those that are\n"
                "older than another are left out, and so is one that is older than what the store has,\n"
                "but with --older. Each is named. That is no failure.\n"
                "\n"
                "With --json: {\"licenses\": [id, …]}, the ids in the order of the files, and, where files\n"
                "were left out, \"left_out\": [{\"file\": file, \"license\": id, \"newer\": file, or null where\n"
                "that is in the store}, …]." },
        { "list", NULL, 0, 0, {}, list_options, command_list,
                "List the licenses",
                "On a terminal the list is a table. Elsewhere each license is one line of id, title,\n"
                "issuer, valid until and counters, with a tab between them. The options choose which; they\n"
                "come in the order of their ids.\n"
                "\n"
                "With --json: one object on each line, with the properties of the license under the\n"
                "names that they have on D-Bus: LicenseId, KeyId, Title, Issuer, MediaType, NotBefore\n"
                "and NotAfter (Unix seconds), AllowBackup, Counters {right: uses left, …}. What is not\n"
                "set is absent." },
        { "get", "ID", 1, 1, { ARGUMENT_LICENSE }, get_options, command_get,
                "Print or save a license document",
                "Writes the document, byte for byte, to standard output or to a file. Where FILE is a\n"
                "symbolic link, the file that it names is written.\n"
                "\n"
                "With --json: the properties, as in list --json, and \"file\", what was written, where FILE\n"
                "is a link; the document goes to --output alone." },
        { "show", "ID…", 1, COUNT_MANY, { ARGUMENT_LICENSE, ARGUMENT_LICENSE, ARGUMENT_LICENSE }, NULL, command_show,
                "Show what is known of licenses",
                "Shows all properties of licenses, and the size of their documents.\n"
                "\n"
                "With --json: one object on each line, as in list --json, with Size, the bytes of the\n"
                "document." },
        { "consume", "ID RIGHT [N]", 2, 3, { ARGUMENT_LICENSE, ARGUMENT_RIGHT, ARGUMENT_OTHER }, NULL, command_consume,
                "Spend uses of a right",
                "Takes N uses, or one, from the counter of a right, such as 'print', and prints how many\n"
                "are left; 'unlimited' where the right has no counter. Where that many are not left, or\n"
                "the license is not valid now, nothing is taken.\n"
                "\n"
                "With --json: {\"license\": id, \"right\": name, \"amount\": n, \"remaining\": n}, with null\n"
                "for what is unlimited." },
        { "remove", "ID…", 1, COUNT_MANY, { ARGUMENT_LICENSE, ARGUMENT_LICENSE, ARGUMENT_LICENSE }, NULL,
                command_remove,
                "Delete licenses",
                "Deletes licenses. What was spent of their counters stays known: storing such a license\n"
                "again does not refill it.\n"
                "\n"
                "With --json: {\"licenses\": [id, …]}, the ids that were deleted." },
        { "revoke", "ID…", 1, COUNT_MANY, { ARGUMENT_LICENSE, ARGUMENT_LICENSE, ARGUMENT_LICENSE }, NULL,
                command_revoke,
                "Delete licenses for good",
                "Deletes licenses for good: they cannot be stored or restored again.\n"
                "\n"
                "With --json: {\"licenses\": [id, …]}, the ids that were revoked." },
        { "backup", NULL, 0, 0, {}, backup_options, command_backup,
                "Back up all licenses",
                "Backs up all licenses: to the folder of the service, or to a file of yours. The backup\n"
                "is a tar archive that any archive manager opens. A file is read back and verified\n"
                "before it takes its name; where that fails, nothing is left behind. Ctrl-C cancels.\n"
                "Where FILE is a symbolic link, the file that it names is written, and the link stays.\n"
                "\n"
                "--folder is for backups that are made again and again: each gets a name of its own,\n"
                "licenses-20240131T235959Z.tar by the time in UTC, and is read once more before it gets\n"
                "that name and --keep removes an older one. So it is before --overwrite replaces a file.\n"
                "\n"
                "--all-users and --owner are for root, and for whom polkit lets; on a terminal you are\n"
                "asked for an administrator's password. --no-wait is for the folder of the service.\n"
                "Where --skip-damaged left out something, it is named, and the exit code is 16.\n"
                "\n"
                "With --json: {\"job\": path, \"licenses\": n, \"restricted\": n, \"bytes\": n,\n"
                "\"verified\": bool}, with \"output\" where it went to a file, \"file\", what was written,\n"
                "where that is a link, \"set_aside\": name where the one in the folder of the service had\n"
                "to be kept, \"removed\": [name, …] and \"others\": n, those that are not of this series\n"
                "or know more, where --keep was given, and, where licenses may not be backed up, the first\n"
                "1,000 of them as \"not_backed_up\": [{LicenseId, KeyId, Title}, …]. What --skip-damaged\n"
                "left out is \"damaged\": n and \"damaged_licenses\": [text, …]. With --no-wait: {\"job\": path}." },
        { "export", "FILE", 1, 1, { ARGUMENT_FILE }, export_options, command_export,
                "Copy the service's backup to a file",
                "Copies the backup that 'licensevaultctl backup' made in the folder of the service to a\n"
                "file, which gets its name when it was read back and is whole. FILE can be '-' for standard\n"
                "output. Where it is a symbolic link, the file that it names is written.\n"
                "\n"
                "With --json: {\"output\": file, \"bytes\": n}, with \"file\", what was written, where FILE is\n"
                "a link." },
        { "restore", "[FILE|-]", 0, 1, { ARGUMENT_FILE }, restore_options, command_restore,
                "Restore licenses from a backup",
                "Merges a backup into your licenses: FILE, '-' for standard input, or without either the\n"
                "backup in the folder of the service for restores, which is that for backups unless set-path\n"
                "named another. All of it is read and proved first; where anything is wrong, nothing is\n"
                "changed. No counter rises, what was revoked stays so, and the newer of two documents stays.\n"
                "Ctrl-C cancels.\n"
                "\n"
                "A backup that another machine or user made needs your consent: on a terminal you are\n"
                "asked (not where the backup comes from standard input), elsewhere give it with --yes.\n"
                "\n"
                "A backup of all users is restored to all of them with --all-users; where some have no\n"
                "account here, the exit code is 16. With --from you get, or --owner USER gets, what one of\n"
                "them had, by the name that 'licensevaultctl inspect FILE' shows; all others stay as they\n"
                "are. --all-users and --owner are for root, and for whom polkit lets.\n"
                "\n"
                "With --json: {\"job\": path, \"origin\": text, \"restored\": n, \"unchanged\": n,\n"
                "\"newer_kept\": n, \"conflicts\": n, \"revoked\": n, \"skipped\": n,\n"
                "\"skipped_users\": [name, …]}, and, where there are conflicts, the first 1,000 as\n"
                "\"in_conflict\": [{LicenseId, KeyId, Title}, …]. With --no-wait: {\"job\": path}." },
        { "verify", "[FILE|-]", 0, 1, { ARGUMENT_FILE }, verify_options, command_verify,
                "Tell whether a backup is whole",
                "Reads all of a backup, from FILE, with '-' from standard input, or without either that in the\n"
                "folder of the service, and tells whether it is whole and undamaged. Needs no service for a\n"
                "file, and changes nothing. A document in it may have 16 MiB; a service takes 1 MiB unless it\n"
                "is set to take more. --service lets it read the backup itself, by its own limits.\n"
                "\n"
                "With --json: {\"whole\": true, \"licenses\": n, \"restricted\": n, \"damaged\": n, \"bytes\": n,\n"
                "\"origin\": {software, created, host, machine, all_users, owner: {name, uid}}}.\n"
                "With --service: {\"whole\": true, \"licenses\": n, \"restricted\": n, \"bytes\": n,\n"
                "\"verified\": true}." },
        { "inspect", "[FILE|-]", 0, 1, { ARGUMENT_FILE }, NULL, command_inspect,
                "Show what is in a backup",
                "Shows where a backup comes from, which ids it knows as revoked or as not to be backed\n"
                "up, and its licenses. Without FILE, it is that in the folder of the service. Needs no\n"
                "service for a file, and changes nothing. A document may have 16 MiB. It shows them while\n"
                "it reads; whether they are the truth, the last line and the exit code tell.\n"
                "\n"
                "On a terminal there are two tables. Elsewhere each row is one line of id, title, issuer,\n"
                "valid until, counters, state ('license', 'revoked DATE' or 'may not be backed up') and,\n"
                "in a backup of all users, user, with a tab between them.\n"
                "\n"
                "With --json: one object on each line, whose first member tells what it is: {\"origin\":\n"
                "{as of verify, licenses, restricted, damaged}}, then {\"revoked\": {LicenseId, Generation,\n"
                "Revoked, User}} and {\"restricted\": {LicenseId, Generation, User}}, then {\"license\": {as\n"
                "of list, Entry, Size, Generation, User}}, and at the end {\"whole\": true, \"licenses\": n,\n"
                "\"restricted\": n, \"damaged\": n, \"bytes\": n}. Without that last line the others prove\n"
                "nothing." },
        { "owners", NULL, 0, 0, {}, NULL, command_owners,
                "List whose licenses there are",
                "For root. Lists the users that the service has licenses of, and whether their account is\n"
                "'here', 'gone' (the number that they were stored under is unused, or its user's directory\n"
                "is down), 'replaced' (the number is somebody else's) or 'unknown' (it cannot be looked up\n"
                "now). Of who is gone or replaced nobody gets to see the licenses but by 'reassign'. On a\n"
                "terminal the list is a table. Elsewhere each row is one line of uid, name, licenses, bytes\n"
                "and account, with a tab between them.\n"
                "\n"
                "With --json: {\"owners\": [{\"uid\": n, \"name\": text, \"licenses\": n, \"bytes\": n,\n"
                "\"gone\": bool, \"account\": text}, …]}." },
        { "reassign", "OWNER USER", 2, 2, { ARGUMENT_OWNER, ARGUMENT_USER }, NULL, command_reassign,
                "Give the licenses of a gone user to another",
                "For root. Gives all licenses of an owner whose account is gone to a user who is here, as\n"
                "when a user was renamed, or got another number. OWNER is a name, a number, or UID:NAME, of\n"
                "'licensevaultctl owners'; USER is a name or number. Where the user has some of these\n"
                "licenses, too, the rules of a restore hold.\n"
                "\n"
                "With --json: {\"licenses\": n}." },
        { "purge", "OWNER", 1, 1, { ARGUMENT_OWNER }, purge_options, command_purge,
                "Remove the licenses of a gone user",
                "For root. Removes all that the service knows of an owner whose account is gone, for good.\n"
                "OWNER as for reassign. On a terminal you are asked first, elsewhere --yes is needed. Backups\n"
                "of that user stay where they are.\n"
                "\n"
                "With --json: {\"licenses\": n}." },
        { "paths", NULL, 0, 0, {}, NULL, command_paths,
                "Show where backups are kept",
                "Shows the folders of the service where no file is named: the one for backups, which backup\n"
                "writes to and export, verify, inspect and status read from, and the one for restores, which\n"
                "restore reads from.\n"
                "\n"
                "With --json: {\"backup\": {\"folder\": path, \"set\": bool}, \"restore\": {as that}}, with\n"
                "true where set-path named it." },
        { "set-path", "backup|restore FOLDER", 2, 2, { ARGUMENT_PLACE, ARGUMENT_FOLDER }, NULL, command_set_path,
                "Choose where backups are kept",
                "Has the service make your backups in another folder, or restore from it: both are the same\n"
                "until one is named. Only folders that the administrator allows can be taken (Roots= in\n"
                "licensevaultd.conf). For a folder of your own, name a file: licensevaultctl backup --output\n"
                "FILE.\n"
                "\n"
                "With --json: {\"backup\": path} or {\"restore\": path}." },
        { "unset-path", "[backup|restore]", 0, 1, { ARGUMENT_PLACE }, NULL, command_unset_path,
                "Go back to the default folder",
                "Undoes set-path, of both folders where none is named. What is in the folder stays there.\n"
                "\n"
                "With --json: {}." },
        { "status", "[FILE|FOLDER]", 0, 1, { ARGUMENT_FILE }, NULL, command_status,
                "Tell whether all is well",
                "Shows the service, how many licenses there are, the jobs that run, and the last backup: when\n"
                "it was made, where it is, and whether it is whole, for which all of it is read. Of backups\n"
                "that went to files the service keeps no record: it is the one in its own folder, unless you\n"
                "name a FILE, or the FOLDER of backup --folder. Warns where there is none, where it is older\n"
                "than 7 days, lacks what was damaged, or has not as many licenses as there are (but for one of\n"
                "somebody else, or of all users). For root also all users, and in the same way the newest of\n"
                "their backups in /var/backups/licensevault. A warning is no failure; a damaged backup is one.\n"
                "\n"
                "With --json: {\"service\": {\"was_running\": bool, \"version\": text, \"instance\": text},\n"
                "\"licenses\": n, \"never_backed_up\": n, \"jobs\": n, \"backup\": null or {\"path\": path,\n"
                "\"created\": time, \"licenses\": n, \"restricted\": n, \"damaged\": n, \"bytes\": n,\n"
                "\"whole\": bool},\n"
                "\"all_users\": {\"owners\": n, \"licenses\": n, \"gone\": n, \"backup\": path,\n"
                "\"last_backup\": {as \"backup\" above}},\n"
                "\"warnings\": [text, …]}." },
        { "jobs", NULL, 0, 0, {}, NULL, command_jobs,
                "List the jobs",
                "Lists the jobs that wait, run, or ended within the last minute: a line each of job, kind, user\n"
                "and state, with a tab between them where that is no terminal.\n"
                "\n"
                "With --json: {\"jobs\": [{\"job\": path, \"kind\": …, \"owner\": uid,\n"
                "\"state\": …}, …]}." },
        { "job", "JOB", 1, 1, { ARGUMENT_JOB }, NULL, command_job,
                "Show what is known of a job",
                "Shows a job: how far it is, or how it ended, and the licenses that it names: those that a\n"
                "backup left out, those that a restore found in conflict.\n"
                "\n"
                "With --json: the properties of the job under the names that they have on D-Bus, Kind, Owner,\n"
                "State, Completed, Total, Cancelable, HResult, Error, Message and Result {…}, with \"Job\":\n"
                "path and \"Licenses\": [{LicenseId, KeyId, Title}, …]." },
        { "wait", "[JOB…]", 0, COUNT_MANY, { ARGUMENT_JOB, ARGUMENT_JOB, ARGUMENT_JOB }, NULL, command_wait,
                "Wait until jobs have ended",
                "Waits until the jobs have ended, or without a name all that run, and says how. The exit code\n"
                "is that of the first one that failed. Ctrl-C ends the waiting, and no job. The result of a\n"
                "job is kept for a minute after its end.\n"
                "\n"
                "With --json: {\"jobs\": [{\"job\": path, \"kind\": …, \"state\": …, \"hresult\": n, \"error\":\n"
                "D-Bus error, \"message\": text, \"result\": {…}}, …]}." },
        { "monitor", NULL, 0, 0, {}, NULL, command_monitor,
                "Follow all jobs as they run",
                "Prints what happens to each job of yours, for root of all users, a line for each event, until\n"
                "Ctrl-C: time, job, what it is, and what happens, with a tab between them where that is no\n"
                "terminal. A restart of the service is told, and survived.\n"
                "\n"
                "With --json: one object on each line: \"event\", \"time\" (Unix seconds), and of a job\n"
                "\"job\": path, \"kind\", \"owner\": uid. Events of a job: 'present' (it ran already; \"state\"),\n"
                "'begin' (completed, total), 'progress' (also percent), 'restricted' (licenses), 'origin',\n"
                "'accepted' and 'consent' (origin), 'done' (hresult, error, message, result). Of the service:\n"
                "'stopped', 'started'." },
        { "cancel", "[JOB]", 0, 1, { ARGUMENT_JOB }, NULL, command_cancel,
                "Cancel a job",
                "Cancels your running job, or the one that 'licensevaultctl jobs' names. It does not wait.\n"
                "\n"
                "With --json: {}." },
        { "release", "JOB…", 1, COUNT_MANY, { ARGUMENT_JOB, ARGUMENT_JOB, ARGUMENT_JOB }, NULL, command_release,
                "Forget the results of jobs",
                "Has the service forget the results of jobs now, and not a minute after their end.\n"
                "\n"
                "With --json: {}." },
};

/* The command line as GOption fills it; the commands have their own in their files. */
static char **arguments;
static gboolean show_help, show_version;

/* Global options stand before the command and behind it. */
#define GLOBAL_OPTIONS 6
static void fill_global_options(Ctl *ctl, bool with_arguments, GOptionEntry ret[GLOBAL_OPTIONS + 1]) {
        const GOptionEntry entries[GLOBAL_OPTIONS + 1] = {
                { "json", 0, 0, G_OPTION_ARG_NONE, &ctl->json, "Print the result as JSON", NULL },
                { "quiet", 'q', 0, G_OPTION_ARG_NONE, &ctl->quiet,
                        "No messages but errors, these without their names", NULL },
                { "no-pager", 0, 0, G_OPTION_ARG_NONE, &ctl->no_pager, "Show long output at once", NULL },
                { "help", 'h', 0, G_OPTION_ARG_NONE, &show_help, "Show this help", NULL },
                { "version", 0, 0, G_OPTION_ARG_NONE, &show_version, "Show the version", NULL },
                { with_arguments ? G_OPTION_REMAINING : NULL, 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &arguments,
                        NULL, NULL },
                {},
        };

        memcpy(ret, entries, sizeof entries);
}

static void add_global_options(GOptionContext *context, Ctl *ctl, bool with_arguments) {
        GOptionEntry entries[GLOBAL_OPTIONS + 1];

        fill_global_options(ctl, with_arguments, entries);
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
                int padding = 32 - (int)g_utf8_strlen(usage, -1);

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
                "\n\nWhere Ctrl-C has nothing to cancel, as in wait and monitor, a shell shows 130."
                "\n\nWith --json, a failure adds \"error\": {\"exit\": code, \"name\": D-Bus error,\n"
                "\"message\": text} to what is printed, with a name only where the failure has one, as\n"
                "those of the service and of a damaged backup have; for list, show and inspect, as an object\n"
                "of its own at the end.");
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

static GOptionContext *new_command_context(const Command *command, Ctl *ctl) {
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
        pager_open(ctl);
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

/* n arguments are there; the first minimum words of the usage are those that must be. */
static Status fail_missing(Ctl *ctl, const Command *command, unsigned n) {
        g_auto(GStrv) names = g_strsplit(command->arguments, " ", -1);
        g_autoptr(GString) message = g_string_new(names[n]);

        for (unsigned i = n + 1; i < command->minimum; i++)
                g_string_append_printf(message, " and %s", names[i]);
        g_string_append(message, command->minimum - n == 1 ? " is missing" : " are missing");
        return fail_usage(ctl, message->str);
}

/*
 * GLib takes back what it has parsed where it fails; who asked for JSON is to have the error so, too. options are those
 * of the command, NULL before it.
 */
static bool parse(Ctl *ctl, GOptionContext *context, const GOptionEntry *options, int *argc, char ***argv,
        GError **error) {
        bool wants_json = g_strv_contains((const char *const *)*argv, "--json");
        GOptionEntry global[GLOBAL_OPTIONS + 1];
        const GOptionEntry *const tables[] = { global, options, NULL };

        fill_global_options(ctl, false, global);
        if (option_check(tables, g_option_context_get_strict_posix(context), *argv + MIN(*argc, 1), error) &&
            g_option_context_parse(context, argc, argv, error))
                return true;
        ctl->json = ctl->json || wants_json;
        return false;
}

static Status run_command(Ctl *ctl, const Command *command, int argc, char **argv) {
        g_autofree char *program = g_strdup_printf("licensevaultctl %s", command->name);
        g_autoptr(GOptionContext) context = new_command_context(command, ctl);
        g_autoptr(GError) error = NULL;
        char *none[] = { NULL };
        unsigned n;

        g_set_prgname(program);
        if (!parse(ctl, context, command->options, &argc, &argv, &error))
                return fail_usage(ctl, error->message);
        if (show_help)
                return print_help(ctl, context);
        if (show_version)
                return print_version(ctl);

        n = arguments ? g_strv_length(arguments) : 0;
        if (n < command->minimum)
                return fail_missing(ctl, command, n);
        if (n > command->maximum) {
                g_autofree char *message = g_strdup_printf("'%s' is one argument too many",
                        arguments[command->maximum]);

                return fail_usage(ctl, message);
        }

        return command->run(ctl, arguments ?: none);
}

/* What the shells' completions call; it is theirs, and not for people. */
#define COMPLETE "--complete"

static Status run(Ctl *ctl, int argc, char **argv) {
        g_autoptr(GOptionContext) context = new_main_context(ctl);
        g_autoptr(GError) error = NULL;

        g_set_prgname("licensevaultctl");
        if (argc > 2 && strcmp(argv[1], COMPLETE) == 0) {
                GOptionEntry global[GLOBAL_OPTIONS + 1];

                fill_global_options(ctl, false, global);
                return complete(ctl, commands, G_N_ELEMENTS(commands), global, argv + 2);
        }
        if (!parse(ctl, context, NULL, &argc, &argv, &error))
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

        for (int i = 2; i < argc; i++)
                ctl->json = ctl->json || strcmp(argv[i], "--json") == 0;
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

        status = run(&ctl, argc, argv);
        status = print_result(&ctl, pager_close(&ctl, status));

        sd_bus_flush_close_unref(ctl.bus);
        json_decref(ctl.result);
        json_decref(ctl.failure);
        g_strfreev(arguments);
        return (int)status;
}
