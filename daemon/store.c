/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/statvfs.h>

#include "known-properties.h"
#include "store-connection.h"
#include "store-file.h"
#include "store-readers.h"

/* A transaction takes no more tasks after this long, so that nobody's reply waits for a crowd. */
#define TRANSACTION_USEC (50 * 1000)
/* After a sweep that failed, as on a full disk. */
#define SWEEP_PAUSE_SECONDS 5

/*
 * GLib's mutexes and queues of messages would do; those of pthread are seen by the thread sanitizer,
 * too, and this is the code that it is for.
 */
struct Store {
        char *folder;
        bool is_new;
        _Atomic uint64_t count;
        KnownProperties *known;

        pthread_mutex_t mutex; /* for all below, down to the threads */
        pthread_cond_t write_queued;
        GQueue writes;
        StoreLimits limits;
        bool stop;
        int64_t last_restore;
        GArray *ended_restores; /* of int64_t: what they staged is to be removed */

        StoreConnection *write_connection; /* the writer thread's */
        pthread_t writer;
        bool writer_runs;
        StoreReaders *readers;
};

static int update_count(Store *store, StoreConnection *connection, Error *error) {
        int64_t count;
        int r;

        r = store_connection_integer(connection, "SELECT sum(licenses) FROM owners", &count, error);
        if (r == 0)
                atomic_store(&store->count, (uint64_t)count);
        return r;
}

static int run_sql(StoreConnection *connection, const char *sql, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = store_statement(connection, sql, error);

        return statement ? statement_write(connection, statement, error) : (int)error->code;
}

/* Looks at what bounds every write of a transaction alike. */
static int prepare_limits(Store *store, StoreConnection *connection, Error *error) {
        struct statvfs vfs;
        int64_t pages, unused, size;
        uint64_t reserve, left, used;
        int r;

        connection->limits = store_limits(store);
        if ((r = store_connection_integer(connection, "PRAGMA page_count", &pages, error)) != 0 ||
            (r = store_connection_integer(connection, "PRAGMA freelist_count", &unused, error)) != 0 ||
            (r = store_connection_integer(connection, "PRAGMA page_size", &size, error)) != 0)
                return r;
        used = (uint64_t)((pages - unused) * size);
        connection->store_full = used >= connection->limits.store_bytes;
        /* A full store must go onto itself, where it is there twice for a while, with a row more for each license. */
        connection->staging_full = used / 9 * 4 >= connection->limits.store_bytes;

        /*
         * What was removed is there to be written to again, but all goes through the WAL, which takes from the
         * reserve.
         */
        connection->no_space = false;
        if (statvfs(store->folder, &vfs) >= 0 && vfs.f_blocks > 0) {
                reserve = (uint64_t)vfs.f_blocks / 100 * connection->limits.minimum_free_percent * vfs.f_frsize;
                left = (uint64_t)vfs.f_bavail * vfs.f_frsize;
                connection->no_space = left < reserve / 2 || left + (uint64_t)(unused * size) < reserve;
        }
        return 0;
}

/* Whether the transaction goes on with the next task. */
static bool takes_more(const GQueue *tasks, const GQueue *done, int64_t start) {
        const StoreTask *next = tasks->head ? tasks->head->data : NULL, *last = done->tail ? done->tail->data : NULL;

        if (!next || !last)
                return next != NULL;
        return !next->alone && !last->alone && g_get_monotonic_time() - start < TRANSACTION_USEC;
}

/* A task as a part of a transaction. What is returned is an error of all of that; the task's own is in it. */
static int run_task(StoreConnection *connection, StoreTask *task, bool *ret_good, Error *error) {
        int r;

        /* A savepoint keeps in memory what it may have to put back. */
        if (!task->alone && (r = run_sql(connection, "SAVEPOINT task", error)) != 0)
                return r;

        *ret_good = task->run(task, connection, &task->error) == 0;
        if (!*ret_good) {
                /* A full disk or a failing malloc makes SQLite roll everything back. */
                if (task->alone || sqlite3_get_autocommit(connection->db))
                        return error_copy(error, &task->error);
                r = run_sql(connection, "ROLLBACK TO task", error);
                if (r != 0)
                        return r;
        }
        return task->alone ? 0 : run_sql(connection, "RELEASE task", error);
}

/*
 * Runs tasks as one transaction. Each task's error is its own; what is returned is an error of the
 * transaction, and nothing of it is in the store then. Tasks that were not reached before the time was
 * up stay in the queue.
 */
static int transact(Store *store, GQueue *tasks, GQueue *ret_done, Error *error) {
        StoreConnection *connection = store->write_connection;
        int64_t start = g_get_monotonic_time();
        bool any = false;
        int r;

        store_epoch_enter(connection, ((const StoreTask *)g_queue_peek_head(tasks))->for_backup);
        if ((r = store_write_begin(connection, error)) != 0)
                return r;
        r = prepare_limits(store, connection, error);

        while (r == 0 && takes_more(tasks, ret_done, start)) {
                StoreTask *task = g_queue_pop_head(tasks);
                bool good = false;

                g_queue_push_tail(ret_done, task);
                error_clear(&task->error);
                r = run_task(connection, task, &good, error);
                any = any || good;
        }

        if (r == 0 && any)
                r = run_sql(connection, "COMMIT", error);
        store_write_abandon(connection);
        /* Also where it failed: of a disk that is ill, nobody knows what it has. */
        if (connection->properties_changed)
                known_properties_forget(store->known);
        connection->properties_changed = false;
        return r;
}

static void give_back(GQueue *tasks) {
        StoreTask *task;

        while ((task = g_queue_pop_head(tasks)))
                task->done(task);
}

/* Runs each task in a transaction of its own. */
static void run_one_by_one(Store *store, GQueue *tasks, GQueue *ret_done) {
        StoreTask *task;

        while ((task = g_queue_pop_head(tasks))) {
                /* A transaction always takes its first task, however late it got the lock. */
                GQueue one = G_QUEUE_INIT, ran = G_QUEUE_INIT;
                g_auto(Error) error = {};

                g_queue_push_tail(&one, task);
                if (transact(store, &one, &ran, &error) != 0)
                        error_move(&task->error, &error);
                g_queue_clear(&one);
                g_queue_clear(&ran);
                g_queue_push_tail(ret_done, task);
        }
}

/*
 * Runs what was taken from the queue. A transaction that fails is taken again task by task, so that
 * the one that does not fit on the disk does not take the others along.
 */
static void run_writes(Store *store, GQueue *tasks) {
        GQueue done = G_QUEUE_INIT, again = G_QUEUE_INIT;
        g_auto(Error) error = {}, ignored = {};

        if (transact(store, tasks, &done, &error) != 0) {
                if (g_queue_is_empty(&done))
                        g_queue_push_tail(&done, g_queue_pop_head(tasks));

                StoreTask *first = g_queue_peek_head(&done);
                if (first->alone)
                        error_move(&first->error, &error);
                else {
                        again = done;
                        done = (GQueue)G_QUEUE_INIT;
                        run_one_by_one(store, &again, &done);
                }
        }

        (void)update_count(store, store->write_connection, &ignored);
        give_back(&done);
}

/* Removes a slice of what ended restores have staged. Returns whether that went well. */
static bool sweep(Store *store, int64_t restore) {
        g_auto(Error) ignored = {};
        bool more = false;

        if (store_sweep(store->write_connection, restore, &more, &ignored) != 0)
                return false;

        if (!more) {
                pthread_mutex_lock(&store->mutex);
                for (unsigned i = store->ended_restores->len; i > 0; i--)
                        if (g_array_index(store->ended_restores, int64_t, i - 1) == restore)
                                g_array_remove_index(store->ended_restores, i - 1);
                pthread_mutex_unlock(&store->mutex);
        }
        return true;
}

/* Waits for something to write, or to sweep; with the mutex held. paused: not for the latter, and not for long. */
static void wait_for_writes(Store *store, bool paused) {
        struct timespec until;

        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += SWEEP_PAUSE_SECONDS;
        while (g_queue_is_empty(&store->writes) && !store->stop) {
                if (store->ended_restores->len == 0)
                        pthread_cond_wait(&store->write_queued, &store->mutex);
                else if (!paused || pthread_cond_timedwait(&store->write_queued, &store->mutex, &until) == ETIMEDOUT)
                        break;
        }
}

static void *writer_thread(void *userdata) {
        Store *store = userdata;
        GQueue tasks = G_QUEUE_INIT;
        bool sweep_failed = false;

        pthread_mutex_lock(&store->mutex);
        for (;;) {
                int64_t ended;

                if (g_queue_is_empty(&tasks))
                        wait_for_writes(store, sweep_failed);

                /* What the time did not suffice for comes first; then what has come since. */
                for (StoreTask *task; (task = g_queue_pop_head(&store->writes));)
                        g_queue_push_tail(&tasks, task);
                if (g_queue_is_empty(&tasks) && store->stop)
                        break;
                ended = store->ended_restores->len > 0 && !store->stop ?
                        g_array_index(store->ended_restores, int64_t, 0) : 0;
                pthread_mutex_unlock(&store->mutex);

                /* In turn, so that neither writing nor sweeping keeps the other waiting for long. */
                if (!g_queue_is_empty(&tasks))
                        run_writes(store, &tasks);
                if (ended != 0)
                        sweep_failed = !sweep(store, ended);

                pthread_mutex_lock(&store->mutex);
                /* One that can never be swept, for a page of it is damaged, must not keep the others from it. */
                if (ended != 0 && sweep_failed) {
                        g_array_remove_index(store->ended_restores, 0);
                        g_array_append_val(store->ended_restores, ended);
                }
        }
        pthread_mutex_unlock(&store->mutex);
        return NULL;
}

static int thread_failed(int r, Error *error) {
        return error_set(error, ERROR_STORE_READ,
                "The license store cannot be opened: no thread can be started (%s). Mend that, then restart "
                "licensevaultd.", g_strerror(r));
}

static int start_threads(Store *store, Error *error) {
        StoreConnection *connections[STORE_READERS] = {};
        int r = 0;

        for (unsigned i = 0; i < STORE_READERS && r == 0; i++)
                r = store_file_open(store->folder, STORE_READ, &connections[i], error);
        if (r != 0) {
                for (unsigned i = 0; i < STORE_READERS; i++)
                        store_connection_free(connections[i]);
                return r;
        }

        if ((r = -store_readers_start(store->readers, connections)) != 0 ||
            (r = pthread_create(&store->writer, NULL, writer_thread, store)) != 0)
                return thread_failed(r, error);
        store->writer_runs = true;
        return 0;
}

/* What a daemon before us staged and did not come to merge or to remove belongs to nobody. */
static int find_ended_restores(Store *store, Error *error) {
        int64_t restore = 0;
        int r;

        r = store_staged_last(store->write_connection, &store->last_restore, error);
        while (r == 0 && restore < store->last_restore) {
                r = store_staged_after(store->write_connection, restore, &restore, error);
                if (r == 0)
                        g_array_append_val(store->ended_restores, restore);
        }
        return r;
}

static void condition_init(pthread_cond_t *condition) {
        pthread_condattr_t attributes;

        pthread_condattr_init(&attributes);
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        pthread_cond_init(condition, &attributes);
        pthread_condattr_destroy(&attributes);
}

int store_open(const char *folder, const StoreLimits *limits, Store **ret, Error *error) {
        g_autoptr(Store) store = NULL;
        bool exists = false;
        int r;

        r = store_file_find(folder, &exists, error);
        if (r == 0 && !exists)
                r = store_file_create(folder, error);
        if (r != 0)
                return r;

        store = g_new0(Store, 1);
        store->folder = g_strdup(folder);
        store->is_new = !exists;
        store->limits = *limits;
        pthread_mutex_init(&store->mutex, NULL);
        condition_init(&store->write_queued);
        store->readers = store_readers_new();
        store->known = known_properties_new();
        store->ended_restores = g_array_new(false, false, sizeof(int64_t));

        if ((r = store_file_open(folder, STORE_WRITE, &store->write_connection, error)) != 0 ||
            (r = find_ended_restores(store, error)) != 0 ||
            (r = update_count(store, store->write_connection, error)) != 0) {
                /* Before store_stop(), which would write the WAL into the file. */
                store->write_connection = store_connection_free(store->write_connection);
                return r;
        }
        store_connection_trust(store->write_connection);
        r = start_threads(store, error);
        if (r != 0)
                return r;

        *ret = g_steal_pointer(&store);
        return 0;
}

void store_stop(Store *store) {
        pthread_mutex_lock(&store->mutex);
        store->stop = true;
        pthread_cond_broadcast(&store->write_queued);
        pthread_mutex_unlock(&store->mutex);

        if (store->writer_runs)
                pthread_join(store->writer, NULL);
        store_readers_stop(store->readers);

        /* Not left to sqlite3_close(): a job that hangs may still have the database open. */
        if (store->write_connection)
                (void)store_connection_exec(store->write_connection, "PRAGMA wal_checkpoint(TRUNCATE)");
        store->write_connection = store_connection_free(store->write_connection);
}

Store *store_free(Store *store) {
        if (!store)
                return NULL;

        store_stop(store);
        pthread_cond_destroy(&store->write_queued);
        pthread_mutex_destroy(&store->mutex);
        store->readers = store_readers_free(store->readers);
        store->known = known_properties_free(store->known);
        g_array_unref(store->ended_restores);
        g_free(store->folder);
        g_free(store);
        return NULL;
}

void store_set_limits(Store *store, const StoreLimits *limits) {
        pthread_mutex_lock(&store->mutex);
        store->limits = *limits;
        pthread_mutex_unlock(&store->mutex);
}

StoreLimits store_limits(Store *store) {
        StoreLimits limits;

        pthread_mutex_lock(&store->mutex);
        limits = store->limits;
        pthread_mutex_unlock(&store->mutex);
        return limits;
}

uint64_t store_count(Store *store) {
        return atomic_load(&store->count);
}

bool store_is_new(const Store *store) {
        return store->is_new;
}

const char *store_folder(const Store *store) {
        return store->folder;
}

void store_submit_write(Store *store, StoreTask *task) {
        pthread_mutex_lock(&store->mutex);
        g_queue_push_tail(&store->writes, task);
        pthread_cond_signal(&store->write_queued);
        pthread_mutex_unlock(&store->mutex);
}

void store_submit_read(Store *store, StoreTask *task) {
        store_readers_submit(store->readers, task, STORE_READING_SHORT);
}

void store_submit_search(Store *store, StoreTask *task) {
        store_readers_submit(store->readers, task, STORE_READING_LONG);
}

void store_wake_readers(Store *store) {
        store_readers_wake(store->readers);
}

static void call_done(StoreTask *task) {
        StoreCall *call = (StoreCall *)task;

        pthread_mutex_lock(&call->mutex);
        call->finished = true;
        pthread_cond_signal(&call->changed);
        pthread_mutex_unlock(&call->mutex);
}

static void call_init(StoreCall *call) {
        call->task.done = call_done;
        call->finished = false;
        pthread_mutex_init(&call->mutex, NULL);
        pthread_cond_init(&call->changed, NULL);
}

void store_call_write(Store *store, StoreCall *call) {
        call_init(call);
        store_submit_write(store, &call->task);
}

/* Who may wait may as well read: to hand it over, and to be woken, takes longer than what is read. */
void store_call_read(Store *store, StoreCall *call) {
        call_init(call);
        if (!store_readers_do_here(store->readers, &call->task)) {
                store_submit_read(store, &call->task);
                store_wake_readers(store);
        }
}

int store_call_wait(StoreCall *call, Error *error) {
        pthread_mutex_lock(&call->mutex);
        while (!call->finished)
                pthread_cond_wait(&call->changed, &call->mutex);
        pthread_mutex_unlock(&call->mutex);

        pthread_cond_destroy(&call->changed);
        pthread_mutex_destroy(&call->mutex);
        return error_move(error, &call->task.error);
}

typedef struct EpochsCall {
        StoreCall call;
        GString *epochs;
} EpochsCall;

static int epochs_run(StoreTask *task, StoreConnection *connection, Error *error) {
        return store_read_epochs(connection, ((EpochsCall *)task)->epochs, error);
}

int store_enter_backup(Store *store, GString *ret, Error *error) {
        EpochsCall call = {
                .call.task = { .run = epochs_run, .alone = true, .for_backup = true },
                .epochs = ret,
        };

        store_call_write(store, &call.call);
        return store_call_wait(&call.call, error);
}

/* Reads a property from a thread that has no connection, through one that has. */
typedef struct PropertyCall {
        StoreCall call;
        const StoreOwner *owner;
        const char *name;
        char *value;
} PropertyCall;

static int property_run(StoreTask *task, StoreConnection *connection, Error *error) {
        PropertyCall *property = (PropertyCall *)task;

        return store_property_get(connection, property->owner, property->name, &property->value, error);
}

int store_find_property(Store *store, const StoreOwner *owner, const char *name, char **ret_value, Error *error) {
        uint64_t age = known_properties_age(store->known);
        PropertyCall property = {
                .call.task.run = property_run,
                .owner = owner,
                .name = name,
        };
        int r;

        store_call_read(store, &property.call);
        r = store_call_wait(&property.call, error);
        if (r != 0)
                return r;
        known_properties_learn(store->known, owner, name, property.value, age);
        *ret_value = property.value;
        return 0;
}

bool store_knows_property(Store *store, const StoreOwner *owner, const char *name, char **ret_value) {
        return known_properties_get(store->known, owner, name, ret_value);
}

int64_t store_restore_begin(Store *store) {
        int64_t restore;

        pthread_mutex_lock(&store->mutex);
        restore = ++store->last_restore;
        pthread_mutex_unlock(&store->mutex);
        return restore;
}

void store_restore_end(Store *store, int64_t restore) {
        pthread_mutex_lock(&store->mutex);
        g_array_append_val(store->ended_restores, restore);
        pthread_cond_signal(&store->write_queued);
        pthread_mutex_unlock(&store->mutex);
}

int store_connect(Store *store, StoreConnection **ret, Error *error) {
        g_autoptr(StoreConnection) connection = NULL;
        int r, rc;

        r = store_file_open(store->folder, STORE_READ, &connection, error);
        if (r != 0)
                return r;
        /* It reads each page once or twice: to keep 2 MiB of them takes longer than to read one again. */
        rc = store_connection_exec(connection, "PRAGMA cache_size = -256");
        if (rc != SQLITE_OK)
                return store_connection_failed(connection, rc, false, error);
        *ret = g_steal_pointer(&connection);
        return 0;
}
