/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Names and numbers of the D-Bus API that the daemon and its clients share; dbus/ has all of it, with
 * what it means. The numbers are those of Windows Media Format.
 */

#define BUS_NAME "org.licensevault1"
#define ROOT_PATH "/org/licensevault1"
#define JOB_PATH ROOT_PATH "/job"
#define JOB_INTERFACE "org.licensevault1.Job"

/* The properties of BackupRestoreProps. */
#define BACKUP_PATH "BackupPath"
#define RESTORE_PATH "RestorePath"

/* The most documents, and bytes of them, that one call of StoreLicenses() takes. */
#define STORE_DOCUMENTS_MAX 1000U
#define STORE_BYTES_MAX (16U * 1024U * 1024U)

#define WM_BACKUP_OVERWRITE 1U
#define WM_RESTORE_INDIVIDUALIZE 2U

/* What Progress and Done say: WMT_STATUS. */
typedef enum WmtStatus {
        WMT_INDEX_PROGRESS = 16,
        WMT_BACKUPRESTORE_BEGIN = 21,
        WMT_NEEDS_INDIVIDUALIZATION = 25,
        WMT_BACKUPRESTORE_END = 27,
        WMT_BACKUPRESTORE_CONNECTING = 28,
        WMT_BACKUPRESTORE_DISCONNECTING = 29,
        WMT_RESTRICTED_LICENSE = 31,
} WmtStatus;
