/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "error.h"
#include "license.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MESSAGE_SIZE 1024

/* A name of ours ends in that of its HRESULT. What the HRESULT beside a standard name is called is for who reads it. */
#define OURS(constant, hresult) "org.licensevault1.Error." constant, hresult
#define STANDARD(name, constant, hresult) "org.freedesktop.DBus.Error." name, hresult

static const struct {
        const char *name;
        uint32_t hresult;
        const char *sentence;
} table[_ERROR_MAX] = {
        [ERROR_NONE] = { "", 0, "" },
        [ERROR_INVALID_ARGUMENTS] = { STANDARD("InvalidArgs", E_INVALIDARG, 0x80070057),
                "An argument of the call is not valid." },
        [ERROR_NO_MEMORY] = { STANDARD("NoMemory", E_OUTOFMEMORY, 0x8007000E),
                "Not enough memory for this. Nothing was changed; try again later." },
        [ERROR_ACCESS_DENIED] = { STANDARD("AccessDenied", E_ACCESSDENIED, 0x80070005),
                "This is not allowed." },
        [ERROR_USERS_UNKNOWN] = { STANDARD("AccessDenied", E_ACCESSDENIED, 0x80070005),
                "The users of this machine cannot be looked up. Try again." },
        [ERROR_AUTHORIZATION_REQUIRED] = { STANDARD("InteractiveAuthorizationRequired", E_ACCESSDENIED, 0x80070005),
                "This needs an administrator's consent." },
        [ERROR_UNKNOWN_OBJECT] = { STANDARD("UnknownObject", E_INVALIDARG, 0x80070057),
                "There is no such object." },
        [ERROR_LIMIT_EXCEEDED] = { STANDARD("LimitsExceeded", NS_E_DRM_LICENSE_STORE_SAVE_ERROR, 0xC00D2714),
                "A limit of the service is reached." },
        [ERROR_BACKUP_EXISTS] = { OURS("NS_E_DRM_BACKUP_EXISTS", 0xC00D2742),
                "Licenses are already backed up there." },
        [ERROR_BACKUP_CORRUPT] = { OURS("NS_E_DRM_BACKUP_CORRUPT", 0xC00D2743),
                "The backup is missing, incomplete or damaged." },
        [ERROR_BACKUP_MISSING] = { OURS("NS_E_DRM_BACKUP_CORRUPT", 0xC00D2743),
                "There is no backup." },
        [ERROR_BACKUP_BUSY] = { OURS("NS_E_DRM_BACKUPRESTORE_BUSY", 0xC00D2744),
                "Another backup or restore of yours is running." },
        [ERROR_MEDIUM] = { OURS("NS_E_BACKUP_RESTORE_FAILURE", 0xC00D272D),
                "The backup's medium failed." },
        [ERROR_CANCELED] = { OURS("NS_E_DRM_OPERATION_CANCELED", 0xC00D2768),
                "The job was canceled." },
        [ERROR_NEEDS_INDIVIDUALIZATION] = { OURS("NS_E_DRM_NEEDS_INDIVIDUALIZATION", 0xC00D2728),
                "The backup is from another machine or owner." },
        [ERROR_UNSUPPORTED_PROPERTY] = { OURS("NS_E_DRM_UNSUPPORTED_PROPERTY", 0xC00D275D),
                "There is no such property." },
        [ERROR_INVALID_LICENSE] = { OURS("NS_E_DRM_INVALID_LICENSE", 0xC00D2718),
                "The license document is broken." },
        [ERROR_LICENSE_UNAVAILABLE] = { OURS("NS_E_DRM_LICENSE_UNAVAILABLE", 0xC00D28A2),
                "There is no such license." },
        [ERROR_LICENSE_REVOKED] = { OURS("NS_E_DRM_LICENSE_CONTENT_REVOKED", 0xC00D27E1),
                "This license was revoked." },
        [ERROR_NO_RIGHTS] = { OURS("NS_E_DRM_NO_RIGHTS", 0xC00D2720),
                "The license does not allow this now." },
        [ERROR_STORE_READ] = { OURS("NS_E_DRM_LICENSE_STORE_ERROR", 0xC00D2712),
                "The license store cannot be read." },
        [ERROR_STORE_WRITE] = { OURS("NS_E_DRM_LICENSE_STORE_SAVE_ERROR", 0xC00D2714),
                "The license store cannot be written." },
        [ERROR_STORE_CORRUPT] = { OURS("NS_E_DRM_DATASTORE_CORRUPT", 0xC00D2783),
                "The license store is damaged." },
        [ERROR_STORE_LOCKED] = { OURS("NS_E_DRM_BUSY", 0xC00D2841),
                "Another licensevaultd holds the license store." },
        [ERROR_STORE_FULL] = { STANDARD("LimitsExceeded", NS_E_DRM_LICENSE_STORE_SAVE_ERROR, 0xC00D2714),
                "The license store is full." },
};

const char *error_name(ErrorCode code) {
        return table[code].name;
}

int32_t error_hresult(ErrorCode code) {
        return (int32_t)table[code].hresult;
}

const char *error_short_name(ErrorCode code) {
        const char *dot = strrchr(table[code].name, '.');

        return dot ? dot + 1 : "";
}

ErrorCode error_from_name(const char *name) {
        for (ErrorCode code = ERROR_NONE + 1; code < _ERROR_MAX; code++)
                if (strcmp(table[code].name, name) == 0)
                        return code;

        return ERROR_NONE;
}

const char *error_message(const Error *error) {
        return error->message ?: table[error->code].sentence;
}

/* Formats into a buffer of fixed size, so that a failing allocation costs the words and not the daemon. */
G_GNUC_PRINTF(2, 0)
static char *format_message(const char *rest, const char *format, va_list ap) {
        char buffer[MESSAGE_SIZE];
        size_t n = 0;
        int k;

        k = vsnprintf(buffer, sizeof buffer, format, ap);
        if (k > 0)
                n = MIN((size_t)k, sizeof buffer - 1);
        if (rest)
                snprintf(buffer + n, sizeof buffer - n, ": %s%s", rest, g_str_has_suffix(rest, ".") ? "" : ".");

        /* Cut characters, and what is not UTF-8: the bus would take none of it, not even the error's name. */
        const char *end;
        for (char *p = buffer; !g_utf8_validate(p, -1, &end); p = (char *)end + 1)
                *(char *)end = '?';
        if (!license_text_is_valid(buffer, strlen(buffer)))
                for (char *p = buffer; *p; p++)
                        *p = (*p & 0x80) ? '?' : *p;
        license_clean_text(buffer);

        char *copy = g_try_malloc(strlen(buffer) + 1);
        return copy ? strcpy(copy, buffer) : NULL;
}

int error_set(Error *error, ErrorCode code, const char *format, ...) {
        char *message;
        va_list ap;

        /* Formatted before the old one goes: it may be part of the new. */
        va_start(ap, format);
        message = format_message(NULL, format, ap);
        va_end(ap);
        error_clear(error);
        *error = (Error) { code, message };
        return (int)code;
}

int error_set_errno(Error *error, ErrorCode code, int r, const char *format, ...) {
        char *message;
        va_list ap;

        if (r == -ENOMEM)
                return error_set_no_memory(error);

        va_start(ap, format);
        message = format_message(g_strerror(-r), format, ap);
        va_end(ap);
        error_clear(error);
        *error = (Error) { code, message };
        return (int)code;
}

int error_set_no_memory(Error *error) {
        error_clear(error);
        error->code = ERROR_NO_MEMORY;
        return ERROR_NO_MEMORY;
}

int error_prefix(Error *error, const char *format, ...) {
        va_list ap;
        char *message;

        va_start(ap, format);
        message = format_message(error_message(error), format, ap);
        va_end(ap);
        if (message) {
                g_free(error->message);
                error->message = message;
        }
        return (int)error->code;
}

int error_copy(Error *destination, const Error *source) {
        return error_set(destination, source->code, "%s", error_message(source));
}

int error_move(Error *destination, Error *source) {
        if (destination != source) {
                error_clear(destination);
                *destination = *source;
                *source = (Error) {};
        }
        return (int)destination->code;
}

void error_clear(Error *error) {
        g_free(error->message);
        *error = (Error) {};
}
