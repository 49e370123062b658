/* SPDX-License-Identifier: BSD-2-Clause */
#include "raw-link.h"

#include <errno.h>
#include <sys/mman.h>
#include <ferry/error.h>

gboolean ferry_bench_raw_failed(GError **error, const char *call)
{
	int why = errno;

	g_set_error(error, FERRY_ERROR, why == ENODEV ? FERRY_ERROR_NOSUPP : FERRY_ERROR_LINK,
		    "raw writes: %s: %s%s", call, g_strerror(why),
		    why == ENOMEM ? " (is RLIMIT_MEMLOCK large enough? ulimit -l)" : "");
	return FALSE;
}

void *ferry_bench_raw_map(guint64 bytes, GError **error)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (at == MAP_FAILED) {
		ferry_bench_raw_failed(error, "mmap");
		return NULL;
	}
	return at;
}
