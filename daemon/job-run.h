/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "job.h"

/* What job-run.c, a job's way from its call through its thread, and job.c, its end, have of each other. */

/* Lets those begin that wait and have a place now. */
void job_schedule(Manager *manager);

/*
 * Leaves the worker to itself, if there is one. It ends at once where it only waits to be told to go on; where it may
 * hang in the system, it keeps its place until it ends.
 */
void job_leave_worker(Job *job, bool may_hang);

/* Tells that there is so much to do, once. */
void job_begin(Job *job, uint64_t total);

/*
 * The one end of every job. error is moved; without one the job is done. The worker has finished or was abandoned. The
 * job may be freed.
 */
void job_finish(Job *job, Error *error);

/*
 * A file that blocks whoever works on it, such as one on FUSE, or a disk of the network: the job ends. Returns whether
 * it has; else it will.
 */
bool job_give_up(Job *job);
