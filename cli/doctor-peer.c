/* SPDX-License-Identifier: BSD-2-Clause */
#include "doctor.h"
#include "common.h"

#include <gio/gio.h>

#define PEER_TIMEOUT_S 5

void ferry_doctor_peer(FerryDoctor *doctor, const char *peer)
{
	g_autoptr(GSocketClient) client = g_socket_client_new();
	g_autoptr(GSocketConnection) connection = NULL;
	g_autoptr(GError) error = NULL;
	gint64 began = g_get_monotonic_time();
	FerryCheck *check;

	g_socket_client_set_timeout(client, PEER_TIMEOUT_S);
	g_socket_client_set_enable_proxy(client, FALSE);
	connection = g_socket_client_connect_to_host(client, peer, 0, NULL, &error);
	if (connection)
		check = ferry_doctor_add(doctor, "peer", FERRY_CHECK_OK,
					 g_strdup_printf("%s answers in %.1f ms", peer,
							 (g_get_monotonic_time() - began) / 1000.0),
					 NULL);
	else
		check = ferry_doctor_add(
			doctor, "peer", FERRY_CHECK_MISSING, g_strdup(error->message),
			"start the destination first, and open its port in every firewall "
			"between");
	check->required = TRUE;
}
