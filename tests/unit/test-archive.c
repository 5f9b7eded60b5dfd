/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <linux/net_tstamp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "pax-format.h"
#include "tarball.h"

static void assert_parts_corrupt(const TarballPart *parts, size_t n_parts, const char *end,
        const char *where, const char *what) {
        tarball_assert_refused(tarball_make_file(parts, n_parts, end), ERROR_BACKUP_CORRUPT, where, what);
}

#define assert_corrupt(end, where, what, ...) do { \
                const TarballPart parts_[] = { __VA_ARGS__ }; \
                assert_parts_corrupt(parts_, G_N_ELEMENTS(parts_), end, where, what); \
        } while (0)

/* Documents in place of the usual ones, with the counts right. */
#define assert_document_corrupt(where, what, ...) \
        assert_corrupt(TARBALL_JSON_END(1, 0), where, what, \
                TARBALL_README, TARBALL_MANIFEST(1, 0), TARBALL_STATE, __VA_ARGS__)

static void test_whole_backup_is_proved(void **state) {
        tarball_assert_good(tarball_make_whole(), 2, 1);
}

static void test_backup_without_licenses_is_proved(void **state) {
        const TarballPart parts[] = { TARBALL_README, TARBALL_MANIFEST(0, 0), { ARCHIVE_STATE, "" } };

        tarball_assert_good(tarball_make_file(parts, G_N_ELEMENTS(parts), TARBALL_JSON_END(0, 0)), 0, 0);
}

static void test_backup_of_all_users_is_proved(void **state) {
        const TarballPart parts[] = {
                TARBALL_README, TARBALL_MANIFEST(3, 0), TARBALL_STATE,
                { "licenses/zoe/1-a.lcpl", "" }, { "licenses/Jörg/2-a.lcpl", "" },
                { "licenses/zoe/10-a.lcpl", "" },
        };

        tarball_assert_good(tarball_make_file(parts, G_N_ELEMENTS(parts), TARBALL_JSON_END(3, 0)), 3, 0);
}

static void note_progress(uint64_t licenses, void *userdata) {
        GString *seen = userdata;

        g_string_append_printf(seen, "%" G_GUINT64_FORMAT " ", licenses);
}

static void test_progress_counts_documents(void **state) {
        g_autoptr(GString) seen = g_string_new(NULL);
        g_auto(Error) error = {};
        ArchiveCounts counts;
        int fd = tarball_make_whole();

        assert_int_equal(tarball_prove(fd, TARBALL_DOCUMENT_MAX, -1, NULL, note_progress, seen, &counts,
                &error), 0);
        assert_string_equal(seen->str, "1 2 ");
        close(fd);
}

/* Each part left out, with the digest and the counts right for the rest. */
static void test_missing_required_entry_is_named(void **state) {
        assert_corrupt(TARBALL_WHOLE_END, ARCHIVE_MANIFEST, "'README.txt' must come before",
                TARBALL_MANIFEST(2, 1), TARBALL_STATE, TARBALL_DOCUMENT_1, TARBALL_DOCUMENT_2,
                TARBALL_LEFT_OUT);
        assert_corrupt(TARBALL_WHOLE_END, ARCHIVE_STATE, "'manifest.json' must come before",
                TARBALL_README, TARBALL_STATE, TARBALL_DOCUMENT_1, TARBALL_DOCUMENT_2, TARBALL_LEFT_OUT);
        assert_corrupt(TARBALL_WHOLE_END, "licenses/0000001-a.lcpl", "'state.jsonl' must come before",
                TARBALL_README, TARBALL_MANIFEST(2, 1), TARBALL_DOCUMENT_1, TARBALL_DOCUMENT_2,
                TARBALL_LEFT_OUT);
        assert_corrupt(NULL, ARCHIVE_NOT_BACKED_UP, "END.json is missing",
                TARBALL_README, TARBALL_MANIFEST(2, 1), TARBALL_STATE, TARBALL_DOCUMENT_1,
                TARBALL_DOCUMENT_2, TARBALL_LEFT_OUT);
}

static void test_missing_document_is_noticed(void **state) {
        assert_corrupt(TARBALL_WHOLE_END, ARCHIVE_END, "counts",
                TARBALL_README, TARBALL_MANIFEST(2, 1), TARBALL_STATE, TARBALL_DOCUMENT_2, TARBALL_LEFT_OUT);
        assert_corrupt(TARBALL_JSON_END(1, 1), ARCHIVE_END, "counts",
                TARBALL_README, TARBALL_MANIFEST(2, 1), TARBALL_STATE, TARBALL_DOCUMENT_2, TARBALL_LEFT_OUT);
}

static void test_doubled_entries_are_refused(void **state) {
        for (size_t i = 0; i < TARBALL_N_WHOLE; i++) {
                TarballPart parts[TARBALL_N_WHOLE + 1];

                memcpy(parts, tarball_whole, (i + 1) * sizeof *tarball_whole);
                memcpy(parts + i + 1, tarball_whole + i, (TARBALL_N_WHOLE - i) * sizeof *tarball_whole);
                assert_parts_corrupt(parts, G_N_ELEMENTS(parts), TARBALL_WHOLE_END, tarball_whole[i].path,
                        "twice");
        }
}

static void test_swapped_entries_are_refused(void **state) {
        for (size_t i = 0; i + 1 < TARBALL_N_WHOLE; i++) {
                TarballPart parts[TARBALL_N_WHOLE];
                g_auto(Error) error = {};
                ArchiveCounts counts;
                int fd;

                memcpy(parts, tarball_whole, sizeof parts);
                parts[i] = tarball_whole[i + 1];
                parts[i + 1] = tarball_whole[i];
                fd = tarball_make_file(parts, G_N_ELEMENTS(parts), TARBALL_WHOLE_END);
                assert_int_equal(tarball_verify(fd, &counts, &error), ERROR_BACKUP_CORRUPT);
                assert_non_null(strstr(error_message(&error), parts[i].path) ?:
                        strstr(error_message(&error), parts[i + 1].path));
                close(fd);
        }
}

static void test_end_with_another_digest_is_refused(void **state) {
        assert_corrupt("{\"format\":1,\"licenses\":1,\"restricted\":0,\"blake2b\":\""
                       "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319\"}",
                ARCHIVE_END, "digest",
                TARBALL_README, TARBALL_MANIFEST(1, 0), TARBALL_STATE, TARBALL_DOCUMENT_1);
}

static void test_end_that_says_too_little_or_too_much_is_refused(void **state) {
        static const char *const ends[] = {
                "{}", "[]", "7",
                "{\"format\":1,\"licenses\":1,\"restricted\":0}",
                "{\"format\":2,\"licenses\":1,\"restricted\":0,\"blake2b\":\"%s\"}",
                "{\"format\":1,\"licenses\":1,\"restricted\":0,\"blake2b\":\"%s\",\"more\":1}",
                "{\"format\":1,\"licenses\":\"1\",\"restricted\":0,\"blake2b\":\"%s\"}",
                "{\"format\":1,\"licenses\":1,\"restricted\":-1,\"blake2b\":\"%s\"}",
                "{\"format\":1,\"licenses\":1,\"restricted\":0,\"blake2b\":\"%s0\"}",
                "{\"format\":1,\"licenses\":1,\"licenses\":1,\"restricted\":0,\"blake2b\":\"%s\"}",
                "{\"format\":1,\"licenses\":1,\"restricted\":0,\"blake2b\":\"%s\"", "",
        };
        const TarballPart parts[] = { TARBALL_README, TARBALL_MANIFEST(1, 0), TARBALL_STATE,
                TARBALL_DOCUMENT_1 };

        for (size_t i = 0; i < G_N_ELEMENTS(ends); i++)
                assert_parts_corrupt(parts, G_N_ELEMENTS(parts), ends[i], ARCHIVE_END, "");
        tarball_assert_good(tarball_make_file(parts, G_N_ELEMENTS(parts), TARBALL_JSON_END(1, 0)), 1, 0);
}

static void test_manifest_with_other_counts_is_refused(void **state) {
        assert_corrupt(TARBALL_JSON_END(1, 0), ARCHIVE_END, "counts",
                TARBALL_README, TARBALL_MANIFEST(1, 1), TARBALL_STATE, TARBALL_DOCUMENT_1);
        assert_corrupt(TARBALL_JSON_END(1, 0), ARCHIVE_END, "counts",
                TARBALL_README, TARBALL_MANIFEST(2, 0), TARBALL_STATE, TARBALL_DOCUMENT_1);
}

static void test_manifest_that_says_too_little_is_refused(void **state) {
        static const char *const manifests[] = { "", "{}", "[]", "{\"format\":\"1\"}", "{\"format\":1}",
                "{\"format\":0,\"licenses\":0,\"restricted\":0}",
                "{\"format\":1,\"licenses\":0}", "{\"format\":1,\"licenses\":0,\"restricted\":-1}" };

        for (size_t i = 0; i < G_N_ELEMENTS(manifests); i++)
                assert_corrupt(TARBALL_JSON_END(0, 0), ARCHIVE_MANIFEST, "",
                        TARBALL_README, { ARCHIVE_MANIFEST, manifests[i] }, TARBALL_STATE);
}

static void test_newer_format_is_told_as_such(void **state) {
        const TarballPart parts[] = { TARBALL_README, { ARCHIVE_MANIFEST, "{\"format\":2}" },
                TARBALL_STATE };
        int fd = tarball_make_file(parts, G_N_ELEMENTS(parts), NULL);
        g_autoptr(GByteArray) tar = tarball_read_file(fd);

        tarball_assert_refused(fd, ERROR_BACKUP_CORRUPT, "newer version", "Update Licensevault");

        /* Also where what follows is of a kind that only the newer version knows. */
        fd = tarball_new_file();
        tar->data[2 * 1024 + 156] = 'g';
        tarball_seal(tar, 2 * 1024);
        tarball_write_file(fd, tar->data, tar->len);
        tarball_assert_refused(fd, ERROR_BACKUP_CORRUPT, "newer version", "Update Licensevault");
}

static void test_entry_with_a_foreign_name_is_refused(void **state) {
        static const char *const paths[] = { "other.txt", "licenses", "readme.txt", "./README.txt",
                "README.txt/",
                "/README.txt", "../README.txt", "state.jsonl/x", "licenses\\1-a.lic" };

        for (size_t i = 0; i < G_N_ELEMENTS(paths); i++)
                assert_corrupt(TARBALL_JSON_END(0, 0), paths[i], "no backup has an entry of that name",
                        TARBALL_README, TARBALL_MANIFEST(0, 0), TARBALL_STATE, { paths[i], "x" });
}

static void test_document_with_a_foreign_name_is_refused(void **state) {
        static const char *const paths[] = { "licenses/", "licenses/a", "licenses/1", "licenses/1-a",
                "licenses/1-a.exe",
                "licenses/1-.lic", "licenses/-a.lic", "licenses/a-a.lic", "licenses/1a.lic",
                "licenses/../1-a.lic",
                "licenses/./1-a.lic", "licenses//1-a.lic", "licenses/u/v/1-a.lic", "licenses/u/../1-a.lic",
                "licenses/.u/1-a.lic", "licenses/1-a.lic/", "licenses/1-a/b.lic", "licenses/1-\n.lic",
                "licenses/1-a.LIC", "licenses/12345678901234567890-a.lic", "licenses//etc/passwd" };

        for (size_t i = 0; i < G_N_ELEMENTS(paths); i++)
                assert_document_corrupt("licenses/", "such a path", { paths[i], "x" });
}

static void test_document_numbers_must_rise(void **state) {
        static const char *const later[] = { "licenses/5-b.lic", "licenses/5-a.lic", "licenses/4-b.lic",
                "licenses/0005-a.lic", "licenses/0-a.lic" };

        for (size_t i = 0; i < G_N_ELEMENTS(later); i++)
                assert_document_corrupt(later[i], "twice", { "licenses/5-a.lic", "x" }, { later[i], "x" });
        assert_document_corrupt("licenses/0-a.lic", "twice", { "licenses/0-a.lic", "x" });
        assert_document_corrupt("licenses/v/2-a.lic", "twice", { "licenses/u/3-a.lic", "x" },
                { "licenses/v/2-a.lic", "x" });
}

static void test_documents_with_and_without_users_do_not_mix(void **state) {
        assert_document_corrupt("licenses/u/2-a.lic", "another kind of folder",
                { "licenses/1-a.lic", "x" }, { "licenses/u/2-a.lic", "x" });
        assert_document_corrupt("licenses/2-a.lic", "another kind of folder",
                { "licenses/u/1-a.lic", "x" }, { "licenses/2-a.lic", "x" });
}

static char *hex_of(const char *content) {
        uint8_t digest[LICENSE_DIGEST_SIZE];
        char *hex = g_malloc(LICENSE_DIGEST_SIZE * 2 + 1);

        crypto_generichash(digest, sizeof digest, (const uint8_t *)content, strlen(content), NULL, 0);
        license_digest_to_hex(digest, hex);
        return hex;
}

static void test_document_without_id_or_digest_is_refused(void **state) {
        g_autofree char *hex = hex_of("x");
        const PaxAttribute no_id[] = { { ARCHIVE_ATTRIBUTE_DIGEST, hex }, {} };
        const PaxAttribute no_digest[] = { { ARCHIVE_ATTRIBUTE_ID, "a" }, {} };

        assert_document_corrupt("licenses/1-a.lic", "id is missing", { "licenses/1-a.lic", "x", no_id });
        assert_document_corrupt("licenses/1-a.lic", "digest is missing",
                { "licenses/1-a.lic", "x", no_digest });
}

static void test_document_that_is_not_what_its_digest_says_is_refused(void **state) {
        g_autofree char *hex = hex_of("x"), *upper = g_ascii_strup(hex, -1);
        const PaxAttribute right[] = { { ARCHIVE_ATTRIBUTE_DIGEST, hex }, { ARCHIVE_ATTRIBUTE_ID, "a" },
                {} };
        const PaxAttribute other[] = { { ARCHIVE_ATTRIBUTE_DIGEST, upper }, { ARCHIVE_ATTRIBUTE_ID, "a" },
                {} };
        const PaxAttribute only_digest[] = { { ARCHIVE_ATTRIBUTE_DIGEST, hex }, {} };

        assert_document_corrupt("licenses/1-a.lic", "its digest", { "licenses/1-a.lic", "y", right });
        assert_document_corrupt("licenses/1-a.lic", "its digest", { "licenses/1-a.lic", "x", other });
        assert_corrupt(TARBALL_JSON_END(0, 0), ARCHIVE_STATE, "its digest",
                TARBALL_README, TARBALL_MANIFEST(0, 0), { ARCHIVE_STATE, "y", only_digest });
}

static void test_foreign_attributes_are_refused(void **state) {
        static const char *const names[] = { "user.other", "security.selinux", "user.licensevault.",
                "user.licensevault.A",
                "user.licensevault.a b", "user.licensevault.é" };

        for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
                g_autofree char *hex = hex_of("x");
                const PaxAttribute attributes[] = { { ARCHIVE_ATTRIBUTE_DIGEST, hex },
                        { ARCHIVE_ATTRIBUTE_ID, "a" },
                        { names[i], "v" }, {} };

                assert_document_corrupt("licenses/1-a.lic", "attribute",
                        { "licenses/1-a.lic", "x", attributes });
        }
}

/* Found by fuzzing: those of END.json would be under no digest, and those of the rest mean nothing. */
static void test_attributes_of_what_is_no_document_are_refused(void **state) {
        const PaxAttribute attributes[] = { { ARCHIVE_ATTRIBUTE_PREFIX "owner", "anna" }, {} };

        for (unsigned i = 0; i < TARBALL_N_WHOLE; i++) {
                TarballPart parts[TARBALL_N_WHOLE];

                memcpy(parts, tarball_whole, sizeof parts);
                if (g_str_has_prefix(parts[i].path, ARCHIVE_LICENSES))
                        continue;
                parts[i].attributes = attributes;
                parts[i].streamed = false;
                tarball_assert_refused(tarball_make_file(parts, TARBALL_N_WHOLE, TARBALL_WHOLE_END),
                        ERROR_BACKUP_CORRUPT, parts[i].path, "attribute");
        }
}

static void test_attribute_that_is_not_text_is_refused(void **state) {
        g_autofree char *hex = hex_of("x");
        const PaxAttribute attributes[] = { { ARCHIVE_ATTRIBUTE_DIGEST, hex },
                { ARCHIVE_ATTRIBUTE_ID, "\xff" }, {} };

        assert_document_corrupt("licenses/1-a.lic", "not text", { "licenses/1-a.lic", "x", attributes });
}

static void test_document_above_the_limit_is_a_limit(void **state) {
        g_autofree char *large = g_strnfill(TARBALL_DOCUMENT_MAX + 1, 'x');
        TarballPart parts[] = { TARBALL_README, TARBALL_MANIFEST(1, 0), TARBALL_STATE,
                { "licenses/1-a.lic", large } };

        tarball_assert_refused(tarball_make_file(parts, G_N_ELEMENTS(parts), TARBALL_JSON_END(1, 0)),
                ERROR_LIMIT_EXCEEDED,
                "licenses/1-a.lic", "4096");
        large[TARBALL_DOCUMENT_MAX] = '\0';
        tarball_assert_good(tarball_make_file(parts, G_N_ELEMENTS(parts), TARBALL_JSON_END(1, 0)), 1, 0);
}

static void test_other_entries_have_limits_of_their_own(void **state) {
        g_autofree char *large = g_strnfill(ARCHIVE_CONTENT_MAX + 1, 'x');
        TarballPart parts[] = { { ARCHIVE_README, large }, TARBALL_MANIFEST(0, 0),
                { ARCHIVE_STATE, large } };

        tarball_assert_refused(tarball_make_file(parts, G_N_ELEMENTS(parts), TARBALL_JSON_END(0, 0)),
                ERROR_BACKUP_CORRUPT,
                ARCHIVE_README, "too large");
        large[ARCHIVE_CONTENT_MAX] = '\0';
        tarball_assert_good(tarball_make_file(parts, G_N_ELEMENTS(parts), TARBALL_JSON_END(0, 0)), 0, 0);
}

static void test_lines_of_streamed_entries_are_given_one_by_one(void **state) {
        g_autofree char *longest = g_strnfill(ARCHIVE_LINE_MAX, 'l');
        g_autofree char *text = g_strdup_printf("first\n\n%s\nlast", longest);
        const char *const expected[] = { "first", "", longest, "last" };
        const TarballPart parts[] = { TARBALL_README, TARBALL_MANIFEST(0, 0),
                { ARCHIVE_STATE, text, .streamed = true } };
        int fd = tarball_make_file(parts, G_N_ELEMENTS(parts), TARBALL_JSON_END(0, 0));
        g_autoptr(ArchiveReader) reader = NULL;
        g_auto(Error) error = {};
        const ArchiveEntry *entry;
        const char *line;

        assert_int_equal(archive_reader_new(fd, TARBALL_DOCUMENT_MAX, -1, NULL, &reader, &error), 0);
        assert_int_equal(archive_reader_next(reader, &entry, &error), 0);
        assert_int_equal(archive_reader_line(reader, &line, &error), 0);
        assert_null(line); /* not streamed */
        assert_int_equal(archive_reader_next(reader, &entry, &error), 0);
        assert_int_equal(archive_reader_next(reader, &entry, &error), 0);
        assert_string_equal(entry->path, ARCHIVE_STATE);

        for (size_t i = 0; i < G_N_ELEMENTS(expected); i++) {
                assert_int_equal(archive_reader_line(reader, &line, &error), 0);
                assert_string_equal(line, expected[i]);
        }
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(archive_reader_line(reader, &line, &error), 0);
                assert_null(line);
        }

        assert_int_equal(archive_reader_next(reader, &entry, &error), 0);
        assert_int_equal(archive_reader_next(reader, &entry, &error), 0);
        assert_null(entry);
        close(fd);
}

static void test_lines_left_unread_are_digested_all_the_same(void **state) {
        g_autofree char *longer = g_strnfill(3 * ARCHIVE_LINE_MAX, 'l');
        g_autofree char *text = g_strdup_printf("first\n%s\n", longer);
        const TarballPart parts[] = { TARBALL_README, TARBALL_MANIFEST(0, 0),
                { ARCHIVE_STATE, text, .streamed = true } };
        int fd = tarball_make_file(parts, G_N_ELEMENTS(parts), TARBALL_JSON_END(0, 0));
        g_autoptr(ArchiveReader) reader = NULL;
        g_auto(Error) error = {};
        const ArchiveEntry *entry;
        const char *line;

        assert_int_equal(archive_reader_new(fd, TARBALL_DOCUMENT_MAX, -1, NULL, &reader, &error), 0);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(archive_reader_next(reader, &entry, &error), 0);
        assert_int_equal(archive_reader_line(reader, &line, &error), 0);
        assert_string_equal(line, "first");
        assert_int_equal(archive_reader_next(reader, &entry, &error), 0);
        assert_string_equal(entry->path, ARCHIVE_END);
        assert_int_equal(archive_reader_next(reader, &entry, &error), 0);
        assert_null(entry);
        close(fd);
}

/* The first line of state.jsonl is refused. */
static void assert_line_corrupt(int fd, const char *what) {
        g_autoptr(ArchiveReader) reader = NULL;
        g_auto(Error) error = {};
        const ArchiveEntry *entry;
        const char *line;

        assert_int_equal(archive_reader_new(fd, TARBALL_DOCUMENT_MAX, -1, NULL, &reader, &error), 0);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(archive_reader_next(reader, &entry, &error), 0);
        assert_int_equal(archive_reader_line(reader, &line, &error), ERROR_BACKUP_CORRUPT);
        assert_non_null(strstr(error_message(&error), ARCHIVE_STATE));
        assert_non_null(strstr(error_message(&error), what));
        close(fd);
}

static void test_overlong_line_is_refused(void **state) {
        g_autofree char *line = g_strnfill(ARCHIVE_LINE_MAX + 1, 'l'),
                *text = g_strdup_printf("%s\nx\n", line);
        const TarballPart parts[] = { TARBALL_README, TARBALL_MANIFEST(0, 0),
                { ARCHIVE_STATE, text, .streamed = true } };
        const TarballPart open[] = { TARBALL_README, TARBALL_MANIFEST(0, 0),
                { ARCHIVE_STATE, line, .streamed = true } };

        assert_line_corrupt(tarball_make_file(parts, G_N_ELEMENTS(parts), NULL), "line");
        assert_line_corrupt(tarball_make_file(open, G_N_ELEMENTS(open), NULL), "line");
}

static void test_line_with_a_nul_is_refused(void **state) {
        const TarballPart parts[] = { TARBALL_README, TARBALL_MANIFEST(0, 0), TARBALL_STATE };
        int fd = tarball_make_file(parts, G_N_ELEMENTS(parts), NULL);

        assert_int_equal(pwrite(fd, "", 1, 5 * 512 + 3), 1);
        assert_line_corrupt(fd, "not text");
}

typedef struct Feeder {
        pthread_t thread;
        const GByteArray *tar;
        int fd;
        size_t chunk;
        bool close_early;
} Feeder;

static void *feed(void *userdata) {
        Feeder *feeder = userdata;
        size_t size = feeder->close_early ? feeder->tar->len / 2 : feeder->tar->len;

        for (size_t at = 0; at < size; at += feeder->chunk)
                if (write(feeder->fd, feeder->tar->data + at, MIN(feeder->chunk, size - at)) < 0)
                        break;
        close(feeder->fd);
        return NULL;
}

static void test_backup_is_read_from_pipes_and_sockets_in_any_pieces(void **state) {
        static const size_t chunks[] = { 1, 511, 513, 4096, 1 << 20 };
        int fd = tarball_make_whole();
        g_autoptr(GByteArray) tar = tarball_read_file(fd);

        for (size_t i = 0; i < 4 * G_N_ELEMENTS(chunks); i++) {
                bool is_socket = i % 2 == 1;
                Feeder feeder = { .tar = tar, .chunk = chunks[i / 4], .close_early = i % 4 >= 2 };
                g_auto(Error) error = {};
                ArchiveCounts counts;
                int fds[2], r;

                assert_int_equal(is_socket ? socketpair(AF_UNIX, SOCK_STREAM, 0, fds) : pipe(fds), 0);
                feeder.fd = fds[1];
                assert_int_equal(pthread_create(&feeder.thread, NULL, feed, &feeder), 0);
                r = tarball_verify(fds[0], &counts, &error);
                assert_int_equal(pthread_join(feeder.thread, NULL), 0);
                assert_int_equal(r, feeder.close_early ? ERROR_BACKUP_CORRUPT : 0);
                close(fds[0]);
        }
        close(fd);
}

static void test_pipe_that_gives_nothing_stalls(void **state) {
        g_auto(Error) error = {};
        ArchiveCounts counts;
        int fds[2];

        assert_int_equal(pipe(fds), 0);
        assert_int_equal(write(fds[1], "READ", 4), 4);
        assert_int_equal(tarball_prove(fds[0], TARBALL_DOCUMENT_MAX, 50, NULL, NULL, NULL, &counts, &error),
                ERROR_MEDIUM);
        close(fds[0]);
        close(fds[1]);
}

/* Its error queue makes poll() return at once, for ever, and there is nothing to read. */
static void test_socket_with_an_error_in_it_stalls_like_any_other(void **state) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), here, there;
        int stamps = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;
        int64_t start = g_get_monotonic_time();
        socklen_t size = sizeof address;
        struct pollfd pending = {};
        struct rusage before, after;
        g_auto(Error) error = {};
        ArchiveCounts counts;

        assert_int_equal(bind(server, (struct sockaddr *)&address, size), 0);
        assert_int_equal(listen(server, 1), 0);
        assert_int_equal(getsockname(server, (struct sockaddr *)&address, &size), 0);
        here = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(here, (struct sockaddr *)&address, size), 0);
        there = accept4(server, NULL, NULL, SOCK_CLOEXEC);
        assert_int_equal(setsockopt(here, SOL_SOCKET, SO_TIMESTAMPING, &stamps, sizeof stamps), 0);
        assert_int_equal(write(here, "x", 1), 1);
        pending = (struct pollfd) { .fd = here, .events = POLLIN };
        assert_int_equal(poll(&pending, 1, 5000), 1);
        assert_int_equal(pending.revents, POLLERR);

        assert_int_equal(getrusage(RUSAGE_THREAD, &before), 0);
        assert_int_equal(tarball_prove(here, TARBALL_DOCUMENT_MAX, 300, NULL, NULL, NULL, &counts, &error),
                ERROR_MEDIUM);
        assert_int_equal(getrusage(RUSAGE_THREAD, &after), 0);
        assert_true(g_get_monotonic_time() - start >= 300 * 1000);
        /* It sleeps between its looks: a loop that does not looks tens of thousands of times. */
        assert_true(after.ru_nvcsw - before.ru_nvcsw < 2000);
        assert_true(after.ru_nvcsw - before.ru_nvcsw > 10);
        close(here);
        close(there);
        close(server);
}

static void test_canceled_read_gives_the_reason(void **state) {
        g_autoptr(Cancel) cancel = NULL;
        g_auto(Error) error = {};
        ArchiveCounts counts;
        int fd = tarball_make_whole();

        assert_int_equal(cancel_new(&cancel), 0);
        cancel_trigger(cancel, "The service is stopping.");
        assert_int_equal(tarball_prove(fd, TARBALL_DOCUMENT_MAX, -1, cancel, NULL, NULL, &counts, &error),
                ERROR_CANCELED);
        assert_string_equal(error_message(&error), "The service is stopping.");
        close(fd);
}

static void test_nothing_can_be_freed(void **state) {
        assert_null(archive_reader_free(NULL));
}

static void *cancel_soon(void *userdata) {
        g_usleep(50 * 1000);
        cancel_trigger(userdata, "Enough.");
        return NULL;
}

static void test_cancel_ends_a_wait(void **state) {
        g_autoptr(Cancel) cancel = NULL;
        g_auto(Error) error = {};
        ArchiveCounts counts;
        pthread_t thread;
        int fds[2];

        assert_int_equal(pipe(fds), 0);
        assert_int_equal(cancel_new(&cancel), 0);
        assert_int_equal(pthread_create(&thread, NULL, cancel_soon, cancel), 0);
        assert_int_equal(tarball_prove(fds[0], TARBALL_DOCUMENT_MAX, -1, cancel, NULL, NULL, &counts,
                &error), ERROR_CANCELED);
        assert_int_equal(pthread_join(thread, NULL), 0);
        close(fds[0]);
        close(fds[1]);
}

static void test_descriptor_that_cannot_be_read_is_the_mediums_fault(void **state) {
        static const char *const paths[] = { "/", "/dev/null" };
        static const int flags[] = { O_RDONLY, O_WRONLY };

        for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
                int fd = open(paths[i], flags[i] | O_CLOEXEC);

                assert_true(fd >= 0);
                tarball_assert_refused(fd, ERROR_MEDIUM, "", "Reading the backup failed");
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_nothing_can_be_freed),
                cmocka_unit_test(test_whole_backup_is_proved),
                cmocka_unit_test(test_backup_without_licenses_is_proved),
                cmocka_unit_test(test_backup_of_all_users_is_proved),
                cmocka_unit_test(test_progress_counts_documents),
                cmocka_unit_test(test_missing_required_entry_is_named),
                cmocka_unit_test(test_missing_document_is_noticed),
                cmocka_unit_test(test_doubled_entries_are_refused),
                cmocka_unit_test(test_swapped_entries_are_refused),
                cmocka_unit_test(test_end_with_another_digest_is_refused),
                cmocka_unit_test(test_end_that_says_too_little_or_too_much_is_refused),
                cmocka_unit_test(test_manifest_with_other_counts_is_refused),
                cmocka_unit_test(test_manifest_that_says_too_little_is_refused),
                cmocka_unit_test(test_newer_format_is_told_as_such),
                cmocka_unit_test(test_entry_with_a_foreign_name_is_refused),
                cmocka_unit_test(test_document_with_a_foreign_name_is_refused),
                cmocka_unit_test(test_document_numbers_must_rise),
                cmocka_unit_test(test_documents_with_and_without_users_do_not_mix),
                cmocka_unit_test(test_document_without_id_or_digest_is_refused),
                cmocka_unit_test(test_document_that_is_not_what_its_digest_says_is_refused),
                cmocka_unit_test(test_foreign_attributes_are_refused),
                cmocka_unit_test(test_attributes_of_what_is_no_document_are_refused),
                cmocka_unit_test(test_attribute_that_is_not_text_is_refused),
                cmocka_unit_test(test_document_above_the_limit_is_a_limit),
                cmocka_unit_test(test_other_entries_have_limits_of_their_own),
                cmocka_unit_test(test_lines_of_streamed_entries_are_given_one_by_one),
                cmocka_unit_test(test_lines_left_unread_are_digested_all_the_same),
                cmocka_unit_test(test_overlong_line_is_refused),
                cmocka_unit_test(test_line_with_a_nul_is_refused),
                cmocka_unit_test(test_backup_is_read_from_pipes_and_sockets_in_any_pieces),
                cmocka_unit_test(test_pipe_that_gives_nothing_stalls),
                cmocka_unit_test(test_socket_with_an_error_in_it_stalls_like_any_other),
                cmocka_unit_test(test_canceled_read_gives_the_reason),
                cmocka_unit_test(test_cancel_ends_a_wait),
                cmocka_unit_test(test_descriptor_that_cannot_be_read_is_the_mediums_fault),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
