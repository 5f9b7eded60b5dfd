/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A directory of users, as SSSD is one: a module for glibc's name service, whose users are those of the file
 * $TEST_DIRECTORY, a line "NAME UID" each. Without the file it is down, and says what such modules say then: that there
 * is no such user. It is also down for as many questions as the file beside it, with ".down", has bytes.
 */
#include <errno.h>
#include <nss.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))

PUBLIC enum nss_status _nss_lvtest_getpwuid_r(uid_t uid, struct passwd *entry, char *buffer, size_t size, int *ret_errno);
PUBLIC enum nss_status _nss_lvtest_getpwnam_r(const char *name, struct passwd *entry, char *buffer, size_t size,
        int *ret_errno);

static int is_down(const char *path) {
        char down[4096];
        struct stat st;

        snprintf(down, sizeof down, "%s.down", path);
        return stat(down, &st) >= 0 && st.st_size > 0 && truncate(down, st.st_size - 1) >= 0;
}

static enum nss_status find(uid_t uid, const char *name, struct passwd *entry, char *buffer, size_t size,
                int *ret_errno) {
        const char *path = getenv("TEST_DIRECTORY");
        FILE *file = path && !is_down(path) ? fopen(path, "re") : NULL;
        enum nss_status status = NSS_STATUS_NOTFOUND;
        char line[128], known[64];
        unsigned number;

        while (file && status == NSS_STATUS_NOTFOUND && fgets(line, sizeof line, file)) {
                if (sscanf(line, "%63s %u", known, &number) != 2 || strlen(known) >= size ||
                    (name ? strcmp(known, name) != 0 : number != uid))
                        continue;
                strcpy(buffer, known);
                *entry = (struct passwd) { buffer, (char *)"x", number, number, (char *)"", (char *)"/", (char *)"/bin/sh" };
                status = NSS_STATUS_SUCCESS;
        }
        if (file)
                fclose(file);
        if (status == NSS_STATUS_NOTFOUND)
                *ret_errno = ENOENT;
        return status;
}

enum nss_status _nss_lvtest_getpwuid_r(uid_t uid, struct passwd *entry, char *buffer, size_t size, int *ret_errno) {
        return find(uid, NULL, entry, buffer, size, ret_errno);
}

enum nss_status _nss_lvtest_getpwnam_r(const char *name, struct passwd *entry, char *buffer, size_t size, int *ret_errno) {
        return find(0, name, entry, buffer, size, ret_errno);
}
