/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "io.h"
#include "store.h"

/* What the tests of more than one module need. */

/* A new folder, and its removal with all that is in it (path is freed). */
char *temp_folder_new(void);
void temp_folder_remove(char *path);
bool is_tmpfs(const char *path);

/* Whether sanitizers are in this build: memory use and time then say little. */
bool sanitized(void);

/* All of a file; fails the test where it cannot be read. */
GBytes *read_path(const char *path);
void write_path(const char *path, const void *data, size_t size);
/* A file of ours without a name, with so many bytes that are not like each other. */
int noise_file(size_t size);
void make_pipe(int fds[2]);
/* Connected ones, of SOCK_STREAM or another type, with its flags. */
void make_sockets(int fds[2], int type);

/* error is of that code, and its message has the words in it. */
void assert_error(const Error *error, ErrorCode code, const char *words);
/* What who reaches a limit is told: those of the store as a whole are the administrator's. */
ErrorCode code_of_limit(const char *setting);
/* Fails with the message of an error where r is not 0. */
void assert_good(int r, const Error *error);

/* Counts what other threads have done, so that one can wait for it. */
typedef struct Tally Tally;

Tally *tally_new(void);
Tally *tally_free(Tally *tally);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Tally, tally_free)
void tally_add(Tally *tally);
/* Waits until so many were added; false after 30 s. */
bool tally_wait(Tally *tally, unsigned n);
unsigned tally_count(Tally *tally);

/* Limits that no test reaches. */
extern const StoreLimits no_limits;

/* A license with an id and the digest of a document, a string. */
void license_make(License *license, const char *id, const char *document);

/* A write of a test: calls work() on the store's thread, and adds to the tally when it is done. */
typedef struct Deed Deed;
struct Deed {
        StoreTask task;
        int (*work)(Deed *deed, StoreConnection *connection, Error *error);
        StoreOwner owner;
        const char *id, *document;
        bool restricted;
        Tally *done;
        unsigned n_runs, n_done; /* of work(), and of the task's done() */
};

void deed_submit(Deed *deed, Store *store);
/* Submits, waits and returns the code. */
int deed_do(Deed *deed, Store *store);
void deed_clear(Deed *deed);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Deed, deed_clear)

/* work() that stores, deletes and revokes the license of that id. */
int deed_put(Deed *deed, StoreConnection *connection, Error *error);
int deed_delete(Deed *deed, StoreConnection *connection, Error *error);
int deed_revoke(Deed *deed, StoreConnection *connection, Error *error);

/* Stores a license through the store's thread, and fails the test where it cannot. */
void put(Store *store, const StoreOwner *owner, const char *id, const char *document);

/*
 * A system call that fails as on a kernel or a file system that has it not: that of the number, where
 * its argument has all bits of the mask.
 */
typedef struct Refusal {
        int number;
        unsigned argument;
        uint32_t mask;
        int error;
} Refusal;

/* Part of a test that may run on another thread: returns NULL, or what went wrong. */
typedef const char *(*Scene)(void *userdata);
#define SCENE_CHECK(condition) do { \
                if (!(condition)) \
                        return G_STRLOC ": " #condition; \
        } while (0)

/*
 * Plays a scene where those calls are refused, and fails the test as it says. Skips the test where the
 * kernel takes no filter.
 */
void play_without(const Refusal *refusals, size_t n_refusals, Scene scene, void *userdata);
