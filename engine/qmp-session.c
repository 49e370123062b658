/* SPDX-License-Identifier: BSD-2-Clause */
#include "qmp-session.h"
#include "qmp-splitter.h"

#include <gio/gunixfdmessage.h>

struct FerryQmpSession {
	GSocket *socket;
	GMainContext *context;
	const FerryQmpSessionFuncs *funcs;
	gpointer user;
	GSource *watch; /* for input; for output while any is left */
	GByteArray *output;
	FerryQmpSplitter *splitter;
	FerryQmpFds *fds;
	gboolean ready;
};

static gboolean on_ready(GSocket *socket, GIOCondition condition, gpointer user);

static void unwatch(FerryQmpSession *session)
{
	if (session->watch) {
		g_source_destroy(session->watch);
		g_clear_pointer(&session->watch, g_source_unref);
	}
}

static void watch(FerryQmpSession *session)
{
	unwatch(session);
	session->watch = g_socket_create_source(session->socket,
						session->output->len ? G_IO_OUT : G_IO_IN, NULL);
	g_source_set_callback(session->watch, G_SOURCE_FUNC(on_ready), session, NULL);
	g_source_attach(session->watch, session->context);
}

FerryQmpSession *ferry_qmp_session_new(GSocket *socket, GMainContext *context,
				       const FerryQmpSessionFuncs *funcs, gpointer user)
{
	FerryQmpSession *session = g_new0(FerryQmpSession, 1);

	g_socket_set_blocking(socket, FALSE);
	session->socket = g_object_ref(socket);
	session->context = g_main_context_ref(context);
	session->funcs = funcs;
	session->user = user;
	session->output = g_byte_array_new();
	session->splitter = ferry_qmp_splitter_new();
	session->fds = ferry_qmp_fds_new();
	watch(session);
	return session;
}

void ferry_qmp_session_free(FerryQmpSession *session)
{
	if (!session)
		return;
	unwatch(session);
	ferry_qmp_fds_free(session->fds);
	ferry_qmp_splitter_free(session->splitter);
	g_byte_array_unref(session->output);
	g_main_context_unref(session->context);
	g_socket_close(session->socket, NULL);
	g_object_unref(session->socket);
	g_free(session);
}

/* Makes the next wait see the end of the connection, and so closed() come from the main loop. */
static void cut(FerryQmpSession *session)
{
	g_byte_array_set_size(session->output, 0);
	g_socket_shutdown(session->socket, TRUE, TRUE, NULL);
}

static void flush(FerryQmpSession *session)
{
	while (session->output->len) {
		g_autoptr(GError) error = NULL;
		gssize n = g_socket_send(session->socket, (const char *)session->output->data,
					 session->output->len, NULL, &error);

		if (n < 0 && !g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
			cut(session);
		if (n <= 0)
			return;
		g_byte_array_remove_range(session->output, 0, n);
	}
}

/* A line, with its end. json-glib escapes every control character but U+001F, which strings of a
 * peer or client may have. */
static GString *line_of(JsonNode *message)
{
	g_autofree char *text = json_to_string(message, FALSE);
	GString *line = g_string_new(text);

	g_string_replace(line, "\x1f", "\\u001f", 0);
	return g_string_append(line, "\r\n");
}

void ferry_qmp_session_send(FerryQmpSession *session, JsonNode *message)
{
	GString *line = line_of(message);
	gboolean idle = !session->output->len;

	g_byte_array_append(session->output, (const guint8 *)line->str, line->len);
	g_string_free(line, TRUE);
	if (session->output->len > FERRY_QMP_UNREAD_MAX)
		cut(session);
	if (idle)
		flush(session);
	if (idle != !session->output->len)
		watch(session);
}

static void take_fds(FerryQmpSession *session, GSocketControlMessage **messages, int n_messages)
{
	for (int i = 0; i < n_messages; i++) {
		if (G_IS_UNIX_FD_MESSAGE(messages[i])) {
			int n;
			g_autofree int *passed = g_unix_fd_message_steal_fds(
				G_UNIX_FD_MESSAGE(messages[i]), &n);

			ferry_qmp_fds_offer(session->fds, passed, n);
		}
		g_object_unref(messages[i]);
	}
	g_free(messages);
}

/* FALSE at the end of the connection. */
static gboolean receive(FerryQmpSession *session)
{
	char buffer[4096];
	GInputVector vector = { buffer, sizeof(buffer) };
	GSocketControlMessage **messages = NULL;
	int n_messages = 0, flags = 0;
	g_autoptr(GError) error = NULL;
	gssize n = g_socket_receive_message(session->socket, NULL, &vector, 1, &messages,
					    &n_messages, &flags, NULL, &error);

	if (n < 0)
		return g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK);
	take_fds(session, messages, n_messages);
	ferry_qmp_splitter_push(session->splitter, buffer, n);
	return n > 0;
}

static void answer(FerryQmpSession *session)
{
	FerryQmpSplit split;

	do {
		g_autoptr(JsonNode) value = NULL;
		g_autoptr(GError) bad = NULL;

		split = ferry_qmp_splitter_next(session->splitter, &value, &bad);
		if (split != FERRY_QMP_SPLIT_MORE)
			session->funcs->request(session, value, bad, session->user);
	} while (split != FERRY_QMP_SPLIT_MORE);
}

static gboolean on_ready(GSocket *socket, GIOCondition condition, gpointer user)
{
	FerryQmpSession *session = user;

	if (session->output->len) {
		flush(session);
		if (!session->output->len)
			watch(session);
		return session->output->len ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
	}
	if (receive(session)) {
		answer(session);
		return G_SOURCE_CONTINUE;
	}
	session->funcs->closed(session, session->user);
	return G_SOURCE_REMOVE;
}

FerryQmpFds *ferry_qmp_session_fds(FerryQmpSession *session)
{
	return session->fds;
}

gboolean ferry_qmp_session_is_ready(FerryQmpSession *session)
{
	return session->ready;
}

void ferry_qmp_session_set_ready(FerryQmpSession *session)
{
	session->ready = TRUE;
}
