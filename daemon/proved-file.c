/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "proved-file.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include <sodium.h>

/*
 * All blocks; how many of them are on their way to the disk and back at most; and, with the cache, how many of those on
 * their way back. So the disk always has something to write and to read, and is seldom waited for.
 */
#define N_BLOCKS 8U
#define BEHIND 4U
#define COMING 2U
#define BLOCKS_BYTES ((N_BLOCKS + 1) * sizeof(Block)) /* with one to read into */
/* What memory, place and size of a direct read or write are whole numbers of. */
#define PAGE 4096U
#define WAIT_NSEC (100L * 1000 * 1000)

typedef struct Span {
        size_t offset; /* in its block; it may go on in the next ones */
        uint64_t size;
        uint8_t digest[LICENSE_DIGEST_SIZE];
} Span;

typedef struct Block {
        _Alignas(PAGE) char data[PROVED_BLOCK_SIZE];
        size_t fill;
        unsigned n_spans;
        Span spans[PROVED_BLOCK_SIZE / PROVED_DOCUMENT_DISTANCE + 1];
} Block;

typedef struct Patch {
        uint64_t offset;
        size_t size;
        uint8_t data[PROVED_PATCH_SIZE];
} Patch;

/* Returns 0 or a negative errno, with the file's failure set. */
typedef int (*Step)(ProvedFile *file);

/* Who looks at all blocks in their order. One thread at most works for a stage. */
typedef struct Stage {
        ProvedFile *file;
        /* What there is to do now, or NULL, and how many blocks are done; the mutex is held. */
        Step (*next)(const ProvedFile *file);
        const uint64_t *done;
        pthread_t thread;
        bool runs;
} Stage;

enum { STAGE_DIGESTS, STAGE_WRITE, STAGE_PROOF, N_STAGES };

struct ProvedFile {
        /* Of the stage of the digests. */
        crypto_generichash_state digest;
        Span span;          /* the document that is not at its end */
        uint64_t span_left;
        bool in_span;

        int fd;
        atomic_bool direct; /* the cache is left out; changed with the mutex held */
        uint64_t start; /* where in fd the file begins */
        const Cancel *cancel;
        Block *blocks;  /* N_BLOCKS, in turn, and one to read into */
        Stage stages[N_STAGES];
        Patch patches[PROVED_PATCHES_MAX];
        unsigned n_patches;
        uint64_t given_bytes;

        pthread_mutex_t mutex;
        pthread_cond_t changed;
        /* Numbers of blocks, guarded by the mutex. */
        uint64_t given, digested, written, fetched, compared;
        bool complete; /* no more are given */
        bool stop;
        int failed;    /* the first failure: a negative errno, and its words */
        bool rotten;
        Error error;
};

static Block *block_of(const ProvedFile *file, uint64_t number) {
        return &file->blocks[number % N_BLOCKS];
}

/* The first failure counts. Takes error over; NULL: a document is rotten. Returns r. */
static int fail(ProvedFile *file, int r, Error *error) {
        pthread_mutex_lock(&file->mutex);
        if (file->failed == 0) {
                file->failed = r;
                file->rotten = !error;
                if (error)
                        error_move(&file->error, error);
        }
        pthread_cond_broadcast(&file->changed);
        pthread_mutex_unlock(&file->mutex);
        return r;
}

static int fail_errno(ProvedFile *file, int r, const char *what) {
        g_auto(Error) error = {};

        error_set_errno(&error, ERROR_MEDIUM, r, "%s", what);
        return fail(file, r, &error);
}

static int fail_differs(ProvedFile *file) {
        g_auto(Error) error = {};

        error_set(&error, ERROR_MEDIUM,
                "What was read back is not what was written: the disk is failing. Use another one.");
        return fail(file, -EIO, &error);
}

static int check_cancel(ProvedFile *file) {
        g_auto(Error) error = {};

        if (!file->cancel || !cancel_requested(file->cancel))
                return 0;
        cancel_set_error(file->cancel, &error);
        return fail(file, -ECANCELED, &error);
}

/* One more block is done, which others may wait for. Returns 0, as a step. */
static int count(ProvedFile *file, uint64_t *blocks) {
        pthread_mutex_lock(&file->mutex);
        (*blocks)++;
        pthread_cond_broadcast(&file->changed);
        pthread_mutex_unlock(&file->mutex);
        return 0;
}

/* Digests */

static int end_span(ProvedFile *file) {
        uint8_t digest[LICENSE_DIGEST_SIZE];

        file->in_span = false;
        crypto_generichash_final(&file->digest, digest, sizeof digest);
        return memcmp(digest, file->span.digest, sizeof digest) == 0 ? 0 : fail(file, -EUCLEAN, NULL);
}

/* Takes what the block has of the document. */
static int take_span(ProvedFile *file, const Block *block, size_t at) {
        size_t n = MIN(file->span_left, block->fill - at);

        crypto_generichash_update(&file->digest, (const uint8_t *)block->data + at, n);
        file->span_left -= n;
        return file->span_left > 0 ? 0 : end_span(file);
}

static int digest_block(ProvedFile *file) {
        const Block *block = block_of(file, file->digested);
        int r = file->in_span ? take_span(file, block, 0) : 0;

        for (unsigned i = 0; r >= 0 && i < block->n_spans; i++) {
                file->span = block->spans[i];
                file->span_left = file->span.size;
                file->in_span = true;
                crypto_generichash_init(&file->digest, NULL, 0, crypto_generichash_BYTES);
                r = take_span(file, block, file->span.offset);
        }
        if (r < 0)
                return r;

        return count(file, &file->digested);
}

static Step next_digest(const ProvedFile *file) {
        return file->digested < file->given ? digest_block : NULL;
}

/* The disk */

/*
 * Where only the whole file can be synced, that is done; also for a lack of memory, which is what ext4 calls it where
 * it finds no block on a failing device.
 */
static int sync_range(const ProvedFile *file, uint64_t offset, size_t size, unsigned flags) {
        if (sync_file_range(file->fd, (off_t)offset, (off_t)size, flags) >= 0)
                return 0;
        if (errno != ENOSYS && errno != EINVAL && errno != EOPNOTSUPP && errno != ESPIPE && errno != EPERM &&
            errno != ENOMEM)
                return -errno;
        if (flags == SYNC_FILE_RANGE_WRITE) /* that was to be quick, and is not needed */
                return 0;
        return fdatasync(file->fd) < 0 ? -errno : 0;
}

/*
 * The flag is the open file's: it is for all stages, and those of a call that is under way keep what they began with.
 */
static int set_direct(ProvedFile *file, bool direct) {
        int flags, r = 0;

        pthread_mutex_lock(&file->mutex);
        if (direct != file->direct) {
                flags = fcntl(file->fd, F_GETFL);
                if (flags < 0 || fcntl(file->fd, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT) < 0)
                        r = -errno;
                else
                        file->direct = direct;
        }
        pthread_mutex_unlock(&file->mutex);
        return r;
}

/*
 * As io_write_all() and io_pread_all(), and once more through the cache where the file system refuses the direct way:
 * it cannot, or wants another alignment, as for the end, which is not whole pages.
 */
static int write_at(ProvedFile *file, const void *data, size_t size, uint64_t offset) {
        int r = io_write_all(file->fd, data, size);

        if (r == -EINVAL && (r = set_direct(file, false)) == 0)
                r = lseek(file->fd, (off_t)offset, SEEK_SET) < 0 ? -errno : io_write_all(file->fd, data, size);
        return r;
}

static ssize_t read_at(ProvedFile *file, void *data, size_t size, uint64_t offset) {
        ssize_t n = io_pread_all(file->fd, data, size, offset);

        if (n == -EINVAL && (n = set_direct(file, false)) == 0)
                n = io_pread_all(file->fd, data, size, offset);
        return n;
}

static int write_block(ProvedFile *file) {
        const Block *block = block_of(file, file->written);
        uint64_t offset = file->start + file->written * PROVED_BLOCK_SIZE;
        int r;

        /* To copy all of a backup into the cache and out of it takes as much processor time as all the rest. */
        if (file->written == 0 && block->fill == PROVED_BLOCK_SIZE && file->start % PAGE == 0)
                (void)set_direct(file, true);
        r = write_at(file, block->data, block->fill, offset);
        /* Begins to bring it to the disk, and does not wait. */
        if (r >= 0 && !file->direct)
                r = sync_range(file, offset, block->fill, SYNC_FILE_RANGE_WRITE);
        if (r < 0)
                return fail_errno(file, r, "Writing the backup failed");

        return count(file, &file->written);
}

static Step next_write(const ProvedFile *file) {
        return file->written < file->given && file->written - file->compared < BEHIND ? write_block : NULL;
}

/*
 * What the kernel would give from its memory says nothing of the disk: a range is dropped from there, which goes once
 * it is on the disk. Whether the disk answers from a memory of its own nobody can know, also after a sync.
 */
static void drop(const ProvedFile *file, uint64_t offset, size_t size) {
        uint64_t unit = (uint64_t)sysconf(_SC_PAGESIZE), page = offset / unit * unit,
                 end = (offset + size + unit - 1) / unit * unit;

        (void)posix_fadvise(file->fd, (off_t)page, (off_t)(end - page), POSIX_FADV_DONTNEED);
}

/*
 * Waits until the block is on the disk, and begins to read it. Also of one that was written directly, for some file
 * systems only say that they do so.
 */
static int fetch_block(ProvedFile *file) {
        size_t size = block_of(file, file->fetched)->fill;
        uint64_t offset = file->start + file->fetched * PROVED_BLOCK_SIZE;
        int r;

        r = sync_range(file, offset, size,
                SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
        if (r < 0)
                return fail_errno(file, r, "Writing the backup failed");
        drop(file, offset, size);
        if (!file->direct)
                (void)posix_fadvise(file->fd, (off_t)offset, (off_t)size, POSIX_FADV_WILLNEED);

        return count(file, &file->fetched);
}

static int compare(ProvedFile *file, uint64_t offset, const void *expected, size_t size) {
        char *found = file->blocks[N_BLOCKS].data;
        ssize_t n = read_at(file, found, size, offset);

        if (n < 0)
                return fail_errno(file, (int)n, "Reading back the backup failed");
        return (size_t)n == size && memcmp(found, expected, size) == 0 ? 0 : fail_differs(file);
}

static int compare_block(ProvedFile *file) {
        const Block *block = block_of(file, file->compared);
        int r = compare(file, file->start + file->compared * PROVED_BLOCK_SIZE, block->data, block->fill);

        if (r < 0)
                return r;
        return count(file, &file->compared);
}

static bool is_all_written(const ProvedFile *file) {
        return file->complete && file->written == file->given;
}

static bool may_fetch(const ProvedFile *file) {
        return file->fetched < file->written && file->fetched - file->compared < COMING &&
                (file->direct || file->written - file->fetched >= BEHIND - COMING || is_all_written(file));
}

static bool may_compare(const ProvedFile *file) {
        return file->compared < file->fetched &&
                (file->direct || file->fetched - file->compared >= COMING || is_all_written(file));
}

static Step next_proof(const ProvedFile *file) {
        return may_fetch(file) ? fetch_block : may_compare(file) ? compare_block : NULL;
}

/* Threads */

static void *stage_thread(void *userdata) {
        Stage *stage = userdata;
        ProvedFile *file = stage->file;

        pthread_mutex_lock(&file->mutex);
        while (!file->stop && file->failed == 0) {
                Step step = stage->next(file);

                if (step) {
                        pthread_mutex_unlock(&file->mutex);
                        if (check_cancel(file) == 0)
                                (void)step(file);
                        pthread_mutex_lock(&file->mutex);
                } else if (file->complete && *stage->done == file->given)
                        break;
                else
                        pthread_cond_wait(&file->changed, &file->mutex);
        }
        pthread_mutex_unlock(&file->mutex);
        return NULL;
}

/* Where there is no thread to be had, who gives does its work. */
static void start_threads(ProvedFile *file) {
        for (unsigned i = 0; i < N_STAGES; i++) {
                Stage *stage = &file->stages[i];

                stage->runs = stage->runs || pthread_create(&stage->thread, NULL, stage_thread, stage) == 0;
        }
}

static void join_threads(ProvedFile *file) {
        for (unsigned i = 0; i < N_STAGES; i++)
                if (file->stages[i].runs) {
                        pthread_join(file->stages[i].thread, NULL);
                        file->stages[i].runs = false;
                }
}

/* What there is to do now for a stage without a thread, or NULL; the mutex is held. */
static Step find_work(const ProvedFile *file) {
        Step step = NULL;

        for (unsigned i = 0; !step && i < N_STAGES; i++)
                if (!file->stages[i].runs)
                        step = file->stages[i].next(file);
        return step;
}

/*
 * For a stage, and not for long, as it may hang on a disk that answers nothing: who gives must see a cancel, or the
 * snapshot that it holds stays, too.
 */
static void wait_a_while(ProvedFile *file) {
        struct timespec until;

        (void)clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += WAIT_NSEC;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        (void)pthread_cond_clockwait(&file->changed, &file->mutex, CLOCK_MONOTONIC, &until);
}

/* Waits until the stages are so far, and does the work of those without a thread. Returns 0 or the file's failure. */
static int wait_until(ProvedFile *file, bool (*is_so_far)(const ProvedFile *file, uint64_t number), uint64_t number) {
        int r;

        pthread_mutex_lock(&file->mutex);
        while (file->failed == 0 && !is_so_far(file, number)) {
                Step step = find_work(file);

                if (!step)
                        wait_a_while(file);
                pthread_mutex_unlock(&file->mutex);
                if (check_cancel(file) == 0 && step)
                        (void)step(file);
                pthread_mutex_lock(&file->mutex);
        }
        r = file->failed;
        pthread_mutex_unlock(&file->mutex);
        return r;
}

int proved_file_new(int fd, const Cancel *cancel, ProvedFile **ret) {
        ProvedFile *file;
        off_t start;
        void *blocks;

        start = lseek(fd, 0, SEEK_CUR);
        if (start < 0)
                return -errno;

        /* Zeros, and memory that is given back at once. What is not touched costs nothing. */
        blocks = mmap(NULL, BLOCKS_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (blocks == MAP_FAILED)
                return -ENOMEM;
        /* All are used again and again: fewer faults, and a twentieth of the time of a backup. */
        (void)madvise(blocks, BLOCKS_BYTES, MADV_HUGEPAGE);
        /* The digest's state wants an alignment that malloc() does not promise. */
        file = aligned_alloc(__alignof__(ProvedFile), sizeof *file);
        if (!file) {
                (void)munmap(blocks, BLOCKS_BYTES);
                return -ENOMEM;
        }

        memset(file, 0, sizeof *file);
        file->fd = fd;
        file->start = (uint64_t)start;
        file->cancel = cancel;
        file->blocks = blocks;
        file->stages[STAGE_DIGESTS] = (Stage) { file, next_digest, &file->digested };
        file->stages[STAGE_WRITE] = (Stage) { file, next_write, &file->written };
        file->stages[STAGE_PROOF] = (Stage) { file, next_proof, &file->compared };
        pthread_mutex_init(&file->mutex, NULL);
        pthread_cond_init(&file->changed, NULL);

        *ret = file;
        return 0;
}

ProvedFile *proved_file_free(ProvedFile *file) {
        if (!file)
                return NULL;

        pthread_mutex_lock(&file->mutex);
        file->stop = true;
        pthread_cond_broadcast(&file->changed);
        pthread_mutex_unlock(&file->mutex);
        join_threads(file);
        (void)set_direct(file, false);

        error_clear(&file->error);
        pthread_cond_destroy(&file->changed);
        pthread_mutex_destroy(&file->mutex);
        (void)munmap(file->blocks, BLOCKS_BYTES);
        free(file);
        return NULL;
}

char *proved_file_buffer(ProvedFile *file) {
        return block_of(file, file->given)->data;
}

/* Whether the block with this number may be filled: what lies in its place is not needed any more. */
static bool has_room(const ProvedFile *file, uint64_t number) {
        return number - MIN(file->digested, file->compared) < N_BLOCKS;
}

int proved_file_give(ProvedFile *file, size_t size) {
        Block *block = block_of(file, file->given);
        int r;

        g_assert(size <= PROVED_BLOCK_SIZE && !file->complete && file->given_bytes % PROVED_BLOCK_SIZE == 0);

        block->fill = size;
        file->given_bytes += size;
        pthread_mutex_lock(&file->mutex);
        file->given++;
        file->complete = size < PROVED_BLOCK_SIZE;
        pthread_cond_broadcast(&file->changed);
        pthread_mutex_unlock(&file->mutex);
        if (file->complete)
                return 0;

        start_threads(file);
        r = wait_until(file, has_room, file->given);
        if (r == 0)
                block_of(file, file->given)->n_spans = 0;
        return r;
}

void proved_file_expect(ProvedFile *file, size_t offset, uint64_t size, const uint8_t digest[LICENSE_DIGEST_SIZE]) {
        Block *block = block_of(file, file->given);
        Span *span = &block->spans[block->n_spans++];

        g_assert(block->n_spans <= G_N_ELEMENTS(block->spans) && offset <= PROVED_BLOCK_SIZE);
        span->offset = offset;
        span->size = size;
        memcpy(span->digest, digest, sizeof span->digest);
}

void proved_file_patch(ProvedFile *file, uint64_t offset, const void *data, size_t size) {
        Patch *patch = &file->patches[file->n_patches++];

        g_assert(file->n_patches <= PROVED_PATCHES_MAX && size <= PROVED_PATCH_SIZE);
        patch->offset = offset;
        patch->size = size;
        memcpy(patch->data, data, size);
}

static bool is_digested(const ProvedFile *file, uint64_t number) {
        return file->digested >= number;
}

int proved_file_end(ProvedFile *file) {
        pthread_mutex_lock(&file->mutex);
        file->complete = true;
        pthread_cond_broadcast(&file->changed);
        pthread_mutex_unlock(&file->mutex);

        return wait_until(file, is_digested, file->given);
}

static bool is_proved(const ProvedFile *file, uint64_t number) {
        return file->compared >= number;
}

/* Waits for the disk. */
static int drain(ProvedFile *file, void (*progress)(uint64_t done, uint64_t size, void *userdata), void *userdata) {
        int r = 0;

        for (uint64_t compared = 0; r == 0 && compared < file->given;) {
                r = wait_until(file, is_proved, compared + 1);

                pthread_mutex_lock(&file->mutex);
                compared = file->compared;
                pthread_mutex_unlock(&file->mutex);
                if (r == 0 && progress)
                        progress(MIN(compared * PROVED_BLOCK_SIZE, file->given_bytes), file->given_bytes, userdata);
        }
        return r;
}

/* Only now, so that all blocks were read back as they were given, wherever they were on their way. */
static int write_patches(ProvedFile *file) {
        for (unsigned i = 0; i < file->n_patches; i++) {
                const Patch *patch = &file->patches[i];
                int r = io_pwrite_all(file->fd, patch->data, patch->size, file->start + patch->offset);

                if (r < 0)
                        return fail_errno(file, r, "Writing the backup failed");
        }
        return 0;
}

static int compare_patches(ProvedFile *file) {
        /* All of it: the kernel keeps a large folio of which only a part is dropped. */
        (void)posix_fadvise(file->fd, 0, 0, POSIX_FADV_DONTNEED);
        for (unsigned i = 0; i < file->n_patches; i++) {
                const Patch *patch = &file->patches[i];
                int r = compare(file, file->start + patch->offset, patch->data, patch->size);

                if (r < 0)
                        return r;
        }
        return 0;
}

int proved_file_finish(ProvedFile *file, void (*progress)(uint64_t done, uint64_t size, void *userdata),
        void *userdata) {
        struct stat st;
        int r;

        g_assert(file->complete);

        if ((r = drain(file, progress, userdata)) < 0 || (r = check_cancel(file)) < 0)
                return r;
        join_threads(file);
        r = set_direct(file, false);
        if (r < 0)
                return fail_errno(file, r, "Writing the backup failed");
        r = write_patches(file);
        if (r < 0)
                return r;
        if (fdatasync(file->fd) < 0)
                return fail_errno(file, -errno, "Writing the backup failed");
        r = compare_patches(file);
        if (r < 0)
                return r;
        if (fstat(file->fd, &st) < 0)
                return fail_errno(file, -errno, "Reading back the backup failed");
        return (uint64_t)st.st_size == file->start + file->given_bytes ? 0 : fail_differs(file);
}

int proved_file_failed(ProvedFile *file, int r, bool *ret_rotten, Error *error) {
        g_auto(Error) failure = {};

        pthread_mutex_lock(&file->mutex);
        *ret_rotten = file->rotten;
        error_move(&failure, &file->error);
        pthread_mutex_unlock(&file->mutex);

        if (failure.code != ERROR_NONE)
                return error_move(error, &failure);
        return error_set_errno(error, ERROR_MEDIUM, r, "Writing the backup failed");
}
