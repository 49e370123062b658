/* SPDX-License-Identifier: BSD-2-Clause */
#include <golden.h>
#include <harness.h>
#include <string.h>

#include "engine/records.h"

static const FerryHello hello = {
	.version = FERRY_PROTOCOL_VERSION,
	.page_size = 4096,
	.nonce = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 },
};
static const FerryRoundMark mark = { 3, 65536 };

static void put_running(GByteArray *out)
{
	ferry_record_put_running(out, &(FerryHandoverRunning){ 1000000, 2 });
}

static void put_error(GByteArray *out)
{
	ferry_record_put_error(out, "no");
}

static void put_carrier(GByteArray *out)
{
	ferry_record_put_carrier(out, TRUE);
}

static void put_hello(GByteArray *out)
{
	ferry_record_put_hello(out, &hello);
}

/* The lines of the block of examples in docs/protocol.md, with the arguments of the put that their
 * type has. */
static const struct {
	const char *name;
	guint16 type;
	const FerryRoundMark *mark;
	const FerryHandoverDigest *digest;
	const guint8 *nonce;
	int answer; /* -1: none */
	void (*put)(GByteArray *out);
} examples[] = {
	{ "HELLO", FERRY_RECORD_HELLO, .answer = -1, .put = put_hello },
	{ "ERROR \"no\"", FERRY_RECORD_ERROR, .answer = -1, .put = put_error },
	{ "HEARTBEAT", FERRY_RECORD_HEARTBEAT, .answer = -1, .put = ferry_record_put_heartbeat },
	{ "CARRIER fabric", FERRY_RECORD_CARRIER, .answer = -1, .put = put_carrier },
	{ "ROUND_BEGIN 3", FERRY_RECORD_ROUND_BEGIN, .mark = &mark },
	{ "ROUND_END 3", FERRY_RECORD_ROUND_END, .mark = &mark },
	{ "PREPARE", FERRY_RECORD_HANDOVER_PREPARE, .digest = &(FerryHandoverDigest){ FALSE, 0 } },
	{ "PREPARE, digest", FERRY_RECORD_HANDOVER_PREPARE,
	  .digest = &(FerryHandoverDigest){ TRUE, 0 } },
	{ "COMMIT", FERRY_RECORD_HANDOVER_COMMIT, .nonce = hello.nonce },
	{ "DONE", FERRY_RECORD_HANDOVER_DONE, .answer = -1 },
	{ "ABORT", FERRY_RECORD_HANDOVER_ABORT, .answer = -1 },
	{ "QUERY", FERRY_RECORD_HANDOVER_QUERY, .nonce = hello.nonce },
	{ "ROUND_DONE 3", FERRY_RECORD_ROUND_DONE, .mark = &mark },
	{ "READY", FERRY_RECORD_HANDOVER_READY, .digest = &(FerryHandoverDigest){ FALSE, 0 } },
	{ "READY, digest", FERRY_RECORD_HANDOVER_READY,
	  .digest = &(FerryHandoverDigest){ TRUE, 0x0123456789abcdef } },
	{ "RUNNING", FERRY_RECORD_HANDOVER_RUNNING, .answer = -1, .put = put_running },
	{ "STATE unknown", FERRY_RECORD_HANDOVER_STATE, .answer = FERRY_HANDOVER_UNKNOWN },
	{ "STATE waiting", FERRY_RECORD_HANDOVER_STATE, .answer = FERRY_HANDOVER_WAITING },
	{ "STATE runs", FERRY_RECORD_HANDOVER_STATE, .answer = FERRY_HANDOVER_RUNS },
	{ "STATE discarded", FERRY_RECORD_HANDOVER_STATE, .answer = FERRY_HANDOVER_DISCARDED },
	{ "HAVE_ALL", FERRY_RECORD_POSTCOPY_HAVE_ALL, .answer = -1 },
};

/* What the code writes for the line called @name; nothing for a name that is not in the list. */
static GByteArray *example(const char *name)
{
	GByteArray *out = g_byte_array_new();

	for (guint i = 0; i < G_N_ELEMENTS(examples); i++) {
		if (!g_str_equal(name, examples[i].name))
			continue;
		if (examples[i].put)
			examples[i].put(out);
		else if (examples[i].mark)
			ferry_record_put_round(out, examples[i].type, examples[i].mark);
		else if (examples[i].digest)
			ferry_record_put_digest(out, examples[i].type, examples[i].digest);
		else if (examples[i].nonce)
			ferry_record_put_nonce(out, examples[i].type, examples[i].nonce);
		else if (examples[i].answer >= 0)
			ferry_record_put_answer(out, examples[i].answer);
		else
			ferry_record_put_empty(out, examples[i].type);
	}
	return out;
}

static gboolean write_example(const char *name, GByteArray *out)
{
	g_autoptr(GByteArray) bytes = NULL;

	/* The carriers write theirs; their tests have the bytes. */
	if (g_str_equal(name, "PAGES") || g_str_equal(name, "ZERO_PAGES") ||
	    g_str_equal(name, "ENCODED_PAGE"))
		return FALSE;
	bytes = example(name);
	g_byte_array_append(out, bytes->data, bytes->len);
	return TRUE;
}

static void record_put__examples_of_protocol_md__same_bytes(void)
{
	CU_ASSERT_EQUAL(golden_compare("HELLO", write_example), G_N_ELEMENTS(examples));
}

/* ---- every get, for any of the types ---- */

typedef gboolean (*Get)(const guint8 *payload, size_t len, GError **error);

static gboolean get_hello(const guint8 *payload, size_t len, GError **error)
{
	FerryHello in;

	return ferry_record_get_hello(payload, len, &in, error);
}

static gboolean get_round(const guint8 *payload, size_t len, GError **error)
{
	FerryRoundMark in;

	return ferry_record_get_round(payload, len, &in, error);
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

static gboolean get_carrier(const guint8 *payload, size_t len, GError **error)
{
	gboolean beside;

	return ferry_record_get_carrier(payload, len, &beside, error);
}

static gboolean get_answer(const guint8 *payload, size_t len, GError **error)
{
	FerryHandoverAnswer answer;

	return ferry_record_get_answer(payload, len, &answer, error);
}

static gboolean get_empty(const guint8 *payload, size_t len, GError **error)
{
	return ferry_record_get_empty(payload, len, "POSTCOPY_HAVE_ALL", error);
}

static const struct {
	const char *example;
	Get get;
} types[] = {
	{ "HELLO", get_hello },
	{ "ROUND_BEGIN 3", get_round },
	{ "READY, digest", get_digest },
	{ "COMMIT", get_nonce },
	{ "RUNNING", get_running },
	{ "STATE runs", get_answer },
	{ "CARRIER fabric", get_carrier },
	{ "HAVE_ALL", get_empty },
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

static void carrier_get__unknown_value__refused(void)
{
	const guint8 payload[4] = { 0, 0, 0, 2 };
	gboolean beside = 7;
	g_autoptr(GError) error = NULL;

	CU_ASSERT_FALSE(ferry_record_get_carrier(payload, sizeof(payload), &beside, &error));
	CU_ASSERT_EQUAL(beside, 7);
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
	/* One that may be skipped must not be taken for ours. */
	bytes->data[3] = FERRY_RECORD_MAY_SKIP;
	CU_ASSERT(ferry_record_get_header(bytes->data, bytes->len, &record, NULL));
	CU_ASSERT_EQUAL(record.type, 0);
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
	CASE(carrier_get__unknown_value__refused),
	CASE(header_get__length_or_version_wrong__refused),
	CASE(error_put__long_text__cut_at_a_characters_edge),
	CASE(error_get__hostile_bytes__printable),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "records", cases);
}
