/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manager.h"

User *user_get(Manager *manager, uid_t uid) {
        User *user;

        user = g_hash_table_lookup(manager->users, GUINT_TO_POINTER(uid));
        if (!user) {
                user = g_new0(User, 1);
                user->manager = manager;
                user->uid = uid;
                g_queue_init(&user->ended);
                g_queue_init(&user->held);
                g_queue_init(&user->searches);
                for (TurnKind kind = 0; kind < _TURN_KINDS; kind++)
                        g_queue_init(&user->ready[kind]);
                g_hash_table_insert(manager->users, GUINT_TO_POINTER(uid), user);
        }
        user->n_ref++;
        return user;
}

User *user_unref(User *user) {
        if (user && --user->n_ref == 0) {
                g_hash_table_remove(user->manager->users, GUINT_TO_POINTER(user->uid));
                g_free(user);
        }
        return NULL;
}
