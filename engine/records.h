/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/protocol.h>
#include <ferry/stream.h>

/*
 * Ferry's own records, put and get beside each other: what the two engines say to each other beyond
 * QEMU's format. docs/protocol.md is their specification. The conversation of a migration:
 *
 *   source                                   destination
 *   OPEN_RETURN_PATH, PING "FERR"  ------->
 *                                  <-------  PONG ~"FERR"
 *   HELLO                          ------->
 *                                  <-------  HELLO
 *   START ram (block list)         ------->
 *                                  <-------  ROUND_DONE 0: the lists are the same
 *   (records of a carrier beside the channel, both ways; then CARRIER: whether it is taken)
 *   ROUND_BEGIN n, pages, ROUND_END n  --->
 *                                  <-------  ROUND_DONE n
 *   END ram, devices, EOF, JSON,
 *   HANDOVER_PREPARE               ------->
 *                                  <-------  HANDOVER_READY
 *   HANDOVER_COMMIT                ------->
 *                                  <-------  HANDOVER_RUNNING, SHUT 0
 *   HANDOVER_DONE                  ------->
 *
 * After a cut: HANDOVER_QUERY on a new connection, answered by HANDOVER_STATE. ERROR says why
 * either side refuses. A get checks the whole payload and stores only a whole message.
 */
/* Bytes of an ERROR's text that a receiver keeps. */
#define FERRY_RECORD_ERROR_MAX (FERRY_RETURN_DATA_MAX - FERRY_RECORD_HEADER)

typedef struct {
	guint32 version; /* FERRY_PROTOCOL_VERSION */
	/* bits of FERRY_FEATURE_; unknown ones are ignored, the answer has those in use */
	guint64 features;
	guint32 page_size;
	guint8 nonce[FERRY_NONCE_SIZE]; /* names the session; the destination echoes it */
} FerryHello;
#define FERRY_PROTOCOL_VERSION 1u

typedef struct {
	guint32 round; /* 0 is the block list */
	guint64 pages; /* BEGIN: to come; END: that came */
} FerryRoundMark;

typedef struct {
	gboolean has_digest; /* PREPARE: wanted; READY: present */
	guint64 digest;
} FerryHandoverDigest;

typedef struct {
	guint64 user_us; /* CPU time of the destination's process */
	guint64 system_us;
} FerryHandoverRunning;

/* What a destination knows of the session that a QUERY names. */
typedef enum {
	FERRY_HANDOVER_UNKNOWN = 0,   /* nothing: another process, or too long ago */
	FERRY_HANDOVER_WAITING = 1,   /* loaded, waits for the commit */
	FERRY_HANDOVER_RUNS = 2,      /* took the guest over */
	FERRY_HANDOVER_DISCARDED = 3, /* gave it up; it never ran there */
} FerryHandoverAnswer;

void ferry_record_put_hello(GByteArray *out, const FerryHello *hello);
gboolean ferry_record_get_hello(const guint8 *payload, size_t len, FerryHello *hello,
				GError **error);

/* @type: ROUND_BEGIN, ROUND_END or ROUND_DONE. */
void ferry_record_put_round(GByteArray *out, guint16 type, const FerryRoundMark *mark);
gboolean ferry_record_get_round(const guint8 *payload, size_t len, FerryRoundMark *mark,
				GError **error);

/* @type: HANDOVER_PREPARE or HANDOVER_READY. */
void ferry_record_put_digest(GByteArray *out, guint16 type, const FerryHandoverDigest *digest);
gboolean ferry_record_get_digest(const guint8 *payload, size_t len, FerryHandoverDigest *digest,
				 GError **error);

/* @type: HANDOVER_COMMIT or HANDOVER_QUERY. */
void ferry_record_put_nonce(GByteArray *out, guint16 type, const guint8 nonce[FERRY_NONCE_SIZE]);
gboolean ferry_record_get_nonce(const guint8 *payload, size_t len, guint8 nonce[FERRY_NONCE_SIZE],
				GError **error);

void ferry_record_put_running(GByteArray *out, const FerryHandoverRunning *running);
gboolean ferry_record_get_running(const guint8 *payload, size_t len, FerryHandoverRunning *running,
				  GError **error);

/* CARRIER: whether the pages go beside the channel. */
void ferry_record_put_carrier(GByteArray *out, gboolean beside);
gboolean ferry_record_get_carrier(const guint8 *payload, size_t len, gboolean *beside,
				  GError **error);

void ferry_record_put_heartbeat(GByteArray *out);

void ferry_record_put_answer(GByteArray *out, FerryHandoverAnswer answer);
gboolean ferry_record_get_answer(const guint8 *payload, size_t len, FerryHandoverAnswer *answer,
				 GError **error);

/* @type: HANDOVER_DONE, HANDOVER_ABORT or POSTCOPY_HAVE_ALL. */
void ferry_record_put_empty(GByteArray *out, guint16 type);
/* @name: of the type, for the message. */
gboolean ferry_record_get_empty(const guint8 *payload, size_t len, const char *name,
				GError **error);

/* Cut at a character's edge to FERRY_RECORD_ERROR_MAX. */
void ferry_record_put_error(GByteArray *out, const char *text);
/* Returns printable text whatever the bytes are; free with g_free(). */
char *ferry_record_get_error(const guint8 *payload, size_t len);

/* A record's header out of its @header bytes; FERRY_ERROR_PEER if @len does not hold the whole
 * record or its version is not ours. One of another version that may be skipped has type 0. The
 * payload is at @data + FERRY_RECORD_HEADER. */
typedef struct {
	guint16 type;
	guint8 flags;
	guint32 length;
} FerryRecord;
gboolean ferry_record_get_header(const guint8 *data, size_t len, FerryRecord *record,
				 GError **error);
