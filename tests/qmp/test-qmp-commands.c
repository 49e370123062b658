/* SPDX-License-Identifier: BSD-2-Clause */
/* The QMP server over a real socket: its protocol, and what commands accept. */
#include "harness.h"
#include "qmp-peer.h"

/* ---- protocol ---- */

static void greeting__first_line__has_version_and_capabilities(void)
{
	QmpHost *host = qmp_host_new();
	QmpPeer *peer = qmp_peer_new(host);
	g_autofree char *line = qmp_peer_line(peer);

	CU_ASSERT(line && g_str_has_prefix(line, "{\"QMP\":{\"version\":{\"qemu\":{\"major\":"));
	CU_ASSERT(line && g_str_has_suffix(line, "},\"capabilities\":[]}}"));
	DONE();
}

static void negotiation__commands_before_and_twice__not_found(void)
{
	QmpHost *host = qmp_host_new();
	QmpPeer *peer = qmp_peer_new(host);
	g_autofree char *greeting = qmp_peer_line(peer);
	g_autofree char *early = qmp_error_text(
		"CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'");
	g_autofree char *twice = qmp_error_text(
		"CommandNotFound", "Capabilities negotiation is already complete, command ignored");

	CU_ASSERT(qmp_answers(peer, "{\"execute\":\"query-status\"}", early));
	CU_ASSERT(qmp_refuses(
		peer, "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}",
		"Parameter 'enable' does not accept value \\\"oob\\\""));
	CU_ASSERT(qmp_answers(peer,
			      "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[]}}",
			      "{\"return\":{}}"));
	CU_ASSERT(qmp_answers(peer, "{\"execute\":\"qmp_capabilities\"}", twice));
	DONE();
}

static void id__of_any_type__comes_back(void)
{
	static const char *const ids[] = { "1", "\"a\"", "[1,{\"b\":null}]", "null",
					   "\"\\u0001\\u001e\\u001f\"" };

	HOST();
	for (guint i = 0; i < G_N_ELEMENTS(ids); i++) {
		g_autofree char *request = g_strdup_printf("{\"id\":%s,\"execute\":\"stop\"}",
							   ids[i]);
		g_autofree char *answer = g_strdup_printf("{\"return\":{},\"id\":%s}", ids[i]);
		g_autofree char *bad = g_strdup_printf("{\"id\":%s,\"execute\":7}", ids[i]);
		g_autofree char *error = g_strdup_printf(
			"{\"error\":{\"class\":\"GenericError\",\"desc\":\"QMP input member 'execute' must "
			"be a string\"},\"id\":%s}",
			ids[i]);

		CU_ASSERT(qmp_answers(peer, request, answer));
		CU_ASSERT(qmp_answers(peer, bad, error));
	}
	DONE();
}

static void request__wrong_envelope__refused_as_qemu_does(void)
{
	HOST();
	g_autofree char *unknown = qmp_error_text("CommandNotFound",
						  "The command frobnicate has not been found");

	CU_ASSERT(qmp_answers(peer, "{\"execute\":\"frobnicate\"}", unknown));
	CU_ASSERT(qmp_refuses(peer, "[1]", "QMP input must be a JSON object"));
	CU_ASSERT(qmp_refuses(peer, "{\"a\":1}", "QMP input member 'a' is unexpected"));
	CU_ASSERT(qmp_refuses(peer, "{}", "QMP input lacks member 'execute'"));
	CU_ASSERT(qmp_refuses(peer, "{\"execute\":\"stop\",\"arguments\":[]}",
			      "QMP input member 'arguments' must be an object"));
	DONE();
}

static void session__garbage__one_error_and_goes_on(void)
{
	HOST();
	g_autofree char *error = qmp_peer_ask(peer, "hello\n");

	CU_ASSERT(error && strstr(error, "JSON parse error"));
	CU_ASSERT(qmp_answers(peer, "{\"execute\":\"stop\"}", "{\"return\":{}}"));
	DONE();
}

static void session__many_requests_in_one_write__answered_in_order(void)
{
	HOST();
	g_autoptr(GString) requests = g_string_new(NULL);

	for (guint i = 0; i < 500; i++)
		g_string_append_printf(requests, "{\"execute\":\"query-commands\",\"id\":%u}", i);
	qmp_peer_send(peer, requests->str, -1);
	for (guint i = 0; i < 500; i++) {
		g_autofree char *line = qmp_peer_line(peer);
		g_autofree char *end = g_strdup_printf("\"id\":%u}", i);

		if (!line || !g_str_has_suffix(line, end)) {
			CU_FAIL("out of order");
			break;
		}
	}
	DONE();
}

/* ---- arguments ---- */

static void arguments__wrong__refused_by_name_and_type(void)
{
	static const char *const cases[][3] = {
		{ "migrate", "{}", "Parameter 'uri' is missing" },
		{ "migrate", "{\"uri\":1}", "Invalid parameter type for 'uri', expected: string" },
		{ "migrate", "{\"uri\":null}",
		  "Invalid parameter type for 'uri', expected: string" },
		{ "migrate", "{\"uri\":\"tcp:x\",\"detach\":1}",
		  "Invalid parameter type for 'detach', expected: boolean" },
		{ "migrate", "{\"uri\":\"tcp:x\",\"x\":1}", "Parameter 'x' is unexpected" },
		{ "query-status", "{\"x\":1}", "Parameter 'x' is unexpected" },
		{ "query-rdma", "{}",
		  "There is no RDMA here: no migration by rdma: has connected yet" },
		{ "query-commands", "{\"x\":1}", "Parameter 'x' is unexpected" },
		{ "migrate_set_speed", "{\"value\":\"1\"}",
		  "Invalid parameter type for 'value', expected: integer" },
		{ "migrate_set_speed", "{\"value\":1.5}",
		  "Invalid parameter type for 'value', expected: integer" },
		{ "migrate_set_downtime", "{\"value\":\"x\"}",
		  "Invalid parameter type for 'value', expected: number" },
		{ "migrate_set_downtime", "{\"value\":-1}",
		  "Parameter 'value' expects a number in the range of 0 to 2000 seconds" },
		{ "migrate_set_downtime", "{\"value\":2000.5}",
		  "Parameter 'value' expects a number in the range of 0 to 2000 seconds" },
		{ "migrate-continue", "{\"state\":\"nowhere\"}",
		  "Parameter 'state' does not accept value 'nowhere'" },
		{ "migrate-continue", "{\"state\":\"pre-switchover\"}",
		  "Migration not in expected state: none" },
		{ "ferry-rehearse", "{\"uri\":\"tcp:127.0.0.1:1\",\"seconds\":0}",
		  "Parameter 'seconds' expects a value from 1 to 600" },
		{ "ferry-rehearse", "{\"uri\":\"tcp:127.0.0.1:1\",\"seconds\":-1}",
		  "Parameter 'seconds' expects a value from 1 to 600" },
		{ "ferry-resolve", "{\"action\":\"pray\"}",
		  "Parameter 'action' does not accept value 'pray'" },
		{ "ferry-resolve", "{\"action\":\"retry\"}",
		  "No hand-over is in doubt here: see the status in query-migrate" },
		{ "migrate-pause", "{}",
		  "migrate-pause is only possible in the state postcopy-active" },
		{ "migrate-recover", "{\"uri\":\"tcp:x\"}",
		  "migrate-recover is only possible when postcopy is paused" },
		{ "getfd", "{\"fdname\":\"a\"}", "No file descriptor supplied via SCM_RIGHTS" },
		{ "closefd", "{\"fdname\":\"a\"}", "File descriptor named 'a' not found" },
		{ "migrate", "{\"uri\":\"fd:a\"}",
		  "File descriptor named 'a' not found: pass it with getfd first" },
	};

	HOST();
	for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *request = g_strdup_printf("{\"execute\":\"%s\",\"arguments\":%s}",
							   cases[i][0], cases[i][1]);

		CU_ASSERT(qmp_refuses(peer, request, cases[i][2]));
	}
	CU_ASSERT_EQUAL(ferry_source_state(host->guest->source), FERRY_STATE_NONE);
	DONE();
}

static void migrate__with_disks__refused_naming_nbd(void)
{
	static const char *const flags[] = { "blk", "inc" };

	HOST();
	for (guint i = 0; i < G_N_ELEMENTS(flags); i++) {
		g_autofree char *request = g_strdup_printf(
			"{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"tcp:x:1\",\"%s\":true}}",
			flags[i]);
		g_autofree char *answer = qmp_peer_ask(peer, request);

		CU_ASSERT(answer && strstr(answer, "NBD mirroring"));
	}
	CU_ASSERT_EQUAL(ferry_source_state(host->guest->source), FERRY_STATE_NONE);
	DONE();
}

/* ---- settings ---- */

static void capabilities__one_bad_entry__changes_nothing(void)
{
	static const char *const bad[][2] = {
		{ "{\"capability\":\"warp\",\"state\":true}",
		  "Parameter 'capability' does not accept value 'warp'" },
		{ "{\"capability\":\"events\"}", "Parameter 'capabilities[1].state' is missing" },
		{ "{\"capability\":\"events\",\"state\":1}",
		  "Invalid parameter type for 'capabilities[1].state', expected: boolean" },
		{ "{\"capability\":\"events\",\"state\":true,\"x\":1}",
		  "Parameter 'capabilities[1].x' is unexpected" },
		{ "7", "Invalid parameter type for 'capabilities[1]', expected: object" },
	};

	HOST();
	for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autofree char *request = g_strdup_printf(
			"{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":["
			"{\"capability\":\"verify-ram\",\"state\":true},%s]}}",
			bad[i][0]);

		CU_ASSERT(qmp_refuses(peer, request, bad[i][1]));
	}
	CU_ASSERT_FALSE(ferry_settings_get_capability(ferry_vm_settings(host->guest->vm),
						      FERRY_CAPABILITY_VERIFY_RAM));
	DONE();
}

static void capabilities__set__shows_in_the_query(void)
{
	HOST();
	g_autofree char *answer = NULL;

	CU_ASSERT(qmp_answers(
		peer,
		"{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":["
		"{\"capability\":\"verify-ram\",\"state\":true}]}}",
		"{\"return\":{}}"));
	answer = qmp_peer_ask(peer, "{\"execute\":\"query-migrate-capabilities\"}");
	CU_ASSERT(answer && strstr(answer, "{\"capability\":\"verify-ram\",\"state\":true}"));
	CU_ASSERT(answer && strstr(answer, "{\"capability\":\"events\",\"state\":true}"));
	DONE();
}

static void capabilities__older_names__set_the_same(void)
{
	static const char *const names[] = { "postcopy-ram", "rdma-pin-all", "multifd" };

	for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
		HOST();
		g_autofree char *request = g_strdup_printf(
			"{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":["
			"{\"capability\":\"x-%s\",\"state\":true}]}}",
			names[i]);
		g_autofree char *on = g_strdup_printf("{\"capability\":\"%s\",\"state\":true}",
						      names[i]);
		g_autofree char *answer = NULL;

		CU_ASSERT(qmp_answers(peer, request, "{\"return\":{}}"));
		answer = qmp_peer_ask(peer, "{\"execute\":\"query-migrate-capabilities\"}");
		CU_ASSERT(answer && strstr(answer, on));
		CU_ASSERT(answer && !strstr(answer, "\"x-postcopy-ram\""));
		DONE();
	}
}

static void parameters__out_of_range_or_unknown__change_nothing(void)
{
	static const char *const bad[][2] = {
		{ "\"downtime-limit\":-1",
		  "Parameter 'downtime-limit' expects an integer in the range of 0 to 2000000" },
		{ "\"downtime-limit\":2000001",
		  "Parameter 'downtime-limit' expects an integer in the range of 0 to 2000000" },
		{ "\"downtime-limit\":18446744073709551615",
		  "Parameter 'downtime-limit' expects an integer in the range of 0 to 2000000" },
		{ "\"downtime-limit\":\"5\"",
		  "Invalid parameter type for 'downtime-limit', expected: integer" },
		{ "\"warp\":9", "Parameter 'warp' is unexpected" },
	};
	FerrySettings *settings;

	HOST();
	for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autofree char *request = g_strdup_printf(
			"{\"execute\":\"migrate-set-parameters\",\"arguments\":{\"max-bandwidth\":7,%s}}",
			bad[i][0]);

		CU_ASSERT(qmp_refuses(peer, request, bad[i][1]));
	}
	settings = ferry_vm_settings(host->guest->vm);
	CU_ASSERT_EQUAL(ferry_settings_get_parameter(settings, FERRY_PARAMETER_MAX_BANDWIDTH), 0);
	CU_ASSERT_EQUAL(ferry_settings_get_parameter(settings, FERRY_PARAMETER_DOWNTIME_LIMIT),
			300);
	DONE();
}

/* Whether query-migrate-parameters tells so. */
static gboolean parameter_is(QmpPeer *peer, const char *member)
{
	g_autofree char *answer = qmp_peer_ask(peer, "{\"execute\":\"query-migrate-parameters\"}");

	return answer && strstr(answer, member);
}

static void parameters__old_and_new_commands__set_the_same(void)
{
	static const char *const cases[][3] = {
		{ "migrate_set_speed", "{\"value\":1048576}", "\"max-bandwidth\":1048576," },
		{ "migrate_set_speed", "{\"value\":-5}", "\"max-bandwidth\":0," },
		{ "migrate_set_downtime", "{\"value\":0.0305}", "\"downtime-limit\":31," },
		{ "migrate_set_downtime", "{\"value\":2000}", "\"downtime-limit\":2000000," },
		{ "migrate-set-parameters", "{\"downtime-limit\":5}", "\"downtime-limit\":5," },
		{ "migrate-set-parameters", "{\"x-cpu-throttle-initial\":33}",
		  "\"cpu-throttle-initial\":33," },
		{ "migrate-set-parameters", "{\"x-cpu-throttle-increment\":34}",
		  "\"cpu-throttle-increment\":34," },
		{ "migrate-set-parameters", "{\"x-multifd-channels\":7}",
		  "\"multifd-channels\":7," },
		{ "migrate-set-cache-size", "{\"value\":1048576}",
		  "\"xbzrle-cache-size\":1048576," },
	};

	HOST();
	for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *request = g_strdup_printf("{\"execute\":\"%s\",\"arguments\":%s}",
							   cases[i][0], cases[i][1]);

		CU_ASSERT(qmp_answers(peer, request, "{\"return\":{}}"));
		CU_ASSERT(parameter_is(peer, cases[i][2]));
	}
	DONE();
}

/* The guest has 16 MiB. */
static void cache_size__any_number__is_rounded_down_or_refused(void)
{
	static const gint64 cases[][2] = {
		/* asked for, got; 0: refused */
		{ 4096, 4096 },   { 4097, 4096 },        { 8191, 4096 },
		{ 8192, 8192 },   { 16777215, 8388608 }, { 16777216, 16777216 },
		{ 16777217, 0 },  { 4095, 0 },           { 0, 0 },
		{ -1, 0 },        { -4096, 0 },          { G_MAXINT64, 0 },
		{ G_MININT64, 0 }
	};
	static const char query[] = "{\"execute\":\"query-migrate-cache-size\"}";
	gint64 last = 64 << 20;

	HOST();
	for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *request = g_strdup_printf(
			"{\"execute\":\"migrate-set-cache-size\",\"arguments\":{\"value\":%" G_GINT64_FORMAT
			"}}",
			cases[i][0]);
		g_autofree char *answer = NULL, *desc = NULL;

		desc = g_strdup_printf(
			"Parameter 'value' expects a cache size from 4096 (a page) to 16777216 "
			"bytes (the guest's memory), not %" G_GINT64_FORMAT,
			cases[i][0]);
		CU_ASSERT(cases[i][1] ? qmp_answers(peer, request, "{\"return\":{}}")
				      : qmp_refuses(peer, request, desc));
		last = cases[i][1] ? cases[i][1] : last;
		answer = g_strdup_printf("{\"return\":%" G_GINT64_FORMAT "}", last);
		CU_ASSERT(qmp_answers(peer, query, answer));
	}
	DONE();
}

/* ---- the embedder's commands ---- */

static JsonNode *echo(JsonObject *arguments, gpointer user, GError **error)
{
	if (!arguments) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE, "%s", (const char *)user);
		return NULL;
	}
	return json_node_init_object(json_node_alloc(), arguments);
}

static void added_command__runs_fails_and_is_listed(void)
{
	g_autofree char *list = NULL;

	HOST();
	ferry_qmp_add_command(host->qmp, "echo", echo, (gpointer) "nothing to say");
	CU_ASSERT(qmp_answers(peer, "{\"execute\":\"echo\",\"arguments\":{\"a\":[1]}}",
			      "{\"return\":{\"a\":[1]}}"));
	CU_ASSERT(qmp_refuses(peer, "{\"execute\":\"echo\"}", "nothing to say"));
	list = qmp_peer_ask(peer, "{\"execute\":\"query-commands\"}");
	CU_ASSERT(list && strstr(list, "{\"name\":\"echo\"}") &&
		  strstr(list, "{\"name\":\"migrate\"}"));
	DONE();
}

static CU_TestInfo cases[] = {
	CASE(greeting__first_line__has_version_and_capabilities),
	CASE(negotiation__commands_before_and_twice__not_found),
	CASE(id__of_any_type__comes_back),
	CASE(request__wrong_envelope__refused_as_qemu_does),
	CASE(session__garbage__one_error_and_goes_on),
	CASE(session__many_requests_in_one_write__answered_in_order),
	CASE(arguments__wrong__refused_by_name_and_type),
	CASE(migrate__with_disks__refused_naming_nbd),
	CASE(capabilities__one_bad_entry__changes_nothing),
	CASE(capabilities__set__shows_in_the_query),
	CASE(capabilities__older_names__set_the_same),
	CASE(parameters__out_of_range_or_unknown__change_nothing),
	CASE(parameters__old_and_new_commands__set_the_same),
	CASE(cache_size__any_number__is_rounded_down_or_refused),
	CASE(added_command__runs_fails_and_is_listed),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "qmp-commands", cases);
}
