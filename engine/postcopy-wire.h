/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/stream.h>
#include "bitmap.h"

/*
 * The commands and messages of postcopy, which are QEMU's; docs/protocol.md, section 3.6. A put
 * appends a whole command or message; a get takes the data of one, checks it against @ram, and
 * fails with FERRY_ERROR_PEER unless it says otherwise. LISTEN, RUN and RESUME have no data.
 */

/* ADVISE: FERRY_ERROR_MISMATCH where the backing's pages differ, since only whole ones can be asked
 * for. */
void ferry_postcopy_put_advise(GByteArray *out, const FerryRam *ram);
gboolean ferry_postcopy_get_advise(const FerryRam *ram, const guint8 *data, size_t len,
				   GError **error);

/* Sets every page of a host page of which one is set: what is missing is whole pages of the
 * backing. */
void ferry_postcopy_widen(FerryBitmap *missing, const FerryRam *ram);

/* RAM_DISCARD for everything in @missing, widened: at least one, as many as it takes. */
void ferry_postcopy_put_discards(GByteArray *out, const FerryRam *ram, const FerryBitmap *missing);
/* Each run is within its block and of whole host pages. FALSE with @error set ends the walk. */
typedef gboolean (*FerryDiscardFunc)(gpointer user, const FerryRun *run, GError **error);
gboolean ferry_postcopy_get_discard(const FerryRam *ram, const guint8 *data, size_t len,
				    FerryDiscardFunc discard, gpointer user, GError **error);

/* PACKAGED: the package follows the command, outside of its length. Its length is the source's
 * word, not to be allocated before the bytes have come. */
void ferry_postcopy_put_packaged(GByteArray *out, guint32 length);
gboolean ferry_postcopy_get_packaged(const guint8 *data, size_t len, guint32 *length,
				     GError **error);

/* RECV_BITMAP, the command: what do you have of this block? */
void ferry_postcopy_put_ask(GByteArray *out, const FerryRam *ram, guint block);
gboolean ferry_postcopy_get_ask(const FerryRam *ram, const guint8 *data, size_t len, guint *block,
				GError **error);

/* RECV_BITMAP, the message, with what follows it: @words as ferry_postcopy_ram_received() gives
 * them. */
void ferry_postcopy_put_received(GByteArray *out, const FerryRam *ram, guint block,
				 const guint64 *words);
/* The message's own data. */
gboolean ferry_postcopy_get_received(const FerryRam *ram, const guint8 *data, size_t len,
				     guint *block, GError **error);
/* What follows it, off @reader: a copy in the CPU's order, without bits beyond the last page; free
 * with g_free(). NULL where the size is not the block's, the end mark is missing, or the reader
 * failed. */
guint64 *ferry_postcopy_read_received(const FerryRam *ram, guint block, FerryStreamReader *reader,
				      GError **error);

/* REQ_PAGES_ID, or REQ_PAGES where *@last_block is the run's block already; keeps it. Begin a
 * connection with -1. @run: less than 4 GiB. */
void ferry_postcopy_put_request(GByteArray *out, const FerryRam *ram, const FerryRun *run,
				int *last_block);

void ferry_postcopy_put_resume_ack(GByteArray *out);
gboolean ferry_postcopy_get_resume_ack(const guint8 *data, size_t len, GError **error);
