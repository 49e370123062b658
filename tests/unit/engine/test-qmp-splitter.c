/* SPDX-License-Identifier: BSD-2-Clause */
#include "engine/qmp-splitter.h"
#include "harness.h"

#include <string.h>

#define DONE "<more>"

/* What the next value is: its JSON, "bad: ..." or DONE. */
static char *next(FerryQmpSplitter *splitter)
{
	g_autoptr(JsonNode) value = NULL;
	g_autoptr(GError) error = NULL;

	switch (ferry_qmp_splitter_next(splitter, &value, &error)) {
	case FERRY_QMP_SPLIT_VALUE:
		return json_to_string(value, FALSE);
	case FERRY_QMP_SPLIT_BAD:
		return g_strconcat("bad: ", error->message, NULL);
	default:
		return g_strdup(DONE);
	}
}

/* Whether the next value is @expected; of an error the beginning. */
static gboolean gives(FerryQmpSplitter *splitter, const char *expected)
{
	g_autofree char *got = next(splitter);

	if (g_str_has_prefix(expected, "bad") ? g_str_has_prefix(got, expected)
					      : g_str_equal(got, expected))
		return TRUE;
	printf("# expected %s, got %.200s\n", expected, got);
	return FALSE;
}

static void push(FerryQmpSplitter *splitter, const char *text)
{
	ferry_qmp_splitter_push(splitter, text, strlen(text));
}

/* Pushes @text whole and asks for what must come of it. */
static void check(const char *text, const char *const *expected)
{
	g_autoptr(FerryQmpSplitter) splitter = ferry_qmp_splitter_new();

	push(splitter, text);
	for (; *expected; expected++)
		CU_ASSERT(gives(splitter, *expected));
	CU_ASSERT(gives(splitter, DONE));
}
#define CHECK(text, ...) check(text, (const char *const[]){ __VA_ARGS__, NULL })

static void splitter__object_cut_anywhere__comes_whole(void)
{
	static const char text[] = " {\"a\":{\"b\":[1,\"}]\\\"\\\\\"]},\"c\":\"{\"}";
	static const char whole[] = "{\"a\":{\"b\":[1,\"}]\\\"\\\\\"]},\"c\":\"{\"}";

	for (size_t cut = 0; cut < strlen(text); cut++) {
		g_autoptr(FerryQmpSplitter) splitter = ferry_qmp_splitter_new();

		ferry_qmp_splitter_push(splitter, text, cut);
		CU_ASSERT(gives(splitter, DONE));
		push(splitter, text + cut);
		CU_ASSERT(gives(splitter, whole));
		CU_ASSERT(gives(splitter, DONE));
	}
}

static void splitter__several_in_one_push__come_in_order(void)
{
	CHECK("{\"a\":1}{\"b\":2}\r\n [3] {\"c\":4}\n", "{\"a\":1}", "{\"b\":2}", "[3]",
	      "{\"c\":4}");
}

static void splitter__no_json__is_one_error_a_line(void)
{
	CHECK("what is this?\n{\"a\":1}", "bad: JSON parse error", "{\"a\":1}");
	CHECK("{\"a\" 1}{\"a\":1}", "bad: JSON parse error", "{\"a\":1}");
	CHECK("\xff{\"a\":1}", "bad: JSON parse error, invalid UTF-8", "{\"a\":1}");
	CHECK("{\"a\":\"\xff\"}{\"a\":1}", "bad: JSON parse error, invalid UTF-8", "{\"a\":1}");
	CHECK("{\"a\":1]} more\n{\"a\":1}", "bad: JSON parse error, ] where } is due", "{\"a\":1}");
	CHECK("}\n{\"a\":1}", "bad: JSON parse error", "{\"a\":1}");
}

static void splitter__scalar__is_a_value_at_the_end_of_the_line(void)
{
	CHECK("\"text\"\n5\ntrue\n", "\"text\"", "5", "true");
	CHECK("5", DONE);
}

static void splitter__forgotten_quote__does_not_swallow_the_next_line(void)
{
	CHECK("{\"a\":\"b}\n{\"a\":1}", "bad: JSON parse error, control character", "{\"a\":1}");
	CHECK("{\"a\":\"\t\"} rest\n{\"a\":1}", "bad: JSON parse error, control character",
	      "{\"a\":1}");
}

static void splitter__too_deep__is_refused_and_skipped(void)
{
	g_autofree char *open = g_strnfill(FERRY_QMP_DEPTH_MAX, '[');
	g_autofree char *close = g_strnfill(FERRY_QMP_DEPTH_MAX, ']');
	g_autofree char *deepest = g_strconcat(open, close, "\n", NULL);
	g_autofree char *deeper = g_strconcat("[", open, close, "]\n{\"a\":1}", NULL);
	g_autofree char *stripped = g_strconcat(open, close, NULL);

	CHECK(deepest, stripped);
	CHECK(deeper, "bad: JSON parse error, nesting depth", "{\"a\":1}");
}

static void splitter__too_long__is_refused_and_kept_no_longer(void)
{
	g_autofree char *filler = g_strnfill(FERRY_QMP_VALUE_MAX, 'x');
	g_autofree char *text = g_strconcat("{\"a\":\"", filler, "\"}\n{\"a\":1}", NULL);

	CHECK(text, "bad: JSON parse error, size limit", "{\"a\":1}");
}

/* Any bytes: nothing but values, errors and the wish for more may come of them. */
static void splitter__random_bytes__end_with_a_line(void)
{
	static const char alphabet[] = "{}[]\",:\\ \n\t01aé\xff";
	g_autoptr(GRand) random = g_rand_new_with_seed(7);

	for (guint round = 0; round < 2000; round++) {
		g_autoptr(FerryQmpSplitter) splitter = ferry_qmp_splitter_new();

		for (guint i = 0; i < 60; i++) {
			g_autofree char *got = NULL;
			char c = alphabet[g_rand_int_range(random, 0, sizeof(alphabet) - 1)];

			ferry_qmp_splitter_push(splitter, &c, 1);
			got = next(splitter);
		}
		/* Closes what is open, by an error if need be: then a request is understood
		 * again. */
		push(splitter, "\"\x01\n\n");
		for (gboolean more = TRUE; more;) {
			g_autofree char *got = next(splitter);

			more = !g_str_equal(got, DONE);
		}
		push(splitter, "\"\x01\n\n");
		for (gboolean more = TRUE; more;) {
			g_autofree char *got = next(splitter);

			more = !g_str_equal(got, DONE);
		}
		push(splitter, "{\"a\":1}");
		CU_ASSERT(gives(splitter, "{\"a\":1}"));
	}
}

static CU_TestInfo cases[] = {
	CASE(splitter__object_cut_anywhere__comes_whole),
	CASE(splitter__several_in_one_push__come_in_order),
	CASE(splitter__no_json__is_one_error_a_line),
	CASE(splitter__scalar__is_a_value_at_the_end_of_the_line),
	CASE(splitter__forgotten_quote__does_not_swallow_the_next_line),
	CASE(splitter__too_deep__is_refused_and_skipped),
	CASE(splitter__too_long__is_refused_and_kept_no_longer),
	CASE(splitter__random_bytes__end_with_a_line),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "qmp-splitter", cases);
}
