/* SPDX-License-Identifier: BSD-2-Clause */
/* Guests that write faster than their pages can go: what slows them down, and that nothing does any
 * more once the migration is over, whatever its end. */
#include "harness.h"
#include "guest.h"
#include "mini-guest.h"

#include <ferry/ferry.h>

#define MIB 1048576.0
#define PAGES_A_MIB 256.0
#define RAM (16u << 20)
#define LINK (20ull << 20) /* max-bandwidth */
#define RATE 30.0          /* MiB/s that the guest writes: one and a half times as much */
#define WINDOW_US 200000

typedef struct {
	FerryGuest *guest;
	FerrySource *source;
	FerryDestination *destination;
} Side;

typedef struct {
	Side here, there;
	char *uri;
} Pair;

static Side side_new(gboolean incoming, const char *workload, guint vcpus)
{
	const FerryGuestConfig config = { .ram_size = RAM,
					  .kind = FERRY_GUEST_PROCESS,
					  .vcpus = vcpus,
					  .incoming = incoming,
					  .workload = workload,
					  .seed = 3 };
	g_autoptr(GError) error = NULL;
	Side side = { .guest = ferry_guest_new(&config, &error) };

	if (!side.guest)
		g_error("%s", error->message);
	side.source = ferry_source_new(ferry_guest_vm(side.guest), ferry_transports());
	side.destination = ferry_destination_new(ferry_guest_vm(side.guest), ferry_transports());
	return side;
}

static void side_free(Side *side)
{
	ferry_source_free(side->source);
	ferry_destination_free(side->destination);
	ferry_guest_free(side->guest);
}

static void set(Side *side, FerryParameter parameter, guint64 value)
{
	if (!ferry_settings_set_parameter(ferry_vm_settings(ferry_guest_vm(side->guest)), parameter,
					  value, NULL))
		g_assert_not_reached();
}

static void enable(Side *side, FerryCapability capability)
{
	if (!ferry_settings_set_capability(ferry_vm_settings(ferry_guest_vm(side->guest)),
					   capability, TRUE, NULL))
		g_assert_not_reached();
}

static void listen_there(Pair *pair)
{
	g_autoptr(GError) error = NULL;

	if (!ferry_destination_start(pair->there.destination, "tcp:127.0.0.1:0", &error))
		g_error("%s", error->message);
	g_free(pair->uri);
	pair->uri = ferry_destination_uri(pair->there.destination);
}

static Pair pair_new(const char *workload, guint vcpus)
{
	Pair pair = { side_new(FALSE, workload, vcpus), side_new(TRUE, NULL, 0), NULL };

	set(&pair.here, FERRY_PARAMETER_MAX_BANDWIDTH, LINK);
	/* The last pages are not held to that; here they shall count as if they were. */
	set(&pair.here, FERRY_PARAMETER_AVAIL_SWITCHOVER_BANDWIDTH, LINK);
	if (!ferry_vm_start(ferry_guest_vm(pair.here.guest), NULL))
		g_assert_not_reached();
	listen_there(&pair);
	return pair;
}

static void pair_free(Pair *pair)
{
	side_free(&pair->here);
	side_free(&pair->there);
	g_free(pair->uri);
}

static gboolean migrate(Pair *pair)
{
	g_autoptr(GError) error = NULL;

	if (ferry_source_migrate(pair->here.source, pair->uri, &error))
		return TRUE;
	printf("# %s\n", error->message);
	return FALSE;
}

/* What query-migrate shows of it. */
typedef struct {
	FerryState state;
	guint percent;
	guint64 held_us;
	guint64 collects;
} Seen;

static Seen look(const Pair *pair)
{
	FerryMigrationStatus status;
	Seen seen;

	ferry_source_get_status(pair->here.source, &status);
	seen = (Seen){ status.state, status.throttle_percentage, status.dirty_limit_throttle_us,
		       status.ram.dirty_sync_count };
	ferry_migration_status_clear(&status);
	return seen;
}

/* MiB/s that the guest writes, over a window. */
static double writing_rate(FerryGuest *guest)
{
	guint64 before = ferry_guest_written(guest);
	gint64 begin = g_get_monotonic_time();

	g_usleep(WINDOW_US);
	return (ferry_guest_written(guest) - before) / PAGES_A_MIB * 1e6 /
	       (g_get_monotonic_time() - begin);
}

/* Whether it is back at full speed within a second. */
static gboolean is_fast(FerryGuest *guest)
{
	gint64 begin = g_get_monotonic_time();
	double rate;

	do {
		rate = writing_rate(guest);
		if (rate > 0.75 * RATE) {
			printf("# %.1f MiB/s after %.1f s\n", rate,
			       (g_get_monotonic_time() - begin) / 1e6);
			return TRUE;
		}
	} while (g_get_monotonic_time() - begin < G_TIME_SPAN_SECOND);
	printf("# still %.1f of %.1f MiB/s\n", rate, RATE);
	return FALSE;
}

static gboolean is_throttled(gpointer user)
{
	Seen seen = look(user);

	return seen.percent > 0 || seen.held_us > 0 ||
	       (seen.state != FERRY_STATE_SETUP && seen.state != FERRY_STATE_ACTIVE);
}

static gboolean has_gone_round(gpointer user)
{
	Seen seen = look(user);

	return seen.collects >= 5 || seen.state == FERRY_STATE_COMPLETED;
}

static gboolean is_right(FerryGuest *guest)
{
	FerryGuestReport report;

	return ferry_guest_check(guest, &report, NULL) && report.passed;
}

/* The percentages of a migration, as a client sees them. */
typedef struct {
	guint first, last;
	guint64 first_at; /* collects until the first */
	gboolean fell;    /* one was below the one before */
} Course;

static Course follow(Pair *pair)
{
	Course course = { 0 };
	gint64 deadline = g_get_monotonic_time() + 60 * G_TIME_SPAN_SECOND;
	Seen seen;

	do {
		seen = look(pair);
		if (seen.percent && !course.first) {
			course.first = seen.percent;
			course.first_at = seen.collects;
		}
		if (seen.percent) {
			course.fell |= seen.percent < course.last;
			course.last = seen.percent;
		}
		g_usleep(2000);
	} while ((seen.state == FERRY_STATE_SETUP || seen.state == FERRY_STATE_ACTIVE ||
		  seen.state == FERRY_STATE_DEVICE || seen.state == FERRY_STATE_HANDOVER) &&
		 g_get_monotonic_time() < deadline);
	printf("# throttled from %u %% to %u %%, first after %" G_GUINT64_FORMAT " collects\n",
	       course.first, course.last, course.first_at);
	return course;
}

/* ---- auto-converge ---- */

static void auto_converge__guest_faster_than_the_link__arrives(void)
{
	Pair pair = pair_new("sweep:30", 1);
	Course course;

	enable(&pair.here, FERRY_CAPABILITY_AUTO_CONVERGE);
	set(&pair.here, FERRY_PARAMETER_CPU_THROTTLE_INITIAL, 15);
	set(&pair.here, FERRY_PARAMETER_CPU_THROTTLE_INCREMENT, 25);
	set(&pair.here, FERRY_PARAMETER_MAX_CPU_THROTTLE, 80);
	if (!migrate(&pair)) {
		CU_FAIL("refused");
		return pair_free(&pair);
	}
	course = follow(&pair);
	CU_ASSERT_EQUAL(ferry_source_wait(pair.here.source), FERRY_STATE_COMPLETED);
	/* Not in the first pass, and then twice in a row. */
	CU_ASSERT(course.first_at >= 3);
	CU_ASSERT_EQUAL(course.first, 15);
	CU_ASSERT(course.last >= course.first && course.last <= 80);
	CU_ASSERT_FALSE(course.fell);
	CU_ASSERT_EQUAL(look(&pair).percent, 0);
	CU_ASSERT_EQUAL(ferry_destination_wait(pair.there.destination), FERRY_STATE_COMPLETED);
	CU_ASSERT(is_fast(pair.there.guest));
	CU_ASSERT(is_right(pair.there.guest));
	pair_free(&pair);
}

/* The same without it goes round for ever; then with it, cancelled, and tried again. */
static void auto_converge__cancelled__full_speed_and_the_next_try_arrives(void)
{
	Pair pair = pair_new("sweep:30", 1);

	CU_ASSERT(migrate(&pair));
	CU_ASSERT(mini_guest_await(has_gone_round, &pair, 20000));
	CU_ASSERT_EQUAL(look(&pair).state, FERRY_STATE_ACTIVE);
	CU_ASSERT_EQUAL(look(&pair).percent, 0);
	ferry_source_cancel(pair.here.source);
	CU_ASSERT_EQUAL(ferry_source_wait(pair.here.source), FERRY_STATE_CANCELLED);

	enable(&pair.here, FERRY_CAPABILITY_AUTO_CONVERGE);
	set(&pair.here, FERRY_PARAMETER_CPU_THROTTLE_INITIAL, 85);
	for (guint i = 0; i < 2; i++) {
		ferry_destination_wait(pair.there.destination);
		listen_there(&pair);
		CU_ASSERT(migrate(&pair));
		CU_ASSERT(mini_guest_await(is_throttled, &pair, 20000));
		CU_ASSERT_EQUAL(look(&pair).percent, 85);
		if (i == 0) {
			ferry_source_cancel(pair.here.source);
			CU_ASSERT_EQUAL(ferry_source_wait(pair.here.source), FERRY_STATE_CANCELLED);
			CU_ASSERT_EQUAL(look(&pair).percent, 0);
			CU_ASSERT(is_fast(pair.here.guest));
		}
	}
	CU_ASSERT_EQUAL(ferry_source_wait(pair.here.source), FERRY_STATE_COMPLETED);
	CU_ASSERT_EQUAL(ferry_destination_wait(pair.there.destination), FERRY_STATE_COMPLETED);
	CU_ASSERT(is_right(pair.there.guest));
	pair_free(&pair);
}

static void auto_converge__destination_dies__full_speed(void)
{
	Pair pair = pair_new("sweep:30", 1);

	enable(&pair.here, FERRY_CAPABILITY_AUTO_CONVERGE);
	set(&pair.here, FERRY_PARAMETER_CPU_THROTTLE_INITIAL, 95);
	set(&pair.here, FERRY_PARAMETER_DOWNTIME_LIMIT, 0);
	CU_ASSERT(migrate(&pair));
	CU_ASSERT(mini_guest_await(is_throttled, &pair, 20000));
	CU_ASSERT(look(&pair).percent >= 95);
	g_clear_pointer(&pair.there.destination, ferry_destination_free);
	CU_ASSERT_EQUAL(ferry_source_wait(pair.here.source), FERRY_STATE_FAILED);
	CU_ASSERT_EQUAL(look(&pair).percent, 0);
	CU_ASSERT(is_fast(pair.here.guest));
	CU_ASSERT(is_right(pair.here.guest));
	pair_free(&pair);
}

static gboolean is_capped(gpointer user)
{
	return look(user).percent == 40;
}

static void auto_converge__parameters_changed_on_the_way__next_round_has_them(void)
{
	Pair pair = pair_new("sweep:30", 1);

	enable(&pair.here, FERRY_CAPABILITY_AUTO_CONVERGE);
	set(&pair.here, FERRY_PARAMETER_CPU_THROTTLE_INITIAL, 95);
	set(&pair.here, FERRY_PARAMETER_DOWNTIME_LIMIT, 0);
	CU_ASSERT(migrate(&pair));
	CU_ASSERT(mini_guest_await(is_throttled, &pair, 20000));
	set(&pair.here, FERRY_PARAMETER_CPU_THROTTLE_INITIAL, 20);
	set(&pair.here, FERRY_PARAMETER_MAX_CPU_THROTTLE, 40);
	CU_ASSERT(mini_guest_await(is_capped, &pair, 10000));
	set(&pair.here, FERRY_PARAMETER_MAX_BANDWIDTH, 0);
	set(&pair.here, FERRY_PARAMETER_DOWNTIME_LIMIT, 2000);
	CU_ASSERT_EQUAL(ferry_source_wait(pair.here.source), FERRY_STATE_COMPLETED);
	pair_free(&pair);
}

/* ---- dirty-limit ---- */

static void dirty_limit__both_vcpus_above__come_down_to_it(void)
{
	Pair pair = pair_new("sweep:30", 2);
	gint64 deadline;
	double rate;

	enable(&pair.here, FERRY_CAPABILITY_DIRTY_LIMIT);
	set(&pair.here, FERRY_PARAMETER_VCPU_DIRTY_LIMIT, 4);
	set(&pair.here, FERRY_PARAMETER_VCPU_DIRTY_LIMIT_PERIOD, 200);
	set(&pair.here, FERRY_PARAMETER_DOWNTIME_LIMIT, 0);
	CU_ASSERT(migrate(&pair));
	CU_ASSERT(mini_guest_await(is_throttled, &pair, 20000));
	CU_ASSERT_EQUAL(look(&pair).percent, 0);
	/* It was seen after the first of three periods. */
	g_usleep(2 * 200000);
	deadline = g_get_monotonic_time() + 2 * G_TIME_SPAN_SECOND;
	do
		rate = (writing_rate(pair.here.guest) + writing_rate(pair.here.guest)) / 2;
	while ((rate < 0.8 * 8 || rate > 1.2 * 8) && g_get_monotonic_time() < deadline);
	printf("# %.2f MiB/s for a limit of 4 a vCPU, held up for %" G_GUINT64_FORMAT
	       " of 200000 us\n",
	       rate, look(&pair).held_us);
	CU_ASSERT(rate > 0.8 * 8 && rate < 1.2 * 8);
	CU_ASSERT(look(&pair).held_us > 100000 && look(&pair).held_us < 200000);
	set(&pair.here, FERRY_PARAMETER_DOWNTIME_LIMIT, 300);
	CU_ASSERT_EQUAL(ferry_source_wait(pair.here.source), FERRY_STATE_COMPLETED);
	CU_ASSERT_EQUAL(look(&pair).held_us, 0);
	CU_ASSERT_EQUAL(ferry_destination_wait(pair.there.destination), FERRY_STATE_COMPLETED);
	CU_ASSERT(is_fast(pair.there.guest));
	CU_ASSERT(is_right(pair.there.guest));
	pair_free(&pair);
}

static void dirty_limit__cancelled__full_speed(void)
{
	Pair pair = pair_new("sweep:30", 2);

	enable(&pair.here, FERRY_CAPABILITY_DIRTY_LIMIT);
	set(&pair.here, FERRY_PARAMETER_VCPU_DIRTY_LIMIT_PERIOD, 50);
	set(&pair.here, FERRY_PARAMETER_DOWNTIME_LIMIT, 0);
	CU_ASSERT(migrate(&pair));
	CU_ASSERT(mini_guest_await(is_throttled, &pair, 20000));
	ferry_source_cancel(pair.here.source);
	CU_ASSERT_EQUAL(ferry_source_wait(pair.here.source), FERRY_STATE_CANCELLED);
	CU_ASSERT_EQUAL(look(&pair).held_us, 0);
	CU_ASSERT(is_fast(pair.here.guest));
	pair_free(&pair);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(auto_converge__guest_faster_than_the_link__arrives),
		CASE(auto_converge__cancelled__full_speed_and_the_next_try_arrives),
		CASE(auto_converge__destination_dies__full_speed),
		CASE(auto_converge__parameters_changed_on_the_way__next_round_has_them),
		CASE(dirty_limit__both_vcpus_above__come_down_to_it),
		CASE(dirty_limit__cancelled__full_speed),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "throttle", cases);
}
