/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <ferry/ferry.h>

/*
 * The smallest guest that can be proved right, for tests inside one process: a memfd of RAM, one
 * thread that keeps writing random pages and counts what it wrote in a device, and a shadow of
 * every page's last value. Its run flag is where a test looks for two guests running, or none.
 */
typedef struct {
	FerryVm *vm;
	FerrySource *source;
	FerryDestination *destination;
	gint running;       /* atomic: between resume() and pause() */
	gint refuse_resume; /* atomic: resume() fails */
	gint refuse_load;   /* atomic: the device cannot be loaded */
	gint announced;     /* atomic: calls of announce() */
	gint throttled;     /* atomic: percent; by MiniGuestConfig.throttles */
	/* loading the device reads the word at this offset of RAM into @loaded; 0: it reads none */
	guint64 load_reads;
	guint64 loaded;
	/* private */
	guint8 *ram;
	guint64 size;
	int fd;
	GThread *thread;
	gint32 thread_id;
	gint stop;
	struct {
		guint64 counter; /* stores so far; travels as device state */
		guint64 seed;
	} state;
} MiniGuest;

typedef struct {
	guint64 ram_size;                        /* bytes; 0 for 16 MiB */
	const char *machine;                     /* NULL for "mini" */
	const char *block;                       /* NULL for "ram" */
	const FerryTransport *const *transports; /* NULL for ferry_transports() */
	gboolean write;                          /* the thread writes while it runs */
	gboolean throttles; /* it has the callbacks of auto-converge and dirty-limit */
	gboolean no_dirty_source;
	gboolean anonymous;    /* RAM is no memfd */
	gboolean private_file; /* nor is it, but a private mapping of one */
	const char *file;      /* RAM is this file, shared with whoever maps it too */
	guint64 guest_address; /* then: of it */
} MiniGuestConfig;

/* Prelaunch; start it with ferry_vm_start(), or make it a destination. Aborts on failure: a test
 * cannot go on. */
MiniGuest *mini_guest_new(const MiniGuestConfig *config);
void mini_guest_free(MiniGuest *guest);

/* Listens on @uri; returns the URI for the source. Free with g_free(). */
char *mini_guest_listen(MiniGuest *guest, const char *uri);

/* Whether RAM of two stopped guests is the same. */
gboolean mini_guest_same_ram(const MiniGuest *a, const MiniGuest *b);

/* Whether RAM of a guest is what its own stores made of RAM that was zero: it stands still, and
 * wrote (MiniGuestConfig.write) wherever it has been. */
gboolean mini_guest_is_right(const MiniGuest *guest);

/* How many of this process' guests ran at once, at most, since the last call. Two is the disaster
 * that the hand-over exists to prevent, so pairs are tested one at a time. */
gint mini_guest_most_running(void);

/* Waits until the predicate holds, at most @timeout_ms. */
gboolean mini_guest_await(gboolean (*holds)(gpointer user), gpointer user, guint timeout_ms);
