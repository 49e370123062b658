/* SPDX-License-Identifier: BSD-2-Clause */
#include "engine/smaps.h"
#include "harness.h"

static const char text[] =
	"10000-20000 rw-p 00000000 00:00 0 \n"
	"Size:                 64 kB\n"
	"Anonymous:            64 kB\n"
	"ShmemPmdMapped:        0 kB\n"
	"THPeligible:    1\n"
	"VmFlags: rd wr mr mw me ac sd mg \n"
	"20000-30000 rw-s 00000000 00:01 7   /memfd:a-b c (deleted)\n"
	"ShmemPmdMapped:        0 kB\n"
	"FilePmdMapped:         0 kB\n"
	"THPeligible:           0\n"
	"VmFlags: rd wr sh mr mw me ms lo \n"
	"30000-40000 rw-s 00000000 00:01 8   /memfd:b (deleted)\n"
	"ShmemPmdMapped:     2048 kB\n"
	"THPeligible:           0\n"
	"VmFlags: rd wr sh mr mw me ms \n"
	"7f0000200000-7f0000400000 rw-s 00000000 00:0f 9   /anon_hugepage (deleted)\n"
	"THPeligible:    0\n"
	"VmFlags: rd wr sh mr mw me ms de ht \n";

static void find__one_mapping__its_flags(void)
{
	const struct {
		guint64 start;
		FerrySmaps want;
	} rows[] = {
		{ 0x10000, { .mergeable = TRUE } },
		{ 0x20000, { .shared = TRUE, .locked = TRUE } },
		{ 0x30000, { .shared = TRUE, .shared_huge = TRUE } },
		{ 0x7f0000200000, { .shared = TRUE, .hugetlb = TRUE } },
	};

	for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
		FerrySmaps got;

		CU_ASSERT_TRUE(
			ferry_smaps_find(text, rows[i].start, rows[i].start + 0x10000, &got));
		CU_ASSERT_EQUAL(got.shared, rows[i].want.shared);
		CU_ASSERT_EQUAL(got.shared_huge, rows[i].want.shared_huge);
		CU_ASSERT_EQUAL(got.hugetlb, rows[i].want.hugetlb);
		CU_ASSERT_EQUAL(got.mergeable, rows[i].want.mergeable);
		CU_ASSERT_EQUAL(got.locked, rows[i].want.locked);
	}
}

static void find__several_mappings__summed_up(void)
{
	FerrySmaps got;

	CU_ASSERT_TRUE(ferry_smaps_find(text, 0x1f000, 0x31000, &got));
	CU_ASSERT_TRUE(got.shared && got.shared_huge && got.mergeable);
	CU_ASSERT_FALSE(got.locked || got.hugetlb);
}

static void find__no_mapping__false(void)
{
	FerrySmaps got;

	CU_ASSERT_FALSE(ferry_smaps_find(text, 0x40000, 0x50000, &got));
	CU_ASSERT_FALSE(ferry_smaps_find(text, 0, 0x10000, &got));
	CU_ASSERT_FALSE(ferry_smaps_find("", 0, G_MAXUINT64, &got));
}

static void find__every_truncation__stays_inside(void)
{
	for (gsize len = 0; len < sizeof(text); len++) {
		g_autofree char *cut = g_strndup(text, len);
		FerrySmaps got;

		(void)ferry_smaps_find(cut, 0, G_MAXUINT64, &got);
	}
	CU_PASS("under the address sanitizer");
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(find__one_mapping__its_flags),
		CASE(find__several_mappings__summed_up),
		CASE(find__no_mapping__false),
		CASE(find__every_truncation__stays_inside),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "smaps", cases);
}
