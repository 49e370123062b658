/* SPDX-License-Identifier: BSD-2-Clause */
#include "fake-private.h"

#include <string.h>

/* What the tests do to the fake device, and ask it. */

FakeConfig *fake_config(FakeNic *nic)
{
	return &nic->config;
}

void fake_no_device(FakeNic *nic, FakeSide side)
{
	nic->devices[side].absent = TRUE;
}

static void add_fault(FakeNic *nic, FakeSide side, FakeFault fault)
{
	FakeDevice *device = &nic->devices[side];

	g_mutex_lock(&nic->lock);
	fault.nth += device->calls[fault.verb];
	g_array_append_val(device->faults, fault);
	g_mutex_unlock(&nic->lock);
}

void fake_fail(FakeNic *nic, FakeSide side, FakeVerb verb, guint nth, int error)
{
	add_fault(nic, side, (FakeFault){ .verb = verb, .nth = nth, .error = error });
}

void fake_at(FakeNic *nic, FakeSide side, FakeVerb verb, guint nth, void (*hook)(gpointer user),
	     gpointer user)
{
	add_fault(nic, side, (FakeFault){ .verb = verb, .nth = nth, .hook = hook, .user = user });
}

gboolean fake_happened(FakeNic *nic, FakeSide side, FakeVerb verb)
{
	GArray *faults = nic->devices[side].faults;
	gboolean happened = FALSE;

	g_mutex_lock(&nic->lock);
	for (guint i = 0; i < faults->len; i++) {
		FakeFault *fault = &g_array_index(faults, FakeFault, i);

		happened |= fault->verb == verb && fault->happened;
	}
	g_mutex_unlock(&nic->lock);
	return happened;
}

void fake_fail_work(FakeNic *nic, FakeSide side, guint nth, enum ibv_wc_status status)
{
	g_mutex_lock(&nic->lock);
	nic->devices[side].work_n = nic->devices[side].work + nth;
	nic->devices[side].work_status = status;
	g_mutex_unlock(&nic->lock);
}

gboolean fake_cm_event(FakeNic *nic, FakeSide side, guint nth, enum rdma_cm_event_type type,
		       int status)
{
	gboolean found = FALSE;

	g_mutex_lock(&nic->lock);
	for (guint i = 0; i < nic->ids->len && !found; i++) {
		FakeId *id = nic->ids->pdata[i];

		if (id->device->side != side || id->listening != (nth == FAKE_LISTENER) ||
		    (nth != FAKE_LISTENER && nth--))
			continue;
		fake_push_event(id, id, type, status, NULL, 0);
		nic->fault_us = g_get_monotonic_time();
		found = TRUE;
	}
	g_mutex_unlock(&nic->lock);
	return found;
}

static void refuse(FakeNic *nic, FakeRefusal *refusal, enum rdma_cm_event_type type, int status)
{
	g_mutex_lock(&nic->lock);
	*refusal = (FakeRefusal){ type, status, TRUE };
	g_mutex_unlock(&nic->lock);
}

void fake_refuse_connect(FakeNic *nic, enum rdma_cm_event_type type, int status)
{
	refuse(nic, &nic->connect, type, status);
}

void fake_refuse_resolve(FakeNic *nic, enum rdma_cm_event_type type, int status)
{
	refuse(nic, &nic->resolve, type, status);
}

void fake_async_event(FakeNic *nic, FakeSide side, enum ibv_event_type type)
{
	FakeDevice *device = &nic->devices[side];
	FakeQp *first = NULL;

	g_mutex_lock(&nic->lock);
	for (guint i = 0; i < nic->qps->len && !first; i++) {
		FakeQp *qp = nic->qps->pdata[i];

		if (qp->device == device)
			first = qp;
	}
	fake_async(device, type, first);
	nic->fault_us = g_get_monotonic_time();
	g_mutex_unlock(&nic->lock);
}

void fake_kill(FakeNic *nic, FakeSide side)
{
	g_mutex_lock(&nic->lock);
	for (guint i = 0; i < nic->ids->len; i++) {
		FakeId *id = nic->ids->pdata[i];

		if (id->device->side == side && !id->listening)
			fake_leave(id);
	}
	nic->fault_us = g_get_monotonic_time();
	g_cond_signal(&nic->work);
	g_mutex_unlock(&nic->lock);
}

void fake_cut(FakeNic *nic)
{
	g_mutex_lock(&nic->lock);
	nic->cut = TRUE;
	nic->fault_us = g_get_monotonic_time();
	g_cond_signal(&nic->work);
	g_mutex_unlock(&nic->lock);
}

gint64 fake_fault_time(FakeNic *nic)
{
	gint64 at;

	g_mutex_lock(&nic->lock);
	at = nic->fault_us;
	g_mutex_unlock(&nic->lock);
	return at;
}

void fake_heal(FakeNic *nic)
{
	g_mutex_lock(&nic->lock);
	for (guint side = 0; side < FAKE_SIDES; side++) {
		g_array_set_size(nic->devices[side].faults, 0);
		nic->devices[side].work_n = 0;
	}
	nic->connect.set = nic->resolve.set = nic->cut = FALSE;
	nic->fault_us = 0;
	g_mutex_unlock(&nic->lock);
}

FakeCounts fake_counts(FakeNic *nic, FakeSide side)
{
	FakeCounts counts;

	g_mutex_lock(&nic->lock);
	counts = nic->devices[side].counts;
	g_mutex_unlock(&nic->lock);
	return counts;
}

guint fake_calls(FakeNic *nic, FakeSide side, FakeVerb verb)
{
	guint calls;

	g_mutex_lock(&nic->lock);
	calls = nic->devices[side].calls[verb];
	g_mutex_unlock(&nic->lock);
	return calls;
}

guint64 fake_registered_peak(FakeNic *nic, FakeSide side)
{
	guint64 peak;

	g_mutex_lock(&nic->lock);
	peak = nic->devices[side].registered_peak;
	g_mutex_unlock(&nic->lock);
	return peak;
}

void fake_written(FakeNic *nic, guint64 *writes, guint64 *bytes, guint64 *fences)
{
	g_mutex_lock(&nic->lock);
	*writes = nic->writes;
	*bytes = nic->bytes;
	*fences = nic->fences;
	g_mutex_unlock(&nic->lock);
}

void fake_read(FakeNic *nic, guint64 *reads, guint64 *bytes)
{
	g_mutex_lock(&nic->lock);
	*reads = nic->reads;
	*bytes = nic->bytes_read;
	g_mutex_unlock(&nic->lock);
}

guint fake_not_ready(FakeNic *nic)
{
	guint n;

	g_mutex_lock(&nic->lock);
	n = nic->not_ready;
	g_mutex_unlock(&nic->lock);
	return n;
}

static void check_counts(FakeNic *nic, GString *out, FakeSide side)
{
	const FakeCounts *c = &nic->devices[side].counts;
	const struct {
		const char *what;
		guint n;
	} rows[] = { { "event channels", c->channels },
		     { "ids", c->ids },
		     { "queue pairs", c->qps },
		     { "completion queues", c->cqs },
		     { "protection domains", c->pds },
		     { "memory regions", c->mrs },
		     { "completion channels", c->comp_channels },
		     { "events not acked", c->unacked },
		     { "device lists", c->device_lists } };

	for (guint i = 0; i < G_N_ELEMENTS(rows); i++)
		if (rows[i].n)
			g_string_append_printf(out, "%s: %u %s left\n",
					       side == FAKE_SOURCE ? "source" : "destination",
					       rows[i].n, rows[i].what);
}

char *fake_nic_check(FakeNic *nic)
{
	GString *out = g_string_new(NULL);

	g_mutex_lock(&nic->lock);
	g_string_append(out, nic->problems->str);
	check_counts(nic, out, FAKE_SOURCE);
	check_counts(nic, out, FAKE_DESTINATION);
	if (nic->unacked_asyncs)
		g_string_append_printf(out, "%u asynchronous events not acked\n",
				       nic->unacked_asyncs);
	g_mutex_unlock(&nic->lock);
	return g_string_free(out, out->len == 0);
}
