/* SPDX-License-Identifier: BSD-2-Clause */
/* A device whose loading reads guest RAM, as that of a virtual queue does, when its guest is
 * switched over before its pages. */
#include "fake-fabric.h"
#include "harness.h"
#include "mini-guest.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>

#define WORD 0x0123456789abcdefu

typedef struct {
	MiniGuest *source;
	MiniGuest *destination;
} Pair;

/* The page that loading reads is the last one, and precopy is too slow to come to it. */
static Pair pair_new(const MiniGuestConfig *config)
{
	Pair pair = { mini_guest_new(config), mini_guest_new(config) };
	guint64 last = pair.source->size - FERRY_PAGE_SIZE;
	FerrySettings *settings = ferry_vm_settings(pair.source->vm);

	for (guint64 at = 0; at <= last; at += FERRY_PAGE_SIZE)
		*(guint64 *)(pair.source->ram + at) = WORD + at;
	pair.destination->load_reads = last;
	CU_ASSERT(
		ferry_settings_set_capability(settings, FERRY_CAPABILITY_POSTCOPY_RAM, TRUE, NULL));
	CU_ASSERT(ferry_settings_set_parameter(settings, FERRY_PARAMETER_MAX_BANDWIDTH, 1u << 20,
					       NULL));
	CU_ASSERT(ferry_vm_start(pair.source->vm, NULL));
	return pair;
}

static void pair_free(Pair *pair)
{
	mini_guest_free(pair->source);
	mini_guest_free(pair->destination);
}

static void switch_over(Pair *pair, const char *listen, const char *connect)
{
	g_autofree char *uri = mini_guest_listen(pair->destination, listen);
	FerrySource *source = pair->source->source;

	CU_ASSERT(ferry_source_migrate(source, connect ? connect : uri, NULL));
	CU_ASSERT(ferry_source_start_postcopy(source, NULL));
}

static void check_arrives(const MiniGuestConfig *config, const char *listen)
{
	Pair pair = pair_new(config);
	g_auto(FerryMigrationStatus) status = { 0 };

	switch_over(&pair, listen, NULL);
	CU_ASSERT_EQUAL(ferry_source_wait(pair.source->source), FERRY_STATE_COMPLETED);
	CU_ASSERT_EQUAL(ferry_destination_wait(pair.destination->destination),
			FERRY_STATE_COMPLETED);
	ferry_destination_get_status(pair.destination->destination, &status);
	CU_ASSERT_EQUAL(pair.destination->loaded, WORD + pair.destination->load_reads);
	CU_ASSERT(status.postcopy.urgent_pages > 0);
	CU_ASSERT_EQUAL(status.postcopy.repeated_pages, 0);
	CU_ASSERT(ferry_vm_stop(pair.destination->vm, NULL));
	CU_ASSERT(mini_guest_same_ram(pair.source, pair.destination));
	pair_free(&pair);
}

static void load__reads_missing_memory_by_tcp__gets_it(void)
{
	check_arrives(&(MiniGuestConfig){ 0 }, "tcp:127.0.0.1:0");
}

static void load__reads_missing_private_memory_by_tcp__gets_it(void)
{
	check_arrives(&(MiniGuestConfig){ .anonymous = TRUE }, "tcp:127.0.0.1:0");
}

static void check_beside(FakeFabric *fabric)
{
	g_autofree char *dir = g_dir_make_tmp("ferry-flow-XXXXXX", NULL);
	g_autofree char *uri = g_strdup_printf("fake:unix:%s/socket", dir);

	check_arrives(&(MiniGuestConfig){ .transports = fake_fabric_transports(fabric) }, uri);
	fake_fabric_transports(NULL);
	g_rmdir(dir);
}

static void load__reads_missing_memory_beside_the_stream__gets_it(void)
{
	FakeFabric push = { .put_us = 100 }, pull = { .pulls = TRUE };

	check_beside(&push);
	check_beside(&pull);
}

/* Its pages would come behind the devices that wait for them. */
static void load__reads_missing_memory_over_one_channel__guest_runs_on_here(void)
{
	Pair pair = pair_new(&(MiniGuestConfig){ 0 });
	g_auto(FerryMigrationStatus) status = { 0 };
	g_autofree char *here = NULL, *there = NULL;
	int fds[2];

	g_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	here = g_strdup_printf("fd:%d", fds[0]);
	there = g_strdup_printf("fd:%d", fds[1]);
	switch_over(&pair, there, here);
	CU_ASSERT_EQUAL(ferry_source_wait(pair.source->source), FERRY_STATE_FAILED);
	ferry_source_get_status(pair.source->source, &status);
	CU_ASSERT(status.error_desc && strstr(status.error_desc, "loading a device"));
	CU_ASSERT(g_atomic_int_get(&pair.source->running));
	CU_ASSERT_EQUAL(ferry_destination_wait(pair.destination->destination), FERRY_STATE_FAILED);
	CU_ASSERT_FALSE(g_atomic_int_get(&pair.destination->running));
	pair_free(&pair);
}

static CU_TestInfo cases[] = {
	CASE(load__reads_missing_memory_by_tcp__gets_it),
	CASE(load__reads_missing_private_memory_by_tcp__gets_it),
	CASE(load__reads_missing_memory_beside_the_stream__gets_it),
	CASE(load__reads_missing_memory_over_one_channel__guest_runs_on_here),
	CU_TEST_INFO_NULL,
};

int main(int argc, char **argv)
{
	return harness_run(argc, argv, "loading devices after an early switch", cases);
}
