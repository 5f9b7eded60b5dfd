/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How fast users are answered; tests/boot/test-load.c and tests/fault/test-load.c have it on real buses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "caller.h"
#include "pace.h"

#define SECOND ((int64_t)G_USEC_PER_SEC)
#define BEGIN (100 * SECOND)
#define MSEC ((int64_t)1000)
#define TICK 10 /* microseconds */
/* Connections that wait for an answer. */
#define FLOOD 100U
#define SMALL 512U
#define USERS 3U

typedef struct World {
        Manager manager;
        User users[USERS];
        Caller callers[USERS]; /* one of each */
} World;

static int setup(void **state) {
        World *world = g_new0(World, 1);

        world->manager.is_broker = true;
        world->manager.last_answered = STRANGERS;
        for (unsigned i = 0; i < USERS; i++) {
                world->users[i] = (User) { .manager = &world->manager, .uid = 1000 + i };
                world->callers[i] = (Caller) { .manager = &world->manager, .line = &world->users[i] };
        }
        *state = world;
        return 0;
}

static int teardown(void **state) {
        World *world = *state;

        for (unsigned i = 0; i < USERS; i++)
                for (unsigned kind = 0; kind < _TURN_KINDS; kind++)
                        turn_leave(&world->callers[i], kind);
        g_free(world);
        return 0;
}

static void stand_in_line(World *world, unsigned user) {
        turn_join(&world->callers[user], TURN_LETTER, SMALL);
}

/* As outbox_pump() does it: who is answered does not stand in line then. */
static bool answer(World *world, unsigned user, uint64_t bytes, int64_t now) {
        Caller *caller = &world->callers[user];
        bool stands = caller->turns[TURN_LETTER].is_ready;

        if (!pace_allows(caller->line, now))
                return false;
        turn_leave(caller, TURN_LETTER);
        pace_count(caller->line, bytes, now);
        if (stands)
                stand_in_line(world, user);
        return true;
}

/* The first n users want answers all the time, for a second: how many each gets. */
static void flood(World *world, unsigned n, uint64_t bytes, int64_t begin, unsigned *ret_answers) {
        for (unsigned i = 0; i < n; i++)
                ret_answers[i] = 0;
        for (int64_t now = begin; now < begin + SECOND; now += TICK)
                for (unsigned i = 0; i < n; i++)
                        ret_answers[i] += answer(world, i, bytes, now);
}

static void test_several_users_share_the_pace(void **state) {
        World *world = *state;
        unsigned answers[USERS];
        for (unsigned i = 0; i < USERS; i++)
                stand_in_line(world, i);

        flood(world, USERS, SMALL, BEGIN, answers);
        for (unsigned i = 0; i < USERS; i++)
                assert_in_range(answers[i], 2000, 2100);
}

static void test_large_answers_count_as_several(void **state) {
        World *world = *state;
        unsigned answers[USERS];
        for (unsigned i = 0; i < 2; i++)
                stand_in_line(world, i);

        flood(world, 2, UINT64_C(64) * 1024, BEGIN, answers);
        for (unsigned i = 0; i < 2; i++)
                assert_in_range(answers[i], 600, 650);
}

static void test_who_calls_little_does_not_wait(void **state) {
        World *world = *state;
        for (unsigned i = 0; i < 2; i++)
                stand_in_line(world, i);

        for (int64_t now = BEGIN; now < BEGIN + SECOND; now += TICK) {
                for (unsigned i = 0; i < 2; i++)
                        (void)answer(world, i, SMALL, now);
                if (now % (10 * TICK * 100) == 0)
                        assert_true(answer(world, 2, SMALL, now));
        }
}

static void test_who_is_alone_is_not_kept_back(void **state) {
        World *world = *state;
        unsigned answers[USERS];
        stand_in_line(world, 0);

        /* The other's answer was the last one of its kind for a while. */
        assert_true(answer(world, 1, SMALL, BEGIN));
        flood(world, 1, SMALL, BEGIN, answers);
        assert_in_range(answers[0], 6000, 6200);
        flood(world, 1, SMALL, BEGIN + SECOND, answers);
        assert_int_equal(answers[0], SECOND / TICK);
        /* What it got then is not held against it when somebody else comes. */
        assert_true(answer(world, 1, SMALL, BEGIN + 2 * SECOND));
        flood(world, 1, SMALL, BEGIN + 2 * SECOND, answers);
        assert_in_range(answers[0], 5800, 6200);
}

/* Nor is root, whose number is 0. */
static void test_the_first_user_of_all_is_no_second_one(void **state) {
        World *world = *state;
        unsigned answers[USERS];
        stand_in_line(world, 0);

        flood(world, 1, SMALL, BEGIN, answers);
        assert_int_equal(answers[0], SECOND / TICK);
        world->users[1].uid = 0;
        assert_true(answer(world, 1, SMALL, BEGIN + SECOND));
        flood(world, 1, SMALL, BEGIN + SECOND, answers);
        assert_in_range(answers[0], 6000, 6200);
}

/* Of a connection it is not known yet whose it is; it may be the same user's. */
static void test_strangers_are_nobody_else(void **state) {
        World *world = *state;
        unsigned answers[USERS];
        world->users[1].uid = STRANGERS;
        stand_in_line(world, 0);

        (void)answer(world, 0, SMALL, BEGIN);
        assert_true(answer(world, 1, SMALL, BEGIN + SECOND));
        flood(world, 1, SMALL, BEGIN + SECOND, answers);
        assert_int_equal(answers[0], SECOND / TICK);
}

static void test_a_burst_is_answered_at_once(void **state) {
        World *world = *state;
        unsigned n = 0;
        for (unsigned i = 0; i < 2; i++) {
                stand_in_line(world, i);
                (void)answer(world, i, SMALL, BEGIN);
        }

        /* 20 ms of a third of the pace. */
        while (answer(world, 2, SMALL, BEGIN + SECOND / 2))
                n++;
        assert_in_range(n, 38, 44);
}

/* The clock is the real one here: who may not be answered for an hour is in nobody's way, and keeps its place. */
static void test_who_has_to_wait_is_passed_over(void **state) {
        World *world = *state;
        int64_t now = g_get_monotonic_time();
        world->manager.shared_until = now + 3600 * SECOND;
        for (unsigned i = 0; i < USERS; i++)
                stand_in_line(world, i);
        turn_join(&world->callers[0], TURN_CALL, 0);

        world->users[0].next_answer_at = world->users[2].next_answer_at = now + 3600 * SECOND;
        assert_ptr_equal(turn_next(&world->manager, TURN_LETTER), &world->callers[1]);
        assert_null(turn_next(&world->manager, TURN_LETTER));
        assert_ptr_equal(turn_next(&world->manager, TURN_CALL), &world->callers[0]);
        world->users[0].next_answer_at = world->users[2].next_answer_at = now;
        assert_ptr_equal(turn_next(&world->manager, TURN_LETTER), &world->callers[2]);
        assert_ptr_equal(turn_next(&world->manager, TURN_LETTER), &world->callers[0]);
}

static void test_dbus_daemon_that_is_quick_has_no_pace(void **state) {
        World *world = *state;
        unsigned answers[USERS];

        world->manager.is_broker = false;
        world->manager.n_ready[TURN_LETTER] = FLOOD;
        for (int64_t now = BEGIN; now < BEGIN + SECOND; now += 100 * MSEC) {
                pace_learn(&world->manager, MSEC / 2, now);
                flood(world, 2, SMALL, now, answers);
                assert_int_equal(answers[0], SECOND / TICK);
                assert_int_equal(answers[1], SECOND / TICK);
        }
}

/* 50 measurements that take so long each, a second from now on. */
static int64_t learn(World *world, int64_t took, int64_t now) {
        for (unsigned i = 0; i < 50; i++, now += 20 * MSEC)
                pace_learn(&world->manager, took, now);
        return now;
}

static void test_slow_dbus_daemon_is_given_less_until_it_is_quick(void **state) {
        World *world = *state;
        int64_t now = BEGIN;
        unsigned answers[USERS];
        world->manager.is_broker = false;
        world->manager.n_ready[TURN_LETTER] = FLOOD;
        for (unsigned i = 0; i < 2; i++)
                stand_in_line(world, i);

        flood(world, 2, SMALL, now, answers);
        assert_int_equal(answers[0], SECOND / TICK);
        /* Two users answered, of 200 a second in all. */
        now = learn(world, 30 * MSEC, now + SECOND);
        flood(world, 2, SMALL, now, answers);
        for (unsigned i = 0; i < 2; i++)
                assert_in_range(answers[i], 95, 110);
        /* Neither quick nor slow: it stays as it is. */
        now = learn(world, MSEC * 3 / 2, now + SECOND);
        flood(world, 2, SMALL, now, answers);
        assert_in_range(answers[0], 95, 110);
        /* Large ones are several. */
        flood(world, 2, UINT64_C(64) * 1024, now + SECOND, answers);
        assert_in_range(answers[0], 6, 8);
        now = learn(world, MSEC / 2, now + 2 * SECOND);
        flood(world, 2, SMALL, now, answers);
        assert_int_equal(answers[0], SECOND / TICK);
}

/* What makes it slow is not what waits for us. */
static void test_few_who_wait_are_not_held_back_by_a_slow_dbus_daemon(void **state) {
        World *world = *state;
        unsigned answers[USERS];
        world->manager.is_broker = false;
        world->manager.n_ready[TURN_LETTER] = FLOOD;
        for (unsigned i = 0; i < 2; i++)
                stand_in_line(world, i);

        flood(world, 2, SMALL, BEGIN, answers);
        (void)learn(world, 30 * MSEC, BEGIN + SECOND);
        world->manager.n_ready[TURN_LETTER] = 2;
        flood(world, 2, SMALL, BEGIN + 2 * SECOND, answers);
        assert_int_equal(answers[0], SECOND / TICK);
}

static void test_what_was_sent_before_a_flood_is_not_what_makes_it_slow(void **state) {
        World *world = *state;
        unsigned answers[USERS];
        world->manager.is_broker = false;
        for (unsigned i = 0; i < 2; i++)
                stand_in_line(world, i);

        flood(world, 2, SMALL, BEGIN, answers);
        pace_measure(&world->manager);
        world->manager.n_ready[TURN_LETTER] = FLOOD;
        pace_learn(&world->manager, 30 * MSEC, BEGIN + SECOND);
        flood(world, 2, SMALL, BEGIN + SECOND, answers);
        assert_int_equal(answers[0], SECOND / TICK);
}

/* It was slow before anything was sent to it. */
static void test_what_is_not_of_our_making_sets_no_pace(void **state) {
        World *world = *state;
        unsigned answers[USERS];
        world->manager.is_broker = false;
        world->manager.n_ready[TURN_LETTER] = FLOOD;
        for (unsigned i = 0; i < 2; i++)
                stand_in_line(world, i);

        (void)learn(world, 30 * MSEC, BEGIN);
        flood(world, 2, SMALL, BEGIN + SECOND, answers);
        assert_int_equal(answers[0], SECOND / TICK);
}

/* Two connections stand in line, and the first one saves up for what is large: how many turns of the other it waits. */
static unsigned turns_until_paid(World *world, uint64_t price) {
        unsigned n = 0;

        turn_join(&world->callers[0], TURN_LETTER, price);
        stand_in_line(world, 1);
        while (turn_next(&world->manager, TURN_LETTER) != &world->callers[0]) {
                assert_true(++n < 1000);
                stand_in_line(world, 1);
        }
        return n;
}

static void test_what_is_large_waits_for_as_much_of_others(void **state) {
        World *world = *state;
        unsigned waited;

        world->manager.is_broker = false;
        assert_in_range(turns_until_paid(world, UINT64_C(64) * SMALL), 62, 66);
        /* Half of it is saved when something small goes first: that is not lost. */
        turn_join(&world->callers[0], TURN_LETTER, UINT64_C(64) * SMALL);
        for (unsigned i = 0; i < 32; i++) {
                assert_ptr_equal(turn_next(&world->manager, TURN_LETTER), &world->callers[1]);
                stand_in_line(world, 1);
        }
        waited = turns_until_paid(world, SMALL);
        assert_in_range(waited, 0, 1);
        waited = turns_until_paid(world, UINT64_C(64) * SMALL);
        assert_in_range(waited, 28, 36);
        /* Who is alone waits for nobody. */
        turn_leave(&world->callers[1], TURN_LETTER);
        turn_join(&world->callers[0], TURN_LETTER, UINT64_C(64) * SMALL);
        assert_ptr_equal(turn_next(&world->manager, TURN_LETTER), &world->callers[0]);
}

static void test_a_stop_waits_for_no_pace(void **state) {
        World *world = *state;
        unsigned answers[USERS];

        world->manager.stopping = true;
        flood(world, 2, SMALL, BEGIN, answers);
        assert_int_equal(answers[0], SECOND / TICK);
}

static void test_the_loop_turns_again_and_again(void **state) {
        World *world = *state;
        assert_true(sd_event_new(&world->manager.event) >= 0);

        for (unsigned i = 0; i < 3; i++) {
                pace_wait(&world->manager);
                pace_wait(&world->manager); /* it waits already */
                assert_true(sd_event_run(world->manager.event, 10 * G_USEC_PER_SEC) > 0);
                assert_int_equal(sd_event_run(world->manager.event, 0), 0);
        }
        sd_event_source_disable_unref(world->manager.pace_timer);
        sd_event_unref(world->manager.event);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_several_users_share_the_pace),
                TEST(test_large_answers_count_as_several),
                TEST(test_who_calls_little_does_not_wait),
                TEST(test_who_is_alone_is_not_kept_back),
                TEST(test_the_first_user_of_all_is_no_second_one),
                TEST(test_strangers_are_nobody_else),
                TEST(test_a_burst_is_answered_at_once),
                TEST(test_who_has_to_wait_is_passed_over),
                TEST(test_dbus_daemon_that_is_quick_has_no_pace),
                TEST(test_slow_dbus_daemon_is_given_less_until_it_is_quick),
                TEST(test_few_who_wait_are_not_held_back_by_a_slow_dbus_daemon),
                TEST(test_what_was_sent_before_a_flood_is_not_what_makes_it_slow),
                TEST(test_what_is_not_of_our_making_sets_no_pace),
                TEST(test_what_is_large_waits_for_as_much_of_others),
                TEST(test_a_stop_waits_for_no_pace),
                TEST(test_the_loop_turns_again_and_again),
        };

        return cmocka_run_group_tests_name("pace", tests, NULL, NULL);
}
