/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Stores a license, then backs up all licenses of the user to a file, with sd-bus.
 *
 *     cc -o backup-sd-bus backup-sd-bus.c $(pkg-config --cflags --libs libsystemd)
 *     ./backup-sd-bus LICENSE BACKUP
 *
 * It ends with 0 when the backup is complete and verified, 1 when something was refused or failed, 2 when it was
 * called wrongly, 3 when the service is not there or went away (try again), and 4 when it was canceled.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#define NAME "org.licensevault1"
#define ROOT "/org/licensevault1"
#define DOCUMENT_SIZE_MAX (16U * 1024 * 1024) /* the service takes no larger ones, and by default 1 MiB */

#define cleanup(function) __attribute__((cleanup(function)))

enum { DONE, FAILED, USAGE, GONE, CANCELED };
enum { BEGIN = 21, PERCENT = 16 }; /* what a Progress tells; others are passed over */

typedef struct Backup {
        sd_bus *bus;
        sd_event *event;
        char *service;      /* the unique name of who answered us: nobody else is believed */
        char *job;
        const char *file;
        int status;         /* -1 as long as the job runs */
        bool interrupted;
        uint64_t licenses, restricted, bytes;
} Backup;

static int fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int fail(int status, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        fputs("backup-sd-bus: ", stderr);
        vfprintf(stderr, format, arguments);
        fputc('\n', stderr);
        va_end(arguments);
        return status;
}

/* The name of an error is for programs, its message for people: it says what failed and what to do next. */
static int fail_named(const char *name, const char *message) {
        static const char *const gone[] = {
                SD_BUS_ERROR_SERVICE_UNKNOWN, SD_BUS_ERROR_NAME_HAS_NO_OWNER, SD_BUS_ERROR_NO_REPLY,
                SD_BUS_ERROR_DISCONNECTED, SD_BUS_ERROR_TIMEOUT, "org.freedesktop.DBus.Error.Spawn.",
                "org.freedesktop.systemd1.", "System.Error." /* of sd-bus itself, about the connection */
        };

        for (size_t i = 0; i < sizeof gone / sizeof *gone; i++)
                if (strncmp(name, gone[i], strlen(gone[i])) == 0)
                        return fail(GONE, "The license service is not there, or went away: %s", message);
        if (strcmp(name, NAME ".Error.NS_E_DRM_OPERATION_CANCELED") == 0)
                return fail(CANCELED, "%s", message);
        return fail(FAILED, "%s", message);
}

static int fail_call(const sd_bus_error *error, int r) {
        if (!error->name)
                return fail(FAILED, "The call could not be made: %s", strerror(-r));
        return fail_named(error->name, error->message ? error->message : error->name);
}

/* How many bytes of UTF-8 make a control character, or one that turns the direction of writing; 0 for another. */
static size_t control_size(const unsigned char *c) {
        return *c < ' ' || *c == 0x7f ? 1 :
                c[0] == 0xc2 && c[1] < 0xa0 ? 2 :
                c[0] == 0xe2 && c[1] == 0x80 && c[2] >= 0xaa && c[2] <= 0xae ? 3 : 0;
}

/* A title comes from a document, and a document from anywhere: it must not steer the terminal. */
static void print_title(const char *title) {
        size_t size;

        for (const unsigned char *c = (const unsigned char *)title; *c; c += size > 0 ? size : 1) {
                size = control_size(c);
                putchar(size > 0 ? '?' : *c);
        }
}

/* Stores the document, and learns from the answer who the service is. The bus starts it if need be. */
static int store(Backup *backup, const void *document, size_t size) {
        cleanup(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        cleanup(sd_bus_message_unrefp) sd_bus_message *call = NULL, *reply = NULL;
        const char *id;
        int r;

        /* An LCP license says all this of itself; a license that only the app can read needs an id at least. */
        if ((r = sd_bus_message_new_method_call(backup->bus, &call, NAME, ROOT, NAME ".LicenseStore",
                    "StoreLicense")) < 0 ||
            (r = sd_bus_message_append_array(call, 'y', document, size)) < 0 ||
            (r = sd_bus_message_append(call, "a{sv}", 2,
                    "LicenseId", "s", "org.example.Editor", "Title", "s", "Example Editor")) < 0 ||
            (r = sd_bus_call(backup->bus, call, 0, &error, &reply)) < 0 ||
            (r = sd_bus_message_read(reply, "s", &id)) < 0)
                return fail_call(&error, r);

        backup->service = strdup(sd_bus_message_get_sender(reply));
        if (!backup->service)
                return fail(FAILED, "Out of memory");
        printf("Stored the license %s.\n", id);
        return DONE;
}

static int read_result(Backup *backup, sd_bus_message *done) {
        const char *key;
        int r;

        if ((r = sd_bus_message_enter_container(done, 'a', "{sv}")) < 0)
                return r;
        while ((r = sd_bus_message_enter_container(done, 'e', "sv")) > 0) {
                uint64_t *number;

                if ((r = sd_bus_message_read(done, "s", &key)) < 0)
                        return r;
                number = strcmp(key, "licenses") == 0 ? &backup->licenses :
                        strcmp(key, "restricted") == 0 ? &backup->restricted :
                        strcmp(key, "bytes") == 0 ? &backup->bytes : NULL;
                r = number ? sd_bus_message_read(done, "v", "t", number) : sd_bus_message_skip(done, "v");
                if (r < 0 || (r = sd_bus_message_exit_container(done)) < 0)
                        return r;
        }
        return r;
}

static int on_done(Backup *backup, sd_bus_message *signal) {
        const char *error, *message;
        int32_t hresult;
        uint32_t status;
        int r;

        if ((r = sd_bus_message_read(signal, "uiss", &status, &hresult, &error, &message)) < 0 ||
            (r = read_result(backup, signal)) < 0)
                backup->status = fail(FAILED, "The service's answer makes no sense: %s", strerror(-r));
        else
                backup->status = hresult < 0 ? fail_named(error, message) : DONE;
        return 0;
}

static int on_progress(sd_bus_message *signal) {
        uint64_t completed, total;
        uint32_t status, percent;
        int32_t hresult;

        if (sd_bus_message_read(signal, "uitt", &status, &hresult, &completed, &total) < 0)
                return 0;
        if (status == BEGIN)
                printf("Backing up %" PRIu64 " licenses\n", total);
        else if (status == PERCENT && sd_bus_message_read(signal, "v", "u", &percent) >= 0)
                printf("%" PRIu32 " %%\n", percent);
        fflush(stdout);
        return 0;
}

static int on_job_signal(sd_bus_message *signal, void *userdata, sd_bus_error *ret_error) {
        Backup *backup = userdata;

        (void)ret_error;
        /* Another job of ours, perhaps: the signals of all come here. */
        if (backup->status >= 0 || strcmp(sd_bus_message_get_path(signal), backup->job) != 0)
                return 0;
        return sd_bus_message_is_signal(signal, NAME ".Job", "Done") ? on_done(backup, signal) :
                sd_bus_message_is_signal(signal, NAME ".Job", "Progress") ? on_progress(signal) : 0;
}

/*
 * A job dies with its service: no Done will come. The sender is looked at once more, for of a match whose sender is no
 * unique name sd-bus checks all but the sender, and anyone can send us such a signal.
 */
static int on_owner_changed(sd_bus_message *signal, void *userdata, sd_bus_error *ret_error) {
        const char *name, *old_owner, *new_owner;
        Backup *backup = userdata;

        (void)ret_error;
        if (backup->status < 0 && strcmp(sd_bus_message_get_sender(signal), "org.freedesktop.DBus") == 0 &&
            sd_bus_message_read(signal, "sss", &name, &old_owner, &new_owner) >= 0 &&
            strcmp(old_owner, backup->service) == 0)
                backup->status = fail(GONE, "The license service went away before the backup was done. "
                        "The licenses are as they were; try again.");
        return 0;
}

static int on_disconnected(sd_bus_message *signal, void *userdata, sd_bus_error *ret_error) {
        Backup *backup = userdata;

        (void)signal, (void)ret_error;
        if (backup->status < 0)
                backup->status = fail(GONE, "The connection to the system bus was lost; try again.");
        return 0;
}

/* Cancel() asks; what became of the job shows in Done. */
static int on_interrupt(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
        Backup *backup = userdata;

        (void)source, (void)info;
        if (backup->interrupted) {
                backup->status = fail(CANCELED, "Left before the backup was done.");
                return 0;
        }
        backup->interrupted = true;
        fputs("Canceling. Press Ctrl-C again to leave at once.\n", stderr);
        (void)sd_bus_call_method_async(backup->bus, NULL, backup->service, backup->job, NAME ".Job", "Cancel", NULL,
                NULL, NULL);
        return 0;
}

/* What is said during a call waits in the queue of sd-bus, if there is a match for it already. */
static int listen_first(Backup *backup) {
        sigset_t signals;
        int r;

        sigemptyset(&signals);
        sigaddset(&signals, SIGINT);
        sigaddset(&signals, SIGTERM);
        sigprocmask(SIG_BLOCK, &signals, NULL);

        if ((r = sd_event_default(&backup->event)) < 0 ||
            (r = sd_bus_attach_event(backup->bus, backup->event, SD_EVENT_PRIORITY_NORMAL)) < 0 ||
            (r = sd_event_add_signal(backup->event, NULL, SIGINT, on_interrupt, backup)) < 0 ||
            (r = sd_event_add_signal(backup->event, NULL, SIGTERM, on_interrupt, backup)) < 0 ||
            (r = sd_bus_add_match(backup->bus, NULL, "type='signal',sender='org.freedesktop.DBus',"
                    "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" NAME "'",
                    on_owner_changed, backup)) < 0 ||
            (r = sd_bus_match_signal(backup->bus, NULL, NULL, "/org/freedesktop/DBus/Local",
                    "org.freedesktop.DBus.Local", "Disconnected", on_disconnected, backup)) < 0)
                return fail(GONE, "Cannot listen to the bus: %s", strerror(-r));
        return DONE;
}

/*
 * Starts the job, and stays with it to its end. Signals of a job are unicast, and anyone can send such a signal: the
 * match takes those of our service alone. It stands before the call, for a match sees nothing that came before it.
 *
 * The call goes to the unique name, not to org.licensevault1: should another service have taken that over meanwhile,
 * the bus says so.
 */
static int back_up(Backup *backup, int fd) {
        cleanup(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        cleanup(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *job;
        int r;

        if ((r = sd_bus_match_signal(backup->bus, NULL, backup->service, NULL, NAME ".Job", NULL,
                    on_job_signal, backup)) < 0 ||
            (r = sd_bus_call_method(backup->bus, backup->service, ROOT, NAME ".LicenseBackup",
                    "BackupLicensesToFile", &error, &reply, "hua{sv}", fd, 0, 0)) < 0 ||
            (r = sd_bus_message_read(reply, "o", &job)) < 0)
                return fail_call(&error, r);
        backup->job = strdup(job);
        if (!backup->job)
                return fail(FAILED, "Out of memory");

        backup->status = -1;
        while (backup->status < 0)
                if ((r = sd_event_run(backup->event, UINT64_MAX)) < 0)
                        return fail(FAILED, "Cannot wait for the backup: %s", strerror(-r));
        return backup->status;
}

/* The job keeps the list for a minute. If that is missed, NOT-BACKED-UP.txt in the backup has it, too. */
static void print_restricted(const Backup *backup) {
        const char *license, *key, *title;
        uint32_t offset = 0, listed = 0;

        if (backup->restricted == 0)
                return;
        printf("May not be backed up (ask who issued them for new ones): %" PRIu64 "\n", backup->restricted);
        do {
                cleanup(sd_bus_message_unrefp) sd_bus_message *reply = NULL;

                if (sd_bus_call_method(backup->bus, backup->service, backup->job, NAME ".Job", "ListRestricted",
                            NULL, &reply, "uu", offset, 0) < 0 ||
                    sd_bus_message_enter_container(reply, 'a', "(sss)") < 0) {
                        printf("  NOT-BACKED-UP.txt in the backup names them.\n");
                        return;
                }
                for (listed = 0; sd_bus_message_read(reply, "(sss)", &license, &key, &title) > 0; listed++) {
                        printf("  ");
                        print_title(*title ? title : license);
                        putchar('\n');
                }
                offset += listed;
        } while (listed > 0);
}

/* A new file, or one that is there. Of those the service takes an empty one or a pipe, so nothing is overwritten. */
static int open_target(const char *file, bool *ret_created) {
        int fd = open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

        *ret_created = fd >= 0;
        return fd < 0 && errno == EEXIST ? open(file, O_RDWR | O_CLOEXEC) : fd;
}

/* The service has synced the file's content. Its name is in the folder, which is ours. */
static void sync_folder(const char *file) {
        char *copy = strdup(file);
        int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

        /* Some file systems, such as Flatpak's document portal, cannot: then there is no more to do. */
        if (fd >= 0) {
                (void)fsync(fd);
                close(fd);
        }
        free(copy);
}

static int back_up_to(Backup *backup, const char *file) {
        bool created;
        int fd, status;

        fd = open_target(file, &created);
        if (fd < 0)
                return fail(FAILED, "%s: %s", file, strerror(errno));
        status = back_up(backup, fd);
        close(fd);

        if (status != DONE) {
                /* What is in it is no backup. */
                if (created)
                        unlink(file);
                return status;
        }
        if (created)
                sync_folder(file);
        printf("Backed up %" PRIu64 " licenses to %s (%" PRIu64 " bytes), read back and verified.\n",
                backup->licenses, file, backup->bytes);
        print_restricted(backup);
        return DONE;
}

int main(int argc, char **argv) {
        static char document[DOCUMENT_SIZE_MAX];
        Backup backup = { 0 };
        size_t size = 0;
        FILE *license;
        int r, status;

        if (argc != 3)
                return fail(USAGE, "Usage: backup-sd-bus LICENSE BACKUP");
        license = fopen(argv[1], "re");
        if (license)
                size = fread(document, 1, sizeof document, license);
        if (!license || ferror(license))
                return fail(FAILED, "%s: %s", argv[1], strerror(errno));
        if (fgetc(license) != EOF)
                return fail(FAILED, "%s is too large for a license.", argv[1]);
        fclose(license);

        r = sd_bus_open_system(&backup.bus);
        if (r < 0)
                return fail(GONE, "Cannot connect to the system bus: %s", strerror(-r));

        status = listen_first(&backup);
        if (status == DONE)
                status = store(&backup, document, size);
        if (status == DONE)
                status = back_up_to(&backup, argv[2]);

        sd_bus_flush_close_unref(backup.bus);
        sd_event_unref(backup.event);
        free(backup.service);
        free(backup.job);
        return status;
}
