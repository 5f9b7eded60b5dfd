/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store-readers.h"

/* So many may wait for the first thread: to wake the other takes as long as to read a few licenses. */
#define HELP_FROM 8U

typedef struct Reader {
        StoreReaders *readers;
        StoreReading reading;
        pthread_t thread;
        bool runs;
        bool sleeps; /* and nobody has woken it; under the readers' mutex */
        pthread_cond_t woken;
        pthread_mutex_t mutex; /* of the connection, */
        StoreConnection *connection; /* which is NULL once they have stopped */
} Reader;

struct StoreReaders {
        pthread_mutex_t mutex;
        GQueue tasks[STORE_READERS]; /* of StoreTask *, by StoreReading */
        bool stop;
        Reader all[STORE_READERS];
};

static bool may_help(const Reader *reader) {
        return reader->reading == STORE_READING_LONG;
}

/* Who is awake takes what there is. */
static StoreTask *next_task(Reader *reader) {
        GQueue *tasks = reader->readers->tasks;
        StoreTask *task = g_queue_pop_head(&tasks[reader->reading]);

        return task || !may_help(reader) ? task : g_queue_pop_head(&tasks[STORE_READING_SHORT]);
}

/* Whether it is worth waking. */
static bool has_task(const Reader *reader) {
        const GQueue *tasks = reader->readers->tasks;

        return tasks[reader->reading].length > 0 ||
                (may_help(reader) && tasks[STORE_READING_SHORT].length > HELP_FROM);
}

static void *reader_thread(void *userdata) {
        Reader *reader = userdata;
        StoreReaders *readers = reader->readers;

        pthread_mutex_lock(&readers->mutex);
        for (;;) {
                StoreTask *task;

                while (!(task = next_task(reader)) && !readers->stop) {
                        reader->sleeps = true;
                        pthread_cond_wait(&reader->woken, &readers->mutex);
                        reader->sleeps = false;
                }
                if (!task)
                        break;
                pthread_mutex_unlock(&readers->mutex);

                pthread_mutex_lock(&reader->mutex);
                (void)task->run(task, reader->connection, &task->error);
                pthread_mutex_unlock(&reader->mutex);
                task->done(task);

                pthread_mutex_lock(&readers->mutex);
        }
        pthread_mutex_unlock(&readers->mutex);
        return NULL;
}

StoreReaders *store_readers_new(void) {
        StoreReaders *readers = g_new0(StoreReaders, 1);

        pthread_mutex_init(&readers->mutex, NULL);
        for (unsigned i = 0; i < STORE_READERS; i++) {
                Reader *reader = &readers->all[i];

                reader->readers = readers;
                reader->reading = i;
                pthread_cond_init(&reader->woken, NULL);
                pthread_mutex_init(&reader->mutex, NULL);
        }
        return readers;
}

int store_readers_start(StoreReaders *readers, StoreConnection *connections[STORE_READERS]) {
        for (unsigned i = 0; i < STORE_READERS; i++)
                readers->all[i].connection = connections[i];
        for (unsigned i = 0; i < STORE_READERS; i++) {
                Reader *reader = &readers->all[i];
                int r = pthread_create(&reader->thread, NULL, reader_thread, reader);

                if (r != 0)
                        return -r;
                reader->runs = true;
        }
        return 0;
}

void store_readers_stop(StoreReaders *readers) {
        pthread_mutex_lock(&readers->mutex);
        readers->stop = true;
        for (unsigned i = 0; i < STORE_READERS; i++)
                pthread_cond_signal(&readers->all[i].woken);
        pthread_mutex_unlock(&readers->mutex);

        for (unsigned i = 0; i < STORE_READERS; i++) {
                Reader *reader = &readers->all[i];

                if (reader->runs)
                        pthread_join(reader->thread, NULL);
                reader->runs = false;
                pthread_mutex_lock(&reader->mutex);
                reader->connection = store_connection_free(reader->connection);
                pthread_mutex_unlock(&reader->mutex);
        }
}

StoreReaders *store_readers_free(StoreReaders *readers) {
        if (readers) {
                for (unsigned i = 0; i < STORE_READERS; i++) {
                        pthread_cond_destroy(&readers->all[i].woken);
                        pthread_mutex_destroy(&readers->all[i].mutex);
                }
                pthread_mutex_destroy(&readers->mutex);
                g_free(readers);
        }
        return NULL;
}

void store_readers_submit(StoreReaders *readers, StoreTask *task, StoreReading reading) {
        pthread_mutex_lock(&readers->mutex);
        g_queue_push_tail(&readers->tasks[reading], task);
        pthread_mutex_unlock(&readers->mutex);
}

void store_readers_wake(StoreReaders *readers) {
        pthread_mutex_lock(&readers->mutex);
        for (unsigned i = 0; i < STORE_READERS; i++) {
                Reader *reader = &readers->all[i];

                if (reader->sleeps && has_task(reader)) {
                        reader->sleeps = false;
                        pthread_cond_signal(&reader->woken);
                }
        }
        pthread_mutex_unlock(&readers->mutex);
}

bool store_readers_do_here(StoreReaders *readers, StoreTask *task) {
        for (unsigned i = STORE_READERS; i-- > 0;) {
                Reader *reader = &readers->all[i];
                bool is_open;

                if (pthread_mutex_trylock(&reader->mutex) != 0)
                        continue;
                is_open = reader->connection != NULL;
                if (is_open)
                        (void)task->run(task, reader->connection, &task->error);
                pthread_mutex_unlock(&reader->mutex);
                if (is_open) {
                        task->done(task);
                        return true;
                }
        }
        return false;
}
