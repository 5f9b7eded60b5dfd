/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "restricted.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "draft.h"

#define INDEX_EVERY 256U
#define BUFFER_SIZE (64U * 1024U)
#define PAGE_BYTES (60U * 1024U)
/* What an entry takes in a D-Bus message beside its text: alignment, three lengths, three NULs. */
#define ENTRY_BYTES 32U

struct RestrictedList {
        atomic_uint n_ref;
        _Atomic uint64_t bytes; /* of all entries; not below the mutex, which who reads the disk has */
        pthread_mutex_t mutex;
        char *folder;
        Draft draft;      /* never named; goes with its descriptor */
        GArray *index;    /* of uint64_t: where each INDEX_EVERYth entry begins */
        uint64_t count;
        uint64_t flushed; /* bytes in the file */
        GByteArray *buffer; /* and those that follow them */
};

int restricted_new(const char *folder, RestrictedList **ret) {
        RestrictedList *list;

        list = g_try_new0(RestrictedList, 1);
        if (!list)
                return -ENOMEM;
        atomic_init(&list->n_ref, 1U);
        pthread_mutex_init(&list->mutex, NULL);
        list->folder = g_strdup(folder);
        list->draft = DRAFT_NONE;
        list->index = g_array_new(false, false, sizeof(uint64_t));
        list->buffer = g_byte_array_new();
        *ret = list;
        return 0;
}

RestrictedList *restricted_ref(RestrictedList *list) {
        atomic_fetch_add(&list->n_ref, 1U);
        return list;
}

RestrictedList *restricted_unref(RestrictedList *list) {
        if (list && atomic_fetch_sub(&list->n_ref, 1U) == 1U) {
                draft_discard(&list->draft);
                g_free(list->folder);
                g_array_unref(list->index);
                g_byte_array_unref(list->buffer);
                pthread_mutex_destroy(&list->mutex);
                g_free(list);
        }
        return NULL;
}

static int open_file(RestrictedList *list) {
        _cleanup_fd_ int folder = -1;
        int r;

        folder = open(list->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (folder < 0)
                return -errno;
        r = draft_open(folder, RESTRICTED_DRAFT_NAME, &list->draft);
        if (r < 0)
                return r;

        /* Where the file has a name it loses it now: nobody else is to open it. */
        if (list->draft.partial[0])
                (void)unlinkat(folder, list->draft.partial, 0);
        list->draft.partial[0] = 0;
        return 0;
}

static int flush(RestrictedList *list) {
        int r;

        if (list->buffer->len == 0)
                return 0;
        r = list->draft.fd < 0 ? open_file(list) : 0;
        if (r < 0)
                return r;

        r = io_pwrite_all(list->draft.fd, list->buffer->data, list->buffer->len, list->flushed);
        if (r < 0)
                return r;
        list->flushed += list->buffer->len;
        g_byte_array_set_size(list->buffer, 0);
        return 0;
}

int restricted_append(RestrictedList *list, const char *id, const char *key_id, const char *title) {
        const char *fields[] = { id, key_id ?: "", title ?: "" };
        int r = 0;

        pthread_mutex_lock(&list->mutex);
        if (list->count % INDEX_EVERY == 0) {
                uint64_t at = list->flushed + list->buffer->len;
                g_array_append_val(list->index, at);
        }
        /* Each field with its NUL: they hold none themselves. */
        for (size_t i = 0; i < G_N_ELEMENTS(fields); i++)
                g_byte_array_append(list->buffer, (const guint8 *)fields[i], (guint)strlen(fields[i]) + 1);
        list->count++;
        atomic_store(&list->bytes, list->flushed + list->buffer->len);
        if (list->buffer->len >= BUFFER_SIZE)
                r = flush(list);
        pthread_mutex_unlock(&list->mutex);
        return r;
}

uint64_t restricted_count(RestrictedList *list) {
        uint64_t count;

        pthread_mutex_lock(&list->mutex);
        count = list->count;
        pthread_mutex_unlock(&list->mutex);
        return count;
}

uint64_t restricted_bytes(const RestrictedList *list) {
        return atomic_load(&list->bytes);
}

/* Takes entries from text, which begins with the one numbered at; stops where one is cut off. */
static void take(const char *text, size_t size, uint64_t at, uint64_t offset, unsigned max, GPtrArray *ret) {
        size_t bytes = 0;

        while (ret->len / 3 < max) {
                const char *fields[3];
                size_t entry = ENTRY_BYTES;

                for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
                        size_t n = strnlen(text, size);

                        if (n == size)
                                return;
                        fields[i] = text;
                        text += n + 1;
                        size -= n + 1;
                        entry += n;
                }
                if (at++ < offset)
                        continue;

                bytes += entry;
                if (bytes > PAGE_BYTES)
                        return;
                for (size_t i = 0; i < G_N_ELEMENTS(fields); i++)
                        g_ptr_array_add(ret, g_strdup(fields[i]));
        }
}

int restricted_read(RestrictedList *list, uint64_t offset, unsigned max, GPtrArray *ret) {
        /* An index step of the largest entries, and a page after it. */
        const size_t size = INDEX_EVERY * 3 * 1025 + PAGE_BYTES;
        g_autofree char *text = NULL;
        uint64_t begin, step = offset / INDEX_EVERY;
        ssize_t n = 0;
        int r;

        g_ptr_array_set_free_func(ret, g_free);
        text = g_try_malloc(size);
        if (!text)
                return -ENOMEM;

        pthread_mutex_lock(&list->mutex);
        r = flush(list);
        if (r >= 0 && step < list->index->len) {
                begin = g_array_index(list->index, uint64_t, step);
                n = io_pread_all(list->draft.fd, text, size, begin);
        }
        pthread_mutex_unlock(&list->mutex);
        if (r < 0 || n < 0)
                return r < 0 ? r : (int)n;

        take(text, (size_t)n, step * INDEX_EVERY, offset, max, ret);
        return 0;
}
