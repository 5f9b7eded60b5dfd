/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backup-read.h"
#include "document.h"
#include "fuzz.h"
#include "tar-model.h"

/*
 * What a backup says, as licenses. An input is as that of fuzz-archive: HEAD bytes of decisions, then a backup. What
 * the visitor is told keeps all limits, and a license is never wider than its document says by itself.
 */

#define HEAD 2U
#define DOCUMENT_MAX 4096U

int LLVMFuzzerInitialize(int *argc, char ***argv) {
        fuzz_prepare();
        return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
        if (size <= HEAD || seed % 32 == 0)
                return LLVMFuzzerMutate(data, size, max_size);
        return HEAD + tar_mutate(data + HEAD, size - HEAD, max_size - HEAD, seed);
}

typedef struct Reading {
        GString *text;
        bool all_users;
        bool steal;          /* the visitor keeps what it is told */
        unsigned refuse_at;  /* the call at which the visitor says no; 0: none */
        unsigned n_calls;
        uint64_t n_origins, n_states, n_licenses;
} Reading;

static int answer(Reading *reading, Error *error) {
        reading->n_calls++;
        return reading->n_calls == reading->refuse_at ? error_set(error, ERROR_NO_RIGHTS, "The visitor says so.") : 0;
}

static void check_text(const char *text) {
        FUZZ_CHECK(text && (!*text || license_string_is_valid(text)));
}

static void check_owner(const Reading *reading, const char *owner) {
        FUZZ_CHECK(reading->all_users == (owner != NULL));
        if (owner)
                check_text(owner);
}

static int on_origin(const BackupOrigin *origin, void *userdata, Error *error) {
        g_autofree char *whence = backup_origin_describe(origin);
        Reading *reading = userdata;

        FUZZ_CHECK(reading->n_origins++ == 0 && reading->n_states == 0 && reading->n_licenses == 0);
        check_text(origin->software);
        check_text(origin->created);
        check_text(origin->host);
        check_text(origin->machine);
        FUZZ_CHECK(origin->all_users == (origin->name == NULL));
        if (origin->name) {
                check_text(origin->name);
                FUZZ_CHECK(origin->uid != (uid_t)-1);
        }
        FUZZ_CHECK(origin->licenses <= INT64_MAX && origin->restricted <= INT64_MAX);
        FUZZ_CHECK(!*origin->epochs || store_epochs_are_valid(origin->epochs));
        FUZZ_CHECK(store_epochs_include(origin->epochs, origin->epochs));
        FUZZ_CHECK(*whence && license_text_is_valid(whence, strlen(whence)));
        reading->all_users = origin->all_users;
        g_string_append_printf(reading->text, "%s %s %s %u %s\n", origin->software, origin->created, origin->machine,
                (unsigned)origin->uid, whence);
        return answer(reading, error);
}

static int on_state(BackupState *state, void *userdata, Error *error) {
        g_autofree char *text = describe_license(&state->license);
        Reading *reading = userdata;

        FUZZ_CHECK(reading->n_origins == 1 && reading->n_licenses == 0);
        FUZZ_CHECK(state->line == ++reading->n_states);
        check_license(&state->license);
        FUZZ_CHECK(state->license.id && state->license.generation > 0);
        FUZZ_CHECK(state->revoked == LICENSE_NO_TIME || state->revoked >= 0);
        check_owner(reading, state->owner);
        g_string_append_printf(reading->text, "state %s %s %" PRIi64 "\n", state->owner ?: "-", text, state->revoked);
        if (reading->steal) {
                license_clear(&state->license);
                state->license = (License) {};
        }
        return answer(reading, error);
}

/* All that the document says by itself is there, and nothing of it is wider. */
static void check_bounds(const License *license, const void *document) {
        g_auto(License) said = {};
        g_auto(Error) error = {};

        license_init(&said);
        /* The caller's media type decides who reads it; it is kept. */
        FUZZ_CHECK(document_recognise(document, license->size, license->media_type, &said, &error) == 0);
        FUZZ_CHECK(!said.id || strcmp(said.id, license->id) == 0);
        FUZZ_CHECK(!said.issuer || g_strcmp0(said.issuer, license->issuer) == 0);
        FUZZ_CHECK(!said.title || g_strcmp0(said.title, license->title) == 0);
        FUZZ_CHECK(!said.media_type || g_strcmp0(said.media_type, license->media_type) == 0);
        FUZZ_CHECK(license->not_before >= said.not_before);
        FUZZ_CHECK(said.not_after == LICENSE_NO_TIME ||
                (license->not_after != LICENSE_NO_TIME && license->not_after <= said.not_after));
        FUZZ_CHECK(said.document_date == license->document_date);
        FUZZ_CHECK(memcmp(said.digest, license->digest, sizeof said.digest) == 0);
        for (unsigned i = 0; i < said.counters->len; i++) {
                const Counter *counter = &g_array_index(said.counters, Counter, i);
                const Counter *ours = license_find_counter(license, counter->right);

                FUZZ_CHECK(ours && ours->remaining <= counter->remaining);
        }
}

static int on_license(BackupLicense *license, void *userdata, Error *error) {
        g_autofree char *text = describe_license(&license->license);
        Reading *reading = userdata;

        FUZZ_CHECK(reading->n_origins == 1);
        reading->n_licenses++;
        FUZZ_CHECK(g_str_has_prefix(license->path, ARCHIVE_LICENSES));
        check_license(&license->license);
        FUZZ_CHECK(license->license.id && license->license.generation > 0 && license->license.size <= DOCUMENT_MAX);
        check_owner(reading, license->owner);
        check_bounds(&license->license, license->document);
        g_string_append_printf(reading->text, "license %s %s\n", license->owner ?: "-", text);
        if (reading->steal) {
                license_clear(&license->license);
                license->license = (License) {};
        }
        return answer(reading, error);
}

/* The same with no visitor: only whether it is taken. */
static int read_deaf(int fd, uint64_t *ret_licenses) {
        const BackupVisitor visitor = {};
        ArchiveCounts counts = {};
        g_auto(Error) error = {};
        int r;

        FUZZ_CHECK(lseek(fd, 0, SEEK_SET) == 0);
        r = backup_read(fd, DOCUMENT_MAX, 10000, NULL, &visitor, &counts, &error);
        *ret_licenses = counts.licenses;
        return r;
}

static char *read_text(int fd, unsigned decisions, bool steal, ErrorCode *ret, uint64_t *ret_licenses) {
        Reading reading = { .text = g_string_new(NULL), .steal = steal,
                .refuse_at = decisions & 128 ? decisions % 16 : 0 };
        const BackupVisitor visitor = { on_origin, on_state, on_license, &reading };
        ArchiveCounts counts = {};
        g_auto(Error) error = {};
        int r;

        FUZZ_CHECK(lseek(fd, 0, SEEK_SET) == 0);
        r = backup_read(fd, DOCUMENT_MAX, 10000, NULL, &visitor, &counts, &error);
        FUZZ_CHECK((int)error.code == r);
        *ret = (ErrorCode)r;
        *ret_licenses = counts.licenses;
        if (r == 0)
                FUZZ_CHECK(reading.n_origins == 1 && counts.licenses == reading.n_licenses);
        else {
                FUZZ_CHECK(r == ERROR_BACKUP_CORRUPT || r == ERROR_LIMIT_EXCEEDED ||
                        (r == ERROR_NO_RIGHTS && reading.refuse_at > 0));
                check_message(&error);
        }
        FUZZ_CHECK(reading.refuse_at == 0 || reading.n_calls <= reading.refuse_at);
        g_string_append(reading.text, error_message(&error));
        return g_string_free(reading.text, false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        g_autofree char *text = NULL, *again = NULL;
        ErrorCode code, code_again;
        uint64_t licenses, licenses_again;
        int fd;

        if (size < HEAD || size > 512 * 1024)
                return -1;
        fd = memfd_create("input", MFD_CLOEXEC);
        FUZZ_CHECK(fd >= 0 && write(fd, data + HEAD, size - HEAD) == (ssize_t)(size - HEAD));
        text = read_text(fd, data[0], false, &code, &licenses);
        again = read_text(fd, data[0], true, &code_again, &licenses_again);
        FUZZ_CHECK(code == code_again && licenses == licenses_again && strcmp(text, again) == 0);
        if (!(data[0] & 128)) {
                code_again = (ErrorCode)read_deaf(fd, &licenses_again);
                FUZZ_CHECK(code == code_again && licenses == licenses_again);
        }
        close(fd);
        if (code == ERROR_NONE)
                tar_remember(data + HEAD, size - HEAD);
        return 0;
}
