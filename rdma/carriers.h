/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/fabric.h>
#include "link.h"

/* The two ends of the RDMA page carrier. Neither is connected before share_ram(). */

/* source.c; @host is copied. */
FerryCarrier *ferry_rdma_source_new(const FerryVerbs *verbs, const char *host, guint16 port,
				    const FerryFabricSession *session);

/* destination.c; @acceptor is borrowed. NULL acceptor: this host has no RDMA for the address, for
 * the reason @why (copied), and the carrier refuses every offer with it. */
FerryCarrier *ferry_rdma_destination_new(const FerryVerbs *verbs, FerryRdmaAcceptor *acceptor,
					 const char *why, const FerryFabricSession *session);

/* transport.c: the fabric of a URI's host and port, over any table of verbs: tests bring theirs.
 * The destination's listens by rdma_cm as soon as it is made. */
FerryFabric *ferry_rdma_source_fabric_new(const FerryVerbs *verbs, const char *host, guint16 port);
FerryFabric *ferry_rdma_destination_fabric_new(const FerryVerbs *verbs, const char *host,
					       guint16 port);
