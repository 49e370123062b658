/* SPDX-License-Identifier: BSD-2-Clause */
#include "qmp-listener.h"

#include <errno.h>
#include <gio/gunixsocketaddress.h>
#include <glib/gstdio.h>
#include <sys/stat.h>
#include <sys/un.h>

struct FerryQmpListener {
	GSocket *socket;
	GSource *source;
	char *path; /* of the file that bind() made; NULL before */
	FerryQmpAccepted accepted;
	gpointer user;
};

static const char *path_of(const char *address, GError **error)
{
	const char *path = address + strlen("unix:");
	struct sockaddr_un longest;

	if (!g_str_has_prefix(address, "unix:") || !*path) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "QMP address '%s': expected unix:PATH", address);
		return NULL;
	}
	if (strlen(path) >= sizeof(longest.sun_path)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "QMP address '%s': the path has %zu bytes, a socket's may have %zu",
			    address, strlen(path), sizeof(longest.sun_path) - 1);
		return NULL;
	}
	return path;
}

static GSocket *new_socket(GError **error)
{
	g_autoptr(GError) why = NULL;
	GSocket *socket = g_socket_new(G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_STREAM,
				       G_SOCKET_PROTOCOL_DEFAULT, &why);

	if (!socket)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO, "QMP socket: %s", why->message);
	return socket;
}

/* Removes what an earlier process left at @path. */
static gboolean remove_stale(const char *path, GError **error)
{
	g_autoptr(GSocketAddress) address = g_unix_socket_address_new(path);
	g_autoptr(GSocket) probe = NULL;
	struct stat st;

	if (lstat(path, &st))
		return TRUE; /* bind() tells if it is anything but ENOENT */
	if (!S_ISSOCK(st.st_mode)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "QMP socket %s: a file is there that is no socket; remove it or choose "
			    "another path",
			    path);
		return FALSE;
	}
	if (!(probe = new_socket(error)))
		return FALSE;
	if (g_socket_connect(probe, address, NULL, NULL)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
			    "QMP socket %s: another process listens there; choose another path",
			    path);
		return FALSE;
	}
	g_unlink(path);
	return TRUE;
}

static gboolean bind_and_listen(FerryQmpListener *listener, const char *path, GError **error)
{
	g_autoptr(GSocketAddress) address = g_unix_socket_address_new(path);
	g_autoptr(GError) why = NULL;

	/* On Linux the mode of the socket becomes that of the file that bind() makes; a chmod()
	 * afterwards would leave a moment for others. */
	if (fchmod(g_socket_get_fd(listener->socket), 0600)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO, "QMP socket %s: fchmod: %s", path,
			    g_strerror(errno));
		return FALSE;
	}
	if (!g_socket_bind(listener->socket, address, FALSE, &why)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO, "QMP socket %s: %s", path,
			    why->message);
		return FALSE;
	}
	listener->path = g_strdup(path);
	if (!g_socket_listen(listener->socket, &why)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO, "QMP socket %s: %s", path,
			    why->message);
		return FALSE;
	}
	return TRUE;
}

static gboolean on_connection(GSocket *socket, GIOCondition condition, gpointer user)
{
	FerryQmpListener *listener = user;
	g_autoptr(GSocket) client = g_socket_accept(socket, NULL, NULL);

	if (client)
		listener->accepted(client, listener->user);
	return G_SOURCE_CONTINUE;
}

FerryQmpListener *ferry_qmp_listener_new(const char *address, GMainContext *context,
					 FerryQmpAccepted accepted, gpointer user, GError **error)
{
	g_autoptr(FerryQmpListener) listener = g_new0(FerryQmpListener, 1);
	const char *path = path_of(address, error);

	if (!path || !remove_stale(path, error) || !(listener->socket = new_socket(error)) ||
	    !bind_and_listen(listener, path, error))
		return NULL;
	g_socket_set_blocking(listener->socket, FALSE);
	listener->accepted = accepted;
	listener->user = user;
	listener->source = g_socket_create_source(listener->socket, G_IO_IN, NULL);
	g_source_set_callback(listener->source, G_SOURCE_FUNC(on_connection), listener, NULL);
	g_source_attach(listener->source, context);
	return g_steal_pointer(&listener);
}

void ferry_qmp_listener_free(FerryQmpListener *listener)
{
	if (!listener)
		return;
	if (listener->source) {
		g_source_destroy(listener->source);
		g_source_unref(listener->source);
	}
	if (listener->path)
		g_unlink(listener->path);
	g_clear_object(&listener->socket);
	g_free(listener->path);
	g_free(listener);
}
