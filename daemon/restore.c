/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "restore.h"

#include <string.h>

#include "backup-read.h"
#include "backup.h"
#include "restore-batch.h"
#include "user-name.h"

/* Staging is the work; what is left is proof and merge. */
#define PERCENT_STAGED 90U
/* What of those who were skipped fits into an answer. */
#define SKIPPED_MAX 100U
#define SKIPPED_BYTES (32U * 1024U)
/* Of conflicts, what is kept on the disk as long as the job. */
#define NAMED_BYTES (8U * 1024U * 1024U)

struct Restore {
        RestorePlan plan;
        Cancel *cancel;
        RestrictedList *conflicts;

        /* From restore_check() on. */
        int source; /* the backup in the RestorePath; -1 with a client's descriptor */

        /* While it runs. */
        const WorkEvents *events;
        RestoreBatches *batches;
        GHashTable *repairs;   /* see restore_batches_new() */
        GHashTable *users;     /* of a backup of all users: name -> RestoreTarget * */
        RestoreTarget *target; /* of all users: the last that was asked for; else who gets what is restored */
        bool from_is_there;    /* the backup knows whom the plan's from names */
        bool of_another;       /* what is restored to one user was another one's */
        GPtrArray *skipped;    /* of char * */
        size_t skipped_bytes, named;
        uint64_t total, done, n_skipped;
};

void restore_plan_clear(RestorePlan *plan) {
        g_free(plan->name);
        g_free(plan->from);
        g_strfreev(plan->roots);
        g_free(plan->machine);
        fd_closep(&plan->fd);
        *plan = (RestorePlan) { .fd = -1 };
}

int restore_new(RestorePlan *plan, Cancel *cancel, Restore **ret) {
        g_autoptr(Restore) restore = NULL;
        int r;

        restore = g_new0(Restore, 1);
        restore->plan = *plan;
        *plan = (RestorePlan) { .fd = -1 };
        restore->cancel = cancel_ref(cancel);
        restore->source = -1;
        restore->users = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, restore_target_free);
        restore->repairs = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
        restore->skipped = g_ptr_array_new_with_free_func(g_free);

        r = restricted_new(store_folder(restore->plan.store), &restore->conflicts);
        if (r < 0)
                return r;
        *ret = g_steal_pointer(&restore);
        return 0;
}

Restore *restore_free(Restore *restore) {
        if (restore) {
                restore_plan_clear(&restore->plan);
                cancel_unref(restore->cancel);
                restricted_unref(restore->conflicts);
                fd_closep(&restore->source);
                g_hash_table_unref(restore->users);
                g_hash_table_unref(restore->repairs);
                g_ptr_array_unref(restore->skipped);
                g_free(restore);
        }
        return NULL;
}

RestrictedList *restore_conflicts(Restore *restore) {
        return restore->conflicts;
}

int restore_check(Restore *restore, Error *error) {
        const RestorePlan *plan = &restore->plan;
        const StoreOwner owner = { plan->uid, plan->name };

        if (plan->fd >= 0)
                return descriptor_check_source(plan->fd, error);

        /* A second look, after the first took long, starts afresh. */
        fd_closep(&restore->source);
        return backup_open(plan->store, plan->roots, &owner, RESTORE_PATH, &restore->source, NULL, error);
}

/* Whose licenses they become */

static RestoreTarget *add_target(Restore *restore, const char *name, uid_t uid) {
        RestoreTarget *target = restore_target_new(name, uid);

        if (target)
                g_hash_table_insert(restore->users, target->name, target);
        return target;
}

/* The target of a user that the backup names; one who has no account here, or may have no licenses, is skipped. */
static int find_user(Restore *restore, const char *name, RestoreTarget **ret, Error *error) {
        g_autofree char *first = NULL;
        RestoreTarget *target;
        uid_t uid = (uid_t)-1;
        int r;

        /* Those of one user follow one another. */
        if (restore->target && strcmp(restore->target->name, name) == 0) {
                *ret = restore->target;
                return 0;
        }

        target = g_hash_table_lookup(restore->users, name);
        if (!target) {
                if (g_hash_table_size(restore->users) >= BACKUP_USERS_MAX)
                        return error_set(error, ERROR_LIMIT_EXCEEDED,
                                "The backup is of more than %u users, which the service never makes.",
                                BACKUP_USERS_MAX);
                /* A second name of a number is not the one that its licenses are kept under. */
                r = user_uid_of(name, &uid);
                if (r >= 0 && uid != (uid_t)-1)
                        r = user_name_of(uid, &first);
                if (r < 0)
                        return error_set_errno(error, ERROR_USERS_UNKNOWN, r, "The users cannot be looked up");
                if (g_strcmp0(first, name) != 0)
                        uid = (uid_t)-1;

                target = add_target(restore, name, user_may_own(uid) ? uid : (uid_t)-1);
                if (!target)
                        return error_set_no_memory(error);
                target->is_one_of_all = true;
                if (target->uid == (uid_t)-1 && restore->skipped->len < SKIPPED_MAX &&
                    restore->skipped_bytes + strlen(name) <= SKIPPED_BYTES) {
                        restore->skipped_bytes += strlen(name);
                        g_ptr_array_add(restore->skipped, g_strdup(name));
                }
        }

        *ret = restore->target = target;
        return 0;
}

/* *ret is NULL for a user who is skipped, or who was not asked for. */
static int target_of(Restore *restore, const char *name, RestoreTarget **ret, Error *error) {
        const RestorePlan *plan = &restore->plan;
        RestoreTarget *target = restore->target;
        int r = 0;

        if (plan->from) {
                bool is_wanted = strcmp(name, plan->from) == 0;

                restore->from_is_there = restore->from_is_there || is_wanted;
                *ret = is_wanted ? target : NULL;
                return 0;
        }
        if (plan->all_users)
                r = find_user(restore, name, &target, error);
        if (r == 0)
                *ret = target->uid == (uid_t)-1 ? NULL : target;
        return r;
}

/* Only at its end is it known who is in a backup. */
static int check_from(const Restore *restore, Error *error) {
        const char *from = restore->plan.from;

        return !from || restore->from_is_there ? 0 : error_set(error, ERROR_INVALID_ARGUMENTS,
                "There is no user '%.900s' in the backup. licensevaultctl inspect shows whose licenses it has.", from);
}

/* The one user to whom it goes. */
static int set_owner(Restore *restore, Error *error) {
        const RestorePlan *plan = &restore->plan;
        g_autofree char *name = NULL;
        int r;

        r = plan->owner == plan->uid ? license_set_string(&name, plan->name) : user_name_of(plan->owner, &name);
        if (r < 0)
                return error_set_errno(error, ERROR_USERS_UNKNOWN, r, "The user's name cannot be looked up");
        /* The account that is made for the number one day would not be the owner. */
        if (plan->owner != plan->uid && !*name)
                return error_set(error, ERROR_INVALID_ARGUMENTS,
                        "User %" PRIu32 " has no account here. Make it first.", (uint32_t)plan->owner);
        restore->target = add_target(restore, name, plan->owner);
        return restore->target ? 0 : error_set_no_memory(error);
}

/* What the backup says */

/* Whether the user must agree: another machine, one that does not say which, or another owner, one of all by name. */
static bool is_foreign(const Restore *restore, const BackupOrigin *origin) {
        const RestorePlan *plan = &restore->plan;

        if (!*plan->machine || strcmp(origin->machine, plan->machine) != 0)
                return true;
        if (plan->from)
                return strcmp(plan->from, restore->target->name) != 0;
        return !plan->all_users &&
                (origin->uid != restore->target->uid || strcmp(origin->name, restore->target->name) != 0);
}

/* Whether it was another user's. The same one may have another number on another machine. */
static bool is_of_another(const Restore *restore, const BackupOrigin *origin) {
        const RestorePlan *plan = &restore->plan;
        const char *name = plan->from ?: origin->name;

        return !plan->all_users && (strcmp(name, restore->target->name) != 0 ||
                (!*name && !plan->from && origin->uid != restore->target->uid));
}

/* The kind of backup must be the one that the plan is for. */
static int check_kind(const RestorePlan *plan, const BackupOrigin *origin, Error *error) {
        if (origin->all_users && !plan->all_users && !plan->from)
                return error_set(error, ERROR_ACCESS_DENIED,
                        "This is a backup of all users. Restore one of them (From, --from NAME), or all of them "
                        "(AllUsers, --all-users) as root or with authorization.");
        if (!origin->all_users && plan->all_users)
                return error_set(error, ERROR_INVALID_ARGUMENTS,
                        "This is a backup of one user, '%s'. Restore it without naming all (AllUsers, --all-users); "
                        "for another than yourself, say for whom (Owner, --owner).", origin->name);
        if (!origin->all_users && plan->from)
                return error_set(error, ERROR_INVALID_ARGUMENTS,
                        "This is a backup of one user, '%s'. Restore it without naming one (From, --from).",
                        origin->name);
        return 0;
}

/* "anna on laptop" of her licenses in a backup of all users, too. */
static char *describe(const RestorePlan *plan, const BackupOrigin *origin) {
        BackupOrigin told = *origin;

        if (origin->all_users && plan->from) {
                told.all_users = false;
                told.name = plan->from;
        }
        return backup_origin_describe(&told);
}

static int on_origin(const BackupOrigin *origin, void *userdata, Error *error) {
        Restore *restore = userdata;
        const WorkEvents *events = restore->events;
        const RestorePlan *plan = &restore->plan;
        g_autofree char *from = describe(plan, origin);
        bool refused;
        int r;

        restore->total = origin->licenses;
        events->begin(restore->total, events->userdata);
        events->origin(WORK_ORIGIN_CHECKING, g_strdup(from), events->userdata);

        r = check_kind(plan, origin, error);
        if (r == 0 && !plan->all_users)
                r = set_owner(restore, error);
        if (r != 0)
                return r;

        restore->of_another = is_of_another(restore, origin);
        refused = !plan->individualize && is_foreign(restore, origin);
        events->origin(refused ? WORK_ORIGIN_REFUSED : WORK_ORIGIN_ACCEPTED, g_strdup(from), events->userdata);
        if (refused)
                return error_set(error, ERROR_NEEDS_INDIVIDUALIZATION,
                        "The backup is from another machine or another owner: %s. To bring its licenses over, agree "
                        "with the flag WM_RESTORE_INDIVIDUALIZE (2).", from);
        return 0;
}

static void tell(Restore *restore) {
        uint64_t percent = MIN(restore->done, restore->total) * PERCENT_STAGED / MAX(restore->total, 1);

        restore->events->progress(MIN(restore->done, restore->total), (unsigned)percent, restore->events->userdata);
}

static int on_state(BackupState *state, void *userdata, Error *error) {
        Restore *restore = userdata;
        RestoreTarget *target = NULL;
        int r;

        r = target_of(restore, state->owner, &target, error);
        return r == 0 && target ? restore_batches_add_state(restore->batches, target, state, error) : r;
}

static int on_license(BackupLicense *license, void *userdata, Error *error) {
        Restore *restore = userdata;
        RestoreTarget *target = NULL;
        int r;

        r = target_of(restore, license->owner, &target, error);
        if (r == 0 && !target && restore->plan.all_users)
                restore->n_skipped++;
        if (r == 0 && target)
                r = restore_batches_add_license(restore->batches, target, license, error);
        /* Who was not asked for is read and proved, too. */
        if (r == 0) {
                restore->done++;
                tell(restore);
        }
        return r;
}

/* The merge, as a task of the store's writer */

typedef struct MergeCall {
        StoreCall call;
        Restore *restore;
        int64_t number;
        StoreMerge result;
} MergeCall;

static int on_conflict(const char *id, const char *key_id, const char *title, void *userdata, Error *error) {
        Restore *restore = userdata;
        int r;

        /* All are counted; so many are named. */
        restore->named += strlen(id) + (key_id ? strlen(key_id) : 0) + (title ? strlen(title) : 0);
        if (restore->named > NAMED_BYTES)
                return 0;
        r = restricted_append(restore->conflicts, id, key_id, title);
        return r < 0 ? error_set_errno(error, ERROR_STORE_WRITE, r, "Noting the conflicts failed") : 0;
}

static bool is_unwanted(void *userdata) {
        return cancel_requested(((Restore *)userdata)->cancel);
}

static bool may_repair(int64_t key, void *userdata) {
        return g_hash_table_contains(((Restore *)userdata)->repairs, &key);
}

static int merge_run(StoreTask *task, StoreConnection *connection, Error *error) {
        MergeCall *merge = (MergeCall *)task;
        Restore *restore = merge->restore;
        const StoreMergeEvents merging = {
                .conflict = on_conflict,
                .is_unwanted = is_unwanted,
                .may_repair = may_repair,
                .userdata = restore,
                .of_another = restore->of_another,
        };
        int r;

        r = store_merge(connection, merge->number, &merging, &merge->result, error);
        if (r == 0)
                /* Who cancels either is seen below, or sees this: what is left is the commit. */
                restore->events->settling(restore->events->userdata);
        if (cancel_requested(restore->cancel))
                return cancel_set_error(restore->cancel, error);
        return r;
}

static int merge(Restore *restore, int64_t number, StoreMerge *ret, Error *error) {
        MergeCall call = {
                .call.task = { .run = merge_run, .alone = true },
                .restore = restore,
                .number = number,
        };
        const WorkEvents *events = restore->events;
        int r;

        events->in_store(true, events->userdata);
        store_call_write(restore->plan.store, &call.call);
        r = store_call_wait(&call.call, error);
        events->in_store(false, events->userdata);
        if (r == 0)
                *ret = call.result;
        return r;
}

/* The whole */

static int stage(Restore *restore, int64_t number, Error *error) {
        const RestorePlan *plan = &restore->plan;
        const WorkEvents *events = restore->events;
        const BackupVisitor visitor = {
                .origin = on_origin,
                .state = on_state,
                .license = on_license,
                .userdata = restore,
                .watch = { .moved = events->moved, .waits = events->outside, .userdata = events->userdata },
        };
        ArchiveCounts counts;
        int r;

        r = restore_batches_new(plan->store, number, events, restore->repairs, &restore->batches, error);
        if (r != 0)
                return r;
        r = backup_read(plan->fd >= 0 ? plan->fd : restore->source, store_limits(plan->store).document_bytes,
                plan->fd >= 0 ? plan->stall_msec : -1, restore->cancel, &visitor, &counts, error);
        if (r == 0)
                r = check_from(restore, error);
        if (r == 0)
                r = restore_batches_flush(restore->batches, error);
        restore->batches = restore_batches_free(restore->batches);
        return r;
}

static int run(Restore *restore, int64_t number, WorkResult *ret, Error *error) {
        const WorkEvents *events = restore->events;
        StoreMerge merged = {};
        int r;

        events->watched(true, events->userdata);
        r = stage(restore, number, error);
        events->watched(false, events->userdata);
        if (r != 0)
                return r;

        events->progress(restore->done, PERCENT_STAGED, events->userdata);
        r = merge(restore, number, &merged, error);
        if (r != 0)
                return r;

        g_ptr_array_add(restore->skipped, NULL);
        *ret = (WorkResult) {
                .restored = merged.restored,
                .unchanged = merged.unchanged,
                .newer_kept = merged.newer_kept,
                .conflicts = merged.conflicts,
                .revoked = merged.revoked,
                .skipped = restore->n_skipped,
                .skipped_users = (char **)g_ptr_array_free(restore->skipped, false),
        };
        restore->skipped = g_ptr_array_new_with_free_func(g_free);
        return 0;
}

int restore_run(Restore *restore, const WorkEvents *events, WorkResult *ret, Error *error) {
        int64_t number = store_restore_begin(restore->plan.store);
        int r;

        restore->events = events;
        r = run(restore, number, ret, error);
        store_restore_end(restore->plan.store, number);

        if (r != 0 && r != ERROR_CANCELED && r != ERROR_NEEDS_INDIVIDUALIZATION)
                error_set(error, error->code, "%s No license was changed.", error_message(error));
        return r;
}

static int class_check(void *work, Error *error) {
        return restore_check(work, error);
}

static int class_run(void *work, const WorkEvents *events, WorkResult *ret, Error *error) {
        return restore_run(work, events, ret, error);
}

static void class_free(void *work) {
        restore_free(work);
}

const WorkClass restore_class = { class_check, class_run, class_free };
