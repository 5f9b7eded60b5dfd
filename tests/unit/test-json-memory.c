/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <glib.h>

#include "json-memory.h"

/* JSON that does not fit into memory: jansson by itself writes where it must not. */

static size_t largest = SIZE_MAX; /* what is larger fails */
static unsigned left = UINT_MAX;  /* so many more go well */
static unsigned n_blocks;         /* that were not freed */

/* In place of GLib's. */
#define EXPORT __attribute__((visibility("default")))

EXPORT gpointer(g_try_malloc)(gsize size) {
        if (size > largest || left == 0)
                return NULL;
        left--;
        n_blocks++;
        return malloc(size);
}

EXPORT void(g_free)(gpointer block) {
        n_blocks -= block != NULL;
        free(block);
}

#define STRING_SIZE 5000U

static char *make_document(void) {
        GString *text = g_string_new("{\"list\":[1,2.5,null,{\"a\":\"b\"}],\"key\":\"");

        for (unsigned i = 0; i < STRING_SIZE; i++)
                g_string_append_c(text, (char)('a' + i % 26));
        g_string_append(text, "\",\"more\":[\"c\",\"d\"]}");
        return g_string_free(text, FALSE);
}

/* Returns whether there was memory; else nothing is left of it. */
static bool parse(const char *document) {
        unsigned before = n_blocks;
        json_error_t ignored;
        json_t *root;
        int r;

        r = json_parse(document, strlen(document), &root, &ignored);
        largest = SIZE_MAX;
        left = UINT_MAX;
        assert_true(r == 0 || r == -ENOMEM);
        if (r == 0) {
                assert_int_equal(json_string_length(json_object_get(root, "key")), STRING_SIZE);
                assert_int_equal(json_array_size(json_object_get(root, "list")), 4);
                json_decref(root);
        } else
                assert_null(root);
        assert_int_equal(n_blocks, before);
        return r == 0;
}

static void test_string_that_does_not_fit_is_no_memory(void **state) {
        g_autofree char *document = make_document();
        unsigned n = 0;

        for (size_t size = 16; largest = size, !parse(document); size += 16)
                n++;
        assert_true(n > STRING_SIZE / 16);
}

static void test_every_allocation_may_be_the_last(void **state) {
        g_autofree char *document = make_document();
        unsigned n = 0;

        for (unsigned at = 0; left = at, !parse(document); at++)
                n++;
        assert_true(n > 20);
}

static void test_text_that_is_broken_leaves_nothing(void **state) {
        static const char *const texts[] = { "", "{\"a\":", "[1,2,\"x", "{\"a\":1,\"a\":2}", "[1]2" };
        unsigned before = n_blocks;
        json_error_t ignored;
        json_t *root;

        for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
                assert_int_equal(json_parse(texts[i], strlen(texts[i]), &root, &ignored), -EINVAL);
                assert_null(root);
                assert_int_equal(n_blocks, before);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_string_that_does_not_fit_is_no_memory),
                cmocka_unit_test(test_every_allocation_may_be_the_last),
                cmocka_unit_test(test_text_that_is_broken_leaves_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
