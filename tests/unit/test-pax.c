/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "pax-format.h"
#include "tarball.h"

#define MTIME 1700000000

typedef struct Fixture {
        int fd;
        PaxWriter *writer;
} Fixture;

static int setup(void **state) {
        Fixture *fixture = g_new0(Fixture, 1);

        fixture->fd = tarball_new_file();
        assert_int_equal(pax_writer_new(fixture->fd, MTIME, &fixture->writer), 0);
        *state = fixture;
        return 0;
}

static int teardown(void **state) {
        Fixture *fixture = *state;

        pax_writer_free(fixture->writer);
        close(fixture->fd);
        g_free(fixture);
        return 0;
}

static GByteArray *finish(Fixture *fixture) {
        GByteArray *tar;

        assert_int_equal(pax_writer_finish(fixture->writer), 0);
        tar = tarball_read_file(fixture->fd);
        assert_int_equal(tar->len, pax_writer_size(fixture->writer));
        return tar;
}

static const PaxHeader *header_at(const GByteArray *tar, size_t at) {
        assert_true(at + sizeof(PaxHeader) <= tar->len);
        return (const PaxHeader *)(tar->data + at);
}

static void assert_digest(const PaxWriter *writer, const char *lines) {
        uint8_t expected[crypto_generichash_BYTES], digest[crypto_generichash_BYTES];

        crypto_generichash(expected, sizeof expected, (const uint8_t *)lines, strlen(lines), NULL, 0);
        pax_writer_digest(writer, digest);
        assert_memory_equal(digest, expected, sizeof digest);
}

/* printf abc | b2sum -l 256 */
#define ABC_HEX "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319"

static void test_empty_archive_is_one_record_of_zeros(void **state) {
        g_autoptr(GByteArray) tar = finish(*state);

        assert_int_equal(tar->len, PAX_RECORD_SIZE);
        for (unsigned i = 0; i < tar->len; i++)
                assert_int_equal(tar->data[i], 0);
}

static void test_plain_entry_is_a_ustar_header_and_its_content(void **state) {
        Fixture *fixture = *state;
        g_autoptr(GByteArray) tar = NULL;
        const PaxHeader *header;

        assert_int_equal(pax_writer_add(fixture->writer, "README.txt", "abc", 3, NULL, 0), 0);
        tar = finish(fixture);
        header = header_at(tar, 0);

        assert_string_equal(header->name, "README.txt");
        assert_string_equal(header->mode, "0000600");
        assert_string_equal(header->size, "00000000003");
        assert_string_equal(header->mtime, "14524770400");
        assert_memory_equal(header->magic, "ustar\00000", 8);
        assert_int_equal(header->type, '0');
        assert_memory_equal(tar->data + 512, "abc\0", 4);
        assert_int_equal(tar->len, PAX_RECORD_SIZE);
}

static void test_checksum_is_the_sum_with_spaces_in_its_place(void **state) {
        Fixture *fixture = *state;
        g_autoptr(GByteArray) tar = NULL;
        unsigned sum = 0, written;

        assert_int_equal(pax_writer_add(fixture->writer, "a", "", 0, NULL, 0), 0);
        tar = finish(fixture);
        for (unsigned i = 0; i < 512; i++)
                sum += i >= 148 && i < 156 ? ' ' : tar->data[i];

        assert_int_equal(sscanf((const char *)tar->data + 148, "%6o", &written), 1);
        assert_int_equal(written, sum);
        assert_memory_equal(tar->data + 154, "\0 ", 2);
}

static void test_path_of_100_bytes_needs_no_record_and_101_does(void **state) {
        Fixture *fixture = *state;
        g_autoptr(GByteArray) tar = NULL;
        char path[102] = "";

        memset(path, 'p', 101);
        assert_int_equal(pax_writer_add(fixture->writer, path, "", 0, NULL, 0), 0);
        path[100] = '\0';
        assert_int_equal(pax_writer_add(fixture->writer, path, "", 0, NULL, 0), 0);
        tar = finish(fixture);

        assert_int_equal(header_at(tar, 0)->type, 'x');
        assert_memory_equal(tar->data + 512, "111 path=ppp", 12);
        assert_int_equal(header_at(tar, 1024)->type, '0');
        assert_memory_equal(header_at(tar, 1024)->name, path, 100);
        assert_int_equal(header_at(tar, 1536)->type, '0');
        assert_memory_equal(header_at(tar, 1536)->name, path, 100);
}

static void test_path_that_is_not_plain_ascii_is_a_record(void **state) {
        Fixture *fixture = *state;
        g_autoptr(GByteArray) tar = NULL;

        assert_int_equal(pax_writer_add(fixture->writer, "licenses/Jörg/1-a.lic", "", 0, NULL, 0), 0);
        assert_int_equal(pax_writer_add(fixture->writer, "a\nb", "", 0, NULL, 0), 0);
        tar = finish(fixture);

        assert_int_equal(header_at(tar, 0)->type, 'x');
        assert_string_equal(tar->data + 512, "31 path=licenses/Jörg/1-a.lic\n");
        assert_string_equal(header_at(tar, 1024)->name, "licenses/J__rg/1-a.lic");
        assert_string_equal(tar->data + 2048, "12 path=a\nb\n");
        assert_string_equal(header_at(tar, 2560)->name, "a_b");
}

/* The length counts its own digits: 99 is followed by 101, 999 by 1001. */
static void test_record_length_is_right_where_it_grows_by_a_digit(void **state) {
        size_t step;

        for (size_t value_size = 1; value_size < 11000; value_size += step) {
                /* All around the powers of ten, some between them. */
                step = value_size > 1100 && value_size < 9900 ? 97 : 1;

                Fixture fixture = { .fd = tarball_new_file() };
                g_autofree char *value = g_strnfill(value_size, 'v');
                g_autoptr(GByteArray) tar = NULL;
                size_t length, rest = strlen(" SCHILY.xattr.user.licensevault.a=\n") + value_size;
                const char *record;
                int digits = 0;

                assert_int_equal(pax_writer_new(fixture.fd, MTIME, &fixture.writer), 0);
                assert_int_equal(pax_writer_add(fixture.writer, "a", "", 0,
                        &(PaxAttribute) { "user.licensevault.a", value }, 1), 0);
                tar = finish(&fixture);

                record = (const char *)tar->data + 512;
                assert_int_equal(sscanf(record, "%zu%n", &length, &digits), 1);
                assert_int_equal(length, rest + (size_t)digits);
                assert_int_equal(record[length - 1], '\n');
                if (length % PAX_BLOCK_SIZE != 0)
                        assert_int_equal(record[length], '\0');

                g_autofree char *size = g_strdup_printf("%011zo", length);
                assert_string_equal(header_at(tar, 0)->size, size);

                pax_writer_free(fixture.writer);
                close(fixture.fd);
        }
}

static void test_lines_of_any_length_are_digested(void **state) {
        Fixture *fixture = *state;
        const size_t gathered = sizeof ((PaxDigest *)NULL)->lines;
        const size_t sizes[] = { 1, gathered - 100, gathered - 2, gathered - 1, gathered, gathered + 1, 3 * gathered, 7 };
        g_autoptr(GString) lines = g_string_new(NULL);

        for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
                g_autofree char *value = g_strnfill(sizes[i], (char)('a' + i));
                const PaxAttribute attribute = { "user.n", value };

                assert_int_equal(pax_writer_add(fixture->writer, "a", "abc", 3, &attribute, 1), 0);
                g_string_append_printf(lines, "a\n3\n" ABC_HEX "\nuser.n=%s\n", value);
                assert_digest(fixture->writer, lines->str);
        }
}

static void test_attributes_are_written_and_digested_by_name(void **state) {
        Fixture *fixture = *state;
        g_autoptr(GByteArray) tar = NULL;
        const PaxAttribute attributes[] = {
                { "user.licensevault.title", "T" },
                { "user.licensevault.counter.print", "3" },
                { "user.licensevault.id", "I" },
        };

        assert_int_equal(pax_writer_add(fixture->writer, "a", "abc", 3, attributes,
                G_N_ELEMENTS(attributes)), 0);
        assert_digest(fixture->writer, "a\n3\n" ABC_HEX "\nuser.licensevault.counter.print=3\n"
                "user.licensevault.id=I\nuser.licensevault.title=T\n");
        tar = finish(fixture);
        assert_string_equal(tar->data + 512, "50 SCHILY.xattr.user.licensevault.counter.print=3\n"
                "39 SCHILY.xattr.user.licensevault.id=I\n42 SCHILY.xattr.user.licensevault.title=T\n");
}

static void test_attribute_with_line_breaks_and_equals_signs_keeps_them(void **state) {
        Fixture *fixture = *state;
        g_autoptr(GByteArray) tar = NULL;

        assert_int_equal(pax_writer_add(fixture->writer, "a", "", 0,
                &(PaxAttribute) { "user.licensevault.title", "a=b\nc\n" }, 1), 0);
        tar = finish(fixture);
        assert_string_equal(tar->data + 512, "47 SCHILY.xattr.user.licensevault.title=a=b\nc\n\n");
}

static void test_digest_goes_over_entries_in_order(void **state) {
        Fixture *fixture = *state;

        assert_digest(fixture->writer, "");
        assert_int_equal(pax_writer_add(fixture->writer, "b", "abc", 3, NULL, 0), 0);
        assert_int_equal(pax_writer_begin(fixture->writer, "a"), 0);
        assert_int_equal(pax_writer_append(fixture->writer, "a", 1), 0);
        assert_int_equal(pax_writer_append(fixture->writer, "bc", 2), 0);
        assert_int_equal(pax_writer_end(fixture->writer), 0);
        assert_digest(fixture->writer, "b\n3\n" ABC_HEX "\na\n3\n" ABC_HEX "\n");
}

static void test_attribute_given_twice_is_refused(void **state) {
        Fixture *fixture = *state;
        const PaxAttribute attributes[] = { { "user.licensevault.id", "a" },
                { "user.licensevault.id", "b" } };

        assert_int_equal(pax_writer_add(fixture->writer, "a", "", 0, attributes, 2), -EINVAL);
}

static void test_attributes_above_32_kib_are_refused(void **state) {
        Fixture *fixture = *state;
        static const char name[] = "user.licensevault.a";
        g_autofree char *value = g_strnfill(PAX_ATTRIBUTES_SIZE_MAX - strlen(name) + 1, 'v');

        assert_int_equal(pax_writer_add(fixture->writer, "a", "", 0, &(PaxAttribute) { name, value }, 1),
                -E2BIG);
        value[strlen(value) - 1] = '\0';
        assert_int_equal(pax_writer_add(fixture->writer, "a", "", 0, &(PaxAttribute) { name, value }, 1), 0);
}

static void test_more_attributes_than_128_are_refused(void **state) {
        Fixture *fixture = *state;
        PaxAttribute attributes[PAX_ATTRIBUTES_MAX + 1];
        char names[PAX_ATTRIBUTES_MAX + 1][32];

        for (unsigned i = 0; i <= PAX_ATTRIBUTES_MAX; i++) {
                snprintf(names[i], sizeof names[i], "user.licensevault.%u", i);
                attributes[i] = (PaxAttribute) { names[i], "" };
        }
        assert_int_equal(pax_writer_add(fixture->writer, "a", "", 0, attributes, PAX_ATTRIBUTES_MAX + 1),
                -E2BIG);
        assert_int_equal(pax_writer_add(fixture->writer, "a", "", 0, attributes, PAX_ATTRIBUTES_MAX), 0);
}

/* The most of everything fits into the buffer for records. */
static void test_entry_with_all_limits_reached_is_written(void **state) {
        Fixture *fixture = *state;
        PaxAttribute attributes[PAX_ATTRIBUTES_MAX];
        char names[PAX_ATTRIBUTES_MAX][32];
        char path[PAX_PATH_MAX + 1];
        char value[PAX_ATTRIBUTES_SIZE_MAX / PAX_ATTRIBUTES_MAX - 20];

        memset(path, 'p', PAX_PATH_MAX);
        path[PAX_PATH_MAX] = '\0';
        memset(value, 'v', sizeof value);
        value[sizeof value - 1] = '\0';
        for (unsigned i = 0; i < PAX_ATTRIBUTES_MAX; i++) {
                snprintf(names[i], sizeof names[i], "user.licensevault.%03u", i);
                attributes[i] = (PaxAttribute) { names[i], value };
        }
        assert_int_equal(pax_writer_add(fixture->writer, path, "", 0, attributes, PAX_ATTRIBUTES_MAX), 0);
}

static void test_empty_and_overlong_paths_are_refused(void **state) {
        Fixture *fixture = *state;
        g_autofree char *path = g_strnfill(PAX_PATH_MAX + 1, 'p');

        assert_int_equal(pax_writer_add(fixture->writer, path, "", 0, NULL, 0), -ENAMETOOLONG);
        assert_int_equal(pax_writer_add(fixture->writer, "", "", 0, NULL, 0), -EINVAL);
}

/* Around the buffer's size, so that the header is patched in memory, and in the file. */
static void test_streamed_entry_gets_its_size_wherever_its_header_is(void **state) {
        static const size_t sizes[] = { 0, 1, 511, 512, 513, PROVED_BLOCK_SIZE - 1024,
                PROVED_BLOCK_SIZE - 1023, PROVED_BLOCK_SIZE - 512, PROVED_BLOCK_SIZE, 3 * PROVED_BLOCK_SIZE + 7 };

        for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
                Fixture fixture = { .fd = tarball_new_file() };
                g_autofree char *content = g_malloc(sizes[i] + 1);
                g_autoptr(GByteArray) tar = NULL;

                for (size_t k = 0; k < sizes[i]; k++)
                        content[k] = (char)('a' + k % 26);

                assert_int_equal(pax_writer_new(fixture.fd, MTIME, &fixture.writer), 0);
                assert_int_equal(pax_writer_add(fixture.writer, "first", "", 0, NULL, 0), 0);
                assert_int_equal(pax_writer_begin(fixture.writer, "state.jsonl"), 0);
                for (size_t at = 0; at < sizes[i]; at += 1000)
                        assert_int_equal(pax_writer_append(fixture.writer, content + at,
                                MIN(1000, sizes[i] - at)), 0);
                assert_int_equal(pax_writer_end(fixture.writer), 0);
                assert_int_equal(pax_writer_add(fixture.writer, "last", "abc", 3, NULL, 0), 0);
                tar = finish(&fixture);

                g_autofree char *size = g_strdup_printf("%011zo", sizes[i]);
                const PaxHeader *header = header_at(tar, 512);
                char checksum[8];
                assert_string_equal(header->size, size);
                pax_header_checksum(header, checksum);
                assert_memory_equal(header->checksum, checksum, sizeof checksum);
                assert_memory_equal(tar->data + 1024, content, sizes[i]);
                assert_string_equal(header_at(tar, 1024 + (sizes[i] + 511) / 512 * 512)->name, "last");

                pax_writer_free(fixture.writer);
                close(fixture.fd);
        }
}

/* A streamed entry of several blocks, documents over the ends of blocks. */
static GByteArray *write_either(ProvedFile *file, int fd) {
        PaxWriter *writer;
        g_autofree char *content = g_strnfill(700 * 1024, 'c');

        if (file)
                assert_int_equal(pax_writer_new_proved(file, MTIME, &writer), 0);
        else
                assert_int_equal(pax_writer_new(fd, MTIME, &writer), 0);
        assert_int_equal(pax_writer_add(writer, "first", "abc", 3, NULL, 0), 0);
        assert_int_equal(pax_writer_begin(writer, "state.jsonl"), 0);
        for (unsigned i = 0; i < 7; i++)
                assert_int_equal(pax_writer_append(writer, content, 100 * 1024), 0);
        assert_int_equal(pax_writer_end(writer), 0);
        for (unsigned i = 0; i < 700; i++) {
                const PaxAttribute attribute = { "user.licensevault.id", "i" };
                size_t size = i * 1000;
                uint8_t digest[crypto_generichash_BYTES];

                crypto_generichash(digest, sizeof digest, (const uint8_t *)content, size, NULL, 0);
                assert_int_equal(file && i % 7 > 0 ?
                        pax_writer_add_known(writer, "a", content, size, digest, &attribute, 1) :
                        pax_writer_add(writer, "a", content, size, &attribute, 1), 0);
                i += i > 40 ? 50 : 0;
        }
        assert_int_equal(pax_writer_finish(writer), 0);
        if (file) {
                assert_int_equal(proved_file_end(file), 0);
                assert_int_equal(proved_file_finish(file, NULL, NULL), 0);
        }
        pax_writer_free(writer);
        return tarball_read_file(fd);
}

static void test_proved_file_holds_the_same(void **state) {
        int fd = tarball_new_file(), proved_fd = tarball_new_file();
        g_autoptr(ProvedFile) file = NULL;
        g_autoptr(GByteArray) tar = NULL, proved = NULL;

        assert_int_equal(proved_file_new(proved_fd, NULL, &file), 0);
        tar = write_either(NULL, fd);
        proved = write_either(file, proved_fd);
        assert_int_equal(tar->len, proved->len);
        assert_memory_equal(tar->data, proved->data, tar->len);
        close(fd);
        close(proved_fd);
}

static void test_archive_starts_where_the_file_stands(void **state) {
        Fixture fixture = { .fd = tarball_new_file() };
        g_autofree char *content = g_strnfill(512 * 1024, 'c');
        g_autoptr(GByteArray) file = NULL;

        assert_int_equal(write(fixture.fd, "before", 6), 6);
        assert_int_equal(pax_writer_new(fixture.fd, MTIME, &fixture.writer), 0);
        assert_int_equal(pax_writer_begin(fixture.writer, "a"), 0);
        assert_int_equal(pax_writer_append(fixture.writer, content, 512 * 1024), 0);
        assert_int_equal(pax_writer_end(fixture.writer), 0);
        assert_int_equal(pax_writer_finish(fixture.writer), 0);

        file = tarball_read_file(fixture.fd);
        assert_memory_equal(file->data, "before", 6);
        assert_memory_equal(file->data + 6, "a\0", 2);
        assert_string_equal(file->data + 6 + 124, "00002000000");

        pax_writer_free(fixture.writer);
        close(fixture.fd);
}

static void test_time_that_a_header_cannot_hold_is_the_nearest_it_can(void **state) {
        static const struct {
                int64_t mtime;
                const char *octal;
        } cases[] = { { -1, "00000000000" }, { INT64_MAX, "77777777777" }, { 8, "00000000010" } };

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                Fixture fixture = { .fd = tarball_new_file() };
                g_autoptr(GByteArray) tar = NULL;

                assert_int_equal(pax_writer_new(fixture.fd, cases[i].mtime, &fixture.writer), 0);
                assert_int_equal(pax_writer_add(fixture.writer, "a", "", 0, NULL, 0), 0);
                tar = finish(&fixture);
                assert_string_equal(header_at(tar, 0)->mtime, cases[i].octal);

                pax_writer_free(fixture.writer);
                close(fixture.fd);
        }
}

static void test_content_of_8_gib_is_refused(void **state) {
        Fixture *fixture = *state;

        /* Refused before a byte of it is looked at. */
        assert_int_equal(pax_writer_add(fixture->writer, "a", "", PAX_CONTENT_MAX + 1, NULL, 0), -EFBIG);

        assert_int_equal(pax_writer_begin(fixture->writer, "a"), 0);
        assert_int_equal(pax_writer_append(fixture->writer, "a", 1), 0);
        assert_int_equal(pax_writer_append(fixture->writer, "a", PAX_CONTENT_MAX), -EFBIG);
}

static void test_full_disk_is_an_error_of_the_call_that_meets_it(void **state) {
        PaxWriter *writer;
        int fd = open("/dev/full", O_RDWR | O_CLOEXEC);
        g_autofree char *content = g_strnfill(PROVED_BLOCK_SIZE + 1, 'c');

        assert_true(fd >= 0);

        assert_int_equal(pax_writer_new(fd, MTIME, &writer), 0);
        assert_int_equal(pax_writer_add(writer, "a", content, PROVED_BLOCK_SIZE + 1, NULL, 0), -ENOSPC);
        pax_writer_free(writer);

        assert_int_equal(pax_writer_new(fd, MTIME, &writer), 0);
        assert_int_equal(pax_writer_begin(writer, "a"), 0);
        assert_int_equal(pax_writer_append(writer, content, PROVED_BLOCK_SIZE + 1), -ENOSPC);
        pax_writer_free(writer);

        /* What is small meets the disk at the end only. */
        assert_int_equal(pax_writer_new(fd, MTIME, &writer), 0);
        assert_int_equal(pax_writer_add(writer, "a", "abc", 3, NULL, 0), 0);
        assert_int_equal(pax_writer_finish(writer), -ENOSPC);
        pax_writer_free(writer);

        close(fd);
}

static void test_pipe_is_refused_for_it_cannot_seek(void **state) {
        PaxWriter *writer;
        int fds[2];

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_int_equal(pax_writer_new(fds[1], MTIME, &writer), -ESPIPE);
        close(fds[0]);
        close(fds[1]);
}

/* Through the reader, whose ideas of the format are not ours: libarchive parses it. */
static void test_what_was_written_is_what_the_reader_gives(void **state) {
        const PaxAttribute attributes[] = {
                { ARCHIVE_ATTRIBUTE_DIGEST, ABC_HEX },
                { ARCHIVE_ATTRIBUTE_ID, "urn:ид=1\n2" },
                { ARCHIVE_ATTRIBUTE_PREFIX "title", "" },
                {},
        };
        g_autofree char *long_name = g_strdup_printf("licenses/Jörg/2-%0150d.lcpl", 7);
        const TarballPart parts[] = {
                TARBALL_README, TARBALL_MANIFEST(2, 0), TARBALL_STATE,
                { "licenses/Jörg/1-a.bin", "abc", attributes },
                { long_name, "another" },
        };
        g_autoptr(ArchiveReader) reader = NULL;
        g_auto(Error) error = {};
        const ArchiveEntry *entry;
        int fd = tarball_make_file(parts, G_N_ELEMENTS(parts), TARBALL_JSON_END(2, 0));

        assert_int_equal(archive_reader_new(fd, 1024, -1, NULL, &reader, &error), 0);
        for (size_t i = 0; i < G_N_ELEMENTS(parts); i++) {
                assert_int_equal(archive_reader_next(reader, &entry, &error), 0);
                assert_non_null(entry);
                assert_string_equal(entry->path, parts[i].path);
                assert_int_equal(entry->size, strlen(parts[i].content));
                if (parts[i].streamed)
                        assert_null(entry->content);
                else
                        assert_memory_equal(entry->content, parts[i].content, entry->size);
                if (parts[i].attributes) {
                        assert_int_equal(entry->attributes->len, 6);
                        for (size_t k = 0; k < 3; k++) {
                                assert_string_equal(entry->attributes->pdata[2 * k], attributes[k].name);
                                assert_string_equal(entry->attributes->pdata[2 * k + 1],
                                        attributes[k].value);
                        }
                }
        }

        assert_int_equal(archive_reader_next(reader, &entry, &error), 0);
        assert_string_equal(entry->path, ARCHIVE_END);
        assert_int_equal(archive_reader_next(reader, &entry, &error), 0);
        assert_null(entry);
        close(fd);
}

#define WITH_WRITER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                WITH_WRITER(test_empty_archive_is_one_record_of_zeros),
                WITH_WRITER(test_plain_entry_is_a_ustar_header_and_its_content),
                WITH_WRITER(test_checksum_is_the_sum_with_spaces_in_its_place),
                WITH_WRITER(test_path_of_100_bytes_needs_no_record_and_101_does),
                WITH_WRITER(test_path_that_is_not_plain_ascii_is_a_record),
                cmocka_unit_test(test_record_length_is_right_where_it_grows_by_a_digit),
                WITH_WRITER(test_lines_of_any_length_are_digested),
                WITH_WRITER(test_attributes_are_written_and_digested_by_name),
                WITH_WRITER(test_attribute_with_line_breaks_and_equals_signs_keeps_them),
                WITH_WRITER(test_digest_goes_over_entries_in_order),
                WITH_WRITER(test_attribute_given_twice_is_refused),
                WITH_WRITER(test_attributes_above_32_kib_are_refused),
                WITH_WRITER(test_more_attributes_than_128_are_refused),
                WITH_WRITER(test_entry_with_all_limits_reached_is_written),
                WITH_WRITER(test_empty_and_overlong_paths_are_refused),
                cmocka_unit_test(test_streamed_entry_gets_its_size_wherever_its_header_is),
                cmocka_unit_test(test_proved_file_holds_the_same),
                cmocka_unit_test(test_archive_starts_where_the_file_stands),
                cmocka_unit_test(test_time_that_a_header_cannot_hold_is_the_nearest_it_can),
                WITH_WRITER(test_content_of_8_gib_is_refused),
                cmocka_unit_test(test_full_disk_is_an_error_of_the_call_that_meets_it),
                cmocka_unit_test(test_pipe_is_refused_for_it_cannot_seek),
                cmocka_unit_test(test_what_was_written_is_what_the_reader_gives),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
