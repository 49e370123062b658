/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define CPUID_ENTRIES 256u
#define GIB (1ull << 30)

/* Page table entries with accessed and dirty set: the walker has nothing to write. */
#define PTE_TABLE 0x27u /* present, writable, user, accessed */
#define PTE_2M 0xe7u    /* and dirty, large */

#define TSS_IOMAP_BASE 0x66u
#define TSS_BYTES 0x68u /* without the I/O bitmap */

/* Where Intel's KVM wants four pages for real mode, which this guest never enters. */
#define KVM_IDENTITY_MAP 0xfffbc000ull

extern const guint8 ferry_kvm_image[], ferry_kvm_image_end[];

gboolean ferry_kvm_failed(GError **error, FerryErrorCode code, const char *call)
{
	int saved = errno;

	g_set_error(error, FERRY_ERROR, code, "KVM: %s: %s", call, g_strerror(saved));
	return FALSE;
}

/* Identity mapping of all RAM by 2 MiB pages that CPL 3 may use. */
static void write_page_tables(const FerryMachine *machine, guint8 *ram)
{
	guint64 *pml4 = (guint64 *)(ram + FERRY_AT_PML4);
	guint64 *pdpt = (guint64 *)(ram + FERRY_AT_PDPT);
	guint64 gibs = (machine->ram.size + GIB - 1) / GIB;

	memset(ram + FERRY_AT_PML4, 0, 2 * FERRY_PAGE_BYTES);
	pml4[0] = FERRY_AT_PDPT | PTE_TABLE;
	for (guint64 gib = 0; gib < gibs; gib++) {
		guint64 at = FERRY_AT_PD + gib * FERRY_PAGE_BYTES;
		guint64 *pd = (guint64 *)(ram + at);

		pdpt[gib] = at | PTE_TABLE;
		for (guint i = 0; i < 512; i++)
			pd[i] = (gib * GIB + i * (GIB / 512)) | PTE_2M;
	}
}

/* CPL 3 may use the ports 0 to 255; one more byte of ones ends the bitmap. */
static void write_tss(guint8 *ram)
{
	guint8 *tss = ram + FERRY_AT_TSS;

	memset(tss, 0, TSS_BYTES + 32);
	tss[TSS_IOMAP_BASE] = TSS_BYTES;
	tss[TSS_BYTES + 32] = 0xff;
}

static void kvm_write_system(const FerryMachine *machine, guint8 *ram)
{
	write_tss(ram);
	write_page_tables(machine, ram);
	memcpy(ram + FERRY_AT_PROGRAM, ferry_kvm_image,
	       (gsize)(ferry_kvm_image_end - ferry_kvm_image));
}

static gpointer kvm_vcpu_opaque(FerryMachine *machine, guint index)
{
	return &ferry_kvm_of(machine)->vcpu[index];
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void kvm_free(FerryMachine *machine)
{
	FerryKvm *kvm = ferry_kvm_of(machine);

	for (guint i = 0; i < FERRY_VCPUS_MAX; i++)
		ferry_kvm_vcpu_free(&kvm->vcpu[i]);
	close_fd(kvm->vm_fd);
	close_fd(kvm->kvm_fd);
	g_free(kvm->cpuid);
	g_free(kvm);
}

static const FerryMachineOps kvm_ops = {
	.name = "ferry-kvm",
	.vcpus = { .run = ferry_kvm_vcpu_run, .signal = FERRY_KVM_SIGNAL },
	.vcpu_vmstate = &ferry_kvm_vcpu_vmstate,
	.vcpu_opaque = kvm_vcpu_opaque,
	.vcpu_prepare = ferry_kvm_vcpu_prepare,
	.vcpu_boot = ferry_kvm_vcpu_boot,
	.vcpu_registers = ferry_kvm_vcpu_registers,
	.write_system = kvm_write_system,
	.free = kvm_free,
};

static gboolean open_kvm(FerryKvm *kvm, GError **error)
{
	int size;

	kvm->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm->kvm_fd < 0) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP, "/dev/kvm: %s%s",
			    g_strerror(errno), errno == EACCES ? "; join the group kvm" : "");
		return FALSE;
	}
	if (ioctl(kvm->kvm_fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		return ferry_kvm_failed(error, FERRY_ERROR_NOSUPP, "KVM_GET_API_VERSION");
	size = ioctl(kvm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size <= 0)
		return ferry_kvm_failed(error, FERRY_ERROR_NOSUPP, "KVM_GET_VCPU_MMAP_SIZE");
	kvm->run_size = (gsize)size;
	kvm->cpuid = g_malloc0(sizeof(*kvm->cpuid) +
			       CPUID_ENTRIES * sizeof(struct kvm_cpuid_entry2));
	kvm->cpuid->nent = CPUID_ENTRIES;
	if (ioctl(kvm->kvm_fd, KVM_GET_SUPPORTED_CPUID, kvm->cpuid) < 0)
		return ferry_kvm_failed(error, FERRY_ERROR_NOSUPP, "KVM_GET_SUPPORTED_CPUID");
	return TRUE;
}

static gboolean create_vm(FerryKvm *kvm, const FerryBacking *ram, GError **error)
{
	struct kvm_userspace_memory_region slot = {
		.memory_size = ram->size,
		.userspace_addr = (guint64)(gsize)ram->host,
	};
	guint64 identity = KVM_IDENTITY_MAP;

	kvm->vm_fd = ioctl(kvm->kvm_fd, KVM_CREATE_VM, 0);
	if (kvm->vm_fd < 0)
		return ferry_kvm_failed(error, FERRY_ERROR_NOSUPP, "KVM_CREATE_VM");
	if (ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
		return ferry_kvm_failed(error, FERRY_ERROR_NOSUPP, "KVM_SET_USER_MEMORY_REGION");
	/* Only old Intel processors need them, and larger RAM leaves no room: failure is no matter.
	 */
	if (ram->size <= KVM_IDENTITY_MAP) {
		ioctl(kvm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
		ioctl(kvm->vm_fd, KVM_SET_TSS_ADDR, (gulong)(identity + FERRY_PAGE_BYTES));
	}
	return TRUE;
}

FerryMachine *ferry_machine_new_kvm(const FerryBacking *ram, const FerryPlan *plan, GError **error)
{
	FerryKvm *kvm = g_new0(FerryKvm, 1);
	g_autoptr(FerryMachine) machine = &kvm->machine;

	kvm->kvm_fd = kvm->vm_fd = -1;
	for (guint i = 0; i < FERRY_VCPUS_MAX; i++) {
		kvm->vcpu[i] = (FerryKvmVcpu){ .kvm = kvm, .index = i, .fd = -1 };
		kvm->vcpu[i].state.msrs = g_new0(FerryKvmMsr, FERRY_KVM_MSRS_MAX);
	}
	ferry_machine_init(machine, &kvm_ops, &(FerryBacking){ .fd = -1 }, plan);
	if (!open_kvm(kvm, error) || !create_vm(kvm, ram, error))
		return NULL;
	machine->ram = *ram;
	return g_steal_pointer(&machine);
}

int ferry_machine_kvm_fd(const FerryMachine *machine)
{
	return machine->ops == &kvm_ops ? ((const FerryKvm *)machine)->vm_fd : -1;
}

/* ---- probe ---- */

#define PROBE_RAM (4u << 20)
#define PROBE_PAGES                                                                                \
	64u /* an emulated guest does a few in 10 ms, a native one tens of thousands               \
	     */
#define PROBE_TRIES 20u

static gboolean probe_once(FerryMachine *machine, FerryRegisters *registers, GError **error)
{
	if (!ferry_machine_start(machine, error))
		return FALSE;
	g_usleep(10000);
	ferry_machine_stop(machine);
	return machine->ops->vcpu_registers(machine, 0, registers, error);
}

gboolean ferry_kvm_probe(GError **error)
{
	const FerryPlan plan = { .order = FERRY_ORDER_SWEEP, .vcpus = 1 };
	FerryBacking ram = { .fd = -1 };
	FerryRegisters registers = { 0 };
	g_autoptr(FerryMachine) machine = NULL;

	if (!ferry_backing_open(&ram, "memfd", PROBE_RAM, error))
		return FALSE;
	machine = ferry_machine_new_kvm(&ram, &plan, error);
	if (!machine) {
		ferry_backing_close(&ram);
		return FALSE;
	}
	if (!ferry_machine_boot(machine, error))
		return FALSE;
	for (guint i = 0; i < PROBE_TRIES && registers.progress < PROBE_PAGES; i++)
		if (!probe_once(machine, &registers, error))
			return FALSE;
	if (registers.progress >= PROBE_PAGES && !registers.faults)
		return TRUE;
	g_set_error(error, FERRY_ERROR, FERRY_ERROR_NOSUPP,
		    "/dev/kvm: a trial guest wrote %" G_GUINT64_FORMAT
		    " pages in %u ms and found %" G_GUINT64_FORMAT
		    " faults; the host runs it emulated or not at all",
		    registers.progress, 10 * PROBE_TRIES, registers.faults);
	return FALSE;
}
