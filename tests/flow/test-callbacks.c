/* SPDX-License-Identifier: BSD-2-Clause */
/* What a monitor's callbacks for throttling and announcing see of a migration, and what is refused
 * without them. */
#include "harness.h"
#include "mini-guest.h"

#include <ferry/ferry.h>

#define PAGES_A_MIB 256.0

/* ---- dirty-limit ---- */

/* A guest of a few pages whose vCPUs are counters: vCPU 0 dirties 64 MiB/s, vCPU 1 half a MiB/s,
 * and vCPU 0 as much less as it is throttled. Its dirty log says that all of RAM was written, so
 * that it never converges. */
typedef struct {
	guint8 *ram;
	FerryVm *vm;
	FerrySource *source;
	gint64 begin_us;
	GMutex lock;
	gint64 counted_us; /* vCPU 0 was counted up to here */
	double pages, left;
	double most[2]; /* percent that was taken from each, at most */
	guint calls;
} Odd;

#define ODD_RAM (4u << 20)

static gboolean agree(gpointer user, GError **error)
{
	return TRUE;
}

static gboolean odd_start(const FerryRam *ram, gpointer user, GError **error)
{
	return TRUE;
}

static gboolean odd_collect(guint block, guint64 *bits, gpointer user, GError **error)
{
	memset(bits, 0xff, ODD_RAM / FERRY_PAGE_SIZE / 8);
	return TRUE;
}

static void odd_stop(gpointer user)
{
}

/* With the lock held. */
static void odd_count(Odd *odd)
{
	gint64 now = g_get_monotonic_time();

	odd->pages += (now - odd->counted_us) / 1e6 * 64 * PAGES_A_MIB * odd->left;
	odd->counted_us = now;
}

static guint odd_dirty_pages(gpointer user, guint64 *pages, guint max)
{
	Odd *odd = user;

	g_mutex_lock(&odd->lock);
	odd_count(odd);
	pages[0] = (guint64)odd->pages;
	pages[1] = (guint64)((odd->counted_us - odd->begin_us) / 1e6 * PAGES_A_MIB / 2);
	g_mutex_unlock(&odd->lock);
	return 2;
}

static void odd_throttle_vcpu(gpointer user, guint vcpu, double percent)
{
	Odd *odd = user;

	g_mutex_lock(&odd->lock);
	odd_count(odd);
	if (vcpu == 0)
		odd->left = 1 - percent / 100;
	odd->most[vcpu] = MAX(odd->most[vcpu], percent);
	odd->calls++;
	g_mutex_unlock(&odd->lock);
}

static Odd *odd_new(gboolean can_limit)
{
	static const FerryDirtyCallbacks log = { odd_start, odd_collect, odd_stop };
	const FerryVmCallbacks callbacks = {
		.pause = agree,
		.resume = agree,
		.vcpu_dirty_pages = odd_dirty_pages,
		.throttle_vcpu = can_limit ? odd_throttle_vcpu : NULL,
	};
	FerryRam *ram = ferry_ram_new();
	Odd *odd = g_new0(Odd, 1);

	odd->ram = g_malloc0(ODD_RAM + FERRY_PAGE_SIZE);
	odd->left = 1;
	odd->begin_us = odd->counted_us = g_get_monotonic_time();
	g_mutex_init(&odd->lock);
	if (!ferry_ram_add(ram, "ram",
			   odd->ram + FERRY_PAGE_SIZE - (gsize)odd->ram % FERRY_PAGE_SIZE, ODD_RAM,
			   FERRY_PAGE_SIZE, -1, 0, NULL))
		g_assert_not_reached();
	memset(odd->ram, 0x5a, ODD_RAM + FERRY_PAGE_SIZE);
	odd->vm = ferry_vm_new("odd", ram, ferry_devices_new(),
			       ferry_dirty_source_callback(&log, odd), &callbacks, odd);
	odd->source = ferry_source_new(odd->vm, ferry_transports());
	if (!ferry_vm_start(odd->vm, NULL))
		g_assert_not_reached();
	return odd;
}

static void odd_free(Odd *odd)
{
	ferry_source_free(odd->source);
	ferry_vm_free(odd->vm);
	g_mutex_clear(&odd->lock);
	g_free(odd->ram);
	g_free(odd);
}

static double odd_rate(Odd *odd)
{
	double rate;

	g_mutex_lock(&odd->lock);
	rate = 64 * odd->left;
	g_mutex_unlock(&odd->lock);
	return rate;
}

static gboolean odd_is_limited(gpointer user)
{
	double rate = odd_rate(user);

	return rate > 0.8 * 10 && rate < 1.2 * 10;
}

static void dirty_limit__one_vcpu_above__only_it_is_slowed_down(void)
{
	Odd *odd = odd_new(TRUE);
	FerrySettings *settings = ferry_vm_settings(odd->vm);

	CU_ASSERT(
		ferry_settings_set_capability(settings, FERRY_CAPABILITY_DIRTY_LIMIT, TRUE, NULL));
	CU_ASSERT(
		ferry_settings_set_parameter(settings, FERRY_PARAMETER_VCPU_DIRTY_LIMIT, 10, NULL));
	CU_ASSERT(ferry_settings_set_parameter(settings, FERRY_PARAMETER_VCPU_DIRTY_LIMIT_PERIOD,
					       100, NULL));
	CU_ASSERT(ferry_settings_set_parameter(settings, FERRY_PARAMETER_MAX_BANDWIDTH, 8 << 20,
					       NULL));
	CU_ASSERT(ferry_settings_set_parameter(settings, FERRY_PARAMETER_DOWNTIME_LIMIT, 0, NULL));
	CU_ASSERT(ferry_source_migrate(odd->source, "file:/dev/null", NULL));
	CU_ASSERT(mini_guest_await(odd_is_limited, odd, 20000));
	/* And stays there. */
	g_usleep(500000);
	CU_ASSERT(odd_is_limited(odd));
	CU_ASSERT_EQUAL(odd->most[1], 0);
	ferry_source_cancel(odd->source);
	CU_ASSERT_EQUAL(ferry_source_wait(odd->source), FERRY_STATE_CANCELLED);
	CU_ASSERT_DOUBLE_EQUAL(odd_rate(odd), 64, 1e-9);
	odd_free(odd);
}

static void throttle__monitor_without_the_callback__refused_with_the_reason(void)
{
	const FerryCapability capabilities[] = { FERRY_CAPABILITY_AUTO_CONVERGE,
						 FERRY_CAPABILITY_DIRTY_LIMIT };
	Odd *odd = odd_new(FALSE);

	for (guint i = 0; i < G_N_ELEMENTS(capabilities); i++) {
		FerrySettings *settings = ferry_vm_settings(odd->vm);
		g_autoptr(GError) error = NULL;

		CU_ASSERT(ferry_settings_set_capability(settings, capabilities[i], TRUE, NULL));
		CU_ASSERT_FALSE(ferry_source_migrate(odd->source, "file:/dev/null", &error));
		CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_INVALID));
		CU_ASSERT(error &&
			  strstr(error->message, ferry_capability_info(capabilities[i])->name));
		CU_ASSERT_EQUAL(ferry_source_state(odd->source), FERRY_STATE_NONE);
		CU_ASSERT(ferry_settings_set_capability(settings, capabilities[i], FALSE, NULL));
	}
	odd_free(odd);
}

/* ---- announcements ---- */

typedef struct {
	MiniGuest *here, *there;
} Pair;

static Pair pair_new(guint64 rounds, guint64 initial, guint64 step)
{
	Pair pair = { mini_guest_new(&(MiniGuestConfig){ 0 }),
		      mini_guest_new(&(MiniGuestConfig){ 0 }) };
	FerrySettings *settings = ferry_vm_settings(pair.there->vm);

	CU_ASSERT(ferry_settings_set_parameter(settings, FERRY_PARAMETER_ANNOUNCE_ROUNDS, rounds,
					       NULL));
	CU_ASSERT(ferry_settings_set_parameter(settings, FERRY_PARAMETER_ANNOUNCE_INITIAL, initial,
					       NULL));
	CU_ASSERT(
		ferry_settings_set_parameter(settings, FERRY_PARAMETER_ANNOUNCE_STEP, step, NULL));
	CU_ASSERT(ferry_vm_start(pair.here->vm, NULL));
	return pair;
}

static void pair_free(Pair *pair)
{
	mini_guest_free(pair->here);
	mini_guest_free(pair->there);
}

static gboolean move(Pair *pair)
{
	g_autofree char *uri = mini_guest_listen(pair->there, "tcp:127.0.0.1:0");

	return ferry_source_migrate(pair->here->source, uri, NULL) &&
	       ferry_source_wait(pair->here->source) == FERRY_STATE_COMPLETED;
}

static gboolean is_announced(gpointer user)
{
	return g_atomic_int_get(&((Pair *)user)->there->announced) >= 3;
}

static void arrival__running_or_paused__announced_so_often(void)
{
	for (guint paused = 0; paused < 2; paused++) {
		Pair pair = pair_new(3, 30, 30);
		gint64 begin = g_get_monotonic_time();

		CU_ASSERT(!paused || ferry_vm_stop(pair.here->vm, NULL));
		CU_ASSERT(move(&pair));
		CU_ASSERT(mini_guest_await(is_announced, &pair, 10000));
		CU_ASSERT(g_get_monotonic_time() - begin >= (30 + 60) * G_TIME_SPAN_MILLISECOND);
		CU_ASSERT_EQUAL(g_atomic_int_get(&pair.here->announced), 0);
		pair_free(&pair);
	}
}

static void announce__again__as_asked_and_only_where_the_guest_is(void)
{
	const FerryAnnouncement three = { .rounds = 3 }, many = { .rounds = 1001 };
	Pair pair = pair_new(0, 50, 100);
	g_autoptr(GError) error = NULL;

	CU_ASSERT(move(&pair));
	CU_ASSERT_FALSE(ferry_destination_announce(pair.here->destination, NULL, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_STATE));
	g_clear_error(&error);
	CU_ASSERT_FALSE(ferry_destination_announce(pair.there->destination, &many, &error));
	CU_ASSERT(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_INVALID));
	CU_ASSERT_EQUAL(g_atomic_int_get(&pair.there->announced), 0);
	CU_ASSERT(ferry_destination_announce(pair.there->destination, &three, NULL));
	CU_ASSERT(mini_guest_await(is_announced, &pair, 10000));
	pair_free(&pair);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(dirty_limit__one_vcpu_above__only_it_is_slowed_down),
		CASE(throttle__monitor_without_the_callback__refused_with_the_reason),
		CASE(arrival__running_or_paused__announced_so_often),
		CASE(announce__again__as_asked_and_only_where_the_guest_is),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "callbacks", cases);
}
