/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "restore-source.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static void *feed(void *userdata) {
        Feeder *feeder = userdata;

        for (uint64_t k = 0; k < MAX(feeder->times, 1); k++)
                for (size_t at = 0; at < feeder->size;) {
                        ssize_t n = write(feeder->fd, feeder->data + at, MIN(feeder->piece, feeder->size - at));

                        if (n < 0)
                                goto end;
                        at += (size_t)n;
                        feeder->fed += (uint64_t)n;
                        if (feeder->pause_usec > 0)
                                g_usleep(feeder->pause_usec);
                }
end:
        close(feeder->fd);
        return NULL;
}

int feeder_start(Feeder *feeder, bool is_socket) {
        int fds[2];

        assert_int_equal(is_socket ? socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) : pipe2(fds, O_CLOEXEC),
                0);
        feeder->fd = fds[1];
        feeder_run(feeder);
        return fds[0];
}

void feeder_run(Feeder *feeder) {
        assert_int_equal(pthread_create(&feeder->thread, NULL, feed, feeder), 0);
}

void feeder_join(Feeder *feeder) {
        assert_int_equal(pthread_join(feeder->thread, NULL), 0);
}

const Part whole_parts[N_PARTS] = {
        [PART_README] = { ARCHIVE_README, "Read me.\n" },
        [PART_MANIFEST] = { ARCHIVE_MANIFEST, MANIFEST_JSON(1, "machine", MANIFEST_OWNER, 2, 0) },
        [PART_STATE] = { ARCHIVE_STATE,
                "{\"id\":\"a\",\"generation\":1,\"counters\":{\"play\":5}}\n"
                "{\"id\":\"b\",\"generation\":2,\"counters\":{}}\n" },
        [PART_A] = { "licenses/0000001-a.lic", "document a", "id=a\ngeneration=1\ncounter.play=5\ntitle=A" },
        [PART_B] = { "licenses/0000002-b.lic", "document b", "id=b\ngeneration=2" },
};

/* The attributes as the writer wants them; all that is in it belongs to texts. */
static PaxAttribute *parse_attributes(const Part *part, GPtrArray *texts) {
        g_auto(GStrv) lines = g_strsplit(part->attributes, "\n", 0);
        PaxAttribute *attributes = g_new0(PaxAttribute, g_strv_length(lines) + 2);
        char hex[LICENSE_DIGEST_SIZE * 2 + 1];
        uint8_t digest[LICENSE_DIGEST_SIZE];
        bool has_digest = false;
        size_t n = 0;

        g_ptr_array_add(texts, attributes);
        for (char **p = lines; *p; p++) {
                char *equals = strchr(*p, '='), *name;

                assert_non_null(equals);
                *equals = '\0';
                name = g_strconcat(ARCHIVE_ATTRIBUTE_PREFIX, *p, NULL);
                has_digest = has_digest || g_str_equal(name, ARCHIVE_ATTRIBUTE_DIGEST);
                attributes[n++] = (PaxAttribute) { name, g_strdup(equals + 1) };
                g_ptr_array_add(texts, name);
                g_ptr_array_add(texts, (char *)attributes[n - 1].value);
        }
        if (!has_digest) {
                crypto_generichash(digest, sizeof digest, (const uint8_t *)part->content, strlen(part->content), NULL,
                        0);
                license_digest_to_hex(digest, hex);
                attributes[n] = (PaxAttribute) { ARCHIVE_ATTRIBUTE_DIGEST, g_strdup(hex) };
                g_ptr_array_add(texts, (char *)attributes[n].value);
        }
        return attributes;
}

int make_archive(const Part *parts, size_t n_parts, int restricted) {
        g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func(g_free);
        g_autofree TarballPart *made = g_new0(TarballPart, n_parts);
        g_autofree char *end = NULL;
        unsigned n = 0;

        for (size_t i = 0; i < n_parts; i++) {
                made[i] = (TarballPart) { .path = parts[i].path, .content = parts[i].content };
                made[i].streamed = g_str_equal(parts[i].path, ARCHIVE_STATE);
                if (parts[i].attributes)
                        made[i].attributes = parse_attributes(&parts[i], texts);
                n += g_str_has_prefix(parts[i].path, ARCHIVE_LICENSES);
        }
        if (restricted >= 0)
                end = g_strdup_printf("{\"format\":1,\"licenses\":%u,\"restricted\":%d,\"blake2b\":\"%%s\"}", n,
                        restricted);
        return tarball_make_file(made, n_parts, end);
}

int make_archive_with(unsigned i, Part part) {
        Part parts[N_PARTS];

        memcpy(parts, whole_parts, sizeof parts);
        parts[i] = part;
        return make_archive(parts, N_PARTS, 0);
}
