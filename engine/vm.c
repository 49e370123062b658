/* SPDX-License-Identifier: BSD-2-Clause */
#include "vm-private.h"

#include "settings-private.h"
#include "state-table.h"

/* Who decides about the guest's run state. */
typedef enum {
	OWNER_EMBEDDER,   /* nobody but the embedder's start and stop */
	OWNER_SWITCHOVER, /* stopped by a migration that may yet give it back */
	OWNER_INCOMING,   /* waits for its state */
	OWNER_ELSEWHERE,  /* it runs at a destination */
} Owner;

typedef struct {
	guint id;
	FerryEventFunc func;
	gpointer user;
} Notifier;

typedef struct {
	guint id;
	char *reason;
} Blocker;

struct FerryVm {
	char *machine;
	gboolean has_uuid;
	guint8 uuid[16];
	FerryRam *ram;
	FerryDevices *devices;
	FerryDirtySource *dirty;
	FerryVmCallbacks callbacks;
	gpointer user;
	FerrySettings *settings;
	FerryGlobalState global_state; /* the migration threads' */

	GMutex run_lock; /* guards the four below, and is held across pause and resume */
	FerryRunState run_state;
	FerryRunState before; /* SWITCHOVER: what it was */
	Owner owner;
	gboolean arrive_paused; /* INCOMING: somebody said stop */

	FerryBitmap *marked; /* bits set by any thread, atomically */
	gint tracking;       /* atomic: whether @marked is wanted */

	/* guards the rest; never taken together with run_lock in the other order */
	GMutex list_lock;
	gboolean migrating;
	guint last_id;
	GSList *blockers;      /* of Blocker, newest first */
	GRecMutex notify_lock; /* guards @notifiers; held while they run */
	GSList *notifiers;     /* of Notifier, oldest first */
};

FerryVm *ferry_vm_new(const char *machine, FerryRam *ram, FerryDevices *devices,
		      FerryDirtySource *dirty, const FerryVmCallbacks *callbacks, gpointer user)
{
	FerryVm *vm = g_new0(FerryVm, 1);

	vm->machine = g_strdup(machine);
	vm->ram = ram;
	vm->devices = devices;
	vm->dirty = dirty;
	vm->callbacks = *callbacks;
	vm->user = user;
	vm->settings = ferry_settings_new();
	vm->run_state = FERRY_RUN_STATE_PRELAUNCH;
	vm->marked = ferry_bitmap_new(ram);
	g_mutex_init(&vm->run_lock);
	g_mutex_init(&vm->list_lock);
	g_rec_mutex_init(&vm->notify_lock);
	/* The name is ours, so only a description that contradicts itself could fail here. */
	if (!ferry_devices_register(devices, &ferry_global_state_vmstate, 0, &vm->global_state,
				    NULL))
		g_assert_not_reached();
	return vm;
}

static void free_blocker(gpointer data)
{
	Blocker *blocker = data;

	g_free(blocker->reason);
	g_free(blocker);
}

void ferry_vm_free(FerryVm *vm)
{
	if (!vm)
		return;
	g_slist_free_full(vm->notifiers, g_free);
	g_slist_free_full(vm->blockers, free_blocker);
	g_rec_mutex_clear(&vm->notify_lock);
	g_mutex_clear(&vm->list_lock);
	g_mutex_clear(&vm->run_lock);
	ferry_bitmap_free(vm->marked);
	ferry_settings_free(vm->settings);
	ferry_dirty_source_free(vm->dirty);
	ferry_devices_free(vm->devices);
	ferry_ram_free(vm->ram);
	g_free(vm->machine);
	g_free(vm);
}

void ferry_vm_set_uuid(FerryVm *vm, const guint8 uuid[16])
{
	vm->has_uuid = uuid != NULL;
	if (uuid)
		memcpy(vm->uuid, uuid, sizeof(vm->uuid));
}

const guint8 *ferry_vm_uuid(FerryVm *vm)
{
	return vm->has_uuid ? vm->uuid : NULL;
}

FerryRam *ferry_vm_ram(FerryVm *vm)
{
	return vm->ram;
}

gboolean ferry_vm_leaves_out(FerryVm *vm, guint block)
{
	return vm->ram->blocks[block].shared &&
	       ferry_settings_get_capability(vm->settings, FERRY_CAPABILITY_X_IGNORE_SHARED);
}

guint64 ferry_vm_moving_bytes(FerryVm *vm)
{
	guint64 bytes = 0;

	for (guint i = 0; i < vm->ram->n_blocks; i++)
		if (!ferry_vm_leaves_out(vm, i))
			bytes += vm->ram->blocks[i].size;
	return bytes;
}

FerryMapping ferry_vm_mapping(FerryVm *vm, const FerryMappedPlace *places)
{
	gboolean multifd = ferry_settings_get_capability(vm->settings, FERRY_CAPABILITY_MULTIFD);

	return (FerryMapping){
		.places = places,
		.n_places = vm->ram->n_blocks,
		.threads = multifd ? (guint)ferry_settings_get_parameter(
					     vm->settings, FERRY_PARAMETER_MULTIFD_CHANNELS)
				   : 1,
		.direct = ferry_settings_get_parameter(vm->settings, FERRY_PARAMETER_DIRECT_IO) !=
			  0,
	};
}

FerryDevices *ferry_vm_devices(FerryVm *vm)
{
	return vm->devices;
}

FerrySettings *ferry_vm_settings(FerryVm *vm)
{
	return vm->settings;
}

const char *ferry_vm_machine(FerryVm *vm)
{
	return vm->machine;
}

FerryDirtySource *ferry_vm_dirty_source(FerryVm *vm)
{
	return vm->dirty;
}

const char *ferry_vm_dirty_source_name(FerryVm *vm)
{
	return vm->dirty ? vm->dirty->ops->name : NULL;
}

const FerryVmCallbacks *ferry_vm_callbacks(FerryVm *vm, gpointer *user)
{
	*user = vm->user;
	return &vm->callbacks;
}

void ferry_vm_lock_callbacks(FerryVm *vm)
{
	g_mutex_lock(&vm->run_lock);
}

void ferry_vm_unlock_callbacks(FerryVm *vm)
{
	g_mutex_unlock(&vm->run_lock);
}

/* ---- run state ---- */

FerryRunState ferry_vm_run_state(FerryVm *vm)
{
	FerryRunState state;

	g_mutex_lock(&vm->run_lock);
	state = vm->run_state;
	g_mutex_unlock(&vm->run_lock);
	return state;
}

gboolean ferry_vm_is_running(FerryVm *vm)
{
	return ferry_vm_run_state(vm) == FERRY_RUN_STATE_RUNNING;
}

/* An embedder's callback that fails must say why; one that does not is not worth a crash. */
static gboolean failed(const char *what, GError **error)
{
	if (error && !*error)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_IO,
			    "the monitor could not %s its vCPUs", what);
	return FALSE;
}

/* The run lock is held. */
static gboolean resume_locked(FerryVm *vm, GError **error)
{
	if (!vm->callbacks.resume(vm->user, error)) {
		vm->run_state = FERRY_RUN_STATE_PAUSED;
		return failed("start", error);
	}
	vm->run_state = FERRY_RUN_STATE_RUNNING;
	ferry_vm_emit(vm, &(FerryEvent){ .type = FERRY_EVENT_RESUME });
	return TRUE;
}

/* The run lock is held; the guest runs. */
static gboolean pause_locked(FerryVm *vm, FerryRunState state, GError **error)
{
	if (!vm->callbacks.pause(vm->user, error))
		return failed("stop", error);
	vm->run_state = state;
	ferry_vm_emit(vm, &(FerryEvent){ .type = FERRY_EVENT_STOP });
	return TRUE;
}

static gboolean refuse_owner(FerryVm *vm, GError **error)
{
	g_set_error(
		error, FERRY_ERROR, FERRY_ERROR_STATE,
		vm->owner == OWNER_ELSEWHERE
			? "the guest has moved to its destination and must not run here (run state %s)"
			: "the guest is being handed over (run state %s): wait, or cancel the migration",
		ferry_run_state_name(vm->run_state));
	return FALSE;
}

gboolean ferry_vm_start(FerryVm *vm, GError **error)
{
	gboolean ok = TRUE;

	g_mutex_lock(&vm->run_lock);
	if (vm->owner == OWNER_INCOMING)
		vm->arrive_paused = FALSE;
	else if (vm->owner != OWNER_EMBEDDER)
		ok = refuse_owner(vm, error);
	else if (vm->run_state != FERRY_RUN_STATE_RUNNING)
		ok = resume_locked(vm, error);
	g_mutex_unlock(&vm->run_lock);
	return ok;
}

gboolean ferry_vm_stop(FerryVm *vm, GError **error)
{
	gboolean ok = TRUE;

	g_mutex_lock(&vm->run_lock);
	if (vm->owner == OWNER_INCOMING)
		vm->arrive_paused = TRUE;
	else if (vm->owner == OWNER_SWITCHOVER)
		ok = refuse_owner(vm, error);
	else if (vm->run_state == FERRY_RUN_STATE_RUNNING)
		ok = pause_locked(vm, FERRY_RUN_STATE_PAUSED, error);
	g_mutex_unlock(&vm->run_lock);
	return ok;
}

/* ---- writes that the dirty source does not see ---- */

void ferry_vm_mark_dirty(FerryVm *vm, guint block, guint64 offset, guint64 len)
{
	guint64 first = offset >> FERRY_PAGE_SHIFT;

	if (!len || !g_atomic_int_get(&vm->tracking))
		return;
	ferry_bitmap_set_run_atomic(
		vm->marked,
		&(FerryRun){ block, first, ((offset + len - 1) >> FERRY_PAGE_SHIFT) - first + 1 });
}

void ferry_vm_take_marked(FerryVm *vm, FerryBitmap *into)
{
	ferry_bitmap_move(into, vm->marked);
}

/* ---- outgoing ---- */

/* The list lock is held. */
static char **blocked_reasons_locked(FerryVm *vm)
{
	const char *device = ferry_devices_unmigratable(vm->devices);
	GPtrArray *reasons = g_ptr_array_new();

	for (GSList *l = vm->blockers; l; l = l->next)
		g_ptr_array_add(reasons, g_strdup(((Blocker *)l->data)->reason));
	if (device)
		g_ptr_array_add(reasons, g_strdup_printf("the device '%s' cannot be saved: take it "
							 "out of the guest first",
							 device));
	if (reasons->len)
		g_ptr_array_add(reasons, NULL);
	return (char **)g_ptr_array_free(reasons, FALSE);
}

gboolean ferry_vm_outgoing_begin(FerryVm *vm, GError **error)
{
	g_auto(GStrv) blocked = NULL;
	const char *why = NULL;

	g_mutex_lock(&vm->run_lock);
	if (vm->owner == OWNER_INCOMING)
		why = "the guest waits for an incoming migration";
	else if (vm->owner == OWNER_ELSEWHERE)
		why = "the guest has moved to its destination: there is nothing here to migrate";
	g_mutex_unlock(&vm->run_lock);

	g_mutex_lock(&vm->list_lock);
	blocked = blocked_reasons_locked(vm);
	if (!why && blocked)
		why = blocked[0];
	if (!why) {
		vm->migrating = TRUE;
		ferry_settings_freeze(vm->settings, TRUE);
	}
	g_mutex_unlock(&vm->list_lock);
	if (why) {
		g_set_error_literal(error, FERRY_ERROR, FERRY_ERROR_STATE, why);
		return FALSE;
	}
	g_atomic_int_set(&vm->tracking, 1);
	return TRUE;
}

gboolean ferry_vm_outgoing_stop(FerryVm *vm, GError **error)
{
	gboolean ok = TRUE;

	g_mutex_lock(&vm->run_lock);
	if (vm->owner == OWNER_EMBEDDER) {
		vm->before = vm->run_state;
		if (vm->run_state == FERRY_RUN_STATE_RUNNING)
			ok = pause_locked(vm, FERRY_RUN_STATE_FINISH_MIGRATE, error);
		else
			vm->run_state = FERRY_RUN_STATE_FINISH_MIGRATE;
		if (ok)
			vm->owner = OWNER_SWITCHOVER;
	}
	g_mutex_unlock(&vm->run_lock);
	return ok;
}

FerryRunState ferry_vm_outgoing_run_state(FerryVm *vm)
{
	FerryRunState state;

	g_mutex_lock(&vm->run_lock);
	state = vm->before;
	g_mutex_unlock(&vm->run_lock);
	return state;
}

/* Gives a guest that was stopped for the switchover back. The run lock is held. */
static gboolean give_back_locked(FerryVm *vm, GError **error)
{
	vm->owner = OWNER_EMBEDDER;
	if (vm->before == FERRY_RUN_STATE_RUNNING)
		return resume_locked(vm, error);
	vm->run_state = vm->before;
	return TRUE;
}

gboolean ferry_vm_outgoing_end(FerryVm *vm, FerryOutgoingFate fate, GError **error)
{
	g_autoptr(FerryBitmap) scrap = ferry_bitmap_new(vm->ram);
	gboolean ok = TRUE;

	g_atomic_int_set(&vm->tracking, 0);
	/* Not a plain clear: somebody may be marking just now. */
	ferry_bitmap_move(scrap, vm->marked);
	g_mutex_lock(&vm->run_lock);
	if (fate != FERRY_OUTGOING_STAYED) {
		vm->run_state = FERRY_RUN_STATE_POSTMIGRATE;
		vm->owner = fate == FERRY_OUTGOING_MOVED ? OWNER_ELSEWHERE : OWNER_EMBEDDER;
	} else if (vm->owner == OWNER_SWITCHOVER) {
		ok = give_back_locked(vm, error);
	}
	g_mutex_unlock(&vm->run_lock);

	g_mutex_lock(&vm->list_lock);
	vm->migrating = FALSE;
	ferry_settings_freeze(vm->settings, FALSE);
	g_mutex_unlock(&vm->list_lock);
	return ok;
}

/* ---- incoming ---- */

gboolean ferry_vm_incoming_begin(FerryVm *vm, GError **error)
{
	gboolean ok, leaving;

	g_mutex_lock(&vm->list_lock);
	leaving = vm->migrating;
	g_mutex_unlock(&vm->list_lock);
	g_mutex_lock(&vm->run_lock);
	ok = vm->owner == OWNER_INCOMING || vm->owner == OWNER_ELSEWHERE ||
	     (vm->owner == OWNER_EMBEDDER && vm->run_state == FERRY_RUN_STATE_PRELAUNCH &&
	      !leaving);
	if (ok) {
		if (vm->owner != OWNER_INCOMING)
			vm->arrive_paused = FALSE;
		vm->owner = OWNER_INCOMING;
		vm->run_state = FERRY_RUN_STATE_INMIGRATE;
	} else {
		g_set_error(
			error, FERRY_ERROR, FERRY_ERROR_STATE,
			"a guest lives here already (run state %s): an incoming one needs a fresh monitor",
			ferry_run_state_name(vm->run_state));
	}
	g_mutex_unlock(&vm->run_lock);
	return ok;
}

gboolean ferry_vm_incoming_run(FerryVm *vm, FerryRunState arrived, gboolean autostart,
			       GError **error)
{
	gboolean run, ok = TRUE;

	g_mutex_lock(&vm->run_lock);
	run = arrived == FERRY_RUN_STATE_RUNNING;
	if (run && (vm->arrive_paused || !autostart)) {
		run = FALSE;
		arrived = FERRY_RUN_STATE_PAUSED;
	}
	if (run) {
		ok = resume_locked(vm, error);
	} else {
		vm->run_state = arrived;
	}
	/* Where the vCPUs did not start nobody has decided yet who runs the guest: no "cont" may do
	 * it. */
	if (ok)
		vm->owner = OWNER_EMBEDDER;
	else
		vm->run_state = FERRY_RUN_STATE_INMIGRATE;
	g_mutex_unlock(&vm->run_lock);
	return ok;
}

gboolean ferry_vm_announce(FerryVm *vm)
{
	gboolean here;

	g_mutex_lock(&vm->run_lock);
	here = vm->callbacks.announce &&
	       (vm->owner == OWNER_EMBEDDER || vm->owner == OWNER_SWITCHOVER);
	if (here && vm->owner == OWNER_EMBEDDER)
		vm->callbacks.announce(vm->user);
	g_mutex_unlock(&vm->run_lock);
	return here;
}

void ferry_vm_save_run_state(FerryVm *vm, FerryRunState state)
{
	ferry_global_state_set(&vm->global_state, ferry_run_state_name(state));
}

void ferry_vm_clear_loaded_run_state(FerryVm *vm)
{
	ferry_global_state_set(&vm->global_state, ferry_run_state_name(FERRY_RUN_STATE_RUNNING));
}

gboolean ferry_vm_loaded_run_state(FerryVm *vm, FerryRunState *state, GError **error)
{
	const char *name = ferry_global_state_get(&vm->global_state, error);

	if (!name)
		return FALSE;
	if (ferry_run_state_from_name(name, state))
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_DEVICE,
		    "section 'globalstate': no run state is called '%s' here", name);
	return FALSE;
}

/* ---- blockers ---- */

guint ferry_vm_add_blocker(FerryVm *vm, const char *reason, GError **error)
{
	Blocker *blocker;
	guint id = 0;

	g_mutex_lock(&vm->list_lock);
	if (!vm->migrating) {
		blocker = g_new0(Blocker, 1);
		id = blocker->id = ++vm->last_id;
		blocker->reason = g_strdup(reason);
		vm->blockers = g_slist_prepend(vm->blockers, blocker);
	}
	g_mutex_unlock(&vm->list_lock);
	if (!id)
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_STATE,
			    "a migration runs: it cannot be blocked any more (%s)", reason);
	return id;
}

void ferry_vm_remove_blocker(FerryVm *vm, guint id)
{
	g_mutex_lock(&vm->list_lock);
	for (GSList *l = vm->blockers; l; l = l->next) {
		if (((Blocker *)l->data)->id == id) {
			free_blocker(l->data);
			vm->blockers = g_slist_delete_link(vm->blockers, l);
			break;
		}
	}
	g_mutex_unlock(&vm->list_lock);
}

char **ferry_vm_blocked_reasons(FerryVm *vm)
{
	char **reasons;

	g_mutex_lock(&vm->list_lock);
	reasons = blocked_reasons_locked(vm);
	g_mutex_unlock(&vm->list_lock);
	return reasons;
}

/* ---- notifiers ---- */

void ferry_vm_emit(FerryVm *vm, const FerryEvent *event)
{
	g_rec_mutex_lock(&vm->notify_lock);
	for (GSList *l = vm->notifiers; l; l = l->next) {
		Notifier *notifier = l->data;

		notifier->func(event, notifier->user);
	}
	g_rec_mutex_unlock(&vm->notify_lock);
}

guint ferry_vm_add_notifier(FerryVm *vm, FerryEventFunc func, gpointer user)
{
	Notifier *notifier = g_new0(Notifier, 1);

	notifier->func = func;
	notifier->user = user;
	g_mutex_lock(&vm->list_lock);
	notifier->id = ++vm->last_id;
	g_mutex_unlock(&vm->list_lock);
	g_rec_mutex_lock(&vm->notify_lock);
	vm->notifiers = g_slist_append(vm->notifiers, notifier);
	g_rec_mutex_unlock(&vm->notify_lock);
	return notifier->id;
}

void ferry_vm_remove_notifier(FerryVm *vm, guint id)
{
	g_rec_mutex_lock(&vm->notify_lock);
	for (GSList *l = vm->notifiers; l; l = l->next) {
		if (((Notifier *)l->data)->id == id) {
			g_free(l->data);
			vm->notifiers = g_slist_delete_link(vm->notifiers, l);
			break;
		}
	}
	g_rec_mutex_unlock(&vm->notify_lock);
}
