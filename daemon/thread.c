/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "thread.h"

#include <pthread.h>

int thread_start(void *(*run)(void *userdata), void *userdata) {
        pthread_attr_t attributes;
        pthread_t thread;
        int r;

        (void)pthread_attr_init(&attributes);
        /*
         * From its start, not by pthread_detach(): the leak sanitizer does not see that, remembers each such thread by
         * its number for ever, and passes over the one that has the number when the kernel begins them anew.
         */
        (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        r = pthread_create(&thread, &attributes, run, userdata);
        pthread_attr_destroy(&attributes);
        return -r;
}
