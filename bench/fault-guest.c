/* SPDX-License-Identifier: BSD-2-Clause */
#include "fault-guest.h"
#include "fault-touch.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SWITCH_MS 120000  /* from connecting to the switch: registering populates RAM */
#define MEASURE_MS 300000 /* of touching */

const char *ferry_bench_fault_scheme(FerryBenchFaultMode mode)
{
	return mode == FERRY_BENCH_TCP ? "tcp" : "rdma";
}

static gboolean nothing_to_do(gpointer user, GError **error)
{
	return TRUE;
}

static gboolean all_written(guint block, guint64 *bitmap, gpointer user, GError **error)
{
	/* A multiple of 64 pages: RAM is one of 1 MiB. */
	memset(bitmap, 0xff, GPOINTER_TO_SIZE(user) >> FERRY_PAGE_SHIFT >> 3);
	return TRUE;
}

/* A guest over @ram, which is borrowed. Both sides hold back what nobody waits for: which one
 * decides depends on the mode. */
static FerryVm *guest_new(const FerryBenchRam *ram, const FerryBenchFaultShape *shape,
			  const FerryVmCallbacks *callbacks, gpointer user, GError **error)
{
	const FerryDirtyCallbacks dirty = { .collect = all_written };
	const gboolean rdma = shape->mode != FERRY_BENCH_TCP;
	const gboolean pull = shape->mode == FERRY_BENCH_PULL;
	g_autoptr(FerryRam) blocks = ferry_ram_new();
	g_autoptr(FerryVm) vm = NULL;
	FerrySettings *settings;

	if (!ferry_ram_add(blocks, "ram", ram->host, ram->size, FERRY_PAGE_SIZE, ram->fd, 0, error))
		return NULL;
	vm = ferry_vm_new("ferry-bench-fault", g_steal_pointer(&blocks), ferry_devices_new(),
			  ferry_dirty_source_callback(&dirty, GSIZE_TO_POINTER(ram->size)),
			  callbacks, user);
	settings = ferry_vm_settings(vm);
	if (!ferry_settings_set_capability(settings, FERRY_CAPABILITY_POSTCOPY_RAM, TRUE, error) ||
	    !ferry_settings_set_capability(settings, FERRY_CAPABILITY_RDMA_REQUIRE, rdma, error) ||
	    !ferry_settings_set_capability(settings, FERRY_CAPABILITY_RDMA_POSTCOPY_PULL, pull,
					   error) ||
	    !ferry_settings_set_parameter(settings, FERRY_PARAMETER_MAX_POSTCOPY_BANDWIDTH,
					  shape->background ? 0 : 1, error))
		return NULL;
	return g_steal_pointer(&vm);
}

static void lift(FerryVm *vm)
{
	ferry_settings_set_parameter(ferry_vm_settings(vm), FERRY_PARAMETER_MAX_POSTCOPY_BANDWIDTH,
				     0, NULL);
}

/* Fails with what became of a migration. */
static gboolean broken(const FerryMigrationStatus *status, const char *wanted, GError **error)
{
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK, "the migration is %s and not %s%s%s",
		    ferry_state_name(status->state), wanted, status->error_desc ? ": " : "",
		    status->error_desc ? status->error_desc : "");
	return FALSE;
}

/* For one who waits in poll(): a descriptor that becomes readable. */
static void ring(int fd)
{
	guint64 one = 1;

	if (write(fd, &one, sizeof(one)) != sizeof(one))
		g_warning("eventfd: %s", g_strerror(errno));
}

static int bell_new(GError **error)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO, "eventfd: %s", g_strerror(errno));
	return fd;
}

/* ---- the source ---- */

/* Freed from the last field to the first. */
struct FerryBenchFaultSender {
	int bell; /* of the switch, or the end without one */
	FerryVm *vm;
	guint notifier;
	FerrySource *source;
};

static void sender_told(const FerryEvent *event, gpointer user)
{
	FerryBenchFaultSender *sender = user;

	if (event->type == FERRY_EVENT_MIGRATION && event->state != FERRY_STATE_SETUP &&
	    event->state != FERRY_STATE_ACTIVE && event->state != FERRY_STATE_DEVICE)
		ring(sender->bell);
}

static gboolean send_guest(FerryBenchFaultSender *sender, const char *uri, GError **error)
{
	struct pollfd bell = { sender->bell, POLLIN, 0 };
	g_auto(FerryMigrationStatus) status = { 0 };

	if (!ferry_vm_start(sender->vm, error) ||
	    !ferry_source_migrate(sender->source, uri, error) ||
	    !ferry_source_start_postcopy(sender->source, error))
		return FALSE;
	poll(&bell, 1, SWITCH_MS);
	ferry_source_get_status(sender->source, &status);
	return status.state == FERRY_STATE_POSTCOPY_ACTIVE ||
	       status.state == FERRY_STATE_COMPLETED || broken(&status, "switched over", error);
}

FerryBenchFaultSender *ferry_bench_fault_sender_new(const FerryBenchRam *ram, const char *uri,
						    const FerryBenchFaultShape *shape,
						    GError **error)
{
	const FerryVmCallbacks callbacks = { .pause = nothing_to_do, .resume = nothing_to_do };
	g_autoptr(FerryBenchFaultSender) sender = g_new0(FerryBenchFaultSender, 1);

	sender->bell = bell_new(error);
	if (sender->bell < 0)
		return NULL;
	sender->vm = guest_new(ram, shape, &callbacks, NULL, error);
	if (!sender->vm)
		return NULL;
	sender->notifier = ferry_vm_add_notifier(sender->vm, sender_told, sender);
	sender->source = ferry_source_new(sender->vm, ferry_transports());
	return send_guest(sender, uri, error) ? g_steal_pointer(&sender) : NULL;
}

void ferry_bench_fault_sender_lift(FerryBenchFaultSender *sender)
{
	lift(sender->vm);
}

gboolean ferry_bench_fault_sender_finish(FerryBenchFaultSender *sender, GError **error)
{
	g_auto(FerryMigrationStatus) status = { 0 };

	ferry_source_wait(sender->source);
	ferry_source_get_status(sender->source, &status);
	return status.state == FERRY_STATE_COMPLETED || broken(&status, "completed", error);
}

void ferry_bench_fault_sender_free(FerryBenchFaultSender *sender)
{
	if (sender->source)
		ferry_source_free(sender->source);
	if (sender->notifier)
		ferry_vm_remove_notifier(sender->vm, sender->notifier);
	if (sender->vm)
		ferry_vm_free(sender->vm);
	if (sender->bell >= 0)
		close(sender->bell);
	g_free(sender);
}

/* ---- the destination ---- */

/* Freed from the last field to the first, but the destination before the touching thread: its end
 * lets go whoever waits for a page. */
struct FerryBenchFaultTaker {
	int bell; /* of an end that is none */
	FerryBenchRam *ram;
	FerryBenchTouch *touch;
	FerryVm *vm;
	guint notifier;
	FerryDestination *destination;
};

static gboolean begin_touching(gpointer user, GError **error)
{
	FerryBenchFaultTaker *taker = user;

	ferry_bench_touch_start(taker->touch);
	return TRUE;
}

static void taker_told(const FerryEvent *event, gpointer user)
{
	FerryBenchFaultTaker *taker = user;

	if (event->type == FERRY_EVENT_MIGRATION &&
	    (event->state == FERRY_STATE_FAILED || event->state == FERRY_STATE_HANDOVER_LOST ||
	     event->state == FERRY_STATE_POSTCOPY_PAUSED))
		ring(taker->bell);
}

FerryBenchFaultTaker *ferry_bench_fault_taker_new(const char *uri,
						  const FerryBenchFaultShape *shape, GError **error)
{
	/* Its thread only reads, and may go on while the guest is stopped. */
	const FerryVmCallbacks callbacks = { .pause = nothing_to_do, .resume = begin_touching };
	g_autoptr(FerryBenchFaultTaker) taker = g_new0(FerryBenchFaultTaker, 1);

	taker->bell = bell_new(error);
	if (taker->bell < 0)
		return NULL;
	taker->ram = ferry_bench_ram_new(shape->ram, FALSE, error);
	if (!taker->ram)
		return NULL;
	taker->touch = ferry_bench_touch_new(taker->ram->host, taker->ram->size,
					     shape->background ? 0 : shape->faults, error);
	if (!taker->touch)
		return NULL;
	taker->vm = guest_new(taker->ram, shape, &callbacks, taker, error);
	if (!taker->vm)
		return NULL;
	taker->notifier = ferry_vm_add_notifier(taker->vm, taker_told, taker);
	taker->destination = ferry_destination_new(taker->vm, ferry_transports());
	return ferry_destination_start(taker->destination, uri, error) ? g_steal_pointer(&taker)
								       : NULL;
}

char *ferry_bench_fault_taker_uri(FerryBenchFaultTaker *taker)
{
	return ferry_destination_uri(taker->destination);
}

gboolean ferry_bench_fault_taker_measure(FerryBenchFaultTaker *taker, FerryBenchLatency *felt,
					 GError **error)
{
	struct pollfd fds[] = { { ferry_bench_touch_fd(taker->touch), POLLIN, 0 },
				{ taker->bell, POLLIN, 0 } };
	g_auto(FerryMigrationStatus) status = { 0 };

	if (poll(fds, G_N_ELEMENTS(fds), MEASURE_MS) > 0 && fds[0].revents)
		return ferry_bench_touch_result(taker->touch, felt, error);
	ferry_destination_get_status(taker->destination, &status);
	return broken(&status, "postcopy-active with all its pages touched", error);
}

void ferry_bench_fault_taker_lift(FerryBenchFaultTaker *taker)
{
	lift(taker->vm);
}

void ferry_bench_fault_taker_get_status(FerryBenchFaultTaker *taker, FerryMigrationStatus *status)
{
	ferry_destination_get_status(taker->destination, status);
}

void ferry_bench_fault_taker_free(FerryBenchFaultTaker *taker)
{
	if (taker->destination)
		ferry_destination_free(taker->destination);
	if (taker->touch)
		ferry_bench_touch_free(taker->touch);
	if (taker->notifier)
		ferry_vm_remove_notifier(taker->vm, taker->notifier);
	if (taker->vm)
		ferry_vm_free(taker->vm);
	if (taker->ram)
		ferry_bench_ram_free(taker->ram);
	if (taker->bell >= 0)
		close(taker->bell);
	g_free(taker);
}
