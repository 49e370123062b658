/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "micro.h"

typedef struct {
	const FerryMicroCase *of;
	gpointer state;
	guint64 passes;                    /* in one run */
	GArray *bytes, *ns, *instructions; /* of double; one a run */
} Subject;

/* The instructions of this thread outside of the kernel; -1 with *@why where nobody counts them. */
static int open_counter(char **why)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_HW_INSTRUCTIONS,
		.exclude_kernel = 1,
		.exclude_hv = 1,
	};
	int fd = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);

	if (fd < 0)
		*why = g_strdup_printf("perf_event_open: %s%s", g_strerror(errno),
				       errno == ENOENT || errno == EOPNOTSUPP
					       ? " (a virtual machine without counters?)"
				       : errno == EACCES || errno == EPERM
					       ? " (kernel.perf_event_paranoid, or a container)"
					       : "");
	return fd;
}

static guint64 counted(int fd)
{
	guint64 value = 0;

	return fd >= 0 && read(fd, &value, sizeof(value)) == sizeof(value) ? value : 0;
}

/* Of this thread: what others do on the machine counts less than by the clock on the wall. */
static guint64 processor_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (guint64)now.tv_sec * 1000000000u + (guint64)now.tv_nsec;
}

/* Warms up, and finds how often it has to go for one run. */
static void calibrate(Subject *subject, const FerryMicroPlan *plan)
{
	guint64 wanted = (guint64)plan->run_us * 1000, spent = 0;

	subject->of->pass(subject->state);
	for (subject->passes = 1; spent < wanted; subject->passes *= 2) {
		guint64 begin = processor_ns();

		for (guint64 i = 0; i < subject->passes; i++)
			subject->of->pass(subject->state);
		spent = processor_ns() - begin;
		if (spent >= wanted)
			return;
	}
}

static void run(Subject *subject, int counter)
{
	guint64 instructions = counted(counter), begin = processor_ns(), pages = 0;
	double ns, value;

	for (guint64 i = 0; i < subject->passes; i++)
		pages += subject->of->pass(subject->state);
	ns = (double)MAX(processor_ns() - begin, 1);
	instructions = counted(counter) - instructions;
	value = (double)pages * FERRY_PAGE_SIZE / ns * 1e9;
	g_array_append_val(subject->bytes, value);
	value = ns / (double)pages;
	g_array_append_val(subject->ns, value);
	value = (double)instructions / (double)pages;
	if (counter >= 0)
		g_array_append_val(subject->instructions, value);
}

static void conclude(Subject *subject, FerryMicroResult *result)
{
	*result = (FerryMicroResult){
		.of = subject->of,
		.bytes = ferry_bench_figure_of(subject->bytes),
		.ns = ferry_bench_figure_of(subject->ns),
		.instructions = ferry_bench_figure_of(subject->instructions),
	};
	subject->of->end(subject->state);
	g_array_unref(subject->bytes);
	g_array_unref(subject->ns);
	g_array_unref(subject->instructions);
}

static void result_clear(gpointer data)
{
	FerryMicroResult *result = data;

	ferry_bench_figure_clear(&result->bytes);
	ferry_bench_figure_clear(&result->ns);
	ferry_bench_figure_clear(&result->instructions);
}

GArray *ferry_micro_measure(const GPtrArray *cases, const FerryMicroMemory *memory,
			    const FerryMicroPlan *plan, char **why_uncounted)
{
	g_autofree Subject *subjects = g_new0(Subject, MAX(cases->len, 1));
	GArray *results = g_array_new(FALSE, TRUE, sizeof(FerryMicroResult));
	int counter = open_counter(why_uncounted);

	g_array_set_clear_func(results, result_clear);
	for (guint i = 0; i < cases->len; i++) {
		Subject *subject = &subjects[i];

		subject->of = cases->pdata[i];
		subject->state = subject->of->begin(memory, subject->of->variant);
		subject->bytes = ferry_bench_numbers_new();
		subject->ns = ferry_bench_numbers_new();
		subject->instructions = ferry_bench_numbers_new();
		calibrate(subject, plan);
	}
	/* In turn: a neighbour that is loud for a while then disturbs all of them. */
	for (guint n = 0; n < plan->runs; n++)
		for (guint i = 0; i < cases->len; i++)
			run(&subjects[i], counter);
	g_array_set_size(results, cases->len);
	for (guint i = 0; i < cases->len; i++)
		conclude(&subjects[i], &g_array_index(results, FerryMicroResult, i));
	if (counter >= 0)
		close(counter);
	return results;
}
