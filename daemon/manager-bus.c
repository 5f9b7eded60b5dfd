/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manager-bus.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <linux/sockios.h>

#include "inbox.h"
#include "job.h"
#include "log.h"
#include "method.h"
#include "outbox.h"

/* Messages that are taken in, and calls that are done then; and how often that before all else has its turn. */
#define TAKE_MAX 64U
#define DO_MAX 4U
#define ROUNDS 16U
#define ROUNDS_USEC (20 * 1000)
/* The bus takes nothing for so long: calls are refused; and a little later the bus is left. */
#define CONGESTED_USEC (15 * G_USEC_PER_SEC)
#define LEAVE_USEC (17 * G_USEC_PER_SEC)
/*
 * What our socket holds (the kernel doubles it, and counts a small message as some 800 bytes): little, for all stand
 * in one line there, which dbus-daemon reads 2 KiB at a time. With a quarter of it GetLicense is a sixth slower; with
 * what the kernel gives, 104 KiB before it doubles them, a flood on dbus-daemon keeps others waiting for seconds.
 * Where several users are answered, it is half: in a flood others wait half as long; with less, dbus-daemon finds too
 * few answers there.
 */
#define SOCKET_BYTES (64 * 1024)
#define SHORT_SOCKET_BYTES (32 * 1024)

/* What comes in */

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
        if (sd_bus_message_is_method_call(message, NULL, NULL) && !method_is_ours(message))
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
                manager_tick_soon(manager);
                job_forget_connection(manager, name);
        }
        return 0;
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

        manager->taking = true;
        for (unsigned n = 0; n < TAKE_MAX && r > 0 && g_get_monotonic_time() < until; n++)
                r = sd_bus_process(manager->bus, NULL);
        manager->taking = manager->taken = false;
        /* Part of a message may be lost: there is no going on with what comes behind it. */
        if (r < 0 && sd_bus_is_open(manager->bus) > 0) {
                log_error("The connection to the bus is lost: %s", g_strerror(-r));
                manager->exit_code = EXIT_BUS_LOST;
                (void)sd_event_exit(manager->event, 0);
        }
}

static void wake_readers(Manager *manager) {
        if (manager->store)
                store_wake_readers(manager->store);
}

/*
 * sd-event lets the bus hand over one message a turn, and the bus keeps all others in one line. So more are taken in
 * than that, and calls done only a few at a time between: what is in the bus's line waits for everyone, what is in ours
 * for its own user. The first one of a turn is done at once where nothing waits in ours.
 */
void manager_take_and_do(Manager *manager) {
        int64_t until = g_get_monotonic_time() + ROUNDS_USEC;
        unsigned n = 0;

        while (manager->taken || !inbox_is_idle(manager)) {
                if (n > 0 || manager->taken)
                        take_in(manager, until);
                inbox_work(manager, DO_MAX);
                wake_readers(manager);
                if (++n == ROUNDS || g_get_monotonic_time() >= until)
                        break;
        }
        wake_readers(manager); /* for those that did not come from here */
        if (!inbox_is_idle(manager))
                turn_again(manager);
}

/* The connection */

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

/* Where it fails that costs speed, and is told once. */
static int set_socket(Manager *manager, bool is_short) {
        const int bytes = is_short ? SHORT_SOCKET_BYTES : SOCKET_BYTES;

        manager->has_short_socket = is_short;
        return setsockopt(sd_bus_get_fd(manager->bus), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

void manager_set_socket(Manager *manager, bool is_short) {
        if (manager->bus && is_short != manager->has_short_socket)
                (void)set_socket(manager, is_short);
}

/* Of a bus that was opened just now. */
static int offer(Manager *manager) {
        int r;

        /* Else sd-event's exit flushes first, and waits without end for a bus that takes nothing. */
        (void)sd_bus_set_close_on_exit(manager->bus, false);
        if (set_socket(manager, false) < 0)
                log_warning("The buffer of the bus's socket cannot be made small: %s", g_strerror(errno));
        manager->n_sent = manager->n_written = 0;
        manager->socket_bytes = 0;
        manager->unsent = false;
        manager->taken_at = g_get_monotonic_time();

        if ((r = add_objects(manager)) < 0 ||
            (r = sd_bus_attach_event(manager->bus, manager->event, SD_EVENT_PRIORITY_NORMAL)) < 0 ||
            (r = outbox_meet_bus(manager)) < 0) {
                log_error("The service cannot be offered on the bus: %s", g_strerror(-r));
                return EXIT_FAILED;
        }

        return EXIT_GOOD;
}

int manager_join_bus(Manager *manager) {
        int r;

        r = sd_bus_open_system(&manager->bus);
        if (r < 0) {
                log_error("The bus cannot be joined: %s. Is dbus running, and DBUS_SYSTEM_BUS_ADDRESS right?",
                        g_strerror(-r));
                return EXIT_FAILED;
        }
        return offer(manager);
}

int manager_take_name(Manager *manager) {
        int r;

        r = sd_bus_request_name(manager->bus, BUS_NAME, 0);
        if (r == -EEXIST) {
                log_error("The name " BUS_NAME " is taken on the bus: another licensevaultd is running. "
                          "Stop it first.");
                return EXIT_NAME_TAKEN;
        }
        if (r < 0) {
                bool denied = r == -EACCES || r == -EPERM;

                log_error("The name " BUS_NAME " cannot be had on the bus: %s.%s", g_strerror(-r), !denied ? "" :
                          " The bus gives it to the user licensevault alone: have systemd start licensevaultd, or run "
                          "it as that user. If it is, see whether the policy file " BUS_NAME ".conf is installed.");
                return EXIT_FAILED;
        }
        return EXIT_GOOD;
}

/*
 * Of a bus that was left, and may hang still: so many wait to be let in then that it is not known when it would be our
 * turn. That passes. A bus that is not there any more is lost.
 */
static int join_again(Manager *manager) {
        int r;

        r = sd_bus_open_system(&manager->bus);
        if (r == -EAGAIN) {
                manager_tick_soon(manager);
                return 0;
        }
        if (r < 0)
                log_error("The connection to the bus is lost: %s", g_strerror(-r));
        /* The bus may not have seen yet that our old self has gone: then it gives us the name when it does. */
        if (r < 0 || offer(manager) != EXIT_GOOD ||
            sd_bus_request_name_async(manager->bus, NULL, BUS_NAME, SD_BUS_NAME_QUEUE, NULL, NULL) < 0) {
                manager->exit_code = EXIT_BUS_LOST;
                return sd_event_exit(manager->event, 0);
        }
        return 0;
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
        return join_again(manager);
}

/* Whether it takes what we send */

/* What the bus has not taken yet: messages that wait here, and bytes that wait in the socket. */
static void look_at_queue(const Manager *manager, uint64_t *ret_messages, int *ret_bytes) {
        int fd = sd_bus_get_fd(manager->bus);

        *ret_messages = 0;
        *ret_bytes = 0;
        (void)sd_bus_get_n_queued_write(manager->bus, ret_messages);
        if (fd >= 0)
                (void)ioctl(fd, SIOCOUTQ, ret_bytes);
}

bool manager_has_unsent(const Manager *manager) {
        uint64_t messages;
        int bytes;

        if (!manager->bus)
                return false;
        look_at_queue(manager, &messages, &bytes);
        return messages > 0 || bytes > 0;
}

/*
 * Whether the bus takes what we send. It does not while clients that read nothing fill it up, which the outbox
 * prevents where the bus tells who reads: their answers are counted against us, and it does not read on. A whole
 * answer may lie in the socket then, with nothing that waits here.
 */
int manager_watch_bus(Manager *manager) {
        int64_t now = g_get_monotonic_time();
        uint64_t messages, written;
        int bytes;

        if (!manager->bus)
                return join_again(manager);
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

        manager->unsent = messages > 0 || bytes > 0;
        if (manager->unsent)
                manager_tick_soon(manager);
        return 0;
}
