/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "pax-format.h"
#include "restore-world.h"

/* Backups that are damaged, and files that are none: each is refused in words, and the store stays as it was. */

/* A copy of the backup, to be damaged. */
static int copy_backup(RestoreWorld *world, GByteArray **ret) {
        int fd = tarball_new_file();

        *ret = tarball_read_file(world->backup);
        tarball_write_file(fd, (*ret)->data, (*ret)->len);
        return fd;
}

/* Where the zeros begin that end the tar. */
static size_t end_of_entries(const GByteArray *tar) {
        size_t end = tar->len;

        while (tar->data[end - 1] == 0)
                end--;
        return (end + PAX_BLOCK_SIZE - 1) / PAX_BLOCK_SIZE * PAX_BLOCK_SIZE;
}

/* The paths of a backup, in quotes. */
static GPtrArray *list_paths(int fd) {
        g_autoptr(ArchiveReader) reader = NULL;
        GPtrArray *paths = g_ptr_array_new_with_free_func(g_free);
        g_auto(Error) error = {};
        const ArchiveEntry *entry;

        assert_good(archive_reader_new(fd, UINT64_MAX, -1, NULL, &reader, &error), &error);
        for (;;) {
                assert_good(archive_reader_next(reader, &entry, &error), &error);
                if (!entry)
                        break;
                g_ptr_array_add(paths, g_strdup_printf("'%s'", entry->path));
        }
        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        return paths;
}

static bool names_an_entry_or_the_start(const GPtrArray *paths, const char *message) {
        for (unsigned i = 0; i < paths->len; i++)
                if (strstr(message, paths->pdata[i]))
                        return true;
        return strstr(message, "damaged at its start") || strstr(message, "newer version");
}

/* Restores what is in fd now, with consent: corrupt, and nothing changed. */
static void assert_corrupt_at(RestoreWorld *world, int fd, const GPtrArray *paths, const char *how, size_t at) {
        RestorePlan plan = restore_plan(world, fd);
        g_autofree char *now = NULL;
        g_auto(Error) error = {};
        int r;

        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        plan.individualize = true;
        r = restore(world, plan, NULL, &error);
        if (r != ERROR_BACKUP_CORRUPT || !names_an_entry_or_the_start(paths, error_message(&error)))
                fail_msg("%s at %zu: %i, %s", how, at, r, error_message(&error));
        now = render(world->connection);
        if (!g_str_equal(now, world->before))
                fail_msg("%s at %zu changed the store to:\n%s", how, at, now);
}

static void test_backup_cut_off_at_any_byte_changes_nothing(void **state) {
        RestoreWorld *world = *state;
        g_autoptr(GPtrArray) paths = list_paths(world->backup);
        g_autoptr(GByteArray) tar = NULL;
        _cleanup_fd_ int fd = copy_backup(world, &tar);
        size_t stride = sanitized() ? 13 : 1, end = end_of_entries(tar) + 2 * PAX_BLOCK_SIZE;

        assert_true(end <= tar->len);
        for (size_t size = end; size-- > 0;) {
                if (size % stride != 0 && size != end - 1)
                        continue;
                assert_int_equal(ftruncate(fd, (off_t)size), 0);
                assert_corrupt_at(world, fd, paths, "cut off", size);
        }

        /* All that is missing here is zeros that fill the last record: nothing is lost. */
        assert_restores(world);
}

static void test_backup_with_any_byte_changed_changes_nothing(void **state) {
        RestoreWorld *world = *state;
        g_autoptr(GPtrArray) paths = list_paths(world->backup);
        g_autoptr(GByteArray) tar = NULL;
        _cleanup_fd_ int fd = copy_backup(world, &tar);
        size_t stride = sanitized() ? 13 : 1;

        for (size_t at = 0; at < tar->len; at += stride) {
                uint8_t byte = tar->data[at] ^ (uint8_t)(1 << (at * 5 + at / 8) % 8);

                assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
                assert_corrupt_at(world, fd, paths, "changed", at);
                assert_int_equal(pwrite(fd, &tar->data[at], 1, (off_t)at), 1);
        }
        assert_restores(world);
}

/* Without consent, the manifest is believed as far as it says whose the backup is; no further. */
static void test_changed_manifest_asks_for_consent_or_is_corrupt(void **state) {
        RestoreWorld *world = *state;
        g_autoptr(GByteArray) tar = NULL;
        _cleanup_fd_ int fd = copy_backup(world, &tar);
        uint8_t *manifest = memmem(tar->data, tar->len, "{\n  \"format\"", 12);
        unsigned n_asked = 0;
        size_t at, end;

        assert_non_null(manifest);
        at = (size_t)(manifest - tar->data);
        end = at + strlen((char *)manifest);
        for (; at < end; at++) {
                uint8_t byte = tar->data[at] ^ 1;
                g_auto(Error) error = {};
                int r;

                assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
                assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
                r = restore(world, restore_plan(world, fd), NULL, &error);
                if (r != ERROR_BACKUP_CORRUPT && r != ERROR_NEEDS_INDIVIDUALIZATION)
                        fail_msg("changed at %zu: %i, %s", at, r, error_message(&error));
                n_asked += r == ERROR_NEEDS_INDIVIDUALIZATION;
                assert_unchanged(world);
                assert_int_equal(pwrite(fd, &tar->data[at], 1, (off_t)at), 1);
        }
        /* Machine, name and uid: at most so many characters. */
        assert_in_range(n_asked, 8, strlen("machine") + strlen("alice") + strlen("1000"));
}

static void test_missing_entries_are_refused(void **state) {
        static const char *const where[N_PARTS] = {
                [PART_README] = ARCHIVE_MANIFEST, [PART_MANIFEST] = ARCHIVE_STATE,
                [PART_STATE] = "licenses/0000001-a.lic", [PART_A] = ARCHIVE_END, [PART_B] = ARCHIVE_END,
        };
        RestoreWorld *world = *state;

        for (unsigned i = 0; i < N_PARTS; i++) {
                Part parts[N_PARTS - 1];

                memcpy(parts, whole_parts, i * sizeof *parts);
                memcpy(parts + i, whole_parts + i + 1, (N_PARTS - 1 - i) * sizeof *parts);
                assert_refused(world, make_archive(parts, N_PARTS - 1, 0), ERROR_BACKUP_CORRUPT, where[i], "");
        }
        assert_refused(world, make_archive(whole_parts, N_PARTS, -1), ERROR_BACKUP_CORRUPT, "0000002-b.lic",
                "END.json is missing");
        assert_restores(world);
}

static void test_doubled_entries_are_refused(void **state) {
        RestoreWorld *world = *state;

        for (unsigned i = 0; i < N_PARTS; i++) {
                Part parts[N_PARTS + 1];

                memcpy(parts, whole_parts, (i + 1) * sizeof *parts);
                memcpy(parts + i + 1, whole_parts + i, (N_PARTS - i) * sizeof *parts);
                assert_refused(world, make_archive(parts, N_PARTS + 1, 0), ERROR_BACKUP_CORRUPT, whole_parts[i].path,
                        "twice");
        }
}

static void test_swapped_entries_are_refused(void **state) {
        RestoreWorld *world = *state;

        for (unsigned i = 0; i < N_PARTS; i++)
                for (unsigned k = i + 1; k < N_PARTS; k++) {
                        Part parts[N_PARTS];

                        memcpy(parts, whole_parts, sizeof parts);
                        parts[i] = whole_parts[k];
                        parts[k] = whole_parts[i];
                        assert_refused(world, make_archive(parts, N_PARTS, 0), ERROR_BACKUP_CORRUPT, "'", "");
                }
}

/* The content of one under the name of the other, in both ways. */
static void test_swapped_contents_are_refused(void **state) {
        RestoreWorld *world = *state;
        Part parts[N_PARTS];

        memcpy(parts, whole_parts, sizeof parts);
        parts[PART_A].path = whole_parts[PART_B].path;
        parts[PART_B].path = whole_parts[PART_A].path;
        assert_refused(world, make_archive(parts, N_PARTS, 0), ERROR_BACKUP_CORRUPT, "licenses/0000001-a.lic",
                "twice");

        memcpy(parts, whole_parts, sizeof parts);
        parts[PART_A].attributes = whole_parts[PART_B].attributes;
        parts[PART_B].attributes = whole_parts[PART_A].attributes;
        parts[PART_STATE].content = "{\"id\":\"a\",\"generation\":1,\"counters\":{}}\n"
                                    "{\"id\":\"b\",\"generation\":2,\"counters\":{}}\n";
        assert_refused(world, make_archive(parts, N_PARTS, 0), ERROR_BACKUP_CORRUPT, "licenses/0000002-b.lic", "");
}

static void test_renamed_entries_are_refused(void **state) {
        static const char *const names[] = { "readme.txt", "/README.txt", "../README.txt", "./README.txt", "other",
                "licenses", "licenses/../../x", "/licenses/0000001-a.lic", "licenses/0000001-a.exe",
                "licenses/u/v/0000001-a.lic", "licenses/../0000001-a.lic", "licenses//0000001-a.lic" };
        RestoreWorld *world = *state;

        for (unsigned i = 0; i < N_PARTS; i++)
                for (unsigned k = 0; k < G_N_ELEMENTS(names); k++) {
                        Part part = whole_parts[i];

                        part.path = names[k];
                        assert_refused(world, make_archive_with(i, part), ERROR_BACKUP_CORRUPT, names[k], "");
                }
}

/* The first entries of a backup, byte by byte, for what comes next to be wrong. */
static GByteArray *start_raw(void) {
        GByteArray *tar = g_byte_array_new();

        for (unsigned i = 0; i <= PART_STATE; i++)
                tarball_add(tar, '0', whole_parts[i].path, "", whole_parts[i].content,
                        strlen(whole_parts[i].content));
        return tar;
}

static void assert_raw_refused(RestoreWorld *world, const GByteArray *tar, const char *where, const char *what) {
        int fd = tarball_new_file();

        tarball_write_file(fd, tar->data, tar->len);
        assert_refused(world, fd, ERROR_BACKUP_CORRUPT, where, what);
}

static void test_links_devices_and_the_like_are_refused(void **state) {
        static const char types[] = "1234567AgxSKLMNVXDEI\x01\xff";
        RestoreWorld *world = *state;

        for (const char *type = types; *type; type++) {
                g_autoptr(GByteArray) tar = start_raw();

                if (*type == 'x')
                        tarball_add_record(tar, "comment=hello\n");
                else
                        tarball_add(tar, *type, "licenses/0000001-a.lic", "README.txt", "", 0);
                tarball_add_zeros(tar, 1024);
                assert_raw_refused(world, tar, ARCHIVE_STATE, *type == 'x' ? "record" : "kind");
        }
}

static void test_paths_out_of_the_archive_are_refused(void **state) {
        static const char *const paths[] = { "/etc/passwd", "../x", "licenses/../../x", "/licenses/1-a.lic", "..", "/",
                "licenses/1-a.lic/", "licenses/", "licenses/./1-a.lic" };
        RestoreWorld *world = *state;

        for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
                g_autoptr(GByteArray) tar = start_raw();

                tarball_add(tar, '0', paths[i], "", "x", 1);
                tarball_add_zeros(tar, 1024);
                assert_raw_refused(world, tar, paths[i], "");
        }
}

static void test_sparse_files_are_refused(void **state) {
        static const char *const records[] = { "GNU.sparse.major=1\n", "GNU.sparse.realsize=1048576\n",
                "GNU.sparse.name=licenses/1-a.lic\n", "SUN.holesdata= 0 10\n" };
        RestoreWorld *world = *state;

        for (size_t i = 0; i < G_N_ELEMENTS(records); i++) {
                g_autoptr(GByteArray) tar = start_raw();

                tarball_add_record(tar, records[i]);
                tarball_add(tar, '0', "licenses/0000001-a.lic", "", "x", 1);
                tarball_add_zeros(tar, 1024);
                assert_raw_refused(world, tar, ARCHIVE_STATE, "record");
        }
}

static void test_sizes_of_exbibytes_are_refused(void **state) {
        static const uint8_t sizes[][12] = {
                { 0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
                { 0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0 },
                { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
                "77777777777", /* 8 GiB, as large as octal goes */
        };
        RestoreWorld *world = *state;

        for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
                g_autoptr(GByteArray) tar = start_raw();
                size_t at = tar->len;

                tarball_add(tar, '0', "licenses/0000001-a.lic", "", "x", 1);
                memcpy(((PaxHeader *)(tar->data + at))->size, sizes[i], sizeof sizes[i]);
                tarball_seal(tar, at);
                tarball_add_zeros(tar, 1024);
                assert_raw_refused(world, tar, i == 3 ? "licenses/0000001-a.lic" : ARCHIVE_STATE, "");
        }

        g_autoptr(GByteArray) tar = start_raw();
        tarball_add_record(tar, "size=9223372036854775807\n");
        tarball_add(tar, '0', "licenses/0000001-a.lic", "", "x", 1);
        tarball_add_zeros(tar, 1024);
        assert_raw_refused(world, tar, ARCHIVE_STATE, "record");
}

static void test_global_headers_are_refused(void **state) {
        RestoreWorld *world = *state;
        g_autoptr(GByteArray) rest = start_raw(), tar = g_byte_array_new();

        tarball_add(tar, 'g', "GlobalHead/x", "", "14 comment=me\n", 14);
        g_byte_array_append(tar, rest->data, rest->len);
        assert_raw_refused(world, tar, "at its start", "kind");
}

static void test_files_that_are_no_backup_are_refused(void **state) {
        static const char age[] = "age-encryption.org/v1\n-> X25519 TEiF0ypqr+bpvcqXNyCVJpL7OuwPdVwPL7KQEbFDOCc\n";
        static const char gzip[] = "\x1f\x8b\x08\0\0\0\0\0\0\x03", zstd[] = "\x28\xb5\x2f\xfd\x04\x58";
        static const char xz[] = "\xfd" "7zXZ", zip[] = "PK\x03\x04", text[] = "Dear diary,\n";
        static const struct {
                const char *data;
                size_t size;
        } starts[] = {
                { "", 0 }, { age, sizeof age - 1 }, { gzip, sizeof gzip - 1 }, { zstd, sizeof zstd - 1 },
                { xz, sizeof xz - 1 }, { zip, sizeof zip - 1 }, { text, sizeof text - 1 }, { "\0", 1 },
        };
        RestoreWorld *world = *state;

        /* Alone, and with random bytes behind. */
        for (size_t i = 0; i < 2 * G_N_ELEMENTS(starts); i++) {
                int fd = i % 2 ? noise_file(20000) : tarball_new_file();

                assert_int_equal(pwrite(fd, starts[i / 2].data, starts[i / 2].size, 0), starts[i / 2].size);
                assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
                assert_refused(world, fd, ERROR_BACKUP_CORRUPT, "at its start", "This is not a backup");
        }
        for (off_t size = 512; size <= 65536; size *= 2) {
                int fd = tarball_new_file();

                assert_int_equal(ftruncate(fd, size), 0);
                assert_refused(world, fd, ERROR_BACKUP_CORRUPT, "at its start", "This is not a backup");
        }
        assert_restores(world);
}

/* Endless zeros, as of /dev/zero, through a pipe: the end of a tar goes on for 16 MiB and no longer. */
static void test_endless_zeros_are_refused(void **state) {
        static const uint8_t zeros[65536];
        RestoreWorld *world = *state;
        Feeder feeder = { .data = zeros, .size = sizeof zeros, .piece = sizeof zeros, .times = 1 << 20 };
        int fd = feeder_start(&feeder, false);

        assert_refused(world, fd, ERROR_BACKUP_CORRUPT, "at its start", "");
        feeder_join(&feeder);
        assert_true(feeder.fed < 32 << 20);
}

/* The same entry, or header, a million times, until nobody reads any more. */
static void assert_million_refused(RestoreWorld *world, const GByteArray *head, const GByteArray *entry,
                const char *where) {
        g_autoptr(GByteArray) block = g_byte_array_new();
        Feeder feeder = { .piece = 65536, .times = 1000000 / 64 };
        int fds[2];

        for (unsigned i = 0; i < 64; i++)
                g_byte_array_append(block, entry->data, entry->len);
        feeder.data = block->data;
        feeder.size = block->len;
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_int_equal(write(fds[1], head->data, head->len), head->len);
        feeder.fd = fds[1];
        feeder_run(&feeder);
        assert_refused(world, fds[0], ERROR_BACKUP_CORRUPT, where, "");
        feeder_join(&feeder);
        assert_true(feeder.fed < 1 << 20);
}

static void test_million_empty_entries_are_refused_at_once(void **state) {
        /* Of a second extended header, the path is what the first one said. */
        static const char *const where[] = { "licenses/0000001-a.lic", ARCHIVE_README, "licenses/1-a.lic",
                ARCHIVE_STATE };
        RestoreWorld *world = *state;

        for (unsigned i = 0; i < G_N_ELEMENTS(where); i++) {
                g_autoptr(GByteArray) head = start_raw(), entry = g_byte_array_new();

                switch (i) {
                case 0:
                        tarball_add(entry, '0', "licenses/0000001-a.lic", "", "", 0);
                        break;
                case 1:
                        tarball_add(entry, '0', ARCHIVE_README, "", "", 0);
                        break;
                case 2:
                        tarball_add_record(entry, "path=licenses/1-a.lic\n");
                        break;
                case 3:
                        tarball_add(entry, '5', "folder/", "", "", 0);
                        break;
                }
                assert_million_refused(world, head, entry, where[i]);
        }
}

/* Runs a command in a folder with a backup's files in it, and gives what it prints; -1 where it cannot. */
static int run_in_files(RestoreWorld *world, const char *command) {
        g_autofree char *folder = make_folder(world->folder, "files");
        g_autofree char *end = g_build_filename(folder, ARCHIVE_END, NULL);
        g_autofree char *out = g_build_filename(world->folder, "out", NULL);
        g_autofree char *line = NULL;
        int fd;

        g_free(make_folder(folder, "licenses"));
        for (unsigned i = 0; i < N_PARTS; i++) {
                g_autofree char *path = g_build_filename(folder, whole_parts[i].path, NULL);
                write_path(path, whole_parts[i].content, strlen(whole_parts[i].content));
        }
        write_path(end, "{}", 2);

        line = g_strdup_printf("cd '%s' && { %s; } > '%s' 2>&1", folder, command, out);
        if (system(line) != 0)
                return -1;
        fd = open(out, O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        return fd;
}

#define FILES "README.txt manifest.json state.jsonl licenses/0000001-a.lic licenses/0000002-b.lic END.json"

static void test_tars_of_other_programs_are_refused(void **state) {
        static const struct {
                const char *command, *where;
        } foreign[] = {
                { "tar --format=v7 -cf - " FILES, "at its start" },
                { "tar --format=oldgnu -cf - " FILES, "at its start" },
                { "tar --format=gnu -cf - " FILES, "at its start" },
                { "tar --format=ustar -cf - " FILES, "licenses/0000001-a.lic" },
                { "tar --format=pax -cf - " FILES, "at its start" },
                { "tar -cf - .", "at its start" },
                { "bsdtar --format pax -cf - " FILES, "at its start" },
                { "bsdtar --format ustar -cf - " FILES, "at its start" },
                { "truncate -s 1M big && tar --sparse --format=gnu -cf - big", "at its start" },
                { "truncate -s 1M big && tar --sparse --format=pax -cf - big", "at its start" },
                { "ln -sf README.txt link && tar --format=ustar -cf - link", "at its start" },
                { "ln -f README.txt hard && tar --format=ustar -cf - README.txt hard", "README.txt" },
                { "tar --format=ustar -cPf - /etc/passwd", "passwd" },
                { "rm -f pipe; mkfifo pipe && tar --format=ustar -cf - pipe", "at its start" },
                { "tar --format=ustar -cf - /dev/null", "at its start" },
                { "tar -czf - " FILES, "at its start" },
                { "tar -cf - " FILES " | zstd", "at its start" },
                { "tar -cf - " FILES " | gzip -9", "at its start" },
        };
        RestoreWorld *world = *state;
        unsigned n = 0;

        for (size_t i = 0; i < G_N_ELEMENTS(foreign); i++) {
                int fd = run_in_files(world, foreign[i].command);

                if (fd < 0) {
                        print_message("Skipped, for it does not run here: %s\n", foreign[i].command);
                        continue;
                }
                assert_refused(world, fd, ERROR_BACKUP_CORRUPT, foreign[i].where, "Use another copy.");
                n++;
        }
        if (n == 0)
                skip();
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, restore_world_setup, restore_world_teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_backup_cut_off_at_any_byte_changes_nothing),
                IN_WORLD(test_backup_with_any_byte_changed_changes_nothing),
                IN_WORLD(test_changed_manifest_asks_for_consent_or_is_corrupt),
                IN_WORLD(test_missing_entries_are_refused),
                IN_WORLD(test_doubled_entries_are_refused),
                IN_WORLD(test_swapped_entries_are_refused),
                IN_WORLD(test_swapped_contents_are_refused),
                IN_WORLD(test_renamed_entries_are_refused),
                IN_WORLD(test_links_devices_and_the_like_are_refused),
                IN_WORLD(test_paths_out_of_the_archive_are_refused),
                IN_WORLD(test_sparse_files_are_refused),
                IN_WORLD(test_sizes_of_exbibytes_are_refused),
                IN_WORLD(test_global_headers_are_refused),
                IN_WORLD(test_files_that_are_no_backup_are_refused),
                IN_WORLD(test_endless_zeros_are_refused),
                IN_WORLD(test_million_empty_entries_are_refused_at_once),
                IN_WORLD(test_tars_of_other_programs_are_refused),
        };

        restore_world_prepare();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
