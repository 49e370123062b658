/* SPDX-License-Identifier: BSD-2-Clause */
#include "announcer.h"

#include "vm-private.h"

struct FerryAnnouncer {
	FerryVm *vm;
	GMutex lock;     /* guards the rest */
	GCond changed;   /* of @times and @end */
	GThread *thread; /* of the last start; joined by the next that needs one, or by free */
	gboolean runs;   /* it will look at @times again */
	gboolean end;
	FerryAnnouncement times;
	guint64 made; /* announcements of @times so far */
	gint64 due_us;
};

FerryAnnouncer *ferry_announcer_new(FerryVm *vm)
{
	FerryAnnouncer *announcer = g_new0(FerryAnnouncer, 1);

	announcer->vm = vm;
	g_mutex_init(&announcer->lock);
	g_cond_init(&announcer->changed);
	return announcer;
}

void ferry_announcer_free(FerryAnnouncer *announcer)
{
	if (!announcer)
		return;
	g_mutex_lock(&announcer->lock);
	announcer->end = TRUE;
	g_cond_broadcast(&announcer->changed);
	g_mutex_unlock(&announcer->lock);
	if (announcer->thread)
		g_thread_join(announcer->thread);
	g_cond_clear(&announcer->changed);
	g_mutex_clear(&announcer->lock);
	g_free(announcer);
}

guint64 ferry_announcer_wait(const FerryAnnouncement *times, guint64 n)
{
	return MIN(times->initial + (n - 1) * times->step, times->max);
}

/* The lock is held, but not across the callback. FALSE: the guest is not here any more. */
static gboolean announce(FerryAnnouncer *announcer)
{
	gboolean here;

	announcer->made++;
	announcer->due_us = g_get_monotonic_time() +
			    (gint64)ferry_announcer_wait(&announcer->times, announcer->made) *
				    G_TIME_SPAN_MILLISECOND;
	g_mutex_unlock(&announcer->lock);
	here = ferry_vm_announce(announcer->vm);
	g_mutex_lock(&announcer->lock);
	/* One that was started meanwhile has a guest of its own. */
	return here || !announcer->made;
}

static gpointer announce_thread(gpointer data)
{
	FerryAnnouncer *announcer = data;
	gboolean here = TRUE;

	g_mutex_lock(&announcer->lock);
	while (here && !announcer->end && announcer->made < announcer->times.rounds) {
		if (g_get_monotonic_time() < announcer->due_us)
			g_cond_wait_until(&announcer->changed, &announcer->lock, announcer->due_us);
		else
			here = announce(announcer);
	}
	announcer->runs = FALSE;
	g_mutex_unlock(&announcer->lock);
	return NULL;
}

void ferry_announcer_start(FerryAnnouncer *announcer, const FerryAnnouncement *times)
{
	g_mutex_lock(&announcer->lock);
	announcer->times = *times;
	announcer->made = 0;
	announcer->due_us = g_get_monotonic_time();
	g_cond_broadcast(&announcer->changed);
	if (!announcer->runs) {
		/* It has let go of the lock for the last time. */
		if (announcer->thread)
			g_thread_join(announcer->thread);
		announcer->runs = TRUE;
		announcer->thread = g_thread_new("ferry-announce", announce_thread, announcer);
	}
	g_mutex_unlock(&announcer->lock);
}
