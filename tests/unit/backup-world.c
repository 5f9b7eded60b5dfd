/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "backup-world.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "archive.h"
#include "store-connection.h"
#include "tarball.h"

const StoreOwner alice = { 1000, "alice" };
const StoreOwner bob = { 1001, "bob" };

char *make_folder(const char *path, const char *name) {
        char *folder = g_build_filename(path, name, NULL);

        assert_int_equal(g_mkdir_with_parents(folder, 0700), 0);
        return folder;
}

int world_setup(void **state) {
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

int world_teardown(void **state) {
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

static void on_moved(void *userdata) {
        World *world = userdata;

        if (world->at_moved)
                world->at_moved(world);
}

static void on_settling(void *userdata) {
}

static void on_outside(bool outside, void *userdata) {
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

BackupPlan new_plan(World *world) {
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

int new_target(void) {
        int fd = memfd_create("target", MFD_CLOEXEC);

        assert_true(fd >= 0);
        return fd;
}

BackupPlan plan_to(World *world, int fd) {
        BackupPlan plan = new_plan(world);

        plan.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        assert_true(plan.fd >= 0);
        return plan;
}

Backup *new_backup(World *world, BackupPlan plan) {
        Backup *backup;

        assert_int_equal(backup_new(&plan, world->cancel, &backup), 0);
        assert_int_equal(plan.fd, -1);
        return backup;
}

int run_backup(World *world, Backup *backup, WorkResult *ret, Error *error) {
        const WorkEvents events = {
                .begin = on_begin,
                .restricted = on_restricted,
                .watched = on_outside,
                .settling = on_settling,
                .outside = on_outside,
                .in_store = on_outside,
                .moved = on_moved,
                .progress = on_progress,
                .userdata = world,
        };

        return backup_run(backup, &events, ret, error);
}

int run(World *world, BackupPlan plan, WorkResult *ret, Error *error) {
        g_autoptr(Backup) backup = new_backup(world, plan);
        WorkResult ignored;
        int r;

        r = backup_check(backup, error);
        if (r == 0)
                r = run_backup(world, backup, ret ?: &ignored, error);
        assert_int_equal(r, error->code);
        assert_false(world->wrong);
        return r;
}

void run_good(World *world, BackupPlan plan, WorkResult *ret) {
        g_auto(Error) error = {};

        assert_good(run(world, plan, ret, &error), &error);
        assert_true(ret->verified);
        assert_int_equal(world->n_begins, 1);
        assert_int_equal(ret->licenses + ret->restricted, world->total);
}

void put_restricted(World *world, const char *id) {
        g_auto(Deed) deed = { .work = deed_put, .owner = alice, .id = id, .document = "secret",
                .restricted = true };

        assert_good(deed_do(&deed, world->store), &deed.task.error);
}

void put_some(World *world, unsigned n, size_t size) {
        g_autofree char *document = g_strnfill(size, 'd');

        for (unsigned i = 0; i < n; i++) {
                g_autofree char *id = g_strdup_printf("some-%u", i);
                put(world->store, &alice, id, document);
        }
}

void edit_store(World *world, const char *sql) {
        g_autofree char *path = g_build_filename(world->folder, "licenses.db", NULL);
        sqlite3 *db;

        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        /* A restore that has ended is still tidied away. */
        assert_int_equal(sqlite3_busy_timeout(db, 10000), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

void reopen_store(World *world) {
        g_auto(Error) error = {};

        store_free(world->store);
        assert_good(store_open(world->folder, &no_limits, &world->store, &error), &error);
}

void copy_store(World *world) {
        g_autofree char *sql = g_strdup_printf("VACUUM INTO '%s/copy'", world->folder);

        edit_store(world, sql);
}

void put_store_back(World *world) {
        g_autofree char *path = g_build_filename(world->folder, "licenses.db", NULL);
        g_autofree char *copy = g_build_filename(world->folder, "copy", NULL);
        g_auto(Error) error = {};

        /* It has taken its WAL with it. */
        store_free(world->store);
        assert_int_equal(rename(copy, path), 0);
        assert_good(store_open(world->folder, &no_limits, &world->store, &error), &error);
}

unsigned count_entries(const char *path) {
        DIR *entries = opendir(path);
        unsigned n = 0;

        assert_non_null(entries);
        while (readdir(entries))
                n++;
        closedir(entries);
        return n - 2; /* without "." and ".." */
}

void assert_nothing_left(World *world) {
        assert_int_equal(count_entries(world->own), access(world->target, F_OK) == 0 ? 1 : 0);
        for (unsigned i = 0; i < 2; i++) {
                GDir *dir = g_dir_open(i ? world->folder : world->own, 0, NULL);

                for (const char *name; (name = g_dir_read_name(dir));)
                        assert_null(strstr(name, "partial"));
                g_dir_close(dir);
        }
}

void assert_proved(int fd, const WorkResult *result) {
        g_auto(Error) error = {};
        ArchiveCounts counts;

        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        assert_good(tarball_prove(fd, UINT64_MAX, -1, NULL, NULL, NULL, &counts, &error), &error);
        assert_int_equal(counts.licenses, result->licenses);
        assert_int_equal(counts.restricted, result->restricted);
        assert_int_equal(counts.bytes, result->bytes);
        assert_int_equal(lseek(fd, 0, SEEK_END), result->bytes);
}

void assert_path_proved(const char *path, const WorkResult *result) {
        _cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        struct stat st;

        assert_true(fd >= 0);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_int_equal(st.st_nlink, 1);
        assert_proved(fd, result);
}

char *backup_list(int fd, const char *wanted, char **ret_content) {
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

void make_old_backup(World *world) {
        write_path(world->target, OLD_BACKUP, strlen(OLD_BACKUP));
}

void assert_old_backup(World *world) {
        g_autoptr(GBytes) bytes = read_path(world->target);

        assert_int_equal(g_bytes_get_size(bytes), strlen(OLD_BACKUP));
        assert_memory_equal(g_bytes_get_data(bytes, NULL), OLD_BACKUP, strlen(OLD_BACKUP));
        assert_nothing_left(world);
}

void assert_backup_fails(World *world, ErrorCode code, const char *words) {
        BackupPlan plan = new_plan(world);
        g_auto(Error) error = {};
        WorkResult result = { .licenses = 77 };

        plan.overwrite = true;
        assert_int_equal(run(world, plan, &result, &error), code);
        assert_error(&error, code, words);
        assert_int_equal(result.licenses, 77);
        assert_old_backup(world);
}

void assert_fails(World *world, ErrorCode code, const char *words) {
        make_old_backup(world);
        assert_backup_fails(world, code, words);
}

void forget(World *world) {
        world->n_begins = world->n_progress = world->n_signals = world->percent = 0;
        world->completed = 0;
}
