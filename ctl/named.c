/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "named.h"

#include "bus.h"
#include "json.h"

#define NAMED_SHOWN 10U
#define NAMED_JSON 1000U

/* The first page holds all that is wanted here. */
json_t *named_list(Ctl *ctl, const JobEnd *end) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *reply = NULL;
        uint32_t max = ctl->json ? NAMED_JSON : NAMED_SHOWN;
        json_t *licenses = NULL;

        if (sd_bus_call_method(ctl->bus, end->service, end->job, JOB_INTERFACE, "ListRestricted", NULL, &reply, "uu",
                    0, max) < 0 ||
            json_read_licenses(reply, &licenses) < 0)
                return NULL;
        return licenses;
}

void named_note(const Ctl *ctl, const json_t *licenses, uint64_t n) {
        const json_t *license;
        size_t i;

        json_array_foreach(licenses, i, license) {
                const char *title = json_get_string(license, "Title");
                const char *id = json_get_string(license, "LicenseId");

                if (i == NAMED_SHOWN)
                        break;
                if (*title)
                        ctl_note(ctl, "  %s (%s)", title, id);
                else
                        ctl_note(ctl, "  %s", id);
        }

        if (licenses && n > NAMED_SHOWN)
                ctl_note(ctl, "  and %" PRIu64 " more", n - NAMED_SHOWN);
}
