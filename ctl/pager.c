/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pager.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io.h"
#include "terminal.h"

/* Quits where all fits on the screen, shows colors, leaves what was shown, quits with Ctrl-C; chops no sentence (S). */
#define LESS_OPTIONS "FRXMK"

static pid_t pager;
static int saved_stdout = -1, saved_stderr = -1;

/* Who came by sudo or its like has other rights than the one who sits there: that one chooses no program. */
static bool is_trusted(void) {
        return !g_getenv("SUDO_UID") && !g_getenv("PKEXEC_UID") && !g_getenv("DOAS_USER") && getuid() == geteuid();
}

/* The words of the user's pager. false where the user wants none; NULL where none is named, or may not be. */
static bool choose(char ***ret) {
        const char *text = g_getenv("LICENSEVAULT_PAGER") ?: g_getenv("PAGER");

        *ret = NULL;
        if (!text)
                return true;
        if (!g_shell_parse_argv(text, NULL, ret, NULL))
                return false; /* nothing but spaces, or quotes that do not end */
        if (strcmp((*ret)[0], "cat") == 0) {
                g_strfreev(g_steal_pointer(ret));
                return false;
        }
        if (!is_trusted())
                g_strfreev(g_steal_pointer(ret));
        return true;
}

G_GNUC_NORETURN static void run(char **words, int input) {
        bool trusted = is_trusted();

        signal(SIGPIPE, SIG_DFL);
        if (dup2(input, STDIN_FILENO) < 0)
                _exit(EXIT_FAILURE);
        if (words)
                execvp(words[0], words);
        execlp("less", "less", NULL);
        /* It opens a shell for who asks it to, and LESSSECURE is nothing to it. */
        if (trusted)
                execlp("more", "more", NULL);
        execlp("cat", "cat", NULL);
        _exit(EXIT_FAILURE);
}

/* stdout and stderr become the pipe, and are kept. */
static bool redirect(int pipe) {
        saved_stdout = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
        if (saved_stdout < 0)
                return false;
        terminal_page();
        if (isatty(STDERR_FILENO)) {
                saved_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
                if (saved_stderr >= 0)
                        (void)dup2(pipe, STDERR_FILENO);
        }
        return dup2(pipe, STDOUT_FILENO) >= 0;
}

void pager_open(Ctl *ctl) {
        g_auto(GStrv) words = NULL;
        int fds[2];

        if (pager > 0 || ctl->no_pager || ctl->json || terminal_is_dumb() || !isatty(STDOUT_FILENO) ||
            !choose(&words) || pipe2(fds, O_CLOEXEC) < 0)
                return;

        (void)g_setenv("LESS", LESS_OPTIONS, TRUE);
        (void)g_setenv("LESSSECURE", "1", TRUE);
        if (g_get_charset(NULL))
                (void)g_setenv("LESSCHARSET", "utf-8", TRUE);
        fflush(stdout);
        pager = fork();
        if (pager == 0)
                run(words, fds[0]);
        close(fds[0]);
        /* Lines, so that they stay in order with those of stderr. */
        if (pager > 0 && redirect(fds[1]))
                setvbuf(stdout, NULL, _IOLBF, 0);
        close(fds[1]);
}

Status pager_close(const Ctl *ctl, Status status) {
        if (pager <= 0)
                return status;

        /* Ctrl-C is the pager's from here on. */
        signal(SIGINT, SIG_IGN);
        fflush(stdout);
        if (saved_stdout >= 0)
                (void)dup2(saved_stdout, STDOUT_FILENO);
        if (saved_stderr >= 0)
                (void)dup2(saved_stderr, STDERR_FILENO);
        fd_closep(&saved_stdout);
        fd_closep(&saved_stderr);
        while (waitpid(pager, NULL, 0) < 0 && errno == EINTR)
                ;
        pager = 0;
        return status == STATUS_FAILED && !ctl->failure ? STATUS_OK : status;
}
