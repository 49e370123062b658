/* SPDX-License-Identifier: BSD-2-Clause */
/* When a migration may begin, out or in, and what may not change once it has. */
#include "harness.h"
#include "mini-guest.h"

#include <gio/gunixsocketaddress.h>
#include <glib/gstdio.h>

#define WAIT_MS 20000u

/* A device that saves itself when it is told to. */
typedef struct {
	guint64 value;
	gint hold; /* atomic */
} SlowDevice;

static gboolean wait_to_save(gpointer opaque, GError **error)
{
	while (g_atomic_int_get(&((SlowDevice *)opaque)->hold))
		g_usleep(500);
	return TRUE;
}

static const FerryVmstateField slow_fields[] = {
	FERRY_VMSTATE_UINT64(SlowDevice, value),
	FERRY_VMSTATE_END,
};

static const FerryVmstate slow_vmstate = {
	.name = "slow",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = slow_fields,
	.pre_save = wait_to_save,
};

static const FerryVmstate stuck_vmstate = {
	.name = "passed-through",
	.version_id = 1,
	.minimum_version_id = 1,
	.fields = slow_fields,
	.unmigratable = TRUE,
};

/* A running guest with a slow device, and a destination. */
typedef struct {
	MiniGuest *source;
	MiniGuest *destination;
	SlowDevice devices[2];
	char *uri;
	FerryState awaited;
} Pair;

static void set(MiniGuest *guest, FerryCapability capability, gboolean on)
{
	CU_ASSERT(
		ferry_settings_set_capability(ferry_vm_settings(guest->vm), capability, on, NULL));
}

static void limit(Pair *pair, guint64 bandwidth)
{
	CU_ASSERT(ferry_settings_set_parameter(ferry_vm_settings(pair->source->vm),
					       FERRY_PARAMETER_MAX_BANDWIDTH, bandwidth, NULL));
}

static void pair_open(Pair *pair)
{
	*pair = (Pair){ .source = mini_guest_new(&(MiniGuestConfig){ 0 }),
			.destination = mini_guest_new(&(MiniGuestConfig){ 0 }) };
	MiniGuest *guests[] = { pair->source, pair->destination };

	for (guint i = 0; i < G_N_ELEMENTS(guests); i++)
		if (!ferry_devices_register(ferry_vm_devices(guests[i]->vm), &slow_vmstate, 0,
					    &pair->devices[i], NULL))
			g_assert_not_reached();
	memset(pair->source->ram, 0x5a, pair->source->size);
	CU_ASSERT(ferry_vm_start(pair->source->vm, NULL));
	pair->uri = mini_guest_listen(pair->destination, "tcp:127.0.0.1:0");
}

static void pair_close(Pair *pair)
{
	g_atomic_int_set(&pair->devices[0].hold, 0);
	mini_guest_free(pair->source);
	mini_guest_free(pair->destination);
	g_free(pair->uri);
}

static gboolean is_there(gpointer user)
{
	Pair *pair = user;

	return ferry_source_state(pair->source->source) == pair->awaited;
}

static gboolean await(Pair *pair, FerryState state)
{
	pair->awaited = state;
	return mini_guest_await(is_there, pair, WAIT_MS);
}

static gboolean is_state_error(gboolean ok, GError *error, const char *word)
{
	gboolean right = !ok && g_error_matches(error, FERRY_ERROR, FERRY_ERROR_STATE) &&
			 strstr(error->message, word);

	if (!right)
		printf("# expected an error with '%s', and there is: %s\n", word,
		       error ? error->message : "none");
	g_clear_error(&error);
	return right;
}

/* ---- while one runs ---- */

/* The migration is in @state: no other begins, no capability changes, nobody can block it any more;
 * a parameter may change. */
static void check_busy(Pair *pair, FerryState state)
{
	FerrySettings *settings = ferry_vm_settings(pair->source->vm);
	GError *error = NULL;
	gboolean ok;

	CU_ASSERT(await(pair, state));
	ok = ferry_source_migrate(pair->source->source, pair->uri, &error);
	CU_ASSERT(is_state_error(ok, g_steal_pointer(&error), ferry_state_name(state)));
	for (guint i = 0; i < FERRY_CAPABILITY__N; i++) {
		gboolean on = ferry_settings_get_capability(settings, i);

		ok = ferry_settings_set_capability(settings, i, !on, &error);
		CU_ASSERT(is_state_error(ok, g_steal_pointer(&error),
					 ferry_capability_info(i)->name));
		CU_ASSERT_EQUAL(ferry_settings_get_capability(settings, i), on);
	}
	ok = ferry_vm_add_blocker(pair->source->vm, "too late", &error) != 0;
	CU_ASSERT(is_state_error(ok, g_steal_pointer(&error), "too late"));
	ok = ferry_destination_start(pair->source->destination, "tcp:127.0.0.1:0", &error);
	CU_ASSERT(is_state_error(ok, g_steal_pointer(&error), ""));
	CU_ASSERT(
		ferry_settings_set_parameter(settings, FERRY_PARAMETER_DOWNTIME_LIMIT, 301, NULL));
	CU_ASSERT(await(pair, state));
}

/* The next one moves the guest, with capabilities that could change again. */
static void check_next(Pair *pair)
{
	CU_ASSERT_EQUAL(ferry_source_wait(pair->source->source), FERRY_STATE_CANCELLED);
	CU_ASSERT(g_atomic_int_get(&pair->source->running));
	set(pair->source, FERRY_CAPABILITY_PAUSE_BEFORE_SWITCHOVER, FALSE);
	limit(pair, 0);
	/* The destination learns of the cancel in its own time. */
	while (ferry_destination_state(pair->destination->destination) == FERRY_STATE_ACTIVE)
		g_usleep(1000);
	if (ferry_destination_state(pair->destination->destination) == FERRY_STATE_FAILED) {
		g_free(pair->uri);
		pair->uri = mini_guest_listen(pair->destination, "tcp:127.0.0.1:0");
	}
	CU_ASSERT(ferry_source_migrate(pair->source->source, pair->uri, NULL));
	CU_ASSERT_EQUAL(ferry_source_wait(pair->source->source), FERRY_STATE_COMPLETED);
	pair_close(pair);
}

/* Somebody who takes connections and never answers. */
static GSocket *mute_listener(const char *path)
{
	g_autoptr(GSocketAddress) address = g_unix_socket_address_new(path);
	GSocket *socket = g_socket_new(G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_STREAM,
				       G_SOCKET_PROTOCOL_DEFAULT, NULL);

	if (!g_socket_bind(socket, address, TRUE, NULL) || !g_socket_listen(socket, NULL))
		g_assert_not_reached();
	return socket;
}

static void migration__in_setup__is_alone_and_fixed(void)
{
	g_autofree char *folder = g_dir_make_tmp("ferry-begin-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(folder, "mute", NULL);
	g_autofree char *uri = g_strconcat("unix:", path, NULL);
	g_autoptr(GSocket) mute = mute_listener(path);
	Pair pair;

	pair_open(&pair);
	CU_ASSERT(ferry_source_migrate(pair.source->source, uri, NULL));
	check_busy(&pair, FERRY_STATE_SETUP);
	ferry_source_cancel(pair.source->source);
	check_next(&pair);
	g_unlink(path);
	g_rmdir(folder);
}

static void migration__active__is_alone_and_fixed(void)
{
	Pair pair;

	pair_open(&pair);
	limit(&pair, 1 << 20);
	CU_ASSERT(ferry_source_migrate(pair.source->source, pair.uri, NULL));
	check_busy(&pair, FERRY_STATE_ACTIVE);
	ferry_source_cancel(pair.source->source);
	check_next(&pair);
}

static void migration__in_pre_switchover__is_alone_and_fixed(void)
{
	Pair pair;

	pair_open(&pair);
	set(pair.source, FERRY_CAPABILITY_PAUSE_BEFORE_SWITCHOVER, TRUE);
	CU_ASSERT(ferry_source_migrate(pair.source->source, pair.uri, NULL));
	check_busy(&pair, FERRY_STATE_PRE_SWITCHOVER);
	ferry_source_cancel(pair.source->source);
	check_next(&pair);
}

/* While it saves devices, and while a cancel waits for that to end. */
static void migration__in_device_and_cancelling__is_alone_and_fixed(void)
{
	Pair pair;

	pair_open(&pair);
	g_atomic_int_set(&pair.devices[0].hold, 1);
	CU_ASSERT(ferry_source_migrate(pair.source->source, pair.uri, NULL));
	check_busy(&pair, FERRY_STATE_DEVICE);
	ferry_source_cancel(pair.source->source);
	check_busy(&pair, FERRY_STATE_CANCELLING);
	g_atomic_int_set(&pair.devices[0].hold, 0);
	check_next(&pair);
}

/* ---- what keeps a guest ---- */

static void migrate__guest_waits_for_an_incoming_one__refused(void)
{
	MiniGuest *guests[] = { mini_guest_new(&(MiniGuestConfig){ 0 }),
				mini_guest_new(&(MiniGuestConfig){ 0 }) };

	CU_ASSERT(ferry_destination_defer(guests[0]->destination, NULL));
	g_free(mini_guest_listen(guests[1], "tcp:127.0.0.1:0"));
	for (guint i = 0; i < G_N_ELEMENTS(guests); i++) {
		GError *error = NULL;
		gboolean ok = ferry_source_migrate(guests[i]->source, "tcp:127.0.0.1:1", &error);

		CU_ASSERT(is_state_error(ok, error, "waits for an incoming migration"));
		CU_ASSERT_EQUAL(ferry_source_state(guests[i]->source), FERRY_STATE_NONE);
		mini_guest_free(guests[i]);
	}
}

static void migrate__device_cannot_be_saved__refused_with_its_name(void)
{
	GError *error = NULL;
	char **reasons;
	gboolean ok;
	Pair pair;

	pair_open(&pair);
	CU_ASSERT_PTR_NULL(ferry_vm_blocked_reasons(pair.source->vm));
	CU_ASSERT(ferry_devices_register(ferry_vm_devices(pair.source->vm), &stuck_vmstate, 0,
					 &pair.devices[0], NULL));
	ok = ferry_source_migrate(pair.source->source, pair.uri, &error);
	CU_ASSERT(is_state_error(ok, error, "'passed-through'"));
	reasons = ferry_vm_blocked_reasons(pair.source->vm);
	CU_ASSERT(reasons && g_strv_length(reasons) == 1 && strstr(reasons[0], "'passed-through'"));
	g_strfreev(reasons);
	ferry_devices_unregister(ferry_vm_devices(pair.source->vm), &stuck_vmstate,
				 &pair.devices[0]);
	CU_ASSERT(ferry_source_migrate(pair.source->source, pair.uri, NULL));
	CU_ASSERT_EQUAL(ferry_source_wait(pair.source->source), FERRY_STATE_COMPLETED);
	pair_close(&pair);
}

static void blockers__several__newest_is_the_reason_and_all_are_told(void)
{
	static const char *const texts[] = { "a backup runs", "a disk is copied",
					     "the bus is hot" };
	guint ids[G_N_ELEMENTS(texts)];
	Pair pair;

	pair_open(&pair);
	for (guint i = 0; i < G_N_ELEMENTS(texts); i++)
		ids[i] = ferry_vm_add_blocker(pair.source->vm, texts[i], NULL);
	ferry_vm_remove_blocker(pair.source->vm, 4711);
	for (guint left = G_N_ELEMENTS(texts); left; left--) {
		g_auto(GStrv) reasons = ferry_vm_blocked_reasons(pair.source->vm);
		GError *error = NULL;
		gboolean ok = ferry_source_migrate(pair.source->source, pair.uri, &error);

		CU_ASSERT(is_state_error(ok, error, texts[left - 1]));
		CU_ASSERT(reasons && g_strv_length(reasons) == left);
		for (guint i = 0; i < left && reasons; i++)
			CU_ASSERT_STRING_EQUAL(reasons[i], texts[left - 1 - i]);
		ferry_vm_remove_blocker(pair.source->vm, ids[left - 1]);
	}
	CU_ASSERT_PTR_NULL(ferry_vm_blocked_reasons(pair.source->vm));
	CU_ASSERT(ferry_source_migrate(pair.source->source, pair.uri, NULL));
	CU_ASSERT_EQUAL(ferry_source_wait(pair.source->source), FERRY_STATE_COMPLETED);
	pair_close(&pair);
}

/* ---- taking a guest in ---- */

static void defer__twice_or_too_late__refused(void)
{
	MiniGuest *guest = mini_guest_new(&(MiniGuestConfig){ 0 }),
		  *running = mini_guest_new(&(MiniGuestConfig){ 0 });
	GError *error = NULL;
	gboolean ok;

	CU_ASSERT(ferry_destination_defer(guest->destination, NULL));
	ok = ferry_destination_defer(guest->destination, &error);
	CU_ASSERT(
		is_state_error(ok, g_steal_pointer(&error), "waits for migrate-incoming already"));
	g_free(mini_guest_listen(guest, "tcp:127.0.0.1:0"));
	ok = ferry_destination_defer(guest->destination, &error);
	CU_ASSERT(is_state_error(ok, g_steal_pointer(&error), "begun already"));
	ok = ferry_destination_start(guest->destination, "tcp:127.0.0.1:0", &error);
	CU_ASSERT(is_state_error(ok, g_steal_pointer(&error), "begun already"));
	CU_ASSERT(ferry_vm_start(running->vm, NULL));
	ok = ferry_destination_defer(running->destination, &error);
	CU_ASSERT(is_state_error(ok, g_steal_pointer(&error), "lives here already"));
	CU_ASSERT(ferry_vm_is_running(running->vm));
	mini_guest_free(guest);
	mini_guest_free(running);
}

static void start__failed_after_defer__can_be_repeated(void)
{
	static const char *const bad[] = { "tcp:nobody.invalid:4444", "unix:/nowhere/at-all",
					   "pigeon:home" };
	MiniGuest *source = mini_guest_new(&(MiniGuestConfig){ 0 }),
		  *guest = mini_guest_new(&(MiniGuestConfig){ 0 });
	g_autofree char *uri = NULL;

	CU_ASSERT(ferry_destination_defer(guest->destination, NULL));
	for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) error = NULL;

		CU_ASSERT_FALSE(ferry_destination_start(guest->destination, bad[i], &error));
		CU_ASSERT(error && strstr(error->message, strchr(bad[i], ':') + 1));
		CU_ASSERT_EQUAL(ferry_destination_state(guest->destination), FERRY_STATE_NONE);
		CU_ASSERT_EQUAL(ferry_vm_run_state(guest->vm), FERRY_RUN_STATE_INMIGRATE);
		CU_ASSERT_FALSE(ferry_destination_defer(guest->destination, NULL));
	}
	uri = mini_guest_listen(guest, "tcp:127.0.0.1:0");
	CU_ASSERT(ferry_vm_start(source->vm, NULL));
	CU_ASSERT(ferry_source_migrate(source->source, uri, NULL));
	CU_ASSERT_EQUAL(ferry_source_wait(source->source), FERRY_STATE_COMPLETED);
	CU_ASSERT_EQUAL(ferry_destination_wait(guest->destination), FERRY_STATE_COMPLETED);
	mini_guest_free(source);
	mini_guest_free(guest);
}

/* ---- notifiers ---- */

/* Adds what happens to the GString. */
static void note(const FerryEvent *event, gpointer user)
{
	if (event->type == FERRY_EVENT_MIGRATION)
		g_string_append_printf(user, "%s ", ferry_state_name(event->state));
}

static void notifiers__of_what_happens__each_hears_all_until_removed(void)
{
	g_autoptr(GString) first = g_string_new(NULL), second = g_string_new(NULL);
	guint id;
	Pair pair;

	pair_open(&pair);
	ferry_vm_add_notifier(pair.source->vm, note, first);
	id = ferry_vm_add_notifier(pair.source->vm, note, second);
	/* That capability is for QMP's clients. */
	set(pair.source, FERRY_CAPABILITY_EVENTS, FALSE);
	CU_ASSERT(ferry_source_migrate(pair.source->source, "tcp:127.0.0.1:1", NULL));
	CU_ASSERT_EQUAL(ferry_source_wait(pair.source->source), FERRY_STATE_FAILED);
	CU_ASSERT_STRING_EQUAL(first->str, "setup failed ");
	CU_ASSERT_STRING_EQUAL(second->str, first->str);
	ferry_vm_remove_notifier(pair.source->vm, id);
	ferry_vm_remove_notifier(pair.source->vm, id);
	CU_ASSERT(ferry_source_migrate(pair.source->source, pair.uri, NULL));
	CU_ASSERT_EQUAL(ferry_source_wait(pair.source->source), FERRY_STATE_COMPLETED);
	pair_close(&pair);
	CU_ASSERT_STRING_EQUAL(first->str, "setup failed setup active device handover completed ");
	CU_ASSERT_STRING_EQUAL(second->str, "setup failed ");
}

static CU_TestInfo cases[] = {
	CASE(migration__in_setup__is_alone_and_fixed),
	CASE(migration__active__is_alone_and_fixed),
	CASE(migration__in_pre_switchover__is_alone_and_fixed),
	CASE(migration__in_device_and_cancelling__is_alone_and_fixed),
	CASE(migrate__guest_waits_for_an_incoming_one__refused),
	CASE(migrate__device_cannot_be_saved__refused_with_its_name),
	CASE(blockers__several__newest_is_the_reason_and_all_are_told),
	CASE(defer__twice_or_too_late__refused),
	CASE(start__failed_after_defer__can_be_repeated),
	CASE(notifiers__of_what_happens__each_hears_all_until_removed),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "how a migration begins", cases);
}
