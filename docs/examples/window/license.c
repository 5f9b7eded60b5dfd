/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "license.h"

G_DEFINE_FINAL_TYPE(License, license, G_TYPE_OBJECT)

/* What stands between them reads in its own direction, and does not turn that of its neighbours. */
#define FIRST_STRONG_ISOLATE 0x2068
#define POP_DIRECTIONAL_ISOLATE 0x2069

char *text_number(guint64 n) {
        return g_strdup_printf("%'" G_GUINT64_FORMAT, n);
}

char *text_licenses(guint64 n) {
        g_autofree char *number = text_number(n);

        return g_strdup_printf(n == 1 ? "%s license" : "%s licenses", number);
}

char *text_of_others(const char *text) {
        g_autofree char *valid = g_utf8_make_valid(text, -1);
        g_autoptr(GString) line = g_string_new(NULL);

        g_string_append_unichar(line, FIRST_STRONG_ISOLATE);
        for (const char *at = valid; *at; at = g_utf8_next_char(at)) {
                gunichar c = g_utf8_get_char(at);

                /* The end of our own isolate is not theirs to say, nor is the end of the line. */
                if (c == POP_DIRECTIONAL_ISOLATE)
                        continue;
                g_string_append_unichar(line, g_unichar_iscntrl(c) || c == 0x2028 || c == 0x2029 ? ' ' : c);
        }
        g_string_append_unichar(line, POP_DIRECTIONAL_ISOLATE);
        return g_string_free(g_steal_pointer(&line), FALSE);
}

/* NULL for a time that has no date: that far off, a license has no end. */
static char *text_date(guint64 time) {
        g_autoptr(GDateTime) date = g_date_time_new_from_unix_local((gint64)MIN(time, G_MAXINT64));

        return date ? g_date_time_format(date, "%-d %B %Y") : NULL;
}

static char *text_validity(guint64 not_before, guint64 not_after, guint64 now) {
        g_autofree char *begin = not_before > now ? text_date(not_before) : NULL;
        g_autofree char *end = not_after < G_MAXINT64 ? text_date(not_after) : NULL;

        if (end && not_after < now)
                return g_strdup_printf("Expired on %s", end);
        if (begin && end)
                return g_strdup_printf("Valid from %s to %s", begin, end);
        if (begin)
                return g_strdup_printf("Valid from %s", begin);
        if (end)
                return g_strdup_printf("Valid until %s", end);
        return g_strdup("Does not expire");
}

static void append(GString *line, const char *text) {
        if (line->len > 0)
                g_string_append(line, "  ·  ");
        g_string_append(line, text);
}

static void append_uses(GString *line, GVariant *counters) {
        g_autoptr(GVariantIter) iter = g_variant_iter_new(counters);
        const char *right;
        guint64 left;

        while (g_variant_iter_next(iter, "{&st}", &right, &left)) {
                g_autofree char *number = text_number(left);
                /* With spaces at which no line is broken. */
                g_autofree char *use = g_strdup_printf("%s:\u00a0%s\u00a0left", right, number);

                append(line, use);
        }
}

License *license_new(const char *id, GVariant *properties, gint64 now) {
        g_autoptr(GVariant) counters = g_variant_lookup_value(properties, "Counters", G_VARIANT_TYPE("a{st}"));
        g_autoptr(GString) subtitle = g_string_new(NULL);
        const char *title = NULL, *issuer = NULL;
        guint64 not_before = 0, not_after = G_MAXINT64;
        License *license = g_object_new(LICENSE_TYPE, NULL);

        license->may_be_backed_up = TRUE;
        g_variant_lookup(properties, "Title", "&s", &title);
        g_variant_lookup(properties, "Issuer", "&s", &issuer);
        g_variant_lookup(properties, "NotBefore", "t", &not_before);
        g_variant_lookup(properties, "NotAfter", "t", &not_after);
        g_variant_lookup(properties, "AllowBackup", "b", &license->may_be_backed_up);

        license->title = text_of_others(title && *title ? title : id);
        if (issuer && *issuer) {
                /* Providers of e-books are named by an address. */
                g_autofree char *text = text_of_others(g_str_has_prefix(issuer, "https://") ? issuer + 8 : issuer);
                append(subtitle, text);
        }
        g_autofree char *validity = text_validity(not_before, not_after, (guint64)now);
        append(subtitle, validity);
        if (counters)
                append_uses(subtitle, counters);
        license->subtitle = g_string_free(g_steal_pointer(&subtitle), FALSE);
        return license;
}

static void license_finalize(GObject *object) {
        License *license = LICENSE_ITEM(object);

        g_free(license->title);
        g_free(license->subtitle);
        G_OBJECT_CLASS(license_parent_class)->finalize(object);
}

static void license_class_init(LicenseClass *class) {
        G_OBJECT_CLASS(class)->finalize = license_finalize;
}

static void license_init(License *license) {
}
