/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "backup.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "backup-aside.h"
#include "draft.h"
#include "folder.h"
#include "user-name.h"

struct Backup {
        BackupPlan plan;
        WorkEvents events;
        Cancel *cancel;
        RestrictedList *restricted;

        /* From backup_check(), or backup_check_at_once(), on. */
        DescriptorKind kind;
        char *root, *path;
        const char *below;

        /* While it runs. */
        char store_id[STORE_ID_SIZE];
        StoreMemory memory; /* what the store knows of who is in it */
        GString *epochs;    /* of the store */
        bool replaced; /* what was there before */
        int former;    /* that file, which goes with this descriptor; -1 */
        uint64_t completed;
        unsigned percent_from, percent_to; /* of the step that runs */
        uint64_t step_total;
};

void backup_plan_clear(BackupPlan *plan) {
        g_free(plan->name);
        g_strfreev(plan->roots);
        g_free(plan->host);
        g_free(plan->machine);
        fd_closep(&plan->fd);
        *plan = (BackupPlan) { .fd = -1 };
}

int backup_new(BackupPlan *plan, Cancel *cancel, Backup **ret) {
        g_autoptr(Backup) backup = NULL;
        int r;

        backup = g_new0(Backup, 1);
        backup->plan = *plan;
        *plan = (BackupPlan) { .fd = -1 };
        backup->cancel = cancel_ref(cancel);
        backup->former = -1;
        backup->epochs = g_string_new("");

        r = restricted_new(store_folder(backup->plan.store), &backup->restricted);
        if (r < 0)
                return r;
        *ret = g_steal_pointer(&backup);
        return 0;
}

Backup *backup_free(Backup *backup) {
        if (backup) {
                backup_plan_clear(&backup->plan);
                cancel_unref(backup->cancel);
                restricted_unref(backup->restricted);
                g_free(backup->root);
                g_free(backup->path);
                fd_closep(&backup->former);
                g_string_free(backup->epochs, true);
                g_free(backup);
        }
        return NULL;
}

RestrictedList *backup_restricted(Backup *backup) {
        return backup->restricted;
}

static int exists(const Backup *backup, Error *error) {
        return error_set(error, ERROR_BACKUP_EXISTS,
                "Licenses are already backed up in '%s'. To replace that backup, set the flag "
                "WM_BACKUP_OVERWRITE (1).",
                backup->path);
}

/*
 * Whether it goes to the service's own folder. That alone is made where it is missing: in a configured root that would
 * hide that the medium is not mounted, and the backup would lie under the mount point.
 */
static bool is_in_own_folder(const Backup *backup) {
        g_autofree char *own = g_strconcat(store_folder(backup->plan.store), "/backups", NULL);

        return g_str_equal(backup->root, own) && !*backup->below;
}

/* Looks whether the folder can be walked to, and whether a backup of this user is there. */
static int check_folder(Backup *backup, Error *error) {
        _cleanup_fd_ int folder = -1;

        folder = folder_open(backup->root, backup->plan.uid, backup->below, false);
        if (folder == -ENOENT && is_in_own_folder(backup))
                return 0;
        if (folder < 0)
                return backup_folder_failed(backup->path, folder, BACKUP_PATH, error);
        if (!backup->plan.overwrite) {
                int found = backup_find(folder, FOLDER_BACKUP_NAME, backup->plan.name, NULL, NULL);

                if (found < 0)
                        return error_set_errno(error, ERROR_MEDIUM, found, "What is in '%s' cannot be read",
                                backup->path);
                if (found != BACKUP_FILE_NONE && found != BACKUP_FILE_FOREIGN)
                        return exists(backup, error);
        }
        return 0;
}

/* value: of the BackupPath. */
static int set_place(Backup *backup, const char *value, Error *error) {
        const BackupPlan *plan = &backup->plan;

        /* A second look, after the first took long, starts afresh. */
        g_clear_pointer(&backup->root, g_free);
        g_clear_pointer(&backup->path, g_free);
        return backup_place(store_folder(plan->store), plan->roots, plan->uid, value, &backup->root, &backup->path,
                &backup->below, error);
}

int backup_check(Backup *backup, Error *error) {
        const BackupPlan *plan = &backup->plan;
        StoreOwner owner = { plan->uid, plan->name };
        g_autofree char *value = NULL;
        int r;

        if (plan->fd >= 0)
                return descriptor_check_target(plan->fd, &backup->kind, error);

        if ((r = store_find_property(plan->store, &owner, BACKUP_PATH, &value, error)) != 0 ||
            (r = set_place(backup, value, error)) != 0)
                return r;
        return check_folder(backup, error);
}

bool backup_check_at_once(Backup *backup) {
        const BackupPlan *plan = &backup->plan;
        StoreOwner owner = { plan->uid, plan->name };
        g_auto(Error) ignored = {};
        g_autofree char *value = NULL;

        if (plan->fd >= 0 || !store_knows_property(plan->store, &owner, BACKUP_PATH, &value) ||
            set_place(backup, value, &ignored) != 0 || !is_in_own_folder(backup))
                return false;

        /* A folder that is not there is made. */
        return plan->overwrite || folder_look_at_once(backup->root, plan->uid, FOLDER_BACKUP_NAME) == -ENOENT;
}

static unsigned store_reserve(Store *store) {
        return store_limits(store).minimum_free_percent;
}

static void step_progress(uint64_t done, void *userdata) {
        Backup *backup = userdata;
        uint64_t percent = backup->percent_from +
                (backup->percent_to - backup->percent_from) * MIN(done, backup->step_total) /
                MAX(backup->step_total, 1);

        backup->events.progress(backup->completed, (unsigned)percent, backup->events.userdata);
}

static void bytes_progress(uint64_t done, uint64_t size, void *userdata) {
        ((Backup *)userdata)->step_total = size;
        step_progress(done, userdata);
}

static bool same_name(const GPtrArray *owners, unsigned i, unsigned j) {
        return j < owners->len &&
                g_str_equal(((StoreOwnerRow *)owners->pdata[i])->name, ((StoreOwnerRow *)owners->pdata[j])->name);
}

/*
 * A backup of all users knows them by name. Who has none, and who had a name that is another user's now, gets one
 * that no account has: a restore skips and names him, and his licenses lie in a folder of their own.
 */
static int tell_namesakes_apart(GPtrArray *owners, Error *error) {
        g_autofree bool *ambiguous = g_new0(bool, owners->len + 1);
        int r;

        /* They are sorted by name. */
        for (unsigned i = 0; i < owners->len; i++)
                ambiguous[i] = same_name(owners, i, i + 1) || (i > 0 && same_name(owners, i, i - 1));

        for (unsigned i = 0; i < owners->len; i++) {
                StoreOwnerRow *owner = owners->pdata[i];
                g_autofree char *name = NULL;
                uid_t uid = (uid_t)-1;

                if (*owner->name && !ambiguous[i])
                        continue;
                r = *owner->name ? user_uid_of(owner->name, &uid) : 0;
                if (r < 0)
                        return error_set_errno(error, ERROR_USERS_UNKNOWN, r, "The users cannot be looked up");
                if (uid == owner->uid)
                        continue;

                name = g_strdup_printf("%.900s%s(%" PRIu32 ")", owner->name, *owner->name ? " " : "",
                        (uint32_t)owner->uid);
                g_free(owner->name);
                owner->name = g_steal_pointer(&name);
        }
        return 0;
}

/* Who has but properties, or had what is purged, is not in a backup, and does not count as one of its users. */
static void leave_out_who_has_nothing(GPtrArray *owners) {
        for (unsigned i = owners->len; i > 0; i--)
                if (((StoreOwnerRow *)owners->pdata[i - 1])->memory.ids == 0)
                        g_ptr_array_remove_index(owners, i - 1);
}

/* Whose licenses the backup has, as the snapshot knows them. name: of the one user; NULL with all. */
static int read_owners(const BackupPlan *plan, StoreConnection *connection, const char *name, GPtrArray *owners,
        Error *error) {
        int r;

        /* An empty backup would be no backup of a user whose directory is down. */
        if (name && !*name && (r = store_owner_check_nameless(connection, plan->owner, error)) != 0)
                return r;

        r = store_snapshot_owners(connection, plan->all_users ? (uid_t)-1 : plan->owner, name, owners, error);
        if (r != 0)
                return r;

        leave_out_who_has_nothing(owners);
        if (owners->len > BACKUP_USERS_MAX)
                return error_set(error, ERROR_LIMIT_EXCEEDED,
                        "The store has licenses of %u users, and a backup can have those of %u. Back up each user "
                        "alone.", owners->len, BACKUP_USERS_MAX);
        return plan->all_users ? tell_namesakes_apart(owners, error) : 0;
}

/* The step of the epoch that the snapshot belongs to, where the store can be written. */
static int read_epochs(Backup *backup, StoreConnection *connection, Error *error) {
        g_auto(Error) ignored = {};
        int r;

        backup->events.in_store(true, backup->events.userdata);
        r = store_enter_backup(backup->plan.store, backup->epochs, &ignored);
        backup->events.in_store(false, backup->events.userdata);
        return r == 0 ? 0 : store_read_epochs(connection, backup->epochs, error);
}

/* Writes the archive from one snapshot of the store, which ends when all is given that was in it. */
static int write_archive(Backup *backup, ProvedFile *file, int fd, unsigned reserve, unsigned percent_end,
        WorkResult *ret, Error *error) {
        g_autoptr(StoreConnection) connection = NULL;
        g_autoptr(GPtrArray) owners = g_ptr_array_new();
        const BackupPlan *plan = &backup->plan;
        g_autofree char *name = NULL;
        BackupArchive archive = {
                .plan = plan,
                .file = file,
                .fd = fd,
                .owners = owners,
                .restricted = backup->restricted,
                .events = &backup->events,
                .cancel = backup->cancel,
                .reserve_percent = reserve,
                .percent_end = percent_end,
        };
        int r;

        /* One number may have been two users', one after the other: licenses are the present one's. */
        if (!plan->all_users) {
                r = plan->owner == plan->uid ? license_set_string(&name, plan->name) :
                                               user_name_of(plan->owner, &name);
                if (r < 0)
                        return error_set_errno(error, ERROR_USERS_UNKNOWN, r, "The user's name cannot be looked up");
        }

        if ((r = store_connect(plan->store, &connection, error)) != 0 ||
            (r = store_snapshot_begin(connection, error)) != 0)
                return r;
        archive.connection = connection;
        archive.owner_name = name;
        archive.store_id = backup->store_id;

        r = store_snapshot_id(connection, backup->store_id, error);
        if (r == 0)
                r = read_epochs(backup, connection, error);
        if (r == 0)
                r = read_owners(plan, connection, name, owners, error);
        if (r == 0) {
                backup->memory = (StoreMemory) {};
                for (unsigned i = 0; i < owners->len; i++) {
                        const StoreOwnerRow *owner = owners->pdata[i];

                        archive.total += owner->licenses;
                        backup->memory.ids += owner->memory.ids;
                        backup->memory.stored += owner->memory.stored;
                }
                archive.memory = backup->memory;
                archive.epochs = backup->epochs->str;
                backup->events.begin(archive.total, backup->events.userdata);
                r = backup_archive_write(&archive, ret, error);
        }
        backup->completed = archive.total;

        store_snapshot_end(connection);
        return r;
}

/*
 * Writes and proves. What is on the disk is what was given, byte by byte, and that a restore takes it was seen to
 * when it was given: each license by its seal, or by the function that reads it back (backup_license_check()), each
 * document by its digest, and the form by pax.c, whose output the strict reader takes (test-pax, test-archive,
 * fuzz-archive). So it is not read as a backup again; VerifyBackup does that.
 *
 * reserve: what must stay free where fd is, in percent; the service's own disk must never fill up.
 */
static int build(Backup *backup, int fd, unsigned reserve, unsigned percent_end, WorkResult *ret, Error *error) {
        g_autoptr(ProvedFile) file = NULL;
        bool rotten;
        int r;

        r = proved_file_new(fd, backup->cancel, &file);
        if (r < 0)
                return error_set_errno(error, ERROR_MEDIUM, r, "Writing the backup failed");

        /* Most of it is proved while it is written: the rest takes little. */
        backup->percent_from = percent_end * 9 / 10;
        backup->percent_to = percent_end;
        r = write_archive(backup, file, fd, reserve, backup->percent_from, ret, error);
        if (r != 0)
                return r;
        r = proved_file_finish(file, bytes_progress, backup);
        if (r < 0)
                return proved_file_failed(file, r, &rotten, error);
        ret->verified = true;
        return 0;
}

/*
 * A disk that was pulled takes what is still written to it, and so does one that another was mounted over: whether the
 * backup is where its user looks for it is asked last.
 */
static int check_place(const Backup *backup, int folder, Error *error) {
        _cleanup_fd_ int fd = folder_open(backup->root, backup->plan.uid, backup->below, false);
        struct stat written, found;
        bool is_same = false;
        int r = 0;

        if (fd < 0)
                r = fd;
        else if (fstat(folder, &written) < 0 || fstat(fd, &found) < 0)
                r = -errno;
        else
                is_same = written.st_dev == found.st_dev && written.st_ino == found.st_ino;

        if (is_same)
                return 0;
        if (r < 0 && r != -ENOENT && r != -ENOTDIR && r != -ELOOP)
                return error_set(error, ERROR_MEDIUM,
                        "The new backup is whole and was put in its place, but that cannot be looked at again: "
                        "%s. See that its disk is well, and make another one.", g_strerror(-r));
        return error_set(error, ERROR_MEDIUM,
                "The folder '%s' is not there any more: its disk was removed, or another put in its place, while the "
                "backup was written. See that the right one is mounted, and make another backup.", backup->path);
}

/* Who hears of an error gets no result, which has the name. Returns the error's code. */
static int tell_aside(const Aside *aside, Error *error) {
        return aside->name[0] && aside->is_own ? error_set(error, error->code,
                "%s The backup that was there is called '%s' now.", error_message(error), aside->name) :
                (int)error->code;
}

/*
 * The new one failed: what was set aside gets its name back, or its user hears which it has. Returns the error's code.
 */
static int undo_aside(Backup *backup, int folder, const Aside *aside, Error *error) {
        if (aside_undo(folder, aside) >= 0)
                return (int)error->code;
        backup->replaced = true;
        return tell_aside(aside, error);
}

static void came_meanwhile(Error *error) {
        error_set(error, ERROR_MEDIUM,
                "Meanwhile another backup was put in its place, by another machine, it seems, that uses this folder, "
                "too. Make yours again.");
}

/* The draft did not get the name: r is draft_publish()'s. Returns the error's code. */
static int fail_to_deliver(Backup *backup, int folder, const Aside *aside, int r, Error *error) {
        if (r == -EEXIST && !backup->plan.overwrite) {
                (void)aside_undo(folder, aside);
                return exists(backup, error);
        }
        if (r == -EEXIST || r == DRAFT_OTHER)
                came_meanwhile(error);
        else
                error_set_errno(error, ERROR_MEDIUM, r, "Putting it in its place failed");
        return undo_aside(backup, folder, aside, error);
}

/*
 * The draft is whole: it gets the name of the backup in its folder, and what that name must not be taken from for good
 * is set aside.
 */
static int deliver(Backup *backup, int folder, Draft *draft, WorkResult *result, Error *error) {
        const NewBackup new = {
                .user = backup->plan.name,
                .store = backup->store_id,
                .machine = backup->plan.machine,
                .memory = backup->memory,
                .epochs = backup->epochs->str,
                .beside_store = is_in_own_folder(backup),
                .overwrite = backup->plan.overwrite,
                .events = &backup->events,
                .cancel = backup->cancel,
        };
        g_auto(Aside) aside = ASIDE_NONE;
        bool replaces;
        int r;

        r = aside_set(folder, &new, &aside);
        if (r < 0) {
                if (r == -ESTALE)
                        came_meanwhile(error);
                else
                        error_set_errno(error, ERROR_MEDIUM, r, "What lies there cannot be looked at, or be set aside");
                return undo_aside(backup, folder, &aside, error);
        }
        /* Another machine may use the folder, too: what it puts there now nobody has looked at. */
        replaces = new.overwrite && aside.was_there && (!aside.name[0] || aside.linked);
        draft->replaces = aside.former;
        r = draft_publish(draft, FOLDER_BACKUP_NAME, replaces);
        draft->replaces = -1;
        if (r != 0 && r != DRAFT_NOT_DURABLE)
                return fail_to_deliver(backup, folder, &aside, r, error);
        if (aside.name[0]) {
                result->set_aside = g_strdup(aside.name);
                result->aside_is_own = aside.is_own;
        }
        /*
         * To free a large file takes a tenth of a second: not here, but after Done. A medium that may be pulled then
         * has to be left at rest.
         */
        if (new.beside_store)
                backup->former = fd_steal(&aside.former);
        if (r == DRAFT_NOT_DURABLE) {
                backup->replaced = true;
                error_set(error, ERROR_MEDIUM,
                        "The new backup is whole and in its place, but its folder could not be synced (%s): after a "
                        "power cut what was there before may be back. Make another one.", g_strerror(errno));
                return tell_aside(&aside, error);
        }

        r = check_place(backup, folder, error);
        backup->replaced = r != 0;
        return r != 0 ? tell_aside(&aside, error) : 0;
}

/* A backup into the user's folder: the draft that is verified is the file that gets the name. */
static int run_to_folder(Backup *backup, WorkResult *result, Error *error) {
        bool is_own = is_in_own_folder(backup);
        _cleanup_fd_ int folder = -1;
        g_auto(Draft) draft = DRAFT_NONE;
        int r;

        /* A disk of the network may hang. The service's own is the store's, too: nothing goes on without it. */
        backup->events.watched(!is_own, backup->events.userdata);
        folder = folder_open(backup->root, backup->plan.uid, backup->below, is_own);
        if (folder < 0)
                return backup_folder_failed(backup->path, folder, BACKUP_PATH, error);
        (void)draft_tidy(folder, FOLDER_BACKUP_NAME);

        r = draft_open(folder, FOLDER_BACKUP_NAME, &draft);
        if (r < 0)
                return error_set_errno(error, ERROR_MEDIUM, r, "A file cannot be made there");

        r = build(backup, draft.fd, is_own ? store_reserve(backup->plan.store) : 0, 99, result, error);
        if (r != 0)
                return r;
        /* Who cancels either is seen below, or is told that it comes too late. */
        backup->events.settling(backup->events.userdata);
        if (cancel_requested(backup->cancel))
                return cancel_set_error(backup->cancel, error);
        return deliver(backup, folder, &draft, result, error);
}

/* A backup to a stranger's descriptor: whole and verified here, before a byte goes there. */
static int run_to_descriptor(Backup *backup, WorkResult *result, Error *error) {
        const BackupPlan *plan = &backup->plan;
        _cleanup_fd_ int folder = -1;
        g_auto(Draft) draft = DRAFT_NONE;
        int r;

        folder = open(store_folder(plan->store), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = folder < 0 ? -errno : draft_open(folder, FOLDER_BACKUP_NAME, &draft);
        if (r < 0)
                return error_set_errno(error, ERROR_MEDIUM, r, "The service cannot make a file of its own");

        r = build(backup, draft.fd, store_reserve(plan->store), 60, result, error);
        if (r != 0)
                return r;

        backup->percent_from = 60;
        backup->percent_to = 99;
        backup->step_total = result->bytes;
        backup->events.watched(true, backup->events.userdata);
        backup->events.outside(true, backup->events.userdata);
        return descriptor_copy(draft.fd, result->bytes, plan->fd, backup->kind, plan->stall_msec, backup->cancel,
                bytes_progress, backup, error);
}

int backup_run(Backup *backup, const WorkEvents *events, WorkResult *ret, Error *error) {
        g_auto(WorkResult) result = {};
        int r;

        backup->events = *events;
        if (backup->plan.fd >= 0)
                r = run_to_descriptor(backup, &result, error);
        else {
                r = run_to_folder(backup, &result, error);
                if ((r == ERROR_MEDIUM || r == ERROR_STORE_FULL) && !backup->replaced) {
                        error_prefix(error, "Backup to '%s' failed", backup->path);
                        error_set(error, error->code, "%s A backup that was there before is unchanged.",
                                error_message(error));
                }
        }

        if (r == 0) {
                *ret = result;
                result = (WorkResult) {};
        }
        return r;
}

static int class_check(void *work, Error *error) {
        return backup_check(work, error);
}

static int class_run(void *work, const WorkEvents *events, WorkResult *ret, Error *error) {
        return backup_run(work, events, ret, error);
}

static void class_free(void *work) {
        backup_free(work);
}

const WorkClass backup_class = { class_check, class_run, class_free };
