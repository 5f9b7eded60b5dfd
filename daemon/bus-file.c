/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-file.h"

#include <errno.h>
#include <fcntl.h>

#include "bus-license.h"
#include "user-name.h"

int bus_read_whose(sd_bus_message *message, const Caller *caller, bool backup, BusWhose *ret, Error *error) {
        uint32_t owner = caller->user->uid;
        int all_users = false, skip_damaged = false, r;
        const char *from = NULL;
        const BusOption of_backup[] = {
                { "Owner", 'u', &owner },
                { "AllUsers", 'b', &all_users },
                { "SkipDamaged", 'b', &skip_damaged },
        };
        const BusOption of_restore[] = {
                { "Owner", 'u', &owner },
                { "AllUsers", 'b', &all_users },
                { "From", 's', &from },
        };

        r = backup ? bus_read_options(message, of_backup, G_N_ELEMENTS(of_backup), error) :
                bus_read_options(message, of_restore, G_N_ELEMENTS(of_restore), error);
        if (r != 0)
                return r;

        if (!user_may_own(owner))
                return error_set(error, ERROR_INVALID_ARGUMENTS,
                        "Owner %" PRIu32 " is not the number of a user who can have licenses.", owner);
        if (owner != caller->user->uid && all_users)
                return error_set(error, ERROR_INVALID_ARGUMENTS, "Owner and AllUsers exclude each other.");
        if (from && all_users)
                return error_set(error, ERROR_INVALID_ARGUMENTS, "From and AllUsers exclude each other.");

        *ret = (BusWhose) {
                .all_users = all_users,
                .owner = owner,
                .others = all_users || owner != caller->user->uid,
                .skip_damaged = skip_damaged,
                .from = from,
        };
        return 0;
}

int bus_keep_descriptor(int fd, int *ret, Error *error) {
        int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

        if (copy < 0)
                return error_set_errno(error, ERROR_LIMIT_EXCEEDED, -errno, "The descriptor cannot be kept");
        *ret = copy;
        return 0;
}
