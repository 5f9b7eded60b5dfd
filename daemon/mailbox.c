/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <glib.h>

struct Mailbox {
        pthread_mutex_t mutex;
        Mail *first, **last; /* under the mutex */
        int fd;
        sd_event_source *source;
};

static int on_mail(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        uint64_t count;

        if (read(fd, &count, sizeof count) < 0 && errno != EAGAIN)
                return -errno;
        mailbox_deliver(userdata);
        return 0;
}

int mailbox_new(sd_event *event, Mailbox **ret) {
        Mailbox *mailbox;
        int r;

        mailbox = g_new0(Mailbox, 1);
        mailbox->last = &mailbox->first;
        pthread_mutex_init(&mailbox->mutex, NULL);

        mailbox->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        r = mailbox->fd < 0 ? -errno :
                              sd_event_add_io(event, &mailbox->source, mailbox->fd, EPOLLIN, on_mail, mailbox);
        if (r < 0) {
                mailbox_free(mailbox);
                return r;
        }

        *ret = mailbox;
        return 0;
}

Mailbox *mailbox_free(Mailbox *mailbox) {
        if (mailbox) {
                sd_event_source_disable_unref(mailbox->source);
                if (mailbox->fd >= 0)
                        close(mailbox->fd);
                pthread_mutex_destroy(&mailbox->mutex);
                g_free(mailbox);
        }
        return NULL;
}

void mailbox_post(Mailbox *mailbox, Mail *mail) {
        uint64_t one = 1;
        bool wake;

        mail->next = NULL;
        pthread_mutex_lock(&mailbox->mutex);
        wake = !mailbox->first;
        *mailbox->last = mail;
        mailbox->last = &mail->next;
        /* Under the mutex, so that the box is not freed between the post and the knock. Cannot fail:
         * the counter would have to overflow. */
        if (wake && write(mailbox->fd, &one, sizeof one) < 0)
                g_warn_if_reached();
        pthread_mutex_unlock(&mailbox->mutex);
}

void mailbox_deliver(Mailbox *mailbox) {
        Mail *mail;

        pthread_mutex_lock(&mailbox->mutex);
        mail = mailbox->first;
        mailbox->first = NULL;
        mailbox->last = &mailbox->first;
        pthread_mutex_unlock(&mailbox->mutex);

        while (mail) {
                Mail *next = mail->next;

                mail->deliver(mail);
                mail = next;
        }
}
