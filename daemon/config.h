/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "store.h"

/*
 * What the administrator can set: licensevaultd.conf and licensevaultd.conf.d/ *.conf in the
 * configuration directory, key files; of two that set the same, the later by name holds.
 */
typedef struct Config {
        StoreLimits limits;
        unsigned queued_writes_per_user;
        uint64_t queued_write_bytes_per_user;
        unsigned queued_reads_per_user;
        unsigned cached_callers;
        unsigned subscriptions_per_user;
        unsigned running_jobs;     /* that work at once; others are queued */
        unsigned jobs_on_machine;  /* that run or wait */
        unsigned result_seconds;   /* that an ended job is kept */
        unsigned results_per_user;
        unsigned stall_seconds;    /* that a client's descriptor may move no byte */
        char **roots;              /* folders in which <uid>/ may hold backups; never NULL */
} Config;

/* The state directory of the service that is installed. */
#define CONFIG_STATE_FOLDER "/var/lib/licensevault"

/*
 * The folders of the service, as its environment says: STATE_DIRECTORY and CONFIGURATION_DIRECTORY, or
 * where they are when it is installed. False, with a line in the log, where they cannot be.
 */
bool config_find_folders(const char **ret_state, const char **ret_config);

/*
 * Reads the configuration in folder (NULL: the defaults). What is wrong in it is logged, counted in
 * *ret_problems (may be NULL) and taken as not there.
 */
void config_load(const char *folder, Config *ret, unsigned *ret_problems);
void config_clear(Config *config);
