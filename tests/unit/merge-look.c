/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "merge-look.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "common.h"

static void find_document(unsigned id, const StoreCursorRow *row, Item *item) {
        const License *license = &row->license;
        const Text *text;

        while (item->document < N_DOCUMENTS && (license->size != model_texts[id][item->document].license.size ||
               memcmp(model_texts[id][item->document].document, row->document, license->size) != 0))
                item->document++;
        if (item->document == N_DOCUMENTS)
                return;
        text = &model_texts[id][item->document];
        assert_true(license->document_date == text->license.document_date);
        assert_string_equal(license->extension, text->license.extension);
        assert_int_equal(g_strcmp0(license->issuer, text->license.issuer), 0);
        assert_int_equal(g_strcmp0(license->media_type, text->license.media_type), 0);
}

/* Counters of rights that the model has not are passed over. */
static void find_counters(const License *license, Item *item) {
        for (unsigned i = 0; i < N_RIGHTS; i++) {
                const Counter *counter = license_find_counter(license, model_rights[i]);

                if (counter)
                        item->counters[i] = counter->remaining;
        }
}

static bool look_at_row(const StoreCursorRow *row, Item items[N_IDS]) {
        const License *license = &row->license;
        unsigned id = 0;

        while (id < N_IDS && strcmp(model_ids[id], license->id) != 0)
                id++;
        if (id == N_IDS)
                return false;
        assert_false(items[id].known);
        items[id] = NO_ITEM;
        items[id].known = true;
        items[id].present = row->present;
        items[id].restricted = !license->allow_backup;
        items[id].generation = license->generation;
        items[id].revoked = row->revoked;
        items[id].not_before = license->not_before;
        items[id].not_after = license->not_after;
        items[id].title = g_intern_string(license->title);
        items[id].key_id = g_intern_string(license->key_id);
        find_counters(license, &items[id]);
        if (row->present)
                find_document(id, row, &items[id]);
        return true;
}

unsigned model_look(StoreConnection *reader, const StoreOwner *owner, Item ret[N_IDS]) {
        g_autoptr(GPtrArray) owners = g_ptr_array_new();
        g_autoptr(StoreCursor) cursor = NULL;
        g_auto(Error) error = {};
        const StoreCursorRow *row = NULL;
        unsigned others = 0;

        for (unsigned i = 0; i < N_IDS; i++)
                ret[i] = NO_ITEM;
        assert_good(store_snapshot_begin(reader, &error), &error);
        assert_good(store_snapshot_owners(reader, owner->uid, owner->name, owners, &error), &error);
        if (owners->len > 0)
                assert_good(store_cursor_new(reader, ((StoreOwnerRow *)owners->pdata[0])->owner, true, &cursor,
                                    &error), &error);
        while (cursor) {
                assert_good(store_cursor_next(cursor, &row, &error), &error);
                if (!row)
                        break;
                others += !look_at_row(row, ret);
        }
        store_snapshot_end(reader);
        return others;
}

static char *broken_promise(unsigned id, const Item *before, const Item *now) {
        if (before->known && !now->known)
                return g_strdup_printf("%s was forgotten", model_ids[id]);
        if (now->generation < before->generation)
                return g_strdup_printf("the generation of %s fell", model_ids[id]);
        if (before->revoked != LICENSE_NO_TIME &&
            (now->present || now->revoked == LICENSE_NO_TIME || now->revoked > before->revoked))
                return g_strdup_printf("%s was revoked, and is not", model_ids[id]);
        for (unsigned i = 0; i < N_RIGHTS; i++)
                if (now->counters[i] > before->counters[i])
                        return g_strdup_printf("counter %s of %s rose", model_rights[i], model_ids[id]);
        return NULL;
}

char *model_broken_promise(const Item before[N_IDS], const Item now[N_IDS]) {
        char *what = NULL;

        for (unsigned i = 0; i < N_IDS && !what; i++)
                what = broken_promise(i, &before[i], &now[i]);
        return what;
}

char *model_difference(const Item found[N_IDS], const Item expected[N_IDS]) {
        for (unsigned i = 0; i < N_IDS; i++) {
                g_autofree char *is = item_describe(&found[i]), *must = item_describe(&expected[i]);

                if (!g_str_equal(is, must))
                        return g_strdup_printf("%s is '%s' and not '%s'", model_ids[i], is, must);
        }
        return NULL;
}
