/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <systemd/sd-daemon.h>

/*
 * The log is standard error, with the priority in front of each line where the journal reads it. No
 * license, no SQL and no path of a user's goes here. Any thread.
 */
void log_line(const char *priority, const char *format, ...) G_GNUC_PRINTF(2, 3);

#define log_error(...) log_line(SD_ERR, __VA_ARGS__)
#define log_warning(...) log_line(SD_WARNING, __VA_ARGS__)
#define log_info(...) log_line(SD_INFO, __VA_ARGS__)

/*
 * What a client can bring about as often as it likes: a line once in ten minutes for each what, with how many were left
 * out since.
 */
void log_rarely(const char *priority, const char *what, const char *format, ...) G_GNUC_PRINTF(3, 4);

/*
 * What an administrator must act on. Each has an id, by which journalctl -x finds its explanation in
 * systemd/licensevault.catalog, and fields of its own; one table in log.c has all of it.
 */
typedef enum LogEvent {
        LOG_EVENT_STORE_UNREADABLE,  /* error */
        LOG_EVENT_STORE_LOST,        /* none */
        LOG_EVENT_STORE_UNWRITABLE,  /* error */
        LOG_EVENT_STORE_FULL,        /* error */
        LOG_EVENT_USERS_UNREADABLE,  /* error */
        LOG_EVENT_BACKUP_FAILED,     /* user, error */
        LOG_EVENT_RESTORE_FAILED,    /* user, error */
        LOG_EVENT_ROOT_UNWRITABLE,   /* root */
        LOG_EVENT_BUS_LEFT,          /* none */
        _LOG_EVENT_MAX,
} LogEvent;

/*
 * Logs an event: to the journal, with its id and its fields, where the journal reads standard error; else, and
 * where the journal does not take it at once, as the line that any other message is. values are those of its
 * fields in the order above, as LOG_VALUES() makes them; NULL for none.
 *
 * What comes again and again is logged once in ten minutes, with how many were left out in between: for
 * each event and its first value apart, so that one user's do not hide another's.
 */
void log_event(LogEvent event, const char *const *values, const char *format, ...) G_GNUC_PRINTF(3, 4);

#define LOG_VALUES(...) ((const char *const[]) { __VA_ARGS__, NULL })
