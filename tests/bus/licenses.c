/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client.h"

/* Documents, jobs that hold still, and what else clients of these tests make. */

void fill_document(uint8_t *document, size_t size, uint32_t seed) {
        uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;

        for (size_t i = 0; i < size; i++) {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                document[i] = (uint8_t)(x >> 32);
        }
        /* The first byte keeps random bytes from looking like a format that is recognised. */
        if (size > 0)
                document[0] = 0xff;
}

uint8_t *make_document(size_t size, uint32_t seed) {
        uint8_t *document = g_malloc(MAX(size, 1));

        fill_document(document, size, seed);
        return document;
}

char *make_lcp(const char *id, const char *updated, const char *rights) {
        g_autofree char *quoted_rights = rights ? g_strdup_printf(",\"rights\":%s", rights) : g_strdup("");
        g_autofree char *quoted_updated =
                updated ? g_strdup_printf("\"updated\":\"%s\",", updated) : g_strdup("");

        return g_strdup_printf(
                "{\"provider\":\"https://lcp.example.org\",\"id\":\"%s\","
                "\"issued\":\"2020-01-01T00:00:00Z\",%s"
                "\"encryption\":{\"profile\":\"http://readium.org/lcp/basic-profile\","
                "\"content_key\":{\"algorithm\":\"http://www.w3.org/2001/04/xmlenc#aes256-cbc\","
                "\"encrypted_value\":\"AAAA\"},\"user_key\":{\"algorithm\":"
                "\"http://www.w3.org/2001/04/xmlenc#sha256\",\"text_hint\":\"hint\","
                "\"key_check\":\"AAAA\"}},"
                "\"links\":[{\"rel\":\"hint\",\"href\":\"https://lcp.example.org/hint\"},"
                "{\"rel\":\"publication\",\"href\":\"https://lcp.example.org/book.epub\","
                "\"type\":\"application/epub+zip\",\"title\":\"A Book\"}]%s,"
                "\"signature\":{\"algorithm\":\"http://www.w3.org/2001/04/xmldsig-more#rsa-sha256\","
                "\"certificate\":\"AAAA\",\"value\":\"AAAA\"}}",
                id, quoted_updated, quoted_rights);
}

static sd_bus_message *new_store_call(
        sd_bus *bus, const void *document, size_t size, const char *types, va_list ap) {
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.StoreLicense");

        assert_true(sd_bus_message_append_array(message, 'y', document, size) >= 0);
        assert_true(sd_bus_message_appendv(message, types, ap) >= 0);
        return message;
}

char *store_license_at(
        const char *file, int line, sd_bus *bus, const void *document, size_t size, const char *types, ...) {
        sd_bus_message *message, *reply = NULL;
        sd_bus_error error = SD_BUS_ERROR_NULL;
        va_list ap;
        int r;

        va_start(ap, types);
        message = new_store_call(bus, document, size, types, ap);
        va_end(ap);
        r = sd_bus_call(bus, message, 0, &error, &reply);
        if (r < 0) {
                print_error("StoreLicense failed: %s, '%s'\n", error.name, error.message);
                _fail(file, line);
        }
        sd_bus_message_unref(message);
        return read_string(reply);
}

void store_license_error_at(const char *file, int line, sd_bus *bus, const char *error, const char *message,
        const void *document, size_t size, const char *types, ...) {
        sd_bus_message *m;
        va_list ap;

        va_start(ap, types);
        m = new_store_call(bus, document, size, types, ap);
        va_end(ap);
        send_call_error_at(file, line, bus, m, error, message);
}

void store_simple(sd_bus *bus, const char *id) {
        g_autofree char *document = g_strdup_printf("the document of %s\n", id);
        g_autofree char *stored =
                store_license(bus, document, strlen(document), "a{sv}", 1, "LicenseId", "s", id);

        assert_string_equal(stored, id);
}

void store_many(sd_bus *bus, const char *prefix, unsigned count, size_t size) {
        unsigned at_once = (unsigned)MIN(1000U, (8U << 20) / MAX(size + 64, 1));

        for (unsigned done = 0; done < count;) {
                sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.StoreLicenses");
                unsigned end = MIN(done + at_once, count);

                assert_true(sd_bus_message_open_container(message, 'a', "(aya{sv})") >= 0);
                for (; done < end; done++) {
                        g_autofree uint8_t *document = make_document(size, done);
                        g_autofree char *id = g_strdup_printf("%s%05u", prefix, done);

                        assert_true(sd_bus_message_open_container(message, 'r', "aya{sv}") >= 0);
                        assert_true(sd_bus_message_append_array(message, 'y', document, size) >= 0);
                        assert_true(sd_bus_message_append(message, "a{sv}", 1, "LicenseId", "s", id) >= 0);
                        assert_true(sd_bus_message_close_container(message) >= 0);
                }
                assert_true(sd_bus_message_close_container(message) >= 0);
                sd_bus_message_unref(send_call(bus, message));
        }
}

static void assert_sealed(int fd, const void *document, size_t size) {
        g_autofree uint8_t *content = g_malloc(size + 1);
        struct stat st;

        assert_int_equal(lseek(fd, 0, SEEK_CUR), 0);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_size, size);
        assert_int_equal(read(fd, content, size + 1), size);
        assert_memory_equal(content, document, size);
        const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
        assert_int_equal(fcntl(fd, F_GET_SEALS) & seals, seals);
}

GHashTable *assert_license(sd_bus *bus, const char *id, const void *document, size_t size) {
        _cleanup_message_ sd_bus_message *opened = call(bus, ROOT, "LicenseStore.OpenLicense", "s", id);
        int fd;

        assert_true(sd_bus_message_read(opened, "h", &fd) > 0);
        assert_sealed(fd, document, size);

        if (size <= 60 * 1024) {
                _cleanup_message_ sd_bus_message *got = call(bus, ROOT, "LicenseStore.GetLicense", "s", id);
                const void *content;
                size_t n;

                assert_true(sd_bus_message_read_array(got, 'y', &content, &n) >= 0);
                assert_int_equal(n, size);
                if (size > 0)
                        assert_memory_equal(content, document, size);
        }

        return read_properties(opened);
}

void send_get_license(sd_bus *bus, const char *id) {
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.GetLicense");

        assert_true(sd_bus_message_append(message, "s", id) >= 0);
        send_only(bus, message);
}

void stuck_job_clear(StuckJob *stuck) {
        for (unsigned i = 0; i < 2; i++)
                if (stuck->fds[i] > 0)
                        close(stuck->fds[i]);
        g_free(stuck->path);
        *stuck = (StuckJob) {};
}

void stuck_job_start(sd_bus *bus, StuckJob *ret) {
        assert_int_equal(pipe2(ret->fds, O_CLOEXEC), 0);
        /* The smallest pipe: every backup is larger. */
        assert_true(fcntl(ret->fds[1], F_SETPIPE_SZ, 4096) > 0);
        ret->path =
                call_string(bus, ROOT, "LicenseBackup.BackupLicensesToFile", "hua{sv}", ret->fds[1], 0, 0);
        close(ret->fds[1]);
        ret->fds[1] = -1;
        /* It has begun to deliver, and cannot go on. */
        struct pollfd wait = { .fd = ret->fds[0], .events = POLLIN };
        assert_int_equal(poll(&wait, 1, PATIENCE_SEC * 1000), 1);
}

size_t stuck_job_drain(sd_bus *bus, StuckJob *stuck) {
        g_autofree char *state = NULL;
        size_t size = 0;

        /* Where a monitor holds a copy of the pipe, its end does not show; the job's does. */
        do {
                struct pollfd wait = { .fd = stuck->fds[0], .events = POLLIN };
                char buffer[65536];
                ssize_t n;

                while (poll(&wait, 1, 10) > 0 && (n = read(stuck->fds[0], buffer, sizeof buffer)) > 0)
                        size += (size_t)n;
                g_free(state);
                state = job_property(bus, stuck->path, "State");
        } while (strcmp(state, "running") == 0);

        return size;
}
