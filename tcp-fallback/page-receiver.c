/* SPDX-License-Identifier: BSD-2-Clause */
#include "page-receiver.h"

#include "fd-channel.h"

void ferry_page_gate_fail(FerryPageGate *gate, GError *error)
{
	gboolean tell;

	ferry_streams_link_fail(&gate->link, error);
	g_mutex_lock(&gate->link.lock);
	/* Not by the first failure, where no page had come then, but by one after. */
	tell = !gate->stopping && !gate->told && g_atomic_int_get(&gate->used);
	gate->told |= tell;
	g_cond_broadcast(&gate->changed);
	g_mutex_unlock(&gate->link.lock);
	if (tell)
		gate->died(gate->user);
}

/* What some stream is filling; pages 0: none is. With the lock held. */
static FerryRun find_filling(const FerryPageGate *gate)
{
	for (guint i = 0; i < G_N_ELEMENTS(gate->filling); i++)
		if (gate->filling[i].pages)
			return gate->filling[i];
	return (FerryRun){ 0 };
}

gboolean ferry_page_gate_begin_postcopy(FerryPageGate *gate, const FerryRam *ram,
					const FerryArrivals *arrivals, GError **error)
{
	gboolean dead;
	FerryRun run;

	g_mutex_lock(&gate->link.lock);
	dead = ferry_streams_link_is_dead(&gate->link);
	run = find_filling(gate);
	if (!dead && !run.pages) {
		gate->place = (FerryPagePlace){ ram, *arrivals };
		/* From here on a death is always told. */
		g_atomic_int_set(&gate->used, 1);
	}
	g_mutex_unlock(&gate->link.lock);
	if (dead)
		return ferry_streams_link_why(&gate->link, error);
	if (run.pages)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "parallel streams: page %" G_GUINT64_FORMAT
			    " of block '%s' came behind the last fence and before the switch",
			    run.first, ram->blocks[run.block].name);
	return !run.pages;
}

/* FALSE: the gate was shut meanwhile. */
gboolean ferry_page_receiver_stand(FerryPageReceiver *r, guint32 fence)
{
	FerryPageGate *gate = r->gate;
	gboolean ok;

	g_mutex_lock(&gate->link.lock);
	r->fence = fence;
	ferry_wake_signal(&gate->link.wake);
	while (gate->released != fence && !gate->stopping && !gate->link.dead)
		g_cond_wait(&gate->changed, &gate->link.lock);
	ok = gate->released == fence;
	r->fence = 0;
	g_mutex_unlock(&gate->link.lock);
	r->passed = fence;
	return ok;
}

static gpointer receiver_thread(gpointer data)
{
	FerryPageReceiver *r = data;
	GError *error = NULL;

	while (r->receive(r, &error))
		continue;
	/* None: the gate was shut while it stood at a fence. */
	if (!error)
		return NULL;
	g_prefix_error(&error, "%s, %s: ", r->name, ((FerryFdChannel *)r->channel)->peer);
	ferry_page_gate_fail(r->gate, error);
	return NULL;
}

gboolean ferry_page_receiver_start(FerryPageReceiver *r, FerryChannel *channel, guint index,
				   FerryPageGate *gate, GError **error)
{
	r->channel = channel;
	r->gate = gate;
	r->index = index;
	r->thread = ferry_streams_thread("ferry-stream", receiver_thread, r, error);
	return r->thread != NULL;
}

void ferry_page_receiver_stop(FerryPageReceiver *r)
{
	ferry_channel_shutdown(r->channel);
	if (r->thread)
		g_thread_join(r->thread);
	r->thread = NULL;
}

void ferry_page_receiver_free(FerryPageReceiver *r)
{
	if (!r)
		return;
	ferry_channel_close(r->channel);
	g_free(r->name);
	r->free(r);
}

guint64 ferry_page_receiver_bytes(FerryPageReceiver *r)
{
	return __atomic_load_n(&r->bytes, __ATOMIC_RELAXED);
}

guint64 ferry_page_receiver_pages(FerryPageReceiver *r)
{
	return __atomic_load_n(&r->pages, __ATOMIC_RELAXED);
}
