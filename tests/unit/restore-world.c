/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "restore-world.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "document.h"

#define LCP(updated, print) \
        "{\"id\":\"lcp\",\"provider\":\"https://shop.example\",\"issued\":\"2024-01-01T00:00:00Z\"," \
        "\"updated\":\"" updated "\",\"encryption\":{\"profile\":\"http://readium.org/lcp/basic-profile\"}," \
        "\"links\":[{\"rel\":\"publication\",\"title\":\"Moby-Dick\"}]," \
        "\"rights\":{\"print\":" #print ",\"copy\":100},\"signature\":{}}"

static const Spec old_machine[] = {
        { NULL, LCP("2024-06-01T00:00:00Z", 8) },
        { "opaque", "\x01 opaque document", "Opaque", "key-1", "play=5" },
        { "secret", "a secret", .restricted = true },
        { "dead", "dead" },
        { "gone", "gone", .counters = "play=3" },
};

static const Spec new_machine[] = {
        { "mine", "my own", "Mine", "key-2", "play=1 copy=2" },
        { NULL, LCP("2024-03-01T00:00:00Z", 6) },
        { "opaque", "\x01 opaque document", "Opaque", "key-1", "play=9" },
        { "dead", "dead" },
        { "gone", "gone", .counters = "play=7" },
};

/* What a whole restore makes of it; licenses in the order of their ids. */
static const char after[] =
        "license gone play=3 generation 1\n"
        "license lcp copy=100 print=6 generation 1\n"
        "license mine copy=2 play=1 generation 1\n"
        "license opaque play=5 generation 1\n";

void restore_world_prepare(void) {
        if (access("/dev/shm", W_OK | X_OK) == 0)
                g_setenv("TMPDIR", "/dev/shm", true);
        signal(SIGPIPE, SIG_IGN);
}

typedef struct SpecDeed {
        Deed deed;
        const Spec *specs;
        unsigned n;
} SpecDeed;

static void parse_counters(License *license, const char *counters) {
        g_auto(GStrv) list = g_strsplit(counters ?: "", " ", 0);

        for (char **p = list; *p; p++) {
                char *equals = strchr(*p, '=');

                assert_non_null(equals);
                *equals = '\0';
                assert_int_equal(license_limit_counter(license, *p, strtoul(equals + 1, NULL, 10)), 0);
        }
}

static int put_specs(Deed *deed, StoreConnection *connection, Error *error) {
        SpecDeed *work = (SpecDeed *)deed;
        int r = 0;

        for (unsigned i = 0; r == 0 && i < work->n; i++) {
                const Spec *spec = &work->specs[i];
                g_auto(License) license = {};

                license_init(&license);
                r = document_recognise(spec->document, strlen(spec->document), NULL, &license, error);
                if (r != 0)
                        return r;
                assert_true(license_set_string(&license.id, spec->id ?: license.id) == 0);
                if (spec->title)
                        assert_int_equal(license_set_string(&license.title, spec->title), 0);
                if (spec->key_id)
                        assert_int_equal(license_set_string(&license.key_id, spec->key_id), 0);
                parse_counters(&license, spec->counters);
                license.allow_backup = !spec->restricted;
                r = store_license_put(connection, &deed->owner, &license, spec->document, error);
        }
        return r;
}

static void put_all(Store *store, const StoreOwner *owner, const Spec *specs, unsigned n) {
        SpecDeed work = { .deed = { .work = put_specs, .owner = *owner }, .specs = specs, .n = n };

        assert_good(deed_do(&work.deed, store), &work.deed.task.error);
}

void put_spec(Store *store, const StoreOwner *owner, const Spec *spec) {
        put_all(store, owner, spec, 1);
}

void put_many(Store *store, const StoreOwner *owner, unsigned n, size_t size) {
        g_autofree char *document = g_strnfill(size, 'd');
        g_autofree Spec *specs = g_new0(Spec, n);
        char (*ids)[16] = g_malloc(n * sizeof *ids);

        for (unsigned i = 0; i < n; i++) {
                snprintf(ids[i], sizeof *ids, "many-%u", i);
                specs[i] = (Spec) { ids[i], document };
        }
        put_all(store, owner, specs, n);
        g_free(ids);
}

void delete_license(Store *store, const StoreOwner *owner, const char *id) {
        g_auto(Deed) deed = { .work = deed_delete, .owner = *owner, .id = id };

        assert_good(deed_do(&deed, store), &deed.task.error);
}

void revoke_license(Store *store, const StoreOwner *owner, const char *id) {
        g_auto(Deed) deed = { .work = deed_revoke, .owner = *owner, .id = id };

        assert_good(deed_do(&deed, store), &deed.task.error);
}

static int deed_property(Deed *deed, StoreConnection *connection, Error *error) {
        return store_property_set(connection, &deed->owner, deed->id, deed->document, error);
}

void set_property(Store *store, const StoreOwner *owner, const char *name, const char *value) {
        g_auto(Deed) deed = { .work = deed_property, .owner = *owner, .id = name, .document = value };

        assert_good(deed_do(&deed, store), &deed.task.error);
}

int back_up(World *from, bool all_users) {
        int fd = new_target();
        BackupPlan plan = plan_to(from, fd);
        WorkResult result = {};

        plan.all_users = all_users;
        from->n_begins = from->n_progress = from->n_signals = from->percent = 0;
        from->completed = 0;
        run_good(from, plan, &result);
        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        return fd;
}

Store *restore_world_open(const char *folder) {
        g_auto(Error) error = {};
        Store *store;

        assert_good(store_open(folder, &no_limits, &store, &error), &error);
        put_all(store, &alice, new_machine, G_N_ELEMENTS(new_machine));
        put(store, &bob, "bobs", "bob's document");
        return store;
}

static void new_machine_open(RestoreWorld *world) {
        g_auto(Error) error = {};

        world->folder = temp_folder_new();
        world->own = make_folder(world->folder, "backups/1000");
        world->root = make_folder(world->folder, "root");
        world->store = restore_world_open(world->folder);
        assert_good(store_connect(world->store, &world->connection, &error), &error);
        assert_int_equal(cancel_new(&world->cancel), 0);
        world->before = render(world->connection);
}

static void new_machine_close(RestoreWorld *world) {
        world->connection = store_connection_free(world->connection);
        world->store = store_free(world->store);
        world->cancel = cancel_unref(world->cancel);
        temp_folder_remove(world->folder);
        g_clear_pointer(&world->own, g_free);
        g_clear_pointer(&world->root, g_free);
        g_clear_pointer(&world->before, g_free);
}

void restore_world_renew(RestoreWorld *world) {
        new_machine_close(world);
        new_machine_open(world);
}

int restore_world_setup(void **state) {
        RestoreWorld *world = g_new0(RestoreWorld, 1);
        void *from = NULL;

        assert_int_equal(world_setup(&from), 0);
        world->from = from;
        put_all(world->from->store, &alice, old_machine, G_N_ELEMENTS(old_machine));
        put(world->from->store, &bob, "bobs-old", "d");
        revoke_license(world->from->store, &alice, "dead");
        delete_license(world->from->store, &alice, "gone");
        world->backup = back_up(world->from, false);
        world->size = (uint64_t)lseek(world->backup, 0, SEEK_END);
        assert_int_equal(lseek(world->backup, 0, SEEK_SET), 0);

        world->events = g_string_new(NULL);
        new_machine_open(world);
        *state = world;
        return 0;
}

int restore_world_teardown(void **state) {
        RestoreWorld *world = *state;
        void *from = world->from;

        new_machine_close(world);
        assert_int_equal(world_teardown(&from), 0);
        close(world->backup);
        g_string_free(world->events, true);
        g_free(world);
        return 0;
}

static void render_text(GString *text, const char *name, const char *value) {
        if (value)
                g_string_append_printf(text, " %s '%s'", name, value);
}

static void render_license(GString *text, const License *license) {
        char hex[LICENSE_DIGEST_SIZE * 2 + 1];

        license_digest_to_hex(license->digest, hex);
        g_string_append_printf(text, "license %s", license->id);
        for (unsigned i = 0; i < license->counters->len; i++) {
                const Counter *counter = &g_array_index(license->counters, Counter, i);
                g_string_append_printf(text, " %s=%" PRIu64, counter->right, counter->remaining);
        }
        g_string_append_printf(text, " generation %" PRIu64, license->generation);
        render_text(text, "key", license->key_id);
        render_text(text, "title", license->title);
        render_text(text, "issuer", license->issuer);
        render_text(text, "type", license->media_type);
        g_string_append_printf(text, " times %" PRIi64 " %" PRIi64 " date %" PRIi64 " %s %s%s",
                license->not_before, license->not_after, license->document_date, license->extension, hex,
                license->allow_backup ? "" : " restricted");
}

/* What EnumerateLicenses and GetLicense answer. */
static void render_licenses(GString *text, StoreConnection *connection, const StoreOwner *owner) {
        const StoreFilter all = { .valid_at = LICENSE_NO_TIME, .allow_backup = -1 };
        g_autofree char *next = g_strdup("");

        do {
                g_autoptr(GPtrArray) page = g_ptr_array_new();
                g_autofree char *from = g_steal_pointer(&next);
                g_auto(Error) error = {};

                assert_good(store_license_enumerate(connection, owner, &all, from, 1000, 64 * 1024, page, &next,
                                    &error), &error);
                for (unsigned i = 0; i < page->len; i++) {
                        const License *listed = page->pdata[i];
                        g_auto(License) license = {};
                        g_autofree char *document = NULL;
                        g_autoptr(GString) again = g_string_new(NULL);
                        size_t at = text->len;

                        render_license(text, listed);
                        assert_good(store_license_get(connection, owner, listed->id, UINT64_MAX, &license,
                                            (void **)&document, &error), &error);
                        render_license(again, &license);
                        assert_string_equal(again->str, text->str + at);
                        g_string_append(text, " document ");
                        for (uint64_t k = 0; k < license.size; k++)
                                g_string_append_c(text, document[k] ?: '0');
                        g_string_append_c(text, '\n');
                }
        } while (*next);
}

/* What stays of licenses that were deleted or revoked. */
static void render_marks(GString *text, StoreConnection *connection, int64_t owner) {
        g_autoptr(StoreCursor) cursor = NULL;
        const StoreCursorRow *row;
        g_auto(Error) error = {};

        assert_good(store_cursor_new(connection, owner, false, &cursor, &error), &error);
        for (;;) {
                assert_good(store_cursor_next(cursor, &row, &error), &error);
                if (!row)
                        return;
                g_string_append_printf(text, "mark %s %s %" PRIi64 " %" PRIu64, row->license.id,
                        row->present ? "present" : "absent", row->revoked, row->license.generation);
                for (unsigned i = 0; i < row->license.counters->len; i++) {
                        const Counter *counter = &g_array_index(row->license.counters, Counter, i);
                        g_string_append_printf(text, " %s=%" PRIu64, counter->right, counter->remaining);
                }
                g_string_append_c(text, '\n');
        }
}

/* An owner whom a restore made the store know, and who has nothing, is not seen by anyone. */
char *render(StoreConnection *connection) {
        g_autoptr(GPtrArray) owners = g_ptr_array_new();
        GString *text = g_string_new(NULL);
        g_auto(Error) error = {};

        assert_good(store_snapshot_begin(connection, &error), &error);
        assert_good(store_snapshot_owners(connection, (uid_t)-1, NULL, owners, &error), &error);
        for (unsigned i = 0; i < owners->len; i++) {
                const StoreOwnerRow *row = owners->pdata[i];
                const StoreOwner owner = { row->uid, row->name };
                size_t start = text->len, head;

                g_string_append_printf(text, "owner %u %s: %" PRIu64 ", %" PRIu64 "\n", (unsigned)row->uid, row->name,
                        row->licenses, row->restricted);
                head = text->len;
                render_licenses(text, connection, &owner);
                render_marks(text, connection, row->owner);
                if (text->len == head && row->licenses == 0)
                        g_string_truncate(text, start);
        }
        store_snapshot_end(connection);
        return g_string_free(text, false);
}

void assert_unchanged(RestoreWorld *world) {
        g_autofree char *now = render(world->connection);

        assert_string_equal(now, world->before);
}

/* The number of this event; cancels where the test wants it. */
static void note_event(RestoreWorld *world) {
        world->n_events++;
        world->wrong = world->wrong || world->settled;
        if (world->n_events == world->cancel_at)
                cancel_trigger(world->cancel, "Enough.");
        if (world->at_event)
                world->at_event(world);
}

static void on_begin(uint64_t total, void *userdata) {
        RestoreWorld *world = userdata;

        note_event(world);
        world->wrong = world->wrong || world->events->len > 0 || world->n_progress > 0;
        world->total = total;
        g_string_append_printf(world->events, "begin %" PRIu64 "\n", total);
}

static void on_origin(WorkOrigin origin, char *from, void *userdata) {
        static const char *const words[] = { "checking", "accepted", "refused" };
        RestoreWorld *world = userdata;

        note_event(world);
        world->wrong = world->wrong || world->n_progress > 0;
        g_string_append_printf(world->events, "%s %s\n", words[origin], from);
        g_free(from);
}

static void on_restricted(GPtrArray *licenses, void *userdata) {
        RestoreWorld *world = userdata;

        world->wrong = true;
        g_ptr_array_unref(licenses);
}

static void on_outside(bool outside, void *userdata) {
}

static void on_moved(void *userdata) {
}

static void on_progress(uint64_t completed, unsigned percent, void *userdata) {
        RestoreWorld *world = userdata;

        note_event(world);
        world->n_progress++;
        world->wrong = world->wrong || !strstr(world->events->str, "accepted") || completed < world->completed ||
                completed > world->total || percent < world->percent || percent > 99;
        world->completed = completed;
        world->percent = percent;
}

/* On the store's thread, which must not be asked for anything now: one more moment to cancel, and no more. */
static void on_settling(void *userdata) {
        RestoreWorld *world = userdata;

        world->wrong = world->wrong || world->settled;
        if (world->n_events + 1 == world->cancel_at)
                cancel_trigger(world->cancel, "Enough.");
        world->settled = true;
        world->wrong = world->wrong || !strstr(world->events->str, "accepted");
        g_string_append(world->events, "settling\n");
}

RestorePlan restore_plan(RestoreWorld *world, int fd) {
        int copy = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);

        assert_true(fd < 0 || copy >= 0);
        return (RestorePlan) {
                .store = world->store,
                .uid = alice.uid,
                .name = g_strdup(alice.name),
                .owner = alice.uid,
                .fd = copy,
                .roots = g_strsplit(world->root, "|", 0),
                .machine = g_strdup("machine"),
                .stall_msec = 20000,
        };
}

WorkEvents restore_events(RestoreWorld *world) {
        g_string_truncate(world->events, 0);
        world->n_events = world->n_progress = world->percent = 0;
        world->completed = world->total = 0;
        world->settled = false;
        return (WorkEvents) { .begin = on_begin, .origin = on_origin, .restricted = on_restricted,
                .watched = on_outside, .outside = on_outside, .in_store = on_outside, .moved = on_moved,
                .progress = on_progress, .settling = on_settling,
                .userdata = world };
}

int restore(RestoreWorld *world, RestorePlan plan, WorkResult *ret, Error *error) {
        const WorkEvents events = restore_events(world);
        WorkResult result = { .restored = 77 };
        g_autoptr(Restore) work = NULL;
        int r;

        assert_int_equal(restore_new(&plan, world->cancel, &work), 0);
        assert_int_equal(plan.fd, -1);
        r = restore_check(work, error);
        if (r == 0)
                r = restore_run(work, &events, &result, error);
        assert_int_equal(r, error->code);
        if (world->wrong)
                fail_msg("an event in the wrong place: %s", world->events->str);
        assert_true(r == 0 || (result.restored == 77 && error->message));
        if (ret)
                *ret = result;
        else
                work_result_clear(&result);
        return r;
}

void restore_good(RestoreWorld *world, RestorePlan plan, WorkResult *ret) {
        g_auto(Error) error = {};

        assert_good(restore(world, plan, ret, &error), &error);
        assert_true(world->settled);
        assert_int_equal(world->completed, world->total);
}

/* The lines of alice's licenses, as far as after tells them. */
static void assert_after(RestoreWorld *world) {
        g_autofree char *now = render(world->connection);
        g_auto(GStrv) expected = g_strsplit(after, "\n", 0);

        for (char **p = expected; **p; p++)
                if (!strstr(now, *p))
                        fail_msg("no '%s' in:\n%s", *p, now);
        assert_null(strstr(now, "license dead"));
        assert_null(strstr(now, "license secret"));
        assert_non_null(strstr(now, "mark dead absent 1700000000"));
        assert_non_null(strstr(now, "2024-06-01"));
        assert_non_null(strstr(now, "license bobs "));
}

void assert_restores(RestoreWorld *world) {
        g_auto(WorkResult) result = {};
        RestorePlan plan = restore_plan(world, world->backup);

        assert_int_equal(lseek(world->backup, 0, SEEK_SET), 0);
        plan.individualize = true;
        restore_good(world, plan, &result);
        assert_int_equal(world->total, RESTORE_LICENSES);
        assert_after(world);
}

void assert_plan_refused(RestoreWorld *world, RestorePlan plan, ErrorCode code, const char *words) {
        g_auto(Error) error = {};

        assert_int_equal(restore(world, plan, NULL, &error), code);
        assert_error(&error, code, words);
        assert_unchanged(world);
}

void assert_refused(RestoreWorld *world, int fd, ErrorCode code, const char *where, const char *what) {
        RestorePlan plan = restore_plan(world, fd);
        g_auto(Error) error = {};
        int r;

        plan.individualize = true;
        r = restore(world, plan, NULL, &error);
        if (r != (int)code || !strstr(error_message(&error), where) || !strstr(error_message(&error), what))
                fail_msg("not '%s' with '%s' and '%s', but '%s': %s", error_name(code), where, what,
                        error_name(error.code), error_message(&error));
        assert_unchanged(world);
        close(fd);
}
