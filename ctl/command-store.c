/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus.h"
#include "interrupt.h"
#include "io.h"
#include "json.h"
#include "output.h"

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

Status command_get(Ctl *ctl, char **arguments) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *call = NULL, *reply = NULL;
        const char *id = arguments[0];
        json_t *properties;
        Status status;
        int r, fd;

        if (g_strcmp0(get_output, "-") == 0) {
                if (ctl->json)
                        return ctl_fail(ctl, STATUS_USAGE,
                                "--json and --output - both go to standard output. Leave one out.");
                g_clear_pointer(&get_output, g_free);
        }
        if (get_overwrite && !get_output)
                return ctl_fail(ctl, STATUS_USAGE, "--overwrite needs --output FILE.");

        status = bus_check_string(ctl, "The license id", id);
        if (status == STATUS_OK)
                status = bus_call_new(ctl, BUS_STORE, "OpenLicense", &call);
        if (status != STATUS_OK)
                return status;

        r = sd_bus_message_append(call, "s", id);
        if (r < 0)
                return bus_fail_build(ctl, r);
        status = bus_call(ctl, call, id, &reply);
        if (status != STATUS_OK)
                return status;

        /* The descriptor is the message's. */
        if (sd_bus_message_read(reply, "h", &fd) < 0 || json_read_dictionary(reply, &properties) < 0)
                return bus_fail_parse(ctl);
        (void)json_object_set_new(properties, "LicenseId", json_string(id));
        ctl->result = properties;

        if (get_output)
                return save_document(ctl, fd);
        return ctl->json ? STATUS_OK : copy_document(ctl, fd, NULL);
}

/* remove, revoke */

static Status call_with_id(Ctl *ctl, const char *member, const char *id) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *call = NULL, *reply = NULL;
        Status status;
        int r;

        status = bus_check_string(ctl, "A license id", id);
        if (status == STATUS_OK)
                status = bus_call_new(ctl, BUS_STORE, member, &call);
        if (status != STATUS_OK)
                return status;

        r = sd_bus_message_append(call, "s", id);
        return r < 0 ? bus_fail_build(ctl, r) : bus_call(ctl, call, id, &reply);
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
