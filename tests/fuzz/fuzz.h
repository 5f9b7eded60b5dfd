/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <glib.h>
#include <sodium.h>

#include "license.h"

/*
 * What the targets share. Each is a small program around LLVMFuzzerTestOneInput() (libFuzzer). What must never be
 * is FUZZ_CHECK()ed: a check that does not hold ends the run, as a finding of the sanitizers does, and libFuzzer
 * keeps the input. A check of cmocka's does the same here.
 */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
/* libFuzzer's own. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

#define FUZZ_FAIL(...) do { \
                fprintf(stderr, "%s:%d: ", __FILE__, __LINE__); \
                fprintf(stderr, __VA_ARGS__); \
                fputc('\n', stderr); \
                abort(); \
        } while (0)
#define FUZZ_CHECK(condition) do { \
                if (!(condition)) \
                        FUZZ_FAIL("not so: %s", #condition); \
        } while (0)

/* Once in each process: cmocka aborts, the log is silent, SIGPIPE is ignored, folders are in memory. */
void fuzz_prepare(void);

/* The bytes of an input as decisions. Behind its end all are 0, so that short inputs mean something. */
typedef struct Input {
        const uint8_t *data;
        size_t size;
} Input;

uint8_t input_byte(Input *input);
/* 0 to n - 1; n is at most 256. */
unsigned input_below(Input *input, unsigned n);
uint64_t input_number(Input *input, unsigned bytes);
/* Numbers at which something begins or ends, and any other. */
uint64_t input_edge(Input *input);
/* At most max bytes, as many as the next two say. */
const uint8_t *input_bytes(Input *input, size_t max, size_t *ret_size);

/* All that is promised of a license, whoever made it; complete: it has an id and a generation, too. */
void check_license(const License *license);
/* All of it as text (g_free). */
char *describe_license(const License *license);
/* A sentence that a client gets: valid for the bus, not empty, of bounded length. */
void check_message(const Error *error);
