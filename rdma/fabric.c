/* SPDX-License-Identifier: BSD-2-Clause */
#include "carriers.h"
#include "transport.h"

typedef struct {
	FerryFabric base;
	const FerryVerbs *verbs;
	char *host; /* source */
	guint16 port;
	FerryRdmaAcceptor
		*acceptor; /* destination; NULL where there is no RDMA, for the reason @why */
	char *why;
} Fabric;

static FerryCarrier *source_open(FerryFabric *fabric, const FerryFabricSession *session)
{
	Fabric *f = (Fabric *)fabric;

	return ferry_rdma_source_new(f->verbs, f->host, f->port, session);
}

static FerryCarrier *destination_open(FerryFabric *fabric, const FerryFabricSession *session)
{
	Fabric *f = (Fabric *)fabric;

	return ferry_rdma_destination_new(f->verbs, f->acceptor, f->why, session);
}

static void fabric_close(FerryFabric *fabric)
{
	Fabric *f = (Fabric *)fabric;

	ferry_rdma_acceptor_free(f->acceptor);
	g_free(f->host);
	g_free(f->why);
	g_free(f);
}

#define FABRIC_OPS(side)                                                                           \
	.name = "rdma", .feature = FERRY_FEATURE_RDMA, .first_record = FERRY_RECORD_RDMA_OFFER,    \
	.last_record = FERRY_RECORD_RDMA_LAST, .open = side, .close = fabric_close

FerryFabric *ferry_rdma_source_fabric_new(const FerryVerbs *verbs, const char *host, guint16 port)
{
	static const FerryFabricOps ops = { FABRIC_OPS(source_open) };
	Fabric *f = g_new0(Fabric, 1);

	f->base.ops = &ops;
	f->verbs = verbs;
	f->host = g_strdup(host);
	f->port = port;
	return &f->base;
}

FerryFabric *ferry_rdma_destination_fabric_new(const FerryVerbs *verbs, const char *host,
					       guint16 port)
{
	static const FerryFabricOps ops = { FABRIC_OPS(destination_open) };
	Fabric *f = g_new0(Fabric, 1);
	g_autoptr(GError) error = NULL;

	f->base.ops = &ops;
	f->verbs = verbs;
	f->acceptor = ferry_rdma_acceptor_new(verbs, host, port, &error);
	if (!f->acceptor)
		f->why = g_strdup(error->message);
	return &f->base;
}

FerryFabric *ferry_rdma_fabric_to(const char *host, guint16 port)
{
	return ferry_rdma_source_fabric_new(&ferry_verbs, host, port);
}

FerryFabric *ferry_rdma_fabric_at(const char *host, guint16 port)
{
	return ferry_rdma_destination_fabric_new(&ferry_verbs, host, port);
}
