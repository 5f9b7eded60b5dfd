/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "polkit.h"

/*
 * The one table of methods: what it does not list is denied. A handler parses and checks everything,
 * then either replies, or hands the message on to a Request or a Job that will.
 */

typedef enum Access {
        ACCESS_OWN,    /* every user that may have licenses, for what is its own */
        ACCESS_OTHERS, /* the same; for what is others', root and whom polkit lets */
        ACCESS_ROOT,   /* root alone */
} Access;

/*
 * Returns 0 (the answer is sent, or will be), an ErrorCode that is set in error, or a negative errno of
 * a message that cannot be read.
 */
typedef int (*MethodHandler)(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);

typedef struct Method {
        const char *interface;
        const char *member;
        Access access;
        MethodHandler handler;
} Method;

/* Takes a call in; it is done when its caller's turn comes, and it is known who that is. */
void method_take(Manager *manager, sd_bus_message *message);
/* The turn has come: looks the method up, and calls its handler. */
void method_call(Caller *caller, sd_bus_message *message);

/* For SD_BUS_METHOD(); userdata is the Manager. */
int method_dispatch(sd_bus_message *message, void *userdata, sd_bus_error *ret_error);

/* A row of the table by name, NULL where there is none. */
const Method *method_find(const char *interface, const char *member);

/*
 * Whether sd-bus hands a call to method_dispatch(): a method of an object that is there, with its arguments. All others
 * it answers itself, with errors that repeat what the client sent.
 */
bool method_is_ours(sd_bus_message *call);

/*
 * The last step of the handler of a method with ACCESS_OTHERS: lets what it has read and checked go on, at
 * once where it is the caller's own or the caller is root, else when polkit says so. frozen is taken over,
 * also on failure.
 */
int method_go_on(Caller *caller, sd_bus_message *message, bool others, const FrozenClass *class, void *frozen,
        Error *error);

/* What polkit's yes leads to: goes on, and answers where that fails. Takes frozen over. */
void method_resume(Caller *caller, sd_bus_message *message, const FrozenClass *class, void *frozen);

/* The interfaces of our objects, each method of which the table above must list. */
typedef struct Interface {
        const char *name;
        const sd_bus_vtable *vtable;
} Interface;

extern const Interface root_interfaces[]; /* on the root object; the last one has no name */
extern const Interface job_interface;     /* on each job */

/* The handlers, by the file they are in. */

/* bus-manager.c */
extern const sd_bus_vtable manager_vtable[];
int method_subscribe(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_unsubscribe(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_list_jobs(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);

/* bus-owner.c */
int method_list_owners(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_reassign_licenses(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_purge_licenses(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);

/* bus-store.c */
extern const sd_bus_vtable store_vtable[];
int method_store_license(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_store_licenses(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_get_license(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_open_license(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_enumerate_licenses(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_consume_right(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_delete_license(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_revoke_license(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);

/* bus-backup.c */
extern const sd_bus_vtable backup_vtable[];
int method_backup_licenses(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_backup_licenses_to_file(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_open_backup(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_cancel_license_backup(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);

/* bus-restore.c */
extern const sd_bus_vtable restore_vtable[];
int method_restore_licenses(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_restore_licenses_from_file(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_cancel_license_restore(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_verify_backup(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);

/* bus-props.c */
extern const sd_bus_vtable props_vtable[];
int method_get_prop_count(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_get_prop_by_index(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_get_prop_by_name(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_set_prop(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_remove_prop(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_remove_all_props(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);

/* bus-job.c */
extern const sd_bus_vtable job_vtable[];
int method_job_cancel(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_job_wait(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_job_release(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_job_list_restricted(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_properties_get(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_properties_get_all(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
int method_properties_set(Manager *manager, Caller *caller, sd_bus_message *message, Error *error);
