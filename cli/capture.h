/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ferry.h>

/*
 * A guest at rest: the directory that `ferry receive` makes and `ferry send` replays.
 * docs/receive.md describes its files. map.json is written last, so that a directory with one is
 * whole.
 */
#define FERRY_CAPTURE_VERSION 1

typedef struct {
	char *name;   /* as in the stream; UTF-8 */
	char *file;   /* "ram-0.img", in the directory */
	guint64 size; /* bytes */
	int fd;
	guint8 *host;    /* the file's shared mapping */
	guint8 *written; /* while receiving: one bit a page that is no hole; else NULL */
} FerryCaptureBlock;

typedef struct {
	char *directory;
	/* machine is NULL where the stream has none, nor footers */
	FerryStreamConfiguration config;
	guint32 ram_section_id;
	guint32 ram_version_id;
	GArray *blocks;      /* of FerryCaptureBlock */
	GBytes *devices;     /* the device sections, without the EOF byte */
	GBytes *description; /* the JSON description; NULL where the source sent none */
} FerryCapture;

/* Makes @directory or takes an empty one; FERRY_ERROR_STATE if it is not empty. */
FerryCapture *ferry_capture_create(const char *directory, GError **error);

/* Opens a finished one: files mapped read-only, sizes and the devices' checksum compared. */
FerryCapture *ferry_capture_open(const char *directory, GError **error);

/* NULL is allowed. Does not remove files. */
void ferry_capture_free(FerryCapture *capture);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryCapture, ferry_capture_free)

/* Makes the sparse files of @blocks (of FerryStreamRamBlock) and maps them. Once. */
gboolean ferry_capture_add_blocks(FerryCapture *capture, const GArray *blocks, GError **error);

/* Zeroes a page if anything was written to it before. */
void ferry_capture_zero_page(FerryCaptureBlock *block, guint64 offset);
/* Where the page goes; it counts as written. Any thread, for one page one at a time. */
guint8 *ferry_capture_page(FerryCaptureBlock *block, guint64 offset);
/* Writes the page there; slower, but a full disk is an error and no SIGBUS. */
gboolean ferry_capture_write_page(const FerryCapture *capture, FerryCaptureBlock *block,
				  guint64 offset, const void *page, GError **error);

/* Writes the rest and then map.json, all of it down to the disk: on TRUE the guest is safe here. */
gboolean ferry_capture_finish(FerryCapture *capture, GError **error);

/* map.json as text; and what it says into @capture, with files named but not opened. *@sizes holds
 * the number of bytes that devices and description must have, *@checksum the devices' SHA-256. */
char *ferry_capture_map_to_json(const FerryCapture *capture);
gboolean ferry_capture_map_from_json(FerryCapture *capture, const char *json, gsize len,
				     guint64 sizes[2], char **checksum, GError **error);

/* A JSON description in place of one that the source did not send: each of @sections (of
 * FerryDeviceSection, with printable names) is one field. */
GBytes *ferry_capture_describe(const GArray *sections);

/* The files as the RAM of a carrier, which borrows their mappings. */
FerryRam *ferry_capture_ram(const FerryCapture *capture, GError **error);

/* The stream's header and configuration, as they came. */
void ferry_capture_put_begin(const FerryCapture *capture, GByteArray *out);
