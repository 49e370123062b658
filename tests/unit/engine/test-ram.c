/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"

#include <ferry/ram.h>
#include <ferry/transport.h>
#include <string.h>

#define HOST ((guint8 *)0x100000000000ull)
#define FAR (HOST + (1 << 20))

static void add__two_blocks__are_listed_in_order(void)
{
	g_autoptr(FerryRam) ram = ferry_ram_new();

	CU_ASSERT_TRUE(ferry_ram_add(ram, "a", HOST, 8192, 4096, -1, 4096, NULL));
	CU_ASSERT_TRUE(ferry_ram_add(ram, "b", HOST + 8192, 4096, 4096, 3, 4096, NULL));
	CU_ASSERT_EQUAL(ram->n_blocks, 2);
	CU_ASSERT_EQUAL(ram->total, 12288);
	CU_ASSERT_EQUAL(ferry_ram_find(ram, "b"), 1);
	CU_ASSERT_EQUAL(ferry_ram_find(ram, "c"), -1);
	CU_ASSERT_EQUAL(ram->blocks[0].fd_offset, 0);
	CU_ASSERT_EQUAL(ram->blocks[1].fd_offset, 4096);
}

static void add__wrong_values__are_refused_and_leave_the_ram(void)
{
	char long_name[258] = { 0 };
	const struct {
		const char *name;
		guint8 *host;
		guint64 size, page_size;
		int fd;
		guint64 fd_offset;
	} wrong[] = {
		{ "", HOST, 4096, 4096, -1, 0 },
		{ long_name, HOST, 4096, 4096, -1, 0 },
		{ "a", FAR, 4096, 4096, -1, 0 },
		{ "x", NULL, 4096, 4096, -1, 0 },
		{ "x", FAR + 1, 4096, 4096, -1, 0 },
		{ "x", FAR, 0, 4096, -1, 0 },
		{ "x", FAR, 4097, 4096, -1, 0 },
		{ "x", FAR, 4096, 2 << 20, -1, 0 },
		{ "x", FAR, 12288, 12288, -1, 0 },
		{ "x", FAR, 4096, 2048, -1, 0 },
		{ "x", FAR, 4096, 0, -1, 0 },
		{ "x", FAR, -4096ull, 4096, -1, 0 },
		{ "x", FAR, 4096, 4096, 3, 1 },
		{ "x", FAR, 4096, 4096, 3, -4096ull },
		{ "x", HOST - 8192, 12288, 4096, -1, 0 },
		{ "x", HOST + 4096, 4096, 4096, -1, 0 },
	};
	g_autoptr(FerryRam) ram = ferry_ram_new();

	memset(long_name, 'n', 256);
	CU_ASSERT_TRUE(ferry_ram_add(ram, "a", HOST, 8192, 4096, -1, 0, NULL));
	for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
		g_autoptr(GError) error = NULL;

		CU_ASSERT_FALSE(ferry_ram_add(ram, wrong[i].name, wrong[i].host, wrong[i].size,
					      wrong[i].page_size, wrong[i].fd, wrong[i].fd_offset,
					      &error));
		CU_ASSERT_TRUE(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_INVALID));
		CU_ASSERT_EQUAL(ram->total, 8192);
	}
	memset(long_name, 0, sizeof(long_name));
	memset(long_name, 'n', FERRY_RAM_NAME_MAX);
	CU_ASSERT_TRUE(ferry_ram_add(ram, long_name, HOST + 8192, 4096, 4096, -1, 0, NULL));
}

static const FerryTransport tcp = { .scheme = "tcp" }, unix_socket = { .scheme = "unix" };
static const FerryTransport *const transports[] = { &tcp, &unix_socket, NULL };

static void transport_find__known_scheme__is_found(void)
{
	CU_ASSERT_PTR_EQUAL(ferry_transport_find(transports, "tcp:[::1]:1", NULL), &tcp);
	CU_ASSERT_PTR_EQUAL(ferry_transport_find(transports, "unix:", NULL), &unix_socket);
}

static void transport_find__anything_else__error_lists_the_known_ones(void)
{
	const char *const uris[] = {
		"", ":", "tcp", "tc:x", "tcpp:x", "TCP:x", "rdma:h:1", "/tcp:x"
	};

	for (guint i = 0; i < G_N_ELEMENTS(uris); i++) {
		g_autoptr(GError) error = NULL;

		CU_ASSERT_PTR_NULL(ferry_transport_find(transports, uris[i], &error));
		CU_ASSERT_TRUE(g_error_matches(error, FERRY_ERROR, FERRY_ERROR_INVALID));
		CU_ASSERT_PTR_NOT_NULL(error ? strstr(error->message, "tcp:, unix:") : NULL);
	}
}

int main(int argc, char **argv)
{
	CU_TestInfo cases[] = {
		CASE(add__two_blocks__are_listed_in_order),
		CASE(add__wrong_values__are_refused_and_leave_the_ram),
		CASE(transport_find__known_scheme__is_found),
		CASE(transport_find__anything_else__error_lists_the_known_ones),
		CU_TEST_INFO_NULL,
	};

	return harness_run(argc, argv, "RAM list and transport table", cases);
}
