/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Stores a license, then backs up all licenses of the user to a file, with GDBus.
 *
 *     cc -o backup-gdbus backup-gdbus.c $(pkg-config --cflags --libs gio-unix-2.0)
 *     ./backup-gdbus LICENSE BACKUP
 *
 * It ends with 0 when the backup is complete and verified, 1 when something was refused or failed, 2 when it was
 * called wrongly, 3 when the service is not there or went away (try again), and 4 when it was canceled.
 *
 * The calls wait for their answers, as fits a program of one page: all of them are quick but StoreLicense, which waits
 * for the disk. A program with windows takes g_dbus_connection_call() and the rest as it is.
 */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <unistd.h>

#include <gio/gio.h>
#include <gio/gunixfdlist.h>
#include <glib-unix.h>
#include <glib/gstdio.h>

#define NAME "org.licensevault1"
#define ROOT "/org/licensevault1"
#define BUS_ERROR "org.freedesktop.DBus.Error."

enum { DONE, FAILED, USAGE, GONE, CANCELED };
enum { BEGIN = 21, PERCENT = 16 }; /* what a Progress tells; others are passed over */

typedef struct Backup {
        GDBusConnection *bus;
        GMainLoop *loop;
        char *service; /* the unique name of who answered us: nobody else is believed */
        char *job;
        int status;    /* -1 as long as the job runs */
        gboolean interrupted;
        guint64 licenses, restricted, bytes;
} Backup;

static int fail(int status, const char *format, ...) G_GNUC_PRINTF(2, 3);

static int fail(int status, const char *format, ...) {
        g_autofree char *message = NULL;
        va_list arguments;

        va_start(arguments, format);
        message = g_strdup_vprintf(format, arguments);
        va_end(arguments);
        g_printerr("backup-gdbus: %s\n", message);
        return status;
}

/* The name of an error is for programs, its message for people: it says what failed and what to do next. */
static int fail_named(const char *name, const char *message) {
        static const char *const gone[] = {
                BUS_ERROR "ServiceUnknown", BUS_ERROR "NameHasNoOwner", BUS_ERROR "NoReply", BUS_ERROR "Disconnected",
                BUS_ERROR "Timeout", BUS_ERROR "Spawn.", "org.freedesktop.systemd1.",
        };

        for (gsize i = 0; i < G_N_ELEMENTS(gone); i++)
                if (g_str_has_prefix(name, gone[i]))
                        return fail(GONE, "The license service is not there, or went away: %s", message);
        if (g_str_equal(name, NAME ".Error.NS_E_DRM_OPERATION_CANCELED"))
                return fail(CANCELED, "%s", message);
        return fail(FAILED, "%s", message);
}

/* GLib puts the name before the message: it is read, and taken off again. */
static int fail_call(GError *error) {
        g_autofree char *name = g_dbus_error_get_remote_error(error);

        /* Without a name no answer came: none in time, or the connection is closed. */
        if (!name)
                return fail(GONE, "The license service cannot be reached: %s", error->message);
        g_dbus_error_strip_remote_error(error);
        return fail_named(name, error->message);
}

/* A title comes from a document, and a document from anywhere: it must not steer the terminal. */
static void print_title(const char *title) {
        for (const char *c = title; *c; c = g_utf8_next_char(c))
                if (g_unichar_isprint(g_utf8_get_char(c)))
                        g_print("%.*s", (int)(g_utf8_next_char(c) - c), c);
                else
                        g_print("?");
}

static GVariant *call(Backup *backup, const char *service, const char *object, const char *interface,
        const char *method, GVariant *arguments, GUnixFDList *descriptors, const char *type, GError **error) {
        return g_dbus_connection_call_with_unix_fd_list_sync(backup->bus, service, object, interface, method, arguments,
                G_VARIANT_TYPE(type), G_DBUS_CALL_FLAGS_NONE, -1, descriptors, NULL, NULL, error);
}

/* Stores the document. The bus starts the service if need be. */
static int store(Backup *backup, const char *document, gsize size) {
        g_autoptr(GVariant) reply = NULL, owner = NULL;
        g_autoptr(GError) error = NULL;
        GVariantBuilder properties;
        const char *id;

        /* An LCP license says all this of itself; a license that only the app can read needs an id at least. */
        g_variant_builder_init(&properties, G_VARIANT_TYPE_VARDICT);
        g_variant_builder_add(&properties, "{sv}", "LicenseId", g_variant_new_string("org.example.Editor"));
        g_variant_builder_add(&properties, "{sv}", "Title", g_variant_new_string("Example Editor"));
        reply = call(backup, NAME, ROOT, NAME ".LicenseStore", "StoreLicense", g_variant_new("(@aya{sv})",
                g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, document, size, 1), &properties), NULL, "(s)", &error);
        if (!reply)
                return fail_call(error);
        g_variant_get(reply, "(&s)", &id);
        g_print("Stored the license %s.\n", id);

        /* From here on we speak with this one, by its unique name, which the bus never gives to anyone else. */
        owner = call(backup, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetNameOwner",
                g_variant_new("(s)", NAME), NULL, "(s)", &error);
        if (!owner)
                return fail_call(error);
        g_variant_get(owner, "(s)", &backup->service);
        return DONE;
}

static void leave(Backup *backup, int status) {
        backup->status = status;
        g_main_loop_quit(backup->loop);
}

static void on_done(Backup *backup, GVariant *arguments) {
        g_autoptr(GVariant) result = NULL;
        const char *error, *message;
        gint32 hresult;

        g_variant_get(arguments, "(ui&s&s@a{sv})", NULL, &hresult, &error, &message, &result);
        g_variant_lookup(result, "licenses", "t", &backup->licenses);
        g_variant_lookup(result, "restricted", "t", &backup->restricted);
        g_variant_lookup(result, "bytes", "t", &backup->bytes);
        leave(backup, hresult < 0 ? fail_named(error, message) : DONE);
}

static void on_progress(GVariant *arguments) {
        g_autoptr(GVariant) value = NULL;
        guint32 status;
        guint64 total;

        g_variant_get(arguments, "(uittv)", &status, NULL, NULL, &total, &value);
        if (status == BEGIN)
                g_print("Backing up %" G_GUINT64_FORMAT " licenses\n", total);
        else if (status == PERCENT && g_variant_is_of_type(value, G_VARIANT_TYPE_UINT32))
                g_print("%u %%\n", g_variant_get_uint32(value));
}

static void on_job_signal(GDBusConnection *bus, const char *sender, const char *object, const char *interface,
        const char *signal, GVariant *arguments, gpointer userdata) {
        Backup *backup = userdata;

        (void)bus, (void)sender, (void)interface;
        /* Another job of ours, perhaps: the signals of all come here. */
        if (backup->status >= 0 || g_strcmp0(object, backup->job) != 0)
                return;
        if (g_str_equal(signal, "Done") && g_variant_is_of_type(arguments, G_VARIANT_TYPE("(uissa{sv})")))
                on_done(backup, arguments);
        else if (g_str_equal(signal, "Progress") && g_variant_is_of_type(arguments, G_VARIANT_TYPE("(uittv)")))
                on_progress(arguments);
}

/* A job dies with its service: no Done will come. */
static void on_owner_changed(GDBusConnection *bus, const char *sender, const char *object, const char *interface,
        const char *signal, GVariant *arguments, gpointer userdata) {
        Backup *backup = userdata;
        const char *old_owner;

        (void)bus, (void)sender, (void)object, (void)interface, (void)signal;
        g_variant_get(arguments, "(&s&s&s)", NULL, &old_owner, NULL);
        if (backup->status < 0 && g_str_equal(old_owner, backup->service))
                leave(backup, fail(GONE, "The license service went away before the backup was done. "
                        "The licenses are as they were; try again."));
}

static void on_closed(GDBusConnection *bus, gboolean by_peer, GError *error, gpointer userdata) {
        Backup *backup = userdata;

        (void)bus, (void)by_peer, (void)error;
        if (backup->status < 0)
                leave(backup, fail(GONE, "The connection to the system bus was lost; try again."));
}

/* Cancel() asks; what became of the job shows in Done. */
static gboolean on_interrupt(gpointer userdata) {
        Backup *backup = userdata;

        if (backup->interrupted) {
                leave(backup, fail(CANCELED, "Left before the backup was done."));
                return G_SOURCE_CONTINUE;
        }
        backup->interrupted = TRUE;
        g_printerr("Canceling. Press Ctrl-C again to leave at once.\n");
        g_dbus_connection_call(backup->bus, backup->service, backup->job, NAME ".Job", "Cancel", NULL, NULL,
                G_DBUS_CALL_FLAGS_NONE, -1, NULL, NULL, NULL);
        return G_SOURCE_CONTINUE;
}

/*
 * Starts the job, and stays with it to its end. Everything that listens is there before the job is: GDBus throws away
 * a signal that nobody has asked for when it comes.
 *
 * Signals of a job are unicast, so no match rule is needed; and anyone can send such a signal. With the unique name as
 * the sender GDBus lets nothing else through. With NULL everything gets through; so it does with NAME in an old GLib
 * (CVE-2024-34397).
 */
static int back_up(Backup *backup, int fd) {
        g_autoptr(GUnixFDList) descriptors = g_unix_fd_list_new();
        g_autoptr(GVariant) reply = NULL;
        g_autoptr(GError) error = NULL;
        int index;

        g_unix_signal_add(SIGINT, on_interrupt, backup);
        g_unix_signal_add(SIGTERM, on_interrupt, backup);
        g_signal_connect(backup->bus, "closed", G_CALLBACK(on_closed), backup);
        g_dbus_connection_signal_subscribe(backup->bus, "org.freedesktop.DBus", "org.freedesktop.DBus",
                "NameOwnerChanged", "/org/freedesktop/DBus", NAME, G_DBUS_SIGNAL_FLAGS_NONE, on_owner_changed, backup,
                NULL);
        g_dbus_connection_signal_subscribe(backup->bus, backup->service, NAME ".Job", NULL, NULL, NULL,
                G_DBUS_SIGNAL_FLAGS_NO_MATCH_RULE, on_job_signal, backup, NULL);

        index = g_unix_fd_list_append(descriptors, fd, &error);
        if (index < 0)
                return fail(FAILED, "%s", error->message);
        /* To the unique name: had the service been started anew meanwhile, the bus would say so. */
        reply = call(backup, backup->service, ROOT, NAME ".LicenseBackup", "BackupLicensesToFile",
                g_variant_new("(hua{sv})", index, 0, NULL), descriptors, "(o)", &error);
        if (!reply)
                return fail_call(error);
        g_variant_get(reply, "(o)", &backup->job);

        backup->status = -1;
        g_main_loop_run(backup->loop);
        return backup->status;
}

/* The job keeps the list for a minute. If that is missed, NOT-BACKED-UP.txt in the backup has it, too. */
static void print_restricted(Backup *backup) {
        guint32 offset = 0, listed = 0;

        if (backup->restricted == 0)
                return;
        g_print("May not be backed up (ask who issued them for new ones): %" G_GUINT64_FORMAT "\n", backup->restricted);
        do {
                g_autoptr(GVariant) reply = call(backup, backup->service, backup->job, NAME ".Job", "ListRestricted",
                        g_variant_new("(uu)", offset, 0), NULL, "(a(sss))", NULL);
                g_autoptr(GVariantIter) licenses = NULL;
                const char *license, *title;

                if (!reply) {
                        g_print("  NOT-BACKED-UP.txt in the backup names them.\n");
                        return;
                }
                g_variant_get(reply, "(a(sss))", &licenses);
                for (listed = 0; g_variant_iter_next(licenses, "(&s&s&s)", &license, NULL, &title); listed++) {
                        g_print("  ");
                        print_title(*title ? title : license);
                        g_print("\n");
                }
                offset += listed;
        } while (listed > 0);
}

/* A new file, or one that is there. Of those the service takes an empty one or a pipe, so nothing is overwritten. */
static int open_target(const char *file, gboolean *ret_created) {
        int fd = g_open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

        *ret_created = fd >= 0;
        return fd < 0 && errno == EEXIST ? g_open(file, O_RDWR | O_CLOEXEC, 0) : fd;
}

/* The service has synced the file's content. Its name is in the folder, which is ours. */
static void sync_folder(const char *file) {
        g_autofree char *folder = g_path_get_dirname(file);
        int fd = g_open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);

        /* Some file systems, such as Flatpak's document portal, cannot: then there is no more to do. */
        if (fd >= 0) {
                (void)fsync(fd);
                g_close(fd, NULL);
        }
}

static int back_up_to(Backup *backup, const char *file) {
        gboolean created;
        int fd, status;

        fd = open_target(file, &created);
        if (fd < 0)
                return fail(FAILED, "%s: %s", file, g_strerror(errno));
        status = back_up(backup, fd);
        g_close(fd, NULL);

        if (status != DONE) {
                /* What is in it is no backup. */
                if (created)
                        g_unlink(file);
                return status;
        }
        if (created)
                sync_folder(file);
        g_print("Backed up %" G_GUINT64_FORMAT " licenses to %s (%" G_GUINT64_FORMAT " bytes), "
                "read back and verified.\n", backup->licenses, file, backup->bytes);
        print_restricted(backup);
        return DONE;
}

int main(int argc, char **argv) {
        g_autofree char *document = NULL;
        g_autoptr(GError) error = NULL;
        Backup backup = { 0 };
        gsize size;
        int status;

        setlocale(LC_ALL, "");
        if (argc != 3)
                return fail(USAGE, "Usage: backup-gdbus LICENSE BACKUP");
        if (!g_file_get_contents(argv[1], &document, &size, &error))
                return fail(FAILED, "%s", error->message);

        backup.bus = g_bus_get_sync(G_BUS_TYPE_SYSTEM, NULL, &error);
        if (!backup.bus)
                return fail(GONE, "Cannot connect to the system bus: %s", error->message);
        /* Otherwise GLib ends the program by SIGTERM where the bus is lost, whatever it was about. */
        g_dbus_connection_set_exit_on_close(backup.bus, FALSE);
        backup.loop = g_main_loop_new(NULL, FALSE);

        status = store(&backup, document, size);
        if (status == DONE)
                status = back_up_to(&backup, argv[2]);

        g_main_loop_unref(backup.loop);
        g_object_unref(backup.bus);
        g_free(backup.service);
        g_free(backup.job);
        return status;
}
