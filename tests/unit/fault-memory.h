/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Makes the small allocations of fault-sqlite.h fail as it says, those of SQLite aside. Before anything else. */
void fault_memory_install(void);
