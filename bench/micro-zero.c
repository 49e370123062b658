/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>
#include "engine/zero.h"
#include "micro.h"

enum {
	ZERO,
	RANDOM,
	LATE,
	CACHED = 16
};

typedef struct {
	const guint8 *memory; /* borrowed */
	gsize size;
	gsize passes; /* over it, in one pass */
	guint64 *scrap;
} Test;

static gpointer test_begin(const FerryMicroMemory *memory, guint variant)
{
	Test *test = g_new0(Test, 1);
	guint kind = variant & ~(guint)CACHED;

	test->memory = kind == ZERO ? memory->zero : kind == LATE ? memory->late : memory->random;
	test->size = variant & CACHED ? memory->cached : memory->size;
	test->passes = variant & CACHED ? 16 : 1;
	test->scrap = memory->scrap;
	return test;
}

/* The measure of the others: the C library reads all of it, in vain. */
static guint64 read_pass(gpointer state)
{
	const Test *test = state;

	for (gsize pass = 0; pass < test->passes; pass++)
		*test->scrap += memchr(test->memory, 1, test->size) != NULL;
	return test->passes * test->size / FERRY_PAGE_SIZE;
}

/* As engine/round.c walks a dirty run: into stretches of zero pages and of others. */
static guint64 split_pass(gpointer state)
{
	const Test *test = state;
	guint64 pages = test->size / FERRY_PAGE_SIZE, stretches = 0;

	for (gsize pass = 0; pass < test->passes; pass++) {
		for (guint64 i = 0; i < pages; stretches++) {
			gboolean zero;

			i += ferry_zero_split(test->memory + i * FERRY_PAGE_SIZE, pages - i, &zero);
		}
	}
	*test->scrap += stretches;
	return test->passes * pages;
}

const FerryMicroCase ferry_micro_zero_cases[] = {
	{ "read/memory", test_begin, read_pass, g_free, ZERO },
	{ "read/cache", test_begin, read_pass, g_free, ZERO | CACHED },
	{ "zero-test/zero", test_begin, split_pass, g_free, ZERO },
	{ "zero-test/zero-in-cache", test_begin, split_pass, g_free, ZERO | CACHED },
	{ "zero-test/random", test_begin, split_pass, g_free, RANDOM },
	{ "zero-test/late", test_begin, split_pass, g_free, LATE },
	{ "zero-test/late-in-cache", test_begin, split_pass, g_free, LATE | CACHED },
	{ NULL },
};
