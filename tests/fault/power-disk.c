/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "power-disk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096U

typedef struct Node {
        unsigned n_ref;
        bool is_folder, size_changed;
        GByteArray *now, *safe; /* of a file */
        GHashTable *dirty;      /* of a file: numbers of the pages that were written since it was safe */
        GHashTable *names, *safe_names; /* of a folder: name to Node */
} Node;

struct PowerDisk {
        GHashTable *nodes; /* inode to Node: what has that number now */
        Node *root;
};

static const char *const loss_names[_POWER_LOSS_MAX] = {
        [POWER_LOSS_STRICT] = "strict",
        [POWER_LOSS_EMPTY] = "names before bytes and sizes",
        [POWER_LOSS_STALE] = "names and sizes before bytes",
        [POWER_LOSS_EVEN] = "torn, even pages",
        [POWER_LOSS_ODD] = "torn, odd pages",
        [POWER_LOSS_RANDOM] = "torn, at random",
        [POWER_LOSS_NAMELESS] = "bytes before names",
        [POWER_LOSS_NOTHING] = "nothing lost",
};

const char *power_loss_name(PowerLoss loss) {
        return loss_names[loss];
}

GArray *power_log_parse(const char *content, size_t size) {
        GArray *entries = g_array_new(false, false, sizeof(PowerEntry));

        for (size_t at = 0; at < size;) {
                /* Copied, for what lies in the log lies at any address. */
                PowerRecord *record = g_memdup2(content + at, sizeof *record);
                const char *p = content + at + sizeof *record;
                PowerEntry entry = { .record = record };

                entry.name = record->name_size > 0 ? p : NULL;
                p += record->name_size;
                entry.to_name = record->to_name_size > 0 ? p : NULL;
                p += record->to_name_size;
                entry.data = (const uint8_t *)p;
                at = (size_t)(p - content) + record->data_size;
                g_array_append_val(entries, entry);
        }
        return entries;
}

char *power_entry_describe(const PowerEntry *entry) {
        static const char *const ops[] = { "", "create", "mkdir", "write", "truncate", "sync", "rename", "link",
                "unlink", "mark" };
        const PowerRecord *record = entry->record;

        return g_strdup_printf("%s inode %" PRIu64 " '%s' '%s' %u bytes at %" PRIu64, ops[record->op], record->inode,
                entry->name ? entry->name : "", entry->to_name ? entry->to_name : "", record->data_size,
                record->offset);
}

static void node_unref(void *data) {
        Node *node = data;

        if (--node->n_ref > 0)
                return;
        if (node->is_folder) {
                g_hash_table_unref(node->names);
                g_hash_table_unref(node->safe_names);
        } else {
                g_byte_array_unref(node->now);
                g_byte_array_unref(node->safe);
                g_hash_table_unref(node->dirty);
        }
        g_free(node);
}

static Node *node_ref(Node *node) {
        node->n_ref++;
        return node;
}

static GHashTable *new_names(void) {
        return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, node_unref);
}

static Node *add_node(PowerDisk *disk, uint64_t inode, bool is_folder) {
        Node *node = g_new0(Node, 1);

        node->n_ref = 1;
        node->is_folder = is_folder;
        if (is_folder) {
                node->names = new_names();
                node->safe_names = new_names();
        } else {
                node->now = g_byte_array_new();
                node->safe = g_byte_array_new();
                node->dirty = g_hash_table_new(g_direct_hash, g_direct_equal);
        }
        g_hash_table_insert(disk->nodes, GSIZE_TO_POINTER(inode), node);
        return node;
}

PowerDisk *power_disk_new(uint64_t root) {
        PowerDisk *disk = g_new0(PowerDisk, 1);

        disk->nodes = g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, node_unref);
        disk->root = node_ref(add_node(disk, root, true));
        return disk;
}

PowerDisk *power_disk_free(PowerDisk *disk) {
        node_unref(disk->root);
        g_hash_table_unref(disk->nodes);
        g_free(disk);
        return NULL;
}

static void set_size(GByteArray *bytes, uint64_t size) {
        guint before = bytes->len;

        g_byte_array_set_size(bytes, (guint)size);
        if (size > before)
                memset(bytes->data + before, 0, size - before);
}

static void write_node(Node *node, uint64_t offset, const uint8_t *data, uint64_t size) {
        if (offset + size > node->now->len)
                set_size(node->now, offset + size);
        memcpy(node->now->data + offset, data, size);
        for (uint64_t page = offset / PAGE; page <= (offset + size - 1) / PAGE; page++)
                g_hash_table_add(node->dirty, GSIZE_TO_POINTER(page + 1));
}

static void truncate_node(Node *node, uint64_t size) {
        set_size(node->now, size);
        node->size_changed = true;
}

static void sync_node(Node *node) {
        if (node->is_folder) {
                GHashTableIter iterator;
                char *name;
                Node *child;

                g_hash_table_remove_all(node->safe_names);
                g_hash_table_iter_init(&iterator, node->names);
                while (g_hash_table_iter_next(&iterator, (void **)&name, (void **)&child))
                        g_hash_table_insert(node->safe_names, g_strdup(name), node_ref(child));
                return;
        }

        if (g_hash_table_size(node->dirty) > 0 || node->size_changed) {
                g_byte_array_set_size(node->safe, 0);
                g_byte_array_append(node->safe, node->now->data, node->now->len);
                g_hash_table_remove_all(node->dirty);
                node->size_changed = false;
        }
}

void power_disk_sync_all(PowerDisk *disk) {
        GHashTableIter iterator;
        Node *node;

        g_hash_table_iter_init(&iterator, disk->nodes);
        while (g_hash_table_iter_next(&iterator, NULL, (void **)&node))
                sync_node(node);
}

bool power_disk_apply(PowerDisk *disk, const PowerEntry *entry) {
        const PowerRecord *record = entry->record;
        Node *node = g_hash_table_lookup(disk->nodes, GSIZE_TO_POINTER(record->inode));
        Node *folder = g_hash_table_lookup(disk->nodes, GSIZE_TO_POINTER(record->folder));
        Node *to_folder = g_hash_table_lookup(disk->nodes, GSIZE_TO_POINTER(record->to_folder));

        switch (record->op) {
        case POWER_CREATE:
        case POWER_MKDIR:
                node = add_node(disk, record->inode, record->op == POWER_MKDIR);
                if (!*entry->name)
                        return true;
                break;
        case POWER_WRITE:
                if (node)
                        write_node(node, record->offset, entry->data, record->data_size);
                return node != NULL;
        case POWER_TRUNCATE:
                if (node)
                        truncate_node(node, record->offset);
                return node != NULL;
        case POWER_SYNC:
                if (node)
                        sync_node(node);
                return node != NULL;
        case POWER_UNLINK:
                return folder && g_hash_table_remove(folder->names, entry->name);
        case POWER_RENAME:
                node = folder ? g_hash_table_lookup(folder->names, entry->name) : NULL;
                if (!node || !to_folder)
                        return false;
                g_hash_table_insert(to_folder->names, g_strdup(entry->to_name), node_ref(node));
                return g_hash_table_remove(folder->names, entry->name);
        case POWER_MARK:
                return true;
        default:
                break;
        }

        if (!folder || !node)
                return false;
        g_hash_table_insert(folder->names, g_strdup(entry->name), node_ref(node));
        return true;
}

static bool arrived(PowerLoss loss, GRand *random, uint64_t page) {
        switch (loss) {
        case POWER_LOSS_STRICT:
        case POWER_LOSS_EMPTY:
        case POWER_LOSS_STALE:
                return false;
        case POWER_LOSS_EVEN:
                return page % 2 == 0;
        case POWER_LOSS_ODD:
                return page % 2 == 1;
        case POWER_LOSS_RANDOM:
                return g_rand_boolean(random);
        default:
                return true;
        }
}

/* What is left of a file's bytes. */
static GByteArray *cut_file(const Node *node, PowerLoss loss, GRand *random) {
        bool keep_size = loss == POWER_LOSS_STRICT || loss == POWER_LOSS_EMPTY ||
                (loss == POWER_LOSS_RANDOM && g_rand_boolean(random));
        GByteArray *bytes = g_byte_array_new();

        if (keep_size)
                g_byte_array_append(bytes, node->safe->data, node->safe->len);
        else
                g_byte_array_append(bytes, node->now->data, node->now->len);

        for (uint64_t page = 0; page * PAGE < bytes->len; page++) {
                uint64_t from = page * PAGE, size = MIN(PAGE, bytes->len - from);
                const GByteArray *source = node->safe;

                if (g_hash_table_contains(node->dirty, GSIZE_TO_POINTER(page + 1)) && arrived(loss, random, page))
                        source = node->now;
                else if (!g_hash_table_contains(node->dirty, GSIZE_TO_POINTER(page + 1)))
                        continue;
                memset(bytes->data + from, 0, size);
                if (source->len > from)
                        memcpy(bytes->data + from, source->data + from, MIN(size, source->len - from));
        }
        return bytes;
}

static int compare_names(const void *a, const void *b) {
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static void write_out(const char *path, const GByteArray *bytes) {
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

        if (fd < 0)
                g_error("%s: %s", path, g_strerror(errno));
        for (guint done = 0; done < bytes->len;) {
                ssize_t n = write(fd, bytes->data + done, bytes->len - done);

                if (n <= 0)
                        g_error("%s: %s", path, g_strerror(errno));
                done += (guint)n;
        }
        close(fd);
}

static void cut_folder(const Node *node, PowerLoss loss, GRand *random, const char *into, GChecksum *digest) {
        bool keep_names = loss == POWER_LOSS_STRICT || loss == POWER_LOSS_NAMELESS ||
                (loss == POWER_LOSS_RANDOM && g_rand_boolean(random));
        GHashTable *names = keep_names ? node->safe_names : node->names;
        guint n = 0;
        /* Sorted, so that the same is always drawn for the same. */
        g_autofree char **sorted = (char **)g_hash_table_get_keys_as_array(names, &n);

        if (mkdir(into, 0700) < 0 && errno != EEXIST)
                g_error("%s: %s", into, g_strerror(errno));
        qsort(sorted, n, sizeof *sorted, compare_names);
        for (guint i = 0; i < n; i++) {
                const Node *child = g_hash_table_lookup(names, sorted[i]);
                g_autofree char *path = g_build_filename(into, sorted[i], NULL);

                g_checksum_update(digest, (const guchar *)path + strlen(into), -1);
                g_checksum_update(digest, (const guchar *)(child->is_folder ? "{" : "="), 1);
                if (child->is_folder) {
                        cut_folder(child, loss, random, path, digest);
                        g_checksum_update(digest, (const guchar *)"}", 1);
                } else {
                        g_autoptr(GByteArray) bytes = cut_file(child, loss, random);
                        uint64_t size = bytes->len;

                        g_checksum_update(digest, (const guchar *)&size, sizeof size);
                        if (size > 0)
                                g_checksum_update(digest, bytes->data, (gssize)size);
                        write_out(path, bytes);
                }
        }
}

char *power_disk_cut(const PowerDisk *disk, PowerLoss loss, guint32 seed, const char *into) {
        g_autoptr(GChecksum) digest = g_checksum_new(G_CHECKSUM_SHA256);
        GRand *random = g_rand_new_with_seed(seed);

        cut_folder(disk->root, loss, random, into, digest);
        g_rand_free(random);
        return g_strdup(g_checksum_get_string(digest));
}
