/* SPDX-License-Identifier: BSD-2-Clause */
/* The conversation of the two ends of a bench. */
#include "bench/control.h"
#include "harness.h"

#include <sys/socket.h>
#include <ferry/error.h>

static void uri__host_and_port__parsed_and_printed_alike(void)
{
	static const char *const uris[] = { "rdma:192.0.2.7:4455", "rdma:[fd00::7]:1" };

	for (guint i = 0; i < G_N_ELEMENTS(uris); i++) {
		g_autoptr(GSocketConnectable) name = ferry_bench_uri_parse("rdma", uris[i], NULL);
		g_autoptr(GSocketAddressEnumerator) all = g_socket_connectable_enumerate(name);
		g_autoptr(GSocketAddress)
			address = g_socket_address_enumerator_next(all, NULL, NULL);
		g_autoptr(GSocketAddress) other = ferry_bench_address_with_port(address, 65535);
		g_autofree char *printed = ferry_bench_uri_print("rdma", address);
		g_autofree char *moved = ferry_bench_uri_print("rdma", other);

		CU_ASSERT_STRING_EQUAL(printed, uris[i]);
		CU_ASSERT(g_str_has_suffix(moved, ":65535"));
	}
}

static void uri__of_either_scheme__is_told(void)
{
	g_autoptr(GSocketConnectable) tcp = ferry_bench_uri_parse("tcp", "tcp:192.0.2.7:1", NULL);
	g_autoptr(GSocketConnectable)
		other = ferry_bench_uri_parse("tcp", "rdma:192.0.2.7:1", NULL);

	CU_ASSERT_PTR_NOT_NULL(tcp);
	CU_ASSERT_PTR_NULL(other);
	CU_ASSERT_STRING_EQUAL(ferry_bench_scheme_of("tcp:192.0.2.7:1"), "tcp");
	CU_ASSERT_STRING_EQUAL(ferry_bench_scheme_of("rdma:192.0.2.7:1"), "rdma");
}

static void uri__malformed__refused(void)
{
	static const char *const bad[] = { "",           "tcp:a:1",      "rdma:",
					   "rdma:a",     "rdma:a:",      "rdma:a:b",
					   "rdma:[::1]", "rdma:a:99999", "192.0.2.7:1" };

	for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) error = NULL;
		g_autoptr(GSocketConnectable) name = ferry_bench_uri_parse("rdma", bad[i], &error);

		CU_ASSERT_PTR_NULL(name);
		CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_INVALID));
	}
}

/* What @bytes and the end of the connection behind them are read as. */
static JsonObject *read_back(const char *bytes, size_t len, gboolean *end, GError **error)
{
	g_autoptr(GSocket) reader = NULL, writer = NULL;
	int pair[2];

	CU_ASSERT_EQUAL(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	reader = g_socket_new_from_fd(pair[0], NULL);
	writer = g_socket_new_from_fd(pair[1], NULL);
	CU_ASSERT_EQUAL(g_socket_send(writer, bytes, len, NULL, NULL), (gssize)len);
	g_socket_close(writer, NULL);
	return ferry_bench_control_read(reader, end, error);
}

static void line__whole_object__read(void)
{
	static const char line[] = "{\"do\": \"raw\", \"size\": 4096}\n";
	g_autoptr(JsonObject) object = read_back(line, strlen(line), NULL, NULL);
	guint64 size = 0;

	CU_ASSERT_PTR_NOT_NULL(object);
	if (!object)
		return;
	CU_ASSERT(ferry_bench_control_number(object, "size", 1, 4096, &size, NULL));
	CU_ASSERT_EQUAL(size, 4096);
}

static void line__hostile__refused(void)
{
	g_autofree char *endless = g_strnfill(100000, '[');
	const char *const bad[] = { "x\n", "[]\n", "{\"do\"", "\n", endless };

	for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) error = NULL;
		gboolean end = TRUE;
		g_autoptr(JsonObject) object = read_back(bad[i], strlen(bad[i]), &end, &error);

		CU_ASSERT_PTR_NULL(object);
		CU_ASSERT_FALSE(end);
		CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_PEER));
		CU_ASSERT_EQUAL(bad[i] == endless, strstr(error->message, "too long") != NULL);
	}
}

static void line__connection_closed__is_the_end_where_that_is_allowed(void)
{
	g_autoptr(GError) error = NULL;
	gboolean end = FALSE;

	CU_ASSERT_PTR_NULL(read_back("", 0, &end, &error));
	CU_ASSERT(end && !error);
	CU_ASSERT_PTR_NULL(read_back("", 0, NULL, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_PEER));
}

static void number__out_of_range__refused_and_nothing_set(void)
{
	static const char *const bad[] = { "{}", "{\"n\": -1}", "{\"n\": 0}", "{\"n\": 17}",
					   "{\"n\": \"x\"}" };

	for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autofree char *line = g_strconcat(bad[i], "\n", NULL);
		g_autoptr(JsonObject) object = read_back(line, strlen(line), NULL, NULL);
		g_autoptr(GError) error = NULL;
		guint64 n = 77;

		CU_ASSERT_FALSE(ferry_bench_control_number(object, "n", 1, 16, &n, &error));
		CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_PEER));
		CU_ASSERT_EQUAL(n, 77);
	}
}

static CU_TestInfo cases[] = {
	CASE(uri__host_and_port__parsed_and_printed_alike),
	CASE(uri__of_either_scheme__is_told),
	CASE(uri__malformed__refused),
	CASE(line__whole_object__read),
	CASE(line__hostile__refused),
	CASE(line__connection_closed__is_the_end_where_that_is_allowed),
	CASE(number__out_of_range__refused_and_nothing_set),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "bench-control", cases);
}
