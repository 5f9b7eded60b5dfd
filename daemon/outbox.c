/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "outbox.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "log.h"
#include "message-size.h"
#include "pace.h"

/*
 * A connection gets no more than that of which it is not known whether it has read it; more, while its user has little
 * of that in all, for each question costs dbus-daemon as much as several answers. The bus is asked once half of it was
 * sent, so that who reads does not wait for the answer.
 */
#define WINDOW_BYTES (64U * 1024U)
#define WIDE_WINDOW_BYTES (256U * 1024U)
#define WIDE_USER_BYTES (1024U * 1024U)
/*
 * And so much of refusals past it, however wide it was: who waits for one keeps a call open, of which dbus-daemon looks
 * at each for every message of everybody.
 */
#define REFUSALS_BYTES (64U * 1024U)
/* Who asks anew for each refusal gets something else, too. */
#define REFUSALS_IN_A_ROW 16U
/* The bus keeps more than that for a connection only where its socket is full, too: it does not read. */
#define UNREAD_BYTES (16U * 1024U)
/* Of who got less than that, and nothing more since, it is asked so much later: else it would count for ever. */
#define ASK_LATER_BYTES (WINDOW_BYTES / 2)
#define ASK_LATER_USEC (1000 * 1000)
/* Who reads is behind for a moment only, and must not lose more than that. */
#define ASK_AGAIN_USEC 250
#define ASK_AGAIN_MAX_USEC (1000 * 1000)
/* Who is asked for again no later than that may only be behind. It has read nothing for a third of it. */
#define BEHIND_USEC (64 * 1000)
#define ANSWER_USEC (25 * G_USEC_PER_SEC)
/*
 * Of a user, in answers that wait for their turn, before a connection that has one waiting gets no more. What its
 * calls in the store hold, some 8 MiB at most, is beside that.
 */
#define WAITING_BYTES_MAX (4U * 1024U * 1024U)
/* And where it is so many, besides refusals, a connection that does not read at the moment gets no more. */
#define WAITING_ANSWERS_MAX 512U
/* Of a connection, before it is told no more of how far jobs are: else a deaf one would leave no room to its user. */
#define PROGRESS_BYTES_MAX (256U * 1024U)

/*
 * dbus-daemon reads nothing more of a service of which 64 descriptors wait for clients to read. So each connection has
 * one at a time, until the bus has got rid of all that it keeps for it. A descriptor that waits here counts as
 * something, too.
 */
#define DESCRIPTORS_MAX 48U
#define USER_DESCRIPTORS_MAX 4U
#define DESCRIPTOR_BYTES (32U * 1024U)
/* The bus may be about to read our policy: then it says soon what it has refused to say. */
#define REFUSED_USEC (60 * G_USEC_PER_SEC)

/* An answer to Introspect, rather more than it is. */
#define INTROSPECT_BYTES (16U * 1024U)

typedef struct Letter {
        sd_bus_message *message;
        uint64_t bytes;
        bool is_call; /* which sd-bus answers when its turn comes */
        uint64_t held; /* by its descriptor, in bytes; 0: it has none */
} Letter;

static void letter_free(Letter *letter) {
        sd_bus_message_unref(letter->message);
        g_free(letter);
}

static uint64_t window_of(const Caller *caller) {
        return caller->line->unread < WIDE_USER_BYTES ? WIDE_WINDOW_BYTES : WINDOW_BYTES;
}

static bool is_full(const Caller *caller) {
        return caller->asking && caller->unread >= window_of(caller);
}

/* It does not get refusals either. */
static bool is_overfull(const Caller *caller) {
        return is_full(caller) && caller->refused >= REFUSALS_BYTES;
}

/* What is next for it, NULL where there is nothing, or not before it has read. */
static GQueue *next_queue(Caller *caller) {
        bool has_letter = !g_queue_is_empty(&caller->letters) && !is_full(caller);

        if (!g_queue_is_empty(&caller->refusals) && !is_overfull(caller) &&
            !(has_letter && caller->n_refused >= REFUSALS_IN_A_ROW))
                return &caller->refusals;
        return has_letter ? &caller->letters : NULL;
}

static void set_unread(Caller *caller, uint64_t bytes) {
        caller->line->unread -= caller->unread;
        caller->line->unread += bytes;
        caller->unread = bytes;
        caller->refused = MIN(caller->refused, bytes);
}

static bool keeps_silent(const Manager *manager) {
        return g_get_monotonic_time() < manager->silent_until;
}

/* Whether others have to get rid of theirs before this one may have a descriptor. */
static bool waits_for_others(const Caller *caller) {
        return caller->line->n_descriptors >= USER_DESCRIPTORS_MAX ||
                caller->manager->n_descriptors >= DESCRIPTORS_MAX;
}

static bool may_have_descriptor(const Caller *caller, const Letter *letter) {
        return letter->held == 0 || keeps_silent(caller->manager) ||
                (!caller->has_descriptor && !waits_for_others(caller));
}

/* The next letter goes out in turn, or whatever it waits for leads here again. */
static void line_up(Caller *caller) {
        GQueue *queue = next_queue(caller), *line = &caller->manager->descriptor_line;
        const Letter *next = queue ? g_queue_peek_head(queue) : NULL;

        if (!next)
                return;
        if (may_have_descriptor(caller, next))
                turn_join(caller, TURN_LETTER, next->bytes);
        else if (!caller->has_descriptor && !g_queue_find(line, caller))
                g_queue_push_tail(line, caller);
}

static void take_descriptor(Caller *caller) {
        caller->has_descriptor = true;
        caller->line->n_descriptors++;
        caller->manager->n_descriptors++;
}

/* The bus keeps none for it any more: others may have theirs. */
static void return_descriptor(Caller *caller) {
        GQueue *line = &caller->manager->descriptor_line;

        if (!caller->has_descriptor)
                return;
        caller->has_descriptor = false;
        caller->line->n_descriptors--;
        caller->manager->n_descriptors--;
        for (unsigned n = line->length; n > 0; n--)
                line_up(g_queue_pop_head(line));
}

static void join(Caller *caller, uid_t uid) {
        User *former = caller->line;

        if (former) {
                turn_leave(caller, TURN_LETTER);
                former->waiting_bytes -= caller->waiting_bytes;
                former->held_bytes -= caller->held_bytes;
                former->n_answers -= caller->n_answers;
                former->unread -= caller->unread;
                former->n_descriptors -= caller->has_descriptor;
        }
        caller->line = user_get(caller->manager, uid);
        caller->line->waiting_bytes += caller->waiting_bytes;
        caller->line->held_bytes += caller->held_bytes;
        caller->line->n_answers += caller->n_answers;
        caller->line->unread += caller->unread;
        caller->line->n_descriptors += caller->has_descriptor;
        user_unref(former);
        line_up(caller);
}

void outbox_join_strangers(Caller *caller) {
        join(caller, STRANGERS);
}

void outbox_join_user(Caller *caller) {
        join(caller, caller->user->uid);
}

/* Returns whether it is on its way. */
static bool send_now(Manager *manager, sd_bus_message *message) {
        int r;

        /* Of a bus that was left: its peers are gone, and nobody waits. */
        if (!manager->bus || sd_bus_message_get_bus(message) != manager->bus)
                return false;
        r = sd_bus_send(manager->bus, message, NULL);
        if (r >= 0)
                manager->n_sent++;
        else if (r != -ENOTCONN)
                log_warning("A message cannot be sent: %s", g_strerror(-r));
        return r >= 0;
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

static int ask_in(Caller *caller, uint64_t usec) {
        caller->ask_timer = sd_event_source_disable_unref(caller->ask_timer);
        /* Exactly then: sd-event may be 250 ms late where it is not told how late it may be. */
        return sd_event_add_time_relative(caller->manager->event, &caller->ask_timer, CLOCK_MONOTONIC, usec, 1,
                on_ask_again, caller);
}

static int ask_again(Caller *caller) {
        caller->pause_usec = CLAMP(4 * caller->pause_usec, ASK_AGAIN_USEC, ASK_AGAIN_MAX_USEC);
        return ask_in(caller, caller->pause_usec);
}

static void ask_if_due(Caller *caller) {
        if (caller->asking || keeps_silent(caller->manager))
                return;
        if (caller->unread >= window_of(caller) / 2 || caller->has_descriptor)
                ask(caller);
        else if (caller->unread >= ASK_LATER_BYTES && !caller->ask_timer)
                (void)ask_in(caller, ASK_LATER_USEC);
}

static void has_read(Caller *caller) {
        caller->asking = false;
        set_unread(caller, caller->since_question);
        caller->pause_usec = 0;
        ask_if_due(caller);
}

/* Not the question about this connection, which may have gone, but any. */
static bool is_refused(sd_bus_message *reply, int64_t *ret_until) {
        if (sd_bus_message_is_method_error(reply, SD_BUS_ERROR_ACCESS_DENIED))
                *ret_until = g_get_monotonic_time() + REFUSED_USEC;
        else if (sd_bus_message_is_method_error(reply, SD_BUS_ERROR_UNKNOWN_INTERFACE) ||
                 sd_bus_message_is_method_error(reply, SD_BUS_ERROR_UNKNOWN_METHOD))
                *ret_until = INT64_MAX;
        else
                return false;
        return true;
}

static int on_answer(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        Caller *caller = userdata;
        uint32_t outgoing = 0;

        caller->ask_slot = sd_bus_slot_unref(caller->ask_slot);
        if (is_refused(reply, &caller->manager->silent_until) || sd_bus_message_is_method_error(reply, NULL) ||
            read_outgoing(reply, &outgoing) < 0 || (outgoing == 0 && caller->asked_with_descriptor))
                return_descriptor(caller);

        if (outgoing <= UNREAD_BYTES)
                set_unread(caller, caller->since_question);
        if ((outgoing <= UNREAD_BYTES && !caller->has_descriptor) || ask_again(caller) < 0) {
                return_descriptor(caller);
                has_read(caller);
        }
        line_up(caller);
        outbox_pump(caller->manager);
        return 0;
}

/* The question goes behind all that was sent: the answer also tells that the bus has taken that. */
static void ask(Caller *caller) {
        Manager *manager = caller->manager;
        sd_bus_message *question = NULL;
        int r;

        caller->ask_timer = sd_event_source_disable_unref(caller->ask_timer);
        caller->asking = true;
        caller->since_question = 0;
        caller->asked_with_descriptor = caller->has_descriptor;
        r = sd_bus_message_new_method_call(manager->bus, &question, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                "org.freedesktop.DBus.Debug.Stats", "GetConnectionStats");
        if (r >= 0)
                r = sd_bus_message_append(question, "s", caller->name);
        if (r >= 0)
                r = sd_bus_call_async(manager->bus, &caller->ask_slot, question, on_answer, caller, ANSWER_USEC);
        sd_bus_message_unref(question);
        if (r < 0 && ask_again(caller) < 0) {
                caller->asking = false;
                return_descriptor(caller);
        }
}

static void count(Caller *caller, uint64_t bytes) {
        set_unread(caller, caller->unread + bytes);
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
        g_auto(Error) error = {};

        if (sd_bus_message_get_bus(message) != manager->bus)
                return;
        if (sd_bus_enqueue_for_read(manager->bus, message) >= 0)
                manager->passing = sd_bus_message_ref(message);
        else {
                error_set_no_memory(&error);
                manager_send_error(manager, message, &error);
        }
}

static bool is_refusal(const Letter *letter) {
        return sd_bus_message_is_method_error(letter->message, NULL);
}

static void deliver(Manager *manager, Caller *caller, const Letter *letter) {
        pace_count(caller->line, letter->bytes, g_get_monotonic_time());
        if (letter->is_call)
                pass(manager, letter->message);
        else if (send_now(manager, letter->message)) {
                if (letter->held > 0 && !keeps_silent(manager))
                        take_descriptor(caller);
                count(caller, letter->bytes);
                if (is_refusal(letter))
                        caller->refused += letter->bytes;
        }
}

/* Or a call that sd-bus answers. */
static bool is_answer(const Letter *letter) {
        return !sd_bus_message_is_signal(letter->message, NULL, NULL) && !is_refusal(letter);
}

static void count_waiting(Caller *caller, const Letter *letter) {
        bool counts = is_answer(letter);

        caller->waiting_bytes += letter->bytes;
        caller->held_bytes += letter->held;
        caller->n_answers += counts;
        caller->line->waiting_bytes += letter->bytes;
        caller->line->held_bytes += letter->held;
        caller->line->n_answers += counts;
}

static void discount_waiting(Caller *caller, const Letter *letter) {
        bool counts = is_answer(letter);

        caller->waiting_bytes -= letter->bytes;
        caller->held_bytes -= letter->held;
        caller->n_answers -= counts;
        caller->line->waiting_bytes -= letter->bytes;
        caller->line->held_bytes -= letter->held;
        caller->line->n_answers -= counts;
}

/* Somebody stands in line. */
static bool is_ready(const Manager *manager) {
        return manager->n_ready[TURN_LETTER] > 0;
}

void outbox_pump(Manager *manager) {
        while (is_ready(manager) && bus_takes_more(manager)) {
                Caller *caller = turn_next(manager, TURN_LETTER);
                GQueue *queue;
                Letter *letter;

                if (!caller) {
                        pace_wait(manager);
                        break;
                }
                queue = next_queue(caller);
                letter = queue ? g_queue_peek_head(queue) : NULL;
                /* Others were quicker. The same question as in line_up(), or this would never end. */
                if (!letter || !may_have_descriptor(caller, letter)) {
                        line_up(caller);
                        continue;
                }
                (void)g_queue_pop_head(queue);
                caller->n_refused = queue == &caller->refusals ? caller->n_refused + 1 : 0;
                discount_waiting(caller, letter);
                deliver(manager, caller, letter);
                letter_free(letter);
                line_up(caller);
        }
        pace_measure(manager);
}

/* A connection that has something waiting, while too much waits for its user in all. */
static bool is_over_bytes(const Caller *caller) {
        return caller->line->waiting_bytes >= WAITING_BYTES_MAX && caller->letters.length > 0;
}

static bool is_over(const Caller *caller) {
        return is_over_bytes(caller) || (is_full(caller) && caller->letters.length > 0 &&
                caller->line->n_answers >= WAITING_ANSWERS_MAX);
}

/* A job goes on whether or not it is listened to, and so may the next ones, without end. */
static bool is_deaf_to(const Caller *caller, sd_bus_message *signal) {
        if (sd_bus_message_is_signal(signal, NULL, "Progress") && caller->waiting_bytes >= PROGRESS_BYTES_MAX)
                return true;
        return sd_bus_message_is_signal(signal, NULL, NULL) && is_over_bytes(caller);
}

static void add(Caller *caller, Letter what) {
        Letter *letter = g_new(Letter, 1);

        *letter = what;
        g_queue_push_tail(is_refusal(letter) ? &caller->refusals : &caller->letters, letter);
        count_waiting(caller, letter);
        line_up(caller);
        outbox_pump(caller->manager);
}

static void send_in_turn(Manager *manager, Letter letter) {
        const char *name = sd_bus_message_get_destination(letter.message);
        Caller *caller = name ? caller_find(manager, name) : NULL;

        if (caller && !is_deaf_to(caller, letter.message)) {
                add(caller, letter);
                return;
        }
        if (!caller)
                (void)send_now(manager, letter.message);
        sd_bus_message_unref(letter.message);
}

void outbox_send(Manager *manager, sd_bus_message *message, uint64_t bytes) {
        send_in_turn(manager, (Letter) { .message = message, .bytes = bytes });
}

void outbox_send_descriptor(Manager *manager, sd_bus_message *message, uint64_t bytes, uint64_t held) {
        send_in_turn(manager, (Letter) { .message = message, .bytes = bytes, .held = MAX(held, DESCRIPTOR_BYTES) });
}

/* What a call holds that an error may repeat, up to a bound. */
static uint64_t call_size(sd_bus_message *call) {
        const char *path = sd_bus_message_get_path(call);

        return message_size(call, WINDOW_BYTES, UINT_MAX) + (path ? strlen(path) : 0);
}

/* What sd-bus will answer to it, roughly: with what it was sent, where it finds that wrong. */
static uint64_t answer_size(sd_bus_message *call) {
        return (sd_bus_message_is_method_call(call, NULL, "Introspect") ? INTROSPECT_BYTES : OUTBOX_SMALL) +
                call_size(call);
}

bool outbox_let_pass(Manager *manager, sd_bus_message *message) {
        const char *sender = sd_bus_message_get_sender(message);
        bool is_its_turn = message == manager->passing;
        int64_t now = g_get_monotonic_time();
        g_auto(Error) error = {};
        Caller *caller;
        uint64_t bytes;

        if (is_its_turn)
                manager->passing = sd_bus_message_unref(manager->passing);
        /* Who has gone since is not made anew: nobody would say once more that it has. */
        caller = !sender ? NULL : is_its_turn ? caller_find(manager, sender) : caller_get(manager, sender);
        if (!caller)
                return true;

        bytes = answer_size(message);
        if (is_its_turn) {
                count(caller, bytes);
                return true;
        }
        if (call_size(message) >= WINDOW_BYTES)
                error_set(&error, ERROR_LIMIT_EXCEEDED,
                        "There is no such call with so much in it. org.licensevault1(5) tells which there are.");
        else if (g_queue_is_empty(&caller->letters) && !is_full(caller) && bus_takes_more(manager) &&
                 pace_allows(caller->line, now)) {
                pace_count(caller->line, bytes, now);
                count(caller, bytes);
                return true;
        } else if (outbox_check(caller, &error) == 0) {
                /* Others stand in line, or it is not known whether this one reads: the call is kept. */
                add(caller, (Letter) { .message = sd_bus_message_ref(message), .bytes = bytes,
                                .is_call = true });
                return false;
        }
        manager_send_error(manager, message, &error);
        return false;
}

/* Short, for dbus-daemon reads so many bytes of us at a time. */
static int too_much(Error *error) {
        return error_set(error, ERROR_LIMIT_EXCEEDED, "Take your answers first.");
}

int outbox_check(const Caller *caller, Error *error) {
        return is_over(caller) ? too_much(error) : 0;
}

int outbox_check_descriptor(const Caller *caller, Error *error) {
        return caller->line->held_bytes >= WAITING_BYTES_MAX ? too_much(error) : 0;
}

/* It reads, as far as is known: it was found not to for a moment only. */
static bool is_behind(const Caller *caller) {
        return caller->letters.length + caller->refusals.length > 0 && caller->pause_usec <= BEHIND_USEC;
}

bool outbox_is_idle(const Manager *manager) {
        for (GList *link = manager->callers_by_use.head; link; link = link->next)
                if (is_behind(link->data))
                        return false;
        return !is_ready(manager);
}

void outbox_forget(Caller *caller) {
        Letter *letter;

        turn_leave(caller, TURN_LETTER);
        while ((letter = g_queue_pop_head(&caller->refusals) ?: g_queue_pop_head(&caller->letters))) {
                discount_waiting(caller, letter);
                letter_free(letter);
        }
        (void)g_queue_remove(&caller->manager->descriptor_line, caller);
        return_descriptor(caller);
        set_unread(caller, 0);
        caller->line = user_unref(caller->line);
        caller->ask_slot = sd_bus_slot_unref(caller->ask_slot);
        caller->ask_timer = sd_event_source_disable_unref(caller->ask_timer);
}

/* dbus-broker says since version 33 that it has not implemented that; before, that we may not ask. */
static int on_met(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        ((Manager *)userdata)->is_broker = sd_bus_message_is_method_error(reply, SD_BUS_ERROR_FAILED);
        return 0;
}

int outbox_meet_bus(Manager *manager) {
        return sd_bus_call_method_async(manager->bus, NULL, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                "org.freedesktop.DBus.Debug.Stats", "GetConnectionStats", on_met, manager, "s",
                "org.freedesktop.DBus");
}

void outbox_forget_bus(Manager *manager) {
        manager->silent_until = 0;
        manager->is_broker = false;
        pace_forget_bus(manager);
        manager->passing = sd_bus_message_unref(manager->passing);
}
