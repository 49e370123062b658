/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Moves guest RAM within this process through parallel streams and prints the rate: bench-streams
 * [STREAMS [MIB [RUN_PAGES]]]. The destination's memory is populated. A manual measurement, no
 * test.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "tcp-fallback/streams.h"
#include "tcp-fallback/transports.h"

static const guint8 nonce[FERRY_NONCE_SIZE] = { 1 };

static gboolean say(gpointer user, guint16 type, const guint8 *payload, size_t len)
{
	FerryCarrier *other = *(FerryCarrier **)user;

	return other->ops->hear(other, type, payload, len, NULL);
}

static void died(gpointer user)
{
	fprintf(stderr, "a stream died\n");
}

static FerryRam make_ram(FerryRamBlock *block, guint64 size)
{
	*block = (FerryRamBlock){ (char *)"ram", NULL, size, FERRY_PAGE_SIZE, -1, 0 };
	block->host = mmap(NULL, size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	return (FerryRam){ 1, block, size };
}

static void move(FerryCarrier *source, FerryCarrier *destination, guint64 pages, guint64 run_pages)
{
	FerryIo io;

	for (guint64 at = 0; at < pages;) {
		FerryRun run = { 0, at, MIN(run_pages, pages - at) };
		size_t taken;

		io = source->ops->put(source, &run, 1, &taken);
		at += taken ? run.pages : 0;
		if (io == FERRY_IO_AGAIN)
			source->ops->wait(source, -1);
	}
	while (source->ops->settle(source, 1) == FERRY_IO_AGAIN)
		source->ops->wait(source, -1);
	if (!destination->ops->await_fence(destination, 1, NULL))
		exit(1);
}

int main(int argc, char **argv)
{
	guint streams = argc > 1 ? (guint)atoi(argv[1]) : 4;
	guint64 mib = argc > 2 ? strtoull(argv[2], NULL, 10) : 1024;
	guint64 run_pages = argc > 3 ? strtoull(argv[3], NULL, 10) : 1024;
	FerryListener *listener = ferry_tcp_transport.listen("tcp:127.0.0.1:0", NULL, NULL);
	FerryCarrier *source = NULL, *destination = NULL;
	FerryFabricSession from = {
		.source = TRUE, .nonce = nonce, .say = say, .died = died, .user = &destination
	};
	FerryFabricSession to = { .nonce = nonce, .say = say, .died = died, .user = &source };
	FerryRamBlock blocks[2];
	FerryRam rams[] = { make_ram(&blocks[0], mib << 20), make_ram(&blocks[1], mib << 20) };
	gint64 begin;
	double seconds;

	source = ferry_streams_source_new(listener->uri, streams, &from);
	destination = listener->fabric->ops->open(listener->fabric, &to);
	if (!destination->ops->share_ram(destination, &rams[1], NULL) ||
	    !source->ops->share_ram(source, &rams[0], NULL))
		return 1;
	begin = g_get_monotonic_time();
	move(source, destination, mib << 8, run_pages);
	seconds = (double)(g_get_monotonic_time() - begin) / 1e6;
	printf("%u streams, runs of %" G_GUINT64_FORMAT " pages: %.2f GB/s\n", streams, run_pages,
	       (double)(mib << 20) / 1e9 / seconds);
	ferry_carrier_close(destination);
	ferry_carrier_close(source);
	ferry_listener_close(listener);
	return 0;
}
