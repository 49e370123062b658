/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>
#include <sys/mman.h>
#include "micro.h"

/* More than the last cache of most processors, so that it comes from memory. */
#define DEFAULT_SIZE (128u << 20)
/* Half of the second cache of a small core. */
#define CACHED (256u << 10)
/* The dirty bitmap of so much has 2 MiB. */
#define GUEST (64ull << 30)

static guint8 *map(gsize size, int fill)
{
	guint8 *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			      0);

	if (memory == MAP_FAILED)
		return NULL;
	/* Without being written it would be one page of zeros, again and again. */
	memset(memory, fill, size);
	return memory;
}

static void fill_random(guint8 *memory, gsize size)
{
	guint64 state = 88172645463325252ull, *words = (guint64 *)memory;

	for (gsize i = 0; i < size / sizeof(*words); i++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		words[i] = state;
	}
	for (gsize i = 0; i < size; i += FERRY_PAGE_SIZE)
		memory[i] |= 1;
}

FerryMicroMemory *ferry_micro_memory_new(gsize size)
{
	g_autoptr(FerryMicroMemory) memory = g_new0(FerryMicroMemory, 1);

	memory->size = size ? size & -(gsize)FERRY_PAGE_SIZE : DEFAULT_SIZE;
	memory->cached = MIN(memory->size, CACHED);
	memory->guest = size ? MIN(GUEST, (guint64)memory->size * 64) : GUEST;
	memory->zero = map(memory->size, 0);
	memory->random = map(memory->size, 1);
	memory->late = map(memory->size, 0);
	memory->scrap = g_new0(guint64, 1);
	if (!memory->zero || !memory->random || !memory->late)
		return NULL;
	fill_random(memory->random, memory->size);
	for (gsize i = FERRY_PAGE_SIZE; i <= memory->size; i += FERRY_PAGE_SIZE)
		memory->late[i - 1] = 1;
	return g_steal_pointer(&memory);
}

void ferry_micro_memory_free(FerryMicroMemory *memory)
{
	if (!memory)
		return;
	if (memory->late)
		munmap(memory->late, memory->size);
	if (memory->random)
		munmap(memory->random, memory->size);
	if (memory->zero)
		munmap(memory->zero, memory->size);
	g_free(memory->scrap);
	g_free(memory);
}
