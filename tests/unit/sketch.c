/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sketch.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store-connection.h"

#define PATIENCE_USEC (30 * G_USEC_PER_SEC)

static void add_counters(License *license, const char *counters) {
        g_auto(GStrv) words = g_strsplit(counters ?: "", " ", -1);

        for (unsigned i = 0; words[i]; i++) {
                char *value = strchr(words[i], '=');

                if (!value)
                        continue;
                *value = 0;
                assert_int_equal(license_limit_counter(license, words[i], strtoull(value + 1, NULL, 10)), 0);
        }
}

static void set_text(char **field, const char *value) {
        if (value)
                assert_int_equal(license_set_string(field, value), 0);
}

void sketch_license(const Sketch *sketch, License *ret) {
        license_make(ret, sketch->id, sketch->document ?: "");
        if (sketch->date != 0)
                ret->document_date = sketch->date;
        ret->generation = MAX(sketch->generation, 1);
        add_counters(ret, sketch->counters);
        ret->allow_backup = !sketch->restricted;
        ret->extension = "lic";
        set_text(&ret->key_id, sketch->key_id);
        set_text(&ret->title, sketch->title);
        set_text(&ret->issuer, sketch->issuer);
        set_text(&ret->media_type, sketch->media_type);
        ret->not_before = sketch->not_before ?: LICENSE_NO_TIME;
        ret->not_after = sketch->not_after ?: LICENSE_NO_TIME;
}

typedef struct Put {
        const StoreOwner *owner;
        const Sketch *sketch;
} Put;

static int put_sketch(StoreConnection *connection, void *userdata, Error *error) {
        const Put *put = userdata;
        const Sketch *sketch = put->sketch;
        int r = 0;

        for (uint64_t i = 0; r == 0 && i < MAX(sketch->generation, 1); i++) {
                g_auto(License) license = {};

                sketch_license(sketch, &license);
                r = store_license_put(connection, put->owner, &license, sketch->document ?: "", error);
        }
        if (r == 0 && sketch->revoked != 0)
                r = store_license_revoke(connection, put->owner, sketch->id, sketch->revoked, error);
        else if (r == 0 && !sketch->document)
                r = store_license_delete(connection, put->owner, sketch->id, error);
        return r;
}

void sketch_put(Store *store, const StoreOwner *owner, const Sketch *sketch) {
        Put put = { owner, sketch };
        g_auto(Error) error = {};

        assert_good(do_write(store, put_sketch, &put, &error), &error);
}

typedef struct Write {
        StoreCall call;
        Work work;
        void *userdata;
        bool twice, refused; /* the first commit fails: tried again, or not */
        unsigned n_runs;
} Write;

/* A full disk, or a rival, would do the same. */
static int refuse_commit(void *userdata) {
        return ((Write *)userdata)->n_runs == 1;
}

static int write_run(StoreTask *task, StoreConnection *connection, Error *error) {
        Write *write = (Write *)task;

        write->n_runs++;
        (void)sqlite3_commit_hook(connection->db, write->twice || write->refused ? refuse_commit : NULL, write);
        return write->work(connection, write->userdata, error);
}

static int submit(Store *store, Write *write, Error *error) {
        int r;

        write->call.task.run = write_run;
        write->call.task.alone = !write->twice;
        store_call_write(store, &write->call);
        r = store_call_wait(&write->call, error);
        assert_int_equal(r, error->code);
        assert_int_equal(write->n_runs, write->twice ? 2 : 1);
        return r;
}

int do_write(Store *store, Work work, void *userdata, Error *error) {
        Write write = { .work = work, .userdata = userdata };

        return submit(store, &write, error);
}

int do_write_twice(Store *store, Work work, void *userdata, Error *error) {
        Write write = { .work = work, .userdata = userdata, .twice = true };

        return submit(store, &write, error);
}

int do_write_refused(Store *store, Work work, void *userdata, Error *error) {
        Write write = { .work = work, .userdata = userdata, .refused = true };

        return submit(store, &write, error);
}

typedef struct Staging {
        StoreStage before, after;
        const StoreOwner *owner;
        unsigned what;
        const Sketch *sketches;
        size_t n;
        StageResult result;
} Staging;

static int stage_sketches(StoreConnection *connection, void *userdata, Error *error) {
        Staging *staging = userdata;
        int r;

        staging->after = staging->before;
        staging->result = STAGE_GOOD;
        r = store_stage_owner(connection, staging->owner, &staging->after, error);

        for (unsigned what = SKETCH_STATES; what <= SKETCH_DOCUMENTS; what++)
                for (size_t i = 0; i < staging->n; i++) {
                        const Sketch *sketch = &staging->sketches[i];
                        g_auto(License) license = {};

                        if (r != 0 || staging->result != STAGE_GOOD || !(what & staging->what))
                                break;
                        sketch_license(sketch, &license);
                        if (what == SKETCH_STATES)
                                r = store_stage_state(connection, &staging->after, &license,
                                        sketch->revoked ?: LICENSE_NO_TIME, &staging->result, error);
                        else if (sketch->document && !sketch->restricted)
                                r = store_stage_license(connection, &staging->after, &license, sketch->document,
                                        &staging->result, error);
                }
        return r;
}

static int stage_with(int (*write)(Store *store, Work work, void *userdata, Error *error), Store *store,
        StoreStage *stage, Staging *staging, StageResult *ret, Error *error) {
        int r;

        staging->before = *stage;
        r = write(store, stage_sketches, staging, error);
        if (r == 0) {
                *stage = staging->after;
                *ret = staging->result;
        }
        return r;
}

int sketch_stage(Store *store, StoreStage *stage, const StoreOwner *owner, unsigned what, const Sketch *sketches,
        size_t n, StageResult *ret, Error *error) {
        Staging staging = { .owner = owner, .what = what, .sketches = sketches, .n = n };

        return stage_with(do_write, store, stage, &staging, ret, error);
}

int sketch_stage_twice(Store *store, StoreStage *stage, const StoreOwner *owner, const Sketch *sketches, size_t n,
        StageResult *ret, Error *error) {
        Staging staging = { .owner = owner, .what = SKETCH_ALL, .sketches = sketches, .n = n };

        return stage_with(do_write_twice, store, stage, &staging, ret, error);
}

void sketch_stage_good(Store *store, StoreStage *stage, const StoreOwner *owner, const Sketch *sketches, size_t n) {
        g_auto(Error) error = {};
        StageResult result;

        assert_good(sketch_stage(store, stage, owner, SKETCH_ALL, sketches, n, &result, &error), &error);
        assert_int_equal(result, STAGE_GOOD);
}

static int compare_strings(gconstpointer a, gconstpointer b) {
        return strcmp(*(char *const *)a, *(char *const *)b);
}

void sort_words(GString *text) {
        g_auto(GStrv) words = g_strsplit(text->str, " ", -1);
        unsigned n = g_strv_length(words);

        g_string_truncate(text, 0);
        qsort(words, n, sizeof *words, compare_strings);
        for (unsigned i = 0; i < n; i++)
                if (*words[i])
                        g_string_append_printf(text, "%s ", words[i]);
}

typedef struct Merging {
        int64_t restore;
        StoreMerge *result;
        GString *conflicts;
} Merging;

static int note_conflict(const char *id, const char *key_id, const char *title, void *userdata, Error *error) {
        Merging *merging = userdata;

        if (merging->conflicts)
                g_string_append_printf(merging->conflicts, "%s/%s/%s ", id, key_id ?: "", title ?: "");
        return 0;
}

bool never_unwanted(void *userdata) {
        return false;
}

static int run_merge(StoreConnection *connection, void *userdata, Error *error) {
        const StoreMergeEvents events = { note_conflict, never_unwanted, NULL, userdata };
        Merging *merging = userdata;

        if (merging->conflicts)
                g_string_truncate(merging->conflicts, 0);
        return store_merge(connection, merging->restore, &events, merging->result, error);
}

int merge(Store *store, int64_t restore, StoreMerge *ret, GString *conflicts, Error *error) {
        Merging merging = { restore, ret, conflicts };
        int r = do_write(store, run_merge, &merging, error);

        if (conflicts)
                sort_words(conflicts);
        return r;
}

int merge_refused(Store *store, int64_t restore, StoreMerge *ret, Error *error) {
        Merging merging = { restore, ret, NULL };

        return do_write_refused(store, run_merge, &merging, error);
}

StoreMerge merge_good(Store *store, int64_t restore) {
        g_auto(Error) error = {};
        StoreMerge result = {};

        assert_good(merge(store, restore, &result, NULL, &error), &error);
        return result;
}

char *describe_merge(const StoreMerge *counts) {
        return g_strdup_printf("restored=%" PRIu64 " unchanged=%" PRIu64 " newer_kept=%" PRIu64 " conflicts=%" PRIu64
                               " revoked=%" PRIu64, counts->restored, counts->unchanged, counts->newer_kept,
                counts->conflicts, counts->revoked);
}

void assert_merge(const StoreMerge *found, const StoreMerge *expected) {
        g_autofree char *one = describe_merge(found), *other = describe_merge(expected);

        assert_string_equal(one, other);
}

static void append_text(GString *line, const char *name, const char *value) {
        if (value)
                g_string_append_printf(line, " %s=%s", name, value);
}

static void append_number(GString *line, const char *name, int64_t value, int64_t unset) {
        if (value != unset)
                g_string_append_printf(line, " %s=%" PRIi64, name, value);
}

static char *describe_row(const StoreCursorRow *row) {
        const License *license = &row->license;
        GString *line = g_string_new(license->id);

        if (row->revoked != LICENSE_NO_TIME)
                g_string_append_printf(line, " !%" PRIi64, row->revoked);
        else if (!row->present)
                g_string_append(line, " -");
        if (row->present) /* what is revoked has none: both would show */
                g_string_append_printf(line, " '%.*s'", (int)license->size,
                        (const char *)row->document ?: "(damaged)");
        g_string_append_printf(line, " g%" PRIu64, license->generation);
        for (unsigned i = 0; i < license->counters->len; i++) {
                const Counter *counter = &g_array_index(license->counters, Counter, i);

                g_string_append_printf(line, " %s=%" PRIu64, counter->right, counter->remaining);
        }
        append_number(line, "date", license->document_date, LICENSE_NO_DATE);
        append_text(line, "key", license->key_id);
        append_text(line, "title", license->title);
        append_text(line, "issuer", license->issuer);
        append_text(line, "type", license->media_type);
        append_number(line, "from", license->not_before, LICENSE_NO_TIME);
        append_number(line, "to", license->not_after, LICENSE_NO_TIME);
        g_string_append_printf(line, "%s\n", license->allow_backup ? "" : " restricted");
        return g_string_free(line, false);
}

char *describe_owner(StoreConnection *reader, const StoreOwner *owner) {
        g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(StoreCursor) cursor = NULL;
        g_auto(Error) error = {};
        const StoreCursorRow *row;
        int64_t number = 0;

        assert_good(store_owner_find(reader, owner, &number, &error), &error);
        assert_good(store_cursor_new(reader, number, true, &cursor, &error), &error);
        for (;;) {
                assert_good(store_cursor_next(cursor, &row, &error), &error);
                if (!row)
                        break;
                g_ptr_array_add(lines, describe_row(row));
        }
        g_ptr_array_sort(lines, compare_strings);
        g_ptr_array_add(lines, NULL);
        return g_strjoinv("", (char **)lines->pdata);
}

void assert_owner(StoreConnection *reader, const StoreOwner *owner, const char *expected) {
        g_autofree char *found = describe_owner(reader, owner);

        assert_string_equal(found, expected);
}

int64_t ask(StoreConnection *reader, const char *sql) {
        sqlite3_stmt *statement;
        int64_t answer;

        assert_int_equal(sqlite3_prepare_v2(reader->db, sql, -1, &statement, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
        answer = sqlite3_column_int64(statement, 0);
        sqlite3_finalize(statement);
        return answer;
}

int64_t count_staged(StoreConnection *reader) {
        return ask(reader,
                "SELECT (SELECT count(*) FROM staged_ids) + (SELECT count(*) FROM staged_licenses) + "
                "(SELECT count(*) FROM documents WHERE key NOT IN (SELECT key FROM licenses WHERE present)) + "
                "(SELECT count(*) FROM counters WHERE key NOT IN (SELECT key FROM licenses))");
}

void wait_swept(StoreConnection *reader) {
        int64_t end = g_get_monotonic_time() + PATIENCE_USEC;

        while (count_staged(reader) > 0) {
                if (g_get_monotonic_time() > end)
                        fail_msg("%" PRIi64 " rows of no license are still there", count_staged(reader));
                g_usleep(1000);
        }
}

unsigned count_judged(StoreConnection *reader, LicenseSoundness soundness) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        g_auto(Error) error = {};
        unsigned n = 0;
        int r;

        statement = store_statement(reader,
                "SELECT " LICENSE_COLUMNS ", l.key FROM licenses AS l WHERE l.present", &error);
        assert_non_null(statement);
        while ((r = statement_row(reader, statement, &error)) > 0) {
                g_auto(License) license = {};

                license_init(&license);
                assert_good(license_from_row(statement, 0, &license, &error), &error);
                assert_good(store_row_load_counters(reader, sqlite3_column_int64(statement, N_LICENSE_COLUMNS),
                                    &license, &error), &error);
                license_judge(&license);
                n += license.soundness == soundness;
        }
        assert_int_equal(r, 0);
        return n;
}

void assert_sums(StoreConnection *reader) {
        static const char owners[] =
                "SELECT count(*) FROM owners AS o WHERE "
                "licenses != (SELECT count(*) FROM licenses AS l WHERE l.owner = o.owner AND present) OR "
                "remembered != (SELECT count(*) FROM licenses AS l WHERE l.owner = o.owner) OR "
                "bytes != (SELECT ifnull(sum(charge), 0) FROM licenses AS l WHERE l.owner = o.owner)";
#define BYTES(column) "ifnull(length(CAST(" column " AS BLOB)), 0)"
        static const char rows[] =
                "SELECT count(*) FROM licenses AS l WHERE charge != 64 + " BYTES("id") " + "
                "(SELECT ifnull(sum(64 + " BYTES("name") "), 0) FROM counters AS c WHERE c.key = l.key) + "
                "iif(present, size + " BYTES("key_id") " + " BYTES("title") " + " BYTES("issuer") " + "
                BYTES("media_type") ", 0)";
        static const char keys[] =
                "SELECT count(*) FROM licenses WHERE key >> 31 != owner OR "
                "present != (key IN (SELECT key FROM documents)) OR (present AND revoked IS NOT NULL) OR "
                "(NOT present AND digest IS NOT NULL)";

        assert_int_equal(ask(reader, owners), 0);
        assert_int_equal(ask(reader, rows), 0);
        assert_int_equal(ask(reader, keys), 0);
}

void assert_books(StoreConnection *reader) {
        assert_sums(reader);
        assert_int_equal(count_judged(reader, LICENSE_ROTTEN), 0);
        assert_int_equal(count_judged(reader, LICENSE_UNSEALED), 0);
}
