/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "link.h"
#include "regions.h"

/* The parts of describe() that both ends have in common: each inserts its keys into @dict. */

/* "device", "port", "gid", "gid-type", "gid-index", "mtu" of @link (NULL: not connected yet) and
 * "queue-pairs" (without the urgent one), "postcopy" ("none", "push", "pull"), "chunk-size", "write-size", "pin-all", "on-demand", "relaxed-ordering",
 * "pin-limit" of @terms (NULL: nothing is agreed yet). Any thread that keeps @link alive, once it
 * is connected. */
void ferry_rdma_report_link(GVariantDict *dict, FerryRdmaLink *link, const FerryRdmaTerms *terms);

/* "registered-bytes", "registered-peak-bytes", "registered-total-bytes", "registration-us",
 * "registrations", "releases". NULL: no region yet, all are 0. */
void ferry_rdma_report_regions(GVariantDict *dict, FerryRdmaRegions *regions);
