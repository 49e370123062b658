/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/carrier.h>
#include "multifd.h"

/* What all channels of a source have in common. */
typedef struct {
	FerryMultifdTerms terms;
	int level; /* of the compression */
	gboolean zero_copy;
	guint64 number;      /* of the next packet; atomic */
	guint64 copied;      /* zero copy sends that the kernel copied; atomic */
	gint zero_copy_ends; /* channels that send with copying after all; atomic */
} FerryMultifdOutgoing;

/* A carrier that puts pages on @channel, a socket, in packets. Both are borrowed. FERRY_ERROR_IO:
 * no memory; FERRY_ERROR_NOSUPP: no zero copies. One thread. */
FerryCarrier *ferry_multifd_packets_new(FerryChannel *channel, FerryMultifdOutgoing *outgoing,
					GError **error);
