/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include <CUnit/CUnit.h>

/* A row of the table of cases: CASE(subject__condition__outcome). */
#define CASE(f)                                                                                    \
	{                                                                                          \
#f, f                                                                              \
	}

/* Marks the running case as skipped because of @why and returns from it. It does not count as
 * passed. */
#define SKIP(...)                                                                                  \
	do {                                                                                       \
		harness_skip(__VA_ARGS__);                                                         \
		return;                                                                            \
	} while (0)
void harness_skip(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Runs the cases (ended by CU_TEST_INFO_NULL) in order and prints TAP. An argument on the command
 * line is a substring that chooses cases. Returns main()'s exit status.
 */
int harness_run(int argc, char **argv, const char *suite, CU_TestInfo *cases);
