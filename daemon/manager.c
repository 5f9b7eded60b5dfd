/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manager.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <linux/sockios.h>

#include <systemd/sd-id128.h>

#include "draft.h"
#include "folder.h"
#include "inbox.h"
#include "job.h"
#include "log.h"
#include "method.h"
#include "notice.h"
#include "outbox.h"
#include "restricted.h"

/* Messages that are taken in, and calls that are done then; and how often that before all else has its turn. */
#define TAKE_MAX 64U
#define DO_MAX 4U
#define ROUNDS 16U
#define ROUNDS_USEC (20 * 1000)
#define TICK_USEC (1 * G_USEC_PER_SEC)
/* The bus takes nothing for so long: calls are refused; and a little later the bus is left. */
#define CONGESTED_USEC (15 * G_USEC_PER_SEC)
#define LEAVE_USEC (17 * G_USEC_PER_SEC)
/* What our socket holds (the kernel doubles it): little, for all stand in one line there. */
#define SOCKET_BYTES (16 * 1024)
/* For jobs to end, answers to be sent, and threads to come back, when the daemon stops. */
#define STOP_USEC (10 * G_USEC_PER_SEC)
/* Of that, for answers to be sent once nothing works any more: a flood of calls never lets them end. */
#define FLUSH_USEC (2 * G_USEC_PER_SEC)

/* Mixed into the machine's id, so that a backup names the machine without telling the id itself. */
#define MACHINE_APPLICATION_ID SD_ID128_MAKE(6f,1d,0c,9a,5e,31,4b,7e,8f,24,b0,5d,77,c8,42,19)

static int connect_bus(Manager *manager);

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
                manager_send(manager, reply);
}

void manager_send_empty(Manager *manager, sd_bus_message *message) {
        sd_bus_message *reply = NULL;

        if (sd_bus_message_get_expect_reply(message) && sd_bus_message_new_method_return(message, &reply) >= 0)
                manager_send(manager, reply);
}

/* The state that systemd shows */

static int on_slow_tick(sd_event_source *source, uint64_t usec, void *userdata);

static void tick_within_a_second(Manager *manager) {
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

void manager_status_changed(Manager *manager) {
        tick_within_a_second(manager);
}

static int leave_bus(Manager *manager) {
        log_event(LOG_EVENT_BUS_LEFT, NULL,
                "The bus has taken nothing from us for a while: leaving it, and coming back.");
        job_forget_connection(manager, NULL);
        caller_forget_all(manager);
        outbox_forget_bus(manager);
        sd_bus_detach_event(manager->bus);
        sd_bus_close(manager->bus);
        manager->bus = sd_bus_unref(manager->bus);
        manager->congested = false;

        manager->exit_code = connect_bus(manager);
        /* The bus may not have seen yet that our old self has gone: then it gives us the name when it does. */
        if (manager->exit_code == EXIT_GOOD &&
            sd_bus_request_name_async(manager->bus, NULL, BUS_NAME, SD_BUS_NAME_QUEUE, NULL, NULL) < 0)
                manager->exit_code = EXIT_BUS_LOST;
        return manager->exit_code == EXIT_GOOD ? 0 : sd_event_exit(manager->event, 0);
}

/* What the bus has not taken yet: messages that wait here, and bytes that wait in the socket. */
static void look_at_queue(Manager *manager, uint64_t *ret_messages, int *ret_bytes) {
        int fd = sd_bus_get_fd(manager->bus);

        *ret_messages = 0;
        *ret_bytes = 0;
        (void)sd_bus_get_n_queued_write(manager->bus, ret_messages);
        if (fd >= 0)
                (void)ioctl(fd, SIOCOUTQ, ret_bytes);
}

/*
 * Whether the bus takes what we send. It does not while clients that read nothing fill it up, which the outbox
 * prevents where the bus tells who reads: their answers are counted against us, and it does not read on. A whole
 * answer may lie in the socket then, with nothing that waits here.
 */
static int watch_bus(Manager *manager) {
        int64_t now = g_get_monotonic_time();
        uint64_t messages, written;
        int bytes;

        look_at_queue(manager, &messages, &bytes);
        written = manager->n_sent - MIN(messages, manager->n_sent);
        if ((messages == 0 && bytes == 0) || bytes < manager->socket_bytes ||
            (bytes == manager->socket_bytes && written > manager->n_written)) {
                manager->taken_at = now;
                manager->congested = false;
        } else if (now - manager->taken_at >= LEAVE_USEC)
                return leave_bus(manager);
        else if (now - manager->taken_at >= CONGESTED_USEC)
                manager->congested = true;
        manager->socket_bytes = bytes;
        manager->n_written = written;

        if (messages > 0 || bytes > 0)
                tick_within_a_second(manager);
        return 0;
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
                tick_within_a_second(manager);
}

static int on_slow_tick(sd_event_source *source, uint64_t usec, void *userdata) {
        Manager *manager = userdata;

        notify_status(manager, "");
        give_memory_back(manager);
        return watch_bus(manager);
}

static int on_turn_again(sd_event_source *source, void *userdata) {
        return 0; /* the loop has turned */
}

/* The loop turns at once, whether or not anything happens. */
static void turn_again(Manager *manager) {
        if (!manager->turn)
                (void)sd_event_add_defer(manager->event, &manager->turn, on_turn_again, manager);
        else
                (void)sd_event_source_set_enabled(manager->turn, SD_EVENT_ONESHOT);
}

/* Takes in what the bus has, up to a bound. */
static void take_in(Manager *manager, int64_t until) {
        int r = 1;

        for (unsigned n = 0; n < TAKE_MAX && r > 0 && g_get_monotonic_time() < until; n++)
                r = sd_bus_process(manager->bus, NULL);
        manager->taken = false;
        /* Part of a message may be lost: there is no going on with what comes behind it. */
        if (r < 0 && sd_bus_is_open(manager->bus) > 0) {
                log_error("The connection to the bus is lost: %s", g_strerror(-r));
                manager->exit_code = EXIT_BUS_LOST;
                (void)sd_event_exit(manager->event, 0);
        }
}

/*
 * sd-event lets the bus hand over one message a turn, and the bus keeps all others in one line. So more are taken in
 * than that, and calls done only a few at a time between: what is in the bus's line waits for everyone, what is in ours
 * for its own user.
 */
static void take_and_do(Manager *manager) {
        int64_t until = g_get_monotonic_time() + ROUNDS_USEC;
        unsigned n = 0;

        while (manager->taken || !inbox_is_idle(manager)) {
                if (n > 0 || manager->taken)
                        take_in(manager, until);
                inbox_work(manager, DO_MAX);
                if (++n == ROUNDS || g_get_monotonic_time() >= until)
                        break;
        }
        if (!inbox_is_idle(manager))
                turn_again(manager);
}

/* Whatever made the loop turn may have sent a message: then it is watched whether the bus takes it. */
static int on_turn(sd_event_source *source, void *userdata) {
        Manager *manager = userdata;
        uint64_t messages;
        int bytes;

        if (!manager->bus)
                return 0;

        take_and_do(manager);
        outbox_pump(manager);
        manager_maybe_exit(manager);
        if (sd_event_source_get_enabled(manager->slow_tick, NULL) > 0)
                return 0;
        look_at_queue(manager, &messages, &bytes);
        if (messages > 0 || bytes > 0) {
                manager->taken_at = g_get_monotonic_time();
                tick_within_a_second(manager);
        }
        return 0;
}

/* Stopping */

static int on_flush_due(sd_event_source *source, uint64_t usec, void *userdata) {
        return sd_event_exit(((Manager *)userdata)->event, 0);
}

void manager_maybe_exit(Manager *manager) {
        uint64_t messages;
        int bytes;

        if (!manager->stopping || manager->n_unfinished > 0 || manager->n_requests > 0 || manager->n_workers > 0 ||
            manager->n_lookups > 0)
                return;
        look_at_queue(manager, &messages, &bytes);
        if (messages > 0 || bytes > 0 || !inbox_is_idle(manager) || !outbox_is_idle(manager)) {
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
static void *roots_thread(void *userdata) {
        char **roots = userdata;

        for (char **root = roots; *root; root++) {
                tidy(*root);
                folder_tidy_root(*root);
                try_root(*root);
        }
        g_strfreev(roots);
        return NULL;
}

static void look_at_roots(Manager *manager) {
        pthread_t thread;
        char **roots;

        if (!*manager->config.roots)
                return;
        roots = g_strdupv(manager->config.roots);
        if (pthread_create(&thread, NULL, roots_thread, roots) == 0)
                pthread_detach(thread);
        else
                g_strfreev(roots);
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

/* The bus */

/* Properties of jobs are not everyone's to read, and who asks may have to be found out first. */
static int on_message(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Manager *manager = userdata;

        manager->taken = true;
        if (sd_bus_message_is_signal(message, "org.freedesktop.DBus.Local", "Disconnected")) {
                log_error("The connection to the bus is lost.");
                manager->exit_code = EXIT_BUS_LOST;
                return sd_event_exit(manager->event, 0);
        }

        if (sd_bus_message_is_method_call(message, "org.freedesktop.DBus.Properties", NULL) &&
            g_str_has_prefix(sd_bus_message_get_path(message), JOB_PATH "/")) {
                method_take(manager, message);
                return 1;
        }
        /* As sd-bus would, but in turn, and to whoever asks. */
        if (sd_bus_message_is_method_call(message, "org.freedesktop.DBus.Peer", "Ping")) {
                const char *sender = sd_bus_message_get_sender(message);

                if (sender)
                        (void)caller_get(manager, sender);
                manager_send_empty(manager, message);
                return 1;
        }
        if (sd_bus_message_is_method_call(message, NULL, NULL) &&
            (!method_find(sd_bus_message_get_interface(message), sd_bus_message_get_member(message)) ||
             sd_bus_message_is_method_call(message, "org.freedesktop.DBus.Properties", NULL)))
                return !outbox_let_pass(manager, message);
        return 0;
}

/* Every path of the right form, so that who looks at one learns nothing of the jobs that there are. */
static int find_job(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret_found,
                sd_bus_error *error) {
        *ret_found = userdata;
        return job_path_is_valid(path);
}

/*
 * For who introspects: its jobs, if it is known who that is, which it is after a first call of a method.
 * (`busctl tree` makes none, and sees no jobs.)
 */
static int list_job_nodes(sd_bus *bus, const char *prefix, void *userdata, char ***ret_nodes, sd_bus_error *error) {
        Manager *manager = userdata;
        sd_bus_message *message = sd_bus_get_current_message(bus);
        const char *sender = message ? sd_bus_message_get_sender(message) : NULL;
        const Caller *caller = sender ? caller_find(manager, sender) : NULL;
        GPtrArray *nodes = g_ptr_array_new();
        GHashTableIter iterator;
        Job *job;

        g_hash_table_iter_init(&iterator, manager->jobs);
        while (caller && caller->user_name && g_hash_table_iter_next(&iterator, NULL, (void **)&job))
                if (job_is_visible(job, caller))
                        g_ptr_array_add(nodes, g_strdup(job->path));
        g_ptr_array_add(nodes, NULL);

        /* sd-bus frees it with free(), which is what GLib's memory is made for since 2.46. */
        *ret_nodes = (char **)g_ptr_array_free(nodes, false);
        return 0;
}

/*
 * Anyone can send such a signal to us, and a match whose sender is no unique name is, to sd-bus, met by any sender.
 * Whoever lied here would take from another its subscription and the end of its job.
 */
static int on_name_gone(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Manager *manager = userdata;
        const char *name;

        if (g_strcmp0(sd_bus_message_get_sender(message), "org.freedesktop.DBus") == 0 &&
            sd_bus_message_read(message, "s", &name) >= 0) {
                Caller *caller = caller_find(manager, name);

                /* Who wants no answer may leave at once. */
                if (caller)
                        inbox_finish(caller, true);
                caller_gone(manager, name);
                tick_within_a_second(manager);
                job_forget_connection(manager, name);
        }
        return 0;
}

static int add_objects(Manager *manager) {
        sd_bus *bus = manager->bus;
        int r;

        for (const Interface *interface = root_interfaces; interface->name; interface++) {
                r = sd_bus_add_object_vtable(bus, NULL, ROOT_PATH, interface->name, interface->vtable, manager);
                if (r < 0)
                        return r;
        }

        if ((r = sd_bus_add_fallback_vtable(bus, NULL, JOB_PATH, job_interface.name, job_interface.vtable, find_job,
                     manager)) < 0 ||
            (r = sd_bus_add_node_enumerator(bus, NULL, JOB_PATH, list_job_nodes, manager)) < 0 ||
            (r = sd_bus_add_filter(bus, NULL, on_message, manager)) < 0)
                return r;

        /* One match for all departures: with one a caller, the bus throws us off at the 512th. */
        return sd_bus_add_match_async(bus, NULL,
                "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg2=''",
                on_name_gone, NULL, manager);
}

/* Joins the bus. Returns 0 or an ExitCode. */
static int connect_bus(Manager *manager) {
        const int socket_bytes = SOCKET_BYTES;
        int r;

        r = sd_bus_open_system(&manager->bus);
        if (r < 0) {
                log_error("The bus cannot be joined: %s. Is dbus running, and DBUS_SYSTEM_BUS_ADDRESS right?",
                        g_strerror(-r));
                return EXIT_FAILED;
        }
        if (setsockopt(sd_bus_get_fd(manager->bus), SOL_SOCKET, SO_SNDBUF, &socket_bytes, sizeof socket_bytes) < 0)
                log_warning("The buffer of the bus's socket cannot be made small: %s", g_strerror(errno));
        manager->n_sent = manager->n_written = 0;
        manager->socket_bytes = 0;
        manager->taken_at = g_get_monotonic_time();

        if ((r = add_objects(manager)) < 0 ||
            (r = sd_bus_attach_event(manager->bus, manager->event, SD_EVENT_PRIORITY_NORMAL)) < 0) {
                log_error("The service cannot be offered on the bus: %s", g_strerror(-r));
                return EXIT_FAILED;
        }

        return EXIT_GOOD;
}

static int take_name(Manager *manager) {
        int r;

        r = sd_bus_request_name(manager->bus, BUS_NAME, 0);
        if (r == -EEXIST) {
                log_error("The name " BUS_NAME " is taken on the bus: another licensevaultd is running. "
                          "Stop it first.");
                return EXIT_NAME_TAKEN;
        }
        if (r < 0) {
                log_error("The name " BUS_NAME " cannot be had on the bus: %s. Is the policy file installed?",
                        g_strerror(-r));
                return EXIT_FAILED;
        }
        return EXIT_GOOD;
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

/* Opens the store, or remembers why not: who has one that cannot be read is told so by the service. */
static int open_store(Manager *manager) {
        g_autofree char *backups = g_strconcat(manager->state_folder, "/backups", NULL);
        g_auto(Error) error = {};
        int r;

        r = store_lock(manager->state_folder, &manager->lock_fd, &error);
        if (r != 0) {
                log_error("%s (%s)", error_message(&error), error_hresult_name(error.code));
                return r == ERROR_STORE_LOCKED ? EXIT_LOCKED : EXIT_ENVIRONMENT;
        }

        r = folder_make(manager->state_folder, "backups");
        if (r < 0)
                log_warning("The folder '%s' cannot be made: %s", backups, g_strerror(-r));
        tidy(manager->state_folder);
        folder_tidy_root(backups);

        if (store_open(manager->state_folder, &manager->config.limits, &manager->store, &manager->store_error) != 0)
                log_event(LOG_EVENT_STORE_UNREADABLE, LOG_VALUES(error_hresult_name(manager->store_error.code)),
                        "%s (%s)", error_message(&manager->store_error),
                        error_hresult_name(manager->store_error.code));
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
            (r = mailbox_new(manager->event, &manager->mailbox)) < 0) {
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

        r = connect_bus(manager);
        if (r == EXIT_GOOD)
                r = take_name(manager);
        if (r != EXIT_GOOD)
                return r;

        log_info("Ready, with %" PRIu64 " licenses.", manager->store ? store_count(manager->store) : 0);
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
                (void)sd_notify(false, "STATUS=Stopped; some jobs hung in the system");
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
        sd_event_source_disable_unref(manager->deferred);
        sd_event_source_disable_unref(manager->turn);
        mailbox_free(manager->mailbox);
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
