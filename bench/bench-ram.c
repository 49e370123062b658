/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench-ram.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>
#include <ferry/error.h>

/* xorshift64: no page is zero, and none like another. */
static void fill(guint8 *at, guint64 size)
{
	guint64 *words = (guint64 *)at;
	guint64 x = 88172645463325252u;

	for (guint64 i = 0; i < size / sizeof(*words); i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		words[i] = x;
	}
}

FerryBenchRam *ferry_bench_ram_new(guint64 size, gboolean filled, GError **error)
{
	g_autoptr(FerryBenchRam) ram = g_new0(FerryBenchRam, 1);

	ram->size = size;
	ram->host = MAP_FAILED;
	ram->fd = memfd_create("ferry-bench", MFD_CLOEXEC);
	if (ram->fd >= 0 && !ftruncate(ram->fd, size))
		ram->host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ram->fd, 0);
	if (ram->host == MAP_FAILED) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO,
			    "no memory for %" G_GUINT64_FORMAT " MiB of RAM: %s", size >> 20,
			    g_strerror(errno));
		return NULL;
	}
	if (filled)
		fill(ram->host, size);
	return g_steal_pointer(&ram);
}

void ferry_bench_ram_free(FerryBenchRam *ram)
{
	if (ram->host != MAP_FAILED)
		munmap(ram->host, ram->size);
	if (ram->fd >= 0)
		close(ram->fd);
	g_free(ram);
}
