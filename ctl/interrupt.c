/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "interrupt.h"

#include <time.h>

static const int signals[] = { SIGINT, SIGTERM, SIGHUP };

static Cancel *triggered;

static bool is_ignored(int number) {
        struct sigaction action;

        return sigaction(number, NULL, &action) < 0 || action.sa_handler == SIG_IGN;
}

void interrupt_block(Interrupts *ret) {
        sigemptyset(&ret->signals);
        for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++)
                if (!is_ignored(signals[i]))
                        sigaddset(&ret->signals, signals[i]);

        sigprocmask(SIG_BLOCK, &ret->signals, &ret->before);
}

bool interrupt_take(const Interrupts *interrupts) {
        static const struct timespec at_once = {};

        return sigtimedwait(&interrupts->signals, NULL, &at_once) > 0;
}

void interrupt_restore(const Interrupts *interrupts) {
        sigprocmask(SIG_SETMASK, &interrupts->before, NULL);
}

/* An exchange of a pointer and a write(): a handler may do that. */
static void on_signal(int number) {
        int saved = errno;

        cancel_trigger(triggered, "Interrupted.");
        errno = saved;
}

void interrupt_trigger(Cancel *cancel) {
        /*
         * The handler goes with the first signal, so that the second one finds none. What is being written
         * goes on; poll() never does, and sees the cancel.
         */
        const struct sigaction action = {
                .sa_handler = cancel ? on_signal : SIG_DFL,
                .sa_flags = cancel ? (int)(SA_RESETHAND | SA_RESTART) : 0,
        };

        if (cancel)
                triggered = cancel;
        for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++)
                if (!is_ignored(signals[i]))
                        sigaction(signals[i], &action, NULL);
}
