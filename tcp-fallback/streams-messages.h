/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/error.h>
#include <ferry/protocol.h>

/*
 * What the two ends of the parallel streams say; docs/protocol.md is the specification. A get
 * checks everything and stores only a whole message.
 *
 *   source                                     destination
 *   OFFER                            ------->
 *                                    <-------  ANSWER: how many there will be, or REFUSE: why none
 *   (a connection to the same host and port for each; last the urgent one, where there is one)
 *   greeting                         ------->
 *                                    <-------  the same greeting: this stream is taken
 *   PAGES..., FENCE n                ------->  on every stream, as often as it takes
 */
typedef enum {
	/* on the control stream */
	FERRY_RECORD_STREAMS_OFFER = 0x120,  /* terms: what is wanted */
	FERRY_RECORD_STREAMS_ANSWER = 0x121, /* terms: what is agreed: never more */
	FERRY_RECORD_STREAMS_REFUSE = 0x122, /* UTF-8: why not */
	/* in a stream */
	FERRY_RECORD_STREAMS_FENCE = 0x123, /* be32 round: all of its pages in this stream came */
} FerryStreamsRecordType;
#define FERRY_RECORD_STREAMS_LAST 0x12fu

#define FERRY_STREAMS_MAX 16u
#define FERRY_STREAMS_CONNECTIONS (FERRY_STREAMS_MAX + 1) /* and the urgent one */
#define FERRY_STREAMS_NUMBER_SIZE 4u                      /* payload of FENCE */
#define FERRY_STREAMS_TEXT_MAX 504u /* of REFUSE: what a message of the return path holds */

/* What OFFER and ANSWER hold: be32 streams, and where any is set, be32 flags. */
typedef struct {
	guint32 streams; /* at least 1 */
	guint32 flags;
} FerryStreamsTerms;
#define FERRY_STREAMS_TERMS_MAX 8u
/* One connection more, for pages that the guest waits for; its index comes after all others. */
#define FERRY_STREAMS_URGENT 1u

/* In front of a payload in a stream: the FERRY command, its length, the record's header. */
#define FERRY_STREAMS_FRAME_HEADER 13u
#define FERRY_STREAMS_FENCE_SIZE (FERRY_STREAMS_FRAME_HEADER + FERRY_STREAMS_NUMBER_SIZE)

/* First in each stream: magic "FSTR", be32 version 1, nonce, be32 index. */
typedef struct {
	guint8 nonce[FERRY_NONCE_SIZE];
	guint32 index; /* which of the connections, from 0 */
} FerryStreamsGreeting;
#define FERRY_STREAMS_GREETING_SIZE 28u

/* Fill exactly the size above. */
void ferry_streams_put_greeting(guint8 *out, const FerryStreamsGreeting *greeting);
void ferry_streams_put_fence(guint8 *out, guint32 round);

/* @data has FERRY_STREAMS_GREETING_SIZE bytes. FALSE: it is none of this version. */
gboolean ferry_streams_get_greeting(const guint8 *data, FerryStreamsGreeting *greeting);

/* Returns the size of the payload in @out, which has room for FERRY_STREAMS_TERMS_MAX bytes. */
size_t ferry_streams_put_terms(guint8 *out, const FerryStreamsTerms *terms);

/* Terms that are in no field more than @most. */
gboolean ferry_streams_get_terms(const char *record, const guint8 *payload, size_t len,
				 const FerryStreamsTerms *most, FerryStreamsTerms *terms,
				 GError **error);

/* The payload of FENCE: a number of at least @min. */
gboolean ferry_streams_get_fence(const guint8 *payload, size_t len, guint32 min, guint32 *round,
				 GError **error);

/* @data has FERRY_STREAMS_FRAME_HEADER bytes; *@len payload bytes follow, at most @max. */
gboolean ferry_streams_get_frame(const guint8 *data, size_t max, guint16 *type, size_t *len,
				 GError **error);

/* How many connections there are. */
static inline guint ferry_streams_connections(const FerryStreamsTerms *terms)
{
	return terms->streams + (terms->flags & FERRY_STREAMS_URGENT ? 1 : 0);
}
