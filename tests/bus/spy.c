/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "spy.h"

void match_everything(sd_bus *bus) {
        assert_true(sd_bus_call_method(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                            "org.freedesktop.DBus", "AddMatch", NULL, NULL, "s", "") >= 0);
        sd_bus_call_method(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                "AddMatch", NULL, NULL, "s", "eavesdrop='true'");
}

unsigned count_received(sd_bus *bus) {
        unsigned n = 0;

        call_void(bus, ROOT, "org.freedesktop.DBus.Peer.Ping", "");
        for (;;) {
                _cleanup_message_ sd_bus_message *message = NULL;
                int r = sd_bus_process(bus, &message);

                assert_true(r >= 0);
                if (r == 0)
                        return n;
                const char *path = message ? sd_bus_message_get_path(message) : NULL;
                n += path && g_str_has_prefix(path, "/org/licensevault1");
        }
}

char *error_text(
        sd_bus *bus, const char *path, const char *member, const char *without, const char *types, ...) {
        sd_bus_message *message = new_call(bus, path, member);
        sd_bus_error error = SD_BUS_ERROR_NULL;
        va_list ap;

        va_start(ap, types);
        assert_true(sd_bus_message_appendv(message, types, ap) >= 0);
        va_end(ap);
        assert_true(sd_bus_call(bus, message, 0, &error, NULL) < 0);
        g_auto(GStrv) parts = g_strsplit(error.message, without, -1);
        g_autofree char *text = g_strjoinv("*", parts);
        char *both = g_strdup_printf("%s: %s", error.name, text);
        sd_bus_error_free(&error);
        sd_bus_message_unref(message);
        return both;
}

void assert_job_is_hidden(sd_bus *bus, const char *job) {
        static const char *const methods[] = { "Cancel", "Wait", "Release" };

        for (unsigned i = 0; i < G_N_ELEMENTS(methods); i++) {
                g_autofree char *member = g_strconcat("Job.", methods[i], NULL);
                g_autofree char *foreign = error_text(bus, job, member, job, "");
                g_autofree char *missing = error_text(bus, NO_JOB, member, NO_JOB, "");
                assert_string_equal(foreign, missing);
                assert_true(g_str_has_prefix(foreign, "org.freedesktop.DBus.Error.UnknownObject: "));
        }

        g_autofree char *foreign_list = error_text(bus, job, "Job.ListRestricted", job, "uu", 0, 0);
        g_autofree char *missing_list = error_text(bus, NO_JOB, "Job.ListRestricted", NO_JOB, "uu", 0, 0);
        assert_string_equal(foreign_list, missing_list);
        g_autofree char *foreign_get = error_text(bus, job, "org.freedesktop.DBus.Properties.Get", job, "ss",
                "org.licensevault1.Job", "State");
        g_autofree char *missing_get = error_text(bus, NO_JOB, "org.freedesktop.DBus.Properties.Get", NO_JOB,
                "ss", "org.licensevault1.Job", "State");
        assert_string_equal(foreign_get, missing_get);
        g_autofree char *foreign_all =
                error_text(bus, job, "org.freedesktop.DBus.Properties.GetAll", job, "s", "");
        g_autofree char *missing_all =
                error_text(bus, NO_JOB, "org.freedesktop.DBus.Properties.GetAll", NO_JOB, "s", "");
        assert_string_equal(foreign_all, missing_all);
}
