/* SPDX-License-Identifier: BSD-2-Clause */
#include "refuse.h"

#include <string.h>
#include "messages.h"

/* What a message of the return path holds, less the record's header. */
#define REASON_MAX (FERRY_RETURN_DATA_MAX - FERRY_RECORD_HEADER)

GBytes *ferry_rdma_refusal(const char *why)
{
	g_autofree char *text = g_utf8_make_valid(why, -1);
	size_t len = strlen(text);

	if (len > REASON_MAX)
		len = g_utf8_find_prev_char(text, text + REASON_MAX + 1) - text;
	return g_bytes_new(text, len);
}

typedef struct {
	FerryCarrier base;
	const FerryFabricSession *session;
	char *why;
} Refusing;

static gboolean refuse_share_ram(FerryCarrier *carrier, const FerryRam *ram, GError **error)
{
	Refusing *r = (Refusing *)carrier;

	if (r->session->source)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP, "%s", r->why);
	return !r->session->source;
}

static FerryIo refuse_put(FerryCarrier *carrier, const FerryRun *runs, size_t n, size_t *taken)
{
	*taken = 0;
	return FERRY_IO_DEAD;
}

static FerryIo refuse_progress(FerryCarrier *carrier)
{
	return FERRY_IO_DEAD;
}

static void refuse_wait(FerryCarrier *carrier, gint64 timeout_us)
{
}

static FerryIo refuse_settle(FerryCarrier *carrier, guint32 fence)
{
	return FERRY_IO_DEAD;
}

/* Anything but an offer belongs to a session that was never agreed. Without room for the answer
 * the source's own deadline ends its wait. */
static gboolean refuse_hear(FerryCarrier *carrier, guint16 type, const guint8 *payload, size_t len,
			    GError **error)
{
	Refusing *r = (Refusing *)carrier;
	g_autoptr(GBytes) refusal = ferry_rdma_refusal(r->why);
	gsize size;
	const guint8 *data = g_bytes_get_data(refusal, &size);

	if (r->session->source || type != FERRY_RECORD_RDMA_OFFER) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "RDMA record 0x%04x, though nothing was agreed", type);
		return FALSE;
	}
	r->session->say(r->session->user, FERRY_RECORD_RDMA_REFUSE, data, size);
	return TRUE;
}

static gboolean refuse_await_fence(FerryCarrier *carrier, guint32 fence, GError **error)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "RDMA: the peer counts on pages that were refused: %s",
		    ((Refusing *)carrier)->why);
	return FALSE;
}

static void refuse_quiesce(FerryCarrier *carrier)
{
}

static void refuse_get_stats(FerryCarrier *carrier, FerryCarrierStats *stats)
{
	*stats = (FerryCarrierStats){ 0 };
}

static GError *refuse_take_error(FerryCarrier *carrier)
{
	return NULL;
}

static void refuse_close(FerryCarrier *carrier)
{
	g_free(((Refusing *)carrier)->why);
	g_free(carrier);
}

FerryCarrier *ferry_rdma_refusing_carrier(const char *why, const FerryFabricSession *session)
{
	static const FerryCarrierOps ops = {
		.name = "rdma",
		.share_ram = refuse_share_ram,
		.put = refuse_put,
		.progress = refuse_progress,
		.wait = refuse_wait,
		.settle = refuse_settle,
		.hear = refuse_hear,
		.await_fence = refuse_await_fence,
		.quiesce = refuse_quiesce,
		.get_stats = refuse_get_stats,
		.take_error = refuse_take_error,
		.close = refuse_close,
	};
	Refusing *r = g_new0(Refusing, 1);

	r->base.ops = &ops;
	r->session = session;
	r->why = g_strdup(why);
	return &r->base;
}
