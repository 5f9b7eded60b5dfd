/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <pthread.h>

#include "tarball.h"

/* What a test restores or checks: bytes from another thread, and archives that say what a test wants. */

/* Another thread that gives bytes to a pipe or a socket, size of them from data, and closes it. */
typedef struct Feeder {
        pthread_t thread;
        int fd;               /* that it writes to */
        const uint8_t *data;
        size_t size;
        size_t piece;         /* so many at a time */
        unsigned pause_usec;  /* after each */
        uint64_t times;       /* the same again and again */
        uint64_t fed;
} Feeder;

/* Starts it on a pipe or a pair of sockets, and gives the descriptor to read from. */
int feeder_start(Feeder *feeder, bool is_socket);
/* Starts it on the descriptor that it has. */
void feeder_run(Feeder *feeder);
void feeder_join(Feeder *feeder);

/*
 * An archive like those of the service, but for what a test says: contents are strings, and attributes are
 * "name=value" by line, without their prefix; a document's digest is added where there is none.
 */
typedef struct Part {
        const char *path, *content, *attributes;
} Part;

enum { PART_README, PART_MANIFEST, PART_STATE, PART_A, PART_B, N_PARTS };
extern const Part whole_parts[N_PARTS];

#define MANIFEST_OWNER "\"all_users\":false,\"owner\":{\"uid\":1000,\"name\":\"alice\"}"
#define MANIFEST_JSON(format, machine, owner, licenses, restricted) \
        "{\"format\":" #format ",\"software\":\"licensevault 0.1.0\",\"created\":\"2026-01-01T00:00:00Z\"," \
        "\"host\":\"host\",\"machine\":\"" machine "\"," owner ",\"licenses\":" #licenses \
        ",\"restricted\":" #restricted "}\n"

/* Into a file, with an END.json of the right digest and number of documents; restricted -1: without it. */
int make_archive(const Part *parts, size_t n_parts, int restricted);
/* The whole parts, with one of them replaced. */
int make_archive_with(unsigned i, Part part);
