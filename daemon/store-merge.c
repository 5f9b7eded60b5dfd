/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "license-combine.h"
#include "store-connection.h"

/*
 * The merge: one transaction, in which licenses of a restore become the store's (rules: store.h). Ids that the
 * store does not know are many, on a new machine all, and take one statement; those that it knows are
 * looked at one by one. No document moves: a row of licenses gets the key that its document has already.
 */

/* Steps of SQLite's machine between two looks whether the merge is still wanted: some milliseconds. */
#define PROGRESS_STEPS 100000

typedef struct Merge {
        StoreConnection *connection;
        int64_t restore;
        const StoreMergeEvents *events;
        StoreMerge result;

        /* Of the owner whose turn it is: what was staged, less what is known here; and what the known come to. */
        int64_t owner;
        int64_t first_key, last_key;
        int64_t n_new, new_documents, new_revoked, new_charge;
        int64_t licenses, bytes;
} Merge;

/* One id, as the backup has it and as the store has it. */
typedef struct Pair {
        int64_t their_key;
        License theirs;
        int64_t their_revocation;
        bool their_document;
        bool same_document;

        StoreRow row;
        License ours;
        int64_t our_revocation;
} Pair;

static void pair_clear(Pair *pair) {
        license_clear(&pair->theirs);
        license_clear(&pair->ours);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Pair, pair_clear)

typedef enum Outcome {
        OUTCOME_NOTHING, /* the backup has no document, and the id is not revoked */
        OUTCOME_RESTORED,
        OUTCOME_UNCHANGED,
        OUTCOME_NEWER_KEPT,
        OUTCOME_CONFLICT,
        OUTCOME_REVOKED,
} Outcome;

/*
 * An id that is staged and known: their columns as LICENSE_COLUMNS lists them, and those below. In the last one is
 * whether nothing at all is to be done, which is how it is with most when one's own backup comes back.
 */
static const char known_ids[] =
        "SELECT s.id, d.key_id, d.title, d.issuer, d.media_type, d.not_before, d.not_after, s.allow_backup, "
        "d.extension, d.document_date, d.digest, d.size, s.generation, "
        "s.key, s.revoked, d.key IS NOT NULL, coalesce(d.charge, s.charge), "
        "l.present AND substr(d.digest, 1, 32) IS substr(l.digest, 1, 32) AND d.size IS l.size "
        "AND s.revoked IS NULL "
        "AND s.generation <= l.generation AND s.allow_backup >= l.allow_backup "
        "AND d.key_id IS l.key_id AND d.title IS l.title AND d.issuer IS l.issuer AND d.media_type IS l.media_type "
        "AND d.document_date IS l.document_date AND d.not_before IS l.not_before AND d.not_after IS l.not_after "
        "AND NOT EXISTS ("
        "SELECT 1 FROM counters AS c LEFT JOIN counters AS k ON k.key = l.key AND k.name = c.name "
        "WHERE c.key = s.key AND (k.key IS NULL OR k.remaining > c.remaining)) "
        "FROM staged_ids AS s CROSS JOIN licenses AS l ON l.owner = s.owner AND l.id = s.id "
        "LEFT JOIN staged_licenses AS d ON d.key = s.key "
        "WHERE s.key BETWEEN ? AND ? AND +s.restore = ? ORDER BY s.key";

enum {
        COLUMN_KEY = N_LICENSE_COLUMNS,
        COLUMN_REVOKED,
        COLUMN_DOCUMENT,
        COLUMN_CHARGE,
        COLUMN_SAME,
};

/* The store's side of a pair whose other side is read. */
static int read_ours(StoreConnection *connection, int64_t owner, Pair *pair, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r;

        statement = store_statement(connection,
                "SELECT " LICENSE_COLUMNS ", l.key, l.revoked, l.present, l.charge FROM licenses AS l "
                "WHERE l.owner = ? AND l.id = ?", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, owner);
        statement_bind_text(statement, 2, pair->theirs.id);
        if (statement_row(connection, statement, error) < 0 ||
            license_from_row(statement, 0, &pair->ours, error) != 0)
                return (int)error->code;

        pair->our_revocation = statement_time(statement, N_LICENSE_COLUMNS + 1);
        pair->row = (StoreRow) {
                .key = sqlite3_column_int64(statement, N_LICENSE_COLUMNS),
                .generation = pair->ours.generation,
                .present = sqlite3_column_int(statement, N_LICENSE_COLUMNS + 2),
                .revoked = pair->our_revocation != LICENSE_NO_TIME,
                .charge = (uint64_t)sqlite3_column_int64(statement, N_LICENSE_COLUMNS + 3),
        };
        r = store_row_load_counters(connection, pair->row.key, &pair->ours, error);
        if (r != 0)
                return r;
        if (pair->row.present) {
                store_row_judge(&pair->ours, pair->row.revoked);
                pair->our_revocation = LICENSE_NO_TIME;
                pair->row.revoked = false;
        }
        return 0;
}

/* Both sides of the id that the statement stands on. */
static int read_pair(StoreConnection *connection, int64_t owner, sqlite3_stmt *statement, Pair *pair,
                Error *error) {
        int r;

        pair->their_key = sqlite3_column_int64(statement, COLUMN_KEY);
        pair->their_revocation = statement_time(statement, COLUMN_REVOKED);
        pair->their_document = sqlite3_column_int(statement, COLUMN_DOCUMENT);
        if ((r = license_from_row(statement, 0, &pair->theirs, error)) != 0 ||
            (r = store_row_load_counters(connection, pair->their_key, &pair->theirs, error)) != 0)
                return r;
        if (pair->their_document) {
                store_row_judge(&pair->theirs, pair->their_revocation != LICENSE_NO_TIME);
                pair->their_revocation = LICENSE_NO_TIME;
        }
        return read_ours(connection, owner, pair, error);
}

static bool later_than(int64_t a, int64_t b) {
        return a != LICENSE_NO_DATE && b != LICENSE_NO_DATE && a > b;
}

static bool is_rotten(const License *license) {
        return license->soundness == LICENSE_ROTTEN;
}

static Outcome decide(const StoreMergeEvents *events, const Pair *pair) {
        const License *ours = &pair->ours, *theirs = &pair->theirs;

        if ((events->of_another && pair->row.present && pair->their_revocation != LICENSE_NO_TIME) ||
            (events->only_copy && pair->row.revoked && pair->their_document))
                return OUTCOME_CONFLICT;
        if (pair->row.revoked || pair->their_revocation != LICENSE_NO_TIME)
                return OUTCOME_REVOKED;
        if (!pair->their_document)
                return OUTCOME_NOTHING;
        if (!pair->row.present)
                return OUTCOME_RESTORED;
        if (pair->same_document)
                return OUTCOME_UNCHANGED;
        /* The date of one that is damaged says nothing. */
        if (is_rotten(ours) || is_rotten(theirs))
                return OUTCOME_CONFLICT;
        if (later_than(theirs->document_date, ours->document_date))
                return OUTCOME_RESTORED;
        if (later_than(ours->document_date, theirs->document_date))
                return OUTCOME_NEWER_KEPT;
        return OUTCOME_CONFLICT;
}

/* Puts the document of the backup in the place of ours, whose row takes over the key of that document. */
static int replace(StoreConnection *connection, int64_t owner, Pair *pair, uint64_t charge, Error *error) {
        int r;

        /* Their license has the low marks of both by now. */
        if ((r = store_run_for_key(connection, "DELETE FROM counters WHERE key = ?", pair->row.key, error)) != 0 ||
            (r = store_run_for_key(connection, "DELETE FROM documents WHERE key = ?", pair->row.key, error)) != 0 ||
            (r = store_run_for_key(connection, "DELETE FROM licenses WHERE key = ?", pair->row.key, error)) != 0 ||
            (r = store_row_write(connection, pair->their_key, owner, &pair->theirs, charge, error)) != 0)
                return r;
        return store_row_write_counters(connection, pair->their_key, &pair->theirs, error);
}

/* Writes what stays of a row without a document: its low marks. */
static int write_marks(StoreConnection *connection, int64_t key, const License *license, int64_t revoked,
                uint64_t charge, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r;

        statement = store_statement(connection,
                "UPDATE licenses SET generation = ?, allow_backup = ?, revoked = ?, charge = ? WHERE key = ?", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, (int64_t)license->generation);
        sqlite3_bind_int(statement, 2, license->allow_backup);
        statement_bind_time(statement, 3, revoked);
        sqlite3_bind_int64(statement, 4, (int64_t)charge);
        sqlite3_bind_int64(statement, 5, key);
        r = statement_write(connection, statement, error);
        return r != 0 ? r : store_row_write_counters(connection, key, license, error);
}

/* Theirs becomes the store's, with the low marks of both. */
static int take_theirs(Merge *merge, Pair *pair, Error *error) {
        bool changed = false;
        uint64_t charge;
        int r;

        r = license_keep_low_marks(&pair->theirs, &pair->ours, &changed, error);
        if (r != 0)
                return r;
        charge = store_charge_license(&pair->theirs);
        merge->licenses += !pair->row.present;
        merge->bytes += (int64_t)charge - (int64_t)pair->row.charge;
        return replace(merge->connection, merge->owner, pair, charge, error);
}

/* What is revoked on one side is gone on ours, since the earlier of the two times. */
static int bury(Merge *merge, Pair *pair, bool *ret_changed, Error *error) {
        int r;

        if (pair->our_revocation == LICENSE_NO_TIME ||
            (pair->their_revocation != LICENSE_NO_TIME && pair->their_revocation < pair->our_revocation)) {
                pair->our_revocation = pair->their_revocation;
                *ret_changed = true;
        }
        if (!pair->row.present)
                return 0;
        r = store_row_forget(merge->connection, merge->owner, &pair->row, pair->theirs.id, error);
        if (r != 0)
                return r;
        pair->row.present = false;
        pair->row.charge = store_charge_remembered(pair->theirs.id, pair->ours.counters);
        return 0;
}

static int write_ours(Merge *merge, const Pair *pair, Error *error) {
        StoreConnection *connection = merge->connection;
        uint64_t charge = pair->row.present ? store_charge_license(&pair->ours) :
                                              store_charge_remembered(pair->ours.id, pair->ours.counters);
        int r;

        merge->bytes += (int64_t)charge - (int64_t)pair->row.charge;
        if (!pair->row.present)
                return write_marks(connection, pair->row.key, &pair->ours, pair->our_revocation, charge, error);
        r = store_row_write(connection, pair->row.key, merge->owner, &pair->ours, charge, error);
        return r != 0 ? r : store_row_write_counters(connection, pair->row.key, &pair->ours, error);
}

/* Does what was decided, which may become a conflict by that, and counts how the owner's use changes. */
static int settle(Merge *merge, Pair *pair, Outcome *outcome, Error *error) {
        bool changed = false, has_room = license_has_room_for_marks(&pair->ours, &pair->theirs);
        int r = 0;

        /* A mark that is left out would bring a right back; and one such id is not to keep back all others. */
        if (!has_room && *outcome != OUTCOME_REVOKED) {
                *outcome = OUTCOME_CONFLICT;
                return 0;
        }
        if (*outcome == OUTCOME_RESTORED)
                return take_theirs(merge, pair, error);
        if (*outcome == OUTCOME_REVOKED)
                r = bury(merge, pair, &changed, error);
        /* What is rotten there must not spoil what is whole here. */
        if (r != 0 || is_rotten(&pair->theirs))
                return r;

        /* What is revoked never comes back: it needs none. */
        r = has_room ? license_keep_low_marks(&pair->ours, &pair->theirs, &changed, error) : 0;
        if (r != 0)
                return r;
        if (*outcome == OUTCOME_UNCHANGED) {
                if (!license_combine(&pair->ours, &pair->theirs, &changed))
                        *outcome = OUTCOME_CONFLICT;
                /* What nobody has proved there is not proved by being here. */
                if (changed && pair->theirs.soundness == LICENSE_UNSEALED && !is_rotten(&pair->ours))
                        pair->ours.soundness = LICENSE_UNSEALED;
        }
        return changed ? write_ours(merge, pair, error) : 0;
}

static bool may_repair(const Merge *merge, int64_t their_key) {
        const StoreMergeEvents *events = merge->events;

        return events->may_repair && events->may_repair(their_key, events->userdata);
}

/*
 * Of one document: where ours is damaged, and theirs is not, theirs takes its place; with it goes the row, where that
 * is damaged: *outcome says so then. Of a reassigned owner theirs may be the damaged one.
 */
static int repair(StoreConnection *connection, const Pair *pair, bool differ, Outcome *outcome, bool *ret_repaired,
                Error *error) {
        const bool with_row = !is_rotten(&pair->theirs) &&
                (is_rotten(&pair->ours) || !license_has_document(&pair->ours, &pair->theirs));
        bool whole = false;
        int r;

        if (!differ && !with_row)
                return 0;
        r = store_document_check(connection, pair->their_key, &pair->theirs, &whole, error);
        if (r != 0 || !whole)
                return r;
        if (with_row) {
                *outcome = OUTCOME_RESTORED;
                return 0;
        }
        *ret_repaired = true;
        return store_document_move(connection, pair->their_key, pair->row.key, error);
}

/* Of two documents the newer one stays; but of the only copies not, where it is damaged and the older is whole. */
static int check_newer(StoreConnection *connection, const Pair *pair, Outcome *outcome, Error *error) {
        bool ours = false, theirs = false;
        int r;

        if ((r = store_document_check(connection, pair->row.key, &pair->ours, &ours, error)) != 0 ||
            (r = store_document_check(connection, pair->their_key, &pair->theirs, &theirs, error)) != 0)
                return r;
        if (ours != theirs && ours == (*outcome == OUTCOME_RESTORED))
                *outcome = OUTCOME_CONFLICT;
        return 0;
}

/* What is to become of the id, with a look at both documents where one may be damaged (doubted). */
static int find_outcome(Merge *merge, Pair *pair, bool doubted, Outcome *ret, bool *ret_repaired, Error *error) {
        bool differ = false;
        int r;

        pair->same_document = license_has_document(&pair->ours, &pair->theirs);
        doubted = doubted && pair->their_document && pair->row.present;
        if (doubted) {
                r = store_documents_differ(merge->connection, pair->their_key, pair->row.key, &differ, error);
                if (r != 0)
                        return r;
                pair->same_document = pair->same_document || !differ;
        }
        *ret = decide(merge->events, pair);
        if (doubted && *ret == OUTCOME_UNCHANGED)
                return repair(merge->connection, pair, differ, ret, ret_repaired, error);
        if (doubted && merge->events->only_copy && (*ret == OUTCOME_RESTORED || *ret == OUTCOME_NEWER_KEPT))
                return check_newer(merge->connection, pair, ret, error);
        return 0;
}

static int merge_known(Merge *merge, sqlite3_stmt *statement, Error *error) {
        const StoreMergeEvents *events = merge->events;
        bool doubted = may_repair(merge, sqlite3_column_int64(statement, COLUMN_KEY)), repaired = false;
        g_auto(Pair) pair = {};
        Outcome outcome;
        int r;

        merge->n_new--;
        merge->new_documents -= sqlite3_column_int64(statement, COLUMN_DOCUMENT);
        merge->new_revoked -= statement_time(statement, COLUMN_REVOKED) != LICENSE_NO_TIME;
        merge->new_charge -= sqlite3_column_int64(statement, COLUMN_CHARGE);
        if (sqlite3_column_int(statement, COLUMN_SAME) && !doubted) {
                merge->result.unchanged++;
                return 0;
        }

        license_init(&pair.theirs);
        license_init(&pair.ours);
        r = read_pair(merge->connection, merge->owner, statement, &pair, error);
        if (r != 0)
                return r;
        if ((r = find_outcome(merge, &pair, doubted, &outcome, &repaired, error)) != 0 ||
            (r = settle(merge, &pair, &outcome, error)) != 0)
                return r;
        if (repaired && outcome == OUTCOME_UNCHANGED)
                outcome = OUTCOME_RESTORED;

        switch (outcome) {
        case OUTCOME_NOTHING:
                break;
        case OUTCOME_RESTORED:
                merge->result.restored++;
                break;
        case OUTCOME_UNCHANGED:
                merge->result.unchanged++;
                break;
        case OUTCOME_NEWER_KEPT:
                merge->result.newer_kept++;
                break;
        case OUTCOME_CONFLICT:
                merge->result.conflicts++;
                return events->conflict(pair.ours.id, pair.ours.key_id, pair.ours.title, events->userdata, error);
        case OUTCOME_REVOKED:
                /* Of what the backup has a document or a tombstone of; a low mark alone is nothing to bring back. */
                merge->result.revoked += pair.their_document || pair.their_revocation != LICENSE_NO_TIME;
                break;
        }
        return 0;
}

/* A statement over what was staged for the owner, in the order of its keys. */
static sqlite3_stmt *staged_statement(const Merge *merge, const char *sql, Error *error) {
        sqlite3_stmt *statement = store_statement(merge->connection, sql, error);

        if (statement) {
                sqlite3_bind_int64(statement, 1, merge->first_key);
                sqlite3_bind_int64(statement, 2, merge->last_key);
                sqlite3_bind_int64(statement, 3, merge->restore);
        }
        return statement;
}

/* All that was staged counts as new, until it is found to be known. */
static int sum_up(Merge *merge, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;

        statement = staged_statement(merge,
                "SELECT count(*), count(d.key), count(s.revoked), sum(coalesce(d.charge, s.charge)) "
                "FROM staged_ids AS s LEFT JOIN staged_licenses AS d ON d.key = s.key "
                "WHERE s.key BETWEEN ? AND ? AND +s.restore = ?", error);
        if (!statement || statement_row(merge->connection, statement, error) < 0)
                return (int)error->code;
        merge->n_new = sqlite3_column_int64(statement, 0);
        merge->new_documents = sqlite3_column_int64(statement, 1);
        merge->new_revoked = sqlite3_column_int64(statement, 2);
        merge->new_charge = sqlite3_column_int64(statement, 3);
        merge->licenses = merge->bytes = 0;
        return 0;
}

static int merge_all_known(Merge *merge, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r;

        /* What the loop changes in licenses is the row that the statement stands on, and rows that it is past. */
        statement = staged_statement(merge, known_ids, error);
        if (!statement)
                return (int)error->code;
        while ((r = statement_row(merge->connection, statement, error)) > 0) {
                r = merge_known(merge, statement, error);
                if (r != 0)
                        return r;
        }
        return r < 0 ? (int)error->code : 0;
}

/*
 * Adds all ids that are not known: what is known is ignored. (A statement that could fail in the middle would make
 * SQLite keep in memory what it may have to put back, and one that asks for what is known would keep all its rows.)
 */
static int add_new(Merge *merge, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;

        statement = staged_statement(merge,
                "INSERT OR IGNORE INTO licenses (key, owner, id, generation, present, revoked, allow_backup, key_id, "
                "title, issuer, media_type, not_before, not_after, extension, document_date, digest, size, charge) "
                "SELECT s.key, s.owner, s.id, s.generation, d.key IS NOT NULL, s.revoked, s.allow_backup, d.key_id, "
                "d.title, d.issuer, d.media_type, d.not_before, d.not_after, d.extension, d.document_date, d.digest, "
                "d.size, coalesce(d.charge, s.charge) "
                "FROM staged_ids AS s LEFT JOIN staged_licenses AS d ON d.key = s.key "
                "WHERE s.key BETWEEN ? AND ? AND +s.restore = ? ORDER BY s.key", error);
        return statement ? statement_write(merge->connection, statement, error) : (int)error->code;
}

/* Charges the owner with what the merge gave it, and sees to the limits once more: the store went on meanwhile. */
static int charge_owner(Merge *merge, const StoreUse *use, Error *error) {
        int64_t licenses = merge->new_documents + merge->licenses, bytes = merge->new_charge + merge->bytes;
        const StoreUse more = {
                .licenses = (uint64_t)MAX(licenses, 0),
                .remembered = (uint64_t)merge->n_new,
                .bytes = (uint64_t)MAX(bytes, 0),
        };
        int r;

        merge->result.restored += (uint64_t)merge->new_documents;
        merge->result.revoked += (uint64_t)merge->new_revoked;
        r = store_check_use(merge->connection, use, &more, error);
        return r != 0 ? r : store_owner_add(merge->connection, merge->owner, licenses, merge->n_new, bytes,
                                    error);
}

static int merge_owner(Merge *merge, int64_t owner, Error *error) {
        StoreUse use = {};
        int r;

        merge->owner = owner;
        merge->first_key = store_key_first(owner);
        merge->last_key = store_key_last(owner);

        if ((r = sum_up(merge, error)) != 0 ||
            (r = store_owner_use(merge->connection, owner, &use, error)) != 0 ||
            (use.remembered > 0 && (r = merge_all_known(merge, error)) != 0) ||
            (merge->n_new > 0 && (r = add_new(merge, error)) != 0) ||
            /* Tombstones have changed it. */
            (r = store_owner_use(merge->connection, owner, &use, error)) != 0)
                return r;
        return charge_owner(merge, &use, error);
}

static int next_owner(Merge *merge, int64_t after, int64_t *ret, Error *error) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;

        statement = store_statement(merge->connection,
                "SELECT min(owner) FROM staged_ids WHERE restore = ? AND owner > ?", error);
        if (!statement)
                return (int)error->code;
        sqlite3_bind_int64(statement, 1, merge->restore);
        sqlite3_bind_int64(statement, 2, after);
        if (statement_row(merge->connection, statement, error) < 0)
                return (int)error->code;
        *ret = sqlite3_column_int64(statement, 0);
        return 0;
}

static int merge_owners(Merge *merge, Error *error) {
        int64_t first = 0, owner, next = 0;
        int r;

        r = next_owner(merge, 0, &first, error);
        for (owner = first; r == 0 && owner != 0; owner = next) {
                r = next_owner(merge, owner, &next, error);
                if (r != 0)
                        break;
                r = merge_owner(merge, owner, error);
                if (r == ERROR_LIMIT_EXCEEDED && (owner != first || next != 0))
                        store_owner_name_error(merge->connection, owner, error);
        }
        return r;
}

static int on_progress(void *userdata) {
        const StoreMergeEvents *events = userdata;

        return events->is_unwanted && events->is_unwanted(events->userdata);
}

int store_merge(StoreConnection *connection, int64_t restore, const StoreMergeEvents *events, StoreMerge *ret,
        Error *error) {
        Merge merge = { .connection = connection, .restore = restore, .events = events };
        int r;

        r = store_check_staging(connection, error);
        if (r != 0)
                return r;

        sqlite3_progress_handler(connection->db, PROGRESS_STEPS, on_progress, (void *)events);
        r = merge_owners(&merge, error);
        sqlite3_progress_handler(connection->db, 0, NULL, NULL);
        if (r == 0)
                r = store_check_merged(connection, error);
        if (r == 0)
                *ret = merge.result;
        return r;
}
