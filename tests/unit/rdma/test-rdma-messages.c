/* SPDX-License-Identifier: BSD-2-Clause */
#include <golden.h>
#include <harness.h>
#include <string.h>

#include <ferry/error.h>
#include "rdma/messages.h"

static const FerryRdmaTerms offer = {
	.queue_pairs = 4,
	.write_size = 256 << 10,
	.chunk_size = 1 << 20,
	.flags = FERRY_RDMA_PIN_ALL | FERRY_RDMA_RELAXED_ORDERING,
	.mtu = 4096,
};
static const FerryRdmaTerms answer = {
	.queue_pairs = 2,
	.write_size = 256 << 10,
	.chunk_size = 1 << 20,
	.flags = FERRY_RDMA_RELAXED_ORDERING,
	.mtu = 1024,
	.pin_limit = 256 << 20,
};
static const FerryRdmaChunks chunks = { 1, 16, 3 };
static const FerryRdmaRegion region = { 1, 16, 0x7f0123456000, 0xabcd };
static const FerryRdmaGreeting greeting = {
	.nonce = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 },
	.queue = 3,
};

/* ---- the bytes of docs/protocol.md ---- */

static void put_offer(guint8 *out)
{
	ferry_rdma_put_terms(out, &offer);
}

static void put_postcopy_offer(guint8 *out)
{
	FerryRdmaTerms terms = offer;

	terms.queue_pairs++;
	terms.flags = FERRY_RDMA_RELAXED_ORDERING | FERRY_RDMA_POSTCOPY | FERRY_RDMA_PULL;
	ferry_rdma_put_terms(out, &terms);
}

static void put_answer(guint8 *out)
{
	ferry_rdma_put_terms(out, &answer);
}

static void put_refuse(guint8 *out)
{
	memcpy(out, "no", 2);
}

static void put_chunks(guint8 *out)
{
	ferry_rdma_put_chunks(out, &chunks);
}

static void put_region(guint8 *out)
{
	ferry_rdma_put_region(out, &region);
}

static void put_greeting(guint8 *out)
{
	ferry_rdma_put_greeting(out, &greeting);
}

/* The lines of the block of examples. */
static const struct {
	const char *name;
	guint16 type; /* 0: no record */
	guint32 size;
	void (*put)(guint8 *out);
} examples[] = {
	{ "OFFER", FERRY_RECORD_RDMA_OFFER, FERRY_RDMA_TERMS_SIZE, put_offer },
	{ "OFFER, postcopy", FERRY_RECORD_RDMA_OFFER, FERRY_RDMA_TERMS_SIZE, put_postcopy_offer },
	{ "ANSWER", FERRY_RECORD_RDMA_ANSWER, FERRY_RDMA_TERMS_SIZE, put_answer },
	{ "REFUSE \"no\"", FERRY_RECORD_RDMA_REFUSE, 2, put_refuse },
	{ "REGISTER", FERRY_RECORD_RDMA_REGISTER, FERRY_RDMA_CHUNKS_SIZE, put_chunks },
	{ "REGION", FERRY_RECORD_RDMA_REGION, FERRY_RDMA_REGION_SIZE, put_region },
	{ "RELEASE", FERRY_RECORD_RDMA_RELEASE, FERRY_RDMA_CHUNKS_SIZE, put_chunks },
	{ "SOURCE_REGION", FERRY_RECORD_RDMA_SOURCE_REGION, FERRY_RDMA_REGION_SIZE, put_region },
	{ "greeting", 0, FERRY_RDMA_GREETING_SIZE, put_greeting },
};

static gboolean write_example(const char *name, GByteArray *out)
{
	for (guint i = 0; i < G_N_ELEMENTS(examples); i++) {
		guint8 payload[64];

		if (!g_str_equal(name, examples[i].name))
			continue;
		if (examples[i].type)
			ferry_put_record_header(out, examples[i].type, 0, examples[i].size);
		examples[i].put(payload);
		g_byte_array_append(out, payload, examples[i].size);
	}
	return TRUE;
}

static void rdma_put__examples_of_protocol_md__same_bytes(void)
{
	CU_ASSERT_EQUAL(golden_compare("OFFER", write_example), G_N_ELEMENTS(examples));
}

/* ---- every get ---- */

typedef gboolean (*Get)(const guint8 *data, size_t len, GError **error);

static gboolean get_terms(const guint8 *data, size_t len, GError **error)
{
	FerryRdmaTerms in, before;

	memset(&in, 0xa5, sizeof(in));
	before = in;
	if (ferry_rdma_get_terms(data, len, &in, error))
		return TRUE;
	CU_ASSERT(memcmp(&in, &before, sizeof(in)) == 0);
	return FALSE;
}

static gboolean get_chunks(const guint8 *data, size_t len, GError **error)
{
	FerryRdmaChunks in;

	return ferry_rdma_get_chunks(data, len, &in, error);
}

static gboolean get_region(const guint8 *data, size_t len, GError **error)
{
	FerryRdmaRegion in;

	return ferry_rdma_get_region(data, len, &in, error);
}

static gboolean get_greeting(const guint8 *data, size_t len, GError **error)
{
	FerryRdmaGreeting in;

	return ferry_rdma_get_greeting(data, len, &in, error);
}

static const struct {
	void (*put)(guint8 *out);
	Get get;
	guint32 size;
	gboolean may_be_longer;
} kinds[] = {
	{ put_offer, get_terms, FERRY_RDMA_TERMS_SIZE, FALSE },
	{ put_chunks, get_chunks, FERRY_RDMA_CHUNKS_SIZE, FALSE },
	{ put_region, get_region, FERRY_RDMA_REGION_SIZE, FALSE },
	/* The connection manager fills up with zeros. */
	{ put_greeting, get_greeting, FERRY_RDMA_GREETING_SIZE, TRUE },
};

/* Frees @error. */
static void expect_peer_error(GError *error)
{
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_PEER));
	g_clear_error(&error);
}

/* Of exactly as many bytes on the heap, so that a sanitizer sees a read behind them. */
static void rdma_get__every_truncation__refused(void)
{
	for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
		guint8 whole[64] = { 0 };

		kinds[i].put(whole);
		CU_ASSERT(kinds[i].get(whole, kinds[i].size, NULL));
		for (guint len = 0; len < kinds[i].size; len++) {
			g_autofree guint8 *cut = g_malloc(len + !len);
			GError *error = NULL;

			memcpy(cut, whole, len);
			CU_ASSERT_FALSE(kinds[i].get(cut, len, &error));
			expect_peer_error(error);
		}
	}
}

static void rdma_get__longer__refused_but_for_the_greeting(void)
{
	for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
		guint8 whole[64] = { 0 };
		g_autoptr(GError) error = NULL;

		kinds[i].put(whole);
		CU_ASSERT_EQUAL(kinds[i].get(whole, kinds[i].size + 1, &error),
				kinds[i].may_be_longer);
	}
}

static void rdma_get_terms__what_was_put__same(void)
{
	guint8 bytes[FERRY_RDMA_TERMS_SIZE];
	FerryRdmaTerms in;

	ferry_rdma_put_terms(bytes, &answer);
	CU_ASSERT(ferry_rdma_get_terms(bytes, sizeof(bytes), &in, NULL));
	CU_ASSERT_EQUAL(in.queue_pairs, answer.queue_pairs);
	CU_ASSERT_EQUAL(in.write_size, answer.write_size);
	CU_ASSERT_EQUAL(in.chunk_size, answer.chunk_size);
	CU_ASSERT_EQUAL(in.flags, answer.flags);
	CU_ASSERT_EQUAL(in.mtu, answer.mtu);
	CU_ASSERT_EQUAL(in.pin_limit, answer.pin_limit);
}

static gboolean terms_pass(guint32 queue_pairs, guint32 write_size, guint64 chunk_size,
			   guint32 flags)
{
	FerryRdmaTerms terms = { queue_pairs, write_size, chunk_size, flags, 0, 0 };
	guint8 bytes[FERRY_RDMA_TERMS_SIZE];
	g_autoptr(GError) error = NULL;

	ferry_rdma_put_terms(bytes, &terms);
	if (get_terms(bytes, sizeof(bytes), &error))
		return TRUE;
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_PEER));
	return FALSE;
}

static void rdma_get_terms__ends_of_each_range__passed_and_refused(void)
{
	CU_ASSERT(terms_pass(1, 4096, 4096, 0));
	CU_ASSERT(terms_pass(FERRY_RDMA_BULK_MAX, 0xfffff000, 1ull << 63, 7));
	CU_ASSERT(terms_pass(FERRY_RDMA_QUEUES_MAX, 0xfffff000, 1ull << 63, 31));
	CU_ASSERT(terms_pass(2, 4096, 4096, FERRY_RDMA_POSTCOPY));
	CU_ASSERT_FALSE(terms_pass(0, 4096, 4096, 0));
	CU_ASSERT_FALSE(terms_pass(FERRY_RDMA_BULK_MAX + 1, 4096, 4096, 0));
	CU_ASSERT_FALSE(terms_pass(FERRY_RDMA_QUEUES_MAX + 1, 4096, 4096, FERRY_RDMA_POSTCOPY));
	CU_ASSERT_FALSE(terms_pass(1, 4096, 4096, FERRY_RDMA_POSTCOPY));
	CU_ASSERT_FALSE(terms_pass(2, 4096, 4096, FERRY_RDMA_PULL));
	CU_ASSERT_FALSE(terms_pass(1, 0, 4096, 0));
	CU_ASSERT_FALSE(terms_pass(1, 4097, 4096, 0));
	CU_ASSERT_FALSE(terms_pass(1, 2048, 4096, 0));
	CU_ASSERT_FALSE(terms_pass(1, 4096, 0, 0));
	CU_ASSERT_FALSE(terms_pass(1, 4096, 2048, 0));
	CU_ASSERT_FALSE(terms_pass(1, 4096, 12288, 0));
	CU_ASSERT_FALSE(terms_pass(2, 4096, 4096, 32));
}

static gboolean chunks_pass(guint32 first, guint32 n)
{
	FerryRdmaChunks in = { 0, first, n };
	guint8 bytes[FERRY_RDMA_CHUNKS_SIZE];

	ferry_rdma_put_chunks(bytes, &in);
	return get_chunks(bytes, sizeof(bytes), NULL);
}

static void rdma_get_chunks__ends_of_the_range__passed_and_refused(void)
{
	CU_ASSERT(chunks_pass(0, 1));
	CU_ASSERT(chunks_pass(0, G_MAXUINT32));
	CU_ASSERT(chunks_pass(G_MAXUINT32 - 1, 1));
	CU_ASSERT_FALSE(chunks_pass(0, 0));
	CU_ASSERT_FALSE(chunks_pass(1, G_MAXUINT32));
	CU_ASSERT_FALSE(chunks_pass(G_MAXUINT32, 1));
}

static void rdma_get_greeting__another_protocol_version_or_queue__refused(void)
{
	const struct {
		guint at;
		guint8 value;
	} wrong[] = { { 0, 'f' }, { 3, 0 }, { 7, 2 }, { 4, 1 }, { 27, 17 }, { 24, 1 } };

	for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
		guint8 bytes[FERRY_RDMA_GREETING_SIZE];
		GError *error = NULL;

		ferry_rdma_put_greeting(bytes, &greeting);
		bytes[wrong[i].at] = wrong[i].value;
		CU_ASSERT_FALSE(get_greeting(bytes, sizeof(bytes), &error));
		expect_peer_error(error);
	}
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(rdma_put__examples_of_protocol_md__same_bytes),
		CASE(rdma_get__every_truncation__refused),
		CASE(rdma_get__longer__refused_but_for_the_greeting),
		CASE(rdma_get_terms__what_was_put__same),
		CASE(rdma_get_terms__ends_of_each_range__passed_and_refused),
		CASE(rdma_get_chunks__ends_of_the_range__passed_and_refused),
		CASE(rdma_get_greeting__another_protocol_version_or_queue__refused),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "rdma-messages", cases);
}
