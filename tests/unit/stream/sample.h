/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/stream.h>

/* A source of bytes that gives at most @chunk bytes a read; then @error_at_end decides between a
 * clean end and a failing link. */
typedef struct {
	const guint8 *data;
	size_t len;
	size_t at;
	size_t chunk;
	gboolean error_at_end;
	guint reads;
} SampleSource;

gssize sample_source_read(gpointer user, const struct iovec *iov, int n, GError **error);

/*
 * A whole stream as a small pc would send it: header, configuration, START with blocks "m" (4
 * pages) and "rom" (1 page), PART with pages 0 and 2 of "m" (every byte 0x50 + page) and a zero
 * page of "rom", END with page 0 of "rom" by CONTINUE, two devices, EOF, and their JSON
 * description.
 */
GByteArray *sample_stream(void);

/* Only what comes after END's footer: device sections, EOF, description. */
GByteArray *sample_tail(void);
const char *sample_json(void);

/* Reads @data to its end as a receiver would. TRUE if all of it made sense. */
gboolean sample_parse(FerryStreamReader *reader, guint *pages, GError **error);
