/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <gio/gio.h>
#include <sys/socket.h>
#include "devices.h"
#include "messages.h"
#include "verbs.h"

/*
 * The connected queue pairs of one session, and what they hang on: one protection domain, one event
 * channel, one completion channel and one completion queue for all; but the last queue pair has a
 * completion queue of its own where it is the one for urgent pages. At a destination that reads,
 * sends complete in a third one, with a channel of its own, so that whoever reads and whoever
 * watches the link do not take each other's completions. link.c makes and frees it, connect.c and
 * accept.c connect it. One thread at a time, but for fail(), which any may call, and those that say
 * so.
 */
typedef struct {
	struct rdma_cm_id *id; /* its qp is the queue pair; NULL: none */
	gboolean established;
	guint reads; /* accepted side: RDMA reads that may be under way */
} FerryRdmaQueuePair;

typedef struct {
	struct ibv_cq *cq; /* NULL: none */
	guint unacked;     /* completion events not acked yet */
} FerryRdmaCompletions;

typedef struct {
	const FerryVerbs *verbs;
	struct rdma_event_channel *events; /* its fd does not block */
	struct ibv_context *context;       /* of all queue pairs; borrowed from their ids */
	struct ibv_pd *pd;
	struct ibv_comp_channel *completions; /* its fd does not block */
	FerryRdmaCompletions bulk, urgent;    /* both on @completions */
	struct ibv_comp_channel *fetches;     /* its fd does not block */
	FerryRdmaCompletions fetched;         /* on @fetches */
	guint n;
	FerryRdmaQueuePair queues[FERRY_RDMA_QUEUES_MAX];
	struct ibv_device_attr_ex device;
	struct ibv_port_attr port;

	GMutex lock;   /* guards @error */
	GError *error; /* why the link is dead: the first cause; NULL while it lives */
	int dead;      /* atomic; set behind @error */
} FerryRdmaLink;

/* What each queue pair is made for. */
typedef struct {
	guint sends;    /* work requests in the send queue of each */
	guint receives; /* in the receive queue */
	guint window;   /* of completions: entries of the completion queue for all together */
	guint urgent;   /* entries of the last queue pair's own completion queue; 0: it has none */
	guint fetches;  /* entries of the sends' own completion queue; 0: they have none */
} FerryRdmaDepths;

/* Empty; ferry_rdma_link_free() it. */
FerryRdmaLink *ferry_rdma_link_new(const FerryVerbs *verbs);

/* Disconnects without waiting, destroys everything in the order that verbs asks for (events acked
 * first); memory regions of the domain must be deregistered before. NULL is allowed. */
void ferry_rdma_link_free(FerryRdmaLink *link);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryRdmaLink, ferry_rdma_link_free)

/* The first error stays; takes @error over. Any thread. */
void ferry_rdma_link_fail(FerryRdmaLink *link, GError *error);
/* A copy of why it is dead; NULL while it lives. Any thread. */
GError *ferry_rdma_link_error(FerryRdmaLink *link);
static inline gboolean ferry_rdma_link_is_dead(FerryRdmaLink *link)
{
	return g_atomic_int_get(&link->dead);
}

/* Once the first id has a device: domain, completion channel and queue, attributes of device and
 * port. Idempotent; FERRY_ERROR_MISMATCH if @id is on another device than the first. */
gboolean ferry_rdma_link_set_up(FerryRdmaLink *link, struct rdma_cm_id *id,
				const FerryRdmaDepths *depths, GError **error);

/* Makes the queue pair of queues[@i].id. */
gboolean ferry_rdma_link_make_queue(FerryRdmaLink *link, guint i, const FerryRdmaDepths *depths,
				    GError **error);

/* Takes the CM and asynchronous events that are there, and fails the link by name for each that
 * means its end (DISCONNECTED, DEVICE_REMOVAL, ADDR_CHANGE, TIMEWAIT_EXIT..., IBV_EVENT_QP_FATAL,
 * PORT_ERR is noted only). For a link that is connected. Never blocks. */
void ferry_rdma_link_take_events(FerryRdmaLink *link);

/* Sleeps until one of the link's descriptors (CM events, completions, asynchronous events) or
 * @wake is readable, or @timeout_us passed. */
void ferry_rdma_link_wait(FerryRdmaLink *link, int wake, gint64 timeout_us);

/* Takes completion events and arms the queues again: poll them after that, then sleep. */
gboolean ferry_rdma_link_arm(FerryRdmaLink *link, GError **error);
/* The same for the queue of fetches; one thread at a time, beside that of the rest. */
gboolean ferry_rdma_link_arm_fetches(FerryRdmaLink *link, GError **error);

/* Where queue pair @i receives, and, unless sends have a queue of their own, sends. */
static inline struct ibv_cq *ferry_rdma_link_cq(const FerryRdmaLink *link, guint i)
{
	return link->urgent.cq && i == link->n - 1 ? link->urgent.cq : link->bulk.cq;
}

/* Moves every queue pair to the error state: when it returns, nothing of the peer can land. */
void ferry_rdma_link_stop(FerryRdmaLink *link);

/* "IBV_WC_RETRY_EXC_ERR", "RDMA_CM_EVENT_REJECTED", ...: what man pages and logs call it. */
const char *ferry_rdma_wc_name(enum ibv_wc_status status);
/* ": what it usually means, and where to look", or "". */
const char *ferry_rdma_wc_hint(enum ibv_wc_status status);
const char *ferry_rdma_cm_name(enum rdma_cm_event_type type);
const char *ferry_rdma_async_name(enum ibv_event_type type);

/* ---- connect.c: the source ---- */

typedef struct {
	const char *host; /* name, IPv4, IPv6 with %scope */
	guint16 port;
	const guint8 *nonce;
	guint queues;
	FerryRdmaDepths depths;
	guint reads; /* of the peer's, under way on each queue pair at a time; at least 1 */
	GCancellable *cancellable;
	int wake; /* eventfd: @link may have failed elsewhere, which ends connecting; -1: none */
	/* As soon as the first queue pair is connected: the peer then hears what is asked of it.
	 * NULL: none. */
	void (*on_first)(gpointer user);
	gpointer user;
} FerryRdmaPeer;

/* Before anything is offered: finds the first of the peer's addresses to which a local RDMA device
 * has a way (address and route resolved), so that @link knows device and port. Each step has a
 * deadline of 2 s. FERRY_ERROR_NOSUPP where no device serves any address. */
gboolean ferry_rdma_connect_resolve(FerryRdmaLink *link, const FerryRdmaPeer *peer, GError **error);

/* Makes and connects the @peer->queues queue pairs to the address that was found. Errors name the
 * CM event and its status: REJECTED, UNREACHABLE after 3 s, ... */
gboolean ferry_rdma_connect(FerryRdmaLink *link, const FerryRdmaPeer *peer, GError **error);

/* ---- accept.c: the destination ---- */

typedef struct FerryRdmaAcceptor FerryRdmaAcceptor;

/* Listens on every address of @host and on @port by rdma_cm. NULL with FERRY_ERROR_NOSUPP where no
 * device can: the error says what is missing. */
FerryRdmaAcceptor *ferry_rdma_acceptor_new(const FerryVerbs *verbs, const char *host, guint16 port,
					   GError **error);
void ferry_rdma_acceptor_free(FerryRdmaAcceptor *acceptor);

/* What the devices could do when the listening began: looking anew takes long on some hosts. The
 * acceptor's own. */
const FerryRdmaLimits *ferry_rdma_acceptor_limits(const FerryRdmaAcceptor *acceptor);

/* Takes connection requests until @queues of them carry @nonce and each queue number once, makes
 * their queue pairs, lets @prepare post what must be there before the peer can write (NULL
 * allowed), accepts, and waits until all are established: 5 s for all. Others are rejected. The
 * ids are moved to the link's own event channel (rdma_migrate_id(3)), so that the acceptor can
 * go on, or be freed. */
gboolean ferry_rdma_accept(FerryRdmaAcceptor *acceptor, FerryRdmaLink *link, const guint8 *nonce,
			   guint queues, const FerryRdmaDepths *depths,
			   gboolean (*prepare)(gpointer user, guint queue, GError **error),
			   gpointer user, GCancellable *cancellable, GError **error);
