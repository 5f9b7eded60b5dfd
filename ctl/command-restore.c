/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bus.h"
#include "follow.h"
#include "json.h"
#include "named.h"
#include "source.h"
#include "text.h"
#include "whose.h"

#define LABEL "Restoring"

static gboolean restore_yes, restore_no_wait;
static Whose restore_whose;

const GOptionEntry restore_options[] = {
        { "yes", 'y', 0, G_OPTION_ARG_NONE, &restore_yes,
                "Bring over what another machine or user backed up, without a question", NULL },
        { "no-wait", 0, 0, G_OPTION_ARG_NONE, &restore_no_wait, "Start it, print its job, and leave", NULL },
        WHOSE_OPTIONS(restore_whose, "Restore the backup of all users to all users (FILE is needed)",
                "Restore to USER (FILE is needed)"),
        { "from", 0, 0, G_OPTION_ARG_FILENAME, &restore_whose.from,
                "Restore NAME alone of a backup of all users (FILE is needed)", "NAME" },
        {},
};

/* What became of the licenses, in the order of the table: the member of Done's result, and the words. */
static const struct {
        const char *member;
        const char *words;
} outcomes[] = {
        { "restored", "restored" },
        { "unchanged", "unchanged: the same is here" },
        { "newer_kept", "newer here, and kept" },
        { "conflicts", "in conflict: here it is another, or called otherwise, and stayed so" },
        { "revoked", "revoked, and not restored" },
        { "skipped", "skipped: their users have no account here" },
};

static void note_conflicts(Ctl *ctl, const JobEnd *end, uint64_t n) {
        json_auto_t *licenses = named_list(ctl, end);

        ctl_note(ctl, "Nothing says which is newer, the license here or that of the backup%s", licenses ? ":" : ".");
        named_note(ctl, licenses, n);
        ctl_note(ctl, "To take that of the backup: licensevaultctl remove ID, then restore again.");

        if (ctl->json && licenses)
                ctl_result(ctl, "in_conflict", json_incref(licenses));
}

/* So many names the service gives. */
#define SKIPPED_MAX 100U

static void note_skipped_users(const Ctl *ctl, const json_t *users) {
        const json_t *user;
        size_t i;

        if (json_array_size(users) == 0)
                return;
        ctl_note(ctl, "Who was skipped%s:", json_array_size(users) < SKIPPED_MAX ? "" : ", the first of them");
        json_array_foreach(users, i, user)
                ctl_note(ctl, "  %s", json_string_value(user) ?: "");
}

static Status report(Ctl *ctl, const JobEnd *end) {
        uint64_t conflicts = json_get_u64(end->result, "conflicts");

        for (unsigned i = 0; i < G_N_ELEMENTS(outcomes); i++)
                if (!json_is_integer(json_object_get(end->result, outcomes[i].member)))
                        return bus_fail_parse(ctl);

        ctl_result(ctl, "job", json_string(end->job));
        if (end->origin)
                ctl_result(ctl, "origin", json_string(end->origin));
        (void)json_object_update(ctl->result, end->result);

        const char *into = restore_whose.all_users ? "the licenses of its users" :
                restore_whose.owner ? "the licenses of that user" : "your licenses";

        if (end->origin)
                ctl_note(ctl, "The backup of %s is merged into %s:", end->origin, into);
        else
                ctl_note(ctl, "The backup is merged into %s:", into);
        for (unsigned i = 0; i < G_N_ELEMENTS(outcomes); i++) {
                uint64_t n = json_get_u64(end->result, outcomes[i].member);

                if (n > 0 || i == 0)
                        ctl_note(ctl, "%9" PRIu64 "  %s", n, outcomes[i].words);
        }

        if (conflicts > 0)
                note_conflicts(ctl, end, conflicts);
        note_skipped_users(ctl, json_object_get(end->result, "skipped_users"));
        if (json_get_u64(end->result, "skipped") == 0)
                return STATUS_OK;
        ctl_note(ctl, "Give them accounts of the same names, and restore again: what is here already stays.");
        ctl_note(ctl, "To give what one of them had to an account of another name: "
                "licensevaultctl restore --from NAME --owner USER FILE");
        return STATUS_PARTIAL;
}

static Status new_call(Ctl *ctl, const Source *source, uint32_t flags, sd_bus_message **ret) {
        Status status;

        if (!source)
                return bus_call_new(ctl, BUS_RESTORE, "RestoreLicenses", ret, "u", flags);
        status = bus_call_new(ctl, BUS_RESTORE, "RestoreLicensesFromFile", ret, "hu", source->fd, flags);
        if (status != STATUS_OK)
                return status;

        status = whose_append(ctl, &restore_whose, *ret);
        if (status != STATUS_OK)
                *ret = sd_bus_message_unref(*ret);
        return status;
}

static Status run_job(Ctl *ctl, const Source *source, bool agreed, JobEnd *ret) {
        sd_bus_message *call;
        Status status;

        status = new_call(ctl, source, agreed ? WM_RESTORE_INDIVIDUALIZE : 0, &call);
        return status == STATUS_OK ? follow_job(ctl, call, LABEL, source ? source->name : NULL, -1, ret) : status;
}

/* A pipe cannot be read twice, and an answer needs someone to give it. */
static bool can_ask(const Ctl *ctl, const Source *source) {
        return ctl_can_ask(ctl) &&
                (!source || (!source->is_stdin && lseek(source->fd, 0, SEEK_CUR) >= 0));
}

/*
 * What is to be agreed to, as a sentence. With --from it is the name that was typed, and nobody has looked for it yet.
 */
static char *describe_foreign(const char *origin) {
        if (!restore_whose.from)
                return g_strdup_printf("This backup is from '%s'.", origin);
        if (restore_whose.owner)
                return g_strdup_printf("What '%s' had would become the licenses of '%s'.", origin, restore_whose.owner);
        return g_strdup_printf("What '%s' had would become yours.", origin);
}

static Status restore_with_consent(Ctl *ctl, const Source *source, const char *origin, JobEnd *ret) {
        g_autofree char *what = describe_foreign(origin);
        bool may_be_another = restore_whose.from && !restore_whose.owner;

        if (!can_ask(ctl, source)) {
                g_autofree char *message = g_strdup_printf("%s To bring %s licenses over, run the command again with "
                        "--yes%s. Nothing was restored.", what, restore_whose.from ? "these" : "its",
                        may_be_another ? "; to give them to another user, with --owner USER" : "");
                return ctl_fail_named(ctl, STATUS_CONSENT, error_name(ERROR_NEEDS_INDIVIDUALIZATION), message);
        }
        if (!ctl_ask("%s Bring %s licenses over?", what, restore_whose.from ? "these" : "its"))
                return ctl_fail(ctl, STATUS_CONSENT, "Nothing was restored.");

        /* The service read from our descriptor, and moved its offset. */
        if (source && lseek(source->fd, 0, SEEK_SET) < 0)
                return ctl_fail_errno(ctl, -errno, "'%s' cannot be read again", source->name);

        return run_job(ctl, source, true, ret);
}

Status command_restore(Ctl *ctl, char **arguments) {
        g_auto(Source) opened = SOURCE_NONE;
        g_auto(JobEnd) first = {}, second = {};
        const Source *source = NULL;
        JobEnd *end = &first;
        Status status;

        if (!arguments[0] && whose_is_given(&restore_whose))
                return ctl_fail(ctl, STATUS_USAGE,
                        "--all-users, --owner and --from restore from a file. Name one, or '-' for standard input.");
        if (arguments[0]) {
                status = source_open(ctl, arguments[0], &opened);
                if (status != STATUS_OK)
                        return status;
                source = &opened;
        }

        if (restore_no_wait) {
                sd_bus_message *call;

                status = new_call(ctl, source, restore_yes ? WM_RESTORE_INDIVIDUALIZE : 0, &call);
                return status == STATUS_OK ? follow_not(ctl, call, source ? source->name : NULL) : status;
        }

        status = run_job(ctl, source, restore_yes, &first);
        if (status == STATUS_CONSENT && first.origin && !restore_yes) {
                status = restore_with_consent(ctl, source, first.origin, &second);
                end = &second;
        }
        if (status == STATUS_CONSENT && end->origin)
                /* It asks for what it was given. */
                return bus_fail_parse(ctl);
        if (status == STATUS_CORRUPT && !source)
                ctl_note(ctl, "To restore from a file of yours: licensevaultctl restore FILE");
        return status == STATUS_OK ? report(ctl, end) : status;
}
