/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A real migration's bytes, cut short and bent: the destination ends with an error that says
 * something, and never crashes, hangs, or asks for memory that a stream talked it into.
 */
#include "harness.h"
#include "mini-guest.h"
#include "tape.h"

#include <sys/resource.h>

#define RAM_SIZE (512u << 10)
/* Cut at every byte: the block list with the first pages, and what follows the last page. */
#define HEAD (16u << 10)
#define TAIL (4u << 10)
#define RANDOM_CUTS 4000u
#define BENT 4000u

static GByteArray *stream; /* of the running case */

/* Records one migration of a guest whose RAM holds zero pages and others. */
static void record_stream(gboolean return_path)
{
	MiniGuest *source, *destination;
	g_autofree char *uri = NULL, *record = NULL;

	stream = g_byte_array_new();
	source = mini_guest_new(&(MiniGuestConfig){ .ram_size = RAM_SIZE,
						    .transports = recorder_transports(stream) });
	destination = mini_guest_new(&(MiniGuestConfig){ .ram_size = RAM_SIZE });
	for (guint64 i = 0; i < RAM_SIZE; i += 8)
		if (i / FERRY_PAGE_SIZE % 3)
			ferry_store_be64(source->ram + i, i * 0x9e3779b97f4a7c15u);
	ferry_settings_set_capability(ferry_vm_settings(source->vm), FERRY_CAPABILITY_RETURN_PATH,
				      return_path, NULL);
	uri = mini_guest_listen(destination, "tcp:127.0.0.1:0");
	record = g_strconcat("record:", uri, NULL);
	if (!ferry_vm_start(source->vm, NULL) ||
	    !ferry_source_migrate(source->source, record, NULL))
		g_assert_not_reached();
	CU_ASSERT_EQUAL(ferry_source_wait(source->source), FERRY_STATE_COMPLETED);
	CU_ASSERT_EQUAL(ferry_destination_wait(destination->destination), FERRY_STATE_COMPLETED);
	printf("# %u bytes of stream\n", stream->len);
	mini_guest_free(source);
	mini_guest_free(destination);
}

/* Plays @len bytes of @data to a fresh destination; how it ended. */
static FerryState play(const guint8 *data, size_t len, char **why)
{
	MiniGuest *guest = mini_guest_new(
		&(MiniGuestConfig){ .ram_size = RAM_SIZE,
				    .no_dirty_source = TRUE,
				    .transports = tape_transports(data, len) });
	g_autofree char *uri = mini_guest_listen(guest, "tape:");
	FerryState state = ferry_destination_wait(guest->destination);
	FerryMigrationStatus status;

	ferry_destination_get_status(guest->destination, &status);
	*why = g_strdup(status.error_desc);
	ferry_migration_status_clear(&status);
	mini_guest_free(guest);
	return state;
}

/* A cut stream is an error with a reason; only one that is loaded as a whole may wait for its
 * source. One in QEMU's format is whole too without all of its description. */
static gboolean refused(size_t len, gboolean ferry)
{
	g_autofree char *why = NULL;
	FerryState state = play(stream->data, len, &why);
	gboolean ok = (state == FERRY_STATE_FAILED || state == FERRY_STATE_HANDOVER_LOST) && why &&
		      *why;

	if (!ferry && state == FERRY_STATE_COMPLETED && stream->data[len] == FERRY_SECTION_VMDESC)
		ok = stream->data[len - 1] == FERRY_SECTION_EOF;
	if (!ok)
		printf("# cut at %" G_GSIZE_FORMAT ": %s: %s\n", len, ferry_state_name(state), why);
	return ok;
}

/* The stream may go on without its last bytes where nobody waits for them: the description and the
 * farewell. */
static size_t essential(void)
{
	size_t len = stream->len;
	g_autofree char *why = NULL;

	while (len) {
		FerryState state = play(stream->data, len - 1, &why);

		g_clear_pointer(&why, g_free);
		if (state != FERRY_STATE_COMPLETED)
			return len;
		len--;
	}
	return 0;
}

static void check_truncated(gboolean return_path)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(20);
	size_t end;
	guint bad = 0;

	record_stream(return_path);
	end = essential();
	CU_ASSERT(end > HEAD + TAIL);
	for (size_t len = 0; len < end; len++)
		if (len < HEAD || len + TAIL >= end)
			bad += !refused(len, return_path);
	for (guint i = 0; i < RANDOM_CUTS; i++)
		bad += !refused(g_rand_int_range(rand, 0, end), return_path);
	CU_ASSERT_EQUAL(bad, 0);
	g_byte_array_unref(stream);
}

static void stream__of_a_ferry_truncated_anywhere__is_an_error(void)
{
	check_truncated(TRUE);
}

static void stream__in_qemu_format_truncated_anywhere__is_an_error(void)
{
	check_truncated(FALSE);
}

static glong most_memory_kib(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_maxrss;
}

/* One bit somewhere in the framing or the pages: any end but a crash, a hang or a hunger for
 * memory. */
static void check_bent(gboolean return_path)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(21);
	glong before;
	guint ends[FERRY_STATE__N] = { 0 };

	record_stream(return_path);
	before = most_memory_kib();
	for (guint i = 0; i < BENT; i++) {
		/* Half of them in the small part that is not pages. */
		guint at = i % 2 ? g_rand_int_range(rand, 0, stream->len)
				 : g_rand_int_range(rand, 0, 600);
		guint8 bit = 1 << g_rand_int_range(rand, 0, 8);
		g_autofree char *why = NULL;

		if (i % 4 == 2)
			at = stream->len - 1 - at;
		stream->data[at] ^= bit;
		ends[play(stream->data, stream->len, &why)]++;
		stream->data[at] ^= bit;
	}
	printf("# %u failed, %u completed, %u in doubt; %ld KiB more memory\n",
	       ends[FERRY_STATE_FAILED], ends[FERRY_STATE_COMPLETED],
	       ends[FERRY_STATE_HANDOVER_LOST], most_memory_kib() - before);
	CU_ASSERT(ends[FERRY_STATE_FAILED] > BENT / 20);
#if !defined(__SANITIZE_ADDRESS__)
	CU_ASSERT(most_memory_kib() - before < 64 << 10);
#endif
	g_byte_array_unref(stream);
}

static void stream__of_a_ferry_bent__never_crashes(void)
{
	check_bent(TRUE);
}

static void stream__in_qemu_format_bent__never_crashes(void)
{
	check_bent(FALSE);
}

static CU_TestInfo cases[] = {
	CASE(stream__of_a_ferry_truncated_anywhere__is_an_error),
	CASE(stream__in_qemu_format_truncated_anywhere__is_an_error),
	CASE(stream__of_a_ferry_bent__never_crashes),
	CASE(stream__in_qemu_format_bent__never_crashes),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "hostile streams", cases);
}
