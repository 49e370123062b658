/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/carrier.h>
#include <ferry/mapped.h>
#include "fd-channel.h"

/* The file behind a channel, in which pages have places. */
typedef struct {
	FerryFdChannel *channel; /* borrowed: its descriptor reads and writes bitmaps */
	int fd;                  /* for pages: the channel's, or, around the page cache, owned */
	gboolean direct;
	FerryMappedPlace *places; /* owned */
	guint n_places;
	guint threads;
} FerryMappedFile;

/* Fills @file, also on failure; clear() follows. FERRY_ERROR_NOSUPP without O_DIRECT. */
gboolean ferry_mapped_file_open(FerryMappedFile *file, FerryFdChannel *channel,
				const FerryMapping *mapping, GError **error);
void ferry_mapped_file_clear(FerryMappedFile *file);

/* All of @len bytes at @offset, through @fd: the file's or the channel's. The error names the
 * offset. From any thread. Ends early when the channel was shut down. */
gboolean ferry_mapped_file_write(const FerryMappedFile *file, int fd, const void *data, size_t len,
				 guint64 offset, GError **error);
gboolean ferry_mapped_file_read(const FerryMappedFile *file, int fd, void *buf, size_t len,
				guint64 offset, GError **error);
/* The channel's own descriptor. */
int ferry_mapped_file_stream(const FerryMappedFile *file);

/* A thread of the carriers': a write beyond RLIMIT_FSIZE is then an error, and no signal. */
void ferry_mapped_file_block_signal(void);

/* The carriers of the two sides. */
FerryCarrier *ferry_mapped_writer_new(FerryMappedFile *file, GError **error);
FerryCarrier *ferry_mapped_loader_new(FerryMappedFile *file);

/* What file: gives as its FerryPlacesOps; the channel is a FerryFdChannel. */
extern const FerryPlacesOps ferry_mapped_file_places;
