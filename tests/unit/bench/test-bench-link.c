/* SPDX-License-Identifier: BSD-2-Clause */
/* What `ferry bench link` makes of its measurements: medians, the table, ib_write_bw's output. */
#include "bench/link-tally.h"
#include "bench/perftest.h"
#include "harness.h"

#include <math.h>

#define MIB 1048576.0

static const FerryBenchLinkPlan plan = { .ram = 512u << 20, .repeat = 3, .seconds = 1 };

static FerryBenchTally *tally_with(const double *rates, guint n)
{
	const FerryBenchRawShape shape = { .queue_pairs = 4, .size = 65536, .depth = 16 };
	FerryBenchTally *tally = ferry_bench_tally_new(&plan);

	for (guint i = 0; i < n; i++)
		ferry_bench_tally_raw(tally, &shape, rates[i]);
	return tally;
}

static void check_raw(const double *rates, guint n, double median, double spread)
{
	FerryBenchTally *tally = tally_with(rates, n);
	g_autoptr(FerryBenchLinkReport) report = ferry_bench_tally_report(tally, "rdma:a:1");
	const FerryBenchRawRow *row = &g_array_index(report->raw, FerryBenchRawRow, 0);

	CU_ASSERT_EQUAL(report->raw->len, 1);
	CU_ASSERT_EQUAL(row->raw.n, n);
	CU_ASSERT_DOUBLE_EQUAL(row->raw.median, median, 1e-9);
	CU_ASSERT_DOUBLE_EQUAL(row->raw.spread, spread, 1e-9);
	CU_ASSERT_EQUAL(row->perftest.n, 0);
	ferry_bench_tally_free(tally);
}

static void figure__odd_and_even_numbers__is_the_middle(void)
{
	check_raw((const double[]){ 300, 100, 200 }, 3, 200, 1);
	check_raw((const double[]){ 400, 100, 200, 300 }, 4, 250, 1.2);
	check_raw((const double[]){ 100 }, 1, 100, 0);
}

static void rows__other_shapes__are_kept_apart(void)
{
	const FerryBenchRawShape a = { 1, 4096, 64 }, b = { 1, 65536, 16 }, c = { 2, 4096, 64 };
	FerryBenchTally *tally = ferry_bench_tally_new(&plan);
	g_autoptr(FerryBenchLinkReport) report = NULL;

	ferry_bench_tally_raw(tally, &a, 1);
	ferry_bench_tally_raw(tally, &b, 2);
	ferry_bench_tally_raw(tally, &c, 3);
	ferry_bench_tally_perftest(tally, &a, 4);
	report = ferry_bench_tally_report(tally, "rdma:a:1");
	CU_ASSERT_EQUAL(report->raw->len, 3);
	CU_ASSERT_EQUAL(g_array_index(report->raw, FerryBenchRawRow, 0).perftest.median, 4);
	CU_ASSERT_EQUAL(g_array_index(report->raw, FerryBenchRawRow, 1).size, 65536);
	CU_ASSERT_EQUAL(g_array_index(report->raw, FerryBenchRawRow, 2).queue_pairs, 2);
	ferry_bench_tally_free(tally);
}

/* 256 MiB on the wire in 2 s of round 1, the whole in 4 s. */
static void migration__told__is_bulk_and_whole(void)
{
	FerryRound rounds[] = { { .round = 1, .bytes = 256u << 20, .time_us = 2000000 },
				{ .round = 2, .bytes = 1, .time_us = 1 } };
	const FerryMigrationStatus status = { .total_time_ms = 4000,
					      .rounds = rounds,
					      .n_rounds = G_N_ELEMENTS(rounds) };
	const double rate = 100 * MIB;
	FerryBenchTally *tally = tally_with(&rate, 1);
	g_autoptr(FerryBenchLinkReport) report = NULL;
	g_autofree char *text = NULL;
	const FerryBenchFerryRow *row;

	CU_ASSERT_DOUBLE_EQUAL(ferry_bench_bulk_rate(&status), 128 * MIB, 1);
	ferry_bench_tally_migration(tally, 4, &status);
	report = ferry_bench_tally_report(tally, "rdma:a:1");
	row = &g_array_index(report->migrations, FerryBenchFerryRow, 0);
	CU_ASSERT_DOUBLE_EQUAL(row->bulk.median, 128 * MIB, 1);
	CU_ASSERT_DOUBLE_EQUAL(row->whole.median, 128 * MIB, 1);
	text = ferry_bench_link_report_text(report);
	CU_ASSERT(strstr(text, "   128.0    0%    128%    128%") != NULL);
	CU_ASSERT(strstr(text, "64K     16      100.0    0%    100%    100%") != NULL);
	ferry_bench_tally_free(tally);
}

static void json__of_a_report__has_every_row(void)
{
	const double rate = 7;
	FerryBenchTally *tally = tally_with(&rate, 1);
	g_autoptr(FerryBenchLinkReport) report = ferry_bench_tally_report(tally, "rdma:a:1");
	g_autoptr(JsonNode) node = ferry_bench_link_report_json(report);
	JsonObject *object = json_node_get_object(node);
	JsonObject *row = json_array_get_object_element(json_object_get_array_member(object, "raw"),
							0);

	CU_ASSERT_EQUAL(json_object_get_int_member(object, "ram"), 512 << 20);
	CU_ASSERT_EQUAL(json_object_get_int_member(row, "size"), 65536);
	CU_ASSERT_EQUAL(json_object_get_double_member(
				json_object_get_object_member(row, "bytes-per-second"), "median"),
			7);
	CU_ASSERT_EQUAL(json_array_get_length(json_object_get_array_member(object, "ferry")), 0);
	ferry_bench_tally_free(tally);
}

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
	CASE(migration__told__is_bulk_and_whole),
	CASE(json__of_a_report__has_every_row),
	CASE(perftest__its_table__gives_the_average),
	CASE(perftest__no_table__gives_nothing),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "bench-link", cases);
}
