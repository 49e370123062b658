/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/protocol.h>

/*
 * The RDMA carrier's records on the control stream; docs/protocol.md is their specification. All
 * numbers are big-endian. A get checks the whole payload and stores only a whole message.
 *
 *   source                                     destination
 *   OFFER                            ------->
 *                                    <-------  ANSWER: what will be, or REFUSE: why not
 *   (rdma_connect, one a queue pair, private data FerryRdmaGreeting)
 *   REGISTER chunks                  ------->
 *                                    <-------  REGION: address and key of each, as it is registered
 *   RELEASE chunks                   ------->  deregistered
 *   with FERRY_RDMA_PULL, as they are registered:
 *   SOURCE_REGION                    ------->  may be read from the switch on
 */
typedef enum {
	FERRY_RECORD_RDMA_OFFER = 0x110,
	FERRY_RECORD_RDMA_ANSWER = 0x111,
	FERRY_RECORD_RDMA_REFUSE = 0x112, /* UTF-8: no RDMA here, or none any more, and why */
	FERRY_RECORD_RDMA_REGISTER = 0x113,
	FERRY_RECORD_RDMA_REGION = 0x114,
	FERRY_RECORD_RDMA_RELEASE = 0x115,
	FERRY_RECORD_RDMA_SOURCE_REGION = 0x116, /* as REGION, of the source: it may be read */
	FERRY_RECORD_RDMA_LAST = 0x11f,          /* the rest are free for more of them */
} FerryRdmaRecordType;

/* Both ways: OFFER says what the source can and wants, ANSWER what is agreed: never more. */
typedef struct {
	guint32 queue_pairs; /* 1 to FERRY_RDMA_QUEUES_MAX */
	guint32 write_size;  /* largest RDMA write, bytes; a multiple of the page size */
	guint64 chunk_size;  /* bytes of RAM in a memory region; a power of two */
	guint32 flags;       /* FERRY_RDMA_ bits */
	guint32 mtu;         /* active MTU of the port, bytes: a report, not agreed */
	guint64 pin_limit;   /* ANSWER: bytes registered at the destination at a time; 0: all */
} FerryRdmaTerms;
#define FERRY_RDMA_PIN_ALL 1u          /* all chunks before the first page */
#define FERRY_RDMA_ON_DEMAND 2u        /* the destination registers on demand: nothing is pinned */
#define FERRY_RDMA_RELAXED_ORDERING 4u /* writes may pass each other between fences */
/* One more queue pair, the last, for pages that the guest waits for; after the switch every write
 * has an immediate: the number of its first page, counted through all blocks in order. */
#define FERRY_RDMA_POSTCOPY 8u
/* After the switch the destination reads the pages; SOURCE_REGION says where. With POSTCOPY. */
#define FERRY_RDMA_PULL 16u
#define FERRY_RDMA_QUEUES_MAX 17u /* the urgent one included */
#define FERRY_RDMA_BULK_MAX 16u

/* With POSTCOPY, after the switch, on each queue pair: how many writes may be under way that were
 * not given back. The destination gives them back by a write without data, with immediate data:
 * how many they are. So a write always finds a receive there, and needs no retry. */
#define FERRY_RDMA_CREDITS 64u
#define FERRY_RDMA_CREDITS_BACK 16u /* together, but for the last ones */
/* Receives that the source has posted for that on each queue pair. */
#define FERRY_RDMA_BACKS (FERRY_RDMA_CREDITS / FERRY_RDMA_CREDITS_BACK)

/* REGISTER, RELEASE: @chunks chunks of block @block from chunk @first on. */
typedef struct {
	guint32 block;
	guint32 first;
	guint32 chunks; /* at least 1 */
} FerryRdmaChunks;

/* REGION: one chunk, registered. */
typedef struct {
	guint32 block;
	guint32 chunk;
	guint64 address; /* of its first byte, in the destination's terms */
	guint32 key;
} FerryRdmaRegion;

/* CM private data of a connection; 56 bytes is the most that fits (rdma_connect(3)). */
typedef struct {
	guint8 nonce[FERRY_NONCE_SIZE];
	guint32 queue; /* which of the queue pairs, from 0 */
} FerryRdmaGreeting;
#define FERRY_RDMA_GREETING_SIZE 28u /* magic "FRDM", version be32 1, nonce, be32 queue */

#define FERRY_RDMA_TERMS_SIZE 32u
#define FERRY_RDMA_CHUNKS_SIZE 12u
#define FERRY_RDMA_REGION_SIZE 20u

/* Each put fills exactly the size above. */
void ferry_rdma_put_terms(guint8 *out, const FerryRdmaTerms *terms);
void ferry_rdma_put_chunks(guint8 *out, const FerryRdmaChunks *chunks);
void ferry_rdma_put_region(guint8 *out, const FerryRdmaRegion *region);
void ferry_rdma_put_greeting(guint8 *out, const FerryRdmaGreeting *greeting);

/* FERRY_ERROR_PEER where the length or a number is impossible in itself (ranges above); what must
 * fit the RAM is checked by whoever knows it. */
gboolean ferry_rdma_get_terms(const guint8 *data, size_t len, FerryRdmaTerms *terms,
			      GError **error);
gboolean ferry_rdma_get_chunks(const guint8 *data, size_t len, FerryRdmaChunks *chunks,
			       GError **error);
gboolean ferry_rdma_get_region(const guint8 *data, size_t len, FerryRdmaRegion *region,
			       GError **error);
gboolean ferry_rdma_get_greeting(const guint8 *data, size_t len, FerryRdmaGreeting *greeting,
				 GError **error);
