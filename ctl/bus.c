/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus.h"

#include <errno.h>
#include <string.h>

#include <systemd/sd-daemon.h>

#include "license.h"

/* Storing a large batch on a slow disk takes its time. */
#define CALL_TIMEOUT_USEC (90 * G_USEC_PER_SEC)

typedef enum Trouble {
        NOT_RUNNING,
        VANISHED,
        BUS_LOST,
        SILENT,
} Trouble;

/* Where systemd does not run the machine, as in most containers, its commands are no help. */
static const struct {
        const char *with_systemd;
        const char *without;
} troubles[] = {
        [NOT_RUNNING] = {
                "The licensevault service is not running. Start it with: systemctl start licensevaultd",
                "The licensevault service is not running, nor is systemd. Start licensevaultd as the user "
                "licensevault.",
        },
        [VANISHED] = {
                "The licensevault service stopped before it was done. Run the command again.",
                "The licensevault service stopped before it was done. Start licensevaultd, and run the command again.",
        },
        [BUS_LOST] = {
                "The connection to the system bus was lost. Run the command again.",
                "The connection to the system bus was lost. Run the command again.",
        },
        [SILENT] = {
                "The licensevault service does not answer. Look at: systemctl status licensevaultd",
                "The licensevault service does not answer. See what licensevaultd says.",
        },
};

/* Errors of the bus itself, by the start of their names: the service was not reached, or went away. */
static const struct {
        const char *prefix;
        Trouble trouble;
} bus_errors[] = {
        { SD_BUS_ERROR_SERVICE_UNKNOWN, NOT_RUNNING },
        { SD_BUS_ERROR_NAME_HAS_NO_OWNER, NOT_RUNNING },
        { "org.freedesktop.DBus.Error.Spawn.", NOT_RUNNING },
        { "org.freedesktop.systemd1.", NOT_RUNNING },
        { SD_BUS_ERROR_NO_REPLY, VANISHED },
        { SD_BUS_ERROR_DISCONNECTED, BUS_LOST },
        { "System.Error.ECONNRESET", BUS_LOST },
        { "System.Error.ENOTCONN", BUS_LOST },
        { SD_BUS_ERROR_TIMEOUT, SILENT },
        { "org.freedesktop.DBus.Error.TimedOut", SILENT },
        { "System.Error.ETIMEDOUT", SILENT },
};

/*
 * What the service says in terms of D-Bus, in those of the command line: whole messages, and the advice in others. A
 * test runs into each with the real service.
 */
static const char *const messages[_ERROR_MAX] = {
        [ERROR_AUTHORIZATION_REQUIRED] =
                "An administrator has to authorize this. Leave out --quiet, to be asked for it, or run as root.",
        [ERROR_UNKNOWN_OBJECT] = "There is no such job. List them with: licensevaultctl jobs",
        [ERROR_BACKUP_EXISTS] =
                "Licenses are already backed up. Use --overwrite to replace that backup, --output FILE for another.",
        [ERROR_NEEDS_INDIVIDUALIZATION] =
                "This backup is from another machine or user. To bring its licenses over, use --yes.",
        [ERROR_LICENSE_UNAVAILABLE] = "There is no such license. List them with: licensevaultctl list",
};

static const struct {
        const char *service;
        const char *ours;
} advice[] = {
        { "Use BackupLicensesToFile (to restore: RestoreLicensesFromFile) with a file that you open there yourself, or "
          "ask the administrator to add it to Roots=.",
          "Use a file of yours (licensevaultctl backup --output FILE, licensevaultctl restore FILE), or ask the "
          "administrator to add the folder to Roots= in licensevaultd.conf." },
        { "Restore from a file with RestoreLicensesFromFile, or set another RestorePath.",
          "Name a file, or another folder (licensevaultctl set-path restore FOLDER)." },
        { "set another BackupPath.", "name another one (licensevaultctl set-path backup FOLDER)." },
        { "set another RestorePath.", "name another one (licensevaultctl set-path restore FOLDER)." },
        { "in an app by the option SkipDamaged, by licensevaultctl with --skip-damaged.", "with --skip-damaged." },
        { "(AllUsers, --all-users)", "(--all-users)" },
        { "(Owner, --owner)", "(--owner)" },
        { "(From, --from", "(--from" },
        { "Use another copy, with RestoreLicensesFromFile.", "Use another copy." },
        { "Make a new one with BackupLicenses and the flag 1.",
          "Make a new one with: licensevaultctl backup --overwrite" },
};

static const Status statuses[_ERROR_MAX] = {
        [ERROR_NONE] = STATUS_FAILED,
        [ERROR_INVALID_ARGUMENTS] = STATUS_USAGE,
        [ERROR_NO_MEMORY] = STATUS_LIMIT,
        [ERROR_ACCESS_DENIED] = STATUS_DENIED,
        [ERROR_AUTHORIZATION_REQUIRED] = STATUS_DENIED,
        [ERROR_UNKNOWN_OBJECT] = STATUS_NOT_FOUND,
        [ERROR_LIMIT_EXCEEDED] = STATUS_LIMIT,
        [ERROR_BACKUP_EXISTS] = STATUS_EXISTS,
        [ERROR_BACKUP_CORRUPT] = STATUS_CORRUPT,
        [ERROR_BACKUP_BUSY] = STATUS_BUSY,
        [ERROR_MEDIUM] = STATUS_MEDIUM,
        [ERROR_CANCELED] = STATUS_CANCELED,
        [ERROR_NEEDS_INDIVIDUALIZATION] = STATUS_CONSENT,
        [ERROR_UNSUPPORTED_PROPERTY] = STATUS_USAGE,
        [ERROR_INVALID_LICENSE] = STATUS_INVALID_LICENSE,
        [ERROR_LICENSE_UNAVAILABLE] = STATUS_NOT_FOUND,
        [ERROR_LICENSE_REVOKED] = STATUS_REVOKED,
        [ERROR_NO_RIGHTS] = STATUS_NO_RIGHTS,
        [ERROR_STORE_READ] = STATUS_STORE,
        [ERROR_STORE_WRITE] = STATUS_STORE,
        [ERROR_STORE_CORRUPT] = STATUS_STORE,
        [ERROR_STORE_LOCKED] = STATUS_BUSY,
};

static const char *describe(Trouble trouble) {
        return sd_booted() > 0 ? troubles[trouble].with_systemd : troubles[trouble].without;
}

char *bus_words(const char *name, const char *message) {
        const Error error = { .code = error_from_name(name) };
        const char *said = message && *message ? message : error_message(&error);
        GString *text;

        if (messages[error.code])
                return g_strdup(messages[error.code]);
        if (!*said)
                return g_strdup("The service reports an error that licensevaultctl does not know.");

        text = g_string_new(said);
        for (unsigned i = 0; i < G_N_ELEMENTS(advice); i++)
                g_string_replace(text, advice[i].service, advice[i].ours, 0);
        return g_string_free(text, FALSE);
}

Status bus_fail_named(Ctl *ctl, const char *name, const char *message, const char *about) {
        for (unsigned i = 0; i < G_N_ELEMENTS(bus_errors); i++)
                if (g_str_has_prefix(name, bus_errors[i].prefix))
                        return ctl_fail_named(ctl, STATUS_UNREACHABLE, name, describe(bus_errors[i].trouble));

        g_autofree char *text = bus_words(name, message);

        /* Not twice in a sentence: the service may have named it. */
        g_autofree char *quoted = about ? g_strdup_printf("'%s'", about) : NULL;
        bool is_named = !about || !*about || strstr(text, quoted);
        g_autofree char *full = is_named ? g_strdup(text) : g_strdup_printf("%s: %s", about, text);
        return ctl_fail_named(ctl, statuses[error_from_name(name)], name, full);
}

Status bus_fail(Ctl *ctl, const sd_bus_error *error, const char *about) {
        return bus_fail_named(ctl, error->name ?: "", error->message, about);
}

Status bus_fail_vanished(Ctl *ctl) {
        return ctl_fail(ctl, STATUS_UNREACHABLE, "%s", describe(VANISHED));
}

Status bus_fail_lost(Ctl *ctl) {
        return ctl_fail(ctl, STATUS_UNREACHABLE, "%s", describe(BUS_LOST));
}

static bool is_closed(int r) {
        return r == -ENOTCONN || r == -ECONNRESET || r == -EPIPE;
}

Status bus_fail_build(Ctl *ctl, int r) {
        if (is_closed(r))
                return ctl_fail(ctl, STATUS_UNREACHABLE, "The system bus refused the connection, or ended it: %s.",
                        g_strerror(-r));
        return ctl_fail(ctl, STATUS_FAILED, "The call to the service could not be made: %s.",
                g_strerror(-r));
}

Status bus_fail_parse(Ctl *ctl) {
        return ctl_fail(ctl, STATUS_FAILED,
                "The service gave an answer that licensevaultctl does not understand. "
                "Install the same version of both, and restart the service.");
}

Status bus_connect(Ctl *ctl) {
        const char *name;
        int r;

        if (ctl->bus)
                return STATUS_OK;

        r = sd_bus_open_system(&ctl->bus);
        if (r >= 0)
                r = sd_bus_get_unique_name(ctl->bus, &name);
        if (r < 0)
                ctl->bus = sd_bus_unref(ctl->bus); /* who tries again is not to find one that is closed */
        /* Whom the bus does not let in it leaves without a word. */
        if (is_closed(r))
                return ctl_fail(ctl, STATUS_UNREACHABLE,
                        "The system bus did not let you in. It wants users to have a name: getent passwd %u",
                        (unsigned)geteuid());
        if (r < 0)
                return ctl_fail(ctl, STATUS_UNREACHABLE,
                        "Cannot connect to the system bus: %s. Is D-Bus running, and DBUS_SYSTEM_BUS_ADDRESS "
                        "right?", g_strerror(-r));

        sd_bus_set_method_call_timeout(ctl->bus, CALL_TIMEOUT_USEC);
        /* There is more to ask when the event loop that follows a job has ended. */
        sd_bus_set_close_on_exit(ctl->bus, false);
        return STATUS_OK;
}

Status bus_call_new(Ctl *ctl, const char *interface, const char *member, sd_bus_message **ret, const char *types, ...) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *call = NULL;
        Status status;
        va_list ap;
        int r;

        status = bus_connect(ctl);
        if (status != STATUS_OK)
                return status;

        r = sd_bus_message_new_method_call(ctl->bus, &call, BUS_NAME, ROOT_PATH, interface, member);
        if (r >= 0 && types) {
                va_start(ap, types);
                r = sd_bus_message_appendv(call, types, ap);
                va_end(ap);
        }
        if (r < 0)
                return bus_fail_build(ctl, r);
        *ret = g_steal_pointer(&call);
        return STATUS_OK;
}

bool bus_try_call(Ctl *ctl, sd_bus_message *call, sd_bus_error *ret_error, sd_bus_message **ret_reply) {
        return sd_bus_call(ctl->bus, call, 0, ret_error, ret_reply) >= 0;
}

Status bus_call(Ctl *ctl, sd_bus_message *call, const char *about, sd_bus_message **ret_reply) {
        __attribute__((cleanup(sd_bus_error_free))) sd_bus_error error = SD_BUS_ERROR_NULL;

        return bus_try_call(ctl, call, &error, ret_reply) ? STATUS_OK : bus_fail(ctl, &error, about);
}

Status bus_check_string(Ctl *ctl, const char *what, const char *string) {
        if (!string || license_string_is_valid(string))
                return STATUS_OK;
        if (!*string)
                return ctl_fail(ctl, STATUS_USAGE, "%s is empty.", what);
        if (strlen(string) > LICENSE_STRING_MAX)
                return ctl_fail(ctl, STATUS_USAGE, "%s is longer than %u bytes.", what, LICENSE_STRING_MAX);
        return ctl_fail(ctl, STATUS_USAGE, "%s is not valid UTF-8.", what);
}
