/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

MemoryMeddling *meddling;

int memory_setup(void **state) {
        g_autofree char *path = NULL;
        Harness *h;
        int fd;

        harness_setup_bus(state);
        h = *state;
        path = harness_path(h, "meddling");
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, sizeof *meddling), 0);
        meddling = mmap(NULL, sizeof *meddling, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        assert_true(meddling != MAP_FAILED);
        close(fd);
        g_setenv(MEMORY_MEDDLING, path, true);
        g_setenv("LD_PRELOAD", g_getenv("LICENSEVAULT_MEMORY_MEDDLER"), true);
        harness_write_settings(h);
        h->daemon = harness_spawn(h, NULL);
        g_unsetenv("LD_PRELOAD");
        for (unsigned i = 0; i < PATIENCE_SEC * 100; i++) {
                g_autofree char *owner = harness_owner(h);

                if (owner)
                        return 0;
                sleep_msec(10);
        }
        return -1;
}

int memory_teardown(void **state) {
        /* Also of a test that failed: a daemon that looks up a name would not end. */
        meddling->names_wait = 0;
        munmap(meddling, sizeof *meddling);
        return harness_teardown(state);
}
