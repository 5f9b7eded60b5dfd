/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "draft.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <sodium.h>

#define SUFFIX ".partial"
#define MODE 0600

#define TOKEN_SIZE 3U
#define NONCE_SIZE 5U

/*
 * What is in the names of this process's drafts. Those it never tidies: a lock cannot be had on every file system, and
 * what is tidied when the service starts may take long, with the first backup under way.
 */
static uint32_t process_token(void) {
        static gsize token;

        if (g_once_init_enter(&token))
                g_once_init_leave(&token, randombytes_random() | 1U);
        return (uint32_t)token;
}

/* 5 bits a character; names have little room. */
static void spell(uint32_t number, char *ret, size_t size) {
        for (size_t i = 0; i < size; i++, number >>= 5)
                ret[i] = "abcdefghijklmnopqrstuvwxyz234567"[number % 32];
        ret[size] = '\0';
}

static int make_partial_name(const char *name, char ret[NAME_MAX + 1]) {
        char token[TOKEN_SIZE + 1], nonce[NONCE_SIZE + 1];
        int n;

        spell(process_token(), token, TOKEN_SIZE);
        spell(randombytes_random(), nonce, NONCE_SIZE);
        n = snprintf(ret, NAME_MAX + 1, ".%s.%s%s" SUFFIX, name, token, nonce);
        return n > NAME_MAX ? -ENAMETOOLONG : 0;
}

static bool is_partial_of(const char *entry, const char *name) {
        size_t n = strlen(name);

        return entry[0] == '.' && strncmp(entry + 1, name, n) == 0 && entry[1 + n] == '.' &&
               g_str_has_suffix(entry + 1 + n, SUFFIX);
}

static bool is_of_this_process(const char *partial, const char *name) {
        char token[TOKEN_SIZE + 1];

        spell(process_token(), token, TOKEN_SIZE);
        return strncmp(partial + 1 + strlen(name) + 1, token, TOKEN_SIZE) == 0;
}

int draft_open(int folder, const char *name, Draft *ret) {
        _cleanup_fd_ int fd = -1;
        Draft draft = { .folder = folder, .replaces = -1 };
        int r;

        fd = openat(folder, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, MODE);
        if (fd < 0) {
                /* What file systems without unnamed files say; older kernels say EISDIR. */
                if (!(errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL || errno == ENOENT))
                        return -errno;

                r = make_partial_name(name, draft.partial);
                if (r < 0)
                        return r;
                fd = openat(folder, draft.partial, O_CREAT | O_EXCL | O_NOFOLLOW | O_RDWR | O_CLOEXEC, MODE);
                if (fd < 0)
                        return -errno;
        }
        /*
         * Tells draft_tidy() of other processes that someone works on it; an unnamed one has a name for a moment, too.
         */
        (void)flock(fd, LOCK_EX | LOCK_NB);

        /* The umask is not asked: nobody else is to read it, and its owner always. */
        if (fchmod(fd, MODE) < 0 && errno != EPERM && errno != EOPNOTSUPP) {
                r = -errno;
                if (draft.partial[0])
                        (void)unlinkat(folder, draft.partial, 0);
                return r;
        }

        draft.fd = fd_steal(&fd);
        *ret = draft;
        return 0;
}

static int link_unnamed(const Draft *draft, const char *name) {
        char path[sizeof "/proc/self/fd/" + 11];

        snprintf(path, sizeof path, "/proc/self/fd/%d", draft->fd);
        return linkat(AT_FDCWD, path, draft->folder, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

/* Names a partial file without replacing one, on file systems down to FAT. */
static int rename_noreplace(Draft *draft, const char *name) {
        _cleanup_fd_ int placeholder = -1;
        int r;

        if (renameat2(draft->folder, draft->partial, draft->folder, name, RENAME_NOREPLACE) >= 0) {
                draft->partial[0] = 0;
                return 0;
        }
        if (!(errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP))
                return -errno;

        if (linkat(draft->folder, draft->partial, draft->folder, name, 0) >= 0)
                return 0; /* the partial name goes with draft_discard() */
        if (!(errno == EPERM || errno == EOPNOTSUPP || errno == ENOSYS || errno == EMLINK))
                return -errno;

        placeholder = openat(draft->folder, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, MODE);
        if (placeholder < 0)
                return -errno;
        /* Tells draft_tidy() that the empty file is someone's. Where that was quicker, the file is gone. */
        if (flock(placeholder, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
                return -EBUSY;
        if (renameat(draft->folder, draft->partial, draft->folder, name) < 0) {
                r = -errno;
                (void)unlinkat(draft->folder, name, 0);
                return r;
        }
        draft->partial[0] = 0;
        return 0;
}

/* A file that is open keeps its number. The other is opened, for a disk of the network is asked anew only then. */
int draft_is_named(int folder, const char *name, int file) {
        _cleanup_fd_ int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        struct stat known, found;

        if (fd < 0 && errno == ELOOP)
                return 0;
        if (fd < 0 || fstat(fd, &found) < 0 || fstat(file, &known) < 0)
                return -errno;
        return found.st_dev == known.st_dev && found.st_ino == known.st_ino;
}

int draft_publish(Draft *draft, const char *name, bool replace) {
        int r;

        if (fsync(draft->fd) < 0)
                return -errno;

        if (!replace) {
                r = draft->partial[0] ? rename_noreplace(draft, name) : link_unnamed(draft, name);
                if (r < 0)
                        return r;
        } else {
                if (!draft->partial[0]) {
                        /* A link cannot replace, a rename can: the draft gets a name in passing. */
                        r = make_partial_name(name, draft->partial);
                        if (r >= 0)
                                r = link_unnamed(draft, draft->partial);
                        if (r < 0) {
                                draft->partial[0] = 0;
                                return r;
                        }
                }
                r = draft->replaces < 0 ? 1 : draft_is_named(draft->folder, name, draft->replaces);
                if (r <= 0 && r != -ENOENT)
                        return r < 0 ? r : DRAFT_OTHER;
                if (renameat(draft->folder, draft->partial, draft->folder, name) < 0)
                        return -errno;
                draft->partial[0] = 0;
        }

        if (fsync(draft->folder) >= 0 || errno == EINVAL)
                return 0;
        if (replace)
                return DRAFT_NOT_DURABLE;
        r = -errno;
        (void)unlinkat(draft->folder, name, 0);
        return r;
}

void draft_discard(Draft *draft) {
        if (draft->fd >= 0 && draft->partial[0])
                (void)unlinkat(draft->folder, draft->partial, 0);
        fd_closep(&draft->fd);
        draft->partial[0] = 0;
}

/* What a kill leaves between the two steps of rename_noreplace(): a name that is taken, by nothing. */
static bool is_placeholder(int fd) {
        struct stat st;

        return fd >= 0 && fstat(fd, &st) >= 0 && S_ISREG(st.st_mode) && st.st_size == 0;
}

bool draft_tidy_entry(int folder, const char *entry, const char *name) {
        bool is_name = strcmp(entry, name) == 0;
        _cleanup_fd_ int draft = -1;

        if (!is_name && (!is_partial_of(entry, name) || is_of_this_process(entry, name)))
                return false;
        draft = openat(folder, entry, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        /* What cannot be opened may be someone's: a link or a socket is nobody's draft. */
        if (draft < 0 && errno != ELOOP && errno != ENXIO)
                return false;
        if (draft >= 0 && flock(draft, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
                return false;
        if (is_name && !is_placeholder(draft))
                return false;
        return unlinkat(folder, entry, 0) >= 0;
}

int draft_tidy(int folder, const char *name) {
        _cleanup_fd_ int fd = -1;
        int n = 0;
        DIR *entries;

        fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        entries = fdopendir(fd);
        if (!entries)
                return -errno;
        fd_steal(&fd);

        for (struct dirent *entry; (entry = readdir(entries));)
                n += draft_tidy_entry(folder, entry->d_name, name);

        closedir(entries);
        return n;
}
