/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "client.h"

/* What tests of restores do again and again. Names of files are those of harness_path(). */

#define RESTORE_PATH "LicenseRestore.RestoreLicenses"
#define RESTORE_FILE "LicenseRestore.RestoreLicensesFromFile"
#define CANCEL_RESTORE "LicenseRestore.CancelLicenseRestore"
#define VERIFY "LicenseRestore.VerifyBackup"
#define AGREE 2U

/*
 * The flags with which one's own backup of this machine can be restored: 0, but for a machine that has no id, where
 * every backup is a foreign one.
 */
uint32_t own_flags(void);
/* Skips the test where the machine has no id. */
void need_machine_id(void);

/* Backs up the licenses of a connection's user to a new file. */
void save_backup(Harness *h, sd_bus *bus, const char *name);
/* Another backup, of a backup: rewrite-backup.py has the operations; NULL ends them. */
void rewrite_backup(Harness *h, const char *from, const char *to, const char *const *operations);
#define rewrite(h, from, to, ...) rewrite_backup(h, from, to, (const char *const[]) { __VA_ARGS__, NULL })
/* The same machine, another daemon with an empty store; connections stay. */
void harness_new_machine(Harness *h);

int open_in(Harness *h, const char *name, int flags);
/* Starts a restore, or a check, from a file. Returns the job. */
char *start_restore(Harness *h, sd_bus *bus, const char *name, uint32_t flags);
char *start_verify(Harness *h, sd_bus *bus, const char *name);

/*
 * Waits for a restore, which must succeed, and looks at its result: counts are "restored unchanged newer_kept
 * conflicts revoked", as in "1 0 0 2 0"; skipped users are joined by blanks. All of it must be there, and of the
 * right type.
 */
#define assert_restored(...) assert_restored_at(__FILE__, __LINE__, __VA_ARGS__)
void assert_restored_at(const char *file, int line, sd_bus *bus, const char *job, const char *counts,
        const char *skipped_users);
/* The same from the start. */
#define assert_restores(...) assert_restores_at(__FILE__, __LINE__, __VA_ARGS__)
void assert_restores_at(const char *file, int line, Harness *h, sd_bus *bus, const char *name, const char *counts);
/* A restore must fail with this error and message. */
void assert_restore_fails(Harness *h, sd_bus *bus, const char *name, const char *error, const char *message);

/* All of a user's licenses as one text: what EnumerateLicenses and GetLicense (or OpenLicense) answer. */
char *snapshot_licenses(sd_bus *bus);
#define assert_snapshot(...) assert_snapshot_at(__FILE__, __LINE__, __VA_ARGS__)
void assert_snapshot_at(const char *file, int line, sd_bus *bus, const char *snapshot);
void delete_license(sd_bus *bus, const char *id);
uint64_t consume(sd_bus *bus, const char *id, const char *right, uint64_t amount);
void assert_no_license(sd_bus *bus, const char *id);

/* A restore, or a check, from a pipe that the test fills. */
typedef struct FedJob {
        int fd;
        char *path;
} FedJob;

void fed_job_clear(FedJob *fed);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(FedJob, fed_job_clear)
void fed_job_start(sd_bus *bus, FedJob *ret);
void fed_verify_start(sd_bus *bus, FedJob *ret);
/* Writes bytes; must not be more than the job takes. */
void feed(FedJob *fed, const void *data, size_t size);
void feed_end(FedJob *fed);
