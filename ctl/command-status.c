/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "backup-read.h"
#include "bus.h"
#include "fields.h"
#include "job.h"
#include "json.h"
#include "series-name.h"
#include "series.h"
#include "source.h"
#include "text.h"
#include "user-name.h"

/*
 * status: whether all is well, in a few lines. The backup in the folder of the service is read, all of it, so that what
 * is said of it is true now. Of backups that went to a file nobody keeps a record: who has them there names the file,
 * or the folder of --folder.
 */

#define OLD_DAYS 7
#define MAKE_FOR_ALL "systemctl start licensevault-backup.service"

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
        const char *what;  /* "The backup" */
        const char *place; /* the file or folder that was named; NULL for that of the service */
        bool all_users;
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
                .host = g_strdup(origin->host),
                .all_users = origin->all_users,
                .uid = origin->uid,
                .name = g_strdup(origin->name),
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
        (void)backup_read(backup->source.fd, LICENSE_DOCUMENT_MAX, -1, cancel, &visitor, &backup->counts,
                &backup->error);
        return STATUS_OK;
}

/* Days since a time in ISO 8601; 0 where it is none, or still to come. */
static int64_t days_since(const char *created) {
        g_autoptr(GDateTime) then = created ? g_date_time_new_from_iso8601(created, NULL) : NULL;
        g_autoptr(GDateTime) now = g_date_time_new_now_utc();

        return then ? MAX(g_date_time_difference(now, then) / G_TIME_SPAN_DAY, 0) : 0;
}

static json_t *backup_to_json(const Backup *backup) {
        return json_pack("{ss ss* sI sI sI sI sb}", "path", backup->source.name, "created", backup->origin.created,
                "licenses", (json_int_t)backup->origin.licenses, "restricted", (json_int_t)backup->origin.restricted,
                "damaged", (json_int_t)backup->origin.damaged, "bytes", (json_int_t)backup->counts.bytes, "whole",
                backup->error.code == ERROR_NONE);
}

/* Whether it is of the caller's licenses, be it of another machine. */
static bool is_own(const Backup *backup) {
        g_autofree char *name = NULL;

        if (backup->origin.all_users || user_name_of(geteuid(), &name) < 0)
                return false;
        return g_strcmp0(backup->origin.name, name) == 0 && (*name || backup->origin.uid == geteuid());
}

static void show_backup(const Report *report, const Backup *backup) {
        bool whole = backup->error.code == ERROR_NONE;
        uint64_t seconds;

        if (backup->origin.created) {
                g_autofree char *licenses = text_licenses(backup->origin.licenses);
                g_autofree char *size = text_size(backup->counts.bytes);
                g_autofree char *time = text_read_time(backup->origin.created, &seconds) ? text_time((int64_t)seconds) :
                        g_strdup(backup->origin.created);
                const char *label = report->all_users ? "Their backup" : "Last backup";

                if (whole)
                        field_printf(label, "%s, %s, %s", time, licenses, size);
                else
                        field_printf(label, "%s", time);
                if (!report->all_users && !is_own(backup)) {
                        g_autofree char *from = backup_origin_describe(&backup->origin);

                        field_print("Backup of", from);
                }
        }
        field_print("Kept in", backup->source.name);
        if (whole)
                field_print_tone("Verified", TONE_GOOD, "whole and undamaged: it was read just now");
        else
                field_print_tone("Verified", TONE_BAD, "no: see below");
}

/* How a new one is made in its place (g_free). */
static char *renewal(const Report *report, const Backup *backup) {
        const char *whose = backup->origin.all_users ? " --all-users" :
                backup->origin.created && !is_own(backup) ? " --owner USER" : "";

        if (report->all_users)
                return g_strdup(MAKE_FOR_ALL);
        if (!report->place)
                return g_strdup("licensevaultctl backup --overwrite");
        return g_strdup_printf("licensevaultctl backup%s %s", whose,
                g_file_test(report->place, G_FILE_TEST_IS_DIR) ? "--folder FOLDER" : "--output FILE");
}

/* How the licenses of the backup come back. */
static Status find_return(Ctl *ctl, const Report *report, const Backup *backup, const char **ret) {
        g_autofree char *restored = NULL, *folder = NULL;
        Status status;

        if (report->all_users)
                *ret = "licensevaultctl restore --all-users FILE";
        else if (report->place)
                *ret = "licensevaultctl restore FILE";
        else {
                status = path_read(ctl, RESTORE_PATH, &restored);
                if (status != STATUS_OK)
                        return status;
                folder = g_path_get_dirname(backup->source.name);
                *ret = strcmp(folder, restored) == 0 ? "licensevaultctl restore" :
                        "licensevaultctl export FILE, and: licensevaultctl restore FILE";
        }
        return STATUS_OK;
}

/* Where the backup has more than there are, it may be the last that has them: a new one would take its place. */
static Status warn_of_loss(Ctl *ctl, const Report *report, const Backup *backup, uint64_t had, uint64_t now) {
        g_autofree char *licenses = text_licenses(had), *again = renewal(report, backup);
        const char *way = NULL;
        Status status;

        status = find_return(ctl, report, backup, &way);
        if (status == STATUS_OK)
                warn(ctl, report, "%s %s %s, and there %s %" PRIu64 " now. If licenses were lost, bring them back "
                        "first, with: %s. If they were removed on purpose, make a new one with: %s", report->what,
                        report->all_users ? "was made of" : "has", licenses, now == 1 ? "is" : "are", now, way, again);
        return status;
}

static Status warn_of_backup(Ctl *ctl, const Report *report, const Backup *backup) {
        const BackupOrigin *origin = &backup->origin;
        uint64_t had = origin->licenses, now = report->licenses - report->never_backed_up;
        bool comparable = report->all_users ? origin->all_users : is_own(backup);
        g_autofree char *lacking = text_licenses(origin->damaged), *again = renewal(report, backup);
        int64_t days = days_since(origin->created);
        Status status = STATUS_OK;

        /* Of all users nobody has counted those that may not be backed up. */
        if (report->all_users)
                had += origin->restricted + origin->damaged;

        if (origin->damaged > 0)
                warn(ctl, report, "%s lacks %s, damaged in the store. See which: NOT-BACKED-UP.txt in it. Store that "
                        "again, or restore it from an older backup.", report->what, lacking);
        if (comparable && had > now)
                status = warn_of_loss(ctl, report, backup, had, now);
        else if (comparable && had < now && origin->damaged == 0 && !report->all_users) {
                g_autofree char *licenses = text_licenses(had);

                warn(ctl, report, "%s has %s, and there %s %" PRIu64 " now. Make a new one with: %s", report->what,
                        licenses, now == 1 ? "is" : "are", now, again);
        }
        if (days > OLD_DAYS && comparable && had > now)
                warn(ctl, report, "%s is %" PRIi64 " days old.", report->what, days);
        else if (days > OLD_DAYS)
                warn(ctl, report, "%s is %" PRIi64 " days old. Make a new one with: %s", report->what, days, again);
        return status;
}

/* There is a backup of the service, which cannot be had. */
static Status fail_backup(Ctl *ctl, const sd_bus_error *error) {
        if (error_from_name(error->name) != ERROR_BACKUP_CORRUPT)
                return bus_fail(ctl, error, "The backup");
        if (!ctl->json)
                field_print_tone("Last backup", TONE_BAD, "damaged: see below");
        ctl_push(ctl);
        return bus_fail(ctl, error, NULL);
}

/* Opens the backup that is meant. false, with *ret_status set, where there is none; that has been said. */
static bool open_backup(Ctl *ctl, const Report *report, Source *ret, char **ret_path, Status *ret_status) {
        __attribute__((cleanup(sd_bus_error_free))) sd_bus_error error = SD_BUS_ERROR_NULL;
        const char *file = report->place;

        *ret_status = STATUS_OK;
        if (!file && source_try_open_service(ctl, &error, ret))
                return true;
        if (file && g_file_test(file, G_FILE_TEST_IS_DIR)) {
                _cleanup_fd_ int fd = open(file, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

                if (fd < 0) {
                        *ret_status = ctl_fail_errno(ctl, -errno, "The folder '%s' cannot be opened", file);
                        return false;
                }
                file = *ret_path = series_newest(file);
        }
        if (file) {
                *ret_status = *ret_path ? source_open_found(ctl, file, ret) : source_open(ctl, file, ret);
                return *ret_status == STATUS_OK;
        }
        if (!report->place && !source_is_missing(&error)) {
                *ret_status = fail_backup(ctl, &error);
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

/* Shows a backup that was read, and says what is wrong with it. */
static Status judge(Ctl *ctl, const Report *report, const Backup *backup) {
        Status status;

        if (!ctl->json)
                show_backup(report, backup);
        if (backup->error.code == ERROR_NONE)
                return warn_of_backup(ctl, report, backup);

        ctl_push(ctl);
        status = bus_fail_named(ctl, error_name(backup->error.code), error_message(&backup->error),
                backup->source.name);
        if (report->licenses > report->never_backed_up) {
                g_autofree char *again = renewal(report, backup);

                ctl_note(ctl, "Make a new one with: %s", again);
        }
        return status;
}

static void warn_of_incomplete(Ctl *ctl, const Report *report, const char *file) {
        warn(ctl, report, "The newest backup there, '%s', lacks what is damaged in the store. See which: "
                "NOT-BACKED-UP.txt in it. That has to be stored again, or restored from an older backup.", file);
}

static Status report_backup(Ctl *ctl, const Report *report) {
        g_auto(Backup) backup = { .source = SOURCE_NONE };
        g_autofree char *path = NULL, *incomplete = NULL;
        Status status;

        if (!open_backup(ctl, report, &backup.source, &path, &status))
                ctl_result(ctl, "backup", json_null());
        else if ((status = read_backup(ctl, &backup)) == STATUS_OK) {
                ctl_result(ctl, "backup", backup_to_json(&backup));
                status = judge(ctl, report, &backup);
        }

        incomplete = report->place ? series_newest_incomplete(report->place, path) : NULL;
        if (incomplete)
                warn_of_incomplete(ctl, report, incomplete);
        return status;
}

/* For root */

static Status report_backup_of_all(Ctl *ctl, const Report *report, const char *newest, json_t *result) {
        g_auto(Backup) backup = { .source = SOURCE_NONE };
        Status status;

        if ((status = source_open_found(ctl, newest, &backup.source)) != STATUS_OK ||
            (status = read_backup(ctl, &backup)) != STATUS_OK)
                return status;
        (void)json_object_set_new(result, "last_backup", backup_to_json(&backup));
        status = judge(ctl, report, &backup);
        if (status == STATUS_OK && !backup.origin.all_users)
                warn(ctl, report, "'%s' is not of all users, but of '%s' alone. Make a new one with: " MAKE_FOR_ALL,
                        newest, backup.origin.name);
        return status;
}

static Status report_all_users(Ctl *ctl, const Report *own) {
        Report report = { .what = "The backup of all users", .place = SERIES_TIMER_FOLDER, .all_users = true,
                .warnings = own->warnings };
        g_autofree char *newest = series_newest(report.place),
                        *incomplete = series_newest_incomplete(report.place, newest);
        unsigned owners = 0, gone = 0;
        Status status;
        json_t *result;

        status = owners_count(ctl, &owners, &report.licenses, &gone);
        if (status != STATUS_OK)
                return status;
        result = json_pack("{sI sI sI ss*}", "owners", (json_int_t)owners, "licenses", (json_int_t)report.licenses,
                "gone", (json_int_t)gone, "backup", newest);
        ctl_result(ctl, "all_users", result);
        if (!ctl->json) {
                field_printf("All users", "%" PRIu64 " license%s of %u user%s", report.licenses,
                        report.licenses == 1 ? "" : "s", owners, owners == 1 ? "" : "s");
                if (!newest)
                        field_printf("Their backup", "none%s in %s", incomplete ? " that is whole" : "", report.place);
        }
        if (gone > 0)
                warn(ctl, &report,
                        "Licenses of %u user%s are hidden, whose account%s gone. See: licensevaultctl owners", gone,
                        gone == 1 ? "" : "s", gone == 1 ? " is" : "s are");
        if (newest)
                status = report_backup_of_all(ctl, &report, newest, result);
        else if (!incomplete && report.licenses > own->licenses)
                warn(ctl, &report, "There is no backup of all users in " SERIES_TIMER_FOLDER ". To have one made every "
                        "day: systemctl enable --now licensevault-backup.timer");
        if (incomplete)
                warn_of_incomplete(ctl, &report, incomplete);
        return status;
}

Status command_status(Ctl *ctl, char **arguments) {
        Report report = { .what = "The backup", .place = arguments[0], .warnings = json_array() };
        Status status, flushed;

        if ((status = report_service(ctl)) == STATUS_OK &&
            (status = report_licenses(ctl, &report)) == STATUS_OK &&
            (status = report_jobs(ctl)) == STATUS_OK &&
            ((status = report_backup(ctl, &report)) == STATUS_OK || status == STATUS_CORRUPT) && geteuid() == 0) {
                Status of_all = report_all_users(ctl, &report);

                status = status == STATUS_OK ? of_all : status;
        }

        ctl_result(ctl, "warnings", report.warnings);
        flushed = ctl_flush(ctl);
        return status != STATUS_OK ? status : flushed;
}
