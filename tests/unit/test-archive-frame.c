/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "pax-format.h"
#include "tarball.h"

static int verify_bytes(int fd, const void *data, size_t size, Error *error) {
        ArchiveCounts counts;

        tarball_write_file(fd, data, size);
        return tarball_verify(fd, &counts, error);
}

/* Where the zeros begin that end the tar. */
static size_t end_of_entries(const GByteArray *tar) {
        size_t end = tar->len;

        while (tar->data[end - 1] == 0)
                end--;
        return (end + PAX_BLOCK_SIZE - 1) / PAX_BLOCK_SIZE * PAX_BLOCK_SIZE;
}

static void test_backup_cut_at_any_byte_is_corrupt(void **state) {
        int fd = tarball_make_whole();
        g_autoptr(GByteArray) tar = tarball_read_file(fd);
        size_t end = end_of_entries(tar) + 1024;

        assert_true(end <= tar->len);

        for (size_t size = 0; size <= tar->len; size++) {
                g_auto(Error) error = {};
                int r = verify_bytes(fd, tar->data, size, &error);

                if (r != (size < end ? ERROR_BACKUP_CORRUPT : 0))
                        fail_msg("cut at %zu: %i, %s", size, r, error_message(&error));
                if (r != 0 && size >= 512 && !strstr(error_message(&error), "cut off"))
                        fail_msg("cut at %zu: %s", size, error_message(&error));
        }
        close(fd);
}

static void test_backup_with_any_byte_changed_is_corrupt(void **state) {
        static const uint8_t bits[] = { 0x01, 0x20, 0x80, 0xff };
        int fd = tarball_make_whole();
        g_autoptr(GByteArray) tar = tarball_read_file(fd);

        for (size_t at = 0; at < tar->len; at++) {
                g_auto(Error) error = {};
                uint8_t flip = bits[at % G_N_ELEMENTS(bits)];
                int r;

                tar->data[at] ^= flip;
                r = verify_bytes(fd, tar->data, tar->len, &error);
                if (r != ERROR_BACKUP_CORRUPT)
                        fail_msg("changed at %zu: %i, %s", at, r, error_message(&error));
                tar->data[at] ^= flip;
        }

        tarball_write_file(fd, tar->data, tar->len);
        tarball_assert_good(fd, 2, 1);
}

/* The first entries of a backup, byte by byte, for what comes next to be wrong. */
static GByteArray *start_raw(void) {
        static const char manifest[] = "{\"format\":1,\"licenses\":0,\"restricted\":0}";
        GByteArray *tar = g_byte_array_new();

        tarball_add(tar, '0', ARCHIVE_README, "", "abc", 3);
        tarball_add(tar, '0', ARCHIVE_MANIFEST, "", manifest, strlen(manifest));
        tarball_add(tar, '0', ARCHIVE_STATE, "", "", 0);
        return tar;
}

static void assert_raw_corrupt(const GByteArray *tar, const char *where, const char *what) {
        int fd = tarball_new_file();

        tarball_write_file(fd, tar->data, tar->len);
        tarball_assert_refused(fd, ERROR_BACKUP_CORRUPT, where, what);
}

/* What the following tests build on is right up to there. */
static void test_raw_entries_alone_are_only_cut_off(void **state) {
        g_autoptr(GByteArray) tar = start_raw();

        assert_raw_corrupt(tar, ARCHIVE_STATE, "cut off");
        tarball_add_zeros(tar, 1024);
        assert_raw_corrupt(tar, ARCHIVE_STATE, "END.json is missing");
}

static void test_entries_that_are_no_plain_files_are_refused(void **state) {
        /* links, devices, folders, FIFOs, global headers, GNU's sparse files, long names, volumes, Sun's */
        static const char types[] = "1234567gSLKMNVDXA";

        for (size_t i = 0; i < sizeof types; i++) { /* with the NUL, an old plain file */
                g_autoptr(GByteArray) tar = start_raw();

                tarball_add(tar, types[i], "licenses/1-a.lic", "", "", 0);
                tarball_add_zeros(tar, 1024);
                assert_raw_corrupt(tar, ARCHIVE_STATE, "kind");
        }
}

static void test_headers_that_are_not_ours_are_refused(void **state) {
        static const struct {
                size_t at;
                const char *bytes;
                size_t size;
                const char *what;
        } cases[] = {
                { 157, "README.txt", 10, "header" },                       /* linkname */
                { 345, "/etc", 4, "header" },                              /* prefix */
                { 257, "ustar  \0", 8, "another kind of tar" },            /* GNU */
                { 257, "\0\0\0\0\0\0\0\0", 8, "another kind of tar" },     /* V7 */
                { 124, "\x80\0\0\0\0\0\0\0\0\0\0\1", 12, "header" },    /* base-256 */
                { 124, "          1\0", 12, "header" },
                { 124, "000000000001", 12, "header" },
                { 124, "0000000000a\0", 12, "header" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autoptr(GByteArray) tar = start_raw();
                size_t header = tar->len;

                tarball_add(tar, '0', "licenses/1-a.lic", "", "x", 1);
                tarball_add_zeros(tar, 1024);
                memcpy(tar->data + header + cases[i].at, cases[i].bytes, cases[i].size);
                assert_raw_corrupt(tar, ARCHIVE_STATE, "checksum");
                tarball_seal(tar, header);
                assert_raw_corrupt(tar, ARCHIVE_STATE, cases[i].what);
        }
}

static void test_checksum_written_another_way_is_refused(void **state) {
        g_autoptr(GByteArray) tar = start_raw();

        tar->data[154] = ' ';
        assert_raw_corrupt(tar, "at its start", "checksum");
}

static void test_foreign_files_are_no_backup(void **state) {
        g_autofree char *text = g_strnfill(2048, 'a');
        int fd = tarball_new_file();

        tarball_assert_refused(fd, ERROR_BACKUP_CORRUPT, "not a backup", "");
        fd = tarball_new_file();
        tarball_write_file(fd, text, 2048);
        tarball_assert_refused(fd, ERROR_BACKUP_CORRUPT, "not a backup", "");
        fd = tarball_new_file();
        tarball_write_file(fd, "\x1f\x8b\x08", 3);
        tarball_assert_refused(fd, ERROR_BACKUP_CORRUPT, "not a backup", "");
        fd = tarball_new_file();
        assert_int_equal(ftruncate(fd, 10240), 0);
        tarball_assert_refused(fd, ERROR_BACKUP_CORRUPT, "not a backup", "END.json");
}

static void test_records_that_no_backup_has_are_refused(void **state) {
        static const char *const records[] = {
                "comment=hello\n",
                "GNU.sparse.major=1\n",
                "hdrcharset=BINARY\n",
                "linkpath=/etc/passwd\n",
                "size=0000007\n",
                "LIBARCHIVE.xattr.user.licensevault.id=YQ\n",
                "SCHILY.xattr.=a\n",
                "SCHILY.acl.access=\n",
                "Path=licenses/1-a.lic\n",
        };

        for (size_t i = 0; i < G_N_ELEMENTS(records); i++) {
                g_autoptr(GByteArray) tar = start_raw();

                tarball_add_record(tar, records[i]);
                tarball_add(tar, '0', "licenses/1-a.lic", "", "x", 1);
                tarball_add_zeros(tar, 1024);
                assert_raw_corrupt(tar, ARCHIVE_STATE, "record that no backup has");
        }
}

static void assert_records_corrupt(const char *records, size_t size, const char *what) {
        g_autoptr(GByteArray) tar = start_raw();

        tarball_add(tar, 'x', "PaxHeaders/x", "", records, size);
        tarball_add(tar, '0', "licenses/1-a.lic", "", "x", 1);
        tarball_add_zeros(tar, 1024);
        assert_raw_corrupt(tar, ARCHIVE_STATE, what);
}

static void test_records_twice_or_out_of_order_are_refused(void **state) {
        static const char *const records[] = {
                "10 path=a\n10 path=b\n",
                "10 path=a\n10 path=a\n",
                "39 SCHILY.xattr.user.licensevault.id=a\n39 SCHILY.xattr.user.licensevault.id=b\n",
                "39 SCHILY.xattr.user.licensevault.id=a\n38 SCHILY.xattr.user.licensevault.i=b\n",
                "10 path=a\n39 SCHILY.xattr.user.licensevault.id=b\n",
        };

        for (size_t i = 0; i < G_N_ELEMENTS(records); i++)
                assert_records_corrupt(records[i], strlen(records[i]), "twice");
}

static void test_malformed_records_are_refused(void **state) {
        static const char *const records[] = { "path=a\n", "11 path=a\n", "8 path=a\n", "011 path=a\n",
                "10path=a\n\n", "-1 path=a\n", "99999999999999999999 path=a\n", "10 path_a\n", "3 \n", "2\n",
                "1",
                "0 path=a\n",                "10 path=ab", "10 path=a\n\n", "10 path=a\n1", " 10 path=a\n",
                "+10 path=a\n", "5 =a\n" };

        for (size_t i = 0; i < G_N_ELEMENTS(records); i++)
                assert_records_corrupt(records[i], strlen(records[i]), "the next extended header");
        assert_records_corrupt("10 path=a\n\0", 11, "not well-formed");
}

static void test_paths_in_records_that_are_none_are_refused(void **state) {
        g_autofree char *longer = g_strnfill(PAX_PATH_MAX + 1, 'p');
        g_autofree char *record = g_strdup_printf("%u path=%s\n", 4 + 1 + 5 + PAX_PATH_MAX + 1 + 1, longer);

        assert_records_corrupt("9 path=\n", 8, "");
        assert_records_corrupt("8 path=\n", 8, "path is not valid");
        assert_records_corrupt("12 path=a\0b\n", 12, "path is not valid");
        assert_records_corrupt(record, strlen(record), "path is not valid");
        /* libarchive warns of this one, which is as good as an error. */
        assert_records_corrupt("28 path=licenses/1-a\xff\xff\xff.lic\n", 28, "can't be converted");
}

static void test_extended_header_of_impossible_size_is_refused(void **state) {
        g_autofree char *large = g_strnfill(PAX_RECORDS_MAX + 1, ' ');

        assert_records_corrupt("", 0, "too large");
        assert_records_corrupt(large, PAX_RECORDS_MAX + 1, "too large");
}

static void test_extended_header_without_a_file_is_refused(void **state) {
        g_autoptr(GByteArray) tar = start_raw();
        static const char record[] = "10 path=a\n";

        tarball_add(tar, 'x', "PaxHeaders/x", "", record, strlen(record));
        tarball_add(tar, 'x', "PaxHeaders/x", "", record, strlen(record));
        assert_raw_corrupt(tar, "'a'", "kind");

        g_byte_array_set_size(tar, tar->len - 1024);
        tarball_add_zeros(tar, 1024);
        assert_raw_corrupt(tar, "'a'", "checksum");
}

static void test_attributes_above_32_kib_or_128_are_refused(void **state) {
        g_autoptr(GString) many = g_string_new(NULL);
        g_autofree char *value = g_strnfill(PAX_ATTRIBUTES_SIZE_MAX - 18, 'v');
        g_autofree char *large = g_strdup_printf("%zu SCHILY.xattr.user.licensevault.a=%s\n",
                strlen(value) + 40, value);

        assert_int_equal(strlen(large), strlen(value) + 40);
        for (unsigned i = 0; i <= PAX_ATTRIBUTES_MAX; i++)
                g_string_append_printf(many, "39 SCHILY.xattr.user.licensevault.%03u=\n", i);

        for (unsigned i = 0; i < 2; i++) {
                g_autoptr(GByteArray) tar = start_raw();
                const char *text = i == 0 ? large : many->str;

                tarball_add(tar, 'x', "PaxHeaders/x", "", text, strlen(text));
                tarball_add(tar, '0', "licenses/1-a.lic", "", "x", 1);
                tarball_add_zeros(tar, 1024);
                assert_raw_corrupt(tar, "licenses/1-a.lic", "too many attributes");
        }
}

static void test_bytes_between_entries_are_refused(void **state) {
        g_autoptr(GByteArray) tar = start_raw();

        tar->data[512 + 3] = 1; /* behind the three bytes of README.txt */
        assert_raw_corrupt(tar, ARCHIVE_README, "between");
}

static void test_bytes_after_the_end_are_refused(void **state) {
        int fd = tarball_make_whole();
        g_autoptr(GByteArray) tar = tarball_read_file(fd);
        guint size = tar->len;

        g_byte_array_append(tar, (const guint8 *)"x", 1);
        tarball_write_file(fd, tar->data, tar->len);
        tarball_assert_refused(fd, ERROR_BACKUP_CORRUPT, ARCHIVE_END, "after its end");

        /* A second backup behind the first, as cat makes it. */
        g_autofree uint8_t *copy = g_memdup2(tar->data, size);
        g_byte_array_set_size(tar, size);
        g_byte_array_append(tar, copy, size);
        fd = tarball_new_file();
        tarball_write_file(fd, tar->data, tar->len);
        tarball_assert_refused(fd, ERROR_BACKUP_CORRUPT, ARCHIVE_END, "after its end");
}

static void test_entries_after_end_json_are_refused(void **state) {
        static const char *const paths[] = { ARCHIVE_END, ARCHIVE_README, ARCHIVE_NOT_BACKED_UP,
                "licenses/9-z.lic" };

        for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
                int fd = tarball_make_whole();
                g_autoptr(GByteArray) tar = tarball_read_file(fd);

                g_byte_array_set_size(tar, (guint)end_of_entries(tar));
                tarball_add(tar, '0', paths[i], "", "{}", 2);
                tarball_add_zeros(tar, 1024);
                tarball_write_file(fd, tar->data, tar->len);
                tarball_assert_refused(fd, ERROR_BACKUP_CORRUPT, paths[i], "twice, or in the wrong place");
        }
}

static void test_zeros_after_the_end_are_good_up_to_16_mib(void **state) {
        int fd = tarball_make_whole();

        assert_int_equal(ftruncate(fd, 16 << 20), 0);
        tarball_assert_good(dup(fd), 2, 1);
        assert_int_equal(ftruncate(fd, 17 << 20), 0);
        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        tarball_assert_refused(fd, ERROR_BACKUP_CORRUPT, ARCHIVE_END, "after its end");
}

static void test_single_block_of_zeros_is_no_end(void **state) {
        int fd = tarball_make_whole();
        g_autoptr(GByteArray) tar = tarball_read_file(fd);

        tarball_write_file(fd, tar->data, end_of_entries(tar) + 512);
        tarball_assert_refused(fd, ERROR_BACKUP_CORRUPT, ARCHIVE_END, "cut off");
}

static void test_random_bytes_do_no_harm(void **state) {
        g_autoptr(GRand) rand = g_rand_new_with_seed(1);
        int fd = tarball_make_whole();
        g_autoptr(GByteArray) tar = tarball_read_file(fd);

        for (unsigned i = 0; i < 2000; i++) {
                g_autofree uint8_t *copy = g_memdup2(tar->data, tar->len);
                size_t header = 512 * (size_t)g_rand_int_range(rand, 0, (gint32)(tar->len / 512));
                g_auto(Error) error = {};

                /* With a right checksum, so that they get past it where they hit a header. */
                for (unsigned k = 0; k <= i % 3; k++)
                        copy[header + g_rand_int(rand) % 512] ^= (uint8_t)g_rand_int_range(rand, 1, 256);
                PaxHeader *sealed = (PaxHeader *)(copy + header);
                pax_header_checksum(sealed, sealed->checksum);

                int r = verify_bytes(fd, copy, tar->len, &error);
                assert_true(r == 0 || r == ERROR_BACKUP_CORRUPT || r == ERROR_LIMIT_EXCEEDED);
        }
        close(fd);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_backup_cut_at_any_byte_is_corrupt),
                cmocka_unit_test(test_backup_with_any_byte_changed_is_corrupt),
                cmocka_unit_test(test_raw_entries_alone_are_only_cut_off),
                cmocka_unit_test(test_entries_that_are_no_plain_files_are_refused),
                cmocka_unit_test(test_headers_that_are_not_ours_are_refused),
                cmocka_unit_test(test_checksum_written_another_way_is_refused),
                cmocka_unit_test(test_foreign_files_are_no_backup),
                cmocka_unit_test(test_records_that_no_backup_has_are_refused),
                cmocka_unit_test(test_records_twice_or_out_of_order_are_refused),
                cmocka_unit_test(test_malformed_records_are_refused),
                cmocka_unit_test(test_paths_in_records_that_are_none_are_refused),
                cmocka_unit_test(test_extended_header_of_impossible_size_is_refused),
                cmocka_unit_test(test_extended_header_without_a_file_is_refused),
                cmocka_unit_test(test_attributes_above_32_kib_or_128_are_refused),
                cmocka_unit_test(test_bytes_between_entries_are_refused),
                cmocka_unit_test(test_bytes_after_the_end_are_refused),
                cmocka_unit_test(test_entries_after_end_json_are_refused),
                cmocka_unit_test(test_zeros_after_the_end_are_good_up_to_16_mib),
                cmocka_unit_test(test_single_block_of_zeros_is_no_end),
                cmocka_unit_test(test_random_bytes_do_no_harm),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
