/* SPDX-License-Identifier: BSD-2-Clause */
/* What the command reads and shows: sizes, times, the progress line. */
#include "cli/common.h"
#include "cli/progress.h"
#include "harness.h"

#include <ferry/error.h>

static void size__well_formed__is_bytes(void)
{
	static const struct {
		const char *text;
		guint64 bytes;
	} sizes[] = {
		{ "0", 0 },
		{ "65536", 65536 },
		{ "1B", 1 },
		{ "512M", 512u << 20 },
		{ "512m", 512u << 20 },
		{ "4G", (guint64)4 << 30 },
		{ "1KiB", 1024 },
		{ "2T", (guint64)2 << 40 },
		{ "9223372036854775807", G_MAXINT64 },
	};

	for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
		guint64 bytes = 77;

		CU_ASSERT(ferry_cli_parse_size(sizes[i].text, &bytes, NULL));
		CU_ASSERT_EQUAL(bytes, sizes[i].bytes);
	}
}

static void size__malformed__refused_and_nothing_set(void)
{
	static const char *const bad[] = { "",
					   "M",
					   "-1",
					   "+1",
					   " 1",
					   "1 M",
					   "1X",
					   "1iB",
					   "1MM",
					   "1.5G",
					   "8388608T",
					   "9223372036854775808",
					   "99999999999999999999999" };

	for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) error = NULL;
		guint64 bytes = 77;

		CU_ASSERT_FALSE(ferry_cli_parse_size(bad[i], &bytes, &error));
		CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_INVALID));
		CU_ASSERT_EQUAL(bytes, 77);
	}
}

static void quantities__shown__are_short(void)
{
	static const struct {
		double bytes;
		const char *text;
	} bytes[] = { { 0, "0 B" },
		      { 1023, "1023 B" },
		      { 1024, "1 KiB" },
		      { 1536, "1.50 KiB" },
		      { 15.25 * 1048576, "15.2 MiB" },
		      { 512u << 20, "512 MiB" } };
	static const struct {
		double ms;
		const char *text;
	} times[] = { { 0, "0 ms" },
		      { 999, "999 ms" },
		      { 1234, "1.23 s" },
		      { 65000, "65.0 s" },
		      { 125000, "2 min 5 s" } };

	for (guint i = 0; i < G_N_ELEMENTS(bytes); i++) {
		g_autofree char *text = ferry_cli_format_bytes(bytes[i].bytes);

		CU_ASSERT_STRING_EQUAL(text, bytes[i].text);
	}
	for (guint i = 0; i < G_N_ELEMENTS(times); i++) {
		g_autofree char *text = ferry_cli_format_ms(times[i].ms);

		CU_ASSERT_STRING_EQUAL(text, times[i].text);
	}
}

static const FerryCliMigration half_way = {
	.status = "active",
	.total = 1u << 30,
	.remaining = 1u << 29,
	.rate = 1.5 * (1u << 30),
	.dirty_rate = 48u << 20,
	.round = 2,
	.expected_ms = 45,
	.throttle = 20,
};

static void progress_line__any_width__never_longer(void)
{
	for (guint width = 8; width < 200; width++) {
		for (gboolean utf8 = FALSE; utf8 <= TRUE; utf8++) {
			g_autofree char *line = ferry_cli_progress_line(&half_way, width, utf8);

			CU_ASSERT(g_utf8_validate(line, -1, NULL));
			CU_ASSERT(g_utf8_strlen(line, -1) <= width);
		}
	}
}

static void progress_line__wide__shows_all(void)
{
	g_autofree char *line = ferry_cli_progress_line(&half_way, 160, FALSE);

	CU_ASSERT(g_str_has_prefix(line, "copying    [################................]   50 %"));
	CU_ASSERT(strstr(line, "1.50 GiB/s") && strstr(line, "round 2"));
	CU_ASSERT(strstr(line, "dirtied   48 MiB/s") && strstr(line, "throttled 20 %"));
	CU_ASSERT(strstr(line, "downtime ~45 ms") != NULL);
}

static void progress_line__no_numbers_yet__is_empty_bar(void)
{
	const FerryCliMigration connecting = { .status = "setup", .expected_ms = -1 };
	g_autofree char *line = ferry_cli_progress_line(&connecting, 80, FALSE);

	CU_ASSERT(g_str_has_prefix(line, "connecting [......"));
	CU_ASSERT(strstr(line, "]    0 %") && !strstr(line, "downtime"));
}

static CU_TestInfo cases[] = {
	CASE(size__well_formed__is_bytes),
	CASE(size__malformed__refused_and_nothing_set),
	CASE(quantities__shown__are_short),
	CASE(progress_line__any_width__never_longer),
	CASE(progress_line__wide__shows_all),
	CASE(progress_line__no_numbers_yet__is_empty_bar),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "cli-text", cases);
}
