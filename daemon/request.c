/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "request.h"

#include "outbox.h"
#include "thread.h"

/* Of one user, and of all together. */
#define USER_THREADS_MAX 4U
#define REQUEST_THREADS_MAX 64U
/* A write with fewer bytes of documents is not worth a thread. */
#define PREPARED_BYTES (16U * 1024U)
/*
 * So much of one user's writes is with the store at a time, or one call: what another changes comes behind that, and
 * not behind all that one has called. What is known beside a document takes the store longer than as many bytes of it.
 */
#define STORE_WEIGHT_MAX (1024U * 1024U)
#define PROPERTIES_WEIGHT 4U

/* A Request begins with its task, and its mail lies inside. */

static Request *from_task(StoreTask *task) {
        return (Request *)task;
}

static Request *from_mail(Mail *mail) {
        return (void *)((char *)mail - offsetof(Request, mail));
}

static int on_run(StoreTask *task, StoreConnection *connection, Error *error) {
        Request *request = from_task(task);

        return request->class->run(request, connection, error);
}

static void on_done(StoreTask *task) {
        Request *request = from_task(task);

        mailbox_post(request->manager->mailbox, &request->mail);
}

/*
 * Others that began when nothing waited may have been answered since: a read has changed nothing, and is refused as if
 * it began now. A descriptor that waits to be sent holds a document, or a file: not more of them than of other
 * answers.
 */
static void check_room(Request *request) {
        const char *sender = sd_bus_message_get_sender(request->message);
        const Caller *caller = sender ? caller_find(request->manager, sender) : NULL;
        Error *error = &request->task.error;

        if (caller && request->read && error->code == ERROR_NONE)
                (void)outbox_check(caller, error);
        if (caller && request->class->opens && error->code == ERROR_NONE)
                (void)outbox_check_descriptor(caller, error);
        if (request->class->opens && error->code == ERROR_NONE)
                (void)lent_add(request->user, request->class->opens, request->watch, request->held_bytes, error);
}

static void answer(Request *request) {
        sd_bus_message *reply = NULL;
        int r;

        check_room(request);
        if (request->task.error.code != ERROR_NONE) {
                manager_send_error(request->manager, request->message, &request->task.error);
                return;
        }

        if (!sd_bus_message_get_expect_reply(request->message))
                return;
        r = sd_bus_message_new_method_return(request->message, &reply);
        if (r >= 0 && request->class->reply)
                r = request->class->reply(request, reply);
        if (r < 0) {
                sd_bus_message_unref(reply);
                error_set_errno(&request->task.error, ERROR_STORE_READ, r, "The answer cannot be made");
                manager_send_error(request->manager, request->message, &request->task.error);
                return;
        }
        if (request->class->opens)
                outbox_send_descriptor(request->manager, reply, request->reply_bytes + OUTBOX_SMALL,
                        request->held_bytes);
        else
                manager_send_large(request->manager, reply, request->reply_bytes);
}

/* The user's first search has ended. Where the store has been closed, nobody does the others. */
static void begin_next_search(Manager *manager, User *user) {
        Request *next;

        (void)g_queue_pop_head(&user->searches);
        while ((next = g_queue_peek_head(&user->searches)) && !manager->store) {
                g_queue_pop_head(&user->searches);
                user->n_reads--;
                manager->n_requests--;
                request_free(next);
        }
        if (next)
                store_submit_search(manager->store, &next->task);
}

static void uncount_write(const Request *request) {
        request->manager->n_requests--;
        request->user->n_writes--;
        request->user->write_bytes -= request->bytes;
}

static void write_done(const Request *request);

static void on_mail(Mail *mail) {
        Request *request = from_mail(mail);
        Manager *manager = request->manager;
        User *user = request->user;

        if (request->write) {
                uncount_write(request);
                write_done(request);
                manager_tick_soon(manager);
        } else {
                manager->n_requests--;
                user->n_reads--;
        }
        if (request->search)
                begin_next_search(manager, user);
        if (request->thread) {
                manager->n_request_threads--;
                user->n_threads--;
        }

        answer(request);
        request_free(request);
        manager_maybe_exit(manager);
}

/*
 * To read a document of 1 MiB may take a quarter of a second, and each write there is would wait for it behind the
 * store's thread. So that is done before, on one thread (for it takes much memory, too), a little of each user's in
 * turn. Nor does the store get all that a user has called at once. What else the user changes comes behind it, as it
 * was sent.
 */

static void submit_write(Request *request) {
        request->user->store_weight += request->weight;
        store_submit_write(request->manager->store, &request->task);
}

/* Where the store has been closed, nobody does them. */
static void drop_held(User *user) {
        Request *request;

        while ((request = g_queue_pop_head(&user->held))) {
                uncount_write(request);
                request_free(request);
        }
}

/* Hands over what is first of a user's, as much as may be; what is to be prepared then waits for its user's turn. */
static void release_held(User *user) {
        Request *first;

        while ((first = g_queue_peek_head(&user->held)) && !first->unprepared &&
               (user->store_weight == 0 || user->store_weight + first->weight <= STORE_WEIGHT_MAX)) {
                g_queue_pop_head(&user->held);
                submit_write(first);
        }
        if (first && first->unprepared)
                g_queue_push_tail(&user->manager->preparing, user);
}

static void *prepare_thread(void *userdata) {
        Request *request = userdata;

        request->has_more = request->class->prepare(request);
        mailbox_post(request->manager->mailbox, &request->mail);
        return NULL;
}

static void on_prepared(Mail *mail);

/* The first user's first write. */
static void prepare_next(Manager *manager) {
        User *user;

        while (!manager->prepares && (user = g_queue_peek_head(&manager->preparing))) {
                Request *request = g_queue_peek_head(&user->held);

                request->mail.deliver = on_prepared;
                if (thread_start(prepare_thread, request) >= 0) {
                        manager->prepares = true;
                        manager->n_request_threads++;
                        break;
                }
                /* run() does it all. */
                request->mail.deliver = on_mail;
                request->unprepared = false;
                g_queue_pop_head(&manager->preparing);
                release_held(user);
        }
}

/* It is ready, or a part of it, and it is another user's turn. */
static void on_prepared(Mail *mail) {
        Request *request = from_mail(mail);
        Manager *manager = request->manager;

        request->mail.deliver = on_mail;
        request->unprepared = request->has_more;
        manager->prepares = false;
        manager->n_request_threads--;
        release_held(g_queue_pop_head(&manager->preparing));
        prepare_next(manager);
}

/* There is room for what waits behind it. */
static void write_done(const Request *request) {
        User *user = request->user;
        const Request *first = g_queue_peek_head(&user->held);

        user->store_weight -= request->weight;
        if (!request->manager->store)
                drop_held(user);
        else if (first && !first->unprepared) {
                release_held(user);
                prepare_next(request->manager);
        }
}

static void hold_or_submit(Request *request) {
        User *user = request->user;

        g_queue_push_tail(&user->held, request);
        if (user->held.length > 1)
                return;
        release_held(user);
        prepare_next(request->manager);
}

int request_new(const RequestClass *class, Caller *caller, sd_bus_message *message, Request **ret, Error *error) {
        Manager *manager = caller->manager;
        Request *request;

        if (!manager->store)
                return error_copy(error, &manager->store_error);

        request = g_malloc0(class->size);
        request->task.run = on_run;
        request->task.done = on_done;
        request->mail.deliver = on_mail;
        request->class = class;
        request->manager = manager;
        request->user = user_get(manager, caller->user->uid);
        request->user_name = g_strdup(caller->user_name);
        request->owner = (StoreOwner) { caller->user->uid, request->user_name };
        request->message = sd_bus_message_ref(message);
        *ret = request;
        return 0;
}

Request *request_free(Request *request) {
        if (request) {
                if (request->class->clear)
                        request->class->clear(request);
                sd_bus_message_unref(request->message);
                user_unref(request->user);
                g_free(request->user_name);
                error_clear(&request->task.error);
                g_free(request);
        }
        return NULL;
}

/* Whether there is room for one more read of the user, which is counted then. */
static int count_read(Request *request, Error *error) {
        unsigned max = request->manager->config.queued_reads_per_user;

        if (request->user->n_reads >= max)
                return error_set(error, ERROR_LIMIT_EXCEEDED,
                        "%u calls of yours are waiting already (QueuedReadsPerUser=). Wait for their answers.", max);
        request->read = true;
        request->user->n_reads++;
        request->manager->n_requests++;
        return 0;
}

int request_submit_read(Request *request, Error *error) {
        int r = count_read(request, error);

        if (r == 0)
                store_submit_read(request->manager->store, &request->task);
        return r;
}

int request_submit_search(Request *request, Error *error) {
        GQueue *searches = &request->user->searches;
        int r = count_read(request, error);

        if (r != 0)
                return r;
        request->search = true;
        g_queue_push_tail(searches, request);
        if (searches->length == 1)
                store_submit_search(request->manager->store, &request->task);
        return 0;
}

static void *request_thread(void *userdata) {
        Request *request = userdata;

        (void)request->class->run(request, NULL, &request->task.error);
        on_done(&request->task);
        return NULL;
}

int request_submit_thread(Request *request, Error *error) {
        Manager *manager = request->manager;
        int r;

        if (request->user->n_threads >= USER_THREADS_MAX || manager->n_request_threads >= REQUEST_THREADS_MAX)
                return error_set(error, ERROR_LIMIT_EXCEEDED,
                        "Too many calls wait for a disk already. Wait for their answers, or try again later.");

        r = thread_start(request_thread, request);
        if (r < 0)
                return error_set_errno(error, ERROR_LIMIT_EXCEEDED, r, "No thread can be started");
        request->thread = true;
        manager->n_request_threads++;
        request->user->n_threads++;
        manager->n_requests++;
        request->user->n_reads++;
        return 0;
}

int request_submit_write(Request *request, uint64_t documents, uint64_t bytes, Error *error) {
        Manager *manager = request->manager;
        const Config *config = &manager->config;

        if (request->user->n_writes >= config->queued_writes_per_user)
                return error_set(error, ERROR_LIMIT_EXCEEDED,
                        "%u changes of yours are waiting already (QueuedWritesPerUser=). Wait for their answers.",
                        config->queued_writes_per_user);
        if (documents > config->queued_write_bytes_per_user)
                return error_set(error, ERROR_LIMIT_EXCEEDED,
                        "The call holds %" PRIu64 " bytes of documents; at most %" PRIu64
                        " are taken at once (QueuedWriteBytesPerUser=). Store them in several calls.", documents,
                        config->queued_write_bytes_per_user);
        if (request->user->write_bytes > 0 && request->user->write_bytes + bytes > config->queued_write_bytes_per_user)
                return error_set(error, ERROR_LIMIT_EXCEEDED,
                        "Changes of yours with %" PRIu64 " bytes are waiting already (QueuedWriteBytesPerUser=). "
                        "Wait for their answers.", request->user->write_bytes);

        request->write = true;
        request->bytes = bytes;
        request->weight = documents + PROPERTIES_WEIGHT * (bytes - documents);
        request->user->n_writes++;
        request->user->write_bytes += bytes;
        manager->n_requests++;
        request->unprepared = request->class->prepare && documents > PREPARED_BYTES;
        hold_or_submit(request);
        return 0;
}
