/* SPDX-License-Identifier: BSD-2-Clause */
#include "parallel.h"

#define THREADS_MAX 16u
#define ITEMS_A_THREAD_MIN 4096u /* pages: about 1 ms of work */

typedef struct {
	guint64 first, count;
	FerryParallelFunc func;
	gpointer user;
} Stretch;

static gpointer work(gpointer data)
{
	Stretch *stretch = data;

	stretch->func(stretch->first, stretch->count, stretch->user);
	return NULL;
}

void ferry_parallel_for(guint64 items, FerryParallelFunc func, gpointer user)
{
	guint n = (guint)CLAMP(items / ITEMS_A_THREAD_MIN, 1, MIN(g_get_num_processors(), THREADS_MAX));
	GThread *threads[THREADS_MAX] = { NULL };
	Stretch stretches[THREADS_MAX];

	for (guint i = 0; i < n; i++) {
		guint64 first = items / n * i;

		stretches[i] = (Stretch){ first, i + 1 < n ? items / n : items - first, func, user };
		if (i + 1 < n)
			threads[i] = g_thread_new("guest-ram", work, &stretches[i]);
	}
	work(&stretches[n - 1]);
	for (guint i = 0; i + 1 < n; i++)
		g_thread_join(threads[i]);
}
