/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/error.h>
#include <sys/uio.h>

/*
 * Sends from memory without copying it (MSG_ZEROCOPY), and follows which sends the kernel is done
 * with: until then it may read the memory, again and again. A kernel that copies all the same (it
 * always does where the peer is on this host) only costs more: after some such sends it is asked no
 * more. One thread.
 */
typedef struct {
	int fd; /* borrowed */
	gboolean on;
	guint32 sent, done; /* sends; they wrap */
	gboolean starved;   /* the last found no room, until one of those before is done */
	guint64 copied;     /* sends that the kernel copied; loaded by any thread: relaxed */
} FerryZeroCopy;

/* FERRY_ERROR_NOSUPP where the system has no such sends. */
gboolean ferry_zero_copy_open(FerryZeroCopy *z, int fd, GError **error);

/* As sendmsg(2) without blocking; copies where zero copies are off, or have no room. -1 with EAGAIN
 * also where the kernel may have no more under way. */
gssize ferry_zero_copy_send(FerryZeroCopy *z, const struct iovec *iov, size_t n);

/* Takes what the kernel said. TRUE: it is done with all. */
gboolean ferry_zero_copy_reap(FerryZeroCopy *z);
