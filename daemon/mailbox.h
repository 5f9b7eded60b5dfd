/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

#include <systemd/sd-event.h>

/*
 * The way from other threads to the bus thread: what is posted is delivered there, in order. Only the
 * bus thread touches sd-bus, so whoever has something to say on the bus says it through here.
 */

typedef struct Mailbox Mailbox;
typedef struct Mail Mail;

/* Part of what is sent; deliver() gets it back, on the bus thread, and owns it from then on. */
struct Mail {
        void (*deliver)(Mail *mail);
        Mail *next;
};

/* Returns 0 or a negative errno. */
int mailbox_new(sd_event *event, Mailbox **ret);
/* Delivers nothing more; nobody may post any more. */
Mailbox *mailbox_free(Mailbox *mailbox);

/* From any thread. Never waits, never fails. */
void mailbox_post(Mailbox *mailbox, Mail *mail);

/* Delivers what is there now. Bus thread. */
void mailbox_deliver(Mailbox *mailbox);
