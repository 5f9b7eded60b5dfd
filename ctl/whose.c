/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "whose.h"

#include <unistd.h>

#include "bus.h"
#include "user-name.h"

bool whose_is_given(const Whose *whose) {
        return whose->all_users || whose->owner || whose->from;
}

Status user_from_text(Ctl *ctl, const char *text, uint32_t *ret) {
        uid_t uid = (uid_t)-1;
        uint64_t number;
        int r;

        if (g_ascii_string_to_unsigned(text, 10, 0, UINT32_MAX - 1, &number, NULL)) {
                *ret = (uint32_t)number;
                return STATUS_OK;
        }

        r = user_uid_of(text, &uid);
        if (r < 0)
                return ctl_fail(ctl, STATUS_FAILED, "The users of this machine cannot be looked up: %s.",
                        g_strerror(-r));
        if (uid == (uid_t)-1)
                return ctl_fail(ctl, STATUS_USAGE, "There is no user '%s' on this machine.", text);
        *ret = uid;
        return STATUS_OK;
}

/*
 * A number may be mistyped as a name may: of nobody there would be a backup without a license. Of who is gone the
 * service may have some, and decides itself; it lists them to root alone.
 */
static Status check_number(Ctl *ctl, uint32_t uid) {
        g_autofree char *name = NULL;
        bool known = true;
        Status status = STATUS_OK;

        if (user_name_of(uid, &name) == 0 && !*name && geteuid() == 0)
                status = owners_have(ctl, uid, &known);
        if (status == STATUS_OK && !known)
                return ctl_fail(ctl, STATUS_USAGE,
                        "There is no user %" PRIu32 " on this machine, and the service has no licenses of that number. "
                        "See whose it has: licensevaultctl owners", uid);
        return status;
}

static int append_options(const Whose *whose, uint32_t uid, sd_bus_message *call) {
        int r;

        r = sd_bus_message_open_container(call, 'a', "{sv}");
        if (r >= 0 && whose->owner)
                r = sd_bus_message_append(call, "{sv}", "Owner", "u", uid);
        if (r >= 0 && whose->all_users)
                r = sd_bus_message_append(call, "{sv}", "AllUsers", "b", 1);
        if (r >= 0 && whose->from)
                r = sd_bus_message_append(call, "{sv}", "From", "s", whose->from);
        if (r >= 0 && whose->skip_damaged)
                r = sd_bus_message_append(call, "{sv}", "SkipDamaged", "b", 1);
        return r < 0 ? r : sd_bus_message_close_container(call);
}

Status whose_append(Ctl *ctl, const Whose *whose, sd_bus_message *call) {
        uint32_t uid = 0;
        Status status;
        int r;

        if (whose->all_users && whose->owner)
                return ctl_fail(ctl, STATUS_USAGE, "--all-users and --owner exclude each other.");
        if (whose->all_users && whose->from)
                return ctl_fail(ctl, STATUS_USAGE, "--all-users and --from exclude each other.");
        status = bus_check_string(ctl, "The name after --from", whose->from);
        if (status != STATUS_OK)
                return status;

        if (whose->owner) {
                if ((status = user_from_text(ctl, whose->owner, &uid)) != STATUS_OK ||
                    (status = check_number(ctl, uid)) != STATUS_OK)
                        return status;
        }
        r = append_options(whose, uid, call);
        if (r >= 0 && whose_is_given(whose))
                r = sd_bus_message_set_allow_interactive_authorization(call, !ctl->quiet);
        return r < 0 ? bus_fail_build(ctl, r) : STATUS_OK;
}
