/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "injector.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <linux/seccomp.h>

#define SHORT_MAX (1024U * 1024U)

/* The process of a thread. */
static pid_t process_of(pid_t thread) {
        char path[64], line[128];
        pid_t pid = thread;
        FILE *file;

        snprintf(path, sizeof path, "/proc/%d/status", (int)thread);
        file = fopen(path, "re");
        while (file && fgets(line, sizeof line, file))
                if (sscanf(line, "Tgid: %d", &pid) == 1)
                        break;
        if (file)
                fclose(file);
        return pid;
}

/* What a descriptor of the daemon's is, as /proc says it; "" where it is none. */
static void describe(pid_t pid, int fd, char ret[512]) {
        char path[64];
        ssize_t n;

        snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, fd);
        n = readlink(path, ret, 511);
        ret[n > 0 ? n : 0] = 0;
}

static bool is_file(const char *what) {
        size_t n = strlen(what);

        /* A test's folder may be in /dev/shm. The log is the test's. */
        if (strncmp(what, "/dev/", 5) == 0 && strncmp(what, "/dev/shm/", 9) != 0)
                return false;
        return what[0] == '/' && strncmp(what, "/proc/", 6) != 0 && !(n >= 4 && strcmp(what + n - 4, "/log") == 0);
}

static bool is_stream(const char *what) {
        return strncmp(what, "pipe:", 5) == 0 || strncmp(what, "socket:", 7) == 0;
}

static void read_memory(pid_t pid, uint64_t address, void *ret, size_t size) {
        struct iovec to = { ret, size }, from = { (void *)(uintptr_t)address, size };

        (void)process_vm_readv(pid, &to, 1, &from, 1, 0);
}

static void read_string(pid_t pid, uint64_t address, char ret[512]) {
        struct iovec to = { ret, 511 }, from = { (void *)(uintptr_t)address, 511 };
        ssize_t n;

        /* A path near the end of a page: what can be had is enough. */
        n = process_vm_readv(pid, &to, 1, &from, 1, 0);
        if (n <= 0) {
                from.iov_len = to.iov_len = 4096 - (address & 4095);
                if (to.iov_len > 511)
                        from.iov_len = to.iov_len = 511;
                n = process_vm_readv(pid, &to, 1, &from, 1, 0);
        }
        ret[n > 0 ? n : 0] = 0;
}

static bool names_folder(const FaultPlan *plan, pid_t pid, const struct seccomp_data *data) {
        char path[512];

        if (data->nr != SYS_openat)
                return false;
        read_string(pid, data->args[1], path);
        return strncmp(path, plan->folder, strlen(plan->folder)) == 0;
}

/* Whether a call is one of those that are counted. */
static bool counts(const FaultPlan *plan, const FaultCall *call, pid_t pid, const struct seccomp_data *data) {
        struct flock lock = { .l_type = F_UNLCK };
        char what[512];

        switch (call->subject) {
        case SUBJECT_FILE:
                describe(pid, (int)data->args[call->argument], what);
                return is_file(what);
        case SUBJECT_STREAM:
                describe(pid, (int)data->args[call->argument], what);
                return is_stream(what);
        case SUBJECT_EITHER:
                describe(pid, (int)data->args[call->argument], what);
                return is_file(what) || strncmp(what, "pipe:", 5) == 0;
        case SUBJECT_LOCK:
                read_memory(pid, data->args[call->argument], &lock, sizeof lock);
                return lock.l_type != F_UNLCK;
        case SUBJECT_PATH:
                read_string(pid, data->args[call->argument], what);
                return strncmp(what, "/proc/", 6) != 0 && strncmp(what, "/sys/", 5) != 0;
        default:
                return true;
        }
}

static bool writes(const FaultCall *call, const struct seccomp_data *data) {
        if (data->nr == SYS_openat)
                return (data->args[2] & O_CREAT) || (data->args[2] & O_TMPFILE) == O_TMPFILE;
        return call->writes;
}

/* What the file system of the test cannot do, or 0. */
static int lacks(const FaultPlan *plan, const struct seccomp_data *data) {
        if (plan->file_system == FILE_SYSTEM_PLAIN)
                return 0;
        if (data->nr == SYS_openat && (data->args[2] & O_TMPFILE) == O_TMPFILE)
                return EOPNOTSUPP;
        if (plan->file_system != FILE_SYSTEM_FAT)
                return 0;
        if (data->nr == SYS_renameat2 && data->args[4] != 0)
                return EINVAL;
        return data->nr == SYS_linkat ? EPERM : 0;
}

/*
 * Moves half of what the daemon asked for, in its place, and returns what the call returns. 0: that cannot be done
 * here, let it through.
 */
static int64_t move_half(pid_t pid, const struct seccomp_data *data) {
        static char buffer[SHORT_MAX];
        struct iovec local = { buffer, data->args[2] / 2 };
        struct iovec remote = { (void *)(uintptr_t)data->args[1], local.iov_len };
        bool reads = data->nr == SYS_read || data->nr == SYS_pread64;
        int64_t n = 0;
        int process, fd;

        if (local.iov_len == 0 || local.iov_len > SHORT_MAX || data->nr == SYS_preadv2 || data->nr == SYS_pwritev)
                return 0;
        process = (int)syscall(SYS_pidfd_open, pid, 0);
        fd = process < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, process, (int)data->args[0], 0);
        if (fd >= 0 && (reads || process_vm_readv(pid, &local, 1, &remote, 1, 0) == (ssize_t)local.iov_len))
                switch (data->nr) {
                case SYS_write:
                        n = write(fd, buffer, local.iov_len);
                        break;
                case SYS_pwrite64:
                        n = pwrite(fd, buffer, local.iov_len, (off_t)data->args[3]);
                        break;
                case SYS_read:
                        n = read(fd, buffer, local.iov_len);
                        break;
                case SYS_pread64:
                        n = pread(fd, buffer, local.iov_len, (off_t)data->args[3]);
                        break;
                }
        if (reads && n > 0) {
                local.iov_len = remote.iov_len = (size_t)n;
                (void)process_vm_writev(pid, &local, 1, &remote, 1, 0);
        }
        close(fd);
        close(process);
        return n > 0 ? n : 0;
}

/* What is to become of a call: 0, it goes through; an errno; FAULT_SHORT; the daemon is killed. */
static int decide(FaultPlan *plan, pid_t pid, const struct seccomp_data *data, bool *ret_kill) {
        int row, missing = lacks(plan, data);
        unsigned count, written;

        if (missing != 0)
                return missing;
        if (!atomic_load(&plan->armed))
                return 0;
        if (plan->from_start && !atomic_load(&plan->begun)) {
                if (!names_folder(plan, pid, data))
                        return 0;
                atomic_store(&plan->begun, true);
        }
        row = fault_call_find(data->nr, (const uint64_t *)data->args);
        if (row < 0 || !counts(plan, &fault_calls[row], pid, data))
                return 0;

        count = atomic_fetch_add(&plan->counts[row], 1U) + 1;
        written = writes(&fault_calls[row], data) ? atomic_fetch_add(&plan->writes, 1U) + 1 : 0;
        if (plan->deed == DEED_KILL && written == plan->at) {
                atomic_fetch_add(&plan->hits, 1U);
                *ret_kill = true;
                return 0;
        }
        if ((plan->deed == DEED_FAIL || plan->deed == DEED_FAIL_ON) && (unsigned)row == plan->row &&
            (count == plan->at || (count > plan->at && plan->deed == DEED_FAIL_ON))) {
                atomic_fetch_add(&plan->hits, 1U);
                if (getenv("FAULT_LOG")) {
                        char what[512];

                        describe(pid, (int)data->args[0], what);
                        fprintf(stderr, "%s %u: %s, size %llu, at %llu\n", fault_calls[row].name, count, what,
                                (unsigned long long)data->args[2], (unsigned long long)data->args[3]);
                }
                return plan->error;
        }
        return 0;
}

static void serve(FaultPlan *plan, int listener) {
        struct seccomp_notif notice = {};
        struct seccomp_notif_resp answer = {};
        bool dead = false;
        pid_t pid;
        int what;

        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &notice) < 0)
                return; /* killed meanwhile */
        pid = process_of((pid_t)notice.pid);
        /* Before it is looked whether the plan is armed: whoever ends it waits for this. */
        atomic_store(&plan->busy, true);
        what = decide(plan, pid, &notice.data, &dead);
        if (dead)
                kill(pid, SIGKILL);
        atomic_store(&plan->busy, false);
        if (dead)
                return;

        answer.id = notice.id;
        if (what == FAULT_SHORT)
                answer.val = move_half(pid, &notice.data);
        else
                answer.error = -what;
        if (what == 0 || (what == FAULT_SHORT && answer.val == 0))
                answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        (void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
}

static int receive_descriptor(int from) {
        union {
                char space[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control = {};
        char letter;
        struct iovec iov = { &letter, 1 };
        struct msghdr message = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space,
        };
        struct cmsghdr *header;
        int fd;

        if (recvmsg(from, &message, MSG_CMSG_CLOEXEC) <= 0 || !(header = CMSG_FIRSTHDR(&message)))
                return -1;
        memcpy(&fd, CMSG_DATA(header), sizeof fd);
        return fd;
}

__attribute__((noreturn)) static void run(FaultPlan *plan, int from) {
        int listener = -1;

        for (;;) {
                struct pollfd fds[] = { { .fd = from, .events = POLLIN }, { .fd = listener, .events = POLLIN } };

                if (poll(fds, 2, -1) < 0)
                        continue;
                if (fds[1].revents & POLLIN)
                        serve(plan, listener);
                else if (fds[1].revents) {
                        close(listener);
                        listener = -1;
                }
                /* A daemon that was killed makes room for the next. */
                if (fds[0].revents & POLLIN) {
                        if (listener >= 0)
                                close(listener);
                        listener = receive_descriptor(from);
                }
        }
}

int injector_start(FaultPlan **ret, int *ret_socket) {
        pid_t pid, parent = getpid();
        FaultPlan *plan;
        int sockets[2];

        plan = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (plan == MAP_FAILED || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets) < 0)
                return -errno;
        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (getppid() != parent)
                        _exit(127);
                close(sockets[1]);
                run(plan, sockets[0]);
        }
        close(sockets[0]);
        *ret = plan;
        *ret_socket = sockets[1];
        return 0;
}

void injector_arm(FaultPlan *plan, FaultDeed deed, unsigned row, int error, unsigned at) {
        for (unsigned i = 0; i < N_FAULT_CALLS; i++)
                atomic_store(&plan->counts[i], 0U);
        atomic_store(&plan->writes, 0U);
        atomic_store(&plan->hits, 0U);
        atomic_store(&plan->begun, false);
        plan->deed = deed;
        plan->row = row;
        plan->error = error;
        plan->at = at;
        atomic_store(&plan->armed, true);
}

void injector_disarm(FaultPlan *plan) {
        atomic_store(&plan->armed, false);
        while (atomic_load(&plan->busy))
                usleep(100);
}
