/* SPDX-License-Identifier: BSD-2-Clause */
#include "fault-touch.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <ferry/ram.h>

#define SEED 20260u /* the order is the same in every run */

struct FerryBenchTouch {
	const guint8 *host;
	guint64 pages;
	guint64 most; /* faults */
	int fd;
	gboolean started;
	GThread *thread; /* NULL: not started, or joined */
	gint stop;       /* atomic */
	/* the thread's until it is joined */
	guint32 *order;
	GArray *ns; /* of gint64 */
	guint64 wrong;
};

/* Odd, hence a permutation of the 64-bit numbers: none is another page's. */
static guint64 mark_of(guint64 page)
{
	return (page + 1) * 0x9e3779b97f4a7c15u;
}

void ferry_bench_touch_mark(guint8 *host, guint64 size)
{
	for (guint64 page = 0; page < size >> FERRY_PAGE_SHIFT; page++)
		*(guint64 *)(host + (page << FERRY_PAGE_SHIFT)) = mark_of(page);
}

static guint32 *shuffled(guint64 pages)
{
	guint32 *order = g_new(guint32, pages);
	g_autoptr(GRand) dice = g_rand_new_with_seed(SEED);

	for (guint64 i = 0; i < pages; i++) {
		guint64 at = g_rand_int_range(dice, 0, i + 1);

		order[i] = order[at];
		order[at] = i;
	}
	return order;
}

FerryBenchTouch *ferry_bench_touch_new(const guint8 *host, guint64 size, guint64 faults,
				       GError **error)
{
	g_autoptr(FerryBenchTouch) touch = g_new0(FerryBenchTouch, 1);

	touch->host = host;
	touch->pages = size >> FERRY_PAGE_SHIFT;
	touch->most = faults ? MIN(faults, touch->pages) : touch->pages;
	touch->ns = g_array_sized_new(FALSE, FALSE, sizeof(gint64), touch->most);
	touch->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (touch->fd < 0) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO, "eventfd: %s", g_strerror(errno));
		return NULL;
	}
	touch->order = shuffled(touch->pages);
	return g_steal_pointer(&touch);
}

static gint64 now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * G_GINT64_CONSTANT(1000000000) + now.tv_nsec;
}

/* Of this thread. A wait for userfaultfd counts as either kind, by the kernel's version. */
static glong faults_so_far(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_minflt + usage.ru_majflt;
}

static void touch_page(FerryBenchTouch *touch, guint64 page)
{
	const volatile guint64 *word = (const volatile guint64 *)(touch->host +
								  (page << FERRY_PAGE_SHIFT));
	glong before = faults_so_far();
	gint64 begin = now_ns();
	guint64 mark = *word;
	gint64 took = now_ns() - begin;

	if (mark != mark_of(page))
		touch->wrong++;
	if (faults_so_far() != before)
		g_array_append_val(touch->ns, took);
}

static gpointer touch_all(gpointer user)
{
	FerryBenchTouch *touch = user;
	guint64 one = 1;

	for (guint64 i = 0; i < touch->pages && touch->ns->len < touch->most; i++) {
		if (g_atomic_int_get(&touch->stop))
			break;
		touch_page(touch, touch->order[i]);
	}
	if (write(touch->fd, &one, sizeof(one)) != sizeof(one))
		g_warning("eventfd: %s", g_strerror(errno));
	return NULL;
}

void ferry_bench_touch_start(FerryBenchTouch *touch)
{
	if (!touch->started)
		touch->thread = g_thread_new("ferry-touch", touch_all, touch);
	touch->started = TRUE;
}

int ferry_bench_touch_fd(FerryBenchTouch *touch)
{
	return touch->fd;
}

gboolean ferry_bench_touch_result(FerryBenchTouch *touch, FerryBenchLatency *felt, GError **error)
{
	g_clear_pointer(&touch->thread, g_thread_join);
	if (touch->wrong) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "%" G_GUINT64_FORMAT
			    " pages arrived with the content of others, or with none",
			    touch->wrong);
		return FALSE;
	}
	*felt = ferry_bench_latency_of(touch->ns);
	return TRUE;
}

void ferry_bench_touch_free(FerryBenchTouch *touch)
{
	g_atomic_int_set(&touch->stop, TRUE);
	if (touch->thread)
		g_thread_join(touch->thread);
	if (touch->fd >= 0)
		close(touch->fd);
	g_array_unref(touch->ns);
	g_free(touch->order);
	g_free(touch);
}

static int compare(gconstpointer a, gconstpointer b)
{
	gint64 x = *(const gint64 *)a, y = *(const gint64 *)b;

	return (x > y) - (x < y);
}

/* Of a sorted array that is not empty. */
static double rank_us(const GArray *ns, guint64 percent)
{
	guint64 rank = (ns->len * percent + 99) / 100;

	return g_array_index(ns, gint64, rank - 1) / 1e3;
}

FerryBenchLatency ferry_bench_latency_of(GArray *ns)
{
	FerryBenchLatency latency = { .faults = ns->len };

	if (!ns->len)
		return latency;
	g_array_sort(ns, compare);
	latency.p50 = rank_us(ns, 50);
	latency.p90 = rank_us(ns, 90);
	latency.p99 = rank_us(ns, 99);
	latency.max = rank_us(ns, 100);
	latency.n_quantiles = MIN(ns->len, FERRY_BENCH_QUANTILES_MAX);
	for (guint64 i = 1; i <= latency.n_quantiles; i++) {
		guint64 rank = (ns->len * i + latency.n_quantiles - 1) / latency.n_quantiles;

		latency.quantiles[i - 1] = g_array_index(ns, gint64, rank - 1) / 1e3;
	}
	return latency;
}
