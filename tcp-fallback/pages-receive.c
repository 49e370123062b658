/* SPDX-License-Identifier: BSD-2-Clause */
#include "pages.h"

#include <ferry/protocol.h>

static gboolean refuse(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

static gboolean refuse(GError **error, const char *format, ...)
{
	g_autofree char *what = NULL;
	va_list args;

	va_start(args, format);
	what = g_strdup_vprintf(format, args);
	va_end(args);
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER, "record of pages: %s", what);
	return FALSE;
}

gboolean ferry_pages_get_run(const FerryRam *ram, const guint8 *payload, size_t len, FerryRun *run,
			     GError **error)
{
	guint64 block_pages;
	FerryRun in;

	if (len != FERRY_PAGES_PAYLOAD)
		return refuse(error, "%zu bytes instead of %u", len, FERRY_PAGES_PAYLOAD);
	in.block = ferry_load_be32(payload);
	in.first = ferry_load_be64(payload + 4);
	in.pages = ferry_load_be64(payload + 12);
	if (in.block >= ram->n_blocks)
		return refuse(error, "block %u of %u", in.block, ram->n_blocks);
	block_pages = ferry_ram_block_pages(&ram->blocks[in.block]);
	/* In this order nothing can overflow. */
	if (in.first >= block_pages || !in.pages || in.pages > block_pages - in.first)
		return refuse(error,
			      "%" G_GUINT64_FORMAT " pages from page %" G_GUINT64_FORMAT
			      " on, but block '%s' has %" G_GUINT64_FORMAT,
			      in.pages, in.first, ram->blocks[in.block].name, block_pages);
	if (in.pages > FERRY_PAGES_RUN_MAX >> FERRY_PAGE_SHIFT)
		return refuse(error,
			      "%" G_GUINT64_FORMAT " pages in one run, at most %u are allowed",
			      in.pages, FERRY_PAGES_RUN_MAX >> FERRY_PAGE_SHIFT);
	*run = in;
	return TRUE;
}

gboolean ferry_pages_receive(const FerryRam *ram, const FerryZeroer *zeroer, guint16 type,
			     const guint8 *payload, size_t len, FerryReadExactly read,
			     gpointer user, FerryRun *run, gboolean *zero, GError **error)
{
	FerryRun in;

	if (type != FERRY_RECORD_PAGES && type != FERRY_RECORD_ZERO_PAGES)
		return refuse(error, "type 0x%x belongs to another carrier", type);
	if (!ram)
		return refuse(error, "it came before the lists of RAM blocks were compared");
	if (!ferry_pages_get_run(ram, payload, len, &in, error))
		return FALSE;
	if (type == FERRY_RECORD_ZERO_PAGES)
		ferry_zeroer_clear(zeroer, ram, &in);
	else if (!read(user, ferry_run_host(ram, &in), ferry_run_bytes(&in), error))
		return FALSE;
	*run = in;
	*zero = type == FERRY_RECORD_ZERO_PAGES;
	return TRUE;
}
