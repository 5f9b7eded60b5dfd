/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <sys/stat.h>

#include "bus.h"
#include "fields.h"
#include "interrupt.h"
#include "io.h"
#include "json.h"
#include "output.h"
#include "text.h"

#define COPY_SIZE (64U * 1024)

/* get */

static char *get_output;
static gboolean get_overwrite;

const GOptionEntry get_options[] = {
        { "output", 'o', 0, G_OPTION_ARG_FILENAME, &get_output, "Save the document in FILE", "FILE" },
        { "overwrite", 0, 0, G_OPTION_ARG_NONE, &get_overwrite, "Replace FILE where it exists", NULL },
        {},
};

static Status copy_document(Ctl *ctl, int document, Output *output) {
        uint8_t buffer[COPY_SIZE];
        uint64_t offset = 0;
        ssize_t n;

        while ((n = io_pread_all(document, buffer, sizeof buffer, offset)) > 0) {
                if (!output) {
                        Status status = ctl_write(ctl, buffer, (size_t)n);
                        if (status != STATUS_OK)
                                return status;
                } else {
                        int r = io_write_all(output->draft.fd, buffer, (size_t)n);
                        if (r < 0)
                                return ctl_fail_errno(ctl, r, "'%s' could not be written", output->path);
                }
                offset += (uint64_t)n;
        }

        return n < 0 ? ctl_fail_errno(ctl, (int)n, "The document could not be read") : STATUS_OK;
}

static Status save_document(Ctl *ctl, int document) {
        g_auto(Output) output = OUTPUT_NONE;
        Interrupts interrupts;
        Status status;

        interrupt_block(&interrupts);
        status = output_open(ctl, get_output, get_overwrite, &output);
        if (status == STATUS_OK)
                status = copy_document(ctl, document, &output);
        if (status == STATUS_OK && interrupt_take(&interrupts))
                status = ctl_fail(ctl, STATUS_CANCELED, "Interrupted. '%s' was not written.", get_output);
        if (status == STATUS_OK)
                status = output_publish(ctl, &output);
        if (status == STATUS_OK)
                ctl_note(ctl, "Saved the document as '%s'.", get_output);
        return status;
}

/* The descriptor is the reply's. The properties have the id among them. */
static Status open_license(Ctl *ctl, const char *id, sd_bus_message **ret_reply, int *ret_fd, json_t **ret_properties) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *call = NULL;
        Status status;

        if ((status = bus_check_string(ctl, "The license id", id)) != STATUS_OK ||
            (status = bus_call_new(ctl, BUS_STORE, "OpenLicense", &call, "s", id)) != STATUS_OK ||
            (status = bus_call(ctl, call, id, ret_reply)) != STATUS_OK)
                return status;

        if (sd_bus_message_read(*ret_reply, "h", ret_fd) < 0 || json_read_dictionary(*ret_reply, ret_properties) < 0)
                return bus_fail_parse(ctl);
        (void)json_object_set_new(*ret_properties, "LicenseId", json_string(id));
        return STATUS_OK;
}

Status command_get(Ctl *ctl, char **arguments) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *reply = NULL;
        const char *id = arguments[0];
        json_t *properties = NULL;
        Status status;
        int fd = -1;

        if (g_strcmp0(get_output, "-") == 0) {
                if (ctl->json)
                        return ctl_fail(ctl, STATUS_USAGE,
                                "--json and --output - both go to standard output. Leave one out.");
                g_clear_pointer(&get_output, g_free);
        }
        if (get_overwrite && !get_output)
                return ctl_fail(ctl, STATUS_USAGE, "--overwrite needs --output FILE.");

        status = open_license(ctl, id, &reply, &fd, &properties);
        if (status != STATUS_OK)
                return status;
        ctl->result = properties;

        if (get_output)
                return save_document(ctl, fd);
        if (ctl->json)
                return STATUS_OK;
        /* Who then removes the license has this copy alone. */
        status = copy_document(ctl, fd, NULL);
        return status == STATUS_OK ? ctl_sync_output(ctl) : status;
}

/* show */

static void print_properties(const json_t *license, const char *id) {
        const json_t *before = json_object_get(license, "NotBefore"), *after = json_object_get(license, "NotAfter");
        json_t *counters = json_object_get(license, "Counters"), *remaining;
        g_autofree char *size = text_size(json_get_u64(license, "Size"));
        const char *right;

        field_print("License", id);
        field_print("Title", json_get_string(license, "Title"));
        field_print("Issuer", json_get_string(license, "Issuer"));
        field_print("Key", json_get_string(license, "KeyId"));
        field_print("Media type", json_get_string(license, "MediaType"));
        if (before) {
                g_autofree char *time = text_time(json_integer_value(before));
                field_print("Valid from", time);
        }
        if (after) {
                g_autofree char *time = text_time(json_integer_value(after));
                bool over = json_integer_value(after) < g_get_real_time() / G_USEC_PER_SEC;
                field_print_tone("Valid until", over ? TONE_WARNING : TONE_PLAIN, time);
        }
        json_object_foreach(counters, right, remaining) {
                g_autofree char *label = g_strdup_printf("Uses: %s", right);
                field_printf(label, "%" JSON_INTEGER_FORMAT, json_integer_value(remaining));
        }
        field_print("Backed up", json_is_false(json_object_get(license, "AllowBackup")) ? "never: it may not be" :
                "with every backup");
        field_print("Document", size);
}

/* One license with all its properties, its document's size among them. */
static Status read_license(Ctl *ctl, const char *id, json_t **ret) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *reply = NULL;
        struct stat st;
        Status status;
        int fd = -1;

        status = open_license(ctl, id, &reply, &fd, ret);
        if (status != STATUS_OK)
                return status;
        if (fstat(fd, &st) >= 0)
                (void)json_object_set_new(*ret, "Size", json_integer(st.st_size));
        return STATUS_OK;
}

Status command_show(Ctl *ctl, char **arguments) {
        Status first = STATUS_OK;

        for (char **id = arguments; *id; id++) {
                json_auto_t *license = NULL;
                Status status = read_license(ctl, *id, &license);

                if (status != STATUS_OK) {
                        first = first == STATUS_OK ? status : first;
                        if (status != STATUS_NOT_FOUND)
                                break;
                        continue;
                }
                if (ctl->json)
                        ctl_print_json(license);
                else {
                        if (id > arguments)
                                puts("");
                        print_properties(license, *id);
                }
        }
        Status flushed = ctl_flush(ctl);
        return first != STATUS_OK ? first : flushed;
}

/* consume */

Status command_consume(Ctl *ctl, char **arguments) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *call = NULL, *reply = NULL;
        const char *id = arguments[0], *right = arguments[1], *text = arguments[2] ?: "1";
        uint64_t amount, remaining;
        Status status;

        if (!g_ascii_string_to_unsigned(text, 10, 1, INT64_MAX, &amount, NULL))
                return ctl_fail(ctl, STATUS_USAGE, "'%s' is not a number of uses from 1 on.", text);
        if ((status = bus_check_string(ctl, "The license id", id)) != STATUS_OK ||
            (status = bus_check_string(ctl, "The right", right)) != STATUS_OK ||
            (status = bus_call_new(ctl, BUS_STORE, "ConsumeRight", &call, "sst", id, right, amount)) != STATUS_OK ||
            (status = bus_call(ctl, call, id, &reply)) != STATUS_OK)
                return status;
        if (sd_bus_message_read(reply, "t", &remaining) < 0)
                return bus_fail_parse(ctl);

        bool unlimited = remaining == UINT64_MAX;
        ctl_result(ctl, "license", json_string(id));
        ctl_result(ctl, "right", json_string(right));
        ctl_result(ctl, "amount", json_from_u64(amount));
        ctl_result(ctl, "remaining", unlimited ? json_null() : json_from_u64(remaining));
        if (!ctl->json && unlimited)
                puts("unlimited");
        else if (!ctl->json)
                printf("%" PRIu64 "\n", remaining);
        return ctl_flush(ctl);
}

/* remove, revoke */

static Status call_with_id(Ctl *ctl, const char *member, const char *id) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *call = NULL, *reply = NULL;
        Status status;

        if ((status = bus_check_string(ctl, "A license id", id)) != STATUS_OK ||
            (status = bus_call_new(ctl, BUS_STORE, member, &call, "s", id)) != STATUS_OK)
                return status;
        return bus_call(ctl, call, id, &reply);
}

/* Goes on after a license that is not there, as rm does; anything else would fail for the next one, too. */
static Status call_with_ids(Ctl *ctl, const char *member, const char *done, char **ids) {
        Status first = STATUS_OK;
        json_t *licenses = json_array();

        ctl_result(ctl, "licenses", licenses);
        for (; *ids; ids++) {
                Status status = call_with_id(ctl, member, *ids);

                if (status == STATUS_OK) {
                        ctl_note(ctl, "%s '%s'.", done, *ids);
                        (void)json_array_append_new(licenses, json_string(*ids));
                        continue;
                }
                if (first == STATUS_OK)
                        first = status;
                if (status != STATUS_NOT_FOUND)
                        break;
        }
        return first;
}

Status command_remove(Ctl *ctl, char **arguments) {
        return call_with_ids(ctl, "DeleteLicense", "Removed", arguments);
}

Status command_revoke(Ctl *ctl, char **arguments) {
        return call_with_ids(ctl, "RevokeLicense", "Revoked", arguments);
}
