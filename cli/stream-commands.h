/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

/*
 * The subcommands that work on the streams of other monitors. @argv begins with the subcommand's
 * own name. They return the exit status: 0 done, 1 failed, 2 wrong usage.
 */
int ferry_cli_inspect(int argc, char **argv);
int ferry_cli_receive(int argc, char **argv);
int ferry_cli_send(int argc, char **argv);
