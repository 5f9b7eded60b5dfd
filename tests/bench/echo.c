/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <err.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <systemd/sd-bus.h>

/*
 * A service that does nothing: what a call costs that comes to a program of sd-bus and goes back, read in full.
 * Runs until its bus ends, or it is killed. Usage: bench-echo ADDRESS NAME
 */

static int on_nothing(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        return sd_bus_reply_method_return(message, "");
}

/* As StoreLicense: a document and properties come, an id goes. */
static int on_store(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        const void *document;
        size_t size;
        int r;

        if ((r = sd_bus_message_read_array(message, 'y', &document, &size)) < 0 ||
            (r = sd_bus_message_skip(message, "a{sv}")) < 0)
                return r;
        return sd_bus_reply_method_return(message, "s", "urn:bench:00000000");
}

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Nothing", "", "", on_nothing, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Store", "aya{sv}", "s", on_store, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

static int serve(const char *address, const char *name) {
        sd_bus *bus = NULL;
        int r;

        if ((r = sd_bus_new(&bus)) < 0 || (r = sd_bus_set_address(bus, address)) < 0 ||
            (r = sd_bus_set_bus_client(bus, true)) < 0 || (r = sd_bus_start(bus)) < 0 ||
            (r = sd_bus_add_object_vtable(bus, NULL, "/", name, vtable, NULL)) < 0 ||
            (r = sd_bus_request_name(bus, name, 0)) < 0)
                return r;
        for (;;) {
                if ((r = sd_bus_process(bus, NULL)) < 0 || (r == 0 && (r = sd_bus_wait(bus, UINT64_MAX)) < 0))
                        return r;
        }
}

int main(int argc, char *argv[]) {
        int r;

        if (argc != 3)
                errx(2, "Usage: bench-echo ADDRESS NAME");
        r = serve(argv[1], argv[2]);
        if (r != -ECONNRESET && r != -ENOTCONN)
                errx(1, "%s", strerror(-r));
        return 0;
}
