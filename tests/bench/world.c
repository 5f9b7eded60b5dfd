/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bench.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lcp.h"

/* Nothing that is measured takes so long, also where the machine is busy. */
#define JOB_PATIENCE_MSEC (1800U * 1000U)

void world_new_store(Bench *bench) {
        Harness *h = bench->h;

        if (h->daemon > 0)
                harness_stop(h);
        run_program((const char *[]) { "rm", "-rf", h->state, NULL }, NULL, NULL);
        assert_int_equal(mkdir(h->state, 0700), 0);
        harness_start(h);
}

void world_restart(Bench *bench) {
        harness_stop(bench->h);
        harness_start(bench->h);
}

static int on_owner(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        bool *owned = userdata;
        const char *name, *before, *after;

        assert_true(sd_bus_message_read(message, "sss", &name, &before, &after) > 0);
        *owned = *after != '\0';
        return 0;
}

double world_start_seconds(Bench *bench) {
        Harness *h = bench->h;
        sd_bus_slot *slot = NULL;
        bool owned = false;
        double begin;

        assert_true(sd_bus_match_signal(h->observer, &slot, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                            "org.freedesktop.DBus", "NameOwnerChanged", on_owner, &owned) >= 0);
        harness_stop(h);
        while (sd_bus_process(h->observer, NULL) > 0)
                ;
        owned = false;

        begin = now();
        h->daemon = harness_spawn(h, NULL);
        while (!owned) {
                assert_true(sd_bus_wait(h->observer, PATIENCE_SEC * UINT64_C(1000000)) > 0);
                while (sd_bus_process(h->observer, NULL) > 0)
                        ;
        }
        begin = now() - begin;
        sd_bus_slot_unref(slot);
        return begin;
}

char *world_id(uint64_t number) {
        return g_strdup_printf("urn:bench:%08" PRIu64, number);
}

static void append_random(sd_bus_message *message, uint64_t number, size_t size) {
        g_autofree uint8_t *document = make_document(size, (uint32_t)number);
        g_autofree char *id = world_id(number);

        assert_true(sd_bus_message_append_array(message, 'y', document, size) >= 0);
        assert_true(sd_bus_message_append(message, "a{sv}", 4, "LicenseId", "s", id, "KeyId", "s", "0f1e2d3c-4b5a",
                            "Title", "s", "Moby-Dick; or, The Whale", "Counters", "a{st}", 1, "print",
                            UINT64_C(20)) >= 0);
}

static void append_lcp(sd_bus_message *message, uint64_t number, size_t size) {
        size_t document_size;
        char *document = lcp_make(number, size, &document_size, NULL);

        assert_true(sd_bus_message_append_array(message, 'y', document, document_size) >= 0);
        assert_true(sd_bus_message_append(message, "a{sv}", 0) >= 0);
        free(document);
}

void world_fill(sd_bus *bus, DocumentKind kind, uint64_t first, uint64_t count, size_t size) {
        uint64_t at_once = MIN(1000U, (8U << 20) / (size + 128)), end = first + count;

        while (first < end) {
                sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.StoreLicenses");
                uint64_t page_end = MIN(first + at_once, end);

                assert_true(sd_bus_message_open_container(message, 'a', "(aya{sv})") >= 0);
                for (; first < page_end; first++) {
                        assert_true(sd_bus_message_open_container(message, 'r', "aya{sv}") >= 0);
                        if (kind == DOCUMENT_LCP)
                                append_lcp(message, first, size);
                        else
                                append_random(message, first, size);
                        assert_true(sd_bus_message_close_container(message) >= 0);
                }
                assert_true(sd_bus_message_close_container(message) >= 0);
                sd_bus_message_unref(send_call(bus, message));
        }
}

double world_pss(Bench *bench) {
        g_autofree char *path = g_strdup_printf("/proc/%d/smaps_rollup", (int)bench->h->daemon);
        g_autofree char *text = NULL;
        const char *line = NULL;

        if (!g_file_get_contents(path, &text, NULL, NULL) || !(line = strstr(text, "\nPss:")))
                fail_msg("%s cannot be read", path);
        return (double)strtoull(line + strlen("\nPss:"), NULL, 10) / 1024;
}

sd_bus_message *backup_call(sd_bus *bus) {
        sd_bus_message *message = new_call(bus, ROOT, "LicenseBackup.BackupLicenses");

        assert_true(sd_bus_message_append(message, "u", 1) >= 0);
        return message;
}

/* Flag 2: a machine without an id takes its own backups for another's. */
sd_bus_message *restore_call(sd_bus *bus, const char *path) {
        sd_bus_message *message = new_call(bus, ROOT, "LicenseRestore.RestoreLicensesFromFile");
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_true(sd_bus_message_append(message, "hua{sv}", fd, 2, 0) >= 0);
        close(fd);
        return message;
}

typedef struct Waiting {
        char *job, *sender;
        JobEnd end;
        bool done;
} Waiting;

static int on_done(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Waiting *waiting = userdata;

        if (g_strcmp0(sd_bus_message_get_path(message), waiting->job) == 0 &&
            g_strcmp0(sd_bus_message_get_sender(message), waiting->sender) == 0) {
                assert_true(sd_bus_message_skip(message, "u") > 0);
                read_job_end(message, &waiting->end);
                waiting->done = true;
        }
        return 0;
}

double job_seconds_meanwhile(sd_bus *bus, sd_bus_message *call, void (*meanwhile)(void *userdata), void *userdata) {
        Waiting waiting = {};
        sd_bus_slot *slot = NULL;
        sd_bus_message *reply;
        const char *job;
        double begin;

        assert_true(sd_bus_match_signal(bus, &slot, NULL, NULL, "org.licensevault1.Job", "Done", on_done, &waiting) >=
                0);
        begin = now();
        reply = send_call(bus, call);
        assert_true(sd_bus_message_read(reply, "o", &job) > 0);
        waiting.job = g_strdup(job);
        waiting.sender = g_strdup(sd_bus_message_get_sender(reply));
        sd_bus_message_unref(reply);

        while (!waiting.done) {
                if (sd_bus_process(bus, NULL) > 0)
                        continue;
                if (meanwhile)
                        meanwhile(userdata);
                else
                        assert_true(sd_bus_wait(bus, JOB_PATIENCE_MSEC * UINT64_C(1000)) > 0);
                assert_true(now() - begin < JOB_PATIENCE_MSEC / 1e3);
        }
        begin = now() - begin;

        if (waiting.end.hresult != 0)
                fail_msg("The job failed: %s", waiting.end.message);
        job_end_clear(&waiting.end);
        sd_bus_slot_unref(slot);
        g_free(waiting.job);
        g_free(waiting.sender);
        return begin;
}

double job_seconds(sd_bus *bus, sd_bus_message *call) {
        return job_seconds_meanwhile(bus, call, NULL, NULL);
}
