/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "document.h"
#include "restore-world.h"

/* A restore of a good backup of one user: what is told, whose it may be, and where it comes from. */

static void test_whole_backup_is_restored(void **state) {
        RestoreWorld *world = *state;

        assert_restores(world);
}

static void test_result_counts_what_became_of_each_license(void **state) {
        RestoreWorld *world = *state;
        g_auto(WorkResult) result = {}, again = {};

        restore_good(world, restore_plan(world, world->backup), &result);
        assert_int_equal(result.restored, 1);  /* lcp, whose document is newer */
        assert_int_equal(result.unchanged, 1); /* opaque */
        assert_int_equal(result.newer_kept, 0);
        assert_int_equal(result.conflicts, 0);
        assert_int_equal(result.revoked, 1);   /* dead */
        assert_non_null(result.skipped_users);
        assert_null(result.skipped_users[0]);

        assert_int_equal(lseek(world->backup, 0, SEEK_SET), 0);
        restore_good(world, restore_plan(world, world->backup), &again);
        assert_int_equal(again.restored, 0);
        assert_int_equal(again.unchanged, 2);
        assert_int_equal(again.revoked, 1);
}

/* What an owner has, with documents and marks: the lines after the owner's own. */
static char *render_owner(StoreConnection *connection, const char *name) {
        g_autofree char *all = render(connection), *head = g_strdup_printf(" %s: ", name);
        char *start = strstr(all, head), *end;

        assert_non_null(start);
        start = strchr(start, '\n') + 1;
        end = strstr(start, "owner ");
        return end ? g_strndup(start, (size_t)(end - start)) : g_strdup(start);
}

/* Another user, with consent, who has nothing yet. What may not be backed up leaves its low marks alone. */
static void test_restore_where_nothing_is_brings_everything_back(void **state) {
        RestoreWorld *world = *state;
        RestorePlan plan = restore_plan(world, world->backup);
        g_autoptr(StoreConnection) old = NULL;
        g_autofree char *there = NULL, *here = NULL;
        g_auto(Error) error = {};

        delete_license(world->from->store, &alice, "secret");
        assert_good(store_connect(world->from->store, &old, &error), &error);
        there = render_owner(old, "alice");

        g_free(plan.name);
        plan.name = g_strdup("carol");
        plan.uid = plan.owner = 1002;
        plan.individualize = true;
        restore_good(world, plan, NULL);
        here = render_owner(world->connection, "carol");
        assert_string_equal(here, there);
}

/* Who revokes a license of one id says nothing of another user's, which may have the same. */
static void test_what_another_user_revoked_is_not_taken_away(void **state) {
        static const StoreOwner carol = { 1002, "carol" };
        RestoreWorld *world = *state;
        RestorePlan plan = restore_plan(world, world->backup);
        g_autofree char *here = NULL;
        g_auto(WorkResult) result = {};

        put_spec(world->store, &carol, &(Spec) { "dead", "hers" });
        g_free(plan.name);
        plan.name = g_strdup(carol.name);
        plan.uid = plan.owner = carol.uid;
        plan.individualize = true;
        restore_good(world, plan, &result);
        assert_int_equal(result.revoked, 0);
        assert_int_equal(result.conflicts, 1);
        here = render_owner(world->connection, "carol");
        assert_non_null(strstr(here, "license dead"));
}

/* A license as StoreLicense makes it: what its document says, narrowed by what the caller says. */
typedef struct Odd {
        Deed deed;
        License *claimed;
        const char *document;
        size_t size;
} Odd;

static int put_odd(Deed *deed, StoreConnection *connection, Error *error) {
        Odd *odd = (Odd *)deed;
        g_auto(License) license = {};
        int r;

        license_init(&license);
        r = document_recognise(odd->document, odd->size, odd->claimed->media_type, &license, error);
        if (r == 0)
                r = license_narrow(&license, odd->claimed, error);
        return r == 0 ? store_license_put(connection, &deed->owner, &license, odd->document, error) : r;
}

static void store_odd(Store *store, License *claimed, const char *document, size_t size) {
        Odd odd = { .deed = { .work = put_odd, .owner = alice }, .claimed = claimed, .document = document,
                .size = size };

        assert_good(deed_do(&odd.deed, store), &odd.deed.task.error);
        license_clear(claimed);
        license_init(claimed);
}

/* All that is at a limit, or looks like something else. */
static void store_oddities(Store *store) {
        static const char *const texts[] = { " ", "../..", "/", "a=b\nc", "\"\\\t\x01", "Jörg \xf0\x9f\x93\x9a", ".",
                "generation=7", "\xef\xbb\xbf" };
        static const char lcp_before_1970[] =
                "{\"id\":\"old\",\"provider\":\"p\",\"issued\":\"1969-01-01T00:00:00.5Z\",\"encryption\":{\"profile\":"
                "\"http://readium.org/lcp/1\"},\"links\":[],\"rights\":{\"print\":true,\"copy\":3,\"start\":"
                "\"1960-01-01T00:00:00Z\",\"end\":\"2030-01-01T00:00:00.7Z\"},\"signature\":{}}";
        g_autofree char *longest = g_strnfill(LICENSE_STRING_MAX, 'l');
        g_auto(License) claimed = {};

        license_init(&claimed);
        for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
                g_autofree char *id = g_strconcat("odd ", texts[i], NULL);

                assert_int_equal(license_set_string(&claimed.id, id), 0);
                assert_int_equal(license_set_string(&claimed.title, texts[i]), 0);
                assert_int_equal(license_set_string(&claimed.key_id, texts[i]), 0);
                assert_int_equal(license_set_string(&claimed.issuer, texts[i]), 0);
                assert_int_equal(license_set_string(&claimed.media_type, texts[i]), 0);
                store_odd(store, &claimed, texts[i], strlen(texts[i]) + (i & 1));
        }

        claimed.id = g_steal_pointer(&longest);
        claimed.title = g_strdup(claimed.id);
        claimed.key_id = g_strdup(claimed.id);
        claimed.issuer = g_strdup(claimed.id);
        claimed.media_type = g_strdup(claimed.id);
        claimed.not_before = INT64_MAX;
        claimed.not_after = 0;
        for (unsigned i = 0; i < LICENSE_COUNTERS_MAX; i++) {
                char right[LICENSE_RIGHT_MAX + 1];

                snprintf(right, sizeof right, "%0*u", (int)LICENSE_RIGHT_MAX, i);
                assert_int_equal(license_limit_counter(&claimed, right, i % 2 ? INT64_MAX : 0), 0);
        }
        store_odd(store, &claimed, "", 0);

        /* Narrower than its document, twice, and with a counter that the document has not. */
        for (unsigned i = 0; i < 2; i++) {
                claimed.not_after = 1800000000;
                assert_int_equal(license_limit_counter(&claimed, "copy", 2), 0);
                assert_int_equal(license_limit_counter(&claimed, "lend", 1), 0);
                store_odd(store, &claimed, lcp_before_1970, strlen(lcp_before_1970));
        }
}

static void test_whatever_can_be_stored_comes_back(void **state) {
        RestoreWorld *world = *state;
        g_autofree char *there = NULL, *here = NULL;
        g_autoptr(StoreConnection) old = NULL;
        g_auto(WorkResult) result = {};
        g_auto(Error) error = {};
        RestorePlan plan;
        int fd;

        store_oddities(world->from->store);
        delete_license(world->from->store, &alice, "secret");
        assert_good(store_connect(world->from->store, &old, &error), &error);
        there = render_owner(old, "alice");
        fd = back_up(world->from, false);

        plan = restore_plan(world, fd);
        g_free(plan.name);
        plan.name = g_strdup("carol");
        plan.uid = plan.owner = 1002;
        plan.individualize = true;
        restore_good(world, plan, &result);
        here = render_owner(world->connection, "carol");
        assert_string_equal(here, there);
        assert_int_equal(result.restored, world->total);
        close(fd);
}

static void test_events_come_in_their_order(void **state) {
        RestoreWorld *world = *state;

        restore_good(world, restore_plan(world, world->backup), NULL);
        assert_string_equal(world->events->str,
                "begin 2\nchecking alice on host\naccepted alice on host\nsettling\n");
        assert_int_equal(world->completed, 2);
        assert_in_range(world->n_progress, 2, 100);
        assert_in_range(world->percent, 50, 99);
}

static void test_percent_and_completed_never_fall_in_a_large_restore(void **state) {
        RestoreWorld *world = *state;
        int fd;

        put_many(world->from->store, &alice, 3000, 100);
        fd = back_up(world->from, false);
        restore_good(world, restore_plan(world, fd), NULL);
        assert_int_equal(world->total, 3002);
        assert_int_equal(world->completed, 3002);
        assert_true(world->n_progress > 10);
        close(fd);
}

typedef enum Change { OTHER_MACHINE, NO_MACHINE, OTHER_NAME, OTHER_UID } Change;

static RestorePlan changed_plan(RestoreWorld *world, Change change) {
        RestorePlan plan = restore_plan(world, world->backup);

        assert_int_equal(lseek(world->backup, 0, SEEK_SET), 0);
        switch (change) {
        case OTHER_MACHINE:
        case NO_MACHINE:
                g_free(plan.machine);
                plan.machine = g_strdup(change == NO_MACHINE ? "" : "another");
                break;
        case OTHER_NAME:
                g_free(plan.name);
                plan.name = g_strdup("alicia");
                break;
        case OTHER_UID:
                plan.uid = plan.owner = 1007;
                break;
        }
        return plan;
}

static void test_backup_from_elsewhere_needs_consent(void **state) {
        RestoreWorld *world = *state;

        for (Change change = OTHER_MACHINE; change <= OTHER_UID; change++) {
                RestorePlan plan;

                assert_plan_refused(world, changed_plan(world, change), ERROR_NEEDS_INDIVIDUALIZATION,
                        "alice on host");
                assert_string_equal(world->events->str,
                        "begin 2\nchecking alice on host\nrefused alice on host\n");
                assert_int_equal(world->n_progress, 0);

                plan = changed_plan(world, change);
                plan.individualize = true;
                restore_good(world, plan, NULL);
                assert_string_equal(world->events->str,
                        "begin 2\nchecking alice on host\naccepted alice on host\nsettling\n");
                restore_world_renew(world);
        }
}

/* Two machines without an id are not known to be the same. */
static void test_backup_of_a_machine_without_an_id_needs_consent(void **state) {
        static const Part manifest = { ARCHIVE_MANIFEST, MANIFEST_JSON(1, "", MANIFEST_OWNER, 2, 0) };
        static const char *const machines[] = { "", "machine" };
        RestoreWorld *world = *state;
        int fd = make_archive_with(PART_MANIFEST, manifest);

        for (size_t i = 0; i < G_N_ELEMENTS(machines); i++) {
                RestorePlan plan = restore_plan(world, fd);

                g_free(plan.machine);
                plan.machine = g_strdup(machines[i]);
                assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
                assert_plan_refused(world, plan, ERROR_NEEDS_INDIVIDUALIZATION, "WM_RESTORE_INDIVIDUALIZE");
        }
        RestorePlan plan = restore_plan(world, fd);
        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        plan.individualize = true;
        restore_good(world, plan, NULL);
        close(fd);
}

static void place_backup(RestoreWorld *world, const char *folder, int fd) {
        g_autofree char *path = g_build_filename(folder, FOLDER_BACKUP_NAME, NULL);
        g_autoptr(GByteArray) tar = tarball_read_file(fd);

        write_path(path, tar->data, tar->len);
}

static void test_restore_path_is_the_own_folder_at_first(void **state) {
        RestoreWorld *world = *state;

        place_backup(world, world->own, world->backup);
        restore_good(world, restore_plan(world, -1), NULL);
        assert_string_equal(world->events->str,
                "begin 2\nchecking alice on host\naccepted alice on host\nsettling\n");
}

static void test_restore_path_may_be_another_folder_than_the_backup_path(void **state) {
        RestoreWorld *world = *state;
        g_autofree char *folder = make_folder(world->root, "1000/usb");
        g_autofree char *other = make_folder(world->root, "1000/other");

        place_backup(world, folder, world->backup);
        set_property(world->store, &alice, "BackupPath", other);
        set_property(world->store, &alice, "RestorePath", folder);
        restore_good(world, restore_plan(world, -1), NULL);
}

/* Checks and runs from alice's RestorePath. */
static void assert_path_refused(RestoreWorld *world, ErrorCode code, const char *words) {
        assert_plan_refused(world, restore_plan(world, -1), code, words);
        assert_int_equal(world->n_events, 0);
}

static void test_restore_path_without_a_backup_is_said_so(void **state) {
        RestoreWorld *world = *state;

        assert_path_refused(world, ERROR_BACKUP_MISSING, "There is no backup of yours in");
        assert_int_equal(rmdir(world->own), 0);
        assert_path_refused(world, ERROR_BACKUP_MISSING, "There is no backup of yours in");
}

static void test_restore_path_outside_of_the_allowed_folders_is_refused(void **state) {
        RestoreWorld *world = *state;
        g_autofree char *bobs = make_folder(world->root, "1001");

        set_property(world->store, &alice, "RestorePath", "/etc");
        assert_path_refused(world, ERROR_ACCESS_DENIED, "/etc");
        set_property(world->store, &alice, "RestorePath", bobs);
        assert_path_refused(world, ERROR_ACCESS_DENIED, bobs);
}

static void test_backup_of_another_user_in_the_own_folder_is_not_seen(void **state) {
        RestoreWorld *world = *state;
        static const Part manifest = { ARCHIVE_MANIFEST, MANIFEST_JSON(1, "machine",
                "\"all_users\":false,\"owner\":{\"uid\":1000,\"name\":\"former\"}", 2, 0) };
        _cleanup_fd_ int fd = make_archive_with(PART_MANIFEST, manifest);

        place_backup(world, world->own, fd);
        assert_path_refused(world, ERROR_BACKUP_MISSING, "There is no backup of yours in");
}

static void test_links_in_the_way_of_the_restore_path_are_refused(void **state) {
        RestoreWorld *world = *state;
        g_autofree char *real = make_folder(world->root, "1000/real");
        g_autofree char *symbolic = g_build_filename(world->root, "1000/link", NULL);
        g_autofree char *below = g_build_filename(symbolic, "x", NULL);
        g_autofree char *file = g_build_filename(world->own, FOLDER_BACKUP_NAME, NULL);
        g_autofree char *elsewhere = g_build_filename(world->root, FOLDER_BACKUP_NAME, NULL);

        place_backup(world, real, world->backup);
        place_backup(world, world->root, world->backup);
        assert_int_equal(symlink(real, symbolic), 0);
        set_property(world->store, &alice, "RestorePath", symbolic);
        assert_path_refused(world, ERROR_ACCESS_DENIED, symbolic);
        assert_int_equal(mkdir(below, 0700), 0);
        set_property(world->store, &alice, "RestorePath", below);
        assert_path_refused(world, ERROR_ACCESS_DENIED, below);

        /* Of the file itself: a symbolic link, a hard link, a pipe, a folder. */
        set_property(world->store, &alice, "RestorePath", world->own);
        assert_int_equal(symlink(elsewhere, file), 0);
        assert_path_refused(world, ERROR_ACCESS_DENIED, world->own);
        assert_int_equal(unlink(file), 0);
        assert_int_equal(chmod(world->own, 0777), 0);
        assert_int_equal(link(elsewhere, file), 0);
        assert_path_refused(world, ERROR_ACCESS_DENIED, world->own);
        assert_int_equal(chmod(world->own, 0700), 0);
        assert_int_equal(unlink(file), 0);
        assert_int_equal(mkfifo(file, 0600), 0);
        assert_path_refused(world, ERROR_ACCESS_DENIED, world->own);
        assert_int_equal(unlink(file), 0);
        assert_int_equal(mkdir(file, 0700), 0);
        assert_path_refused(world, ERROR_ACCESS_DENIED, world->own);
}

static void test_damaged_backup_in_the_restore_path_is_refused(void **state) {
        static const size_t places[] = { 0, 600, 3000, 6000 };
        RestoreWorld *world = *state;
        g_autofree char *path = g_build_filename(world->own, FOLDER_BACKUP_NAME, NULL);
        g_autoptr(GByteArray) tar = tarball_read_file(world->backup);

        for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
                tar->data[places[i]] ^= 2;
                write_path(path, tar->data, tar->len);
                assert_plan_refused(world, restore_plan(world, -1), ERROR_BACKUP_CORRUPT, "damaged");
                tar->data[places[i]] ^= 2;
        }
        write_path(path, tar->data, tar->len);
        restore_good(world, restore_plan(world, -1), NULL);
}

static void test_check_touches_nothing_and_may_come_twice(void **state) {
        RestoreWorld *world = *state;
        RestorePlan plan = restore_plan(world, world->backup);
        g_autoptr(Restore) work = NULL;
        g_auto(Error) error = {};

        assert_int_equal(restore_new(&plan, world->cancel, &work), 0);
        for (unsigned i = 0; i < 2; i++) {
                assert_good(restore_check(work, &error), &error);
                assert_int_equal(lseek(world->backup, 0, SEEK_CUR), 0);
        }
        assert_unchanged(world);
}

static void test_conflicts_are_listed_by_name(void **state) {
        RestoreWorld *world = *state;
        const WorkEvents events = restore_events(world);
        g_autoptr(GPtrArray) read = g_ptr_array_new();
        g_autoptr(Restore) work = NULL;
        g_auto(WorkResult) result = {};
        g_auto(Error) error = {};
        RestorePlan plan;

        put_spec(world->store, &alice, &(Spec) { "opaque", "another document", "Here", "key-9" });
        plan = restore_plan(world, world->backup);
        assert_int_equal(restore_new(&plan, world->cancel, &work), 0);
        assert_good(restore_run(work, &events, &result, &error), &error);
        assert_int_equal(result.conflicts, 1);
        assert_int_equal(restricted_count(restore_conflicts(work)), 1);
        assert_int_equal(restricted_read(restore_conflicts(work), 0, 10, read), 0);
        assert_int_equal(read->len, 3);
        assert_string_equal(read->pdata[0], "opaque");
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, restore_world_setup, restore_world_teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_whole_backup_is_restored),
                IN_WORLD(test_result_counts_what_became_of_each_license),
                IN_WORLD(test_restore_where_nothing_is_brings_everything_back),
                IN_WORLD(test_what_another_user_revoked_is_not_taken_away),
                IN_WORLD(test_whatever_can_be_stored_comes_back),
                IN_WORLD(test_events_come_in_their_order),
                IN_WORLD(test_percent_and_completed_never_fall_in_a_large_restore),
                IN_WORLD(test_backup_from_elsewhere_needs_consent),
                IN_WORLD(test_backup_of_a_machine_without_an_id_needs_consent),
                IN_WORLD(test_restore_path_is_the_own_folder_at_first),
                IN_WORLD(test_restore_path_may_be_another_folder_than_the_backup_path),
                IN_WORLD(test_restore_path_without_a_backup_is_said_so),
                IN_WORLD(test_restore_path_outside_of_the_allowed_folders_is_refused),
                IN_WORLD(test_backup_of_another_user_in_the_own_folder_is_not_seen),
                IN_WORLD(test_links_in_the_way_of_the_restore_path_are_refused),
                IN_WORLD(test_damaged_backup_in_the_restore_path_is_refused),
                IN_WORLD(test_check_touches_nothing_and_may_come_twice),
                IN_WORLD(test_conflicts_are_listed_by_name),
        };

        restore_world_prepare();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
