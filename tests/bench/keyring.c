/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bench.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Beside gnome-keyring, where an app would put a secret: one item after the other, of the same bytes. */

#define SECRETS "org.freedesktop.secrets"
#define SECRETS_PATH "/org/freedesktop/secrets"
#define LOGIN SECRETS_PATH "/collection/login" /* is unlocked with the password that the daemon is started with */
#define DOCUMENT_SIZE 4096
#define FIRST 200U   /* items, into what is empty */
#define MORE 100U    /* into what holds many */
#define ROUNDS_MAX 3U /* it takes minutes to fill a keyring */

typedef struct Keyring {
        sd_bus *bus;
        pid_t daemon;
        char *folder, *session;
        uint64_t stored;
        uint8_t *document;
} Keyring;

static void start_daemon(Bench *bench, Keyring *keyring) {
        pid_t parent = getpid();
        int password[2];

        assert_int_equal(mkdir(keyring->folder, 0700), 0);
        assert_int_equal(pipe2(password, O_CLOEXEC), 0);
        keyring->daemon = fork();
        assert_true(keyring->daemon >= 0);
        if (keyring->daemon == 0) {
                int null = open("/dev/null", O_RDWR | O_CLOEXEC);

                prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (getppid() != parent)
                        _exit(127);
                dup2(password[0], STDIN_FILENO);
                dup2(null, STDOUT_FILENO);
                dup2(null, STDERR_FILENO);
                setenv("DBUS_SESSION_BUS_ADDRESS", bench->h->address, 1);
                setenv("HOME", keyring->folder, 1);
                setenv("XDG_DATA_HOME", keyring->folder, 1);
                setenv("XDG_RUNTIME_DIR", keyring->folder, 1);
                execlp("gnome-keyring-daemon", "gnome-keyring-daemon", "--foreground", "--components=secrets",
                        "--unlock", NULL);
                _exit(127);
        }
        assert_int_equal(write(password[1], "password", 8), 8);
        close(password[0]);
        close(password[1]);
}

/* Returns whether a session is there: not before the daemon has its name. */
static bool open_session(Keyring *keyring) {
        sd_bus_message *reply = NULL;
        const char *session;

        if (sd_bus_call_method(keyring->bus, SECRETS, SECRETS_PATH, "org.freedesktop.Secret.Service", "OpenSession",
                    NULL, &reply, "sv", "plain", "s", "") < 0)
                return false;
        assert_true(sd_bus_message_skip(reply, "v") > 0 && sd_bus_message_read(reply, "o", &session) > 0);
        keyring->session = g_strdup(session);
        sd_bus_message_unref(reply);
        return true;
}

static void keyring_start(Bench *bench, Keyring *keyring) {
        start_daemon(bench, keyring);
        for (unsigned i = 0; !open_session(keyring); i++) {
                assert_true(i < PATIENCE_SEC * 100 && waitpid(keyring->daemon, NULL, WNOHANG) == 0);
                sleep_msec(10);
        }
}

static void keyring_stop(Keyring *keyring) {
        kill(keyring->daemon, SIGTERM);
        waitpid(keyring->daemon, NULL, 0);
        run_program((const char *[]) { "rm", "-rf", keyring->folder, NULL }, NULL, NULL);
        g_clear_pointer(&keyring->session, g_free);
}

static void append_item(sd_bus_message *message, const char *id) {
        assert_true(sd_bus_message_append(message, "a{sv}", 2, "org.freedesktop.Secret.Item.Label", "s", "Moby-Dick",
                            "org.freedesktop.Secret.Item.Attributes", "a{ss}", 1, "license", id) >= 0);
}

static void append_secret(sd_bus_message *message, const Keyring *keyring) {
        assert_true(sd_bus_message_open_container(message, 'r', "oayays") >= 0);
        assert_true(sd_bus_message_append(message, "o", keyring->session) >= 0);
        assert_true(sd_bus_message_append_array(message, 'y', NULL, 0) >= 0);
        assert_true(sd_bus_message_append_array(message, 'y', keyring->document, DOCUMENT_SIZE) >= 0);
        assert_true(sd_bus_message_append(message, "s", "application/octet-stream") >= 0);
        assert_true(sd_bus_message_close_container(message) >= 0);
}

static sd_bus_message *make_item(sd_bus *bus, uint64_t number, void *userdata) {
        Keyring *keyring = userdata;
        g_autofree char *id = world_id(keyring->stored++);
        sd_bus_message *message = NULL;

        assert_true(sd_bus_message_new_method_call(bus, &message, SECRETS, LOGIN, "org.freedesktop.Secret.Collection",
                            "CreateItem") >= 0);
        append_item(message, id);
        append_secret(message, keyring);
        assert_true(sd_bus_message_append(message, "b", 0) >= 0);
        return message;
}

static sd_bus_message *make_license(sd_bus *bus, uint64_t number, void *userdata) {
        Keyring *keyring = userdata;
        g_autofree char *id = world_id(keyring->stored++);
        sd_bus_message *message = new_call(bus, ROOT, "LicenseStore.StoreLicense");

        assert_true(sd_bus_message_append_array(message, 'y', keyring->document, DOCUMENT_SIZE) >= 0);
        assert_true(sd_bus_message_append(message, "a{sv}", 2, "LicenseId", "s", id, "Title", "s", "Moby-Dick") >= 0);
        return message;
}

typedef sd_bus_message *(*Make)(sd_bus *bus, uint64_t number, void *userdata);

static double rate(Keyring *keyring, uint64_t count, Make make) {
        return calls_rate(&(Calls) { keyring->bus, count, 1, make, keyring });
}

enum { EMPTY, FULL, N_SIZES };

/* Into what is empty, and into what holds many. */
static void measure(Bench *bench, Keyring *keyring, Make make, Contestant sizes[N_SIZES]) {
        keyring->stored = 0;
        contestant_add(&sizes[EMPTY], rate(keyring, FIRST, make));
        (void)rate(keyring, bench->small / 10 - FIRST, make);
        contestant_add(&sizes[FULL], rate(keyring, MORE, make));
}

static void measure_keyring(Bench *bench, Keyring *keyring, Contestant sizes[N_SIZES]) {
        keyring_start(bench, keyring);
        measure(bench, keyring, make_item, sizes);
        keyring_stop(keyring);
}

static void measure_ours(Bench *bench, Keyring *keyring, Contestant sizes[N_SIZES]) {
        world_new_store(bench);
        measure(bench, keyring, make_license, sizes);
}

void bench_keyring(Bench *bench) {
        Contestant ours[N_SIZES] = { { "StoreLicense" }, { "StoreLicense" } };
        Contestant theirs[N_SIZES] = { { "gnome-keyring CreateItem" }, { "gnome-keyring CreateItem" } };
        g_autofree char *program = g_find_program_in_path("gnome-keyring-daemon");
        g_autofree char *after = g_strdup_printf("store 4 kB, one at a time, after %u", bench->small / 10);
        Keyring keyring = { .document = make_document(DOCUMENT_SIZE, 1) };

        if (!program) {
                bench_say("gnome-keyring is not installed: not measured.");
                return;
        }
        keyring.bus = harness_connect_uid(bench->h, geteuid());
        keyring.folder = harness_path(bench->h, "keyring");
        for (unsigned round = 0; round < MIN(bench->rounds, ROUNDS_MAX); round++) {
                if (round % 2 == 0)
                        measure_ours(bench, &keyring, ours);
                measure_keyring(bench, &keyring, theirs);
                if (round % 2 != 0)
                        measure_ours(bench, &keyring, ours);
        }
        bench_add_row(bench, &(Row) { "keyring-empty", "store 4 kB, one at a time, the first 200", "calls/s",
                &ours[EMPTY], &theirs[EMPTY], 10, true });
        bench_add_row(bench, &(Row) { "keyring-full", after, "calls/s", &ours[FULL], &theirs[FULL],
                bench->small < 10000 ? 0 : 80, true });
        contestants_clear(ours, N_SIZES);
        contestants_clear(theirs, N_SIZES);
        harness_disconnect(bench->h, keyring.bus);
        g_free(keyring.folder);
        g_free(keyring.document);
}
