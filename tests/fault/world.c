/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "world.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* Longer than whatever the daemon waits for itself in these operations; a hang is a complaint. */
#define ANSWER_USEC (UINT64_C(20) * 1000000)
#define END_MSEC 20000U

void outcome_clear(Outcome *outcome) {
        g_free(outcome->error);
        g_free(outcome->message);
        *outcome = (Outcome) {};
}

World *world_new(void) {
        World *world = g_new0(World, 1);
        g_autofree char *number = NULL;
        const char *daemon = g_getenv("LICENSEVAULTD"), *launcher = g_getenv("FAULT_LAUNCH");

        if (!daemon || !launcher)
                fail_msg("Set LICENSEVAULTD and FAULT_LAUNCH; tests/fault/run and meson test do so.");
        /* All this syncs a lot. */
        if (!g_getenv("TMPDIR") && access("/dev/shm", W_OK) == 0)
                setenv("TMPDIR", "/dev/shm", 1);
        if (injector_start(&world->plan, &world->socket) < 0)
                fail_msg("The injector cannot be started: %s", g_strerror(errno));

        number = g_strdup_printf("%d", world->socket);
        setenv("FAULT_SOCKET", number, 1);
        setenv("FAULT_DAEMON", daemon, 1);
        setenv("LICENSEVAULTD", launcher, 1);

        harness_setup_bus((void **)&world->h);
        harness_set(world->h, "Backup", "Roots", world->h->media);
        harness_write_settings(world->h);
        world->user = world->caller = harness_connect(world->h, 0);
        sd_bus_set_method_call_timeout(world->user, ANSWER_USEC);
        world->visitor = harness_connect(world->h, 0);
        sd_bus_set_method_call_timeout(world->visitor, ANSWER_USEC);
        if (geteuid() == 0 && world->h->n_users > 1) {
                world->other = harness_connect(world->h, 1);
                sd_bus_set_method_call_timeout(world->other, ANSWER_USEC);
                world->root = harness_connect_uid(world->h, 0);
                sd_bus_set_method_call_timeout(world->root, ANSWER_USEC);
        }
        g_strlcpy(world->plan->folder, world->h->folder, sizeof world->plan->folder);
        world->pristine = harness_path(world->h, "pristine");
        return world;
}

static void forget_operation(World *world) {
        for (unsigned i = 0; i <= MAX_STEPS; i++)
                g_clear_pointer(&world->states[i], g_free);
        g_clear_pointer(&world->old_backup, g_free);
        g_clear_pointer(&world->instance, g_free);
        world->n_steps = 0;
}

int world_free(World *world) {
        void *state = world->h;
        int r;

        forget_operation(world);
        r = harness_teardown(&state);
        g_free(world->pristine);
        close(world->socket);
        g_free(world);
        return r;
}

void complain(World *world, const char *format, ...) {
        g_autofree char *text = NULL;
        va_list ap;

        va_start(ap, format);
        text = g_strdup_vprintf(format, ap);
        va_end(ap);
        print_message("WRONG: %s: %s\n", world->point, text);
        world->complaints++;
}

static void run_well(const char *const *arguments) {
        if (run_program(arguments, NULL, NULL) != 0)
                fail_msg("%s does not work here", arguments[0]);
}

char *world_path(World *world, const char *name) {
        g_autofree char *user = g_strdup_printf("%u", (unsigned)world->h->users[0]);
        g_auto(GStrv) parts = g_strsplit(name, "%u", -1);
        g_autofree char *below = g_strjoinv(user, parts);

        return harness_path(world->h, below);
}

void world_prepare(World *world, const Operation *operation) {
        g_autofree char *target = NULL;

        forget_operation(world);
        world->operation = operation;
        world->plan->file_system = operation->file_system;
        world->plan->from_start = operation->is_start;
        run_well((const char *[]) { "sh", "-c", "rm -rf \"$0\"/state/* \"$0\"/media/*/* \"$0\"/pristine \"$0\"/client; "
                "mkdir \"$0\"/pristine \"$0\"/client", world->h->folder, NULL });

        if (operation->prepare) {
                if (!world_start(world, NULL))
                        fail_msg("The daemon does not start");
                operation->prepare(world);
                if (!world_stop(world))
                        fail_msg("The daemon does not stop");
        }
        run_well((const char *[]) { "cp", "-a", world->h->state, world->h->media, world->pristine, NULL });

        if (operation->has_old) {
                target = world_path(world, operation->target);
                g_autofree char *file = g_build_filename(target, "licenses.tar", NULL);
                world->old_backup = read_file(file, &world->old_size);
        }
}

void world_reset(World *world) {
        run_well((const char *[]) { "sh", "-c", "rm -rf \"$0\"/state \"$0\"/media \"$0\"/client/* \"$0\"/log; "
                "cp -a \"$0\"/pristine/* \"$0\"", world->h->folder, NULL });
}

bool world_start(World *world, int *ret_status) {
        Harness *h = world->h;

        h->daemon = harness_spawn(h, NULL);
        for (unsigned i = 0; i < END_MSEC / 2; i++) {
                g_autofree char *owner = harness_owner(h);
                int status;

                if (owner)
                        return true;
                if (waitpid(h->daemon, &status, WNOHANG) != 0) {
                        h->daemon = 0;
                        if (ret_status)
                                *ret_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
                        return false;
                }
                sleep_msec(2);
        }
        complain(world, "The daemon hangs at its start.");
        (void)world_stop(world);
        return false;
}

bool world_reap(World *world, int *ret_status) {
        int status;

        for (unsigned i = 0; i < END_MSEC; i++) {
                if (waitpid(world->h->daemon, &status, WNOHANG) != 0) {
                        *ret_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
                        world->h->daemon = 0;
                        return true;
                }
                sleep_msec(1);
        }
        return false;
}

bool world_stop(World *world) {
        int status;

        if (world->h->daemon <= 0)
                return true;
        kill(world->h->daemon, SIGTERM);
        if (!world_reap(world, &status)) {
                kill(world->h->daemon, SIGKILL);
                (void)world_reap(world, &status);
                complain(world, "The daemon did not end after SIGTERM.");
                return false;
        }
        if (status != 0)
                complain(world, "The daemon ended with status %d after SIGTERM.", status);
        return status == 0;
}

/* Calls */

/* Errors that the bus or our own library makes where the service says nothing. */
static bool is_silence(const char *name) {
        static const char *const names[] = {
                SD_BUS_ERROR_NO_REPLY, SD_BUS_ERROR_TIMEOUT, SD_BUS_ERROR_SERVICE_UNKNOWN, SD_BUS_ERROR_DISCONNECTED,
                SD_BUS_ERROR_NAME_HAS_NO_OWNER,
        };

        for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
                if (strcmp(name, names[i]) == 0)
                        return true;
        return false;
}

bool attempt_message(World *world, Outcome *outcome, sd_bus_message **ret, sd_bus_message *message) {
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        int r;

        outcome_clear(outcome);
        outcome->status = -1;
        r = sd_bus_call(world->caller, message, 0, &error, &reply);
        if (r < 0) {
                outcome->silent = !error.name || is_silence(error.name);
                outcome->error = g_strdup(error.name ?: "");
                outcome->message = g_strdup(error.message ?: "");
        }
        sd_bus_error_free(&error);
        sd_bus_message_unref(message);
        if (ret && r >= 0)
                *ret = sd_bus_message_ref(reply);
        sd_bus_message_unref(reply);
        return r >= 0;
}

static sd_bus_message *new_call_with(World *world, const char *path, const char *member, const char *types,
        va_list ap) {
        sd_bus_message *message = new_call(world->caller, path, member);

        assert_true(sd_bus_message_appendv(message, types, ap) >= 0);
        return message;
}

bool attempt(World *world, Outcome *outcome, sd_bus_message **ret, const char *path, const char *member,
        const char *types, ...) {
        unsigned acknowledged = outcome->acknowledged;
        sd_bus_message *message;
        bool good;
        va_list ap;

        va_start(ap, types);
        message = new_call_with(world, path, member, types, ap);
        va_end(ap);
        good = attempt_message(world, outcome, ret, message);
        outcome->acknowledged = acknowledged;
        return good;
}

bool attempt_job(World *world, Outcome *outcome, const char *member, const char *types, ...) {
        _cleanup_message_ sd_bus_message *reply = NULL;
        g_autofree char *job = NULL;
        sd_bus_message *message;
        g_auto(JobEnd) end = {};
        va_list ap;

        va_start(ap, types);
        message = new_call_with(world, ROOT, member, types, ap);
        va_end(ap);
        if (!attempt_message(world, outcome, &reply, message))
                return false;
        job = read_string(g_steal_pointer(&reply));
        if (!attempt_message(world, outcome, &reply, new_call(world->caller, job, "Job.Wait")))
                return false;
        read_job_end(reply, &end);
        outcome->is_job = true;
        outcome->hresult = end.hresult;
        if (end.hresult != 0 || *end.error) {
                outcome->error = g_steal_pointer(&end.error);
                outcome->message = g_steal_pointer(&end.message);
                return false;
        }
        outcome->acknowledged = 1;
        return true;
}

/* What the store shows */

static int compare_strings(gconstpointer a, gconstpointer b) {
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A line a license: its properties by name, and its document's bytes. */
static char *describe_license(World *world, const char *id) {
        g_autoptr(GPtrArray) words = g_ptr_array_new_with_free_func(g_free);
        _cleanup_message_ sd_bus_message *reply = NULL;
        g_autoptr(GHashTable) properties = NULL;
        g_autofree char *digest = NULL;
        g_auto(Outcome) outcome = {};
        GHashTableIter iterator;
        const void *document;
        void *key, *value;
        size_t size;

        if (!attempt(world, &outcome, &reply, ROOT, "LicenseStore.GetLicense", "s", id)) {
                complain(world, "GetLicense of '%s', which is listed: %s: %s", id, outcome.error, outcome.message);
                return NULL;
        }
        assert_true(sd_bus_message_read_array(reply, 'y', &document, &size) >= 0);
        properties = read_properties(reply);
        g_hash_table_iter_init(&iterator, properties);
        while (g_hash_table_iter_next(&iterator, &key, &value))
                g_ptr_array_add(words, g_strdup_printf("%s=%s", (char *)key, (char *)value));
        g_ptr_array_sort(words, compare_strings);
        digest = g_compute_checksum_for_data(G_CHECKSUM_SHA256, document, size);
        g_ptr_array_add(words, g_strdup_printf("%zu bytes %s\n", size, digest));
        g_ptr_array_add(words, NULL);
        g_autofree char *line = g_strjoinv(" ", (char **)words->pdata);
        return g_strdup_printf("%s: %s", id, line);
}

static GPtrArray *list_ids(World *world) {
        g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func(g_free);
        _cleanup_message_ sd_bus_message *reply = NULL;
        g_auto(Outcome) outcome = {};
        const char *id;

        if (!attempt(world, &outcome, &reply, ROOT, "LicenseStore.EnumerateLicenses", "a{sv}su", 0, "", 1000U)) {
                complain(world, "The store does not answer afterwards: %s: %s", outcome.error, outcome.message);
                return NULL;
        }
        assert_true(sd_bus_message_enter_container(reply, 'a', "(sa{sv})") >= 0);
        while (sd_bus_message_enter_container(reply, 'r', "sa{sv}") > 0) {
                assert_true(sd_bus_message_read(reply, "s", &id) > 0);
                g_ptr_array_add(ids, g_strdup(id));
                assert_true(sd_bus_message_skip(reply, "a{sv}") > 0);
                assert_true(sd_bus_message_exit_container(reply) > 0);
        }
        return g_steal_pointer(&ids);
}

/* All licenses of the caller. */
static bool describe_licenses(World *world, GString *text) {
        g_autoptr(GPtrArray) ids = list_ids(world);

        for (unsigned i = 0; ids && i < ids->len; i++) {
                g_autofree char *line = describe_license(world, ids->pdata[i]);

                if (!line)
                        return false;
                g_string_append(text, line);
        }
        return ids != NULL;
}

char *world_describe_owners(World *world) {
        g_autoptr(GString) text = g_string_new(NULL);
        _cleanup_message_ sd_bus_message *reply = NULL;
        g_auto(Outcome) outcome = {};
        uint64_t licenses, bytes;
        const char *name, *account;
        uint32_t uid;

        world->caller = world->root;
        if (!attempt(world, &outcome, &reply, ROOT, "Manager.ListOwners", "uu", 0, 0)) {
                complain(world, "ListOwners: %s: %s", outcome.error, outcome.message);
                return NULL;
        }
        world->caller = world->user;
        assert_true(sd_bus_message_enter_container(reply, 'a', "(ustts)") > 0);
        while (sd_bus_message_read(reply, "(ustts)", &uid, &name, &licenses, &bytes, &account) > 0)
                g_string_append_printf(text, "%u %s: %" PRIu64 " licenses, %" PRIu64 " bytes, %s\n", uid, name, licenses,
                        bytes, account);
        return g_strdup(text->str);
}

char *world_describe(World *world) {
        g_autoptr(GString) text = g_string_new(NULL);
        bool good = describe_licenses(world, text);
        g_autofree char *owners = NULL;

        if (good && world->operation->is_roots) {
                world->caller = world->other;
                good = describe_licenses(world, text);
                world->caller = world->user;
                owners = good ? world_describe_owners(world) : NULL;
                good = owners != NULL;
                /* A purge goes in steps, of which its own check knows. */
                if (good)
                        g_string_append(text, !world->operation->check ? owners :
                                strstr(owners, " gone:") ? "gone" : "");
        }
        return good ? g_strdup(text->str) : NULL;
}

char *world_instance(World *world) {
        _cleanup_message_ sd_bus_message *reply = NULL;
        g_auto(Outcome) outcome = {};
        const char *id;

        if (!attempt(world, &outcome, &reply, ROOT, "org.freedesktop.DBus.Properties.Get", "ss",
                    "org.licensevault1.Manager", "InstanceId")) {
                complain(world, "The daemon does not answer: %s: %s", outcome.error, outcome.message);
                return NULL;
        }
        assert_true(sd_bus_message_read(reply, "v", "s", &id) > 0);
        return g_strdup(id);
}

/* A client's other end */

__attribute__((noreturn)) static void copy_in_child(int from, int to) {
        char buffer[65536];
        ssize_t n;

        while ((n = read(from, buffer, sizeof buffer)) > 0)
                if (write(to, buffer, (size_t)n) != n)
                        break;
        _exit(0);
}

static void copy(World *world, int fd, int other, const char *path, bool reads) {
        world->copier = fork();
        assert_true(world->copier >= 0);
        if (world->copier == 0) {
                signal(SIGPIPE, SIG_IGN);
                alarm(ANSWER_USEC / 1000000 * 2);
                close(other);
                int file = open(path, reads ? O_RDONLY : O_WRONLY | O_CREAT | O_TRUNC, 0600);
                copy_in_child(reads ? file : fd, reads ? fd : file);
        }
        close(fd);
}

void world_copy_from(World *world, int fd, int other, const char *path) {
        copy(world, fd, other, path, false);
}

void world_copy_to(World *world, const char *path, int fd, int other) {
        copy(world, fd, other, path, true);
}

void world_end_copy(World *world) {
        int status;

        waitpid(world->copier, &status, 0);
        if (status != 0)
                complain(world, "The descriptor was not closed when the job had ended.");
        world->copier = 0;
}
