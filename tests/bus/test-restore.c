/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Restores: what can be asked for, what is refused, and the order on the wire ("return 21 28 29 16 27"). */
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "monitor.h"
#include "restores.h"

/* Percents come as time allows; a fast job may have none. */
#define SUCCESS "return 21 28 29( 16)? 27"
#define FAILED "return 21 28 29( 16)? 27:"
#define FOREIGN "return 21 28 25 27:NS_E_DRM_NEEDS_INDIVIDUALIZATION"

static int setup(void **state) {
        harness_setup(state);
        monitor_new(*state);
        return 0;
}

static int setup_media(void **state) {
        harness_setup_bus(state);
        Harness *h = *state;
        harness_set(h, "Backup", "Roots", h->media);
        harness_start(h);
        return 0;
}

static char *back_up(sd_bus *bus, uint32_t flags) {
        char *job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", flags);

        g_hash_table_unref(assert_job_succeeds(bus, job));
        return job;
}

static void test_restore_from_the_path_sends_the_origin_and_done(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        store_many(bus, "a", 50, 100);
        g_free(back_up(bus, 0));
        delete_license(bus, "a00007");

        g_autofree char *job = call_string(bus, ROOT, RESTORE_PATH, "u", own_flags());
        assert_restored(bus, job, "1 49 0 0 0", "");
        sleep_msec(200);
        assert_trace(h, job, bus, SUCCESS);
        g_autofree char *kind = job_property(bus, job, "Kind"), *total = job_property(bus, job, "Total"),
                        *completed = job_property(bus, job, "Completed");
        assert_string_equal(kind, "restore");
        assert_string_equal(total, "50");
        assert_string_equal(completed, "50");
}

static void test_statuses_tell_where_the_backup_is_from(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "one");
        save_backup(h, bus, "own.tar");
        rewrite(h, "own.tar", "other.tar", "json", "manifest.json", "host", "\"laptop\"", "json", "manifest.json",
                "owner.name", "\"anna\"");

        g_autofree char *refused = start_restore(h, bus, "other.tar", 0);
        assert_job_fails(bus, refused, "NS_E_DRM_NEEDS_INDIVIDUALIZATION", "*anna on laptop*");
        assert_trace(h, refused, bus, FOREIGN);
        assert_string_equal(monitor_find_text(h, refused, 28), "anna on laptop");
        assert_string_equal(monitor_find_text(h, refused, 25), "anna on laptop");
        g_autofree char *job = start_restore(h, bus, "other.tar", AGREE);
        assert_restored(bus, job, "0 1 0 0 0", "");
        assert_trace(h, job, bus, SUCCESS);
        assert_string_equal(monitor_find_text(h, job, 28), "anna on laptop");
        assert_string_equal(monitor_find_text(h, job, 29), "anna on laptop");
}

/* Control characters would do things to a terminal. */
static void test_origin_is_fit_to_be_shown(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "one");
        save_backup(h, bus, "own.tar");
        rewrite(h, "own.tar", "odd.tar", "json", "manifest.json", "host", "\"lap\\u001b[2Jtop\\n\\u0085\"", "json",
                "manifest.json", "owner.name", "\"\"");

        g_autofree char *job = start_restore(h, bus, "odd.tar", AGREE);
        assert_restored(bus, job, "0 1 0 0 0", "");
        const char *text = monitor_find_text(h, job, 28);
        assert_true(g_str_has_prefix(text, "user ") && strstr(text, " on lap"));
        for (const char *p = text; *p; p = g_utf8_next_char(p))
                assert_false(g_unichar_iscntrl(g_utf8_get_char(p)));
}

/* Restores what others made only with consent, and without it changes nothing. */
static void assert_needs_consent(Harness *h, sd_bus *bus, const char *name) {
        g_autofree char *before = snapshot_licenses(bus);
        g_autofree char *refused = start_restore(h, bus, name, 0);

        assert_job_fails(bus, refused, "NS_E_DRM_NEEDS_INDIVIDUALIZATION", NULL);
        assert_trace(h, refused, bus, FOREIGN);
        assert_snapshot(bus, before);
        g_autofree char *job = start_restore(h, bus, name, AGREE);
        assert_restored(bus, job, "1 0 0 0 0", "");
        assert_trace(h, job, bus, SUCCESS);
        g_hash_table_unref(assert_license(bus, "one", "the document of one\n", 20));
}

static void test_backup_of_another_machine_needs_consent(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "one");
        save_backup(h, bus, "own.tar");
        rewrite(h, "own.tar", "other.tar", "json", "manifest.json", "machine",
                "\"00000000000000000000000000000001\"");
        rewrite(h, "own.tar", "none.tar", "json", "manifest.json", "machine", "\"\"");

        delete_license(bus, "one");
        assert_needs_consent(h, bus, "other.tar");
        /* One that does not say which is nobody's. */
        delete_license(bus, "one");
        assert_needs_consent(h, bus, "none.tar");
}

static void test_backup_of_another_owner_needs_consent(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        sd_bus *bus = harness_connect(h, 0), *other = harness_connect(h, 1);
        g_autofree char *uid = g_strdup_printf("%u", (unsigned)h->users[1]);
        store_simple(bus, "one");
        save_backup(h, bus, "own.tar");
        g_autofree char *before = snapshot_licenses(bus);

        assert_needs_consent(h, other, "own.tar");
        assert_snapshot(bus, before);
        /* The name and the number must both be right. */
        rewrite(h, "own.tar", "number.tar", "json", "manifest.json", "owner.uid", uid);
        rewrite(h, "own.tar", "name.tar", "json", "manifest.json", "owner.name", "\"somebody\"");
        delete_license(bus, "one");
        assert_needs_consent(h, bus, "number.tar");
        delete_license(bus, "one");
        assert_needs_consent(h, bus, "name.tar");
}

static void test_own_backup_needs_no_consent(void **state) {
        Harness *h = *state;
        need_machine_id();
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "one");
        save_backup(h, bus, "own.tar");
        harness_new_machine(h);

        g_autofree char *job = start_restore(h, bus, "own.tar", 0);
        assert_restored(bus, job, "1 0 0 0 0", "");
        assert_trace(h, job, bus, SUCCESS);
}

static void test_restore_of_nothing_sends_the_same(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        save_backup(h, bus, "empty.tar");

        g_autofree char *job = start_restore(h, bus, "empty.tar", own_flags());
        assert_restored(bus, job, "0 0 0 0 0", "");
        assert_trace(h, job, bus, SUCCESS);
}

static void test_restore_of_tombstones_alone_sends_the_same(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        for (unsigned i = 0; i < 3; i++) {
                g_autofree char *id = g_strdup_printf("id%u", i);
                store_simple(bus, id);
                call_void(bus, ROOT, "LicenseStore.RevokeLicense", "s", id);
        }
        save_backup(h, bus, "tombstones.tar");
        harness_new_machine(h);

        g_autofree char *job = start_restore(h, bus, "tombstones.tar", own_flags());
        assert_restored(bus, job, "0 0 0 0 3", "");
        assert_trace(h, job, bus, SUCCESS);
        store_license_error(
                bus, "NS_E_DRM_LICENSE_CONTENT_REVOKED", NULL, "x", 1, "a{sv}", 1, "LicenseId", "s", "id1");
}

static void test_restore_of_many_shows_percents(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_auto(FedJob) fed = {};
        g_autofree char *path = harness_path(h, "many.tar");
        size_t size;
        store_many(bus, "a", 200, 1000);
        save_backup(h, bus, "many.tar");
        g_autofree char *backup = read_file(path, &size);

        int64_t begin = g_get_monotonic_time();
        fed_job_start(bus, &fed);
        for (unsigned i = 0; i < 5; i++) {
                feed(&fed, backup + size / 5 * i, i < 4 ? size / 5 : size - size / 5 * 4);
                sleep_msec(150);
        }
        feed_end(&fed);
        assert_restored(bus, fed.path, "0 200 0 0 0", "");
        int64_t seconds = (g_get_monotonic_time() - begin) / 1000000 + 1;
        assert_trace(h, fed.path, bus, "return 21 28 29 16 27");
        assert_in_range(monitor_count_progress(h, fed.path, bus), 5, 10 * (unsigned)seconds + 1);
}

/* Writes all of a backup to a descriptor, and closes that. */
static void write_all(Harness *h, const char *name, int fd, size_t at_once) {
        g_autofree char *path = harness_path(h, name);
        size_t size;
        g_autofree char *content = read_file(path, &size);

        for (size_t done = 0; done < size;) {
                ssize_t n = write(fd, content + done, MIN(size - done, at_once));
                assert_true(n > 0);
                done += (size_t)n;
        }
        close(fd);
}

static void assert_restores_from(Harness *h, int fds[2], size_t at_once) {
        sd_bus *bus = harness_connect(h, 0);
        store_many(bus, "a", 200, 3000);
        g_autofree char *before = snapshot_licenses(bus);
        save_backup(h, bus, "backup.tar");
        for (unsigned i = 0; i < 200; i++) {
                g_autofree char *id = g_strdup_printf("a%05u", i);
                delete_license(bus, id);
        }

        int flags = fcntl(fds[0], F_GETFL), kept = dup(fds[0]);
        g_autofree char *job = call_string(bus, ROOT, RESTORE_FILE, "hua{sv}", fds[0], own_flags(), 0);
        close(fds[0]);
        /* Flags belong to the open pipe, and so to us as well. */
        sleep_msec(50);
        assert_int_equal(fcntl(kept, F_GETFL), flags);
        write_all(h, "backup.tar", fds[1], at_once);
        assert_restored(bus, job, "200 0 0 0 0", "");
        assert_int_equal(fcntl(kept, F_GETFL), flags);
        close(kept);
        assert_trace(h, job, bus, SUCCESS);
        assert_snapshot(bus, before);
}

static void test_pipe_gives_all(void **state) {
        int fds[2];
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);

        assert_restores_from(*state, fds, 65536);
}

static void test_nonblocking_pipe_gives_all_in_small_pieces(void **state) {
        int fds[2];
        assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
        assert_int_equal(fcntl(fds[1], F_SETFL, 0), 0);

        assert_restores_from(*state, fds, 777);
}

static void test_stream_socket_gives_all(void **state) {
        int fds[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);

        assert_restores_from(*state, fds, 10000);
}

static void test_file_is_read_from_where_it_stands(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *path = harness_path(h, "backup.tar"), *behind = harness_path(h, "behind");
        size_t size;
        store_simple(bus, "one");
        save_backup(h, bus, "backup.tar");
        g_autofree char *content = read_file(path, &size);
        g_autofree char *both = g_malloc0(size + 1000);
        memcpy(both + 1000, content, size);
        write_file(behind, both, size + 1000);
        delete_license(bus, "one");

        int fd = open_in(h, "behind", O_RDONLY);
        assert_int_equal(lseek(fd, 1000, SEEK_SET), 1000);
        g_autofree char *job = call_string(bus, ROOT, RESTORE_FILE, "hua{sv}", fd, own_flags(), 0);
        assert_restored(bus, job, "1 0 0 0 0", "");
        close(fd);
        assert_restore_fails(h, bus, "behind", "NS_E_DRM_BACKUP_CORRUPT", NULL);
}

static void test_backup_file_is_not_changed(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *path = harness_path(h, "backup.tar");
        size_t size;
        store_many(bus, "a", 5, 100);
        save_backup(h, bus, "backup.tar");
        g_autofree char *content = read_file(path, &size);

        int fd = open_in(h, "backup.tar", O_RDWR);
        g_autofree char *job = call_string(bus, ROOT, RESTORE_FILE, "hua{sv}", fd, own_flags(), 0);
        assert_restored(bus, job, "0 5 0 0 0", "");
        close(fd);
        assert_file_equal(path, content, size);
}

/* Refused as the method's error, before there is a job. */
static void assert_invalid(sd_bus *bus, int fd, const char *what) {
        sd_bus_message *message = new_call(bus, ROOT, RESTORE_FILE);
        sd_bus_error error = SD_BUS_ERROR_NULL;

        assert_true(fd >= 0);
        assert_true(sd_bus_message_append(message, "hua{sv}", fd, 0, 0) >= 0);
        if (sd_bus_call(bus, message, 0, &error, NULL) >= 0)
                fail_msg("A %s was taken", what);
        if (!sd_bus_error_has_name(&error, SD_BUS_ERROR_INVALID_ARGS))
                fail_msg("%s: expected InvalidArgs, got %s, '%s'", what, error.name, error.message);
        assert_sentence(error.message, NULL);
        sd_bus_error_free(&error);
        sd_bus_message_unref(message);
        close(fd);
}

static void test_descriptors_that_cannot_give_a_backup_are_refused(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        int datagram[2], packet[2], fds[2];
        unsigned before = monitor_signals_to(h, NULL);
        assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, datagram), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, packet), 0);
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(listen(listening, 1), -1); /* it has no address yet */
        assert_int_equal(bind(listening, &(struct sockaddr) { .sa_family = AF_UNIX }, sizeof(sa_family_t)), 0);
        assert_int_equal(listen(listening, 1), 0);

        assert_invalid(bus, open_in(h, "new", O_WRONLY | O_CREAT), "write-only file");
        assert_invalid(bus, open_in(h, "", O_RDONLY | O_DIRECTORY), "directory");
        assert_invalid(bus, open_in(h, "", O_PATH), "O_PATH of a directory");
        assert_invalid(bus, open_in(h, "new", O_PATH), "O_PATH");
        assert_invalid(bus, open("/dev/null", O_RDWR | O_CLOEXEC), "/dev/null");
        assert_invalid(bus, datagram[0], "datagram socket");
        assert_invalid(bus, packet[0], "packet socket");
        assert_invalid(bus, listening, "listening socket");
        assert_invalid(bus, fds[1], "the writing end of a pipe");
        close(datagram[1]);
        close(packet[1]);
        close(fds[0]);
        assert_int_equal(monitor_signals_to(h, NULL), before);
}

static void test_flags_and_options_are_checked(void **state) {
        static const uint32_t flags[] = { 1, 3, 4, 6, 0x80000000, UINT32_MAX };
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "one");
        g_free(back_up(bus, 0));
        save_backup(h, bus, "backup.tar");
        int fd = open_in(h, "backup.tar", O_RDONLY);
        unsigned before = monitor_signals_to(h, NULL);

        for (unsigned i = 0; i < G_N_ELEMENTS(flags); i++) {
                call_error(bus, ROOT, RESTORE_PATH, "InvalidArgs", NULL, "u", flags[i]);
                call_error(bus, ROOT, RESTORE_FILE, "InvalidArgs", NULL, "hua{sv}", fd, flags[i], 0);
        }
        call_error(bus, ROOT, RESTORE_FILE, "InvalidArgs", "*Colour*", "hua{sv}", fd, 0, 1, "Colour", "s", "blue");
        call_error(bus, ROOT, RESTORE_FILE, "InvalidArgs", "*Owner*", "hua{sv}", fd, 0, 1, "Owner", "s", "root");
        call_error(bus, ROOT, RESTORE_FILE, "InvalidArgs", "*AllUsers*", "hua{sv}", fd, 0, 1, "AllUsers", "u", 1);
        assert_int_equal(monitor_signals_to(h, NULL), before);
        /* It was not read either. */
        assert_int_equal(lseek(fd, 0, SEEK_CUR), 0);
        close(fd);
}

static void test_licenses_of_others_need_authorisation(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        sd_bus *bus = harness_connect(h, 0), *other = harness_connect(h, 1);
        uint32_t uid = h->users[1];
        store_simple(bus, "mine");
        save_backup(h, bus, "backup.tar");
        int fd = open_in(h, "backup.tar", O_RDONLY);

        call_error(bus, ROOT, RESTORE_FILE, "AccessDenied", NULL, "hua{sv}", fd, AGREE, 1, "Owner", "u", uid);
        call_error(bus, ROOT, RESTORE_FILE, "AccessDenied", NULL, "hua{sv}", fd, AGREE, 1, "AllUsers", "b", 1);
        assert_no_license(other, "mine");
        /* Oneself is nobody else. */
        uid = h->users[0];
        g_autofree char *job = call_string(
                bus, ROOT, RESTORE_FILE, "hua{sv}", fd, own_flags(), 2, "Owner", "u", uid, "AllUsers", "b", 0);
        assert_restored(bus, job, "0 1 0 0 0", "");
        close(fd);
}

static void test_no_backup_in_the_path_is_refused_at_once(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        unsigned before = monitor_signals_to(h, NULL);

        call_error(bus, ROOT, RESTORE_PATH, "NS_E_DRM_BACKUP_CORRUPT", "There is no backup*", "u", 0);
        call_error(bus, ROOT, RESTORE_PATH, "NS_E_DRM_BACKUP_CORRUPT", NULL, "u", AGREE);
        assert_int_equal(monitor_signals_to(h, NULL), before);
        /* The place is free again. */
        g_free(back_up(bus, 0));
}

static void test_path_that_is_not_allowed_any_more_is_refused(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *folder = g_strdup_printf("%s/%u", h->media, (unsigned)h->users[0]);
        store_simple(bus, "one");
        call_void(bus, ROOT, "BackupRestoreProps.SetProp", "sv", "BackupPath", "s", folder);
        call_void(bus, ROOT, "BackupRestoreProps.SetProp", "sv", "RestorePath", "s", folder);
        g_free(back_up(bus, 0));
        delete_license(bus, "one");

        g_autofree char *job = call_string(bus, ROOT, RESTORE_PATH, "u", own_flags());
        assert_restored(bus, job, "1 0 0 0 0", "");
        harness_stop(h);
        g_key_file_remove_key(h->settings, "Backup", "Roots", NULL);
        harness_start(h);
        call_error(bus, ROOT, RESTORE_PATH, "AccessDenied", NULL, "u", own_flags());
}

static void test_path_is_the_callers_alone(void **state) {
        Harness *h = *state;
        harness_need_users(h, 2);
        sd_bus *bus = harness_connect(h, 0), *other = harness_connect(h, 1);
        g_autofree char *theirs = g_strdup_printf("%s/%u", h->media, (unsigned)h->users[0]);
        g_autofree char *mine = g_strdup_printf("%s/%u", h->media, (unsigned)h->users[1]);
        g_autofree char *link = g_strconcat(mine, "/link", NULL);
        store_simple(bus, "one");
        call_void(bus, ROOT, "BackupRestoreProps.SetProp", "sv", "BackupPath", "s", theirs);
        g_free(back_up(bus, 0));

        call_error(other, ROOT, "BackupRestoreProps.SetProp", "AccessDenied", NULL, "sv", "RestorePath", "s", theirs);
        assert_int_equal(symlink(theirs, link), 0);
        call_void(other, ROOT, "BackupRestoreProps.SetProp", "sv", "RestorePath", "s", link);
        call_error(other, ROOT, RESTORE_PATH, "AccessDenied", NULL, "u", AGREE);
        assert_no_license(other, "one");
}

/* Reads exactly what is there, and no other kind of file. */
static void test_what_is_no_file_in_the_path_is_refused(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *folder = g_strdup_printf("%s/%u", h->media, (unsigned)h->users[0]);
        g_autofree char *file = g_strconcat(folder, "/licenses.tar", NULL), *real = g_strconcat(folder, "/real", NULL);
        store_simple(bus, "one");
        save_backup(h, bus, "backup.tar");
        g_autofree char *saved = harness_path(h, "backup.tar");
        assert_int_equal(rename(saved, real), 0);
        call_void(bus, ROOT, "BackupRestoreProps.SetProp", "sv", "RestorePath", "s", folder);

        assert_int_equal(symlink("real", file), 0);
        call_error(bus, ROOT, RESTORE_PATH, "AccessDenied", NULL, "u", AGREE);
        assert_int_equal(unlink(file), 0);
        assert_int_equal(mkfifo(file, 0600), 0);
        call_error(bus, ROOT, RESTORE_PATH, "AccessDenied", NULL, "u", AGREE);
        assert_int_equal(unlink(file), 0);
        assert_int_equal(mkdir(file, 0700), 0);
        call_error(bus, ROOT, RESTORE_PATH, "AccessDenied", NULL, "u", AGREE);
}

static void test_busy_is_refused_and_the_running_restore_does_not_notice(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0), *other = harness_connect(h, 0);
        g_autofree char *path = harness_path(h, "backup.tar");
        g_auto(FedJob) fed = {};
        size_t size;
        store_simple(bus, "one");
        g_free(back_up(bus, 0));
        save_backup(h, bus, "backup.tar");
        g_autofree char *backup = read_file(path, &size);
        int fd = open_in(h, "backup.tar", O_RDONLY);
        fed_job_start(bus, &fed);
        feed(&fed, backup, size / 2);

        call_error(bus, ROOT, RESTORE_PATH, "NS_E_DRM_BACKUPRESTORE_BUSY", "*restore*", "u", 0);
        call_error(other, ROOT, RESTORE_FILE, "NS_E_DRM_BACKUPRESTORE_BUSY", NULL, "hua{sv}", fd, 0, 0);
        call_error(other, ROOT, VERIFY, "NS_E_DRM_BACKUPRESTORE_BUSY", NULL, "h", fd);
        call_error(other, ROOT, "LicenseBackup.BackupLicenses", "NS_E_DRM_BACKUPRESTORE_BUSY", NULL, "u", 1);
        close(fd);
        feed(&fed, backup + size / 2, size - size / 2);
        feed_end(&fed);
        assert_restored(bus, fed.path, "0 1 0 0 0", "");
        assert_trace(h, fed.path, bus, SUCCESS);
}

static void test_restore_is_refused_while_a_backup_runs(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        g_auto(StuckJob) stuck = {};
        store_simple(bus, "one");
        save_backup(h, bus, "backup.tar");
        int fd = open_in(h, "backup.tar", O_RDONLY);
        stuck_job_start(bus, &stuck);

        call_error(bus, ROOT, RESTORE_PATH, "NS_E_DRM_BACKUPRESTORE_BUSY", "*backup*", "u", 0);
        call_error(bus, ROOT, RESTORE_FILE, "NS_E_DRM_BACKUPRESTORE_BUSY", NULL, "hua{sv}", fd, 0, 0);
        call_error(bus, ROOT, VERIFY, "NS_E_DRM_BACKUPRESTORE_BUSY", NULL, "h", fd);
        close(fd);
        stuck_job_drain(bus, &stuck);
        g_hash_table_unref(assert_job_succeeds(bus, stuck.path));
        assert_trace(h, stuck.path, bus, "return 21( 16)? 27");
}

static void test_machine_takes_a_limited_number_of_jobs(void **state) {
        Harness *h = *state;
        harness_need_users(h, 3);
        g_auto(FedJob) first = {}, second = {};
        harness_set(h, "Jobs", "JobsOnMachine", "2");
        harness_start(h);
        sd_bus *third = harness_connect(h, 2);
        save_backup(h, third, "backup.tar");
        fed_job_start(harness_connect(h, 0), &first);
        fed_verify_start(harness_connect(h, 1), &second);
        int fd = open_in(h, "backup.tar", O_RDONLY);

        call_error(third, ROOT, RESTORE_FILE, "LimitsExceeded", "*JobsOnMachine*", "hua{sv}", fd, 0, 0);
        call_error(third, ROOT, VERIFY, "LimitsExceeded", "*JobsOnMachine*", "h", fd);
        close(fd);
        feed_end(&first);
        assert_job_fails(harness_connect(h, 0), first.path, "NS_E_DRM_BACKUP_CORRUPT", NULL);
        assert_restores(h, third, "backup.tar", "0 0 0 0 0");
}

static void test_subscriber_gets_the_same_after_the_return(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0), *subscriber = harness_connect(h, 0), *bystander = harness_connect(h, 0);
        call_void(subscriber, ROOT, "Manager.Subscribe", "");
        store_simple(bus, "one");
        save_backup(h, bus, "backup.tar");
        rewrite(h, "backup.tar", "other.tar", "json", "manifest.json", "machine", "\"\"");

        g_autofree char *job = start_restore(h, bus, "backup.tar", own_flags());
        assert_restored(bystander, job, "0 1 0 0 0", "");
        assert_trace(h, job, bus, SUCCESS);
        assert_trace(h, job, subscriber, "21 28 29( 16)? 27");
        assert_trace(h, job, bystander, "");
        g_autofree char *refused = start_restore(h, bus, "other.tar", 0);
        assert_job_fails(bus, refused, "NS_E_DRM_NEEDS_INDIVIDUALIZATION", NULL);
        assert_trace(h, refused, subscriber, "21 28 25 27:NS_E_DRM_NEEDS_INDIVIDUALIZATION");
}

static void test_damaged_backup_ends_in_one_done(void **state) {
        Harness *h = *state;
        sd_bus *bus = harness_connect(h, 0);
        store_simple(bus, "one");
        save_backup(h, bus, "backup.tar");
        rewrite(h, "backup.tar", "late.tar", "content", "END.json", "{}");
        rewrite(h, "backup.tar", "early.tar", "drop", "manifest.json");

        g_autofree char *late = start_restore(h, bus, "late.tar", own_flags());
        assert_job_fails(bus, late, "NS_E_DRM_BACKUP_CORRUPT", "*END.json*");
        assert_trace(h, late, bus, FAILED "NS_E_DRM_BACKUP_CORRUPT");
        /* Nobody knows whose it is. */
        g_autofree char *early = start_restore(h, bus, "early.tar", own_flags());
        assert_job_fails(bus, early, "NS_E_DRM_BACKUP_CORRUPT", "*manifest.json*");
        assert_trace(h, early, bus, "return 21 27:NS_E_DRM_BACKUP_CORRUPT");
        g_autofree char *job_state = job_property(bus, early, "State");
        assert_string_equal(job_state, "failed");
}

#define ORDER_TEST(name) cmocka_unit_test_setup_teardown(name, setup, harness_teardown)
#define MEDIA_TEST(name) cmocka_unit_test_setup_teardown(name, setup_media, harness_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                ORDER_TEST(test_restore_from_the_path_sends_the_origin_and_done),
                ORDER_TEST(test_statuses_tell_where_the_backup_is_from),
                ORDER_TEST(test_origin_is_fit_to_be_shown),
                ORDER_TEST(test_backup_of_another_machine_needs_consent),
                ORDER_TEST(test_backup_of_another_owner_needs_consent),
                ORDER_TEST(test_own_backup_needs_no_consent),
                ORDER_TEST(test_restore_of_nothing_sends_the_same),
                ORDER_TEST(test_restore_of_tombstones_alone_sends_the_same),
                ORDER_TEST(test_restore_of_many_shows_percents),
                ORDER_TEST(test_pipe_gives_all),
                ORDER_TEST(test_nonblocking_pipe_gives_all_in_small_pieces),
                ORDER_TEST(test_stream_socket_gives_all),
                ORDER_TEST(test_file_is_read_from_where_it_stands),
                ORDER_TEST(test_backup_file_is_not_changed),
                ORDER_TEST(test_descriptors_that_cannot_give_a_backup_are_refused),
                ORDER_TEST(test_flags_and_options_are_checked),
                ORDER_TEST(test_licenses_of_others_need_authorisation),
                ORDER_TEST(test_no_backup_in_the_path_is_refused_at_once),
                MEDIA_TEST(test_path_that_is_not_allowed_any_more_is_refused),
                MEDIA_TEST(test_path_is_the_callers_alone),
                MEDIA_TEST(test_what_is_no_file_in_the_path_is_refused),
                ORDER_TEST(test_busy_is_refused_and_the_running_restore_does_not_notice),
                ORDER_TEST(test_restore_is_refused_while_a_backup_runs),
                cmocka_unit_test_setup_teardown(
                        test_machine_takes_a_limited_number_of_jobs, harness_setup_bus, harness_teardown),
                ORDER_TEST(test_subscriber_gets_the_same_after_the_return),
                ORDER_TEST(test_damaged_backup_ends_in_one_done),
        };

        return cmocka_run_group_tests_name("restore", tests, NULL, NULL);
}
