/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io.h"
#include "terminal.h"
#include "text.h"

/* What --json shows of a failure. json_pack() answers NULL for text that is no UTF-8, so it is made safe. */
static void keep_failure(Ctl *ctl, Status status, const char *name, const char *message) {
        g_autofree char *text = NULL;

        if (ctl->failure)
                return;

        text = g_utf8_make_valid(message, -1);
        ctl->failure = json_pack("{si ss* ss}", "exit", (int)status, "name", *name ? name : NULL,
                "message", text);
}

Status ctl_fail_named(Ctl *ctl, Status status, const char *name, const char *message) {
        bool terminal = terminal_is(STDERR_FILENO);
        g_autofree char *safe = text_safe_for(terminal, message), *safe_name = text_safe_for(terminal, name);

        fprintf(stderr, "%slicensevaultctl:%s %s", terminal_begin(STDERR_FILENO, TONE_BAD),
                terminal_end(STDERR_FILENO, TONE_BAD), safe);
        if (*name && !ctl->quiet)
                fprintf(stderr, " (%s)", safe_name);
        fputc('\n', stderr);

        keep_failure(ctl, status, name, message);
        return status;
}

Status ctl_fail(Ctl *ctl, Status status, const char *format, ...) {
        g_autofree char *message = NULL;
        va_list ap;

        va_start(ap, format);
        message = g_strdup_vprintf(format, ap);
        va_end(ap);
        return ctl_fail_named(ctl, status, "", message);
}

Status ctl_fail_errno(Ctl *ctl, int r, const char *format, ...) {
        g_autofree char *what = NULL;
        Status status = r == -EACCES || r == -EPERM ? STATUS_DENIED : STATUS_MEDIUM;
        va_list ap;

        va_start(ap, format);
        what = g_strdup_vprintf(format, ap);
        va_end(ap);
        return ctl_fail(ctl, status, "%s: %s.", what, g_strerror(-r));
}

/* heading may be "". */
G_GNUC_PRINTF(3, 0)
static void tell(const Ctl *ctl, const char *heading, const char *format, va_list ap) {
        g_autofree char *message = NULL, *safe = NULL;

        if (ctl->quiet)
                return;
        message = g_strdup_vprintf(format, ap);
        safe = text_safe_for(terminal_is(STDERR_FILENO), message);
        fprintf(stderr, "%s%s\n", heading, safe);
}

void ctl_warn(const Ctl *ctl, const char *format, ...) {
        g_autofree char *heading = g_strdup_printf("%sWarning:%s ", terminal_begin(STDERR_FILENO, TONE_WARNING),
                terminal_end(STDERR_FILENO, TONE_WARNING));
        va_list ap;

        va_start(ap, format);
        tell(ctl, heading, format, ap);
        va_end(ap);
}

void ctl_note(const Ctl *ctl, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        tell(ctl, "", format, ap);
        va_end(ap);
}

bool ctl_can_ask(const Ctl *ctl) {
        return !ctl->quiet && isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
}

bool ctl_ask(const char *format, ...) {
        g_autofree char *question = NULL, *safe = NULL;
        char *answer = NULL;
        size_t size = 0;
        va_list ap;
        ssize_t n;
        bool yes;

        va_start(ap, format);
        question = g_strdup_vprintf(format, ap);
        va_end(ap);
        safe = text_safe_for(terminal_is(STDERR_FILENO), question);
        fprintf(stderr, "%s [y/N] ", safe);
        fflush(stderr);

        n = getline(&answer, &size, stdin);
        if (n <= 0)
                fputc('\n', stderr);
        else
                g_strstrip(answer);
        yes = n > 0 && (g_ascii_strcasecmp(answer, "y") == 0 || g_ascii_strcasecmp(answer, "yes") == 0);
        free(answer);
        return yes;
}

void ctl_result(Ctl *ctl, const char *name, json_t *value) {
        if (!ctl->result)
                ctl->result = json_object();
        (void)json_object_set_new(ctl->result, name, value);
}

void ctl_print_json(const json_t *object) {
        /* In ASCII, so that no title can steer a terminal. */
        json_dumpf(object, stdout, JSON_ENSURE_ASCII);
        putchar('\n');
}

/*
 * A reader that has seen enough, such as head, is no failure to speak of. What comes after a failure, such as that
 * failure as JSON, cannot be written either, and there is no more to say.
 */
static Status fail_write(Ctl *ctl, int r) {
        if (ctl->unwritten == STATUS_OK)
                ctl->unwritten = r == -EPIPE ? STATUS_FAILED :
                        ctl_fail_errno(ctl, r, "Writing to standard output failed");
        return ctl->unwritten;
}

void ctl_push(Ctl *ctl) {
        if (fflush(stdout) != 0 && !ctl->push_error)
                ctl->push_error = errno;
}

Status ctl_flush(Ctl *ctl) {
        int r;

        if (fflush(stdout) == 0 && !ferror(stdout))
                return STATUS_OK;
        /* stdio drops what it could not write: after a push nothing may be left that fails, and errno be stale. */
        r = ctl->push_error ?: errno;
        return fail_write(ctl, r ? -r : -EIO);
}

Status ctl_write(Ctl *ctl, const void *data, size_t size) {
        int r;

        r = io_write_all(STDOUT_FILENO, data, size);
        return r < 0 ? fail_write(ctl, r) : STATUS_OK;
}

Status ctl_sync_output(Ctl *ctl) {
        if (fsync(STDOUT_FILENO) < 0 && !(errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP))
                return fail_write(ctl, -errno);
        return STATUS_OK;
}
