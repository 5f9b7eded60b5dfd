/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "source.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup.h"
#include "bus.h"
#include "error.h"
#include "folder.h"

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

Status source_open_at_once(Ctl *ctl, const char *file, Source *ret) {
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

Status source_open_found(Ctl *ctl, const char *file, Source *ret) {
        _cleanup_fd_ int fd = open(file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return ctl_fail_errno(ctl, -errno, "'%s' cannot be opened", file);
        if (!S_ISREG(st.st_mode))
                return ctl_fail(ctl, STATUS_FAILED,
                        "'%s' is no file any more. Somebody else changes what is in that folder.", file);

        *ret = (Source) { .name = file, .fd = fd_steal(&fd) };
        return STATUS_OK;
}

/* Of what can be read. FIONREAD counts in an int, and a file may have more. */
static bool is_at_end(int fd) {
        struct stat st;
        int ready;

        if (fstat(fd, &st) >= 0 && S_ISREG(st.st_mode))
                return lseek(fd, 0, SEEK_CUR) >= st.st_size;
        return ioctl(fd, FIONREAD, &ready) >= 0 && ready == 0;
}

Status source_expect(Ctl *ctl, const Source *source, int stop_fd) {
        struct pollfd poll_fds[] = { { .fd = source->fd, .events = POLLIN }, { .fd = stop_fd, .events = POLLIN } };

        if (!source->is_stdin)
                return STATUS_OK;
        while (poll(poll_fds, G_N_ELEMENTS(poll_fds), -1) < 0 && errno == EINTR)
                ;
        /* Readable without a byte is its end. */
        if (!poll_fds[0].revents || !is_at_end(source->fd))
                return STATUS_OK;
        return ctl_fail_named(ctl, STATUS_CORRUPT, error_name(ERROR_BACKUP_CORRUPT),
                "Nothing came from standard input. Look at the program that should have sent the backup.");
}

Status source_open(Ctl *ctl, const char *file, Source *ret) {
        g_auto(Source) source = SOURCE_NONE;
        Status status;

        if ((status = source_open_at_once(ctl, file, &source)) != STATUS_OK ||
            (status = source_expect(ctl, &source, -1)) != STATUS_OK)
                return status;

        *ret = source;
        source = SOURCE_NONE;
        return STATUS_OK;
}

/* Where the service makes the caller's backup; NULL where it does not say. */
static char *service_path(Ctl *ctl) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *call = NULL, *reply = NULL;
        __attribute__((cleanup(sd_bus_error_free))) sd_bus_error error = SD_BUS_ERROR_NULL;
        const char *folder;

        if (bus_call_new(ctl, BUS_PROPS, "GetPropByName", &call, "s", BACKUP_PATH) != STATUS_OK ||
            !bus_try_call(ctl, call, &error, &reply) ||
            sd_bus_message_read(reply, "v", "s", &folder) < 0)
                return NULL;
        return g_build_filename(folder, FOLDER_BACKUP_NAME, NULL);
}

bool source_try_open_service(Ctl *ctl, sd_bus_error *ret_error, Source *ret) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *call = NULL, *reply = NULL;
        int fd, own;

        if (bus_call_new(ctl, BUS_BACKUP, "OpenBackup", &call, NULL) != STATUS_OK ||
            !bus_try_call(ctl, call, ret_error, &reply))
                return false;

        if (sd_bus_message_read(reply, "h", &fd) < 0) {
                sd_bus_error_set_const(ret_error, SD_BUS_ERROR_INCONSISTENT_MESSAGE, "The answer is not understood.");
                return false;
        }
        /* The descriptor is the message's. */
        own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (own < 0) {
                sd_bus_error_set_errno(ret_error, errno);
                return false;
        }
        *ret = (Source) { .fd = own, .own_name = service_path(ctl) ?: g_strdup("the backup of the service") };
        ret->name = ret->own_name;
        return true;
}

bool source_is_missing(const sd_bus_error *error) {
        return error_from_name(error->name) == ERROR_BACKUP_CORRUPT && error->message &&
                g_str_has_prefix(error->message, BACKUP_MISSING_WORDS);
}

Status source_open_service(Ctl *ctl, Source *ret) {
        __attribute__((cleanup(sd_bus_error_free))) sd_bus_error error = SD_BUS_ERROR_NULL;
        Status status;

        status = bus_connect(ctl);
        if (status != STATUS_OK || source_try_open_service(ctl, &error, ret))
                return status;
        if (sd_bus_error_has_name(&error, SD_BUS_ERROR_INCONSISTENT_MESSAGE))
                return bus_fail_parse(ctl);
        if (source_is_missing(&error))
                return ctl_fail_named(ctl, STATUS_CORRUPT, error.name,
                        "There is no backup yet. Make one with: licensevaultctl backup");
        return bus_fail(ctl, &error, NULL);
}

void source_close(Source *source) {
        if (!source->is_stdin)
                fd_closep(&source->fd);
        g_free(source->own_name);
        *source = SOURCE_NONE;
}
