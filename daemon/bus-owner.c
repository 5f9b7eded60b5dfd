/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Root's view of whose licenses there are, and what is done with those whose owner's account is gone. */
#include <inttypes.h>
#include <string.h>

#include "method.h"
#include "request.h"
#include "user-name.h"

/* A reply keeps to 64 KiB: numbers and frame of an entry, and its name. */
#define REPLY_OWNERS_MAX 500U
#define REPLY_BYTES_MAX (60U * 1024U)
#define ENTRY_BYTES 64U

/* What became of the account that licenses were stored by. */
typedef enum Account {
        ACCOUNT_HERE,
        ACCOUNT_GONE,     /* nobody has the number; or nobody can tell, for a directory is down */
        ACCOUNT_REPLACED, /* somebody of another name has it */
        ACCOUNT_UNKNOWN,  /* it cannot be looked up now */
        _ACCOUNT_MAX,
} Account;

static const char *const accounts[_ACCOUNT_MAX] = {
        [ACCOUNT_HERE] = "here",
        [ACCOUNT_GONE] = "gone",
        [ACCOUNT_REPLACED] = "replaced",
        [ACCOUNT_UNKNOWN] = "unknown",
};

/*
 * Who an owner is may have to be asked of a user database on a network: so these calls have threads of their
 * own, and go to the store from there.
 */
typedef struct OwnerRequest {
        Request request;
        uint32_t offset, max;
        uint32_t uid, to;
        const char *name;  /* the message's */
        GPtrArray *owners; /* of StoreOwnerRow * */
        Account *accounts; /* as many */
        uint64_t licenses;
} OwnerRequest;

static void owner_clear(Request *request) {
        OwnerRequest *owner = (OwnerRequest *)request;

        g_clear_pointer(&owner->owners, g_ptr_array_unref);
        g_free(owner->accounts);
}

static int submit(Request **request, Error *error) {
        int r;

        r = request_submit_thread(*request, error);
        if (r == 0)
                *request = NULL;
        return r;
}

static Account look_up(const char *name, uid_t uid, int *ret_error) {
        g_autofree char *now = NULL;

        *ret_error = user_name_of(uid, &now);
        if (*ret_error < 0)
                return ACCOUNT_UNKNOWN;
        if (*now == '\0')
                return ACCOUNT_GONE;
        return strcmp(name, now) == 0 ? ACCOUNT_HERE : ACCOUNT_REPLACED;
}

static int check_gone(const OwnerRequest *owner, Error *error) {
        int r;

        switch (look_up(owner->name, owner->uid, &r)) {
        case ACCOUNT_HERE:
                return error_set(error, ERROR_INVALID_ARGUMENTS,
                        "'%s' (%" PRIu32 ") has an account on this machine: what becomes of these licenses is for that "
                        "user to say.%s", owner->name, owner->uid, owner->licenses > 0 ? "" : " Nothing was changed.");
        case ACCOUNT_UNKNOWN:
                return error_set_errno(error, ERROR_USERS_UNKNOWN, r, "The users of this machine cannot be looked up");
        default:
                return 0;
        }
}

/* ListOwners */

typedef struct ListCall {
        StoreCall call;
        OwnerRequest *owner;
} ListCall;

static int list_task(StoreTask *task, StoreConnection *connection, Error *error) {
        OwnerRequest *owner = ((ListCall *)task)->owner;

        g_ptr_array_set_size(owner->owners, 0);
        return store_owner_list(connection, owner->offset, owner->max, owner->owners, error);
}

static int list_run(Request *request, StoreConnection *connection, Error *error) {
        OwnerRequest *owner = (OwnerRequest *)request;
        ListCall list = { .call.task.run = list_task, .owner = owner };
        size_t bytes = 0;
        int r, unknown;

        owner->owners = g_ptr_array_new();
        store_call_read(request->manager->store, &list.call);
        r = store_call_wait(&list.call, error);
        owner->accounts = g_new0(Account, owner->owners->len);
        for (unsigned i = 0; r == 0 && i < owner->owners->len; i++) {
                const StoreOwnerRow *row = owner->owners->pdata[i];

                bytes += ENTRY_BYTES + strlen(row->name);
                if (bytes > REPLY_BYTES_MAX)
                        g_ptr_array_set_size(owner->owners, (int)i);
                else
                        owner->accounts[i] = look_up(row->name, row->uid, &unknown);
        }
        return r;
}

static int list_reply(Request *request, sd_bus_message *reply) {
        OwnerRequest *owner = (OwnerRequest *)request;
        int r;

        r = sd_bus_message_open_container(reply, 'a', "(ustts)");
        for (unsigned i = 0; r >= 0 && i < owner->owners->len; i++) {
                const StoreOwnerRow *row = owner->owners->pdata[i];

                r = sd_bus_message_append(reply, "(ustts)", (uint32_t)row->uid, row->name, row->licenses, row->bytes,
                        accounts[owner->accounts[i]]);
        }
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static const RequestClass list_class = { sizeof(OwnerRequest), list_run, list_reply, owner_clear };

int method_list_owners(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        g_autoptr(Request) request = NULL;
        uint32_t offset, max;
        OwnerRequest *owner;
        int r;

        r = sd_bus_message_read(message, "uu", &offset, &max);
        if (r < 0)
                return r;
        r = request_new(&list_class, caller, message, &request, error);
        if (r != 0)
                return r;
        owner = (OwnerRequest *)request;
        owner->offset = offset;
        owner->max = max == 0 ? REPLY_OWNERS_MAX : MIN(max, REPLY_OWNERS_MAX);
        return submit(&request, error);
}

/* ReassignLicenses and PurgeLicenses */

typedef struct ChangeCall {
        StoreCall call;
        StoreOwner from, to;
        int64_t restore;
        uint64_t licenses;
        bool more;
} ChangeCall;

static int reassign_task(StoreTask *task, StoreConnection *connection, Error *error) {
        ChangeCall *change = (ChangeCall *)task;

        return store_owner_reassign(connection, &change->from, &change->to, change->restore, &change->licenses, error);
}

static int reassign_run(Request *request, StoreConnection *connection, Error *error) {
        OwnerRequest *owner = (OwnerRequest *)request;
        Store *store = request->manager->store;
        g_autofree char *name = NULL;
        ChangeCall change = { .call.task = { .run = reassign_task, .alone = true } };
        int r;

        r = check_gone(owner, error);
        if (r != 0)
                return r;
        r = user_name_of(owner->to, &name);
        if (r < 0)
                return error_set_errno(error, ERROR_USERS_UNKNOWN, r, "The users of this machine cannot be looked up");
        if (*name == '\0')
                return error_set(error, ERROR_INVALID_ARGUMENTS,
                        "There is no user %" PRIu32 " on this machine to give licenses to.", owner->to);

        change.from = (StoreOwner){ owner->uid, owner->name };
        change.to = (StoreOwner){ owner->to, name };
        change.restore = store_restore_begin(store);
        store_call_write(store, &change.call);
        r = store_call_wait(&change.call, error);
        store_restore_end(store, change.restore);
        owner->licenses = change.licenses;
        return r;
}

static int purge_task(StoreTask *task, StoreConnection *connection, Error *error) {
        ChangeCall *change = (ChangeCall *)task;

        return store_owner_purge(connection, &change->from, &change->licenses, &change->more, error);
}

static int purge_run(Request *request, StoreConnection *connection, Error *error) {
        OwnerRequest *owner = (OwnerRequest *)request;
        ChangeCall change = { .more = true };
        int r;

        r = check_gone(owner, error);
        while (r == 0 && change.more) {
                change = (ChangeCall){
                        .call.task = { .run = purge_task, .alone = true },
                        .from = { owner->uid, owner->name },
                };
                store_call_write(request->manager->store, &change.call);
                r = store_call_wait(&change.call, error);
                if (r == 0)
                        owner->licenses += change.licenses;
                /* A directory that was down, and is back, has the user again. */
                if (r == 0 && change.more)
                        r = check_gone(owner, error);
        }
        if (r != 0 && owner->licenses > 0)
                return error_prefix(error, "Of '%s', %" PRIu64 " licenses are removed, and the rest is as it was",
                        owner->name, owner->licenses);
        return r;
}

static int count_reply(Request *request, sd_bus_message *reply) {
        /* A connection from before the account was renamed would go on storing where nobody looks. */
        caller_forget_names(request->manager, ((OwnerRequest *)request)->uid);
        return sd_bus_message_append(reply, "t", ((OwnerRequest *)request)->licenses);
}

static const RequestClass reassign_class = { sizeof(OwnerRequest), reassign_run, count_reply, owner_clear };
static const RequestClass purge_class = { sizeof(OwnerRequest), purge_run, count_reply, owner_clear };

/* The owner that a call names, and for reassigning the user that it names. */
static int change_owner(const RequestClass *class, Caller *caller, sd_bus_message *message, bool reassign,
                Error *error) {
        g_autoptr(Request) request = NULL;
        OwnerRequest *owner;
        const char *name;
        uint32_t uid, to = 0;
        int r;

        r = sd_bus_message_read(message, "us", &uid, &name);
        if (r >= 0 && reassign)
                r = sd_bus_message_read(message, "u", &to);
        if (r < 0)
                return r;
        if (*name != '\0' && !license_string_is_valid(name))
                return error_set(error, ERROR_INVALID_ARGUMENTS, "That is not the name of a user.");
        if (!user_may_own(to))
                return error_set(error, ERROR_INVALID_ARGUMENTS,
                        "%" PRIu32 " is not the number of a user who can have licenses.", to);

        r = request_new(class, caller, message, &request, error);
        if (r != 0)
                return r;
        owner = (OwnerRequest *)request;
        owner->uid = uid;
        owner->name = name;
        owner->to = to;
        return submit(&request, error);
}

int method_reassign_licenses(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        return change_owner(&reassign_class, caller, message, true, error);
}

int method_purge_licenses(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        return change_owner(&purge_class, caller, message, false, error);
}
