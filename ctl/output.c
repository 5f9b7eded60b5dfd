/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "output.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <linux/magic.h>

/* As many as the kernel follows. */
#define LINKS_MAX 40U

/* What is written, as a path. */
static const char *output_file(const Output *output) {
        return output->file ?: output->path;
}

static Status fail_exists(Ctl *ctl, const char *path) {
        return ctl_fail(ctl, STATUS_EXISTS,
                "'%s' exists already. Name another file, or replace it with --overwrite.", path);
}

static Status fail_folder(Ctl *ctl, const Output *output) {
        return ctl_fail(ctl, STATUS_USAGE, "'%s' is a folder. Name a file in it.", output_file(output));
}

static Status fail_irregular(Ctl *ctl, const Output *output) {
        return ctl_fail(ctl, STATUS_USAGE,
                "'%s' is not a regular file. To write into it, use '-' and let the shell open it.", output->path);
}

static Status fail_look(Ctl *ctl, const Output *output, int r) {
        return ctl_fail_errno(ctl, r, "'%s' cannot be looked at", output_file(output));
}

/* Opens the folder of a file and notes its name in there. The file is relative to the folder before it, if any. */
static Status locate(Ctl *ctl, Output *output, const char *file) {
        g_autofree char *parent = g_path_get_dirname(file);
        const char *slash = strrchr(file, '/');
        int folder;

        g_free(output->name);
        output->name = g_strdup(slash ? slash + 1 : file);
        if (!*output->name || strcmp(output->name, ".") == 0 || strcmp(output->name, "..") == 0)
                return fail_folder(ctl, output);

        folder = openat(output->folder >= 0 ? output->folder : AT_FDCWD, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (folder < 0) {
                g_autofree char *shown = g_path_get_dirname(output_file(output));
                return ctl_fail_errno(ctl, -errno, "The folder '%s' cannot be opened", shown);
        }
        fd_closep(&output->folder);
        output->folder = folder;
        return STATUS_OK;
}

/* What a link says, as a path from where we are. */
static char *join(const char *link, const char *target) {
        g_autofree char *parent = g_path_get_dirname(link);

        return g_path_is_absolute(target) || !strchr(link, '/') ? g_strdup(target) :
                g_build_filename(parent, target, NULL);
}

/* Reads a link that is open, and whether it may be followed. ret (g_free) stays as it is where it is none. */
static Status read_link(Ctl *ctl, const Output *output, int link, char **ret) {
        char target[PATH_MAX];
        struct statfs fs;
        struct stat st;
        ssize_t n;

        if (fstat(link, &st) < 0 || fstatfs(link, &fs) < 0)
                return fail_look(ctl, output, -errno);
        if (!S_ISLNK(st.st_mode))
                return STATUS_OK;
        /* Those of /proc are no paths: /dev/stdout is "pipe:[4711]" in the end. */
        if (fs.f_type == PROC_SUPER_MAGIC)
                return fail_irregular(ctl, output);

        n = readlinkat(link, "", target, sizeof target);
        if (n < 0 || n == (ssize_t)sizeof target)
                return fail_look(ctl, output, n < 0 ? -errno : -ENAMETOOLONG);
        target[n] = '\0';

        /* In /tmp anyone can lay a link, and so choose what root replaces, or where a backup goes. */
        if (st.st_uid != geteuid() && st.st_uid != 0) {
                g_autofree char *file = join(output_file(output), target);
                return ctl_fail(ctl, STATUS_DENIED,
                        "'%s' is a link that another user has made. If you mean '%s', name that.",
                        output_file(output), file);
        }
        *ret = g_strdup(target);
        return STATUS_OK;
}

/* Goes on to the file that the name links to, so that the draft is made beside that, and that is replaced. */
static Status follow_links(Ctl *ctl, Output *output) {
        for (unsigned i = 0; i <= LINKS_MAX; i++) {
                g_autofree char *target = NULL, *file = NULL;
                _cleanup_fd_ int link = -1;
                Status status;

                /* Opened, so that whose it is and what it says are of the same one. */
                link = openat(output->folder, output->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
                if (link < 0)
                        return errno == ENOENT ? STATUS_OK : fail_look(ctl, output, -errno);
                status = read_link(ctl, output, link, &target);
                if (status != STATUS_OK || !target)
                        return status;

                file = join(output_file(output), target);
                g_free(output->file);
                output->file = g_steal_pointer(&file);
                status = locate(ctl, output, target);
                if (status != STATUS_OK)
                        return status;
        }
        return fail_look(ctl, output, -ELOOP);
}

/* What would be replaced must be a file: a rename over /dev/null, as root, does what nobody meant. */
static Status check_existing(Ctl *ctl, const Output *output) {
        struct stat st;

        if (fstatat(output->folder, output->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? STATUS_OK : fail_look(ctl, output, -errno);

        if (S_ISDIR(st.st_mode))
                return fail_folder(ctl, output);
        if (!S_ISREG(st.st_mode))
                return fail_irregular(ctl, output);
        return output->replace ? STATUS_OK : fail_exists(ctl, output->path);
}

Status output_open(Ctl *ctl, const char *path, bool replace, Output *ret) {
        g_auto(Output) output = OUTPUT_NONE;
        Status status;
        int r;

        output.path = path;
        output.replace = replace;

        if (!*path)
                return ctl_fail(ctl, STATUS_USAGE, "The name of the file is empty.");
        if ((status = locate(ctl, &output, path)) != STATUS_OK ||
            (status = follow_links(ctl, &output)) != STATUS_OK ||
            (status = check_existing(ctl, &output)) != STATUS_OK)
                return status;

        /* What a killed one, or a power cut, left of the same file. */
        (void)draft_tidy(output.folder, output.name);
        r = draft_open(output.folder, output.name, &output.draft);
        if (r < 0) {
                g_autofree char *folder = g_path_get_dirname(output_file(&output));
                return ctl_fail_errno(ctl, r, "The folder '%s' cannot be written to", folder);
        }

        *ret = output;
        output = OUTPUT_NONE;
        return STATUS_OK;
}

void output_rename(Output *output, const char *path) {
        g_free(output->name);
        output->name = g_path_get_basename(path);
        output->path = path;
}

/* Others name the link that they were told. */
static void note_linked(Ctl *ctl, const Output *output) {
        g_autofree char *file = g_utf8_make_valid(output->file, -1);

        ctl_result(ctl, "file", json_string(file));
        ctl_note(ctl, "'%s' is a link, and '%s' was written.", output->path, output->file);
}

Status output_publish(Ctl *ctl, Output *output) {
        int r;

        output->draft.replaces = output->old;
        r = draft_publish(&output->draft, output->name, output->replace && !output->was_free);
        if (r == -EEXIST && !output->replace)
                return fail_exists(ctl, output->path);
        /* Where there was none, what has come meanwhile nobody has looked at, either. */
        if (r == DRAFT_OTHER || r == -EEXIST)
                return ctl_fail(ctl, STATUS_EXISTS,
                        "Meanwhile '%s' was replaced by something else. See what it is now, then try again.",
                        output_file(output));
        output->replaced = output->replace && r >= 0;
        if (r == DRAFT_NOT_DURABLE)
                return ctl_fail(ctl, STATUS_MEDIUM,
                        "'%s' was replaced, but its folder could not be synced: it may be gone after a power cut.",
                        output_file(output));
        if (r < 0)
                return ctl_fail_errno(ctl, r, "'%s' could not be saved", output_file(output));
        if (output->file)
                note_linked(ctl, output);
        return STATUS_OK;
}

void output_discard(Output *output) {
        draft_discard(&output->draft);
        fd_closep(&output->old);
        fd_closep(&output->folder);
        g_free(output->name);
        g_free(output->file);
        *output = OUTPUT_NONE;
}
