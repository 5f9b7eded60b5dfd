/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "known-properties.h"

#include <inttypes.h>

/* More than users who make backups at once; then all are read anew. */
#define KNOWN_MAX 1024U

struct KnownProperties {
        pthread_mutex_t mutex;
        uint64_t age;
        GHashTable *values; /* "UID PROPERTY NAME" -> value, or NULL */
};

static char *key_of(const StoreOwner *owner, const char *name) {
        return g_strdup_printf("%" PRIu32 " %s %s", (uint32_t)owner->uid, name, owner->name);
}

KnownProperties *known_properties_new(void) {
        KnownProperties *known = g_new0(KnownProperties, 1);

        pthread_mutex_init(&known->mutex, NULL);
        known->values = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        return known;
}

KnownProperties *known_properties_free(KnownProperties *known) {
        if (known) {
                g_hash_table_unref(known->values);
                pthread_mutex_destroy(&known->mutex);
                g_free(known);
        }
        return NULL;
}

uint64_t known_properties_age(KnownProperties *known) {
        uint64_t age;

        pthread_mutex_lock(&known->mutex);
        age = known->age;
        pthread_mutex_unlock(&known->mutex);
        return age;
}

void known_properties_learn(KnownProperties *known, const StoreOwner *owner, const char *name, const char *value,
        uint64_t age) {
        pthread_mutex_lock(&known->mutex);
        if (age == known->age) {
                char *key = key_of(owner, name);

                if (g_hash_table_size(known->values) >= KNOWN_MAX && !g_hash_table_contains(known->values, key))
                        g_hash_table_remove_all(known->values);
                g_hash_table_replace(known->values, key, g_strdup(value));
        }
        pthread_mutex_unlock(&known->mutex);
}

void known_properties_forget(KnownProperties *known) {
        pthread_mutex_lock(&known->mutex);
        known->age++;
        g_hash_table_remove_all(known->values);
        pthread_mutex_unlock(&known->mutex);
}

bool known_properties_get(KnownProperties *known, const StoreOwner *owner, const char *name, char **ret_value) {
        g_autofree char *key = key_of(owner, name);
        gpointer value = NULL;
        bool is_known;

        pthread_mutex_lock(&known->mutex);
        is_known = g_hash_table_lookup_extended(known->values, key, NULL, &value);
        if (is_known)
                *ret_value = g_strdup(value);
        pthread_mutex_unlock(&known->mutex);
        return is_known;
}
