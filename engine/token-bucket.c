/* SPDX-License-Identifier: BSD-2-Clause */
#include "token-bucket.h"

#include <math.h>
#include <stdatomic.h>

/* What a sender that was held up for so long may catch up with: 4 % of half a second. */
#define BURST_S 0.02
/* What is worth waking up for. */
#define BATCH_S 0.002

static double capacity(guint64 rate)
{
	return MAX((double)rate * BURST_S, FERRY_TOKEN_BUCKET_BATCH);
}

void ferry_token_bucket_init(FerryTokenBucket *bucket, gint64 now_us)
{
	atomic_init(&bucket->rate, 0);
	bucket->filled_us = now_us;
	bucket->tokens = FERRY_TOKEN_BUCKET_BATCH;
}

void ferry_token_bucket_set_rate(FerryTokenBucket *bucket, guint64 bytes_per_s)
{
	atomic_store_explicit(&bucket->rate, bytes_per_s, memory_order_relaxed);
}

/* A rate that changed since the last refill counts as if it had been so all the time: off by one
 * gap between calls, and bounded by the new capacity. */
static guint64 refill(FerryTokenBucket *bucket, gint64 now_us)
{
	guint64 rate = atomic_load_explicit(&bucket->rate, memory_order_relaxed);
	double elapsed = (double)MAX(now_us - bucket->filled_us, 0) / G_USEC_PER_SEC;

	bucket->tokens = MIN(bucket->tokens + elapsed * (double)rate, capacity(rate));
	bucket->filled_us = MAX(now_us, bucket->filled_us);
	if (!rate)
		bucket->tokens = MAX(bucket->tokens, 0);
	return rate;
}

guint64 ferry_token_bucket_take(FerryTokenBucket *bucket, gint64 now_us, guint64 want)
{
	guint64 taken;

	if (!refill(bucket, now_us))
		return want;
	taken = bucket->tokens >= (double)want ? want : (guint64)MAX(bucket->tokens, 0);
	bucket->tokens -= (double)taken;
	return taken;
}

void ferry_token_bucket_give_back(FerryTokenBucket *bucket, guint64 bytes)
{
	bucket->tokens += (double)bytes;
}

void ferry_token_bucket_spend(FerryTokenBucket *bucket, gint64 bytes)
{
	bucket->tokens -= (double)bytes;
}

guint64 ferry_token_bucket_burst(FerryTokenBucket *bucket)
{
	guint64 rate = atomic_load_explicit(&bucket->rate, memory_order_relaxed);

	return rate ? (guint64)capacity(rate) : 0;
}

guint64 ferry_token_bucket_batch(FerryTokenBucket *bucket)
{
	guint64 rate = atomic_load_explicit(&bucket->rate, memory_order_relaxed);

	return MAX((guint64)((double)rate * BATCH_S), FERRY_TOKEN_BUCKET_BATCH);
}

gint64 ferry_token_bucket_delay_us(FerryTokenBucket *bucket, gint64 now_us, guint64 want)
{
	guint64 rate = refill(bucket, now_us);
	double missing;

	if (!rate)
		return 0;
	missing = MIN((double)want, capacity(rate)) - bucket->tokens;
	return missing <= 0 ? 0 : (gint64)MIN(ceil(missing / (double)rate * G_USEC_PER_SEC), 1e15);
}
