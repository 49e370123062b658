/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ram.h>
#include "fd-channel.h"

/*
 * How pages of a socket get into the destination's RAM. Where it is a memfd or tmpfs file they go
 * through the file, from the socket's buffers straight into the page cache (splice(2)): one copy,
 * no page fault, and no page cleared that is overwritten at once. Measured on loopback against
 * reading into the mapping, fresh memory: half of the CPU time; against write() from a buffer: 20 %
 * less. Short runs are not worth two system calls each: they take the buffer. But the file's lock
 * lets one writer in at a time: a channel that finds another one there goes through the mapping, as
 * for other memory. With two channels on fresh memory that gives 1.5 times the throughput of all by
 * the file, and more than all by the mapping. The guest must not run.
 */
typedef struct {
	const FerryRam *ram;
	gint *by_file; /* for each block; atomic: a channel may find that its file takes none */
	gint *writers; /* for each block, 0 or 1; atomic */
} FerryLanding;

void ferry_landing_init(FerryLanding *landing, const FerryRam *ram);
void ferry_landing_clear(FerryLanding *landing);

/* Whether pages go by the block's file at all. Any thread. */
static inline gboolean ferry_landing_is_by_file(const FerryLanding *landing, guint block)
{
	return g_atomic_int_get(&landing->by_file[block]);
}

/* TRUE: pages go by the block's file, until leave; FALSE: by its mapping. Any thread. */
gboolean ferry_landing_enter_file(FerryLanding *landing, guint block);
void ferry_landing_leave_file(FerryLanding *landing, guint block);

/* Bytes of memory that are already here; through the mapping where the file takes none.
 * FERRY_ERROR_IO where the file has no room. Any thread. */
gboolean ferry_landing_write(FerryLanding *landing, guint block, guint64 offset,
			     const guint8 *bytes, size_t len, GError **error);

/* A pipe of a channel's own, between socket and file. */
typedef struct {
	int out, in; /* owned; -1: none */
} FerryLandingPipe;

/* FERRY_ERROR_IO where there is no descriptor left. */
gboolean ferry_landing_pipe_open(FerryLandingPipe *pipe, GError **error);
void ferry_landing_pipe_close(FerryLandingPipe *pipe);

/* Exactly @len bytes of the socket @from, in a file that was entered; *@got counts them also on
 * failure. The pipe's thread. */
gboolean ferry_landing_splice(FerryLanding *landing, FerryLandingPipe *pipe, FerryFdChannel *from,
			      guint block, guint64 offset, size_t len, guint64 *got,
			      GError **error);
