/* SPDX-License-Identifier: BSD-2-Clause */
/* What `ferry bench fault` makes of its measurements, and the thread that it measures with. */
#include "bench/fault-touch.h"
#include "bench/fault-wire.h"
#include "bench/raw-minor.h"
#include "harness.h"

#include <math.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM (4u << 20)
#define PAGES (RAM >> FERRY_PAGE_SHIFT)

static const FerryBenchFaultPlan plan = { .ram = RAM, .faults = 100, .repeat = 3 };

/* ---- latencies ---- */

static void check_latency(guint n, double p50, double p90, double p99, double max)
{
	g_autoptr(GArray) ns = g_array_new(FALSE, FALSE, sizeof(gint64));
	FerryBenchLatency latency;

	/* n, n - 1, ..., 1 us */
	for (guint i = n; i > 0; i--) {
		gint64 value = i * G_GINT64_CONSTANT(1000);

		g_array_append_val(ns, value);
	}
	latency = ferry_bench_latency_of(ns);
	CU_ASSERT_EQUAL(latency.faults, n);
	CU_ASSERT_DOUBLE_EQUAL(latency.p50, p50, 1e-9);
	CU_ASSERT_DOUBLE_EQUAL(latency.p90, p90, 1e-9);
	CU_ASSERT_DOUBLE_EQUAL(latency.p99, p99, 1e-9);
	CU_ASSERT_DOUBLE_EQUAL(latency.max, max, 1e-9);
	CU_ASSERT_EQUAL(latency.n_quantiles, MIN(n, FERRY_BENCH_QUANTILES_MAX));
	for (guint i = 0; i < latency.n_quantiles; i++)
		CU_ASSERT_DOUBLE_EQUAL(latency.quantiles[i],
				       ceil((i + 1.0) * n / latency.n_quantiles), 1e-9);
}

static void latency__any_number_of_faults__is_by_nearest_rank(void)
{
	check_latency(0, 0, 0, 0, 0);
	check_latency(1, 1, 1, 1, 1);
	check_latency(2, 1, 2, 2, 2);
	check_latency(10, 5, 9, 10, 10);
	check_latency(1000, 500, 900, 990, 1000);
	check_latency(333, 167, 300, 330, 333);
}

/* ---- the touching thread ---- */

static gboolean touch(const FerryBenchRam *ram, guint64 faults, FerryBenchLatency *felt,
		      GError **error)
{
	g_autoptr(FerryBenchTouch)
		thread = ferry_bench_touch_new(ram->host, ram->size, faults, error);
	struct pollfd end = { thread ? ferry_bench_touch_fd(thread) : -1, POLLIN, 0 };

	if (!thread)
		return FALSE;
	ferry_bench_touch_start(thread);
	ferry_bench_touch_start(thread);
	CU_ASSERT_EQUAL(poll(&end, 1, 60000), 1);
	return ferry_bench_touch_result(thread, felt, error);
}

/* Marked through a mapping of its own: the guest's stays untouched. */
static FerryBenchRam *marked_ram(guint pages_without)
{
	FerryBenchRam *ram = ferry_bench_ram_new(RAM, FALSE, NULL);
	guint8 *other = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_SHARED, ram->fd, 0);

	ferry_bench_touch_mark(other, RAM);
	memset(other, 0, pages_without << FERRY_PAGE_SHIFT);
	munmap(other, RAM);
	/* Each page faults by itself, as under userfaultfd: without the kernel's mapping of those
	 * around it. */
	madvise(ram->host, RAM, MADV_RANDOM);
	return ram;
}

static void touch__pages_that_are_there__are_not_counted(void)
{
	g_autoptr(FerryBenchRam) ram = ferry_bench_ram_new(RAM, FALSE, NULL);
	g_autoptr(GError) error = NULL;
	FerryBenchLatency felt = { 0 };

	ferry_bench_touch_mark(ram->host, RAM);
	CU_ASSERT_TRUE(touch(ram, 0, &felt, &error));
	/* The thread's stack, a sanitizer's shadow: once in a while something else faults. */
	CU_ASSERT(felt.faults < PAGES / 50);
}

static void touch__pages_not_mapped__times_what_faulted(void)
{
	g_autoptr(FerryBenchRam) ram = marked_ram(0);
	FerryBenchLatency felt = { 0 };

	CU_ASSERT_TRUE(touch(ram, 0, &felt, NULL));
	CU_ASSERT(felt.faults > 0 && felt.faults <= PAGES);
	CU_ASSERT(felt.p50 > 0 && felt.p50 <= felt.p90 && felt.p90 <= felt.p99 &&
		  felt.p99 <= felt.max);
}

static void touch__limit__ends_after_so_many_faults(void)
{
	g_autoptr(FerryBenchRam) ram = marked_ram(0);
	FerryBenchLatency felt = { 0 };

	CU_ASSERT_TRUE(touch(ram, 7, &felt, NULL));
	CU_ASSERT_EQUAL(felt.faults, 7);
}

static void touch__page_without_its_mark__is_an_error(void)
{
	g_autoptr(FerryBenchRam) ram = marked_ram(3);
	g_autoptr(GError) error = NULL;
	FerryBenchLatency felt = { 0 };

	CU_ASSERT_FALSE(touch(ram, 0, &felt, &error));
	CU_ASSERT(error && strstr(error->message, "3 pages") != NULL);
}

static void touch__freed_early__ends(void)
{
	g_autoptr(FerryBenchRam) ram = marked_ram(0);
	g_autoptr(FerryBenchTouch) started = ferry_bench_touch_new(ram->host, RAM, 0, NULL);
	g_autoptr(FerryBenchTouch) idle = ferry_bench_touch_new(ram->host, RAM, 0, NULL);

	CU_ASSERT_PTR_NOT_NULL(idle);
	ferry_bench_touch_start(started);
}

/* ---- minor faults ---- */

/* Shows each page as somebody waits for it; at most @most. Returns how many. */
static guint serve_minor(int fd, const FerryBenchRam *ram, int end, guint most, GError **error)
{
	struct pollfd fds[] = { { fd, POLLIN, 0 }, { end, POLLIN, 0 } };
	guint served = 0;

	while (served < most && poll(fds, G_N_ELEMENTS(fds), 60000) > 0 && !fds[1].revents) {
		guint64 offset;

		while (served < most && ferry_bench_minor_take(fd, ram, &offset, error)) {
			CU_ASSERT(offset < RAM && offset % FERRY_PAGE_SIZE == 0);
			if (!ferry_bench_minor_continue(fd, ram, offset, error))
				return served;
			served++;
		}
	}
	return served;
}

static void minor__pages_of_the_other_mapping__are_waited_for_once_each(void)
{
	g_autoptr(FerryBenchRam) ram = marked_ram(0);
	g_autoptr(FerryBenchTouch) thread = ferry_bench_touch_new(ram->host, RAM, 0, NULL);
	g_autoptr(GError) error = NULL;
	FerryBenchLatency felt = { 0 };
	int fd = ferry_bench_minor_open(ram, &error);

	if (fd < 0)
		SKIP("%s", error->message);
	ferry_bench_touch_start(thread);
	CU_ASSERT_EQUAL(serve_minor(fd, ram, ferry_bench_touch_fd(thread), G_MAXUINT, &error),
			PAGES);
	CU_ASSERT_PTR_NULL(error);
	CU_ASSERT_TRUE(ferry_bench_touch_result(thread, &felt, NULL));
	CU_ASSERT_EQUAL(felt.faults, PAGES);
	close(fd);
}

static void minor__closed__lets_go_who_waits(void)
{
	g_autoptr(FerryBenchRam) ram = marked_ram(0);
	g_autoptr(FerryBenchTouch) thread = ferry_bench_touch_new(ram->host, RAM, 0, NULL);
	g_autoptr(GError) error = NULL;
	int fd = ferry_bench_minor_open(ram, &error);

	if (fd < 0)
		SKIP("%s", error->message);
	ferry_bench_touch_start(thread);
	CU_ASSERT_EQUAL(serve_minor(fd, ram, -1, 1, &error), 1);
	close(fd);
	/* The end of the case waits for the thread. */
}

/* ---- what the two processes say ---- */

static JsonObject *latency_object(void)
{
	const FerryBenchLatency latency = { 5, 1.5, 2.5, 3.5, 4.5, 2, { 1.5, 4.5 } };
	JsonObject *object = json_object_new();

	ferry_bench_latency_put(object, &latency);
	return object;
}

static void latency__put_and_got__is_the_same(void)
{
	g_autoptr(JsonObject) object = latency_object();
	FerryBenchLatency latency;

	CU_ASSERT_TRUE(ferry_bench_latency_get(object, &latency, NULL));
	CU_ASSERT_EQUAL(latency.faults, 5);
	CU_ASSERT_EQUAL(latency.p50, 1.5);
	CU_ASSERT_EQUAL(latency.p90, 2.5);
	CU_ASSERT_EQUAL(latency.p99, 3.5);
	CU_ASSERT_EQUAL(latency.max, 4.5);
	CU_ASSERT_EQUAL(latency.n_quantiles, 2);
	CU_ASSERT_EQUAL(latency.quantiles[0], 1.5);
	CU_ASSERT_EQUAL(latency.quantiles[1], 4.5);
}

static void latency__member_missing_or_negative__refused(void)
{
	static const char *const names[] = { "faults", "p50-us", "p90-us", "p99-us", "max-us" };

	for (guint i = 0; i < 2 * G_N_ELEMENTS(names); i++) {
		g_autoptr(JsonObject) object = latency_object();
		g_autoptr(GError) error = NULL;
		FerryBenchLatency latency;

		json_object_remove_member(object, names[i / 2]);
		if (i % 2)
			json_object_set_int_member(object, names[i / 2], -2);
		CU_ASSERT_FALSE(ferry_bench_latency_get(object, &latency, &error));
		CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_PEER));
	}
}

static void latency__quantiles_hostile__refused(void)
{
	g_autofree char *many = g_strnfill(2 * FERRY_BENCH_QUANTILES_MAX + 1, '1');
	const char *bad[] = { "7", "[\"x\"]", "[-1]", "[2, 1]", "[[]]", "[null]", "[{}]", many };

	for (guint i = 1; i < 2 * FERRY_BENCH_QUANTILES_MAX; i += 2)
		many[i] = ',';
	for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(JsonObject) object = latency_object();
		g_autofree char *list = bad[i] == many ? g_strdup_printf("[%s]", many)
						       : g_strdup(bad[i]);
		g_autoptr(GError) error = NULL;
		FerryBenchLatency latency;

		json_object_set_member(object, "quantiles-us", json_from_string(list, NULL));
		CU_ASSERT_FALSE(ferry_bench_latency_get(object, &latency, &error));
		CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_PEER));
	}
}

static void shape__every_mode__comes_back(void)
{
	for (FerryBenchFaultMode mode = 0; mode < FERRY_BENCH_FAULT_MODE__N; mode++) {
		const FerryBenchFaultShape out = { mode, mode % 2, RAM, 9 };
		g_autoptr(JsonObject) object = json_object_new();
		FerryBenchFaultShape in;

		ferry_bench_fault_shape_put(object, &out);
		CU_ASSERT_TRUE(ferry_bench_fault_shape_get(object, RAM, &in, NULL));
		CU_ASSERT_EQUAL(in.mode, out.mode);
		CU_ASSERT_EQUAL(in.background, out.background);
		CU_ASSERT_EQUAL(in.ram, out.ram);
		CU_ASSERT_EQUAL(in.faults, out.faults);
	}
}

static void shape__wrong__refused(void)
{
	static const char *const bad[] = {
		"{}",
		"{\"mode\": \"flight\", \"ram\": 4194304, \"faults\": 1}",
		"{\"mode\": \"pull\", \"faults\": 1}",
		"{\"mode\": \"pull\", \"ram\": 4194304}",
		"{\"mode\": \"pull\", \"ram\": 8388608, \"faults\": 1}",
		"{\"mode\": \"pull\", \"ram\": 1048577, \"faults\": 1}",
		"{\"mode\": \"pull\", \"ram\": 4194304, \"faults\": 0}",
		"{\"mode\": \"pull\", \"ram\": 4194304, \"faults\": 10000001}",
	};

	for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(JsonNode) node = json_from_string(bad[i], NULL);
		g_autoptr(GError) error = NULL;
		FerryBenchFaultShape shape;

		CU_ASSERT_FALSE(ferry_bench_fault_shape_get(json_node_get_object(node), RAM, &shape,
							    &error));
		CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_PEER));
	}
}

static const FerryPostcopyStatus counted = { .mode = "pull",
					     .discarded = 1024,
					     .requests = 10,
					     .urgent_pages = 11,
					     .background_pages = 1013,
					     .latency = { 10, 1, 2, 3, 4 } };

static gboolean get_counts(const FerryPostcopyStatus *status, FerryBenchFaultTurn *turn,
			   GError **error)
{
	g_autoptr(JsonObject) object = json_object_new();

	ferry_bench_counts_put(object, status);
	return ferry_bench_counts_get(object, FERRY_BENCH_PULL, turn, error);
}

static void counts__of_the_mode__come_back(void)
{
	FerryBenchFaultTurn turn = { .felt.faults = 77 };

	CU_ASSERT_TRUE(get_counts(&counted, &turn, NULL));
	CU_ASSERT_EQUAL(turn.felt.faults, 77);
	CU_ASSERT_STRING_EQUAL(turn.way, "pull");
	CU_ASSERT_EQUAL(turn.missing, 1024);
	CU_ASSERT_EQUAL(turn.requests, 10);
	CU_ASSERT_EQUAL(turn.urgent_pages, 11);
	CU_ASSERT_EQUAL(turn.background_pages, 1013);
	CU_ASSERT_EQUAL(turn.repeated_pages, 0);
	CU_ASSERT_EQUAL(turn.engine.p99, 3);
}

static void counts__another_mode_or_a_page_twice__refused(void)
{
	FerryPostcopyStatus pushed = counted, repeated = counted, precopied = counted;
	const FerryPostcopyStatus *all[] = { &pushed, &repeated, &precopied };

	pushed.mode = "push";
	repeated.repeated_pages = 1;
	precopied.mode = NULL;
	for (guint i = 0; i < G_N_ELEMENTS(all); i++) {
		FerryBenchFaultTurn turn = { 0 };
		g_autoptr(GError) error = NULL;

		CU_ASSERT_FALSE(get_counts(all[i], &turn, &error));
		CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_PEER));
	}
}

/* ---- the report ---- */

static FerryBenchFaultRow *row_of(FerryBenchFaultReport *report, FerryBenchFaultMode mode,
				  gboolean background)
{
	for (guint i = 0; i < report->rows->len; i++) {
		FerryBenchFaultRow *row = report->rows->pdata[i];

		if (row->mode == mode && row->background == background)
			return row;
	}
	return NULL;
}

static void add_turn(FerryBenchFaultRow *row, double p50, double p99)
{
	const FerryBenchFaultTurn turn = {
		.felt = { 100, p50, p50 + 1, p99, p99 + 1, 2, { p50, p99 + 1 } },
		.way = "pull",
		.missing = PAGES
	};

	g_array_append_val(row->turns, turn);
}

static FerryBenchFaultReport *sample(void)
{
	FerryBenchFaultReport *report = ferry_bench_fault_report_new(&plan, "rdma:a:1", NULL);

	add_turn(row_of(report, FERRY_BENCH_FLOOR, FALSE), 10, 20);
	add_turn(row_of(report, FERRY_BENCH_PULL, FALSE), 11, 40);
	add_turn(row_of(report, FERRY_BENCH_PULL, FALSE), 13, 44);
	add_turn(row_of(report, FERRY_BENCH_PULL, FALSE), 12, 30);
	add_turn(row_of(report, FERRY_BENCH_PULL, TRUE), 18, 120);
	return report;
}

static void report__new__has_every_row_once(void)
{
	g_autoptr(FerryBenchFaultReport)
		report = ferry_bench_fault_report_new(&plan, "rdma:a:1", NULL);

	CU_ASSERT_EQUAL(report->rows->len, 7);
	CU_ASSERT_PTR_NULL(row_of(report, FERRY_BENCH_FLOOR, TRUE));
	for (FerryBenchFaultMode mode = 0; mode < FERRY_BENCH_FAULT_MODE__N; mode++) {
		CU_ASSERT_PTR_NOT_NULL(row_of(report, mode, FALSE));
		CU_ASSERT(mode == FERRY_BENCH_FLOOR || row_of(report, mode, TRUE));
	}
}

static FerryBenchRecord *record_of(const FerryBenchFaultReport *report)
{
	FerryBenchRecord *record = ferry_bench_record_new("fault", "A test");

	ferry_bench_fault_report_record(report, record);
	return record;
}

static void report__text__has_medians_and_ratios(void)
{
	g_autoptr(FerryBenchFaultReport) report = sample();
	g_autoptr(FerryBenchRecord) record = record_of(report), few = NULL;
	g_autofree char *text = ferry_bench_record_print(record);

	/* 12 of 11, 12, 13; 40 of 30, 40, 44; and 12 / 10, 18 / 12, 120 / 40 */
	CU_ASSERT(strstr(text, "pull, idle           100  12.0 (11.0-13.0)    13.0  "
			       "   40.0 (30.0-44.0)    41.0") != NULL);
	CU_ASSERT(strstr(text, "1.80         1.50             3.00\n") != NULL);
	CU_ASSERT(strstr(text, "warning: Waiting for a page, pull, idle, p99 us: from 30 to 44") !=
		  NULL);
	CU_ASSERT_PTR_NULL(strstr(text, "only"));
	g_array_index(row_of(report, FERRY_BENCH_PULL, TRUE)->turns, FerryBenchFaultTurn, 0)
		.felt.faults = 99;
	few = record_of(report);
	g_free(text);
	text = ferry_bench_record_print(few);
	CU_ASSERT(strstr(text, "pull, background: a turn had only 99 faults") != NULL);
}

static void report__json__has_every_turn(void)
{
	g_autoptr(FerryBenchFaultReport) report = sample();
	g_autoptr(FerryBenchRecord) record = record_of(report);
	g_autoptr(JsonNode) node = ferry_bench_record_json(record);
	JsonArray *rows = json_object_get_array_member(json_node_get_object(node), "rows");
	JsonObject *pull = json_array_get_object_element(rows, 1);
	JsonArray *turns = json_object_get_array_member(pull, "turns");
	JsonObject *second = json_array_get_object_element(turns, 1);

	CU_ASSERT_EQUAL(json_array_get_length(rows), 7);
	CU_ASSERT_STRING_EQUAL(json_object_get_string_member(pull, "mode"), "pull");
	CU_ASSERT_FALSE(json_object_get_boolean_member(pull, "background"));
	CU_ASSERT_FALSE(json_object_has_member(pull, "skipped"));
	CU_ASSERT_DOUBLE_EQUAL(json_object_get_double_member(pull, "p50-over-floor"), 1.2, 1e-9);
	CU_ASSERT_FALSE(json_object_has_member(pull, "p50-over-idle"));
	CU_ASSERT_EQUAL(json_array_get_length(turns), 3);
	CU_ASSERT_EQUAL(json_object_get_double_member(second, "p50-us"), 13);
	CU_ASSERT_EQUAL(json_object_get_int_member(second, "missing"), PAGES);
	CU_ASSERT_EQUAL(json_array_get_length(json_object_get_array_member(second, "quantiles-us")),
			2);
}

/* All three turns of pull, of two quantiles each: the shares rise to the whole. */
static void report__charts__are_distributions_of_all_turns(void)
{
	static const double wanted[] = { 11, 12, 13, 31, 41, 45 };
	g_autoptr(FerryBenchFaultReport) report = sample();
	g_autoptr(FerryBenchRecord) record = record_of(report);
	JsonArray *charts = json_object_get_array_member(ferry_bench_record_root(record), "charts");
	JsonObject *idle = json_array_get_object_element(charts, 0);
	JsonObject *pull = json_array_get_object_element(
		json_object_get_array_member(idle, "series"), 1);
	JsonArray *points = json_object_get_array_member(pull, "points");

	CU_ASSERT_STRING_EQUAL(json_object_get_string_member(idle, "kind"), "cdf");
	CU_ASSERT_STRING_EQUAL(json_object_get_string_member(pull, "name"), "pull");
	CU_ASSERT_EQUAL(json_array_get_length(points), G_N_ELEMENTS(wanted));
	for (guint i = 0; i < MIN(json_array_get_length(points), G_N_ELEMENTS(wanted)); i++) {
		JsonArray *point = json_array_get_array_element(points, i);

		CU_ASSERT_EQUAL(json_array_get_double_element(point, 0), wanted[i]);
		CU_ASSERT_DOUBLE_EQUAL(json_array_get_double_element(point, 1), (i + 1) / 6.0,
				       1e-9);
	}
}

static void report__no_rdma__its_rows_say_why(void)
{
	g_autoptr(FerryBenchFaultReport)
		report = ferry_bench_fault_report_new(&plan, "rdma:a:1", "the card is out");
	g_autoptr(FerryBenchRecord) record = record_of(report);
	g_autofree char *text = ferry_bench_record_print(record);
	g_autoptr(JsonNode) node = ferry_bench_record_json(record);
	JsonArray *rows = json_object_get_array_member(json_node_get_object(node), "rows");
	guint skipped = 0;

	for (guint i = 0; i < json_array_get_length(rows); i++)
		skipped += json_object_has_member(json_array_get_object_element(rows, i),
						  "skipped");
	CU_ASSERT_EQUAL(skipped, 5);
	CU_ASSERT(strstr(text, "skipped: push, background: the card is out\n") != NULL);
	CU_ASSERT_PTR_NULL(strstr(text, "skipped: tcp"));
}

static CU_TestInfo cases[] = {
	CASE(latency__any_number_of_faults__is_by_nearest_rank),
	CASE(touch__pages_that_are_there__are_not_counted),
	CASE(touch__pages_not_mapped__times_what_faulted),
	CASE(touch__limit__ends_after_so_many_faults),
	CASE(touch__page_without_its_mark__is_an_error),
	CASE(touch__freed_early__ends),
	CASE(minor__pages_of_the_other_mapping__are_waited_for_once_each),
	CASE(minor__closed__lets_go_who_waits),
	CASE(latency__put_and_got__is_the_same),
	CASE(latency__member_missing_or_negative__refused),
	CASE(latency__quantiles_hostile__refused),
	CASE(shape__every_mode__comes_back),
	CASE(shape__wrong__refused),
	CASE(counts__of_the_mode__come_back),
	CASE(counts__another_mode_or_a_page_twice__refused),
	CASE(report__new__has_every_row_once),
	CASE(report__text__has_medians_and_ratios),
	CASE(report__json__has_every_turn),
	CASE(report__charts__are_distributions_of_all_turns),
	CASE(report__no_rdma__its_rows_say_why),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "bench-fault", cases);
}
