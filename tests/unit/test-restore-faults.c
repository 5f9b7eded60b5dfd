/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "restore-world.h"
#include "store-connection.h"

/* Descriptors of all kinds, those that stall, cancels, limits and a full disk: done, or as if it had never been. */

static void test_file_is_read_from_where_it_stands(void **state) {
        RestoreWorld *world = *state;
        g_autoptr(GByteArray) tar = tarball_read_file(world->backup);
        _cleanup_fd_ int fd = noise_file(1000);

        assert_int_equal(pwrite(fd, tar->data, tar->len, 1000), tar->len);
        assert_int_equal(lseek(fd, 1000, SEEK_SET), 1000);
        restore_good(world, restore_plan(world, fd), NULL);
}

static void test_backup_comes_through_pipes_and_sockets_in_any_pieces(void **state) {
        static const size_t pieces[] = { 1, 511, 513, 4096, 1 << 20 };
        RestoreWorld *world = *state;
        g_autoptr(GByteArray) tar = tarball_read_file(world->backup);

        for (size_t i = 0; i < 2 * G_N_ELEMENTS(pieces); i++) {
                Feeder feeder = { .data = tar->data, .size = tar->len, .piece = pieces[i / 2] };
                _cleanup_fd_ int fd = feeder_start(&feeder, i % 2 == 0);
                int flags = fcntl(fd, F_GETFL);

                restore_good(world, restore_plan(world, fd), NULL);
                assert_int_equal(fcntl(fd, F_GETFL), flags);
                feeder_join(&feeder);
                assert_int_equal(feeder.fed, tar->len);
        }
}

/* As long as something comes, the restore may take longer than a stall. */
static void test_slow_pipe_is_waited_for(void **state) {
        RestoreWorld *world = *state;
        g_autoptr(GByteArray) tar = tarball_read_file(world->backup);

        for (unsigned is_socket = 0; is_socket < 2; is_socket++) {
                Feeder feeder = { .data = tar->data, .size = tar->len, .piece = 512, .pause_usec = 40 * 1000 };
                _cleanup_fd_ int fd = feeder_start(&feeder, is_socket);
                RestorePlan plan = restore_plan(world, fd);
                int64_t start = g_get_monotonic_time();

                plan.stall_msec = 1000;
                restore_good(world, plan, NULL);
                assert_true(g_get_monotonic_time() - start > 1200 * 1000);
                feeder_join(&feeder);
        }
}

/* A pipe, or a socket, with the first part of the backup in it; *ret is its other end. */
static int start_of_backup(RestoreWorld *world, bool is_socket, size_t size, int *ret) {
        g_autoptr(GByteArray) tar = tarball_read_file(world->backup);
        int fds[2];

        assert_int_equal(is_socket ? socketpair(AF_UNIX, SOCK_STREAM, 0, fds) : pipe(fds), 0);
        assert_int_equal(write(fds[1], tar->data, size), size);
        *ret = fds[1];
        return fds[0];
}

static void test_descriptor_that_stalls_is_the_mediums_fault(void **state) {
        RestoreWorld *world = *state;

        for (size_t size = 0; size < world->size; size += 3000)
                for (unsigned is_socket = 0; is_socket < 2; is_socket++) {
                        int other, fd = start_of_backup(world, is_socket, size, &other);
                        RestorePlan plan = restore_plan(world, fd);

                        plan.stall_msec = 40;
                        assert_plan_refused(world, plan, ERROR_MEDIUM, "");
                        close(fd);
                        close(other);
                }
        assert_restores(world);
}

static void test_writer_that_leaves_cuts_the_backup_off(void **state) {
        RestoreWorld *world = *state;
        g_autoptr(GByteArray) tar = tarball_read_file(world->backup);
        size_t end = tar->len;

        while (tar->data[end - 1] == 0)
                end--;
        for (size_t size = 0; size < end + 1024; size += 1000)
                for (unsigned is_socket = 0; is_socket < 2; is_socket++) {
                        int other, fd = start_of_backup(world, is_socket, size, &other);

                        close(other);
                        assert_plan_refused(world, restore_plan(world, fd), ERROR_BACKUP_CORRUPT, "Use another copy.");
                        close(fd);
                }
        assert_restores(world);
}

/* Checked without a byte read, so that nothing begins. */
static void assert_source_refused(RestoreWorld *world, int fd, const char *words) {
        assert_plan_refused(world, restore_plan(world, fd), ERROR_INVALID_ARGUMENTS, words);
        assert_int_equal(world->n_events, 0);
        close(fd);
}

static void test_descriptors_that_cannot_be_read_are_refused_before_anything(void **state) {
        RestoreWorld *world = *state;
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", world->backup);
        int fds[2];

        assert_source_refused(world, open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "not a regular file");
        assert_source_refused(world, open("/dev/zero", O_RDONLY | O_CLOEXEC), "not a regular file");
        assert_source_refused(world, open(path, O_WRONLY | O_CLOEXEC), "not open for reading");
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_source_refused(world, fds[1], "not open for reading");
        close(fds[0]);
        assert_restores(world);
}

/* The number of events that a whole restore has, and nothing else of it. */
static unsigned count_events(RestoreWorld *world, int fd) {
        unsigned n;

        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        restore_good(world, restore_plan(world, fd), NULL);
        n = world->n_events;
        restore_world_renew(world);
        return n;
}

static void test_cancel_at_any_event_is_a_restore_that_never_was(void **state) {
        RestoreWorld *world = *state;
        unsigned n_events;
        int fd;

        put_many(world->from->store, &alice, 30, 100);
        fd = back_up(world->from, false);
        n_events = count_events(world, fd);
        assert_in_range(n_events, 10, 200);

        /* The last moment is when all is merged but the commit. */
        for (unsigned i = 1; i <= n_events + 1; i++) {
                RestorePlan plan = restore_plan(world, fd);
                g_auto(WorkResult) result = {};
                g_auto(Error) error = {};

                assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
                world->cancel_at = i;
                assert_int_equal(restore(world, plan, &result, &error), ERROR_CANCELED);
                assert_error(&error, ERROR_CANCELED, "Enough.");
                assert_true(world->settled || i <= n_events);
                assert_unchanged(world);

                /* And nothing of it is in the way of the next. */
                world->cancel_at = 0;
                world->cancel = cancel_unref(world->cancel);
                assert_int_equal(cancel_new(&world->cancel), 0);
                assert_restores(world);
                restore_world_renew(world);
        }
        close(fd);
}

typedef struct Canceler {
        Cancel *cancel;
        unsigned usec;
        pthread_t thread;
} Canceler;

static void *cancel_later(void *userdata) {
        Canceler *canceler = userdata;

        g_usleep(canceler->usec);
        cancel_trigger(canceler->cancel, "Enough.");
        return NULL;
}

static void test_cancel_from_another_thread_at_any_moment(void **state) {
        RestoreWorld *world = *state;
        g_autoptr(GByteArray) tar = NULL;
        unsigned n_canceled = 0, n = sanitized() ? 15 : 60;
        int fd;

        put_many(world->from->store, &alice, 300, 200);
        fd = back_up(world->from, false);
        tar = tarball_read_file(fd);
        for (unsigned i = 0; i < n; i++) {
                Canceler canceler = { .cancel = world->cancel, .usec = i * 1000 };
                Feeder feeder = { .data = tar->data, .size = tar->len, .piece = 16384, .pause_usec = 500 };
                int r, from = feeder_start(&feeder, i % 2);
                g_auto(Error) error = {};

                assert_int_equal(pthread_create(&canceler.thread, NULL, cancel_later, &canceler), 0);
                r = restore(world, restore_plan(world, from), NULL, &error);
                close(from);
                feeder_join(&feeder);
                pthread_join(canceler.thread, NULL);
                assert_true(r == 0 || r == ERROR_CANCELED);
                if (r == ERROR_CANCELED) {
                        assert_unchanged(world);
                        n_canceled++;
                        world->cancel = cancel_unref(world->cancel);
                        assert_int_equal(cancel_new(&world->cancel), 0);
                } else
                        restore_world_renew(world);
        }
        assert_true(n_canceled > 0);
        close(fd);
}

static void test_cancel_before_the_first_byte(void **state) {
        RestoreWorld *world = *state;
        int other, fd = start_of_backup(world, false, 0, &other);

        cancel_trigger(world->cancel, "Enough.");
        assert_plan_refused(world, restore_plan(world, fd), ERROR_CANCELED, "Enough.");
        close(fd);
        close(other);
}

/* With those limits it is one that is named; without, all is well. */
static void assert_limit(RestoreWorld *world, StoreLimits limits, const char *setting) {
        assert_int_equal(lseek(world->backup, 0, SEEK_SET), 0);
        store_set_limits(world->store, &limits);
        assert_plan_refused(world, restore_plan(world, world->backup), code_of_limit(setting), setting);
        store_set_limits(world->store, &no_limits);
        assert_restores(world);
        restore_world_renew(world);
}

static void test_limits_are_named_with_their_setting(void **state) {
        RestoreWorld *world = *state;
        StoreLimits limits;

        delete_license(world->store, &alice, "opaque");
        g_free(world->before);
        world->before = render(world->connection);
        limits = no_limits;
        limits.licenses_per_user = 4;
        assert_limit(world, limits, "LicensesPerUser=");

        limits = no_limits;
        limits.document_bytes = 10;
        assert_limit(world, limits, "DocumentBytes=");
        limits = no_limits;
        limits.remembered_per_user = 5;
        assert_limit(world, limits, "RememberedPerUser=");
        limits = no_limits;
        limits.bytes_per_user = 10;
        assert_limit(world, limits, "BytesPerUser=");
        limits = no_limits;
        limits.minimum_free_percent = 100;
        assert_limit(world, limits, "MinimumFreePercent=");
        limits = no_limits;
        limits.store_bytes = 8192;
        assert_limit(world, limits, "StoreBytes=");
}

/* A store that is as full as it may be takes a backup of what it has. */
static void test_restore_that_adds_nothing_needs_no_room(void **state) {
        RestoreWorld *world = *state;
        StoreLimits limits = no_limits;

        limits.licenses_per_user = 5;   /* mine, lcp, opaque, dead, gone */
        limits.remembered_per_user = 6; /* and secret */
        store_set_limits(world->store, &limits);
        assert_restores(world);
}

/* Rows of no license. */
static int64_t count_staged(RestoreWorld *world) {
        g_auto(Error) error = {};
        int64_t n = -1;

        assert_good(store_connection_integer(world->connection,
                            "SELECT (SELECT count(*) FROM staged_ids) + (SELECT count(*) FROM staged_licenses) + "
                            "(SELECT count(*) FROM documents AS d "
                            "WHERE NOT EXISTS (SELECT 1 FROM licenses AS l WHERE l.key = d.key))", &n, &error),
                &error);
        return n;
}

static void assert_swept(RestoreWorld *world) {
        for (unsigned i = 0; count_staged(world) > 0; i++) {
                assert_true(i < 3000);
                g_usleep(10 * 1000);
        }
}

/* Neither in the store, nor in what the owner is charged with. */
static void test_failed_restores_leave_nothing_behind(void **state) {
        RestoreWorld *world = *state;
        StoreLimits limits = no_limits;
        g_autoptr(GByteArray) tar = NULL;
        int fd;

        put_many(world->from->store, &alice, 500, 1000);
        fd = back_up(world->from, false);
        tar = tarball_read_file(fd);
        limits.licenses_per_user = 1100; /* for two at a time */
        limits.remembered_per_user = 1100;
        limits.bytes_per_user = 1500000;
        store_set_limits(world->store, &limits);

        for (size_t i = 0; i < 20; i++) {
                size_t at = tar->len - 10240 * (i + 2);
                uint8_t byte = tar->data[at] ^ 1;

                assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
                assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
                assert_plan_refused(world, restore_plan(world, fd), ERROR_BACKUP_CORRUPT, "licenses/");
                assert_int_equal(pwrite(fd, &tar->data[at], 1, (off_t)at), 1);
        }
        assert_swept(world);
        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        restore_good(world, restore_plan(world, fd), NULL);
        assert_swept(world);
        close(fd);
}

/* Others, and alice herself, store while a restore goes on. */
static void store_meanwhile(RestoreWorld *world) {
        g_autofree char *id = g_strdup_printf("meanwhile-%u", world->n_events);
        g_autofree char *of_alice = g_strdup_printf("alice's %s", id), *of_bob = g_strdup_printf("bob's %s", id);

        put(world->store, &alice, id, of_alice);
        put(world->store, &bob, id, of_bob);
}

static void test_licenses_stored_meanwhile_stay_whatever_becomes_of_the_restore(void **state) {
        RestoreWorld *world = *state;
        int fd;

        put_many(world->from->store, &alice, 50, 100);
        fd = back_up(world->from, false);
        g_autoptr(GByteArray) tar = tarball_read_file(fd);

        for (unsigned damaged = 0; damaged < 2; damaged++) {
                g_autofree char *now = NULL;
                g_auto(Error) error = {};
                uint8_t *end = memmem(tar->data, tar->len, "\"blake2b\"", 9);
                unsigned n;

                assert_non_null(end);
                if (damaged)
                        assert_int_equal(pwrite(fd, "X", 1, end - tar->data), 1);
                assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
                world->at_event = store_meanwhile;
                assert_int_equal(restore(world, restore_plan(world, fd), NULL, &error),
                        damaged ? ERROR_BACKUP_CORRUPT : 0);
                world->at_event = NULL;
                n = world->n_events;
                assert_true(n > 10);
                assert_swept(world);

                now = render(world->connection);
                for (unsigned i = 1; i <= n; i++) {
                        g_autofree char *of_alice = g_strdup_printf("document alice's meanwhile-%u\n", i);
                        g_autofree char *of_bob = g_strdup_printf("document bob's meanwhile-%u\n", i);

                        assert_non_null(strstr(now, of_alice));
                        assert_non_null(strstr(now, of_bob));
                }
                assert_int_equal(strstr(now, "license many-49") != NULL, !damaged);
                restore_world_renew(world);
        }
        close(fd);
}

/* A new machine on a disk of so many kilobytes, that only this thread and those it makes see. */
static bool disk_open(RestoreWorld *disk, unsigned size) {
        g_autofree char *options = g_strdup_printf("size=%uk,mode=700", size);
        g_auto(Error) error = {};

        disk->folder = temp_folder_new();
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("tmpfs", disk->folder, "tmpfs", 0, options) < 0)
                return false;
        disk->store = restore_world_open(disk->folder);
        assert_good(store_connect(disk->store, &disk->connection, &error), &error);
        disk->before = render(disk->connection);
        return true;
}

static void disk_close(RestoreWorld *disk) {
        disk->connection = store_connection_free(disk->connection);
        disk->store = store_free(disk->store);
        g_clear_pointer(&disk->before, g_free);
        assert_int_equal(umount(disk->folder), 0);
        temp_folder_remove(disk->folder);
}

static void test_full_disk_changes_nothing_and_room_mends_it(void **state) {
        RestoreWorld *world = *state;
        RestoreWorld disk = *world;
        unsigned n_staging = 0, n_merging = 0, n_good = 0;
        int fd;

        put_many(world->from->store, &alice, 1000, 500);
        fd = back_up(world->from, false);

        /* Full at each step of the way: while it is staged, while it is merged. */
        for (unsigned size = 400; n_good < 3; size += 100) {
                g_auto(Error) error = {};
                int r;

                assert_true(size < 60000);
                if (!disk_open(&disk, size)) {
                        temp_folder_remove(disk.folder);
                        close(fd);
                        print_message("Skipped: mounting a file system needs root.\n");
                        skip();
                }
                assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
                r = restore(&disk, restore_plan(&disk, fd), NULL, &error);
                if (r == 0) {
                        g_autofree char *now = render(disk.connection);

                        assert_non_null(strstr(now, "license many-999 "));
                        n_good++;
                } else {
                        assert_int_equal(r, ERROR_STORE_WRITE);
                        assert_unchanged(&disk);
                        if (disk.settled)
                                n_merging++;
                        else
                                n_staging++;
                }

                assert_int_equal(mount("tmpfs", disk.folder, "tmpfs", MS_REMOUNT, "size=64m"), 0);
                put(disk.store, &bob, "there-is-room", "d");
                assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
                restore_good(&disk, restore_plan(&disk, fd), NULL);
                assert_restores(&disk);
                disk_close(&disk);
        }
        print_message("The disk was full %u times while staging, and %u times while merging.\n", n_staging, n_merging);
        assert_true(n_staging > 3);
        assert_true(n_merging > 0);
        close(fd);
}

static uint64_t memory_peak(void) {
        g_autofree char *status = NULL;
        const char *peak;

        assert_true(g_file_get_contents("/proc/self/status", &status, NULL, NULL));
        peak = strstr(status, "VmHWM:");
        return peak ? strtoull(peak + 6, NULL, 10) : 0;
}

typedef struct Sender {
        int from, to;
        size_t size;
        pthread_t thread;
} Sender;

/* Sends a file from kernel to kernel, for what is in our memory would count. */
static void *send_file(void *userdata) {
        Sender *sender = userdata;

        for (off_t at = 0; at < (off_t)sender->size;)
                if (sendfile(sender->to, sender->from, &at, 1 << 20) <= 0)
                        break;
        close(sender->to);
        return NULL;
}

/* By how much the process grows while so many licenses are restored through a pipe, in kB. */
static uint64_t measure(RestoreWorld *world, unsigned n) {
        Sender sender = {};
        uint64_t before;
        int fds[2];

        put_many(world->from->store, &alice, n, 100);
        sender.from = back_up(world->from, false);
        sender.size = (size_t)lseek(sender.from, 0, SEEK_END);
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        sender.to = fds[1];

        malloc_trim(0);
        write_path("/proc/self/clear_refs", "5", 1);
        before = memory_peak();
        assert_int_equal(pthread_create(&sender.thread, NULL, send_file, &sender), 0);
        restore_good(world, restore_plan(world, fds[0]), NULL);
        pthread_join(sender.thread, NULL);
        close(fds[0]);
        close(sender.from);
        assert_int_equal(world->completed, n + 2);
        return memory_peak() - before;
}

static void test_memory_does_not_grow_with_the_number_of_licenses(void **state) {
        RestoreWorld *world = *state;
        uint64_t few, many;

        if (sanitized() || access("/proc/self/clear_refs", W_OK) < 0) {
                print_message("Skipped: this build, or this machine, does not tell memory apart.\n");
                skip();
        }
        few = measure(world, 5000);
        restore_world_renew(world);
        many = measure(world, 50000);
        print_message("Restoring 5,000 licenses took %" PRIu64 " kB, 50,000 %" PRIu64 " kB.\n", few, many);
        assert_true(many < few + 8 * 1024);
        assert_true(many < 32 * 1024);
}

int main(void) {
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, restore_world_setup, restore_world_teardown)
        const struct CMUnitTest tests[] = {
                IN_WORLD(test_file_is_read_from_where_it_stands),
                IN_WORLD(test_backup_comes_through_pipes_and_sockets_in_any_pieces),
                IN_WORLD(test_slow_pipe_is_waited_for),
                IN_WORLD(test_descriptor_that_stalls_is_the_mediums_fault),
                IN_WORLD(test_writer_that_leaves_cuts_the_backup_off),
                IN_WORLD(test_descriptors_that_cannot_be_read_are_refused_before_anything),
                IN_WORLD(test_cancel_at_any_event_is_a_restore_that_never_was),
                IN_WORLD(test_cancel_from_another_thread_at_any_moment),
                IN_WORLD(test_cancel_before_the_first_byte),
                IN_WORLD(test_limits_are_named_with_their_setting),
                IN_WORLD(test_restore_that_adds_nothing_needs_no_room),
                IN_WORLD(test_failed_restores_leave_nothing_behind),
                IN_WORLD(test_licenses_stored_meanwhile_stay_whatever_becomes_of_the_restore),
                IN_WORLD(test_memory_does_not_grow_with_the_number_of_licenses),
                IN_WORLD(test_full_disk_changes_nothing_and_room_mends_it),
        };

        restore_world_prepare();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
