/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"
#include "engine/first-touch.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGES 300ull
#define SIZE (PAGES * FERRY_PAGE_SIZE)

typedef struct {
	FerryRam *ram;
	guint8 *host;
	int fd;
	guint64 state;    /* of the stream's bytes */
	guint64 left;     /* bytes until the stream breaks */
	guint64 into_ram; /* bytes that were read straight into RAM */
} Fixture;

static void set_up(Fixture *f, int fd)
{
	*f = (Fixture){ .fd = fd, .state = 1, .left = G_MAXUINT64 };
	f->host = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
		       fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, fd,
		       fd >= 0 ? 4 * FERRY_PAGE_SIZE : 0);
	f->ram = ferry_ram_new();
	CU_ASSERT_TRUE(ferry_ram_add(f->ram, "ram", f->host, SIZE, FERRY_PAGE_SIZE, fd,
				     4 * FERRY_PAGE_SIZE, NULL));
}

static int new_memfd(void)
{
	int fd = memfd_create("test-first-touch", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	CU_ASSERT_EQUAL(ftruncate(fd, (off_t)(SIZE + 4 * FERRY_PAGE_SIZE)), 0);
	return fd;
}

static void tear_down(Fixture *f)
{
	munmap(f->host, SIZE);
	if (f->fd >= 0)
		close(f->fd);
	ferry_ram_free(f->ram);
}

static guint8 next_byte(guint64 *state)
{
	*state = *state * 6364136223846793005ull + 1442695040888963407ull;
	return (guint8)(*state >> 56);
}

static gboolean read_stream(gpointer user, void *buf, size_t len, GError **error)
{
	Fixture *f = user;
	guint8 *bytes = buf;

	if (len > f->left) {
		g_set_error(error, FERRY_ERROR, FERRY_ERROR_LINK, "broken");
		return FALSE;
	}
	f->left -= len;
	if (bytes >= f->host && bytes < f->host + SIZE)
		f->into_ram += len;
	for (size_t i = 0; i < len; i++)
		bytes[i] = next_byte(&f->state);
	return TRUE;
}

static gboolean take_in(Fixture *f, FerryFirstTouch *touch, guint64 first, guint64 pages)
{
	guint64 state = f->state;
	guint8 *at = f->host + first * FERRY_PAGE_SIZE;

	if (!ferry_first_touch_read(touch, at, pages * FERRY_PAGE_SIZE, read_stream, f, NULL) ||
	    !ferry_first_touch_settle(touch, NULL))
		return FALSE;
	for (guint64 i = 0; i < pages * FERRY_PAGE_SIZE; i++)
		if (at[i] != next_byte(&state))
			return FALSE;
	return TRUE;
}

static void read__fresh_memfd__goes_through_the_file_once(void)
{
	g_autoptr(FerryFirstTouch) touch = NULL;
	Fixture f;

	set_up(&f, new_memfd());
	touch = ferry_first_touch_new(f.ram);
	CU_ASSERT_TRUE(take_in(&f, touch, 10, 200));
	CU_ASSERT_EQUAL(f.into_ram, 0);
	CU_ASSERT_TRUE(take_in(&f, touch, 20, 5));
	CU_ASSERT_EQUAL(f.into_ram, 5 * FERRY_PAGE_SIZE);
	/* In part touched: straight in, nothing is lost. */
	CU_ASSERT_TRUE(take_in(&f, touch, 0, 300));
	CU_ASSERT_EQUAL(f.into_ram, 305 * FERRY_PAGE_SIZE);
	tear_down(&f);
}

/* A page that comes twice before the first settle: the later one stays. */
static void read__same_page_twice__last_one_wins(void)
{
	g_autoptr(FerryFirstTouch) touch = NULL;
	guint64 state;
	guint bad = 0;
	Fixture f;

	set_up(&f, new_memfd());
	for (guint round = 0; round < 50; round++) {
		g_clear_pointer(&touch, ferry_first_touch_free);
		touch = ferry_first_touch_new(f.ram);
		CU_ASSERT_TRUE(ferry_first_touch_read(touch, f.host, SIZE, read_stream, &f, NULL));
		state = f.state;
		CU_ASSERT_TRUE(ferry_first_touch_read(touch, f.host + 100 * FERRY_PAGE_SIZE,
						      FERRY_PAGE_SIZE, read_stream, &f, NULL));
		CU_ASSERT_TRUE(ferry_first_touch_settle(touch, NULL));
		for (guint i = 0; i < FERRY_PAGE_SIZE; i++)
			bad += f.host[100 * FERRY_PAGE_SIZE + i] != next_byte(&state);
	}
	CU_ASSERT_EQUAL(bad, 0);
	g_clear_pointer(&touch, ferry_first_touch_free);
	tear_down(&f);
}

static void read__anonymous_memory__arrives(void)
{
	g_autoptr(FerryFirstTouch) touch = NULL;
	Fixture f;

	set_up(&f, -1);
	touch = ferry_first_touch_new(f.ram);
	CU_ASSERT_TRUE(take_in(&f, touch, 0, 100));
	CU_ASSERT_TRUE(take_in(&f, touch, 50, 250));
	CU_ASSERT_EQUAL(f.into_ram, 350 * FERRY_PAGE_SIZE);
	tear_down(&f);
}

/* write() to it fails, stores to the mapping that is older than the seal do not. */
static void read__memfd_sealed_against_write__falls_back_to_the_mapping(void)
{
	g_autoptr(FerryFirstTouch) touch = NULL;
	Fixture f;
	int fd = new_memfd();

	set_up(&f, fd);
	CU_ASSERT_EQUAL(fcntl(fd, F_ADD_SEALS, 0x0010 /* F_SEAL_FUTURE_WRITE */), 0);
	touch = ferry_first_touch_new(f.ram);
	CU_ASSERT_TRUE(take_in(&f, touch, 0, 300));
	CU_ASSERT_TRUE(take_in(&f, touch, 0, 300));
	tear_down(&f);
}

/* pwrite() would append. */
static void read__memfd_in_append_mode__is_not_written_through(void)
{
	g_autoptr(FerryFirstTouch) touch = NULL;
	Fixture f;

	set_up(&f, new_memfd());
	CU_ASSERT_EQUAL(fcntl(f.fd, F_SETFL, O_APPEND), 0);
	touch = ferry_first_touch_new(f.ram);
	CU_ASSERT_TRUE(take_in(&f, touch, 0, 300));
	CU_ASSERT_EQUAL(f.into_ram, SIZE);
	tear_down(&f);
}

/* As a guest that was preallocated: nothing is gained by the file. */
static void read__memfd_that_is_mapped__is_not_written_through(void)
{
	g_autoptr(FerryFirstTouch) touch = NULL;
	Fixture f;

	set_up(&f, new_memfd());
	memset(f.host, 1, SIZE);
	touch = ferry_first_touch_new(f.ram);
	CU_ASSERT_TRUE(take_in(&f, touch, 0, 300));
	CU_ASSERT_EQUAL(f.into_ram, SIZE);
	tear_down(&f);
}

static void read__memfd_that_is_mapped_in_part__is_written_through(void)
{
	g_autoptr(FerryFirstTouch) touch = NULL;
	Fixture f;

	set_up(&f, new_memfd());
	memset(f.host, 1, SIZE / 2);
	touch = ferry_first_touch_new(f.ram);
	CU_ASSERT_TRUE(take_in(&f, touch, 0, 300));
	CU_ASSERT_EQUAL(f.into_ram, 0);
	tear_down(&f);
}

static void read__stream_breaks__its_error_comes_through(void)
{
	g_autoptr(FerryFirstTouch) touch = NULL;
	g_autoptr(GError) error = NULL;
	Fixture f;

	set_up(&f, new_memfd());
	f.left = 1 << 18;
	touch = ferry_first_touch_new(f.ram);
	CU_ASSERT_FALSE(ferry_first_touch_read(touch, f.host, SIZE, read_stream, &f, &error));
	CU_ASSERT_TRUE(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_LINK));
	g_clear_pointer(&touch, ferry_first_touch_free);
	tear_down(&f);
}

static void read__outside_of_ram_or_odd__is_plain(void)
{
	g_autoptr(FerryFirstTouch) touch = NULL;
	guint8 buf[100];
	Fixture f;

	set_up(&f, new_memfd());
	touch = ferry_first_touch_new(f.ram);
	CU_ASSERT_TRUE(ferry_first_touch_read(touch, buf, sizeof(buf), read_stream, &f, NULL));
	CU_ASSERT_TRUE(
		ferry_first_touch_read(touch, f.host + 1, FERRY_PAGE_SIZE, read_stream, &f, NULL));
	CU_ASSERT_TRUE(ferry_first_touch_read(touch, f.host, 0, read_stream, &f, NULL));
	CU_ASSERT_EQUAL(f.into_ram, FERRY_PAGE_SIZE);
	tear_down(&f);
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(read__fresh_memfd__goes_through_the_file_once),
		CASE(read__same_page_twice__last_one_wins),
		CASE(read__anonymous_memory__arrives),
		CASE(read__memfd_sealed_against_write__falls_back_to_the_mapping),
		CASE(read__memfd_in_append_mode__is_not_written_through),
		CASE(read__memfd_that_is_mapped__is_not_written_through),
		CASE(read__memfd_that_is_mapped_in_part__is_written_through),
		CASE(read__stream_breaks__its_error_comes_through),
		CASE(read__outside_of_ram_or_odd__is_plain),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "first touch", cases);
}
