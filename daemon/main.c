/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <locale.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include "check.h"
#include "manager.h"
#include "option.h"

static gboolean arg_version, arg_check;

static const GOptionEntry entries[] = {
        { "version", 0, 0, G_OPTION_ARG_NONE, &arg_version, "Print the version and exit", NULL },
        { "check", 0, 0, G_OPTION_ARG_NONE, &arg_check,
                "Read the configuration and all of the store, say what is wrong, and exit", NULL },
        {},
};

static const char description[] =
        "Exit codes:\n"
        "  0  stopped as asked; --check: all is well\n"
        "  1  failed for another reason\n"
        "  2  wrong usage\n"
        "  3  the state directory is missing or cannot be used\n"
        "  4  another licensevaultd works on the state directory; --check: all the time\n"
        "  5  the name org.licensevault1 is taken on the bus\n"
        "  6  the connection to the bus was lost\n"
        "  7  --check found problems\n"
        "\n"
        "Environment: STATE_DIRECTORY (/var/lib/licensevault), CONFIGURATION_DIRECTORY\n"
        "(/etc/licensevault), DBUS_SYSTEM_BUS_ADDRESS, NOTIFY_SOCKET.\n"
        "\n"
        "See licensevaultd(8), licensevaultd.conf(5), and for its D-Bus interface org.licensevault1(5).\n";

static int run(void) {
        Manager *manager;
        int r;

        r = manager_new(&manager);
        if (r != EXIT_GOOD)
                return r;
        r = manager_run(manager);
        manager_free(manager);
        return r;
}

/* Each job of each user holds some; the soft limit is there for programs that use select(). */
static void raise_descriptor_limit(void) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) >= 0) {
                limit.rlim_cur = limit.rlim_max;
                (void)setrlimit(RLIMIT_NOFILE, &limit);
        }
}

/*
 * glibc lets what an arena keeps free grow with the largest block that was freed: after a document of 1 MiB, each arena
 * of a thread keeps some MiB for ever. Set thresholds stay as they are. (With the usual 128 KiB, small backups take a
 * quarter longer.)
 */
static void keep_little_memory(void) {
#ifdef M_TRIM_THRESHOLD
        (void)mallopt(M_TRIM_THRESHOLD, 512 * 1024);
        (void)mallopt(M_MMAP_THRESHOLD, 512 * 1024);
#endif
}

int main(int argc, char **argv) {
        g_autoptr(GOptionContext) context = g_option_context_new("- keeps the licenses of a machine's apps safe");
        const GOptionEntry *const tables[] = { entries, NULL };
        g_autoptr(GError) error = NULL;
        sigset_t signals;

        setlocale(LC_CTYPE, "");
        g_option_context_add_main_entries(context, entries, NULL);
        g_option_context_set_description(context, description);
        if (!option_check(tables, false, argv + MIN(argc, 1), &error) ||
            !g_option_context_parse(context, &argc, &argv, &error) || argc > 1) {
                fprintf(stderr, "licensevaultd: %s. See licensevaultd --help.\n",
                        error ? error->message : "It takes no arguments");
                return EXIT_USAGE;
        }
        if (arg_version) {
                puts("licensevaultd " PROJECT_VERSION);
                return EXIT_GOOD;
        }

        /* Licenses are nobody else's; a client that closes its pipe must not end us; and signals are for
         * the loop alone, so no thread may take them. */
        umask(0077);
        signal(SIGPIPE, SIG_IGN);
        raise_descriptor_limit();
        keep_little_memory();
        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        sigaddset(&signals, SIGHUP);
        pthread_sigmask(SIG_BLOCK, &signals, NULL);
        if (sodium_init() < 0) {
                fputs("licensevaultd: libsodium does not start.\n", stderr);
                return EXIT_FAILED;
        }

        return arg_check ? check_run() : run();
}
