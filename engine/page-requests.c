/* SPDX-License-Identifier: BSD-2-Clause */
#include "page-requests.h"

#include <ferry/bytes.h>
#include "probes.h"

/* Start and length, which both messages begin with. */
#define RANGE_BYTES 12u

struct FerryPageRequests {
	const FerryRam *ram;
	void (*asked)(gpointer user);
	gpointer user;
	guint64 max_waiting; /* pages of the RAM */

	GMutex lock;    /* guards the rest */
	GQueue waiting; /* of FerryRun, owned; the oldest first */
	int last_block; /* of the last REQ_PAGES_ID; -1: none yet */
	guint64 count;
};

FerryPageRequests *ferry_page_requests_new(const FerryRam *ram, void (*asked)(gpointer user),
					   gpointer user)
{
	FerryPageRequests *requests = g_new0(FerryPageRequests, 1);

	requests->ram = ram;
	requests->asked = asked;
	requests->user = user;
	requests->max_waiting = ram->total >> FERRY_PAGE_SHIFT;
	requests->last_block = -1;
	g_queue_init(&requests->waiting);
	g_mutex_init(&requests->lock);
	return requests;
}

void ferry_page_requests_free(FerryPageRequests *requests)
{
	if (!requests)
		return;
	g_queue_clear_full(&requests->waiting, g_free);
	g_mutex_clear(&requests->lock);
	g_free(requests);
}

static gboolean refuse(GError **error, const char *what, const char *block, guint64 start,
		       guint32 length)
{
	g_autofree char *shown = g_utf8_make_valid(block, -1);

	g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
		    "return path: the destination asks for %u bytes at offset 0x%" G_GINT64_MODIFIER
		    "x of block '%s': %s",
		    length, start, shown, what);
	return FALSE;
}

/* The block of a request: by the name at its end, or the one of the request before it. */
static gboolean find_block(FerryPageRequests *requests, gboolean with_name, const guint8 *data,
			   size_t len, int *block, GError **error)
{
	size_t name_len = with_name && len > RANGE_BYTES ? data[RANGE_BYTES] : 0;
	size_t want = RANGE_BYTES + (with_name ? 1 + name_len : 0);
	char name[FERRY_RAM_NAME_MAX + 1] = "";

	if (len != want) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_PEER,
			    "return path: a request for pages of %" G_GSIZE_FORMAT
			    " bytes; with a name of %" G_GSIZE_FORMAT " it has %" G_GSIZE_FORMAT,
			    len, name_len, want);
		return FALSE;
	}
	*block = requests->last_block;
	if (with_name) {
		memcpy(name, data + RANGE_BYTES + 1, name_len);
		*block = strlen(name) == name_len ? ferry_ram_find(requests->ram, name) : -1;
	}
	if (*block >= 0)
		return TRUE;
	return refuse(error,
		      with_name ? "there is no such block"
				: "no request before it named a block on this connection",
		      name, ferry_load_be64(data), ferry_load_be32(data + 8));
}

static gboolean check_range(const FerryRamBlock *block, guint64 start, guint32 length,
			    GError **error)
{
	g_autofree char *what = NULL;

	if (!length)
		what = g_strdup("nothing is asked for");
	else if (start % block->page_size || length % block->page_size)
		what = g_strdup_printf("no multiple of its page size %" G_GUINT64_FORMAT,
				       block->page_size);
	else if (start >= block->size || length > block->size - start)
		what = g_strdup_printf("it has %" G_GUINT64_FORMAT " bytes", block->size);
	return !what || refuse(error, what, block->name, start, length);
}

static gboolean put_locked(FerryPageRequests *requests, gboolean with_name, const guint8 *data,
			   size_t len, GError **error)
{
	const FerryRamBlock *block;
	guint64 start;
	guint32 length;
	FerryRun run;
	int number;

	if (!find_block(requests, with_name, data, len, &number, error))
		return FALSE;
	block = &requests->ram->blocks[number];
	start = ferry_load_be64(data);
	length = ferry_load_be32(data + 8);
	if (!check_range(block, start, length, error))
		return FALSE;
	if (requests->waiting.length >= requests->max_waiting)
		return refuse(error, "more requests wait than the RAM has pages", block->name,
			      start, length);
	run = (FerryRun){
		.block = number,
		.first = start >> FERRY_PAGE_SHIFT,
		.pages = length >> FERRY_PAGE_SHIFT,
	};
	ferry_probe_page_request(run.block, run.first, run.pages);
	g_queue_push_tail(&requests->waiting, g_memdup2(&run, sizeof(run)));
	requests->last_block = number;
	requests->count++;
	return TRUE;
}

gboolean ferry_page_requests_put(FerryPageRequests *requests, gboolean with_name,
				 const guint8 *data, size_t len, GError **error)
{
	gboolean ok;

	g_mutex_lock(&requests->lock);
	ok = put_locked(requests, with_name, data, len, error);
	g_mutex_unlock(&requests->lock);
	if (ok && requests->asked)
		requests->asked(requests->user);
	return ok;
}

gboolean ferry_page_requests_take(FerryPageRequests *requests, guint64 max, FerryRun *run)
{
	FerryRun *oldest;

	g_mutex_lock(&requests->lock);
	oldest = g_queue_peek_head(&requests->waiting);
	if (oldest) {
		*run = *oldest;
		run->pages = MIN(run->pages, max);
		oldest->first += run->pages;
		oldest->pages -= run->pages;
		if (!oldest->pages)
			g_free(g_queue_pop_head(&requests->waiting));
	}
	g_mutex_unlock(&requests->lock);
	return oldest != NULL;
}

void ferry_page_requests_clear(FerryPageRequests *requests)
{
	g_mutex_lock(&requests->lock);
	g_queue_clear_full(&requests->waiting, g_free);
	requests->last_block = -1;
	g_mutex_unlock(&requests->lock);
}

guint64 ferry_page_requests_count(FerryPageRequests *requests)
{
	guint64 count;

	g_mutex_lock(&requests->lock);
	count = requests->count;
	g_mutex_unlock(&requests->lock);
	return count;
}
