/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "source.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>

static Status check_kind(Ctl *ctl, const Source *source) {
        struct stat st;

        if (fstat(source->fd, &st) < 0)
                return ctl_fail_errno(ctl, -errno, "'%s' cannot be looked at", source->name);

        if (S_ISDIR(st.st_mode))
                return ctl_fail(ctl, STATUS_USAGE, "'%s' is a folder. Name a backup in it.", source->name);
        if (source->is_stdin && S_ISCHR(st.st_mode) && !isatty(source->fd))
                return ctl_fail(ctl, STATUS_USAGE, "No backup comes from standard input. Send one into it.");
        if (isatty(source->fd))
                return ctl_fail(ctl, STATUS_USAGE,
                        "A backup does not come from a terminal. Name a file, or send one into a pipe.");
        if (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode))
                return ctl_fail(ctl, STATUS_USAGE,
                        "'%s' is neither a file nor a pipe. Let another program read it, and send that into a pipe.",
                        source->name);
        return STATUS_OK;
}

Status source_open(Ctl *ctl, const char *file, Source *ret) {
        g_auto(Source) source = SOURCE_NONE;
        Status status;

        source.is_stdin = strcmp(file, "-") == 0;
        source.name = source.is_stdin ? "standard input" : file;
        if (!*file)
                return ctl_fail(ctl, STATUS_USAGE, "The name of the file is empty.");

        source.fd = source.is_stdin ? STDIN_FILENO : open(file, O_RDONLY | O_NOCTTY | O_CLOEXEC);
        if (source.fd < 0)
                return ctl_fail_errno(ctl, -errno, "'%s' cannot be opened", file);

        status = check_kind(ctl, &source);
        if (status != STATUS_OK)
                return status;

        *ret = source;
        source = SOURCE_NONE;
        return STATUS_OK;
}

void source_wait(const Source *source) {
        struct pollfd poll_fd = { .fd = source->fd, .events = POLLIN };

        if (source->is_stdin)
                while (poll(&poll_fd, 1, -1) < 0 && errno == EINTR)
                        ;
}

void source_close(Source *source) {
        if (!source->is_stdin)
                fd_closep(&source->fd);
        *source = SOURCE_NONE;
}
