/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is others' is a question for polkit: asked of it in full, bound to the call, and taken back when nobody
 * waits for the answer any more. The polkit here is played by the test, so that it can be slow, wrong or gone;
 * the real one is in tests/boot.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client.h"

#define TO_FILE "LicenseBackup.BackupLicensesToFile"
#define FROM_FILE "LicenseRestore.RestoreLicensesFromFile"
#define ACTION "org.licensevault1.manage-others"

static sd_bus *start_polkit(Harness *h) {
        sd_bus *polkit = harness_connect(h, 0);

        if (geteuid() == 0) {
                /* The bus lets the user that runs the test have the name. */
                harness_disconnect(h, polkit);
                polkit = harness_connect_uid(h, 0);
        }
        assert_true(sd_bus_request_name(polkit, "org.freedesktop.PolicyKit1", 0) >= 0);
        return polkit;
}

typedef struct Question {
        sd_bus_message *call;
        char *subject, *cancellation_id;
        uint32_t flags;
} Question;

static void question_clear(Question *question) {
        sd_bus_message_unref(question->call);
        g_free(question->subject);
        g_free(question->cancellation_id);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Question, question_clear)

static void receive_question(sd_bus *polkit, Question *ret) {
        const char *kind, *key, *name, *action, *id;

        ret->call = receive_reply(polkit, PATIENCE_SEC * 1000);
        assert_non_null(ret->call);
        assert_true(sd_bus_message_is_method_call(ret->call, "org.freedesktop.PolicyKit1.Authority",
                "CheckAuthorization") > 0);
        assert_true(sd_bus_message_read(ret->call, "(sa{sv})sa{ss}us", &kind, 1, &key, "s", &name, &action, 0,
                            &ret->flags, &id) > 0);
        assert_string_equal(key, "name");
        assert_string_equal(kind, "system-bus-name");
        assert_string_equal(action, ACTION);
        ret->subject = g_strdup(name);
        ret->cancellation_id = g_strdup(id);
}

static void answer(sd_bus *polkit, const Question *question, int authorized, int challenge, const char *detail) {
        _cleanup_message_ sd_bus_message *reply = NULL;

        assert_true(sd_bus_message_new_method_return(question->call, &reply) >= 0);
        assert_true(sd_bus_message_append(reply, "(bba{ss})", authorized, challenge, detail ? 1 : 0, detail, "true") >=
                0);
        assert_true(sd_bus_send(polkit, reply, NULL) >= 0);
        assert_true(sd_bus_flush(polkit) >= 0);
}

static void assert_withdrawn(sd_bus *polkit, const char *cancellation_id) {
        _cleanup_message_ sd_bus_message *message = receive_reply(polkit, PATIENCE_SEC * 1000);
        const char *id;

        assert_non_null(message);
        assert_true(sd_bus_message_is_method_call(message, "org.freedesktop.PolicyKit1.Authority",
                            "CancelCheckAuthorization") > 0);
        assert_true(sd_bus_message_read(message, "s", &id) > 0);
        assert_string_equal(id, cancellation_id);
}

static int new_file(Harness *h, const char *name) {
        g_autofree char *path = harness_path(h, name);
        int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        return fd;
}

/* Asks for a backup of all users into fd, and does not wait. */
static void send_backup(sd_bus *bus, int fd, int interactive) {
        sd_bus_message *message = new_call(bus, ROOT, TO_FILE);

        assert_true(sd_bus_message_append(message, "hua{sv}", fd, 0, 1, "AllUsers", "b", 1) >= 0);
        assert_true(sd_bus_message_set_allow_interactive_authorization(message, interactive) >= 0);
        send_only(bus, message);
}

static void assert_next_error(sd_bus *bus, const char *name, const char *glob) {
        _cleanup_message_ sd_bus_message *reply = receive_reply(bus, PATIENCE_SEC * 1000);
        g_autofree char *full = full_error_name(name);

        assert_non_null(reply);
        assert_true(sd_bus_message_is_method_error(reply, NULL) > 0);
        assert_string_equal(sd_bus_message_get_error(reply)->name, full);
        assert_sentence(sd_bus_message_get_error(reply)->message, glob);
}

static char *next_string(sd_bus *bus) {
        sd_bus_message *reply = receive_reply(bus, PATIENCE_SEC * 1000);

        assert_non_null(reply);
        if (sd_bus_message_is_method_error(reply, NULL) > 0)
                fail_msg("%s", sd_bus_message_get_error(reply)->message);
        return read_string(reply);
}

/* Nothing was asked so far: what comes next is what we send ourselves. */
static void assert_not_asked(sd_bus *polkit) {
        sd_bus_message *message = receive_reply(polkit, 200);

        assert_null(message);
}

static void test_others_are_for_root_alone_without_polkit(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        int fd = new_file(h, "all.tar");

        call_error(bus, ROOT, TO_FILE, "AccessDenied", "*polkit*does not run*root alone.", "hua{sv}", fd, 0, 1, "AllUsers",
                "b", 1);
        call_error(bus, ROOT, FROM_FILE, "AccessDenied", "*polkit*does not run*root*", "hua{sv}", fd, 0, 1, "Owner",
                "u", 4242);
        close(fd);
}

static void test_question_says_who_asks_and_yes_starts_the_job(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        sd_bus *polkit = start_polkit(h), *bus = harness_connect(h, 0), *other = harness_connect(h, 1);
        g_auto(Question) question = {};
        const char *name;
        int fd = new_file(h, "all.tar");
        store_simple(bus, "mine");
        store_simple(other, "theirs");
        assert_true(sd_bus_get_unique_name(bus, &name) >= 0);

        send_backup(bus, fd, false);
        receive_question(polkit, &question);
        assert_string_equal(question.subject, name);
        assert_int_equal(question.flags, 0);
        answer(polkit, &question, 1, 0, NULL);
        g_autofree char *job = next_string(bus);
        g_autoptr(GHashTable) result = assert_job_succeeds(bus, job);

        assert_property(result, "licenses", "2");
        close(fd);
}

static void test_answer_that_is_none_lets_nobody_in(void **state) {
        Harness *h = *state;
        sd_bus *polkit = start_polkit(h), *bus = harness_connect(h, 0);
        g_auto(Question) question = {};
        int fd = new_file(h, "all.tar");

        send_backup(bus, fd, false);
        receive_question(polkit, &question);
        assert_true(sd_bus_reply_method_return(question.call, "s", "yes") >= 0);
        assert_true(sd_bus_flush(polkit) >= 0);
        assert_next_error(bus, "AccessDenied", "*polkit's answer cannot be read*");
        close(fd);
}

static void test_a_person_is_asked_only_if_the_message_says_so(void **state) {
        Harness *h = *state;
        sd_bus *polkit = start_polkit(h), *bus = harness_connect(h, 0);
        int fd = new_file(h, "all.tar");

        for (int interactive = 0; interactive < 2; interactive++) {
                g_auto(Question) question = {};

                send_backup(bus, fd, interactive);
                receive_question(polkit, &question);
                assert_int_equal(question.flags, interactive);
                answer(polkit, &question, 0, 1, NULL);
                if (interactive)
                        assert_next_error(bus, "AccessDenied", "*nobody to ask*");
                else
                        assert_next_error(bus, "InteractiveAuthorizationRequired", "*authorization*run as root*");
        }
        close(fd);
}

static void test_no_is_told_and_leaves_nothing(void **state) {
        Harness *h = *state;
        sd_bus *polkit = start_polkit(h), *bus = harness_connect(h, 0);
        g_auto(Question) plain = {}, dismissed = {};
        int fds[2];
        char byte;
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);

        send_backup(bus, fds[1], true);
        receive_question(polkit, &plain);
        answer(polkit, &plain, 0, 0, NULL);
        assert_next_error(bus, "AccessDenied", "*not authorized*");
        send_backup(bus, fds[1], true);
        receive_question(polkit, &dismissed);
        answer(polkit, &dismissed, 0, 1, "polkit.dismissed");
        assert_next_error(bus, "AccessDenied", "*dismissed*");

        /* No copy of the descriptor stayed behind: the pipe ends with ours. */
        close(fds[1]);
        assert_int_equal(read(fds[0], &byte, 1), 0);
        close(fds[0]);
        _cleanup_message_ sd_bus_message *jobs = call(bus, ROOT, "Manager.ListJobs", "");
        assert_true(sd_bus_message_enter_container(jobs, 'a', "(osus)") > 0);
        assert_true(sd_bus_message_at_end(jobs, false) > 0);
}

static void test_answers_belong_to_their_questions(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        sd_bus *polkit = start_polkit(h), *first = harness_connect(h, 0), *second = harness_connect(h, 1);
        g_auto(Question) of_first = {}, of_second = {};
        int fd = new_file(h, "first.tar"), other_fd = new_file(h, "second.tar");

        send_backup(first, fd, false);
        receive_question(polkit, &of_first);
        send_backup(second, other_fd, false);
        receive_question(polkit, &of_second);
        assert_string_not_equal(of_first.cancellation_id, of_second.cancellation_id);
        answer(polkit, &of_second, 1, 0, NULL);
        answer(polkit, &of_first, 0, 0, NULL);

        assert_next_error(first, "AccessDenied", "*not authorized*");
        g_autofree char *job = next_string(second);
        g_hash_table_unref(assert_job_succeeds(second, job));
        assert_int_equal(lseek(fd, 0, SEEK_END), 0);
        assert_true(lseek(other_fd, 0, SEEK_END) > 0);
        close(fd);
        close(other_fd);
}

static void test_other_calls_go_on_while_a_question_is_open(void **state) {
        Harness *h = *state;
        sd_bus *polkit = start_polkit(h), *bus = harness_connect(h, 0), *same_user = harness_connect(h, 0);
        g_auto(Question) question = {};
        int fd = new_file(h, "all.tar");

        send_backup(bus, fd, true);
        receive_question(polkit, &question);
        store_simple(same_user, "stored");
        g_autofree char *job = call_string(same_user, ROOT, "LicenseBackup.BackupLicenses", "u", 0);
        g_hash_table_unref(assert_job_succeeds(same_user, job));

        answer(polkit, &question, 1, 0, NULL);
        g_autofree char *late = next_string(bus);
        g_hash_table_unref(assert_job_succeeds(bus, late));
        close(fd);
}

static void test_caller_that_leaves_takes_its_question_along(void **state) {
        Harness *h = *state;
        sd_bus *polkit = start_polkit(h), *bus = harness_connect(h, 0);
        g_auto(Question) question = {};
        int fd = new_file(h, "all.tar");

        send_backup(bus, fd, true);
        receive_question(polkit, &question);
        harness_disconnect(h, bus);
        assert_withdrawn(polkit, question.cancellation_id);
        answer(polkit, &question, 1, 0, NULL);

        /* A yes that comes too late starts nothing. */
        sd_bus *again = harness_connect(h, 0);
        _cleanup_message_ sd_bus_message *jobs = call(again, ROOT, "Manager.ListJobs", "");
        assert_true(sd_bus_message_enter_container(jobs, 'a', "(osus)") > 0);
        assert_true(sd_bus_message_at_end(jobs, false) > 0);
        assert_int_equal(lseek(fd, 0, SEEK_END), 0);
        close(fd);
}

static void test_fifth_open_question_of_a_user_is_refused(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        sd_bus *polkit = start_polkit(h), *buses[4], *other = harness_connect(h, 1);
        Question questions[4] = {};
        g_auto(Question) of_other = {}, one_more = {};
        int fd = new_file(h, "all.tar");

        for (unsigned i = 0; i < 4; i++) {
                buses[i] = harness_connect(h, 0);
                send_backup(buses[i], fd, true);
                receive_question(polkit, &questions[i]);
        }
        call_error(buses[0], ROOT, TO_FILE, "LimitsExceeded", "*4 questions*", "hua{sv}", fd, 0, 1, "AllUsers", "b", 1);
        /* Another user has places of its own. */
        send_backup(other, fd, true);
        receive_question(polkit, &of_other);
        answer(polkit, &of_other, 0, 0, NULL);
        assert_next_error(other, "AccessDenied", NULL);

        /* And an answer makes room. */
        answer(polkit, &questions[2], 0, 0, NULL);
        assert_next_error(buses[2], "AccessDenied", NULL);
        send_backup(buses[2], fd, true);
        receive_question(polkit, &one_more);
        for (unsigned i = 0; i < 4; i++)
                question_clear(&questions[i]);
        close(fd);
}

static void test_stop_withdraws_the_questions_and_says_so(void **state) {
        Harness *h = *state;
        sd_bus *polkit = start_polkit(h), *bus = harness_connect(h, 0);
        g_auto(Question) question = {};
        int fd = new_file(h, "all.tar");

        send_backup(bus, fd, true);
        receive_question(polkit, &question);
        harness_stop(h);

        assert_withdrawn(polkit, question.cancellation_id);
        assert_next_error(bus, "NS_E_DRM_OPERATION_CANCELED", "*stopping*");
        close(fd);
}

static void test_polkit_that_fails_or_goes_is_a_no(void **state) {
        Harness *h = *state;
        sd_bus *polkit = start_polkit(h), *bus = harness_connect(h, 0);
        g_auto(Question) failing = {}, forgotten = {};
        int fd = new_file(h, "all.tar");

        send_backup(bus, fd, false);
        receive_question(polkit, &failing);
        assert_true(sd_bus_reply_method_errorf(failing.call, "org.freedesktop.PolicyKit1.Error.Failed", "No.") >= 0);
        assert_true(sd_bus_flush(polkit) >= 0);
        assert_next_error(bus, "AccessDenied", "*polkit cannot tell*");
        harness_expect_log(h, "org.freedesktop.PolicyKit1.Error.Failed");
        assert_withdrawn(polkit, failing.cancellation_id);

        send_backup(bus, fd, false);
        receive_question(polkit, &forgotten);
        harness_disconnect(h, polkit);
        assert_next_error(bus, "AccessDenied", "*Nobody answered*");
        close(fd);
}

static void test_polkit_is_not_asked_about_what_is_ones_own(void **state) {
        Harness *h = *state;
        sd_bus *polkit = start_polkit(h), *bus = harness_connect(h, 0);
        int fd = new_file(h, "own.tar");

        g_autofree char *job = call_string(bus, ROOT, TO_FILE, "hua{sv}", fd, 0, 2, "Owner", "u",
                (uint32_t)h->users[0], "AllUsers", "b", 0);
        g_hash_table_unref(assert_job_succeeds(bus, job));
        assert_not_asked(polkit);
        close(fd);
}

static void test_root_is_not_asked(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        sd_bus *polkit = start_polkit(h), *root = harness_connect_uid(h, 0);
        int fd = new_file(h, "all.tar");

        g_autofree char *job = call_string(root, ROOT, TO_FILE, "hua{sv}", fd, 0, 1, "AllUsers", "b", 1);
        g_hash_table_unref(assert_job_succeeds(root, job));
        assert_not_asked(polkit);
        close(fd);
}

/* Who goes on may find that things have changed: another job of the user runs by then. */
static void test_what_was_frozen_is_checked_again_when_it_goes_on(void **state) {
        Harness *h = *state;
        sd_bus *polkit = start_polkit(h), *bus = harness_connect(h, 0), *busy = harness_connect(h, 0);
        g_auto(Question) question = {};
        g_auto(StuckJob) stuck = {};
        int fd = new_file(h, "all.tar");
        store_many(busy, "id", 40, 64 * 1024);

        send_backup(bus, fd, false);
        receive_question(polkit, &question);
        stuck_job_start(busy, &stuck);
        answer(polkit, &question, 1, 0, NULL);
        assert_next_error(bus, "NS_E_DRM_BACKUPRESTORE_BUSY", NULL);
        assert_int_equal(lseek(fd, 0, SEEK_END), 0);
        stuck_job_drain(busy, &stuck);
        close(fd);
}

static int setup_small_cache(void **state) {
        harness_setup_bus(state);
        harness_set(*state, "Limits", "CachedCallers", "16");
        harness_start(*state);
        return 0;
}

/* Who waits for an answer is not forgotten for others who come by. */
static void test_question_outlives_a_full_cache_of_callers(void **state) {
        Harness *h = *state;
        sd_bus *polkit = start_polkit(h), *bus = harness_connect(h, 0);
        g_auto(Question) question = {};
        int fd = new_file(h, "all.tar");

        send_backup(bus, fd, true);
        receive_question(polkit, &question);
        for (unsigned i = 0; i < 40; i++)
                store_simple(harness_connect(h, 0), "id");
        answer(polkit, &question, 1, 0, NULL);
        g_autofree char *job = next_string(bus);
        g_hash_table_unref(assert_job_succeeds(bus, job));
        close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_others_are_for_root_alone_without_polkit),
                TEST(test_question_says_who_asks_and_yes_starts_the_job),
                TEST(test_answer_that_is_none_lets_nobody_in),
                TEST(test_a_person_is_asked_only_if_the_message_says_so),
                TEST(test_no_is_told_and_leaves_nothing),
                TEST(test_answers_belong_to_their_questions),
                TEST(test_other_calls_go_on_while_a_question_is_open),
                TEST(test_caller_that_leaves_takes_its_question_along),
                TEST(test_fifth_open_question_of_a_user_is_refused),
                TEST(test_stop_withdraws_the_questions_and_says_so),
                TEST(test_polkit_that_fails_or_goes_is_a_no),
                TEST(test_polkit_is_not_asked_about_what_is_ones_own),
                TEST(test_root_is_not_asked),
                TEST(test_what_was_frozen_is_checked_again_when_it_goes_on),
                cmocka_unit_test_setup_teardown(test_question_outlives_a_full_cache_of_callers, setup_small_cache,
                        harness_teardown),
        };

        return cmocka_run_group_tests_name("polkit", tests, NULL, NULL);
}
