/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <systemd/sd-daemon.h>

/*
 * The log is standard error, with the priority in front of each line where the journal reads it. No
 * license, no SQL and no path of a user's goes here.
 */
void log_line(const char *priority, const char *format, ...) G_GNUC_PRINTF(2, 3);

#define log_error(...) log_line(SD_ERR, __VA_ARGS__)
#define log_warning(...) log_line(SD_WARNING, __VA_ARGS__)
#define log_info(...) log_line(SD_INFO, __VA_ARGS__)
