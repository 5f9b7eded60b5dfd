/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "bus.h"
#include "dated.h"
#include "document.h"
#include "io.h"
#include "text.h"

/* A document takes more in a message than its bytes: its properties, and padding. */
#define OVERHEAD_BYTES 256U
#define READ_SIZE_MIN (64U * 1024)

static char *add_id, *add_title, *add_key_id, *add_issuer, *add_media_type, *add_not_before, *add_not_after;
static char **add_counters;
static gboolean add_no_backup, add_older;

const GOptionEntry add_options[] = {
        { "id", 0, 0, G_OPTION_ARG_FILENAME, &add_id, "The license's id, for a single file", "ID" },
        { "title", 0, 0, G_OPTION_ARG_FILENAME, &add_title, "What it is for", "TITLE" },
        { "key-id", 0, 0, G_OPTION_ARG_FILENAME, &add_key_id, "The id of its key", "ID" },
        { "issuer", 0, 0, G_OPTION_ARG_FILENAME, &add_issuer, "Who issued it", "ISSUER" },
        { "media-type", 0, 0, G_OPTION_ARG_FILENAME, &add_media_type, "The type of the document", "TYPE" },
        { "not-before", 0, 0, G_OPTION_ARG_STRING, &add_not_before,
                "Valid from then on: a date, ISO 8601, or Unix seconds", "TIME" },
        { "not-after", 0, 0, G_OPTION_ARG_STRING, &add_not_after, "Valid until then", "TIME" },
        { "counter", 0, 0, G_OPTION_ARG_STRING_ARRAY, &add_counters, "So many uses of a right; for each right once",
                "RIGHT=N" },
        { "no-backup", 0, 0, G_OPTION_ARG_NONE, &add_no_backup, "Leave it out of backups", NULL },
        { "older", 0, 0, G_OPTION_ARG_NONE, &add_older, "Also where the store has a newer document", NULL },
        {},
};

typedef struct Document {
        const char *file; /* borrowed */
        bool lcp;         /* says its name */
        uint8_t *data;
        size_t size;
        Dated dated;
} Document;

/* Of the files of one license, in all batches: that with the latest date, and that which was stored last. */
typedef struct Newest {
        const char *file, *stored; /* borrowed; stored is NULL until one is */
        int64_t date, stored_date;
} Newest;

typedef struct Batch {
        char **files; /* the next file to read */
        Document documents[STORE_DOCUMENTS_MAX];
        unsigned n;
        unsigned taken; /* how many files it was made of: n, and those that were left out */
        size_t bytes;
        Document ahead; /* read, but too large for this batch; file is NULL where there is none */
        GHashTable *newest; /* Newest, by license id */
        unsigned stored;    /* of all batches, as the next two */
        unsigned left_out;
        unsigned for_store; /* those of them that the store has a newer one of */
} Batch;

static void document_clear(Document *document) {
        g_free(document->dated.id);
        g_free(document->data);
        *document = (Document) {};
}

static void batch_empty(Batch *batch) {
        for (unsigned i = 0; i < batch->n; i++)
                document_clear(&batch->documents[i]);
        batch->n = 0;
        batch->taken = 0;
        batch->bytes = 0;
}

static Batch *batch_new(char **files) {
        Batch *batch = g_new0(Batch, 1);

        batch->files = files;
        batch->newest = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        return batch;
}

static Batch *batch_free(Batch *batch) {
        batch_empty(batch);
        document_clear(&batch->ahead);
        g_hash_table_unref(batch->newest);
        g_free(batch);
        return NULL;
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Batch, batch_free)

static const char *file_title(const char *file) {
        return strcmp(file, "-") == 0 ? "standard input" : file;
}

static bool is_lcp(const char *file) {
        size_t n = strlen(file);

        return n > 5 && g_ascii_strcasecmp(file + n - 5, ".lcpl") == 0;
}

/* Reads to the end, whatever fd is; a file may be longer than its size says, or a pipe. */
static Status read_all(Ctl *ctl, int fd, const char *file, Document *document) {
        size_t room = 0;

        for (;;) {
                ssize_t n;

                if (document->size == room) {
                        room = room ? 2 * room : READ_SIZE_MIN;
                        uint8_t *larger = g_try_realloc(document->data, room);
                        if (!larger)
                                return ctl_fail(ctl, STATUS_FAILED, "Not enough memory for '%s'.",
                                        file_title(file));
                        document->data = larger;
                }

                n = read(fd, document->data + document->size, room - document->size);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return ctl_fail_errno(ctl, -errno, "'%s' cannot be read", file_title(file));
                if (n == 0)
                        return STATUS_OK;

                document->size += (size_t)n;
                if (document->size + OVERHEAD_BYTES > STORE_BYTES_MAX)
                        return ctl_fail(ctl, STATUS_LIMIT, "'%s' is too large for a license.",
                                file_title(file));
        }
}

static const char *document_media_type(const Document *document) {
        return add_media_type ?: (document->lcp ? DOCUMENT_MEDIA_TYPE_LCP : NULL);
}

static Status read_document(Ctl *ctl, const char *file, Document *ret) {
        _cleanup_fd_ int opened = -1;
        int fd = STDIN_FILENO;
        Status status;

        if (strcmp(file, "-") != 0) {
                opened = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
                if (opened < 0)
                        return ctl_fail_errno(ctl, -errno, "'%s' cannot be opened", file);
                fd = opened;
        }

        *ret = (Document) { .file = file, .lcp = is_lcp(file) };
        status = read_all(ctl, fd, file, ret);
        if (status != STATUS_OK)
                return status;
        return dated_read(ctl, ret->data, ret->size, document_media_type(ret), file_title(file), &ret->dated);
}

/* Reads as many files as one call can take. */
static Status batch_fill(Ctl *ctl, Batch *batch) {
        while (batch->n < STORE_DOCUMENTS_MAX && (batch->ahead.file || *batch->files)) {
                if (!batch->ahead.file) {
                        Status status = read_document(ctl, *batch->files++, &batch->ahead);
                        if (status != STATUS_OK)
                                return status;
                }

                size_t bytes = batch->ahead.size + OVERHEAD_BYTES + strlen(add_title ?: "") +
                        strlen(add_key_id ?: "") + strlen(add_issuer ?: "");
                if (batch->n > 0 && batch->bytes + bytes > STORE_BYTES_MAX)
                        break;

                batch->bytes += bytes;
                batch->documents[batch->n++] = batch->ahead;
                batch->ahead = (Document) {};
        }
        batch->taken = batch->n;
        return STATUS_OK;
}

/* Of two with the same date, or without one, the last counts, as with the service. */
static void note_newest(Batch *batch, const Document *document) {
        const Dated *dated = &document->dated;
        Newest *newest;

        if (!dated->id)
                return;
        newest = g_hash_table_lookup(batch->newest, dated->id);
        if (!newest) {
                newest = g_new0(Newest, 1);
                newest->date = dated->date;
                g_hash_table_insert(batch->newest, g_strdup(dated->id), newest);
        }
        if (dated->date >= newest->date) {
                newest->date = dated->date;
                newest->file = document->file;
        }
}

/* newer is the file that is; NULL where it is what the store has. */
static void note_left_out(Ctl *ctl, Batch *batch, const Document *document, const char *newer) {
        g_autofree char *name = g_utf8_make_valid(document->file, -1);
        g_autofree char *newer_name = newer ? g_utf8_make_valid(newer, -1) : NULL;
        json_t *left_out = json_object_get(ctl->result, "left_out");

        if (newer)
                ctl_note(ctl, "'%s' is older than '%s', and was left out.", file_title(document->file),
                        file_title(newer));
        else
                ctl_note(ctl, "'%s' is older than what the store has of '%s', and was left out.",
                        file_title(document->file), document->dated.id);
        batch->left_out++;
        batch->for_store += !newer;

        if (!left_out)
                ctl_result(ctl, "left_out", left_out = json_array());
        (void)json_array_append_new(left_out, json_pack("{ss ss ss?}", "file", name, "license", document->dated.id,
                "newer", newer_name));
}

/* Whether a document would replace a newer one of its license, which nobody means who adds all of a folder. */
static Status is_older(Ctl *ctl, Batch *batch, const Document *document, bool *ret) {
        const Dated *dated = &document->dated;
        const Newest *newest;
        int64_t stored;
        Status status;

        /* A document that is not of the license that --id names the service refuses. */
        if (!dated->id || (add_id && strcmp(add_id, dated->id) != 0))
                return STATUS_OK;
        newest = g_hash_table_lookup(batch->newest, dated->id);
        *ret = dated->date < newest->date;
        if (*ret)
                note_left_out(ctl, batch, document, newest->file);
        if (*ret || add_older)
                return STATUS_OK;

        /* An app that stores a newer one at this very moment is replaced: the service itself takes any. */
        status = dated_ask(ctl, dated->id, file_title(document->file), &stored);
        if (status != STATUS_OK)
                return status;
        *ret = dated->date < stored;
        if (*ret)
                note_left_out(ctl, batch, document, NULL);
        return STATUS_OK;
}

/* Leaves out what is older than another file, or than what the store has. */
static Status batch_choose(Ctl *ctl, Batch *batch) {
        unsigned n = batch->n, kept = 0;
        Status status = STATUS_OK;

        for (unsigned i = 0; i < n; i++)
                note_newest(batch, &batch->documents[i]);
        for (unsigned i = 0; i < n; i++) {
                Document document = batch->documents[i];
                bool older = false;

                if (status == STATUS_OK)
                        status = is_older(ctl, batch, &document, &older);
                batch->documents[i] = (Document) {};
                if (older)
                        document_clear(&document);
                else
                        batch->documents[kept++] = document;
        }
        batch->n = kept;
        return status;
}

/* An older file may have been in a batch before. */
static void note_stored(Ctl *ctl, Batch *batch) {
        batch->stored += batch->n;
        for (unsigned i = 0; i < batch->n; i++) {
                const Document *document = &batch->documents[i];
                Newest *newest = document->dated.id ? g_hash_table_lookup(batch->newest, document->dated.id) : NULL;

                if (!newest)
                        continue;
                if (newest->stored && newest->stored_date < document->dated.date)
                        ctl_note(ctl, "'%s' is older than '%s', and was replaced.", file_title(newest->stored),
                                file_title(document->file));
                newest->stored = document->file;
                newest->stored_date = document->dated.date;
        }
}

static int append_string(sd_bus_message *call, const char *name, const char *value) {
        return value ? sd_bus_message_append(call, "{sv}", name, "s", value) : 0;
}

static int append_time(sd_bus_message *call, const char *name, const char *text) {
        uint64_t time = 0;

        return text && text_read_time(text, &time) ? sd_bus_message_append(call, "{sv}", name, "t", time) : 0;
}

/* RIGHT=N, taken apart (g_free); false where it is not that. What a right may be called, the service knows. */
static bool read_counter(const char *text, char **ret_right, uint64_t *ret_uses) {
        const char *equal = strrchr(text, '=');

        if (!equal || equal == text || !g_ascii_string_to_unsigned(equal + 1, 10, 0, INT64_MAX, ret_uses, NULL))
                return false;
        *ret_right = g_strndup(text, (size_t)(equal - text));
        return true;
}

static int append_counters(sd_bus_message *call) {
        int r;

        if (!add_counters)
                return 0;
        if ((r = sd_bus_message_open_container(call, 'e', "sv")) < 0 ||
            (r = sd_bus_message_append(call, "s", "Counters")) < 0 ||
            (r = sd_bus_message_open_container(call, 'v', "a{st}")) < 0 ||
            (r = sd_bus_message_open_container(call, 'a', "{st}")) < 0)
                return r;
        for (char **counter = add_counters; r >= 0 && *counter; counter++) {
                g_autofree char *right = NULL;
                uint64_t uses = 0;

                if (read_counter(*counter, &right, &uses))
                        r = sd_bus_message_append(call, "{st}", right, uses);
        }
        for (unsigned i = 0; r >= 0 && i < 3; i++)
                r = sd_bus_message_close_container(call);
        return r;
}

static int append_document(sd_bus_message *call, const Document *document) {
        int r;

        if ((r = sd_bus_message_append_array(call, 'y', document->data, document->size)) < 0 ||
            (r = sd_bus_message_open_container(call, 'a', "{sv}")) < 0 ||
            (r = append_string(call, "LicenseId", add_id)) < 0 ||
            (r = append_string(call, "Title", add_title)) < 0 ||
            (r = append_string(call, "KeyId", add_key_id)) < 0 ||
            (r = append_string(call, "Issuer", add_issuer)) < 0 ||
            (r = append_string(call, "MediaType", document_media_type(document))) < 0 ||
            (r = append_time(call, "NotBefore", add_not_before)) < 0 ||
            (r = append_time(call, "NotAfter", add_not_after)) < 0 ||
            (r = append_counters(call)) < 0 ||
            (r = add_no_backup ? sd_bus_message_append(call, "{sv}", "AllowBackup", "b", false) : 0) < 0)
                return r;

        return sd_bus_message_close_container(call);
}

static int append_documents(sd_bus_message *call, const Batch *batch) {
        int r;

        r = sd_bus_message_open_container(call, 'a', "(aya{sv})");
        for (unsigned i = 0; r >= 0 && i < batch->n; i++) {
                r = sd_bus_message_open_container(call, 'r', "aya{sv}");
                if (r >= 0)
                        r = append_document(call, &batch->documents[i]);
                if (r >= 0)
                        r = sd_bus_message_close_container(call);
        }
        return r < 0 ? r : sd_bus_message_close_container(call);
}

static void print_id(Ctl *ctl, const char *id) {
        /* Programs get it as it is, a terminal as it can stand it. */
        g_autofree char *safe = isatty(STDOUT_FILENO) ? text_safe(id) : NULL;

        (void)json_array_append_new(json_object_get(ctl->result, "licenses"), json_string(id));
        if (!ctl->json)
                puts(safe ?: id);
}

/* Reads an s, or an as. */
static Status read_ids(Ctl *ctl, sd_bus_message *reply, bool many) {
        const char *id;
        int r;

        if (many && sd_bus_message_enter_container(reply, 'a', "s") < 0)
                return bus_fail_parse(ctl);

        do {
                r = sd_bus_message_read_basic(reply, 's', &id);
                if (r > 0)
                        print_id(ctl, id);
        } while (many && r > 0);
        return r < 0 ? bus_fail_parse(ctl) : STATUS_OK;
}

/* How the service calls what an option has said, at the beginning of what is wrong with it. */
static const struct {
        const char *property;
        const char *option;
} properties[] = {
        { "LicenseId ", "--id" },
        { "KeyId ", "--key-id" },
        { "Title ", "--title" },
        { "Issuer ", "--issuer" },
        { "MediaType ", "--media-type" },
        { "NotBefore ", "--not-before" },
        { "NotAfter ", "--not-after" },
        { "Counter ", "--counter" },
};

/* What is wrong with an argument, which the command line calls otherwise (g_free). */
static char *name_option(const char *text) {
        /* It wants a LicenseId, which is how the bus calls it. */
        if (!add_id && strstr(text, "LicenseId"))
                return g_strdup("The document does not name its license. Add it by itself, with --id.");
        for (unsigned i = 0; i < G_N_ELEMENTS(properties); i++)
                if (g_str_has_prefix(text, properties[i].property))
                        return g_strdup_printf("%s %s", properties[i].option, text + strlen(properties[i].property));
        return g_strdup(text);
}

/*
 * The service counts the licenses of a call, "License 3 of 10: what is wrong"; people know files. Where
 * the message is not of that kind, it is told as it is.
 */
static Status fail_batch(Ctl *ctl, const Batch *batch, const sd_bus_error *error) {
        const char *file = batch->n == 1 ? batch->documents[0].file : NULL, *text = error->message ?: "";
        const char *reason = strstr(text, ": ");
        g_autofree char *named = NULL;
        unsigned n;

        if (batch->n > 1 && reason && sscanf(text, "License %u", &n) == 1 && n >= 1 && n <= batch->n) {
                file = batch->documents[n - 1].file;
                text = reason + strlen(": ");
        }

        if (error_from_name(error->name) == ERROR_INVALID_ARGUMENTS)
                named = name_option(text);
        return bus_fail_named(ctl, error->name, named ?: text, file ? file_title(file) : NULL);
}

static Status batch_send(Ctl *ctl, const Batch *batch) {
        __attribute__((cleanup(sd_bus_message_unrefp))) sd_bus_message *call = NULL, *reply = NULL;
        __attribute__((cleanup(sd_bus_error_free))) sd_bus_error error = SD_BUS_ERROR_NULL;
        bool many = batch->n > 1;
        Status status;
        int r;

        status = bus_call_new(ctl, BUS_STORE, many ? "StoreLicenses" : "StoreLicense", &call, NULL);
        if (status != STATUS_OK)
                return status;

        r = many ? append_documents(call, batch) : append_document(call, &batch->documents[0]);
        if (r < 0)
                return bus_fail_build(ctl, r);

        if (!bus_try_call(ctl, call, &error, &reply))
                return fail_batch(ctl, batch, &error);
        return read_ids(ctl, reply, many);
}

static Status check_time(Ctl *ctl, const char *text) {
        uint64_t time;

        if (!text || text_read_time(text, &time))
                return STATUS_OK;
        return ctl_fail(ctl, STATUS_USAGE,
                "'%s' is not a time. Write it as 2031-05-06, 2031-05-06T12:00:00Z, or in Unix seconds.", text);
}

static Status check_options(Ctl *ctl, char **files) {
        Status status;

        for (char **counter = add_counters; counter && *counter; counter++) {
                g_autofree char *right = NULL;
                uint64_t uses;

                if (!read_counter(*counter, &right, &uses))
                        return ctl_fail(ctl, STATUS_USAGE, "'%s' is not RIGHT=N, such as print=10.", *counter);
        }

        if (add_id && files[1])
                return ctl_fail(ctl, STATUS_USAGE, "--id is for a single file. Add the files one by one.");

        if ((status = bus_check_string(ctl, "The id", add_id)) != STATUS_OK ||
            (status = bus_check_string(ctl, "The title", add_title)) != STATUS_OK ||
            (status = bus_check_string(ctl, "The key id", add_key_id)) != STATUS_OK ||
            (status = bus_check_string(ctl, "The media type", add_media_type)) != STATUS_OK ||
            (status = check_time(ctl, add_not_before)) != STATUS_OK ||
            (status = check_time(ctl, add_not_after)) != STATUS_OK)
                return status;
        return bus_check_string(ctl, "The issuer", add_issuer);
}

static void note_unfinished(Ctl *ctl, const Batch *batch, unsigned done, unsigned total) {
        if (batch->stored == 0)
                ctl_note(ctl, "None of the licenses was stored.");
        else
                ctl_note(ctl, "Of the %u files the first %u were stored%s, the others were not.", total, done,
                        batch->left_out > 0 ? ", or left out" : "");
}

Status command_add(Ctl *ctl, char **arguments) {
        g_autoptr(Batch) batch = batch_new(arguments);
        unsigned done = 0, total = g_strv_length(arguments);
        Status status;

        status = check_options(ctl, arguments);
        if (status != STATUS_OK)
                return status;

        ctl_result(ctl, "licenses", json_array());

        while (status == STATUS_OK && done < total) {
                status = batch_fill(ctl, batch);
                if (status == STATUS_OK)
                        status = batch_choose(ctl, batch);
                if (status == STATUS_OK && batch->n > 0)
                        status = batch_send(ctl, batch);
                if (status == STATUS_OK) {
                        note_stored(ctl, batch);
                        done += batch->taken;
                }
                batch_empty(batch);
        }

        if (batch->for_store > 0) {
                const char *what = batch->for_store == 1 ? "it" : "them";
                ctl_note(ctl, "To store %s nonetheless, add %s again with --older.", what, what);
        }
        if (status != STATUS_OK && total > 1)
                note_unfinished(ctl, batch, done, total);

        Status flushed = ctl_flush(ctl);
        return status != STATUS_OK ? status : flushed;
}
