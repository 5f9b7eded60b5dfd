/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "restore-case.h"

#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "archive.h"

/* Around the time at which rights are consumed; see fuzz-restore.c. */
#define NOW INT64_C(1000)

static int64_t decode_time(Input *input) {
        switch (input_below(input, 8)) {
        case 0:
        case 1:
        case 2:
                return NOW + (int64_t)input_below(input, 4) - 2;
        case 3:
                return (int64_t)(input_edge(input) & INT64_MAX);
        default:
                return LICENSE_NO_TIME;
        }
}

Item decode_item(Input *input) {
        static const char *const titles[] = { NULL, "A", "B" }, *const keys[] = { NULL, NULL, NULL, "k", "K" };
        Item item = NO_ITEM;

        item.known = item.present = true;
        item.restricted = input_below(input, 10) == 1;
        item.document = input_below(input, N_DOCUMENTS);
        item.title = g_intern_string(titles[input_below(input, 3)]);
        item.key_id = g_intern_string(keys[input_below(input, 5)]);
        item.not_before = decode_time(input);
        item.not_after = decode_time(input);
        for (unsigned i = 0; i < N_RIGHTS; i++) {
                unsigned kind = input_below(input, 16);

                item.counters[i] = kind < 5 ? UNLIMITED : kind < 14 ? kind : input_edge(input) & INT64_MAX;
        }
        return item;
}

static void decode_items(Input *input, Item items[N_IDS]) {
        for (unsigned i = 0; i < N_IDS; i++) {
                unsigned kind = input_below(input, 8);
                uint64_t generation;

                items[i] = NO_ITEM;
                if (kind < 2)
                        continue;
                items[i] = decode_item(input);
                generation = kind == 7 ? input_edge(input) & INT64_MAX : input_below(input, 6);
                items[i].generation = MAX(generation, 1);
                if (kind == 2)
                        items[i].revoked = (int64_t)(input_edge(input) & INT64_MAX);
                /* What is gone, or may not be backed up, is in a backup without all that is the document's. */
                if (kind <= 3 || items[i].restricted) {
                        items[i].present = false;
                        items[i].document = 0;
                        items[i].title = items[i].key_id = NULL;
                        items[i].not_before = items[i].not_after = LICENSE_NO_TIME;
                }
        }
}

/* The backup as a tar */

/* How the line of a license begins in state.jsonl, and that of no other (g_free). */
static char *state_head(const RestoreCase *restore, const CaseUser *user, unsigned id) {
        return restore->all_users ?
                g_strdup_printf("{\"owner\":\"%s\",\"id\":\"%s\"", user->name, model_ids[id]) :
                g_strdup_printf("{\"id\":\"%s\"", model_ids[id]);
}

static void append_state(GString *text, const char *head, const Item *item) {
        const char *comma = "";

        g_string_append_printf(text, "%s,\"generation\":%" PRIu64 ",\"counters\":{", head, item->generation);
        for (unsigned i = 0; i < N_RIGHTS; i++)
                if (item->counters[i] != UNLIMITED) {
                        g_string_append_printf(text, "%s\"%s\":%" PRIu64, comma, model_rights[i], item->counters[i]);
                        comma = ",";
                }
        g_string_append_printf(text, "}%s", item->restricted ? ",\"restricted\":true" : "");
        if (item->revoked != LICENSE_NO_TIME)
                g_string_append_printf(text, ",\"revoked\":%" PRIi64, item->revoked);
        g_string_append(text, "}\n");
}

static void set_text(TarEntry *entry, const char *name, const char *value) {
        if (value)
                tar_entry_set_attribute(entry, name, value);
}

static void set_number(TarEntry *entry, const char *name, int64_t value, int64_t unset) {
        g_autofree char *text = g_strdup_printf("%" PRIi64, value);

        if (value != unset)
                tar_entry_set_attribute(entry, name, text);
}

static TarEntry *add_entry(GPtrArray *entries, const TarEntry *like, const char *path, const char *content) {
        TarEntry *entry = tar_entry_copy(like);

        tar_entry_set_path(entry, path);
        tar_entry_set_content(entry, content, strlen(content));
        g_ptr_array_add(entries, entry);
        return entry;
}

static void add_document(GPtrArray *entries, const TarEntry *like, const char *owner, unsigned number, unsigned id,
        const Item *item) {
        g_autofree char *path = NULL;
        g_auto(License) license = {};
        TarEntry *entry;

        item_license(id, item, &license);
        path = g_strdup_printf(ARCHIVE_LICENSES "%s%s%07u-%u.%s", owner ?: "", owner ? "/" : "", number, id,
                license.extension);
        entry = add_entry(entries, like, path, model_texts[id][item->document].document);
        set_text(entry, "owner", owner);
        set_text(entry, "id", license.id);
        set_text(entry, "key-id", license.key_id);
        set_text(entry, "title", license.title);
        set_text(entry, "issuer", license.issuer);
        set_text(entry, "media-type", license.media_type);
        set_number(entry, "generation", (int64_t)license.generation, 0);
        set_number(entry, "not-before", license.not_before, LICENSE_NO_TIME);
        set_number(entry, "not-after", license.not_after, LICENSE_NO_TIME);
        set_number(entry, "date", license.document_date, LICENSE_NO_DATE);
        for (unsigned i = 0; i < license.counters->len; i++) {
                const Counter *counter = &g_array_index(license.counters, Counter, i);
                g_autofree char *name = g_strconcat("counter.", counter->right, NULL);

                set_number(entry, name, (int64_t)counter->remaining, -1);
        }
}

/* A header of our own writer's, for all entries. */
static GPtrArray *make_first(void) {
        int fd = memfd_create("first", MFD_CLOEXEC);
        PaxWriter *writer = NULL;
        uint8_t data[PAX_RECORD_SIZE];

        FUZZ_CHECK(fd >= 0 && pax_writer_new(fd, 1700000000, &writer) == 0);
        FUZZ_CHECK(pax_writer_add(writer, ARCHIVE_README, "Read me.\n", 9, NULL, 0) == 0);
        FUZZ_CHECK(pax_writer_finish(writer) == 0);
        pax_writer_free(writer);
        FUZZ_CHECK(pread(fd, data, sizeof data, 0) == (ssize_t)sizeof data);
        close(fd);
        return tar_parse(data, sizeof data);
}

static void add_manifest(GPtrArray *entries, const TarEntry *like, const RestoreCase *restore) {
        const CaseUser *user = &restore->users[0];
        g_autofree char *owner = g_strdup_printf("\"owner\":{\"uid\":%u,\"name\":\"%s\"},", (unsigned)user->uid,
                user->name);
        g_autofree char *text = g_strdup_printf("{\"format\":1,\"software\":\"licensevault\",\"created\":\"\","
                "\"host\":\"host\",\"machine\":\"%s\",\"all_users\":%s,%s\"licenses\":0,\"restricted\":0}",
                restore->foreign ? "another" : "machine", restore->all_users ? "true" : "false",
                restore->all_users ? "" : owner);

        add_entry(entries, like, ARCHIVE_MANIFEST, text);
}

static GPtrArray *make_entries(const RestoreCase *restore) {
        g_autoptr(GString) states = g_string_new(NULL);
        GPtrArray *entries = make_first();
        const TarEntry *like = entries->pdata[0];
        unsigned number = 0;

        for (unsigned i = 0; i < restore->n_users; i++)
                for (unsigned id = 0; id < N_IDS; id++) {
                        g_autofree char *head = state_head(restore, &restore->users[i], id);

                        if (restore->users[i].items[id].known)
                                append_state(states, head, &restore->users[i].items[id]);
                }
        add_manifest(entries, like, restore);
        add_entry(entries, like, ARCHIVE_STATE, states->str);
        for (unsigned i = 0; i < restore->n_users; i++)
                for (unsigned id = 0; id < N_IDS; id++)
                        if (restore->users[i].items[id].present)
                                add_document(entries, like, restore->all_users ? restore->users[i].name : NULL,
                                        ++number, id, &restore->users[i].items[id]);
        add_entry(entries, like, ARCHIVE_END, "");
        tar_repair(entries);
        return entries;
}

/* Mutations */

enum { README, MANIFEST, STATE, FIRST_DOCUMENT };

/* Any document; NULL where there is none. The last entry is END.json. */
static TarEntry *any_document(Input *input, GPtrArray *entries, unsigned *ret_index) {
        if (entries->len <= FIRST_DOCUMENT + 1)
                return NULL;
        *ret_index = FIRST_DOCUMENT + input_below(input, entries->len - 1 - FIRST_DOCUMENT);
        return entries->pdata[*ret_index];
}

static unsigned id_of(TarEntry *entry) {
        const GByteArray *id = tar_entry_attribute(entry, "id");

        for (unsigned i = 0; i < N_IDS; i++)
                if (id && id->len == strlen(model_ids[i]) && memcmp(id->data, model_ids[i], id->len) == 0)
                        return i;
        return N_IDS;
}

static CaseUser *user_of(RestoreCase *restore, TarEntry *entry) {
        const GByteArray *owner = tar_entry_attribute(entry, "owner");

        for (unsigned i = 0; owner && i < restore->n_users; i++)
                if (owner->len == strlen(restore->users[i].name) &&
                    memcmp(owner->data, restore->users[i].name, owner->len) == 0)
                        return &restore->users[i];
        return &restore->users[0];
}

/* That of a document (g_free). */
static char *head_of(RestoreCase *restore, TarEntry *document) {
        return state_head(restore, user_of(restore, document), id_of(document));
}

static char *state_text(GPtrArray *entries) {
        const TarEntry *state = entries->pdata[STATE];

        return g_strndup((const char *)state->content->data, state->content->len);
}

/* The lines with one left out, or there twice. Returns whether there was one. */
static bool repeat_line(GPtrArray *entries, const char *head, unsigned times) {
        g_autofree char *text = state_text(entries);
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        g_autoptr(GString) after = g_string_new(NULL);
        bool found = false;

        for (char **line = lines; *line; line++) {
                bool is_it = g_str_has_prefix(*line, head);

                for (unsigned n = is_it ? times : **line ? 1 : 0; n > 0; n--)
                        g_string_append_printf(after, "%s\n", *line);
                found = found || is_it;
        }
        tar_entry_set_content(entries->pdata[STATE], after->str, after->len);
        return found;
}

static void reverse_lines(GPtrArray *entries) {
        g_autofree char *text = state_text(entries);
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        g_autoptr(GString) after = g_string_new(NULL);

        for (unsigned n = g_strv_length(lines); n > 0; n--)
                if (*lines[n - 1])
                        g_string_append_printf(after, "%s\n", lines[n - 1]);
        tar_entry_set_content(entries->pdata[STATE], after->str, after->len);
}

/* Those that leave a backup that an honest writer could have written; items say the same as it then. */
static const char *mutate_well(Input *input, GPtrArray *entries, RestoreCase *restore) {
        unsigned index = 0;
        TarEntry *document = any_document(input, entries, &index);

        switch (input_below(input, 5)) {
        case 0:
                tar_entry_set_content(entries->pdata[README], "Another.", 8);
                return "another README";
        case 1:
                reverse_lines(entries);
                return "states turned round";
        case 2: {
                TarEntry *list = tar_entry_copy(entries->pdata[README]);

                tar_entry_set_path(list, ARCHIVE_NOT_BACKED_UP);
                g_ptr_array_insert(entries, (int)entries->len - 1, list);
                return "with a list of what was not backed up";
        }
        default: {
                g_autofree char *head = NULL;
                Item *item;

                if (!document)
                        return "no document to drop";
                head = head_of(restore, document);
                item = &user_of(restore, document)->items[id_of(document)];
                /* As if it had been deleted, or never been there. */
                item->present = false;
                if (input_below(input, 2)) {
                        (void)repeat_line(entries, head, 0);
                        *item = NO_ITEM;
                }
                g_ptr_array_remove_index(entries, index);
                return "a document less";
        }
        }
}

static bool has_attribute(const TarEntry *entry, const char *name, const char *value) {
        const GByteArray *bytes = tar_entry_attribute(entry, name);

        return bytes && value && bytes->len == strlen(value) && memcmp(bytes->data, value, bytes->len) == 0;
}

/*
 * Those that no writer makes, with all digests right. NULL where it cannot be done here. What is wrong with licenses
 * that go to nobody may be passed over, and one that is given to another user is no mistake.
 */
static const char *mutate_badly(Input *input, GPtrArray *entries, RestoreCase *restore) {
        static const struct {
                const char *name, *value;
        } attributes[] = {
                { "generation", NULL }, { "generation", "0" }, { "generation", "9223372036854775808" },
                { "generation", "77" }, { "generation", "01" }, { "counter.play", "-1" }, { "counter.", "1" },
                { "counter.play", "1000000" }, { "counter.other", "1" }, { "id", "urn:license:0:" }, { "id", NULL },
                { "id", "" }, { "owner", "anna" }, { "date", "1" }, { "not-before", "-1" }, { "not-after", "x" },
                { "other", "1" }, { "title", "\xff" },
        };
        static const char *const lines[] = { "{}\n", "x\n", "\n", "[]\n", "{\"id\":\"a\",\"generation\":1}\n",
                "{\"id\":\"a\",\"generation\":0,\"counters\":{}}\n",
                "{\"id\":\"a\",\"generation\":1,\"counters\":{\"A\":1}}\n",
                "{\"id\":\"a\",\"generation\":1,\"counters\":{\"a\":-1}}\n",
                "{\"id\":\"a\",\"generation\":1,\"counters\":{},\"owner\":\"anna\"}\n",
                "{\"id\":\"a\",\"generation\":1,\"counters\":{},\"revoked\":-1}\n",
                "{\"id\":\"\",\"generation\":1,\"counters\":{}}\n" };
        unsigned index = 0, at;
        TarEntry *document = any_document(input, entries, &index), *state = entries->pdata[STATE];

        restore->verdict = document && !user_of(restore, document)->is_here ? MAY_PASS : MUST_FAIL;
        restore->wronged = document ? user_of(restore, document)->name : NULL;
        switch (input_below(input, 8)) {
        case 0:
                at = input_below(input, entries->len);
                if (at >= FIRST_DOCUMENT && at < entries->len - 1)
                        return NULL;
                g_ptr_array_remove_index(entries, at);
                restore->wronged = NULL;
                return "an entry that must be there is missing";
        case 1:
                at = input_below(input, entries->len);
                if (!user_of(restore, entries->pdata[at])->is_here)
                        return NULL;
                restore->wronged = user_of(restore, entries->pdata[at])->name;
                g_ptr_array_insert(entries, (int)at, tar_entry_copy(entries->pdata[at]));
                return "an entry twice";
        case 2:
                at = input_below(input, entries->len - 1);
                g_ptr_array_insert(entries, (int)at, g_ptr_array_steal_index(entries, at + 1));
                restore->wronged = NULL;
                return "two entries in the wrong order";
        case 3:
                if (!document)
                        return NULL;
                at = input_below(input, G_N_ELEMENTS(attributes));
                if (has_attribute(document, attributes[at].name, attributes[at].value))
                        return NULL;
                if (restore->all_users && g_str_equal(attributes[at].name, "owner"))
                        restore->verdict = MAY_PASS;
                tar_entry_set_attribute(document, attributes[at].name, attributes[at].value);
                return attributes[at].name;
        case 4: {
                g_autofree char *head = document ? head_of(restore, document) : NULL;

                if (!head || !repeat_line(entries, head, input_below(input, 2) * 2))
                        return NULL;
                return "a state twice, or missing";
        }
        case 5: {
                const char *line = lines[input_below(input, G_N_ELEMENTS(lines))];

                if (restore->all_users && strstr(line, "owner"))
                        restore->verdict = MAY_PASS;
                g_byte_array_append(state->content, (const uint8_t *)line, (guint)strlen(line));
                restore->wronged = NULL;
                return line;
        }
        case 6: {
                TarEntry *copy;

                if (!document)
                        return NULL;
                copy = tar_entry_copy(document);
                tar_entry_set_path(copy, ARCHIVE_LICENSES "9999999-x.lic");
                g_ptr_array_insert(entries, (int)entries->len - 1, copy);
                return "an id twice";
        }
        default: {
                g_autofree char *text = state_text(entries), *from = NULL;
                g_auto(GStrv) parts = NULL;
                g_autofree char *after = NULL;

                if (!document)
                        return NULL;
                from = head_of(restore, document);
                parts = g_strsplit(text, from, 2);
                if (g_strv_length(parts) != 2)
                        return NULL;
                after = g_strconcat(parts[0], from, input_below(input, 2) ? ",\"restricted\":true" : ",\"revoked\":7",
                        parts[1], NULL);
                tar_entry_set_content(state, after, strlen(after));
                return "a document that its state says is not there";
        }
        }
}

/* Bytes of the fuzzer's in a place where they may mean anything. */
static const char *mutate_anyhow(Input *input, GPtrArray *entries) {
        TarEntry *entry = entries->pdata[input_below(input, entries->len)];
        size_t size, at;
        const uint8_t *bytes = input_bytes(input, 300, &size);

        if (input_below(input, 2)) {
                static const char *const names[] = { "id", "generation", "title", "key-id", "issuer", "media-type",
                        "not-before", "not-after", "date", "counter.play", "counter.print", "counter.new", "owner" };
                g_autofree char *value = g_strndup((const char *)bytes, size);

                tar_entry_set_attribute(entry, names[input_below(input, G_N_ELEMENTS(names))], value);
                return "an attribute of any value";
        }
        at = (size_t)input_number(input, 2) % (entry->content->len + 1);
        size = MIN(size, entry->content->len - at);
        if (size > 0)
                memcpy(entry->content->data + at, bytes, size);
        return "a content that may be any";
}

/* After the digests were made: what the bytes themselves must tell. Returns NULL where nothing was changed. */
static const char *damage(Input *input, GByteArray *tar) {
        size_t at = (size_t)input_number(input, 3) % tar->len;

        switch (input_below(input, 4)) {
        case 0:
                tar->data[at] ^= (uint8_t)(1U << input_below(input, 8));
                return "a bit is another";
        case 1:
                g_byte_array_set_size(tar, (guint)at);
                return "it is cut off";
        case 2:
                g_byte_array_append(tar, (const uint8_t *)"x", 1);
                return "there is something after its end";
        default:
                return NULL;
        }
}

void restore_case_decode(Input *input, RestoreCase *restore) {
        g_autoptr(GPtrArray) entries = NULL;
        unsigned kind;

        restore->verdict = MUST_PASS;
        restore->story = g_string_new("as made");
        restore->foreign = input_below(input, 8) == 1;
        for (unsigned i = 0; i < restore->n_users; i++)
                decode_items(input, restore->users[i].items);
        entries = make_entries(restore);
        for (unsigned n = input_below(input, 4); n > 0 && restore->verdict == MUST_PASS; n--) {
                const char *what = NULL;

                kind = input_below(input, 8);
                if (kind < 3)
                        what = mutate_well(input, entries, restore);
                else if (kind < 6) {
                        what = mutate_badly(input, entries, restore);
                        restore->verdict = what ? restore->verdict : MUST_PASS;
                } else {
                        what = mutate_anyhow(input, entries);
                        restore->verdict = MAY_PASS;
                }
                g_string_append_printf(restore->story, ", %s", what ?: "nothing");
                /* The list is behind the documents: no more of them are looked for. */
                if (what && strstr(what, "not backed up"))
                        break;
        }
        kind = input_below(input, 8);
        if (restore->verdict == MUST_PASS || kind > 0)
                tar_repair(entries);
        if (kind == 2) {
                /* Only END.json can tell. */
                tar_entry_set_content(entries->pdata[0], "Changed.", 8);
                restore->verdict = MUST_FAIL;
                restore->wronged = NULL;
                g_string_append(restore->story, ", changed after the digests were made");
        }
        restore->tar = tar_write(entries);
        if (kind == 1) {
                const char *what = damage(input, restore->tar);

                if (what && restore->verdict == MUST_PASS)
                        restore->verdict = MUST_FAIL;
                g_string_append_printf(restore->story, ", %s", what ?: "no damage");
        }
}

void restore_case_clear(RestoreCase *restore) {
        if (restore->tar)
                g_byte_array_unref(restore->tar);
        if (restore->story)
                g_string_free(restore->story, true);
        *restore = (RestoreCase) {};
}
