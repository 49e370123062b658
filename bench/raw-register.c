/* SPDX-License-Identifier: BSD-2-Clause */
#include "raw-register.h"
#include "raw-cm.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <ferry/error.h>

#define PAGE 4096u
#define HUGE_PAGE (2u << 20)

/* Freed from the last field to the first. */
struct FerryBenchRegistrar {
	struct rdma_event_channel *events;
	struct rdma_cm_id *id;
	struct ibv_pd *pd;
	gboolean on_demand;
};

static gboolean can_fault(struct ibv_context *context)
{
	struct ibv_device_attr_ex attributes = { 0 };
	const guint64 wanted = IBV_ODP_SUPPORT;

	return !ibv_query_device_ex(context, NULL, &attributes) &&
	       (attributes.odp_caps.general_caps & wanted) &&
	       (attributes.odp_caps.per_transport_caps.rc_odp_caps & IBV_ODP_SUPPORT_WRITE);
}

FerryBenchRegistrar *ferry_bench_registrar_new(const struct sockaddr *local, GError **error)
{
	g_autoptr(FerryBenchRegistrar) registrar = g_new0(FerryBenchRegistrar, 1);

	registrar->events = rdma_create_event_channel();
	if (!registrar->events)
		return ferry_bench_raw_failed(error, "rdma_create_event_channel"), NULL;
	if (rdma_create_id(registrar->events, &registrar->id, NULL, RDMA_PS_TCP))
		return ferry_bench_raw_failed(error, "rdma_create_id"), NULL;
	if (rdma_bind_addr(registrar->id, (struct sockaddr *)local))
		return ferry_bench_raw_failed(error, "rdma_bind_addr"), NULL;
	if (!registrar->id->verbs) {
		g_set_error_literal(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
				    "no RDMA device has the address that leads to the listener");
		return NULL;
	}
	registrar->pd = ibv_alloc_pd(registrar->id->verbs);
	if (!registrar->pd)
		return ferry_bench_raw_failed(error, "ibv_alloc_pd"), NULL;
	registrar->on_demand = can_fault(registrar->id->verbs);
	return g_steal_pointer(&registrar);
}

void ferry_bench_registrar_free(FerryBenchRegistrar *registrar)
{
	if (registrar->pd)
		ibv_dealloc_pd(registrar->pd);
	if (registrar->id)
		rdma_destroy_id(registrar->id);
	if (registrar->events)
		rdma_destroy_event_channel(registrar->events);
	g_free(registrar);
}

/* ---- memory ---- */

typedef struct {
	guint8 *at; /* of what is used; @mapped may begin before it */
	guint64 bytes;
	void *mapped; /* MAP_FAILED: nothing */
	guint64 mapped_bytes;
	int fd;
} Memory;

static void memory_clear(Memory *memory)
{
	if (memory->mapped != MAP_FAILED)
		munmap(memory->mapped, memory->mapped_bytes);
	if (memory->fd >= 0)
		close(memory->fd);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Memory, memory_clear)

static gboolean no_memory(GError **error, FerryBenchPages pages)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP, "%s%s", g_strerror(errno),
		    pages == FERRY_BENCH_PAGES_HUGETLB
			    ? ": no huge pages are free; write their number to "
			      "/proc/sys/vm/nr_hugepages"
			    : "");
	return FALSE;
}

static void touch(const Memory *memory)
{
	for (guint64 at = 0; at < memory->bytes; at += PAGE)
		*(volatile guint8 *)(memory->at + at) = 1;
}

static gboolean map_file(Memory *memory, FerryBenchPages pages, GError **error)
{
	memory->fd = memfd_create("ferry-bench", MFD_CLOEXEC);
	if (memory->fd < 0 || ftruncate(memory->fd, (off_t)memory->bytes))
		return no_memory(error, pages);
	if (pages == FERRY_BENCH_PAGES_MEMFD_ALLOCATED &&
	    fallocate(memory->fd, 0, 0, (off_t)memory->bytes))
		return no_memory(error, pages);
	memory->mapped_bytes = memory->bytes;
	memory->mapped = mmap(NULL, memory->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory->fd,
			      0);
	return memory->mapped != MAP_FAILED || no_memory(error, pages);
}

static gboolean map_anonymous(Memory *memory, FerryBenchPages pages, GError **error)
{
	const gboolean hugetlb = pages == FERRY_BENCH_PAGES_HUGETLB;

	/* Whole huge pages: the kernel gives no other alignment than that of a page by itself. */
	memory->mapped_bytes = memory->bytes + (hugetlb ? 0 : HUGE_PAGE);
	memory->mapped = mmap(NULL, memory->mapped_bytes, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | (hugetlb ? MAP_HUGETLB : 0), -1, 0);
	if (memory->mapped == MAP_FAILED)
		return no_memory(error, pages);
	if (hugetlb)
		return TRUE;
	if (!madvise(memory->mapped, memory->mapped_bytes,
		     pages == FERRY_BENCH_PAGES_HUGE ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) ||
	    pages != FERRY_BENCH_PAGES_HUGE)
		return TRUE;
	return no_memory(error, pages);
}

static gboolean make_memory(Memory *memory, FerryBenchPages pages, GError **error)
{
	const gboolean file = pages == FERRY_BENCH_PAGES_MEMFD ||
			      pages == FERRY_BENCH_PAGES_MEMFD_ALLOCATED;

	if (file ? !map_file(memory, pages, error) : !map_anonymous(memory, pages, error))
		return FALSE;
	memory->at = file ? memory->mapped
			  : (guint8 *)(((guintptr)memory->mapped + HUGE_PAGE - 1) &
				       ~((guintptr)HUGE_PAGE - 1));
	if (pages != FERRY_BENCH_PAGES_UNTOUCHED && pages != FERRY_BENCH_PAGES_MEMFD_ALLOCATED)
		touch(memory);
	return TRUE;
}

gboolean ferry_bench_registrar_measure(FerryBenchRegistrar *registrar, FerryBenchPages pages,
				       guint64 bytes, double *register_us, double *deregister_us,
				       GError **error)
{
	const gboolean on_demand = pages == FERRY_BENCH_PAGES_ON_DEMAND;
	g_auto(Memory) memory = { .bytes = bytes, .mapped = MAP_FAILED, .fd = -1 };
	struct ibv_mr *region;
	gint64 begin, registered;

	if (on_demand && !registrar->on_demand) {
		g_set_error_literal(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
				    "the device cannot do on-demand paging");
		return FALSE;
	}
	if (!make_memory(&memory, pages, error))
		return FALSE;
	begin = g_get_monotonic_time();
	region = ibv_reg_mr(registrar->pd, memory.at, memory.bytes,
			    IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
				    (on_demand ? IBV_ACCESS_ON_DEMAND : 0));
	registered = g_get_monotonic_time();
	if (!region)
		return ferry_bench_raw_failed(error, "ibv_reg_mr");
	if (ibv_dereg_mr(region))
		return ferry_bench_raw_failed(error, "ibv_dereg_mr");
	*register_us = registered - begin;
	*deregister_us = g_get_monotonic_time() - registered;
	return TRUE;
}
