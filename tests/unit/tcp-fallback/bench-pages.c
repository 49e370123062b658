/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Moves guest RAM between two processes through the page carrier and prints the rate and the CPU
 * time of each side: bench-pages [URI [MIB [PASSES [RUN_PAGES]]]]. A manual measurement, no test.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <ferry/carrier.h>
#include <ferry/protocol.h>
#include <ferry/transport.h>

typedef struct {
	const char *uri;
	guint64 mib, passes, run_pages;
	FerryPageFormat format;
} Options;

static double cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void die(const char *what, const GError *error)
{
	fprintf(stderr, "%s: %s\n", what, error ? error->message : "");
	_exit(1);
}

static const FerryTransport *transport_for(const char *uri)
{
	for (const FerryTransport *const *t = ferry_socket_transports(); *t; t++)
		if (g_str_has_prefix(uri, (*t)->scheme) && uri[strlen((*t)->scheme)] == ':')
			return *t;
	die(uri, NULL);
	return NULL;
}

static FerryRam make_ram(guint64 mib, gboolean random)
{
	static FerryRamBlock block = { .name = (char *)"ram",
				       .page_size = FERRY_PAGE_SIZE,
				       .fd = -1 };
	guint64 *words, state = 88172645463325252u;

	block.size = mib << 20;
	block.host = mmap(NULL, block.size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (block.host == MAP_FAILED)
		die("mmap", NULL);
	words = (guint64 *)block.host;
	for (guint64 i = 0; random && i < block.size / 8; i++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		words[i] = state;
	}
	return (FerryRam){ .n_blocks = 1, .blocks = &block, .total = block.size };
}

static gboolean read_exactly(gpointer user, void *buf, size_t len, GError **error)
{
	FerryChannel *channel = user;
	struct iovec iov = { buf, len };

	while (iov.iov_len) {
		gssize n = channel->ops->read(channel, &iov, 1, error);

		if (n <= 0)
			return FALSE;
		iov.iov_base = (char *)iov.iov_base + n;
		iov.iov_len -= (size_t)n;
	}
	return TRUE;
}

static void receive_runs(FerryChannel *channel, const FerryRam *ram)
{
	g_autoptr(FerryCarrier) carrier = channel->ops->carrier(channel, FERRY_PAGE_FORMAT_RUNS);
	g_autoptr(GError) error = NULL;
	guint8 header[13], payload[20];

	if (!carrier->ops->share_ram(carrier, ram, &error))
		die("share_ram", error);
	while (read_exactly(channel, header, sizeof(header), &error)) {
		gboolean zero;
		FerryRun run;

		if (!read_exactly(channel, payload, sizeof(payload), &error) ||
		    !carrier->ops->receive(carrier, ferry_load_be16(header + 5), payload,
					   sizeof(payload), read_exactly, channel, &run, &zero,
					   &error))
			die("receive", error);
	}
}

static void receive_pages(FerryChannel *channel, const FerryRam *ram)
{
	static guint8 buffer[256 << 10];
	struct iovec iov = { buffer, sizeof(buffer) };

	while (channel->ops->read(channel, &iov, 1, NULL) > 0)
		continue;
}

static int receiver(const Options *options, int uri_pipe)
{
	g_autoptr(GError) error = NULL;
	FerryRam ram = make_ram(options->mib, FALSE);
	g_autoptr(FerryListener)
		listener = transport_for(options->uri)->listen(options->uri, NULL, &error);
	g_autoptr(FerryChannel) channel = NULL;
	double cpu;

	if (!listener)
		die("listen", error);
	if (write(uri_pipe, listener->uri, strlen(listener->uri) + 1) < 0)
		die("pipe", NULL);
	channel = listener->ops->accept(listener, NULL, &error);
	if (!channel)
		die("accept", error);
	cpu = cpu_seconds();
	if (options->format == FERRY_PAGE_FORMAT_RUNS)
		receive_runs(channel, &ram);
	else
		receive_pages(channel, &ram);
	printf("  receiver %.2f CPU s/GiB\n",
	       (cpu_seconds() - cpu) * 1024 / (double)(options->mib * options->passes));
	return 0;
}

static void must_settle(FerryCarrier *carrier)
{
	FerryIo io;

	while ((io = carrier->ops->settle(carrier, 0)) == FERRY_IO_AGAIN)
		carrier->ops->wait(carrier, -1);
	if (io == FERRY_IO_DEAD)
		die("settle", carrier->ops->take_error(carrier));
}

static void put_all(FerryCarrier *carrier, const FerryRun *runs, size_t n)
{
	for (size_t done = 0, taken; done < n; done += taken) {
		FerryIo io = carrier->ops->put(carrier, runs + done, MIN(n - done, 256), &taken);

		if (io == FERRY_IO_DEAD)
			die("put", carrier->ops->take_error(carrier));
		if (io == FERRY_IO_AGAIN)
			carrier->ops->wait(carrier, -1);
	}
}

static void send_passes(const Options *options, FerryChannel *channel, const FerryRam *ram)
{
	g_autoptr(FerryCarrier) carrier = channel->ops->carrier(channel, options->format);
	guint64 pages = ram->total >> FERRY_PAGE_SHIFT, n = pages / options->run_pages;
	g_autofree FerryRun *runs = g_new(FerryRun, n);
	double cpu = cpu_seconds();
	gint64 start = g_get_monotonic_time();
	double seconds;

	for (guint64 i = 0; i < n; i++)
		runs[i] = (FerryRun){ .first = i * options->run_pages,
				      .pages = options->run_pages };
	if (!carrier->ops->share_ram(carrier, ram, NULL))
		die("share_ram", NULL);
	for (guint64 pass = 0; pass < options->passes; pass++)
		put_all(carrier, runs, n);
	must_settle(carrier);
	seconds = (double)(g_get_monotonic_time() - start) / 1e6;
	printf("%s, runs of %" G_GUINT64_FORMAT " pages: %.2f GB/s\n  sender %.2f CPU s/GiB\n",
	       options->uri, options->run_pages,
	       (double)(ram->total * options->passes) / 1e9 / seconds,
	       (cpu_seconds() - cpu) * 1024 / (double)(options->mib * options->passes));
}

int main(int argc, char **argv)
{
	Options options = { argc > 1 ? argv[1] : "tcp:127.0.0.1:0", 1024, 4, 256,
			    FERRY_PAGE_FORMAT_RUNS };
	g_autoptr(FerryChannel) channel = NULL;
	g_autoptr(GError) error = NULL;
	char uri[256] = "";
	int uri_pipe[2];
	FerryRam ram;

	options.mib = argc > 2 ? strtoull(argv[2], NULL, 10) : options.mib;
	options.passes = argc > 3 ? strtoull(argv[3], NULL, 10) : options.passes;
	options.run_pages = argc > 4 ? strtoull(argv[4], NULL, 10) : options.run_pages;
	if (argc > 5)
		options.format = FERRY_PAGE_FORMAT_QEMU;
	if (pipe(uri_pipe) < 0)
		die("pipe", NULL);
	fflush(stdout);
	if (fork() == 0)
		return receiver(&options, uri_pipe[1]);
	close(uri_pipe[1]);
	ram = make_ram(options.mib, TRUE);
	if (read(uri_pipe[0], uri, sizeof(uri) - 1) <= 0)
		die("no receiver", NULL);
	channel = transport_for(uri)->connect(uri, 5000, NULL, &error);
	if (!channel)
		die("connect", error);
	send_passes(&options, channel, &ram);
	fflush(stdout);
	if (!channel->ops->finish(channel, &error))
		die("finish", error);
	wait(NULL);
	return 0;
}
