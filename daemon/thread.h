/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Starts a thread that nobody waits for: its end is told in a letter, or not at all. Returns 0 or -errno. */
int thread_start(void *(*run)(void *userdata), void *userdata);
