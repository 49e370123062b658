/* SPDX-License-Identifier: BSD-2-Clause */
#include "source-private.h"

#include <sys/eventfd.h>
#include <unistd.h>
#include <ferry/error.h>
#include "report.h"

void ferry_rdma_source_wake(FerryRdmaSource *source)
{
	eventfd_write(source->wake, 1);
}

void ferry_rdma_source_drain(FerryRdmaSource *source)
{
	eventfd_t n;

	eventfd_read(source->wake, &n);
}

/* ---- records of the destination ---- */

static gboolean unexpected(const char *what, GError **error)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "the destination sent %s, which nothing asked for", what);
	return FALSE;
}

static gboolean hear_answer(FerryRdmaSource *s, const guint8 *payload, size_t len, GError **error)
{
	FerryRdmaTerms terms;
	gboolean asked;

	if (!ferry_rdma_get_terms(payload, len, &terms, error))
		return FALSE;
	g_mutex_lock(&s->lock);
	asked = s->talk == FERRY_RDMA_OFFERED;
	if (asked) {
		s->talk = FERRY_RDMA_ANSWERED;
		s->answer = terms;
	}
	g_mutex_unlock(&s->lock);
	return asked || unexpected("an RDMA answer", error);
}

/* Before the first page it lets the engine choose TCP; later it is the end of the carrier. */
static gboolean hear_refusal(FerryRdmaSource *s, const guint8 *payload, size_t len, GError **error)
{
	g_autofree char *why = g_utf8_make_valid((const char *)payload, (gssize)len);
	gboolean asked;

	g_mutex_lock(&s->lock);
	asked = s->talk != FERRY_RDMA_SILENT;
	if (asked && s->talk != FERRY_RDMA_TURNED_DOWN) {
		s->talk = FERRY_RDMA_TURNED_DOWN;
		ferry_rdma_link_fail(s->link, g_error_new(FERRY_ERROR, FERRY_ERROR_NOSUPP,
							  "the destination refuses RDMA: %s", why));
	}
	g_mutex_unlock(&s->lock);
	return asked || unexpected("an RDMA refusal", error);
}

static gboolean hear_region(FerryRdmaSource *s, const guint8 *payload, size_t len, GError **error)
{
	FerryRdmaReach *reach = g_atomic_pointer_get(&s->reach);
	FerryRdmaRegion region;

	if (!ferry_rdma_get_region(payload, len, &region, error))
		return FALSE;
	return reach ? ferry_rdma_reach_hear(reach, &region, error)
		     : unexpected("a memory region", error);
}

static gboolean hear(FerryRdmaSource *s, guint16 type, const guint8 *payload, size_t len,
		     GError **error)
{
	switch (type) {
	case FERRY_RECORD_RDMA_ANSWER:
		return hear_answer(s, payload, len, error);
	case FERRY_RECORD_RDMA_REFUSE:
		return hear_refusal(s, payload, len, error);
	case FERRY_RECORD_RDMA_REGION:
		return hear_region(s, payload, len, error);
	default:
		g_set_error(
			error, FERRY_ERROR, FERRY_ERROR_PEER,
			"the destination sent record 0x%x, which only a source sends, or nobody",
			type);
		return FALSE;
	}
}

static gboolean source_hear(FerryCarrier *carrier, guint16 type, const guint8 *payload, size_t len,
			    GError **error)
{
	FerryRdmaSource *s = (FerryRdmaSource *)carrier;
	gboolean ok = hear(s, type, payload, len, error);

	ferry_rdma_source_wake(s);
	return ok;
}

/* ---- told ---- */

static void source_get_stats(FerryCarrier *carrier, FerryCarrierStats *stats)
{
	FerryRdmaSource *s = (FerryRdmaSource *)carrier;
	FerryRdmaQueues *queues = g_atomic_pointer_get(&s->queues);
	FerryRdmaQueues *urgent = g_atomic_pointer_get(&s->urgent);
	FerryRdmaQueueStats numbers = { 0 }, more = { 0 };

	if (queues)
		ferry_rdma_queues_get_stats(queues, &numbers);
	if (urgent)
		ferry_rdma_queues_get_stats(urgent, &more);
	*stats = (FerryCarrierStats){
		.bytes = numbers.bytes + more.bytes,
		.pages = __atomic_load_n(&s->stats.pages, __ATOMIC_RELAXED) +
			 __atomic_load_n(&s->stats.urgent_pages, __ATOMIC_RELAXED),
	};
}

static void describe_queues(FerryRdmaSource *s, GVariantDict *dict)
{
	FerryRdmaQueues *queues = g_atomic_pointer_get(&s->queues);
	FerryRdmaQueues *urgent = g_atomic_pointer_get(&s->urgent);
	FerryRdmaQueueStats stats = { 0 }, more = { 0 };

	if (queues)
		ferry_rdma_queues_get_stats(queues, &stats);
	if (urgent)
		ferry_rdma_queues_get_stats(urgent, &more);
	g_variant_dict_insert(dict, "urgent-writes", "t", more.writes);
	g_variant_dict_insert(dict, "urgent-bytes", "t", more.bytes);
	g_variant_dict_insert(dict, "bytes", "t", stats.bytes);
	g_variant_dict_insert(dict, "writes", "t", stats.writes);
	g_variant_dict_insert(dict, "posts", "t", stats.posts);
	g_variant_dict_insert(dict, "signalled", "t", stats.signalled);
	g_variant_dict_insert(dict, "polls", "t", stats.polls);
	g_variant_dict_insert(dict, "empty-polls", "t", stats.empty_polls);
	g_variant_dict_insert(dict, "fences", "t", stats.fences + more.fences);
}

static void describe_course(FerryRdmaSource *s, GVariantDict *dict)
{
	static const struct {
		const char *name;
		size_t offset;
	} numbers[] = {
		{ "sleeps", offsetof(FerryRdmaSource, stats.sleeps) },
		{ "window-stalls", offsetof(FerryRdmaSource, stats.window_stalls) },
		{ "region-stalls", offsetof(FerryRdmaSource, stats.region_stalls) },
		{ "resolve-us", offsetof(FerryRdmaSource, stats.resolve_us) },
		{ "connect-us", offsetof(FerryRdmaSource, stats.connect_us) },
		{ "first-region-us", offsetof(FerryRdmaSource, stats.first_region_us) },
		{ "first-write-us", offsetof(FerryRdmaSource, stats.first_write_us) },
		{ "regions-registered-at-first-write",
		  offsetof(FerryRdmaSource, stats.regions_at_first_write) },
	};

	for (guint i = 0; i < G_N_ELEMENTS(numbers); i++) {
		const guint64 *number = (const guint64 *)((const char *)s + numbers[i].offset);

		g_variant_dict_insert(dict, numbers[i].name, "t",
				      __atomic_load_n(number, __ATOMIC_RELAXED));
	}
}

/* How many registrations overlapped the transfer. */
static void describe_overlap(FerryRdmaSource *s, GVariantDict *dict)
{
	guint64 before = __atomic_load_n(&s->stats.regions_at_first_write, __ATOMIC_RELAXED);
	FerryRdmaRegions *regions = g_atomic_pointer_get(&s->regions);
	FerryRdmaRegionStats stats = { 0 };

	if (regions && before)
		ferry_rdma_regions_get_stats(regions, &stats);
	g_variant_dict_insert(dict, "registration-overlap", "t",
			      stats.registrations - MIN(before, stats.registrations));
}

static GVariant *source_describe(FerryCarrier *carrier)
{
	FerryRdmaSource *s = (FerryRdmaSource *)carrier;
	gboolean connected = g_atomic_int_get(&s->connected);
	GVariantDict dict;

	g_variant_dict_init(&dict, NULL);
	ferry_rdma_report_link(&dict, connected ? s->link : NULL, connected ? &s->terms : NULL);
	ferry_rdma_report_regions(&dict, g_atomic_pointer_get(&s->regions));
	describe_queues(s, &dict);
	describe_course(s, &dict);
	describe_overlap(s, &dict);
	return g_variant_dict_end(&dict);
}

static GError *source_take_error(FerryCarrier *carrier)
{
	FerryRdmaSource *s = (FerryRdmaSource *)carrier;
	GError *error;

	if (!s->link)
		return NULL;
	g_mutex_lock(&s->link->lock);
	error = g_steal_pointer(&s->link->error);
	g_mutex_unlock(&s->link->lock);
	return error;
}

/* ---- lifetime ---- */

/* No write of a peer lands here. */
static void source_quiesce(FerryCarrier *carrier)
{
}

/* Stopped queue pairs read no more memory, whatever became of the peer: then regions may go. */
static void source_close(FerryCarrier *carrier)
{
	FerryRdmaSource *s = (FerryRdmaSource *)carrier;

	g_atomic_int_set(&s->closing, TRUE);
	if (s->link)
		ferry_rdma_link_stop(s->link);
	ferry_rdma_regions_free(s->regions);
	ferry_rdma_reach_free(s->reach);
	ferry_rdma_queues_free(s->urgent);
	ferry_rdma_queues_free(s->queues);
	ferry_rdma_link_free(s->link);
	if (s->wake >= 0)
		close(s->wake);
	g_mutex_clear(&s->urgent_lock);
	g_mutex_clear(&s->lock);
	g_free(s->host);
	g_free(s);
}

static const FerryCarrierOps source_ops = {
	.name = "rdma",
	.share_ram = ferry_rdma_source_share_ram,
	.put = ferry_rdma_source_put,
	.progress = ferry_rdma_source_progress,
	.wait = ferry_rdma_source_wait,
	.settle = ferry_rdma_source_settle,
	.pulls = ferry_rdma_source_pulls,
	.switch_over = ferry_rdma_source_switch_over,
	.urgent = ferry_rdma_source_urgent,
	.hear = source_hear,
	.quiesce = source_quiesce,
	.get_stats = source_get_stats,
	.describe = source_describe,
	.take_error = source_take_error,
	.close = source_close,
};

FerryCarrier *ferry_rdma_source_new(const FerryVerbs *verbs, const char *host, guint16 port,
				    const FerryFabricSession *session)
{
	FerryRdmaSource *s = g_new0(FerryRdmaSource, 1);

	s->base.ops = &source_ops;
	s->verbs = verbs;
	s->host = g_strdup(host);
	s->port = port;
	s->session = session;
	s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->spins = g_get_num_processors() > 2;
	g_mutex_init(&s->lock);
	g_mutex_init(&s->urgent_lock);
	return &s->base;
}
