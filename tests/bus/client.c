/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "client.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define BUS_NAME "org.licensevault1"
#define ROOT_PATH "/org/licensevault1"

#define fail_at(file, line, ...) (print_error(__VA_ARGS__), print_error("\n"), _fail(file, line))

char *full_error_name(const char *error) {
        return g_strconcat(g_str_has_prefix(error, "NS_E_") ? "org.licensevault1.Error."
                                                            : "org.freedesktop.DBus.Error.",
                error, NULL);
}

void assert_sentence_at(const char *file, int line, const char *text, const char *glob) {
        static const char *const forbidden[] = { "SELECT ", "INSERT ", "sqlite", "SQL", "errno", "(null)" };

        if (!text || !*text || text[strlen(text) - 1] != '.' || strchr(text, '\n'))
                fail_at(file, line, "This is no sentence: '%s'", text ?: "(nothing)");
        for (unsigned i = 0; i < G_N_ELEMENTS(forbidden); i++)
                if (strstr(text, forbidden[i]))
                        fail_at(file, line, "'%s' has no place in '%s'", forbidden[i], text);
        if (glob && !g_pattern_match_simple(glob, text))
                fail_at(file, line, "Expected a message like '%s', got '%s'", glob, text);
}

sd_bus_message *new_call(sd_bus *bus, const char *path, const char *member) {
        const char *dot = strrchr(member, '.');
        sd_bus_message *message = NULL;

        assert_non_null(dot);
        g_autofree char *prefix = g_strndup(member, (size_t)(dot - member));
        g_autofree char *interface = g_str_has_prefix(prefix, "org.")
                ? g_strdup(prefix)
                : g_strconcat(BUS_NAME ".", prefix, NULL);
        assert_true(sd_bus_message_new_method_call(
                            bus, &message, BUS_NAME, path ?: ROOT_PATH, interface, dot + 1) >= 0);
        return message;
}

static sd_bus_message *send_at(const char *file, int line, sd_bus *bus, sd_bus_message *message) {
        sd_bus_message *reply = NULL;
        sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        r = sd_bus_call(bus, message, 0, &error, &reply);
        if (r < 0)
                fail_at(file, line, "%s failed: %s, '%s'", sd_bus_message_get_member(message),
                        error.name ?: strerror(-r), error.message ?: "");
        sd_bus_error_free(&error);
        sd_bus_message_unref(message);
        return reply;
}

sd_bus_message *send_call(sd_bus *bus, sd_bus_message *message) {
        return send_at(__FILE__, __LINE__, bus, message);
}

void send_call_error_at(const char *file, int line, sd_bus *bus, sd_bus_message *message, const char *error,
        const char *message_glob) {
        g_autofree char *name = full_error_name(error);
        sd_bus_message *reply = NULL;
        sd_bus_error found = SD_BUS_ERROR_NULL;
        int r;

        r = sd_bus_call(bus, message, 0, &found, &reply);
        if (r >= 0)
                fail_at(file, line, "%s succeeded; expected %s", sd_bus_message_get_member(message), name);
        if (g_strcmp0(found.name, name) != 0)
                fail_at(file, line, "%s: expected %s, got %s, '%s'", sd_bus_message_get_member(message),
                        name, found.name ?: strerror(-r), found.message ?: "");
        assert_sentence_at(file, line, found.message, message_glob);
        sd_bus_error_free(&found);
        sd_bus_message_unref(message);
}

void send_only(sd_bus *bus, sd_bus_message *message) {
        uint64_t cookie; /* who asks for none gets no answer */

        assert_true(sd_bus_send(bus, message, &cookie) >= 0);
        assert_true(sd_bus_flush(bus) >= 0);
        sd_bus_message_unref(message);
}

void wait_for_bus(sd_bus *bus) {
        /* It may answer the first one before it sends on what it has read. */
        for (unsigned i = 0; i < 2; i++)
                assert_true(sd_bus_call_method(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                    "org.freedesktop.DBus", "GetId", NULL, NULL, "") >= 0);
}

/* Whether all threads of a process sleep, and none has something to do, waits for a processor, or for a disk. */
static bool sleeps(pid_t pid) {
        g_autofree char *folder = g_strdup_printf("/proc/%i/task", (int)pid);
        g_autoptr(GDir) tasks = g_dir_open(folder, 0, NULL);
        const char *name;
        bool all = true;

        assert_non_null(tasks);
        while ((name = g_dir_read_name(tasks))) {
                g_autofree char *path = g_build_filename(folder, name, "stat", NULL), *stat = NULL;

                /* One that has ended meanwhile may have left something to do. */
                if (!g_file_get_contents(path, &stat, NULL, NULL) || !strstr(stat, ") S "))
                        all = false;
        }
        return all;
}

void hang_bus(Harness *h) {
        assert_int_equal(kill(h->bus, SIGSTOP), 0);
        assert_int_equal(kill(h->daemon, SIGCONT), 0);
        /* Between two steps all may sleep for a moment. */
        for (unsigned n = 0, looks = 0; n < 20; n = sleeps(h->daemon) ? n + 1 : 0) {
                assert_true(++looks < PATIENCE_SEC * 100);
                sleep_msec(10);
        }
}

sd_bus_message *call_at(const char *file, int line, sd_bus *bus, const char *path, const char *member,
        const char *types, ...) {
        sd_bus_message *message = new_call(bus, path, member);
        va_list ap;
        int r;

        va_start(ap, types);
        r = sd_bus_message_appendv(message, types, ap);
        va_end(ap);
        assert_true(r >= 0);
        return send_at(file, line, bus, message);
}

void call_error_at(const char *file, int line, sd_bus *bus, const char *path, const char *member,
        const char *error, const char *message_glob, const char *types, ...) {
        sd_bus_message *message = new_call(bus, path, member);
        va_list ap;
        int r;

        va_start(ap, types);
        r = sd_bus_message_appendv(message, types, ap);
        va_end(ap);
        assert_true(r >= 0);
        send_call_error_at(file, line, bus, message, error, message_glob);
}

char *read_string(sd_bus_message *reply) {
        const char *value;
        char type;

        assert_true(sd_bus_message_peek_type(reply, &type, NULL) > 0);
        assert_true(sd_bus_message_read_basic(reply, type, &value) > 0);
        char *copy = g_strdup(value);
        sd_bus_message_unref(reply);
        return copy;
}

uint64_t read_uint64(sd_bus_message *reply) {
        uint64_t value;

        assert_true(sd_bus_message_read(reply, "t", &value) > 0);
        sd_bus_message_unref(reply);
        return value;
}

char **read_strings(sd_bus_message *message) {
        g_autoptr(GPtrArray) strings = g_ptr_array_new();
        const char *string;

        assert_true(sd_bus_message_enter_container(message, 'a', "s") >= 0);
        while (sd_bus_message_read(message, "s", &string) > 0)
                g_ptr_array_add(strings, g_strdup(string));
        assert_true(sd_bus_message_exit_container(message) > 0);
        g_ptr_array_add(strings, NULL);
        return (char **)g_ptr_array_free(g_steal_pointer(&strings), false);
}

static void read_counters(sd_bus_message *message, const char *key, GHashTable *properties) {
        const char *right;
        uint64_t value;

        assert_true(sd_bus_message_enter_container(message, 'a', "{st}") > 0);
        while (sd_bus_message_read(message, "{st}", &right, &value) > 0)
                g_hash_table_insert(properties, g_strdup_printf("%s/%s", key, right),
                        g_strdup_printf("%" PRIu64, value));
        assert_true(sd_bus_message_exit_container(message) > 0);
}

/* The value in an open variant, as text; NULL where it went into the table by itself. */
static char *read_value(sd_bus_message *message, const char *key, const char *type, GHashTable *properties) {
        const char *s;
        uint64_t t;
        uint32_t u;
        int32_t i;
        int b;

        switch (*type) {
        case 's':
        case 'o':
                assert_true(sd_bus_message_read_basic(message, *type, &s) > 0);
                return g_strdup(s);
        case 't':
                assert_true(sd_bus_message_read(message, "t", &t) > 0);
                return g_strdup_printf("%" PRIu64, t);
        case 'u':
                assert_true(sd_bus_message_read(message, "u", &u) > 0);
                return g_strdup_printf("%" PRIu32, u);
        case 'i':
                assert_true(sd_bus_message_read(message, "i", &i) > 0);
                return g_strdup_printf("%" PRId32, i);
        case 'b':
                assert_true(sd_bus_message_read(message, "b", &b) > 0);
                return g_strdup(b ? "true" : "false");
        default:
                if (strcmp(type, "as") == 0) {
                        g_auto(GStrv) strings = read_strings(message);
                        return g_strjoinv(" ", strings);
                }
                if (strcmp(type, "a{st}") == 0)
                        read_counters(message, key, properties);
                else
                        assert_true(sd_bus_message_skip(message, type) > 0);
                return NULL;
        }
}

GHashTable *read_properties(sd_bus_message *message) {
        GHashTable *properties = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);

        assert_true(sd_bus_message_enter_container(message, 'a', "{sv}") > 0);
        while (sd_bus_message_enter_container(message, 'e', "sv") > 0) {
                const char *key, *type;

                assert_true(sd_bus_message_read(message, "s", &key) > 0);
                assert_true(sd_bus_message_peek_type(message, NULL, &type) > 0);
                g_autofree char *signature = g_strdup(type);
                assert_true(sd_bus_message_enter_container(message, 'v', signature) > 0);
                char *value = read_value(message, key, signature, properties);
                if (value && !g_hash_table_insert(properties, g_strdup(key), value))
                        fail_msg("The key %s comes twice", key);
                assert_true(sd_bus_message_exit_container(message) > 0);
                assert_true(sd_bus_message_exit_container(message) > 0);
        }
        assert_true(sd_bus_message_exit_container(message) > 0);
        return properties;
}

void job_end_clear(JobEnd *end) {
        g_free(end->error);
        g_free(end->message);
        if (end->result)
                g_hash_table_unref(end->result);
        *end = (JobEnd) {};
}

void read_job_end(sd_bus_message *message, JobEnd *ret) {
        const char *error, *text;

        assert_true(sd_bus_message_read(message, "iss", &ret->hresult, &error, &text) > 0);
        ret->error = g_strdup(error);
        ret->message = g_strdup(text);
        ret->result = read_properties(message);
}

void job_wait(sd_bus *bus, const char *job, JobEnd *ret) {
        _cleanup_message_ sd_bus_message *reply = call(bus, job, "Job.Wait", "");

        read_job_end(reply, ret);
}

GHashTable *assert_job_succeeds(sd_bus *bus, const char *job) {
        g_auto(JobEnd) end = {};

        job_wait(bus, job, &end);
        if (end.hresult != 0 || *end.error || *end.message)
                fail_msg("The job failed: %s, '%s'", end.error, end.message);
        return g_hash_table_ref(end.result);
}

void assert_job_fails(sd_bus *bus, const char *job, const char *error, const char *message) {
        g_autofree char *name = full_error_name(error);
        g_auto(JobEnd) end = {};

        job_wait(bus, job, &end);
        if (strcmp(end.error, name) != 0)
                fail_msg("Expected the job to end with %s, got %s, '%s'", name, end.error, end.message);
        assert_true(end.hresult < 0);
        assert_int_equal(g_hash_table_size(end.result), 0);
        assert_sentence(end.message, message);
}

char *job_property(sd_bus *bus, const char *job, const char *name) {
        _cleanup_message_ sd_bus_message *reply =
                call(bus, job, "org.freedesktop.DBus.Properties.Get", "ss", "org.licensevault1.Job", name);
        const char *type;
        char *value;

        assert_true(sd_bus_message_peek_type(reply, NULL, &type) > 0);
        g_autofree char *signature = g_strdup(type);
        assert_true(sd_bus_message_enter_container(reply, 'v', signature) > 0);
        value = read_value(reply, name, signature, NULL);
        return value;
}

void job_wait_property(sd_bus *bus, const char *job, const char *name, const char *value) {
        g_autofree char *found = NULL;

        for (unsigned i = 0; i < PATIENCE_SEC * 100; i++) {
                g_free(found);
                found = job_property(bus, job, name);
                if (strcmp(found, value) == 0)
                        return;
                sleep_msec(10);
        }
        fail_msg("%s of the job stays '%s'; expected '%s'", name, found, value);
}

/*
 * The next message that a connection gets and nothing handles. Returns false once the time is over;
 * *ret may be NULL on true.
 */
static bool receive_message(sd_bus *bus, int64_t end, sd_bus_message **ret) {
        int r;

        *ret = NULL;
        r = sd_bus_process(bus, ret);
        assert_true(r >= 0);
        if (r > 0)
                return true;

        int64_t left = end - g_get_monotonic_time();
        if (left <= 0)
                return false;
        assert_true(sd_bus_wait(bus, (uint64_t)left) >= 0);
        return true;
}

sd_bus_message *receive_reply(sd_bus *bus, unsigned timeout_msec) {
        int64_t end = g_get_monotonic_time() + (int64_t)timeout_msec * 1000;
        sd_bus_message *message;

        while (receive_message(bus, end, &message)) {
                if (message && sd_bus_message_is_signal(message, NULL, NULL) <= 0)
                        return message;
                sd_bus_message_unref(message);
        }
        return NULL;
}

unsigned count_refused(sd_bus *bus, unsigned n, const char *why) {
        unsigned n_refused = 0;

        for (unsigned i = 0; i < n; i++) {
                _cleanup_message_ sd_bus_message *reply = receive_reply(bus, PATIENCE_SEC * 1000);

                assert_non_null(reply);
                if (!sd_bus_message_is_method_error(reply, NULL))
                        continue;
                assert_true(sd_bus_message_is_method_error(reply, "org.freedesktop.DBus.Error.LimitsExceeded") > 0);
                assert_sentence(sd_bus_message_get_error(reply)->message, why);
                n_refused++;
        }
        return n_refused;
}

bool receive_done(sd_bus *bus, const char *sender, const char *job, unsigned timeout_msec, JobEnd *ret,
        unsigned *ret_forged) {
        int64_t end = g_get_monotonic_time() + (int64_t)timeout_msec * 1000;
        sd_bus_message *message;
        unsigned forged = 0;
        bool found = false;

        while (!found && receive_message(bus, end, &message)) {
                if (message && sd_bus_message_is_signal(message, "org.licensevault1.Job", "Done") > 0) {
                        found = g_strcmp0(sd_bus_message_get_sender(message), sender) == 0 &&
                                g_strcmp0(sd_bus_message_get_path(message), job) == 0;
                        forged += !found;
                        if (found) {
                                assert_true(sd_bus_message_skip(message, "u") > 0);
                                read_job_end(message, ret);
                        }
                }
                sd_bus_message_unref(message);
        }

        if (ret_forged)
                *ret_forged = forged;
        return found;
}
