/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

/*
 * The subcommands of `ferry`. @argv begins with the subcommand's own name. They return the exit
 * status (FerryExit).
 */
int ferry_cli_run(int argc, char **argv);
int ferry_cli_migrate(int argc, char **argv);
int ferry_cli_status(int argc, char **argv);
int ferry_cli_ctl(int argc, char **argv);
int ferry_cli_doctor(int argc, char **argv);
int ferry_cli_bench(int argc, char **argv);
