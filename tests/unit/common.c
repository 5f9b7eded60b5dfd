/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "common.h"

#include <fcntl.h>
#include <ftw.h>
#include <linux/filter.h>
#include <linux/magic.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <time.h>

#include <cmocka.h>

#define PATIENCE_SEC 30

char *temp_folder_new(void) {
        char *path = g_build_filename(g_get_tmp_dir(), "licensevault-unit-XXXXXX", NULL);

        assert_non_null(mkdtemp(path));
        return path;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk) {
        return remove(path);
}

void temp_folder_remove(char *path) {
        assert_int_equal(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT), 0);
        g_free(path);
}

bool is_tmpfs(const char *path) {
        struct statfs fs;

        return statfs(path, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

bool sanitized(void) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
        return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
        return true;
#endif
#endif
        return false;
}

GBytes *read_path(const char *path) {
        char *data;
        gsize size;

        if (!g_file_get_contents(path, &data, &size, NULL))
                fail_msg("%s cannot be read", path);
        return g_bytes_new_take(data, size);
}

void write_path(const char *path, const void *data, size_t size) {
        _cleanup_fd_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(io_write_all(fd, data, size), 0);
}

int noise_file(size_t size) {
        g_autofree uint8_t *data = g_malloc(size + 1);
        uint32_t x = 1;
        int fd;

        for (size_t i = 0; i < size; i++) {
                x = x * 1664525 + 1013904223;
                data[i] = (uint8_t)(x >> 24);
        }
        fd = memfd_create("noise", MFD_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(io_write_all(fd, data, size), 0);
        return fd;
}

void make_pipe(int fds[2]) {
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
}

void make_sockets(int fds[2], int type) {
        assert_int_equal(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds), 0);
}

void assert_error(const Error *error, ErrorCode code, const char *words) {
        if (error->code != code || !strstr(error_message(error), words))
                fail_msg("not '%s' with '%s', but '%s': %s", error_name(code), words,
                        error_name(error->code), error_message(error));
}

ErrorCode code_of_limit(const char *setting) {
        return g_str_equal(setting, "MinimumFreePercent=") || g_str_equal(setting, "StoreBytes=") ?
                ERROR_STORE_FULL : ERROR_LIMIT_EXCEEDED;
}

void assert_good(int r, const Error *error) {
        if (r != 0)
                fail_msg("%s: %s", error_name(error->code), error_message(error));
        assert_int_equal(error->code, ERROR_NONE);
}

struct Tally {
        pthread_mutex_t mutex;
        pthread_cond_t added;
        unsigned n;
};

Tally *tally_new(void) {
        Tally *tally = g_new0(Tally, 1);

        pthread_mutex_init(&tally->mutex, NULL);
        pthread_cond_init(&tally->added, NULL);
        return tally;
}

Tally *tally_free(Tally *tally) {
        if (tally) {
                pthread_mutex_destroy(&tally->mutex);
                pthread_cond_destroy(&tally->added);
                g_free(tally);
        }
        return NULL;
}

void tally_add(Tally *tally) {
        pthread_mutex_lock(&tally->mutex);
        tally->n++;
        pthread_cond_broadcast(&tally->added);
        pthread_mutex_unlock(&tally->mutex);
}

bool tally_wait(Tally *tally, unsigned n) {
        struct timespec end;
        bool enough;
        int r = 0;

        clock_gettime(CLOCK_REALTIME, &end);
        end.tv_sec += PATIENCE_SEC;
        pthread_mutex_lock(&tally->mutex);
        while (tally->n < n && r == 0)
                r = pthread_cond_timedwait(&tally->added, &tally->mutex, &end);
        enough = tally->n >= n;
        pthread_mutex_unlock(&tally->mutex);
        return enough;
}

unsigned tally_count(Tally *tally) {
        unsigned n;

        pthread_mutex_lock(&tally->mutex);
        n = tally->n;
        pthread_mutex_unlock(&tally->mutex);
        return n;
}

const StoreLimits no_limits = {
        .document_bytes = 16 * 1024 * 1024,
        .licenses_per_user = INT64_MAX,
        .remembered_per_user = INT64_MAX,
        .bytes_per_user = INT64_MAX,
        .store_bytes = INT64_MAX,
};

void license_make(License *license, const char *id, const char *document) {
        license_init(license);
        assert_int_equal(license_set_string(&license->id, id), 0);
        license_digest_document(license, document, strlen(document));
}

static int deed_run(StoreTask *task, StoreConnection *connection, Error *error) {
        Deed *deed = (Deed *)task;

        deed->n_runs++;
        return deed->work(deed, connection, error);
}

static void deed_done(StoreTask *task) {
        Deed *deed = (Deed *)task;

        deed->n_done++;
        tally_add(deed->done);
}

void deed_submit(Deed *deed, Store *store) {
        deed->task.run = deed_run;
        deed->task.done = deed_done;
        store_submit_write(store, &deed->task);
}

int deed_do(Deed *deed, Store *store) {
        g_autoptr(Tally) done = tally_new();

        deed->done = done;
        deed_submit(deed, store);
        assert_true(tally_wait(done, 1));
        deed->done = NULL;
        return (int)deed->task.error.code;
}

void deed_clear(Deed *deed) {
        error_clear(&deed->task.error);
}

int deed_put(Deed *deed, StoreConnection *connection, Error *error) {
        g_auto(License) license = {};

        license_make(&license, deed->id, deed->document);
        license.allow_backup = !deed->restricted;
        return store_license_put(connection, &deed->owner, &license, deed->document, error);
}

int deed_delete(Deed *deed, StoreConnection *connection, Error *error) {
        return store_license_delete(connection, &deed->owner, deed->id, error);
}

int deed_revoke(Deed *deed, StoreConnection *connection, Error *error) {
        return store_license_revoke(connection, &deed->owner, deed->id, 1700000000, error);
}

void put(Store *store, const StoreOwner *owner, const char *id, const char *document) {
        g_auto(Deed) deed = { .work = deed_put, .owner = *owner, .id = id, .document = document };

        assert_good(deed_do(&deed, store), &deed.task.error);
}

typedef struct Play {
        const Refusal *refusals;
        size_t n_refusals;
        Scene scene;
        void *userdata;
        const char *wrong;
        bool refused; /* the kernel takes no filter */
} Play;

#if G_BYTE_ORDER == G_LITTLE_ENDIAN
#define ARGUMENT(i) (offsetof(struct seccomp_data, args) + 8 * (i))
#else
#define ARGUMENT(i) (offsetof(struct seccomp_data, args) + 8 * (i) + 4)
#endif

/* A filter is its thread's alone, and goes with it. */
static bool install(const Refusal *refusals, size_t n) {
        struct sock_filter code[1 + 8 * 6 + 1];
        struct sock_fprog program = { .filter = code };
        unsigned short k = 0;

        g_assert(n <= 8);
        for (size_t i = 0; i < n; i++) {
                const Refusal *refusal = &refusals[i];

                code[k++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                        offsetof(struct seccomp_data, nr));
                code[k++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
                        (uint32_t)refusal->number, 0, 4);
                code[k++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                        (uint32_t)ARGUMENT(refusal->argument));
                code[k++] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, refusal->mask);
                code[k++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, refusal->mask, 0, 1);
                code[k++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
                        SECCOMP_RET_ERRNO | (uint32_t)refusal->error);
        }
        code[k++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        program.len = k;
        return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
               prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

static void *play_thread(void *userdata) {
        Play *play = userdata;

        play->refused = play->n_refusals > 0 && !install(play->refusals, play->n_refusals);
        if (!play->refused)
                play->wrong = play->scene(play->userdata);
        return NULL;
}

void play_without(const Refusal *refusals, size_t n_refusals, Scene scene, void *userdata) {
        Play play = { .refusals = refusals, .n_refusals = n_refusals, .scene = scene, .userdata = userdata };
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, play_thread, &play), 0);
        pthread_join(thread, NULL);
        if (play.refused) {
                print_message("Skipped: this kernel takes no seccomp filter.\n");
                skip();
        }
        if (play.wrong)
                fail_msg("%s", play.wrong);
}
