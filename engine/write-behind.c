/* SPDX-License-Identifier: BSD-2-Clause */
#include "write-behind.h"

#include <sys/mman.h>

/* More gain nothing: writers of one file take turns at its lock. */
#define WRITERS 2
#define BUFFERS 8
#define MEMORY (BUFFERS * FERRY_WRITE_BEHIND_BUFFER)

typedef struct {
	guint8 *bytes;
	guint block;
	guint64 offset;
	size_t len;
} Buffer;

struct FerryWriteBehind {
	FerryWriteBehindFunc write;
	gpointer user;
	guint8 *memory; /* all buffers; a mapping, so that it goes back to the system at the end */
	Buffer buffers[BUFFERS];
	Buffer end;         /* what tells a writer to end */
	Buffer *filling;    /* the owner's; NULL between submit and the next buffer */
	GAsyncQueue *empty; /* of Buffer; all of them are here when nothing is under way */
	GAsyncQueue *full;
	GThread *writers[WRITERS];
	GMutex lock;
	GError *error; /* the first; guarded by lock */
};

static void keep_error(FerryWriteBehind *behind, GError *error)
{
	g_mutex_lock(&behind->lock);
	if (behind->error)
		g_error_free(error);
	else
		behind->error = error;
	g_mutex_unlock(&behind->lock);
}

static gpointer writer_thread(gpointer data)
{
	FerryWriteBehind *behind = data;
	Buffer *buffer;

	while ((buffer = g_async_queue_pop(behind->full)) != &behind->end) {
		GError *error = NULL;

		if (!behind->write(behind->user, buffer->block, buffer->offset, buffer->bytes,
				   buffer->len, &error))
			keep_error(behind, error);
		g_async_queue_push(behind->empty, buffer);
	}
	return NULL;
}

FerryWriteBehind *ferry_write_behind_new(FerryWriteBehindFunc write, gpointer user)
{
	FerryWriteBehind *behind = g_new0(FerryWriteBehind, 1);

	behind->write = write;
	behind->user = user;
	behind->empty = g_async_queue_new();
	behind->full = g_async_queue_new();
	g_mutex_init(&behind->lock);
	behind->memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			      0);
	if (behind->memory == MAP_FAILED)
		g_error("no memory for %u bytes of buffers", MEMORY);
	for (guint i = 0; i < BUFFERS; i++) {
		behind->buffers[i].bytes = behind->memory + i * FERRY_WRITE_BEHIND_BUFFER;
		g_async_queue_push(behind->empty, &behind->buffers[i]);
	}
	for (guint i = 0; i < WRITERS; i++)
		behind->writers[i] = g_thread_new("ferry-write", writer_thread, behind);
	return behind;
}

void ferry_write_behind_free(FerryWriteBehind *behind)
{
	if (!behind)
		return;
	for (guint i = 0; i < WRITERS; i++)
		g_async_queue_push(behind->full, &behind->end);
	for (guint i = 0; i < WRITERS; i++)
		g_thread_join(behind->writers[i]);
	munmap(behind->memory, MEMORY);
	g_async_queue_unref(behind->full);
	g_async_queue_unref(behind->empty);
	g_clear_error(&behind->error);
	g_mutex_clear(&behind->lock);
	g_free(behind);
}

guint8 *ferry_write_behind_buffer(FerryWriteBehind *behind)
{
	behind->filling = g_async_queue_pop(behind->empty);
	return behind->filling->bytes;
}

void ferry_write_behind_submit(FerryWriteBehind *behind, guint block, guint64 offset, size_t len)
{
	Buffer *buffer = g_steal_pointer(&behind->filling);

	buffer->block = block;
	buffer->offset = offset;
	buffer->len = len;
	g_async_queue_push(len ? behind->full : behind->empty, buffer);
}

gboolean ferry_write_behind_drain(FerryWriteBehind *behind, GError **error)
{
	Buffer *all[BUFFERS];
	gboolean ok;

	for (guint i = 0; i < BUFFERS; i++)
		all[i] = g_async_queue_pop(behind->empty);
	for (guint i = 0; i < BUFFERS; i++)
		g_async_queue_push(behind->empty, all[i]);
	g_mutex_lock(&behind->lock);
	ok = !behind->error;
	if (!ok)
		g_propagate_error(error, g_error_copy(behind->error));
	g_mutex_unlock(&behind->lock);
	return ok;
}
