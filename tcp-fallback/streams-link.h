/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/error.h>
#include "wake.h"

/* What the threads of one carrier share: how they wake its owner, and why it is dead. */
typedef struct {
	FerryWake wake; /* of the engine's thread */
	GMutex lock;    /* guards error, and what the owner says */
	GError *error;  /* the first cause, until it is taken */
	gint dead;      /* atomic; set behind error */
} FerryStreamsLink;

/* Never fails; open() follows. */
void ferry_streams_link_init(FerryStreamsLink *link);
/* Idempotent. FERRY_ERROR_IO where there is no descriptor left. */
gboolean ferry_streams_link_open(FerryStreamsLink *link, GError **error);
void ferry_streams_link_clear(FerryStreamsLink *link);

/* Any thread. The first error stays; takes @error over. */
void ferry_streams_link_fail(FerryStreamsLink *link, GError *error);

/* NULL if it is not dead, or was taken before; the caller owns it. */
GError *ferry_streams_link_take_error(FerryStreamsLink *link);

/* Sets @error to a copy of the cause, which stays to be taken. Returns FALSE. */
gboolean ferry_streams_link_why(FerryStreamsLink *link, GError **error);

/* A thread of the carrier's; FERRY_ERROR_IO where the system has none left. */
GThread *ferry_streams_thread(const char *name, GThreadFunc func, gpointer user, GError **error);

static inline gboolean ferry_streams_link_is_dead(FerryStreamsLink *link)
{
	return __atomic_load_n(&link->dead, __ATOMIC_SEQ_CST);
}
