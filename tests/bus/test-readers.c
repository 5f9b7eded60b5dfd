/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A backup needs no Licensevault: the archive managers that people have read it, and find the same bytes. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client.h"

typedef struct Document {
        char *content;
        size_t size;
        bool found;
} Document;

/* All tests read the one backup: making it is not what they are about. */
static Harness *harness;
static char *backup;
static GArray *documents; /* of Document */

static void add(sd_bus *bus, const char *id, void *content, size_t size) {
        const Document document = { .content = content, .size = size };

        g_free(store_license(bus, content, size, "a{sv}", 3, "LicenseId", "s", id, "Title", "s",
                "Ein Titel = mit „Zeichen“ 😀", "KeyId", "s", "line\nbreak"));
        g_array_append_val(documents, document);
}

static int setup(void **state) {
        static const char *const fixtures[] = { "lcp-2015-moby-dick.lcpl", "lcp-2015-acquisition.lcpl",
                "keygen-license.lic" };
        static const size_t sizes[] = { 0, 1, 511, 512, 513, 70000, 1 << 20 };
        static const char *const ids[] = { "../../../etc/passwd", "/absolute", "a\nb", "名前", "-rf", ".",
                "" };
        g_autofree char *long_id = g_strnfill(1024, 'i');
        void *fresh = NULL;

        harness_setup(&fresh);
        harness = fresh;
        documents = g_array_new(false, false, sizeof(Document));
        sd_bus *bus = harness_connect(harness, 0);
        for (unsigned i = 0; i < G_N_ELEMENTS(fixtures); i++) {
                size_t size;
                char *content = read_fixture(fixtures[i], &size);
                if (content && i == 2)
                        add(bus, "keygen", content, size);
                else if (content) {
                        const Document document = { .content = content, .size = size };
                        g_free(store_license(bus, content, size, "a{sv}", 0));
                        g_array_append_val(documents, document);
                }
        }
        for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++)
                add(bus, *ids[i] ? ids[i] : long_id, make_document(sizes[i], i), sizes[i]);
        for (unsigned i = 0; i < 200; i++) {
                g_autofree char *id = g_strdup_printf("urn:uuid:%04u", i);
                char *content = make_lcp(id, NULL, NULL);
                const Document document = { .content = content, .size = strlen(content) };
                g_free(store_license(bus, content, document.size, "a{sv}", 0));
                g_array_append_val(documents, document);
        }
        g_free(store_license(
                bus, "x", 1, "a{sv}", 2, "LicenseId", "s", "stays here", "AllowBackup", "b", 0));

        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_hash_table_unref(assert_job_succeeds(bus, job));
        backup = g_strdup_printf("%s/backups/%u/licenses.tar", harness->state, (unsigned)harness->users[0]);
        return 0;
}

static int teardown(void **state) {
        void *used = harness;

        for (unsigned i = 0; i < documents->len; i++)
                g_free(g_array_index(documents, Document, i).content);
        g_array_unref(documents);
        g_free(backup);
        return harness_teardown(&used);
}

static void need_program(const char *name) {
        g_autofree char *path = g_find_program_in_path(name);

        if (!path) {
                print_message("skipped: %s is not installed\n", name);
                skip();
        }
}

/* Runs a reader, which must succeed and say nothing on stderr. */
static char *run_quietly(const char *const *arguments) {
        g_autofree char *text = NULL, *complaints = NULL;
        int status = run_program(arguments, &text, &complaints);

        if (status != 0 || *complaints)
                fail_msg("%s ended with %d and says: %s", arguments[0], status, complaints);
        return g_steal_pointer(&text);
}

static char *new_folder(const char *name) {
        char *path = harness_path(harness, name);

        assert_int_equal(mkdir(path, 0700), 0);
        return path;
}

static Document *find_document(const char *content, size_t size) {
        for (unsigned i = 0; i < documents->len; i++) {
                Document *document = &g_array_index(documents, Document, i);
                if (!document->found && document->size == size &&
                        memcmp(document->content, content, size) == 0)
                        return document;
        }
        return NULL;
}

/* Each file in licenses/ is one of the documents, and each document is there. */
static void assert_extracted(const char *folder) {
        static const char *const others[] = { "README.txt", "manifest.json", "state.jsonl",
                "NOT-BACKED-UP.txt", "END.json" };
        g_autofree char *licenses = g_build_filename(folder, "licenses", NULL);
        unsigned found = 0;

        for (unsigned i = 0; i < G_N_ELEMENTS(others); i++) {
                g_autofree char *path = g_build_filename(folder, others[i], NULL);
                assert_int_equal(access(path, R_OK), 0);
        }
        assert_int_equal(count_names(folder), G_N_ELEMENTS(others) + 1);

        for (unsigned i = 0; i < documents->len; i++)
                g_array_index(documents, Document, i).found = false;
        g_autoptr(GDir) entries = g_dir_open(licenses, 0, NULL);
        assert_non_null(entries);
        for (const char *name; (name = g_dir_read_name(entries)); found++) {
                g_autofree char *path = g_build_filename(licenses, name, NULL);
                size_t size;
                g_autofree char *content = read_file(path, &size);
                Document *document = find_document(content, size);
                if (!document)
                        fail_msg("%s is none of the documents that were stored", name);
                document->found = true;
        }
        assert_int_equal(found, documents->len);
}

static void test_gnu_tar_reads_the_backup(void **state) {
        g_autofree char *folder = new_folder("tar");

        g_free(run_quietly((const char *[]) { "tar", "-xf", backup, "-C", folder, NULL }));
        assert_extracted(folder);
        g_autofree char *list = run_quietly((const char *[]) { "tar", "-tvf", backup, NULL });
        assert_non_null(strstr(list, "README.txt"));
}

static void test_bsdtar_reads_the_backup(void **state) {
        need_program("bsdtar");
        g_autofree char *folder = new_folder("bsdtar");

        /* Not every file system of a tester takes attributes. */
        g_free(run_quietly((const char *[]) { "bsdtar", "--no-xattrs", "-xf", backup, "-C", folder, NULL }));
        assert_extracted(folder);
        g_autofree char *list = run_quietly((const char *[]) { "bsdtar", "-tvf", backup, NULL });
        assert_non_null(strstr(list, "README.txt"));
}

static void test_7z_reads_the_backup(void **state) {
        need_program("7z");
        g_autofree char *folder = new_folder("7z"), *option = g_strconcat("-o", folder, NULL);

        g_autofree char *text = run_quietly((const char *[]) { "7z", "x", "-y", option, backup, NULL });
        assert_non_null(strstr(text, "Everything is Ok"));
        assert_null(strstr(text, "arning"));
        assert_extracted(folder);
}

/* The reader that was written after the README alone. Returns its exit status; what it wrote may be NULL. */
static int read_with_python(const char *file, const char *folder, char **ret_stdout, char **ret_stderr) {
        const char *program = g_getenv("LICENSEVAULT_READ_BACKUP");

        need_program("python3");
        return run_program(
                (const char *[]) { "python3", program ?: "tests/bus/read-backup.py", file, folder, NULL },
                ret_stdout, ret_stderr);
}

static void test_python_reads_and_proves_the_backup(void **state) {
        g_autofree char *folder = new_folder("python"), *complaints = NULL;

        if (read_with_python(backup, folder, NULL, &complaints) != 0 || *complaints)
                fail_msg("Python says: %s", complaints);
        assert_extracted(folder);
}

static void test_b2sum_agrees_with_the_digests(void **state) {
        g_autofree char *folder = new_folder("b2sum"), *digests = NULL;
        unsigned n = 0;

        need_program("b2sum");
        assert_int_equal(read_with_python(backup, folder, &digests, NULL), 0);
        g_auto(GStrv) lines = g_strsplit(digests, "\n", -1);
        for (char **line = lines; *line && **line; line++, n++) {
                g_autofree char *path = g_build_filename(folder, strchr(*line, ' ') + 2, NULL);
                g_autofree char *sum = run_quietly((const char *[]) { "b2sum", "-l", "256", path, NULL });
                const char *start = sum + (*sum == '\\'); /* b2sum marks names that it had to quote */
                assert_memory_equal(start, *line, 64);
        }
        assert_int_equal(n, documents->len);
}

static void test_restricted_licenses_are_named_for_people(void **state) {
        g_autofree char *text =
                run_quietly((const char *[]) { "tar", "-xOf", backup, "NOT-BACKED-UP.txt", NULL });

        assert_non_null(strstr(text, "stays here"));
}

static void test_damage_shows_without_us(void **state) {
        g_autofree char *folder = new_folder("damaged"), *damaged = harness_path(harness, "damaged.tar");
        g_autofree char *complaints = NULL;
        size_t size;
        g_autofree char *content = read_file(backup, &size);
        char *place = memmem(content, size, "urn:uuid:0042", 13);

        place = memmem(place, (size_t)(content + size - place), "A Book", 6);
        assert_non_null(place);
        *place = 'B';
        write_file(damaged, content, size);
        assert_int_not_equal(read_with_python(damaged, folder, NULL, &complaints), 0);
        assert_non_null(strstr(complaints, "digest"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_gnu_tar_reads_the_backup),
                cmocka_unit_test(test_bsdtar_reads_the_backup),
                cmocka_unit_test(test_7z_reads_the_backup),
                cmocka_unit_test(test_python_reads_and_proves_the_backup),
                cmocka_unit_test(test_b2sum_agrees_with_the_digests),
                cmocka_unit_test(test_restricted_licenses_are_named_for_people),
                cmocka_unit_test(test_damage_shows_without_us),
        };

        return cmocka_run_group_tests_name("readers", tests, setup, teardown);
}
