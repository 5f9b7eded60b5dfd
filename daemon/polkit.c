/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "polkit.h"

#include <stdio.h>
#include <string.h>

#include "log.h"
#include "method.h"

#define POLKIT_NAME "org.freedesktop.PolicyKit1"
#define POLKIT_PATH "/org/freedesktop/PolicyKit1/Authority"
#define POLKIT_INTERFACE "org.freedesktop.PolicyKit1.Authority"
#define ALLOW_USER_INTERACTION 1U /* CheckAuthorizationFlags */

/* Open questions of a user: each may be a window on somebody's screen. */
#define USER_QUESTIONS_MAX 4U
/* polkit itself answers quickly; a person has to find a password. */
#define ANSWER_USEC (25 * G_USEC_PER_SEC)
#define PERSON_USEC (5 * 60 * G_USEC_PER_SEC)

#define HINT "Run as root, or do it for your own licenses alone."

typedef struct Question {
        Caller *caller;
        sd_bus_message *message;
        const FrozenClass *class;
        void *frozen; /* NULL once it has gone on */
        bool interactive;
        char cancellation_id[32];
        sd_bus_slot *slot; /* of polkit's answer */
} Question;

static void question_free(Question *question) {
        Caller *caller = question->caller;

        g_queue_remove(&caller->questions, question);
        caller->user->n_questions--;
        if (question->frozen)
                question->class->free(question->frozen);
        sd_bus_slot_unref(question->slot);
        sd_bus_message_unref(question->message);
        g_free(question);
}

static int new_call(Manager *manager, const char *member, sd_bus_message **ret) {
        return sd_bus_message_new_method_call(manager->bus, ret, POLKIT_NAME, POLKIT_PATH, POLKIT_INTERFACE, member);
}

/* Takes the window off the screen. Whether there was one is polkit's to know. */
static void withdraw(Question *question) {
        Manager *manager = question->caller->manager;
        sd_bus_message *message = NULL;

        if (!manager->bus || new_call(manager, "CancelCheckAuthorization", &message) < 0)
                return;
        if (sd_bus_message_append(message, "s", question->cancellation_id) < 0 ||
            sd_bus_message_set_expect_reply(message, false) < 0)
                sd_bus_message_unref(message);
        else
                manager_send(manager, message);
}

/* polkit's no, put into words. */
static int refuse(const Question *question, bool challenge, bool dismissed, Error *error) {
        if (dismissed)
                return error_set(error, ERROR_ACCESS_DENIED,
                        "The question for authorization was dismissed. Nothing was done.");
        if (challenge && !question->interactive)
                return error_set(error, ERROR_AUTHORIZATION_REQUIRED,
                        "The licenses of other users need an administrator's authorization. Allow the call to ask "
                        "for it (interactive authorization), or run as root.");
        if (challenge)
                return error_set(error, ERROR_ACCESS_DENIED,
                        "There is nobody to ask for an administrator's authorization: no authentication agent runs "
                        "in this session. " HINT);
        return error_set(error, ERROR_ACCESS_DENIED,
                "You are not authorized to back up or restore the licenses of other users. " HINT);
}

/* There is no answer, for whatever reason. */
static int explain(const sd_bus_error *failure, Error *error) {
        static const char *const absent[] = {
                SD_BUS_ERROR_SERVICE_UNKNOWN,
                SD_BUS_ERROR_NAME_HAS_NO_OWNER,
                SD_BUS_ERROR_ACCESS_DENIED, /* the bus lets nobody call it */
                "org.freedesktop.DBus.Error.Spawn.",
                "org.freedesktop.systemd1.",
        };

        for (size_t i = 0; i < G_N_ELEMENTS(absent); i++)
                if (g_str_has_prefix(failure->name, absent[i]))
                        return error_set(error, ERROR_ACCESS_DENIED,
                                "Without polkit, which does not run on this machine, the licenses of other users are "
                                "for root alone.");

        if (sd_bus_error_has_name(failure, SD_BUS_ERROR_NO_REPLY) ||
            sd_bus_error_has_name(failure, SD_BUS_ERROR_TIMEOUT) ||
            sd_bus_error_has_name(failure, "System.Error.ETIMEDOUT"))
                return error_set(error, ERROR_ACCESS_DENIED,
                        "Nobody answered the question for authorization in time. Nothing was done; try again.");

        log_rarely(SD_WARNING, "polkit",
                "polkit cannot tell who may manage the licenses of others (%s). Is its policy file installed, "
                POLKIT_ACTION "?", failure->name);
        return error_set(error, ERROR_ACCESS_DENIED,
                "polkit cannot tell whether you may back up or restore the licenses of other users. Ask the "
                "administrator to look at the service's log.");
}

/* (bba{ss}): is it authorized, could it be by asking, and details. */
static int read_answer(sd_bus_message *reply, bool *ret_authorized, bool *ret_challenge, bool *ret_dismissed) {
        int authorized, challenge, r;
        const char *key, *value;

        *ret_dismissed = false;
        if ((r = sd_bus_message_enter_container(reply, 'r', "bba{ss}")) < 0 ||
            (r = sd_bus_message_read(reply, "bb", &authorized, &challenge)) < 0 ||
            (r = sd_bus_message_enter_container(reply, 'a', "{ss}")) < 0)
                return r;
        while ((r = sd_bus_message_read(reply, "{ss}", &key, &value)) > 0)
                if (strcmp(key, "polkit.dismissed") == 0)
                        *ret_dismissed = *value != '\0';
        *ret_authorized = authorized;
        *ret_challenge = challenge;
        return r;
}

static int on_answer(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        Question *question = userdata;
        Manager *manager = question->caller->manager;
        bool authorized, challenge, dismissed;
        g_auto(Error) error = {};

        if (sd_bus_message_is_method_error(reply, NULL)) {
                explain(sd_bus_message_get_error(reply), &error);
                /* It may still hang on somebody's screen. */
                withdraw(question);
        } else if (read_answer(reply, &authorized, &challenge, &dismissed) < 0)
                error_set(&error, ERROR_ACCESS_DENIED, "polkit's answer cannot be read. Run as root.");
        else if (authorized)
                method_resume(question->caller, question->message, question->class,
                        g_steal_pointer(&question->frozen));
        else
                refuse(question, challenge, dismissed, &error);

        if (error.code != ERROR_NONE)
                manager_send_error(manager, question->message, &error);
        question_free(question);
        return 0;
}

static int send_question(Question *question) {
        Caller *caller = question->caller;
        sd_bus_message *call = NULL;
        int r;

        r = new_call(caller->manager, "CheckAuthorization", &call);
        if (r >= 0)
                r = sd_bus_message_append(call, "(sa{sv})sa{ss}us", "system-bus-name", 1, "name", "s", caller->name,
                        POLKIT_ACTION, 0, question->interactive ? ALLOW_USER_INTERACTION : 0,
                        question->cancellation_id);
        if (r >= 0)
                r = sd_bus_call_async(caller->manager->bus, &question->slot, call, on_answer, question,
                        question->interactive ? PERSON_USEC : ANSWER_USEC);
        sd_bus_message_unref(call);
        return r;
}

int polkit_ask(Caller *caller, sd_bus_message *message, const FrozenClass *class, void *frozen, Error *error) {
        static uint64_t n_questions;
        Question *question;
        int r;

        if (caller->user->n_questions >= USER_QUESTIONS_MAX) {
                class->free(frozen);
                return error_set(error, ERROR_LIMIT_EXCEEDED,
                        "%u questions of yours for authorization are open already. Answer them first.",
                        USER_QUESTIONS_MAX);
        }

        question = g_new0(Question, 1);
        question->caller = caller;
        question->message = sd_bus_message_ref(message);
        question->class = class;
        question->frozen = frozen;
        question->interactive = sd_bus_message_get_allow_interactive_authorization(message) > 0;
        snprintf(question->cancellation_id, sizeof question->cancellation_id, "licensevault%" PRIu64,
                ++n_questions);
        g_queue_push_tail(&caller->questions, question);
        caller->user->n_questions++;

        r = send_question(question);
        if (r < 0) {
                question_free(question);
                return error_set_errno(error, ERROR_ACCESS_DENIED, r, "polkit cannot be asked");
        }
        return 0;
}

void polkit_withdraw(Caller *caller) {
        Question *question;

        while ((question = g_queue_peek_head(&caller->questions))) {
                withdraw(question);
                question_free(question);
        }
}

void polkit_withdraw_all(Manager *manager) {
        g_auto(Error) error = {};

        error_set(&error, ERROR_CANCELED, "The service is stopping. Try again in a moment.");
        for (GList *link = manager->callers_by_use.head; link; link = link->next) {
                Caller *caller = link->data;

                for (GList *open = caller->questions.head; open; open = open->next)
                        manager_send_error(manager, ((Question *)open->data)->message, &error);
                polkit_withdraw(caller);
        }
}
