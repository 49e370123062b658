/* SPDX-License-Identifier: BSD-2-Clause */
#include "qmp-peer.h"

#include <gio/gunixfdmessage.h>
#include <gio/gunixsocketaddress.h>
#include <glib/gstdio.h>
#include <string.h>

#define DEADLINE_MS 10000

struct QmpPeer {
	GSocket *socket;
	GString *input;
	guint answered; /* answers {} that came while a status was awaited */
};

QmpHost *qmp_host_new(void)
{
	QmpHost *host = g_new0(QmpHost, 1);

	host->folder = g_dir_make_tmp("ferry-qmp-XXXXXX", NULL);
	host->address = g_strdup_printf("unix:%s/qmp", host->folder);
	host->guest = mini_guest_new(&(MiniGuestConfig){ 0 });
	host->qmp = ferry_qmp_new(host->guest->vm, host->guest->source, host->guest->destination);
	if (!ferry_qmp_listen(host->qmp, host->address, NULL))
		g_assert_not_reached();
	return host;
}

void qmp_host_free(QmpHost *host)
{
	ferry_qmp_free(host->qmp);
	mini_guest_free(host->guest);
	g_rmdir(host->folder);
	g_free(host->folder);
	g_free(host->address);
	g_free(host);
}

QmpPeer *qmp_peer_new(const QmpHost *host)
{
	g_autoptr(GSocketAddress)
		address = g_unix_socket_address_new(host->address + strlen("unix:"));
	QmpPeer *peer = g_new0(QmpPeer, 1);

	peer->input = g_string_new(NULL);
	peer->socket = g_socket_new(G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_STREAM,
				    G_SOCKET_PROTOCOL_DEFAULT, NULL);
	if (!g_socket_connect(peer->socket, address, NULL, NULL))
		g_assert_not_reached();
	g_socket_set_blocking(peer->socket, FALSE);
	return peer;
}

QmpPeer *qmp_peer_ready(const QmpHost *host)
{
	QmpPeer *peer = qmp_peer_new(host);
	g_autofree char *greeting = qmp_peer_line(peer);
	g_autofree char *answer = qmp_peer_ask(peer, "{\"execute\":\"qmp_capabilities\"}");

	g_assert(greeting && strstr(greeting, "\"QMP\""));
	g_assert_cmpstr(answer, ==, "{\"return\":{}}");
	return peer;
}

void qmp_peer_free(QmpPeer *peer)
{
	g_socket_close(peer->socket, NULL);
	g_object_unref(peer->socket);
	g_string_free(peer->input, TRUE);
	g_free(peer);
}

void qmp_peer_send(QmpPeer *peer, const char *text, int fd)
{
	GOutputVector vector = { text, strlen(text) };
	g_autoptr(GSocketControlMessage) message = g_unix_fd_message_new();

	if (fd >= 0)
		g_unix_fd_message_append_fd(G_UNIX_FD_MESSAGE(message), fd, NULL);
	g_socket_send_message(peer->socket, NULL, &vector, 1, &message, fd >= 0, 0, NULL, NULL);
}

static gboolean on_deadline(gpointer user)
{
	*(gboolean *)user = TRUE;
	return G_SOURCE_CONTINUE;
}

static gboolean on_input(GSocket *socket, GIOCondition condition, gpointer user)
{
	return G_SOURCE_CONTINUE;
}

/* FALSE once nothing more will come. */
static gboolean receive(QmpPeer *peer)
{
	char buffer[4096];
	g_autoptr(GError) error = NULL;
	gssize n = g_socket_receive(peer->socket, buffer, sizeof(buffer), NULL, &error);

	if (n > 0)
		g_string_append_len(peer->input, buffer, n);
	return n > 0 || g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK);
}

char *qmp_peer_line(QmpPeer *peer)
{
	g_autoptr(GSource) source = g_socket_create_source(peer->socket, G_IO_IN, NULL);
	gboolean late = FALSE, open = TRUE;
	guint deadline = g_timeout_add(DEADLINE_MS, on_deadline, &late);
	char *line = NULL, *end;

	g_source_set_callback(source, G_SOURCE_FUNC(on_input), NULL, NULL);
	g_source_attach(source, NULL);
	while (!(end = strstr(peer->input->str, "\r\n")) && open && !late) {
		g_main_context_iteration(NULL, TRUE);
		open = receive(peer);
	}
	if (end) {
		line = g_strndup(peer->input->str, end - peer->input->str);
		g_string_erase(peer->input, 0, strlen(line) + 2);
	}
	g_source_destroy(source);
	g_source_remove(deadline);
	return line;
}

char *qmp_peer_ask(QmpPeer *peer, const char *text)
{
	char *line;

	qmp_peer_send(peer, text, -1);
	while ((line = qmp_peer_line(peer)) && strstr(line, "\"event\""))
		g_free(line);
	return line;
}

gboolean qmp_peer_await_status(QmpPeer *peer, const char *status)
{
	g_autofree char *wanted = g_strdup_printf(
		"\"event\":\"MIGRATION\",\"data\":{\"status\":\"%s\"}}", status);
	gboolean found = FALSE;
	char *line;

	while (!found && (line = qmp_peer_line(peer))) {
		found = strstr(line, wanted) != NULL;
		peer->answered += g_str_equal(line, "{\"return\":{}}");
		g_free(line);
	}
	return found;
}

gboolean qmp_peer_take_answer(QmpPeer *peer)
{
	g_autofree char *line = NULL;

	if (peer->answered) {
		peer->answered--;
		return TRUE;
	}
	line = qmp_peer_ask(peer, "");
	return line && g_str_equal(line, "{\"return\":{}}");
}

/* ---- what a test expects ---- */

gboolean qmp_equal(const char *got, const char *expected)
{
	if (g_strcmp0(got, expected) == 0)
		return TRUE;
	printf("# expected %s\n# got      %s\n", expected, got ? got : "(hung up)");
	return FALSE;
}

/* Asks and compares the whole answer. */
gboolean qmp_answers(QmpPeer *peer, const char *request, const char *expected)
{
	g_autofree char *got = qmp_peer_ask(peer, request);

	return qmp_equal(got, expected);
}

char *qmp_error_text(const char *class, const char *desc)
{
	return g_strdup_printf("{\"error\":{\"class\":\"%s\",\"desc\":\"%s\"}}", class, desc);
}

gboolean qmp_refuses(QmpPeer *peer, const char *request, const char *desc)
{
	g_autofree char *expected = qmp_error_text("GenericError", desc);

	return qmp_answers(peer, request, expected);
}

/* Takes the next line apart: an event's name, or "answer". */
static char *next_kind(QmpPeer *peer)
{
	g_autofree char *line = qmp_peer_line(peer);
	const char *event = line ? strstr(line, "\"event\":\"") : NULL;

	if (event)
		return g_strndup(event + strlen("\"event\":\""),
				 strcspn(event + strlen("\"event\":\""), "\""));
	return g_strdup(line && strstr(line, "\"return\"") ? "answer" : line);
}

gboolean qmp_kinds_are(QmpPeer *peer, const char *const *expected)
{
	for (; *expected; expected++) {
		g_autofree char *kind = next_kind(peer);

		if (!qmp_equal(kind, *expected))
			return FALSE;
	}
	return TRUE;
}
