/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "backup-read.h"
#include "bus.h"
#include "fields.h"
#include "job.h"
#include "json.h"
#include "series.h"
#include "source.h"
#include "text.h"

/*
 * status: whether all is well, in a few lines. The backup in the folder of the service is read, all of it, so that what
 * is said of it is true now. Of backups that went to a file nobody keeps a record: who has them there names the file,
 * or the folder of --folder.
 */

/* As in verify. */
#define DOCUMENT_MAX (16U * 1024 * 1024)
#define OLD_DAYS 7
/* What licensevault-backup.service fills, unless it was told otherwise. */
#define ALL_USERS_FOLDER "/var/backups/licensevault"

typedef struct Backup {
        Source source;
        BackupOrigin origin;
        ArchiveCounts counts;
        Error error; /* what is wrong with it */
} Backup;

static void backup_clear(Backup *backup) {
        source_close(&backup->source);
        backup_origin_clear(&backup->origin);
        error_clear(&backup->error);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Backup, backup_clear)

typedef struct Report {
        const char *place; /* the file or folder that was named; NULL for that of the service */
        uint64_t licenses;
        uint64_t never_backed_up;
        json_t *warnings;
} Report;

static void warn(Ctl *ctl, const Report *report, const char *format, ...) G_GNUC_PRINTF(3, 4);
static void warn(Ctl *ctl, const Report *report, const char *format, ...) {
        g_autofree char *message = NULL;
        va_list ap;

        va_start(ap, format);
        message = g_strdup_vprintf(format, ap);
        va_end(ap);
        (void)json_array_append_new(report->warnings, json_string(message));
        ctl_push(ctl);
        ctl_warn(ctl, "%s", message);
}

/* Whether the service runs already: a call has it started where it does not. */
static bool is_running(Ctl *ctl) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *reply = NULL;
        int running = 0;

        return sd_bus_call_method(ctl->bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                       "NameHasOwner", NULL, &reply, "s", BUS_NAME) >= 0 &&
                sd_bus_message_read(reply, "b", &running) >= 0 && running;
}

static Status report_service(Ctl *ctl) {
        __attribute__((cleanup(sd_bus_error_free))) sd_bus_error error = SD_BUS_ERROR_NULL;
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *reply = NULL;
        json_auto_t *manager = NULL;
        Status status;
        bool running;

        status = bus_connect(ctl);
        if (status != STATUS_OK)
                return status;
        running = is_running(ctl);
        if (sd_bus_call_method(ctl->bus, BUS_NAME, ROOT_PATH, "org.freedesktop.DBus.Properties", "GetAll", &error,
                    &reply, "s", BUS_MANAGER) < 0)
                return bus_fail(ctl, &error, NULL);
        if (json_read_dictionary(reply, &manager) < 0)
                return bus_fail_parse(ctl);

        ctl_result(ctl, "service", json_pack("{sb ss ss}", "was_running", running, "version",
                json_get_string(manager, "Version"), "instance", json_get_string(manager, "InstanceId")));
        if (!ctl->json)
                field_printf("Service", "%s, version %s", running ? "running" : "was not running, and was started now",
                        json_get_string(manager, "Version"));
        return STATUS_OK;
}

/* How many licenses there are; with restricted, of those alone that may not be backed up. */
static Status count_licenses(Ctl *ctl, bool restricted, uint64_t *ret) {
        g_autofree char *after = g_strdup("");

        *ret = 0;
        do {
                __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *call = NULL, *reply = NULL;
                const char *next;
                Status status;
                int r;

                status = restricted ?
                        bus_call_new(ctl, BUS_STORE, "EnumerateLicenses", &call, "a{sv}su", 1, "AllowBackup", "b", 0,
                                after, 0) :
                        bus_call_new(ctl, BUS_STORE, "EnumerateLicenses", &call, "a{sv}su", 0, after, 0);
                if (status != STATUS_OK || (status = bus_call(ctl, call, NULL, &reply)) != STATUS_OK)
                        return status;

                r = sd_bus_message_enter_container(reply, 'a', "(sa{sv})");
                while (r >= 0 && (r = sd_bus_message_at_end(reply, false)) == 0) {
                        r = sd_bus_message_skip(reply, "(sa{sv})");
                        (*ret)++;
                }
                if (r < 0 || sd_bus_message_exit_container(reply) < 0 || sd_bus_message_read(reply, "s", &next) < 0)
                        return bus_fail_parse(ctl);
                g_free(after);
                after = g_strdup(next);
        } while (*after);
        return STATUS_OK;
}

static Status report_licenses(Ctl *ctl, Report *report) {
        Status status;

        if ((status = count_licenses(ctl, false, &report->licenses)) != STATUS_OK ||
            (status = count_licenses(ctl, true, &report->never_backed_up)) != STATUS_OK)
                return status;

        ctl_result(ctl, "licenses", json_from_u64(report->licenses));
        ctl_result(ctl, "never_backed_up", json_from_u64(report->never_backed_up));
        if (ctl->json)
                return STATUS_OK;
        if (report->never_backed_up > 0)
                field_printf("Licenses", "%" PRIu64 ", of which %" PRIu64 " may not be backed up", report->licenses,
                        report->never_backed_up);
        else
                field_printf("Licenses", "%" PRIu64, report->licenses);
        return STATUS_OK;
}

static Status report_jobs(Ctl *ctl) {
        g_autoptr(GPtrArray) jobs = NULL;
        unsigned active = 0;
        Status status;

        status = job_list(ctl, &jobs);
        if (status != STATUS_OK)
                return status;
        for (unsigned i = 0; i < jobs->len; i++)
                active += job_is_active(jobs->pdata[i]);
        ctl_result(ctl, "jobs", json_integer(active));
        if (!ctl->json && active > 0)
                field_printf("Jobs", "%u running: licensevaultctl jobs", active);
        else if (!ctl->json)
                field_print("Jobs", "none running");
        return STATUS_OK;
}

/* The backup in the folder of the service */

static int keep_origin(const BackupOrigin *origin, void *userdata, Error *error) {
        Backup *backup = userdata;

        backup->origin = (BackupOrigin) {
                .created = g_strdup(origin->created),
                .all_users = origin->all_users,
                .licenses = origin->licenses,
                .restricted = origin->restricted,
                .damaged = origin->damaged,
        };
        return 0;
}

static Status read_backup(Ctl *ctl, Backup *backup) {
        const BackupVisitor visitor = { .origin = keep_origin, .userdata = backup };
        g_autoptr(Cancel) cancel = NULL;
        int r;

        r = cancel_new(&cancel);
        if (r < 0)
                return ctl_fail_errno(ctl, r, "'%s' cannot be read", backup->source.name);
        (void)backup_read(backup->source.fd, DOCUMENT_MAX, -1, cancel, &visitor, &backup->counts, &backup->error);
        return STATUS_OK;
}

/* Days since a time in ISO 8601; 0 where it is none, or still to come. */
static int64_t days_since(const char *created) {
        g_autoptr(GDateTime) then = created ? g_date_time_new_from_iso8601(created, NULL) : NULL;
        g_autoptr(GDateTime) now = g_date_time_new_now_utc();

        return then ? MAX(g_date_time_difference(now, then) / G_TIME_SPAN_DAY, 0) : 0;
}

static void show_backup(Ctl *ctl, const Backup *backup) {
        bool whole = backup->error.code == ERROR_NONE;
        uint64_t seconds;

        ctl_result(ctl, "backup", json_pack("{ss ss* sI sI sI sI sb}", "path", backup->source.name, "created",
                backup->origin.created, "licenses", (json_int_t)backup->origin.licenses, "restricted",
                (json_int_t)backup->origin.restricted, "damaged", (json_int_t)backup->origin.damaged, "bytes",
                (json_int_t)backup->counts.bytes, "whole", whole));
        if (ctl->json)
                return;

        if (backup->origin.created) {
                g_autofree char *licenses = text_licenses(backup->origin.licenses);
                g_autofree char *size = text_size(backup->counts.bytes);
                g_autofree char *time = text_read_time(backup->origin.created, &seconds) ? text_time((int64_t)seconds) :
                        g_strdup(backup->origin.created);

                if (whole)
                        field_printf("Last backup", "%s, %s, %s", time, licenses, size);
                else
                        field_printf("Last backup", "%s", time);
        }
        field_print("Kept in", backup->source.name);
        if (whole)
                field_print_tone("Verified", TONE_GOOD, "whole and undamaged: it was read just now");
        else
                field_print_tone("Verified", TONE_BAD, "no: see below");
}

static const char *renewal(const Report *report) {
        if (!report->place)
                return "Make a new one with: licensevaultctl backup --overwrite";
        if (g_file_test(report->place, G_FILE_TEST_IS_DIR))
                return "Make a new one with: licensevaultctl backup --folder FOLDER";
        return "Make a new one with: licensevaultctl backup --output FILE";
}

static void warn_of_backup(Ctl *ctl, const Report *report, const Backup *backup) {
        uint64_t backed_up = backup->origin.licenses, wanted = report->licenses - report->never_backed_up;
        g_autofree char *lacking = text_licenses(backup->origin.damaged);
        int64_t days = days_since(backup->origin.created);

        if (backup->origin.damaged > 0)
                warn(ctl, report, "The backup lacks %s, damaged in the store. See which: NOT-BACKED-UP.txt in it. Store "
                        "that again, or restore it from an older backup.", lacking);
        else if (backed_up != wanted && !backup->origin.all_users) {
                g_autofree char *had = text_licenses(backed_up);

                warn(ctl, report, "The backup has %s, and there are %" PRIu64 " now. %s", had, wanted, renewal(report));
        }
        if (days > OLD_DAYS)
                warn(ctl, report, "The backup is %" PRIi64 " days old. %s", days, renewal(report));
}

/* Opens the backup that is meant. false, with *ret_status set, where there is none; that has been said. */
static bool open_backup(Ctl *ctl, const Report *report, Source *ret, char **ret_path, Status *ret_status) {
        __attribute__((cleanup(sd_bus_error_free))) sd_bus_error error = SD_BUS_ERROR_NULL;
        const char *file = report->place;

        *ret_status = STATUS_OK;
        if (!file && source_try_open_service(ctl, &error, ret))
                return true;
        if (file && g_file_test(file, G_FILE_TEST_IS_DIR))
                file = *ret_path = series_newest(file);
        if (file) {
                *ret_status = source_open(ctl, file, ret);
                return *ret_status == STATUS_OK;
        }
        if (!report->place && error_from_name(error.name) != ERROR_BACKUP_CORRUPT) {
                *ret_status = bus_fail(ctl, &error, "The backup");
                return false;
        }

        bool matters = report->licenses > report->never_backed_up;
        if (!ctl->json)
                field_print_tone("Last backup", matters ? TONE_WARNING : TONE_PLAIN,
                        report->place ? "none in that folder" : "none in the folder of the service");
        if (matters && report->place)
                warn(ctl, report, "There is no backup in '%s'. Make one with: licensevaultctl backup --folder FOLDER",
                        report->place);
        else if (matters)
                warn(ctl, report, "There is no backup in the folder of the service. Make one with: licensevaultctl "
                        "backup; if yours is in a file: licensevaultctl status FILE");
        return false;
}

static Status report_backup(Ctl *ctl, const Report *report) {
        g_auto(Backup) backup = { .source = SOURCE_NONE };
        g_autofree char *path = NULL;
        Status status;

        if (!open_backup(ctl, report, &backup.source, &path, &status)) {
                ctl_result(ctl, "backup", json_null());
                return status;
        }

        status = read_backup(ctl, &backup);
        if (status != STATUS_OK)
                return status;
        show_backup(ctl, &backup);
        if (backup.error.code != ERROR_NONE) {
                ctl_push(ctl);
                status = bus_fail_named(ctl, error_name(backup.error.code), error_message(&backup.error),
                        backup.source.name);
                ctl_note(ctl, "%s", renewal(report));
                return status;
        }
        warn_of_backup(ctl, report, &backup);
        return STATUS_OK;
}

/* For root */

static Status report_all_users(Ctl *ctl, const Report *report) {
        g_autofree char *newest = series_newest(ALL_USERS_FOLDER);
        unsigned owners = 0, gone = 0;
        uint64_t licenses = 0;
        Status status;

        status = owners_count(ctl, &owners, &licenses, &gone);
        if (status != STATUS_OK)
                return status;
        ctl_result(ctl, "all_users", json_pack("{sI sI sI ss*}", "owners", (json_int_t)owners, "licenses",
                (json_int_t)licenses, "gone", (json_int_t)gone, "backup", newest));
        if (!ctl->json) {
                field_printf("All users", "%" PRIu64 " license%s of %u user%s", licenses, licenses == 1 ? "" : "s",
                        owners, owners == 1 ? "" : "s");
                field_print("Their backup", newest ?: "none in " ALL_USERS_FOLDER);
        }
        if (gone > 0)
                warn(ctl, report, "Licenses of %u user%s are hidden, whose account%s gone. See: licensevaultctl owners", gone,
                        gone == 1 ? "" : "s", gone == 1 ? " is" : "s are");
        if (!newest && licenses > report->licenses)
                warn(ctl, report, "There is no backup of all users in " ALL_USERS_FOLDER ". To have one made every "
                        "day: systemctl enable --now licensevault-backup.timer");
        return STATUS_OK;
}

Status command_status(Ctl *ctl, char **arguments) {
        Report report = { .place = arguments[0], .warnings = json_array() };
        Status status, flushed;

        if ((status = report_service(ctl)) == STATUS_OK &&
            (status = report_licenses(ctl, &report)) == STATUS_OK &&
            (status = report_jobs(ctl)) == STATUS_OK &&
            (status = report_backup(ctl, &report)) == STATUS_OK && geteuid() == 0)
                status = report_all_users(ctl, &report);

        ctl_result(ctl, "warnings", report.warnings);
        flushed = ctl_flush(ctl);
        return status != STATUS_OK ? status : flushed;
}
