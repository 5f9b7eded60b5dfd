/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "check.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include <sqlite3.h>

#include "error.h"

/* It ends once all is tidy; so long only where the machine has much else to do. */
#define TIDY_MSEC 20000U
#define UNKNOWN_CALLER "Who is calling cannot be found out. Try again."

void check_answers(World *world, unsigned steps, unsigned more) {
        g_autofree char *instance = NULL, *found = NULL;
        int status;

        if (waitpid(world->h->daemon, &status, WNOHANG) != 0) {
                complain(world, "The daemon ended with wait status %#x.", (unsigned)status);
                world->h->daemon = 0;
                return;
        }
        instance = world_instance(world);
        found = instance ? world_describe(world) : NULL;
        if (!found)
                return;
        for (unsigned i = steps; i <= MIN(steps + more, world->n_steps); i++)
                if (strcmp(found, world->states[i]) == 0)
                        return;
        complain(world, "After %u steps the store has neither what was there before nor after:\n%s", steps, found);
}

/* Error */

static bool is_fit(const char *text) {
        static const char *const forbidden[] = { "SELECT ", "INSERT ", "sqlite", "SQL", "errno", "(null)", "\n" };

        if (!*text || !g_str_has_suffix(text, ".") || g_str_has_suffix(text, "..") || !g_ascii_isupper(text[0]))
                return false;
        for (size_t i = 0; i < G_N_ELEMENTS(forbidden); i++)
                if (strstr(text, forbidden[i]))
                        return false;
        return true;
}

/* What pthread_create() makes of it. */
static bool is_of_a_thread(int error, const char *message) {
        return error == ENOMEM && strstr(message, g_strerror(EAGAIN));
}

/* What a fault of a disk, or of memory, may be. */
static bool may_be(const World *world, ErrorCode code, const char *message) {
        switch (code) {
        case ERROR_ACCESS_DENIED:
                /* The user database could not be read: nothing is done for who is not known. */
                return strcmp(message, UNKNOWN_CALLER) == 0 || strstr(message, "cannot be looked up");
        case ERROR_NO_MEMORY:
        case ERROR_STORE_READ:
        case ERROR_STORE_WRITE:
                return true;
        case ERROR_MEDIUM:
                return strstr(world->operation->name, "backup") || strstr(world->operation->name, "restore") ||
                        strcmp(world->operation->name, "verify") == 0 || strcmp(world->operation->name, "read") == 0;
        case ERROR_LIMIT_EXCEEDED:
                /* No thread, or no descriptor, for more. */
                return world->plan->error == EAGAIN || world->plan->error == EMFILE ||
                        is_of_a_thread(world->plan->error, message);
        default:
                return false;
        }
}

void check_error(World *world, const Outcome *outcome, int error) {
        ErrorCode code;

        if (!outcome->error || outcome->status >= 0)
                return;
        if (outcome->silent) {
                complain(world, "No answer: %s: %s", outcome->error, outcome->message);
                return;
        }
        code = error_from_name(outcome->error);
        if (!may_be(world, code, outcome->message))
                complain(world, "The error is %s: %s", outcome->error, outcome->message);
        if (outcome->is_job && outcome->hresult != error_hresult(code))
                complain(world, "The HRESULT %#x is not that of %s.", (unsigned)outcome->hresult, outcome->error);
        if (!is_fit(outcome->message))
                complain(world, "This is no sentence: '%s'", outcome->message);
        /* Who is to mend it must know what it is. */
        if ((code == ERROR_MEDIUM || code == ERROR_STORE_READ || code == ERROR_STORE_WRITE) && error > 0 &&
            !strstr(outcome->message, g_strerror(error)) && !is_of_a_thread(error, outcome->message))
                complain(world, "The message does not tell '%s': %s", g_strerror(error), outcome->message);
        /* And a look-up of users; its own words would say that nothing was changed. */
        if (error == ENOMEM && code != ERROR_NO_MEMORY && code != ERROR_ACCESS_DENIED &&
            !is_of_a_thread(error, outcome->message) && !strstr(outcome->message, "The new backup is whole"))
                complain(world, "Out of memory is %s: %s", outcome->error, outcome->message);
}

/* Backups */

/* Whether licensevaultctl finds a backup whole, with all its licenses. */
static bool verifies(World *world, const char *path) {
        const char *program = g_getenv("LICENSEVAULTCTL");
        g_autofree char *out = NULL, *error = NULL, *words = NULL;

        if (run_program((const char *[]) { program, "verify", path, NULL }, &out, &error) != 0) {
                complain(world, "licensevaultctl verify: %s%s", out, error);
                return false;
        }
        words = g_strdup_printf("%u license", world->operation->licenses);
        if (!strstr(out, words) && !strstr(error, words)) {
                complain(world, "The backup is to have %s(s): %s%s", words, out, error);
                return false;
        }
        return true;
}

static BackupState look(World *world) {
        g_autofree char *folder = world_path(world, world->operation->target);
        g_autofree char *path = g_build_filename(folder, "licenses.tar", NULL);
        g_autofree char *content = NULL;
        gsize size;

        if (!g_file_get_contents(path, &content, &size, NULL))
                return BACKUP_NONE;
        if (world->old_backup && size == world->old_size && memcmp(content, world->old_backup, size) == 0)
                return BACKUP_OLD;
        if (world->operation->licenses == 0)
                complain(world, "The backup is another one.");
        else
                (void)verifies(world, path);
        return BACKUP_NEW;
}

/* What was set aside (g_free), or NULL. */
static char *find_aside(World *world) {
        g_autofree char *folder = world_path(world, world->operation->target);
        g_autoptr(GDir) entries = g_dir_open(folder, 0, NULL);
        char *found = NULL;

        for (const char *name; entries && (name = g_dir_read_name(entries));) {
                if (!g_str_has_prefix(name, world->operation->aside))
                        continue;
                if (found)
                        complain(world, "It was set aside twice.");
                g_free(found);
                found = g_build_filename(folder, name, NULL);
        }
        return found;
}

/* Of two stores each has its backup, whatever happens: the former one's under one name or under both. */
static void check_aside(World *world, const Outcome *outcome, BackupState found) {
        g_autofree char *path = find_aside(world), *content = NULL;
        bool is_there, is_killed = !outcome || outcome->silent;
        gsize size = 0;

        is_there = path && g_file_get_contents(path, &content, &size, NULL);
        if (is_there && (size != world->old_size || memcmp(content, world->old_backup, size) != 0))
                complain(world, "What was set aside is another one.");
        if (found != BACKUP_OLD && !is_there)
                complain(world, "The backup of the former store is gone (%d).", found);
        if (found == BACKUP_OLD && is_there && !is_killed)
                complain(world, "What was set aside was not put back.");
        /* Who hears of an error hears nothing of what was done but by it. */
        if (found == BACKUP_NEW && is_there && !is_killed && outcome->error &&
            !strstr(outcome->message, world->operation->aside))
                complain(world, "What was set aside is not told: %s", outcome->message);
}

static bool promises_nothing_happened(const char *message) {
        return strstr(message, "unchanged") || strstr(message, "othing was changed") ||
                strstr(message, "No license was changed");
}

static void check_target(World *world, const Outcome *outcome) {
        const Operation *operation = world->operation;
        BackupState before = operation->has_old ? BACKUP_OLD : BACKUP_NONE, found = look(world);

        if (operation->aside)
                check_aside(world, outcome, found);

        if (operation->licenses == 0) {
                if (found != BACKUP_OLD)
                        complain(world, "The backup that was restored is gone.");
        } else if (!outcome || outcome->silent) {
                if (found != before && found != BACKUP_NEW && !operation->is_renamed)
                        complain(world, "The old backup is gone, and no new one there.");
        } else if (!outcome->error) {
                if (found != BACKUP_NEW)
                        complain(world, "Done without error, and no new backup is there.");
        } else {
                bool says_new = strstr(outcome->message, "The new backup is whole") != NULL;
                bool says_name = operation->is_renamed && strstr(outcome->message, operation->aside);

                if (found != (says_new ? BACKUP_NEW : says_name ? BACKUP_NONE : before))
                        complain(world, "What is there is not what was said (%d): %s", found, outcome->message);
                if (found != before && promises_nothing_happened(outcome->message))
                        complain(world, "Something was changed: %s", outcome->message);
        }
}

void check_backup(World *world, const Outcome *outcome) {
        if (world->operation->target)
                check_target(world, outcome);
        if (world->operation->new_file && outcome && !outcome->error) {
                g_autofree char *path = world_path(world, world->operation->new_file);

                (void)verifies(world, path);
        }
}

/* Folders */

static bool is_expected(World *world, const char *name) {
        static const char *const names[] = {
                "state/lock", "state/licenses.db", "state/licenses.db-wal", "state/licenses.db-journal",
                "state/backups/%u", "media/%u", "state/backups/%u/licenses.tar", "media/%u/licenses.tar",
        };

        for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
                g_autofree char *path = world_path(world, names[i]);
                g_autofree char *expected = g_strdup(path + strlen(world->h->folder) + 1);

                if (strcmp(name, expected) == 0)
                        return !g_str_has_suffix(names[i], ".tar") ||
                                (world->operation->target && g_str_has_prefix(names[i], world->operation->target));
        }
        if (world->operation->aside) {
                g_autofree char *folder = world_path(world, world->operation->target);
                g_autofree char *path = g_build_filename(folder + strlen(world->h->folder) + 1, world->operation->aside,
                        NULL);

                if (g_str_has_prefix(name, path))
                        return true;
        }
        return strcmp(name, "state/backups") == 0;
}

/* The first file that is not to be there (g_free), or NULL. */
static char *find_stranger(World *world, const char *name) {
        g_autofree char *path = harness_path(world->h, name);
        GDir *folder = g_dir_open(path, 0, NULL);
        char *found = NULL;
        const char *entry;

        while (!found && folder && (entry = g_dir_read_name(folder))) {
                g_autofree char *below = g_build_filename(name, entry, NULL);
                g_autofree char *full = harness_path(world->h, below);
                bool is_folder = g_file_test(full, G_FILE_TEST_IS_DIR);

                if (is_folder)
                        found = find_stranger(world, below);
                /* The folders of the other users of the test are in media. */
                if (!found && !(is_folder && g_str_has_prefix(below, "media/")) && !is_expected(world, below))
                        found = g_strdup(below);
        }
        if (folder)
                g_dir_close(folder);
        return found;
}

void check_folders(World *world, bool stopped) {
        for (unsigned i = 0;; i++) {
                g_autofree char *state = find_stranger(world, "state");
                g_autofree char *media = state ? NULL : find_stranger(world, "media");

                if (!state && (!media || (stopped && g_str_has_prefix(media, "media/.licenses.tar."))))
                        return;
                if (i > TIDY_MSEC / 5) {
                        complain(world, "'%s' was left behind.", state ?: media);
                        return;
                }
                sleep_msec(5);
        }
}

/* Database */

static const char books[] =
        "SELECT count(*) FROM owners AS o WHERE "
        "licenses != (SELECT count(*) FROM licenses AS l WHERE l.owner = o.owner AND present) OR "
        "remembered != (SELECT count(*) FROM licenses AS l WHERE l.owner = o.owner) OR "
        "bytes != (SELECT ifnull(sum(charge), 0) FROM licenses AS l WHERE l.owner = o.owner)";

static char *ask(sqlite3 *db, const char *sql) {
        sqlite3_stmt *statement = NULL;
        char *answer = NULL;

        if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW)
                answer = g_strdup((const char *)sqlite3_column_text(statement, 0));
        sqlite3_finalize(statement);
        return answer ?: g_strdup(sqlite3_errmsg(db));
}

void check_database(World *world) {
        g_autofree char *path = g_build_filename(world->h->state, "licenses.db", NULL);
        g_autofree char *whole = NULL, *wrong = NULL;
        sqlite3 *db = NULL;

        if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK)
                complain(world, "The database cannot be opened: %s", sqlite3_errmsg(db));
        else {
                whole = ask(db, "PRAGMA integrity_check");
                wrong = ask(db, books);
                if (strcmp(whole, "ok") != 0)
                        complain(world, "integrity_check: %s", whole);
                if (strcmp(wrong, "0") != 0)
                        complain(world, "The books of %s owners are wrong.", wrong);
        }
        sqlite3_close(db);
}
