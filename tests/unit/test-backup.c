/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "archive.h"
#include "backup.h"
#include "common.h"
#include "folder.h"
#include "store-connection.h"

#define OLD_BACKUP "the old backup"

static const StoreOwner alice = { 1000, "alice" };
static const StoreOwner bob = { 1001, "bob" };

typedef struct World {
        char *folder; /* the state directory */
        char *own;    /* alice's folder in it */
        char *root;   /* one that the administrator configured */
        char *target; /* the backup in the first of them */
        Store *store;
        Cancel *cancel;

        /* What the events told. */
        unsigned n_begins, n_progress, n_signals, n_signalled, percent;
        uint64_t total, completed;
        bool wrong; /* something fell, came too early or was too large */

        /* When to cancel: at the beginning, at a number of licenses, or at a percentage. */
        bool cancel_at_begin;
        uint64_t cancel_at;
        unsigned cancel_at_percent;
        void (*at_begin)(struct World *world);
} World;

static char *make_folder(const char *path, const char *name) {
        char *folder = g_build_filename(path, name, NULL);

        assert_int_equal(g_mkdir_with_parents(folder, 0700), 0);
        return folder;
}

static int setup(void **state) {
        World *world = g_new0(World, 1);
        g_auto(Error) error = {};

        world->folder = temp_folder_new();
        world->own = make_folder(world->folder, "backups/1000");
        world->root = make_folder(world->folder, "root");
        world->target = g_build_filename(world->own, FOLDER_BACKUP_NAME, NULL);
        assert_good(store_open(world->folder, &no_limits, &world->store, &error), &error);
        assert_int_equal(cancel_new(&world->cancel), 0);
        world->cancel_at_percent = 1000;
        *state = world;
        return 0;
}

static int teardown(void **state) {
        World *world = *state;

        store_free(world->store);
        cancel_unref(world->cancel);
        temp_folder_remove(world->folder);
        g_free(world->own);
        g_free(world->root);
        g_free(world->target);
        g_free(world);
        return 0;
}

static void on_begin(uint64_t total, void *userdata) {
        World *world = userdata;

        world->n_begins++;
        world->total = total;
        world->wrong = world->wrong || world->n_progress > 0 || world->n_signals > 0;
        if (world->cancel_at_begin)
                cancel_trigger(world->cancel, "Enough.");
        if (world->at_begin)
                world->at_begin(world);
}

static void on_restricted(GPtrArray *licenses, void *userdata) {
        World *world = userdata;

        world->n_signals++;
        world->n_signalled += licenses->len / 3;
        world->wrong = world->wrong || licenses->len == 0 || licenses->len % 3 > 0 || licenses->len > 300;
        g_ptr_array_unref(licenses);
}

static void on_progress(uint64_t completed, unsigned percent, void *userdata) {
        World *world = userdata;

        world->n_progress++;
        world->wrong = world->wrong || world->n_begins == 0 || completed < world->completed ||
                completed > world->total || percent < world->percent || percent > 99;
        world->completed = completed;
        world->percent = percent;
        if ((world->cancel_at > 0 && completed >= world->cancel_at) || percent >= world->cancel_at_percent)
                cancel_trigger(world->cancel, "Enough.");
}

/* A backup of alice's licenses, to her folder. */
static BackupPlan new_plan(World *world) {
        return (BackupPlan) {
                .store = world->store,
                .uid = alice.uid,
                .name = g_strdup(alice.name),
                .owner = alice.uid,
                .fd = -1,
                .roots = g_strsplit(world->root, "|", 0),
                .host = g_strdup("host"),
                .machine = g_strdup("machine"),
                .stall_msec = 20000,
        };
}

static Backup *new_backup(World *world, BackupPlan plan) {
        const BackupEvents events = { on_begin, on_restricted, on_progress, world };
        Backup *backup;

        assert_int_equal(backup_new(&plan, world->cancel, &backup), 0);
        assert_int_equal(plan.fd, -1);
        backup_set_events(backup, &events);
        return backup;
}

/* Checks and runs a backup. */
static int run(World *world, BackupPlan plan, BackupResult *ret, Error *error) {
        g_autoptr(Backup) backup = new_backup(world, plan);
        BackupResult ignored;
        int r;

        r = backup_check(backup, error);
        if (r == 0)
                r = backup_run(backup, ret ?: &ignored, error);
        assert_int_equal(r, error->code);
        assert_false(world->wrong);
        return r;
}

static void run_good(World *world, BackupPlan plan, BackupResult *ret) {
        g_auto(Error) error = {};

        assert_good(run(world, plan, ret, &error), &error);
        assert_true(ret->verified);
        assert_int_equal(world->n_begins, 1);
        assert_int_equal(ret->licenses + ret->restricted, world->total);
}

static void put_restricted(World *world, const char *id) {
        g_auto(Deed) deed = { .work = deed_put, .owner = alice, .id = id, .document = "secret", .restricted = true };

        assert_good(deed_do(&deed, world->store), &deed.task.error);
}

static void put_some(World *world, unsigned n, size_t size) {
        g_autofree char *document = g_strnfill(size, 'd');

        for (unsigned i = 0; i < n; i++) {
                g_autofree char *id = g_strdup_printf("some-%u", i);
                put(world->store, &alice, id, document);
        }
}

static unsigned count_entries(const char *path) {
        DIR *entries = opendir(path);
        unsigned n = 0;

        assert_non_null(entries);
        while (readdir(entries))
                n++;
        closedir(entries);
        return n - 2; /* without "." and ".." */
}

/* There is this one file in the folder of backups, and nothing of a backup's in the state directory. */
static void assert_nothing_left(World *world) {
        assert_int_equal(count_entries(world->own), access(world->target, F_OK) == 0 ? 1 : 0);
        for (unsigned i = 0; i < 2; i++) {
                GDir *dir = g_dir_open(i ? world->folder : world->own, 0, NULL);

                for (const char *name; (name = g_dir_read_name(dir));)
                        assert_null(strstr(name, "partial"));
                g_dir_close(dir);
        }
}

static void assert_old_backup(World *world) {
        g_autoptr(GBytes) bytes = read_path(world->target);

        assert_int_equal(g_bytes_get_size(bytes), strlen(OLD_BACKUP));
        assert_memory_equal(g_bytes_get_data(bytes, NULL), OLD_BACKUP, strlen(OLD_BACKUP));
        assert_nothing_left(world);
}

static void assert_proved(int fd, const BackupResult *result) {
        g_auto(Error) error = {};
        ArchiveCounts counts;

        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        assert_good(archive_verify(fd, UINT64_MAX, -1, NULL, NULL, NULL, &counts, &error), &error);
        assert_int_equal(counts.licenses, result->licenses);
        assert_int_equal(counts.restricted, result->restricted);
        assert_int_equal(counts.bytes, result->bytes);
        assert_int_equal(lseek(fd, 0, SEEK_END), result->bytes);
}

static void assert_path_proved(const char *path, const BackupResult *result) {
        _cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        struct stat st;

        assert_true(fd >= 0);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_int_equal(st.st_nlink, 1);
        assert_proved(fd, result);
}

/* What is in a backup: the paths by line, and the content of one of them. */
static char *list(int fd, const char *wanted, char **ret_content) {
        g_autoptr(ArchiveReader) reader = NULL;
        g_autoptr(GString) content = g_string_new(NULL);
        GString *paths = g_string_new(NULL);
        g_auto(Error) error = {};
        const ArchiveEntry *entry;

        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        assert_good(archive_reader_new(fd, UINT64_MAX, -1, NULL, &reader, &error), &error);
        for (;;) {
                assert_good(archive_reader_next(reader, &entry, &error), &error);
                if (!entry)
                        break;
                g_string_append_printf(paths, "%s\n", entry->path);
                if (!g_str_equal(entry->path, wanted))
                        continue;
                if (entry->content)
                        g_string_append_len(content, (const char *)entry->content, (gssize)entry->size);
                for (const char *line; !entry->content;) {
                        assert_good(archive_reader_line(reader, &line, &error), &error);
                        if (!line)
                                break;
                        g_string_append_printf(content, "%s\n", line);
                }
                for (unsigned i = 0; i < entry->attributes->len; i += 2)
                        g_string_append_printf(content, "[%s=%s]", (char *)entry->attributes->pdata[i],
                                (char *)entry->attributes->pdata[i + 1]);
        }
        *ret_content = g_string_free(g_steal_pointer(&content), false);
        return g_string_free(paths, false);
}

static void assert_paths(int fd, const char *expected) {
        g_autofree char *content = NULL;
        g_autofree char *paths = list(fd, "", &content);

        assert_string_equal(paths, expected);
}

static void assert_content(int fd, const char *path, const char *expected) {
        g_autofree char *content = NULL;
        g_autofree char *paths = list(fd, path, &content);

        assert_string_equal(content, expected);
}

static void test_backup_to_the_own_folder_is_whole(void **state) {
        World *world = *state;
        BackupResult result;

        put_some(world, 30, 5000);
        run_good(world, new_plan(world), &result);
        assert_int_equal(result.licenses, 30);
        assert_int_equal(result.restricted, 0);
        assert_path_proved(world->target, &result);
        assert_nothing_left(world);
        assert_int_equal(world->completed, 30);
        assert_in_range(world->percent, 98, 99);
        assert_in_range(world->n_progress, 30, 100);
}

static void test_backup_of_nothing_is_a_whole_backup(void **state) {
        World *world = *state;
        BackupResult result;

        run_good(world, new_plan(world), &result);
        assert_int_equal(result.licenses, 0);
        assert_path_proved(world->target, &result);
}

static void test_own_folder_is_made_where_it_is_missing(void **state) {
        World *world = *state;
        BackupResult result;

        assert_int_equal(rmdir(world->own), 0);
        run_good(world, new_plan(world), &result);
        assert_path_proved(world->target, &result);
}

static void test_backup_holds_what_it_should(void **state) {
        World *world = *state;
        g_auto(Deed) gone = { .work = deed_delete, .owner = alice, .id = "gone" };
        g_auto(Deed) dead = { .work = deed_revoke, .owner = alice, .id = "dead" };
        _cleanup_fd_ int fd = -1;
        BackupResult result;

        put(world->store, &alice, "a", "first");
        put(world->store, &alice, "a", "the document");
        put(world->store, &alice, "gone", "d");
        put(world->store, &alice, "dead", "d");
        put(world->store, &alice, "../e vil\n", "d");
        put(world->store, &bob, "bobs", "d");
        put_restricted(world, "secret-1");
        assert_good(deed_do(&gone, world->store), &gone.task.error);
        assert_good(deed_do(&dead, world->store), &dead.task.error);
        run_good(world, new_plan(world), &result);
        assert_int_equal(result.licenses, 2);
        assert_int_equal(result.restricted, 1);

        fd = open(world->target, O_RDONLY | O_CLOEXEC);
        assert_paths(fd, "README.txt\nmanifest.json\nstate.jsonl\nlicenses/0000001-a.bin\n"
                         "licenses/0000002-_._e_vil_.bin\nNOT-BACKED-UP.txt\nEND.json\n");
        assert_content(fd, "state.jsonl",
                "{\"id\":\"a\",\"generation\":2,\"counters\":{}}\n"
                "{\"id\":\"gone\",\"generation\":1,\"counters\":{}}\n"
                "{\"id\":\"dead\",\"generation\":1,\"counters\":{},\"revoked\":1700000000}\n"
                "{\"id\":\"../e vil\\n\",\"generation\":1,\"counters\":{}}\n"
                "{\"id\":\"secret-1\",\"generation\":1,\"counters\":{}}\n");
        /* printf 'the document' | b2sum -l 256 */
        assert_content(fd, "licenses/0000001-a.bin",
                "the document"
                "[user.licensevault.blake2b=5d81f096b42becba800b06abb5cfb29eee502fe884a4b71e7832a43dea845409]"
                "[user.licensevault.generation=2][user.licensevault.id=a]");
}

static void test_restricted_licenses_are_left_out_and_told(void **state) {
        World *world = *state;
        g_autoptr(GPtrArray) read = g_ptr_array_new();
        g_autofree char *text = NULL, *paths = NULL;
        _cleanup_fd_ int fd = -1;
        g_autoptr(Backup) backup = NULL;
        g_auto(Error) error = {};
        BackupResult result;

        for (unsigned i = 0; i < 1250; i++) {
                g_autofree char *id = g_strdup_printf("secret-%u", i);
                put_restricted(world, id);
        }
        put(world->store, &alice, "open", "d");

        backup = new_backup(world, new_plan(world));
        assert_good(backup_check(backup, &error), &error);
        assert_good(backup_run(backup, &result, &error), &error);
        assert_int_equal(result.licenses, 1);
        assert_int_equal(result.restricted, 1250);
        assert_path_proved(world->target, &result);

        /* Ten signals of a hundred; the list has all. */
        assert_int_equal(world->n_signals, 10);
        assert_int_equal(world->n_signalled, 1000);
        assert_int_equal(restricted_count(backup_restricted(backup)), 1250);
        assert_int_equal(restricted_read(backup_restricted(backup), 1249, 10, read), 0);
        assert_string_equal(read->pdata[0], "secret-1249");

        fd = open(world->target, O_RDONLY | O_CLOEXEC);
        paths = list(fd, "NOT-BACKED-UP.txt", &text);
        assert_null(strstr(paths, "secret"));
        assert_non_null(strstr(text, "\nsecret-0\n"));
        assert_non_null(strstr(text, "\nsecret-1249\n"));
}

static void test_few_restricted_licenses_are_told_in_one_signal(void **state) {
        World *world = *state;
        BackupResult result;

        put_restricted(world, "secret-1");
        put_restricted(world, "secret-2");
        run_good(world, new_plan(world), &result);
        assert_int_equal(world->n_signals, 1);
        assert_int_equal(world->n_signalled, 2);
}

static int new_target(void) {
        int fd = memfd_create("target", MFD_CLOEXEC);

        assert_true(fd >= 0);
        return fd;
}

/* A plan that writes to a copy of fd, for the plan closes its own. */
static BackupPlan plan_to(World *world, int fd) {
        BackupPlan plan = new_plan(world);

        plan.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        assert_true(plan.fd >= 0);
        return plan;
}

static void test_backup_of_all_users_has_a_folder_for_each(void **state) {
        const StoreOwner nameless = { 1002, "" }, odd = { 1003, "a/../b" };
        World *world = *state;
        _cleanup_fd_ int fd = new_target();
        BackupPlan plan = plan_to(world, fd);
        BackupResult result;

        put(world->store, &bob, "b", "bob's");
        put(world->store, &alice, "a", "alice's");
        put(world->store, &alice, "a2", "alice's");
        put(world->store, &nameless, "n", "n");
        put(world->store, &odd, "o", "o");
        plan.all_users = true;
        run_good(world, plan, &result);
        assert_int_equal(result.licenses, 5);
        assert_proved(fd, &result);
        assert_paths(fd, "README.txt\nmanifest.json\nstate.jsonl\nlicenses/unnamed/0000001-n.bin\n"
                         "licenses/a_.._b/0000002-o.bin\nlicenses/alice/0000003-a.bin\n"
                         "licenses/alice/0000004-a2.bin\nlicenses/bob/0000005-b.bin\nEND.json\n");
        assert_content(fd, "state.jsonl",
                "{\"owner\":\"\",\"id\":\"n\",\"generation\":1,\"counters\":{}}\n"
                "{\"owner\":\"a/../b\",\"id\":\"o\",\"generation\":1,\"counters\":{}}\n"
                "{\"owner\":\"alice\",\"id\":\"a\",\"generation\":1,\"counters\":{}}\n"
                "{\"owner\":\"alice\",\"id\":\"a2\",\"generation\":1,\"counters\":{}}\n"
                "{\"owner\":\"bob\",\"id\":\"b\",\"generation\":1,\"counters\":{}}\n");
}

static void test_backup_of_another_owner_holds_that_owners_only(void **state) {
        World *world = *state;
        _cleanup_fd_ int fd = new_target();
        BackupPlan plan = plan_to(world, fd);
        BackupResult result;

        put(world->store, &alice, "a", "d");
        put(world->store, &bob, "b", "d");
        plan.owner = bob.uid;
        run_good(world, plan, &result);
        assert_paths(fd, "README.txt\nmanifest.json\nstate.jsonl\nlicenses/0000001-b.bin\nEND.json\n");
}

/* Who has the number of a deleted user gets none of that user's licenses. */
static void test_own_backup_goes_by_number_and_name(void **state) {
        const StoreOwner former = { 1000, "former" };
        World *world = *state;
        BackupResult result;

        put(world->store, &former, "theirs", "d");
        put(world->store, &alice, "mine", "d");
        run_good(world, new_plan(world), &result);
        assert_int_equal(result.licenses, 1);
}

static void test_backup_that_is_there_stays_without_overwrite(void **state) {
        World *world = *state;
        g_auto(Error) error = {};

        write_path(world->target, OLD_BACKUP, strlen(OLD_BACKUP));
        put_some(world, 3, 10);
        assert_int_equal(run(world, new_plan(world), NULL, &error), ERROR_BACKUP_EXISTS);
        assert_error(&error, ERROR_BACKUP_EXISTS, "WM_BACKUP_OVERWRITE");
        assert_int_equal(world->n_begins, 0);
        assert_old_backup(world);
}

static void make_old_backup(World *world) {
        write_path(world->target, OLD_BACKUP, strlen(OLD_BACKUP));
}

static void test_backup_that_appears_meanwhile_stays_without_overwrite(void **state) {
        World *world = *state;
        g_auto(Error) error = {};

        put_some(world, 3, 10);
        world->at_begin = make_old_backup;
        assert_int_equal(run(world, new_plan(world), NULL, &error), ERROR_BACKUP_EXISTS);
        assert_old_backup(world);
}

static void test_overwrite_replaces_the_backup(void **state) {
        World *world = *state;
        BackupPlan plan = new_plan(world);
        BackupResult result;

        make_old_backup(world);
        put_some(world, 3, 10);
        plan.overwrite = true;
        run_good(world, plan, &result);
        assert_path_proved(world->target, &result);
        assert_nothing_left(world);
}

/* Runs an overwriting backup that fails, over an old one. */
static void assert_fails(World *world, ErrorCode code, const char *words) {
        BackupPlan plan = new_plan(world);
        g_auto(Error) error = {};
        BackupResult result = { .licenses = 77 };

        make_old_backup(world);
        plan.overwrite = true;
        assert_int_equal(run(world, plan, &result, &error), code);
        assert_error(&error, code, words);
        assert_int_equal(result.licenses, 77);
        assert_old_backup(world);
}

static void test_cancel_at_the_beginning_leaves_the_old_backup(void **state) {
        World *world = *state;

        put_some(world, 10, 1000);
        world->cancel_at_begin = true;
        assert_fails(world, ERROR_CANCELED, "Enough.");
        assert_int_equal(world->completed, 0);
}

static void test_cancel_between_licenses_leaves_the_old_backup(void **state) {
        World *world = *state;

        put_some(world, 10, 1000);
        world->cancel_at = 5;
        assert_fails(world, ERROR_CANCELED, "Enough.");
        assert_int_equal(world->completed, 5);
}

static void test_cancel_while_verifying_leaves_the_old_backup(void **state) {
        World *world = *state;

        put_some(world, 10, 1000);
        world->cancel_at_percent = 75;
        assert_fails(world, ERROR_CANCELED, "Enough.");
        assert_int_equal(world->completed, 10);
}

static void test_cancel_before_a_backup_of_nothing_leaves_the_old_backup(void **state) {
        World *world = *state;

        world->cancel_at_begin = true;
        assert_fails(world, ERROR_CANCELED, "Enough.");
}

static void test_cancel_while_delivering_ends_the_copy(void **state) {
        World *world = *state;
        _cleanup_fd_ int fd = new_target();
        g_auto(Error) error = {};

        put_some(world, 10, 100000);
        world->cancel_at_percent = 61;
        assert_int_equal(run(world, plan_to(world, fd), NULL, &error), ERROR_CANCELED);
        assert_in_range(lseek(fd, 0, SEEK_END), 1, 999999);
        assert_nothing_left(world);
}

static void edit(World *world, const char *sql) {
        g_autofree char *path = g_build_filename(world->folder, "licenses.db", NULL);
        sqlite3 *db;

        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void test_rotten_document_is_named_and_the_old_backup_stays(void **state) {
        World *world = *state;

        put_some(world, 5, 100);
        edit(world, "UPDATE documents SET document = x'00' WHERE key = (SELECT key FROM licenses WHERE id = 'some-3')");
        assert_fails(world, ERROR_STORE_CORRUPT, "'some-3'");
}

/* A restricted one that is rotten is rotten all the same. */
static void test_rotten_restricted_document_is_named(void **state) {
        World *world = *state;

        put_restricted(world, "secret-1");
        edit(world, "DELETE FROM documents");
        assert_fails(world, ERROR_STORE_CORRUPT, "'secret-1'");
}

static void put_one_more(World *world) {
        put(world->store, &alice, "late", "d");
        edit(world, "UPDATE licenses SET generation = 9");
}

static void test_backup_is_of_one_moment(void **state) {
        World *world = *state;
        g_autofree char *state_lines = NULL, *paths = NULL;
        _cleanup_fd_ int fd = -1;
        BackupResult result;

        put_some(world, 3, 10);
        world->at_begin = put_one_more;
        run_good(world, new_plan(world), &result);
        assert_int_equal(result.licenses, 3);
        fd = open(world->target, O_RDONLY | O_CLOEXEC);
        paths = list(fd, "state.jsonl", &state_lines);
        assert_null(strstr(state_lines, "late"));
        assert_null(strstr(state_lines, ":9,"));
}

static void test_backup_too_large_for_the_file_system_leaves_the_old_one(void **state) {
        struct rlimit before, limit;
        World *world = *state;

        put_some(world, 40, 10000);
        signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
        limit = before;
        limit.rlim_cur = 200000;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        assert_fails(world, ERROR_MEDIUM, "A backup that was there before is unchanged.");
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
}

/* Mounts a small disk on alice's folder; only this thread and its descendants see it. */
static void mount_disk(World *world) {
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("tmpfs", world->own, "tmpfs", 0, "size=256k,mode=700") < 0) {
                print_message("Skipped: mounting a file system needs root.\n");
                skip();
        }
}

static void test_full_disk_leaves_the_old_backup(void **state) {
        World *world = *state;

        put_some(world, 40, 10000);
        mount_disk(world);
        assert_fails(world, ERROR_MEDIUM, g_strerror(ENOSPC));
        assert_int_equal(umount(world->own), 0);
}

static void test_disk_that_is_full_to_the_last_keeps_the_reserve(void **state) {
        StoreLimits limits = no_limits;
        World *world = *state;

        put(world->store, &alice, "a", "d");
        limits.minimum_free_percent = 100;
        store_set_limits(world->store, &limits);
        assert_fails(world, ERROR_LIMIT_EXCEEDED, "MinimumFreePercent=");
}

static void test_descriptor_of_a_file_gets_the_backup(void **state) {
        World *world = *state;
        _cleanup_fd_ int fd = new_target();
        BackupResult result;

        put_some(world, 20, 50000);
        run_good(world, plan_to(world, fd), &result);
        assert_proved(fd, &result);
        assert_int_equal(count_entries(world->own), 0);
        assert_nothing_left(world);
}

static void test_descriptor_that_is_no_target_is_refused_before_it_begins(void **state) {
        World *world = *state;
        _cleanup_fd_ int fd = new_target();
        g_auto(Error) error = {};

        assert_int_equal(write(fd, "x", 1), 1);
        assert_int_equal(run(world, plan_to(world, fd), NULL, &error), ERROR_BACKUP_EXISTS);
        assert_int_equal(world->n_begins, 0);
        assert_int_equal(lseek(fd, 0, SEEK_END), 1);
}

static void *drain(void *userdata) {
        const int *fds = userdata;
        char buffer[4096];
        ssize_t n;

        while ((n = read(fds[0], buffer, sizeof buffer)) > 0)
                if (write(fds[1], buffer, (size_t)n) != n)
                        break;
        return NULL;
}

static void test_pipe_gets_the_backup(void **state) {
        World *world = *state;
        _cleanup_fd_ int file = new_target();
        BackupResult result;
        pthread_t thread;
        int fds[2];

        put_some(world, 20, 50000);
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_int_equal(pthread_create(&thread, NULL, drain, (int[]) { fds[0], file }), 0);
        run_good(world, plan_to(world, fds[1]), &result);
        close(fds[1]);
        pthread_join(thread, NULL);
        close(fds[0]);
        assert_proved(file, &result);
}

static void set_path(World *world, const char *path) {
        g_autofree char *file = g_build_filename(world->folder, "licenses.db", NULL);
        g_autoptr(StoreConnection) connection = NULL;
        g_auto(Error) error = {};

        assert_good(store_connection_open(file, true, &connection, &error), &error);
        assert_good(store_property_set(connection, &alice, "BackupPath", path, &error), &error);
}

static void test_backup_path_in_a_configured_root_is_used(void **state) {
        World *world = *state;
        g_autofree char *folder = make_folder(world->root, "1000/usb");
        g_autofree char *target = g_build_filename(folder, FOLDER_BACKUP_NAME, NULL);
        BackupResult result;

        put_some(world, 3, 10);
        set_path(world, folder);
        run_good(world, new_plan(world), &result);
        assert_path_proved(target, &result);
        assert_int_equal(count_entries(world->own), 0);
}

/* A disk that is not mounted: nothing may be made below its mount point. */
static void test_missing_folder_in_a_configured_root_is_not_made(void **state) {
        World *world = *state;
        g_autofree char *folder = g_build_filename(world->root, "1000", NULL);
        g_auto(Error) error = {};

        set_path(world, folder);
        assert_int_equal(run(world, new_plan(world), NULL, &error), ERROR_MEDIUM);
        assert_error(&error, ERROR_MEDIUM, folder);
        assert_int_equal(access(folder, F_OK), -1);
}

static void test_backup_path_elsewhere_is_denied(void **state) {
        World *world = *state;
        const char *const paths[] = { "/tmp", "/", "/etc", world->root, world->folder };
        g_autofree char *bobs = make_folder(world->root, "1001");
        g_autofree char *longer = make_folder(world->root, "10001");
        g_autofree char *detour = g_strconcat(world->root, "/1000/../1001", NULL);

        for (size_t i = 0; i < G_N_ELEMENTS(paths) + 3; i++) {
                const char *const more[] = { bobs, longer, detour };
                g_auto(Error) error = {};

                set_path(world, i < G_N_ELEMENTS(paths) ? paths[i] : more[i - G_N_ELEMENTS(paths)]);
                assert_int_equal(run(world, new_plan(world), NULL, &error), ERROR_ACCESS_DENIED);
                assert_error(&error, ERROR_ACCESS_DENIED, "BackupLicensesToFile");
        }
}

static void test_link_in_the_backup_path_is_denied(void **state) {
        World *world = *state;
        g_autofree char *bobs = make_folder(world->root, "1001");
        g_autofree char *own = make_folder(world->root, "1000");
        g_autofree char *link = g_build_filename(own, "link", NULL);
        g_auto(Error) error = {};

        assert_int_equal(symlink(bobs, link), 0);
        set_path(world, link);
        assert_int_equal(run(world, new_plan(world), NULL, &error), ERROR_ACCESS_DENIED);
        assert_error(&error, ERROR_ACCESS_DENIED, "link");
        assert_int_equal(count_entries(bobs), 0);
}

static int open_backup(World *world, int *ret_fd, Error *error) {
        char *roots[] = { world->root, NULL };

        return backup_open(world->store, roots, &alice, ret_fd, error);
}

static void test_backup_is_opened_for_reading(void **state) {
        World *world = *state;
        _cleanup_fd_ int fd = -1;
        g_auto(Error) error = {};
        BackupResult result;

        assert_int_equal(open_backup(world, &fd, &error), ERROR_BACKUP_CORRUPT);
        assert_error(&error, ERROR_BACKUP_CORRUPT, "no backup");
        error_clear(&error);
        assert_int_equal(rmdir(world->own), 0);
        assert_int_equal(open_backup(world, &fd, &error), ERROR_BACKUP_CORRUPT);
        error_clear(&error);

        put_some(world, 3, 10);
        run_good(world, new_plan(world), &result);
        assert_good(open_backup(world, &fd, &error), &error);
        assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
        assert_proved(fd, &result);
}

static void assert_not_opened(World *world) {
        g_auto(Error) error = {};
        int fd = -1;

        assert_int_equal(open_backup(world, &fd, &error), ERROR_ACCESS_DENIED);
        assert_error(&error, ERROR_ACCESS_DENIED, "not a backup that the service made");
        assert_int_equal(fd, -1);
        assert_int_equal(remove(world->target), 0);
}

static void test_what_only_has_the_name_of_a_backup_is_not_opened(void **state) {
        World *world = *state;
        g_autofree char *secret = g_build_filename(world->folder, "licenses.db", NULL);

        assert_int_equal(symlink(secret, world->target), 0);
        assert_not_opened(world);
        assert_int_equal(link(secret, world->target), 0);
        assert_not_opened(world);
        assert_int_equal(mkfifo(world->target, 0600), 0);
        assert_not_opened(world);
        assert_int_equal(mkdir(world->target, 0700), 0);
        assert_not_opened(world);
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_backup_to_the_own_folder_is_whole),
                IN_WORLD(test_backup_of_nothing_is_a_whole_backup),
                IN_WORLD(test_own_folder_is_made_where_it_is_missing),
                IN_WORLD(test_backup_holds_what_it_should),
                IN_WORLD(test_restricted_licenses_are_left_out_and_told),
                IN_WORLD(test_few_restricted_licenses_are_told_in_one_signal),
                IN_WORLD(test_backup_of_all_users_has_a_folder_for_each),
                IN_WORLD(test_backup_of_another_owner_holds_that_owners_only),
                IN_WORLD(test_own_backup_goes_by_number_and_name),
                IN_WORLD(test_backup_that_is_there_stays_without_overwrite),
                IN_WORLD(test_backup_that_appears_meanwhile_stays_without_overwrite),
                IN_WORLD(test_overwrite_replaces_the_backup),
                IN_WORLD(test_cancel_at_the_beginning_leaves_the_old_backup),
                IN_WORLD(test_cancel_between_licenses_leaves_the_old_backup),
                IN_WORLD(test_cancel_while_verifying_leaves_the_old_backup),
                IN_WORLD(test_cancel_before_a_backup_of_nothing_leaves_the_old_backup),
                IN_WORLD(test_cancel_while_delivering_ends_the_copy),
                IN_WORLD(test_rotten_document_is_named_and_the_old_backup_stays),
                IN_WORLD(test_rotten_restricted_document_is_named),
                IN_WORLD(test_backup_is_of_one_moment),
                IN_WORLD(test_backup_too_large_for_the_file_system_leaves_the_old_one),
                IN_WORLD(test_full_disk_leaves_the_old_backup),
                IN_WORLD(test_disk_that_is_full_to_the_last_keeps_the_reserve),
                IN_WORLD(test_descriptor_of_a_file_gets_the_backup),
                IN_WORLD(test_descriptor_that_is_no_target_is_refused_before_it_begins),
                IN_WORLD(test_pipe_gets_the_backup),
                IN_WORLD(test_backup_path_in_a_configured_root_is_used),
                IN_WORLD(test_missing_folder_in_a_configured_root_is_not_made),
                IN_WORLD(test_backup_path_elsewhere_is_denied),
                IN_WORLD(test_link_in_the_backup_path_is_denied),
                IN_WORLD(test_backup_is_opened_for_reading),
                IN_WORLD(test_what_only_has_the_name_of_a_backup_is_not_opened),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
