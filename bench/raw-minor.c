/* SPDX-License-Identifier: BSD-2-Clause */
#include "raw-minor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <ferry/error.h>
#include <ferry/ram.h>

static gboolean failed(GError **error, FerryErrorCode code, const char *call)
{
	g_set_error(error, FERRY_ERROR, code, "the floor of a fault: %s: %s", call,
		    g_strerror(errno));
	return FALSE;
}

static gboolean set_up(int fd, const FerryBenchRam *ram, GError **error)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_MINOR_SHMEM };
	struct uffdio_register range = { .range = { (guintptr)ram->host, ram->size },
					 .mode = UFFDIO_REGISTER_MODE_MINOR };

	if (ioctl(fd, UFFDIO_API, &api))
		return failed(error, FERRY_ERROR_NOSUPP,
			      "userfaultfd of minor faults on shared memory (Linux 5.14)");
	return !ioctl(fd, UFFDIO_REGISTER, &range) ||
	       failed(error, FERRY_ERROR_NOSUPP, "UFFDIO_REGISTER");
}

int ferry_bench_minor_open(const FerryBenchRam *ram, GError **error)
{
	/* The faults of user mode alone: those need no permission. */
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);

	if (fd < 0) {
		failed(error, FERRY_ERROR_NOSUPP, "userfaultfd");
		return -1;
	}
	if (set_up(fd, ram, error))
		return fd;
	close(fd);
	return -1;
}

gboolean ferry_bench_minor_take(int fd, const FerryBenchRam *ram, guint64 *offset, GError **error)
{
	struct uffd_msg message;
	ssize_t n = read(fd, &message, sizeof(message));

	if (n < 0 && errno == EAGAIN)
		return FALSE;
	if (n != sizeof(message))
		return failed(error, FERRY_ERROR_IO, "read of a userfaultfd");
	*offset = (message.arg.pagefault.address - (guintptr)ram->host) &
		  ~(guint64)(FERRY_PAGE_SIZE - 1);
	return TRUE;
}

gboolean ferry_bench_minor_continue(int fd, const FerryBenchRam *ram, guint64 offset,
				    GError **error)
{
	struct uffdio_continue page = { .range = { (guintptr)ram->host + offset,
						   FERRY_PAGE_SIZE } };
	int status;

	do {
		status = ioctl(fd, UFFDIO_CONTINUE, &page);
	} while (status && errno == EAGAIN);
	return !status || failed(error, FERRY_ERROR_IO, "UFFDIO_CONTINUE");
}
