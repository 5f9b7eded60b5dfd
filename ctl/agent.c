/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <systemd/sd-login.h>

#include "io.h"

#define AGENT "pkttyagent"
/* polkit answers at once, or it is not there. */
#define REGISTER_MSEC 10000

/*
 * Whether polkit looks for an agent of the desktop. That one comes first then; where there is no session, as behind su
 * or in a container, polkit 122 does not even look for one that steps back for others.
 */
static bool has_session(void) {
        g_autofree char *session = NULL, *display = NULL;

        return sd_pid_get_session(0, &session) >= 0 || sd_uid_get_display(getuid(), &display) >= 0;
}

static pid_t agent;
static struct termios settings;
static bool have_settings;

G_GNUC_NORETURN static void run(pid_t parent, int notify, bool is_fallback) {
        char fd[16];
        sigset_t none;

        /* Who follows a job has blocked what ends a program. */
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        signal(SIGPIPE, SIG_DFL);
        if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != parent || fcntl(notify, F_SETFD, 0) < 0)
                _exit(EXIT_FAILURE);
        snprintf(fd, sizeof fd, "%d", notify);
        execlp(AGENT, AGENT, "--notify-fd", fd, is_fallback ? "--fallback" : NULL, NULL);
        _exit(EXIT_FAILURE);
}

/* The agent closes its end when it is registered; so does one that could not be run. */
static void wait_until_registered(int fd) {
        struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

        while (poll(&poll_fd, 1, REGISTER_MSEC) < 0 && errno == EINTR)
                ;
}

void agent_open(const Ctl *ctl) {
        bool is_fallback = has_session();
        pid_t parent = getpid();
        int fds[2];

        if (agent > 0 || geteuid() == 0 || !ctl_can_ask(ctl) || pipe2(fds, O_CLOEXEC) < 0)
                return;

        have_settings = tcgetattr(STDIN_FILENO, &settings) == 0;
        agent = fork();
        if (agent == 0)
                run(parent, fds[1], is_fallback);
        close(fds[1]);
        if (agent > 0)
                wait_until_registered(fds[0]);
        close(fds[0]);
}

void agent_close(void) {
        if (agent <= 0)
                return;

        (void)kill(agent, SIGTERM);
        (void)kill(agent, SIGCONT);
        while (waitpid(agent, NULL, 0) < 0 && errno == EINTR)
                ;
        agent = 0;
        if (have_settings)
                (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &settings);
}
