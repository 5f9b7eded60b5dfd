/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "client.h"
#include "disk-meddler.h"

/*
 * Disks for one test: file systems in memory, or ext4 or btrfs on a loop device, mounted where only this process and
 * its children see them. Needs root.
 */

/* For cmocka's setup and teardown: a world with a bus and no daemon yet; skips where there are no disks to be had. */
int disk_setup(void **state);
int disk_teardown(void **state);
/* As harness_start(), with the meddler. */
void disk_start(Harness *h);
extern DiskMeddling *disk_meddling;

/* Mounts a file system in memory of that many KiB. */
void disk_mount_memory(const char *path, unsigned kib);
/* Makes an image (a path) of that many MiB with ext4 on it; features as mkfs.ext4 -O has them. */
void disk_make_ext4(const char *image, unsigned mib, const char *features);
/* Skips the test where there are no loop devices. */
void disk_mount_image(const char *image, const char *path, const char *options);
/* The same for any file system of mount's; false where this kernel does not have it, or not with these options. */
bool disk_try_image(const char *image, const char *type, const char *path, const char *options);
/* Makes an image with btrfs on it, of which the kernel itself can limit the use; large enough for any test here. */
void disk_make_btrfs(const char *image);
/* options as in "remount,ro". */
void disk_remount(const char *path, const char *options);
void disk_unmount(const char *path);
/* Takes it away while it is in use. */
void disk_pull(const char *path);
/* Whether a file system can be unmounted and none of its users is left. */
void disk_unmount_patiently(const char *path);

/*
 * The device of an image ends after so many MiB: what lies behind cannot be read or written, as of a disk that is
 * failing. 0: all of it is back.
 */
void disk_cut_device(const char *path, unsigned mib);

/* Fills up a file system but for a few KiB with a file, and removes that. */
void disk_fill(const char *path, unsigned leave_kib);
void disk_make_room(const char *path);

/* Folder of the first user's backups below the state directory, or below media. */
char *disk_backups(Harness *h);
char *disk_media(Harness *h);

/* Backs up the licenses of the connection's user by path. */
void disk_back_up(sd_bus *bus, uint32_t flags);
/* Must fail so; and not a byte of what is in the folder is another then, nor is there another name. */
void disk_back_up_fails(sd_bus *bus, const char *folder, uint32_t flags, const char *error, const char *message);
/* The daemon is the same process as pid, and serves. */
void disk_assert_alive(Harness *h, sd_bus *bus, pid_t pid);
