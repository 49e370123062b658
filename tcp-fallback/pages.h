/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/carrier.h>
#include "zero.h"

/* The bytes of a PAGES or ZERO_PAGES record: be32 block, be64 first, be64 pages. */
#define FERRY_PAGES_PAYLOAD 20u

/* The bytes of such a record. Only a run that lies inside @ram leaves this function. */
gboolean ferry_pages_get_run(const FerryRam *ram, const guint8 *payload, size_t len, FerryRun *run,
			     GError **error);

/* The receive op: checks the record against @ram, then fills the run. @ram is NULL before
 * share_ram(). */
gboolean ferry_pages_receive(const FerryRam *ram, const FerryZeroer *zeroer, guint16 type,
			     const guint8 *payload, size_t len, FerryReadExactly read,
			     gpointer user, FerryRun *run, gboolean *zero, GError **error);
