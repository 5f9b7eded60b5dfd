/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "notice.h"

#include <stdio.h>

#include "log.h"

void notice_error(const Error *error) {
        /* What is said of damage may name the license; of the store's disk, only what is wrong with it. */
        const char *message = error->code == ERROR_STORE_CORRUPT ?
                "The license store, or a license in it, is damaged. See which with licensevaultd --check." :
                error_message(error);
        const char *name = error_short_name(error->code);
        LogEvent event;

        switch (error->code) {
        case ERROR_STORE_READ:
        case ERROR_STORE_LOCKED:
        case ERROR_STORE_CORRUPT:
                event = LOG_EVENT_STORE_UNREADABLE;
                break;
        case ERROR_STORE_WRITE:
                event = LOG_EVENT_STORE_UNWRITABLE;
                break;
        case ERROR_STORE_FULL:
                event = LOG_EVENT_STORE_FULL;
                break;
        case ERROR_USERS_UNKNOWN:
                event = LOG_EVENT_USERS_UNREADABLE;
                break;
        default:
                return;
        }
        log_event(event, LOG_VALUES(name), "%s (%s)", message, name);
}

/*
 * Whose it is to act. The store and the service's own folders are the administrator's. A descriptor is the client's: a
 * pipe that was closed, a full disk behind it, a damaged file in it. A backup is built on the service's disk before
 * any byte goes to the descriptor. What is left is between the client and us: a backup that is there, or is not, a
 * limit of that user, a size that does not fit into memory.
 */
static bool is_ours(const Job *job, ErrorCode code) {
        switch (code) {
        case ERROR_STORE_READ:
        case ERROR_STORE_WRITE:
        case ERROR_STORE_LOCKED:
        case ERROR_STORE_CORRUPT:
        case ERROR_STORE_FULL:
        case ERROR_USERS_UNKNOWN:
                return true;
        case ERROR_BACKUP_CORRUPT:
                return job->in_folder;
        case ERROR_MEDIUM:
                return job->in_folder || (job->kind == JOB_BACKUP && job->begun && job->checked && !job->watched);
        default:
                return false;
        }
}

void notice_job(const Job *job, const Error *error) {
        const char *kind = job_noun(job->kind);
        const char *name = error_short_name(error->code);
        g_autofree char *what = NULL;
        char user[16];

        /* Made, but not of all: who may not know is the administrator, whose store is damaged. */
        if (error->code == ERROR_NONE && job->result.damaged > 0)
                notice_error(&(const Error){ .code = ERROR_STORE_CORRUPT });
        snprintf(user, sizeof user, "%" PRIu32, (uint32_t)job->user->uid);
        /* Who owns a folder can put there what is set aside, again and again. */
        if (error->code == ERROR_NONE && job->result.set_aside) {
                what = g_strdup_printf("aside %s", user);
                log_rarely(SD_INFO, what,
                        "What a backup of user %s must not replace, of another store, machine or user, or with more in "
                        "it, is kept as '%s'.", user, job->result.set_aside);
        }
        if (error->code == ERROR_NONE || error->code == ERROR_CANCELED)
                return;

        if (job->kind != JOB_VERIFY && is_ours(job, error->code))
                log_event(job->kind == JOB_BACKUP ? LOG_EVENT_BACKUP_FAILED : LOG_EVENT_RESTORE_FAILED,
                        LOG_VALUES(user, name), "A %s of user %s failed: %s", kind, user, name);
        /* A question to the user is no news, nor is a call that was refused. */
        else if (job->begun && error->code != ERROR_NEEDS_INDIVIDUALIZATION) {
                what = g_strdup_printf("%s %s %s", kind, user, name);
                log_rarely(SD_INFO, what, "A %s of user %s failed: %s", kind, user, name);
        }
}
