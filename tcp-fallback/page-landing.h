/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ram.h>
#include "fd-channel.h"

/*
 * How pages of a socket get into the destination's RAM. Where it is a memfd or tmpfs file they go
 * through the file, from the socket's buffers straight into the page cache (splice(2)): one copy,
 * no page fault, and no page cleared that is overwritten at once. Measured on loopback against
 * reading into the mapping, fresh memory: half of the CPU time; against write() from a buffer: 20 %
 * less. Short runs are not worth two system calls each: they take the buffer. Other memory is read
 * into through its mapping. The guest must not run.
 */
typedef struct {
	const FerryRam *ram;
	gint *by_file; /* for each block; atomic: a channel may find that its file takes none */
} FerryLanding;

void ferry_landing_init(FerryLanding *landing, const FerryRam *ram);
void ferry_landing_clear(FerryLanding *landing);

static inline gboolean ferry_landing_is_by_file(const FerryLanding *landing, guint block)
{
	return g_atomic_int_get(&landing->by_file[block]);
}

/* Bytes of memory that are already here. FERRY_ERROR_IO where the file has no room. Any thread. */
gboolean ferry_landing_write(FerryLanding *landing, guint block, guint64 offset,
			     const guint8 *bytes, size_t len, GError **error);

/* A pipe of a channel's own, between socket and file. */
typedef struct {
	int out, in; /* owned; -1: none */
} FerryLandingPipe;

/* FERRY_ERROR_IO where there is no descriptor left. */
gboolean ferry_landing_pipe_open(FerryLandingPipe *pipe, GError **error);
void ferry_landing_pipe_close(FerryLandingPipe *pipe);

/* Exactly @len bytes of the socket @from, in a block that is by file; *@got counts them also on
 * failure. The pipe's thread. */
gboolean ferry_landing_splice(FerryLanding *landing, FerryLandingPipe *pipe, FerryFdChannel *from,
			      guint block, guint64 offset, size_t len, guint64 *got,
			      GError **error);
