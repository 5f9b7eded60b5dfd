/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "caller.h"

#include <string.h>

#include "inbox.h"
#include "log.h"
#include "outbox.h"
#include "polkit.h"
#include "thread.h"
#include "user-name.h"

/* Threads, one for a user: a directory that answers nothing about one must not stop all others. */
#define LOOKUPS_MAX 32U
#define QUESTION_USEC (25 * G_USEC_PER_SEC)
/* So long a call waits for the user database, and is then refused; the look-up goes on. */
#define LOOKUP_USEC (25 * G_USEC_PER_SEC)
/* For as long one who has no name is believed to have none: an account may be made, or a directory come back. */
#define NAMELESS_USEC (5 * G_USEC_PER_SEC)

/* A question to the user database, which may be on a network: asked on a thread of its own. */
typedef struct Lookup {
        Mail mail;
        Manager *manager;
        User *user; /* for all callers in the queue who are this one; bus thread only */
        uid_t uid;
        char *user_name;
        Error error;
} Lookup;

static void caller_free(Caller *caller) {
        Manager *manager = caller->manager;

        polkit_withdraw(caller);
        inbox_forget(caller);
        outbox_forget(caller);
        sd_bus_slot_unref(caller->question);
        g_queue_remove(&manager->lookups, caller);
        g_queue_delete_link(&manager->callers_by_use, caller->use);
        if (caller->subscribed)
                caller->user->n_subscriptions--;
        user_unref(caller->user);
        g_free(caller->user_name);
        g_free(caller->name);
        g_free(caller);
}

Caller *caller_find(Manager *manager, const char *name) {
        return g_hash_table_lookup(manager->callers, name);
}

void caller_gone(Manager *manager, const char *name) {
        Caller *caller = caller_find(manager, name);

        if (caller) {
                g_hash_table_remove(manager->callers, name);
                caller_free(caller);
        }
}

void caller_forget_all(Manager *manager) {
        Caller *caller;

        while ((caller = g_queue_peek_head(&manager->callers_by_use)))
                caller_gone(manager, caller->name);
}

/* Makes room in the cache: forgets who was quiet longest and has nothing under way here. */
static void evict(Manager *manager) {
        GList *link = manager->callers_by_use.head;

        while (link && manager->callers_by_use.length >= manager->config.cached_callers) {
                Caller *caller = link->data;

                link = link->next;
                if ((caller->user_name || caller->is_unknown) && !caller->subscribed && !caller->asking &&
                    g_queue_is_empty(&caller->questions) && g_queue_is_empty(&caller->calls) &&
                    g_queue_is_empty(&caller->letters) && g_queue_is_empty(&caller->refusals))
                        caller_gone(manager, caller->name);
        }
}

static int unknown(Error *error) {
        return error_set(error, ERROR_ACCESS_DENIED, "Who is calling cannot be found out. Try again.");
}

static int users_unknown(Error *error) {
        return error_set(error, ERROR_USERS_UNKNOWN, "Who is calling cannot be found out. Try again.");
}

/*
 * Who this is cannot be found out: its calls are refused, and the next one asks again. It is not forgotten, for the
 * bus may not take all that is to be sent at once. One that has subscribed was known to have no name before: it still
 * hears of its user's jobs.
 */
static void caller_unknown(Caller *caller, const Error *why) {
        g_auto(Error) error = {};

        unknown(&error);
        inbox_refuse(caller, why && why->code != ERROR_NONE ? why : &error);
        if (caller->subscribed) {
                inbox_set_name(caller, g_strdup(""));
                caller->nameless_until = 0;
        } else
                caller->is_unknown = true;
}

static void start_lookups(Manager *manager);

/* Takes the first caller of a user out of those that wait, or returns NULL. */
static Caller *next_waiting(Manager *manager, const User *user) {
        for (GList *link = manager->lookups.head; link; link = link->next) {
                Caller *caller = link->data;

                if (caller->user == user) {
                        g_queue_delete_link(&manager->lookups, link);
                        return caller;
                }
        }
        return NULL;
}

static void on_looked_up(Mail *mail) {
        Lookup *lookup = (Lookup *)mail;
        Manager *manager = lookup->manager;
        Caller *caller;

        manager->n_lookups--;
        lookup->user->looked_up = false;
        while ((caller = next_waiting(manager, lookup->user))) {
                caller->nameless_until = g_get_monotonic_time() + NAMELESS_USEC;
                if (lookup->user_name)
                        inbox_set_name(caller, g_strdup(lookup->user_name));
                else
                        caller_unknown(caller, &lookup->error);
        }
        user_unref(lookup->user);
        g_free(lookup->user_name);
        error_clear(&lookup->error);
        g_free(lookup);
        start_lookups(manager);
        manager_maybe_exit(manager);
}

typedef struct NamelessCall {
        StoreCall call;
        uid_t uid;
} NamelessCall;

static int nameless_task(StoreTask *task, StoreConnection *connection, Error *error) {
        return store_owner_check_nameless(connection, ((NamelessCall *)task)->uid, error);
}

/* A directory that is down says, by NSS, that its users do not exist. */
static void check_nameless(Lookup *lookup) {
        NamelessCall nameless = { .call.task.run = nameless_task, .uid = lookup->uid };

        store_call_read(lookup->manager->store, &nameless.call);
        if (store_call_wait(&nameless.call, &lookup->error) != 0)
                g_clear_pointer(&lookup->user_name, g_free);
}

static void *lookup_thread(void *userdata) {
        Lookup *lookup = userdata;
        int r;

        /* Where it cannot be found out the name stays NULL. */
        r = user_name_of(lookup->uid, &lookup->user_name);
        if (r < 0)
                users_unknown(&lookup->error);
        else if (*lookup->user_name == '\0' && lookup->manager->store)
                check_nameless(lookup);
        mailbox_post(lookup->manager->mailbox, &lookup->mail);
        return NULL;
}

/* Those that wait longest are at the head. */
static int on_lookup_due(sd_event_source *source, uint64_t usec, void *userdata) {
        g_auto(Error) error = {};
        Manager *manager = userdata;
        Caller *caller;

        users_unknown(&error);
        while ((caller = g_queue_peek_head(&manager->lookups)) &&
               caller->lookup_since + LOOKUP_USEC <= g_get_monotonic_time()) {
                (void)g_queue_pop_head(&manager->lookups);
                caller_unknown(caller, &error);
        }
        if (!caller)
                return 0;
        (void)sd_event_source_set_time(source, (uint64_t)(caller->lookup_since + LOOKUP_USEC));
        return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static bool arm_lookup_timer(Manager *manager) {
        uint64_t until = (uint64_t)(g_get_monotonic_time() + LOOKUP_USEC);

        if (!manager->lookup_timer)
                return sd_event_add_time(manager->event, &manager->lookup_timer, CLOCK_MONOTONIC, until, 0,
                        on_lookup_due, manager) >= 0;
        return sd_event_source_get_enabled(manager->lookup_timer, NULL) > 0 ||
                (sd_event_source_set_time(manager->lookup_timer, until) >= 0 &&
                 sd_event_source_set_enabled(manager->lookup_timer, SD_EVENT_ONESHOT) >= 0);
}

static bool start_lookup(Manager *manager, User *user) {
        Lookup *lookup = g_new0(Lookup, 1);

        lookup->mail.deliver = on_looked_up;
        lookup->manager = manager;
        lookup->user = user;
        lookup->uid = user->uid;
        if (thread_start(lookup_thread, lookup) < 0) {
                g_free(lookup);
                return false;
        }
        (void)user_get(manager, user->uid);
        user->looked_up = true;
        manager->n_lookups++;
        return true;
}

/* One whose user nobody looks up yet, or NULL. */
static Caller *next_to_look_up(Manager *manager) {
        for (GList *link = manager->lookups.head; link; link = link->next)
                if (!((Caller *)link->data)->user->looked_up)
                        return link->data;
        return NULL;
}

static void start_lookups(Manager *manager) {
        Caller *caller;

        /* At a stop nothing waits for that any more. */
        while (!manager->stopping && manager->n_lookups < LOOKUPS_MAX && (caller = next_to_look_up(manager)))
                if (!start_lookup(manager, caller->user)) {
                        g_queue_remove(&manager->lookups, caller);
                        caller_unknown(caller, NULL);
                }
}

/* Has its user's name found out, which inbox_set_name() or caller_unknown() ends; the latter may come at once. */
static void look_up(Caller *caller) {
        Manager *manager = caller->manager;

        if (!arm_lookup_timer(manager)) {
                caller_unknown(caller, NULL);
                return;
        }
        caller->lookup_since = g_get_monotonic_time();
        g_queue_push_tail(&manager->lookups, caller);
        start_lookups(manager);
}

void caller_cancel_unknown(Manager *manager) {
        g_auto(Error) error = {};

        error_set(&error, ERROR_CANCELED, "The service is stopping. Try again in a moment.");
        for (GList *link = manager->callers_by_use.head; link; link = link->next)
                if (!caller_is_known(link->data))
                        inbox_refuse(link->data, &error);
}

static int on_uid(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        Caller *caller = userdata;
        Manager *manager = caller->manager;
        uint32_t uid;

        caller->question = sd_bus_slot_unref(caller->question);
        if (sd_bus_message_is_method_error(reply, NULL) || sd_bus_message_read(reply, "u", &uid) < 0) {
                caller_unknown(caller, NULL);
                return 0;
        }

        inbox_set_user(caller, user_get(manager, uid));
        outbox_join_user(caller);
        look_up(caller);
        return 0;
}

static int ask_bus(Caller *caller) {
        sd_bus_message *question = NULL;
        int r;

        r = sd_bus_message_new_method_call(caller->manager->bus, &question, "org.freedesktop.DBus",
                "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetConnectionUnixUser");
        if (r >= 0)
                r = sd_bus_message_append(question, "s", caller->name);
        if (r >= 0)
                r = sd_bus_call_async(caller->manager->bus, &caller->question, question, on_uid, caller,
                        QUESTION_USEC);
        sd_bus_message_unref(question);
        return r;
}

Caller *caller_get(Manager *manager, const char *name) {
        Caller *caller = caller_find(manager, name);

        if (caller)
                return caller;
        evict(manager);
        caller = g_new0(Caller, 1);
        caller->manager = manager;
        caller->name = g_strdup(name);
        g_queue_init(&caller->calls);
        g_queue_init(&caller->questions);
        g_queue_init(&caller->letters);
        g_queue_init(&caller->refusals);
        outbox_join_strangers(caller);
        g_queue_push_tail(&manager->callers_by_use, caller);
        caller->use = manager->callers_by_use.tail;
        g_hash_table_insert(manager->callers, caller->name, caller);
        if (ask_bus(caller) < 0) {
                caller_gone(manager, name);
                return NULL;
        }
        return caller;
}

/* Whether it is time to look up its name again; not while a question waits that would go with the caller. */
static bool is_doubtful(Caller *caller) {
        return g_queue_is_empty(&caller->questions) && (caller->is_stale ||
                (*caller->user_name == '\0' && g_get_monotonic_time() >= caller->nameless_until));
}

void caller_forget_names(Manager *manager, uid_t uid) {
        GHashTableIter iterator;
        Caller *caller;

        g_hash_table_iter_init(&iterator, manager->callers);
        while (g_hash_table_iter_next(&iterator, NULL, (void **)&caller))
                caller->is_stale = caller->is_stale || (caller->user && caller->user->uid == uid);
}

/* Finds out once more who it is, from where that failed on. */
static void ask_again(Caller *caller) {
        caller->is_unknown = caller->is_stale = false;
        if (!caller->user)
                caller->is_unknown = ask_bus(caller) < 0;
        else {
                inbox_set_name(caller, NULL);
                look_up(caller);
        }
}

int caller_of(Manager *manager, sd_bus_message *call, Caller **ret, Error *error) {
        const char *name = sd_bus_message_get_sender(call);
        Caller *caller;

        if (!name)
                return error_set(error, ERROR_ACCESS_DENIED, "The message has no sender.");
        caller = caller_get(manager, name);
        if (!caller)
                return unknown(error);

        /* The least recently used is forgotten first. */
        g_queue_unlink(&manager->callers_by_use, caller->use);
        g_queue_push_tail_link(&manager->callers_by_use, caller->use);
        if (caller->is_unknown || (caller_is_known(caller) && is_doubtful(caller))) {
                ask_again(caller);
                /* Without a thread for that, it is as it was. */
                if (caller->is_unknown || caller_is_known(caller))
                        return unknown(error);
        }
        *ret = caller;
        return 0;
}
