/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manager.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <systemd/sd-id128.h>

#include "draft.h"
#include "folder.h"
#include "inbox.h"
#include "job.h"
#include "log.h"
#include "manager-bus.h"
#include "notice.h"
#include "outbox.h"
#include "polkit.h"
#include "restricted.h"
#include "thread.h"

#define TICK_USEC (1 * G_USEC_PER_SEC)
/* For jobs to end, answers to be sent, and threads to come back, when the daemon stops. */
#define STOP_USEC (10 * G_USEC_PER_SEC)
/*
 * Of that, for answers to be sent once nothing works any more: a flood of calls never lets them end. And for look-ups,
 * whose calls were answered: what hangs there is left behind.
 */
#define FLUSH_USEC (2 * G_USEC_PER_SEC)

/* Mixed into the machine's id, so that a backup names the machine without telling the id itself. */
#define MACHINE_APPLICATION_ID SD_ID128_MAKE(6f,1d,0c,9a,5e,31,4b,7e,8f,24,b0,5d,77,c8,42,19)

/* Sending */

void manager_send_large(Manager *manager, sd_bus_message *message, uint64_t bytes) {
        outbox_send(manager, message, bytes + OUTBOX_SMALL);
}

void manager_send(Manager *manager, sd_bus_message *message) {
        outbox_send(manager, message, OUTBOX_SMALL);
}

void manager_send_error(Manager *manager, sd_bus_message *message, const Error *error) {
        sd_bus_message *reply = NULL;
        int r;

        notice_error(error);
        if (!sd_bus_message_get_expect_reply(message))
                return;
        r = sd_bus_message_new_method_error(message, &reply,
                &SD_BUS_ERROR_MAKE_CONST(error_name(error->code), error_message(error)));
        if (r < 0)
                /* Better the general sentence than a client that waits for an answer. */
                r = sd_bus_message_new_method_error(message, &reply,
                        &SD_BUS_ERROR_MAKE_CONST(error_name(error->code),
                                error_message(&(Error){ .code = error->code })));
        if (r < 0)
                log_warning("An error cannot be answered: %s", g_strerror(-r));
        else
                outbox_send(manager, reply, MAX(OUTBOX_SMALL, OUTBOX_SMALL / 2 + strlen(error_message(error))));
}

void manager_send_empty(Manager *manager, sd_bus_message *message) {
        sd_bus_message *reply = NULL;

        if (sd_bus_message_get_expect_reply(message) && sd_bus_message_new_method_return(message, &reply) >= 0)
                manager_send(manager, reply);
}

/* The state that systemd shows */

static int on_slow_tick(sd_event_source *source, uint64_t usec, void *userdata);

void manager_tick_soon(Manager *manager) {
        int enabled = SD_EVENT_OFF;

        if (!manager->slow_tick) {
                (void)sd_event_add_time_relative(manager->event, &manager->slow_tick, CLOCK_MONOTONIC, TICK_USEC, 0,
                        on_slow_tick, manager);
                return;
        }
        (void)sd_event_source_get_enabled(manager->slow_tick, &enabled);
        if (enabled == SD_EVENT_OFF) {
                (void)sd_event_source_set_time_relative(manager->slow_tick, TICK_USEC);
                (void)sd_event_source_set_enabled(manager->slow_tick, SD_EVENT_ONESHOT);
        }
}

static void notify_status(Manager *manager, const char *more) {
        uint64_t n = manager->store ? store_count(manager->store) : 0;

        if (!manager->store)
                (void)sd_notifyf(false, "%sSTATUS=The license store cannot be used: %s", more,
                        error_message(&manager->store_error));
        else
                (void)sd_notifyf(false, "%sSTATUS=%" PRIu64 " license%s, %u job%s running, %u waiting", more, n,
                        n == 1 ? "" : "s", manager->n_running, manager->n_running == 1 ? "" : "s",
                        manager->n_unfinished - manager->n_running);
}

/*
 * After a crowd has gone, glibc keeps what it held, for what was allocated last lies at its end: 113 MiB were seen to
 * stay. As soon as nobody waits for anything.
 */
static void give_memory_back(Manager *manager) {
        if (manager->n_requests == 0 && manager->n_unfinished == 0 && inbox_is_idle(manager) &&
            outbox_is_idle(manager))
                (void)malloc_trim(0);
        else
                manager_tick_soon(manager);
}

static int on_slow_tick(sd_event_source *source, uint64_t usec, void *userdata) {
        Manager *manager = userdata;

        notify_status(manager, "");
        give_memory_back(manager);
        return manager_watch_bus(manager);
}

/* Whatever made the loop turn may have sent a message: then it is watched whether the bus takes it. */
static int on_turn(sd_event_source *source, void *userdata) {
        Manager *manager = userdata;

        if (!manager->bus)
                return 0;

        manager_take_and_do(manager);
        outbox_pump(manager);
        manager_maybe_exit(manager);
        /* Not by whether the tick is on, which much else turns on: since when something waits is what counts. */
        if (!manager->unsent && manager_has_unsent(manager)) {
                manager->unsent = true;
                manager->taken_at = g_get_monotonic_time();
                manager_tick_soon(manager);
        }
        return 0;
}

/* Stopping */

static int on_flush_due(sd_event_source *source, uint64_t usec, void *userdata) {
        return sd_event_exit(((Manager *)userdata)->event, 0);
}

void manager_maybe_exit(Manager *manager) {
        if (!manager->stopping || manager->n_unfinished > 0 || manager->n_requests > 0 || manager->n_workers > 0)
                return;
        if (manager->n_lookups > 0 || manager_has_unsent(manager) || !inbox_is_idle(manager) ||
            !outbox_is_idle(manager)) {
                /* asked again when the loop turns */
                if (!manager->flush_timer)
                        (void)sd_event_add_time_relative(manager->event, &manager->flush_timer, CLOCK_MONOTONIC,
                                FLUSH_USEC, 0, on_flush_due, manager);
                return;
        }
        (void)sd_event_exit(manager->event, 0);
}

static int on_stop_due(sd_event_source *source, uint64_t usec, void *userdata) {
        Manager *manager = userdata;

        log_warning("Not all that was under way could be ended; leaving it.");
        return sd_event_exit(manager->event, 0);
}

static int on_stop(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
        Manager *manager = userdata;

        if (manager->stopping)
                return sd_event_exit(manager->event, 0); /* asked twice: at once */
        manager->stopping = true;
        (void)sd_notify(false, "STOPPING=1\nSTATUS=Ending the jobs that run");
        log_info("Stopping.");

        job_cancel_all(manager);
        polkit_withdraw_all(manager);
        caller_cancel_unknown(manager);
        (void)sd_event_add_time_relative(manager->event, &manager->stop_timer, CLOCK_MONOTONIC, STOP_USEC, 0,
                on_stop_due, manager);
        manager_maybe_exit(manager);
        return 0;
}

/* Configuration */

/* Removes drafts that a killed daemon left in a folder itself: in the state directory, descriptors' backups. */
static void tidy(const char *folder) {
        _cleanup_fd_ int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return;
        (void)draft_tidy(fd, FOLDER_BACKUP_NAME);
        (void)draft_tidy(fd, RESTRICTED_DRAFT_NAME);
}

/*
 * With a draft, which leaves nothing behind, and which a later look tidies away where it did. A root may be the
 * administrator's, and only the users' folders in it the service's: then what can be said of it is whether anything
 * there can be written, which a unit without ReadWritePaths= prevents.
 */
static void try_root(const char *root) {
        _cleanup_fd_ int folder = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        g_auto(Draft) draft = DRAFT_NONE;
        struct statvfs st;
        int r;

        r = folder < 0 ? -errno : draft_open(folder, FOLDER_BACKUP_NAME, &draft);
        if (r == -EACCES && folder >= 0 && fstatvfs(folder, &st) >= 0)
                r = st.f_flag & ST_RDONLY ? -EROFS : 0;
        if (r < 0)
                log_event(LOG_EVENT_ROOT_UNWRITABLE, LOG_VALUES(root),
                        "Backups cannot go to the root '%s': %s. Mend that, and name it in the unit's "
                        "ReadWritePaths=.", root, g_strerror(-r));
}

/* The roots may be on a medium that hangs. Nobody waits for this thread. */
static atomic_bool roots_are_looked_at;

static void *roots_thread(void *userdata) {
        char **roots = userdata;

        for (char **root = roots; *root; root++) {
                tidy(*root);
                folder_tidy_root(*root);
                try_root(*root);
        }
        g_strfreev(roots);
        atomic_store(&roots_are_looked_at, false);
        return NULL;
}

static void look_at_roots(Manager *manager) {
        char **roots;

        /* One at a time: each reload would leave another thread in a medium that hangs. */
        if (!*manager->config.roots || atomic_exchange(&roots_are_looked_at, true))
                return;
        roots = g_strdupv(manager->config.roots);
        if (thread_start(roots_thread, roots) < 0) {
                g_strfreev(roots);
                atomic_store(&roots_are_looked_at, false);
        }
}

static int on_reload(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
        Manager *manager = userdata;
        Config config;

        (void)sd_notifyf(false, "RELOADING=1\nMONOTONIC_USEC=%" PRIi64, g_get_monotonic_time());
        config_load(manager->config_folder, &config, NULL);
        config_clear(&manager->config);
        manager->config = config;
        if (manager->store)
                store_set_limits(manager->store, &config.limits);
        look_at_roots(manager);
        log_info("The configuration was read again.");
        notify_status(manager, "READY=1\n");
        return 0;
}

/* The whole */

static int find_folders(Manager *manager) {
        const char *state, *config;

        if (!config_find_folders(&state, &config))
                return EXIT_ENVIRONMENT;
        manager->state_folder = g_strdup(state);
        manager->config_folder = g_strdup(config);
        return EXIT_GOOD;
}

static void unblock_stop(void) {
        sigset_t signals;

        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
}

/* Opens the store, or remembers why not: who has one that cannot be read is told so by the service. */
static int open_store(Manager *manager) {
        g_autofree char *backups = g_strconcat(manager->state_folder, "/backups", NULL);
        g_auto(Error) error = {};
        int r;

        r = store_lock(manager->state_folder, &manager->lock_fd, &error);
        if (r != 0) {
                log_error("%s (%s)", error_message(&error), error_short_name(error.code));
                return r == ERROR_STORE_LOCKED ? EXIT_LOCKED : EXIT_ENVIRONMENT;
        }

        r = folder_make(manager->state_folder, "backups");
        if (r < 0)
                log_warning("The folder '%s' cannot be made: %s", backups, g_strerror(-r));
        tidy(manager->state_folder);
        folder_tidy_root(backups);

        r = store_open(manager->state_folder, &manager->config.limits, &manager->store, &manager->store_error);
        if (r == ERROR_STORE_LOCKED) {
                /* Who was asked to stop meanwhile ends here, by that signal: nothing has begun. */
                unblock_stop();
                /* That passes by itself. Whoever started this one starts it again. */
                log_error("%s (%s)", error_message(&manager->store_error),
                        error_short_name(manager->store_error.code));
                return EXIT_FAILED;
        }
        if (r != 0)
                log_event(LOG_EVENT_STORE_UNREADABLE, LOG_VALUES(error_short_name(manager->store_error.code)),
                        "%s (%s)", error_message(&manager->store_error),
                        error_short_name(manager->store_error.code));
        /* Nobody may have moved it away: a disk that is not mounted looks the same, and nothing else would say so. */
        else if (store_is_new(manager->store) && folder_root_has_backup(backups))
                log_event(LOG_EVENT_STORE_LOST, NULL,
                        "There was no license store, and an empty one was made; but there are backups in '%s'. If the "
                        "store was lost, restore them before new ones are made.", backups);
        return EXIT_GOOD;
}

/* Signals come before calls: whoever asked for a reload and is answered then has its new configuration. */
static int add_signal(Manager *manager, int number, sd_event_signal_handler_t handler) {
        sd_event_source *source;
        int r;

        if ((r = sd_event_add_signal(manager->event, &source, number, handler, manager)) < 0)
                return r;
        if ((r = sd_event_source_set_priority(source, SD_EVENT_PRIORITY_IMPORTANT)) >= 0)
                r = sd_event_source_set_floating(source, true);
        sd_event_source_unref(source);
        return r;
}

static int set_up_event(Manager *manager) {
        int r;

        if ((r = sd_event_new(&manager->event)) < 0 ||
            (r = add_signal(manager, SIGTERM, on_stop)) < 0 || (r = add_signal(manager, SIGINT, on_stop)) < 0 ||
            (r = add_signal(manager, SIGHUP, on_reload)) < 0 ||
            (r = sd_event_add_post(manager->event, NULL, on_turn, manager)) < 0 ||
            (r = sd_event_set_watchdog(manager->event, true)) < 0 ||
            (r = mailbox_new(manager->event, &manager->mailbox)) < 0 ||
            (r = lent_new(manager->event, &manager->lent)) < 0) {
                log_error("The event loop cannot be set up: %s", g_strerror(-r));
                return EXIT_FAILED;
        }
        return EXIT_GOOD;
}

static void make_ids(Manager *manager) {
        sd_id128_t id;

        if (sd_id128_randomize(&id) >= 0)
                sd_id128_to_string(id, manager->instance_id);
        if (sd_id128_get_machine_app_specific(MACHINE_APPLICATION_ID, &id) >= 0)
                sd_id128_to_string(id, manager->machine);
}

int manager_new(Manager **ret) {
        Manager *manager;
        int r;

        manager = g_new0(Manager, 1);
        manager->lock_fd = -1;
        manager->last_answered = STRANGERS;
        manager->users = g_hash_table_new(g_direct_hash, g_direct_equal);
        manager->callers = g_hash_table_new(g_str_hash, g_str_equal);
        manager->jobs = g_hash_table_new(g_int64_hash, g_int64_equal);
        make_ids(manager);

        if ((r = find_folders(manager)) == EXIT_GOOD && (r = set_up_event(manager)) == EXIT_GOOD) {
                config_load(manager->config_folder, &manager->config, NULL);
                r = open_store(manager);
        }
        if (r != EXIT_GOOD) {
                manager_free(manager);
                return r;
        }

        look_at_roots(manager);
        *ret = manager;
        return EXIT_GOOD;
}

int manager_run(Manager *manager) {
        int r;

        r = manager_join_bus(manager);
        if (r == EXIT_GOOD)
                r = manager_take_name(manager);
        if (r != EXIT_GOOD)
                return r;

        if (manager->store) {
                uint64_t n = store_count(manager->store);
                log_info("Ready, with %" PRIu64 " license%s.", n, n == 1 ? "" : "s");
        } else
                log_info("Ready, without the license store.");
        notify_status(manager, "READY=1\n");
        r = sd_event_loop(manager->event);
        if (r < 0) {
                log_error("The event loop failed: %s", g_strerror(-r));
                return EXIT_FAILED;
        }
        return manager->exit_code;
}

Manager *manager_free(Manager *manager) {
        g_autoptr(GList) jobs = NULL;

        if (!manager)
                return NULL;

        /* A thread that still works has its hands on all of this: better to leave it to the system. */
        if (manager->n_workers > 0 || manager->n_lookups > 0 || manager->n_request_threads > 0) {
                if (manager->store)
                        store_stop(manager->store);
                (void)sd_notify(false, "STATUS=Stopped; what hung in the system was left behind");
                _exit(manager->exit_code);
        }

        jobs = g_hash_table_get_values(manager->jobs);
        for (GList *link = jobs; link; link = link->next)
                job_free(link->data);
        caller_forget_all(manager);
        outbox_forget_bus(manager);
        manager->store = store_free(manager->store);
        if (manager->mailbox)
                mailbox_deliver(manager->mailbox);

        sd_event_source_disable_unref(manager->slow_tick);
        sd_event_source_disable_unref(manager->stop_timer);
        sd_event_source_disable_unref(manager->flush_timer);
        sd_event_source_disable_unref(manager->begin_timer);
        sd_event_source_disable_unref(manager->pace_timer);
        sd_event_source_disable_unref(manager->lookup_timer);
        sd_event_source_disable_unref(manager->turn);
        mailbox_free(manager->mailbox);
        lent_free(manager->lent);
        /* Not flushed: a stop has waited for that, and a bus that takes nothing is not waited for without end. */
        sd_bus_close_unref(manager->bus);
        sd_event_unref(manager->event);
        fd_closep(&manager->lock_fd);
        g_hash_table_unref(manager->jobs);
        g_hash_table_unref(manager->callers);
        g_hash_table_unref(manager->users);
        config_clear(&manager->config);
        error_clear(&manager->store_error);
        g_free(manager->state_folder);
        g_free(manager->config_folder);
        g_free(manager);
        return NULL;
}
