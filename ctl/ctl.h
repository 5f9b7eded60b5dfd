/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <glib.h>
#include <jansson.h>
#include <systemd/sd-bus.h>

#include "error.h"

/*
 * What all commands of licensevaultctl share: the exit codes, the options that every command knows,
 * and the ways to say something. Data goes to stdout; messages, notes and the progress bar go to
 * stderr, so that stdout can be a pipe.
 *
 * A function that returns a Status has put its failure into words already; its caller passes it up.
 */

/* The exit codes: name, number, and what --help says of it. Numbers never change their meaning. */
#define STATUS_TABLE(X) \
        X(STATUS_OK, 0, "all went well") \
        X(STATUS_FAILED, 1, "another failure") \
        X(STATUS_USAGE, 2, "the command line, or an argument in it, is not valid") \
        X(STATUS_NOT_FOUND, 3, "there is no such license or job") \
        X(STATUS_EXISTS, 4, "the backup or the file is there already") \
        X(STATUS_BUSY, 5, "another job of yours is running") \
        X(STATUS_CANCELED, 6, "the job was canceled") \
        X(STATUS_DENIED, 7, "not allowed") \
        X(STATUS_LIMIT, 8, "a limit of the service is reached") \
        X(STATUS_CORRUPT, 9, "the backup is missing, incomplete or damaged") \
        X(STATUS_MEDIUM, 10, "a file or the backup could not be read or written") \
        X(STATUS_INVALID_LICENSE, 11, "a license document is broken") \
        X(STATUS_REVOKED, 12, "the license was revoked") \
        X(STATUS_UNREACHABLE, 13, "the service is not running, or does not answer") \
        X(STATUS_STORE, 14, "the service's license store cannot be read or written") \
        X(STATUS_CONSENT, 15, "your consent is needed: --yes gives it") \
        X(STATUS_PARTIAL, 16, "a part is missing, and was named; the rest is done") \
        X(STATUS_NO_RIGHTS, 17, "that many uses are not left, or the license is not valid now")

typedef enum Status {
#define STATUS_ENUM(name, number, sentence) name = number,
        STATUS_TABLE(STATUS_ENUM)
#undef STATUS_ENUM
} Status;

typedef struct Ctl {
        gboolean json;
        gboolean quiet;
        gboolean no_pager;

        sd_bus *bus;     /* NULL until bus_connect() */
        json_t *result;  /* an object, what --json prints at the end; NULL for a command that printed it */
        json_t *failure; /* the first failure, for --json; NULL without one */
        int push_error;  /* the errno with which the first ctl_push() failed; 0 without one */
        Status unwritten; /* of the first failure to write to stdout; STATUS_OK without one */
} Ctl;

/* Says "licensevaultctl: message" and keeps the first one for --json. Returns status. */
Status ctl_fail(Ctl *ctl, Status status, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* The same with the name of the D-Bus error, which stays unsaid with --quiet. */
Status ctl_fail_named(Ctl *ctl, Status status, const char *name, const char *message);
/* The same for a file or folder of the user and a negative errno; the text of the errno is appended. */
Status ctl_fail_errno(Ctl *ctl, int r, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* Says something on stderr that is no failure, on a line of its own; nothing with --quiet. */
void ctl_note(const Ctl *ctl, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* The same for what somebody should do something about: "Warning: message". */
void ctl_warn(const Ctl *ctl, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Whether there is somebody to ask: not with --quiet, and with a terminal alone. */
bool ctl_can_ask(const Ctl *ctl);
/* Asks on the terminal, with " [y/N] " after the question. */
bool ctl_ask(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* Sets a member of the result for --json. Takes the reference to value. */
void ctl_result(Ctl *ctl, const char *name, json_t *value);

/* Prints one JSON object and a newline to stdout; errors show in ctl_flush(). */
void ctl_print_json(const json_t *object);

/* Writes out what stdio holds for stdout. A reader that went away ends the program without words. */
Status ctl_flush(Ctl *ctl);
/* Has what was printed stand before what comes next on stderr. A failure is kept, and shows in ctl_flush(). */
void ctl_push(Ctl *ctl);
/* The same for data that bypasses stdio. */
Status ctl_write(Ctl *ctl, const void *data, size_t size);
/* Has that on the disk, where it is a file: one of the network tells only then that it is full. */
Status ctl_sync_output(Ctl *ctl);

/*
 * Reads a backup from where a descriptor stands, as the command verify does, and tells how many licenses it has, or
 * what is wrong with what is called name.
 */
Status verify_descriptor(Ctl *ctl, int fd, const char *name, uint64_t *ret_licenses);

/* For root: of how many the service has something, how many licenses that are, and how many of them are gone. */
Status owners_count(Ctl *ctl, unsigned *ret_owners, uint64_t *ret_licenses, unsigned *ret_gone);
/* For root: whether the service has anything of that number, whoever's it was. */
Status owners_have(Ctl *ctl, uint32_t uid, bool *ret);

/* The folder of the service that BACKUP_PATH or RESTORE_PATH names (g_free). */
Status path_read(Ctl *ctl, const char *name, char **ret);

/*
 * Commands, run with their arguments, which end in NULL, after their options were parsed into the
 * variables of their own files.
 */
typedef Status (*CommandRun)(Ctl *ctl, char **arguments);

extern const GOptionEntry add_options[], backup_options[], export_options[], get_options[], list_options[],
        purge_options[], restore_options[], verify_options[];

Status command_add(Ctl *ctl, char **arguments);
Status command_backup(Ctl *ctl, char **arguments);
Status command_cancel(Ctl *ctl, char **arguments);
Status command_consume(Ctl *ctl, char **arguments);
Status command_export(Ctl *ctl, char **arguments);
Status command_get(Ctl *ctl, char **arguments);
Status command_inspect(Ctl *ctl, char **arguments);
Status command_job(Ctl *ctl, char **arguments);
Status command_jobs(Ctl *ctl, char **arguments);
Status command_list(Ctl *ctl, char **arguments);
Status command_monitor(Ctl *ctl, char **arguments);
Status command_owners(Ctl *ctl, char **arguments);
Status command_paths(Ctl *ctl, char **arguments);
Status command_purge(Ctl *ctl, char **arguments);
Status command_reassign(Ctl *ctl, char **arguments);
Status command_release(Ctl *ctl, char **arguments);
Status command_remove(Ctl *ctl, char **arguments);
Status command_restore(Ctl *ctl, char **arguments);
Status command_revoke(Ctl *ctl, char **arguments);
Status command_set_path(Ctl *ctl, char **arguments);
Status command_show(Ctl *ctl, char **arguments);
Status command_status(Ctl *ctl, char **arguments);
Status command_unset_path(Ctl *ctl, char **arguments);
Status command_verify(Ctl *ctl, char **arguments);
Status command_wait(Ctl *ctl, char **arguments);
