/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "error.h"

/* What the D-Bus contract fixes, written down once more: clients compare these. */
static const struct {
        ErrorCode code;
        const char *name;
        uint32_t hresult;
} contract[] = {
        { ERROR_INVALID_ARGUMENTS, "org.freedesktop.DBus.Error.InvalidArgs", 0x80070057 },
        { ERROR_NO_MEMORY, "org.freedesktop.DBus.Error.NoMemory", 0x8007000E },
        { ERROR_ACCESS_DENIED, "org.freedesktop.DBus.Error.AccessDenied", 0x80070005 },
        { ERROR_USERS_UNKNOWN, "org.freedesktop.DBus.Error.AccessDenied", 0x80070005 },
        { ERROR_AUTHORIZATION_REQUIRED,
          "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", 0x80070005 },
        { ERROR_LIMIT_EXCEEDED, "org.freedesktop.DBus.Error.LimitsExceeded", 0xC00D2714 },
        { ERROR_BACKUP_EXISTS, "org.licensevault1.Error.NS_E_DRM_BACKUP_EXISTS", 0xC00D2742 },
        { ERROR_BACKUP_CORRUPT, "org.licensevault1.Error.NS_E_DRM_BACKUP_CORRUPT", 0xC00D2743 },
        { ERROR_BACKUP_MISSING, "org.licensevault1.Error.NS_E_DRM_BACKUP_CORRUPT", 0xC00D2743 },
        { ERROR_BACKUP_BUSY, "org.licensevault1.Error.NS_E_DRM_BACKUPRESTORE_BUSY", 0xC00D2744 },
        { ERROR_MEDIUM, "org.licensevault1.Error.NS_E_BACKUP_RESTORE_FAILURE", 0xC00D272D },
        { ERROR_CANCELED, "org.licensevault1.Error.NS_E_DRM_OPERATION_CANCELED", 0xC00D2768 },
        { ERROR_NEEDS_INDIVIDUALIZATION,
          "org.licensevault1.Error.NS_E_DRM_NEEDS_INDIVIDUALIZATION", 0xC00D2728 },
        { ERROR_UNSUPPORTED_PROPERTY, "org.licensevault1.Error.NS_E_DRM_UNSUPPORTED_PROPERTY", 0xC00D275D },
        { ERROR_INVALID_LICENSE, "org.licensevault1.Error.NS_E_DRM_INVALID_LICENSE", 0xC00D2718 },
        { ERROR_LICENSE_UNAVAILABLE, "org.licensevault1.Error.NS_E_DRM_LICENSE_UNAVAILABLE", 0xC00D28A2 },
        { ERROR_LICENSE_REVOKED, "org.licensevault1.Error.NS_E_DRM_LICENSE_CONTENT_REVOKED", 0xC00D27E1 },
        { ERROR_NO_RIGHTS, "org.licensevault1.Error.NS_E_DRM_NO_RIGHTS", 0xC00D2720 },
        { ERROR_STORE_READ, "org.licensevault1.Error.NS_E_DRM_LICENSE_STORE_ERROR", 0xC00D2712 },
        { ERROR_STORE_WRITE, "org.licensevault1.Error.NS_E_DRM_LICENSE_STORE_SAVE_ERROR", 0xC00D2714 },
        { ERROR_STORE_CORRUPT, "org.licensevault1.Error.NS_E_DRM_DATASTORE_CORRUPT", 0xC00D2783 },
        { ERROR_STORE_LOCKED, "org.licensevault1.Error.NS_E_DRM_BUSY", 0xC00D2841 },
        { ERROR_STORE_FULL, "org.freedesktop.DBus.Error.LimitsExceeded", 0xC00D2714 },
};

static void test_codes_have_the_names_and_hresults_of_the_contract(void **state) {
        for (size_t i = 0; i < G_N_ELEMENTS(contract); i++) {
                assert_string_equal(error_name(contract[i].code), contract[i].name);
                assert_int_equal((uint32_t)error_hresult(contract[i].code), contract[i].hresult);
        }
        assert_string_equal(error_name(ERROR_NONE), "");
        assert_int_equal(error_hresult(ERROR_NONE), 0);
}

/* Unicode has characters that are none, and old buses end the connection of who sends them. */
static void test_text_that_no_bus_takes_is_shown_without_what_is_foreign(void **state) {
        Error error = {};

        error_set(&error, ERROR_MEDIUM, "'%s' failed.", "a\xef\xbf\xbf b");
        assert_string_equal(error_message(&error), "'a??? b' failed.");
        error_clear(&error);
}

static void test_every_code_has_a_row_and_is_found_by_its_name(void **state) {
        for (ErrorCode code = ERROR_NONE + 1; code < _ERROR_MAX; code++) {
                assert_true(error_hresult(code) < 0);
                assert_true(strlen(error_message(&(Error) { .code = code })) > 0);
                assert_int_equal(error_from_name(error_name(code)),
                        code == ERROR_BACKUP_MISSING ? ERROR_BACKUP_CORRUPT :
                        code == ERROR_STORE_FULL     ? ERROR_LIMIT_EXCEEDED :
                        code == ERROR_USERS_UNKNOWN  ? ERROR_ACCESS_DENIED :
                                                       code);
        }
}

static void test_short_name_is_the_end_of_what_the_client_gets(void **state) {
        assert_string_equal(error_short_name(ERROR_LIMIT_EXCEEDED), "LimitsExceeded");
        assert_string_equal(error_short_name(ERROR_STORE_FULL), "LimitsExceeded");
        assert_string_equal(error_short_name(ERROR_STORE_WRITE), "NS_E_DRM_LICENSE_STORE_SAVE_ERROR");
        assert_string_equal(error_short_name(ERROR_NONE), "");
        for (ErrorCode code = ERROR_NONE + 1; code < _ERROR_MAX; code++) {
                const char *name = error_short_name(code);

                assert_true(*name && !strchr(name, '.'));
                assert_true(g_str_has_suffix(error_name(code), name));
        }
}

static void test_unknown_error_name_is_no_code(void **state) {
        assert_int_equal(error_from_name("org.freedesktop.DBus.Error.ServiceUnknown"), ERROR_NONE);
}

static void test_error_without_words_has_a_general_sentence(void **state) {
        g_auto(Error) error = {};

        assert_int_equal(error_set_no_memory(&error), ERROR_NO_MEMORY);
        assert_null(error.message);
        assert_true(strlen(error_message(&error)) > 0);
}

static void test_set_error_replaces_the_one_before(void **state) {
        g_auto(Error) error = {};

        error_set(&error, ERROR_MEDIUM, "first");
        assert_int_equal(error_set(&error, ERROR_BACKUP_EXISTS, "second %i", 2), ERROR_BACKUP_EXISTS);
        assert_int_equal(error.code, ERROR_BACKUP_EXISTS);
        assert_string_equal(error_message(&error), "second 2");
}

static void test_errno_is_put_into_words(void **state) {
        g_auto(Error) error = {};

        assert_int_equal(error_set_errno(&error, ERROR_MEDIUM, -ENOSPC, "Backup to '%s' failed", "/media/x"),
                ERROR_MEDIUM);
        assert_string_equal(error_message(&error), "Backup to '/media/x' failed: No space left on device.");
}

static void test_enomem_is_no_memory_whatever_the_code(void **state) {
        g_auto(Error) error = {};

        assert_int_equal(error_set_errno(&error, ERROR_MEDIUM, -ENOMEM, "Backup failed"), ERROR_NO_MEMORY);
        assert_int_equal(error.code, ERROR_NO_MEMORY);
}

static void test_message_from_a_client_becomes_valid_utf8(void **state) {
        g_auto(Error) error = {};

        error_set(&error, ERROR_INVALID_ARGUMENTS, "'%s'", "a\xff\xc3");
        assert_string_equal(error_message(&error), "'a?" "?'");
}

static void test_message_from_a_client_steers_no_terminal(void **state) {
        g_auto(Error) error = {};

        error_set(&error, ERROR_BACKUP_CORRUPT, "'%s'", "a\033[2J\nb\xe2\x80\xae" "c\xe2\x80\xa8" "d é");
        assert_string_equal(error_message(&error), "'a?[2J?b?c?d é'");
}

static void test_long_message_is_cut_between_characters(void **state) {
        g_auto(Error) error = {};
        g_autoptr(GString) text = g_string_new(NULL);

        /* 1,023 bytes are no multiple of three. */
        for (unsigned i = 0; i < 1000; i++)
                g_string_append(text, "雪");
        error_set(&error, ERROR_INVALID_ARGUMENTS, "%s", text->str);

        assert_true(strlen(error_message(&error)) <= 1024);
        assert_true(strlen(error_message(&error)) >= 1000);
        assert_true(g_utf8_validate(error_message(&error), -1, NULL));
}

static void test_prefix_stands_before_the_message(void **state) {
        g_auto(Error) error = {};

        error_set(&error, ERROR_INVALID_LICENSE, "It is broken.");
        assert_int_equal(error_prefix(&error, "License %i", 7), ERROR_INVALID_LICENSE);
        assert_string_equal(error_message(&error), "License 7: It is broken.");
}

static void test_prefix_of_an_error_without_words_keeps_its_sentence(void **state) {
        g_auto(Error) error = { .code = ERROR_LICENSE_REVOKED };
        g_autofree char *sentence = g_strdup(error_message(&error));
        g_autofree char *expected = g_strconcat("License 7: ", sentence, NULL);

        error_prefix(&error, "License 7");
        assert_string_equal(error_message(&error), expected);
}

static void test_moved_error_leaves_its_source_empty(void **state) {
        g_auto(Error) from = {}, to = {};

        error_set(&to, ERROR_MEDIUM, "old");
        error_set(&from, ERROR_CANCELED, "new");
        assert_int_equal(error_move(&to, &from), ERROR_CANCELED);
        assert_string_equal(error_message(&to), "new");
        assert_int_equal(from.code, ERROR_NONE);
        assert_null(from.message);
}

static void test_error_moved_to_itself_stays(void **state) {
        g_auto(Error) error = {};

        error_set(&error, ERROR_CANCELED, "stays");
        assert_int_equal(error_move(&error, &error), ERROR_CANCELED);
        assert_string_equal(error_message(&error), "stays");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_codes_have_the_names_and_hresults_of_the_contract),
                cmocka_unit_test(test_text_that_no_bus_takes_is_shown_without_what_is_foreign),
                cmocka_unit_test(test_every_code_has_a_row_and_is_found_by_its_name),
                cmocka_unit_test(test_short_name_is_the_end_of_what_the_client_gets),
                cmocka_unit_test(test_unknown_error_name_is_no_code),
                cmocka_unit_test(test_error_without_words_has_a_general_sentence),
                cmocka_unit_test(test_set_error_replaces_the_one_before),
                cmocka_unit_test(test_errno_is_put_into_words),
                cmocka_unit_test(test_enomem_is_no_memory_whatever_the_code),
                cmocka_unit_test(test_message_from_a_client_becomes_valid_utf8),
                cmocka_unit_test(test_message_from_a_client_steers_no_terminal),
                cmocka_unit_test(test_long_message_is_cut_between_characters),
                cmocka_unit_test(test_prefix_stands_before_the_message),
                cmocka_unit_test(test_prefix_of_an_error_without_words_keeps_its_sentence),
                cmocka_unit_test(test_moved_error_leaves_its_source_empty),
                cmocka_unit_test(test_error_moved_to_itself_stays),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
