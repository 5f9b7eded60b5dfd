/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * refuse WHAT COMMAND…: runs a command as on a lesser file system, without needing one, nor root.
 *
 *   tmpfile   no unnamed files (NFS)
 *   noreplace nor renames that replace nothing (many FUSE file systems)
 *   link      nor links (FAT)
 */

/* The low half of a system call's argument. */
#define ARGUMENT(n) \
        ((unsigned)offsetof(struct seccomp_data, args[n]) + (__BYTE_ORDER == __BIG_ENDIAN ? 4U : 0U))
#define UNNAMED (O_TMPFILE & ~O_DIRECTORY)
#define REFUSE(error) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define LOAD_NUMBER BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))

static struct sock_filter without_tmpfile[] = {
        LOAD_NUMBER,
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARGUMENT(2)),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, UNNAMED, 0, 1),
        REFUSE(EOPNOTSUPP),
        ALLOW,
};

static struct sock_filter without_noreplace[] = {
        LOAD_NUMBER,
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_renameat2, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARGUMENT(4)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
        REFUSE(EINVAL),
        ALLOW,
};

static struct sock_filter without_link[] = {
        LOAD_NUMBER,
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_linkat, 0, 1),
        REFUSE(EPERM),
        ALLOW,
};

/* In the order in which file systems lack them: each one lacks those before it, too. */
static const struct {
        const char *name;
        struct sock_fprog program;
} levels[] = {
#define LEVEL(name, filter) { name, { sizeof filter / sizeof filter[0], filter } }
        LEVEL("tmpfile", without_tmpfile),
        LEVEL("noreplace", without_noreplace),
        LEVEL("link", without_link),
#undef LEVEL
};

int main(int argc, char **argv) {
        if (argc < 3 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return EXIT_FAILURE;

        for (unsigned i = 0; i < sizeof levels / sizeof levels[0]; i++) {
                if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &levels[i].program) < 0) {
                        perror("refuse: seccomp");
                        return EXIT_FAILURE;
                }
                if (strcmp(levels[i].name, argv[1]) == 0) {
                        execvp(argv[2], argv + 2);
                        perror("refuse: exec");
                        return EXIT_FAILURE;
                }
        }
        return EXIT_FAILURE;
}
