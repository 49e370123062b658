/* SPDX-License-Identifier: BSD-2-Clause */
#include "control.h"
#include "record.h"

#include <ferry/rdma.h>

/* What the two ends of a bench say of themselves first. */

JsonObject *ferry_bench_control_greet(JsonObject *request, guint64 ram_max, GError **error)
{
	g_autofree char *why = NULL;
	g_autoptr(GPtrArray) ports = ferry_rdma_list_ports(&why);
	JsonObject *answer;
	guint64 version;

	if (!ferry_bench_control_number(request, "version", FERRY_BENCH_CONTROL_VERSION,
					FERRY_BENCH_CONTROL_VERSION, &version, error))
		return NULL;
	answer = json_object_new();
	json_object_set_object_member(answer, "host", ferry_bench_host());
	json_object_set_int_member(answer, "ram-max", ram_max);
	if (!ports->len)
		json_object_set_string_member(answer, "no-rdma", why);
	return answer;
}

void ferry_bench_greeting_clear(FerryBenchGreeting *greeting)
{
	g_clear_pointer(&greeting->host, json_object_unref);
	g_clear_pointer(&greeting->no_rdma, g_free);
}

gboolean ferry_bench_control_hello(GSocket *socket, guint64 ram, FerryBenchGreeting *greeting,
				   GError **error)
{
	JsonObject *request = json_object_new();
	g_autoptr(JsonObject) answer = NULL;
	JsonNode *host;
	guint64 most;

	json_object_set_string_member(request, "do", "hello");
	json_object_set_int_member(request, "version", FERRY_BENCH_CONTROL_VERSION);
	answer = ferry_bench_control_ask(socket, request, error);
	if (!answer || !ferry_bench_control_number(answer, "ram-max", 0, G_MAXINT64, &most, error))
		return FALSE;
	host = json_object_get_member(answer, "host");
	if (!host || !JSON_NODE_HOLDS_OBJECT(host)) {
		g_set_error_literal(error, FERRY_ERROR, FERRY_ERROR_PEER,
				    "the other ferry bench says nothing of its host");
		return FALSE;
	}
	if (ram > most) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "the listener gives %" G_GUINT64_FORMAT
			    " MiB and not %" G_GUINT64_FORMAT ": say --ram to it too",
			    most >> 20, ram >> 20);
		return FALSE;
	}
	greeting->host = json_node_dup_object(host);
	greeting->no_rdma = g_strdup(
		json_object_get_string_member_with_default(answer, "no-rdma", NULL));
	return TRUE;
}
