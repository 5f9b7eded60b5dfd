/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "harness.h"

/*
 * What a client does. Members are "Interface.Member" without "org.licensevault1."; path NULL is the
 * root object. Arguments are types and values as sd_bus_message_append() takes them; types "" for none.
 * Errors are named "NS_E_…" for ours and by their last part for org.freedesktop.DBus.Error.
 */

#define ROOT NULL
#define _cleanup_message_ __attribute__((cleanup(sd_bus_message_unrefp)))

/* A call that must succeed. The reply lives until the caller unrefs it. */
#define call(...) call_at(__FILE__, __LINE__, __VA_ARGS__)
sd_bus_message *call_at(const char *file, int line, sd_bus *bus, const char *path, const char *member,
        const char *types, ...);
/* The same, for replies that hold nothing that is looked at. */
#define call_void(...) sd_bus_message_unref(call(__VA_ARGS__))
/* The same, for replies that begin with an s or o, or with a t. */
#define call_string(...) read_string(call(__VA_ARGS__))
#define call_uint64(...) read_uint64(call(__VA_ARGS__))
char *read_string(sd_bus_message *reply);
uint64_t read_uint64(sd_bus_message *reply);
/* The next element, an as (g_strfreev). */
char **read_strings(sd_bus_message *message);

/* A call that must fail with this error, and a message that matches: a glob, NULL for any sentence. */
#define call_error(...) call_error_at(__FILE__, __LINE__, __VA_ARGS__)
void call_error_at(const char *file, int line, sd_bus *bus, const char *path, const char *member,
        const char *error, const char *message, const char *types, ...);

/* A call whose message the test makes itself. Returns as sd_bus_call(). */
sd_bus_message *new_call(sd_bus *bus, const char *path, const char *member);
sd_bus_message *send_call(sd_bus *bus, sd_bus_message *message);
#define send_call_error(...) send_call_error_at(__FILE__, __LINE__, __VA_ARGS__)
void send_call_error_at(const char *file, int line, sd_bus *bus, sd_bus_message *message, const char *error,
        const char *message_glob);
/* Sends a call and does not wait. */
void send_only(sd_bus *bus, sd_bus_message *message);
/* Returns once the bus has given others what this connection has sent. */
void wait_for_bus(sd_bus *bus);
/*
 * The bus takes nothing and says nothing from now on, until SIGCONT. The daemon, which was stopped by SIGSTOP, does
 * what it was sent since.
 */
void hang_bus(Harness *h);

/* The next answer to a call that was sent so; NULL where none comes in time. */
sd_bus_message *receive_reply(sd_bus *bus, unsigned timeout_msec);
/* Takes n answers: all must be good, or LimitsExceeded with this sentence. Returns how many are that. */
unsigned count_refused(sd_bus *bus, unsigned n, const char *why);

/* Whether what a person reads is fit for it: a sentence, no SQL, and as the glob says (NULL: any). */
#define assert_sentence(text, glob) assert_sentence_at(__FILE__, __LINE__, text, glob)
void assert_sentence_at(const char *file, int line, const char *text, const char *glob);
/* A full error name from the short one. */
char *full_error_name(const char *error);

/*
 * An a{sv} as text by key: numbers in decimal, "true" and "false", a{st} as keys "Counters/right", an as
 * with blanks between. Reads the next element of the message.
 */
GHashTable *read_properties(sd_bus_message *message);
#define assert_property(properties, key, value) \
        assert_string_equal(g_hash_table_lookup(properties, key) ?: "(not there)", value)
#define assert_no_property(properties, key) assert_null(g_hash_table_lookup(properties, key))

/* StoreLicense of a document; the properties are appended as types and values of an a{sv}. */
#define store_license(...) store_license_at(__FILE__, __LINE__, __VA_ARGS__)
char *store_license_at(const char *file, int line, sd_bus *bus, const void *document, size_t size,
        const char *types, ...);
#define store_license_error(...) store_license_error_at(__FILE__, __LINE__, __VA_ARGS__)
void store_license_error_at(const char *file, int line, sd_bus *bus, const char *error, const char *message,
        const void *document, size_t size, const char *types, ...);
/* An opaque license of a few bytes by that id, and nothing known of it. */
void store_simple(sd_bus *bus, const char *id);
/* count licenses "<prefix>00000" and on, of size bytes each that differ from one another. */
void store_many(sd_bus *bus, const char *prefix, unsigned count, size_t size);
/* The bytes that store_many() gave a license. */
void fill_document(uint8_t *document, size_t size, uint32_t seed);
/* As fill_document(), in new memory. */
uint8_t *make_document(size_t size, uint32_t seed);
/* A Readium LCP license with this id; rights is the JSON of its rights, NULL for none. */
char *make_lcp(const char *id, const char *updated, const char *rights);

/* GetLicense or, for large ones, OpenLicense must give these bytes. Returns the properties. */
GHashTable *assert_license(sd_bus *bus, const char *id, const void *document, size_t size);

/* Asks for a license and does not wait for the answer. */
void send_get_license(sd_bus *bus, const char *id);

/* How a job ended, as Wait() and Done say it. */
typedef struct JobEnd {
        int32_t hresult;
        char *error;
        char *message;
        GHashTable *result;
} JobEnd;

void job_end_clear(JobEnd *end);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(JobEnd, job_end_clear)

/* Reads what a Done signal (from its second argument on) or a return of Wait() has. */
void read_job_end(sd_bus_message *message, JobEnd *ret);
void job_wait(sd_bus *bus, const char *job, JobEnd *ret);
/* Waits for the job, and looks at how it ended. Returns the result. */
GHashTable *assert_job_succeeds(sd_bus *bus, const char *job);
void assert_job_fails(sd_bus *bus, const char *job, const char *error, const char *message);
/* A property of a job, as text. */
char *job_property(sd_bus *bus, const char *job, const char *name);
/* Waits until a property of a job has a value. */
void job_wait_property(sd_bus *bus, const char *job, const char *name, const char *value);

/*
 * Waits for Done as a careful client does: from this sender (a unique name, the one that answered the
 * call that made the job) and of this job, whatever else says it is one. Returns whether it came in time;
 * counts in ret_forged (may be NULL) what was passed over.
 */
bool receive_done(sd_bus *bus, const char *sender, const char *job, unsigned timeout_msec, JobEnd *ret,
        unsigned *ret_forged);

/* A job that does not end: a backup to a pipe that is full at once. Close or read fds[0] to end it. */
typedef struct StuckJob {
        int fds[2];
        char *path;
} StuckJob;

void stuck_job_clear(StuckJob *stuck);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(StuckJob, stuck_job_clear)
void stuck_job_start(sd_bus *bus, StuckJob *ret);
/* Reads the pipe until the job has ended. Returns the bytes read. */
size_t stuck_job_drain(sd_bus *bus, StuckJob *stuck);
