/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bad backups. Each is refused, by a restore and by a check, with a message that names the entry, and the licenses
 * are what they were.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "restores.h"

#define CORRUPT "NS_E_DRM_BACKUP_CORRUPT"
#define NOTHING_CHANGED "* No license was changed."

/*
 * A backup of which every part would show: licenses that are not here, another document of one that is, an LCP
 * license, and a tombstone of one that lives here.
 */
static void make_world(Harness *h, sd_bus *bus) {
        g_autofree char *lcp = make_lcp("lcp", "2022-02-02T00:00:00Z", "{\"print\":10}");
        g_autofree char *old = make_lcp("lcp", "2021-01-01T00:00:00Z", "{\"print\":20}");

        store_many(bus, "a", 6, 700);
        g_free(store_license(bus, "counted", 7, "a{sv}", 4, "LicenseId", "s", "counted", "Title", "s", "T", "NotAfter",
                "t", UINT64_C(4000000000), "Counters", "a{st}", 1, "play", UINT64_C(10)));
        g_free(store_license(bus, lcp, strlen(lcp), "a{sv}", 0));
        store_simple(bus, "revoked");
        call_void(bus, ROOT, "LicenseStore.RevokeLicense", "s", "revoked");
        store_simple(bus, "deleted");
        delete_license(bus, "deleted");
        g_free(store_license(bus, "x", 1, "a{sv}", 2, "LicenseId", "s", "restricted", "AllowBackup", "b", 0));
        save_backup(h, bus, "good.tar");

        harness_new_machine(h);
        store_simple(bus, "a00003");
        store_simple(bus, "revoked");
        store_simple(bus, "restricted");
        g_free(store_license(bus, "counted", 7, "a{sv}", 2, "LicenseId", "s", "counted", "Counters", "a{st}", 1,
                "play", UINT64_C(20)));
        g_free(store_license(bus, old, strlen(old), "a{sv}", 0));
        store_simple(bus, "mine");
}

static bool says(const JobEnd *end, const char *what, const char *which, const char *message) {
        g_autofree char *corrupt = full_error_name(CORRUPT);

        if (strcmp(end->error, corrupt) == 0 && g_pattern_match_simple(message, end->message)) {
                assert_sentence(end->message, NULL);
                return true;
        }
        print_error("%s: expected the %s to say '%s', got '%s', '%s'\n", what, which, message, end->error,
                end->message);
        return false;
}

/*
 * Whether a restore and a check refuse a backup so, and nothing changed. verify_message NULL means that a check takes
 * it: what the store must be asked for, it cannot see.
 */
static bool refused(Harness *h, sd_bus *bus, const char *what, const char *before, const char *message,
                const char *verify_message) {
        g_autofree char *whole = g_strconcat(message, NOTHING_CHANGED, NULL);
        g_autofree char *restore = NULL, *verify = NULL, *after = NULL;
        g_auto(JobEnd) restored = {}, verified = {};
        bool good;

        restore = start_restore(h, bus, "bad.tar", own_flags());
        job_wait(bus, restore, &restored);
        good = says(&restored, what, "restore", whole);

        verify = start_verify(h, bus, "bad.tar");
        job_wait(bus, verify, &verified);
        if (verify_message)
                good = says(&verified, what, "check", verify_message) && good;
        else if (verified.hresult != 0) {
                print_error("%s: the check failed: %s, '%s'\n", what, verified.error, verified.message);
                good = false;
        }

        after = snapshot_licenses(bus);
        if (strcmp(after, before) != 0)
                fail_msg("%s: the licenses were\n%s\nand are\n%s", what, before, after);
        return good;
}

typedef struct Damage {
        const char *what;
        const char *message;
        const char *operations[16];
        bool store_knows; /* only the store sees it */
} Damage;

#define DOCUMENT "id:counted"

static const Damage damages[] = {
        /* What digests tell. */
        { "a changed document", "*7-counted.lic*its digest*",
                { "replace", DOCUMENT, "count", "mount", "stale-digests" } },
        { "a changed document with its digest", "*END.json*digest*",
                { "replace", DOCUMENT, "count", "mount", "stale-end" } },
        { "a changed attribute", "*END.json*digest*", { "set", DOCUMENT, "title", "U", "stale-end" } },
        { "a changed README", "*END.json*digest*", { "append", "README.txt", ".", "stale-end" } },
        { "a changed state", "*END.json*digest*",
                { "replace", "state.jsonl", "\"play\":10", "\"play\":11", "stale-end" } },
        { "a changed list of what is not there", "*END.json*digest*",
                { "append", "NOT-BACKED-UP.txt", ".", "stale-end" } },
        { "a renamed document", "*END.json*digest*",
                { "rename", DOCUMENT, "licenses/0000007-other.lic", "stale-end" } },
        { "a document of no digest", "*7-counted.lic*digest is missing*",
                { "unset", DOCUMENT, "blake2b", "stale-digests" } },
        { "a missing document", "*END.json*", { "drop", DOCUMENT, "stale-end" } },
        { "a missing document and an END.json that fits", "*END.json*counts*", { "drop", DOCUMENT, "stale-counts" } },
        { "an END.json of other digests", "*END.json*digest*",
                { "json", "END.json", "blake2b",
                        "\"0000000000000000000000000000000000000000000000000000000000000000\"", "stale-end" } },
        { "an END.json without a digest", "*END.json*", { "no-json", "END.json", "blake2b", "stale-end" } },
        { "an END.json with more", "*END.json*", { "json", "END.json", "more", "1" } },
        { "an END.json of another format", "*END.json*", { "json", "END.json", "format", "2" } },
        { "an END.json of nothing", "*END.json*JSON*", { "content", "END.json", "" } },
        { "more licenses than there are", "*END.json*counts*",
                { "json", "manifest.json", "licenses", "9", "json", "END.json", "licenses", "9", "stale-counts" } },
        { "other restricted ones", "*END.json*counts*", { "json", "manifest.json", "restricted", "2" } },

        /* Entries. */
        { "no END.json", "*END.json is missing*", { "drop", "END.json" } },
        { "no README", "*README.txt*missing*", { "drop", "README.txt" } },
        { "no manifest", "*manifest.json*missing*", { "drop", "manifest.json" } },
        { "no state", "*state.jsonl*missing*", { "drop", "state.jsonl" } },
        { "a document twice", "*7-counted.lic*twice*", { "double", DOCUMENT } },
        { "a manifest twice", "*manifest.json*twice*", { "double", "manifest.json" } },
        { "a state twice", "*state.jsonl*twice*", { "double", "state.jsonl" } },
        { "an END.json twice", "*END.json*twice*", { "double", "END.json" } },
        { "two documents swapped", "*2-a00001.*wrong place*", { "swap", "id:a00001", "id:a00002" } },
        { "manifest and state swapped", "*state.jsonl*manifest.json*", { "swap", "manifest.json", "state.jsonl" } },
        { "END.json before a document", "*END.json*counts*", { "swap", DOCUMENT, "END.json" } },
        { "a foreign entry", "*'evil.sh'*", { "add", "README.txt", "evil.sh", "rm -rf /" } },
        { "a foreign entry at the end", "*'evil.sh'*", { "add", "END.json", "evil.sh", "rm -rf /" } },
        { "an absolute path", "*'/etc/passwd'*", { "rename", DOCUMENT, "/etc/passwd" } },
        { "a path that leads out", "*'../../etc/passwd'*", { "rename", DOCUMENT, "../../etc/passwd" } },
        { "a path that leads out later", "*'licenses/../../x.lic'*", { "rename", DOCUMENT, "licenses/../../x.lic" } },
        { "a document in a folder of a user", "*'licenses/anna/0000007-counted.lic'*",
                { "rename", DOCUMENT, "licenses/anna/0000007-counted.lic" } },
        { "a document with another ending", "*'licenses/0000007-counted.exe'*",
                { "rename", DOCUMENT, "licenses/0000007-counted.exe" } },
        { "a hidden document", "*'licenses/.0000007-counted.lic'*",
                { "rename", DOCUMENT, "licenses/.0000007-counted.lic" } },
        { "an empty path", "*6-a00005.*", { "rename", DOCUMENT, "" } },
        { "something after the end", "*END.json*after its end*", { "trailer", "something" } },

        /* Kinds of entries. */
        { "a hard link", "*6-a00005.*kind*", { "kind", DOCUMENT, "1", "licenses/0000001-a00000.lic" } },
        { "a symbolic link", "*6-a00005.*kind*", { "kind", DOCUMENT, "2", "/etc/passwd" } },
        { "a file that has a target", "*6-a00005.*", { "kind", DOCUMENT, "0", "/etc/passwd" } },
        { "a character device", "*6-a00005.*kind*", { "kind", DOCUMENT, "3", "" } },
        { "a block device", "*6-a00005.*kind*", { "kind", DOCUMENT, "4", "" } },
        { "a folder", "*6-a00005.*kind*", { "kind", DOCUMENT, "5", "" } },
        { "a FIFO", "*6-a00005.*kind*", { "kind", DOCUMENT, "6", "" } },
        { "a sparse file of GNU's", "*6-a00005.*kind*", { "kind", DOCUMENT, "S", "" } },
        { "a long name of GNU's", "*6-a00005.*kind*", { "kind", DOCUMENT, "L", "" } },
        { "a sparse file of pax", "*6-a00005.*", { "record", DOCUMENT, "GNU.sparse.map", "0,7" } },
        { "a size in a record", "*6-a00005.*", { "record", DOCUMENT, "size", "7" } },
        { "a link in a record", "*6-a00005.*", { "record", DOCUMENT, "linkpath", "/etc/passwd" } },
        { "an attribute of others", "*6-a00005.*", { "record", DOCUMENT, "LIBARCHIVE.xattr.user.x", "eA==" } },
        { "an attribute for the system", "*7-counted.lic*attribute*",
                { "record", DOCUMENT, "SCHILY.xattr.security.capability", "x" } },
        { "a global header", "*damaged at its start*", { "global-header", "comment", "hello" } },
        { "a size of 8 EiB", "*6-a00005.*", { "size", DOCUMENT, "9223372036854775807" } },
        { "a size of 8 GiB", "*", { "size", "manifest.json", "8589934591" } },
        { "a size that is too small", "*7-counted.lic*", { "size", DOCUMENT, "3" } },

        /* The manifest. */
        { "a newer version", "*newer version*Update*", { "json", "manifest.json", "format", "2" } },
        { "no version", "*manifest.json*", { "no-json", "manifest.json", "format" } },
        { "no JSON", "*manifest.json*JSON*", { "content", "manifest.json", "{" } },
        { "a key twice", "*manifest.json*JSON*",
                { "replace", "manifest.json", "\"format\": 1", "\"format\": 1, \"format\": 1" } },
        { "no owner", "*manifest.json*whose*", { "no-json", "manifest.json", "owner" } },
        { "two kinds of owners", "*manifest.json*whose*", { "json", "manifest.json", "all_users", "true" } },
        { "an owner of no number", "*manifest.json*uid*", { "json", "manifest.json", "owner.uid", "\"0\"" } },
        { "an owner of a number that is none", "*manifest.json*uid*",
                { "json", "manifest.json", "owner.uid", "4294967295" } },
        { "a host that is no text", "*manifest.json*host*", { "json", "manifest.json", "host", "[]" } },
        { "fewer than no licenses", "*manifest.json*",
                { "json", "manifest.json", "licenses", "-1", "stale-counts" } },
        { "a large manifest", "*manifest.json*", { "repeat", "manifest.json", "3000" } },

        /* state.jsonl. */
        { "a state that is no JSON", "*state.jsonl*line 12 *", { "append", "state.jsonl", "hello\n" } },
        { "a state that is a list", "*state.jsonl*line 12 *", { "append", "state.jsonl", "[]\n" } },
        { "a state with an empty line", "*state.jsonl*line 12 *", { "append", "state.jsonl", "\n" } },
        { "a state without an id", "*state.jsonl*line 12 *",
                { "append", "state.jsonl", "{\"generation\":1,\"counters\":{}}\n" } },
        { "a state without a generation", "*state.jsonl*line 12 *",
                { "append", "state.jsonl", "{\"id\":\"z\",\"counters\":{}}\n" } },
        { "a generation of 0", "*state.jsonl*line 12 *",
                { "append", "state.jsonl", "{\"id\":\"z\",\"generation\":0,\"counters\":{}}\n" } },
        { "a counter below 0", "*state.jsonl*line 12 *counters*",
                { "append", "state.jsonl", "{\"id\":\"z\",\"generation\":1,\"counters\":{\"play\":-1}}\n" } },
        { "a counter over all counters", "*state.jsonl*line 12 *",
                { "append", "state.jsonl",
                        "{\"id\":\"z\",\"generation\":1,\"counters\":{\"play\":9223372036854775808}}\n" } },
        { "a right with a bad name", "*state.jsonl*line 12 *counters*",
                { "append", "state.jsonl", "{\"id\":\"z\",\"generation\":1,\"counters\":{\"Play\":1}}\n" } },
        { "a state with more", "*state.jsonl*line 12 *more*",
                { "append", "state.jsonl", "{\"id\":\"z\",\"generation\":1,\"counters\":{},\"more\":1}\n" } },
        { "a state of somebody", "*state.jsonl*line 12 *owner*",
                { "append", "state.jsonl", "{\"id\":\"z\",\"generation\":1,\"counters\":{},\"owner\":\"root\"}\n" } },
        { "a state that lifts a restriction", "*state.jsonl*restricted*",
                { "replace", "state.jsonl", "\"restricted\":true", "\"restricted\":false" } },
        { "a long line", "*state.jsonl*line of more than*",
                { "content", "state.jsonl", "x", "repeat", "state.jsonl", "70000" } },
        { "a state that is not UTF-8", "*state.jsonl*line 1 *",
                { "content", "state.jsonl", "{\"id\":\"\xff\",\"generation\":1,\"counters\":{}}\n" } },
        { "an id twice in the state", "*state.jsonl*'counted' is there twice*",
                { "double-line", "state.jsonl", "\"counted\"" }, true },

        /* Documents and what is said of them. */
        { "a document of no state", "*7-counted.lic*state.jsonl does not know 'counted'*",
                { "drop-line", "state.jsonl", "\"counted\"" }, true },
        { "an id twice", "*3-a00002.*'a00002' is there twice*", { "set", "id:a00001", "id", "a00002" }, true },
        { "a document of a revoked id", "*7-counted.lic*state.jsonl says of 'revoked'*",
                { "set", DOCUMENT, "id", "revoked" }, true },
        { "a document of a restricted id", "*1-a00000.*state.jsonl says of 'restricted'*",
                { "set", "id:a00000", "id", "restricted" }, true },
        { "a counter that is not that of the state", "*7-counted.lic*state.jsonl says of 'counted'*",
                { "set", DOCUMENT, "counter.play", "11" }, true },
        { "a counter more than the state has", "*7-counted.lic*state.jsonl says of 'counted'*",
                { "set", DOCUMENT, "counter.copy", "0" }, true },
        { "a generation that is not that of the state", "*7-counted.lic*state.jsonl says of 'counted'*",
                { "set", DOCUMENT, "generation", "2" }, true },
        { "no id", "*7-counted.lic*id is missing*", { "unset", DOCUMENT, "id" } },
        { "an empty id", "*7-counted.lic*'id'*", { "set", DOCUMENT, "id", "" } },
        { "no generation", "*7-counted.lic*generation*", { "unset", DOCUMENT, "generation" } },
        { "a generation below 0", "*7-counted.lic*'generation'*", { "set", DOCUMENT, "generation", "-1" } },
        { "a generation with a zero", "*7-counted.lic*'generation'*", { "set", DOCUMENT, "generation", "01" } },
        { "a counter that is no number", "*7-counted.lic*'counter.play'*",
                { "set", DOCUMENT, "counter.play", "ten" } },
        { "a counter of 2^63", "*7-counted.lic*'counter.play'*",
                { "set", DOCUMENT, "counter.play", "9223372036854775808" } },
        { "a time that is no number", "*7-counted.lic*'not-after'*", { "set", DOCUMENT, "not-after", "tomorrow" } },
        { "a date of a document that has none", "*7-counted.lic*date*", { "set", DOCUMENT, "date", "1" } },
        { "a title that is not UTF-8", "*7-counted.lic*title*", { "set-bytes", DOCUMENT, "title", "ff" } },
        { "a title with a NUL", "*7-counted.lic*", { "set-bytes", DOCUMENT, "title", "410042" } },
        { "an attribute that nobody knows", "*7-counted.lic*'colour'*", { "set", DOCUMENT, "colour", "blue" } },
        { "an owner in a backup of one", "*7-counted.lic*'owner'*", { "set", DOCUMENT, "owner", "root" } },
        { "a broken LCP license", "*8-lcp.lcpl*LCP*", { "content", "id:lcp", "{\"provider\":" } },
        { "an LCP license of no date", "*8-lcp.lcpl*issued*",
                { "replace", "id:lcp", "2020-01-01T00:00:00Z", "some day" } },
        { "an LCP license of another id", "*8-lcp.lcpl*",
                { "replace", "id:lcp", "\"id\":\"lcp\"", "\"id\":\"pcl\"" } },
        { "an LCP license of another date", "*8-lcp.lcpl*date*",
                { "replace", "id:lcp", "2022-02-02T00:00:00Z", "2032-02-02T00:00:00Z" } },
        { "more uses than an LCP license gives", "*8-lcp.lcpl*",
                { "set", "id:lcp", "counter.print", "11", "replace", "state.jsonl", "\"print\":10", "\"print\":11" } },
        { "no counter of an LCP license that has one", "*8-lcp.lcpl*counters*",
                { "unset", "id:lcp", "counter.print", "replace", "state.jsonl", "\"print\":10", "" } },
};

static void test_damaged_backups_are_refused_and_change_nothing(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        bool good = true;
        make_world(h, bus);
        g_autofree char *before = snapshot_licenses(bus);

        for (unsigned i = 0; i < G_N_ELEMENTS(damages); i++) {
                const Damage *d = &damages[i];
                rewrite_backup(h, "good.tar", "bad.tar", d->operations);
                good = refused(h, bus, d->what, before, d->message, d->store_knows ? NULL : d->message) && good;
        }
        assert_true(good);

        /* Without any of that it is good, and all of it shows. */
        rewrite(h, "good.tar", "same.tar", NULL);
        g_autofree char *good_path = harness_path(h, "good.tar"), *same_path = harness_path(h, "same.tar");
        size_t size;
        g_autofree char *content = read_file(good_path, &size);
        assert_file_equal(same_path, content, size);
        assert_restores(h, bus, "same.tar", "6 1 0 1 1");
        g_autofree char *after = snapshot_licenses(bus);
        assert_string_not_equal(after, before);
}

static void test_backup_cut_off_anywhere_is_refused(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *good_path = harness_path(h, "good.tar"), *bad_path = harness_path(h, "bad.tar");
        size_t size;
        make_world(h, bus);
        g_autofree char *good = read_file(good_path, &size), *before = snapshot_licenses(bus);
        size_t step = MAX(size / 60, 1);

        /* The zeros at the end may be fewer: two blocks are the tar's end. */
        size_t end = size;
        while (good[end - 1] == 0)
                end--;
        size_t whole = (end + 511) / 512 * 512 + 1024;
        assert_true(whole <= size);
        for (size_t cut = 0; cut < whole; cut += cut + step < whole || cut == whole - 1 ? step : whole - 1 - cut) {
                g_autofree char *what = g_strdup_printf("cut off at %zu", cut);
                write_file(bad_path, good, cut);
                assert_true(refused(h, bus, what, before, "*", "*"));
        }
        write_file(bad_path, good, whole);
        assert_restores(h, bus, "bad.tar", "6 1 0 1 1");
}

static void test_one_changed_byte_is_refused(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *good_path = harness_path(h, "good.tar"), *bad_path = harness_path(h, "bad.tar");
        size_t size, step;
        make_world(h, bus);
        g_autofree char *good = read_file(good_path, &size), *before = snapshot_licenses(bus);

        step = size / 150 | 1;
        for (size_t at = 0; at < size; at += step) {
                g_autofree char *what = g_strdup_printf("byte %zu", at);
                good[at] ^= 0x10;
                write_file(bad_path, good, size);
                good[at] ^= 0x10;
                assert_true(refused(h, bus, what, before, "*", "*"));
        }
}

static void test_what_is_no_backup_is_refused(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *path = harness_path(h, "bad.tar"), *folder = harness_path(h, "media");
        g_autofree uint8_t *noise = make_document(100000, 7);
        g_autofree uint8_t *zeros = g_malloc0(100000);
        const char *const formats[] = { "--format=gnu", "--format=pax", "--format=ustar", "--format=v7" };
        make_world(h, bus);
        g_autofree char *before = snapshot_licenses(bus);

        write_file(path, "", 0);
        assert_true(refused(h, bus, "nothing", before, "This is not a backup*", "This is not a backup*"));
        write_file(path, noise, 100000);
        assert_true(refused(h, bus, "noise", before, "This is not a backup*", "This is not a backup*"));
        write_file(path, zeros, 100000);
        assert_true(refused(h, bus, "zeros", before, "This is not a backup*", "This is not a backup*"));
        write_file(path, "{\"format\": 1}\n", 14);
        assert_true(refused(h, bus, "text", before, "This is not a backup*", "This is not a backup*"));
        for (unsigned i = 0; i < G_N_ELEMENTS(formats); i++) {
                const char *const line[] = { "tar", formats[i], "-cf", path, "-C", folder, ".", NULL };
                if (run_program(line, NULL, NULL) != 0)
                        fail_msg("tar %s failed", formats[i]);
                assert_true(refused(h, bus, formats[i], before, "*", "*"));
        }
}

/* A million of them would be refused at the first. */
static void test_endless_entries_end_at_the_first(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *path = harness_path(h, "good.tar");
        g_auto(FedJob) fed = {};
        size_t size;
        make_world(h, bus);
        rewrite(h, "good.tar", "good.tar", "add", "state.jsonl", "licenses/0000000-x.lic", "",
                "stale-digests");
        g_autofree char *content = read_file(path, &size);
        char *entry = memmem(content, size, "licenses/0000000-x.lic", 22);
        assert_non_null(entry);

        /* The descriptor stays open, and there is more to come. */
        fed_job_start(bus, &fed);
        feed(&fed, content, (size_t)(entry - content) + 512);
        assert_job_fails(bus, fed.path, CORRUPT, "*licenses/0000000-x.lic*");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_damaged_backups_are_refused_and_change_nothing),
                TEST(test_backup_cut_off_anywhere_is_refused),
                TEST(test_one_changed_byte_is_refused),
                TEST(test_what_is_no_backup_is_refused),
                TEST(test_endless_entries_end_at_the_first),
        };

        return cmocka_run_group_tests_name("restore-hostile", tests, NULL, NULL);
}
