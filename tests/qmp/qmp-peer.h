/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <json-glib/json-glib.h>
#include "mini-guest.h"

/*
 * A guest with a QMP server on a socket of its own, and clients of it, all in one thread: waiting
 * for a line runs the server's main context.
 */
typedef struct {
	MiniGuest *guest;
	FerryQmp *qmp;
	char *folder;
	char *address; /* "unix:PATH" */
} QmpHost;

/* Aborts on failure. */
QmpHost *qmp_host_new(void);
void qmp_host_free(QmpHost *host);

typedef struct QmpPeer QmpPeer;

/* Connects; the greeting is not read yet. */
QmpPeer *qmp_peer_new(const QmpHost *host);
/* Connects, reads the greeting and negotiates. */
QmpPeer *qmp_peer_ready(const QmpHost *host);
void qmp_peer_free(QmpPeer *peer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmpPeer, qmp_peer_free)

/* Sends bytes; @fd goes with them unless it is -1. */
void qmp_peer_send(QmpPeer *peer, const char *text, int fd);

/* The next line, without its end; NULL if the server hung up, or sent none for 10 s. Free with
 * g_free(). */
char *qmp_peer_line(QmpPeer *peer);

/* Sends and returns the first line that is no event. */
char *qmp_peer_ask(QmpPeer *peer, const char *text);

/* Reads lines up to the event MIGRATION with @status; FALSE if it does not come. */
gboolean qmp_peer_await_status(QmpPeer *peer, const char *status);

/* The answer {} to a request that was sent; it may come before or after the events it caused. */
gboolean qmp_peer_take_answer(QmpPeer *peer);

/* ---- what a test expects; each prints what it got instead ---- */

gboolean qmp_equal(const char *got, const char *expected);
/* Asks and compares the whole answer. */
gboolean qmp_answers(QmpPeer *peer, const char *request, const char *expected);
/* The same for a GenericError. */
gboolean qmp_refuses(QmpPeer *peer, const char *request, const char *desc);
/* An error's whole line; free with g_free(). */
char *qmp_error_text(const char *class, const char *desc);
/* Whether the next lines are these: an event's name, or "answer". */
gboolean qmp_kinds_are(QmpPeer *peer, const char *const *expected);
#define KINDS(peer, ...) qmp_kinds_are(peer, (const char *const[]){ __VA_ARGS__, NULL })

#define HOST()                                                                                     \
	QmpHost *host = qmp_host_new();                                                            \
	QmpPeer *peer = qmp_peer_ready(host)
#define DONE()                                                                                     \
	qmp_peer_free(peer);                                                                       \
	qmp_host_free(host)
