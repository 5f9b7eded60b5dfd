/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "method.h"

#include <errno.h>
#include <string.h>

#include "inbox.h"
#include "job.h"
#include "outbox.h"
#include "user-name.h"

#define MANAGER "org.licensevault1.Manager"
#define STORE "org.licensevault1.LicenseStore"
#define BACKUP "org.licensevault1.LicenseBackup"
#define RESTORE "org.licensevault1.LicenseRestore"
#define PROPS "org.licensevault1.BackupRestoreProps"
/* Only for jobs, whose properties are not everyone's to read; see manager-bus.c. */
#define PROPERTIES "org.freedesktop.DBus.Properties"

static const Method methods[] = {
        { MANAGER, "Subscribe", ACCESS_OWN, method_subscribe },
        { MANAGER, "Unsubscribe", ACCESS_OWN, method_unsubscribe },
        { MANAGER, "ListJobs", ACCESS_OWN, method_list_jobs },
        { MANAGER, "ListOwners", ACCESS_ROOT, method_list_owners },
        { MANAGER, "ReassignLicenses", ACCESS_ROOT, method_reassign_licenses },
        { MANAGER, "PurgeLicenses", ACCESS_ROOT, method_purge_licenses },
        { STORE, "StoreLicense", ACCESS_OWN, method_store_license },
        { STORE, "StoreLicenses", ACCESS_OWN, method_store_licenses },
        { STORE, "GetLicense", ACCESS_OWN, method_get_license },
        { STORE, "OpenLicense", ACCESS_OWN, method_open_license },
        { STORE, "EnumerateLicenses", ACCESS_OWN, method_enumerate_licenses },
        { STORE, "ConsumeRight", ACCESS_OWN, method_consume_right },
        { STORE, "DeleteLicense", ACCESS_OWN, method_delete_license },
        { STORE, "RevokeLicense", ACCESS_OWN, method_revoke_license },
        { BACKUP, "BackupLicenses", ACCESS_OWN, method_backup_licenses },
        { BACKUP, "BackupLicensesToFile", ACCESS_OTHERS, method_backup_licenses_to_file },
        { BACKUP, "OpenBackup", ACCESS_OWN, method_open_backup },
        { BACKUP, "CancelLicenseBackup", ACCESS_OWN, method_cancel_license_backup },
        { RESTORE, "RestoreLicenses", ACCESS_OWN, method_restore_licenses },
        { RESTORE, "RestoreLicensesFromFile", ACCESS_OTHERS, method_restore_licenses_from_file },
        { RESTORE, "CancelLicenseRestore", ACCESS_OWN, method_cancel_license_restore },
        { RESTORE, "VerifyBackup", ACCESS_OWN, method_verify_backup },
        { PROPS, "GetPropCount", ACCESS_OWN, method_get_prop_count },
        { PROPS, "GetPropByIndex", ACCESS_OWN, method_get_prop_by_index },
        { PROPS, "GetPropByName", ACCESS_OWN, method_get_prop_by_name },
        { PROPS, "SetProp", ACCESS_OWN, method_set_prop },
        { PROPS, "RemoveProp", ACCESS_OWN, method_remove_prop },
        { PROPS, "RemoveAllProps", ACCESS_OWN, method_remove_all_props },
        { JOB_INTERFACE, "Cancel", ACCESS_OWN, method_job_cancel },
        { JOB_INTERFACE, "Wait", ACCESS_OWN, method_job_wait },
        { JOB_INTERFACE, "Release", ACCESS_OWN, method_job_release },
        { JOB_INTERFACE, "ListRestricted", ACCESS_OWN, method_job_list_restricted },
        { PROPERTIES, "Get", ACCESS_OWN, method_properties_get },
        { PROPERTIES, "GetAll", ACCESS_OWN, method_properties_get_all },
        { PROPERTIES, "Set", ACCESS_OWN, method_properties_set },
};

const Method *method_find(const char *interface, const char *member) {
        for (size_t i = 0; i < G_N_ELEMENTS(methods); i++)
                /* A call without an interface means the only one that has such a member. */
                if ((!interface || strcmp(methods[i].interface, interface) == 0) &&
                    strcmp(methods[i].member, member) == 0)
                        return &methods[i];
        return NULL;
}

const Interface root_interfaces[] = {
        { MANAGER, manager_vtable },
        { STORE, store_vtable },
        { BACKUP, backup_vtable },
        { RESTORE, restore_vtable },
        { PROPS, props_vtable },
        {},
};

const Interface job_interface = { JOB_INTERFACE, job_vtable };

/* Of the object at a path. */
static const sd_bus_vtable *find_vtable(const char *path, const char *interface) {
        if (job_path_is_valid(path))
                return strcmp(interface, job_interface.name) == 0 ? job_interface.vtable : NULL;
        if (strcmp(path, ROOT_PATH) == 0)
                for (const Interface *i = root_interfaces; i->name; i++)
                        if (strcmp(interface, i->name) == 0)
                                return i->vtable;
        return NULL;
}

bool method_is_ours(sd_bus_message *call) {
        const char *path = sd_bus_message_get_path(call), *interface = sd_bus_message_get_interface(call);
        const char *member = sd_bus_message_get_member(call);
        const sd_bus_vtable *row = path && interface && member ? find_vtable(path, interface) : NULL;

        for (; row && row->type != _SD_BUS_VTABLE_END; row++)
                if (row->type == _SD_BUS_VTABLE_METHOD && strcmp(row->x.method.member, member) == 0)
                        return sd_bus_message_has_signature(call, row->x.method.signature ?: "") > 0;
        return false;
}

static const Method *find_row(sd_bus_message *message) {
        return method_find(sd_bus_message_get_interface(message), sd_bus_message_get_member(message));
}

/* What can be said before the call is read. */
static int authorize(const Method *method, const Caller *caller, Error *error) {
        if (!user_may_own(caller->user->uid))
                return error_set(error, ERROR_ACCESS_DENIED,
                        "User %" PRIu32 " cannot have licenses: the system gives that number to whoever comes next. "
                        "Run as a user of your own.", (uint32_t)caller->user->uid);
        if (!user_may_call(caller->user->uid, caller->user_name))
                return error_set(error, ERROR_ACCESS_DENIED,
                        "User %" PRIu32 " has no account here, and such a number may be one of many that a user has "
                        "for containers: it cannot have licenses. Run as a user of your own; if you are one, try again "
                        "when the directory of users answers.", (uint32_t)caller->user->uid);
        if (method->access == ACCESS_ROOT && caller->user->uid != 0)
                return error_set(error, ERROR_ACCESS_DENIED, "Only root may do this.");
        return 0;
}

/* Whether anything can be begun now. */
static int check_service(const Manager *manager, Error *error) {
        if (manager->congested)
                return error_set(error, ERROR_LIMIT_EXCEEDED,
                        "The bus does not take the service's answers. Try again in a few seconds.");
        if (manager->stopping)
                return error_set(error, ERROR_CANCELED, "The service is stopping. Try again in a moment.");
        return 0;
}

/* What a handler returned, as a code that is set in error. */
static int put_into_words(int r, Error *error) {
        if (r == -ENOMEM)
                return error_set_no_memory(error);
        if (r < 0)
                return error_set_errno(error, ERROR_INVALID_ARGUMENTS, r, "The call cannot be read");
        return r;
}

void method_take(Manager *manager, sd_bus_message *message) {
        g_auto(Error) error = {};
        Caller *caller;

        if (check_service(manager, &error) != 0 || caller_of(manager, message, &caller, &error) != 0 ||
            inbox_add(caller, message, &error) != 0)
                manager_send_error(manager, message, &error);
}

static int call(Caller *caller, sd_bus_message *message, Error *error) {
        const Method *method = find_row(message);
        int r;

        if (!method)
                return error_set(error, ERROR_ACCESS_DENIED, "This method is not open to anyone.");
        if ((r = check_service(caller->manager, error)) != 0 || (r = authorize(method, caller, error)) != 0 ||
            (r = outbox_check(caller, error)) != 0)
                return r;
        return put_into_words(method->handler(caller->manager, caller, message, error), error);
}

void method_call(Caller *caller, sd_bus_message *message) {
        g_auto(Error) error = {};

        if (call(caller, message, &error) != 0)
                manager_send_error(caller->manager, message, &error);
}

int method_go_on(Caller *caller, sd_bus_message *message, bool others, const FrozenClass *class, void *frozen,
        Error *error) {
        const Method *method = find_row(message);

        if (!others || (method && method->access == ACCESS_OTHERS && caller->user->uid == 0))
                return class->go_on(caller, message, frozen, error);
        if (method && method->access == ACCESS_OTHERS)
                return polkit_ask(caller, message, class, frozen, error);

        class->free(frozen);
        return error_set(error, ERROR_ACCESS_DENIED, "This method is for what is your own.");
}

void method_resume(Caller *caller, sd_bus_message *message, const FrozenClass *class, void *frozen) {
        Manager *manager = caller->manager;
        g_auto(Error) error = {};
        int r;

        r = check_service(manager, &error);
        if (r != 0)
                class->free(frozen);
        else
                r = put_into_words(class->go_on(caller, message, frozen, &error), &error);
        if (r != 0)
                manager_send_error(manager, message, &error);
}

int method_dispatch(sd_bus_message *message, void *userdata, sd_bus_error *ret_error) {
        method_take(userdata, message);
        return 1;
}
