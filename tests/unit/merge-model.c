/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "merge-model.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common.h"
#include "document.h"

const char *const model_rights[N_RIGHTS] = { "copy", "play", "print" };

char model_ids[N_IDS][16];
Text model_texts[N_IDS][N_DOCUMENTS];

static char *make_document(const char *id, unsigned n) {
        static const char *const dates[] = { "2024-06-01", "2024-06-02", "2024-06-02", "2024-06-03" };

        if (n >= G_N_ELEMENTS(dates))
                return g_strdup_printf("document %u of %s, without a date", n, id);
        return g_strdup_printf("{\"id\":\"%s\",\"provider\":\"https://example.com\","
                               "\"issued\":\"2024-05-31T12:00:00Z\",\"updated\":\"%sT12:00:00Z\","
                               "\"encryption\":{\"profile\":\"http://readium.org/lcp/basic-profile\","
                               "\"content_key\":{\"encrypted_value\":\"AAAA\"}},"
                               "\"links\":[{\"rel\":\"hint\",\"href\":\"https://example.com/hint\"},"
                               "{\"rel\":\"publication\",\"href\":\"https://example.com/%u.epub\"}],"
                               "\"signature\":{\"value\":\"AAAA\"}}", id, dates[n], n);
}

void model_texts_make(void) {
        for (unsigned i = 0; i < N_IDS; i++) {
                snprintf(model_ids[i], sizeof model_ids[i], "urn:license:%u", i);
                for (unsigned k = 0; k < N_DOCUMENTS; k++) {
                        Text *text = &model_texts[i][k];
                        g_auto(Error) error = {};

                        text->document = make_document(model_ids[i], k);
                        license_init(&text->license);
                        assert_good(document_recognise(text->document, strlen(text->document), NULL, &text->license,
                                            &error), &error);
                        assert_int_equal(text->license.document_date != LICENSE_NO_DATE, k < 4);
                }
        }
}

void model_texts_free(void) {
        for (unsigned i = 0; i < N_IDS; i++)
                for (unsigned k = 0; k < N_DOCUMENTS; k++) {
                        g_free(model_texts[i][k].document);
                        license_clear(&model_texts[i][k].license);
                }
}

static int64_t date_of(unsigned id, const Item *item) {
        return model_texts[id][item->document].license.document_date;
}

static void item_forget_document(Item *item) {
        item->present = false;
        item->document = 0;
        item->title = item->key_id = NULL;
        item->not_before = item->not_after = LICENSE_NO_TIME;
}

/* An item as a license: what an app stores, and what a backup says. */
void item_license(unsigned id, const Item *item, License *ret) {
        const License *own = &model_texts[id][item->document].license;

        license_init(ret);
        assert_int_equal(license_set_string(&ret->id, model_ids[id]), 0);
        if (item->present) {
                license_digest_document(ret, model_texts[id][item->document].document,
                        strlen(model_texts[id][item->document].document));
                ret->extension = own->extension;
                ret->document_date = own->document_date;
                if (own->issuer)
                        assert_int_equal(license_set_string(&ret->issuer, own->issuer), 0);
                if (own->media_type)
                        assert_int_equal(license_set_string(&ret->media_type, own->media_type), 0);
                if (item->title)
                        assert_int_equal(license_set_string(&ret->title, item->title), 0);
                if (item->key_id)
                        assert_int_equal(license_set_string(&ret->key_id, item->key_id), 0);
        }
        ret->not_before = item->not_before;
        ret->not_after = item->not_after;
        ret->allow_backup = !item->restricted;
        ret->generation = item->generation;
        for (unsigned i = 0; i < N_RIGHTS; i++)
                if (item->counters[i] != UNLIMITED)
                        assert_int_equal(license_limit_counter(ret, model_rights[i], item->counters[i]), 0);
}

char *item_describe(const Item *item) {
        GString *text = g_string_new(NULL);

        if (!item->known)
                return g_string_free(g_string_append(text, "unknown"), false);
        if (item->present)
                g_string_append_printf(text, "document %u title=%s key=%s from=%" PRIi64 " to=%" PRIi64,
                        item->document, item->title ?: "", item->key_id ?: "", item->not_before, item->not_after);
        else
                g_string_append(text, "none");
        g_string_append_printf(text, " g%" PRIu64 " revoked=%" PRIi64 "%s", item->generation, item->revoked,
                item->restricted ? " restricted" : "");
        for (unsigned i = 0; i < N_RIGHTS; i++)
                if (item->counters[i] != UNLIMITED)
                        g_string_append_printf(text, " %s=%" PRIu64, model_rights[i], item->counters[i]);
        return g_string_free(text, false);
}

/* Whether two may have different documents in the end. */
bool item_may_differ(unsigned id, const Item *one, const Item *other) {
        int64_t a = date_of(id, one), b = date_of(id, other);

        return a == LICENSE_NO_DATE || b == LICENSE_NO_DATE || a == b;
}

int model_store(Item *item, const Item *stored) {
        Item next = *stored;

        if (item->revoked != LICENSE_NO_TIME)
                return ERROR_LICENSE_REVOKED;
        next.generation = MIN(item->generation, (uint64_t)INT64_MAX - 1) + 1;
        for (unsigned i = 0; i < N_RIGHTS; i++)
                next.counters[i] = MIN(item->counters[i], stored->counters[i]);
        *item = next;
        return 0;
}

int model_consume(Item *item, unsigned right, uint64_t amount, uint64_t *ret_left) {
        if (!item->present)
                return ERROR_LICENSE_UNAVAILABLE;
        if (item->counters[right] == UNLIMITED) {
                *ret_left = UNLIMITED;
                return 0;
        }
        if (item->counters[right] < amount)
                return ERROR_NO_RIGHTS;
        *ret_left = item->counters[right] -= amount;
        return 0;
}

int model_delete(Item *item) {
        if (!item->present)
                return ERROR_LICENSE_UNAVAILABLE;
        item_forget_document(item);
        return 0;
}

int model_revoke(Item *item, int64_t now) {
        if (!item->known)
                return ERROR_LICENSE_UNAVAILABLE;
        item_forget_document(item);
        if (item->revoked == LICENSE_NO_TIME)
                item->revoked = now;
        return 0;
}

static void take_document(Item *item, const Item *theirs) {
        item->present = true;
        item->document = theirs->document;
        item->title = theirs->title;
        item->key_id = theirs->key_id;
        item->not_before = theirs->not_before;
        item->not_after = theirs->not_after;
}

/* Returns whether the two say different things. */
static bool combine_text(const char **ours, const char *theirs) {
        if (!*ours)
                *ours = theirs;
        return theirs && *ours != theirs;
}

static bool combine_documents(Item *item, const Item *theirs) {
        bool title = combine_text(&item->title, theirs->title), key_id = combine_text(&item->key_id, theirs->key_id);

        item->not_before = MAX(item->not_before, theirs->not_before); /* LICENSE_NO_TIME is less than any */
        if (item->not_after == LICENSE_NO_TIME ||
            (theirs->not_after != LICENSE_NO_TIME && theirs->not_after < item->not_after))
                item->not_after = theirs->not_after;
        return title || key_id;
}

static void note_conflict(unsigned id, const Item *item, StoreMerge *counts, GString *conflicts) {
        counts->conflicts++;
        g_string_append_printf(conflicts, "%s/%s/%s ", model_ids[id], item->key_id ?: "", item->title ?: "");
}

static void merge_one(unsigned id, Item *item, const Item *theirs, StoreMerge *counts, GString *conflicts) {
        bool document = theirs->present && !theirs->restricted;
        int64_t ours_date, their_date;

        if (!theirs->known)
                return;
        item->known = true;
        item->restricted = item->restricted || theirs->restricted;
        item->generation = MAX(item->generation, theirs->generation);
        for (unsigned i = 0; i < N_RIGHTS; i++)
                item->counters[i] = MIN(item->counters[i], theirs->counters[i]);

        if (item->revoked != LICENSE_NO_TIME || theirs->revoked != LICENSE_NO_TIME) {
                item_forget_document(item);
                if (item->revoked == LICENSE_NO_TIME ||
                    (theirs->revoked != LICENSE_NO_TIME && theirs->revoked < item->revoked))
                        item->revoked = theirs->revoked;
                counts->revoked += document || theirs->revoked != LICENSE_NO_TIME;
                return;
        }
        if (!document)
                return;
        if (!item->present) {
                take_document(item, theirs);
                counts->restored++;
                return;
        }
        if (item->document == theirs->document) {
                if (combine_documents(item, theirs))
                        note_conflict(id, item, counts, conflicts);
                else
                        counts->unchanged++;
                return;
        }

        ours_date = date_of(id, item);
        their_date = date_of(id, theirs);
        if (ours_date == LICENSE_NO_DATE || their_date == LICENSE_NO_DATE || ours_date == their_date)
                note_conflict(id, item, counts, conflicts);
        else if (their_date > ours_date) {
                take_document(item, theirs);
                counts->restored++;
        } else
                counts->newer_kept++;
}

void model_merge(Item items[N_IDS], const Item backup[N_IDS], StoreMerge *ret, GString *conflicts) {
        *ret = (StoreMerge) {};
        for (unsigned i = 0; i < N_IDS; i++)
                merge_one(i, &items[i], &backup[i], ret, conflicts);
}

uint64_t model_count(const Item backup[N_IDS]) {
        uint64_t n = 0;

        for (unsigned i = 0; i < N_IDS; i++)
                n += backup[i].revoked != LICENSE_NO_TIME || (backup[i].present && !backup[i].restricted);
        return n;
}
