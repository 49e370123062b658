/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench-link.h"

#include <ferry/error.h>

/* link.h in a build without RDMA. */

static void none(GError **error)
{
	g_set_error_literal(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
			    "this build has no RDMA: install libibverbs-dev and librdmacm-dev, and "
			    "build again with -Drdma=enabled");
}

void ferry_bench_link_report_free(FerryBenchLinkReport *report)
{
}

char *ferry_bench_link_own_uri(GError **error)
{
	none(error);
	return NULL;
}

void ferry_bench_link_listen(const char *uri, guint64 ram_max, void (*ready)(const char *uri),
			     GError **error)
{
	none(error);
}

FerryBenchLinkReport *ferry_bench_link_measure(const char *uri, const FerryBenchLinkPlan *plan,
					       void (*tell)(const char *line), GError **error)
{
	none(error);
	return NULL;
}

char *ferry_bench_link_report_text(const FerryBenchLinkReport *report)
{
	return NULL;
}

JsonNode *ferry_bench_link_report_json(const FerryBenchLinkReport *report)
{
	return NULL;
}
