/* SPDX-License-Identifier: BSD-2-Clause */
#include "watchdog.h"

struct FerryWatchdog {
	FerryChannel *channel;
	GThread *thread;
	gint64 deadline;
	gint calm; /* atomic, so that the common case of calm() takes no lock */
	GMutex lock;
	GCond changed;
};

static gpointer watch(gpointer data)
{
	FerryWatchdog *watchdog = data;
	gboolean late = FALSE;

	g_mutex_lock(&watchdog->lock);
	while (!g_atomic_int_get(&watchdog->calm) && !late)
		late = !g_cond_wait_until(&watchdog->changed, &watchdog->lock, watchdog->deadline);
	if (!g_atomic_int_get(&watchdog->calm))
		ferry_channel_shutdown(watchdog->channel);
	g_mutex_unlock(&watchdog->lock);
	return NULL;
}

FerryWatchdog *ferry_watchdog_start(FerryChannel *channel, gint64 timeout_us)
{
	FerryWatchdog *watchdog = g_new0(FerryWatchdog, 1);

	watchdog->channel = channel;
	watchdog->deadline = g_get_monotonic_time() + timeout_us;
	g_mutex_init(&watchdog->lock);
	g_cond_init(&watchdog->changed);
	watchdog->thread = g_thread_new("ferry-watchdog", watch, watchdog);
	return watchdog;
}

void ferry_watchdog_calm(FerryWatchdog *watchdog)
{
	if (!watchdog || g_atomic_int_get(&watchdog->calm))
		return;
	g_mutex_lock(&watchdog->lock);
	g_atomic_int_set(&watchdog->calm, 1);
	g_cond_broadcast(&watchdog->changed);
	g_mutex_unlock(&watchdog->lock);
}

void ferry_watchdog_free(FerryWatchdog *watchdog)
{
	if (!watchdog)
		return;
	ferry_watchdog_calm(watchdog);
	g_thread_join(watchdog->thread);
	g_cond_clear(&watchdog->changed);
	g_mutex_clear(&watchdog->lock);
	g_free(watchdog);
}
