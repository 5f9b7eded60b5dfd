/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tarball.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "pax-format.h"

const TarballPart tarball_whole[TARBALL_N_WHOLE] = {
        TARBALL_README, TARBALL_MANIFEST(2, 1), TARBALL_STATE, TARBALL_DOCUMENT_1, TARBALL_DOCUMENT_2,
        TARBALL_LEFT_OUT,
};

int tarball_new_file(void) {
        int fd = memfd_create("backup", MFD_CLOEXEC);

        assert_true(fd >= 0);
        return fd;
}

static void add_part(PaxWriter *writer, const TarballPart *part) {
        const char *content = part->content ?: "";
        char hex[LICENSE_DIGEST_SIZE * 2 + 1];
        uint8_t digest[LICENSE_DIGEST_SIZE];
        PaxAttribute usual[] = { { ARCHIVE_ATTRIBUTE_ID, part->path }, { ARCHIVE_ATTRIBUTE_DIGEST, hex } };
        const PaxAttribute *attributes = part->attributes;
        size_t n = 0;

        crypto_generichash(digest, sizeof digest, (const uint8_t *)content, strlen(content), NULL, 0);
        license_digest_to_hex(digest, hex);

        if (attributes)
                while (attributes[n].name)
                        n++;
        else if (g_str_has_prefix(part->path, ARCHIVE_LICENSES)) {
                attributes = usual;
                n = G_N_ELEMENTS(usual);
        }

        if (part->streamed) {
                assert_int_equal(pax_writer_begin(writer, part->path), 0);
                assert_int_equal(pax_writer_append(writer, content, strlen(content)), 0);
                assert_int_equal(pax_writer_end(writer), 0);
        } else
                assert_int_equal(pax_writer_add(writer, part->path, content, strlen(content), attributes, n),
                        0);
}

int tarball_make_file(const TarballPart *parts, size_t n_parts, const char *end) {
        g_autoptr(PaxWriter) writer = NULL;
        int fd = tarball_new_file();

        assert_int_equal(pax_writer_new(fd, 1700000000, &writer), 0);
        for (size_t i = 0; i < n_parts; i++)
                add_part(writer, &parts[i]);

        if (end) {
                uint8_t digest[LICENSE_DIGEST_SIZE];
                char hex[LICENSE_DIGEST_SIZE * 2 + 1];
                const char *place = strstr(end, "%s");
                g_autoptr(GString) text = g_string_new(end);

                pax_writer_digest(writer, digest);
                license_digest_to_hex(digest, hex);
                if (place) {
                        g_string_truncate(text, (size_t)(place - end));
                        g_string_append(text, hex);
                        g_string_append(text, place + 2);
                }
                assert_int_equal(pax_writer_add(writer, ARCHIVE_END, text->str, text->len, NULL, 0), 0);
        }

        assert_int_equal(pax_writer_finish(writer), 0);
        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        return fd;
}

int tarball_make_whole(void) {
        return tarball_make_file(tarball_whole, TARBALL_N_WHOLE, TARBALL_WHOLE_END);
}

GByteArray *tarball_read_file(int fd) {
        off_t size = lseek(fd, 0, SEEK_END);
        GByteArray *tar = g_byte_array_new();

        g_byte_array_set_size(tar, (guint)size);
        assert_int_equal(pread(fd, tar->data, (size_t)size, 0), size);
        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        return tar;
}

void tarball_write_file(int fd, const void *data, size_t size) {
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, data, size, 0), size);
        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
}

void tarball_add_zeros(GByteArray *tar, size_t size) {
        guint before = tar->len;

        g_byte_array_set_size(tar, before + (guint)size);
        memset(tar->data + before, 0, size);
}

void tarball_seal(GByteArray *tar, size_t at) {
        PaxHeader *header = (PaxHeader *)(tar->data + at);

        pax_header_checksum(header, header->checksum);
}

void tarball_add(GByteArray *tar, char type, const char *name, const char *linkname, const void *content,
        size_t size) {
        PaxHeader header = { .type = type, .mode = "0000600", .uid = "0000000", .gid = "0000000",
                .mtime = "14524741000" };
        char number[12];

        memcpy(header.name, name, MIN(strlen(name), sizeof header.name));
        memcpy(header.linkname, linkname, strlen(linkname));
        memcpy(header.magic, PAX_MAGIC, 8);
        snprintf(number, sizeof number, "%011zo", size);
        memcpy(header.size, number, sizeof number);
        pax_header_checksum(&header, header.checksum);

        g_byte_array_append(tar, (const guint8 *)&header, sizeof header);
        g_byte_array_append(tar, content, (guint)size);
        tarball_add_zeros(tar, (size_t)pax_padding(size));
}

void tarball_add_record(GByteArray *tar, const char *record) {
        size_t length = strlen(record) + 3; /* two digits and a space */
        g_autofree char *text = g_strdup_printf("%zu %s", length, record);

        assert_int_equal(strlen(text), length);
        tarball_add(tar, PAX_TYPE_EXTENDED, "PaxHeaders/x", "", text, length);
}

int tarball_prove(int fd, uint64_t document_max, int stall_msec, const Cancel *cancel,
        void (*progress)(uint64_t licenses, void *userdata), void *userdata, ArchiveCounts *ret, Error *error) {
        g_autoptr(ArchiveReader) reader = NULL;
        const ArchiveEntry *entry = NULL;
        ArchiveCounts counts;
        int r;

        r = archive_reader_new(fd, document_max, stall_msec, cancel, &reader, error);
        if (r != 0)
                return r;

        do {
                r = archive_reader_next(reader, &entry, error);
                if (r != 0)
                        return r;
                archive_reader_counts(reader, &counts);
                if (progress && entry && g_str_has_prefix(entry->path, ARCHIVE_LICENSES))
                        progress(counts.licenses, userdata);
        } while (entry);

        *ret = counts;
        return 0;
}

int tarball_verify(int fd, ArchiveCounts *ret, Error *error) {
        return tarball_prove(fd, TARBALL_DOCUMENT_MAX, 5000, NULL, NULL, NULL, ret, error);
}

void tarball_assert_good(int fd, uint64_t licenses, uint64_t restricted) {
        g_auto(Error) error = {};
        ArchiveCounts counts;
        off_t size = lseek(fd, 0, SEEK_END);

        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        if (tarball_verify(fd, &counts, &error) != 0)
                fail_msg("refused: %s", error_message(&error));
        assert_int_equal(counts.licenses, licenses);
        assert_int_equal(counts.restricted, restricted);
        assert_int_equal(counts.bytes, size);
        close(fd);
}

void tarball_assert_refused(int fd, ErrorCode code, const char *where, const char *what) {
        g_auto(Error) error = {};
        ArchiveCounts counts;

        assert_int_equal(tarball_verify(fd, &counts, &error), code);
        assert_int_equal(error.code, code);
        if (!strstr(error_message(&error), where) || !strstr(error_message(&error), what))
                fail_msg("'%s' and '%s' are not in: %s", where, what, error_message(&error));
        close(fd);
}
