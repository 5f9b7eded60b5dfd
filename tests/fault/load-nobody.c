/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * In the place of the daemon, one who does nothing: answers each call at once, whatever it is, with the name of the
 * good user's license. What the bus takes by itself under a load is told by how long its callers wait.
 */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <systemd/sd-bus.h>

__attribute__((noreturn)) static void on_signal(int number) {
        _exit(EXIT_SUCCESS);
}

static int on_message(sd_bus_message *message, void *userdata, sd_bus_error *ret_error) {
        if (!sd_bus_message_is_method_call(message, NULL, NULL))
                return 0;
        if (sd_bus_message_get_expect_reply(message))
                (void)sd_bus_reply_method_return(message, "s", "mine");
        return 1;
}

int main(void) {
        sd_bus *bus = NULL;

        (void)signal(SIGTERM, on_signal);
        if (sd_bus_open_system(&bus) < 0 || sd_bus_add_filter(bus, NULL, on_message, NULL) < 0 ||
            sd_bus_request_name(bus, "org.licensevault1", 0) < 0)
                return EXIT_FAILURE;
        for (;;) {
                int r = sd_bus_process(bus, NULL);

                if (r < 0 || (r == 0 && sd_bus_wait(bus, UINT64_MAX) < 0))
                        return EXIT_FAILURE;
        }
}
