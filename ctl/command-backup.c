/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bar.h"
#include "bus.h"
#include "follow.h"
#include "interrupt.h"
#include "io.h"
#include "json.h"
#include "named.h"
#include "origin.h"
#include "output.h"
#include "series-name.h"
#include "series.h"
#include "source.h"
#include "text.h"
#include "whose.h"

#define LABEL "Backing up"
#define KEEP_ALL INT_MIN
#define COPY_SIZE (256U * 1024)

static char *backup_output, *backup_folder;
static int backup_keep = KEEP_ALL;
static Whose backup_whose;
static gboolean backup_overwrite, backup_no_wait, backup_skip_damaged, export_overwrite;

const GOptionEntry backup_options[] = {
        { "output", 'o', 0, G_OPTION_ARG_FILENAME, &backup_output,
                "Back up to FILE, or with '-' to standard output", "FILE" },
        { "folder", 0, 0, G_OPTION_ARG_FILENAME, &backup_folder,
                "Back up to a new file in FOLDER, named by the time", "FOLDER" },
        { "keep", 0, 0, G_OPTION_ARG_INT, &backup_keep,
                "With --folder: remove the oldest backups there, so that N are left", "N" },
        { "overwrite", 0, 0, G_OPTION_ARG_NONE, &backup_overwrite, "Replace the backup that is there",
                NULL },
        { "skip-damaged", 0, 0, G_OPTION_ARG_NONE, &backup_skip_damaged,
                "Leave out what is damaged in the store (to a file; with --folder always)", NULL },
        { "no-wait", 0, 0, G_OPTION_ARG_NONE, &backup_no_wait, "Start it, print its job, and leave", NULL },
        WHOSE_OPTIONS(backup_whose, "Back up the licenses of all users (to a file)",
                "Back up the licenses of USER (to a file)"),
        {},
};

const GOptionEntry export_options[] = {
        { "overwrite", 0, 0, G_OPTION_ARG_NONE, &export_overwrite, "Replace FILE where it exists", NULL },
        {},
};

static bool is_stdout(const char *file) {
        return strcmp(file, "-") == 0;
}

/* What an archive on standard output rules out. */
static Status check_stdout(Ctl *ctl, bool overwrite) {
        if (ctl->json)
                return ctl_fail(ctl, STATUS_USAGE,
                        "The backup and --json both go to standard output. Leave one out.");
        if (overwrite)
                return ctl_fail(ctl, STATUS_USAGE,
                        "--overwrite has no meaning for standard output. Leave it out.");
        if (isatty(STDOUT_FILENO))
                return ctl_fail(ctl, STATUS_USAGE,
                        "A backup is not for a terminal to show. Name a file, or send it into a pipe.");
        return STATUS_OK;
}

static void note_unwritten(Ctl *ctl, const Output *output) {
        if (!output->replaced)
                ctl_note(ctl, output->replace ? "'%s' was not changed." : "'%s' was not written.", output->path);
}

/* backup */

static void note_restricted(Ctl *ctl, const JobEnd *end, uint64_t n) {
        json_auto_t *licenses = named_list(ctl, end);
        g_autofree char *count = text_licenses(n);

        ctl_note(ctl, "%s may not be backed up and %s skipped%s", count, n == 1 ? "was" : "were",
                licenses ? ":" : ".");
        named_note(ctl, licenses, n);
        ctl_note(ctl, "NOT-BACKED-UP.txt in the backup names %s.", n == 1 ? "it" : "them all");

        if (ctl->json && licenses)
                ctl_result(ctl, "not_backed_up", json_incref(licenses));
}

static void report(Ctl *ctl, const JobEnd *end, const char *file) {
        uint64_t restricted = json_get_u64(end->result, "restricted");
        g_autofree char *licenses = text_licenses(json_get_u64(end->result, "licenses"));
        g_autofree char *size = text_size(json_get_u64(end->result, "bytes"));

        ctl_result(ctl, "job", json_string(end->job));
        (void)json_object_update(ctl->result, end->result);
        if (file && !is_stdout(file)) {
                g_autofree char *name = g_utf8_make_valid(file, -1);
                ctl_result(ctl, "output", json_string(name));
                ctl_note(ctl, "Backed up %s to '%s' (%s), read back and verified.", licenses, file, size);
        } else if (file)
                ctl_note(ctl, "Backed up %s (%s).", licenses, size);
        else {
                const char *aside = json_string_value(json_object_get(end->result, "set_aside"));

                ctl_note(ctl, "Backed up %s (%s), read back and verified.", licenses, size);
                if (aside)
                        ctl_note(ctl, "The backup that was there may have what the new one lacks: it is of another "
                                "store or machine, or of this store before it lost licenses. It is kept as '%s', "
                                "beside the new one. Where something is missing, have an administrator restore that.",
                                aside);
                ctl_note(ctl, "To copy the backup to a place of yours: licensevaultctl export FILE");
        }

        if (restricted > 0)
                note_restricted(ctl, end, restricted);
}

static Status backup_in_service(Ctl *ctl) {
        g_auto(JobEnd) end = {};
        sd_bus_message *call;
        Status status;

        status = bus_call_new(ctl, BUS_BACKUP, "BackupLicenses", &call, "u",
                backup_overwrite ? WM_BACKUP_OVERWRITE : 0);
        if (status != STATUS_OK)
                return status;

        if (backup_no_wait)
                return follow_not(ctl, call, NULL);
        status = follow_job(ctl, call, LABEL, NULL, -1, &end);
        if (status == STATUS_OK)
                report(ctl, &end, NULL);
        return status;
}

/* The call duplicates fd. */
static Status new_file_call(Ctl *ctl, int fd, sd_bus_message **ret) {
        Status status;

        status = bus_call_new(ctl, BUS_BACKUP, "BackupLicensesToFile", ret, "hu", fd, 0);
        if (status != STATUS_OK)
                return status;

        status = whose_append(ctl, &backup_whose, *ret);
        if (status != STATUS_OK)
                *ret = sd_bus_message_unref(*ret);
        return status;
}

static Status backup_to_descriptor(Ctl *ctl, int fd, JobEnd *ret) {
        sd_bus_message *call;
        Status status;

        status = new_file_call(ctl, fd, &call);
        return status == STATUS_OK ? follow_job(ctl, call, LABEL, NULL, -1, ret) : status;
}

/* Reads what the service wrote once more, from the disk if the system can be made to, and as a restore would. */
static Status check_written(Ctl *ctl, int fd, const char *file, const JobEnd *end) {
        uint64_t licenses = 0;
        Status status;

        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        if (lseek(fd, 0, SEEK_SET) < 0)
                return ctl_fail_errno(ctl, -errno, "'%s' cannot be read back", file);
        status = verify_descriptor(ctl, fd, file, &licenses);
        if (status == STATUS_OK && licenses != json_get_u64(end->result, "licenses"))
                return ctl_fail(ctl, STATUS_CORRUPT, "'%s' does not have the licenses that were backed up.", file);
        return status;
}

static void note_damaged(Ctl *ctl, const JobEnd *end) {
        const json_t *licenses = json_object_get(end->result, "damaged_licenses"), *license;
        uint64_t n = json_get_u64(end->result, "damaged");
        size_t i;

        ctl_note(ctl, "Damaged in the store, and not in the backup:");
        json_array_foreach(licenses, i, license)
                ctl_note(ctl, "  %s", json_string_value(license));
        if (n > json_array_size(licenses))
                ctl_note(ctl, "  and %" PRIu64 " more", n - json_array_size(licenses));
}

/* Says what is missing. It is a failure, so that somebody looks, and so that the caller keeps what is older. */
static Status fail_incomplete(Ctl *ctl, const JobEnd *end, const char *file) {
        g_autofree char *count = text_licenses(json_get_u64(end->result, "damaged"));

        note_damaged(ctl, end);
        return ctl_fail(ctl, STATUS_PARTIAL,
                "'%s' is a good backup of all but %s, damaged in the store of the service. Older backups may have "
                "what is missing%s. Let its users store it again, restore it, or remove it.",
                is_stdout(file) ? "standard output" : file, count, backup_folder ? ", and none was removed" : "");
}

/*
 * What the service says of it is not enough for an old one to go: that which is replaced, or with series, for it is one
 * of many, which nobody looks at, those that are removed for it. ret_licenses, which may be NULL, gets how many it has.
 */
static Status backup_to_file(Ctl *ctl, const char *file, bool series, uint64_t *ret_licenses) {
        g_autofree char *incomplete = series ? series_name_incomplete(file) : NULL;
        g_auto(Output) output = OUTPUT_NONE;
        g_auto(JobEnd) end = {};
        Interrupts interrupts;
        bool damaged = false;
        Status status;

        interrupt_block(&interrupts);
        status = output_open(ctl, file, backup_overwrite, &output);
        if (status != STATUS_OK)
                return status;

        status = backup_to_descriptor(ctl, output.draft.fd, &end);
        if (status == STATUS_OK && (series || output.replace)) {
                /* The reader listens to Ctrl-C by itself. */
                interrupt_restore(&interrupts);
                status = check_written(ctl, output.draft.fd, file, &end);
                interrupt_block(&interrupts);
        }
        if (status == STATUS_OK) {
                damaged = json_get_u64(end.result, "damaged") > 0;
                if (damaged && series)
                        output_rename(&output, file = incomplete);
                status = origin_check_replaced(ctl, &output, false);
        }
        if (status == STATUS_OK)
                status = output_publish(ctl, &output);
        if (status != STATUS_OK) {
                note_unwritten(ctl, &output);
                return status;
        }

        interrupt_restore(&interrupts);
        report(ctl, &end, file);
        if (ret_licenses)
                *ret_licenses = json_get_u64(end.result, "licenses");
        return damaged ? fail_incomplete(ctl, &end, file) : STATUS_OK;
}

static Status backup_to_folder(Ctl *ctl) {
        g_autofree char *path = NULL;
        uint64_t licenses = 0;
        Status status;

        /* Each is a file of its own: one that lacks some replaces none that has them. */
        backup_whose.skip_damaged = true;
        if ((status = series_next(ctl, backup_folder, &path)) != STATUS_OK ||
            (status = backup_to_file(ctl, path, true, &licenses)) != STATUS_OK || backup_keep == KEEP_ALL)
                return status;

        /* The store may have been lost: then the older ones are all that there is. */
        if (licenses == 0) {
                ctl_result(ctl, "removed", json_array());
                ctl_note(ctl, "There are no licenses now, so no older backup was removed.");
                return STATUS_OK;
        }
        return series_prune(ctl, backup_folder, path, (unsigned)backup_keep);
}

/* Whether the service can write to stdout itself. What it could not, we copy. */
static bool stdout_suits_service(void) {
        int flags = fcntl(STDOUT_FILENO, F_GETFL), type;
        socklen_t length = sizeof type;
        struct stat st;

        if (flags < 0 || fstat(STDOUT_FILENO, &st) < 0)
                return false;
        if (S_ISFIFO(st.st_mode))
                return true;
        if (S_ISSOCK(st.st_mode))
                return getsockopt(STDOUT_FILENO, SOL_SOCKET, SO_TYPE, &type, &length) >= 0 &&
                        type == SOCK_STREAM;

        /* Most shells open "> FILE" for writing alone, and then it cannot be read back. */
        return S_ISREG(st.st_mode) && st.st_size == 0 && (flags & O_ACCMODE) == O_RDWR &&
                !(flags & O_APPEND) && lseek(STDOUT_FILENO, 0, SEEK_CUR) == 0;
}

static Status copy_through_pipe(Ctl *ctl, JobEnd *end) {
        _cleanup_fd_ int reader = -1, writer = -1;
        sd_bus_message *call;
        Status status;
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) < 0)
                return ctl_fail_errno(ctl, -errno, "No pipe can be made");
        reader = fds[0];
        writer = fds[1];

        status = new_file_call(ctl, writer, &call);
        if (status != STATUS_OK)
                return status;

        /* With an end of ours open, the pipe would never end. */
        fd_closep(&writer);
        status = follow_job(ctl, call, LABEL, NULL, fd_steal(&reader), end);
        if (status != STATUS_OK)
                return status;

        if (end->copied != json_get_u64(end->result, "bytes"))
                return ctl_fail(ctl, STATUS_MEDIUM,
                        "The backup did not arrive complete. Run the command again.");
        return ctl_sync_output(ctl);
}

static Status backup_to_stdout(Ctl *ctl) {
        g_auto(JobEnd) end = {};
        Status status;

        status = check_stdout(ctl, backup_overwrite);
        if (status != STATUS_OK)
                return status;

        status = stdout_suits_service() ? backup_to_descriptor(ctl, STDOUT_FILENO, &end) :
                copy_through_pipe(ctl, &end);
        if (status != STATUS_OK)
                return status;
        report(ctl, &end, backup_output);
        return json_get_u64(end.result, "damaged") > 0 ? fail_incomplete(ctl, &end, backup_output) : STATUS_OK;
}

static Status check_options(Ctl *ctl) {
        if (backup_folder && (backup_output || backup_overwrite))
                return ctl_fail(ctl, STATUS_USAGE,
                        "--folder makes a new file each time. Leave out --output and --overwrite.");
        if (backup_keep != KEEP_ALL && (backup_keep < 1 || !backup_folder))
                return ctl_fail(ctl, STATUS_USAGE,
                        "--keep is a number of backups from 1 on, and goes with --folder.");
        if (whose_is_given(&backup_whose) && !backup_output && !backup_folder)
                return ctl_fail(ctl, STATUS_USAGE,
                        "--all-users and --owner back up to a file. Name one with --output or --folder.");
        if (backup_skip_damaged && !backup_output && !backup_folder)
                return ctl_fail(ctl, STATUS_USAGE, "--skip-damaged is for a file. Name one with --output or --folder.");
        if (backup_skip_damaged && backup_overwrite)
                return ctl_fail(ctl, STATUS_USAGE,
                        "A backup that lacks licenses replaces none: leave out --overwrite or --skip-damaged.");
        if (backup_no_wait && (backup_output || backup_folder))
                return ctl_fail(ctl, STATUS_USAGE,
                        "--no-wait is for the folder of the service: a file gets its name when the backup is done.");
        return STATUS_OK;
}

Status command_backup(Ctl *ctl, char **arguments) {
        Status status;

        status = check_options(ctl);
        if (status != STATUS_OK)
                return status;
        backup_whose.skip_damaged = backup_skip_damaged;
        if (backup_folder)
                return backup_to_folder(ctl);
        if (!backup_output)
                return backup_in_service(ctl);
        return is_stdout(backup_output) ? backup_to_stdout(ctl) : backup_to_file(ctl, backup_output, false, NULL);
}

/* export */

typedef struct Export {
        Bar bar;
        Interrupts interrupts;
        Cancel *cancel;
} Export;

static void on_copied(uint64_t done, uint64_t size, void *userdata) {
        Export *export = userdata;
        g_autofree char *part = text_size(done), *whole = text_size(size);
        g_autofree char *detail = g_strdup_printf("%s of %s", part, whole);

        bar_update(&export->bar, (unsigned)(100.0 * (double)done / (double)size), detail);
        if (interrupt_take(&export->interrupts))
                cancel_trigger(export->cancel, "Interrupted.");
}

static Status copy_backup(Ctl *ctl, int backup, uint64_t size, int fd, Export *export) {
        g_auto(Error) error = {};
        int r;

        bar_init(&export->bar, "Copying", ctl->quiet);
        r = descriptor_copy(backup, size, fd, DESCRIPTOR_FILE, -1, export->cancel, on_copied, export,
                &error);
        bar_erase(&export->bar);
        if (r != 0)
                return bus_fail_named(ctl, error_name(error.code), error_message(&error), NULL);
        if (interrupt_take(&export->interrupts))
                return ctl_fail(ctl, STATUS_CANCELED, "Interrupted.");
        return STATUS_OK;
}

/* The service looked at its beginning alone: what has rotted since would take the place of a copy that is whole. */
static Status check_copied(Ctl *ctl, int fd, const char *name) {
        uint64_t licenses;
        Status status;

        if (lseek(fd, 0, SEEK_SET) < 0)
                return ctl_fail_errno(ctl, -errno, "The copy cannot be read back");
        status = verify_descriptor(ctl, fd, name, &licenses);
        /* The disk of the copy may be the bad one. */
        if (status == STATUS_CORRUPT)
                ctl_note(ctl, "To see whether that is so, or only the copy was damaged on its way: licensevaultctl "
                        "verify. To make a new one: licensevaultctl backup --overwrite");
        return status;
}

static Status export_to_file(Ctl *ctl, const char *file, const Source *backup, uint64_t size) {
        g_auto(Output) output = OUTPUT_NONE;
        g_autoptr(Cancel) cancel = NULL;
        Export export = {};
        Status status;
        int r;

        r = cancel_new(&cancel);
        if (r < 0)
                return ctl_fail_errno(ctl, r, "'%s' cannot be written", file);

        export.cancel = cancel;
        interrupt_block(&export.interrupts);
        status = output_open(ctl, file, export_overwrite, &output);
        if (status != STATUS_OK)
                return status;

        status = copy_backup(ctl, backup->fd, size, output.draft.fd, &export);
        if (status == STATUS_OK) {
                /* The reader listens to Ctrl-C by itself. */
                interrupt_restore(&export.interrupts);
                status = check_copied(ctl, output.draft.fd, backup->name);
                interrupt_block(&export.interrupts);
        }
        if (status == STATUS_OK)
                status = origin_check_replaced(ctl, &output, true);
        if (status == STATUS_OK)
                status = output_publish(ctl, &output);
        if (status != STATUS_OK) {
                note_unwritten(ctl, &output);
                return status;
        }

        g_autofree char *name = g_utf8_make_valid(file, -1), *bytes = text_size(size);
        ctl_result(ctl, "output", json_string(name));
        ctl_result(ctl, "bytes", json_from_u64(size));
        ctl_note(ctl, "Copied the backup to '%s' (%s), and verified the copy.", file, bytes);
        return STATUS_OK;
}

/* Afterwards, for whole documents can be had out of a damaged one: but who keeps it must not take it for a good one. */
static Status check_sent(Ctl *ctl, const Source *backup) {
        uint64_t licenses;
        Status status;

        if (lseek(backup->fd, 0, SEEK_SET) < 0)
                return ctl_fail_errno(ctl, -errno, "The backup cannot be read");
        status = verify_descriptor(ctl, backup->fd, backup->name, &licenses);
        if (status == STATUS_CORRUPT)
                ctl_note(ctl, "What was written is as damaged. To make a new one: licensevaultctl backup --overwrite");
        return status;
}

static Status export_to_stdout(Ctl *ctl, const Source *backup, uint64_t size) {
        g_autofree uint8_t *buffer = g_malloc(COPY_SIZE);
        Status status = STATUS_OK;

        for (uint64_t done = 0; status == STATUS_OK && done < size;) {
                ssize_t n = io_pread_all(backup->fd, buffer, MIN(COPY_SIZE, size - done), done);

                if (n <= 0)
                        return ctl_fail_errno(ctl, n < 0 ? (int)n : -EIO, "The backup cannot be read");
                status = ctl_write(ctl, buffer, (size_t)n);
                done += (size_t)n;
        }
        if (status == STATUS_OK)
                status = ctl_sync_output(ctl);
        return status == STATUS_OK ? check_sent(ctl, backup) : status;
}

Status command_export(Ctl *ctl, char **arguments) {
        g_auto(Source) backup = SOURCE_NONE;
        const char *file = arguments[0];
        Status status = STATUS_OK;
        struct stat st;

        if (is_stdout(file))
                status = check_stdout(ctl, export_overwrite);
        if (status == STATUS_OK)
                status = source_open_service(ctl, &backup);
        if (status != STATUS_OK)
                return status;
        if (fstat(backup.fd, &st) < 0)
                return ctl_fail_errno(ctl, -errno, "The backup cannot be read");

        return is_stdout(file) ? export_to_stdout(ctl, &backup, (uint64_t)st.st_size) :
                export_to_file(ctl, file, &backup, (uint64_t)st.st_size);
}
