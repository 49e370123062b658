/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <glib.h>
#include <sys/socket.h>

/* What it costs to register memory with an RDMA device, by what the memory is. In a build without
 * RDMA everything fails with FERRY_ERROR_NOSUPP. */
typedef enum {
	FERRY_BENCH_PAGES_UNTOUCHED, /* anonymous, as all but those in a memfd */
	FERRY_BENCH_PAGES_TOUCHED,
	FERRY_BENCH_PAGES_MEMFD,
	FERRY_BENCH_PAGES_MEMFD_ALLOCATED, /* there, but not mapped */
	FERRY_BENCH_PAGES_HUGE,            /* transparent */
	FERRY_BENCH_PAGES_HUGETLB,
	FERRY_BENCH_PAGES_ON_DEMAND, /* touched */
	FERRY_BENCH_PAGES__N
} FerryBenchPages;

typedef struct FerryBenchRegistrar FerryBenchRegistrar;

/* With the device whose port has the address of @local. */
FerryBenchRegistrar *ferry_bench_registrar_new(const struct sockaddr *local, GError **error);
void ferry_bench_registrar_free(FerryBenchRegistrar *registrar);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FerryBenchRegistrar, ferry_bench_registrar_free)

/* Makes @bytes of such memory, registers it for a peer's writes as a destination does, and
 * deregisters it; times in us. FERRY_ERROR_NOSUPP: this host or device has no such memory. */
gboolean ferry_bench_registrar_measure(FerryBenchRegistrar *registrar, FerryBenchPages pages,
				       guint64 bytes, double *register_us, double *deregister_us,
				       GError **error);
