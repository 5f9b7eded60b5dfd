/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Starts the daemon so that each of its system calls of the table is first shown to the injector, which answers it or
 * lets it through. FAULT_SOCKET is a descriptor to send the listener to, FAULT_DAEMON the program.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/seccomp.h>

#include "calls.h"

/* Whether the filter has a number already: fcntl() has two rows. */
static bool has(const struct sock_filter *code, unsigned n, int number) {
        for (unsigned i = 0; i < n; i++)
                if (code[i].code == (BPF_JMP | BPF_JEQ | BPF_K) && code[i].k == (uint32_t)number)
                        return true;
        return false;
}

static int install(void) {
        struct sock_filter code[2 + 2 * 4 * N_FAULT_CALLS];
        struct sock_fprog program = { .filter = code };
        unsigned short n = 0;

        code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
        for (unsigned i = 0; i < N_FAULT_CALLS; i++)
                for (const int *number = fault_calls[i].numbers; *number >= 0; number++) {
                        if (has(code, n, *number))
                                continue;
                        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)*number, 0, 1);
                        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
                }
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        program.len = n;
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return -1;
        return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

/* sendmsg() is not in the table, so that this goes through before anyone listens. */
static int send_descriptor(int to, int fd) {
        union {
                char space[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control = {};
        struct iovec iov = { &(char){ 'l' }, 1 };
        struct msghdr message = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space,
        };
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);

        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &fd, sizeof fd);
        return sendmsg(to, &message, 0) == 1 ? 0 : -1;
}

int main(int argc, char **argv) {
        const char *number = getenv("FAULT_SOCKET"), *daemon = getenv("FAULT_DAEMON");
        int to, listener;

        if (!number || !daemon)
                return 125;
        to = atoi(number);
        listener = install();
        if (listener < 0 || send_descriptor(to, listener) < 0)
                return 126;
        close(listener);
        close(to);
        unsetenv("FAULT_SOCKET");
        unsetenv("FAULT_DAEMON");
        execv(daemon, argv);
        return 127;
}
