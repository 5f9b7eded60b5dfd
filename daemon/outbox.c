/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "outbox.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "log.h"
#include "message-size.h"

/*
 * A connection gets no more than that of which it is not known whether it has read it. The bus is asked once half of it
 * was sent, so that who reads does not wait for the answer.
 */
#define WINDOW_BYTES (64U * 1024U)
#define ASK_BYTES (WINDOW_BYTES / 2)
/* The bus keeps more than that for a connection only where its socket is full, too: it does not read. */
#define UNREAD_BYTES (16U * 1024U)
/* Who reads is behind for a moment only, and must not lose more than that. */
#define ASK_AGAIN_USEC 250
#define ASK_AGAIN_MAX_USEC (1000 * 1000)
#define ANSWER_USEC (25 * G_USEC_PER_SEC)
/* Of a user, in answers that wait for their turn; with those that its calls in the store become, some 12 MiB. */
#define WAITING_BYTES_MAX (4U * 1024U * 1024U)
/* Of a connection, before it is told no more of how far jobs are: else a deaf one would leave no room to its user. */
#define PROGRESS_BYTES_MAX (256U * 1024U)

/* An answer to Introspect, rather more than it is. */
#define INTROSPECT_BYTES (16U * 1024U)

/* Nobody's: those wait there whose user is not known yet. */
#define STRANGERS ((uid_t)-1)

typedef struct Letter {
        sd_bus_message *message;
        uint64_t bytes;
        bool is_call; /* which sd-bus answers when its turn comes */
} Letter;

static void letter_free(Letter *letter) {
        sd_bus_message_unref(letter->message);
        g_free(letter);
}

static bool is_full(const Caller *caller) {
        return caller->asking && caller->unread >= WINDOW_BYTES;
}

static void line_up(Caller *caller) {
        const Letter *next = g_queue_peek_head(&caller->letters);

        if (!is_full(caller) && next)
                turn_join(caller, TURN_LETTER, next->bytes);
}

static void join(Caller *caller, uid_t uid) {
        User *former = caller->line;

        if (former) {
                turn_leave(caller, TURN_LETTER);
                former->waiting_bytes -= caller->waiting_bytes;
        }
        caller->line = user_get(caller->manager, uid);
        caller->line->waiting_bytes += caller->waiting_bytes;
        user_unref(former);
        line_up(caller);
}

void outbox_join_strangers(Caller *caller) {
        join(caller, STRANGERS);
}

void outbox_join_user(Caller *caller) {
        join(caller, caller->user->uid);
}

static void send_now(Manager *manager, sd_bus_message *message) {
        int r;

        /* Of a bus that was left: its peers are gone, and nobody waits. */
        if (!manager->bus || sd_bus_message_get_bus(message) != manager->bus)
                return;
        r = sd_bus_send(manager->bus, message, NULL);
        if (r >= 0)
                manager->n_sent++;
        else if (r != -ENOTCONN)
                log_warning("A message cannot be sent: %s", g_strerror(-r));
}

/* Whether a client reads */

static void ask(Caller *caller);

/* Reads OutgoingBytes: what the bus keeps for the connection. */
static int read_outgoing(sd_bus_message *reply, uint32_t *ret) {
        const char *key;
        int r;

        r = sd_bus_message_enter_container(reply, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(reply, 'e', "sv")) > 0) {
                if ((r = sd_bus_message_read(reply, "s", &key)) < 0)
                        return r;
                if (strcmp(key, "OutgoingBytes") == 0)
                        return sd_bus_message_read(reply, "v", "u", ret);
                if ((r = sd_bus_message_skip(reply, "v")) >= 0)
                        r = sd_bus_message_exit_container(reply);
        }
        return r < 0 ? r : -ENODATA;
}

static int on_ask_again(sd_event_source *source, uint64_t usec, void *userdata) {
        Caller *caller = userdata;

        ask(caller);
        if (!caller->asking) {
                line_up(caller);
                outbox_pump(caller->manager);
        }
        return 0;
}

static int ask_later(Caller *caller) {
        Manager *manager = caller->manager;
        int r;

        caller->pause_usec = CLAMP(2 * caller->pause_usec, ASK_AGAIN_USEC, ASK_AGAIN_MAX_USEC);
        caller->ask_timer = sd_event_source_disable_unref(caller->ask_timer);
        /* Exactly then: sd-event may be 250 ms late where it is not told how late it may be. */
        r = sd_event_add_time_relative(manager->event, &caller->ask_timer, CLOCK_MONOTONIC, caller->pause_usec, 1,
                on_ask_again, caller);
        return r;
}

static void ask_if_due(Caller *caller) {
        if (caller->unread >= ASK_BYTES && !caller->asking && !caller->manager->bus_keeps_silent)
                ask(caller);
}

static void has_read(Caller *caller) {
        caller->asking = false;
        caller->unread = caller->since_question;
        caller->pause_usec = 0;
        ask_if_due(caller);
        line_up(caller);
        outbox_pump(caller->manager);
}

/* Not the question about this connection, which may have gone, but any. */
static bool is_refused(sd_bus_message *reply) {
        return sd_bus_message_is_method_error(reply, SD_BUS_ERROR_ACCESS_DENIED) ||
                sd_bus_message_is_method_error(reply, SD_BUS_ERROR_UNKNOWN_INTERFACE) ||
                sd_bus_message_is_method_error(reply, SD_BUS_ERROR_UNKNOWN_METHOD);
}

static int on_answer(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        Caller *caller = userdata;
        uint32_t outgoing;

        caller->ask_slot = sd_bus_slot_unref(caller->ask_slot);
        if (is_refused(reply))
                caller->manager->bus_keeps_silent = true;
        else if (!sd_bus_message_is_method_error(reply, NULL) && read_outgoing(reply, &outgoing) >= 0 &&
            outgoing > UNREAD_BYTES && ask_later(caller) >= 0)
                return 0;
        has_read(caller);
        return 0;
}

/* The question goes behind all that was sent: the answer also tells that the bus has taken that. */
static void ask(Caller *caller) {
        Manager *manager = caller->manager;
        sd_bus_message *question = NULL;
        int r;

        caller->asking = true;
        caller->since_question = 0;
        r = sd_bus_message_new_method_call(manager->bus, &question, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                "org.freedesktop.DBus.Debug.Stats", "GetConnectionStats");
        if (r >= 0)
                r = sd_bus_message_append(question, "s", caller->name);
        if (r >= 0)
                r = sd_bus_call_async(manager->bus, &caller->ask_slot, question, on_answer, caller, ANSWER_USEC);
        sd_bus_message_unref(question);
        if (r < 0 && ask_later(caller) < 0)
                caller->asking = false;
}

static void count(Caller *caller, uint64_t bytes) {
        caller->unread += bytes;
        caller->since_question += bytes;
        ask_if_due(caller);
}

/* In turn */

/* Not while a call that was let pass is on its way to sd-bus, which will send the answer. */
static bool bus_takes_more(const Manager *manager) {
        uint64_t queued;

        return manager->bus && !manager->passing &&
                sd_bus_get_n_queued_write(manager->bus, &queued) >= 0 && queued == 0;
}

/* Gives a call back to sd-bus: it comes again through outbox_let_pass(). */
static void pass(Manager *manager, sd_bus_message *message) {
        if (sd_bus_message_get_bus(message) == manager->bus && sd_bus_enqueue_for_read(manager->bus, message) >= 0)
                manager->passing = sd_bus_message_ref(message);
}

static void deliver(Manager *manager, Caller *caller, const Letter *letter) {
        if (letter->is_call)
                pass(manager, letter->message);
        else {
                send_now(manager, letter->message);
                count(caller, letter->bytes);
        }
}

void outbox_pump(Manager *manager) {
        while (!outbox_is_idle(manager) && bus_takes_more(manager)) {
                Caller *caller = turn_next(manager, TURN_LETTER);
                Letter *letter = g_queue_pop_head(&caller->letters);

                caller->waiting_bytes -= letter->bytes;
                caller->line->waiting_bytes -= letter->bytes;
                deliver(manager, caller, letter);
                letter_free(letter);
                line_up(caller);
        }
}

/* A connection that has something waiting, while too much waits for its user in all. */
static bool is_over(const Caller *caller) {
        return caller->line->waiting_bytes >= WAITING_BYTES_MAX && caller->letters.length > 0;
}

/* A job goes on whether or not it is listened to, and so may the next ones, without end. */
static bool is_deaf_to(const Caller *caller, sd_bus_message *signal) {
        if (sd_bus_message_is_signal(signal, NULL, "Progress") && caller->waiting_bytes >= PROGRESS_BYTES_MAX)
                return true;
        return sd_bus_message_is_signal(signal, NULL, NULL) && is_over(caller);
}

static void add(Caller *caller, sd_bus_message *message, uint64_t bytes, bool is_call) {
        Letter *letter = g_new(Letter, 1);

        *letter = (Letter) { message, bytes, is_call };
        g_queue_push_tail(&caller->letters, letter);
        caller->waiting_bytes += bytes;
        caller->line->waiting_bytes += bytes;
        line_up(caller);
        outbox_pump(caller->manager);
}

void outbox_send(Manager *manager, sd_bus_message *message, uint64_t bytes) {
        const char *name = sd_bus_message_get_destination(message);
        Caller *caller = name ? caller_find(manager, name) : NULL;

        if (caller && !is_deaf_to(caller, message)) {
                add(caller, message, bytes, false);
                return;
        }
        if (!caller)
                send_now(manager, message);
        sd_bus_message_unref(message);
}

/* What sd-bus will answer to a call, roughly. */
static uint64_t answer_size(sd_bus_message *call) {
        return sd_bus_message_is_method_call(call, NULL, "Introspect") ? INTROSPECT_BYTES : OUTBOX_SMALL;
}

bool outbox_let_pass(Manager *manager, sd_bus_message *message) {
        const char *sender = sd_bus_message_get_sender(message);
        bool is_its_turn = message == manager->passing;
        g_auto(Error) error = {};
        Caller *caller;
        uint64_t bytes;

        if (is_its_turn)
                manager->passing = sd_bus_message_unref(manager->passing);
        /* Who has gone since is not made anew: nobody would say once more that it has. */
        caller = !sender ? NULL : is_its_turn ? caller_find(manager, sender) : caller_get(manager, sender);
        if (!caller)
                return true;

        if (is_its_turn || (g_queue_is_empty(&caller->letters) && !is_full(caller) && bus_takes_more(manager))) {
                count(caller, answer_size(message));
                return true;
        }

        /* Others stand in line, or it is not known whether this one reads: the call is kept. */
        bytes = message_size(message, WINDOW_BYTES, UINT_MAX);
        if (bytes >= WINDOW_BYTES)
                error_set(&error, ERROR_LIMIT_EXCEEDED,
                        "The service is busy, and this call too large to be kept. Try again.");
        if (bytes < WINDOW_BYTES && outbox_check(caller, &error) == 0)
                add(caller, sd_bus_message_ref(message), bytes + answer_size(message), true);
        else
                manager_send_error(manager, message, &error);
        return false;
}

int outbox_check(const Caller *caller, Error *error) {
        if (!is_over(caller))
                return 0;
        return error_set(error, ERROR_LIMIT_EXCEEDED,
                "Answers for you with %" PRIu64 " bytes are waiting already. Read those that you have asked for.",
                caller->line->waiting_bytes);
}

bool outbox_is_idle(const Manager *manager) {
        return g_queue_is_empty((GQueue *)&manager->ready_users[TURN_LETTER]);
}

void outbox_forget(Caller *caller) {
        Letter *letter;

        turn_leave(caller, TURN_LETTER);
        while ((letter = g_queue_pop_head(&caller->letters))) {
                caller->line->waiting_bytes -= letter->bytes;
                letter_free(letter);
        }
        caller->line = user_unref(caller->line);
        caller->ask_slot = sd_bus_slot_unref(caller->ask_slot);
        caller->ask_timer = sd_event_source_disable_unref(caller->ask_timer);
}

void outbox_forget_bus(Manager *manager) {
        manager->bus_keeps_silent = false;
        manager->passing = sd_bus_message_unref(manager->passing);
}
