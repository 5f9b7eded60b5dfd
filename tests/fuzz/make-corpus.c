/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <err.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "backup.h"
#include "lcp.h"
#include "pax-format.h"
#include "restore-source.h"
#include "restore-world.h"

/*
 * make-corpus FOLDER: writes what the fuzzers begin with to FOLDER/<target>/, from the generators of our own tests.
 * The same each time, but for the dates of the backups that the service itself makes.
 */

static const char *root;

static void put_file(const char *target, const char *name, const void *head, size_t head_size, const void *data,
        size_t size) {
        g_autofree char *folder = g_build_filename(root, target, NULL), *path = g_build_filename(folder, name, NULL);
        FILE *file;

        if (g_mkdir_with_parents(folder, 0755) < 0 || !(file = fopen(path, "we")))
                err(1, "%s", path);
        if (fwrite(head, 1, head_size, file) != head_size || fwrite(data, 1, size, file) != size || fclose(file) != 0)
                err(1, "%s", path);
}

static void put_document(const char *name, unsigned media_type, const char *document) {
        /* All that the document says is claimed as it is, and both counters one less. */
        const uint8_t head[32] = { (uint8_t)media_type, 0xcf, 0xff, 0, 0, 0, 0, 2, 0, 1, 0, 1, 1 };

        put_file("document", name, head, sizeof head, document, strlen(document));
}

static void make_documents(void) {
#define REST "\"encryption\":{\"profile\":\"http://readium.org/lcp/basic-profile\"},\"signature\":{}"
        for (unsigned i = 0; i < 8; i++) {
                char id[LCP_ID_SIZE], name[16];
                char *document = lcp_make(i, 2600, NULL, id);

                snprintf(name, sizeof name, "lcp-%u", i);
                put_document(name, i % 4, document);
                free(document);
        }
        put_document("text", 0, "A license in plain words.");
        put_document("binary", 3, "\x01\x02\xff");
        put_document("empty", 1, "");
        put_document("old", 0, "{\"id\":\"1\",\"provider\":\"p\",\"issued\":\"2015-01-01T00:00:00+02:00\",\"links\":"
                "{\"publication\":{\"title\":\"T\"}},\"rights\":{\"print\":true,\"copy\":false}," REST "}");
        put_document("times", 1, "{\"id\":\"1\",\"provider\":\"p\",\"issued\":\"1969-12-31T23:59:59.5Z\","
                "\"updated\":null,"
                "\"links\":[{\"rel\":\"publication\",\"title\":null}],\"rights\":{\"print\":9223372036854775807,"
                "\"start\":\"1960-01-01T00:00:00.25Z\",\"end\":\"2090-06-30T23:59:59.75-12:00\"}," REST "}");
        put_document("other", 0, "{\"about\":\"http:\\/\\/readium.org\\/lcp\\/\",\"encryption\":{\"profile\":\"x\"}}");
        put_document("cut", 0, " {\"encryption\":{\"profile\":\"http://readium.org/lcp/basic-profile\"");
}

/* Tars end in zeros up to 10 KiB; what no reader asks for need not be in the tree. */
static void put_backup(const char *name, int fd) {
        g_autoptr(GByteArray) tar = tarball_read_file(fd);
        const uint8_t head[2] = { 0, 40 };
        guint size = tar->len;

        while (size > 0 && tar->data[size - 1] == 0)
                size--;
        size = MIN((size + PAX_BLOCK_SIZE - 1) / PAX_BLOCK_SIZE * PAX_BLOCK_SIZE + 2 * PAX_BLOCK_SIZE, tar->len);
        put_file("archive", name, head, sizeof head, tar->data, size);
        close(fd);
}

static void make_backups(void) {
        Part parts[N_PARTS];
        void *state = NULL;
        RestoreWorld *world;

        put_backup("whole", make_archive(whole_parts, N_PARTS, 0));
        put_backup("no-end", make_archive(whole_parts, N_PARTS, -1));
        put_backup("nothing", make_archive_with(PART_STATE, (Part) { ARCHIVE_STATE, "" }));
        put_backup("tarball", tarball_make_whole());
        put_backup("bad-line", make_archive_with(PART_STATE, (Part) { ARCHIVE_STATE, "{\"id\":\"a\"}\n" }));
        put_backup("revoked", make_archive_with(PART_STATE, (Part) { ARCHIVE_STATE,
                "{\"id\":\"a\",\"generation\":1,\"counters\":{\"play\":5},\"restricted\":true}\n"
                "{\"id\":\"b\",\"generation\":9223372036854775807,\"counters\":{},\"revoked\":1700000000}\n" }));
        put_backup("machine", make_archive_with(PART_MANIFEST, (Part) { ARCHIVE_MANIFEST,
                MANIFEST_JSON(1, "another", "\"all_users\":false,\"owner\":{\"uid\":1,\"name\":\"\"}", 2, 0) }));

        put_backup("rights", make_archive_with(PART_A, (Part) { "licenses/0000001-a.lcpl",
                "{\"id\":\"a\",\"provider\":\"p\",\"issued\":\"2024-01-01T00:00:00Z\",\"links\":[],"
                "\"rights\":{\"play\":5,"
                "\"start\":\"2024-01-01T00:00:00Z\",\"end\":\"2030-01-01T00:00:00Z\"}," REST "}",
                "id=a\nissuer=p\nmedia-type=application/vnd.readium.lcp.license.v1.0+json\ngeneration=1\n"
                "date=1704067200000000\nnot-before=1704067200\nnot-after=1893456000\ncounter.play=5" }));

        memcpy(parts, whole_parts, sizeof parts);
        parts[PART_MANIFEST].content = MANIFEST_JSON(1, "machine", "\"all_users\":true", 2, 0);
        parts[PART_STATE].content = "{\"owner\":\"anna\",\"id\":\"a\",\"generation\":1,\"counters\":{\"play\":5}}\n"
                "{\"owner\":\"ben\",\"id\":\"b\",\"generation\":2,\"counters\":{}}\n";
        parts[PART_A].path = "licenses/anna/0000001-a.lic";
        parts[PART_A].attributes = "id=a\ngeneration=1\ncounter.play=5\nowner=anna\nnot-before=1\nnot-after=2";
        parts[PART_B].path = "licenses/ben/0000002-b.lic";
        parts[PART_B].attributes = "id=b\ngeneration=2\nowner=ben\nkey-id=k\nissuer=i\nmedia-type=text/plain";
        put_backup("all-users", make_archive(parts, N_PARTS, 0));

        /* What the service itself makes, an LCP license included. */
        assert_int_equal(restore_world_setup(&state), 0);
        world = state;
        put_backup("service", back_up(world->from, false));
        put_backup("service-all", back_up(world->from, true));
        assert_int_equal(restore_world_teardown(&state), 0);
}

/* Decisions, which are no format of anybody's: many short rows of numbers that a generator draws. */
static void make_decisions(const char *target, unsigned n, unsigned size) {
        uint32_t random = 1;

        for (unsigned i = 0; i < n; i++) {
                g_autofree uint8_t *bytes = g_malloc(size);
                char name[24];

                for (unsigned k = 0; k < size; k++) {
                        random = random * 1664525 + 1013904223;
                        bytes[k] = (uint8_t)(random >> 24);
                }
                snprintf(name, sizeof name, "drawn-%u", i);
                put_file(target, name, NULL, 0, bytes, size * (i + 1) / n);
        }
}

int main(int argc, char *argv[]) {
        if (argc != 2)
                errx(2, "Usage: make-corpus FOLDER");
        root = argv[1];
        restore_world_prepare();
        make_documents();
        make_backups();
        make_decisions("message", 16, 400);
        make_decisions("restore", 32, 600);
        return 0;
}
