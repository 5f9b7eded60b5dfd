/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>
#include <unistd.h>

#include "backup-read.h"
#include "bar.h"
#include "bus.h"
#include "follow.h"
#include "interrupt.h"
#include "json.h"
#include "pager.h"
#include "row.h"
#include "source.h"
#include "terminal.h"
#include "text.h"

/*
 * verify and inspect read a backup by themselves, without the service, and as strictly as a restore does.
 * What they tell of it is true only when all of it was read and proved, and they say so at the end.
 */

#define ROWS_AT_ONCE 500U

static gboolean verify_service;

const GOptionEntry verify_options[] = {
        { "service", 0, 0, G_OPTION_ARG_NONE, &verify_service,
                "Let the service read it, by the limits that a restore would have now", NULL },
        {},
};

typedef struct Reading {
        Ctl *ctl;
        const Source *source;
        Cancel *cancel;
        Bar bar;          /* of verify */
        uint64_t total;   /* licenses, as the manifest claims */
        uint64_t done;
        uint64_t damaged; /* licenses, as the manifest says */
        char *from;       /* "anna on laptop" */
        char *created;
        char *software;
        json_t *origin;
        bool all_users;
        Table *ids;       /* of inspect: revoked and restricted ids */
        Table *licenses;
        uint64_t rows;    /* in the table that is filled, not yet printed */
        bool any_ids;
        Status status;    /* of what is printed: why the visitor gave up */
} Reading;

static void reading_clear(Reading *reading) {
        interrupt_trigger(NULL);
        cancel_unref(reading->cancel);
        g_free(reading->from);
        g_free(reading->created);
        g_free(reading->software);
        json_decref(reading->origin);
        table_free(reading->ids);
        table_free(reading->licenses);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Reading, reading_clear)

/* Of both */

static char *describe_time(const char *created) {
        g_autoptr(GDateTime) utc = g_date_time_new_from_iso8601(created, NULL);
        g_autoptr(GDateTime) local = utc ? g_date_time_to_local(utc) : NULL;

        return local ? g_date_time_format(local, "%Y-%m-%d %H:%M") : g_strdup(created);
}

static json_t *origin_to_json(const BackupOrigin *origin) {
        json_t *owner = origin->all_users ? NULL :
                json_pack("{ss* sI}", "name", origin->name, "uid", (json_int_t)origin->uid);

        return json_pack("{ss ss ss ss sb so*}", "software", origin->software, "created", origin->created,
                "host", origin->host, "machine", origin->machine, "all_users", origin->all_users, "owner", owner);
}

static void note_origin(Reading *reading, const BackupOrigin *origin) {
        reading->from = backup_origin_describe(origin);
        reading->created = describe_time(origin->created);
        reading->software = g_strdup(origin->software);
        reading->origin = origin_to_json(origin);
        reading->all_users = origin->all_users;
        reading->total = origin->licenses;
        reading->damaged = origin->damaged;
}

static Status fail_reading(const Reading *reading, const Error *error) {
        Ctl *ctl = reading->ctl;
        Status status = bus_fail_named(ctl, error_name(error->code), error_message(error), reading->source->name);

        if (error->code == ERROR_LIMIT_EXCEEDED)
                ctl_note(ctl, "That is the most that any service can be set to take: none made this file.");
        return status;
}

static Status begin(Ctl *ctl, const Source *source, Reading *reading) {
        int r;

        reading->ctl = ctl;
        reading->source = source;
        r = cancel_new(&reading->cancel);
        if (r < 0)
                return ctl_fail_errno(ctl, r, "'%s' cannot be read", source->name);
        interrupt_trigger(reading->cancel);
        return source_expect(ctl, source, cancel_fd(reading->cancel));
}

/* What a backup that was proved is: the members of the result, which --json prints. */
static void set_result(Reading *reading, const ArchiveCounts *counts) {
        ctl_result(reading->ctl, "whole", json_true());
        ctl_result(reading->ctl, "licenses", json_integer((json_int_t)counts->licenses));
        ctl_result(reading->ctl, "restricted", json_integer((json_int_t)counts->restricted));
        ctl_result(reading->ctl, "damaged", json_integer((json_int_t)reading->damaged));
        ctl_result(reading->ctl, "bytes", json_integer((json_int_t)counts->bytes));
}

static void note_whole(const Reading *reading, const ArchiveCounts *counts) {
        g_autofree char *licenses = text_licenses(counts->licenses), *size = text_size(counts->bytes);

        ctl_note(reading->ctl, "'%s' is whole and undamaged. It has %s of %s (%s), backed up on %s.",
                reading->source->name, licenses, reading->from, size, reading->created);
        if (reading->damaged > 0) {
                g_autofree char *damaged = text_licenses(reading->damaged);

                ctl_note(reading->ctl, "It lacks %s, damaged in the store when it was made: NOT-BACKED-UP.txt in it "
                        "tells which. An older backup may have them.", damaged);
        }
}

/* verify */

static int verify_origin(const BackupOrigin *origin, void *userdata, Error *error) {
        note_origin(userdata, origin);
        return 0;
}

static int verify_license(BackupLicense *license, void *userdata, Error *error) {
        Reading *reading = userdata;
        g_autofree char *detail = NULL;

        reading->done++;
        detail = g_strdup_printf("%" PRIu64 " of %" PRIu64, reading->done, reading->total);
        /* Whole it is when END.json has said so. */
        bar_update(&reading->bar, (unsigned)MIN(99.0 * (double)reading->done / (double)MAX(reading->total, 1), 99.0),
                detail);
        return 0;
}

static Status verify(Ctl *ctl, const Source *source, Reading *reading, ArchiveCounts *ret) {
        const BackupVisitor visitor = { .origin = verify_origin, .license = verify_license, .userdata = reading };
        g_auto(Error) error = {};
        Status status;
        int r;

        status = begin(ctl, source, reading);
        if (status != STATUS_OK)
                return status;

        bar_init(&reading->bar, "Verifying", ctl->quiet);
        r = backup_read(source->fd, LICENSE_DOCUMENT_MAX, -1, reading->cancel, &visitor, ret, &error);
        bar_erase(&reading->bar);
        return r != 0 ? fail_reading(reading, &error) : STATUS_OK;
}

Status verify_descriptor(Ctl *ctl, int fd, const char *name, uint64_t *ret_licenses) {
        const Source source = { .name = name, .fd = fd };
        g_auto(Reading) reading = {};
        ArchiveCounts counts;
        Status status;

        status = verify(ctl, &source, &reading, &counts);
        if (status == STATUS_OK)
                *ret_licenses = counts.licenses;
        return status;
}

/* VerifyBackup(): with the limits that the service has now, and with its rights alone. */
static Status verify_by_service(Ctl *ctl, const Source *source) {
        g_auto(JobEnd) end = {};
        sd_bus_message *call;
        Status status;

        if ((status = source_expect(ctl, source, -1)) != STATUS_OK)
                return status;
        status = bus_call_new(ctl, BUS_RESTORE, "VerifyBackup", &call, "h", source->fd);
        if (status != STATUS_OK)
                return status;
        status = follow_job(ctl, call, "Verifying", source->name, -1, &end);
        if (status != STATUS_OK)
                return status;

        g_autofree char *licenses = text_licenses(json_get_u64(end.result, "licenses")),
                        *size = text_size(json_get_u64(end.result, "bytes"));
        ctl_result(ctl, "whole", json_true());
        (void)json_object_update(ctl->result, end.result);
        ctl_note(ctl, "'%s' is whole and undamaged, says the service. It has %s (%s).", source->name, licenses, size);
        return STATUS_OK;
}

/* Without a name it is the backup of the service. */
static Status open_named(Ctl *ctl, char **arguments, Source *ret) {
        return arguments[0] ? source_open_at_once(ctl, arguments[0], ret) : source_open_service(ctl, ret);
}

Status command_verify(Ctl *ctl, char **arguments) {
        g_auto(Source) source = SOURCE_NONE;
        g_auto(Reading) reading = {};
        ArchiveCounts counts;
        Status status;

        status = open_named(ctl, arguments, &source);
        if (status == STATUS_OK && verify_service)
                return verify_by_service(ctl, &source);
        if (status != STATUS_OK || (status = verify(ctl, &source, &reading, &counts)) != STATUS_OK)
                return status;

        set_result(&reading, &counts);
        ctl_result(ctl, "origin", json_incref(reading.origin));
        note_whole(&reading, &counts);
        return STATUS_OK;
}

/* inspect */

static const Column license_columns[] = { ROW_COLUMNS, { "USER", 4, 0 } };
/* In a pipe all rows have the same cells, and this one tells what they are. */
static const Column piped_columns[] = { ROW_COLUMNS, { "STATE", 8, 0 }, { "USER", 4, 0 } };
static const Column id_columns[] = { { "ID", 36, 10 }, { "STATE", 8, 0 }, { "USER", 4, 0 } };

/* Ends the reading where nobody reads any more what it prints. */
static int check_output(Reading *reading, Error *error) {
        reading->status = ctl_flush(reading->ctl);
        return reading->status == STATUS_OK ? 0 : error_set(error, ERROR_CANCELED, "Nobody reads.");
}

static int print_rows(Reading *reading, Table *table, Error *error) {
        reading->rows = 0;
        table_print(table);
        return check_output(reading, error);
}

static int end_row(Reading *reading, Table *table, const char *owner, Error *error) {
        if (reading->all_users)
                table_add(table, owner ?: "");
        return ++reading->rows < ROWS_AT_ONCE ? 0 : print_rows(reading, table, error);
}

/* One JSON object on a line: its one member tells what it is. */
static int print_json(Reading *reading, const char *kind, json_t *value, Error *error) {
        json_auto_t *line = json_pack("{so}", kind, value);

        if (!line)
                return error_set_no_memory(error);
        ctl_print_json(line);
        return ++reading->rows % ROWS_AT_ONCE ? 0 : check_output(reading, error);
}

static void make_tables(Reading *reading) {
        bool terminal = terminal_is_stdout(), users = reading->all_users;

        reading->ids = terminal ? table_new(id_columns, G_N_ELEMENTS(id_columns) - !users) :
                table_new(piped_columns, G_N_ELEMENTS(piped_columns) - !users);
        reading->licenses = terminal ? table_new(license_columns, G_N_ELEMENTS(license_columns) - !users) :
                table_new(piped_columns, G_N_ELEMENTS(piped_columns) - !users);
}

static int inspect_origin(const BackupOrigin *origin, void *userdata, Error *error) {
        Reading *reading = userdata;
        Ctl *ctl = reading->ctl;

        note_origin(reading, origin);
        if (ctl->json) {
                json_t *value = json_incref(reading->origin);

                (void)json_object_set_new(value, "licenses", json_integer((json_int_t)origin->licenses));
                (void)json_object_set_new(value, "restricted", json_integer((json_int_t)origin->restricted));
                (void)json_object_set_new(value, "damaged", json_integer((json_int_t)origin->damaged));
                return print_json(reading, "origin", value, error);
        }

        pager_open(ctl);
        make_tables(reading);
        ctl_note(ctl, "Backup of      %s", reading->from);
        ctl_note(ctl, "Made           %s by %s", reading->created, reading->software);
        ctl_note(ctl, "Licenses       %" PRIu64, origin->licenses);
        ctl_note(ctl, "Not backed up  %" PRIu64, origin->restricted);
        if (origin->damaged > 0)
                ctl_note(ctl, "Damaged        %" PRIu64, origin->damaged);
        return 0;
}

static json_t *state_to_json(const BackupState *state) {
        return json_pack("{ss sI ss*}", "LicenseId", state->license.id, "Generation",
                (json_int_t)state->license.generation, "User", state->owner);
}

/* Most ids have their document further on; these are those that have none, and why. */
static int inspect_state(BackupState *state, void *userdata, Error *error) {
        bool revoked = state->revoked != LICENSE_NO_TIME;
        Reading *reading = userdata;

        if (!revoked && state->license.allow_backup)
                return 0;

        if (reading->ctl->json) {
                json_t *value = state_to_json(state);

                if (value && revoked)
                        (void)json_object_set_new(value, "Revoked", json_integer(state->revoked));
                return print_json(reading, revoked ? "revoked" : "restricted", value, error);
        }

        reading->any_ids = true;
        table_add(reading->ids, state->license.id);
        if (!terminal_is_stdout())
                for (unsigned i = 0; i < 4; i++)
                        table_add(reading->ids, i == 2 ? "-" : "");
        if (revoked) {
                g_autofree char *date = text_date(state->revoked);
                g_autofree char *cell = g_strdup_printf("revoked %s", date);

                table_add(reading->ids, cell);
        } else
                table_add(reading->ids, "may not be backed up");
        return end_row(reading, reading->ids, state->owner, error);
}

static void set_time(json_t *object, const char *name, int64_t time) {
        if (time != LICENSE_NO_TIME)
                (void)json_object_set_new(object, name, json_integer(time));
}

static json_t *license_to_json(const BackupLicense *backup) {
        const License *license = &backup->license;
        json_t *object = json_pack("{ss ss* ss* ss* ss* sb}", "LicenseId", license->id, "KeyId", license->key_id,
                "Title", license->title, "Issuer", license->issuer, "MediaType", license->media_type,
                "AllowBackup", license->allow_backup);

        set_time(object, "NotBefore", license->not_before);
        set_time(object, "NotAfter", license->not_after);
        if (license->counters->len > 0) {
                json_t *counters = json_object();

                for (unsigned i = 0; i < license->counters->len; i++) {
                        const Counter *counter = &g_array_index(license->counters, Counter, i);
                        (void)json_object_set_new(counters, counter->right,
                                json_integer((json_int_t)counter->remaining));
                }
                (void)json_object_set_new(object, "Counters", counters);
        }
        return object;
}

static int inspect_license(BackupLicense *license, void *userdata, Error *error) {
        Reading *reading = userdata;
        json_auto_t *object = license_to_json(license);
        int r;

        if (!object)
                return error_set_no_memory(error);

        if (reading->ctl->json) {
                (void)json_object_set_new(object, "Entry", json_string(license->path));
                (void)json_object_set_new(object, "Size", json_integer((json_int_t)license->license.size));
                (void)json_object_set_new(object, "Generation",
                        json_integer((json_int_t)license->license.generation));
                if (license->owner)
                        (void)json_object_set_new(object, "User", json_string(license->owner));
                return print_json(reading, "license", json_incref(object), error);
        }

        if (reading->done++ == 0) {
                /* The last of the other table, and a line between them. */
                r = print_rows(reading, reading->ids, error);
                if (r != 0)
                        return r;
                if (reading->any_ids && terminal_is_stdout())
                        puts("");
        }
        row_add(reading->licenses, object);
        if (!terminal_is_stdout())
                table_add(reading->licenses, "license");
        return end_row(reading, reading->licenses, license->owner, error);
}

static Status print_rest(Reading *reading) {
        if (reading->ids)
                table_print(reading->ids);
        if (reading->licenses)
                table_print(reading->licenses);
        return ctl_flush(reading->ctl);
}

Status command_inspect(Ctl *ctl, char **arguments) {
        g_auto(Source) source = SOURCE_NONE;
        g_auto(Reading) reading = {};
        const BackupVisitor visitor = {
                .origin = inspect_origin,
                .state = inspect_state,
                .license = inspect_license,
                .userdata = &reading,
        };
        g_auto(Error) error = {};
        ArchiveCounts counts;
        Status status;
        int r;

        if ((status = open_named(ctl, arguments, &source)) != STATUS_OK ||
            (status = begin(ctl, &source, &reading)) != STATUS_OK)
                return status;

        r = backup_read(source.fd, LICENSE_DOCUMENT_MAX, -1, reading.cancel, &visitor, &counts, &error);
        if (reading.status != STATUS_OK)
                return reading.status;

        status = print_rest(&reading);
        if (status != STATUS_OK)
                return status;
        if (r != 0) {
                bool shown = reading.origin;

                status = fail_reading(&reading, &error);
                if (shown)
                        ctl_note(ctl, "What is shown above is not proved, and may not be all.");
                return status;
        }

        set_result(&reading, &counts);
        note_whole(&reading, &counts);
        return STATUS_OK;
}
