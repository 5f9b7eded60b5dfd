/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bus-dice.h"
#include "client.h"

/*
 * A D-Bus fuzzer: every method of every interface that the daemon says it has, with right and wrong signatures and
 * paths, from several users, and half-sent messages beside. After each batch the daemon must answer, be the same
 * process, and have given back what it took; and no answer may have in it what is another user's.
 *
 * FUZZ_BUS_SEED repeats a run, as far as the machine's timing lets it; FUZZ_BUS_SECONDS says how long (20).
 */

#define CALLS 300U
#define QUIET_USEC (200 * UINT64_C(1000))
/* What a daemon may have more than when it was first quiet: files of the store, and what a sanitizer keeps. */
#define FDS_MORE 4U
#define THREADS_MORE 4U
#define MEMORY_MORE_KIB (48U * 1024U)
/* A sanitizer keeps what was freed, and where it was allocated. */
#define MEMORY_MORE_SANITIZED_KIB (512U * 1024U)
#define BATCHES_WARM 4U
#define JOB_PATH "/org/licensevault1/job/"
#define SECRET "SECRET-of-"

typedef struct Method {
        char *interface, *member, *signature;
} Method;

typedef struct Fuzz {
        Harness *h;
        Dice dice;
        GPtrArray *methods;    /* of Method * */
        GPtrArray *jobs;       /* of char *: paths of this batch */
        GHashTable *kinds;     /* "member error" that were answered */
        char *owner;           /* unique name of the daemon */
        uint64_t seed, n_calls, n_answers, n_batches, n_lost;
        unsigned fds, threads, memory;
} Fuzz;

/* What can be called, as the daemon says */

static const char *attribute(const char **names, const char **values, const char *name) {
        for (unsigned i = 0; names[i]; i++)
                if (strcmp(names[i], name) == 0)
                        return values[i];
        return "";
}

typedef struct Parse {
        GPtrArray *methods;
        char *interface;
        Method *method;
} Parse;

static void start_element(GMarkupParseContext *context, const char *element, const char **names, const char **values,
        void *userdata, GError **error) {
        Parse *parse = userdata;

        if (strcmp(element, "interface") == 0) {
                g_free(parse->interface);
                parse->interface = g_strdup(attribute(names, values, "name"));
        } else if (strcmp(element, "method") == 0) {
                parse->method = g_new0(Method, 1);
                *parse->method = (Method) { g_strdup(parse->interface), g_strdup(attribute(names, values, "name")),
                        g_strdup("") };
                g_ptr_array_add(parse->methods, parse->method);
        } else if (strcmp(element, "arg") == 0 && parse->method &&
                   strcmp(attribute(names, values, "direction"), "in") == 0) {
                char *more = g_strconcat(parse->method->signature, attribute(names, values, "type"), NULL);

                g_free(parse->method->signature);
                parse->method->signature = more;
        }
}

static void end_element(GMarkupParseContext *context, const char *element, void *userdata, GError **error) {
        if (strcmp(element, "method") == 0)
                ((Parse *)userdata)->method = NULL;
}

static void introspect(Fuzz *fuzz, sd_bus *bus, const char *path) {
        const GMarkupParser parser = { .start_element = start_element, .end_element = end_element };
        Parse parse = { .methods = fuzz->methods };
        g_autoptr(GMarkupParseContext) context = g_markup_parse_context_new(&parser, 0, &parse, NULL);
        g_autofree char *xml = call_string(bus, path, "org.freedesktop.DBus.Introspectable.Introspect", "");

        assert_true(g_markup_parse_context_parse(context, xml, -1, NULL));
        g_free(parse.interface);
}

static void method_free(void *data) {
        Method *method = data;

        g_free(method->interface);
        g_free(method->member);
        g_free(method->signature);
        g_free(method);
}

/* Whose secrets are in an answer */

static void check_text(Fuzz *fuzz, const char *text, size_t size, uid_t uid) {
        const char *end = text + size;

        for (const char *p = text; (p = memmem(p, (size_t)(end - p), SECRET, strlen(SECRET))); p++) {
                unsigned whose = 0;

                for (const char *digit = p + strlen(SECRET); digit < end && g_ascii_isdigit(*digit); digit++)
                        whose = whose * 10 + (unsigned)(*digit - '0');
                if (whose != uid)
                        fail_msg("seed %" PRIu64 ": user %u got what is user %u's: %.200s", fuzz->seed, (unsigned)uid,
                                whose, p);
        }
}

/* Of ours only: what it answers with is a sealed memfd, or a backup. */
static void check_descriptor(Fuzz *fuzz, int fd, uid_t uid) {
        g_autofree char *data = g_malloc(1 << 20);
        struct stat st;
        ssize_t n;

        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return;
        n = pread(fd, data, 1 << 20, 0);
        if (n > 0)
                check_text(fuzz, data, (size_t)n, uid);
        /*
         * It may be sent back. Sent by another user, it would be a backup that was handed over: theirs when restored.
         */
        fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (fd >= 0)
                dice_give(&fuzz->dice, fd, uid);
}

static void check_values(Fuzz *fuzz, sd_bus_message *message, uid_t uid) {
        const char *contents, *text;
        const void *bytes;
        size_t size;
        char type;
        int fd;

        while (sd_bus_message_peek_type(message, &type, &contents) > 0)
                if (type == 's' || type == 'o' || type == 'g') {
                        assert_true(sd_bus_message_read_basic(message, type, &text) > 0);
                        check_text(fuzz, text, strlen(text), uid);
                        if (g_str_has_prefix(text, JOB_PATH))
                                g_ptr_array_add(fuzz->jobs, g_strdup(text));
                } else if (type == 'h') {
                        assert_true(sd_bus_message_read_basic(message, 'h', &fd) > 0);
                        check_descriptor(fuzz, fd, uid);
                } else if (type == 'a' && strcmp(contents, "y") == 0) {
                        assert_true(sd_bus_message_read_array(message, 'y', &bytes, &size) >= 0);
                        check_text(fuzz, bytes, size, uid);
                } else if (strchr("arev", type)) {
                        assert_true(sd_bus_message_enter_container(message, type, contents) > 0);
                        check_values(fuzz, message, uid);
                        assert_true(sd_bus_message_exit_container(message) > 0);
                } else
                        assert_true(sd_bus_message_skip(message, NULL) > 0);
}

static void check_answer(Fuzz *fuzz, sd_bus_message *message, uid_t uid) {
        const sd_bus_error *error = sd_bus_message_get_error(message);
        const char *sender = sd_bus_message_get_sender(message);

        if (g_strcmp0(sender, fuzz->owner) != 0)
                return; /* the bus itself */
        if (error)
                check_text(fuzz, error->message ?: "", strlen(error->message ?: ""), uid);
        check_values(fuzz, message, uid);
}

/* One batch */

typedef struct Client {
        sd_bus *bus;
        uid_t uid;
        unsigned n_pending;
} Client;

typedef struct Question {
        Fuzz *fuzz;
        Client *client;
        char *member;
} Question;

static int on_answer(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Question *question = userdata;
        const sd_bus_error *answer = sd_bus_message_get_error(message);

        question->client->n_pending--;
        question->fuzz->n_answers++;
        g_hash_table_add(question->fuzz->kinds,
                g_strdup_printf("%s %s", question->member, answer ? answer->name : ""));
        check_answer(question->fuzz, message, question->client->uid);
        return 1;
}

static int on_signal(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Question *question = userdata;

        check_answer(question->fuzz, message, question->client->uid);
        return 0;
}

static void question_free(void *data) {
        Question *question = data;

        g_free(question->member);
        g_free(question);
}

static Question *question_new(Fuzz *fuzz, Client *client, const char *member) {
        Question *question = g_new0(Question, 1);

        *question = (Question) { fuzz, client, g_strdup(member) };
        return question;
}

static void pump(Client *client) {
        int r;

        while ((r = sd_bus_process(client->bus, NULL)) > 0)
                ;
        /* The bus throws out whom it does not like. */
        assert_true(r >= 0 || r == -ENOTCONN || r == -ECONNRESET);
}

static const char *any_path(Fuzz *fuzz) {
        static const char *const paths[] = { "/", "/org", "/org/licensevault1/job", JOB_PATH "0", "/x" };
        unsigned kind = dice_below(&fuzz->dice, 16);

        if (kind == 0)
                return paths[dice_below(&fuzz->dice, G_N_ELEMENTS(paths))];
        if (kind < 5 && fuzz->jobs->len > 0)
                return fuzz->jobs->pdata[dice_below(&fuzz->dice, fuzz->jobs->len)];
        return "/org/licensevault1";
}

static void call_any(Fuzz *fuzz, Client *client) {
        const Method *method = fuzz->methods->pdata[dice_below(&fuzz->dice, fuzz->methods->len)];
        const Method *other = fuzz->methods->pdata[dice_below(&fuzz->dice, fuzz->methods->len)];
        bool is_job = strstr(method->interface, ".Job") != NULL, wrong = dice_below(&fuzz->dice, 8) == 0;
        g_autofree char *signature = wrong ? dice_signature(&fuzz->dice) : g_strdup(method->signature);
        const char *path = any_path(fuzz);
        sd_bus_message *message = NULL;

        if (is_job && fuzz->jobs->len > 0 && dice_below(&fuzz->dice, 8))
                path = fuzz->jobs->pdata[dice_below(&fuzz->dice, fuzz->jobs->len)];
        if (dice_below(&fuzz->dice, 24) == 0) {
                dice_send_raw(&fuzz->dice, fuzz->h->address, client->uid, method->interface, method->member,
                        signature);
                return;
        }
        assert_true(sd_bus_message_new_method_call(client->bus, &message, "org.licensevault1", path,
                            dice_below(&fuzz->dice, 32) ? method->interface : other->interface, method->member) >= 0);
        fuzz->dice.sender = client->uid;
        if (dice_append(&fuzz->dice, message, signature) >= 0) {
                Question *question = question_new(fuzz, client, method->member);
                sd_bus_slot *slot = NULL;
                int r;

                if (dice_below(&fuzz->dice, 32) == 0) {
                        question_free(question);
                        (void)sd_bus_message_set_expect_reply(message, false);
                        r = sd_bus_send(client->bus, message, NULL);
                } else {
                        r = sd_bus_call_async(client->bus, &slot, message, on_answer, question,
                                PATIENCE_SEC * UINT64_C(1000000));
                        if (r >= 0) {
                                client->n_pending++;
                                assert_true(sd_bus_slot_set_destroy_callback(slot, question_free) >= 0);
                                assert_true(sd_bus_slot_set_floating(slot, true) >= 0);
                                sd_bus_slot_unref(slot);
                        } else
                                question_free(question);
                }
                if (r >= 0)
                        fuzz->n_calls++;
        }
        sd_bus_message_unref(message);
}

/* What only the user may see: stored anew for each batch, for chance may have revoked it. */
static void store_secret(Fuzz *fuzz, const Client *client) {
        g_autofree char *secret = g_strdup_printf(SECRET "%u", (unsigned)client->uid);
        g_autofree char *id = g_strdup_printf("mine-%" PRIu64, fuzz->n_batches);
        g_autofree char *before = g_strdup_printf("mine-%" PRIu64, fuzz->n_batches - 1);
        sd_bus_message *message = new_call(client->bus, ROOT, "LicenseStore.StoreLicense");

        assert_true(sd_bus_message_append_array(message, 'y', secret, strlen(secret)) >= 0);
        assert_true(sd_bus_message_append(message, "a{sv}", 5, "LicenseId", "s", id, "Title", "s", secret, "KeyId",
                            "s", secret, "AllowBackup", "b", fuzz->n_batches % 4 > 0, "Counters", "a{st}", 1, "play",
                            UINT64_C(9)) >= 0);
        /* The store may be full of what chance put there. */
        (void)sd_bus_call(client->bus, message, 0, NULL, NULL);
        sd_bus_message_unref(message);
        (void)sd_bus_call_method(client->bus, "org.licensevault1", "/org/licensevault1",
                "org.licensevault1.LicenseStore", "DeleteLicense", NULL, NULL, "s", before);
}

static void end_batch(Fuzz *fuzz, Client *clients, unsigned n) {
        uint64_t until = (uint64_t)g_get_monotonic_time() + 5 * G_USEC_PER_SEC;

        dice_close(&fuzz->dice);
        for (unsigned i = 0; i < n; i++)
                for (unsigned k = 0; k < 2; k++)
                        (void)sd_bus_call_method(clients[i].bus, "org.licensevault1", "/org/licensevault1",
                                k ? "org.licensevault1.LicenseBackup" : "org.licensevault1.LicenseRestore",
                                k ? "CancelLicenseBackup" : "CancelLicenseRestore", NULL, NULL, "");
        for (unsigned i = 0; i < n; i++)
                while (clients[i].n_pending > 0 && (uint64_t)g_get_monotonic_time() < until) {
                        pump(&clients[i]);
                        if (clients[i].n_pending > 0 && sd_bus_wait(clients[i].bus, QUIET_USEC) <= 0)
                                break;
                }
        for (unsigned i = 0; i < fuzz->jobs->len; i++)
                for (unsigned k = 0; k < n; k++)
                        (void)sd_bus_call_method(clients[k].bus, "org.licensevault1", fuzz->jobs->pdata[i],
                                "org.licensevault1.Job", "Release", NULL, NULL, "");
        for (unsigned i = 0; i < n; i++)
                if (sd_bus_is_open(clients[i].bus) > 0)
                        harness_disconnect(fuzz->h, clients[i].bus);
                else { /* the bus has thrown it out: a service has no means to; for which of its limits is not known */
                        fuzz->n_lost++;
                        assert_true(g_ptr_array_remove_fast(fuzz->h->connections, clients[i].bus));
                }
        dice_close(&fuzz->dice);
        g_ptr_array_set_size(fuzz->jobs, 0);
}

static void batch(Fuzz *fuzz) {
        Client clients[2 * TEST_USERS];
        unsigned n = 2 * fuzz->h->n_users;

        for (unsigned i = 0; i < n; i++) {
                clients[i] = (Client) { .bus = harness_connect(fuzz->h, i / 2), .uid = fuzz->h->users[i / 2] };
                Question *question = question_new(fuzz, &clients[i], "");
                sd_bus_slot *slot = NULL;

                assert_true(sd_bus_add_filter(clients[i].bus, &slot, on_signal, question) >= 0);
                assert_true(sd_bus_slot_set_destroy_callback(slot, question_free) >= 0);
                assert_true(sd_bus_slot_set_floating(slot, true) >= 0);
                sd_bus_slot_unref(slot);
                if (i % 2 == 0)
                        store_secret(fuzz, &clients[i]);
        }
        for (unsigned i = 0; i < CALLS; i++) {
                Client *client = &clients[dice_below(&fuzz->dice, n)];

                call_any(fuzz, client);
                if (i % 8 == 0)
                        for (unsigned k = 0; k < n; k++)
                                pump(&clients[k]);
                /* What is in its queue is ours; a fuzzer that is quicker than the bus measures nothing. */
                if (client->n_pending > 60)
                        (void)sd_bus_wait(client->bus, QUIET_USEC / 10);
        }
        end_batch(fuzz, clients, n);
        fuzz->n_batches++;
}

/* What the daemon has */

static unsigned count_fds(const Fuzz *fuzz) {
        g_autofree char *path = g_strdup_printf("/proc/%d/fd", (int)fuzz->h->daemon);

        return count_names(path);
}

static unsigned read_status(const Fuzz *fuzz, const char *name) {
        g_autofree char *path = g_strdup_printf("/proc/%d/status", (int)fuzz->h->daemon);
        g_autofree char *text = read_file(path, NULL);
        const char *line = strstr(text, name);

        assert_non_null(line);
        return (unsigned)strtoul(line + strlen(name), NULL, 10);
}

static void check_alive(Fuzz *fuzz) {
        g_autofree char *owner = NULL;
        int status;

        if (waitpid(fuzz->h->daemon, &status, WNOHANG) != 0) {
                g_autofree char *log = harness_log(fuzz->h);

                fuzz->h->daemon = 0;
                fail_msg("seed %" PRIu64 ", batch %" PRIu64 ": the daemon ended, wait status %#x:\n%s", fuzz->seed,
                        fuzz->n_batches, (unsigned)status, log);
        }
        owner = harness_owner(fuzz->h);
        if (g_strcmp0(owner, fuzz->owner) != 0)
                fail_msg("seed %" PRIu64 ", batch %" PRIu64 ": the daemon left the bus", fuzz->seed, fuzz->n_batches);
        call_void(fuzz->h->observer, ROOT, "org.freedesktop.DBus.Peer.Ping", "");
        call_void(fuzz->h->observer, ROOT, "LicenseStore.EnumerateLicenses", "a{sv}su", 0, "", 1);
}

/* Jobs of those that have gone end by themselves, in a few seconds. */
static void check_given_back(Fuzz *fuzz) {
        unsigned fds = 0, threads = 0, memory;

        for (unsigned i = 0; i < 1500; i++) {
                fds = count_fds(fuzz);
                threads = read_status(fuzz, "Threads:");
                if (fds <= fuzz->fds + FDS_MORE && threads <= fuzz->threads + THREADS_MORE)
                        break;
                sleep_msec(20);
        }
        if (fds > fuzz->fds + FDS_MORE || threads > fuzz->threads + THREADS_MORE)
                fail_msg("seed %" PRIu64 ", batch %" PRIu64 ": %u descriptors and %u threads, and were %u and %u",
                        fuzz->seed, fuzz->n_batches, fds, threads, fuzz->fds, fuzz->threads);
        memory = read_status(fuzz, "VmRSS:");
        if (fuzz->n_batches % 100 == 0)
                print_message("batch %" PRIu64 ": %u KiB\n", fuzz->n_batches, memory);
        if (fuzz->n_batches <= BATCHES_WARM)
                fuzz->memory = MAX(fuzz->memory, memory);
        else if (memory > fuzz->memory + (sanitized() ? MEMORY_MORE_SANITIZED_KIB : MEMORY_MORE_KIB))
                fail_msg("seed %" PRIu64 ", batch %" PRIu64 ": %u KiB of memory, and were %u", fuzz->seed,
                        fuzz->n_batches, memory, fuzz->memory);
}

static void add_words(Fuzz *fuzz) {
        static const char *const words[] = { "", "a", "b", "mine-0", "mine-1", "mine-2", "mine-3", "play", "print",
                "Play", "BackupPath", "RestorePath", "Other", "Kind", "State", "Result", "Version", "/", "/etc", "..",
                "root", "org.licensevault1.Job", "org.licensevault1.Manager",
                "application/vnd.readium.lcp.license.v1.0+json",
                "\xC3\xA4\xF0\x9F\x93\x96", "'; DROP TABLE licenses; --", "%s%n", "\x1b[31m" };

        for (size_t i = 0; i < G_N_ELEMENTS(words); i++)
                g_ptr_array_add(fuzz->dice.words, g_strdup(words[i]));
        for (unsigned i = 0; i < fuzz->h->n_users; i++)
                g_ptr_array_add(fuzz->dice.words,
                        g_strdup_printf("%s/%u", fuzz->h->media, (unsigned)fuzz->h->users[i]));
        g_ptr_array_add(fuzz->dice.words, g_strdup(fuzz->h->state));
}

static void fuzz_begin(Fuzz *fuzz, Harness *h) {
        const char *seed = getenv("FUZZ_BUS_SEED");
        sd_bus *bus = harness_connect(h, 0);
        g_autofree char *job = NULL;

        *fuzz = (Fuzz) {
                .h = h,
                .methods = g_ptr_array_new_with_free_func(method_free),
                .jobs = g_ptr_array_new_with_free_func(g_free),
                .kinds = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
                .owner = harness_owner(h),
                .seed = seed ? strtoull(seed, NULL, 10) : (uint64_t)g_get_real_time(),
        };
        fuzz->dice = (Dice) { .state = fuzz->seed * UINT64_C(0x9E3779B97F4A7C15) | 1,
                .words = g_ptr_array_new_with_free_func(g_free), .given = g_array_new(false, false, sizeof(DiceGiven)) };
        print_message("FUZZ_BUS_SEED=%" PRIu64 "\n", fuzz->seed);
        add_words(fuzz);
        introspect(fuzz, bus, ROOT);
        job = call_string(bus, ROOT, "LicenseBackup.BackupLicenses", "u", 1);
        introspect(fuzz, bus, job);
        harness_disconnect(h, bus);
        assert_true(fuzz->methods->len > 35);
        fuzz->fds = count_fds(fuzz);
        fuzz->threads = read_status(fuzz, "Threads:");
}

static void fuzz_end(Fuzz *fuzz) {
        g_ptr_array_unref(fuzz->methods);
        g_ptr_array_unref(fuzz->jobs);
        g_ptr_array_unref(fuzz->dice.words);
        g_array_unref(fuzz->dice.given);
        g_hash_table_unref(fuzz->kinds);
        g_free(fuzz->owner);
}

static void test_daemon_bears_whatever_clients_send(void **state) {
        const char *text = getenv("FUZZ_BUS_SECONDS");
        int64_t seconds = text ? strtoll(text, NULL, 10) : 20, begin = g_get_monotonic_time();
        Fuzz fuzz;

        fuzz_begin(&fuzz, *state);
        do {
                batch(&fuzz);
                check_alive(&fuzz);
                check_given_back(&fuzz);
        } while (g_get_monotonic_time() - begin < seconds * G_USEC_PER_SEC);
        assert_true(fuzz.n_answers > fuzz.n_calls / 2 && g_hash_table_size(fuzz.kinds) > fuzz.methods->len);
        printf("fuzz-bus: %" PRIu64 " calls, %" PRIu64 " a second, %u kinds of answers, %" PRIu64 " batches, "
                "%" PRIu64 " connections lost\n",
                fuzz.n_calls, fuzz.n_calls * G_USEC_PER_SEC / (uint64_t)(g_get_monotonic_time() - begin),
                g_hash_table_size(fuzz.kinds), fuzz.n_batches, fuzz.n_lost);
        fuzz_end(&fuzz);
}

/* Small limits, so that what is not given back shows. */
static int setup(void **state) {
        Harness *h;

        harness_setup_bus(state);
        h = *state;
        harness_set(h, "Limits", "LicensesPerUser", "200");
        harness_set(h, "Limits", "RememberedPerUser", "100000");
        harness_set(h, "Limits", "BytesPerUser", "4000000");
        harness_set(h, "Jobs", "ResultSeconds", "1");
        harness_set(h, "Jobs", "StallSeconds", "2");
        harness_set(h, "Backup", "Roots", h->media);
        harness_start(h);
        return 0;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_daemon_bears_whatever_clients_send, setup, harness_teardown),
        };

        return cmocka_run_group_tests_name("fuzz-bus", tests, NULL, NULL);
}
