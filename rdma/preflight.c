/* SPDX-License-Identifier: BSD-2-Clause */
#include "regions.h"

#include <linux/capability.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <ferry/error.h>
#include "quota.h"

/* Left of the limit for what drivers pin besides: the queues themselves. */
#define MARGIN (1ull << 20)

/* Smaller chunks cost more in messages and registrations than they save. */
#define CHUNK_LEAST (1ull << 20)
/* Chunks that a limit is to hold, if it can: some in flight, some ahead. */
#define CHUNKS_WANTED 4u

#define REMEDY                                                                                     \
	"raise it (\"ulimit -l\", LimitMEMLOCK= of the service, or memlock in "                    \
	"/etc/security/limits.conf) or give the process CAP_IPC_LOCK"

/* Whether RLIMIT_MEMLOCK binds registrations: CAP_IPC_LOCK is above it. In a user namespace the
 * kernel wants the capability outside of it, which nobody can ask for: there the registration
 * itself says ENOMEM. */
static gboolean is_bound(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (syscall(SYS_capget, &header, data))
		return TRUE;
	return !(data[CAP_TO_INDEX(CAP_IPC_LOCK)].effective & CAP_TO_MASK(CAP_IPC_LOCK));
}

/* Bytes that this process has pinned already; the kernel counts them against the limit. */
static guint64 pinned(void)
{
	g_autofree char *status = NULL;
	unsigned long long kib = 0;
	const char *line;

	if (!g_file_get_contents("/proc/self/status", &status, NULL, NULL))
		return 0;
	line = g_strstr_len(status, -1, "\nVmPin:");
	if (!line || sscanf(line, "\nVmPin: %llu kB", &kib) != 1)
		return 0;
	return kib << 10;
}

/* What the limit leaves, G_MAXUINT64 where there is none. */
static guint64 available(guint64 *limit)
{
	struct rlimit memlock;
	guint64 used;

	*limit = G_MAXUINT64;
	if (!is_bound() || getrlimit(RLIMIT_MEMLOCK, &memlock) || memlock.rlim_cur == RLIM_INFINITY)
		return G_MAXUINT64;
	*limit = memlock.rlim_cur;
	used = pinned() + MARGIN;
	return *limit > used ? *limit - used : 0;
}

gboolean ferry_rdma_pin_preflight(const FerryRam *ram, guint64 chunk_size, guint64 wanted,
				  gboolean all, guint64 *limit, GError **error)
{
	guint64 memlock, room = available(&memlock);

	if (all && room < ram->total) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
			    "rdma-pin-all needs %" G_GUINT64_FORMAT
			    " bytes pinned, but RLIMIT_MEMLOCK "
			    "is %" G_GUINT64_FORMAT " bytes, of which %" G_GUINT64_FORMAT
			    " are left: " REMEDY ", or turn rdma-pin-all off",
			    ram->total, memlock, room);
		return FALSE;
	}
	if (!all && wanted)
		room = MIN(room, wanted);
	if (room < ram->total && room < 2 * chunk_size) {
		if (wanted && wanted == room)
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
				    "rdma-pin-limit is %" G_GUINT64_FORMAT
				    " bytes, less than two chunks "
				    "of %" G_GUINT64_FORMAT " bytes: raise it",
				    wanted, chunk_size);
		else
			g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
				    "RLIMIT_MEMLOCK is %" G_GUINT64_FORMAT " bytes, of which "
				    "%" G_GUINT64_FORMAT " are left, but RDMA needs two chunks of "
				    "%" G_GUINT64_FORMAT " bytes pinned at least: " REMEDY,
				    memlock, room, chunk_size);
		return FALSE;
	}
	*limit = room < ram->total ? room : 0;
	return TRUE;
}

gboolean ferry_rdma_fit_pinning(const FerryRam *ram, guint64 *chunk_size, guint64 wanted,
				gboolean all, guint64 *limit, GError **error)
{
	guint64 size = *chunk_size, least = CHUNK_LEAST, fits;

	for (guint i = 0; i < ram->n_blocks; i++)
		least = MAX(least, ram->blocks[i].page_size);
	if (!ferry_rdma_pin_preflight(ram, MIN(least, size), wanted, all, &fits, error))
		return FALSE;
	while (fits && fits / CHUNKS_WANTED < size && size > least &&
	       ferry_rdma_count_chunks(ram, size / 2) <= FERRY_RDMA_CHUNKS_MAX)
		size /= 2;
	if (!ferry_rdma_pin_preflight(ram, size, wanted, all, limit, error))
		return FALSE;
	*chunk_size = size;
	return TRUE;
}
