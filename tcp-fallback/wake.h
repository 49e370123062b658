/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/*
 * An eventfd by which threads wake one that sleeps, and which costs a system call only when it does
 * sleep. The sleeper: begin(), look once more whether there is something to do, poll the
 * descriptor, end(). The waker: make something to do, signal(). What there is to do is stored and
 * loaded with __ATOMIC_SEQ_CST, as asleep is: then either the sleeper sees it, or the waker sees
 * the sleeper.
 */
typedef struct {
	int fd;      /* owned; -1: none */
	gint asleep; /* atomic */
} FerryWake;

/* FALSE with errno where there is no descriptor left. */
static inline gboolean ferry_wake_open(FerryWake *wake)
{
	*wake = (FerryWake){ .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	return wake->fd >= 0;
}

static inline void ferry_wake_close(FerryWake *wake)
{
	if (wake->fd >= 0)
		close(wake->fd);
	wake->fd = -1;
}

static inline void ferry_wake_begin(FerryWake *wake)
{
	__atomic_store_n(&wake->asleep, 1, __ATOMIC_SEQ_CST);
}

static inline void ferry_wake_end(FerryWake *wake)
{
	guint64 count;

	__atomic_store_n(&wake->asleep, 0, __ATOMIC_SEQ_CST);
	/* Nothing to read: it was woken by something else. */
	(void)!read(wake->fd, &count, sizeof(count));
}

/* Any thread. */
static inline void ferry_wake_signal(FerryWake *wake)
{
	const guint64 one = 1;

	if (__atomic_load_n(&wake->asleep, __ATOMIC_SEQ_CST) &&
	    __atomic_exchange_n(&wake->asleep, 0, __ATOMIC_SEQ_CST))
		/* It can only fail when it is readable already. */
		(void)!write(wake->fd, &one, sizeof(one));
}
