/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>
#include <rdma/rdma_cma.h>

/* Connecting by rdma_cm, for the raw measurements. They know nothing of the carrier in rdma/, on
 * purpose: what both would get wrong in common no comparison would show. */

/* What one side says of its memory while connecting: be64 address, be32 key. */
#define FERRY_BENCH_RAW_REGION_SIZE 12u

/* A lost packet is sent again after 134 ms, six times at most: 0.8 s until a dead peer shows. */
#define FERRY_BENCH_RAW_RETRIES 5

/* Fails with what @call said in errno; always FALSE. */
gboolean ferry_bench_raw_failed(GError **error, const char *call);

/* A buffer for DMA, zero filled; NULL with an error. Free with munmap(). */
void *ferry_bench_raw_map(guint64 bytes, GError **error);

/* Waits for the answer to the step that was begun last. @said: FERRY_BENCH_RAW_REGION_SIZE bytes
 * for what the peer said of its memory, left as they are where it said nothing; or NULL. */
gboolean ferry_bench_raw_await(struct rdma_event_channel *events, enum rdma_cm_event_type wanted,
			       guint8 *said, GError **error);

/* An id from @local that is ready to connect to @peer, but for its queue pair. */
struct rdma_cm_id *ferry_bench_raw_resolve(struct rdma_event_channel *events,
					   const struct sockaddr *local,
					   const struct sockaddr *peer, GError **error);
