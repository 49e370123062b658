/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>
#include <ferry/page-codec.h>
#include "micro.h"

/* Pages of one set: two versions of each fit into a core's second cache. */
#define PAGES 32u
#define CHANGED_BYTES 64u
/* More than any page takes, so that also the worst has something to decode. */
#define ROOM (2u * FERRY_PAGE_SIZE)

enum {
	UNCHANGED,
	CHANGED_64,
	CHANGED_ALL
};

typedef struct {
	guint8 before[PAGES][FERRY_PAGE_SIZE];
	guint8 now[PAGES][FERRY_PAGE_SIZE];
	guint8 data[PAGES][ROOM];
	gssize len[PAGES];
	guint64 *scrap;
} Codec;

static gpointer codec_begin(const FerryMicroMemory *memory, guint variant)
{
	Codec *codec = g_new0(Codec, 1);

	memcpy(codec->before, memory->random, MIN(memory->size, sizeof(codec->before)));
	memcpy(codec->now, codec->before, sizeof(codec->now));
	for (guint i = 0; i < PAGES; i++) {
		gsize from = variant == CHANGED_64 ? i * 977 % (FERRY_PAGE_SIZE - CHANGED_BYTES)
						   : 0;
		gsize len = variant == UNCHANGED    ? 0
			    : variant == CHANGED_64 ? CHANGED_BYTES
						    : FERRY_PAGE_SIZE;

		for (gsize k = 0; k < len; k++)
			codec->now[i][from + k] ^= 0xff;
		codec->len[i] = ferry_xbzrle_encode(codec->before[i], codec->now[i], codec->data[i],
						    ROOM);
	}
	codec->scrap = memory->scrap;
	return codec;
}

/* The room is a page's: what would take more goes whole. */
static guint64 encode_pass(gpointer state)
{
	Codec *codec = state;
	gssize bytes = 0;

	for (guint i = 0; i < PAGES; i++)
		bytes += ferry_xbzrle_encode(codec->before[i], codec->now[i], codec->data[i],
					     FERRY_PAGE_SIZE);
	*codec->scrap += (guint64)bytes;
	return PAGES;
}

static guint64 decode_pass(gpointer state)
{
	Codec *codec = state;

	for (guint i = 0; i < PAGES; i++)
		*codec->scrap += ferry_xbzrle_decode(codec->data[i], (size_t)codec->len[i],
						     codec->before[i], NULL);
	return PAGES;
}

const FerryMicroCase ferry_micro_codec_cases[] = {
	{ "xbzrle-encode/unchanged", codec_begin, encode_pass, g_free, UNCHANGED },
	{ "xbzrle-encode/64-bytes", codec_begin, encode_pass, g_free, CHANGED_64 },
	{ "xbzrle-encode/all", codec_begin, encode_pass, g_free, CHANGED_ALL },
	{ "xbzrle-decode/64-bytes", codec_begin, decode_pass, g_free, CHANGED_64 },
	{ "xbzrle-decode/all", codec_begin, decode_pass, g_free, CHANGED_ALL },
	{ NULL },
};
