/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "calls.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

/* Newer architectures have only the forms with a descriptor. */
#ifndef SYS_rename
#define SYS_rename -1
#define SYS_link -1
#define SYS_unlink -1
#define SYS_mkdir -1
#endif
#ifndef SYS_sync_file_range
#define SYS_sync_file_range -1
#endif
#ifndef SYS_renameat
#define SYS_renameat -1
#endif

const FaultCall fault_calls[N_FAULT_CALLS] = {
        { "openat", { SYS_openat, -1 }, SUBJECT_PATH, 1, true, { ENOSPC, EIO, EMFILE, EROFS, ENOMEM, EINTR } },
        { "write", { SYS_write, -1 }, SUBJECT_FILE, 0, true, { ENOSPC, EIO, EDQUOT, EINTR, FAULT_SHORT } },
        { "pwrite", { SYS_pwrite64, SYS_pwritev, -1 }, SUBJECT_FILE, 0, true,
                { ENOSPC, EIO, EDQUOT, EINTR, FAULT_SHORT } },
        { "fsync", { SYS_fsync, SYS_fdatasync, SYS_sync_file_range, -1 }, SUBJECT_NONE, 0, true, { EIO, ENOSPC, EDQUOT, EINTR } },
        { "rename", { SYS_renameat2, SYS_renameat, SYS_rename, -1 }, SUBJECT_NONE, 0, true, { EIO, ENOSPC, EROFS } },
        { "link", { SYS_linkat, SYS_link, -1 }, SUBJECT_NONE, 0, true, { EIO, ENOSPC, EDQUOT } },
        { "unlink", { SYS_unlinkat, SYS_unlink, -1 }, SUBJECT_NONE, 0, true, { EIO, EROFS } },
        { "mkdir", { SYS_mkdirat, SYS_mkdir, -1 }, SUBJECT_NONE, 0, true, { ENOSPC, EROFS } },
        { "ftruncate", { SYS_ftruncate, SYS_fallocate, -1 }, SUBJECT_NONE, 0, true, { EIO, ENOSPC, EINTR } },
        { "splice", { SYS_splice, -1 }, SUBJECT_STREAM, 2, true, { EIO, ENOMEM, EPIPE, EAGAIN, EINTR } },
        { "sendto", { SYS_sendto, -1 }, SUBJECT_STREAM, 0, true, { ECONNRESET, ENOMEM, EPIPE, EAGAIN, EINTR } },
        { "fchmod", { SYS_fchmod, -1 }, SUBJECT_NONE, 0, true, { EIO, EROFS } },
        { "mmap", { SYS_mmap, -1 }, SUBJECT_NONE, 0, false, { ENOMEM } },
        { "memfd", { SYS_memfd_create, -1 }, SUBJECT_NONE, 0, false, { EMFILE, ENOMEM } },
        { "flock", { SYS_flock, -1 }, SUBJECT_NONE, 0, false, { ENOLCK, EINTR } },
        { "lock", { SYS_fcntl, -1 }, SUBJECT_LOCK, 2, false, { EIO, ENOLCK } },
        { "duplicate", { SYS_fcntl, -1 }, SUBJECT_DUPLICATE, 0, false, { EMFILE } },
        { "read", { SYS_read, SYS_pread64, SYS_preadv2, -1 }, SUBJECT_EITHER, 0, false, { EIO, EINTR, FAULT_SHORT } },
        { "direct", { SYS_fcntl, -1 }, SUBJECT_FLAGS, 0, false, { EINVAL } },
        { "recvfrom", { SYS_recvfrom, -1 }, SUBJECT_STREAM, 0, false, { ECONNRESET, ENOMEM, EAGAIN, EINTR } },
        { "fstat", { SYS_newfstatat, SYS_fstat, -1 }, SUBJECT_NONE, 0, false, { EIO, ENOMEM } },
        { "getdents64", { SYS_getdents64, -1 }, SUBJECT_NONE, 0, false, { EIO } },
        { "clone", { SYS_clone3, SYS_clone, -1 }, SUBJECT_NONE, 0, false, { EAGAIN } },
        { "eventfd", { SYS_eventfd2, -1 }, SUBJECT_NONE, 0, false, { EMFILE, ENOMEM } },
        { "inotify", { SYS_inotify_init1, SYS_inotify_add_watch, -1 }, SUBJECT_NONE, 0, false, { EMFILE, ENOSPC, ENOMEM } },
};

static bool is_lock(int command) {
        return command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK || command == F_OFD_SETLKW;
}

int fault_call_find(int number, const uint64_t arguments[6]) {
        for (unsigned i = 0; i < N_FAULT_CALLS; i++) {
                const FaultCall *call = &fault_calls[i];
                bool found = false;

                for (const int *n = call->numbers; *n >= 0; n++)
                        found = found || *n == number;
                if (!found || (call->subject == SUBJECT_LOCK && !is_lock((int)arguments[1])) ||
                    (call->subject == SUBJECT_DUPLICATE && (int)arguments[1] != F_DUPFD_CLOEXEC) ||
                    (call->subject == SUBJECT_FLAGS && (int)arguments[1] != F_SETFL))
                        continue;
                return (int)i;
        }
        return -1;
}

const char *fault_error_name(int error) {
        return error == FAULT_SHORT ? "short" : strerrorname_np(error);
}
