/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "told.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common.h"

void told_clear(Told *told) {
        if (told->text)
                g_string_free(told->text, true);
}
static void render_counters(GString *text, const License *license) {
        for (unsigned i = 0; i < license->counters->len; i++) {
                const Counter *counter = &g_array_index(license->counters, Counter, i);

                g_string_append_printf(text, " %s=%" PRIu64, counter->right, counter->remaining);
        }
}

void told_state(GString *text, const char *owner, const License *license, int64_t revoked) {
        g_string_append_printf(text, "state %s/%s g%" PRIu64 " %s revoked %" PRIi64, owner ?: "-", license->id,
                license->generation, license->allow_backup ? "free" : "restricted", revoked);
        render_counters(text, license);
        g_string_append_c(text, '\n');
}

void told_license(GString *text, const char *owner, const License *license, const void *document) {
        char hex[LICENSE_DIGEST_SIZE * 2 + 1];
        g_auto(License) found = {};

        license_digest_document(&found, document, license->size);
        assert_memory_equal(found.digest, license->digest, sizeof found.digest);
        license_digest_to_hex(license->digest, hex);
        g_string_append_printf(text, "license %s/%s g%" PRIu64 " %s key '%s' title '%s' issuer '%s' type '%s' "
                "%" PRIi64 " to %" PRIi64 " date %" PRIi64 " %s %" PRIu64 " %s", owner ?: "-", license->id,
                license->generation, license->allow_backup ? "free" : "restricted", license->key_id ?: "-",
                license->title ?: "-", license->issuer ?: "-", license->media_type ?: "-", license->not_before,
                license->not_after, license->document_date, license->extension, license->size, hex);
        render_counters(text, license);
        g_string_append_c(text, '\n');
}

static int refuse(ErrorCode code, Error *error) {
        return code == ERROR_NONE ? 0 : error_set(error, code, "The visitor says so.");
}

static int on_origin(const BackupOrigin *origin, void *userdata, Error *error) {
        Told *told = userdata;

        assert_int_equal(told->n_states + told->n_licenses, 0);
        assert_non_null(origin->software);
        assert_non_null(origin->created);
        assert_non_null(origin->host);
        assert_non_null(origin->machine);
        assert_true(origin->all_users == (origin->name == NULL));
        g_string_append_printf(told->text, "origin %s|%s|%s|%s|%s|%" PRIu32 "|%s|%" PRIu64 "|%" PRIu64 "\n",
                origin->software, origin->created, origin->host, origin->machine,
                origin->all_users ? "all" : "one", (uint32_t)origin->uid, origin->name ?: "-", origin->licenses,
                origin->restricted);
        told->n_origins++;
        return refuse(told->refuse_origin, error);
}

static int on_state(BackupState *state, void *userdata, Error *error) {
        Told *told = userdata;

        assert_true(told->n_origins == 1 && told->n_licenses == 0);
        assert_int_equal(state->line, ++told->n_states);
        told_state(told->text, state->owner, &state->license, state->revoked);
        if (told->steal) {
                License taken = state->license;

                state->license = (License) {};
                license_clear(&taken);
        }
        return refuse(told->refuse_state, error);
}

static int on_license(BackupLicense *license, void *userdata, Error *error) {
        Told *told = userdata;

        assert_int_equal(told->n_origins, 1);
        told->n_licenses++;
        assert_true(g_str_has_prefix(license->path, ARCHIVE_LICENSES));
        told_license(told->text, license->owner, &license->license, license->document);
        if (told->steal) {
                License taken = license->license;

                license->license = (License) {};
                license_clear(&taken);
        }
        return refuse(told->refuse_license, error);
}

int told_read(Told *told, int fd, Error *error) {
        const BackupVisitor visitor = { on_origin, on_state, on_license, told };
        ArchiveCounts counts = { .licenses = 77 };
        int r;

        if (told->text)
                g_string_free(told->text, true);
        told->text = g_string_new("");
        told->n_origins = told->n_states = told->n_licenses = 0;
        assert_true(lseek(fd, 0, SEEK_SET) == 0);
        r = backup_read(fd, TOLD_DOCUMENT_MAX, 5000, NULL, &visitor, &counts, error);
        assert_int_equal(r, error->code);
        assert_int_equal(counts.licenses, r == 0 ? told->n_licenses : 77);
        return r;
}

void assert_taken(int fd, const char *words) {
        g_auto(Error) error = {};
        g_auto(Told) told = {};

        assert_good(told_read(&told, fd, &error), &error);
        if (!strstr(told.text->str, words))
                fail_msg("'%s' is not in:\n%s", words, told.text->str);
        close(fd);
}

void assert_corrupt(int fd, const char *path, const char *words) {
        g_autofree char *quoted = g_strdup_printf("'%s'", path);
        g_auto(Error) error = {};
        g_auto(Told) told = {};

        assert_int_equal(told_read(&told, fd, &error), ERROR_BACKUP_CORRUPT);
        assert_error(&error, ERROR_BACKUP_CORRUPT, quoted);
        assert_error(&error, ERROR_BACKUP_CORRUPT, words);
        if (!g_str_has_suffix(error_message(&error), "Use another copy."))
                fail_msg("It is not said what to do: %s", error_message(&error));
        /* That is for those who store a license. */
        if (strstr(error_message(&error), "Leave it out") || strstr(error_message(&error), "Get it from"))
                fail_msg("It is not said to whom it matters: %s", error_message(&error));
        close(fd);
}
