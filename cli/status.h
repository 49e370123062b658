/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <json-glib/json-glib.h>

/* What a monitor said of its guest and its migration; borrowed. */
typedef struct {
	JsonNode *guest;     /* query-status */
	JsonNode *migration; /* query-migrate */
	JsonNode *rdma;      /* query-rdma; NULL where there is none */
} FerryCliStatus;

/* The same in Prometheus' text exposition format, version 0.0.4; docs/observability.md lists the
 * metrics. Free with g_string_free(). */
GString *ferry_cli_status_prometheus(const FerryCliStatus *status);
