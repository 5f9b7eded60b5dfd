/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <jansson.h>

#include "client.h"

/*
 * Licensevault beside what one would take instead, in the same run. The world is that of tests/bus: a private
 * dbus-daemon and the real daemon. tests/bench/run starts this program and shows what it found;
 * docs/performance.md has the method.
 *
 * Whatever does not happen as it must ends the program with a message: a benchmark of what fails is worth nothing.
 */

typedef struct Bench {
        Harness *h;
        unsigned rounds;
        uint64_t largest; /* licenses of the growth */
        unsigned small, large; /* licenses of the comparisons */
        unsigned calls;   /* a round of small calls */
        double cpu;       /* seconds of processor of what was just measured; 0 where that was not looked at */
        json_t *rows, *growth;
} Bench;

/* One of those that are measured beside each other. */
typedef struct Contestant {
        const char *name;
        double (*measure)(Bench *bench, void *userdata); /* NULL: values are added by hand */
        void *userdata;
        GArray *values; /* double, one a round */
        GArray *cpu;    /* the same of Bench.cpu; NULL where there is none */
} Contestant;

/* Lets them run in turn, forward and backward, so that none always comes after the same other one. */
void contest_run(Bench *bench, Contestant *contestants, size_t n);
void contestant_add(Contestant *contestant, double value);
double contestant_median(const Contestant *contestant);
void contestants_clear(Contestant *contestants, size_t n);

/* What a table of the results has a line of. The target is one of the ratio where there is a peer, else of ours. */
typedef struct Row {
        const char *id, *what, *unit;
        const Contestant *ours, *peer; /* peer may be NULL */
        double target;                 /* 0: none */
        bool more;                     /* is better */
} Row;

void bench_add_row(Bench *bench, const Row *row);
/* A point of the plots: what it costs with so many licenses. */
void bench_add_point(Bench *bench, const char *operation, const char *unit, uint64_t licenses, double value);
void bench_say(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* Monotonic, in seconds. */
double now(void);
/* Seconds of processor that a process has used; 0: this one. A busy machine changes them little. */
double cpu_of(pid_t pid);

/* The world. */

/* Ends the daemon, if one runs, and starts one on an empty store. Connections of before stay. */
void world_new_store(Bench *bench);
/* Ends the daemon and starts it again: its store is checkpointed, and its memory is that of a start. */
void world_restart(Bench *bench);
/* As start to the name owned, in seconds. */
double world_start_seconds(Bench *bench);
typedef enum DocumentKind {
        DOCUMENT_RANDOM, /* bytes that no program can compress, and that the service knows nothing of */
        DOCUMENT_LCP,    /* an e-book's license, which the service reads */
} DocumentKind;

/* Stores count licenses more, from number first on, of size bytes each. */
void world_fill(sd_bus *bus, DocumentKind kind, uint64_t first, uint64_t count, size_t size);
/* The id that world_fill() gave a random one. */
char *world_id(uint64_t number);
/* What of the daemon's memory is its own, and its share of the rest, in MiB. */
double world_pss(Bench *bench);

/* Starts a job and waits for its end, which must be a good one. Returns the seconds from the call to Done. */
double job_seconds(sd_bus *bus, sd_bus_message *call);
/* The same, and calls meanwhile() again and again until then; it must not be busy, nor take long. */
double job_seconds_meanwhile(sd_bus *bus, sd_bus_message *call, void (*meanwhile)(void *userdata), void *userdata);
sd_bus_message *backup_call(sd_bus *bus);
sd_bus_message *restore_call(sd_bus *bus, const char *path);

/*
 * Calls: count of them, window at a time not answered yet. make() makes the call of a number. An error ends the
 * program. Returns calls a second.
 */
typedef struct Calls {
        sd_bus *bus;
        uint64_t count;
        unsigned window;
        sd_bus_message *(*make)(sd_bus *bus, uint64_t number, void *userdata);
        void *userdata;
} Calls;

double calls_rate(const Calls *calls);

/* What is measured, one function a file. */
void bench_backup(Bench *bench, unsigned licenses, DocumentKind kind);
void bench_restore(Bench *bench, unsigned licenses, DocumentKind kind);
void bench_calls(Bench *bench);
void bench_reply(Bench *bench);
void bench_life(Bench *bench);
void bench_growth(Bench *bench);
void bench_keyring(Bench *bench);

/* SQLite by itself, in seconds. */

/* Copies a store with SQLite's backup, syncs the copy, and puts it in place of the one before. */
double peer_backup(const char *store, const char *copy, bool check);
/*
 * Inserts all rows of a store into an empty one of the same tables, in one transaction: with a WAL, as the live store
 * has it, or with a rollback journal, which writes the pages of a new file once.
 */
double peer_restore(const char *from, const char *into, bool wal);

/* A service that does nothing but answer, on the same bus. */
#define ECHO_NAME "org.licensevault.Echo"
void echo_start(Bench *bench);
