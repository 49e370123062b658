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

FerryVm *ferry_bench_guest_new(const FerryBenchRam *ram, guint queue_pairs, gboolean pin_all,
			       GError **error)
{
	const FerryVmCallbacks callbacks = { .pause = nothing_to_do, .resume = nothing_to_do };
	const FerryDirtyCallbacks dirty = { .collect = nothing_written };
	g_autoptr(FerryRam) blocks = ferry_ram_new();
	g_autoptr(FerryVm) vm = NULL;
	FerrySettings *settings;

	if (!ferry_ram_add(blocks, "ram", ram->host, ram->size, FERRY_PAGE_SIZE, ram->fd, 0, error))
		return NULL;
	vm = ferry_vm_new("ferry-bench-link", g_steal_pointer(&blocks), ferry_devices_new(),
			  ferry_dirty_source_callback(&dirty, NULL), &callbacks, NULL);
	settings = ferry_vm_settings(vm);
	if (!ferry_settings_set_capability(settings, FERRY_CAPABILITY_RDMA_REQUIRE, TRUE, error) ||
	    !ferry_settings_set_capability(settings, FERRY_CAPABILITY_RDMA_PIN_ALL, pin_all,
					   error) ||
	    !ferry_settings_set_parameter(settings, FERRY_PARAMETER_RDMA_QUEUE_PAIRS, queue_pairs,
					  error))
		return NULL;
	return g_steal_pointer(&vm);
}

gboolean ferry_bench_guest_send(const FerryBenchRam *ram, const char *uri, guint queue_pairs,
				gboolean pin_all, FerryMigrationStatus *status, GError **error)
{
	g_autoptr(FerryVm) vm = ferry_bench_guest_new(ram, queue_pairs, pin_all, error);
	g_autoptr(FerrySource) source = vm ? ferry_source_new(vm, ferry_transports()) : NULL;
	g_auto(FerryMigrationStatus) end = { 0 };

	if (!source || !ferry_vm_start(vm, error) || !ferry_source_migrate(source, uri, error))
		return FALSE;
	ferry_source_wait(source);
	ferry_source_get_status(source, &end);
	if (end.state != FERRY_STATE_COMPLETED || !end.n_rounds ||
	    g_strcmp0(end.transport, "rdma")) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK, "the migration to %s %s%s%s", uri,
			    end.state == FERRY_STATE_COMPLETED ? "did not go over RDMA"
							       : ferry_state_name(end.state),
			    end.error_desc ? ": " : "", end.error_desc ? end.error_desc : "");
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

FerryBenchTaker *ferry_bench_taker_new(const char *uri, guint64 ram, gboolean pin_all,
				       GError **error)
{
	g_autoptr(FerryBenchTaker) taker = g_new0(FerryBenchTaker, 1);

	taker->ram = ferry_bench_ram_new(ram, FALSE, error);
	taker->vm = taker->ram ? ferry_bench_guest_new(taker->ram, 0, pin_all, error) : NULL;
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
