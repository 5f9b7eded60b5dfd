/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pace.h"

#include "manager-bus.h"

/* Of all users together. docs/hacking.md tells what it was measured to do, and what more of them did. */
#define ANSWERS_PER_SEC 6000
/* A larger one counts as several. */
#define ANSWER_BYTES (16 * 1024)
/* So much of its share a user may have at once. */
#define BURST_USEC (20 * 1000)
/* Nobody else was answered for so long: who is, is alone. */
#define ALONE_USEC G_USEC_PER_SEC
/* Some answers at a time: a turn of the loop for each would cost more than they do. */
#define WAIT_USEC 1000

static bool is_shared(const Manager *manager, int64_t now) {
        return now < manager->shared_until && !manager->stopping;
}

bool pace_allows(const User *user, int64_t now) {
        return !user->manager->is_broker || !is_shared(user->manager, now) || now >= user->next_answer_at;
}

void pace_count(User *user, uint64_t bytes, int64_t now) {
        Manager *manager = user->manager;
        /* Those that wait, and the one whose turn it was, which may not stand there now. */
        int64_t n_sharing = manager->ready_users[TURN_LETTER].length + g_queue_is_empty(&user->ready[TURN_LETTER]);
        int64_t n_answers = 1 + (int64_t)(bytes / ANSWER_BYTES);

        if (user->uid != manager->last_answered && user->uid != STRANGERS) {
                manager->last_answered = user->uid;
                manager->shared_until = now + ALONE_USEC;
        }
        /* What it got while nobody was held back is not held against it. */
        user->next_answer_at = CLAMP(user->next_answer_at, now - BURST_USEC, now) +
                n_answers * n_sharing * G_USEC_PER_SEC / ANSWERS_PER_SEC;
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
