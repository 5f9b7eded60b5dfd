/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Power cuts: at each moment, and with each loss, what is there afterwards is old or new, and whole. */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "power-world.h"
#include "restores.h"

/* Points that a test tries where not all are asked for; what orders writes comes on top. */
#define POINTS 120

#define STEP(what) \
        do { \
                power_begin(world); \
                what; \
                power_end(world); \
        } while (0)

static char *numbered(const char *prefix, unsigned i) {
        return g_strdup_printf("%s%02u", prefix, i);
}

static void store_one(sd_bus *bus, const char *id, size_t size, uint32_t seed) {
        g_autofree uint8_t *document = make_document(size, seed);

        g_free(store_license(bus, document, size, "a{sv}", 2, "LicenseId", "s", id, "Counters", "a{st}", 1, "print",
                (uint64_t)10));
}

static void some_licenses(sd_bus *bus, const char *prefix, unsigned n) {
        for (unsigned i = 0; i < n; i++) {
                g_autofree char *id = numbered(prefix, i);

                store_one(bus, id, 3000 + 100 * i, i);
        }
}

static void test_power_cut_while_a_store_is_made(void **state) {
        PowerWorld *world = *state;

        power_begin_all(world);
        power_begin(world);
        power_start(world);
        power_end(world);
        power_try(world, POINTS);
}

static void test_power_cut_while_licenses_change(void **state) {
        PowerWorld *world = *state;
        g_autofree char *path = g_strdup_printf("%s/%u", world->h->media, (unsigned)world->h->users[0]);

        power_start(world);
        sd_bus *bus = harness_connect(world->h, 0);
        power_begin_all(world);
        for (unsigned i = 0; i < 6; i++) {
                g_autofree char *id = numbered("a", i);

                power_begin(world);
                store_one(bus, id, 100 + i * 9000, i);
                power_end(world);
        }
        STEP(store_one(bus, "a00", 20000, 77));
        STEP((void)consume(bus, "a01", "print", 3));
        STEP(call_void(bus, ROOT, "LicenseStore.DeleteLicense", "s", "a02"));
        STEP(call_void(bus, ROOT, "LicenseStore.RevokeLicense", "s", "a03"));
        STEP(store_many(bus, "b", 40, 2000));
        STEP(call_void(bus, ROOT, "BackupRestoreProps.SetProp", "sv", "RestorePath", "s", path));
        STEP(call_void(bus, ROOT, "BackupRestoreProps.RemoveAllProps", ""));
        /* The log of the store is written into the store, and begins anew. */
        STEP(harness_stop(world->h));
        STEP(power_start(world));
        STEP(store_one(bus, "after", 5000, 5));
        STEP(store_one(bus, "a02", 5000, 6));
        power_try(world, POINTS);
}

static void receive_ack(PowerWorld *world, sd_bus *bus, unsigned user) {
        sd_bus_message *reply = receive_reply(bus, PATIENCE_SEC * 1000);
        g_autofree char *key = NULL;
        const char *id;

        assert_non_null(reply);
        assert_true(sd_bus_message_read(reply, "s", &id) > 0);
        key = g_strdup_printf("license %u %s", (unsigned)world->h->users[user], id);
        power_acknowledge(world, key);
        sd_bus_message_unref(reply);
}

static void test_power_cut_while_a_crowd_stores(void **state) {
        PowerWorld *world = *state;
        const unsigned each = 12;

        power_set(POWER_SLOW, "20000");
        power_start(world);
        power_set(POWER_SLOW, NULL);
        power_begin_all(world);
        power_begin_parts(world);
        sd_bus *buses[TEST_USERS];
        for (unsigned user = 0; user < world->h->n_users; user++)
                buses[user] = harness_connect(world->h, user);
        for (unsigned i = 0; i < each; i++)
                for (unsigned user = 0; user < world->h->n_users; user++) {
                        g_autofree uint8_t *document = make_document(2000, i);
                        g_autofree char *id = numbered("c", i);
                        sd_bus_message *message = new_call(buses[user], ROOT, "LicenseStore.StoreLicense");

                        assert_true(sd_bus_message_append_array(message, 'y', document, 2000) >= 0);
                        assert_true(sd_bus_message_append(message, "a{sv}", 1, "LicenseId", "s", id) >= 0);
                        send_only(buses[user], message);
                }
        for (unsigned i = 0; i < each; i++)
                for (unsigned user = 0; user < world->h->n_users; user++)
                        receive_ack(world, buses[user], user);
        power_end(world);
        power_try(world, POINTS);
}

/* More than SQLite lets its log grow to before it writes it into the database. */
static void test_power_cut_at_a_checkpoint(void **state) {
        PowerWorld *world = *state;

        power_start(world);
        sd_bus *bus = harness_connect(world->h, 0);
        store_many(bus, "d", 12, 600000);
        power_begin_all(world);
        for (unsigned i = 0; i < 4; i++) {
                g_autofree char *id = numbered("e", i);

                power_begin(world);
                store_one(bus, id, 300000, i);
                power_end(world);
        }
        power_try(world, 100);
}

static void back_up(sd_bus *bus, uint32_t flags) {
        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", flags);

        g_hash_table_unref(assert_job_succeeds(bus, job));
}

static void backups_by_path(PowerWorld *world) {
        power_start(world);
        sd_bus *bus = harness_connect(world->h, 0);
        g_autofree char *path = g_strdup_printf("%s/%u", world->h->media, (unsigned)world->h->users[0]);

        some_licenses(bus, "f", 8);
        power_begin_all(world);
        STEP(back_up(bus, 0));
        STEP(store_one(bus, "more", 5000, 1));
        STEP(back_up(bus, 1));
        STEP(call_void(bus, ROOT, "BackupRestoreProps.SetProp", "sv", "BackupPath", "s", path));
        STEP(back_up(bus, 0));
        STEP(store_one(bus, "still more", 5000, 1));
        STEP(back_up(bus, 1));
        power_try(world, POINTS);
}

static void test_power_cut_while_a_backup_is_made(void **state) {
        backups_by_path(*state);
}

static void test_power_cut_while_a_backup_with_a_name_is_made(void **state) {
        power_set(POWER_NAMED, "1");
        backups_by_path(*state);
}

static void save(PowerWorld *world, const char *output, const char *option) {
        g_autofree char *said = NULL;

        power_record(world, true);
        int status = run_program((const char *[]) { g_getenv("LICENSEVAULTCTL"), "backup", "--output", output, option,
                                         NULL }, NULL, &said);
        power_record(world, false);
        if (status != 0)
                fail_msg("licensevaultctl backup: %d: %s", status, said);
}

static void backups_to_files(PowerWorld *world) {
        g_autofree char *output = g_build_filename(world->out, POWER_OUTPUT, NULL);

        g_setenv("DBUS_SYSTEM_BUS_ADDRESS", world->h->address, true);
        power_start(world);
        sd_bus *bus = harness_connect_uid(world->h, geteuid());
        some_licenses(bus, "g", 8);
        power_begin_all(world);
        STEP(save(world, output, NULL));
        STEP(store_one(bus, "more", 5000, 1));
        STEP(save(world, output, "--overwrite"));
        power_try(world, POINTS);
}

static void test_power_cut_while_a_file_is_saved(void **state) {
        backups_to_files(*state);
}

static void test_power_cut_while_a_file_with_a_name_is_saved(void **state) {
        power_set(POWER_NAMED, "1");
        backups_to_files(*state);
}

static void restore(sd_bus *bus) {
        g_autofree char *job = call_string(bus, ROOT, RESTORE_PATH, "u", AGREE);

        g_hash_table_unref(assert_job_succeeds(bus, job));
}

static void test_power_cut_while_a_backup_is_restored(void **state) {
        PowerWorld *world = *state;

        power_start(world);
        sd_bus *bus = harness_connect(world->h, 0);
        some_licenses(bus, "h", 12);
        back_up(bus, 0);
        for (unsigned i = 0; i < 12; i += 2) {
                g_autofree char *id = numbered("h", i);

                call_void(bus, ROOT, "LicenseStore.DeleteLicense", "s", id);
        }
        call_void(bus, ROOT, "LicenseStore.RevokeLicense", "s", "h01");
        (void)consume(bus, "h03", "print", 4);
        power_begin_all(world);
        STEP(restore(bus));
        STEP(restore(bus));
        power_try(world, POINTS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, power_setup, power_teardown)

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                TEST(test_power_cut_while_a_store_is_made),
                TEST(test_power_cut_while_licenses_change),
                TEST(test_power_cut_while_a_crowd_stores),
                TEST(test_power_cut_at_a_checkpoint),
                TEST(test_power_cut_while_a_backup_is_made),
                TEST(test_power_cut_while_a_backup_with_a_name_is_made),
                TEST(test_power_cut_while_a_file_is_saved),
                TEST(test_power_cut_while_a_file_with_a_name_is_saved),
                TEST(test_power_cut_while_a_backup_is_restored),
        };
        int failed;

        power_long = argc > 1 && strcmp(argv[1], "--long") == 0;
        /* Thousands of small disks are written: in memory, where that goes. */
        if (!g_getenv("TMPDIR") && access("/dev/shm", W_OK) == 0)
                g_setenv("TMPDIR", "/dev/shm", true);
        failed = cmocka_run_group_tests_name("power", tests, NULL, NULL);
        printf("%d passed, %d failed\n", (int)G_N_ELEMENTS(tests) - failed, failed);
        return failed > 0;
}
