/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What licensevaultd --check does: tells on standard output what the daemon would find, without being one, and works
 * beside it. Returns the exit code of the process.
 */
int check_run(void);
