/* SPDX-License-Identifier: BSD-2-Clause */
/* Each capability, and each two of them, switched from what they are at first: what may be together
 * moves a writing guest whole, what may not is refused when the second is set. Made from the tables
 * of settings, so that a new capability or rule is tested by being there. */
#include "harness.h"
#include "mini-guest.h"

#include <glib/gstdio.h>

#define RAM_SIZE (4u << 20)
#define WAIT_MS 20000u

/* Two capabilities; the same twice for one alone. */
typedef struct {
	FerryCapability one;
	FerryCapability other;
} Pair;

static const char *name(FerryCapability capability)
{
	return ferry_capability_info(capability)->name;
}

static gboolean at_first(FerryCapability capability)
{
	return ferry_capability_info(capability)->initial != 0;
}

static gboolean turns(const Pair *pair, FerryCapability capability)
{
	return pair->one == capability || pair->other == capability;
}

/* ---- what the tables say ---- */

/* Switches one of the pair, and on with it what it needs, unless that is the other. */
static void add(FerrySettingsChange *change, const Pair *pair, FerryCapability capability)
{
	guint n;
	const FerrySettingRule *rules = ferry_setting_rules(&n);

	change->set_capability[capability] = TRUE;
	change->capability[capability] = !at_first(capability);
	for (guint i = 0; i < n && change->capability[capability]; i++) {
		const FerrySettingRule *rule = &rules[i];

		if (rule->capability != capability || !rule->needs || turns(pair, rule->other))
			continue;
		change->set_capability[rule->other] = TRUE;
		change->capability[rule->other] = TRUE;
	}
}

static gboolean is_on(const FerrySettingsChange *change, FerryCapability capability)
{
	return change->set_capability[capability] ? change->capability[capability]
						  : at_first(capability);
}

/* Why these cannot be together; NULL if they can. */
static const char *why_not(const FerrySettingsChange *change)
{
	guint n;
	const FerrySettingRule *rules = ferry_setting_rules(&n);

	for (guint i = 0; i < n; i++)
		if (rules[i].parameter == FERRY_PARAMETER__N &&
		    is_on(change, rules[i].capability) &&
		    is_on(change, rules[i].other) != rules[i].needs)
			return rules[i].reason;
	return NULL;
}

static FerrySettingsChange change_of(const Pair *pair)
{
	FerrySettingsChange change = { 0 };

	add(&change, pair, pair->one);
	add(&change, pair, pair->other);
	return change;
}

/* ---- how a pair moves a guest ---- */

/* A file for what has its place in one; RDMA for what says how to use it (where there is none, what
 * it falls back to), unless the other wants the pages in a stream of sockets. */
static char *uri_of(const FerrySettingsChange *change, const Pair *pair, const char *folder)
{
	static const FerryCapability in_stream[] = {
		FERRY_CAPABILITY_XBZRLE, FERRY_CAPABILITY_COMPRESS, FERRY_CAPABILITY_MULTIFD,
		FERRY_CAPABILITY_RDMA_REQUIRE, FERRY_CAPABILITY_X_IGNORE_SHARED
	};
	gboolean rdma = turns(pair, FERRY_CAPABILITY_RDMA_PIN_ALL) ||
			turns(pair, FERRY_CAPABILITY_RDMA_POSTCOPY_PULL);

	if (is_on(change, FERRY_CAPABILITY_MAPPED_RAM))
		return g_strdup_printf("file:%s/guest", folder);
	for (guint i = 0; i < G_N_ELEMENTS(in_stream); i++)
		rdma = rdma && !is_on(change, in_stream[i]);
	return g_strdup(rdma ? "rdma:127.0.0.1:0" : "tcp:127.0.0.1:0");
}

static gboolean has_paused_or_ended(gpointer user)
{
	FerryState state = ferry_source_state(user);

	return state == FERRY_STATE_PRE_SWITCHOVER || state == FERRY_STATE_COMPLETED ||
	       state == FERRY_STATE_FAILED;
}

/* Whether the source completed, having sent no more than @most bytes of RAM; prints why not. */
static gboolean migrate(MiniGuest *guest, const char *uri, guint64 most)
{
	g_autoptr(GError) error = NULL;
	FerryMigrationStatus status;
	gboolean ok;

	if (!ferry_source_migrate(guest->source, uri, &error)) {
		printf("# %s: %s\n", uri, error->message);
		return FALSE;
	}
	ok = mini_guest_await(has_paused_or_ended, guest->source, WAIT_MS);
	if (ferry_source_state(guest->source) == FERRY_STATE_PRE_SWITCHOVER)
		ok = ok && ferry_source_continue(guest->source, NULL);
	ok = ok && ferry_source_wait(guest->source) == FERRY_STATE_COMPLETED;
	ferry_source_get_status(guest->source, &status);
	if (!ok)
		printf("# %s: %s: %s\n", uri, ferry_state_name(status.state), status.error_desc);
	ok = ok && status.verified != FERRY_VERIFIED_NO && status.ram.transferred <= most;
	ferry_migration_status_clear(&status);
	return ok;
}

/* @file: of the RAM, which both sides map; or NULL. */
static MiniGuest *guest_new(const FerrySettingsChange *change, const char *file)
{
	static const guint8 uuid[16] = "both of them are";
	MiniGuest *guest = mini_guest_new(&(MiniGuestConfig){
		.ram_size = RAM_SIZE, .write = TRUE, .throttles = TRUE, .file = file });
	g_autoptr(GError) error = NULL;

	ferry_vm_set_uuid(guest->vm, uuid);
	if (!ferry_settings_change(ferry_vm_settings(guest->vm), change, &error))
		printf("# %s\n", error->message);
	CU_ASSERT_PTR_NULL(error);
	return guest;
}

/* One quarter deflates well, one does not, and one is zero that the destination's is not. */
static void fill(MiniGuest *source, MiniGuest *destination)
{
	guint64 quarter = source->size / 4, random = 1;

	memset(source->ram, 0x5a, quarter);
	for (guint64 i = quarter; i < 2 * quarter; i += sizeof(random)) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		*(guint64 *)(source->ram + i) = random;
	}
	memset(destination->ram, 0xa5, destination->size);
}

/* In RAM that both sides share the guest's own writes are all that may be there. */
static gboolean is_whole(const MiniGuest *source, const MiniGuest *destination, gboolean shared)
{
	return mini_guest_same_ram(source, destination) &&
	       (!shared || mini_guest_is_right(destination));
}

static gboolean moves(const Pair *pair, const char *folder)
{
	const FerrySettingsChange change = change_of(pair);
	gboolean shared = is_on(&change, FERRY_CAPABILITY_X_IGNORE_SHARED);
	g_autofree char *file = shared ? g_build_filename(folder, "ram", NULL) : NULL;
	MiniGuest *source = guest_new(&change, file), *destination = guest_new(&change, file);
	g_autofree char *uri = uri_of(&change, pair, folder), *listening = NULL;
	gboolean stored = g_str_has_prefix(uri, "file:"), ok;

	if (!shared)
		fill(source, destination);
	ferry_destination_set_autostart(destination->destination, FALSE);
	if (!stored)
		listening = mini_guest_listen(destination, uri);
	ok = ferry_vm_start(source->vm, NULL) &&
	     migrate(source, stored ? uri : listening, shared ? RAM_SIZE / 16 : G_MAXUINT64);
	if (ok && stored)
		listening = mini_guest_listen(destination, uri);
	ok = ok && ferry_destination_wait(destination->destination) == FERRY_STATE_COMPLETED &&
	     is_whole(source, destination, shared) && mini_guest_most_running() == 1;
	if (!ok)
		printf("# %s with %s by %s: not the same guest\n", name(pair->one),
		       name(pair->other), uri);
	mini_guest_free(source);
	mini_guest_free(destination);
	if (stored)
		g_unlink(uri + strlen("file:"));
	if (shared)
		g_unlink(file);
	return ok;
}

/* ---- cases ---- */

static void capabilities__each_alone__guest_arrives_whole(void)
{
	g_autofree char *folder = g_dir_make_tmp("ferry-pairs-XXXXXX", NULL);

	mini_guest_most_running();
	for (guint i = 0; i < FERRY_CAPABILITY__N; i++)
		CU_ASSERT(moves(&(Pair){ i, i }, folder));
	g_rmdir(folder);
}

static void capabilities__each_legal_pair__guest_arrives_whole(void)
{
	g_autofree char *folder = g_dir_make_tmp("ferry-pairs-XXXXXX", NULL);
	guint n = 0;

	mini_guest_most_running();
	for (guint i = 0; i < FERRY_CAPABILITY__N; i++) {
		for (guint j = i + 1; j < FERRY_CAPABILITY__N; j++) {
			const Pair pair = { i, j };
			const FerrySettingsChange change = change_of(&pair);

			if (why_not(&change))
				continue;
			n++;
			CU_ASSERT(moves(&pair, folder));
		}
	}
	printf("# %u pairs moved a guest\n", n);
	CU_ASSERT(n > 100);
	g_rmdir(folder);
}

/* Sets one, then the other: that is refused with @why, and leaves all as it was. */
static gboolean is_refused(FerrySettings *settings, const Pair *pair, const char *why)
{
	FerrySettingsChange first = { 0 }, second = { 0 }, reset = { 0 };
	g_autoptr(GError) error = NULL;
	gboolean ok;

	for (guint i = 0; i < FERRY_CAPABILITY__N; i++) {
		reset.set_capability[i] = TRUE;
		reset.capability[i] = at_first(i);
	}
	add(&first, pair, pair->one);
	add(&second, pair, pair->other);
	ok = ferry_settings_change(settings, &reset, NULL) &&
	     ferry_settings_change(settings, &first, NULL) &&
	     !ferry_settings_change(settings, &second, &error) &&
	     g_error_matches(error, FERRY_ERROR, FERRY_ERROR_INVALID) &&
	     strstr(error->message, why);
	for (guint i = 0; i < FERRY_CAPABILITY__N; i++)
		ok = ok && ferry_settings_get_capability(settings, i) == is_on(&first, i);
	if (!ok)
		printf("# %s, then %s: %s; expected: %s\n", name(pair->one), name(pair->other),
		       error ? error->message : "taken", why);
	return ok;
}

static void capabilities__each_illegal_pair__second_is_refused_with_the_reason(void)
{
	MiniGuest *guest = mini_guest_new(&(MiniGuestConfig){ .ram_size = 1 << 20 });
	FerrySettings *settings = ferry_vm_settings(guest->vm);
	guint n = 0;

	for (guint i = 0; i < FERRY_CAPABILITY__N; i++) {
		for (guint j = i + 1; j < FERRY_CAPABILITY__N; j++) {
			const FerrySettingsChange change = change_of(&(Pair){ i, j });
			const char *why = why_not(&change);

			if (!why)
				continue;
			n++;
			CU_ASSERT(is_refused(settings, &(Pair){ i, j }, why));
			CU_ASSERT(is_refused(settings, &(Pair){ j, i }, why));
		}
	}
	printf("# %u pairs were refused\n", n);
	CU_ASSERT(n >= 12);
	mini_guest_free(guest);
}

static CU_TestInfo cases[] = {
	CASE(capabilities__each_alone__guest_arrives_whole),
	CASE(capabilities__each_legal_pair__guest_arrives_whole),
	CASE(capabilities__each_illegal_pair__second_is_refused_with_the_reason),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "pairs of capabilities", cases);
}
