/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* BackupRestoreProps and Manager. */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client.h"

#define PROPS "BackupRestoreProps."

static int setup(void **state) {
        harness_setup_bus(state);
        Harness *h = *state;
        harness_set(h, "Backup", "Roots", h->media);
        harness_start(h);
        return 0;
}

static char *get_prop(sd_bus *bus, const char *name) {
        _cleanup_message_ sd_bus_message *reply = call(bus, ROOT, PROPS "GetPropByName", "s", name);
        const char *value;

        assert_true(sd_bus_message_read(reply, "v", "s", &value) > 0);
        return g_strdup(value);
}

static unsigned count_props(sd_bus *bus) {
        _cleanup_message_ sd_bus_message *reply = call(bus, ROOT, PROPS "GetPropCount", "");
        uint16_t count;

        assert_true(sd_bus_message_read(reply, "q", &count) > 0);
        return count;
}

static char *own_folder(Harness *h) {
        return g_strdup_printf("%s/%u", h->media, (unsigned)h->users[0]);
}

static void test_unset_properties_are_the_default_place(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *expected = g_strdup_printf("%s/backups/%u", h->state, (unsigned)h->users[0]);
        g_autofree char *backup = get_prop(bus, "BackupPath"), *restore = get_prop(bus, "RestorePath");

        assert_string_equal(backup, expected);
        assert_string_equal(restore, expected);
        assert_int_equal(count_props(bus), 0);
        call_error(bus, ROOT, PROPS "GetPropByIndex", "InvalidArgs", NULL, "q", 0);
}

static void test_set_properties_are_counted_by_name_and_kept(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *folder = own_folder(h);
        g_autofree char *below = g_strconcat(folder, "/below", NULL);
        call_void(bus, ROOT, PROPS "SetProp", "sv", "RestorePath", "s", folder);
        assert_int_equal(count_props(bus), 1);
        call_void(bus, ROOT, PROPS "SetProp", "sv", "BackupPath", "s", below);
        assert_int_equal(count_props(bus), 2);

        harness_stop(h);
        harness_start(h);
        g_autofree char *backup = get_prop(bus, "BackupPath"), *restore = get_prop(bus, "RestorePath");
        assert_string_equal(backup, below);
        assert_string_equal(restore, folder);
        _cleanup_message_ sd_bus_message *first = call(bus, ROOT, PROPS "GetPropByIndex", "q", 0);
        _cleanup_message_ sd_bus_message *second = call(bus, ROOT, PROPS "GetPropByIndex", "q", 1);
        const char *name, *value;
        assert_true(sd_bus_message_read(first, "sv", &name, "s", &value) > 0);
        assert_string_equal(name, "BackupPath");
        assert_string_equal(value, below);
        assert_true(sd_bus_message_read(second, "sv", &name, "s", &value) > 0);
        assert_string_equal(name, "RestorePath");
        assert_string_equal(value, folder);
        call_error(bus, ROOT, PROPS "GetPropByIndex", "InvalidArgs", NULL, "q", 2);
        call_error(bus, ROOT, PROPS "GetPropByIndex", "InvalidArgs", NULL, "q", 65535);
}

static void test_removed_properties_are_the_default_again(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *folder = own_folder(h), *before = get_prop(bus, "BackupPath");
        call_void(bus, ROOT, PROPS "SetProp", "sv", "BackupPath", "s", folder);
        call_void(bus, ROOT, PROPS "SetProp", "sv", "RestorePath", "s", folder);

        call_void(bus, ROOT, PROPS "RemoveProp", "s", "BackupPath");
        call_void(bus, ROOT, PROPS "RemoveProp", "s", "BackupPath");
        assert_int_equal(count_props(bus), 1);
        g_autofree char *after = get_prop(bus, "BackupPath");
        assert_string_equal(after, before);
        call_void(bus, ROOT, PROPS "RemoveAllProps", "");
        call_void(bus, ROOT, PROPS "RemoveAllProps", "");
        assert_int_equal(count_props(bus), 0);
}

static void test_unknown_names_are_unsupported(void **state) {
        sd_bus *bus = harness_connect(*state, 0);

        call_error(bus, ROOT, PROPS "GetPropByName", "NS_E_DRM_UNSUPPORTED_PROPERTY", NULL, "s", "Colour");
        call_error(
                bus, ROOT, PROPS "SetProp", "NS_E_DRM_UNSUPPORTED_PROPERTY", NULL, "sv", "Colour", "s", "/");
        call_error(bus, ROOT, PROPS "SetProp", "NS_E_DRM_UNSUPPORTED_PROPERTY", NULL, "sv", "backuppath",
                "s", "/");
        call_error(bus, ROOT, PROPS "RemoveProp", "NS_E_DRM_UNSUPPORTED_PROPERTY", NULL, "s", "");
}

static void test_bad_values_leave_the_old_one(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *folder = own_folder(h);
        g_autofree char *up = g_strconcat(folder, "/../x", NULL);
        g_autofree char *sibling = g_strconcat(folder, "0", NULL);
        call_void(bus, ROOT, PROPS "SetProp", "sv", "BackupPath", "s", folder);

#define REFUSED(error, message, type, value) \
        call_error(bus, ROOT, PROPS "SetProp", error, message, "sv", "BackupPath", type, value)
        REFUSED("InvalidArgs", NULL, "u", 1);
        REFUSED("InvalidArgs", NULL, "o", "/org");
        REFUSED("InvalidArgs", NULL, "s", "");
        REFUSED("InvalidArgs", NULL, "s", "relative/path");
        REFUSED("AccessDenied", "*BackupLicensesToFile*", "s", "/etc");
        REFUSED("AccessDenied", "*BackupLicensesToFile*", "s", h->media);
        REFUSED("AccessDenied", "*BackupLicensesToFile*", "s", h->state);
        REFUSED("AccessDenied", "*BackupLicensesToFile*", "s", sibling);
#undef REFUSED
        /* ".." is no way out, whichever error says so. */
        sd_bus_message *message = new_call(bus, ROOT, PROPS "SetProp");
        assert_true(sd_bus_message_append(message, "sv", "BackupPath", "s", up) >= 0);
        assert_true(sd_bus_call(bus, message, 0, NULL, NULL) < 0);
        sd_bus_message_unref(message);
        g_autofree char *value = get_prop(bus, "BackupPath");
        assert_string_equal(value, folder);
}

static void test_properties_belong_to_a_user(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0), *other = harness_connect(h, 1), *same = harness_connect(h, 0);
        g_autofree char *folder = own_folder(h);
        call_void(bus, ROOT, PROPS "SetProp", "sv", "BackupPath", "s", folder);

        assert_int_equal(count_props(other), 0);
        assert_int_equal(count_props(same), 1);
        call_error(other, ROOT, PROPS "SetProp", "AccessDenied", "*BackupLicensesToFile*", "sv",
                "BackupPath", "s", folder);
        call_void(other, ROOT, PROPS "RemoveAllProps", "");
        assert_int_equal(count_props(bus), 1);
}

static void test_backup_goes_where_the_property_says(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *folder = own_folder(h);
        g_autofree char *file = g_strconcat(folder, "/licenses.tar", NULL);
        g_autoptr(GHashTable) result = NULL;
        struct stat st;
        call_void(bus, ROOT, PROPS "SetProp", "sv", "BackupPath", "s", folder);

        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        result = assert_job_succeeds(bus, job);
        assert_int_equal(lstat(file, &st), 0);
        assert_int_equal(st.st_mode, S_IFREG | 0600);
        g_autofree char *size = g_strdup_printf("%" PRIu64, (uint64_t)st.st_size);
        assert_property(result, "bytes", size);
        assert_int_equal(count_names(folder), 1);
}

static void test_property_of_a_withdrawn_root_no_longer_works(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *folder = own_folder(h);
        call_void(bus, ROOT, PROPS "SetProp", "sv", "BackupPath", "s", folder);
        harness_stop(h);
        g_key_file_remove_key(h->settings, "Backup", "Roots", NULL);
        harness_start(h);

        call_error(bus, ROOT, "LicenseBackup.BackupLicenses", "AccessDenied", NULL, "u", 0);
        assert_int_equal(count_names(folder), 0);
        call_void(bus, ROOT, PROPS "RemoveProp", "s", "BackupPath");
        g_autofree char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_hash_table_unref(assert_job_succeeds(bus, job));
}

static char *manager_property(sd_bus *bus, const char *name) {
        _cleanup_message_ sd_bus_message *reply = call(
                bus, ROOT, "org.freedesktop.DBus.Properties.Get", "ss", "org.licensevault1.Manager", name);
        const char *value;

        assert_true(sd_bus_message_read(reply, "v", "s", &value) > 0);
        return g_strdup(value);
}

static void test_manager_says_version_and_a_new_instance_at_each_start(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *version = manager_property(bus, "Version"),
                        *first = manager_property(bus, "InstanceId");
        g_autofree char *again = manager_property(bus, "InstanceId");

        assert_string_equal(version, PROJECT_VERSION);
        assert_string_equal(first, again);
        assert_true(g_regex_match_simple("^[0-9a-f]{32}$", first, 0, 0));
        harness_stop(h);
        harness_start(h);
        g_autofree char *second = manager_property(bus, "InstanceId");
        assert_string_not_equal(first, second);
        call_void(bus, ROOT, "Manager.Unsubscribe", "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_unset_properties_are_the_default_place),
                TEST(test_set_properties_are_counted_by_name_and_kept),
                TEST(test_removed_properties_are_the_default_again),
                TEST(test_unknown_names_are_unsupported),
                TEST(test_bad_values_leave_the_old_one),
                TEST(test_properties_belong_to_a_user),
                TEST(test_backup_goes_where_the_property_says),
                TEST(test_property_of_a_withdrawn_root_no_longer_works),
                TEST(test_manager_says_version_and_a_new_instance_at_each_start),
        };

        return cmocka_run_group_tests_name("props", tests, NULL, NULL);
}
