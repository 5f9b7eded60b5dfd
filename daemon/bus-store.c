/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "bus-license.h"
#include "document.h"
#include "io.h"
#include "method.h"
#include "request.h"

#define REPLY_BYTES_MAX (64U * 1024U)
/* Room for the message's header beside the entries of a page. */
#define PAGE_BYTES (60U * 1024U)
#define PAGE_ENTRIES_MAX 1000U
/* Of a call's documents are recognised one after the other, until there are so many bytes; then it is others' turn. */
#define PREPARED_AT_ONCE (128U * 1024U)

const sd_bus_vtable store_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("StoreLicense", SD_BUS_ARGS("ay", document, "a{sv}", properties),
                SD_BUS_RESULT("s", license_id), method_dispatch, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("StoreLicenses", SD_BUS_ARGS("a(aya{sv})", licenses),
                SD_BUS_RESULT("as", license_ids), method_dispatch, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetLicense", SD_BUS_ARGS("s", license_id),
                SD_BUS_RESULT("ay", document, "a{sv}", properties), method_dispatch, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("OpenLicense", SD_BUS_ARGS("s", license_id),
                SD_BUS_RESULT("h", document, "a{sv}", properties), method_dispatch, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("EnumerateLicenses", SD_BUS_ARGS("a{sv}", filter, "s", after, "u", max),
                SD_BUS_RESULT("a(sa{sv})", licenses, "s", next), method_dispatch, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ConsumeRight", SD_BUS_ARGS("s", license_id, "s", right, "t", amount),
                SD_BUS_RESULT("t", remaining), method_dispatch, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("DeleteLicense", SD_BUS_ARGS("s", license_id), SD_BUS_NO_RESULT, method_dispatch,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("RevokeLicense", SD_BUS_ARGS("s", license_id), SD_BUS_NO_RESULT, method_dispatch,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

/* StoreLicense, StoreLicenses */

typedef struct Incoming {
        const void *document; /* in the message, which the request keeps */
        size_t size;
        License claimed;
        bool recognised;   /* before the store's turn: what came of it */
        License license;
        Error error;
        char *id; /* the answer */
} Incoming;

typedef struct StoreRequest {
        Request request;
        Incoming *incoming;
        unsigned n_incoming, n_room;
        unsigned n_recognised;
        bool many;
} StoreRequest;

static void incoming_clear(Incoming *incoming) {
        license_clear(&incoming->claimed);
        license_clear(&incoming->license);
        error_clear(&incoming->error);
        g_free(incoming->id);
}

/* What the document says of itself, narrowed by what the caller claims. */
static int recognise(const Incoming *incoming, License *ret, Error *error) {
        int r;

        license_init(ret);
        r = document_recognise(incoming->document, incoming->size, incoming->claimed.media_type, ret, error);
        return r == 0 ? license_narrow(ret, &incoming->claimed, error) : r;
}

static bool store_prepare(Request *request) {
        StoreRequest *store = (StoreRequest *)request;

        for (uint64_t bytes = 0; store->n_recognised < store->n_incoming && bytes < PREPARED_AT_ONCE;) {
                Incoming *incoming = &store->incoming[store->n_recognised++];

                (void)recognise(incoming, &incoming->license, &incoming->error);
                incoming->recognised = true;
                bytes += incoming->size;
        }
        return store->n_recognised < store->n_incoming;
}

/* What was found out before; the store changes it, so it serves once. */
static int take_recognised(Incoming *incoming, License *ret, Error *error) {
        if (incoming->error.code != ERROR_NONE)
                return error_copy(error, &incoming->error);
        if (!incoming->recognised)
                return recognise(incoming, ret, error);
        incoming->recognised = false;
        *ret = incoming->license;
        incoming->license = (License) {};
        return 0;
}

static int store_one(Request *request, Incoming *incoming, StoreConnection *connection, Error *error) {
        g_auto(License) license = {};
        int r;

        r = take_recognised(incoming, &license, error);
        if (r != 0)
                return r;
        if (!license.id)
                return error_set(error, ERROR_INVALID_ARGUMENTS,
                        "The document is of no kind that names itself. Give it a LicenseId.");

        r = store_license_put(connection, &request->owner, &license, incoming->document, error);
        if (r == 0) {
                g_free(incoming->id);
                incoming->id = g_steal_pointer(&license.id);
        }
        return r;
}

static int store_run(Request *request, StoreConnection *connection, Error *error) {
        StoreRequest *store = (StoreRequest *)request;
        uint64_t reply = 0;

        for (unsigned i = 0; i < store->n_incoming; i++) {
                Incoming *incoming = &store->incoming[i];
                int r = store_one(request, incoming, connection, error);

                if (r == 0 && (reply += 8 + strlen(incoming->id)) > PAGE_BYTES)
                        return error_set(error, ERROR_LIMIT_EXCEEDED,
                                "The ids do not fit into one answer. Store the licenses in several calls.");
                if (r != 0 && store->many)
                        return error_prefix(error, "License %u of %u", i + 1, store->n_incoming);
                if (r != 0)
                        return r;
        }
        return 0;
}

static int store_reply(Request *request, sd_bus_message *reply) {
        StoreRequest *store = (StoreRequest *)request;
        int r;

        if (!store->many)
                return sd_bus_message_append(reply, "s", store->incoming[0].id);

        r = sd_bus_message_open_container(reply, 'a', "s");
        for (unsigned i = 0; r >= 0 && i < store->n_incoming; i++) {
                request->reply_bytes += 8 + strlen(store->incoming[i].id);
                r = sd_bus_message_append(reply, "s", store->incoming[i].id);
        }
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static void store_clear(Request *request) {
        StoreRequest *store = (StoreRequest *)request;

        for (unsigned i = 0; i < store->n_incoming; i++)
                incoming_clear(&store->incoming[i]);
        g_free(store->incoming);
}

static const RequestClass store_class = { sizeof(StoreRequest), store_run, store_reply, store_clear,
        .prepare = store_prepare };

/* Reads a document and its properties from where the message stands. */
static int read_incoming(Manager *manager, StoreRequest *store, sd_bus_message *message, Error *error) {
        const void *document;
        Incoming *incoming;
        size_t size;
        int r;

        r = sd_bus_message_read_array(message, 'y', &document, &size);
        if (r < 0)
                return r;
        /* Its client says how many there are. */
        if (store->n_incoming == store->n_room) {
                unsigned room = MAX(2 * store->n_room, 1);
                Incoming *more = g_try_renew(Incoming, store->incoming, room);

                if (!more)
                        return -ENOMEM;
                store->incoming = more;
                store->n_room = room;
        }
        incoming = &store->incoming[store->n_incoming++];
        *incoming = (Incoming) { .document = document, .size = size };
        license_init(&incoming->claimed);
        if (size > manager->config.limits.document_bytes)
                return error_set(error, ERROR_LIMIT_EXCEEDED,
                        "The document is larger than %" PRIu64 " bytes (DocumentBytes=).",
                        manager->config.limits.document_bytes);

        return bus_read_license(message, &incoming->claimed, error);
}

static int store_submit(Request *request, Error *error) {
        StoreRequest *store = (StoreRequest *)request;
        uint64_t documents = 0, bytes = 0;

        for (unsigned i = 0; i < store->n_incoming; i++) {
                const Incoming *incoming = &store->incoming[i];

                documents += incoming->size;
                bytes += incoming->size + license_memory_size(&incoming->claimed);
        }
        if (documents > STORE_BYTES_MAX)
                return error_set(error, ERROR_LIMIT_EXCEEDED,
                        "The call holds more than %u bytes of documents. Store them in several calls.",
                        STORE_BYTES_MAX);
        return request_submit_write(request, documents, bytes, error);
}

int method_store_license(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        g_autoptr(Request) request = NULL;
        int r;

        if ((r = request_new(&store_class, caller, message, &request, error)) != 0 ||
            (r = read_incoming(manager, (StoreRequest *)request, message, error)) != 0 ||
            (r = store_submit(request, error)) != 0)
                return r;
        g_steal_pointer(&request);
        return 0;
}

int method_store_licenses(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        g_autoptr(Request) request = NULL;
        StoreRequest *store;
        int r;

        r = request_new(&store_class, caller, message, &request, error);
        if (r != 0)
                return r;
        store = (StoreRequest *)request;
        store->many = true;

        r = sd_bus_message_enter_container(message, 'a', "(aya{sv})");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(message, 'r', "aya{sv}")) > 0) {
                if (store->n_incoming >= STORE_DOCUMENTS_MAX)
                        return error_set(error, ERROR_LIMIT_EXCEEDED,
                                "The call holds more than %u documents. Store them in several calls.",
                                STORE_DOCUMENTS_MAX);
                r = read_incoming(manager, store, message, error);
                if (r > 0)
                        return error_prefix(error, "License %u", store->n_incoming);
                if (r == 0)
                        r = sd_bus_message_exit_container(message);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;

        r = store_submit(request, error);
        if (r == 0)
                g_steal_pointer(&request);
        return r;
}

/* GetLicense, OpenLicense */

typedef struct GetRequest {
        Request request;
        const char *id; /* in the message */
        License license;
        void *document;
        int fd;
} GetRequest;

static int make_memfd(const void *document, size_t size, int *ret) {
        _cleanup_fd_ int fd = -1;
        int r;

        fd = memfd_create("license", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0)
                return -errno;
        r = io_pwrite_all(fd, document, size, 0);
        if (r < 0)
                return r;
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
                return -errno;
        *ret = fd_steal(&fd);
        return 0;
}

static int get_run(Request *request, StoreConnection *connection, Error *error) {
        GetRequest *get = (GetRequest *)request;
        int r;

        r = store_license_get(connection, &request->owner, get->id,
                request->class->opens ? UINT64_MAX : REPLY_BYTES_MAX, &get->license, &get->document, error);
        if (r != 0 || !request->class->opens)
                return r;

        request->held_bytes = get->license.size;
        r = make_memfd(get->document, get->license.size, &get->fd);
        if (r >= 0)
                r = request->watch = lent_watch(request->manager->lent, get->fd);
        return r < 0 ? error_set_errno(error, ERROR_STORE_READ, r, "The document cannot be handed over") : 0;
}

static int get_reply(Request *request, sd_bus_message *reply) {
        GetRequest *get = (GetRequest *)request;
        int r;

        request->reply_bytes = license_memory_size(&get->license);
        if (request->class->opens)
                r = sd_bus_message_append(reply, "h", get->fd);
        else {
                request->reply_bytes += get->license.size;
                r = sd_bus_message_append_array(reply, 'y', get->document, get->license.size);
        }
        return r < 0 ? r : bus_append_license(reply, &get->license);
}

static void get_clear(Request *request) {
        GetRequest *get = (GetRequest *)request;

        license_clear(&get->license);
        g_free(get->document);
        fd_closep(&get->fd);
}

static const RequestClass get_class = { sizeof(GetRequest), get_run, get_reply, get_clear };
static const RequestClass open_class = { sizeof(GetRequest), get_run, get_reply, get_clear, .opens = LENT_DOCUMENT };

static int get(const RequestClass *class, Caller *caller, sd_bus_message *message, Error *error) {
        g_autoptr(Request) request = NULL;
        GetRequest *get;
        int r;

        r = request_new(class, caller, message, &request, error);
        if (r != 0)
                return r;
        get = (GetRequest *)request;
        get->fd = -1;
        license_init(&get->license);

        r = sd_bus_message_read(message, "s", &get->id);
        if (r < 0)
                return r;
        if ((r = bus_check_string("license_id", get->id, error)) != 0 ||
            (r = request_submit_read(request, error)) != 0)
                return r;
        g_steal_pointer(&request);
        return 0;
}

int method_get_license(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        return get(&get_class, caller, message, error);
}

int method_open_license(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        return get(&open_class, caller, message, error);
}

/* EnumerateLicenses */

typedef struct EnumerateRequest {
        Request request;
        StoreFilter filter; /* its strings are in the message */
        const char *after;
        uint32_t max;
        GPtrArray *licenses;
        char *next;
} EnumerateRequest;

static int enumerate_run(Request *request, StoreConnection *connection, Error *error) {
        EnumerateRequest *enumerate = (EnumerateRequest *)request;

        return store_license_enumerate(connection, &request->owner, &enumerate->filter, enumerate->after,
                enumerate->max, PAGE_BYTES, enumerate->licenses, &enumerate->next, error);
}

static int enumerate_reply(Request *request, sd_bus_message *reply) {
        EnumerateRequest *enumerate = (EnumerateRequest *)request;
        int r;

        r = sd_bus_message_open_container(reply, 'a', "(sa{sv})");
        for (unsigned i = 0; r >= 0 && i < enumerate->licenses->len; i++) {
                const License *license = enumerate->licenses->pdata[i];

                request->reply_bytes += license_memory_size(license);
                if ((r = sd_bus_message_open_container(reply, 'r', "sa{sv}")) >= 0 &&
                    (r = sd_bus_message_append(reply, "s", license->id)) >= 0 &&
                    (r = bus_append_license(reply, license)) >= 0)
                        r = sd_bus_message_close_container(reply);
        }
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_message_append(reply, "s", enumerate->next);
}

static void enumerate_clear(Request *request) {
        EnumerateRequest *enumerate = (EnumerateRequest *)request;

        if (enumerate->licenses)
                g_ptr_array_unref(enumerate->licenses);
        g_free(enumerate->next);
}

static const RequestClass enumerate_class = { sizeof(EnumerateRequest), enumerate_run, enumerate_reply,
        enumerate_clear };

int method_enumerate_licenses(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        g_autoptr(Request) request = NULL;
        EnumerateRequest *enumerate;
        int r;

        r = request_new(&enumerate_class, caller, message, &request, error);
        if (r != 0)
                return r;
        enumerate = (EnumerateRequest *)request;
        enumerate->licenses = g_ptr_array_new();
        enumerate->filter = (StoreFilter) { .valid_at = LICENSE_NO_TIME, .allow_backup = -1 };

        const BusOption options[] = {
                { "KeyId", 's', &enumerate->filter.key_id },
                { "Issuer", 's', &enumerate->filter.issuer },
                { "MediaType", 's', &enumerate->filter.media_type },
                { "ValidAt", 't', &enumerate->filter.valid_at },
                { "AllowBackup", 'b', &enumerate->filter.allow_backup },
        };
        r = bus_read_options(message, options, G_N_ELEMENTS(options), error);
        if (r != 0)
                return r;
        r = sd_bus_message_read(message, "su", &enumerate->after, &enumerate->max);
        if (r < 0)
                return r;
        if (enumerate->max == 0 || enumerate->max > PAGE_ENTRIES_MAX)
                enumerate->max = PAGE_ENTRIES_MAX;

        if (*enumerate->after && (r = bus_check_string("after", enumerate->after, error)) != 0)
                return r;
        /* The next that matches a filter may be far away. */
        r = store_filter_is_empty(&enumerate->filter) ? request_submit_read(request, error) :
                                                        request_submit_search(request, error);
        if (r != 0)
                return r;
        g_steal_pointer(&request);
        return 0;
}

/* ConsumeRight, DeleteLicense, RevokeLicense */

typedef struct ChangeRequest {
        Request request;
        const char *id; /* in the message, as right */
        const char *right;
        uint64_t amount, remaining;
} ChangeRequest;

static int64_t now(void) {
        return g_get_real_time() / G_USEC_PER_SEC;
}

static int consume_run(Request *request, StoreConnection *connection, Error *error) {
        ChangeRequest *change = (ChangeRequest *)request;

        return store_license_consume(connection, &request->owner, change->id, change->right, change->amount, now(),
                &change->remaining, error);
}

static int consume_reply(Request *request, sd_bus_message *reply) {
        return sd_bus_message_append(reply, "t", ((ChangeRequest *)request)->remaining);
}

static int delete_run(Request *request, StoreConnection *connection, Error *error) {
        return store_license_delete(connection, &request->owner, ((ChangeRequest *)request)->id, error);
}

static int revoke_run(Request *request, StoreConnection *connection, Error *error) {
        return store_license_revoke(connection, &request->owner, ((ChangeRequest *)request)->id, now(), error);
}

static const RequestClass consume_class = { sizeof(ChangeRequest), consume_run, consume_reply, NULL };
static const RequestClass delete_class = { sizeof(ChangeRequest), delete_run, NULL, NULL };
static const RequestClass revoke_class = { sizeof(ChangeRequest), revoke_run, NULL, NULL };

static int change(const RequestClass *class, Caller *caller, sd_bus_message *message, Error *error) {
        g_autoptr(Request) request = NULL;
        ChangeRequest *change;
        int r;

        r = request_new(class, caller, message, &request, error);
        if (r != 0)
                return r;
        change = (ChangeRequest *)request;

        r = class == &consume_class ?
                sd_bus_message_read(message, "sst", &change->id, &change->right, &change->amount) :
                sd_bus_message_read(message, "s", &change->id);
        if (r < 0)
                return r;
        r = bus_check_string("license_id", change->id, error);
        if (r != 0)
                return r;
        if (change->right && (r = bus_check_right(change->right, error)) != 0)
                return r;
        if (change->right && (change->amount == 0 || change->amount > INT64_MAX))
                return error_set(error, ERROR_INVALID_ARGUMENTS, "The amount must be from 1 to %" PRIi64 ".",
                        INT64_MAX);

        r = request_submit_write(request, 0, 0, error);
        if (r == 0)
                g_steal_pointer(&request);
        return r;
}

int method_consume_right(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        return change(&consume_class, caller, message, error);
}

int method_delete_license(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        return change(&delete_class, caller, message, error);
}

int method_revoke_license(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        return change(&revoke_class, caller, message, error);
}
