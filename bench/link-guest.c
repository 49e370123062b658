/* SPDX-License-Identifier: BSD-2-Clause */
#include "link-guest.h"

static gboolean nothing_to_do(gpointer user, GError **error)
{
	return TRUE;
}

static gboolean nothing_written(guint block, guint64 *bitmap, gpointer user, GError **error)
{
	return TRUE;
}

char *ferry_bench_lane_name(const FerryBenchLane *lane)
{
	return g_strdup_printf("%u %s%s", lane->n, lane->rdma ? "queue pair" : "connection",
			       lane->n == 1 ? "" : "s");
}

static gboolean set_lane(FerrySettings *settings, const FerryBenchLane *lane, GError **error)
{
	if (lane->rdma)
		return ferry_settings_set_capability(settings, FERRY_CAPABILITY_RDMA_REQUIRE, TRUE,
						     error) &&
		       ferry_settings_set_capability(settings, FERRY_CAPABILITY_RDMA_PIN_ALL,
						     lane->pin_all, error) &&
		       ferry_settings_set_parameter(settings, FERRY_PARAMETER_RDMA_QUEUE_PAIRS,
						    lane->n, error);
	return lane->n == 1 ||
	       (ferry_settings_set_capability(settings, FERRY_CAPABILITY_MULTIFD, TRUE, error) &&
		ferry_settings_set_parameter(settings, FERRY_PARAMETER_MULTIFD_CHANNELS, lane->n,
					     error));
}

/* A guest over @ram, which is borrowed; made anew for each migration. */
static FerryVm *guest_new(const FerryBenchRam *ram, const FerryBenchLane *lane, GError **error)
{
	const FerryVmCallbacks callbacks = { .pause = nothing_to_do, .resume = nothing_to_do };
	const FerryDirtyCallbacks dirty = { .collect = nothing_written };
	g_autoptr(FerryRam) blocks = ferry_ram_new();
	g_autoptr(FerryVm) vm = NULL;

	if (!ferry_ram_add(blocks, "ram", ram->host, ram->size, FERRY_PAGE_SIZE, ram->fd, 0, error))
		return NULL;
	vm = ferry_vm_new("ferry-bench-link", g_steal_pointer(&blocks), ferry_devices_new(),
			  ferry_dirty_source_callback(&dirty, NULL), &callbacks, NULL);
	return set_lane(ferry_vm_settings(vm), lane, error) ? g_steal_pointer(&vm) : NULL;
}

gboolean ferry_bench_guest_send(const FerryBenchRam *ram, const char *uri,
				const FerryBenchLane *lane, FerryMigrationStatus *status,
				GError **error)
{
	const char *transport = lane->rdma ? "rdma" : lane->n == 1 ? "tcp" : "multifd";
	g_autoptr(FerryVm) vm = guest_new(ram, lane, error);
	g_autoptr(FerrySource) source = vm ? ferry_source_new(vm, ferry_transports()) : NULL;
	g_auto(FerryMigrationStatus) end = { 0 };

	if (!source || !ferry_vm_start(vm, error) || !ferry_source_migrate(source, uri, error))
		return FALSE;
	ferry_source_wait(source);
	ferry_source_get_status(source, &end);
	if (end.state != FERRY_STATE_COMPLETED || !end.n_rounds ||
	    g_strcmp0(end.transport, transport)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK,
			    "the migration to %s is %s, by %s and not %s%s%s", uri,
			    ferry_state_name(end.state), end.transport ? end.transport : "nothing",
			    transport, end.error_desc ? ": " : "",
			    end.error_desc ? end.error_desc : "");
		return FALSE;
	}
	*status = end;
	end = (FerryMigrationStatus){ 0 };
	return TRUE;
}

struct FerryBenchTaker {
	FerryBenchRam *ram;
	FerryVm *vm;
	FerryDestination *destination;
};

FerryBenchTaker *ferry_bench_taker_new(const char *uri, guint64 ram, const FerryBenchLane *lane,
				       GError **error)
{
	g_autoptr(FerryBenchTaker) taker = g_new0(FerryBenchTaker, 1);

	taker->ram = ferry_bench_ram_new(ram, FALSE, error);
	taker->vm = taker->ram ? guest_new(taker->ram, lane, error) : NULL;
	if (!taker->vm)
		return NULL;
	taker->destination = ferry_destination_new(taker->vm, ferry_transports());
	if (!ferry_destination_start(taker->destination, uri, error))
		return NULL;
	return g_steal_pointer(&taker);
}

char *ferry_bench_taker_uri(FerryBenchTaker *taker)
{
	return ferry_destination_uri(taker->destination);
}

void ferry_bench_taker_free(FerryBenchTaker *taker)
{
	if (taker->destination)
		ferry_destination_free(taker->destination);
	if (taker->vm)
		ferry_vm_free(taker->vm);
	if (taker->ram)
		ferry_bench_ram_free(taker->ram);
	g_free(taker);
}
