/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "error.h"
#include "license.h"

/* A license that is known in two places, ours and a backup's: what is said of it there and here, put together. */

/* Whether a license can have the low marks of both sides, each of another right. */
bool license_has_room_for_marks(const License *license, const License *other);

/*
 * Lays the low marks of one side over the license that stays. *ret_changed is set where that changed it.
 * ERROR_STORE_WRITE where it has no room for them.
 */
int license_keep_low_marks(License *license, const License *other, bool *ret_changed, Error *error);

/*
 * Of the same document, what was said of it here and there: the narrower stays, in ours; theirs is used up.
 * *ret_changed is set where that changed ours. False where both say something, and nothing says which is right: what
 * was ours stays, but for what the document says itself.
 */
bool license_combine(License *ours, License *theirs, bool *ret_changed);
