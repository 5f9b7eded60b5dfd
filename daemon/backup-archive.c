/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "backup.h"

#include <string.h>
#include <sys/statvfs.h>

#include "archive-manifest.h"
#include "backup-attributes.h"
#include "backup-read.h"
#include "json-memory.h"

#define SAFE_ID_MAX 48
#define PATH_SIZE 256
#define SIGNAL_ENTRIES 100U
#define SIGNAL_BYTES (60U * 1024U)
#define SIGNALS_MAX 10U
#define SPACE_CHECK_BYTES (16U * 1024U * 1024U)
/* What of damaged licenses fits into an answer; NOT-BACKED-UP.txt names them all. */
#define DAMAGED_MAX 100U
#define DAMAGED_BYTES (32U * 1024U)
#define DAMAGED_HEAD \
        "These licenses could not be backed up: they are damaged in the store. An older\n" \
        "backup may have them whole. Keep it until the user has stored them again.\n\n"

static const char readme[] =
        "This is a backup of licenses, made by Licensevault. It is a plain tar archive: no\n"
        "special program is needed to read it.\n"
        "\n"
        "licenses/           the license documents, byte for byte. Hand one to the program it\n"
        "                    is for, such as an e-book reader, in place of the lost one. In a\n"
        "                    backup of all users, each user's are in a folder of their own.\n"
        "manifest.json       when, where and for whom the backup was made, and how many\n"
        "                    licenses it holds\n"
        "state.jsonl         one line for each license that was ever stored, but for those that\n"
        "                    were damaged and are in NOT-BACKED-UP.txt: its generation,\n"
        "                    the uses that remain by right, whether it is restricted (may not be\n"
        "                    backed up), and, where it was revoked, when (Unix seconds)\n"
        "NOT-BACKED-UP.txt   if there are such: licenses that may not be backed up, or that could\n"
        "                    not be, for they were damaged\n"
        "END.json            the last entry. A backup without it is not complete.\n"
        "\n"
        "Each document has extended attributes user.licensevault.*: its id, title, issuer and\n"
        "so on. user.licensevault.blake2b is its BLAKE2b-256 digest: `b2sum -l 256 FILE` prints\n"
        "the same. (`tar --xattrs --xattrs-include='user.*' -xf` extracts the attributes, too.)\n"
        "\n"
        "END.json has a BLAKE2b-256 over all entries before it, in their order: for each the\n"
        "lines PATH, SIZE, and the hex BLAKE2b-256 of its content, then its attributes sorted\n"
        "by name as NAME=VALUE. These digests find damage. They do not prove who wrote this.\n"
        "\n"
        "Licensevault itself brings all of this back where it is installed. Its manual\n"
        "licensevault-backup(7) says all of the format, with the commands that check END.json.\n";

typedef struct Writing {
        const BackupArchive *archive;
        PaxWriter *pax;
        WorkResult *result;
        GString *line;     /* of state.jsonl */
        GPtrArray *signal; /* restricted licenses not yet told: id, key id, title, id … */
        size_t signal_bytes;
        unsigned n_signals;
        RestrictedList *damaged; /* id, "", whose it is and its title */
        GPtrArray *damaged_told; /* of char * */
        size_t damaged_bytes;
        GHashTable *rotten;     /* keys of those rows (int64_t) that are damaged beside the document */
        uint64_t damaged_licenses, damaged_restricted; /* those of them that would be in the backup, and in the list */
        uint64_t done, number;
        uint64_t listed;        /* bytes in the list of restricted licenses */
        uint64_t space_checked; /* size from which on the free space is looked at again */
        unsigned percent;
} Writing;

static int name_damaged(Writing *writing, Error *error);

static int failed(Writing *writing, int r, Error *error) {
        bool rotten;

        r = proved_file_failed(writing->archive->file, r, &rotten, error);
        return rotten ? name_damaged(writing, error) : r;
}

/* Looks at the free space now and then, as the archive and the list of what is skipped grow. */
static int check_space(Writing *writing, Error *error) {
        const BackupArchive *archive = writing->archive;
        uint64_t grown = pax_writer_size(writing->pax) + writing->listed;
        struct statvfs vfs;

        if (grown < writing->space_checked)
                return 0;
        writing->space_checked = grown + SPACE_CHECK_BYTES;
        if (archive->reserve_percent == 0 || fstatvfs(archive->fd, &vfs) < 0 || vfs.f_blocks == 0)
                return 0;
        if (vfs.f_bavail < vfs.f_blocks / 100 * archive->reserve_percent)
                return error_set(error, ERROR_STORE_FULL,
                        "Less than %u %% of the service's disk is free (MinimumFreePercent=). Make room, then "
                        "try again.",
                        archive->reserve_percent);
        return 0;
}

/* After json_watch_memory(), which what json is made of has been seen by. */
static int add_json(Writing *writing, const char *path, json_t *json, Error *error) {
        char *text;
        size_t size;
        int r;

        text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
        json_decref(json);
        if (!text || json_lacked_memory()) {
                json_text_free(text);
                return error_set_no_memory(error);
        }
        /* The NUL makes room for the line's end. */
        size = strlen(text);
        text[size] = '\n';
        r = pax_writer_add(writing->pax, path, text, size + 1, NULL, 0);
        json_text_free(text);
        return r < 0 ? failed(writing, r, error) : 0;
}

static int write_readme(Writing *writing, Error *error) {
        int r = pax_writer_add(writing->pax, ARCHIVE_README, readme, strlen(readme), NULL, 0);

        return r < 0 ? failed(writing, r, error) : 0;
}

static int write_manifest(Writing *writing, uint64_t licenses, uint64_t restricted, Error *error) {
        const BackupPlan *plan = writing->archive->plan;
        g_autoptr(GDateTime) now = g_date_time_new_now_utc();
        g_autofree char *created = g_date_time_format(now, "%FT%TZ");
        json_t *owner = NULL;

        json_watch_memory();
        if (!plan->all_users) {
                owner = json_pack("{s:I, s:s}", "uid", (json_int_t)plan->owner, "name",
                        writing->archive->owner_name);
                if (!owner)
                        return error_set_no_memory(error);
        }

        return add_json(writing, ARCHIVE_MANIFEST,
                json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:b, s:o*, s:I, s:I, s:I, s:I, s:s*, s:o*}",
                "format", ARCHIVE_FORMAT,
                "software", "licensevault " PROJECT_VERSION,
                "created", created,
                "host", plan->host,
                "machine", plan->machine,
                "store", writing->archive->store_id,
                "all_users", plan->all_users,
                "owner", owner,
                "licenses", (json_int_t)licenses,
                "restricted", (json_int_t)restricted,
                "remembered", (json_int_t)writing->archive->memory.ids,
                "stored", (json_int_t)writing->archive->memory.stored,
                "epochs", *writing->archive->epochs ? writing->archive->epochs : NULL,
                "damaged", writing->result->damaged > 0 ? json_integer((json_int_t)writing->result->damaged) : NULL),
                error);
}

static int append_state(Writing *writing, const StoreOwnerRow *owner, const StoreCursorRow *row, Error *error) {
        GString *line = writing->line;
        int r;

        if (g_hash_table_contains(writing->rotten, &row->key))
                return 0;
        if (row->damage != STORE_DAMAGE_NONE || !backup_state_is_valid(&row->license, row->revoked)) {
                error_set(error, ERROR_STORE_CORRUPT, "What the store remembers of license '%s' is damaged.",
                        row->license.id);
                return error_prefix(error, "Of user '%s' (%" PRIu32 ")", owner->name, (uint32_t)owner->uid);
        }
        backup_state_line(writing->archive->plan->all_users ? owner->name : NULL, row, line);
        r = pax_writer_append(writing->pax, line->str, line->len);
        return r < 0 ? failed(writing, r, error) : check_space(writing, error);
}

typedef int (*EachRow)(Writing *writing, const StoreOwnerRow *owner, const StoreCursorRow *row, Error *error);

typedef enum Documents {
        DOCUMENTS_NONE,
        DOCUMENTS_DIGESTED,
        DOCUMENTS_UNDIGESTED, /* the file will do that */
} Documents;

/* Calls each for every id of all owners of the backup, and looks at the cancel between them. */
static int for_each_row(Writing *writing, Documents documents, EachRow each, Error *error) {
        const BackupArchive *archive = writing->archive;
        int r;

        for (unsigned i = 0; i < archive->owners->len; i++) {
                g_autoptr(StoreCursor) cursor = NULL;
                const StoreOwnerRow *owner = archive->owners->pdata[i];
                const StoreCursorRow *row;

                r = store_cursor_new(archive->connection, owner->owner, documents != DOCUMENTS_NONE, &cursor, error);
                if (r != 0)
                        return r;
                if (documents == DOCUMENTS_UNDIGESTED)
                        store_cursor_leave_digests(cursor);

                while ((r = store_cursor_next(cursor, &row, error)) == 0 && row) {
                        if (cancel_requested(archive->cancel))
                                return cancel_set_error(archive->cancel, error);
                        r = each(writing, owner, row, error);
                        if (r != 0)
                                return r;
                }
                if (r != 0)
                        return r;
        }
        return 0;
}

static int write_state(Writing *writing, Error *error) {
        int r;

        r = pax_writer_begin(writing->pax, ARCHIVE_STATE);
        if (r < 0)
                return failed(writing, r, error);
        r = for_each_row(writing, DOCUMENTS_NONE, append_state, error);
        if (r != 0)
                return r;
        r = pax_writer_end(writing->pax);
        return r < 0 ? failed(writing, r, error) : 0;
}

static void make_safe(const char *text, char *ret, size_t size) {
        size_t i;

        for (i = 0; text[i] && i < size - 1; i++)
                ret[i] = g_ascii_isalnum(text[i]) || text[i] == '-' || text[i] == '_' || (text[i] == '.' && i > 0) ?
                        text[i] : '_';
        ret[i] = 0;
}

static void flush_signal(Writing *writing) {
        const WorkEvents *events = writing->archive->events;

        if (writing->signal->len > 0 && writing->n_signals++ < SIGNALS_MAX)
                events->restricted(g_steal_pointer(&writing->signal), events->userdata);
        else
                g_ptr_array_unref(g_steal_pointer(&writing->signal));
        writing->signal = g_ptr_array_new_with_free_func(g_free);
        writing->signal_bytes = 0;
}

static int skip_restricted(Writing *writing, const License *license, Error *error) {
        const char *fields[] = { license->id, license->key_id ?: "", license->title ?: "" };
        size_t bytes = 32;
        int r;

        r = restricted_append(writing->archive->restricted, license->id, license->key_id, license->title);
        if (r < 0)
                return error_set_errno(error, ERROR_MEDIUM, r, "Noting the licenses that may not be backed up failed");
        writing->result->restricted++;
        for (size_t i = 0; i < G_N_ELEMENTS(fields); i++)
                bytes += strlen(fields[i]);
        writing->listed += bytes;
        if (writing->n_signals >= SIGNALS_MAX)
                return 0;

        if (writing->signal_bytes + bytes > SIGNAL_BYTES)
                flush_signal(writing);
        for (size_t i = 0; i < G_N_ELEMENTS(fields); i++)
                g_ptr_array_add(writing->signal, g_strdup(fields[i]));
        writing->signal_bytes += bytes;
        if (writing->signal->len >= 3 * SIGNAL_ENTRIES)
                flush_signal(writing);
        return 0;
}

static int add_document(Writing *writing, const char *owner, const License *license, const void *document,
                Error *error) {
        char path[PATH_SIZE], id[SAFE_ID_MAX + 1], folder[SAFE_ID_MAX + 2] = "";
        BackupAttributes attributes;
        int r;

        if (writing->number >= ARCHIVE_DOCUMENTS_MAX)
                return error_set(error, ERROR_LIMIT_EXCEEDED,
                        "No backup can have more than %u licenses. Back up the users one by one.",
                        ARCHIVE_DOCUMENTS_MAX);
        make_safe(license->id, id, sizeof id);
        if (owner) {
                make_safe(owner, folder, sizeof folder - 1);
                strcat(folder, "/");
        }
        snprintf(path, sizeof path, ARCHIVE_LICENSES "%s%07" PRIu64 "-%s.%s", folder, ++writing->number, id,
                license->extension);
        backup_attributes(license, owner, &attributes);

        r = pax_writer_add_known(writing->pax, path, document, license->size, license->digest, attributes.list,
                attributes.n);
        if (r < 0)
                return failed(writing, r, error);
        writing->result->licenses++;
        return 0;
}

/* Who is told of it may be root, who has to find the owner, and whose other users wait for their backup. */
static int refuse_damaged(const BackupArchive *archive, const StoreOwnerRow *owner, const StoreCursorRow *row,
                StoreDamage damage, Error *error) {
        store_license_rotten(row->license.id, damage, error);
        if (archive->plan->all_users || archive->plan->owner != archive->plan->uid)
                error_prefix(error, "Of user '%s' (%" PRIu32 ")", owner->name, (uint32_t)owner->uid);
        if (archive->plan->fd >= 0)
                error_set(error, error->code, "%s All others can be backed up without it: in an app by the option "
                        "SkipDamaged, by licensevaultctl with --skip-damaged.", error_message(error));
        return (int)error->code;
}

/*
 * Whether a restore would not take the license as it is, or its document is not what was stored. Whether one that was
 * not digested yet, and goes into the backup, is what was stored shows where it goes.
 */
static int look_for_damage(const StoreCursorRow *row, Documents documents, StoreDamage *ret, Error *error) {
        const License *license = &row->license;
        int r = 0;

        *ret = row->damage;
        if (row->damage != STORE_DAMAGE_NONE)
                return 0;

        if (license->allow_backup)
                r = backup_license_check(license, row->document, error);
        else if (documents == DOCUMENTS_UNDIGESTED && !license_document_is_whole(license, row->document, license->size))
                *ret = STORE_DAMAGE_DOCUMENT;
        if (r == ERROR_NO_MEMORY)
                return r;
        error_clear(error);
        if (r != 0)
                *ret = STORE_DAMAGE_ROW;
        return 0;
}

static int refuse_if_damaged(Writing *writing, const StoreOwnerRow *owner, const StoreCursorRow *row, Error *error) {
        StoreDamage damage = STORE_DAMAGE_NONE;
        int r = row->present ? look_for_damage(row, DOCUMENTS_DIGESTED, &damage, error) : 0;

        return r == 0 && damage != STORE_DAMAGE_NONE ? refuse_damaged(writing->archive, owner, row, damage, error) : r;
}

/*
 * Something is damaged, and it may have shown late: all are read again, in the same snapshot, to name the first.
 * Returns a code.
 */
static int name_damaged(Writing *writing, Error *error) {
        int r = for_each_row(writing, DOCUMENTS_DIGESTED, refuse_if_damaged, error);

        return r != 0 ? r : error_set(error, ERROR_STORE_READ,
                "A document was read from the store as another than it is: the machine's memory or its disk is "
                "failing. See to it, and make another backup.");
}

/* What is left out is counted before anything is written: the manifest, which comes first, says how much follows. */
static int note_damaged(Writing *writing, const StoreOwnerRow *owner, const StoreCursorRow *row, Error *error) {
        const License *license = &row->license;
        g_autofree char *id = NULL, *who = NULL, *line = NULL, *label = NULL;
        StoreDamage damage = row->damage;
        int r;

        r = row->present ? look_for_damage(row, DOCUMENTS_DIGESTED, &damage, error) : 0;
        if (r != 0)
                return r;
        if (damage == STORE_DAMAGE_NONE && !backup_state_is_valid(license, row->revoked))
                damage = STORE_DAMAGE_ROW;
        if (damage == STORE_DAMAGE_NONE)
                return 0;

        id = g_utf8_make_valid(license->id ?: "", -1);
        who = g_strdup_printf("%s (%" PRIu32 ")", owner->name, (uint32_t)owner->uid);
        line = g_strdup_printf("%s: %s", who, id);
        label = g_strdup_printf("%s%s%s", who, license->title ? ": " : "", license->title ?: "");
        r = restricted_append(writing->damaged, id, NULL, label);
        if (r < 0)
                return error_set_errno(error, ERROR_MEDIUM, r, "Noting the damaged licenses failed");

        /* What is remembered of it may be what is wrong, and would spoil what is whole where it is restored. */
        if (damage == STORE_DAMAGE_ROW)
                g_hash_table_add(writing->rotten, g_memdup2(&row->key, sizeof row->key));
        writing->result->damaged++;
        if (row->present)
                (*(license->allow_backup ? &writing->damaged_licenses : &writing->damaged_restricted))++;
        if (writing->damaged_told->len < DAMAGED_MAX && writing->damaged_bytes + strlen(line) <= DAMAGED_BYTES) {
                writing->damaged_bytes += strlen(line);
                g_ptr_array_add(writing->damaged_told, g_steal_pointer(&line));
        }
        return 0;
}

static int append_license(Writing *writing, const StoreOwnerRow *owner, const StoreCursorRow *row, Error *error) {
        const BackupArchive *archive = writing->archive;
        bool skip = archive->plan->skip_damaged;
        StoreDamage damage;
        unsigned percent;
        int r;

        if (!row->present)
                return 0;
        r = look_for_damage(row, skip ? DOCUMENTS_DIGESTED : DOCUMENTS_UNDIGESTED, &damage, error);
        if (r != 0)
                return r;
        if (damage != STORE_DAMAGE_NONE)
                return skip ? 0 : name_damaged(writing, error);

        r = row->license.allow_backup ?
                add_document(writing, archive->plan->all_users ? owner->name : NULL, &row->license, row->document,
                        error) :
                skip_restricted(writing, &row->license, error);
        if (r != 0)
                return r;

        r = check_space(writing, error);
        if (r != 0)
                return r;

        percent = (unsigned)(++writing->done * archive->percent_end / MAX(archive->total, 1));
        archive->events->progress(writing->done, percent, archive->events->userdata);
        return 0;
}

/* A line a license, for a person. */
static int list_licenses(Writing *writing, RestrictedList *list, uint64_t n, const char *head, Error *error) {
        int r;

        r = pax_writer_append(writing->pax, head, strlen(head));
        for (uint64_t offset = 0; r >= 0 && offset < n;) {
                g_autoptr(GPtrArray) page = g_ptr_array_new();

                r = restricted_read(list, offset, 1000, page);
                if (r >= 0 && page->len == 0)
                        r = -EIO;
                for (unsigned i = 0; r >= 0 && i < page->len; i += 3) {
                        const char *title = page->pdata[i + 2];
                        g_autofree char *line = g_strconcat(page->pdata[i], title[0] ? "  " : "", title, NULL);

                        /* A title may hold a line break; a line is one license all the same. */
                        for (char *p = line; *p; p++)
                                if ((unsigned char)*p < ' ')
                                        *p = ' ';
                        r = pax_writer_append(writing->pax, line, strlen(line));
                        if (r >= 0)
                                r = pax_writer_append(writing->pax, "\n", 1);
                }
                offset += page->len / 3;
                if (r >= 0 && check_space(writing, error) != 0)
                        return (int)error->code;
        }
        return r < 0 ? failed(writing, r, error) : 0;
}

static int write_not_backed_up(Writing *writing, Error *error) {
        const WorkResult *result = writing->result;
        int r;

        if (result->restricted == 0 && result->damaged == 0)
                return 0;
        r = pax_writer_begin(writing->pax, ARCHIVE_NOT_BACKED_UP);
        if (r < 0)
                return failed(writing, r, error);

        if (result->restricted > 0)
                r = list_licenses(writing, writing->archive->restricted, result->restricted,
                        "These licenses may not be backed up: their issuer or the app that stored them says so.\n"
                        "Their documents are not in this backup. Ask the issuer for a new one when you need it.\n\n",
                        error);
        if (r == 0 && result->damaged > 0)
                r = list_licenses(writing, writing->damaged, result->damaged, result->restricted > 0 ?
                        "\n" DAMAGED_HEAD : DAMAGED_HEAD, error);
        if (r != 0)
                return r;
        r = pax_writer_end(writing->pax);
        return r < 0 ? failed(writing, r, error) : 0;
}

static int write_end(Writing *writing, Error *error) {
        uint8_t digest[LICENSE_DIGEST_SIZE];
        char hex[LICENSE_DIGEST_SIZE * 2 + 1];
        int r;

        pax_writer_digest(writing->pax, digest);
        license_digest_to_hex(digest, hex);
        json_watch_memory();
        r = add_json(writing, ARCHIVE_END, json_pack("{s:i, s:I, s:I, s:s}",
                "format", ARCHIVE_FORMAT,
                "licenses", (json_int_t)writing->result->licenses,
                "restricted", (json_int_t)writing->result->restricted,
                "blake2b", hex), error);
        if (r != 0)
                return r;

        r = pax_writer_finish(writing->pax);
        if (r >= 0)
                r = proved_file_end(writing->archive->file);
        if (r < 0)
                return failed(writing, r, error);
        writing->result->bytes = pax_writer_size(writing->pax);
        return 0;
}

/* A restore takes no backup that is not what its manifest says. */
static int check_counts(const Writing *writing, uint64_t licenses, uint64_t restricted, Error *error) {
        const WorkResult *result = writing->result;

        if (result->licenses == licenses && result->restricted == restricted)
                return 0;
        return error_set(error, ERROR_STORE_CORRUPT,
                "The store has another number of licenses than it counted: it is damaged. Ask the administrator to "
                "check it with licensevaultd --check.");
}

static int write_entries(Writing *writing, uint64_t licenses, uint64_t restricted, Error *error) {
        const Documents documents = writing->archive->plan->skip_damaged ? DOCUMENTS_DIGESTED : DOCUMENTS_UNDIGESTED;
        int r;

        if ((r = check_space(writing, error)) != 0 ||
            (r = write_readme(writing, error)) != 0 ||
            (r = write_manifest(writing, licenses, restricted, error)) != 0 ||
            (r = write_state(writing, error)) != 0 ||
            (r = for_each_row(writing, documents, append_license, error)) != 0)
                return r;

        flush_signal(writing);
        if ((r = check_counts(writing, licenses, restricted, error)) != 0 ||
            (r = write_not_backed_up(writing, error)) != 0)
                return r;
        return write_end(writing, error);
}

int backup_archive_write(const BackupArchive *archive, WorkResult *ret, Error *error) {
        g_autoptr(PaxWriter) pax = NULL;
        g_autoptr(RestrictedList) damaged = NULL;
        uint64_t licenses = 0, restricted = 0;
        g_auto(WorkResult) result = {};
        Writing writing = { .archive = archive, .result = &result };
        int r;

        for (unsigned i = 0; i < archive->owners->len; i++) {
                const StoreOwnerRow *owner = archive->owners->pdata[i];

                licenses += owner->licenses - owner->restricted;
                restricted += owner->restricted;
        }

        r = pax_writer_new_proved(archive->file, g_get_real_time() / G_USEC_PER_SEC, &pax);
        if (r >= 0)
                r = restricted_new(store_folder(archive->plan->store), &damaged);
        if (r < 0)
                return failed(&writing, r, error);
        writing.pax = pax;
        writing.damaged = damaged;
        writing.line = g_string_new(NULL);
        writing.signal = g_ptr_array_new_with_free_func(g_free);
        writing.damaged_told = g_ptr_array_new_with_free_func(g_free);
        writing.rotten = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);

        r = archive->plan->skip_damaged ? for_each_row(&writing, DOCUMENTS_DIGESTED, note_damaged, error) : 0;
        if (r == 0)
                r = write_entries(&writing, licenses - writing.damaged_licenses,
                        restricted - writing.damaged_restricted, error);

        g_ptr_array_add(writing.damaged_told, NULL);
        char **told = (char **)g_ptr_array_free(writing.damaged_told, false);
        if (result.damaged > 0)
                result.damaged_licenses = told;
        else
                g_strfreev(told);
        g_ptr_array_unref(writing.signal);
        g_hash_table_unref(writing.rotten);
        g_string_free(writing.line, true);
        if (r == 0) {
                *ret = result;
                result = (WorkResult) {};
        }
        return r;
}
