/* SPDX-License-Identifier: BSD-2-Clause */
#include "guest.h"

#include "check.h"
#include "machine.h"

G_STATIC_ASSERT(FERRY_GUEST_VCPUS_MAX == FERRY_VCPUS_MAX);
G_STATIC_ASSERT((guint)FERRY_GUEST_FILL_PAGES == (guint)FERRY_FILL_PAGES);
G_STATIC_ASSERT((guint)FERRY_GUEST_FILL_RANDOM == (guint)FERRY_FILL_RANDOM);
G_STATIC_ASSERT((guint)FERRY_GUEST_FILL_ZERO == (guint)FERRY_FILL_ZERO);
G_STATIC_ASSERT((guint)FERRY_GUEST_FILL_SPARSE == (guint)FERRY_FILL_SPARSE);

#define RAM_BLOCK 0u
#define BEAT_US_MIN 500u
#define BEAT_US_MAX 1000000u

struct FerryGuest {
	FerryMachine *machine;
	FerryVm *vm;
	char *kind_reason;
	gint announced; /* atomic: calls of announce() */
	GMutex lock;    /* serialises starting, stopping and checking the machine */
	gboolean held;  /* under the lock: release_guest() shall start the machine again */
};

/* ---- callbacks ---- */

static gboolean pause_guest(gpointer user, GError **error)
{
	FerryGuest *guest = user;

	g_mutex_lock(&guest->lock);
	ferry_machine_stop(guest->machine);
	g_mutex_unlock(&guest->lock);
	return TRUE;
}

static gboolean resume_guest(gpointer user, GError **error)
{
	FerryGuest *guest = user;
	gboolean ok;

	g_mutex_lock(&guest->lock);
	ok = ferry_machine_start(guest->machine, error);
	g_mutex_unlock(&guest->lock);
	return ok;
}

/* The lock is kept until release_guest(), so that nothing starts the machine in between. */
static gboolean hold_guest(gpointer user, GError **error)
{
	FerryGuest *guest = user;

	g_mutex_lock(&guest->lock);
	guest->held = guest->machine->running;
	ferry_machine_stop(guest->machine);
	return TRUE;
}

static void release_guest(gpointer user)
{
	FerryGuest *guest = user;

	/* A vCPU that broke meanwhile has stopped for good in any case. */
	if (guest->held)
		(void)ferry_machine_start(guest->machine, NULL);
	g_mutex_unlock(&guest->lock);
}

static void throttle_guest(gpointer user, guint percent)
{
	FerryGuest *guest = user;

	ferry_clock_throttle(&guest->machine->clock, percent);
}

static guint vcpu_dirty_pages(gpointer user, guint64 *pages, guint max)
{
	FerryGuest *guest = user;
	const FerryMachine *machine = guest->machine;

	for (guint i = 0; i < MIN(machine->plan.vcpus, max); i++)
		pages[i] = ferry_clock_pages(&machine->clock, i);
	return machine->plan.vcpus;
}

static void throttle_vcpu(gpointer user, guint vcpu, double percent)
{
	FerryGuest *guest = user;

	ferry_clock_throttle_vcpu(&guest->machine->clock, vcpu, percent);
}

static void announce_guest(gpointer user)
{
	FerryGuest *guest = user;

	g_atomic_int_inc(&guest->announced);
}

static guint vcpu_threads(gpointer user, gint32 *ids, guint max)
{
	FerryGuest *guest = user;

	return ferry_vcpus_threads(guest->machine->vcpus, ids, max);
}

/* The clock device's own stores: the KVM log does not see them. */
static void report_write(gpointer user, guint64 address, guint64 bytes)
{
	ferry_vm_mark_dirty(user, RAM_BLOCK, address, bytes);
}

/* ---- construction ---- */

static gboolean check_beat(guint beat_us, GError **error)
{
	if (!beat_us || (beat_us >= BEAT_US_MIN && beat_us <= BEAT_US_MAX))
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_INVALID,
		    "a heartbeat every %u us: may be %u to %u", beat_us, BEAT_US_MIN, BEAT_US_MAX);
	return FALSE;
}

static gboolean make_plan(const FerryGuestConfig *config, FerryPlan *plan, GError **error)
{
	*plan = (FerryPlan){ .seed = config->seed,
			     .fill = config->fill == FERRY_GUEST_FILL_HOLES ? FERRY_FILL_ZERO
									    : config->fill,
			     .vcpus = config->vcpus ? config->vcpus : 1 };
	return ferry_plan_parse_workload(plan, config->workload, error) &&
	       ferry_plan_check(plan, config->ram_size, error);
}

/* Whether it shall be a KVM guest; sets the reason. */
static gboolean choose_kvm(FerryGuest *guest, FerryGuestKind kind)
{
	g_autoptr(GError) why = NULL;
	gboolean kvm = kind == FERRY_GUEST_KVM ||
		       (kind == FERRY_GUEST_AUTO && ferry_kvm_probe(&why));

	if (kvm)
		guest->kind_reason = g_strdup("KVM guest");
	else if (why)
		guest->kind_reason = g_strdup_printf("process guest: %s", why->message);
	else
		guest->kind_reason = g_strdup("process guest");
	return kvm;
}

static gboolean make_machine(FerryGuest *guest, const FerryGuestConfig *config, GError **error)
{
	FerryBacking ram = { .fd = -1 };
	FerryPlan plan;

	if (!make_plan(config, &plan, error) || !check_beat(config->beat_us, error) ||
	    !ferry_backing_open(&ram, config->backing, config->ram_size, error))
		return FALSE;
	if (config->prealloc && !ferry_backing_populate(&ram, error)) {
		ferry_backing_close(&ram);
		return FALSE;
	}
	if (choose_kvm(guest, config->kind))
		guest->machine = ferry_machine_new_kvm(&ram, &plan, error);
	else
		guest->machine = ferry_machine_new_process(&ram, &plan);
	if (!guest->machine) {
		ferry_backing_close(&ram);
		return FALSE;
	}
	guest->machine->clock.beat_us = config->beat_us;
	/* What a named file holds is not known. */
	guest->machine->holes = config->fill == FERRY_GUEST_FILL_HOLES && !ram.named;
	return TRUE;
}

static FerryDirtySource *make_soft_dirty(FerryGuest *guest, GError **error)
{
	static const FerryHoldCallbacks callbacks = { hold_guest, release_guest };

	return ferry_dirty_source_soft_dirty(&callbacks, guest, error);
}

/* Of a process guest. Soft-dirty comes last: it is the one that holds the guest. */
static FerryDirtySource *make_best(FerryGuest *guest, GError **error)
{
	g_autoptr(GError) best = NULL, soft = NULL;
	FerryDirtySource *source = ferry_dirty_source_new(NULL, &best);

	if (!source)
		source = make_soft_dirty(guest, &soft);
	if (!source)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP, "%s; %s", best->message,
			    soft->message);
	return source;
}

static FerryDirtySource *make_dirty_source(FerryGuest *guest, const char *name, GError **error)
{
	const FerryMachine *machine = guest->machine;
	const FerryKvmSlot slot = { .block = RAM_BLOCK, .size = machine->ram.size };
	gboolean best = !name || g_str_equal(name, "auto");
	int kvm_fd = ferry_machine_kvm_fd(machine);

	if (kvm_fd >= 0 && (best || g_str_equal(name, "kvm-log")))
		return ferry_dirty_source_kvm_log(kvm_fd, &slot, 1, error);
	if (!best && g_str_equal(name, "kvm-log")) {
		g_set_error_literal(error, FERRY_ERROR, FERRY_ERROR_INVALID,
				    "the dirty source kvm-log is for KVM guests, and this is none");
		return NULL;
	}
	if (best)
		return make_best(guest, error);
	return g_str_equal(name, "soft-dirty") ? make_soft_dirty(guest, error)
					       : ferry_dirty_source_new(name, error);
}

static gboolean make_vm(FerryGuest *guest, const FerryGuestConfig *config, GError **error)
{
	static const FerryVmCallbacks callbacks = { .pause = pause_guest,
						    .resume = resume_guest,
						    .throttle = throttle_guest,
						    .announce = announce_guest,
						    .vcpu_dirty_pages = vcpu_dirty_pages,
						    .throttle_vcpu = throttle_vcpu,
						    .vcpu_threads = vcpu_threads };
	FerryMachine *machine = guest->machine;
	const FerryBacking *memory = &machine->ram;
	g_autoptr(FerryRam) ram = ferry_ram_new();
	g_autoptr(FerryDevices) devices = ferry_devices_new();
	FerryDirtySource *dirty;

	if (!ferry_ram_add(ram, "ram", memory->host, memory->size, memory->page_size, memory->fd, 0,
			   error) ||
	    (memory->named && !ferry_ram_set_shared(ram, "ram", 0, error)) ||
	    !ferry_machine_register(machine, devices, error))
		return FALSE;
	dirty = make_dirty_source(guest, config->dirty_source, error);
	if (!dirty)
		return FALSE;
	guest->vm = ferry_vm_new(machine->ops->name, g_steal_pointer(&ram),
				 g_steal_pointer(&devices), dirty, &callbacks, guest);
	ferry_vm_set_uuid(guest->vm, config->uuid);
	machine->written = report_write;
	machine->written_user = guest->vm;
	return TRUE;
}

FerryGuest *ferry_guest_new(const FerryGuestConfig *config, GError **error)
{
	g_autoptr(FerryGuest) guest = g_new0(FerryGuest, 1);

	g_mutex_init(&guest->lock);
	if (!make_machine(guest, config, error) || !make_vm(guest, config, error) ||
	    (!config->incoming && !ferry_machine_boot(guest->machine, error)))
		return NULL;
	return g_steal_pointer(&guest);
}

void ferry_guest_free(FerryGuest *guest)
{
	if (!guest)
		return;
	if (guest->machine)
		ferry_machine_stop(guest->machine);
	/* The VM first: its dirty source uses the mapping and the KVM file descriptor. */
	g_clear_pointer(&guest->vm, ferry_vm_free);
	g_clear_pointer(&guest->machine, ferry_machine_free);
	g_mutex_clear(&guest->lock);
	g_free(guest->kind_reason);
	g_free(guest);
}

FerryVm *ferry_guest_vm(FerryGuest *guest)
{
	return guest->vm;
}

const char *ferry_guest_kind_reason(FerryGuest *guest)
{
	return guest->kind_reason;
}

guint ferry_guest_announced(FerryGuest *guest)
{
	return (guint)g_atomic_int_get(&guest->announced);
}

guint64 ferry_guest_written(FerryGuest *guest)
{
	guint64 all = 0;

	for (guint i = 0; i < FERRY_VCPUS_MAX; i++)
		all += ferry_clock_pages(&guest->machine->clock, i);
	return all;
}

void ferry_guest_pulse(FerryGuest *guest, FerryGuestPulse *pulse)
{
	const FerryClock *clock = &guest->machine->clock;

	*pulse = (FerryGuestPulse){ .running = g_atomic_int_get(&clock->running),
				    .beat_us = ferry_clock_beat_us(clock),
				    .written = ferry_guest_written(guest),
				    .n_vcpus = (guint)g_atomic_int_get(&clock->vcpus) };
	for (guint i = 0; i < pulse->n_vcpus; i++)
		pulse->vcpus[i] = ferry_beats_read(&clock->lines[i].beats);
}

/* ---- check ---- */

static gboolean check_locked(FerryGuest *guest, FerryGuestReport *report, GError **error)
{
	FerryMachine *machine = guest->machine;
	gboolean running = machine->running;
	FerryGuestReport result;

	ferry_machine_stop(machine);
	if (!ferry_machine_check(machine, &result, error)) {
		if (running)
			(void)ferry_machine_start(machine, NULL);
		return FALSE;
	}
	/* A broken vCPU cannot go on, and the report says so. */
	if (running && !ferry_machine_start(machine, NULL))
		result.passed = FALSE;
	*report = result;
	return TRUE;
}

gboolean ferry_guest_check(FerryGuest *guest, FerryGuestReport *report, GError **error)
{
	gboolean ok;

	if (ferry_vm_run_state(guest->vm) == FERRY_RUN_STATE_INMIGRATE) {
		g_set_error_literal(error, FERRY_ERROR, FERRY_ERROR_STATE,
				    "there is nothing to check: the guest has not arrived yet");
		return FALSE;
	}
	g_mutex_lock(&guest->lock);
	ok = check_locked(guest, report, error);
	g_mutex_unlock(&guest->lock);
	return ok;
}
