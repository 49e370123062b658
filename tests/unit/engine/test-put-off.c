/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "engine/put-off.h"

#include <sys/mman.h>

#define PAGES 256u

typedef struct {
	FerryRam *ram;
	void *host;
	FerryPutOff *put_off;
	FerryBitmap *pending;
} Fixture;

static void set_up(Fixture *f)
{
	f->host = mmap(NULL, PAGES * FERRY_PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);
	f->ram = ferry_ram_new();
	CU_ASSERT_TRUE(ferry_ram_add(f->ram, "ram", f->host, PAGES * FERRY_PAGE_SIZE,
				     FERRY_PAGE_SIZE, -1, 0, NULL));
	f->put_off = ferry_put_off_new(f->ram);
	f->pending = ferry_bitmap_new(f->ram);
}

static void tear_down(Fixture *f)
{
	ferry_bitmap_free(f->pending);
	ferry_put_off_free(f->put_off);
	ferry_ram_free(f->ram);
	munmap(f->host, PAGES * FERRY_PAGE_SIZE);
}

/* A collect that finds @pages pages from @first on. */
static void collect(Fixture *f, guint64 first, guint64 pages)
{
	g_autoptr(FerryBitmap) dirtied = ferry_bitmap_new(f->ram);

	ferry_bitmap_set_run(dirtied, &(FerryRun){ 0, first, pages });
	ferry_put_off_collected(f->put_off, dirtied);
	ferry_bitmap_move(f->pending, dirtied);
}

/* A round sends all that it is left with. */
static guint64 go_round(Fixture *f, guint64 most, guint64 *sent)
{
	g_autoptr(FerryBitmap) gone = ferry_bitmap_new(f->ram);
	guint64 put_off = ferry_put_off_take(f->put_off, f->pending, most);

	*sent = ferry_bitmap_count(f->pending);
	ferry_bitmap_move(gone, f->pending);
	ferry_put_off_give_back(f->put_off, f->pending);
	CU_ASSERT_EQUAL(ferry_bitmap_count(f->pending), put_off);
	return put_off;
}

static void take__written_once__goes(void)
{
	guint64 sent;
	Fixture f;

	set_up(&f);
	collect(&f, 0, 100);
	CU_ASSERT_EQUAL(go_round(&f, PAGES, &sent), 0);
	CU_ASSERT_EQUAL(sent, 100);
	collect(&f, 100, 50);
	CU_ASSERT_EQUAL(go_round(&f, PAGES, &sent), 0);
	CU_ASSERT_EQUAL(sent, 50);
	tear_down(&f);
}

static void take__written_twice_in_a_row__waits(void)
{
	guint64 sent;
	Fixture f;

	set_up(&f);
	collect(&f, 0, 100);
	go_round(&f, PAGES, &sent);
	collect(&f, 50, 100);
	CU_ASSERT_EQUAL(go_round(&f, PAGES, &sent), 50);
	CU_ASSERT_EQUAL(sent, 50);
	tear_down(&f);
}

static void take__not_written_again__goes_with_the_next_round(void)
{
	guint64 sent;
	Fixture f;

	set_up(&f);
	collect(&f, 0, 100);
	go_round(&f, PAGES, &sent);
	collect(&f, 0, 100);
	CU_ASSERT_EQUAL(go_round(&f, PAGES, &sent), 100);
	CU_ASSERT_EQUAL(sent, 0);
	/* 80 of them were not. */
	collect(&f, 0, 20);
	CU_ASSERT_EQUAL(go_round(&f, PAGES, &sent), 20);
	CU_ASSERT_EQUAL(sent, 80);
	tear_down(&f);
}

static void take__more_than_the_bound__the_rest_goes(void)
{
	guint64 sent;
	Fixture f;

	set_up(&f);
	collect(&f, 0, 200);
	go_round(&f, PAGES, &sent);
	collect(&f, 0, 200);
	CU_ASSERT_EQUAL(go_round(&f, 30, &sent), 30);
	CU_ASSERT_EQUAL(sent, 170);
	collect(&f, 0, 200);
	CU_ASSERT_EQUAL(go_round(&f, 0, &sent), 0);
	CU_ASSERT_EQUAL(sent, 200);
	tear_down(&f);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(take__written_once__goes),
		CASE(take__written_twice_in_a_row__waits),
		CASE(take__not_written_again__goes_with_the_next_round),
		CASE(take__more_than_the_bound__the_rest_goes),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "pages put off", cases);
}
