/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "verify.h"

#include "backup-read.h"

/* The last one is told with the end. */
#define PERCENT_READ 99U

struct Verify {
        int fd;
        uint64_t document_max;
        int stall_msec;
        Cancel *cancel;

        const WorkEvents *events;
        uint64_t total, done;
};

int verify_new(int fd, uint64_t document_max, int stall_msec, Cancel *cancel, Verify **ret) {
        Verify *verify = g_new0(Verify, 1);

        verify->fd = fd;
        verify->document_max = document_max;
        verify->stall_msec = stall_msec;
        verify->cancel = cancel_ref(cancel);
        *ret = verify;
        return 0;
}

Verify *verify_free(Verify *verify) {
        if (verify) {
                fd_closep(&verify->fd);
                cancel_unref(verify->cancel);
                g_free(verify);
        }
        return NULL;
}

static void tell(Verify *verify) {
        uint64_t percent = MIN(verify->done, verify->total) * PERCENT_READ / MAX(verify->total, 1);

        verify->events->progress(MIN(verify->done, verify->total), (unsigned)percent, verify->events->userdata);
}

static int on_origin(const BackupOrigin *origin, void *userdata, Error *error) {
        Verify *verify = userdata;

        verify->total = origin->licenses;
        verify->events->begin(verify->total, verify->events->userdata);
        return 0;
}

static int on_license(BackupLicense *license, void *userdata, Error *error) {
        Verify *verify = userdata;

        verify->done++;
        tell(verify);
        return 0;
}

static int class_check(void *work, Error *error) {
        return descriptor_check_source(((Verify *)work)->fd, error);
}

static int class_run(void *work, const WorkEvents *events, WorkResult *ret, Error *error) {
        Verify *verify = work;
        const BackupVisitor visitor = {
                .origin = on_origin,
                .license = on_license,
                .userdata = verify,
                .watch = { .moved = events->moved, .waits = events->outside, .userdata = events->userdata },
        };
        ArchiveCounts counts;
        int r;

        verify->events = events;
        events->watched(true, events->userdata);
        r = backup_read(verify->fd, verify->document_max, verify->stall_msec, verify->cancel, &visitor, &counts,
                error);
        if (r != 0)
                return r;

        *ret = (WorkResult) {
                .licenses = counts.licenses,
                .restricted = counts.restricted,
                .bytes = counts.bytes,
                .verified = true,
        };
        return 0;
}

static void class_free(void *work) {
        verify_free(work);
}

const WorkClass verify_class = { class_check, class_run, class_free };
