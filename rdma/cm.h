/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <gio/gio.h>
#include <ferry/error.h>
#include "verbs.h"

/* What connecting, accepting and watching have in common: the connection manager's events. */

#define FERRY_RDMA_PRIVATE_MAX 56u /* what fits a request; rdma_connect(3) */

/* An event, copied and acknowledged: nothing of the library's is held. */
typedef struct {
	struct rdma_cm_id *id;
	enum rdma_cm_event_type type;
	int status; /* a negative errno, or the reason of a rejection */
	guint8 responder_resources;
	guint8 initiator_depth;
	guint8 private_len;
	guint8 private_data[FERRY_RDMA_PRIVATE_MAX];
} FerryRdmaEvent;

/* A channel whose descriptor does not block. */
struct rdma_event_channel *ferry_rdma_events_new(const FerryVerbs *verbs, GError **error);

/* Takes the next event that is there: 1, 0 where there is none, -1 with @error. */
int ferry_rdma_events_next(const FerryVerbs *verbs, struct rdma_event_channel *channel,
			   FerryRdmaEvent *event, GError **error);

/* Sleeps until one of @n descriptors (at most 4) is readable: 1; @deadline (monotonic): 0;
 * @cancellable: -1 with FERRY_ERROR_CANCELLED. */
int ferry_rdma_await(const int *fds, guint n, gint64 deadline, GCancellable *cancellable,
		     GError **error);

/* "QUEUE PAIR n, ADDRESS: RDMA_CM_EVENT_..., why: what to look at". Always FALSE. */
gboolean ferry_rdma_event_failed(GError **error, const FerryRdmaEvent *event, guint queue);

/* "192.0.2.1:4444", "[2001:db8::1]:4444"; caller frees. */
char *ferry_rdma_address_text(const struct sockaddr *address);

/* The addresses of @host (a name, IPv4, IPv6 with %scope; "" is any address of this host), with
 * @port: an array of struct sockaddr_storage. A name is looked up until @cancellable. */
GArray *ferry_rdma_addresses(const char *host, guint16 port, GCancellable *cancellable,
			     GError **error);
