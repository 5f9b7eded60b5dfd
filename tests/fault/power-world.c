/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "power-world.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>

#include "draft.h"
#include "folder.h"
#include "store.h"

#define MARK_START "start"
#define MARK_BEGIN "begin"
#define MARK_BEGIN_PARTS "begin parts"
#define MARK_END "end"
#define MARK_ACK "ack "
/* Each so many points are opened by the real daemon, in a process of its own, and not by the core in ours. */
#define DAEMON_EVERY 60
#define FAILURES_SHOWN 6

bool power_long;

static void append_record(PowerWorld *world, enum PowerOp op, const char *path, const char *name) {
        g_autofree char *parent = path ? g_path_get_dirname(path) : NULL;
        PowerRecord record = { .op = op, .name_size = (uint32_t)strlen(name) + 1 };
        struct stat st;
        int fd = open(world->log, O_WRONLY | O_APPEND | O_CLOEXEC);

        assert_true(fd >= 0);
        if (path) {
                assert_int_equal(stat(path, &st), 0);
                record.inode = st.st_ino;
                assert_int_equal(stat(parent, &st), 0);
                record.folder = st.st_ino;
        }
        /* The daemon writes nothing between: it waits for us, or we have its answer. */
        g_autoptr(GByteArray) bytes = g_byte_array_new();
        g_byte_array_append(bytes, (const guint8 *)&record, sizeof record);
        g_byte_array_append(bytes, (const guint8 *)name, record.name_size);
        assert_int_equal(write(fd, bytes->data, bytes->len), bytes->len);
        close(fd);
}

static char *make_folder(PowerWorld *world, const char *name, uid_t owner) {
        char *path = g_build_filename(world->disk, name, NULL);
        g_autofree char *base = g_path_get_basename(path);

        assert_int_equal(mkdir(path, 0700), 0);
        if (geteuid() == 0)
                assert_int_equal(chown(path, owner, (gid_t)-1), 0);
        append_record(world, POWER_MKDIR, path, base);
        return path;
}

int power_setup(void **state) {
        PowerWorld *world = g_new0(PowerWorld, 1);
        void *h = NULL;

        harness_setup_bus(&h);
        world->h = h;
        *state = world;
        world->disk = harness_path(h, "disk");
        world->log = harness_path(h, "power-log");
        world->views = g_ptr_array_new_with_free_func((GDestroyNotify)g_hash_table_unref);
        assert_int_equal(mkdir(world->disk, 0700), 0);
        write_file(world->log, "", 0);

        g_free(world->h->state);
        g_free(world->h->media);
        world->h->state = make_folder(world, "state", geteuid());
        world->h->media = make_folder(world, "media", geteuid());
        world->out = make_folder(world, "out", geteuid());
        for (unsigned i = 0; i < world->h->n_users; i++) {
                g_autofree char *name = g_strdup_printf("media/%u", (unsigned)world->h->users[i]);
                g_free(make_folder(world, name, world->h->users[i]));
        }
        harness_set(h, "Backup", "Roots", world->h->media);
        g_setenv(POWER_LOG, world->log, true);
        g_setenv(POWER_ROOT, world->disk, true);
        power_set(POWER_NAMED, NULL);
        power_set(POWER_SLOW, NULL);
        return 0;
}

int power_teardown(void **state) {
        PowerWorld *world = *state;
        void *h = world->h;
        int r;

        power_record(world, false);
        r = harness_teardown(&h);
        g_free(world->disk);
        g_free(world->out);
        g_free(world->log);
        g_ptr_array_unref(world->views);
        g_free(world);
        return r;
}

void power_set(const char *variable, const char *value) {
        if (value)
                g_setenv(variable, value, true);
        else
                g_unsetenv(variable);
}

void power_record(PowerWorld *world, bool on) {
        power_set("LD_PRELOAD", on ? g_getenv("LICENSEVAULT_POWER_RECORDER") : NULL);
}

void power_start(PowerWorld *world) {
        power_record(world, true);
        harness_write_settings(world->h);
        world->h->daemon = harness_spawn(world->h, NULL);
        power_record(world, false);
        for (unsigned i = 0;; i++) {
                g_autofree char *owner = harness_owner(world->h);

                if (owner)
                        return;
                if (i > PATIENCE_SEC * 100)
                        fail_msg("licensevaultd did not take the name org.licensevault1");
                sleep_msec(10);
        }
}

/* What is there */

static const char licenses_sql[] =
        "SELECT 'license ' || uid || ' ' || id, 'generation ' || generation || ' present ' || present || "
        "' revoked ' || (revoked IS NOT NULL) || ' ' || coalesce(hex(digest), '') || ' ' || "
        "coalesce((SELECT group_concat(name || '=' || remaining) FROM counters c WHERE c.key = licenses.key), '') "
        "FROM licenses JOIN owners USING (owner) "
        "UNION ALL SELECT 'property ' || uid || ' ' || properties.name, value "
        "FROM properties JOIN owners USING (owner) "
        "UNION ALL SELECT 'owner ' || uid, licenses || ' ' || remembered || ' ' || bytes "
        "FROM owners WHERE remembered > 0";

static bool look_at_store(const char *path, PowerView *view) {
        sqlite3_stmt *statement = NULL;
        sqlite3 *db = NULL;
        int rc;

        rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL);
        if (rc == SQLITE_OK)
                rc = sqlite3_busy_timeout(db, 10000);
        if (rc == SQLITE_OK)
                rc = sqlite3_prepare_v2(db, licenses_sql, -1, &statement, NULL);
        while (rc == SQLITE_OK && (rc = sqlite3_step(statement)) == SQLITE_ROW) {
                g_hash_table_insert(view, g_strdup((const char *)sqlite3_column_text(statement, 0)),
                        g_strdup((const char *)sqlite3_column_text(statement, 1)));
                rc = SQLITE_OK;
        }
        sqlite3_finalize(statement);
        sqlite3_close(db);
        return rc == SQLITE_DONE;
}

/* All files but the store's own. */
static void look_at_files(const char *top, const char *below, PowerView *view) {
        g_autofree char *path = g_build_filename(top, below, NULL);
        GDir *folder = g_dir_open(path, 0, NULL);
        const char *name;

        assert_non_null(folder);
        while ((name = g_dir_read_name(folder))) {
                g_autofree char *relative = g_build_filename(below, name, NULL);
                g_autofree char *full = g_build_filename(top, relative, NULL);
                g_autofree char *content = NULL;
                size_t size;

                if (g_file_test(full, G_FILE_TEST_IS_DIR)) {
                        look_at_files(top, relative, view);
                        continue;
                }
                if (g_strcmp0(relative, "state/lock") == 0 || g_strcmp0(relative, "state/licenses.db") == 0 ||
                    g_strcmp0(relative, "state/licenses.db-wal") == 0)
                        continue;
                content = read_file(full, &size);
                g_hash_table_insert(view, g_strdup_printf("file %s", relative),
                        g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guchar *)content, size));
        }
        g_dir_close(folder);
}

/* What is in a folder that looks like world->disk, but that its store may be read elsewhere. */
static PowerView *look(const char *disk, const char *store, char **ret_error) {
        g_autoptr(GHashTable) view = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);

        if (g_file_test(store, G_FILE_TEST_EXISTS) && !look_at_store(store, view)) {
                *ret_error = g_strdup("the store cannot be read");
                return NULL;
        }
        look_at_files(disk, "", view);
        return g_steal_pointer(&view);
}

/* Steps */

static void remember(PowerWorld *world) {
        char *error = NULL;
        g_autofree char *store = harness_copy_store(world->h);
        PowerView *view = look(world->disk, store, &error);

        if (!view)
                fail_msg("%s", error);
        g_ptr_array_add(world->views, view);
}

void power_begin_all(PowerWorld *world) {
        append_record(world, POWER_MARK, NULL, MARK_START);
        remember(world);
}

void power_begin(PowerWorld *world) {
        append_record(world, POWER_MARK, NULL, MARK_BEGIN);
}

void power_begin_parts(PowerWorld *world) {
        append_record(world, POWER_MARK, NULL, MARK_BEGIN_PARTS);
}

void power_acknowledge(PowerWorld *world, const char *key) {
        g_autofree char *mark = g_strconcat(MARK_ACK, key, NULL);

        append_record(world, POWER_MARK, NULL, mark);
}

void power_end(PowerWorld *world) {
        append_record(world, POWER_MARK, NULL, MARK_END);
        remember(world);
}

/* Points */

typedef struct Trial {
        PowerWorld *world;
        PowerDisk *disk;
        GHashTable *known;      /* digest of what a cut left to the PowerView after a restart, or to a text */
        GHashTable *acks;       /* keys that the step under way has acknowledged */
        unsigned step;          /* how many have ended */
        bool in_step, in_parts;
        unsigned points, cuts, restarts, daemons, failures;
} Trial;

typedef struct Outcome {
        PowerView *view; /* NULL: error says why */
        char *error;
} Outcome;

static void outcome_free(void *data) {
        Outcome *outcome = data;

        g_clear_pointer(&outcome->view, g_hash_table_unref);
        g_free(outcome->error);
        g_free(outcome);
}

/* What manager_new() does with the state folder, and a look at all of the store. */
static char *restart_core(const char *state, const char *media) {
        static const StoreLimits limits = { .document_bytes = 1 << 20, .licenses_per_user = 1000000,
                .remembered_per_user = 2000000, .bytes_per_user = 1 << 30, .store_bytes = UINT64_C(1) << 40 };
        g_autofree char *backups = g_build_filename(state, "backups", NULL);
        g_autoptr(Store) store = NULL;
        g_auto(Error) error = {};
        uint64_t licenses;
        int fd = open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        assert_true(fd >= 0);
        (void)mkdir(backups, 0700);
        (void)draft_tidy(fd, FOLDER_BACKUP_NAME);
        (void)draft_tidy(fd, "restricted");
        close(fd);
        folder_tidy_root(backups);
        folder_tidy_root(media);
        if (store_open(state, &limits, &store, &error) != 0 || store_check(state, &licenses, &error) != 0)
                return g_strdup(error_message(&error));
        return NULL;
}

/* The real daemon, which must also serve. */
static char *restart_daemon(Harness *h, const char *state, const char *media) {
        g_autofree char *before_media = g_key_file_get_string(h->settings, "Backup", "Roots", NULL);
        g_autofree char *before = h->state;
        sd_bus *bus;

        h->state = g_strdup(state);
        harness_set(h, "Backup", "Roots", media);
        harness_start(h);
        bus = harness_connect_uid(h, h->users[0]);
        call_void(bus, ROOT, "BackupRestoreProps.GetPropCount", "");
        call_void(bus, ROOT, "LicenseStore.EnumerateLicenses", "a{sv}su", 0, "", 1000);
        g_free(store_license(bus, "x", 1, "a{sv}", 1, "LicenseId", "s", "power is back"));
        call_void(bus, ROOT, "LicenseStore.GetLicense", "s", "power is back");
        harness_disconnect(h, bus);
        harness_stop(h);
        g_free(h->state);
        h->state = g_steal_pointer(&before);
        harness_set(h, "Backup", "Roots", before_media);
        return NULL;
}

/* The next licensevaultctl that writes to this name begins so. */
static void tidy_output(const char *cut) {
        g_autofree char *out = g_build_filename(cut, "out", NULL);
        int fd = open(out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        assert_true(fd >= 0);
        (void)draft_tidy(fd, POWER_OUTPUT);
        close(fd);
}

static Outcome *restart(Trial *trial, const char *cut) {
        g_autofree char *state = g_build_filename(cut, "state", NULL), *media = g_build_filename(cut, "media", NULL);
        g_autofree char *store = g_build_filename(state, "licenses.db", NULL);
        Outcome *outcome = g_new0(Outcome, 1);
        bool real = trial->restarts++ % DAEMON_EVERY == 0;
        unsigned uid = trial->world->h->users[0];

        outcome->error = real ? restart_daemon(trial->world->h, state, media) : restart_core(state, media);
        tidy_output(cut);
        if (!outcome->error)
                outcome->view = look(cut, store, &outcome->error);
        if (real && outcome->view) {
                /* What the daemon was asked to store is not what was recorded: taken out again. */
                g_autofree char *key = g_strdup_printf("license %u power is back", uid);
                g_autofree char *owner = g_strdup_printf("owner %u", uid);

                trial->daemons++;
                if (!g_hash_table_remove(outcome->view, key))
                        outcome->error = g_strdup("what was stored after the restart is not there");
                g_hash_table_replace(outcome->view, g_steal_pointer(&owner), g_strdup("any"));
        }
        return outcome;
}

static bool same(const char *a, const char *b) {
        return g_strcmp0(a, b) == 0 || g_strcmp0(a, "any") == 0 || g_strcmp0(b, "any") == 0;
}

/* The first key by which two views differ; NULL for none. */
static const char *difference(PowerView *a, PowerView *b) {
        PowerView *const views[] = { a, b };
        GHashTableIter iterator;
        const char *key;

        for (unsigned i = 0; i < G_N_ELEMENTS(views); i++) {
                g_hash_table_iter_init(&iterator, views[i]);
                while (g_hash_table_iter_next(&iterator, (void **)&key, NULL))
                        if (!same(g_hash_table_lookup(a, key), g_hash_table_lookup(b, key)))
                                return key;
        }
        return NULL;
}

/* A step of many calls: each is done or not, and those that were acknowledged are done. */
static const char *difference_in_parts(Trial *trial, PowerView *view, PowerView *old, PowerView *new) {
        PowerView *const views[] = { view, old, new };
        GHashTableIter iterator;
        const char *key;

        for (unsigned i = 0; i < G_N_ELEMENTS(views); i++) {
                g_hash_table_iter_init(&iterator, views[i]);
                while (g_hash_table_iter_next(&iterator, (void **)&key, NULL)) {
                        const char *now = g_hash_table_lookup(view, key);
                        bool acknowledged = g_hash_table_contains(trial->acks, key);

                        /* Sums over licenses. */
                        if (g_str_has_prefix(key, "owner "))
                                continue;
                        if (!same(now, g_hash_table_lookup(new, key)) &&
                            (acknowledged || !same(now, g_hash_table_lookup(old, key))))
                                return key;
                }
        }
        return NULL;
}

static char *judge(Trial *trial, const Outcome *outcome) {
        PowerView *old = trial->world->views->pdata[trial->step];
        PowerView *new = trial->in_step ? trial->world->views->pdata[trial->step + 1] : NULL;
        const char *key;

        if (outcome->error)
                return g_strdup(outcome->error);
        if (new && trial->in_parts)
                key = difference_in_parts(trial, outcome->view, old, new);
        else {
                key = difference(outcome->view, old);
                if (new && !difference(outcome->view, new))
                        key = NULL;
        }
        if (!key)
                return NULL;
        return g_strdup_printf("'%s' is '%s', before the step it was '%s', after it '%s'", key,
                (char *)g_hash_table_lookup(outcome->view, key) ?: "", (char *)g_hash_table_lookup(old, key) ?: "",
                new ? (char *)g_hash_table_lookup(new, key) ?: "" : "(no step)");
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where) {
        return remove(path);
}

/* Thousands of times: no process each. */
static void remove_all(const char *path) {
        assert_int_equal(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static void try_point(Trial *trial, unsigned at, const PowerEntry *entry) {
        g_autofree char *cut = harness_path(trial->world->h, "cut");

        trial->points++;
        for (PowerLoss loss = 0; loss < _POWER_LOSS_MAX; loss++) {
                g_autofree char *digest = power_disk_cut(trial->disk, loss, at, cut);
                Outcome *outcome = g_hash_table_lookup(trial->known, digest);
                g_autofree char *wrong = NULL;

                trial->cuts++;
                if (!outcome) {
                        outcome = restart(trial, cut);
                        g_hash_table_insert(trial->known, g_steal_pointer(&digest), outcome);
                }
                wrong = judge(trial, outcome);
                if (wrong && trial->failures++ < FAILURES_SHOWN) {
                        g_autofree char *what = power_entry_describe(entry);
                        print_error("power cut after operation %u (%s), step %u%s, loss '%s': %s\n", at, what,
                                trial->step, trial->in_step ? " under way" : " over", power_loss_name(loss), wrong);
                }
                remove_all(cut);
        }
}

static bool is_pivot(const PowerEntry *entry) {
        return entry->record->op != POWER_WRITE;
}

/* Which points are tried: those around what orders writes, and of the others as many as there is room for. */
static GArray *choose(GArray *entries, unsigned max) {
        GArray *chosen = g_array_new(false, true, sizeof(bool));
        unsigned start = 0, n = 0, others = 0, spaces;

        g_array_set_size(chosen, entries->len);
        while (g_strcmp0(g_array_index(entries, PowerEntry, start).name, MARK_START) != 0)
                start++;
        for (unsigned i = start; i < entries->len; i++) {
                bool near = is_pivot(&g_array_index(entries, PowerEntry, i)) ||
                        (i + 1 < entries->len && is_pivot(&g_array_index(entries, PowerEntry, i + 1)));

                g_array_index(chosen, bool, i) = power_long || near;
                n += near;
        }
        spaces = (entries->len - start - n) / (max > n ? max - n : 1) + 1;
        for (unsigned i = start; i < entries->len; i++)
                if (!g_array_index(chosen, bool, i) && (max > n) && others++ % spaces == 0)
                        g_array_index(chosen, bool, i) = true;
        return chosen;
}

static void pass_mark(Trial *trial, const char *mark, bool *started) {
        if (g_str_equal(mark, MARK_START)) {
                power_disk_sync_all(trial->disk);
                *started = true;
        } else if (g_str_equal(mark, MARK_BEGIN) || g_str_equal(mark, MARK_BEGIN_PARTS)) {
                g_hash_table_remove_all(trial->acks);
                trial->in_step = true;
                trial->in_parts = g_str_equal(mark, MARK_BEGIN_PARTS);
        } else if (g_str_equal(mark, MARK_END)) {
                trial->in_step = false;
                trial->step++;
        } else
                g_hash_table_add(trial->acks, g_strdup(mark + strlen(MARK_ACK)));
}

/* All of the log must give what is there now, or something went past the recorder. */
static void check_recorder(PowerWorld *world, PowerDisk *disk) {
        g_autofree char *cut = harness_path(world->h, "replayed"), *stdout_text = NULL;

        g_free(power_disk_cut(disk, POWER_LOSS_NOTHING, 0, cut));
        if (run_program((const char *[]) { "diff", "-r", world->disk, cut, NULL }, &stdout_text,
                    NULL) != 0)
                fail_msg("The log does not give the files that are there: %s", stdout_text);
        remove_all(cut);
}

void power_try(PowerWorld *world, unsigned max) {
        g_autofree char *content = NULL;
        g_autoptr(GArray) entries = NULL, chosen = NULL;
        g_autoptr(PowerDisk) disk = NULL, whole = NULL;
        Trial trial = { .world = world };
        bool started = false;
        struct stat st;
        size_t size;

        harness_stop(world->h);
        content = read_file(world->log, &size);
        entries = power_log_parse(content, size);
        assert_int_equal(stat(world->disk, &st), 0);
        whole = power_disk_new(st.st_ino);
        for (unsigned i = 0; i < entries->len; i++) {
                const PowerEntry *entry = &g_array_index(entries, PowerEntry, i);
                g_autofree char *what = power_entry_describe(entry);

                if (!power_disk_apply(whole, entry))
                        fail_msg("Record %u of the log is of nothing that is known: %s", i, what);
        }
        check_recorder(world, whole);

        disk = power_disk_new(st.st_ino);
        chosen = choose(entries, max);
        trial.disk = disk;
        trial.known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, outcome_free);
        trial.acks = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        for (unsigned i = 0; i < entries->len; i++) {
                const PowerEntry *entry = &g_array_index(entries, PowerEntry, i);

                power_disk_apply(disk, entry);
                if (entry->record->op == POWER_MARK)
                        pass_mark(&trial, entry->name, &started);
                if (started && trial.step < world->views->len - trial.in_step && g_array_index(chosen, bool, i))
                        try_point(&trial, i, entry);
        }
        print_message("%u operations, %u points, %u power cuts, %u different disks, %u of them opened by the daemon, "
                      "%u failures\n", entries->len, trial.points, trial.cuts, trial.restarts, trial.daemons,
                trial.failures);
        g_hash_table_unref(trial.known);
        g_hash_table_unref(trial.acks);
        for (unsigned i = 0; i < entries->len; i++)
                g_free((void *)g_array_index(entries, PowerEntry, i).record);
        assert_true(trial.points > 0);
        assert_int_equal(trial.failures, 0);
}
