/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "backup.h"
#include "bus-file.h"
#include "job.h"
#include "method.h"
#include "request.h"

const sd_bus_vtable backup_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("BackupLicenses", SD_BUS_ARGS("u", flags), SD_BUS_RESULT("o", job), method_dispatch,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("OpenBackup", SD_BUS_NO_ARGS, SD_BUS_RESULT("h", backup), method_dispatch,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("BackupLicensesToFile", SD_BUS_ARGS("h", fd, "u", flags, "a{sv}", options),
                SD_BUS_RESULT("o", job), method_dispatch, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("CancelLicenseBackup", NULL, NULL, method_dispatch, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

static int check_flags(uint32_t flags, uint32_t known, Error *error) {
        if ((flags & ~known) == 0)
                return 0;
        return error_set(error, ERROR_INVALID_ARGUMENTS, "There are no flags 0x%" PRIx32 " here. %s", flags & ~known,
                known ? "The only one is WM_BACKUP_OVERWRITE (1)." : "Set none.");
}

/* All of a plan but where it goes and whose licenses it is about, if not the caller's. */
static int plan_for(Manager *manager, Caller *caller, BackupPlan *ret, Error *error) {
        char host[HOST_NAME_MAX + 1] = "";

        if (!manager->store)
                return error_copy(error, &manager->store_error);

        (void)gethostname(host, sizeof host - 1);
        *ret = (BackupPlan) {
                .store = manager->store,
                .uid = caller->user->uid,
                .name = g_strdup(caller->user_name),
                .owner = caller->user->uid,
                .fd = -1,
                .roots = g_strdupv(manager->config.roots),
                .host = g_strdup(license_text_is_valid(host, strlen(host)) ? host : ""),
                .machine = g_strdup(manager->machine),
                .stall_msec = (int)manager->config.stall_seconds * 1000,
        };
        return 0;
}

int method_backup_licenses(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        BackupPlan plan;
        uint32_t flags;
        int r;

        r = sd_bus_message_read(message, "u", &flags);
        if (r < 0)
                return r;
        if ((r = check_flags(flags, WM_BACKUP_OVERWRITE, error)) != 0 ||
            (r = plan_for(manager, caller, &plan, error)) != 0)
                return r;
        plan.overwrite = flags & WM_BACKUP_OVERWRITE;
        return job_new_backup(manager, caller, message, &plan, error);
}

static int go_on(Caller *caller, sd_bus_message *message, void *frozen, Error *error) {
        g_autofree BackupPlan *plan = frozen;

        return job_new_backup(caller->manager, caller, message, plan, error);
}

static void free_plan(void *frozen) {
        backup_plan_clear(frozen);
        g_free(frozen);
}

static const FrozenClass frozen_class = { go_on, free_plan };

int method_backup_licenses_to_file(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        BackupPlan plan;
        BusWhose whose;
        uint32_t flags;
        int fd, r;

        r = sd_bus_message_read(message, "hu", &fd, &flags);
        if (r < 0)
                return r;
        if ((r = check_flags(flags, 0, error)) != 0 ||
            (r = bus_read_whose(message, caller, true, &whose, error)) != 0 ||
            (r = plan_for(manager, caller, &plan, error)) != 0)
                return r;

        plan.all_users = whose.all_users;
        plan.owner = whose.owner;
        plan.skip_damaged = whose.skip_damaged;
        r = bus_keep_descriptor(fd, &plan.fd, error);
        if (r != 0) {
                backup_plan_clear(&plan);
                return r;
        }
        return method_go_on(caller, message, whose.others, &frozen_class, g_memdup2(&plan, sizeof plan), error);
}

int method_cancel_license_backup(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        manager_send_empty(manager, message);
        if (caller->user->job && caller->user->job->kind == JOB_BACKUP)
                job_cancel(caller->user->job, NULL);
        return 0;
}

/* OpenBackup */

typedef struct OpenRequest {
        Request request;
        char **roots;
        int fd;
} OpenRequest;

static int open_run(Request *request, StoreConnection *connection, Error *error) {
        OpenRequest *open = (OpenRequest *)request;
        bool is_ours;
        int r;

        r = backup_open(request->manager->store, open->roots, &request->owner, BACKUP_PATH, &open->fd, &is_ours, error);
        /*
         * Whose folder it is may keep more of them under other names than a user may have open, and lay there as many
         * as the kernel has watches for all.
         */
        if (r != 0 || !is_ours)
                return r;
        r = request->watch = lent_watch(request->manager->lent, open->fd);
        return r < 0 ? error_set_errno(error, ERROR_MEDIUM, r, "The backup cannot be handed over") : 0;
}

static int open_reply(Request *request, sd_bus_message *reply) {
        return sd_bus_message_append(reply, "h", ((OpenRequest *)request)->fd);
}

static void open_clear(Request *request) {
        OpenRequest *open = (OpenRequest *)request;

        fd_closep(&open->fd);
        g_strfreev(open->roots);
}

static const RequestClass open_class = { sizeof(OpenRequest), open_run, open_reply, open_clear, .opens = LENT_BACKUP };

int method_open_backup(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        g_autoptr(Request) request = NULL;
        OpenRequest *open;
        int r;

        r = request_new(&open_class, caller, message, &request, error);
        if (r != 0)
                return r;
        open = (OpenRequest *)request;
        open->fd = -1;
        open->roots = g_strdupv(manager->config.roots);

        r = request_submit_thread(request, error);
        if (r == 0)
                g_steal_pointer(&request);
        return r;
}
