/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job.h"

#include "call.h"
#include "license.h"

G_DEFINE_FINAL_TYPE(Job, job, G_TYPE_OBJECT)

/* Status of the signals; dbus/org.licensevault1.Job.xml has them all. */
#define PROGRESS_BEGIN 21U
#define PROGRESS_PERCENT 16U
#define PROGRESS_CONNECTING 28U
#define PROGRESS_NEEDS_CONSENT 25U

#define NOT_RUNNING "The license service is not running. Try again once it runs."
#define NOT_UNDERSTOOD "The license service said something that is not understood here."

enum { SIGNAL_PROGRESS, SIGNAL_ENDED, N_SIGNALS };
static guint signals[N_SIGNALS];

/* A signal that came before the answer that names the job. */
typedef struct Early {
        char *sender, *path, *member;
        GVariant *arguments;
} Early;

static void early_free(Early *early) {
        g_free(early->sender);
        g_free(early->path);
        g_free(early->member);
        g_variant_unref(early->arguments);
        g_free(early);
}

static void stop_listening(Job *job) {
        if (job->subscription > 0)
                g_dbus_connection_signal_unsubscribe(job->bus, job->subscription);
        if (job->watch > 0)
                g_bus_unwatch_name(job->watch);
        job->subscription = job->watch = 0;
}

static void end(Job *job) {
        /* Listening has references, which may be the last ones. */
        g_object_ref(job);
        job->ended = true;
        stop_listening(job);
        g_signal_emit(job, signals[SIGNAL_ENDED], 0);
        g_object_unref(job);
}

static void fail(Job *job, const char *error, const char *message) {
        job->error = g_strdup(error);
        job->message = g_strdup(message);
        end(job);
}

/* Who it left out is told while the service keeps the job, for a minute. */
static void list_named(Job *job);

static void on_named(GObject *bus, GAsyncResult *result, gpointer data) {
        g_autoptr(Job) job = data;
        g_autoptr(GVariant) answer = call_service_finish(result, NULL, NULL);
        g_autoptr(GVariantIter) licenses = NULL;
        const char *id, *title;
        guint before = job->named->len;

        /* The job is done, and counts them; names that do not come are no reason to call it failed. */
        if (answer && g_variant_is_of_type(answer, G_VARIANT_TYPE("(a(sss))"))) {
                g_variant_get(answer, "(a(sss))", &licenses);
                while (g_variant_iter_next(licenses, "(&s&s&s)", &id, NULL, &title))
                        g_ptr_array_add(job->named, text_of_others(*title ? title : id));
        }

        if (job->named->len > before && job->named->len < NAMED_MAX) {
                list_named(job);
                return;
        }

        /* All is known: the service need not keep it. */
        call_service(job->bus, job->service, job->path, "Job.Release", NULL, -1, NULL, NULL, NULL);
        end(job);
}

static void list_named(Job *job) {
        call_service(job->bus, job->service, job->path, "Job.ListRestricted",
                g_variant_new("(uu)", job->named->len, NAMED_MAX - job->named->len), -1, NULL, on_named,
                g_object_ref(job));
}

static void on_progress(Job *job, GVariant *arguments) {
        g_autoptr(GVariant) value = NULL;
        guint32 status;

        if (!g_variant_is_of_type(arguments, G_VARIANT_TYPE("(uittv)")))
                return;
        g_variant_get(arguments, "(uittv)", &status, NULL, &job->completed, &job->total, &value);

        switch (status) {
        case PROGRESS_BEGIN:
        case PROGRESS_PERCENT:
                job->begun = true;
                break;
        case PROGRESS_CONNECTING:
        case PROGRESS_NEEDS_CONSENT:
                if (g_variant_is_of_type(value, G_VARIANT_TYPE_STRING)) {
                        g_free(job->origin);
                        job->origin = text_of_others(g_variant_get_string(value, NULL));
                }
                break;
        default:
                /* What a later service may say besides changes nothing here. */
                break;
        }
        g_signal_emit(job, signals[SIGNAL_PROGRESS], 0);
}

static void on_done(Job *job, GVariant *arguments) {
        const char *error, *message;
        gint32 hresult;

        if (!g_variant_is_of_type(arguments, G_VARIANT_TYPE("(uissa{sv})"))) {
                fail(job, ERROR_LOST, NOT_UNDERSTOOD);
                return;
        }
        g_variant_get(arguments, "(ui&s&s@a{sv})", NULL, &hresult, &error, &message, &job->result);

        if (hresult < 0)
                fail(job, error, message);
        else if (job_count(job, "restricted") > 0 || job_count(job, "conflicts") > 0)
                list_named(job);
        else {
                call_service(job->bus, job->service, job->path, "Job.Release", NULL, -1, NULL, NULL, NULL);
                end(job);
        }
}

/* Anyone can send a signal that looks like one of the job: it counts from whom answered our call. */
static void take_signal(Job *job, const char *sender, const char *path, const char *member, GVariant *arguments) {
        if (job->result || job->ended || g_strcmp0(sender, job->service) != 0 || g_strcmp0(path, job->path) != 0)
                return;

        if (g_str_equal(member, "Progress"))
                on_progress(job, arguments);
        else if (g_str_equal(member, "Done"))
                on_done(job, arguments);
}

static void on_signal(GDBusConnection *bus, const char *sender, const char *path, const char *interface,
        const char *member, GVariant *arguments, gpointer data) {
        Job *job = data;

        if (job->path) {
                take_signal(job, sender, path, member, arguments);
                return;
        }

        Early *early = g_new(Early, 1);
        *early = (Early) { g_strdup(sender), g_strdup(path), g_strdup(member), g_variant_ref(arguments) };
        g_queue_push_tail(&job->early, early);
}

static void lose(Job *job, const char *owner) {
        /* Before the answer the bus answers for a service that went. */
        if (!job->ended && !job->result && job->service && g_strcmp0(owner, job->service) != 0)
                fail(job, ERROR_LOST, "The license service stopped while it worked. Try again once it runs.");
}

static void on_owner(GDBusConnection *bus, const char *name, const char *owner, gpointer data) {
        lose(data, owner);
}

static void on_no_owner(GDBusConnection *bus, const char *name, gpointer data) {
        lose(data, NULL);
}

static void on_started(GObject *bus, GAsyncResult *result, gpointer data) {
        g_autoptr(Job) job = data;
        g_autoptr(GError) error = NULL;
        g_autoptr(GVariant) answer = call_service_finish(result, &job->service, &error);

        if (!answer) {
                g_autofree char *name = call_split_error(error);
                fail(job, name ?: ERROR_LOST, call_is_unanswered(error) ? NOT_RUNNING : error->message);
                return;
        }

        if (!g_variant_is_of_type(answer, G_VARIANT_TYPE("(o)"))) {
                fail(job, ERROR_LOST, NOT_UNDERSTOOD);
                return;
        }
        g_variant_get(answer, "(o)", &job->path);
        if (job->cancel_wanted)
                job_cancel(job);
        for (Early *early; (early = g_queue_pop_head(&job->early)); early_free(early))
                take_signal(job, early->sender, early->path, early->member, early->arguments);
}

static Job *job_new(GDBusConnection *bus, const char *member, int fd, guint32 flags) {
        Job *job = g_object_new(JOB_TYPE, NULL);

        job->bus = g_object_ref(bus);
        /*
         * Before the call, or signals were missed. They are sent to us alone, and need no match rule; with one, what
         * others broadcast would come, too.
         */
        job->subscription = g_dbus_connection_signal_subscribe(bus, NULL, SERVICE_NAME ".Job", NULL, NULL, NULL,
                G_DBUS_SIGNAL_FLAGS_NO_MATCH_RULE, on_signal, g_object_ref(job), g_object_unref);
        job->watch = g_bus_watch_name_on_connection(bus, SERVICE_NAME, G_BUS_NAME_WATCHER_FLAGS_NONE, on_owner,
                on_no_owner, g_object_ref(job), g_object_unref);
        call_service(bus, SERVICE_NAME, SERVICE_ROOT, member, g_variant_new("(hu@a{sv})", 0, flags,
                g_variant_new_array(G_VARIANT_TYPE("{sv}"), NULL, 0)), fd, NULL, on_started, g_object_ref(job));
        return job;
}

Job *job_new_backup(GDBusConnection *bus, int fd) {
        return job_new(bus, "LicenseBackup.BackupLicensesToFile", fd, 0);
}

Job *job_new_restore(GDBusConnection *bus, int fd, guint32 flags) {
        return job_new(bus, "LicenseRestore.RestoreLicensesFromFile", fd, flags);
}

void job_cancel(Job *job) {
        job->cancel_wanted = true;
        if (job->path && !job->ended)
                call_service(job->bus, job->service, job->path, "Job.Cancel", NULL, -1, NULL, NULL, NULL);
}

guint64 job_count(const Job *job, const char *name) {
        guint64 count = 0;

        if (job->result)
                g_variant_lookup(job->result, name, "t", &count);
        return count;
}

static void job_finalize(GObject *object) {
        Job *job = LICENSE_JOB(object);

        g_clear_object(&job->bus);
        g_queue_clear_full(&job->early, (GDestroyNotify)early_free);
        g_free(job->service);
        g_free(job->path);
        g_free(job->origin);
        g_free(job->error);
        g_free(job->message);
        g_clear_pointer(&job->result, g_variant_unref);
        g_ptr_array_unref(job->named);
        G_OBJECT_CLASS(job_parent_class)->finalize(object);
}

static void job_class_init(JobClass *class) {
        G_OBJECT_CLASS(class)->finalize = job_finalize;
        signals[SIGNAL_PROGRESS] = g_signal_new("progress", JOB_TYPE, G_SIGNAL_RUN_LAST, 0, NULL, NULL, NULL,
                G_TYPE_NONE, 0);
        signals[SIGNAL_ENDED] = g_signal_new("ended", JOB_TYPE, G_SIGNAL_RUN_LAST, 0, NULL, NULL, NULL, G_TYPE_NONE,
                0);
}

static void job_init(Job *job) {
        g_queue_init(&job->early);
        job->named = g_ptr_array_new_with_free_func(g_free);
}
