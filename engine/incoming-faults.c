/* SPDX-License-Identifier: BSD-2-Clause */
#include "incoming-faults.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "page-cursor.h"
#include "probes.h"
#include "records.h"
#include "token-bucket.h"

/* How long a wait of the carrier's may last before stop() is seen. */
#define WAIT_US (20 * G_TIME_SPAN_MILLISECOND)
/* How often it looks, before the guest runs, whether there is a source. */
#define LOOK_MS 250

struct FerryFaults {
	FerryFaultsConfig config;
	GThread *thread;
	int wake;  /* an eventfd: run() or stop() came */
	gint stop; /* atomic */
	gint runs; /* atomic: the guest does */

	/* the thread's own, of a carrier that pulls */
	FerryBitmap *missing; /* not asked for yet */
	FerryPageCursor cursor;
	GQueue waiting; /* of FerryRun, owned: what the guest waits for and was not asked for */
	FerryTokenBucket bucket;
	guint64 owed; /* bytes that went ahead of the rate */
};

/* The next host page that the guest waits for. */
static gboolean take(FerryFaults *faults, FerryRun *run)
{
	if (g_atomic_int_get(&faults->stop) ||
	    !ferry_postcopy_ram_take_fault(faults->config.postcopy, run))
		return FALSE;
	ferry_probe_page_fault(run->block, run->first, run->pages);
	return TRUE;
}

/* A link that is dead is found out by whoever reads it. Where pages are fetched nobody is asked: a
 * page that is missing then has lost its carrier. */
static void ask(FerryFaults *faults)
{
	FerryRun run;

	while (take(faults, &run))
		if (!faults->config.pulls)
			ferry_reply_request(faults->config.replies, faults->config.ram, &run, NULL);
}

/* Before the guest runs, whoever reads the link loads devices, and may be the one who waits: then
 * nobody sees it die. What he finds there then is all the same, as he cannot say READY any more. */
static void look_for_source(FerryFaults *faults)
{
	g_autoptr(GByteArray) record = g_byte_array_new();

	ferry_record_put_heartbeat(record);
	if (!ferry_reply_record(faults->config.replies, record, NULL))
		ferry_postcopy_ram_give_up(faults->config.postcopy);
}

/* FALSE: there was none for a while, before the guest runs. */
static gboolean sleep_until_fault(FerryFaults *faults)
{
	struct pollfd fds[] = {
		{ .fd = ferry_postcopy_ram_fault_fd(faults->config.postcopy), .events = POLLIN },
		{ .fd = faults->wake, .events = POLLIN },
	};
	int ready = poll(fds, G_N_ELEMENTS(fds), g_atomic_int_get(&faults->runs) ? -1 : LOOK_MS);

	if (fds[1].revents)
		eventfd_read(faults->wake, &(eventfd_t){ 0 });
	return ready != 0;
}

/* ---- fetching ---- */

static void begin_fetching(FerryFaults *faults)
{
	const FerryRam *ram = faults->config.ram;

	faults->missing = ferry_bitmap_new(ram);
	ferry_bitmap_set_all(faults->missing);
	for (guint i = 0; i < ram->n_blocks; i++) {
		gsize n;
		g_autofree guint64 *received = ferry_postcopy_ram_received(faults->config.postcopy,
									   i, &n);
		guint64 *words = ferry_bitmap_block(faults->missing, i);

		for (gsize w = 0; w < n; w++)
			words[w] &= ~received[w];
	}
	ferry_page_cursor_init(&faults->cursor, ram, faults->missing);
	ferry_token_bucket_init(&faults->bucket, g_get_monotonic_time());
}

/* FALSE: not now. What was claimed in vain is missing again. */
static gboolean fetch(FerryFaults *faults, const FerryRun *run, gboolean urgent)
{
	FerryCarrier *carrier = faults->config.pulls;

	if (carrier->ops->fetch(carrier, run, urgent) == FERRY_IO_OK)
		return TRUE;
	ferry_page_cursor_return(&faults->cursor, run);
	return FALSE;
}

/* What the guest waits for goes first; FALSE: some of it could not go yet. */
static gboolean fetch_urgent(FerryFaults *faults)
{
	FerryRun run, *first;

	while (take(faults, &run)) {
		ferry_page_cursor_jump(&faults->cursor, &run);
		g_queue_push_tail(&faults->waiting, g_memdup2(&run, sizeof(run)));
	}
	while ((first = g_queue_peek_head(&faults->waiting))) {
		while (ferry_page_cursor_claim(&faults->cursor, first, FERRY_FETCH_MAX, &run))
			if (!fetch(faults, &run, TRUE))
				return FALSE;
		g_free(g_queue_pop_head(&faults->waiting));
	}
	return TRUE;
}

/* Whether the rate allows another run that nobody waits for; else *@delay_us until it may. */
static gboolean pay(FerryFaults *faults, gint64 *delay_us)
{
	gint64 now = g_get_monotonic_time();

	ferry_token_bucket_set_rate(
		&faults->bucket,
		ferry_settings_get_parameter(faults->config.settings,
					     FERRY_PARAMETER_MAX_POSTCOPY_BANDWIDTH));
	if (faults->owed)
		faults->owed -= ferry_token_bucket_take(&faults->bucket, now, faults->owed);
	*delay_us = ferry_token_bucket_delay_us(&faults->bucket, now,
						MIN(faults->owed, FERRY_TOKEN_BUCKET_BATCH));
	return !faults->owed;
}

/* Fetches as much as there is room for; how long to wait for more. */
static gint64 fetch_all(FerryFaults *faults)
{
	gint64 delay = WAIT_US;
	FerryRun run;

	while (fetch_urgent(faults) && g_atomic_int_get(&faults->runs) && pay(faults, &delay)) {
		delay = WAIT_US;
		if (!ferry_page_cursor_next(&faults->cursor, FERRY_FETCH_MAX, &run) ||
		    !fetch(faults, &run, FALSE))
			break;
		faults->owed += ferry_run_bytes(&run);
	}
	return CLAMP(delay, 1, WAIT_US);
}

static void say_all(FerryFaults *faults)
{
	g_autoptr(GByteArray) record = g_byte_array_new();

	ferry_record_put_empty(record, FERRY_RECORD_POSTCOPY_HAVE_ALL);
	ferry_reply_record(faults->config.replies, record, NULL);
}

/* Until every page has come. A carrier that dies tells the engine by itself. */
static void pull(FerryFaults *faults)
{
	FerryPostcopyRam *postcopy = faults->config.postcopy;
	FerryCarrier *carrier = faults->config.pulls;

	begin_fetching(faults);
	while (!g_atomic_int_get(&faults->stop)) {
		gint64 wait = fetch_all(faults);

		if (carrier->ops->progress(carrier) == FERRY_IO_DEAD)
			return;
		if (!ferry_postcopy_ram_missing(postcopy)) {
			say_all(faults);
			return;
		}
		carrier->ops->wait_fetched(carrier, ferry_postcopy_ram_fault_fd(postcopy), wait);
	}
}

static gpointer faults_thread(gpointer data)
{
	FerryFaults *faults = data;

	if (faults->config.pulls)
		pull(faults);
	while (!g_atomic_int_get(&faults->stop)) {
		ask(faults);
		if (!sleep_until_fault(faults))
			look_for_source(faults);
	}
	return NULL;
}

FerryFaults *ferry_faults_start(const FerryFaultsConfig *config)
{
	FerryFaults *faults = g_new0(FerryFaults, 1);

	faults->config = *config;
	g_queue_init(&faults->waiting);
	faults->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (faults->wake < 0)
		g_error("eventfd: %s", g_strerror(errno));
	faults->thread = g_thread_new("ferry-faults", faults_thread, faults);
	return faults;
}

static void wake(FerryFaults *faults)
{
	const guint64 one = 1;

	if (write(faults->wake, &one, sizeof(one)) < 0)
		g_error("eventfd: %s", g_strerror(errno));
}

void ferry_faults_run(FerryFaults *faults)
{
	g_atomic_int_set(&faults->runs, 1);
	wake(faults);
}

void ferry_faults_stop(FerryFaults *faults)
{
	if (!faults)
		return;
	g_atomic_int_set(&faults->stop, 1);
	wake(faults);
	g_thread_join(faults->thread);
	close(faults->wake);
	g_queue_clear_full(&faults->waiting, g_free);
	ferry_bitmap_free(faults->missing);
	g_free(faults);
}
