/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is logged, how often, where it goes, and that the journal has an explanation of each event. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>
#include <glib.h>

#include "common.h"

/* Ten minutes are long. */
static int64_t test_time = 1;
#define g_get_monotonic_time() test_time

/* For its table, which nothing but this test needs to see from outside. */
#include "log.c"

/* Standard error of the code that is tested: a file that can be read back. */
static int captured = -1, own_stderr = -1;

static void set_journal_stream(bool matches) {
        g_autofree char *stream = NULL;
        struct stat st;

        assert_int_equal(fstat(captured, &st), 0);
        stream = g_strdup_printf("%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino + !matches);
        g_setenv("JOURNAL_STREAM", stream, true);
}

static int setup(void **state) {
        captured = memfd_create("stderr", MFD_CLOEXEC);
        own_stderr = dup(STDERR_FILENO);
        assert_true(captured >= 0 && own_stderr >= 0);
        assert_int_equal(dup2(captured, STDERR_FILENO), STDERR_FILENO);
        g_unsetenv("JOURNAL_STREAM");
        g_clear_pointer(&told, g_hash_table_unref);
        return 0;
}

static int teardown(void **state) {
        dup2(own_stderr, STDERR_FILENO);
        close(own_stderr);
        close(captured);
        g_unsetenv("JOURNAL_STREAM");
        return 0;
}

/* All that was written to standard error since the last call. */
static char *take_lines(void) {
        off_t size = lseek(captured, 0, SEEK_END);
        char *text = g_malloc0((size_t)size + 1);

        assert_int_equal(pread(captured, text, (size_t)size, 0), size);
        assert_int_equal(ftruncate(captured, 0), 0);
        assert_int_equal(lseek(captured, 0, SEEK_SET), 0);
        return text;
}

#define assert_lines(expected) do { \
                g_autofree char *lines_ = take_lines(); \
                assert_string_equal(lines_, expected); \
        } while (0)

static void test_lines_have_a_priority_where_the_journal_reads_them(void **state) {
        log_warning("One %d.", 1);
        assert_lines("One 1.\n");
        set_journal_stream(true);
        log_warning("Two.");
        log_error("Three.");
        assert_lines("<4>Two.\n<3>Three.\n");
        /* Of a unit whose output somebody has sent elsewhere. */
        set_journal_stream(false);
        log_warning("Four.");
        assert_lines("Four.\n");
}

static void test_line_that_comes_again_is_left_out(void **state) {
        log_rarely(SD_INFO, "restore 1000", "A restore of %d.", 1000);
        log_rarely(SD_INFO, "restore 1000", "A restore of %d.", 1000);
        log_rarely(SD_INFO, "restore 1001", "A restore of %d.", 1001);
        log_rarely(SD_INFO, "restore 1000", "A restore of %d.", 1000);
        assert_lines("A restore of 1000.\nA restore of 1001.\n");
        test_time += PAUSE_USEC;
        log_rarely(SD_INFO, "restore 1000", "A restore of %d.", 1000);
        assert_lines("A restore of 1000. (2 more like this were left out.)\n");
}

/* The journal */

static bool write_proc(const char *path, const char *text) {
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

        if (fd >= 0)
                close(fd);
        return good;
}

/* A mount namespace; who is not root becomes the root of a user namespace for that, where the kernel lets him. */
static bool may_mount(void) {
        g_autofree char *user = g_strdup_printf("0 %u 1", (unsigned)geteuid());
        g_autofree char *group = g_strdup_printf("0 %u 1", (unsigned)getegid());

        return unshare(CLONE_NEWNS) == 0 ||
                (unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && write_proc("/proc/self/uid_map", user) &&
                write_proc("/proc/self/setgroups", "deny") && write_proc("/proc/self/gid_map", group));
}

/*
 * Puts a socket of ours where that of the journal is, for this process alone. Skips the test where that cannot be
 * done.
 */
static int listen_as_journal(void) {
        const struct sockaddr_un address = { AF_UNIX, JOURNAL_SOCKET };
        int fd;

        if (!may_mount() ||
            mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("tmpfs", "/run", "tmpfs", 0, "mode=0755") < 0) {
                print_message("skipped: no mounts of our own here: %s\n", g_strerror(errno));
                skip();
        }
        assert_int_equal(g_mkdir_with_parents("/run/systemd/journal", 0755), 0);
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_true(fd >= 0);
        assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
        return fd;
}

/* The next entry; NULL where there is none. */
static char *receive_entry(int fd) {
        char buffer[8192];
        ssize_t n = recv(fd, buffer, sizeof buffer, 0);

        assert_true(n >= 0 || errno == EAGAIN);
        return n < 0 ? NULL : g_strndup(buffer, (size_t)n);
}

static void test_event_goes_to_the_journal_with_its_id_and_fields(void **state) {
        int fd = listen_as_journal();

        set_journal_stream(true);
        log_event(LOG_EVENT_BACKUP_FAILED, LOG_VALUES("1000", "NS_E_X"), "A backup of user %d failed.", 1000);
        g_autofree char *entry = receive_entry(fd);
        assert_string_equal(entry,
                "MESSAGE_ID=b39d92909d3a42129b18ac2982e936de\n"
                "PRIORITY=4\n"
                "SYSLOG_IDENTIFIER=licensevaultd\n"
                "MESSAGE=A backup of user 1000 failed.\n"
                "LICENSEVAULT_EVENT=backup-failed\n"
                "LICENSEVAULT_USER=1000\n"
                "LICENSEVAULT_ERROR=NS_E_X\n");
        /* And nowhere else. */
        assert_lines("");

        log_event(LOG_EVENT_BUS_LEFT, NULL, "Left.");
        g_autofree char *plain = receive_entry(fd);
        assert_non_null(strstr(plain, "MESSAGE=Left.\nLICENSEVAULT_EVENT=bus-left\n"));
        close(fd);
}

/* What is in a value is no field of its own, and no line. */
static void test_values_cannot_break_out(void **state) {
        int fd = listen_as_journal();

        log_event(LOG_EVENT_ROOT_UNWRITABLE, LOG_VALUES("/a\nPRIORITY=0"), "The root '%s'.", "/a\n<0>b");
        assert_lines("The root '/a?<0>b'.\n");
        set_journal_stream(true);
        log_event(LOG_EVENT_ROOT_UNWRITABLE, LOG_VALUES("/a\nPRIORITY=0"), "The root '%s'.", "/a\nPRIORITY=0");
        g_autofree char *entry = receive_entry(fd);
        assert_null(strstr(entry, "\nPRIORITY=0"));
        assert_non_null(strstr(entry, "LICENSEVAULT_ROOT=/a?PRIORITY=0\n"));
        close(fd);
}

static void test_event_is_a_line_where_the_journal_does_not_read_us(void **state) {
        int fd = listen_as_journal();

        log_event(LOG_EVENT_STORE_FULL, LOG_VALUES("one"), "Full.");
        set_journal_stream(false);
        log_event(LOG_EVENT_STORE_FULL, LOG_VALUES("two"), "Full.");
        assert_lines("Full.\nFull.\n");
        assert_null(receive_entry(fd));

        /* It has gone. */
        close(fd);
        set_journal_stream(true);
        log_event(LOG_EVENT_STORE_FULL, LOG_VALUES("three"), "Full.");
        assert_lines("<3>Full.\n");
}

/* A journal that hangs: what all services have sent it fills its socket. */
static void test_journal_that_takes_nothing_keeps_nobody_waiting(void **state) {
        const struct sockaddr_un address = { AF_UNIX, JOURNAL_SOCKET };
        int fd = listen_as_journal(), other = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        unsigned n = 0;

        while (sendto(other, "x", 1, MSG_DONTWAIT, (const struct sockaddr *)&address, sizeof address) == 1)
                n++;
        assert_int_equal(errno, EAGAIN);
        assert_true(n > 0);

        set_journal_stream(true);
        alarm(20); /* ends a test that waits */
        log_event(LOG_EVENT_STORE_UNREADABLE, LOG_VALUES("NS_E_X"), "Damaged.");
        alarm(0);
        assert_lines("<3>Damaged.\n");
        close(other);
        close(fd);
}

/* How often */

static void fail_backup(const char *user) {
        log_event(LOG_EVENT_BACKUP_FAILED, LOG_VALUES(user, "NS_E_X"), "User %s.", user);
}

static void test_repeated_event_is_told_once_in_ten_minutes(void **state) {
        for (unsigned i = 0; i < 1000; i++)
                fail_backup("1");
        assert_lines("User 1.\n");

        test_time += PAUSE_USEC - 1;
        fail_backup("1");
        assert_lines("");
        test_time += 1;
        fail_backup("1");
        fail_backup("1");
        assert_lines("User 1. (1000 more like this were left out.)\n");
        test_time += PAUSE_USEC;
        fail_backup("1");
        test_time += PAUSE_USEC;
        fail_backup("1");
        assert_lines("User 1. (1 more like this were left out.)\nUser 1.\n");
}

static void test_one_users_events_do_not_hide_anothers(void **state) {
        fail_backup("1");
        fail_backup("2");
        log_event(LOG_EVENT_RESTORE_FAILED, LOG_VALUES("1", "NS_E_X"), "Restore.");
        fail_backup("1");
        assert_lines("User 1.\nUser 2.\nRestore.\n");
}

static void test_root_is_told_each_time(void **state) {
        for (unsigned i = 0; i < 3; i++)
                log_event(LOG_EVENT_ROOT_UNWRITABLE, LOG_VALUES("/media"), "Root.");
        assert_lines("Root.\nRoot.\nRoot.\n");
}

static void test_what_is_remembered_is_bounded(void **state) {
        for (unsigned i = 0; i < 5 * TOLD_MAX; i++) {
                g_autofree char *user = g_strdup_printf("%u", i);
                fail_backup(user);
                test_time += PAUSE_USEC / 2 / TOLD_MAX;
        }
        assert_in_range(g_hash_table_size(told), 1, TOLD_MAX);
        g_free(take_lines());
        /* The last one is still known. */
        fail_backup("4999");
        assert_lines("");
}

/* The catalog */

typedef struct Explanation {
        char *id, *subject, *defined_by, *text;
} Explanation;

static void explanation_free(void *data) {
        Explanation *explanation = data;

        g_free(explanation->id);
        g_free(explanation->subject);
        g_free(explanation->defined_by);
        g_free(explanation->text);
        g_free(explanation);
}

static char *catalog_path(void) {
        return g_build_filename(g_getenv("SOURCE_ROOT"), "systemd", "licensevault.catalog", NULL);
}

/* After a line "-- <id>", headers, an empty line, and the text. */
static GPtrArray *read_catalog(void) {
        GPtrArray *all = g_ptr_array_new_with_free_func(explanation_free);
        g_autofree char *path = catalog_path();
        g_autoptr(GBytes) bytes = read_path(path);
        g_autofree char *whole = g_strndup(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
        g_auto(GStrv) parts = g_strsplit(whole, "\n-- ", -1);

        for (char **part = parts + 1; *part; part++) {
                Explanation *explanation = g_new0(Explanation, 1);
                g_auto(GStrv) pieces = g_strsplit(*part, "\n\n", 2);
                g_auto(GStrv) headers = g_strsplit(pieces[0], "\n", -1);

                assert_int_equal(g_strv_length(headers), 3);
                assert_true(g_str_has_prefix(headers[1], "Subject: "));
                assert_true(g_str_has_prefix(headers[2], "Defined-By: "));
                assert_non_null(pieces[1]);
                explanation->id = g_strdup(headers[0]);
                explanation->subject = g_strdup(headers[1] + strlen("Subject: "));
                explanation->defined_by = g_strdup(headers[2] + strlen("Defined-By: "));
                explanation->text = g_strdup(pieces[1]);
                g_ptr_array_add(all, explanation);
        }
        return all;
}

static void test_events_are_complete_and_apart(void **state) {
        for (unsigned i = 0; i < _LOG_EVENT_MAX; i++) {
                assert_non_null(events[i].id);
                assert_true(g_regex_match_simple("^[0-9a-f]{32}$", events[i].id, 0, 0));
                assert_true(g_regex_match_simple("^[a-z-]+$", events[i].name, 0, 0));
                assert_true(g_regex_match_simple("^<[0-7]>$", events[i].priority, 0, 0));
                for (unsigned j = 0; j < i; j++) {
                        assert_string_not_equal(events[i].id, events[j].id);
                        assert_string_not_equal(events[i].name, events[j].name);
                }
        }
}

/* Both ways: in one order, so that who adds one puts it where it belongs. */
static void test_catalog_explains_each_event_and_nothing_else(void **state) {
        g_autoptr(GPtrArray) catalog = read_catalog();

        for (unsigned i = 0; i < MIN(catalog->len, _LOG_EVENT_MAX); i++) {
                const Explanation *explanation = catalog->pdata[i];

                assert_string_equal(explanation->id, events[i].id);
                assert_string_equal(explanation->defined_by, "licensevault");
                assert_true(strlen(explanation->subject) > 10);
                /* What to do next, as a command. */
                assert_true(g_regex_match_simple("^    [a-z/].+$", explanation->text, G_REGEX_MULTILINE, 0));
                /* The journal breaks no lines. How long a field is, it alone knows. */
                assert_false(g_regex_match_simple("^[^@\n]{79,}$", explanation->text, G_REGEX_MULTILINE, 0));
        }
        assert_int_equal(catalog->len, _LOG_EVENT_MAX);
}

/* In its section MESSAGES: ".TP", ".B event", in the same order; and no field of an event is left out. */
static void test_manual_names_each_event_and_nothing_else(void **state) {
        g_autofree char *path = g_build_filename(g_getenv("SOURCE_ROOT"), "docs", "licensevaultd.8", NULL);
        g_autoptr(GBytes) bytes = read_path(path);
        g_autofree char *manual = g_strndup(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
        char *section = strstr(manual, "\n.SH MESSAGES\n"), *end = section ? strstr(section + 1, "\n.SH ") : NULL;
        g_autoptr(GRegex) row = g_regex_new("^\\.TP\n\\.B (.*)\n[A-Z]", G_REGEX_MULTILINE, 0, NULL);
        g_autoptr(GMatchInfo) match = NULL;
        unsigned n = 0;

        assert_non_null(end);
        *end = '\0';
        for (g_regex_match(row, section, 0, &match); g_match_info_matches(match); g_match_info_next(match, NULL)) {
                g_autofree char *roff = g_match_info_fetch(match, 1);
                g_auto(GStrv) words = g_strsplit(roff, "\\-", -1);
                g_autofree char *name = g_strjoinv("-", words);

                assert_true(n < _LOG_EVENT_MAX);
                assert_string_equal(name, events[n].name);
                for (unsigned i = 0; i < G_N_ELEMENTS(events[n].fields) && events[n].fields[i]; i++)
                        assert_non_null(strstr(section, events[n].fields[i]));
                n++;
        }
        assert_int_equal(n, _LOG_EVENT_MAX);
}

static bool has_field(unsigned event, const char *name) {
        for (unsigned i = 0; i < G_N_ELEMENTS(events[event].fields) && events[event].fields[i]; i++)
                if (g_str_equal(events[event].fields[i], name))
                        return true;
        return false;
}

/* A field that the entry does not have would stand there by its name. */
static void test_catalog_uses_fields_of_its_event_alone(void **state) {
        g_autoptr(GPtrArray) catalog = read_catalog();
        g_autoptr(GRegex) regex = g_regex_new("@([^@\\s]*)@", 0, 0, NULL);
        unsigned n = 0;

        assert_int_equal(catalog->len, _LOG_EVENT_MAX);
        for (unsigned i = 0; i < catalog->len; i++) {
                const Explanation *explanation = catalog->pdata[i];
                g_autofree char *text = g_strconcat(explanation->subject, "\n", explanation->text, NULL);
                g_autoptr(GMatchInfo) match = NULL;

                for (g_regex_match(regex, text, 0, &match); g_match_info_matches(match);
                        g_match_info_next(match, NULL)) {
                        g_autofree char *field = g_match_info_fetch(match, 1);

                        if (!has_field(i, field))
                                fail_msg("%s has no field '%s'", events[i].name, field);
                        n++;
                }
        }
        assert_true(n > 0);
}

static int run(char **arguments, char **ret_output) {
        g_autoptr(GError) error = NULL;
        int status;

        if (!g_spawn_sync(NULL, arguments, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL,
                    ret_output, NULL, &status, &error)) {
                print_message("skipped: %s\n", error->message);
                skip();
        }
        return status;
}

/* By systemd itself, into a folder of ours. */
static void test_catalog_compiles(void **state) {
        g_autofree char *folder = temp_folder_new(), *from = catalog_path();
        g_autofree char *place = g_build_filename(folder, "usr/lib/systemd/catalog", NULL);
        g_autofree char *path = g_build_filename(place, "licensevault.catalog", NULL);
        g_autofree char *root = g_strconcat("--root=", folder, NULL), *output = NULL, *list = NULL;
        g_autoptr(GBytes) bytes = read_path(from);
        g_auto(GStrv) lines = NULL;

        assert_int_equal(g_mkdir_with_parents(place, 0755), 0);
        write_path(path, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
        assert_int_equal(run((char *[]) { (char *)"journalctl", root, (char *)"--update-catalog", NULL }, &output), 0);
        assert_int_equal(run((char *[]) { (char *)"journalctl", root, (char *)"--list-catalog", NULL }, &list), 0);
        for (unsigned i = 0; i < _LOG_EVENT_MAX; i++)
                assert_non_null(strstr(list, events[i].id));
        lines = g_strsplit(g_strchomp(list), "\n", -1);
        assert_int_equal(g_strv_length(lines), _LOG_EVENT_MAX);
        temp_folder_remove(g_steal_pointer(&folder));
}

int main(void) {
#define CAPTURED(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_events_are_complete_and_apart),
                cmocka_unit_test(test_catalog_explains_each_event_and_nothing_else),
                cmocka_unit_test(test_catalog_uses_fields_of_its_event_alone),
                cmocka_unit_test(test_catalog_compiles),
                cmocka_unit_test(test_manual_names_each_event_and_nothing_else),
                CAPTURED(test_line_that_comes_again_is_left_out),
                CAPTURED(test_lines_have_a_priority_where_the_journal_reads_them),
                CAPTURED(test_repeated_event_is_told_once_in_ten_minutes),
                CAPTURED(test_one_users_events_do_not_hide_anothers),
                CAPTURED(test_root_is_told_each_time),
                CAPTURED(test_what_is_remembered_is_bounded),
                CAPTURED(test_event_goes_to_the_journal_with_its_id_and_fields),
                CAPTURED(test_values_cannot_break_out),
                CAPTURED(test_event_is_a_line_where_the_journal_does_not_read_us),
                CAPTURED(test_journal_that_takes_nothing_keeps_nobody_waiting),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
