/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Postcopy's commands and messages from a hostile peer: random bytes, and valid ones bent and cut.
 * What is accepted lies inside the RAM, and nothing asks for memory that a length talked it into.
 */
#include "harness.h"
#include <string.h>

#include "engine/postcopy-wire.h"

#define MIB (1ull << 20)
#define MESSAGES 100000u
#define LONGEST 400u

static FerryRam *ram; /* of the running case */

static void add(const char *name, guint64 size, guint64 page_size)
{
	CU_ASSERT(ferry_ram_add(ram, name, (void *)(64 * MIB * (ram->n_blocks + 1)), size,
				page_size, -1, 0, NULL));
}

static void begin(void)
{
	ram = ferry_ram_new();
	add("ram", 3 * MIB, FERRY_PAGE_SIZE);
	add("huge", 8 * MIB, 2 * MIB);
	add("r", FERRY_PAGE_SIZE, FERRY_PAGE_SIZE);
}

/* ---- one valid piece of each kind, as the data that its get takes ---- */

static void put_discard(GByteArray *out, GRand *rand)
{
	g_autoptr(FerryBitmap) missing = ferry_bitmap_new(ram);

	for (guint i = 0; i < 5; i++)
		ferry_bitmap_set_run(missing, &(FerryRun){ 0, g_rand_int_range(rand, 0, 700), 9 });
	ferry_postcopy_put_discards(out, ram, missing);
}

static void put_advise(GByteArray *out, GRand *rand)
{
	ferry_postcopy_put_advise(out, ram);
}

static void put_packaged(GByteArray *out, GRand *rand)
{
	ferry_postcopy_put_packaged(out, g_rand_int(rand));
}

static void put_ask(GByteArray *out, GRand *rand)
{
	ferry_postcopy_put_ask(out, ram, g_rand_int_range(rand, 0, ram->n_blocks));
}

/* Type and length stand before it, and the name of "r" with its length. */
static void put_received(GByteArray *out, GRand *rand)
{
	guint64 word = 1;

	ferry_put_u8(out, 0); /* as long as a command's head with the name */
	ferry_postcopy_put_received(out, ram, 2, &word);
	g_byte_array_remove_range(out, 5, 2);
}

/* ---- each get; whether it was taken, and *@wrong where what it took is outside of the RAM ---- */

static gboolean check_run(gpointer user, const FerryRun *run, GError **error)
{
	const FerryRamBlock *block = &ram->blocks[run->block];
	guint64 pages = ferry_ram_block_pages(block);
	guint64 mask = (block->page_size >> FERRY_PAGE_SHIFT) - 1;

	*(gboolean *)user |= !run->pages || run->first >= pages ||
			     run->pages > pages - run->first || ((run->first | run->pages) & mask);
	return TRUE;
}

static gboolean get_discard(const guint8 *data, size_t len, gboolean *wrong, GError **error)
{
	return ferry_postcopy_get_discard(ram, data, len, check_run, wrong, error);
}

static gboolean get_advise(const guint8 *data, size_t len, gboolean *wrong, GError **error)
{
	return ferry_postcopy_get_advise(ram, data, len, error);
}

static gboolean get_packaged(const guint8 *data, size_t len, gboolean *wrong, GError **error)
{
	guint32 length = 0;
	gboolean ok = ferry_postcopy_get_packaged(data, len, &length, error);

	*wrong |= ok && !length;
	return ok;
}

static gboolean get_ask(const guint8 *data, size_t len, gboolean *wrong, GError **error)
{
	guint block = G_MAXUINT;
	gboolean ok = ferry_postcopy_get_ask(ram, data, len, &block, error);

	*wrong |= ok && block >= ram->n_blocks;
	return ok;
}

static gboolean get_received(const guint8 *data, size_t len, gboolean *wrong, GError **error)
{
	g_autoptr(FerryStreamReader) reader = ferry_stream_reader_new_for_data(data, len);
	g_autofree guint64 *words = ferry_postcopy_read_received(ram, 2, reader, error);

	*wrong |= words && words[0] & ~1ull;
	return words != NULL;
}

static const struct {
	const char *name;
	void (*put)(GByteArray *out, GRand *rand);
	gboolean (*get)(const guint8 *data, size_t len, gboolean *wrong, GError **error);
} kinds[] = {
	{ "RAM_DISCARD", put_discard, get_discard }, { "ADVISE", put_advise, get_advise },
	{ "PACKAGED", put_packaged, get_packaged },  { "RECV_BITMAP", put_ask, get_ask },
	{ "a bitmap", put_received, get_received },
};

/* A valid one, bent: some bits, and its end, now and then. */
static void compose(guint kind, GRand *rand, GByteArray *data)
{
	kinds[kind].put(data, rand);
	g_byte_array_remove_range(data, 0, 5);
	for (guint n = g_rand_int_range(rand, 0, 4); n && data->len; n--)
		data->data[g_rand_int_range(rand, 0, data->len)] ^= 1
								    << g_rand_int_range(rand, 0, 8);
	if (g_rand_int_range(rand, 0, 4) == 0)
		g_byte_array_set_size(data, g_rand_int_range(rand, 0, data->len + 1));
}

static void random_bytes(GRand *rand, GByteArray *data)
{
	g_byte_array_set_size(data, g_rand_int_range(rand, 0, LONGEST));
	for (guint i = 0; i < data->len; i++)
		data->data[i] = g_rand_int(rand);
}

static void check_kind(guint kind)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(50 + kind);
	guint accepted = 0, refused = 0, bad = 0;

	for (guint i = 0; i < MESSAGES; i++) {
		g_autoptr(GByteArray) data = g_byte_array_new();
		g_autofree guint8 *exact = NULL;
		g_autoptr(GError) error = NULL;
		gboolean wrong = FALSE, ok;

		if (i % 4)
			compose(kind, rand, data);
		else
			random_bytes(rand, data);
		/* Memory of its own length: a sanitizer sees one byte too many. */
		exact = g_memdup2(data->data, data->len);
		ok = kinds[kind].get(exact, data->len, &wrong, &error);
		accepted += ok;
		refused += !ok;
		bad += wrong || ok == (error != NULL) ||
		       (error && !g_utf8_validate(error->message, -1, NULL));
	}
	printf("# %s: %u accepted, %u refused\n", kinds[kind].name, accepted, refused);
	CU_ASSERT_EQUAL(bad, 0);
	CU_ASSERT(accepted > MESSAGES / 50 && refused > MESSAGES / 50);
}

static void wire__random_and_bent__accepted_ones_are_within_the_ram(void)
{
	begin();
	for (guint kind = 0; kind < G_N_ELEMENTS(kinds); kind++)
		check_kind(kind);
	ferry_ram_free(ram);
}

static CU_TestInfo cases[] = {
	CASE(wire__random_and_bent__accepted_ones_are_within_the_ram),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "hostile wire of postcopy", cases);
}
