/* SPDX-License-Identifier: BSD-2-Clause */
#include "vm-private.h"

gboolean ferry_vm_has_throttle(FerryVm *vm)
{
	gpointer user;

	return ferry_vm_callbacks(vm, &user)->throttle != NULL;
}

gboolean ferry_vm_has_vcpu_throttle(FerryVm *vm)
{
	gpointer user;
	const FerryVmCallbacks *callbacks = ferry_vm_callbacks(vm, &user);

	return callbacks->vcpu_dirty_pages && callbacks->throttle_vcpu;
}

void ferry_vm_throttle(FerryVm *vm, guint percent)
{
	gpointer user;
	const FerryVmCallbacks *callbacks = ferry_vm_callbacks(vm, &user);

	if (!callbacks->throttle)
		return;
	ferry_vm_lock_callbacks(vm);
	callbacks->throttle(user, percent);
	ferry_vm_unlock_callbacks(vm);
}

void ferry_vm_throttle_vcpu(FerryVm *vm, guint vcpu, double percent)
{
	gpointer user;
	const FerryVmCallbacks *callbacks = ferry_vm_callbacks(vm, &user);

	if (!callbacks->throttle_vcpu)
		return;
	ferry_vm_lock_callbacks(vm);
	callbacks->throttle_vcpu(user, vcpu, percent);
	ferry_vm_unlock_callbacks(vm);
}

guint ferry_vm_vcpu_dirty_pages(FerryVm *vm, guint64 *pages, guint max)
{
	gpointer user;
	const FerryVmCallbacks *callbacks = ferry_vm_callbacks(vm, &user);

	/* Not under the lock: it is only read. */
	return callbacks->vcpu_dirty_pages ? MIN(callbacks->vcpu_dirty_pages(user, pages, max), max)
					   : 0;
}

guint ferry_vm_vcpu_threads(FerryVm *vm, gint32 *ids, guint max)
{
	gpointer user;
	const FerryVmCallbacks *callbacks = ferry_vm_callbacks(vm, &user);

	/* Not under the lock: a pause() that holds it may wait for a page that the caller
	 * brings. */
	return callbacks->vcpu_threads ? MIN(callbacks->vcpu_threads(user, ids, max), max) : 0;
}
