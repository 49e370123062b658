/* SPDX-License-Identifier: BSD-2-Clause */
#include "fabric-link.h"

struct FerryFabricLink {
	FerryFabricSession session; /* the carrier borrows it */
	FerryCarrier *carrier;
	FerryFabricDeath on_death;
	gpointer user;

	GMutex reason_lock; /* guards @reason; held across take_error() */
	GError *reason;

	GMutex lock;               /* guards the rest; the carrier is never called under it */
	FerryHeartbeat *heartbeat; /* NULL: detached */
	gboolean relied_on;
	gboolean dead;
	gboolean ignore_death;
	GThread *mourner; /* tells the death */
};

static gboolean say(gpointer user, guint16 type, const guint8 *payload, size_t len)
{
	FerryFabricLink *link = user;
	gboolean said;

	g_mutex_lock(&link->lock);
	said = link->heartbeat && ferry_heartbeat_say(link->heartbeat, type, payload, len);
	g_mutex_unlock(&link->lock);
	return said;
}

static gpointer mourn(gpointer data)
{
	FerryFabricLink *link = data;
	GError *reason = ferry_fabric_link_reason(link);

	if (!reason)
		reason = g_error_new(FERRY_ERROR, FERRY_ERROR_LINK, "the page carrier died");
	link->on_death(link->user, reason);
	return NULL;
}

/* With the lock held. The carrier may hold locks that take_error() wants: hence another thread. */
static void tell_death(FerryFabricLink *link)
{
	if (link->dead && link->relied_on && !link->ignore_death && !link->mourner)
		link->mourner = g_thread_new("ferry-mourner", mourn, link);
}

static void died(gpointer user)
{
	FerryFabricLink *link = user;

	g_mutex_lock(&link->lock);
	link->dead = TRUE;
	tell_death(link);
	g_mutex_unlock(&link->lock);
}

void ferry_fabric_link_rely(FerryFabricLink *link)
{
	g_mutex_lock(&link->lock);
	link->relied_on = TRUE;
	tell_death(link);
	g_mutex_unlock(&link->lock);
}

FerryFabricLink *ferry_fabric_link_open(FerryFabric *fabric, const FerryFabricSession *session,
					FerryHeartbeat *heartbeat, FerryFabricDeath on_death,
					gpointer user)
{
	FerryFabricLink *link = g_new0(FerryFabricLink, 1);

	g_mutex_init(&link->lock);
	g_mutex_init(&link->reason_lock);
	link->heartbeat = heartbeat;
	link->on_death = on_death;
	link->user = user;
	link->session = *session;
	link->session.say = say;
	link->session.died = died;
	link->session.user = link;
	if (session->cancellable)
		g_object_ref(session->cancellable);
	link->carrier = fabric->ops->open(fabric, &link->session);
	return link;
}

void ferry_fabric_link_free(FerryFabricLink *link)
{
	if (!link)
		return;
	ferry_fabric_link_detach(link);
	ferry_carrier_close(link->carrier);
	g_clear_object(&link->session.cancellable);
	g_clear_error(&link->reason);
	g_mutex_clear(&link->reason_lock);
	g_mutex_clear(&link->lock);
	g_free(link);
}

FerryCarrier *ferry_fabric_link_carrier(FerryFabricLink *link)
{
	return link->carrier;
}

GError *ferry_fabric_link_reason(FerryFabricLink *link)
{
	GError *reason;

	g_mutex_lock(&link->reason_lock);
	if (!link->reason)
		link->reason = link->carrier->ops->take_error(link->carrier);
	reason = link->reason ? g_error_copy(link->reason) : NULL;
	g_mutex_unlock(&link->reason_lock);
	return reason;
}

void ferry_fabric_link_ignore_death(FerryFabricLink *link)
{
	GThread *mourner;

	g_mutex_lock(&link->lock);
	link->ignore_death = TRUE;
	mourner = g_steal_pointer(&link->mourner);
	g_mutex_unlock(&link->lock);
	if (mourner)
		g_thread_join(mourner);
}

void ferry_fabric_link_detach(FerryFabricLink *link)
{
	if (!link)
		return;
	ferry_fabric_link_ignore_death(link);
	g_mutex_lock(&link->lock);
	link->heartbeat = NULL;
	g_mutex_unlock(&link->lock);
}
