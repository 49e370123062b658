/* SPDX-License-Identifier: BSD-2-Clause */
#include "engine/mapping.h"
#include "harness.h"

#include <sys/sysmacros.h>

static const char text[] =
	"10000-20000 rw-p 00000000 00:00 0 \n"
	"20000-30000 ---p 00000000 00:00 0                  [anon: guard]\n"
	"30000-40000 rw-s 00001000 00:01 1037               /memfd:a b (deleted)\n"
	"40000-50000 r--s 00011000 00:01 1037               /memfd:a b (deleted)\n"
	"50000-60000 rw-s 00031000 00:01 1037               /memfd:a b (deleted)\n"
	"60000-70000 rw-s 00041000 fd:12 1037               /ram\n"
	"90000-a0000 rw-p 00000000 fd:12 7                  /ram\n"
	"7f0000200000-7f0000400000 rw-p 00000000 00:0f 33   /anon_hugepage (deleted)\n"
	"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]\n";

static void find__one_backing__what_it_is(void)
{
	const struct {
		guint64 start, end;
		FerryMapping want;
	} rows[] = {
		{ 0x10000, 0x20000, { 0 } },
		{ 0x18000, 0x28000, { 0 } },
		{ 0x30000, 0x50000, { TRUE, FALSE, makedev(0, 1), 1037, 0x1000 } },
		{ 0x42000, 0x43000, { TRUE, FALSE, makedev(0, 1), 1037, 0x13000 } },
		{ 0x60000, 0x70000, { TRUE, FALSE, makedev(0xfd, 0x12), 1037, 0x41000 } },
		{ 0x90000, 0xa0000, { FALSE, FALSE, makedev(0xfd, 0x12), 7, 0 } },
		{ 0x7f0000200000, 0x7f0000400000, { FALSE, TRUE, makedev(0, 0xf), 33, 0 } },
	};

	for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
		FerryMapping got;

		CU_ASSERT_TRUE(ferry_mapping_find(text, rows[i].start, rows[i].end, &got));
		CU_ASSERT_EQUAL(got.shared, rows[i].want.shared);
		CU_ASSERT_EQUAL(got.hugetlb, rows[i].want.hugetlb);
		CU_ASSERT_EQUAL(got.device, rows[i].want.device);
		CU_ASSERT_EQUAL(got.inode, rows[i].want.inode);
		CU_ASSERT_EQUAL(got.offset, rows[i].want.offset);
	}
}

static void find__several_backings_or_none__false(void)
{
	const guint64 rows[][2] = {
		{ 0x20000, 0x40000 }, /* another sharing */
		{ 0x40000, 0x60000 }, /* another offset */
		{ 0x50000, 0x70000 }, /* another device */
		{ 0x60000, 0x90000 }, /* nothing behind it */
		{ 0x80000, 0x98000 }, /* nothing before it */
		{ 0x60000, 0xa0000 }, /* nothing within it */
		{ 0x10000, 0x10000 }, { 0x1000, 0x2000 },
	};
	FerryMapping got;

	for (guint i = 0; i < G_N_ELEMENTS(rows); i++)
		CU_ASSERT_FALSE(ferry_mapping_find(text, rows[i][0], rows[i][1], &got));
	CU_ASSERT_FALSE(ferry_mapping_find("", 0x10000, 0x20000, &got));
}

static void find__every_truncation__stays_inside(void)
{
	for (gsize len = 0; len < sizeof(text); len++) {
		g_autofree char *cut = g_strndup(text, len);
		FerryMapping got;

		(void)ferry_mapping_find(cut, 0x10000, G_MAXUINT64, &got);
	}
	CU_PASS("under the address sanitizer");
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(find__one_backing__what_it_is),
		CASE(find__several_backings_or_none__false),
		CASE(find__every_truncation__stays_inside),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "mapping", cases);
}
