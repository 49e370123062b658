/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/stream.h>

/*
 * What `ferry inspect` found in a stream: a list of items without gaps, and totals. Filled by
 * ferry_inspection_read(), shown by ferry_inspection_print() or _print_json().
 */
typedef struct {
	const char *kind; /* "header", "start", "device", ...; static */
	guint64 offset;   /* of the first byte */
	guint64 length;   /* bytes, footer included */
	char *name;       /* of the section, the command or the records; may be NULL */
	gboolean has_ids; /* the four below are set */
	guint32 section_id;
	guint32 instance_id;
	guint32 version_id;
	guint64 pages; /* RAM sections and page records */
	guint64 zero_pages;
	guint64 xbzrle_pages; /* of pages */
	guint64 compressed_pages;
	guint64 count; /* like items in a row that are shown as one; else 1 */
	char *detail;  /* for people; may be NULL */
} FerryInspectionItem;

typedef struct {
	guint64 pages;
	guint64 zero_pages;
	guint64 xbzrle_pages;     /* of pages: differences */
	guint64 compressed_pages; /* of pages: deflated */
} FerryInspectionPages;

typedef struct {
	GArray *items;                   /* of FerryInspectionItem */
	FerryStreamConfiguration config; /* machine is NULL if there was none */
	FerryRamReader ram;              /* the block list */
	GArray *block_pages;             /* of FerryInspectionPages, one a block */
	FerryInspectionPages total;
	guint64 bytes; /* of the stream, as far as it was read */
	guint64 device_bytes;
	guint devices;
	/* what delimited the devices: "description", "footers", "nothing"; NULL without devices */
	const char *cut_by;
	gboolean scan_agrees; /* cut_by "description": the footers give the same cut */
} FerryInspection;

void ferry_inspection_clear(FerryInspection *found);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(FerryInspection, ferry_inspection_clear)

/* Reads the stream to its end. On failure @found holds what was understood before it. */
gboolean ferry_inspection_read(FerryInspection *found, FerryStreamReader *reader, GError **error);

/* Adds a copy of @item, which passes its strings on; it begins where the last one ended. */
void ferry_inspection_add(FerryInspection *found, FerryInspectionItem *item, guint64 end);

/* The part from the first device section on, which has to be in memory: @tail begins at @offset. */
gboolean ferry_inspection_read_tail(FerryInspection *found, const guint8 *tail, size_t len,
				    guint64 offset, GError **error);

/* Elements up to the end of the stream or the first device section, which is left unread. */
gboolean ferry_inspection_read_elements(FerryInspection *found, FerryStreamReader *reader,
					guint64 base, GError **error);

/* To stdout. @error is why it was not read to its end, or NULL. */
void ferry_inspection_print(const FerryInspection *found, const GError *error);
void ferry_inspection_print_json(const FerryInspection *found, const GError *error);
