/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "inbox.h"

#include <inttypes.h>
#include <limits.h>

#include "message-size.h"
#include "method.h"

/*
 * Of a connection: as many as dbus-daemon lets it wait for. Of a user: each may keep a descriptor open, and 16 on a bus
 * without our policy.
 */
#define CALLS_MAX 128U
#define USER_CALLS_MAX 512U
/*
 * What a user's calls may take: as much as one call may store, for that is what the large ones are. Those count apart
 * that wait until it is known who calls. One call is always taken. Until the bus has said whose a connection is, this
 * counts for it alone; what can come before that answer, the bus bounds.
 */
#define CALL_BYTES_MAX (UINT64_C(16) * 1024 * 1024)
/* To measure what has more takes as long as to do it: that is not kept. */
#define VALUES_MAX 64U
/*
 * Such a call may take a tenth of a second to read, and where it is not kept it takes no turn. So of the loop's time
 * one part in TIME_SHARE is a user's for that; of who has had more, by DEBT_USEC, what else comes of the kind is
 * refused unread. Who waits for each answer never has: to write such a call takes as long as to read it.
 *
 * While it is not known who calls it is kept, and so measured, which takes as long as to read it: of that all whom
 * nobody knows yet have as much together as one user. Where they have had more, such a call counts as one that leaves
 * no room for others.
 */
#define TIME_SHARE 2
#define DEBT_USEC (G_USEC_PER_SEC / 2)

typedef struct Call {
        sd_bus_message *message;
        uint64_t bytes;
        bool has_many_values; /* more than VALUES_MAX, or it is as large as may be */
} Call;

static Waiting *waiting_of(Caller *caller) {
        return !caller->user ? NULL : caller_is_known(caller) ? &caller->user->known : &caller->user->unknown;
}

static void count(Caller *caller) {
        Waiting *waiting = waiting_of(caller);

        if (waiting) {
                waiting->calls += caller->waiting.calls;
                waiting->bytes += caller->waiting.bytes;
        }
}

static void discount(Caller *caller) {
        Waiting *waiting = waiting_of(caller);

        if (waiting) {
                waiting->calls -= caller->waiting.calls;
                waiting->bytes -= caller->waiting.bytes;
        }
}

static void call_free(Call *call) {
        sd_bus_message_unref(call->message);
        g_free(call);
}

/* The next call (call_free()), which is counted no more; NULL where there is none. */
static Call *take(Caller *caller) {
        Call *call = g_queue_pop_head(&caller->calls);

        if (!call)
                return NULL;
        discount(caller);
        caller->waiting.calls--;
        caller->waiting.bytes -= call->bytes;
        count(caller);
        return call;
}

static void put(Caller *caller, sd_bus_message *message, uint64_t bytes, bool has_many_values) {
        Call *call = g_new(Call, 1);

        *call = (Call) { sd_bus_message_ref(message), bytes, has_many_values };
        g_queue_push_tail(&caller->calls, call);
        discount(caller);
        caller->waiting.calls++;
        caller->waiting.bytes += bytes;
        count(caller);
}

/* Whether these may wait, too, where there are others already. */
static int check(const Waiting *waiting, Waiting more, Error *error) {
        if (more.calls == 0 || waiting->calls == 0)
                return 0;
        if (waiting->calls + more.calls > USER_CALLS_MAX)
                return error_set(error, ERROR_LIMIT_EXCEEDED,
                        "%u calls of yours wait already. Wait for their answers.", USER_CALLS_MAX);
        if (waiting->bytes + more.bytes > CALL_BYTES_MAX)
                return error_set(error, ERROR_LIMIT_EXCEEDED,
                        "Calls of yours with %" PRIu64 " bytes wait already. Wait for their answers.", waiting->bytes);
        return 0;
}

static bool is_in_debt(int64_t paid_until) {
        return paid_until > g_get_monotonic_time() + DEBT_USEC;
}

static void charge(int64_t *paid_until, int64_t begin) {
        *paid_until = MAX(*paid_until, begin) + TIME_SHARE * (g_get_monotonic_time() - begin);
}

static void do_at_once(Caller *caller, sd_bus_message *message) {
        int64_t begin = g_get_monotonic_time();

        method_call(caller, message);
        charge(&caller->user->paid_until, begin);
}

static int check_debt(const User *user, Error *error) {
        if (!is_in_debt(user->paid_until))
                return 0;
        return error_set(error, ERROR_LIMIT_EXCEEDED,
                "Calls of yours with many values take most of the service's time, which is everybody's. Wait for their "
                "answers.");
}

static void do_kept(Caller *caller, const Call *call) {
        g_auto(Error) error = {};

        if (!call->has_many_values)
                method_call(caller, call->message);
        else if (check_debt(caller->user, &error) == 0)
                do_at_once(caller, call->message);
        else
                manager_send_error(caller->manager, call->message, &error);
}

void inbox_finish(Caller *caller, bool gone) {
        Call *call;

        if (!caller_is_known(caller))
                return;
        turn_leave(caller, TURN_CALL);
        while ((call = take(caller))) {
                if (!gone || !sd_bus_message_get_expect_reply(call->message))
                        do_kept(caller, call);
                call_free(call);
        }
}

/* Of a call with many values, which is to be kept beside these: no further than there is room. */
static uint64_t measure(Manager *manager, const Waiting *waiting, sd_bus_message *message) {
        uint64_t room = CALL_BYTES_MAX - MIN(waiting->bytes, CALL_BYTES_MAX), bytes;
        int64_t begin = g_get_monotonic_time();

        if (room == 0 || is_in_debt(manager->strangers_paid_until))
                return CALL_BYTES_MAX;
        bytes = message_size(message, room, UINT_MAX);
        charge(&manager->strangers_paid_until, begin);
        return bytes < room ? bytes : CALL_BYTES_MAX;
}

int inbox_add(Caller *caller, sd_bus_message *message, Error *error) {
        const Waiting *waiting = waiting_of(caller) ?: &caller->waiting;
        bool is_known = caller_is_known(caller), has_many_values;
        Manager *manager = caller->manager;
        uint64_t bytes;
        int r;

        /* One a turn of the loop has nobody to wait for. */
        if (is_known && !manager->taking && inbox_is_idle(manager) && !is_in_debt(caller->user->paid_until)) {
                do_at_once(caller, message);
                return 0;
        }

        bytes = message_size(message, CALL_BYTES_MAX, VALUES_MAX);
        has_many_values = bytes >= CALL_BYTES_MAX;
        if (is_known && has_many_values) {
                r = check_debt(caller->user, error);
                if (r != 0)
                        return r;
                inbox_finish(caller, false); /* what came before it */
                do_at_once(caller, message);
                return 0;
        }
        if (caller->waiting.calls >= CALLS_MAX)
                return error_set(error, ERROR_LIMIT_EXCEEDED,
                        "%u calls of this connection are waiting already. Wait for their answers.", CALLS_MAX);
        if (has_many_values)
                bytes = measure(manager, waiting, message);
        r = check(waiting, (Waiting) { 1, bytes }, error);
        if (r != 0)
                return r;

        put(caller, message, bytes, has_many_values);
        if (is_known)
                turn_join(caller, TURN_CALL, 0);
        return 0;
}

static void line_up(Caller *caller) {
        if (!g_queue_is_empty(&caller->calls))
                turn_join(caller, TURN_CALL, 0);
}

/* What waits counts here from now on, or is refused where that is too much. */
static void count_or_refuse(Caller *caller) {
        const Waiting *waiting = waiting_of(caller);
        g_auto(Error) error = {};
        bool is_refused = waiting && check(waiting, caller->waiting, &error) != 0;

        count(caller);
        if (is_refused)
                inbox_refuse(caller, &error);
}

void inbox_set_user(Caller *caller, User *user) {
        caller->user = user;
        count_or_refuse(caller);
}

void inbox_set_name(Caller *caller, char *name) {
        discount(caller);
        g_free(caller->user_name);
        caller->user_name = name;
        count_or_refuse(caller);
        if (name)
                line_up(caller);
        else
                turn_leave(caller, TURN_CALL);
}

void inbox_refuse(Caller *caller, const Error *error) {
        Call *call;

        turn_leave(caller, TURN_CALL);
        while ((call = take(caller))) {
                manager_send_error(caller->manager, call->message, error);
                call_free(call);
        }
}

void inbox_work(Manager *manager, unsigned max) {
        Caller *caller;
        Call *call;

        for (unsigned n = 0; n < max && (caller = turn_next(manager, TURN_CALL)) && (call = take(caller)); n++) {
                line_up(caller);
                do_kept(caller, call);
                call_free(call);
        }
}

bool inbox_is_idle(const Manager *manager) {
        return g_queue_is_empty((GQueue *)&manager->ready_users[TURN_CALL]);
}

void inbox_forget(Caller *caller) {
        Call *call;

        turn_leave(caller, TURN_CALL);
        while ((call = take(caller)))
                call_free(call);
}
