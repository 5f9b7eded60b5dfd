/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "output.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static Status fail_exists(Ctl *ctl, const char *path) {
        return ctl_fail(ctl, STATUS_EXISTS,
                "'%s' exists already. Name another file, or replace it with --overwrite.", path);
}

/* What would be replaced must be a file: a rename over /dev/null, as root, does what nobody meant. */
static Status check_existing(Ctl *ctl, const Output *output) {
        struct stat st;

        if (fstatat(output->folder, output->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? STATUS_OK :
                        ctl_fail_errno(ctl, -errno, "'%s' cannot be looked at", output->path);

        if (S_ISDIR(st.st_mode))
                return ctl_fail(ctl, STATUS_USAGE, "'%s' is a folder. Name a file in it.", output->path);
        if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
                return ctl_fail(ctl, STATUS_USAGE,
                        "'%s' is not a regular file. To write into it, use '-' and let the shell open it.",
                        output->path);
        return output->replace ? STATUS_OK : fail_exists(ctl, output->path);
}

Status output_open(Ctl *ctl, const char *path, bool replace, Output *ret) {
        g_auto(Output) output = OUTPUT_NONE;
        g_autofree char *folder = NULL;
        const char *slash = strrchr(path, '/');
        Status status;
        int r;

        output.path = path;
        output.replace = replace;
        output.name = g_strdup(slash ? slash + 1 : path);
        folder = slash ? g_strndup(path, MAX((size_t)(slash - path), 1)) : g_strdup(".");

        if (!*path)
                return ctl_fail(ctl, STATUS_USAGE, "The name of the file is empty.");
        if (!*output.name || strcmp(output.name, ".") == 0 || strcmp(output.name, "..") == 0)
                return ctl_fail(ctl, STATUS_USAGE, "'%s' is a folder. Name a file in it.", path);

        output.folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (output.folder < 0)
                return ctl_fail_errno(ctl, -errno, "The folder '%s' cannot be opened", folder);

        status = check_existing(ctl, &output);
        if (status != STATUS_OK)
                return status;

        /* What a killed one, or a power cut, left of the same file. */
        (void)draft_tidy(output.folder, output.name);
        r = draft_open(output.folder, output.name, &output.draft);
        if (r < 0)
                return ctl_fail_errno(ctl, r, "The folder '%s' cannot be written to", folder);

        *ret = output;
        output = OUTPUT_NONE;
        return STATUS_OK;
}

void output_rename(Output *output, const char *path) {
        g_free(output->name);
        output->name = g_path_get_basename(path);
        output->path = path;
}

Status output_publish(Ctl *ctl, Output *output) {
        int r;

        r = draft_publish(&output->draft, output->name, output->replace);
        if (r == -EEXIST)
                return fail_exists(ctl, output->path);
        output->replaced = output->replace && r >= 0;
        if (r == DRAFT_NOT_DURABLE)
                return ctl_fail(ctl, STATUS_MEDIUM,
                        "'%s' was replaced, but its folder could not be synced: it may be gone after a power cut.",
                        output->path);
        if (r < 0)
                return ctl_fail_errno(ctl, r, "'%s' could not be saved", output->path);
        return STATUS_OK;
}

void output_discard(Output *output) {
        draft_discard(&output->draft);
        fd_closep(&output->folder);
        g_free(output->name);
        *output = OUTPUT_NONE;
}
