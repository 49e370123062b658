/* SPDX-License-Identifier: BSD-2-Clause */
#include <ferry/rdma.h>
#include "messages.h"
#include "refuse.h"
#include "transport.h"

/* A build without RDMA, in the place of all files that need verbs. */
#define WHY                                                                                        \
	"this build of Ferry has no RDMA: build it with libibverbs and librdmacm (meson "          \
	"-Drdma=enabled)"

static FerryCarrier *refusing_open(FerryFabric *fabric, const FerryFabricSession *session)
{
	return ferry_rdma_refusing_carrier(WHY, session);
}

static void refusing_close(FerryFabric *fabric)
{
	g_free(fabric);
}

static FerryFabric *refusing_new(void)
{
	static const FerryFabricOps ops = {
		.name = "rdma",
		.feature = FERRY_FEATURE_RDMA,
		.first_record = FERRY_RECORD_RDMA_OFFER,
		.last_record = FERRY_RECORD_RDMA_LAST,
		.open = refusing_open,
		.close = refusing_close,
	};
	FerryFabric *fabric = g_new0(FerryFabric, 1);

	fabric->ops = &ops;
	return fabric;
}

FerryFabric *ferry_rdma_fabric_to(const char *host, guint16 port)
{
	return refusing_new();
}

FerryFabric *ferry_rdma_fabric_at(const char *host, guint16 port)
{
	return refusing_new();
}

void ferry_rdma_warm_up(void)
{
}

GPtrArray *ferry_rdma_list_ports(char **why)
{
	if (why)
		*why = g_strdup(WHY);
	return g_ptr_array_new();
}
