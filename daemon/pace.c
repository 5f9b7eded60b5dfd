/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pace.h"

#include "manager-bus.h"

/*
 * On dbus-broker, of all users together. docs/hacking.md tells what it was measured to do, and what more of them did.
 */
#define BROKER_PER_SEC 6000
/* On dbus-daemon. More than it ever takes; and what is left to who waits, however slow it is. */
#define MAX_PER_SEC 100000
#define MIN_PER_SEC 200
/* Its answer took so long: it has too much to do. Or it has time. */
#define SLOW_USEC 2000
#define FAST_USEC 1000
/* And that while so many connections wait for an answer: it may be what waits that makes it slow. */
#define FLOOD_CONNECTIONS 16U
/* It is asked after so many answers; or after a while where they are held back. */
#define MEASURE_ANSWERS 64
#define MEASURE_USEC 5000
/* A larger one counts as several. */
#define ANSWER_BYTES (16 * 1024)
#define DAEMON_ANSWER_BYTES 4096
/* So much of its share a user may have at once. */
#define BURST_USEC (20 * 1000)
/* Nobody else was answered for so long: who is, is alone. */
#define ALONE_USEC G_USEC_PER_SEC
/* Some answers at a time: a turn of the loop for each would cost more than they do. */
#define WAIT_USEC 1000

static bool is_shared(const Manager *manager, int64_t now) {
        return now < manager->shared_until && !manager->stopping;
}

static int64_t per_sec(const Manager *manager) {
        return manager->is_broker ? BROKER_PER_SEC : manager->answers_per_sec ?: MAX_PER_SEC;
}

static bool is_flood(const Manager *manager, int64_t now) {
        return is_shared(manager, now) && manager->n_ready[TURN_LETTER] >= FLOOD_CONNECTIONS;
}

static bool is_paced(const Manager *manager, int64_t now) {
        return manager->is_broker ? is_shared(manager, now) : manager->answers_per_sec > 0 && is_flood(manager, now);
}

bool pace_allows(const User *user, int64_t now) {
        return !is_paced(user->manager, now) || now >= user->next_answer_at;
}

void pace_count(User *user, uint64_t bytes, int64_t now) {
        Manager *manager = user->manager;
        /* Those that wait, and the one whose turn it was, which may not stand there now. */
        int64_t n_sharing = manager->ready_users[TURN_LETTER].length + g_queue_is_empty(&user->ready[TURN_LETTER]);
        int64_t n_answers = 1 + (int64_t)bytes / (manager->is_broker ? ANSWER_BYTES : DAEMON_ANSWER_BYTES);

        if (user->uid != manager->last_answered && user->uid != STRANGERS) {
                /* Before the first one there was nobody. */
                if (manager->last_answered != STRANGERS)
                        manager->shared_until = now + ALONE_USEC;
                manager->last_answered = user->uid;
        }
        /* What it got while nobody was held back is not held against it. */
        user->next_answer_at = CLAMP(user->next_answer_at, now - BURST_USEC, now) +
                n_answers * n_sharing * G_USEC_PER_SEC / per_sec(manager);
        manager->n_measured += n_answers;
        manager_set_socket(manager, !manager->is_broker && is_shared(manager, now));
}

static int on_waited(sd_event_source *source, uint64_t usec, void *userdata) {
        return 0; /* the loop has turned */
}

void pace_wait(Manager *manager) {
        if (!manager->pace_timer)
                (void)sd_event_add_time_relative(manager->event, &manager->pace_timer, CLOCK_MONOTONIC, WAIT_USEC, 1,
                        on_waited, manager);
        else if (sd_event_source_get_enabled(manager->pace_timer, NULL) == 0) {
                (void)sd_event_source_set_time_relative(manager->pace_timer, WAIT_USEC);
                (void)sd_event_source_set_enabled(manager->pace_timer, SD_EVENT_ONESHOT);
        }
}

static void begin_anew(Manager *manager, int64_t now) {
        manager->n_measured = 0;
        manager->measured_at = now;
}

static void slow_down(Manager *manager, int64_t now) {
        int64_t was = manager->answers_per_sec ?:
                manager->n_measured * G_USEC_PER_SEC / MAX(now - manager->measured_at, 1);

        /* Otherwise it has much to do that is not of our making. */
        if (manager->answers_per_sec > 0 || manager->n_measured >= MEASURE_ANSWERS)
                manager->answers_per_sec = CLAMP(was * 3 / 4, MIN_PER_SEC, MAX_PER_SEC);
        begin_anew(manager, now);
}

static void speed_up(Manager *manager, int64_t now) {
        int64_t more = manager->answers_per_sec * 5 / 4;

        manager->answers_per_sec = more < MAX_PER_SEC ? more : 0;
        begin_anew(manager, now);
}

void pace_learn(Manager *manager, int64_t took, int64_t now) {
        if (took > SLOW_USEC)
                slow_down(manager, now);
        else if (took < FAST_USEC)
                speed_up(manager, now);
        else
                begin_anew(manager, now);
}

static int on_measured(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        Manager *manager = userdata;
        int64_t now = g_get_monotonic_time();

        manager->measure_slot = sd_bus_slot_unref(manager->measure_slot);
        pace_learn(manager, now - manager->asked_at, now);
        return 0;
}

static void ask(Manager *manager, int64_t now) {
        manager->asked_at = manager->late_at = now;
        (void)sd_bus_call_method_async(manager->bus, &manager->measure_slot, "org.freedesktop.DBus",
                "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetId", on_measured, manager, "");
}

void pace_measure(Manager *manager) {
        int64_t now = g_get_monotonic_time();

        if (manager->is_broker)
                return;
        if (!is_flood(manager, now)) {
                manager->answers_per_sec = 0;
                begin_anew(manager, now);
                return;
        }
        if (!manager->measure_slot) {
                if (manager->n_measured >= MEASURE_ANSWERS ||
                    (manager->answers_per_sec > 0 && now - manager->measured_at >= MEASURE_USEC))
                        ask(manager, now);
        } else if (now - manager->late_at > SLOW_USEC) {
                /* What is late already need not be waited for. */
                slow_down(manager, now);
                manager->late_at = now;
        }
}

void pace_forget_bus(Manager *manager) {
        manager->measure_slot = sd_bus_slot_unref(manager->measure_slot);
        manager->answers_per_sec = 0;
}
