/* SPDX-License-Identifier: BSD-2-Clause */
#include "carriers.h"
#include "refuse.h"

FerryCarrier *ferry_rdma_source_new(const FerryVerbs *verbs, const char *host, guint16 port,
				    const FerryFabricSession *session)
{
	return ferry_rdma_refusing_carrier("no source yet", session);
}
