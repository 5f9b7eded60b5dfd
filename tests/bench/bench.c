/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bench.h"

#include <getopt.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static const char help[] =
        "Usage: bench [OPTION]… JSON [SECTION]…\n"
        "\n"
        "Measures, and writes what it found to the file JSON. tests/bench/run prepares all that it needs.\n"
        "Sections (default: all): backup, restore, calls, reply, life, growth,\n"
        "keyring.\n"
        "\n"
        "  --quick      small stores and few rounds: whether it works, not how fast\n"
        "  --rounds N   how often each of those that are compared is measured\n"
        "  --largest N  the most licenses of life and growth\n"
        "  --help       show this\n";

static void backups(Bench *bench) {
        bench_backup(bench, bench->small / 10, DOCUMENT_RANDOM);
        bench_backup(bench, bench->small, DOCUMENT_RANDOM);
        bench_backup(bench, bench->large, DOCUMENT_RANDOM);
        bench_backup(bench, bench->small, DOCUMENT_LCP);
}

static void restores(Bench *bench) {
        bench_restore(bench, bench->large, DOCUMENT_RANDOM);
        bench_restore(bench, bench->small, DOCUMENT_LCP);
}

static const struct Section {
        const char *name;
        void (*run)(Bench *bench);
} sections[] = {
        { "backup", backups },
        { "restore", restores },
        { "calls", bench_calls },
        { "reply", bench_reply },
        { "life", bench_life },
        { "growth", bench_growth },
        { "keyring", bench_keyring },
};

/* It ends with us, however we end. */
void echo_start(Bench *bench) {
        const char *program = getenv("BENCH_ECHO");
        pid_t pid, parent = getpid();

        if (!program)
                fail_msg("Set BENCH_ECHO to the path of tests/bench/bench-echo; tests/bench/run does so.");
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (getppid() == parent)
                        execl(program, program, bench->h->address, ECHO_NAME, NULL);
                _exit(127);
        }
        for (unsigned i = 0; i < PATIENCE_SEC * 100; i++) {
                sd_bus_message *reply = NULL;
                int owned = 0;

                assert_true(sd_bus_call_method(bench->h->observer, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                    "org.freedesktop.DBus", "NameHasOwner", NULL, &reply, "s", ECHO_NAME) >= 0);
                assert_true(sd_bus_message_read(reply, "b", &owned) > 0);
                sd_bus_message_unref(reply);
                if (owned)
                        return;
                sleep_msec(10);
        }
        fail_msg("%s did not take the name " ECHO_NAME, program);
}

/* Limits of administrators are not what is measured. */
static void begin(Bench *bench) {
        void *state;

        harness_setup_bus(&state);
        bench->h = state;
        harness_set(bench->h, "Limits", "BytesPerUser", "100000000000");
        harness_set(bench->h, "Limits", "StoreBytes", "100000000000");
        harness_set(bench->h, "Limits", "LicensesPerUser", "10000000");
        harness_set(bench->h, "Limits", "RememberedPerUser", "10000000");
        harness_start(bench->h);
}

static json_t *machine(void) {
        struct utsname system;
        double load[3] = {};
        char date[32];
        time_t t = time(NULL);

        uname(&system);
        (void)getloadavg(load, 3);
        strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", gmtime(&t));
        return json_pack("{s:s, s:s, s:s, s:s, s:I, s:f}", "date", date, "version", PROJECT_VERSION, "kernel",
                system.release, "sqlite", sqlite3_libversion(), "cpus", (json_int_t)sysconf(_SC_NPROCESSORS_ONLN),
                "load", load[0]);
}

static bool wanted(const char *name, char *const *names) {
        if (!*names)
                return true;
        for (; *names; names++)
                if (strcmp(name, *names) == 0)
                        return true;
        return false;
}

static bool names_are_known(char *const *names) {
        for (; *names; names++) {
                bool known = false;

                for (size_t i = 0; i < G_N_ELEMENTS(sections); i++)
                        known = known || strcmp(sections[i].name, *names) == 0;
                if (!known)
                        return false;
        }
        return true;
}

static void run(Bench *bench, const char *path, char *const *names) {
        json_t *json = json_pack("{s:o, s:i, s:o, s:o}", "machine", machine(), "rounds", (int)bench->rounds, "rows",
                bench->rows, "growth", bench->growth);
        void *state;

        begin(bench);
        for (size_t i = 0; i < G_N_ELEMENTS(sections); i++)
                if (wanted(sections[i].name, names)) {
                        sections[i].run(bench);
                        /* What was found so far is not lost with what comes. */
                        assert_int_equal(json_dump_file(json, path, JSON_INDENT(2) | JSON_REAL_PRECISION(6)), 0);
                }
        state = bench->h;
        assert_int_equal(harness_teardown(&state), 0);
        json_decref(json);
}

int main(int argc, char *argv[]) {
        static const struct option options[] = {
                { "quick", no_argument, NULL, 'q' },
                { "rounds", required_argument, NULL, 'r' },
                { "largest", required_argument, NULL, 'l' },
                { "help", no_argument, NULL, 'h' },
                {},
        };
        Bench bench = { .rounds = 5, .largest = 1000000, .small = 10000, .large = 100000, .calls = 10000 };
        int c;

        while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0)
                switch (c) {
                case 'q':
                        bench.rounds = 2;
                        bench.largest = bench.large = 10000;
                        bench.small = 2000;
                        bench.calls = 1000;
                        break;
                case 'r':
                        bench.rounds = (unsigned)strtoul(optarg, NULL, 10);
                        break;
                case 'l':
                        bench.largest = strtoul(optarg, NULL, 10);
                        break;
                case 'h':
                        fputs(help, stdout);
                        return 0;
                default:
                        fputs("Try --help.\n", stderr);
                        return 2;
                }
        if (optind >= argc || bench.rounds == 0 || bench.largest < 10000 || !names_are_known(argv + optind + 1)) {
                fputs("A file for the results is needed, one round and 10,000 licenses at least, and sections that "
                      "there are. Try --help.\n", stderr);
                return 2;
        }

        bench.rows = json_array();
        bench.growth = json_array();
        run(&bench, argv[optind], argv + optind + 1);
        return 0;
}
