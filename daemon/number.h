/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

#define NUMBER_SIZE 24

/* A number in decimal digits, and nothing else: where a backup writes one for each license, printf() shows. */
static inline char *number_to_text(int64_t number, char ret[static NUMBER_SIZE]) {
        uint64_t left = number < 0 ? -(uint64_t)number : (uint64_t)number;
        char *p = ret + NUMBER_SIZE - 1;

        *p = '\0';
        do
                *--p = (char)('0' + left % 10);
        while ((left /= 10) > 0);
        if (number < 0)
                *--p = '-';
        return p;
}
