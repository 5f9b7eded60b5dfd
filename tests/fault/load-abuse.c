/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "load-abuse.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client.h"
#include "raw.h"

#define TICK_NSEC (5L * 1000 * 1000)
/*
 * dbus-daemon lets a connection wait for 128 answers, and refuses and logs each call beyond them: then its log is what
 * is pressed, and not the service. Who reads waits below that; who never does comes again as a new connection.
 */
#define WAITING_MAX 100U
/* And it refuses all calls of everybody where more than 64 descriptors wait for a service to take them. */
#define WAITING_PIPES_MAX 2U
/* Not so many for all, or those who never read came again at one moment, and all calls that were due behind it. */
#define WAITING_SPREAD 32U
#define LARGE (60U * 1024U)
/* Half a message stays so long, in ticks. */
#define HALF_TICKS 400U
#define CALLS_MAX 4U

/* The end of what the bus says before the first message. */
#define GREETING "AGREE_UNIX_FD\r\n"

#define SERVICE "org.licensevault1"
#define OURS(interface) SERVICE "." interface

/* A call ready to be sent, but for its serial. */
typedef struct Call {
        GByteArray *bytes;
        bool pipe; /* one goes with it */
} Call;

typedef struct Connection {
        int fd;
        uid_t uid;
        Abuse abuse;
        uint32_t serial;
        unsigned next;       /* of its kind's calls */
        unsigned waiting, waiting_max; /* answers */
        unsigned age;        /* ticks */
        GByteArray *out;     /* what the socket has not taken */
        size_t n_greeting;   /* characters of GREETING that came; before its end no message does */
        uint8_t head[16];    /* of a message that comes in */
        size_t n_head, skip;
} Connection;

typedef struct Abuser {
        const char *address;
        const AbusePlan *plan;
        AbuseCounts *counts;
        Connection *connections;
        Call calls[ABUSE_BUS_ITSELF + 1][CALLS_MAX];
        int pipe_fd;         /* the end that is written to; nobody reads the other */
} Abuser;

static bool reads(Abuse abuse) {
        return abuse != ABUSE_GET_UNREAD && abuse != ABUSE_SUBSCRIBE_UNREAD && abuse != ABUSE_INTROSPECT_UNREAD &&
                abuse != ABUSE_HALF;
}

/* What is called */

static void add_call(Abuser *abuser, Abuse abuse, const char *interface, const char *member, const char *signature,
        const GByteArray *body, uint8_t flags) {
        for (unsigned i = 0; i < CALLS_MAX; i++) {
                Call *call = &abuser->calls[abuse][i];
                bool bus = abuse == ABUSE_BUS_ITSELF;

                if (call->bytes)
                        continue;
                call->bytes = g_byte_array_new();
                call->pipe = strchr(signature, 'h') != NULL;
                raw_add_call(call->bytes, 1, flags, bus ? "org.freedesktop.DBus" : SERVICE,
                        bus ? "/org/freedesktop/DBus" : "/org/licensevault1", interface, member, signature, body);
                return;
        }
        g_assert_not_reached();
}

static GByteArray *text_body(const char *first, const char *second) {
        GByteArray *body = g_byte_array_new();

        raw_add_string(body, first);
        if (second) { /* a variant */
                g_byte_array_append(body, (const uint8_t *)"\1s", 3);
                raw_add_string(body, second);
        }
        return body;
}

/* ay document, a{sv} properties. */
static GByteArray *store_body(const char *id, unsigned n_more) {
        GByteArray *body = g_byte_array_new(), *dictionary = g_byte_array_new();

        raw_add_number(body, 8);
        g_byte_array_append(body, (const uint8_t *)"document", 8);
        for (unsigned i = 0; i <= n_more; i++) {
                g_autofree char *key = i == 0 ? g_strdup("LicenseId") : g_strdup_printf("Key%u", i);

                g_byte_array_append(dictionary, (const uint8_t[7]) {}, -dictionary->len % 8);
                raw_add_string(dictionary, key);
                g_byte_array_append(dictionary, (const uint8_t *)"\1s", 3);
                raw_add_string(dictionary, id);
        }
        raw_add_number(body, dictionary->len);
        g_byte_array_append(body, (const uint8_t[7]) {}, -body->len % 8);
        g_byte_array_append(body, dictionary->data, dictionary->len);
        g_byte_array_unref(dictionary);
        return body;
}

static void make_calls(Abuser *abuser) {
        g_autoptr(GByteArray) small = text_body("small", NULL), large = text_body("large", NULL),
                one = g_byte_array_new(), file = g_byte_array_new(), dictionary = store_body("dictionary", 1000),
                store = store_body("stored", 0), stored = text_body("stored", NULL);
        g_autofree char *value = g_strnfill(4000, '/');
        g_autoptr(GByteArray) path = text_body("BackupPath", value), other = text_body("Other", "x");

        raw_add_number(one, 1);
        /* The descriptor by its place, no flags, no options; an empty a{sv} begins at a multiple of 8, too. */
        raw_add_number(file, 0);
        raw_add_number(file, 0);
        raw_add_number(file, 0);
        g_byte_array_append(file, (const uint8_t[4]) {}, 4);

        add_call(abuser, ABUSE_GET, OURS("LicenseStore"), "GetLicense", "s", small, 0);
        add_call(abuser, ABUSE_GET_UNREAD, OURS("LicenseStore"), "GetLicense", "s", large, 0);
        add_call(abuser, ABUSE_SUBSCRIBE_UNREAD, OURS("Manager"), "Subscribe", "", NULL, 0);
        add_call(abuser, ABUSE_SUBSCRIBE_UNREAD, OURS("LicenseBackup"), "BackupLicenses", "u", one, 0);
        add_call(abuser, ABUSE_SUBSCRIBE_UNREAD, OURS("Manager"), "ListJobs", "", NULL, 0);
        add_call(abuser, ABUSE_SUBSCRIBE_UNREAD, OURS("Manager"), "Unsubscribe", "", NULL, 0);
        add_call(abuser, ABUSE_JOBS, OURS("LicenseBackup"), "BackupLicenses", "u", one, 0);
        add_call(abuser, ABUSE_JOBS, OURS("Manager"), "ListJobs", "", NULL, 0);
        add_call(abuser, ABUSE_JOBS, OURS("LicenseBackup"), "CancelLicenseBackup", "", NULL, 0);
        add_call(abuser, ABUSE_PIPES, OURS("LicenseBackup"), "BackupLicensesToFile", "hua{sv}", file, 0);
        add_call(abuser, ABUSE_PROPERTIES, OURS("BackupRestoreProps"), "SetProp", "sv", path, 0);
        add_call(abuser, ABUSE_PROPERTIES, OURS("BackupRestoreProps"), "SetProp", "sv", other, 0);
        add_call(abuser, ABUSE_PROPERTIES, OURS("BackupRestoreProps"), "RemoveAllProps", "", NULL, 0);
        add_call(abuser, ABUSE_DICTIONARY, OURS("LicenseStore"), "StoreLicense", "aya{sv}", dictionary, 0);
        add_call(abuser, ABUSE_STORE, OURS("LicenseStore"), "StoreLicense", "aya{sv}", store, 0);
        add_call(abuser, ABUSE_STORE, OURS("LicenseStore"), "DeleteLicense", "s", stored, 0);
        add_call(abuser, ABUSE_HALF, OURS("LicenseStore"), "StoreLicense", "aya{sv}", dictionary, 0);
        add_call(abuser, ABUSE_INTROSPECT_UNREAD, "org.freedesktop.DBus.Introspectable", "Introspect", "", NULL, 0);
        add_call(abuser, ABUSE_NO_REPLY, OURS("LicenseStore"), "GetLicense", "s", small, 1);
        add_call(abuser, ABUSE_PING, "org.freedesktop.DBus.Peer", "Ping", "", NULL, 0);
        add_call(abuser, ABUSE_BUS_ITSELF, "org.freedesktop.DBus", "GetId", "", NULL, 0);
}

/* Coming in */

static void take_message(Abuser *abuser, Connection *connection) {
        enum { METHOD_RETURN = 2, ERROR = 3 };
        uint8_t type = connection->head[1];

        if (type == METHOD_RETURN || type == ERROR) {
                (*(type == ERROR ? &abuser->counts->refused : &abuser->counts->answered))++;
                if (connection->waiting > 0)
                        connection->waiting--;
        }
}

static uint32_t number_at(const uint8_t *p) {
        return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static bool is_greeted(const Connection *connection) {
        return connection->n_greeting == strlen(GREETING);
}

static void take_bytes(Abuser *abuser, Connection *connection, const uint8_t *data, size_t size) {
        for (; size > 0 && !is_greeted(connection); data++, size--)
                connection->n_greeting = *data == GREETING[connection->n_greeting] ? connection->n_greeting + 1 :
                        *data == *GREETING;
        while (size > 0) {
                size_t n = MIN(size, connection->skip > 0 ? connection->skip : 16 - connection->n_head);

                if (connection->skip > 0)
                        connection->skip -= n;
                else {
                        memcpy(connection->head + connection->n_head, data, n);
                        connection->n_head += n;
                        if (connection->n_head == 16) {
                                connection->skip = (number_at(connection->head + 12) + 7U) / 8U * 8U +
                                        number_at(connection->head + 4);
                                connection->n_head = 0;
                                take_message(abuser, connection);
                        }
                }
                data += n;
                size -= n;
        }
}

/* Connections */

/* Says who it is. Calls may follow at once: nobody waits here for the bus, which all others would wait for, too. */
static bool join(Abuser *abuser, Connection *connection) {
        g_autoptr(GByteArray) hello = g_byte_array_new();

        connection->fd = raw_connect(abuser->address, connection->uid);
        if (connection->fd < 0)
                return false;
        raw_add_hello(hello, connection->uid);
        if (send(connection->fd, hello->data, hello->len, MSG_NOSIGNAL) != (ssize_t)hello->len)
                return false;
        /* The kernel forgets it with each change of who we are. */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        connection->serial = 1;
        connection->waiting = 1;
        connection->n_greeting = connection->n_head = connection->skip = 0;
        g_byte_array_set_size(connection->out, 0);
        return true;
}

/* The first time: the bus must let it in. */
static bool wait_until_greeted(Abuser *abuser, Connection *connection) {
        while (!is_greeted(connection)) {
                struct pollfd wait = { .fd = connection->fd, .events = POLLIN };
                uint8_t byte;

                if (poll(&wait, 1, PATIENCE_SEC * 1000) <= 0 || recv(connection->fd, &byte, 1, 0) != 1)
                        return false;
                take_bytes(abuser, connection, &byte, 1);
        }
        return true;
}

static void join_again(Abuser *abuser, Connection *connection) {
        if (connection->fd >= 0)
                close(connection->fd);
        abuser->counts->reconnected++;
        (void)join(abuser, connection);
}

static void flush(Abuser *abuser, Connection *connection) {
        ssize_t n;

        if (connection->out->len == 0 || connection->fd < 0)
                return;
        n = send(connection->fd, connection->out->data, connection->out->len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0)
                g_byte_array_remove_range(connection->out, 0, (guint)n);
        else if (n < 0 && errno != EAGAIN)
                join_again(abuser, connection);
}

/* A message that a descriptor goes with is sent whole, or not at all. */
static bool send_with_pipe(const Abuser *abuser, const Connection *connection, const Call *call) {
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int))];
        } control = { .header = { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
                              .cmsg_len = CMSG_LEN(sizeof(int)) } };
        struct iovec content = { .iov_base = call->bytes->data, .iov_len = call->bytes->len };
        const struct msghdr message = { .msg_iov = &content, .msg_iovlen = 1, .msg_control = &control,
                .msg_controllen = sizeof control };

        memcpy(CMSG_DATA(&control.header), &abuser->pipe_fd, sizeof(int));
        return sendmsg(connection->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)call->bytes->len;
}

/* One call that is due. Counted as sent where it went into what the socket takes. */
static void call_once(Abuser *abuser, Connection *connection) {
        const Call *calls = abuser->calls[connection->abuse], *call;
        bool waits = connection->abuse != ABUSE_NO_REPLY && connection->abuse != ABUSE_HALF;

        abuser->counts->offered++;
        if (waits && connection->waiting >= connection->waiting_max) {
                if (!reads(connection->abuse) && abuser->plan->rate > 0)
                        join_again(abuser, connection);
                else if (reads(connection->abuse))
                        return;
        }
        if (connection->fd < 0 || connection->out->len > 0 || (calls->pipe && !is_greeted(connection)))
                return;
        if (!calls[connection->next].bytes)
                connection->next = 0;
        call = &calls[connection->next++ % CALLS_MAX];
        connection->next %= CALLS_MAX;
        raw_set_serial(call->bytes->data, ++connection->serial);
        if (connection->abuse == ABUSE_HALF) {
                if (connection->serial > 2)
                        return;
                g_byte_array_append(connection->out, call->bytes->data, call->bytes->len / 2);
        } else if (call->pipe) {
                if (!send_with_pipe(abuser, connection, call))
                        return;
        } else
                g_byte_array_append(connection->out, call->bytes->data, call->bytes->len);
        if (waits)
                connection->waiting++;
        abuser->counts->sent++;
        flush(abuser, connection);
}

static void read_some(Abuser *abuser, Connection *connection) {
        static uint8_t buffer[256 * 1024];
        ssize_t n;

        if (connection->fd < 0 || !reads(connection->abuse))
                return;
        while ((n = recv(connection->fd, buffer, sizeof buffer, MSG_DONTWAIT)) > 0)
                take_bytes(abuser, connection, buffer, (size_t)n);
        if (n == 0 || errno != EAGAIN)
                join_again(abuser, connection);
}

static void tick(Abuser *abuser, unsigned due) {
        static unsigned next;
        const unsigned n = abuser->plan->n_connections;

        for (unsigned i = 0; i < n; i++) {
                Connection *connection = &abuser->connections[i];

                read_some(abuser, connection);
                flush(abuser, connection);
                if (connection->abuse == ABUSE_HALF && ++connection->age % HALF_TICKS == 0)
                        join_again(abuser, connection);
        }
        for (; due > 0; due--)
                call_once(abuser, &abuser->connections[next++ % n]);
}

G_NORETURN static void run(Abuser *abuser) {
        const AbusePlan *plan = abuser->plan;
        struct timespec begin, now, until;
        uint64_t done = 0, due;
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) < 0)
                _exit(EXIT_FAILURE);
        abuser->pipe_fd = fds[1];
        make_calls(abuser);
        abuser->connections = g_new0(Connection, plan->n_connections);
        for (unsigned i = 0; i < plan->n_connections; i++) {
                Connection *connection = &abuser->connections[i];

                *connection = (Connection) { .uid = plan->users[i % plan->n_users],
                        .abuse = plan->first + (i / plan->n_users) % (plan->last - plan->first + 1),
                        .out = g_byte_array_new() };
                connection->waiting_max = connection->abuse == ABUSE_PIPES ? WAITING_PIPES_MAX :
                        WAITING_MAX - i % WAITING_SPREAD;
                if (!join(abuser, connection) || !wait_until_greeted(abuser, connection))
                        _exit(EXIT_FAILURE);
        }
        __atomic_store_n(&abuser->counts->ready, true, __ATOMIC_SEQ_CST);

        clock_gettime(CLOCK_MONOTONIC, &begin);
        for (until = begin;;) {
                until.tv_nsec += TICK_NSEC;
                until.tv_sec += until.tv_nsec / 1000000000L;
                until.tv_nsec %= 1000000000L;
                if (plan->rate > 0)
                        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
                else
                        g_usleep(500);
                clock_gettime(CLOCK_MONOTONIC, &now);
                due = (uint64_t)((double)plan->rate * ((double)(now.tv_sec - begin.tv_sec) +
                        (double)(now.tv_nsec - begin.tv_nsec) / 1e9));
                tick(abuser, plan->rate > 0 ? (unsigned)(due - done) : 16 * plan->n_connections);
                done = due;
        }
}

void abuse_prepare(Harness *h, sd_bus *bus) {
        g_autofree uint8_t *document = make_document(LARGE, 1);

        store_simple(bus, "small");
        g_free(store_license(bus, document, LARGE, "a{sv}", 1, "LicenseId", "s", "large"));
}

pid_t abuse_start(Harness *h, const AbusePlan *plan, AbuseCounts **ret_counts) {
        AbuseCounts *counts = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        Abuser abuser = { .address = h->address, .plan = plan, .counts = counts };
        pid_t pid;

        assert_true(counts != MAP_FAILED);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
                run(&abuser);
        while (!__atomic_load_n(&counts->ready, __ATOMIC_SEQ_CST)) {
                assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
                sleep_msec(10);
        }
        *ret_counts = counts;
        return pid;
}

void abuse_stop(pid_t pid, AbuseCounts *counts, AbuseCounts *ret) {
        int status;

        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        /* It must not have ended by itself. */
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        *ret = *counts;
        munmap(counts, sizeof *counts);
}

void abuse_print(const AbuseCounts *counts, double seconds) {
        print_message("a second: %.0f calls offered, %.0f sent, %.0f answered, %.0f refused (as far as read); "
                "%" PRIu64 " connections made anew\n", (double)counts->offered / seconds, (double)counts->sent / seconds,
                (double)counts->answered / seconds, (double)counts->refused / seconds, counts->reconnected);
}
