/* SPDX-License-Identifier: BSD-2-Clause */
#include <harness.h>
#include <string.h>

#include "engine/records.h"

/* What the code writes for each line of the block of examples in docs/protocol.md. */
static GByteArray *example(const char *name)
{
	GByteArray *out = g_byte_array_new();
	FerryHello hello = { .version = FERRY_PROTOCOL_VERSION, .page_size = 4096 };

	for (guint i = 0; i < FERRY_NONCE_SIZE; i++)
		hello.nonce[i] = i;
	if (g_str_equal(name, "HELLO"))
		ferry_record_put_hello(out, &hello);
	else if (g_str_equal(name, "ROUND_BEGIN 3"))
		ferry_record_put_round(out, FERRY_RECORD_ROUND_BEGIN,
				       &(FerryRoundMark){ 3, 65536 });
	else if (g_str_equal(name, "PREPARE, digest"))
		ferry_record_put_digest(out, FERRY_RECORD_HANDOVER_PREPARE,
					&(FerryHandoverDigest){ .has_digest = TRUE });
	else if (g_str_equal(name, "READY, digest"))
		ferry_record_put_digest(out, FERRY_RECORD_HANDOVER_READY,
					&(FerryHandoverDigest){ TRUE, 0x0123456789abcdef });
	else if (g_str_equal(name, "COMMIT"))
		ferry_record_put_nonce(out, FERRY_RECORD_HANDOVER_COMMIT, hello.nonce);
	else if (g_str_equal(name, "DONE"))
		ferry_record_put_empty(out, FERRY_RECORD_HANDOVER_DONE);
	else if (g_str_equal(name, "RUNNING"))
		ferry_record_put_running(out, &(FerryHandoverRunning){ 1000000, 2 });
	else if (g_str_equal(name, "STATE runs"))
		ferry_record_put_answer(out, FERRY_HANDOVER_RUNS);
	else if (g_str_equal(name, "ERROR \"no\""))
		ferry_record_put_error(out, "no");
	return out;
}

static char *hex(const GByteArray *bytes)
{
	GString *text = g_string_new(NULL);

	for (guint i = 0; i < bytes->len; i++)
		g_string_append_printf(text, "%02x", bytes->data[i]);
	return g_string_free(text, FALSE);
}

/* "NAME  0001 01 00 ..." split at two or more spaces, the digits without theirs. */
static gboolean split_line(const char *line, char **name, char **digits)
{
	const char *gap = strstr(line, "  ");

	if (!gap)
		return FALSE;
	*name = g_strndup(line, gap - line);
	*digits = g_strdup(gap);
	for (char *to = *digits, *from = *digits; (*to = *from); from++)
		to += *from != ' ';
	return TRUE;
}

static void record_put__examples_of_protocol_md__same_bytes(void)
{
	g_autofree char *text = NULL;
	g_auto(GStrv) lines = NULL;
	guint compared = 0;
	char **line;

	CU_ASSERT(g_file_get_contents(PROTOCOL_MD, &text, NULL, NULL));
	if (!text)
		return;
	lines = g_strsplit(text, "\n", -1);
	for (line = lines; *line && !g_str_has_prefix(*line, "HELLO  "); line++)
		;
	for (; *line && !g_str_equal(*line, "```"); line++) {
		g_autofree char *name = NULL, *digits = NULL, *written = NULL;
		g_autoptr(GByteArray) bytes = NULL;

		if (!split_line(*line, &name, &digits))
			continue;
		bytes = example(name);
		written = hex(bytes);
		if (!g_str_equal(written, digits))
			printf("# %s: the page says %s, the code %s\n", name, digits, written);
		CU_ASSERT_STRING_EQUAL(written, digits);
		compared++;
	}
	CU_ASSERT_EQUAL(compared, 9);
}

/* ---- every get, for any of the types ---- */

typedef gboolean (*Get)(const guint8 *payload, size_t len, GError **error);

static gboolean get_hello(const guint8 *payload, size_t len, GError **error)
{
	FerryHello hello;

	return ferry_record_get_hello(payload, len, &hello, error);
}

static gboolean get_round(const guint8 *payload, size_t len, GError **error)
{
	FerryRoundMark mark;

	return ferry_record_get_round(payload, len, &mark, error);
}

static gboolean get_digest(const guint8 *payload, size_t len, GError **error)
{
	FerryHandoverDigest digest;

	return ferry_record_get_digest(payload, len, &digest, error);
}

static gboolean get_nonce(const guint8 *payload, size_t len, GError **error)
{
	guint8 nonce[FERRY_NONCE_SIZE];

	return ferry_record_get_nonce(payload, len, nonce, error);
}

static gboolean get_running(const guint8 *payload, size_t len, GError **error)
{
	FerryHandoverRunning running;

	return ferry_record_get_running(payload, len, &running, error);
}

static gboolean get_answer(const guint8 *payload, size_t len, GError **error)
{
	FerryHandoverAnswer answer;

	return ferry_record_get_answer(payload, len, &answer, error);
}

static const struct {
	const char *example;
	Get get;
} types[] = {
	{ "HELLO", get_hello },	 { "ROUND_BEGIN 3", get_round }, { "READY, digest", get_digest },
	{ "COMMIT", get_nonce }, { "RUNNING", get_running },	 { "STATE runs", get_answer },
};

static void record_get__whole_payload__passes(void)
{
	for (guint i = 0; i < G_N_ELEMENTS(types); i++) {
		g_autoptr(GByteArray) bytes = example(types[i].example);
		g_autoptr(GError) error = NULL;

		CU_ASSERT(types[i].get(bytes->data + FERRY_RECORD_HEADER,
				       bytes->len - FERRY_RECORD_HEADER, &error));
	}
}

/* Each length in memory of its own, so that a sanitizer sees a read behind the end. */
static void record_get__shorter_or_longer_payload__refused(void)
{
	for (guint i = 0; i < G_N_ELEMENTS(types); i++) {
		g_autoptr(GByteArray) bytes = example(types[i].example);
		size_t whole = bytes->len - FERRY_RECORD_HEADER;

		ferry_put_u8(bytes, 0);
		for (size_t len = 0; len <= whole + 1; len++) {
			g_autofree guint8 *part = g_malloc(len + !len);
			g_autoptr(GError) error = NULL;

			memcpy(part, bytes->data + FERRY_RECORD_HEADER, len);
			if (len == whole)
				continue;
			CU_ASSERT_FALSE(types[i].get(part, len, &error));
			CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_PEER));
		}
	}
}

static void digest_get__unknown_flag__refused(void)
{
	const guint8 payload[12] = { 0, 0, 0, 2 };
	FerryHandoverDigest digest = { .digest = 7 };
	g_autoptr(GError) error = NULL;

	CU_ASSERT_FALSE(ferry_record_get_digest(payload, sizeof(payload), &digest, &error));
	CU_ASSERT_EQUAL(digest.digest, 7);
}

static void answer_get__unknown_value__refused(void)
{
	const guint8 payload[4] = { 0, 0, 0, 4 };
	FerryHandoverAnswer answer = FERRY_HANDOVER_WAITING;
	g_autoptr(GError) error = NULL;

	CU_ASSERT_FALSE(ferry_record_get_answer(payload, sizeof(payload), &answer, &error));
	CU_ASSERT_EQUAL(answer, FERRY_HANDOVER_WAITING);
}

static void header_get__length_or_version_wrong__refused(void)
{
	g_autoptr(GByteArray) bytes = example("DONE");
	FerryRecord record;

	CU_ASSERT(ferry_record_get_header(bytes->data, bytes->len, &record, NULL));
	CU_ASSERT_EQUAL(record.type, FERRY_RECORD_HANDOVER_DONE);
	for (guint len = 0; len < bytes->len; len++)
		CU_ASSERT_FALSE(ferry_record_get_header(bytes->data, len, &record, NULL));
	bytes->data[7] = 1;
	CU_ASSERT_FALSE(ferry_record_get_header(bytes->data, bytes->len, &record, NULL));
	bytes->data[7] = 0;
	bytes->data[2] = FERRY_RECORD_VERSION + 1;
	CU_ASSERT_FALSE(ferry_record_get_header(bytes->data, bytes->len, &record, NULL));
	bytes->data[3] = FERRY_RECORD_MAY_SKIP;
	CU_ASSERT(ferry_record_get_header(bytes->data, bytes->len, &record, NULL));
}

static void error_put__long_text__cut_at_a_characters_edge(void)
{
	g_autoptr(GString) text = g_string_new("x");
	g_autoptr(GByteArray) out = g_byte_array_new();
	guint32 length;

	while (text->len <= FERRY_RECORD_ERROR_MAX)
		g_string_append(text, "\xc3\xa9");
	ferry_record_put_error(out, text->str);
	length = out->len - FERRY_RECORD_HEADER;
	CU_ASSERT(length <= FERRY_RECORD_ERROR_MAX && length >= FERRY_RECORD_ERROR_MAX - 1);
	CU_ASSERT(g_utf8_validate((const char *)out->data + FERRY_RECORD_HEADER, length, NULL));
}

static void error_get__hostile_bytes__printable(void)
{
	static const guint8 payload[] = { 'a', 0xff, 0x1b, '[', '2', 'J', '\n', 0, 'b' };
	g_autofree char *text = ferry_record_get_error(payload, sizeof(payload));

	CU_ASSERT(g_utf8_validate(text, -1, NULL));
	for (const char *p = text; *p; p++)
		CU_ASSERT_FALSE(g_ascii_iscntrl(*p));
}

static CU_TestInfo cases[] = {
	CASE(record_put__examples_of_protocol_md__same_bytes),
	CASE(record_get__whole_payload__passes),
	CASE(record_get__shorter_or_longer_payload__refused),
	CASE(digest_get__unknown_flag__refused),
	CASE(answer_get__unknown_value__refused),
	CASE(header_get__length_or_version_wrong__refused),
	CASE(error_put__long_text__cut_at_a_characters_edge),
	CASE(error_get__hostile_bytes__printable),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "records", cases);
}
