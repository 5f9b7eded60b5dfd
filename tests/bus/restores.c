/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "restores.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <systemd/sd-id128.h>

static bool machine_has_id(void) {
        sd_id128_t id;

        return sd_id128_get_machine(&id) >= 0;
}

uint32_t own_flags(void) {
        return machine_has_id() ? 0 : AGREE;
}

void need_machine_id(void) {
        if (!machine_has_id()) {
                print_message("skipped: this machine has no id\n");
                skip();
        }
}

int open_in(Harness *h, const char *name, int flags) {
        g_autofree char *path = harness_path(h, name);
        int fd = open(path, flags | O_CLOEXEC, 0600);

        if (fd < 0)
                fail_msg("Cannot open %s", path);
        return fd;
}

void save_backup(Harness *h, sd_bus *bus, const char *name) {
        int fd = open_in(h, name, O_RDWR | O_CREAT | O_TRUNC);
        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicensesToFile", "hua{sv}", fd, 0, 0);

        g_hash_table_unref(assert_job_succeeds(bus, job));
        close(fd);
}

void rewrite_backup(Harness *h, const char *from, const char *to, const char *const *operations) {
        const char *program = g_getenv("LICENSEVAULT_REWRITE_BACKUP");
        g_autofree char *from_path = harness_path(h, from), *to_path = harness_path(h, to), *problem = NULL;
        g_autoptr(GPtrArray) line = g_ptr_array_new();

        g_ptr_array_add(line, (void *)"python3");
        g_ptr_array_add(line, (void *)(program ?: "tests/bus/rewrite-backup.py"));
        g_ptr_array_add(line, from_path);
        g_ptr_array_add(line, to_path);
        for (; *operations; operations++)
                g_ptr_array_add(line, (void *)*operations);
        g_ptr_array_add(line, NULL);
        if (run_program((const char *const *)line->pdata, NULL, &problem) != 0)
                fail_msg("The backup cannot be rewritten: %s", problem);
}

void harness_new_machine(Harness *h) {
        g_autofree char *old = g_strconcat(h->state, "-old", NULL);

        harness_stop(h);
        run_program((const char *[]) { "rm", "-rf", old, NULL }, NULL, NULL);
        assert_int_equal(rename(h->state, old), 0);
        assert_int_equal(mkdir(h->state, 0700), 0);
        harness_start(h);
}

char *start_restore(Harness *h, sd_bus *bus, const char *name, uint32_t flags) {
        int fd = open_in(h, name, O_RDONLY);
        char *job = call_string(bus, ROOT, RESTORE_FILE, "hua{sv}", fd, flags, 0);

        close(fd);
        return job;
}

char *start_verify(Harness *h, sd_bus *bus, const char *name) {
        int fd = open_in(h, name, O_RDONLY);
        char *job = call_string(bus, ROOT, VERIFY, "h", fd);

        close(fd);
        return job;
}

/* Results. */

static const char *const counts[] = { "restored", "unchanged", "newer_kept", "conflicts", "revoked", "skipped" };

static void read_count(sd_bus_message *message, const char *key, uint64_t values[G_N_ELEMENTS(counts)]) {
        for (unsigned i = 0; i < G_N_ELEMENTS(counts); i++)
                if (strcmp(key, counts[i]) == 0) {
                        assert_int_equal(values[i], UINT64_MAX);
                        assert_true(sd_bus_message_read(message, "v", "t", &values[i]) > 0);
                        return;
                }
        fail_msg("A restore's result has a '%s'", key);
}

/* Reads the a{sv} of a result: numbers and names as text. */
static void read_result(sd_bus_message *message, char **ret_counts, char **ret_skipped_users) {
        uint64_t values[] = { UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX };
        g_auto(GStrv) skipped = NULL;
        const char *key;

        assert_true(sd_bus_message_enter_container(message, 'a', "{sv}") > 0);
        while (sd_bus_message_enter_container(message, 'e', "sv") > 0) {
                assert_true(sd_bus_message_read(message, "s", &key) > 0);
                if (strcmp(key, "skipped_users") == 0) {
                        assert_true(sd_bus_message_enter_container(message, 'v', "as") > 0);
                        skipped = read_strings(message);
                        assert_true(sd_bus_message_exit_container(message) > 0);
                } else
                        read_count(message, key, values);
                assert_true(sd_bus_message_exit_container(message) > 0);
        }

        assert_non_null(skipped);
        for (unsigned i = 0; i < G_N_ELEMENTS(counts); i++)
                if (values[i] == UINT64_MAX)
                        fail_msg("A restore's result has no '%s'", counts[i]);
        *ret_counts = g_strdup_printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64, values[0], values[1],
                values[2], values[3], values[4]);
        if (values[5] > 0) {
                g_autofree char *without = g_steal_pointer(ret_counts);

                *ret_counts = g_strdup_printf("%s, skipped %" PRIu64, without, values[5]);
        }
        *ret_skipped_users = g_strjoinv(" ", skipped);
}

void assert_restored_at(const char *file, int line, sd_bus *bus, const char *job, const char *expected,
        const char *skipped_users) {
        _cleanup_message_ sd_bus_message *reply = call_at(file, line, bus, job, "Job.Wait", "");
        g_autofree char *found = NULL, *skipped = NULL;
        const char *error, *message;
        int32_t hresult;

        assert_true(sd_bus_message_read(reply, "iss", &hresult, &error, &message) > 0);
        if (hresult != 0 || *error || *message) {
                print_error("The restore failed: %s, '%s'\n", error, message);
                _fail(file, line);
        }
        read_result(reply, &found, &skipped);
        if (strcmp(found, expected) != 0 || strcmp(skipped, skipped_users) != 0) {
                print_error("Expected restored, unchanged, newer_kept, conflicts, revoked to be '%s' and '%s' to be "
                            "skipped, got '%s' and '%s'\n",
                        expected, skipped_users, found, skipped);
                _fail(file, line);
        }
}

void assert_restores_at(const char *file, int line, Harness *h, sd_bus *bus, const char *name, const char *expected) {
        g_autofree char *job = start_restore(h, bus, name, own_flags());

        assert_restored_at(file, line, bus, job, expected, "");
}

void assert_restore_fails(Harness *h, sd_bus *bus, const char *name, const char *error, const char *message) {
        g_autofree char *job = start_restore(h, bus, name, own_flags());

        assert_job_fails(bus, job, error, message);
}

/* Licenses. */

static int compare_keys(const void *a, const void *b) {
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static void append_properties(GString *text, GHashTable *properties) {
        unsigned n;
        g_autofree char **keys = (char **)g_hash_table_get_keys_as_array(properties, &n);

        qsort(keys, n, sizeof *keys, compare_keys);
        for (unsigned i = 0; i < n; i++)
                g_string_append_printf(text, " %s=%s", keys[i], (char *)g_hash_table_lookup(properties, keys[i]));
        g_string_append_c(text, '\n');
}

/* The content of a sealed file, which is the caller's. */
static uint8_t *read_sealed(int fd, size_t *ret_size) {
        g_autofree uint8_t *content = NULL;
        struct stat st;

        assert_int_equal(fstat(fd, &st), 0);
        content = g_malloc((size_t)st.st_size + 1);
        assert_int_equal(read(fd, content, (size_t)st.st_size + 1), st.st_size);
        *ret_size = (size_t)st.st_size;
        return g_steal_pointer(&content);
}

static void append_document(GString *text, const void *content, size_t size) {
        g_autofree char *sum = g_compute_checksum_for_data(G_CHECKSUM_SHA256, content, size);

        g_string_append_printf(text, "  %zu %s", size, sum);
}

/* By GetLicense, and only what is too large for it by OpenLicense: a monitor would have to take all descriptors. */
static void append_license(GString *text, sd_bus *bus, const char *id) {
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.GetLicense");
        _cleanup_message_ sd_bus_message *reply = NULL;
        g_autoptr(GHashTable) properties = NULL;
        sd_bus_error error = SD_BUS_ERROR_NULL;
        size_t size;

        assert_true(sd_bus_message_append(message, "s", id) >= 0);
        if (sd_bus_call(bus, message, 0, &error, &reply) >= 0) {
                const void *content;
                assert_true(sd_bus_message_read_array(reply, 'y', &content, &size) >= 0);
                append_document(text, content, size);
        } else {
                int fd;
                assert_true(sd_bus_error_has_name(&error, SD_BUS_ERROR_LIMITS_EXCEEDED));
                reply = call(bus, ROOT, "LicenseStore.OpenLicense", "s", id);
                assert_true(sd_bus_message_read(reply, "h", &fd) > 0);
                g_autofree uint8_t *content = read_sealed(fd, &size);
                append_document(text, content, size);
        }
        properties = read_properties(reply);
        append_properties(text, properties);
        sd_bus_error_free(&error);
        sd_bus_message_unref(message);
}

char *snapshot_licenses(sd_bus *bus) {
        g_autofree char *after = g_strdup("");
        GString *text = g_string_new(NULL);

        do {
                _cleanup_message_ sd_bus_message *page =
                        call(bus, ROOT, "LicenseStore.EnumerateLicenses", "a{sv}su", 0, after, 0);
                const char *id, *next;

                assert_true(sd_bus_message_enter_container(page, 'a', "(sa{sv})") > 0);
                while (sd_bus_message_enter_container(page, 'r', "sa{sv}") > 0) {
                        assert_true(sd_bus_message_read(page, "s", &id) > 0);
                        g_autoptr(GHashTable) properties = read_properties(page);
                        g_string_append(text, id);
                        append_properties(text, properties);
                        append_license(text, bus, id);
                        assert_true(sd_bus_message_exit_container(page) > 0);
                }
                assert_true(sd_bus_message_exit_container(page) > 0);
                assert_true(sd_bus_message_read(page, "s", &next) > 0);
                g_free(after);
                after = g_strdup(next);
        } while (*after);

        return g_string_free(text, false);
}

void assert_snapshot_at(const char *file, int line, sd_bus *bus, const char *snapshot) {
        g_autofree char *now = snapshot_licenses(bus);

        if (strcmp(now, snapshot) != 0) {
                print_error("The licenses are not as they were. They were:\n%s\nThey are:\n%s\n", snapshot, now);
                _fail(file, line);
        }
}

void delete_license(sd_bus *bus, const char *id) {
        call_void(bus, ROOT, "LicenseStore.DeleteLicense", "s", id);
}

uint64_t consume(sd_bus *bus, const char *id, const char *right, uint64_t amount) {
        return call_uint64(bus, ROOT, "LicenseStore.ConsumeRight", "sst", id, right, amount);
}

void assert_no_license(sd_bus *bus, const char *id) {
        call_error(bus, ROOT, "LicenseStore.GetLicense", "NS_E_DRM_LICENSE_UNAVAILABLE", NULL, "s", id);
}

/* Jobs that read what the test writes. */

void fed_job_clear(FedJob *fed) {
        if (fed->fd > 0)
                close(fed->fd);
        g_free(fed->path);
        *fed = (FedJob) {};
}

static int new_pipe(FedJob *fed) {
        int fds[2];

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        fed->fd = fds[1];
        return fds[0];
}

void fed_job_start(sd_bus *bus, FedJob *ret) {
        int fd = new_pipe(ret);

        ret->path = call_string(bus, ROOT, RESTORE_FILE, "hua{sv}", fd, own_flags(), 0);
        close(fd);
}

void fed_verify_start(sd_bus *bus, FedJob *ret) {
        int fd = new_pipe(ret);

        ret->path = call_string(bus, ROOT, VERIFY, "h", fd);
        close(fd);
}

void feed(FedJob *fed, const void *data, size_t size) {
        const char *p = data;

        while (size > 0) {
                struct pollfd wait = { .fd = fed->fd, .events = POLLOUT };

                if (poll(&wait, 1, PATIENCE_SEC * 1000) != 1)
                        fail_msg("The job does not take %zu more bytes", size);
                /* What poll() promises is a page: more could wait for ever for a job that has ended. */
                ssize_t n = write(fed->fd, p, MIN(size, 4096));
                if (n < 0)
                        fail_msg("The job did not read to the end: %s", strerror(errno));
                p += n;
                size -= (size_t)n;
        }
}

void feed_end(FedJob *fed) {
        close(fed->fd);
        fed->fd = -1;
}
