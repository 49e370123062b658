/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#include "ends.h"

/*
 * The course of a session in which something goes wrong: it is to end in a whole transfer, in a
 * clean error before the first page, or in a death of one end that says what happened, soon; and
 * nothing is to be left behind, nor to hang.
 */
typedef enum {
	COURSE_WORKED,    /* all RAM was right at each fence */
	COURSE_FELL_BACK, /* share_ram() failed */
	COURSE_DIED,
} CourseEnd;

typedef struct {
	CourseEnd end;
	GError *error;                     /* NULL: worked */
	gint64 us;                         /* from the last fault to its being noticed */
	gboolean late;                     /* the fault, if any, came while the ends were closed */
	guint calls[FAKE_SIDES][FAKE__N];  /* when the ends began to close */
	guint set_up[FAKE_SIDES][FAKE__N]; /* when share_ram() returned */
} Course;

/* Noticed later than this is a failure. */
#define COURSE_NOTICE_US (2 * G_USEC_PER_SEC)

/* Two queue pairs, and a pin limit of less than half of the RAM. */
void course_open(Ends *ends, FakeNic *nic);

/* Runs an open session to its end, over 3 rounds; a fault that happened before is waited for, for
 * as long as it may take to be noticed if @fatal. Then everything must be gone. */
void course_run(Ends *ends, gboolean fatal, Course *course);
void course_clear(Course *course);

/* The usual expectations, as CUnit assertions: @fatal faults are noticed, in time, by an error that
 * has @name (NULL: any). @what is told where they fail. */
void course_expect(const Course *course, gboolean fatal, const char *name, const char *what);

/* Nothing forbidden was done, nothing is left, and a session on the healed nic works. */
void course_expect_next(FakeNic *nic, const char *what);
