/* SPDX-License-Identifier: BSD-2-Clause */
/* What `ferry bench link` makes of its measurements: medians, the record, ib_write_bw's output; and
 * its raw sockets. */
#include "bench/link-tally.h"
#include "bench/perftest.h"
#include "bench/raw-tcp.h"
#include "harness.h"

#include <math.h>
#include <netinet/in.h>
#include <unistd.h>

#define MIB 1048576.0

static const FerryBenchLinkPlan plan = { .ram = 512u << 20,
					 .repeat = 3,
					 .seconds = 1,
					 .queue_pairs = { 1, { 4 } },
					 .connections = { 2, { 1, 4 } } };
static const FerryBenchLane rdma_4 = { .rdma = TRUE, .n = 4 };

static FerryBenchTally *tally_with(const double *rates, guint n)
{
	const FerryBenchRawShape shape = { .queue_pairs = 4, .size = 65536, .depth = 16 };
	FerryBenchTally *tally = ferry_bench_tally_new(&plan);

	for (guint i = 0; i < n; i++)
		ferry_bench_tally_raw(tally, &shape, rates[i]);
	return tally;
}

static FerryBenchRecord *record_of(const FerryBenchTally *tally)
{
	FerryBenchRecord *record = ferry_bench_record_new("link", "A test");

	ferry_bench_tally_record(tally, "rdma:a:1", record);
	return record;
}

/* The cells of row @row of the table with that title; NULL without. */
static JsonObject *cells_of(JsonObject *root, const char *title, guint row)
{
	JsonArray *tables = json_object_get_array_member(root, "tables");

	for (guint i = 0; i < json_array_get_length(tables); i++) {
		JsonObject *table = json_array_get_object_element(tables, i);
		JsonArray *rows = json_object_get_array_member(table, "rows");

		if (g_str_equal(json_object_get_string_member(table, "title"), title) &&
		    row < json_array_get_length(rows))
			return json_object_get_object_member(
				json_array_get_object_element(rows, row), "cells");
	}
	return NULL;
}

static double number_of(JsonObject *cells, const char *key, const char *member)
{
	JsonNode *cell = cells ? json_object_get_member(cells, key) : NULL;

	if (!cell)
		return NAN;
	return member ? json_object_get_double_member(json_node_get_object(cell), member)
		      : json_node_get_double(cell);
}

static void check_figure(const double *numbers, guint n, double median, double spread)
{
	g_autoptr(GArray) array = ferry_bench_numbers_new();
	g_auto(FerryBenchFigure) figure = { 0 };

	g_array_append_vals(array, numbers, n);
	figure = ferry_bench_figure_of(array);
	CU_ASSERT_EQUAL(figure.n, n);
	CU_ASSERT_DOUBLE_EQUAL(figure.median, median, 1e-9);
	CU_ASSERT_DOUBLE_EQUAL(figure.spread, spread, 1e-9);
	for (guint i = 0; i < n; i++)
		CU_ASSERT_EQUAL(g_array_index(figure.samples, double, i), numbers[i]);
}

static void figure__odd_and_even_numbers__is_the_middle(void)
{
	check_figure((const double[]){ 300, 100, 200 }, 3, 200, 1);
	check_figure((const double[]){ 400, 100, 200, 300 }, 4, 250, 1.2);
	check_figure((const double[]){ 100 }, 1, 100, 0);
	check_figure(NULL, 0, 0, 0);
}

static void rows__other_shapes__are_kept_apart(void)
{
	const FerryBenchRawShape a = { 1, 4096, 64 }, b = { 1, 65536, 16 }, c = { 2, 4096, 64 },
				 d = { 1, 4096, 8 };
	FerryBenchTally *tally = ferry_bench_tally_new(&plan);

	ferry_bench_tally_raw(tally, &a, 1);
	ferry_bench_tally_raw(tally, &b, 2);
	ferry_bench_tally_raw(tally, &c, 3);
	ferry_bench_tally_raw(tally, &d, 4);
	ferry_bench_tally_perftest(tally, &a, 4);
	CU_ASSERT_EQUAL(tally->raw->len, 4);
	CU_ASSERT_EQUAL(g_array_index(tally->raw, FerryBenchRawRow, 0).perftest->len, 1);
	CU_ASSERT_EQUAL(g_array_index(tally->raw, FerryBenchRawRow, 1).shape.size, 65536);
	CU_ASSERT_EQUAL(g_array_index(tally->raw, FerryBenchRawRow, 2).shape.queue_pairs, 2);
	CU_ASSERT_EQUAL(g_array_index(tally->raw, FerryBenchRawRow, 3).shape.depth, 8);
	ferry_bench_tally_free(tally);
}

/* 256 MiB on the wire in 2 s of round 1, the whole in 4 s. */
static FerryRound rounds[] = { { .round = 1, .bytes = 256u << 20, .time_us = 2000000 },
			       { .round = 2, .bytes = 1, .time_us = 1 } };
static const FerryMigrationStatus status = { .total_time_ms = 4000,
					     .source_cpu = { .user = 1, .system = 0.5 },
					     .rounds = rounds,
					     .n_rounds = G_N_ELEMENTS(rounds) };

static void migration__told__is_bulk_and_whole_and_a_share_of_its_own_ceiling(void)
{
	const double rate = 100 * MIB;
	FerryBenchTally *tally = tally_with(&rate, 1);
	g_autoptr(FerryBenchRecord) record = NULL;
	JsonObject *rdma, *multifd;

	CU_ASSERT_DOUBLE_EQUAL(ferry_bench_bulk_rate(&status), 128 * MIB, 1);
	ferry_bench_tally_migration(tally, &rdma_4, &status);
	ferry_bench_tally_tcp(tally, 1, 512 * MIB);
	ferry_bench_tally_tcp(tally, 4, 256 * MIB);
	ferry_bench_tally_migration(tally, &(const FerryBenchLane){ .n = 4 }, &status);
	record = record_of(tally);
	rdma = cells_of(ferry_bench_record_root(record), "Migrations", 0);
	multifd = cells_of(ferry_bench_record_root(record), "Migrations", 1);
	CU_ASSERT_DOUBLE_EQUAL(number_of(rdma, "bulk", "median"), 128, 1e-6);
	CU_ASSERT_DOUBLE_EQUAL(number_of(rdma, "whole", "median"), 128, 1e-6);
	CU_ASSERT_DOUBLE_EQUAL(number_of(rdma, "source-cpu", "median"), 3, 1e-6);
	CU_ASSERT_DOUBLE_EQUAL(number_of(rdma, "of-here", NULL), 128, 1e-6);
	CU_ASSERT_DOUBLE_EQUAL(number_of(rdma, "of-best", NULL), 128, 1e-6);
	CU_ASSERT_DOUBLE_EQUAL(number_of(multifd, "of-here", NULL), 50, 1e-6);
	CU_ASSERT_DOUBLE_EQUAL(number_of(multifd, "of-best", NULL), 25, 1e-6);
	ferry_bench_tally_free(tally);
}

static void registration__by_kind__is_ms_a_gib_or_says_why_not(void)
{
	FerryBenchTally *tally = ferry_bench_tally_new(&plan);
	g_autoptr(FerryBenchRecord) record = NULL;
	g_autofree char *text = NULL;
	JsonObject *memfd;

	ferry_bench_tally_pages(tally, FERRY_BENCH_PAGES_MEMFD, 256u << 20, 50000, 1000);
	ferry_bench_tally_pages_skipped(tally, FERRY_BENCH_PAGES_HUGETLB, "none is free");
	ferry_bench_tally_pages_skipped(tally, FERRY_BENCH_PAGES_HUGETLB, "none is free");
	record = record_of(tally);
	memfd = cells_of(ferry_bench_record_root(record), "Registering memory", 0);
	CU_ASSERT_DOUBLE_EQUAL(number_of(memfd, "register", "median"), 200, 1e-9);
	CU_ASSERT_DOUBLE_EQUAL(number_of(memfd, "deregister", "median"), 4, 1e-9);
	CU_ASSERT_PTR_NULL(cells_of(ferry_bench_record_root(record), "Registering memory", 1));
	text = ferry_bench_record_print(record);
	CU_ASSERT(strstr(text, "skipped: registering, hugetlb: none is free\n") != NULL);
	ferry_bench_tally_free(tally);
}

static void record__of_a_tally__has_every_sample_and_doubts_what_spreads(void)
{
	const double rates[] = { 30 * MIB, 10 * MIB, 20 * MIB };
	FerryBenchTally *tally = tally_with(rates, G_N_ELEMENTS(rates));
	g_autoptr(FerryBenchRecord) record = record_of(tally);
	g_autoptr(JsonNode) node = ferry_bench_record_json(record);
	g_autofree char *text = ferry_bench_record_print(record);
	JsonObject *root = json_node_get_object(node);
	JsonObject *cells = cells_of(root, "Raw RDMA writes, the ceiling", 0);
	JsonArray *samples;

	CU_ASSERT_EQUAL(json_object_get_int_member(root, "ferry-bench"), 1);
	CU_ASSERT_EQUAL(
		json_object_get_int_member(json_object_get_object_member(root, "plan"), "ram"),
		512 << 20);
	CU_ASSERT_EQUAL(number_of(cells, "size", NULL), 65536);
	CU_ASSERT_EQUAL(number_of(cells, "rate", "median"), 20);
	CU_ASSERT_EQUAL(number_of(cells, "rate", "min"), 10);
	CU_ASSERT_EQUAL(number_of(cells, "rate", "max"), 30);
	samples = json_object_get_array_member(json_object_get_object_member(cells, "rate"),
					       "samples");
	CU_ASSERT_EQUAL(json_array_get_length(samples), 3);
	for (guint i = 0; i < json_array_get_length(samples); i++)
		CU_ASSERT_EQUAL(json_array_get_double_element(samples, i), rates[i] / MIB);
	CU_ASSERT(strstr(text, "4 queue pairs, 64K, 16 deep  20.0 (10.0-30.0)            100\n") !=
		  NULL);
	CU_ASSERT(strstr(text,
			 "warning: Raw RDMA writes, the ceiling, 4 queue pairs, 64K, 16 deep, "
			 "MiB/s: from 10 to 30, 100 %") != NULL);
	CU_ASSERT_EQUAL(json_array_get_length(json_object_get_array_member(root, "warnings")), 1);
	ferry_bench_tally_free(tally);
}

static void record__figures_close_together__no_warning(void)
{
	const double rates[] = { 100, 110, 129 };
	FerryBenchTally *tally = tally_with(rates, G_N_ELEMENTS(rates));
	g_autoptr(FerryBenchRecord) record = record_of(tally);
	g_autofree char *text = ferry_bench_record_print(record);

	CU_ASSERT_PTR_NULL(strstr(text, "warning"));
	ferry_bench_tally_free(tally);
}

/* ---- raw sockets ---- */

static const struct sockaddr_in loopback = { .sin_family = AF_INET,
					     .sin_addr = { .s_addr = 0x0100007f } };

static void sockets__several_connections__a_rate_of_all_that_arrived(void)
{
	g_autoptr(GError) error = NULL;
	guint16 port = 0;
	g_autoptr(FerryBenchTcpServer) server = ferry_bench_tcp_server_new(
		(const struct sockaddr *)&loopback, 3, &port, &error);
	struct sockaddr_in peer = loopback;
	double rate = 0;

	CU_ASSERT_PTR_NOT_NULL(server);
	peer.sin_port = g_htons(port);
	CU_ASSERT_TRUE(
		ferry_bench_tcp_measure((const struct sockaddr *)&peer, 3, 0.05, &rate, &error));
	CU_ASSERT(rate > 0);
}

static void sockets__nobody_listens__says_so(void)
{
	g_autoptr(GError) error = NULL;
	struct sockaddr_in peer = loopback;
	double rate = 7;

	peer.sin_port = g_htons(1);
	CU_ASSERT_FALSE(
		ferry_bench_tcp_measure((const struct sockaddr *)&peer, 2, 0.05, &rate, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_LINK));
	CU_ASSERT_EQUAL(rate, 7);
}

static gpointer measure_in_thread(gpointer user)
{
	g_autoptr(GError) error = NULL;
	struct sockaddr_in peer = loopback;
	double rate;

	peer.sin_port = g_htons(GPOINTER_TO_UINT(user));
	return GINT_TO_POINTER(
		ferry_bench_tcp_measure((const struct sockaddr *)&peer, 2, 600, &rate, &error));
}

static void sockets__listener_ends_meanwhile__both_sides_end(void)
{
	guint16 port = 0;
	FerryBenchTcpServer *server = ferry_bench_tcp_server_new((const struct sockaddr *)&loopback,
								 2, &port, NULL);
	GThread *thread = g_thread_new("measure", measure_in_thread, GUINT_TO_POINTER(port));
	struct sockaddr_in peer = loopback;
	int third = socket(AF_INET, SOCK_STREAM, 0);

	/* The queue of the listener is first come, first served: behind this one both are in it, or
	 * refused. */
	peer.sin_port = g_htons(port);
	CU_ASSERT_EQUAL(connect(third, (const struct sockaddr *)&peer, sizeof(peer)), 0);
	ferry_bench_tcp_server_free(server);
	CU_ASSERT_FALSE(GPOINTER_TO_INT(g_thread_join(thread)));
	close(third);
}

/* ---- ib_write_bw ---- */

static void perftest__its_table__gives_the_average(void)
{
	static const char table[] =
		" CQ Moderation   : 1\n"
		" local address: LID 0000 QPN 0x0011 PSN 0xf78662 RKey 0x0002e2\n"
		" #bytes     #iterations    BW peak[MB/sec]    BW average[MB/sec]   MsgRate[Mpps]\n"
		" 1048576    200              48.80              36.74  \t\t   0.000037\n"
		"-------------------------------------------------------\n";

	CU_ASSERT_DOUBLE_EQUAL(ferry_bench_perftest_parse(table), 36.74 * MIB, 1);
}

static void perftest__no_table__gives_nothing(void)
{
	CU_ASSERT_EQUAL(ferry_bench_perftest_parse(""), 0);
	CU_ASSERT_EQUAL(ferry_bench_perftest_parse("Couldn't connect to 10.77.0.2:18515\n"), 0);
	CU_ASSERT_EQUAL(ferry_bench_perftest_parse(" 65536 100 1.0\n"), 0);
}

static CU_TestInfo cases[] = {
	CASE(figure__odd_and_even_numbers__is_the_middle),
	CASE(rows__other_shapes__are_kept_apart),
	CASE(migration__told__is_bulk_and_whole_and_a_share_of_its_own_ceiling),
	CASE(registration__by_kind__is_ms_a_gib_or_says_why_not),
	CASE(record__of_a_tally__has_every_sample_and_doubts_what_spreads),
	CASE(record__figures_close_together__no_warning),
	CASE(sockets__several_connections__a_rate_of_all_that_arrived),
	CASE(sockets__nobody_listens__says_so),
	CASE(sockets__listener_ends_meanwhile__both_sides_end),
	CASE(perftest__its_table__gives_the_average),
	CASE(perftest__no_table__gives_nothing),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "bench-link", cases);
}
