/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dated.h"

#include "bus.h"
#include "document.h"
#include "json.h"

static Status read_license(Ctl *ctl, const void *document, size_t size, const char *media_type, const char *title,
        License *license) {
        g_auto(Error) error = {};

        if (!document_is_claimed(document, size, media_type))
                return STATUS_OK;
        if (document_read(document, size, media_type, license, &error) == ERROR_NO_MEMORY)
                return ctl_fail(ctl, STATUS_FAILED, "Not enough memory for '%s'.", title);
        /* It may have found an id and a date before it found what is wrong. */
        if (error.code != ERROR_NONE)
                license->document_date = LICENSE_NO_DATE;
        return STATUS_OK;
}

Status dated_read(Ctl *ctl, const void *document, size_t size, const char *media_type, const char *title, Dated *ret) {
        g_auto(License) license;
        Status status;

        license_init(&license);
        status = read_license(ctl, document, size, media_type, title, &license);
        if (status == STATUS_OK && license.document_date != LICENSE_NO_DATE)
                *ret = (Dated) { .id = g_steal_pointer(&license.id), .date = license.document_date };
        return status;
}

Status dated_ask(Ctl *ctl, const char *id, const char *title, int64_t *ret_date) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *call = NULL, *reply = NULL;
        __attribute__((cleanup(sd_bus_error_free))) sd_bus_error error = SD_BUS_ERROR_NULL;
        json_auto_t *properties = NULL;
        g_autoptr(GMappedFile) document = NULL;
        g_auto(License) license;
        Status status;
        int fd;

        license_init(&license);
        status = bus_call_new(ctl, BUS_STORE, "OpenLicense", &call, "s", id);
        if (status != STATUS_OK)
                return status;
        if (!bus_try_call(ctl, call, &error, &reply)) {
                ErrorCode code = error_from_name(error.name ?: "");

                if (code != ERROR_LICENSE_UNAVAILABLE && code != ERROR_STORE_CORRUPT)
                        return bus_fail(ctl, &error, title);
                *ret_date = LICENSE_NO_DATE;
                return STATUS_OK;
        }
        if (sd_bus_message_read(reply, "h", &fd) < 0 || json_read_dictionary(reply, &properties) < 0)
                return bus_fail_parse(ctl);

        /* A memfd that nobody can change. */
        document = g_mapped_file_new_from_fd(fd, FALSE, NULL);
        if (!document)
                return ctl_fail(ctl, STATUS_FAILED, "What the store has of '%s' cannot be read.", title);
        status = read_license(ctl, g_mapped_file_get_contents(document), g_mapped_file_get_length(document),
                json_string_value(json_object_get(properties, "MediaType")), title, &license);
        if (status == STATUS_OK)
                *ret_date = license.document_date;
        return status;
}
