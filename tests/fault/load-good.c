/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "load-good.h"

#include <string.h>

#include "client.h"

#define PAUSE_MSEC 3

void good_init(GoodUser *good, Harness *h, unsigned user) {
        *good = (GoodUser) { .bus = harness_connect(h, user) };
        store_simple(good->bus, "mine");
        times_init(&good->service);
        times_init(&good->itself);
}

void good_clear(GoodUser *good) {
        times_clear(&good->service);
        times_clear(&good->itself);
}

static void time_call(GoodUser *good, Times *times, sd_bus_message *message) {
        int64_t begin = g_get_monotonic_time();
        sd_bus_error error = SD_BUS_ERROR_NULL;
        int r = sd_bus_call(good->bus, message, GOOD_PATIENCE_MSEC * UINT64_C(1000), &error, NULL);

        if (r >= 0)
                times_add(times, g_get_monotonic_time() - begin);
        else if (strstr(error.message, "destination has a full message queue"))
                good->n_bus_full++;
        else
                fail_msg("%s of a user who does nothing wrong failed after %" PRIi64 " ms: %s, '%s'",
                        sd_bus_message_get_member(message),
                        (g_get_monotonic_time() - begin) / 1000, error.name, error.message);
        sd_bus_error_free(&error);
        sd_bus_message_unref(message);
}

void good_behave(GoodUser *good) {
        sd_bus_message *message = NULL;
        unsigned turn = good->n_calls++;
        g_autofree char *id = g_strdup_printf("good-%u", turn / 4 % 50);

        switch (turn % 4) {
        case 0:
                message = new_call(good->bus, ROOT, "LicenseStore.StoreLicense");
                assert_true(sd_bus_message_append_array(message, 'y', id, strlen(id)) >= 0);
                assert_true(sd_bus_message_append(message, "a{sv}", 1, "LicenseId", "s", id) >= 0);
                break;
        case 1:
                message = new_call(good->bus, ROOT, "LicenseStore.EnumerateLicenses");
                assert_true(sd_bus_message_append(message, "a{sv}su", 0, "", 10) >= 0);
                break;
        default:
                message = new_call(good->bus, ROOT, "LicenseStore.GetLicense");
                assert_true(sd_bus_message_append(message, "s", "mine") >= 0);
        }
        time_call(good, &good->service, message);

        /* Right after an answer a bus is less busy than at other times. */
        sleep_msec(PAUSE_MSEC);
        assert_true(sd_bus_message_new_method_call(good->bus, &message, "org.freedesktop.DBus",
                            "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetId") >= 0);
        time_call(good, &good->itself, message);
}

void good_print(GoodUser *good) {
        times_print("the bus itself", &good->itself);
        times_print("the service", &good->service);
        print_message("%u calls the bus did not let through: too much was waiting for the service\n",
                good->n_bus_full);
}
