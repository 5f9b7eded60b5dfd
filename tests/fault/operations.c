/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "operations.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <sqlite3.h>

#define OVERWRITE 1U
#define ROOT_FOLDER "media/%u"
#define TO_FILE "LicenseBackup.BackupLicensesToFile"
#define FROM_FILE "LicenseRestore.RestoreLicensesFromFile"
/* Enough for a backup to take several writes, and for a store to grow. */
#define DOCUMENT_SIZE 40000U

/* Beginnings. What is stored here was acknowledged, and must be there whatever comes. */

static void store(World *world, const char *id, size_t size, uint32_t seed) {
        g_autofree uint8_t *document = make_document(size, seed);

        g_free(store_license(world->user, document, size, "a{sv}", 2, "LicenseId", "s", id, "Counters", "a{st}", 1,
                "print", UINT64_C(9)));
}

static void prepare_some(World *world) {
        store(world, "book", DOCUMENT_SIZE, 1);
        store(world, "film", DOCUMENT_SIZE, 2);
        store(world, "deleted", 100, 3);
        store(world, "revoked", 100, 4);
        g_free(store_license(world->user, "x", 1, "a{sv}", 2, "LicenseId", "s", "restricted", "AllowBackup", "b", 0));
        call_void(world->user, ROOT, "LicenseStore.DeleteLicense", "s", "deleted");
        call_void(world->user, ROOT, "LicenseStore.RevokeLicense", "s", "revoked");
}

static void change_database(const char *path, const char *sql) {
        sqlite3 *db = NULL;

        assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void back_up(World *world) {
        g_autofree char *job = call_string(world->user, ROOT, "LicenseBackup.BackupLicenses", "u", 0);

        g_hash_table_unref(assert_job_succeeds(world->user, job));
}

static void prepare_old_backup(World *world) {
        prepare_some(world);
        back_up(world);
        store(world, "new", DOCUMENT_SIZE, 5);
}

/* Some blocks of proved-file.c, and so its threads, and no cache. */
static void prepare_large(World *world) {
        prepare_some(world);
        for (uint32_t i = 0; i < 40; i++) {
                g_autofree char *id = g_strdup_printf("large-%u", i);

                store(world, id, 3 * DOCUMENT_SIZE / 2, 10 + i);
        }
        back_up(world);
        store(world, "new", DOCUMENT_SIZE, 5);
}

static void use_root(World *world) {
        g_autofree char *path = world_path(world, ROOT_FOLDER);

        call_void(world->user, ROOT, "BackupRestoreProps.SetProp", "sv", "BackupPath", "s", path);
}

static void prepare_root(World *world) {
        prepare_some(world);
        use_root(world);
}

static void prepare_root_old(World *world) {
        prepare_root(world);
        back_up(world);
        store(world, "new", DOCUMENT_SIZE, 5);
}

/* Another store has the place of the one that the backup is of. */
static void set_store_id(World *world, char digit) {
        g_autofree char *path = g_build_filename(world->h->state, "licenses.db", NULL), *id = g_strnfill(32, digit),
                        *sql = g_strdup_printf("UPDATE identity SET id = '%s'", id);

        assert_true(world_stop(world));
        change_database(path, sql);
}

static void prepare_lost(World *world) {
        set_store_id(world, 'a');
        assert_true(world_start(world, NULL));
        back_up(world);
        store(world, "new", DOCUMENT_SIZE, 5);
        set_store_id(world, 'b');
}

static void prepare_other_store(World *world) {
        prepare_some(world);
        prepare_lost(world);
}

static void prepare_root_other_store(World *world) {
        prepare_root(world);
        prepare_lost(world);
}

/* A restore has something of all kinds to do. */
static void change(World *world) {
        store(world, "after", 500, 6);
        call_void(world->user, ROOT, "LicenseStore.DeleteLicense", "s", "film");
        call_void(world->user, ROOT, "LicenseStore.ConsumeRight", "sst", "book", "print", UINT64_C(2));
}

static void prepare_restore(World *world) {
        prepare_some(world);
        back_up(world);
        change(world);
}

/* The same, with the backup where the client has it. */
static void prepare_restore_file(World *world) {
        g_autofree char *copy = world_path(world, "pristine/backup.tar");
        _cleanup_message_ sd_bus_message *reply = NULL;
        char buffer[65536];
        ssize_t n;
        int from, to;

        prepare_restore(world);
        reply = call(world->user, ROOT, "LicenseBackup.OpenBackup", "");
        assert_true(sd_bus_message_read(reply, "h", &from) > 0);
        to = open(copy, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_true(to >= 0);
        while ((n = read(from, buffer, sizeof buffer)) > 0)
                assert_int_equal(write(to, buffer, (size_t)n), n);
        close(to);
}

/* Two users, for root. */
static void prepare_users(World *world) {
        prepare_some(world);
        g_free(store_license(world->other, "x", 1, "a{sv}", 2, "LicenseId", "s", "book", "Counters", "a{st}", 1,
                "print", UINT64_C(2)));
        g_free(store_license(world->other, "y", 1, "a{sv}", 1, "LicenseId", "s", "song"));
}

static void back_up_all(World *world, const char *name) {
        g_autofree char *path = world_path(world, name);
        int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        g_autofree char *job = NULL;

        assert_true(fd >= 0);
        job = call_string(world->root, ROOT, TO_FILE, "hua{sv}", fd, 0, 1, "AllUsers", "b", 1);
        g_hash_table_unref(assert_job_succeeds(world->root, job));
        close(fd);
}

static void prepare_restore_all(World *world) {
        prepare_users(world);
        back_up_all(world, "pristine/backup.tar");
        change(world);
        call_void(world->other, ROOT, "LicenseStore.DeleteLicense", "s", "song");
}

/* Of one whose account is gone: more than a purge removes at once. */
#define GONE_LICENSES 1002U

/* The account of the second user goes: what is its is kept under a name that nobody has. */
static void make_gone(World *world, unsigned licenses) {
        g_autofree char *path = g_build_filename(world->h->state, "licenses.db", NULL),
                        *sql = g_strdup_printf("UPDATE owners SET name = 'gone' WHERE uid = %u",
                                (unsigned)world->h->users[1]);

        prepare_some(world);
        store(world, "both", 100, 7);
        store_many(world->other, "theirs", licenses - 1, 20);
        g_free(store_license(world->other, "y", 1, "a{sv}", 1, "LicenseId", "s", "alone"));
        /* As the user has: one who has not would keep both from being one. */
        g_free(store_license(world->other, "z", 1, "a{sv}", 1, "LicenseId", "s", "revoked"));
        call_void(world->other, ROOT, "LicenseStore.RevokeLicense", "s", "revoked");
        assert_true(world_stop(world));
        change_database(path, sql);
}

static void prepare_reassign(World *world) {
        make_gone(world, 3);
}

static void prepare_purge(World *world) {
        make_gone(world, GONE_LICENSES);
}

/* The operations. */

static bool try_store(World *world, Outcome *ret, const char *id, size_t size, uint32_t seed) {
        g_autofree uint8_t *document = make_document(size, seed);
        sd_bus_message *message = new_call(world->user, ROOT, "LicenseStore.StoreLicense");
        unsigned acknowledged = ret->acknowledged;

        assert_true(sd_bus_message_append_array(message, 'y', document, size) >= 0);
        assert_true(sd_bus_message_append(message, "a{sv}", 2, "LicenseId", "s", id, "Counters", "a{st}", 1, "print",
                            UINT64_C(3)) >= 0);
        if (!attempt_message(world, ret, NULL, message)) {
                ret->acknowledged = acknowledged;
                return false;
        }
        ret->acknowledged = acknowledged + 1;
        return ret->acknowledged != world->step_limit;
}

static void run_store(World *world, Outcome *ret) {
        (void)(try_store(world, ret, "one", 300, 11) && try_store(world, ret, "two", DOCUMENT_SIZE, 12) &&
                try_store(world, ret, "one", 200, 13));
}

static void run_change(World *world, Outcome *ret) {
        static const char *const members[] = { "LicenseStore.DeleteLicense", "LicenseStore.RevokeLicense" };
        static const char *const ids[] = { "book", "film" };

        for (unsigned i = 0; i < 2; i++) {
                if (!attempt(world, ret, NULL, ROOT, members[i], "s", ids[i]))
                        return;
                if (++ret->acknowledged == world->step_limit)
                        return;
        }
}

static void run_consume(World *world, Outcome *ret) {
        for (unsigned i = 0; i < 2; i++) {
                if (!attempt(world, ret, NULL, ROOT, "LicenseStore.ConsumeRight", "sst", "book", "print",
                            UINT64_C(2)))
                        return;
                if (++ret->acknowledged == world->step_limit)
                        return;
        }
}

static void run_backup(World *world, Outcome *ret) {
        (void)attempt_job(world, ret, "LicenseBackup.BackupLicenses", "u", 0);
}

static void run_overwrite(World *world, Outcome *ret) {
        (void)attempt_job(world, ret, "LicenseBackup.BackupLicenses", "u", OVERWRITE);
}

/* From now on the daemon knows the BackupPath, and answers before there is a thread. */
static void warm_path(World *world) {
        call_void(world->user, ROOT, "LicenseBackup.OpenBackup", "");
}

static void run_backup_file(World *world, Outcome *ret) {
        g_autofree char *path = world_path(world, "client/new.tar");
        int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        (void)attempt_job(world, ret, TO_FILE, "hua{sv}", fd, 0, 0);
        close(fd);
}

static void make_stream(bool is_socket, int fds[2]) {
        assert_int_equal(is_socket ? socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) : pipe2(fds, O_CLOEXEC), 0);
}

static void run_backup_stream(World *world, Outcome *ret, bool is_socket) {
        g_autofree char *path = world_path(world, "client/new.tar");
        int fds[2];

        make_stream(is_socket, fds);
        world_copy_from(world, fds[0], fds[1], path);
        (void)attempt_job(world, ret, TO_FILE, "hua{sv}", fds[1], 0, 0);
        close(fds[1]);
        world_end_copy(world);
}

static void run_backup_pipe(World *world, Outcome *ret) {
        run_backup_stream(world, ret, false);
}

static void run_backup_socket(World *world, Outcome *ret) {
        run_backup_stream(world, ret, true);
}

static void run_restore(World *world, Outcome *ret) {
        (void)attempt_job(world, ret, "LicenseRestore.RestoreLicenses", "u", 0);
}

static void run_restore_file(World *world, Outcome *ret) {
        g_autofree char *path = world_path(world, "pristine/backup.tar");
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        (void)attempt_job(world, ret, FROM_FILE, "hua{sv}", fd, 0, 0);
        close(fd);
}

static void run_restore_stream(World *world, Outcome *ret, bool is_socket) {
        g_autofree char *path = world_path(world, "pristine/backup.tar");
        int fds[2];

        make_stream(is_socket, fds);
        world_copy_to(world, path, fds[1], fds[0]);
        (void)attempt_job(world, ret, FROM_FILE, "hua{sv}", fds[0], 0, 0);
        close(fds[0]);
        world_end_copy(world);
}

static void run_restore_pipe(World *world, Outcome *ret) {
        run_restore_stream(world, ret, false);
}

static void run_restore_socket(World *world, Outcome *ret) {
        run_restore_stream(world, ret, true);
}

static void run_verify(World *world, Outcome *ret) {
        g_autofree char *path = world_path(world, "pristine/backup.tar");
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        (void)attempt_job(world, ret, "LicenseRestore.VerifyBackup", "h", fd);
        close(fd);
}

/* What is only read. */
static void run_read(World *world, Outcome *ret) {
        if (attempt(world, ret, NULL, ROOT, "LicenseStore.GetLicense", "s", "book") &&
            attempt(world, ret, NULL, ROOT, "LicenseStore.OpenLicense", "s", "film") &&
            attempt(world, ret, NULL, ROOT, "LicenseBackup.OpenBackup", "") &&
            attempt(world, ret, NULL, ROOT, "LicenseStore.EnumerateLicenses", "a{sv}su", 0, "", 10U))
                ret->acknowledged = 1;
}

/* What is root's. */

static void run_backup_all(World *world, Outcome *ret) {
        g_autofree char *path = world_path(world, "client/new.tar");
        int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        world->caller = world->root;
        (void)attempt_job(world, ret, TO_FILE, "hua{sv}", fd, 0, 1, "AllUsers", "b", 1);
        world->caller = world->user;
        close(fd);
}

static void run_restore_all(World *world, Outcome *ret) {
        g_autofree char *path = world_path(world, "pristine/backup.tar");
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        world->caller = world->root;
        (void)attempt_job(world, ret, FROM_FILE, "hua{sv}", fd, 0, 1, "AllUsers", "b", 1);
        world->caller = world->user;
        close(fd);
}

static void run_reassign(World *world, Outcome *ret) {
        world->caller = world->root;
        if (attempt(world, ret, NULL, ROOT, "Manager.ReassignLicenses", "usu", (uint32_t)world->h->users[1], "gone",
                    (uint32_t)world->h->users[0]))
                ret->acknowledged = 1;
        world->caller = world->user;
}

static void run_purge(World *world, Outcome *ret) {
        world->caller = world->root;
        if (attempt(world, ret, NULL, ROOT, "Manager.PurgeLicenses", "us", (uint32_t)world->h->users[1], "gone"))
                ret->acknowledged = 1;
        world->caller = world->user;
}

/* A purge that fails on its way says what it has removed. */
static void check_purge(World *world, const Outcome *outcome) {
        g_autofree char *owners = NULL, *left = NULL;

        if (!outcome->error || !(owners = world_describe_owners(world)))
                return;
        left = g_strdup_printf(" gone: %u licenses", GONE_LICENSES);
        if (!strstr(owners, left) != !!strstr(outcome->message, "licenses are removed, and the rest is as it was"))
                complain(world, "It says '%s', and there is:\n%s", outcome->message, owners);
}

/* Starts. The first call is part of it: it looks up who calls. */
static void run_start(World *world, Outcome *ret) {
        int status = -1;

        if (!world_start(world, &status)) {
                ret->error = g_strdup("");
                ret->status = status;
                return;
        }
        if (attempt(world, ret, NULL, ROOT, "LicenseStore.EnumerateLicenses", "a{sv}su", 0, "", 10U))
                ret->acknowledged = 1;
}

/* A daemon that was killed left its WAL, and what a restore had not merged. */
static void prepare_killed(World *world) {
        prepare_some(world);
        harness_kill(world->h);
}

#define NEW_FILE "client/new.tar"
/* How the name begins: the rest is of the machine, too. */
#define ASIDE "licenses-of-former-store-"

const Operation operations[] = {
        { "store", .prepare = prepare_some, .run = run_store },
        { "store-first", .run = run_store, .is_cold = true },
        { "change", .prepare = prepare_some, .run = run_change },
        { "consume", .prepare = prepare_some, .run = run_consume },
        { "backup", .prepare = prepare_some, .run = run_backup, .target = OWN_FOLDER, .licenses = 2 },
        { "backup-over", .prepare = prepare_old_backup, .run = run_overwrite, .target = OWN_FOLDER, .has_old = true,
                .licenses = 3 },
        { "backup-over-known", .prepare = prepare_old_backup, .warm = warm_path, .run = run_overwrite,
                .target = OWN_FOLDER, .has_old = true, .licenses = 3 },
        { "backup-aside", .prepare = prepare_other_store, .run = run_overwrite, .target = OWN_FOLDER, .has_old = true,
                .aside = ASIDE, .licenses = 3 },
        { "backup-large", .prepare = prepare_large, .run = run_overwrite, .target = OWN_FOLDER, .has_old = true,
                .licenses = 43 },
        { "backup-root", .prepare = prepare_root, .run = run_backup, .target = ROOT_FOLDER, .licenses = 2,
                .file_system = FILE_SYSTEM_NO_UNNAMED },
        { "backup-root-over", .prepare = prepare_root_old, .run = run_overwrite, .target = ROOT_FOLDER,
                .has_old = true, .licenses = 3, .file_system = FILE_SYSTEM_NO_UNNAMED },
        { "backup-root-fat", .prepare = prepare_root, .run = run_backup, .target = ROOT_FOLDER, .licenses = 2,
                .file_system = FILE_SYSTEM_FAT },
        { "backup-root-aside", .prepare = prepare_root_other_store, .run = run_overwrite, .target = ROOT_FOLDER,
                .has_old = true, .aside = ASIDE, .is_renamed = true, .licenses = 3 },
        { "backup-file", .prepare = prepare_some, .run = run_backup_file, .new_file = NEW_FILE, .licenses = 2 },
        { "backup-pipe", .prepare = prepare_some, .run = run_backup_pipe, .new_file = NEW_FILE, .licenses = 2 },
        { "backup-socket", .prepare = prepare_some, .run = run_backup_socket, .new_file = NEW_FILE, .licenses = 2 },
        { "restore", .prepare = prepare_restore, .run = run_restore, .sweeps = true,
                .target = OWN_FOLDER, .has_old = true },
        { "restore-file", .prepare = prepare_restore_file, .run = run_restore_file, .sweeps = true,
                .target = OWN_FOLDER, .has_old = true },
        { "restore-pipe", .prepare = prepare_restore_file, .run = run_restore_pipe, .sweeps = true,
                .target = OWN_FOLDER, .has_old = true },
        { "restore-socket", .prepare = prepare_restore_file, .run = run_restore_socket, .sweeps = true,
                .target = OWN_FOLDER, .has_old = true },
        { "verify", .prepare = prepare_restore_file, .run = run_verify, .target = OWN_FOLDER, .has_old = true },
        { "read", .prepare = prepare_old_backup, .run = run_read, .target = OWN_FOLDER, .has_old = true },
        { "root-backup-all", .prepare = prepare_users, .run = run_backup_all, .new_file = NEW_FILE, .licenses = 4,
                .is_roots = true },
        { "root-restore-all", .prepare = prepare_restore_all, .run = run_restore_all, .sweeps = true,
                .is_roots = true },
        { "root-reassign", .prepare = prepare_reassign, .run = run_reassign, .sweeps = true, .is_roots = true },
        { "root-purge", .prepare = prepare_purge, .run = run_purge, .check = check_purge, .is_roots = true },
        { "start", .prepare = prepare_some, .run = run_start, .is_start = true },
        { "start-killed", .prepare = prepare_killed, .run = run_start, .is_start = true },
        { "start-new", .run = run_start, .is_start = true },
};
const unsigned n_operations = G_N_ELEMENTS(operations);
