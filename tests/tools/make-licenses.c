/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lcp.h"

#define SIZE_MAX_BYTES (1U << 30)

static const char help[] =
        "Usage: make-licenses [OPTION]… FOLDER COUNT\n"
        "\n"
        "Writes COUNT license documents of the Readium LCP form, all different, to\n"
        "FOLDER/1.lcpl, FOLDER/2.lcpl and so on. FOLDER is made where it is missing; files\n"
        "of these names are replaced. Keys and signatures in them are random.\n"
        "\n"
        "  --seed N      make other documents than with another N (default 0)\n"
        "  --size BYTES  the size of each (default: 3,000 to 3,999; at least about 2,500)\n"
        "  --help        show this\n";

static unsigned long long parse_number(const char *what, const char *text, unsigned long long max) {
        unsigned long long value;
        char *end;

        errno = 0;
        value = strtoull(text, &end, 10);
        if (errno != 0 || !isdigit((unsigned char)text[0]) || *end || value > max)
                errx(2, "%s '%s' is not a number from 0 to %llu.", what, text, max);
        return value;
}

static void write_file(int folder, unsigned long long number, const char *document, size_t size) {
        char name[32];
        int fd;

        snprintf(name, sizeof name, "%llu.lcpl", number);
        fd = openat(folder, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (fd < 0)
                err(1, "Creating '%s' failed", name);

        for (size_t done = 0; done < size;) {
                ssize_t n = write(fd, document + done, size - done);
                if (n < 0 && errno != EINTR)
                        err(1, "Writing '%s' failed", name);
                if (n > 0)
                        done += (size_t)n;
        }

        if (close(fd) < 0)
                err(1, "Writing '%s' failed", name);
}

int main(int argc, char *argv[]) {
        static const struct option options[] = {
                { "seed", required_argument, NULL, 's' },
                { "size", required_argument, NULL, 'b' },
                { "help", no_argument, NULL, 'h' },
                {},
        };
        unsigned long long seed = 0, count;
        size_t size = 0;
        int c, folder;

        while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0)
                switch (c) {
                case 's':
                        seed = parse_number("The seed", optarg, UINT32_MAX);
                        break;
                case 'b':
                        size = (size_t)parse_number("The size", optarg, SIZE_MAX_BYTES);
                        break;
                case 'h':
                        fputs(help, stdout);
                        return 0;
                default:
                        fputs("Try --help.\n", stderr);
                        return 2;
                }

        if (argc - optind != 2) {
                fputs("FOLDER and COUNT are needed. Try --help.\n", stderr);
                return 2;
        }
        count = parse_number("The count", argv[optind + 1], UINT32_MAX);

        if (mkdir(argv[optind], 0755) < 0 && errno != EEXIST)
                err(1, "Creating '%s' failed", argv[optind]);
        folder = open(argv[optind], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (folder < 0)
                err(1, "Opening '%s' failed", argv[optind]);

        for (unsigned long long i = 1; i <= count; i++) {
                size_t document_size;
                char *document = lcp_make(seed << 32 | i, size, &document_size, NULL);

                write_file(folder, i, document, document_size);
                free(document);
        }

        close(folder);
        return 0;
}
