/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common.h"
#include "license.h"
#include "restricted.h"

typedef struct World {
        char *folder;
        RestrictedList *list;
} World;

static int setup(void **state) {
        World *world = g_new0(World, 1);

        world->folder = temp_folder_new();
        assert_int_equal(restricted_new(world->folder, &world->list), 0);
        *state = world;
        return 0;
}

static int teardown(void **state) {
        World *world = *state;

        restricted_unref(world->list);
        temp_folder_remove(world->folder);
        g_free(world);
        return 0;
}

/* Entries tell their number in each field, and are of all lengths. */
static void make_entry(unsigned i, char id[32], char key_id[64], char title[300]) {
        snprintf(id, 32, "id-%u", i);
        snprintf(key_id, 64, "%s%u", i % 3 == 0 ? "" : "key-", i);
        snprintf(title, 300, "%*u", (int)(i * 7 % 250) + 1, i);
}

static void append(RestrictedList *list, unsigned i) {
        char id[32], key_id[64], title[300];

        make_entry(i, id, key_id, title);
        assert_int_equal(restricted_append(list, id, key_id, title), 0);
}

/* Whether what was read are the entries from that number on. */
static bool is_run(const GPtrArray *read, uint64_t from) {
        char id[32], key_id[64], title[300];

        for (unsigned i = 0; i < read->len; i += 3) {
                make_entry((unsigned)from + i / 3, id, key_id, title);
                if (!g_str_equal(read->pdata[i], id) || !g_str_equal(read->pdata[i + 1], key_id) ||
                    !g_str_equal(read->pdata[i + 2], title))
                        return false;
        }
        return read->len % 3 == 0;
}

static void assert_read(RestrictedList *list, uint64_t offset, unsigned max, unsigned expected) {
        g_autoptr(GPtrArray) read = g_ptr_array_new();

        assert_int_equal(restricted_read(list, offset, max, read), 0);
        assert_int_equal(read->len, 3 * expected);
        assert_true(is_run(read, offset));
}

static void test_empty_list_has_nothing_to_read(void **state) {
        World *world = *state;

        assert_int_equal(restricted_count(world->list), 0);
        assert_read(world->list, 0, 100, 0);
        assert_read(world->list, 1000, 100, 0);
        assert_read(world->list, UINT64_MAX, UINT32_MAX, 0);
}

static void test_what_is_not_set_is_read_as_empty(void **state) {
        World *world = *state;
        g_autoptr(GPtrArray) read = g_ptr_array_new();

        assert_int_equal(restricted_append(world->list, "a", NULL, NULL), 0);
        assert_int_equal(restricted_append(world->list, "b", NULL, "Title"), 0);
        assert_int_equal(restricted_read(world->list, 0, 10, read), 0);
        assert_int_equal(read->len, 6);
        assert_string_equal(read->pdata[0], "a");
        assert_string_equal(read->pdata[1], "");
        assert_string_equal(read->pdata[2], "");
        assert_string_equal(read->pdata[3], "b");
        assert_string_equal(read->pdata[4], "");
        assert_string_equal(read->pdata[5], "Title");
}

static void test_thousands_are_read_from_any_offset(void **state) {
        World *world = *state;
        const unsigned n = 5000;
        const unsigned offsets[] = { 0, 1, 254, 255, 256, 257, 511, 512, 1000, 2559, 2560, 4095, 4990 };

        for (unsigned i = 0; i < n; i++)
                append(world->list, i);
        assert_int_equal(restricted_count(world->list), n);

        for (size_t i = 0; i < G_N_ELEMENTS(offsets); i++)
                assert_read(world->list, offsets[i], 10, 10);
        assert_read(world->list, n - 1, 10, 1);
        assert_read(world->list, n, 10, 0);
        assert_read(world->list, n + 256, 10, 0);
        assert_read(world->list, 100, 0, 0);
        assert_read(world->list, 300, 1, 1);
}

static void test_pages_together_are_all_of_it(void **state) {
        World *world = *state;
        const unsigned n = 3000;
        unsigned at = 0, n_pages = 0;

        for (unsigned i = 0; i < n; i++)
                append(world->list, i);
        while (at < n) {
                g_autoptr(GPtrArray) read = g_ptr_array_new();
                size_t bytes = 0;

                assert_int_equal(restricted_read(world->list, at, UINT32_MAX, read), 0);
                assert_true(read->len > 0);
                assert_true(is_run(read, at));
                for (unsigned i = 0; i < read->len; i++)
                        bytes += strlen(read->pdata[i]);
                assert_true(bytes <= 60 * 1024);
                at += read->len / 3;
                n_pages++;
        }
        assert_int_equal(at, n);
        /* Full pages, that is: about 200 bytes an entry. */
        assert_true(n_pages < 15);
}

static void test_largest_entries_fit_behind_any_index(void **state) {
        World *world = *state;
        g_autofree char *longest = g_strnfill(LICENSE_STRING_MAX, 'x');

        for (unsigned i = 0; i < 600; i++)
                assert_int_equal(restricted_append(world->list, longest, longest, longest), 0);
        for (unsigned offset = 0; offset < 600; offset += 51) {
                g_autoptr(GPtrArray) read = g_ptr_array_new();

                assert_int_equal(restricted_read(world->list, offset, 1000, read), 0);
                /* 19 times 3,104 bytes are less than 60 KiB. */
                assert_int_equal(read->len, 3 * MIN(19U, 600 - offset));
                for (unsigned i = 0; i < read->len; i++)
                        assert_string_equal(read->pdata[i], longest);
        }
}

static void test_list_leaves_no_file(void **state) {
        World *world = *state;
        GDir *dir;

        for (unsigned i = 0; i < 2000; i++)
                append(world->list, i);
        assert_read(world->list, 1999, 1, 1);
        dir = g_dir_open(world->folder, 0, NULL);
        assert_null(g_dir_read_name(dir));
        g_dir_close(dir);
}

static void test_folder_that_is_gone_is_an_error(void **state) {
        g_autoptr(RestrictedList) list = NULL;
        g_autoptr(GPtrArray) read = g_ptr_array_new();

        assert_int_equal(restricted_new("/nowhere/at/all", &list), 0);
        assert_int_equal(restricted_append(list, "a", NULL, NULL), 0);
        assert_int_equal(restricted_read(list, 0, 1, read), -ENOENT);
        assert_int_equal(read->len, 0);
}

typedef struct Reading {
        RestrictedList *list;
        atomic_bool stop;
        unsigned n_wrong, n_reads;
} Reading;

static void *read_along(void *userdata) {
        Reading *reading = userdata;
        uint64_t offset = 0;

        while (!atomic_load(&reading->stop)) {
                g_autoptr(GPtrArray) read = g_ptr_array_new();
                uint64_t count = restricted_count(reading->list);

                if (restricted_read(reading->list, offset, 50, read) < 0 || !is_run(read, offset) ||
                    read->len / 3 < MIN(count - MIN(offset, count), 50))
                        reading->n_wrong++;
                reading->n_reads++;
                offset = count > 0 ? (offset + 97) % count : 0;
        }
        return NULL;
}

static void test_reading_while_it_grows_finds_whole_entries(void **state) {
        World *world = *state;
        Reading readings[3];
        pthread_t threads[G_N_ELEMENTS(readings)];

        for (size_t i = 0; i < G_N_ELEMENTS(readings); i++) {
                readings[i] = (Reading) { .list = restricted_ref(world->list) };
                assert_int_equal(pthread_create(&threads[i], NULL, read_along, &readings[i]), 0);
        }
        for (unsigned i = 0; i < 4000; i++)
                append(world->list, i);
        for (size_t i = 0; i < G_N_ELEMENTS(readings); i++) {
                atomic_store(&readings[i].stop, true);
                pthread_join(threads[i], NULL);
                restricted_unref(readings[i].list);
                assert_int_equal(readings[i].n_wrong, 0);
        }
        assert_read(world->list, 3990, 20, 10);
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_empty_list_has_nothing_to_read),
                IN_WORLD(test_what_is_not_set_is_read_as_empty),
                IN_WORLD(test_thousands_are_read_from_any_offset),
                IN_WORLD(test_pages_together_are_all_of_it),
                IN_WORLD(test_largest_entries_fit_behind_any_index),
                IN_WORLD(test_list_leaves_no_file),
                cmocka_unit_test(test_folder_that_is_gone_is_an_error),
                IN_WORLD(test_reading_while_it_grows_finds_whole_entries),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
