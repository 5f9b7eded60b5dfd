/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* All of the core, and nothing else: linking this is the test that the core does not need the layers above it. */
int main(void) {
        return 0;
}
