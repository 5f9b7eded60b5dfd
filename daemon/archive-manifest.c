/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "archive-manifest.h"

#include <errno.h>
#include <string.h>

#include "archive-frame.h"
#include "backup-read.h"
#include "json-memory.h"

static int load(const char *path, const void *content, size_t size, json_t **ret, Error *error) {
        json_error_t ignored;
        int r = json_parse(content, size, ret, &ignored);

        if (r == -ENOMEM)
                return error_set_no_memory(error);
        return r < 0 ? archive_damaged(error, "at", path, "it is not valid JSON") : 0;
}

int archive_manifest_find(int fd, ArchiveReader **ret_reader, const ArchiveEntry **ret, Error *error) {
        int r;

        *ret = NULL;
        r = archive_reader_new(fd, UINT64_MAX, -1, NULL, ret_reader, error);
        do
                r = r == 0 ? archive_reader_next(*ret_reader, ret, error) : r;
        while (r == 0 && *ret && !g_str_equal((*ret)->path, ARCHIVE_MANIFEST));
        return r;
}

static int read_manifest(const json_t *root, ArchiveClaim *ret, Error *error) {
        json_int_t format = json_integer_value(json_object_get(root, "format"));
        const json_t *licenses = json_object_get(root, "licenses");
        const json_t *restricted = json_object_get(root, "restricted");

        if (format > ARCHIVE_FORMAT)
                return error_set(error, ERROR_BACKUP_CORRUPT,
                        "The backup was made by a newer version of Licensevault (format %lld, and this one "
                        "reads up to %i). Update Licensevault here, then try again.",
                        (long long)format, ARCHIVE_FORMAT);

        if (format < 1 || !json_is_integer(licenses) || json_integer_value(licenses) < 0 ||
            !json_is_integer(restricted) || json_integer_value(restricted) < 0)
                return archive_damaged(error, "at", ARCHIVE_MANIFEST, "it does not say what it must");

        ret->licenses = (uint64_t)json_integer_value(licenses);
        ret->restricted = (uint64_t)json_integer_value(restricted);
        return 0;
}

int archive_manifest_parse(const void *content, size_t size, ArchiveClaim *ret, Error *error) {
        json_t *root;
        int r;

        r = load(ARCHIVE_MANIFEST, content, size, &root, error);
        if (r != 0)
                return r;

        r = read_manifest(root, ret, error);
        json_decref(root);
        return r;
}

/* Before there were ids of stores, backups had none. */
static const char *find_store(const json_t *root) {
        const char *id = json_string_value(json_object_get(root, "store"));

        return id && store_id_is_valid(id) ? id : "";
}

static uint64_t find_number(const json_t *root, const char *key) {
        return (uint64_t)MAX(json_integer_value(json_object_get(root, key)), 0);
}

/* Before it was said how many ids a store remembers, it was said how many of them are licenses. */
static StoreMemory find_memory(const json_t *root) {
        const uint64_t licenses = find_number(root, "licenses") + find_number(root, "restricted");

        return (StoreMemory) { MAX(licenses, find_number(root, "remembered")), find_number(root, "stored") };
}

static int find_epochs(const json_t *root, char **ret, Error *error) {
        const char *epochs = json_string_value(json_object_get(root, "epochs"));

        return license_set_string(ret, epochs && store_epochs_are_valid(epochs) ? epochs : "") < 0 ?
                error_set_no_memory(error) : 0;
}

void archive_store_clear(ArchiveStore *store) {
        g_free(store->epochs);
        *store = (ArchiveStore) {};
}

int archive_manifest_owner(const void *content, size_t size, char **ret, ArchiveStore *ret_store, Error *error) {
        const char *name;
        json_t *root;
        int r;

        r = load(ARCHIVE_MANIFEST, content, size, &root, error);
        if (r != 0)
                return r;

        *ret = NULL;
        name = json_string_value(json_object_get(json_object_get(root, "owner"), "name"));
        if (name && license_set_string(ret, name) < 0)
                r = error_set_no_memory(error);
        if (r == 0)
                r = find_epochs(root, &ret_store->epochs, error);
        ret_store->memory = find_memory(root);
        g_strlcpy(ret_store->store, find_store(root), sizeof ret_store->store);
        g_strlcpy(ret_store->machine, json_string_value(json_object_get(root, "machine")) ?: "",
                sizeof ret_store->machine);
        json_decref(root);
        return r;
}

/* Text that the bus takes, "" included. */
static int read_text(const json_t *object, const char *key, char **ret, Error *error) {
        const char *text = json_string_value(json_object_get(object, key));

        if (!text || (*text && !license_string_is_valid(text)))
                return archive_damaged(error, "at", ARCHIVE_MANIFEST, "its '%s' is missing, or not a text", key);
        return license_set_string(ret, text) < 0 ? error_set_no_memory(error) : 0;
}

/* Of one user, or of all: it must say which, and never both. */
static int read_owner(const json_t *root, BackupOrigin *ret, Error *error) {
        const json_t *all_users = json_object_get(root, "all_users"), *owner = json_object_get(root, "owner");
        const json_t *uid = json_object_get(owner, "uid");

        if (!json_is_boolean(all_users) || json_is_true(all_users) == json_is_object(owner) ||
            (owner && !json_is_object(owner)))
                return archive_damaged(error, "at", ARCHIVE_MANIFEST, "it does not say whose licenses these are");

        ret->all_users = json_is_true(all_users);
        if (ret->all_users)
                return 0;
        /* The largest number stands for no user. */
        if (!json_is_integer(uid) || json_integer_value(uid) < 0 || json_integer_value(uid) >= UINT32_MAX)
                return archive_damaged(error, "at", ARCHIVE_MANIFEST, "its 'uid' is missing, or not one");
        ret->uid = (uid_t)json_integer_value(uid);
        return read_text(owner, "name", &ret->name, error);
}

static int read_origin(const json_t *root, BackupOrigin *ret, Error *error) {
        const struct {
                const char *key;
                char **text;
        } texts[] = {
                { "software", &ret->software },
                { "created", &ret->created },
                { "host", &ret->host },
                { "machine", &ret->machine },
        };
        const json_t *damaged = json_object_get(root, "damaged");
        ArchiveClaim claim = {};
        int r;

        r = read_manifest(root, &claim, error);
        if (r != 0)
                return r;
        /* It is there where it is more than none. */
        if (damaged && (!json_is_integer(damaged) || json_integer_value(damaged) < 0))
                return archive_damaged(error, "at", ARCHIVE_MANIFEST, "its 'damaged' is not a number");
        ret->licenses = claim.licenses;
        ret->restricted = claim.restricted;
        ret->damaged = damaged ? (uint64_t)json_integer_value(damaged) : 0;
        ret->memory = find_memory(root);
        g_strlcpy(ret->store, find_store(root), sizeof ret->store);
        r = find_epochs(root, &ret->epochs, error);
        if (r != 0)
                return r;

        for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
                r = read_text(root, texts[i].key, texts[i].text, error);
                if (r != 0)
                        return r;
                license_clean_text(*texts[i].text);
        }
        return read_owner(root, ret, error);
}

int archive_manifest_origin(const void *content, size_t size, BackupOrigin *ret, Error *error) {
        json_t *root;
        int r;

        r = load(ARCHIVE_MANIFEST, content, size, &root, error);
        if (r != 0)
                return r;

        r = read_origin(root, ret, error);
        json_decref(root);
        return r;
}

/* Here nothing may be there that is not known: only END.json has no digest over it. */
static int read_end(json_t *root, ArchiveClaim *ret, Error *error) {
        json_int_t format, licenses, restricted;
        const char *digest;
        int r;

        r = json_unpack_ex(root, NULL, JSON_STRICT, "{s:I, s:I, s:I, s:s}", "format", &format,
                "licenses", &licenses, "restricted", &restricted, "blake2b", &digest);
        if (r < 0 && json_lacked_memory())
                return error_set_no_memory(error);
        if (r < 0 || format != ARCHIVE_FORMAT || licenses < 0 || restricted < 0 ||
            strlen(digest) != sizeof ret->digest - 1)
                return archive_damaged(error, "at", ARCHIVE_END, "it does not say what it must");

        ret->licenses = (uint64_t)licenses;
        ret->restricted = (uint64_t)restricted;
        strcpy(ret->digest, digest);
        return 0;
}

int archive_end_parse(const void *content, size_t size, ArchiveClaim *ret, Error *error) {
        json_t *root;
        int r;

        r = load(ARCHIVE_END, content, size, &root, error);
        if (r != 0)
                return r;

        r = read_end(root, ret, error);
        json_decref(root);
        return r;
}
