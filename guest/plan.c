/* SPDX-License-Identifier: BSD-2-Clause */
#include "plan.h"

#include <string.h>

#define GIB (1ull << 30)

static gboolean parse_rate(const char *text, guint64 *rate, GError **error)
{
	if (!text) {
		*rate = 0;
		return TRUE;
	}
	if (g_ascii_string_to_unsigned(text, 10, 0, FERRY_PLAN_RATE_MAX, rate, NULL))
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
		    "workload: rate '%s' is not a number of MiB/s from 0 to %u", text,
		    FERRY_PLAN_RATE_MAX);
	return FALSE;
}

static gboolean parse_size(const char *text, guint64 *size, GError **error)
{
	static const char units[] = "KMGT";
	char *end = NULL;
	guint64 number = text && g_ascii_isdigit(*text) ? g_ascii_strtoull(text, &end, 10) : 0;
	guint shift = 0;

	if (end && *end) {
		const char *unit = strchr(units, g_ascii_toupper(*end));

		shift = unit ? 10 * (guint)(unit - units + 1) : 0;
		end += unit ? 1 : 0;
	}
	if (!end || *end || !number || number > G_MAXINT64 >> shift) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "workload: hot set size '%s' is not a size such as 64M",
			    text ? text : "");
		return FALSE;
	}
	*size = number << shift;
	return TRUE;
}

gboolean ferry_plan_parse_workload(FerryPlan *plan, const char *spec, GError **error)
{
	g_auto(GStrv) part = g_strsplit(spec && *spec ? spec : "idle", ":", -1);
	const char *name = part[0];
	const char *const *argument = (const char *const *)part + 1;
	gboolean hotset = g_str_equal(name, "hotset");
	FerryPlan result = *plan;

	result.hot = 0;
	if (g_str_equal(name, "idle"))
		result.order = FERRY_ORDER_NONE;
	else if (g_str_equal(name, "sweep"))
		result.order = FERRY_ORDER_SWEEP;
	else if (g_str_equal(name, "random") || hotset)
		result.order = FERRY_ORDER_RANDOM;
	else
		name = NULL;
	if (!name || g_strv_length(part) > (result.order ? 2u + hotset : 1u)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "workload '%s' is none of idle, sweep[:RATE], random[:RATE], "
			    "hotset:SIZE[:RATE] (RATE in MiB/s)",
			    spec);
		return FALSE;
	}
	if (hotset && !parse_size(*argument ? *argument++ : NULL, &result.hot, error))
		return FALSE;
	if (!parse_rate(*argument, &result.rate, error))
		return FALSE;
	*plan = result;
	return TRUE;
}

guint64 ferry_plan_work_address(guint64 ram_size)
{
	return FERRY_AT_PD + (ram_size + GIB - 1) / GIB * FERRY_PAGE_BYTES;
}

static guint64 share_pages(const FerryPlan *plan, guint64 ram_size)
{
	return (ram_size - ferry_plan_work_address(ram_size)) / FERRY_PAGE_BYTES / plan->vcpus;
}

gboolean ferry_plan_check(const FerryPlan *plan, guint64 ram_size, GError **error)
{
	const char *what = NULL;

	if (plan->vcpus < 1 || plan->vcpus > FERRY_VCPUS_MAX)
		what = "the number of vCPUs is not 1 to 8";
	else if (ram_size % FERRY_PAGE_BYTES || ram_size < 1u << 20 || ram_size > 512 * GIB)
		what = "the RAM size is not a multiple of 4096 from 1 MiB to 512 GiB";
	else if (plan->fill >= FERRY_FILL__N || plan->order >= FERRY_ORDER__N)
		what = "the fill or the order of pages has an unknown number";
	else if (plan->rate > FERRY_PLAN_RATE_MAX)
		what = "the rate is too high";
	else if (plan->hot / FERRY_PAGE_BYTES / plan->vcpus > share_pages(plan, ram_size))
		what = "the hot set is larger than the RAM";
	if (what)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
			    "guest: %s (RAM %" G_GUINT64_FORMAT " bytes, %u vCPUs, fill %u, order %u, "
			    "rate %" G_GUINT64_FORMAT " MiB/s, hot set %" G_GUINT64_FORMAT " bytes)",
			    what, ram_size, plan->vcpus, plan->fill, plan->order, plan->rate,
			    plan->hot);
	return !what;
}

FerrySlice ferry_plan_slice(const FerryPlan *plan, guint64 ram_size, guint vcpu)
{
	const guint64 share = share_pages(plan, ram_size);
	FerrySlice slice = { .seed = plan->seed, .fill = plan->fill, .order = plan->order };

	slice.first = ferry_plan_work_address(ram_size) + vcpu * share * FERRY_PAGE_BYTES;
	if (plan->order != FERRY_ORDER_NONE)
		slice.pages = plan->hot ? MAX(plan->hot / FERRY_PAGE_BYTES / plan->vcpus, 1) : share;
	return slice;
}
