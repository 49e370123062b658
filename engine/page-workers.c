/* SPDX-License-Identifier: BSD-2-Clause */
#include "page-workers.h"

struct FerryPageWorkers {
	FerryPageWork work;
	gpointer user;
	guint n_threads;
	GThread **threads;
	guint n_jobs;
	FerryPageJob *jobs;
	FerryPageJob end;  /* what tells a thread to end */
	GAsyncQueue *todo; /* of FerryPageJob */
	GAsyncQueue *done;
	guint under_way; /* the owner's */
};

static gpointer worker_thread(gpointer data)
{
	FerryPageWorkers *workers = data;
	FerryPageJob *job;

	while ((job = g_async_queue_pop(workers->todo)) != &workers->end) {
		workers->work(workers->user, job);
		g_async_queue_push(workers->done, job);
	}
	return NULL;
}

FerryPageWorkers *ferry_page_workers_new(const char *name, guint threads, FerryPageWork work,
					 gpointer user, GError **error)
{
	g_autoptr(FerryPageWorkers) workers = g_new0(FerryPageWorkers, 1);
	g_autoptr(GError) cause = NULL;

	workers->work = work;
	workers->user = user;
	workers->todo = g_async_queue_new();
	workers->done = g_async_queue_new();
	workers->n_jobs = 2 * threads;
	workers->jobs = g_new0(FerryPageJob, workers->n_jobs);
	workers->threads = g_new0(GThread *, threads);
	for (; workers->n_threads < threads; workers->n_threads++) {
		GThread *thread = g_thread_try_new(name, worker_thread, workers, &cause);

		if (!thread) {
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO,
				    "thread %u of %u of '%s' cannot be started: %s",
				    workers->n_threads + 1, threads, name, cause->message);
			return NULL;
		}
		workers->threads[workers->n_threads] = thread;
	}
	return g_steal_pointer(&workers);
}

void ferry_page_workers_free(FerryPageWorkers *workers)
{
	if (!workers)
		return;
	for (guint i = 0; i < workers->n_threads; i++)
		g_async_queue_push_front(workers->todo, &workers->end);
	for (guint i = 0; i < workers->n_threads; i++)
		g_thread_join(workers->threads[i]);
	for (guint i = 0; i < workers->n_jobs; i++)
		g_clear_error(&workers->jobs[i].error);
	g_async_queue_unref(workers->todo);
	g_async_queue_unref(workers->done);
	g_free(workers->threads);
	g_free(workers->jobs);
	g_free(workers);
}

FerryPageJob *ferry_page_workers_idle(FerryPageWorkers *workers)
{
	if (workers->under_way == workers->n_jobs)
		return NULL;
	for (guint i = 0; i < workers->n_jobs; i++)
		if (!workers->jobs[i].under_way)
			return &workers->jobs[i];
	return NULL;
}

void ferry_page_workers_submit(FerryPageWorkers *workers, FerryPageJob *job)
{
	job->under_way = TRUE;
	workers->under_way++;
	g_async_queue_push(workers->todo, job);
}

FerryPageJob *ferry_page_workers_finished(FerryPageWorkers *workers, gint64 timeout_us)
{
	FerryPageJob *job;

	if (!workers->under_way)
		return NULL;
	job = timeout_us > 0 ? g_async_queue_timeout_pop(workers->done, (guint64)timeout_us)
			     : g_async_queue_try_pop(workers->done);
	if (job) {
		job->under_way = FALSE;
		workers->under_way--;
	}
	return job;
}

guint ferry_page_workers_under_way(const FerryPageWorkers *workers)
{
	return workers->under_way;
}

gboolean ferry_page_workers_have(const FerryPageWorkers *workers, guint32 block, guint64 page)
{
	for (guint i = 0; workers->under_way && i < workers->n_jobs; i++)
		if (workers->jobs[i].under_way && workers->jobs[i].block == block &&
		    workers->jobs[i].page == page)
			return TRUE;
	return FALSE;
}
