/* SPDX-License-Identifier: BSD-2-Clause */
/* What the one table of states promises, whatever rows it gains. */
#include "harness.h"
#include "engine/state-table.h"

static gboolean allows(FerryState from, FerryState to)
{
	return ferry_state_allows(FERRY_SIDE_SOURCE, from, to);
}

static void states__all__have_names_of_their_own(void)
{
	for (guint i = 0; i < FERRY_STATE__N; i++) {
		CU_ASSERT_PTR_NOT_NULL(ferry_state_name(i));
		for (guint j = 0; j < i; j++)
			CU_ASSERT_STRING_NOT_EQUAL(ferry_state_name(i), ferry_state_name(j));
	}
}

static void source__in_handover__ends_only_by_an_answer(void)
{
	for (guint to = 0; to < FERRY_STATE__N; to++)
		CU_ASSERT_EQUAL(allows(FERRY_STATE_HANDOVER, to),
				to == FERRY_STATE_COMPLETED || to == FERRY_STATE_HANDOVER_LOST);
	CU_ASSERT_FALSE(ferry_state_guest_may_run(FERRY_STATE_HANDOVER));
	CU_ASSERT_FALSE(ferry_state_guest_may_run(FERRY_STATE_HANDOVER_LOST));
	CU_ASSERT_FALSE(ferry_state_guest_may_run(FERRY_STATE_COMPLETED));
}

/* From the first byte of the commit the guest is the destination's: no trouble gives it back. */
static void source__in_postcopy__pauses_but_never_fails(void)
{
	static const FerryState postcopy[] = { FERRY_STATE_POSTCOPY_ACTIVE,
					       FERRY_STATE_POSTCOPY_PAUSED,
					       FERRY_STATE_POSTCOPY_RECOVER };

	for (guint i = 0; i < G_N_ELEMENTS(postcopy); i++) {
		CU_ASSERT_FALSE(ferry_state_guest_may_run(postcopy[i]));
		CU_ASSERT_TRUE(ferry_state_is_busy(postcopy[i]));
		for (guint to = 0; to < FERRY_STATE__N; to++)
			CU_ASSERT(!allows(postcopy[i], to) || !ferry_state_guest_may_run(to));
	}
	for (guint from = 0; from < FERRY_STATE__N; from++)
		CU_ASSERT_EQUAL(allows(from, FERRY_STATE_POSTCOPY_ACTIVE),
				from == FERRY_STATE_DEVICE || from == FERRY_STATE_POSTCOPY_RECOVER);
}

/* READY was said, and then came the commit, on this connection or on one that recovers. */
static void destination__to_postcopy__only_when_all_is_loaded(void)
{
	for (guint from = 0; from < FERRY_STATE__N; from++) {
		CU_ASSERT_EQUAL(ferry_state_allows(FERRY_SIDE_DESTINATION, from,
						   FERRY_STATE_POSTCOPY_ACTIVE),
				from == FERRY_STATE_HANDOVER ||
					from == FERRY_STATE_POSTCOPY_RECOVER);
		CU_ASSERT_EQUAL(ferry_state_allows(FERRY_SIDE_DESTINATION, from,
						   FERRY_STATE_POSTCOPY_RECOVER),
				from == FERRY_STATE_HANDOVER_LOST ||
					from == FERRY_STATE_POSTCOPY_PAUSED);
	}
}

/* Cancel is for the time before the commit, and for all of it. */
static void source__before_the_commit__can_be_cancelled(void)
{
	for (guint from = 0; from < FERRY_STATE__N; from++) {
		gboolean before = from == FERRY_STATE_SETUP || from == FERRY_STATE_ACTIVE ||
				  from == FERRY_STATE_PRE_SWITCHOVER || from == FERRY_STATE_DEVICE;

		CU_ASSERT_EQUAL(allows(from, FERRY_STATE_CANCELLING), before);
	}
}

static void source__failed_or_cancelled__guest_may_run_and_next_may_begin(void)
{
	static const FerryState ends[] = { FERRY_STATE_NONE, FERRY_STATE_FAILED,
					   FERRY_STATE_CANCELLED };

	for (guint i = 0; i < G_N_ELEMENTS(ends); i++) {
		CU_ASSERT_TRUE(ferry_state_guest_may_run(ends[i]));
		CU_ASSERT_FALSE(ferry_state_is_busy(ends[i]));
		CU_ASSERT_TRUE(allows(ends[i], FERRY_STATE_SETUP));
	}
	CU_ASSERT_TRUE(ferry_state_is_busy(FERRY_STATE_HANDOVER_LOST));
}

static void states__of_the_source__can_all_be_reached(void)
{
	guint reached = 1u << FERRY_STATE_NONE, before;

	do {
		before = reached;
		for (guint from = 0; from < FERRY_STATE__N; from++)
			for (guint to = 0; to < FERRY_STATE__N; to++)
				if ((reached & 1u << from) && allows(from, to))
					reached |= 1u << to;
	} while (reached != before);
	CU_ASSERT_EQUAL(reached, (1u << FERRY_STATE__N) - 1);
}

static void run_states__names__go_both_ways(void)
{
	FerryRunState state;

	for (guint i = 0; i < FERRY_RUN_STATE__N; i++) {
		CU_ASSERT_TRUE(ferry_run_state_from_name(ferry_run_state_name(i), &state));
		CU_ASSERT_EQUAL(state, i);
	}
	CU_ASSERT_FALSE(ferry_run_state_from_name("sleepwalking", &state));
}

static CU_TestInfo cases[] = {
	CASE(states__all__have_names_of_their_own),
	CASE(source__in_handover__ends_only_by_an_answer),
	CASE(source__in_postcopy__pauses_but_never_fails),
	CASE(destination__to_postcopy__only_when_all_is_loaded),
	CASE(source__before_the_commit__can_be_cancelled),
	CASE(source__failed_or_cancelled__guest_may_run_and_next_may_begin),
	CASE(states__of_the_source__can_all_be_reached),
	CASE(run_states__names__go_both_ways),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "states", cases);
}
