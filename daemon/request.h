/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "caller.h"

/*
 * A call that needs the store: frozen on the bus thread, worked on by one of the store's threads,
 * answered on the bus thread.
 */
typedef struct Request Request;

typedef struct RequestClass {
        size_t size; /* of the struct that begins with a Request */
        /* On the store's thread. May run twice; see StoreTask. With request_submit_thread() there is no connection. */
        int (*run)(Request *request, StoreConnection *connection, Error *error);
        /* On the bus thread, after run() went well: appends the answer. NULL: there is nothing in it. */
        int (*reply)(Request *request, sd_bus_message *reply);
        void (*clear)(Request *request); /* frees what the struct has of its own; may be NULL */
        LentKind opens; /* what there is a descriptor of in the answer */
        /*
         * For a large write, on a thread that is not the store's: does some of what run() would do without the store,
         * 0.1 to 1 MiB of documents. Returns whether there is more. May be NULL.
         */
        bool (*prepare)(Request *request);
} RequestClass;

struct Request {
        StoreTask task;
        Mail mail;
        const RequestClass *class;
        Manager *manager;
        User *user;
        char *user_name;
        StoreOwner owner;        /* of the caller's licenses */
        sd_bus_message *message; /* what is read from it stays where it is until the request ends */
        bool write, thread, search;
        bool unprepared;         /* prepare() has more to do */
        bool has_more;           /* what it said of that; its thread's */
        bool read;               /* changes nothing: may be refused also when it was done */
        uint64_t bytes;          /* that a queued write holds */
        uint64_t weight;         /* and how much of the store's time it takes, roughly, in bytes of documents */
        uint64_t reply_bytes;    /* set by reply() where it may be large: how large, roughly */
        uint64_t held_bytes;     /* what its descriptor holds; set by run() */
        int watch;               /* of the descriptor, see lent_watch(); set by run(), 0 where it does not count */
};

/* Makes a request, zeroed behind its head. ERROR_STORE_CORRUPT and the like where there is no store. */
int request_new(const RequestClass *class, Caller *caller, sd_bus_message *message, Request **ret, Error *error);
Request *request_free(Request *request);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Request, request_free)

/* Hands a request over, within the limits of its user; it is taken over only when 0 is returned. */
int request_submit_read(Request *request, Error *error);
/* The same for what looks at all licenses of an owner: no reads wait behind it, and of each user's one search. */
int request_submit_search(Request *request, Error *error);
/* The same for what may wait for another disk than the store's: on a thread of its own. */
int request_submit_thread(Request *request, Error *error);
/* documents and bytes: what the call holds of documents, and of memory in all. */
int request_submit_write(Request *request, uint64_t documents, uint64_t bytes, Error *error);
