/* SPDX-License-Identifier: BSD-2-Clause */
#include "harness.h"

#include <glib.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static char *skipped; /* why the running case is skipped; owned */

void harness_skip(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	g_free(skipped);
	skipped = g_strdup_vprintf(format, args);
	va_end(args);
}

/* Runs one case as a CUnit registry of its own, so that its failures are its own. */
static gboolean run_case(CU_TestInfo *info)
{
	CU_pSuite suite;
	gboolean passed = FALSE;

	if (CU_initialize_registry() != CUE_SUCCESS)
		return FALSE;
	suite = CU_add_suite(info->pName, NULL, NULL);
	if (suite && CU_add_test(suite, info->pName, info->pTestFunc))
		passed = CU_run_all_tests() == CUE_SUCCESS && CU_get_number_of_failures() == 0;
	for (CU_pFailureRecord f = CU_get_failure_list(); f; f = f->pNext)
		printf("# %s:%u: %s\n", f->strFileName, f->uiLineNumber, f->strCondition);
	CU_cleanup_registry();
	return passed;
}

int harness_run(int argc, char **argv, const char *suite, CU_TestInfo *cases)
{
	const char *only = argc > 1 ? argv[1] : "";
	unsigned int planned = 0, n = 0, failed = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("# %s\n", suite);
	for (CU_TestInfo *c = cases; c->pName; c++)
		planned += strstr(c->pName, only) != NULL;
	/* First, so that a crash tells how far it came. */
	printf("1..%u\n", planned);
	CU_set_error_action(CUEA_IGNORE);
	for (CU_TestInfo *c = cases; c->pName; c++) {
		gboolean passed;

		if (!strstr(c->pName, only))
			continue;
		g_clear_pointer(&skipped, g_free);
		passed = run_case(c);
		failed += !passed;
		printf("%s %u - %s%s%s\n", passed ? "ok" : "not ok", ++n, c->pName,
		       passed && skipped ? " # SKIP " : "", passed && skipped ? skipped : "");
	}
	g_clear_pointer(&skipped, g_free);
	return failed ? 1 : 0;
}
