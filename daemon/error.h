/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <glib.h>

/*
 * What a client is told when something goes wrong, and the one table that knows its D-Bus name and
 * HRESULT (design, section 6). Two codes may be one to a client, where it is someone else who must act.
 *
 * Functions of this project return 0 when all went well and a negative errno for what nobody
 * expected. Those whose failures a person reads take an Error and return, besides 0, only the
 * positive ErrorCode that they left in it: everything has been put into words by then.
 */

typedef enum ErrorCode {
        ERROR_NONE,
        ERROR_INVALID_ARGUMENTS,
        ERROR_NO_MEMORY,
        ERROR_ACCESS_DENIED,
        ERROR_USERS_UNKNOWN, /* denied to a client; it is the user database that the administrator must mend */
        ERROR_AUTHORIZATION_REQUIRED,
        ERROR_UNKNOWN_OBJECT,
        ERROR_LIMIT_EXCEEDED,
        ERROR_BACKUP_EXISTS,
        ERROR_BACKUP_CORRUPT,
        ERROR_BACKUP_MISSING, /* the same to a client; there is nothing to mend */
        ERROR_BACKUP_BUSY,
        ERROR_MEDIUM,
        ERROR_CANCELED,
        ERROR_NEEDS_INDIVIDUALIZATION,
        ERROR_UNSUPPORTED_PROPERTY,
        ERROR_INVALID_LICENSE,
        ERROR_LICENSE_UNAVAILABLE,
        ERROR_LICENSE_REVOKED,
        ERROR_NO_RIGHTS,
        ERROR_STORE_READ,
        ERROR_STORE_WRITE,
        ERROR_STORE_CORRUPT,
        ERROR_STORE_LOCKED,
        ERROR_STORE_FULL, /* a limit to a client; it is the administrator's to make room */
        _ERROR_MAX,
} ErrorCode;

typedef struct Error {
        ErrorCode code;
        char *message; /* what failed, on what, what to do next; NULL only with ERROR_NONE or no memory */
} Error;

/* The D-Bus error name of a code; "" for ERROR_NONE. */
const char *error_name(ErrorCode code);

/* The HRESULT of a code: 0 for ERROR_NONE, else negative. */
int32_t error_hresult(ErrorCode code);

/*
 * The end of its D-Bus error name, such as "LimitsExceeded" or "NS_E_DRM_BACKUP_EXISTS", for the log: so it can be held
 * against what a client was told. "" for ERROR_NONE.
 */
const char *error_short_name(ErrorCode code);

/* The code of a D-Bus error name, the first of those that have it; ERROR_NONE for one that is not in the table. */
ErrorCode error_from_name(const char *name);

/* The message of an error, never NULL: a general sentence where it has none of its own. */
const char *error_message(const Error *error);

/*
 * Sets an error, in place of one that was there, and returns its code for the caller to pass up.
 * The message is made valid UTF-8 without control characters, and cut at 1,024 bytes: parts of it may
 * come from a client.
 */
int error_set(Error *error, ErrorCode code, const char *format, ...) G_GNUC_PRINTF(3, 4);

/*
 * The same for a negative errno: appends ": ", its text and a full stop, and turns -ENOMEM into
 * ERROR_NO_MEMORY whatever the code.
 */
int error_set_errno(Error *error, ErrorCode code, int r, const char *format, ...) G_GNUC_PRINTF(4, 5);

/* "Not enough memory", without allocating. */
int error_set_no_memory(Error *error);

/* Puts "format: " before the message of an error that is set. Returns its code. */
int error_prefix(Error *error, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Sets destination to what source says, which stays as it is. Returns the code. */
int error_copy(Error *destination, const Error *source);

/* Moves an error; what destination had is freed, source is empty afterwards. Returns the code. */
int error_move(Error *destination, Error *source);

void error_clear(Error *error);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Error, error_clear)
