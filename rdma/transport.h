/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/transport.h>

/* What transport.c has of the fabric: fabric.c, or without.c in a build without RDMA. Knows no
 * verbs. */

/* A source's, to the destination at @host and @port. Never NULL. */
FerryFabric *ferry_rdma_fabric_to(const char *host, guint16 port);

/* A destination's, which listens on @host ("": every address) and @port. Never NULL: where there
 * is no RDMA it refuses each offer with the reason. */
FerryFabric *ferry_rdma_fabric_at(const char *host, guint16 port);
