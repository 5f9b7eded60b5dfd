/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "archive-frame.h"
#include "archive.h"
#include "fuzz.h"
#include "tar-model.h"

/*
 * The archive's reader. An input is HEAD bytes of decisions, then a backup. It must say the same of bytes from a
 * file and from a pipe that gives them in small pieces; and what it takes for whole, our writer could have written:
 * the same entries, written by pax.c, are read as the same again.
 */

#define HEAD 2U
#define DOCUMENT_MAX 4096U
#define PIPE_SLOTS 240U

int LLVMFuzzerInitialize(int *argc, char ***argv) {
        fuzz_prepare();
        return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
        if (size <= HEAD || seed % 32 == 0)
                return LLVMFuzzerMutate(data, size, max_size);
        return HEAD + tar_mutate(data + HEAD, size - HEAD, max_size - HEAD, seed);
}

/* What was read, as text, and again as an archive. */
typedef struct Reading {
        GString *text;
        PaxWriter *again; /* NULL: not wanted */
        uint64_t licenses;
        uint64_t number;  /* of the last document */
        bool ended;
} Reading;

static void write_again(Reading *reading, const ArchiveEntry *entry, const void *content) {
        PaxAttribute attributes[PAX_ATTRIBUTES_MAX];

        for (unsigned i = 0; i < entry->attributes->len; i += 2)
                attributes[i / 2] = (PaxAttribute) { entry->attributes->pdata[i], entry->attributes->pdata[i + 1] };
        FUZZ_CHECK(pax_writer_add(reading->again, entry->path, content, entry->size, attributes,
                           entry->attributes->len / 2) == 0);
}

static void read_lines(Reading *reading, ArchiveReader *reader, const ArchiveEntry *entry, bool all, Error *error,
        int *r) {
        g_autoptr(GString) lines = g_string_new(NULL);
        const char *line;

        while (all && (*r = archive_reader_line(reader, &line, error)) == 0 && line) {
                FUZZ_CHECK(strlen(line) <= ARCHIVE_LINE_MAX && !strchr(line, '\n'));
                g_string_append_printf(reading->text, "  %s\n", line);
                g_string_append_printf(lines, "%s\n", line);
        }
        /* The last line needs no end. */
        FUZZ_CHECK(*r != 0 || !all || lines->len == entry->size || lines->len == entry->size + 1);
        if (reading->again && *r == 0)
                write_again(reading, entry, lines->str);
}

/* What holds for each entry, as archive.h has it. */
static void check_entry(Reading *reading, const ArchiveEntry *entry) {
        g_auto(GStrv) components = g_strsplit(entry->path, "/", -1);

        for (char **p = components; *p; p++)
                FUZZ_CHECK(**p && **p != '.');
        FUZZ_CHECK(strlen(entry->path) <= PAX_PATH_MAX && g_utf8_validate(entry->path, -1, NULL));
        FUZZ_CHECK(!reading->ended && entry->attributes->len % 2 == 0);
        for (unsigned i = 0; i < entry->attributes->len; i += 2) {
                const char *name = entry->attributes->pdata[i], *value = entry->attributes->pdata[i + 1];

                FUZZ_CHECK(g_str_has_prefix(name, ARCHIVE_ATTRIBUTE_PREFIX));
                FUZZ_CHECK(g_utf8_validate(value, -1, NULL));
                FUZZ_CHECK(i == 0 || strcmp(entry->attributes->pdata[i - 2], name) < 0);
                g_string_append_printf(reading->text, " %s=%s\n", name, value);
        }
        /* Nothing but documents has more than a digest. */
        FUZZ_CHECK(g_str_has_prefix(entry->path, ARCHIVE_LICENSES) || entry->attributes->len == 0 ||
                (entry->attributes->len == 2 && archive_entry_attribute(entry, ARCHIVE_ATTRIBUTE_DIGEST)));
        if (g_str_has_prefix(entry->path, ARCHIVE_LICENSES)) {
                const char *slash = strrchr(entry->path, '/');
                uint64_t number = strtoull(slash + 1, NULL, 10);
                uint8_t digest[LICENSE_DIGEST_SIZE];
                char hex[LICENSE_DIGEST_SIZE * 2 + 1];

                FUZZ_CHECK(number > reading->number && entry->size <= DOCUMENT_MAX);
                reading->number = number;
                reading->licenses++;
                crypto_generichash(digest, sizeof digest, entry->content, entry->size, NULL, 0);
                license_digest_to_hex(digest, hex);
                FUZZ_CHECK(archive_entry_attribute(entry, ARCHIVE_ATTRIBUTE_ID));
                FUZZ_CHECK(g_strcmp0(archive_entry_attribute(entry, ARCHIVE_ATTRIBUTE_DIGEST), hex) == 0);
        }
        reading->ended = strcmp(entry->path, ARCHIVE_END) == 0;
}

static void note_content(Reading *reading, const ArchiveEntry *entry) {
        uint8_t digest[LICENSE_DIGEST_SIZE];
        char hex[LICENSE_DIGEST_SIZE * 2 + 1];

        crypto_generichash(digest, sizeof digest, entry->content, entry->size, NULL, 0);
        license_digest_to_hex(digest, hex);
        g_string_append_printf(reading->text, "  %s\n", hex);
        if (reading->again)
                write_again(reading, entry, entry->content);
}

static int read_all(Reading *reading, int fd, unsigned decisions, ArchiveCounts *ret, Error *error) {
        g_autoptr(ArchiveReader) reader = NULL;
        const ArchiveEntry *entry;
        int r;

        r = archive_reader_new(fd, DOCUMENT_MAX, 10000, NULL, &reader, error);
        while (r == 0 && (r = archive_reader_next(reader, &entry, error)) == 0 && entry) {
                g_string_append_printf(reading->text, "%s %" PRIu64 "\n", entry->path, entry->size);
                check_entry(reading, entry);
                if (entry->content)
                        note_content(reading, entry);
                else
                        read_lines(reading, reader, entry, (decisions & 1) == 0, error, &r);
        }
        /* The guard before libarchive looks ahead as far as the bytes have come: who speaks first differs. */
        g_string_append_printf(reading->text, "%s\n", error_name((ErrorCode)r));
        if (r == 0)
                archive_reader_counts(reader, ret);
        return r;
}

static char *read_text(int fd, unsigned decisions, PaxWriter *again, ArchiveCounts *ret, int *ret_r) {
        Reading reading = { .text = g_string_new(NULL), .again = again };
        g_auto(Error) error = {};

        *ret_r = read_all(&reading, fd, decisions, ret, &error);
        FUZZ_CHECK((int)error.code == *ret_r);
        if (*ret_r == 0)
                FUZZ_CHECK(reading.ended && ret->licenses == reading.licenses);
        else {
                FUZZ_CHECK(*ret_r == ERROR_BACKUP_CORRUPT || *ret_r == ERROR_LIMIT_EXCEEDED);
                check_message(&error);
        }
        return g_string_free(reading.text, false);
}

static int make_file(const uint8_t *data, size_t size) {
        int fd = memfd_create("input", MFD_CLOEXEC);

        FUZZ_CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size && lseek(fd, 0, SEEK_SET) == 0);
        return fd;
}

/* A pipe that gives each piece by itself, and is full of them. */
static int make_pipe(const uint8_t *data, size_t size, size_t piece) {
        int fds[2];

        FUZZ_CHECK(pipe2(fds, O_CLOEXEC | O_DIRECT) == 0);
        FUZZ_CHECK(fcntl(fds[1], F_SETPIPE_SZ, 1024 * 1024) >= 0);
        piece = MIN(MAX(piece, size / PIPE_SLOTS + 1), 4096);
        for (size_t at = 0; at < size; at += MIN(piece, size - at))
                FUZZ_CHECK(write(fds[1], data + at, MIN(piece, size - at)) == (ssize_t)MIN(piece, size - at));
        close(fds[1]);
        return fds[0];
}

/* The guard by itself, in memory of its own size, so that not a byte beyond its end is touched. */
static size_t feed_frame(const uint8_t *data, size_t size, size_t piece, int *ret_r) {
        ArchiveFrame *frame = g_malloc(sizeof *frame);
        g_auto(Error) error = {};
        size_t good = 0, n = 0;

        archive_frame_init(frame);
        for (size_t at = 0; at < size && good == at; at += n) {
                n = MIN(piece, size - at);
                good += archive_frame_feed(frame, data + at, n, &error);
        }
        FUZZ_CHECK(good <= size && (good == size) == (error.code == ERROR_NONE));
        *ret_r = error.code ? (int)error.code : archive_frame_finish(frame, &error);
        FUZZ_CHECK(*ret_r == 0 || *ret_r == ERROR_BACKUP_CORRUPT);
        if (*ret_r != 0)
                check_message(&error);
        g_free(frame);
        return good;
}

static void check_frame(const uint8_t *data, size_t size, size_t piece, int reader_r) {
        int r = 0, r_pieces = 0;

        (void)feed_frame(data, size, SIZE_MAX, &r);
        (void)feed_frame(data, size, piece, &r_pieces);
        FUZZ_CHECK(r == r_pieces);
        /* The reader takes nothing that its guard refuses. */
        FUZZ_CHECK(r == 0 || reader_r != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        g_autofree char *text = NULL, *piped = NULL, *again = NULL;
        ArchiveCounts counts = {}, counts_piped = {}, counts_again = {};
        PaxWriter *writer = NULL;
        int fd, copy, r, r_again;

        if (size < HEAD || size > 512 * 1024)
                return -1;
        fd = make_file(data + HEAD, size - HEAD);
        text = read_text(fd, data[0], NULL, &counts, &r);
        close(fd);

        fd = make_pipe(data + HEAD, size - HEAD, (size_t)data[1] * 16 + 1);
        piped = read_text(fd, data[0], NULL, &counts_piped, &r_again);
        close(fd);
        if (r != r_again || strcmp(text, piped) != 0)
                FUZZ_FAIL("A file and a pipe of it differ:\n%s\nand\n%s", text, piped);
        check_frame(data + HEAD, size - HEAD, (size_t)data[1] * 16 + 1, r);
        /* Lines that nobody asked for were not looked at. */
        if (r != 0 || data[0] & 1)
                return 0;
        tar_remember(data + HEAD, size - HEAD);
        FUZZ_CHECK(counts.bytes == size - HEAD && memcmp(&counts, &counts_piped, sizeof counts) == 0);

        /* Whole: so our writer can write it, and it reads as the same. */
        g_clear_pointer(&text, g_free);
        fd = make_file(data + HEAD, size - HEAD);
        copy = make_file(NULL, 0);
        FUZZ_CHECK(pax_writer_new(copy, 1700000000, &writer) == 0);
        text = read_text(fd, 0, writer, &counts, &r);
        FUZZ_CHECK(r == 0 && pax_writer_finish(writer) == 0);
        pax_writer_free(writer);
        FUZZ_CHECK(lseek(copy, 0, SEEK_SET) == 0);
        again = read_text(copy, 0, NULL, &counts_again, &r_again);
        if (r_again != 0 || strcmp(text, again) != 0 || counts.licenses != counts_again.licenses)
                FUZZ_FAIL("It is whole, and our writer writes it as another:\n%s\nand\n%s", text, again);
        close(fd);
        close(copy);
        return 0;
}
