/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bus.h"
#include "pager.h"
#include "table.h"
#include "terminal.h"
#include "text.h"
#include "user-name.h"
#include "whose.h"

/* Whose licenses the service has, and what root does with those whose account is gone. */

typedef struct Owner {
        uint32_t uid;
        char *name;
        uint64_t licenses;
        uint64_t bytes;
        char *account; /* "here", "gone", "replaced", "unknown" */
        bool gone;     /* nobody who is here has that name and number */
} Owner;

static void owner_free(void *pointer) {
        Owner *owner = pointer;

        g_free(owner->name);
        g_free(owner->account);
        g_free(owner);
}

static int read_page(sd_bus_message *reply, GPtrArray *owners) {
        Owner owner;
        int r;

        r = sd_bus_message_enter_container(reply, 'a', "(ustts)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(reply, "(ustts)", &owner.uid, &owner.name, &owner.licenses, &owner.bytes,
                        &owner.account)) > 0) {
                owner.name = g_strdup(owner.name);
                owner.account = g_strdup(owner.account);
                owner.gone = g_str_equal(owner.account, "gone") || g_str_equal(owner.account, "replaced");
                g_ptr_array_add(owners, g_memdup2(&owner, sizeof owner));
        }
        return r;
}

static Status list_owners(Ctl *ctl, GPtrArray *owners) {
        for (unsigned before = UINT_MAX; before != owners->len;) {
                __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *call = NULL, *reply = NULL;
                Status status;

                before = owners->len;
                if ((status = bus_call_new(ctl, BUS_MANAGER, "ListOwners", &call, "uu", before, 0)) != STATUS_OK ||
                    (status = bus_call(ctl, call, NULL, &reply)) != STATUS_OK)
                        return status;
                if (read_page(reply, owners) < 0)
                        return bus_fail_parse(ctl);
        }
        return STATUS_OK;
}

Status owners_count(Ctl *ctl, unsigned *ret_owners, uint64_t *ret_licenses, unsigned *ret_gone) {
        g_autoptr(GPtrArray) owners = g_ptr_array_new_with_free_func(owner_free);
        Status status;

        status = list_owners(ctl, owners);
        if (status != STATUS_OK)
                return status;
        *ret_owners = owners->len;
        *ret_licenses = 0;
        *ret_gone = 0;
        for (unsigned i = 0; i < owners->len; i++) {
                const Owner *owner = owners->pdata[i];

                *ret_licenses += owner->licenses;
                *ret_gone += owner->gone;
        }
        return STATUS_OK;
}

Status owners_have(Ctl *ctl, uint32_t uid, bool *ret) {
        g_autoptr(GPtrArray) owners = g_ptr_array_new_with_free_func(owner_free);
        Status status;

        *ret = false;
        status = list_owners(ctl, owners);
        for (unsigned i = 0; i < owners->len; i++)
                *ret = *ret || ((const Owner *)owners->pdata[i])->uid == uid;
        return status;
}

/* owners */

static const Column columns[] = {
        { "UID", 6, 0 },
        { "NAME", 8, 0 },
        { "LICENSES", 8, 0 },
        { "SIZE", 8, 0 },
        { "ACCOUNT", 7, 0 },
};

Status command_owners(Ctl *ctl, char **arguments) {
        g_autoptr(GPtrArray) owners = g_ptr_array_new_with_free_func(owner_free);
        g_autoptr(Table) table = table_new(columns, G_N_ELEMENTS(columns));
        json_t *list = json_array();
        bool terminal = terminal_is_stdout();
        Status status;

        ctl_result(ctl, "owners", list);
        status = list_owners(ctl, owners);
        if (status != STATUS_OK)
                return status;

        for (unsigned i = 0; i < owners->len; i++) {
                const Owner *owner = owners->pdata[i];
                g_autofree char *uid = g_strdup_printf("%" PRIu32, owner->uid),
                                *licenses = g_strdup_printf("%" PRIu64, owner->licenses),
                                *size = terminal ? text_size(owner->bytes) : g_strdup_printf("%" PRIu64, owner->bytes);

                (void)json_array_append_new(list, json_pack("{sI ss sI sI sb ss}", "uid", (json_int_t)owner->uid,
                        "name", owner->name, "licenses", (json_int_t)owner->licenses, "bytes",
                        (json_int_t)owner->bytes, "gone", owner->gone, "account", owner->account));
                table_add(table, uid);
                table_add(table, owner->name);
                table_add(table, licenses);
                table_add(table, size);
                table_add_tone(table, owner->gone ? TONE_WARNING : TONE_PLAIN, owner->account);
        }
        if (ctl->json)
                return STATUS_OK;
        pager_open(ctl);
        table_print(table);
        return ctl_flush(ctl);
}

/* reassign, purge */

static bool is_meant(const Owner *owner, const char *text) {
        g_autofree char *uid = g_strdup_printf("%" PRIu32, owner->uid),
                        *both = g_strdup_printf("%" PRIu32 ":%s", owner->uid, owner->name);

        return strcmp(text, uid) == 0 || strcmp(text, owner->name) == 0 || strcmp(text, both) == 0;
}

/*
 * The one owner that text names. Who is gone comes before who is here; the service refuses the latter. NULL, with
 * *ret_status set, where there is none.
 */
static const Owner *find_owner(Ctl *ctl, GPtrArray *owners, const char *text, Status *ret_status) {
        const Owner *found = NULL;
        unsigned n_gone = 0;

        *ret_status = list_owners(ctl, owners);
        if (*ret_status != STATUS_OK)
                return NULL;
        for (unsigned i = 0; i < owners->len; i++) {
                const Owner *owner = owners->pdata[i];

                if (!is_meant(owner, text))
                        continue;
                n_gone += owner->gone;
                if (!found || owner->gone)
                        found = owner;
        }

        if (!found)
                *ret_status = ctl_fail(ctl, STATUS_NOT_FOUND,
                        "The service has no licenses of '%s'. See whose it has: licensevaultctl owners", text);
        else if (n_gone > 1) {
                *ret_status = ctl_fail(ctl, STATUS_USAGE,
                        "'%s' may be several. Name one as UID:NAME, such as '%" PRIu32 ":%s'.", text, found->uid,
                        found->name);
                found = NULL;
        }
        return found;
}

/* Makes a call that answers with a number, and puts it into the result. */
static Status call_for_count(Ctl *ctl, sd_bus_message *call, uint64_t *ret) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *reply = NULL;
        Status status;

        status = bus_call(ctl, call, NULL, &reply);
        if (status != STATUS_OK)
                return status;
        if (sd_bus_message_read(reply, "t", ret) < 0)
                return bus_fail_parse(ctl);
        ctl_result(ctl, "licenses", json_integer((json_int_t)*ret));
        return STATUS_OK;
}

/*
 * Root's shell may know users that the service, without a network, does not: of a directory, by a module that
 * asks it in-process. What is theirs is not left to the service's eyes alone.
 */
static Status check_gone(Ctl *ctl, const Owner *owner) {
        uid_t uid = (uid_t)-1;
        int r;

        r = user_uid_of(owner->name, &uid);
        if (r < 0)
                return ctl_fail(ctl, STATUS_FAILED, "The users of this machine cannot be looked up: %s.",
                        g_strerror(-r));
        if (owner->gone && uid == owner->uid)
                return ctl_fail(ctl, STATUS_DENIED,
                        "'%s' (%" PRIu32 ") has an account on this machine, which the service cannot see. Nothing was "
                        "changed.", owner->name, owner->uid);
        return STATUS_OK;
}

Status command_reassign(Ctl *ctl, char **arguments) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *call = NULL;
        g_autoptr(GPtrArray) owners = g_ptr_array_new_with_free_func(owner_free);
        uint64_t licenses = 0;
        const Owner *owner;
        uint32_t to = 0;
        Status status;

        status = user_from_text(ctl, arguments[1], &to);
        if (status != STATUS_OK)
                return status;
        owner = find_owner(ctl, owners, arguments[0], &status);
        if (!owner)
                return status;
        if ((status = check_gone(ctl, owner)) != STATUS_OK ||
            (status = bus_call_new(ctl, BUS_MANAGER, "ReassignLicenses", &call, "usu", owner->uid, owner->name, to)) !=
                    STATUS_OK ||
            (status = call_for_count(ctl, call, &licenses)) != STATUS_OK)
                return status;

        g_autofree char *count = text_licenses(licenses);
        ctl_note(ctl, "%s of '%s' (%" PRIu32 ") belong%s to '%s' now.", count, owner->name, owner->uid,
                licenses == 1 ? "s" : "", arguments[1]);
        return STATUS_OK;
}

static gboolean purge_yes;

const GOptionEntry purge_options[] = {
        { "yes", 'y', 0, G_OPTION_ARG_NONE, &purge_yes, "Remove them without a question", NULL },
        {},
};

static Status agree(Ctl *ctl, const Owner *owner) {
        g_autofree char *count = text_licenses(owner->licenses);
        Status status;

        status = check_gone(ctl, owner);
        if (status != STATUS_OK)
                return status;
        if (purge_yes)
                return STATUS_OK;
        /* What the service will refuse is not asked about. */
        if (strcmp(owner->account, "here") == 0)
                return ctl_fail(ctl, STATUS_USAGE,
                        "'%s' (%" PRIu32 ") has an account on this machine: what becomes of these licenses is for that "
                        "user to say. Nothing was changed.", owner->name, owner->uid);
        if (!ctl_can_ask(ctl))
                return ctl_fail(ctl, STATUS_CONSENT,
                        "%s of '%s' would be removed for good. To do that, run the command again with --yes.", count,
                        owner->name);
        return ctl_ask("Remove %s of '%s' (%" PRIu32 ") for good?", count, owner->name, owner->uid) ?
                STATUS_OK : ctl_fail(ctl, STATUS_CONSENT, "Nothing was removed.");
}

Status command_purge(Ctl *ctl, char **arguments) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *call = NULL;
        g_autoptr(GPtrArray) owners = g_ptr_array_new_with_free_func(owner_free);
        uint64_t licenses = 0;
        const Owner *owner;
        Status status;

        owner = find_owner(ctl, owners, arguments[0], &status);
        if (!owner)
                return status;
        /* Of an owner who is here, too: the service decides anew whether that is so. */
        if ((status = agree(ctl, owner)) != STATUS_OK ||
            (status = bus_call_new(ctl, BUS_MANAGER, "PurgeLicenses", &call, "us", owner->uid, owner->name)) !=
                    STATUS_OK ||
            (status = call_for_count(ctl, call, &licenses)) != STATUS_OK)
                return status;

        g_autofree char *count = text_licenses(licenses);
        ctl_note(ctl, "Removed %s of '%s' (%" PRIu32 "). Backups in the folder of the service stay.", count,
                owner->name, owner->uid);
        return STATUS_OK;
}
