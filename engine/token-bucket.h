/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>

/* Never less than this can be saved up, so that slow rates still send in batches worth sending. */
#define FERRY_TOKEN_BUCKET_BATCH (64u << 10)

/*
 * Limits a stream of bytes to a rate, smoothly: it refills continuously, and what is not used is
 * saved up for 20 ms at most. Time is what the caller passes in (g_get_monotonic_time()),
 * microseconds; it must not run backwards. One thread uses it; only the rate may be set by others.
 */
typedef struct {
	_Atomic guint64 rate; /* bytes a second; 0 is no limit; any thread */
	gint64 filled_us;     /* the time up to which the bucket was refilled */
	double tokens;        /* bytes that may be sent now */
} FerryTokenBucket;

/* No limit, and a full batch to begin with. */
void ferry_token_bucket_init(FerryTokenBucket *bucket, gint64 now_us);

/* Any thread; acts at the next take(). */
void ferry_token_bucket_set_rate(FerryTokenBucket *bucket, guint64 bytes_per_s);

/* Takes as many of @want bytes as may be sent now and returns how many; @want when there is no
 * limit. */
guint64 ferry_token_bucket_take(FerryTokenBucket *bucket, gint64 now_us, guint64 want);

/* Puts back bytes that were taken and could not be sent. */
void ferry_token_bucket_give_back(FerryTokenBucket *bucket, guint64 bytes);

/* Takes @bytes that went whatever the rate; the bucket may owe them. Less than 0: gives back what
 * did not go after all. */
void ferry_token_bucket_spend(FerryTokenBucket *bucket, gint64 bytes);

/* The most that can be saved up; 0 when there is no limit. */
guint64 ferry_token_bucket_burst(FerryTokenBucket *bucket);
/* As much as is worth waking up for. */
guint64 ferry_token_bucket_batch(FerryTokenBucket *bucket);

/* How long until take() gives all of @want, or all that the bucket can hold if that is less; 0 is
 * now. */
gint64 ferry_token_bucket_delay_us(FerryTokenBucket *bucket, gint64 now_us, guint64 want);
