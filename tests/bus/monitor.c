/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "monitor.h"

#include <stdio.h>
#include <string.h>

#define JOB_INTERFACE "org.licensevault1.Job"
#define MARKER "org.licensevault1.test.Marker"

struct Monitor {
        sd_bus *bus;
        GPtrArray *records; /* of Record */
        unsigned markers;
};

static void record_free(gpointer p) {
        Record *record = p;

        g_free(record->sender);
        g_free(record->destination);
        g_free(record->path);
        g_free(record->interface);
        g_free(record->member);
        g_free(record->signature);
        g_free(record->error);
        g_free(record->object);
        g_free(record->name);
        g_free(record->old_owner);
        g_free(record->new_owner);
        g_free(record->value_signature);
        g_free(record->text);
        g_free(record->done_error);
        g_free(record->done_message);
        g_free(record);
}

static void read_progress(sd_bus_message *message, Record *record) {
        const char *type;

        assert_true(sd_bus_message_read(message, "uitt", &record->status, &record->hresult,
                            &record->completed, &record->total) > 0);
        assert_true(sd_bus_message_peek_type(message, NULL, &type) > 0);
        record->value_signature = g_strdup(type);
        assert_true(sd_bus_message_enter_container(message, 'v', record->value_signature) > 0);
        if (strcmp(record->value_signature, "t") == 0)
                assert_true(sd_bus_message_read(message, "t", &record->value) > 0);
        else if (strcmp(record->value_signature, "u") == 0) {
                uint32_t percent;
                assert_true(sd_bus_message_read(message, "u", &percent) > 0);
                record->value = percent;
        } else if (strcmp(record->value_signature, "s") == 0) {
                const char *text;
                assert_true(sd_bus_message_read(message, "s", &text) > 0);
                record->text = g_strdup(text);
        } else if (strcmp(record->value_signature, "a(sss)") == 0) {
                assert_true(sd_bus_message_enter_container(message, 'a', "(sss)") >= 0);
                for (const char *a, *b, *c; sd_bus_message_read(message, "(sss)", &a, &b, &c) > 0;)
                        record->value++;
        }
}

static void read_done(sd_bus_message *message, Record *record) {
        const char *error, *text;

        assert_true(
                sd_bus_message_read(message, "uiss", &record->status, &record->hresult, &error, &text) > 0);
        record->done_error = g_strdup(error);
        record->done_message = g_strdup(text);
}

static Record *record_new(sd_bus_message *message) {
        Record *record = g_new0(Record, 1);
        const sd_bus_error *error = sd_bus_message_get_error(message);

        sd_bus_message_get_type(message, &record->type);
        record->sender = g_strdup(sd_bus_message_get_sender(message));
        record->destination = g_strdup(sd_bus_message_get_destination(message));
        record->path = g_strdup(sd_bus_message_get_path(message));
        record->interface = g_strdup(sd_bus_message_get_interface(message));
        record->member = g_strdup(sd_bus_message_get_member(message));
        record->signature = g_strdup(sd_bus_message_get_signature(message, true));
        record->error = g_strdup(error ? error->name : NULL);
        if (sd_bus_message_get_reply_cookie(message, &record->reply_cookie) < 0)
                record->reply_cookie = 0;

        if (record->type == SD_BUS_MESSAGE_METHOD_RETURN && strcmp(record->signature, "o") == 0) {
                const char *path;
                assert_true(sd_bus_message_read(message, "o", &path) > 0);
                record->object = g_strdup(path);
        } else if (sd_bus_message_is_signal(message, JOB_INTERFACE, "Progress") > 0 &&
                strcmp(record->signature, "uittv") == 0)
                read_progress(message, record);
        else if (sd_bus_message_is_signal(message, JOB_INTERFACE, "Done") > 0 &&
                strcmp(record->signature, "uissa{sv}") == 0)
                read_done(message, record);
        else if (sd_bus_message_is_signal(message, "org.freedesktop.DBus", "NameOwnerChanged") > 0) {
                const char *name, *old_owner, *new_owner;
                assert_true(sd_bus_message_read(message, "sss", &name, &old_owner, &new_owner) > 0);
                record->name = g_strdup(name);
                record->old_owner = g_strdup(old_owner);
                record->new_owner = g_strdup(new_owner);
        }

        return record;
}

void monitor_new(Harness *h) {
        Monitor *monitor = g_new0(Monitor, 1);
        sd_bus_message *message = NULL, *reply = NULL;
        int r;

        h->monitor = monitor;
        monitor->records = g_ptr_array_new_with_free_func(record_free);
        assert_true(sd_bus_new(&monitor->bus) >= 0);
        assert_true(sd_bus_set_address(monitor->bus, h->address) >= 0);
        assert_true(sd_bus_set_monitor(monitor->bus, true) >= 0);
        assert_true(sd_bus_set_bus_client(monitor->bus, true) >= 0);
        assert_true(sd_bus_negotiate_fds(monitor->bus, true) >= 0);
        assert_true(sd_bus_start(monitor->bus) >= 0);
        assert_true(
                sd_bus_message_new_method_call(monitor->bus, &message, "org.freedesktop.DBus",
                        "/org/freedesktop/DBus", "org.freedesktop.DBus.Monitoring", "BecomeMonitor") >= 0);
        assert_true(sd_bus_message_append(message, "asu", 0, 0) >= 0);
        r = sd_bus_call(monitor->bus, message, 0, NULL, &reply);
        if (r < 0)
                fail_msg("The bus does not let us monitor: %s", strerror(-r));
        sd_bus_message_unref(reply);
        sd_bus_message_unref(message);
}

Monitor *monitor_free(Monitor *monitor) {
        if (!monitor)
                return NULL;

        sd_bus_close_unref(monitor->bus);
        g_ptr_array_unref(monitor->records);
        g_free(monitor);
        return NULL;
}

/* Reads one message. Returns whether it was the marker. */
static bool read_message(Monitor *monitor, const char *marker) {
        sd_bus_message *message = NULL;
        bool found;
        int r;

        r = sd_bus_process(monitor->bus, &message);
        assert_true(r >= 0);
        if (r == 0)
                assert_true(sd_bus_wait(monitor->bus, PATIENCE_SEC * UINT64_C(1000000)) > 0);
        if (!message)
                return false;

        found = sd_bus_message_is_signal(message, MARKER, marker) > 0;
        if (!found)
                g_ptr_array_add(monitor->records, record_new(message));
        /* With the message go its descriptors, so that a pipe can end. */
        sd_bus_message_unref(message);
        return found;
}

void monitor_sync(Harness *h) {
        g_autofree char *marker = g_strdup_printf("M%u", h->monitor->markers++);

        /* What the daemon has queued comes before its answer. */
        if (h->daemon > 0)
                sd_bus_call_method(h->observer, "org.licensevault1", "/org/licensevault1",
                        "org.freedesktop.DBus.Peer", "Ping", NULL, NULL, "");
        assert_true(sd_bus_emit_signal(h->observer, "/", MARKER, marker, "") >= 0);
        assert_true(sd_bus_flush(h->observer) >= 0);
        while (!read_message(h->monitor, marker))
                ;
}

unsigned monitor_count(Harness *h) {
        return h->monitor->records->len;
}

const Record *monitor_record(Harness *h, unsigned i) {
        return h->monitor->records->pdata[i];
}

static bool is_signal_of(const Record *record, const char *job) {
        return record->type == SD_BUS_MESSAGE_SIGNAL && g_strcmp0(record->path, job) == 0;
}

/* What holds for a signal of a job by itself; forged ones come from elsewhere and do not count. */
static void check_signal(const Record *record) {
        assert_non_null(record->destination);
        assert_string_equal(record->interface, JOB_INTERFACE);
        if (strcmp(record->member, "Done") == 0) {
                assert_string_equal(record->signature, "uissa{sv}");
                assert_int_equal(record->status, 27);
                assert_int_equal(record->hresult == 0, *record->done_error == 0);
                assert_int_equal(*record->done_error == 0, *record->done_message == 0);
                assert_true(record->hresult <= 0);
                return;
        }

        assert_string_equal(record->member, "Progress");
        assert_string_equal(record->signature, "uittv");
        assert_true(record->completed <= record->total);
        switch (record->status) {
        case 21:
                assert_string_equal(record->value_signature, "t");
                assert_int_equal(record->value, record->total);
                break;
        case 16:
                assert_string_equal(record->value_signature, "u");
                assert_in_range(record->value, 0, 100);
                break;
        case 31:
                assert_string_equal(record->value_signature, "a(sss)");
                assert_in_range(record->value, 1, 100);
                break;
        case 25:
        case 28:
        case 29:
                assert_string_equal(record->value_signature, "s");
                assert_true(*record->text);
                break;
        default:
                fail_msg("A Progress has status %u", (unsigned)record->status);
        }
}

static const char *last_part(const char *name) {
        const char *dot = strrchr(name, '.');

        return dot ? dot + 1 : name;
}

char *monitor_trace(Harness *h, const char *job, const char *connection) {
        g_autoptr(GString) text = g_string_new(NULL);
        uint64_t completed = 0, percent = 0;
        unsigned progress = 0, restricted = 0;
        const char *daemon = NULL;
        uint32_t last = 0;

        monitor_sync(h);
        for (unsigned i = 0; i < h->monitor->records->len; i++) {
                const Record *record = monitor_record(h, i);

                if (g_strcmp0(record->object, job) == 0) {
                        assert_null(daemon);
                        daemon = record->sender;
                        if (g_strcmp0(record->destination, connection) == 0)
                                g_string_append(text, "return ");
                }
                if (!is_signal_of(record, job))
                        continue;
                if (!daemon)
                        fail_msg("A signal of the job comes before the return that names it");
                if (strcmp(record->sender, daemon) != 0)
                        continue;
                check_signal(record);
                if (strcmp(record->destination, connection) != 0)
                        continue;
                if (strcmp(record->member, "Done") == 0) {
                        g_string_append_printf(text, "%u%s%s ", (unsigned)record->status,
                                *record->done_error ? ":" : "", last_part(record->done_error));
                        last = 27;
                        continue;
                }
                if (record->status != 16 || last != 16)
                        g_string_append_printf(text, "%u ", (unsigned)record->status);
                if (record->status == 16) {
                        assert_true(record->value >= percent);
                        percent = record->value;
                }
                assert_true(record->completed >= completed);
                completed = record->completed;
                last = record->status;
                progress++;
                restricted += record->status == 31;
        }

        assert_in_range(progress, 0, 128);
        assert_in_range(restricted, 0, 10);
        if (text->len > 0)
                g_string_truncate(text, text->len - 1);
        return g_string_free(g_steal_pointer(&text), false);
}

void assert_trace_at(
        const char *file, int line, Harness *h, const char *job, sd_bus *bus, const char *expected) {
        const char *name;

        assert_true(sd_bus_get_unique_name(bus, &name) >= 0);
        g_autofree char *trace = monitor_trace(h, job, name);
        g_autofree char *whole = g_strdup_printf("^(%s)$", expected);
        if (!g_regex_match_simple(whole, trace, 0, 0)) {
                print_error("Expected on the wire '%s', got '%s'\n", expected, trace);
                _fail(file, line);
        }
}

unsigned monitor_signals_to(Harness *h, const char *connection) {
        unsigned n = 0;

        monitor_sync(h);
        for (unsigned i = 0; i < h->monitor->records->len; i++) {
                const Record *record = monitor_record(h, i);
                n += record->type == SD_BUS_MESSAGE_SIGNAL && record->path &&
                        g_str_has_prefix(record->path, "/org/licensevault1") &&
                        (!connection || g_strcmp0(record->destination, connection) == 0);
        }
        return n;
}

int monitor_find_done(Harness *h, const char *job) {
        for (unsigned i = 0; i < h->monitor->records->len; i++) {
                const Record *record = monitor_record(h, i);
                if (is_signal_of(record, job) && strcmp(record->member, "Done") == 0)
                        return (int)i;
        }
        return -1;
}

const char *monitor_find_text(Harness *h, const char *job, uint32_t status) {
        monitor_sync(h);
        for (unsigned i = 0; i < h->monitor->records->len; i++) {
                const Record *record = monitor_record(h, i);
                if (is_signal_of(record, job) && record->status == status && record->text)
                        return record->text;
        }
        return NULL;
}

int monitor_find_name_gone(Harness *h) {
        for (unsigned i = h->monitor->records->len; i-- > 0;) {
                const Record *record = monitor_record(h, i);
                if (g_strcmp0(record->name, "org.licensevault1") == 0 && !*record->new_owner)
                        return (int)i;
        }
        return -1;
}

unsigned monitor_count_member(Harness *h, const char *member) {
        unsigned n = 0;

        monitor_sync(h);
        for (unsigned i = 0; i < monitor_count(h); i++)
                n += g_strcmp0(monitor_record(h, i)->member, member) == 0;
        return n;
}

unsigned monitor_count_progress(Harness *h, const char *job, sd_bus *bus) {
        const char *name;
        unsigned n = 0;

        assert_true(sd_bus_get_unique_name(bus, &name) >= 0);
        monitor_sync(h);
        for (unsigned i = 0; i < h->monitor->records->len; i++) {
                const Record *record = monitor_record(h, i);
                n += is_signal_of(record, job) && strcmp(record->member, "Progress") == 0 &&
                        g_strcmp0(record->destination, name) == 0;
        }
        return n;
}
