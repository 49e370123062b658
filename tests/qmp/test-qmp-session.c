/* SPDX-License-Identifier: BSD-2-Clause */
/* The QMP server over a real socket: clients, events, descriptors, and migrations with a real
 * guest. */
#include "harness.h"
#include "qmp-peer.h"

#include <fcntl.h>
#include <gio/gio.h>
#include <gio/gunixsocketaddress.h>
#include <glib/gstdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- events ---- */

static void events__of_a_command__come_before_its_answer_to_every_client(void)
{
	HOST();
	QmpPeer *other = qmp_peer_ready(host);
	QmpPeer *silent = qmp_peer_new(host);
	g_autofree char *greeting = qmp_peer_line(silent);

	qmp_peer_send(peer, "{\"execute\":\"cont\"}{\"execute\":\"stop\"}", -1);
	CU_ASSERT(KINDS(peer, "RESUME", "answer", "STOP", "answer"));
	CU_ASSERT(KINDS(other, "RESUME", "STOP"));
	CU_ASSERT(qmp_answers(silent, "{\"execute\":\"qmp_capabilities\"}", "{\"return\":{}}"));
	qmp_peer_free(other);
	qmp_peer_free(silent);
	DONE();
}

static gpointer send_many(gpointer user)
{
	for (guint i = 0; i < 2000; i++) {
		JsonNode *number = json_node_init_int(json_node_alloc(), i);

		ferry_qmp_send_event(user, "TICK", number);
	}
	return NULL;
}

static void events__from_another_thread__arrive_in_order_without_loss(void)
{
	HOST();
	GThread *thread = g_thread_new("sender", send_many, host->qmp);

	for (guint i = 0; i < 2000; i++) {
		g_autofree char *line = qmp_peer_line(peer);
		g_autofree char *end = g_strdup_printf("\"event\":\"TICK\",\"data\":%u}", i);

		if (!line || !g_str_has_suffix(line, end)) {
			CU_FAIL("an event is missing");
			break;
		}
	}
	g_thread_join(thread);
	DONE();
}

/* ---- the socket ---- */

static void socket__modes_and_removal(void)
{
	HOST();
	const char *path = host->address + strlen("unix:");
	g_autofree char *copy = g_strdup(path);
	struct stat st;

	CU_ASSERT(stat(path, &st) == 0 && (st.st_mode & 07777) == 0600);
	DONE();
	CU_ASSERT(access(copy, F_OK) != 0);
}

static void socket__in_the_way__replaced_only_if_stale(void)
{
	HOST();
	g_autofree char *stale = g_strconcat(host->address, "-stale", NULL);
	g_autofree char *file = g_strconcat(host->address, "-file", NULL);
	g_autofree char *missing = g_strconcat(host->address, "-no/qmp", NULL);
	g_autoptr(GSocketAddress) address = g_unix_socket_address_new(stale + strlen("unix:"));
	g_autoptr(GSocket) left = g_socket_new(G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_STREAM, 0, NULL);
	g_autoptr(GError) error = NULL;

	CU_ASSERT(g_socket_bind(left, address, FALSE, NULL));
	g_socket_close(left, NULL);
	CU_ASSERT(ferry_qmp_listen(host->qmp, stale, NULL));
	CU_ASSERT_FALSE(ferry_qmp_listen(host->qmp, host->address, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_STATE));
	g_clear_error(&error);
	CU_ASSERT(g_file_set_contents(file + strlen("unix:"), "precious", -1, NULL));
	CU_ASSERT_FALSE(ferry_qmp_listen(host->qmp, file, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_INVALID));
	g_clear_error(&error);
	CU_ASSERT(g_unlink(file + strlen("unix:")) == 0);
	CU_ASSERT_FALSE(ferry_qmp_listen(host->qmp, "tcp:127.0.0.1:0", &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_INVALID));
	g_clear_error(&error);
	CU_ASSERT_FALSE(ferry_qmp_listen(host->qmp, missing, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_IO));
	DONE();
}

static void session__hangs_up_with_work_under_way__others_go_on(void)
{
	HOST();
	QmpPeer *rude = qmp_peer_ready(host);

	for (guint i = 0; i < 100; i++)
		qmp_peer_send(rude, "{\"execute\":\"query-commands\"}", -1);
	qmp_peer_free(rude);
	CU_ASSERT(qmp_answers(peer, "{\"execute\":\"stop\"}", "{\"return\":{}}"));
	DONE();
}

static void session__reads_no_events__is_cut_off(void)
{
	HOST();
	QmpPeer *deaf = qmp_peer_ready(host);
	g_autofree char *filler = g_strnfill(60000, 'x');
	guint read = 0;

	for (guint i = 0; i < 200; i++) {
		ferry_qmp_send_event(host->qmp, "NOISE",
				     json_node_init_string(json_node_alloc(), filler));
		while (g_main_context_iteration(NULL, FALSE))
			;
		for (char *line = qmp_peer_line(peer); line; line = NULL)
			g_free(line);
	}
	/* What was on its way may still come, but not all. */
	for (char *line; read < 200 && (line = qmp_peer_line(deaf)); read++)
		g_free(line);
	CU_ASSERT(read < 200);
	CU_ASSERT(qmp_answers(peer, "{\"execute\":\"stop\"}", "{\"return\":{}}"));
	qmp_peer_free(deaf);
	DONE();
}

/* ---- migrations ---- */

static void migrate__whole_way_over_qmp__events_and_status_tell_it(void)
{
	g_autofree char *request = NULL;
	g_autofree char *status = NULL;
	g_autofree char *arrived = NULL;
	g_autofree char *uri = NULL;

	HOST();
	QmpHost *there = qmp_host_new();
	QmpPeer *peer_there = qmp_peer_ready(there);

	CU_ASSERT(qmp_answers(peer, "{\"execute\":\"query-migrate\"}", "{\"return\":{}}"));
	CU_ASSERT(qmp_answers(
		peer_there,
		"{\"execute\":\"migrate-incoming\",\"arguments\":{\"uri\":\"tcp:127.0.0.1:0\"}}",
		"{\"return\":{}}"));
	CU_ASSERT(qmp_answers(
		peer_there, "{\"execute\":\"query-status\"}",
		"{\"return\":{\"status\":\"inmigrate\",\"singlestep\":false,\"running\":false}}"));
	CU_ASSERT(qmp_answers(peer, "{\"execute\":\"cont\"}", "{\"return\":{}}"));
	uri = ferry_destination_uri(there->guest->destination);
	request = g_strdup_printf("{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"%s\"}}", uri);
	qmp_peer_send(peer, request, -1);
	CU_ASSERT(qmp_peer_await_status(peer, "setup"));
	CU_ASSERT(qmp_peer_await_status(peer, "active"));
	CU_ASSERT(qmp_peer_await_status(peer, "completed"));
	CU_ASSERT(qmp_peer_take_answer(peer));
	CU_ASSERT(qmp_peer_await_status(peer_there, "completed"));
	status = qmp_peer_ask(peer, "{\"execute\":\"query-migrate\"}");
	CU_ASSERT(
		status &&
		g_str_has_prefix(status, "{\"return\":{\"status\":\"completed\",\"total-time\":"));
	CU_ASSERT(status && strstr(status, "\"downtime\":") &&
		  strstr(status, "\"transport\":\"tcp\""));
	CU_ASSERT(status && strstr(status, "\"remaining\":0,") && strstr(status, "\"rounds\":[{"));
	arrived = qmp_peer_ask(peer_there, "{\"execute\":\"query-migrate\"}");
	CU_ASSERT(arrived && g_str_has_prefix(arrived, "{\"return\":{\"status\":\"completed\""));
	CU_ASSERT(qmp_answers(
		peer, "{\"execute\":\"query-status\"}",
		"{\"return\":{\"status\":\"postmigrate\",\"singlestep\":false,\"running\":false}}"));
	CU_ASSERT(qmp_answers(
		peer_there, "{\"execute\":\"query-status\"}",
		"{\"return\":{\"status\":\"running\",\"singlestep\":false,\"running\":true}}"));
	qmp_peer_free(peer_there);
	qmp_host_free(there);
	DONE();
}

static void migrate__to_nowhere__fails_with_the_reason_and_runs_on(void)
{
	HOST();
	g_autofree char *status = NULL;

	CU_ASSERT(qmp_answers(peer, "{\"execute\":\"cont\"}", "{\"return\":{}}"));
	qmp_peer_send(peer,
		      "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"unix:/nowhere/at-all\"}}",
		      -1);
	CU_ASSERT(qmp_peer_await_status(peer, "failed"));
	CU_ASSERT(qmp_peer_take_answer(peer));
	status = qmp_peer_ask(peer, "{\"execute\":\"query-migrate\"}");
	CU_ASSERT(status &&
		  g_str_has_prefix(status, "{\"return\":{\"status\":\"failed\",\"error-desc\":"));
	CU_ASSERT(status && strstr(status, "/nowhere/at-all"));
	CU_ASSERT(ferry_vm_is_running(host->guest->vm));
	DONE();
}

static void migrate__blocked__says_why(void)
{
	HOST();
	guint id = ferry_vm_add_blocker(host->guest->vm, "a disk is being copied", NULL);

	CU_ASSERT(qmp_answers(peer, "{\"execute\":\"query-migrate\"}",
			      "{\"return\":{\"blocked-reasons\":[\"a disk is being copied\"]}}"));
	CU_ASSERT(qmp_refuses(
		peer, "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"tcp:127.0.0.1:1\"}}",
		"a disk is being copied"));
	ferry_vm_remove_blocker(host->guest->vm, id);
	DONE();
}

static void migrate__events_off__only_the_guest_is_told(void)
{
	HOST();
	FerrySettings *settings = ferry_vm_settings(host->guest->vm);

	CU_ASSERT(ferry_settings_set_capability(settings, FERRY_CAPABILITY_EVENTS, FALSE, NULL));
	CU_ASSERT(qmp_answers(peer, "{\"execute\":\"cont\"}", "{\"return\":{}}"));
	qmp_peer_send(peer,
		      "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"unix:/nowhere/at-all\"}}",
		      -1);
	CU_ASSERT_EQUAL(ferry_source_wait(host->guest->source), FERRY_STATE_NONE);
	CU_ASSERT(KINDS(peer, "answer"));
	CU_ASSERT_EQUAL(ferry_source_wait(host->guest->source), FERRY_STATE_FAILED);
	qmp_peer_send(peer, "{\"execute\":\"stop\"}", -1);
	CU_ASSERT(KINDS(peer, "STOP", "answer"));
	DONE();
}

/* ---- descriptors ---- */

static guint open_descriptors(void)
{
	g_autoptr(GDir) folder = g_dir_open("/proc/self/fd", 0, NULL);
	guint n = 0;

	while (g_dir_read_name(folder))
		n++;
	return n;
}

static void fds__named_replaced_closed__and_none_left_open(void)
{
	HOST();
	guint before = open_descriptors();
	QmpPeer *passer = qmp_peer_ready(host);
	g_autofree char *first = NULL;
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (guint i = 0; i < 3; i++) {
		g_autofree char *answer = NULL;

		qmp_peer_send(passer, "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"a\"}}",
			      fd);
		answer = qmp_peer_line(passer);
		CU_ASSERT(qmp_equal(answer, "{\"return\":{}}"));
	}
	qmp_peer_send(passer, "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"7a\"}}", fd);
	first = qmp_peer_line(passer);
	CU_ASSERT(first && strstr(first, "not starting with a digit"));
	CU_ASSERT(qmp_refuses(peer, "{\"execute\":\"closefd\",\"arguments\":{\"fdname\":\"a\"}}",
			      "File descriptor named 'a' not found"));
	CU_ASSERT(qmp_answers(passer, "{\"execute\":\"closefd\",\"arguments\":{\"fdname\":\"a\"}}",
			      "{\"return\":{}}"));
	qmp_peer_send(passer, "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"b\"}}", fd);
	qmp_peer_free(passer);
	close(fd);
	/* The server learns of the end in its own time; an answer of the other client comes after
	 * it. */
	while (open_descriptors() > before)
		CU_ASSERT(qmp_answers(peer, "{\"execute\":\"stop\"}", "{\"return\":{}}"));
	DONE();
}

static void fds__migrate_over_a_socket_pair__arrives(void)
{
	int fds[2];

	HOST();
	QmpHost *there = qmp_host_new();
	QmpPeer *peer_there = qmp_peer_ready(there);
	static const char getfd[] = "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"mig\"}}";

	CU_ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	qmp_peer_send(peer, getfd, fds[0]);
	qmp_peer_send(peer_there, getfd, fds[1]);
	close(fds[0]);
	close(fds[1]);
	CU_ASSERT(KINDS(peer, "answer"));
	CU_ASSERT(KINDS(peer_there, "answer"));
	qmp_peer_send(peer_there,
		      "{\"execute\":\"migrate-incoming\",\"arguments\":{\"uri\":\"fd:mig\"}}", -1);
	CU_ASSERT(qmp_peer_await_status(peer_there, "setup"));
	CU_ASSERT(qmp_peer_take_answer(peer_there));
	CU_ASSERT(qmp_answers(peer, "{\"execute\":\"cont\"}", "{\"return\":{}}"));
	qmp_peer_send(peer, "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"fd:mig\"}}", -1);
	CU_ASSERT(qmp_peer_await_status(peer, "completed"));
	CU_ASSERT(qmp_peer_take_answer(peer));
	CU_ASSERT(qmp_peer_await_status(peer_there, "completed"));
	CU_ASSERT(qmp_refuses(peer, "{\"execute\":\"closefd\",\"arguments\":{\"fdname\":\"mig\"}}",
			      "File descriptor named 'mig' not found"));
	qmp_peer_free(peer_there);
	qmp_host_free(there);
	DONE();
}

static CU_TestInfo cases[] = {
	CASE(events__of_a_command__come_before_its_answer_to_every_client),
	CASE(events__from_another_thread__arrive_in_order_without_loss),
	CASE(socket__modes_and_removal),
	CASE(socket__in_the_way__replaced_only_if_stale),
	CASE(session__hangs_up_with_work_under_way__others_go_on),
	CASE(session__reads_no_events__is_cut_off),
	CASE(migrate__whole_way_over_qmp__events_and_status_tell_it),
	CASE(migrate__to_nowhere__fails_with_the_reason_and_runs_on),
	CASE(migrate__blocked__says_why),
	CASE(migrate__events_off__only_the_guest_is_told),
	CASE(fds__named_replaced_closed__and_none_left_open),
	CASE(fds__migrate_over_a_socket_pair__arrives),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "qmp-session", cases);
}
