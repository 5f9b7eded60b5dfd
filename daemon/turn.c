/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "turn.h"

#include "caller.h"
#include "pace.h"

/* A user is among the ready ones of all while one of its callers is among its own. */

static void push(Caller *caller, TurnKind kind) {
        User *line = caller->line;

        caller->turns[kind].is_ready = true;
        line->manager->n_ready[kind]++;
        if (g_queue_is_empty(&line->ready[kind]))
                g_queue_push_tail(&line->manager->ready_users[kind], line);
        g_queue_push_tail(&line->ready[kind], caller);
}

/* Answers come at a pace; calls are done as soon as they can. */
static User *pop_user(Manager *manager, TurnKind kind) {
        GQueue *users = &manager->ready_users[kind];
        int64_t now = kind == TURN_LETTER ? g_get_monotonic_time() : 0;

        for (unsigned n = users->length; n > 0; n--) {
                User *user = g_queue_pop_head(users);

                if (kind != TURN_LETTER || pace_allows(user, now))
                        return user;
                g_queue_push_tail(users, user);
        }
        return NULL;
}

static Caller *pop(Manager *manager, TurnKind kind) {
        User *user = pop_user(manager, kind);
        Caller *caller;

        if (!user)
                return NULL;
        caller = g_queue_pop_head(&user->ready[kind]);
        caller->turns[kind].is_ready = false;
        manager->n_ready[kind]--;
        if (!g_queue_is_empty(&user->ready[kind]))
                g_queue_push_tail(&manager->ready_users[kind], user);
        return caller;
}

void turn_join(Caller *caller, TurnKind kind, uint64_t price) {
        caller->turns[kind].price = price;
        if (!caller->turns[kind].is_ready)
                push(caller, kind);
}

void turn_leave(Caller *caller, TurnKind kind) {
        User *line = caller->line;

        if (!caller->turns[kind].is_ready)
                return;
        caller->turns[kind] = (Turn) {};
        line->manager->n_ready[kind]--;
        g_queue_remove(&line->ready[kind], caller);
        if (g_queue_is_empty(&line->ready[kind]))
                g_queue_remove(&line->manager->ready_users[kind], line);
}

Caller *turn_next(Manager *manager, TurnKind kind) {
        Caller *caller;

        while ((caller = pop(manager, kind))) {
                Turn *turn = &caller->turns[kind];

                turn->credit += TURN_CREDIT;
                /*
                 * Who is alone takes nothing from others. What was saved for a large one stays when a small one goes
                 * first.
                 */
                if (turn->credit >= turn->price || g_queue_is_empty(&manager->ready_users[kind])) {
                        turn->credit -= MIN(turn->credit, turn->price);
                        turn->credit = MIN(turn->credit, TURN_CREDIT_MAX);
                        break;
                }
                push(caller, kind);
        }
        return caller;
}
