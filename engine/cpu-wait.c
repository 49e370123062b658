/* SPDX-License-Identifier: BSD-2-Clause */
#include "cpu-wait.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

/* CPU time in ns, time on the run queue in ns, number of slices. */
#define SCHEDSTAT "/proc/thread-self/schedstat"

static gint64 clock_us(clockid_t clock)
{
	struct timespec now = { 0 };

	clock_gettime(clock, &now);
	return (gint64)now.tv_sec * G_USEC_PER_SEC + now.tv_nsec / 1000;
}

static gint64 waited_us(void)
{
	char text[128], *end;
	int fd = open(SCHEDSTAT, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return 0;
	got = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[MAX(got, 0)] = '\0';
	g_ascii_strtoull(text, &end, 10);
	return (gint64)(g_ascii_strtoull(end, NULL, 10) / 1000);
}

void ferry_cpu_wait_begin(FerryCpuWait *begin)
{
	begin->waited_us = waited_us();
	begin->others_us = clock_us(CLOCK_PROCESS_CPUTIME_ID) - clock_us(CLOCK_THREAD_CPUTIME_ID);
}

gint64 ferry_cpu_wait_us(const FerryCpuWait *begin)
{
	FerryCpuWait now;

	ferry_cpu_wait_begin(&now);
	return MAX(MIN(now.waited_us - begin->waited_us, now.others_us - begin->others_us), 0);
}
