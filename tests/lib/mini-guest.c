/* SPDX-License-Identifier: BSD-2-Clause */
#include "mini-guest.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

static gint running_now, running_most; /* atomics, of all guests */

static void count_running(gint change)
{
	gint now = g_atomic_int_add(&running_now, change) + change, most;

	do {
		most = g_atomic_int_get(&running_most);
	} while (now > most && !g_atomic_int_compare_and_exchange(&running_most, most, now));
}

gint mini_guest_most_running(void)
{
	gint most = g_atomic_int_get(&running_most);

	g_atomic_int_set(&running_most, g_atomic_int_get(&running_now));
	return most;
}

static const FerryVmstateField fields[] = {
	{ .name = "counter",
	  .kind = FERRY_VMSTATE_U64,
	  .shape = FERRY_VMSTATE_SINGLE,
	  .offset = 0,
	  .size = 8,
	  .count = 1 },
	{ .name = "seed",
	  .kind = FERRY_VMSTATE_U64,
	  .shape = FERRY_VMSTATE_SINGLE,
	  .offset = 8,
	  .size = 8,
	  .count = 1 },
	FERRY_VMSTATE_END,
};

static gboolean take_state(gpointer opaque, guint32 version_id, GError **error)
{
	MiniGuest *guest = (MiniGuest *)((guint8 *)opaque - G_STRUCT_OFFSET(MiniGuest, state));

	if (guest->load_reads)
		guest->loaded = *(volatile guint64 *)(guest->ram + guest->load_reads);
	if (!g_atomic_int_get(&guest->refuse_load))
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_DEVICE, "this counter is not wanted");
	return FALSE;
}

static const FerryVmstate state_vmstate = {
	.name = "mini-guest",
	.post_load = take_state,
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = fields,
};

/* The page and the value of store number @n: the guest's whole history follows from its counter. */
static guint64 mix(guint64 n)
{
	n ^= n >> 31;
	n *= 0x9e3779b97f4a7c15u;
	return n ^ (n >> 29);
}

/* A guest writes RAM while it is read to be sent: that race is the design, and made right by the
 * dirty source. */
static __attribute__((no_sanitize("thread"))) gpointer write_pages(gpointer data)
{
	MiniGuest *guest = data;
	guint64 pages = guest->size >> FERRY_PAGE_SHIFT;

	g_atomic_int_set(&guest->thread_id, gettid());
	while (!g_atomic_int_get(&guest->stop)) {
		for (guint i = 0; i < 64; i++) {
			guint64 n = guest->state.counter++,
				page = mix(n ^ guest->state.seed) % pages;

			*(volatile guint64 *)(guest->ram + (page << FERRY_PAGE_SHIFT) +
					      n % 512 * 8) = n;
		}
		g_usleep(200 * 100 / (100 - g_atomic_int_get(&guest->throttled)));
	}
	return NULL;
}

static gboolean pause_guest(gpointer user, GError **error)
{
	MiniGuest *guest = user;

	g_atomic_int_set(&guest->stop, 1);
	if (guest->thread)
		g_thread_join(g_steal_pointer(&guest->thread));
	if (g_atomic_int_compare_and_exchange(&guest->running, 1, 0))
		count_running(-1);
	return TRUE;
}

static gboolean resume_idle(gpointer user, GError **error)
{
	MiniGuest *guest = user;

	if (g_atomic_int_get(&guest->refuse_resume)) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO, "the vCPUs do not start");
		return FALSE;
	}
	g_atomic_int_set(&guest->running, 1);
	count_running(1);
	return TRUE;
}

static gboolean resume_writing(gpointer user, GError **error)
{
	MiniGuest *guest = user;

	if (!resume_idle(user, error))
		return FALSE;
	g_atomic_int_set(&guest->stop, 0);
	guest->thread = g_thread_new("mini-guest", write_pages, guest);
	return TRUE;
}

static guint vcpu_threads(gpointer user, gint32 *ids, guint max)
{
	MiniGuest *guest = user;

	if (!guest->thread)
		return 0;
	while (!(*ids = g_atomic_int_get(&guest->thread_id)))
		g_usleep(100);
	return 1;
}

static void throttle(gpointer user, guint percent)
{
	g_atomic_int_set(&((MiniGuest *)user)->throttled, percent);
}

static void throttle_vcpu(gpointer user, guint vcpu, double percent)
{
	throttle(user, (guint)percent);
}

/* A store may hit a page that is dirty already: never fewer than the pages. */
static __attribute__((no_sanitize("thread"))) guint vcpu_dirty_pages(gpointer user, guint64 *pages,
								     guint max)
{
	pages[0] = *(volatile guint64 *)&((MiniGuest *)user)->state.counter;
	return 1;
}

static void announce(gpointer user)
{
	g_atomic_int_inc(&((MiniGuest *)user)->announced);
}

MiniGuest *mini_guest_new(const MiniGuestConfig *config)
{
	FerryVmCallbacks callbacks = { .pause = pause_guest,
				       .resume = config->write ? resume_writing : resume_idle,
				       .announce = announce,
				       .vcpu_threads = vcpu_threads };
	const FerryTransport *const *transports = config->transports ? config->transports
								     : ferry_transports();
	MiniGuest *guest = g_new0(MiniGuest, 1);
	g_autoptr(FerryDevices) devices = ferry_devices_new();
	g_autoptr(FerryRam) ram = ferry_ram_new();
	FerryDirtySource *dirty = NULL;

	if (config->throttles) {
		callbacks.throttle = throttle;
		callbacks.throttle_vcpu = throttle_vcpu;
		callbacks.vcpu_dirty_pages = vcpu_dirty_pages;
	}
	guest->size = config->ram_size ? config->ram_size : 16u << 20;
	if (config->file)
		guest->fd = open(config->file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	else
		guest->fd = config->anonymous ? -1 : memfd_create("mini-guest", MFD_CLOEXEC);
	g_assert(config->anonymous || ftruncate(guest->fd, guest->size) == 0);
	guest->ram = mmap(NULL, guest->size, PROT_READ | PROT_WRITE,
			  config->anonymous      ? MAP_PRIVATE | MAP_ANONYMOUS
			  : config->private_file ? MAP_PRIVATE
						 : MAP_SHARED,
			  guest->fd, 0);
	g_assert(guest->ram != MAP_FAILED);
	if (!ferry_ram_add(ram, config->block ? config->block : "ram", guest->ram, guest->size,
			   FERRY_PAGE_SIZE, config->private_file ? -1 : guest->fd, 0, NULL) ||
	    (config->file && !ferry_ram_set_shared(ram, "ram", config->guest_address, NULL)) ||
	    !ferry_devices_register(devices, &state_vmstate, 0, &guest->state, NULL))
		g_assert_not_reached();
	if (!config->no_dirty_source) {
		dirty = ferry_dirty_source_new(NULL, NULL);
		g_assert(dirty);
	}
	guest->vm = ferry_vm_new(config->machine ? config->machine : "mini", g_steal_pointer(&ram),
				 g_steal_pointer(&devices), dirty, &callbacks, guest);
	guest->source = ferry_source_new(guest->vm, transports);
	guest->destination = ferry_destination_new(guest->vm, transports);
	return guest;
}

void mini_guest_free(MiniGuest *guest)
{
	ferry_source_free(guest->source);
	ferry_destination_free(guest->destination);
	pause_guest(guest, NULL);
	ferry_vm_free(guest->vm);
	munmap(guest->ram, guest->size);
	if (guest->fd >= 0)
		close(guest->fd);
	g_free(guest);
}

char *mini_guest_listen(MiniGuest *guest, const char *uri)
{
	g_autoptr(GError) error = NULL;

	if (!ferry_destination_start(guest->destination, uri, &error))
		g_error("%s", error->message);
	return ferry_destination_uri(guest->destination);
}

gboolean mini_guest_same_ram(const MiniGuest *a, const MiniGuest *b)
{
	return a->size == b->size && memcmp(a->ram, b->ram, a->size) == 0 &&
	       a->state.counter == b->state.counter;
}

gboolean mini_guest_is_right(const MiniGuest *guest)
{
	guint8 *shadow = mmap(NULL, guest->size, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	guint64 pages = guest->size >> FERRY_PAGE_SHIFT;
	gboolean right;

	g_assert(shadow != MAP_FAILED);
	for (guint64 n = 0; n < guest->state.counter; n++)
		*(guint64 *)(shadow + (mix(n ^ guest->state.seed) % pages << FERRY_PAGE_SHIFT) +
			     n % 512 * 8) = n;
	right = memcmp(guest->ram, shadow, guest->size) == 0;
	munmap(shadow, guest->size);
	return right;
}

gboolean mini_guest_await(gboolean (*holds)(gpointer user), gpointer user, guint timeout_ms)
{
	gint64 deadline = g_get_monotonic_time() + timeout_ms * G_TIME_SPAN_MILLISECOND;

	while (!holds(user)) {
		if (g_get_monotonic_time() > deadline)
			return FALSE;
		g_usleep(500);
	}
	return TRUE;
}
