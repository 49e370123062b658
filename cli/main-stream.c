/* SPDX-License-Identifier: BSD-2-Clause */
#include <glib.h>
#include "stream-commands.h"

int main(int argc, char **argv)
{
	if (argc > 1 && g_str_equal(argv[1], "inspect"))
		return ferry_cli_inspect(argc - 1, argv + 1);
	return 2;
}
