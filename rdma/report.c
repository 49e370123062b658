/* SPDX-License-Identifier: BSD-2-Clause */
#include "report.h"

#include "devices.h"

static void insert_u64(GVariantDict *dict, const char *key, guint64 value)
{
	g_variant_dict_insert(dict, key, "t", value);
}

static void report_gid(GVariantDict *dict, FerryRdmaLink *link)
{
	struct rdma_cm_id *id = link->queues[0].id;
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr = { 0 };
	struct ibv_gid_entry gid = { 0 };
	g_autofree char *text = NULL;

	/* Which of the port's GIDs the connection manager chose is known to the queue pair. */
	if (!id || !id->qp || link->verbs->query_qp(id->qp, &attr, IBV_QP_AV, &init) != 0 ||
	    link->verbs->query_gid_ex(link->context, id->port_num, attr.ah_attr.grh.sgid_index,
				      &gid, 0) != 0)
		return;
	text = ferry_rdma_gid_text(&gid.gid);
	g_variant_dict_insert(dict, "gid", "s", text);
	g_variant_dict_insert(dict, "gid-type", "s", ferry_rdma_gid_type_name(gid.gid_type));
	insert_u64(dict, "gid-index", gid.gid_index);
}

static void report_terms(GVariantDict *dict, const FerryRdmaTerms *terms)
{
	gboolean urgent = !!(terms->flags & FERRY_RDMA_POSTCOPY);

	insert_u64(dict, "queue-pairs", terms->queue_pairs - urgent);
	g_variant_dict_insert(dict, "postcopy", "s",
			      !urgent                          ? "none"
			      : terms->flags & FERRY_RDMA_PULL ? "pull"
							       : "push");
	insert_u64(dict, "chunk-size", terms->chunk_size);
	insert_u64(dict, "write-size", terms->write_size);
	insert_u64(dict, "pin-limit", terms->pin_limit);
	g_variant_dict_insert(dict, "pin-all", "b", !!(terms->flags & FERRY_RDMA_PIN_ALL));
	g_variant_dict_insert(dict, "on-demand", "b", !!(terms->flags & FERRY_RDMA_ON_DEMAND));
	g_variant_dict_insert(dict, "relaxed-ordering", "b",
			      !!(terms->flags & FERRY_RDMA_RELAXED_ORDERING));
}

void ferry_rdma_report_link(GVariantDict *dict, FerryRdmaLink *link, const FerryRdmaTerms *terms)
{
	if (terms)
		report_terms(dict, terms);
	if (!link || !link->context)
		return;
	g_variant_dict_insert(dict, "device", "s", link->context->device->name);
	insert_u64(dict, "port", link->queues[0].id ? link->queues[0].id->port_num : 0);
	insert_u64(dict, "mtu", ferry_rdma_mtu_bytes(link->port.active_mtu));
	report_gid(dict, link);
}

void ferry_rdma_report_regions(GVariantDict *dict, FerryRdmaRegions *regions)
{
	FerryRdmaRegionStats stats = { 0 };

	if (regions)
		ferry_rdma_regions_get_stats(regions, &stats);
	insert_u64(dict, "registered-bytes", stats.bytes);
	insert_u64(dict, "registered-peak-bytes", stats.peak_bytes);
	insert_u64(dict, "registered-total-bytes", stats.total_bytes);
	insert_u64(dict, "registration-us", (guint64)stats.time_us);
	insert_u64(dict, "registrations", stats.registrations);
	insert_u64(dict, "releases", stats.releases);
}
