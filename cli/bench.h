/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

/* The benches of `ferry bench`; @argv begins with the bench's own name. They return the exit
 * status (FerryExit). */
int ferry_cli_bench_link(int argc, char **argv);
