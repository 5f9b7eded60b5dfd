/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "license-combine.h"

#include <string.h>

bool license_has_room_for_marks(const License *license, const License *other) {
        unsigned n = license->counters->len;

        for (unsigned i = 0; i < other->counters->len; i++) {
                const Counter *counter = &g_array_index(other->counters, Counter, i);

                n += license_counter_is_valid(counter) && !license_find_counter(license, counter->right);
        }
        return n <= LICENSE_COUNTERS_MAX;
}

int license_keep_low_marks(License *license, const License *other, bool *ret_changed, Error *error) {
        for (unsigned i = 0; i < other->counters->len; i++) {
                const Counter *counter = &g_array_index(other->counters, Counter, i);
                const Counter *known = license_find_counter(license, counter->right);

                if ((known && known->remaining <= counter->remaining) || !license_counter_is_valid(counter))
                        continue;
                *ret_changed = true;
                if (license_limit_counter(license, counter->right, counter->remaining) == LICENSE_COUNTERS_FULL)
                        return error_set(error, ERROR_STORE_WRITE, "License '%s' has no room for more counters.",
                                license->id);
        }
        if (other->generation > license->generation && other->generation <= INT64_MAX) {
                license->generation = other->generation;
                *ret_changed = true;
        }
        /* Who has lost a license to a bit that says so has lost it for good: the backup had it. */
        if (license->allow_backup && !other->allow_backup && other->soundness != LICENSE_ROTTEN) {
                license->allow_backup = false;
                *ret_changed = true;
        }
        return 0;
}

/* Takes a text that is missing. *ret_conflict is set where both have one and they differ. */
static void take_text(char **ours, char **theirs, bool *ret_changed, bool *ret_conflict) {
        if (*ours && *theirs)
                *ret_conflict = *ret_conflict || strcmp(*ours, *theirs) != 0;
        else if (*theirs) {
                *ours = g_steal_pointer(theirs);
                *ret_changed = true;
        }
}

/* A text that the document says itself, which was not known to be one of its kind here. */
static void yield_text(char **ours, char **theirs, bool *ret_conflict) {
        *ret_conflict = *ret_conflict || (*ours && *theirs && strcmp(*ours, *theirs) != 0);
        if (*theirs) {
                g_free(*ours);
                *ours = g_steal_pointer(theirs);
        }
}

bool license_combine(License *ours, License *theirs, bool *ret_changed) {
        bool conflict = false;

        /* Who stored it there said what kind it is, and so it was recognised; here it was not. */
        if (ours->document_date == LICENSE_NO_DATE && theirs->document_date != LICENSE_NO_DATE) {
                ours->document_date = theirs->document_date;
                ours->extension = theirs->extension;
                yield_text(&ours->title, &theirs->title, &conflict);
                yield_text(&ours->issuer, &theirs->issuer, &conflict);
                yield_text(&ours->media_type, &theirs->media_type, &conflict);
                *ret_changed = true;
        }
        take_text(&ours->key_id, &theirs->key_id, ret_changed, &conflict);
        take_text(&ours->title, &theirs->title, ret_changed, &conflict);
        take_text(&ours->issuer, &theirs->issuer, ret_changed, &conflict);
        take_text(&ours->media_type, &theirs->media_type, ret_changed, &conflict);
        if (theirs->not_before != LICENSE_NO_TIME && theirs->not_before > ours->not_before) {
                ours->not_before = theirs->not_before;
                *ret_changed = true;
        }
        if (theirs->not_after != LICENSE_NO_TIME &&
            (ours->not_after == LICENSE_NO_TIME || theirs->not_after < ours->not_after)) {
                ours->not_after = theirs->not_after;
                *ret_changed = true;
        }
        return !conflict;
}
