/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/channel.h>
#include <ferry/ram.h>

G_BEGIN_DECLS

/*
 * Pages that have places (the capability mapped-ram): in a file each page of RAM lies at an offset
 * of its own, and a page that goes again goes there again. Behind its entry in the block list each
 * block has a header, then a bitmap of the pages that are there (the others are zero), then the
 * pages, from the next multiple of 1 MiB on. The stream goes on behind them. docs/protocol.md 2.5.
 */
#define FERRY_MAPPED_VERSION 1u
#define FERRY_MAPPED_HEADER 28u /* bytes: be32 version, be64 page size, be64 bitmap, be64 pages */
#define FERRY_MAPPED_ALIGNMENT (1u << 20)

/* Where a block lies: offsets in the file, bytes. Both 0: it is not there (x-ignore-shared). */
typedef struct {
	guint64 bitmap;
	guint64 pages; /* of its first page */
} FerryMappedPlace;

/* Bytes of the bitmap of a block of @size bytes: a bit a page, in whole words of 64, the first page
 * in the lowest bit of the first byte. */
static inline guint64 ferry_mapped_bitmap_bytes(guint64 size)
{
	guint64 pages = size >> FERRY_PAGE_SHIFT;

	return (pages / 64 + (pages % 64 != 0)) * 8;
}

/* The place of a block of @size bytes whose header begins at @offset of the file. */
static inline FerryMappedPlace ferry_mapped_place(guint64 offset, guint64 size)
{
	guint64 bitmap = offset + FERRY_MAPPED_HEADER;
	guint64 end = bitmap + ferry_mapped_bitmap_bytes(size);

	return (FerryMappedPlace){
		.bitmap = bitmap,
		.pages = (end + FERRY_MAPPED_ALIGNMENT - 1) &
			 ~(guint64)(FERRY_MAPPED_ALIGNMENT - 1),
	};
}

/* What a carrier of such pages is made from. */
typedef struct {
	const FerryMappedPlace *places; /* one a block of the RAM; copied */
	guint n_places;
	guint threads;   /* that read or write, 1 to 16 */
	gboolean direct; /* pages go around the page cache (O_DIRECT) */
} FerryMapping;

/* What a channel whose bytes lie in a file can do beside the stream. */
struct FerryPlacesOps {
	/* Where in the file the channel's next byte is read or written, and how many bytes the file
	 * has now. */
	gboolean (*tell)(FerryChannel *channel, guint64 *offset, guint64 *size, GError **error);
	/* Makes it @offset; beyond the end is allowed, and what is left out is zero. */
	gboolean (*seek)(FerryChannel *channel, guint64 offset, GError **error);
	/* A carrier that puts pages into their places, or (load()) gets them from there. Borrows
	 * the channel; the caller closes it. What settle() answered OK to is in the file with its
	 * bitmap, and on the disk after the channel's finish(). FERRY_ERROR_NOSUPP where the file
	 * cannot be read or written around the page cache. */
	FerryCarrier *(*carrier)(FerryChannel *channel, const FerryMapping *mapping,
				 GError **error);
};

G_END_DECLS
