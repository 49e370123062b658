/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/fabric.h>
#include "heartbeat.h"

/*
 * The carrier beside the channel of one session, as both sides use it: its records go through the
 * heartbeat's queue, and its death is told on a thread that holds none of its locks.
 */
typedef struct FerryFabricLink FerryFabricLink;

/* The carrier died for @reason (the callee's). On a thread of the link's own, at most once. */
typedef void (*FerryFabricDeath)(gpointer user, GError *reason);

/* Opens a carrier of @fabric; not connected yet. All is borrowed until free() but @session, which
 * is copied; what it says of say, died and user is the link's. */
FerryFabricLink *ferry_fabric_link_open(FerryFabric *fabric, const FerryFabricSession *session,
					FerryHeartbeat *heartbeat, FerryFabricDeath on_death,
					gpointer user);

/* Closes the carrier, which may take long. NULL is allowed. */
void ferry_fabric_link_free(FerryFabricLink *link);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryFabricLink, ferry_fabric_link_free)

/* The link's own. */
FerryCarrier *ferry_fabric_link_carrier(FerryFabricLink *link);

/* Why the carrier died, a copy; NULL if it lives, or somebody else took its error. Any thread. */
GError *ferry_fabric_link_reason(FerryFabricLink *link);

/* The pages will go by this carrier: a death is told from now on, also one that was before. */
void ferry_fabric_link_rely(FerryFabricLink *link);

/* All pages are there: a death is told no more. */
void ferry_fabric_link_ignore_death(FerryFabricLink *link);

/* The same, and nothing is said any more: the heartbeat may be closed. NULL is allowed. */
void ferry_fabric_link_detach(FerryFabricLink *link);
