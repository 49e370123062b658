/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "engine/digest.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE (9ull * (1 << 20) + 3 * 4096) /* not a whole number of chunks */

typedef struct {
	FerryRam *ram;
	guint8 *host;
	guint64 size;
	int fd;
} Fixture;

static void set_up(Fixture *f, gboolean file, const char *name, guint64 size)
{
	f->size = size;
	f->fd = file ? memfd_create("test-digest", MFD_CLOEXEC) : -1;
	if (file)
		CU_ASSERT_EQUAL(ftruncate(f->fd, (off_t)size), 0);
	f->host = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       file ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, f->fd, 0);
	f->ram = ferry_ram_new();
	CU_ASSERT_TRUE(ferry_ram_add(f->ram, name, f->host, size, FERRY_PAGE_SIZE, f->fd, 0, NULL));
}

static void tear_down(Fixture *f)
{
	munmap(f->host, f->size);
	if (f->fd >= 0)
		close(f->fd);
	ferry_ram_free(f->ram);
}

static guint64 digest(const Fixture *f)
{
	guint64 value = 0;

	CU_ASSERT_TRUE(ferry_digest_ram(f->ram, NULL, &value));
	return value;
}

static guint64 digest_of(gboolean file, const char *name, guint64 size)
{
	Fixture f;
	guint64 value;

	set_up(&f, file, name, size);
	value = digest(&f);
	tear_down(&f);
	return value;
}

static void digest__holes_or_written_zeros__are_the_same(void)
{
	guint64 untouched, zeros, in_part;
	Fixture f;

	set_up(&f, TRUE, "ram", SIZE);
	untouched = digest(&f);
	memset(f.host + 5 * FERRY_PAGE_SIZE, 0, 100 * FERRY_PAGE_SIZE);
	in_part = digest(&f);
	memset(f.host, 0, SIZE);
	zeros = digest(&f);
	tear_down(&f);
	CU_ASSERT_EQUAL(untouched, zeros);
	CU_ASSERT_EQUAL(untouched, in_part);
	CU_ASSERT_EQUAL(untouched, digest_of(FALSE, "ram", SIZE));
}

static void digest__untouched_memory__stays_untouched(void)
{
	guint8 resident[SIZE / FERRY_PAGE_SIZE];
	Fixture f;
	guint n = 0;

	set_up(&f, TRUE, "ram", SIZE);
	f.host[0] = 1;
	digest(&f);
	CU_ASSERT_EQUAL(mincore(f.host, SIZE, resident), 0);
	for (guint i = 0; i < sizeof(resident); i++)
		n += resident[i] & 1;
	CU_ASSERT_EQUAL(n, 1);
	tear_down(&f);
}

static void digest__any_byte_changed__differs(void)
{
	const guint64 at[] = { 0, 4095, 1 << 20, (2 << 20) - 1, 2 << 20, SIZE - 1 };
	guint64 before;
	Fixture f;

	set_up(&f, TRUE, "ram", SIZE);
	memset(f.host, 0x5a, SIZE / 2);
	before = digest(&f);
	CU_ASSERT_EQUAL(before, digest(&f));
	for (guint i = 0; i < G_N_ELEMENTS(at); i++) {
		f.host[at[i]] ^= 1;
		CU_ASSERT_NOT_EQUAL(before, digest(&f));
		f.host[at[i]] ^= 1;
	}
	CU_ASSERT_EQUAL(before, digest(&f));
	tear_down(&f);
}

static void digest__chunks_swapped__differs(void)
{
	guint64 before;
	Fixture f;

	set_up(&f, TRUE, "ram", 4 << 20);
	memset(f.host, 1, 2 << 20);
	before = digest(&f);
	memset(f.host, 0, 2 << 20);
	memset(f.host + (2 << 20), 1, 2 << 20);
	CU_ASSERT_NOT_EQUAL(before, digest(&f));
	tear_down(&f);
}

static void digest__other_name_or_size__differs(void)
{
	CU_ASSERT_NOT_EQUAL(digest_of(TRUE, "a", SIZE), digest_of(TRUE, "b", SIZE));
	CU_ASSERT_NOT_EQUAL(digest_of(TRUE, "a", SIZE),
			    digest_of(TRUE, "a", SIZE + FERRY_PAGE_SIZE));
}

static void digest__cancelled__fails_and_leaves_the_result(void)
{
	guint64 value = 42;
	gint cancel = 1;
	Fixture f;

	set_up(&f, TRUE, "ram", SIZE);
	CU_ASSERT_FALSE(ferry_digest_ram(f.ram, &cancel, &value));
	CU_ASSERT_EQUAL(value, 42);
	tear_down(&f);
}

/* Writes one page of each chunk, at several paces: a pass beside it has then seen, with one chunk,
 * that the next was a hole. */
static void digest__catching_up_with_the_first_write__misses_nothing(void)
{
	for (guint pace_us = 0; pace_us < 400; pace_us += 10) {
		g_autoptr(FerryDigest) behind = NULL;
		guint64 value = 0;
		Fixture f;

		set_up(&f, TRUE, "ram", 64 << 20);
		behind = ferry_digest_new(f.ram);
		for (guint64 page = 1; page < f.size >> FERRY_PAGE_SHIFT; page += 512) {
			gint64 next = g_get_monotonic_time() + pace_us;
			FerryRun run = { 0, page, 1 };

			CU_ASSERT_EQUAL(pwrite(f.fd, "x", 1, (off_t)(page << FERRY_PAGE_SHIFT)), 1);
			ferry_digest_touched(behind, &run);
			ferry_digest_catch_up(behind);
			while (g_get_monotonic_time() < next)
				continue;
		}
		CU_ASSERT_TRUE(ferry_digest_finish(behind, NULL, &value));
		CU_ASSERT_EQUAL(value, digest(&f));
		g_clear_pointer(&behind, ferry_digest_free);
		tear_down(&f);
	}
}

static void digest__written_memory__speed_is_printed(void)
{
	gint64 best = G_MAXINT64;
	Fixture f;

	set_up(&f, TRUE, "ram", 256 << 20);
	memset(f.host, 0x5a, f.size);
	for (guint i = 0; i < 3; i++) {
		gint64 begin = g_get_monotonic_time();

		digest(&f);
		best = MIN(best, g_get_monotonic_time() - begin);
	}
	printf("# %.1f GB/s\n", (double)f.size / 1e3 / (double)best);
	tear_down(&f);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(digest__holes_or_written_zeros__are_the_same),
		CASE(digest__untouched_memory__stays_untouched),
		CASE(digest__any_byte_changed__differs),
		CASE(digest__chunks_swapped__differs),
		CASE(digest__other_name_or_size__differs),
		CASE(digest__cancelled__fails_and_leaves_the_result),
		CASE(digest__catching_up_with_the_first_write__misses_nothing),
		CASE(digest__written_memory__speed_is_printed),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "digest of RAM", cases);
}
