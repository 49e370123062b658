/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/protocol.h>
#include <ferry/ram.h>
#include <ferry/settings.h>
#include <ferry/status.h>

/*
 * Turns pages into what goes in their place: differences to what the destination has (xbzrle), or
 * deflated (compress). With both on, compress has the first round and xbzrle the others. Whatever
 * is encoded is a copy, made once, so that what goes and what is remembered are the same although
 * the guest writes. The migration thread's own; threads inside deflate.
 */
typedef struct FerryPageEncoder FerryPageEncoder;

/* For the capabilities as they are now; NULL without an error where neither is on. @ram and
 * @settings are borrowed; parameters are followed as they change. FERRY_ERROR_IO without memory or
 * threads. */
FerryPageEncoder *ferry_page_encoder_new(const FerryRam *ram, FerrySettings *settings,
					 GError **error);
/* NULL is allowed. */
void ferry_page_encoder_free(FerryPageEncoder *encoder);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryPageEncoder, ferry_page_encoder_free)

/* A round begins, from 1; the guest stands still in it if @stopped. Nothing is under way. */
void ferry_page_encoder_begin_round(FerryPageEncoder *encoder, guint round, gboolean stopped);
/* It is over: rates are of it. */
void ferry_page_encoder_end_round(FerryPageEncoder *encoder);

/* Whether pages of this round are offered at all; else they go as they are. */
gboolean ferry_page_encoder_is_active(const FerryPageEncoder *encoder);

typedef struct {
	guint32 block;
	guint64 page;
	FerryPageForm form;
	const guint8 *data; /* until the next call */
	size_t len;
} FerryEncodedPage;

typedef enum {
	FERRY_ENCODE_AS_IS,     /* put it from guest RAM */
	FERRY_ENCODE_UNCHANGED, /* the destination has it: nothing goes */
	FERRY_ENCODE_NOW,       /* put what was made of it, whatever happens: it counts as sent */
	FERRY_ENCODE_LATER,     /* a thread has it: finished() gives it */
	FERRY_ENCODE_WAIT,      /* all threads are busy: wait for finished(), then offer it again */
} FerryEncoding;

/* Offers a page of this round, which is put only once in it. @encoded is set for NOW. */
FerryEncoding ferry_page_encoder_offer(FerryPageEncoder *encoder, guint32 block, guint64 page,
				       FerryEncodedPage *encoded);

/* The run goes as zeros. */
void ferry_page_encoder_zero(FerryPageEncoder *encoder, const FerryRun *run);

/* Whether threads have pages. */
gboolean ferry_page_encoder_is_busy(const FerryPageEncoder *encoder);
/* One of them is done: put it. Waits for at most @timeout_us; FALSE: none was. */
gboolean ferry_page_encoder_finished(FerryPageEncoder *encoder, gint64 timeout_us,
				     FerryEncodedPage *encoded);

/* Pages of this round that did not go, being unchanged. */
guint64 ferry_page_encoder_unchanged(const FerryPageEncoder *encoder);

const FerryXbzrleStatus *ferry_page_encoder_xbzrle(const FerryPageEncoder *encoder);
const FerryCompressionStatus *ferry_page_encoder_compression(const FerryPageEncoder *encoder);
