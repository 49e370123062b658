/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "engine/bitmap.h"

#include <ferry/dirty.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * A guest of six instructions at privilege level 3 in long mode, which some hosts alone run at full
 * speed. It adds one to a word of a page chosen by a linear congruence, for ever. Guest memory:
 * page tables in the first three pages, code in the fourth, and the pages it writes from DATA on.
 * Three slots of two RAM blocks, so that the third begins at a page that is no multiple of 64.
 */
#define RAM_BYTES (16ull << 20)
#define FIRST_SLOT_BYTES (100ull * FERRY_PAGE_SIZE)
#define CODE 0x3000ull
#define DATA_PAGE 16ull

static const guint8 code[] = {
	0x48, 0x0f, 0xaf, 0xc6,             /* again: imul rax, rsi */
	0x48, 0x01, 0xf8,                   /* add rax, rdi */
	0x48, 0x89, 0xc1,                   /* mov rcx, rax */
	0x48, 0xc1, 0xe9, 0x20,             /* shr rcx, 32 */
	0x48, 0x21, 0xd1,                   /* and rcx, rdx: a page number */
	0x48, 0xc1, 0xe1, 0x0c,             /* shl rcx, 12 */
	0x48, 0xff, 0x84, 0x0b, 0, 0, 1, 0, /* inc qword [rbx + rcx + DATA_PAGE * 4096] */
	0xeb, 0xe1,                         /* jmp again */
};

typedef struct {
	int kvm, vm, vcpu;
	struct kvm_run *run;
	size_t run_size;
	guint8 *host, *shadow;
	FerryRam *ram;
	FerryBitmap *dirty;
	FerryKvmSlot slots[3];
	GThread *thread;
	pthread_t id;
	gint state; /* atomic: 1 running, 2 left */
	gint quit;  /* atomic */
} Fixture;

static void fill_memory(guint8 *host)
{
	guint64 *tables = (guint64 *)host;

	/* Present, writable, user; one 2 MiB entry for each 2 MiB. */
	tables[0] = 0x1000 | 7;
	tables[512] = 0x2000 | 7;
	for (guint64 i = 0; i < RAM_BYTES >> 21; i++)
		tables[1024 + i] = i << 21 | 0x80 | 7;
	memcpy(host + CODE, code, sizeof(code));
}

static gboolean make_ram(Fixture *f)
{
	f->host = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	f->shadow = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			 0);
	f->ram = ferry_ram_new();
	if (!ferry_ram_add(f->ram, "low", f->host, FIRST_SLOT_BYTES / 2, 4096, -1, 0, NULL) ||
	    !ferry_ram_add(f->ram, "high", f->host + FIRST_SLOT_BYTES / 2,
			   RAM_BYTES - FIRST_SLOT_BYTES / 2, 4096, -1, 0, NULL))
		return FALSE;
	f->dirty = ferry_bitmap_new(f->ram);
	fill_memory(f->host);
	return TRUE;
}

static gboolean make_slots(Fixture *f)
{
	const guint64 half = FIRST_SLOT_BYTES / 2;
	/* Block "high" is shown by two slots, the second from its page 50 on; "low" by one. */
	const FerryKvmSlot slots[] = {
		{ .slot = 0, .guest_addr = 0, .block = 0, .offset = 0, .size = half },
		{ .slot = 1, .guest_addr = half, .block = 1, .offset = 0, .size = half },
		{ .slot = 2,
		  .guest_addr = 2 * half,
		  .block = 1,
		  .offset = half,
		  .size = RAM_BYTES - 2 * half },
	};

	for (guint i = 0; i < G_N_ELEMENTS(slots); i++) {
		struct kvm_userspace_memory_region region = {
			.slot = slots[i].slot,
			.guest_phys_addr = slots[i].guest_addr,
			.memory_size = slots[i].size,
			.userspace_addr = (guintptr)f->host + slots[i].guest_addr,
		};

		if (ioctl(f->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
			return FALSE;
		f->slots[i] = slots[i];
	}
	return TRUE;
}

static gboolean set_registers(int vcpu)
{
	const struct kvm_segment user = { .selector = 0x2b,
					  .limit = 0xffffffff,
					  .type = 3,
					  .present = 1,
					  .dpl = 3,
					  .s = 1,
					  .db = 1,
					  .g = 1 };
	struct kvm_regs regs = { .rip = CODE,
				 .rflags = 0x3202,
				 .rax = 1,
				 .rsi = 6364136223846793005ull,
				 .rdi = 1442695040888963407ull,
				 .rdx = 2047 };
	struct kvm_sregs sregs;

	if (ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
		return FALSE;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = user;
	sregs.cs = user;
	sregs.cs.selector = 0x33;
	sregs.cs.type = 0xb;
	sregs.cs.l = 1;
	sregs.cs.db = 0;
	sregs.cr0 = 0x80050033;
	sregs.cr3 = 0;
	sregs.cr4 |= 0x620;
	sregs.efer = 0x501;
	return ioctl(vcpu, KVM_SET_SREGS, &sregs) == 0 && ioctl(vcpu, KVM_SET_REGS, &regs) == 0;
}

static gboolean set_cpuid(Fixture *f)
{
	g_autofree struct kvm_cpuid2 *cpuid = g_malloc0(sizeof(*cpuid) +
							256 * sizeof(struct kvm_cpuid_entry2));

	cpuid->nent = 256;
	return ioctl(f->kvm, KVM_GET_SUPPORTED_CPUID, cpuid) == 0 &&
	       ioctl(f->vcpu, KVM_SET_CPUID2, cpuid) == 0;
}

static gboolean set_up(Fixture *f)
{
	*f = (Fixture){ .vm = -1, .vcpu = -1 };
	f->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (f->kvm < 0 || (f->vm = ioctl(f->kvm, KVM_CREATE_VM, 0)) < 0 || !make_ram(f) ||
	    !make_slots(f))
		return FALSE;
	/* Intel wants both; above RAM. */
	if (ioctl(f->vm, KVM_SET_IDENTITY_MAP_ADDR, &(guint64){ 0xfffbc000 }) < 0 ||
	    ioctl(f->vm, KVM_SET_TSS_ADDR, 0xfffbd000ul) < 0 ||
	    (f->vcpu = ioctl(f->vm, KVM_CREATE_VCPU, 0)) < 0)
		return FALSE;
	f->run_size = (size_t)ioctl(f->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	f->run = mmap(NULL, f->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, f->vcpu, 0);
	return f->run != MAP_FAILED && set_cpuid(f) && set_registers(f->vcpu);
}

static void tear_down(Fixture *f)
{
	if (f->run && f->run != MAP_FAILED)
		munmap(f->run, f->run_size);
	if (f->vcpu >= 0)
		close(f->vcpu);
	if (f->vm >= 0)
		close(f->vm);
	if (f->kvm >= 0)
		close(f->kvm);
	if (f->host)
		munmap(f->host, RAM_BYTES);
	if (f->shadow)
		munmap(f->shadow, RAM_BYTES);
	ferry_bitmap_free(f->dirty);
	ferry_ram_free(f->ram);
}

static void ignore_signal(int number)
{
}

static gpointer vcpu_thread(gpointer data)
{
	Fixture *f = data;

	f->id = pthread_self();
	g_atomic_int_set(&f->state, 1);
	while (!g_atomic_int_get(&f->quit))
		if (ioctl(f->vcpu, KVM_RUN, 0) < 0 && errno != EINTR)
			break;
		else if (f->run->exit_reason != KVM_EXIT_INTR && !g_atomic_int_get(&f->quit))
			break;
	g_atomic_int_set(&f->state, 2);
	return NULL;
}

static void start_guest(Fixture *f)
{
	const struct sigaction action = { .sa_handler = ignore_signal };

	sigaction(SIGUSR1, &action, NULL);
	f->run->immediate_exit = 0;
	f->quit = f->state = 0;
	f->thread = g_thread_new("vcpu", vcpu_thread, f);
	while (!g_atomic_int_get(&f->state))
		g_thread_yield();
}

static void stop_guest(Fixture *f)
{
	g_atomic_int_set(&f->quit, 1);
	__atomic_store_n(&f->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	while (g_atomic_int_get(&f->state) != 2) {
		pthread_kill(f->id, SIGUSR1);
		g_usleep(100);
	}
	g_thread_join(f->thread);
}

static gboolean collect(Fixture *f, FerryDirtySource *source)
{
	for (guint i = 0; i < f->ram->n_blocks; i++)
		if (!source->ops->collect(source, i, ferry_bitmap_block(f->dirty, i), NULL))
			return FALSE;
	return TRUE;
}

static guint64 copy_dirty(Fixture *f)
{
	guint64 pages = 0;

	for (FerryRun run = { 0 }; ferry_bitmap_next_run(f->dirty, &run, 1); pages++) {
		guint64 offset = (guint64)(ferry_run_host(f->ram, &run) - f->host);

		ferry_bitmap_clear_run(f->dirty, &run);
		memcpy(f->shadow + offset, f->host + offset, FERRY_PAGE_SIZE);
	}
	return pages;
}

static void track(Fixture *f, FerryDirtySource *source)
{
	guint64 pages = 0;

	CU_ASSERT_TRUE(source->ops->start(source, f->ram, NULL));
	start_guest(f);
	ferry_bitmap_set_all(f->dirty);
	copy_dirty(f);
	for (guint i = 0; i < 50; i++) {
		guint64 found = 0;

		/* The guest writes for ever: a round without a dirty page only waits for its CPU.
		 */
		for (guint tries = 0; !found && tries < 100000; tries++) {
			CU_ASSERT_TRUE(collect(f, source));
			found = copy_dirty(f);
		}
		pages += found;
	}
	stop_guest(f);
	CU_ASSERT_EQUAL(f->run->exit_reason, KVM_EXIT_INTR);
	CU_ASSERT_TRUE(collect(f, source));
	pages += copy_dirty(f);
	CU_ASSERT(pages > 50);
	CU_ASSERT(memcmp(f->host, f->shadow, RAM_BYTES) == 0);
	source->ops->stop(source);
}

static void kvm_log__guest_writes_at_random__shadow_equals_ram(void)
{
	g_autoptr(FerryDirtySource) source = NULL;
	Fixture f;

	if (!set_up(&f)) {
		tear_down(&f);
		SKIP("no KVM here: load kvm_intel or kvm_amd, and give access to /dev/kvm");
	}
	source = ferry_dirty_source_kvm_log(f.vm, f.slots, G_N_ELEMENTS(f.slots), NULL);
	CU_ASSERT_PTR_NOT_NULL(source);
	for (guint i = 0; source && i < 3; i++)
		track(&f, source);
	tear_down(&f);
}

static void kvm_log__slot_outside_of_its_block__start_names_it(void)
{
	const FerryKvmSlot wrong[] = {
		{ .slot = 7, .block = 9, .size = 4096 },
		{ .slot = 7, .block = 0, .offset = FIRST_SLOT_BYTES / 2, .size = 4096 },
		{ .slot = 7, .block = 0, .offset = 4096, .size = FIRST_SLOT_BYTES / 2 },
		{ .slot = 7, .block = 0, .offset = -4096ull, .size = 8192 },
		{ .slot = 7, .block = 0 },
	};
	Fixture f = { 0 };

	CU_ASSERT_TRUE(make_ram(&f));
	for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
		g_autoptr(GError) error = NULL;
		g_autoptr(FerryDirtySource)
			source = ferry_dirty_source_kvm_log(-1, &wrong[i], 1, NULL);

		CU_ASSERT_FALSE(source->ops->start(source, f.ram, &error));
		CU_ASSERT_TRUE(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_INVALID));
		CU_ASSERT_PTR_NOT_NULL(error ? strstr(error->message, "slot 7") : NULL);
	}
	f.kvm = f.vm = f.vcpu = -1;
	tear_down(&f);
}

static void kvm_log__unaligned_slot__is_refused(void)
{
	const FerryKvmSlot slot = { .slot = 1, .guest_addr = 1, .size = 4096 };
	g_autoptr(GError) error = NULL;

	CU_ASSERT_PTR_NULL(ferry_dirty_source_kvm_log(-1, &slot, 1, &error));
	CU_ASSERT_TRUE(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_INVALID));
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(kvm_log__guest_writes_at_random__shadow_equals_ram),
		CASE(kvm_log__slot_outside_of_its_block__start_names_it),
		CASE(kvm_log__unaligned_slot__is_refused),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "KVM dirty log", cases);
}
