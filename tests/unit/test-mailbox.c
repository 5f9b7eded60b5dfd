/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <glib.h>

#include "mailbox.h"

#define N_POSTERS 8U
#define N_LETTERS 5000U /* of each */

typedef struct World World;

typedef struct Letter {
        Mail mail;
        World *world;
        unsigned poster, number;
        struct Letter *answer; /* posted when this one is delivered */
} Letter;

struct World {
        sd_event *event;
        Mailbox *mailbox;
        GString *delivered; /* numbers, of those who write them down */
        pthread_t thread;   /* the one of the event loop */
        unsigned next[N_POSTERS], n_delivered, n_wrong;
        Letter *letters[N_POSTERS];
};

static int setup(void **state) {
        World *world = g_new0(World, 1);

        assert_true(sd_event_new(&world->event) >= 0);
        assert_int_equal(mailbox_new(world->event, &world->mailbox), 0);
        world->delivered = g_string_new(NULL);
        world->thread = pthread_self();
        *state = world;
        return 0;
}

static int teardown(void **state) {
        World *world = *state;

        mailbox_free(world->mailbox);
        sd_event_unref(world->event);
        g_string_free(world->delivered, true);
        g_free(world);
        return 0;
}

static void write_down(Mail *mail) {
        Letter *letter = (Letter *)mail;

        g_string_append_printf(letter->world->delivered, "%u ", letter->number);
        if (letter->answer)
                mailbox_post(letter->world->mailbox, &letter->answer->mail);
}

/* Runs the loop until it has nothing to do. */
static void run(World *world) {
        while (sd_event_run(world->event, 0) > 0)
                ;
}

static void test_mail_is_delivered_in_order_and_not_before_the_loop(void **state) {
        World *world = *state;
        Letter letters[20];

        for (unsigned i = 0; i < G_N_ELEMENTS(letters); i++) {
                letters[i] = (Letter) { .mail.deliver = write_down, .world = world, .number = i };
                mailbox_post(world->mailbox, &letters[i].mail);
        }
        assert_string_equal(world->delivered->str, "");
        run(world);
        assert_string_equal(world->delivered->str, "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 ");
        run(world);
        assert_int_equal(world->delivered->len, 50);
}

static void test_mail_posted_on_delivery_comes_after_what_was_there(void **state) {
        World *world = *state;
        Letter third = { .mail.deliver = write_down, .world = world, .number = 3 };
        Letter first = { .mail.deliver = write_down, .world = world, .number = 1, .answer = &third };
        Letter second = { .mail.deliver = write_down, .world = world, .number = 2 };

        mailbox_post(world->mailbox, &first.mail);
        mailbox_post(world->mailbox, &second.mail);
        run(world);
        assert_string_equal(world->delivered->str, "1 2 3 ");
}

static void test_delivering_by_hand_takes_what_is_there_now(void **state) {
        World *world = *state;
        Letter second = { .mail.deliver = write_down, .world = world, .number = 2 };
        Letter first = { .mail.deliver = write_down, .world = world, .number = 1, .answer = &second };

        mailbox_deliver(world->mailbox);
        mailbox_post(world->mailbox, &first.mail);
        mailbox_deliver(world->mailbox);
        assert_string_equal(world->delivered->str, "1 ");
        run(world);
        assert_string_equal(world->delivered->str, "1 2 ");
}

static void test_mail_that_was_not_delivered_stays_its_posters(void **state) {
        World *world = *state;
        Letter letter = { .mail.deliver = write_down, .world = world, .number = 1 };

        mailbox_post(world->mailbox, &letter.mail);
        world->mailbox = mailbox_free(world->mailbox);
        assert_null(world->mailbox);
        run(world);
        assert_string_equal(world->delivered->str, "");
}

static void tick_off(Mail *mail) {
        Letter *letter = (Letter *)mail;
        World *world = letter->world;

        if (letter->number != world->next[letter->poster]++ || !pthread_equal(pthread_self(), world->thread))
                world->n_wrong++;
        world->n_delivered++;
}

static void *post_all(void *userdata) {
        Letter *letters = userdata;

        for (unsigned i = 0; i < N_LETTERS; i++)
                mailbox_post(letters[i].world->mailbox, &letters[i].mail);
        return NULL;
}

static void test_many_threads_mail_arrives_all_and_each_ones_in_order(void **state) {
        World *world = *state;
        pthread_t threads[N_POSTERS];
        int64_t end = g_get_monotonic_time() + 30 * G_USEC_PER_SEC;

        for (unsigned i = 0; i < N_POSTERS; i++) {
                world->letters[i] = g_new0(Letter, N_LETTERS);
                for (unsigned k = 0; k < N_LETTERS; k++)
                        world->letters[i][k] = (Letter) { { .deliver = tick_off }, world, i, k, NULL };
                assert_int_equal(pthread_create(&threads[i], NULL, post_all, world->letters[i]), 0);
        }
        while (world->n_delivered < N_POSTERS * N_LETTERS && g_get_monotonic_time() < end)
                assert_true(sd_event_run(world->event, 1000000) >= 0);
        for (unsigned i = 0; i < N_POSTERS; i++) {
                pthread_join(threads[i], NULL);
                assert_int_equal(world->next[i], N_LETTERS);
                g_free(world->letters[i]);
        }
        assert_int_equal(world->n_delivered, N_POSTERS * N_LETTERS);
        assert_int_equal(world->n_wrong, 0);
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_mail_is_delivered_in_order_and_not_before_the_loop),
                IN_WORLD(test_mail_posted_on_delivery_comes_after_what_was_there),
                IN_WORLD(test_delivering_by_hand_takes_what_is_there_now),
                IN_WORLD(test_mail_that_was_not_delivered_stays_its_posters),
                IN_WORLD(test_many_threads_mail_arrives_all_and_each_ones_in_order),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
