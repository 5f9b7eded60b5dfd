/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "words.h"

#include "license.h"

char *words_progress(const Job *job, bool backup, const char *file) {
        g_autofree char *completed = text_number(job->completed), *total = text_licenses(job->total);
        const char *verb = backup ? "Backing up" : "Restoring";

        if (job->cancel_wanted)
                return g_strdup("Canceling…");
        if (!job->begun)
                return g_strdup_printf(backup ? "Waiting to back up to “%s”" : "Waiting to restore “%s”", file);
        if (job->total == 0)
                return g_strdup_printf(backup ? "Backing up to “%s”" : "Restoring “%s”", file);
        return g_strdup_printf("%s: %s of %s", verb, completed, total);
}

char *words_backup_heading(const Job *job) {
        guint64 restricted = job_count(job, "restricted");
        g_autofree char *number = text_number(restricted);

        return restricted == 0 ? g_strdup("Backup Complete") :
                g_strdup_printf("Backed Up All but %s License%s", number, restricted == 1 ? "" : "s");
}

char *words_backup(const Job *job, const char *file) {
        g_autofree char *licenses = text_licenses(job_count(job, "licenses"));
        g_autofree char *size = g_format_size(job_count(job, "bytes"));
        guint64 restricted = job_count(job, "restricted");

        return g_strdup_printf("%s %s in “%s” (%s), read back and verified.%s", licenses,
                job_count(job, "licenses") == 1 ? "is" : "are", file, size,
                restricted == 0 ? "" :
                restricted == 1 ? "\n\nOne may not be backed up, by its own terms. Ask its issuer for a new one when "
                        "you move to another computer:" :
                "\n\nSome may not be backed up, by their own terms. Ask their issuers for new ones when you move to "
                "another computer:");
}

char *words_restore_heading(const Job *job) {
        guint64 restored = job_count(job, "restored");
        g_autofree char *number = text_number(restored);

        return restored == 0 ? g_strdup("Nothing Was Missing") :
                g_strdup_printf("Restored %s License%s", number, restored == 1 ? "" : "s");
}

char *words_restore(const Job *job) {
        /* What became of the others, in the order in which it is told. */
        static const struct {
                const char *count;
                const char *one, *many;
        } outcomes[] = {
                { "unchanged", "is here already", "are here already" },
                { "newer_kept", "is newer here, and was kept", "are newer here, and were kept" },
                { "revoked", "was revoked, and stays so", "were revoked, and stay so" },
                { "conflicts", "is another one here, and nothing says which is newer: it stayed as it is",
                        "are others here, and nothing says which are newer: they stayed as they are" },
        };
        g_autoptr(GString) words = g_string_new(NULL);

        if (job->origin)
                g_string_append_printf(words, "The backup of %s is merged into your licenses.", job->origin);
        else
                g_string_append(words, "The backup is merged into your licenses.");
        for (guint i = 0; i < G_N_ELEMENTS(outcomes); i++) {
                guint64 n = job_count(job, outcomes[i].count);
                g_autofree char *licenses = text_licenses(n);

                if (n > 0)
                        g_string_append_printf(words, "\n%s %s.", licenses,
                                n == 1 ? outcomes[i].one : outcomes[i].many);
        }
        return g_string_free(g_steal_pointer(&words), FALSE);
}
