/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "check.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "folder.h"
#include "log.h"
#include "manager.h"
#include "series-name.h"

/* The folders with backups that go with this store, in words; NULL where there are none. The caller frees it. */
static char *find_backups(const char *state) {
        g_autofree char *own = g_strconcat(state, "/backups", NULL);
        bool in_own = folder_root_has_backup(own);
        /* One that works in a folder of its own has no timer. The service itself cannot look there. */
        bool in_timers = strcmp(state, CONFIG_STATE_FOLDER) == 0 && folder_has_series(SERIES_TIMER_FOLDER);

        if (in_own && in_timers)
                return g_strdup_printf("'%s' and in '" SERIES_TIMER_FOLDER "'", own);
        return in_own ? g_strdup_printf("'%s'", own) : in_timers ? g_strdup("'" SERIES_TIMER_FOLDER "'") : NULL;
}

/* Nothing in the store is what a new machine has, and what one has whose store was lost. Returns how many problems. */
static unsigned tell_empty(const char *state, const char *backups) {
        bool exists = store_exists(state);

        if (exists)
                printf("Store in %s: 0 licenses, no damage.\n", state);
        else if (!backups)
                printf("Store in %s: there is none yet. licensevaultd makes one when it starts.\n", state);
        else
                printf("Store in %s: there is none.\n", state);
        if (backups)
                printf("There are backups in %s. If the store was lost, see 'WHEN THE STORE IS LOST' in "
                        "licensevaultd(8).\n", backups);
        return !exists && backups;
}

static unsigned tell_licenses(const char *state, const char *backups, uint64_t licenses) {
        if (licenses == 0)
                return tell_empty(state, backups);
        printf("Store in %s: %" PRIu64 " license%s, no damage.\n", state, licenses, licenses == 1 ? "" : "s");
        return 0;
}

/*
 * Root may read what the service may not: a store that root has put back, a configuration that is root's alone. So root
 * becomes whom the service runs as, the owner of its state directory. (Where that folder itself is not the service's,
 * systemd gives it all that is in it.)
 */
static void become_service(const char *state) {
        const struct passwd *entry;
        struct stat st;

        if (geteuid() != 0 || stat(state, &st) < 0 || st.st_uid == 0)
                return;
        entry = getpwuid(st.st_uid);
        if ((entry ? initgroups(entry->pw_name, entry->pw_gid) : setgroups(0, NULL)) < 0 ||
            setgid(entry ? entry->pw_gid : st.st_gid) < 0 || setuid(st.st_uid) < 0)
                log_warning("What root may read, and user %" PRIu32 " may not, is not seen: %s", (uint32_t)st.st_uid,
                        g_strerror(errno));
}

/* What the service must be able to write, too. Returns how many problems there are. */
static unsigned tell_unwritable(const char *state) {
        static const struct {
                const char *name;
                int access;
        } files[] = {
                { "licenses.db", R_OK | W_OK },
                { "licenses.db-wal", R_OK | W_OK },
                { "lock", R_OK | W_OK },
                { "backups", R_OK | W_OK | X_OK },
                { ".", R_OK | W_OK | X_OK },
        };
        unsigned problems = 0;
        struct stat st;

        /* Of somebody else it says nothing. */
        if (stat(state, &st) < 0 || st.st_uid != geteuid())
                return 0;
        for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
                g_autofree char *path = g_build_filename(state, files[i].name, NULL);
                int r = access(path, files[i].access) < 0 ? -errno : 0;

                if (r == 0 || r == -ENOENT)
                        continue;
                printf("Store in %s: the service cannot read and write '%s': %s.%s\n", state, files[i].name,
                        g_strerror(-r),
                        r == -EACCES ? " Give it the owner of the folder, and let that owner read and write it." : "");
                problems++;
        }
        return problems;
}

int check_run(void) {
        g_autofree char *backups = NULL;
        const char *state, *folder;
        g_auto(Error) error = {};
        unsigned problems;
        uint64_t licenses;
        Config config;
        int r;

        if (!config_find_folders(&state, &folder))
                return EXIT_ENVIRONMENT;
        backups = find_backups(state);
        become_service(state);
        config_load(folder, &config, &problems);
        config_clear(&config);
        printf("Configuration in %s: %u problem%s.\n", folder, problems, problems == 1 ? "" : "s");

        if (access(state, R_OK | X_OK) < 0) {
                printf("Store in %s: %s.\n", state, g_strerror(errno));
                return EXIT_ENVIRONMENT;
        }
        problems += tell_unwritable(state);
        r = store_check(state, &licenses, &error);
        if (r == 0)
                problems += tell_licenses(state, backups, licenses);
        else {
                printf("Store in %s: %s (%s)\n", state, error_message(&error), error_short_name(error.code));
                /* What could not be told is no problem of the store's. */
                problems += r != ERROR_STORE_LOCKED;
        }
        return problems > 0 ? EXIT_PROBLEMS : r == ERROR_STORE_LOCKED ? EXIT_LOCKED : EXIT_GOOD;
}
