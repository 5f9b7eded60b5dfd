/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-file.h"
#include "job.h"
#include "method.h"

const sd_bus_vtable restore_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("RestoreLicenses", SD_BUS_ARGS("u", flags), SD_BUS_RESULT("o", job), method_dispatch,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("RestoreLicensesFromFile", SD_BUS_ARGS("h", fd, "u", flags, "a{sv}", options),
                SD_BUS_RESULT("o", job), method_dispatch, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("CancelLicenseRestore", NULL, NULL, method_dispatch, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("VerifyBackup", SD_BUS_ARGS("h", fd), SD_BUS_RESULT("o", job), method_dispatch,
                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

/* All of a plan but where it comes from and whom it goes to, if not to the caller. */
static int plan_for(Manager *manager, Caller *caller, uint32_t flags, RestorePlan *ret, Error *error) {
        if (flags & ~WM_RESTORE_INDIVIDUALIZE)
                return error_set(error, ERROR_INVALID_ARGUMENTS,
                        "There are no flags 0x%" PRIx32 " here. The only one is WM_RESTORE_INDIVIDUALIZE (2).",
                        flags & ~WM_RESTORE_INDIVIDUALIZE);
        if (!manager->store)
                return error_copy(error, &manager->store_error);

        *ret = (RestorePlan) {
                .store = manager->store,
                .uid = caller->user->uid,
                .name = g_strdup(caller->user_name),
                .owner = caller->user->uid,
                .fd = -1,
                .individualize = flags & WM_RESTORE_INDIVIDUALIZE,
                .roots = g_strdupv(manager->config.roots),
                .machine = g_strdup(manager->machine),
                .stall_msec = (int)manager->config.stall_seconds * 1000,
        };
        return 0;
}

int method_restore_licenses(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        RestorePlan plan;
        uint32_t flags;
        int r;

        r = sd_bus_message_read(message, "u", &flags);
        if (r < 0)
                return r;
        r = plan_for(manager, caller, flags, &plan, error);
        return r != 0 ? r : job_new_restore(manager, caller, message, &plan, error);
}

static int go_on(Caller *caller, sd_bus_message *message, void *frozen, Error *error) {
        g_autofree RestorePlan *plan = frozen;

        return job_new_restore(caller->manager, caller, message, plan, error);
}

static void free_plan(void *frozen) {
        restore_plan_clear(frozen);
        g_free(frozen);
}

static const FrozenClass frozen_class = { go_on, free_plan };

int method_restore_licenses_from_file(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        RestorePlan plan;
        BusWhose whose;
        uint32_t flags;
        int fd, r;

        r = sd_bus_message_read(message, "hu", &fd, &flags);
        if (r < 0)
                return r;
        if ((r = bus_read_whose(message, caller, false, &whose, error)) != 0 ||
            (r = plan_for(manager, caller, flags, &plan, error)) != 0)
                return r;

        plan.all_users = whose.all_users;
        plan.owner = whose.owner;
        if (whose.from && license_set_string(&plan.from, whose.from) < 0)
                r = error_set_no_memory(error);
        else
                r = bus_keep_descriptor(fd, &plan.fd, error);
        if (r != 0) {
                restore_plan_clear(&plan);
                return r;
        }
        return method_go_on(caller, message, whose.others, &frozen_class, g_memdup2(&plan, sizeof plan), error);
}

int method_cancel_license_restore(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        manager_send_empty(manager, message);
        if (caller->user->job && caller->user->job->kind != JOB_BACKUP)
                job_cancel(caller->user->job, NULL);
        return 0;
}

int method_verify_backup(Manager *manager, Caller *caller, sd_bus_message *message, Error *error) {
        int fd, kept, r;

        r = sd_bus_message_read(message, "h", &fd);
        if (r < 0)
                return r;
        r = bus_keep_descriptor(fd, &kept, error);
        return r != 0 ? r : job_new_verify(manager, caller, message, kept, error);
}
