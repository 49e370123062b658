/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "qmp-fds.h"

#include <json-glib/json-glib.h>

/*
 * One connected QMP client: bytes in, values out, and back. Belongs to the thread of its main
 * context. While an answer is not read by the client, no further request of it is read.
 */
typedef struct FerryQmpSession FerryQmpSession;

/* Answers that a client leaves unread before it is cut off, bytes. */
#define FERRY_QMP_UNREAD_MAX (8u << 20)

typedef struct {
	/* The client sent @value, or something that is no JSON: @value is NULL and @bad says why.
	 */
	void (*request)(FerryQmpSession *session, JsonNode *value, const GError *bad,
			gpointer user);
	/* The client is gone. The function frees the session. */
	void (*closed)(FerryQmpSession *session, gpointer user);
} FerryQmpSessionFuncs;

/* @socket is referenced, @context too; @funcs is static, @user borrowed. */
FerryQmpSession *ferry_qmp_session_new(GSocket *socket, GMainContext *context,
				       const FerryQmpSessionFuncs *funcs, gpointer user);
void ferry_qmp_session_free(FerryQmpSession *session);

/* Sends a line; what the socket does not take now goes when it can. A client that is gone or reads
 * nothing is noticed later, by closed(). */
void ferry_qmp_session_send(FerryQmpSession *session, JsonNode *message);

/* The descriptors of this client; the session owns them. */
FerryQmpFds *ferry_qmp_session_fds(FerryQmpSession *session);

/* Whether qmp_capabilities ended the negotiation; only then commands and events pass. */
gboolean ferry_qmp_session_is_ready(FerryQmpSession *session);
void ferry_qmp_session_set_ready(FerryQmpSession *session);
