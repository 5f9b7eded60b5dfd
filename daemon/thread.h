/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Starts a thread that nobody joins: it tells of its end by the mailbox, or not at all. Returns 0 or a negative errno.
 */
int thread_start(void *(*run)(void *userdata), void *userdata);
