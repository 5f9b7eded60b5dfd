/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "license.h"

typedef struct Pair {
        License document, claimed;
} Pair;

static int setup(void **state) {
        Pair *pair = g_new0(Pair, 1);

        license_init(&pair->document);
        license_init(&pair->claimed);
        *state = pair;
        return 0;
}

static int teardown(void **state) {
        Pair *pair = *state;

        license_clear(&pair->document);
        license_clear(&pair->claimed);
        g_free(pair);
        return 0;
}

static void assert_narrows(Pair *pair) {
        g_auto(Error) error = {};

        assert_int_equal(license_narrow(&pair->document, &pair->claimed, &error), 0);
        assert_int_equal(error.code, ERROR_NONE);
}

static void assert_refused(Pair *pair, const char *word) {
        g_auto(Error) error = {};

        assert_int_equal(license_narrow(&pair->document, &pair->claimed, &error), ERROR_INVALID_ARGUMENTS);
        assert_int_equal(error.code, ERROR_INVALID_ARGUMENTS);
        assert_non_null(strstr(error_message(&error), word));
}

static void test_fresh_license_has_nothing_set_and_may_be_backed_up(void **state) {
        const License *license = &((Pair *)*state)->document;

        assert_null(license->id);
        assert_int_equal(license->not_before, LICENSE_NO_TIME);
        assert_int_equal(license->not_after, LICENSE_NO_TIME);
        assert_true(license->document_date == LICENSE_NO_DATE);
        assert_true(license->allow_backup);
        assert_int_equal(license->counters->len, 0);
}

static void test_strings_are_utf8_of_1_to_1024_bytes(void **state) {
        char text[LICENSE_STRING_MAX + 2];

        memset(text, 'a', sizeof text);
        text[LICENSE_STRING_MAX + 1] = '\0';
        assert_false(license_string_is_valid(text));
        text[LICENSE_STRING_MAX] = '\0';
        assert_true(license_string_is_valid(text));

        assert_false(license_string_is_valid(""));
        assert_true(license_string_is_valid("é"));
        assert_false(license_string_is_valid("\xc3"));
        assert_false(license_string_is_valid("\xed\xa0\x80"));
}

static void test_rights_are_of_few_characters_and_at_most_64(void **state) {
        char right[LICENSE_RIGHT_MAX + 2];

        memset(right, 'r', sizeof right);
        right[LICENSE_RIGHT_MAX + 1] = '\0';
        assert_false(license_right_is_valid(right));
        right[LICENSE_RIGHT_MAX] = '\0';
        assert_true(license_right_is_valid(right));

        assert_true(license_right_is_valid("a-z.0_9"));
        assert_false(license_right_is_valid(""));
        assert_false(license_right_is_valid("Print"));
        assert_false(license_right_is_valid("to print"));
        assert_false(license_right_is_valid("druck\xc3\xa4"));
}

static void test_counters_stay_sorted_and_each_right_once(void **state) {
        License *license = &((Pair *)*state)->document;
        const char *const rights[] = { "print", "copy", "zoom", "copy", "a" };
        const char *const sorted[] = { "a", "copy", "print", "zoom" };

        for (size_t i = 0; i < G_N_ELEMENTS(rights); i++)
                assert_int_equal(license_limit_counter(license, rights[i], 10), 0);

        assert_int_equal(license->counters->len, G_N_ELEMENTS(sorted));
        for (size_t i = 0; i < G_N_ELEMENTS(sorted); i++)
                assert_string_equal(g_array_index(license->counters, Counter, i).right, sorted[i]);
}

static void test_counter_that_is_there_is_only_lowered(void **state) {
        License *license = &((Pair *)*state)->document;

        license_limit_counter(license, "print", 10);
        license_limit_counter(license, "print", 20);
        assert_int_equal(license_find_counter(license, "print")->remaining, 10);
        license_limit_counter(license, "print", 0);
        assert_int_equal(license_find_counter(license, "print")->remaining, 0);
        assert_null(license_find_counter(license, "copy"));
}

static void test_65th_counter_is_refused_and_a_known_one_is_not(void **state) {
        License *license = &((Pair *)*state)->document;
        char right[16];

        for (unsigned i = 0; i < LICENSE_COUNTERS_MAX; i++) {
                g_snprintf(right, sizeof right, "r%u", i);
                assert_int_equal(license_limit_counter(license, right, i), 0);
        }
        assert_int_equal(license_limit_counter(license, "one-more", 1), LICENSE_COUNTERS_FULL);
        assert_int_equal(license_limit_counter(license, "r5", 1), 0);
        assert_int_equal(license->counters->len, LICENSE_COUNTERS_MAX);
}

static void test_narrow_fills_what_the_document_leaves_open(void **state) {
        Pair *pair = *state;

        license_set_string(&pair->claimed.id, "id");
        license_set_string(&pair->claimed.title, "Title");
        pair->claimed.not_before = 5;
        pair->claimed.not_after = 9;
        license_limit_counter(&pair->claimed, "print", 3);

        assert_narrows(pair);
        assert_string_equal(pair->document.id, "id");
        assert_string_equal(pair->document.title, "Title");
        assert_int_equal(pair->document.not_before, 5);
        assert_int_equal(pair->document.not_after, 9);
        assert_int_equal(license_find_counter(&pair->document, "print")->remaining, 3);
}

static void test_narrow_keeps_what_the_caller_leaves_open(void **state) {
        Pair *pair = *state;

        license_set_string(&pair->document.issuer, "issuer");
        pair->document.not_before = 5;
        license_limit_counter(&pair->document, "print", 3);

        assert_narrows(pair);
        assert_string_equal(pair->document.issuer, "issuer");
        assert_int_equal(pair->document.not_before, 5);
        assert_int_equal(license_find_counter(&pair->document, "print")->remaining, 3);
}

static void test_narrower_times_and_counters_win(void **state) {
        Pair *pair = *state;

        pair->document.not_before = 5;
        pair->document.not_after = 9;
        license_limit_counter(&pair->document, "print", 3);
        pair->claimed.not_before = 6;
        pair->claimed.not_after = 8;
        license_limit_counter(&pair->claimed, "print", 2);

        assert_narrows(pair);
        assert_int_equal(pair->document.not_before, 6);
        assert_int_equal(pair->document.not_after, 8);
        assert_int_equal(license_find_counter(&pair->document, "print")->remaining, 2);
        assert_int_equal(license_find_counter(&pair->claimed, "print")->remaining, 2);
}

static void test_text_that_contradicts_the_document_is_refused(void **state) {
        Pair *pair = *state;

        license_set_string(&pair->document.id, "one");
        license_set_string(&pair->claimed.id, "other");
        assert_refused(pair, "LicenseId");
}

static void test_same_text_as_the_document_is_taken(void **state) {
        Pair *pair = *state;

        license_set_string(&pair->document.id, "one");
        license_set_string(&pair->claimed.id, "one");
        assert_narrows(pair);
}

static void test_earlier_start_is_refused(void **state) {
        Pair *pair = *state;

        pair->document.not_before = 5;
        pair->claimed.not_before = 4;
        assert_refused(pair, "NotBefore");
}

static void test_later_end_is_refused(void **state) {
        Pair *pair = *state;

        pair->document.not_after = 5;
        pair->claimed.not_after = 6;
        assert_refused(pair, "NotAfter");
}

static void test_larger_counter_is_refused(void **state) {
        Pair *pair = *state;

        license_limit_counter(&pair->document, "print", 3);
        license_limit_counter(&pair->claimed, "print", 4);
        assert_refused(pair, "print");
}

static void test_counters_of_both_above_64_are_refused(void **state) {
        Pair *pair = *state;
        char right[16];

        license_limit_counter(&pair->document, "print", 3);
        for (unsigned i = 0; i < LICENSE_COUNTERS_MAX; i++) {
                g_snprintf(right, sizeof right, "r%u", i);
                license_limit_counter(&pair->claimed, right, i);
        }
        assert_refused(pair, "64");
}

static void test_backup_is_allowed_only_if_both_say_so(void **state) {
        Pair *pair = *state;

        pair->document.allow_backup = false;
        pair->claimed.allow_backup = true;
        assert_narrows(pair);
        assert_false(pair->document.allow_backup);

        pair->document.allow_backup = true;
        pair->claimed.allow_backup = false;
        assert_narrows(pair);
        assert_false(pair->document.allow_backup);
}

static void test_digest_is_what_b2sum_says(void **state) {
        License *license = &((Pair *)*state)->document;
        char hex[LICENSE_DIGEST_SIZE * 2 + 1];

        /* printf abc | b2sum -l 256 */
        license_digest_document(license, "abc", 3);
        license_digest_to_hex(license->digest, hex);
        assert_string_equal(hex, "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
        assert_int_equal(license->size, 3);
}

static void set_all(License *license) {
        license_clear(license);
        license_init(license);
        license_digest_document(license, "abc", 3);
        license_set_string(&license->id, "id");
        license_set_string(&license->title, "title");
        license->generation = 2;
        license->not_after = 50;
        license->extension = "lic";
        assert_int_equal(license_limit_counter(license, "copy", 3), 0);
        assert_int_equal(license_limit_counter(license, "print", 0), 0);
}

static LicenseSoundness judge(License *license, const uint8_t proof[LICENSE_PROOF_SIZE]) {
        License kept = {};

        license_take_proof(&kept, proof, LICENSE_PROOF_SIZE);
        memcpy(license->seal, kept.seal, sizeof license->seal);
        license_judge(license);
        return license->soundness;
}

static void test_seal_is_over_each_part_of_a_license(void **state) {
        License *license = &((Pair *)*state)->document;
        uint8_t proof[LICENSE_PROOF_SIZE];
        Counter extra = { .right = "play" };

        set_all(license);
        assert_int_equal(license_proof(license, proof), LICENSE_PROOF_SIZE);
        assert_int_equal(judge(license, proof), LICENSE_SOUND);

        for (unsigned i = 0;; i++) {
                set_all(license);
                switch (i) {
                case 0: license_set_string(&license->id, "ie"); break;
                case 1: license_set_string(&license->key_id, "title"); break;
                case 2: license_set_string(&license->title, "titl"); break;
                case 3: license_set_string(&license->issuer, "i"); break;
                case 4: license_set_string(&license->media_type, "m"); break;
                case 5: license->not_before = 0; break;
                case 6: license->not_after = 51; break;
                case 7: license->allow_backup = false; break;
                case 8: license->extension = "bin"; break;
                case 9: license->document_date = 0; break;
                case 10: license->digest[31] ^= 0x80; break;
                case 11: license->size++; break;
                case 12: license->generation = 1; break;
                case 13: g_array_index(license->counters, Counter, 0).remaining = 2; break;
                case 14: g_array_index(license->counters, Counter, 1).right[0] = 'q'; break;
                case 15: g_array_remove_index(license->counters, 1); break;
                case 16: g_array_append_val(license->counters, extra); break;
                /* What stands at another place, which the same bytes one after the other would not tell. */
                case 17:
                        license->key_id = g_steal_pointer(&license->title);
                        break;
                case 18:
                        license_set_string(&license->id, "idtitle");
                        g_clear_pointer(&license->title, g_free);
                        break;
                default: return;
                }
                assert_int_equal(judge(license, proof), LICENSE_ROTTEN);
        }
}

static void test_each_bit_of_a_seal_counts(void **state) {
        License *license = &((Pair *)*state)->document;
        uint8_t proof[LICENSE_PROOF_SIZE];

        set_all(license);
        assert_int_equal(license_proof(license, proof), LICENSE_PROOF_SIZE);
        for (unsigned i = 8 * LICENSE_DIGEST_SIZE; i < 8 * LICENSE_PROOF_SIZE; i++) {
                proof[i / 8] ^= (uint8_t)(1 << i % 8);
                /* Of another version: what it is over is not known. */
                assert_int_equal(judge(license, proof), i / 8 == LICENSE_DIGEST_SIZE ? LICENSE_UNSEALED : LICENSE_ROTTEN);
                proof[i / 8] ^= (uint8_t)(1 << i % 8);
        }
        assert_int_equal(judge(license, proof), LICENSE_SOUND);
}

/* A digest that is not there is of no document. */
static void test_proof_of_another_size_is_none(void **state) {
        License *license = &((Pair *)*state)->document;
        uint8_t proof[LICENSE_PROOF_SIZE + 1] = {};

        set_all(license);
        license_proof(license, proof);
        for (size_t size = 0; size <= sizeof proof; size++) {
                License found = { .size = 3, .soundness = LICENSE_SOUND };
                bool good = size == LICENSE_DIGEST_SIZE || size == LICENSE_PROOF_SIZE;

                license_take_proof(&found, size > 0 ? proof : NULL, size);
                assert_int_equal(found.soundness, LICENSE_UNSEALED);
                assert_int_equal(license_document_is_whole(&found, "abc", 3), good);
                assert_int_equal(found.seal[0], size == LICENSE_PROOF_SIZE ? LICENSE_SEAL_VERSION : 0);
        }
}

static void test_what_is_not_known_to_be_sound_does_not_become_so(void **state) {
        License *license = &((Pair *)*state)->document;
        uint8_t proof[LICENSE_PROOF_SIZE];

        set_all(license);
        license->soundness = LICENSE_UNSEALED;
        assert_int_equal(license_proof(license, proof), LICENSE_DIGEST_SIZE);
        license->soundness = LICENSE_ROTTEN;
        for (unsigned i = 0; i < 3; i++) {
                assert_int_equal(license_proof(license, proof), LICENSE_PROOF_SIZE);
                assert_int_equal(judge(license, proof), LICENSE_ROTTEN);
                license->not_after++;
        }
}

#define WITH_PAIR(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                WITH_PAIR(test_fresh_license_has_nothing_set_and_may_be_backed_up),
                cmocka_unit_test(test_strings_are_utf8_of_1_to_1024_bytes),
                cmocka_unit_test(test_rights_are_of_few_characters_and_at_most_64),
                WITH_PAIR(test_counters_stay_sorted_and_each_right_once),
                WITH_PAIR(test_counter_that_is_there_is_only_lowered),
                WITH_PAIR(test_65th_counter_is_refused_and_a_known_one_is_not),
                WITH_PAIR(test_narrow_fills_what_the_document_leaves_open),
                WITH_PAIR(test_narrow_keeps_what_the_caller_leaves_open),
                WITH_PAIR(test_narrower_times_and_counters_win),
                WITH_PAIR(test_text_that_contradicts_the_document_is_refused),
                WITH_PAIR(test_same_text_as_the_document_is_taken),
                WITH_PAIR(test_earlier_start_is_refused),
                WITH_PAIR(test_later_end_is_refused),
                WITH_PAIR(test_larger_counter_is_refused),
                WITH_PAIR(test_counters_of_both_above_64_are_refused),
                WITH_PAIR(test_backup_is_allowed_only_if_both_say_so),
                WITH_PAIR(test_digest_is_what_b2sum_says),
                WITH_PAIR(test_seal_is_over_each_part_of_a_license),
                WITH_PAIR(test_each_bit_of_a_seal_counts),
                WITH_PAIR(test_proof_of_another_size_is_none),
                WITH_PAIR(test_what_is_not_known_to_be_sound_does_not_become_so),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
