/* SPDX-License-Identifier: BSD-2-Clause */
/* A guest moves as differences and deflated: over every channel, in both formats, and what must not
 * be lost on the way. */
#include "harness.h"
#include "mini-guest.h"
#include "tape.h"

#include <glib/gstdio.h>
#include <string.h>

typedef struct {
	MiniGuest *source;
	MiniGuest *destination;
	FerrySettings *settings; /* the source's */
	char *uri;
} Pair;

static void set(FerrySettings *settings, FerryCapability capability, gboolean on)
{
	if (!ferry_settings_set_capability(settings, capability, on, NULL))
		g_assert_not_reached();
}

static void set_number(FerrySettings *settings, FerryParameter parameter, guint64 value)
{
	if (!ferry_settings_set_parameter(settings, parameter, value, NULL))
		g_assert_not_reached();
}

/* Text that deflates, and that no two pages share. */
static void fill(MiniGuest *guest)
{
	for (guint64 at = 0; at < guest->size / 2; at += 64) {
		memset(guest->ram + at, 0x20 + (int)(at >> 6) % 64, 64);
		memcpy(guest->ram + at, &at, sizeof(at));
	}
}

static Pair pair_new(gboolean xbzrle, gboolean compress, const char *listen)
{
	Pair pair = {
		mini_guest_new(&(MiniGuestConfig){ .write = TRUE }),
		mini_guest_new(&(MiniGuestConfig){ .write = TRUE }),
	};

	mini_guest_most_running();
	fill(pair.source);
	pair.settings = ferry_vm_settings(pair.source->vm);
	set(pair.settings, FERRY_CAPABILITY_XBZRLE, xbzrle);
	set(pair.settings, FERRY_CAPABILITY_COMPRESS, compress);
	set(pair.settings, FERRY_CAPABILITY_VERIFY_RAM, TRUE);
	if (listen)
		pair.uri = mini_guest_listen(pair.destination, listen);
	if (!ferry_vm_start(pair.source->vm, NULL))
		g_assert_not_reached();
	return pair;
}

static void pair_free(Pair *pair)
{
	mini_guest_free(pair->source);
	mini_guest_free(pair->destination);
	g_free(pair->uri);
}

/* The guest writes faster than its pages go, so that there are rounds: then it is let go. */
static void slow_down(const Pair *pair)
{
	set_number(pair->settings, FERRY_PARAMETER_MAX_BANDWIDTH, 100 << 20);
	set_number(pair->settings, FERRY_PARAMETER_DOWNTIME_LIMIT, 0);
}

static gboolean has_rounds(gpointer user)
{
	FerryMigrationStatus status;
	gboolean enough;

	ferry_source_get_status(((Pair *)user)->source->source, &status);
	/* Or it is over already: differences can be faster than this guest. */
	enough = status.n_rounds >= 6 || status.state == FERRY_STATE_FAILED ||
		 status.state == FERRY_STATE_COMPLETED;
	ferry_migration_status_clear(&status);
	return enough;
}

/* Migrates through some rounds; @status is the last. */
static gboolean move_in_rounds(Pair *pair, const char *uri, FerryMigrationStatus *status)
{
	FerryState state;

	slow_down(pair);
	if (!ferry_source_migrate(pair->source->source, uri, NULL))
		return FALSE;
	CU_ASSERT(mini_guest_await(has_rounds, pair, 20000));
	set_number(pair->settings, FERRY_PARAMETER_DOWNTIME_LIMIT, 20000);
	state = ferry_source_wait(pair->source->source);
	ferry_source_get_status(pair->source->source, status);
	if (status->error_desc)
		printf("# %s\n", status->error_desc);
	return state == FERRY_STATE_COMPLETED;
}

static void print(const FerryMigrationStatus *status)
{
	printf("# %u rounds, %" G_GUINT64_FORMAT " whole, %" G_GUINT64_FORMAT
	       " unchanged; xbzrle %" G_GUINT64_FORMAT " pages, %" G_GUINT64_FORMAT
	       " bytes, %" G_GUINT64_FORMAT " misses, rate %.2f, overflow %" G_GUINT64_FORMAT
	       ", encoding %.1f; deflated %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT
	       ", busy %" G_GUINT64_FORMAT "; wire %" G_GUINT64_FORMAT "\n",
	       status->n_rounds, status->ram.normal, status->ram.skipped, status->xbzrle.pages,
	       status->xbzrle.bytes, status->xbzrle.cache_miss, status->xbzrle.cache_miss_rate,
	       status->xbzrle.overflow, status->xbzrle.encoding_rate, status->compression.pages,
	       status->compression.compressed_size, status->compression.busy, status->wire_bytes);
}

static void check_numbers(const FerryMigrationStatus *status, gboolean xbzrle, gboolean compress)
{
	CU_ASSERT_EQUAL(status->xbzrle.on, xbzrle);
	CU_ASSERT_EQUAL(status->compression.on, compress);
	CU_ASSERT_EQUAL(status->xbzrle.pages > 0, xbzrle);
	CU_ASSERT_EQUAL(status->compression.pages > 0, compress);
	if (xbzrle) {
		CU_ASSERT(status->xbzrle.cache_miss > 0);
		CU_ASSERT_EQUAL(status->xbzrle.cache_size, 64u << 20);
		/* The guest writes eight bytes at a time. */
		CU_ASSERT(status->xbzrle.bytes / status->xbzrle.pages < 400);
	}
	if (compress) {
		CU_ASSERT(status->compression.compressed_size > 0);
		CU_ASSERT(status->compression.compression_rate > 2);
	}
}

static void check_move(gboolean xbzrle, gboolean compress, const char *listen)
{
	Pair pair = pair_new(xbzrle, compress, listen);
	FerryMigrationStatus status = { 0 };

	/* It arrives stopped, so that both sides can be compared byte by byte. */
	CU_ASSERT(ferry_vm_stop(pair.destination->vm, NULL));
	CU_ASSERT(move_in_rounds(&pair, pair.uri, &status));
	CU_ASSERT_EQUAL(ferry_destination_wait(pair.destination->destination),
			FERRY_STATE_COMPLETED);
	CU_ASSERT_EQUAL(status.verified, FERRY_VERIFIED_YES);
	CU_ASSERT(mini_guest_same_ram(pair.source, pair.destination));
	CU_ASSERT(ferry_vm_start(pair.destination->vm, NULL));
	CU_ASSERT(mini_guest_most_running() == 1);
	print(&status);
	check_numbers(&status, xbzrle, compress);
	ferry_migration_status_clear(&status);
	pair_free(&pair);
}

static void xbzrle__by_tcp__ram_is_the_same(void)
{
	check_move(TRUE, FALSE, "tcp:127.0.0.1:0");
}

static void compress__by_tcp__ram_is_the_same(void)
{
	check_move(FALSE, TRUE, "tcp:127.0.0.1:0");
}

static void both__by_tcp__ram_is_the_same(void)
{
	check_move(TRUE, TRUE, "tcp:127.0.0.1:0");
}

static void both__by_unix__ram_is_the_same(void)
{
	g_autofree char *dir = g_dir_make_tmp("ferry-encoded-XXXXXX", NULL);
	g_autofree char *uri = g_strdup_printf("unix:%s/socket", dir);

	check_move(TRUE, TRUE, uri);
	g_rmdir(dir);
}

/* QEMU's format, and a one-way stream that nobody answers. */
static void check_one_way(gboolean xbzrle, gboolean compress)
{
	Pair pair = pair_new(xbzrle, compress, "tcp:127.0.0.1:0");
	FerryMigrationStatus status = { 0 };

	set(pair.settings, FERRY_CAPABILITY_VERIFY_RAM, FALSE);
	set(pair.settings, FERRY_CAPABILITY_RETURN_PATH, FALSE);
	CU_ASSERT(ferry_vm_stop(pair.destination->vm, NULL));
	CU_ASSERT(move_in_rounds(&pair, pair.uri, &status));
	CU_ASSERT_EQUAL(ferry_destination_wait(pair.destination->destination),
			FERRY_STATE_COMPLETED);
	CU_ASSERT(mini_guest_same_ram(pair.source, pair.destination));
	print(&status);
	check_numbers(&status, xbzrle, compress);
	ferry_migration_status_clear(&status);
	pair_free(&pair);
}

static void xbzrle__in_qemu_format__ram_is_the_same(void)
{
	check_one_way(TRUE, FALSE);
}

static void compress__in_qemu_format__ram_is_the_same(void)
{
	check_one_way(FALSE, TRUE);
}

/* Saved, read back, and loaded. */
static void check_file(gboolean xbzrle, gboolean compress)
{
	Pair pair = pair_new(xbzrle, compress, NULL);
	g_autofree char *dir = g_dir_make_tmp("ferry-encoded-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(dir, "guest", NULL);
	g_autofree char *uri = g_strconcat("file:", path, NULL), *listening = NULL;
	FerryMigrationStatus status = { 0 };

	CU_ASSERT(move_in_rounds(&pair, uri, &status));
	CU_ASSERT_EQUAL(status.verified, FERRY_VERIFIED_YES);
	print(&status);
	check_numbers(&status, xbzrle, compress);
	listening = mini_guest_listen(pair.destination, uri);
	CU_ASSERT(ferry_vm_stop(pair.destination->vm, NULL));
	CU_ASSERT_EQUAL(ferry_destination_wait(pair.destination->destination),
			FERRY_STATE_COMPLETED);
	CU_ASSERT(mini_guest_same_ram(pair.source, pair.destination));
	ferry_migration_status_clear(&status);
	g_unlink(path);
	g_rmdir(dir);
	pair_free(&pair);
}

static void xbzrle__to_a_file__is_read_back_and_loaded(void)
{
	check_file(TRUE, FALSE);
}

static void compress__to_a_file__is_read_back_and_loaded(void)
{
	check_file(FALSE, TRUE);
}

static void both__to_a_file__are_read_back_and_loaded(void)
{
	check_file(TRUE, TRUE);
}

/* ---- parameters ---- */

static void compress__of_one_thread_and_255__ram_is_the_same(void)
{
	static const guint64 levels[] = { 0, 9, 1 };

	for (guint i = 0; i < G_N_ELEMENTS(levels); i++) {
		Pair pair = pair_new(FALSE, TRUE, "tcp:127.0.0.1:0");

		set_number(pair.settings, FERRY_PARAMETER_COMPRESS_THREADS, i ? 255 : 1);
		set_number(ferry_vm_settings(pair.destination->vm),
			   FERRY_PARAMETER_DECOMPRESS_THREADS, i ? 1 : 255);
		set_number(pair.settings, FERRY_PARAMETER_COMPRESS_LEVEL, levels[i]);
		set_number(pair.settings, FERRY_PARAMETER_DOWNTIME_LIMIT, 20000);
		CU_ASSERT(ferry_vm_stop(pair.destination->vm, NULL));
		CU_ASSERT(ferry_source_migrate(pair.source->source, pair.uri, NULL));
		CU_ASSERT_EQUAL(ferry_source_wait(pair.source->source), FERRY_STATE_COMPLETED);
		CU_ASSERT(mini_guest_same_ram(pair.source, pair.destination));
		pair_free(&pair);
	}
}

static void compress__that_does_not_wait__sends_pages_as_they_are(void)
{
	Pair pair = pair_new(FALSE, TRUE, "tcp:127.0.0.1:0");
	FerryMigrationStatus status;

	set_number(pair.settings, FERRY_PARAMETER_COMPRESS_THREADS, 1);
	set_number(pair.settings, FERRY_PARAMETER_COMPRESS_LEVEL, 9);
	set_number(pair.settings, FERRY_PARAMETER_COMPRESS_WAIT_THREAD, 0);
	set_number(pair.settings, FERRY_PARAMETER_DOWNTIME_LIMIT, 20000);
	CU_ASSERT(ferry_vm_stop(pair.destination->vm, NULL));
	CU_ASSERT(ferry_source_migrate(pair.source->source, pair.uri, NULL));
	CU_ASSERT_EQUAL(ferry_source_wait(pair.source->source), FERRY_STATE_COMPLETED);
	CU_ASSERT(mini_guest_same_ram(pair.source, pair.destination));
	ferry_source_get_status(pair.source->source, &status);
	print(&status);
	CU_ASSERT(status.compression.busy > 0);
	CU_ASSERT_EQUAL(status.verified, FERRY_VERIFIED_YES);
	ferry_migration_status_clear(&status);
	pair_free(&pair);
}

/* Gives the cache another size every other round. */
static gboolean resized_often(gpointer user)
{
	static const guint64 sizes[] = { 4096, 1 << 20, 64 << 20, 65536, 1 << 24 };
	Pair *pair = user;
	FerryMigrationStatus status;
	gboolean enough;

	ferry_source_get_status(pair->source->source, &status);
	set_number(pair->settings, FERRY_PARAMETER_XBZRLE_CACHE_SIZE,
		   sizes[status.n_rounds / 2 % G_N_ELEMENTS(sizes)]);
	enough = status.n_rounds >= 20 || status.state == FERRY_STATE_FAILED ||
		 status.state == FERRY_STATE_COMPLETED;
	ferry_migration_status_clear(&status);
	return enough;
}

static void xbzrle__cache_resized_in_flight__ram_is_the_same(void)
{
	Pair pair = pair_new(TRUE, FALSE, "tcp:127.0.0.1:0");
	FerryMigrationStatus status;

	slow_down(&pair);
	CU_ASSERT(ferry_vm_stop(pair.destination->vm, NULL));
	CU_ASSERT(ferry_source_migrate(pair.source->source, pair.uri, NULL));
	CU_ASSERT(mini_guest_await(resized_often, &pair, 30000));
	set_number(pair.settings, FERRY_PARAMETER_DOWNTIME_LIMIT, 20000);
	CU_ASSERT_EQUAL(ferry_source_wait(pair.source->source), FERRY_STATE_COMPLETED);
	CU_ASSERT(mini_guest_same_ram(pair.source, pair.destination));
	ferry_source_get_status(pair.source->source, &status);
	print(&status);
	CU_ASSERT_EQUAL(status.verified, FERRY_VERIFIED_YES);
	CU_ASSERT(status.xbzrle.pages > 0);
	ferry_migration_status_clear(&status);
	pair_free(&pair);
}

static void xbzrle__cache_without_memory__fails_before_the_first_page(void)
{
	Pair pair = pair_new(TRUE, FALSE, "tcp:127.0.0.1:0");
	FerryMigrationStatus status;

	set_number(pair.settings, FERRY_PARAMETER_XBZRLE_CACHE_SIZE, (guint64)1 << 62);
	CU_ASSERT(ferry_source_migrate(pair.source->source, pair.uri, NULL));
	CU_ASSERT_EQUAL(ferry_source_wait(pair.source->source), FERRY_STATE_FAILED);
	ferry_source_get_status(pair.source->source, &status);
	CU_ASSERT(status.error_desc && strstr(status.error_desc, "xbzrle-cache-size"));
	CU_ASSERT_EQUAL(status.ram.transferred, 0);
	CU_ASSERT(g_atomic_int_get(&pair.source->running));
	ferry_migration_status_clear(&status);
	pair_free(&pair);
}

static gboolean in_second_round(gpointer user)
{
	FerryMigrationStatus status;
	gboolean second;

	ferry_source_get_status(((Pair *)user)->source->source, &status);
	second = status.n_rounds == 2;
	ferry_migration_status_clear(&status);
	return second;
}

static gboolean in_first_round(gpointer user)
{
	return ferry_source_state(((Pair *)user)->source->source) == FERRY_STATE_ACTIVE;
}

static void check_cancel(gboolean xbzrle, gboolean compress, guint64 bandwidth,
			 gboolean (*where)(gpointer))
{
	Pair pair = pair_new(xbzrle, compress, "tcp:127.0.0.1:0");
	FerryMigrationStatus status;
	gint64 begin;

	set_number(pair.settings, FERRY_PARAMETER_DOWNTIME_LIMIT, 0);
	set_number(pair.settings, FERRY_PARAMETER_MAX_BANDWIDTH, bandwidth);
	CU_ASSERT(ferry_source_migrate(pair.source->source, pair.uri, NULL));
	CU_ASSERT(mini_guest_await(where, &pair, 20000));
	begin = g_get_monotonic_time();
	ferry_source_cancel(pair.source->source);
	CU_ASSERT_EQUAL(ferry_source_wait(pair.source->source), FERRY_STATE_CANCELLED);
	printf("# cancelled in %" G_GINT64_FORMAT " us\n", g_get_monotonic_time() - begin);
	CU_ASSERT(g_atomic_int_get(&pair.source->running));
	CU_ASSERT_EQUAL(ferry_destination_wait(pair.destination->destination), FERRY_STATE_FAILED);
	g_free(pair.uri);
	pair.uri = mini_guest_listen(pair.destination, "tcp:127.0.0.1:0");
	CU_ASSERT(move_in_rounds(&pair, pair.uri, &status));
	CU_ASSERT_EQUAL(status.verified, FERRY_VERIFIED_YES);
	CU_ASSERT(mini_guest_most_running() == 1);
	ferry_migration_status_clear(&status);
	pair_free(&pair);
}

static void compress__cancelled_with_threads_at_work__next_works(void)
{
	check_cancel(FALSE, TRUE, 1 << 20, in_first_round);
}

static void both__cancelled_in_the_second_round__next_works(void)
{
	check_cancel(TRUE, TRUE, 4 << 20, in_second_round);
}

/* ---- a destination that is fed what no source of ours sends ---- */

static void put_encoded(GByteArray *out, guint32 block, guint64 page, guint32 form, guint32 len)
{
	g_autoptr(GByteArray) record = g_byte_array_new();

	ferry_put_record_header(record, FERRY_RECORD_ENCODED_PAGE, 0, 20);
	ferry_put_be32(record, block);
	ferry_put_be64(record, page);
	ferry_put_be32(record, form);
	ferry_put_be32(record, len);
	ferry_stream_put_command(out, FERRY_COMMAND_FERRY, record->data, (guint16)record->len);
}

static void put_round(GByteArray *out, guint16 type, guint64 pages)
{
	g_autoptr(GByteArray) record = g_byte_array_new();

	ferry_put_record_header(record, type, 0, 12);
	ferry_put_be32(record, 1);
	ferry_put_be64(record, pages);
	ferry_stream_put_command(out, FERRY_COMMAND_FERRY, record->data, (guint16)record->len);
}

/* Everything before the first page. */
static void put_head(GByteArray *out, const MiniGuest *guest, guint64 features)
{
	g_autoptr(GByteArray) record = g_byte_array_new();
	guint8 ping[4], nonce[FERRY_NONCE_SIZE] = { 1 };

	ferry_store_be32(ping, FERRY_PING_HELLO);
	ferry_stream_put_header(out);
	ferry_stream_put_configuration(out, "mini", NULL);
	ferry_stream_put_command(out, FERRY_COMMAND_OPEN_RETURN_PATH, NULL, 0);
	ferry_stream_put_command(out, FERRY_COMMAND_PING, ping, 4);
	ferry_put_record_header(record, FERRY_RECORD_HELLO, 0, 32);
	ferry_put_be32(record, 1);
	ferry_put_be64(record, features);
	ferry_put_be32(record, FERRY_PAGE_SIZE);
	g_byte_array_append(record, nonce, sizeof(nonce));
	ferry_stream_put_command(out, FERRY_COMMAND_FERRY, record->data, (guint16)record->len);
	ferry_stream_put_section(out, FERRY_SECTION_START, FERRY_RAM_SECTION_ID, "ram", 0,
				 FERRY_RAM_SECTION_VERSION);
	ferry_stream_put_ram_list(out, ferry_vm_ram(guest->vm));
	ferry_put_be64(out, FERRY_RAM_EOS);
	ferry_stream_put_footer(out, FERRY_RAM_SECTION_ID);
}

static void check_corrupt(guint64 features, const GByteArray *body, const char *why)
{
	MiniGuest *guest = mini_guest_new(
		&(MiniGuestConfig){ .transports = tape_transports(NULL, 0) });
	g_autoptr(GByteArray) out = g_byte_array_new();
	FerryMigrationStatus status;

	put_head(out, guest, features);
	put_round(out, FERRY_RECORD_ROUND_BEGIN, 1);
	g_byte_array_append(out, body->data, body->len);
	put_round(out, FERRY_RECORD_ROUND_END, 1);
	tape_load(out->data, out->len);
	g_free(mini_guest_listen(guest, "tape:"));
	CU_ASSERT_EQUAL(ferry_destination_wait(guest->destination), FERRY_STATE_FAILED);
	ferry_destination_get_status(guest->destination, &status);
	if (!status.error_desc || !strstr(status.error_desc, why))
		printf("# expected \"%s\" in \"%s\"\n", why, status.error_desc);
	CU_ASSERT(status.error_desc && strstr(status.error_desc, why));
	ferry_migration_status_clear(&status);
	mini_guest_free(guest);
}

static void encoded__corrupt_record__fails_by_name(void)
{
	static const struct {
		guint64 features;
		guint32 block;
		guint64 page;
		guint32 form, len;
		const char *data;
		guint32 sent;
		const char *why;
	} bad[] = {
		{ 0, 0, 0, 1, 3, "\0\1a", 3, "not agreed" },
		{ 16, 1, 0, 1, 3, "\0\1a", 3, "block 1 of 1" },
		{ 16, 0, 4096, 1, 3, "\0\1a", 3, "page 4096" },
		{ 16, 0, G_MAXUINT64, 1, 3, "\0\1a", 3, "page 18446744073709551615" },
		{ 16, 0, 0, 3, 3, "\0\1a", 3, "form 3" },
		{ 16, 0, 0, 0, 3, "\0\1a", 3, "3 bytes in form 0" },
		{ 16, 0, 0, 0, 4097, "\0\1a", 3, "4097 bytes in form 0" },
		{ 16, 0, 0, 1, 0, "", 0, "0 bytes in form 1" },
		{ 16, 0, 0, 1, 4097, "", 0, "4097 bytes in form 1" },
		{ 16, 0, 0, 2, 4353, "", 0, "4353 bytes in form 2" },
		{ 16, 0, 0, 2, G_MAXUINT32, "", 0, "4294967295 bytes in form 2" },
		{ 16, 0, 7, 1, 3, "\0\2a", 3, "block 'ram', page 7" },
		{ 16, 0, 7, 2, 3, "abc", 3, "block 'ram', page 7: a deflated page" },
	};

	for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GByteArray) body = g_byte_array_new();

		put_encoded(body, bad[i].block, bad[i].page, bad[i].form, bad[i].len);
		g_byte_array_append(body, (const guint8 *)bad[i].data, bad[i].sent);
		check_corrupt(bad[i].features, body, bad[i].why);
	}
}

/* Cut anywhere in or behind the record, with a page in every form. */
static void encoded__cut_short__fails(void)
{
	g_autoptr(GByteArray) whole = g_byte_array_new();
	guint8 page[FERRY_PAGE_SIZE] = { 1, 2, 3 }, deflated[FERRY_PAGE_DEFLATED_MAX];
	size_t len = ferry_page_deflate(page, 1, deflated);
	MiniGuest *guest = mini_guest_new(
		&(MiniGuestConfig){ .transports = tape_transports(NULL, 0) });
	guint begin;

	put_head(whole, guest, FERRY_FEATURE_ENCODED);
	put_round(whole, FERRY_RECORD_ROUND_BEGIN, 3);
	begin = whole->len;
	put_encoded(whole, 0, 1, FERRY_PAGE_FORM_ZLIB, (guint32)len);
	g_byte_array_append(whole, deflated, (guint)len);
	put_encoded(whole, 0, 2, FERRY_PAGE_FORM_XBZRLE, 5);
	g_byte_array_append(whole, (const guint8 *)"\0\3abc", 5);
	for (guint cut = begin; cut < whole->len; cut++) {
		tape_load(whole->data, cut);
		g_free(mini_guest_listen(guest, "tape:"));
		CU_ASSERT_EQUAL(ferry_destination_wait(guest->destination), FERRY_STATE_FAILED);
	}
	mini_guest_free(guest);
}

/* ---- what cannot carry them ---- */

static void xbzrle__with_postcopy_by_tcp__pages_take_the_channel(void)
{
	Pair pair = pair_new(TRUE, FALSE, "tcp:127.0.0.1:0");
	FerryMigrationStatus status = { 0 };

	set(pair.settings, FERRY_CAPABILITY_POSTCOPY_RAM, TRUE);
	CU_ASSERT(ferry_vm_stop(pair.destination->vm, NULL));
	CU_ASSERT(move_in_rounds(&pair, pair.uri, &status));
	CU_ASSERT_STRING_EQUAL(status.transport, "tcp");
	CU_ASSERT(status.xbzrle.pages > 0);
	CU_ASSERT(mini_guest_same_ram(pair.source, pair.destination));
	ferry_migration_status_clear(&status);
	pair_free(&pair);
}

static CU_TestInfo cases[] = {
	CASE(xbzrle__by_tcp__ram_is_the_same),
	CASE(compress__by_tcp__ram_is_the_same),
	CASE(both__by_tcp__ram_is_the_same),
	CASE(both__by_unix__ram_is_the_same),
	CASE(xbzrle__in_qemu_format__ram_is_the_same),
	CASE(compress__in_qemu_format__ram_is_the_same),
	CASE(xbzrle__to_a_file__is_read_back_and_loaded),
	CASE(compress__to_a_file__is_read_back_and_loaded),
	CASE(both__to_a_file__are_read_back_and_loaded),
	CASE(compress__of_one_thread_and_255__ram_is_the_same),
	CASE(compress__that_does_not_wait__sends_pages_as_they_are),
	CASE(xbzrle__cache_resized_in_flight__ram_is_the_same),
	CASE(xbzrle__cache_without_memory__fails_before_the_first_page),
	CASE(compress__cancelled_with_threads_at_work__next_works),
	CASE(both__cancelled_in_the_second_round__next_works),
	CASE(encoded__corrupt_record__fails_by_name),
	CASE(encoded__cut_short__fails),
	CASE(xbzrle__with_postcopy_by_tcp__pages_take_the_channel),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "a guest moves in fewer bytes", cases);
}
