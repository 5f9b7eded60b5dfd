/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "interrupt.h"

#include <time.h>

void interrupt_block(Interrupts *ret) {
        static const int signals[] = { SIGINT, SIGTERM, SIGHUP };

        sigemptyset(&ret->signals);
        for (unsigned i = 0; i < sizeof signals / sizeof signals[0]; i++) {
                struct sigaction action;

                if (sigaction(signals[i], NULL, &action) >= 0 && action.sa_handler != SIG_IGN)
                        sigaddset(&ret->signals, signals[i]);
        }

        sigprocmask(SIG_BLOCK, &ret->signals, &ret->before);
}

bool interrupt_take(const Interrupts *interrupts) {
        static const struct timespec at_once = {};

        return sigtimedwait(&interrupts->signals, NULL, &at_once) > 0;
}

void interrupt_restore(const Interrupts *interrupts) {
        sigprocmask(SIG_SETMASK, &interrupts->before, NULL);
}
