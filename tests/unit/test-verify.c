/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "restore-world.h"
#include "verify.h"

/* A check of a backup: says whether it is whole, and touches nothing. */

#define DOCUMENT_MAX 4096U

/* What the events of a check told. */
typedef struct Heard {
        Cancel *cancel;
        unsigned n_events, n_begins, cancel_at, percent;
        uint64_t total, completed;
        bool wrong;
} Heard;

static void note(Heard *heard) {
        if (++heard->n_events == heard->cancel_at)
                cancel_trigger(heard->cancel, "Enough.");
}

static void on_begin(uint64_t total, void *userdata) {
        Heard *heard = userdata;

        heard->wrong = heard->wrong || heard->n_events > 0;
        heard->total = total;
        heard->n_begins++;
        note(heard);
}

static void on_origin(WorkOrigin origin, char *from, void *userdata) {
        ((Heard *)userdata)->wrong = true;
        g_free(from);
}

static void on_restricted(GPtrArray *licenses, void *userdata) {
        ((Heard *)userdata)->wrong = true;
        g_ptr_array_unref(licenses);
}

static void on_outside(bool outside, void *userdata) {
}

static void on_moved(void *userdata) {
}

static void on_progress(uint64_t completed, unsigned percent, void *userdata) {
        Heard *heard = userdata;

        heard->wrong = heard->wrong || heard->n_begins != 1 || completed < heard->completed ||
                completed > heard->total || percent < heard->percent || percent > 99;
        heard->completed = completed;
        heard->percent = percent;
        note(heard);
}

static void on_settling(void *userdata) {
}

/* Checks a copy of fd. */
static int verify(int fd, Heard *heard, int stall_msec, WorkResult *ret, Error *error) {
        const WorkEvents events = { .begin = on_begin, .origin = on_origin, .restricted = on_restricted,
                .watched = on_outside, .outside = on_outside, .in_store = on_outside, .moved = on_moved,
                .progress = on_progress, .settling = on_settling,
                .userdata = heard };
        int r, copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        g_autoptr(Cancel) cancel = NULL;
        g_autoptr(Verify) work = NULL;

        assert_true(copy >= 0);
        assert_int_equal(cancel_new(&cancel), 0);
        heard->cancel = cancel;
        *ret = (WorkResult) { .licenses = 77 };
        assert_int_equal(verify_new(copy, DOCUMENT_MAX, stall_msec, cancel, &work), 0);
        r = verify_class.check(work, error);
        if (r == 0)
                r = verify_class.run(work, &events, ret, error);
        assert_int_equal(r, error->code);
        assert_false(heard->wrong);
        assert_true(r == 0 || (ret->licenses == 77 && error->message));
        return r;
}

/* Closes fd. */
static void assert_whole(int fd, uint64_t licenses, uint64_t restricted, uint64_t bytes) {
        g_auto(WorkResult) result = {};
        g_auto(Error) error = {};
        Heard heard = {};

        assert_good(verify(fd, &heard, 5000, &result, &error), &error);
        assert_int_equal(result.licenses, licenses);
        assert_int_equal(result.restricted, restricted);
        assert_int_equal(result.bytes, bytes);
        assert_true(result.verified);
        assert_int_equal(heard.n_begins, 1);
        assert_int_equal(heard.total, licenses);
        assert_int_equal(heard.completed, licenses);
        close(fd);
}

static void assert_not_whole(int fd, ErrorCode code, const char *where, const char *what) {
        g_auto(WorkResult) result = {};
        g_auto(Error) error = {};
        Heard heard = {};

        assert_int_equal(verify(fd, &heard, 100, &result, &error), code);
        assert_error(&error, code, where);
        assert_error(&error, code, what);
        close(fd);
}

static void test_whole_backup_is_said_to_be_whole(void **state) {
        RestoreWorld *world = *state;
        int fd = make_archive(whole_parts, N_PARTS, 0);

        assert_whole(fcntl(world->backup, F_DUPFD_CLOEXEC, 0), RESTORE_LICENSES, RESTORE_RESTRICTED, world->size);
        assert_whole(fd, 2, 0, 10240);
}

static void test_check_touches_nothing(void **state) {
        RestoreWorld *world = *state;
        g_autofree char *path = g_build_filename(world->folder, "copy", NULL);
        g_autoptr(GByteArray) tar = tarball_read_file(world->backup);
        g_autoptr(GBytes) now = NULL;
        struct stat before, after;

        write_path(path, tar->data, tar->len);
        assert_int_equal(stat(path, &before), 0);
        assert_whole(open(path, O_RDONLY | O_CLOEXEC), RESTORE_LICENSES, RESTORE_RESTRICTED, world->size);
        assert_int_equal(stat(path, &after), 0);
        assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof before.st_mtim);
        assert_memory_equal(&before.st_ctim, &after.st_ctim, sizeof before.st_ctim);
        now = read_path(path);
        assert_int_equal(g_bytes_get_size(now), tar->len);
        assert_memory_equal(g_bytes_get_data(now, NULL), tar->data, tar->len);
        assert_unchanged(world);
}

/* Whoever's, and wherever from, without consent. */
static void test_backups_of_others_are_checked_too(void **state) {
        RestoreWorld *world = *state;
        Part part = { ARCHIVE_MANIFEST, MANIFEST_JSON(1, "",
                "\"all_users\":false,\"owner\":{\"uid\":7,\"name\":\"\"}", 2, 0) };
        int fd = back_up(world->from, true);
        uint64_t size = (uint64_t)lseek(fd, 0, SEEK_END);

        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        assert_whole(fd, RESTORE_LICENSES + 1, RESTORE_RESTRICTED, size);
        assert_whole(make_archive_with(PART_MANIFEST, part), 2, 0, 10240);
}

static void test_cut_off_backup_is_not_whole(void **state) {
        RestoreWorld *world = *state;
        g_autoptr(GByteArray) tar = tarball_read_file(world->backup);
        size_t stride = sanitized() ? 97 : 7, end = tar->len;

        while (tar->data[end - 1] == 0)
                end--;
        for (size_t size = 0; size < end + 512; size += stride) {
                int fd = tarball_new_file();

                tarball_write_file(fd, tar->data, size);
                assert_not_whole(fd, ERROR_BACKUP_CORRUPT, size < 512 ? "at its start" : "damaged",
                        "Use another copy.");
        }
}

static void test_changed_backup_is_not_whole(void **state) {
        RestoreWorld *world = *state;
        g_autoptr(GByteArray) tar = tarball_read_file(world->backup);
        size_t stride = sanitized() ? 97 : 7;

        for (size_t at = 0; at < tar->len; at += stride) {
                int fd = tarball_new_file();

                tar->data[at] ^= (uint8_t)(1 << at % 8);
                tarball_write_file(fd, tar->data, tar->len);
                assert_not_whole(fd, ERROR_BACKUP_CORRUPT, "backup", "");
                tar->data[at] ^= (uint8_t)(1 << at % 8);
        }
}

/* What a restore would refuse for what it says is not whole either. */
static void test_backup_that_says_what_none_says_is_not_whole(void **state) {
        static const char lcp[] = "{\"encryption\":{\"profile\":\"http://readium.org/lcp/1\"},\"id\":\"a\"}";
        static const char line[] = "{\"id\":\"a\",\"generation\":1,\"counters\":{\"play\":5}}\n{\"id\":\"b\"}\n";
        const Part *a = &whole_parts[PART_A];

        assert_not_whole(make_archive_with(PART_A, (Part) { a->path, lcp, a->attributes }), ERROR_BACKUP_CORRUPT,
                a->path, "");
        assert_not_whole(make_archive_with(PART_A, (Part) { a->path, a->content, "id=a\ngeneration=x" }),
                ERROR_BACKUP_CORRUPT, a->path, "");
        assert_not_whole(make_archive_with(PART_STATE, (Part) { ARCHIVE_STATE, line }), ERROR_BACKUP_CORRUPT,
                ARCHIVE_STATE, "line 2");
        assert_not_whole(make_archive_with(PART_MANIFEST, (Part) { ARCHIVE_MANIFEST, MANIFEST_JSON(2, "m",
                                 MANIFEST_OWNER, 2, 0) }), ERROR_BACKUP_CORRUPT, "newer version", "");
        assert_not_whole(make_archive_with(PART_MANIFEST, (Part) { ARCHIVE_MANIFEST, MANIFEST_JSON(1, "m",
                                 MANIFEST_OWNER, 1, 0) }), ERROR_BACKUP_CORRUPT, ARCHIVE_END, "counts");
        assert_not_whole(noise_file(20000), ERROR_BACKUP_CORRUPT, "damaged", "");
        assert_not_whole(tarball_new_file(), ERROR_BACKUP_CORRUPT, "at its start", "");
}

static void test_document_above_the_limit_is_a_limit(void **state) {
        g_autofree char *large = g_strnfill(DOCUMENT_MAX + 1, 'x');
        Part part = whole_parts[PART_A];

        part.content = large;
        assert_not_whole(make_archive_with(PART_A, part), ERROR_LIMIT_EXCEEDED, part.path, "4096");
}

static void test_check_reads_pipes_and_sockets(void **state) {
        RestoreWorld *world = *state;
        g_autoptr(GByteArray) tar = tarball_read_file(world->backup);

        for (unsigned i = 0; i < 4; i++) {
                Feeder feeder = { .data = tar->data, .size = tar->len, .piece = i & 2 ? 100 : 65536 };
                int fd = feeder_start(&feeder, i & 1);

                assert_whole(fd, RESTORE_LICENSES, RESTORE_RESTRICTED, world->size);
                feeder_join(&feeder);
        }
}

static void test_check_of_what_cannot_be_read_is_refused(void **state) {
        int fds[2];

        assert_not_whole(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), ERROR_INVALID_ARGUMENTS, "not a regular file",
                "");
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_not_whole(fds[1], ERROR_INVALID_ARGUMENTS, "not open for reading", "");
        close(fds[0]);
}

static void test_check_of_what_stalls_ends(void **state) {
        RestoreWorld *world = *state;
        g_autoptr(GByteArray) tar = tarball_read_file(world->backup);

        for (unsigned is_socket = 0; is_socket < 2; is_socket++) {
                int fds[2];

                assert_int_equal(is_socket ? socketpair(AF_UNIX, SOCK_STREAM, 0, fds) : pipe(fds), 0);
                assert_int_equal(write(fds[1], tar->data, 3000), 3000);
                assert_not_whole(fds[0], ERROR_MEDIUM, "", "");
                close(fds[1]);
        }
}

static void test_cancel_at_any_event_ends_a_check(void **state) {
        RestoreWorld *world = *state;
        unsigned n_canceled = 0;

        for (unsigned i = 1;; i++) {
                g_auto(WorkResult) result = {};
                Heard heard = { .cancel_at = i };
                g_auto(Error) error = {};
                int r;

                assert_int_equal(lseek(world->backup, 0, SEEK_SET), 0);
                r = verify(world->backup, &heard, 5000, &result, &error);
                if (heard.n_events < i) {
                        assert_good(r, &error);
                        break;
                }
                /* The last event may be too late. */
                assert_true(r == 0 || r == ERROR_CANCELED);
                n_canceled += r == ERROR_CANCELED;
        }
        assert_true(n_canceled >= 2);
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, restore_world_setup, restore_world_teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_whole_backup_is_said_to_be_whole),
                IN_WORLD(test_check_touches_nothing),
                IN_WORLD(test_backups_of_others_are_checked_too),
                IN_WORLD(test_cut_off_backup_is_not_whole),
                IN_WORLD(test_changed_backup_is_not_whole),
                IN_WORLD(test_backup_that_says_what_none_says_is_not_whole),
                IN_WORLD(test_document_above_the_limit_is_a_limit),
                IN_WORLD(test_check_reads_pipes_and_sockets),
                IN_WORLD(test_check_of_what_cannot_be_read_is_refused),
                IN_WORLD(test_check_of_what_stalls_ends),
                IN_WORLD(test_cancel_at_any_event_ends_a_check),
        };

        restore_world_prepare();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
